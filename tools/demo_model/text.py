"""Trains and loads the two tokenizers: a CLIP-style byte-level BPE and a T5-style Unigram.

The files have the layout of FLUX.1's own, so any loader of those reads these.
"""

import json
import unicodedata

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

# BPE counts the bytes and the merges; their word-final forms come on top.
CLIP_VOCABULARY = 1536
T5_VOCABULARY = 1536
CLIP_TOKENS, T5_TOKENS = 77, 64
START, END = "<|startoftext|>", "<|endoftext|>"
CLIP_PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def write_json(path, content):
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def clip_pipeline(model):
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer


def train_clip(captions, folder):
    """Learns merges, then renumbers: 256 bytes, 256 word-final bytes, merges in order, start, end.

    That is the order of OpenAI's vocabulary, and it makes the end token the largest id, which is how the
    text model finds the row to pool.
    """
    tokenizer = clip_pipeline(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>"))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=CLIP_VOCABULARY - 2, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False,
        min_frequency=20,
    )  # fmt: skip
    tokenizer.train_from_iterator(captions, trainer)
    merges = [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    tokens += [token for token in dict.fromkeys(a + b for a, b in merges) if token not in set(tokens)]
    tokens += [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "vocab.json", {token: i for i, token in enumerate(tokens)})
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    write_json(folder / "special_tokens_map.json", special)
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": CLIP_TOKENS, "do_lower_case": True,
                "add_prefix_space": False, "errors": "replace"}  # fmt: skip
    write_json(folder / "tokenizer_config.json", settings | special)


def train_t5(captions, folder):
    """Unigram over words split at spaces; case-sensitive, with all of ASCII known."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=T5_VOCABULARY, special_tokens=special, unk_token="<unk>", show_progress=False,
        initial_alphabet=["▁", *(chr(code) for code in range(33, 127))],
    )  # fmt: skip
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"], special_tokens=[("</s>", 1)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    write_json(folder / "special_tokens_map.json", names)
    settings = {"tokenizer_class": "T5TokenizerFast", "model_max_length": T5_TOKENS, "extra_ids": 0,
                "additional_special_tokens": []}  # fmt: skip
    write_json(folder / "tokenizer_config.json", settings | names)


def train(captions, folder):
    captions = [unicodedata.normalize("NFC", caption) for caption in captions]
    train_clip(captions, folder / "tokenizer")
    train_t5(captions, folder / "tokenizer_2")


class TextIds:
    """Turns prompts into the ids FLUX.1 feeds its encoders: padded, template applied, cut to length."""

    def __init__(self, folder):
        vocabulary = json.loads((folder / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
        lines = (folder / "tokenizer" / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
        merges = [tuple(line.split(" ")) for line in lines]
        self.end = vocabulary[END]
        self.clip = clip_pipeline(
            models.BPE(vocab=vocabulary, merges=merges, unk_token=END, continuing_subword_prefix="",
                       end_of_word_suffix="</w>")
        )  # fmt: skip
        self.clip.post_processor = processors.RobertaProcessing(
            (END, self.end), (START, vocabulary[START]), trim_offsets=False, add_prefix_space=False
        )
        self.t5 = Tokenizer.from_file(str(folder / "tokenizer_2" / "tokenizer.json"))
        self.clip_size, self.t5_size = len(vocabulary), self.t5.get_vocab_size()

    def __call__(self, prompts, clip_tokens=CLIP_TOKENS, t5_tokens=T5_TOKENS):
        clip = np.full((len(prompts), clip_tokens), self.end, np.int16)
        t5 = np.zeros((len(prompts), t5_tokens), np.int16)
        for rows, encoder, last in ((clip, self.clip, self.end), (t5, self.t5, 1)):
            for row, encoding in zip(rows, encoder.encode_batch(prompts), strict=True):
                ids = encoding.ids
                if len(ids) > len(row):
                    ids = [*ids[: len(row) - 1], last]
                row[: len(ids)] = ids
        return clip, t5
