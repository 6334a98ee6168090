"""TIFF and its family by tifffile: OME-TIFF, ImageJ, SVS, LSM and whatever else it knows."""

from __future__ import annotations

import html
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ngff_xarray.converting import omexml, tiff_kinds
from ngff_xarray.converting.found import Found, Original, Scan
from ngff_xarray.converting.reader import DeclinedError, Input, Options
from ngff_xarray.converting.selecting import on_plate, selected
from ngff_xarray.converting.tiff_kinds import Said
from ngff_xarray.converting.tiff_pages import PageArray, Plan, TiffHandle, reading
from ngff_xarray.errors import (
    Issue,
    MissingDependencyError,
    SelectionError,
    StoreError,
    UnsupportedError,
)
from ngff_xarray.text import printable
from ngff_xarray.urls import is_url

NAME = "TIFF, OME-TIFF, ImageJ, SVS, LSM"
EXTRA = "tiff"
USES = frozenset({"series", "axes"})

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ENDINGS = (".tif", ".tiff", ".tf2", ".tf8", ".btf", ".svs", ".lsm", ".scn", ".ndpi", ".qptiff")
_ORDER = "tczyx"
# what tifffile logs where offsets lead out of the file
_BROKEN = re.compile(r"invalid (page|value) offset|corrupted", re.IGNORECASE)
_BINARY_ONLY = re.compile(r'<(?:\w+:)?BinaryOnly\s[^>]*?MetadataFile="([^"]*)"')
_UNKNOWN = "QI"  # of tifffile's letters for axes, those that say nothing


def claims(source: Input) -> bool:
    """Tell whether this may be a TIFF file."""
    return source.head.startswith(_MAGIC) or (
        (source.is_url or source.is_file) and source.ends(*_ENDINGS)
    )


def read(source: Input, options: Options) -> Found:
    """Return the images of a file."""
    return read_with(source, options, None)


def read_with(source: Input, options: Options, companion: Path | None) -> Found:
    """Return the images of a file, or of all that the OME-XML in a companion file describes."""
    try:
        import tifffile  # noqa: F401  # before anything is opened
    except ImportError as error:
        raise MissingDependencyError("tifffile", "tiff", f"reading {source.name}") from error
    if not source.is_url and not source.head.startswith(_MAGIC):
        raise DeclinedError(f"its first bytes {source.head[:4]!r} are not those of a TIFF file")
    path = None if companion is None else str(companion)
    handle = TiffHandle(source.text, options.storage_options, path)
    with _messages() as messages, reading(source.name):
        tif = handle.tif
        series = list(tif.series)
    if tif.is_ome and companion is None:
        found = _companion(source, tif.ome_metadata or "")
        if found is not None:
            return read_with(source, options, found)
    if not series:
        raise StoreError(f"{source.name}: holds no image: the file is empty or truncated")
    broken = [text for text in messages if _BROKEN.search(text)]
    if broken and options.missing != "fill":
        raise StoreError(
            f"{source.name}: is truncated or damaged ({broken[0]}): copy it again, or give "
            "missing='fill' for what is left"
        )
    issues = [Issue("TIFF", text) for text in messages]
    if tif.is_ome and series[0].kind == "ome":
        return _ome(handle, series, options, issues)
    if companion is not None:
        raise StoreError(
            f"{printable(companion, 500)}: describes no pixels that {source.name} and the files "
            "beside it hold"
        )
    if tif.is_ome:
        issues.append(Issue("OME-XML", _unused(tif.ome_metadata or "")))
    return _other(handle, series, options, issues)


def _companion(source: Input, text: str) -> Path | None:
    """Return the file beside a file in which the metadata of it are; None if it is not there."""
    found = _BINARY_ONLY.search(text)
    if found is None or not source.is_file:
        return None
    folder = source.path.parent
    path = folder / html.unescape(found[1])
    is_there = path != source.path and is_inside(path, folder)
    with path.open("rb") if is_there else nullcontext() as stream:
        is_text = stream is not None and not stream.read(4).startswith(_MAGIC)
    return path if is_text else None


def is_inside(path: Path, folder: Path) -> bool:
    """Tell whether there is a file, in a folder or below it."""
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


def _unused(text: str) -> str:
    """Return why the OME-XML of a file does not describe its pages."""
    found = _BINARY_ONLY.search(text)
    if found is None:
        return "does not describe the pages that there are: they are read as those of a plain TIFF"
    name = printable(found[1], 100)
    return (
        f"is in another file, {name!r}, that is not beside it: without it these are the pages of a "
        "plain TIFF"
    )


