"""Regions drawn on a picture: selections to use with ``.ngff.sel``, and masks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import xarray as xr

from ngff_xarray import geometry, image, units
from ngff_xarray.errors import SelectionError
from ngff_xarray.viewing import geojson

_ROWS = 2**20  # pixels of a mask that are decided at once

Shape = Literal["rectangle", "polygon"]


@dataclass(frozen=True)
class Roi(Mapping[str, slice]):
    """A region of a plane: a mapping of axes to slices, as ``.ngff.sel`` takes them.

    Parameters
    ----------
    kind
        ``"rectangle"`` or ``"polygon"``.
    points
        Its corners as (right, down), in the unit; two opposite ones of a rectangle.
    axes
        The names of the axes to the right and downwards.
    unit
        The specification's name of the unit of both; None where there is none.

    Raises
    ------
    SelectionError
        If there are too few corners, or one is not finite.

    Examples
    --------
    >>> roi = Roi("rectangle", ((10.0, 5.0), (2.0, 7.5)), ("x", "y"), "micrometer")
    >>> roi["x"]
    slice('2.0 micrometer', '10.0 micrometer', None)
    >>> roi.bounds
    (2.0, 5.0, 10.0, 7.5)
    """

    kind: Shape
    points: tuple[tuple[float, float], ...]
    axes: tuple[str, str] = ("x", "y")
    unit: str | None = None

    def __post_init__(self) -> None:
        least = {"rectangle": 2, "polygon": 3}.get(self.kind)
        if least is None:
            raise SelectionError(f"expected a rectangle or a polygon, found {self.kind!r}")
        corners = np.asarray(self.points, dtype=float)
        if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < least:
            raise SelectionError(
                f"a {self.kind} needs at least {least} corners (right, down), "
                f"found {len(self.points)}"
            )
        if not np.isfinite(corners).all():
            raise SelectionError("the corners of a region must be finite numbers")

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The rectangle around it: left, top, right, bottom."""
        corners = np.asarray(self.points)
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        return float(left), float(top), float(right), float(bottom)

    def __getitem__(self, axis: str) -> slice:
        left, top, right, bottom = self.bounds
        ends = dict(zip(self.axes, ((left, right), (top, bottom)), strict=True))[axis]
        if self.unit is None:
            return slice(*ends)
        return slice(*(f"{end!r} {self.unit}" for end in ends))

    def __iter__(self) -> Iterator[str]:
        return iter(self.axes)

    def __len__(self) -> int:
        return len(self.axes)

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """Its corners as (right, down), all four of a rectangle."""
        if self.kind == "polygon":
            return self.points
        left, top, right, bottom = self.bounds
        return (left, top), (right, top), (right, bottom), (left, bottom)

    @property
    def __geo_interface__(self) -> dict[str, Any]:
        """It as GeoJSON in its unit: ``shapely.geometry.shape(roi)``, where that is installed."""
        found: dict[str, Any] = geojson.feature(self.corners, self.axes, self.unit)["geometry"]
        return found

    def to_geojson(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        like: xr.DataArray | xr.Dataset | None = None,
    ) -> dict[str, Any]:
        """Return it as a Feature of GeoJSON, and write that.

        Parameters
        ----------
        path
            Where to write it.
        like
            An image, of which the coordinates then count pixels from the corner of the first one,
            as QuPath and others do: ``tree.ngff.level(0)``. By default they are in the unit,
            which the properties name.

        Examples
        --------
        >>> roi = Roi("rectangle", ((10.0, 5.0), (2.0, 7.5)), ("x", "y"), "micrometer")
        >>> roi.to_geojson()["geometry"]["coordinates"][0][:2]
        [[2.0, 5.0], [10.0, 5.0]]
        >>> Roi.from_geojson(roi.to_geojson())[0].bounds == roi.bounds
        True
        """
        if like is None:
            found = geojson.feature(self.corners, self.axes, self.unit)
        else:
            right, down = (_grid(like, name, self.unit) for name in self.axes)
            pixels = tuple((right.pixel(x), down.pixel(y)) for x, y in self.corners)
            found = geojson.feature(pixels, self.axes, None)
        if path is not None:
            Path(path).expanduser().write_text(json.dumps(found), encoding="utf-8")
        return found

    @classmethod
    def from_geojson(
        cls, source: Any, *, like: xr.DataArray | xr.Dataset | None = None
    ) -> tuple[Self, ...]:
        """Return the regions of GeoJSON: of a path, text, a mapping, or objects of shapely.

        Parameters
        ----------
        source
            Polygons, alone or in Features and collections. Those whose properties name a unit are
            in it.
        like
            The image whose pixels the others count, from the corner of the first one.

        Raises
        ------
        SelectionError
            If there is anything but polygons without holes.

        Examples
        --------
        >>> ring = [[0, 0], [2, 0], [0, 2], [0, 0]]
        >>> (roi,) = Roi.from_geojson({"type": "Polygon", "coordinates": [ring]})
        >>> roi.kind, roi.points
        ('polygon', ((0.0, 0.0), (2.0, 0.0), (0.0, 2.0)))
        """
        found = geojson.polygons(geojson.read(source))
        return tuple(cls._of(points, said, like) for points, said in found)

    @classmethod
    def _of(cls, points: geojson.Points, said: Any, like: xr.DataArray | xr.Dataset | None) -> Self:
        stated = said.get("axes") if isinstance(said, Mapping) else None
        axes = ("x", "y")
        if isinstance(stated, list | tuple) and len(stated) == 2:
            axes = (str(stated[0]), str(stated[1]))
        unit = units.known(said.get("unit")) if isinstance(said, Mapping) else None
        if unit is None and like is not None:
            if not all(name in like.dims for name in axes):
                down, right = image.plane_dims(image.levels(like)[0])
                axes = (right, down)
            unit = geometry.unit(like[axes[0]])
            to_right, to_down = (_grid(like, name, unit) for name in axes)
            points = tuple((to_right.position(x), to_down.position(y)) for x, y in points)
        if geojson.is_upright_rectangle(points):
            return cls("rectangle", (points[0], points[2]), axes, unit)
        return cls("polygon", points, axes, unit)

    def mask(self, array: xr.DataArray | xr.Dataset) -> xr.DataArray:
        """Return which pixels of an image have their centre inside.

        Parameters
        ----------
        array
            With coordinates along both axes, such as ``tree.ngff.level(0)``.

        Returns
        -------
        xarray.DataArray
            bool (down, right), with the coordinates of the array: ``array.where(mask)``.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> array = xr.DataArray(np.zeros((2, 3)), dims=("y", "x"),
        ...                      coords={"y": [0.0, 1.0], "x": [0.0, 1.0, 2.0]})
        >>> Roi("polygon", ((-1, -1), (3, -1), (-1, 3))).mask(array).values.tolist()
        [[True, True, False], [True, False, False]]
        """
        right, down = self.axes
        x, y = (_positions(array, name, self.unit) for name in (right, down))
        inside = np.empty((y.size, x.size), bool)
        step = max(1, _ROWS // max(x.size, 1))
        for start in range(0, y.size, step):
            rows = slice(start, start + step)
            inside[rows] = self._holds(x, y[rows])
        coords = {name: array[name] for name in (down, right) if name in array.coords}
        return xr.DataArray(inside, dims=(down, right), coords=coords, name="mask")

    def _holds(self, x: Any, y: Any) -> Any:
        if self.kind == "rectangle":
            left, top, right, bottom = self.bounds
            return ((y >= top) & (y <= bottom))[:, np.newaxis] & ((x >= left) & (x <= right))
        return _in_polygon(np.asarray(self.points, dtype=float), x, y)


def _in_polygon(corners: Any, x: Any, y: Any) -> Any:
    """Return whether points of a grid lie in a polygon: an odd number of edges to their right."""
    inside = np.zeros((y.size, x.size), bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crossed = (y0 > y) != (y1 > y)
        edge = x0 + (y[crossed] - y0) * ((x1 - x0) / (y1 - y0))
        inside[crossed] ^= x[np.newaxis, :] < edge[:, np.newaxis]
    return inside


class _Grid(NamedTuple):
    """Where pixels lie along an axis: the corner of the first, and the step to the next."""

    start: float
    step: float

    def pixel(self, position: float) -> float:
        return (position - self.start) / self.step

    def position(self, pixel: float) -> float:
        return self.start + pixel * self.step


def _grid(array: xr.DataArray | xr.Dataset, name: str, unit: str | None) -> _Grid:
    centres = _positions(array, name, unit)
    factor = units.factor(geometry.unit(array[name]), unit)
    size = geometry.pixel_size(array[name])
    if size is None:
        raise SelectionError(f"axis {name!r} has uneven pixels, which no position counts")
    step = size * factor * (-1 if centres[-1] < centres[0] else 1)
    return _Grid(float(centres[0]) - step / 2, step)


def _positions(array: xr.DataArray | xr.Dataset, name: str, unit: str | None) -> Any:
    if name not in array.dims:
        names = ", ".join(map(str, array.dims))
        raise SelectionError(f"this region lies on the axis {name!r}; the image has {names}")
    coordinate = array[name]
    if not geometry.is_numeric(coordinate):
        raise SelectionError(f"axis {name!r} has no positions, which a mask needs")
    return geometry.numbers(coordinate) * units.factor(geometry.unit(coordinate), unit)


def roi_of(said: Mapping[str, Any] | None, axes: Sequence[str], unit: str | None) -> Roi | None:
    """Return the region that a canvas describes, None where there is none."""
    if not said:
        return None
    points = tuple((float(x), float(y)) for x, y in said.get("points", ()))
    right, down = axes
    return Roi(said.get("kind", "rectangle"), points, (right, down), unit)
