"""Objects of blocks become those of the whole: which are one, and what they are called."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from ngff_xarray.analyse.applying import apply
from ngff_xarray.analyse.stitching import Numbering, numbered, same


def image(pixels: NDArray[Any], step: float = 1.0) -> xr.DataArray:
    dims = "tzyx"[4 - pixels.ndim :]
    coords = {
        dim: xr.Variable(dim, step * np.arange(n), {"units": "micrometer", "axis_type": "space"})
        for dim, n in zip(dims, pixels.shape, strict=True)
    }
    return xr.DataArray(pixels, dims=tuple(dims), coords=coords)


def noise(shape: tuple[int, ...], share: float, seed: int, smooth: float = 0.0) -> NDArray[np.bool]:
    """Return a random mask of which a share is set."""
    values = np.random.default_rng(seed).random(shape)
    if smooth:
        values = ndimage.gaussian_filter(values, smooth)
    return values < np.quantile(values, share)


def label(block: xr.DataArray, connectivity: int = 1) -> NDArray[Any]:
    structure = ndimage.generate_binary_structure(block.ndim, connectivity)
    return ndimage.label(block.values, structure)[0]


def are_same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Tell whether two label images have the same objects, whatever these are called."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    alone = [np.unique(row).size == row.size for row in pairs]
    return all(alone) and bool(np.array_equal(one == 0, other == 0))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize(("share", "smooth"), [(0.4, 0), (0.59, 0), (0.65, 0), (0.5, 1.5)])
def test_connected_components_are_those_of_the_whole(
    seed: int, connectivity: int, share: float, smooth: float
) -> None:
    pixels = noise((61, 47), share, seed, smooth)
    whole = label(image(pixels), connectivity)
    for block, halo in ((16, None), (11, "4 px")):
        found = apply(
            image(pixels),
            label,
            kwargs={"connectivity": connectivity},
            stitch=True,
            block=f"{block} px",
            halo=halo,
            chunks={"y": block, "x": block},
        ).values
        assert are_same(found, whole)
        assert np.array_equal(np.unique(found), np.arange(whole.max() + 1))


@pytest.mark.parametrize("connectivity", [1, 3])
@pytest.mark.parametrize(("share", "block"), [(0.25, 9), (0.31, 13)])
def test_connected_components_of_volumes(connectivity: int, share: float, block: int) -> None:
    pixels = noise((23, 26, 19), share, 5)
    found = apply(
        image(pixels),
        label,
        kwargs={"connectivity": connectivity},
        stitch=True,
        block=f"{block} px",
        chunks={"z": block, "y": block, "x": block},
    )
    assert are_same(found.values, label(image(pixels), connectivity))


def winding(n: int) -> NDArray[np.bool]:
    """Return one line that winds through all blocks."""
    pixels = np.zeros((n, n), bool)
    pixels[::2] = True
    pixels[1::4, -1] = pixels[3::4, 0] = True
    return pixels


def test_an_object_may_be_in_all_blocks() -> None:
    pixels = winding(64)
    assert ndimage.label(pixels)[1] == 1
    found = apply(image(pixels), label, stitch=True, block="8 px", chunks={"y": 8, "x": 8})
    assert np.array_equal(found.values, pixels)


def test_frames_are_not_stitched() -> None:
    array = xr.DataArray(np.ones((3, 8, 8), bool), dims=("t", "y", "x"))
    chunks = {"t": 1, "y": 4, "x": 4}
    found = apply(array, label, stitch=True, block="4 px", chunks=chunks)
    assert [np.unique(frame).tolist() for frame in found.values] == [[1], [2], [3]]


def cells(shape: tuple[int, int], seed: int) -> NDArray[np.float64]:
    """Return blobs, many of which touch."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros(shape)
    for y, x in rng.random((90, 2)) * shape:
        yy, xx = np.ogrid[: shape[0], : shape[1]]
        pixels = np.maximum(pixels, np.clip(1 - np.hypot(yy - y, xx - x) / 9, 0, 1))
    return pixels


