"""Trains the demo model: autoencoder, then flow matching, then guidance distillation.

    python train.py --data data --work work

One command runs everything. With `--stop-after SECONDS` it stops in time, and the same command goes on
from `work/state.pt`, so the training fits several short loans of a GPU. Phases:

vae      the autoencoder (train_vae.py); latents of all pictures are then computed once.
flow     velocity = noise - data at x = (1 - sigma) data + sigma noise, 12 % empty captions, guidance input 1.
guidance a frozen copy gives uncond + g (cond - uncond); the student learns it from g alone, so that one
         pass per step is enough and `--guidance` still acts.

The last two are elastic: half of the samples use narrowed blocks (model.Widths).
"""

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import train_vae
from autoencoder import Autoencoder, VaeConfig, pack
from data import Dataset
from model import Widths, compile_blocks
from optim import Optimizer
from pipeline import Generator
from text import TextIds
from text import train as train_tokenizers

SEED = 7
# Every width that is trained, full width first.
WIDTHS = [(3, 768), (3, 512), (3, 384), (2, 768), (2, 512), (2, 384)]
STYLE_WEIGHTS = {"noto": 1.0, "flat": 1.0, "line": 0.7}
EMPTY_CAPTIONS = 0.12
GUIDANCE_RANGE = (1.0, 6.0)
RATES = {"flow": 2e-3, "guidance": 8e-4}
EMA = {"flow": 0.9993, "guidance": 0.999}
# At 64 image tokens FluxPipeline shifts its schedule by this much (pipeline.sigmas).
SCHEDULE_SHIFT = 0.4675


class Batches:
    """All training data, resident on the device, and everything random about a batch."""

    def __init__(self, dataset, text, latents, batch, device):
        self.latents, self.batch, self.device = latents, batch, device
        captions = [caption for record in dataset.records for caption in record["captions"]]
        clip, t5 = text(captions)
        used = int((clip != text.end).sum(1).max()) + 1
        per_picture = len(dataset.records[0]["captions"])
        self.clip = torch.from_numpy(clip[:, :used]).view(-1, per_picture, used).to(device)
        self.t5 = torch.from_numpy(t5).view(-1, per_picture, t5.shape[1]).to(device)
        self.empty_clip, self.empty_t5 = (
            torch.from_numpy(ids).long().to(device) for ids in text([""], clip_tokens=used)
        )
        self.weights = torch.tensor([STYLE_WEIGHTS[r["style"]] for r in dataset.records], device=device)
        self.width_table = torch.tensor(WIDTHS, device=device)

    def draw(self):
        """Packed latents and the ids of one of each picture's captions."""
        rows = torch.multinomial(self.weights, self.batch, replacement=True)
        which = torch.randint(self.clip.shape[1], (self.batch,), device=self.device)
        return self.latents[rows], self.clip[rows, which].long(), self.t5[rows, which].long()

    def without_some_captions(self, clip, t5):
        empty = torch.rand(len(clip), 1, device=self.device) < EMPTY_CAPTIONS
        return torch.where(empty, self.empty_clip, clip), torch.where(empty, self.empty_t5, t5)

    def noisy(self, latents):
        """Half of the times are logit-normal around the middle of the sampling schedule, half uniform."""
        normal = torch.sigmoid(torch.randn(self.batch, device=self.device) + SCHEDULE_SHIFT)
        uniform = torch.rand(self.batch, device=self.device)
        sigma = torch.where(torch.rand(self.batch, device=self.device) < 0.5, normal, uniform)
        noise = torch.randn_like(latents)
        mix = sigma[:, None, None]
        return (1 - mix) * latents + mix * noise, noise - latents, sigma

    def widths(self, blocks):
        """Half full width, a quarter one narrow width everywhere, a quarter drawn for each block."""
        kind = torch.rand(self.batch, device=self.device)
        narrow = torch.randint(1, len(WIDTHS), (self.batch,), device=self.device)
        mixed = torch.randint(0, len(WIDTHS), (blocks, self.batch), device=self.device)
        choice = torch.where(kind < 0.5, torch.zeros_like(mixed), torch.where(kind < 0.75, narrow, mixed))
        heads, mlp = self.width_table[choice].unbind(-1)
        return Widths(heads, mlp)


def flow_loss(training, batches):
    student = training.student
    latents, clip, t5 = batches.draw()
    x, velocity, sigma = batches.noisy(latents)
    text, pooled = student.encode(*batches.without_some_captions(clip, t5))
    widths = batches.widths(student.transformer.config.blocks)
    output = student.transformer(x, text, pooled, sigma, torch.ones_like(sigma), widths)
    return F.mse_loss(output.float(), velocity)


