"""The level of every field of a plate: found when it is asked for, and held against the first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import zarr

from ngff_xarray import image, ops, read, store, transforms
from ngff_xarray.errors import (
    Issue,
    MetadataError,
    SelectionError,
    StoreNotFoundError,
    UnitError,
)
from ngff_xarray.model import Image, Level
from ngff_xarray.once import Once
from ngff_xarray.progress import Bar
from ngff_xarray.read import FieldPlace, OneLevel, WellPlace
from ngff_xarray.spec import omero
from ngff_xarray.spec.report import shown
from ngff_xarray.store import Group, Source
from ngff_xarray.wells import AT_A_TIME, each, more_and_more

Spot = tuple[int, int]  # the place of a well among those that are wanted, and of a field in it
Item = TypeVar("Item")
Result = TypeVar("Result")


async def all_of(
    items: Sequence[Item],
    work: Callable[[Item], Awaitable[Result]],
    at_once: int = AT_A_TIME,
    bar: Bar | None = None,
) -> list[Result]:
    """Return what came of each of some items; after one that fails no other is begun."""
    bar = bar or Bar()
    bar.more(len(items))
    gate = asyncio.Semaphore(at_once)
    problems: list[Exception] = []

    async def one(item: Item) -> Result | None:
        async with gate:
            if problems:
                return None
            try:
                return await work(item)
            except Exception as error:  # whatever a store or a codec raises
                problems.append(error)
                return None
            finally:
                bar.did()

    found = await asyncio.gather(*map(one, items))
    if problems:
        raise problems[0]
    return found  # type: ignore[return-value]  # None comes with a problem


@dataclass(frozen=True)
class PlateWells:
    """Finds the wells of a plate and what is in them.

    ``paths`` are the wells that are wanted, ``below`` the path of the image in a field.
    """

    source: Source
    place: Group
    version: str | None
    paths: tuple[str, ...]
    below: str

    async def well(self, number: int) -> WellPlace | None:
        """Return where a well is, or None if it is not there."""
        path = self.paths[number]
        return await read.find_well(self.source, self.place, path, version=self.version)

    async def wells(self, numbers: Sequence[int], bar: Bar) -> dict[int, WellPlace | None]:
        """Return where several are, by their numbers; a bar counts them."""
        return dict(zip(numbers, await all_of(numbers, self.well, bar=bar), strict=True))

    def lack(self, well: WellPlace | None, spot: Spot) -> str | None:
        """Return why a well has no such field, as far as the well's group says; else None."""
        if well is None:
            return "the well is not there"
        count = len(well.paths)
        return None if spot[1] < count else f"the well has {count} field{'s' * (count != 1)}"

    def path(self, place: FieldPlace) -> str:
        """Return the path of the image of a field, below its well."""
        return f"{place.path}/{self.below}".rstrip("/")

    def name(self, spot: Spot, well: WellPlace | None = None) -> str:
        """Return the path of a field below the plate, or its number where the well says none."""
        if well is None or spot[1] >= len(well.paths):
            return f"{self.paths[spot[0]]}, field {spot[1]}"
        return f"{self.paths[spot[0]]}/{self.path(well.field(spot[1]))}"

    async def group(self, wells: Mapping[int, WellPlace | None], spot: Spot) -> Group | None:
        """Return what the image of a field says that its well lists, or None if it is not there."""
        well = wells[spot[0]]
        if well is None or self.lack(well, spot):
            return None
        return await store.fetch_child_group(
            well.source, well.group, self.path(well.field(spot[1]))
        )

    def first(self, numbers: Sequence[int] | None, level: object, stated: int) -> First:
        """Return the first field that can be opened.

        Parameters
        ----------
        numbers
            Which fields of a well are wanted; all if None.
        level
            A number or a pixel size.
        stated
            How many fields the plate says that a well has at most.

        Raises
        ------
        SelectionError
            If there is no such field, by what the plate says and the first well that is there;
            or no such level.
        StoreNotFoundError
            If there is none.
        NgffError
            The first of what went wrong, if none can be opened.
        """
        problem: Exception | None = None
        gate = asyncio.Semaphore(AT_A_TIME)
        for some in more_and_more(range(len(self.paths))):
            wells = dict(zip(some, store.run(each(some, self.well, gate)), strict=True))
            for number, well in wells.items():
                if isinstance(well, Exception):
                    problem = problem or well
                    continue
                known = max(stated, 0 if well is None else len(well.paths))
                if well is not None and numbers and max(numbers) >= known:
                    has = f"the plate's wells have {known} fields"
                    raise SelectionError(f"{has}; there is no field {max(numbers)}")
                try:
                    found = self._first_of(number, well, numbers, level)
                except (SelectionError, UnitError):  # of what is asked for
                    raise
                except Exception as error:  # whatever a store raises: the next one may be fine
                    problem = problem or error
                    continue
                if found is not None:
                    return found
        if problem is not None:
            raise problem
        what = "fields" if not self.below else f"fields with {self.below!r}"
        raise StoreNotFoundError(
            f"{self.source.url}: none of the wells' {what} is in the store: "
            "plate.ngff.missing_fields() lists them"
        )

    def _first_of(
        self, number: int, well: WellPlace | None, numbers: Sequence[int] | None, level: object
    ) -> First | None:
        count = 0 if well is None else len(well.paths)
        for field in range(count) if numbers is None else numbers:
            spot = (number, field)
            group = store.run(self.group({number: well}, spot))
            if well is not None and group is not None:
                place = well.source.child(self.path(well.field(field)))
                which = _level_number(place, group, self.version, level)
                one = store.run(read.open_level(place, group, which, version=self.version))
                return First(self.name(spot, well), well, group, which, one)
        return None


