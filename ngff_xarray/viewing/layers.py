"""xarray objects -> layers of one world: their levels, where each lies, and what they hold."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import channels, geometry, image, overlay, units
from ngff_xarray.errors import NotOmeError, SelectionError
from ngff_xarray.image import Obj
from ngff_xarray.model import RGBA, Channel, Json
from ngff_xarray.overlay import Labels
from ngff_xarray.spec import image_label, omero
from ngff_xarray.text import printable
from ngff_xarray.viewing.affine import Affine, Bounds
from ngff_xarray.viewing.sources import Source, source

Plane = tuple[str, str]
"""The world's axes that are drawn: downwards, and to the right."""

_SHOWN_ENTRIES = 8  # properties of one label


@dataclass(frozen=True, eq=False)
class Along:
    """Where the pixels along an axis are.

    Parameters
    ----------
    count
        How many there are.
    first, step
        The position of the first, and from each to the next; the step is None where it is uneven.
    values
        All positions, where the step is uneven.
    names
        What they are called, where they have no positions: those are their numbers then.
    """

    count: int
    first: float
    step: float | None
    values: NDArray[np.float64] | None = None
    names: tuple[str, ...] = ()

    def at(self, index: int) -> float:
        """Return the position of a pixel.

        Examples
        --------
        >>> Along(3, 10.0, -2.0).at(2)
        6.0
        """
        if self.values is not None:
            return float(self.values[index])
        return self.first + index * (self.step or 0.0)

    def index(self, position: float) -> int:
        """Return the pixel that is nearest to a position.

        Examples
        --------
        >>> Along(3, 10.0, -2.0).index(7.2), Along(3, 10.0, -2.0).index(100)
        (1, 0)
        """
        if self.values is not None:
            return int(np.argmin(np.abs(self.values - position)))
        nearest = round((position - self.first) / self.step) if self.step else 0
        return min(max(nearest, 0), self.count - 1)

    def holds(self, position: float) -> bool:
        """Tell whether a position lies on a pixel; that of an axis of one pixel is everywhere."""
        if self.count <= 1:
            return self.count == 1
        ends = self.at(0), self.at(self.count - 1)
        half = abs(ends[1] - ends[0]) / (self.count - 1) / 2 * (1 + 1e-6)
        return min(ends) - half <= position <= max(ends) + half


@dataclass(frozen=True, eq=False)
class Dimension:
    """An axis that is not drawn, with the positions that a slider has.

    Parameters
    ----------
    name, type, unit, long_name
        As of the first layer that has it.
    along
        Its positions there.
    """

    name: str
    type: str | None
    unit: str | None
    along: Along
    long_name: str | None = None

    @property
    def count(self) -> int:
        """How many positions there are."""
        return self.along.count

    @property
    def step(self) -> float | None:
        """From each position to the next; None where that is uneven."""
        return self.along.step

    def at(self, index: int) -> float:
        """Return a position by its number."""
        return self.along.at(index)

    def index(self, position: float) -> int:
        """Return the number of the nearest position."""
        return self.along.index(position)

    def text(self, position: float) -> str:
        """Return a position as people read it.

        Examples
        --------
        >>> Dimension("z", "space", "micrometer", Along(3, 0.0, 1.5)).text(1.5)
        '1.5 µm'
        """
        if self.along.names:
            return printable(self.along.names[self.index(position)])
        return with_unit(position, self.unit)


def with_unit(value: float, unit: str | None) -> str:
    """Return a number and the symbol of its unit."""
    text = f"{value + 0.0:.6g}"  # no minus zero
    return f"{text} {units.symbol(unit)}" if unit else text


@dataclass(frozen=True, eq=False)
class Placed:
    """One coordinate of the world at every pixel: linear in the indices of the array.

    Parameters
    ----------
    origin
        At the centre of the first pixel.
    steps
        From a pixel to the next, by axis of the array.
    """

    origin: float
    steps: Mapping[str, float]

    def at(self, indices: Mapping[str, int]) -> float:
        """Return it where some axes have an index, and the others 0."""
        return self.origin + sum(self.steps.get(dim, 0.0) * i for dim, i in indices.items())


