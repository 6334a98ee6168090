"""A plate as one array: its wells and fields are found and read when their pixels are asked for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray import describe, groups, image, lazy, ops, read, store, transforms
from ngff_xarray.errors import (
    Issue,
    MetadataError,
    SelectionError,
    StoreNotFoundError,
    UnsupportedError,
)
from ngff_xarray.model import Image, Level, Well
from ngff_xarray.read import FieldPlace, OneLevel, WellPlace
from ngff_xarray.spec import omero
from ngff_xarray.spec.report import shown
from ngff_xarray.spec.values import is_integer
from ngff_xarray.store import Group, Source
from ngff_xarray.wells import AT_A_TIME, Once, at_a_time, each, more_and_more

if TYPE_CHECKING:
    import pandas as pd

MAX_FIELDS = 2**16
"""Of a well, in what a plate's document says of their number."""
MAX_TASKS = 2**18
"""Of the graph that dask gets: of more it takes minutes and gigabytes."""

Names = Iterable[str]
_ABSENT = "the field is not there"
Spot = tuple[int, int]  # the place of a well among those that are wanted, and of a field in it
Item = TypeVar("Item")
Result = TypeVar("Result")


def to_array(
    tree: xr.DataTree,
    *,
    level: object = 0,
    wells: Names | pd.DataFrame | None = None,
    fields: int | Sequence[int] | None = None,
    labels: str | None = None,
    by: Literal["well", "row"] = "well",
    uniform: bool = True,
    missing: Literal["fill", "raise"] = "fill",
    chunks: Any = None,
) -> xr.DataArray:
    """Return a level of all fields of all wells of a plate as one lazily indexed array.

    Making it reads one field (the groups of it and of its well, and one array's metadata) and
    nothing else, however large the plate is. The other wells and fields are found when their
    pixels are asked for, many at a time, and no others than those.

    Parameters
    ----------
    tree
        The plate. The pixels are read from its store, also of wells that were changed in memory.
    level
        The number of the level (0 is the finest, -1 the coarsest), or a pixel size (``"1 µm"``).
    wells
        The wells: names (``"B/3"``, also ``"B3"``) or rows of ``plate.ngff.wells``; by default
        all that the plate lists.
    fields
        Which fields of every well, by their place in its list; one number leaves no dimension
        ``field``. By default as many as the plate states (``field_count``), or as the first well
        has where it states none or fewer: those of the others are not known before they are read.
    labels
        The name of a label image of the fields, instead of the images.
    by
        What comes before ``field`` and the image's axes: ``"well"`` a dimension of all wells, in
        the plate's order, with the coordinates ``row`` and ``column`` along it; or ``"row"`` the
        dimensions ``row`` and ``column``, which also hold places that no well is listed for.
    uniform
        Expect that all fields are alike: a field whose axes, pixel size, channels, shape or dtype
        differ raises when it is read. With False the metadata of all fields are read now; smaller
        fields are filled up at the end of their axes, of several sizes of number the largest is
        taken, and what fits no common array raises at once and is listed whole.
    missing
        What to do where a well or a field is not in the store: ``"fill"`` gives the fill value of
        the first field's array (0 if it has none), ``"raise"`` an error when it is read. `missing`
        lists them.
    chunks
        As for `xarray.open_dataset`: ``{}`` makes dask arrays with a task a stored chunk of a
        field, ``{"z": -1}`` a task for all of z. By default there is no dask.

    Returns
    -------
    xarray.DataArray
        Called ``image`` or ``labels``. Space and time have the coordinates of the first field:
        where fields lie in their wells is not in them.

    Raises
    ------
    SelectionError
        If there is no such well, field or level, or the chunks are too many.
    StoreNotFoundError
        If none of the wells is in the store.
    MetadataError
        If fields differ (see ``uniform``).

    Examples
    --------
    >>> import tempfile
    >>> from ngff_xarray import sample
    >>> places = [("A/1", 0, 0), ("A/2", 0, 1)]
    >>> wells = [{"path": p, "rowIndex": r, "columnIndex": c} for p, r, c in places]
    >>> names = {"rows": [{"name": "A"}], "columns": [{"name": "1"}, {"name": "2"}]}
    >>> plate = xr.Dataset(attrs={"ome": {"plate": {"wells": wells, **names}}})
    >>> well = xr.Dataset(attrs={"ome": {"well": {"images": [{"path": "0"}]}}})
    >>> tree = xr.DataTree.from_dict({"/": plate, "/A/1": well, "/A/2": well})
    >>> for path, *_ in places:
    ...     tree[f"{path}/0"] = xr.open_datatree(sample("cell"))
    >>> path = tempfile.mkdtemp() + "/plate.ome.zarr"
    >>> tree.ngff.to_zarr(path, version="0.5")
    >>> array = to_array(xr.open_datatree(path), level=2, fields=0)
    >>> dict(array.sizes), array["well"].values.tolist()
    ({'well': 2, 'c': 1, 'y': 165, 'x': 138}, ['A/1', 'A/2'])
    >>> array.groupby("row").mean().sizes["row"]
    1
    """
    for name, value, known in (("by", by, _LAYOUTS), ("missing", missing, ("fill", "raise"))):
        if value not in known:
            raise SelectionError(f"{name}: expected one of {list(known)}, found {shown(value)}")
    chosen = _chosen(tree, wells)
    wanted = _numbers(fields)
    plate = _plate(tree, chosen, labels)
    first = plate.first(wanted, level)
    known_count = max(_stated_count(tree), len(first.well.paths))
    if wanted and max(wanted) >= known_count:
        has = f"the plate's wells have {known_count} fields"
        raise SelectionError(f"{has}; there is no field {max(wanted)}")
    numbers = tuple(range(known_count)) if wanted is None else wanted
    layout = _LAYOUTS[by](tree, chosen)
    found = _Fields(plate, first, _Form.of(first))
    if not uniform:
        found.form = _wide(found, numbers)
    pixels = _PlateArray(found, layout.grid, numbers, missing == "raise")
    array = _labelled(tree, pixels, layout, "labels" if plate.below else "image")
    if isinstance(fields, int | np.integer):
        array = array.isel(field=0)
    return array if chunks is None else _chunked(array, chunks)


