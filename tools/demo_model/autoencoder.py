"""The FLUX.1 autoencoder in plain PyTorch, with the parameter names of diffusers' AutoencoderKL."""

import json
from dataclasses import asdict, dataclass, field

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class VaeConfig:
    block_out_channels: list = field(default_factory=lambda: [32, 64, 64, 96])
    layers_per_block: int = 1
    latent_channels: int = 16
    norm_num_groups: int = 16
    sample_size: int = 128
    scaling_factor: float = 1.0
    shift_factor: float = 0.0

    def to_json(self):
        fixed = {
            "_class_name": "AutoencoderKL", "act_fn": "silu", "in_channels": 3, "out_channels": 3,
            "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
            "mid_block_add_attention": True, "use_quant_conv": False, "use_post_quant_conv": False,
            "force_upcast": True, "latents_mean": None, "latents_std": None,
        }  # fmt: skip
        return json.dumps(fixed | asdict(self), indent=2) + "\n"


class Resnet(nn.Module):
    def __init__(self, config, size_in, size_out):
        super().__init__()
        groups = config.norm_num_groups
        self.norm1 = nn.GroupNorm(groups, size_in, eps=1e-6)
        self.conv1 = nn.Conv2d(size_in, size_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, size_out, eps=1e-6)
        self.conv2 = nn.Conv2d(size_out, size_out, 3, padding=1)
        if size_in != size_out:
            self.conv_shortcut = nn.Conv2d(size_in, size_out, 1)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x) + h


class MidAttention(nn.Module):
    """One head as wide as the channels."""

    def __init__(self, config, size):
        super().__init__()
        self.group_norm = nn.GroupNorm(config.norm_num_groups, size, eps=1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(size, size) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(size, size)])

    def forward(self, x):
        n = self.group_norm(x).flatten(2).transpose(1, 2)
        out = F.scaled_dot_product_attention(self.to_q(n)[:, None], self.to_k(n)[:, None], self.to_v(n)[:, None])
        return x + self.to_out[0](out[:, 0]).transpose(1, 2).reshape(x.shape)


class MidBlock(nn.Module):
    def __init__(self, config, size):
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(config, size, size), Resnet(config, size, size)])
        self.attentions = nn.ModuleList([MidAttention(config, size)])

    def forward(self, x):
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Down(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.conv = nn.Conv2d(size, size, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.conv = nn.Conv2d(size, size, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Resnets of one resolution and, but for the last level, the change to the next."""

    def __init__(self, config, size_in, size_out, layers, resampler, resampler_name):
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(config, size_in if i == 0 else size_out, size_out) for i in range(layers))
        self.resampler_name = resampler_name
        if resampler:
            self.add_module(resampler_name, nn.ModuleList([resampler(size_out)]))

    def forward(self, x):
        for resnet in self.resnets:
            x = resnet(x)
        return getattr(self, self.resampler_name)[0](x) if hasattr(self, self.resampler_name) else x


class Encoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        sizes = config.block_out_channels
        self.conv_in = nn.Conv2d(3, sizes[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Level(config, sizes[max(i - 1, 0)], size, config.layers_per_block, Down if i < 3 else None, "downsamplers")
            for i, size in enumerate(sizes)
        )
        self.mid_block = MidBlock(config, sizes[-1])
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, sizes[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(sizes[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for level in self.down_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        sizes = config.block_out_channels[::-1]
        layers = config.layers_per_block + 1
        self.conv_in = nn.Conv2d(config.latent_channels, sizes[0], 3, padding=1)
        self.mid_block = MidBlock(config, sizes[0])
        self.up_blocks = nn.ModuleList(
            Level(config, sizes[max(i - 1, 0)], size, layers, Up if i < 3 else None, "upsamplers")
            for i, size in enumerate(sizes)
        )
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, sizes[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(sizes[-1], 3, 3, padding=1)

    def forward(self, x):
        x = self.mid_block(self.conv_in(x))
        for level in self.up_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Autoencoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def encode(self, pictures):
        """Mean and log variance of the latents of pictures in -1..1, unscaled."""
        mean, logvar = self.encoder(pictures).chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, latents):
        return self.decoder(latents)


def pack(latents):
    """[batch, 16, h, w] -> [batch, h/2 * w/2, 64]."""
    b, c, h, w = latents.shape
    return latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, 4 * c)


def unpack(tokens):
    """The inverse of `pack` for square pictures."""
    b, n, c = tokens.shape
    side = int(n**0.5)
    return tokens.view(b, side, side, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, c // 4, 2 * side, 2 * side)


def to_bytes(pictures):
    """-1..1 floats [batch, 3, h, w] to uint8 [batch, h, w, 3], rounding as diffusers does."""
    return ((pictures.float() * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def from_bytes(pictures):
    """uint8 [batch, h, w, 3] to -1..1 floats [batch, 3, h, w]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
