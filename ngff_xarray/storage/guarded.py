"""A store behind a network: retries, a deadline, and answers that are looked at."""

from __future__ import annotations

import asyncio
import random
import time
import weakref
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, NoReturn

from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from ngff_xarray.errors import DeniedError, StoreError
from ngff_xarray.storage.access import Access
from ngff_xarray.storage.faults import Fault, RemoteAnswerError, causes, fault_of
from ngff_xarray.storage.readable import Readable
from ngff_xarray.text import printable
from ngff_xarray.urls import hidden

_MOST_TRIES = 8
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds
_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata", "METADATA.ome.xml")
_PAGE = (b"<!doctype html", b"<html")
_random = random.Random()  # of its own: threads must not disturb the numbers of a program


class Guarded(Readable):
    """A store for reading that tells a key that is not there from one that cannot be had.

    What a passing fault stopped (429, 5xx, a lost connection, a short body) is asked for again,
    later and later, until a deadline; then an error names the key, the place and the last fault.
    Answers longer than what was asked for, and pages of HTML, are no content.

    Parameters
    ----------
    store
        The store to read.
    place
        What people know it by.
    access
        How patient to be, and what a missing chunk stands for.
    hint
        What to say where reading is not permitted.
    """

    def __init__(self, store: Store, place: str, access: Access, *, hint: str = "") -> None:
        super().__init__()
        self.store, self.place, self.access, self.hint = store, place, access, hint
        self._gates: weakref.WeakKeyDictionary[Any, asyncio.Semaphore] = weakref.WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_gates"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._gates = weakref.WeakKeyDictionary()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Guarded) and self.store == other.store

    def __hash__(self) -> int:
        return hash((type(self), self.place))

    def __str__(self) -> str:
        return self.place

    def __repr__(self) -> str:
        return f"Guarded({self.place!r})"

    # ---- reading ---------------------------------------------------------------------------

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return what stands under a key, or None if there is no such key.

        Raises
        ------
        StoreError
            If it cannot be had, or is not there and ``missing="raise"``.
        """
        found = await self._tried(key, prototype, byte_range)
        if found is None and self.access.missing == "raise" and not self.is_metadata(key):
            raise StoreError(
                f"{self._named(key)}: this chunk is not in the store: copy it again, or open the "
                "image without missing='raise', and it has the fill value"
            )
        return found

    @staticmethod
    def is_metadata(key: str) -> bool:
        """Tell whether a key is that of a document, which may be missing, rather than a chunk's."""
        return key.rpartition("/")[2] in _METADATA

    async def _tried(
        self, key: str, prototype: BufferPrototype, part: ByteRequest | None
    ) -> Buffer | None:
        end = float("inf")
        tries, before = 0, ""
        while True:
            tries += 1
            try:
                async with self._gate():
                    if tries == 1:  # waiting for one's turn is no fault of the server
                        end = time.monotonic() + self.access.timeout
                    left = max(end - time.monotonic(), 0.001)
                    # one request that hangs must leave time for another
                    async with asyncio.timeout(left if tries > 1 else left / 2):
                        found = await self.store.get(key, prototype, part)
                _check(found, part, key)
            except Exception as error:  # whatever the libraries below raise
                fault = fault_of(error)
                pause = min(_FIRST_PAUSE * 2 ** (tries - 1), _LONGEST_PAUSE)
                pause *= _random.uniform(0.5, 1.0)  # not all at once again
                is_last = tries >= _MOST_TRIES or time.monotonic() + pause >= end
                if is_last or not fault.is_passing:
                    if before not in ("", fault.text):
                        fault = replace(fault, text=f"{fault.text}; before that, {before}")
                    self._give_up(key, fault, tries, error)
                before = fault.text
                await asyncio.sleep(pause)
            else:
                return found

    def _gate(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        gate = self._gates.get(loop)
        if gate is None:
            gate = self._gates[loop] = asyncio.Semaphore(self.access.connections)
        return gate

    def _give_up(self, key: str, fault: Fault, tries: int, error: Exception) -> NoReturn:
        times = f" ({tries} tries)" if tries > 1 else ""
        kind = DeniedError if fault.is_denied else StoreError
        hint = f": {self.hint}" if fault.is_denied and self.hint else ""
        text = f"{self._named(key)}: {fault.text}{times}{hint}"
        if any(hidden(str(each)) != str(each) for each in causes(error)):
            raise kind(text) from None  # what a traceback would show of it holds a token
        raise kind(text) from error

    def _named(self, key: str) -> str:
        name = key.partition("?")[0]  # what follows may be a signature
        return f"{printable(self.place, 500)}: cannot read {printable(name, 300)}"

    async def exists(self, key: str) -> bool:
        """Tell whether there is a key."""
        return await self.store.exists(key)

    async def getsize(self, key: str) -> int:
        """Return how many bytes stand under a key; FileNotFoundError if there is no such key."""
        return await self.store.getsize(key)

    @property
    def supports_listing(self) -> bool:
        """Whether keys can be listed, if the server lets us."""
        return self.store.supports_listing

    def list(self) -> AsyncIterator[str]:
        """Return all keys."""
        return self.store.list()

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Return the keys that begin so."""
        return self.store.list_prefix(prefix)

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Return the names below a prefix."""
        return self.store.list_dir(prefix)


def _check(found: Buffer | None, part: ByteRequest | None, key: str) -> None:
    """Refuse what cannot be the content that was asked for."""
    if found is None:
        return
    most = None
    if isinstance(part, RangeByteRequest):
        most = part.end - part.start
    elif isinstance(part, SuffixByteRequest):
        most = part.suffix
    if most is not None and len(found) > most:
        raise RemoteAnswerError(
            f"the server ignores ranges: it sent {len(found)} bytes where {most} were asked for: "
            "shards and zip files need a server that knows ranges, or a copy on a disk"
        )
    if isinstance(part, RangeByteRequest) and part.start and len(found) < part.end - part.start:
        raise RemoteAnswerError(
            f"the server sent {len(found)} of {part.end - part.start} bytes: the object ends early"
        )
    beginning = found[:64].to_bytes().lstrip().lower()
    if beginning.startswith(_PAGE) and not key.endswith((".html", ".htm")):
        raise RemoteAnswerError(
            "the server answered with a page of HTML: is the address that of the image, and open "
            "to you without a login?"
        )
