"""xarray objects -> a store. Arrays first, metadata last: they are the commit."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store

from ngff_xarray import groups, image, pyramid, spec, store, unfinished, world
from ngff_xarray.contrast import Contrast
from ngff_xarray.describe import described, other_attributes
from ngff_xarray.errors import NgffError, SelectionError, StoreError, UnsupportedError
from ngff_xarray.image import Obj
from ngff_xarray.layout import Compressor, Layout, Sizes
from ngff_xarray.lazy import PARAMETERS
from ngff_xarray.model import Collection, Image
from ngff_xarray.multiscale import Factors, multiscale
from ngff_xarray.progress import progress as shown_progress
from ngff_xarray.spec import omero
from ngff_xarray.spec.documents import Content
from ngff_xarray.storage import Access, ChunkWriter
from ngff_xarray.text import printable

_REPEATED = ("compressors", "filters", "serializer", "fill_value")
_BLOCK_BYTES = 2**26  # written at once


def to_zarr(
    obj: Obj,
    target: Any,
    *,
    mode: Literal["w-", "w"] = "w-",
    version: str | None = None,
    levels: int | None = None,
    scale_factors: Sequence[Factors] | None = None,
    smallest: int | None = None,
    method: str | None = None,
    chunks: Sizes = None,
    shards: Sizes = None,
    compressor: Compressor | None = None,
    lossy: bool = False,
    progress: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write an image, plate, well, collection or scene, with all that its store said.

    Parameters
    ----------
    obj
        A tree as it was opened, cropped or computed; a level or an array gets a pyramid.
    target
        A path, a URL, or a zarr store or group.
    mode
        ``"w-"``: nothing may be there yet. ``"w"``: what is there is replaced, and stays until all
        of the new is written; only on local disks, and only what is Zarr.
    version
        ``"0.4"``, ``"0.5"`` or ``"0.6"``. By default the version that the object was opened
        from, or 0.5 where that is not written any more.
    levels, scale_factors, smallest, method
        Make these levels of the finest one, as `multiscale` does; by default those that a tree has,
        and of a single level as many as it takes until one fits into a chunk. The finest is read
        once, a part at a time, and all levels are written together.
    chunks, shards
        Their size along each axis, by name or in the order of the axes; ``"auto"`` for chunks of
        about a megabyte, and for shards of about 100 MB where there would be more than 10,000
        objects. By default as they were stored, or without shards. Zarr v2, of 0.4, has none.
    compressor
        ``"zstd"`` or ``"blosc"``; by default that of the store, or else Blosc. Chunks of Zarr v3
        get a checksum (crc32c).
    lossy
        Leave out what the version cannot say (transformations beyond a scale and a
        translation), instead of raising.
    progress
        Whether to show how far it is; by default in notebooks and terminals, after a second.
    storage_options
        For fsspec, where the target is a URL.

    Raises
    ------
    StoreError
        If there is something at the target, or it cannot be written.
    SelectionError
        If there are no such levels, chunks or shards.
    UnsupportedError
        If the version cannot say all of it; nothing is written then.

    Examples
    --------
    >>> import tempfile, xarray as xr, ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_zarr(tree.ngff.crop(x=slice("5 µm", "20 µm")), f"{folder}/part.ome.zarr")
    ...     xr.open_datatree(f"{folder}/part.ome.zarr").ngff.level(0).shape
    (1, 660, 141)
    """
    if version is None:
        opened_from = image.version(obj)
        module = spec.VERSIONS.get(opened_from or "")
        version = module.VERSION if module is not None and module.write else "0.5"
    if mode not in ("w-", "w"):
        raise SelectionError(f"mode={printable(mode, 40)!r}: expected 'w-' or 'w'")
    spec.writer(version)
    obj = world.restored(obj)
    given = (levels, scale_factors, smallest, method)
    if not isinstance(obj, xr.DataTree) or any(each is not None for each in given):
        obj = multiscale(
            obj, levels=levels, scale_factors=scale_factors, smallest=smallest, method=method
        )
    layout = Layout.of(obj, chunks, shards, compressor)
    unknown = image.version(obj) is None and _lacks_omero(obj)
    writing = _Writing(version, lossy, progress, layout, contrast=unknown)
    _check(obj, writing)
    layout.check(writing.zarr_format)
    place = store.open_target(target, access=Access(storage_options or {}))
    new = store.replacing(place) if mode == "w" else None
    if new is None and store.is_taken(place):
        raise StoreError(
            f"{place.url}: there is something already: give another path, or mode='w' to replace it"
        )
    with _said_so(place):
        written = new or place
        _begin(written, writing)
        _write_node(obj, written.store, written.path, writing)
        if new is not None:
            store.replace_by(place, new)


