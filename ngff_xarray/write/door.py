"""xarray objects -> a store. Arrays first, metadata last: they are the commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Unpack

from ngff_xarray import unfinished
from ngff_xarray.image import Obj
from ngff_xarray.layout import Compressor, Sizes
from ngff_xarray.multiscale import Factors
from ngff_xarray.write.nodes import write_content
from ngff_xarray.write.preparing import ImageOptions, prepared
from ngff_xarray.write.targets import Mode, begun
from ngff_xarray.write.writing import Resume


def to_zarr(
    obj: Obj,
    target: Any,
    *,
    mode: Literal["w-", "w"] = "w-",
    version: str | None = None,
    levels: int | None = None,
    scale_factors: Sequence[Factors] | None = None,
    sizes: Sequence[Mapping[str, int]] | None = None,
    smallest: int | Mapping[str, int] | None = None,
    method: str | None = None,
    keep_ids: bool = False,
    chunks: Sizes = None,
    shards: Sizes = None,
    compressor: Compressor | None = None,
    lossy: bool = False,
    resume: str = "",
    progress: bool | None = None,
    wait: float = unfinished.WAIT,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write an image, plate, well, collection or scene, with all that its store said.

    Levels that are as they were opened, neither cropped nor computed, are copied chunk by chunk as
    they are stored if the Zarr format, chunks and codecs stay what they were: nothing is unpacked,
    so a chunk that is damaged or missing is so in the copy (``tree.ngff.verify()`` tells).

    Parameters
    ----------
    obj
        A tree as it was opened, cropped or computed; a level or an array gets a pyramid.
    target
        A path, a URL, or a zarr store or group.
    mode
        ``"w-"``: nothing may be there yet. ``"w"``: what is there is replaced, if it is Zarr, and
        stays until all of the new is written. In buckets, levels get other paths for that.
    version
        ``"0.4"``, ``"0.5"`` or ``"0.6"``. By default the version that the object was opened
        from, or 0.5 where that is not written any more.
    levels, scale_factors, sizes, smallest, method, keep_ids
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
    resume
        A text that tells what is written: another one for other pixels, metadata or options. A run
        that was killed is gone on with when it is called again with the same text: parts of about
        64 MB and groups that are whole are neither read nor written again. By default it starts
        over, for pixels in memory or computed do not tell whether they are the same. With
        ``mode="w"`` what takes the place of something starts over as well.
    progress
        Whether to show how far it is; by default in notebooks and terminals, after a second.
    wait
        How many seconds to wait for another writer of what is replaced, as `write_region` does.
    storage_options
        For fsspec, where the target is a URL.

    Raises
    ------
    BusyError
        If another writer is at the target.
    StoreError
        If there is something at the target, or it cannot be written.
    SelectionError
        If there are no such levels, chunks or shards.
    UnsupportedError
        If the version cannot say all of it; nothing is written then.

    Notes
    -----
    Where dask works on a cluster, as it does while there is a `distributed.Client`, its workers
    read and write; all of them must see the place, and that of lazy pixels. Pixels and stores in
    the memory of this process (also sessions of icechunk) stay here: it reads or writes them.

    Examples
    --------
    >>> import tempfile, xarray as xr, ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_zarr(tree.ngff.crop(x=slice("5 µm", "20 µm")), f"{folder}/part.ome.zarr")
    ...     xr.open_datatree(f"{folder}/part.ome.zarr").ngff.level(0).shape
    (1, 660, 141)
    """
    write_image(
        obj,
        target,
        resume=resume,
        mode=mode,
        version=version,
        progress=progress,
        wait=wait,
        storage_options=storage_options,
        levels=levels,
        scale_factors=scale_factors,
        sizes=sizes,
        smallest=smallest,
        method=method,
        keep_ids=keep_ids,
        chunks=chunks,
        shards=shards,
        compressor=compressor,
        lossy=lossy,
    )


def write_image(
    obj: Obj,
    target: Any,
    *,
    ome_xml: str | None = None,
    resume: str | Resume = "",
    mode: Mode = "w-",
    version: str | None = None,
    progress: bool | None = None,
    wait: float = unfinished.WAIT,
    storage_options: Mapping[str, Any] | None = None,
    **options: Unpack[ImageOptions],
) -> None:
    """Write an object as `to_zarr` does, with an OME-XML document beside it."""
    written, writing = prepared(obj, version, **options)
    writing = replace(writing, resume=Resume.of(resume))
    writing = replace(writing, progress=progress, has_xml=writing.has_xml or ome_xml is not None)
    with begun(target, mode, writing, wait, storage_options) as new:
        place = new.place
        attributes = write_content(written, place.store, place.path, new.writing)
        new.put_xml(ome_xml)
        new.commit(attributes)
