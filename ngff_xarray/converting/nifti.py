"""NIfTI by nibabel: its affine places the image, or is a transformation of OME-Zarr 0.6."""

from __future__ import annotations

import atexit
import gzip
import shutil
import tempfile
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.converting import axes as axes_
from ngff_xarray.converting.found import Found, Original, Scan, Size
from ngff_xarray.converting.linked import affine_to
from ngff_xarray.converting.reader import Input, Options
from ngff_xarray.converting.stored_array import StoredArray
from ngff_xarray.errors import Issue, MissingDependencyError, StoreError, UnsupportedError
from ngff_xarray.text import printable

NAME = "NIfTI"
EXTRA = "nifti"
USES = frozenset({"axes"})

_GZIP = b"\x1f\x8b"
_AXES = "xyztc"
_UNITS = {
    "meter": "meter",
    "mm": "millimeter",
    "micron": "micrometer",
    "sec": "second",
    "msec": "millisecond",
    "usec": "microsecond",
}
_lock = threading.Lock()


def claims(source: Input) -> bool:
    """Tell whether this is a file of NIfTI."""
    named = source.ends(".nii", ".nii.gz", ".hdr", ".img")
    return source.is_file and (named or source.head[344:348] in (b"n+1\0", b"ni1\0"))


def open_volume(path: str, stamp: Any) -> Any:
    """Return the array of a file, x first; one that is packed is unpacked to a temporary file."""
    import nibabel

    with _lock:
        plain = _unpacked(path, stamp)
    volume: Any = nibabel.load(plain)
    return volume.dataobj


@lru_cache(maxsize=16)
def _unpacked(path: str, _: Any) -> str:
    with Path(path).open("rb") as stream:
        if stream.read(2) != _GZIP:
            return path
    with (
        gzip.open(path, "rb") as packed,
        tempfile.NamedTemporaryFile(suffix=".nii", delete=False) as plain,
    ):
        atexit.register(Path(plain.name).unlink, missing_ok=True)
        shutil.copyfileobj(packed, plain, 2**20)
    return plain.name


class _Scaled:
    """The array proxy of nibabel, which says of what dtype what it returns is."""

    def __init__(self, proxy: Any) -> None:
        self._proxy, self.shape = proxy, proxy.shape
        self.dtype = np.asarray(proxy[(slice(0, 1),) * len(proxy.shape)]).dtype

    def __getitem__(self, box: Any) -> Any:
        return self._proxy[box]


def open_scaled(path: str, stamp: Any) -> Any:
    """Return the array of a file with the values that its header gives to the numbers in it."""
    return _Scaled(open_volume(path, stamp))


def read(source: Input, options: Options) -> Found:
    """Return the image of a file."""
    try:
        import nibabel
    except ImportError as error:
        raise MissingDependencyError("nibabel", "nifti", f"reading {source.name}") from error
    try:
        volume: Any = nibabel.load(source.path)
        header = volume.header
        shape, dtype = tuple(volume.shape), header.get_data_dtype()
        zooms = [float(size) for size in header.get_zooms()]
        known_units = header.get_xyzt_units()
        placed = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
        affine = np.asarray(volume.affine, dtype=float)
        text = str(header)
        extensions = len(header.extensions)
    except Exception as error:  # whatever nibabel raises
        raise StoreError(f"{source.name}: cannot be read: {printable(error, 300)}") from error
    if dtype.kind not in "biufc":
        raise UnsupportedError(
            f"{source.name}: holds {dtype}: colours in one number: "
            "save the colours as channels of their own"
        )
    if len(shape) < 2 or any(size > 1 for size in shape[len(_AXES) :]):
        raise UnsupportedError(f"{source.name}: is an array of {shape}: expected 2 to 5 axes")
    names = [name for name, size in zip(_AXES, shape, strict=False) if size > 1 or name in "xy"]
    kept = [i for i, size in enumerate(shape[: len(_AXES)]) if size > 1 or i < 2]
    if options.axes is not None:
        names, _ = axes_.named([shape[i] for i in kept], options, None, source.name)
    order = axes_.order(names)
    pixels = StoredArray(
        open_scaled, (source.text, source.stamp), [kept[i] for i in order], source.name
    )
    sizes, issues = _sizes(zooms, known_units)
    origins: dict[str, float] = {}
    ome: dict[str, Any] = {}
    if placed:
        origins, ome = _placed(affine, sizes, [names[i] for i in order])
    scan = Scan(
        axes=[names[i] for i in order],
        levels=[pixels],
        name=source.stem,
        sizes={axis: size for axis, size in sizes.items() if axis in names},
        origins=origins,
        issues=issues,
        dropped=[f"{extensions} extensions of the header"] if extensions else [],
        ome=ome,
    )
    return Found("NIfTI", {"": lambda: scan}, original=Original("NIfTI header", text))


def _sizes(zooms: list[float], known: tuple[str, str]) -> tuple[dict[str, Size], list[Issue]]:
    """Return the pixel sizes in the units that the header says, none where it says none."""
    space, time = (_UNITS.get(name) for name in known)
    sizes: dict[str, Size] = {}
    if space is not None:
        sizes = {
            axis: (_short(size), space)
            for axis, size in zip("xyz", zooms, strict=False)
            if size > 0
        }
    if len(zooms) > 3 and zooms[3] > 0 and time is not None:
        sizes["t"] = _short(zooms[3]), time
    issues = []
    if space is None:
        sizes_ = ", ".join(f"{size:g}" for size in zooms[:3])
        message = f"the header says no unit of its pixel sizes ({sizes_}): they are not used"
        issues.append(Issue("NIfTI: xyzt_units", message, mend="give pixel_size={'x': '1 mm', …}"))
    return sizes, issues


def _short(size: float) -> float:
    """Return the decimal that a number of 32 bits stands for."""
    return float(f"{np.float32(size):.7g}")


def _placed(
    affine: NDArray[np.float64], sizes: dict[str, Size], axes: list[str]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return where the first pixel is, or else the transformation to the world.

    An affine that only scales and shifts is in the coordinates. Another one leads from pixels in
    their size to right, anterior and superior, as a transformation of OME-Zarr 0.6.
    """
    if not {"x", "y", "z"} <= set(axes) or "x" not in sizes:
        return {}, {}
    steps = np.array([sizes[axis][0] for axis in "xyz"])
    if np.allclose(affine[:3, :3], np.diag(steps), rtol=1e-5, atol=1e-6 * steps.min()):
        return {axis: float(affine[i, 3]) for i, axis in enumerate("xyz")}, {}
    turned = np.column_stack([affine[:3, :3] / steps, affine[:3, 3]])
    return {}, affine_to("scanner", turned, axes, sizes)
