"""A tiny SentencePiece model and trigram ARPA files, made where a test needs them, and a naive reader of ARPA files."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import io
import json
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAGES = Path(__file__).parent / "golden" / "pages.jsonl"
DISCOUNT = 0.5


@functools.cache
def pages() -> list[str]:
    texts = (json.loads(line)["text"] or "" for line in PAGES.open(encoding="utf-8"))
    return [text.replace("\0", "") for text in texts if text]


@functools.cache
def folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="tamis-kenlm-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@functools.cache
def tokenizer() -> str:
    """Path of a SentencePiece model of about 300 pieces, with its usual normalisation; one a process."""
    import sentencepiece

    texts = [" ".join(text.split())[:2000].lower() for text in pages()[:40]]
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=made,
        vocab_size=300,
        hard_vocab_limit=False,
        character_coverage=0.99,  # so that some characters are in no piece
        num_threads=1,
        minloglevel=2,
    )
    path = folder() / "toy.sp.model"
    path.write_bytes(made.getvalue())
    return str(path)


@functools.cache
def pieces_of(path: str):
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=path).encode_as_pieces


@functools.cache
def toy(first: int = 0, last: int = 25) -> str:
    """Path of a trigram model in ARPA over the pieces of some pages; one a process."""
    encode = pieces_of(tokenizer())
    lines = [encode(" ".join(text.split())[:1500].lower()) for text in pages()[first:last]]
    return str(write_arpa(folder() / f"toy-{first}-{last}.arpa", lines))


def example() -> dict[str, str]:
    """Files for a stage of one model; none where the libraries are not installed."""
    installed = all(importlib.util.find_spec(name) for name in ("kenlm", "sentencepiece"))
    return {"model": toy(), "tokenizer": tokenizer()} if installed else {}


def write_arpa(path: Path, lines: Sequence[Sequence[str]], *, unknown: bool = True) -> Path:
    """A trigram model with absolute discounting: what is taken off every seen n-gram is what its context backs off with."""
    sentences = [("<s>", *line, "</s>") for line in lines]
    counts = [Counter(gram for s in sentences for gram in zip(*(s[i:] for i in range(n)))) for n in (1, 2, 3)]
    words = sorted({word for (word,) in counts[0]} - {"<s>"}) + ["<unk>"] * unknown
    total = sum(counts[0][(word,)] + 1 for word in words)
    p: list[dict[tuple[str, ...], float]] = [{(word,): (counts[0][(word,)] + 1) / total for word in words}]
    backoff: dict[tuple[str, ...], float] = {}
    for n in (1, 2):
        p.append({})
        after: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for gram in counts[n]:
            after.setdefault(gram[:-1], []).append(gram)
        for context, grams in after.items():
            seen = sum(counts[n][gram] for gram in grams)
            for gram in grams:  # a shorter n-gram is there wherever a longer one is
                p[n][gram] = (counts[n][gram] - DISCOUNT) / seen
            left = 1 - sum(p[n - 1][gram[1:]] for gram in grams)
            backoff[context] = DISCOUNT * len(grams) / seen / left
    p[0][("<s>",)] = 1e-99
    sections = ["\\data\\", *(f"ngram {n + 1}={len(p[n])}" for n in range(3)), ""]
    for n in range(3):
        sections.append(f"\\{n + 1}-grams:")
        for gram, value in sorted(p[n].items()):
            end = f"\t{math.log10(backoff[gram]):.7f}" if n < 2 and gram in backoff else ""
            sections.append(f"{math.log10(value):.7f}\t{' '.join(gram)}{end}")
        sections.append("")
    path.write_text("\n".join([*sections, "\\end\\", ""]), encoding="utf-8")
    return path


@dataclass
class Arpa:
    """A back-off model, read and evaluated by its definition."""

    p: dict[tuple[str, ...], float]
    backoff: dict[tuple[str, ...], float]
    order: int

    @classmethod
    def read(cls, path: str | Path) -> Arpa:
        found, order = cls({}, {}, 0), 0
        for line in Path(path).read_text(encoding="utf-8").split("\n"):
            if line.endswith("-grams:"):
                order = int(line[1])
            elif order and "\t" in line:
                value, gram, *back = line.split("\t")
                found.p[tuple(gram.split(" "))] = float(value)
                found.backoff[tuple(gram.split(" "))] = float(back[0]) if back else 0.0
        found.order = order
        return found

    def log10(self, word: str, context: tuple[str, ...]) -> float:
        if (*context, word) in self.p:
            return self.p[(*context, word)]
        if not context:
            return self.p[("<unk>",)]
        return self.backoff.get(context, 0.0) + self.log10(word, context[1:])

    def line(self, words: Sequence[str]) -> float:
        """log10 p of the words and the end of the line, after its beginning."""
        known = [word if (word,) in self.p else "<unk>" for word in words]
        all_of_it = ["<s>", *known, "</s>"]
        return math.fsum(
            self.log10(all_of_it[i], tuple(all_of_it[max(0, i - self.order + 1) : i])) for i in range(1, len(all_of_it))
        )