def guidance_loss(training, batches):
    student, teacher = training.student, training.teacher
    latents, clip, t5 = batches.draw()
    x, _, sigma = batches.noisy(latents)
    low, high = GUIDANCE_RANGE
    guidance = low + (high - low) * torch.rand_like(sigma)
    config = student.transformer.config
    with torch.no_grad():
        text, pooled = student.encode(clip, t5)
        no_text, no_pooled = (empty.to(text).expand_as(like).contiguous()
                              for empty, like in zip(training.empty, (text, pooled), strict=True))  # fmt: skip
        full = Widths.uniform(config, len(x), *WIDTHS[0], x.device)
        one = torch.ones_like(sigma)
        conditional = teacher.transformer(x, text, pooled, sigma, one, full).float()
        unconditional = teacher.transformer(x, no_text, no_pooled, sigma, one, full).float()
        target = unconditional + guidance[:, None, None] * (conditional - unconditional)
    output = student.transformer(x, text, pooled, sigma, guidance, batches.widths(config.blocks))
    return F.mse_loss(output.float(), target)


def rate_at(phase, progress, step):
    """Warm-up, a plateau for `flow`, then linearly down."""
    plateau = 0.35 if phase == "flow" else 0.0
    return RATES[phase] * min(1.0, (step + 1) / 150) * max(0.01, min(1.0, (1 - progress) / (1 - plateau)))