@dataclass(frozen=True, slots=True)
class _Writing:
    """How a store is written."""

    version: str
    lossy: bool
    progress: bool | None = None
    layout: Layout = field(default_factory=Layout)
    contrast: bool = False
    """Whether to find out in which ranges the channels are best shown."""

    @property
    def zarr_format(self) -> store.ZarrFormat:
        return spec.VERSIONS[self.version].ZARR_FORMAT

    def attributes(self, content: Content) -> dict[str, Any]:
        return spec.writer(self.version)(content, lossy=self.lossy)


def _lacks_omero(obj: Obj) -> bool:
    """Tell whether nothing is said of how the channels of an image are shown."""
    is_image = image.group_kind(obj) is None and image.kind(obj) == "image"
    return is_image and "omero" not in image.ome(obj)


def _begin(place: store.Source, writing: _Writing) -> None:
    """Mark the place as being written, until its metadata take the place of the mark.

    What a run that was killed has left is deleted first.
    """
    group = store.look(place)
    if group is not None and unfinished.is_marked(group.attributes):
        store.clear(place)
    _commit(place.store, place.path, unfinished.mark(), writing)


def _check(obj: Obj, writing: _Writing) -> None:
    """Describe everything that is to be written once, so that what cannot be said raises first."""
    content = described(obj, lossy=writing.lossy)
    if isinstance(content, Image):
        content = _with_writable_others(content, image.version(obj), writing)
        for array in image.levels(obj):
            _check_json(other_attributes(array))
            _storage(array, (), writing)
    _check_json({**other_attributes(obj), **writing.attributes(content)})
    if isinstance(obj, xr.DataTree) and image.group_kind(obj) in ("collection", "plate"):
        groups.xml_bytes(obj)
    for name, child in _below(obj).items():
        opened = _opened(obj, name, child)
        if opened is not None:
            _check(opened, writing)


def _opened(obj: Obj, name: str, child: xr.DataTree) -> xr.DataTree | None:
    """Return a group below, read from the store if it is a well that was not opened."""
    if isinstance(obj, xr.DataTree) and _is_unopened(child):
        return groups.read_well(obj, name)
    return child


def _check_json(attributes: Mapping[str, Any]) -> None:
    """Check that attributes can stand in a store, before any pixel does."""
    for key, value in attributes.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError) as error:
            found = printable(error, 200)
            raise UnsupportedError(
                f"the attribute {key!r} is nothing that JSON has ({found}): change or drop it"
            ) from error


def _below(obj: Obj) -> dict[str, xr.DataTree]:
    """Return the groups of OME's to write below an object, by path, with what opening left out."""
    found = _children(obj)
    if isinstance(obj, xr.DataTree) and image.group_kind(obj) == "plate" and "OME" not in found:
        listing = groups.read_series_list(obj)
        return found if listing is None else {**found, "OME": listing}
    return found


def _children(obj: Obj) -> dict[str, xr.DataTree]:
    """Return the groups of OME's next below an object, by path."""
    if not isinstance(obj, xr.DataTree):
        return {}
    found: dict[str, xr.DataTree] = {}
    for name, child in obj.children.items():
        if _is_ome(child):
            found[str(name)] = child
        else:
            found |= {f"{name}/{path}": node for path, node in _children(child).items()}
    return found


def _is_ome(node: xr.DataTree) -> bool:
    """Tell whether a node is a group of OME's; not a group ``OME`` that lists no series."""
    if not isinstance(node.attrs.get("ome"), dict):
        return False
    return node.name != "OME" or image.group_kind(node) is not None or bool(image.level_nodes(node))


def _is_unopened(node: xr.DataTree) -> bool:
    """Tell whether a node is a well that a plate lists and that was not opened."""
    return image.group_kind(node) == "well" and not groups.is_opened(node)


