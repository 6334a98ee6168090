"""Objects of label images measured, held against scikit-image on the whole array."""

from __future__ import annotations

import json
import math
import threading
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import regionprops_table
from skimage.morphology import convex_hull_image
from stores import write_image, write_plate, write_series
from watched import Watched

from ngff_xarray import ngff
from ngff_xarray.analyse.convex import convex_pixels
from ngff_xarray.analyse.measuring import measure
from ngff_xarray.errors import (
    SelectionError,
    StoreError,
    UnitError,
    UnsupportedError,
)

RNG = np.random.default_rng(0)
INTENSITIES = ("mean", "std", "min", "max", "sum")


def objects(shape: tuple[int, ...], count: int = 12, seed: int = 0) -> np.ndarray[Any, Any]:
    """Balls with the ids 1, 2, …, some of them cut by others, in an image that is mostly empty."""
    rng = np.random.default_rng(seed)
    found = np.zeros(shape, np.uint32)
    grid = np.indices(shape, sparse=True)
    for number in range(1, count + 1):
        centre, radius = rng.uniform(0, shape), rng.uniform(2, min(shape) / 3 + 2)
        apart = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
        found[apart <= radius**2] = number
    return found


def labelled(
    labels: Any, scale: tuple[float, ...] | None = None, start: tuple[float, ...] | None = None
) -> xr.DataArray:
    """Labels (or an image) in memory, with coordinates in micrometres."""
    dims = "zyx"[-labels.ndim :]
    scale, start = scale or (1.0,) * labels.ndim, start or (0.0,) * labels.ndim
    coords = {
        dim: xr.Variable(
            dim, np.arange(n) * size + first, {"units": "micrometer", "pixel_size": size}
        )
        for dim, n, size, first in zip(dims, labels.shape, scale, start, strict=True)
    }
    return xr.DataArray(labels, dims=list(dims), coords=coords, name="image")


def expected(
    labels: np.ndarray[Any, Any],
    image: np.ndarray[Any, Any] | None = None,
    scale: tuple[float, ...] | None = None,
    start: tuple[float, ...] | None = None,
) -> pd.DataFrame:
    """What scikit-image measures on the whole array, under our names."""
    scale, start = scale or (1.0,) * labels.ndim, start or (0.0,) * labels.ndim
    ids, numbered = np.unique(labels, return_inverse=True)
    numbered = numbered.reshape(labels.shape) + (0 if ids[0] == 0 else 1)
    names = ["label", "num_pixels", "area", "bbox", "centroid"]
    if image is not None:
        if image.dtype.kind == "f":
            image = image.astype("f8")
        names += ["intensity_mean", "intensity_std", "intensity_min", "intensity_max"]
    table = regionprops_table(numbered, image, properties=names, spacing=scale)
    frame = pd.DataFrame(index=pd.Index(ids[ids != 0].astype(np.int64), name="label-value"))
    frame["area" if labels.ndim == 2 else "volume"] = table["area"]
    frame["pixels"] = table["num_pixels"].astype(np.int64)
    dims = "zyx"[-labels.ndim :]
    for i, dim in enumerate(dims):
        frame[f"centroid_{dim}"] = table[f"centroid-{i}"] + start[i]
    for i, dim in enumerate(dims):
        low, high = table[f"bbox-{i}"], table[f"bbox-{i + labels.ndim}"]
        frame[f"{dim}_min"] = (low - 0.5) * scale[i] + start[i]
        frame[f"{dim}_max"] = (high - 0.5) * scale[i] + start[i]
    if image is not None:
        for name in INTENSITIES[:-1]:
            frame[f"{name}_0"] = table[f"intensity_{name}"]
        wide = image.astype(np.float64 if image.dtype.kind == "f" else np.int64)
        frame["sum_0"] = [wide[labels == value].sum() for value in ids[ids != 0]]
    return frame


