"""Adding and removing a label image of a tree that was opened from a store."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import xarray as xr

from ngff_xarray import groups, image, read, spec, store, turns, unfinished, world, write
from ngff_xarray.errors import NotOmeError, SelectionError, StoreError, UnsupportedError
from ngff_xarray.image import Obj
from ngff_xarray.labelling import placing
from ngff_xarray.labelling.editing import LabelEdit
from ngff_xarray.labelling.tables import VALUE, color_entries, completed, property_entries
from ngff_xarray.layout import Compressor, Layout, Sizes
from ngff_xarray.multiscale import Factors, multiscale
from ngff_xarray.spec import image_label
from ngff_xarray.spec.values import is_relative
from ngff_xarray.storage import Access
from ngff_xarray.store import Document, Source
from ngff_xarray.text import printable

_LONGEST_NAME = 200  # bytes: file systems take 255


def add_labels(
    tree: xr.DataTree,
    name: str,
    labels: Any,
    *,
    properties: Any = None,
    colors: Mapping[Any, Any] | None = None,
    replace: bool = False,
    levels: int | None = None,
    scale_factors: Sequence[Factors] | None = None,
    sizes: Sequence[Mapping[str, int]] | None = None,
    smallest: int | Mapping[str, int] | None = None,
    method: str | None = None,
    keep_ids: bool = False,
    chunks: Sizes = None,
    shards: Sizes = None,
    compressor: Compressor | None = None,
    attributes: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    wait: float = unfinished.WAIT,
    target: Any = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataTree:
    """Write a label image into the store of an image; return the image, opened again.

    Nothing else in the store is changed. What there was before stays until the new one is whole;
    whoever is killed calls again. Trees that were opened before know nothing of it: of labels that
    were replaced they read zeros, so go on with the tree that comes back.

    Writers of one label image wait for each other as those of regions do (see `write_region`);
    those of others need not. In a bucket one who writes a region of a label image does not see
    that it is being replaced or removed.

    Parameters
    ----------
    tree
        The image.
    name
        What to call the label image.
    labels
        Integers: a DataArray, placed by its coordinates, which may cover a part of the image only
        and have other pixels (a dimension that it lacks is taken from its scalar coordinate); a
        label image, of which the finest level is taken; or an array of numpy or dask of the shape
        of the tree's finest level, its channels left out or one. They are stored with their dtype,
        booleans as uint8. What is not in memory is read a part at a time.
    properties
        A row a label value: a DataFrame, a dict of columns (as `skimage.measure.regionprops_table`
        returns) or a list of dicts. The values are in the column ``"label"`` or
        ``"label-value"``, or in the index. What is missing or NaN is left out. By default those
        that a label image has.
    colors
        Label value -> ``"#rrggbb"``, a name, or three or four numbers: integers of 0 to 255, or
        floats of 0 to 1. By default those that a label image has.
    replace
        Whether a label image of this name may be replaced, with its colours and properties.
    levels, scale_factors, sizes, smallest, method, keep_ids
        The levels to make, as `multiscale` does. By default as many as the image has, with the same
        scale factors, by the mode.
    chunks, shards, compressor
        How the pixels are stored, as `to_zarr` takes them.
    attributes
        What its group is to say besides, beside what OME-Zarr says; JSON.
    progress
        Whether to show how far it is; by default in notebooks and terminals, after a second.
    wait
        How many seconds to wait for other writers of the label image.
    target
        Where the image is stored, for a tree that does not know it: a path, a URL, or a zarr store
        or group. By default where the tree was opened.
    storage_options
        For fsspec, where that is a URL; by default those that the tree was opened with.

    Returns
    -------
    DataTree
        The image as it is stored now, with all its labels.

    Raises
    ------
    SelectionError
        If the name, the labels' place or shape, the properties or the colours make no sense.
    UnsupportedError
        If the labels are no integers, or the store is of a version that is not written.
    UnitError
        If the labels' unit cannot be converted to that of the image.
    BusyError
        If others are writing it all the time.
    StoreError
        If there is a label image of this name and ``replace`` is not set, or the store cannot be
        written.

    Examples
    --------
    >>> import tempfile, ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tree.ngff.to_zarr(f"{folder}/cell.ome.zarr")
    ...     tree = xr.open_datatree(f"{folder}/cell.ome.zarr")
    ...     bright = tree.ngff.level(0) > 100
    ...     tree = add_labels(tree, "bright", bright, colors={1: "orange"})
    ...     [level.shape for level in tree.ngff.labels["bright"].ngff.levels]
    [(660, 550), (330, 275), (165, 138), (83, 69)]
    """
    where = _Where.of(tree, target, storage_options)
    with where.found(wait) as place, place.label(name, creates=True) as label:
        stored = image.levels(place.tree)
        array = placing.placed(labels, image.levels(world.restored(tree))[0], stored[0])
        array.attrs["ome"] = _said(name, labels, properties, colors, place.tree, array)
        if all(each is None for each in (levels, scale_factors, sizes, smallest)):
            scale_factors = placing.scale_factors(stored)
            levels = len(stored) if scale_factors is None else None
        pyramid = multiscale(
            array,
            levels=levels,
            scale_factors=scale_factors,
            sizes=sizes,
            smallest=smallest,
            method=method or "mode",
            keep_ids=keep_ids,
        )
        layout = Layout.of(pyramid, chunks, shards, compressor)
        others = dict(attributes or {})
        write.check_json(others)

        def add(edit: LabelEdit) -> None:
            edit.add(
                len(image.levels(pyramid)),
                lambda paths: {
                    **others,
                    **write.attributes_at(pyramid, paths, place.version, layout),
                },
                lambda below, paths: write.write_levels_at(
                    below, pyramid, paths, place.version, layout, progress=progress
                ),
                replaces=replace,
            )

        label.edit(add)
        return place.opened()


def check_addable(
    tree: xr.DataTree,
    name: str,
    *,
    replace: bool = False,
    wait: float = unfinished.WAIT,
    storage_options: Mapping[str, Any] | None = None,
) -> Source:
    """Return where an image is stored, for writing, if a label image of a name can be added there.

    Raises
    ------
    SelectionError, UnsupportedError, StoreError
        As `add_labels` does.
    """
    where = _Where.of(tree, None, storage_options)
    with where.found(wait) as place, place.edited(str(name)) as edit:
        if not (isinstance(name, str) and is_relative(name) and name in edit.listed()):
            _check_name(name)
        edit.check(replaces=replace)
        return place.target


def remove_labels(
    tree: xr.DataTree,
    name: str,
    *,
    wait: float = unfinished.WAIT,
    target: Any = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataTree:
    """Delete a label image from the store of an image; return the image, opened again.

    It is taken off the list of label images first. No other is touched.

    Parameters
    ----------
    tree
        The image.
    name
        The label image, as ``tree.ngff.labels`` calls it.
    wait, target, storage_options
        As `add_labels` takes them.

    Raises
    ------
    SelectionError
        If there is no label image of this name.
    BusyError
        If others are writing it all the time.
    StoreError
        If the store cannot be written.

    Examples
    --------
    >>> import tempfile, ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tree.ngff.to_zarr(f"{folder}/cell.ome.zarr")
    ...     tree = xr.open_datatree(f"{folder}/cell.ome.zarr")
    ...     list(tree.ngff.labels), list(remove_labels(tree, "cell").ngff.labels)
    (['cell'], [])
    """
    where = _Where.of(tree, target, storage_options)
    with where.found(wait) as place, place.label(name) as label:
        label.edit(LabelEdit.remove)
        return place.opened()


def set_properties(
    tree: xr.DataTree,
    name: str,
    properties: Any,
    *,
    keep: bool = False,
    wait: float = unfinished.WAIT,
    target: Any = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataTree:
    """Write the properties of a label image of an image in a store; return it, opened again.

    No pixel is written, and nothing else is changed.

    Parameters
    ----------
    tree
        The image.
    name
        The label image, as ``tree.ngff.labels`` calls it.
    properties
        A row a label value, as `add_labels` takes them.
    keep
        Whether properties of other names, and of other labels, stay.
    wait, target, storage_options
        As `add_labels` takes them.

    Raises
    ------
    SelectionError
        If there is no label image of this name, or the properties make no sense.
    UnsupportedError
        If the store is of a version that is not written.
    BusyError
        If others are writing it all the time.
    StoreError
        If the store cannot be written.

    Examples
    --------
    >>> import tempfile, ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tree.ngff.to_zarr(f"{folder}/cell.ome.zarr")
    ...     tree = xr.open_datatree(f"{folder}/cell.ome.zarr")
    ...     tree = set_properties(tree, "cell", {"label": [1], "kind": ["living"]})
    ...     tree.ngff.labels["cell"].ngff.properties
                   kind
    label-value
    1            living
    """
    given = property_entries(properties)
    where = _Where.of(tree, target, storage_options)

    def described(label: Document) -> Document:
        entries = {each[VALUE]: each for each in _entries(label, "properties") if keep}
        for entry in given:
            value = entry[VALUE]
            entries[value] = {**entries.get(value, {}), **entry}
        both = completed(_entries(label, "colors"), list(entries.values()))
        changed = {**label, "colors": both[0], "properties": both[1]}
        return {key: value for key, value in changed.items() if value != []}

    with where.found(wait) as place, place.label(name) as label:
        label.edit(lambda edit: edit.describe(described))
        return place.opened()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an image is stored, for reading and for writing, and what is there."""

    source: Source
    target: Source
    tree: xr.DataTree
    version: str
    zarr_format: store.ZarrFormat
    end: float

    @contextmanager
    def label(self, name: str, *, creates: bool = False) -> Iterator[_Turn]:
        """Return a label image, when it is our turn; one that is listed may be called as it is."""
        with self.edited(str(name)) as edit:
            if not (isinstance(name, str) and is_relative(name) and name in edit.listed()):
                _check_name(name)

            def who() -> None:
                unfinished.part(edit.label.url, edit.attributes(), name)
                group = store.look(edit.label)
                unfinished.check_written(edit.label.url, {} if group is None else group.attributes)

            wait = self.end - time.monotonic()
            with turns.turn(edit.label, wait, creates=creates, who=who):
                yield _Turn(self, name)

    def edited(self, name: str) -> AbstractContextManager[LabelEdit]:
        """Return what changes a label image."""
        return LabelEdit.of(self.target, name, self.version, self.zarr_format)

    def opened(self) -> xr.DataTree:
        """Return the image, opened again with its labels."""
        group = store.require_group(self.source, store.look(self.source))
        return read.open_image(self.source, group, version=self.version, labels=True)


