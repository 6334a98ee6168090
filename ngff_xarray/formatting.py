"""The reprs: what an image holds, as plain text and as HTML with a thumbnail."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

import xarray as xr

from ngff_xarray import groups, image, picture, render, units
from ngff_xarray.image import Obj
from ngff_xarray.model import Channel, Plate
from ngff_xarray.text import printable

T = TypeVar("T")
Row = tuple[str, ...]

_PATIENCE = 5.0  # seconds that a thumbnail may take
_MOST = 24  # rows of a section that are shown
_TABLE = "border-collapse:collapse;margin:0 0 0.3em 0;border:none"
_ROW = "background:none"  # notebooks stripe the rows of tables
_CELL = "padding:0 1.2em 0 0;border:none;text-align:left;vertical-align:top;background:none"
_CHIP = "display:inline-block;width:0.8em;height:0.8em;border:1px solid gray;margin-right:0.4em"


def text(obj: Obj) -> str:
    """Return the repr for a terminal."""
    lines = [_title(obj)]
    for title, rows in _sections(obj):
        shown = _aligned(rows[:_MOST]) + _and_more(rows)
        lines += [f"{title if i == 0 else '':<10}{line}" for i, line in enumerate(shown)]
    return "\n".join(lines)


def page(obj: Obj) -> str:
    """Return the repr for a notebook: HTML, with a thumbnail of the coarsest level."""
    sections = "".join(_section_html(title, rows) for title, rows in _sections(obj))
    return (
        "<div style='display:flex;gap:1.5em;align-items:flex-start'>"
        f"{_thumbnail(obj)}<div><div style='margin-bottom:0.5em'>{_title_html(obj)}</div>"
        f"<table style='{_TABLE}'>{sections}</table></div></div>"
    )


def _sections(obj: Obj) -> list[tuple[str, list[Row]]]:
    """Return the title and the rows of every section that has something to say."""
    if isinstance(obj, xr.DataTree) and image.group_kind(obj) is not None:
        return [(title, rows) for title, rows in _group_sections(obj) if rows]
    channels = image.channels(obj) if image.kind(obj) == "image" else ()
    sections = [
        ("Axes", _axes(obj)),
        ("Levels", _levels(obj)),
        ("Channels", _channels(channels)),
        ("Labels", _labels(obj)),
        ("Systems", _systems(image.ome(obj))),
        ("Issues", _issues(obj)),
    ]
    return [(title, rows) for title, rows in sections if rows]


def _group_sections(tree: xr.DataTree) -> list[tuple[str, list[Row]]]:
    """Return the sections of a plate, well, collection or scene."""
    kind = image.group_kind(tree)
    if kind == "plate":
        plate = groups.plate(tree)
        sections: list[tuple[str, list[Row]]] = [
            ("Wells", [(f"{len(plate.wells)} of {len(plate.rows) * len(plate.columns)}",)]),
            ("Plate", _plate_map(plate)),
            ("Acquired", [_acquisition(entry) for entry in groups.acquisitions(tree)]),
        ]
    else:
        title = "Fields" if kind == "well" else "Images"
        sections = [(title, [_image_row(p, t) for p, t in groups.images(tree).items()])]
    if kind == "scene":
        sections.append(("Systems", _systems(tree.attrs["ome"]["scene"])))
    return [*sections, ("Issues", _issues(tree))]


def _plate_map(plate: Plate) -> list[Row]:
    """Return a line a row of the plate: a filled dot for each well that it lists."""
    listed = {(well.row, well.column) for well in plate.wells}
    if len(plate.rows) > 64 or len(plate.columns) > 96:
        return []
    names = [printable(row, 12) for row in plate.rows]
    width = max(map(len, (*names, "")))
    return [
        (
            name.ljust(width),
            "".join("●" if (row, column) in listed else "○" for column in plate.columns),
        )
        for name, row in zip(names, plate.rows, strict=True)
    ]


def _acquisition(entry: Mapping[str, Any]) -> Row:
    return printable(entry.get("id")), printable(entry.get("name") or "")


def _image_row(path: str, tree: xr.DataTree) -> Row:
    """Return path, name, shape, dtype and number of levels of an image."""
    levels = image.levels(tree)
    shape = " × ".join(map(str, levels[0].shape))
    name = printable(image.name(tree) or "")
    return printable(path), name, shape, str(levels[0].dtype), f"{len(levels)} levels"


def _systems(said: Mapping[str, Any]) -> list[Row]:
    """Return name and axes of every coordinate system."""
    found = _dicts(said.get("coordinateSystems"))
    return [
        (
            printable(system.get("name") or ""),
            ", ".join(printable(axis.get("name") or "") for axis in _dicts(system.get("axes"))),
            "(of the coordinates)" if system.get("name") == said.get("intrinsic") else "",
        )
        for system in found
    ]


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _and_more(rows: Sequence[Row]) -> list[str]:
    return [f"… and {len(rows) - _MOST} more"] if len(rows) > _MOST else []


def _section_html(title: str, rows: Sequence[Row]) -> str:
    has_colors = title == "Channels"
    lines = [
        [(_chip(row[1]) if has_colors else "") + html.escape(row[0]), *map(html.escape, row[1:])]
        for row in rows[:_MOST]
    ]
    lines += [[html.escape(more)] for more in _and_more(rows)]
    cells = "".join(
        f"<tr style='{_ROW}'>"
        + "".join(f"<td style='{_CELL}'>{cell}</td>" for cell in line if cell)
        + "</tr>"
        for line in lines
    )
    return (
        f"<tr style='{_ROW}'><th style='{_CELL}'>{title}</th>"
        f"<td style='{_CELL}'><table style='{_TABLE}'>{cells}</table></td></tr>"
    )


def _title_html(obj: Obj) -> str:
    source = _source(obj)
    where = f"<br><span style='color:gray'>{html.escape(source)}</span>" if source else ""
    return f"<strong>{html.escape(_what(obj))}</strong>{where}"


def _title(obj: Obj) -> str:
    source = _source(obj)
    return _what(obj) + (f"\n{source}" if source else "")


def _what(obj: Obj) -> str:
    kind = image.kind(obj)
    kind = "label image" if kind == "labels" else kind
    name, version = _name(obj), image.version(obj)
    return f"OME-Zarr {version + ' ' if version else ''}{kind}" + (
        f" {printable(name)!r}" if name else ""
    )


def _name(obj: Obj) -> str | None:
    if isinstance(obj, xr.DataTree) and image.group_kind(obj) is not None:
        said = obj.attrs["ome"]
        named = said["plate"].get("name") if "plate" in said else None
        place = " ".join(str(said[key]) for key in ("row", "column") if key in said)
        return named if isinstance(named, str) and named else place or None
    return image.name(obj)


def _source(obj: Obj) -> str:
    return printable(obj.encoding.get("source") or "", 200)


def _axes(obj: Obj) -> list[Row]:
    """Return name, type, size and pixel size of every axis."""
    steps, named = image.pixel_sizes(obj), image.unit_texts(obj)
    finest = image.levels(obj)[0]
    rows: list[Row] = []
    for axis in image.axes(obj):
        unit = named.get(axis.name)
        step = f"× {steps[axis.name]:g}" if axis.name in steps else ""
        if step and unit:
            step += f" {printable(units.symbol(unit))}"
        name, kind = printable(axis.name), printable(axis.type or "")
        rows.append((name, kind, str(finest.sizes[axis.name]), step))
    return rows


def _levels(obj: Obj) -> list[Row]:
    """Return path, shape, dtype, bytes and chunks of every level."""
    return [
        (
            printable(path),
            " × ".join(map(str, array.shape)),
            str(array.dtype),
            _size(array.nbytes),
            _chunks(array),
        )
        for path, array in zip(image.level_paths(obj), image.levels(obj), strict=True)
    ]


def _chunks(array: xr.DataArray) -> str:
    if array.chunks is not None:
        return "dask chunks " + " × ".join(str(max(sizes, default=0)) for sizes in array.chunks)
    names = (("shards", "shards"), ("chunks", "chunks"))
    stored = [
        f"{name} {' × '.join(map(str, array.encoding[key]))}"
        for key, name in names
        if array.encoding.get(key) and len(array.encoding[key]) == array.ndim
    ]
    return " of ".join(stored)


def _size(nbytes: float) -> str:
    """Return a number of bytes as people read it.

    Examples
    --------
    >>> _size(363), _size(363_000), _size(2.5e12)
    ('363 B', '363 kB', '2.5 TB')
    """
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:.3g} EB"


def _aligned(rows: Sequence[Row]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width
        ).rstrip()
        for row in rows
    ]


def _channels(channels: Sequence[Channel]) -> list[Row]:
    """Return a row for each channel; those that are not shown are only counted."""
    rows = [_channel(channel) for channel in channels[:_MOST]]
    return rows + [rows[-1]] * (len(channels) - len(rows)) if rows else []


def _channel(channel: Channel) -> Row:
    color = render.hex_color(channel.color) if channel.color else "no colour stored"
    window = "no window stored"
    if channel.window is not None:
        window = f"{channel.window.start:g} to {channel.window.end:g}"
    curve = "" if channel.gamma == 1 else f"gamma {channel.gamma:g}"
    said = (curve, "inverted" * channel.inverted, "" if channel.active else "not shown")
    return printable(channel.name), color, window, ", ".join(filter(None, said))


def _chip(color: str) -> str:
    """Return a square in a colour that `_channel` tells, or an empty one."""
    fill = color if color.startswith("#") else "none"
    return f"<span style='{_CHIP};background:{fill}'></span>"


def _labels(obj: Obj) -> list[Row]:
    """Return path, shape, dtype and number of levels of every label image."""
    rows: list[Row] = []
    for path, tree in image.label_images(obj).items():
        levels = image.levels(tree)
        shape = " × ".join(map(str, levels[0].shape))
        rows.append((printable(path), shape, str(levels[0].dtype), f"{len(levels)} levels"))
    return rows


def _issues(obj: Obj) -> list[Row]:
    count = len(image.issues(obj))
    return [(f"{count} in the metadata: see .ngff.issues",)] if count else []


def _thumbnail(obj: Obj) -> str:
    """Return an inline picture; a note where there is none, for a repr must not fail."""
    if isinstance(obj, xr.DataTree) and image.group_kind(obj) is not None:
        return ""
    try:
        pixels = _in_time(lambda: picture.thumbnail(obj))
    except TimeoutError:
        return _note(f"no thumbnail: the store took longer than {_PATIENCE:g} seconds")
    except Exception as error:  # whatever the store, a codec or numpy raises
        return _note(f"no thumbnail: {printable(error, 100)}")
    if pixels is None:
        return _note("no thumbnail: the coarsest level is large")
    encoded = base64.b64encode(render.png(pixels)).decode()
    height, width = pixels.shape[:2]
    scale = max(144 / max(height, width), 1)
    return (
        f"<img alt='thumbnail' src='data:image/png;base64,{encoded}' "
        f"style='width:{width * scale:.0f}px;height:{height * scale:.0f}px;"
        "image-rendering:pixelated;background:black'>"
    )


def _in_time(work: Callable[[], T]) -> T:
    """Return what comes of some work, or raise if that takes too long; it goes on by itself then.

    A notebook that shows an object is not to hang for as long as a store may be waited for.
    """
    coming: Future[T] = Future()

    def run() -> None:
        try:
            coming.set_result(work())
        except BaseException as error:
            coming.set_exception(error)

    Thread(target=run, name="ngff-thumbnail", daemon=True).start()
    return coming.result(_PATIENCE)


def _note(message: str) -> str:
    return (
        "<div style='width:144px;height:144px;border:1px dashed gray;color:gray;font-size:small;"
        f"display:flex;align-items:center;text-align:center'>{html.escape(message)}</div>"
    )
