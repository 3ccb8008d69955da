"""`tamis sample DIR`: a small corpus of real text from what is installed on this machine, without a network.

Invariant: the shards are a function of the bytes of the environment (its packages, the standard library, the system's
documentation): sorted walks, identifiers from paths, order by identifier, no clock and no randomness. Nothing that is
read is ever executed. Copies are left in on purpose: packages that carry other packages inside them, licences, the
same catalogue under two names are the duplicates that a filter has to find.
"""

from __future__ import annotations

import os
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from ..stages.errors import SetupError
from . import sample_files as files
from . import sample_python as python

COLUMNS = ("id", "text", "url", "date", "source", "kind", "license")
SCHEMA = pa.schema([(name, pa.large_string() if name == "text" else pa.string()) for name in COLUMNS])

# Bounds on what is read, so that a machine with 500 packages does not take minutes: files are taken by the hash of
# their path until the sum is reached. 113 MB of Python are in an environment with Tamis and its tools.
PYTHON_BYTES = 130_000_000
SYSTEM_BYTES = 5_000_000
CATALOGUE_BYTES = 6_000_000

# Tests document nothing that a reader would look up.
_SKIP = frozenset({"__pycache__", "tests", "test", "testing", "node_modules", "site-packages", "dist-packages"})
_OWN = "tamis"  # left out: an edit of this project should not move the figures of its own quickstart
_ROWS_PER_GROUP = 500


class Page(NamedTuple):
    """One document; `name` is its path below what `source` and `kind` say, and makes its identifier."""

    source: str
    kind: str
    name: str
    text: str
    url: str | None = None
    date: str | None = None
    license: str | None = None


@dataclass(frozen=True)
class SampleReport:
    """What was written: documents, bytes of UTF-8 text, words (by white space) of the median document."""

    directory: str
    files: tuple[str, ...]
    documents: int
    text_bytes: int
    median_words: int
    exact_copies: int  # documents whose text an earlier one has, letter by letter
    kinds: tuple[tuple[str, int], ...]  # most frequent first

    def __str__(self) -> str:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.kinds)
        return (
            f"{self.documents:,} documents, {self.text_bytes / 1e6:.1f} MB of text in {len(self.files)} shards "
            f"at {self.directory}\n{kinds}; median {self.median_words} words, {self.exact_copies:,} exact copies"
        )


@dataclass(frozen=True)
class Environment:
    """Where text is looked for: installation folders of packages, the standard library, the system's shared data."""

    sites: tuple[Path, ...]
    stdlib: Path
    share: Path = Path("/usr/share")

    @classmethod
    def current(cls) -> Environment:
        """Of the running interpreter."""
        paths = sysconfig.get_paths()
        sites = sorted({os.path.realpath(paths[key]) for key in ("purelib", "platlib")})
        return cls(tuple(map(Path, sites)), Path(paths["stdlib"]))


