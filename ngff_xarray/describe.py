"""An xarray object -> what its metadata are to say: the inverse of reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from ngff_xarray import geometry, image, units
from ngff_xarray.errors import NotOmeError, UnsupportedError
from ngff_xarray.image import Obj
from ngff_xarray.model import Axis, Collection, Fields, Image, Level, Multiscale, Scene
from ngff_xarray.spec import hcs, omero
from ngff_xarray.spec.documents import Content


def described(obj: Obj, *, lossy: bool = False) -> Content:
    """Return what the group of an object says.

    Parameters
    ----------
    obj
        An image (a tree of levels, one level, an array), a plate, well, collection or scene.
    lossy
        Leave out what no longer fits the object, instead of raising.

    Raises
    ------
    UnsupportedError
        If coordinate systems no longer fit, or coordinates are not evenly spaced.
    """
    kind = image.kind(obj)
    said = image.ome(obj) if kind in ("image", "labels") else obj.attrs["ome"]
    extra = said.get("extra", {}).get("ome", {})
    if kind == "plate":
        return replace(hcs.parse_plate(said["plate"]), extra=extra)
    if kind == "well":
        if "well" not in said:
            raise NotOmeError("this well was not opened: open it with .ngff.well(path)")
        return Fields((), said["well"], extra)
    if kind == "scene":
        return Scene((), said["scene"], extra)
    if kind == "collection" and "nodes" in said:
        raise UnsupportedError(
            "collections of RFC-8, which is a proposal, are read and not written: write the images "
            "one by one (.ngff.images), or those next below with ngff_xarray.write_collection"
        )
    if kind == "collection":
        return Collection(None, said)
    return _image(obj, said, lossy)


def _image(obj: Obj, said: Mapping[str, Any], lossy: bool) -> Image:
    extra = said.get("extra", {})
    axes = tuple(_axis(axis) for axis in image.axes(obj))
    per_level = extra.get("datasets", {})
    levels = tuple(
        Level(path or "0", geometry.placement(array, axes), per_level.get(path, {}))
        for path, array in zip(image.level_paths(obj), image.levels(obj), strict=True)
    )
    multiscale = Multiscale(
        axes=axes,
        levels=levels,
        name=image.name(obj),
        type=said.get("type"),
        metadata=said.get("metadata"),
        extra=extra.get("multiscale", {}),
        **_systems(said, axes, lossy),
    )
    return Image(multiscale, _channels(obj, said), said.get("image-label"), extra.get("ome", {}))


def _axis(axis: Axis) -> Axis:
    """Return the axis without the store's spelling of a unit that it no longer has."""
    spelt = axis.extra.get("unit")
    if isinstance(spelt, str) and axis.unit != units.unit_name(spelt):
        return replace(axis, extra={k: v for k, v in axis.extra.items() if k != "unit"})
    return axis


def _systems(said: Mapping[str, Any], axes: tuple[Axis, ...], lossy: bool) -> dict[str, Any]:
    """Return the coordinate systems, if the intrinsic one still has the object's axes."""
    name, systems = said.get("intrinsic"), said.get("coordinateSystems", [])
    own = next((stored for stored in systems if stored.get("name") == name), None)
    fits = own is None or [a.get("name") for a in own["axes"]] == [
        axis.extra.get("name", axis.name) for axis in axes
    ]
    links = said.get("coordinateTransformations", [])
    if own is not None and not fits and (links or len(systems) > 1):
        if not lossy:
            raise UnsupportedError(_misfit(str(name), own, axes))
        return {"intrinsic": name}
    if not fits:
        return {"intrinsic": name}
    return {"intrinsic": name, "systems": tuple(systems), "transformations": tuple(links)}


def _misfit(name: str, own: Mapping[str, Any], axes: Sequence[Axis]) -> str:
    """Return why an image is not in the coordinate system that it should be in."""
    wanted = [str(axis.get("name")) for axis in own["axes"]]
    names = [axis.extra.get("name", axis.name) for axis in axes]
    if sorted(wanted) == sorted(names):
        return (
            f"the axes of this image are in the order {', '.join(names)}, those of its coordinate "
            f"system {name!r} in the order {', '.join(wanted)}: transpose it (a tree by "
            "map_over_datasets), or give lossy=True to leave the coordinate systems out"
        )
    return (
        f"the coordinate systems of this image need the axes of {name!r}, which it no "
        f"longer has (it has {', '.join(names)}): give lossy=True to leave them out"
    )


def _channels(obj: Obj, said: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the ``omero`` document with the channels that the object still has."""
    stored = said.get("omero")
    finest = image.levels(obj)[0]
    names = image.channel_names(finest)
    if names is None:
        return stored
    if isinstance(stored, dict):
        return omero.select(stored, names)
    numbered = names == [str(i) for i in range(len(names))]
    return stored if numbered else omero.made(names, finest.dtype)


def other_attributes(obj: xr.DataTree | xr.Dataset | xr.DataArray) -> dict[str, Any]:
    """Return the attributes of a node that are not OME's, numpy's numbers and arrays as lists."""
    return {str(key): _plain(value) for key, value in obj.attrs.items() if key != "ome"}


def _plain(value: Any) -> Any:
    """Return what JSON has for a value of numpy, as xarray writes it."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def ome_attrs(image: Image) -> dict[str, Any]:
    """Return what an image says apart from its geometry, as ``attrs["ome"]`` holds it.

    ``name``, ``type``, ``metadata``, ``omero``, ``image-label``, and of version 0.6 ``intrinsic``,
    ``coordinateSystems`` and ``coordinateTransformations``, stand where they are said; every key
    this package does not use is kept under ``extra``, by the place it stood in.
    """
    multiscale = image.multiscale
    known = {
        "name": multiscale.name,
        "type": multiscale.type,
        "metadata": multiscale.metadata,
        "omero": image.omero,
        "image-label": image.image_label,
        "intrinsic": multiscale.intrinsic,
        "coordinateSystems": list(multiscale.systems) or None,
        "coordinateTransformations": list(multiscale.transformations) or None,
    }
    extra = {
        "ome": dict(image.extra),
        "multiscale": dict(multiscale.extra),
        "axes": {axis.name: dict(axis.extra) for axis in multiscale.axes if axis.extra},
        "datasets": {level.path: dict(level.extra) for level in multiscale.levels if level.extra},
    }
    kept = {place: keys for place, keys in extra.items() if keys}
    said = {key: value for key, value in known.items() if value is not None}
    return {**said, "extra": kept} if kept else said