@dataclass(frozen=True, eq=False)
class LayerLevel:
    """One resolution of a layer.

    Parameters
    ----------
    source
        Its pixels.
    dims
        The axes of the array.
    plane
        Those that are drawn: downwards, and to the right.
    x, y
        Where its pixels are in the world.
    along
        Where they are along the other axes, in the units of the world.
    """

    source: Source
    dims: tuple[str, ...]
    plane: Plane
    x: Placed
    y: Placed
    along: Mapping[str, Along]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        down, right = self.plane
        return self.size(down), self.size(right)

    def size(self, dim: str) -> int:
        """Return how many pixels there are along an axis."""
        return self.source.shape[self.dims.index(dim)]

    def chunk(self, dim: str) -> int:
        """Return how many pixels a chunk has along an axis."""
        return self.source.chunks[self.dims.index(dim)]

    def affine(self, indices: Mapping[str, int] | None = None) -> Affine:
        """Return where the plane at some indices of the other axes lies."""
        down, right = self.plane
        others = {d: i for d, i in (indices or {}).items() if d not in self.plane}
        a, b = self.x.steps.get(right, 0.0), self.y.steps.get(right, 0.0)
        c, d = self.x.steps.get(down, 0.0), self.y.steps.get(down, 0.0)
        if a * d == b * c:  # all pixels on one line: drawn beside each other all the same
            a, b, c, d = a or 1.0, 0.0, 0.0, d or 1.0
        return Affine(a, b, c, d, self.x.at(others) - (a + c) / 2, self.y.at(others) - (b + d) / 2)

    def indices(self, position: Mapping[str, float]) -> dict[str, int]:
        """Return the pixel along each axis that is not drawn nearest to a position."""
        return {
            dim: along.index(position[dim]) if dim in position else 0
            for dim, along in self.along.items()
        }


class Scenery(Protocol):
    """What is drawn of a layer besides its pixels, and said of its places."""

    @property
    def revision(self) -> int:
        """Another number whenever what was drawn so far is to be drawn anew."""

    def painted(self, rgb: NDArray[np.uint8], matrix: Affine) -> NDArray[np.uint8]:
        """Return a picture of the layer with what belongs around its pixels.

        Parameters
        ----------
        rgb
            (y, x, 3).
        matrix
            Where it lies in the world.
        """

    def at(self, x: float, y: float) -> tuple[str, float, float]:
        """Return what a point of the world is called, and its coordinates there."""

    def samples(self, layer: Layer) -> tuple[LayerLevel, list[tuple[int, int, int, int]]]:
        """Return a level, and parts of it (top, bottom, left, right) that stand for all values."""


