"""Measures a finished model folder: does the picture nearest to the generated one carry the prompt's caption?

    python evaluate.py --model models/demo --data data --out metrics

Reads the bf16 files that are shipped, computes in float32. Writes metrics.json, a contact sheet and, on
request, `elastic.json` into the model folder.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from autoencoder import to_bytes
from captions import draw_captions
from data import Dataset
from pipeline import ModelFolder
from train import WIDTHS

EXAMPLE_PROMPT = "a red apple"
SHEET = [
    "a red apple", "a dog", "a pizza", "a rocket", "a sunflower", "an airplane",
    "a guitar", "a smiling face with sunglasses", "a red heart", "a penguin", "a strawberry", "a bicycle",
    "a soccer ball", "a cactus", "a rainbow", "a hamburger", "an octopus", "a snowman",
    "a castle", "a banana", "a red apple, flat style", "a red apple, line style",
    "a cat face with wry smile, noto style", "a butterfly, flat style",
]  # fmt: skip


class Nearest:
    """Finds the training picture with the smallest pixel distance."""

    def __init__(self, dataset, device):
        self.records = dataset.records
        self.pictures = torch.from_numpy(dataset.pictures).to(device).flatten(1).float()

    def __call__(self, generated):
        """For each picture the index of the nearest training picture, and the PSNR to it in dB."""
        distance, index = torch.cdist(generated.flatten(1).float(), self.pictures).min(dim=1)
        return index.tolist(), 20 * torch.log10(255 * self.pictures.shape[1] ** 0.5 / distance)


def retrieval(model, nearest, captions, reference=None, **options):
    """Measures one setting; returns its numbers and which training pictures were found.

    retrieval: share of pictures whose nearest training picture carries the caption; psnr: mean PSNR to that
    nearest picture; same: share for which it is the one found with `reference`, the full width, from the
    same noise. A caption without style leaves the choice open, so only `same` can tell such swaps.
    """
    generated = to_bytes(model.generate([c[0] for c in captions], range(1000, 1000 + len(captions)), **options))
    found, psnr = nearest(generated)
    right = [
        nearest.records[i]["subject"] == subject and style in (None, nearest.records[i]["style"])
        for (_, subject, style), i in zip(captions, found, strict=True)
    ]
    same = [a == b for a, b in zip(found, reference or found, strict=True)]
    numbers = {
        "retrieval": round(sum(right) / len(right), 4),
        "psnr": round(psnr.mean().item(), 2),
        "same": round(sum(same) / len(same), 4),
    }
    return numbers, found


def sheet(pictures, columns=6):
    """Pictures in rows, as one image."""
    pictures = pictures.cpu().numpy()
    rows = -(-len(pictures) // columns)
    side = pictures.shape[1]
    canvas = np.full((rows * (side + 8), columns * (side + 8), 3), 200, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = (i // columns) * (side + 8) + 4, (i % columns) * (side + 8) + 4
        canvas[y : y + side, x : x + side] = picture
    return Image.fromarray(canvas)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--captions", type=int, default=200)
    parser.add_argument("--only-full-width", action="store_true", help="skip narrow widths and other guidances")
    parser.add_argument("--write-elastic", action="store_true", help="write elastic.json into the model folder")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    model = ModelFolder(arguments.model, arguments.device)
    dataset = Dataset(arguments.data)
    nearest = Nearest(dataset, model.device)
    captions = draw_captions(dataset, arguments.captions)

    widths = WIDTHS[:1] if arguments.only_full_width else WIDTHS
    metrics = {"captions": len(captions), "steps": 28, "widths": [], "guidance": []}
    reference = None
    for heads, mlp in widths:
        numbers, found = retrieval(model, nearest, captions, reference, heads=heads, mlp=mlp)
        reference = reference or found
        metrics["widths"].append({"heads": heads, "mlp": mlp} | numbers)
        print(metrics["widths"][-1], flush=True)
        narrow = to_bytes(model.generate(SHEET, [42] * len(SHEET), heads=heads, mlp=mlp))
        sheet(narrow).save(arguments.out / f"contact_sheet_{heads}x{mlp}.png")
    for guidance in () if arguments.only_full_width else (1.0, 2.0, 3.5, 5.0):
        numbers, _ = retrieval(model, nearest, captions, reference, guidance=guidance)
        metrics["guidance"].append({"guidance": guidance} | numbers)
        print(metrics["guidance"][-1], flush=True)
    (arguments.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    if arguments.write_elastic:
        trained = [{k: w[k] for k in ("heads", "mlp", "retrieval")} for w in metrics["widths"]]
        elastic = {"version": 1, "example_prompt": EXAMPLE_PROMPT, "trained_widths": trained}
        (arguments.model / "elastic.json").write_text(json.dumps(elastic, indent=2) + "\n")


if __name__ == "__main__":
    main()
