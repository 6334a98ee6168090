"""What ``datasource-properties.json`` of a WEBKNOSSOS dataset says, looked at closely."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngff_xarray import units
from ngff_xarray.converting.found import Size
from ngff_xarray.errors import MetadataError
from ngff_xarray.spec.values import is_integer, is_number, is_relative
from ngff_xarray.text import printable

MAX_LAYERS, MAX_MAGS = 2**10, 64
_MAX_NUMBER = 2**40  # voxels along an axis: more is damage
_MAX_SIZE = 1e50  # in any unit: floats must hold what is made of it

_DTYPES = {"uint24": "uint8", "float": "float32", "double": "float64"}

Fail = Callable[[str, str], MetadataError]
"""Makes the error of a JSON path and what is wrong there."""


@dataclass(frozen=True)
class Mag:
    """One resolution of a layer.

    Parameters
    ----------
    factors
        How many voxels of the dataset one of its is long, by axis.
    path
        Of its array below the dataset, "" where it is not said.
    order
        The number of axes by name, where it is said.
    channel
        The only channel of the array that is the layer's.
    """

    factors: Mapping[str, int]
    path: str
    order: Mapping[str, int]
    channel: int | None


@dataclass(frozen=True)
class Layer:
    """One image of a dataset, or one of labels.

    Parameters
    ----------
    name, format
        Its name, and how its arrays are stored.
    is_labels
        Whether it is a segmentation.
    box
        What of the dataset it covers, by axis, in voxels of the dataset.
    dtype, channels
        Of its arrays; the dtype is "" where it is not said.
    mags
        The finest first.
    affine
        (4, 4): where it lies in the dataset, in voxels; None where it is as it is.
    is_bent
        Whether it lies there by something else than affines.
    said
        All that is said of it.
    view
        How it is to be shown.
    """

    name: str
    format: str
    is_labels: bool
    box: Mapping[str, range]
    dtype: str
    channels: int
    mags: tuple[Mag, ...]
    affine: NDArray[np.float64] | None
    is_bent: bool
    said: Mapping[str, Any]
    view: Mapping[str, Any]

    def value(self, key: str, kind: type) -> Any:
        """Return what its view is said to be, None where that is of another type."""
        found = self.view.get(key)
        return found if isinstance(found, kind) else None


@dataclass(frozen=True)
class Dataset:
    """A dataset: its voxel size by axis, and its layers."""

    sizes: Mapping[str, Size]
    layers: tuple[Layer, ...]


def parse(document: Mapping[str, Any], fail: Fail) -> Dataset:
    """Return what a document says.

    Raises
    ------
    MetadataError
        If it cannot be used.
    """
    listed = document.get("dataLayers")
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_LAYERS:
        found = len(listed) if isinstance(listed, list) else _shown(listed)
        raise fail("dataLayers", f"expected a list of 1 to {MAX_LAYERS} layers, found {found}")
    views = _object(_object(document.get("defaultViewConfiguration")).get("layers"))
    layers = tuple(_layer(each, views, f"dataLayers[{i}]", fail) for i, each in enumerate(listed))
    names = [layer.name for layer in layers]
    if len(set(names)) < len(names):
        raise fail("dataLayers", f"expected different names, found {_shown(names)}")
    return Dataset(_sizes(document, fail), layers)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _shown(value: Any) -> str:
    return printable(json.dumps(value, default=str), 100)


def _sizes(document: Mapping[str, Any], fail: Fail) -> dict[str, Size]:
    """Return the size of a voxel; three plain numbers, of older datasets, are nanometers."""
    said = document.get("scale")
    factor, unit = (said, "nanometer") if isinstance(said, list) else (None, None)
    if isinstance(said, dict):
        factor, unit = said.get("factor"), said.get("unit", "nanometer")
    if said is None:
        return {}
    known = units.unit_name(unit) if isinstance(unit, str) else None
    good = isinstance(factor, list) and len(factor) == 3 and all(map(_is_size, factor))
    if not good or known is None:
        raise fail("scale", f"expected three sizes and a unit of length, found {_shown(said)}")
    assert isinstance(factor, list)
    return {axis: (float(n), known) for axis, n in zip("xyz", factor, strict=True)}


def _is_size(value: Any) -> bool:
    return is_number(value) and 1 / _MAX_SIZE < value < _MAX_SIZE


def _layer(said: Any, views: Mapping[str, Any], where: str, fail: Fail) -> Layer:
    if not isinstance(said, dict):
        raise fail(where, f"expected an object, found {_shown(said)}")
    name = said.get("name")
    if not isinstance(name, str) or not is_relative(name) or "/" in name:
        raise fail(f"{where}.name", f"expected the name of a folder, found {_shown(name)}")
    kinds = ("color", "segmentation")
    if said.get("category") not in kinds:
        raise fail(
            f"{where}.category", f"expected one of {kinds}, found {_shown(said.get('category'))}"
        )
    dtype = str(said.get("elementClass") or "")
    count = said.get("numChannels", 3 if dtype == "uint24" else 1)
    if not is_integer(count, 1) or count > 2**16:
        raise fail(f"{where}.numChannels", f"expected a number, found {_shown(count)}")
    mags = said.get("mags", said.get("wkwResolutions"))
    if not isinstance(mags, list) or not 0 < len(mags) <= MAX_MAGS:
        raise fail(f"{where}.mags", f"expected a list of 1 to {MAX_MAGS}, found {_shown(mags)}")
    read = [_mag(mag, name, f"{where}.mags[{i}]", fail) for i, mag in enumerate(mags)]
    affine, is_bent = _affine(said.get("coordinateTransformations"), where, fail)
    return Layer(
        name,
        str(said.get("dataFormat")),
        said["category"] == "segmentation",
        _box(said, where, fail),
        _dtype(dtype, int(count)),
        int(count),
        tuple(sorted(read, key=lambda mag: math.prod(mag.factors.values()))),
        affine,
        is_bent,
        said,
        {**_object(said.get("defaultViewConfiguration")), **_object(views.get(name))},
    )


def _dtype(text: str, channels: int) -> str:
    """Return the dtype of one channel; WEBKNOSSOS says how many bits all of them have."""
    kind = text.rstrip("0123456789")
    bits = text[len(kind) :]
    if text in _DTYPES or not bits or channels == 1:
        return _DTYPES.get(text, text)
    return f"{kind}{int(bits[:6]) // channels}"


def _box(said: Mapping[str, Any], where: str, fail: Fail) -> dict[str, range]:
    place = f"{where}.boundingBox"
    found: Any = said.get("boundingBox")
    corner = found.get("topLeft") if isinstance(found, dict) else None
    if not isinstance(corner, list) or len(corner) != 3:
        raise fail(place, f"expected topLeft, width, height and depth, found {_shown(found)}")
    box = {}
    for axis, start, key in zip("xyz", corner, ("width", "height", "depth"), strict=True):
        size = found.get(key)
        if not (_is_count(start, 0) and _is_count(size, 1)):
            text = f"expected voxels from 0 on, found {_shown(start)} and {key} {_shown(size)}"
            raise fail(place, text)
        box[axis] = range(int(start), int(start) + int(size))
    more = said.get("additionalAxes") or []
    if not isinstance(more, list) or len(more) > 8:
        raise fail(f"{where}.additionalAxes", f"expected a list of axes, found {_shown(more)}")
    for i, each in enumerate(more):
        axis, bounds = _additional(each, box)
        if not axis:
            text = f"expected a name of its own and bounds, found {_shown(each)}"
            raise fail(f"{where}.additionalAxes[{i}]", text)
        box[axis] = bounds
    return box


def _additional(said: Any, known: Mapping[str, Any]) -> tuple[str, range]:
    """Return the name and bounds of an axis beside those of space, "" where they are none."""
    name: Any = said.get("name") if isinstance(said, dict) else None
    bounds: Any = said.get("bounds") if isinstance(said, dict) else None
    named = isinstance(name, str) and name not in (*known, "c")
    bounded = isinstance(bounds, list) and len(bounds) == 2
    if not (named and bounded and all(_is_count(end, 0) for end in bounds)):
        return "", range(0)
    return name if bounds[0] < bounds[1] else "", range(int(bounds[0]), int(bounds[1]))


def _is_count(value: Any, least: int) -> bool:
    return is_integer(value, least) and value < _MAX_NUMBER


def _mag(said: Any, layer: str, where: str, fail: Fail) -> Mag:
    if not isinstance(said, dict):
        said = {"mag": said}
    value = said.get("mag", said.get("resolution"))
    factors = _factors(value)
    if factors is None:
        raise fail(f"{where}.mag", f"expected a number, or three, found {_shown(value)}")
    order = said.get("axisOrder")
    if not isinstance(order, dict) or not all(_is_count(n, 0) for n in order.values()):
        order = {}
    channel = said.get("channelIndex")
    if channel is not None and not _is_count(channel, 0):
        raise fail(f"{where}.channelIndex", f"expected a number, found {_shown(channel)}")
    return Mag(factors, _path(said.get("path"), where, fail), order, channel)


def _factors(value: Any) -> dict[str, int] | None:
    """Return the factors of a mag: ``2``, ``"2"``, ``"2-2-1"`` or ``[2, 2, 1]``."""
    if isinstance(value, str):
        parts = value.split("-")
        value = [int(part) for part in parts if part.isascii() and part.isdecimal()]
        value = value if len(value) == len(parts) else None
    elif is_integer(value):
        value = [value]
    if not isinstance(value, list) or len(value) not in (1, 3):
        return None
    if not all(_is_count(n, 1) for n in value):
        return None
    return dict(zip("xyz", [int(n) for n in value] * (4 - len(value)), strict=False))


def _path(value: Any, where: str, fail: Fail) -> str:
    """Return the path of an array below the dataset; no other one is followed."""
    if value is None:
        return ""
    parts = value.split("/") if isinstance(value, str) else []
    path = "/".join(part for part in parts if part not in ("", "."))
    is_below = isinstance(value, str) and "://" not in value and not value.startswith("/")
    if not (is_below and path and is_relative(path) and "\\" not in path):
        raise fail(
            f"{where}.path",
            f"{_shown(value)} leads out of the dataset, where nothing is read: copy the layer "
            "into the dataset, or open it there",
        )
    return path


def _affine(said: Any, where: str, fail: Fail) -> tuple[NDArray[np.float64] | None, bool]:
    """Return the affine of a layer, and whether something else bends it."""
    if not isinstance(said, list) or not said:
        return None, False
    whole = np.eye(4)
    for i, each in enumerate(said[:100]):
        kind = each.get("type") if isinstance(each, dict) else None
        if kind != "affine":
            return None, True
        rows = each.get("matrix")
        is_good = isinstance(rows, list) and len(rows) == 4
        is_good = is_good and all(isinstance(row, list) and len(row) == 4 for row in rows)
        is_good = is_good and all(is_number(n) and abs(n) < _MAX_SIZE for row in rows for n in row)
        whole = np.asarray(rows, dtype=float) @ whole if is_good else whole
        if not is_good or np.abs(whole).max() > _MAX_SIZE:
            text = f"expected a matrix of 4 x 4 numbers, found {_shown(rows)}"
            raise fail(f"{where}.coordinateTransformations[{i}]", text)
    return (None if np.array_equal(whole, np.eye(4)) else whole), False
