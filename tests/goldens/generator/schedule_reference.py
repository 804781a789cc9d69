"""Sigmas, timesteps, Euler steps and the bf16 rounding of times, checked bit for bit against the formulas."""

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from . import formulas as f
from .store import Store

STEPS = (1, 2, 3, 4, 8, 20, 28, 30, 50, 100)
TOKENS = (15, 24, 256, 1024, 2304, 4032, 4096, 16384)
CUSTOM = (1.0, 0.9, 0.55, 0.3, 0.05)


def write(path):
    store = Store()
    dev = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    schnell = FlowMatchEulerDiscreteScheduler(shift=1.0)
    static = FlowMatchEulerDiscreteScheduler(shift=3.0)

    def put(name, scheduler, expected, sigmas, **kwargs):
        scheduler.set_timesteps(sigmas=sigmas, **kwargs)
        assert np.array_equal(scheduler.sigmas.numpy(), expected), name
        assert np.array_equal(scheduler.timesteps.numpy(), expected[:-1] * np.float32(1000)), name
        store.put(f"{name}.sigmas", scheduler.sigmas)
        store.put(f"{name}.timesteps", scheduler.timesteps)

    for tokens in TOKENS:
        mu = calculate_shift(tokens, 256, 4096, 0.5, 1.15)
        assert mu == f.mu(tokens)
        store.put(f"dev.tokens{tokens}.mu", torch.tensor([mu], dtype=torch.float64))
        for steps in STEPS:
            base = np.linspace(1.0, 1 / steps, steps)
            put(f"dev.tokens{tokens}.steps{steps}", dev, f.sigmas(steps, mu), base, mu=mu)
        put(f"dev.tokens{tokens}.custom", dev, f.sigmas(0, mu, base=CUSTOM), list(CUSTOM), mu=mu)
    for steps in STEPS:
        base = np.linspace(1.0, 1 / steps, steps)
        put(f"schnell.steps{steps}", schnell, f.sigmas(steps), base)
        put(f"static3.steps{steps}", static, f.sigmas(steps, shift=3.0), base)
    put("schnell.custom", schnell, f.sigmas(0, base=CUSTOM), list(CUSTOM))

    for name in ("dev.tokens4096.steps28", "dev.tokens4096.steps50", "schnell.steps4"):
        timesteps = store.tensors[f"{name}.timesteps"]
        tau = timesteps.bfloat16() / 1000
        time = tau * 1000
        assert tau.dtype == time.dtype == torch.bfloat16
        expected = f.bf16(f.bf16(f.bf16(timesteps.numpy()) / np.float32(1000)) * np.float32(1000))
        assert np.array_equal(time.float().numpy(), expected)
        store.put(f"{name}.time_bf16", time)
    guidance = torch.tensor([0.0, 1.0, 2.5, 3.0, 3.5, 4.0, 7.0, 30.0])
    store.put("guidance", guidance)
    store.put("guidance.time_bf16", guidance.bfloat16() * 1000)

    generator = torch.Generator().manual_seed(5)
    dev.set_timesteps(sigmas=np.linspace(1.0, 1 / 28, 28), mu=f.mu(4096))
    sigmas = dev.sigmas.numpy()
    for dtype, step, kind in ((torch.float32, f.euler, "f32"), (torch.bfloat16, f.euler_bf16, "bf16")):
        latents = torch.randn(256, generator=generator).to(dtype)
        store.put(f"euler.{kind}.0", latents)
        dev._step_index = None
        for i in range(4):
            velocity = torch.randn(256, generator=generator).to(dtype)
            after = dev.step(velocity, dev.timesteps[i], latents, return_dict=False)[0]
            assert after.dtype == dtype
            expected = step(latents.float().numpy(), velocity.float().numpy(), sigmas[i], sigmas[i + 1])
            assert np.array_equal(after.float().numpy(), expected), kind
            store.put(f"euler.{kind}.velocity.{i}", velocity)
            store.put(f"euler.{kind}.{i + 1}", after)
            latents = after
    store.save(path)
