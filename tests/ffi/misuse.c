/* Null pointers, structs of other versions, and options that cannot be. */
#include "check.h"

static void null_pointers(void) {
    flux_rt_options options;
    flux_rt_request request;
    flux_rt_timings timings;
    flux_rt_defaults defaults;
    EXPECT(flux_rt_options_init(NULL, sizeof options, FLUX_RT_ABI_VERSION) == FLUX_RT_NULL);
    EXPECT(flux_rt_request_init(NULL, sizeof request, FLUX_RT_ABI_VERSION) == FLUX_RT_NULL);
    EXPECT(flux_rt_options_init(&options, sizeof options, FLUX_RT_ABI_VERSION) == FLUX_RT_OK);
    EXPECT(flux_rt_request_init(&request, sizeof request, FLUX_RT_ABI_VERSION) == FLUX_RT_OK);
    EXPECT(flux_rt_engine_new(NULL, NULL) == FLUX_RT_NULL);
    EXPECT(flux_rt_engine_new(&options, NULL) == FLUX_RT_NULL);
    EXPECT(flux_rt_generate(NULL, &request, NULL) == FLUX_RT_NULL);
    flux_rt_picture *picture = NULL;
    EXPECT(flux_rt_generate(NULL, &request, &picture) == FLUX_RT_NULL);
    size_t size = 7;
    EXPECT(flux_rt_picture_png(NULL, &size) == NULL && size == 0);
    EXPECT(flux_rt_picture_png(NULL, NULL) == NULL);
    EXPECT(flux_rt_picture_rgb(NULL, (unsigned char *)&size, 8) == FLUX_RT_NULL);
    EXPECT(flux_rt_picture_metadata(NULL) == NULL && flux_rt_picture_cache_log(NULL) == NULL);
    EXPECT(flux_rt_picture_latents(NULL, &size) == NULL && size == 0 && flux_rt_picture_notes(NULL) == NULL);
    EXPECT(flux_rt_picture_timings(NULL, &timings, sizeof timings) == FLUX_RT_NULL);
    EXPECT(flux_rt_engine_defaults(NULL, &defaults, sizeof defaults) == FLUX_RT_NULL);
    EXPECT(flux_rt_picture_width(NULL) == 0 && flux_rt_picture_height(NULL) == 0);
    EXPECT(flux_rt_engine_device(NULL) == NULL);
    EXPECT(flux_rt_engine_message(NULL, NULL, 0) == strlen("no engine"));
    flux_rt_cancel(NULL);
    flux_rt_engine_free(NULL);
    flux_rt_picture_free(NULL);
    EXPECT(strcmp(flux_rt_version(), "0.1.0") == 0);
    EXPECT(strstr(flux_rt_status_text(FLUX_RT_BUSY), "thread") && flux_rt_status_text(-5));
}

/* A program that was compiled with another header is refused, also if it does not look. */
static void other_versions(const char *model) {
    union {
        flux_rt_options options;
        flux_rt_request request;
        char room[1000];
    } place;
    for (int at = 0; at < 4; at++) {
        size_t change = at < 2 ? 0 : at == 2 ? 8 : (size_t)-8;
        uint32_t version = FLUX_RT_ABI_VERSION + (at == 0) - (at == 1);
        memset(&place, 0x7f, sizeof place);
        EXPECT(flux_rt_options_init(&place.options, sizeof place.options + change, version) == FLUX_RT_VERSION);
        flux_rt_engine *engine = NULL;
        EXPECT(flux_rt_engine_new(&place.options, &engine) == FLUX_RT_VERSION);
        EXPECT(strstr(message_of(engine), "options: expected a size of"));
        flux_rt_engine_free(engine);
        memset(&place, 0x7f, sizeof place);
        EXPECT(flux_rt_request_init(&place.request, sizeof place.request + change, version) == FLUX_RT_VERSION);
        EXPECT(place.request.size == 0);
    }
    /* Structs and places need not be aligned. */
    char room[sizeof(flux_rt_options) + 1], engine_room[sizeof(void *) + 1];
    flux_rt_options options;
    flux_rt_options_init(&options, sizeof options, FLUX_RT_ABI_VERSION);
    options.model = model;
    options.device = "cpu";
    memcpy(room + 1, &options, sizeof options);
    const void *unaligned = room + 1;
    void *engine_place = engine_room + 1;
    flux_rt_engine *engine;
    EXPECT(flux_rt_engine_new(unaligned, engine_place) == FLUX_RT_OK);
    memcpy(&engine, engine_place, sizeof engine);
    flux_rt_engine_free(engine);
}

/* An engine that could not be made says why, and makes no picture; as often as it is asked. */
static void refused(const flux_rt_options *options, int status, const char *part) {
    flux_rt_engine *engine = NULL;
    flux_rt_request request;
    flux_rt_request_init(&request, sizeof request, FLUX_RT_ABI_VERSION);
    EXPECT(flux_rt_engine_new(options, &engine) == (flux_rt_status)status);
    EXPECT(engine != NULL && strstr(message_of(engine), part));
    if (!strstr(message_of(engine), part)) fprintf(stderr, "no \"%s\" in: %s\n", part, message_of(engine));
    flux_rt_picture *picture = (flux_rt_picture *)options;
    char message[2000];
    for (int time = 0; time < 3; time++) {
        EXPECT(flux_rt_generate(engine, &request, &picture) == (flux_rt_status)status && picture == NULL);
        if (time == 0) strcpy(message, message_of(engine));
        EXPECT(strcmp(message, message_of(engine)) == 0);
    }
    EXPECT(strcmp(flux_rt_engine_device(engine), "") == 0);
    flux_rt_defaults defaults;
    EXPECT(flux_rt_engine_defaults(engine, &defaults, sizeof defaults) == (flux_rt_status)status);
    flux_rt_engine_free(engine);
}

static void wrong_options(const char *model) {
    flux_rt_options options;
    flux_rt_options_init(&options, sizeof options, FLUX_RT_ABI_VERSION);
    options.model = "/nowhere/at/all";
    refused(&options, FLUX_RT_NOT_FOUND, "/nowhere/at/all");
    options.model = model;
    options.device = "gpu";
    refused(&options, FLUX_RT_REQUEST, "device: expected auto, cpu, cuda");
    options.device = "cpu";
    options.dtype = "f16";
    refused(&options, FLUX_RT_REQUEST, "dtype");
    options.dtype = "f32";
    options.modes = "XL,XXL";
    refused(&options, FLUX_RT_REQUEST, "XXL");
    options.modes = "\xff";
    refused(&options, FLUX_RT_REQUEST, "modes: expected UTF-8");
    options.modes = "";
    refused(&options, FLUX_RT_REQUEST, "mode");
    options.modes = NULL;
    options.max_vram = 1000;
    refused(&options, FLUX_RT_REQUEST, "max-vram");
    options.max_vram = 0;
    options.vae = "/nowhere/vae";
    refused(&options, FLUX_RT_NOT_FOUND, "/nowhere/vae");
    options.vae = NULL;
    flux_rt_request expected;
    flux_rt_request_init(&expected, sizeof expected, FLUX_RT_ABI_VERSION);
    options.expected = &expected;
    expected.width = 47;
    refused(&options, FLUX_RT_REQUEST, "width");
    expected.size = 8;
    refused(&options, FLUX_RT_VERSION, "expected: expected a size of");
    options.expected = NULL;
    options.size = 8;
    refused(&options, FLUX_RT_VERSION, "another version");
}

void misuse(const char *model) {
    null_pointers();
    other_versions(model);
    wrong_options(model);
}
