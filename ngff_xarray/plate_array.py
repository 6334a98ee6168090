"""A plate as one array: its wells and fields are found and read when their pixels are asked for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray import describe, groups, image, lazy, store, well_tables
from ngff_xarray.errors import SelectionError, StoreNotFoundError, UnsupportedError
from ngff_xarray.model import Well
from ngff_xarray.plate_fields import Form, PlateLevel, PlateWells, Spot, all_of, widened
from ngff_xarray.progress import Bar
from ngff_xarray.progress import progress as progress_bar
from ngff_xarray.spec.report import shown
from ngff_xarray.spec.values import is_integer, is_relative
from ngff_xarray.storage import concurrency_of
from ngff_xarray.wells import AT_A_TIME, at_a_time

if TYPE_CHECKING:
    import pandas as pd

MAX_FIELDS = 2**16
"""Of a well, in what a plate's document says of their number."""
MAX_TASKS = 2**18
"""Of the graph that dask gets: of more it takes minutes and gigabytes."""

Names = Iterable[str]
_ABSENT = "the field is not there"


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
    progress: bool | None = None,
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
        the first field's array (0 if it has none), ``"raise"`` an error when it is read.
        `missing_fields` lists them.
    chunks
        As for `xarray.open_dataset`: ``{}`` makes dask arrays with a task a stored chunk of a
        field, ``{"z": -1}`` a task for all of z. By default there is no dask.
    progress
        Whether to show a bar where all fields are looked at; by default after a second, in a
        notebook or a terminal.

    Returns
    -------
    xarray.DataArray
        Called ``image`` or ``labels``. Space and time have the coordinates of the first field:
        where fields lie in their wells is not in them. Columns that were joined to the plate are
        coordinates along the wells.

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
    for name, value, choices in (("by", by, _LAYOUTS), ("missing", missing, ("fill", "raise"))):
        if value not in choices:
            raise SelectionError(f"{name}: expected one of {list(choices)}, found {shown(value)}")
    chosen = _chosen(tree, wells)
    wanted = _numbers(fields)
    plate = _plate(tree, chosen, labels)
    first = plate.first(wanted, level, _stated_count(tree))
    known = max(_stated_count(tree), len(first.well.paths))
    numbers = tuple(range(known)) if wanted is None else wanted
    layout = _LAYOUTS[by](tree, chosen)
    found = PlateLevel(plate, first, Form.of(first))
    if not uniform:
        with progress_bar("looking at all fields", "groups", progress) as bar:
            found.form = widened(found, numbers, bar)
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
    progress: bool | None = None,
) -> pd.DataFrame:
    """Return the fields that a plate lists and its store does not hold.

    The groups of all wells and fields that are asked for are read now, many at a time.

    Parameters
    ----------
    tree
        The plate.
    wells, fields, labels, progress
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

    async def find(bar: Bar) -> list[tuple[str, int, str]]:
        places = await plate.wells(range(len(chosen)), bar)
        count = next((len(place.paths) for place in places.values() if place is not None), 0)
        numbers = range(max(_stated_count(tree), count)) if wanted is None else wanted
        spots = [(well, number) for well in places for number in numbers]
        there = [spot for spot in spots if plate.lack(places[spot[0]], spot) is None]
        said = await all_of(there, partial(plate.group, places), bar=bar)
        found = dict(zip(there, said, strict=True))
        return [
            (plate.paths[spot[0]], spot[1], plate.lack(places[spot[0]], spot) or _ABSENT)
            for spot in spots
            if found.get(spot) is None
        ]

    with progress_bar("looking for all fields", "groups", progress) as bar:
        found = store.run(find(bar), bar)
    return pd.DataFrame(found, columns=["well", "field", "reason"])


def _plate(tree: xr.DataTree, chosen: Sequence[Well], labels: str | None) -> PlateWells:
    source, group = groups.place(tree)
    if labels is not None and not is_relative(labels):
        raise SelectionError(f"labels: expected the name of a label image, found {shown(labels)}")
    below = "" if labels is None else f"labels/{labels.strip('/')}"
    return PlateWells(source, group, image.version(tree), tuple(w.path for w in chosen), below)


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
    table = _joined(tree, names["well"])
    coords |= {name: xr.Variable("well", values) for name, values in table.items()}
    return _Layout(np.arange(len(wells)), ("well",), coords)


def _joined(tree: xr.DataTree, paths: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the columns that were joined to a plate, with a value for each of these wells."""
    table = well_tables.joined(tree).reindex(list(paths))
    return {str(name): _values(table[name]) for name in table.columns}


