"""Loads the model folder with diffusers' own FluxPipeline (float32, CPU) and draws one picture.

    python check_diffusers.py --model models/demo --out check [--ours picture.png]

The dump holds the packed initial latents, the final latents and the picture, so another program can start
from the same noise; `--ours` compares that program's picture with diffusers' by PSNR.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

SIDE, TEXT_TOKENS = 128, 64


def psnr(a, b):
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for picture.png and check.safetensors")
    parser.add_argument("--prompt", default="a red apple")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--guidance", type=float, default=3.5)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--latents", type=Path, help="safetensors with `latents` [1, 64, 64]; else drawn from the seed")
    parser.add_argument("--ours", type=Path, help="a picture to compare with")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)

    pipeline = FluxPipeline.from_pretrained(arguments.model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    if arguments.latents:
        latents = load_file(arguments.latents)["latents"].float()
    else:
        latents = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(arguments.seed))
    final = {}

    def keep(pipeline, step, timestep, tensors):
        final["latents"] = tensors["latents"].clone()
        return tensors

    picture = pipeline(
        arguments.prompt, height=SIDE, width=SIDE, num_inference_steps=arguments.steps, latents=latents.clone(),
        guidance_scale=arguments.guidance, max_sequence_length=TEXT_TOKENS, callback_on_step_end=keep,
    ).images[0]  # fmt: skip

    arguments.out.mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(picture.convert("RGB"))
    picture.save(arguments.out / "picture.png")
    image = torch.from_numpy(pixels.copy())
    tensors = {"latents": latents, "final_latents": final["latents"].contiguous(), "image": image}
    metadata = {"prompt": arguments.prompt, "steps": str(arguments.steps), "guidance": str(arguments.guidance)}
    save_file(tensors, arguments.out / "check.safetensors", metadata=metadata)
    print(f"{arguments.prompt!r}: {arguments.out / 'picture.png'}, latents std {final['latents'].std():.4f}")
    if arguments.ours:
        print(f"PSNR {psnr(pixels, np.asarray(Image.open(arguments.ours).convert('RGB'))):.2f} dB")


if __name__ == "__main__":
    main()
