"""Where to write: nothing is there, or what is there stays until all of the new is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ngff_xarray import store, unfinished
from ngff_xarray.errors import SelectionError, StoreError, UnsupportedError
from ngff_xarray.storage import Access, is_zarr_only
from ngff_xarray.text import printable
from ngff_xarray.turns import Claim, turn
from ngff_xarray.write.replacing import replacing, resume
from ngff_xarray.write.writing import Resume, Writing, commit, said_so

Mode = Literal["w-", "w"]


@dataclass(frozen=True, slots=True)
class Begun:
    """What is being written.

    Parameters
    ----------
    place
        Where: it is marked.
    writing
        How.
    claim
        The mark.
    """

    place: store.Source
    writing: Writing
    claim: Claim

    def put_xml(self, text: str | None) -> None:
        """Write an OME-XML document beside it, where bioformats2raw has it."""
        if text is not None and self.writing.keeps_xml:
            key = store.join(self.place.path, "OME/METADATA.ome.xml")
            store.put_bytes(self.place.store, key, text.encode())

    def commit(self, attributes: dict[str, Any]) -> None:
        """Write what the root says, in the place of the mark: last."""
        self.claim.end()
        commit(self.place.store, self.place.path, attributes, self.writing)


@contextmanager
def begun(
    target: Any,
    mode: Mode,
    writing: Writing,
    wait: float,
    storage_options: Mapping[str, Any] | None,
) -> Iterator[Begun]:
    """Begin to write: where nothing is, or to take the place of what is there in the end.

    Parameters
    ----------
    target
        A path, a URL, or a zarr store or group.
    mode
        ``"w"`` where something may be there.
    writing
        How it is written.
    wait
        How many seconds to wait for another writer of what is replaced.
    storage_options
        For fsspec, where the target is a URL.

    Raises
    ------
    BusyError
        If another writer is at the target.
    StoreError
        If there is something that is not to be replaced, or cannot be.
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
    with turn(place, wait, creates=True, at_once=mode == "w-"):
        if mode == "w":
            with store.changing(place):
                resume(place)
        is_taken = store.is_taken(place)
        if is_taken and mode == "w-":
            raise StoreError(
                f"{place.url}: there is something already: give another path, or mode='w' to "
                "replace it"
            )
        with said_so(place):
            if not is_taken:
                with _marked(place, writing) as new:
                    yield new
                return
            with (
                replacing(place, writing.zarr_format) as (made, suffix),
                _marked(made, replace(writing, suffix=suffix, resume=Resume())) as new,
            ):
                yield new


@contextmanager
def _marked(place: store.Source, writing: Writing) -> Iterator[Begun]:
    """Mark a place as being written. What a run that was killed has left there is deleted.

    It stays if it is of the same that is to be written now.
    """
    group = store.look(place)
    is_left = group is not None and unfinished.is_marked(group.attributes)
    goes_on = is_left and writing.resume.token != "" and _is_same(place, group, writing)
    writing.resume.is_other = is_left and not goes_on
    with Claim(place, writing.zarr_format) as claim:
        claim.begin(writing.resume.token)
        if goes_on:
            _remove_partial(place)
        elif is_left:
            store.clear(place)
            _remove_other_marks(place, writing.zarr_format)
        yield Begun(place, replace(writing, goes_on=goes_on), claim)


def _remove_other_marks(place: store.Source, zarr_format: store.ZarrFormat) -> None:
    """Delete what a run has said in the other format, which would be asked first."""
    for name in ("zarr.json",) if zarr_format == 2 else (".zattrs", ".zgroup"):
        store.remove_key(place, name)


def _remove_partial(place: store.Source) -> None:
    """Delete files of which a part was written, on disks: in buckets there are none."""
    root = getattr(place.store, "root", None)
    for part in (root / place.path).rglob("*.partial") if isinstance(root, Path) else ():
        part.unlink(missing_ok=True)


def _is_same(place: store.Source, group: store.Group | None, writing: Writing) -> bool:
    """Tell whether what was left was to be what is written now, and is as it was left."""
    if group is None or unfinished.copied(group.attributes) != writing.resume.token:
        return False
    is_here = isinstance(getattr(place.store, "root", None), Path)
    return not (is_here and unfinished.is_before_start(group.attributes))


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
