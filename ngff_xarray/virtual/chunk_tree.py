"""Where the chunks of a dataset are, as HDF5 keeps it: a tree, of which few nodes lead to a chunk.

The library tells where one chunk is after it has read the whole tree, whose nodes lie scattered
between the pixels: of the trees of Imaris files this reads the nodes that are needed, and of
other structures the library is asked.

https://docs.hdfgroup.org/documentation/hdf5/latest/_f_m_t11.html: version 1 B-trees (III.A.1),
object headers (IV.A.1), the data layout message (IV.A.2.i).
"""

from __future__ import annotations

import asyncio
import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.errors import StoreError, UnsupportedError
from ngff_xarray.once import Once
from ngff_xarray.virtual.blocks import BlockFile
from ngff_xarray.virtual.hdf5 import Listed, Stored

_HEAD = struct.Struct("<5xBH16x")  # what stands before the entries of a node: level and number
MAX_KEPT = 2**12  # nodes of a dataset, which list the chunks that are being read
_FRAME = 64  # bytes that a compressed chunk may be longer than its pixels: zlib's frame and more
_MAX_PARTS = 16  # of a header
_MAX_PART = 2**16  # bytes
_LAYOUT, _CONTINUATION = 8, 16
_NOWHERE = 2**64 - 1  # the address of what was not written


@dataclass(frozen=True, slots=True)
class Node:
    """A part of a list of chunks.

    Parameters
    ----------
    level
        0 where its entries are chunks, otherwise nodes of the next lower level.
    number
        Which chunk of the grid each is, or is the first in each node: in C order, ascending.
    offset, size
        Which bytes of the file it is.
    plain
        Whether a chunk lacks the compression of the others, as writers that pack chunks
        themselves may leave it.
    """

    level: int
    number: NDArray[np.int64]
    offset: NDArray[np.uint64]
    size: NDArray[np.uint64]
    plain: NDArray[np.bool_]


