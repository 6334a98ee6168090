"""Stores of every version: the same image opens from each, and oddities are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
import xarray as xr
import zarr
from conftest import OMERO
from stores import AXES, document, edit_attributes, write_array, write_image, write_series

VERSIONS = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6")
PLACED = ("0.4", "0.5", "0.6")  # those that say where levels lie
SHAPE = (2, 2, 3, 20, 25)
SMALL = {"axes": "tczyx", "shape": SHAPE, "levels": 2}
SPACE = {"type": "space", "unit": "micrometer"}

version = pytest.mark.parametrize("version", VERSIONS)
placed = pytest.mark.parametrize("version", PLACED)


def _small(path: Path, version: str, **keywords: Any) -> Path:
    return write_image(path / "a.ome.zarr", version=version, **{**SMALL, **keywords})


def _multiscale(path: Path, **keys: Any) -> None:
    """Replace keys of the multiscale object; None takes one out."""

    def edit(ome: dict[str, Any]) -> None:
        entry = {**ome["multiscales"][0], **keys}
        ome["multiscales"][0] = {k: v for k, v in entry.items() if v is not None}

    edit_attributes(path, edit)


def _written_again(tree: xr.DataTree, path: Path) -> xr.DataTree:
    tree.ngff.to_zarr(path)
    return xr.open_datatree(path)


def _read_by_tensorstore(path: Path) -> Any:
    driver = "zarr3" if (path / "zarr.json").exists() else "zarr"
    kvstore = {"driver": "file", "path": str(path)}
    return ts.open({"driver": driver, "kvstore": kvstore}).result().read().result()


# ---- proper stores of every version --------------------------------------------------------------


@version
def test_voxels_are_those_that_others_read(tmp_path: Path, version: str) -> None:
    path = _small(tmp_path, version, labels={"cells": {}, "sub/deep": {}})
    tree = xr.open_datatree(path)
    for name, array in [
        *((level, "image") for level in ("0", "1")),
        *((f"labels/{label}/{level}", "labels") for label in tree.ngff.labels for level in "01"),
    ]:
        opened = tree[name][array]
        np.testing.assert_array_equal(opened, _read_by_tensorstore(path / name))
        np.testing.assert_array_equal(opened, zarr.open_array(path / name, mode="r")[...])


@version
def test_axes_labels_channels_and_version(tmp_path: Path, version: str) -> None:
    tree = xr.open_datatree(_small(tmp_path, version, labels={"cells": {}}, omero=OMERO))
    assert tree.ngff.kind == "image"
    assert tree.ngff.version == version
    assert tree.ngff.name == "a"
    assert [axis.name for axis in tree.ngff.axes] == ["t", "c", "z", "y", "x"]
    assert [axis.type for axis in tree.ngff.axes] == ["time", "channel", *["space"] * 3]
    assert [channel.name for channel in tree.ngff.channels] == ["DAPI", "GFP"]
    assert tree["0"].c.values.tolist() == ["DAPI", "GFP"]
    assert list(tree.ngff.labels) == ["cells"]
    assert tree.ngff.labels["cells"].ngff.version == version
    assert len(tree.ngff.labels["cells"].ngff.colors) == 5
    units = {"t": "second", **dict.fromkeys("zyx", "micrometer")}
    assert tree.ngff.units == (units if version in PLACED else dict.fromkeys("tzyx"))


@version
def test_proper_images_have_no_issues(tmp_path: Path, version: str) -> None:
    tree = xr.open_datatree(_small(tmp_path, version, labels={"cells": {}}, omero=OMERO))
    assert tree.ngff.issues == ()


@pytest.mark.parametrize("axes", ["yx", "cyx", "tyx", "zyx", "czyx"])
@version
def test_images_of_fewer_axes(tmp_path: Path, version: str, axes: str) -> None:
    shape = tuple(dict(zip("tczyx", SHAPE, strict=True))[axis] for axis in axes)
    tree = xr.open_datatree(_small(tmp_path, version, axes=axes, shape=shape))
    always_all = version in ("0.1", "0.2")
    assert tree["0/image"].dims == tuple("tczyx" if always_all else axes)
    assert tree["0/image"].squeeze().shape == shape
    assert tree.ngff.issues == ()


@pytest.mark.parametrize("stated", ["0.6rc0", "0.6rc1", "0.6.dev1", "0.6.dev2", "0.6.dev4"])
def test_drafts_are_read_as_the_version_that_they_became(tmp_path: Path, stated: str) -> None:
    path = _small(tmp_path, "0.6", stated=stated, labels={"cells": {}})
    tree = xr.open_datatree(path)
    assert tree.ngff.version == "0.6"
    assert tree.ngff.issues == ()
    expected = xr.open_datatree(_small(tmp_path / "b", "0.6", labels={"cells": {}}))
    xr.testing.assert_identical(tree, expected)


@pytest.mark.parametrize(
    ("version", "stated"), [("0.5", "0.5-dev-spatialdata"), ("0.6", "0.9.dev1"), ("0.4", "0.4.1")]
)
def test_other_versions_of_known_shape_open_with_an_issue(
    tmp_path: Path, version: str, stated: str
) -> None:
    tree = xr.open_datatree(_small(tmp_path, version, stated=stated))
    assert tree.ngff.version == version
    (issue,) = tree.ngff.issues
    assert issue.path.endswith("version")
    assert repr(stated) in issue.message
    assert tree["0/image"].shape == SHAPE


def test_two_versions_side_by_side_are_read_as_the_later(tmp_path: Path) -> None:
    later = _small(tmp_path, "0.5", levels=1)
    earlier = write_image(tmp_path / "b.ome.zarr", version="0.4", axes="yx", levels=1)
    shutil.copytree(earlier, later, dirs_exist_ok=True)
    tree = xr.open_datatree(later)
    assert tree.ngff.version == "0.5"
    assert tree["0/image"].shape == SHAPE


# ---- where levels lie ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 1, 64, 64), (1, 2, 3, 50, 63), (1, 1, 2, 33, 129)])
@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3"])
def test_levels_without_scales_are_placed_by_their_size(
    tmp_path: Path, version: str, shape: tuple[int, ...]
) -> None:
    tree = xr.open_datatree(_small(tmp_path, version, shape=shape, levels=3))
    for number, factor in enumerate((1, 2, 4)):
        level = tree.ngff.level(number)
        for axis in "yx":
            np.testing.assert_allclose(
                level[axis], (factor - 1) / 2 + factor * np.arange(level.sizes[axis])
            )
            assert level[axis].attrs["pixel_size"] == factor
        assert level["z"].attrs["pixel_size"] == 1


@version
def test_a_region_is_the_same_at_every_level(tmp_path: Path, version: str) -> None:
    shape = (1, 1, 2, 64, 97)
    tree = xr.open_datatree(_small(tmp_path, version, shape=shape, levels=4))
    step = tree["0/x"].attrs["pixel_size"]
    low, high = 20.3 * step, 51.9 * step
    region = tree.ngff.sel(x=slice(low, high))
    for level in region.ngff.levels:
        pixel = level["x"].attrs["pixel_size"]
        first, last = level["x"][0] - pixel / 2, level["x"][-1] + pixel / 2
        assert first <= low < first + pixel
        assert last - pixel < high <= last


@pytest.mark.parametrize(
    "paths",
    [["path/to/0", "1", "2"], ["a/0", "b/0", "a/1"], ["2", "10", "1"], ["s0", "x/s1", "s2"]],
)
@pytest.mark.parametrize("version", ["0.1", "0.5"])
def test_levels_come_as_they_are_listed_whatever_their_paths(
    tmp_path: Path, version: str, paths: list[str]
) -> None:
    path = _small(tmp_path, version, paths=paths)
    levels = xr.open_datatree(path).ngff.levels
    assert [level.shape[-2:] for level in levels] == [(20, 25), (10, 13), (5, 7)]
    for i, (level, name) in enumerate(zip(levels, paths, strict=True)):
        np.testing.assert_array_equal(level, _read_by_tensorstore(path / name))
        assert xr.open_dataset(path, level=i)["image"].shape == level.shape


@version
def test_levels_show_the_same_at_the_same_place(tmp_path: Path, version: str) -> None:
    data = np.add.outer(np.arange(64.0), 3 * np.arange(96.0))[None, None, None]
    path = _small(tmp_path, version, data=data, levels=3, chunks=data.shape)
    tree = xr.open_datatree(path)
    fine, coarse = tree["0/image"].squeeze(), tree["2/image"].squeeze()
    np.testing.assert_allclose(fine.interp(y=coarse.y, x=coarse.x), coarse)


# ---- what stores do that the specification does not have -----------------------------------------


def _flatten_keys(path: Path) -> None:
    """Write the levels of a Zarr v2 image again with flat chunk keys."""
    for level in ("0", "1"):
        pixels = zarr.open_array(path / level, mode="r")[...]
        shutil.rmtree(path / level)
        write_array(path / level, pixels, version="0.1", chunks=[1, 1, 2, 16, 16], attributes={})


@pytest.mark.parametrize("version", ["0.2", "0.3", "0.4"])
def test_flat_chunk_keys_open_with_an_issue(tmp_path: Path, version: str) -> None:
    path = _small(tmp_path, version)
    expected = xr.open_datatree(path).load()
    _flatten_keys(path)
    assert (path / "0" / "0.0.0.0.0").is_file()
    tree = xr.open_datatree(path)
    xr.testing.assert_identical(tree, expected)
    issues = tree.ngff.issues
    assert [issue.path for issue in issues] == [f"multiscales[0].datasets[{i}].path" for i in "01"]
    assert {issue.message for issue in issues} == {"chunks are separated by '.', expected '/'"}


def test_nested_chunk_keys_in_the_first_version(tmp_path: Path) -> None:
    path = _small(tmp_path, "0.2", stated="0.1")
    tree = xr.open_datatree(path)
    assert tree.ngff.version == "0.1"
    np.testing.assert_array_equal(tree["0/image"], _read_by_tensorstore(path / "0"))


def _without_version(ome: dict[str, Any]) -> None:
    for part in (ome, *ome["multiscales"]):
        part.pop("version", None)


@version
def test_versions_that_are_not_stated_are_told_by_what_is_there(
    tmp_path: Path, version: str
) -> None:
    path = _small(tmp_path, version)
    expected = xr.open_datatree(path)
    edit_attributes(path, _without_version)
    tree = xr.open_datatree(path, engine="ngff")  # without axes it may be anybody's
    xr.testing.assert_identical(tree, expected)
    assert tree.ngff.version == version
    (issue,) = tree.ngff.issues
    assert "is missing" in issue.message
    assert issue.path.endswith("version")


@version
def test_integers_as_paths(tmp_path: Path, version: str) -> None:
    path = _small(tmp_path, version)
    expected = xr.open_datatree(path)

    def edit(ome: dict[str, Any]) -> None:
        for i, level in enumerate(ome["multiscales"][0]["datasets"]):
            level["path"] = i

    edit_attributes(path, edit)
    tree = xr.open_datatree(path)
    assert [node.path for node in tree.subtree] == ["/", "/0", "/1"]
    np.testing.assert_array_equal(tree["1/image"], expected["1/image"])
    messages = {issue.message for issue in tree.ngff.issues}
    assert {f"expected text, found the number {i}" for i in (0, 1)} <= messages


def test_integers_as_paths_of_series_and_labels(tmp_path: Path) -> None:
    image = {"axes": "yx", "shape": (16, 20)}
    path = write_series(tmp_path / "s.ome.zarr", image=image, count=2)
    edit_attributes(path / "OME", lambda ome: ome.update(series=[1, 0]))
    tree = xr.open_datatree(path)
    assert list(tree.ngff.images) == ["1", "0"]
    assert tree.ngff.issues
    path = _small(tmp_path, "0.5", labels={"0": {}})
    edit_attributes(path / "labels", lambda ome: ome.update(labels=[0]))
    tree = xr.open_datatree(path)
    assert list(tree.ngff.labels) == ["0"]
    assert tree.ngff.issues


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_missing_axes_are_told_by_a_scale_of_five(tmp_path: Path, version: str) -> None:
    path = _small(tmp_path, version)
    _multiscale(path, axes=None)
    tree = xr.open_datatree(path)
    assert tree["0/image"].dims == tuple("tczyx")
    assert tree["1/x"].attrs == {"axis_type": "space", "pixel_size": 1.0}
    np.testing.assert_array_equal(tree["1/x"], 0.25 + np.arange(13))
    (issue,) = tree.ngff.issues
    assert issue.path == "multiscales[0].axes"
    assert "read as t, c, z, y, x" in issue.message


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_names_as_axes_keep_the_scales(tmp_path: Path, version: str) -> None:
    path = _small(tmp_path, version)
    _multiscale(path, axes=list("tczyx"))
    tree = xr.open_datatree(path)
    assert tree["0/image"].dims == tuple("tczyx")
    assert [axis.type for axis in tree.ngff.axes] == ["time", "channel", *["space"] * 3]
    assert tree["0/x"].attrs["pixel_size"] == 0.5
    assert tree["0/z"].attrs["pixel_size"] == 2.0
    np.testing.assert_array_equal(tree["1/x"], 0.25 + np.arange(13))
    assert tree.ngff.issues


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_names_as_axes_can_be_written(tmp_path: Path, version: str) -> None:
    path = _small(tmp_path, version)
    _multiscale(path, axes=list("tczyx"))
    tree = xr.open_datatree(path)
    again = _written_again(tree, tmp_path / "b.ome.zarr")
    xr.testing.assert_equal(again, tree)


def test_an_image_of_the_older_kind_in_zarr_v3(tmp_path: Path) -> None:
    path = _small(tmp_path, "0.5", labels={"cells": {}}, omero=OMERO, attributes={"mine": 1})
    expected = xr.open_datatree(path)
    for group in (path, path / "labels", path / "labels" / "cells"):
        file = group / "zarr.json"
        metadata = json.loads(file.read_text())
        ome = metadata["attributes"].pop("ome")
        del ome["version"]
        for entry in ome.get("multiscales", []):
            entry["version"] = "0.4"
        metadata["attributes"] |= ome
        file.write_text(json.dumps(metadata))
    tree = xr.open_datatree(path)
    assert tree.ngff.version == "0.4"
    assert "0.4 is for Zarr v2, found in Zarr v3" in [i.message for i in tree.ngff.issues]
    xr.testing.assert_identical(tree, expected)


@pytest.mark.parametrize("axes", ["cxyz", "xyzc", "ctzyx", "zyxt"])
@pytest.mark.parametrize("version", VERSIONS[2:])
def test_axes_in_any_order(tmp_path: Path, version: str, axes: str) -> None:
    shape = tuple(dict(zip("tczyx", SHAPE, strict=True))[axis] for axis in axes)
    path = _small(tmp_path, version, axes=axes, shape=shape)
    tree = xr.open_datatree(path)
    assert tree["0/image"].dims == tuple(axes)
    assert tree["0/image"].shape == shape
    np.testing.assert_array_equal(tree["0/image"], _read_by_tensorstore(path / "0"))
    types = [{"t": "time", "c": "channel"}.get(axis, "space") for axis in axes]
    assert [axis.type for axis in tree.ngff.axes] == types
    assert tree.ngff.rgb().dims == ("y", "x", "rgb")
    ordered = axes == "cxyz" and version in PLACED  # space should be z, y, x, and need not
    assert bool(tree.ngff.issues) is not ordered


@placed
def test_a_transposed_image_is_the_same_image(tmp_path: Path, version: str) -> None:
    path = _small(tmp_path, version, axes="cxyz", shape=(2, 25, 20, 3), scale=(1, 4, 3, 2))
    image = xr.open_datatree(path).ngff.level(0)
    assert {axis: image[axis].attrs["pixel_size"] for axis in "xyz"} == {"x": 4, "y": 3, "z": 2}
    assert image.sizes == {"c": 2, "x": 25, "y": 20, "z": 3}


# ---- proposals that are written already ----------------------------------------------------------

ORIENTATION = {"type": "anatomical", "value": "left-to-right"}


def _anatomical(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, **SPACE, "orientation": ORIENTATION} for name in names]


@placed
def test_orientation_of_axes_is_kept(tmp_path: Path, version: str) -> None:
    axes = [AXES["c"], *_anatomical("y", "x")]
    path = _small(tmp_path, version, axes=axes, shape=(2, 20, 25))
    tree = xr.open_datatree(path)
    assert [dict(axis.extra) for axis in tree.ngff.axes] == [
        {},
        *[{"orientation": ORIENTATION}] * 2,
    ]
    assert tree.ngff.issues == ()
    again = _written_again(tree, tmp_path / "b.ome.zarr")
    assert again.ngff.axes == tree.ngff.axes
    assert document(tmp_path / "b.ome.zarr") == document(path)
    part = _written_again(tree.ngff.crop(x=slice(1, 4)), tmp_path / "c.ome.zarr")
    assert part.ngff.axes == tree.ngff.axes


@pytest.mark.parametrize("second", [{"type": "channel"}, {"type": "angle", "unit": "degree"}, {}])
@placed
def test_six_axes_two_of_them_like_channels(
    tmp_path: Path, version: str, second: dict[str, str]
) -> None:
    angle = {"name": "angle", **second}
    axes = [AXES["t"], angle, AXES["c"], *(AXES[axis] for axis in "zyx")]
    path = _small(tmp_path, version, axes=axes, shape=(2, 4, 2, 3, 20, 25))
    tree = xr.open_datatree(path)
    assert tree["0/image"].dims == ("t", "angle", "c", "z", "y", "x")
    assert tree.ngff.axes[1].type == second.get("type")
    assert tree["0"].sizes["angle"] == 4
    assert any("expected 2 to 5 axes, found 6" in issue.message for issue in tree.ngff.issues)
    again = _written_again(tree, tmp_path / "b.ome.zarr")
    xr.testing.assert_identical(again, tree)
    assert document(tmp_path / "b.ome.zarr") == document(path)


def test_names_of_channels_go_to_the_axis_that_has_as_many(tmp_path: Path) -> None:
    axes = [{"name": "angle", "type": "channel"}, *(AXES[axis] for axis in "cyx")]
    path = _small(tmp_path, "0.5", axes=axes, shape=(4, 2, 20, 25), omero=OMERO)
    tree = xr.open_datatree(path)
    assert tree["0/c"].values.tolist() == ["DAPI", "GFP"]
    assert tree["0/angle"].values.tolist() == ["0", "1", "2", "3"]
    tree.ngff.to_zarr(tmp_path / "b.ome.zarr")
    assert document(tmp_path / "b.ome.zarr") == document(path)


# ---- the drafts of 0.6 ---------------------------------------------------------------------------


def _plane(name: str, *axes: str) -> dict[str, Any]:
    return {"name": name, "axes": [{"name": axis, **SPACE} for axis in axes]}


def _ends(output: str, source: str = "physical") -> dict[str, Any]:
    return {"input": {"name": source}, "output": {"name": output}}


SCALE = {"type": "scale", "scale": [2.0, 4.0]}
X_TWICE = {"type": "scale", "scale": [2.0]}
Y_LATER = {"type": "translation", "translation": [3.0]}
PARTS = [
    {"transformation": X_TWICE, "inputAxes": [1], "outputAxes": [1]},
    {"transformation": Y_LATER, "inputAxes": [0], "outputAxes": [0]},
]
Forms = tuple[dict[str, Any], dict[str, Any]]

# what a draft writes from `physical` (y, x) to `other` (v, u) -> what version 0.6 writes
DRAFTS: dict[str, Forms] = {
    "ends are text": (
        {**SCALE, "input": "physical", "output": "other"},
        {**SCALE, **_ends("other")},
    ),
    "axes of mapAxis are names": (
        {
            "type": "mapAxis",
            "mapAxis": {"v": "x", "u": "y"},
            "input": "physical",
            "output": "other",
        },
        {"type": "mapAxis", "mapAxis": [1, 0], **_ends("other")},
    ),
    "parts of byDimension are flat": (
        {
            "type": "byDimension",
            "input": "physical",
            "output": "other",
            "transformations": [
                {**X_TWICE, "input_axes": ["x"], "output_axes": ["u"]},
                {**Y_LATER, "input_axes": ["y"], "output_axes": ["v"]},
            ],
        },
        {"type": "byDimension", **_ends("other"), "transformations": PARTS},
    ),
    "axes of byDimension have underscores": (
        {
            "type": "byDimension",
            **_ends("other"),
            "transformations": [
                {"transformation": X_TWICE, "input_axes": [1], "output_axes": [1]},
                {"transformation": Y_LATER, "input_axes": [0], "output_axes": [0]},
            ],
        },
        {"type": "byDimension", **_ends("other"), "transformations": PARTS},
    ),
    "inverseOf": (
        {"type": "inverseOf", "transformation": SCALE, "input": "physical", "output": "other"},
        {**SCALE, "input": {"name": "other"}, "output": {"name": "physical"}},
    ),
}


def _draft(path: Path, link: dict[str, Any], stated: str) -> Path:
    written = _small(
        path,
        "0.6",
        axes="yx",
        shape=(20, 25),
        systems=[_plane("other", "v", "u")],
        transformations=[link],
        stated=stated,
    )

    def edit(ome: dict[str, Any]) -> None:
        for level in ome["multiscales"][0]["datasets"]:
            level["coordinateTransformations"][0] |= {"input": level["path"], "output": "physical"}

    edit_attributes(written, edit)
    return written


@pytest.mark.parametrize("stated", ["0.6.dev1", "0.6.dev2", "0.6"])
@pytest.mark.parametrize(("link", "expected"), DRAFTS.values(), ids=DRAFTS)
def test_forms_of_the_drafts_are_read_as_those_of_the_version(
    tmp_path: Path, link: dict[str, Any], expected: dict[str, Any], stated: str
) -> None:
    tree = xr.open_datatree(_draft(tmp_path, link, stated))
    assert tree.attrs["ome"]["coordinateTransformations"] == [expected]
    np.testing.assert_array_equal(tree["1/x"], 0.25 + np.arange(13))
    severities = {issue.severity for issue in tree.ngff.issues}
    assert severities == ({"error"} if stated == "0.6" else {"warning"})


@pytest.mark.parametrize(("link", "expected"), DRAFTS.values(), ids=DRAFTS)
def test_drafts_become_proper_when_they_are_written(
    tmp_path: Path, link: dict[str, Any], expected: dict[str, Any]
) -> None:
    tree = xr.open_datatree(_draft(tmp_path, link, "0.6.dev1"))
    again = _written_again(tree, tmp_path / "b.ome.zarr")
    xr.testing.assert_identical(again, tree)
    assert again.ngff.issues == ()
    assert document(tmp_path / "b.ome.zarr")["version"] == "0.6"


def _inside_sequence(inner: dict[str, Any]) -> dict[str, Any]:
    return {"type": "sequence", "transformations": [inner], "input": "physical", "output": "other"}


def _inside_part(inner: dict[str, Any]) -> dict[str, Any]:
    part = {"transformation": inner, "input_axes": [0, 1], "output_axes": [0, 1]}
    return {
        "type": "byDimension",
        "transformations": [part],
        "input": "physical",
        "output": "other",
    }


def _types(value: Any) -> set[str]:
    """Return the types of all transformations in a document."""
    if isinstance(value, list):
        return set().union(*map(_types, value))
    if not isinstance(value, dict):
        return set()
    own = {value["type"]} if isinstance(value.get("type"), str) else set()
    return own.union(*map(_types, value.values()))


@pytest.mark.parametrize("around", [_inside_sequence, _inside_part])
def test_inverse_of_inside_others_is_read_as_what_the_version_has(
    tmp_path: Path, around: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    inverse = {"type": "inverseOf", "transformation": SCALE}
    tree = xr.open_datatree(_draft(tmp_path, around(inverse), "0.6.dev1"))
    assert "inverseOf" not in _types(tree.attrs["ome"]["coordinateTransformations"])
    (point,) = tree.ngff.transform([[2.0, 4.0]], from_="physical", to="other")
    np.testing.assert_allclose(point, [1.0, 1.0])


@pytest.mark.parametrize(("link", "_"), DRAFTS.values(), ids=DRAFTS)
def test_points_go_where_the_drafts_say(
    tmp_path: Path, link: dict[str, Any], _: dict[str, Any]
) -> None:
    tree = xr.open_datatree(_draft(tmp_path, link, "0.6.dev1"))
    (point,) = tree.ngff.transform([[2.0, 8.0]], from_="physical", to="other")
    expected = {
        "mapAxis": [8.0, 2.0],
        "byDimension": [5.0, 16.0],
        "inverseOf": [1.0, 2.0],
        "scale": [4.0, 32.0],
    }
    np.testing.assert_allclose(point, expected[link["type"]])