def missing_fields(
    tree: xr.DataTree,
    *,
    wells: Names | pd.DataFrame | None = None,
    fields: int | Sequence[int] | None = None,
    labels: str | None = None,
) -> pd.DataFrame:
    """Return the fields that a plate lists and its store does not hold.

    The groups of all wells and fields that are asked for are read now, many at a time.

    Parameters
    ----------
    tree
        The plate.
    wells, fields, labels
        As for `to_array`.

    Returns
    -------
    pandas.DataFrame
        A row for each field that `to_array` fills: its ``well``, its number ``field``, and the
        ``reason`` why.
    """
    import pandas as pd

    chosen, wanted = _chosen(tree, wells), _numbers(fields)
    plate = _plate(tree, chosen, labels)

    async def find() -> list[tuple[str, int, str]]:
        places = await plate.wells(range(len(chosen)))
        count = next((len(place.paths) for place in places.values() if place is not None), 0)
        numbers = range(max(_stated_count(tree), count)) if wanted is None else wanted
        spots = [(well, number) for well in places for number in numbers]
        there = [spot for spot in spots if plate.lack(places[spot[0]], spot) is None]
        found = dict(zip(there, await _all(there, partial(plate.group, places)), strict=True))
        return [
            (plate.paths[spot[0]], spot[1], plate.lack(places[spot[0]], spot) or _ABSENT)
            for spot in spots
            if found.get(spot) is None
        ]

    return pd.DataFrame(store.run(find()), columns=["well", "field", "reason"])


def _plate(tree: xr.DataTree, chosen: Sequence[Well], labels: str | None) -> _Plate:
    source, group = groups.place(tree)
    below = "" if labels is None else f"labels/{labels.strip('/')}"
    return _Plate(source, group, image.version(tree), tuple(w.path for w in chosen), below)


