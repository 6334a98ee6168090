"""Example stores for tests, made with zarr-python and hand-written JSON.

Nothing here imports ``ngff_xarray``: its readers are tested on what others could have written.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

Json: TypeAlias = dict[str, Any]
Array: TypeAlias = npt.NDArray[Any]
Version: TypeAlias = Literal["0.4", "0.5"]
Number = TypeVar("Number", int, float)

AXES: Mapping[str, Json] = {
    "t": {"name": "t", "type": "time", "unit": "second"},
    "c": {"name": "c", "type": "channel"},
    "z": {"name": "z", "type": "space", "unit": "micrometer"},
    "y": {"name": "y", "type": "space", "unit": "micrometer"},
    "x": {"name": "x", "type": "space", "unit": "micrometer"},
}
N_OBJECTS = 5

_SIZES = {"time": 3, "channel": 2}
_SPACE_SIZES = (4, 50, 62)
_SPACE_SCALES = (2.0, 0.5, 0.5)
_SPACE_CHUNK = 32
_INTEGER_TOP = 4000


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
        pixels for each value, and the path to the image.
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
    outer: list[Json] | None = None,
    paths: Sequence[str] | None = None,
    dtype: npt.DTypeLike = "uint16",
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    labels: Mapping[str, LabelSpec] | None = None,
    omero: Json | None = None,
    attributes: Json | None = None,
    multiscale: Json | None = None,
    ome: Json | None = None,
    half_pixel: bool = True,
    consolidated: bool = False,
    seed: int = 0,
    data: Array | None = None,
) -> Path:
    """Path of a new OME-Zarr image.

    The last two space axes halve from level to level: the mean of blocks, rounded for integers,
    with sizes rounded up. Label images take every second pixel.

    Parameters
    ----------
    path
        Folder to write; its name up to the first dot is the name of the multiscale.
    version
        OME-Zarr version; ``"0.4"`` writes Zarr 2 and ``"0.5"`` Zarr 3.
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
        ``coordinateTransformations`` of the multiscale, as they are to be written.
    paths
        Paths of the levels; ``"0"``, ``"1"``, … if None.
    dtype
        Type of the pixels.
    chunks
        Chunk shape, cut to the size of a level unless there are shards; at most 32 in space and
        1 elsewhere if None.
    shards
        Shard shape, a multiple of `chunks` (0.5 only).
    labels
        Label images by name, which may be nested (``"sub/cells"``).
    omero
        The ``omero`` object.
    attributes
        Attributes of the group beside those of OME-Zarr.
    multiscale
        Keys to add to, or replace in, the multiscale object.
    ome
        Keys to add to, or replace in, the OME-Zarr document.
    half_pixel
        Whether the translation of level n is moved by ``(scale_n - scale_0) / 2``, which keeps
        the corner of the image in place.
    consolidated
        Whether to consolidate the metadata of the whole hierarchy.
    seed
        Decides the pixels.
    data
        Pixels of the first level, in place of `shape`, `dtype` and `seed`.
    """
    axis_objects = [dict(AXES[axis]) if isinstance(axis, str) else axis for axis in axes]
    space = _space(axis_objects)
    if data is None:
        sizes = _default_shape(axis_objects) if shape is None else tuple(shape)
        data = _draw_pixels(sizes, space, np.dtype(dtype), seed)
    names = [str(level) for level in range(levels)] if paths is None else paths
    image = _Image(
        axes=axis_objects,
        levels=_pyramid(data, space[-2:], len(names), _halve_mean),
        paths=names,
        placement=_Placement(
            scale=_default_scale(axis_objects) if scale is None else scale,
            translation=translation,
            outer=outer,
            half_pixel=half_pixel,
        ),
        chunks=_default_chunks(axis_objects, data.shape) if chunks is None else chunks,
        shards=shards,
    )
    written = {"multiscales": [{**_write_levels(path, image, version), **(multiscale or {})}]}
    optional = {} if omero is None else {"omero": omero}
    write_group(
        path, version=version, ome={**written, **optional, **(ome or {})}, attributes=attributes
    )
    if labels is not None:
        _write_labels(path, image, version, labels, seed)
    if consolidated:
        _consolidate(path)
    return path


def write_group(
    path: Path, *, version: Version, ome: Json | None = None, attributes: Json | None = None
) -> Path:
    """Path of a group with an OME-Zarr document, or of a plain group if `ome` is None.

    The version is put where the specification has it: in 0.4 in each of the objects that carry
    one, unless they do already.
    """
    layout = _LAYOUTS[version]
    document = {} if ome is None else layout.document(ome)
    path.mkdir(parents=True, exist_ok=True)
    for name, content in layout.group_files({**(attributes or {}), **document}).items():
        _dump(path / name, content)
    return path


def document(path: Path) -> Json:
    """OME-Zarr document of a group: the content of ``.zattrs``, or ``ome`` in ``zarr.json``."""
    file = _metadata_file(path)
    return _document_in(file, _load(file))


def edit_attributes(path: Path, edit: Callable[[Json], None]) -> None:
    """Rewrite the OME-Zarr document of a group as `edit` changes it in place.

    Consolidated metadata of the group and of the groups above it are renewed.
    """
    file = _metadata_file(path)
    metadata = _load(file)
    edit(_document_in(file, metadata))
    _dump(file, metadata)
    for group in (path, *path.parents):
        if not _metadata_file(group).exists():
            break
        if _is_consolidated(group):
            _consolidate(group)


def write_plain(path: Path, zarr_format: Literal[2, 3]) -> Path:
    """Path of a consolidated store without OME metadata, written by `xarray.DataTree.to_zarr`.

    The root holds ``temperature`` (time, lat, lon), packed as 16-bit integers, with CF
    attributes; the group ``sub`` holds ``rainfall`` (station).
    """
    rng = np.random.default_rng(0)
    time = np.datetime64("2001-01-01", "ns") + np.arange(4) * np.timedelta64(1, "D")
    climate = xr.Dataset(
        {"temperature": (("time", "lat", "lon"), 280 + rng.integers(0, 200, (4, 6, 8)) / 10)},
        coords={
            "time": time,
            "lat": ("lat", np.linspace(-75, 75, 6), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0, 315, 8), {"units": "degrees_east"}),
        },
        attrs={"Conventions": "CF-1.11", "title": "climate"},
    )
    climate["temperature"].attrs = {"standard_name": "air_temperature", "units": "K"}
    packing = {"dtype": "int16", "scale_factor": 0.1, "add_offset": 280.0, "_FillValue": -32768}
    climate["temperature"].encoding = packing
    climate["time"].encoding = {"units": "days since 2000-01-01", "dtype": "int64"}
    stations = xr.Dataset(
        {"rainfall": ("station", rng.random(5), {"units": "mm"})},
        coords={"station": np.arange(5)},
    )
    tree = xr.DataTree.from_dict({"/": climate, "/sub": stations})
    with _quiet_consolidation():
        tree.to_zarr(path, zarr_format=zarr_format)
    return path


@dataclass(frozen=True)
class _Layout:
    """Where one version of OME-Zarr keeps things."""

    zarr_format: Literal[2, 3]
    document: Callable[[Json], Json]
    group_files: Callable[[Json], dict[str, Json]]
    array_keywords: Callable[[list[str]], Json]


def _document_0_4(ome: Json) -> Json:
    stamp = {"version": "0.4"}
    alone = {"omero", "image-label", "plate", "well"} & ome.keys()
    stamped: Json = {key: {**stamp, **ome[key]} for key in alone}
    if "multiscales" in ome:
        stamped["multiscales"] = [{**stamp, **each} for each in ome["multiscales"]]
    return {**ome, **stamped}


_LAYOUTS: Mapping[str, _Layout] = {
    "0.4": _Layout(
        zarr_format=2,
        document=_document_0_4,
        group_files=lambda attributes: {".zgroup": {"zarr_format": 2}, ".zattrs": attributes},
        array_keywords=lambda _: {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
    ),
    "0.5": _Layout(
        zarr_format=3,
        document=lambda ome: {"ome": {"version": "0.5", **ome}},
        group_files=lambda attributes: {
            "zarr.json": {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        },
        array_keywords=lambda names: {"dimension_names": names},
    ),
}


@dataclass(frozen=True)
class _Placement:
    """Where the pixels of a multiscale image lie."""

    scale: Sequence[float]
    translation: Sequence[float] | None
    outer: list[Json] | None
    half_pixel: bool

    def pick(self, dims: Sequence[int]) -> _Placement:
        """Placement along some of the dimensions."""
        outer = None if self.outer is None else [_pick_vectors(t, dims) for t in self.outer]
        translation = None if self.translation is None else _pick(self.translation, dims)
        return _Placement(_pick(self.scale, dims), translation, outer, self.half_pixel)

    def transformations(self, factors: Sequence[int]) -> list[Json]:
        """Dataset-level ``coordinateTransformations`` of the level smaller by `factors`."""
        scale = [float(s * factor) for s, factor in zip(self.scale, factors, strict=True)]
        base = [0.0] * len(scale) if self.translation is None else self.translation
        half_pixels = [s * (factor - 1) / 2 for s, factor in zip(self.scale, factors, strict=True)]
        shift = half_pixels if self.half_pixel else [0.0] * len(scale)
        translation = [float(b + s) for b, s in zip(base, shift, strict=True)]
        if self.translation is None and not any(translation):
            return [{"type": "scale", "scale": scale}]
        return [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": translation},
        ]


@dataclass(frozen=True)
class _Image:
    """A multiscale image ready to be written."""

    axes: Sequence[Json]
    levels: Sequence[Array]
    paths: Sequence[str]
    placement: _Placement
    chunks: Sequence[int]
    shards: Sequence[int] | None


def _write_levels(path: Path, image: _Image, version: Version) -> Json:
    """Multiscale object of an image whose arrays have been written below `path`."""
    layout = _LAYOUTS[version]
    halved = _space(image.axes)[-2:]
    datasets = []
    for level, (name, pixels) in enumerate(zip(image.paths, image.levels, strict=True)):
        _write_parents(path, name, version)
        chunks = image.chunks if image.shards else np.minimum(image.chunks, pixels.shape).tolist()
        array = zarr.create_array(
            path / name,
            shape=pixels.shape,
            dtype=pixels.dtype,
            chunks=tuple(chunks),
            shards=image.shards and tuple(image.shards),
            zarr_format=layout.zarr_format,
            **layout.array_keywords([axis["name"] for axis in image.axes]),
        )
        array[...] = pixels
        factors = [2**level if dim in halved else 1 for dim in range(pixels.ndim)]
        transformations = image.placement.transformations(factors)
        datasets.append({"path": name, "coordinateTransformations": transformations})
    outer = image.placement.outer
    return {
        "name": path.name.partition(".")[0],
        "axes": list(image.axes),
        "datasets": datasets,
        **({} if outer is None else {"coordinateTransformations": outer}),
    }


def _write_parents(path: Path, name: str, version: Version) -> None:
    for parent in PurePosixPath(name).parents:
        group = path / parent
        if group != path and not _metadata_file(group).exists():
            write_group(group, version=version)


def _write_labels(
    path: Path, image: _Image, version: Version, labels: Mapping[str, LabelSpec], seed: int
) -> None:
    write_group(path / "labels", version=version, ome={"labels": list(labels)})
    for name, spec in labels.items():
        label = _label_image(image, spec, seed)
        _write_parents(path / "labels", name, version)
        written = _write_levels(path / "labels" / name, label, version)
        parts = _image_label(label.levels[0], name, spec)
        write_group(
            path / "labels" / name,
            version=version,
            ome={"multiscales": [written], "image-label": parts},
        )


def _label_image(image: _Image, spec: LabelSpec, seed: int) -> _Image:
    names = [axis["name"] for axis in image.axes]
    without_channels = [axis["name"] for axis in image.axes if axis.get("type") != "channel"]
    dims = [names.index(name) for name in spec.get("axes", without_channels)]
    axes = _pick(image.axes, dims)
    space = _space(axes)
    if "data" in spec:
        data = spec["data"].astype(spec.get("dtype", spec["data"].dtype))
    else:
        shape = [
            1 if axis.get("type") == "channel" else size
            for axis, size in zip(axes, _pick(image.levels[0].shape, dims), strict=True)
        ]
        data = _draw_objects(shape, space, seed).astype(spec.get("dtype", "uint32"))
    levels = spec.get("levels", len(image.levels))
    return _Image(
        axes=axes,
        levels=_pyramid(data, space[-2:], levels, _halve_nearest),
        paths=[str(level) for level in range(levels)],
        placement=image.placement.pick(dims),
        chunks=_pick(image.chunks, dims),
        shards=image.shards and _pick(image.shards, dims),
    )


def _image_label(data: Array, name: str, spec: LabelSpec) -> Json:
    values, areas = (each.tolist() for each in np.unique(data[data != 0], return_counts=True))
    to_image = "../" * (len(PurePosixPath(name).parts) + 1)
    default: Json = {
        "colors": [
            {"label-value": value, "rgba": [value * step % 256 for step in (37, 91, 53)] + [255]}
            for value in values
        ],
        "properties": [
            {"label-value": value, "area": area} for value, area in zip(values, areas, strict=True)
        ],
        "source": {"image": to_image},
    }
    parts = {key: spec.get(key, part) for key, part in default.items()}
    return {key: part for key, part in parts.items() if part is not None}


def _pick(values: Sequence[Any], dims: Sequence[int]) -> list[Any]:
    return [values[dim] for dim in dims]


def _pick_vectors(transformation: Json, dims: Sequence[int]) -> Json:
    return {
        key: _pick(value, dims) if isinstance(value, list) else value
        for key, value in transformation.items()
    }


def _space(axes: Sequence[Json]) -> list[int]:
    """Dimensions that are space, by type, or by name for an axis without a type."""
    return [
        dim
        for dim, axis in enumerate(axes)
        if axis.get("type", "space" if axis["name"] in set("zyx") else None) == "space"
    ]


def _from_last(dims: Sequence[int], values: Sequence[Number]) -> dict[int, Number]:
    return dict(zip(reversed(dims), reversed(values), strict=False))


def _default_shape(axes: Sequence[Json]) -> tuple[int, ...]:
    sizes = _from_last(_space(axes), _SPACE_SIZES)
    return tuple(
        sizes.get(dim, _SIZES.get(axis.get("type", ""), 2)) for dim, axis in enumerate(axes)
    )


def _default_scale(axes: Sequence[Json]) -> tuple[float, ...]:
    scales = _from_last(_space(axes), _SPACE_SCALES)
    return tuple(scales.get(dim, 1.0) for dim in range(len(axes)))


def _default_chunks(axes: Sequence[Json], shape: Sequence[int]) -> tuple[int, ...]:
    space = _space(axes)
    return tuple(min(n, _SPACE_CHUNK) if dim in space else 1 for dim, n in enumerate(shape))


def _squared_distances(shape: Sequence[int], space: Sequence[int], seed: int) -> Array:
    """Distances to each of the objects: (object, …), size 1 along all that is not space."""
    rng = np.random.default_rng(seed)
    sizes = _pick(shape, space)
    n_objects = min(N_OBJECTS, int(np.prod(sizes)))
    places = rng.choice(int(np.prod(sizes)), n_objects, replace=False)
    centres = np.stack(np.unravel_index(places, sizes), axis=-1)
    grids = _pick(np.indices(shape, sparse=True), space)
    return np.stack(
        [
            sum((grid - c) ** 2 for grid, c in zip(grids, centre, strict=True))
            for centre in centres.tolist()
        ]
    )


def _radius(shape: Sequence[int], space: Sequence[int]) -> float:
    return max(1.0, min(shape[dim] for dim in space[-2:]) / 8)


def _draw_pixels(
    shape: Sequence[int], space: Sequence[int], dtype: np.dtype[Any], seed: int
) -> Array:
    """Blobs on a ramp with noise, of another brightness in each time point and channel."""
    rng = np.random.default_rng([seed, 1])
    distances = _squared_distances(shape, space, seed)
    blobs = np.exp(-distances / (2 * _radius(shape, space) ** 2)).sum(axis=0)
    ramp = np.indices(shape, sparse=True)[space[-1]] / shape[space[-1]]
    gain = rng.uniform(0.4, 1, [1 if dim in space else n for dim, n in enumerate(shape)])
    drawn = gain * (blobs + 0.2 * ramp) + rng.uniform(0, 0.1, shape)
    drawn /= drawn.max()
    if dtype.kind not in "iu":
        return drawn.astype(dtype)
    return np.rint(drawn * min(_INTEGER_TOP, np.iinfo(dtype).max)).astype(dtype)


def _draw_objects(shape: Sequence[int], space: Sequence[int], seed: int) -> Array:
    """Numbered discs around the blobs of `_draw_pixels` with the same seed."""
    distances = _squared_distances(shape, space, seed)
    nearest = distances.argmin(axis=0) + 1
    discs = np.where(distances.min(axis=0) <= _radius(shape, space) ** 2, nearest, 0)
    return np.broadcast_to(discs, shape).copy()


def _pyramid(
    data: Array, dims: Sequence[int], levels: int, halve: Callable[[Array, Sequence[int]], Array]
) -> list[Array]:
    pyramid = [data]
    for _ in range(levels - 1):
        pyramid.append(halve(pyramid[-1], dims))
    return pyramid


def _halve_mean(data: Array, dims: Sequence[int]) -> Array:
    """Mean of blocks of 2; a block that reaches over the edge is the mean of what it has."""
    mean = data.astype(float)
    for dim in dims:
        odd = [(0, n % 2 if dim == other else 0) for other, n in enumerate(mean.shape)]
        pairs = np.moveaxis(np.pad(mean, odd, mode="edge"), dim, 0)
        mean = np.moveaxis((pairs[::2] + pairs[1::2]) / 2, 0, dim)
    return np.rint(mean).astype(data.dtype) if data.dtype.kind in "iu" else mean.astype(data.dtype)


def _halve_nearest(data: Array, dims: Sequence[int]) -> Array:
    return data[tuple(slice(None, None, 2 if dim in dims else 1) for dim in range(data.ndim))]


def _load(file: Path) -> Json:
    content: Json = json.loads(file.read_text(encoding="utf-8"))
    return content


def _dump(file: Path, content: Json) -> None:
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _metadata_file(path: Path) -> Path:
    zarr_json = path / "zarr.json"
    return zarr_json if zarr_json.exists() else path / ".zattrs"


def _document_in(file: Path, metadata: Json) -> Json:
    if file.name == ".zattrs":
        return metadata
    ome: Json = metadata.setdefault("attributes", {}).setdefault("ome", {})
    return ome


def _is_consolidated(path: Path) -> bool:
    return (path / ".zmetadata").exists() or "consolidated_metadata" in _load(_metadata_file(path))


def _consolidate(path: Path) -> None:
    with _quiet_consolidation():
        zarr.consolidate_metadata(path)


@contextlib.contextmanager
def _quiet_consolidation() -> Iterator[None]:
    """Silence zarr-python's warning that Zarr 3 does not define consolidated metadata."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        yield
