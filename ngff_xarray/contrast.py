"""The ranges that channels are best shown in, found while their pixels pass by."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOW, _HIGH = 1.0, 99.9  # percentiles: background is black, and few pixels are too bright
_AT_ONCE = 2**14  # values that are kept of each part
_KEPT = 2**19  # and in all


class Contrast:
    """The least and the largest value of every channel, and what lies between most of them.

    Parameters
    ----------
    axis
        The axis of the channels; None if there is none.
    count
        How many there are.

    Examples
    --------
    >>> contrast = Contrast(None, 1)
    >>> contrast.add((0, 0), np.arange(1000, dtype="u2").reshape(10, 100))
    >>> contrast.windows()
    [{'min': 0, 'max': 999, 'start': 9, 'end': 998}]
    """

    def __init__(self, axis: int | None, count: int) -> None:
        self._axis = axis
        self._channels = [_Channel() for _ in range(count)]
        self._lock = threading.Lock()

    def add(self, start: Sequence[int], pixels: NDArray[Any]) -> None:
        """Take note of some pixels, by where they begin; NaN and infinities do not count."""
        if self._axis is None:
            self._channels[0].add(pixels, self._lock)
            return
        first = start[self._axis]
        for i in range(pixels.shape[self._axis]):
            self._channels[first + i].add(pixels.take(i, self._axis), self._lock)

    def merge(self, other: Contrast) -> None:
        """Take over what another one has noted, of other pixels.

        Examples
        --------
        >>> both, other = Contrast(None, 1), Contrast(None, 1)
        >>> both.add((0,), np.arange(500))
        >>> other.add((500,), np.arange(500, 1000))
        >>> both.merge(other)
        >>> both.windows()
        [{'min': 0, 'max': 999, 'start': 9, 'end': 998}]
        """
        for mine, theirs in zip(self._channels, other._channels, strict=True):
            with self._lock:
                mine.merge(theirs)

    def empty(self) -> Contrast:
        """Return one for the same channels that has noted nothing yet."""
        return Contrast(self._axis, len(self._channels))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def windows(self) -> list[dict[str, int | float]]:
        """Return the window of every channel (SPEC "omero")."""
        return [channel.window() for channel in self._channels]


class _Channel:
    def __init__(self) -> None:
        self._least: Any = None
        self._most: Any = None
        self._sample: list[NDArray[Any]] = []
        self._step = 1
        self._count = 0

    def add(self, pixels: NDArray[Any], lock: threading.Lock) -> None:
        if pixels.dtype.kind == "b":
            pixels = pixels.view("u1")
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            pixels = pixels[np.isfinite(pixels)]
        if not pixels.size:
            return
        least, most = pixels.min().item(), pixels.max().item()
        flat = pixels.ravel()
        wanted = _AT_ONCE if self._step == 1 and 8 * self._count < _KEPT else _AT_ONCE // 16
        sample = flat[:: max(1, -(-flat.size // wanted))].copy()
        with lock:
            self._note(least, most, sample[:: self._step])

    def _note(self, least: Any, most: Any, sample: NDArray[Any]) -> None:
        self._least = least if self._least is None else min(self._least, least)
        self._most = most if self._most is None else max(self._most, most)
        self._sample.append(sample)
        self._count += sample.size
        while self._count > _KEPT:  # of an image that goes on, fewer of each part
            self._thin()

    def _thin(self) -> None:
        self._step *= 2
        self._sample = [np.concatenate(self._sample)[::2]]
        self._count = self._sample[0].size

    def merge(self, other: _Channel) -> None:
        if other._least is None:
            return
        while self._step < other._step and self._sample:
            self._thin()
        self._step = max(self._step, other._step)
        sample = np.concatenate(other._sample)[:: self._step // other._step]
        self._note(other._least, other._most, sample)

    def window(self) -> dict[str, int | float]:
        if self._least is None:
            return {"min": 0, "max": 1, "start": 0, "end": 1}
        sample = np.concatenate(self._sample)
        kind = float if sample.dtype.kind == "f" else int
        start, end = (kind(value) for value in np.percentile(sample, (_LOW, _HIGH)))
        if start >= end:
            start, end = kind(self._least), kind(self._most)
        end = end if start < end else start + 1
        return {"min": kind(self._least), "max": kind(self._most), "start": start, "end": end}