@dataclass(frozen=True, slots=True)
class _Turn:
    """The turn of a writer of a label image."""

    place: _Place
    name: str

    def edit(self, change: Callable[[LabelEdit], None]) -> None:
        """Change it, once no other writer does so, or raise at the end of waiting."""

        def attempt() -> None:
            with self.place.edited(self.name) as edit:
                change(edit)

        turns.patiently(attempt, self.place.end)


@dataclass(frozen=True, slots=True)
class _Where:
    """Where an image is stored, for reading and for writing; nothing is read yet."""

    source: Source
    target: Source
    version: str | None

    @classmethod
    def of(
        cls, tree: xr.DataTree, target: Any, storage_options: Mapping[str, Any] | None
    ) -> _Where:
        access = Access(storage_options) if storage_options is not None else None
        version = None
        if target is not None:
            source = store.open_source(target, access=access)
        elif "place" in tree.encoding:
            source, _ = groups.place(tree)
            version = image.version(tree)
        else:
            raise StoreError(
                "this image was not opened from a store: write it with .ngff.to_zarr(path) and "
                "open that, or give its path as target"
            )
        return cls(source, store.writable(source, access), version)

    @contextmanager
    def found(self, wait: float) -> Iterator[_Place]:
        """Return what is there, as it is when nobody replaces all of it."""
        with turns.turn(self.target, wait, shared=True) as end:
            yield self._found(end)

    def _found(self, end: float) -> _Place:
        source = self.source
        group = store.require_group(source, store.look(source))
        found = read.open_image(source, group, version=self.version)
        if image.group_kind(found) is not None or image.kind(found) != "image":
            raise NotOmeError(
                f"{printable(source.url, store.MAX_SHOWN)}: is no image but a "
                f"{image.kind(found)}: labels are added to images"
            )
        version = image.version(found) or ""
        module = spec.VERSIONS[version]
        if module.write is None or group.zarr_format != module.ZARR_FORMAT:
            raise UnsupportedError(
                f"{printable(source.url, store.MAX_SHOWN)}: labels cannot be added to an image of "
                f"version {version} in Zarr v{group.zarr_format}: write it anew with "
                ".ngff.to_zarr(path)"
            )
        return _Place(source, self.target, found, version, group.zarr_format, end)


