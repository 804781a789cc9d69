"""The two text encoders in plain PyTorch, with the parameter names transformers' T5EncoderModel and CLIPTextModel use.

Small enough to be trained together with the transformer by the diffusion loss alone.
"""

import json
import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class T5Config:
    vocab_size: int
    d_model: int = 128
    d_kv: int = 64
    num_heads: int = 2
    d_ff: int = 256
    num_layers: int = 2

    def to_json(self):
        fixed = {
            "architectures": ["T5EncoderModel"], "model_type": "t5", "feed_forward_proj": "gated-gelu",
            "dense_act_fn": "gelu_new", "is_gated_act": True, "is_encoder_decoder": True, "use_cache": False,
            "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "dropout_rate": 0.0,
            "layer_norm_epsilon": 1e-6, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
            "tie_word_embeddings": False,
        }  # fmt: skip
        return json.dumps(fixed | asdict(self), indent=2) + "\n"


@dataclass
class ClipConfig:
    vocab_size: int
    hidden_size: int = 128
    intermediate_size: int = 256
    num_hidden_layers: int = 2
    num_attention_heads: int = 2
    max_position_embeddings: int = 77

    def to_json(self):
        last = self.vocab_size - 1
        fixed = {
            "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5, "projection_dim": self.hidden_size, "attention_dropout": 0.0,
            "bos_token_id": last - 1, "eos_token_id": last, "pad_token_id": last,
        }  # fmt: skip
        return json.dumps(fixed | asdict(self), indent=2) + "\n"


class T5Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return F.rms_norm(x.float(), x.shape[-1:], self.weight.float(), eps=1e-6)


class T5Attention(nn.Module):
    def __init__(self, config, has_bias):
        super().__init__()
        inner = config.d_kv * config.num_heads
        self.d_kv = config.d_kv
        self.q, self.k, self.v = (nn.Linear(config.d_model, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, config.d_model, bias=False)
        if has_bias:
            self.relative_attention_bias = nn.Embedding(32, config.num_heads)

    def forward(self, x, bias):
        q, k, v = (proj(x).unflatten(-1, (-1, self.d_kv)).transpose(1, 2) for proj in (self.q, self.k, self.v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=1.0)
        return self.o(out.transpose(1, 2).flatten(2))


class T5Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wi_0 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wi_1 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x):
        return self.wo(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


class T5AttentionLayer(nn.Module):
    def __init__(self, config, has_bias):
        super().__init__()
        self.SelfAttention = T5Attention(config, has_bias)
        self.layer_norm = T5Norm(config.d_model)


class T5MlpLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.DenseReluDense = T5Mlp(config)
        self.layer_norm = T5Norm(config.d_model)


class T5Block(nn.Module):
    def __init__(self, config, first):
        super().__init__()
        self.layer = nn.ModuleList([T5AttentionLayer(config, first), T5MlpLayer(config)])

    def forward(self, x, bias):
        attention, mlp = self.layer
        x = x + attention.SelfAttention(attention.layer_norm(x), bias)
        return x + mlp.DenseReluDense(mlp.layer_norm(x))


class T5Stack(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.block = nn.ModuleList(T5Block(config, i == 0) for i in range(config.num_layers))
        self.final_layer_norm = T5Norm(config.d_model)


def position_buckets(length):
    """The bidirectional relative-position buckets of T5, [query, key]."""
    offset = torch.arange(length)[None] - torch.arange(length)[:, None]
    distance = offset.abs()
    far = 8 + (torch.log(distance.clamp(min=1) / 8) / math.log(16) * 8).trunc().long().clamp(max=7)
    return torch.where(distance < 8, distance, far) + 16 * (offset > 0)


class T5Encoder(nn.Module):
    """Every token, padding included, is attended to and returned: FLUX.1 passes no mask."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = T5Stack(config)

    def init_weights(self):
        for name, parameter in self.named_parameters():
            if name == "shared.weight":
                nn.init.normal_(parameter, std=1.0)
            elif "relative_attention_bias" in name:
                nn.init.normal_(parameter, std=0.5)
            elif parameter.ndim == 2:
                # T5 divides no score by sqrt(d), so the queries start that much smaller.
                scale = self.config.d_kv**-0.5 if "SelfAttention.q." in name else 1.0
                nn.init.normal_(parameter, std=scale * parameter.shape[1] ** -0.5)
        return self

    def forward(self, ids):
        x = self.shared(ids)
        buckets = position_buckets(ids.shape[1]).to(ids.device)
        table = self.encoder.block[0].layer[0].SelfAttention.relative_attention_bias
        bias = table(buckets).permute(2, 0, 1)[None]
        for block in self.encoder.block:
            x = block(x, bias)
        return self.encoder.final_layer_norm(x)


class ClipAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden = config.hidden_size
        self.head_dim = hidden // config.num_attention_heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(hidden, hidden) for _ in range(4))

    def forward(self, x):
        q, k, v = (
            proj(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class ClipMlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x):
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))


class ClipLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.self_attn = ClipAttention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size)
        self.mlp = ClipMlp(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class ClipEmbeddings(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)


class ClipStack(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layers = nn.ModuleList(ClipLayer(config) for _ in range(config.num_hidden_layers))


class ClipTextModel(nn.Module):
    """Inner module of CLIPTextModel."""

    def __init__(self, config):
        super().__init__()
        self.embeddings = ClipEmbeddings(config)
        self.encoder = ClipStack(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size)


class ClipEncoder(nn.Module):
    """Returns the pooled vector: the row of the first end token, which is the largest id.

    The mask is causal, so ids may be cut after the longest caption without changing the result.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.text_model = ClipTextModel(config)

    def init_weights(self):
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.text_model.embeddings.token_embedding.weight, std=0.3)
        nn.init.normal_(self.text_model.embeddings.position_embedding.weight, std=0.1)
        return self

    def forward(self, ids):
        model = self.text_model
        x = model.embeddings.token_embedding(ids) + model.embeddings.position_embedding.weight[: ids.shape[1]]
        for layer in model.encoder.layers:
            x = layer(x)
        x = model.final_layer_norm(x)
        return x[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)]
