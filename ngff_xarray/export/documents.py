"""The metadata of an image for readers that know versions 0.4 and 0.5 alone, of its coordinates."""

from __future__ import annotations

import json
from typing import Any

import xarray as xr

from ngff_xarray import image, units
from ngff_xarray.errors import UnitError, UnsupportedError
from ngff_xarray.export.looks import placed
from ngff_xarray.image import Obj

# the unit that all lengths, and all times, are said in
BASES = {"space": "meter", "time": "second"}


def base(unit: str | None, kind: str | None) -> tuple[str | None, float]:
    """Return the base unit of a unit, and how many of them it is; None and 1 where there is none.

    Examples
    --------
    >>> base("micrometer", "space"), base(None, "space")
    (('meter', 1e-06), (None, 1.0))
    """
    wanted = BASES.get(kind or "")
    if unit is None or wanted is None:
        return None, 1.0
    try:
        return wanted, units.factor(unit, wanted)
    except UnitError:  # a time along an axis of space
        return None, 1.0


def geometry(array: xr.DataArray) -> tuple[list[float], list[float]]:
    """Return the scale and translation of a level in base units, channels without.

    Raises
    ------
    UnsupportedError
        If it is rotated or sheared, or an axis runs backwards.
    """
    dims = [str(dim) for dim in array.dims]
    found = placed(array, dims)
    if found.scale is None or min(found.scale, default=1) <= 0:
        raise UnsupportedError(
            "an image that is rotated, sheared or runs backwards cannot be said to such a viewer: "
            "resample it first, and write that"
        )
    factors = [base(axis.unit, axis.type)[1] for axis in image.axes(array)]
    is_channel = [axis.type == "channel" for axis in image.axes(array)]
    scale = [1.0 if c else s * f for s, f, c in zip(found.scale, factors, is_channel, strict=True)]
    start = [
        0.0 if c else float(o) * f
        for o, f, c in zip(found.origin, factors, is_channel, strict=True)
    ]
    return scale, start


def documents(obj: Obj, zarr_format: int) -> dict[str, bytes]:
    """Return the metadata of an image and its label images, by their keys below it.

    They say where the levels lie, as version 0.4 in Zarr v2 and 0.5 in v3 do, and nothing else.
    """
    found = {_key(zarr_format): _document(obj, zarr_format)}
    for path, label in image.label_images(obj).items():
        found[f"labels/{path}/{_key(zarr_format)}"] = _document(label, zarr_format)
    return found


def _key(zarr_format: int) -> str:
    return "zarr.json" if zarr_format == 3 else ".zattrs"


def _document(obj: Obj, zarr_format: int) -> bytes:
    arrays = image.levels(obj)
    datasets = []
    for path, array in zip(image.level_paths(obj), arrays, strict=True):
        scale, translation = geometry(array)
        steps = [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": translation},
        ]
        datasets.append({"path": path, "coordinateTransformations": steps})
    axes: list[dict[str, Any]] = []
    for axis in image.axes(arrays[0]):
        unit, _ = base(axis.unit, axis.type)
        said = {"name": axis.name, "type": axis.type, "unit": unit}
        axes.append({key: value for key, value in said.items() if value is not None})
    multiscale = {"axes": axes, "datasets": datasets}
    if zarr_format == 2:
        return json.dumps({"multiscales": [{"version": "0.4", **multiscale}]}).encode()
    ome = {"version": "0.5", "multiscales": [multiscale]}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
    return json.dumps(group).encode()
