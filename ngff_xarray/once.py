"""What many ask for at a time, and is fetched once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class Once(Generic[Key, Result]):
    """What is fetched once, also when it is asked for meanwhile; failures and None are not kept.

    Pickled, it is empty.

    Parameters
    ----------
    most
        How many are kept: the latest that were asked for. By default all.
    """

    def __init__(self, most: float = float("inf")) -> None:
        self._most = most
        self._kept: OrderedDict[Key, Result] = OrderedDict()
        # a future belongs to its event loop
        self._fetching: dict[tuple[int, Key], asyncio.Future[Result]] = {}

    def __reduce__(self) -> Any:
        return Once, (self._most,)

    def here(self, key: Key) -> Result | None:
        """Return what is kept under a key, None if nothing is."""
        return self._kept.get(key)

    async def get(self, key: Key, fetch: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Return what was fetched under a key, or fetch it."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        place = id(asyncio.get_running_loop()), key
        fetching = self._fetching.get(place)
        if fetching is None:
            fetching = self._fetching[place] = asyncio.ensure_future(fetch())
            fetching.add_done_callback(partial(self._take, place))
        return await asyncio.shield(fetching)  # who waits may be given up while others wait on

    def keep(self, key: Key, value: Result) -> None:
        """Keep a value under a key."""
        self._kept[key] = value
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def _take(self, place: tuple[int, Key], fetched: asyncio.Future[Result]) -> None:
        del self._fetching[place]
        if not fetched.cancelled() and fetched.exception() is None:
            found = fetched.result()
            if found is not None:
                self.keep(place[1], found)
