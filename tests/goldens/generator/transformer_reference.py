"""Reference tensors of one transformer forward, with the inside of the first blocks."""

import numpy as np
import torch

from . import formulas as f
from .store import Hooks


def close(name, actual, expected, tolerance=2e-5):
    """Asserts a relative L2 distance; `expected` is our own recomputation."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, (name, actual.shape, expected.shape)
    error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
    assert error <= tolerance, f"{name}: relative L2 {error:.2e}"


@torch.no_grad()
def transformer_reference(store, model, grid, txt_tokens, sigma, guidance, generator, inner=True):
    """Random inputs of `txt_tokens` text rows and a `grid` = (rows, columns) of image tokens; prefix `transformer.`.

    `inner` keeps the inside of double block 0 and single block 0 beyond the attention."""
    config = model.config
    positions = f.ids(txt_tokens, *grid)
    img_tokens = grid[0] * grid[1]
    randn = lambda *shape: torch.randn(1, *shape, generator=generator)  # noqa: E731
    inputs = dict(
        hidden_states=randn(img_tokens, config.in_channels),
        encoder_hidden_states=randn(txt_tokens, config.joint_attention_dim),
        pooled_projections=torch.randn(1, config.pooled_projection_dim, generator=generator),
        timestep=torch.tensor([sigma]),
        guidance=torch.tensor([guidance]) if config.guidance_embeds else None,
        img_ids=torch.from_numpy(positions[txt_tokens:]).float(),
        txt_ids=torch.from_numpy(positions[:txt_tokens]).float(),
    )
    for name in ("hidden_states", "encoder_hidden_states", "pooled_projections"):
        store.put(f"transformer.in.{name}", inputs[name])
    store.put("transformer.in.sigma", inputs["timestep"])
    if config.guidance_embeds:
        store.put("transformer.in.guidance", inputs["guidance"])
    store.put("transformer.in.ids", torch.from_numpy(positions).float(), batch=False)

    with Hooks() as hooks:
        embed = model.time_text_embed
        hooks.watch("time", embed.timestep_embedder)  # time_proj itself runs twice: time, then guidance
        hooks.watch("vec", embed)
        for name in ("x_embedder", "context_embedder", "pos_embed", "norm_out"):
            hooks.watch(name, getattr(model, name))
        if config.guidance_embeds:
            hooks.watch("guidance", embed.guidance_embedder)
        for i, block in enumerate(model.transformer_blocks):
            hooks.watch(f"double.{i}", block)
        for i, block in enumerate(model.single_transformer_blocks):
            hooks.watch(f"single.{i}", block)
        block = model.transformer_blocks[0]
        for name in ("norm1", "norm1_context", "attn", "ff", "ff_context"):
            hooks.watch(f"d.{name}", getattr(block, name))
        for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k", "to_v", "add_v_proj"):
            hooks.watch(f"d.{name}", getattr(block.attn, name))
        hooks.watch("d.mod", block.norm1.linear)
        hooks.watch("d.mod_context", block.norm1_context.linear)
        hooks.watch("d.out", block.attn.to_out[0])
        hooks.watch("d.out_context", block.attn.to_add_out)
        hooks.watch("d.hidden", block.ff.net[0])
        hooks.watch("d.hidden_context", block.ff_context.net[0])
        single = model.single_transformer_blocks[0]
        hooks.watch("s.norm", single.norm)
        hooks.watch("s.attn", single.attn)
        output = model(**inputs, return_dict=False)[0]
        out = hooks.outputs

        store.put("transformer.sinusoid.time", hooks.inputs["time"][0])
        if config.guidance_embeds:
            store.put("transformer.sinusoid.guidance", hooks.inputs["guidance"][0])
        store.put("transformer.vec", out["vec"])
        store.put("transformer.x_embedder", out["x_embedder"])
        store.put("transformer.context_embedder", out["context_embedder"])
        cos, sin = out["pos_embed"]
        assert torch.equal(cos[:, 0::2], cos[:, 1::2]) and torch.equal(sin[:, 0::2], sin[:, 1::2])
        store.put("transformer.rope.cos", cos[:, 0::2], batch=False)
        store.put("transformer.rope.sin", sin[:, 0::2], batch=False)

        for stream, suffix, norm_q, norm_k, to_v in (
            ("txt", "_context", "norm_added_q", "norm_added_k", "add_v_proj"),
            ("img", "", "norm_q", "norm_k", "to_v"),
        ):
            store.put(f"transformer.double.0.modulation.{stream}", out[f"d.mod{suffix}"].reshape(6, -1), batch=False)
            store.put(f"transformer.double.0.norm1.{stream}", out[f"d.norm1{suffix}"][0])
            store.put(f"transformer.double.0.q_norm.{stream}", out[f"d.{norm_q}"])
            store.put(f"transformer.double.0.k_norm.{stream}", out[f"d.{norm_k}"])
            store.put(f"transformer.double.0.v.{stream}", out[f"d.{to_v}"].reshape(out[f"d.{norm_q}"].shape))
            store.put(f"transformer.double.0.ff_in.{stream}", hooks.inputs[f"d.ff{suffix}"][0])
            store.put(f"transformer.double.0.ff_hidden.{stream}", out[f"d.hidden{suffix}"])
            store.put(f"transformer.double.0.ff.{stream}", out[f"d.ff{suffix}"])
        attention = torch.cat([hooks.inputs["d.out_context"][0], hooks.inputs["d.out"][0]], dim=1)
        store.put("transformer.double.0.attention", attention)
        store.put("transformer.double.0.attn.img", out["d.attn"][0])
        store.put("transformer.double.0.attn.txt", out["d.attn"][1])
        for i in range(len(model.transformer_blocks)):
            store.put(f"transformer.double.{i}.txt", out[f"double.{i}"][0])
            store.put(f"transformer.double.{i}.img", out[f"double.{i}"][1])
        store.put("transformer.single.0.norm", out["s.norm"][0])
        store.put("transformer.single.0.attention", out["s.attn"])
        for i in range(len(model.single_transformer_blocks)):
            store.put(f"transformer.single.{i}.hidden", torch.cat(out[f"single.{i}"], dim=1))
        store.put("transformer.norm_out", out["norm_out"])
        store.put("transformer.output", output)
    check(store, model, positions)
    if not inner:
        for name in list(store.tensors):
            if any(part in name for part in ("q_norm", "k_norm", ".0.v.", "ff_", ".0.ff.", "modulation")):
                del store.tensors[name]


def check(store, model, positions):
    """Recomputes the parts and both kinds of block from spec formulas in f64."""
    config = model.config
    get = lambda name: store["transformer." + name].astype(np.float64)  # noqa: E731
    weights = {k: v.double().numpy() for k, v in model.state_dict().items()}

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def embed(x, name):
        return linear(f.silu(linear(x, f"time_text_embed.{name}.linear_1")), f"time_text_embed.{name}.linear_2")

    time = np.float32(store["transformer.in.sigma"][0]) * np.float32(1000)
    assert np.abs(get("sinusoid.time") - f.sinusoid(time)).max() <= 1e-4
    vec = embed(get("sinusoid.time"), "timestep_embedder")
    if config.guidance_embeds:
        guidance = np.float32(store["transformer.in.guidance"][0]) * np.float32(1000)
        assert np.abs(get("sinusoid.guidance") - f.sinusoid(guidance)).max() <= 4e-4
        vec = vec + embed(get("sinusoid.guidance"), "guidance_embedder")
    vec = vec + embed(get("in.pooled_projections"), "text_embedder")
    close("vec", get("vec"), vec)
    cos, sin = f.rope(positions, config.axes_dims_rope)
    assert np.array_equal(cos, store["transformer.rope.cos"])
    assert np.array_equal(sin, store["transformer.rope.sin"])

    heads, e = config.num_attention_heads, f.silu(get("vec"))
    img = linear(get("in.hidden_states"), "x_embedder")
    txt = linear(get("in.encoder_hidden_states"), "context_embedder")
    split = lambda x: x.reshape(x.shape[0], heads, -1)  # noqa: E731
    for i in range(config.num_layers):
        p = f"transformer_blocks.{i}"
        parts = []
        mods = {}
        for stream, x, norm, q, k, v, nq, nk in (
            ("txt", txt, "norm1_context", "add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k"),
            ("img", img, "norm1", "to_q", "to_k", "to_v", "norm_q", "norm_k"),
        ):
            mods[stream] = np.split(linear(e, f"{p}.{norm}.linear"), 6)
            shift, scale = mods[stream][:2]
            a = f.layer_norm(x) * (1 + scale) + shift
            parts.append(
                (
                    f.rms_norm(split(linear(a, f"{p}.attn.{q}")), weights[f"{p}.attn.{nq}.weight"]),
                    f.rms_norm(split(linear(a, f"{p}.attn.{k}")), weights[f"{p}.attn.{nk}.weight"]),
                    split(linear(a, f"{p}.attn.{v}")),
                )
            )
        q, k, v = (np.concatenate(pair) for pair in zip(*parts))
        joint = f.attention(f.apply_rope(q, cos, sin), f.apply_rope(k, cos, sin), v)
        if i == 0:
            close("attention", get("double.0.attention"), joint)
        n = txt.shape[0]
        outs = []
        for stream, x, rows, proj, ff in (
            ("txt", txt, joint[:n], "to_add_out", "ff_context"),
            ("img", img, joint[n:], "to_out.0", "ff"),
        ):
            _, _, gate, shift_mlp, scale_mlp, gate_mlp = mods[stream]
            x = x + gate * linear(rows, f"{p}.attn.{proj}")
            a = f.layer_norm(x) * (1 + scale_mlp) + shift_mlp
            hidden = f.gelu_tanh(linear(a, f"{p}.{ff}.net.0.proj"))
            outs.append(x + gate_mlp * linear(hidden, f"{p}.{ff}.net.2"))
        txt, img = outs
        close(f"double.{i}.img", get(f"double.{i}.img"), img)
        close(f"double.{i}.txt", get(f"double.{i}.txt"), txt)
    hidden = np.concatenate([txt, img])
    for i in range(config.num_single_layers):
        p = f"single_transformer_blocks.{i}"
        shift, scale, gate = np.split(linear(e, f"{p}.norm.linear"), 3)
        a = f.layer_norm(hidden) * (1 + scale) + shift
        q = f.rms_norm(split(linear(a, f"{p}.attn.to_q")), weights[f"{p}.attn.norm_q.weight"])
        k = f.rms_norm(split(linear(a, f"{p}.attn.to_k")), weights[f"{p}.attn.norm_k.weight"])
        joint = f.attention(f.apply_rope(q, cos, sin), f.apply_rope(k, cos, sin), split(linear(a, f"{p}.attn.to_v")))
        both = np.concatenate([joint, f.gelu_tanh(linear(a, f"{p}.proj_mlp"))], axis=1)
        hidden = hidden + gate * linear(both, f"{p}.proj_out")
        close(f"single.{i}.hidden", get(f"single.{i}.hidden"), hidden)
    scale, shift = np.split(linear(e, "norm_out.linear"), 2)
    img = f.layer_norm(hidden[txt.shape[0] :]) * (1 + scale) + shift
    close("norm_out", get("norm_out"), img)
    close("output", get("output"), linear(img, "proj_out"))
