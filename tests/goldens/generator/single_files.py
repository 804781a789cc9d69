"""Single files in the BFL and ComfyUI namings, made by inverting the name tables one tensor at a time."""

import hashlib
import json
import math

import numpy as np
import torch
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from safetensors.torch import load_file, save_file
from transformers import T5EncoderModel

from . import formulas as f
from .models import transformer
from .store import Store
from .tokenizer_files import write_json

FP8 = torch.float8_e4m3fn

# One head of 16; takes the text encoders of schnell/. A real single file has no config: heads are 128 wide there.
TINY = dict(
    num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=1, joint_attention_dim=48,
    pooled_projection_dim=64, guidance_embeds=True, axes_dims_rope=(4, 6, 6),
)  # fmt: skip


def bfl_transformer(state):
    """diffusers names -> BFL names; q, k, v (and the single block's MLP) are stacked, final adaLN halves swapped."""
    out = {}

    def move(new, *old, swap=False):
        for kind in ("weight", "bias"):
            parts = [state[f"{name}.{kind}"] for name in old]
            value = torch.cat(parts)
            out[f"{new}.{kind}"] = torch.cat(value.chunk(2)[::-1]) if swap else value

    def scale(new, old):
        out[f"{new}.scale"] = state[f"{old}.weight"]

    move("img_in", "x_embedder")
    move("txt_in", "context_embedder")
    embedders = {"time_in": "timestep_embedder", "vector_in": "text_embedder", "guidance_in": "guidance_embedder"}
    for new, old in embedders.items():
        if f"time_text_embed.{old}.linear_1.weight" in state:
            move(f"{new}.in_layer", f"time_text_embed.{old}.linear_1")
            move(f"{new}.out_layer", f"time_text_embed.{old}.linear_2")
    for i in range(TINY["num_layers"]):
        d, b = f"transformer_blocks.{i}", f"double_blocks.{i}"
        move(f"{b}.img_mod.lin", f"{d}.norm1.linear")
        move(f"{b}.txt_mod.lin", f"{d}.norm1_context.linear")
        move(f"{b}.img_attn.qkv", *(f"{d}.attn.to_{x}" for x in "qkv"))
        move(f"{b}.txt_attn.qkv", *(f"{d}.attn.add_{x}_proj" for x in "qkv"))
        scale(f"{b}.img_attn.norm.query_norm", f"{d}.attn.norm_q")
        scale(f"{b}.img_attn.norm.key_norm", f"{d}.attn.norm_k")
        scale(f"{b}.txt_attn.norm.query_norm", f"{d}.attn.norm_added_q")
        scale(f"{b}.txt_attn.norm.key_norm", f"{d}.attn.norm_added_k")
        move(f"{b}.img_attn.proj", f"{d}.attn.to_out.0")
        move(f"{b}.txt_attn.proj", f"{d}.attn.to_add_out")
        for stream, ff in (("img", "ff"), ("txt", "ff_context")):
            move(f"{b}.{stream}_mlp.0", f"{d}.{ff}.net.0.proj")
            move(f"{b}.{stream}_mlp.2", f"{d}.{ff}.net.2")
    for i in range(TINY["num_single_layers"]):
        d, b = f"single_transformer_blocks.{i}", f"single_blocks.{i}"
        move(f"{b}.modulation.lin", f"{d}.norm.linear")
        move(f"{b}.linear1", *(f"{d}.attn.to_{x}" for x in "qkv"), f"{d}.proj_mlp")
        move(f"{b}.linear2", f"{d}.proj_out")
        scale(f"{b}.norm.query_norm", f"{d}.attn.norm_q")
        scale(f"{b}.norm.key_norm", f"{d}.attn.norm_k")
    move("final_layer.adaLN_modulation.1", "norm_out.linear", swap=True)
    move("final_layer.linear", "proj_out")
    return out


