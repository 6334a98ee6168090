"""What an xarray object holds of an image: its levels, axes, channels and labels.

Everything is derived from the object, so that it holds for cropped and computed ones too.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import xarray as xr

from ngff_xarray import geometry, units
from ngff_xarray.errors import Issue, NotOmeError
from ngff_xarray.model import RGBA, Axis, Channel, axis_type
from ngff_xarray.spec import image_label, omero
from ngff_xarray.spec.collections import LAYOUT

if TYPE_CHECKING:
    import pandas as pd
    import pint

Obj = xr.DataArray | xr.Dataset | xr.DataTree

PROVENANCE = "provenance"
"""The attribute, beside OME's, that says what made an image."""

_OF_DASK = re.compile(r"-[0-9a-f]{32}$")  # a name that xarray takes over


def levels(obj: Obj) -> tuple[xr.DataArray, ...]:
    """Return the levels of an image, finest first, each with the image's metadata.

    Parameters
    ----------
    obj
        A tree whose nodes are levels, a Dataset with one image, or an array.

    Raises
    ------
    NotOmeError
        If there is no image in it.
    """
    if isinstance(obj, xr.DataArray):
        if not all(isinstance(dim, str) for dim in obj.dims):
            raise NotOmeError(f"this DataArray has dimensions {obj.dims}: expected names, as text")
        return (obj,)
    if isinstance(obj, xr.Dataset):
        return levels(with_ome(obj[_image_variable(obj)], obj.attrs.get("ome")))
    said = obj.attrs.get("ome")
    found = tuple(with_ome(node.data_vars[name], said) for node, name in level_nodes(obj))
    if not found:
        raise NotOmeError(
            "this DataTree holds no OME-Zarr image: no node has a variable 'image' or 'labels'; "
            "open one with xr.open_datatree(path), or take the node that holds it"
        )
    return found


def level_paths(obj: Obj) -> tuple[str, ...]:
    """Return the path of every level in its tree; ``""`` for an object that is a level."""
    if not isinstance(obj, xr.DataTree):
        return ("",)
    return tuple(node.path.removeprefix(obj.path).strip("/") for node, _ in level_nodes(obj))


def level_nodes(tree: xr.DataTree) -> list[tuple[xr.DataTree, str]]:
    """Return the nodes that are levels, and the name of their variable; not those of labels.

    They come in the order of the store, where that is known: nodes have that of their depth.
    """
    found = _level_nodes(tree)
    order = {path: i for i, path in enumerate(tree.encoding.get("level_paths", ()))}
    return sorted(found, key=lambda pair: order.get(_below(tree, pair[0]), len(order)))


def _level_nodes(tree: xr.DataTree) -> list[tuple[xr.DataTree, str]]:
    own = variable_name(tree.data_vars)
    found = [(tree, own)] if own else []
    for child in tree.children.values():
        if "ome" not in child.attrs:  # another image begins there
            found += _level_nodes(child)
    return found


def variable_name(names: Iterable[Hashable]) -> str | None:
    """Return which of the variables of a level is its image, or None."""
    return next((str(n) for n in names if str(n).rstrip("_") in ("image", "labels")), None)


def _says_nothing(name: str) -> bool:
    """Tell whether an array is called as those of a store are here, or by dask."""
    is_of_a_level = variable_name([name]) is not None or name in ("array", "parameters")
    return is_of_a_level or _OF_DASK.search(name) is not None


def _image_variable(dataset: xr.Dataset) -> Hashable:
    named = variable_name(dataset.data_vars)
    candidates = (
        [named]
        if named
        else [name for name, array in dataset.data_vars.items() if len(_space_dims(array)) >= 2]
    )
    if len(candidates) != 1:
        names = ", ".join(map(str, dataset.data_vars)) or "none"
        raise NotOmeError(
            f"this Dataset holds no single image (variables: {names}): expected one named "
            "'image' or 'labels'; take the array itself: ds[name].ngff"
        )
    return candidates[0]


def with_ome(array: xr.DataArray, ome: Any) -> xr.DataArray:
    """Return the array with the image's metadata, where it has lost them."""
    if ome is None or array.attrs.get("ome") is ome:
        return array
    return array.assign_attrs(ome=ome)


def ome(obj: Obj) -> dict[str, Any]:
    """Return what the store said apart from geometry (``attrs["ome"]``); empty if nothing."""
    said = obj.attrs.get("ome")
    if said is None and not isinstance(obj, xr.DataArray):
        said = levels(obj)[0].attrs.get("ome")
    return said if isinstance(said, dict) else {}


