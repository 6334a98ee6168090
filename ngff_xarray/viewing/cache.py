"""What was used last stays, as far as its bytes fit; what is being loaded is loaded once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Lru(Generic[Key, Value]):
    """The values used last, bounded in bytes; safe to use from several threads.

    Parameters
    ----------
    capacity
        How many bytes the values may take. A value that is larger alone is not kept.
    size
        How many bytes a value takes.

    Examples
    --------
    >>> cache = Lru(10, len)
    >>> for word in ("early", "late", "later"):
    ...     cache.put(word, word)
    >>> cache.get("early"), cache.get("later"), cache.nbytes
    (None, 'later', 9)
    """

    def __init__(self, capacity: int, size: Callable[[Value], int]) -> None:
        self.capacity = int(capacity)
        self._size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """The bytes of all values that are held."""
        return self._nbytes

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Key) -> Value | None:
        """Return a value, which counts as used, or None."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: Key, value: Value) -> None:
        """Keep a value, and let go of those that were used longest ago."""
        size = int(self._size(value))
        with self._lock:
            if key in self._values:
                self._nbytes -= self._values.pop(key)[1]
            if size > self.capacity:
                return
            self._values[key] = (value, size)
            self._nbytes += size
            while self._nbytes > self.capacity:
                self._nbytes -= self._values.popitem(last=False)[1][1]

    def drop(self, unwanted: Callable[[Key], bool]) -> None:
        """Let go of the values of some keys."""
        with self._lock:
            for key in [key for key in self._values if unwanted(key)]:
                self._nbytes -= self._values.pop(key)[1]


class Loader(Generic[Key, Value]):
    """A cache of what is loaded slowly: nothing is loaded twice at the same time.

    Who asks for what another thread is loading already waits for that.
    """

    def __init__(self, cache: Lru[Key, Value]) -> None:
        self.cache = cache
        self._lock = threading.Lock()
        self._coming: dict[Key, Future[Value]] = {}

    def fetch(
        self, keys: Sequence[Key], load: Callable[[Sequence[Key]], Mapping[Key, Value]]
    ) -> dict[Key, Value]:
        """Return the values of some keys.

        Parameters
        ----------
        keys
            All different.
        load
            Returns the values of those keys that nobody has or loads; it is called by this
            thread.
        """
        found: dict[Key, Value] = {}
        others: dict[Key, Future[Value]] = {}
        mine: dict[Key, Future[Value]] = {}
        with self._lock:
            for key in keys:
                value = self.cache.get(key)
                if value is not None:
                    found[key] = value
                elif key in self._coming:
                    others[key] = self._coming[key]
                else:
                    mine[key] = self._coming[key] = Future()
        if mine:
            found |= self._load(mine, load)
        # what is mine is done by now: two threads never wait for each other
        failed = [key for key, future in others.items() if future.exception() is not None]
        found |= {key: future.result() for key, future in others.items() if key not in failed}
        # the other thread may have failed for the sake of a neighbour
        return found | (dict(load(failed)) if failed else {})

    def _load(
        self,
        mine: Mapping[Key, Future[Value]],
        load: Callable[[Sequence[Key]], Mapping[Key, Value]],
    ) -> Mapping[Key, Value]:
        try:
            loaded = load(list(mine))
        except BaseException as error:
            self._forget(mine)
            for future in mine.values():
                future.set_exception(error)
            raise
        for key in mine:
            self.cache.put(key, loaded[key])
        self._forget(mine)
        for key, future in mine.items():
            future.set_result(loaded[key])
        return loaded

    def _forget(self, keys: Mapping[Key, Future[Value]]) -> None:
        with self._lock:
            for key in keys:
                del self._coming[key]
