"""Measures a finished model folder: does the picture nearest to the generated one carry the prompt's caption?

    python evaluate.py --model models/demo --data data --out metrics

Reads the bf16 files that are shipped, computes in float32. Writes metrics.json, a contact sheet and, on
request, `elastic.json` into the model folder.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from autoencoder import to_bytes
from data import Dataset, article
from pipeline import ModelFolder
from train import WIDTHS

SEED = 5
EXAMPLE_PROMPT = "a red apple"
SHEET = [
    "a red apple", "a dog", "a pizza", "a rocket", "a sunflower", "an airplane", "a guitar", "a smiling face with sunglasses",
    "a red heart", "a penguin", "a strawberry", "a bicycle", "a soccer ball", "a cactus", "a rainbow", "a hamburger",
    "an octopus", "a snowman", "a castle", "a banana", "a red apple, flat style", "a red apple, line style",
    "a cat face with wry smile, noto style", "a butterfly, flat style",
]  # fmt: skip


class Nearest:
    """Finds the training picture with the smallest pixel distance."""

    def __init__(self, dataset, device):
        self.records = dataset.records
        self.pictures = torch.from_numpy(dataset.pictures).to(device).flatten(1).float()

    def __call__(self, generated):
        flat = generated.flatten(1).float()
        return torch.cdist(flat, self.pictures).argmin(dim=1).tolist()


def draw_captions(dataset, count):
    """Captions over all subjects, half with a style; with each, which training pictures count as right."""
    rng = random.Random(SEED)
    captions = []
    for record in rng.sample(dataset.records, min(count, len(dataset.records))):
        subject, style = record["subject"], record["style"]
        styled = style == "line" or rng.random() < 0.5
        caption = f"{article(subject)} {subject}" if rng.random() < 0.5 else subject
        captions.append((caption + f", {style} style" if styled else caption, subject, style if styled else None))
    return captions


def retrieval(model, nearest, captions, **options):
    """Share of pictures nearest to one with their caption, and the share with the right subject in any style."""
    generated = to_bytes(model.generate([c[0] for c in captions], range(1000, 1000 + len(captions)), **options))
    found = [nearest.records[i] for i in nearest(generated)]
    pairs = list(zip(captions, found, strict=True))
    subject = [record["subject"] == wanted for (_, wanted, _), record in pairs]
    exact = [right and style in (None, record["style"]) for right, ((_, _, style), record) in zip(subject, pairs, strict=True)]
    return round(sum(exact) / len(exact), 4), round(sum(subject) / len(subject), 4)


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

    sheet(to_bytes(model.generate(SHEET, [42] * len(SHEET)))).save(arguments.out / "contact_sheet.png")
    widths = WIDTHS[:1] if arguments.only_full_width else WIDTHS
    metrics = {"captions": len(captions), "steps": 28, "widths": [], "guidance": []}
    for heads, mlp in widths:
        exact, subject = retrieval(model, nearest, captions, heads=heads, mlp=mlp)
        metrics["widths"].append({"heads": heads, "mlp": mlp, "retrieval": exact, "subject": subject})
        print(metrics["widths"][-1], flush=True)
        narrow = to_bytes(model.generate(SHEET, [42] * len(SHEET), heads=heads, mlp=mlp))
        sheet(narrow).save(arguments.out / f"contact_sheet_{heads}x{mlp}.png")
    for guidance in () if arguments.only_full_width else (1.0, 2.0, 3.5, 5.0):
        exact, subject = retrieval(model, nearest, captions, guidance=guidance)
        metrics["guidance"].append({"guidance": guidance, "retrieval": exact, "subject": subject})
        print(metrics["guidance"][-1], flush=True)
    (arguments.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    if arguments.write_elastic:
        trained = [{k: w[k] for k in ("heads", "mlp", "retrieval")} for w in metrics["widths"]]
        elastic = {"version": 1, "example_prompt": EXAMPLE_PROMPT, "trained_widths": trained}
        (arguments.model / "elastic.json").write_text(json.dumps(elastic, indent=2) + "\n")


if __name__ == "__main__":
    main()
