"""Labels of blocks -> labels of the whole: which objects are one, and what they are called.

Every block numbers its objects from 1. Where two blocks see the same pixels, in the halos of each
other, it shows which of their objects are the same. What is kept of that grows with the borders
between blocks, not with the image: pairs of objects, and of these only who is not the first of his
kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

_FEW = 100  # numbers without objects, that are no reason to number all others anew


def numbered(
    labels: NDArray[Any], core: tuple[slice, ...]
) -> tuple[NDArray[np.uint32], int, NDArray[np.uint32]]:
    """Return labels that are small numbers, the largest, and which up to that are no objects.

    Parameters
    ----------
    labels
        What a function returned for a block with its halo; 0 and less is no object.
    core
        The block without its halo. An object that only the halo has belongs to a neighbour, and is
        none here.

    Returns
    -------
    ndarray, int, ndarray
        uint32, of the same shape; and sorted numbers: few, or else objects are numbered anew.

    Examples
    --------
    >>> numbered(np.array([2, 2, 0, 1, 1, 3]), (slice(1, 5),))
    (array([2, 2, 0, 1, 1, 3], dtype=uint32), 3, array([3], dtype=uint32))
    >>> numbered(np.array([7, 7, 0, 10**9, 10**9, 3]), (slice(1, 5),))
    (array([1, 1, 0, 2, 2, 0], dtype=uint32), 2, array([], dtype=uint32))
    """
    none = np.empty(0, np.uint32)
    if not labels.size:
        return np.zeros(labels.shape, np.uint32), 0, none
    if labels.dtype.kind == "i" and labels.min() < 0:
        labels = np.maximum(labels, 0)
    labels = labels.view(f"{labels.dtype.byteorder}u{labels.dtype.itemsize}")
    high = int(labels.max())
    if high <= 4 * labels.size:  # a table is faster than a search
        is_there = np.zeros(high + 1, bool)
        for part in labels[core]:  # a part at a time: indices are wide
            is_there[part] = True
        is_there[0] = True
        missing = np.flatnonzero(~is_there).astype(np.uint32)
        if missing.size <= _FEW + high // 8:
            return labels.astype(np.uint32, copy=False), high, missing
        is_there[0] = False
        table = np.where(is_there, np.cumsum(is_there), 0).astype(np.uint32)
        return looked_up(table, labels), int(is_there.sum()), none
    ids = np.unique(labels[core])
    ids = ids[ids > 0]
    if not ids.size:
        return np.zeros(labels.shape, np.uint32), 0, none
    place = np.minimum(np.searchsorted(ids, labels), ids.size - 1)
    found = np.where(ids[place] == labels, place + 1, 0)
    return found.astype(np.uint32), ids.size, none


def looked_up(
    table: NDArray[Any], labels: NDArray[np.integer], out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return what a table has for each label, a part at a time: indices are wide.

    What is given for ``out`` takes it, and may be the labels themselves.
    """
    found = np.empty(labels.shape, table.dtype) if out is None else out
    for place, part in enumerate(labels):
        found[place] = table[part]
    return found


def same(
    one: NDArray[np.integer], other: NDArray[np.integer], threshold: float
) -> NDArray[np.int64]:
    """Return which objects of two blocks are one, by the pixels that both have seen.

    Where both blocks see the same pieces, each of one object, as connected components are, one
    pixel is enough: pieces that meet elsewhere belong together. Objects whose pieces differ, such
    as cells that touch, need to share more.

    Parameters
    ----------
    one, other
        The labels that each gave to the same pixels; 0 is no object.
    threshold
        How much of the smaller of two objects, of what of it lies here, must be the other one's,
        0 to 1.

    Returns
    -------
    ndarray
        int64 (n, 2): pairs.

    Examples
    --------
    >>> same(np.array([1, 1, 0, 2, 2]), np.array([0, 4, 4, 5, 5]), 0.5)
    array([[1, 4],
           [2, 5]])
    >>> same(np.array([1, 1, 0, 2, 2]), np.array([0, 4, 4, 5, 5]), 0.6)
    array([[2, 5]])
    """
    from scipy import ndimage

    pieces, _ = ndimage.label((one > 0) | (other > 0))
    a, b, piece, sizes = _counted(one, other, pieces)
    is_both = (a > 0) & (b > 0)
    pairs, inverse = np.unique(
        np.stack([a[is_both], b[is_both]], axis=1), axis=0, return_inverse=True
    )
    if not len(pairs):
        return pairs
    is_mixed = np.bincount(piece)[piece] > 1  # pieces that are not of one object for both
    unsure_a = np.bincount(a, is_mixed) > 0
    unsure_b = np.bincount(b, is_mixed) > 0
    shared = np.bincount(inverse.ravel(), sizes[is_both])
    smaller = np.minimum(np.bincount(a, sizes)[pairs[:, 0]], np.bincount(b, sizes)[pairs[:, 1]])
    is_sure = ~unsure_a[pairs[:, 0]] & ~unsure_b[pairs[:, 1]]
    return pairs[is_sure | (shared >= threshold * smaller)]