def _level_number(place: Source, group: Group, version: str | None, level: object) -> int:
    """Return which of the levels that an image lists is meant."""
    if isinstance(level, bool):
        raise SelectionError(f"level: expected a number or a pixel size, found {level!r}")
    levels = read.listed_levels(place, group, version=version)[2]
    if isinstance(level, int | np.integer):
        if not -len(levels) <= level < len(levels):
            raise SelectionError(f"there is no level {level}; there are {len(levels)}")
        return int(level) % len(levels)
    tree = read.open_image(place, group, version=version)
    path = image.level_paths(tree)[ops.which_level(image.levels(tree), level)]
    return next(i for i, found in enumerate(levels) if found.path == path)


class First(NamedTuple):
    """The field that was opened first: its path, its well, what its group says, and the level."""

    name: str
    well: WellPlace
    group: Group
    number: int
    one: OneLevel


@dataclass(frozen=True)
class Look:
    """What images must have in common, apart from shape and dtype, to be in one array."""

    axes: tuple[tuple[str, str | None, str | None], ...]
    scale: tuple[float, ...] | None
    channels: tuple[str, ...]
    omero: Mapping[str, Any] | None

    @classmethod
    def of(cls, found: Image, level: Level) -> Look:
        """Return that of an image, at a level."""
        axes = found.multiscale.axes
        scale = None
        if level.transformation is not None:
            sizes = transforms.scale_and_translation(level.transformation, len(axes))[0]
            scale = tuple(float(size) for size in sizes)
        names = tuple(omero.by_name(found.omero))
        return cls(tuple((a.name, a.type, a.unit) for a in axes), scale, names, found.omero)

    def differences(self, other: Look) -> list[str]:
        """Return in what an image differs from this one."""
        if other.axes != self.axes:
            return [f"axes {_axes(other)}, expected {_axes(self)}"]
        found = []
        if self.scale and other.scale and not np.allclose(self.scale, other.scale, 1e-6, 0):
            found.append(f"pixel size {other.scale}, expected {self.scale}")
        shared = min(len(self.channels), len(other.channels))
        if self.channels[:shared] != other.channels[:shared]:
            names, expected = shown(list(other.channels)), shown(list(self.channels))
            found.append(f"channels {names}, expected {expected}")
        return found


