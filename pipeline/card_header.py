"""The head of a data set card: what the Hugging Face Hub and the library `datasets` read in the front matter of README.md.

Invariant: every configuration that is named has files, found by listing `data/`; parts that are unknown are left out.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from .output import Output, quoted_name
from .terminal import visible

CONFIGS = 1_000  # more would make a page that nobody can open
LANGUAGES = 100
WHOLE = "default"  # the configuration of an output without sets
SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
# ISO 639-1; of three letters (639-3) any code is taken that does not say "unknown" or "several"
TWO_LETTERS = frozenset(
    re.findall(
        "..",
        "aaabaeafakamanarasavayazbabebgbhbibmbnbobrbscacechcocrcscucvcydadedvdzeeeleneoeseteufafffifjfofr"
        "fygagdglgngugvhahehihohrhthuhyhziaidieigiiikioisitiujajvkakgkikjkkklkmknkokrkskukvkwkylalblgliln"
        "loltlulvmgmhmimkmlmnmrmsmtmynanbndnengnlnnnonrnvnyocojomorospapiplpsptqurmrnrorurwsascsdsesgsisk"
        "slsmsnsosqsrssstsusvswtatetgthtitktltntotrtstttwtyugukuruzvevivowawoxhyiyozazhzu",
    )
)
NO_LANGUAGE = frozenset({"und", "mul", "mis", "zxx", "unk"})


@dataclass(frozen=True)
class DataFile:
    """A file below data/. `rows` and `text` (bytes of text) by the ledger. `set_name`: empty without sets. `partition`:
    folders such as lang=en."""

    path: str
    bytes: int
    rows: int
    text: int
    set_name: str
    partition: tuple[str, ...]

    @property
    def ending(self) -> str:
        return self.path.rpartition("/")[2].partition(".")[2]


@dataclass(frozen=True)
class Part:
    """What can be loaded by a name: a set, or one partition value of it. `pattern`: a glob below the output."""

    name: str
    pattern: str
    files: int
    bytes: int
    rows: int
    text: int
    whole: bool  # a set, not a part of one


def data_files(output: Output) -> list[DataFile]:
    """All files of data/, in order of path, with the rows that the ledger places in each."""
    held = _held(output)
    found = []
    for path, size in output.storage.list("data").items():
        folders = path.split("/")[1:-1]
        sets = [folder for folder in folders[:1] if "=" not in folder]
        found.append(DataFile(path, size, *held.get(path, (0, 0)), "".join(sets), tuple(folders[len(sets) :])))
    return found


def _held(output: Output) -> dict[str, tuple[int, int]]:
    """Rows and bytes of text by file. Of a dropped document that a set holds the ledger knows the bytes that were read."""
    if not output.storage.list("ledger"):
        return {}
    names = ["out_file", *(f"out_file_{name}" for name in output.manifest["recipe"]["write"].get("sets") or {})]
    found: dict[str, tuple[int, int]] = {}
    for name in names:
        if name in output.columns:
            query = (
                f"SELECT {quoted_name(name)} AS file, count(*) AS rows, sum(coalesce(bytes_written, bytes_read)) AS text "
                "FROM ledger WHERE file IS NOT NULL GROUP BY 1"
            )
            found |= {row["file"]: (row["rows"], int(row["text"])) for row in output.rows(query)}
    return found


def parts(files: Sequence[DataFile], sets: Iterable[str] = ()) -> list[Part]:
    """The sets in the order of the recipe (`sets`; others follow), then every partition value of every set, as long as
    they are not more than CONFIGS."""
    order = {name: at for at, name in enumerate(sets)}
    names = sorted({f.set_name for f in files}, key=lambda name: (order.get(name, len(order)), name))
    whole, single = [], []
    for name in names:
        own = [f for f in files if f.set_name == name]
        depth = "*/" * len(own[0].partition)
        whole.append(_part(name or WHOLE, f"data/{name}{'/' if name else ''}{depth}", own, whole=True))
        for partition in sorted({f.partition for f in own if f.partition}):
            title = ".".join([name, *partition] if name else partition)
            folder = "/".join(filter(None, ["data", name, *partition]))
            single.append(_part(title, f"{folder}/", [f for f in own if f.partition == partition], whole=False))
    return [*whole, *single] if len(whole) + len(single) <= CONFIGS else whole


def _part(name: str, folder: str, files: Sequence[DataFile], *, whole: bool) -> Part:
    stored, rows, text = (sum(getattr(f, key) for f in files) for key in ("bytes", "rows", "text"))
    return Part(name, f"{folder}*.{files[0].ending}", len(files), stored, rows, text, whole)


def header(output: Output, loadable: Sequence[Part], files: Sequence[DataFile]) -> list[str]:
    """The lines of the front matter, its two fences included."""
    rows = sum(part.rows for part in loadable if part.whole)
    facts: dict[str, Any] = {"pretty_name": visible(output.manifest["name"])}
    if spoken := languages(output):
        facts["language"] = spoken
    facts["task_categories"] = ["text-generation"]
    facts["size_categories"] = [size_category(rows)]
    facts["tags"] = ["text", "pretraining", "tamis"]
    if loadable:
        facts["configs"] = [_config(part, first=index == 0) for index, part in enumerate(loadable)]
        features = _features(output, files)
        facts["dataset_info"] = [_info(part, features) for part in loadable if part.whole]
    return front_matter(facts)


def front_matter(facts: dict[str, Any]) -> list[str]:
    """The facts as the lines of a card's head, its two fences included."""
    text = io.StringIO()
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 1 << 20  # type: ignore[assignment]
    yaml.dump(_quoted(facts), text)
    return ["---", *text.getvalue().rstrip("\n").split("\n"), "---"]


