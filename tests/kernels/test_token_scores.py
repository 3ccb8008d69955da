"""token_scores against the definitions in plain Python, published toy vectors, and the cut of a batch."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.kernels.token_scores import LEAST_VARIANCE, lastde, reads, token_scores

NAMES = ["nll", "ppl", "entropy", "fast_detect", "lastde", "log_rank", "lrr", "binoculars"]
NAMES += [f"min_k_{p}" for p in (1, 5, 20, 33, 99, 100)] + [f"min_k_pp_{p}" for p in (1, 20, 60, 100)]
INPUTS = ("logprob", "mean", "variance", "rank", "cross_mean", "cross_variance")


def one(name: str, logprob: Any, *more: Any) -> float:
    """The score of one document. more: mean, variance, rank, cross_mean, cross_variance as far as needed."""
    arrays: list[Any] = [None if values is None else np.array(values, np.float32) for values in (logprob, *more)]
    return float(token_scores([name], np.array([0, len(logprob)]), *arrays)[name][0])


# --- the definitions, one number at a time ------------------------------------------------------------------------


def naive_lastde(series: list[float], window: int = 3, bins: int | None = None, scales: int = 5) -> float:
    bins = 10 * len(series) if bins is None else bins
    entropies = []
    for scale in range(1, scales + 1):
        means = [sum(series[i : i + scale]) / scale for i in range(len(series) - scale + 1)]
        windows = [means[i : i + window] for i in range(len(means) - window + 1)]
        cosines = []
        for a, b in itertools.pairwise(windows):
            length = math.hypot(*a) * math.hypot(*b)
            cosines.append(sum(x * y for x, y in zip(a, b)) / length if length else 0.0)
        if not cosines:
            return math.nan
        # NumPy's own rule for the last bin; a cosine of 1.0000000000000002 is 1
        counts, _ = np.histogram(np.clip(cosines, -1, 1), bins=bins, range=(-1, 1))
        shares = [count / len(cosines) for count in counts if count]
        entropies.append(-sum(p * math.log(p) for p in shares) / math.log(bins))
    middle = sum(entropies) / scales
    spread = math.sqrt(sum((e - middle) ** 2 for e in entropies) / (scales - 1))
    return sum(series) / len(series) / spread if spread else math.nan


def naive(name: str, rows: list[tuple[float, ...]]) -> float:
    """rows: (logprob, mean, variance, rank, cross_mean, cross_variance) of each token."""
    n = len(rows)
    if n == 0 or any(math.isnan(row[0]) for row in rows):
        return math.nan
    lp, mean, variance, rank, cross_mean, cross_variance = ([float(x) for x in column] for column in zip(*rows))
    if name == "nll":
        return -sum(lp)
    if name == "ppl":
        return math.exp(-sum(lp) / n)
    if name == "entropy":
        return -sum(mean) / n
    if name == "fast_detect":
        return (sum(lp) - sum(cross_mean)) / math.sqrt(sum(cross_variance)) if sum(cross_variance) > 0 else math.nan
    if name == "lastde":
        return naive_lastde(lp)
    logs = [math.log(r) for r in rank]
    if name == "log_rank":
        return sum(logs) / n
    if name == "lrr":
        return abs(sum(lp)) / sum(logs) if sum(logs) else math.nan
    if name == "binoculars":
        return (-sum(lp) / n) / (-sum(cross_mean) / n) if sum(cross_mean) else math.nan
    k = max(1, int(Fraction(int(name.rpartition("_")[2]), 100) * n))
    if name.startswith("min_k_pp_"):
        values = [(a - m) / math.sqrt(max(v, LEAST_VARIANCE)) for a, m, v in zip(lp, mean, variance)]
        if any(math.isnan(v) for v in variance):
            return math.nan
    else:
        values = lp
    return sum(sorted(values)[:k]) / k


def made(lengths: list[int], seed: int, *, ties: bool = False) -> tuple[np.ndarray, list[np.ndarray]]:
    """Documents of made-up tokens, float32 as they come from a model; with `ties` many equal and some certain ones."""
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    columns = [-rng.exponential(3, n), -rng.exponential(2, n), rng.exponential(4, n), rng.integers(1, 50_000, n)]
    if ties:
        columns[0] = -rng.choice([0.5, 2.0, *rng.exponential(3, 5)], n)
        certain = rng.random(n) < 0.2
        columns = [np.where(certain, sure, values) for sure, values in zip((0, 0, 0, 1), columns, strict=True)]
    columns += [-rng.exponential(3, n), rng.exponential(4, n)]
    kinds = [np.float32, np.float32, np.float32, np.int32, np.float32, np.float32]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return offsets, [values.astype(kind) for values, kind in zip(columns, kinds, strict=True)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 2, 7, 8, 9, 30, 101, 257]), max_size=6), st.integers(0, 1000), st.booleans())
def test_every_score_is_its_definition_and_that_of_the_document_alone(lengths, seed, ties):
    offsets, columns = made(lengths, seed, ties=ties)
    found = token_scores(NAMES, offsets, *columns)
    rows = list(zip(*(column.tolist() for column in columns)))
    for name in NAMES:
        expected = [naive(name, rows[a:b]) for a, b in itertools.pairwise(offsets)]
        if name != "lastde" or not ties:  # equal numbers have cosines on the very edge of a bin, where rounding decides
            np.testing.assert_allclose(found[name], expected, rtol=1e-9, atol=1e-12, err_msg=name)
        for d, (a, b) in enumerate(itertools.pairwise(offsets)):
            alone = token_scores([name], np.array([0, b - a]), *(column[a:b] for column in columns))[name]
            assert alone.tobytes() == found[name][d : d + 1].tobytes(), "neighbours move no bit"


def test_offsets_may_begin_and_end_inside_the_arrays():
    offsets, columns = made([40, 50, 60], 3)
    whole, part = (token_scores(NAMES, o, *columns) for o in (offsets, offsets[1:3]))
    assert all(whole[name][1:2].tobytes() == part[name].tobytes() for name in NAMES)


@pytest.mark.parametrize("shape", ["rising", "falling", "organ pipe", "equal", "two values", "random"])
@pytest.mark.parametrize("n", [1, 2, 3, 99, 100, 20_001])
def test_the_smallest_are_selected_whatever_the_order_of_the_tokens(shape, n):
    values = {
        "rising": np.arange(n) - n,
        "falling": -np.arange(n),
        "organ pipe": -np.minimum(np.arange(n), n - np.arange(n)),
        "equal": np.full(n, -3),
        "two values": -(np.arange(n) % 2),
        "random": -np.random.default_rng(n).exponential(2, n),
    }[shape].astype(np.float32)
    for percent in (1, 20, 50, 99, 100):
        expected = np.sort(values.astype(np.float64))[: max(1, n * percent // 100)].mean()
        assert one(f"min_k_{percent}", values) == pytest.approx(expected, rel=1e-12, abs=1e-12)


# --- published toy vectors ----------------------------------------------------------------------------------------

STEPS = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.25, 0.5, 0.25], [0.6, 0.3, 0.1], [0.05, 0.9, 0.05]])
LABELS = [0, 0, 1, 2, 1]
LOGPROB = np.log(STEPS[np.arange(5), LABELS])
MEAN = (STEPS * np.log(STEPS)).sum(1)
VARIANCE = (STEPS * np.log(STEPS) ** 2).sum(1) - MEAN**2


def test_three_way_steps_give_the_published_log_probabilities_and_z():
    np.testing.assert_allclose(LOGPROB, [-0.356675, -2.302585, -0.693147, -2.302585, -0.105361], atol=1e-6)
    z = [0.633092, -2.0, 1.0, -2.501457, 0.333333]
    for at, expected in enumerate(z):
        found = one("min_k_pp_20", LOGPROB[at : at + 1], MEAN[at : at + 1], VARIANCE[at : at + 1])
        assert found == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("min_k_20", -2.302585),
        ("min_k_40", -2.302585),
        ("min_k_100", -1.152071),
        ("min_k_pp_20", -2.501457),
        ("min_k_pp_40", -2.250729),
        ("min_k_pp_100", -0.507006),
        ("fast_detect", -1.290014),
    ],
)
def test_five_steps_give_the_toy_vectors_of_min_k_and_fast_detect_gpt(name, expected):
    assert one(name, LOGPROB, MEAN, VARIANCE) == pytest.approx(expected, abs=2e-6)


def test_fast_detect_takes_the_observers_moments_where_there_is_one():
    other = STEPS[:, ::-1]
    cross = (other * np.log(STEPS)).sum(1)
    crossed = (other * np.log(STEPS) ** 2).sum(1) - cross**2
    expected = (LOGPROB.sum() - cross.sum()) / math.sqrt(crossed.sum())
    assert one("fast_detect", LOGPROB, MEAN, VARIANCE, None, cross, crossed) == pytest.approx(expected, rel=1e-6)
    assert abs(expected - -1.290014) > 0.1
    assert one("fast_detect", LOGPROB, None, None, None, cross, crossed) == pytest.approx(expected, rel=1e-6)


SERIES = np.array([1, 2, 13, 7, 9, 5, 4], np.float32)  # the docstring of fastMDE.py in TrustMedia-zju/Lastde_Detector


def test_lastde_gives_the_toy_vector_of_its_authors():
    found = lastde(SERIES, np.array([0, 7]), window=3, bins_per_token=10 / 7 + 1e-9, scales=3)
    assert found[0] == pytest.approx(33.70053, abs=1e-5)
    assert naive_lastde(SERIES.tolist(), 3, 10, 3) == pytest.approx(33.70053, abs=1e-5), "so does the oracle"


def test_lastde_agrees_with_torch_as_its_authors_compute_it():
    torch = pytest.importorskip("torch")
    series = torch.tensor(-np.random.default_rng(1).exponential(2, 200).astype(np.float32)).double()
    bins, entropies = 10 * len(series), []
    for scale in range(1, 6):
        windows = series.unfold(0, scale, 1).mean(1).unfold(0, 3, 1)
        cosines = torch.nn.functional.cosine_similarity(windows[:-1], windows[1:], dim=-1)
        shares = torch.histc(cosines, bins=bins, min=-1, max=1)
        shares = shares / shares.sum()
        entropies.append(-torch.nansum(shares * torch.log(shares)) / math.log(bins))
    expected = float(series.mean() / torch.stack(entropies).std())
    assert one("lastde", series.numpy()) == pytest.approx(expected, rel=1e-9)


# --- where a score is not defined ---------------------------------------------------------------------------------


def test_a_document_without_tokens_and_one_with_a_nan_are_undefined_alone():
    offsets, columns = made([30, 0, 30, 30], 5)
    for key, column in zip(INPUTS, columns):
        if column.dtype != np.float32:
            continue
        broken = [c.copy() for c in columns]
        broken[INPUTS.index(key)][45] = math.nan
        right, found = token_scores(NAMES, offsets, *columns), token_scores(NAMES, offsets, *broken)
        for name in NAMES:
            touched = key == "logprob" or key in reads(name, observer=True)
            assert math.isnan(found[name][1]), "no token"
            assert math.isnan(found[name][2]) == touched, (name, key)
            assert found[name][[0, 3]].tobytes() == right[name][[0, 3]].tobytes()
            assert not np.isnan(found[name][[0, 3]]).any()


def test_a_document_of_certain_tokens_has_the_scores_that_are_defined():
    n = 12
    offsets, zero = np.array([0, n]), np.zeros(n, np.float32)
    found = token_scores(NAMES, offsets, zero, zero, zero, np.ones(n, np.int32), zero, zero)
    defined = {"nll": 0, "ppl": 1, "entropy": 0, "log_rank": 0}
    for name in NAMES:
        if name.startswith("min_k"):
            assert found[name][0] == 0
        else:
            assert found[name][0] == defined.get(name, math.nan) or name not in defined
            assert math.isnan(found[name][0]) == (name not in defined), name
    assert not np.signbit(found["nll"][0])
    assert not np.signbit(found["entropy"][0])


def test_a_surprise_at_an_all_but_certain_step_has_a_finite_z():
    found = one("min_k_pp_20", [-20.0], [-1e-7], [0.0])
    assert found == pytest.approx(-20 / math.sqrt(LEAST_VARIANCE), rel=1e-6)
    assert one("min_k_pp_20", [-1e-6], [0.0], [-1e-9]) == pytest.approx(-0.01, rel=1e-3), "rounding stays small"


def test_lastde_needs_a_window_for_the_coarsest_scale():
    values = -np.random.default_rng(2).exponential(2, 9).astype(np.float32)
    assert math.isnan(one("lastde", values[:7]))
    assert one("lastde", values[:8]) == pytest.approx(naive_lastde(values[:8].tolist()), rel=1e-9)


def test_a_cosine_of_one_is_in_the_last_bin_and_zeros_have_the_cosine_zero():
    rising = np.array([0] * 6 + [-1] * 6 + [-2, -7, -1, -5], np.float32)
    assert one("lastde", rising) == pytest.approx(naive_lastde(rising.tolist()), rel=1e-9)
    assert math.isnan(one("lastde", np.full(50, -2.5, np.float32))), "all entropies are 0"


def test_a_token_of_no_probability_is_infinitely_perplexing():
    values = [-1.0, -math.inf, -2.0]
    assert one("nll", values) == one("ppl", values) == math.inf
    assert one("min_k_20", values) == -math.inf
    assert one("ppl", [-800.0]) == math.inf


# --- what a score reads -------------------------------------------------------------------------------------------


def test_reads_names_exactly_the_inputs_without_which_a_score_fails():
    offsets, columns = made([20], 1)
    given: dict[str, Any] = dict(zip(INPUTS, columns))
    for name in NAMES:
        for observer in (False, True):
            wanted: dict[str, Any] = {key: given[key] for key in reads(name, observer=observer)}
            right = token_scores([name], offsets, given["logprob"], **wanted)
            assert not np.isnan(right[name]).any()
            for key in wanted:
                rest = {other: value for other, value in wanted.items() if other != key}
                with pytest.raises(ValueError, match=f"{name} reads"):
                    token_scores([name], offsets, given["logprob"], **rest)


@pytest.mark.parametrize("name", ["min_k_0", "min_k_101", "min_k_020", "min_k_", "min_k_pp_1.5", "perplexity", ""])
def test_an_unknown_score_is_refused_with_those_there_are(name):
    with pytest.raises(ValueError, match="min_k_<p>"):
        reads(name)
    with pytest.raises(ValueError, match="no score"):
        token_scores([name], np.array([0]), np.zeros(0, np.float32))


def test_lengths_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="mean has the shape"):
        token_scores(["entropy"], np.array([0, 3]), np.zeros(3, np.float32), np.zeros(2, np.float32))
    for offsets in ([], [0, 4], [2, 1], [-1, 2]):
        with pytest.raises(ValueError, match="offsets"):
            token_scores(["nll"], np.array(offsets, np.int64), np.zeros(3, np.float32))


def test_no_document_is_no_special_case():
    offsets, columns = made([], 0)
    found = token_scores(NAMES, offsets, *columns)
    assert all(len(found[name]) == 0 and found[name].dtype == np.float64 for name in NAMES)
