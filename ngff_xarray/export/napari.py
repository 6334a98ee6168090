"""Layers for napari."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import xarray as xr

from ngff_xarray import groups, image, overlay, world
from ngff_xarray.channels import Channels
from ngff_xarray.errors import MissingDependencyError, NotOmeError, UnsupportedError
from ngff_xarray.export.dask import blocked
from ngff_xarray.export.looks import Look, looks, placed, upright
from ngff_xarray.image import Obj
from ngff_xarray.overlay import Names
from ngff_xarray.text import printable

if TYPE_CHECKING:
    from napari.layers import Layer

LayerTuple = tuple[Any, dict[str, Any], str]

_NAMED = {
    (255, 255, 255): "gray",
    (255, 0, 0): "red",
    (0, 255, 0): "green",
    (0, 0, 255): "blue",
    (0, 255, 255): "cyan",
    (255, 0, 255): "magenta",
    (255, 255, 0): "yellow",
}
_SAME = ("gray", "viridis", "magma", "inferno", "plasma")  # in napari as here
_OTHER = (0.6, 0.6, 0.6, 1.0)  # of labels without a stored colour, where others have one


@overload
def to_napari(
    obj: Obj, *, channels: Channels = ..., labels: Names = ..., as_tuples: Literal[True]
) -> list[LayerTuple]: ...
@overload
def to_napari(
    obj: Obj, *, channels: Channels = ..., labels: Names = ..., as_tuples: bool = ...
) -> list[Layer]: ...
def to_napari(
    obj: Obj, *, channels: Channels = None, labels: Names = True, as_tuples: bool = False
) -> Any:
    """Return the layers that napari draws an image with: one a channel, then its labels.

    ``viewer.layers.extend(tree.ngff.to_napari())``. The levels are handed over lazily indexed:
    nothing is read before napari draws.

    Parameters
    ----------
    obj
        An image or label image, as it is: cropped, computed, or in another system, where rotation
        and shear become the layers' ``affine``.
    channels
        Which, and how to draw them, as in `rgb`; by default all, as the store says.
    labels
        Label images by name; True for all, None for none.
    as_tuples
        Whether to return ``(data, arguments, kind)`` instead, as readers of napari do, without
        importing it.

    Raises
    ------
    MissingDependencyError
        If napari is not installed.
    UnsupportedError
        If its coordinates are neither straight nor rotated or sheared.

    Examples
    --------
    >>> import xarray as xr, ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> data, arguments, kind = to_napari(tree, as_tuples=True)[0]
    >>> kind, len(data), arguments["scale"], arguments["units"]
    ('image', 4, (0.107, 0.107), ('micrometer', 'micrometer'))
    """
    kind = image.kind(obj)
    if kind == "labels":
        tuples = [_labels(image.name(obj) or "labels", obj, image.levels(obj)[0])]
    elif kind == "image":
        dims = upright(image.levels(obj)[0])
        tuples = [_image(obj, look, dims) for look in looks(obj, channels)]
        known = _chosen(obj, labels)
        tuples += [_labels(path, label, image.levels(obj)[0]) for path, label in known.items()]
    else:
        raise NotOmeError(f"this is a {kind}, no image: take one of its images: .ngff.images")
    return tuples if as_tuples else [_layer(*each) for each in tuples]


def scene_to_napari(
    obj: xr.DataTree,
    *,
    system: str | None = None,
    channels: Channels = None,
    labels: Names = True,
    as_tuples: bool = False,
) -> Any:
    """Return the layers of all images of a scene, where they lie in one system.

    Parameters
    ----------
    obj
        A scene.
    system
        The name of the coordinate system; by default the scene's first. Images that nothing
        connects with it are left out.
    channels, labels, as_tuples
        As of `to_napari`.

    Raises
    ------
    TransformationError
        If there is no such system.
    UnsupportedError
        If an image is bent there, or of fewer axes than the system has: resample it first.
    """
    name = system if system is not None else next(iter(world.coordinate_systems(obj)), None)
    placed_in = obj if name is None else world.to_system(obj, name)
    found: list[Any] = []
    for path, each in groups.images(placed_in).items():
        for data, arguments, kind in to_napari(
            each, channels=channels, labels=labels, as_tuples=True
        ):
            named = {**arguments, "name": printable(f"{path}: {arguments['name']}")}
            found.append((data, named, kind))
    return found if as_tuples else [_layer(*each) for each in found]


def _chosen(obj: Obj, labels: Names) -> Mapping[str, Obj]:
    known = image.label_images(obj)
    names = overlay.label_names(obj, labels)
    return {name: known[name] for name in names}


def _layer(data: Any, arguments: dict[str, Any], kind: str) -> Layer:
    try:
        from napari import layers
    except ImportError as error:
        raise MissingDependencyError("napari", "napari", ".ngff.to_napari()") from error
    made = {"image": layers.Image, "labels": layers.Labels}[kind]
    known = inspect.signature(made).parameters  # before 0.5 there are no units
    return made(data, **{name: value for name, value in arguments.items() if name in known})


def _image(obj: Obj, look: Look, dims: Sequence[str]) -> LayerTuple:
    arrays = image.levels(obj)
    channel_dim = image.channel_dim(arrays[0])
    levels = [
        (array if look.index is None else array.isel({channel_dim: look.index})).transpose(*dims)
        for array in arrays
    ]
    name, channel = image.name(obj), look.channel
    described = look.index is not None or image.ome(obj).get("omero")
    names = [name, channel.name] if described else [name or channel.name]
    arguments = {
        "name": printable(": ".join(filter(None, names))),
        **_place(levels[0], dims),
        "multiscale": len(levels) > 1,
        "colormap": _colormap(look),
        "gamma": float(channel.gamma),
        "visible": channel.active,
        "blending": "additive",
    }
    if look.limits is not None:
        arguments["contrast_limits"] = list(look.limits)
    return _data(levels), arguments, "image"


def _data(levels: Sequence[xr.DataArray]) -> Any:
    return list(levels) if len(levels) > 1 else levels[0]


def _place(array: xr.DataArray, dims: Sequence[str]) -> dict[str, Any]:
    """Return where a layer lies, and what its axes are called."""
    found = placed(array, dims)
    named = {
        "axis_labels": found.names,
        "units": tuple(unit or "pixel" for unit in found.units),
    }
    if found.scale is not None:
        return {"scale": found.scale, "translate": tuple(map(float, found.origin)), **named}
    affine = np.eye(len(dims) + 1)
    affine[:-1, :-1], affine[:-1, -1] = found.matrix, found.origin
    # napari takes what is not said here from the coordinates of the array, as well
    plain = {"scale": (1.0,) * len(dims), "translate": (0.0,) * len(dims)}
    return {"affine": affine.tolist(), **plain, **named}


def _colormap(look: Look) -> Any:
    """Return a colormap as napari takes it: by name, or by its colours."""
    name = look.channel.colormap
    if not look.is_inverted:
        if name in _SAME:
            return name
        if name is None and look.color in _NAMED:
            return _NAMED[look.color]
    shown = name or "#{:02x}{:02x}{:02x}".format(*look.color)
    colors = (look.table() / 255).tolist()
    return {"name": shown + "_r" * look.is_inverted, "colors": colors}


def _labels(path: str, obj: Obj, over: xr.DataArray) -> LayerTuple:
    """Return the layer of a label image, to lie over an image."""
    arrays = [_without_channels(path, array) for array in image.levels(obj)]
    if arrays[0].dtype.kind not in "bui":
        raise NotOmeError(
            f"labels {path!r} must be integers to be drawn, found {arrays[0].dtype}: convert them, "
            "as with .astype('uint32'), or leave them out with labels=None"
        )
    if arrays[0].dtype == bool:  # of which napari wants a view
        arrays = [blocked(array).astype("u1") for array in arrays]
    levels = [_aligned(array, over) for array in arrays]
    arguments = {
        "name": printable(path),
        **_place(levels[0], [str(dim) for dim in levels[0].dims]),
        "multiscale": len(levels) > 1,
        "opacity": 0.5,
    }
    colors = image.label_colors(obj)
    if colors:
        shown = {value: tuple(part / 255 for part in rgba) for value, rgba in colors.items()}
        arguments["colormap"] = {None: _OTHER, 0: (0.0, 0.0, 0.0, 0.0), **shown}
    features = image.label_properties(obj)
    if not features.empty:
        table = features.rename(columns={"index": "index_"}).reset_index(names="index")
        arguments["features"] = table.sort_values("index", ignore_index=True)
    return _data(levels), arguments, "labels"


def _aligned(array: xr.DataArray, over: xr.DataArray) -> xr.DataArray:
    """Return labels with their axes in the order of an image's.

    napari counts axes from the last: one that labels lack in between has to be there.
    """
    own, theirs = upright(array), upright(over)
    shared = [i for i, dim in enumerate(theirs) if dim in own]
    missing = [dim for dim in theirs[min(shared, default=0) :] if dim not in own]
    if not missing:
        return array.transpose(*own)
    spread = {dim: over[dim] if dim in over.coords else over.sizes[dim] for dim in missing}
    return (
        blocked(array)
        .expand_dims(spread)
        .transpose(*[d for d in own if d not in theirs], *theirs[min(shared, default=0) :])
    )


def _without_channels(path: str, array: xr.DataArray) -> xr.DataArray:
    dim = image.channel_dim(array)
    if dim is None:
        return array
    if array.sizes[dim] != 1:
        raise UnsupportedError(
            f"labels {path!r} have {array.sizes[dim]} channels: select one, or leave them out "
            "with labels=None"
        )
    return array.isel({dim: 0})
