/* Uses every function of include/flux_rt.h as it is meant, and as it is not. Arguments: a small model's folder. */
#include <flux_rt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

#define EXPECT(condition)                                                                                   \
    do {                                                                                                    \
        if (!(condition)) {                                                                                 \
            fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);                        \
            failures++;                                                                                     \
        }                                                                                                   \
    } while (0)

struct seen {
    flux_rt_engine *engine;
    flux_rt_request *request;
    unsigned steps, phases, previews, stop_after;
    int busy, cancel;
    char log[2000];
};

static void log_note(void *user_data, const char *text) {
    struct seen *seen = user_data;
    strncat(seen->log, text, sizeof seen->log - strlen(seen->log) - 1);
}

/* What another thread gets while this one makes a picture. */
static void *meddle(void *user_data) {
    struct seen *seen = user_data;
    flux_rt_picture *picture = (flux_rt_picture *)seen;
    seen->busy = flux_rt_generate(seen->engine, seen->request, &picture);
    EXPECT(picture == NULL);
    char message[100];
    flux_rt_engine_message(seen->engine, message, sizeof message);
    if (seen->cancel) flux_rt_cancel(seen->engine);
    return NULL;
}

static int on_progress(void *user_data, int phase, unsigned done, unsigned steps) {
    struct seen *seen = user_data;
    EXPECT(phase >= 0 && phase <= 3 && done <= steps);
    if (done == 0) seen->phases++;
    if (done > 0) seen->steps++;
    if (done == 1 && seen->engine) {
        pthread_t thread;
        EXPECT(pthread_create(&thread, NULL, meddle, seen) == 0);
        pthread_join(thread, NULL);
    }
    return seen->stop_after && done == seen->stop_after;
}

static void on_preview(void *user_data, const unsigned char *rgb, unsigned width, unsigned height, unsigned done) {
    struct seen *seen = user_data;
    unsigned long sum = 0;
    for (size_t at = 0; at < (size_t)width * height * 3; at++) sum += rgb[at];
    EXPECT(sum > 0 && width == 48 && height == 32 && done > 0);
    seen->previews++;
}

static const char *message_of(flux_rt_engine *engine) {
    static char message[2000];
    size_t length = flux_rt_engine_message(engine, message, sizeof message);
    EXPECT(length < sizeof message && strlen(message) == length);
    return message;
}

static void null_pointers(void) {
    flux_rt_options options;
    flux_rt_request request;
    flux_rt_engine *engine = NULL;
    flux_rt_timings timings;
    EXPECT(flux_rt_options_init(NULL, sizeof options) == FLUX_RT_NULL);
    EXPECT(flux_rt_request_init(NULL, sizeof request) == FLUX_RT_NULL);
    EXPECT(flux_rt_options_init(&options, sizeof options - 8) == FLUX_RT_SIZE);
    EXPECT(flux_rt_request_init(&request, sizeof request + 8) == FLUX_RT_SIZE);
    EXPECT(flux_rt_options_init(&options, sizeof options) == FLUX_RT_OK);
    EXPECT(flux_rt_request_init(&request, sizeof request) == FLUX_RT_OK);
    EXPECT(flux_rt_engine_new(NULL, &engine) == FLUX_RT_NULL && engine == NULL);
    EXPECT(flux_rt_engine_new(&options, NULL) == FLUX_RT_NULL);
    EXPECT(flux_rt_generate(NULL, &request, NULL) == FLUX_RT_NULL);
    flux_rt_picture *picture = NULL;
    EXPECT(flux_rt_generate(NULL, &request, &picture) == FLUX_RT_NULL);
    size_t size = 7;
    EXPECT(flux_rt_picture_png(NULL, &size) == NULL && size == 0);
    EXPECT(flux_rt_picture_png(NULL, NULL) == NULL);
    EXPECT(flux_rt_picture_rgb(NULL, (unsigned char *)&size, 8) == FLUX_RT_NULL);
    EXPECT(flux_rt_picture_metadata(NULL) == NULL && flux_rt_picture_cache_log(NULL) == NULL);
    EXPECT(flux_rt_picture_timings(NULL, &timings) == FLUX_RT_NULL);
    EXPECT(flux_rt_picture_width(NULL) == 0 && flux_rt_picture_height(NULL) == 0);
    EXPECT(flux_rt_engine_device(NULL) == NULL);
    EXPECT(flux_rt_engine_message(NULL, NULL, 0) == strlen("no engine"));
    flux_rt_cancel(NULL);
    flux_rt_engine_free(NULL);
    flux_rt_picture_free(NULL);
    EXPECT(strcmp(flux_rt_version(), "0.1.0") == 0);
    EXPECT(strstr(flux_rt_status_text(FLUX_RT_BUSY), "thread") && flux_rt_status_text(-5));
}

