"""Predictions that overlap, blended a block of the result at a time: how much each counts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.analyse.blocks import Block, Blocks
from ngff_xarray.analyse.patch_sequence import Patches
from ngff_xarray.analyse.predictions import Kind
from ngff_xarray.boxes import Box, within

Blend = Literal["linear", "gaussian", "mean", "max", "nearest"]
Finish = Callable[[Block, NDArray[Any], NDArray[np.bool_]], None]
"""What is given a block, its pixels with channels, and which of them no patch covers: the same for
all channels."""

_SIGMA = 1 / 8  # of a patch: as nnU-Net and MONAI have it
_LEAN = 1e-3  # how much more the far half of a patch counts, so that two never count the same


def _tent(n: int) -> NDArray[np.float64]:
    return np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5


_WEIGHTS: Mapping[str, Callable[[int], NDArray[np.float64]]] = {
    "linear": _tent,
    "gaussian": lambda n: np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n * _SIGMA)) ** 2),
    "mean": np.ones,
    "max": np.ones,
    "nearest": lambda n: _tent(n) * (1 + _LEAN * np.arange(n) / n) / n,
}


def weights(blend: Blend, shape: Sequence[int]) -> NDArray[Any]:
    """Return how much each pixel of a patch counts, more than 0.

    Examples
    --------
    >>> weights("linear", (4,)), weights("mean", (1, 2))
    (array([0.5, 1.5, 1.5, 0.5]), array([[1., 1.]]))
    """
    found = np.ones(())
    for n in shape:
        found = np.multiply.outer(found, _WEIGHTS[blend](n))
    return found


@dataclass
class _Block:
    """A part of the result that has some of its patches."""

    values: NDArray[Any]
    weights: NDArray[Any]

    def add(self, box: Box, found: NDArray[Any], counts: NDArray[Any], blend: Blend) -> None:
        """Blend a prediction into a box.

        The mean is kept as it is by then, and not as a sum: predictions that are the same stay what
        they are to the last bit.
        """
        values, weights = self.values[box], self.weights[self._flat(box)]
        if blend == "nearest":
            is_nearer = counts > weights
            np.copyto(values, found, where=is_nearer)
            np.maximum(weights, counts, out=weights)
        elif blend == "max":
            larger = np.fmax(found, values)  # passes over NaN, whichever comes first
            values[...] = np.where(weights == 0, found, larger)
            weights[...] = 1
        else:
            weights += counts
            with np.errstate(invalid="ignore"):  # of infinite values, which stay so
                stays = np.isinf(values) & (np.isfinite(found) | (found == values))
                apart = np.where(stays, 0, found - values)
            values += apart * (counts / weights)

    def _flat(self, box: Box) -> Box:
        """Return a box of the weights, which are the same for all channels."""
        return tuple(
            side if n == m else slice(0, 1)
            for side, n, m in zip(box, self.weights.shape, self.values.shape, strict=True)
        )


class Canvas:
    """What is put together of predictions, a block at a time.

    Parameters
    ----------
    patches, kind, blend
        What predictions are for, what they are like, and how they are blended.
    unit
        Pixels of a block along the axes that patches have a place along.
    done
        The numbers of blocks that are finished already.
    """

    def __init__(
        self,
        patches: Patches,
        kind: Kind,
        blend: Blend,
        unit: Sequence[int],
        done: Collection[int] = (),
    ) -> None:
        source = patches.source
        self._kind, self._blend = kind, blend
        self._dims = source.dims
        shape = tuple(source.pixels.sizes[dim] for dim in self._dims)
        self._blocks = Blocks(shape, tuple(unit), (0,) * len(shape), "clip")
        self._left = _counts(self._blocks, patches)
        self._is_open = np.ones(self._left.shape, bool)
        self._is_open.reshape(-1)[list(done)] = False
        self._empty = self._is_open & (self._left == 0)
        self._open: dict[tuple[int, ...], _Block] = {}
        is_single = kind.dtype.kind == "f" and kind.dtype.itemsize <= 4
        self._dtype = np.dtype(np.float32 if is_single else np.float64)
        if blend in ("max", "nearest"):
            self._dtype = kind.dtype
        patch = [source.sizes.get(dim, 1) for dim in self._dims]
        counts = weights(blend, patch).astype(np.float32 if is_single else np.float64)
        self._counts = counts.reshape(self._with_channel(patch, 1))

    def wants(self, inside: Box) -> bool:
        """Tell whether a block that is not finished has pixels of a patch: what the image has."""
        touched = tuple(
            slice(side.start // size, -(-side.stop // size))
            for side, size in zip(inside, self._blocks.size, strict=True)
        )
        return bool(self._is_open[touched].any())

    def _with_channel(self, sides: Sequence[Any], channel: Any) -> list[Any]:
        """Return what is along the axes of the result, of what is along those of places."""
        own = dict(zip(self._dims, sides, strict=True))
        return [own.get(dim, channel) for dim in self._kind.dims]

    def add(self, box: Box, inside: Box, found: NDArray[Any], finish: Finish) -> None:
        """Blend in a prediction.

        Parameters
        ----------
        box, inside
            Where its patch is, and what of that the image has.
        found
            Its pixels, arranged.
        finish
            Is given each block that has all of its patches by then.
        """
        for block in self._blocks.within(inside):
            if not self._is_open[block.place]:
                continue
            both = tuple(
                slice(max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(block.core, inside, strict=True)
            )
            buffer = self._open.get(block.place)
            if buffer is None:
                buffer = self._open[block.place] = self._begun(block.core)
            whole = slice(None)
            part = tuple(self._with_channel(within(both, box), whole))
            target = tuple(self._with_channel(within(both, block.core), whole))
            buffer.add(target, found[part], self._counts[part], self._blend)
            self._left[block.place] -= 1
            if not self._left[block.place]:
                del self._open[block.place]
                finish(block, buffer.values, buffer.weights == 0)

    def _begun(self, core: Box) -> _Block:
        sides = [side.stop - side.start for side in core]
        count = self._kind.channel[1] if self._kind.channel else 1
        return _Block(
            np.zeros(self._with_channel(sides, count), self._dtype),
            np.zeros(self._with_channel(sides, 1), self._counts.dtype),
        )

    def end(self, finish: Finish) -> None:
        """Finish the blocks that no patch covers."""
        for place in np.argwhere(self._empty):
            block = self._blocks.at(tuple(map(int, place)))
            buffer = self._begun(block.core)
            finish(block, buffer.values, buffer.weights == 0)


def _counts(blocks: Blocks, patches: Patches) -> NDArray[np.int64]:
    """Return how many patches each block has pixels of."""
    source = patches.source
    starts = patches.starts[patches.numbers]
    sizes = np.array([source.sizes.get(dim, 1) for dim in source.dims])
    unit = np.array(blocks.size)
    first = np.maximum(starts, 0) // unit
    last = (np.minimum(starts + sizes, blocks.shape) - 1) // unit + 1
    found = np.zeros([n + 1 for n in blocks.grid], np.int64)
    for corner in itertools.product((False, True), repeat=len(sizes)):
        at = np.where(corner, last, first)
        np.add.at(found, tuple(at.T), (-1) ** sum(corner))
    for axis in range(found.ndim):
        np.cumsum(found, axis, out=found)
    return found[tuple(slice(0, n) for n in blocks.grid)]