def _write_node(obj: Obj, target: Store, path: str, writing: _Writing) -> None:
    content = described(obj, lossy=writing.lossy)
    children = _below(obj)
    for name, child in children.items():
        opened = _opened(obj, name, child)
        if opened is not None:
            _write_node(opened, target, _join(path, name), writing)
    if isinstance(obj, xr.DataTree):
        _write_between(obj, target, path, children, writing)
        _write_beside(obj, target, path, writing)
    if isinstance(content, Image):
        names = [axis.extra.get("name", axis.name) for axis in content.multiscale.axes]
        arrays = image.levels(obj)
        paths = [level.path for level in content.multiscale.levels]
        kept = [
            array.assign_attrs(_attributes_v2(obj, below))
            for below, array in zip(paths, arrays, strict=True)
        ]
        contrast = _contrast(obj, writing)
        places = [_join(path, below) for below in paths]
        _write_levels(target, places, kept, names, writing, contrast)
        if contrast is not None:
            content = _with_contrast(content, arrays[0], contrast.windows())
        content = _with_writable_others(content, image.version(obj), writing)
    if image.group_kind(obj) in ("collection", "plate"):
        content = _with_present(content, children)
        _copy_xml(obj, target, path)
    _commit(target, path, {**other_attributes(obj), **writing.attributes(content)}, writing)


def _with_writable_others(content: Image, opened_from: str | None, writing: _Writing) -> Image:
    """Return the image with the group's other images, if the version spells them as they are."""
    others = content.extra.get("multiscales")
    if not others or (opened_from == "0.6") == (writing.version == "0.6"):
        return content
    if not writing.lossy:
        raise UnsupportedError(
            f"the other images of this group are described as in version {opened_from}: write "
            "that version, or give lossy=True to leave them out"
        )
    extra = {key: value for key, value in content.extra.items() if key != "multiscales"}
    return replace(content, extra=extra)


def _with_present(content: Content, children: Mapping[str, xr.DataTree]) -> Content:
    """Return a labels group that lists the label images that are written."""
    if not isinstance(content, Collection) or "labels" not in content.document:
        return content
    listed = content.document["labels"]
    listed = listed if isinstance(listed, list) else []
    kept = [p for p in listed if isinstance(p, str) and p.strip("/") in children]
    added = [path for path in children if path not in {p.strip("/") for p in kept}]
    return replace(content, document={**content.document, "labels": [*kept, *added]})


def _write_between(
    tree: xr.DataTree, target: Store, path: str, children: Iterable[str], writing: _Writing
) -> None:
    """Write the attributes of groups on the way down: rows of a plate, ``scale0`` of a level.

    Nothing in them is OME's, and opening does not read them.
    """
    levels = image.level_paths(tree) if image.group_kind(tree) is None else ()
    names = dict.fromkeys(name for below in (*children, *levels) for name in _above(below))
    beside = ["OME"] if image.group_kind(tree) == "plate" else []
    for name, attributes in groups.attributes_below(tree, [*names, *beside]).items():
        _commit(target, _join(path, name), attributes, writing)