/* An engine that could not be made says why, and makes no picture. */
static void refused(const flux_rt_options *options, int status, const char *part) {
    flux_rt_engine *engine = NULL;
    flux_rt_request request;
    flux_rt_request_init(&request, sizeof request);
    EXPECT(flux_rt_engine_new(options, &engine) == (flux_rt_status)status);
    EXPECT(engine != NULL && strstr(message_of(engine), part));
    if (!strstr(message_of(engine), part)) fprintf(stderr, "no \"%s\" in: %s\n", part, message_of(engine));
    flux_rt_picture *picture = (flux_rt_picture *)options;
    EXPECT(flux_rt_generate(engine, &request, &picture) == (flux_rt_status)status && picture == NULL);
    EXPECT(strcmp(flux_rt_engine_device(engine), "") == 0);
    flux_rt_engine_free(engine);
}

static void wrong_options(const char *model) {
    flux_rt_options options;
    flux_rt_options_init(&options, sizeof options);
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
    options.size = 8;
    refused(&options, FLUX_RT_SIZE, "another version");
}

static void wrong_requests(flux_rt_engine *engine, flux_rt_request request) {
    flux_rt_picture *picture;
#define REFUSED(change, status, part)                                                                       \
    do {                                                                                                    \
        flux_rt_request wrong = request;                                                                    \
        change;                                                                                             \
        EXPECT(flux_rt_generate(engine, &wrong, &picture) == status && picture == NULL);                    \
        EXPECT(strstr(message_of(engine), part));                                                           \
    } while (0)
    REFUSED(wrong.size = 0, FLUX_RT_SIZE, "another version");
    REFUSED(wrong.prompt = "\xc3(", FLUX_RT_REQUEST, "prompt: expected UTF-8");
    REFUSED(wrong.width = 47, FLUX_RT_REQUEST, "width");
    REFUSED(wrong.width = 1u << 31, FLUX_RT_REQUEST, "width");
    REFUSED(wrong.steps = 1u << 31, FLUX_RT_REQUEST, "steps");
    REFUSED(wrong.mode = "M", FLUX_RT_REQUEST, "expected a mode that is loaded (XL, S)");
    REFUSED(wrong.cache = "agressive", FLUX_RT_REQUEST, "agressive");
    REFUSED(wrong.cache = "thresold = 0.1", FLUX_RT_REQUEST, "thresold");
    REFUSED(wrong.rng = "dice", FLUX_RT_REQUEST, "dice");
    REFUSED((wrong.rng = "torch-cpu", wrong.rng_grid = 7), FLUX_RT_REQUEST, "grid");
    REFUSED(wrong.guidance = 0.0f / 0.0f, FLUX_RT_REQUEST, "guidance");
}

static flux_rt_picture *draw(flux_rt_engine *engine, const flux_rt_request *request) {
    flux_rt_picture *picture;
    int status = flux_rt_generate(engine, request, &picture);
    if (status != FLUX_RT_OK) fprintf(stderr, "%s\n", message_of(engine));
    EXPECT(status == FLUX_RT_OK && picture != NULL);
    return picture;
}

static int same(const flux_rt_picture *one, const flux_rt_picture *other) {
    static unsigned char pixels[2][48 * 32 * 3];
    EXPECT(flux_rt_picture_rgb(one, pixels[0], sizeof pixels[0]) == FLUX_RT_OK);
    EXPECT(flux_rt_picture_rgb(other, pixels[1], sizeof pixels[1]) == FLUX_RT_OK);
    return memcmp(pixels[0], pixels[1], sizeof pixels[0]) == 0;
}

