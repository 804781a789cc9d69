"""Writes the cache fixtures in `cache/`: `python tests/goldens/make_cache.py --rule legacy` (or `streak`).

cache-dit counts hits by one rule up to 1.5.2 and by another since, and the two need different diffusers: one
environment each, of requirements-cache-legacy.txt and requirements-cache-streak.txt. A call replaces its rule's runs in
`cache/traces.json` and `cache/expected.safetensors` and keeps the other's; README.md describes the files."""

import os
import sys

sys.dont_write_bytecode = True
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CACHE_DIT_LOG_LEVEL"] = "error"

import argparse  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import types  # noqa: E402
import warnings  # noqa: E402
from pathlib import Path  # noqa: E402

warnings.filterwarnings("ignore")
import diffusers  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from generator import cache_model, cache_reference, cache_rules  # noqa: E402
from generator.cache_runs import BF16_GUIDANCE, F32_GUIDANCE, WITH_STATES, runs  # noqa: E402

VERSIONS = {
    "legacy": {"cache_dit": "1.0.9", "diffusers": "0.34.0", "torch": "2.7.1"},
    "streak": {"cache_dit": "1.5.3", "diffusers": "0.36.0", "torch": "2.7.1"},
}
MARGIN = 2e-3  # of a compared f32 diff from its threshold, so that other f32 code decides alike


def import_cache_dit(rule):
    """cache-dit and its context manager. 1.0.9 imports a model that diffusers 0.34 lacks: placeholders stand for it."""
    if rule == "legacy":
        blocks = types.ModuleType("diffusers.models.transformers.transformer_qwenimage")
        blocks.QwenImageTransformerBlock = type("QwenImageTransformerBlock", (), {})
        blocks.Transformer2DModelOutput = type("Transformer2DModelOutput", (), {})
        sys.modules[blocks.__name__] = blocks
        diffusers.QwenImageTransformer2DModel = type("QwenImageTransformer2DModel", (), {})
    import cache_dit

    found = {"cache_dit": cache_dit.__version__, "diffusers": diffusers.__version__}
    found["torch"] = torch.__version__.split("+")[0]
    assert found == VERSIONS[rule], f"{rule} needs {VERSIONS[rule]}, found {found}"
    if rule == "legacy":
        from cache_dit.cache_factory.cache_contexts.cache_manager import CachedContextManager
    else:
        from cache_dit.caching.cache_contexts.cache_manager import CachedContextManager
    return cache_dit, CachedContextManager


def plain_latents(weights, inputs):
    """Final latents without any cache, by dtype."""
    return {
        dtype: cache_reference.generate(cache_reference.pipeline(weights, dtype), inputs, 1, guidance)
        for dtype, guidance in (("f32", F32_GUIDANCE), ("bf16", BF16_GUIDANCE))
    }


def squeeze(tensor, batch, axis=0):
    return (tensor.squeeze(axis) if batch == 1 else tensor).contiguous()


def record_all(rule, weights, inputs, plain):
    """All runs of a rule as entries of traces.json and tensors."""
    cache_dit, manager = import_cache_dit(rule)
    entries, tensors = [], {}
    for run in runs(rule):
        latents, traces, states = cache_reference.record(cache_dit, manager, weights, inputs, run)
        if run["case"] == "off":
            assert torch.equal(latents, plain[run["dtype"]]), f"{run['name']}: the cache changes what it should not"
        tensors[f"{run['name']}.latents"] = squeeze(latents, run["batch"])
        lists = []
        for name, trace in traces.items():
            h_in, h_f = (state.float().numpy() for state in states[name])
            keep = run["name"] in WITH_STATES
            margin = cache_rules.check_list(run, name, trace, h_in, h_f, strict=keep)
            far = run["dtype"] != "f32" or margin > MARGIN
            assert far, f"{run['name']} {name}: a diff lies {margin:.1e} from its threshold"
            if keep:
                for key, state in zip(("h_in", "h_f"), states[name]):
                    tensors[f"{run['name']}.{name}.{key}"] = squeeze(state, run["batch"], axis=1)
            margin = None if margin == float("inf") else round(margin, 6)
            head = {"name": name, "blocks": trace["blocks"], "options": run["options"][name], "margin": margin}
            lists.append({**head, **trace})
        head = {key: run[key] for key in ("name", "rule", "layout", "case", "dtype", "batch", "guidance")}
        entries.append({**head, "versions": VERSIONS[rule], "lists": lists})
    return entries, tensors


def write_traces(path, entries):
    """JSON, indented down to the lists of steps, with one step on a line and other leaves on theirs."""

    def text(value, depth=0):
        pad = " " * depth
        nested = isinstance(value, (dict, list)) and any(isinstance(v, (dict, list)) for v in members(value))
        is_step = isinstance(value, dict) and "reason" in value
        if not nested or is_step:
            return json.dumps(value)
        if isinstance(value, dict):
            lines = [f"{pad} {json.dumps(key)}: {text(v, depth + 1)}" for key, v in value.items()]
            return "{\n" + ",\n".join(lines) + f"\n{pad}}}"
        return "[\n" + ",\n".join(f"{pad} {text(v, depth + 1)}" for v in value) + f"\n{pad}]"

    def members(value):
        return value.values() if isinstance(value, dict) else value

    path.write_text(text({"runs": entries}) + "\n", encoding="utf-8")


def merge(root, rule, entries, tensors, shared):
    """Adds a rule's runs to those of the other rule, which must have had the same inputs and plain results."""
    traces, expected = root / "traces.json", root / "expected.safetensors"
    other = "streak" if rule == "legacy" else "legacy"
    if traces.exists() and expected.exists():
        kept = [entry for entry in json.loads(traces.read_text(encoding="utf-8"))["runs"] if entry["rule"] == other]
        old = load_file(expected)
        for name in shared if kept else ():
            assert torch.equal(old[name], shared[name]), f"{name} differs between the rules: write both anew"
        entries = entries + kept
        tensors = {**tensors, **{name: value for name, value in old.items() if name.startswith(f"{other}.")}}
    entries.sort(key=lambda entry: entry["rule"])  # legacy first; the order within a rule stays
    write_traces(traces, entries)
    save_file({**shared, **tensors}, expected, metadata={"format": "pt"})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rule", choices=VERSIONS, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "cache", help="folder to write into")
    arguments = parser.parse_args()
    rule, root = arguments.rule, arguments.out
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    diffusers.utils.logging.set_verbosity_error()
    logging.disable(logging.WARNING)

    with torch.no_grad():
        transformer, inputs = cache_model.transformer(), cache_model.inputs()
        weights = transformer.state_dict()
        plain = plain_latents(weights, inputs)
        entries, tensors = record_all(rule, weights, inputs, plain)
    shared = {"plain.latents": plain["f32"][0]}
    for key, value in inputs.items():  # items of the batch by name: no tensor but those of the run of two has a batch
        if key in cache_model.BATCHED:
            shared[key], shared[f"second.{key}"] = (item.contiguous() for item in value)
        else:
            shared[key] = value
    # Between diffusers 0.34 and 0.36 the f32 result is the same to the last bit, the bf16 result is not.
    tensors[f"{rule}.plain.bf16.latents"] = plain["bf16"][0]
    cache_model.write_transformer(root / "transformer", transformer)
    merge(root, rule, entries, tensors, shared)
    for path in root.rglob("*.*"):  # some libraries write files only their owner can read
        path.chmod(0o644)


if __name__ == "__main__":
    main()
