/* FLUX.1 text-to-image: prompt in, picture out.
 *
 * Made by cbindgen from src/ffi: `UPDATE_HEADER=1 cargo test --test ffi header` writes it anew.
 * Link with libflux_rt.a and the system libraries, as include/flux-rt.pc does for pkg-config, or with libflux_rt.so.
 *
 * Nothing is written to stdout, and to stderr only what Rust says of a bug (FLUX_RT_BUG). Functions that are given are
 * called on the calling thread alone. What is not here, but in the program and in Rust: making plans and preparing
 * models for them, comparing pictures, reading a picture's settings back and verifying it, the times of single steps.
 */

#ifndef FLUX_RT_H
#define FLUX_RT_H

#include <stddef.h>
#include <stdint.h>

// The version of this header. It is raised with every change after which a program must be compiled anew; the
// init functions refuse a program that was compiled with another one.
#define FLUX_RT_ABI_VERSION 1

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
    // Not enough memory, of the GPU or on the CPU of the machine.
    FLUX_RT_OUT_OF_MEMORY = 5,
    // No usable GPU, or its driver failed.
    FLUX_RT_DEVICE = 6,
    // The latents or the picture became NaN or infinite.
    FLUX_RT_NUMERIC = 7,
    // A file could not be written.
    FLUX_RT_WRITE = 8,
    // A picture is being made with the engine, by another thread or by the caller of the function that called
    // this. It was not touched, and neither was its message.
    FLUX_RT_BUSY = 20,
    // A pointer is null that must not be.
    FLUX_RT_NULL = 21,
    // A buffer has not the size that it must have.
    FLUX_RT_SIZE = 22,
    // A bug of this library; the engine makes no pictures any more.
    FLUX_RT_BUG = 23,
    // The program was compiled with the header of another version of the library, or a struct was not set by its
    // init function.
    FLUX_RT_VERSION = 24,
    // The picture was stopped: by `flux_rt_cancel`, by its progress function, or since its engine was freed.
    FLUX_RT_CANCELLED = 130,
} flux_rt_status;

// What a picture is at, as its progress function is told.
typedef enum flux_rt_phase {
    // The prompt becomes text states.
    FLUX_RT_PHASE_ENCODE = 0,
    // What does not depend on the latents.
    FLUX_RT_PHASE_PREPARE = 1,
    // The steps.
    FLUX_RT_PHASE_DENOISE = 2,
    // Latents become pixels.
    FLUX_RT_PHASE_DECODE = 3,
    // The PNG and its metadata. For an engine's first picture the weight files are read once more, for their
    // digests, and nothing stops that.
    FLUX_RT_PHASE_FINISH = 4,
} flux_rt_phase;

// A loaded model, or the reason why there is none. One engine makes many pictures, one at a time, on any thread;
// other threads may stop it, read its message and free it meanwhile.
typedef struct flux_rt_engine flux_rt_engine;

// A finished picture. It does not need its engine any more, and may be read from several threads.
typedef struct flux_rt_picture flux_rt_picture;

// What a picture is made with. Set all of it with `flux_rt_request_init`, then change what is to be otherwise.
// Texts are UTF-8, and are not needed any more when `flux_rt_generate` returns.
//
// The functions are called on the thread that calls `flux_rt_generate`. They may free the engine, and call every
// function; `flux_rt_generate` with the same engine returns `FLUX_RT_BUSY` to them. They must return: no C++ exception
// and no `longjmp` may leave them.
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
    // Latents to begin with instead of noise, or null: those of `flux_rt_picture_latents`, for each 16 x 16 pixels, in
    // rows from the top, the 4 values of the first channel, then of the next; 64 numbers for FLUX.1's 16 channels.
    const float *latents;
    // How many numbers these are.
    size_t latents_count;
    // After every how many steps `preview` is called; 0 is never. Each preview takes as long as decoding the picture,
    // and does not change it.
    uint32_t preview_every;
    // Called when a phase begins, which is a `flux_rt_phase`, and after each step, with how many of the `steps` are
    // done: 0 until the first is, all of them when the picture is decoded. Stops the picture by returning anything
    // but 0: that stops this one and no other, where `flux_rt_cancel` may come before it begins. May be null.
    int32_t (*progress)(void *user_data, int32_t phase, uint32_t done, uint32_t steps);
    // Called with what the picture will be as far as the steps so far tell: `width * height * 3` bytes, rows from
    // the top, that are there until it returns. May be null.
    void (*preview)(void *user_data, const uint8_t *rgb, uint32_t width, uint32_t height, uint32_t done);
    // Handed to `progress` and `preview`.
    void *user_data;
} flux_rt_request;

