"""Runs FluxPipeline under cache-dit and records every decision of every block list."""

import contextlib

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

from . import cache_model as model
from . import formulas as f

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def pipeline(weights, dtype):
    """A pipeline with the transformer alone, of a class of its own: cache-dit patches the class, and patches once."""
    transformer = model.FluxTransformer2DModel(**model.CONFIG)
    transformer.load_state_dict(weights)
    own_class = type("FluxPipeline", (FluxPipeline,), {})
    pipe = own_class(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True), vae=None, text_encoder=None,
        tokenizer=None, text_encoder_2=None, tokenizer_2=None, transformer=transformer.to(DTYPES[dtype]).eval(),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generate(pipe, inputs, batch, guidance):
    """Final packed latents; every Euler step is held to the formulas, bit for bit."""
    dtype = pipe.transformer.dtype
    rounded = {key: inputs[key][:batch].to(dtype) for key in model.BATCHED}
    euler = f.euler if dtype == torch.float32 else f.euler_bf16
    sigmas, original, count = inputs["sigmas"].numpy(), pipe.scheduler.step, 0

    def step(velocity, timestep, latents, **kwargs):
        nonlocal count
        result = original(velocity, timestep, latents, **kwargs)
        expected = euler(latents.float().numpy(), velocity.float().numpy(), sigmas[count], sigmas[count + 1])
        assert np.array_equal(result[0].float().numpy(), expected), f"Euler step {count}"
        count += 1
        return result

    pipe.scheduler.step = step
    latents = pipe(
        prompt_embeds=rounded["prompt_embeds"], pooled_prompt_embeds=rounded["pooled"], latents=rounded["latents"],
        height=model.GRID[0] * 16, width=model.GRID[1] * 16, num_inference_steps=model.STEPS,
        guidance_scale=guidance, output_type="latent",
    ).images  # fmt: skip
    assert count == model.STEPS and torch.equal(pipe.scheduler.sigmas, inputs["sigmas"])
    assert torch.equal(pipe.scheduler.timesteps, inputs["timesteps"])
    return latents


def config(cache_dit, options):
    """cache-dit's options of one list; the older version lacks those that are off here anyway."""
    fields = dict(
        Fn_compute_blocks=options["fn"], Bn_compute_blocks=options["bn"], residual_diff_threshold=options["threshold"],
        max_warmup_steps=options["warmup"], warmup_interval=options["warmup_interval"],
        max_cached_steps=-1 if options["max_cached"] is None else options["max_cached"],
        max_continuous_cached_steps=-1 if options["max_continuous"] is None else options["max_continuous"],
    )  # fmt: skip
    if options["accumulated"] is not None:
        fields["max_accumulated_residual_diff_threshold"] = options["accumulated"]
    if options["mask"] is not None:
        fields["steps_computation_mask"] = options["mask"]
        fields["steps_computation_policy"] = options["mask_policy"]
    return cache_dit.DBCacheConfig(**fields)


def enable(cache_dit, pipe, run):
    """Puts the cache of a run on the pipeline."""
    first, *others = run["options"].values()
    order = first["taylor_order"]
    calibrator = cache_dit.TaylorSeerCalibratorConfig(taylorseer_order=order) if order else None
    target, modifiers = pipe, None
    if run["layout"] != "unified":
        patterns = cache_dit.ForwardPattern
        second = patterns.Pattern_3 if run["layout"] == "split-joint" else patterns.Pattern_1
        if any(options != first for options in others):
            modifiers = [cache_dit.ParamsModifier(cache_config=config(cache_dit, o)) for o in run["options"].values()]
        target = cache_dit.BlockAdapter(
            pipe=pipe, transformer=pipe.transformer, forward_pattern=[patterns.Pattern_1, second],
            blocks=[pipe.transformer.transformer_blocks, pipe.transformer.single_transformer_blocks],
            params_modifiers=modifiers,
        )  # fmt: skip
    cache_dit.enable_cache(target, cache_config=config(cache_dit, first), calibrator_config=calibrator)


def reason(context, reference, diff, hit, cached, before):
    """Why a step was decided so, read from cache-dit's own state (the rule itself is in cache_rules)."""
    options = context.cache_config
    accumulated = getattr(options, "max_accumulated_residual_diff_threshold", None)
    if hit:
        return "static-hit" if diff is None else "hit"
    if context.is_in_warmup():
        return "warmup"
    if getattr(options, "steps_computation_mask", None) is not None and context.is_in_full_compute_steps():
        return "mask"
    if diff is not None:
        return "miss"
    if 0 <= options.max_cached_steps <= cached:
        return "max-cached"
    if 0 <= options.max_continuous_cached_steps <= before:
        return "forced"
    if accumulated is not None and context.accumulated_residual_diff >= accumulated:
        return "accumulated"
    if options.residual_diff_threshold <= 0:
        return "no-threshold"
    assert reference is None
    return "no-reference"


