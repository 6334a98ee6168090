"""Where to write: nothing is there, or what is there stays until all of the new is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

from ngff_xarray import store, unfinished
from ngff_xarray.errors import SelectionError, StoreError, UnsupportedError
from ngff_xarray.storage import Access, is_zarr_only
from ngff_xarray.text import printable
from ngff_xarray.write.replacing import replacing, resume
from ngff_xarray.write.writing import Writing, commit, said_so

Mode = Literal["w-", "w"]


@contextmanager
def begun(
    target: Any, mode: Mode, writing: Writing, storage_options: Mapping[str, Any] | None
) -> Iterator[tuple[store.Source, Writing]]:
    """Begin to write, and end that: marked meanwhile, and in the place of what is there.

    Parameters
    ----------
    target
        A path, a URL, or a zarr store or group.
    mode
        ``"w"`` where something may be there.
    writing
        How it is written.
    storage_options
        For fsspec, where the target is a URL.

    Yields
    ------
    Source, Writing
        Where to write what, whose metadata come last, and how.

    Raises
    ------
    StoreError
        If there is something that is not to be replaced, or cannot be, or is being written.
    SelectionError
        If there is no such mode.
    UnsupportedError
        If the store has no place for what is written.
    """
    if mode not in ("w-", "w"):
        raise SelectionError(f"mode={printable(mode, 40)!r}: expected 'w-' or 'w'")
    place = store.open_target(target, access=Access(storage_options or {}))
    if is_zarr_only(place.store):
        writing = _for_icechunk(writing)
    if mode == "w":
        resume(place)
    is_taken = store.is_taken(place)
    if is_taken and mode == "w-":
        raise StoreError(
            f"{place.url}: there is something already: give another path, or mode='w' to replace it"
        )
    with said_so(place):
        if not is_taken:
            _mark(place, writing)
            yield place, writing
            return
        with replacing(place, writing.zarr_format) as (new, suffix):
            _mark(new, writing)
            yield new, replace(writing, suffix=suffix)


def _for_icechunk(writing: Writing) -> Writing:
    if writing.zarr_format == 2:
        raise UnsupportedError(
            f"icechunk has no Zarr v2, of which version {writing.version} is: give version='0.5'"
        )
    if writing.has_xml and not writing.lossy:
        raise UnsupportedError(
            "icechunk has no place for the OME-XML beside a plate or a collection: give lossy=True "
            "to leave it out"
        )
    return replace(writing, keeps_xml=False)


def _mark(place: store.Source, writing: Writing) -> None:
    """Mark the place as being written, until its metadata take the place of the mark.

    What a run that was killed has left is deleted first.
    """
    group = store.look(place)
    if group is not None and unfinished.is_marked(group.attributes):
        store.clear(place)
    commit(place.store, place.path, unfinished.mark(), writing)
