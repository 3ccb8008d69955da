"""From band keys to connected components: which documents share a key with which, directly or through others.

Invariant: the components depend on the keys alone. Readers, partitions, rounds and salts only say where the work is done.

Phases, each a set of items that read files and save files (sizes and costs: docs/scale.md):
- bands (a reader): its documents' pairs (key, n), spread by key over the ranges of each band.
- buckets (ranges): equal keys meet; each bucket gives its star edges (first n, other n), spread by first n.
- edges0 (a partition): each edge once.
Then, while an array over all documents fits one worker:
- components: union-find over that array.
Past it, contraction in rounds t = 0, 1, ... until no edge is left (of the kind of Lacki et al., arXiv 1807.10727):
- fold{t} (edge partitions): the components of these edges alone: (node, local root), spread by node.
- join{t} (a node partition): all local roots of a node are one component. The node is linked to the best of them, and
  each other one becomes an edge to it; edges{t+1} has every such edge once, and its nodes are local roots only.
- unfold{t}, last round first (a node partition): the label of a node is the label of what it was linked to.
In a round the smallest salted hash is the best root in every fold, so the worst node of the round is a root nowhere:
nodes become fewer in every round. Edges that fit one worker are folded at once, and that is the last round.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast, overload

import numpy as np

from .base import Context, Stage, Task
from .errors import StageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAIR = np.dtype([("a", "<u8"), ("b", "<u8")])
LABEL = np.dtype([("n", "<u8"), ("label", "<u8")])

PAIRS_PER_PART = 8_000_000  # of 16 bytes; a task holds them twice while it sorts
MOST_PAIRS_PER_PART = 64_000_000  # where there would be more than MANY_PARTS otherwise: the number of reads grows with
MANY_PARTS = 2_000  # readers times parts, and a worker of a cluster has a few GB
ONE_WORKER = 400_000_000  # documents, 4 bytes each, of a union-find in one task
FINISH_EDGES = 50_000_000  # that one fold takes, at most 56 bytes each
SALT = 0  # any number gives the same components
LARGEST = 10  # buckets that the facts name


class HasBandKeys(Protocol):
    """What `connect` asks of the stage."""

    def band_keys(self, task: Task, payload: Any) -> tuple[np.ndarray, np.ndarray]:
        """(n uint64[m], keys uint64[m, bands]) of a reader's documents, each document once."""
        ...


@dataclass(frozen=True)
class Graph:
    """Where the labels are: `task.load_array(phase, item, group)` of all items together gives LABEL[k], (n, label) of the
    documents of a group that have an edge. All members of a component, and nobody else, have the same label.

    Facts: `edges` (unique star edges), `connected` (documents with an edge), `buckets` ([documents, band, first n] of the
    LARGEST largest, largest first).
    """

    phase: str
    items: list[str]
    facts: dict[str, Any]


