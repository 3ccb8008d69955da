"""The hot loops: NumPy arrays in and out, compiled by numba; this folder knows nothing of the rest.

Invariant: compiled code is cached in the user's cache folder, never beside the source, so a read-only install works.
"""

import os

import platformdirs

os.environ.setdefault("NUMBA_CACHE_DIR", os.path.join(platformdirs.user_cache_dir("tamis"), "numba"))
