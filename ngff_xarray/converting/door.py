"""A file of any format -> a tree, or a store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

import xarray as xr

from ngff_xarray import groups, image, write
from ngff_xarray.converting.alongside import labels_alongside
from ngff_xarray.converting.building import MAX_TEXT, chunked, suppliers, whole_tree
from ngff_xarray.converting.found import Found
from ngff_xarray.converting.identity import identity
from ngff_xarray.converting.reader import Input, Options
from ngff_xarray.converting.readers import find
from ngff_xarray.converting.report import Conversion, kept, resumed, together
from ngff_xarray.errors import Issue, StoreError
from ngff_xarray.multiscale import multiscale
from ngff_xarray.text import printable
from ngff_xarray.urls import is_url, local_path, without_secrets
from ngff_xarray.write.preparing import ImageOptions

_PYRAMID = ("levels", "scale_factors", "smallest", "method", "keep_ids")


def open_image(
    source: Any,
    *,
    reader: str | None = None,
    series: int | str | None = None,
    path: str | None = None,
    axes: str | Sequence[str] | None = None,
    pattern: str | None = None,
    pixel_size: Mapping[str, Any] | None = None,
    channel_names: Sequence[str] | None = None,
    labels: bool | None = None,
    missing: Literal["raise", "fill"] = "raise",
    chunks: Any = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataTree:
    """Return the images in a file of any format as a tree; pixels are read when they are asked for.

    The tree is as one of a store is: levels that the file has are there, coordinates say where
    pixels are, and channels have their names and colours. Several images are a collection, or a
    plate. What the file says of itself is the attribute ``original_metadata``.

    Parameters
    ----------
    source
        A path or URL of a file, a folder, a pattern of paths (``"*.tif"``), a zarr array or group,
        or an object of xarray. Also a WEBKNOSSOS dataset, here or streamed (a ``?token=…`` goes
        with every request), a volume in Neuroglancer's format (``"precomputed://https://…"``), or
        a SpatialData store.
    reader
        The reader to ask, where its name and first bytes do not tell, as ``"tiff"``.
    series
        The only image to open of those in the file, by number or name; ``"all"`` for all, where
        only the main one is opened by default (slides, with their label and thumbnail). Of a
        WEBKNOSSOS dataset a layer: its segmentations are labels of that, or else of the first one.
    path
        Where in the file the array is: of HDF5, N5 and zarr.
    axes
        The names of the axes in the order of the array, as ``"tczyx"``, where the file does not say
        them or says them wrongly.
    pattern
        How the files of a folder are called: ``"img_{c}_{z:03d}.tif"``, or a regular expression
        with groups of these names. There are ``t``, ``c``, ``z``, ``well``, ``row``, ``column``,
        ``field`` and ``series``. With wells they are a plate: ``"*_{well}_s{field}_w{c}.tif"`` as
        ImageXpress calls files, ``"r{row:02d}c{column:02d}f{field:02d}p{z:02d}-ch{c}*.tiff"`` as
        Opera Phenix does, ``"*_{well}_T{t:4d}F{field:3d}L*Z{z:2d}C{c:2d}.tif"`` as CellVoyager.
        Without a pattern each file of a folder is an image of a collection, by its name.
    pixel_size
        By axis, where the file does not say it: ``{"z": "2 µm", "t": "30 s"}``; a number is without
        unit.
    channel_names
        One a channel.
    labels
        Whether the pixels are labels.
    missing
        What of planes that a file should have and has not: ``"raise"``, or ``"fill"`` with zeros.
    chunks
        ``None`` for arrays that are indexed lazily; anything else for dask arrays, as of
        `xarray.open_dataset`.
    storage_options
        For fsspec, where the source is a URL.

    Raises
    ------
    StoreNotFoundError
        If there is no such file.
    NotOmeError
        If no reader can read it; the text says which ones were asked, and why they cannot.
    MissingDependencyError
        If it takes a package that is not installed.
    NgffError
        If it is broken.

    Examples
    --------
    >>> import tempfile, numpy as np, tifffile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pixels = np.zeros((2, 64, 64), "uint16")
    ...     tifffile.imwrite(f"{folder}/a.tif", pixels, imagej=True, metadata={"axes": "CYX"})
    ...     open_image(f"{folder}/a.tif").ngff.level(0).sizes
    Frozen({'c': 2, 'y': 64, 'x': 64})
    """
    options = Options(
        series,
        path,
        axes,
        pattern,
        pixel_size,
        channel_names,
        labels,
        missing,
        storage_options,
    )
    given = Input.of(source)
    _, found = find(given, options, reader)
    tree = whole_tree(found, given, options)
    return tree if chunks is None else chunked(tree, chunks)


def convert(
    source: Any,
    target: Any,
    *,
    mode: Literal["w-", "w"] = "w-",
    version: str | None = None,
    reader: str | None = None,
    series: int | str | None = None,
    path: str | None = None,
    axes: str | Sequence[str] | None = None,
    pattern: str | None = None,
    pixel_size: Mapping[str, Any] | None = None,
    channel_names: Sequence[str] | None = None,
    labels: bool | None = None,
    missing: Literal["raise", "fill"] = "raise",
    source_options: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    **options: Unpack[ImageOptions],
) -> Conversion:
    """Write the images in a file of any format as OME-Zarr, a part at a time.

    Several images become a collection, as bioformats2raw writes it, or a plate. An image without
    levels gets a pyramid. The metadata come last: what was begun and has not ended does not open.

    Calling again after a kill goes on: images, and parts of about 64 MB of them, that are in the
    target are neither read nor written again. That is so if the files have the paths, sizes and
    times of change that they had, a server says the same of its own (``ETag``,
    ``Last-Modified``), and the options are the same; otherwise, and for objects at hand, it starts
    over.

    Parameters
    ----------
    source
        As `open_image` takes it.
    target
        A path, a URL, or a zarr store or group.
    mode
        ``"w-"``: nothing may be there yet. ``"w"``: what is there is replaced, if it is Zarr; a run
        that was killed while it did so starts over.
    version
        ``"0.4"``, ``"0.5"`` or ``"0.6"``; by default 0.5, or that of a source that is OME-Zarr.
    reader, series, path, axes, pattern, pixel_size, channel_names, labels, missing
        As `open_image` takes them.
    source_options, storage_options
        For fsspec, where the source or the target is a URL.
    progress
        Whether to show how far it is; by default in notebooks and terminals, after a second.
    **options
        How it is written, as `to_zarr` takes it: ``chunks``, ``shards``, ``scale_factors``, …

    Returns
    -------
    Conversion
        What was kept and what was dropped; print it.

    Raises
    ------
    StoreError
        If there is something at the target, it cannot be written, or the file is broken.
    NgffError
        If the source cannot be read, as `open_image` says, or the version cannot say all of it.

    Examples
    --------
    >>> import tempfile, numpy as np, tifffile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pixels = np.zeros((64, 64), "uint8")
    ...     tifffile.imwrite(f"{folder}/a.ome.tif", pixels, metadata={"axes": "YX"})
    ...     convert(f"{folder}/a.ome.tif", f"{folder}/a.ome.zarr").format
    'OME-TIFF'
    """
    told = Options(
        series,
        path,
        axes,
        pattern,
        pixel_size,
        channel_names,
        labels,
        missing,
        source_options,
    )
    given = Input.of(source)
    _check_apart(given, target)
    name, found = find(given, told, reader)
    how = {"version": version, **options}
    resume = write.Resume(identity(given, target, name, found, told, how))
    writing = _Writing(target, mode, version, storage_options, progress, options, resume)
    seen = _Seen()
    supplied = suppliers(found, given, told)
    _WAYS[found.layout](found, seen.noting(supplied, options, version), writing)
    where = target if isinstance(target, str | os.PathLike) else type(target).__name__
    return Conversion(
        given.name,
        printable(without_secrets(os.fspath(where)), 500),
        name,
        found.format,
        tuple(supplied) if found.layout != "image" else ("",),
        (*together(seen.kept), *_kept_above(found), *seen.kept_beside()),
        (*found.dropped, *seen.above, *together(seen.dropped)),
        tuple(seen.issues),
        seen.nbytes,
        resumed(resume),
        seen.rois,
    )


def _check_apart(source: Input, target: Any) -> None:
    """Check that a target is not what is read, nor in it."""
    if not isinstance(target, str | os.PathLike) or not source.text or source.is_url:
        return
    text = local_path(os.fspath(target))
    if is_url(text):
        return
    place, read = Path(text).expanduser().resolve(), source.path.resolve()
    if place == read or (read in place.parents and not read.is_dir()):
        raise StoreError(
            f"{printable(place, 500)}: is what is to be converted: give another path as the target"
        )


class _Seen:
    """Notes what images have, when they are written."""

    def __init__(self) -> None:
        self.kept: list[list[str]] = []
        self.dropped: list[Sequence[str]] = []
        self.above: list[str] = []  # that no image has
        self.issues: list[Issue] = []
        self.nbytes = 0
        self.rois: dict[str, Any] = {}

    def kept_beside(self) -> list[str]:
        """Return what the report has and the store has not."""
        count = sum(len(each["features"]) for each in self.rois.values())
        return [f"regions of interest: {count}, as GeoJSON in .rois of this report"] * (count > 0)

    def noting(
        self,
        supplied: Mapping[str, Callable[[], xr.DataTree]],
        options: ImageOptions,
        version: str | None,
    ) -> dict[str, Callable[[], xr.DataTree]]:
        """Return what makes the trees of images and takes note of them."""

        def noted(path: str, supply: Callable[[], xr.DataTree]) -> Callable[[], xr.DataTree]:
            def tree() -> xr.DataTree:
                made = _sayable(supply(), version)
                self.note(made)
                if made.encoding.get("rois"):
                    listed = {"type": "FeatureCollection", "features": made.encoding["rois"]}
                    self.rois["" if alone else path] = listed
                return _with_levels(made, options)

            return tree

        alone = len(supplied) == 1 and "/" not in next(iter(supplied))
        return {path: noted(path, supply) for path, supply in supplied.items()}

    def note(self, tree: xr.DataTree) -> None:
        """Take note of an image, or of all that a tree holds."""
        self.issues += [each for each in image.issues(tree) if each not in self.issues]
        is_several = image.group_kind(tree) == "collection"
        self.above += tree.encoding.get("dropped", ()) if is_several else ()
        for each in groups.images(tree).values() if is_several else (tree,):
            self.dropped.append(each.encoding.get("dropped", ()))
            if image.group_kind(each) is None:
                self.kept.append(kept(each))
                self.nbytes += image.levels(each)[0].nbytes


def _sayable(tree: xr.DataTree, version: str | None) -> xr.DataTree:
    """Return an image without the transformations that only 0.6 can say, if it is to be another."""
    if image.group_kind(tree) == "collection":
        images = groups.images(tree)
        changed = {path: _sayable(each, version) for path, each in images.items()}
        made = tree.copy(deep=False)
        for path, each in changed.items():
            if each is not images[path]:
                made[path] = each
        return made
    ome = tree.attrs.get("ome", {})
    is_read = image.version(tree) is not None
    if version == "0.6" or is_read or "coordinateTransformations" not in ome:
        return tree
    left_out = {"intrinsic", "coordinateSystems", "coordinateTransformations"}
    ome_, ome = ome, {key: value for key, value in ome.items() if key not in left_out}
    made = tree.copy(deep=False)
    made.attrs = {**tree.attrs, "ome": ome}
    for array in (node.data_vars[name] for node, name in image.level_nodes(made)):
        array.attrs["ome"] = ome
    ends = [link["output"]["name"] for link in ome_["coordinateTransformations"]]
    dropped = [f"the transformation to the {end} (it needs version='0.6')" for end in ends]
    made.encoding = {**tree.encoding, "dropped": (*tree.encoding.get("dropped", ()), *dropped)}
    return made


def _with_levels(tree: xr.DataTree, options: ImageOptions) -> xr.DataTree:
    """Return an image with a pyramid, if it has none and none is told of; labels follow it."""
    told = any(options.get(key) not in (None, False) for key in _PYRAMID)
    if told or image.group_kind(tree) is not None:
        return tree
    made = tree if len(image.level_paths(tree)) > 1 else multiscale(tree)
    return made if image.version(tree) is not None else labels_alongside(made)


class _Writing:
    """Where images go, and how."""

    def __init__(
        self,
        target: Any,
        mode: Literal["w-", "w"],
        version: str | None,
        storage_options: Mapping[str, Any] | None,
        progress: bool | None,
        options: ImageOptions,
        resume: write.Resume,
    ) -> None:
        self.target, self.version, self.options = target, version, options
        self.common: dict[str, Any] = {
            "mode": mode,
            "resume": resume,
            "storage_options": storage_options,
            "progress": progress,
        }


def _image(
    found: Found, supplied: Mapping[str, Callable[[], xr.DataTree]], writing: _Writing
) -> None:
    (supply,) = supplied.values()
    write.write_image(
        supply(),
        writing.target,
        ome_xml=_beside(found),
        version=writing.version,
        **writing.common,
        **writing.options,
    )


def _collection(
    found: Found, supplied: Mapping[str, Callable[[], xr.DataTree]], writing: _Writing
) -> None:
    write.write_collection(
        supplied,
        writing.target,
        ome_xml=_beside(found),
        version=writing.version or "0.5",
        **writing.common,
        **writing.options,
    )


def _plate(
    found: Found, supplied: Mapping[str, Callable[[], xr.DataTree]], writing: _Writing
) -> None:
    write.write_plate(
        supplied,
        writing.target,
        name=found.name,
        rows=found.rows,
        columns=found.columns,
        acquisitions=found.acquisitions,
        ome_xml=_beside(found),
        version=writing.version or "0.5",
        **writing.common,
        **writing.options,
    )


_WAYS: Mapping[str, Callable[[Found, Mapping[str, Callable[[], xr.DataTree]], _Writing], None]] = {
    "image": _image,
    "collection": _collection,
    "plate": _plate,
}


def _beside(found: Found) -> str | None:
    """Return the OME-XML that stands in a file of the store, not in its attributes."""
    original = found.original
    if original is None or original.format != "OME-XML":
        return None
    is_short = found.layout == "image" and len(original.text) <= MAX_TEXT
    return None if is_short else original.text


def _kept_above(found: Found) -> list[str]:
    """Return what is kept of a file with several images."""
    if found.layout == "image":
        return []
    above = [f"{found.layout} of {len(found.images)} images"]
    if _beside(found) is not None:
        above.append("original metadata: OME-XML")
    return above