def name(obj: Obj) -> str | None:
    """Return the image's name, as the store gives it; an array from elsewhere has its own.

    Examples
    --------
    >>> name(xr.DataArray([[0]], dims=("y", "x"), name="muscle"))
    'muscle'
    """
    said = _text(ome(obj).get("name"))
    is_named = said is None and isinstance(obj, xr.DataArray) and isinstance(obj.name, str)
    return str(obj.name) if is_named and not _says_nothing(str(obj.name)) else said


def version(obj: Obj) -> str | None:
    """Return the version of the specification that the image was opened from."""
    found = obj.encoding.get("ome_version")
    return str(found) if found is not None else None


def kind(obj: Obj) -> str:
    """Return what an object is, by what its metadata say and, of images, by its variable.

    ``"image"``, ``"labels"``, ``"plate"``, ``"well"``, ``"collection"`` or ``"scene"``.

    Raises
    ------
    NotOmeError
        If it is none of these.
    """
    found = group_kind(obj)
    if found is not None:
        return found
    variable = str(levels(obj)[0].name or "")
    is_labels = "image-label" in ome(obj) or variable.startswith("labels")
    return "labels" if is_labels else "image"


# what a node that is no image is, by the key that its metadata have
_GROUPS = {
    "plate": "plate",
    "well": "well",
    "row": "well",
    "scene": "scene",
    LAYOUT: "collection",
    "series": "collection",
    "labels": "collection",
    "nodes": "collection",
}


def group_kind(obj: Obj) -> str | None:
    """Return what a node that is no image is, or None."""
    said = obj.attrs.get("ome") if isinstance(obj, xr.DataTree) else None
    if not isinstance(said, dict):
        return None
    return next((kind for key, kind in _GROUPS.items() if key in said), None)


def axes(obj: Obj) -> tuple[Axis, ...]:
    """Return the axes, in the order of the array's dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> image = xr.DataArray(np.zeros((2, 3)), dims=("y", "x"))
    >>> [(axis.name, axis.type) for axis in axes(image)]
    [('y', 'space'), ('x', 'space')]
    """
    array = levels(obj)[0]
    extra = ome(obj).get("extra", {}).get("axes", {})
    return tuple(_axis(array, str(dim), extra.get(dim, {})) for dim in array.dims)


def _axis(array: xr.DataArray, dim: str, extra: Mapping[str, Any]) -> Axis:
    coordinate = array[dim]
    return Axis(
        name=dim,
        type=coordinate.attrs.get("axis_type", axis_type(dim)),
        unit=geometry.unit(coordinate),
        long_name=coordinate.attrs.get("long_name"),
        extra=extra,
    )


def unit_texts(obj: Obj) -> dict[str, str | None]:
    """Return the unit of each axis but channels: the specification's name, or the store's text."""
    return {
        axis.name: axis.unit or _text(axis.extra.get("unit"))
        for axis in axes(obj)
        if axis.type != "channel"
    }


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def pixel_sizes(obj: Obj) -> dict[str, float]:
    """Return the pixel size of every axis with even steps, in the axis's own unit."""
    array = levels(obj)[0]
    sizes = {
        axis.name: geometry.pixel_size(array.coords[axis.name])
        for axis in axes(array)
        if axis.type != "channel" and axis.name in array.coords
    }
    return {name: size for name, size in sizes.items() if size is not None}


def pixel_quantities(obj: Obj) -> dict[str, pint.Quantity[float]]:
    """Return the pixel size of every axis with even steps, as pint quantities."""
    named = {axis.name: axis.unit for axis in axes(obj)}
    return {name: units.quantity(size, named[name]) for name, size in pixel_sizes(obj).items()}


def channels(obj: Obj) -> tuple[Channel, ...]:
    """Return the channels that the object still has, as the store asks to draw them.

    They are found by the names on the channel axis, so that selecting keeps them right.
    """
    array = levels(obj)[0]
    stored = ome(obj).get("omero")
    names = channel_names(array)
    if names is not None:
        return _by_name(names, stored)
    dim = channel_dim(array)
    if dim is not None:  # its names were dropped: which ones are left cannot be told
        return omero.channels(None, array.sizes[dim])
    alone = len(omero.by_name(stored)) <= 1  # otherwise they were mixed, or one lost its name
    return omero.channels(stored if alone else None, 1)


def channel_names(array: xr.DataArray) -> list[str] | None:
    """Return the names of the channels: on their axis, or of one that was selected."""
    dim = channel_dim(array)
    if dim is not None:
        found = array.coords.get(dim)
        return None if found is None else [str(name) for name in found.values.tolist()]
    selected = [str(c.item()) for c in array.coords.values() if _is_channel(c)]
    return selected or None


def _is_channel(coordinate: xr.DataArray) -> bool:
    return coordinate.ndim == 0 and coordinate.attrs.get("axis_type") == "channel"