def _chosen(tree: xr.DataTree, wells: Names | pd.DataFrame | None) -> list[Well]:
    """Return the wells that are wanted."""
    names: Any = wells
    if isinstance(wells, str):
        names = [wells]
    elif hasattr(wells, "columns"):  # rows of `plate.ngff.wells`
        names = names["path"]
    known = {well.path: well for well in groups.plate(tree).wells}
    found = [known[path] for path in groups.well_paths(tree, names)]
    if not found:
        raise SelectionError("no well is chosen: an array needs one at least")
    return found


def _numbers(fields: int | Sequence[int] | None) -> tuple[int, ...] | None:
    """Return the numbers of the fields that are wanted, None for all."""
    if fields is None:
        return None
    given = [fields] if isinstance(fields, int | np.integer) else list(fields)
    numbers = [int(n) for n in given if isinstance(n, int | np.integer) and n >= 0]
    if not given or len(numbers) < len(given) or len(set(numbers)) < len(numbers):
        raise SelectionError(
            f"fields: expected a number from 0 on, or several different ones, found {shown(fields)}"
        )
    return tuple(numbers)


def _stated_count(tree: xr.DataTree) -> int:
    """Return how many fields the plate says that wells have at most, 0 if nothing usable."""
    said = tree.attrs["ome"]["plate"].get("field_count")
    return said if is_integer(said, 1) and said <= MAX_FIELDS else 0


async def _all(
    items: Sequence[Item], work: Callable[[Item], Awaitable[Result]], at_once: int = AT_A_TIME
) -> list[Result]:
    """Return what came of each of some items; after one that fails no other is begun."""
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

    found = await asyncio.gather(*map(one, items))
    if problems:
        raise problems[0]
    return found  # type: ignore[return-value]


