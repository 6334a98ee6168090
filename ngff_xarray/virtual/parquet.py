"""References in a directory of Parquet files, a part of an array each: read as they are needed.

``.zmetadata`` holds all metadata and how many references (``record_size``) a file has;
``ARRAY/refs.N.parq`` has a row for each chunk, in C order: ``path``, ``offset``, ``size``, ``raw``.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import default_buffer_prototype

from ngff_xarray.errors import Issue, MetadataError, MissingDependencyError, StoreError
from ngff_xarray.once import Once
from ngff_xarray.text import printable
from ngff_xarray.virtual.index import WHOLE, Reference, decoded
from ngff_xarray.virtual.kerchunk import MAX_BYTES
from ngff_xarray.virtual.targets import Opener, Reach

MAX_RECORDS = 2**21  # rows of one file
_KEPT = 32  # files at a time
_HINT = "write them again with a smaller record_size"
_COLUMNS = ("path", "offset", "size", "raw")

Columns = dict[str, Any]


class Records:
    """Looks keys up in the files, of which it keeps a few.

    Parameters
    ----------
    directory
        Where the files are, as an absolute path or a URL.
    reach
        What the references may refer to.
    opener
        Makes the store of the directory.
    document
        What ``.zmetadata`` says.
    """

    def __init__(
        self, directory: str, reach: Reach, opener: Opener, document: dict[str, Any]
    ) -> None:
        self._directory = directory
        self._reach = reach
        self._opener = opener
        self._store: Store | None = None
        metadata, size = document.get("metadata"), document.get("record_size")
        if not isinstance(metadata, dict) or not isinstance(size, int) or size < 1:
            raise MetadataError(
                reach.source,
                [Issue(".zmetadata", "expected 'metadata' and a 'record_size' above 0", "error")],
            )
        self._metadata = metadata
        self._record_size = size
        self._files: Once[str, Columns] = Once(_KEPT)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Records) and (self._directory, self._reach, self._metadata) == (
            other._directory,
            other._reach,
            other._metadata,
        )

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_store": None}

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys of metadata that begin with a prefix: those of chunks are too many."""
        yield from (key for key in self._metadata if key.startswith(prefix))

    async def find(self, key: str) -> bytes | Reference | None:
        """Return what stands under a key, or where it is; None if there is nothing."""
        if key in self._metadata:
            return json.dumps(self._metadata[key]).encode()
        place = self._row(key)
        if place is None:
            return None
        columns = await self._files.get(place[0], partial(self._read, place[0]))
        return self._value(key, columns, place[1])

    def _row(self, key: str) -> tuple[str, int] | None:
        """Return the file and the row in it that a chunk's reference stands in."""
        parts = key.split("/")
        for count in range(len(parts) - 1, 0, -1):
            field = "/".join(parts[:count])
            document = self._metadata.get(f"{field}/.zarray")
            if document is not None:
                break
        else:
            return None
        try:
            grid = [
                math.ceil(size / chunk)
                for size, chunk in zip(document["shape"], document["chunks"], strict=True)
            ]
            at = [int(part) for part in "/".join(parts[count:]).replace("/", ".").split(".")]
            number = int(np.ravel_multi_index(at, grid)) if grid else 0
        except (TypeError, ValueError, KeyError, ZeroDivisionError):
            return None
        file, row = divmod(number, self._record_size)
        return f"{field}/refs.{file}.parq", row

    def _value(self, key: str, columns: Columns, row: int) -> bytes | Reference | None:
        path, offset, size, raw = (
            columns[name][row] if row < len(columns.get(name, ())) else None for name in _COLUMNS
        )
        if isinstance(raw, bytes | str):
            return decoded(key, raw)
        if not isinstance(path, str):
            return None
        target = self._reach.find(path)
        start, count = (int(value or 0) for value in (offset, size))
        if start == count == 0:
            return Reference(target, 0, WHOLE)
        if start < 0 or count < 0:
            raise StoreError(f"{self._reach.source}: {key!r} has a negative offset or size")
        return Reference(target, start, count)

    async def _read(self, name: str) -> Columns:
        """Return the columns of a file: none of one that is not there."""
        if self._store is None:
            self._store = self._opener(self._directory)
        part = RangeByteRequest(0, MAX_BYTES + 1)
        found = await self._store.get(name, default_buffer_prototype(), part)
        if found is None:
            return {}
        where = f"{self._reach.source}: {printable(name)}"
        if len(found) > MAX_BYTES:
            raise StoreError(f"{where}: is more than {MAX_BYTES} bytes long: {_HINT}")
        return await asyncio.to_thread(_parsed, found.to_bytes(), where)


def _parsed(content: bytes, where: str) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(content))
        said = file.metadata
        size = sum(said.row_group(i).total_byte_size for i in range(said.num_row_groups))
        if said.num_rows > MAX_RECORDS or size > MAX_BYTES:
            raise StoreError(f"{where}: has {said.num_rows} rows of {size} bytes: {_HINT}")
        wanted = [name for name in _COLUMNS if name in file.schema_arrow.names]
        return {name: file.read([name])[name].to_pylist() for name in wanted}
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{where}: cannot be read: {printable(error, 500)}") from error


def require_pyarrow() -> None:
    """Say how to get what reads Parquet, where it is missing.

    Raises
    ------
    MissingDependencyError
        If it is.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "pyarrow", "parquet", "reading references in Parquet"
        ) from error
