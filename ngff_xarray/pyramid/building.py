"""The streaming builder: every pixel is read once, every chunk is written once, whole.

The chunks of all levels are a tree: one of a level is made of those of the level before that lie
in it. It is walked depth first, so that what is in memory at a time is a few chunks of every level
and not the image, however large that is. Branches of it are given to a crew: the threads of this
process, or the workers of a cluster.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.boxes import Box, count, cut
from ngff_xarray.contrast import Contrast
from ngff_xarray.pyramid.plan import PlannedLevel
from ngff_xarray.pyramid.reductions import Reduction, State

M = TypeVar("M")

_HELD = 2**28  # bytes of blocks that are not read whole yet, at the most
_BRANCHES = 4  # a thread has at least so many, so that none waits for long
_PART, _PARTS = 2**23, 64  # pixels of a part of a level that stands alone, and how many there are
NOTED = 2**26  # bytes of the finest level that a part has which is noted, at the most


class Target(Protocol):
    """Where a level is written."""

    chunks: tuple[int, ...]

    def write(self, start: Sequence[int], pixels: NDArray[Any]) -> None:
        """Write pixels that cover whole chunks; it is called from several threads."""
        ...

    def is_settled(self, box: Box) -> bool:
        """Tell whether all is in the store that was written of a part."""
        ...


class Journal(Protocol):
    """What was made before by a run that was killed, and what is made now."""

    itemsize: int
    """Bytes of a pixel."""

    def has(self, number: int, box: Box) -> bool:
        """Tell whether a part of a level, and all below it, was made before."""
        ...

    def recall(self, number: int, box: Box) -> Made | None:
        """Return what was made before of a part; None if that cannot be told any more."""
        ...

    def note(self, number: int, box: Box, made: Made, is_settled: Callable[[], bool]) -> None:
        """Note what is made of a part, as soon as all of it is in the store."""
        ...


def build(
    read: Callable[[Box], NDArray[Any]],
    levels: Sequence[PlannedLevel],
    reduction: Reduction,
    targets: Sequence[Target],
    *,
    threads: int,
    contrast: Contrast | None = None,
    done: Callable[[int], None] = lambda _: None,
    show: Callable[[], None] = lambda: None,
    journal: Journal | None = None,
    near: Sequence[int] | None = None,
) -> None:
    """Write all levels of a pyramid.

    Parameters
    ----------
    read
        Returns pixels of the finest level; it is called from several threads, once for each box
        of `sides`.
    levels, targets
        The levels, the finest first, and where they are written.
    reduction
        How pixels of the next level are made.
    threads
        How many work at a time.
    contrast
        Takes note of all pixels of the finest level.
    done
        Is called, by several threads, with how many bytes of the finest level more are done.
    show
        Is called now and then by the thread that waits.
    journal
        Knows what was made before, and takes note of what is.
    near
        The size of the blocks that pixels come in, those of one are written after one another.
    """
    tree = Tree.of(levels, [target.chunks for target in targets], near)
    stopped = threading.Event()
    enough = threads * _BRANCHES
    number = next((i for i in range(tree.top, -1, -1) if tree.count(i) >= enough), 0)
    maker = Maker(
        tree,
        read,
        reduction,
        targets,
        contrast,
        done,
        lambda: not stopped.is_set(),
        journal,
        0 if journal is None else min(number, noted(tree, journal.itemsize)),
    )
    with ThreadPoolExecutor(threads, thread_name_prefix="ngff-pyramid") as pool:
        crew = _Threads(maker, pool, 2 * threads, stopped, show)
        try:
            walk(tree, number, crew, journal, near)
        except Stopped as error:
            raise (crew.error or error) from None
        finally:
            stopped.set()  # also after Ctrl-C


def sides(
    levels: Sequence[PlannedLevel], targets: Sequence[Target], near: Sequence[int] | None = None
) -> list[list[slice]]:
    """Return the sides, along each axis, of the boxes that `build` reads."""
    return Tree.of(levels, [target.chunks for target in targets], near).sides()


def is_better_apart(
    levels: Sequence[PlannedLevel],
    targets: Sequence[Target],
    near: Sequence[int] | None,
    itemsize: int,
) -> bool:
    """Tell whether to write the finest level for itself, and the others of what was written.

    That is, if pixels come in blocks that lie across all that is made at a time, such as planes:
    they would have to be held until the deepest branch that needs them is made.

    Parameters
    ----------
    levels, targets
        The levels, the finest first, and where they are written.
    near
        The size of the blocks that pixels come in; None where they are in memory.
    itemsize
        Bytes of a pixel.
    """
    if near is None:
        return False
    tree = Tree.of(levels, [target.chunks for target in targets])
    held, alone = tree.held(near), Tree.of(levels[:1], [targets[0].chunks]).held(near)
    return held * itemsize > _HELD and held >= 4 * alone


# ---- what is made of what ----------------------------------------------------------------------


@dataclass(frozen=True)
class Tree:
    """How the parts of levels lie in one another.

    Parameters
    ----------
    levels
        The finest first.
    units
        What is made of each at a time: whole chunks, that hold whole parts of the level before and
        whole blocks of the next.
    """

    levels: tuple[PlannedLevel, ...]
    units: tuple[tuple[int, ...], ...]

    @classmethod
    def of(
        cls,
        levels: Sequence[PlannedLevel],
        chunks: Sequence[Sequence[int]],
        near: Sequence[int] | None = None,
    ) -> Tree:
        """Return the tree of levels that are written in chunks.

        Parts of a level that stands alone are whole blocks that its pixels come in, where these
        are several chunks each: nobody waits for who loads the same block, and a note is on more.

        Parameters
        ----------
        levels, chunks
            The levels, the finest first, and their chunks.
        near
            The size of the blocks that pixels come in.
        """
        units: list[tuple[int, ...]] = []
        for number, sizes in enumerate(chunks):
            unit = tuple(sizes)
            if units:
                step = levels[number].step
                before = (n // math.gcd(n, f) for n, f in zip(units[-1], step, strict=True))
                unit = tuple(map(math.lcm, unit, before))
            if number < len(levels) - 1:
                unit = tuple(map(math.lcm, unit, levels[number + 1].step))
            units.append(unit)
        if len(units) == 1 and near is not None and _are_parts(near, units[0], levels[0].shape):
            units = [tuple(near)]
        return cls(tuple(levels), tuple(units))

    @property
    def top(self) -> int:
        """The number of the coarsest level."""
        return len(self.levels) - 1

    def count(self, number: int) -> int:
        """Return in how many parts a level is made."""
        sizes = zip(self.levels[number].shape, self.units[number], strict=True)
        return math.prod(-(-n // unit) for n, unit in sizes)

    def boxes(self, number: int, near: Sequence[int] | None = None) -> Iterator[Box]:
        """Yield the parts of a level; those near each other in one block of the finest, if told."""
        level, unit = self.levels[number], self.units[number]
        together = unit
        if near is not None:
            sizes = zip(near, level.factors, unit, strict=True)
            together = tuple(-(-max(-(-n // f), m) // m) * m for n, f, m in sizes)
        for part in cut([slice(0, n) for n in level.shape], together):
            yield from cut(part, unit)

    def sides(self) -> list[list[slice]]:
        """Return those of the parts of the finest level, along each axis."""
        sizes = zip(self.levels[0].shape, self.units[0], strict=True)
        return [[side for (side,) in cut((slice(0, n),), (unit,))] for n, unit in sizes]

    def parts(self, number: int, box: Box) -> Iterator[Box]:
        """Return the parts of the level before that lie in a part of a level."""
        return cut(self.below(number, box), self.units[number - 1])

    def below(self, number: int, box: Box) -> Box:
        """Return what of the level before a part of a level is made of."""
        before, step = self.levels[number - 1].shape, self.levels[number].step
        return tuple(
            slice(b.start * f, min(b.stop * f, n))
            for b, f, n in zip(box, step, before, strict=True)
        )

    def above(self, number: int, box: Box) -> Box:
        """Return what of the level above is made of a part of a level."""
        step = self.levels[number + 1].step
        return tuple(slice(b.start // f, -(-b.stop // f)) for b, f in zip(box, step, strict=True))

    def finest(self, number: int, box: Box) -> Box:
        """Return what of the finest level a part of a level is made of."""
        sizes = zip(box, self.levels[number].factors, self.levels[0].shape, strict=True)
        return tuple(slice(b.start * f, min(b.stop * f, n)) for b, f, n in sizes)

    def held(self, near: Sequence[int]) -> int:
        """Return how many pixels are held, of blocks of some size, until they are all used."""
        shape = self.levels[0].shape
        for number in range(self.top, -1, -1):
            factors = self.levels[number].factors
            sides = [
                min(n * f, m) for n, f, m in zip(self.units[number], factors, shape, strict=True)
            ]
            blocks = [min(n, m) for n, m in zip(near, shape, strict=True)]
            if any(n > side for n, side in zip(blocks, sides, strict=True)):
                return math.prod(map(max, blocks, sides))
        return math.prod(near)

    def largest(self, number: int) -> int:
        """Return how many pixels of the finest level a part of a level is made of."""
        return math.prod(self.units[number]) * math.prod(self.levels[number].factors)


def _are_parts(near: Sequence[int], chunk: Sequence[int], shape: Sequence[int]) -> bool:
    """Tell whether blocks that pixels come in are whole chunks, not large, and many."""
    sizes = list(zip(near, chunk, shape, strict=True))
    return (
        all(n % unit == 0 for n, unit, _ in sizes)
        and math.prod(near) <= _PART
        and math.prod(-(-whole // n) for n, _, whole in sizes) >= _PARTS
    )


def noted(tree: Tree, itemsize: int) -> int:
    """Return the level whose parts are noted when they are made."""
    small = (i for i in range(tree.top, 0, -1) if tree.largest(i) * itemsize <= NOTED)
    return next(small, 0)


class Crew(Protocol[M]):
    """Those who make the parts of a pyramid, now or later."""

    def branch(self, number: int, box: Box) -> M:
        """Make a part of a level, and all below it, or recall it."""
        ...

    def joined(self, number: int, box: Box, parts: Sequence[tuple[Box, M]]) -> M:
        """Make a part of a level of what was made of all its parts of the level before."""
        ...

    def finish(self, made: Sequence[M]) -> None:
        """Wait until all is made."""
        ...


def walk(
    tree: Tree,
    number: int,
    crew: Crew[M],
    journal: Journal | None = None,
    near: Sequence[int] | None = None,
) -> None:
    """Let a crew make a pyramid: branches up to a level, and of these what is above it."""

    def make(above: int, box: Box) -> M:
        if above == number or (journal is not None and journal.has(above, box)):
            return crew.branch(above, box)
        parts = [(part, make(above - 1, part)) for part in tree.parts(above, box)]
        return crew.joined(above, box, parts)

    crew.finish([make(tree.top, box) for box in tree.boxes(tree.top, near)])


# ---- making ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """What was made of a part of a level.

    Parameters
    ----------
    state
        Its part of the level above; None if there is none.
    contrast
        What is noted of its pixels.
    """

    state: State | None
    contrast: Contrast | None


@dataclass(frozen=True)
class Maker:
    """Makes parts of levels, and writes them.

    Parameters
    ----------
    tree
        What they are made of.
    read, reduction, targets, contrast, done
        See `build`.
    goes_on
        Tells whether to go on.
    journal, noted
        What knows the parts that were made before, and the level whose parts it is told of.
    """

    tree: Tree
    read: Callable[[Box], NDArray[Any]]
    reduction: Reduction
    targets: Sequence[Target]
    contrast: Contrast | None
    done: Callable[[int], None]
    goes_on: Callable[[], bool]
    journal: Journal | None = None
    noted: int = 0

    def make(self, number: int, box: Box) -> State | None:
        """Write a part of a level, and all below it; return its part of the level above."""
        if not self.goes_on():
            raise Stopped
        if self.journal is None:
            return self._make(number, box)
        if self.journal.has(number, box):
            made = self.journal.recall(number, box)
            if made is not None:
                self.take(made)
                self.done(count(self.tree.finest(number, box)) * self.journal.itemsize)
                return made.state
        if number != self.noted:
            return self._make(number, box)
        notes = None if self.contrast is None else self.contrast.empty()
        state = replace(self, contrast=notes, journal=None).make(number, box)
        made = Made(state, notes)
        self.take(made)
        self.journal.note(number, box, made, lambda: self.is_settled(number, box))
        return state

    def take(self, made: Made) -> None:
        """Take over what is noted of the pixels of a part."""
        if self.contrast is not None and made.contrast is not None:
            self.contrast.merge(made.contrast)

    def is_settled(self, number: int, box: Box) -> bool:
        """Tell whether a part of a level, and all below it, is in the store."""
        for i in range(number, -1, -1):
            if not self.targets[i].is_settled(box):
                return False
            box = self.tree.below(i, box) if i else box
        return True

    def _make(self, number: int, box: Box) -> State | None:
        if number == 0:
            pixels = np.ascontiguousarray(self.read(box))
            state = self.reduction.begin(pixels)
            start = [b.start for b in box]
            self.targets[0].write(start, pixels)
            if self.contrast is not None:
                self.contrast.add(start, pixels)
            self.done(pixels.nbytes)
            return self._reduced(0, state)
        return self.joined(
            number,
            box,
            ((part, self.make(number - 1, part)) for part in self.tree.parts(number, box)),
        )

    def joined(
        self, number: int, box: Box, parts: Iterator[tuple[Box, State | None]]
    ) -> State | None:
        """Write a part of a level that others are put together to; return that of the next."""
        state = self.gathered(number, box, parts)
        start, stop = [b.start for b in box], [b.stop for b in box]
        counts = self.tree.levels[number].counts(self.tree.levels[0].shape, start, stop)
        self.targets[number].write(start, self.reduction.pixels(state, counts))
        return self._reduced(number, state)

    def gathered(self, number: int, box: Box, parts: Iterator[tuple[Box, State | None]]) -> State:
        """Return the state of a part of a level out of those of its parts of the level before."""
        level = self.tree.levels[number]
        shape = [b.stop - b.start for b in box]
        state = self.reduction.empty(shape, math.prod(level.factors))
        for part, found in parts:
            assert found is not None
            place = tuple(
                slice(p.start // f - b.start, p.start // f - b.start + n)
                for p, f, b, n in zip(part, level.step, box, found.values.shape, strict=True)
            )
            state.values[place] = found.values
            if found.counts is not None and state.counts is None:
                finest = self.tree.levels[0].shape
                counts = level.counts(finest, [b.start for b in box], [b.stop for b in box])
                state.counts = math.prod(np.ix_(*counts), start=np.ones((), "f8"))
            if state.counts is not None and found.counts is not None:
                state.counts[place] = found.counts
        return state

    def _reduced(self, number: int, state: State) -> State | None:
        if number == self.tree.top:
            return None
        above = self.tree.levels[number + 1]
        return self.reduction.reduce(state, above.step, math.prod(above.factors))


class Stopped(Exception):  # noqa: N818  # no error: the reason is another's
    """Somebody else failed, or nobody waits for it any more."""


_Later = Callable[[], "State | None"]


class _Threads:
    """Threads of this process: they make branches, a few more than they are; we make the rest."""

    def __init__(
        self,
        maker: Maker,
        pool: ThreadPoolExecutor,
        most: int,
        stopped: threading.Event,
        show: Callable[[], None],
    ) -> None:
        self._maker, self._pool, self._most = maker, pool, most
        self._stopped, self._show = stopped, show
        self._running: set[Future[State | None]] = set()
        self.error: BaseException | None = None

    def branch(self, number: int, box: Box) -> _Later:
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

    def _make(self, number: int, box: Box) -> State | None:
        """Make a branch in a thread; the first error stops all others."""
        try:
            return self._maker.make(number, box)
        except BaseException as error:
            if not self._stopped.is_set():
                self.error = error
                self._stopped.set()
            raise

    def joined(self, number: int, box: Box, parts: Sequence[tuple[Box, _Later]]) -> _Later:
        return lambda: self._maker.joined(number, box, ((part, made()) for part, made in parts))

    def finish(self, made: Sequence[_Later]) -> None:
        for each in made:
            each()
