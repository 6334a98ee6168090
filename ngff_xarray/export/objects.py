"""The bytes under the keys of a store, as a web server hands them out."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG

from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore

from ngff_xarray.storage import Guarded
from ngff_xarray.storage.readable import Readable
from ngff_xarray.store import Source, join, run

_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")
_REFUSED = frozenset("/\\\0:" if os.name == "nt" else "/\\\0")
_MOST_SIZES = 2**14


class Objects:
    """What stands below one place in a store, and nothing else.

    Parameters
    ----------
    source
        The place.
    documents
        What stands under some keys below it, instead of what the store has.
    """

    def __init__(self, source: Source, documents: Mapping[str, bytes] | None = None) -> None:
        self._documents = {join(source.path, key): v for key, v in (documents or {}).items()}
        self._store, self._path = _filling(source.store), source.path
        self._root = _root(source)
        self._sizes: dict[str, int] = {}

    def key(self, names: Sequence[str]) -> str | None:
        """Return the key at a path, None if such a path leads nowhere in any store.

        Parameters
        ----------
        names
            The parts of the path, decoded.
        """
        if not names or any(name in ("", ".", "..") or _REFUSED & set(name) for name in names):
            return None
        below = join(self._path, *names)
        if self._root is not None:  # links in a directory may lead out of it
            found = (self._root.joinpath(*names)).resolve()
            if not found.is_relative_to(self._root):
                return None
        return below

    def size(self, key: str) -> int | None:
        """Return how many bytes stand under a key, None if there is no such key."""
        if key in self._documents:
            return len(self._documents[key])
        if isinstance(self._store, LocalStore):
            return _local_size(self._store.root / key)
        known = self._sizes.get(key)
        if known is not None:
            return known
        try:
            found = run(self._store.getsize(key))
        except FileNotFoundError:
            return None
        if isinstance(self._store, Readable):  # perhaps far away, and not changed by us
            if len(self._sizes) >= _MOST_SIZES:
                self._sizes.clear()
            self._sizes[key] = found
        return found

    def read(self, key: str, part: range | None = None) -> bytes | None:
        """Return all bytes under a key, or those of a part; None if there is no such key."""
        if key in self._documents:
            whole = self._documents[key]
            return whole if part is None else whole[part.start : part.stop]
        wanted: ByteRequest | None = (
            None if part is None else RangeByteRequest(part.start, part.stop)
        )
        found = run(self._store.get(key, default_buffer_prototype(), wanted))
        return None if found is None else found.to_bytes()

    def forget(self, key: str) -> None:
        """Ask for the size of a key again."""
        self._sizes.pop(key, None)


def _filling(store: Store) -> Store:
    """Return a store in which chunks that are not there are no error."""
    if isinstance(store, Guarded) and store.access.missing == "raise":
        return Guarded(
            store.store, store.place, replace(store.access, missing="fill"), hint=store.hint
        )
    return store


def _root(source: Source) -> Path | None:
    inner = source.store.store if isinstance(source.store, Guarded) else source.store
    return (inner.root / source.path).resolve() if isinstance(inner, LocalStore) else None


def _local_size(path: Path) -> int | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if S_ISREG(found.st_mode) else None


def byte_range(header: str | None, size: int) -> range | None:
    """Return the bytes that a header ``Range`` asks for: empty if out of reach, None for all.

    One that is malformed or asks for several ranges is ignored (RFC 9110, section 14.2).

    Examples
    --------
    >>> byte_range("bytes=2-5", 10), byte_range("bytes=-4", 10), byte_range("bytes=12-", 10)
    (range(2, 6), range(6, 10), range(12, 10))
    >>> byte_range("bytes=0-1,4-5", 10), byte_range(None, 10)
    (None, None)
    """
    match = _RANGE.fullmatch(header or "")
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        return range(max(0, size - int(suffix)), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(size, int(last) + 1) if last else size)
