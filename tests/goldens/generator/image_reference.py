"""Reference tensors of the VAE, and whole runs of FluxPipeline from prompt text to pixels."""

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxPipeline

from . import formulas as f
from .encoder_checks import check_tiling
from .store import Hooks, Store

# Per folder: the run's prompts and sizes. The T5 prompt of schnell differs and is truncated.
RUNS = {
    "dev": dict(
        prompt="A red fox holding a sign that says “Hello 24”, it's naïve", prompt_2=None,
        height=64, width=96, steps=3, guidance=3.5, max_sequence_length=48, seed=42,
    ),
    "schnell": dict(
        prompt="a photo of a forest with mist", prompt_2="An astronaut riding a horse on the moon, cinematic lighting",
        height=80, width=48, steps=4, guidance=0.0, max_sequence_length=16, seed=7,
    ),
}  # fmt: skip
# Tiles of 64 pixels, 8 latents. `both`: tiles in both directions; in the upper two of its three rows the lower one is cut
# short by the edge, the last is 1 latent high. `wide`: one row of tiles.
TILING = dict(sample_size=64, latents=dict(both=(13, 9), wide=(4, 15)))
CFG_RUN = dict(negative_prompt="black and white photograph", true_cfg_scale=2.5, steps=2)


def pixels(image):
    """[1, 3, H, W] in [-1, 1] -> u8 [H, W, 3], as diffusers: clamp, then round half to even."""
    image = (image.float() * 0.5 + 0.5).clamp(0, 1)[0].permute(1, 2, 0).numpy()
    return torch.from_numpy((image * 255).round().astype(np.uint8))


@torch.no_grad()
def vae_reference(store, vae, generator):
    latents = torch.randn(1, 16, 4, 3, generator=generator)
    z = latents / vae.config.scaling_factor + vae.config.shift_factor
    decoder, encoder = vae.decoder, vae.encoder
    with Hooks() as hooks:
        hooks.watch("conv_in", decoder.conv_in)
        mid = decoder.mid_block
        hooks.watch("mid.resnet.0", mid.resnets[0])
        hooks.watch("mid.attention", mid.attentions[0])
        hooks.watch("mid.resnet.1", mid.resnets[1])
        for i, block in enumerate(decoder.up_blocks):
            if i < 3:
                hooks.watch(f"up.{i}.resnet.0", block.resnets[0])
            hooks.watch(f"up.{i}", block)
        hooks.watch("conv_norm_out", decoder.conv_norm_out)
        image = vae.decode(z, return_dict=False)[0]
        store.put("vae.decode.latents", latents)
        store.put("vae.decode.z", z)
        for name, value in hooks.outputs.items():
            store.put(f"vae.decode.{name}", value)
        store.put("vae.decode.image", image)
        store.put("vae.decode.pixels", pixels(image), batch=False)
    assert image.abs().max() > 1, "some pixels should be clamped"

    image = torch.rand(1, 3, 32, 24, generator=generator) * 2 - 1
    with Hooks() as hooks:
        for i, block in enumerate(encoder.down_blocks):
            hooks.watch(f"down.{i}", block)
        hooks.watch("mid", encoder.mid_block)
        hooks.watch("conv_norm_out", encoder.conv_norm_out)
        posterior = vae.encode(image).latent_dist
        store.put("vae.encode.image", image)
        for name, value in hooks.outputs.items():
            store.put(f"vae.encode.{name}", value)
    store.put("vae.encode.mean", posterior.mean)
    store.put("vae.encode.logvar", posterior.logvar)
    store.put("vae.encode.latents", (posterior.mode() - vae.config.shift_factor) * vae.config.scaling_factor)


@torch.no_grad()
def tiling_reference(folder, generator):
    """Decodings in tiles by the VAE of `folder`, whose tiles are made small: diffusers derives their size from the config."""
    store = Store()
    vae = AutoencoderKL.from_pretrained(folder / "vae", sample_size=TILING["sample_size"]).eval()
    vae.enable_tiling()
    for name, (height, width) in TILING["latents"].items():
        z = torch.randn(1, vae.config.latent_channels, height, width, generator=generator)
        image = vae.decode(z, return_dict=False)[0]
        check_tiling(vae, z, image)
        store.put(f"{name}.z", z)
        store.put(f"{name}.image", image)
    return store


