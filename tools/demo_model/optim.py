"""Muon for the matrices inside blocks, AdamW for everything else.

A few million pictures seen is all this model gets, and Muon's orthogonalised updates learn from fewer of
them than AdamW alone. All matrices of one shape are stepped together, or the many small products would
cost more than the training itself.
"""

import torch

MUON_WEIGHT_DECAY = 0.1


def orthogonalise(batch):
    """Five Newton-Schulz steps toward the nearest orthogonal matrix, for a stack of matrices, in bf16."""
    x = batch.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Muon:
    def __init__(self, parameters, momentum=0.95):
        self.momentum = momentum
        shapes = {}
        for parameter in parameters:
            shapes.setdefault(tuple(parameter.shape), []).append(parameter)
        self.groups = list(shapes.values())
        self.buffers = [torch.zeros(len(g), *g[0].shape, device=g[0].device) for g in self.groups]

    @torch.no_grad()
    def step(self, rate):
        for group, buffer in zip(self.groups, self.buffers, strict=True):
            gradient = torch.stack([parameter.grad for parameter in group])
            buffer.lerp_(gradient, 1 - self.momentum)
            update = orthogonalise(gradient.lerp(buffer, self.momentum))
            # 0.2 is the size of AdamW's usual updates, so that one learning rate fits both.
            update = update * (0.2 * max(group[0].shape) ** 0.5)
            torch._foreach_mul_(group, 1 - rate * MUON_WEIGHT_DECAY)
            torch._foreach_add_(group, list(update.unbind()), alpha=-rate)

    def state_dict(self):
        return {"buffers": self.buffers}

    def load_state_dict(self, state):
        for mine, saved in zip(self.buffers, state["buffers"], strict=True):
            mine.copy_(saved)


class Optimizer:
    """Both optimizers behind one learning rate."""

    ADAM_SHARE = 0.5

    def __init__(self, named_parameters):
        matrices, rest = [], []
        for name, parameter in named_parameters:
            inner = "transformer_blocks" in name or "layer" in name
            special = "norm" in name or "embedding" in name or "relative_attention_bias" in name
            (matrices if parameter.ndim == 2 and inner and not special else rest).append(parameter)
        self.parameters = [*matrices, *rest]
        self.muon = Muon(matrices)
        self.adam = torch.optim.AdamW(
            rest, lr=0.0, betas=(0.9, 0.99), weight_decay=0.0, fused=rest[0].device.type == "cuda"
        )

    def step(self, rate):
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        for group in self.adam.param_groups:
            group["lr"] = rate * self.ADAM_SHARE
        self.muon.step(rate)
        self.adam.step()
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self):
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state):
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
