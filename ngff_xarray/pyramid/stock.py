"""Blocks of pixels that are kept: for a while, or until all is read of them that will be."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
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

    def claim(self, places: Iterable[Place]) -> list[Place]:
        """Return which blocks are not kept: who asks is to load them, and to `put` or `fail` each.

        Others wait for them meanwhile.
        """
        with self._lock:
            mine = [p for p in places if p not in self._moved and p not in self._kept]
            self._kept.update((place, Future()) for place in mine)
        try:
            self._make_room()
        except BaseException as error:  # Ctrl-C, perhaps
            for place in mine:
                self.fail(place, error)
            raise
        return mine

    def put(self, place: Place, pixels: Pixels) -> None:
        """Keep a block that was claimed."""
        with self._lock:
            future = self._kept[place]
        future.set_result(pixels)

    def fail(self, place: Place, error: BaseException) -> None:
        """Tell those who wait for a block that was claimed; who comes later may have more luck."""
        with self._lock:
            future = self._kept.pop(place)
        future.set_exception(error)

    def get(self, place: Place) -> Pixels | None:
        """Return a block; None if it is not kept (any more). Wait for one that is being loaded."""
        with self._lock:
            moved, known = self._moved.get(place), self._kept.get(place)
            if known is not None:
                self._kept.move_to_end(place)
        return moved if known is None else known.result()

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
                place = next((p for p, future in self._kept.items() if future.done()), None)
                if place is None:  # all are being loaded
                    return
                pixels = self._kept.pop(place).result()
                if self._reads is None or not self._take(pixels):
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
