"""The graph of an object: its coordinate systems, what leads from one to another, parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import image
from ngff_xarray.errors import TransformationError
from ngff_xarray.image import Obj, level_nodes, level_paths, levels
from ngff_xarray.model import Axis, CoordinateSystem, Json
from ngff_xarray.spec import transformations
from ngff_xarray.spec.systems import parse_system
from ngff_xarray.systems import Graph, Link
from ngff_xarray.transforms import Field, Identity, Transformation
from ngff_xarray.world.positions import _along, _numeric, _picked, _placement, _side_by_side
from ngff_xarray.world.restoring import restored

INTRINSIC = "intrinsic"  # the only system of an image that names none
ARRAY = "array"  # the pixel indices of an object that is a level, and has no path
_FIELD_AXES = frozenset({"displacement", "coordinate"})


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
        those of each image and of each scene in it as ``path/name``.

    Examples
    --------
    >>> list(coordinate_systems(xr.DataArray([[0]], dims=("y", "x"))))
    ['intrinsic']
    """
    obj = restored(obj)
    if not isinstance(obj, xr.DataTree) or not _is_scene(obj):
        return _own_systems(obj)
    found: dict[str, CoordinateSystem] = {}
    for path, node in _scenes(obj).items():
        for system in _described_systems(node.attrs["ome"]["scene"]):
            found.setdefault(_key(path, system.name), system)
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


def _scenes(obj: Obj) -> dict[str, xr.DataTree]:
    """Return a scene, under ``""``, and the scenes in it by path; none where it is no scene."""
    return _with_inner(obj, "") if isinstance(obj, xr.DataTree) and _is_scene(obj) else {}


def _with_inner(node: xr.DataTree, prefix: str) -> dict[str, xr.DataTree]:
    found = {prefix: node} if _is_scene(node) else {}
    for name, child in node.children.items():
        if "ome" not in child.attrs or image.group_kind(child):
            found |= _with_inner(child, _key(prefix, name))
    return found


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
    for path, inner in _scenes(obj).items():
        _add_links(inner, inner.attrs["ome"]["scene"], path, systems, links)
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
            whole = isinstance(self.obj, xr.DataTree)
            where = (
                "this tree: the store has none there (see .ngff.issues), or they were taken out"
                if whole
                else "an object of one level: take the tree as it was opened"
            )
            raise TransformationError(f"the parameters at {path!r} are not in {where}")
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
