/* Engines that several threads use, and engines that are freed while they draw. */
#include "check.h"

struct job {
    flux_rt_engine *engine;
    const flux_rt_request *request;
    const flux_rt_picture *expected;
    int frees_at, status;
    unsigned previews;
    pthread_t thread;
};

static void *draw_one(void *user_data) {
    struct job *job = user_data;
    flux_rt_picture *picture = draw(job->engine, job->request);
    EXPECT(same(picture, job->expected));
    flux_rt_picture_free(picture);
    return NULL;
}

static void *read_picture(void *user_data) {
    struct job *job = user_data;
    for (int round = 0; round < 100; round++) {
        size_t size, count;
        EXPECT(flux_rt_picture_png(job->expected, &size) && size > 100);
        EXPECT(flux_rt_picture_latents(job->expected, &count) && count == 6 * 64);
        EXPECT(strlen(flux_rt_picture_metadata(job->expected)) > 100);
        EXPECT(same(job->expected, job->expected));
    }
    return NULL;
}

static void together(struct job *jobs, size_t count, void *(*work)(void *)) {
    for (size_t at = 0; at < count; at++) EXPECT(pthread_create(&jobs[at].thread, NULL, work, &jobs[at]) == 0);
    for (size_t at = 0; at < count; at++) pthread_join(jobs[at].thread, NULL);
}

static void *free_it(void *user_data) {
    flux_rt_engine_free(((struct job *)user_data)->engine);
    return NULL;
}

/* Frees the engine from here, or from another thread while this one waits for it. */
static int free_in_progress(void *user_data, int phase, unsigned done, unsigned steps) {
    struct job *job = user_data;
    (void)steps;
    if (phase != FLUX_RT_PHASE_DENOISE || done != 2 || !job->engine) return 0;
    if (job->frees_at == 1) flux_rt_engine_free(job->engine);
    if (job->frees_at == 2) {
        EXPECT(pthread_create(&job->thread, NULL, free_it, job) == 0);
        pthread_join(job->thread, NULL);
    }
    return 0;
}

static void free_in_preview(void *user_data, const unsigned char *rgb, unsigned width, unsigned height, unsigned done) {
    struct job *job = user_data;
    EXPECT(rgb && width == 48 && height == 32 && done > 0);
    if (job->previews++ == 0) flux_rt_engine_free(job->engine);
}

/* A picture whose engine is freed by its own functions or another thread: it stops, and all memory comes back. */
static void freed_while_drawing(const flux_rt_options *options, flux_rt_request request) {
    for (int frees_at = 1; frees_at <= 3; frees_at++) {
        struct job job = {.frees_at = frees_at};
        EXPECT(flux_rt_engine_new(options, &job.engine) == FLUX_RT_OK);
        request.user_data = &job;
        request.progress = free_in_progress;
        request.preview = frees_at == 3 ? free_in_preview : NULL;
        request.preview_every = 3;
        flux_rt_picture *picture;
        EXPECT(flux_rt_generate(job.engine, &request, &picture) == FLUX_RT_CANCELLED && picture == NULL);
        EXPECT(job.previews == (frees_at == 3));
    }
}

static int say_begun(void *user_data, int phase, unsigned done, unsigned steps) {
    int *begun = user_data;
    (void)phase, (void)done, (void)steps;
    __atomic_store_n(begun, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static void *draw_until_freed(void *user_data) {
    struct job *job = user_data;
    flux_rt_picture *picture;
    job->status = flux_rt_generate(job->engine, job->request, &picture);
    EXPECT(job->status == FLUX_RT_CANCELLED && picture == NULL);
    return NULL;
}

/* Freed at any moment of a picture that another thread makes, while a third one reads and stops. */
static void freed_meanwhile(const flux_rt_options *options, flux_rt_request request) {
    int begun = 0;
    struct job job = {.request = &request};
    EXPECT(flux_rt_engine_new(options, &job.engine) == FLUX_RT_OK);
    request.steps = 1000;
    request.user_data = &begun;
    request.progress = say_begun;
    EXPECT(pthread_create(&job.thread, NULL, draw_until_freed, &job) == 0);
    while (!__atomic_load_n(&begun, __ATOMIC_SEQ_CST)) {
    }
    flux_rt_engine_free(job.engine);
    pthread_join(job.thread, NULL);
}

void threads(const flux_rt_options *options, const flux_rt_request *request) {
    flux_rt_engine *engines[2];
    EXPECT(flux_rt_engine_new(options, &engines[0]) == FLUX_RT_OK);
    EXPECT(flux_rt_engine_new(options, &engines[1]) == FLUX_RT_OK);
    flux_rt_picture *picture = draw(engines[0], request);
    struct job jobs[4];
    for (size_t at = 0; at < 4; at++)
        jobs[at] = (struct job){.engine = engines[at % 2], .request = request, .expected = picture};
    /* On another thread than the one that loaded, then two engines at once, then readers of one picture. */
    together(jobs, 1, draw_one);
    together(jobs, 2, draw_one);
    together(jobs, 4, read_picture);
    flux_rt_engine_free(engines[0]);
    flux_rt_engine_free(engines[1]);
    /* It does not need its engine. */
    together(jobs, 4, read_picture);
    flux_rt_picture_free(picture);
    freed_while_drawing(options, *request);
    freed_meanwhile(options, *request);
}
