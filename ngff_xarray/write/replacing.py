"""What is written to take the place of something, which stays until all of the new is there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zarr.storage import LocalStore

from ngff_xarray import store, unfinished
from ngff_xarray.errors import StoreError
from ngff_xarray.storage import swapping
from ngff_xarray.storage.locks import locked
from ngff_xarray.store import Source, ZarrFormat
from ngff_xarray.text import printable
from ngff_xarray.write import staging


@contextmanager
def replacing(place: Source, zarr_format: ZarrFormat) -> Iterator[tuple[Source, str]]:
    """Replace what is at a place by what is written meanwhile; it stays where that raises.

    Yields
    ------
    Source, str
        Where to write, and what to put behind the paths of levels.

    Raises
    ------
    StoreError
        If it is no Zarr, is being written, or cannot be replaced in this kind of store.
    """
    keys = ["/".join(filter(None, (place.path, name))) for name in store.GROUP_KEYS]
    if not any(store.run(place.store.exists(key)) for key in keys):
        shown = printable(place.url, store.MAX_SHOWN)
        raise StoreError(f"{shown}: is no Zarr group, and is not replaced: delete it first")
    target = _directory(place)
    if target is None:
        found = staging.begun(place)
        try:
            yield Source(found.staged, place.path, place.url), found.suffix
        except BaseException:  # Ctrl-C as well
            with suppress(StoreError):  # the store may be what fails
                found.abandon()
            raise
        found.end(zarr_format)
        return
    made = swapping.beside(target)
    try:
        yield Source(LocalStore(made), "", str(made)), ""
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    swapping.swap(made, target)


def is_begun(place: Source) -> bool:
    """Tell whether writers have begun to replace what is at a place, and not ended."""
    target = _directory(place)
    return staging.is_begun(place) if target is None else bool(swapping.leftovers(target))


def resume(place: Source, *, force: bool = False) -> bool:
    """End what writers that were killed have begun at a place, or clear it away.

    Parameters
    ----------
    place
        Where.
    force
        Whether writers of other machines are known to have been killed.

    Returns
    -------
    bool
        Whether there was anything.

    Raises
    ------
    BusyError
        If another writer is at it.
    """
    target = _directory(place)
    if target is None:
        return staging.resume(place, force=force)
    found = swapping.leftovers(target)
    for left in found:
        with suppress(TimeoutError, FileNotFoundError), locked(left, 0):  # or it is being deleted
            group = store.look(Source(LocalStore(left, read_only=True), "", str(left)))
            if group is not None:
                unfinished.check_written(place.url, group.attributes)
            shutil.rmtree(left)
    return bool(found)


def _directory(place: Source) -> Path | None:
    """Return the directory of a place where one can take that of another in one step."""
    root = getattr(place.store, "root", None)
    return root / place.path if type(place.store) is LocalStore and isinstance(root, Path) else None