@dataclass(frozen=True)
class _Plate:
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

    async def wells(self, numbers: Sequence[int]) -> dict[int, WellPlace | None]:
        """Return where several are, by their numbers."""
        return dict(zip(numbers, await _all(numbers, self.well), strict=True))

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

    def first(self, numbers: Sequence[int] | None, level: object) -> _First:
        """Return the first field that can be opened.

        Raises
        ------
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
                try:
                    found = self._first_of(number, well, numbers, level)
                except SelectionError:  # of what is asked for
                    raise
                except Exception as error:  # whatever a store raises: the next one may be fine
                    problem = problem or error
                    continue
                if found is not None:
                    return found
        if problem is not None:
            raise problem
        what = "fields" if not self.below else f"fields with {self.below!r}"
        raise StoreNotFoundError(f"{self.source.url}: none of the wells' {what} is in the store")

    def _first_of(
        self, number: int, well: WellPlace | None, numbers: Sequence[int] | None, level: object
    ) -> _First | None:
        count = 0 if well is None else len(well.paths)
        for field in range(count) if numbers is None else numbers:
            spot = (number, field)
            group = store.run(self.group({number: well}, spot))
            if well is not None and group is not None:
                place = well.source.child(self.path(well.field(field)))
                which = _level_number(place, group, self.version, level)
                one = store.run(read.open_level(place, group, which, version=self.version))
                return _First(self.name(spot, well), well, group, which, one)
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


class _First(NamedTuple):
    """The field that was opened first: its path, its well, what its group says, and the level."""

    name: str
    well: WellPlace
    group: Group
    number: int
    one: OneLevel


@dataclass(frozen=True)
class _Look:
    """What images must have in common, apart from shape and dtype, to be in one array."""

    axes: tuple[tuple[str, str | None, str | None], ...]
    scale: tuple[float, ...] | None
    channels: tuple[str, ...]
    omero: Mapping[str, Any] | None

    @classmethod
    def of(cls, found: Image, level: Level) -> _Look:
        """Return that of an image, at a level."""
        axes = found.multiscale.axes
        scale = None
        if level.transformation is not None:
            sizes = transforms.scale_and_translation(level.transformation, len(axes))[0]
            scale = tuple(float(size) for size in sizes)
        names = tuple(omero.by_name(found.omero))
        return cls(tuple((a.name, a.type, a.unit) for a in axes), scale, names, found.omero)

    def differences(self, other: _Look) -> list[str]:
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


def _axes(look: _Look) -> str:
    return ", ".join(f"{name} [{unit}]" if unit else name for name, _, unit in look.axes)


@dataclass(frozen=True)
class _Form:
    """What the array holds of every field: the image that describes it, its shape and dtype.

    ``exact`` says whether a field must have that shape and dtype, or may be smaller.
    """

    one: OneLevel
    look: _Look
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    exact: bool = True

    @classmethod
    def of(cls, first: _First) -> _Form:
        """Return that of a field which all others are to be like."""
        array, look = first.one.array, _Look.of(first.one.image, first.one.level)
        return cls(first.one, look, array.shape, _native(array.dtype))

    @property
    def fill(self) -> Any:
        """What stands where there is no field."""
        stored = self.one.array.fill_value
        return np.zeros((), self.dtype)[()] if stored is None else stored

    def differences(self, found: _Found) -> list[str]:
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


class _Found(NamedTuple):
    """The level of a field, and what its image says."""

    array: zarr.Array[Any]
    look: _Look


class _Fields:
    """The level of every field of a plate; what was found is kept, but not when it is sent away.

    It is used on zarr's event loop.
    """

    def __init__(self, plate: _Plate, first: _First, form: _Form) -> None:
        self.plate, self.first, self.form = plate, first, form
        self._said = _said(first.group)
        self._look = _Look.of(first.one.image, first.one.level)
        self._parsed: store.ParsedArrays = {}
        self._wells: Once[int, WellPlace] = Once()
        self._found: Once[Spot, _Found] = Once()

    def __reduce__(self) -> Any:
        return _Fields, (self.plate, self.first, self.form)

    async def wells(self, numbers: Sequence[int]) -> dict[int, WellPlace | None]:
        """Return where wells are, by their numbers."""

        async def find(number: int) -> WellPlace | None:
            return await self._wells.get(number, partial(self.plate.well, number))

        return dict(zip(numbers, await _all(numbers, find), strict=True))

    async def find(self, wells: Mapping[int, WellPlace | None], spot: Spot) -> _Found | None:
        """Return the level of a field, or None if that is not there."""
        return await self._found.get(spot, partial(self._find, wells, spot))

    async def _find(self, wells: Mapping[int, WellPlace | None], spot: Spot) -> _Found | None:
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
                raise _differs(self.plate.source, {self.plate.name(spot, well): [text]})
            level = levels[self.first.number]
            look = _Look.of(described, level)
            if level.path != path:
                path = level.path
                document = await store.fetch_array(well.source, well.group, f"{below}/{path}")
        if document is None:
            where = f"{self.plate.source.url}: {self.plate.name(spot, well)}"
            raise StoreNotFoundError(f"{where}: there is no array at {shown(path)}")
        return _Found(
            store.open_array(well.source, f"{below}/{path}", document, self._parsed), look
        )

    async def checked(self, wells: Mapping[int, WellPlace | None], spot: Spot) -> _Found | None:
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
            raise _differs(self.plate.source, {self.plate.name(spot, wells[spot[0]]): [text]})
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


def _wide(fields: _Fields, numbers: Sequence[int]) -> _Form:
    """Return the form that has room for every field, from the metadata of all.

    Raises
    ------
    MetadataError
        With every field that does not fit the first, or cannot be read.
    """
    plate, form = fields.plate, fields.form

    async def find() -> list[tuple[str, _Found | Exception | None]]:
        wells = await fields.wells(range(len(plate.paths)))
        spots = [(well, number) for well in wells for number in numbers]
        gate = asyncio.Semaphore(AT_A_TIME // 2)
        found = await each(spots, partial(fields.find, wells), gate)
        names = [plate.name(spot, wells[spot[0]]) for spot in spots]
        return list(zip(names, found, strict=True))

    looked = store.run(find())
    problems = {name: [str(found)] for name, found in looked if isinstance(found, Exception)}
    there = {name: found for name, found in looked if isinstance(found, _Found)}
    for name, found in there.items():
        differing = form.look.differences(found.look)
        if found.array.dtype.kind != form.dtype.kind:
            differing.append(f"dtype {found.array.dtype}, expected {form.dtype}")
        if differing:
            problems[name] = [_than(differing, fields.first.name, mends=False)]
    if problems:
        raise _differs(plate.source, problems)
    shape = tuple(int(n) for n in np.max([found.array.shape for found in there.values()], axis=0))
    dtypes = [_native(found.array.dtype) for found in there.values()]
    look = max((found.look for found in there.values()), key=lambda look: len(look.channels))
    one = replace(form.one, image=replace(form.one.image, omero=look.omero))
    return _Form(one, look, shape, max(dtypes, key=lambda dtype: dtype.itemsize), exact=False)


def _differs(source: Source, problems: Mapping[str, Sequence[str]]) -> MetadataError:
    """Return the error that says what is wrong with fields, by their names."""
    return MetadataError(
        source.url,
        [Issue(name, text, "error") for name, texts in problems.items() for text in texts],
    )


def _than(differing: Sequence[str], name: str, *, mends: bool) -> str:
    hint = " (uniform=False makes room for it)" if mends else ""
    return f"has {'; '.join(differing)} as in {name}{hint}"


class _Layout(NamedTuple):
    """Which well stands where before the fields, -1 for none; the dimensions and coordinates."""

    grid: NDArray[np.int64]
    dims: tuple[str, ...]
    coords: dict[str, xr.Variable]


def _names_of(dims: Any, names: Any) -> xr.Variable:
    return xr.Variable(dims, np.asarray(names, dtype=np.str_))


def _by_well(tree: xr.DataTree, wells: Sequence[Well]) -> _Layout:
    names = {
        "well": [well.path for well in wells],
        "row": [well.row for well in wells],
        "column": [well.column for well in wells],
    }
    coords = {name: _names_of("well", values) for name, values in names.items()}
    return _Layout(np.arange(len(wells)), ("well",), coords)


def _by_row(tree: xr.DataTree, wells: Sequence[Well]) -> _Layout:
    plate = groups.plate(tree)
    rows = _used(plate.rows, [well.row for well in wells])
    columns = _used(plate.columns, [well.column for well in wells])
    grid = np.full((len(rows), len(columns)), -1)
    paths = np.full(grid.shape, "", dtype=object)
    for number, well in enumerate(wells):
        at = rows[well.row], columns[well.column]
        if grid[at] >= 0:
            raise SelectionError(
                f"the wells {paths[at]!r} and {well.path!r} are in the same row and column: choose "
                "one of them (wells=…), or take by='well'"
            )
        grid[at], paths[at] = number, well.path
    coords = {
        "row": _names_of("row", list(rows)),
        "column": _names_of("column", list(columns)),
        "well": _names_of(("row", "column"), paths.tolist()),
    }
    return _Layout(grid, ("row", "column"), coords)


def _used(known: Sequence[str], found: Sequence[str]) -> dict[str, int]:
    """Return the places of the names that are found, in the plate's order."""
    used = set(found)
    names = [*(name for name in known if name in used), *found]
    return {name: i for i, name in enumerate(dict.fromkeys(names))}