class Training:
    """One phase of the generator's training with its state: weights, average, optimizer, clock."""

    def __init__(self, phase, generator, saved, device):
        self.phase, self.device = phase, device
        self.student = generator.to(device)
        if phase == "guidance":
            # The encoders stay as they are: student and teacher then share one encoding of each caption.
            self.teacher = self.student.frozen_copy()
            for encoder in (self.student.text_encoder, self.student.text_encoder_2):
                encoder.requires_grad_(False)
        else:
            self.teacher = None
        if saved and "teacher" in saved:
            self.teacher.load_state_dict(saved["teacher"])
        if saved:
            self.student.load_state_dict(saved["student"])
        self.average = self.student.frozen_copy()
        self.optimizer = Optimizer((n, p) for n, p in self.student.named_parameters() if p.requires_grad)
        self.elapsed, self.step = 0.0, 0
        if saved:
            self.average.load_state_dict(saved["average"])
            self.elapsed, self.step = saved["elapsed"], saved["step"]
            if "optimizer" in saved:
                self.optimizer.load_state_dict(saved["optimizer"])

    def state(self):
        teacher = {"teacher": self.teacher.state_dict()} if self.teacher else {}
        return teacher | {
            "phase": self.phase, "student": self.student.state_dict(), "average": self.average.state_dict(),
            "elapsed": self.elapsed, "step": self.step, "optimizer": self.optimizer.state_dict(),
        }  # fmt: skip

    def run(self, batches, seconds, deadline, log):
        """Trains until the phase has had its seconds or the deadline comes; says whether the phase is over."""
        loss_of = flow_loss if self.phase == "flow" else guidance_loss
        if self.teacher:
            with torch.no_grad():
                self.empty = self.student.encode(batches.empty_clip, batches.empty_t5)
        if self.device.type == "cuda":
            for model in filter(None, (self.student, self.teacher)):
                compile_blocks(model.transformer)
            self.student.text_encoder.compile(dynamic=False)
            self.student.text_encoder_2.compile(dynamic=False)
        trained = [p for p in self.student.parameters() if p.requires_grad]
        pairs = zip(self.average.parameters(), self.student.parameters(), strict=True)
        averaged = [average for average, parameter in pairs if parameter.requires_grad]
        before, first, losses, clock = self.elapsed, self.step, [], time.monotonic()
        while self.elapsed < seconds and time.monotonic() < deadline:
            with torch.autocast(self.device.type, torch.bfloat16):
                loss = loss_of(self, batches)
            loss.backward()
            self.optimizer.step(rate_at(self.phase, self.elapsed / seconds, self.step))
            decay = min(EMA[self.phase], (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                torch._foreach_lerp_(averaged, trained, 1 - decay)
            losses.append(loss.detach())
            self.step += 1
            if self.step - first == 3:
                if self.device.type == "cuda":
                    torch.cuda.synchronize()
                clock = time.monotonic()  # compilation is not training time
            if self.step - first > 3:
                self.elapsed = before + time.monotonic() - clock
            if self.step % 250 == 0 or self.step - first in (10, 50):
                loss = torch.stack(losses).mean()
                speed = (self.step - first - 3) * batches.batch / (self.elapsed - before)
                log(f"{self.phase} step {self.step} {self.elapsed:.0f}s loss {loss:.4f} {speed:.0f} samples/s")
                losses.clear()
                if not loss.isfinite():
                    raise SystemExit("the loss is no longer finite")
        return self.elapsed >= seconds


def compact(state):
    """The flow phase's averages in bf16 and no optimizer: small enough to copy off a machine that may be lost."""
    training = state["training"]
    average = {key: value.bfloat16() for key, value in training["average"].items()}
    kept = {key: training[key] for key in ("phase", "elapsed", "step")}
    return state | {"training": kept | {"student": average, "average": average}}


def train_autoencoder(state, dataset, seconds, batch, device, log):
    pictures = torch.from_numpy(dataset.pictures).to(device)
    model, seen = train_vae.train(VaeConfig(), pictures, seconds, device, batch, log)
    # The shipped weights are bf16, so the latents are computed with exactly those.
    model.load_state_dict({k: v.bfloat16().float() for k, v in model.state_dict().items()})
    latents = train_vae.encode_all(model, pictures)
    shift, scale = latents.mean().item(), 1 / latents.std().item()
    some = pictures[:: max(1, len(pictures) // 400)]
    log(f"vae PSNR {train_vae.psnr(model, some):.2f} dB, latents mean {shift:.3f} std {1 / scale:.3f}")
    state["vae"] = {"weights": model.state_dict(), "shift_factor": shift, "scaling_factor": scale, "samples": seen}


def latents_of(state, dataset, device):
    model = Autoencoder(VaeConfig()).to(device)
    model.load_state_dict(state["vae"]["weights"])
    latents = train_vae.encode_all(model, torch.from_numpy(dataset.pictures).to(device))
    return pack((latents - state["vae"]["shift_factor"]) * state["vae"]["scaling_factor"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder written by data.py")
    parser.add_argument("--work", type=Path, required=True, help="state, tokenizers; resumed from if present")
    parser.add_argument("--vae-seconds", type=float, default=190)
    parser.add_argument("--flow-seconds", type=float, default=780)
    parser.add_argument("--guidance-seconds", type=float, default=235)
    parser.add_argument("--stop-after", type=float, default=math.inf, help="seconds this invocation may train")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--vae-batch", type=int, default=train_vae.BATCH)
    parser.add_argument("--pictures", type=int, help="use only the first so many pictures (quick test)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.stop_after
    device = torch.device(arguments.device)
    torch.manual_seed(SEED)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = False

    def log(message):
        print(message, flush=True)

    dataset = Dataset(arguments.data)
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "tokenizer_2").exists():
        train_tokenizers([c for r in dataset.records for c in r["captions"]], work)
    if arguments.pictures:
        dataset.truncated(arguments.pictures)
    text = TextIds(work)
    path = work / "state.pt"
    state = torch.load(path, map_location=device) if path.exists() else {}
    if "vae" not in state:
        train_autoencoder(state, dataset, arguments.vae_seconds, arguments.vae_batch, device, log)
        torch.save(state, path)

    batches = Batches(dataset, text, latents_of(state, dataset, device), arguments.batch, device)
    generator = Generator(text.clip_size, text.t5_size)
    saved = state.get("training")
    # A resumed run draws other batches than the run it goes on from.
    torch.manual_seed(SEED + 1 + (saved["step"] if saved else 0))
    for phase, seconds in (("flow", arguments.flow_seconds), ("guidance", arguments.guidance_seconds)):
        if saved and phase == "flow" and saved["phase"] == "guidance":
            continue
        if saved and phase == "guidance" and saved["phase"] == "flow":
            generator.load_state_dict(saved["average"])
            saved = None
        training = Training(phase, generator, saved, device)
        finished = training.run(batches, seconds, deadline, log)
        state["training"] = saved = training.state()
        torch.save(state, path)
        if phase == "flow":
            torch.save(compact(state), work / "compact.pt")
        log(f"{phase} {'finished' if finished else 'paused'} at step {training.step}, {training.elapsed:.0f}s")
        if not finished:
            break
        generator = Generator(text.clip_size, text.t5_size)


if __name__ == "__main__":
    main()
