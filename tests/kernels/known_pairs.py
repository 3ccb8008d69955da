"""Pairs of texts whose sets of words have a known Jaccard similarity: for laws that hold for random sets.

Invariant: every word is eight random letters, so all words of all texts differ but for those that a pair shares.
"""

from __future__ import annotations

import numpy as np


def pairs(shared: np.ndarray, own: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(data, offsets) of texts 2p and 2p + 1, which share shared[p] words; own[p] words are of one of them, in turn."""
    rng = np.random.default_rng(seed)
    lengths = np.empty(2 * len(shared), np.int64)
    lengths[0::2], lengths[1::2] = shared + (own + 1) // 2, shared + own // 2
    offsets = np.concatenate([[0], np.cumsum(9 * lengths)])
    words = rng.integers(ord("a"), ord("z") + 1, (int(lengths.sum()), 9), dtype=np.uint8)
    words[:, 8] = ord(" ")
    starts = offsets // 9
    # the second text of a pair begins with the words that it shares with the first, which begins with them too
    pair = np.repeat(np.arange(len(shared)), shared)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(shared) - shared, shared)
    words[starts[2 * pair + 1] + within] = words[starts[2 * pair] + within]
    return words.reshape(-1), offsets
