"""Images in icechunk: all that is written before a commit is there after it, or nothing is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from stores import write_plate

from ngff_xarray.errors import StoreError, StoreNotFoundError, UnsupportedError

if "NGFF_CI" not in os.environ:  # of .ci/run, which has everything
    pytest.importorskip("icechunk")

SHAPE = (12, 50, 70)
PIXELS = np.random.default_rng(0).integers(0, 2**16, SHAPE).astype("u2")
IMAGE = xr.DataArray(PIXELS, dims=("z", "y", "x"))
STORED: dict[str, Any] = {"chunks": (4, 16, 16), "shards": (8, 32, 32), "scale_factors": [2, 2]}


@pytest.fixture
def repository(tmp_path: Path) -> Any:
    import icechunk

    return icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "ice")))


def opened(repository: Any) -> xr.DataTree:
    return xr.open_datatree(repository.readonly_session("main").store, engine="ngff")


def test_an_image(repository: Any, tmp_path: Path) -> None:
    session = repository.writable_session("main")
    IMAGE.ngff.to_zarr(session.store, **STORED)
    with pytest.raises(StoreNotFoundError):
        opened(repository)  # as it was, until the commit
    session.commit("an image")
    IMAGE.ngff.to_zarr(tmp_path / "disk.ome.zarr", **STORED)
    found, expected = opened(repository), xr.open_datatree(tmp_path / "disk.ome.zarr")
    assert found.attrs == expected.attrs
    for level, other in zip(found.ngff.levels, expected.ngff.levels, strict=True):
        xr.testing.assert_identical(level, other)
        assert level.encoding["shards"] == other.encoding["shards"]
    assert "\n" not in found.encoding["source"]


def test_labels_regions_and_appends(repository: Any) -> None:
    session = repository.writable_session("main")
    IMAGE.ngff.to_zarr(session.store, **STORED)
    session.commit("an image")
    session = repository.writable_session("main")
    xr.open_datatree(session.store, engine="ngff").ngff.add_labels("cells", IMAGE // 9000)
    (IMAGE[:4] * 0 + 7).ngff.write_region(session.store, region={"z": slice(2, 6)})
    IMAGE[:4].ngff.append(session.store, dim="z")
    assert [level.sizes["z"] for level in opened(repository).ngff.levels] == [12, 6, 3]
    session.commit("more")
    found = opened(repository)
    expected = np.concatenate([PIXELS, PIXELS[:4]])
    expected[2:6] = 7
    np.testing.assert_array_equal(found.ngff.level(0), expected)
    assert [level.sizes["z"] for level in found.ngff.levels] == [16, 8, 4]
    np.testing.assert_array_equal(found["labels/cells/0/labels"], PIXELS // 9000)
    assert all(issue.severity == "warning" for issue in found.ngff.issues)


def test_a_session_that_is_dropped(repository: Any) -> None:
    """Whoever is killed before the commit has written nothing."""
    session = repository.writable_session("main")
    IMAGE.ngff.to_zarr(session.store, **STORED)
    session.discard_changes()
    IMAGE.ngff.to_zarr(session.store, **STORED)
    session.commit("an image")
    np.testing.assert_array_equal(opened(repository).ngff.level(0), PIXELS)


def test_a_plate(repository: Any, tmp_path: Path) -> None:
    plate = xr.open_datatree(write_plate(tmp_path / "plate.ome.zarr"))
    session = repository.writable_session("main")
    plate.ngff.to_zarr(session.store)
    session.commit("a plate")
    found = opened(repository)
    assert found.ngff.kind == "plate"
    xr.testing.assert_identical(
        found.ngff.to_array(level=0).load(), plate.ngff.to_array(level=0).load()
    )
    found.ngff.to_zarr(tmp_path / "back.ome.zarr")


def test_what_icechunk_has_no_place_for(repository: Any, tmp_path: Path) -> None:
    path = write_plate(tmp_path / "plate.ome.zarr")
    (path / "OME").mkdir()
    (path / "OME/METADATA.ome.xml").write_text("<OME/>")
    plate = xr.open_datatree(path)
    store = repository.writable_session("main").store
    with pytest.raises(UnsupportedError, match="no place for the OME-XML"):
        plate.ngff.to_zarr(store)
    assert not list(zarr.open_group(store, mode="a").keys())
    plate.ngff.to_zarr(store, lossy=True)
    with pytest.raises(UnsupportedError, match="has no Zarr v2"):
        IMAGE.ngff.to_zarr(repository.writable_session("main").store, version="0.4")
    with pytest.raises(StoreError, match="read-only"):
        IMAGE.ngff.to_zarr(repository.readonly_session("main").store)