def _axes(look: Look) -> str:
    return ", ".join(f"{name} [{unit}]" if unit else name for name, _, unit in look.axes)


@dataclass(frozen=True)
class Form:
    """What the array holds of every field: the image that describes it, its shape and dtype.

    ``exact`` says whether a field must have that shape and dtype, or may be smaller.
    """

    one: OneLevel
    look: Look
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    exact: bool = True

    @classmethod
    def of(cls, first: First) -> Form:
        """Return that of a field which all others are to be like."""
        array, look = first.one.array, Look.of(first.one.image, first.one.level)
        return cls(first.one, look, array.shape, _native(array.dtype))

    @property
    def fill(self) -> Any:
        """What stands where there is no field."""
        stored = self.one.array.fill_value
        return np.zeros((), self.dtype)[()] if stored is None else stored

    def differences(self, found: Found) -> list[str]:
        """Return why a field cannot be in the array."""
        differing = self.look.differences(found.look)
        shape, dtype = found.array.shape, _native(found.array.dtype)
        fits = len(shape) == len(self.shape) and all(
            size == whole if self.exact else size <= whole
            for size, whole in zip(shape, self.shape, strict=True)
        )
        if not fits:
            differing.append(f"shape {shape}, expected {self.shape}")
        if dtype != self.dtype and (self.exact or not _holds(self.dtype, dtype)):
            differing.append(f"dtype {dtype}, expected {self.dtype}")
        return differing


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("=")


def _holds(dtype: np.dtype[Any], other: np.dtype[Any]) -> bool:
    return dtype.kind == other.kind and dtype.itemsize >= other.itemsize


class Found(NamedTuple):
    """The level of a field, and what its image says."""

    array: zarr.Array[Any]
    look: Look


class PlateLevel:
    """The level of every field of a plate; what was found is kept, but not when it is sent away.

    It is used on zarr's event loop.
    """

    def __init__(self, plate: PlateWells, first: First, form: Form) -> None:
        self.plate, self.first, self.form = plate, first, form
        self._said = _said(first.group)
        self._look = Look.of(first.one.image, first.one.level)
        self._parsed: store.ParsedArrays = {}
        self._wells: Once[int, WellPlace | None] = Once()
        self._found: Once[Spot, Found | None] = Once()

    def __reduce__(self) -> Any:
        return PlateLevel, (self.plate, self.first, self.form)

    async def wells(
        self, numbers: Sequence[int], bar: Bar | None = None
    ) -> dict[int, WellPlace | None]:
        """Return where wells are, by their numbers; a bar counts them."""

        async def find(number: int) -> WellPlace | None:
            return await self._wells.get(number, partial(self.plate.well, number))

        return dict(zip(numbers, await all_of(numbers, find, bar=bar), strict=True))

    async def find(self, wells: Mapping[int, WellPlace | None], spot: Spot) -> Found | None:
        """Return the level of a field, or None if that is not there."""
        return await self._found.get(spot, partial(self._find, wells, spot))

    async def _find(self, wells: Mapping[int, WellPlace | None], spot: Spot) -> Found | None:
        well = wells[spot[0]]
        if well is None or self.plate.lack(well, spot):
            return None
        below = self.plate.path(well.field(spot[1]))
        path = self.first.one.level.path
        group, document = await asyncio.gather(
            self.plate.group(wells, spot),
            store.fetch_array(well.source, well.group, f"{below}/{path}"),
        )
        if group is None:
            return None
        look = self._look
        if _said(group) != self._said:
            place = well.source.child(below)
            _, described, levels = read.listed_levels(place, group, version=self.plate.version)
            if self.first.number >= len(levels):
                text = f"has {len(levels)} levels; there is no level {self.first.number}"
                raise _differs(self.plate.source, {self.plate.name(spot, well): text})
            level = levels[self.first.number]
            look = Look.of(described, level)
            if level.path != path:
                path = level.path
                document = await store.fetch_array(well.source, well.group, f"{below}/{path}")
        if document is None:
            where = f"{self.plate.source.url}: {self.plate.name(spot, well)}"
            raise StoreNotFoundError(f"{where}: there is no array at {shown(path)}")
        return Found(store.open_array(well.source, f"{below}/{path}", document, self._parsed), look)

    async def checked(self, wells: Mapping[int, WellPlace | None], spot: Spot) -> Found | None:
        """Return the level of a field that is as the others are, or None if it is not there.

        Raises
        ------
        MetadataError
            If it is not.
        """
        found = await self.find(wells, spot)
        differing = [] if found is None else self.form.differences(found)
        if found is not None and differing:
            mends = self.form.exact and not self.form.look.differences(found.look)
            text = _than(differing, self.first.name, mends=mends)
            raise _differs(self.plate.source, {self.plate.name(spot, wells[spot[0]]): text})
        return found


