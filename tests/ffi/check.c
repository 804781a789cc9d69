/* Uses every function of include/flux_rt.h as it is meant, and as it is not. Arguments: a small model's folder, and a number:
 * then so many engines are made, used and freed. */
#include "check.h"

int failures = 0;

struct seen {
    flux_rt_engine *engine;
    flux_rt_request *request;
    unsigned steps, phases, previews, stop_after;
    int busy, busy_inside, cancel;
    char told[2000];
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
    EXPECT(steps == 12 && done <= steps);
    int is_step = phase == FLUX_RT_PHASE_DENOISE && done > 0;
    EXPECT(is_step || done == (phase >= FLUX_RT_PHASE_DECODE ? steps : 0));
    if (is_step) seen->steps++;
    if (!is_step) EXPECT(phase == (int)seen->phases++);
    if (is_step && done == 1 && seen->engine) {
        flux_rt_picture *picture;
        seen->busy_inside = flux_rt_generate(seen->engine, seen->request, &picture);
        pthread_t thread;
        EXPECT(pthread_create(&thread, NULL, meddle, seen) == 0);
        pthread_join(thread, NULL);
    }
    return is_step && seen->stop_after && done == seen->stop_after;
}

static void on_preview(void *user_data, const unsigned char *rgb, unsigned width, unsigned height, unsigned done) {
    struct seen *seen = user_data;
    unsigned long sum = 0;
    for (size_t at = 0; at < (size_t)width * height * 3; at++) sum += rgb[at];
    EXPECT(sum > 0 && width == 48 && height == 32 && done > 0);
    seen->previews++;
}

const char *message_of(flux_rt_engine *engine) {
    static char messages[8][2000];
    static unsigned next = 0;
    char *message = messages[__atomic_fetch_add(&next, 1, __ATOMIC_SEQ_CST) % 8];
    size_t length = flux_rt_engine_message(engine, message, sizeof messages[0]);
    EXPECT(length < sizeof messages[0] && strlen(message) == length);
    return message;
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
    REFUSED(wrong.size = 0, FLUX_RT_VERSION, "another version");
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
    float latents[6 * 64] = {0};
    REFUSED((wrong.latents = latents, wrong.latents_count = 6 * 64 - 1), FLUX_RT_REQUEST, "latents");
    REFUSED((wrong.latents = latents, wrong.latents_count = 6 * 32), FLUX_RT_REQUEST, "latents");
    REFUSED((wrong.latents = latents, wrong.latents_count = 0), FLUX_RT_REQUEST, "latents");
    latents[7] = 1.0f / 0.0f;
    REFUSED((wrong.latents = latents, wrong.latents_count = 6 * 64), FLUX_RT_REQUEST, "index 7");
    char *prompt = malloc((32 << 10) + 2);
    memset(prompt, 'x', (32 << 10) + 1);
    prompt[(32 << 10) + 1] = 0;
    REFUSED(wrong.prompt = prompt, FLUX_RT_REQUEST, "prompt: expected at most 32768 bytes");
    free(prompt);
}

flux_rt_picture *draw(flux_rt_engine *engine, const flux_rt_request *request) {
    flux_rt_picture *picture;
    int status = flux_rt_generate(engine, request, &picture);
    if (status != FLUX_RT_OK) fprintf(stderr, "%s\n", message_of(engine));
    EXPECT(status == FLUX_RT_OK && picture != NULL);
    return picture;
}

int same(const flux_rt_picture *one, const flux_rt_picture *other) {
    unsigned char pixels[2][PIXELS];
    EXPECT(flux_rt_picture_rgb(one, pixels[0], sizeof pixels[0]) == FLUX_RT_OK);
    EXPECT(flux_rt_picture_rgb(other, pixels[1], sizeof pixels[1]) == FLUX_RT_OK);
    return memcmp(pixels[0], pixels[1], sizeof pixels[0]) == 0;
}

