"""Builds the two tiny random pipelines and writes them as diffusers folders."""

import json

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from . import tokenizer_files
from .tokenizer_files import write_json

DIFFUSERS_VERSION = "0.42.1"

# dev: guidance, two heads of 64, dynamic shift. schnell: no guidance, one head of 128 (the real axes), no shift.
CONFIGS = {
    "dev": dict(
        transformer=dict(
            num_layers=2, num_single_layers=2, attention_head_dim=64, num_attention_heads=2,
            joint_attention_dim=64, pooled_projection_dim=32, guidance_embeds=True, axes_dims_rope=(8, 28, 28),
        ),
        clip=dict(hidden_size=32, intermediate_size=96, num_hidden_layers=3, num_attention_heads=2),
        clip_merges=186,
        t5=dict(d_model=64, d_kv=16, num_heads=3, d_ff=96, num_layers=2, vocab_size=448),
        t5_pieces=320,
        vae=dict(block_out_channels=(8, 8, 16, 16), layers_per_block=2, norm_num_groups=8),
        scheduler=dict(shift=3.0, use_dynamic_shifting=True),
    ),
    "schnell": dict(
        transformer=dict(
            num_layers=1, num_single_layers=1, attention_head_dim=128, num_attention_heads=1,
            joint_attention_dim=48, pooled_projection_dim=64, guidance_embeds=False, axes_dims_rope=(16, 56, 56),
        ),
        clip=dict(hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1),
        clip_merges=66,
        t5=dict(d_model=48, d_kv=64, num_heads=1, d_ff=80, num_layers=2, vocab_size=352),
        t5_pieces=240,
        vae=dict(block_out_channels=(4, 4, 4, 8), layers_per_block=1, norm_num_groups=4),
        scheduler=dict(shift=1.0, use_dynamic_shifting=False),
    ),
}  # fmt: skip


@torch.no_grad()
def randomise(model, generator):
    """Noise on every 1-D parameter, so that biases, norm weights and their order show; then bf16 values."""
    for _, p in sorted(model.named_parameters()):
        if p.ndim == 1:
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return to_bf16_values(model)


@torch.no_grad()
def to_bf16_values(model):
    for p in model.parameters():
        p.copy_(p.to(torch.bfloat16).float())
    return model.eval()


def transformer(config, generator):
    return randomise(FluxTransformer2DModel(patch_size=1, in_channels=64, **config), generator)


@torch.no_grad()
def clip(config, vocab, generator, legacy_eos):
    """Weights larger than the library's initial ones, so that the pooled row depends on the prompt."""
    eos = vocab[tokenizer_files.CLIP_END]
    ids = dict(bos_token_id=0, eos_token_id=2, pad_token_id=1)
    if not legacy_eos:
        ids = dict(bos_token_id=eos - 1, eos_token_id=eos, pad_token_id=eos)
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocab), max_position_embeddings=77, hidden_act="quick_gelu", layer_norm_eps=1e-5,
            projection_dim=config["hidden_size"], **config, **ids,
        )
    )  # fmt: skip
    for name, p in sorted(model.named_parameters()):
        if p.ndim == 2:
            std = 0.5 if "embedding" in name else 1.2 / p.shape[1] ** 0.5
            p.copy_(std * torch.randn(p.shape, generator=generator))
    randomise(model, generator)
    for p in model.parameters():  # exact in f16 too, for the f16 single file
        p[p.abs() < 2.0**-14] = 0
    return model


@torch.no_grad()
def t5(config, generator):
    model = T5EncoderModel(
        T5Config(feed_forward_proj="gated-gelu", is_encoder_decoder=False, tie_word_embeddings=False,
                 use_cache=False, pad_token_id=0, eos_token_id=1, **config)
    )  # fmt: skip
    bias = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    bias.mul_(10)
    return randomise(model, generator)


@torch.no_grad()
def vae(config, generator):
    model = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=16, act_fn="silu", sample_size=1024,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False, **config,
    )  # fmt: skip
    for part in (model.encoder, model.decoder):  # larger convolutions: some pixels leave [-1, 1] and are clamped
        for name, p in sorted(part.named_parameters()):
            if p.ndim == 4:
                p.mul_(1.7)
    return randomise(model, generator)


def write_folder(root, name, seed):
    """Writes one pipeline folder and returns its CLIP vocabulary size and T5 tokenizer size."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    config, folder = CONFIGS[name], root / name
    is_dev = name == "dev"

    model = transformer(config["transformer"], generator).to(torch.bfloat16)
    if is_dev:
        model.save_pretrained(folder / "transformer", max_shard_size="1500KB")
    else:
        model.save_pretrained(folder / "transformer")
        path = folder / "transformer" / "config.json"  # old files have neither field; the defaults are these
        fields = json.loads(path.read_text())
        write_json(path, {k: v for k, v in fields.items() if k not in ("axes_dims_rope", "out_channels")})

    vocab, merges = tokenizer_files.train_clip(config["clip_merges"])
    tokenizer_files.write_clip(folder / "tokenizer", vocab, merges, as_json=not is_dev)
    model = clip(config["clip"], vocab, generator, legacy_eos=is_dev).to(torch.bfloat16)
    model.save_pretrained(folder / "text_encoder")
    if is_dev:
        path = folder / "text_encoder" / "model.safetensors"
        tensors = {f"text_model.{k}": v for k, v in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})

    pieces, charsmap = tokenizer_files.train_t5(config["t5_pieces"], None if is_dev else tokenizer_files.small_rules())
    size = tokenizer_files.write_t5(
        folder / "tokenizer_2", pieces, charsmap, converted=is_dev, max_length=512 if is_dev else 256
    )
    assert size < config["t5"]["vocab_size"]
    t5(config["t5"], generator).to(torch.bfloat16).save_pretrained(folder / "text_encoder_2")

    vae(config["vae"], generator).to(torch.bfloat16).save_pretrained(folder / "vae")

    FlowMatchEulerDiscreteScheduler(**config["scheduler"]).save_pretrained(folder / "scheduler")
    if not is_dev:
        path = folder / "scheduler" / "scheduler_config.json"  # the short form of the original repositories
        keep = ("_class_name", "_diffusers_version", "base_image_seq_len", "base_shift", "max_image_seq_len",
                "max_shift", "num_train_timesteps", "shift", "use_dynamic_shifting")  # fmt: skip
        fields = json.loads(path.read_text())
        write_json(path, {k: v for k, v in fields.items() if k in keep})

    write_json(
        folder / "model_index.json",
        {
            "_class_name": "FluxPipeline",
            "_diffusers_version": DIFFUSERS_VERSION,
            "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "text_encoder_2": ["transformers", "T5EncoderModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "tokenizer_2": ["transformers", "T5TokenizerFast"],
            "transformer": ["diffusers", "FluxTransformer2DModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )
