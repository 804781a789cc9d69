"""The FLUX.1 transformer in plain PyTorch, with the parameter names of diffusers' FluxTransformer2DModel.

Written anew rather than imported because training needs two things diffusers does not offer: per-sample
widths (see `Widths`) and blocks that torch.compile turns into one graph each. `check_reference.py` holds it
to diffusers.
"""

import functools
import json
import math
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class FluxConfig:
    in_channels: int = 64
    num_layers: int = 6
    num_single_layers: int = 8
    attention_head_dim: int = 64
    num_attention_heads: int = 3
    joint_attention_dim: int = 128
    pooled_projection_dim: int = 128
    guidance_embeds: bool = True
    axes_dims_rope: list = field(default_factory=lambda: [8, 28, 28])

    @property
    def hidden(self):
        return self.attention_head_dim * self.num_attention_heads

    @property
    def mlp(self):
        return 4 * self.hidden

    @property
    def blocks(self):
        return self.num_layers + self.num_single_layers

    def to_json(self):
        fixed = {"_class_name": "FluxTransformer2DModel", "patch_size": 1, "out_channels": None}
        return json.dumps(fixed | asdict(self), indent=2) + "\n"


class Widths(NamedTuple):
    """How many heads and MLP neurons each block keeps for each sample: two integer tensors [blocks, batch].

    The rest is multiplied by zero. That is the same function as slicing the tensors to a prefix, but shapes
    stay fixed, so one compiled graph trains every width at once.
    """

    heads: torch.Tensor
    mlp: torch.Tensor

    @classmethod
    def uniform(cls, config, batch, heads, mlp, device):
        shape = (config.blocks, batch)
        return cls(torch.full(shape, heads, device=device), torch.full(shape, mlp, device=device))


def prefix_mask(kept, size):
    return torch.arange(size, device=kept.device) < kept[:, None]


def sinusoid(values, size=256):
    """cos half first, then sin, as FLUX.1 embeds times and guidance."""
    half = size // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, device=values.device, dtype=torch.float32) / half)
    angles = values.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


