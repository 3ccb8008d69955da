"""The leaders of sets of hashes, against the definition in plain Python."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.kernels.leaders import leaders


def naive(sets, group, threshold, most):
    leader, similarity, led = [], [], {}
    for i, (one, g) in enumerate(zip(sets, group)):
        found = led.setdefault(g, [])
        for j in found:
            union = len(one | sets[j])
            jaccard = len(one & sets[j]) / union if union else 1.0
            if jaccard >= threshold:
                leader.append(j)
                similarity.append(np.float32(jaccard))
                break
        else:
            leader.append(i)
            similarity.append(np.float32(0))
            if len(found) < most:
                found.append(i)
    return leader, similarity


def run(sets, group, threshold, most):
    values = np.array([v for one in sets for v in sorted(one)], np.uint64)
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in sets])]).astype(np.int64)
    leader, similarity = leaders(values, offsets, np.array(group, np.int64), threshold, most)
    return leader.tolist(), similarity.tolist()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.frozensets(st.integers(0, 12), max_size=9), max_size=14),
    st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.6, 0.75, 0.8, 0.9, 1.0]),
    st.integers(1, 4),
    st.data(),
)
def test_each_set_goes_to_the_first_leader_that_is_similar_enough(sets, threshold, most, data):
    group = sorted(data.draw(st.lists(st.integers(0, 2), min_size=len(sets), max_size=len(sets))))
    assert run(sets, group, threshold, most) == naive(sets, group, threshold, most)


def test_a_similarity_of_exactly_the_threshold_is_enough():
    for n in range(1, 60):
        for k in range(1, n + 1):
            one, other = set(range(n)), set(range(n - k, 2 * n - k))
            exact = k / (2 * n - k)
            assert run([one, other], [0, 0], exact, 5)[0] == [0, 0]
            assert run([one, other], [0, 0], np.nextafter(exact, 2), 5)[0] == [0, 1]
