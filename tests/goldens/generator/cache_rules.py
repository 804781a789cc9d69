"""The decision rule and the metric of the cache in plain Python and numpy, written without cache-dit, that the recorded
runs are checked against."""

import math

import numpy as np

from . import formulas as f

BF16_TIE = 4e-6  # f32 sums in another order stay within this relative distance


def simulate(options, rule, steps, diff):
    """Decides a list's steps from `diff(t)`, which is asked only where two residuals are compared.

    Returns per step (reason, diff or None, c before, c after)."""
    cached, compared, out = [], 0.0, []
    c, reference = 0, False
    mask = options["mask"]
    warmup = options["warmup"]
    if mask is not None:
        warmup = min(warmup, (mask + [0]).index(0))
    for t in range(steps):
        if rule == "streak" and (not cached or cached[-1] != t - 1):
            c = 0
        before, d = c, None
        if t < warmup and t % options["warmup_interval"] == 0:
            reason = "warmup"
        elif mask is not None and t < len(mask) and mask[t] == 1:
            reason = "mask"
        elif mask is not None and options["mask_policy"] == "static":
            reason = "static-hit"
        elif options["max_cached"] is not None and len(cached) >= options["max_cached"]:
            reason = "max-cached"
        elif options["max_continuous"] is not None and c >= options["max_continuous"]:
            reason = "forced"
            c = 0 if rule == "legacy" else c
        elif options["accumulated"] is not None and compared >= options["accumulated"]:
            reason = "accumulated"
        elif options["threshold"] <= 0:
            reason = "no-threshold"
        elif not reference:
            reason = "no-reference"
        else:
            d = -1.0 if options["threshold"] >= 1 else diff(t)
            compared += max(d, 0.0)
            reason = "hit" if d < options["threshold"] else "miss"
        if reason in ("hit", "static-hit"):
            if rule == "streak" or not cached:
                c += 1
            elif cached[-1] == t - 1:
                c = 2 if c == 0 else c + 1
            cached.append(t)
        else:
            reference = True
        out.append((reason, d, before, c))
    return out


def mean_bf16(x):
    """Mean as torch rounds it, and whether sums in another order could round to another value."""
    mean = np.abs(x).astype(np.float64).mean()
    low, high = (f.bf16(np.float32(mean * (1 + s * BF16_TIE))) for s in (-1, 1))
    return f.bf16(np.float32(mean)), low == high


def difference(reference, residual, dtype):
    """The metric of two residuals (f32 arrays); in bf16 also says if every f32 summation gives these bits."""
    if dtype == "f32":
        d = np.abs(reference.astype(np.float64) - residual).mean() / np.abs(reference).astype(np.float64).mean()
        return float(d), True
    top, sure = mean_bf16(f.bf16(reference - residual))
    bottom, sure_too = mean_bf16(reference)
    return float(f.bf16(np.float32(top) / np.float32(bottom))), sure and sure_too


def check_list(run, name, trace, h_in, h_f, strict):
    """Holds a recorded list to the rule and the metric; `strict` also refuses bf16 sums near a tie.

    `h_in` and `h_f` are f32 arrays [T, ...]. Returns the smallest |d / threshold - 1| of the compared steps."""
    options, steps = run["options"][name], trace["steps"]
    where = f"{run['name']} {name}"
    recorded = {step["t"]: step["diff"] for step in steps if step["diff"] is not None}
    expected = simulate(options, run["rule"], len(steps), lambda t: recorded[t])
    reference, margin = None, math.inf
    for step, (reason, d, before, after) in zip(steps, expected, strict=True):
        found = (step["reason"], step["diff"], *step["c"])
        assert found == (reason, d, before, after), (where, step, (reason, d, before, after))
        residual = h_f[step["t"]] - h_in[step["t"]]
        residual = f.bf16(residual) if run["dtype"] == "bf16" else residual
        if d is not None and d >= 0:
            own, sure = difference(reference, residual, run["dtype"])
            tolerance = 0 if run["dtype"] == "bf16" else 1e-5 * d
            assert abs(own - d) <= tolerance, (where, step, own)
            assert sure or not strict, (where, step, "the mean lies near a rounding tie")
            margin = min(margin, abs(d / options["threshold"] - 1))
        if reason not in ("hit", "static-hit"):
            reference = residual
    return margin
