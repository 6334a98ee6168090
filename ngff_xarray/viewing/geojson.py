"""Regions as GeoJSON has them: polygons, in units or in pixels."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ngff_xarray.errors import SelectionError
from ngff_xarray.text import printable

Points = tuple[tuple[float, float], ...]
Json = dict[str, Any]

_LISTS = {"FeatureCollection": "features", "GeometryCollection": "geometries"}


def feature(points: Points, axes: Sequence[str], unit: str | None) -> Json:
    """Return a polygon as a Feature.

    Examples
    --------
    >>> found = feature(((0, 0), (2, 0), (2, 1)), ("x", "y"), "micrometer")
    >>> found["geometry"]["coordinates"]
    [[[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 0.0]]]
    """
    ring = [[float(x), float(y)] for x, y in (*points, points[0])]
    said: Json = {"objectType": "annotation", "axes": list(axes)}
    if unit is not None:
        said["unit"] = unit
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": said,
    }


def read(source: Any) -> Json:
    """Return the GeoJSON of a path, of text, of a mapping, or of what has a ``__geo_interface__``.

    Raises
    ------
    SelectionError
        If there is none in it.
    """
    found = getattr(source, "__geo_interface__", source)
    if isinstance(found, os.PathLike) or (
        isinstance(found, str) and found.lstrip()[:1] not in ("{", "[")
    ):
        found = Path(found).expanduser().read_text(encoding="utf-8")
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except (ValueError, RecursionError) as error:
            raise SelectionError(f"this is no GeoJSON: {error}") from error
    if isinstance(found, list):  # as QuPath writes several
        found = {"type": "FeatureCollection", "features": found}
    if not isinstance(found, Mapping) or not isinstance(found.get("type"), str):
        raise SelectionError(f"this is no GeoJSON: expected a type, found {printable(found, 200)}")
    return dict(found)


def polygons(document: Json, said: Mapping[str, Any] | None = None) -> Iterator[tuple[Points, Any]]:
    """Yield the corners of each polygon, and the properties of its Feature.

    Raises
    ------
    SelectionError
        If there is anything else: a hole, a line, a point.
    """
    kind, said = document.get("type"), said or {}
    if kind in _LISTS:
        for each in _listed(document, _LISTS[kind]):
            yield from polygons(read(each), said)
    elif kind == "Feature":
        yield from polygons(read(document.get("geometry")), document.get("properties") or {})
    elif kind == "Polygon":
        yield _ring(_listed(document, "coordinates")), said
    elif kind == "MultiPolygon":
        for rings in _listed(document, "coordinates"):
            yield _ring(rings), said
    else:
        raise SelectionError(f"a region is a Polygon or a MultiPolygon, found {printable(kind)!r}")


def _listed(document: Json, key: str) -> Any:
    found = document.get(key)
    if not isinstance(found, list | tuple):
        raise SelectionError(f"this is no GeoJSON: {key}: expected a list, found {found!r:.100}")
    return found


def _ring(rings: Any) -> Points:
    """Return the corners of a polygon, each once."""
    if not isinstance(rings, list | tuple) or len(rings) != 1:
        raise SelectionError("a region has one outline and no holes: leave them out, or fill them")
    try:
        corners = np.asarray(rings[0], dtype=float)
    except (TypeError, ValueError) as error:
        raise SelectionError(f"the corners of a polygon are numbers: {error}") from error
    if corners.ndim != 2 or corners.shape[1] < 2 or len(corners) < 4:
        raise SelectionError("a polygon has three corners or more, the first again at the end")
    if (corners[0] == corners[-1]).all():
        corners = corners[:-1]
    return tuple((float(x), float(y)) for x, y in corners[:, :2])


def is_upright_rectangle(points: Points) -> bool:
    """Tell whether four corners are those of a rectangle along the axes."""
    if len(points) != 4:
        return False
    xs, ys = {x for x, _ in points}, {y for _, y in points}
    steps = zip(points, (*points[1:], points[0]), strict=True)
    along = all((a == c) != (b == d) for (a, b), (c, d) in steps)
    return along and len(xs) == len(ys) == 2
