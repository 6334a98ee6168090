"""What takes the place of something in a store that cannot exchange directories: a bucket, memory.

New levels get paths of their own beside the old ones, and documents are held back. When all levels
are there, a journal with the documents is put: from then on the new is whole, and whoever finds the
journal can end the work. An image alone then changes by one document; where there are several, the
root is marked in between. The old goes last.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import uuid4

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from ngff_xarray import store, unfinished
from ngff_xarray.errors import BusyError, StoreError, UnsupportedError
from ngff_xarray.store import Document, Source, ZarrFormat
from ngff_xarray.text import printable

JOURNAL = ".ngff_xarray-new.json"
_DOCUMENTS = frozenset({"zarr.json", ".zgroup", ".zattrs", ".zarray", ".zmetadata"})
_AT_ONCE = 32  # deletions


class Staged(WrapperStore[Store]):
    """A store in which what is new stands beside what is old.

    Parameters
    ----------
    inner
        The store.
    suffix
        Is in the paths of all levels that are new; all but these is held back.
    """

    def __init__(self, inner: Store, suffix: str) -> None:
        super().__init__(inner)
        self._suffix = suffix
        self.held: dict[str, bytes] = {}

    def _is_held(self, key: str) -> bool:
        name = key.rpartition("/")[2]
        return self._suffix not in key and (name in _DOCUMENTS or name.endswith(".xml"))

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return what is new under a key."""
        if not self._is_held(key):
            return await super().get(key, prototype, byte_range)
        found = self.held.get(key)
        return None if found is None else prototype.buffer.from_bytes(found)

    async def exists(self, key: str) -> bool:
        """Tell whether something new is under a key."""
        return key in self.held if self._is_held(key) else await super().exists(key)

    async def set(self, key: str, value: Buffer) -> None:
        """Put a key, or hold it back."""
        if not self._is_held(key):
            await super().set(key, value)
            return
        content = value.to_bytes()
        if _is_array(key, content) and await super().exists(key):
            path = printable(key.rpartition("/")[0], 200)
            raise UnsupportedError(
                f"the array {path} of the new is where the old has one: write to another place, or "
                "delete the old first"
            )
        self.held[key] = content

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Put a key, or hold it back, if there is nothing new under it."""
        if not await self.exists(key):
            await self.set(key, value)

    async def delete_dir(self, prefix: str) -> None:
        """Delete levels that are new; nothing else is."""
        if self._suffix in prefix:
            await super().delete_dir(prefix)


def _is_array(key: str, content: bytes) -> bool:
    if key.endswith("zarr.json"):
        found: object = json.loads(content).get("node_type")
        return found == "array"
    return key.endswith(".zarray")


@dataclass(frozen=True, slots=True)
class Replacement:
    """What is written to take the place of something.

    Parameters
    ----------
    place
        Where.
    staged
        The store to write to.
    suffix
        Of the paths of its levels.
    """

    place: Source
    staged: Staged
    suffix: str

    def abandon(self) -> None:
        """Delete it, and leave the old."""
        _clear(self.place, self.suffix)

    def end(self, zarr_format: ZarrFormat) -> None:
        """Put it in the place of the old, when all of it is written.

        Raises
        ------
        StoreError
            If somebody else has cleared it away meanwhile.
        """
        held = {key: content.decode() for key, content in self.staged.held.items()}

        def whole(journal: Document | None) -> Document:
            mine = journal is not None and journal.get("suffix") == self.suffix
            if journal is None or not mine or journal.get("cleared"):
                raise StoreError(
                    f"{printable(self.place.url, store.MAX_SHOWN)}: another writer has replaced it "
                    "meanwhile, or deleted what was to replace it: write it again"
                )
            return {**journal, "format": zarr_format, "documents": held}

        store.change_json(self.place, JOURNAL, whole)
        _roll_forward(self.place, self.suffix, zarr_format, held)


def begun(place: Source) -> Replacement:
    """Begin to replace what is at a place.

    Raises
    ------
    StoreError
        If the store cannot delete, or list what is in it.
    """
    if not (place.store.supports_deletes and place.store.supports_listing):
        shown = printable(place.url, store.MAX_SHOWN)
        raise StoreError(f"{shown}: this kind of store does not replace: give another place")
    suffix = f"-new{uuid4().hex[:8]}"

    def first(journal: Document | None) -> Document:
        if journal is not None:
            raise _busy(place, journal)
        return {**unfinished.writer(), "suffix": suffix}

    store.change_json(place, JOURNAL, first)
    return Replacement(place, Staged(place.store, suffix), suffix)


def _busy(place: Source, journal: Document) -> BusyError:
    host, process, started = (
        printable(journal.get(key), 80) for key in ("host", "process", "started")
    )
    return BusyError(
        f"{printable(place.url, store.MAX_SHOWN)}: is being replaced by process {process} of "
        f"{host} (since {started}): wait until it ends; if it was killed, "
        "ngff_xarray.repair(…).apply() deletes what it has left"
    )


def is_begun(place: Source) -> bool:
    """Tell whether there is a journal."""
    return store.run(place.store.exists(store.join(place.path, JOURNAL)))


def resume(place: Source, *, force: bool = False) -> bool:
    """End what a writer that was killed has begun: to put the new there, or to clear it away.

    Parameters
    ----------
    place
        Where.
    force
        Whether a writer of another machine is known to have been killed.

    Returns
    -------
    bool
        Whether there was anything.

    Raises
    ------
    BusyError
        If another writer is at it, or may be: one of another machine.
    """
    journal = store.run(store.fetch_json(place, JOURNAL))
    if journal is None:
        return False
    suffix, held, zarr_format = (journal.get(key) for key in ("suffix", "documents", "format"))
    if not (isinstance(suffix, str) and suffix.startswith("-new") and suffix[4:].isalnum()):
        raise StoreError(
            f"{printable(place.url, store.MAX_SHOWN)}: {JOURNAL} is not of this package's making: "
            "delete it"
        )
    if isinstance(held, dict) and zarr_format in (2, 3):
        _roll_forward(place, suffix, zarr_format, held)
        return True
    if not (force or unfinished.is_over(journal)):
        raise _busy(place, journal)
    _clear(place, suffix)
    return True


def _clear(place: Source, suffix: str) -> None:
    """Delete what was to replace something; from the first on nobody can end it any more."""
    store.change_json(place, JOURNAL, lambda journal: {**(journal or {}), "cleared": True})
    with store.changing(place):
        _delete(place, lambda key: suffix in key)
        store.remove_key(place, JOURNAL)


def _roll_forward(
    place: Source, suffix: str, zarr_format: ZarrFormat, held: Mapping[str, str]
) -> None:
    """Put documents, those of the root last, and delete all else."""
    names = (".zgroup", ".zattrs") if zarr_format == 2 else ("zarr.json",)
    root = [store.join(place.path, name) for name in names]
    with store.changing(place):
        hides = zarr_format == 2 and store.run(
            place.store.exists(store.join(place.path, "zarr.json"))
        )
        if hides or held.keys() != set(root):
            _mark(place, 3 if hides else zarr_format)
            for key in sorted(held.keys() - set(root)):
                _set(place, key, held[key])
        store.remove_key(place, ".zmetadata")
        for key in root:
            _set(place, key, held[key])
        if hides:
            store.remove_key(place, "zarr.json")
        arrays = [key.rpartition("/")[0] for key in held if _is_array(key, held[key].encode())]
        new = (store.join(place.path, JOURNAL), *(f"{path}/" for path in arrays))
        _delete(place, lambda key: not (key in held or suffix in key or key.startswith(new)))
        store.remove_key(place, JOURNAL)


def _mark(place: Source, zarr_format: ZarrFormat) -> None:
    """Mark the root as being written, while other documents are changed."""
    attributes = unfinished.mark()
    if zarr_format == 2:
        store.put_json(place, ".zattrs", attributes)
    else:
        document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        store.put_json(place, "zarr.json", document)


def _set(place: Source, key: str, content: str) -> None:
    store.put_bytes(place.store, key, content.encode())


def _delete(place: Source, wanted: Callable[[str], bool]) -> None:
    """Delete keys, several at a time."""

    async def delete() -> None:
        running: set[asyncio.Task[None]] = set()
        async for key in place.store.list_prefix(f"{place.path}/" if place.path else ""):
            if not wanted(key):
                continue
            if len(running) >= _AT_ONCE:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            running.add(asyncio.ensure_future(place.store.delete(key)))
        await asyncio.gather(*running)

    store.run(delete())
