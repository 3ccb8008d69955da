"""Folders of causal language models, read without torch: what they hold, and whether two of them can be compared.

Invariant: reads JSON and the headers of safetensors files and nothing else, so `tamis plan` can say what a model is on a
machine that could not run it.
"""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .base import ModelError
from .hugging_face import architecture, check_sizes, check_tokenizer, check_weights, read_config, read_json

# Names under which architectures keep one and the same setting; the first is the usual one.
_HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
_LARGEST_HEADER = 100 << 20  # bytes; that of a model of 10,000 tensors has 1 MB


@dataclass(frozen=True)
class LMFacts:
    """What a folder says of itself. hidden and layers are 0 where config.json does not say."""

    name: str  # of the folder; where that is a hash, the one that config.json was saved under
    architecture: str  # such as LlamaForCausalLM
    vocabulary: int  # rows of the embedding
    hidden: int  # numbers of a hidden state
    layers: int
    positions: int | None  # tokens that it reads at once; None: no limit
    parameters: int  # numbers in the safetensors files
    tokens: int | None  # of the tokenizer: its highest id + 1; None where it is not in tokenizer.json


def read_facts(path: str | Path, *, remote_code: bool = False, start_token: str = "auto") -> LMFacts:
    """What the folder holds. ModelError where it is no causal LM that can be loaded safely, or where its tokenizer belongs
    to another model: more tokens than rows, or, unless `start_token` states which one stands before a text, another bos
    or eos in tokenizer_config.json than in config.json."""
    path = Path(path)
    config = read_config(path)
    named = architecture(config)
    if named.endswith("ForConditionalGeneration"):
        raise ModelError(
            f"{path}: {named} reads more than text or has an encoder: name a model of text alone, whose architecture "
            "ends in ForCausalLM"
        )
    if not named.endswith(("ForCausalLM", "LMHeadModel")):
        raise ModelError(
            f"{path}: config.json names the architecture {named}; a causal language model's ends in ForCausalLM or "
            "LMHeadModel"
        )
    if "auto_map" in config and not remote_code and not _native(config.get("model_type")):
        raise ModelError(
            f"{path}: the model needs code of its own (auto_map in config.json), which runs only with remote_code: true"
        )
    check_weights(path, "AutoModelForCausalLM")
    check_tokenizer(path)
    vocabulary = _number(path, config, ("vocab_size",))
    if not vocabulary:
        raise ModelError(f"{path}: config.json gives no vocab_size")
    known = _vocabulary(path)
    tokens = max(known.values()) + 1 if known else None
    if tokens is not None:
        check_sizes(path, tokens, vocabulary)
        if start_token == "auto":
            _check_special(path, config, known)
    return LMFacts(
        name=_name(path, config),
        architecture=named,
        vocabulary=vocabulary,
        hidden=_number(path, config, _HIDDEN) or 0,
        layers=_number(path, config, _LAYERS) or 0,
        positions=_number(path, config, _POSITIONS),
        parameters=sum(_parameters(file) for file in _weight_files(path)),
        tokens=tokens,
    )


def check_pair(model: LMFacts, observer: LMFacts, path: str | Path, observer_path: str | Path) -> None:
    """ModelError where the two do not have the same tokens under the same ids: their probabilities could not be compared
    token by token. Rows of the embedding beyond the tokens may differ."""
    one, other = _vocabulary(Path(path)), _vocabulary(Path(observer_path))
    for folder, facts, found in ((path, model, one), (observer_path, observer, other)):
        if not found:
            raise ModelError(
                f"{folder}: no tokenizer.json to compare the tokens of {facts.name} by: "
                "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) writes it"
            )
    if one != other:
        odd = min((t for t in one.keys() | other.keys() if one.get(t) != other.get(t)), key=lambda t: (len(t), t))
        where = " and ".join(
            f"{found.get(odd, 'missing')} in {f}" for found, f in ((one, path), (other, observer_path))
        )
        raise ModelError(
            f"model and observer have different tokenizers: token {odd!r} is {where}; name a pair of one family"
        )


