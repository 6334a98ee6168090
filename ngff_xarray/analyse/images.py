"""A function over blocks -> an image, computed when pixels are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.core import indexing

from ngff_xarray.analyse.blocks import Block
from ngff_xarray.analyse.boxed import Boxed
from ngff_xarray.analyse.functions import Function, Result
from ngff_xarray.boxes import Box, within
from ngff_xarray.errors import BlockError, NgffError


@dataclass(frozen=True)
class Shape:
    """What a function gives, as its result for one block shows.

    Parameters
    ----------
    dims
        Its axes.
    dtype
        Of its pixels.
    sizes
        How many it has along each axis in all.
    channels
        The names of its channels, if it says them.
    """

    dims: tuple[str, ...]
    dtype: np.dtype[Any]
    sizes: tuple[int, ...]
    channels: tuple[str, ...] | None

    @classmethod
    def of(cls, function: Function, result: Result) -> Shape:
        """Return what a result for one block says of all."""
        whole = dict(zip(function.dims, function.blocks.shape, strict=True))
        channel = function.channel_dim or "c"
        sizes = (
            n if dim == channel else whole[dim]
            for dim, n in zip(result.dims, result.pixels.shape, strict=True)
        )
        return cls(result.dims, result.pixels.dtype, tuple(sizes), result.channels)

    def check(self, function: Function, block: Block, result: Any) -> NDArray[Any]:
        """Return the pixels of a result for another block.

        Raises
        ------
        BlockError
            If they are other than those of the first.
        """
        if not isinstance(result, Result):
            raise function.error(block, "the function returned a table; of the first block pixels")
        found = Shape.of(function, result)
        for what in ("dims", "dtype", "sizes", "channels"):
            was, now = getattr(self, what), getattr(found, what)
            if was != now:
                name = {"dims": "axes", "sizes": "sizes of axes"}.get(what, what)
                raise function.error(
                    block, f"the function returned the {name} {now}; of the first block {was}"
                )
        return result.pixels


class Mapped(Boxed):
    """What a function gives for an image, indexed lazily: whole blocks are computed.

    Parameters
    ----------
    function
        The function, with its image.
    result
        What it gives.
    call
        Computes a block in another place than here.
    failed
        Is told of blocks of which it failed, which are 0 then; by default the error is raised.
    """

    def __init__(
        self,
        function: Function,
        result: Shape,
        call: Callable[[int], Any] | None = None,
        failed: Callable[[int, Exception], None] | None = None,
    ) -> None:
        self._function, self._result, self._call, self._failed = function, result, call, failed
        self.shape, self.dtype = result.sizes, result.dtype

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pixels of a block along each axis."""
        own = dict(zip(self._function.dims, self._function.blocks.size, strict=True))
        channel = self._function.channel_dim or "c"
        return tuple(
            n if dim == channel else own[dim]
            for dim, n in zip(self._result.dims, self.shape, strict=True)
        )

    def box(self, box: Box) -> NDArray[Any]:
        """Return the pixels in a box."""
        blocks, dims = self._function.blocks, self._result.dims
        named = dict(zip(dims, box, strict=True))
        whole = [
            named.get(d, slice(0, n))
            for d, n in zip(self._function.dims, blocks.shape, strict=True)
        ]
        channel = self._function.channel_dim
        if channel in self._function.dims:
            axis = self._function.dims.index(channel)
            whole[axis] = slice(0, blocks.shape[axis])
        found = None
        for block in blocks.within(whole):
            core = self._own(block.core)
            if core == tuple(box):  # nothing to put together
                pixels = self.block(block)
                return np.zeros(self._size(box), self.dtype) if pixels is None else pixels
            found = np.zeros(self._size(box), self.dtype) if found is None else found
            both = tuple(
                slice(max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(core, box, strict=True)
            )
            pixels = self.block(block)
            if pixels is not None:
                found[within(both, box)] = pixels[within(both, core)]
        assert found is not None
        return found

    @staticmethod
    def _size(box: Box) -> list[int]:
        return [side.stop - side.start for side in box]

    def block(self, block: Block) -> NDArray[Any] | None:
        """Return the pixels of a block without its halo; None if the function failed."""
        try:
            called = (
                self._function.called(block) if self._call is None else self._call(block.number)
            )
            pixels = self._result.check(self._function, block, called)
        except NgffError as error:
            if self._failed is None or not isinstance(error, BlockError):
                raise
            self._failed(block.number, error)
            return None
        return pixels[self._own(block.inner)]

    def _own(self, box: Sequence[slice]) -> Box:
        """Return a box of the image along the axes of the result, with all of its channels."""
        named = dict(zip(self._function.dims, box, strict=True))
        channel = self._function.channel_dim or "c"
        return tuple(
            slice(0, n) if dim == channel else named[dim]
            for dim, n in zip(self._result.dims, self.shape, strict=True)
        )


def as_array(mapped: Mapped, function: Function, result: Shape) -> xr.DataArray:
    """Return a result with the coordinates of its image, indexed lazily in blocks."""
    variable = xr.Variable(result.dims, indexing.LazilyIndexedArray(mapped))
    variable.encoding = {"chunks": mapped.sizes}
    return described(variable, function, result.channels, function.coords)


def part(function: Function, result: Result, block: Block) -> xr.DataArray:
    """Return the result for one block, without its halo, with the coordinates of its image."""
    inner = dict(zip(function.dims, block.inner, strict=True))
    channel = function.channel_dim or "c"
    cut = tuple(slice(None) if dim == channel else inner[dim] for dim in result.dims)
    coords = function.coords.isel(
        dict(zip(function.dims, block.core, strict=True)), missing_dims="ignore"
    )
    variable = xr.Variable(result.dims, result.pixels[cut])
    return described(variable, function, result.channels, coords)


def by_dask(mapped: Mapped, function: Function, result: Shape) -> xr.DataArray:
    """Return a result with the coordinates of its image, as an array of dask: a task a block."""
    import dask.array as da
    from dask._task_spec import DataNode, Task, TaskRef
    from dask.highlevelgraph import HighLevelGraph

    blocks = function.blocks
    token = f"apply-{id(mapped):x}-{np.random.default_rng().integers(2**62):x}"
    chunks = tuple(
        tuple(min(n, size - start) for start in range(0, size, n))
        for n, size in zip(mapped.sizes, mapped.shape, strict=True)
    )
    own = {dim: axis for axis, dim in enumerate(function.dims)}
    shared = f"{token}-function"
    graph: dict[Any, Any] = {shared: DataNode(shared, mapped)}
    channel = function.channel_dim or "c"
    for block in blocks:
        place = (0 if dim == channel else block.place[own[dim]] for dim in result.dims)
        key = (token, *place)
        graph[key] = Task(key, _core, TaskRef(shared), block.number)
    layers = HighLevelGraph.from_collections(token, graph)
    # dask is not annotated
    data = da.Array(layers, token, chunks, dtype=result.dtype)  # type: ignore[no-untyped-call]
    variable = xr.Variable(result.dims, data)
    return described(variable, function, result.channels, function.coords)


def _core(mapped: Mapped, number: int) -> NDArray[Any]:
    pixels = mapped.block(mapped._function.blocks[number])
    assert pixels is not None
    return pixels


def described(
    variable: xr.Variable,
    function: Function,
    channels: tuple[str, ...] | None,
    given: xr.Dataset,
) -> xr.DataArray:
    """Return the array with its coordinates; it says what its image does, as far as that holds."""
    coords = {
        name: coordinate.variable
        for name, coordinate in given.coords.items()
        if set(coordinate.dims) <= set(variable.dims)
    }
    channel = function.channel_dim or "c"
    attrs = dict(function.attrs)
    if channel in variable.dims:
        names = channels
        known = function.coords.coords.get(channel)
        if names is None and known is not None and known.size == variable.sizes[channel]:
            names = tuple(map(str, known.values.tolist()))
        names = names or tuple(str(i) for i in range(variable.sizes[channel]))
        coords[channel] = xr.Variable((channel,), list(names), {"axis_type": "channel"})
    if isinstance(attrs.get("ome"), dict):
        attrs["ome"] = _said(attrs["ome"], function, coords.get(channel))
    found = xr.DataArray(variable, coords, attrs=attrs, name="image")
    found.encoding = variable.encoding  # which xarray drops
    return found


def _said(
    ome: Mapping[str, Any], function: Function, channels: xr.Variable | None
) -> dict[str, Any]:
    """Return what is said of a result: what is of its image, but for the windows of channels."""
    found = {key: value for key, value in ome.items() if key not in ("omero", "image-label")}
    stored = ome.get("omero")
    known = function.coords.coords.get(function.channel_dim or "c")
    if not isinstance(stored, dict) or channels is None or known is None:
        return found
    if channels.dims != known.dims or channels.values.tolist() != known.values.tolist():
        return found
    entries = [
        {key: value for key, value in entry.items() if key != "window"}
        for entry in stored.get("channels") or ()
        if isinstance(entry, dict)
    ]
    return {**found, "omero": {**stored, "channels": entries}}
