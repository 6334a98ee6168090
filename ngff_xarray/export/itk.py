"""A level as an image of ITK or SimpleITK, with its place in the world."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import image, ops, units
from ngff_xarray.errors import MissingDependencyError, SelectionError, UnsupportedError
from ngff_xarray.export.looks import Placed, placed
from ngff_xarray.image import Obj

Library = Literal["itk", "SimpleITK"]


def to_itk(
    obj: Obj, level: object = 0, *, library: Library | None = None, unit: str | None = None
) -> Any:
    """Return a level in memory as an image of ITK or SimpleITK.

    Parameters
    ----------
    obj
        An image or label image of two or three dimensions, and channels, which become the
        components of its vectors: of others select a position first (``tree.ngff.sel(t=0)``).
    level
        Its number, or a pixel size (``"1 µm"``).
    library
        ``"itk"`` or ``"SimpleITK"``; by default the one that is installed, ITK first.
    unit
        The unit of spacing and origin, such as ``"millimeter"``, which files of ITK mean; by
        default that of the last axis.

    Returns
    -------
    itk.Image or SimpleITK.Image
        Its axes are x, y, z. The origin is the centre of its first pixel; the direction tells
        axes that run backwards, and rotation.

    Raises
    ------
    MissingDependencyError
        If neither is installed, or not the one that is wanted.
    SelectionError
        If it has more dimensions, or there is no such level.
    UnsupportedError
        If its coordinates are sheared or bent, or the library has no such pixels.

    Examples
    --------
    >>> import xarray as xr, ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> to_itk(tree, level="0.5 µm").GetSpacing()  # doctest: +SKIP
    (0.428, 0.428)
    """
    module, name = _module(library)
    arrays = image.levels(obj)
    array = arrays[ops.which_level(arrays, level)]
    dims = _dims(array)
    channel = image.channel_dim(array)
    has_channels = channel is not None and array.sizes[channel] > 1
    place = placed(array, dims)
    spacing, origin, direction = _geometry(place, unit)
    alone: dict[Any, Any] = {
        dim: 0 for dim in array.dims if dim not in dims and not (has_channels and dim == channel)
    }
    order = [*dims, channel] if has_channels else dims
    pixels = np.ascontiguousarray(array.isel(alone).transpose(*order).values)
    try:
        made = _MAKERS[name](module, pixels, has_channels)
    except (TypeError, KeyError, NotImplementedError) as error:  # what either has no pixels for
        raise UnsupportedError(
            f"{name} has no images of {pixels.dtype}: convert it, for example "
            'tree.ngff.map(lambda array: array.astype("float32"))'
        ) from error
    made.SetSpacing(spacing)
    made.SetOrigin(origin)
    _DIRECTIONS[name](module, made, direction)
    return made


def _module(library: Library | None) -> tuple[Any, Library]:
    names: tuple[Library, ...] = ("itk", "SimpleITK") if library is None else (library,)
    for name in names:
        if name not in _MAKERS:
            raise ValueError(f"library: expected 'itk' or 'SimpleITK', found {name!r}")
        try:
            return import_module(name), name
        except ImportError as error:
            missing = error
    raise MissingDependencyError(" or ".join(names), "itk", ".ngff.to_itk()") from missing


def _dims(array: xr.DataArray) -> list[str]:
    """Return the dimensions of space; others must be of channels, or of one pixel."""
    dims = [axis.name for axis in image.axes(array) if axis.type == "space"]
    channel = image.channel_dim(array)
    if len(dims) < 2:  # of axes that nobody described
        dims = [str(dim) for dim in array.dims if dim != channel and array.sizes[dim] > 1]
    others = [str(d) for d in array.dims if d not in (*dims, channel) and array.sizes[d] > 1]
    if others or not 2 <= len(dims) <= 3:
        sizes = ", ".join(f"{dim} {size}" for dim, size in array.sizes.items())
        example = others[0] if others else dims[0] if dims else "t"
        raise SelectionError(
            f"an image of ITK has two or three dimensions of space; this one has {sizes}: select "
            f"a position first: tree.ngff.sel({example}=…)"
        )
    letters = {dim: dim.lower() for dim in dims}
    if set(letters.values()) <= set("zyx"):
        dims.sort(key=lambda dim: "zyx".index(letters[dim]))
    return dims


def _geometry(
    place: Placed, unit: str | None
) -> tuple[list[float], list[float], NDArray[np.float64]]:
    """Return spacing, origin and direction in the order of ITK: x first."""
    wanted = place.units[-1] if unit is None else unit
    factors = np.array([units.factor(each, wanted) if each else 1.0 for each in place.units])
    matrix = (place.matrix * factors[:, np.newaxis])[::-1, ::-1]
    spacing = np.linalg.norm(matrix, axis=0)
    spacing[spacing == 0] = 1.0
    direction = matrix / spacing
    if not np.allclose(direction.T @ direction, np.eye(len(spacing)), atol=1e-6):
        raise UnsupportedError(
            "its axes are sheared, which ITK cannot say: resample it first: "
            "tree.ngff.resample(system=…)"
        )
    return spacing.tolist(), (place.origin * factors)[::-1].tolist(), direction


def _make_itk(module: Any, pixels: NDArray[Any], is_vector: bool) -> Any:
    return module.image_from_array(pixels, is_vector=is_vector)


def _make_sitk(module: Any, pixels: NDArray[Any], is_vector: bool) -> Any:
    return module.GetImageFromArray(pixels, isVector=is_vector)


def _direct_itk(module: Any, made: Any, direction: NDArray[np.float64]) -> None:
    made.SetDirection(module.matrix_from_array(np.ascontiguousarray(direction)))


def _direct_sitk(module: Any, made: Any, direction: NDArray[np.float64]) -> None:
    made.SetDirection(direction.ravel().tolist())


_MAKERS = {"itk": _make_itk, "SimpleITK": _make_sitk}
_DIRECTIONS = {"itk": _direct_itk, "SimpleITK": _direct_sitk}
