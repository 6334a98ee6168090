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
class Level:
    """One resolution: the path of its array, and how its indices become coordinates."""

    path: str
    transformation: Transformation
    extra: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Multiscale:
    """One image at several resolutions, finest first."""

    axes: tuple[Axis, ...]
    levels: tuple[Level, ...]
    name: str | None = None
    type: str | None = None
    metadata: Any = None
    extra: Json = field(default_factory=dict)


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
class Window:
    """A display range: ``start`` is drawn black and ``end`` in the channel's full colour."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel: its name on the channel axis, and how the store asks to draw it.

    ``color`` and ``window`` are None where the store says nothing usable.
    """

    name: str
    color: RGB | None = None
    window: Window | None = None
    active: bool = True
