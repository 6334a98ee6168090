"""Two label images compared, held against plain numpy on the whole arrays."""

from __future__ import annotations

import itertools
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import write_image
from test_measure import labelled, objects

import ngff_xarray
from ngff_xarray.analyse.comparing import THRESHOLDS, compare
from ngff_xarray.analyse.label_arrays import in_order
from ngff_xarray.errors import MissingDependencyError, SelectionError, UnsupportedError

RNG = np.random.default_rng(1)


def overlap(a: Any, b: Any) -> tuple[Any, Any, np.ndarray[Any, Any]]:
    """The labels of both, and the IoU of every one with every other, one after another."""
    ids = [np.unique(each[each != 0]) for each in (a, b)]
    iou = np.zeros([each.size for each in ids])
    for (i, one), (j, other) in itertools.product(enumerate(ids[0]), enumerate(ids[1])):
        iou[i, j] = ((a == one) & (b == other)).sum() / ((a == one) | (b == other)).sum()
    return *ids, iou


def most(iou: np.ndarray[Any, Any], threshold: float) -> tuple[int, float]:
    """How many pairs can be matched, and the largest sum of IoUs of so many: all are tried."""
    if not iou.size:
        return 0, 0.0
    rest, found = most(iou[1:], threshold), []
    for j in np.flatnonzero(iou[0] >= threshold):
        count, total = most(np.delete(iou[1:], j, axis=1), threshold)
        found.append((count + 1, total + float(iou[0, j])))
    return max([rest, *found], key=lambda each: (each[0], round(each[1], 9)))


def check(found: Any, a: Any, b: Any) -> None:
    _, _, iou = overlap(a, b)
    for threshold, row in found.scores.iterrows():
        tp, total = most(iou, threshold)
        fn, fp = iou.shape[0] - tp, iou.shape[1] - tp
        wanted = {
            "tp": tp,
            "fp": fp,
            "fn": fn,
            "precision": tp / (tp + fp) if tp else 0,
            "recall": tp / (tp + fn) if tp else 0,
            "f1": 2 * tp / (2 * tp + fp + fn) if tp else 0,
            "average_precision": tp / (tp + fp + fn) if tp else 0,
            "mean_iou": total / tp if tp else 0,
            "panoptic_quality": total / (tp + fp / 2 + fn / 2) if tp else 0,
        }
        assert list(row.index) == list(wanted)
        np.testing.assert_allclose(row, list(wanted.values()), rtol=1e-9)


@settings(max_examples=80, deadline=None)
@given(
    shape=st.lists(st.integers(1, 7), min_size=2, max_size=3).map(tuple),
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 6),
    dtype=st.sampled_from(["u1", ">u4", "u8", "i4"]),
    data=st.data(),
)
def test_as_plain_numpy(shape: Any, seed: int, size: int, dtype: str, data: Any) -> None:
    rng = np.random.default_rng(seed)
    a = rng.integers(0, size + 1, shape).astype("u2") * 7
    b = np.where(rng.random(shape) < 0.3, rng.integers(0, size + 1, shape), a).astype(dtype)
    block = {dim: data.draw(st.integers(1, 7)) for dim in "zyx"[-len(shape) :]}
    found = compare(labelled(a), labelled(b), thresholds=(0.1, 0.3, 0.5, 0.75, 1), block=block)
    check(found, a, b)


@pytest.mark.parametrize("shape", [(60, 70), (16, 40, 40)])
def test_objects(shape: tuple[int, ...]) -> None:
    a = objects(shape, 14)
    b = np.roll(a, 1, axis=-1) + np.uint32(2**32 - 20) * (np.roll(a, 1, axis=-1) > 0)
    found = compare(labelled(a), labelled(b), block=3000, workers=2)
    check(found, a, b)
    assert found.scores.index.tolist() == list(THRESHOLDS)
    ids_a, ids_b, iou = overlap(a, b)
    table = found.objects
    pairs = table.dropna()
    assert len(pairs) == found.scores["tp"].iloc[0] > 3
    for row in pairs.itertuples():
        assert row.iou == iou[list(ids_a).index(row.a), list(ids_b).index(row.b)]
        assert (row.pixels_a, row.pixels_b) == ((a == row.a).sum(), (b == row.b).sum())
    assert sorted(table["a"].dropna()) == ids_a.tolist()
    assert sorted(table["b"].dropna()) == ids_b.tolist()
    lone = table[table["b"].isna()]
    assert (lone["iou"] == 0).all() and (lone["pixels_b"] == 0).all()


