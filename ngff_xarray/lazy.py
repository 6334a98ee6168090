"""The arrays of a store as xarray has them: lazily indexed, with coordinates and encoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray import geometry
from ngff_xarray.errors import NgffError, StoreError
from ngff_xarray.model import Image, Level
from ngff_xarray.spec import omero
from ngff_xarray.storage import BulkReader, concurrency_of
from ngff_xarray.store import MAX_SHOWN, reason
from ngff_xarray.text import printable
from ngff_xarray.transforms import Transformation

_UNCHANGED = (
    indexing.MemoryCachedArray,
    indexing.CopyOnWriteArray,
    indexing.LazilyIndexedArray,
)

PARAMETERS = "parameters"  # the variable of an array that belongs to a transformation


def level_dataset(
    image: Image,
    level: Level,
    array: zarr.Array[Any],
    *,
    name: str,
    ome: dict[str, Any],
    coordinates: Coordinates,
    indexed: bool,
) -> xr.Dataset:
    """Return the Dataset of a level: one lazily indexed variable and its coordinates.

    Parameters
    ----------
    image, level
        What the metadata say of it.
    array
        Its pixels.
    name
        What to call the variable.
    ome
        What the image says apart from its geometry.
    coordinates
        Makes the coordinates, shared by all levels of the same geometry.
    indexed
        Whether to make indexes; xarray's own opening makes them afterwards.
    """
    dims = tuple(axis.name for axis in image.multiscale.axes)
    while name in dims:  # an axis of that name has its coordinate there
        name += "_"
    attrs = {key: value for key, value in array.attrs.items() if key != "_ARRAY_DIMENSIONS"}
    variable = xr.Variable(dims, lazy(array), {**attrs, "ome": ome}, encoding(array, dims))
    coords = coordinates.of_level(image, level, array.shape)
    if indexed:
        return xr.Dataset({name: variable}, coords=coords)
    return xr.Dataset({name: variable}, coords=xr.Coordinates(coords, indexes={}))


def parameter_dataset(array: zarr.Array[Any]) -> xr.Dataset:
    """Return the Dataset of an array that holds the parameters of a transformation."""
    dims = tuple(f"dim_{i}" for i in range(array.ndim))
    variable = xr.Variable(dims, lazy(array), dict(array.attrs), encoding(array, dims))
    return xr.Dataset({PARAMETERS: variable})


def lazy(array: zarr.Array[Any]) -> indexing.LazilyIndexedArray:
    """Return the array as xarray indexes it: nothing is read until pixels are asked for."""
    return indexing.LazilyIndexedArray(_ZarrArray(array))


def stored(variable: xr.Variable) -> zarr.Array[Any] | None:
    """Return the stored array that a variable reads lazily; None if it holds other pixels."""
    data: Any = variable._data
    while data is not None and not isinstance(data, _ZarrArray):
        data = getattr(data, "array", None)
    return None if data is None else data.stored


def stored_whole(variable: xr.Variable) -> zarr.Array[Any] | None:
    """Return the stored array that a variable reads lazily as it is: whole, and unchanged."""
    data: Any = variable._data
    while isinstance(data, _UNCHANGED):
        if isinstance(data, indexing.LazilyIndexedArray):
            keys = zip(data.key.tuple, data.array.shape, strict=True)
            if not all(isinstance(k, slice) and k.indices(n) == (0, n, 1) for k, n in keys):
                return None
        data = data.array
    return data.stored if isinstance(data, _ZarrArray) else None


async def fetch(
    array: zarr.Array[Any], box: tuple[int | slice | NDArray[np.integer[Any]], ...]
) -> NDArray[Any]:
    """Return the pixels at a number, a slice or numbers along each axis of a stored array."""
    stored = array.async_array
    listed = any(isinstance(part, np.ndarray) for part in box)
    get: Callable[[Any], Any] = stored.oindex.getitem if listed else stored.getitem
    with _named(array):
        return np.asarray(await get(box))


class Coordinates:
    """Makes coordinates, once for all levels and label images of the same geometry."""

    def __init__(self) -> None:
        self._made: dict[Any, xr.Variable] = {}

    def of_level(
        self, image: Image, level: Level, shape: tuple[int, ...]
    ) -> dict[str, xr.Variable]:
        """Return the coordinates of a level's dimensions, by name."""
        names = omero.names(image.omero, channel_count(image, shape))
        made = geometry.coordinates(image.multiscale.axes, shape, placement(level), names)
        return {name: self._shared(variable) for name, variable in made.items()}

    def _shared(self, variable: xr.Variable) -> xr.Variable:
        values = variable.values
        ends = (values[0], values[-1]) if values.size and values.dtype.kind == "f" else None
        if ends is None:
            return variable
        key = (variable.dims, values.size, ends, tuple(sorted(variable.attrs.items())))
        return self._made.setdefault(key, variable)


