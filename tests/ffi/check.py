"""The library through ctypes: draws a small picture and prints its PNG's size. Arguments: library, model."""

import ctypes
import sys


class Options(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("model", ctypes.c_char_p), ("transformer", ctypes.c_char_p),
                ("vae", ctypes.c_char_p), ("text_encoder", ctypes.c_char_p), ("text_encoder_2", ctypes.c_char_p),
                ("tokenizer", ctypes.c_char_p), ("tokenizer_2", ctypes.c_char_p), ("device", ctypes.c_char_p),
                ("dtype", ctypes.c_char_p), ("modes", ctypes.c_char_p), ("max_vram", ctypes.c_uint64),
                ("expected", ctypes.c_void_p), ("portable", ctypes.c_int32), ("log", ctypes.c_void_p), ("user_data", ctypes.c_void_p)]


Progress = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint32, ctypes.c_uint32)


class Request(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("prompt", ctypes.c_char_p), ("prompt_2", ctypes.c_char_p),
                ("seed", ctypes.c_uint64), ("width", ctypes.c_uint32), ("height", ctypes.c_uint32),
                ("steps", ctypes.c_uint32), ("max_sequence_length", ctypes.c_uint32), ("guidance", ctypes.c_float),
                ("vae_tiling", ctypes.c_int32), ("mode", ctypes.c_char_p), ("cache", ctypes.c_char_p),
                ("rng", ctypes.c_char_p), ("rng_grid", ctypes.c_uint32), ("latents", ctypes.c_void_p),
                ("latents_count", ctypes.c_size_t), ("preview_every", ctypes.c_uint32),
                ("progress", Progress), ("preview", ctypes.c_void_p), ("user_data", ctypes.c_void_p)]


library = ctypes.CDLL(sys.argv[1])
library.flux_rt_picture_png.restype = ctypes.c_void_p
library.flux_rt_picture_metadata.restype = ctypes.c_char_p
for function in [library.flux_rt_picture_png, library.flux_rt_picture_metadata, library.flux_rt_picture_free,
                 library.flux_rt_engine_free]:
    function.argtypes = [ctypes.c_void_p] + [ctypes.c_void_p] * (function is library.flux_rt_picture_png)
library.flux_rt_generate.argtypes = [ctypes.c_void_p] * 3
library.flux_rt_engine_message.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]

options, request = Options(), Request()
assert library.flux_rt_options_init(ctypes.byref(options), ctypes.sizeof(options), 1) == 0
assert library.flux_rt_request_init(ctypes.byref(request), ctypes.sizeof(request), 1) == 0
options.model, options.device = sys.argv[2].encode(), b"cpu"
engine, picture = ctypes.c_void_p(), ctypes.c_void_p()
assert library.flux_rt_engine_new(ctypes.byref(options), ctypes.byref(engine)) == 0

steps = []
request.prompt, request.width, request.height, request.steps = "ein Käse".encode(), 48, 32, 2
request.progress = Progress(lambda user_data, phase, done, of: steps.append(done) or 0)
assert library.flux_rt_generate(engine, ctypes.byref(request), ctypes.byref(picture)) == 0
assert steps == [0, 0, 0, 1, 2, 2, 2], steps
size = ctypes.c_size_t()
png = ctypes.string_at(library.flux_rt_picture_png(picture, ctypes.byref(size)), size.value)
assert png.startswith(b"\x89PNG") and "ein Käse" in library.flux_rt_picture_metadata(picture).decode()
library.flux_rt_picture_free(picture)

request.width = 47
assert library.flux_rt_generate(engine, ctypes.byref(request), ctypes.byref(picture)) == 2
message = ctypes.create_string_buffer(200)
library.flux_rt_engine_message(engine, message, len(message))
assert b"width" in message.value, message.value
library.flux_rt_engine_free(engine)
print(size.value)
