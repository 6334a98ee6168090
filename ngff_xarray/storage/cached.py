"""What was read of a store is kept in a folder: ``simplecache::`` and ``filecache::``.

The caches of fsspec take a refusal for a file that is not there, and keep half a file as a whole
one when a connection is lost: both would be read as pixels.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
import weakref
from functools import partial
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype

from ngff_xarray.once import Once
from ngff_xarray.storage.access import Access
from ngff_xarray.storage.guarded import Guarded
from ngff_xarray.storage.readable import cut


class Cached(Guarded):
    """A store for reading that keeps every key as a file, once all of it is there.

    Parameters
    ----------
    store, place, access, hint
        As of `Guarded`.
    folder
        Where to keep them; by default a temporary one, which goes when the store does.
    origin
        What tells the store from others that are kept in the same folder.
    """

    def __init__(
        self,
        store: Store,
        place: str,
        access: Access,
        *,
        hint: str = "",
        folder: str | None,
        origin: str,
    ) -> None:
        super().__init__(store, place, access, hint=hint)
        self._folder, self._name = folder, _hashed(origin)
        self._begin()

    def _begin(self) -> None:
        if self._folder is None:
            self._path = Path(tempfile.mkdtemp(prefix="ngff-"))
            weakref.finalize(self, shutil.rmtree, self._path, ignore_errors=True)
        else:
            self._path = Path(self._folder).expanduser() / self._name
        self._coming: Once[str, Buffer | None] = Once(0)  # they are kept in files

    def __getstate__(self) -> dict[str, Any]:
        made_here = ("_path", "_coming")
        return {k: v for k, v in super().__getstate__().items() if k not in made_here}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._begin()

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return what stands under a key, or None if there is no such key."""
        file = self._path / _hashed(key)
        content = await asyncio.to_thread(_read, file, byte_range)
        if content is not None:
            return prototype.buffer.from_bytes(content)
        found = await self._coming.get(key, partial(self._fetch, key, prototype, file))
        return None if found is None else found[cut(byte_range, len(found))]

    async def _fetch(self, key: str, prototype: BufferPrototype, file: Path) -> Buffer | None:
        found = await super().get(key, prototype)
        if found is not None:
            await asyncio.to_thread(_keep, file, found.to_bytes())
        return found


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _read(file: Path, part: ByteRequest | None) -> bytes | None:
    try:
        with file.open("rb") as stream:
            wanted = cut(part, os.fstat(stream.fileno()).st_size)
            stream.seek(wanted.start)
            return stream.read(wanted.stop - wanted.start)
    except FileNotFoundError:
        return None


def _keep(file: Path, content: bytes) -> None:
    """Write a file as a whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
