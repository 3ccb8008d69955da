"""From numbers per token to scores per document: perplexity, Min-K%, Fast-DetectGPT, Lastde and the like.

Invariant: a document's score is computed from its own tokens alone, summed in float64 in their order; so neither its
neighbours nor the cut into batches move a bit of it. NaN is "undefined": no scored token, a NaN among its
log-probabilities or among what the score reads, or a divisor of 0.

Conventions of `token_stats`: natural logarithms; logprob = ln p(token | before); mean and variance are those of ln p under
the model's own distribution (mean = sum p ln p, the negative entropy), cross_mean and cross_variance those of the
scorer's ln p under the observer's distribution. n = scored tokens of the document. No sign is turned:

nll           -sum logprob, in nats
ppl           exp(nll / n); infinite where that is more than a float64
entropy       mean of -mean
min_k_<p>     mean of the k smallest logprob, k = max(1, n * p // 100) (Shi et al. 2023, arXiv 2310.16789; their released
              numbers are its negative); high: the text may have been trained on
min_k_pp_<p>  the same of z = (logprob - mean) / sqrt(variance) (Zhang et al. 2024, arXiv 2404.02936)
fast_detect   (sum logprob - sum mean) / sqrt(sum variance) (Bao et al. 2023, arXiv 2310.05130), with an observer, their
              reference model, of cross_mean and cross_variance; high: machine
lastde        mean logprob / std over scales of the diversity entropy (Xu et al. 2024, arXiv 2410.06072; `_lastde`)
log_rank      mean ln rank
lrr           |sum logprob| / sum ln rank (Su et al. 2023, arXiv 2306.05540)
binoculars    mean of -logprob / mean of -cross_mean (Hans et al. 2024, arXiv 2401.12070), both over the scored tokens;
              low: machine. The published code's denominator averages the position after the last token, too, which
              moves the score by the share 1/n of how far that position's cross-entropy is from the others' mean
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numba
import numpy as np
from numba import types

# logprob and mean are logarithms in float32: at a step where one token is all but certain they differ by rounding of
# about 1e-6, which a variance below this would blow up into a z of noise. A certain step (0, 0, 0) has z = 0.
LEAST_VARIANCE = 1e-8
# Lastde's published settings for white-box scoring (README of TrustMedia-zju/Lastde_Detector)
WINDOW, BINS_PER_TOKEN, SCALES = 3, 10, 5

NUMBERS = types.Array(types.float32, 1, "C", readonly=True)
RANKS = types.Array(types.int32, 1, "C", readonly=True)
OFFSETS = types.Array(types.int64, 1, "C", readonly=True)
SCORES = types.Array(types.float64, 1, "C")


class _Sums:
    """The inputs of one batch and their sums per document, each made once. `cross`: fast_detect's mean and variance are
    those under the observer."""

    def __init__(self, offsets: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
        self.offsets, self.arrays = offsets, arrays
        self.count = np.diff(offsets).astype(np.float64)
        self.cross = "cross_" if "cross_mean" in arrays and "cross_variance" in arrays else ""
        self._made: dict[str, np.ndarray] = {}

    def __call__(self, key: str) -> np.ndarray:
        if key not in self._made:
            self._made[key] = out = np.empty(len(self.count))
            (_log_sums if key == "rank" else _sums)(self.arrays[key], self.offsets, out)
        return self._made[key]


def _fast_detect(sums: _Sums) -> np.ndarray:
    variance = sums(f"{sums.cross}variance")
    spread = np.sqrt(np.where(variance > 0, variance, np.nan))
    return (sums("logprob") - sums(f"{sums.cross}mean")) / spread


def _lrr(sums: _Sums) -> np.ndarray:
    ranks = sums("rank")
    return np.abs(sums("logprob")) / np.where(ranks > 0, ranks, np.nan)


def _binoculars(sums: _Sums) -> np.ndarray:
    cross = sums("cross_mean")
    return sums("logprob") / np.where(cross != 0, cross, np.nan)


# name -> (what it reads besides logprob, the score from sums)
_FROM_SUMS: dict[str, tuple[tuple[str, ...], Callable[[_Sums], np.ndarray]]] = {
    "nll": ((), lambda sums: 0.0 - sums("logprob")),
    "ppl": ((), lambda sums: np.exp(-sums("logprob") / sums.count)),
    "entropy": (("mean",), lambda sums: 0.0 - sums("mean") / sums.count),
    "fast_detect": (("mean", "variance"), _fast_detect),
    "log_rank": (("rank",), lambda sums: sums("rank") / sums.count),
    "lrr": (("rank",), _lrr),
    "binoculars": (("cross_mean",), _binoculars),
}
_MIN_K = re.compile(r"min_k_(pp_)?([1-9][0-9]?|100)")


def reads(name: str, *, observer: bool = False) -> frozenset[str]:
    """Which of mean, variance, rank, cross_mean, cross_variance a score reads besides logprob. observer: whether there is
    one, whose distribution fast_detect then takes. ValueError for an unknown name."""
    if name in _FROM_SUMS:
        cross = "cross_" if observer and name == "fast_detect" else ""
        return frozenset(cross + key for key in _FROM_SUMS[name][0])
    if name == "lastde":
        return frozenset()
    found = _MIN_K.fullmatch(name)
    if found is None:
        raise ValueError(
            f"{name!r} is no score of tokens; there are {', '.join(_FROM_SUMS)}, lastde, min_k_<p> and min_k_pp_<p> with p "
            "from 1 to 100"
        )
    return frozenset({"mean", "variance"} if found[1] else ())


def token_scores(
    names: Sequence[str],
    offsets: np.ndarray,
    logprob: np.ndarray,
    mean: np.ndarray | None = None,
    variance: np.ndarray | None = None,
    rank: np.ndarray | None = None,
    cross_mean: np.ndarray | None = None,
    cross_variance: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """For each of `names` a float64 per document (see the module's docstring), NaN where undefined.

    offsets: int64 [D + 1], document d has the tokens offsets[d] to offsets[d + 1]; all others float32 [N] (rank int32, 1
    is the most probable). ValueError for an unknown name, an input that a name reads and that is not there, or lengths
    that do not fit.
    """
    given = {"logprob": logprob, "mean": mean, "variance": variance, "rank": rank}
    given |= {"cross_mean": cross_mean, "cross_variance": cross_variance}
    arrays = {
        key: np.ascontiguousarray(found, np.int32 if key == "rank" else np.float32)
        for key, found in given.items()
        if found is not None
    }
    offsets = np.ascontiguousarray(offsets, np.int64)
    _check(arrays, offsets)
    sums = _Sums(offsets, arrays)
    for name in names:
        missing = sorted(reads(name, observer=bool(sums.cross)) - arrays.keys())
        if missing:
            raise ValueError(f"{name} reads {' and '.join(missing)}, which was not given")
    undefined = (sums.count == 0) | np.isnan(sums("logprob"))
    found = {}
    for name in names:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            scores = _FROM_SUMS[name][1](sums) if name in _FROM_SUMS else _of_tokens(name, arrays, offsets)
        found[name] = np.where(undefined, np.nan, scores)
    return found


def _check(arrays: dict[str, np.ndarray], offsets: np.ndarray) -> None:
    size = arrays["logprob"].shape
    for key, values in arrays.items():
        if values.ndim != 1 or values.shape != size:
            raise ValueError(f"{key} has the shape {values.shape}, logprob {size}: one number per token")
    if len(offsets) == 0 or offsets[0] < 0 or offsets[-1] > size[0] or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets: D + 1 numbers that do not fall, from 0 to {size[0]}, the number of tokens")


def _of_tokens(name: str, arrays: dict[str, np.ndarray], offsets: np.ndarray) -> np.ndarray:
    """A score that is more than sums: lastde, min_k_<p>, min_k_pp_<p>."""
    out = np.empty(len(offsets) - 1)
    longest = int(np.diff(offsets).max(initial=0))
    if name == "lastde":
        return lastde(arrays["logprob"], offsets)
    percent = int(name.rpartition("_")[2])
    if name.startswith("min_k_pp_"):
        inputs = (arrays["logprob"], arrays["mean"], arrays["variance"])
        _min_k_pp(*inputs, offsets, percent, LEAST_VARIANCE, np.empty(longest), np.empty(longest), out)
    else:
        _min_k(arrays["logprob"], offsets, percent, np.empty(longest), np.empty(longest), out)
    return out


def lastde(
    logprob: np.ndarray,
    offsets: np.ndarray,
    *,
    window: int = WINDOW,
    bins_per_token: float = BINS_PER_TOKEN,
    scales: int = SCALES,
) -> np.ndarray:
    """float64 [D]: Lastde, mean logprob / sample standard deviation of the diversity entropies of `scales` moving averages.

    Scale t averages t neighbours (stride 1); the diversity entropy of a series is -sum p ln p / ln bins over the histogram
    on [-1, 1] of the cosines of consecutive windows of `window` numbers, bins = int(bins_per_token * n). A cosine beside
    [-1, 1] by rounding belongs to the last or first bin (torch.histc leaves it out), that of a window of zeros is 0.
    NaN: fewer than window + scales tokens, fewer than 2 bins, all entropies equal, a NaN among the tokens.
    """
    offsets = np.ascontiguousarray(offsets, np.int64)
    longest = int(np.diff(offsets).max(initial=0))
    counts = np.zeros(int(bins_per_token * longest) + 1, np.int32)
    out = np.empty(len(offsets) - 1)
    work = (np.empty(longest), np.empty(longest, np.int64), counts, np.empty(scales))
    _lastde(np.ascontiguousarray(logprob, np.float32), offsets, window, float(bins_per_token), *work, out)
    return out


@numba.njit(types.void(NUMBERS, OFFSETS, SCORES), nogil=True, cache=True)
def _sums(values, offsets, out):
    for document in range(len(offsets) - 1):
        total = 0.0
        for at in range(offsets[document], offsets[document + 1]):
            total += values[at]
        out[document] = total


@numba.njit(types.void(RANKS, OFFSETS, SCORES), nogil=True, cache=True)
def _log_sums(values, offsets, out):
    for document in range(len(offsets) - 1):
        total = 0.0
        for at in range(offsets[document], offsets[document + 1]):
            total += math.log(values[at])
        out[document] = total


@numba.njit(types.float64(SCORES, types.int64, types.int64), nogil=True, cache=True)
def _kth(values, size, k):
    """The k-th smallest (from 0) of values[:size], which it moves about (Hoare's selection). Pivots are drawn by a fixed
    generator: no order that texts have makes it quadratic."""
    low, high, state = 0, size - 1, np.uint64(88172645463325252)
    while low < high:
        state ^= state << np.uint64(13)
        state ^= state >> np.uint64(7)
        state ^= state << np.uint64(17)
        pivot = values[low + np.int64(state % np.uint64(high - low + 1))]
        left, right = low, high
        while left <= right:
            while values[left] < pivot:
                left += 1
            while values[right] > pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left += 1
                right -= 1
        if k <= right:
            high = right
        elif k >= left:
            low = left
        else:
            return values[k]
    return values[k]


@numba.njit(types.float64(SCORES, SCORES, types.int64, types.int64), nogil=True, cache=True)
def _mean_of_smallest(values, work, size, percent):
    """Mean of the max(1, size * percent // 100) smallest of values[:size]; NaN where one is or there are none."""
    total = 0.0
    for at in range(size):
        total += values[at]
    if size == 0 or math.isnan(total):
        return math.nan
    k = max(1, size * percent // 100)
    if k == size:
        return total / size
    work[:size] = values[:size]
    limit = _kth(work, size, k - 1)
    # summed in the order of the text, so that the last bits do not depend on how the limit was found
    total, below = 0.0, 0
    for at in range(size):
        if values[at] < limit:
            total += values[at]
            below += 1
    return (total + (k - below) * limit) / k


@numba.njit(types.void(NUMBERS, OFFSETS, types.int64, SCORES, SCORES, SCORES), nogil=True, cache=True)
def _min_k(logprob, offsets, percent, values, work, out):
    for document in range(len(offsets) - 1):
        start, size = offsets[document], offsets[document + 1] - offsets[document]
        for at in range(size):
            values[at] = logprob[start + at]
        out[document] = _mean_of_smallest(values, work, size, percent)


@numba.njit(
    types.void(NUMBERS, NUMBERS, NUMBERS, OFFSETS, types.int64, types.float64, SCORES, SCORES, SCORES),
    nogil=True,
    cache=True,
)
def _min_k_pp(logprob, mean, variance, offsets, percent, least, values, work, out):
    for document in range(len(offsets) - 1):
        start, size = offsets[document], offsets[document + 1] - offsets[document]
        for at in range(size):
            spread = np.float64(variance[start + at])
            if spread < least:  # a NaN stays one
                spread = least
            values[at] = (np.float64(logprob[start + at]) - np.float64(mean[start + at])) / math.sqrt(spread)
        out[document] = _mean_of_smallest(values, work, size, percent)


@numba.njit(
    types.float64(
        types.Array(types.float64, 1, "C"),
        types.int64,
        types.int64,
        types.int64,
        types.Array(types.int64, 1, "C"),
        types.Array(types.int32, 1, "C"),
    ),
    nogil=True,
    cache=True,
)
def _diversity(series, size, window, bins, places, counts):
    """Diversity entropy of series[:size]. `counts` is all zeros before and after: only bins that were hit are touched."""
    pairs = size - window
    for at in range(pairs):
        product, first, second = 0.0, 0.0, 0.0
        for k in range(window):
            a, b = series[at + k], series[at + k + 1]
            product += a * b
            first += a * a
            second += b * b
        norm = math.sqrt(first) * math.sqrt(second)
        cosine = product / norm if norm > 0 else 0.0
        place = min(max(np.int64((cosine + 1) / 2 * bins), 0), bins - 1)
        places[at] = place
        counts[place] += 1
    total = 0.0
    for at in range(pairs):
        count = counts[places[at]]
        if count:
            share = count / pairs
            total -= share * math.log(share)
            counts[places[at]] = 0
    return total / math.log(bins)


@numba.njit(
    types.void(
        NUMBERS,
        OFFSETS,
        types.int64,
        types.float64,
        types.Array(types.float64, 1, "C"),
        types.Array(types.int64, 1, "C"),
        types.Array(types.int32, 1, "C"),
        types.Array(types.float64, 1, "C"),
        SCORES,
    ),
    nogil=True,
    cache=True,
)
def _lastde(logprob, offsets, window, bins_per_token, series, places, counts, entropies, out):
    scales = len(entropies)
    for document in range(len(offsets) - 1):
        start, size = offsets[document], offsets[document + 1] - offsets[document]
        bins = np.int64(bins_per_token * size)
        out[document] = math.nan
        total = 0.0
        for at in range(size):
            total += logprob[start + at]
        if size < window + scales or bins < 2 or not math.isfinite(total):
            continue
        for scale in range(1, scales + 1):
            for at in range(size - scale + 1):  # sums for averages: a cosine does not see the difference
                held = 0.0
                for k in range(scale):
                    held += logprob[start + at + k]
                series[at] = held
            entropies[scale - 1] = _diversity(series, size - scale + 1, window, bins, places, counts)
        middle = 0.0
        for scale in range(scales):
            middle += entropies[scale]
        middle /= scales
        squares = 0.0
        for scale in range(scales):
            squares += (entropies[scale] - middle) ** 2
        if scales > 1 and squares > 0:
            out[document] = total / size / math.sqrt(squares / (scales - 1))
