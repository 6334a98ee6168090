"""A store, or a part of one -> another place: gone on with after a kill, and compared if asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from zarr.storage import MemoryStore, StorePath

from ngff_xarray import groups, image, read, selection, unfinished
from ngff_xarray.errors import SelectionError, StoreError, UnsupportedError
from ngff_xarray.image import Obj
from ngff_xarray.layout import Compressor, Sizes
from ngff_xarray.progress import Bar
from ngff_xarray.progress import progress as progress_bar
from ngff_xarray.storage import Access
from ngff_xarray.text import printable
from ngff_xarray.write import write_image
from ngff_xarray.write.levels import blocks
from ngff_xarray.write.writing import without_suffix

_SHOWN = 5  # differences that are named


def copy_to(
    tree: Obj,
    target: Any,
    *,
    region: Mapping[str, slice] | None = None,
    levels: Sequence[int] | None = None,
    channels: Sequence[str] | str | None = None,
    check: bool = False,
    mode: Literal["w-", "w"] = "w-",
    version: str | None = None,
    chunks: Sizes = None,
    shards: Sizes = None,
    compressor: Compressor | None = None,
    lossy: bool = False,
    progress: bool | None = None,
    wait: float = unfinished.WAIT,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Copy an image, or a group of them, or a part of an image: down, up, or from web to bucket.

    Levels that stay whole are copied chunk by chunk as they are stored, unless another layout is
    asked for. A copy that was killed goes on when it is asked for again, with those chunks of such
    levels that are there; all else is written again.

    Parameters
    ----------
    tree
        As it was opened.
    target
        A path, a URL, or a zarr store or group.
    region
        Of an image, by axis in physical units, as `crop` takes it.
    levels
        Which levels of an image, by number; 0 is the finest. Label images keep those levels whose
        pixels are not smaller than those of the finest one.
    channels
        Which channels of an image, by name.
    check
        Whether to read both again when it is written, and compare all pixels.
    mode, version, chunks, shards, compressor, lossy, progress, wait, storage_options
        As `to_zarr` takes them; with ``mode="w"`` a copy that was killed starts over.

    Raises
    ------
    StoreError
        If there is something at the target, it cannot be written, or the copy is not the same.
    SelectionError
        If there is no such region, level or channel.
    UnsupportedError
        If a part of a group of images is asked for, or the version cannot say all of it.

    Notes
    -----
    Whether chunks of the source have changed between a killed run and the next one is not looked
    at: ``check=True`` finds it.

    Examples
    --------
    >>> import tempfile, ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     copy_to(tree, f"{folder}/small.ome.zarr", levels=[1, 2], check=True)
    ...     xr.open_datatree(f"{folder}/small.ome.zarr").ngff.level(0).shape
    (1, 330, 275)
    """
    part = _part(tree, region or {}, levels, channels)
    asked = [region, levels, channels, version, chunks, shards, compressor, lossy]
    write_image(
        part,
        target,
        resume=_identity(tree, asked),
        mode=mode,
        version=version,
        progress=progress,
        wait=wait,
        storage_options=storage_options,
        chunks=chunks,
        shards=shards,
        compressor=compressor,
        lossy=lossy,
    )
    if check:
        _check(part, target, storage_options, progress)


def _part(
    tree: Obj,
    region: Mapping[str, slice],
    levels: Sequence[int] | None,
    channels: Sequence[str] | str | None,
) -> xr.DataTree:
    """Return what of a tree is to be copied."""
    if not isinstance(tree, xr.DataTree):
        raise UnsupportedError(
            f"this is a {type(tree).__name__}: expected the tree that a store opens to: write "
            "single levels with .ngff.to_zarr(path)"
        )
    kind = image.group_kind(tree)
    if kind is not None and (region or levels is not None or channels is not None):
        raise UnsupportedError(
            f"this is a {kind}: regions, levels and channels can be chosen of one image: copy one "
            "of its images (.ngff.images), or all of it"
        )
    part: xr.DataTree = selection.crop(tree, region) if region else tree
    if channels is not None:
        dim = image.channel_dim(image.levels(part)[0])
        if dim is None:
            raise SelectionError("this image has no channel axis: leave out channels")
        part = selection.sel(part, {dim: [channels] if isinstance(channels, str) else channels})
    return part if levels is None else _with_levels(part, levels)


