#include <flux_rt.h>
#include <stdio.h>

int main(void) {
    flux_rt_engine *engine;
    flux_rt_picture *picture = NULL;
    flux_rt_request request;
    flux_rt_request_init(&request, sizeof request, FLUX_RT_ABI_VERSION);
    request.prompt = "a red apple";
    int status = flux_rt_engine_new(NULL, &engine);
    if (status == FLUX_RT_OK) status = flux_rt_generate(engine, &request, &picture);
    char message[500];
    if (status != FLUX_RT_OK && flux_rt_engine_message(engine, message, sizeof message)) fprintf(stderr, "%s\n", message);
    size_t size;
    const unsigned char *png = flux_rt_picture_png(picture, &size);
    if (png && (fwrite(png, 1, size, stdout) != size || fflush(stdout) != 0)) status = FLUX_RT_WRITE;
    flux_rt_picture_free(picture);
    flux_rt_engine_free(engine);
    return status;
}