def _above(path: str) -> Iterator[str]:
    """Yield the paths of the groups that lead to a path."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _write_beside(tree: xr.DataTree, target: Store, path: str, writing: _Writing) -> None:
    """Write what is no level and no group of OME's.

    Parameters of transformations, levels of the group's other images, and attributes of groups.
    """
    for name, child in tree.children.items():
        if _is_ome(child):
            continue
        if child.attrs and not child.data_vars:
            said = child.attrs.get("ome")
            ome = writing.attributes(Collection(None, said)) if isinstance(said, dict) else {}
            _commit(target, _join(path, str(name)), {**other_attributes(child), **ome}, writing)
        for variable in ("array", PARAMETERS):
            if variable in child.data_vars:
                array = child.data_vars[variable]
                names = [str(dim) for dim in array.dims] if variable == "array" else None
                _write_array(target, _join(path, str(name)), array, names, writing)
        _write_beside(child, target, _join(path, str(name)), writing)
    if "labels" in tree.children and image.group_kind(tree["labels"]) is None:
        labels = _children(tree["labels"])
        if labels:  # label images that stand below no labels group of their own
            content = Collection(tuple(labels), {"labels": list(labels)})
            _commit(target, _join(path, "labels"), writing.attributes(content), writing)


def _copy_xml(obj: Obj, target: Store, path: str) -> None:
    """Copy the OME-XML of a bioformats2raw store, as it is."""
    if not isinstance(obj, xr.DataTree) or "series" in obj.attrs["ome"]:
        return
    found = groups.xml_bytes(obj)
    if found is not None:
        store.put_bytes(target, _join(path, "OME/METADATA.ome.xml"), found)


def _write_array(
    target: Store,
    path: str,
    array: xr.DataArray,
    names: Sequence[str] | None,
    writing: _Writing,
) -> None:
    _Target(_created(target, path, array, names, writing)).fill(array)


def _created(
    target: Store,
    path: str,
    array: xr.DataArray,
    names: Sequence[str] | None,
    writing: _Writing,
) -> zarr.Array[Any]:
    options = _storage(array, names, writing)
    with _named(path):
        return zarr.create_array(
            target,
            name=path,
            shape=array.shape,
            dtype=array.dtype,
            attributes=other_attributes(array),
            overwrite=True,  # what a run that was killed has left
            **options,
        )


def _contrast(obj: Obj, writing: _Writing) -> Contrast | None:
    """Return what is to find out how the channels are best shown, if nothing says so."""
    finest = image.levels(obj)[0]
    if not (writing.contrast and _lacks_omero(obj) and finest.dtype.kind in "biuf"):
        return None
    dim = image.channel_dim(finest)
    return Contrast(None, 1) if dim is None else Contrast(finest.dims.index(dim), finest.sizes[dim])


def _with_contrast(content: Image, finest: xr.DataArray, windows: Sequence[Any]) -> Image:
    """Return an image that says how its channels are best shown."""
    numbers = [str(i) for i in range(len(windows))]
    names = numbers if len(windows) > 1 else [content.multiscale.name or "0"]
    shown = content.omero or omero.made(names, finest.dtype)
    return replace(content, omero=omero.with_windows(shown, windows))


def _write_levels(
    target: Store,
    paths: Sequence[str],
    arrays: Sequence[xr.DataArray],
    names: Sequence[str],
    writing: _Writing,
    contrast: Contrast | None,
) -> None:
    """Write the levels of an image; a pyramid that is still to be computed, while it is."""
    created = [
        _created(target, path, array, names, writing)
        for path, array in zip(paths, arrays, strict=True)
    ]
    targets = [_Target(each) for each in created]
    targets[0].contrast = contrast
    variables = [array.variable for array in arrays]
    found = pyramid.derived(variables)
    if found is None:
        for each, array in zip(targets, arrays, strict=True):
            each.fill(array)
        return
    levels, method = found
    threads = pyramid.processors()
    with shown_progress("writing", "B", writing.progress, arrays[0].nbytes) as bar:
        pyramid.build(
            pyramid.reader(variables[0], threads),
            levels,
            pyramid.reduction(method, variables[0].dtype),
            targets,
            threads=threads,
            done=bar.did,
            show=bar.show,
        )


class _Target:
    """Where a level is written, whose name is in the errors."""

    def __init__(self, array: zarr.Array[Any]) -> None:
        self._array, self._writer = array, ChunkWriter(array)
        self.chunks = self._writer.chunks
        self.contrast: Contrast | None = None

    def write(self, start: Sequence[int], pixels: NDArray[Any]) -> None:
        with _named(self._array.path):
            self._writer.write(start, pixels)
        if self.contrast is not None:
            self.contrast.add(start, pixels)

    def fill(self, array: xr.DataArray) -> None:
        """Write all pixels, in large blocks."""
        unit = self._array.shards or self._array.chunks
        for block in _blocks(array.shape, unit, array.dtype.itemsize):
            pixels = np.asarray(array[block].values)
            with _named(self._array.path):
                self._array[block] = pixels
            if self.contrast is not None:
                self.contrast.add([part.start for part in block], pixels)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Name the array in whatever zarr and its codecs raise; they take any options of a store."""
    try:
        yield
    except (OSError, zarr.errors.BaseZarrError, MemoryError):
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {printable(error, 500)}"
        raise StoreError(f"{printable(path, 200)}: cannot be written: {found}") from error


