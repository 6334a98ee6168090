"""Regions of interest (ROI) of OME-XML -> GeoJSON, as viewers here draw and read it.

Their numbers are pixels from the corner of an image; here they are positions, in the units of the
axes. https://docs.openmicroscopy.org/ome-model/6.3.1/developers/roi.html
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from ngff_xarray.converting.found import Size

Point = tuple[float, float]
Json = dict[str, Any]
Made = tuple[str, Any]
"""The kind of a geometry, and its points."""

_CORNERS = 64  # of a polygon that stands for an ellipse
_MOST = 100_000  # shapes
_KEPT = ("TheZ", "TheT", "TheC")


def of_images(root: ElementTree.Element) -> tuple[dict[str, list[ElementTree.Element]], int]:
    """Return the shapes by the ID of their image, and how many there are that have no place here.

    These are masks, shapes that are turned by a transformation, and those of no image.
    """
    shapes = {
        each.get("ID", ""): [shape for union in each if _tag(union) == "Union" for shape in union]
        for each in root
        if _tag(each) == "ROI"
    }
    found: dict[str, list[ElementTree.Element]] = {}
    used: set[int] = set()
    for image in (each for each in root if _tag(each) == "Image"):
        for ref in (each for each in image if _tag(each) == "ROIRef"):
            known = [shape for shape in shapes.get(ref.get("ID", ""), ()) if _made(shape)]
            found.setdefault(image.get("ID", ""), []).extend(known[:_MOST])
            used |= {id(shape) for shape in known[:_MOST]}
    total = sum(map(len, shapes.values())) + sum(not each for each in shapes.values())
    return found, total - len(used)


def features(
    shapes: Sequence[ElementTree.Element],
    sizes: Mapping[str, Size],
    origins: Mapping[str, float],
) -> list[Json]:
    """Return shapes of an image as Features of GeoJSON.

    Parameters
    ----------
    shapes
        As OME-XML has them.
    sizes, origins
        Of pixels, and where the first one is.

    Examples
    --------
    >>> shape = ElementTree.fromstring('<Line X1="0.5" Y1="0.5" X2="10.5" Y2="0.5" Text="a"/>')
    >>> sizes = {"x": (0.5, "micrometer"), "y": (0.5, "micrometer")}
    >>> (found,) = features([shape], sizes, {"x": 100.0})
    >>> found["geometry"]
    {'type': 'LineString', 'coordinates': [[100.0, 0.0], [105.0, 0.0]]}
    >>> found["properties"]["unit"], found["properties"]["name"]
    ('micrometer', 'a')
    """
    units = [sizes.get(axis, (1.0, None))[1] for axis in "xy"]
    steps = [sizes.get(axis, (1.0, None))[0] for axis in "xy"]
    if units[0] != units[1]:
        units, steps, origins = [None, None], [1.0, 1.0], {}
    starts = [origins.get(axis, 0.0) for axis in "xy"]

    def placed(point: Point) -> list[float]:
        # the first pixel is from 0 to 1, and its centre is where it begins
        sides = zip(point, steps, starts, strict=True)
        return [float(f"{start + (at - 0.5) * step:.12g}") for at, step, start in sides]

    return [_feature(shape, placed, units[0]) for shape in shapes]


def _feature(
    shape: ElementTree.Element, placed: Callable[[Point], list[float]], unit: str | None
) -> Json:
    made = _made(shape)
    assert made is not None
    kind, points = made
    where = [placed(point) for point in points]
    said: Json = {"objectType": "annotation", "axes": ["x", "y"]}
    if unit is not None:
        said["unit"] = unit
    if shape.get("Text"):
        said["name"] = shape.get("Text")
    said |= {key: int(text) for key in _KEPT if (text := shape.get(key, "")).isdecimal()}
    if kind == "Polygon":
        coordinates: Any = [[*where, where[0]]]
    else:
        coordinates = where[0] if kind == "Point" else where
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": said}


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _made(shape: ElementTree.Element) -> Made | None:
    """Return the geometry of a shape in pixels; None if it is none that GeoJSON has."""
    make = _KINDS.get(_tag(shape))
    if make is None or any(_tag(each) == "Transform" for each in shape):
        return None
    try:
        made = make(lambda name: float(shape.get(name, "")), shape)
    except ValueError:
        return None
    is_finite = all(math.isfinite(number) for point in made[1] for number in point)
    return made if made[1] and is_finite else None


Get = Callable[[str], float]


def _rectangle(get: Get, _: ElementTree.Element) -> Made:
    x, y, width, height = (get(name) for name in ("X", "Y", "Width", "Height"))
    return "Polygon", [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def _ellipse(get: Get, _: ElementTree.Element) -> Made:
    x, y, wide, high = (get(name) for name in ("X", "Y", "RadiusX", "RadiusY"))
    angles = (2 * math.pi * i / _CORNERS for i in range(_CORNERS))
    return "Polygon", [(x + wide * math.cos(a), y + high * math.sin(a)) for a in angles]


def _point(get: Get, _: ElementTree.Element) -> Made:
    return "Point", [(get("X"), get("Y"))]


def _line(get: Get, _: ElementTree.Element) -> Made:
    return "LineString", [(get("X1"), get("Y1")), (get("X2"), get("Y2"))]


def _polygon(_: Get, shape: ElementTree.Element) -> Made:
    found = list(_points(shape))
    return ("Polygon", found) if len(found) > 2 else ("LineString", found)


def _polyline(_: Get, shape: ElementTree.Element) -> Made:
    return "LineString", list(_points(shape))


def _points(shape: ElementTree.Element) -> Iterator[Point]:
    numbers = re.findall(r"[^\s,]+", shape.get("Points", ""))
    values = [float(text) for text in numbers]
    yield from zip(values[::2], values[1::2], strict=True)


_KINDS: Mapping[str, Callable[[Get, ElementTree.Element], Made]] = {
    "Rectangle": _rectangle,
    "Ellipse": _ellipse,
    "Point": _point,
    "Label": _point,
    "Line": _line,
    "Polygon": _polygon,
    "Polyline": _polyline,
}