def _check_name(name: Any) -> None:
    """Check that a name can be that of a group in any store."""
    fault = None
    if not isinstance(name, str):
        fault = "it is no text"
    elif not name.strip():
        fault = "it is empty"
    elif name.startswith((".", "__")) or name == "zarr.json":
        fault = "such names are reserved"
    elif "/" in name or "\\" in name:
        fault = "it has a slash"
    elif any(unicodedata.category(letter).startswith("C") for letter in name):
        fault = "it has control characters"
    elif len(name.encode()) > _LONGEST_NAME:
        fault = f"it is longer than {_LONGEST_NAME} bytes"
    if fault is not None:
        raise SelectionError(
            f"{printable(name, 80)!r} cannot be the name of a label image: {fault}: choose one "
            "such as 'nuclei'"
        )


def _said(
    name: str,
    labels: Any,
    properties: Any,
    colors: Mapping[Any, Any] | None,
    stored: xr.DataTree,
    array: xr.DataArray,
) -> dict[str, Any]:
    """Return what the label image says apart from its geometry, as ``attrs["ome"]`` holds it."""
    own = image.ome(labels).get("image-label") if isinstance(labels, Obj) else None
    label = dict(own) if isinstance(own, dict) else {}
    if colors is not None:
        label["colors"] = color_entries(colors)
    if properties is not None:
        label["properties"] = property_entries(properties)
    if colors is not None or properties is not None:
        both = completed(_entries(label, "colors"), _entries(label, "properties"))
        label["colors"], label["properties"] = both
    label["source"] = {"image": "../../"}
    said = image.ome(stored)
    axes = said.get("extra", {}).get("axes", {})
    extra = {"axes": {dim: axes[dim] for dim in array.dims if dim in axes}}
    ome = {
        "name": name,
        "image-label": {key: value for key, value in label.items() if value != []},
        "extra": {key: value for key, value in extra.items() if value},
    }
    if "intrinsic" in said:
        ome["intrinsic"] = said["intrinsic"]
    return ome


def _entries(label: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the entries of a label image that brings its own, or that were given just now."""
    return [dict(entry) for entry in image_label.entries(label, key).values()]
