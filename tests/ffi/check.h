/* What the checks of include/flux_rt.h share. */
#ifndef CHECK_H
#define CHECK_H

#include <flux_rt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Threads may count too: once is enough. */
extern int failures;

#define EXPECT(condition)                                                                                   \
    do {                                                                                                    \
        if (!(condition)) {                                                                                 \
            fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);                        \
            __atomic_fetch_add(&failures, 1, __ATOMIC_SEQ_CST);                                             \
        }                                                                                                   \
    } while (0)

#define PIXELS (48 * 32 * 3)

/* An engine's message, in one of several places: threads call it too. */
const char *message_of(flux_rt_engine *engine);
/* A picture, and what was wrong if there is none. */
flux_rt_picture *draw(flux_rt_engine *engine, const flux_rt_request *request);
/* Whether two pictures of 48 x 32 have the same pixels. */
int same(const flux_rt_picture *one, const flux_rt_picture *other);

/* misuse.c: what is refused before there is a model. */
void misuse(const char *model);

/* threads.c: engines used, stopped and freed by several threads. */
void threads(const flux_rt_options *options, const flux_rt_request *request);

#endif
