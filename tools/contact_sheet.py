"""Draws README's contact sheet with flux-rt: 24 captions, one seed, 6 x 4 pictures.

    python3 tools/contact_sheet.py target/release/flux-rt docs/contact-sheet.png

Needs Pillow. The captions are those of tools/demo_model/evaluate.py.
"""

import ast
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

COLUMNS, GAP = 6, 4


def captions():
    """The list SHEET of evaluate.py, read without importing its heavy dependencies."""
    source = Path(__file__).parent / "demo_model" / "evaluate.py"
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "SHEET":
            return ast.literal_eval(node.value)
    raise SystemExit(f"{source}: no list SHEET")


def main():
    program, target = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "run", "--seed", "42", "--progress", "none", "--out", folder, "--prompt"]
        paths = subprocess.run(command + captions(), check=True, capture_output=True, text=True).stdout.split("\n")
        pictures = [Image.open(path).convert("RGB") for path in paths if path]
    side = pictures[0].width
    rows = -(-len(pictures) // COLUMNS)
    size = (COLUMNS * (side + GAP) + GAP, rows * (side + GAP) + GAP)
    sheet = Image.new("RGB", size, (200, 200, 200))
    for index, picture in enumerate(pictures):
        row, column = divmod(index, COLUMNS)
        sheet.paste(picture, (GAP + column * (side + GAP), GAP + row * (side + GAP)))
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target, optimize=True)


if __name__ == "__main__":
    main()
