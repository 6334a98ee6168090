"""What was found in a file -> a tree, under the contract that those of stores keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray import geometry, image
from ngff_xarray.converting import rois
from ngff_xarray.converting.found import Found, Original, Scan, Size
from ngff_xarray.converting.reader import Input, Options
from ngff_xarray.describe import ome_attrs
from ngff_xarray.errors import Issue, SelectionError, UnsupportedError
from ngff_xarray.lazy import Coordinates
from ngff_xarray.model import Axis, Channel, Image, Level, Multiscale, axis_type
from ngff_xarray.pixel_sizes import size_of, with_pixel_size
from ngff_xarray.spec import omero
from ngff_xarray.spec.collections import LAYOUT
from ngff_xarray.transforms import Scale, Transformation, Translation, simplify
from ngff_xarray.transforms import Sequence as Steps
from ngff_xarray.urls import without_secrets

ORIGINAL = "original_metadata"
"""The attribute that holds what the file said of itself."""

MAX_COORDINATES = 2**24
"""Pixels along all axes of all levels of an image, as of stores."""

_RGB = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]

MAX_TEXT = 2**20  # letters in an attribute: it is read whenever the image is opened


def whole_tree(found: Found, source: Input, options: Options) -> xr.DataTree:
    """Return all images that were found as one tree."""
    supplied = suppliers(found, source, options)
    if found.layout == "image":
        (supply,) = supplied.values()
        return supply()
    root = xr.DataTree(xr.Dataset(attrs=_root(found)))
    root.encoding = {"source": _place(source)}
    for path, supply in supplied.items():
        root[path] = supply()
    if found.layout == "plate":
        for path, fields in _wells(found).items():
            row, column = path.split("/")
            listed = [{"path": field, **_acquisition(found, field)} for field in fields]
            root[path].attrs = {"ome": {"row": row, "column": column, "well": {"images": listed}}}
    else:
        root["OME"] = xr.DataTree(xr.Dataset(attrs={"ome": {"series": list(supplied)}}))
    return root


def _place(source: Input) -> str:
    return without_secrets(source.text) if source.is_url else source.text


def chunked(tree: xr.DataTree, chunks: Any) -> xr.DataTree:
    """Return a tree of dask arrays; axes that are not told of in blocks that files have."""

    def blocks(dataset: xr.Dataset) -> xr.Dataset:
        if not isinstance(chunks, Mapping):
            return dataset.chunk(chunks)
        preferred: dict[Any, Any] = {}
        for each in dataset.variables.values():
            preferred |= each.encoding.get("preferred_chunks", {})
        told = {dim: size for dim, size in chunks.items() if dim in dataset.dims}
        return dataset.chunk({**preferred, **told})

    made = tree.map_over_datasets(blocks)
    for node, old in zip(made.subtree, tree.subtree, strict=True):
        node.encoding = dict(old.encoding)
    return made


def _root(found: Found) -> dict[str, Any]:
    """Return the attributes above several images."""
    said = {} if found.original is None else _original(found.original)
    if found.layout == "collection":
        return {"ome": {LAYOUT: 3}, **said}
    wells = [path.split("/") for path in _wells(found)]
    rows = list(found.rows or dict.fromkeys(row for row, _ in wells))
    columns = list(found.columns or dict.fromkeys(column for _, column in wells))
    plate: dict[str, Any] = {
        "rows": [{"name": name} for name in rows],
        "columns": [{"name": name} for name in columns],
        "wells": [
            {"path": f"{r}/{c}", "rowIndex": rows.index(r), "columnIndex": columns.index(c)}
            for r, c in wells
        ],
        "field_count": max(map(len, _wells(found).values())),
    }
    numbers = sorted(set((found.acquisitions or {}).values()))
    if numbers:
        plate["acquisitions"] = [{"id": number} for number in numbers]
    if found.name:
        plate["name"] = found.name
    return {"ome": {"plate": plate}, **said}


def _wells(found: Found) -> dict[str, list[str]]:
    """Return the names of the fields by the path of their well."""
    wells: dict[str, list[str]] = {}
    for path in found.images:
        well, _, field = path.rpartition("/")
        wells.setdefault(well, []).append(field)
    return wells


def _acquisition(found: Found, field: str) -> dict[str, int]:
    known = found.acquisitions or {}
    return {"acquisition": known[field]} if field in known else {}


def _original(original: Original) -> dict[str, Any]:
    if len(original.text) > MAX_TEXT:
        return {}
    return {ORIGINAL: {"format": original.format, "text": original.text}}


def suppliers(
    found: Found, source: Input, options: Options
) -> dict[str, Callable[[], xr.DataTree]]:
    """Return what makes the tree of each image when it is asked for, by path."""
    alone = found.original if found.layout == "image" else None

    def supplier(path: str, supply: Callable[[], Any]) -> Callable[[], xr.DataTree]:
        def tree() -> xr.DataTree:
            each = supply()
            made = _told(each, options) if isinstance(each, xr.DataTree) else tree_of(each, options)
            if alone is not None:
                made.attrs = {**made.attrs, **_original(alone)}
            made.encoding = {"source": _place(source), **made.encoding}
            return made

        return tree

    return {path: supplier(path, supply) for path, supply in found.images.items()}


def _told(tree: xr.DataTree, options: Options) -> xr.DataTree:
    """Return what was opened as a tree with the pixel sizes that the caller tells.

    Raises
    ------
    SelectionError
        If the caller tells what is for files that do not say it.
    """
    for name in ("channel_names", "labels"):
        if getattr(options, name) is not None:
            raise SelectionError(
                f"{name}= is for files that do not say it: of a store, or an object of xarray, "
                "change the tree that comes back"
            )
    if not options.pixel_size:
        return tree
    kind = image.group_kind(tree)
    if kind is not None:
        raise SelectionError(
            f"pixel_size= is for one image, found a {kind}: open one of its images"
        )
    return with_pixel_size(tree, options.pixel_size)


def tree_of(scan: Scan, options: Options) -> xr.DataTree:
    """Return the tree of an image.

    Raises
    ------
    SelectionError
        If the caller told of axes or channels that there are not.
    """
    scan = _as_told(scan, options)
    variables = [variable(scan, data) for data in scan.levels]
    _check_size(scan, variables)
    content = _described(scan, variables)
    ome = {**ome_attrs(content), **scan.ome}
    root = xr.Dataset(attrs={"ome": ome, **scan.attributes})
    nodes = {"/": root}
    coordinates = Coordinates()
    name = "labels" if scan.is_labels else "image"
    while name in scan.axes:
        name += "_"
    for level, each in zip(content.multiscale.levels, variables, strict=True):
        each.attrs = {"ome": ome}
        coords: dict[Any, Any] = dict(coordinates.of_level(content, level, each.shape))
        nodes[level.path] = xr.Dataset({name: each}, coords=coords)
    tree = xr.DataTree.from_dict(nodes)
    if scan.labels:
        told = replace(options, channel_names=None, labels=True)
        tree["labels"] = xr.DataTree(
            xr.Dataset(attrs={"ome": {"labels": list(scan.labels)}}),
            {name: tree_of(label, told) for name, label in scan.labels.items()},
        )
    tree.encoding = {
        "level_paths": tuple(level.path for level in content.multiscale.levels),
        "issues": (*scan.issues, *_unsized(scan, variables[0].shape)),
        "dropped": tuple(scan.dropped),
    }
    if scan.shapes:
        tree.encoding["rois"] = rois.features(scan.shapes, scan.sizes, scan.origins)
    return tree


def _check_size(scan: Scan, variables: Sequence[xr.Variable]) -> None:
    """Refuse what only damaged files say: every pixel along an axis gets a coordinate."""
    total = sum(sum(each.shape) for each in variables)
    if total > MAX_COORDINATES:
        shown = ", ".join(
            f"{axis} {n}" for axis, n in zip(scan.axes, variables[0].shape, strict=True)
        )
        raise UnsupportedError(f"has axes of {total} pixels together ({shown}): is it damaged?")


def variable(scan: Scan, data: Any) -> xr.Variable:
    """Return the pixels of a level."""
    if isinstance(data, xr.Variable):
        return data.copy(deep=False)
    encoding = {}
    if isinstance(data, BackendArray):
        blocks = getattr(data, "blocks", None)
        if blocks is not None:
            encoding["preferred_chunks"] = dict(zip(scan.axes, blocks, strict=True))
        data = indexing.LazilyIndexedArray(data)
    return xr.Variable(tuple(scan.axes), data, encoding=encoding)


def _as_told(scan: Scan, options: Options) -> Scan:
    """Return the image as the caller says that it is."""
    sizes = dict(scan.sizes)
    for axis, value in (options.pixel_size or {}).items():
        if axis not in scan.axes or axis_type(axis) == "channel":
            names = ", ".join(name for name in scan.axes if axis_type(name) != "channel")
            raise SelectionError(f"pixel_size: there is no axis {axis!r}; there are {names}")
        sizes[axis] = size_of(axis, value)
    channels = list(scan.channels)
    if options.channel_names is not None:
        count = _channel_count(scan)
        if len(options.channel_names) != count:
            raise SelectionError(
                f"channel_names: there are {count} channels, found {len(options.channel_names)} "
                "names"
            )
        channels += [Channel(str(i)) for i in range(len(channels), count)]
        both = zip(channels, options.channel_names, strict=True)
        channels = [replace(channel, name=str(name)) for channel, name in both]
    is_labels = scan.is_labels if options.labels is None else options.labels
    return replace(scan, sizes=sizes, channels=channels, is_labels=is_labels)


def _channel_count(scan: Scan) -> int:
    shape = scan.levels[0].shape
    found = [n for axis, n in zip(scan.axes, shape, strict=True) if axis_type(axis) == "channel"]
    return int(found[0]) if found else 1


def _described(scan: Scan, variables: Sequence[xr.Variable]) -> Image:
    axes = tuple(
        Axis(name, axis_type(name), scan.sizes.get(name, (1.0, None))[1]) for name in scan.axes
    )
    scale = tuple(scan.sizes.get(name, (1.0, None))[0] for name in scan.axes)
    start = tuple(float(scan.origins.get(name, 0.0)) for name in scan.axes)
    finest = variables[0].shape

    def within(number: int, each: xr.Variable) -> Transformation:
        if not scan.steps:
            return geometry.placed_by_size(finest, each.shape, axes)
        known = [scan.steps[number].get(name, (1.0, 0.0)) for name in scan.axes]
        return Steps((Scale(tuple(n for n, _ in known)), Translation(tuple(n for _, n in known))))

    levels = tuple(
        Level(
            str(number),
            simplify(
                Steps(
                    (
                        within(number, each),
                        Scale(scale),
                        Translation(start),
                    )
                ),
                len(axes),
            ),
        )
        for number, each in enumerate(variables)
    )
    shown = None if scan.is_labels else _omero(scan.channels, variables[0].dtype)
    label: dict[str, Any] | None = {} if scan.is_labels else None
    return Image(Multiscale(axes, levels, scan.name), shown, label)


def _omero(channels: Sequence[Channel], dtype: np.dtype[Any]) -> dict[str, Any] | None:
    """Return what is said of channels; windows that are not known are found by whoever writes."""
    if not channels:
        return None
    document = omero.made([channel.name for channel in channels], dtype)
    is_rgb = omero.is_true_color(len(channels), dtype) and [c.color for c in channels] == _RGB
    for entry, channel in zip(document["channels"], channels, strict=True):
        if channel.color is not None:
            entry["color"] = "".join(f"{part:02X}" for part in channel.color)
        if not channel.active or channel.inverted:
            entry |= {"active": channel.active, "inverted": channel.inverted}
        if channel.window is None:
            if not is_rgb:  # bytes of a picture are shown as they are
                del entry["window"]
        else:
            entry["window"] |= {"start": channel.window.start, "end": channel.window.end}
            if dtype.kind == "f":
                ends = (channel.window.start, channel.window.end)
                entry["window"] |= {"min": min(ends), "max": max(ends)}
    return document


def _unsized(scan: Scan, shape: Sequence[int]) -> list[Issue]:
    """Return which axes have no size, which is no micrometer then."""
    sized: Mapping[str, Size] = scan.sizes
    space = [axis for axis in scan.axes if axis_type(axis) == "space" and axis not in sized]
    time = [
        axis
        for axis, size in zip(scan.axes, shape, strict=True)
        if axis_type(axis) == "time" and axis not in sized and size > 1
    ]
    found = []
    if space:
        names = ", ".join(space)
        message = f"the file says no pixel size along {names}: positions are counted in pixels"
        mend = "give pixel_size={'" + space[-1] + "': '0.5 µm', …}"
        found.append(Issue("pixel size", message, mend=mend))
    if time:
        message = "the file says no time between time points: they are counted"
        found.append(Issue("time step", message, mend=f"give pixel_size={{'{time[0]}': '2 s'}}"))
    return found
