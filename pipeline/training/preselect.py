"""PreSelect (Shum et al. 2025, arXiv 2503.00808): a scorer for the texts on which losses predict abilities, trained from
per-document losses of several models. "The data that predicts is the data that teaches."

Invariant: equal documents, losses, abilities and parameters give four equal files, byte for byte; rows read = trained on +
held out + each reason of being left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...scorers.fasttext_train import Params
from ...stages.errors import DataError
from .figures import scores_of
from .fit import TEST_SHARE, checked_out, fit
from .labelled import content_hash
from .metrics import rank_correlation, ranks
from .preselect_choice import Choice, choose_documents, choose_domains
from .preselect_facts import associations, choice_facts, domain_facts, warnings_of
from .preselect_pool import Pool, Question, read_pool
from .preselect_report import render

ENDINGS = (".json", ".md", ".html", "")
PARAMS = Params(epoch=3, lr=0.1, word_ngrams=2, dim=100, min_count=1)
PER_CLASS = 200_000
MIN_DOMAIN = 10
SAMPLE = 20_000  # held-out documents of every strength on which the scorer is compared with it
HEAD = 300  # characters of an example
WEAK = 0.1  # rank correlation between scorer and strength
SPREAD = (0.05, 0.95)  # quantiles of the scores
FLAT = 0.05  # between them

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Choosing:
    """`level`: document, or domain (every document has its domain's mean strength). `per_class`: documents at most.
    `min_domain`: documents that a domain needs for a strength of its own."""

    level: str = "document"
    per_class: int = PER_CLASS
    min_domain: int = MIN_DOMAIN


def train_preselect(
    question: Question,
    out: str | Path,
    *,
    choosing: Choosing = Choosing(),
    params: Params = PARAMS,
    test_share: float = TEST_SHARE,
    force: bool = False,
    tell: Tell = lambda line: None,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Reads, chooses, trains, writes OUT (labels 1 and 0), OUT.json, OUT.md and OUT.html; returns the facts of OUT.json.

    RecipeError where question and input do not fit or OUT exists; DataError where one of the classes is empty.
    """
    checked_out(out, force, ENDINGS)
    tell("reading losses")
    pool = read_pool(question)
    tell(f"{len(pool):,} documents with losses of {len(pool.models.names)} models")
    choice = _choose(pool, choosing, params.seed)
    held = pool.held_out(test_share)
    facts = choice_facts(pool, choice)
    facts["level"] = choosing.level
    facts["options"] = {
        "min_chars": question.min_chars,
        "per_class": choosing.per_class,
        "min_domain": choosing.min_domain,
    }
    facts["domains"], examples = domain_facts(pool, choice, choosing.min_domain)
    facts["associations"] = associations(pool, choice, held)
    chosen = np.sort(np.concatenate([choice.positive, choice.negative]))
    tell(f"reading {len(chosen):,} texts")
    table = _table(pool, chosen, choice)

    def more(model: Path) -> dict[str, Any]:
        tell("comparing the scorer with strength")
        agreement = _agreement(pool, model, held)
        _show_examples(pool, facts["domains"], examples)
        return {"preselect": {**facts, "agreement": agreement}, "warnings": list(_doubts(agreement))}

    return fit(
        table,
        out,
        params,
        test_share=test_share,
        positive="1",
        by=tuple(pool.by),
        files=_files(pool),
        left_out={**pool.left_out, "not_chosen": len(pool) - len(chosen)},
        warnings=list(warnings_of(pool, choice, facts, choosing.per_class)),
        notes=[*_how(pool, choice, choosing, question), *DEVIATIONS],
        more=more,
        page=render,
        force=force,
        tell=tell,
        progress=progress,
    )


def _choose(pool: Pool, choosing: Choosing, seed: int) -> Choice:
    draw = pool.draws(seed, "preselect")
    if choosing.level == "domain":
        choice = choose_domains(
            pool.agreeing, pool.pairs, pool.domain.codes, draw, choosing.per_class, choosing.min_domain
        )
        if not len(choice.positive):
            raise DataError(
                f"--level domain: no two domains of {choosing.min_domain} documents or more have unequal strengths and a "
                f"document in perfect order; the domain is {pool.domain_from}; --min-domain admits smaller ones"
            )
        return choice
    choice = choose_documents(pool.agreeing, pool.pairs, pool.domain.codes, draw, choosing.per_class)
    if not choice.wanted:
        raise DataError(
            f"none of {len(pool):,} documents orders the models as their abilities do ({_order(pool)}): are the columns "
            "losses (lower is better) and the abilities scores (higher is better)?"
        )
    if not choice.others:
        raise DataError(
            f"all of {len(pool):,} documents order the models as their abilities do ({_order(pool)}), so none is negative: "
            "the models are nested; add one that was trained on other data"
        )
    return choice


def _table(pool: Pool, chosen: np.ndarray, choice: Choice) -> pa.Table:
    """text, label and the columns of `by` of the chosen documents."""
    columns = {"text": pool.texts(chosen), "label": pa.array(np.where(np.isin(chosen, choice.positive), "1", "0"))}
    for name, groups in pool.by.items():
        columns[name] = pa.array([*groups.names, None], pa.string()).take(
            pa.array(groups.codes[chosen] % (len(groups.names) + 1))
        )
    return pa.table(columns)


def _agreement(pool: Pool, model: Path, held: np.ndarray) -> dict[str, Any]:
    """The scorer beside strength and length, on documents of every strength that were not trained on."""
    at = np.flatnonzero(held)
    if len(at) > SAMPLE:
        at = np.sort(at[np.argsort(pool.draws(0, "agreement")[at], kind="stable")[:SAMPLE]])
    scores, labels = scores_of(model, pool.texts(at))
    own = scores[:, labels.index("1")]
    at, own = at[~np.isnan(own)], own[~np.isnan(own)]
    strength = pool.agreeing[at]
    place = (ranks(own) - 0.5) / max(len(own), 1)
    return {
        "documents": len(at),
        "spearman_strength": rank_correlation(own, strength),
        "spearman_chars": rank_correlation(own, pool.chars[at]),
        "scores": np.quantile(own, SPREAD, method="inverted_cdf").astype(float).tolist() if len(own) else None,
        "levels": [
            {
                "pairs": int(i),
                "documents": int((strength == i).sum()),
                "mean_score": float(own[strength == i].mean(dtype=np.float64)),
                "mean_place": float(place[strength == i].mean()),
            }
            for i in np.unique(strength)
        ],
    }


def _doubts(agreement: Mapping[str, Any]) -> Iterator[str]:
    """What the scores on held-out documents give reason to doubt, in words."""
    rho, scores = agreement["spearman_strength"], agreement["scores"]
    if rho is not None and rho < WEAK:
        yield f"the scorer hardly follows strength (rank correlation {rho:.2f} on held-out documents)"
    if scores is not None and scores[1] - scores[0] < FLAT:
        yield (
            f"scores hardly differ (nine tenths lie between {scores[0]:.3f} and {scores[1]:.3f}): take a share of the "
            "corpus, not a probability, as the cut; more documents or epochs spread them"
        )


def _show_examples(pool: Pool, domains: dict[str, Any], examples: np.ndarray) -> None:
    """Adds `examples` to the domains: strength and the first characters of a text."""
    at = np.unique(examples[examples >= 0])
    heads = dict(zip(at.tolist(), pc.utf8_slice_codeunits(pool.texts(at), 0, HEAD + 1).to_pylist(), strict=True))
    for line, domain in enumerate([*domains["most"], *domains["least"]]):
        domain["examples"] = [
            {
                "strength": float(pool.agreeing[i] / pool.pairs),
                "file": pool.listing.files[pool.file[i]].name,
                "row": int(pool.row[i]),
                "text": heads[i],
            }
            for i in examples[line].tolist()
            if i >= 0
        ]


def _files(pool: Pool) -> list[dict[str, Any]]:
    return [
        {"name": file.name, "rows": pool.file_rows[index], "bytes": file.size, "xxh3_128": content_hash(file)}
        for index, file in enumerate(pool.listing.files)
    ]


# --- for the card -------------------------------------------------------------------------------------------------


def _order(pool: Pool) -> str:
    return " > ".join(pool.models.names[:8]) + (" > ..." if len(pool.models.names) > 8 else "")


def _how(pool: Pool, choice: Choice, choosing: Choosing, question: Question) -> Iterator[str]:
    yield (
        f"Predictive strength (PreSelect, arXiv 2503.00808): the share of the {pool.pairs:,} pairs of "
        f"{len(pool.models.names)} models that a document's losses order as the abilities do: {_order(pool)}"
    )
    if choosing.level == "domain":
        yield (
            f"Every document has the mean strength of its domain ({pool.domain_from}; domains with at least "
            f"{choosing.min_domain} documents): label 1 from a strength of {choice.weakest_positive:.3f} up, label 0 from "
            f"{choice.strongest_negative:.3f} down"
        )
    else:
        yield (
            "Label 1: all pairs ordered rightly. Label 0: from the lowest strength up, until there are as many, to a strength "
            f"of {choice.strongest_negative:.3f}"
        )
    yield (
        f"Of {pool.rows:,} rows, {len(pool):,} documents have losses of all models and {question.min_chars:,} characters; "
        f"{len(choice.positive):,} of each label were chosen"
    )


DEVIATIONS = (
    "Deviation from the released code: a document's loss is taken as a column of the input, of that document alone; there, "
    "documents are cut from one stream, have unrelated documents as context, and those after the last whole block get no loss",
    "Deviation: losses may be bits per character, so models may have different tokenizers; there, total loss under one "
    "tokenizer",
    "Deviation: equal abilities are refused; as there, a pair with equal losses counts for neither order",
    "Deviation: texts that are short, repeated, or lack a loss are left out and counted; there, all are taken",
    "Deviation: where not all documents of a strength are needed, they are drawn by the hash of their text and spread over "
    "domains; there, by their place in the file",
    "Deviation: a share is held out by hash and never trained on; there, all is trained on",
    "Deviation: all white space of fastText separates words, and words that look like labels are no words; there, newlines "
    "become spaces and a text can hold a label",
    "Deviation: the cut is to be found over the whole corpus (stage threshold, keep 10 % by chars); there, it is estimated "
    "from the first three files",
)


def summary_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Of strength, for the terminal, from the facts."""
    found = facts["preselect"]
    classes, agreement = found["classes"], found["agreement"]
    yield (
        f"strength   mean {found['strength']['mean']:.3f} over {found['documents']:,} documents; {found['strength']['perfect']:,} "
        f"in perfect order, by chance {found['strength']['perfect_by_chance']:,.0f}"
    )
    yield (
        f"classes    {classes['documents']:,} each; negatives up to a strength of {classes['strongest_negative']:.3f}"
    )
    for title, key in (("most", "most"), ("least", "least")):
        names = ", ".join(f"{one['name']} {one['mean_strength']:.2f}" for one in found["domains"][key][:5])
        if names:
            yield f"{title:<10} {names}"
    rho = agreement["spearman_strength"]
    yield (
        f"agreement  rank correlation of scorer and strength {'not known' if rho is None else f'{rho:.3f}'} on "
        f"{agreement['documents']:,} held-out documents of every strength"
    )
