"""Tiny tokenizers and Hugging Face models with random weights, made where a test needs them: no download."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

TEXTS = [
    "The cat sat on the mat, and the dog looked at it.",
    "Numbers: 1 22 333; don't split what's whole! (Or do?)",
    "Eine Straße in Köln führt über die Brücke.",
    "清明前的茶叶最好。日本語のテキスト。",
    "line one\nline two\n\nline four\ttab",
] * 4


def tokenizer_json(path: Path, kind: str = "bytes", *, texts: list[str] = TEXTS, **changes: Any) -> Path:
    """Writes a tokenizer.json. kind: bytes (GPT-2's), metaspace (SentencePiece's BPE without cuts before), unigram,
    words (BERT's), fixed (five characters a token). changes: keys of its JSON."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if kind == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer: Any = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    elif kind == "metaspace":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        trainer = trainers.BpeTrainer(
            vocab_size=300, special_tokens=["<unk>"], max_token_length=12, show_progress=False
        )
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=200, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
        )
    elif kind == "fixed":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.FixedLength(length=5)
        trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False)
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    if kind == "words":
        from tokenizers.processors import TemplateProcessing

        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
        )
    made = json.loads(tokenizer.to_str())
    path.write_text(json.dumps({**made, **changes}), encoding="utf-8")
    return path


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tamis-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def tokenizer() -> str:
    """Path of a byte-level tokenizer, one a process."""
    return str(tokenizer_json(_folder() / "tokenizer.json"))


@functools.cache
def word_list() -> str:
    """Path of a word list, one a process."""
    path = _folder() / "words"
    path.write_text("the\nword word\nlorem ipsum\n茶\nनदी\n", encoding="utf-8")
    return str(path)


def classifier(
    folder: Path,
    *,
    labels: tuple[str, ...] = ("fine", "toxic"),
    problem: str | None = None,
    positions: int = 64,
    family: str = "bert",
    seed: int = 0,
) -> Path:
    """Writes a folder with a random sequence classifier of two layers and its tokenizer. family: bert or roberta."""
    import torch
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        PreTrainedTokenizerFast,
        RobertaConfig,
        RobertaForSequenceClassification,
    )

    folder.mkdir(parents=True, exist_ok=True)
    file = tokenizer_json(folder / "made.json", "words")
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    limit = positions - (1 if family == "roberta" else 0)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file), model_max_length=limit, **special)
    file.unlink()
    config: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": positions,
        "pad_token_id": tokenizer.pad_token_id,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
        "problem_type": problem,
    }
    torch.manual_seed(seed)
    if family == "roberta":
        model: Any = RobertaForSequenceClassification(RobertaConfig(**config))
    else:
        model = BertForSequenceClassification(BertConfig(**config))
    with torch.no_grad():  # at their first values all texts would score much the same
        for tensor in model.parameters():
            tensor.normal_(0, 0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@functools.cache
def tiny_lm() -> str:
    """Path of a random Llama, one a process."""
    return str(causal_lm(_folder() / "llama", positions=2048))


def causal_lm(
    folder: Path,
    family: str = "llama",
    *,
    positions: int = 64,
    seed: int = 0,
    padding: int = 3,
    special: tuple[str, str] | None = ("<s>", "</s>"),
    **settings: Any,
) -> Path:
    """Writes a folder with a random causal language model of two layers and its byte-level tokenizer. family: gpt2, llama,
    qwen2, gemma2 (caps its logits), cohere, granite (scale them), mamba (no attention). special: bos and eos, or None.
    padding: rows of the embedding beyond the tokens. settings: of the config."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    file = tokenizer_json(folder / "made.json")
    named = {} if special is None else {"bos_token": special[0], "eos_token": special[1]}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), **named)
    file.unlink()
    config: dict[str, Any] = {
        "vocab_size": len(tokenizer) + padding,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": None,
    }
    if family == "gpt2":
        config |= {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": positions, **settings}
        model: Any = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config))
    elif family == "mamba":
        config |= {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, **settings}
        model = transformers.MambaForCausalLM(transformers.MambaConfig(**config))
    else:
        config |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
        config |= {"intermediate_size": 48, "max_position_embeddings": positions}
        if family == "gemma2":
            config |= {
                "head_dim": 16,
                "query_pre_attn_scalar": 16,
                "final_logit_softcapping": 5.0,
                "sliding_window": 32,
            }
        names = {"llama": "Llama", "qwen2": "Qwen2", "gemma2": "Gemma2", "cohere": "Cohere", "granite": "Granite"}
        made = getattr(transformers, f"{names[family]}Config")(**{**config, **settings})
        model = getattr(transformers, f"{names[family]}ForCausalLM")(made)
    torch.manual_seed(seed)
    with torch.no_grad():  # at their first values all tokens would be as likely
        for tensor in model.parameters():
            tensor.normal_(0, 0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