def _with_levels(tree: xr.DataTree, wanted: Sequence[int]) -> xr.DataTree:
    """Return an image with some of its levels, and those of its label images that suit them."""
    count = len(image.levels(tree))
    numbers = {number + count if number < 0 else number for number in wanted}
    if not numbers or not numbers <= set(range(count)):
        raise SelectionError(
            f"levels={list(wanted)}: there are {count}: expected numbers from 0 to {count - 1}"
        )
    kept = tree.copy(deep=False)
    left_out = _others(kept, numbers)
    finest = image.levels(tree)[min(numbers)]
    for label in image.label_nodes(kept):
        left_out += _others(label, _not_smaller(label, finest))
    for node in left_out:
        node.orphan()
    return kept


def _others(tree: xr.DataTree, numbers: set[int]) -> list[xr.DataTree]:
    nodes = [node for node, _ in image.level_nodes(tree)]
    return [node for number, node in enumerate(nodes) if number not in numbers]


def _not_smaller(label: xr.DataTree, finest: xr.DataArray) -> set[int]:
    """Return the levels of a label image whose pixels are no smaller; the coarsest at least."""
    arrays = image.levels(label)
    wanted = image.pixel_sizes(finest)
    dims = [dim for dim in image.plane_dims(arrays[0]) if dim in wanted]
    found = {
        number
        for number, array in enumerate(arrays)
        if all(image.pixel_sizes(array).get(dim, 0) > 0.999 * wanted[dim] for dim in dims)
    }
    return found or {len(arrays) - 1}


def _identity(tree: Obj, asked: Sequence[Any]) -> str:
    """Return what is copied, in short; empty if what is left of it cannot be known again."""
    place = tree.encoding.get("place")
    if place is None or isinstance(getattr(place[0].store, "store", place[0].store), MemoryStore):
        return ""
    said = [place[0].url, place[0].path, place[1].attributes, *asked]
    return hashlib.sha256(json.dumps(said, default=repr, sort_keys=True).encode()).hexdigest()


def _check(
    part: xr.DataTree,
    target: Any,
    storage_options: Mapping[str, Any] | None,
    progress: bool | None,
) -> None:
    """Compare what was to be copied with what is there."""
    source = _whole(part)
    copy = read.open_tree(target, access=Access(storage_options or {}), wells="all")
    with progress_bar("comparing", "B", progress) as bar:
        found = list(_differences(source, copy, bar))
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise StoreError(
            f"the copy is not the same as the source at {', '.join(found[:_SHOWN])}{more}: one of "
            "them is damaged or was changed meanwhile: copy it again, with mode='w'"
        )


def _whole(tree: xr.DataTree) -> xr.DataTree:
    """Return a tree with all wells of a plate open."""
    if image.group_kind(tree) != "plate":
        return tree
    place, _ = groups.place(tree)
    return read.open_tree(StorePath(place.store, place.path), access=Access(), wells="all")


def _differences(source: xr.DataTree, copy: xr.DataTree, bar: Bar) -> Iterator[str]:
    """Yield where pixels differ."""
    pairs = list(_pairs(source, copy))
    bar.more(sum(one.nbytes for _, one, _ in pairs))
    for path, one, other in pairs:
        if other is None or one.shape != other.shape or one.dtype != other.dtype:
            yield printable(path, 200)
            continue
        unit = other.encoding.get("shards") or other.encoding.get("chunks") or other.shape
        for block in blocks(one.shape, unit, one.dtype.itemsize):
            pixels = np.asarray(one[block].values)
            is_float = pixels.dtype.kind in "fc"
            if not np.array_equal(pixels, other[block].values, equal_nan=is_float):
                starts = ", ".join(str(each.start) for each in block)
                yield f"{printable(path, 200)} (from pixel {starts} on)"
            bar.did(pixels.nbytes)
            bar.show()


def _pairs(
    source: xr.DataTree, copy: xr.DataTree
) -> Iterator[tuple[str, xr.DataArray, xr.DataArray | None]]:
    """Yield the path of every level, with its array here and there."""
    there = dict(_levels(copy))
    for path, array in _levels(source):
        yield path, array, there.get(path)


def _levels(tree: xr.DataTree) -> Iterator[tuple[str, xr.DataArray]]:
    for node in tree.subtree:
        name = image.variable_name(node.data_vars)
        if name is not None:
            path = node.path.removeprefix(tree.path).strip("/")
            yield without_suffix(path), node.data_vars[name]
