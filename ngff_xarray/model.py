"""What an OME-Zarr image says, apart from any version of the specification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ngff_xarray.transforms import Transformation

RGB = tuple[int, int, int]
RGBA = tuple[int, int, int, int]
Json = Mapping[str, Any]

_TYPES_BY_NAME = {
    "t": "time",
    "time": "time",
    "c": "channel",
    "channel": "channel",
    "z": "space",
    "y": "space",
    "x": "space",
}


def axis_type(name: str) -> str | None:
    """Return the type that the name of an axis suggests, where nothing says it.

    Examples
    --------
    >>> axis_type("Z"), axis_type("angle")
    ('space', None)
    """
    return _TYPES_BY_NAME.get(name.lower())


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of an image.

    Parameters
    ----------
    name
        The name that the array's dimension gets.
    type
        ``"space"``, ``"time"``, ``"channel"``, another word, or None where the store says nothing.
    unit
        The specification's name of the unit, or None where there is none or none that it lists.
    long_name
        A longer name for people.
    extra
        What else the store says: keys this package does not use, and ``unit`` in the store's
        own spelling where that differs.
    """

    name: str
    type: str | None = None
    unit: str | None = None
    long_name: str | None = None
    extra: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CoordinateSystem:
    """A named space with one axis a coordinate."""

    name: str
    axes: tuple[Axis, ...]


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution: the path of its array, and how its indices become coordinates.

    ``transformation`` is None where the version has none (before 0.4): the level is then placed
    by its size. ``extra`` holds the keys beside these, and under ``coordinateTransformations``
    those of its transformations that are not used, by their type.
    """

    path: str
    transformation: Transformation | None
    extra: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Multiscale:
    """One image at several resolutions, finest first.

    Parameters
    ----------
    axes, levels
        The axes of the intrinsic coordinate system, and the resolutions.
    name, type, metadata
        As stored.
    extra
        Keys beside these that this package does not use.
    intrinsic
        The name of the coordinate system that the levels lead to; None before 0.6.
    systems, transformations
        All coordinate systems, and the transformations beyond those of the levels, as version
        0.6 writes them.
    """

    axes: tuple[Axis, ...]
    levels: tuple[Level, ...]
    name: str | None = None
    type: str | None = None
    metadata: Any = None
    extra: Json = field(default_factory=dict)
    intrinsic: str | None = None
    systems: tuple[Json, ...] = ()
    transformations: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """Everything that the group of an image says about it.

    Parameters
    ----------
    multiscale
        The pyramid.
    omero
        Channels and rendering settings, as stored (the same in every version).
    image_label
        Colours, properties and source of a label image, as stored; None for other images.
    extra
        Keys beside these that this package does not use.
    """

    multiscale: Multiscale
    omero: Json | None = None
    image_label: Json | None = None
    extra: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Well:
    """One well of a plate: its path below the plate, and the names of its row and column."""

    path: str
    row: str
    column: str


@dataclass(frozen=True, slots=True)
class Plate:
    """A plate: the names of rows and columns in order, and the wells that it lists.

    ``document`` is what the store says, without its version.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    wells: tuple[Well, ...]
    document: Json
    extra: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fields:
    """What the group of a well says: the paths of its fields of view."""

    paths: tuple[str, ...]
    document: Json
    extra: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Collection:
    """A group of images: those of ``bioformats2raw``, its ``OME`` group, or a labels group.

    ``paths`` are those that the group itself lists, None where it lists none.
    """

    paths: tuple[str, ...] | None
    document: Json


@dataclass(frozen=True, slots=True)
class Scene:
    """Images that share coordinate systems (0.6): the paths of the images, and the document.

    ``document`` is what the store says, its transformations as version 0.6 writes them.
    """

    paths: tuple[str, ...]
    document: Json
    extra: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Window:
    """A display range: ``start`` is drawn black and ``end`` in the channel's full colour."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel: its name on the channel axis, and how the store asks to draw it.

    Parameters
    ----------
    name
        Its name on the channel axis.
    color, window
        None where the store says nothing usable.
    active
        Whether it is drawn unless another choice is made.
    gamma
        What lies at ``v`` of the window, 0 to 1, is drawn as ``v**gamma``.
    inverted
        Whether the colour stands for the start of the window instead of its end.
    colormap
        The name of a colormap to draw it in, instead of the one from black to its colour.
    """

    name: str
    color: RGB | None = None
    window: Window | None = None
    active: bool = True
    gamma: float = 1.0
    inverted: bool = False
    colormap: str | None = None
