"""The ranges that channels are best shown in, found while their pixels pass by."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOW, _HIGH = 1.0, 99.9  # percentiles: background is black, and few pixels are too bright
_KEPT = 2**19  # values of a channel


class Contrast:
    """The least and the largest value of every channel, and what lies between most of them.

    Most of them are told by a grid of pixels, so that it does not matter in which order, or in
    which parts, all of them come.

    Parameters
    ----------
    shape
        Of the image.
    axis
        The axis of the channels; None if there is none.

    Examples
    --------
    >>> contrast = Contrast((10, 100))
    >>> contrast.add((0, 0), np.arange(1000, dtype="u2").reshape(10, 100))
    >>> contrast.windows()
    [{'min': 0, 'max': 999, 'start': 9, 'end': 998}]
    """

    def __init__(self, shape: Sequence[int], axis: int | None = None) -> None:
        self._shape, self._axis = tuple(shape), axis
        self._channels = [_Channel() for _ in range(1 if axis is None else shape[axis])]
        self._steps = _steps(shape, axis)
        self._lock = threading.Lock()

    def add(self, start: Sequence[int], pixels: NDArray[Any]) -> None:
        """Take note of some pixels, by where they begin; NaN and infinities do not count."""
        grid = tuple(
            slice(-at % step, None, step) for at, step in zip(start, self._steps, strict=True)
        )
        if self._axis is None:
            self._channels[0].add(pixels, pixels[grid], self._lock)
            return
        for i in range(pixels.shape[self._axis]):
            channel = (slice(None),) * self._axis + (slice(i, i + 1),)
            found = self._channels[start[self._axis] + i]
            found.add(pixels[channel], pixels[channel][grid], self._lock)

    def merge(self, other: Contrast) -> None:
        """Take over what another one has noted, of other pixels of the image.

        Examples
        --------
        >>> both, other = Contrast((1000,)), Contrast((1000,))
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
        """Return one for the same image that has noted nothing yet."""
        return Contrast(self._shape, self._axis)

    def noted(self) -> tuple[list[list[Any]], list[NDArray[Any]]]:
        """Return the least and the largest value of every channel, and the values in between.

        Examples
        --------
        >>> contrast = Contrast((3,))
        >>> contrast.add((0,), np.array([4, 2, 9]))
        >>> contrast.noted()
        ([[2, 9]], [array([4, 2, 9])])
        """
        ranges = [[each._least, each._most] for each in self._channels]
        return ranges, [each._sample[: each._count] for each in self._channels]

    @classmethod
    def of_notes(cls, ranges: Sequence[Sequence[Any]], samples: Sequence[NDArray[Any]]) -> Contrast:
        """Return what had noted that, to be merged into that of its image."""
        found = cls((len(ranges),), 0)
        for channel, (least, most), sample in zip(found._channels, ranges, samples, strict=True):
            channel._least, channel._most = least, most
            channel._sample, channel._count = sample, sample.size
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def windows(self) -> list[dict[str, int | float]]:
        """Return the window of every channel (SPEC "omero")."""
        return [channel.window() for channel in self._channels]


def _steps(shape: Sequence[int], axis: int | None) -> list[int]:
    """Return how far apart the pixels of the grid are: odd, for patterns are even more often."""
    steps = [1] * len(shape)

    def counts() -> list[int]:
        return [
            1 if i == axis else -(-n // s)
            for i, (n, s) in enumerate(zip(shape, steps, strict=True))
        ]

    while math.prod(found := counts()) > _KEPT:
        steps[found.index(max(found))] += 2
    return steps


class _Channel:
    """What is known of a channel.

    The sample has its place from the first: small arrays that stay between large ones that go keep
    the memory of these from being given back.
    """

    def __init__(self) -> None:
        self._least: Any = None
        self._most: Any = None
        self._sample: NDArray[Any] = np.empty(0)
        self._count = 0

    def add(self, pixels: NDArray[Any], sample: NDArray[Any], lock: threading.Lock) -> None:
        pixels, sample = _finite(pixels), _finite(sample)
        if not pixels.size:
            return
        least, most = pixels.min().item(), pixels.max().item()
        with lock:
            self._note(least, most, sample)

    def _note(self, least: Any, most: Any, sample: NDArray[Any]) -> None:
        self._least = least if self._least is None else min(self._least, least)
        self._most = most if self._most is None else max(self._most, most)
        end = self._count + sample.size
        if end > self._sample.size:
            more = np.empty(max(end, _KEPT), sample.dtype)
            more[: self._count] = self._sample[: self._count]
            self._sample = more
        self._sample[self._count : end] = sample.ravel()
        self._count = end

    def merge(self, other: _Channel) -> None:
        if other._least is not None:
            self._note(other._least, other._most, other._sample[: other._count])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sample": self._sample[: self._count]}

    def window(self) -> dict[str, int | float]:
        if self._least is None:
            return {"min": 0, "max": 1, "start": 0, "end": 1}
        sample = self._sample[: self._count]
        kind = int if isinstance(self._least, int) else float
        start = end = kind(self._least)
        if sample.size:
            start, end = (kind(value) for value in np.percentile(sample, (_LOW, _HIGH)))
        if start >= end:
            start, end = kind(self._least), kind(self._most)
        end = end if start < end else start + 1
        return {"min": kind(self._least), "max": kind(self._most), "start": start, "end": end}


def _finite(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.dtype.kind == "b":
        return pixels.view("u1")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        return pixels[np.isfinite(pixels)]
    return pixels
