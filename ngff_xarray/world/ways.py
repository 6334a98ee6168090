"""The way from the axes of an object to those of a system: which depend on which."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import transforms
from ngff_xarray.errors import TransformationError
from ngff_xarray.model import CoordinateSystem
from ngff_xarray.systems import Graph
from ngff_xarray.transforms import ProjectAxis, Transformation
from ngff_xarray.transforms import Sequence as Steps
from ngff_xarray.world.positions import Floats, _names

_PIXELS = 2**20  # points that are computed at a time
# what else may lead to nothing: matrices that were multiplied with their inverses
_ZERO = 1e-13


@dataclass(frozen=True, slots=True, eq=False)
class _Function:
    """A transformation of so many axes, and its affine matrix where it has one."""

    transformation: Transformation
    ndim: int
    linear: Floats | None = field(init=False)

    def __post_init__(self) -> None:
        linear = transforms.matrix(self.transformation, self.ndim)
        if linear is not None:
            sizes = np.abs(linear[:, :-1])
            linear[:, :-1][sizes <= _ZERO * sizes.max(axis=1, keepdims=True, initial=0)] = 0
        object.__setattr__(self, "linear", linear)

    def dependence(self) -> NDArray[np.bool_]:
        """Return which outputs depend on which inputs."""
        if self.linear is not None:
            return np.not_equal(self.linear[:, :-1], 0)
        found: NDArray[np.bool_] = self.transformation.dependence(self.ndim)
        return found

    def __call__(self, inputs: Sequence[Floats]) -> list[Floats]:
        """Return every output from the values of every input, which broadcast.

        An output of a matrix varies along those axes only that its inputs vary along.
        """
        if self.linear is not None:
            return [_combined(row, inputs) for row in self.linear]
        shape = np.broadcast_shapes(*(np.shape(values) for values in inputs))
        spread = [np.broadcast_to(values, shape) for values in inputs]
        result = np.empty((*shape, self.transformation.ndim_out(self.ndim)))
        for piece in _pieces(shape, _PIXELS):
            points = np.stack([values[piece] for values in spread], axis=-1)
            result[piece] = self.transformation.apply(points)
        return list(np.moveaxis(result, -1, 0))

    def output(self, number: int, inputs: Sequence[Floats]) -> Floats:
        """Return one output."""
        if self.linear is not None:
            return _combined(self.linear[number], inputs)
        return self(inputs)[number]


def _combined(row: Floats, inputs: Sequence[Floats]) -> Floats:
    total = np.asarray(row[-1])
    for factor, values in zip(row, inputs, strict=False):
        if factor:
            total = total + factor * values
    return total


def _pieces(shape: Sequence[int], most: int) -> Iterator[tuple[slice, ...]]:
    """Yield slices that cover an array, of not more elements each."""
    waiting = [tuple(slice(0, size) for size in shape)]
    while waiting:
        piece = waiting.pop()
        sizes = [part.stop - part.start for part in piece]
        if math.prod(sizes) <= most:
            yield piece
            continue
        axis = int(np.argmax(sizes))
        for half in _halves(piece[axis]):
            waiting.append((*piece[:axis], half, *piece[axis + 1 :]))


def _halves(part: slice) -> tuple[slice, slice]:
    middle = (part.start + part.stop) // 2
    return slice(middle, part.stop), slice(part.start, middle)


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """What leads from one system to another."""

    source: CoordinateSystem
    target: CoordinateSystem
    function: _Function

    @property
    def is_identity(self) -> bool:
        linear = self.function.linear
        return linear is not None and np.array_equal(linear, np.eye(*linear.shape))


def _way(source: CoordinateSystem, name: str, path: Transformation, whole: Graph) -> _Way:
    """Return the way from a system to one of the graph."""
    target = whole.systems[name]
    if target is None:
        raise TransformationError(f"the axes of {name!r} are not described: no image can be in it")
    found = path.ndim_out(len(source.axes))
    if found != len(target.axes):
        raise TransformationError(
            f"what leads from {source.name!r} to {target.name!r} gives {found} axes: expected "
            f"{len(target.axes)} ({_names(target)})"
        )
    return _Way(source, target, _Function(path, len(source.axes)))


def _present(way: _Way, array: xr.DataArray) -> _Way:
    """Return the way without the axes that an array does not have, not even as a scalar."""
    present = [
        i
        for i, axis in enumerate(way.source.axes)
        if axis.name in array.dims
        or (axis.name in array.coords and array.coords[axis.name].ndim == 0)
    ]
    return _restricted(way, present)


def _restricted(way: _Way, present: Sequence[int]) -> _Way:
    """Return the way of points that have some of the axes only: others are left out of both ends.

    Raises
    ------
    TransformationError
        If an axis that is there comes to depend on one that is not.
    """
    missing = tuple(i for i in range(len(way.source.axes)) if i not in present)
    if not missing:
        return way
    needs = way.function.dependence()
    lost = needs[:, missing].any(axis=1)
    torn = lost & needs[:, list(present)].any(axis=1)
    if torn.any() or lost.all():
        names = [[axis.name for axis in way.target.axes][i] for i in np.flatnonzero(torn | lost)]
        gone = ", ".join(way.source.axes[i].name for i in missing)
        raise TransformationError(
            f"{', '.join(names)} of {way.target.name!r} depends on {gone} of {way.source.name!r}, "
            "where the image no longer says where it stands: give it that coordinate back "
            "(assign_coords)"
        )
    dropped = tuple(int(i) for i in np.flatnonzero(lost))
    inner = Steps((ProjectAxis((), missing), way.function.transformation, ProjectAxis(dropped, ())))
    source = replace(way.source, axes=tuple(way.source.axes[i] for i in present))
    kept = tuple(axis for i, axis in enumerate(way.target.axes) if i not in dropped)
    return _Way(source, replace(way.target, axes=kept), _Function(inner, len(source.axes)))


@dataclass(frozen=True, slots=True)
class _Group:
    """Axes that belong together: inputs, and the outputs that depend on them."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def is_plain(self) -> bool:
        return len(self.inputs) <= 1 and len(self.outputs) == 1


def _groups(dependence: NDArray[np.bool_], inputs: Sequence[int]) -> list[_Group]:
    """Return the groups of some of the inputs and all outputs; a constant output is alone."""
    left, found = set(range(len(dependence))), []
    waiting = list(inputs)
    while waiting:
        members, outputs = {waiting[0]}, set[int]()
        while True:
            more = {k for k in left if dependence[k, sorted(members)].any()}
            inside = members | {i for i in waiting if dependence[sorted(more), i].any()}
            if more == outputs and inside == members:
                break
            members, outputs = inside, more
        left -= outputs
        waiting = [i for i in waiting if i not in members]
        found.append(_Group(tuple(sorted(members)), tuple(sorted(outputs))))
    return found + [_Group((), (k,)) for k in sorted(left)]
