"""Blocks of pixels that are kept: for a while, or until all is read of them that will be."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

Place = tuple[int, ...]
Pixels = NDArray[Any]


class Stock:
    """Keeps blocks, which several threads read.

    Parameters
    ----------
    most
        How many are in memory at a time.
    reads
        How often a block will be read, by its place. It is kept until then, in a file of the
        system's temporary directory if there are more than ``most``: loading one again may cost
        much. Files take no more than half of what is free there. Nothing is known by default, and
        who was not read for the longest time is dropped.
    """

    def __init__(self, most: int, reads: Callable[[Place], int] | None = None) -> None:
        self._most, self._reads = most, reads
        self._lock = threading.Lock()
        self._kept: OrderedDict[Place, Future[Pixels]] = OrderedDict()
        self._moved: dict[Place, Pixels] = {}
        self._left: dict[Place, int] = {}
        self._room: int | None = None

    def get(self, place: Place, load: Callable[[], Pixels]) -> Pixels:
        """Return a block that is kept, or else load it: once, whoever asks for it meanwhile."""
        with self._lock:
            moved, known = self._moved.get(place), self._kept.get(place)
            mine: Future[Pixels] = Future()
            if moved is None and known is None:
                self._kept[place] = mine
            elif known is not None:
                self._kept.move_to_end(place)
        if moved is not None:
            return moved
        if known is not None:
            return known.result()
        self._make_room()
        try:
            mine.set_result(load())
        except BaseException as error:
            mine.set_exception(error)
            with self._lock:  # who comes later may have more luck
                if self._kept.get(place) is mine:
                    del self._kept[place]
            raise
        return mine.result()

    def was_read(self, place: Place) -> None:
        """Note that a block was read, perhaps for the last time."""
        if self._reads is None:
            return
        with self._lock:
            left = self._left.pop(place, None)
            left = (self._reads(place) if left is None else left) - 1
            if left > 0:
                self._left[place] = left
            else:
                self._kept.pop(place, None)
                self._give_back(self._moved.pop(place, None))

    def _make_room(self) -> None:
        """Drop blocks, or move them to a disk, until there are not too many in memory."""
        while True:
            with self._lock:
                if len(self._kept) <= self._most:
                    return
                place, future = self._kept.popitem(last=False)
                if self._reads is None or not future.done() or future.exception():
                    continue
                pixels = future.result()
                if not self._take(pixels):
                    continue
                self._moved[place] = pixels
            moved = _moved(pixels)
            with self._lock:
                if self._moved.get(place) is not pixels:
                    continue  # it was read for the last time meanwhile
                if moved is None:
                    self._give_back(self._moved.pop(place))
                else:
                    self._moved[place] = moved

    def _take(self, pixels: Pixels) -> bool:
        """Tell whether there is room for pixels on the disk, and take it."""
        if self._room is None:
            self._room = _free() // 2
        if self._room < pixels.nbytes:
            return False
        self._room -= pixels.nbytes
        return True

    def _give_back(self, pixels: Pixels | None) -> None:
        if pixels is not None and self._room is not None:
            self._room += pixels.nbytes


def _free() -> int:
    """Return how many bytes are free where temporary files are."""
    try:
        return shutil.disk_usage(tempfile.gettempdir()).free
    except OSError:
        return 0


def _moved(pixels: Pixels) -> Pixels | None:
    """Return the same pixels, in a file that goes away with them; None if that cannot be."""
    try:
        with tempfile.TemporaryFile() as file:
            np.ascontiguousarray(pixels).tofile(file)
            return np.memmap(file, pixels.dtype, "r", shape=pixels.shape)
    except (OSError, ValueError):  # the disk is full, perhaps
        return None
