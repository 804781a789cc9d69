"""Reference tensors and token ids of both text encoders."""

import torch
from tokenizers import Tokenizer

from . import formulas as f
from .corpus import PROMPTS, SPECIAL_PROMPTS
from .store import Hooks

CLIP_PROMPT = "It's a naïve café, 24 HOURS open: a red fox sleeping under the northern lights"
T5_SHORT, T5_LONG = 16, 200


def token_ids(tokenizer, text, length=None):
    """Ids without padding; with `length` truncated and padded as FluxPipeline asks for it."""
    if length is None:
        return tokenizer(text).input_ids
    return tokenizer(text, padding="max_length", max_length=length, truncation=True).input_ids


def token_table(pipe, t5_length):
    """JSON value: every prompt's ids in both tokenizers; very long ones only truncated."""

    def entry(text):
        row = {"text": text, "clip": token_ids(pipe.tokenizer, text), "t5": token_ids(pipe.tokenizer_2, text)}
        if len(row["clip"]) > 77:
            row["clip"] = token_ids(pipe.tokenizer, text, 77)
            row["clip_truncated"] = True
        if len(row["t5"]) > t5_length:
            row["t5"] = token_ids(pipe.tokenizer_2, text, t5_length)
            row["t5_truncated"] = True
        return row

    texts = [entry(text) for text in PROMPTS]
    special = [entry(text) for text in SPECIAL_PROMPTS]
    padded = [
        {"text": text, "clip_77": token_ids(pipe.tokenizer, text, 77), "t5_24": token_ids(pipe.tokenizer_2, text, 24)}
        for text in ("", PROMPTS[3], PROMPTS[4])
    ]
    return {
        "t5_truncated_at": t5_length,
        "clip_start_end": [pipe.tokenizer.bos_token_id, pipe.tokenizer.eos_token_id],
        "t5_pad_end_unknown": [pipe.tokenizer_2.pad_token_id, pipe.tokenizer_2.eos_token_id, 2],
        "prompts": texts,
        "special": special,
        "padded": padded,
    }


def check_tokenizer_files(pipe, folder):
    """Where a tokenizer.json exists, the plain `tokenizers` library must agree with transformers' class."""
    for name, tokenizer in (("tokenizer", pipe.tokenizer), ("tokenizer_2", pipe.tokenizer_2)):
        path = folder / name / "tokenizer.json"
        if path.exists():
            raw = Tokenizer.from_file(str(path))
            for text in PROMPTS + SPECIAL_PROMPTS:
                assert raw.encode(text).ids == token_ids(tokenizer, text), (str(name), text)


@torch.no_grad()
def clip_reference(store, pipe, inner):
    model, ids = pipe.text_encoder, torch.tensor([token_ids(pipe.tokenizer, CLIP_PROMPT, 77)])
    base = getattr(model, "text_model", model)
    with Hooks() as hooks:
        hooks.watch("embeddings", base.embeddings)
        for i, layer in enumerate(base.encoder.layers):
            hooks.watch(f"layer.{i}", layer)
        first = base.encoder.layers[0]
        for key, name in (("norm1", "layer_norm1"), ("attn", "self_attn"), ("norm2", "layer_norm2"), ("mlp", "mlp")):
            hooks.watch(key, getattr(first, name))
        result = model(ids)
        out = hooks.outputs
    store.put("clip.ids", ids.int())
    store.put("clip.embeddings", out["embeddings"])
    if inner:
        store.put("clip.layer.0.norm1", out["norm1"])
        store.put("clip.layer.0.attn", out["attn"][0])
        store.put("clip.layer.0.norm2", out["norm2"])
        store.put("clip.layer.0.mlp", out["mlp"])
    for i in range(len(base.encoder.layers)):
        value = out[f"layer.{i}"]
        store.put(f"clip.layer.{i}", value[0] if isinstance(value, tuple) else value)
    store.put("clip.last_hidden_state", result.last_hidden_state)
    store.put("clip.pooled", result.pooler_output)
    batch = torch.tensor([token_ids(pipe.tokenizer, text, 77) for text in PROMPTS])
    store.put("clip.prompts.ids", batch.int(), batch=False)
    store.put("clip.prompts.pooled", model(batch).pooler_output, batch=False)
    end = pipe.tokenizer.eos_token_id
    row = ids[0].tolist().index(end)
    assert torch.equal(result.pooler_output[0], result.last_hidden_state[0, row])


@torch.no_grad()
def t5_reference(store, pipe, inner):
    encoder = pipe.text_encoder_2.encoder
    first = encoder.block[0]
    attention = first.layer[0].SelfAttention
    table = attention.relative_attention_bias.weight
    deltas = range(1 - T5_LONG, T5_LONG)
    bias = torch.stack([table[f.t5_bucket(delta)] for delta in deltas], dim=1)
    full = attention.compute_bias(T5_LONG, T5_LONG)[0]
    for q in range(T5_LONG):
        assert torch.equal(full[:, q], bias[:, T5_LONG - 1 - q : 2 * T5_LONG - 1 - q])
    store.put("t5.position_bias", bias, batch=False)

    prompts = {"short": (CLIP_PROMPT, T5_SHORT), "long": (PROMPTS[-1], T5_LONG)}
    for kind, (text, length) in prompts.items():
        if kind == "long" and not inner:
            continue
        ids = torch.tensor([token_ids(pipe.tokenizer_2, text, length)])
        with Hooks() as hooks:
            for i, block in enumerate(encoder.block):
                hooks.watch(f"block.{i}", block)
            feed = first.layer[1].DenseReluDense
            for key, module in (("embed", encoder.embed_tokens), ("norm1", first.layer[0].layer_norm),
                                ("attn", attention), ("norm2", first.layer[1].layer_norm), ("wo", feed.wo),
                                ("final", encoder.final_layer_norm)):  # fmt: skip
                hooks.watch(key, module)
            result = pipe.text_encoder_2(ids)[0]
            out = hooks.outputs
        store.put(f"t5.{kind}.ids", ids.int())
        if kind == "short":
            store.put("t5.short.embeddings", out["embed"])
            store.put("t5.short.block.0.norm1", out["norm1"])
            store.put("t5.short.block.0.attn", out["attn"][0])
            store.put("t5.short.block.0.norm2", out["norm2"])
            store.put("t5.short.block.0.ff_hidden", hooks.inputs["wo"][0])
            store.put("t5.short.block.0.ff", out["wo"])
            for i in range(len(encoder.block)):
                value = out[f"block.{i}"]
                store.put(f"t5.short.block.{i}", value[0] if isinstance(value, tuple) else value)
        store.put(f"t5.{kind}.output", result)
