"""A user's function on one block after another: what it is given, and what it may give back."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import geometry, image, pyramid, units
from ngff_xarray.analyse.blocks import Block, Blocks
from ngff_xarray.errors import BlockError
from ngff_xarray.text import printable

if TYPE_CHECKING:
    import pandas as pd

_ADVICE = (
    "expected an array of the shape of what it was given, {}, without the channels or with others, "
    "or a pandas.DataFrame"
)


@dataclass(frozen=True, slots=True)
class Result:
    """What a function gives for a block with its halo.

    Parameters
    ----------
    dims
        The axes, in the order of the image's; one that the image lacks is that of channels.
    pixels
        Along them.
    channels
        The names of the channels, where it says so.
    """

    dims: tuple[str, ...]
    pixels: NDArray[Any]
    channels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Function:
    """A function, and the image that it is called on a block at a time. Workers get it pickled.

    Parameters
    ----------
    func, kwargs
        What is called, with a DataArray and these.
    source
        The pixels of the image.
    coords
        Its coordinates.
    attrs, name
        What else it says.
    blocks
        The blocks.
    channel_dim
        The axis of its channels.
    threads
        How many call it at a time, here.
    once
        Whether it is called here for all blocks, once for each.
    """

    func: Callable[..., Any]
    kwargs: Mapping[str, Any]
    source: xr.Variable
    coords: xr.Dataset
    attrs: Mapping[Any, Any]
    name: Any
    blocks: Blocks
    channel_dim: str | None
    threads: int = 1
    once: bool = False
    here: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What this process has opened."""
    lock: Any = field(default_factory=threading.Lock, repr=False)
    """Of that."""

    @classmethod
    def of(
        cls,
        func: Callable[..., Any],
        array: xr.DataArray,
        blocks: Blocks,
        kwargs: Mapping[str, Any],
        threads: int,
    ) -> Function:
        """Return a function with its image."""
        source = array.variable if array.chunks is not None else pyramid.bare(array.variable)
        coords = array.coords.to_dataset()
        return cls(
            func,
            kwargs,
            source,
            coords,
            array.attrs,
            array.name,
            blocks,
            image.channel_dim(array),
            threads,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("here", "lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, once=False, here={}, lock=threading.Lock())

    def for_all(self) -> Function:
        """Return it as one that is called here for all blocks: what they share is read once."""
        return replace(self, once=True, here={**self.here, "read": None})

    @property
    def dims(self) -> tuple[str, ...]:
        """The axes of the image."""
        return tuple(map(str, self.source.dims))

    def given(self, block: Block) -> xr.DataArray:
        """Return a block with its halo, as the function gets it: pixels, and where they are."""
        with self.lock:
            read = self.here.get("read")
            if read is None:
                sides = self.blocks.sides() if self.once else None
                read = pyramid.reader(self.source, self.threads, sides=sides)
                self.here["read"] = read
        pixels = read(block.outer)
        here = self.coords.isel(
            dict(zip(self.dims, block.outer, strict=True)), missing_dims="ignore"
        )
        coords = {name: coordinate.variable for name, coordinate in here.coords.items()}
        if any(map(any, block.pad)):
            pixels = np.pad(pixels, block.pad, mode="symmetric")
            coords = _extended(coords, dict(zip(self.dims, block.pad, strict=True)))
        elif not pixels.flags.writeable or pixels.base is not None:
            pixels = pixels.copy()  # a function may change what it was given
        return xr.DataArray(pixels, coords, self.dims, self.name, dict(self.attrs))

    def called(self, block: Block) -> Result | pd.DataFrame:
        """Return what the function gives for a block with its halo.

        Raises
        ------
        BlockError
            If it fails, or what it gives does not fit.
        """
        with self.lock:
            known = self.here.pop(block.number, None)
        if known is not None:
            return cast("Result | pd.DataFrame", known)
        given = self.given(block)
        sizes = {str(dim): n for dim, n in given.sizes.items()}
        try:
            found = self.func(given, **self.kwargs)
        except BlockError:
            raise
        except Exception as error:
            raise self.error(block, f"{type(error).__name__}: {printable(error, 500)}") from error
        return self._checked(block, sizes, found)

    def foreseen(self, block: Block) -> Result | pd.DataFrame:
        """Return the same, and keep it for who asks for it next."""
        found = self.here[block.number] = self.called(block)
        return found

    def _checked(self, block: Block, sizes: dict[str, int], found: Any) -> Result | pd.DataFrame:
        expected = _ADVICE.format(", ".join(f"{dim}: {n}" for dim, n in sizes.items()))
        if isinstance(found, xr.DataArray):
            return self._named(block, sizes, found, expected)
        table = _as_table(found)
        if table is not None:
            return table
        if found is None or isinstance(found, xr.Dataset | xr.DataTree | str | dict | list | tuple):
            raise self.error(block, f"the function returned {_article(found)}: {expected}")
        pixels = np.asarray(found)
        if pixels.dtype.kind not in "biufc":
            shown = f"{_article(found)} of {pixels.dtype}"
            raise self.error(block, f"the function returned {shown}: {expected}")
        for dims in self._candidates(sizes):
            fits = len(dims) == pixels.ndim and all(
                n == sizes[dim] or dim == self.channel_dim
                for dim, n in zip(dims, pixels.shape, strict=True)
            )
            if fits:
                return self._in_order(block, sizes, xr.Variable(dims, pixels), None, expected)
        raise self.error(block, f"the function returned the shape {pixels.shape}: {expected}")

    def _candidates(self, sizes: Mapping[str, int]) -> list[tuple[str, ...]]:
        """Return which axes an array without names may have: all, or not those of one pixel."""
        single = {dim for dim, n in sizes.items() if n == 1}
        channel = {self.channel_dim}
        dropped: list[set[Any]] = [set(), channel, single - channel, single | channel]
        return [tuple(dim for dim in sizes if dim not in each) for each in dropped]

    def _named(
        self, block: Block, sizes: dict[str, int], found: xr.DataArray, expected: str
    ) -> Result:
        names = None
        known = self.channel_dim or "c"
        unknown = [dim for dim in found.dims if dim not in sizes and dim != known]
        if unknown:
            raise self.error(block, f"the function returned the axis {unknown[0]!r}: {expected}")
        wrong = [d for d in found.dims if d != known and found.sizes[d] != sizes[str(d)]]
        if wrong:
            shown = f"{found.sizes[wrong[0]]} pixels along {wrong[0]}"
            raise self.error(block, f"the function returned {shown}: {expected}")
        if known in found.dims and known in found.coords:
            names = tuple(map(str, found.coords[known].values.tolist()))
        variable = found.variable
        return self._in_order(block, sizes, variable, names, expected)

    def _in_order(
        self,
        block: Block,
        sizes: Mapping[str, int],
        found: xr.Variable,
        channels: tuple[str, ...] | None,
        expected: str,
    ) -> Result:
        """Return a result with the axes of the image, in their order.

        An axis that it lacks is left out where the function saw all of it, and comes back where
        that was one pixel of several blocks.
        """
        known = self.channel_dim or "c"
        for dim, parts in zip(self.dims, self.blocks.grid, strict=True):
            if dim in found.dims or dim == known:
                continue
            if sizes[dim] == 1:
                found = xr.Variable((dim, *found.dims), np.asarray(found.values)[np.newaxis])
            elif parts > 1:
                raise self.error(block, f"the function returned no axis {dim}: {expected}")
        order = [dim for dim in self.dims if dim in found.dims]
        if known in found.dims and known not in self.dims:
            space = [dim for dim in order if self.is_space(dim)]
            order.insert(order.index(space[0]) if space else len(order), known)
        pixels = np.asarray(found.transpose(*order).values)
        return Result(tuple(order), pixels, channels)

    def is_space(self, dim: str) -> bool:
        """Tell whether an axis is one of space."""
        coordinate = self.coords.coords.get(dim)
        kind = None if coordinate is None else coordinate.attrs.get("axis_type")
        return kind == "space" if kind is not None else dim in "zyx"

    def is_rising(self, dim: str) -> bool:
        """Tell whether the coordinates of an axis grow with its pixels."""
        values = self.coords.coords[dim].values
        return bool(values.size < 2 or values[0] <= values[-1])

    def region(self, block: Block) -> dict[str, slice]:
        """Return where a block lies, without its halo: axis -> slice, in the axis's unit."""
        found = {}
        for dim, side in zip(self.dims, block.core, strict=True):
            coordinate = self.coords.coords.get(dim)
            if coordinate is not None and geometry.is_numeric(coordinate):
                ends = np.sort(geometry.edges(coordinate[side]))[[0, -1]]
                found[dim] = slice(float(ends[0]), float(ends[1]))
        return found

    def error(self, block: Block, message: str) -> BlockError:
        """Return an error that says where it happened."""
        region = self.region(block)
        parts = []
        for dim, side in region.items():
            unit = geometry.unit(self.coords.coords[dim])
            symbol = f" {units.symbol(unit)}" if unit else ""
            parts.append(f"{dim} {side.start:.6g} to {side.stop:.6g}{symbol}")
        where = ", ".join(parts) or f"number {block.number}"
        return BlockError(f"block {where}: {message}", region)


def _as_table(found: Any) -> pd.DataFrame | None:
    """Return a table, if it is one; pandas is not imported to see that."""
    pandas = sys.modules.get("pandas")
    return found if pandas is not None and isinstance(found, pandas.DataFrame) else None


def _article(found: Any) -> str:
    return "nothing (None)" if found is None else f"a {type(found).__name__}"


def _extended(coords: Any, pad: Mapping[str, tuple[int, int]]) -> dict[Any, xr.Variable]:
    """Return coordinates that go on beyond their ends, with the same step."""
    found = {}
    for name, coordinate in coords.items():
        before, after = pad.get(str(name), (0, 0))
        if coordinate.dims != (name,):
            if not any(any(pad.get(str(dim), (0, 0))) for dim in coordinate.dims):
                found[name] = coordinate.variable
            continue
        values = coordinate.values
        if before or after:
            step = (
                values[1] - values[0] if values.size > 1 else geometry.pixel_size(coordinate) or 1
            )
            values = np.concatenate(
                [
                    values[0] - step * np.arange(before, 0, -1),
                    values,
                    values[-1] + step * np.arange(1, after + 1),
                ]
            )
        found[name] = xr.Variable((name,), values, coordinate.attrs)
    return found
