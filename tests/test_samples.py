"""The built-in images: real pixels, valid stores, and what other readers make of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import tensorstore
import xarray as xr
import yaozarrs
import zarr
from ome_zarr_models import open_ome_zarr

import ngff_xarray
from ngff_xarray import samples, write
from ngff_xarray.errors import MissingDependencyError, SelectionError, StoreError

NAMES = ("cell", "retina", "histology")


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def path(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ngff_xarray.sample(name, tmp_path_factory.mktemp("samples") / f"{name}.ome.zarr")


def test_the_pixels_are_scikit_images(name: str, path: Path) -> None:
    source = {"histology": "immunohistochemistry"}.get(name, name)
    expected = np.atleast_3d(getattr(skimage.data, source)())
    image = xr.open_dataset(path)["image"]
    np.testing.assert_array_equal(image.transpose("y", "x", "c"), expected)


def test_pixel_size_channels_and_levels(name: str, path: Path) -> None:
    tree = xr.open_datatree(path)
    sizes = {axis: str(size) for axis, size in tree.ngff.pixel_size.items()}
    documented = name == "cell"
    step = "0.107 micrometer" if documented else "1.0 dimensionless"
    assert sizes == {"y": step, "x": step}
    names = [channel.name for channel in tree.ngff.channels]
    assert names == (["phase"] if documented else ["red", "green", "blue"])
    assert max(tree.ngff.levels[-1].shape) <= 128
    errors = [issue for issue in tree.ngff.issues if issue.severity == "error"]
    assert not errors


def test_levels_are_the_exact_mean_at_the_right_place(name: str, path: Path) -> None:
    tree = xr.open_datatree(path)
    finest = tree["0/image"].astype(float)
    for number, level in enumerate(tree.ngff.levels[1:], start=1):
        factor = 2**number
        mean = finest.coarsen(y=factor, x=factor, boundary="trim").mean()
        inner = level[:, : mean.sizes["y"], : mean.sizes["x"]]
        np.testing.assert_allclose(inner["x"], mean["x"], rtol=0, atol=1e-9)
        np.testing.assert_array_equal(inner, np.rint(mean.values))


def test_the_cells_label_is_one_cell_with_its_area(path: Path, name: str) -> None:
    tree = xr.open_datatree(path)
    if name != "cell":
        assert tree.ngff.labels == {}
        return
    labels = tree.ngff.labels["cell"]
    pixels = labels["0/labels"].values
    assert set(np.unique(pixels)) == {0, 1}
    area = (pixels == 1).sum() * 0.107**2
    assert labels.ngff.properties["area"].loc[1] == pytest.approx(area, abs=1e-3)
    assert 100 < area < 200  # a cell of about 13 µm
    for level in labels.ngff.levels:
        assert set(np.unique(level)) == {0, 1}


def test_validators_accept_it(path: Path) -> None:
    yaozarrs.validate_zarr_store(str(path))
    assert type(open_ome_zarr(zarr.open_group(path, mode="r"))).__name__ == "Image"
    for label in (path / "labels").glob("*/zarr.json"):
        yaozarrs.validate_zarr_store(str(label.parent))


def test_tensorstore_reads_equal_voxels(path: Path) -> None:
    for array in path.rglob("zarr.json"):
        if json.loads(array.read_text())["node_type"] == "array":
            spec = {"driver": "zarr3", "kvstore": f"file://{array.parent}/"}
            theirs = tensorstore.open(spec, read=True).result().read().result()
            np.testing.assert_array_equal(theirs, zarr.open_array(array.parent, mode="r")[...])


def test_a_flipped_bit_is_noticed(path: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy.ome.zarr"
    shutil.copytree(path, copy)
    chunk = next(file for file in (copy / "0" / "c").rglob("*") if file.is_file())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(bytes(data))
    with pytest.raises(Exception, match=r"(?i)checksum"):
        xr.open_dataset(copy)["image"].load()


def test_it_is_written_once_and_to_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "_cache", lambda: tmp_path / "cache")
    first = ngff_xarray.sample()
    stamp = (first / "zarr.json").stat().st_mtime_ns
    assert ngff_xarray.sample("cell") == first == tmp_path / "cache" / "cell.ome.zarr"
    assert (first / "zarr.json").stat().st_mtime_ns == stamp
    assert [file.name for file in first.parent.iterdir()] == ["cell.ome.zarr"]


def test_a_run_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        (args[1] / "0").mkdir(parents=True)
        raise OSError("disk full")

    monkeypatch.setattr(write, "to_zarr", fail)
    with pytest.raises(OSError, match="disk full"):
        ngff_xarray.sample("cell", tmp_path / "cell.ome.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("five years")
    with pytest.raises(StoreError, match="exists"):
        ngff_xarray.sample("cell", tmp_path / "mine")
    with pytest.raises(StoreError, match="is not the sample 'cell'"):
        ngff_xarray.sample("cell", ngff_xarray.sample("histology", tmp_path / "mine" / "h.zarr"))
    with pytest.raises(StoreError, match="local paths"):
        ngff_xarray.sample("cell", "memory://cell")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "five years"
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_two_processes_at_once_make_one_image(tmp_path: Path) -> None:
    code = f"import ngff_xarray; ngff_xarray.sample('histology', {str(tmp_path / 'h.zarr')!r})"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    assert [file.name for file in tmp_path.iterdir()] == ["h.zarr"]
    assert xr.open_dataset(tmp_path / "h.zarr")["image"].shape == (3, 512, 512)


def test_unknown_samples_and_missing_packages_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SelectionError, match="there are cell, retina, histology"):
        ngff_xarray.sample("embryo")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingDependencyError, match=r"ngff-xarray\[sample\]"):
        ngff_xarray.sample("cell", tmp_path / "cell.ome.zarr")
