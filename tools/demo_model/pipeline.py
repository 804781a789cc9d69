"""The trained parts together: text encoders and transformer as one module, sampling, loading a model folder."""

import copy
import json
import math

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from autoencoder import Autoencoder, VaeConfig, unpack
from model import FluxConfig, FluxTransformer, Widths
from text import TextIds
from text_encoders import ClipConfig, ClipEncoder, T5Config, T5Encoder

# Folder, weight file and prefix inside the state of `Generator` of each trained part.
PARTS = {
    "transformer": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
    "text_encoder_2": "model.safetensors",
}


class Generator(nn.Module):
    """Everything the diffusion loss trains."""

    def __init__(self, clip_size, t5_size):
        super().__init__()
        self.transformer = FluxTransformer(FluxConfig()).init_weights()
        self.text_encoder = ClipEncoder(ClipConfig(clip_size)).init_weights()
        self.text_encoder_2 = T5Encoder(T5Config(t5_size)).init_weights()

    def encode(self, clip_ids, t5_ids):
        return self.text_encoder_2(t5_ids), self.text_encoder(clip_ids)

    def frozen_copy(self):
        return copy.deepcopy(self).requires_grad_(False).eval()


def sigmas(steps, image_tokens):
    """The schedule of FluxPipeline: linear, shifted by an amount that depends on the number of tokens."""
    slope = (1.15 - 0.5) / (4096 - 256)
    shift = math.exp(image_tokens * slope + 0.5 - slope * 256)
    base = np.linspace(1, 1 / steps, steps)
    return torch.tensor([*(shift / (shift + 1 / base - 1)), 0.0], dtype=torch.float32)


@torch.no_grad()
def sample(transformer, noise, text, pooled, guidance, heads=3, mlp=768, steps=28):
    """Euler steps from packed noise [batch, tokens, 64] to packed latents."""
    x = noise
    widths = Widths.uniform(transformer.config, len(x), heads, mlp, x.device)
    schedule = sigmas(steps, x.shape[1]).to(x.device)
    guidance = torch.full((len(x),), guidance, device=x.device)
    for now, following in zip(schedule[:-1], schedule[1:], strict=True):
        x = x + (following - now) * transformer(x, text, pooled, now.expand(len(x)), guidance, widths)
    return x


class ModelFolder:
    """A finished model folder, read with nothing but this folder's own code."""

    def __init__(self, folder, device):
        self.device = torch.device(device)
        self.text = TextIds(folder)
        self.generator = Generator(self.text.clip_size, self.text.t5_size)
        for part, file in PARTS.items():
            weights = {k: v.float() for k, v in load_file(folder / part / file).items()}
            getattr(self.generator, part).load_state_dict(weights)
        fields = json.loads((folder / "vae" / "config.json").read_text())
        self.vae_config = VaeConfig(**{k: fields[k] for k in VaeConfig.__dataclass_fields__})
        self.vae = Autoencoder(self.vae_config)
        weights = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
        self.vae.load_state_dict({k: v.float() for k, v in weights.items()})
        self.generator.to(self.device).eval()
        self.vae.to(self.device).eval()

    @torch.no_grad()
    def encode(self, prompts):
        clip, t5 = (torch.from_numpy(ids).long().to(self.device) for ids in self.text(prompts))
        return self.generator.encode(clip, t5)

    def noise(self, seeds):
        """Packed noise, one seed a picture, drawn on the CPU so that every machine draws the same."""
        draws = [torch.randn(64, 64, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(draws).to(self.device)

    @torch.no_grad()
    def generate(self, prompts, seeds, guidance=3.5, heads=3, mlp=768, batch=64):
        """Pictures in -1..1 [prompts, 3, 128, 128]."""
        pictures = []
        for at in range(0, len(prompts), batch):
            text, pooled = self.encode(prompts[at : at + batch])
            noise = self.noise(seeds[at : at + batch])
            latents = unpack(sample(self.generator.transformer, noise, text, pooled, guidance, heads, mlp))
            latents = latents / self.vae_config.scaling_factor + self.vae_config.shift_factor
            pictures.append(self.vae.decode(latents))
        return torch.cat(pictures)
