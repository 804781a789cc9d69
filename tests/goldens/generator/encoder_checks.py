"""Recomputes the text encoders and the VAE in f64 from the formulas alone, from the weights' names on."""

import numpy as np
import torch
import torch.nn.functional as nn

from . import formulas as f
from .transformer_reference import close


def state(model):
    return {k.removeprefix("text_model."): v.double() for k, v in model.state_dict().items()}


def check_clip(store, model):
    w = {k: v.numpy() for k, v in state(model).items()}
    heads, ids = model.config.num_attention_heads, store["clip.ids"]
    linear = lambda x, name: x @ w[f"{name}.weight"].T + w[f"{name}.bias"]  # noqa: E731
    norm = lambda x, name: f.layer_norm(x, 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]  # noqa: E731
    x = w["embeddings.token_embedding.weight"][ids] + w["embeddings.position_embedding.weight"]
    mask = np.triu(np.full((77, 77), -np.inf), 1)
    for i in range(model.config.num_hidden_layers):
        p = f"encoder.layers.{i}"
        a = norm(x, f"{p}.layer_norm1")
        q, k, v = (linear(a, f"{p}.self_attn.{n}_proj").reshape(77, heads, -1) for n in "qkv")
        x = x + linear(f.attention(q, k, v, mask=mask), f"{p}.self_attn.out_proj")
        hidden = linear(norm(x, f"{p}.layer_norm2"), f"{p}.mlp.fc1")
        x = x + linear(hidden / (1 + np.exp(-1.702 * hidden)), f"{p}.mlp.fc2")
        close(f"clip.layer.{i}", store[f"clip.layer.{i}"], x)
    x = norm(x, "final_layer_norm")
    close("clip.last_hidden_state", store["clip.last_hidden_state"], x)
    close("clip.pooled", store["clip.pooled"], x[ids.argmax()])


