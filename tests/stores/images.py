"""Multiscale images, label images and fields of vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt

from stores.groups import consolidate, document, write_array, write_group
from stores.layouts import LAYOUTS, Version
from stores.multiscales import AXES, Json, Multiscale, Placement, pick, space_dims
from stores.pixels import (
    Array,
    draw_objects,
    draw_pixels,
    halve_mean,
    halve_nearest,
    pyramid,
)

Number = TypeVar("Number", int, float)

_SIZES = {"time": 3, "channel": 2}
_SPACE_SIZES = (4, 50, 62)
_SPACE_SCALES = (2.0, 0.5, 0.5)
_SPACE_CHUNK = 32
_SMALL: Mapping[str, Any] = {"axes": "cyx", "shape": (2, 32, 40), "levels": 2}


class LabelSpec(TypedDict, total=False):
    """What to write as one label image; every key may be left out.

    Parameters
    ----------
    data
        Pixels of the first level; `N_OBJECTS` discs around the image's blobs if left out.
    dtype
        Integer type; that of `data`, or ``"uint32"``, if left out.
    axes
        Names of the axes, out of the image's; all but the channels if left out. A channel axis
        has size 1.
    levels
        Number of levels, as many as the image has if left out.
    colors, properties, source
        Parts of ``image-label``; None omits the part. If left out: a colour and an ``area`` in
        pixels for each value, and the path to the image (0.1 has no properties).
    """

    data: Array
    dtype: npt.DTypeLike
    axes: Sequence[str]
    levels: int
    colors: list[Json] | None
    properties: list[Json] | None
    source: Json | None


def write_image(
    path: Path,
    *,
    version: Version = "0.5",
    axes: str | Sequence[Json] = "czyx",
    shape: Sequence[int] | None = None,
    levels: int = 3,
    scale: Sequence[float] | None = None,
    translation: Sequence[float] | None = None,
    outer: Sequence[Json] | None = None,
    intrinsic: str = "physical",
    systems: Sequence[Json] = (),
    transformations: Sequence[Json] | None = None,
    paths: Sequence[str] | None = None,
    dtype: npt.DTypeLike = "uint16",
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    labels: Mapping[str, LabelSpec] | None = None,
    omero: Json | None = None,
    attributes: Json | None = None,
    array_attributes: Mapping[str, Any] | None = {},
    multiscale: Json | None = None,
    ome: Json | None = None,
    half_pixel: bool = True,
    consolidated: bool = False,
    stated: str | None = None,
    seed: int = 0,
    data: Array | None = None,
) -> Path:
    """Path of a new OME-Zarr image.

    The last two space axes halve from level to level: the mean of blocks, rounded for integers,
    with sizes rounded up. Label images take every second pixel.

    Up to 0.3 there are no scales and no translations. In 0.1 and 0.2 the arrays have all of
    t, c, z, y, x: the axes that were not asked for have size 1.

    Parameters
    ----------
    path
        Folder to write; its name up to the first dot is the name of the multiscale.
    version
        OME-Zarr version; up to ``"0.4"`` writes Zarr 2, from ``"0.5"`` on Zarr 3.
    axes
        One letter of `AXES` per axis, or axis objects as the specification has them.
    shape
        Size of the first level; small if None: time 3, channel 2, space 4, 50, 62.
    levels
        Number of levels.
    scale, translation
        Coordinates of the first level in the axes' units. A scale of None is 2, 0.5, 0.5 for
        space and 1 for the rest. A translation of None is written only where `half_pixel` makes
        it other than zero.
    outer
        ``coordinateTransformations`` of the multiscale, as they are to be written (0.4 and 0.5);
        labels get them for the axes that they have.
    intrinsic
        Name of the coordinate system that the levels lie in (0.6 only); labels have it too.
    systems
        More coordinate systems, as they are to be written (0.6 only).
    transformations
        ``coordinateTransformations`` of the multiscale, as they are to be written (0.6 only).
    paths
        Paths of the levels; ``"0"``, ``"1"``, … if None.
    dtype
        Type of the pixels.
    chunks
        Chunk shape, cut to the size of a level unless there are shards; at most 32 in space and
        1 elsewhere if None.
    shards
        Shard shape, a multiple of `chunks` (0.5 and 0.6).
    labels
        Label images by name, which may be nested (``"sub/cells"``).
    omero
        The ``omero`` object.
    attributes
        Attributes of the group beside those of OME-Zarr.
    array_attributes
        Attributes of the image's arrays; in Zarr 2, None leaves out their files ``.zattrs``.
    multiscale
        Keys to add to, or replace in, the multiscale object.
    ome
        Keys to add to, or replace in, the OME-Zarr document.
    half_pixel
        Whether the translation of level n is moved by ``(scale_n - scale_0) / 2``, which keeps
        the corner of the image in place.
    consolidated
        Whether to consolidate the metadata of the whole hierarchy.
    stated
        Version string to write, such as ``"0.6rc0"``; that of `version` if None.
    seed
        Decides the pixels.
    data
        Pixels of the first level, in place of `shape`, `dtype` and `seed`.
    """
    axis_objects = [dict(AXES[axis]) if isinstance(axis, str) else axis for axis in axes]
    space = space_dims(axis_objects)
    if data is None:
        sizes = _default_shape(axis_objects) if shape is None else tuple(shape)
        data = draw_pixels(sizes, space, np.dtype(dtype), seed)
    names = [str(level) for level in range(levels)] if paths is None else paths
    image = Multiscale(
        axes=axis_objects,
        levels=pyramid(data, space[-2:], len(names), halve_mean),
        paths=names,
        placement=Placement(
            scale=_default_scale(axis_objects) if scale is None else scale,
            translation=translation,
            half_pixel=half_pixel,
            outer=outer,
            intrinsic=intrinsic,
            systems=systems,
            transformations=transformations,
        ),
        chunks=_default_chunks(axis_objects, data.shape) if chunks is None else chunks,
        shards=shards,
    )
    write_group(path, version=version)
    described = _write_levels(path, image, version, array_attributes)
    written = {"multiscales": [{**described, **(multiscale or {})}]}
    optional = {} if omero is None else {"omero": omero}
    write_group(
        path,
        version=version,
        ome={**written, **optional, **(ome or {})},
        attributes=attributes,
        stated=stated,
    )
    if labels is not None:
        _write_labels(path / "labels", image, version, stated, labels, seed)
    if consolidated:
        consolidate(path)
    return path


def write_several(
    path: Path,
    entries: Sequence[Mapping[str, Any]],
    *,
    version: Version = "0.5",
    ome: Json | None = None,
    attributes: Json | None = None,
    stated: str | None = None,
    consolidated: bool = False,
) -> Path:
    """Path of a group with several multiscale images.

    Parameters
    ----------
    path
        Folder to write.
    entries
        Keyword arguments of `write_image` for each, of which ``paths`` have to differ, and
        ``name``: the name of the multiscale.
    version, ome, attributes, stated, consolidated
        As of `write_image`.
    """
    multiscales = []
    for seed, entry in enumerate(entries):
        name = {"name": entry["name"]} if "name" in entry else {}
        keywords = {key: value for key, value in entry.items() if key != "name"}
        write_image(
            path,
            version=version,
            multiscale={**name, **keywords.pop("multiscale", {})},
            **{"seed": seed, **keywords},
        )
        multiscales += document(path)["multiscales"]
    write_group(
        path,
        version=version,
        ome={"multiscales": multiscales, **(ome or {})},
        attributes=attributes,
        stated=stated,
    )
    if consolidated:
        consolidate(path)
    return path


def write_field(
    path: Path,
    field: Array,
    scale: Sequence[float] | None = None,
    translation: Sequence[float] | None = None,
    *,
    kind: Literal["displacement", "coordinate"] = "displacement",
    axes: str | Sequence[Json] | None = None,
    **image: Any,
) -> Path:
    """Path of a multiscale image of vectors, for ``displacements`` or ``coordinates``.

    Groups between it and the nearest above it are written too.

    Parameters
    ----------
    path
        Folder to write.
    field
        Vectors: (component, …) with a component per output axis, in that order.
    scale, translation
        Places of the samples along the axes after the first; one apart from 0 on if None.
    kind
        Type of the axis of components, whose name is ``"c"``.
    axes
        The other axes, as of `write_image`; the last of z, y, x if None.
    image
        More keyword arguments of `write_image`, whose version is 0.6.
    """
    n_axes = field.ndim - 1
    others = "zyx"[-n_axes:] if axes is None else axes
    return write_image(
        path,
        axes=[
            {"name": "c", "type": kind, "discrete": True},
            *(AXES[axis] if isinstance(axis, str) else axis for axis in others),
        ],
        data=field,
        scale=(1.0, *([1.0] * n_axes if scale is None else scale)),
        translation=None if translation is None else (0.0, *translation),
        **{"version": "0.6", "levels": 1, **image},
    )


def small(image: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keyword arguments of `write_image` for a small image, but for those that are given."""
    defaults = {"levels": 2} if "axes" in image else _SMALL
    return {**defaults, **image}