def _by_name(names: Sequence[str], stored: Mapping[str, Any] | None) -> tuple[Channel, ...]:
    known = omero.by_name(stored)
    return tuple(known.get(name, Channel(name)) for name in names)


def channel_dim(array: xr.DataArray) -> str | None:
    """Return the dimension that counts channels, or None."""
    return next((axis.name for axis in axes(array) if axis.type == "channel"), None)


def plane_dims(array: xr.DataArray) -> tuple[str, str]:
    """Return the dimensions drawn downwards and to the right: y and x, or the last two of space.

    Raises
    ------
    NotOmeError
        If the array has fewer than two dimensions to draw.
    """
    dims = _space_dims(array)
    by_letter = {dim.lower(): dim for dim in dims}
    if "y" in by_letter and "x" in by_letter:
        return by_letter["y"], by_letter["x"]
    if len(dims) < 2:
        dims = [str(dim) for dim in array.dims if dim != channel_dim(array)]
    if len(dims) < 2:
        raise NotOmeError(
            f"dimensions {tuple(array.dims)} are no picture: expected at least two of space, such "
            "as y and x: rename them, with array.rename(…)"
        )
    return dims[-2], dims[-1]


def _space_dims(array: xr.DataArray) -> list[str]:
    return [axis.name for axis in axes(array) if axis.type == "space"]


def issues(obj: Obj) -> tuple[Issue, ...]:
    """Return what was wrong or odd in the metadata that an object was opened from."""
    if not isinstance(obj, xr.DataTree):
        return tuple(obj.encoding.get("issues", ()))
    return tuple(
        replace(issue, group="/".join(filter(None, (_below(obj, node), issue.group))))
        for node in obj.subtree
        for issue in node.encoding.get("issues", ())
    )


def _below(tree: xr.DataTree, node: xr.DataTree) -> str:
    """Return the path of a node below another, "" for itself."""
    return node.path.removeprefix(tree.path).strip("/")


def label_nodes(tree: xr.DataTree) -> list[xr.DataTree]:
    """Return the nodes of the label images below an image."""
    group = tree.children.get("labels")
    return [node for node in group.descendants if "ome" in node.attrs] if group is not None else []


class LabelImages(dict[str, xr.DataTree]):
    """Path -> label image; shown as what each is, and what made it."""

    def table(self) -> pd.DataFrame:
        """Return a row a label image, by path: its size and dtype, and what made it, and when.

        ``function``, ``parameters`` and ``date`` are None where nothing is said of that; ``failed``
        is of how many blocks a function failed.
        """
        import pandas as pd

        rows = []
        for label in self.values():
            said, finest = provenance(label), levels(label)[0]
            size = " × ".join(str(n) for n in finest.shape)
            what = {key: said.get(key) for key in ("function", "parameters", "date")}
            failed = said.get("failed")
            count = len(failed) if isinstance(failed, list) else 0
            rows.append({"size": size, "dtype": str(finest.dtype), **what, "failed": count})
        columns = ["size", "dtype", "function", "parameters", "date", "failed"]
        index = pd.Index(list(self), name="labels", dtype=object)
        return pd.DataFrame(rows, index=index, columns=columns)

    def __repr__(self) -> str:
        return self.table().to_string() if self else "no label images"

    def _repr_html_(self) -> str:
        return str(self.table().to_html()) if self else "no label images"


def label_images(obj: Obj) -> LabelImages:
    """Return the label images of an image by their path, each a tree of its own."""
    if not isinstance(obj, xr.DataTree):
        return LabelImages()
    prefix = f"{obj.path.rstrip('/')}/labels/"
    nodes = label_nodes(obj)
    return LabelImages({n.path.removeprefix(prefix): n.copy(deep=False) for n in nodes})


def provenance(obj: Obj) -> dict[str, Any]:
    """Return what is said of how an image or a label image was made; empty if nothing.

    ``function``, ``parameters``, ``settings``, ``versions``, ``date``, and ``failed``, where it
    failed: see `ngff_xarray.analyse`.
    """
    found = obj.attrs.get(PROVENANCE)
    return found if isinstance(found, dict) else {}


def label_colors(obj: Obj) -> dict[int, RGBA]:
    """Return the stored RGBA colour (0 to 255) of each label value."""
    return image_label.colors(ome(obj).get("image-label"))


def label_properties(obj: Obj) -> pd.DataFrame:
    """Return the stored properties: a row a label value, which is the index."""
    import pandas as pd

    records = image_label.properties(ome(obj).get("image-label"))
    if not records:
        return pd.DataFrame(index=pd.Index([], dtype="int64", name="label-value"))
    return pd.DataFrame.from_records(records).set_index("label-value")