def watershed(block: xr.DataArray) -> NDArray[Any]:
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed as flood

    values = block.values
    peaks = np.zeros(values.shape, int)
    for number, place in enumerate(peak_local_max(values, min_distance=3, exclude_border=False), 1):
        peaks[tuple(place)] = number
    return flood(-values, peaks, mask=values > 0.2)


def test_cells_that_touch_stay_apart() -> None:
    pixels = cells((200, 180), 1)
    whole = watershed(image(pixels))
    found = apply(
        image(pixels),
        watershed,
        stitch=True,
        block="64 px",
        halo="20 px",
        chunks={"y": 64, "x": 64},
    ).values
    sizes = np.bincount(whole.ravel())[1:]
    matched = 0
    for number in range(1, whole.max() + 1):
        own = np.bincount(found[whole == number])
        best = int(own.argmax())
        union = (found == best).sum() + sizes[number - 1] - own[best]
        matched += best > 0 and own[best] / union > 0.9
    assert matched >= 0.98 * whole.max()
    assert abs(int(found.max()) - int(whole.max())) <= 0.02 * whole.max()


def test_what_blocks_disagree_on_is_decided_by_the_threshold() -> None:
    one = np.array([[1, 1, 1, 1, 2, 2, 2, 2]])
    other = np.array([[1, 1, 1, 3, 3, 3, 3, 3]])
    assert same(one, other, 0.8).tolist() == [[1, 1], [2, 3]]
    assert same(one, other, 0.0).tolist() == [[1, 1], [1, 3], [2, 3]]
    assert same(one * 0, other, 0.0).shape == (0, 2)


def test_labels_of_any_dtype_become_small_numbers() -> None:
    for dtype, high in (("u8", 2**63 + 5), ("i8", 2**40), ("u1", 255), ("i2", 9)):
        labels = np.array([[0, 7, high], [high, 7, 0]], dtype)
        found, count, missing = numbered(labels, (slice(0, 2), slice(0, 2)))
        assert set(found.ravel().tolist()) == {0, *set(range(1, count + 1)) - set(missing.tolist())}
        assert are_same(found, labels)
    labels = np.arange(5000).reshape(50, 100)  # most of which only the halo has
    found, count, missing = numbered(labels, (slice(0, 1), slice(0, 100)))
    assert (count, missing.size, found[1:].any()) == (99, 0, False)
    assert numbered(np.array([[-3, -1]]), (slice(0, 1), slice(0, 2)))[1] == 0
    mask, count, missing = numbered(np.array([True, False, True]), (slice(0, 3),))
    assert (mask.tolist(), count, missing.size) == ([1, 0, 1], 1, 0)
    assert numbered(np.zeros((0, 3), int), (slice(0, 0), slice(0, 3)))[1] == 0


def test_ten_million_objects_are_numbered_in_the_memory_of_the_borders() -> None:
    blocks, each = 1000, 10_000
    pairs = np.empty((0, 4), np.int64)
    rng = np.random.default_rng(0)
    first = rng.integers(0, blocks - 1, 50_000)
    own, theirs = rng.integers(1, each + 1, (2, 50_000))
    pairs = np.stack([first, own, first + 1, theirs], axis=1)
    tracemalloc.start()
    numbering = Numbering.of(np.full(blocks, each), pairs, np.empty((0, 2), np.int64))
    seen = [numbering.numbers(block) for block in (0, 499, 999)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # 80 MB would be all of the objects
    # the same by a table of all objects
    parent = np.arange(blocks * each + 1)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return int(i)

    for b, i, c, j in pairs.tolist():
        one, other = sorted((root(b * each + i), root(c * each + j)))
        parent[other] = one
    roots = np.array([root(i) for i in np.unique(pairs[:, ::2] * each + pairs[:, 1::2])])
    joined = np.unique(pairs[:, ::2] * each + pairs[:, 1::2])
    assert numbering.count == blocks * each - joined.size + np.unique(roots).size
    later = np.sort(joined[joined != roots])
    for block, numbers in zip((0, 499, 999), seen, strict=True):
        for local in (1, 17, each):
            whole = root(block * each + local)
            assert numbers[local] == whole - np.searchsorted(later, whole)
