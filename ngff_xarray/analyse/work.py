"""What is done of a job so far: kept in a store until all is, so that who was killed goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numcodecs
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec
from zarr.core.buffer import default_buffer_prototype

from ngff_xarray import store
from ngff_xarray.errors import NgffError
from ngff_xarray.storage import ChunkWriter
from ngff_xarray.store import Source

NAME = ".ngff_xarray-apply"
"""Where, below an image."""

_DOCUMENT = "job.json"
_RECORDS = "records"
_PIXELS = "pixels"
_HEAD = 8  # bytes that say how long the head of a record is
_packer = numcodecs.Zstd(level=1)


def names(image: Source) -> list[str]:
    """Return what jobs have left below an image, by their names there."""
    if not image.store.supports_listing:
        return []

    async def found() -> list[str]:
        listed = [name async for name in image.store.list_dir(image.path)]
        return sorted(name for name in listed if name.startswith(f"{NAME}-"))

    return store.run(found())


@dataclass(frozen=True)
class Work:
    """A place for what is done of a job. Workers get it pickled.

    Parameters
    ----------
    place
        Where it is.
    """

    place: Source

    def begin(self, token: str | None) -> dict[str, Any] | None:
        """Return what was said of the job when it was begun, if it is the same; else clear it away.

        Parameters
        ----------
        token
            Which job it is; None for one that cannot be told from others.
        """
        try:
            said = store.run(store.fetch_json(self.place, _DOCUMENT))
        except NgffError:  # half written, perhaps
            said = None
        if said is not None and token is not None and said.get("token") == token:
            return said
        store.remove_key(self.place, _DOCUMENT)
        for name in (_RECORDS, _PIXELS):  # the place itself is locked
            store.remove(self.place.child(name))
        return None

    def note(self, token: str | None, said: Mapping[str, Any]) -> None:
        """Say what job it is, once there is where its pixels go."""
        store.put_json(self.place, _DOCUMENT, {**said, "token": token})

    def end(self) -> None:
        """Delete all of it."""
        store.remove(self.place)

    # ---- one record a block ----------------------------------------------------------------

    def done(self) -> set[int]:
        """Return the numbers of the blocks that have a record."""
        prefix = store.join(self.place.path, _RECORDS) + "/"

        async def names() -> list[str]:
            return [key.removeprefix(prefix) async for key in self.place.store.list_prefix(prefix)]

        return {int(name) for name in store.run(names()) if name.isdecimal()}

    def put(self, number: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write the record of a block: all else of it is there by then."""
        key = store.join(self.place.path, _RECORDS, str(number))
        with store.changing(self.place):
            store.put_bytes(self.place.store, key, _packed(arrays))

    def record(self, number: int) -> Record | None:
        """Return the record of a block; None if it has none."""
        key = store.join(self.place.path, _RECORDS, str(number))
        content = store.run(self.place.store.get(key, default_buffer_prototype()))
        return None if content is None else Record(content.to_bytes())

    # ---- pixels ----------------------------------------------------------------------------

    def create(self, shape: tuple[int, ...], dtype: np.dtype[Any], unit: tuple[int, ...]) -> None:
        """Make the array that the blocks are written to, in chunks of some size."""
        with store.changing(self.place):
            zarr.create_array(
                self.place.store,
                name=store.join(self.place.path, _PIXELS),
                shape=shape,
                dtype=dtype,
                chunks=unit,
                fill_value=0,
                zarr_format=3,
                compressors=[BloscCodec(cname="lz4", clevel=1)],
                overwrite=True,
            )

    def array(self) -> zarr.Array[Any]:
        """Return that array."""
        path = store.join(self.place.path, _PIXELS)
        return zarr.open_array(self.place.store, path=path, zarr_format=3, mode="r+")

    def writer(self) -> ChunkWriter:
        """Return what writes whole chunks of it, from several threads."""
        return ChunkWriter(self.array())


class Record(Mapping[str, "NDArray[Any]"]):
    """Arrays by name; each is unpacked when it is asked for.

    Examples
    --------
    >>> record = Record(_packed({"a": np.arange(3), "b": np.zeros((0, 2))}))
    >>> list(record), record["a"], record["b"].shape
    (['a', 'b'], array([0, 1, 2]), (0, 2))
    """

    def __init__(self, content: bytes) -> None:
        start = _HEAD + int.from_bytes(content[:_HEAD], "little")
        self._said: dict[str, Any] = json.loads(content[_HEAD:start])
        self._content = memoryview(content)[start:]

    def __getitem__(self, name: str) -> NDArray[Any]:
        dtype, shape, start, stop = self._said[name]
        plain = _packer.decode(self._content[start:stop]) if stop > start else b""
        return np.ndarray(shape, np.dtype(dtype), plain)

    def __iter__(self) -> Iterator[str]:
        return iter(self._said)

    def __len__(self) -> int:
        return len(self._said)


def _packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    said, parts, end = {}, [], 0
    for name, array in arrays.items():
        parts.append(bytes(_packer.encode(array.tobytes())) if array.size else b"")
        said[name] = [array.dtype.str, array.shape, end, end + len(parts[-1])]
        end += len(parts[-1])
    head = json.dumps(said).encode()
    return b"".join([len(head).to_bytes(_HEAD, "little"), head, *parts])


def token(*what: Any) -> str | None:
    """Return what is the same for the same objects, in another process too; None if nothing is."""
    from dask.base import tokenize
    from dask.tokenize import TokenizationError

    try:
        return str(tokenize(*what, ensure_deterministic=True))
    except (TokenizationError, TypeError, ValueError):
        return None
