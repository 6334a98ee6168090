"""OME-TIFF by tifffile: tiles, smaller levels as SubIFDs, OME-XML."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import image, units
from ngff_xarray.errors import MissingDependencyError, UnsupportedError
from ngff_xarray.export.files import by_letter, chosen, new_file, parts
from ngff_xarray.export.looks import looks
from ngff_xarray.image import Obj
from ngff_xarray.multiscale import multiscale
from ngff_xarray.progress import Bar
from ngff_xarray.progress import progress as progress_bar

_AXES = "tczyx"
_DTYPES = ("b1", "i1", "i2", "i4", "u1", "u2", "u4", "f4", "f8", "c8", "c16")
_TILE = 512
_ENOUGH = 1024  # pixels of a side: larger planes get smaller levels
_SYMBOLS = {"mile": "mi", "inch": "in", "foot": "ft", "yard": "yd", "minute": "min", "hour": "h"}
_LENGTHS = re.compile(r"(da|[YZEPTGMkhdcmµnpfazy])?m|Å|in|ft|yd|mi")
_TIMES = re.compile(r"(da|[YZEPTGMkhdcmµnpfazy])?s|min|h|d")


def to_ome_tiff(
    obj: Obj,
    path: str | os.PathLike[str],
    *,
    compression: str | None = "zlib",
    tile: int = _TILE,
    overwrite: bool = False,
    progress: bool | None = None,
) -> None:
    """Write an image as OME-TIFF, a part at a time: for Fiji, QuPath, and all that has Bio-Formats.

    All levels are written that are smaller in y and x only; an image without such gets them. The
    file has pixel sizes with their units, and names and colours of channels. Label images beside
    it are files of their own: ``tree.ngff.labels["nuclei"].ngff.to_ome_tiff(…)``.

    Parameters
    ----------
    obj
        An image or label image, as it is: cropped or computed.
    path
        The file; ``.ome.tif`` is the usual end of its name.
    compression
        ``"zlib"``, ``"lzw"``, ``"zstd"`` (which older programs cannot read) or None.
    tile
        The side of tiles in pixels, a multiple of 16.
    overwrite
        Whether to replace a file.
    progress
        Whether to show how far it is; by default in notebooks and terminals, after a second.

    Raises
    ------
    MissingDependencyError
        If tifffile is not installed.
    StoreError
        If there is such a file, or it cannot be written.
    UnsupportedError
        If OME-TIFF has no place for its axes or its dtype.

    Examples
    --------
    >>> import tempfile, tifffile, ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_ome_tiff(tree, f"{folder}/cell.ome.tif")
    ...     with tifffile.TiffFile(f"{folder}/cell.ome.tif") as file:
    ...         [level.shape for level in file.series[0].levels]
    [(660, 550), (330, 275), (165, 138), (83, 69)]
    """
    try:
        import tifffile
    except ImportError as error:
        raise MissingDependencyError("tifffile", "tiff", ".ngff.to_ome_tiff()") from error
    levels = [_ordered(level) for level in _levels(obj)]
    finest = levels[0]
    options: dict[str, Any] = {
        "tile": (tile, tile),
        "compression": compression,
        "predictor": compression is not None and finest.dtype.kind in "iu",
        "photometric": "minisblack",
    }
    total = sum(level.nbytes for level in levels)
    with (
        new_file(path, overwrite=overwrite) as part,
        progress_bar("writing", "B", progress, total) as bar,
        tifffile.TiffWriter(part, bigtiff=True, ome=True) as file,
    ):
        for number, level in enumerate(levels):
            own: dict[str, Any] = (
                {"subifds": len(levels) - 1, "metadata": _metadata(obj, finest)}
                if number == 0
                else {"subfiletype": 1, "metadata": None}
            )
            dtype = _dtype(level)
            tiles = _tiles(level, tile, dtype, bar)
            file.write(tiles, shape=level.shape, dtype=dtype, **options, **own)


def _levels(obj: Obj) -> list[xr.DataArray]:
    """Return the levels that differ in y and x only, made anew where there are none."""
    finest = chosen(obj, 0)
    arrays = image.levels(obj)
    y, x = image.plane_dims(finest)
    same = [array for array in arrays if _outer(array, y, x) == _outer(finest, y, x)]
    if len(same) > 1 or max(finest.sizes[y], finest.sizes[x]) <= _ENOUGH:
        return list(same)
    count = 0
    while max(finest.sizes[y], finest.sizes[x]) >> count > _ENOUGH:
        count += 1
    made = multiscale(finest, scale_factors=[{y: 2, x: 2}] * count)
    return list(image.levels(made))


def _outer(array: xr.DataArray, *plane: str) -> dict[str, int]:
    return {str(dim): size for dim, size in array.sizes.items() if dim not in plane}


def _ordered(array: xr.DataArray) -> xr.DataArray:
    """Return a level with its axes in the order of OME-TIFF."""
    known = by_letter(array)
    letters = [letter for letter in _AXES if letter in known]
    if len(letters) != array.ndim or not {"y", "x"} <= set(letters):
        raise UnsupportedError(
            f"its axes are {', '.join(map(str, array.dims))}; OME-TIFF has t, c, z, y and x: "
            "select along the others, or rename them"
        )
    if array.dtype.newbyteorder("=").str[1:] not in _DTYPES:
        raise UnsupportedError(
            f"its pixels are {array.dtype}, which OME-TIFF has not: convert them, as with "
            ".ngff.map(lambda level: level.astype('float32'))"
        )
    return array.transpose(*(known[letter] for letter in letters))


def _dtype(array: xr.DataArray) -> np.dtype[Any]:
    return np.dtype("u1") if array.dtype == bool else array.dtype.newbyteorder("=")


def _tiles(
    array: xr.DataArray, side: int, dtype: np.dtype[Any], bar: Bar
) -> Iterator[NDArray[Any]]:
    """Yield the tiles of all planes, in the order of the file; those at the ends are filled up."""
    for part in parts(array, {array.ndim - 2: side}):
        planes = part.reshape(-1, *part.shape[-2:]).astype(dtype, copy=False)
        for plane in planes:
            for top in range(0, plane.shape[0], side):
                for left in range(0, plane.shape[1], side):
                    tile = plane[top : top + side, left : left + side]
                    missing = [(0, side - size) for size in tile.shape]
                    yield np.ascontiguousarray(np.pad(tile, missing))
        bar.did(part.nbytes)
        bar.show()


def _metadata(obj: Obj, finest: xr.DataArray) -> dict[str, Any]:
    """Return what the OME-XML is to say, as tifffile takes it."""
    letters = {dim: letter for letter, dim in by_letter(finest).items()}
    said: dict[str, Any] = {"axes": "".join(letters.values()).upper()}
    name = image.name(obj)
    if name:
        said["Name"] = name
    known = image.unit_texts(finest)
    for dim, size in image.pixel_sizes(finest).items():
        unit = known.get(dim)
        if dim not in letters or (unit is None and size == 1):
            continue
        if letters[dim] == "t":
            said |= _spelt("TimeIncrement", abs(size), unit, _TIMES, "s")
        else:
            said |= _spelt(
                f"PhysicalSize{letters[dim].upper()}", abs(size), unit, _LENGTHS, "pixel"
            )
    if image.kind(obj) == "image":
        said["Channel"] = _channels(obj)
    return said


def _spelt(
    key: str, size: float, unit: str | None, known: re.Pattern[str], default: str
) -> dict[str, Any]:
    """Return a size as OME-XML says it; in one of its units, or in pixels, which is no unit."""
    symbol = default if unit is None else _SYMBOLS.get(unit, units.symbol(unit))
    if not known.fullmatch(symbol):
        if default != "pixel":
            return {}  # a time cannot be without a unit
        symbol = default
    return {key: size, f"{key}Unit": symbol}


def _channels(obj: Obj) -> dict[str, Sequence[Any]]:
    found = looks(obj)
    return {
        "Name": [look.channel.name for look in found],
        "Color": [_signed(*look.color) for look in found],
    }


def _signed(red: int, green: int, blue: int) -> int:
    """Return an opaque colour as OME-XML has it: a signed number of 32 bits.

    Examples
    --------
    >>> _signed(255, 255, 255), _signed(0, 255, 0)
    (-1, 16711935)
    """
    number = red << 24 | green << 16 | blue << 8 | 255
    return number - 2**32 if number >= 2**31 else number