@dataclass(frozen=True, eq=False)
class Layer:
    """An image or a label image among the layers of a world.

    Parameters
    ----------
    name
        What it is called, unlike all others.
    kind
        ``"image"`` or ``"labels"``.
    levels
        Its resolutions, finest first.
    channel_dim
        The axis of channels, if there is one.
    channels
        What the store says of each.
    depth
        The axes of space that are not drawn, to project over.
    labels
        The label images that lie over it.
    said
        What the store says of it apart from geometry.
    start
        Which index of each axis that is not drawn to begin at.
    """

    name: str
    kind: str
    levels: tuple[LayerLevel, ...]
    channel_dim: str | None
    channels: tuple[Channel, ...]
    depth: tuple[str, ...]
    labels: tuple[Layer, ...]
    said: Json
    start: Mapping[str, int]
    arrays: tuple[xr.DataArray, ...] = field(repr=False)
    number: int = field(default_factory=itertools.count().__next__)
    """Tells the layers apart in a cache, also on another plane."""
    scenery: Scenery | None = None
    """What is drawn around its pixels, if anything."""

    @property
    def revision(self) -> int:
        """Another number whenever what was drawn so far is to be drawn anew."""
        return 0 if self.scenery is None else self.scenery.revision

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its pixels."""
        return self.levels[0].source.dtype

    @property
    def is_empty(self) -> bool:
        """Whether there is no pixel to draw."""
        return 0 in self.levels[0].source.shape

    @property
    def value_range(self) -> tuple[float, float]:
        """The smallest and largest value that its pixels can have; (0, 1) of floats."""
        if self.dtype.kind not in "iu":
            return 0.0, 1.0
        bounds = np.iinfo(self.dtype)
        return float(bounds.min), float(bounds.max)

    @property
    def extent(self) -> Bounds | None:
        """The rectangle of the world that it lies in; None if it is empty."""
        if self.is_empty:
            return None
        level = self.levels[0]
        rows, columns = level.shape
        return level.affine(self.start).bounds(0, 0, columns, rows)

    def holds(self, position: Mapping[str, float]) -> bool:
        """Tell whether a position on the axes that are not drawn lies in it."""
        along = self.levels[0].along
        return all(along[dim].holds(at) for dim, at in position.items() if dim in along)

    def colors(self, labels: Iterable[int]) -> dict[int, RGBA]:
        """Return the stored colours of some labels."""
        return image_label.colors_of(self._tables["colors"], labels)

    @property
    def properties(self) -> Mapping[int, Json]:
        """What the store says of each label."""
        return self._tables["properties"]

    @cached_property
    def _tables(self) -> _Tables:
        return _Tables(self.said.get("image-label"))

    def about(self, label: int, most: int = 200) -> str:
        """Return the properties of a label as one short line of plain text."""
        entry = self.properties.get(label, {})
        said = itertools.islice(
            ((key, value) for key, value in entry.items() if key != "label-value"),
            _SHOWN_ENTRIES,
        )
        return printable(
            ", ".join(f"{printable(key, 40)} {_readable(value)}" for key, value in said), most
        )


class _Tables(dict[str, Mapping[int, Json]]):
    """The stored colours and properties by label: of millions that takes a while, so only once."""

    def __init__(self, said: Any) -> None:
        super().__init__()
        self._said = said if isinstance(said, dict) else {}
        self._lock = threading.Lock()

    def __getitem__(self, key: str) -> Mapping[int, Json]:
        with self._lock:
            if key not in self:
                self[key] = image_label.entries(self._said, key)
            return super().__getitem__(key)


def _readable(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else printable(value, 80)


@dataclass(frozen=True, eq=False)
class World:
    """Layers over one another, in one plane.

    Parameters
    ----------
    layers
        Bottom first.
    down, right
        The axes that are drawn.
    unit
        The unit of both; None where there is none: pixels.
    dims
        The axes that are not drawn, but for channels, of all layers.
    space
        The axes of space of the first layer, to choose planes of.
    """

    layers: tuple[Layer, ...]
    down: str
    right: str
    unit: str | None
    dims: tuple[Dimension, ...]
    space: tuple[str, ...]

    @property
    def extent(self) -> Bounds | None:
        """The rectangle around all layers; None where all are empty."""
        found = [layer.extent for layer in self.layers]
        known = [bounds for bounds in found if bounds is not None]
        known = [bounds for bounds in known if all(map(math.isfinite, bounds))]
        if not known:
            return None
        left, top, right, bottom = zip(*known, strict=True)
        return min(left), min(top), max(right), max(bottom)

    def layer(self, name: str) -> Layer:
        """Return a layer by name.

        Raises
        ------
        SelectionError
            If there is none.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = ", ".join(layer.name for layer in self.layers)
        raise SelectionError(f"there is no layer {name!r}; the layers are {names}")

    def on(self, plane: Plane) -> World:
        """Return the same layers on another plane; those that do not have its axes are left out.

        Raises
        ------
        SelectionError
            If no layer has these axes, or they are one.
        """
        down, right = plane
        frame = _Frame(down, right, self.unit)
        turned = [_turned(layer, frame) for layer in self.layers]
        layers = tuple(layer for layer in turned if layer is not None)
        if down == right or not layers:
            choices = ", ".join(self.space)
            raise SelectionError(f"plane: expected two axes of {choices}, found {plane!r}")
        return replace(self, layers=layers, down=down, right=right, dims=_dimensions(layers))


@dataclass(frozen=True)
class _Frame:
    """The plane that layers are to lie in."""

    down: str
    right: str
    unit: str | None


