"""Blocks of dask that fit neither chunks nor shards: nothing of them is lost, at any level."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import ngff_xarray

MOST = settings(deadline=None, max_examples=40)


def blocks(draw: Any, size: int) -> tuple[int, ...]:
    """Sizes of blocks along an axis, of which some may be empty."""
    cuts = sorted(draw(st.lists(st.integers(0, size), max_size=4)))
    edges = [0, *cuts, size]
    return tuple(b - a for a, b in pairwise(edges))


@st.composite
def layouts(draw: Any) -> dict[str, Any]:
    """Chunks and shards of a store, in either Zarr format."""
    chunks = {dim: draw(st.integers(1, 9)) for dim in "tyx"}
    version = draw(st.sampled_from(["0.4", "0.5"]))
    found: dict[str, Any] = {"chunks": chunks, "version": version}
    if version == "0.5" and draw(st.booleans()):
        found["shards"] = {dim: n * draw(st.integers(1, 3)) for dim, n in chunks.items()}
    step = {dim: draw(st.integers(1, 3)) for dim in "yx"}
    factors = [step if max(step.values()) > 1 else {"y": 2}, {"x": 2}]
    return {**found, "scale_factors": factors[: draw(st.integers(1, 2))]}


def lazy(draw: Any, pixels: np.ndarray) -> xr.DataArray:
    """The same pixels in blocks of dask, each computed by a thread."""
    import dask.array as da

    found = da.from_array(pixels, chunks=tuple(blocks(draw, n) for n in pixels.shape))
    return xr.DataArray(found.map_blocks(np.copy, dtype=pixels.dtype), dims=("t", "y", "x"))


def noise(draw: Any, shape: tuple[int, ...]) -> np.ndarray:
    seed = draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed).integers(1, 2**16, shape).astype("u2")


def means(pixels: np.ndarray, y: int, x: int) -> np.ndarray:
    """The means of blocks of pixels, those at the ends smaller, rounded half to even."""
    found = np.empty((pixels.shape[0], -(-pixels.shape[1] // y), -(-pixels.shape[2] // x)), "u2")
    for i in range(found.shape[1]):
        for j in range(found.shape[2]):
            block = pixels[:, i * y : i * y + y, j * x : j * x + x]
            found[:, i, j] = np.round(block.mean((1, 2)))  # exact: the sums are small
    return found


def check(store: Any, wanted: np.ndarray, layout: dict[str, Any]) -> None:
    assert ngff_xarray.validate(store).valid
    levels = xr.open_datatree(store, engine="ngff").ngff.levels
    assert len(levels) == 1 + len(layout["scale_factors"])
    y = x = 1
    for level, step in zip(levels, [{}, *layout["scale_factors"]], strict=True):
        y, x = y * step.get("y", 1), x * step.get("x", 1)
        np.testing.assert_array_equal(level.values, means(wanted, y, x) if y * x > 1 else wanted)


shapes = st.tuples(st.integers(1, 4), st.integers(1, 24), st.integers(1, 24))


@MOST
@given(st.data(), shapes, layouts())
def test_an_image(data: st.DataObject, shape: Any, layout: dict[str, Any]) -> None:
    pixels, store = noise(data.draw, shape), zarr.storage.MemoryStore()
    lazy(data.draw, pixels).ngff.to_zarr(store, **layout)
    check(store, pixels, layout)


@pytest.mark.slow
@MOST
@given(st.data(), shapes, layouts())
def test_a_region(data: st.DataObject, shape: Any, layout: dict[str, Any]) -> None:
    pixels, store = noise(data.draw, shape), zarr.storage.MemoryStore()
    lazy(data.draw, pixels).ngff.to_zarr(store, **layout)
    region = {}
    for dim, size in zip("tyx", shape, strict=True):
        ends = st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True)
        region[dim] = slice(*sorted(data.draw(ends)))
    part = tuple(region.values())
    pixels[part] = noise(data.draw, pixels[part].shape)
    lazy(data.draw, pixels[part]).ngff.write_region(store, region=region)
    check(store, pixels, layout)


@pytest.mark.slow
@MOST
@given(st.data(), shapes, layouts())
def test_what_is_appended(data: st.DataObject, shape: Any, layout: dict[str, Any]) -> None:
    store = zarr.storage.MemoryStore()
    axis = data.draw(st.sampled_from([0, 1, 2]))
    longer = tuple(
        n + (data.draw(st.integers(1, 9)) if i == axis else 0) for i, n in enumerate(shape)
    )
    pixels = noise(data.draw, longer)
    first, more = np.split(pixels, [shape[axis]], axis)
    lazy(data.draw, first).ngff.to_zarr(store, **layout)
    lazy(data.draw, more).ngff.append(store, dim="tyx"[axis])
    check(store, pixels, layout)