@contextmanager
def _messages() -> Iterator[list[str]]:
    """Take note of what tifffile only logs: what is odd in a file, or missing."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(printable(record.getMessage(), 300))

    logger, handler = logging.getLogger("tifffile"), Handler(logging.WARNING)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


# ---- OME-TIFF ----------------------------------------------------------------------------------


def _ome(
    handle: TiffHandle, series: Sequence[Any], options: Options, issues: Sequence[Issue]
) -> Found:
    """Return the images that the OME-XML of a file describes."""
    text = handle.tif.ome_metadata or ""
    document = omexml.parse(text, handle.name)
    numbers = _numbers(series, document.images, handle)
    original = Original("OME-XML", text)
    described = {
        number: partial(_ome_scan, handle, at, document.images[number], options, issues)
        for number, at in numbers.items()
    }
    dropped = list(document.dropped)
    files = _files(handle, series)
    missing = len(document.images) - len(numbers)
    if missing:
        dropped.append(f"{missing} images that the file describes and does not hold")
    if document.plate is not None and options.series is None:
        plate = on_plate("OME-TIFF", document, described, original)
        return replace(plate, dropped=dropped, files=files)
    names = {number: document.images[number].name or "" for number in described}
    images, layout = selected(described, names, options.series)
    return Found("OME-TIFF", images, layout, original, dropped=dropped, files=files)


def _files(handle: TiffHandle, series: Sequence[Any]) -> list[str]:
    """Return the paths of the files that belong to an image, where these are several.

    Raises
    ------
    StoreError
        If one of them is outside of the folder of the first.
    """
    parents = {
        id(page.parent): page.parent
        for each in series
        if each.is_multifile
        for page in getattr(each.pages, "_pages", ())
        if page is not None
    }
    found = [os.fspath(parent.filehandle.path) for parent in parents.values()]
    if not is_url(handle.place):
        folder = Path(handle.place).parent
        outside = [path for path in found if not is_inside(Path(path), folder)]
        if outside:
            raise StoreError(
                f"{handle.name}: names {printable(outside[0], 200)!r} as a part of it, which is "
                "outside of its folder: put all of its files into one folder"
            )
    if handle.companion is None:
        return found
    return list(dict.fromkeys([*found, handle.place, handle.companion]))


def _numbers(
    series: Sequence[Any], images: Sequence[omexml.ImageInfo], handle: TiffHandle
) -> dict[int, int]:
    """Return which series of tifffile an image is: those without pixels have none."""
    found: dict[int, int] = {}
    at = 0
    for number, info in enumerate(images):
        if at < len(series) and (len(series) == len(images) or _is_of(series[at], info)):
            found[number] = at
            at += 1
    if at < len(series):
        raise UnsupportedError(
            f"{handle.name}: the OME-XML describes {len(images)} images, of which {at} could be "
            f"told from the {len(series)} that the file holds"
        )
    return found


def _is_of(series: Any, info: omexml.ImageInfo) -> bool:
    known = {axis: size for axis, size in info.shape.items() if size > 1 and axis in "YX"}
    sizes = dict(zip(series.axes, series.shape, strict=True))
    return (series.name or None) == info.name and all(
        sizes.get(axis) == size for axis, size in known.items()
    )


def _ome_scan(
    handle: TiffHandle,
    at: int,
    info: omexml.ImageInfo,
    options: Options,
    issues: Sequence[Issue],
) -> Scan:
    said = Said(
        info.name,
        info.sizes,
        info.channels,
        issues=(*issues, *info.issues),
        dropped=info.dropped,
        origins=info.origins,
        shapes=info.shapes,
    )
    return _scan(handle, at, said, options, keep_channel=bool(info.channels))


# ---- all others --------------------------------------------------------------------------------


def _other(
    handle: TiffHandle, series: Sequence[Any], options: Options, issues: Sequence[Issue]
) -> Found:
    """Return the images of a file that describes itself in another way, or not at all."""
    tif = handle.tif
    kind = tiff_kinds.kind_of(tif)
    with reading(handle.name):
        format_, original, describe = kind(tif)
    described = {
        number: partial(_other_scan, handle, number, describe, options, issues)
        for number in range(len(series))
    }
    names = {number: each.name or "" for number, each in enumerate(series)}
    main = tiff_kinds.main_series(tif)
    if main is not None and options.series is None and len(series) > 1:
        others = ", ".join(printable(name, 40) or str(n) for n, name in names.items() if n != main)
        dropped = [f"{others} (give series='all', or the name of one)"]
        return Found(format_, {"0": described[main]}, "image", original, dropped=dropped)
    images, layout = selected(described, names, options.series)
    return Found(format_, images, layout, original)


def _other_scan(
    handle: TiffHandle,
    number: int,
    describe: Callable[[int], Said],
    options: Options,
    issues: Sequence[Issue],
) -> Scan:
    with reading(handle.name):
        said = describe(number)
    said = replace(said, issues=(*issues, *said.issues))
    return _scan(handle, number, said, options, keep_channel=len(said.channels) > 0)


# ---- a series of pages -------------------------------------------------------------------------


def _scan(
    handle: TiffHandle, number: int, said: Said, options: Options, *, keep_channel: bool
) -> Scan:
    """Return the description of a series."""
    series = handle.tif.series[number]
    axes, issues = _letters(series, options)
    plan = _plan(axes, series.shape, keep_channel=keep_channel)
    names = tuple(name for name, _ in plan)
    with reading(handle.name):
        levels = [
            PageArray(handle, number, i, plan, fill=options.missing == "fill")
            for i in range(len(series.levels))
            if _fits(series, series.levels[i])
        ]
    _check_present(handle, series, levels[0], options)
    channels = said.channels
    shape = dict(zip(names, levels[0].shape, strict=True))
    if not channels and series.keyframe.photometric in (2, 6) and shape.get("c") == 3:
        channels = omexml.colored()
    if len(channels) != shape.get("c", 1):
        channels = ()
    dropped = list(said.dropped)
    if series.keyframe.photometric == 3:  # indices into a table of colours
        dropped.append("the palette (colours of pixel values)")
    skipped = len(series.levels) - len(levels)
    if skipped:
        dropped.append(f"{skipped} levels that do not have the axes of the first")
    return Scan(
        axes=names,
        levels=levels,
        name=said.name or None,
        sizes={axis: size for axis, size in said.sizes.items() if axis in names},
        origins={axis: start for axis, start in said.origins.items() if axis in names},
        shapes=said.shapes,
        channels=channels,
        issues=(*said.issues, *issues),
        dropped=dropped,
    )


def _fits(series: Any, level: Any) -> bool:
    """Tell whether a level has the axes of the finest, and is reduced in y, x and z only."""
    return len(level.shape) == len(series.shape) and all(
        n == m or axis in "ZYX"
        for axis, n, m in zip(series.axes, level.shape, series.shape, strict=True)
    )


def _letters(series: Any, options: Options) -> tuple[str, list[Issue]]:
    """Return the letter of each axis of a series: T, C, Z, Y, X, S, or another one."""
    axes, shape = str(series.axes), tuple(series.shape)
    if options.axes is not None:
        return _told(axes, shape, options.axes), []
    issues = []
    unknown = [i for i, axis in enumerate(axes) if axis in _UNKNOWN and shape[i] > 1]
    if len(unknown) == 1 and "Z" not in axes:
        axes = f"{axes[: unknown[0]]}Z{axes[unknown[0] + 1 :]}"
        message = f"the file does not say what its {shape[unknown[0]]} pages are: read as z"
        told = axes.lower().translate({ord("z"): "t"})
        issues.append(Issue("TIFF: axes", message, mend=f"give axes={told!r} for time points"))
    return axes, issues


def _told(axes: str, shape: Sequence[int], told: str | Sequence[str]) -> str:
    """Return the axes that the caller names, for all or for those with several entries."""
    names = "".join(told).upper()
    longer = [i for i, size in enumerate(shape) if size > 1 or axes[i] in "YX"]
    if len(names) == len(shape):
        found = names
    elif len(names) == len(longer):
        letters = list("Q" * len(shape))
        for i, name in zip(longer, names, strict=True):
            letters[i] = name
        found = "".join(letters)
    else:
        raise SelectionError(
            f"axes={''.join(told)!r}: the array has {len(shape)} axes of sizes {tuple(shape)}"
        )
    if not {"Y", "X"} <= set(found) or len({*names}) < len(names):
        raise SelectionError(f"axes={''.join(told)!r}: expected different letters, y and x in them")
    return found


def _plan(axes: str, shape: Sequence[int], *, keep_channel: bool) -> Plan:
    """Return the axes of an image, and which of the series each stands for.

    Axes of one entry are left out; all that OME-Zarr does not know become channels.
    """
    longer = [i for i, axis in enumerate(axes) if shape[i] > 1 or axis in "YX"]
    places: dict[str, list[int]] = {name: [] for name in _ORDER}
    for i in longer:
        name = axes[i].lower()
        places[name if name in _ORDER and not (name == "c" or places[name]) else "c"].append(i)
    if not places["c"] and keep_channel and "C" in axes:
        places["c"].append(axes.index("C"))
    return tuple((name, tuple(found)) for name, found in places.items() if found or name in "yx")


def _check_present(handle: TiffHandle, series: Any, finest: PageArray, options: Options) -> None:
    """Check that the file does not end before its last page, and holds all of them."""
    if options.missing == "fill":
        return
    finest.check_end()
    pages = series.pages
    listed = getattr(pages, "_pages", None)
    if listed is not None and len(listed) > 1 and any(page is None for page in listed):
        count = sum(page is None for page in listed)
        raise StoreError(
            f"{handle.name}: {count} of {len(listed)} planes are not there: the file is truncated, "
            "or one of several files is missing; give missing='fill' for zeros"
        )