static void pictures(flux_rt_engine *engine, flux_rt_request request) {
    flux_rt_picture *plain = draw(engine, &request);
    EXPECT(flux_rt_picture_width(plain) == 48 && flux_rt_picture_height(plain) == 32);
    unsigned char pixels[48 * 32 * 3];
    EXPECT(flux_rt_picture_rgb(plain, pixels, sizeof pixels - 1) == FLUX_RT_SIZE);
    EXPECT(flux_rt_picture_rgb(plain, NULL, sizeof pixels) == FLUX_RT_NULL);
    size_t size;
    const unsigned char *png = flux_rt_picture_png(plain, &size);
    EXPECT(size > 100 && memcmp(png, "\x89PNG\r\n\x1a\n", 8) == 0);
    EXPECT(strstr(flux_rt_picture_metadata(plain), "\"prompt\":\"a fox\""));
    EXPECT(flux_rt_picture_cache_log(plain) == NULL);
    flux_rt_timings timings;
    EXPECT(flux_rt_picture_timings(plain, &timings) == FLUX_RT_OK && timings.denoise_ms > 0.0);
    EXPECT(flux_rt_picture_timings(plain, NULL) == FLUX_RT_NULL);

    /* Modes and caches by picture; one engine makes all of them. */
    request.mode = "S";
    flux_rt_picture *fast = draw(engine, &request);
    EXPECT(!same(plain, fast) && strstr(flux_rt_picture_metadata(fast), "\"mode\":\"S\""));
    request.mode = NULL;
    request.cache = "preset = \"aggressive\"\nwarmup = 2\nthreshold = 0.9";
    flux_rt_picture *cached = draw(engine, &request);
    EXPECT(!same(plain, cached) && strstr(flux_rt_picture_cache_log(cached), "\"cached_steps\":[2"));
    request.cache = NULL;

    /* Progress and previews change nothing; another thread is refused meanwhile. */
    struct seen seen = {.engine = engine, .request = &request};
    request.user_data = &seen;
    request.progress = on_progress;
    request.preview = on_preview;
    request.preview_every = 4;
    flux_rt_picture *watched = draw(engine, &request);
    EXPECT(seen.steps == 12 && seen.phases == 4 && seen.previews == 2 && seen.busy == FLUX_RT_BUSY);
    EXPECT(same(plain, watched));

    /* Stopped by its own function and by another thread, and good for another picture. */
    flux_rt_picture *none;
    seen.stop_after = 3;
    seen.steps = 0;
    EXPECT(flux_rt_generate(engine, &request, &none) == FLUX_RT_CANCELLED && none == NULL && seen.steps == 3);
    seen.stop_after = 0;
    seen.cancel = 1;
    seen.steps = 0;
    EXPECT(flux_rt_generate(engine, &request, &none) == FLUX_RT_CANCELLED && none == NULL && seen.steps == 1);
    request.progress = NULL;
    flux_rt_cancel(engine);
    flux_rt_picture *again = draw(engine, &request);
    EXPECT(same(plain, again));

    flux_rt_picture *all[] = {plain, fast, cached, watched, again};
    for (size_t at = 0; at < sizeof all / sizeof *all; at++) flux_rt_picture_free(all[at]);
}

int main(int count, char **arguments) {
    if (count < 2) return 2;
    struct seen seen = {0};
    flux_rt_options options;
    flux_rt_options_init(&options, sizeof options);
    options.model = arguments[1];
    options.device = "cpu";
    options.modes = "XL, S";
    options.log = log_note;
    options.user_data = &seen;
    flux_rt_request request;
    flux_rt_request_init(&request, sizeof request);
    request.prompt = "a fox";
    request.width = 48;
    request.height = 32;
    request.steps = 12;

    if (count == 3) {
        /* So many engines, made, used and freed. */
        request.steps = 2;
        for (int cycle = 0; cycle < atoi(arguments[2]); cycle++) {
            flux_rt_engine *engine;
            EXPECT(flux_rt_engine_new(&options, &engine) == FLUX_RT_OK);
            request.mode = cycle % 2 ? "S" : NULL;
            flux_rt_picture *picture = draw(engine, &request);
            flux_rt_engine_free(engine);
            flux_rt_picture_free(picture);
        }
        return failures != 0;
    }
    null_pointers();
    wrong_options(arguments[1]);
    flux_rt_engine *engine;
    EXPECT(flux_rt_engine_new(&options, &engine) == FLUX_RT_OK);
    EXPECT(strcmp(flux_rt_engine_device(engine), "cpu") == 0);
    pictures(engine, request);
    wrong_requests(engine, request);
    pictures(engine, request);
    flux_rt_engine_free(engine);
    return failures != 0;
}