def make_world(
    objects: Obj | Sequence[Obj] | Mapping[str, Obj],
    *,
    labels: Labels = True,
    plane: Plane | None = None,
) -> World:
    """Return layers of images and label images in one world; no pixel is read.

    Parameters
    ----------
    objects
        A tree of levels, a Dataset or an array; several of them, bottom first; or by name. Their
        coordinates say where they lie.
    labels
        The label images to lay over the first image that has them: a name, a list of names, a
        label image, or True for all label images of every image.
    plane
        The axes to draw downwards and to the right; by default y and x of the first layer.

    Raises
    ------
    NotOmeError
        If there is no image, or one that cannot be drawn.
    SelectionError
        If there is no such label image or axis.
    UnitError
        If the units of two layers do not fit.

    Examples
    --------
    >>> array = xr.DataArray(np.zeros((4, 8, 6)), dims=("z", "y", "x"), name="noise")
    >>> world = make_world(array)
    >>> world.layers[0].name, world.extent, [dim.name for dim in world.dims]
    ('noise', (-0.5, -0.5, 5.5, 7.5), ['z'])
    >>> make_world(array, plane=("z", "y")).extent
    (-0.5, -0.5, 7.5, 3.5)
    """
    named = _named(objects)
    first = image.levels(named[0][1])[0]
    space = _world_axes(first)
    down, right = _default_plane(first, space)
    unit = geometry.unit(first[right]) if right in first.coords else None
    frame = _Frame(down, right, unit)
    layers = []
    for name, obj in named:
        over, labels = _labels(obj, labels)
        layers.append(_layer(name, obj, frame, over))
    world = World(tuple(layers), down, right, unit, _dimensions(layers), space)
    return world if plane is None or plane == (down, right) else world.on(plane)


def _named(objects: Any) -> list[tuple[str, Obj]]:
    """Return the images and the names of their layers, all different."""
    if isinstance(objects, xr.DataArray | xr.Dataset | xr.DataTree):
        objects = [objects]
    if isinstance(objects, Mapping):
        found = [(str(name), obj) for name, obj in objects.items()]
    elif isinstance(objects, Sequence) and not isinstance(objects, str):
        found = [("", obj) for obj in objects]
    else:
        raise NotOmeError(f"{type(objects).__name__} is no image: expected an xarray object")
    if not found:
        raise NotOmeError("there is nothing to view: expected one image or more")
    for _, obj in found:
        if not isinstance(obj, xr.DataArray | xr.Dataset | xr.DataTree):
            raise NotOmeError(f"{type(obj).__name__} is no image: expected an xarray object")
    taken: set[str] = set()
    return [(_free(name or _name(obj), taken), obj) for name, obj in found]


def _name(obj: Obj) -> str:
    if image.kind(obj) not in ("image", "labels"):
        raise NotOmeError(f"this is a {image.kind(obj)}, no image: open one of its images")
    own = None if isinstance(obj, xr.Dataset) else obj.name
    return image.name(obj) or str(own or image.kind(obj))


def _free(name: str, taken: set[str]) -> str:
    """Return a name that is not taken, and take it."""
    name = printable(name)
    numbered = (f"{name} {i}" for i in itertools.count(2))
    free = next(each for each in itertools.chain([name], numbered) if each not in taken)
    taken.add(free)
    return free


def _world_axes(array: xr.DataArray) -> tuple[str, ...]:
    """Return the axes of space that an image lies in: those of its arrays, or its system's."""
    placed = image.ome(array).get("placed") or {}
    created = [name for name in placed.get("axes", ()) if _is_space(array.coords.get(name))]
    before = placed.get("before", {})
    own = [axis.name for axis in image.axes(array) if axis.type == "space"]
    found = [*(name for name in own if name not in before), *created]
    order = [
        axis.get("name")
        for system in placed.get("coordinateSystems", ())
        if system.get("name") == placed.get("system")
        for axis in system.get("axes", ())
    ]
    if len(found) < 2:
        found = own if len(own) >= 2 else list(image.plane_dims(array))
    return tuple(sorted(found, key=lambda name: order.index(name) if name in order else -1))


def _is_space(coordinate: xr.DataArray | None) -> bool:
    return (
        coordinate is not None
        and coordinate.ndim > 0
        and coordinate.attrs.get("axis_type", "space") == "space"
    )


def _default_plane(array: xr.DataArray, space: Sequence[str]) -> Plane:
    """Return y and x, or the last two axes of the world."""
    by_letter = {name.lower(): name for name in space}
    if "y" in by_letter and "x" in by_letter:
        return by_letter["y"], by_letter["x"]
    return space[-2], space[-1]