// How an engine is made. Set all of it with `flux_rt_options_init`, then change what is to be otherwise. Texts
// are UTF-8, and are not needed any more when `flux_rt_engine_new` returns. `log` must return: no C++ exception and
// no `longjmp` may leave it.
typedef struct flux_rt_options {
    // The bytes of this struct, set by `flux_rt_options_init`.
    size_t size;
    // `demo`, a folder, a single file or a Hugging Face id. Null is `demo`.
    const char *model;
    // Another transformer than the model's: a safetensors file or a folder of diffusers. Null is the model's own.
    const char *transformer;
    // Another VAE, likewise.
    const char *vae;
    // Another CLIP, likewise.
    const char *text_encoder;
    // Another T5, likewise.
    const char *text_encoder_2;
    // A folder with another tokenizer for CLIP.
    const char *tokenizer;
    // A folder with another tokenizer for T5.
    const char *tokenizer_2;
    // `auto`, `cpu`, `cuda` or `cuda:N`. Null is `auto`.
    const char *device;
    // `auto`, `f32` or `bf16`. Null is `auto`.
    const char *dtype;
    // The modes that pictures may be made in, separated by commas: `original`, `XL`, `L`, `M`, `S`, paths of
    // plan files ending in `.json`. The first is that of a request without one. Null is `XL`.
    const char *modes;
    // Bytes of GPU memory to take at most; 0 is what is free.
    uint64_t max_vram;
    // A picture like those to come, set by `flux_rt_request_init`: whether the GPU's memory holds the model and such
    // a picture is told before the model is loaded, and how much of the model waits in host memory is chosen by it.
    // Its functions are not called. Null is a picture of the model's default size.
    const struct flux_rt_request *expected;
    // Not 0: with the kernels that every card runs, where there are better ones.
    int32_t portable;
    // Called with notes about how the model is run in each of the modes, a sentence each, on the thread that calls
    // `flux_rt_engine_new`. May be null.
    void (*log)(void *user_data, const char *text);
    // Handed to `log`.
    void *user_data;
} flux_rt_options;

// Milliseconds that the phases of a picture took.
typedef struct flux_rt_timings {
    // Prompt to text states; next to nothing if the engine remembers those of the prompt.
    double encode_ms;
    // What does not depend on the latents.
    double prepare_ms;
    // The steps, previews included.
    double denoise_ms;
    // Latents to pixels.
    double decode_ms;
    // PNG and metadata; for an engine's first picture with the digests of all weight files.
    double finish_ms;
} flux_rt_timings;

// What a model draws where a request says nothing.
typedef struct flux_rt_defaults {
    // Pixels.
    uint32_t width;
    // Pixels.
    uint32_t height;
    // Denoising steps.
    uint32_t steps;
    // T5 tokens of the prompt that are read, padding included.
    uint32_t max_sequence_length;
    // How closely the picture follows the prompt; below 0 for a model that cannot be told.
    float guidance;
} flux_rt_defaults;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// A status in words, English, never null. Any number may be given.
const char *flux_rt_status_text(int32_t status);

// Sets every field to its default. `size` is `sizeof (flux_rt_options)`, and `abi_version` is `FLUX_RT_ABI_VERSION`;
// with others it is `FLUX_RT_VERSION`, and no function will take the struct.
//
// # Safety
// `options` is null or has room for `size` bytes.
enum flux_rt_status flux_rt_options_init(struct flux_rt_options *options, size_t size, uint32_t abi_version);

// Sets every field to its default. `size` is `sizeof (flux_rt_request)`, and `abi_version` is `FLUX_RT_ABI_VERSION`;
// with others it is `FLUX_RT_VERSION`, and no function will take the struct.
//
// # Safety
// `request` is null or has room for `size` bytes.
enum flux_rt_status flux_rt_request_init(struct flux_rt_request *request, size_t size, uint32_t abi_version);

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

// What is to be said of the picture, in sentences, one a line: how much of the prompt was not read, or that the
// metadata do without the weights' digests since a file could not be read any more. The text is the picture's; null
// if there is nothing to say, and for a null picture.
//
// # Safety
// `picture` is null or a picture that is not freed.
const char *flux_rt_picture_notes(const struct flux_rt_picture *picture);

