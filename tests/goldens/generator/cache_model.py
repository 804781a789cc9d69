"""The small random transformer and the inputs of the cache fixtures, equal under both sets of versions.

Every number is drawn here, by name: diffusers' own initial weights depend on the order in which a version creates its
layers."""

import json

import numpy as np
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

from . import formulas as f

# 5005 is the first seed of inputs from 5001 on whose diffs all keep away from their thresholds and rounding ties.
SEED, INPUT_SEED = 5000, 5005
STEPS = 28
GRID, TXT_TOKENS = (4, 5), 8
BATCHED = ("prompt_embeds", "pooled", "latents")  # of the inputs
# Six and six blocks: F = 4 still leaves blocks to skip in either list, and F = 8 of all twelve reaches into both.
CONFIG = dict(
    patch_size=1, in_channels=64, out_channels=None, num_layers=6, num_single_layers=6, attention_head_dim=64,
    num_attention_heads=1, joint_attention_dim=32, pooled_projection_dim=16, guidance_embeds=True,
    axes_dims_rope=(8, 28, 28),
)  # fmt: skip

# A residual should change by 1 to 10 % a step, so that its diffs lie on both sides of the thresholds 0.05 and 0.2.
# Plain random weights would see a new time in every step: columns of the sinusoid that turn by more than SMOOTH radians
# a step are damped, as training does. One cosine, which turns by about half a radian a step, is amplified: the speed
# of change then rises and falls with its slope, so that hits and misses come in groups.
SMOOTH, TIME_GAIN = 0.03, 0.45
COSINE, COSINE_GAIN = 63, 6.0
SHIFT_GAIN, GATE_BIAS, VELOCITY_GAIN = 0.5, 0.5, 0.5


def time_columns():
    """Factors [256] of the columns of the sinusoid (128 cosines, 128 sines)."""
    turn = 1000 / STEPS * 10000.0 ** (-np.arange(128) / 128)
    columns = np.tile(1 / (1 + (turn / SMOOTH) ** 2), 2)
    columns[COSINE] += COSINE_GAIN
    columns *= TIME_GAIN * np.sqrt(256 / (columns**2).sum())
    return torch.from_numpy(columns).float()


def parameter(name, shape, generator):
    """A random parameter by its diffusers name; gains keep every activation near 1."""
    noise = torch.randn(shape, generator=generator)
    layer = name.split(".")
    if len(shape) == 1 and layer[-1] == "weight":  # RMSNorm of q and k
        return 1 + 0.3 * noise
    if len(shape) == 1:
        bias = 0.2 * noise
        chunks = {"norm1": 6, "norm1_context": 6, "norm": 3}.get(layer[-3] if len(layer) > 3 else "")
        if chunks:  # gates that do not vanish: a residual branch has a part that time does not change
            rows = shape[0] // chunks
            for gate in range(2, chunks, 3):
                bias[gate * rows : (gate + 1) * rows] += GATE_BIAS
        return bias
    matrix = noise / shape[1] ** 0.5
    if name == "time_text_embed.timestep_embedder.linear_1.weight":
        return matrix * time_columns()
    if layer[-2] == "linear":  # modulation
        return matrix * SHIFT_GAIN
    return matrix * VELOCITY_GAIN if name == "proj_out.weight" else matrix


@torch.no_grad()
def transformer():
    """The model in f32, all weights bf16 values."""
    generator = torch.Generator().manual_seed(SEED)
    model = FluxTransformer2DModel(**CONFIG)
    for name, p in sorted(model.named_parameters()):
        p.copy_(parameter(name, p.shape, generator).to(torch.bfloat16).float())
    return model.eval()


def write_transformer(folder, model):
    """A diffusers folder with one bf16 file; its bytes do not depend on the diffusers version."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: p.to(torch.bfloat16).contiguous() for name, p in model.state_dict().items()}
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    fields = {"_class_name": "FluxTransformer2DModel", "_diffusers_version": "0.36.0", **CONFIG}
    (folder / "config.json").write_text(json.dumps(fields, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def inputs():
    """Shared inputs with a batch of two; runs of batch 1 take the first item. f32; bf16 runs round them."""
    generator = torch.Generator().manual_seed(INPUT_SEED)  # drawn in the order of the names below
    tokens = GRID[0] * GRID[1]
    sigmas = torch.from_numpy(f.sigmas(STEPS, f.mu(tokens)))
    return {
        "prompt_embeds": torch.randn(2, TXT_TOKENS, CONFIG["joint_attention_dim"], generator=generator),
        "pooled": torch.randn(2, CONFIG["pooled_projection_dim"], generator=generator),
        "latents": torch.randn(2, tokens, CONFIG["in_channels"], generator=generator),
        "sigmas": sigmas,
        "timesteps": sigmas[:-1] * 1000,
        "ids": torch.from_numpy(f.ids(TXT_TOKENS, *GRID)).float(),
    }
