"""Reading ahead: what the next batches need is made in a thread while this one is worked on.

Invariant: the same items in the same order, and the same error at the same place; at most DEPTH are made too early.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

DEPTH = 2
Item = TypeVar("Item")


def ahead(source: Iterator[Item], *, wanted: bool) -> Iterator[Item]:
    """The items of `source`, which runs in a thread of its own if that is `wanted`. It yields no None."""
    if not wanted:
        yield from source
        return
    with ThreadPoolExecutor(1) as pool:  # one thread: so the order is that of submission
        waiting: deque[Future[Item | None]] = deque(pool.submit(next, source, None) for _ in range(DEPTH))
        try:
            while (item := waiting.popleft().result()) is not None:
                waiting.append(pool.submit(next, source, None))
                yield item
        finally:
            for future in waiting:
                future.cancel()
