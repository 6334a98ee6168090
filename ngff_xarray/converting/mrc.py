"""MRC (``.mrc``, ``.map``, ``.rec``, …), mapped into memory.

https://www.ccpem.ac.uk/mrc_format/mrc2014.php
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from ngff_xarray.converting import axes as axes_
from ngff_xarray.converting.found import Found, Original, Scan, Size
from ngff_xarray.converting.reader import DeclinedError, Input, Options
from ngff_xarray.converting.stored_array import StoredArray
from ngff_xarray.errors import Issue, StoreError, UnsupportedError

NAME = "MRC"
EXTRA = ""
USES = frozenset({"axes"})

_ENDINGS = (".mrc", ".mrcs", ".map", ".rec", ".st", ".ali", ".ccp4")
_HEADER = 1024  # bytes
_DTYPES = {0: "i1", 1: "i2", 2: "f4", 4: "c8", 6: "u2", 12: "f2"}
_IMOD = 1146047817  # the stamp of a program whose bytes may be unsigned


@dataclass(frozen=True)
class _Header:
    """What the header says; axes are x, y, z."""

    dtype: str
    shape: tuple[int, int, int]
    start: tuple[int, int, int]
    voxel: tuple[float, float, float]
    space_group: int
    extended: int
    origin: tuple[float, float, float]
    labels: tuple[str, ...]
    depth: int


def claims(source: Input) -> bool:
    """Tell whether this is a file of MRC."""
    return source.head[208:211] == b"MAP" or (source.is_file and source.ends(*_ENDINGS))


def open_map(path: str, offset: int, dtype: str, shape: tuple[int, ...], _: Any) -> Any:
    """Return the array behind the header of a file."""
    return np.memmap(path, dtype, "r", offset, shape)


def read(source: Input, options: Options) -> Found:
    """Return the image of a file."""
    header = _header(source)
    x, y, z = header.shape
    shape: tuple[int, ...] = (y, x) if z == 1 else (z, y, x)
    known = "zyx"[-len(shape) :]
    is_volumes = header.space_group >= 401 and 0 < header.depth < z
    if is_volumes:
        shape, known = (z // header.depth, header.depth, y, x), "tzyx"
    offset = _HEADER + header.extended
    expected = offset + math.prod(shape) * np.dtype(header.dtype).itemsize
    found = source.path.stat().st_size
    if found < expected:
        raise StoreError(
            f"{source.name}: has {found} bytes, expected {expected}: the file is truncated"
        )
    axes, _ = axes_.named(shape, options, known, source.name)
    order = axes_.order(axes)
    args = (source.text, offset, header.dtype, shape, source.stamp)
    pixels = StoredArray(open_map, args, order, source.name)
    sizes: dict[str, Size] = {
        axis: (_short(size), "angstrom")
        for axis, size in zip("xyz", header.voxel, strict=True)
        if size > 0 and axis in axes
    }
    origin = header.origin
    if any(header.start) and not any(origin):
        first, second, third = (n * v for n, v in zip(header.start, header.voxel, strict=True))
        origin = (first, second, third)
    scan = Scan(
        axes=[axes[i] for i in order],
        levels=[pixels],
        name=source.stem,
        sizes=sizes,
        origins={a: _short(at) for a, at in zip("xyz", origin, strict=True) if a in sizes},
        issues=_issues(header, known, options),
        dropped=[f"the extended header ({header.extended} bytes)"] if header.extended else [],
    )
    text = "\n".join(filter(None, header.labels))
    return Found("MRC", {"": lambda: scan}, original=Original("MRC labels", text) if text else None)


def _issues(header: _Header, known: str, options: Options) -> list[Issue]:
    is_images = header.space_group == 0 and header.shape[2] > 1
    if options.axes is not None or not (is_images or known == "tzyx"):
        return []
    message = f"is a stack of {'images' if is_images else 'volumes'}: read as {known}"
    return [Issue("MRC: ispg", message, mend="give axes='tyx' for time points")]


def _header(source: Input) -> _Header:
    """Return what the header of a file says.

    Raises
    ------
    DeclinedError
        If it is none.
    UnsupportedError
        If its numbers or axes are others than this reader knows.
    """
    head = source.head[:_HEADER]
    if len(head) < _HEADER or head[208:211] != b"MAP":
        raise DeclinedError("has no header of MRC, in which 'MAP' stands")
    swapped = head[212] == 0x11  # the stamp of a machine whose bytes come the other way round
    sign = ">" if swapped else "<"
    numbers = struct.unpack(f"{sign}256i", head)
    floats = struct.unpack(f"{sign}256f", head)
    x, y, z, mode, *start = numbers[:7]
    if mode not in _DTYPES or min(x, y, z) < 1:
        raise UnsupportedError(
            f"{source.name}: has mode {mode} and {x} x {y} x {z} pixels: expected a mode of "
            f"{', '.join(map(str, _DTYPES))}"
        )
    order = numbers[16:19]
    if order not in ((1, 2, 3), (0, 0, 0)):
        raise UnsupportedError(f"{source.name}: its axes are in the order {order}, not x, y, z")
    code = _DTYPES[mode]
    if mode == 0 and numbers[38] == _IMOD and not numbers[39] & 1:
        code = "u1"
    sampling = numbers[7:10]
    voxel = [a / n if n > 0 else 0.0 for a, n in zip(floats[10:13], sampling, strict=True)]
    count = min(max(numbers[55], 0), 10)
    labels = (head[224 + 80 * i : 304 + 80 * i] for i in range(count))
    return _Header(
        dtype=f"{sign}{code}",
        shape=(x, y, z),
        start=(start[0], start[1], start[2]),
        voxel=(voxel[0], voxel[1], voxel[2]),
        space_group=numbers[22],
        extended=max(numbers[23], 0),
        origin=(floats[49], floats[50], floats[51]),
        labels=tuple(each.decode("latin-1").strip("\0 ") for each in labels),
        depth=sampling[2],
    )


def _short(size: float) -> float:
    """Return the decimal that a number of 32 bits stands for."""
    return float(f"{size:.7g}")