def check_t5(store, model, kind):
    w = {k.removeprefix("encoder."): v.numpy() for k, v in state(model).items()}
    heads, ids = model.config.num_heads, store[f"t5.{kind}.ids"]
    n = len(ids)
    table = w["block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    buckets = np.array([[f.t5_bucket(k - q) for k in range(n)] for q in range(n)])
    bias = table[buckets].transpose(2, 0, 1)
    x = w["shared.weight"][ids]
    for i in range(model.config.num_layers):
        p = f"block.{i}.layer"
        a = f.rms_norm(x, w[f"{p}.0.layer_norm.weight"])
        q, k, v = ((a @ w[f"{p}.0.SelfAttention.{m}.weight"].T).reshape(n, heads, -1) for m in "qkv")
        x = x + f.attention(q, k, v, scale=1.0, mask=bias) @ w[f"{p}.0.SelfAttention.o.weight"].T
        a = f.rms_norm(x, w[f"{p}.1.layer_norm.weight"])
        wi_0, wi_1, wo = (w[f"{p}.1.DenseReluDense.{m}.weight"] for m in ("wi_0", "wi_1", "wo"))
        x = x + (f.gelu_tanh(a @ wi_0.T) * (a @ wi_1.T)) @ wo.T
        if kind == "short":
            close(f"t5.short.block.{i}", store[f"t5.short.block.{i}"], x)
    close(f"t5.{kind}.output", store[f"t5.{kind}.output"], f.rms_norm(x, w["final_layer_norm.weight"]))


class Vae:
    """Both halves of the autoencoder over a state dictionary with diffusers names."""

    def __init__(self, model):
        self.w, self.config = state(model), model.config

    def conv(self, x, name, **kwargs):
        return nn.conv2d(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"], **{"padding": 1, **kwargs})

    def norm(self, x, name):
        groups = self.config.norm_num_groups
        g = x.reshape(groups, -1)
        g = (g - g.mean(1, keepdim=True)) / (g.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        return g.reshape(x.shape) * self.w[f"{name}.weight"][:, None, None] + self.w[f"{name}.bias"][:, None, None]

    def resnet(self, x, name):
        y = self.conv(nn.silu(self.norm(x, f"{name}.norm1")), f"{name}.conv1")
        y = self.conv(nn.silu(self.norm(y, f"{name}.norm2")), f"{name}.conv2")
        if f"{name}.conv_shortcut.weight" in self.w:
            x = self.conv(x, f"{name}.conv_shortcut", padding=0)
        return x + y

    def middle(self, x, name):
        x = self.resnet(x, f"{name}.resnets.0")
        a, p = f"{name}.attentions.0", x.flatten(2)[0]
        rows = self.norm(x, f"{a}.group_norm").flatten(2)[0].T
        q, k, v = (rows @ self.w[f"{a}.to_{n}.weight"].T + self.w[f"{a}.to_{n}.bias"] for n in "qkv")
        rows = torch.softmax(q @ k.T / q.shape[1] ** 0.5, dim=1) @ v
        rows = rows @ self.w[f"{a}.to_out.0.weight"].T + self.w[f"{a}.to_out.0.bias"]
        return self.resnet((p + rows.T).reshape(x.shape), f"{name}.resnets.1")

    def decode(self, z):
        x = self.middle(self.conv(z, "decoder.conv_in"), "decoder.mid_block")
        for i in range(4):
            for j in range(self.config.layers_per_block + 1):
                x = self.resnet(x, f"decoder.up_blocks.{i}.resnets.{j}")
            if i < 3:
                x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
                x = self.conv(x, f"decoder.up_blocks.{i}.upsamplers.0.conv")
        return self.conv(nn.silu(self.norm(x, "decoder.conv_norm_out")), "decoder.conv_out")

    def encode(self, image):
        x = self.conv(image, "encoder.conv_in")
        for i in range(4):
            for j in range(self.config.layers_per_block):
                x = self.resnet(x, f"encoder.down_blocks.{i}.resnets.{j}")
            if i < 3:
                x = nn.pad(x, (0, 1, 0, 1))
                x = self.conv(x, f"encoder.down_blocks.{i}.downsamplers.0.conv", stride=2, padding=0)
        x = self.middle(x, "encoder.mid_block")
        return self.conv(nn.silu(self.norm(x, "encoder.conv_norm_out")), "encoder.conv_out")


def check_vae(store, model):
    vae = Vae(model)
    z = store.tensors["vae.decode.latents"].double()[None] / 0.3611 + 0.1159
    close("vae.decode.image", store["vae.decode.image"], vae.decode(z)[0])
    mean, logvar = vae.encode(store.tensors["vae.encode.image"].double()[None])[0].chunk(2)
    close("vae.encode.mean", store["vae.encode.mean"], mean)
    close("vae.encode.logvar", store["vae.encode.logvar"], logvar.clamp(-30, 20))
    close("vae.encode.latents", store["vae.encode.latents"], (mean - 0.1159) * 0.3611)


def check_tiling(model, z, image):
    """A tiled decoding, every tile laid on its place in the picture.

    Tile k of an axis covers latents 0.75 k n to 0.75 k n + n, and the picture shows of it what is before tile k + 1. Over
    the overlap with its neighbours, as they are after their own blending, a tile fades in: from above, then from the left."""
    vae, n = Vae(model), model.config.sample_size // 8
    height, width = image.shape[2:]
    stride = 8 * 3 * n // 4
    blended, expected = {}, torch.zeros(image.shape[1:], dtype=torch.float64)
    for i in range(-(-height // stride)):
        for j in range(-(-width // stride)):
            top, left = i * stride, j * stride
            z_tile = z.double()[:, :, top // 8 : top // 8 + n, left // 8 : left // 8 + n]
            tile = torch.full_like(expected, torch.nan)
            tile[:, top : top + 8 * n, left : left + 8 * n] = vae.decode(z_tile)[0]
            end = min(top - stride + 8 * n, height)
            for y in range(top, end if i > 0 else top):
                fade = (y - top) / (end - top)
                tile[:, y] = (1 - fade) * blended[i - 1, j][:, y] + fade * tile[:, y]
            end = min(left - stride + 8 * n, width)
            for x in range(left, end if j > 0 else left):
                fade = (x - left) / (end - left)
                tile[:, :, x] = (1 - fade) * blended[i, j - 1][:, :, x] + fade * tile[:, :, x]
            blended[i, j] = tile
            expected[:, top:, left:] = tile[:, top:, left:]
    close("tiled decoding", image[0].numpy(), expected)