_LAYOUTS: Mapping[str, Callable[[xr.DataTree, Sequence[Well]], _Layout]] = {
    "well": _by_well,
    "row": _by_row,
}


class _PlateArray(BackendArray):
    """Lets xarray index the fields of a plate lazily, as one array."""

    def __init__(
        self, fields: _Fields, grid: NDArray[np.int64], numbers: tuple[int, ...], strict: bool
    ) -> None:
        self.fields, self.grid, self.numbers, self.strict = fields, grid, numbers, strict
        self.shape = (*grid.shape, len(numbers), *fields.form.shape)
        self.dtype = fields.form.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        return await asyncio.to_thread(self.__getitem__, key)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Return the pixels at a number, a slice or numbers of each axis; steps are positive."""
        outer = [_indices(k, size) for k, size in zip(key, self.grid.shape, strict=False)]
        fields_key, inner = key[self.grid.ndim], key[self.grid.ndim + 1 :]
        numbers = [self.numbers[i] for i in _indices(fields_key, len(self.numbers))]
        wells = self.grid[np.ix_(*outer)]
        form = self.fields.form
        sizes = [
            len(_indices(k, size))
            for k, size in zip(inner, form.shape, strict=True)
            if not _is_number(k)
        ]
        result = np.full((*wells.shape, len(numbers), *sizes), form.fill, form.dtype)
        targets = {
            (int(well), number): result[(*at, i, ...)]
            for at, well in np.ndenumerate(wells)
            for i, number in enumerate(numbers)
            if well >= 0
        }
        if result.size:
            store.run(self._fill(targets, inner))
        before = [0 if _is_number(k) else slice(None) for k in key[: self.grid.ndim + 1]]
        return np.asarray(result[tuple(before)])

    async def _fill(self, targets: Mapping[Spot, NDArray[Any]], inner: tuple[Any, ...]) -> None:
        """Read the fields into their places; those that are not there stay as they are."""
        fields, plate = self.fields, self.fields.plate
        wells = await fields.wells(list(dict.fromkeys(well for well, _ in targets)))
        # each asks for a group and an array
        found = await _all(list(targets), partial(fields.checked, wells), AT_A_TIME // 2)
        there: list[tuple[zarr.Array[Any], NDArray[Any]]] = []
        for (spot, target), level in zip(targets.items(), found, strict=True):
            if level is not None:
                there.append((level.array, target))
            elif self.strict:
                well = wells[spot[0]]
                reason = plate.lack(well, spot) or _ABSENT
                where = f"{plate.source.url}: {plate.name(spot, well)}"
                raise StoreNotFoundError(f"{where}: {reason}")
        await _all(there, partial(_read_into, key=inner), _reads_at_once(fields.form.one, inner))


async def _read_into(pair: tuple[zarr.Array[Any], NDArray[Any]], key: tuple[Any, ...]) -> None:
    """Read what an array has of a selection to the start of the axes of another."""
    array, target = pair
    cut = [_cut(k, size) for k, size in zip(key, array.shape, strict=True)]
    if all(count for _, count in cut):
        part = [slice(0, c) for k, (_, c) in zip(key, cut, strict=True) if not _is_number(k)]
        target[(*part, ...)] = await lazy.fetch(array, tuple(k for k, _ in cut))


def _cut(key: Any, size: int) -> tuple[Any, int]:
    """Return what of a rising selection along an axis is below its size, and how much that is."""
    if _is_number(key):
        return int(key), int(key < size)
    if isinstance(key, slice):
        found = range(*key.indices(size))
        return slice(found.start, found.stop, found.step), len(found)
    found = key[key < size]
    return found, len(found)


def _is_number(key: object) -> bool:
    return isinstance(key, int | np.integer)


def _indices(key: Any, size: int) -> Sequence[int]:
    if _is_number(key):
        return [int(key)]
    return range(*key.indices(size)) if isinstance(key, slice) else key.tolist()


def _reads_at_once(one: OneLevel, key: tuple[Any, ...]) -> int:
    """Return how many fields to read at a time: of the chunks of all, as many as of one array."""
    dims = tuple(axis.name for axis in one.image.multiscale.axes)
    chunks = [int(np.max(size)) for size in lazy.encoding(one.array, dims)["chunks"]]
    shape = one.array.shape
    touched = read_count = 1
    for k, size, chunk in zip(key, shape, chunks, strict=True):
        indices = _indices(k, size)
        read_count *= len(indices)
        touched *= len(np.unique(np.asarray(indices) // max(chunk, 1)))
    itemsize = one.array.dtype.itemsize
    under_way = min(max(touched, 1), zarr.config.get("async.concurrency") or 1)
    nbytes = max(read_count, math.prod(chunks) * under_way) * itemsize
    return max(1, at_a_time(nbytes // under_way) // under_way)


def _labelled(tree: xr.DataTree, pixels: _PlateArray, layout: _Layout, name: str) -> xr.DataArray:
    """Return the pixels with dimensions, coordinates and what the image says."""
    form = pixels.fields.form
    one, axes = form.one, form.one.image.multiscale.axes
    before = (*layout.dims, "field")
    taken = [axis.name for axis in axes if axis.name in {*layout.coords, "field"}]
    if taken:
        raise UnsupportedError(
            f"the fields have an axis called {taken[0]!r}, as the plate's array has: open the "
            "wells with .ngff.well(path)"
        )
    dims = (*before, *(axis.name for axis in axes))
    title = tree.attrs["ome"]["plate"].get("name")
    named = replace(one.image.multiscale, name=title if isinstance(title, str) else None)
    ome = describe.ome_attrs(replace(one.image, multiscale=named))
    stored = lazy.encoding(one.array, tuple(axis.name for axis in axes))
    ones = (1,) * len(before)
    encoding = {
        "chunks": (*ones, *stored["chunks"]),
        "shards": stored["shards"] and (*ones, *stored["shards"]),
        "preferred_chunks": {**dict.fromkeys(before, 1), **stored["preferred_chunks"]},
        "fill_value": form.fill,
        "source": pixels.fields.plate.source.url,
        "ome_version": one.version,
    }
    # as xarray's own opening does it: what is read is kept, and may be changed
    lazily: Any = indexing.CopyOnWriteArray(indexing.LazilyIndexedArray(pixels))  # type: ignore[arg-type]
    data = indexing.MemoryCachedArray(lazily)  # type: ignore[no-untyped-call]
    coords = {
        **layout.coords,
        "field": xr.Variable("field", np.asarray(pixels.numbers)),
        **lazy.Coordinates().of_level(one.image, one.level, form.shape),
    }
    array = xr.DataArray(xr.Variable(dims, data, {"ome": ome}), coords=coords, name=name)
    array.encoding = encoding
    return array


def _chunked(array: xr.DataArray, chunks: Any) -> xr.DataArray:
    """Return the array in chunks of dask, by default those of the store."""
    from dask.array.core import normalize_chunks

    preferred = array.encoding["preferred_chunks"]
    given = chunks if isinstance(chunks, Mapping) else dict.fromkeys(array.dims, chunks)
    unknown = [dim for dim in given if dim not in array.dims]
    if unknown:
        raise SelectionError(f"chunks: there is no dimension {unknown[0]!r}, only {array.dims}")
    wanted = {dim: given.get(dim, preferred[dim]) for dim in array.dims}
    _check_tasks(
        [
            -(-array.sizes[dim] // size) if isinstance(size, int) and size > 0 else 1
            for dim, size in wanted.items()
        ],
        chunks,
    )
    sizes = normalize_chunks(  # type: ignore[no-untyped-call]
        tuple(wanted.values()), array.shape, dtype=array.dtype
    )
    _check_tasks([len(found) for found in sizes], chunks)
    chunked = array.variable.chunk(dict(zip(array.dims, sizes, strict=True)))
    return array.copy(data=chunked.data)  # coordinates stay as they are


def _check_tasks(counts: Sequence[int], chunks: Any) -> None:
    count = math.prod(counts)
    if count > MAX_TASKS:
        raise SelectionError(
            f"chunks={shown(chunks)} makes {count} tasks, more than {MAX_TASKS}: give larger ones "
            "({'y': -1, 'x': -1} for whole planes), or fewer wells and fields; without chunks "
            "nothing is read before it is asked for, either"
        )