def _values(column: pd.Series[Any]) -> NDArray[Any]:
    """Return a column as an array: of numbers, of text, or of objects where text is missing."""
    if column.dtype.kind in "iufb":
        return column.to_numpy()
    is_missing = column.isna().to_numpy()
    values = np.where(is_missing, np.nan, column.to_numpy(dtype=object))
    is_text = all(isinstance(value, str) for value in values)
    return values.astype(np.str_) if is_text else values


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
    for name, values in _joined(tree, paths.ravel().tolist()).items():
        coords[name] = xr.Variable(("row", "column"), values.reshape(grid.shape))
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
        self, fields: PlateLevel, grid: NDArray[np.int64], numbers: tuple[int, ...], strict: bool
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
        targets: dict[Spot, list[NDArray[Any]]] = {}
        for at, well in np.ndenumerate(wells):
            for i, number in enumerate(numbers):
                if well >= 0:
                    targets.setdefault((int(well), number), []).append(result[(*at, i, ...)])
        if result.size:
            store.run(self._fill({spot: first for spot, (first, *_) in targets.items()}, inner))
        for first, *again in targets.values():
            for other in again:
                other[...] = first
        before = [0 if _is_number(k) else slice(None) for k in key[: self.grid.ndim + 1]]
        return np.asarray(result[tuple(before)])

    async def _fill(self, targets: Mapping[Spot, NDArray[Any]], inner: tuple[Any, ...]) -> None:
        """Read the fields into their places; those that are not there stay as they are."""
        fields, plate = self.fields, self.fields.plate
        wells = await fields.wells(list(dict.fromkeys(well for well, _ in targets)))
        # each asks for a group and an array
        found = await all_of(list(targets), partial(fields.checked, wells), AT_A_TIME // 2)
        there: list[tuple[zarr.Array[Any], NDArray[Any]]] = []
        for (spot, target), level in zip(targets.items(), found, strict=True):
            if level is not None:
                there.append((level.array, target))
            elif self.strict:
                well = wells[spot[0]]
                reason = plate.lack(well, spot) or _ABSENT
                where = f"{plate.source.url}: {plate.name(spot, well)}"
                raise StoreNotFoundError(f"{where}: {reason}")
        with concurrency_of(plate.source.store):
            at_once = _reads_at_once(fields.form, inner)
            await all_of(there, partial(_read_into, key=inner), at_once)


async def _read_into(pair: tuple[zarr.Array[Any], NDArray[Any]], key: tuple[Any, ...]) -> None:
    """Read what an array has of a selection to the start of the axes of another."""
    array, target = pair
    cut = [_cut(k, size) for k, size in zip(key, array.shape, strict=True)]
    if all(count for _, count in cut):
        part = [slice(0, c) for k, (_, c) in zip(key, cut, strict=True) if not _is_number(k)]
        place: tuple[Any, ...] = (*part, ...)
        target[place] = await lazy.fetch(array, tuple(k for k, _ in cut))


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


def _reads_at_once(form: Form, key: tuple[Any, ...]) -> int:
    """Return how many fields to read at a time: together as many chunks as stores answer."""
    dims = tuple(axis.name for axis in form.one.image.multiscale.axes)
    chunks = [int(np.max(size)) for size in lazy.encoding(form.one.array, dims)["chunks"]]
    indices = [_indices(k, size) for k, size in zip(key, form.shape, strict=True)]
    touched = math.prod(
        len(np.unique(np.asarray(found) // max(chunk, 1)))
        for found, chunk in zip(indices, chunks, strict=True)
    )
    under_way = max(1, min(touched, zarr.config.get("async.concurrency") or touched))
    pixels = max(math.prod(map(len, indices)), math.prod(chunks) * under_way)
    return max(1, min(AT_A_TIME // under_way, at_a_time(pixels * form.dtype.itemsize)))


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
    # as xarray's own opening does it: what is read is kept, and may be changed; its adapters are
    # not annotated, or too narrowly for one another
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
    sizes = normalize_chunks(  # type: ignore[no-untyped-call]  # dask is not annotated
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
