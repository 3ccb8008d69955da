"""Pages that are files already: package descriptions, licences, change logs, READMEs, message catalogues.

Invariant: only bytes on disk are read, in sorted order; times, owners and symbolic links do not matter.
"""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from email.utils import parsedate
from pathlib import Path

MAX_FILE = 1 << 20  # bytes: past this a "page" is a data file or a change log of decades

_KINDS = (
    ("license", re.compile(r"(?i)^(un)?(licen[cs]e|copying|copyright|notice|legal|third.?party|bsd|gpl|mit|apache)")),
    ("changelog", re.compile(r"(?i)^(change|history|news|release|whats.?new|upgrad)")),
    ("readme", re.compile(r"(?i)^(readme|faq|contribut|authors|credits|thanks|install|hacking|todo|security|about)")),
)
_NO_PAGE = re.compile(r"INSTALLER|.*requirements.*")
_TEXT_END = re.compile(
    r"|\.(txt|md|rst|markdown)|\.[A-Z][A-Za-z0-9_-]*"
)  # LICENSE, README.md, LICENSE.APACHE, NEWS.Debian
_DATE = re.compile(r"\b(20\d\d|19[89]\d)-(\d\d)-(\d\d)\b")
_DEBIAN_DATE = re.compile(r"^ -- .*>  (.+)$", re.MULTILINE)
_URL = re.compile(r"https?://[^\s<>\"')]+")


@dataclass(frozen=True)
class Package:
    """What a distribution's METADATA says about itself; `date` is the day of its release where a file names it."""

    name: str
    version: str = ""
    url: str | None = None
    license: str | None = None
    date: str | None = None
    description: str = ""


def walk(root: Path, skip: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Regular files below `root` by path, in sorted order, without folders named in `skip` and without links."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in skip)
        for name in sorted(files):
            path = Path(folder, name)
            if not path.is_symlink() and path.is_file():
                yield path


def text_kind(name: str) -> str | None:
    """license, changelog or readme for a file of that name, None for what is no page."""
    stem, end = os.path.splitext(name.removesuffix(".gz"))
    if not _TEXT_END.fullmatch(end) or _NO_PAGE.fullmatch(stem):
        return None
    kind = next((kind for kind, pattern in _KINDS if pattern.match(stem)), None)
    return kind or ("readme" if end in (".md", ".rst") else None)


def read_bytes(path: Path) -> bytes:
    """The file's bytes; none where it is larger than a page can be or may not be read."""
    try:
        return path.read_bytes() if path.stat().st_size <= MAX_FILE else b""
    except OSError:
        return b""


def read_text(path: Path) -> str | None:
    """The file's text, gunzipped where its name ends so; None if too large, empty, unreadable or binary."""
    data = read_bytes(path)
    if path.suffix == ".gz":
        try:
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MAX_FILE + 1)
        except (OSError, EOFError, zlib.error):
            return None
    if not data.strip() or len(data) > MAX_FILE or b"\0" in data[:1000]:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def packages(site: Path) -> tuple[dict[str, Package], dict[str, Package]]:
    """Two maps of an installation folder: file (path below `site`, with `/`) and `*.dist-info` folder -> its Package."""
    by_file: dict[str, Package] = {}
    by_info: dict[str, Package] = {}
    for info in sorted(site.glob("*.dist-info")):
        try:
            package = _package((info / "METADATA").read_bytes(), info.name)
        except OSError:
            continue
        by_info[info.name] = package
        try:
            with (info / "RECORD").open(encoding="utf-8", newline="") as stream:
                by_file.update((row[0], package) for row in csv.reader(stream) if row)
        except (OSError, UnicodeDecodeError, csv.Error):  # a distribution may lack the list of its files
            continue
    return by_file, by_info


def catalogue_text(data: bytes) -> str | None:
    """The translated messages of a compiled gettext catalogue (.mo), one a paragraph; None where it is none."""
    order = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}.get(data[:4])
    if order is None or len(data) < 20:
        return None
    try:
        count, _, table = struct.unpack_from(order + "3I", data, 8)
        spans = struct.unpack_from(f"{order}{2 * count}I", data, table)
    except struct.error:
        return None
    messages = [data[at : at + length] for length, at in zip(spans[::2], spans[1::2])]
    # the first message is the header; plural forms are parted by NUL
    parts = [m.replace(b"\0", b"\n") for m in messages if m and not m.startswith(b"Project-Id-Version")]
    try:
        return "\n\n".join(part.decode("utf-8").strip() for part in parts) + "\n" if parts else None
    except UnicodeDecodeError:
        return None


def date_in(text: str, version: str = "") -> str | None:
    """ISO day found beside `version` on a line of the text, or first in its head, or signed under a Debian change."""
    if version:
        near = re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.]).{{0,80}}?({_DATE.pattern})", text)
        return _valid(near.group(1)) if near else None
    head = text[:3000]
    if found := _DATE.search(head):
        return _valid(found.group())
    if found := _DEBIAN_DATE.search(head):
        return mail_date(found.group(1))
    return None


def mail_date(text: str) -> str | None:
    """'Mon, 04 Dec 2023 17:58:44 +0000' or 'Mon Dec  4 17:58:44 2023' -> '2023-12-04'; None for anything else."""
    parts = parsedate(text)
    return _valid("{:04d}-{:02d}-{:02d}".format(*parts)) if parts else None


def url_in(text: str) -> str | None:
    """The address after `Source:`, `Homepage:` or `Upstream` in the head of a Debian copyright file."""
    for line in text[:3000].splitlines():
        if line.startswith(("Source:", "Homepage:", "Upstream")) and (found := _URL.search(line)):
            return found.group().rstrip(".,;")
    return None


def _package(metadata: bytes, folder: str) -> Package:
    head = HeaderParser().parsestr(metadata.decode("utf-8", "replace"))
    body = head.get_payload()
    description = str(body).strip() if body else re.sub(r"\n {7,8}\|?", "\n", _first(head, "Description") or "").strip()
    version = _first(head, "Version") or ""
    calendar = re.fullmatch(r"(20\d\d)\.(\d{1,2})\.(\d{1,2})", version)
    day = "-".join(f"{int(part):02d}" for part in calendar.groups()) if calendar else ""
    return Package(
        name=_first(head, "Name") or folder.split("-")[0],
        version=version,
        url=_home_page(head),
        license=_license(head),
        date=_valid(day) or date_in(description, version),
        description=description,
    )


def _first(head: Message, key: str) -> str | None:
    value = str(head.get(key, "")).strip()
    return value if value and value != "UNKNOWN" else None


def _home_page(head: Message) -> str | None:
    """Home-Page, else the project URL with the label that says so, else the first one."""
    if home := _first(head, "Home-page"):
        return home
    named = {}
    for entry in head.get_all("Project-URL", []):
        label, _, url = str(entry).partition(",")
        named.setdefault(label.strip().lower(), url.strip())
    for label in ("homepage", "home", "home page", "documentation", "docs", "source", "source code", "repository"):
        if named.get(label):
            return named[label]
    return next(iter(named.values()), None) or None


def _license(head: Message) -> str | None:
    """The SPDX expression, else a short `License` field, else the classifier's last part."""
    short = _first(head, "License-Expression") or _first(head, "License") or ""
    if short and len(short) <= 60 and "\n" not in short:
        return short
    classifiers = [str(c) for c in head.get_all("Classifier", []) if str(c).startswith("License ::")]
    return classifiers[-1].rpartition(" :: ")[2] if classifiers else None


def _valid(day: str) -> str | None:
    try:
        return datetime.date.fromisoformat(day).isoformat()
    except ValueError:
        return None