def _labels(obj: Obj, labels: Labels) -> tuple[dict[str, Obj], Labels]:
    """Return the label images to lay over an image, by name, and what is left for the next."""
    known = image.label_images(obj) if image.kind(obj) == "image" else {}
    if labels is True:
        return dict(known), True
    if isinstance(labels, xr.DataArray | xr.DataTree):
        return {image.name(labels) or "labels": labels}, None
    if labels and not known:
        return {}, labels
    names = [labels] if isinstance(labels, str) else labels or ()
    return dict(zip(names, overlay.label_images(obj, labels), strict=True)), None


def _layer(name: str, obj: Obj, frame: _Frame, over: Mapping[str, Obj]) -> Layer:
    arrays = image.levels(obj)
    if arrays[0].dtype.kind not in "buif":
        raise NotOmeError(
            f"{arrays[0].dtype} is no dtype of pictures: expected integers or floats: convert it, "
            "as with abs() or .astype('float32')"
        )
    kind = image.kind(obj)
    if kind == "labels" and arrays[0].dtype.kind == "f":
        raise NotOmeError(
            f"labels must be integers to be drawn, found {arrays[0].dtype}: convert them, as with "
            ".astype('uint32')"
        )
    taken: set[str] = set()
    labels = tuple(
        replace(_layer(_free(path, taken), label, frame, {}), kind="labels")
        for path, label in over.items()
    )
    unplaced = Layer(
        name=name,
        kind=kind,
        levels=(),
        channel_dim=image.channel_dim(arrays[0]),
        channels=_channels(arrays[0], obj),
        depth=(),
        labels=labels,
        said=image.ome(obj),
        start={},
        arrays=arrays,
    )
    sources = tuple(source(array.variable) for array in arrays)
    layer = _on(unplaced, frame, sources)
    if layer is None:
        raise SelectionError(
            f"layer {name!r} has no axes to draw as {frame.down} and {frame.right}"
        )
    return layer


def _channels(array: xr.DataArray, obj: Obj) -> tuple[Channel, ...]:
    """Return the channels as they are to be drawn."""
    stored = channels.stored(image.with_ome(array, image.ome(obj) or None), obj)
    if "chunks" not in array.encoding and image.ome(obj).get("omero"):
        # of values that were computed, the window of those in the store says nothing
        return tuple(replace(channel, window=None) for channel in stored)
    return stored


def _turned(layer: Layer, frame: _Frame) -> Layer | None:
    found = _on(layer, frame, tuple(level.source for level in layer.levels))
    if found is None:
        return None
    labels = (_turned(each, frame) for each in layer.labels)
    return replace(found, labels=tuple(each for each in labels if each is not None))


def _on(layer: Layer, frame: _Frame, sources: Sequence[Source]) -> Layer | None:
    """Return a layer placed on a plane; None if it does not have its axes."""
    plane = _array_plane(layer.arrays[0], frame)
    if plane is None or layer.channel_dim in plane:
        return None
    levels = tuple(
        _level(array, pixels, plane, frame, layer.channel_dim)
        for array, pixels in zip(layer.arrays, sources, strict=True)
    )
    space = [axis.name for axis in image.axes(layer.arrays[0]) if axis.type == "space"]
    return replace(
        layer,
        levels=levels,
        depth=tuple(dim for dim in space if dim not in plane),
        start={dim: _start(layer, dim, along.count) for dim, along in levels[0].along.items()},
    )


def _array_plane(array: xr.DataArray, frame: _Frame) -> Plane | None:
    """Return the dimensions of an array that are drawn where the world's axes are."""
    own = dict(zip(("down", "right"), image.plane_dims(array), strict=True))
    found: list[str] = []
    for side, name in (("right", frame.right), ("down", frame.down)):
        dims = [str(dim) for dim in array.coords[name].dims] if name in array.coords else []
        dims = dims or ([name] if name in array.dims else [])
        free = [dim for dim in dims if dim not in found]
        likely = own[side]
        if likely in free:
            found.append(likely)
        elif free:
            found.append(free[-1] if side == "right" else free[0])
        elif name.lower() in ("x", "y") or not _has_other(array, name):
            found.append(likely)
    if len(found) < 2 or found[0] == found[1]:
        return None
    return found[1], found[0]


