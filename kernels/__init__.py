"""The hot loops: NumPy arrays in and out, compiled by numba; this folder knows nothing of the rest.

Invariant: compiled code is cached in the user's cache folder, never beside the source, so a read-only install works; and
under a hash of all sources here, because numba checks a function's own file only, not the files it calls into.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import platformdirs
import xxhash


def _sources() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return xxhash.xxh3_64_hexdigest(b"".join(file.name.encode() + file.read_bytes() for file in files))


def _cache_folder() -> str:
    """The folder of the compiled code. Where there is none yet, it begins as a copy of what an image ships at
    TAMIS_KERNELS: numba itself refuses a cache that it cannot write to."""
    folder = Path(platformdirs.user_cache_dir("tamis"), f"numba-{_sources()}")
    shipped = Path(os.environ.get("TAMIS_KERNELS", ""), folder.name)
    if os.environ.get("TAMIS_KERNELS") and shipped.is_dir() and not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        copy = Path(tempfile.mkdtemp(dir=folder.parent))
        for path in shipped.rglob("*.nb[ic]"):  # not copytree: it would copy read-only modes of folders as well
            place = copy / path.relative_to(shipped)
            place.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, place)
        with contextlib.suppress(OSError):  # another process was first: then the folder is there, and not empty
            os.rename(copy, folder)
        shutil.rmtree(copy, ignore_errors=True)
    return str(folder)


if "NUMBA_CACHE_DIR" not in os.environ:
    os.environ["NUMBA_CACHE_DIR"] = _cache_folder()
