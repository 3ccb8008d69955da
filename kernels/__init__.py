"""The hot loops: NumPy arrays in and out, compiled by numba; this folder knows nothing of the rest.

Invariant: compiled code is cached in the user's cache folder, never beside the source, so a read-only install works; and
under a hash of all sources here, because numba checks a function's own file only, not the files it calls into.
"""

import os
from pathlib import Path

import platformdirs
import xxhash


def _sources() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return xxhash.xxh3_64_hexdigest(b"".join(file.name.encode() + file.read_bytes() for file in files))


os.environ.setdefault("NUMBA_CACHE_DIR", os.path.join(platformdirs.user_cache_dir("tamis"), f"numba-{_sources()}"))