def _write_levels(
    path: Path, image: Multiscale, version: Version, attributes: Mapping[str, Any] | None
) -> Json:
    """Multiscale object of an image whose arrays have been written below `path`."""
    layout = LAYOUTS[version]
    image = image if layout.axes is None else image.with_axes(layout.axes)
    for name, pixels in zip(image.paths, image.levels, strict=True):
        cut = np.minimum(image.chunks, pixels.shape).tolist()
        write_array(
            path / name,
            pixels,
            version=version,
            names=image.names,
            chunks=image.chunks if image.shards else cut,
            shards=image.shards,
            attributes=attributes,
        )
    return layout.describe(path.name.partition(".")[0], image)


def _write_labels(
    path: Path,
    image: Multiscale,
    version: Version,
    stated: str | None,
    labels: Mapping[str, LabelSpec],
    seed: int,
) -> None:
    write_group(path, version=version, ome={"labels": list(labels)}, stated=stated)
    for name, spec in labels.items():
        label = _label_image(image, spec, seed)
        write_group(path / name, version=version)
        described = _write_levels(path / name, label, version, {})
        default = _image_label(label.levels[0], name)
        usual = {key: default[key] for key in LAYOUTS[version].label_parts}
        given = {key: part for key, part in spec.items() if key in default}
        parts = {key: part for key, part in {**usual, **given}.items() if part is not None}
        write_group(
            path / name,
            version=version,
            ome={"multiscales": [described], "image-label": parts},
            stated=stated,
        )


