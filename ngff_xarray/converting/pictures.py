"""PNG, JPEG and other pictures by Pillow: a plane each, in grey or in colours."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray.converting import omexml
from ngff_xarray.converting.found import Found, Original, Scan, Size
from ngff_xarray.converting.kept import Kept
from ngff_xarray.converting.reader import DeclinedError, Input, Options
from ngff_xarray.converting.tiff_kinds import paper_size
from ngff_xarray.errors import Issue, StoreError
from ngff_xarray.text import printable

NAME = "PNG, JPEG, BMP, GIF, WebP"
EXTRA = ""
USES: frozenset[str] = frozenset()

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm")
_MODES = {"P": "RGB", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB"}
_kept = Kept(2**26)  # pictures are unpacked whole


def claims(source: Input) -> bool:
    """Tell whether this may be a picture."""
    return source.is_file and source.ends(*_ENDINGS)


def read(source: Input, options: Options) -> Found:
    """Return the image of a file."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(source.path) as picture:
            size, mode, info = picture.size, picture.mode, dict(picture.info)
            format_, frames = picture.format or "picture", getattr(picture, "n_frames", 1)
    except UnidentifiedImageError as error:
        raise DeclinedError("Pillow does not know what it is") from error
    except Exception as error:  # whatever its codecs raise
        raise StoreError(f"{source.name}: cannot be read: {printable(error, 300)}") from error
    said = {key: value for key, value in info.items() if isinstance(value, str | int | float)}
    original = Original(format_, json.dumps(said)) if said else None
    found = partial(_scan, source, size, mode, info.get("dpi"), frames)
    return Found(format_, {"0": found}, original=original)


def _scan(source: Input, size: tuple[int, int], mode: str, dpi: Any, frames: int) -> Scan:
    pixels = PictureArray(source.text, size, mode, source.stamp)
    sizes: dict[str, Size] = {}
    issues: list[Issue] = []
    for axis, per_inch in zip("xy", dpi or (), strict=False):
        micrometers, issue = paper_size(25_400 / float(per_inch) if per_inch else 0, axis, "dpi")
        if micrometers:
            sizes[axis] = micrometers, "micrometer"
        issues += [issue] if issue else []
    axes = "cyx" if pixels.ndim == 3 else "yx"
    return Scan(
        axes=tuple(axes),
        levels=[pixels],
        name=source.stem,
        sizes=sizes,
        channels=omexml.colored() if pixels.shape[0] == 3 and pixels.ndim == 3 else (),
        issues=issues,
        dropped=[f"{frames - 1} frames after the first"] if frames > 1 else [],
    )


class PictureArray(BackendArray):
    """The pixels of a picture, which is unpacked whole when any of them is asked for.

    Parameters
    ----------
    path
        Of the file.
    size, mode
        As Pillow has them.
    stamp
        What tells the file from another one at its path.
    """

    def __init__(self, path: str, size: tuple[int, int], mode: str, stamp: Any) -> None:
        from PIL import Image

        self._path, self._mode, self._stamp = path, _MODES.get(mode, mode), stamp
        sample = np.asarray(Image.new(self._mode, (1, 1)))
        self.dtype = sample.dtype
        self._plane = (size[1], size[0])
        self.shape = (*sample.shape[2:], *self._plane)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        return _kept.get((self._path, self._mode, self._stamp), self._load)[key]

    def _load(self) -> NDArray[Any]:
        from PIL import Image

        where = printable(self._path, 500)
        try:
            with Image.open(self._path) as picture:
                converted = picture if picture.mode == self._mode else picture.convert(self._mode)
                pixels = np.asarray(converted)
        except Exception as error:  # whatever its codecs raise
            raise StoreError(f"{where}: cannot be read: {printable(error, 300)}") from error
        if pixels.shape[:2] != self._plane:
            raise StoreError(f"{where}: has changed: found {pixels.shape}, expected {self._plane}")
        return np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels
