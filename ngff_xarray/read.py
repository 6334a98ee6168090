"""A store -> a DataTree: an image node, its levels below it, its label images under ``labels``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
import zarr
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray import geometry, spec, transforms
from ngff_xarray.errors import Issue, MetadataError, NgffError
from ngff_xarray.model import Image, Level
from ngff_xarray.spec import omero
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.store import (
    Document,
    Group,
    Source,
    fetch_array,
    fetch_child_group,
    open_array,
    open_group,
    run,
)

MAX_COORDINATES = 2**24  # of all levels of an image: every axis has one for each pixel
MAX_CHANNELS = 2**17


def open_tree(
    source: Any,
    *,
    group: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    drop_variables: str | Iterable[str] | None = None,
    labels: bool = True,
) -> xr.DataTree:
    """Return an OME-Zarr image as a tree; no pixel is read.

    Parameters
    ----------
    source
        A path, a URL, or a zarr group or store.
    group
        The group of the image, where it is not the root.
    storage_options
        For fsspec, where the source is a URL.
    drop_variables
        Names of variables to leave out of every node.
    labels
        Whether to open the label images too.

    Returns
    -------
    xarray.DataTree
        The image; one node a level with the lazily indexed variable ``image`` (``labels`` in a
        label image), at the paths that the store uses.

    Raises
    ------
    StoreNotFoundError
        If nothing is there.
    NgffError
        If it is no OME-Zarr image, or one that cannot be read.
    """
    place, found = open_group(source, group=group, storage_options=storage_options)
    opened = run(_open_image(place, found, with_labels=labels))
    nodes = _image_nodes(opened, "", _Coordinates())
    dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
    if dropped:
        nodes = {path: node.drop_vars(dropped, errors="ignore") for path, node in nodes.items()}
    return xr.DataTree.from_dict(nodes)


@dataclass(frozen=True, slots=True)
class _Opened:
    """An image whose metadata were all read."""

    source: Source
    version: str
    zarr_format: int
    image: Image
    others: dict[str, Any]
    arrays: tuple[zarr.Array[Any], ...]
    issues: tuple[Issue, ...]
    labels: Mapping[str, _Opened]
    is_label: bool


async def _open_image(
    source: Source, group: Group, *, with_labels: bool, is_label: bool = False
) -> _Opened:
    report = Report(source.url)
    version, image, others = spec.read(group.attributes, report)
    expected = spec.VERSIONS[version].ZARR_FORMAT
    if group.zarr_format != expected:
        report.error(
            "version", f"{version} is for Zarr v{expected}, found in Zarr v{group.zarr_format}"
        )
    is_label = is_label or image.image_label is not None
    levels = image.multiscale.levels
    labels, documents = await asyncio.gather(
        _open_labels(source, group, report) if with_labels else _no_labels(),
        asyncio.gather(*(fetch_array(source, group, level.path) for level in levels)),
    )
    arrays = _open_arrays(source, image, documents, report)
    _check_arrays(image, arrays, documents, is_label, report)
    issues = tuple(report.issues)
    return _Opened(
        source, version, group.zarr_format, image, others, arrays, issues, labels, is_label
    )


async def _no_labels() -> dict[str, _Opened]:
    return {}


async def _open_labels(source: Source, group: Group, report: Report) -> dict[str, _Opened]:
    """Return the label images below an image; those that cannot be read become issues."""
    try:
        parent = await fetch_child_group(source, group, "labels")
        names = spec.label_names(parent.attributes, report) if parent else ()
    except NgffError as error:
        report.error("labels", f"cannot be read: {error}")
        return {}
    if parent is None:
        return {}
    place = source.child("labels")
    found = await asyncio.gather(
        *(_open_label(place, parent, name) for name in names), return_exceptions=True
    )
    labels = {}
    for name, result in zip(names, found, strict=True):
        if isinstance(result, _Opened):
            labels[name] = result
        elif isinstance(result, NgffError):
            report.error(f"labels/{name}", f"cannot be opened: {result}")
        else:
            raise result
    return labels


async def _open_label(place: Source, parent: Group, name: str) -> _Opened:
    group = await fetch_child_group(place, parent, name)
    child = place.child(name)
    if group is None:
        raise MetadataError(child.url, [Issue(name, "is listed, but there is no group", "error")])
    return await _open_image(child, group, with_labels=False, is_label=True)


def _open_arrays(
    source: Source, image: Image, documents: list[Document | None], report: Report
) -> tuple[zarr.Array[Any], ...]:
    """Return the array of every level, or raise for all that do not fit."""
    arrays = []
    ndim = len(image.multiscale.axes)
    for i, (level, document) in enumerate(zip(image.multiscale.levels, documents, strict=True)):
        where = f"multiscales[0].datasets[{i}].path"
        if document is None:
            report.fail(where, f"there is no array at {shown(level.path)}")
            continue
        array = open_array(source, level.path, document)
        if array.ndim != ndim:
            report.fail(
                where,
                f"{shown(level.path)} has {array.ndim} dimensions {array.shape}, "
                f"but there are {ndim} axes",
            )
        else:
            _check_coordinates(image, level, array.shape, where, report)
        arrays.append(array)
    report.check()
    total = sum(sum(array.shape) for array in arrays)
    if total > MAX_COORDINATES:
        shapes = shown([array.shape for array in arrays])
        report.fail("multiscales[0].datasets", f"declare axes of {total} pixels together: {shapes}")
    report.check()
    return tuple(arrays)


def _check_coordinates(
    image: Image, level: Level, shape: tuple[int, ...], where: str, report: Report
) -> None:
    """Refuse geometry that floats cannot hold, and more channels than there can be names."""
    axes = image.multiscale.axes
    scale, translation = transforms.scale_and_translation(level.transformation, len(axes))
    for axis, size, step, start in zip(axes, shape, scale, translation, strict=True):
        if axis.type == "channel":
            if size > MAX_CHANNELS:
                report.fail(where, f"declares {size} channels, more than {MAX_CHANNELS}")
            if start:
                report.warn(where, f"axis {axis.name}: channels have names, no translation {start}")
        elif not geometry.are_distinct(size, step, start):
            report.fail(
                where,
                f"axis {axis.name}: scale {step:g} and translation {start:g} cannot tell "
                f"{size} pixels apart",
            )


def _check_arrays(
    image: Image,
    arrays: tuple[zarr.Array[Any], ...],
    documents: list[Document | None],
    is_label: bool,
    report: Report,
) -> None:
    """Note what is odd about arrays that can be read."""
    names = [axis.name for axis in image.multiscale.axes]
    for i, (array, document) in enumerate(zip(arrays, documents, strict=True)):
        where = f"multiscales[0].datasets[{i}].path"
        stored = (document or {}).get("dimension_names")
        if stored is not None and stored != names:
            report.error(
                where, f"dimension_names {shown(stored)} differ from the axes {names}, which win"
            )
        if i and any(np.greater(array.shape, arrays[i - 1].shape)):
            report.error(where, f"{array.shape} is larger than the level before it")
        if i and _is_finer(image, i):
            report.error(where, "has smaller pixels than the level before it")
        if array.dtype != arrays[0].dtype:
            report.error(where, f"has dtype {array.dtype}, the first level {arrays[0].dtype}")
    if is_label and arrays[0].dtype.kind not in "iu":
        report.error("image-label", f"labels must be integers, found {arrays[0].dtype}")
    _check_channels(image, arrays[0].shape, report)


def _is_finer(image: Image, number: int) -> bool:
    ndim = len(image.multiscale.axes)
    before, this = (
        transforms.scale_and_translation(level.transformation, ndim)[0]
        for level in image.multiscale.levels[number - 1 : number + 1]
    )
    return bool(np.less(np.abs(this), np.abs(before) * (1 - 1e-6)).any())


def _check_channels(image: Image, shape: tuple[int, ...], report: Report) -> None:
    stored = (image.omero or {}).get("channels")
    size = _channel_count(image, shape)
    if isinstance(stored, list) and len(stored) != size:
        report.warn("omero.channels", f"describes {len(stored)} channels, the image has {size}")


def _channel_count(image: Image, shape: tuple[int, ...]) -> int:
    axes = image.multiscale.axes
    sizes = [size for axis, size in zip(axes, shape, strict=True) if axis.type == "channel"]
    return sizes[0] if sizes else 1


class _Coordinates:
    """Makes coordinates, once for all levels and label images of the same geometry."""

    def __init__(self) -> None:
        self._made: dict[Any, xr.Variable] = {}

    def of_level(
        self, image: Image, level: Level, shape: tuple[int, ...]
    ) -> dict[str, xr.Variable]:
        names = [c.name for c in omero.channels(image.omero, _channel_count(image, shape))]
        made = geometry.coordinates(image.multiscale.axes, shape, level.transformation, names)
        return {name: self._shared(variable) for name, variable in made.items()}

    def _shared(self, variable: xr.Variable) -> xr.Variable:
        values = variable.values
        ends = (values[0], values[-1]) if values.size and values.dtype.kind == "f" else None
        if ends is None:
            return variable
        key = (variable.dims, values.size, ends, tuple(sorted(variable.attrs.items())))
        return self._made.setdefault(key, variable)


def _image_nodes(opened: _Opened, path: str, coordinates: _Coordinates) -> dict[str, xr.Dataset]:
    """Return the Dataset of every node of an image, by path."""
    attrs = {**opened.others, "ome": ome_attrs(opened.image)}
    root = xr.Dataset(attrs=attrs)
    root.encoding = {
        "source": opened.source.url,
        "ome_version": opened.version,
        "zarr_format": opened.zarr_format,
        "level_paths": tuple(level.path for level in opened.image.multiscale.levels),
        "issues": opened.issues,
    }
    nodes = {path or "/": root}
    for level, array in zip(opened.image.multiscale.levels, opened.arrays, strict=True):
        node = _level_dataset(opened, level, array, attrs["ome"], coordinates)
        nodes[f"{path}/{level.path}"] = node
    for name, label in opened.labels.items():
        nodes |= _image_nodes(label, f"{path}/labels/{name}", coordinates)
    return nodes


def _level_dataset(
    opened: _Opened,
    level: Level,
    array: zarr.Array[Any],
    ome: dict[str, Any],
    coordinates: _Coordinates,
) -> xr.Dataset:
    dims = tuple(axis.name for axis in opened.image.multiscale.axes)
    name = "labels" if opened.is_label else "image"
    while name in dims:  # an axis of that name has its coordinate there
        name += "_"
    data = indexing.LazilyIndexedArray(_ZarrArray(array))
    attrs = {key: value for key, value in array.attrs.items() if key != "_ARRAY_DIMENSIONS"}
    variable = xr.Variable(dims, data, {**attrs, "ome": ome}, _encoding(array, dims))
    coords = coordinates.of_level(opened.image, level, array.shape)
    # without indexes: xarray makes them, unless the caller says otherwise
    dataset = xr.Dataset({name: variable}, coords=xr.Coordinates(coords, indexes={}))
    dataset.encoding = {
        "source": f"{opened.source.url}/{level.path}",
        "ome_version": opened.version,
    }
    return dataset


def ome_attrs(image: Image) -> dict[str, Any]:
    """Return what an image says apart from its geometry, as ``attrs["ome"]`` holds it.

    ``name``, ``type``, ``metadata``, ``omero`` and ``image-label`` stand where they are said;
    every key this package does not use is kept under ``extra``, by the place it stood in.
    """
    multiscale = image.multiscale
    known = {
        "name": multiscale.name,
        "type": multiscale.type,
        "metadata": multiscale.metadata,
        "omero": image.omero,
        "image-label": image.image_label,
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


def _encoding(array: zarr.Array[Any], dims: tuple[str, ...]) -> dict[str, Any]:
    """Return what a later write needs to repeat the array's storage."""
    chunks = _chunk_sizes(array, "chunks", "read_chunk_sizes")
    shards = _chunk_sizes(array, "shards", "write_chunk_sizes")
    encoding = {
        "chunks": chunks,
        "shards": shards,
        "preferred_chunks": dict(zip(dims, shards or chunks, strict=True)),
        "compressors": array.compressors,
        "filters": array.filters,
        "fill_value": array.fill_value,
    }
    if array.metadata.zarr_format == 3:
        encoding["serializer"] = array.serializer
    return encoding


