"""What elastic modes cost on the demo model: pictures of the same captions and seeds, mode against mode.

    python quality.py --program flux-rt --data data --out quality [--modes XL,L,M,S] [--count 1000]
        [--plans models/demo/plans]

Draws `count` captions as evaluate.py does, a picture of each in mode `original` (f32 on the CPU: the yardstick) and
in every other mode, seed 1000 + index. Prints for each mode PSNR and SSIM against `original`, and the rate of captions
whose nearest training picture carries them. Needs numpy, pillow and scikit-image; `data` is data.py's output.
"""

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.metrics import structural_similarity

from captions import draw_captions
from data import Dataset

YARDSTICK = "original"


def draw(program, mode, captions, out):
    """The pictures of a mode, [N, H, W, 3], in the order of the captions."""
    listed = out / f"{mode}.json"
    if not listed.exists():
        prompts = out / "captions.txt"
        prompts.write_text("".join(f"{caption}\n" for caption, _, _ in captions))
        command = [program, "run", "--prompt-file", prompts, "--seed", "1000", "--mode", mode, "--device", "cpu",
                   "--out", out / mode, "--progress", "none", "--json"]  # fmt: skip
        document = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        listed.write_bytes(document)
    pictures = json.loads(listed.read_text())["pictures"]
    assert [picture["prompt"] for picture in pictures] == [caption for caption, _, _ in captions]
    return np.stack([np.asarray(Image.open(picture["path"]).convert("RGB")) for picture in pictures])


def nearest(pictures, training):
    """For each picture the index of the training picture with the smallest pixel distance."""
    flat = training.reshape(len(training), -1).astype(np.float32)
    norms = np.einsum("ij,ij->i", flat, flat)
    drawn = pictures.reshape(len(pictures), -1).astype(np.float32)
    return np.concatenate([(norms - 2 * part @ flat.T).argmin(1) for part in np.array_split(drawn, 16)])


def psnr(actual, expected):
    error = np.square(actual.astype(np.float64) - expected).mean()
    return 10 * np.log10(255**2 / max(error, 1e-2))


def ssim(actual, expected):
    return structural_similarity(
        actual, expected, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )


def tell(path, **measured):
    """Puts what was measured into a plan."""
    plan = json.loads(path.read_text())
    plan["measured"].update({name: round(float(value), 4) for name, value in measured.items()})
    path.write_text(json.dumps(plan, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--modes", default="XL,L,M,S")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--plans", type=Path, help="a folder of plans MODE.json that are to say what was measured")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    dataset = Dataset(options.data)
    captions = draw_captions(dataset, options.count)
    reference = draw(options.program, YARDSTICK, captions, options.out)
    print("| mode | retrieved | of those of `original` lost | PSNR mean, median, least | SSIM mean, least |")
    print("|---|---|---|---|---|")
    held = None
    for mode in [YARDSTICK, *options.modes.split(",")]:
        pictures = draw(options.program, mode, captions, options.out)
        found = nearest(pictures, dataset.pictures)
        right = np.array([
            dataset.records[i]["subject"] == subject and style in (None, dataset.records[i]["style"])
            for (_, subject, style), i in zip(captions, found, strict=True)
        ])  # fmt: skip
        held = right if held is None else held
        line = f"| {mode} | {100 * right.mean():.1f} % | {(held & ~right).sum()} of {held.sum()} |"
        if mode != YARDSTICK:
            p = [psnr(a, b) for a, b in zip(pictures, reference, strict=True)]
            s = [ssim(a, b) for a, b in zip(pictures, reference, strict=True)]
            line += f" {np.mean(p):.1f}, {np.median(p):.1f}, {min(p):.1f} dB | {np.mean(s):.4f}, {min(s):.3f} |"
            if options.plans:
                kept = (held & right).sum() / held.sum()
                tell(options.plans / f"{mode}.json", psnr=np.mean(p), ssim=np.mean(s), retrieval=kept)
        else:
            line += " | |"
        print(line, flush=True)


if __name__ == "__main__":
    main()
