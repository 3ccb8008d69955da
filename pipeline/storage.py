"""One object over local folders and object stores: read, list, replace, and create only if absent.

Invariant: a path either holds one complete version of its bytes or nothing at all; a writer that fails, or a process
that is killed, leaves nothing that `list` shows and nothing that `read` returns in part.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from ..stages.errors import SetupError

WRITE_BLOCK = 16 << 20  # one part of a multipart upload: bounds a writer's memory; 10,000 parts make 160 GB
CONFLICTS = 10  # attempts of a conditional put that meets others

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


@contextlib.contextmanager
def explained(path: str, *, writing: bool = False) -> Iterator[None]:
    """Turns what only the person at the machine can mend (disk full, read-only, no credentials, no network, no such
    bucket) into a SetupError that names the path; FileNotFoundError on reading and FileExistsError pass through."""
    try:
        yield
    except FileNotFoundError as error:
        if writing and "://" in path:
            raise SetupError(f"{path}: {error}; create the bucket first") from error
        raise
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise SetupError(f"{path}: the disk is full or the quota used up; free some space and run again") from error
        if isinstance(error, PermissionError) or error.errno in _FORBIDDEN:
            raise SetupError(
                f"{path}: not allowed ({error.strerror or error}); check its permissions and credentials, or whether "
                "it is mounted read-only"
            ) from error
        raise
    except Exception as error:
        # the clients of object stores have error trees of their own, which cannot be imported where they are absent
        if type(error).__module__.partition(".")[0] in {"botocore", "aiobotocore", "aiohttp", "gcsfs", "adlfs"}:
            raise SetupError(f"{path}: {error}; check endpoint, network and credentials") from error
        raise


class InputStream(pa.PythonFile):
    """A seekable, unbuffered input for pyarrow that remembers why a read failed.

    Parquet's C++ reader folds an I/O error into its own kind of error. `failure` tells the two apart: None means that
    every byte was delivered, so what went wrong lies in the bytes.
    """

    _watched: _Watched

    def __new__(cls, raw: BinaryIO) -> InputStream:
        watched = _Watched(raw)
        self = super().__new__(cls, watched, mode="r")
        self._watched = watched
        return self

    @property
    def failure(self) -> Exception | None:
        return self._watched.failure


class _Watched:
    """The few methods of a Python file that pyarrow calls."""

    def __init__(self, raw: BinaryIO) -> None:
        self.raw = raw
        self.failure: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            return self.raw.read(size)
        except Exception as error:
            self.failure = self.failure or error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.raw.seek(offset, whence)

    def tell(self) -> int:
        return self.raw.tell()

    def close(self) -> None:
        self.raw.close()

    @property
    def closed(self) -> bool:
        return self.raw.closed


class Storage:
    """Files below one root, an absolute local path or an fsspec URL. Paths are relative, with '/'.

    Picklable: a worker connects when it first needs to. Options (endpoint, credentials) come from the environment and
    fsspec's own configuration. Names that begin with a dot are ours (temporary files) and never listed.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/") or "/"
        self.local = "://" not in root
        if self.local and not os.path.isabs(root):
            raise ValueError(f"{root}: a local root must be absolute")
        self._fs: Any = None
        self._base = self.root

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["root"])

    def __repr__(self) -> str:
        return f"Storage({self.root!r})"

    @property
    def fs(self) -> Any:
        """The fsspec file system; connects on first use. SetupError where its package is not installed."""
        if self._fs is None:
            import fsspec

            protocol = self.root.partition("://")[0]
            try:
                # listings are never cached: another process creates and removes files here
                self._fs, self._base = fsspec.url_to_fs(self.root, use_listings_cache=False)
            except ImportError as error:
                hint = "pip install 'tamis[s3]'" if protocol in {"s3", "s3a"} else str(error)
                raise SetupError(f"{self.root}: this kind of storage needs a package: {hint}") from error
            except ValueError as error:
                raise SetupError(f"{self.root}: {error}") from error
        return self._fs

    def full(self, path: str) -> str:
        """The absolute path, or the key that the file system takes."""
        if not self.local:
            assert self.fs is not None  # connects, which sets the base without the protocol
        return f"{self._base.rstrip('/')}/{path}".rstrip("/") if path else self._base

    def url(self, path: str) -> str:
        """The absolute local path or the URL, for messages and for `storage_for`."""
        return f"{self.root.rstrip('/')}/{path}" if path else self.root

    def read(self, path: str) -> bytes:
        """All bytes of a file. FileNotFoundError."""
        with explained(self.url(path)):
            return Path(self.full(path)).read_bytes() if self.local else self.fs.cat_file(self.full(path))

    def write(self, path: str, data: bytes) -> None:
        """Creates or replaces a file at once: readers see the old bytes or the new."""
        with explained(self.url(path), writing=True):
            if self.local:
                with self._replacing(path) as file:
                    file.write(data)
            else:
                self.fs.pipe_file(self.full(path), data)

    def create(self, path: str, data: bytes) -> bool:
        """Writes a file only if there is none, whole or not at all; False if it exists. Of any number of callers in
        any number of processes exactly one gets True (hard link locally, If-None-Match on S3)."""
        with explained(self.url(path), writing=True):
            if not self.local:
                return self._put_if_absent(path, data)
            final = self.full(path)
            temporary = self._write_temporary(final, data)
            try:
                os.link(temporary, final)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                return _create_exclusive(final, data)
            finally:
                os.unlink(temporary)
            _sync_folder(final)
            return True

    @contextlib.contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        """A stream for a big file, which appears when the block ends without an exception; otherwise nothing does."""
        with explained(self.url(path), writing=True):
            if self.local:
                with self._replacing(path) as file:
                    yield file
                return
            file = self.fs.open(self.full(path), "wb", block_size=WRITE_BLOCK, autocommit=False)
            try:
                yield cast(BinaryIO, file)
                file.close()
                file.commit()
            except BaseException:
                file.closed = True  # else its finalizer would upload what there is
                if getattr(file, "offset", None) is not None:  # an upload was begun
                    file.discard()
                raise

    def open(self, path: str) -> InputStream:
        """A seekable input for `pyarrow.parquet` and for sequential reading in large pieces; it keeps no cache of its
        own, so memory is what the reader asks for. FileNotFoundError."""
        with explained(self.url(path)):
            if self.local:
                return InputStream(cast(BinaryIO, open(self.full(path), "rb", buffering=0)))
            return InputStream(self.fs.open(self.full(path), "rb", cache_type="none"))

    def size(self, path: str) -> int:
        """Bytes of a file. FileNotFoundError."""
        with explained(self.url(path)):
            return os.stat(self.full(path)).st_size if self.local else int(self.fs.info(self.full(path))["size"])

    def version(self, path: str) -> str:
        """What changes when a file changes: its ETag, or size and modification time. FileNotFoundError."""
        with explained(self.url(path)):
            if self.local:
                stat = os.stat(self.full(path))
                return f"{stat.st_size}-{stat.st_mtime_ns}"
            return version_of(self.fs.info(self.full(path)))

    def exists(self, path: str) -> bool:
        with explained(self.url(path)):
            return os.path.exists(self.full(path)) if self.local else bool(self.fs.exists(self.full(path)))

    def list(self, prefix: str = "") -> dict[str, int]:
        """Files below the folder `prefix`: path relative to the root -> bytes, sorted; {} where there is no such folder.
        Nothing below the prefix whose name, or whose folder's name, begins with a dot."""
        start = self.full(prefix)
        found: dict[str, int] = {}
        with explained(self.url(prefix)):
            if self.local:
                for folder, folders, names in os.walk(start):
                    folders[:] = [name for name in folders if not name.startswith(".")]
                    for name in names:
                        if not name.startswith("."):
                            # a file may vanish between the listing and the stat
                            with contextlib.suppress(FileNotFoundError):
                                found[os.path.join(folder, name)] = os.stat(os.path.join(folder, name)).st_size
            else:
                with contextlib.suppress(FileNotFoundError):
                    details = self.fs.find(start, detail=True, withdirs=False)
                    found = {name: int(info["size"]) for name, info in details.items()}
        skip, below = len(self._base.rstrip("/")) + 1, len(start.rstrip("/")) + 1
        return {name[skip:]: found[name] for name in sorted(found) if "/." not in f"/{name[below:]}"}

    def modified(self, prefix: str) -> dict[str, float]:
        """The same files with the time at which each was written, in seconds since 1970; 0 where the store has none."""
        if self.local:
            found = {}
            for path in self.list(prefix):
                with contextlib.suppress(FileNotFoundError):
                    found[path] = os.stat(self.full(path)).st_mtime
            return found
        with explained(self.url(prefix)):
            try:
                details = self.fs.find(self.full(prefix), detail=True, withdirs=False)
            except FileNotFoundError:
                return {}
        skip = len(self._base.rstrip("/")) + 1
        return {name[skip:]: _moment(info) for name, info in sorted(details.items())}

    def remove(self, path: str) -> None:
        """Removes a file; an absent one is fine."""
        with explained(self.url(path)), contextlib.suppress(FileNotFoundError):
            if self.local:
                os.unlink(self.full(path))
            else:
                self.fs.rm_file(self.full(path))

    def remove_tree(self, path: str) -> None:
        """Removes a folder and all that is below it, temporary files too; an absent one is fine."""
        with explained(self.url(path)), contextlib.suppress(FileNotFoundError):
            if self.local:
                import shutil

                shutil.rmtree(self.full(path))
            else:
                self.fs.rm(self.full(path), recursive=True)

    def remove_temporary(self, path: str) -> None:
        """Removes what killed writers left below a folder. Only for a folder that nobody is writing to."""
        if not self.local:
            return
        with explained(self.url(path), writing=True):
            for folder, _, names in os.walk(self.full(path)):
                for name in names:
                    if name.startswith(".") and name.endswith(".tmp"):
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(os.path.join(folder, name))

    def remove_temporary_of(self, names: Sequence[str]) -> None:
        """Removes what killed writers of these files, in the root folder, left beside them; nobody may be writing them."""
        if not self.local:
            return
        with explained(self.root, writing=True):
            for name in os.listdir(self.root):
                if name.endswith(".tmp") and any(name.startswith(f".{written}.") for written in names):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(os.path.join(self.root, name))

    def _write_temporary(self, final: str, data: bytes) -> str:
        temporary = _temporary_name(final)
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                _sync(file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        return temporary

    @contextlib.contextmanager
    def _replacing(self, path: str) -> Iterator[BinaryIO]:
        final = self.full(path)
        temporary = _temporary_name(final)
        try:
            with open(temporary, "wb") as file:
                yield file
                _sync(file)
            os.replace(temporary, final)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_folder(final)

    def _put_if_absent(self, path: str, data: bytes) -> bool:
        for attempt in range(CONFLICTS):
            try:
                self.fs.pipe_file(self.full(path), data, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                # S3 may answer 409 to writers that meet: ask again, then one gets through and the others are told so
                code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", "")
                if code != "ConditionalRequestConflict" or attempt == CONFLICTS - 1:
                    raise
            else:
                return True
        raise AssertionError("unreachable: the last attempt returns or raises")


def _moment(info: dict[str, Any]) -> float:
    """When the file of an fsspec info record was written."""
    found = next((info[key] for key in ("LastModified", "last_modified", "mtime", "updated") if info.get(key)), 0.0)
    return found.timestamp() if hasattr(found, "timestamp") else float(found)


def version_of(info: dict[str, Any]) -> str:
    """The version in an fsspec info record: its ETag, or size and time of the last change."""
    for key in ("ETag", "etag", "md5Hash", "content_md5"):
        if info.get(key):
            return str(info[key]).strip('"')
    moment = next(
        (info[k] for k in ("mtime", "LastModified", "last_modified", "updated", "created") if info.get(k)), ""
    )
    return f"{info.get('size')}-{moment}"


def storage_for(url: str) -> tuple[Storage, str]:
    """Splits a file's URL or local path into the Storage of its folder and its name there."""
    if "://" not in url:
        url = os.path.abspath(os.path.expanduser(url))
    folder, _, name = url.rpartition("/")
    return Storage(folder or "/"), name


def storage_at(place: str) -> Storage:
    """Storage of a folder given as URL or local path, absolute or not."""
    return Storage(place if "://" in place else os.path.abspath(os.path.expanduser(place)))


def _temporary_name(final: str) -> str:
    folder, name = os.path.split(final)
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, f".{name[:100]}.{uuid.uuid4().hex}.tmp")


def _create_exclusive(final: str, data: bytes) -> bool:
    """For file systems without hard links: exclusive, but a reader may see the file before its last byte."""
    try:
        with open(final, "xb") as file:
            file.write(data)
            _sync(file)
    except FileExistsError:
        return False
    _sync_folder(final)
    return True


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(final: str) -> None:
    """A rename is durable only when its folder is; some file systems refuse to sync folders, and need not."""
    with contextlib.suppress(OSError):
        handle = os.open(os.path.dirname(final), os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