@functools.cache
def rope_table(axes, text_tokens, side, device):
    """cos and sin [tokens, head_dim / 2]; text sits at position 0 and is not rotated."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    image = torch.stack([torch.zeros_like(y), y, x], dim=-1).reshape(-1, 3)
    positions = torch.cat([torch.zeros(text_tokens, 3, dtype=image.dtype), image]).double()
    angles = []
    for axis, size in enumerate(axes):
        frequencies = 10000.0 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        angles.append(positions[:, axis, None] * frequencies)
    angles = torch.cat(angles, dim=-1)
    return angles.cos().float().to(device), angles.sin().float().to(device)


def rotate(x, rope):
    """Rotates neighbouring pairs of x [batch, heads, tokens, head_dim]."""
    cos, sin = rope
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2).to(x.dtype)


def layer_norm(x):
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def modulate(x, shift, scale):
    return layer_norm(x) * (1 + scale[:, None]) + shift[:, None]


def fused_linear(x, *linears):
    """Several Linears on one input as one matrix product, split again."""
    weight = torch.cat([linear.weight for linear in linears])
    bias = torch.cat([linear.bias for linear in linears])
    return F.linear(x, weight, bias).split([linear.out_features for linear in linears], dim=-1)


class MlpIn(nn.Module):
    def __init__(self, hidden, mlp):
        super().__init__()
        self.proj = nn.Linear(hidden, mlp)


class FeedForward(nn.Module):
    def __init__(self, hidden, mlp):
        super().__init__()
        self.net = nn.ModuleList([MlpIn(hidden, mlp), nn.Identity(), nn.Linear(mlp, hidden)])

    def forward(self, x, mask):
        return self.net[2](F.gelu(self.net[0].proj(x), approximate="tanh") * mask[:, None])


class ModulationLinear(nn.Module):
    def __init__(self, hidden, parts):
        super().__init__()
        self.parts = parts
        self.linear = nn.Linear(hidden, parts * hidden)

    def forward(self, conditioning):
        return self.linear(conditioning).chunk(self.parts, dim=-1)


class Attention(nn.Module):
    """The projections of one block. Double blocks have a second set for the text stream."""

    def __init__(self, config, double):
        super().__init__()
        hidden, head_dim = config.hidden, config.attention_head_dim
        self.head_dim = head_dim
        self.to_q, self.to_k, self.to_v = (nn.Linear(hidden, hidden) for _ in range(3))
        self.norm_q, self.norm_k = nn.RMSNorm(head_dim, eps=1e-6), nn.RMSNorm(head_dim, eps=1e-6)
        if double:
            self.add_q_proj, self.add_k_proj, self.add_v_proj = (nn.Linear(hidden, hidden) for _ in range(3))
            self.norm_added_q, self.norm_added_k = nn.RMSNorm(head_dim, eps=1e-6), nn.RMSNorm(head_dim, eps=1e-6)
            self.to_out = nn.ModuleList([nn.Linear(hidden, hidden)])
            self.to_add_out = nn.Linear(hidden, hidden)

    def heads(self, x):
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def attend(self, q, k, v, rope, head_mask):
        q, k = rotate(q, rope).to(v.dtype), rotate(k, rope).to(v.dtype)
        out = F.scaled_dot_product_attention(q, k, v) * head_mask[:, :, None, None]
        return out.transpose(1, 2).flatten(2)


class DoubleBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.norm1 = ModulationLinear(config.hidden, 6)
        self.norm1_context = ModulationLinear(config.hidden, 6)
        self.attn = Attention(config, double=True)
        self.ff = FeedForward(config.hidden, config.mlp)
        self.ff_context = FeedForward(config.hidden, config.mlp)
        self.head_count, self.mlp_size = config.num_attention_heads, config.mlp

    def forward(self, txt, img, conditioning, rope, heads, mlp):
        head_mask, mlp_mask = prefix_mask(heads, self.head_count), prefix_mask(mlp, self.mlp_size)
        attn, text_tokens = self.attn, txt.shape[1]
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.norm1(conditioning)
        t_shift, t_scale, t_gate, t_shift_mlp, t_scale_mlp, t_gate_mlp = self.norm1_context(conditioning)

        q, k, v = map(attn.heads, fused_linear(modulate(img, shift, scale), attn.to_q, attn.to_k, attn.to_v))
        t_in = modulate(txt, t_shift, t_scale)
        t_q, t_k, t_v = map(attn.heads, fused_linear(t_in, attn.add_q_proj, attn.add_k_proj, attn.add_v_proj))
        q = torch.cat([attn.norm_added_q(t_q), attn.norm_q(q)], dim=2)
        k = torch.cat([attn.norm_added_k(t_k), attn.norm_k(k)], dim=2)
        out = attn.attend(q, k, torch.cat([t_v, v], dim=2), rope, head_mask)
        txt = txt + t_gate[:, None] * attn.to_add_out(out[:, :text_tokens])
        img = img + gate[:, None] * attn.to_out[0](out[:, text_tokens:])

        img = img + gate_mlp[:, None] * self.ff(modulate(img, shift_mlp, scale_mlp), mlp_mask)
        txt = txt + t_gate_mlp[:, None] * self.ff_context(modulate(txt, t_shift_mlp, t_scale_mlp), mlp_mask)
        return txt, img


class SingleBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.norm = ModulationLinear(config.hidden, 3)
        self.proj_mlp = nn.Linear(config.hidden, config.mlp)
        self.proj_out = nn.Linear(config.hidden + config.mlp, config.hidden)
        self.attn = Attention(config, double=False)
        self.head_count, self.mlp_size = config.num_attention_heads, config.mlp

    def forward(self, x, conditioning, rope, heads, mlp):
        head_mask, mlp_mask = prefix_mask(heads, self.head_count), prefix_mask(mlp, self.mlp_size)
        attn = self.attn
        shift, scale, gate = self.norm(conditioning)
        parts = fused_linear(modulate(x, shift, scale), attn.to_q, attn.to_k, attn.to_v, self.proj_mlp)
        q, k, v = map(attn.heads, parts[:3])
        attended = attn.attend(attn.norm_q(q), attn.norm_k(k), v, rope, head_mask)
        hidden = F.gelu(parts[3], approximate="tanh") * mlp_mask[:, None]
        return x + gate[:, None] * self.proj_out(torch.cat([attended, hidden], dim=-1))


class Embedder(nn.Module):
    def __init__(self, size, hidden):
        super().__init__()
        self.linear_1 = nn.Linear(size, hidden)
        self.linear_2 = nn.Linear(hidden, hidden)

    def forward(self, x):
        return self.linear_2(F.silu(self.linear_1(x)))


class ConditioningEmbedder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.timestep_embedder = Embedder(256, config.hidden)
        self.guidance_embedder = Embedder(256, config.hidden)
        self.text_embedder = Embedder(config.pooled_projection_dim, config.hidden)

    def forward(self, time, guidance, pooled):
        time, guidance = sinusoid(time * 1000), sinusoid(guidance * 1000)
        return self.timestep_embedder(time) + self.guidance_embedder(guidance) + self.text_embedder(pooled)


class FluxTransformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.x_embedder = nn.Linear(config.in_channels, config.hidden)
        self.context_embedder = nn.Linear(config.joint_attention_dim, config.hidden)
        self.time_text_embed = ConditioningEmbedder(config)
        self.transformer_blocks = nn.ModuleList(DoubleBlock(config) for _ in range(config.num_layers))
        self.single_transformer_blocks = nn.ModuleList(SingleBlock(config) for _ in range(config.num_single_layers))
        self.norm_out = ModulationLinear(config.hidden, 2)
        self.proj_out = nn.Linear(config.hidden, config.in_channels)

    def init_weights(self):
        """Zero gates and a zero output: the model starts as the identity, and depth costs nothing at first."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, ModulationLinear):
                nn.init.zeros_(module.linear.weight)
        nn.init.zeros_(self.proj_out.weight)
        return self

    def forward(self, latents, text, pooled, time, guidance, widths):
        """Velocity for packed latents [batch, tokens, 64]; time in 0..1, guidance as the user gives it."""
        conditioning = F.silu(self.time_text_embed(time, guidance, pooled))
        img, txt = self.x_embedder(latents), self.context_embedder(text)
        side = math.isqrt(img.shape[1])
        rope = rope_table(tuple(self.config.axes_dims_rope), txt.shape[1], side, img.device)
        for i, block in enumerate(self.transformer_blocks):
            txt, img = block(txt, img, conditioning, rope, widths.heads[i], widths.mlp[i])
        x = torch.cat([txt, img], dim=1)
        for i, block in enumerate(self.single_transformer_blocks, start=len(self.transformer_blocks)):
            x = block(x, conditioning, rope, widths.heads[i], widths.mlp[i])
        scale, shift = self.norm_out(conditioning)
        return self.proj_out(modulate(x[:, txt.shape[1] :], shift, scale))


def compile_blocks(model):
    """Compiles each kind of block once; all blocks of a kind share the graph."""
    torch._dynamo.config.recompile_limit = 64
    for block in [*model.transformer_blocks, *model.single_transformer_blocks]:
        block.compile(dynamic=False)
