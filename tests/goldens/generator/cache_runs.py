"""Which runs the cache fixtures hold: options of each block list, as `traces.json` repeats them."""

# Off is None everywhere; the other values are those of cache-dit's options.
DEFAULT = dict(
    fn=8, bn=0, threshold=0.08, warmup=8, warmup_interval=1, max_cached=None, max_continuous=None, accumulated=None,
    taylor_order=None, mask=None, mask_policy=None,
)  # fmt: skip
CONSERVATIVE = DEFAULT | dict(fn=4, threshold=0.05, max_continuous=3)
AGGRESSIVE = DEFAULT | dict(fn=1, threshold=0.2, max_continuous=10)
FAST = [int(digit) for digit in "1111110100010000100000100001"]  # cache-dit's mask `fast` of 28 steps

LISTS = {"split-joint": ("double", "single"), "split": ("double", "single"), "unified": ("unified",)}
F32_GUIDANCE = 3.5
# In bf16 the embedder's guidance is 1000 times the scale, rounded: 3.5 becomes 3504, 4 stays 4000.
BF16_GUIDANCE = 4.0
# Runs that also keep what is compared, so that the metric alone can be tested.
WITH_STATES = ("legacy.split-joint.conservative.bf16", "streak.split.aggressive.bf16")

# Cases of both rules in the layouts of two lists.
BOTH = {
    "conservative": CONSERVATIVE,
    "aggressive": AGGRESSIVE,
    "f2b2": DEFAULT | dict(fn=2, bn=2, threshold=0.12, max_continuous=6),
    "k1": AGGRESSIVE | dict(threshold=0.08, max_continuous=1),
    "s5": AGGRESSIVE | dict(threshold=0.05, max_cached=5),
    "taylor1": AGGRESSIVE | dict(taylor_order=1),
    # Hits right after three steps: cache-dit's clock lags by one, so no difference quotient exists before step 3.
    "taylor_early": AGGRESSIVE | dict(warmup=3, taylor_order=2),
    "interval2": AGGRESSIVE | dict(threshold=0.8, warmup_interval=2, max_continuous=8),
    # No warmup and a threshold that accepts everything: step 0 has no reference, diffs are recorded as -1.
    "always": AGGRESSIVE | dict(threshold=1.0, warmup=0, max_continuous=3),
    "off": AGGRESSIVE | dict(threshold=0.0),
}
STREAK = {
    "taylor2": AGGRESSIVE | dict(taylor_order=2),
    "mask_static": DEFAULT | dict(fn=1, mask=FAST, mask_policy="static"),
    "mask_dynamic": DEFAULT | dict(fn=1, threshold=0.12, mask=FAST, mask_policy="dynamic"),
    "accumulated": AGGRESSIVE | dict(accumulated=0.9),
    "per_list": (AGGRESSIVE | dict(fn=2, threshold=0.1), AGGRESSIVE | dict(fn=1, threshold=0.16)),
}
UNIFIED = {
    "default": DEFAULT,
    "aggressive": AGGRESSIVE,
    "taylor1": AGGRESSIVE | dict(taylor_order=1),
    "off": AGGRESSIVE | dict(threshold=0.0),
}


def runs(rule):
    """Every run of a rule: dicts of name, rule, layout, case, dtype, batch, guidance and options by list."""
    out = []

    def add(layout, case, options, dtype="f32", batch=1):
        lists = LISTS[layout]
        options = options if isinstance(options, tuple) else (options,) * len(lists)
        out.append(dict(
            name=f"{rule}.{layout}.{case}.{dtype}", rule=rule, layout=layout, case=case, dtype=dtype, batch=batch,
            guidance=F32_GUIDANCE if dtype == "f32" else BF16_GUIDANCE, options=dict(zip(lists, options)),
        ))  # fmt: skip

    split = "split-joint" if rule == "legacy" else "split"
    for case, options in (BOTH | (STREAK if rule == "streak" else {})).items():
        add(split, case, options)
    if rule == "streak":
        add(split, "batch2", AGGRESSIVE, batch=2)
    add(split, "conservative", CONSERVATIVE, "bf16")
    add(split, "aggressive", AGGRESSIVE, "bf16")
    if rule == "streak":
        for case, options in UNIFIED.items():
            add("unified", case, options)
        add("unified", "default", DEFAULT, "bf16")
    return out
