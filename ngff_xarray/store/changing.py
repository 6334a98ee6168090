"""Documents and directories of a store, written and deleted; two writers undo no other's work."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype

from ngff_xarray import unfinished
from ngff_xarray.errors import NgffError, StoreError
from ngff_xarray.storage import conditional
from ngff_xarray.storage.locks import locked
from ngff_xarray.store.places import (
    GROUP_KEYS,
    MAX_SHOWN,
    Document,
    Source,
    ZarrFormat,
    failure,
    join,
    run,
)
from ngff_xarray.store.reading import MAX_METADATA_BYTES, fetch_group, fetch_json, parse_json
from ngff_xarray.text import printable

_one_document = threading.Lock()  # of stores that tell nothing
_MOMENT = 60  # seconds: how long a document may be locked by those who change it


def is_taken(place: Source) -> bool:
    """Tell whether there is anything at a place that is whole.

    Raises
    ------
    StoreError
        If another process is writing there.
    """
    root = getattr(place.store, "root", None)
    if isinstance(root, Path):
        found = root / place.path
        if found.is_file():
            return True

    async def has_metadata() -> bool:
        group = await fetch_group(place)
        if group is not None and unfinished.is_marked(group.attributes):
            unfinished.check_written(place.url, group.attributes)
            return unfinished.regions(group.attributes) is not None
        if group is not None and group.attributes:
            return True
        if not place.store.supports_listing:
            return group is not None
        names = {name async for name in place.store.list_dir(place.path)}
        empty = names <= GROUP_KEYS
        return not empty or (group is None and "zarr.json" in names)  # that of an array

    with changing(place):
        return run(has_metadata())


def clear(place: Source) -> None:
    """Delete what is at a place, but what the group there says: the mark goes last."""

    async def delete() -> None:
        async for name in place.store.list_dir(place.path):
            if name not in GROUP_KEYS:
                key = join(place.path, name)
                await place.store.delete_dir(key)
                await place.store.delete(key)

    run(delete())


def remove(place: Source, keep: Collection[str] = ()) -> None:
    """Delete all that is at a place, but the groups at these paths of the store, and above them."""

    async def delete(path: str) -> None:
        if path in keep:
            return
        if not any(kept.startswith(f"{path}/") for kept in keep):
            await place.store.delete_dir(path)
            return
        for name in [name async for name in place.store.list_dir(path)]:
            if name not in GROUP_KEYS:
                await delete(f"{path}/{name}")

    with changing(place):
        run(delete(place.path))


def is_empty(place: Source) -> bool:
    """Tell whether there is nothing at a place but what a group there says."""

    async def found() -> bool:
        names = {name async for name in place.store.list_dir(place.path)}
        if names <= GROUP_KEYS:
            return True
        prefix = f"{place.path}/"  # the names may be those of directories, with nothing in them
        async for key in place.store.list_prefix(prefix):
            if key.removeprefix(prefix) not in GROUP_KEYS:
                return False
        return True

    with changing(place):
        return run(found())


def put_group(place: Source, attributes: Document, zarr_format: ZarrFormat) -> None:
    """Write what a group says in one write; a new group of Zarr v2 takes another one after it.

    Consolidated metadata beside it, which repeat what is below, are left out.
    """
    known = None if zarr_format == 2 else run(fetch_json(place, "zarr.json"))
    with changing(place):
        if zarr_format == 2:
            put_json(place, ".zattrs", attributes)
            if not run(place.store.exists(join(place.path, ".zgroup"))):
                put_json(place, ".zgroup", {"zarr_format": 2})
            return
        kept = {k: v for k, v in (known or {}).items() if k != "consolidated_metadata"}
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        put_json(place, "zarr.json", {**kept, **group})


def change_attributes(
    place: Source,
    zarr_format: ZarrFormat,
    made: Callable[[Document], Document],
    *,
    consolidated: bool,
) -> None:
    """Write what a group is to say, made of what it says at that moment, as `change_json` does.

    Parameters
    ----------
    place
        The group; a new one if there is none.
    zarr_format
        Its format.
    made
        Returns the new attributes, of the old, which are empty if there is no group.
    consolidated
        Whether to keep consolidated metadata beside the attributes of Zarr v3.
    """

    def change_v2(old: Document | None) -> Document | None:
        new = made(old or {})
        return None if new == old else new

    def change_v3(old: Document | None) -> Document | None:
        attributes = (old or {}).get("attributes")
        new = made(attributes if isinstance(attributes, dict) else {})
        if old is not None and new == attributes:
            return None
        kept = {
            key: value
            for key, value in (old or {}).items()
            if consolidated or key != "consolidated_metadata"
        }
        return {**kept, "zarr_format": 3, "node_type": "group", "attributes": new}

    if zarr_format == 3:
        change_json(place, "zarr.json", change_v3)
        return
    change_json(place, ".zattrs", change_v2)
    with changing(place):
        if not run(place.store.exists(join(place.path, ".zgroup"))):
            put_json(place, ".zgroup", {"zarr_format": 2})


def remove_group(
    place: Source,
    zarr_format: ZarrFormat,
    may: Callable[[Document], bool] = lambda attributes: True,
) -> None:
    """Delete what a group says, its attributes last; what is below it stays.

    Parameters
    ----------
    place
        The group.
    zarr_format
        Its format.
    may
        Tells of what it says at that moment whether it may be deleted.
    """
    names = (".zgroup", ".zattrs") if zarr_format == 2 else ("zarr.json",)
    with changing(place):
        with _alone(place, names[-1], lambda old: None):
            found = run(fetch_group(place, zarr_format))
            if not may({} if found is None else found.attributes):
                return
            for name in names:
                run(place.store.delete(join(place.path, name)))
        root = getattr(place.store, "root", None)
        if isinstance(root, Path):
            with suppress(OSError):  # another writer has begun something in it
                (root / place.path).rmdir()
        elif is_empty(place):
            run(place.store.delete_dir(place.path))  # a directory, where there are such


def remove_key(place: Source, name: str) -> None:
    """Delete a key, if it is there."""
    with changing(place):
        run(place.store.delete(join(place.path, name)))


def put_json(place: Source, name: str, document: Document) -> None:
    """Write a document."""
    with changing(place):
        put_bytes(place.store, join(place.path, name), encoded(place, name, document))


def encoded(place: Source, name: str, document: Document) -> bytes:
    """Return a document as it is written.

    Raises
    ------
    StoreError
        If it is longer than what is read: nobody could open the store any more.
    """
    content = json.dumps(document, indent=2).encode()
    if len(content) > MAX_METADATA_BYTES:
        where = printable(f"{place.url}/{name}", MAX_SHOWN)
        raise StoreError(
            f"{where}: would take {len(content) / 1e6:.0f} MB, and is not read beyond "
            f"{MAX_METADATA_BYTES / 1e6:.0f} MB: leave out some of it; properties of many labels "
            "are kept better in a table beside the image"
        )
    return content


def put_bytes(target: Store, key: str, content: bytes) -> None:
    """Write a key of a store."""
    run(target.set(key, default_buffer_prototype().buffer.from_bytes(content)))


def change_json(
    place: Source, name: str, made: Callable[[Document | None], Document | None]
) -> None:
    """Write what a document is to say, made of what it says; of two writers none undoes the other.

    Parameters
    ----------
    place
        Where it is.
    name
        Its key there.
    made
        Returns the new document, of the old or None; None to leave it. It is called again where
        somebody else has changed the document meanwhile.
    """

    def change(content: bytes | None) -> bytes | None:
        old = None if content is None else parse_json(place, name, content)
        new = made(old)
        return None if new is None else encoded(place, name, new)

    with changing(place), _alone(place, name, change):
        run(conditional.change(place.store, join(place.path, name), change))


@contextmanager
def _alone(place: Source, name: str, change: conditional.Change) -> Iterator[None]:
    """Have a document alone, but where the store itself tells who was faster.

    Of a local one that is not there, ``change`` makes a first one, or None.
    """
    root = getattr(place.store, "root", None)
    if not isinstance(root, Path):
        with nullcontext() if conditional.is_conditional(place.store) else _one_document:
            yield
        return
    with ExitStack() as stack:
        while not _entered(stack, place, name, root / join(place.path, name), change):
            pass  # it was deleted meanwhile
        yield


def _entered(
    stack: ExitStack, place: Source, name: str, path: Path, change: conditional.Change
) -> bool:
    """Lock a document, which is made if it is not there; tell whether it still is."""
    if not path.is_file():
        content = change(None)
        if content is None:
            return True
        buffer = default_buffer_prototype().buffer.from_bytes(content)
        run(place.store.set_if_not_exists(join(place.path, name), buffer))
    try:
        stack.enter_context(locked(path, _MOMENT))
    except FileNotFoundError:
        return False
    return True


@contextmanager
def changing(place: Source) -> Iterator[None]:
    """Name the place in whatever the libraries below a store raise."""
    try:
        yield
    except NgffError:
        raise
    except Exception as error:
        raise failure(place, "cannot be written", error) from error