def build_sample(directory: str, *, shards: int = 8, environment: Environment | None = None) -> SampleReport:
    """Writes `sample-*.parquet` (zstd; columns `COLUMNS`, all strings) into `directory` and says what is in it.

    Shards of an earlier build there are replaced, other files are left alone. SetupError where the folder cannot be
    written or the environment (default: the running interpreter's) has no text at all.
    """
    unique: dict[str, Page] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SyntaxWarning: other people's invalid escapes
        for page in _all_pages(environment or Environment.current()):
            unique.setdefault(f"{_hash(*page[:3]):016x}", page)
    if not unique:
        raise SetupError("no package, library or system documentation was found to make a sample of")
    ids = sorted(unique)
    pages = [unique[i] for i in ids]
    shards = max(1, min(shards, len(pages)))
    bounds = [len(pages) * k // shards for k in range(shards + 1)]
    names = [f"sample-{k:05d}.parquet" for k in range(shards)]
    try:
        target = Path(directory)
        target.mkdir(parents=True, exist_ok=True)
        for old in target.glob("sample-*.parquet"):
            old.unlink()
        for name, start, stop in zip(names, bounds, bounds[1:]):
            _write(target / name, ids[start:stop], pages[start:stop])
    except OSError as error:
        raise SetupError(f"{directory}: the sample cannot be written ({error.strerror or error})") from error
    words = sorted(len(page.text.split()) for page in pages)
    return SampleReport(
        directory=directory,
        files=tuple(names),
        documents=len(pages),
        text_bytes=sum(len(page.text.encode()) for page in pages),
        median_words=words[len(words) // 2],
        exact_copies=len(pages) - len({page.text for page in pages}),
        kinds=tuple(Counter(page.kind for page in pages).most_common()),
    )


def _write(path: Path, ids: Sequence[str], pages: Sequence[Page]) -> None:
    columns = [ids, *([getattr(page, name) for page in pages] for name in COLUMNS[1:])]
    table = pa.table([pa.array(values, field.type) for values, field in zip(columns, SCHEMA)], schema=SCHEMA)
    partial = path.with_name(f".{path.name}")
    pq.write_table(table, partial, compression="zstd", row_group_size=_ROWS_PER_GROUP, write_page_checksum=True)
    os.replace(partial, path)


def _all_pages(environment: Environment) -> Iterator[Page]:
    for site in environment.sites:
        yield from _installed(site)
    yield from _standard_library(environment.stdlib)
    yield from _system(environment.share)


def _installed(site: Path) -> Iterator[Page]:
    """Descriptions, text files and module pages of the packages in one installation folder."""
    by_file, by_info = files.packages(site)
    for info, package in by_info.items():
        if package.description and package.name != _OWN:
            text = f"{package.name} {package.version}\n\n{package.description}\n"
            yield _page(package, "description", info.split("-")[0], text)
    sources = []
    for path in files.walk(site, _SKIP):
        name = path.relative_to(site).as_posix()
        top = name.partition("/")[0]
        package = by_file.get(name) or by_info.get(top) or files.Package(top.removesuffix(".py"))
        if package.name == _OWN:
            continue
        if path.suffix == ".py":
            sources.append((name, path, package))
        elif (kind := files.text_kind(path.name)) and (text := files.read_text(path)):
            yield _page(package, kind, name, text)
    for name, path, package in _within(sources, PYTHON_BYTES):
        if not (path.name.startswith("test_") or path.name == "conftest.py"):
            text = python.module_page(files.read_bytes(path), python.module_title(path.relative_to(site).parts))
            if text:
                yield _page(package, "module", name, text)


def _standard_library(root: Path) -> Iterator[Page]:
    """Language topics and module pages of Python itself."""
    date, topics = python.topic_pages(files.read_bytes(root / "pydoc_data" / "topics.py"))
    version = sysconfig.get_python_version()
    this = files.Package("python", version, license="PSF-2.0", date=date)
    for name, text in topics:
        yield _page(this, "topic", name, text)
    for path in files.walk(root, _SKIP | {"idle_test"}):
        parts = path.relative_to(root).parts
        if path.suffix != ".py" or parts[0] == "pydoc_data":
            continue
        title = python.module_title(parts)
        if text := python.module_page(files.read_bytes(path), title):
            # the address that pydoc shows for a module; a submodule is described on its package's page
            top = title.partition(".")[0].lower()
            url = None if "._" in f".{title}" else f"https://docs.python.org/{version}/library/{top}.html"
            yield Page("python", "module", "/".join(parts), text, url, date, "PSF-2.0")


def _system(share: Path) -> Iterator[Page]:
    """Text files and message catalogues of the operating system's packages, as far as the machine has them."""
    found = [*files.walk(share / "common-licenses"), *(p for p in files.walk(share / "doc") if files.text_kind(p.name))]
    texts = [(path.relative_to(share).as_posix(), path) for path in found]
    for name, path in _within(texts, SYSTEM_BYTES):
        kind = files.text_kind(path.name) or "license"
        if text := files.read_text(path):
            date = files.date_in(text) if kind == "changelog" else None
            yield Page(name.split("/")[1], kind, name, text, files.url_in(text), date)
    catalogues = [(p.relative_to(share).as_posix(), p) for p in files.walk(share / "locale") if p.suffix == ".mo"]
    for name, path in _within(catalogues, CATALOGUE_BYTES):
        if text := files.catalogue_text(files.read_bytes(path)):
            yield Page(path.stem, "messages", name, text)


def _page(package: files.Package, kind: str, name: str, text: str) -> Page:
    # a folder's name holds the version; the identifier of a page should outlive an upgrade
    stable = name.replace(f"-{package.version}.dist-info", "") if package.version else name
    date = package.date if kind != "changelog" else files.date_in(text) or package.date
    return Page(package.name, kind, stable, text, package.url, date, package.license)


def _within(entries: Sequence[tuple], budget: int) -> list[tuple]:
    """The entries (name, path, ...) whose files fit into `budget` bytes, taken by the hash of their names."""
    chosen, left = [], budget
    for entry in sorted(entries, key=lambda entry: _hash(entry[0])):
        left -= entry[1].stat().st_size
        if left < 0:
            break
        chosen.append(entry)
    return chosen


def _hash(*names: str) -> int:
    return xxhash.xxh3_64_intdigest("\0".join(names).encode("utf-8", "surrogateescape"))