def _said(group: Group) -> Any:
    """Return what is the same for images with the same axes, levels and channels."""
    ome = group.attributes.get("ome", group.attributes)
    if not isinstance(ome, dict):
        return ome
    entries, drawn = ome.get("multiscales"), ome.get("omero")
    channels = drawn.get("channels") if isinstance(drawn, dict) else None
    return (
        ome.get("version"),
        [_without(entry, "name", "metadata") for entry in entries]
        if isinstance(entries, list)
        else entries,
        [_without(entry, "window", "color", "active") for entry in channels]
        if isinstance(channels, list)
        else channels,
    )


def _without(entry: Any, *keys: str) -> Any:
    return {k: v for k, v in entry.items() if k not in keys} if isinstance(entry, dict) else entry


def widened(fields: PlateLevel, numbers: Sequence[int], bar: Bar) -> Form:
    """Return the form that has room for every field, from the metadata of all; a bar counts them.

    Raises
    ------
    MetadataError
        With every field that does not fit the first, or cannot be read.
    """
    plate, form = fields.plate, fields.form

    async def find() -> list[tuple[str, Found | Exception | None]]:
        wells = await fields.wells(range(len(plate.paths)), bar)
        spots = [(well, number) for well in wells for number in numbers]
        gate = asyncio.Semaphore(AT_A_TIME // 2)
        found = await each(spots, partial(fields.find, wells), gate, bar)
        names = [plate.name(spot, wells[spot[0]]) for spot in spots]
        return list(zip(names, found, strict=True))

    looked = store.run(find(), bar)
    problems: dict[str, str] = {}
    there: list[Found] = []
    for name, found in looked:
        if isinstance(found, Exception):
            problems[name] = str(found)
        if not isinstance(found, Found):
            continue
        there.append(found)
        differing = form.look.differences(found.look)
        if found.array.ndim != len(form.shape):
            differing.append(f"shape {found.array.shape}, expected {form.shape}")
        if found.array.dtype.kind != form.dtype.kind:
            differing.append(f"dtype {found.array.dtype}, expected {form.dtype}")
        if differing:
            problems[name] = _than(differing, fields.first.name, mends=False)
    if problems:
        raise _differs(plate.source, problems)
    shape = tuple(int(n) for n in np.max([found.array.shape for found in there], axis=0))
    dtypes = [_native(found.array.dtype) for found in there]
    look = max((found.look for found in there), key=lambda look: len(look.channels))
    one = replace(form.one, image=replace(form.one.image, omero=look.omero))
    return Form(one, look, shape, max(dtypes, key=lambda dtype: dtype.itemsize), exact=False)


def _differs(source: Source, problems: Mapping[str, str]) -> MetadataError:
    """Return the error that says what is wrong with fields, by their names."""
    return MetadataError(
        source.url, [Issue(name, text, "error") for name, text in problems.items()]
    )


def _than(differing: Sequence[str], name: str, *, mends: bool) -> str:
    hint = " (uniform=False makes room for it)" if mends else ""
    return f"has {'; '.join(differing)} as in {name}{hint}"
