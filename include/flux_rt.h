/* FLUX.1 text-to-image: prompt in, picture out.
 *
 * Made by cbindgen from src/ffi: `UPDATE_HEADER=1 cargo test --test ffi header` writes it anew.
 * Link with libflux_rt.a and the system libraries, or with libflux_rt.so; include/flux-rt.pc has both for pkg-config.
 */

#ifndef FLUX_RT_H
#define FLUX_RT_H

#include <stddef.h>
#include <stdint.h>

// What a function returns: 0 if it did what it says. The numbers are the exit codes of the program
// where it has one for the same thing.
typedef enum flux_rt_status {
    // Done.
    FLUX_RT_OK = 0,
    // None of the others.
    FLUX_RT_OTHER = 1,
    // A value cannot be, or excludes another; the message names the field.
    FLUX_RT_REQUEST = 2,
    // A model file is broken or unfit.
    FLUX_RT_MODEL = 3,
    // There is no such model.
    FLUX_RT_NOT_FOUND = 4,
    // Not enough GPU memory.
    FLUX_RT_OUT_OF_MEMORY = 5,
    // No usable GPU, or its driver failed.
    FLUX_RT_DEVICE = 6,
    // The latents or the picture became NaN or infinite.
    FLUX_RT_NUMERIC = 7,
    // A file could not be written.
    FLUX_RT_WRITE = 8,
    // Another thread uses the engine. It was not touched, and neither was its message.
    FLUX_RT_BUSY = 20,
    // A pointer is null that must not be.
    FLUX_RT_NULL = 21,
    // The `size` of a struct is of no version that this library knows.
    FLUX_RT_SIZE = 22,
    // A bug of this library; the engine makes no pictures any more.
    FLUX_RT_BUG = 23,
    // The picture was stopped, by `flux_rt_cancel` or by the progress function.
    FLUX_RT_CANCELLED = 130,
} flux_rt_status;

// A loaded model, or the message why there is none. One engine makes many pictures, one at a time; other threads
// may stop it and read its message.
typedef struct flux_rt_engine flux_rt_engine;

// A finished picture. It does not need its engine any more, and may be read from several threads.
typedef struct flux_rt_picture flux_rt_picture;

// How an engine is made. Set all of it with `flux_rt_options_init`, then change what is to be otherwise. Texts
// are UTF-8, and are not needed any more when `flux_rt_engine_new` returns.
typedef struct flux_rt_options {
    // The bytes of this struct, set by `flux_rt_options_init`.
    size_t size;
    // `demo`, a folder, a single file or a Hugging Face id. Null is `demo`.
    const char *model;
    // `auto`, `cpu`, `cuda` or `cuda:N`. Null is `auto`.
    const char *device;
    // `auto`, `f32` or `bf16`. Null is `auto`.
    const char *dtype;
    // The modes that pictures may be made in, separated by commas: `original`, `XL`, `L`, `M`, `S`, paths of
    // plan files ending in `.json`. The first is that of a request without one. Null is `XL`.
    const char *modes;
    // Bytes of GPU memory to take at most; 0 is what is free.
    uint64_t max_vram;
    // Not 0: with the kernels that every card runs, where there are better ones.
    int32_t portable;
    // Called with notes about how the model is run, on the thread that calls `flux_rt_engine_new`. May be
    // null.
    void (*log)(void *user_data, const char *text);
    // Handed to `log`.
    void *user_data;
} flux_rt_options;

// What a picture is made with. Set all of it with `flux_rt_request_init`, then change what is to be otherwise.
// Texts are UTF-8, and are not needed any more when `flux_rt_generate` returns. The functions are called on the
// thread that calls `flux_rt_generate`, and must not call it.
typedef struct flux_rt_request {
    // The bytes of this struct, set by `flux_rt_request_init`.
    size_t size;
    // What the picture shows. Null is the model's example.
    const char *prompt;
    // Another text for T5. Null is none.
    const char *prompt_2;
    // The same seed draws the same picture.
    uint64_t seed;
    // Pixels, a multiple of 16; 0 is the model's default.
    uint32_t width;
    // Pixels, a multiple of 16; 0 is the model's default.
    uint32_t height;
    // Denoising steps; 0 is the model's default.
    uint32_t steps;
    // T5 tokens of the prompt that are read, padding included; 0 is the model's default.
    uint32_t max_sequence_length;
    // How closely the picture follows the prompt; below 0 is the model's default.
    float guidance;
    // Not 0: decodes a picture larger than the VAE's own size in overlapping tiles.
    int32_t vae_tiling;
    // One of the engine's modes. Null is its first.
    const char *mode;
    // `none`, `conservative`, `aggressive`, or options as a cache's TOML file has them, in one or more lines
    // such as `preset = "aggressive"`. Null is `none`.
    const char *cache;
    // Whose random numbers the noise is: `torch-cuda`, `torch-cpu` or `torch-cpu-legacy`. Null is `torch-cuda`.
    const char *rng;
    // The blocks of 256 threads of the card that `torch-cuda` repeats; 0 is the card that computes, on the CPU
    // an H100.
    uint32_t rng_grid;
    // After every how many steps `preview` is called; 0 is never.
    uint32_t preview_every;
    // Called when a phase begins (`done` is 0) and after each step, with the phase: 0 encode, 1 prepare, 2
    // denoise, 3 decode. Stops the picture by returning anything but 0. May be null.
    int32_t (*progress)(void *user_data, int32_t phase, uint32_t done, uint32_t steps);
    // Called with what the picture will be as far as the steps so far tell: `width * height * 3` bytes, rows from
    // the top, that are there until it returns. May be null.
    void (*preview)(void *user_data, const uint8_t *rgb, uint32_t width, uint32_t height, uint32_t done);
    // Handed to `progress` and `preview`.
    void *user_data;
} flux_rt_request;

