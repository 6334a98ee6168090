"""Reads ahead where the HDF5 library will look: it asks for one place at a time.

In a large file groups, headers and the nodes of chunk trees lie scattered between the pixels.
What is understood here only tells what to read: the library remains the one who knows, and
whatever is not understood it reads by itself.

https://docs.hdfgroup.org/documentation/hdf5/latest/_f_m_t11.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from ngff_xarray.virtual.blocks import BlockFile

if TYPE_CHECKING:
    import h5py

_NEAR = 2**13  # bytes: what HDF5 writes beside each other when a group or dataset is made
_NODE = 2**12
MAX_NODES = 2**16
_MAX_PARTS = 8  # of a header
_HEADER = struct.Struct("<BxHII4x")
_MESSAGE = struct.Struct("<HHB3x")
_TREE = struct.Struct("<4sBBHQQ")
_HEAP = struct.Struct("<4s4xQQQ")
_ADDRESS = struct.Struct("<Q")
_PAIR = struct.Struct("<QQ")
_LAYOUT, _CONTINUATION, _NAMES = 8, 16, 17


def read_ahead(levels: Iterable[h5py.Group], blocks: BlockFile) -> None:
    """Read what the library will need of all datasets below resolution levels.

    Each step is for all of them together: their time points, channels, headers, and the levels
    of the trees of their chunks.
    """
    groups = list(levels)
    for _ in ("time points", "channels"):
        groups = list(_below(groups, blocks))
    headers = [address for group in groups for name, address in _links(group) if name == b"Data"]
    blocks.prefetch(headers, _NEAR)
    nodes = {tree for header in headers for tree in _chunk_trees(blocks, header)}
    seen = set(nodes)
    while nodes and len(seen) < MAX_NODES:
        blocks.prefetch((address for address, _ in nodes), _NODE)
        below = {
            (child, key)
            for address, key in nodes
            for level, child in _children(blocks, address, key)
            if level > 0  # those of the lowest nodes are chunks
        }
        nodes = set(islice(below - seen, MAX_NODES - len(seen)))
        seen |= nodes


def _below(groups: Iterable[h5py.Group], blocks: BlockFile) -> Iterator[h5py.Group]:
    """Yield the groups in groups, after reading what tells the names in them."""
    import h5py

    found = [(group, list(_links(group))) for group in groups]
    headers = [address for _, links in found for _, address in links]
    blocks.prefetch(headers, _NEAR)
    tables = [
        _PAIR.unpack_from(message)
        for header in headers
        for kind, message in _messages(blocks, header)
        if kind == _NAMES and len(message) >= _PAIR.size
    ]
    blocks.prefetch((address for pair in tables for address in pair), _NODE)
    blocks.prefetch(
        (
            address
            for tree, heap in tables
            for address in (
                *(child for _, child in _children(blocks, tree, 8)),
                *_heap(blocks, heap),
            )
        ),
        _NODE,
    )
    for group, links in found:
        for name, _ in links:
            below = group[name]
            if isinstance(below, h5py.Group):
                yield below


def _links(group: h5py.Group) -> Iterator[tuple[bytes, int]]:
    """Yield what a group holds itself: names, and where their headers are."""
    import h5py

    for name in islice(group.id, MAX_NODES):
        link = group.id.links.get_info(name)
        if link.type == h5py.h5l.TYPE_HARD:
            yield name, link.u


def _messages(blocks: BlockFile, header: int) -> Iterator[tuple[int, bytes]]:
    """Yield the kinds and contents of the messages in a header, as far as they are here."""
    start = blocks.peek(header, _HEADER.size)
    if len(start) < _HEADER.size:
        return
    version, _, _, length = _HEADER.unpack(start)
    parts = [(header + _HEADER.size, length)] if version == 1 else []
    for offset, size in parts:  # it grows while it is read
        content = blocks.peek(offset, min(size, _NEAR))
        at = 0
        while at + _MESSAGE.size <= len(content):
            kind, count, _ = _MESSAGE.unpack_from(content, at)
            at += _MESSAGE.size
            message = content[at : at + count]
            at += count
            if kind == _CONTINUATION and count >= _PAIR.size == len(message[: _PAIR.size]):
                if len(parts) < _MAX_PARTS:
                    parts.append(_PAIR.unpack_from(message))
            else:
                yield kind, message


def _chunk_trees(blocks: BlockFile, header: int) -> Iterator[tuple[int, int]]:
    """Yield where the tree of a dataset's chunks is, and how long its keys are."""
    for kind, message in _messages(blocks, header):
        if kind == _LAYOUT and len(message) >= 11 and message[:2] == b"\3\2":
            yield _ADDRESS.unpack_from(message, 3)[0], 8 + 8 * message[2]


def _children(blocks: BlockFile, address: int, key: int) -> Iterator[tuple[int, int]]:
    """Yield the level of a node, and what it refers to, for all of that."""
    content = blocks.peek(address, _NODE)
    if len(content) < _TREE.size:
        return
    sign, _, level, used, _, _ = _TREE.unpack_from(content)
    for i in range(used if sign == b"TREE" else 0):
        at = _TREE.size + key + i * (key + _ADDRESS.size)
        if at + _ADDRESS.size <= len(content):
            yield level, _ADDRESS.unpack_from(content, at)[0]


def _heap(blocks: BlockFile, address: int) -> Iterator[int]:
    """Yield where the names of a group are."""
    content = blocks.peek(address, _HEAP.size)
    if len(content) == _HEAP.size and content.startswith(b"HEAP"):
        yield _HEAP.unpack(content)[3]
