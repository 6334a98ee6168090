"""Plates: a mosaic of their wells, and heat maps of what a table says of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import NDArray

from ngff_xarray import geometry, groups
from ngff_xarray.errors import SelectionError
from ngff_xarray.model import Plate
from ngff_xarray.mosaic import MAX_CELLS, Mosaic, mosaic
from ngff_xarray.picture import LabelStyle
from ngff_xarray.planes import Choice
from ngff_xarray.plot import parts
from ngff_xarray.plot.parts import Trimmings
from ngff_xarray.text import printable

if TYPE_CHECKING:
    import pandas as pd

_WIDTH = 8.0  # inches
_MOST_NUMBERS = 100  # wells whose numbers are written into a heat map
_MOST_NAMES = 48  # rows that all have their names
_MOST_LETTERS = 96  # of the names of columns and the gaps between them


def plot_plate(
    tree: xr.DataTree,
    ax: Axes | None,
    choice: Choice,
    over: LabelStyle,
    trimmings: Trimmings,
    field: int,
) -> Axes:
    """Draw a plate: a picture a well, in rows and columns."""
    pixels = parts.pixels_printable(ax) if ax else parts.pixels_printable(None, 1.5) // 2
    found = mosaic(tree, choice, over, max_pixels=pixels, field=field)
    plate = groups.plate(tree)
    legend = trimmings.legend and parts.needs_legend(found.channels)
    if ax is None:
        high, wide = len(found.rows) * found.height, len(found.columns) * found.width
        ax = _new_axes(high / wide, parts.LEGEND if legend else 0)
    ax.imshow(
        found.rgb(),
        extent=(0, len(found.columns), len(found.rows), 0),
        aspect=found.height / found.width,
        interpolation_stage="rgba",
    )
    _name_wells(ax, plate, 0.5)
    if trimmings.scale_bar:
        _draw_scale_bar(ax, found)
    if legend:
        parts.draw_legend(ax, found.channels)
    ax.set_xlabel(_notes(found), parse_math=False, fontsize="small", color="dimgray")
    parts.set_title(ax, _title(plate) if trimmings.title is None else trimmings.title)
    return ax


def _new_axes(proportion: float, beside: float) -> Axes:
    height = _WIDTH * min(max(proportion, 0.15), 1.5)
    _, ax = plt.subplots(figsize=(_WIDTH + beside, height + 0.9), layout="constrained")
    return ax


def _title(plate: Plate) -> str:
    name = plate.document.get("name")
    return printable(name) if isinstance(name, str) else ""


def _name_wells(ax: Axes, plate: Plate, centre: float) -> None:
    """Write the rows' letters on the left and the columns' numbers on top."""
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    columns, rows = ([printable(name, 12) for name in each] for each in (plate.columns, plate.rows))
    wide = 1 + max(map(len, columns), default=0)
    for names, most, set_ticks in (
        (columns, _MOST_LETTERS // wide, ax.set_xticks),
        (rows, _MOST_NAMES, ax.set_yticks),
    ):
        places = range(0, len(names), math.ceil(len(names) / most))
        shown = [names[i] for i in places]
        set_ticks([i + centre for i in places], shown, parse_math=False)
    for side in ax.spines.values():
        side.set_visible(False)


def _notes(found: Mosaic) -> str:
    """Return what the grey places and the crosses are."""
    missing = [cell.name for cell in found.cells if cell.picture is None and not cell.problem]
    broken = [cell.name for cell in found.cells if cell.problem]
    notes = []
    if missing:
        notes.append(f"grey: listed, not in the store ({_some(missing)})")
    if broken:
        notes.append(f"×: cannot be read ({_some(broken)})")
    return "   ".join(notes)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name, 12) for name in names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown


def _draw_scale_bar(ax: Axes, found: Mosaic) -> None:
    """Draw a scale bar below the plate: it may be longer than a well is wide."""
    picture = next(cell.picture for cell in found.cells if cell.picture is not None)
    unit = geometry.unit(picture.x)
    if unit is None:
        return
    # a picture fills its cell along one axis, or is as large as it is
    high, wide = picture.rgb.shape[:2]
    factor = min(found.height / high, found.width / wide)
    cell = abs(parts.length(picture.x)) * found.width / (wide * factor)
    long, text = parts.scale_bar(max(1, len(found.columns) / 6) * cell, unit)
    bar = AnchoredSizeBar(
        ax.transData,
        long / cell,
        text,
        loc="upper right",
        bbox_to_anchor=(1, 0),
        bbox_transform=ax.transAxes,
        pad=0,
        borderpad=0.5,
        sep=4,
        frameon=False,
        color="black",
        size_vertical=len(found.rows) / 100,
        fontproperties=FontProperties(size="small"),
    )
    ax.add_artist(bar)


# ---- heat maps -------------------------------------------------------------------------------


def plot_values(
    tree: xr.DataTree,
    values: Any,
    ax: Axes | None,
    colormap: str | None,
    trimmings: Trimmings,
) -> Axes:
    """Draw a number a well as a colour.

    Parameters
    ----------
    tree
        The plate.
    values
        A mapping or a pandas Series: by ``"B/3"``, ``"B3"`` or ``("B", "3")``; or the name of a
        column of ``plate.ngff.wells``.
    ax
        Where to draw.
    colormap
        Of matplotlib; viridis unless given.
    trimmings
        The title; the legend is a colour bar.
    """
    plate = groups.plate(tree)
    if len(plate.rows) * len(plate.columns) > MAX_CELLS:
        raise SelectionError(f"a heat map shows {MAX_CELLS} wells at most; this plate has more")
    if isinstance(values, str):
        values = _column(tree, values)
    table = _table(plate, values)
    rows, columns = table.shape
    if ax is None:
        ax = _new_axes(0.92 * rows / columns, 0.8 if trimmings.legend else 0)
    cmap = colormap or "viridis"
    if cmap not in mpl.colormaps:
        raise SelectionError(f"there is no colormap {cmap!r}: expected one of matplotlib's")
    listed = np.full(table.shape, np.nan)
    for well in plate.wells:
        if well.row in plate.rows and well.column in plate.columns:
            listed[plate.rows.index(well.row), plate.columns.index(well.column)] = 1
    ax.imshow(listed, cmap="Greys", vmin=0, vmax=6, aspect="equal")
    finite = table[np.isfinite(table)]
    low, high = (float(np.min(finite)), float(np.max(finite))) if finite.size else (0, 1)
    shown = np.ma.masked_invalid(table)
    drawn = ax.imshow(shown, cmap=cmap, vmin=low, vmax=high, aspect="equal")
    ax.set_xticks(np.arange(-0.5, columns), minor=True)
    ax.set_yticks(np.arange(-0.5, rows), minor=True)
    ax.grid(which="minor", color="white", linewidth=1)
    ax.tick_params(which="minor", length=0)
    _name_wells(ax, plate, 0)
    if finite.size and rows * columns <= _MOST_NUMBERS:
        _write_numbers(ax, table, drawn)
    if trimmings.legend:
        _draw_colorbar(ax, drawn, values)
    parts.set_title(ax, _title(plate) if trimmings.title is None else trimmings.title)
    return ax


def _draw_colorbar(ax: Axes, drawn: Any, values: Any) -> None:
    bar = ax.figure.colorbar(drawn, ax=ax, shrink=0.8)
    name = getattr(values, "name", None)
    if name is not None:
        bar.set_label(printable(name), parse_math=False)


def _write_numbers(ax: Axes, table: NDArray[np.float64], drawn: Any) -> None:
    """Write each well's number into it, in the colour that can be read there."""
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            red, green, blue, _ = drawn.cmap(drawn.norm(value))
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
            style: dict[str, Any] = {"color": "white" if dark else "black", "fontsize": "small"}
            ax.text(column, row, f"{value:.3g}", ha="center", va="center", **style)