def _chunk_sizes(array: zarr.Array[Any], regular: str, irregular: str) -> Any:
    """Return one size an axis, or the sizes along it where zarr has grids of uneven chunks."""
    try:
        return getattr(array, regular)
    except NotImplementedError:
        return getattr(array, irregular)


class _ZarrArray(BackendArray):
    """Lets xarray index a zarr array lazily."""

    def __init__(self, array: zarr.Array[Any]) -> None:
        self._array = array
        self.shape = array.shape
        self.dtype = array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.VECTORIZED, self._method(key)
        )

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        async_array = self._array.async_array
        methods: dict[type, Callable[..., Any]] = {
            indexing.VectorizedIndexer: async_array.vindex.getitem,
            indexing.OuterIndexer: async_array.oindex.getitem,
        }
        return await indexing.async_explicit_indexing_adapter(
            key,
            self.shape,
            indexing.IndexingSupport.VECTORIZED,
            methods.get(type(key), async_array.getitem),
        )

    def _method(self, key: indexing.ExplicitIndexer) -> Callable[[Any], Any]:
        methods: dict[type, Callable[[Any], Any]] = {
            indexing.VectorizedIndexer: self._array.vindex.__getitem__,
            indexing.OuterIndexer: self._array.oindex.__getitem__,
        }
        return methods.get(type(key), self._array.__getitem__)
