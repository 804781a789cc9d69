"""Writes every golden fixture of this folder: `python tests/goldens/make.py`.

The versions of requirements.txt and the seeds below decide every byte; README.md describes the files.
Each reference is checked against formulas.py, which is written without the libraries."""

import os
import sys

sys.dont_write_bytecode = True
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import argparse  # noqa: E402
import logging  # noqa: E402
import shutil  # noqa: E402
import warnings  # noqa: E402
from pathlib import Path  # noqa: E402

warnings.filterwarnings("ignore", category=FutureWarning)
import diffusers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

from generator import encoder_checks, image_reference, models, noise_reference, schedule_reference, single_files  # noqa: E402
from generator.image_reference import CFG_RUN, RUNS  # noqa: E402
from generator.store import Store  # noqa: E402
from generator import text_reference as text  # noqa: E402
from generator.tokenizer_files import write_json  # noqa: E402
from generator.transformer_reference import transformer_reference  # noqa: E402

SEED = {"dev": 1000, "schnell": 2000}


def write_expected(root, name):
    folder = root / name
    pipe = diffusers.FluxPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    text.check_tokenizer_files(pipe, folder)
    generator = torch.Generator().manual_seed(SEED[name] + 2)
    store = Store()
    is_dev = name == "dev"
    grid, txt_tokens = ((4, 6), 9) if is_dev else ((5, 3), 9)
    transformer_reference(store, pipe.transformer, grid, txt_tokens, 0.7, 3.5, generator, inner=is_dev)
    text.clip_reference(store, pipe, inner=is_dev)
    text.t5_reference(store, pipe, inner=is_dev)
    image_reference.vae_reference(store, pipe.vae, generator)
    encoder_checks.check_clip(store, pipe.text_encoder)
    for kind in ("short", "long") if is_dev else ("short",):
        encoder_checks.check_t5(store, pipe.text_encoder_2, kind)
    encoder_checks.check_vae(store, pipe.vae)
    packed = image_reference.pipeline_reference(store, pipe, name)
    scalars = {"run": RUNS[name], "clip_prompt": text.CLIP_PROMPT, "transformer": {"grid": grid, "txt_tokens": txt_tokens}}
    if is_dev:
        image_reference.cfg_reference(store, pipe, packed)
        scalars["cfg_run"] = CFG_RUN
    pipe_bf16 = diffusers.FluxPipeline.from_pretrained(folder, dtype=torch.bfloat16)
    pipe_bf16.set_progress_bar_config(disable=True)
    image_reference.bf16_reference(store, pipe, pipe_bf16, packed, name)
    store.save(folder / "expected.safetensors")
    write_json(folder / "expected.json", {**scalars, "tokens": text.token_table(pipe, 512 if is_dev else 256)})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write into")
    root = parser.parse_args().out
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)

    for name in ("dev", "schnell", "single_files"):
        shutil.rmtree(root / name, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    schedule_reference.write(root / "schedule.safetensors")
    noise_reference.write(root / "noise.safetensors")
    for name, seed in SEED.items():
        models.write_folder(root, name, seed)
        write_expected(root, name)
    tiling = image_reference.tiling_reference(root / "schnell", torch.Generator().manual_seed(4000))
    tiling.save(root / "tiling.safetensors")
    single_files.write(root / "single_files", root / "schnell", seed=3000)
    for pattern in ("*.safetensors", "*.json", "*.txt"):  # some libraries write files only their owner can read
        for path in root.rglob(pattern):
            path.chmod(0o644)


if __name__ == "__main__":
    main()
