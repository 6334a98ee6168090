"""An object as it was before its coordinates were put where its axes mix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import xarray as xr

from ngff_xarray import image
from ngff_xarray.image import Obj, level_nodes
from ngff_xarray.model import Json
from ngff_xarray.ops import rebuilt

ObjT = TypeVar("ObjT", bound=Obj)
NodeT = TypeVar("NodeT", xr.DataArray, xr.Dataset)
Nodes = dict[str, xr.Dataset]
_SYSTEMS = ("intrinsic", "coordinateSystems", "coordinateTransformations")


def _with_levels(
    node: xr.DataTree, ome: dict[str, Any], change: Callable[[xr.Dataset], xr.Dataset]
) -> Nodes:
    """Return the changed Datasets of an image's node and of its levels, by path."""
    changed = {node.path: node.to_dataset(inherit=False)}
    for level, _ in level_nodes(node):
        changed[level.path] = change(level.to_dataset(inherit=False))
    changed[node.path] = changed[node.path].assign_attrs(ome=ome)
    return changed


def restored(obj: ObjT) -> ObjT:
    """Return an object as it was before `to_system` put it where its axes mix.

    Examples
    --------
    >>> image = xr.DataArray([[0]], dims=("y", "x"))
    >>> restored(image) is image
    True
    """
    result: Any = obj
    if isinstance(obj, xr.DataTree):
        result = _restored_tree(obj)
    elif "placed" in (said := image.ome(obj)):
        result = _put_back(result, said["placed"], _unplaced(said))
    before: ObjT = result
    return before


def _restored_tree(obj: xr.DataTree) -> xr.DataTree:
    changed: Nodes = {}
    for node in obj.subtree:
        said = node.attrs.get("ome")
        if isinstance(said, dict) and "placed" in said:
            ome = _unplaced(said)
            put_back = partial(_put_back, placed=said["placed"], ome=ome)
            changed |= _with_levels(node, ome, put_back)
    return rebuilt(obj, changed) if changed else obj


def _unplaced(said: Json) -> dict[str, Any]:
    kept = {key: value for key, value in said["placed"].items() if key in _SYSTEMS}
    return {key: value for key, value in said.items() if key != "placed"} | kept


def _put_back(obj: NodeT, placed: Json, ome: dict[str, Any]) -> NodeT:
    """Return a level with the coordinates that stand beside those of the system it is in."""
    result = obj.drop_vars([name for name in placed["axes"] if name in obj.coords])
    before = {
        name: axis
        for name, axis in placed["before"].items()
        if name in result.coords or name in result.dims
    }
    along = {
        result.coords[name].dims[0]: name
        for name in before
        if name not in result.dims and result.coords[name].ndim
    }
    return _with_ome(result.swap_dims(along).rename(before), ome, {**along, **before})


def _with_ome(obj: NodeT, ome: dict[str, Any], renamed: Mapping[Any, Any]) -> NodeT:
    """Return a level with other metadata, and chunks under the new names of dimensions."""
    result = obj.copy(deep=False)
    if isinstance(result, xr.DataArray):
        holders = [result]
    else:
        holders = [result[name] for name in result.data_vars]
        if "ome" in result.attrs:
            result.attrs = {**result.attrs, "ome": ome}
    for holder in holders:
        if "ome" in holder.attrs or holder is result:
            holder.attrs["ome"] = ome
        chunks = holder.encoding.get("preferred_chunks")
        if isinstance(chunks, dict):
            named = {renamed.get(dim, dim): size for dim, size in chunks.items()}
            holder.encoding["preferred_chunks"] = named
    return result
