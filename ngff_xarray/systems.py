"""The graph of coordinate systems: the path from one to another, as one transformation."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ngff_xarray.errors import NgffError, TransformationError
from ngff_xarray.model import CoordinateSystem
from ngff_xarray.text import printable
from ngff_xarray.transforms import Identity, Transformation, compose, simplify

_SHOWN = 12  # names in an error
_REASONS = 4  # and why links could not be gone
_WAYS = 8  # that are tried around links that cannot be read


@dataclass(frozen=True, slots=True)
class Link:
    """A transformation that leads from one coordinate system to another.

    Parameters
    ----------
    source, target
        The names of the systems.
    transformation
        It, or a function that reads it: what is kept in arrays is read when a path goes there.
    """

    source: str
    target: str
    transformation: Transformation | Callable[[], Transformation]

    def read(self) -> Transformation:
        """Return the transformation."""
        found = self.transformation
        return found() if callable(found) else found


@dataclass(frozen=True, slots=True)
class _Step:
    """A link, and the direction that it is gone."""

    link: Link
    backward: bool

    @property
    def end(self) -> str:
        return self.link.source if self.backward else self.link.target

    def read(self) -> Transformation:
        found = self.link.read()
        return found.inverse() if self.backward else found


class _UnreadableError(TransformationError):
    """A link whose transformation is not there or makes no sense."""

    def __init__(self, message: str, link: Link) -> None:
        super().__init__(message)
        self.link = link


def _read(step: _Step) -> Transformation:
    try:
        return step.read()
    except TransformationError as error:
        raise _UnreadableError(str(error), step.link) from error


@dataclass(frozen=True)
class Graph:
    """Coordinate systems and what leads from one to another.

    Parameters
    ----------
    systems
        The systems by name; None where only a link tells of one.
    links
        What leads from one to another. They may be gone backwards where they have an inverse.

    Examples
    --------
    >>> from ngff_xarray.transforms import Scale, Translation
    >>> links = Link("tile", "world", Translation((5.0,))), Link("half", "tile", Scale((2.0,)))
    >>> graph = Graph({"tile": None, "world": None, "half": None}, links)
    >>> graph.path("half", "world").apply([1.0]), graph.path("world", "tile").apply([5.0])
    (array([7.]), array([0.]))
    """

    systems: Mapping[str, CoordinateSystem | None]
    links: tuple[Link, ...]

    def path(self, from_: str, to: str) -> Transformation:
        """Return what leads from one system to another, over the fewest links.

        Of as many links, those count less that are gone backwards. Where one cannot be read, such
        as one whose array is missing, another way is taken if there is one.

        Parameters
        ----------
        from_, to
            The names of the systems.

        Raises
        ------
        TransformationError
            If there is no such system, or nothing leads there.
        """
        for name in (from_, to):
            if name not in self.systems:
                known = _named(self.systems) or "none"
                raise TransformationError(
                    f"there is no coordinate system {name!r}; there are {known}"
                )
        steps = self._route(from_, to)
        try:
            return self._along(steps, from_)
        except _UnreadableError as error:
            around = self._around(error, from_, to)
            if around is None:
                raise TransformationError(f"from {from_!r} to {to!r}: {error}") from error
            return around
        except TransformationError as error:
            raise TransformationError(f"from {from_!r} to {to!r}: {error}") from error

    def _along(self, steps: Sequence[_Step], from_: str) -> Transformation:
        """Return what steps from a system come to."""
        system = self.systems[from_]
        whole = compose([_read(step) for step in steps]) if steps else Identity()
        return whole if system is None else simplify(whole, len(system.axes))

    def _around(self, error: _UnreadableError, from_: str, to: str) -> Transformation | None:
        """Return what leads there without links that cannot be read, None where nothing does."""
        graph = self
        for _ in range(_WAYS):
            graph = Graph(self.systems, tuple(k for k in graph.links if k is not error.link))
            try:
                return graph._along(graph._route(from_, to), from_)
            except _UnreadableError as another:
                error = another
            except TransformationError:
                return None
        return None

    def _route(self, from_: str, to: str) -> list[_Step]:
        blocked: list[str] = []
        done: dict[str, _Step | None] = {}
        # links, links gone backwards, and a number, for systems and steps have no order
        waiting: list[tuple[int, int, int, str, _Step | None]] = [(0, 0, 0, from_, None)]
        number = 0
        while waiting:
            links, backwards, _, name, by = heapq.heappop(waiting)
            if name in done:
                continue
            done[name] = by
            if name == to:
                return _steps_to(to, done)
            for step in self._steps.get(name, ()):
                if step.end not in done and _is_open(step, blocked):
                    number += 1
                    cost = (links + 1, backwards + step.backward, number)
                    heapq.heappush(waiting, (*cost, step.end, step))
        raise TransformationError(self._nothing_leads(from_, to, blocked))

    @cached_property
    def _steps(self) -> dict[str, list[_Step]]:
        """The steps that leave each system."""
        found: dict[str, list[_Step]] = {}
        for link in self.links:
            found.setdefault(link.source, []).append(_Step(link, backward=False))
            found.setdefault(link.target, []).append(_Step(link, backward=True))
        return found

    def _nothing_leads(self, from_: str, to: str, blocked: list[str]) -> str:
        others = {name: self._connected(name) for name in (from_, to)}
        ends = [
            f"{name!r} is connected to {_named(some) or 'no other'}"
            for name, some in others.items()
        ]
        # links that cannot be gone are the reason only where they would lead there
        reasons = list(dict.fromkeys(blocked)) if to in others[from_] else []
        why = f": {_listed(reasons, '; ', _REASONS)}" if reasons else ""
        return f"nothing leads from {from_!r} to {to!r}{why} ({'; '.join(ends)})"

    def _connected(self, name: str) -> list[str]:
        """Return the other systems that links join to one, whatever their direction."""
        found, left = {name}, [name]
        while left:
            ends = {step.end for step in self._steps.get(left.pop(), ())} - found
            found |= ends
            left += ends
        return sorted(found - {name})


def _is_open(step: _Step, blocked: list[str]) -> bool:
    """Tell whether a step can be gone; note why not."""
    if not step.backward:
        return True
    link = step.link
    named = f"the link from {link.source!r} to {link.target!r}"
    try:
        found = link.read()
    except NgffError as error:
        blocked.append(f"{named} cannot be read: {error}")
        return False
    try:
        found.inverse()
    except TransformationError as error:
        blocked.append(f"{named} has no inverse: {error}")
        return False
    return True


def _steps_to(to: str, done: Mapping[str, _Step | None]) -> list[_Step]:
    steps = list(_backwards(to, done))
    return steps[::-1]


def _backwards(name: str, done: Mapping[str, _Step | None]) -> Iterator[_Step]:
    while (step := done[name]) is not None:
        yield step
        name = step.link.target if step.backward else step.link.source


def _named(names: Iterable[str]) -> str:
    return _listed([printable(repr(name)) for name in names], ", ", _SHOWN)


def _listed(texts: Sequence[str], separator: str, most: int) -> str:
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return separator.join(texts[:most]) + more