def _label_image(image: Multiscale, spec: LabelSpec, seed: int) -> Multiscale:
    without_channels = [axis["name"] for axis in image.axes if axis.get("type") != "channel"]
    dims = [image.names.index(name) for name in spec.get("axes", without_channels)]
    axes = pick(image.axes, dims)
    space = space_dims(axes)
    if "data" in spec:
        data = spec["data"].astype(spec.get("dtype", spec["data"].dtype))
    else:
        shape = [
            1 if axis.get("type") == "channel" else size
            for axis, size in zip(axes, pick(image.levels[0].shape, dims), strict=True)
        ]
        data = draw_objects(shape, space, seed).astype(spec.get("dtype", "uint32"))
    levels = spec.get("levels", len(image.levels))
    return replace(
        image,
        axes=axes,
        levels=pyramid(data, space[-2:], levels, halve_nearest),
        paths=[str(level) for level in range(levels)],
        placement=image.placement.pick(dims),
        chunks=pick(image.chunks, dims),
        shards=image.shards and pick(image.shards, dims),
    )


def _image_label(data: Array, name: str) -> Json:
    values, areas = (each.tolist() for each in np.unique(data[data != 0], return_counts=True))
    return {
        "colors": [
            {"label-value": value, "rgba": [value * step % 256 for step in (37, 91, 53)] + [255]}
            for value in values
        ],
        "properties": [
            {"label-value": value, "area": area} for value, area in zip(values, areas, strict=True)
        ],
        "source": {"image": "../" * (len(PurePosixPath(name).parts) + 1)},
    }


def _from_last(dims: Sequence[int], values: Sequence[Number]) -> dict[int, Number]:
    return dict(zip(reversed(dims), reversed(values), strict=False))


def _default_shape(axes: Sequence[Json]) -> tuple[int, ...]:
    sizes = _from_last(space_dims(axes), _SPACE_SIZES)
    return tuple(
        sizes.get(dim, _SIZES.get(axis.get("type", ""), 2)) for dim, axis in enumerate(axes)
    )


def _default_scale(axes: Sequence[Json]) -> tuple[float, ...]:
    scales = _from_last(space_dims(axes), _SPACE_SCALES)
    return tuple(scales.get(dim, 1.0) for dim in range(len(axes)))


def _default_chunks(axes: Sequence[Json], shape: Sequence[int]) -> tuple[int, ...]:
    space = space_dims(axes)
    return tuple(min(n, _SPACE_CHUNK) if dim in space else 1 for dim, n in enumerate(shape))
