"""What is to be written, and how: checked, so that what cannot be raises before the first byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypedDict, Unpack

import xarray as xr

from ngff_xarray import image, spec, world
from ngff_xarray.image import Obj
from ngff_xarray.layout import Compressor, Layout, Sizes
from ngff_xarray.multiscale import Factors, multiscale
from ngff_xarray.write.nodes import check
from ngff_xarray.write.writing import Writing


class ImageOptions(TypedDict, total=False):
    """How an image is written, as `to_zarr` takes it."""

    levels: int | None
    scale_factors: Sequence[Factors] | None
    sizes: Sequence[Mapping[str, int]] | None
    smallest: int | Mapping[str, int] | None
    method: str | None
    keep_ids: bool
    chunks: Sizes
    shards: Sizes
    compressor: Compressor | None
    lossy: bool


def prepared(obj: Obj, version: str | None, **options: Unpack[ImageOptions]) -> tuple[Obj, Writing]:
    """Return an object with all of its levels, and how to write it.

    Parameters
    ----------
    obj
        An image, plate, well, collection or scene.
    version
        None for that of the object, or 0.5 where that is not written any more.
    **options
        As `to_zarr` takes them.

    Raises
    ------
    NgffError
        If it cannot be written so.
    """
    if version is None:
        opened_from = image.version(obj)
        module = spec.VERSIONS.get(opened_from or "")
        version = module.VERSION if module is not None and module.write else "0.5"
    spec.writer(version)
    obj = world.restored(obj)
    levels, factors = options.get("levels"), options.get("scale_factors")
    smallest, method = options.get("smallest"), options.get("method")
    keep_ids = options.get("keep_ids", False)
    sizes = options.get("sizes")
    given = (levels, factors, sizes, smallest, method, keep_ids or None)
    if not isinstance(obj, xr.DataTree) or any(each is not None for each in given):
        obj = multiscale(
            obj,
            levels=levels,
            scale_factors=factors,
            sizes=sizes,
            smallest=smallest,
            method=method,
            keep_ids=keep_ids,
        )
    compressor = options.get("compressor")
    layout = Layout.of(obj, options.get("chunks"), options.get("shards"), compressor)
    unknown = image.version(obj) is None
    writing = Writing(version, options.get("lossy", False), layout=layout, contrast=unknown)
    writing = replace(writing, has_xml=check(obj, writing))
    layout.check(writing.zarr_format)
    return obj, writing
