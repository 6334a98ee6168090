"""What killed writers have left, and `repair` that ends it, at every operation of every writer."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from watched import Watched

import ngff_xarray
from ngff_xarray.errors import StoreError, StoreNotFoundError

Keys = dict[str, Any]

SMALL = xr.DataArray(
    np.random.default_rng(0).integers(0, 99, (3, 24, 20)).astype("u2"), dims=("t", "y", "x")
)
LAYOUT = {"chunks": {"t": 1, "y": 16, "x": 16}, "scale_factors": [{"y": 2, "x": 2}]}


def stored(keys: Keys) -> Any:
    return xr.open_datatree(zarr.storage.MemoryStore(keys), engine="ngff")


def nothing() -> Keys:
    return {}


def an_image() -> Keys:
    keys: Keys = {}
    SMALL[:2].ngff.to_zarr(zarr.storage.MemoryStore(keys), version="0.4", **LAYOUT)
    return keys


def with_cells() -> Keys:
    keys: Keys = {}
    store = zarr.storage.MemoryStore(keys)
    SMALL.ngff.to_zarr(store, **LAYOUT)
    add(store, "cells")
    return keys


def a_plate() -> Keys:
    keys: Keys = {}
    put_plate(zarr.storage.MemoryStore(keys))
    return keys


def put_plate(store: Any) -> None:
    wells = {"A1": [SMALL[0], SMALL[1]], "B1": SMALL[2]}
    ngff_xarray.write_plate(wells, store, name="screen", scale_factors=LAYOUT["scale_factors"])


def replace_plate(store: Any) -> None:
    ngff_xarray.write_plate({"B1": SMALL[1]}, store, mode="w")


def write(store: Any) -> None:
    SMALL.ngff.to_zarr(store, **LAYOUT)


def replace(store: Any) -> None:
    (SMALL + 1).ngff.to_zarr(store, mode="w", **LAYOUT)


def add(store: Any, name: str = "nuclei", **options: Any) -> None:
    opened = xr.open_datatree(store, engine="ngff")
    bright = (opened.ngff.level(0) > 50).load()
    opened.ngff.add_labels(name, bright, target=store, **options)


def replace_labels(store: Any) -> None:
    add(store, "cells", replace=True)


def remove_labels(store: Any) -> None:
    xr.open_datatree(store, engine="ngff").ngff.remove_labels("cells", target=store)


def write_region(store: Any) -> None:
    spot = xr.DataArray(np.full((1, 10, 10), 9, "u2"), dims=("t", "y", "x"))
    region = {"t": slice(1, 2), "y": slice(5, 15), "x": slice(9, 19)}
    spot.ngff.write_region(store, region=region)


def append(store: Any) -> None:
    SMALL[2:].ngff.append(store)


def repaired(keys: Keys) -> None:
    """Repair a store; whoever does so is killed as well, later every time."""
    for count in range(0, 10**4, 2):
        try:
            ngff_xarray.repair(Watched(keys, count)).apply()
        except StoreNotFoundError:
            assert not keys
            return
        except StoreError as error:
            assert "No space left" in str(error)
        else:
            return


def bare(keys: Keys) -> set[str]:
    """Return keys without what tells levels apart from those whose place they took."""
    return {re.sub(r"-(new[0-9a-f]{8}|r\d+)/", "/", key) for key in keys}


def check_levels(levels: Any) -> None:
    made = levels[0].load().ngff.pyramid(scale_factors=LAYOUT["scale_factors"]).ngff.levels
    for level, wanted in zip(levels, made, strict=True):
        np.testing.assert_array_equal(level.values, wanted.values)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "job"),
    [
        (nothing, write),
        (nothing, put_plate),
        (a_plate, replace_plate),
        (an_image, replace),
        (with_cells, replace),
        (an_image, add),
        (with_cells, add),
        (with_cells, replace_labels),
        (with_cells, remove_labels),
        (with_cells, write_region),
        (an_image, append),
    ],
)
def test_repair_leaves_the_old_or_the_new_and_no_debris(
    before: Callable[[], Keys], job: Callable[[Any], None]
) -> None:
    old = before()
    new = dict(old)
    job(zarr.storage.MemoryStore(new))
    tried = 0
    for tried in range(10**4):
        keys = dict(old)
        try:
            job(Watched(keys, tried))
        except StoreError as error:
            assert "No space left" in str(error)
        else:
            break
        repaired(keys)
        state = bare(keys)
        assert not min(state ^ bare(old), state ^ bare(new), key=len)
        if keys:
            assert ngff_xarray.validate(zarr.storage.MemoryStore(keys)).valid
            if before is not a_plate:
                check_levels(stored(keys).ngff.levels)
            assert not ngff_xarray.repair(zarr.storage.MemoryStore(keys)).leftovers
    assert tried >= 5
