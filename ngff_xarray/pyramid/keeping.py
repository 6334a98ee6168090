"""Levels of labels that keep small ids: the mode, but for a pixel of each id that had none.

A level is the mode of the level before. An id that would have no pixel of it gets one of a block
that it lies in, the one that it fills most first. No pixel is taken of an id that has no other;
such an id moves to another block that it lies in, if there is one. So an id is missing only where
each of the blocks that it lies in is the only pixel of another one, and a pixel has no id that was
not in its block. The background, 0, may vanish.

Which ids vanish is known once all of a level is made: the changes are few, and come afterwards.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.boxes import Box
from ngff_xarray.pyramid.plan import PlannedLevel
from ngff_xarray.pyramid.reductions import mixed_blocks, reduction

Array = NDArray[Any]
_FEW = 8  # pixels: an id that has more has no need to move
_MOST = 64  # blocks that are known of an id, those that it fills most
_DEEP = 50  # ids that move for one


@dataclass(frozen=True)
class Changes:
    """Pixels of a level that are not the mode.

    Parameters
    ----------
    shape
        Of the level.
    places
        Where they are, in the order of pixels in memory, rising.
    ids
        What they are.
    """

    shape: tuple[int, ...]
    places: NDArray[np.int64]
    ids: Array

    def apply(self, pixels: Array, box: Box) -> None:
        """Make the changes in a box of the level."""
        if not self.places.size or not pixels.size:
            return
        rows = math.prod(self.shape[1:])
        first, last = np.searchsorted(self.places, [box[0].start * rows, box[0].stop * rows])
        at = np.unravel_index(self.places[first:last], self.shape)
        inside = np.ones(last - first, np.bool_)
        for place, side in zip(at, box, strict=True):
            inside &= (place >= side.start) & (place < side.stop)
        own = tuple(place[inside] - side.start for place, side in zip(at, box, strict=True))
        pixels[own] = self.ids[first:last][inside]

    def boxes(self, unit: Sequence[int]) -> Iterator[Box]:
        """Yield the boxes of a size in which there are any."""
        at = np.unravel_index(self.places, self.shape)
        touched = np.stack([place // n for place, n in zip(at, unit, strict=True)], axis=1)
        for corner in np.unique(touched, axis=0).tolist():
            yield tuple(
                slice(i * n, min((i + 1) * n, size))
                for i, n, size in zip(corner, unit, self.shape, strict=True)
            )


@dataclass
class _Frame:
    """What is known of an image of its own, like that of a time point."""

    ids: list[Array] = field(default_factory=list)
    counts: list[Array] = field(default_factory=list)
    rare: list[_Candidates] = field(default_factory=list)


@dataclass(frozen=True)
class _Candidates:
    """Blocks that ids of few pixels lie in: the id, the place, its pixels there, and the mode."""

    ids: Array
    places: NDArray[np.int64]
    counts: NDArray[np.int64]
    modes: Array

    @classmethod
    def all_of(cls, parts: Sequence[_Candidates]) -> _Candidates:
        return cls(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.places for part in parts]),
            np.concatenate([part.counts for part in parts]),
            np.concatenate([part.modes for part in parts]),
        )

    def best(self, known: Array) -> _Candidates:
        """Return the most filled blocks of each id, sorted, without ids that are known."""
        order = np.lexsort((self.places, -self.counts, self.ids))
        order = order[~np.isin(self.ids[order], known)]
        ids = self.ids[order]
        starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]])[: ids.size])
        rank = np.arange(ids.size) - np.repeat(starts, np.diff([*starts, ids.size]))
        order = order[rank < _MOST]
        return _Candidates(
            self.ids[order], self.places[order], self.counts[order], self.modes[order]
        )


class KeptLevel:
    """Makes a level, and finds out what is to be changed of it.

    Parameters
    ----------
    level
        What to make.
    dtype
        That of the labels.
    frames
        The axes along which each pixel is an image of its own, like that of time.
    """

    def __init__(self, level: PlannedLevel, dtype: np.dtype[Any], frames: Sequence[int]) -> None:
        self._level, self._dtype, self._frames = level, dtype, frames
        self._mode = reduction("mode", dtype)
        self._found: defaultdict[tuple[int, ...], _Frame] = defaultdict(_Frame)
        self._lock = threading.Lock()

    def made(self, pixels: Array, box: Box) -> Array:
        """Return a part of the level; it is called once for each, in any order.

        Parameters
        ----------
        pixels
            Of the level before.
        box
            The part.
        """
        state = self._mode.reduce(self._mode.begin(pixels), self._level.step, 1)
        modes = state.values
        for frame in itertools.product(*(range(modes.shape[axis]) for axis in self._frames)):
            cut = [slice(None)] * modes.ndim
            for axis, number in zip(self._frames, frame, strict=True):
                cut[axis] = slice(number, number + 1)
            first = [b.start + (c.start or 0) for b, c in zip(box, cut, strict=True)]
            self._note(pixels[tuple(cut)], modes[tuple(cut)], first)
        return modes

    def _note(self, pixels: Array, modes: Array, first: Sequence[int]) -> None:
        ids, counts = np.unique(modes, return_counts=True)
        often = ids[counts > _FEW]
        rare = [
            found
            for places, stack in mixed_blocks(pixels, self._level.step)
            if (found := self._rare(places, stack, modes, often, first)) is not None
        ]
        with self._lock:
            frame = self._found[tuple(first[axis] for axis in self._frames)]
            frame.ids.append(ids)
            frame.counts.append(counts)
            frame.rare.extend(rare)

    def _rare(
        self,
        places: Sequence[NDArray[np.intp]],
        stack: Array,
        modes: Array,
        often: Array,
        first: Sequence[int],
    ) -> _Candidates | None:
        """Return in which blocks there are ids that have few pixels here."""
        of_blocks = modes[tuple(places)]
        row, block = np.nonzero((stack != 0) & ~np.isin(stack, often))
        if not row.size:
            return None
        ids = stack[row, block]
        order = np.lexsort((ids, block))
        ids, block = ids[order], block[order]
        is_first = np.concatenate([[True], (ids[1:] != ids[:-1]) | (block[1:] != block[:-1])])
        starts = np.flatnonzero(is_first)
        counts = np.diff([*starts, ids.size])
        at = block[starts]
        flat = np.ravel_multi_index(
            tuple(place[at] + a for place, a in zip(places, first, strict=True)), self._level.shape
        )
        return _Candidates(ids[starts], flat, counts, of_blocks[at]).best(often)

    def changes(self) -> Changes:
        """Return what is to be changed, once all parts are made."""
        found = [_changed(frame) for frame in self._found.values() if frame.rare]
        merged = sorted(item for each in found for item in each.items())
        places = np.array([place for place, _ in merged], "i8")
        return Changes(
            self._level.shape, places, np.array([each for _, each in merged], self._dtype)
        )


def _changed(frame: _Frame) -> dict[int, int]:
    """Return what is to be changed of an image, by place."""
    ids, back = np.unique(np.concatenate(frame.ids), return_inverse=True)
    counts = np.bincount(back, np.concatenate(frame.counts)).astype("i8")
    rare = _Candidates.all_of(frame.rare).best(ids[counts > _FEW])
    blocks: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for each, place, mode in zip(
        rare.ids.tolist(), rare.places.tolist(), rare.modes.tolist(), strict=True
    ):
        blocks[each].append((place, mode))
    named = np.union1d(rare.ids, rare.modes)
    at = np.minimum(np.searchsorted(ids, named), ids.size - 1)
    pixels = np.where(ids[at] == named, counts[at], 0)
    giving = _Giving(blocks, dict(zip(named.tolist(), pixels.tolist(), strict=True)))
    missing = [each for each in blocks if giving.pixels[each] == 0]
    for each in sorted(missing, key=lambda each: (len(blocks[each]), each)):
        giving.give(each, set(), _DEEP)
    return giving.changed()


@dataclass
class _Giving:
    """Gives blocks to ids: augmenting paths in the graph of ids and the blocks that they lie in.

    Parameters
    ----------
    blocks
        Of an id, those it lies in: their places and modes, the best first.
    pixels
        How many pixels an id has.
    """

    blocks: dict[int, list[tuple[int, int]]]
    pixels: dict[int, int]
    given: dict[int, int] = field(default_factory=dict)

    def give(self, each: int, seen: set[int], deep: int) -> bool:
        """Give a block to an id; False if there is none to give."""
        own = self.blocks.get(each, [])
        for place, mode in own:
            holder = self.given.get(place, mode)
            if holder == 0 or (holder != each and self.pixels[holder] > 1):
                self._take(each, place, holder)
                return True
        for place, mode in own if deep else ():
            holder = self.given.get(place, mode)
            if place in seen or holder == each:
                continue
            seen.add(place)
            if self.give(holder, seen, deep - 1):
                self._take(each, place, holder)
                return True
        return False

    def _take(self, each: int, place: int, holder: int) -> None:
        self.given[place] = each
        self.pixels[each] += 1
        if holder != 0:
            self.pixels[holder] -= 1

    def changed(self) -> dict[int, int]:
        modes = {place: mode for own in self.blocks.values() for place, mode in own}
        return {place: each for place, each in self.given.items() if each != modes[place]}