def _counted(
    one: NDArray[np.integer], other: NDArray[np.integer], pieces: NDArray[np.integer]
) -> tuple[Ids, Ids, Ids, Ids]:
    """Return which combinations of two objects and a piece there are, and of how many pixels."""
    inside = pieces > 0
    a, b, piece = one[inside], other[inside], pieces[inside]
    is_new = (a[1:] != a[:-1]) | (b[1:] != b[:-1]) | (piece[1:] != piece[:-1])
    starts = np.flatnonzero(np.concatenate(([a.size > 0], is_new)))
    runs = np.stack([a[starts], b[starts], piece[starts]], axis=1).astype(np.int64)
    found, inverse = np.unique(runs, axis=0, return_inverse=True)
    sizes = np.bincount(inverse.ravel(), np.diff(starts, append=a.size), len(found))
    return found[:, 0], found[:, 1], found[:, 2], sizes.astype(np.int64)


@dataclass(frozen=True, slots=True)
class Numbering:
    """What the objects of all blocks are called in the whole: 1, 2, 3 and so on, with no gap.

    Parameters
    ----------
    offsets
        int64 (blocks + 1): how many objects all blocks before one have.
    later
        int64, sorted: objects that are the same as one before, and numbers that are no objects.
    first
        int64: which that is, for each of them; 0 for none.
    """

    offsets: Ids
    later: Ids
    first: Ids

    @classmethod
    def of(cls, counts: Sequence[int] | Ids, pairs: Ids, missing: Ids) -> Numbering:
        """Return the numbers of objects.

        Parameters
        ----------
        counts
            The largest number that each block has given.
        pairs
            int64 (n, 4): an object, as its block and its number there, and one that is the same.
        missing
            int64 (n, 2): blocks, and numbers there that are no objects.

        Examples
        --------
        Three blocks; the second object of the first goes on in the other two, and there is no
        third one.

        >>> pairs, missing = np.array([[0, 2, 1, 1], [1, 1, 2, 1]]), np.array([[0, 3]])
        >>> numbering = Numbering.of([3, 2, 1], pairs, missing)
        >>> [numbering.numbers(block).tolist() for block in range(3)], numbering.count
        ([[0, 1, 2, 0], [0, 2, 3], [0, 2]], 3)
        """
        offsets = np.concatenate(([0], np.cumsum(np.asarray(counts, np.int64))))
        one = offsets[pairs[:, 0]] + pairs[:, 1]
        other = offsets[pairs[:, 2]] + pairs[:, 3]
        ids, first = _connected(one, other)
        is_later = ids != first
        none = offsets[missing[:, 0]] + missing[:, 1]
        later = np.concatenate([ids[is_later], none])
        order = np.argsort(later)
        firsts = np.concatenate([first[is_later], np.zeros(none.size, np.int64)])
        return cls(offsets, later[order], firsts[order])

    @property
    def count(self) -> int:
        """How many objects there are."""
        return int(self.offsets[-1]) - self.later.size

    def numbers(self, block: int) -> Ids:
        """Return what the objects of a block are called, by their number there; int64, from 0."""
        start, stop = int(self.offsets[block]), int(self.offsets[block + 1])
        ids = np.arange(start + 1, stop + 1)
        a, b = np.searchsorted(self.later, [start + 1, stop + 1])
        ids[self.later[a:b] - start - 1] = self.first[a:b]
        return np.concatenate(([0], ids - np.searchsorted(self.later, ids)))


def _connected(one: Ids, other: Ids) -> tuple[Ids, Ids]:
    """Return all objects of pairs, sorted, and for each the first of those it is connected with.

    Everybody points to the smallest he knows of, and then to whom that one points, until nothing
    changes: a few rounds, however long the chains are.
    """
    ids, inverse = np.unique(np.concatenate([one, other]), return_inverse=True)
    a, b = inverse[: one.size], inverse[one.size :]
    root = np.arange(ids.size)
    while True:
        low = np.minimum(root[a], root[b])
        high = np.maximum(root[a], root[b])
        is_open = low != high
        if not is_open.any():
            return ids, ids[root]
        a, b = a[is_open], b[is_open]
        np.minimum.at(root, high[is_open], low[is_open])
        while not np.array_equal(above := root[root], root):
            root = above