def _column(tree: xr.DataTree, name: str) -> pd.Series[Any]:
    wells = groups.wells(tree)
    if name not in wells.columns:
        known = ", ".join(map(printable, wells.columns))
        raise SelectionError(f"values: there is no column {name!r}; the wells have {known}")
    return wells[name]


def _table(plate: Plate, values: Any) -> NDArray[np.float64]:
    """Return the value of each well, (row, column), NaN where there is none.

    Raises
    ------
    SelectionError
        If the plate has no such well, or a value is no number.
    """
    if not isinstance(values, Mapping) and not hasattr(values, "items"):
        raise SelectionError(
            f"values: expected a mapping or a Series by well ('B/3', 'B3' or ('B', '3')), found "
            f"{type(values).__name__}"
        )
    places = _places(plate)
    table = np.full((len(plate.rows), len(plate.columns)), np.nan)
    for well, value in values.items():
        place = places.get(_key(well))
        if place is None:
            known = ", ".join(printable(w.path, 12) for w in plate.wells[:8])
            raise SelectionError(f"values: there is no well {well!r}; the plate lists {known}, …")
        try:
            table[place] = float(value)
        except (TypeError, ValueError) as error:
            message = f"values: expected a number for well {well!r}, found {value!r}"
            raise SelectionError(message) from error
    return table


def _places(plate: Plate) -> dict[str, tuple[int, int]]:
    """Return row and column of every well of a plate, by all that it may be called."""
    found = {}
    for row, letter in enumerate(plate.rows):
        for column, number in enumerate(plate.columns):
            found[_key((letter, number))] = (row, column)
    exact = {(w.row, w.column): w.path for w in plate.wells}
    for (letter, number), path in exact.items():
        place = found.get(_key((letter, number)))
        if place is not None:
            found.setdefault(_key(path), place)
    return found


def _key(well: Any) -> str:
    """Return what a well is found by: its row and column without a stroke or leading zeros."""
    parts_: Iterable[Any] = well if isinstance(well, tuple) else str(well).split("/")
    names = [str(part).strip() for part in parts_]
    if len(names) == 1:
        letters = names[0].rstrip("0123456789")
        names = [letters, names[0][len(letters) :]]
    plain = [name.lstrip("0") or "0" if name.isdigit() else name.upper() for name in names]
    return "/".join(plain)