@torch.no_grad()
def pipeline_reference(store, pipe, name):
    """One run with given latents; tensors under `pipeline.`."""
    run = RUNS[name]
    height, width = run["height"] // 8, run["width"] // 8
    noise = torch.randn(1, 16, height, width, generator=torch.Generator().manual_seed(run["seed"]))
    packed = FluxPipeline._pack_latents(noise, 1, 16, height, width)
    assert np.array_equal(packed[0].numpy(), f.pack(noise[0].numpy()))
    store.put("pipeline.noise", noise)
    store.put("pipeline.packed", packed)

    steps = []
    with Hooks() as hooks:
        hooks.watch("clip", pipe.text_encoder)
        hooks.watch("t5", pipe.text_encoder_2)
        hooks.watch("transformer", pipe.transformer)
        hooks.watch("t5_ids", pipe.text_encoder_2.encoder.embed_tokens)
        hooks.watch("image", pipe.vae.decoder)
        hooks.watch("z", pipe.vae.decoder.conv_in)

        def after_step(_, i, timestep, tensors):
            steps.append((hooks.outputs["transformer"][0], tensors["latents"]))
            return {}

        image = pipe(
            prompt=run["prompt"], prompt_2=run["prompt_2"], height=run["height"], width=run["width"],
            num_inference_steps=run["steps"], guidance_scale=run["guidance"], latents=packed,
            max_sequence_length=run["max_sequence_length"], callback_on_step_end=after_step,
        ).images[0]  # fmt: skip
        clip_ids = pipe.tokenizer(run["prompt"], padding="max_length", max_length=77, truncation=True).input_ids
        store.put("pipeline.clip_ids", torch.tensor(clip_ids).int())
        store.put("pipeline.t5_ids", hooks.inputs["t5_ids"][0].int())
        store.put("pipeline.pooled", hooks.outputs["clip"].pooler_output)
        store.put("pipeline.prompt_embeds", hooks.outputs["t5"][0])
        decoded = hooks.outputs["image"]
        z = hooks.inputs["z"][0]
    sigmas = pipe.scheduler.sigmas
    tokens = packed.shape[1]
    dynamic = pipe.scheduler.config.use_dynamic_shifting
    expected = f.sigmas(run["steps"], f.mu(tokens) if dynamic else None, pipe.scheduler.config.shift)
    assert np.array_equal(sigmas.numpy(), expected)
    store.put("pipeline.sigmas", sigmas)
    store.put("pipeline.timesteps", pipe.scheduler.timesteps)
    before = packed
    for i, (velocity, latents) in enumerate(steps):
        stepped = f.euler(before[0].numpy(), velocity[0].numpy(), sigmas[i], sigmas[i + 1])
        assert np.abs(stepped - latents[0].numpy()).max() <= 1e-6
        store.put(f"pipeline.velocity.{i}", velocity)
        store.put(f"pipeline.latents.{i}", latents)
        before = latents
    store.put("pipeline.z", z)
    unpacked = FluxPipeline._unpack_latents(before, run["height"], run["width"], 8)
    assert np.array_equal(f.pack(unpacked[0].numpy()), before[0].numpy())
    assert torch.equal(z, unpacked / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor)
    store.put("pipeline.pixels", torch.from_numpy(np.array(image)), batch=False)
    assert torch.equal(store.tensors["pipeline.pixels"], pixels(decoded))
    return packed


@torch.no_grad()
def cfg_reference(store, pipe, packed):
    """Final latents of a run with a negative prompt; tensors under `pipeline_cfg.`."""
    run = RUNS["dev"]
    latents = pipe(
        prompt=run["prompt"], negative_prompt=CFG_RUN["negative_prompt"], true_cfg_scale=CFG_RUN["true_cfg_scale"],
        height=run["height"], width=run["width"], num_inference_steps=CFG_RUN["steps"],
        guidance_scale=run["guidance"], latents=packed, max_sequence_length=run["max_sequence_length"],
        output_type="latent",
    ).images  # fmt: skip
    store.put("pipeline_cfg.latents", latents)


@torch.no_grad()
def bf16_reference(store, pipe, pipe_bf16, packed, name):
    """How far the reference's own bf16 is from its f32, for one forward and for the whole run.

    The forward's time 500 and guidance 4000 are exact in bf16 and both models get the bf16 inputs, so that only the
    arithmetic differs."""
    rounded = {
        key: store.tensors[f"transformer.in.{key}"][None].bfloat16()
        for key in ("hidden_states", "encoder_hidden_states", "pooled_projections")
    }
    ids, n = store.tensors["transformer.in.ids"], rounded["encoder_hidden_states"].shape[1]
    guided = pipe.transformer.config.guidance_embeds
    for key, model in (("reference", pipe.transformer), ("output", pipe_bf16.transformer)):
        output = model(
            **{k: v.to(model.dtype) for k, v in rounded.items()}, timestep=torch.tensor([0.5], dtype=model.dtype),
            guidance=torch.tensor([4.0]) if guided else None, img_ids=ids[n:], txt_ids=ids[:n], return_dict=False,
        )[0]  # fmt: skip
        store.put(f"transformer_bf16.{key}", output)

    run = RUNS[name]
    with Hooks() as hooks:
        hooks.watch("z", pipe_bf16.vae.decoder.conv_in)
        image = pipe_bf16(
            prompt=run["prompt"], prompt_2=run["prompt_2"], height=run["height"], width=run["width"],
            num_inference_steps=run["steps"], guidance_scale=run["guidance"], latents=packed.bfloat16(),
            max_sequence_length=run["max_sequence_length"],
        ).images[0]  # fmt: skip
        store.put("pipeline_bf16.z", hooks.inputs["z"][0])
    store.put("pipeline_bf16.pixels", torch.from_numpy(np.array(image)), batch=False)