/* Every field of a request that changes the picture, against the picture without it. */
static void settings(flux_rt_engine *engine, flux_rt_request request) {
    flux_rt_picture *plain = draw(engine, &request), *other;
#define OTHER(change, part)                                                                                 \
    do {                                                                                                    \
        flux_rt_request changed = request;                                                                  \
        change;                                                                                             \
        other = draw(engine, &changed);                                                                     \
        EXPECT(!same(plain, other) && strstr(flux_rt_picture_metadata(other), part));                       \
        flux_rt_picture_free(other);                                                                        \
    } while (0)
    OTHER(changed.prompt = "a dog", "\"prompt\":\"a dog\"");
    OTHER(changed.prompt_2 = "two dogs", "\"prompt_2\":\"two dogs\"");
    OTHER(changed.seed = 1234567890123456789u, "\"seed\":1234567890123456789");
    OTHER(changed.guidance = 9.0f, "\"guidance\":9.0");
    OTHER(changed.max_sequence_length = 7, "\"max_sequence_length\":7");
    OTHER(changed.steps = 3, "\"steps\":3");
    OTHER(changed.rng = "torch-cpu", "\"rng\":\"torch-cpu\"");
    OTHER(changed.rng_grid = 1, "\"rng_grid\":1");
    flux_rt_request tiled = request;
    tiled.vae_tiling = 1;
    other = draw(engine, &tiled);
    EXPECT(strstr(flux_rt_picture_metadata(other), "\"vae_tiling\":true"));
    flux_rt_picture_free(other);

    /* Latents go out and in: no noise is drawn from the seed then. */
    size_t count;
    const float *latents = flux_rt_picture_latents(plain, &count);
    EXPECT(count == 6 * 64 && latents);
    flux_rt_request begun = request;
    char room[6 * 64 * sizeof(float) + 1];
    memcpy(room + 1, latents, count * sizeof *latents);
    begun.latents = (const void *)(room + 1);
    begun.latents_count = count;
    flux_rt_picture *first = draw(engine, &begun);
    begun.seed = 77;
    flux_rt_picture *second = draw(engine, &begun);
    EXPECT(same(first, second) && !same(first, plain));
    EXPECT(strstr(flux_rt_picture_metadata(first), "\"rng\":\"latents of the caller\""));

    /* What of a prompt was not read is said. */
    EXPECT(flux_rt_picture_notes(plain) == NULL);
    char longer[4000] = "a";
    while (strlen(longer) < 3000) strcat(longer, " red fox");
    request.prompt = longer;
    other = draw(engine, &request);
    EXPECT(strstr(flux_rt_picture_notes(other), "CLIP cut the last "));
    EXPECT(strstr(flux_rt_picture_notes(other), "\nT5 cut the last "));
    flux_rt_picture *all[] = {plain, first, second, other};
    for (size_t at = 0; at < sizeof all / sizeof *all; at++) flux_rt_picture_free(all[at]);
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
    EXPECT(flux_rt_picture_timings(plain, &timings, sizeof timings) == FLUX_RT_OK && timings.denoise_ms > 0.0);
    EXPECT(timings.finish_ms > 0.0);
    double times[] = {-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0};
    EXPECT(flux_rt_picture_timings(plain, (flux_rt_timings *)times, 3 * sizeof *times) == FLUX_RT_OK);
    EXPECT(times[2] == timings.denoise_ms && times[3] == -1.0);
    EXPECT(flux_rt_picture_timings(plain, (flux_rt_timings *)times, 6 * sizeof *times) == FLUX_RT_OK);
    EXPECT(times[4] == timings.finish_ms && times[5] == 0.0 && times[6] == -1.0);
    EXPECT(flux_rt_picture_timings(plain, NULL, sizeof timings) == FLUX_RT_NULL);

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
    EXPECT(seen.steps == 12 && seen.phases == 5 && seen.previews == 2);
    EXPECT(seen.busy == FLUX_RT_BUSY && seen.busy_inside == FLUX_RT_BUSY);
    EXPECT(same(plain, watched));

    /* Stopped by its own function and by another thread, and good for another picture. */
    flux_rt_picture *none;
    seen.stop_after = 3;
    seen.steps = seen.phases = 0;
    EXPECT(flux_rt_generate(engine, &request, &none) == FLUX_RT_CANCELLED && none == NULL && seen.steps == 3);
    seen.stop_after = 0;
    seen.cancel = 1;
    seen.steps = seen.phases = 0;
    EXPECT(flux_rt_generate(engine, &request, &none) == FLUX_RT_CANCELLED && none == NULL && seen.steps == 1);
    request.progress = NULL;
    flux_rt_cancel(engine);
    flux_rt_picture *again = draw(engine, &request);
    EXPECT(same(plain, again));

    flux_rt_picture *all[] = {plain, fast, cached, watched, again};
    for (size_t at = 0; at < sizeof all / sizeof *all; at++) flux_rt_picture_free(all[at]);
}

/* The model's defaults, a picture in bf16, a note of the log, a part of the model by its own path. */
static void other_engines(flux_rt_options options, flux_rt_request request) {
    struct seen seen = {0};
    char vae[1000];
    snprintf(vae, sizeof vae, "%s/vae", options.model);
    options.vae = vae;
    options.dtype = "bf16";
    options.modes = "XL, original";
    options.user_data = &seen;
    options.expected = &request;
    flux_rt_engine *engine;
    EXPECT(flux_rt_engine_new(&options, &engine) == FLUX_RT_OK);
    /* The note is of the second mode. */
    EXPECT(strstr(seen.log, "mode original: the CPU computes in f32"));
    flux_rt_defaults defaults;
    EXPECT(flux_rt_engine_defaults(engine, &defaults, sizeof defaults) == FLUX_RT_OK);
    EXPECT(defaults.width % 16 == 0 && defaults.height == defaults.width && defaults.steps == 28);
    EXPECT(defaults.guidance == 3.5f && defaults.max_sequence_length > 0);
    flux_rt_picture *picture = draw(engine, &request);
    EXPECT(strstr(flux_rt_picture_metadata(picture), "\"dtype\":\"bf16\""));
    flux_rt_picture_free(picture);
    flux_rt_engine_free(engine);
}

int main(int count, char **arguments) {
    if (count < 2) return 2;
    struct seen seen = {0};
    flux_rt_options options;
    flux_rt_options_init(&options, sizeof options, FLUX_RT_ABI_VERSION);
    options.model = arguments[1];
    options.device = "cpu";
    options.modes = "XL, S";
    options.log = log_note;
    options.user_data = &seen;
    flux_rt_request request;
    flux_rt_request_init(&request, sizeof request, FLUX_RT_ABI_VERSION);
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
    misuse(arguments[1]);
    flux_rt_engine *engine;
    EXPECT(flux_rt_engine_new(&options, &engine) == FLUX_RT_OK);
    EXPECT(strcmp(flux_rt_engine_device(engine), "cpu") == 0);
    pictures(engine, request);
    wrong_requests(engine, request);
    pictures(engine, request);
    settings(engine, request);
    flux_rt_engine_free(engine);
    other_engines(options, request);
    threads(&options, &request);
    return failures != 0;
}