def diffusers_transformer(bfl):
    """The way back, written on its own: what a loader has to do."""
    out = {}

    def move(old, *new, swap=False, sizes=None):
        for kind in ("weight", "bias"):
            if f"{old}.{kind}" in bfl:
                value = bfl[f"{old}.{kind}"]
                if swap:
                    half = value.shape[0] // 2
                    value = torch.cat([value[half:], value[:half]])
                for name, part in zip(new, value.split(sizes or [value.shape[0]]), strict=True):
                    out[f"{name}.{kind}"] = part

    dim = bfl["img_in.weight"].shape[0]
    table = {"img_in": "x_embedder", "txt_in": "context_embedder", "final_layer.linear": "proj_out"}
    for name, new in (("time", "timestep"), ("vector", "text"), ("guidance", "guidance")):
        table[f"{name}_in.in_layer"] = f"time_text_embed.{new}_embedder.linear_1"
        table[f"{name}_in.out_layer"] = f"time_text_embed.{new}_embedder.linear_2"
    double, single = "transformer_blocks.0", "single_transformer_blocks.0"
    table |= {
        "double_blocks.0.img_mod.lin": f"{double}.norm1.linear",
        "double_blocks.0.txt_mod.lin": f"{double}.norm1_context.linear",
        "double_blocks.0.img_attn.proj": f"{double}.attn.to_out.0",
        "double_blocks.0.txt_attn.proj": f"{double}.attn.to_add_out",
        "double_blocks.0.img_mlp.0": f"{double}.ff.net.0.proj",
        "double_blocks.0.img_mlp.2": f"{double}.ff.net.2",
        "double_blocks.0.txt_mlp.0": f"{double}.ff_context.net.0.proj",
        "double_blocks.0.txt_mlp.2": f"{double}.ff_context.net.2",
        "single_blocks.0.modulation.lin": f"{single}.norm.linear",
        "single_blocks.0.linear2": f"{single}.proj_out",
    }
    for old, new in table.items():
        move(old, new)
    move("double_blocks.0.img_attn.qkv", *(f"{double}.attn.to_{x}" for x in "qkv"), sizes=[dim] * 3)
    move("double_blocks.0.txt_attn.qkv", *(f"{double}.attn.add_{x}_proj" for x in "qkv"), sizes=[dim] * 3)
    parts = [*(f"{single}.attn.to_{x}" for x in "qkv"), f"{single}.proj_mlp"]
    move("single_blocks.0.linear1", *parts, sizes=[dim, dim, dim, 4 * dim])
    move("final_layer.adaLN_modulation.1", "norm_out.linear", swap=True)
    for stream, infix in (("img", ""), ("txt", "added_")):
        for kind, letter in (("query", "q"), ("key", "k")):
            scale = bfl[f"double_blocks.0.{stream}_attn.norm.{kind}_norm.scale"]
            out[f"{double}.attn.norm_{infix}{letter}.weight"] = scale
    out[f"{single}.attn.norm_q.weight"] = bfl["single_blocks.0.norm.query_norm.scale"]
    out[f"{single}.attn.norm_k.weight"] = bfl["single_blocks.0.norm.key_norm.scale"]
    return out


def ldm_vae(state):
    """diffusers names -> those of ae.safetensors: up blocks from the other end, attention as 1x1 convolutions."""
    out, levels = {}, 4
    inner = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    for name, value in state.items():
        part, rest = name.split(".", 1)
        words = rest.split(".")
        if words[0] == "conv_norm_out":
            new = f"norm_out.{words[1]}"
        elif words[0] == "mid_block" and words[1] == "attentions":
            middle = ".".join(words[3:-1])
            new = f"mid.attn_1.{inner[middle]}.{words[-1]}"
            if value.ndim == 2:
                value = value[:, :, None, None]
        elif words[0] == "mid_block":
            new = f"mid.block_{int(words[2]) + 1}.{'.'.join(words[3:])}"
        elif words[0] in ("down_blocks", "up_blocks"):
            way = words[0].removesuffix("_blocks")
            level = int(words[1]) if way == "down" else levels - 1 - int(words[1])
            if words[2] == "resnets":
                new = f"{way}.{level}.block.{'.'.join(words[3:])}"
            else:
                new = f"{way}.{level}.{way}sample.conv.{words[-1]}"
        else:
            new = rest
        out[f"{part}.{new.replace('conv_shortcut', 'nin_shortcut')}"] = value
    assert len(out) == len(state)
    return out