def _native(model_type: object) -> bool:
    """Whether transformers has this kind of model itself, so that the code beside older copies of it need not run."""
    spec = importlib.util.find_spec("transformers")
    name = str(model_type).replace("-", "_")
    folders = spec.submodule_search_locations or () if spec else ()
    return name.isidentifier() and any((Path(folder) / "models" / name).is_dir() for folder in folders)


def _name(path: Path, config: dict[str, Any]) -> str:
    """The folder's name. A folder of a download cache is named by a hash; only there does the name count that config.json
    was saved under, because a fine-tuned model often keeps that of the model it came from."""
    name, given = path.resolve().name, config.get("_name_or_path")
    hashed = len(name) in (32, 40) and set(name) <= set("0123456789abcdef")
    return Path(given).name if hashed and isinstance(given, str) and Path(given).name else name


def _number(path: Path, config: dict[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        if config.get(name) is not None:
            found = config[name]
            if type(found) is not int or found < 1:
                raise ModelError(f"{path}: config.json: {name} is {found!r}")
            return found
    return None


# --- the tokenizer


def _vocabulary(path: Path) -> dict[str, int]:
    """Token to id, added tokens among them; empty where tokenizer.json is missing."""
    file = path / "tokenizer.json"
    if not file.is_file():
        return {}
    found = read_json(file)
    try:
        vocabulary = found["model"]["vocab"]
        if isinstance(vocabulary, list):  # unigram: pairs of token and score
            vocabulary = {token: at for at, (token, _) in enumerate(vocabulary)}
        added = {token["content"]: token["id"] for token in found.get("added_tokens") or ()}
        tokens = {str(token): int(at) for token, at in {**vocabulary, **added}.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{file}: JSON, but no tokenizer of the tokenizers library") from error
    if not tokens:
        raise ModelError(f"{file}: a tokenizer without tokens")
    return tokens


def _check_special(path: Path, config: dict[str, Any], tokens: dict[str, int]) -> None:
    if not (path / "tokenizer_config.json").is_file():
        return
    settings = read_json(path / "tokenizer_config.json")
    for kind in ("bos", "eos"):
        token = settings.get(f"{kind}_token")
        token = token.get("content") if isinstance(token, dict) else token
        said = config.get(f"{kind}_token_id")
        if token is None or said is None:
            continue
        if tokens.get(token) not in (said if isinstance(said, list) else [said]):
            raise ModelError(
                f"{path}: {kind} is {token} (token {tokens.get(token, 'missing')}) in tokenizer_config.json and token {said} "
                "in config.json: do tokenizer and model belong together? If so, `start_token: TEXT` states which token "
                "stands before a text"
            )


# --- the weights


def _weight_files(path: Path) -> list[Path]:
    """Those that the index names, or the only one."""
    if (path / "model.safetensors").is_file():
        return [path / "model.safetensors"]
    index = path / "model.safetensors.index.json"
    placed = read_json(index).get("weight_map")
    names = sorted({str(name) for name in placed.values()}) if isinstance(placed, dict) else []
    if not names or any(Path(name).name != name for name in names):
        raise ModelError(f"{index}: weight_map must name files of the same folder")
    lacks = [name for name in names if not (path / name).is_file()]
    if lacks:
        raise ModelError(f"{path}: {lacks[0]} is missing, one of {len(names)} files that {index.name} names")
    return [path / name for name in names]


def _parameters(file: Path) -> int:
    """Numbers in a safetensors file, by its header: 8 bytes of length, then JSON of names, types and shapes."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= _LARGEST_HEADER:
                raise ModelError(f"{file}: no safetensors file: its header would have {length:,} bytes")
            raw = stream.read(length)
        if len(raw) < length:
            raise ModelError(f"{file}: no safetensors file, or cut off in its header")
        header = json.loads(raw)
        return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except OSError as error:
        raise ModelError(f"{file}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{file}: no safetensors file, or cut off in its header") from error
