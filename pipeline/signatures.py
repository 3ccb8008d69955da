"""Signatures: what `keep_work: signatures` leaves of a run's work, and what `against` of later runs reads.

Invariant: they stand before the manifest does, hold the documents that the run kept and no others, and describe
themselves: to read them no plan is made again, so neither the input nor the same version of Tamis is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from .attributes import LAYOUT, Attributes, attribute_schema, holders
from .graph import BoundStage, digest
from .parquet import ParquetSink
from .plan import Plan
from .receipts import Receipt, Receipts
from .storage import Storage

NAME = "signatures"
ABOUT = "about"  # the item whose receipt says that all units are there, and what they hold
OURS = ("position", "alive", "stage", "rule", "failed", "reason")  # how a run did it; no kept document differs by them


@dataclass(frozen=True)
class StoredStage:
    """A resolve stage whose measured columns are stored: `key` of what they mean, `columns`: plain name -> full name."""

    name: str
    use: str
    key: str
    columns: Mapping[str, str]


def measure_key(bound: BoundStage) -> str:
    """Hash of all that a resolve stage's measured columns mean, apart from the text that they were measured on."""
    stage = bound.stage
    config = stage.config.model_dump(mode="json", exclude=set(stage.choosing | stage.not_in_key))
    return digest([bound.use, stage.version, config, stage.fingerprint(), stage.measured])


def stored_stages(plan: Plan) -> list[StoredStage]:
    """Those of a plan, in order."""
    found = []
    for bound in plan.graph.stages:
        if bound.stage.kind == "resolve" and bound.stage.measured:
            columns = {plain: bound.full(plain) for plain in bound.stage.measured}
            found.append(StoredStage(bound.name, bound.use, measure_key(bound), columns))
    return found


def signature_folder(plan: str) -> str:
    """Where in the work folder the signatures of a plan stand."""
    return f"{NAME}-{plan}"


def signature_schema(plan: Plan) -> pa.Schema:
    """Identity, the measured columns of every resolve stage, and whatever of the ledger is a plain value: a later run
    may name it in `scope:` or `prefer:`."""
    measured = {name for stage in stored_stages(plan) for name in stage.columns.values()}
    hidden = {a.name for a in plan.graph.measured if not a.column.ledger}
    hidden |= {f"{bound.name}_{mark}" for bound in plan.graph.stages for mark in ("ran", "hash")}
    fields = []
    for name, index in holders(plan, len(plan.steps)).items():
        field = attribute_schema(plan, index).field(name)
        plain = name not in OURS and name not in hidden and not pa.types.is_nested(field.type)
        if plain or name in measured:
            fields.append(field)
    return pa.schema(fields)


def run_signatures(plan: Plan, work: Storage, unit: str, files: Sequence[str]) -> Receipt:
    """Writes those of one unit and commits them."""
    attributes, schema = Attributes(plan, work, files), signature_schema(plan)

    def tables(_: ParquetSink) -> Iterator[pa.Table]:
        for group in range(len(attributes.group_rows())):
            table = attributes.read(["alive", *schema.names], group)
            yield table.filter(table["alive"]).select(schema.names)

    return Receipts(work, signature_folder(plan.key)).commit(unit, {}, schema, LAYOUT, tables)


def finish_signatures(plan: Plan, work: Storage, receipts: Mapping[str, Receipt]) -> None:
    """Says, when all units are there, what they hold, and folds the receipts."""
    about = {"stages": [asdict(stage) for stage in stored_stages(plan)], "units": [unit.id for unit in plan.units]}
    about["columns"] = signature_schema(plan).names
    folder = Receipts(work, signature_folder(plan.key))
    folder.compact({**receipts, ABOUT: folder.commit(ABOUT, about)})


@dataclass
class SignatureRun:
    """A finished run of which the signatures are there; see `earlier.EarlierRun`."""

    root: str
    work: Storage
    files: list[str]  # of every unit
    stages: list[StoredStage]
    columns: frozenset[str]
    kept: list[int]

    def kept_rows(self, unit: int, columns: Sequence[str]) -> pa.Table:
        import pyarrow.parquet as pq

        for name in columns:
            if name not in self.columns:
                raise KeyError(name)
        with self.work.open(self.files[unit]) as file:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            return parquet.read(columns=list(columns), use_threads=False).select(list(columns))


def open_signatures(root: str, work: Storage, plan: str) -> SignatureRun | None:
    """The signatures of a plan, None where they are not all there."""
    folder = Receipts(work, signature_folder(plan))
    receipts = folder.load()
    about = receipts.get(ABOUT)
    if about is None or not all(unit in receipts for unit in about["units"]):
        return None
    units = [receipts[unit] for unit in about["units"]]
    stages = [StoredStage(**stage) for stage in about["stages"]]
    files = [folder.path(unit["file"]) for unit in units]
    return SignatureRun(root, work, files, stages, frozenset(about["columns"]), [unit["rows"] for unit in units])