def _config(part: Part, *, first: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"config_name": part.name}
    if first:
        found["default"] = True
    return found | {"data_files": [{"split": "train", "path": part.pattern}]}


def _info(part: Part, features: list[dict[str, Any]]) -> dict[str, Any]:
    info: dict[str, Any] = {"config_name": part.name}
    if features:
        info["features"] = features
    split = {"name": "train", "num_bytes": part.text, "num_examples": part.rows}
    return info | {"splits": [split], "download_size": part.bytes, "dataset_size": part.text}


def _features(output: Output, files: Sequence[DataFile]) -> list[dict[str, Any]]:
    """The columns of the shards as `datasets` writes them; empty for JSON Lines, whose types it finds by itself, and
    where it has no word for a type."""
    first = next((f.path for f in files if f.ending == "parquet"), None)
    if first is None:
        return []
    with output.storage.open(first) as stream:
        schema = pq.ParquetFile(stream).schema_arrow
    try:
        return [{"name": field.name} | _feature(field.type) for field in schema]
    except TypeError:
        return []


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _feature(kind.value_type)
        word = "list" if pa.types.is_list(kind) else "large_list"
        return {word: inner["dtype"] if inner.keys() == {"dtype"} else inner}
    if pa.types.is_struct(kind):
        return {"struct": [{"name": field.name} | _feature(field.type) for field in kind]}
    if pa.types.is_dictionary(kind):
        return _feature(kind.value_type)
    word = {"double": "float64", "float": "float32", "halffloat": "float16", "date32[day]": "date32"}.get(str(kind))
    if word is None and not re.fullmatch(
        r"u?int\d+|bool|(large_)?(string|binary)|timestamp\[.*\]|decimal.*", str(kind)
    ):
        raise TypeError(str(kind))
    return {"dtype": word or str(kind)}


def size_category(rows: int) -> str:
    """The Hub's own words: n<1K, 1K<n<10K, ..., n>1T."""
    digits = len(str(max(rows, 1))) - 1
    if digits < 3:
        return f"n<{SIZES[0]}"
    if digits - 3 >= len(SIZES) - 1:
        return f"n>{SIZES[-1]}"
    return f"{SIZES[digits - 3]}<n<{SIZES[digits - 2]}"


def languages(output: Output) -> list[str]:
    """Codes of the column `lang` of what was written, most frequent first; `eng_Latn` and `en-GB` count as eng and en."""
    if not output.storage.list("ledger") or "lang" not in output.columns:
        return []
    query = "SELECT CAST(lang AS VARCHAR) AS lang, count(*) AS n FROM ledger WHERE out_file IS NOT NULL GROUP BY 1"
    counts: dict[str, int] = {}
    for row in output.rows(query):
        word = re.split(r"[-_]", row["lang"] or "")[0].lower()
        if word in TWO_LETTERS or (re.fullmatch(r"[a-z]{3}", word) and word not in NO_LANGUAGE):
            counts[word] = counts.get(word, 0) + row["n"]
    return sorted(counts, key=lambda word: (-counts[word], word))[:LANGUAGES]


def _quoted(node: Any) -> Any:
    """All strings in quotes: for YAML 1.1, which the Hub reads, a bare `no` is false."""
    if isinstance(node, dict):
        return {key: _quoted(item) for key, item in node.items()}
    if isinstance(node, list):
        return [_quoted(item) for item in node]
    return DoubleQuotedScalarString(node) if isinstance(node, str) else node