// Milliseconds that the phases of a picture took.
typedef struct flux_rt_timings {
    // Prompt to text states; 0 if the engine knew them.
    double encode_ms;
    // What does not depend on the latents.
    double prepare_ms;
    // The steps, previews included.
    double denoise_ms;
    // Latents to pixels.
    double decode_ms;
} flux_rt_timings;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// A status in words, English, never null. Any number may be given.
const char *flux_rt_status_text(int32_t status);

// Sets every field to its default. `size` is `sizeof (flux_rt_options)`.
//
// # Safety
// `options` is null or has room for `size` bytes.
enum flux_rt_status flux_rt_options_init(struct flux_rt_options *options, size_t size);

// Sets every field to its default. `size` is `sizeof (flux_rt_request)`.
//
// # Safety
// `request` is null or has room for `size` bytes.
enum flux_rt_status flux_rt_request_init(struct flux_rt_request *request, size_t size);

// Pixels of a row; 0 for null.
//
// # Safety
// `picture` is null or a picture that is not freed.
uint32_t flux_rt_picture_width(const struct flux_rt_picture *picture);

// Rows; 0 for null.
//
// # Safety
// `picture` is null or a picture that is not freed.
uint32_t flux_rt_picture_height(const struct flux_rt_picture *picture);

// Copies the pixels into a buffer of the caller's: rows from the top, three bytes a pixel. `size` must be
// `width * height * 3`.
//
// # Safety
// `picture` is null or a picture that is not freed; `buffer` is null or has room for `size` bytes.
enum flux_rt_status flux_rt_picture_rgb(const struct flux_rt_picture *picture, uint8_t *buffer, size_t size);

// The picture as a PNG file with all settings in it, as the program writes it. The bytes are the picture's and
// are there until it is freed; null, and `size` 0, for a null picture.
//
// # Safety
// `picture` is null or a picture that is not freed; `size` is null or a place to write to.
const uint8_t *flux_rt_picture_png(const struct flux_rt_picture *picture, size_t *size);

// All settings, as the JSON that the PNG holds. The text is the picture's; null for a null picture.
//
// # Safety
// `picture` is null or a picture that is not freed.
const char *flux_rt_picture_metadata(const struct flux_rt_picture *picture);

// The options of the cache and what it decided in every step, as JSON. The text is the picture's; null without a
// cache, and for a null picture.
//
// # Safety
// `picture` is null or a picture that is not freed.
const char *flux_rt_picture_cache_log(const struct flux_rt_picture *picture);

// How long the phases took.
//
// # Safety
// `picture` is null or a picture that is not freed; `timings` is null or a place to write to.
enum flux_rt_status flux_rt_picture_timings(const struct flux_rt_picture *picture, struct flux_rt_timings *timings);

// Frees a picture; null is allowed.
//
// # Safety
// `picture` is null or a picture that is not freed and is not used any more.
void flux_rt_picture_free(struct flux_rt_picture *picture);

// Loads a model. `*engine` is set to a handle that is to be freed also if this fails, so that its message can be
// read; it stays as it is only if a pointer is null.
//
// # Safety
// `options` is null or points to a struct whose first field is its size; `engine` is null or a place to write to.
enum flux_rt_status flux_rt_engine_new(const struct flux_rt_options *options, struct flux_rt_engine **engine);

// Makes a picture, which is to be freed, and sets `*picture` to it; to null if this fails.
//
// # Safety
// `engine` is null or an engine that is not freed; `request` is null or points to a struct whose first field is
// its size; `picture` is null or a place to write to.
enum flux_rt_status flux_rt_generate(struct flux_rt_engine *engine,
                                     const struct flux_rt_request *request,
                                     struct flux_rt_picture **picture);

// Stops the picture that the engine makes, after the present step; nothing happens if it makes none. May be called
// from any thread.
//
// # Safety
// `engine` is null or an engine that is not freed.
void flux_rt_cancel(const struct flux_rt_engine *engine);

// Copies the message of the last function that failed into a buffer of the caller's, cut where it does not fit, and
// always ended with 0. Returns the bytes of the whole message without the 0. May be called from any thread.
//
// # Safety
// `engine` is null or an engine that is not freed; `buffer` is null or has room for `size` bytes.
size_t flux_rt_engine_message(const struct flux_rt_engine *engine, char *buffer, size_t size);

// What computes: `cpu` or the GPU's name; empty if no model was loaded. The text is the engine's; null for null.
//
// # Safety
// `engine` is null or an engine that is not freed.
const char *flux_rt_engine_device(const struct flux_rt_engine *engine);

// Frees an engine; null is allowed. Pictures stay.
//
// # Safety
// `engine` is null or an engine that is not freed, and that no thread uses any more.
void flux_rt_engine_free(struct flux_rt_engine *engine);

// The version of the library, such as `0.1.0`.
const char *flux_rt_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FLUX_RT_H */