def placement(level: Level) -> Transformation:
    """Return where a level lies; every version's reader says so, or the sizes did."""
    if level.transformation is None:
        raise TypeError(f"level {level.path!r} was not placed")
    return level.transformation


def channel_count(image: Image, shape: tuple[int, ...]) -> int:
    """Return how many channels an array of the image has.

    Of several axes of channels, the one that has as many as are described counts.
    """
    axes = image.multiscale.axes
    sizes = [size for axis, size in zip(axes, shape, strict=True) if axis.type == "channel"]
    stored = (image.omero or {}).get("channels")
    described = len(stored) if isinstance(stored, list) else 0
    return described if described in sizes else (sizes[0] if sizes else 1)


def encoding(array: zarr.Array[Any], dims: tuple[str, ...]) -> dict[str, Any]:
    """Return what a later write needs to repeat the array's storage."""
    chunks = _chunk_sizes(array, "chunks", "read_chunk_sizes")
    shards = _chunk_sizes(array, "shards", "write_chunk_sizes")
    said = {
        "chunks": chunks,
        "shards": shards,
        "preferred_chunks": dict(zip(dims, shards or chunks, strict=True)),
        "compressors": array.compressors,
        "filters": array.filters,
        "fill_value": array.fill_value,
        "dtype": array.dtype,
    }
    if array.metadata.zarr_format == 3:
        said["serializer"] = array.serializer
    return said


def _chunk_sizes(array: zarr.Array[Any], regular: str, irregular: str) -> Any:
    """Return one size an axis, or the sizes along it where zarr has grids of uneven chunks."""
    try:
        return getattr(array, regular)
    except NotImplementedError:
        return getattr(array, irregular)


@contextmanager
def _named(array: zarr.Array[Any]) -> Iterator[None]:
    """Name the array whose pixels cannot be read; codecs and stores raise whatever they do."""
    try:
        with concurrency_of(array.store_path.store):
            yield
    except (NgffError, IndexError, MemoryError):
        raise
    except Exception as error:
        inner = _first_of_ours(error)
        if inner is not None:
            raise inner from error
        where = printable(array.store_path, MAX_SHOWN)
        raise StoreError(f"{where}: pixels cannot be read: {reason(error)}") from error


def _first_of_ours(error: BaseException) -> NgffError | None:
    """Return the error of a store that zarr wrapped into a group of what went wrong at once."""
    if isinstance(error, NgffError):
        return error
    inside = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return next((found for each in inside if (found := _first_of_ours(each))), None)


class _ZarrArray(BackendArray):
    """Lets xarray index a zarr array lazily."""

    def __init__(self, array: zarr.Array[Any]) -> None:
        self.stored = array
        self.shape = array.shape
        self.dtype = array.dtype
        self._bulk = BulkReader(array)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        with _named(self.stored):
            return indexing.explicit_indexing_adapter(
                key, self.shape, indexing.IndexingSupport.VECTORIZED, self._method(key)
            )

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        async_array = self.stored.async_array
        methods: dict[type, Callable[..., Any]] = {
            indexing.VectorizedIndexer: async_array.vindex.getitem,
            indexing.OuterIndexer: async_array.oindex.getitem,
        }
        with _named(self.stored):
            return await indexing.async_explicit_indexing_adapter(
                key,
                self.shape,
                indexing.IndexingSupport.VECTORIZED,
                methods.get(type(key), async_array.getitem),
            )

    def _method(self, key: indexing.ExplicitIndexer) -> Callable[[Any], Any]:
        methods: dict[type, Callable[[Any], Any]] = {
            indexing.VectorizedIndexer: self.stored.vindex.__getitem__,
            indexing.OuterIndexer: self.stored.oindex.__getitem__,
        }
        return methods.get(type(key), self._bulk.read)