def is_block_linear(name, value):
    return value.ndim == 2 and name.startswith(("double_blocks", "single_blocks"))


def scaled(value):
    """fp8 values and their f32 scale; the dequantised tensor is fp8 * scale in f32."""
    scale = value.float().abs().max() / 448
    return (value.float() / scale).to(FP8), scale


def write_fp8_transformers(folder, bfl):
    """Returns {file: dequantised BFL state in f32} of the three fp8 spellings."""
    results = {}

    # Plain casts, under ComfyUI's prefix. Double blocks are fp8 throughout, elsewhere only the weights of Linears.
    plain = {k: v.to(FP8) if v.ndim == 2 or k.startswith("double_blocks") else v for k, v in bfl.items()}
    save(folder / "transformer_fp8_plain.safetensors", {f"model.diffusion_model.{k}": v for k, v in plain.items()})
    results["transformer_fp8_plain"] = {k: v.float() for k, v in plain.items()}

    # ComfyUI's scaled format with its marker of two elements.
    tensors, values = {"scaled_fp8": torch.zeros(2, dtype=FP8)}, {}
    for name, value in bfl.items():
        values[name] = value.float()
        tensors[name] = value
        if is_block_linear(name, value):
            tensors[name], scale = scaled(value)
            base = name.removesuffix("weight")
            tensors[f"{base}scale_weight"], tensors[f"{base}scale_input"] = scale, torch.tensor(0.0375)
            values[name] = tensors[name].float() * scale
    save(folder / "transformer_fp8_scale_weight.safetensors", tensors)
    results["transformer_fp8_scale_weight"] = values

    # The newer spelling, for a model without guidance, with a JSON note per layer.
    tensors, values = {}, {}
    note = torch.tensor(list(json.dumps({"format": "float8_e4m3fn"}).encode()), dtype=torch.uint8)
    for name, value in bfl.items():
        if name.startswith("guidance_in"):
            continue
        values[name] = value.float()
        tensors[name] = value
        if is_block_linear(name, value):
            tensors[name], scale = scaled(value)
            base = name.removesuffix("weight")
            tensors[f"{base}weight_scale"], tensors[f"{base}input_scale"] = scale, torch.tensor(0.0375)
            tensors[f"{base}comfy_quant"] = note
            values[name] = tensors[name].float() * scale
    save(folder / "transformer_fp8_weight_scale.safetensors", tensors)
    results["transformer_fp8_weight_scale"] = values
    return results


def save(path, tensors):
    save_file({k: v.clone().contiguous() for k, v in tensors.items()}, path, metadata={"format": "pt"})


def digest(state):
    """{name: "shape sum sha256"}: the f64 sum in full, 16 digits of the hash of the little-endian f32 bytes."""
    out = {}
    for name, value in sorted(state.items()):
        value = value.float().contiguous().numpy()
        digits = hashlib.sha256(value.astype("<f4").tobytes()).hexdigest()[:16]
        total = math.fsum(value.astype(np.float64).ravel().tolist())
        out[name] = f"{'x'.join(map(str, value.shape))} {total!r} {digits}"
    return out


