"""Emoji pictures and captions: fetch, select, render, caption, pack.

Everything comes from four npm packages with pinned versions and permissive licences, so the
weights trained on them may be passed on. `python data.py --out DIR` writes

* `DIR/pictures.bin` + offsets in `DIR/dataset.json`: the pictures, 128x128 RGB, lossless WebP;
* `DIR/dataset.json`: one record per picture (subject, style, names) and the captions of each.
"""

import argparse
import io
import json
import random
import re
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

PACKAGES = {
    "@iconify-json/noto": "1.2.9",  # Apache-2.0
    "@iconify-json/fluent-emoji-flat": "1.2.6",  # MIT
    "@iconify-json/fluent-emoji-high-contrast": "1.2.6",  # MIT
    "emojibase-data": "17.0.0",  # MIT: names and tags
}
STYLES = {
    "noto": "@iconify-json/noto",
    "flat": "@iconify-json/fluent-emoji-flat",
    "line": "@iconify-json/fluent-emoji-high-contrast",
}
SIZE = 128
SUPERSAMPLING = 4
CAPTIONS_PER_PICTURE = 64
SEED = 20

PEOPLE, COMPONENTS = 1, 2
# Two subjects whose pictures differ by less than this (root mean square of 8-bit values) cannot be told apart.
SAME_PICTURE_RMS = 5.0