class ChunkList:
    """Where the chunks of a dataset are.

    Parameters
    ----------
    file, name
        The file, and the dataset in it.
    how
        How it is stored.
    top
        Where the root of its tree is, or what the library listed.
    """

    def __init__(self, file: BlockFile, name: str, how: Stored, top: int | Listed) -> None:
        self._file = file
        self._name = name
        self._how = how
        self._top = self._made(0, top) if isinstance(top, Listed) else top
        self._nodes: Once[int, Node] = Once(MAX_KEPT)

    async def find(self, number: int) -> tuple[int, int, bool] | None:
        """Return the offset and size of a chunk, and whether it is plain; None if there is none.

        Raises
        ------
        StoreError
            If the file is broken.
        UnsupportedError
            If the chunk is stored otherwise than the others.
        """
        node = await self._first()
        while True:
            row = int(np.searchsorted(node.number, number, side="right")) - 1
            if row < 0:
                return None
            if node.level == 0:
                break
            node = await self._below(node, int(node.offset[row]))
        if node.number[row] != number:
            return None
        return int(node.offset[row]), int(node.size[row]), bool(node.plain[row])

    async def all(self) -> Node:
        """Return where every chunk is that was written. Errors are those of `find`."""
        nodes = [await self._first()]
        while True:
            found = Node(
                nodes[0].level,
                *(
                    np.concatenate([getattr(node, name) for node in nodes])
                    for name in ("number", "offset", "size", "plain")
                ),
            )
            self._check_order(found.number)
            if found.level == 0:
                return found
            nodes = await asyncio.gather(*(self._below(found, at) for at in found.offset.tolist()))

    async def _first(self) -> Node:
        return self._top if isinstance(self._top, Node) else await self._node(self._top)

    async def _below(self, node: Node, address: int) -> Node:
        found = await self._node(address)
        if found.level != node.level - 1:
            self._fail(f"has a node of its chunks at byte {address} that is out of place")
        return found

    async def _node(self, address: int) -> Node:
        return await self._nodes.get(address, partial(self._read, address))

    async def _read(self, address: int) -> Node:
        axes = len(self._how.shape)
        # the key, which has one axis more, and what it leads to
        entry = np.dtype(
            [("size", "<u4"), ("mask", "<u4"), ("start", "<u8", (axes + 1,)), ("offset", "<u8")]
        )
        head = await self._file.read(address, _HEAD.size)
        if len(head) < _HEAD.size or not head.startswith(b"TREE\1"):
            self._fail(f"has no node of its chunks at byte {address}")
        level, count = _HEAD.unpack(head)
        content = await self._file.read(address + _HEAD.size, count * entry.itemsize)
        if len(content) < count * entry.itemsize:
            self._fail(f"has a node of its chunks at byte {address} that is cut off")
        rows = np.frombuffer(content, entry)
        listed = Listed(rows["start"][:, :axes], rows["mask"], rows["offset"], rows["size"])
        return self._made(level, listed)

    def _made(self, level: int, listed: Listed) -> Node:
        """Return a node, after a look at whether it can be true."""
        how = self._how
        at, rest = np.divmod(listed.start.astype(np.int64), how.chunks)
        if rest.any() or (at < 0).any() or (at >= how.grid).any():
            self._fail("lists a chunk that is not in its grid")
        number = np.ravel_multi_index(tuple(at.T), how.grid)
        self._check_order(number)
        offset, size = listed.offset.astype(np.uint64), listed.size.astype(np.uint64)
        deflate = 0b10 if how.shuffled else 0b1
        plain = (listed.mask == deflate) & (how.level is not None)
        if level == 0:
            most = math.prod(how.chunks) * how.dtype.itemsize
            end = np.uint64(self._file.size)
            if (size > most + most // 8 + _FRAME).any():
                self._fail(f"has a chunk of {int(np.max(size))} bytes for {most} of pixels")
            if ((offset > end) | (size > end - np.minimum(offset, end))).any():
                self._fail(f"has a chunk that ends beyond the {end} bytes of the file")
            if (listed.mask[~plain] != 0).any():
                mask = int(listed.mask[~plain].max())
                raise UnsupportedError(
                    f"{self._file.name}: {self._name} has chunks with filters left out "
                    f"(mask {mask:#x}): save the file again"
                )
        return Node(level, number.astype(np.int64), offset, size, plain)

    def _check_order(self, number: NDArray[np.int64]) -> None:
        if (np.diff(number) <= 0).any():
            self._fail("lists chunks twice, or in no order")

    def _fail(self, what: str) -> NoReturn:
        raise StoreError(f"{self._file.name}: {self._name} {what}: is the file whole?")


def root(stream: io.RawIOBase, header: int) -> int | None:
    """Return where the root of the tree of a dataset is, None where it has none that is known.

    Parameters
    ----------
    stream
        The file.
    header
        Where the dataset's header is.
    """
    for kind, message in _messages(stream, header):
        if kind == _LAYOUT:
            # version 3, chunked; later ones have trees of other forms
            chunked = len(message) >= 11 and message.startswith(b"\3\2")
            place = int.from_bytes(message[3:11], "little")
            return place if chunked and place != _NOWHERE else None
    return None


def _messages(stream: io.RawIOBase, header: int) -> Iterator[tuple[int, bytes]]:
    """Yield the kinds and contents of the messages of a header."""
    start = _read(stream, header, 64)
    if start.startswith(b"OHDR\2") and len(start) == 64:
        flags = start[5]
        at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)  # times, attributes
        width = 1 << (flags & 3)
        parts = [(header + at + width, int.from_bytes(start[at : at + width], "little"))]
        form = struct.Struct("<BHB2x" if flags & 4 else "<BHB")
        before, after = 4, 4  # of a continuation: its signature and checksum
    elif start.startswith(b"\1") and len(start) >= 16:
        parts = [(header + 16, int.from_bytes(start[8:12], "little"))]
        form = struct.Struct("<HHB3x")
        before = after = 0
    else:
        return
    for offset, size in parts:  # it grows while it is read
        content = _read(stream, offset, min(size, _MAX_PART))
        at = 0
        while at + form.size <= len(content):
            kind, count, _ = form.unpack_from(content, at)
            at += form.size
            message = content[at : at + count]
            at += count
            if kind != _CONTINUATION:
                yield kind, message
            elif len(message) >= 16 and len(parts) < _MAX_PARTS:
                place, length = struct.unpack_from("<QQ", message)
                parts.append((place + before, max(0, length - before - after)))


def _read(stream: io.RawIOBase, start: int, count: int) -> bytes:
    stream.seek(start)
    return stream.read(count) or b""