def check(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    assert list(found.columns) == list(wanted.columns)
    for name in wanted.columns:
        if name == "pixels" or name.startswith(("min_", "max_")):
            np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
    pd.testing.assert_frame_equal(
        found, wanted, check_dtype=False, rtol=1e-11, atol=1e-11, check_exact=False
    )


# ---- the same as scikit-image --------------------------------------------------------------------


@pytest.mark.parametrize("block", [None, 1000, {"y": 7, "x": 11}, {"z": 1, "y": 1, "x": 1000}])
@pytest.mark.parametrize("shape", [(40, 50), (12, 30, 33)])
def test_as_scikit_image(shape: tuple[int, ...], block: Any) -> None:
    labels = objects(shape)
    image = RNG.integers(0, 65535, shape).astype("u2")
    scale, start = (2.5, 0.5, 0.25)[-len(shape) :], (100.0, -3.0, 7.0)[-len(shape) :]
    if isinstance(block, dict):
        block = {dim: size for dim, size in block.items() if dim in "zyx"[-len(shape) :]}
    found = measure(
        labelled(image, scale, start),
        labelled(labels, scale, start),
        "all",
        block=block,
        workers=2,
    )
    check(found, expected(labels, image, scale, start))
    size = "area" if len(shape) == 2 else "volume"
    assert found.attrs["units"][size] == ("micrometer²" if len(shape) == 2 else "micrometer³")
    assert found.attrs["units"]["centroid_x"] == found.attrs["units"]["x_max"] == "micrometer"
    assert found.attrs["issues"] == []


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=3).map(tuple),
    dtype=st.sampled_from(["u1", "i1", ">u2", "i4", ">u4", "f4", ">f8"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_labels_in_any_blocks(data: Any, shape: Any, dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = np.array([0, 1, 5, 2**32 - 1], data.draw(st.sampled_from(["u4", ">u4", "u8", "i8"])))
    labels = ids[rng.integers(0, ids.size, shape)]
    info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else None
    image = (
        (1e3 + rng.integers(-9, 9, shape) / 8).astype(dtype)  # numpy adds up float32 as such
        if info is None
        else rng.integers(info.min, info.max, shape, endpoint=True).astype(dtype)
    )
    block = {dim: data.draw(st.integers(1, 9)) for dim in "zyx"[-len(shape) :]}
    found = measure(labelled(image), labelled(labels), "all", block=block, workers=1)
    deep = [i for i, n in enumerate(shape) if n > 1]
    thin = [i for i, n in enumerate(shape) if n == 1]
    kept = sorted(deep + thin[::-1][: max(0, 2 - len(deep))])  # a volume of one plane is one
    dims = ["zyx"[-len(shape) :][i] for i in kept]
    assert [name for name in found if name.startswith("centroid")] == [
        f"centroid_{d}" for d in dims
    ]
    labels, image = (each.reshape([shape[i] for i in kept]) for each in (labels, image))
    if (labels != 0).any():
        wanted = expected(labels, image)
        np.testing.assert_array_equal(found.index, wanted.index)
        found.columns = wanted.columns  # those of y and x, whatever they are called
        check(found, wanted)


def test_sums_do_not_overflow_and_std_is_exact() -> None:
    labels = np.ones((600, 700), "u1")
    image = np.full(labels.shape, 255, "u1")
    found = measure(labelled(image), labelled(labels), "all", block={"y": 13})
    assert found["sum_0"].tolist() == [255 * image.size]
    assert found["std_0"].tolist() == [0]
    image = np.full(labels.shape, 2**32 - 1, "u4")  # whose squares fit nowhere
    image[::2] -= 2
    found = measure(labelled(image), labelled(labels), "all", block={"y": 13})
    assert found["sum_0"].tolist() == [(2**32 - 2) * image.size]
    np.testing.assert_allclose(found["std_0"], 1, rtol=1e-14)


def test_large_integers_keep_their_extremes() -> None:
    image = np.array([[2**63 + 1, 2**63 + 3]], "u8")
    found = measure(labelled(image), labelled(np.array([[7, 7]], "u8")), "all")
    assert found["min_0"].item() == 2**63 + 1 and found["max_0"].item() == 2**63 + 3


def test_labels_beyond_signed_integers() -> None:
    labels = np.array([[0, 2**64 - 1], [3, 2**64 - 1]], "u8")
    found = measure(labelled(labels), labelled(labels), properties=["solidity", "extent"])
    assert found.index.tolist() == [3, 2**64 - 1]
    assert found["extent"].tolist() == [1, 1]
    volume = np.stack([labels] * 3)
    found = measure(labelled(volume), labelled(volume), properties=["extent", "axis_major_length"])
    assert found.index.tolist() == [3, 2**64 - 1] and found["pixels"].tolist() == [3, 6]


def test_boolean_and_negative_labels() -> None:
    found = measure(labelled(labels := objects((9, 9)) > 0), labelled(labels), "all")
    assert found["pixels"].to_dict() == {1: labels.sum()} == found["sum_0"].to_dict()
    assert measure(labelled(labels), labelled(np.array([[-4, 0], [-4, 2]]))).index.tolist() == [
        -4,
        2,
    ]


def test_no_labels(tmp_path: Path) -> None:
    empty = np.zeros((30, 30), "u4")
    full = measure(labelled(empty), labelled(empty + 1), "all", properties="solidity")
    found = measure(labelled(empty), labelled(empty), "all", properties="solidity")
    assert len(found) == 0
    assert found.dtypes.equals(full.dtypes) and found.index.dtype == full.index.dtype
    for intensities in (None, "all"):
        none = measure(labelled(empty[:0]), labelled(empty[:0]), intensities, properties="solidity")
        assert len(none) == 0 and "solidity" in none
    frames = xr.DataArray(np.zeros((0, 5, 5), "u1"), dims=("t", "y", "x"))
    with pytest.raises(SelectionError, match="no frames along t"):
        measure(frames, frames)


# ---- pixels without a value ----------------------------------------------------------------------


def test_nan_is_left_out() -> None:
    labels = objects((40, 41))
    image = RNG.normal(100, 3, labels.shape).astype("f4")
    gone = np.unique(labels)[1]
    image[labels == gone] = np.nan
    image[RNG.random(labels.shape) < 0.2] = np.nan
    found = measure(labelled(image), labelled(labels), "all", block={"y": 9, "x": 10})
    for value, row in found.iterrows():
        own = image[labels == value].astype("f8")
        own = own[~np.isnan(own)]
        wanted = (
            [own.mean(), own.std(), own.min(), own.max(), own.sum()] if own.size else [np.nan] * 5
        )
        np.testing.assert_allclose(row[[f"{name}_0" for name in INTENSITIES]], wanted, rtol=1e-12)
    missing = int(np.isnan(image[labels > 0]).sum())
    (issue,) = found.attrs["issues"]
    assert f"{missing} pixels of {len(found)} objects" in issue


def test_labels_that_reach_beyond_the_image() -> None:
    labels = np.zeros((20, 30), "u4")
    labels[2:5, 2:8] = 1  # inside
    labels[8:12, 14:26] = 2  # half of it
    labels[15:, 25:] = 3  # beyond
    image = RNG.integers(1, 200, (20, 20)).astype("u1")
    found = measure(labelled(image), labelled(labels), "all", block={"y": 3, "x": 17})
    assert found["pixels"].tolist() == [18, 48, 25]
    assert found["sum_0"].tolist()[:2] == [image[2:5, 2:8].sum(), image[8:12, 14:20].sum()]
    assert found["min_0"].tolist()[:2] == [image[2:5, 2:8].min(), image[8:12, 14:20].min()]
    assert found.loc[3, [f"{name}_0" for name in INTENSITIES]].isna().all()
    assert "49 pixels of 2 objects" in found.attrs["issues"][0]
    json.dumps(found.attrs)  # as Parquet keeps them


def test_infinite_values() -> None:
    image = np.array([[1.0, np.inf, 3.0]])
    found = measure(labelled(image), labelled(np.array([[1, 1, 2]])), "all")
    assert found["max_0"].tolist() == [np.inf, 3] == found["mean_0"].tolist()


# ---- labels and images of other pixels -----------------------------------------------------------


def test_by_coordinates() -> None:
    labels = objects((16, 18), 6)
    image = RNG.integers(0, 999, (64, 72)).astype("u2")
    coarse = labelled(labels, (2.0, 2.0), (0.75, 0.75))  # the middles of 4 x 4 pixels
    found = measure(labelled(image, (0.5, 0.5)), coarse, "all", block={"y": 5, "x": 7})
    np.testing.assert_array_equal(
        found["sum_0"], expected(labels, image[2::4, 2::4].astype("i8"))["sum_0"]
    )
    shifted = labelled(image, (0.5, 0.5))[:, ::-1].drop_vars([])
    backwards = measure(shifted, coarse, "all")
    pd.testing.assert_frame_equal(backwards, found)
    in_nm = coarse.assign_coords(
        x=xr.Variable("x", coarse.x.values * 1e3, {"units": "nanometer", "pixel_size": 2e3})
    )
    other = measure(labelled(image, (0.5, 0.5)), in_nm, "all")
    np.testing.assert_array_equal(other["sum_0"], found["sum_0"])
    np.testing.assert_allclose(other["area"], found["area"] * 1e6)
    assert other.attrs["units"]["area"] == "nanometer²"


def test_coarse_image_under_fine_labels() -> None:
    labels = objects((40, 44), 6)
    image = RNG.integers(0, 999, (10, 11)).astype("u2")
    found = measure(labelled(image, (4.0, 4.0), (1.5, 1.5)), labelled(labels), "all")
    check(found, expected(labels, np.kron(image, np.ones((4, 4), "u2"))))


def test_level_that_fits(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="cyx", labels={"cells": {"levels": 2}})
    tree = xr.open_datatree(path)
    levels = tree.ngff.levels
    labels = tree.ngff.labels["cells"].ngff.levels
    for number in (0, 1):
        found = tree.ngff.measure("cells", "1", level=number)
        here = levels[number].isel(c=1).values
        wanted = [here[labels[number].values == value].sum() for value in found.index]
        assert found["sum_1"].tolist() == wanted
    only = tree.ngff.measure("cells", ["1", "0"])
    assert [name for name in only if name.startswith("mean")] == ["mean_1", "mean_0"]
    part = tree.ngff.sel(x=slice(5, 20), y=slice("3 µm", "17 µm"))
    found = part.ngff.measure("cells", "all")
    pixels = part.ngff.labels["cells"].ngff.levels[0].values
    np.testing.assert_array_equal(
        found["pixels"], np.unique(pixels[pixels > 0], return_counts=True)[1]
    )
    assert found["x_min"].min() >= 4.5 and found["x_max"].max() <= 20.5


@pytest.mark.parametrize("chunks", [(2, 16, 16), (1, 16, 16)])
def test_channels_and_chunks(tmp_path: Path, chunks: tuple[int, ...]) -> None:
    image = RNG.integers(0, 4000, (4, 50, 62)).astype("u2")
    labels = objects((50, 62))
    path = write_image(
        tmp_path / "a.ome.zarr",
        axes="cyx",
        data=image,
        levels=1,
        chunks=chunks,
        labels={"cells": {"data": labels}},
    )
    for options in ({}, {"chunks": {}}, {"chunks": {"y": 32, "x": -1}}):
        tree = xr.open_datatree(path, **options)
        found = tree.ngff.measure("cells", ["3", "1"], block=5000)
        for name in ("3", "1"):
            wanted = expected(labels, image[int(name)], (0.5, 0.5))
            for each in INTENSITIES:
                np.testing.assert_allclose(found[f"{each}_{name}"], wanted[f"{each}_0"], 1e-12)


def test_shards_and_every_version(tmp_path: Path) -> None:
    labels, tables = objects((50, 62)), []
    for version in ("0.1", "0.3", "0.4", "0.5", "0.6"):
        path = write_image(
            tmp_path / f"{version}.ome.zarr",
            version=version,
            axes="cyx",
            labels={"cells": {"data": labels}},
            **({"chunks": (1, 8, 8), "shards": (1, 32, 32)} if version == "0.5" else {}),
        )
        found = xr.open_datatree(path).ngff.measure("cells", "all")
        tables.append(found[["pixels", *(name for name in found if name.startswith("mean"))]])
    assert tables[0]["pixels"].to_dict() == expected(labels)["pixels"].to_dict()
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0])


# ---- time ----------------------------------------------------------------------------------------


def test_frames_are_apart(tmp_path: Path) -> None:
    labels = np.stack([objects((20, 30), 5, seed) for seed in range(3)])
    labels[1] = 0  # a frame without objects
    image = RNG.integers(0, 4000, (3, 2, 20, 30)).astype("u2")
    path = write_image(
        tmp_path / "a.ome.zarr",
        axes="tcyx",
        data=image,
        levels=1,
        scale=(1.5, 1, 0.5, 0.5),
        labels={"cells": {"data": labels}},
    )
    tree = xr.open_datatree(path)
    found = tree.ngff.measure("cells", "all", properties="perimeter", block={"t": 2, "x": 11})
    assert found.index.names == ["t", "label-value"]
    assert found.index.get_level_values("t").unique().tolist() == [0, 3]
    assert found.attrs["units"]["t"] == "second"
    for t in (0, 2):
        wanted = expected(labels[t], image[t, 1], (0.5, 0.5))
        for name in ("mean", "std", "sum"):
            np.testing.assert_allclose(found.loc[t * 1.5][f"{name}_1"], wanted[f"{name}_0"])
        shape = regionprops_table(labels[t], properties=("perimeter",), spacing=(0.5, 0.5))
        np.testing.assert_allclose(found.loc[t * 1.5]["perimeter"], shape["perimeter"])
    alone = tree.ngff.sel(t=0).ngff.measure("cells", "all")
    pd.testing.assert_frame_equal(
        alone, found.loc[0.0].drop(columns="perimeter"), check_index_type=False
    )


def test_axes_in_another_order() -> None:
    labels = np.stack([objects((12, 15), 4, seed) for seed in range(2)])
    array = xr.DataArray(labels, dims=("t", "y", "x"))
    turned = array.transpose("y", "x", "t")
    pd.testing.assert_frame_equal(measure(turned, turned, "all"), measure(array, array, "all"))


# ---- shapes --------------------------------------------------------------------------------------

SHAPES_2D = [
    "eccentricity",
    "solidity",
    "perimeter",
    "perimeter_crofton",
    "axis_major_length",
    "axis_minor_length",
    "area_convex",
    "area_filled",
    "area_bbox",
    "extent",
    "orientation",
    "euler_number",
    "feret_diameter_max",
    "equivalent_diameter_area",
    "inertia_tensor",
    "inertia_tensor_eigvals",
]


def test_shapes_as_scikit_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ngff_xarray.analyse.object_boxes.BLOCK", 2**13)  # objects that are larger
    labels = objects((90, 101), 25)
    found = measure(labelled(labels), labelled(labels, (0.5, 0.5)), properties=SHAPES_2D)
    wanted = regionprops_table(labels, properties=SHAPES_2D, spacing=(0.5, 0.5))
    for name, column in wanted.items():
        np.testing.assert_allclose(found[name], column, rtol=1e-9, atol=1e-9, err_msg=name)
    assert found.attrs["units"]["perimeter"] == "micrometer"
    assert found.attrs["units"]["area_convex"] == "micrometer²"
    assert "solidity" not in found.attrs["units"]


def test_shapes_in_three_dimensions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ngff_xarray.analyse.object_boxes.BLOCK", 2**15)
    labels, scale = objects((14, 30, 33), 9), (2.0, 0.5, 0.25)
    labels[0, 0, 0] = 70  # a pixel has no hull
    names = ["solidity", "axis_major_length", "area_convex", "extent", "euler_number"]
    found = measure(labelled(labels), labelled(labels, scale), properties=["volume", *names])
    with pytest.warns(Warning):  # which ours keeps to itself
        wanted = regionprops_table(labels, properties=names, spacing=scale)
    for name, column in wanted.items():
        np.testing.assert_allclose(found[name], column, rtol=1e-9, err_msg=name)


def test_objects_that_lie_far_apart_are_read_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((64, 64), "u2")
    labels[0, 0], labels[31, 31], labels[20:31, :31], labels[40, 60] = 1, 2, 3, 4
    wanted = measure(labelled(labels), labelled(labels), properties=["extent", "area_filled"])
    monkeypatch.setattr("ngff_xarray.analyse.object_boxes.BLOCK", 12 * 400)  # pixels of a box
    monkeypatch.setattr("ngff_xarray.analyse.measuring.shape_cells", lambda *_: (32, 32))
    found = measure(labelled(labels), labelled(labels), properties=["extent", "area_filled"])
    pd.testing.assert_frame_equal(found, wanted)


@pytest.mark.parametrize("chunks", [(1, 40, 48), (8, 16, 16), (20, 40, 48)])
def test_shapes_read_few_planes_twice(chunks: tuple[int, ...]) -> None:
    """Objects that are deeper than chunks are read together, and not each with all its planes."""
    store = Watched()
    labels = np.zeros((20, 40, 48), "u2")
    for i in range(5):
        for j in range(6):
            labels[2:18, 8 * i + 1 : 8 * i + 7, 8 * j + 1 : 8 * j + 7] = 6 * i + j + 1
    write_into(store, labels, chunks)
    tree = xr.open_datatree(store, engine="ngff")
    store.read.clear()
    found = tree.ngff.measure("cells", properties=["extent", "euler_number"])
    assert len(found) == 30 and found["extent"].eq(1).all()
    reads = chunk_reads(store)
    assert len(reads) <= 2 * len(set(reads))


def test_convex_hulls_as_scikit_image() -> None:
    rng = np.random.default_rng(3)
    for number in range(60):
        shape = tuple(rng.integers(1, 12, 3))
        grid = np.indices(shape, sparse=True)
        middle, radii = rng.uniform(0, shape), rng.uniform(1, 9, 3)
        ball = sum(((g - m) / r) ** 2 for g, m, r in zip(grid, middle, radii, strict=True)) <= 1
        image = [rng.random(shape) < rng.choice([0.05, 0.5, 1]), ball][number % 2]
        if image.any():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what lies in a plane
                wanted = convex_hull_image(image).sum()
            assert convex_pixels(image) == wanted


def test_ellipses_of_an_object_as_large_as_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ngff_xarray.analyse.object_boxes.BLOCK", 2**22)
    shape = (16, 512, 512)
    labels = labelled(np.ones(shape, "u1"))
    names = ["axis_major_length", "inertia_tensor", "extent"]
    options: dict[str, Any] = {"properties": names, "scheduler": "synchronous"}
    measure(labels[:1], labels[:1], **options)  # what is imported
    tracemalloc.start()
    found = measure(labels, labels, block="2 MB", **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    sizes = [(n**2 - 1) / 12 for n in shape]
    np.testing.assert_allclose(found["inertia_tensor-0-0"], sizes[1] + sizes[2], rtol=1e-12)
    assert found["extent"].item() == 1 and (found["inertia_tensor-0-1"] == 0).all()
    assert peak < 50e6  # the indices of all pixels are 101 MB


def test_processes_measure_as_threads_do(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="cyx", labels={"cells": {}})
    tree = xr.open_datatree(path)
    options: dict[str, Any] = {"properties": ["perimeter", "solidity"], "block": {"y": 7}}
    found = tree.ngff.measure("cells", "all", scheduler="processes", workers=1, **options)
    wanted = tree.ngff.measure("cells", "all", scheduler="synchronous", **options)
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)


def test_shapes_that_are_not_known() -> None:
    labels = labelled(objects((9, 9, 9)), (2.0, 1.0, 1.0))
    with pytest.raises(SelectionError, match=r"no 'eccentricity' in 3 dimensions.*solidity"):
        measure(labels, labels, properties="eccentricity")
    line = labels.isel(x=0, y=0)
    assert measure(line, line, properties="extent")["extent"].le(1).all()
    with pytest.raises(SelectionError, match="no 'solidity' in 1 dimensions"):
        measure(line, line, properties="solidity")
    flat = labels.isel(x=0)
    with pytest.raises(UnsupportedError, match="square pixels only, these are of 2 x 1"):
        measure(flat, flat, properties=["perimeter"])


def test_shapes_read_few_chunks_twice() -> None:
    store = Watched()
    write_into(store, objects((300, 300), 60, 3), (32, 32))
    tree = xr.open_datatree(store, engine="ngff")
    tree.ngff.measure("cells")
    once = len(chunk_reads(store))
    assert once == len(set(chunk_reads(store))) == 100
    store.read.clear()
    tree.ngff.measure("cells", properties="extent")
    assert len(chunk_reads(store)) <= 4 * once


# ---- how much is read, and held ------------------------------------------------------------------


def write_into(store: Any, labels: np.ndarray[Any, Any], chunks: tuple[int, ...]) -> None:
    """Write an image that is its own label image into a store."""
    array = labelled(labels)
    array.ngff.to_zarr(store, levels=1, chunks=chunks, progress=False)
    xr.open_datatree(store, engine="ngff").ngff.add_labels("cells", array, chunks=chunks, levels=1)


def chunk_reads(store: Watched) -> list[str]:
    return [key for key in store.read if "/c/" in f"/{key}" and not key.endswith("json")]


def test_chunks_are_read_once() -> None:
    store = Watched()
    labels = objects((256, 256), 30) + 1
    write_into(store, labels, (32, 64))
    tree = xr.open_datatree(store, engine="ngff")
    found = tree.ngff.measure("cells", "all", block=100_000)
    check(found, expected(labels, labels))
    reads = chunk_reads(store)
    assert len(reads) == len(set(reads)) == 2 * 32


def test_nothing_is_read_below_no_labels() -> None:
    store = Watched()
    labels = np.zeros((256, 256), "u2")
    labels[40:50, 40:60] = 3
    write_into(store, labels, (32, 32))
    image = xr.open_datatree(store, engine="ngff")
    store.read.clear()
    image.ngff.measure("cells", "all", block=4096)
    images = [key for key in chunk_reads(store) if "labels" not in key]
    assert 1 <= len(images) <= 4


class _Source:
    """Pixels that are made when they are read, as of a store; counts what is read at a time."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.shape, self.dtype, self.ndim = shape, np.dtype(dtype), len(shape)
        self.most = 0
        self._lock = threading.Lock()

    def __getitem__(self, key: Any) -> Any:
        from xarray.core import indexing

        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[slice, ...]) -> Any:
        z, y, x = (np.arange(n)[k] for k, n in zip(key, self.shape, strict=True))
        numbers = (z // 16)[:, None, None] * 10**6 + (y // 16)[:, None] * 1000 + x // 16
        found: Any = (numbers + 1).astype(self.dtype)
        with self._lock:
            self.most = max(self.most, found.nbytes)
        return found


def lazily(source: _Source) -> xr.DataArray:
    from xarray.backends import BackendArray
    from xarray.core import indexing

    class Lazy(BackendArray):
        shape, dtype = source.shape, source.dtype

        def __getitem__(self, key: Any) -> Any:
            return source[key]

    return xr.DataArray(
        xr.Variable(("z", "y", "x"), indexing.LazilyIndexedArray(Lazy())), name="image"
    )


def test_memory_is_bounded() -> None:
    shape = (32, 512, 1024)  # 67 MB of labels, 34 MB of pixels
    labels, image = _Source(shape, "u4"), _Source(shape, "u2")
    tracemalloc.start()
    found = measure(lazily(image), lazily(labels), "all", block="4 MB", workers=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == math.prod(n // 16 for n in shape)
    assert (found["pixels"] == 16**3).all() and (found["std_0"] == 0).all()
    assert labels.most + image.most <= 4e6
    assert peak < 60e6  # 8 MB of blocks, a table of 4096 rows, what is computed with slabs


# ---- where the table is kept ---------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
@pytest.mark.parametrize("consolidated", [False, True])
def test_to_properties(tmp_path: Path, version: Any, consolidated: bool) -> None:
    said = [{"label-value": 1, "kind": "a"}, {"label-value": 99, "kind": "gone"}]
    path = write_image(
        tmp_path / "a.ome.zarr",
        axes="cyx",
        version=version,
        labels={"cells": {"properties": said}, "others": {}},
        consolidated=consolidated,
    )
    tree = xr.open_datatree(path)
    before = tree.ngff.labels["others"].ngff.properties
    pixels = tree.ngff.labels["cells"].ngff.levels[1].values
    found = tree.ngff.measure("cells", "all", to="properties")
    again = xr.open_datatree(path)
    stored = again.ngff.labels["cells"].ngff.properties
    pd.testing.assert_frame_equal(tree.ngff.labels["cells"].ngff.properties, stored)
    assert tree.ngff.labels["cells"].ngff.colors == again.ngff.labels["cells"].ngff.colors
    assert stored.loc[1, "kind"] == "a" and stored.loc[99, "kind"] == "gone"
    pd.testing.assert_frame_equal(
        stored.loc[found.index, found.columns], found, check_dtype=False, check_index_type=False
    )
    assert again.ngff.labels["cells"].ngff.colors.keys() >= set(found.index)
    assert [i for i in again.ngff.issues if i.severity == "error"] == []
    np.testing.assert_array_equal(again.ngff.labels["cells"].ngff.levels[1].values, pixels)
    pd.testing.assert_frame_equal(again.ngff.labels["others"].ngff.properties, before)


@pytest.mark.parametrize("name", ["cells.csv", "cells.parquet"])
def test_to_a_file(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    labels = labelled(objects((20, 20)))
    path = tmp_path / name
    found = measure(labels, labels, "all", to=path)
    read = pd.read_csv(path, index_col=0) if name.endswith("csv") else pd.read_parquet(path)
    pd.testing.assert_frame_equal(read, found, check_dtype=False)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(StoreError, match=r"there is such a file"):
        measure(labels, labels, to=path)


def test_to_a_url() -> None:
    labels, url = labelled(objects((20, 20))), "memory://measured/cells.csv"
    found = measure(labels, labels, to=url)
    pd.testing.assert_frame_equal(pd.read_csv(url, index_col=0), found, check_dtype=False)
    with pytest.raises(SelectionError, match="there is a file"):
        measure(labels, labels, to=url)


def test_refused_before_anything_is_read(tmp_path: Path) -> None:
    class Unread(_Source):
        def _read(self, key: Any) -> Any:
            raise AssertionError

    labels = lazily(Unread((4, 8, 8), "u4"))
    with pytest.raises(SelectionError, match=r"ends in .csv or .parquet; found .*\.xls"):
        measure(labels, labels, to=tmp_path / "a.xls")
    with pytest.raises(StoreError, match="no such directory"):
        measure(labels, labels, to=tmp_path / "none" / "a.csv")
    with pytest.raises(SelectionError, match="expected the name of a label image in the store"):
        measure(labels, labels, to="properties")
    with pytest.raises(SelectionError, match="no channel 'DAPI'; the channels are 0"):
        measure(labels, labels, "DAPI")
    with pytest.raises(SelectionError, match=r"block: expected pixels along z, y, x"):
        measure(labels, labels, block={"y": 0})
    with pytest.raises(UnitError, match="no number of bytes"):
        measure(labels, labels, block="many")
    with pytest.raises(SelectionError, match="there is no level 3"):
        measure(labels, labels, level=3)
    with pytest.raises(SelectionError, match=r"there is no label image 'nuclei'; there are: none"):
        measure(labels, "nuclei")
    with pytest.raises(UnsupportedError, match=r"the labels have the dtype float64, expected int"):
        measure(labels, labelled(np.zeros((3, 3))))
    with pytest.raises(UnsupportedError, match="evenly spaced"):
        measure(labels, labels.assign_coords(x=[0, 1, 2, 4, 5, 6, 7, 9.0]))
    with pytest.raises(SelectionError, match="no axis z, along which the image has 4 pixels"):
        measure(labels, labels.isel(z=0, drop=True), "all")
    with pytest.raises(SelectionError, match="the labels have 4 pixels along z, an axis that the"):
        measure(labels.isel(z=0), labels, "all")
    with pytest.raises(UnsupportedError, match="2 channels along c: take one of them"):
        measure(labels, xr.DataArray(np.zeros((2, 3, 3), "u1"), dims=("c", "y", "x")))


def test_properties_of_frames_are_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="tyx", labels={"cells": {}})
    with pytest.raises(SelectionError, match="measured in several frames"):
        xr.open_datatree(path).ngff.measure("cells", to="properties")


def test_slice_of_a_volume() -> None:
    image, labels = labelled(RNG.integers(0, 99, (5, 9, 9))), labelled(objects((5, 9, 9)))
    found = measure(image, labels.isel(z=3), "all")
    check(found, expected(labels.values[3], image.values[3]))


def test_missing_chunks_and_damage(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="cyx", labels={"cells": {}})
    tree = xr.open_datatree(path)
    chunk = next(p for p in (path / "0" / "c").rglob("*") if p.is_file())
    chunk.write_bytes(b"nonsense")
    with pytest.raises(StoreError, match="pixels cannot be read"):
        tree.ngff.measure("cells", "all")


# ---- plates, wells and collections ---------------------------------------------------------------


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    return write_plate(tmp_path / "p.ome.zarr", labels={"cells": {}}, missing=["A/2", "B/1/1"])


def test_plate(plate: Path) -> None:
    tree = xr.open_datatree(plate)
    found = tree.ngff.measure("cells", "all", properties="solidity")
    assert found.index.names == ["well", "field", "label-value"]
    fields = found.index.droplevel("label-value").unique().tolist()
    assert fields == [("A/1", "0"), ("A/1", "1"), ("B/1", "0"), ("B/2", "0"), ("B/2", "1")]
    for well, field in fields:
        one = (
            tree.ngff.well(well)
            .ngff.fields[field]
            .ngff.measure("cells", "all", properties="solidity")
        )
        pd.testing.assert_frame_equal(found.loc[well, field], one)
    assert found.attrs["units"]["area"] == "micrometer²"
    assert [issue.partition(":")[0] for issue in found.attrs["issues"]] == ["A/2", "B/1/1"]
    by_field = tree.ngff.measure("cells", by="field", wells=["B2"], fields=1)
    assert by_field.index.names == ["field", "label-value"]
    assert by_field.index.get_level_values("field").unique().tolist() == ["B/2/1"]
    some = tree.ngff.measure("cells", wells=["B/1", "B/2"], fields=[1])
    assert some.index.droplevel("label-value").unique().tolist() == [("B/2", "1")]
    rows = tree.ngff.wells.loc[["A/1"]]
    assert set(tree.ngff.measure("cells", wells=rows).index.get_level_values("well")) == {"A/1"}


def test_well_and_file(plate: Path, tmp_path: Path) -> None:
    well = xr.open_datatree(plate).ngff.well("B/2")
    path = tmp_path / "cells.csv"
    found = well.ngff.measure("cells", "0", to=path)
    assert found.index.names == ["field", "label-value"]
    read = pd.read_csv(path, dtype={"field": str}).set_index(["field", "label-value"])
    pd.testing.assert_frame_equal(read, found, check_dtype=False)


def test_collection(tmp_path: Path) -> None:
    path = write_series(tmp_path / "s.ome.zarr", image={"labels": {"cells": {}}})
    found = xr.open_datatree(path).ngff.measure("cells")
    assert found.index.names == ["image", "label-value"]
    assert found.index.get_level_values("image").nunique() > 1


def test_plate_without_the_labels(plate: Path) -> None:
    tree = xr.open_datatree(plate)
    with pytest.raises(
        SelectionError, match=r"none of the images has a label image 'nuclei'.*cell"
    ):
        tree.ngff.measure("nuclei")
    with pytest.raises(SelectionError, match="there is no well 'C/1'"):
        tree.ngff.measure("cells", wells=["C/1"])
    with pytest.raises(SelectionError, match="by: expected 'well' or 'field', found 'plate'"):
        tree.ngff.measure("cells", by="plate")
    with pytest.raises(SelectionError, match="is for one image"):
        tree.ngff.measure("cells", to="properties")


def test_damaged_field_is_named(plate: Path) -> None:
    chunk = next(p for p in (plate / "B/2/1/labels/cells/0").rglob("0") if p.is_file())
    chunk.write_bytes(b"nonsense")
    with pytest.raises(StoreError) as caught:
        xr.open_datatree(plate).ngff.measure("cells")
    assert caught.value.__notes__ == ["while measuring B/2/1"]


def test_typed_door(plate: Path) -> None:
    assert callable(ngff(xr.open_datatree(plate)).measure)
