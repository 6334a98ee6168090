"""Mosaics: the wells of a plate, or the images of a group, in one picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import groups, image, planes
from ngff_xarray.alike import Found, Read, read_images, read_wells
from ngff_xarray.channels import Channels
from ngff_xarray.errors import SelectionError
from ngff_xarray.model import Channel, Window
from ngff_xarray.overlay import Labels
from ngff_xarray.picture import LabelStyle, Picture, finished, paint, shrunk
from ngff_xarray.planes import Choice, Plane
from ngff_xarray.render import Projection
from ngff_xarray.text import printable

MAX_CELLS = 2**14
_SMALLEST, _LARGEST = 4, 512  # sides of a cell in pixels
_NOTHING, _MISSING, _MARK = 255, 222, (200, 30, 30)


@dataclass(frozen=True, slots=True)
class Cell:
    """One image of a mosaic.

    Parameters
    ----------
    row, column
        Where it lies.
    name
        What it is called.
    picture
        What it shows, None where there is nothing or it cannot be read.
    problem
        Why it cannot be read, "" where it can or there is nothing.
    """

    row: int
    column: int
    name: str
    picture: Picture | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Pictures in rows and columns.

    Parameters
    ----------
    cells
        Those that are listed.
    rows, columns
        The names of all rows and columns, empty where they have none.
    height, width
        Of a cell, in pixels.
    channels
        As all of them are drawn.
    """

    cells: tuple[Cell, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    height: int
    width: int
    channels: tuple[Channel, ...]

    def rgb(self) -> NDArray[np.uint8]:
        """Return the whole picture, (y, x, 3) bytes.

        White where there is no well, grey where one is listed and not there, a red cross on grey
        where one cannot be read.
        """
        shape = (len(self.rows) * self.height, len(self.columns) * self.width, 3)
        whole = np.full(shape, _NOTHING, np.uint8)
        gap = 1 if min(self.height, self.width) >= 8 else 0
        for cell in self.cells:
            top, left = cell.row * self.height, cell.column * self.width
            part = whole[top : top + self.height - gap, left : left + self.width - gap]
            part[:] = _MISSING
            if cell.picture is not None:
                _fit(cell.picture.rgb, part)
            elif cell.problem:
                _cross(part)
        return whole


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an image lies in a mosaic."""

    row: int
    column: int
    name: str


def mosaic(
    tree: xr.DataTree,
    choice: Choice,
    over: LabelStyle | None = None,
    *,
    max_pixels: int = planes.MAX_PIXELS,
    field: int = 0,
) -> Mosaic:
    """Return the images of a plate, a well, a collection or a scene in one picture.

    Parameters
    ----------
    tree
        The group.
    choice, over
        What to draw of every image, at the level that its place in the picture is worth.
    max_pixels
        About how many pixels the whole picture has.
    field
        Which field of a plate's wells to show.

    Raises
    ------
    SelectionError
        If there is nothing to draw, or too many images.
    NgffError
        The first of what went wrong, if no image could be read.
    """
    places, rows, columns = _layout(tree)
    count = len(rows) * len(columns)
    if not places:
        raise SelectionError("there is no image in it: there is nothing to draw")
    if count > MAX_CELLS:
        raise SelectionError(
            f"{len(rows)} rows and {len(columns)} columns are {count} pictures, more than "
            f"{MAX_CELLS}: draw a well of it, with .ngff.well(path)"
        )
    side = max(max_pixels / count, 1) ** 0.5
    choice = replace(choice, max_pixels=math.ceil(min(max(side, _SMALLEST), _LARGEST) ** 2))
    found = _read(tree, [place.name for place in places], choice, over, field)
    problems = [result for result in found if isinstance(result, Exception)]
    read = [result for result in found if isinstance(result, Read)]
    if not read:
        raise problems[0] if problems else SelectionError("none of its images is in the store")
    is_plate = image.group_kind(tree) in ("plate", "well")
    looks = common_looks([each.plane for each in read], compared=is_plate)
    cells = tuple(
        _cell(place, result, choice, looks, over)
        for place, result in zip(places, found, strict=True)
    )
    pictures = [cell.picture for cell in cells if cell.picture is not None]
    if not pictures:  # of the labels that are asked for none can be drawn
        raise SelectionError(next(cell.problem for cell in cells if cell.problem))
    height, width = _cell_size(pictures, choice)
    return Mosaic(cells, rows, columns, height, width, looks(read[0].plane))


def _layout(tree: xr.DataTree) -> tuple[list[_Place], tuple[str, ...], tuple[str, ...]]:
    """Return the places of a mosaic, and the names of its rows and columns."""
    if image.group_kind(tree) == "plate":
        return _plate_layout(tree)
    found = _images(tree)
    wide = max(1, math.ceil(math.sqrt(len(found))))
    places = [_Place(i // wide, i % wide, path) for i, path in enumerate(found)]
    return places, ("",) * math.ceil(len(found) / wide), ("",) * min(wide, len(found))


def _plate_layout(
    tree: xr.DataTree,
) -> tuple[list[_Place], tuple[str, ...], tuple[str, ...]]:
    plate = groups.plate(tree)
    row = {name: i for i, name in enumerate(plate.rows)}
    column = {name: i for i, name in enumerate(plate.columns)}
    places = [
        _Place(row[well.row], column[well.column], well.path)
        for well in plate.wells
        if well.row in row and well.column in column
    ]
    return places, plate.rows, plate.columns


def _images(tree: xr.DataTree) -> dict[str, xr.DataTree]:
    return groups.fields(tree) if image.group_kind(tree) == "well" else groups.images(tree)


def _read(
    tree: xr.DataTree, names: Sequence[str], choice: Choice, over: LabelStyle | None, field: int
) -> list[Found]:
    """Return each image with the plane that was read of it.

    None stands for what is not there, an error for what cannot be read.
    """
    if image.group_kind(tree) == "plate":
        labels = None if over is None else over.labels
        own = None if isinstance(labels, xr.DataArray | xr.DataTree) else labels
        return read_wells(tree, names, choice, field, labels=own)
    images = _images(tree)
    return read_images([partial(images.get, name) for name in names], choice)


def common_looks(
    found: Sequence[Plane], *, compared: bool = False
) -> Callable[[Plane], tuple[Channel, ...]]:
    """Return what gives the channels of each plane: in one contrast for those of the same names.

    Parameters
    ----------
    found
        The planes.
    compared
        Whether the windows that are stored give way to one that holds them all, so that what is
        brighter looks brighter: writers store the range of each field.
    """
    alike: dict[tuple[str, ...], list[Plane]] = {}
    for plane in found:
        alike.setdefault(_names(plane), []).append(plane)
    looks: Mapping[Any, tuple[Channel, ...]] = {
        names: finished(same) for names, same in alike.items()
    }
    shared = {names: _windows(same) if compared else {} for names, same in alike.items()}

    def of(plane: Plane) -> tuple[Channel, ...]:
        names = _names(plane)
        both = zip(plane.channels, looks[names], strict=True)
        return tuple(
            replace(
                own,
                color=own.color or c.color,
                window=shared[names].get(own.name) or own.window or c.window,
            )
            for own, c in both
        )

    return of


def _windows(found: Sequence[Plane]) -> dict[str, Window]:
    """Return the window that holds those of all planes, by channel, where all have one."""
    stored = zip(*(plane.channels for plane in found), strict=True)
    return {
        same[0].name: Window(min(w.start for w in windows), max(w.end for w in windows))
        for same in stored
        if len(windows := [c.window for c in same if c.window and c.window.start < c.window.end])
        == len(same)
    }


def _names(plane: Plane) -> tuple[str, ...]:
    return tuple(channel.name for channel in plane.channels)


def _cell(
    place: _Place,
    result: Found,
    choice: Choice,
    looks: Callable[[Plane], tuple[Channel, ...]],
    over: LabelStyle | None,
) -> Cell:
    if result is None or isinstance(result, Exception):
        problem = "" if result is None else printable(result, 200) or type(result).__name__
        return Cell(place.row, place.column, place.name, None, problem)
    try:
        both = choice, result.plane, looks(result.plane)
        picture = paint(result.tree, *both, over, result.labels)
    except Exception as error:  # of its labels
        return Cell(place.row, place.column, place.name, None, printable(error, 200))
    return Cell(place.row, place.column, place.name, picture)


def _cell_size(pictures: Sequence[Picture], choice: Choice) -> tuple[int, int]:
    """Return the height and width of a cell: the pictures' largest, within what was asked for."""
    height = max(picture.rgb.shape[0] for picture in pictures)
    width = max(picture.rgb.shape[1] for picture in pictures)
    factor = min(1.0, math.sqrt(choice.max_pixels / (height * width)))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _fit(rgb: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Draw a picture as large as it fits into a part of another, in its middle."""
    high, wide = rgb.shape[:2]
    factor = min(out.shape[0] / high, out.shape[1] / wide)
    rows, columns = max(1, round(high * factor)), max(1, round(wide * factor))
    small = shrunk(rgb, max(max(rows, columns), 1)) if factor <= 0.5 else rgb
    y = np.arange(rows) * small.shape[0] // rows
    x = np.arange(columns) * small.shape[1] // columns
    top, left = (out.shape[0] - rows) // 2, (out.shape[1] - columns) // 2
    out[:] = 0
    out[top : top + rows, left : left + columns] = small[y[:, np.newaxis], x]


def _cross(out: NDArray[np.uint8]) -> None:
    """Draw a red cross."""
    steps = np.linspace(0, 1, 2 * max(out.shape[:2]))
    y = np.rint(steps * (out.shape[0] - 1)).astype(int)
    x = np.rint(steps * (out.shape[1] - 1)).astype(int)
    out[y, x] = out[y, x[::-1]] = _MARK


def rgb(
    tree: xr.DataTree,
    *,
    field: int = 0,
    labels: Labels = None,
    outline: bool = False,
    opacity: float = 0.5,
    selected: Collection[int] | None = None,
    level: object = None,
    channels: Channels = None,
    projection: Projection | None = None,
    max_pixels: int = planes.MAX_PIXELS,
    **position: Any,
) -> xr.DataArray:
    """Return the images of a group in one picture.

    Parameters
    ----------
    field
        Which field of a plate's wells to show.
    labels, outline, opacity, selected, level, channels, projection
        What to draw of every image, as `ngff_xarray.picture.rgb` takes it.
    max_pixels
        About how many pixels the whole picture has.
    **position
        A position or region an axis, as ``sel`` takes them.

    Returns
    -------
    xarray.DataArray
        uint8 of shape (y, x, rgb: 3).

    Raises
    ------
    SelectionError
        If there is nothing to draw, or too many images.
    """
    choice = Choice(level, channels, projection, position=position)
    over = LabelStyle(labels, outline, opacity, selected)
    pixels = mosaic(tree, choice, over, max_pixels=max_pixels, field=field).rgb()
    colors = xr.Variable("rgb", ["red", "green", "blue"], {"axis_type": "channel"})
    return xr.DataArray(pixels, dims=("y", "x", "rgb"), coords={"rgb": colors}, name="rgb")