def _attributes_v2(obj: Obj, path: str) -> dict[str, Any]:
    """Return the attributes of an array of Zarr v2, which opening does not read."""
    place = obj.encoding.get("place")
    if place is None or obj.encoding.get("zarr_format") != 2:
        return {}
    found = store.run(store.fetch_json(place[0].child(path), ".zattrs")) or {}
    return {key: value for key, value in found.items() if key not in ("_ARRAY_DIMENSIONS", "ome")}


def _storage(array: xr.DataArray, names: Sequence[str] | None, writing: _Writing) -> dict[str, Any]:
    """Return how an array is stored: as it was where the Zarr format is the same, or as told."""
    said = array.encoding
    told = writing.layout if names is not None else Layout()
    chunks = told.chunks_of(array, said.get("chunks"))
    same = ("serializer" in said) == (writing.zarr_format == 3) and said.get("dtype") == array.dtype
    options: dict[str, Any] = {"zarr_format": writing.zarr_format, "chunks": chunks}
    if same:
        options |= {key: said[key] for key in _REPEATED if key in said}
    if told.compressor is not None or not same:
        options |= {"compressors": told.compressors(writing.zarr_format)}
    if writing.zarr_format == 2:
        return options | {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    shards = told.shards_of(array, chunks, said.get("shards"))
    if shards is not None:
        options["shards"] = shards
    return options | {"dimension_names": names}


def _blocks(
    shape: Sequence[int], chunks: Sequence[int], itemsize: int
) -> Iterator[tuple[slice, ...]]:
    """Yield regions of whole chunks that cover an array, each as large as is written at once."""
    sizes = [min(chunk, max(size, 1)) for chunk, size in zip(chunks, shape, strict=True)]
    for axis in reversed(range(len(shape))):
        room = _BLOCK_BYTES // max(1, math.prod(sizes) * itemsize)
        times = max(1, min(room, -(-shape[axis] // sizes[axis])))
        sizes[axis] *= times
    starts = (range(0, size, step) for size, step in zip(shape, sizes, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(slice(at, at + step) for at, step in zip(corner, sizes, strict=True))


def _commit(target: Store, path: str, attributes: dict[str, Any], writing: _Writing) -> None:
    """Write the metadata in one piece; the group itself may be there, empty, from its arrays."""
    group = zarr.open_group(
        target, path=path, mode="a", zarr_format=writing.zarr_format, attributes=attributes
    )
    if group.attrs.asdict() != attributes:  # it was there
        group.attrs.put(attributes)


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def attributes_at(
    tree: xr.DataTree, paths: Sequence[str], version: str, layout: Layout
) -> dict[str, Any]:
    """Return the attributes that describe an image whose levels stand at other paths.

    That these and the levels can be written so is checked.
    """
    writing = _Writing(version, lossy=False, layout=layout)
    layout.check(writing.zarr_format)
    for array in image.levels(tree):
        _storage(array, (), writing)
    content = described(tree)
    assert isinstance(content, Image)
    levels = zip(content.multiscale.levels, paths, strict=True)
    moved = tuple(replace(level, path=path) for level, path in levels)
    content = replace(content, multiscale=replace(content.multiscale, levels=moved))
    attributes = writing.attributes(content)
    _check_json(attributes)
    return attributes


def write_levels_at(
    place: store.Source,
    tree: xr.DataTree,
    paths: Sequence[str],
    version: str,
    layout: Layout,
    *,
    progress: bool | None = None,
) -> None:
    """Write the pixels of an image, each level at a path below a place, and no metadata of OME's.

    Parameters
    ----------
    place
        The place, for writing.
    tree
        The image.
    paths
        Where each level goes.
    version
        That of the store.
    layout
        How they are stored.
    progress
        Whether to show how far it is.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    writing = _Writing(version, lossy=False, progress=progress, layout=layout)
    names = [axis.extra.get("name", axis.name) for axis in image.axes(tree)]
    whole = [_join(place.path, path) for path in paths]
    with _said_so(place):
        _write_levels(place.store, whole, image.levels(tree), names, writing, None)


@contextmanager
def _said_so(place: store.Source) -> Iterator[None]:
    """Name the place that cannot be written."""
    try:
        yield
    except NgffError:
        raise
    except (OSError, zarr.errors.BaseZarrError) as error:
        raise StoreError(f"{place.url}: cannot be written: {printable(error, 500)}") from error
