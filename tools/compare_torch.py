#!/usr/bin/env python3
"""PyTorch and diffusers beside flux-rt on one GPU: how far each is from f32, and how long PyTorch takes.

    python tools/compare_torch.py PARTS --program flux-rt

PARTS, separated by commas:
    kernels cuBLASLt, also over e4m3, and cuDNN at FLUX.1-dev's shapes, timed as `cargo bench` times ours
    demo    bf16 pictures of models/demo: final latents against flux-rt's f32 on the CPU
    block   one double and one single block at FLUX.1-dev's width, one step: velocity against the same
    eager   FLUX.1-dev's size, random weights, 1024x1024, 28 steps: denoise; the VAE and T5-XXL alone
    compile the same denoise with torch.compile on the repeated blocks, also with cuDNN's attention
    fp8     the same, with torchao's e4m3 for the blocks' linear layers, scales of rows or of tensors

Needs torch with CUDA, transformers, diffusers (measured with 0.42.1), and torchao (0.18.0) for fp8.
Prints a line a figure.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from safetensors.torch import load_file, save_file

DEV = "cuda"
DEMO = Path("models/demo")
# M, N, K of the matrix products, without bias, GELU, gate, norm or residual.
PRODUCTS = {
    "qkv": (4608, 9216, 3072),
    "attention out": (4608, 3072, 3072),
    "MLP up": (4608, 12288, 3072),
    "MLP down": (4608, 3072, 12288),
    "linear1": (4608, 21504, 3072),
    "linear2": (4608, 3072, 15360),
}
DEMO_PROMPTS = ["a red apple", "a butterfly, flat style", "a blue car", "a green leaf, line style"]
WAYS = {
    "f32": ["--device", "cpu", "--dtype", "f32"],
    "XL": ["--device", "cuda"],
    "original": ["--device", "cuda", "--mode", "original"],
}


def relative(a, b):
    """Relative L2 of a against b."""
    a, b = a.double().flatten(), b.double().flatten()
    return ((a - b).norm() / b.norm()).item()


def wall(work, repeats):
    """Median seconds between synchronisations, after one run."""
    work()
    seconds = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def on_gpu(work, seconds=1.5):
    """Median microseconds between two events around `work`, after L2 was overwritten. The first third of
    the time is not counted: until then the card runs faster than it can for long."""
    source = torch.randint(0, 255, (256 << 20,), device=DEV, dtype=torch.uint8)
    target = torch.empty_like(source)
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(32)]
    times, begin = [], time.perf_counter()
    while time.perf_counter() - begin < seconds:
        for start, end in pairs:
            target.copy_(source)
            start.record()
            work()
            end.record()
        torch.cuda.synchronize()
        if time.perf_counter() - begin > seconds / 3:
            times += [start.elapsed_time(end) * 1e3 for start, end in pairs]
    return statistics.median(times)


def uniform(*shape):
    return (torch.rand(shape, device=DEV) * 2 - 1).bfloat16()


def e4m3(x):
    """A matrix in e4m3, and the scales of its rows."""
    scale = x.float().abs().amax(1, keepdim=True) / 448
    return (x.float() / scale).to(torch.float8_e4m3fn), scale


def time_kernels():
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import linear, scaled_dot_product_attention

    for name, (m, n, k) in PRODUCTS.items():
        a, weight = uniform(m, k), uniform(n, k)
        us = on_gpu(lambda: linear(a, weight))
        print(f"cuBLASLt {name} {m}x{n}x{k}: {us:.1f} us, {2 * m * n * k / us * 1e-6:.0f} TFLOP/s", flush=True)
        a, scale_a = e4m3(a)
        weight, scale_b = e4m3(weight)
        scaled = dict(scale_a=scale_a, scale_b=scale_b.t(), out_dtype=torch.bfloat16, use_fast_accum=True)
        us = on_gpu(lambda: torch._scaled_mm(a, weight.t(), **scaled))
        print(f"cuBLASLt {name} {m}x{n}x{k} e4m3 with scales of rows: {us:.1f} us, "
              f"{2 * m * n * k / us * 1e-6:.0f} TFLOP/s", flush=True)
    heads, tokens, width = 24, 4608, 128
    q, k, v = (uniform(1, heads, tokens, width) for _ in range(3))
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        us = on_gpu(lambda: scaled_dot_product_attention(q, k, v))
    flops = 4 * heads * tokens * tokens * width
    print(f"cuDNN attention {heads}x{tokens}x{width}: {us:.1f} us, {flops / us * 1e-6:.0f} TFLOP/s", flush=True)


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def bf16_on_gpu(make):
    """A model made of random bf16 weights, without building it in f32 first."""
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(DEV):
        model = make()
    torch.set_default_dtype(torch.float32)
    return model.eval().requires_grad_(False)


def transformer(**config):
    model = bf16_on_gpu(lambda: FluxTransformer2DModel(guidance_embeds=True, **config))
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.normal_(0, 0.02)
    return model


def ours(program, model, prompt, side, steps, guidance, initial, folder, way):
    """Final latents [S, 64] of flux-rt."""
    saved = folder / "final.safetensors"
    command = [program, "run", "--model", model, "--prompt", prompt, "--latents", initial, "--steps", steps]
    command += ["--guidance", guidance]
    command += ["--width", side, "--height", side, "--save-latents", saved, "--out", folder / "out.png"]
    command += ["--overwrite", "--progress", "none", *WAYS[way]]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    return load_file(saved)["latents"][0]


def initial_latents(side, file):
    """Packed bf16 normals [1, S, 64], also as a file."""
    generator = torch.Generator(DEV).manual_seed(42)
    latents = torch.randn((1, 16, side // 8, side // 8), generator=generator, device=DEV, dtype=torch.bfloat16)
    latents = FluxPipeline._pack_latents(latents, 1, 16, side // 8, side // 8)
    save_file({"latents": latents.float().cpu().contiguous()}, file)
    return latents


def theirs(pipeline, prompt, side, steps, guidance, latents):
    return pipeline(
        prompt, latents=latents.clone(), num_inference_steps=steps, guidance_scale=guidance, height=side, width=side,
        max_sequence_length=64, output_type="latent",
    ).images[0].float().cpu()  # fmt: skip


def compare_demo(program, folder):
    pipeline = quiet(FluxPipeline.from_pretrained(DEMO, dtype=torch.bfloat16).to(DEV))
    initial = folder / "initial.safetensors"
    latents = initial_latents(128, initial)
    for prompt in DEMO_PROMPTS:
        final = theirs(pipeline, prompt, 128, 28, 3.5, latents)
        got = {way: ours(program, DEMO, prompt, 128, 28, 3.5, initial, folder, way) for way in WAYS}
        print(
            f"{prompt}: relative L2 against f32: diffusers bf16 {relative(final, got['f32']):.2e},"
            f" XL {relative(got['XL'], got['f32']):.2e}, original {relative(got['original'], got['f32']):.2e};"
            f" against diffusers: XL {relative(got['XL'], final):.2e},"
            f" original {relative(got['original'], final):.2e}",
            flush=True,
        )


def compare_block(program, folder):
    """The demo's encoders and VAE around two blocks of full width. A step from sigma 1 to 0 takes the
    whole velocity off the latents. A guidance whose thousandfold bf16 holds exactly: of 3.5 it makes
    3504, in both programs, which random embedders turn into another vector altogether."""
    model, initial, side, guidance = folder / "block", folder / "initial.safetensors", 512, 4.0
    shutil.copytree(DEMO, model)
    (model / "elastic.json").unlink()
    shutil.rmtree(model / "transformer")
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        blocks = transformer(num_layers=1, num_single_layers=1, joint_attention_dim=128, pooled_projection_dim=128)
        blocks.save_pretrained(model / "transformer")
        pipeline = quiet(FluxPipeline.from_pretrained(model, dtype=torch.bfloat16).to(DEV))
        latents = initial_latents(side, initial)
        before = latents[0].float().cpu()
        velocity = {"diffusers bf16": before - theirs(pipeline, "a red apple", side, 1, guidance, latents)}
        for way in WAYS:
            final = ours(program, model, "a red apple", side, 1, guidance, initial, folder, way)
            velocity[way] = before - final
        exact = velocity.pop("f32")
        figures = ", ".join(f"{name} {relative(v, exact):.2e}" for name, v in velocity.items())
        print(f"full-width blocks, seed {seed}: relative L2 of the velocity against f32: {figures}", flush=True)


def full_size():
    vae = bf16_on_gpu(
        lambda: AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
            block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=16, sample_size=1024,
            scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False,
        )
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    empty = {name: None for name in ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")}
    return quiet(FluxPipeline(scheduler=scheduler, vae=vae, transformer=transformer(), **empty))


def denoise(pipeline):
    prompt = torch.randn(1, 512, 4096, device=DEV, dtype=torch.bfloat16) * 0.2
    pooled = torch.randn(1, 768, device=DEV, dtype=torch.bfloat16)
    return lambda: pipeline(
        prompt_embeds=prompt, pooled_prompt_embeds=pooled, height=1024, width=1024, num_inference_steps=28,
        guidance_scale=3.5, generator=torch.Generator(DEV).manual_seed(42), output_type="latent",
    )  # fmt: skip


def time_eager(pipeline):
    print(f"diffusers eager bf16, denoise: {wall(denoise(pipeline), 2):.3f} s", flush=True)
    latents = torch.randn(1, 16, 128, 128, device=DEV, dtype=torch.bfloat16)
    seconds = wall(lambda: pipeline.vae.decode(latents).sample, 5)
    print(f"diffusers eager bf16, VAE decode: {seconds * 1e3:.1f} ms", flush=True)


def time_t5():
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
        feed_forward_proj="gated-gelu", is_encoder_decoder=False, use_cache=False,
    )  # fmt: skip
    t5 = bf16_on_gpu(lambda: T5EncoderModel(config))
    tokens = torch.randint(0, 32000, (1, 512), device=DEV)
    print(f"transformers eager bf16, T5-XXL 512 tokens: {wall(lambda: t5(tokens), 5) * 1e3:.1f} ms", flush=True)


def time_compiled(pipeline):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    pipeline.transformer.fuse_qkv_projections()
    pipeline.transformer.compile_repeated_blocks(fullgraph=True)
    work = denoise(pipeline)
    start = time.perf_counter()
    work()
    print(f"diffusers: torch.compile with the first picture takes {time.perf_counter() - start:.0f} s", flush=True)
    print(f"diffusers compiled bf16, denoise: {wall(work, 3):.3f} s", flush=True)
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        print(f"diffusers compiled bf16, cuDNN attention, denoise: {wall(work, 3):.3f} s", flush=True)


def time_fp8(scales):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, PerTensor, quantize_

    def heavy(module, name):
        return isinstance(module, torch.nn.Linear) and "transformer_blocks" in name and "norm" not in name

    torch._dynamo.reset()
    # Quantised weights are tensors of a subclass, which inference mode does not take.
    with torch.inference_mode(False), torch.no_grad():
        pipeline = full_size()
        pipeline.transformer.fuse_qkv_projections()
        granularity = {"tensors": PerTensor(), "rows": PerRow()}[scales]
        config = Float8DynamicActivationFloat8WeightConfig(granularity=granularity)
        quantize_(pipeline.transformer, config, filter_fn=heavy)
        pipeline.transformer.compile_repeated_blocks(fullgraph=True)
        work = denoise(pipeline)
        start = time.perf_counter()
        work()
        print(f"diffusers: torch.compile over e4m3, first picture {time.perf_counter() - start:.0f} s", flush=True)
        name = f"diffusers compiled, torchao e4m3 with scales of {scales}"
        print(f"{name}, denoise: {wall(work, 3):.3f} s", flush=True)
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            print(f"{name}, cuDNN attention, denoise: {wall(work, 3):.3f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", help="kernels, demo, block, eager, compile, fp8")
    parser.add_argument("--program", default="target/release/flux-rt", help="flux-rt, for demo and block")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if unknown := set(parts) - {"kernels", "demo", "block", "eager", "compile", "fp8"}:
        sys.exit(f"unknown parts {sorted(unknown)}; there are kernels, demo, block, eager, compile and fp8")
    torch.manual_seed(0)
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        if "kernels" in parts:
            time_kernels()
        if "demo" in parts:
            compare_demo(arguments.program, Path(folder))
        if "block" in parts:
            compare_block(arguments.program, Path(folder))
        if "eager" in parts or "compile" in parts:
            pipeline = full_size()
            if "eager" in parts:
                time_eager(pipeline)
                time_t5()
            if "compile" in parts:
                time_compiled(pipeline)
            del pipeline
        if "fp8" in parts:
            for scales in ("tensors", "rows"):
                time_fp8(scales)


if __name__ == "__main__":
    main()
