"""Thumbnails: small pictures of images and of groups of them, as Pillow has pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from ngff_xarray import image, mosaic, picture
from ngff_xarray.errors import SelectionError
from ngff_xarray.image import Obj
from ngff_xarray.planes import Choice, check_drawable

if TYPE_CHECKING:
    from PIL.Image import Image


def thumbnail(obj: Obj, size: int = 144) -> Image:
    """Return a small picture, which a notebook shows.

    Of an image the coarsest level is read and nothing else; of a plate, a well, a collection or a
    scene, a picture of all its images.

    Parameters
    ----------
    obj
        An image, a label image or a group of images.
    size
        The longest side in pixels.

    Returns
    -------
    PIL.Image.Image

    Raises
    ------
    SelectionError
        If the coarsest level is too large to be read for a thumbnail, or there is nothing to draw.

    Examples
    --------
    >>> from ngff_xarray import sample
    >>> thumbnail(xr.open_datatree(sample("cell"))).size
    (69, 83)
    """
    from PIL.Image import fromarray

    if size < 1:
        raise SelectionError(f"size is {size}; expected 1 or more")
    if isinstance(obj, xr.DataTree) and image.group_kind(obj) is not None:
        whole = mosaic.mosaic(obj, Choice(), max_pixels=size**2)
        return fromarray(picture.shrunk(whole.rgb(), size))
    check_drawable(image.levels(obj)[-1])
    pixels = picture.thumbnail(obj, size)
    if pixels is None:
        raise SelectionError(
            "the coarsest level is too large to be read for a thumbnail: draw a region, with "
            ".ngff.rgb(x=slice(…), y=slice(…))"
        )
    return fromarray(pixels)
