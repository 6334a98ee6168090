"""Patches: where they lie, what they hold, in which order they are read; and the way back."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import tracemalloc
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from servers import CountingServer

from ngff_xarray import stitch_patches
from ngff_xarray.analyse.applying import apply
from ngff_xarray.analyse.patch_sequence import Patches
from ngff_xarray.analyse.patches import patches
from ngff_xarray.errors import (
    BlockError,
    NgffError,
    SelectionError,
    StoreError,
    UnitError,
    UnsupportedError,
)

PLANE = {"y": "16 px", "x": "16 px"}


def image(shape: tuple[int, ...] = (2, 5, 50, 61), dims: str = "czyx") -> xr.DataArray:
    space = {"units": "micrometer", "axis_type": "space"}
    steps = {"z": 2.0, "y": 0.5, "x": 0.5}
    coords: dict[str, Any] = {
        dim: xr.Variable(dim, steps[dim] * np.arange(n) + 3, space)
        for dim, n in zip(dims, shape, strict=True)
        if dim in steps
    }
    if "c" in dims:
        names = ["DAPI", "GFP", "RFP"][: shape[dims.index("c")]]
        coords["c"] = xr.Variable("c", names, {"axis_type": "channel"})
    values = np.random.default_rng(1).integers(0, 60000, shape, "u2")
    return xr.DataArray(values, dims=tuple(dims), coords=coords)


def objects() -> xr.DataArray:
    """Objects in a corner of an image, in pixels of twice the size."""
    whole = image().isel(c=0, drop=True).coarsen(y=2, x=2, boundary="trim").mean().astype("u4")
    values = np.zeros(whole.shape, "u4")
    values[1:3, 2:9, 3:7] = 4
    values[3:, 12:14, 20:24] = 9
    return whole.copy(data=values)


def written(path: Path) -> xr.DataTree:
    image().ngff.to_zarr(path, chunks={"z": 2, "y": 16, "x": 16}, levels=3)
    return xr.open_datatree(path).ngff.add_labels("nuclei", objects())


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    """An image that no test changes."""
    return written(tmp_path_factory.mktemp("patches") / "image.ome.zarr")


# ---- where they lie, and what they hold --------------------------------------------------------


def test_patches_of_planes_and_cubes(tree: xr.DataTree) -> None:
    flat = tree.ngff.patches(PLANE, level=0)
    assert (flat.dims, flat.shape, len(flat)) == (("c", "y", "x"), (2, 16, 16), 5 * 4 * 4)
    solid = tree.ngff.patches("4 µm", level=0)
    assert (solid.dims, solid.shape) == (("c", "z", "y", "x"), (2, 2, 8, 8))
    whole = tree.ngff.patches({"z": None, **PLANE}, channels="GFP")
    assert (whole.dims, whole.shape, len(whole)) == (("z", "y", "x"), (5, 16, 16), 16)
    assert repr(whole) == "<Patches: 16 of z: 5, y: 16, x: 16>"


@pytest.mark.parametrize("size", [PLANE, "6 µm", {"z": "3 px", "x": "20 px", "y": None}])
@pytest.mark.parametrize("pad", [None, "reflect", "constant"])
def test_a_patch_is_what_its_region_selects(tree: xr.DataTree, size: Any, pad: Any) -> None:
    level = tree.ngff.level(0)
    seen = np.zeros(level.shape, int)
    for patch in tree.ngff.patches(size, overlap=0.1, pad=pad):
        there = level.ngff.sel(**patch.region)
        array = patch.array
        if pad is None:
            assert array.identical(there) or array.equals(there)
            assert array.equals(level.isel(patch.box))
        same = {d: there[d] for d in there.dims if d != "c"}
        assert np.array_equal(array.sel(same).transpose(*there.dims), there)
        assert array.shape == patch["image"].shape
        inside = {
            d: slice(max(0, s.start), s.stop) if isinstance(s, slice) else s
            for d, s in patch.box.items()
        }
        seen[tuple(inside.get(d, slice(None)) for d in level.dims)] += 1
    assert (seen > 0).all()


def test_what_is_beyond_the_ends() -> None:
    array = image((10, 9), "yx")
    for pad, mode in (("reflect", "symmetric"), ("constant", "constant")):
        found = patches(array, "8 px", pad=pad)
        assert [patch.start for patch in found] == [(0, 0), (0, 8), (8, 0), (8, 8)]
        whole = np.pad(array.values, [(0, 6), (0, 7)], mode=mode)  # type: ignore[call-overload]
        assert np.array_equal(found[3].pixels, whole[8:, 8:])
        assert found[3].array.x.values[-1] == 3 + 0.5 * 15
    assert patches(array, "12 px", pad="reflect")[0].pixels.shape == (12, 12)
    assert [patch.start for patch in patches(array, "8 px")][-1] == (2, 1)


def test_patches_of_cropped_computed_and_reversed_images(tree: xr.DataTree) -> None:
    level = tree.ngff.level(0)
    for part in (
        tree.ngff.sel(x=slice(6, 25), y=slice(9, 21), c="GFP"),
        level.isel(x=slice(None, None, -1), c=[1]),
        level.chunk({"z": 3, "y": 20, "x": 20, "c": 2}),
        level.load() * 2,
        level.drop_vars(["y", "x"]),
    ):
        array = part.ngff.level(0)
        for patch in part.ngff.patches(PLANE, overlap="2 px")[::3]:
            assert np.array_equal(patch.pixels, array.isel(patch.box))
            assert np.array_equal(array.ngff.sel(**patch.region), patch.array)


def test_the_reader_gives_pixels_that_are_ones_own() -> None:
    array = image((20, 20), "yx")
    before = array.values.copy()
    swapped = array.astype(">u2")
    for given_array in (array, swapped):
        pixels = patches(given_array, "8 px")[0].pixels
        assert pixels.flags.owndata and pixels.flags.writeable and pixels.dtype == np.dtype("=u2")
        pixels += 1
    assert np.array_equal(array, before)


def test_apply_takes_a_channel_of_a_stored_image(tree: xr.DataTree) -> None:
    """An axis that was selected is no axis of the chunks."""
    found = apply(tree, lambda block: block + 1, channels="GFP", scheduler="synchronous")
    assert np.array_equal(found.compute(), tree.ngff.level(0).sel(c="GFP") + 1)


# ---- labels ------------------------------------------------------------------------------------


def test_labels_of_another_pixel_size_lie_below_the_patches(tree: xr.DataTree) -> None:
    stored = tree.ngff.labels["nuclei"].ngff.level(0)
    found = 0
    for pad in (None, "constant"):
        for patch in tree.ngff.patches(PLANE, labels="nuclei", pad=pad):
            labels = patch.labels
            assert labels.dims == ("y", "x") and labels.dtype == np.uint32
            here = labels.sel(y=slice(None, 3 + 0.5 * 49), x=slice(None, 3 + 0.5 * 59))
            wanted = stored.sel(z=float(labels.z)).sel(y=here.y, x=here.x, method="nearest")
            assert np.array_equal(here, wanted)
            found += int(labels.values.any())
            assert np.array_equal(patch["labels"], labels) and list(patch) == [
                "image",
                "labels",
                "number",
            ]
    assert found > 4
    by_name = tree.ngff.patches("5 µm", labels=["nuclei"], level=1)[0]
    assert by_name.labels["nuclei"].shape == by_name["labels"]["nuclei"].shape
    assert by_name.labels["nuclei"].dims == ("z", "y", "x")


def test_labels_of_the_level_that_fits(tree: xr.DataTree) -> None:
    coarse = tree.ngff.labels["nuclei"].ngff.level(1)
    size = {"z": None, "y": None, "x": None}
    patch = tree.ngff.patches(size, labels="nuclei", level=2)[0]
    labels = patch.labels
    assert labels.shape == (5, 13, 16) and labels.values.any()
    assert np.array_equal(labels, coarse.sel(y=labels.y, x=labels.x, method="nearest"))


# ---- which patches -----------------------------------------------------------------------------


def test_patches_where_a_mask_is_set(tree: xr.DataTree) -> None:
    fine = image().isel(c=0, drop=True)
    mask = (fine.x > 20) & (fine.y > 17.3)
    plain = list(tree.ngff.patches(PLANE, channels="GFP").sorted())[::3]
    for given_mask in (mask[::2, ::3], mask[::-1], mask & (fine.z < 6)):
        covered = [_covered(given_mask, patch.region) for patch in plain]
        assert 0 < sum(each > 0 for each in covered) < len(covered)
        for share in (0.0, 0.3, 1.0):
            kept = {p.start for p in tree.ngff.patches(PLANE, where=given_mask, share=share)}
            for patch, each in zip(plain, covered, strict=True):
                wanted = each > 1e-6 if share == 0 else each > share - 1e-6
                assert (patch.start in kept) == wanted, (patch, each, share)


def _covered(mask: xr.DataArray, region: dict[str, Any]) -> float:
    """Return how much of a region is set, pixel by pixel."""
    if "z" in mask.dims:
        mask = mask.sel(z=region["z"])
    total = mask.astype("f8")
    for dim in ("y", "x"):
        step = abs(float(mask[dim][1] - mask[dim][0]))
        low, high = mask[dim] - step / 2, mask[dim] + step / 2
        side = region[dim]
        both = (np.minimum(high, side.stop) - np.maximum(low, side.start)).clip(0)
        total = total * both / (side.stop - side.start)
    return float(total.sum())


def test_patches_where_a_label_image_has_objects(tree: xr.DataTree) -> None:
    kept = {patch.start for patch in tree.ngff.patches(PLANE, where="nuclei")}
    every = tree.ngff.patches(PLANE, labels="nuclei")
    assert kept == {patch.start for patch in every if patch["labels"].any()}
    assert 0 < len(kept) < len(every)


def test_patches_around_what_was_measured(tree: xr.DataTree) -> None:
    table = tree.ngff.measure("nuclei")
    found = tree.ngff.patches({"z": "3 px", **PLANE}, where=table, labels="nuclei")
    assert [patch.number for patch in found] == [0, 1]
    for patch, (label, row) in zip(found, table.iterrows(), strict=True):
        assert label in patch["labels"]
        for dim in "zyx":
            assert patch.region[dim].start < row[f"centroid_{dim}"] < patch.region[dim].stop
    points = pd.DataFrame({"z": [5.0], "y": [7.0], "x": [20.1]})
    points.attrs["units"] = {"x": "micrometer", "y": "micrometer"}
    assert tree.ngff.patches(PLANE, where=points)[0].start == (1, 0, 26)
    assert tree.ngff.patches(PLANE, where=points, pad="reflect")[0].start == (1, 0, 26)
    points["x"] = 3.2
    assert tree.ngff.patches(PLANE, where=points, pad="reflect")[0].start == (1, 0, -8)
    points["x"], points.attrs["units"] = 0.0201, {"x": "millimeter"}
    assert tree.ngff.patches(PLANE, where=points)[0].start == (1, 0, 26)


# ---- a sequence, shuffled, in other processes --------------------------------------------------


def test_patches_are_a_sequence(tree: xr.DataTree) -> None:
    found = tree.ngff.patches(PLANE)
    assert [patch.number for patch in found[3:9:2]] == [3, 5, 7]
    assert found[-1].number == len(found) - 1 == found[np.int64(-1)].number
    assert len(found[len(found) :]) == 0 and not list(found[:0])
    with pytest.raises(IndexError):
        found[len(found)]
    assert [patch.start for patch in reversed(found[:2])] == [found[1].start, found[0].start]


def test_a_seed_gives_one_order(tree: xr.DataTree) -> None:
    plain = tree.ngff.patches(PLANE)
    one, same = (tree.ngff.patches(PLANE, shuffle=3, memory="30 kB") for _ in range(2))
    assert one.numbers.tolist() == same.numbers.tolist() != plain.numbers.tolist()
    assert sorted(one.numbers) == plain.numbers.tolist()
    assert one.numbers.tolist() != one.shuffled(4).numbers.tolist()
    assert [patch.number for patch in one] == one.numbers.tolist()
    assert sorted(one[:7].shuffled(1).numbers) == sorted(one[:7].numbers)
    assert one.sorted().numbers.tolist() == plain.numbers.tolist()
    assert np.array_equal(one[5].pixels, plain[one[5].number].pixels)


def _reads(server: CountingServer) -> Counter[str]:
    return Counter(r.path for r in server.requests if re.search(r"/0/c(/\d+)+$", r.path))


@pytest.mark.parametrize("shuffle", [None, 0])
def test_chunks_are_read_few_times(server: CountingServer, tmp_path: Path, shuffle: Any) -> None:
    array = image((8, 64, 64), "zyx")
    pixels = array.values
    array.ngff.to_zarr(tmp_path / "big.ome.zarr", chunks={"z": 4, "y": 16, "x": 16}, levels=1)
    opened = xr.open_datatree(f"{server.url}/big.ome.zarr")
    chunk, count = 4 * 16 * 16 * 2, 2 * 4 * 4
    # aligned patches lie in one chunk each, 16 of them in a chunk of 4 planes
    aligned = opened.ngff.patches({"y": "8 px", "x": "8 px"}, shuffle=shuffle, memory=16 * chunk)
    for patch in aligned:
        assert np.array_equal(patch.pixels, pixels[tuple(patch.box.values())])
    reads = _reads(server)
    assert len(aligned) == 16 * count and sum(reads.values()) == len(reads) == count
    # others lie in up to four, which neighbouring groups read again
    server.requests.clear()
    size = {"y": "11 px", "x": "11 px"}
    across = opened.ngff.patches(size, shuffle=shuffle, memory=20 * chunk, overlap="2 px")
    for patch in across:
        assert np.array_equal(patch.pixels, pixels[tuple(patch.box.values())])
    reads = _reads(server)
    few = sum(reads.values())
    assert len(reads) == count and few < 2.5 * count
    # an order that does not know of chunks reads more of them for half of the patches
    server.requests.clear()
    for i in np.random.default_rng(0).permutation(len(across))[: len(across) // 2]:
        across[int(i)]
    assert sum(_reads(server).values()) > 1.5 * few


def test_a_part_of_an_image_is_read_in_the_chunks_of_the_store(
    server: CountingServer, tmp_path: Path
) -> None:
    image((64, 64), "yx").ngff.to_zarr(tmp_path / "a.ome.zarr", chunks={"y": 16, "x": 16}, levels=1)
    part = xr.open_datatree(f"{server.url}/a.ome.zarr").ngff.sel(y=slice(6, 30), x=slice(8, 33))
    assert len(list(part.ngff.patches("8 px"))) > 20
    reads = _reads(server)
    assert set(reads.values()) == {1} and len(reads) == 16


def test_an_iterator_that_is_dropped_ends_its_threads(tree: xr.DataTree) -> None:
    def alive() -> int:
        return sum(thread.name.startswith("ngff-patches") for thread in threading.enumerate())

    found = tree.ngff.patches(PLANE, prefetch=8)
    iterator = iter(found)
    next(iterator)
    assert 0 < alive() <= 8
    del iterator
    gc.collect()
    assert alive() == 0
    assert sum(1 for _ in found) == len(found) and alive() == 0
    assert [patch.number for patch in tree.ngff.patches(PLANE, prefetch=0)[:3]] == [0, 1, 2]


def test_an_error_of_the_store_is_raised_where_it_is_and_not_kept(tmp_path: Path) -> None:
    tree = written(tmp_path / "image.ome.zarr")
    store = Path(tree.encoding["source"])
    chunk = store / "0" / "c" / "0" / "0" / "0" / "0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-3])
    found = tree.ngff.patches(PLANE)
    with pytest.raises(NgffError):
        list(found)
    chunk.write_bytes(whole)
    assert np.array_equal(found[0].pixels, tree.ngff.level(0).isel(found[0].box))


def _sums(found: Patches, numbers: list[int]) -> list[tuple[int, int, int]]:
    every = [found[i] for i in numbers]
    return [(p.number, int(p["image"].sum()), int(p["labels"].sum())) for p in every]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_processes_open_the_store_by_themselves(tree: xr.DataTree, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this platform")
    found = tree.ngff.patches(PLANE, labels="nuclei", shuffle=1)
    numbers = list(range(0, len(found), 9))
    here = _sums(found, numbers)
    if method == "fork":
        assert _forked(found, numbers) == here
        return
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(_sums, (found, numbers)) == here
    again = pickle.loads(pickle.dumps(found[2]))
    assert again.region == found[2].region and again.array.equals(found[2].array)


def _forked(found: Patches, numbers: list[int]) -> Any:
    """Return what a forked process finds: it must not wait for threads that it does not have."""
    receiver, sender = os.pipe()
    with warnings.catch_warnings():  # Python warns of forking while there are threads
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.write(sender, pickle.dumps(_sums(found, numbers)))
        finally:
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver, "rb") as file:
        content = file.read()
    os.waitpid(child, 0)
    return pickle.loads(content)


# ---- the way back ------------------------------------------------------------------------------


@settings(max_examples=12)
@given(data=st.data())
def test_what_is_the_same_stays_what_it_is(data: st.DataObject) -> None:
    """Weights sum to one, at the ends too: to the last bit."""
    shape = data.draw(st.tuples(*[st.integers(5, 23)] * data.draw(st.integers(2, 3))))
    size = tuple(data.draw(st.integers(2, n)) for n in shape)
    dims = "zyx"[-len(shape) :]
    overlap = {d: f"{data.draw(st.integers(0, n - 1))} px" for d, n in zip(dims, size, strict=True)}
    pad = data.draw(st.sampled_from([None, "reflect"]))
    array = image(shape, dims).astype("f4") / np.float32(7)
    lengths = {d: f"{n} px" for d, n in zip(dims, size, strict=True)}
    found = patches(array, lengths, overlap=overlap, pad=pad)
    order = data.draw(st.permutations(range(len(found))))
    blend = data.draw(st.sampled_from(["linear", "gaussian", "mean", "max", "nearest"]))
    chunks = {d: data.draw(st.integers(1, n)) for d, n in zip(dims, shape, strict=True)}
    back = stitch_patches(
        ((found[i], found[i].pixels) for i in order), found, blend=blend, chunks=chunks
    )
    assert back.dtype == np.float32 and np.array_equal(back, array)
    assert back.coords.equals(array.coords)
    constant = stitch_patches(((i, np.full(size, 0.1)) for i in order), found, blend=blend)
    assert (constant == 0.1).all()


@pytest.mark.parametrize("blend", ["linear", "gaussian", "mean", "max"])
def test_a_blend_is_the_weighted_mean(blend: Any) -> None:
    array = image((11, 14), "yx")
    found = patches(array, {"y": "6 px", "x": "5 px"}, overlap={"y": "2 px", "x": "3 px"})
    rng = np.random.default_rng(0)
    predictions = [rng.random((6, 5)) for _ in found]
    i, j = np.arange(6)[:, None], np.arange(5)[None]
    weights = {
        "mean": np.ones((6, 5)),
        "max": np.ones((6, 5)),
        "linear": (3 - abs(i - 2.5)) * (2.5 - abs(j - 2)),
        "gaussian": np.exp(-(((i - 2.5) / 6) ** 2 + ((j - 2) / 5) ** 2) * 32),
    }[blend]
    total, sums = np.zeros(array.shape), np.zeros(array.shape)
    largest = np.zeros(array.shape)
    for patch, prediction in zip(found, predictions, strict=True):
        where = tuple(patch.box.values())
        total[where] += weights * prediction
        sums[where] += weights
        largest[where] = np.maximum(largest[where], prediction)
    back = stitch_patches(enumerate(predictions), found, blend=blend)
    np.testing.assert_allclose(back, largest if blend == "max" else total / sums, rtol=1e-12)
    shuffled = list(enumerate(predictions))[::-1]
    np.testing.assert_allclose(stitch_patches(shuffled, found, blend=blend), back, rtol=1e-12)


def test_classes_are_of_the_nearest_patch_whatever_the_order() -> None:
    array = image((40, 37), "yx")
    found = patches(array, "10 px", overlap="4 px")
    predictions = [(i, np.full((10, 10), i, "u1")) for i in range(len(found))]
    back = stitch_patches(predictions, found)
    assert back.dtype == np.uint8 and back.equals(stitch_patches(predictions[::-1], found))
    centre = [[s.start + 4.5 for s in patch.box.values()] for patch in found]
    for (y, x), number in np.ndenumerate(back.values):
        reach = [max(abs(y - cy), abs(x - cx)) for cy, cx in centre]
        assert reach[number] < 5  # of a patch that has it
        if sum(r < 5 for r in reach) == 1:
            assert number == int(np.argmin(reach))
    rounded = stitch_patches(predictions, found, blend="mean")
    assert rounded.dtype == np.uint8 and rounded.values[0, 7] in (0, 1)


def test_class_scores_become_a_label_image(tmp_path: Path) -> None:
    tree = written(tmp_path / "image.ome.zarr")
    level = tree.ngff.level(0)
    found = tree.ngff.patches(PLANE, overlap=0.25, shuffle=2)

    def scores(batch: NDArray[Any]) -> NDArray[Any]:
        assert batch.shape[1:] == (2, 16, 16)
        plane = batch[:, 0] / 60000
        return np.stack([plane * 0 + 0.3, plane, 1 - plane], axis=1)

    wanted = np.argmax(
        np.stack([level[0] * 0 + 0.3, level[0] / 60000, 1 - level[0] / 60000]), axis=0
    )
    new = stitch_patches(scores, found, to="labels/classes", argmax=True, chunks={"y": 20, "x": 30})
    label = new.ngff.labels["classes"]
    assert np.array_equal(label.ngff.level(0), wanted)
    assert label.ngff.level(0).encoding["chunks"][-2:] == (20, 30)
    said = label.ngff.provenance
    assert said["function"].endswith("scores") and said["settings"]["argmax"] is True
    plain = stitch_patches(scores, found, channels=["none", "bright", "dark"])
    assert plain.dims == ("c", "z", "y", "x") and plain.c.values.tolist()[1] == "bright"
    assert np.array_equal(plain.argmax("c"), wanted)
    with pytest.raises(StoreError, match="classes"):
        stitch_patches(lambda _: pytest.fail("it is called"), found, to="labels/classes")


def test_predictions_become_a_new_image(tree: xr.DataTree, tmp_path: Path) -> None:
    found = tree.ngff.patches("5 µm", overlap=0.5, channels="GFP")
    target = tmp_path / "new.ome.zarr"
    new = stitch_patches(lambda batch: batch.astype("f4") / 3, found, to=target)
    wanted = tree.ngff.level(0).sel(c="GFP").astype("f4") / np.float32(3)
    assert np.array_equal(new.ngff.level(0), wanted)
    assert new.ngff.pixel_size["x"].magnitude == 0.5 and len(new.ngff.levels) >= 1
    with pytest.raises(StoreError, match="something already"):
        stitch_patches(lambda batch: batch, found, to=target)
    memory = zarr.storage.MemoryStore()
    two = ((patch, np.stack([patch.pixels] * 2)) for patch in found)
    stitch_patches(two, found, to=memory, levels=1)
    both = zarr.open_group(memory, mode="r")["0"]
    assert both.shape == (2, 5, 50, 61) and np.array_equal(
        both[1], wanted.values * 3 // 1 * 0 + (tree.ngff.level(0).sel(c="GFP").values)
    )


def test_what_no_patch_covers_is_filled(tree: xr.DataTree) -> None:
    mask = image().isel(c=0, z=0, drop=True).x > 25
    found = tree.ngff.patches(PLANE, where=mask, channels="DAPI", level=0)
    back = stitch_patches(lambda batch: batch * 1.0, found, fill=np.nan)
    has = ~np.isnan(back)
    assert has.any() and not has.all()
    level = tree.ngff.level(0).sel(c="DAPI")
    assert np.array_equal(back.values[has], level.values[has])


def test_what_no_patch_covers_is_filled_in_classes_too(tree: xr.DataTree) -> None:
    mask = image().isel(c=0, z=0, drop=True).x > 25
    found = tree.ngff.patches(PLANE, where=mask, level=0)
    covered = np.zeros((5, 50, 61), bool)
    for patch in found:
        covered[tuple(side for dim, side in patch.box.items() if dim != "c")] = True
    back = stitch_patches(lambda batch: batch / 2, found, argmax=True, fill=255)
    assert back.dtype == np.uint8 and ((back == 255) == ~covered).all()
    for fill, blend in ((np.nan, "nearest"), (70_000, "nearest"), (-1, "mean"), (0.5, "max")):
        with pytest.raises(SelectionError, match=r"fill=.*: expected a number that uint16 holds"):
            stitch_patches(lambda batch: batch, found, fill=fill, blend=blend)


@pytest.mark.parametrize("order", [1, -1])
def test_values_that_are_no_numbers_do_not_depend_on_the_order(order: int) -> None:
    found = patches(image((1, 9), "yx"), {"y": "1 px", "x": "6 px"}, overlap="3 px")
    one, other = np.full((1, 6), 2.0), np.full((1, 6), 5.0)
    one[0, 3], other[0, 1], one[0, 5], other[0, 2] = np.nan, -np.inf, np.inf, np.inf
    pairs = list(enumerate((one, other)))[::order]
    assert stitch_patches(pairs, found, blend="max").values[0, 3:6].tolist() == [5, 2, np.inf]
    blended = stitch_patches(pairs, found, blend="mean").values[0, 3:6].tolist()
    assert np.isnan(blended[0]) and blended[1:] == [-np.inf, np.inf]


# ---- stopped on the way ------------------------------------------------------------------------

KILLED = """
import sys
sys.path.insert(0, {tests!r})
from test_patches import PLANE, above, stitched
import xarray as xr
stitched(xr.open_datatree({source!r}), {to!r})
"""


def above(batch: NDArray[Any]) -> NDArray[Any]:
    """Return a prediction; die after some, if that is told."""
    seen = Path(os.environ["NGFF_TEST_SEEN"])
    seen.write_text(seen.read_text() + "x" * len(batch))
    if len(seen.read_text()) > int(os.environ.get("NGFF_TEST_MOST", 10**6)):
        os.kill(os.getpid(), signal.SIGKILL)
    return (batch > 30000).astype("u1")


def stitched(tree: xr.DataTree, to: Any) -> Any:
    found = tree.ngff.patches(PLANE, overlap=0.25, channels="DAPI", prefetch=0)
    return stitch_patches(above, found, to=to, batch_size=3, blend="mean")


@pytest.mark.parametrize("is_label", [True, False])
def test_whoever_was_killed_goes_on(
    tmp_path: Path, is_label: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = written(tmp_path / "image.ome.zarr")
    seen, root = tmp_path / "seen", Path(tree.encoding["source"])
    to = "labels/bright" if is_label else str(tmp_path / "new.ome.zarr")
    seen.write_text("")
    monkeypatch.setenv("NGFF_TEST_SEEN", str(seen))
    wanted = stitched(tree, None)
    every = len(seen.read_text())
    seen.write_text("")
    script = KILLED.format(tests=str(Path(__file__).parent), source=str(root), to=to)
    environment = {**os.environ, "NGFF_TEST_MOST": str(every // 2)}
    process = subprocess.run([sys.executable, "-c", script], env=environment)
    assert process.returncode == -signal.SIGKILL
    beside = root if is_label else tmp_path
    assert list(beside.glob("*ngff_xarray-apply*/records/*"))
    seen.write_text("")
    if is_label:
        found = stitched(xr.open_datatree(root), to).ngff.labels["bright"].ngff.level(0)
    else:
        found = stitched(xr.open_datatree(root), to).ngff.level(0)
    assert 0 < len(seen.read_text()) < 0.75 * every
    assert np.array_equal(found, wanted)
    assert not list(beside.glob("*ngff_xarray-apply*"))


def test_another_function_or_other_patches_start_over(tmp_path: Path) -> None:
    tree = written(tmp_path / "image.ome.zarr")
    found = tree.ngff.patches(PLANE, channels="DAPI")
    root, calls = Path(tree.encoding["source"]), []

    def fails(batch: NDArray[Any]) -> NDArray[Any]:
        calls.append(len(batch))
        return batch // (len(calls) < 5)

    for again in (found[:-1], found):
        with pytest.raises(BlockError, match="FloatingPointError"), np.errstate(divide="raise"):
            stitch_patches(lambda batch: fails(batch) * 1 // 1, again, to="labels/a")
        calls.clear()
    back = stitch_patches(lambda batch: batch, found, to="labels/a")
    assert np.array_equal(back.ngff.labels["a"].ngff.level(0), tree.ngff.level(0).sel(c="DAPI"))
    assert not list(root.glob(".ngff_*"))


@pytest.mark.slow
def test_memory_grows_with_a_band_and_not_with_the_image() -> None:
    def peak(n: int) -> int:
        array = xr.DataArray(np.broadcast_to(np.float32(1), (n, 512)), dims=("y", "x"))
        found = patches(array, "64 px", overlap=0.5, prefetch=0)
        predictions = ((patch.number, patch.pixels) for patch in found)
        tracemalloc.start()
        try:
            back = stitch_patches(predictions, found, chunks={"y": 64, "x": 64})
            return tracemalloc.get_traced_memory()[1] - back.nbytes
        finally:
            tracemalloc.stop()

    peak(256)  # what is imported and kept once
    small, large = peak(512), peak(2048)
    assert large - small < 0.1 * (2048 - 512) * 512 * 4


# ---- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        ("60 px", {}, "60 pixels along z are more than the 5"),
        ({"y": "100 px"}, {}, "100 pixels along y are more than the 50"),
        ({"q": "8 px"}, {}, "no axis 'q'"),
        (None, {}, "expected a length"),
        ({}, {}, "expected a length"),
        ("0 px", {}, "at least one pixel"),
        (PLANE, {"overlap": "16 px"}, "not less than the 16"),
        (PLANE, {"overlap": 1}, "expected a share"),
        (PLANE, {"overlap": -0.1}, "expected a share"),
        (PLANE, {"overlap": {"z": 0.5}}, "no size along 'z'"),
        (PLANE, {"channels": "Cy5"}, "Cy5"),
        (PLANE, {"level": 9}, "no level 9"),
        (PLANE, {"labels": "cells"}, "no label image 'cells'"),
        (PLANE, {"where": "cells"}, "no label image 'cells'"),
        (PLANE, {"where": [1]}, "a mask as a DataArray"),
        (PLANE, {"where": image().isel(c=0, drop=True) < 0}, "no patch is left"),
        (PLANE, {"where": "nuclei", "share": 0.99}, "give a smaller share"),
        (PLANE, {"where": pd.DataFrame({"x": [3.0], "y": [3.0]})}, "no column z or centroid_z"),
        (PLANE, {"where": pd.DataFrame({"x": [3], "y": [99], "z": [3]})}, "row 0 has y 99"),
        (PLANE, {"where": pd.DataFrame({"x": [], "y": [], "z": []})}, "no rows"),
        (PLANE, {"where": pd.DataFrame({"x": [3]}), "overlap": 0.1}, "leave it out"),
        (PLANE, {"where": (image() > 3)}, "axis 'c'"),
        (PLANE, {"share": 2}, "share"),
        (PLANE, {"share": "half"}, "share"),
        (PLANE, {"pad": "wrap"}, "'reflect', 'constant'"),
        (PLANE, {"shuffle": True}, "expected a seed"),
        (PLANE, {"prefetch": -1}, "prefetch"),
    ],
)
def test_what_makes_no_sense(
    tree: xr.DataTree, size: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SelectionError, match=re.escape(message)):
        tree.ngff.patches(size, **options)


def test_other_errors(tree: xr.DataTree) -> None:
    with pytest.raises(UnsupportedError, match="expected booleans"):
        tree.ngff.patches(PLANE, where=image().isel(c=0))
    with pytest.raises(UnitError):
        tree.ngff.patches("3 lightyears and a half")
    with pytest.raises(UnitError):
        tree.ngff.patches(PLANE, memory="lots")


def test_predictions_that_do_not_fit() -> None:
    array = image((30, 30), "yx")
    found = patches(array, "10 px", overlap=0.2)
    good = [(i, found[i].pixels) for i in range(len(found))]
    with pytest.raises(SelectionError, match="none for 2 of 16 patches: 3, 7"):
        stitch_patches([pair for pair in good if pair[0] not in (3, 7)], found)
    with pytest.raises(SelectionError, match="none for 16 of 16"):
        stitch_patches([], found)
    with pytest.raises(SelectionError, match="two for patch 2"):
        stitch_patches([*good[:3], good[2]], found)
    with pytest.raises(SelectionError, match="99 is none of these"):
        stitch_patches([(99, good[0][1])], found)
    with pytest.raises(SelectionError, match="is none of these 3"):
        stitch_patches(good, found[:3])
    with pytest.raises(SelectionError, match="pairs"):
        stitch_patches([good[0][1]], found)
    with pytest.raises(BlockError, match=r"patch 1: .*\(9, 10\)") as raised:
        stitch_patches([good[0], (1, good[1][1][1:])], found)
    assert raised.value.region == found[1].region
    with pytest.raises(BlockError, match="the first one had uint16"):
        stitch_patches([good[0], (1, good[1][1] * 1.0)], found)
    with pytest.raises(UnsupportedError, match="expected numbers"):
        stitch_patches([(0, np.full((10, 10), "a"))], found)
    with pytest.raises(BlockError, match=r"patches 0, 1.*ZeroDivisionError"):
        stitch_patches(lambda batch: 1 / 0, found, batch_size=2)
    with pytest.raises(BlockError, match="returned 3, expected a prediction for each of 8"):
        stitch_patches(lambda batch: batch[:3], found)
    with pytest.raises(SelectionError, match="no channels to choose from"):
        stitch_patches(good, found, argmax=True)
    with pytest.raises(SelectionError, match="2 names"):
        stitch_patches(good, found, channels=["a", "b"])
    with pytest.raises(SelectionError, match="do not know the store"):
        stitch_patches(good, found, to="labels/a")
    with pytest.raises(SelectionError, match="blend"):
        stitch_patches(good, found, blend="soft")  # type: ignore[arg-type]


def test_labels_are_integers(tree: xr.DataTree) -> None:
    found = tree.ngff.patches(PLANE)
    with pytest.raises(UnsupportedError, match="argmax=True"):
        stitch_patches(lambda batch: batch / 2, found, to="labels/a")
    assert list(tree.ngff.labels) == ["nuclei"]
