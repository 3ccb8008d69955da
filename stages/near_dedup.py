"""Near duplicates by MinHash-LSH over word n-grams: one document of each group stays.

Invariant: the groups are the components of "shares a band with", and which document stays depends on the documents of
the group alone, so units, order, partitions, workers and kills change nothing.

`measure` gives each document its band keys and a sketch of its signature. Then phases over files, each item committed:
1. bands, buckets and components (`_components`): from band keys to a label for every document that has an edge;
2. members (a group of units): those documents' preferences, identity and sketch go to the partition of their label;
3. choose (a partition): picks the kept one of each component; or, with `verify`, what `_verify` does in its place;
4. verdict (a group of units): gathers from all partitions, aligns by n, writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from ._components import connect
from ._groups import AgainstContext, AgainstTask, bundles, first_rows, part_count, unit_groups
from ._keys import SCOPE_SEED, value_keys
from ._near import IDENTITY, binary_rows, choose, members, members_of_earlier, verdict
from ._prefer import PreferConfig, parse_preference, preference_columns
from ._units import SHARE_SCHEMA, share
from ._verify import verify
from .arrow import text_buffers
from .base import Column, Context, Rule, Runs, Stage, Task
from .errors import DataError, RecipeError

VERIFY = re.compile(r"\s*jaccard\s*>=\s*(0?\.\d+|1(?:\.0*)?|\d+(?:\.\d+)?\s*%)\s*\Z")
WATCHED = ("source", "lang", "dump")  # columns that are watched where the run has them and `watch` says nothing
LEAST_WATCHED = 100  # documents of a group; smaller ones lose large shares by chance
MOST_ALARMS = 100
Share = Annotated[float, BeforeValidator(share), WithJsonSchema(SHARE_SCHEMA)]


class NearDedupConfig(PreferConfig):
    """What `use: near_dedup` takes. Two documents with the Jaccard similarity s (of their sets of word n-grams) share a
    band with probability 1 - (1 - s^rows)^bands."""

    ngram: int = Field(default=5, ge=1, le=255, description="words in a row that make one element of a document's set")
    bands: int = Field(default=14, ge=1, le=1000, description="bands of the signature; more find more")
    rows: int = Field(default=8, ge=1, le=1000, description="minima in a band; more find only what is more alike")
    similarity: float | None = Field(
        default=None, gt=0, lt=1, description="in place of bands and rows: solved for this threshold"
    )
    permutations: int = Field(
        default=128, ge=2, le=10_000, description="minima at most, where bands and rows are solved for `similarity`"
    )
    short: Literal["compare", "keep"] = Field(
        default="compare",
        description="documents of fewer words than ngram: compared as a whole, or kept without a look (datatrove)",
    )
    against: tuple[str, ...] = Field(
        default=(),
        description="earlier outputs of Tamis; what one of them kept wins over all of this run, in this order",
    )
    verify: str | None = Field(
        default=None,
        description="'jaccard >= 0.8': drop only what is so similar, by its text, to the document that stays",
    )
    max_cluster: int = Field(default=10_000, ge=2, description="a larger component of duplicates raises an alarm")
    watch: tuple[str, ...] | None = Field(
        default=None, description="columns whose groups must not lose too much (default: source, lang, dump, the scope)"
    )
    max_loss: Share = Field(
        default=0.5, description="share of a watched group's documents whose loss raises an alarm: 50%"
    )
    on_alarm: Literal["warn", "stop"] = Field(
        default="warn", description="stop: an alarm ends the run before anything is dropped"
    )

    @field_validator("verify")
    @classmethod
    def _known_test(cls, given: str | None) -> str | None:
        if given is not None and not (VERIFY.match(given) and 0 < least_jaccard(given) <= 1):
            raise ValueError(f"{given!r}: write 'jaccard >= 0.8', with a number above 0 and at most 1")
        return given

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> NearDedupConfig:
        given = self.model_fields_set
        if self.similarity is not None and given & {"bands", "rows"}:
            raise ValueError("similarity: stands in place of bands and rows; write one or the other")
        if self.similarity is None and "permutations" in given:
            raise ValueError("permutations: goes with similarity; bands and rows say how many there are")
        if self.verify is not None and self.against:
            raise ValueError(
                "verify: compares texts, and of the outputs of `against` only signatures are read: use near_dedup twice, "
                "once with against and once with verify"
            )
        return self


def least_jaccard(test: str) -> float:
    """'jaccard >= 0.8' -> 0.8."""
    match = VERIFY.match(test)
    return share(match[1]) if match else 0.0


class NearDedup(Stage):
    """Keeps one document of every group of near duplicates, found by MinHash-LSH over word n-grams; the ledger names it.

    A document is the set of its word n-grams, after the normalisation of FineWeb (`kernels.plain_words`): lower case,
    numbers as 0, punctuation as space, diacritics stripped; a character is a word in scripts without spaces. Two are
    candidates if all minima of one band agree (Broder 1997; Leskovec et al., Mining of Massive Datasets, 3.4). Groups
    are the connected components of candidates: two members may be less similar than any pair of neighbours between
    them; `verify` measures every dropped document against the one that stays for it.
    """

    Config = NearDedupConfig
    config: NearDedupConfig
    not_in_key: ClassVar[frozenset[str]] = frozenset({"on_alarm"})
    # bands and rows, however they were found, are in the fingerprint
    choosing: ClassVar[frozenset[str]] = frozenset(NearDedupConfig.model_fields) - {"ngram", "short"}

    def __init__(self, config: Any, *, name: str, seed: int = 0) -> None:
        super().__init__(config, name=name, seed=seed)
        self.preferences = tuple(parse_preference(entry) for entry in self.config.prefer)
        self.bands, self.rows = self.config.bands, self.config.rows
        if self.config.similarity is not None:
            from ._lsh import solve

            self.bands, self.rows = solve(self.config.similarity, self.config.permutations)
        self.least = None if self.config.verify is None else least_jaccard(self.config.verify)
        self.watched = self.config.watch or ()

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(["text", *self.resolve_needs, *self.watched]))

    @property
    def wishes(self) -> tuple[str, ...]:
        return WATCHED if self.config.watch is None else ()

    def grant(self, names: Sequence[str]) -> None:
        scope = [self.config.scope] if self.config.scope else []
        self.watched = tuple(dict.fromkeys([*names, *scope]))

    @property
    def resolve_needs(self) -> tuple[str, ...]:
        """What choosing reads besides the measured columns and the identity."""
        scope = (self.config.scope,) if self.config.scope else ()
        return tuple(dict.fromkeys([*scope, *preference_columns(self.preferences)]))

    @property
    def adds(self) -> tuple[Column, ...]:
        how = "true Jaccard similarity" if self.least is not None else "similarity, estimated from signatures,"
        columns = [
            Column("near_bands", pa.binary(8 * self.bands), "64-bit key of each band, little-endian", ledger=False),
            Column("near_sketch", pa.binary(self.bands * self.rows), "a byte of each minimum", ledger=False),
            Column("near_shingles", pa.int32(), "n-grams of the document, repeated ones too", ledger=False),
            Column("near_cluster", pa.string(), "id of the group of duplicates: 32 hex digits"),
            Column("near_cluster_size", pa.int64(), "documents of this run in the group, the kept one included"),
            Column("near_kept_doc_id", pa.string(), "doc_id of the kept duplicate; null for the kept one"),
            Column("near_kept_file", pa.string(), "source_file of the kept duplicate; null for the kept one"),
            Column("near_kept_row", pa.int64(), "source_row of the kept duplicate; null for the kept one"),
            Column("near_similarity", pa.float32(), f"{how} to the kept duplicate, 0 to 1; null for the kept one"),
        ]
        if self.config.against:
            doc = "the earlier output that has the kept duplicate, as `against` names it; null if it is of this run"
            columns.append(Column("near_kept_output", pa.string(), doc))
        return tuple(columns)

    @property
    def measured(self) -> tuple[str, ...]:
        return ("near_bands", "near_sketch", "near_shingles")

    @property
    def rules(self) -> tuple[Rule, ...]:
        return (Rule(f"{self.name}.duplicate"),)

    def check(self, schema: pa.Schema) -> None:
        for name in (*self.resolve_needs, *self.watched):
            if pa.types.is_nested(schema.field(name).type):
                raise RecipeError(
                    f"near_dedup: {name} has the type {schema.field(name).type}, which can be neither compared nor ordered"
                )

    def fingerprint(self) -> str:
        import unicodedata

        return f"{self.bands} x {self.rows}, unicode {unicodedata.unidata_version}"

    def warm(self) -> None:
        from ..kernels import buckets, leaders, shingles, union_find

        for kernels in (buckets, union_find, *((leaders, shingles) if self.least is not None else ())):
            assert kernels  # importing has compiled it
        self.measure(pa.table({"text": pa.array(["one two three four five six"], pa.large_string())}))

    def measure(self, batch: pa.Table) -> pa.Table:
        from ..kernels import minhash

        config = self.config
        a, b = minhash.permutations(self.bands * self.rows)
        data, offsets = text_buffers(batch["text"])
        short = config.short == "compare"
        keys, sketches, shingles = minhash.measure(
            data, offsets, config.ngram, a, b, self.bands, self.rows, short=short
        )
        absent = shingles == 0
        return pa.table(
            {
                "near_bands": _fixed(keys.astype("<u8", copy=False).view(np.uint8), absent),
                "near_sketch": _fixed(sketches, absent),
                "near_shingles": pa.array(shingles, mask=absent),
            }
        )

    # --- resolve

    def resolve(self, runs: Runs, ctx: Context) -> dict[str, Any]:
        groups = unit_groups(runs.units)
        own = sum(u.rows for u in runs.units)
        readers: dict[str, Any] = {item: {"units": [u.index for u in group]} for item, group in groups.items()}
        starts, documents = first_rows(groups), own
        for rank, output in enumerate(self.config.against):
            held = cast(AgainstContext, ctx).against(output)
            names, sizes = list(held), list(held.values())
            for i, places in enumerate(bundles(sizes)):
                readers[f"a{rank:03d}-{i:05d}"] = {
                    "rank": rank,
                    "output": output,
                    "parts": [names[at] for at in places],
                    "first": documents,
                }
                starts.append(documents)
                documents += sum(sizes[at] for at in places)
        graph = connect(ctx, readers, documents, starts, self.bands, own)
        parts = part_count(graph.facts["connected"])
        labels = [graph.phase, graph.items]
        order = {item: at for at, item in enumerate(readers)}
        ours = {item: [readers[item]["units"], order[item], labels, parts] for item in groups}
        theirs = {item: [readers[item], order[item], labels, parts] for item in readers if item not in groups}
        measured = ctx.map("members", members, ours)
        known = ctx.map("earlier", members_of_earlier, theirs)
        places = [list(ours), list(theirs), first_rows(groups)]
        named = [n for _, _, n in graph.facts["buckets"]]
        partitions = {f"p{p:05d}": [p, *places, named] for p in range(parts if groups else 0)}
        if self.least is None:
            phase, chosen = "choose", ctx.map("choose", choose, partitions)
        else:
            phase, chosen = verify(ctx, runs.units, partitions)
        verdicts = {item: [readers[item]["units"], at, phase, list(chosen)] for at, item in enumerate(groups)}
        decided = ctx.map("verdict", verdict, verdicts)
        facts = self._facts(graph.facts, measured, known, list(chosen.values()))
        facts |= self._alarms(chosen.values(), decided.values())
        if facts["alarms"] and self.config.on_alarm == "stop":
            raise DataError(
                f"{self.name}: {'; '.join(alarm_text(alarm) for alarm in facts['alarms'][:5])}. on_alarm: stop says that "
                f"nothing is dropped then; to go on from here, run again with --set {self.name}.on_alarm=warn"
            )
        return facts

    def band_keys(self, task: Task, payload: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """For `_components`: (n uint64[m], keys uint64[m, bands]) of the documents of an item that have a signature."""
        scope = [self.config.scope] if self.config.scope else []
        columns = ["near_bands", *scope]
        numbers, found = [], []
        if "units" in payload:
            for unit in payload["units"]:
                rows = task.rows(unit, columns)
                self._add_keys(rows, rows["n"].to_numpy(), numbers, found)
        else:
            first = payload["first"]
            for part in payload["parts"]:
                rows = cast(AgainstTask, task).against(payload["output"], part, columns)
                self._add_keys(rows, np.arange(first, first + len(rows), dtype=np.uint64), numbers, found)
                first += len(rows)
        none = np.zeros((0, self.bands), np.uint64)
        return np.concatenate([np.zeros(0, np.uint64), *numbers]), np.concatenate([none, *found])

    def _add_keys(self, rows: pa.Table, n: np.ndarray, numbers: list[np.ndarray], found: list[np.ndarray]) -> None:
        valid = rows["near_bands"].is_valid()
        if self.config.scope:
            valid = pc.and_(valid, rows[self.config.scope].is_valid())
        chosen = np.asarray(valid)
        rows = rows.filter(valid)
        keys = binary_rows(rows["near_bands"], 8 * self.bands).view("<u8")
        if self.config.scope:
            keys = keys ^ value_keys(rows[self.config.scope], seed=SCOPE_SEED)["lo"].to_numpy()[:, None]
        numbers.append(n[chosen])
        found.append(keys)

    def _facts(
        self, graph: Mapping[str, Any], measured: Mapping[str, Any], known: Mapping[str, Any], chosen: Sequence[Any]
    ) -> dict[str, Any]:
        def total(name: str) -> int:
            return sum(found[name] for found in chosen)

        facts: dict[str, Any] = {"ngram": self.config.ngram, "bands": self.bands, "rows": self.rows}
        facts |= {name: sum(found[name] for found in measured.values()) for name in ("documents", "without_text")}
        facts |= {"edges": graph["edges"], "groups": total("groups"), "duplicates": total("duplicates")}
        if self.config.against:
            told = all(found["told"] for found in known.values())
            facts["duplicates_of_earlier"] = total("of_earlier")
            facts["newcomer_preferred"] = total("newcomer") if told else None
        facts["largest"] = max((found["largest"] for found in chosen), default=0)
        if self.least is not None:
            facts |= {name: total(name) for name in ("candidates", "false_candidates")} | {"jaccard": self.least}
        names = {int(n): identity for found in chosen for n, identity in found["named"].items()}
        facts["largest_buckets"] = [
            {"documents": size, "band": band, **dict(zip(IDENTITY, names[n]))} for size, band, n in graph["buckets"]
        ]
        return facts

    def _alarms(self, chosen: Any, decided: Any) -> dict[str, Any]:
        clusters = sorted((alarm for found in chosen for alarm in found["alarms"]), key=lambda a: -a["documents"])
        alarms = [{"kind": "cluster", **alarm, "most": self.config.max_cluster} for alarm in clusters]
        tally: dict[str, dict[str, list[int]] | None] = {name: {} for name in self.watched}
        for found in decided:
            for name, counts in found["watched"].items():
                held = tally[name]
                if held is None or counts is None:
                    tally[name] = None
                    continue
                for value, (documents, lost) in counts.items():
                    before = held.get(value, [0, 0])
                    held[value] = [before[0] + documents, before[1] + lost]
        for name, counts in tally.items():
            for value, (documents, lost) in sorted((counts or {}).items()):
                if documents >= LEAST_WATCHED and lost > self.config.max_loss * documents:
                    alarm = {"kind": "loss", "column": name, "value": value, "documents": documents, "lost": lost}
                    alarms.append(alarm)
        unwatched = sorted(name for name, counts in tally.items() if counts is None)
        return {"alarms": alarms[:MOST_ALARMS]} | ({"unwatched": unwatched} if unwatched else {})


def alarm_text(alarm: Mapping[str, Any]) -> str:
    """One line for people."""
    if alarm["kind"] == "cluster":
        return f"a cluster of {alarm['documents']:,} documents, over max_cluster ({alarm['most']:,}): {alarm['doc_id']}"
    return f"{alarm['column']} = {alarm['value']} lost {alarm['lost']:,} of {alarm['documents']:,} documents"


def _fixed(rows: np.ndarray, absent: np.ndarray) -> pa.Array:
    """fixed_size_binary of uint8[n, width], null where absent."""
    data = np.ascontiguousarray(rows)
    valid = pa.array(~absent).buffers()[1]
    kind = pa.binary(data.shape[1])
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(data), [valid, pa.py_buffer(data)])
