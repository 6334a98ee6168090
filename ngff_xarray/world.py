"""Images in their coordinate systems: points, coordinates and pixels in any of them.

An image's coordinates are in one of its systems (the *current* one: the intrinsic one as opened).
`transform` leads points to another, `to_system` gives the image other coordinates and leaves its
pixels alone, `resample` computes new pixels on a regular grid.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Any, Literal, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray import geometry, image, transforms, units
from ngff_xarray.errors import NotOmeError, SelectionError, TransformationError, UnitError
from ngff_xarray.image import Obj, level_nodes, level_paths, levels
from ngff_xarray.model import Axis, CoordinateSystem, Json
from ngff_xarray.ops import rebuilt, which_level
from ngff_xarray.spec import omero, transformations
from ngff_xarray.spec.axes import write_axis
from ngff_xarray.spec.systems import parse_system
from ngff_xarray.systems import Graph, Link
from ngff_xarray.transforms import (
    Affine,
    Bijection,
    ByDimension,
    Field,
    Identity,
    NumericInverse,
    Part,
    ProjectAxis,
    Scale,
    Transformation,
    Translation,
)
from ngff_xarray.transforms import Sequence as Steps

ObjT = TypeVar("ObjT", bound=Obj)
NodeT = TypeVar("NodeT", xr.DataArray, xr.Dataset)
Floats = NDArray[np.float64]
Nodes = dict[str, xr.Dataset]
Method = Literal["linear", "nearest"]

INTRINSIC = "intrinsic"  # the only system of an image that names none
ARRAY = "array"  # the pixel indices of an object that is a level, and has no path
_FIELD_AXES = frozenset({"displacement", "coordinate"})
_SYSTEMS = ("intrinsic", "coordinateSystems", "coordinateTransformations")
_PIXELS = 2**20  # points that are computed at a time
_TILE = 2**15  # points whose arithmetic stays in a processor's cache
_BOX = 2**22  # pixels of the source that are read at a time
_MOST = 2**24  # pixels along an axis
_NOISE = 1e-8  # of a pixel: what floats make of a position

# what else may lead to nothing: matrices that were multiplied with their inverses
_ZERO = 1e-13


# ---- the graph of an object ------------------------------------------------------------------


def current_system(obj: Obj) -> str:
    """Return the name of the coordinate system that an image's coordinates are in.

    Examples
    --------
    >>> current_system(xr.DataArray([[0]], dims=("y", "x")))
    'intrinsic'
    """
    return _current(image.ome(obj))


def _current(said: Json) -> str:
    name = said["placed"]["system"] if "placed" in said else said.get("intrinsic")
    return name if isinstance(name, str) else INTRINSIC


def coordinate_systems(obj: Obj) -> dict[str, CoordinateSystem]:
    """Return the coordinate systems of an image or a scene, by name.

    Parameters
    ----------
    obj
        An image (a tree, a Dataset or an array of one level), or a scene: its own systems, and
        those of each image as ``path/name``.

    Examples
    --------
    >>> list(coordinate_systems(xr.DataArray([[0]], dims=("y", "x"))))
    ['intrinsic']
    """
    obj = restored(obj)
    if not isinstance(obj, xr.DataTree) or not _is_scene(obj):
        return _own_systems(obj)
    found = {system.name: system for system in _described_systems(obj.attrs["ome"]["scene"])}
    for path, node in _images(obj).items():
        for name, system in _own_systems(node).items():
            found.setdefault(f"{path}/{name}", system)
    return found


def _is_scene(obj: Obj) -> bool:
    return image.group_kind(obj) == "scene"


def _own_systems(obj: Obj) -> dict[str, CoordinateSystem]:
    said = image.ome(obj)
    found = {system.name: system for system in _described_systems(said)}
    name = _current(said)
    return found if name in found else {name: CoordinateSystem(name, image.axes(obj)), **found}


def _described_systems(said: Json) -> list[CoordinateSystem]:
    parsed = [parse_system(s) for s in said.get("coordinateSystems") or () if isinstance(s, dict)]
    return [system for system in parsed if system is not None]


def _images(tree: xr.DataTree) -> dict[str, xr.DataTree]:
    """Return the images of a scene by path, or an image itself under ``""``; not their labels."""
    return _below(tree, "") if image.group_kind(tree) else {"": tree}


def _below(node: xr.DataTree, prefix: str) -> dict[str, xr.DataTree]:
    """Return the images below a node, by path; not the fields that transformations keep."""
    found: dict[str, xr.DataTree] = {}
    for name, child in node.children.items():
        path = _key(prefix, name)
        if "ome" not in child.attrs or image.group_kind(child):
            found |= _below(child, path)
        elif level_nodes(child) and not _vector_axes(child):
            found[path] = child
    return found


def _labels(node: Obj) -> dict[str, xr.DataTree]:
    """Return the label images of an image, by path."""
    group = node.children.get("labels") if isinstance(node, xr.DataTree) else None
    return {} if group is None else _below(group, "labels")


def _vector_axes(obj: Obj) -> list[int]:
    return [i for i, axis in enumerate(image.axes(obj)) if axis.type in _FIELD_AXES]


def _key(prefix: str, name: str) -> str:
    return f"{prefix}/{name}" if prefix else name


def graph(obj: Obj) -> Graph:
    """Return the coordinate systems of an object and what leads from one to another.

    Beside those of `coordinate_systems` there are the systems of label images
    (``labels/nuclei/physical``), and the pixel indices of each level under its path (``0``), or
    ``"array"`` where the object is a level. A label image that no link names is in the system of
    its image, as the specification has it, as far as their axes have the same names.

    Examples
    --------
    >>> image = xr.DataArray([[0, 0]], dims=("y", "x"), coords={"x": [5.0, 5.5]})
    >>> graph(image).path("array", "intrinsic").apply([0, 3])
    array([0. , 6.5])
    """
    obj = restored(obj)
    systems: dict[str, CoordinateSystem | None] = dict(coordinate_systems(obj))
    links: list[Link] = []
    if _is_scene(obj):
        _add_links(obj, obj.attrs["ome"]["scene"], "", systems, links)
    for path, node in _images(obj).items() if isinstance(obj, xr.DataTree) else [("", obj)]:
        _add_image(node, path, systems, links)
    for link in links:
        systems.setdefault(link.source, None)
        systems.setdefault(link.target, None)
    return Graph(systems, tuple(links))


def _add_image(
    obj: Obj, prefix: str, systems: dict[str, CoordinateSystem | None], links: list[Link]
) -> None:
    """Add the systems and links of an image, its levels and its label images."""
    own = _own_systems(obj)
    for name, system in own.items():
        systems.setdefault(_key(prefix, name), system)
    said = image.ome(obj)
    _add_links(obj, said, prefix, systems, links)
    current = own[_current(said)]
    for path, array in zip(level_paths(obj), levels(obj), strict=True):
        key = _key(prefix, path or ARRAY)
        if key not in systems:
            systems[key] = CoordinateSystem(key, tuple(Axis(str(dim)) for dim in array.dims))
            placed = partial(_placement, array, current)
            links.append(Link(key, _key(prefix, current.name), placed))
    for path, label in _labels(obj).items():
        _add_image(label, _key(prefix, path), systems, links)
        theirs = _own_systems(label)[current_system(label)]
        if _is_implied(said, path, current, theirs):
            ends = _key(prefix, current.name), _key(_key(prefix, path), theirs.name)
            links.append(Link(*ends, _picked(current, theirs)))


def _is_implied(said: Json, path: str, current: CoordinateSystem, theirs: CoordinateSystem) -> bool:
    """Tell whether a label image is where its image is, because nothing else is said."""
    named = {where for _, _, ends in _listed_links(said) for where, _ in ends}
    known = {axis.name for axis in current.axes}
    return path not in named and known >= {axis.name for axis in theirs.axes}


def _listed_links(said: Json) -> Iterator[tuple[int, Json, list[tuple[str, str]]]]:
    """Yield the links that metadata list: number, object, and path and name of both ends."""
    for number, entry in enumerate(said.get("coordinateTransformations") or ()):
        found = [entry.get(key) if isinstance(entry, dict) else None for key in ("input", "output")]
        ends = [
            (str(end.get("path") or "").strip("/"), end["name"])
            for end in found
            if isinstance(end, dict) and isinstance(end.get("name"), str)
        ]
        if len(ends) == 2:
            yield number, entry, ends


def _add_links(
    obj: Obj,
    said: Json,
    prefix: str,
    systems: Mapping[str, CoordinateSystem | None],
    links: list[Link],
) -> None:
    """Add the links that metadata list."""
    for number, entry, ends in _listed_links(said):
        source, target = (_key(_key(prefix, path) if path else prefix, name) for path, name in ends)
        where = f"coordinateTransformations[{number}]"
        read = partial(_read, obj, entry, where, systems, (source, target))
        links.append(Link(source, target, read))


def _read(
    obj: Obj,
    entry: Json,
    where: str,
    systems: Mapping[str, CoordinateSystem | None],
    ends: tuple[str, str],
) -> Transformation:
    """Return the transformation of a link, with what it keeps in arrays."""
    faults: list[str] = []
    reading = transformations.Reading(
        lambda where, rule, message: faults.append(f"{where}: {message}"), _Parameters(obj)
    )
    found_ends = (systems.get(end) for end in ends)
    sizes = [None if system is None else len(system.axes) for system in found_ends]
    found = transformations.read(entry, where, sizes[0], sizes[1], reading)
    if found is None:
        raise TransformationError("; ".join(faults) or "it cannot be read")
    return found


@dataclass(frozen=True, slots=True)
class _Parameters:
    """Finds the arrays in which transformations keep their parameters, as nodes of a tree."""

    obj: Obj

    def matrix(self, path: str) -> Any:
        return self._array(self._node(path), path).values

    def field(self, path: str, interpolation: Any) -> Field:
        node = self._node(path)
        if "ome" not in node.attrs:  # of the drafts: vectors last, indices are coordinates
            variable = self._array(node, path).variable
            return Field(_Lazy(variable), variable.ndim - 1, Identity(), interpolation)
        array = levels(node)[0]
        found = _vector_axes(node)
        if len(found) != 1:
            kinds = ", ".join(str(axis.type) for axis in image.axes(node))
            raise TransformationError(
                f"the field at {path!r} has axes of type {kinds}: "
                "expected one of type 'displacement' or 'coordinate'"
            )
        axes = [axis for i, axis in enumerate(image.axes(node)) if i not in found]
        back = [_along(_numeric(array, axis)).inverse() for axis in axes]
        return Field(_Lazy(array.variable), found[0], _side_by_side(back), interpolation)

    def _node(self, path: str) -> xr.DataTree:
        node: xr.DataTree | None = self.obj if isinstance(self.obj, xr.DataTree) else None
        for name in path.strip("/").split("/") if node is not None else ():
            if node is not None and name not in ("", "."):
                node = node.parent if name == ".." else node.children.get(name)
        if node is None:
            what = "this tree" if isinstance(self.obj, xr.DataTree) else "an object of one level"
            raise TransformationError(
                f"the parameters at {path!r} are not in {what}: take the tree as it was opened"
            )
        return node

    def _array(self, node: xr.DataTree, path: str) -> xr.DataArray:
        if "parameters" not in node.data_vars:
            raise TransformationError(f"the node {path!r} holds no array of parameters")
        return node.data_vars["parameters"]


@dataclass(frozen=True, slots=True, eq=False)
class _Lazy:
    """A variable whose slices are numpy arrays."""

    variable: xr.Variable

    @property
    def shape(self) -> tuple[int, ...]:
        return self.variable.shape

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        return np.asarray(self.variable[key].values)


# ---- coordinates as numbers ------------------------------------------------------------------


def _numeric(obj: xr.DataArray | xr.Dataset, axis: Axis) -> xr.DataArray:
    """Return the positions along an axis in its unit: (n,), or () where one was selected.

    A channel is its place among those of the store.
    """
    if axis.name not in obj.coords:
        numbers = np.arange(obj.sizes[axis.name], dtype=np.float64)
        return xr.DataArray(numbers, dims=axis.name, name=axis.name)
    coordinate = obj.coords[axis.name]
    if not geometry.is_numeric(coordinate):
        numbers = _channel_numbers(coordinate, image.ome(obj))
        numbers = numbers.reshape(coordinate.shape)
        return xr.DataArray(numbers, dims=coordinate.dims, name=axis.name)
    factor = units.factor(geometry.unit(coordinate), axis.unit)
    stated = geometry.pixel_size(coordinate[:1] if coordinate.ndim else coordinate)
    attrs = {} if stated is None else {"pixel_size": stated * factor}
    values = geometry.numbers(coordinate).reshape(coordinate.shape) * factor
    return xr.DataArray(values, dims=coordinate.dims, attrs=attrs, name=axis.name)


def _channel_numbers(coordinate: xr.DataArray, said: Json) -> Floats:
    names = [str(name) for name in np.atleast_1d(coordinate.values).tolist()]
    known = list(omero.by_name(said.get("omero")))
    if set(names) <= set(known):
        numbers = [known.index(name) for name in names]
    elif all(name.isdecimal() for name in names):
        numbers = [int(name) for name in names]
    else:
        numbers = list(range(len(names)))
    return np.array(numbers, dtype=np.float64)


def _along(positions: xr.DataArray) -> Transformation:
    """Return what leads from indices along an axis to positions."""
    values = geometry.numbers(positions)
    if not values.size:
        raise SelectionError(f"{positions.name}: the axis is empty: it has no pixels")
    step = geometry.pixel_size(positions)
    if values.size > 1 and step is None:
        return _Lookup(np.arange(values.size, dtype=np.float64), values)
    step = math.copysign(1.0 if step is None else step, values[-1] - values[0])
    return Steps((Scale((step,)), Translation((float(values[0]),))))


@dataclass(frozen=True, slots=True, eq=False)
class _Lookup:
    """Leads from some numbers to others, and straight on between and beyond them."""

    inputs: Floats
    outputs: Floats

    def apply(self, points: ArrayLike) -> Floats:
        found = np.asarray(points, dtype=np.float64)
        low, high = self.inputs[[0, 1]], self.inputs[[-2, -1]]
        result = np.interp(found, self.inputs, self.outputs)
        slopes = np.diff(self.outputs)[[0, -1]] / np.array([np.diff(low)[0], np.diff(high)[0]])
        result += np.minimum(found - low[0], 0) * slopes[0]
        result += np.maximum(found - high[1], 0) * slopes[1]
        return result

    def inverse(self) -> _Lookup:
        steps = np.diff(self.outputs)
        if (steps > 0).all():
            return _Lookup(self.outputs, self.inputs)
        if (steps < 0).all():
            return _Lookup(self.outputs[::-1], self.inputs[::-1])
        raise TransformationError("positions that neither rise nor fall have no inverse")

    def ndim_out(self, ndim: int) -> int:
        if ndim != 1:
            raise TransformationError(f"positions along an axis are of 1 axis, found {ndim}")
        return 1

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        return np.ones((self.ndim_out(ndim), 1), dtype=np.bool_)


def _side_by_side(parts: Sequence[Transformation]) -> Transformation:
    """Return what applies one transformation to each axis."""
    return ByDimension(tuple(Part(part, (i,), (i,)) for i, part in enumerate(parts)))


def _placement(array: xr.DataArray, system: CoordinateSystem) -> Transformation:
    """Return what leads from the pixel indices of an array to the system it is in."""
    missing = [
        axis.name
        for axis in system.axes
        if axis.name not in array.dims and axis.name not in array.coords
    ]
    strange = [str(dim) for dim in array.dims if dim not in {axis.name for axis in system.axes}]
    if missing or strange:
        raise TransformationError(
            f"the array has dimensions {tuple(array.dims)}, "
            f"which do not lead to the axes {_names(system)} of {system.name!r}"
        )
    held = [axis for axis in system.axes if axis.name in array.dims]
    fixed = tuple(i for i, axis in enumerate(system.axes) if axis.name not in array.dims)
    at = [0.0 if axis in held else float(_numeric(array, axis)) for axis in system.axes]
    order = tuple(
        Part(_along(_numeric(array, axis)), (array.dims.index(axis.name),), (i,))
        for i, axis in enumerate(held)
    )
    return Steps((ByDimension(order), ProjectAxis((), fixed), Translation(tuple(at))))


def _picked(system: CoordinateSystem, wanted: CoordinateSystem) -> Transformation:
    """Return what leads from a system to one of some of its axes, by name."""
    places = {axis.name: i for i, axis in enumerate(system.axes)}
    return ByDimension(
        tuple(
            Part(
                Scale((units.factor(system.axes[places[axis.name]].unit, axis.unit),)),
                (places[axis.name],),
                (i,),
            )
            for i, axis in enumerate(wanted.axes)
        )
    )


def _names(system: CoordinateSystem) -> str:
    return ", ".join(axis.name for axis in system.axes)


# ---- points ----------------------------------------------------------------------------------


def transform(
    obj: Obj, points: ArrayLike | Mapping[str, Any], *, from_: str | None = None, to: str
) -> Floats:
    """Return points of one coordinate system in another.

    Parameters
    ----------
    obj
        An image or a scene.
    points
        An array of shape ``(..., axes)`` in the order of the system's axes, or a mapping of axis
        names to values (numbers in the axis's unit, quantities, or text such as ``"10 µm"``),
        which are broadcast against one another. Where an axis of the image was dropped by
        selecting, a mapping may leave it out. A channel is its index.
    from_, to
        The names of the systems, as `graph` has them: those of `coordinate_systems`, and the
        pixel indices of a level under its path. ``from_`` is the one that the image's coordinates
        are in, unless given; of a scene it has to be.

    Returns
    -------
    numpy.ndarray
        Shape ``(..., axes)``, in the units of the system that they are in now. Transformations
        say numbers, not quantities: one that says "identity" leaves them alone, whatever units
        the two systems have.

    Raises
    ------
    TransformationError
        If there is no such system, nothing leads there, or the points do not fit.
    UnitError
        If a quantity cannot be converted.

    Examples
    --------
    >>> image = xr.DataArray([[0, 0]], dims=("y", "x"), coords={"x": [5.0, 5.5]})
    >>> transform(image, {"y": 0, "x": [5.0, 6.0]}, to="array")
    array([[0., 0.], [0., 2.]])
    """
    obj = restored(obj) if _is_scene(obj) else obj
    whole = graph(obj)
    if from_ is None:
        if _is_scene(obj):
            known = ", ".join(map(repr, coordinate_systems(obj)))
            raise TransformationError(f"a scene has many systems: give from_, one of {known}")
        from_ = current_system(obj)
    path = whole.path(from_, to)
    system = whole.systems[from_]
    if not isinstance(points, Mapping):
        found = np.asarray(points, dtype=np.float64)
        if system is not None and (not found.ndim or found.shape[-1] != len(system.axes)):
            raise TransformationError(
                f"points of {from_!r} have {len(system.axes)} axes ({_names(system)}): expected "
                f"shape (..., {len(system.axes)}), found {found.shape}"
            )
        return path.apply(found)
    if system is None:
        raise TransformationError(f"the axes of {from_!r} are not described: give points as array")
    fixed = {} if _is_scene(obj) or from_ != current_system(obj) else _selected(obj, system)
    return path.apply(_stacked(points, system, fixed))


def _selected(obj: Obj, system: CoordinateSystem) -> dict[str, float]:
    """Return where the image stands on the axes that were dropped by selecting."""
    array = levels(obj)[0]
    return {
        axis.name: float(_numeric(array, axis))
        for axis in system.axes
        if axis.name in array.coords and array.coords[axis.name].ndim == 0
    }


def _stacked(
    points: Mapping[str, Any], system: CoordinateSystem, fixed: Mapping[str, float]
) -> Floats:
    names = [axis.name for axis in system.axes]
    unknown = [name for name in points if name not in names]
    missing = [name for name in names if name not in points and name not in fixed]
    if unknown or missing:
        found = ", ".join(map(str, points)) or "none"
        raise TransformationError(
            f"points of {system.name!r} have the axes {', '.join(names)}; found {found}"
        )
    values = [_magnitudes({**fixed, **points}[axis.name], axis.unit) for axis in system.axes]
    return np.stack(np.broadcast_arrays(*values), axis=-1)


def _magnitudes(values: Any, unit: str | None) -> Floats:
    """Return numbers, quantities or texts as numbers of a unit."""
    if hasattr(values, "magnitude") and hasattr(values, "units"):
        factor = units.magnitude(type(values)(1.0, values.units), unit)
        return np.asarray(values.magnitude, dtype=np.float64) * factor
    found = np.asarray(values)
    if found.dtype.kind in "fiu":
        return found.astype(np.float64)
    each = [units.magnitude(value, unit) for value in found.ravel().tolist()]
    return np.array(each, dtype=np.float64).reshape(found.shape)


# ---- from one system to another --------------------------------------------------------------


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


# ---- coordinates in another system -----------------------------------------------------------


def to_system(obj: ObjT, name: str) -> ObjT:
    """Return an image, or the images of a scene, with coordinates in another system.

    No pixel is read or moved. An axis of the system that depends on one axis of the image only
    becomes its ordinary coordinate, and gives it its name; a channel axis that stays itself keeps
    its names. Axes that mix keep their coordinates under a longer name (``x_physical``), and the
    axes of the system become coordinates of two or three dimensions, which are computed where they
    are read: ``image.plot(x="x", y="y")`` draws the image in its place. Axes that the system does
    not have stay as they are; those that the image does not have become scalar coordinates.

    Parameters
    ----------
    obj
        An image as a tree, a Dataset or an array; or a scene.
    name
        The name of the system: one of `coordinate_systems`.

    Returns
    -------
    Same type as ``obj``. Label images follow, where links or the names of their axes place them
    in a system of the image; others are left out, as are images of a scene that nothing connects
    with the system. Where every dimension has its axis, the system is the image's intrinsic one
    from then on. Otherwise ``attrs["ome"]["placed"]`` tells where it is, and the coordinates it
    had stay beside the new ones, so that `to_system` finds the way back.

    Raises
    ------
    TransformationError
        If there is no such system, or nothing leads there.

    Examples
    --------
    >>> axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    >>> ends = {"input": {"name": "physical"}, "output": {"name": "world"}}
    >>> ome = {
    ...     "intrinsic": "physical",
    ...     "coordinateSystems": [{"name": name, "axes": axes} for name in ("physical", "world")],
    ...     "coordinateTransformations": [{"type": "translation", "translation": [0, 20], **ends}],
    ... }
    >>> image = xr.DataArray([[0, 0, 0]], dims=("y", "x"), attrs={"ome": ome})
    >>> to_system(image, "world")["x"].values
    array([20., 21., 22.])
    """
    result: Any = _tree_to_system if isinstance(obj, xr.DataTree) else _level_to_system
    moved: ObjT = result(obj, name)
    return moved


def _level_to_system(obj: NodeT, name: str) -> NodeT:
    if "placed" in image.ome(obj) and current_system(obj) == name:
        return obj
    before = restored(obj)
    whole = graph(before)
    source = _own_systems(before)[current_system(before)]
    way = _way(source, name, whole.path(source.name, name), whole)
    way = _present(way, levels(before)[0])
    said = _Said(image.ome(before), whole, "")
    if way.is_identity and said.local(way, name) == source.name:
        return before
    layout = _layout(way, levels(before)[0])
    return _placed(before, way, layout, said.after(way, name, layout))


def _tree_to_system(tree: xr.DataTree, name: str) -> xr.DataTree:
    before = restored(tree)
    whole = graph(before)
    changed: dict[str, xr.Dataset] = {}
    left_out: list[str] = []
    faults: list[TransformationError] = []
    images = _images(before)
    for prefix, node in images.items():
        source = _own_systems(node)[current_system(node)]
        try:
            path = whole.path(_key(prefix, source.name), name)
            way = _present(_way(source, name, path, whole), levels(node)[0])
        except TransformationError as error:
            faults.append(error)
            left_out.append(prefix)
            continue
        changed |= _image_to_system(node, way, _Said(image.ome(node), whole, prefix), name)
        for place, label in _labels(node).items():
            said = _Said(image.ome(label), whole, _key(prefix, place))
            try:
                follows = _label_way(node, place, said, way, name)
            except TransformationError:
                left_out.append(said.prefix)
                continue
            changed |= _image_to_system(label, follows, said, name)
    if len(faults) == len(images):
        raise faults[0] if faults else NotOmeError("this scene holds no image")
    return _without(rebuilt(before, changed), left_out)


def _label_way(node: xr.DataTree, path: str, said: _Said, way: _Way, name: str) -> _Way:
    """Return what leads from the system of a label image where its image goes."""
    label = _labels(node)[path]
    theirs = _own_systems(label)[current_system(label)]
    if not _is_implied(image.ome(node), path, way.source, theirs):
        found = said.whole.path(_key(said.prefix, theirs.name), name)
        return _present(_way(theirs, name, found, said.whole), levels(label)[0])
    places = {axis.name: i for i, axis in enumerate(way.source.axes)}
    some = _restricted(way, sorted(places[axis.name] for axis in theirs.axes))
    back = _picked(some.source, theirs).inverse()
    whole = Steps((back, some.function.transformation))
    return _present(_Way(theirs, some.target, _Function(whole, len(theirs.axes))), levels(label)[0])


def _image_to_system(node: xr.DataTree, way: _Way, said: _Said, name: str) -> Nodes:
    """Return the Datasets of an image's node and its levels, in the system."""
    if way.is_identity and said.local(way, name) == way.source.name:
        return {}
    layout = _layout(way, levels(node)[0])
    ome = said.after(way, name, layout)
    return _with_levels(node, ome, partial(_placed, way=way, layout=layout, ome=ome))


def _with_levels(
    node: xr.DataTree, ome: dict[str, Any], change: Callable[[xr.Dataset], xr.Dataset]
) -> Nodes:
    """Return the changed Datasets of an image's node and of its levels, by path."""
    changed = {node.path: node.to_dataset(inherit=False)}
    for level, _ in level_nodes(node):
        changed[level.path] = change(level.to_dataset(inherit=False))
    changed[node.path] = changed[node.path].assign_attrs(ome=ome)
    return changed


def _without(tree: xr.DataTree, paths: Sequence[str]) -> xr.DataTree:
    """Return the tree, which is the caller's own, without some of its nodes."""
    for path in paths:
        above, _, name = path.rpartition("/")
        parent: Any = tree[above] if above else tree
        parent.children = {key: node for key, node in parent.children.items() if key != name}
    return tree


@dataclass(frozen=True, slots=True)
class _Said:
    """What the metadata of an image say, the graph around it, and its path there."""

    ome: Json
    whole: Graph
    prefix: str

    def local(self, way: _Way, name: str) -> str:
        """Return what a system of the graph is called in the metadata of the image.

        A system from outside gets a name that no other one has there.
        """
        own = {system.name for system in _described_systems(self.ome)} | {way.source.name}
        inside = name.removeprefix(f"{self.prefix}/")
        if not self.prefix or (inside != name and inside in own):
            return inside
        while name in own and not self._is(way, name):
            name += "_"
        return name

    def _is(self, way: _Way, name: str) -> bool:
        """Tell whether a system of the image is the one that the way leads to."""
        try:
            found = self.whole.path(*(_key(self.prefix, end) for end in (way.source.name, name)))
            linear = transforms.matrix(found, way.function.ndim)
        except TransformationError:
            return False
        wanted = way.function.linear
        return (
            linear is not None
            and wanted is not None
            and linear.shape == wanted.shape
            and np.allclose(linear, wanted, rtol=1e-9, atol=1e-12)
        )

    def after(self, way: _Way, name: str, layout: _Layout) -> dict[str, Any]:
        """Return what to say once the image is in the system that the way leads to."""
        local = self.local(way, name)
        said = dict(self.ome)
        listed = said.get("coordinateSystems") or [_json(way.source)]
        if not any(isinstance(s, dict) and s.get("name") == local for s in listed):
            links = [*(said.get("coordinateTransformations") or ()), *_link(way, local)]
            said["coordinateSystems"] = [*listed, _json(replace(way.target, name=local))]
            said["coordinateTransformations"] = links
        if layout.is_ordinary:
            return {**_with_axes(said, way.target), "intrinsic": local}
        kept = {key: said[key] for key in _SYSTEMS if key in said}
        placed = {"system": local, "axes": layout.created, "before": layout.before, **kept}
        return {key: said[key] for key in said if key not in _SYSTEMS} | {"placed": placed}


def _json(system: CoordinateSystem) -> dict[str, Any]:
    return {"name": system.name, "axes": [write_axis(axis) for axis in system.axes]}


def _link(way: _Way, name: str) -> list[dict[str, Any]]:
    """Return the link that says what a way does, if numbers can."""
    if way.function.linear is None:
        return []
    ends = {"input": {"name": way.source.name}, "output": {"name": name}}
    return [{"type": "affine", "affine": way.function.linear.tolist(), **ends}]


def _with_axes(said: Json, system: CoordinateSystem) -> dict[str, Any]:
    """Return metadata with what the store says more of each axis of a system."""
    more = {axis.name: dict(axis.extra) for axis in system.axes if axis.extra}
    extra = {key: value for key, value in said.get("extra", {}).items() if key != "axes"}
    if more:
        extra["axes"] = more
    rest = {key: value for key, value in said.items() if key != "extra"}
    return {**rest, "extra": extra} if extra else rest


def restored(obj: ObjT) -> ObjT:
    """Return an object as it was before `to_system` put it where its axes mix.

    Examples
    --------
    >>> image = xr.DataArray([[0]], dims=("y", "x"))
    >>> restored(image) is image
    True
    """
    result: Any = obj
    if isinstance(obj, xr.DataTree):
        result = _restored_tree(obj)
    elif "placed" in (said := image.ome(obj)):
        result = _put_back(result, said["placed"], _unplaced(said))
    before: ObjT = result
    return before


def _restored_tree(obj: xr.DataTree) -> xr.DataTree:
    changed: Nodes = {}
    for node in obj.subtree:
        said = node.attrs.get("ome")
        if isinstance(said, dict) and "placed" in said:
            ome = _unplaced(said)
            put_back = partial(_put_back, placed=said["placed"], ome=ome)
            changed |= _with_levels(node, ome, put_back)
    return rebuilt(obj, changed) if changed else obj


def _unplaced(said: Json) -> dict[str, Any]:
    kept = {key: value for key, value in said["placed"].items() if key in _SYSTEMS}
    return {key: value for key, value in said.items() if key != "placed"} | kept


def _put_back(obj: NodeT, placed: Json, ome: dict[str, Any]) -> NodeT:
    """Return a level with the coordinates that stand beside those of the system it is in."""
    result = obj.drop_vars([name for name in placed["axes"] if name in obj.coords])
    before = {
        name: axis
        for name, axis in placed["before"].items()
        if name in result.coords or name in result.dims
    }
    along = {
        result.coords[name].dims[0]: name
        for name in before
        if name not in result.dims and result.coords[name].ndim
    }
    return _with_ome(result.swap_dims(along).rename(before), ome, {**along, **before})


# the coordinates of a level, before and after


@dataclass(frozen=True, slots=True)
class _Layout:
    """What becomes of the dimensions and coordinates of a level.

    Parameters
    ----------
    groups
        The axes that belong together.
    is_ordinary
        Whether every dimension becomes one axis of its own.
    renamed
        New names of dimensions.
    created
        The coordinates that are new.
    before
        The names under which coordinates stay that others take the place of, if there is to be a
        way back, and what they were called.
    dropped
        Coordinates that go.
    """

    groups: tuple[_Group, ...]
    is_ordinary: bool
    renamed: dict[str, str]
    created: list[str]
    before: dict[str, str]
    dropped: list[str]


def _layout(way: _Way, array: xr.DataArray) -> _Layout:
    held = [i for i, axis in enumerate(way.source.axes) if axis.name in array.dims]
    groups = tuple(_groups(way.function.dependence(), held))
    ordinary = all(group.is_plain for group in groups)
    same = {i: k for i in range(len(way.source.axes)) if (k := _same(way, i)) is not None}
    names = [axis.name for axis in way.source.axes]
    new = [axis.name for axis in way.target.axes]
    renamed: dict[str, str] = {}
    moved: list[str] = []  # axes whose coordinates are replaced
    for group in groups:
        for i in group.inputs:
            if not group.is_plain:
                if group.outputs or names[i] in new:
                    renamed[names[i]] = _beside(names[i], way)
            elif i not in same:
                renamed[names[i]] = new[group.outputs[0]]
                moved.append(names[i])
    needed = way.function.dependence().any(axis=0)
    moved += [
        name
        for i, name in enumerate(names)
        if i not in held and i not in same and (needed[i] or name in new)
    ]
    before = {} if ordinary else {_beside(name, way): name for name in [*renamed, *moved]}
    created = [name for k, name in enumerate(new) if k not in same.values()]
    gone = [name for name in moved if name in array.coords]
    return _Layout(groups, ordinary, renamed, created, before, gone)


def _beside(name: str, way: _Way) -> str:
    return f"{name}_{way.source.name}"


def _same(way: _Way, number: int) -> int | None:
    """Return the axis that one of the source's stays, in name, unit and numbers, or None."""
    linear, axis = way.function.linear, way.source.axes[number]
    for k, other in enumerate(way.target.axes):
        if linear is None or other.name != axis.name:
            continue
        plain = (other.type, other.unit, other.long_name) == (axis.type, axis.unit, axis.long_name)
        alone = np.count_nonzero(linear[:, number]) == 1
        return k if plain and alone and _is_unit(linear[k], number) else None
    return None


def _is_unit(row: Floats, number: int) -> bool:
    """Tell whether an output is one of the inputs as it is."""
    return bool(row[number] == 1 and np.count_nonzero(row) == 1)


def _placed(obj: NodeT, way: _Way, layout: _Layout, ome: dict[str, Any]) -> NodeT:
    """Return a level with its coordinates in the system that the way leads to."""
    obj = _plain(obj)
    positions = [_numeric(obj, axis) for axis in way.source.axes]
    coordinates: dict[str, xr.Variable] = {}
    for group in layout.groups:
        for k in group.outputs:
            name = way.target.axes[k].name
            if name in layout.created:
                coordinates[name] = _coordinate(obj, way, k, positions, layout)
    for name, axis in layout.before.items():
        if axis in layout.dropped:
            kept = obj.coords[axis].variable
            dims = [layout.renamed.get(str(dim), str(dim)) for dim in kept.dims]
            coordinates[name] = xr.Variable(dims, kept.data, kept.attrs)
    result = obj.drop_vars(layout.dropped)
    taken = {*layout.renamed.values(), *coordinates}
    others = [name for name in taken if name in result.coords and name not in layout.renamed]
    clash = [name for name in others if result.coords[name].ndim]
    if clash:
        raise TransformationError(
            f"the image has a coordinate {clash[0]!r} that is no axis of {way.source.name!r}, and "
            f"{way.target.name!r} needs the name: rename it, or drop it (drop_vars)"
        )
    if isinstance(result, xr.Dataset):  # an axis of that name has its coordinate there
        variables = {name: f"{name}_" for name in result.data_vars if name in taken}
        result = result.rename(variables)
    result = result.drop_vars(others).rename(layout.renamed).assign_coords(coordinates)
    return _with_ome(result, ome, layout.renamed)


def _plain(obj: NodeT) -> NodeT:
    """Return an object whose coordinates are numbers, where they were quantities."""
    numbers = {}
    for name, coordinate in obj.coords.items():
        if hasattr(coordinate.data, "magnitude"):
            stated = {
                "units": geometry.unit(coordinate),
                "pixel_size": geometry.pixel_size(coordinate),
            }
            attrs = {**coordinate.attrs, **{k: v for k, v in stated.items() if v is not None}}
            numbers[name] = xr.Variable(coordinate.dims, coordinate.data.magnitude, attrs)
    return obj.drop_vars(list(numbers)).assign_coords(numbers) if numbers else obj


def _coordinate(
    obj: xr.DataArray | xr.Dataset,
    way: _Way,
    number: int,
    positions: Sequence[xr.DataArray],
    layout: _Layout,
) -> xr.Variable:
    """Return the coordinate along one axis of the system."""
    axis = way.target.axes[number]
    needs = np.flatnonzero(way.function.dependence()[number]).tolist()
    along = [i for i in needs if positions[i].ndim]
    names = [way.source.axes[i].name for i in along]
    along = [i for _, i in sorted(zip(map(list(obj.dims).index, names), along, strict=True))]
    dims = [layout.renamed.get(way.source.axes[i].name, way.source.axes[i].name) for i in along]
    linear = way.function.linear
    if len(needs) == 1 and linear is not None and _is_unit(linear[number], needs[0]):
        stated = obj.coords.get(way.source.axes[needs[0]].name)
        if stated is not None and not geometry.is_numeric(stated) and axis.type == "channel":
            return xr.Variable(dims, stated.values, _attrs(axis, None))
    inputs = [np.asarray(p.values if i in needs else 0.0) for i, p in enumerate(positions)]
    if len(along) > 1:
        lazy = _Positions(way.function, number, inputs, along)
        return xr.Variable(dims, indexing.LazilyIndexedArray(lazy), _attrs(axis, None))
    values = way.function.output(number, inputs)
    step = _step(way, number, along, positions, values)
    return xr.Variable(dims, values, _attrs(axis, step))


def _step(
    way: _Way,
    number: int,
    along: Sequence[int],
    positions: Sequence[xr.DataArray],
    values: Floats,
) -> float | None:
    """Return the pixel size along a new coordinate of one dimension or none."""
    linear = way.function.linear
    if linear is not None:
        needs = np.flatnonzero(linear[number, :-1]).tolist()
        size = geometry.pixel_size(positions[needs[0]]) if len(needs) == 1 else None
        if size is not None:
            return float(f"{abs(linear[number, needs[0]]) * size:.15g}")
    if not along or values.size < 2:
        return None
    return geometry.pixel_size(xr.DataArray(values, dims="values"))


def _attrs(axis: Axis, pixel_size: float | None) -> dict[str, Any]:
    attrs = {
        "units": axis.unit,
        "axis_type": axis.type,
        "pixel_size": pixel_size,
        "long_name": axis.long_name,
    }
    return {key: value for key, value in attrs.items() if value is not None}


def _with_ome(obj: NodeT, ome: dict[str, Any], renamed: Mapping[Any, Any]) -> NodeT:
    """Return a level with other metadata, and chunks under the new names of dimensions."""
    result = obj.copy(deep=False)
    if isinstance(result, xr.DataArray):
        holders = [result]
    else:
        holders = [result[name] for name in result.data_vars]
        if "ome" in result.attrs:
            result.attrs = {**result.attrs, "ome": ome}
    for holder in holders:
        if "ome" in holder.attrs or holder is result:
            holder.attrs["ome"] = ome
        chunks = holder.encoding.get("preferred_chunks")
        if isinstance(chunks, dict):
            named = {renamed.get(dim, dim): size for dim, size in chunks.items()}
            holder.encoding["preferred_chunks"] = named
    return result


class _Positions(BackendArray):
    """A coordinate along several dimensions, computed where it is read.

    Parameters
    ----------
    function, number
        What gives it, and which of the outputs it is.
    inputs
        The values of every input: along a dimension, or one.
    along
        The input of each dimension.
    """

    def __init__(
        self, function: _Function, number: int, inputs: Sequence[Floats], along: Sequence[int]
    ) -> None:
        self._function = function
        self._number = number
        self._inputs = inputs
        self._along = along
        self.shape = tuple(inputs[i].size for i in along)
        self.dtype = np.dtype(np.float64)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        vectorized = isinstance(key, indexing.VectorizedIndexer)
        return indexing.explicit_indexing_adapter(
            key,
            self.shape,
            indexing.IndexingSupport.VECTORIZED,
            self._at if vectorized else self._over,
        )

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        return self[key]

    def _over(self, key: tuple[Any, ...]) -> Floats:
        """Return the block of all combinations of indices along the dimensions."""
        return self._at(tuple(_mesh(_indices(key, self.shape))))

    def _at(self, key: tuple[Any, ...]) -> Floats:
        """Return the values at index arrays that broadcast."""
        inputs = list(self._inputs)
        for i, places in zip(self._along, key, strict=True):
            inputs[i] = self._inputs[i][places]
        shape = np.broadcast_shapes(*(np.shape(places) for places in key))
        return np.array(np.broadcast_to(self._function.output(self._number, inputs), shape))


def _indices(key: Sequence[Any], shape: Sequence[int]) -> list[NDArray[np.intp]]:
    """Return the indices that a basic or outer key means; an integer is without dimension."""
    found = []
    for part, size in zip(key, shape, strict=True):
        places = np.arange(size)[part] if isinstance(part, slice) else np.asarray(part)
        found.append(np.where(places < 0, places + size, places).astype(np.intp))
    return found


def _mesh(arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return arrays of one dimension or none so that they broadcast to all combinations."""
    ndim = sum(array.ndim for array in arrays)
    places = itertools.accumulate((array.ndim for array in arrays), initial=0)
    return [
        array.reshape([-1 if axis == place else 1 for axis in range(ndim)]) if array.ndim else array
        for array, place in zip(arrays, places, strict=False)
    ]


# ---- pixels in another system ----------------------------------------------------------------


def resample(
    obj: Obj,
    pixel_size: object = None,
    *,
    system: str | None = None,
    like: Obj | None = None,
    method: Method | None = None,
    fill: float | None = None,
    level: object = None,
) -> xr.DataArray:
    """Return an image on a regular grid, in any of its coordinate systems.

    Nothing is computed until it is read, and then block by block: of the source no more is read
    than the box that a block comes from. Axes that stay as they are pass through: channels, and
    those that neither mix with others nor are asked for in another pixel size.

    Parameters
    ----------
    obj
        An image as a tree, a Dataset or an array.
    pixel_size
        A length (``"1 µm"``, a quantity, or a number in the axis's unit) for all axes of space
        that have more than one pixel, or a mapping of axis names to lengths. Axes that mix and
        are not given get the finest pixel size among those they come from.
    system
        The name of a system of `coordinate_systems`; the one that the image is in, unless given.
    like
        An image in that system already, whose grid to take: its coordinates, exactly. An axis on
        which it stands at one position gives a plane there.
    method
        ``"linear"``, or ``"nearest"`` which makes no new values: the default for label images.
        Points up to half a pixel outside have the value of the edge.
    fill
        The value outside; NaN unless given, or 0 where pixels are integers.
    level
        The level to take, by number or pixel size: otherwise the coarsest whose pixels are no
        larger than those asked for.

    Returns
    -------
    xarray.DataArray
        With ordinary coordinates, of the type of the image's pixels (rounded half to even). It
        covers the image, unless ``like`` says otherwise. Dimensions stand where those stood that
        they come from.

    Raises
    ------
    TransformationError
        If nothing leads to the system and back, or a plane of the image would become a volume.
    SelectionError
        If an axis, a level, a method or a fill value does not fit.
    UnitError
        If a pixel size is no length.

    Examples
    --------
    >>> image = xr.DataArray([[0.0, 1.0, 2.0, 3.0]], dims=("y", "x"))
    >>> resample(image, {"x": 2}).values
    array([[0.5, 2.5]])
    >>> resample(image, {"x": 2})["x"].values
    array([0.5, 2.5])
    """
    if _is_scene(obj):
        raise NotOmeError("a scene holds several images: resample one of to_system(scene, name)")
    before = restored(obj)
    whole = graph(before)
    arrays = levels(before)
    source = _own_systems(before)[current_system(before)]
    name = current_system(obj) if system is None else system
    way = _present(_way(source, name, whole.path(source.name, name), whole), arrays[0])
    sizes = _wanted_sizes(pixel_size, way, arrays[0])
    grids = {} if like is None else _grids_of(levels(like)[0], way)
    asked = _Asked(way, sizes, grids)
    number = which_level(arrays, level) if level is not None else asked.level(arrays)
    extent = arrays[number] if level is not None else arrays[0]
    array = _plain(arrays[number])
    made = _method(method, obj, array.dtype), _fill(fill, array.dtype)
    layout = _layout(way, array)
    plan = _Plan(way, array, layout, asked.grids_over(extent), _back(way, whole, name))
    return plan.result(*made, _said_of(before, whole, way, name, plan))


def _method(method: str | None, obj: Obj, dtype: np.dtype[Any]) -> Method:
    if method is None:
        return "nearest" if image.kind(obj) == "labels" or dtype.kind not in "iufc" else "linear"
    if method not in ("linear", "nearest"):
        raise SelectionError(f"method: expected 'linear' or 'nearest', found {method!r}")
    return "linear" if method == "linear" else "nearest"


def _fill(fill: float | None, dtype: np.dtype[Any]) -> Any:
    if fill is None:
        return np.array(np.nan if dtype.kind in "fc" else 0).astype(dtype)[()]
    with np.errstate(invalid="ignore", over="ignore"):
        value = np.asarray(fill).astype(dtype)[()]
    if dtype.kind in "iub" and value != fill:
        raise SelectionError(f"fill: pixels of type {dtype} cannot be {fill!r}")
    return value


def _wanted_sizes(pixel_size: object, way: _Way, array: xr.DataArray) -> dict[int, float]:
    """Return the pixel size asked for along axes of the system, by their number."""
    axes = way.target.axes
    if pixel_size is None:
        return {}
    if isinstance(pixel_size, Mapping):
        along = {axes[k].name: k for group in _layout(way, array).groups for k in group.outputs}
        wanted = dict(pixel_size)
    else:
        along = _space_axes(way, array)
        wanted = dict.fromkeys(along, pixel_size)
    sizes = {}
    for name, size in wanted.items():
        if name not in along:
            known = ", ".join(along)
            raise SelectionError(f"pixel_size: there is no axis {name!r}; the axes are {known}")
        if axes[along[name]].type == "channel":
            raise SelectionError(f"pixel_size: {name!r} is an axis of channels, which have none")
        sizes[along[name]] = units.magnitude(size, axes[along[name]].unit)
        if not 0 < sizes[along[name]] < math.inf:
            raise SelectionError(f"pixel_size: expected more than 0, found {size!r} for {name!r}")
    return sizes


def _space_axes(way: _Way, array: xr.DataArray) -> dict[str, int]:
    """Return the axes of space that have more than one pixel, or mix."""
    found = {}
    for group in _layout(way, array).groups:
        single = [array.sizes[way.source.axes[i].name] == 1 for i in group.inputs]
        for k in group.outputs:
            if way.target.axes[k].type == "space" and group.inputs and single != [True]:
                found[way.target.axes[k].name] = k
    return found


def _grids_of(like: xr.DataArray, way: _Way) -> dict[int, xr.Variable]:
    """Return the coordinates of an image in the system, by the number of the axis."""
    found = {}
    for k, axis in enumerate(way.target.axes):
        coordinate = like.coords.get(axis.name)
        if coordinate is None or axis.type == "channel" or not geometry.is_numeric(coordinate):
            continue
        if coordinate.ndim > 1 or coordinate.dims not in ((), (axis.name,)):
            raise SelectionError(
                f"like: {axis.name!r} is no ordinary coordinate: expected an image whose axes do "
                "not mix, such as one that was resampled"
            )
        found[k] = coordinate.variable
    return found


@dataclass(frozen=True, slots=True)
class _Asked:
    """The pixel sizes and grids that are asked for, by the number of the system's axis."""

    way: _Way
    sizes: Mapping[int, float]
    grids: Mapping[int, xr.Variable]

    def level(self, arrays: Sequence[xr.DataArray]) -> int:
        """Return the coarsest level whose pixels are no larger than those asked for."""
        if not self.sizes and not self.grids:
            return 0
        limits = self._limits(arrays[0])
        good = 0
        for number, array in enumerate(arrays):
            found = self._lengths(array)
            if all(found[i] <= limit * (1 + 1e-9) for i, limit in limits.items()):
                good = number
        return good

    def _limits(self, finest: xr.DataArray) -> dict[int, float]:
        """Return how long the pixels may be along each of the source's axes."""
        limits = self._lengths(finest)
        for group in _layout(self.way, finest).groups:
            lengths = [
                size * self._factor(group, k)
                for k in group.outputs
                if (size := self._size(k)) is not None
            ]
            for i in group.inputs if lengths else ():
                limits[i] = max(limits[i], min(lengths))
        return limits

    def _size(self, number: int) -> float | None:
        if number in self.grids:
            axis = self.way.target.axes[number]
            grid = self.grids[number]
            step = geometry.pixel_size(xr.DataArray(grid)) if grid.ndim else None
            factor = units.factor(geometry.unit(xr.DataArray(grid)), axis.unit)
            return None if step is None else step * factor
        return self.sizes.get(number)

    def _factor(self, group: _Group, number: int) -> float:
        """Return what makes lengths along an axis lengths along the first of its group."""
        axes = self.way.target.axes
        try:
            return units.factor(axes[number].unit, axes[group.outputs[0]].unit)
        except UnitError:
            return 1.0

    def _lengths(self, array: xr.DataArray) -> dict[int, float]:
        """Return how long a pixel is along each of the source's axes, where it goes."""
        positions = [_numeric(array, axis) for axis in self.way.source.axes]
        centre = [float(np.mean(_ends(p))) for p in positions]
        lengths = {}
        for group in _layout(self.way, array).groups:
            for i in group.inputs:
                step = geometry.pixel_size(positions[i]) or float(
                    np.ptp(positions[i].values) / max(positions[i].size - 1, 1)
                )
                moved = [*centre[:i], centre[i] + step, *centre[i + 1 :]]
                ends = [self.way.function([np.asarray(v) for v in at]) for at in (centre, moved)]
                sides = [
                    float(ends[1][k] - ends[0][k]) * self._factor(group, k) for k in group.outputs
                ]
                lengths[i] = math.hypot(*sides) if sides else step
        return lengths

    def grids_over(self, array: xr.DataArray) -> dict[int, xr.Variable]:
        """Return the coordinates of all axes that are resampled, over the whole of an array."""
        found: dict[int, xr.Variable] = {}
        lengths = self._lengths(array)
        for group in _layout(self.way, array).groups:
            asked = {k for k in group.outputs if k in self.sizes or k in self.grids}
            if not group.inputs or not group.outputs or (group.is_plain and not asked):
                continue
            finest = min(lengths[i] for i in group.inputs)
            ends = None
            for k in group.outputs:
                if k in self.grids:
                    found[k] = self.grids[k]
                    continue
                ends = ends or _extent(self.way, group, array)
                size = self.sizes.get(k) or float(f"{finest / self._factor(group, k):.12g}")
                found[k] = _even_grid(self.way.target.axes[k], *ends[k], size)
            if group.is_plain and self._is_there(array, group, found[group.outputs[0]]):
                del found[group.outputs[0]]
        return found

    def _is_there(self, array: xr.DataArray, group: _Group, grid: xr.Variable) -> bool:
        """Tell whether the pixels of an axis of its own stand on a grid already."""
        (k,) = group.outputs
        if k in self.grids:
            return False
        positions = [_numeric(array, axis).values for axis in self.way.source.axes]
        inputs = [
            p if i in group.inputs or not p.ndim else np.asarray(0.0)
            for i, p in enumerate(positions)
        ]
        now = self.way.function.output(k, inputs)
        step = grid.attrs["pixel_size"]
        return now.shape == grid.shape and np.allclose(now, grid.values, rtol=0, atol=1e-6 * step)


def _ends(positions: xr.DataArray) -> Floats:
    """Return the outer edges of the pixels along an axis, or where it was selected."""
    if not positions.ndim:
        return geometry.numbers(positions)
    return geometry.edges(positions)[[0, -1]]


def _extent(way: _Way, group: _Group, array: xr.DataArray) -> dict[int, tuple[float, float]]:
    """Return from where to where an image reaches along the axes of a group."""
    ends = [_ends(_numeric(array, axis)) for axis in way.source.axes]
    low = dict.fromkeys(group.outputs, math.inf)
    high = dict.fromkeys(group.outputs, -math.inf)
    for inputs in _border([ends[i] for i in group.inputs], curved=way.function.linear is None):
        values = [np.asarray(end[0]) for end in ends]
        for i, along in zip(group.inputs, inputs, strict=True):
            values[i] = along
        found = way.function(values)
        for k in group.outputs:
            known = found[k][np.isfinite(found[k])]
            if known.size:
                low[k] = min(low[k], float(np.min(known)))
                high[k] = max(high[k], float(np.max(known)))
    if not all(low[k] <= high[k] for k in group.outputs):
        raise TransformationError(f"the image reaches no finite place of {way.target.name!r}")
    return {k: (low[k], high[k]) for k in group.outputs}


def _border(ends: Sequence[Floats], *, curved: bool) -> Iterator[list[Floats]]:
    """Yield points on the faces of a box, or its corners only, as arrays that broadcast."""
    if not curved:
        yield _mesh(ends)
        return
    count = {1: 1025, 2: 1025, 3: 65}.get(len(ends), 17)
    lines = [np.linspace(float(end[0]), float(end[1]), count) for end in ends]
    for axis, end in enumerate(ends):
        yield _mesh([*lines[:axis], end, *lines[axis + 1 :]])


def _even_grid(axis: Axis, low: float, high: float, size: float) -> xr.Variable:
    """Return the centres of pixels of one size from one end to the other."""
    count = max(1, math.ceil((high - low) / size - 1e-6))
    if count > _MOST:
        raise SelectionError(
            f"{axis.name}: pixels of {size:.6g} would be {count}, more than {_MOST}: give larger "
            "ones, or crop the image"
        )
    first = float(f"{round(low / size + 0.5, 9) * size:.15g}")
    return xr.Variable(axis.name, first + np.arange(count) * size, _attrs(axis, size))


def _back(way: _Way, whole: Graph, name: str) -> Transformation | None:
    """Return what leads back to where the image is, or None where that has to be solved.

    A stored inverse counts more than one that is computed.
    """
    full = whole.systems[name], whole.systems.get(way.source.name)
    if full[0] is None or full[1] is None:
        return None
    try:
        path = whole.path(name, way.source.name)
        there = _way(full[0], way.source.name, path, whole)
        names = {axis.name for axis in way.target.axes}
        kept = [k for k, axis in enumerate(full[0].axes) if axis.name in names]
        there = _restricted(there, kept)
    except TransformationError:
        return None
    same = [axis.name for axis in there.target.axes] == [axis.name for axis in way.source.axes]
    return there.function.transformation if same else None


def _said_of(before: Obj, whole: Graph, way: _Way, name: str, plan: _Plan) -> dict[str, Any] | None:
    """Return the metadata of the result; None leaves them as they are."""
    said = _Said(image.ome(before), whole, "")
    if way.is_identity and said.local(way, name) == way.source.name:
        return None
    if plan.is_whole:
        return said.after(way, name, replace(plan.layout, is_ordinary=True))
    return {key: value for key, value in said.ome.items() if key not in _SYSTEMS}


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """Which axes of an array are interpolated together, and what becomes of the others.

    Parameters
    ----------
    way
        Where the array goes.
    array
        The source.
    layout
        The groups of its axes.
    grids
        The coordinates of the axes that are resampled, by their number.
    back
        What leads back, where that is known.
    """

    way: _Way
    array: xr.DataArray
    layout: _Layout
    grids: Mapping[int, xr.Variable]
    back: Transformation | None

    @property
    def is_whole(self) -> bool:
        """Tell whether every dimension of the result is an axis of the system."""
        return all(group.outputs for group in self.layout.groups)

    def result(self, method: Method, fill: Any, said: dict[str, Any] | None) -> xr.DataArray:
        """Return the image on the grids."""
        positions = [_numeric(self.array, axis) for axis in self.way.source.axes]
        names = [axis.name for axis in self.way.source.axes]
        slots: dict[str, list[int]] = {}  # the grids that stand in the place of a dimension
        parts: list[tuple[_Group, _Function]] = []
        for group in self.layout.groups:
            if group.inputs and self._is_resampled(group):
                parts.append((group, self._inverse(group, positions)))
                places = [dim for dim in self.array.dims if dim in {names[i] for i in group.inputs}]
                lines = [k for k in group.outputs if self.grids[k].ndim]
                slots |= {str(dim): [] for dim in places}
                slots |= {str(dim): [k] for dim, k in zip(places, lines, strict=False)}
        axes: list[_Axis] = []
        for number, dim in enumerate(map(str, self.array.dims)):
            if dim in slots:
                axes += [_Axis(grid=k) for k in slots[dim]]
            else:
                axes.append(_Axis(source=number))
        source = _Resampled(
            self.array.variable,
            axes,
            [self._part(group, function, axes) for group, function in parts],
            method,
            fill,
        )
        dims = [self._dim(axis) for axis in axes]
        attrs = self.array.attrs if said is None else {**self.array.attrs, "ome": said}
        return xr.DataArray(
            xr.Variable(dims, indexing.LazilyIndexedArray(source), attrs),
            coords=self._coordinates(positions, set(slots)),
            name=self.array.name,
        )

    def _is_resampled(self, group: _Group) -> bool:
        return any(k in self.grids for k in group.outputs)

    def _dim(self, axis: _Axis) -> str:
        if axis.grid is not None:
            return self.way.target.axes[axis.grid].name
        name = str(self.array.dims[axis.source or 0])
        return self.layout.renamed.get(name, name)

    def _coordinates(
        self, positions: Sequence[xr.DataArray], gone: set[str]
    ) -> dict[str, xr.Variable]:
        """Return the coordinates of the result: new ones, and those that nothing changed."""
        axes = self.way.target.axes
        found = {axes[k].name: grid for k, grid in self.grids.items()}
        for group in self.layout.groups:
            for k in group.outputs if not self._is_resampled(group) else ():
                if axes[k].name in self.layout.created:
                    found[axes[k].name] = _coordinate(
                        self.array, self.way, k, positions, self.layout
                    )
        for name, coordinate in self.array.coords.items():
            new = self.layout.renamed.get(str(name), str(name))
            dims = [str(dim) for dim in coordinate.dims]
            if new in found or str(name) in self.layout.dropped or gone.intersection(dims):
                continue
            found[new] = coordinate.variable.to_base_variable().copy(deep=False)
            found[new].dims = tuple(self.layout.renamed.get(dim, dim) for dim in dims)
        return found

    def _inverse(self, group: _Group, positions: Sequence[xr.DataArray]) -> _Function:
        """Return what leads from the axes of a group to fractional indices of the array."""
        if len(group.inputs) != len(group.outputs):
            names = [
                ", ".join(system.axes[i].name for i in numbers)
                for system, numbers in (
                    (self.way.source, group.inputs),
                    (self.way.target, group.outputs),
                )
            ]
            raise TransformationError(
                f"axes {names[1]} of {self.way.target.name!r} come from {names[0]}: there is no "
                "way back to pixels; keep all axes that mix, by a slice instead of a position"
            )
        back = self._solved(group, positions)
        along = _side_by_side([_along(positions[i]).inverse() for i in group.inputs])
        return _Function(Steps((_forgiving(back), along)), len(group.outputs))

    def _solved(self, group: _Group, positions: Sequence[xr.DataArray]) -> Transformation:
        fixed = [np.asarray(0.0 if p.ndim else p.values) for p in positions]
        linear = self.way.function.linear
        if self.back is not None:
            others = tuple(k for k in range(len(self.way.target.axes)) if k not in group.outputs)
            here = [
                0.0
                if k in group.outputs or not self._is_fixed(k)
                else float(self.way.function.output(k, fixed))
                for k in range(len(self.way.target.axes))
            ]
            dropped = tuple(i for i in range(len(self.way.source.axes)) if i not in group.inputs)
            given = (ProjectAxis((), others), Translation(tuple(here)), self.back)
            return Steps((*given, ProjectAxis(dropped, ())))
        if linear is None:
            raise TransformationError(
                f"nothing leads from {self.way.target.name!r} back to {self.way.source.name!r}"
            )
        rows = [
            (*linear[k, list(group.inputs)].tolist(), float(self.way.function.output(k, fixed)))
            for k in group.outputs
        ]
        return Affine(tuple(rows)).inverse()

    def _is_fixed(self, number: int) -> bool:
        """Tell whether an axis of the system depends on no dimension: all stand at one place."""
        return any(group.outputs == (number,) and not group.inputs for group in self.layout.groups)

    def _part(self, group: _Group, function: _Function, axes: Sequence[_Axis]) -> _Part:
        names = [self.way.source.axes[i].name for i in group.inputs]
        grids = [_in_unit(self.grids[k], self.way.target.axes[k]) for k in group.outputs]
        return _Part(
            sources=tuple(list(self.array.dims).index(name) for name in names),
            outputs=tuple(
                next((n for n, axis in enumerate(axes) if axis.grid == k), None)
                for k in group.outputs
            ),
            grids=tuple(grids),
            function=function,
        )


def _in_unit(grid: xr.Variable, axis: Axis) -> Floats:
    coordinate = xr.DataArray(grid)
    factor = units.factor(geometry.unit(coordinate), axis.unit)
    return geometry.numbers(coordinate).reshape(grid.shape) * factor


def _forgiving(transformation: Transformation) -> Transformation:
    """Return a transformation that gives NaN where an inverse finds nothing, instead of raising."""
    match transformation:
        case NumericInverse():
            return _Found(transformation)
        case Steps(parts):
            return Steps(tuple(map(_forgiving, parts)))
        case Bijection(forward, backward):
            return Bijection(_forgiving(forward), backward)
        case ByDimension(parts):
            return ByDimension(
                tuple(replace(p, transformation=_forgiving(p.transformation)) for p in parts)
            )
    return transformation


@dataclass(frozen=True, slots=True)
class _Found:
    """A searched inverse that gives NaN for what it does not find."""

    search: NumericInverse

    def apply(self, points: ArrayLike) -> Floats:
        targets = np.asarray(points, dtype=np.float64)
        flat = targets.reshape(-1, targets.shape[-1])
        result, solved = self.search.transformation.solve(flat)
        return np.where(solved[:, None], result, np.nan).reshape(targets.shape)

    def inverse(self) -> Transformation:
        return self.search.inverse()

    def ndim_out(self, ndim: int) -> int:
        return self.search.ndim_out(ndim)

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        return self.search.dependence(ndim)


@dataclass(frozen=True, slots=True)
class _Axis:
    """An axis of the result: one of the source's that passes through, or a grid."""

    source: int | None = None
    grid: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Axes that are interpolated together.

    Parameters
    ----------
    sources
        Axes of the source.
    outputs
        Axes of the result, one for each grid; None where the grid is one position.
    grids
        Where the pixels of the result are.
    function
        From there to fractional indices of the source, one for each of its axes.
    """

    sources: tuple[int, ...]
    outputs: tuple[int | None, ...]
    grids: tuple[Floats, ...]
    function: _Function

    @property
    def axes(self) -> list[int]:
        """The axes of the result, which rise."""
        return [axis for axis in self.outputs if axis is not None]

    def look(self, places: Sequence[NDArray[np.intp]], shape: Sequence[int]) -> _Look:
        """Return where the pixels of a block are in a source of a shape."""
        inputs = [
            grid if axis is None else grid[places[axis]]
            for grid, axis in zip(self.grids, self.outputs, strict=True)
        ]
        found = self.function(_mesh(inputs))
        block = tuple(len(places[axis]) for axis in self.axes)
        inside = np.ones(block, dtype=np.bool_)
        indices = []
        for axis, index in zip(self.sources, found, strict=True):
            whole = np.round(index)
            index = np.where(np.abs(index - whole) < _NOISE, whole, index)
            last = shape[axis] - 1
            with np.errstate(invalid="ignore"):  # NaN: nowhere
                inside &= (index >= -0.5 - _NOISE) & (index <= last + 0.5 + _NOISE)
            indices.append(np.clip(index, 0, last))
        return _Look(self, indices, inside)


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """Where the pixels of a block are in the source: fractional indices, and which are inside."""

    part: _Part
    indices: list[Floats]
    inside: NDArray[np.bool_]

    def box(self) -> dict[int, slice]:
        """Return what of the source is needed, by its axis."""
        found = {}
        for axis, index in zip(self.part.sources, self.indices, strict=True):
            used = np.broadcast_to(index, self.inside.shape)[self.inside]
            found[axis] = slice(math.floor(np.min(used)), math.ceil(np.max(used)) + 1)
        return found

    def values(self, flat: NDArray[Any], box: Sequence[slice], method: Method) -> NDArray[Any]:
        """Return the pixels of the block from those of the box, whose axes are one, the last."""
        strides = [math.prod(s.stop - s.start for s in box[i + 1 :]) for i in range(len(box))]
        taps = []
        for index, part, stride in zip(self.indices, box, strides, strict=True):
            inside = np.where(self.inside, index, part.start) - part.start
            taps.append(_taps(inside, stride, method))
        if method == "nearest":
            return np.take(flat, reduce(np.add, [place for ((place, _),) in taps]), axis=-1)
        kind = np.result_type(flat.dtype, np.float64)
        total = np.zeros((*flat.shape[:-1], *self.inside.shape), dtype=kind)
        for corner in itertools.product(*taps):
            weight = reduce(np.multiply, [weight for _, weight in corner])
            if not weight.any():
                continue
            found = np.take(flat, reduce(np.add, [place for place, _ in corner]), axis=-1)
            with np.errstate(invalid="ignore"):  # 0 times infinity, which does not count
                share = found * weight
            np.add(total, share, out=total, where=weight != 0)
        return total


def _taps(index: Floats, stride: int, method: Method) -> list[tuple[NDArray[np.intp], Floats]]:
    """Return the pixels that count along an axis, as flat indices, and how much each does."""
    if method == "nearest":
        return [(np.floor(index + (0.5 + _NOISE)).astype(np.intp) * stride, np.ones(()))]
    first = np.floor(index)
    beyond = index - first
    place = first.astype(np.intp) * stride
    return [(place, 1 - beyond), (place + np.where(beyond > 0, stride, 0), beyond)]


@dataclass(frozen=True, slots=True, eq=False)
class _Tile:
    """A part of a block, by the axes that are grids: where it looks, and what box it needs."""

    where: Mapping[int, slice]
    looks: Sequence[_Look]
    box: Mapping[int, slice]


class _Resampled(BackendArray):
    """An image on other grids, computed where it is read.

    Parameters
    ----------
    source
        The pixels.
    axes
        What each axis of the result is.
    parts
        What is interpolated. All other axes pass through.
    method, fill
        How, and what stands outside.
    """

    def __init__(
        self,
        source: xr.Variable,
        axes: Sequence[_Axis],
        parts: Sequence[_Part],
        method: Method,
        fill: Any,
    ) -> None:
        self._source = source
        self._axes = axes
        self._parts = parts
        self._method: Method = method
        self._fill = fill
        sizes = {
            axis: grid.size
            for part in parts
            for axis, grid in zip(part.outputs, part.grids, strict=True)
        }
        self.shape = tuple(
            sizes[n] if axis.source is None else source.shape[axis.source]
            for n, axis in enumerate(axes)
        )
        self.dtype = source.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        vectorized = isinstance(key, indexing.VectorizedIndexer)
        return indexing.explicit_indexing_adapter(
            key,
            self.shape,
            indexing.IndexingSupport.VECTORIZED,
            self._at if vectorized else self._over,
        )

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        return self[key]

    def _over(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Return the block of all combinations of indices."""
        places = _indices(key, self.shape)
        result = np.empty([max(p.size, 0) for p in places], dtype=self.dtype)
        self._fill_block(result, [np.atleast_1d(p) for p in places])
        return result.reshape([p.size for p in places if p.ndim])

    def _at(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Return single pixels: those of a run that is close together from one block."""
        spread = np.broadcast_arrays(*_indices(key, self.shape))
        flat = np.stack([places.ravel() for places in spread])
        result = np.empty(flat.shape[1], dtype=self.dtype)
        runs = [slice(0, flat.shape[1])] if flat.shape[1] else []
        while runs:
            run = runs.pop()
            low, high = flat[:, run].min(axis=1), flat[:, run].max(axis=1)
            if math.prod((high - low + 1).tolist()) > _PIXELS and run.stop - run.start > 1:
                runs += _halves(run)
                continue
            block = self._over(tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True)))
            result[run] = block[tuple(flat[:, run] - low[:, None])]
        return result.reshape(spread[0].shape)

    def _fill_block(self, result: NDArray[Any], places: list[NDArray[np.intp]]) -> None:
        """Compute a block, in halves as long as it or what it needs of the source is large."""
        if not result.size:
            return
        gridded = [n for n, axis in enumerate(self._axes) if axis.source is None]
        count = math.prod(len(places[n]) for n in gridded)
        if count <= _PIXELS:
            tiles = list(self._tiles(places, gridded))
            if not tiles:
                result[...] = self._fill
                return
            box = {
                axis: slice(
                    min(tile.box[axis].start for tile in tiles),
                    max(tile.box[axis].stop for tile in tiles),
                )
                for axis in tiles[0].box
            }
            if math.prod(part.stop - part.start for part in box.values()) <= _BOX or count == 1:
                self._interpolate(result, places, tiles, box)
                return
        longest = max(gridded, key=lambda n: len(places[n]))
        middle = len(places[longest]) // 2
        for half in (slice(None, middle), slice(middle, None)):
            some = [p[half] if n == longest else p for n, p in enumerate(places)]
            inside = tuple(half if n == longest else slice(None) for n in range(result.ndim))
            self._fill_block(result[inside], some)

    def _tiles(self, places: Sequence[NDArray[np.intp]], gridded: Sequence[int]) -> Iterator[_Tile]:
        """Yield the tiles of a block that some of the source is in."""
        for piece in _pieces([len(places[n]) for n in gridded], _TILE):
            where = dict(zip(gridded, piece, strict=True))
            some = [p[where.get(n, slice(None))] for n, p in enumerate(places)]
            looks = [part.look(some, self._source.shape) for part in self._parts]
            if all(look.inside.any() for look in looks):
                box = {axis: part for look in looks for axis, part in look.box().items()}
                yield _Tile(where, looks, box)

    def _interpolate(
        self,
        result: NDArray[Any],
        places: Sequence[NDArray[np.intp]],
        tiles: Sequence[_Tile],
        box: Mapping[int, slice],
    ) -> None:
        """Compute a block, some of the axes that pass through at a time."""
        result[...] = self._fill
        volume = math.prod(part.stop - part.start for part in box.values())
        count = max(math.prod(look.inside.size for look in tile.looks) for tile in tiles)
        passing = [n for n, axis in enumerate(self._axes) if axis.source is not None]
        most = max(1, min(_BOX // volume, _PIXELS // count))
        for piece in _pieces([len(places[n]) for n in passing], most):
            taken = dict(zip(passing, piece, strict=True))
            key: list[Any] = [None] * self._source.ndim
            for n, part in taken.items():
                key[self._axes[n].source or 0] = _compact(places[n][part])
            for axis, part in box.items():
                key[axis] = part
            pixels = np.asarray(self._source[tuple(key)].values)
            for tile in tiles:
                values = self._in_order(_cropped(pixels, tile.box, box), tile)
                where = tuple({**taken, **tile.where}[n] for n in range(result.ndim))
                inside = self._inside(tile.looks, result.ndim)
                result[where] = np.where(inside, _rounded(values, self.dtype), self._fill)

    def _inside(self, looks: Sequence[_Look], ndim: int) -> NDArray[np.bool_]:
        """Return which pixels of a block are inside, in a shape that broadcasts."""
        result = np.ones([1] * ndim, dtype=np.bool_)
        for look in looks:
            shape = [1] * ndim
            for axis, size in zip(look.part.axes, look.inside.shape, strict=True):
                shape[axis] = size
            result = result & look.inside.reshape(shape)
        return result

    def _in_order(self, pixels: NDArray[Any], tile: _Tile) -> NDArray[Any]:
        """Return a tile from the pixels of its box, its axes in the order of the result."""
        names: list[tuple[str, int]] = [("source", n) for n in range(pixels.ndim)]
        for look in tile.looks:
            sources = [("source", axis) for axis in look.part.sources]
            rest = [name for name in names if name not in sources]
            turned = pixels.transpose([names.index(name) for name in (*rest, *sources)])
            flat = turned.reshape(*turned.shape[: len(rest)], -1)
            inner = [tile.box[axis] for axis in look.part.sources]
            pixels = look.values(flat, inner, self._method)
            names = [*rest, *(("result", axis) for axis in look.part.axes)]
        wanted = [
            ("result", n) if axis.source is None else ("source", axis.source)
            for n, axis in enumerate(self._axes)
        ]
        return pixels.transpose([names.index(name) for name in wanted])


def _cropped(
    pixels: NDArray[Any], wanted: Mapping[int, slice], held: Mapping[int, slice]
) -> NDArray[Any]:
    """Return a smaller box of the source from a larger one."""
    key: list[slice] = [slice(None)] * pixels.ndim
    for axis, part in wanted.items():
        first = held[axis].start
        key[axis] = slice(part.start - first, part.stop - first)
    return pixels[tuple(key)]


def _compact(places: NDArray[np.intp]) -> Any:
    """Return indices as a slice, where they are one."""
    steps = np.diff(places)
    if places.size and (steps == (steps[0] if steps.size else 1)).all():
        step = int(steps[0]) if steps.size else 1
        if step > 0:
            return slice(int(places[0]), int(places[-1]) + 1, step)
    return places


def _rounded(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values as pixels of a type: rounded half to even where it is of integers."""
    if values.dtype == dtype or dtype.kind not in "iu":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    high = float(limits.max)
    if high > limits.max:  # the next float is one too many
        high = np.nextafter(high, 0)
    return np.clip(np.rint(values), float(limits.min), high).astype(dtype)
