"""The builder of levels that need more of the level before than a chunk: level by level.

The finest level is read once, but for the borders of its chunks; each other level is made of the
one before, read from where that was written. In memory are a few chunks at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.boxes import Box, within
from ngff_xarray.contrast import Contrast
from ngff_xarray.pyramid import smoothing
from ngff_xarray.pyramid.keeping import Changes, KeptLevel
from ngff_xarray.pyramid.plan import PlannedLevel
from ngff_xarray.pyramid.sources import Read, Sides

T = TypeVar("T")


class Target(Protocol):
    """Where a level is written, and read again."""

    chunks: tuple[int, ...]
    objects: tuple[int, ...]
    """What is in one object of the store: chunks, or shards."""

    def write(self, start: Sequence[int], pixels: NDArray[Any]) -> None:
        """Write pixels that cover whole chunks; it is called from several threads."""
        ...

    def reader(self, threads: int) -> Read:
        """Return what reads boxes of a level that is written, from several threads."""
        ...

    def write_over(self, box: Box, change: Callable[[NDArray[Any], Box], None]) -> None:
        """Change pixels that were written."""
        ...


class Step(Protocol):
    """Makes one level of the level before."""

    def needed(self, box: Box) -> Box:
        """Return what a box is made of."""
        ...

    def made(self, pixels: NDArray[Any], inside: Box, box: Box) -> NDArray[Any]:
        """Return a box, of pixels of the level before and where they are."""
        ...

    def changes(self) -> Changes | None:
        """Return what is to be changed of the level once all of it was made."""
        ...


class SmoothStep:
    """Makes a level by smoothing."""

    def __init__(self, levels: Sequence[PlannedLevel], number: int) -> None:
        self._step, self._before = levels[number].step, levels[number - 1].shape

    def needed(self, box: Box) -> Box:
        """Return what a box is made of."""
        return smoothing.needed(box, self._step, self._before)

    def made(self, pixels: NDArray[Any], inside: Box, box: Box) -> NDArray[Any]:
        """Return a box."""
        return smoothing.smoothed(pixels, inside, box, self._step, self._before)

    def changes(self) -> None:
        """Return None: there are none."""


class KeptStep:
    """Makes a level of labels that keeps all ids."""

    def __init__(self, kept: KeptLevel, levels: Sequence[PlannedLevel], number: int) -> None:
        self._kept = kept
        self._step, self._before = levels[number].step, levels[number - 1].shape

    def needed(self, box: Box) -> Box:
        """Return what a box is made of."""
        return own(box, self._step, self._before)

    def made(self, pixels: NDArray[Any], inside: Box, box: Box) -> NDArray[Any]:
        """Return a box."""
        return self._kept.made(pixels, box)

    def changes(self) -> Changes:
        """Return the pixels of ids that had none."""
        return self._kept.changes()


def own(box: Sequence[slice], step: Sequence[int], before: Sequence[int]) -> Box:
    """Return the blocks of the level before that a box stands for."""
    return tuple(
        slice(b.start * f, min(b.stop * f, n)) for b, f, n in zip(box, step, before, strict=True)
    )


def build_by_levels(
    reading: Callable[[Sides], Read],
    levels: Sequence[PlannedLevel],
    step: Callable[[int], Step],
    targets: Sequence[Target],
    *,
    threads: int,
    contrast: Contrast | None = None,
    done: Callable[[int], None] = lambda _: None,
    show: Callable[[], None] = lambda: None,
) -> None:
    """Write all levels of a pyramid, each of the one before.

    Parameters
    ----------
    reading
        Returns what reads boxes of the finest level, from several threads, by the sides that these
        have along each axis.
    levels, targets
        The levels, the finest first, and where they are written.
    step
        Returns what makes a level, by its number.
    threads
        How many work at a time.
    contrast
        Takes note of all pixels of the finest level.
    done
        Is called, by several threads, with how many bytes of the finest level more are done.
    show
        Is called now and then by the thread that waits.
    """
    for number in range(1, len(levels)):
        target = targets[number]
        work = _Work(number, levels, step(number), targets, contrast, done)
        work.read = targets[number - 1].reader(threads) if number > 1 else reading(work.sides())
        in_threads(work.make, work.boxes(), threads, show)
        changes = work.step.changes()
        if changes is not None:
            change = partial(target.write_over, change=changes.apply)
            in_threads(change, changes.boxes(target.objects), threads, show)


class _Work:
    """Makes one level, and writes the finest on the way."""

    read: Read

    def __init__(
        self,
        number: int,
        levels: Sequence[PlannedLevel],
        step: Step,
        targets: Sequence[Target],
        contrast: Contrast | None,
        done: Callable[[int], None],
    ) -> None:
        self.step, self._contrast = step, contrast
        self._level, self._before = levels[number], levels[number - 1].shape
        self._target, self._done = targets[number], done
        self._finest = targets[0] if number == 1 else None
        self._unit = self._target.chunks  # whole chunks, of this level and of the finest
        if self._finest is not None:
            chunks = zip(self._finest.chunks, self._level.step, strict=True)
            own = (n // math.gcd(n, f) for n, f in chunks)
            self._unit = tuple(math.lcm(n, m) for n, m in zip(self._unit, own, strict=True))
        sizes = zip(self._level.shape, self._unit, strict=True)
        self._grid = [range(-(-n // m)) for n, m in sizes]

    def boxes(self) -> Iterator[Box]:
        """Yield what is made at a time."""
        return map(self._box, _nearby(self._grid))

    def sides(self) -> Sides:
        """Return the sides, along each axis, of what these are made of."""
        places = [
            [tuple(i if a == axis else 0 for a in range(len(self._grid))) for i in along]
            for axis, along in enumerate(self._grid)
        ]
        return [
            [self.step.needed(self._box(place))[axis] for place in along]
            for axis, along in enumerate(places)
        ]

    def _box(self, place: Sequence[int]) -> Box:
        return tuple(
            slice(i * m, min((i + 1) * m, n))
            for i, m, n in zip(place, self._unit, self._level.shape, strict=True)
        )

    def make(self, box: Box) -> None:
        inside = self.step.needed(box)
        pixels = self.read(inside)
        self._target.write([b.start for b in box], self.step.made(pixels, inside, box))
        if self._finest is not None:
            below = own(box, self._level.step, self._before)
            part = np.ascontiguousarray(pixels[within(below, inside)])
            self._finest.write([b.start for b in below], part)
            if self._contrast is not None:
                self._contrast.add([b.start for b in below], part)
            self._done(part.nbytes)


def _nearby(grid: Sequence[range]) -> Iterator[tuple[int, ...]]:
    """Yield all places of a grid, such that those that follow each other lie near each other.

    What was read for one is then kept for the next, and few shards are begun at a time.
    """
    axis = max(range(len(grid)), key=lambda i: len(grid[i]))
    count = len(grid[axis])
    if count < 2:
        if all(grid):
            yield tuple(side.start for side in grid)
        return
    half = 1 << (count - 1).bit_length() - 1
    for part in (grid[axis][:half], grid[axis][half:]):
        yield from _nearby([*grid[:axis], part, *grid[axis + 1 :]])


def in_threads(
    make: Callable[[T], None], parts: Iterable[T], threads: int, show: Callable[[], None]
) -> None:
    """Make parts, a few at a time; the first error ends it."""
    with ThreadPoolExecutor(threads, thread_name_prefix="ngff-pyramid") as pool:
        running: set[Future[None]] = set()
        try:
            for part in parts:
                if len(running) >= 2 * threads:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for each in done:
                        each.result()
                    show()
                running.add(pool.submit(make, part))
            for each in running:
                each.result()
                show()
        finally:
            for each in running:  # also after Ctrl-C
                each.cancel()
