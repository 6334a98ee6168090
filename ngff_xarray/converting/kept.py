"""What was unpacked last, for those who ask for a part of it next."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Kept:
    """Arrays by key, up to a number of bytes; each is loaded by the first thread that asks for it.

    Parameters
    ----------
    most
        Bytes of all arrays together.

    Examples
    --------
    >>> kept = Kept(100)
    >>> kept.get("a", lambda: np.zeros(3)), kept.get("a", lambda: np.ones(3))
    (array([0., 0., 0.]), array([0., 0., 0.]))
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.RLock()  # who is gone may be dropped at any moment
        self._found: OrderedDict[Any, Future[NDArray[Any]]] = OrderedDict()
        self._nbytes = 0

    def __reduce__(self) -> Any:
        return Kept, (self._most,)

    def get(self, key: Any, load: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return the array under a key."""
        with self._lock:
            known = self._found.get(key)
            if known is None:
                mine = self._found[key] = Future()
            else:
                self._found.move_to_end(key)
        if known is not None:
            return known.result()
        try:
            made = np.asarray(load())
        except BaseException as error:
            with self._lock:
                self._found.pop(key, None)
            mine.set_exception(error)
            raise
        with self._lock:
            mine.set_result(made)
            self._nbytes += made.nbytes
            self._forget()
        return made

    def drop(self, owner: Any) -> None:
        """Drop the arrays whose key begins with an owner, who is gone."""
        with self._lock:
            for key in [key for key in self._found if key[0] == owner]:
                self._remove(key)

    def _remove(self, key: Any) -> None:
        """Drop an array, unless it is being loaded."""
        found = self._found.get(key)
        if found is not None and found.done():
            del self._found[key]
            self._nbytes -= found.result().nbytes

    def _forget(self) -> None:
        """Drop what was asked for longest ago; not what is being loaded."""
        for key in list(self._found):
            if self._nbytes <= self._most:
                return
            self._remove(key)