def test_the_same_and_nothing() -> None:
    a = labelled(objects((30, 30)))
    same = compare(a, a * 3)
    assert (same.scores[["f1", "mean_iou", "average_precision"]] == 1).all(axis=None)
    none = compare(a, a * 0)
    assert (none.scores["fn"] == len(np.unique(a)) - 1).all() and (none.scores["f1"] == 0).all()
    empty = compare(a * 0, a * 0, thresholds=0.5)
    assert empty.scores.to_numpy().tolist() == [[0.0] * 9] and not len(empty.objects)
    assert not len(compare(a[:0], a[:0]).objects)
    frames = xr.DataArray(np.zeros((0, 5, 5), "u1"), dims=("t", "y", "x"))
    assert next(iter(compare(frames, frames).objects)) == "t"
    assert compare(a > 0, a > 0).scores["tp"].tolist() == [1] * 10


def test_a_half_is_matched_once() -> None:
    a, b = labelled(np.array([[1, 1]])), labelled(np.array([[5, 6]]))
    found = compare(a, b, thresholds=[0.5, 0.51])
    assert found.scores["tp"].tolist() == [1, 0]
    assert len(found.objects) == 2 and found.objects["iou"].tolist() == [0.5, 0]


def test_more_pairs_are_better_than_better_pairs() -> None:
    a = np.array([[1] * 10 + [2] * 6])
    b = np.array([[7] * 4 + [8] * 12])  # 8 has more of 1 and of 2 than 7 has of 1
    found = compare(labelled(a), labelled(b), thresholds=0.1)
    check(found, a, b)
    assert found.scores["tp"].item() == 2


def test_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    a, b = labelled(np.array([[1, 1]])), labelled(np.array([[5, 6]]))
    assert compare(a, b, thresholds=[0.6]).scores["tp"].tolist() == [0]
    with pytest.raises(MissingDependencyError, match=r"needs scipy.*ngff-xarray\[analyse\]"):
        compare(a, b)


def test_many_objects_that_touch_many() -> None:
    a = np.repeat(np.arange(1, 3001), 10)
    b = np.roll(np.repeat(np.arange(1, 3001), 10), 5)  # everything is half of two
    found = compare(labelled(a[None]), labelled(b[None]), thresholds=[0.3, 0.4])
    assert found.scores["tp"].tolist() == [3000, 0]
    np.testing.assert_allclose(found.scores["mean_iou"].iloc[0], 1 / 3)


# ---- by name, in a store -------------------------------------------------------------------------