def connect(
    ctx: Context, readers: Mapping[str, Any], documents: int, starts: Sequence[int], bands: int, own: int
) -> Graph:
    """The components of "shares a band key with" over documents 0 <= n < documents.

    readers: item name to what `stage.band_keys` takes. starts: first n of each group of documents, ascending; a label
    file has a part for each. own: documents below are of this run; those above, of earlier corpora, are connected to
    one of this run or not at all. Raises StageError if contraction does not shrink the graph, which is a bug.
    """
    size = pairs_per_part(documents * bands)
    ranges = _ceil(documents, size)
    parts = _ceil(documents, max(1, size // 2))
    ctx.map("bands", _bands, {item: [payload, bands, ranges] for item, payload in readers.items()})
    cells = [[band, band * ranges + at] for band in range(bands) for at in range(ranges)]
    each = max(1, size * ranges // max(1, documents))  # cells of small corpora go together
    bundled = [cells[at : at + each] for at in range(0, len(cells), each)]
    work = {f"b{i:06d}": [some, list(readers), own, parts] for i, some in enumerate(bundled if readers else [])}
    found = ctx.map("buckets", _buckets, work)
    buckets = _largest([bucket for facts in found.values() for bucket in facts["largest"]])
    edges = _edges(ctx, 0, "buckets", list(found), parts)
    if edges.total and documents > ONE_WORKER:
        phase, items, connected = _contract(ctx, edges, list(starts), size)
    else:
        array = [documents, list(starts)] if edges.total else [0, [0] * len(starts)]
        united = ctx.map(
            "components", _components, {"all": [edges.phase, list(edges.counts), *array]} if starts else {}
        )
        phase, items, connected = "components", list(united), sum(facts["connected"] for facts in united.values())
    return Graph(phase, items, {"edges": edges.total, "connected": connected, "buckets": buckets})


def pairs_per_part(pairs: int) -> int:
    """Pairs that a task holds, of so many in all."""
    return min(max(PAIRS_PER_PART, pairs // MANY_PARTS), MOST_PAIRS_PER_PART)


def _ceil(count: int, size: int) -> int:
    return max(1, -(-count // size))


def _flat(pairs: np.ndarray, dtype: np.dtype = PAIR) -> np.ndarray:
    """uint64[m, 2] as m records."""
    return np.ascontiguousarray(pairs).reshape(-1).view(dtype)


def _square(records: np.ndarray) -> np.ndarray:
    return records.view(np.uint64).reshape(-1, 2)


def _load(task: Task, phase: str, items: Sequence[str], part: int) -> np.ndarray:
    """uint64[m, 2]: part `part` of every item."""
    return np.concatenate([_square(task.load_array(phase, item, part)) for item in items])


# --- edges


def _bands(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    from ..kernels.buckets import spread

    payload, bands, ranges = value
    n, keys = cast(HasBandKeys, stage).band_keys(task, payload)
    saved = []
    for band in range(bands):
        pairs = np.empty((len(n), 2), np.uint64)
        pairs[:, 0] = keys[:, band]
        pairs[:, 1] = n
        saved += [_flat(part) for part in spread(pairs, 0, ranges)]
    task.save_arrays(saved)
    return {"documents": len(n)}


def _buckets(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    from ..kernels.buckets import spread, stars

    cells, readers, own, parts = value
    found, largest = [], []
    for band, part in cells:
        edges, sizes = stars(_load(task, "bands", readers, part), own, LARGEST)
        found.append(edges)
        largest += [[documents, band, first] for documents, first in sizes]
    edges = np.concatenate(found)
    task.save_arrays([_flat(part) for part in spread(edges, 0, parts)])
    return {"edges": len(edges), "largest": _largest(largest)}


def _largest(buckets: Sequence[list[int]]) -> list[list[int]]:
    """The largest of [documents, band, first n], largest first; one for each first document, as boilerplate fills a
    bucket in every band."""
    found: dict[int, list[int]] = {}
    for bucket in sorted(buckets, key=lambda b: (-b[0], *b[1:])):
        found.setdefault(bucket[2], bucket)
    return list(found.values())[:LARGEST]


@dataclass(frozen=True)
class _Edges:
    """Edges of a round, each once: items of `phase`, with the number of edges that each has as its part 0."""

    phase: str
    counts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def _edges(ctx: Context, level: int, phase: str, items: list[str], parts: int, first: int = 0) -> _Edges:
    """Gathers what `items` saved as parts `first`, `first` + 1, ..."""
    work = {f"p{part:06d}": [phase, items, first + part] for part in range(parts if items else 0)}
    found = ctx.map(f"edges{level}", _unique, work)
    return _Edges(f"edges{level}", {item: facts["edges"] for item, facts in found.items()})


def _unique(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    from ..kernels.buckets import unique_pairs

    phase, items, part = value
    held, waiting, waits = np.zeros((0, 2), np.uint64), [], 0
    for item in items:  # an edge comes from up to `bands` buckets: never held all at once
        waiting.append(_square(task.load_array(phase, item, part)))
        waits += len(waiting[-1])
        if waits > max(PAIRS_PER_PART, len(held)):
            held, waiting, waits = unique_pairs(np.concatenate([held, *waiting])), [], 0
    held = unique_pairs(np.concatenate([held, *waiting]))
    task.save_arrays([_flat(held)])
    return {"edges": len(held)}


# --- one array


class _Labels(Sequence["NDArray[Any]"]):
    """The labels of each group, made when they are asked for: all of them would be four times the array."""

    def __init__(self, starts: Sequence[int], labels: Callable[[int, int], np.ndarray], documents: int) -> None:
        self.starts, self.labels, self.bounds = starts, labels, [*starts, documents]

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return _flat(self.labels(self.bounds[index], self.bounds[index + 1]), LABEL)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))


def _components(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    from ..kernels.union_find import flatten, forest, labels, unite

    phase, items, documents, starts = value
    parent = forest(documents)
    for item in items:
        unite(parent, _load(task, phase, [item], 0))
    connected = int(flatten(parent))
    task.save_arrays(_Labels(starts, lambda start, stop: labels(parent, start, stop), documents))
    return {"connected": connected}


# --- contraction


@dataclass(frozen=True)
class _Round:
    """A round's links: items of `phase`, the links to nodes of partition q as part q."""

    phase: str
    items: list[str]
    nodes: int


def _contract(ctx: Context, edges: _Edges, starts: list[int], size: int) -> tuple[str, list[str], int]:
    """(phase, items, connected) of the labels."""
    parts = _ceil(2 * edges.total, size)  # of nodes, in all rounds
    rounds: list[_Round] = []
    while edges.total:
        edges = _round(ctx, edges, rounds, parts, size)
        if len(rounds) > 1 and rounds[-1].nodes >= rounds[-2].nodes:
            counts = [found.nodes for found in rounds]
            raise StageError(f"connected components: the graph did not become smaller: nodes of each round {counts}")
    labels: list[Any] = []
    for level in reversed(range(len(rounds))):
        links = [rounds[level].phase, rounds[level].items]
        cut = starts if level == 0 else parts
        work = {f"q{q:06d}": [q, links, labels, cut] for q in range(parts)}
        labels = [f"unfold{level}", list(ctx.map(f"unfold{level}", _unfold, work))]
    return labels[0], labels[1], rounds[0].nodes


def _round(ctx: Context, edges: _Edges, rounds: list[_Round], parts: int, size: int) -> _Edges:
    """One round; appends its links to `rounds` and returns the edges of the next."""
    level = len(rounds)
    salt = SALT + level
    work = {f"f{i:06d}": [edges.phase, some, parts, salt] for i, some in enumerate(_bundles(edges, size))}
    folded = ctx.map(f"fold{level}", _fold, work)
    pairs = sum(facts["nodes"] for facts in folded.values())
    following = 1 if len(folded) == 1 else _ceil(pairs, size)
    tied = [list(folded), parts, following, salt]
    joined = ctx.map(f"join{level}", _join, {f"q{q:06d}": [f"fold{level}", q, *tied] for q in range(parts)})
    rounds.append(_Round(f"join{level}", list(joined), sum(facts["nodes"] for facts in joined.values())))
    if not any(facts["edges"] for facts in joined.values()):
        return _Edges("", {})
    return _edges(ctx, level + 1, f"join{level}", list(joined), following, first=parts)


def _bundles(edges: _Edges, size: int) -> list[list[str]]:
    """Neighbouring partitions, together up to `size` edges; all of them if they fit one worker."""
    limit = edges.total if edges.total <= FINISH_EDGES else size
    found: list[list[str]] = []
    held = 0
    for item, count in edges.counts.items():
        if not found or held + count > limit:
            found.append([])
            held = 0
        found[-1].append(item)
        held += count
    return found


def _salt(number: int) -> int:
    """Never 0, with which the best node of a fold would be one of the first partition: `spread` hashes without salt."""
    from ..kernels.buckets import mix64

    return int(mix64(np.uint64((2 * number + 1) % 2**64)))


def _fold(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    from ..kernels.buckets import spread
    from ..kernels.union_find import fold

    phase, items, parts, salt = value
    found = fold(_load(task, phase, items, 0), _salt(salt))
    task.save_arrays([_flat(part) for part in spread(found, 0, parts)])
    return {"nodes": len(found)}


def _join(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    from ..kernels.buckets import spread
    from ..kernels.union_find import join

    phase, part, items, parts, following, salt = value
    links, edges = join(_load(task, phase, items, part), _salt(salt))
    saved = [*spread(links, 1, parts), *spread(edges, 0, following)]
    task.save_arrays([_flat(part) for part in saved])
    return {"nodes": len(links), "edges": len(edges)}


def _unfold(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    from ..kernels.buckets import sort_pairs, spread
    from ..kernels.union_find import relabel

    part, links, labels, cut = value
    found = _load(task, links[0], links[1], part)
    if labels:
        relabel(found, _load(task, labels[0], labels[1], part))
    if isinstance(cut, int):
        saved = spread(found, 0, cut)
    else:
        found = sort_pairs(found, 0)
        bounds = [*np.searchsorted(found[:, 0], np.array(cut, np.uint64)).tolist(), len(found)]
        saved = [found[a:b] for a, b in itertools.pairwise(bounds)]
    task.save_arrays([_flat(part, LABEL) for part in saved])
    return {}
