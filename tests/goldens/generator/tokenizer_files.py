"""Trains the tiny tokenizers and writes them in the two file forms that FLUX folders use."""

import io
import json
import struct
import tempfile
from collections import Counter
from pathlib import Path

import regex
import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from .corpus import SENTENCES

CLIP_PATTERN = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
CLIP_START, CLIP_END = "<|startoftext|>", "<|endoftext|>"
T5_EXTRA_IDS = 100


def write_json(path, value):
    """Indented JSON, with lists of numbers on one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, ensure_ascii=False, indent=1)
    text = regex.sub(r"\[[\d\s,]+\]", lambda match: json.dumps(json.loads(match[0])), text)
    path.write_text(text + "\n", encoding="utf-8")


def byte_symbols():
    """The GPT-2 table: byte -> printable character, in the order of CLIP's vocabulary."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {b: chr(b) for b in printable}
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + len(table) - len(printable))
    return table


def train_clip(merge_count):
    """Byte-level BPE as CLIP's: returns (vocabulary {token: id}, merges [(left, right)])."""
    table = byte_symbols()
    words = Counter()
    for sentence in SENTENCES:
        for word in regex.findall(CLIP_PATTERN, sentence.lower()):
            symbols = [table[b] for b in word.encode()]
            symbols[-1] += "</w>"
            words[tuple(symbols)] += 1
    merges = []
    while len(merges) < merge_count:
        pairs = Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = Counter({merge_word(word, best): count for word, count in words.items()})
    symbols = list(table.values())
    tokens = [*symbols, *(s + "</w>" for s in symbols), *(a + b for a, b in merges), CLIP_START, CLIP_END]
    assert len(set(tokens)) == len(tokens)
    return {token: i for i, token in enumerate(tokens)}, merges


def merge_word(word, pair):
    out = []
    for symbol in word:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return tuple(out)


def clip_tokenizer(vocab, merges):
    """The tokenizer object that transformers' CLIPTokenizer builds from vocab.json and merges.txt."""
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
            unk_token=CLIP_END,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([CLIP_START, CLIP_END])
    tokenizer.post_processor = processors.RobertaProcessing(
        (CLIP_END, vocab[CLIP_END]), (CLIP_START, vocab[CLIP_START]), False, False
    )
    return tokenizer


def write_clip(folder, vocab, merges, as_json):
    """One of the two forms: vocab.json with merges.txt, or tokenizer.json alone."""
    if as_json:
        folder.mkdir(parents=True)
        clip_tokenizer(vocab, merges).save(str(folder / "tokenizer.json"))
    else:
        write_json(folder / "vocab.json", vocab)
        lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": CLIP_START, "eos_token": CLIP_END, "pad_token": CLIP_END, "unk_token": CLIP_END}
    write_json(folder / "special_tokens_map.json", special)
    config = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77}
    write_json(folder / "tokenizer_config.json", {**config, **special, "tokenizer_class": "CLIPTokenizer"})


def protobuf_fields(data):
    """Yields (field number, value) of one protobuf message; sub-messages stay bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
        else:
            size = {1: 8, 5: 4}.get(kind) or varint()
            yield key >> 3, data[at : at + size]
            at += size


def train_t5(vocab_size, rules):
    """SentencePiece Unigram: ([(piece, score)], character map). `rules` replaces the NMT-NFKC rules."""
    options = dict(
        model_type="unigram", vocab_size=vocab_size, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, num_threads=1,
        hard_vocab_limit=False, character_coverage=1.0, byte_fallback=False, minloglevel=2,
    )  # fmt: skip
    model = io.BytesIO()
    with tempfile.TemporaryDirectory() as temp:
        if rules is None:
            options["normalization_rule_name"] = "nmt_nfkc"
        else:
            options["normalization_rule_tsv"] = f"{temp}/rules.tsv"
            lines = [
                " ".join(f"{ord(c):X}" for c in left) + "\t" + " ".join(f"{ord(c):X}" for c in right)
                for left, right in rules
            ]
            Path(temp, "rules.tsv").write_text("\n".join(lines) + "\n")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES), model_writer=model, **options
        )
    pieces, charsmap = [], None
    for field, value in protobuf_fields(model.getvalue()):
        if field == 1:
            piece = dict(protobuf_fields(value))
            score = struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0
            pieces.append((piece[1].decode(), score))
        elif field == 3:
            charsmap = dict(protobuf_fields(value))[2]
    assert [p for p, _ in pieces[:3]] == ["<pad>", "</s>", "<unk>"]
    return pieces, charsmap


def small_rules():
    """A small character map for the second folder: white space, full-width ASCII, ligatures, accents."""
    rules = [(c, " ") for c in "\t\n\r\u00a0\u2003\u3000"]
    rules += [("\u200b", ""), ("ﬁ", "fi"), ("½", "1⁄2"), ("™", "TM"), ("…", "..."), ("№", "No")]
    rules += [(chr(c + 0xFEE0), chr(c)) for c in range(0x21, 0x7F)]
    return [*rules, ("e\u0301", "é"), ("i\u0308", "ï"), ("u\u0308", "ü")]


def write_t5(folder, pieces, charsmap, converted, max_length):
    """tokenizer.json; `converted` is the form made from spiece.model, otherwise the older T5 form."""
    extra = [f"<extra_id_{i}>" for i in range(T5_EXTRA_IDS)]
    vocab = [*pieces, *((name, 0.0) for name in reversed(extra))]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=2, byte_fallback=False))
    metaspace = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    if converted:
        strip = normalizers.Strip(left=False, right=True)
        spaces = normalizers.Replace(Regex(" {2,}"), "▁")
        tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap), strip, spaces])
        tokenizer.pre_tokenizer = metaspace
    else:
        tokenizer.normalizer = normalizers.Precompiled(charsmap)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>", *reversed(extra)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"], special_tokens=[("</s>", 1)]
    )
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    write_json(folder / "special_tokens_map.json", {**special, "additional_special_tokens": extra})
    config = {"additional_special_tokens": extra, "extra_ids": T5_EXTRA_IDS, "model_max_length": max_length}
    write_json(folder / "tokenizer_config.json", {**config, **special, "tokenizer_class": "T5Tokenizer"})
    return len(vocab)
