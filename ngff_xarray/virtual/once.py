"""What many ask for at a time, and is had once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Once(Generic[K, V]):
    """Values by key: one that is being made is waited for, and the latest are kept.

    Pickled, it is empty.

    Parameters
    ----------
    make
        Makes the value of a key.
    most
        How many are kept.
    """

    def __init__(self, make: Callable[[K], Awaitable[V]], most: int) -> None:
        self._make = make
        self._most = most
        self._forget()

    def _forget(self) -> None:
        self._kept: OrderedDict[K, V] = OrderedDict()
        # a future belongs to its event loop
        self._making: dict[tuple[int, K], asyncio.Future[V]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_make": self._make, "_most": self._most}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def here(self, key: K) -> V | None:
        """Return a value that is kept, None for one that is not."""
        return self._kept.get(key)

    async def get(self, key: K) -> V:
        """Return the value of a key."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        place = id(asyncio.get_running_loop()), key
        making = self._making.get(place)
        if making is None:
            making = self._making[place] = asyncio.ensure_future(self._make(key))
            making.add_done_callback(partial(self._made, place))
        # who waits may be cancelled while others go on waiting
        return await asyncio.shield(making)

    def _made(self, place: tuple[int, K], made: asyncio.Future[V]) -> None:
        del self._making[place]
        if not made.cancelled() and made.exception() is None:
            self._kept[place[1]] = made.result()
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
