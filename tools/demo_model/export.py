"""Writes the trained model as a diffusers folder in bf16 and counts its bytes.

    python export.py --work work --out models/demo

The folder is built beside its destination and moved there whole, so nobody reads half a model.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from autoencoder import VaeConfig
from model import FluxConfig
from pipeline import PARTS
from text import TextIds
from text_encoders import ClipConfig, T5Config

SIZE_LIMIT = 32_000_000

MODEL_INDEX = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "base_image_seq_len": 256,
    "base_shift": 0.5,
    "max_image_seq_len": 4096,
    "max_shift": 1.15,
    "num_train_timesteps": 1000,
    "shift": 3.0,
    "use_dynamic_shifting": True,
}


def write_json(path, content):
    path.write_text(json.dumps(content, indent=2) + "\n")


def write_weights(folder, file, weights, config):
    folder.mkdir()
    tensors = {name: value.detach().cpu().bfloat16().contiguous() for name, value in weights.items()}
    save_file(tensors, folder / file, metadata={"format": "pt"})
    (folder / "config.json").write_text(config.to_json())


def export(work, out):
    state = torch.load(work / "state.pt", map_location="cpu")
    text = TextIds(work)
    building = out.with_name(out.name + ".building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    write_json(building / "model_index.json", MODEL_INDEX)
    (building / "scheduler").mkdir()
    write_json(building / "scheduler" / "scheduler_config.json", SCHEDULER)
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(work / name, building / name)

    average = state["training"]["average"]
    configs = {
        "transformer": FluxConfig(),
        "text_encoder": ClipConfig(text.clip_size),
        "text_encoder_2": T5Config(text.t5_size),
    }
    for part, file in PARTS.items():
        weights = {k.removeprefix(part + "."): v for k, v in average.items() if k.startswith(part + ".")}
        write_weights(building / part, file, weights, configs[part])
    vae = state["vae"]
    config = VaeConfig(scaling_factor=vae["scaling_factor"], shift_factor=vae["shift_factor"])
    write_weights(building / "vae", "diffusion_pytorch_model.safetensors", vae["weights"], config)

    size = sum(path.stat().st_size for path in building.rglob("*") if path.is_file())
    print(f"{out}: {size:,} bytes, phase {state['training']['phase']}, step {state['training']['step']}")
    if size > SIZE_LIMIT:
        raise SystemExit(f"the folder is {size - SIZE_LIMIT:,} bytes over the limit of {SIZE_LIMIT:,}")
    shutil.rmtree(out, ignore_errors=True)
    building.rename(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of train.py")
    parser.add_argument("--out", type=Path, required=True, help="model folder; replaced if present")
    arguments = parser.parse_args()
    export(arguments.work, arguments.out)
