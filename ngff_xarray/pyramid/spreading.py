"""A pyramid that the workers of a cluster write, and a branch of it that one of them does.

A task makes a branch: some whole chunks, or shards, of a level and all below them. Others put
together what branches return. Each chunk, or shard, is written by one task, the same each time, so
that one which is done again after its worker was killed changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import cluster
from ngff_xarray.boxes import Box, count, cut, within
from ngff_xarray.contrast import Contrast
from ngff_xarray.progress import Bar
from ngff_xarray.pyramid.building import Journal, Made, Maker, Target, Tree, walk
from ngff_xarray.pyramid.plan import PlannedLevel
from ngff_xarray.pyramid.reductions import reduction
from ngff_xarray.pyramid.sources import Read, reader

if TYPE_CHECKING:
    from dask._task_spec import TaskRef

_BYTES = 2**26  # of the finest level that a branch has, at the most: dask needs twice that more


class SharedTarget(Target, Protocol):
    """A target that may go to other processes; it is pickled then."""

    objects: tuple[int, ...]
    """What must be written by one process: whole shards, or else whole chunks."""

    is_shared: bool
    """Whether others see the same place."""


@dataclass(frozen=True)
class _Recipe:
    """What all workers know of a pyramid."""

    levels: tuple[PlannedLevel, ...]
    method: str
    dtype: np.dtype[Any]
    targets: tuple[SharedTarget, ...]
    contrast: Contrast | None
    source: xr.Variable | None
    journal: Journal | None


def spread(
    source: xr.Variable,
    levels: Sequence[PlannedLevel],
    method: str,
    targets: Sequence[SharedTarget],
    *,
    contrast: Contrast | None,
    bar: Bar,
    journal: Journal | None = None,
) -> bool:
    """Let the workers of the cluster that dask works with write all levels of a pyramid.

    Parameters
    ----------
    source
        The finest level.
    levels, targets
        The levels, the finest first, and where they are written.
    method
        How pixels of the next level are made.
    contrast
        Takes note of all pixels of the finest level.
    bar
        Counts their bytes.
    journal
        Knows what was made before, and takes note of what is; not of what dask computes.

    Returns
    -------
    bool
        Whether they did: not if there is no cluster, or pixels or targets are in the memory of this
        process.

    Raises
    ------
    StoreError
        If the workers died, or it cannot be written.
    """
    client = None if _stays(source, targets) else cluster.active()
    if client is None:
        return False
    is_dask = source.chunks is not None
    empty = None if contrast is None else contrast.empty()
    recipe = _Recipe(
        tuple(levels),
        method,
        source.dtype,
        tuple(targets),
        empty,
        None if is_dask else bare(source),
        None if is_dask else journal,
    )
    try:
        work = cluster.Work(client, cluster.packed(recipe))
    except cluster.Staying:
        return False
    threads = sum(client.nthreads().values())
    tree = Tree.of(levels, [target.objects for target in targets])
    number = _number(tree, source.dtype.itemsize, 4 * threads)
    crew = _Workers(tree, number, work, source.data if is_dask else None)
    walk(tree, number, crew, recipe.journal)
    found = work.run(crew.last, bar, source.nbytes)
    if contrast is not None and found is not None:
        contrast.merge(found)
    return True


def _stays(source: xr.Variable, targets: Sequence[SharedTarget]) -> bool:
    """Tell whether there is nothing that workers could do."""
    return source._in_memory or not source.size or not all(each.is_shared for each in targets)


def bare(source: xr.Variable) -> xr.Variable:
    """Return a variable that says no more than how to read it."""
    sizes = {key: source.encoding.get(key) for key in ("shards", "chunks")}
    return xr.Variable(source.dims, source._data, encoding=sizes, fastpath=True)


def _number(tree: Tree, itemsize: int, enough: int) -> int:
    """Return the level that branches reach up to: none is too large, and they are enough."""
    for number in range(tree.top, 0, -1):
        is_small = tree.largest(number) * itemsize <= _BYTES
        if is_small and tree.count(number) >= enough:
            return number
    return 0


class _Workers:
    """The workers of a cluster, for whom work is put together."""

    last: TaskRef

    def __init__(self, tree: Tree, number: int, work: cluster.Work, data: Any) -> None:
        self._work = work
        self._pixels: dict[tuple[int, ...], TaskRef] = {}
        if data is not None:
            boxes = list(tree.boxes(number))
            below = [tree.finest(number, box) for box in boxes]
            refs = work.pixels(data, below)
            self._pixels = {_corner(box): ref for box, ref in zip(boxes, refs, strict=True)}

    def branch(self, number: int, box: Box) -> TaskRef:
        return self._work.add(_branch, number, box, self._pixels.get(_corner(box)))

    def joined(self, number: int, box: Box, parts: Sequence[tuple[Box, TaskRef]]) -> TaskRef:
        boxes = tuple(part for part, _ in parts)
        return self._work.add(_joined, number, box, boxes, [ref for _, ref in parts])

    def finish(self, made: Sequence[TaskRef]) -> None:
        self.last = self._work.add(_noted, list(made))


def _corner(box: Box) -> tuple[int, ...]:
    return tuple(side.start for side in box)


# ---- in a worker -------------------------------------------------------------------------------


def _branch(recipe: _Recipe, number: int, box: Box, pixels: NDArray[Any] | None) -> Made:
    """Write a part of a level, and all below it; or recall what was made before."""
    maker = _maker(recipe)
    finest = maker.tree.finest(number, box)
    made = None if recipe.journal is None else recipe.journal.recall(number, box)
    if made is None:
        made = _written(replace(maker, read=_read(recipe, finest, pixels)), number, box)
        if recipe.journal is not None:
            recipe.journal.note(number, box, made, lambda: maker.is_settled(number, box))
    cluster.did(count(finest) * recipe.dtype.itemsize)
    return made


def _written(maker: Maker, number: int, box: Box) -> Made:
    tree = maker.tree
    parts = ((part, maker.make(number, part)) for part in cut(box, tree.units[number]))
    state = None
    if number == tree.top:
        for _ in parts:
            pass
    else:
        state = maker.gathered(number + 1, tree.above(number, box), parts)
    return Made(state, maker.contrast)


def _joined(
    recipe: _Recipe, number: int, box: Box, parts: Sequence[Box], found: Sequence[Made]
) -> Made:
    """Write a part of a level that others are put together to."""
    maker = _maker(recipe)
    states = ((part, made.state) for part, made in zip(parts, found, strict=True))
    return Made(maker.joined(number, box, states), _noted(recipe, found))


def _noted(recipe: _Recipe, found: Sequence[Made]) -> Contrast | None:
    """Return all notes on the contrast."""
    if recipe.contrast is None:
        return None
    notes = recipe.contrast.empty()
    for each in found:
        if each.contrast is not None:
            notes.merge(each.contrast)
    return notes


def _maker(recipe: _Recipe) -> Maker:
    """Return who puts parts together here."""
    return Maker(
        Tree.of(recipe.levels, [target.chunks for target in recipe.targets]),
        _nothing,
        reduction(recipe.method, recipe.dtype),
        recipe.targets,
        None if recipe.contrast is None else recipe.contrast.empty(),
        lambda _: None,
        cluster.is_wanted,
    )


def _nothing(box: Box) -> NDArray[Any]:
    raise AssertionError("what others made is put together without reading")


def _read(recipe: _Recipe, box: Box, pixels: NDArray[Any] | None) -> Read:
    """Return what reads a box of the finest level: pixels that came along, or the source."""
    if pixels is None:
        assert recipe.source is not None
        return reader(recipe.source, 1)
    here = np.asarray(pixels)
    return lambda part: here[within(part, box)]
