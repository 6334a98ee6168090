"""Images, labels and their tables as SpatialData has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ngff_xarray import image, units
from ngff_xarray.errors import MissingDependencyError, NotOmeError, SelectionError, UnsupportedError
from ngff_xarray.export.dask import blocked
from ngff_xarray.export.looks import placed
from ngff_xarray.image import Obj

if TYPE_CHECKING:
    from spatialdata import SpatialData


def to_spatialdata(
    obj: xr.DataTree, *, name: str | None = None, system: str = "global", unit: str | None = None
) -> SpatialData:
    """Return an image with its label images as a SpatialData object, lazily, level by level.

    Parameters
    ----------
    obj
        An image or label image of channels and two or three dimensions: of others select a
        position first (``tree.ngff.sel(t=0)``).
    name
        What to call the image; by default its own name, and ``cell_image`` where a label image is
        called ``cell``, too: elements have names of their own.
    system
        The name of the coordinate system that the elements lie in.
    unit
        The unit of that system, such as ``"micrometer"``; by default that of the last axis.

    Returns
    -------
    spatialdata.SpatialData
        ``images[name]``, ``labels`` by name, and ``tables`` of the properties of labels
        (``nuclei_table``), which annotate them. Pixels are in dask arrays, a block a shard or
        chunk. SpatialData counts pixels from their corner: the transformations say so.

    Raises
    ------
    MissingDependencyError
        If SpatialData is not installed.
    SelectionError
        If it has other dimensions of more than one pixel, or a label image of that name.
    UnsupportedError
        If its coordinates are bent.

    Examples
    --------
    >>> import xarray as xr, ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> to_spatialdata(tree).labels["cell"]["scale0"]["image"].shape  # doctest: +SKIP
    (660, 550)
    """
    kind = image.kind(obj)
    if kind not in ("image", "labels"):
        raise NotOmeError(f"this is a {kind}, no image: take one of its images: .ngff.images")
    own = _own_name(obj, name, kind)
    try:
        import spatialdata
    except ImportError as error:
        raise MissingDependencyError(
            "spatialdata", "spatialdata", ".ngff.to_spatialdata()"
        ) from error
    images = {own: _element(obj, system, unit)} if kind == "image" else {}
    known = image.label_images(obj) if kind == "image" else {own: obj}
    labels = {_plain(path): _element(label, system, unit) for path, label in known.items()}
    tables = {
        f"{_plain(path)}_table": table
        for path, label in known.items()
        if (table := _table(_plain(path), label)) is not None
    }
    return spatialdata.SpatialData(images=images, labels=labels, tables=tables)


def _own_name(obj: xr.DataTree, given: str | None, kind: str) -> str:
    """Return a name for an image that none of its label images has."""
    taken = [_plain(path) for path in image.label_images(obj)] if kind == "image" else []
    own = image.name(obj) or kind
    if given is None:
        return f"{own}_image" if own in taken else own
    if given in taken:
        raise SelectionError(
            f"name: there is a label image {given!r}, and elements of SpatialData have names of "
            "their own: choose another"
        )
    return given


def _plain(path: str) -> str:
    """Return a name as elements may have it."""
    return path.replace("/", "_")


def _element(obj: Obj, system: str, unit: str | None) -> Any:
    """Return the element of an image: one array, or a tree of its levels."""
    from spatialdata import models

    is_labels = image.kind(obj) == "labels"
    arrays = [_alone(blocked(array), is_labels) for array in image.levels(obj)]
    deep = "z" in arrays[0].dims
    kinds = {
        (False, False): models.Image2DModel,
        (False, True): models.Image3DModel,
        (True, False): models.Labels2DModel,
        (True, True): models.Labels3DModel,
    }
    model = kinds[is_labels, deep]
    names = None if is_labels else [str(each) for each in arrays[0]["c"].values]
    levels = [
        model.parse(
            _bare(array),
            transformations={system: _transformation(array, unit)},
            **({} if names is None else {"c_coords": names}),
        )
        for array in arrays
    ]
    if len(levels) == 1:
        return levels[0]
    tree = xr.DataTree.from_dict(
        {f"scale{i}": level.to_dataset(name="image") for i, level in enumerate(levels)}
    )
    model.validate(tree)
    return tree


def _alone(array: xr.DataArray, is_labels: bool) -> xr.DataArray:
    """Return an array of c, z, y and x in this order, labels without c."""
    channel = image.channel_dim(array)
    space = [axis.name for axis in image.axes(array) if axis.type == "space"]
    named = {dim: dim.lower() for dim in space}
    if not {"y", "x"} <= set(named.values()) <= {"z", "y", "x"}:
        raise SelectionError(
            f"SpatialData has images along z, y and x; this one has {', '.join(space)}: rename them"
        )
    others = [str(dim) for dim in array.dims if dim not in (*space, channel)]
    if is_labels and channel is not None:
        others.append(channel)
    long = [dim for dim in others if array.sizes[dim] > 1]
    if long:
        raise SelectionError(
            f"SpatialData has no axis {long[0]!r}: select a position first: "
            f"tree.ngff.sel({long[0]}=…)"
        )
    array = array.isel(dict.fromkeys(others, 0))
    if not is_labels:
        names = [channel_.name for channel_ in image.channels(array)]
        array = array.expand_dims("c") if channel is None else array.rename({channel: "c"})
        array = array.assign_coords(c=names)
    array = array.rename({dim: letter for dim, letter in named.items() if dim != letter})
    return array.transpose(*[dim for dim in ("c", "z", "y", "x") if dim in array.dims])


def _bare(array: xr.DataArray) -> xr.DataArray:
    """Return the pixels, which SpatialData gives coordinates of its own."""
    return xr.DataArray(array.data, dims=array.dims)


def _transformation(array: xr.DataArray, unit: str | None) -> Any:
    """Return what leads from the corners of pixels, which SpatialData counts, to the world."""
    from spatialdata.transformations import Affine

    dims = [str(dim) for dim in array.dims if dim != "c"]
    place = placed(array, dims)
    if set(place.names) != set(dims):
        raise UnsupportedError(
            f"SpatialData has systems of z, y and x; this one has {', '.join(place.names)}"
        )
    wanted = place.units[-1] if unit is None else unit
    factors = np.array([units.factor(each, wanted) if each else 1.0 for each in place.units])
    linear = place.matrix * factors[:, np.newaxis]
    shift = place.origin * factors - linear @ np.full(len(dims), 0.5)
    matrix = np.eye(len(dims) + 1)
    matrix[:-1, :-1], matrix[:-1, -1] = linear, shift
    return Affine(matrix, input_axes=tuple(dims), output_axes=place.names)


def _table(name: str, obj: Obj) -> Any:
    """Return the properties of labels as a table that annotates them, None if there are none."""
    frame = image.label_properties(obj)
    if frame.empty:
        return None
    import pandas as pd
    from anndata import AnnData
    from spatialdata.models import TableModel

    # names that a table of SpatialData may have, and none that it needs for itself
    plain = frame.rename(columns=lambda each: "".join(c if c.isalnum() else "_" for c in str(each)))
    taken = plain.rename(columns={"region": "region_", "instance_id": "instance_id_"})
    table = taken.reset_index(names="instance_id")
    table["region"] = pd.Categorical([name] * len(table))
    table.index = table.index.astype(str)
    return TableModel.parse(
        AnnData(obs=table), region=name, region_key="region", instance_key="instance_id"
    )
