"""One field of every well of a plate: found and read many at a time, and little of each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import xarray as xr
import zarr

from ngff_xarray import groups, image, read, store
from ngff_xarray.errors import SelectionError
from ngff_xarray.once import Once
from ngff_xarray.progress import Bar
from ngff_xarray.read import FieldPlace

Item = TypeVar("Item")
Result = TypeVar("Result")

AT_A_TIME = 64
"""How many wells are asked for at a time: as many requests as a store answers together."""
MOST_BYTES = 2**27
"""Of pixels that are decoded at a time."""


def at_a_time(nbytes: int) -> int:
    """Return how many reads of so many bytes, decoded, may be under way.

    Examples
    --------
    >>> at_a_time(2**15), at_a_time(2**23), at_a_time(2**30)
    (64, 16, 2)
    """
    return max(2, min(AT_A_TIME, MOST_BYTES // max(nbytes, 1)))


async def each(
    items: Sequence[Item],
    work: Callable[[Item], Awaitable[Result]],
    gate: asyncio.Semaphore,
    bar: Bar | None = None,
) -> list[Result | Exception]:
    """Return what came of each of some items, or why nothing did.

    Parameters
    ----------
    items
        They are begun in this order.
    work
        What to do with one of them.
    gate
        Lets so many be under way, together with those of others who share it.
    bar
        Counts them.
    """
    bar = bar or Bar()
    bar.more(len(items))

    async def one(item: Item) -> Result | Exception:
        async with gate:
            try:
                return await work(item)
            except Exception as error:  # whatever a store or a codec raises: the others go on
                return error
            finally:
                bar.did()

    return await asyncio.gather(*map(one, items))


class PlateFields:
    """One field of every well of a plate; what was found is kept.

    Parameters
    ----------
    tree
        The plate.
    number
        Which field of every well.
    """

    def __init__(self, tree: xr.DataTree, number: int) -> None:
        self._tree, self._number = tree, number
        self._places: Once[str, FieldPlace | None] = Once()
        self._arrays: Once[tuple[str, str], zarr.Array[Any] | None] = Once()
        self._parsed: store.ParsedArrays = {}

    async def find(self, path: str) -> FieldPlace | None:
        """Return where the field of a well is, or None if the well is not there.

        Raises
        ------
        NgffError
            If the well cannot be read, or has no such field.
        """
        source, group = groups.place(self._tree)
        version = image.version(self._tree)
        return await self._places.get(
            path, lambda: read.find_field(source, group, path, self._number, version=version)
        )

    async def array(self, path: str, below: str) -> zarr.Array[Any] | None:
        """Return an array of a well's field, or None if the well is not there.

        Raises
        ------
        NgffError
            If it cannot be opened.
        """

        async def fetch() -> zarr.Array[Any] | None:
            place = await self.find(path)
            return None if place is None else await place.array(below, self._parsed)

        return await self._arrays.get((path, below), fetch)

    def first(self, paths: Sequence[str], *, labels: bool = False) -> tuple[str, xr.DataTree]:
        """Return the first well whose field can be opened, and that field.

        Raises
        ------
        SelectionError
            If no well is in the store.
        NgffError
            The first of what went wrong, if no field can be opened.
        """
        problem: Exception | None = None
        for some in more_and_more(paths):
            places = self.find_all([path for path in some if not self.is_opened(path)])
            for path in some:
                try:
                    found = self.open(path, places.get(path), labels=labels)
                except Exception as error:  # whatever a store raises: the next one may be fine
                    problem = problem or error
                    continue
                if found is not None:
                    return path, found
        if problem is not None:
            raise problem
        raise SelectionError("none of the plate's wells is in the store: there is nothing to draw")

    def find_all(self, paths: Sequence[str]) -> dict[str, FieldPlace | Exception | None]:
        """Return what `find` returns or raises, by well."""
        found = store.run(each(paths, self.find, asyncio.Semaphore(AT_A_TIME)))
        return dict(zip(paths, found, strict=True))

    def is_opened(self, path: str) -> bool:
        """Tell whether a well was opened with its plate."""
        node = groups.node_at(self._tree, path)
        return node is not None and groups.is_opened(node)

    def open(
        self, path: str, place: FieldPlace | Exception | None, *, labels: bool
    ) -> xr.DataTree | None:
        """Return the field of a well as a tree, or None if the well is not there."""
        if self.is_opened(path):
            return groups.field(self._tree, path, self._number)
        if isinstance(place, Exception):
            raise place
        return None if place is None else read.open_place(place, labels=labels)


def more_and_more(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield one item, then more at a time: mostly the first well is there."""
    start, count = 0, 1
    while start < len(items):
        yield items[start : start + count]
        start, count = start + count, min(8 * count, AT_A_TIME)
