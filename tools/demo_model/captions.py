"""The captions that evaluate.py and quality.py ask for."""

import random

from data import article

SEED = 5


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
