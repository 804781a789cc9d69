"""Normals of torch's CPU generator, checked against the algorithms written out in numpy."""

import numpy as np
import torch

from . import formulas as f
from .store import Store

SEEDS = (0, 42, 2**32 + 7)
SHAPES = ((3,), (5,), (15,), (16,), (17,), (31,), (40,), (1, 16, 4, 6), (2, 16, 2, 2))
FULL = (1, 16, 128, 128)
EDGE = 64


def raw(seed, count):
    """The first `count` 32-bit outputs of MT19937; only the low 32 bits of the seed count."""
    return np.random.RandomState(seed % 2**32)._bit_generator.random_raw(count).astype(np.uint64)


def box_muller_groups(n, uniforms, transform):
    """Groups of 16 values; a ragged end takes 16 fresh uniforms for the last 16 positions."""
    out = np.empty(n, dtype=np.float64)
    for start in range(0, n - 15, 16):
        out[start : start + 16] = transform(uniforms[start : start + 16])
    if n % 16:
        out[n - 16 :] = transform(uniforms[n : n + 16])
    return out


def f32_normals(seed, n):
    """f64 arithmetic on the f32 uniforms: equal to the f32 kernels up to their rounding."""
    uniforms = (raw(seed, n + 16) % 2**24).astype(np.float64) / 2**24

    def transform(u):
        r, theta = np.sqrt(-2 * np.log(1 - u[:8])), 2 * np.pi * u[8:]
        return np.concatenate([r * np.cos(theta), r * np.sin(theta)])

    return box_muller_groups(n, uniforms, transform)


def bf16_legacy_normals(seed, n):
    """PyTorch 2.11 and older: 8-bit uniforms and every operation rounded to bf16."""
    uniforms = (raw(seed, n + 16) % 2**8).astype(np.float64) / 2**8

    def transform(u):
        log = f.bf16(np.log((1 - u[:8]).astype(np.float32)))
        r = f.bf16(np.sqrt(np.float32(-2) * log))
        theta = f.bf16((2 * np.pi * u[8:]).astype(np.float32))
        return np.concatenate([f.bf16(r * f.bf16(np.cos(theta))), f.bf16(r * f.bf16(np.sin(theta)))])

    return box_muller_groups(n, uniforms, transform)


def small_normals(seed, counts):
    """Fewer than 16 elements: f64 pairs, the sine kept for the next value, also across calls."""
    draws, kept, out = iter(raw(seed, 4 * sum(counts) + 8).tolist()), None, []
    uniform = lambda: ((next(draws) << 32 | next(draws)) % 2**53) / 2**53  # noqa: E731
    for _ in range(sum(counts)):
        if kept is not None:
            out.append(kept)
            kept = None
            continue
        u1, u2 = uniform(), uniform()
        r = np.sqrt(-2 * np.log1p(-u2))
        out.append(r * np.cos(2 * np.pi * u1))
        kept = r * np.sin(2 * np.pi * u1)
    return np.array(out)


def expected(seed, n, dtype):
    if n < 16:
        values = small_normals(seed, [n])
        return f.bf16(values.astype(np.float32)) if dtype == torch.bfloat16 else values
    return bf16_legacy_normals(seed, n) if dtype == torch.bfloat16 else f32_normals(seed, n)


def write(path):
    store = Store()
    for seed in SEEDS:
        for dtype, kind in ((torch.float32, "f32"), (torch.bfloat16, "bf16_legacy")):
            for shape in SHAPES:
                value = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
                check(value, expected(seed, value.numel(), dtype), dtype)
                store.put(f"{kind}.seed{seed}.{'x'.join(map(str, shape))}", value, batch=False)
            value = torch.randn(FULL, generator=torch.Generator().manual_seed(seed), dtype=dtype).flatten()
            check(value, expected(seed, value.numel(), dtype), dtype)
            name = f"{kind}.seed{seed}.{'x'.join(map(str, FULL))}"
            store.put(f"{name}.first", value[:EDGE])
            store.put(f"{name}.last", value[-EDGE:])
            generator = torch.Generator().manual_seed(seed)
            two = [torch.randn(n, generator=generator, dtype=dtype) for n in (5, 4)]
            if kind == "f32":
                check(torch.cat(two), small_normals(seed, [5, 4]), dtype)
            store.put(f"{kind}.seed{seed}.5_then_4", torch.cat(two))
            generator = torch.Generator().manual_seed(seed)
            two = [torch.randn(1, 16, 2, 2, generator=generator, dtype=dtype) for _ in range(2)]
            store.put(f"{kind}.seed{seed}.two_images_1x16x2x2", torch.cat(two), batch=False)
    store.save(path)


def check(value, reference, dtype):
    value = value.float().numpy().ravel()
    if dtype == torch.bfloat16:
        assert np.array_equal(value, reference.astype(np.float32))
    else:
        assert np.abs(value - reference).max() <= 4e-6
