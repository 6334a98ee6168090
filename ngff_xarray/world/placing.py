"""Coordinates in another system: ordinary where axes are separable, lazy where they mix."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray import geometry, image, transforms
from ngff_xarray.errors import NotOmeError, TransformationError
from ngff_xarray.image import levels
from ngff_xarray.model import Axis, CoordinateSystem, Json
from ngff_xarray.ops import rebuilt
from ngff_xarray.spec.axes import write_axis
from ngff_xarray.systems import Graph
from ngff_xarray.transforms import Sequence as Steps
from ngff_xarray.world.connections import (
    _described_systems,
    _images,
    _is_implied,
    _key,
    _labels,
    _own_systems,
    current_system,
    graph,
)
from ngff_xarray.world.positions import Floats, _numeric, _picked
from ngff_xarray.world.restoring import (
    _SYSTEMS,
    Nodes,
    NodeT,
    ObjT,
    _with_levels,
    _with_ome,
    restored,
)
from ngff_xarray.world.ways import _Function, _Group, _groups, _present, _restricted, _Way, _way


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
