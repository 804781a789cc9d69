"""Holds this folder's own modules to diffusers and transformers: same weights, same input, same output.

Run it before training, so that no time is spent on a model that no other program could load.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5EncoderModel
from transformers import T5Config as ReferenceT5Config

from autoencoder import Autoencoder, VaeConfig
from model import FluxConfig, FluxTransformer, Widths
from text_encoders import ClipConfig, ClipEncoder, T5Config, T5Encoder

TOLERANCE = 1e-5


def shaken(module):
    """Random values in every tensor: the zeros and ones of an initialisation hide mistakes."""
    for parameter in module.parameters():
        scale = 0.3 if parameter.ndim == 1 else parameter.shape[1:].numel() ** -0.5
        parameter.data = parameter.data * (parameter.ndim == 1) + scale * torch.randn_like(parameter)
    return module.eval()


def load(reference, state):
    """transformers 5 dropped the `text_model.` prefix that files carry; take either."""
    if not any(key.startswith("text_model.") for key in reference.state_dict()):
        state = {key.removeprefix("text_model."): value for key, value in state.items()}
    missing, unexpected = reference.load_state_dict(state, strict=False)
    missing = [key for key in missing if "embed_tokens" not in key and "position_ids" not in key]
    assert not missing and not unexpected, (missing, unexpected)
    return reference.eval()


def report(name, ours, reference):
    error = ((ours - reference).norm() / reference.norm()).item()
    print(f"{name}: relative error {error:.1e}")
    return error < TOLERANCE


@torch.no_grad()
def main():
    torch.manual_seed(0)
    good = []

    config = FluxConfig()
    ours = shaken(FluxTransformer(config))
    fields = {k: v for k, v in json.loads(config.to_json()).items() if k != "_class_name"}
    reference = load(FluxTransformer2DModel(**fields), ours.state_dict())
    latents, text, pooled = torch.randn(2, 64, 64), torch.randn(2, 64, 128), torch.randn(2, 128)
    time, guidance = torch.tensor([0.9, 0.3]), torch.tensor([3.5, 1.0])
    ids = torch.zeros(64, 3)
    ids[:, 1], ids[:, 2] = torch.arange(64) // 8, torch.arange(64) % 8
    arguments = {"hidden_states": latents, "encoder_hidden_states": text, "pooled_projections": pooled,
                 "timestep": time, "guidance": guidance, "img_ids": ids, "txt_ids": torch.zeros(64, 3)}  # fmt: skip
    full = Widths.uniform(config, 2, 3, 768, "cpu")
    good.append(report("transformer", ours(latents, text, pooled, time, guidance, full), reference(**arguments).sample))

    # A narrow width must equal cutting the tensors: here, zeroing what reads the cut heads and neurons.
    narrow = Widths.uniform(config, 2, 2, 512, "cpu")
    for block in reference.transformer_blocks:
        block.attn.to_out[0].weight[:, 128:] = 0
        block.attn.to_add_out.weight[:, 128:] = 0
        block.ff.net[2].weight[:, 512:] = 0
        block.ff_context.net[2].weight[:, 512:] = 0
    for block in reference.single_transformer_blocks:
        block.proj_out.weight[:, 128:192] = 0
        block.proj_out.weight[:, 192 + 512 :] = 0
    good.append(report("narrow", ours(latents, text, pooled, time, guidance, narrow), reference(**arguments).sample))

    config = VaeConfig()
    ours = shaken(Autoencoder(config))
    reference = load(AutoencoderKL.from_config(json.loads(config.to_json())), ours.state_dict())
    picture = torch.rand(1, 3, 128, 128) * 2 - 1
    moments = reference.encode(picture).latent_dist
    good.append(report("vae encoder", torch.cat(ours.encode(picture)), torch.cat([moments.mean, moments.logvar])))
    good.append(report("vae decoder", ours.decode(moments.mean), reference.decode(moments.mean).sample))

    with tempfile.TemporaryDirectory() as folder:
        config = T5Config(500)
        ours = shaken(T5Encoder(config))
        (Path(folder) / "config.json").write_text(config.to_json())
        reference = load(T5EncoderModel(ReferenceT5Config.from_pretrained(folder)), ours.state_dict())
        ids = torch.randint(0, 500, (3, 200))
        good.append(report("t5", ours(ids), reference(ids)[0]))

        config = ClipConfig(500)
        ours = shaken(ClipEncoder(config))
        (Path(folder) / "config.json").write_text(config.to_json())
        reference = load(CLIPTextModel(CLIPTextConfig.from_pretrained(folder)), ours.state_dict())
        ids = torch.randint(0, 498, (3, 77))
        ids[0, 5:], ids[1, 20:], ids[2, 76:] = 499, 499, 499
        good.append(report("clip pooled", ours(ids), reference(ids).pooler_output))
        good.append(report("clip, ids cut short", ours(ids[:2, :30]), reference(ids).pooler_output[:2]))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
