"""NIfTI by nibabel: pixels a part at a time, and the affine from the coordinates."""

from __future__ import annotations

import gzip
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import image, units
from ngff_xarray.errors import MissingDependencyError, UnitError, UnsupportedError
from ngff_xarray.export.files import by_letter, chosen, new_file, parts
from ngff_xarray.export.looks import placed
from ngff_xarray.image import Obj
from ngff_xarray.progress import progress as progress_bar

_SPACE = {"meter": "meter", "millimeter": "mm", "micrometer": "micron"}
_TIME = {"second": "sec", "millisecond": "msec", "microsecond": "usec"}
_LONGEST = 2**15 - 1  # what NIfTI-1 can say


def to_nifti(
    obj: Obj,
    path: str | os.PathLike[str],
    *,
    level: object = 0,
    overwrite: bool = False,
    progress: bool | None = None,
) -> None:
    """Write a level of an image as NIfTI, a part at a time.

    Coordinates become the affine, in metres, millimetres or micrometres; rotated and sheared ones,
    too (``tree.ngff.to_system("scanner")``). Axes are x, y, z, t and c. Names and colours of
    channels, which NIfTI has no place for, are left out. An image too long for NIfTI-1 is NIfTI-2.

    Parameters
    ----------
    obj
        An image or label image, as it is: cropped or computed.
    path
        The file, ``.nii`` or ``.nii.gz``.
    level
        Which level, by number or pixel size.
    overwrite
        Whether to replace a file.
    progress
        Whether to show how far it is; by default in notebooks and terminals, after a second.

    Raises
    ------
    MissingDependencyError
        If nibabel is not installed.
    StoreError
        If there is such a file, or it cannot be written.
    UnsupportedError
        If NIfTI has no place for its axes, its dtype or its coordinates.

    Examples
    --------
    >>> import tempfile, nibabel, ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_nifti(tree, f"{folder}/cell.nii", level=1)
    ...     nibabel.load(f"{folder}/cell.nii").shape
    (275, 330)
    """
    array = _ordered(chosen(obj, level))
    header = _header(array)
    name = os.fspath(path)
    if not name.endswith((".nii", ".nii.gz")):
        raise UnsupportedError(f"NIfTI is called .nii or .nii.gz: found {Path(name).name!r}")
    with (
        new_file(path, overwrite=overwrite) as part,
        progress_bar("writing", "B", progress, array.nbytes) as bar,
        ExitStack() as stack,
    ):
        file: Any = stack.enter_context(part.open("wb"))
        if name.endswith(".gz"):
            file = stack.enter_context(gzip.GzipFile(fileobj=file, mode="wb"))
        block = header.binaryblock
        file.write(block + bytes(int(header["vox_offset"]) - len(block)))
        for pixels in parts(array):
            file.write(np.ascontiguousarray(pixels, header.get_data_dtype()).data)
            bar.did(pixels.nbytes)
            bar.show()


def _ordered(array: xr.DataArray) -> xr.DataArray:
    """Return an array of x, y and what of z, t and c there is, x last: it varies fastest."""
    known = by_letter(array)
    letters = [letter for letter in "ctzyx" if letter in known]
    if len(letters) != array.ndim or not {"y", "x"} <= set(letters):
        raise UnsupportedError(
            f"its axes are {', '.join(map(str, array.dims))}; NIfTI has x, y, z, t and c: select "
            "along the others, or rename them"
        )
    if "c" in letters and array.sizes[known["c"]] == 1:
        array, letters = array.isel({known["c"]: 0}), letters[1:]
    return array.transpose(*(known[letter] for letter in letters))


def _shape(array: xr.DataArray) -> tuple[int, ...]:
    """Return the shape that the header says, x first: c is the fifth axis also where t is not."""
    sizes = {letter: array.sizes[dim] for letter, dim in by_letter(array).items()}
    last = max("xyztc".index(letter) for letter in sizes)
    return tuple(sizes.get(letter, 1) for letter in "xyztc"[: last + 1])


def _header(array: xr.DataArray) -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise MissingDependencyError("nibabel", "nifti", ".ngff.to_nifti()") from error
    shape = _shape(array)
    made = nibabel.Nifti2Header if max(shape) > _LONGEST else nibabel.Nifti1Header
    header: Any = made()  # type: ignore[no-untyped-call]
    header["magic"] = header.single_magic
    header["vox_offset"] = header.single_vox_offset
    dtype = np.dtype("u1") if array.dtype == bool else array.dtype.newbyteorder("=")
    try:
        header.set_data_dtype(dtype)
    except nibabel.spatialimages.HeaderDataError as error:
        raise UnsupportedError(
            f"its pixels are {array.dtype}, which NIfTI has not: convert them, as with "
            ".ngff.map(lambda level: level.astype('float32'))"
        ) from error
    header.set_data_shape(shape)
    affine, space = _affine(array)
    step, time = _time(array)
    header.set_sform(affine, code="scanner")
    header.set_qform(affine, code="scanner", strip_shears=True)
    if len(shape) > 3:
        header["pixdim"][4] = step
    header.set_xyzt_units(space, time)
    return header


def _affine(array: xr.DataArray) -> tuple[NDArray[np.float64], str]:
    """Return the matrix from x, y, z of pixels to x, y, z of the world (4, 4), and the unit."""
    letters = {letter: dim for letter, dim in by_letter(array).items() if letter in "xyz"}
    columns = [i for i, letter in enumerate("xyz") if _is_placed(array, letters.get(letter))]
    dims = [letters["xyz"[i]] for i in columns]
    affine = np.eye(4)
    if not dims:
        return affine, "unknown"
    where = placed(array, dims)
    unit = next((unit for unit in where.units if unit is not None), None)
    wanted = unit if unit in _SPACE else "micrometer"
    if unit is not None and None in where.units:
        raise UnsupportedError(
            "some of its axes of space have units and others none: NIfTI has one for all"
        )
    factors = [1.0 if unit is None else units.factor(each, wanted) for each in where.units]
    rows = [
        "xyz".index(name.lower()) if name.lower() in "xyz" else i
        for i, name in enumerate(where.names)
    ]
    affine[np.ix_(rows, columns)] = where.matrix * np.array(factors)[:, None]
    affine[rows, 3] = where.origin * factors
    return affine, "unknown" if unit is None else _SPACE[wanted]


def _is_placed(array: xr.DataArray, dim: str | None) -> bool:
    """Tell whether a coordinate says where the pixels along a dimension are."""
    return dim is not None and any(dim in each.dims for each in array.coords.values())


def _time(array: xr.DataArray) -> tuple[float, str]:
    """Return the time step and its unit."""
    dim = next((axis.name for axis in image.axes(array) if axis.type == "time"), None)
    step = None if dim is None else image.pixel_sizes(array).get(dim)
    if dim is None or step is None:
        return 1.0, "unknown"
    unit = image.unit_texts(array).get(dim)
    if unit is None:
        return step, "unknown"
    if unit in _TIME:
        return step, _TIME[unit]
    try:
        return step * units.factor(unit, "second"), "sec"
    except UnitError:
        return step, "unknown"
