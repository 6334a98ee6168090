"""The streaming builder: every pixel is read once, every chunk is written once, whole.

The chunks of all levels are a tree: one of a level is made of those of the level before that lie
in it. It is walked depth first, so that what is in memory at a time is a few chunks of every level
and not the image, however large that is; threads take branches of it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.boxes import Box, cut
from ngff_xarray.pyramid.plan import PlannedLevel
from ngff_xarray.pyramid.reductions import Reduction, State

_BRANCHES = 4  # a thread has at least so many, so that none waits for long


class Target(Protocol):
    """Where a level is written."""

    chunks: tuple[int, ...]

    def write(self, start: Sequence[int], pixels: NDArray[Any]) -> None:
        """Write pixels that cover whole chunks; it is called from several threads."""
        ...


def build(
    read: Callable[[Box], NDArray[Any]],
    levels: Sequence[PlannedLevel],
    reduction: Reduction,
    targets: Sequence[Target],
    *,
    threads: int,
    done: Callable[[int], None] = lambda _: None,
    show: Callable[[], None] = lambda: None,
) -> None:
    """Write all levels of a pyramid.

    Parameters
    ----------
    read
        Returns pixels of the finest level; it is called from several threads.
    levels, targets
        The levels, the finest first, and where they are written.
    reduction
        How pixels of the next level are made.
    threads
        How many work at a time.
    done
        Is called, by several threads, with how many bytes of the finest level more are done.
    show
        Is called now and then by the thread that waits.
    """
    _Builder(read, levels, reduction, targets, done).run(threads, show)


class _Builder:
    def __init__(
        self,
        read: Callable[[Box], NDArray[Any]],
        levels: Sequence[PlannedLevel],
        reduction: Reduction,
        targets: Sequence[Target],
        done: Callable[[int], None],
    ) -> None:
        self._read, self._levels, self._reduction = read, levels, reduction
        self._targets, self._done = targets, done
        self._top = len(levels) - 1
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._units = [self._unit(number) for number in range(len(levels))]

    def _unit(self, number: int) -> tuple[int, ...]:
        """Return what is made of a level at a time: whole chunks, and whole blocks of the next."""
        chunks = self._targets[number].chunks
        if number == self._top:
            return chunks
        step = self._levels[number + 1].step
        return tuple(math.lcm(n, f) for n, f in zip(chunks, step, strict=True))

    # ---- one branch ------------------------------------------------------------------------

    def _branch(self, number: int, box: Box) -> State | None:
        """Make a part in a thread; the first error stops all others."""
        try:
            return self._make(number, box)
        except BaseException as error:
            if not self._stopped.is_set():
                self._error = error
                self._stopped.set()
            raise

    def _make(self, number: int, box: Box) -> State | None:
        """Write a part of a level, and all below it; return its part of the level above."""
        if self._stopped.is_set():
            raise _Stopped
        if number == 0:
            pixels = np.ascontiguousarray(self._read(box))
            state = self._reduction.begin(pixels)
            self._targets[0].write([b.start for b in box], pixels)
            self._done(pixels.nbytes)
            return self._reduced(0, state)
        state = self._room(number, box)
        for part in self._parts(number, box):
            self._place(state, number, box, part, self._make(number - 1, part))
        return self._finish(number, box, state)

    def _room(self, number: int, box: Box) -> State:
        shape = [b.stop - b.start for b in box]
        return self._reduction.empty(shape, math.prod(self._levels[number].factors))

    def _place(self, state: State, number: int, box: Box, part: Box, found: State | None) -> None:
        """Put what was made of a part below where it belongs in a level's part."""
        assert found is not None
        step = self._levels[number].step
        place = tuple(
            slice(p.start // f - b.start, p.start // f - b.start + n)
            for p, f, b, n in zip(part, step, box, found.values.shape, strict=True)
        )
        state.values[place] = found.values
        if found.counts is not None and state.counts is None:
            level = self._levels[number]
            counts = level.counts(
                self._levels[0].shape, [b.start for b in box], [b.stop for b in box]
            )
            state.counts = math.prod(np.ix_(*counts), start=np.ones((), "f8"))
        if state.counts is not None and found.counts is not None:
            state.counts[place] = found.counts

    def _finish(self, number: int, box: Box, state: State) -> State | None:
        level = self._levels[number]
        start, stop = [b.start for b in box], [b.stop for b in box]
        counts = level.counts(self._levels[0].shape, start, stop)
        self._targets[number].write(start, self._reduction.pixels(state, counts))
        return self._reduced(number, state)

    def _reduced(self, number: int, state: State) -> State | None:
        if number == self._top:
            return None
        above = self._levels[number + 1]
        return self._reduction.reduce(state, above.step, math.prod(above.factors))

    def _parts(self, number: int, box: Box) -> Iterator[Box]:
        """Return the parts of the level before that lie in a part of a level."""
        before, step = self._levels[number - 1].shape, self._levels[number].step
        inside = [
            slice(b.start * f, min(b.stop * f, n))
            for b, f, n in zip(box, step, before, strict=True)
        ]
        return cut(inside, self._units[number - 1])

    # ---- all branches ----------------------------------------------------------------------

    def run(self, threads: int, show: Callable[[], None]) -> None:
        whole = [tuple(slice(0, n) for n in level.shape) for level in self._levels]
        counts = [
            math.prod(-(-n // u) for n, u in zip(level.shape, unit, strict=True))
            for level, unit in zip(self._levels, self._units, strict=True)
        ]
        enough = threads * _BRANCHES
        number = next((i for i in range(self._top, -1, -1) if counts[i] >= enough), 0)
        with ThreadPoolExecutor(threads, thread_name_prefix="ngff-pyramid") as pool:
            try:
                branches = _Branches(pool, self._branch, 2 * threads, show)
                self._top_down(whole[self._top], number, branches)
            except _Stopped as error:
                raise (self._error or error) from None
            finally:
                self._stopped.set()  # also after Ctrl-C

    def _top_down(self, whole: Box, number: int, branches: _Branches) -> None:
        """Make the levels above the branches out of what these return."""

        def make(above: int, box: Box) -> Callable[[], State | None]:
            if above == number:
                return branches.start(number, box)
            state = self._room(above, box)
            parts = [(part, make(above - 1, part)) for part in self._parts(above, box)]

            def finish() -> State | None:
                for part, found in parts:
                    self._place(state, above, box, part, found())
                return self._finish(above, box, state)

            return finish

        for found in [make(self._top, box) for box in cut(whole, self._units[self._top])]:
            found()


class _Stopped(Exception):  # noqa: N818  # no error: the reason is another's
    """Another thread failed."""


class _Branches:
    """Runs branches in threads, a few more than these are."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        make: Callable[[int, Box], State | None],
        most: int,
        show: Callable[[], None],
    ) -> None:
        self._pool, self._make, self._most, self._show = pool, make, most, show
        self._running: set[Future[State | None]] = set()

    def start(self, number: int, box: Box) -> Callable[[], State | None]:
        while len(self._running) >= self._most:
            done, self._running = wait(self._running, return_when=FIRST_COMPLETED)
            self._show()
            for each in done:
                each.result()
        future = self._pool.submit(self._make, number, box)
        self._running.add(future)

        def result() -> State | None:
            found = future.result()
            self._show()
            return found

        return result
