"""What there is to say of a pool and a choice in numbers: strengths, domains, and what strength goes along with.

Invariant: pure functions of the pool and the choice; what cannot be known is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .abilities import FEW
from .metrics import auc, rank_correlation
from .preselect_choice import Choice, domain_means, largest_share
from .preselect_pool import Groups, Pool

SHOWN = 10  # domains at either end
EXAMPLES = 2  # documents of each
SMALL = 1_000  # documents of a class, below which the scorer learns little
DOMINATES = 0.25  # share of a class that one domain has
LEANS = 0.3  # rank correlation with length
TIES = 0.01  # share of documents with equal losses
LOST = 0.1  # share of rows without losses


def choice_facts(pool: Pool, choice: Choice) -> dict[str, Any]:
    """models, strength (documents per level, from 0 pairs to all) and classes."""
    levels = pool.pairs + 1
    count = np.bincount(pool.agreeing, minlength=levels)
    ones = np.bincount(pool.agreeing[choice.positive], minlength=levels)
    zeros = np.bincount(pool.agreeing[choice.negative], minlength=levels)
    models = [
        {"name": name, "column": column, "ability": ability}
        for name, column, ability in zip(pool.models.names, pool.models.columns, pool.models.abilities, strict=True)
    ]
    return {
        "models": models,
        "tasks": list(pool.models.tasks),
        "unused_models": list(pool.models.unused),
        "pairs": pool.pairs,
        "documents": len(pool),
        "xxh3_128": pool.digest,
        "strength": {
            "mean": float((pool.agreeing / pool.pairs).mean()),
            "perfect": int(count[-1]),
            "perfect_by_chance": len(pool) / math.factorial(len(models)),
            "with_ties": int((pool.ties > 0).sum()),
            "levels": [
                {"pairs": i, "documents": int(count[i]), "positive": int(ones[i]), "negative": int(zeros[i])}
                for i in range(levels)
            ],
        },
        "classes": {
            "documents": len(choice.positive),
            "could_be_positive": choice.wanted,
            "could_be_negative": choice.others,
            "weakest_positive": choice.weakest_positive,
            "strongest_negative": choice.strongest_negative,
            "largest_domain": {
                "positive": largest_share(pool.domain, choice.positive),
                "negative": largest_share(pool.domain, choice.negative),
            },
        },
    }


def domain_facts(pool: Pool, choice: Choice, least: int) -> tuple[dict[str, Any], np.ndarray]:
    """The domains that have at least `least` documents at either end of mean strength, and int64 (ends, EXAMPLES): the
    positions of documents to show of each, -1 for none. `most` comes first, then `least`."""
    means, counts = domain_means(pool.agreeing / pool.pairs, pool.domain.codes)
    names = pool.domain.names
    able = [code for code in range(len(names)) if code < len(counts) and counts[code] >= least]
    ranked = sorted(able, key=lambda code: (-means[code], -counts[code], names[code]))
    most = ranked[:SHOWN]
    weakest = ranked[len(most) :][::-1][:SHOWN]
    facts = {
        "from": pool.domain_from,
        "known": int((counts > 0).sum()),
        "without": int((pool.domain.codes < 0).sum()),
        "least_documents": least,
        "large_enough": len(able),
        "most": [_domain(pool, choice, code, float(means[code])) for code in most],
        "least": [_domain(pool, choice, code, float(means[code])) for code in weakest],
    }
    draw = pool.draws(0, "examples")
    shown = np.full((len(most) + len(weakest), EXAMPLES), -1, np.int64)
    for line, code in enumerate([*most, *weakest]):
        own = np.flatnonzero(pool.domain.codes == code)
        own = own[np.argsort(draw[own], kind="stable")][:EXAMPLES]
        shown[line, : len(own)] = own
    return facts, shown


def _domain(pool: Pool, choice: Choice, code: int, mean: float) -> dict[str, Any]:
    own = pool.domain.codes == code
    return {
        "name": pool.domain.names[code],
        "documents": int(own.sum()),
        "mean_strength": mean,
        "perfect": int((pool.agreeing[own] == pool.pairs).sum()),
        "positive": int(own[choice.positive].sum()),
        "negative": int(own[choice.negative].sum()),
    }


def associations(pool: Pool, choice: Choice, held: np.ndarray) -> dict[str, Any]:
    """What strength goes along with. chars: Spearman's rho over all documents, and the AUC of length alone for the classes
    among what is held out; domain, source, lang: share of the variance of strength that lies between their values.
    `held`: bool per document."""
    chosen = np.concatenate([choice.positive, choice.negative])
    positive = np.arange(len(chosen)) < len(choice.positive)
    tested = held[chosen]
    found: dict[str, Any] = {
        "chars": {
            "spearman": rank_correlation(pool.chars, pool.agreeing),
            "auc": auc(pool.chars[chosen[tested]], positive[tested]),
        }
    }
    for name, groups in {"domain": pool.domain, **pool.by}.items():
        found[name] = between(groups, pool.agreeing / pool.pairs)
    return found


def between(groups: Groups, values: np.ndarray) -> dict[str, Any]:
    """values: how many there are; eta2: share of the variance between them; epsilon2: the same without what as many groups
    would show by chance (Kelley 1935). Documents without a value are a group."""
    codes = groups.codes + 1
    counts = np.bincount(codes)
    used = counts > 0
    members, n = int(used.sum()), len(values)
    total = float(((values - values.mean()) ** 2).sum())
    if members < 2 or not total or n <= members:
        return {"values": members, "eta2": None, "epsilon2": None}
    means = np.bincount(codes, weights=values)[used] / counts[used]
    eta2 = float((counts[used] * (means - values.mean()) ** 2).sum()) / total
    return {"values": members, "eta2": eta2, "epsilon2": max(0.0, 1 - (1 - eta2) * (n - 1) / (n - members))}


def warnings_of(pool: Pool, choice: Choice, facts: dict[str, Any], most: int) -> Iterator[str]:
    """What a person should know before the model is used, in words."""
    models, size = len(pool.models.names), len(choice.positive)
    yield from pool.notes
    if pool.models.unused:
        yield f"no loss column for {_some(pool.models.unused)} of the abilities file: left aside"
    if models <= FEW:
        yield f"{models} models make {pool.pairs + 1} levels of strength: chance orders many documents; PreSelect used six"
    if choice.others < min(choice.wanted, most):
        yield (
            f"only {choice.others:,} documents could be negative beside {choice.wanted:,} that could be positive, so both "
            f"classes have {size:,}: the models are nested (nearly every text is easier for the abler one), and the classes "
            "tell little; add a model that was trained on other data"
        )
    elif choice.strongest_negative > 0.5:
        yield (
            f"negatives reach up to a strength of {choice.strongest_negative:.2f}: they order most pairs rightly, too; the "
            "models are nearly nested"
        )
    by_chance = facts["strength"]["perfect_by_chance"]
    if facts["strength"]["perfect"] <= 2 * by_chance:
        yield (
            f"{facts['strength']['perfect']:,} documents are in perfect order where chance gives {by_chance:,.0f}: the "
            "losses hardly follow the abilities"
        )
    if size < SMALL:
        yield f"{size:,} documents per class: a scorer that learns from so few is rough"
    tied = facts["strength"]["with_ties"]
    if tied > TIES * len(pool):
        yield (
            f"{tied:,} documents have equal losses for two models, which count for neither order: were the losses stored "
            "with too few digits?"
        )
    lost = pool.left_out.get("no_loss", 0)
    if lost > LOST * pool.rows:
        yield f"{lost:,} of {pool.rows:,} rows lack a loss or have one that is no number"
    if facts["domains"]["known"] == 0:
        yield "no document has a domain: the classes are not spread over domains"
    for label, share in facts["classes"]["largest_domain"].items():
        if share is not None and share > DOMINATES:
            yield f"one domain gives {100 * share:.0f} % of the {label}s, because the others have no more"
    rho = facts["associations"]["chars"]["spearman"]
    if rho is not None and abs(rho) >= LEANS:
        yield f"strength goes along with length (rank correlation {rho:.2f}): the scorer may sort by length"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
