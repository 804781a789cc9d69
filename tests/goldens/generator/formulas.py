"""The formulas of FLUX in numpy, written without torch, that make.py asserts its references against."""

import numpy as np

F32 = np.float32


def bf16(x):
    """Rounds to the nearest bf16 value, ties to even; returns f32."""
    bits = np.ascontiguousarray(x, dtype=F32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(F32).reshape(np.shape(x))


def sinusoid(t):
    """Time or guidance embedding of width 256 of the scalar `t` (0..1000 or more): cosines, then sines."""
    i = np.arange(128, dtype=F32)
    freq = np.exp(((F32(-9.21034037) * i) / F32(128)).astype(np.float64)).astype(F32)
    angle = (F32(t) * freq).astype(F32).astype(np.float64)
    return np.concatenate([np.cos(angle), np.sin(angle)]).astype(F32)


def ids(txt_tokens, grid_height, grid_width):
    """Position ids [S, 3]: text rows are zero, image rows are (0, y, x)."""
    img = np.zeros((grid_height, grid_width, 3))
    img[..., 1] = np.arange(grid_height)[:, None]
    img[..., 2] = np.arange(grid_width)[None, :]
    return np.concatenate([np.zeros((txt_tokens, 3)), img.reshape(-1, 3)])


def rope(positions, axes):
    """cos and sin tables [S, Dh / 2] in f32, computed in f64."""
    angles = [
        positions[:, a, None] * (1.0 / 10000.0 ** (np.arange(0, d, 2, dtype=np.float64) / d))
        for a, d in enumerate(axes)
    ]
    angles = np.concatenate(angles, axis=1)
    return np.cos(angles).astype(F32), np.sin(angles).astype(F32)


def apply_rope(x, cos, sin):
    """x [S, H, Dh], neighbouring pairs rotated."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = cos[:, None], sin[:, None]
    out = np.empty_like(x)
    out[..., 0::2] = even * cos - odd * sin
    out[..., 1::2] = odd * cos + even * sin
    return out


def pack(latents):
    """[C, h, w] -> [h/2 * w/2, 4 C]; channel c * 4 + dy * 2 + dx."""
    c, h, w = latents.shape
    out = np.empty((h // 2 * (w // 2), c * 4), dtype=latents.dtype)
    for y in range(h // 2):
        for x in range(w // 2):
            for dy in range(2):
                for dx in range(2):
                    out[y * (w // 2) + x, dy * 2 + dx :: 4] = latents[:, 2 * y + dy, 2 * x + dx]
    return out


def mu(tokens):
    """Resolution shift of the dev schedule, f64."""
    slope = (1.15 - 0.5) / (4096 - 256)
    return tokens * slope + (0.5 - slope * 256)


def sigmas(steps, shift_mu=None, shift=1.0, base=None):
    """[steps + 1] f32, the last one 0. `shift_mu` selects dynamic shifting (dev)."""
    base = np.linspace(1.0, 1.0 / steps, steps) if base is None else np.asarray(base, dtype=np.float64)
    base = base.astype(F32)
    if shift_mu is None:
        out = F32(shift) * base / (F32(1) + F32(shift - 1) * base)
    else:
        e = F32(np.exp(shift_mu))
        out = e / (e + (F32(1) / base - F32(1)))
    return np.append(out.astype(F32), F32(0))


def euler(latents, velocity, sigma, sigma_next):
    """One f32 step."""
    return latents + (F32(sigma_next) - F32(sigma)) * velocity


def euler_bf16(latents, velocity, sigma, sigma_next):
    """One step with bf16 latents and velocity: dt, the product and the sum are each rounded."""
    dt = bf16(F32(sigma_next) - F32(sigma))
    return bf16(latents + bf16(dt * velocity))


def t5_bucket(delta):
    """Relative-position bucket of delta = key - query (32 buckets, maximum distance 128)."""
    a = abs(delta)
    bucket = a if a < 8 else 8 + sum(a >= edge for edge in (12, 16, 23, 32, 46, 64, 91))
    return bucket + (16 if delta > 0 else 0)


def rms_norm(x, weight, eps=1e-6):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def layer_norm(x, eps=1e-6):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)


def silu(x):
    return x / (1 + np.exp(-x))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def attention(q, k, v, scale=None, mask=0.0):
    """q, k, v [S, H, Dh] -> [S, H * Dh]; `mask` is added to the scores."""
    scores = np.einsum("qhd,khd->hqk", q, k) * (scale or q.shape[-1] ** -0.5) + mask
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", p, v).reshape(q.shape[0], -1)
