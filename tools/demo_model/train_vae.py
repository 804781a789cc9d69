"""Trains the autoencoder: L1 + L2 + edge loss at three scales, a small KL term, weights averaged.

Flat pictures are all edges, so differences of neighbouring pixels count as much as the pixels. No
adversarial loss: nothing here has texture to invent.
"""

import copy
import time

import torch
import torch.nn.functional as F

from autoencoder import Autoencoder, from_bytes

# Sets the noise the latents must survive: it keeps the latents smooth enough for the transformer to learn.
KL_WEIGHT = 2e-3
BATCH = 192
LEARNING_RATE = 2e-3
EMA = 0.998


def edges(x):
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def reconstruction_loss(output, target):
    loss = F.l1_loss(output, target) + F.mse_loss(output, target)
    for _ in range(3):
        loss = loss + sum(F.l1_loss(a, b) for a, b in zip(edges(output), edges(target), strict=True))
        output, target = F.avg_pool2d(output, 2), F.avg_pool2d(target, 2)
    return loss


def train(config, pictures, seconds, device, batch=BATCH, log=print):
    """Trains for `seconds` and returns the averaged autoencoder. `pictures` is uint8 [N, H, W, 3] on `device`."""
    model = Autoencoder(config).to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=device.type == "cuda"
    )
    step_model = VaeStep(model)
    if device.type == "cuda":
        step_model.compile(dynamic=False)
    start, step = time.monotonic(), 0
    while (elapsed := time.monotonic() - start) < seconds:
        if step == 2:
            start = time.monotonic()  # compilation is not training time
        progress = elapsed / seconds if step > 2 else 0
        rate = LEARNING_RATE * min(1, (step + 1) / 200) * min(1, 1.6 * (1 - progress))
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = torch.randint(len(pictures), (batch,), device=device)
        x = from_bytes(pictures[rows])
        x = torch.where(torch.rand(batch, 1, 1, 1, device=device) < 0.5, x.flip(-1), x)
        with torch.autocast(device.type, torch.bfloat16):
            reconstruction, kl = step_model(x.contiguous(memory_format=torch.channels_last))
        (reconstruction + KL_WEIGHT * kl).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        decay = min(EMA, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        step += 1
        if step % 250 == 0 or step == 10:
            log(f"vae step {step} {time.monotonic() - start:.0f}s loss {reconstruction:.4f} kl {kl:.3f}")
    return average.float(), step * batch


class VaeStep(torch.nn.Module):
    """Both losses of one batch, as one graph to compile."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        mean, logvar = self.model.encode(x)
        mean, logvar = mean.float(), logvar.float()
        output = self.model.decode(mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)).float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return reconstruction_loss(output, x), kl


@torch.no_grad()
def encode_all(model, pictures, batch=256):
    """Latent means of all pictures, in float32 so that they equal what any loader of the file computes."""
    return torch.cat([model.encode(from_bytes(chunk))[0].float() for chunk in pictures.split(batch)])


@torch.no_grad()
def psnr(model, pictures):
    """Mean PSNR of reconstructions of `pictures` (uint8), in dB."""
    x = from_bytes(pictures)
    error = (model.decode(model.encode(x)[0]).clamp(-1, 1) - x).square().mean(dim=(1, 2, 3)) / 4
    return (-10 * error.log10()).mean().item()