class Recorder:
    """Follows the contexts of one pipeline call: decisions, the residuals compared, and which blocks ran."""

    def __init__(self, run, transformer, manager_class):
        self.run, self.manager_class = run, manager_class
        self.steps = {name: [] for name in run["options"]}
        self.residuals = {name: [] for name in run["options"]}
        self.inputs = {name: [] for name in run["options"]}
        self.outputs = {name: [] for name in run["options"]}
        self.ran = {name: [] for name in run["options"]}
        self.contexts = {}
        double, single = list(transformer.transformer_blocks), list(transformer.single_transformer_blocks)
        self.blocks = {"double": double, "single": single}
        if run["layout"] == "unified":
            self.blocks = {"unified": double + single}

    def watch(self, name, index, block):
        """Keeps H_in, the first block's input, and H_F, the output of block F - 1: `img`, or the joint stream."""

        def hook(_, args, output):
            if index == 0:
                self.inputs[name].append(args[0].clone())
                self.ran[name].append(0)
            self.ran[name][-1] += 1
            if index == self.run["options"][name]["fn"] - 1:
                self.outputs[name].append((output if isinstance(output, torch.Tensor) else output[1]).clone())

        return block.register_forward_hook(hook)

    @contextlib.contextmanager
    def recording(self):
        hooks = [
            self.watch(name, index, block)
            for name, blocks in self.blocks.items()
            for index, block in enumerate(blocks)
        ]  # fmt: skip
        can_cache, add_cached_step = self.manager_class.can_cache, self.manager_class.add_cached_step

        def decide(manager, residual, **kwargs):
            context = manager.get_context()
            if context.name not in self.contexts:  # the lists run in their order
                self.contexts[context.name] = list(self.run["options"])[len(self.contexts)]
            name, before = self.contexts[context.name], context.continuous_cached_steps
            t, cached = context.get_current_step(), len(context.cached_steps)
            reference = manager.get_Fn_buffer(kwargs["prefix"])
            hit = bool(can_cache(manager, residual, **kwargs))
            diff = context.residual_diffs.get(str(t))
            assert t == len(self.steps[name])
            why = reason(context, reference, diff, hit, cached, before)
            self.steps[name].append(dict(t=t, reason=why, diff=diff, c=[before, context.continuous_cached_steps]))
            self.residuals[name].append(residual.clone())
            return hit

        def count(manager):
            add_cached_step(manager)
            context = manager.get_context()
            self.steps[self.contexts[context.name]][-1]["c"][1] = context.continuous_cached_steps

        self.manager_class.can_cache, self.manager_class.add_cached_step = decide, count
        try:
            yield self
        finally:
            self.manager_class.can_cache, self.manager_class.add_cached_step = can_cache, add_cached_step
            for hook in hooks:
                hook.remove()

    def check(self):
        """Holds what was recorded to itself: R = H_F - H_in, and a hit runs F + B blocks, any other step all."""
        for name, steps in self.steps.items():
            options, blocks = self.run["options"][name], len(self.blocks[name])
            for step, residual, h_in, h_f, ran in zip(
                steps, self.residuals[name], self.inputs[name], self.outputs[name], self.ran[name], strict=True
            ):
                assert torch.equal(residual, h_f - h_in), (self.run["name"], name, step)
                hit = step["reason"] in ("hit", "static-hit")
                assert ran == (options["fn"] + options["bn"] if hit else blocks), (self.run["name"], name, step, ran)


def statistics(transformer, name):
    """cached_steps and residual_diffs as cache-dit leaves them on the modules; of a unified list on the transformer."""
    lists = {"double": transformer.transformer_blocks, "single": transformer.single_transformer_blocks}
    module = lists.get(name, transformer)
    return list(module._cached_steps), {int(t): diff for t, diff in module._residual_diffs.items()}


def record(cache_dit, manager_class, weights, inputs, run):
    """One run: final latents, traces by list, and (H_in, H_F) by list as [T, B, rows, D]."""
    pipe = pipeline(weights, run["dtype"])
    enable(cache_dit, pipe, run)
    recorder = Recorder(run, pipe.transformer, manager_class)
    with recorder.recording():
        latents = generate(pipe, inputs, run["batch"], run["guidance"])
    recorder.check()
    traces = {}
    for name, steps in recorder.steps.items():
        cached, diffs = statistics(pipe.transformer, name)
        assert cached == [step["t"] for step in steps if step["reason"] in ("hit", "static-hit")]
        assert diffs == {step["t"]: step["diff"] for step in steps if step["diff"] is not None}
        traces[name] = dict(blocks=len(recorder.blocks[name]), cached_steps=cached, residual_diffs=diffs, steps=steps)
    states = {name: (torch.stack(recorder.inputs[name]), torch.stack(recorder.outputs[name])) for name in traces}
    return latents, traces, states