@torch.no_grad()
def write(folder, schnell, seed):
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed + 1)
    store, digests = Store(), {}

    model = transformer(TINY, generator)
    bfl = {k: v.to(torch.bfloat16) for k, v in bfl_transformer(model.state_dict()).items()}
    save(folder / "transformer_bf16.safetensors", bfl)
    states = {"transformer_bf16": {k: v.float() for k, v in bfl.items()}, **write_fp8_transformers(folder, bfl)}
    positions = torch.from_numpy(f.ids(9, 2, 3)).float()
    inputs = dict(
        hidden_states=torch.randn(1, 6, 64, generator=generator),
        encoder_hidden_states=torch.randn(1, 9, TINY["joint_attention_dim"], generator=generator),
        pooled_projections=torch.randn(1, TINY["pooled_projection_dim"], generator=generator),
    )
    for name, value in inputs.items():
        store.put(f"transformer.in.{name}", value)
    store.put("transformer.in.sigma", torch.tensor([0.5]))
    store.put("transformer.in.guidance", torch.tensor([2.5]))
    store.put("transformer.in.ids", positions, batch=False)
    for name, state in states.items():
        state = diffusers_transformer(state)
        guided = any("guidance" in key for key in state)
        if name == "transformer_bf16":
            assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
        tiny = transformer({**TINY, "guidance_embeds": guided}, generator)
        tiny.load_state_dict(state)
        output = tiny(
            **inputs, timestep=torch.tensor([0.5]), guidance=torch.tensor([2.5]) if guided else None,
            img_ids=positions[9:], txt_ids=positions[:9], return_dict=False,
        )[0]  # fmt: skip
        store.put(f"{name}.output", output)
        digests[name] = digest(state)
    tensor = "single_transformer_blocks.0.attn.to_k.weight"
    state = diffusers_transformer(states["transformer_fp8_scale_weight"])
    store.put(f"transformer_fp8_scale_weight.{tensor}", state[tensor], batch=False)

    vae = load_file(schnell / "vae" / "diffusion_pytorch_model.safetensors")
    ae = {k: v.float() for k, v in ldm_vae(vae).items()}
    save(folder / "ae.safetensors", ae)
    back = convert_ldm_vae_checkpoint(dict(ae), json.loads((schnell / "vae" / "config.json").read_text()))
    assert back.keys() == vae.keys() and all(torch.equal(back[k], v.float()) for k, v in vae.items())
    digests["ae"] = digest(vae)

    clip = load_file(schnell / "text_encoder" / "model.safetensors")
    half = {f"text_model.{k}": v.to(torch.float16) for k, v in clip.items()}
    assert all(torch.equal(half[f"text_model.{k}"].float(), v.float()) for k, v in clip.items())
    half["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save(folder / "clip_l.safetensors", half)
    digests["clip_l"] = digest(clip)

    t5 = load_file(schnell / "text_encoder_2" / "model.safetensors")
    plain = {k: v.to(FP8) for k, v in t5.items()}
    both = {**plain, "encoder.embed_tokens.weight": plain["shared.weight"]}
    save(folder / "t5xxl_fp8_plain.safetensors", both)
    tensors, values = {"scaled_fp8": torch.zeros(0, dtype=FP8)}, {}
    for name, value in t5.items():
        values[name], tensors[name] = value.float(), value
        if value.ndim == 2 and ("SelfAttention" in name or "DenseReluDense" in name) and "bias" not in name:
            tensors[name], scale = scaled(value)
            tensors[f"{name.removesuffix('weight')}scale_weight"] = scale
            values[name] = tensors[name].float() * scale
    save(folder / "t5xxl_fp8_scaled.safetensors", tensors)
    ids = load_file(schnell / "expected.safetensors")["t5.short.ids"].long()[None]
    store.put("t5.ids", ids.int())
    for name, state in (("t5xxl_fp8_plain", {k: v.float() for k, v in plain.items()}), ("t5xxl_fp8_scaled", values)):
        digests[name] = digest(state)
        encoder = T5EncoderModel.from_pretrained(schnell / "text_encoder_2", dtype=torch.float32)
        missing, unexpected = encoder.load_state_dict(state, strict=False)
        assert not unexpected and set(missing) <= {"encoder.embed_tokens.weight"}
        store.put(f"{name}.output", encoder(ids)[0])

    store.save(folder / "expected.safetensors")
    for name in ("transformer_fp8_scale_weight", "transformer_fp8_weight_scale"):  # only what differs from bf16
        digests[name] = {k: v for k, v in digests[name].items() if v != digests["transformer_bf16"][k]}
    config = {**TINY, "in_channels": 64, "axes_dims_rope": list(TINY["axes_dims_rope"])}
    write_json(folder / "expected.json", {"transformer": config, "tensors": digests})