// The final latents, before they were decoded, as `latents` of a request takes them. The numbers are the picture's
// and are there until it is freed; null, and `count` 0, for a null picture.
//
// # Safety
// `picture` is null or a picture that is not freed; `count` is null or a place to write to.
const float *flux_rt_picture_latents(const struct flux_rt_picture *picture, size_t *count);

// How long the phases took. `size` is `sizeof (flux_rt_timings)`.
//
// # Safety
// `picture` is null or a picture that is not freed; `timings` is null or has room for `size` bytes.
enum flux_rt_status flux_rt_picture_timings(const struct flux_rt_picture *picture,
                                            struct flux_rt_timings *timings,
                                            size_t size);

// Frees a picture; null is allowed.
//
// # Safety
// `picture` is null or a picture that is not freed and is not used any more.
void flux_rt_picture_free(struct flux_rt_picture *picture);

// Loads a model; null options are the defaults. `*engine` is set to a handle that is to be freed also if this
// fails, so that its message can be read and `flux_rt_generate` says the same; it is `FLUX_RT_NULL` if `engine` is.
//
// Weight files are mapped into memory. If another program cuts one while it is read, in the very moment of a read,
// the system kills the process by SIGBUS; before and after that it is `FLUX_RT_MODEL`.
//
// # Safety
// `options` is null or was set by `flux_rt_options_init`; `engine` is null or a place to write to.
enum flux_rt_status flux_rt_engine_new(const struct flux_rt_options *options, struct flux_rt_engine **engine);

// What the model draws where a request says nothing. `size` is `sizeof (flux_rt_defaults)`. Without a model, why
// there is none; then nothing is written. May be called from any thread, also while a picture is made.
//
// # Safety
// `engine` is null or an engine that is not freed; `defaults` is null or has room for `size` bytes.
enum flux_rt_status flux_rt_engine_defaults(const struct flux_rt_engine *engine,
                                            struct flux_rt_defaults *defaults,
                                            size_t size);

// Stops the picture that the engine makes, after the present step: `flux_rt_generate` returns
// `FLUX_RT_CANCELLED`. May be called from any thread.
//
// If the engine makes no picture, nothing happens, and the next one is not stopped. Who cannot know whether a
// picture has begun returns something else than 0 from its progress function instead.
//
// # Safety
// `engine` is null or an engine that is not freed.
void flux_rt_cancel(const struct flux_rt_engine *engine);

// Copies the engine's message into a buffer of the caller's, cut where it does not fit, and always ended with 0.
// Returns the bytes of the whole message without the 0. May be called from any thread.
//
// The message says why the last `flux_rt_engine_new` or `flux_rt_generate` of this engine failed that failed. It is
// empty before, and success leaves it as it is; so do `FLUX_RT_NULL`, `FLUX_RT_BUSY` and all other functions.
//
// # Safety
// `engine` is null or an engine that is not freed; `buffer` is null or has room for `size` bytes.
size_t flux_rt_engine_message(const struct flux_rt_engine *engine, char *buffer, size_t size);

// What computes: `cpu` or the GPU's name; empty if no model was loaded. The text is the engine's and is there until
// it is freed; null for null.
//
// # Safety
// `engine` is null or an engine that is not freed.
const char *flux_rt_engine_device(const struct flux_rt_engine *engine);

// Frees an engine; null is allowed. Pictures stay.
//
// An engine may be freed while another thread makes a picture with it, and by the picture's own progress and
// preview functions: the picture stops as `flux_rt_cancel` would stop it, and its memory is given back before
// `flux_rt_generate` returns. No other call may begin with an engine that is freed.
//
// # Safety
// `engine` is null or an engine that is not freed.
void flux_rt_engine_free(struct flux_rt_engine *engine);

// The version of the library, such as `0.1.0`.
const char *flux_rt_version(void);

// Makes a picture, which is to be freed, and sets `*picture` to it; to null if this fails. `FLUX_RT_BUSY` if another
// thread makes one with this engine, or this is called by the functions of a picture that it makes.
//
// The work is done on as many threads as the machine has cores, whichever thread calls.
//
// # Safety
// `engine` is null or an engine that is not freed; `request` is null or was set by `flux_rt_request_init`; `picture`
// is null or a place to write to.
enum flux_rt_status flux_rt_generate(struct flux_rt_engine *engine,
                                     const struct flux_rt_request *request,
                                     struct flux_rt_picture **picture);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FLUX_RT_H */