def _has_other(array: xr.DataArray, name: str) -> bool:
    """Tell whether an array has its own y and x, so that another name is a third axis."""
    letters = {str(dim).lower() for dim in array.dims}
    return {"x", "y"} <= letters and name.lower() not in letters


def _level(
    array: xr.DataArray, pixels: Source, plane: Plane, frame: _Frame, channel_dim: str | None
) -> LayerLevel:
    down, right = plane
    dims = tuple(str(dim) for dim in array.dims)
    return LayerLevel(
        source=pixels,
        dims=dims,
        plane=plane,
        x=_placed(array, frame.right, right, frame.unit),
        y=_placed(array, frame.down, down, frame.unit),
        along={dim: _along(array[dim]) for dim in dims if dim not in plane and dim != channel_dim},
    )


def _placed(array: xr.DataArray, name: str, dim: str, unit: str | None) -> Placed:
    """Return where the pixels of an array are along an axis of the world."""
    coordinate = array.coords[name] if name in array.coords else array[dim]
    if not coordinate.ndim or dim not in coordinate.dims:
        coordinate = array[dim]
    if not geometry.is_numeric(coordinate) or not coordinate.size:
        return Placed(0.0, {dim: geometry.pixel_size(coordinate) or 1.0})
    factor = units.factor(geometry.unit(coordinate), unit)
    origin, steps = _steps(coordinate)
    if not all(map(math.isfinite, (origin * factor, *steps.values()))):
        return Placed(0.0, {dim: 1.0})
    return Placed(origin * factor, {axis: step * factor for axis, step in steps.items()})


def _steps(coordinate: xr.DataArray) -> tuple[float, dict[str, float]]:
    """Return the first position, and the mean step along each axis, from the corners."""
    dims = [str(dim) for dim in coordinate.dims]
    first = _corner(coordinate, {})
    if len(dims) == 1:
        return first, {dims[0]: _along(coordinate).step or _mean_step(coordinate, dims[0], first)}
    return first, {dim: _mean_step(coordinate, dim, first) for dim in dims}


def _corner(coordinate: xr.DataArray, ends: Mapping[str, int]) -> float:
    at = {str(dim): ends.get(str(dim), 0) for dim in coordinate.dims}
    return float(geometry.numbers(coordinate.isel(at))[0])


def _mean_step(coordinate: xr.DataArray, dim: str, first: float) -> float:
    count = coordinate.sizes[dim]
    return (_corner(coordinate, {dim: -1}) - first) / (count - 1) if count > 1 else 0.0


def _along(coordinate: xr.DataArray) -> Along:
    """Return the positions along an axis of its own."""
    count = coordinate.size
    if not geometry.is_numeric(coordinate):
        return Along(count, 0.0, 1.0, names=tuple(map(str, coordinate.values.tolist())))
    if not count:
        return Along(0, 0.0, 1.0)
    values = geometry.numbers(coordinate)
    if not np.isfinite(values).all():
        return Along(count, 0.0, 1.0)
    size = geometry.pixel_size(coordinate)
    if size is None and count > 1:
        return Along(count, float(values[0]), None, values)
    return Along(count, float(values[0]), math.copysign(size or 1.0, values[-1] - values[0]))


def _start(layer: Layer, dim: str, count: int) -> int:
    """Return where to begin along an axis: where the store says, or a sensible place."""
    kind = {axis.name: axis.type for axis in image.axes(layer.arrays[0])}[dim]
    index = omero.default_index(layer.said.get("omero"), kind, dim)
    if index is None or not 0 <= index < count:
        index = count // 2 if kind == "space" else 0
    return index


def _dimensions(layers: Sequence[Layer]) -> tuple[Dimension, ...]:
    """Return the axes that are not drawn, each as the first layer has it that has more of it."""
    found: dict[str, Dimension] = {}
    for layer in _all(layers):
        axes = {axis.name: axis for axis in image.axes(layer.arrays[0])}
        for dim, along in layer.levels[0].along.items():
            known = found.get(dim)
            if known is None or known.count < 2 <= along.count:
                axis = axes[dim]
                found[dim] = Dimension(dim, axis.type, axis.unit, along, axis.long_name)
    return tuple(found.values())


def _all(layers: Sequence[Layer]) -> Iterator[Layer]:
    for layer in layers:
        yield layer
        yield from layer.labels