def fetch(cache):
    """Downloads the packages with `npm pack` and returns {package: {file name: bytes}}."""
    cache.mkdir(parents=True, exist_ok=True)
    wanted = ("icons.json", "chars.json", "en/data.json")
    contents = {}
    for package, version in PACKAGES.items():
        archive = cache / f"{package.lstrip('@').replace('/', '-')}-{version}.tgz"
        if not archive.exists():
            subprocess.run(["npm", "pack", f"{package}@{version}"], cwd=cache, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(archive) as tar:
            names = {member.name.removeprefix("package/"): member for member in tar.getmembers()}
            contents[package] = {n: tar.extractfile(names[n]).read() for n in wanted if n in names}
    return contents


def plain(text):
    """A name as somebody would type it: lower case, straight quotes, no list punctuation."""
    text = text.lower().replace("’", "'").replace("“", "").replace("”", "")
    text = re.sub(r"^flag: ", "flag of ", text)
    text = re.sub(r"^keycap: ", "keycap ", text)
    return re.sub(r"\s+", " ", text.replace(":", "").replace("(", "").replace(")", "")).strip()


def hex_key(hexcode):
    """Emoji code points as the icon packages spell them: lower case, without variation selectors."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def is_wanted(entry):
    """Leaves out twins that small pictures cannot tell apart: gendered and mirrored people, families, clocks."""
    key, label = hex_key(entry["hexcode"]), entry["label"]
    if entry.get("group") in (None, COMPONENTS):
        return False
    if entry["group"] == PEOPLE:
        if "200d-2640" in key or "200d-2642" in key or "200d-27a1" in key:
            return False
        if key.startswith(("1f468-200d", "1f469-200d")) or label.startswith("family"):
            return False
    return not ("o’clock" in label or "-thirty" in label) or label.startswith("three")


def render(icon, package_icons):
    """Draws one icon on white, four times too large, and averages down for clean edges."""
    import resvg_py

    width = icon.get("width", package_icons.get("width", 16))
    height = icon.get("height", package_icons.get("height", 16))
    left, top = icon.get("left", 0), icon.get("top", 0)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="#1b1b1b" '
        f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{icon["body"]}</svg>'
    )
    side = SIZE * SUPERSAMPLING
    drawn = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side))))
    canvas = Image.new("RGBA", (side, side), "white")
    drawn = drawn.convert("RGBA")
    canvas.alpha_composite(drawn, ((side - drawn.width) // 2, (side - drawn.height) // 2))
    return canvas.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX)


def article(name):
    return "an" if name[0] in "aeiou" else "a"


def captions_of(record, rng):
    """Draws the training captions of one picture. The plain name is the commonest, so it is what works best."""
    captions = []
    for _ in range(CAPTIONS_PER_PICTURE):
        name = rng.choice(record["names"]) if rng.random() < 0.2 else record["subject"]
        caption = rng.choices(
            [name, f"{article(name)} {name}", f"the {name}", f"{name} emoji", f"{article(name)} {name} emoji",
             f"a picture of {article(name)} {name}", f"{name}, {rng.choice(record['tags'] or [name])}"],
            weights=[28, 34, 8, 8, 6, 6, 10],
        )[0]  # fmt: skip
        # The line style is only drawn when it is asked for: a plain caption gives a coloured picture.
        if record["style"] == "line" or rng.random() < 0.5:
            style = record["style"]
            caption += rng.choices([f", {style} style", f" in {style} style", f", {style}"], weights=[6, 3, 1])[0]
        if rng.random() < 0.15:
            caption = caption[0].upper() + caption[1:]
        if rng.random() < 0.08:
            caption += "."
        captions.append(caption)
    return captions


def select(contents):
    """Pairs names with icons; returns records without pictures, subjects in Unicode order."""
    icons = {style: json.loads(contents[package]["icons.json"]) for style, package in STYLES.items()}
    by_code = {style: json.loads(contents[package]["chars.json"]) for style, package in STYLES.items()}
    entries = [e for e in json.loads(contents["emojibase-data"]["en/data.json"]) if is_wanted(e)]
    tag_use = {}
    for entry in entries:
        for tag in {plain(t) for t in entry.get("tags", [])}:
            tag_use[tag] = tag_use.get(tag, 0) + 1
    labels = {plain(e["label"]) for e in entries}
    records = []
    for entry in sorted(entries, key=lambda e: e.get("order", 0)):
        subject = plain(entry["label"])
        tags = [plain(t) for t in entry.get("tags", [])]
        tags = [t for t in dict.fromkeys(tags) if t and t.isascii() and len(t) > 2 and t not in subject.split()]
        # A tag that hardly any other subject shares is as good as a name ("apple" for the red apple).
        names = [t for t in map(plain, entry.get("tags", [])) if tag_use[t] <= 2 and len(t) > 2 and t not in labels]
        for style in STYLES:
            icon_name = by_code[style].get(hex_key(entry["hexcode"]))
            icon = icons[style]["icons"].get(icon_name)
            if icon and "<text" not in icon["body"]:
                records.append({"subject": subject, "style": style, "names": [subject, *names], "tags": tags,
                                "icon": icon, "defaults": icons[style]})  # fmt: skip
    return records


def drop_lookalikes(records, pictures):
    """Drops subjects whose picture repeats an earlier one of the same style (twin flags, buttons)."""
    thumbnails = np.stack([np.asarray(p.resize((32, 32), Image.Resampling.BOX), np.float32).ravel() for p in pictures])
    dropped = set()
    for style in STYLES:
        rows = [i for i, r in enumerate(records) if r["style"] == style]
        block = thumbnails[rows]
        squares = (block**2).sum(1)
        rms = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * block @ block.T, 0) / block.shape[1])
        for later in range(len(rows)):
            if records[rows[later]]["subject"] in dropped:
                continue
            for earlier in np.flatnonzero(rms[later, :later] < SAME_PICTURE_RMS):
                if records[rows[earlier]]["subject"] not in dropped:
                    dropped.add(records[rows[later]]["subject"])
                    break
    keep = [i for i, r in enumerate(records) if r["subject"] not in dropped]
    return [records[i] for i in keep], [pictures[i] for i in keep], sorted(dropped)


def build(cache, out):
    records = select(fetch(cache))
    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(lambda r: render(r["icon"], r["defaults"]), records))
    records, pictures, dropped = drop_lookalikes(records, pictures)
    rng = random.Random(SEED)
    out.mkdir(parents=True, exist_ok=True)
    offsets, blob = [0], bytearray()
    for picture in pictures:
        stream = io.BytesIO()
        picture.save(stream, "WEBP", lossless=True, quality=100, method=4)
        blob += stream.getvalue()
        offsets.append(len(blob))
    (out / "pictures.bin").write_bytes(blob)
    listed = [
        {"subject": r["subject"], "style": r["style"], "names": r["names"], "captions": captions_of(r, rng)}
        for r in records
    ]
    (out / "dataset.json").write_text(json.dumps({"packages": PACKAGES, "offsets": offsets, "pictures": listed}))
    counts = {style: sum(r["style"] == style for r in listed) for style in STYLES}
    print(f"{len({r['subject'] for r in listed})} subjects, pictures {counts}, {len(blob) / 1e6:.1f} MB; "
          f"{len(dropped)} look-alikes left out: {', '.join(dropped[:12])} ...")  # fmt: skip


class Dataset:
    """The packed data: `pictures` as uint8 [N, 128, 128, 3], and the records."""

    def __init__(self, folder):
        meta = json.loads((Path(folder) / "dataset.json").read_text())
        blob, offsets = (Path(folder) / "pictures.bin").read_bytes(), meta["offsets"]
        self.records = meta["pictures"]
        self.packages = meta["packages"]

        def decode(i):
            return np.asarray(Image.open(io.BytesIO(blob[offsets[i] : offsets[i + 1]])).convert("RGB"))

        with ThreadPoolExecutor(8) as pool:
            self.pictures = np.stack(list(pool.map(decode, range(len(self.records)))))

    def truncated(self, count):
        """The first `count` pictures only: for quick runs of the whole program."""
        self.records, self.pictures = self.records[:count], self.pictures[:count]
        return self


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path("npm"), help="where npm packages are kept")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    build(arguments.cache, arguments.out)