def test_names_frames_and_repr(tmp_path: Path) -> None:
    first = np.stack([objects((30, 40), 6, seed) for seed in range(3)])
    second = np.roll(first, 1, axis=2)
    second[1] = 0
    path = write_image(
        tmp_path / "a.ome.zarr",
        axes="tcyx",
        shape=(3, 2, 30, 40),
        levels=2,
        labels={"nuclei": {"data": first}, "nuclei_v2": {"data": second}},
    )
    tree = xr.open_datatree(path)
    found = tree.ngff.compare("nuclei", "nuclei_v2", block={"t": 2, "x": 7})
    apart = [compare(labelled(first[t]), labelled(second[t])).scores for t in range(3)]
    for name in ("tp", "fp", "fn"):
        assert found.scores[name].tolist() == sum(each[name] for each in apart).tolist()
    assert list(found.objects.columns) == ["t", "a", "b", "iou", "pixels_a", "pixels_b"]
    assert found.objects["t"].unique().tolist() == [0, 1, 2]
    assert "nuclei (" in repr(found) and "average_precision" in repr(found)
    assert "<table" in found._repr_html_()
    coarse = tree.ngff.compare("nuclei", "nuclei_v2", level=1, thresholds=0.7)
    assert coarse.objects["pixels_a"].sum() < found.objects["pixels_a"].sum() / 3
    labels = tree.ngff.labels
    again = ngff_xarray.compare(labels["nuclei"], labels["nuclei_v2"])
    assert again.scores.equals(found.scores)
    assert again.names == ("nuclei", "nuclei_v2")
    made = labelled(first[0]).rename("image").assign_attrs(ome={"name": "cell"})  # of an image
    assert compare(made, made).names == ("a", "b")


def test_names_are_escaped() -> None:
    a = labelled(objects((9, 9)))
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs={"ome": {"name": "<b>\x1b"}})})
    tree["0"] = xr.DataTree(a.rename("labels").to_dataset())
    found = compare(tree, tree, thresholds=0.9)
    assert "<b>" not in found._repr_html_() and "\x1b" not in repr(found)


def test_memory_is_bounded() -> None:
    from test_measure import _Source, lazily

    sources = [_Source((32, 512, 1024), "u4") for _ in range(2)]
    tracemalloc.start()
    found = compare(*map(lazily, sources), block="4 MB", workers=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.scores["tp"] == 2 * 32 * 64).all()
    assert sum(source.most for source in sources) <= 4e6 and peak < 60e6


def test_axes_in_another_order(tmp_path: Path) -> None:
    a, b = labelled(objects((5, 40, 50))), labelled(np.roll(objects((5, 40, 50)), 1, axis=2))
    wanted = compare(a, b)
    turned = b.transpose("x", "z", "y")
    path = tmp_path / "b.ome.zarr"
    turned.ngff.to_zarr(path, levels=1, chunks={"z": 2, "y": 16, "x": 8})
    stored = xr.open_datatree(path).ngff.level(0)
    assert stored.dims == ("x", "z", "y")
    for each in (turned, turned.chunk(16), stored):
        pd.testing.assert_frame_equal(compare(a, each).scores, wanted.scores)
    found = in_order(stored, b.dims)
    assert found.encoding["chunks"] == (2, 16, 8)
    assert (found[1:3, ::2, 4] == b[1:3, ::2, 4]).all()


# ---- what is refused -----------------------------------------------------------------------------


def test_refused() -> None:
    a = labelled(objects((9, 9)), (0.5, 0.5))
    with pytest.raises(SelectionError, match=r"first labels are y 9 x x 9, the second y 9 x x 8"):
        compare(a, a[:, :8])
    with pytest.raises(SelectionError, match=r"x: pixels .* lie up to 0.5 micrometer apart"):
        compare(a, a.assign_coords(x=a.x + 0.5))
    with pytest.raises(SelectionError, match="lie up to"):
        compare(a, labelled(objects((9, 9)), (0.5, 0.6)))
    with pytest.raises(SelectionError, match="a name of a label image needs its image"):
        compare("nuclei", a)
    with pytest.raises(SelectionError, match="expected numbers above 0"):
        compare(a, a, thresholds=[])
    with pytest.raises(SelectionError, match="an IoU is above 0 and no more than 1"):
        compare(a, a, thresholds=[0.5, 1.2])
    with pytest.raises(UnsupportedError, match="dtype float64"):
        compare(a, a * 1.0)
    with pytest.raises(SelectionError, match="expected the name of a label image, a DataTree"):
        compare(a, a.values)
    nm = a.assign_coords(
        x=xr.Variable("x", a.x.values * 1e3, {"units": "nanometer", "pixel_size": 500})
    )
    assert compare(a, nm).scores["f1"].eq(1).all()
