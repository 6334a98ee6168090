"""The engine: what opens, as what, and what is left to other engines."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from stores import edit_attributes, write_image, write_plain
from stores.layouts import Version

from ngff_xarray import NgffError
from ngff_xarray.errors import (
    MetadataError,
    NotOmeError,
    SelectionError,
    StoreError,
    StoreNotFoundError,
    UnsupportedError,
)

# ---- the tree contract -----------------------------------------------------------------------


def test_nodes_have_the_paths_of_the_store(scan: Path) -> None:
    tree = xr.open_datatree(scan)
    paths = [node.path for node in tree.subtree]
    levels = ["/0", "/1", "/2"]
    labels = ["/labels", "/labels/cells", *(f"/labels/cells{level}" for level in levels)]
    assert sorted(paths) == sorted(["/", *levels, *labels])


def test_a_level_holds_the_arrays_pixels_and_axes(scan: Path) -> None:
    tree = xr.open_datatree(scan)
    for level in ("0", "1", "2"):
        node = tree[level]
        assert list(node.data_vars) == ["image"]
        assert node["image"].dims == ("t", "c", "z", "y", "x")
        np.testing.assert_array_equal(node["image"], zarr.open_array(scan / level, mode="r")[...])
    np.testing.assert_array_equal(
        tree["labels/cells/1/labels"], zarr.open_array(scan / "labels/cells/1", mode="r")[...]
    )


def test_coordinates_are_ordinary_and_say_units_type_and_pixel_size(scan: Path) -> None:
    image = xr.open_datatree(scan)["1/image"]
    assert image["x"].attrs == {"units": "micrometer", "axis_type": "space", "pixel_size": 1.0}
    assert image["t"].attrs == {"units": "second", "axis_type": "time", "pixel_size": 1.0}
    assert image["c"].values.tolist() == ["DAPI", "GFP"]
    assert image["c"].attrs == {"axis_type": "channel"}
    np.testing.assert_allclose(image["x"], 0.25 + np.arange(31))
    assert {type(index).__name__ for index in image.xindexes.values()} == {"PandasIndex"}


def test_attrs_keep_what_the_store_said_apart_from_geometry(tmp_path: Path, version: str) -> None:
    path = write_image(
        tmp_path / "a.ome.zarr",
        version=version,
        attributes={"microscope": {"objective": 63}},
        multiscale={"type": "gaussian", "metadata": {"sigma": 1}, "colleague": "Ada"},
        ome={"_creator": {"name": "tests"}},
        omero={"channels": [], "id": 7},
    )
    attrs = xr.open_datatree(path).attrs
    assert attrs["microscope"] == {"objective": 63}
    assert attrs["ome"]["name"] == "a"
    assert attrs["ome"]["type"] == "gaussian"
    assert attrs["ome"]["metadata"] == {"sigma": 1}
    assert attrs["ome"]["omero"] == {"channels": [], "id": 7}
    assert attrs["ome"]["extra"] == {
        "ome": {"_creator": {"name": "tests"}},
        "multiscale": {"colleague": "Ada"},
    }
    assert set(attrs) == {"microscope", "ome"}


def test_encoding_says_where_it_came_from(scan: Path, version: str) -> None:
    tree = xr.open_datatree(scan)
    assert tree.encoding["source"] == str(scan)
    assert tree.encoding["ome_version"] == version
    assert tree.encoding["level_paths"] == ("0", "1", "2")


@pytest.mark.parametrize("axes", ["yx", "zyx", "cyx", "tyx", "czyx", "tczyx"])
def test_any_axes_the_specification_allows(tmp_path: Path, version: str, axes: str) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version=version, axes=axes)
    assert xr.open_dataset(path)["image"].dims == tuple(axes)


def test_any_axis_names(tmp_path: Path, version: str) -> None:
    axes = [
        {"name": "wavelength", "type": "channel"},
        {"name": "image", "type": "space", "unit": "nanometer"},
        {"name": "largeur", "type": "space", "unit": "nanometer"},
    ]
    path = write_image(tmp_path / "a.ome.zarr", version=version, axes=axes, shape=(2, 8, 8))
    dataset = xr.open_dataset(path)
    assert dataset["image_"].dims == ("wavelength", "image", "largeur")
    assert dataset.ngff.rgb().shape == (8, 8, 3)
    assert [axis.name for axis in xr.open_datatree(path).ngff.axes] == [a["name"] for a in axes]


def test_nested_level_paths(tmp_path: Path, version: str) -> None:
    paths = ["scale0/image", "scale1/image"]
    path = write_image(tmp_path / "a.ome.zarr", version=version, paths=paths)
    tree = xr.open_datatree(path)
    assert tree["scale1/image/image"].shape == (2, 4, 25, 31)
    assert len(tree.ngff.levels) == 2


def test_nested_label_paths(tmp_path: Path, version: str) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version=version, labels={"a/deep": {}, "b": {}})
    assert set(xr.open_datatree(path).ngff.labels) == {"a/deep", "b"}


@pytest.mark.parametrize("dtype", ["bool", "uint8", ">u2", "int16", "uint64", "float32", ">f8"])
def test_every_dtype(tmp_path: Path, version: str, dtype: str) -> None:
    data = np.arange(64).reshape(8, 8).astype(dtype)
    path = write_image(tmp_path / "a.ome.zarr", version=version, axes="yx", data=data, levels=1)
    image = xr.open_dataset(path)["image"]
    assert image.dtype.newbyteorder("=") == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(image, data)


# ---- how a store can be named ------------------------------------------------------------------


def test_path_string_slash_file_url_group_and_store_open_alike(scan: Path) -> None:
    expected = xr.open_datatree(scan)
    sources = [
        str(scan),
        f"{scan}{os.sep}",
        scan.as_uri(),
        f"file://{scan}/",
        zarr.open_group(scan, mode="r"),
        zarr.storage.LocalStore(scan, read_only=True),
        zarr.storage.StorePath(zarr.storage.LocalStore(scan.parent), scan.name),
    ]
    for source in sources:
        xr.testing.assert_identical(xr.open_datatree(source), expected)
        xr.testing.assert_identical(xr.open_dataset(source, level=1)["image"], expected["1/image"])


def test_relative_paths(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scan.parent)
    assert "0" in xr.open_datatree("scan.ome.zarr").children


def test_arrays_are_read_wherever_the_process_goes(
    scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scan.parent)
    tree = xr.open_datatree("scan.ome.zarr")
    assert tree.encoding["source"] == str(scan)
    pickled = pickle.dumps(tree)
    monkeypatch.chdir("/")
    expected = xr.open_datatree(scan)["0/image"]
    np.testing.assert_array_equal(pickle.loads(pickled)["0/image"], expected)
    np.testing.assert_array_equal(tree["0/image"], expected)


@pytest.mark.parametrize("name", ["sp ace.zarr", "a#b.zarr", "a%20b.zarr", "ü.zarr", "a?b.zarr"])
def test_odd_names_and_their_urls(tmp_path: Path, name: str) -> None:
    path = write_image(tmp_path / name, axes="yx", levels=1)
    for source in (path, str(path), path.as_uri()):
        assert xr.open_datatree(source)["0/image"].shape == (50, 62)


def test_decoding_options_change_nothing(scan: Path) -> None:
    dataset = xr.open_dataset(scan, mask_and_scale=False, decode_times=True, decode_coords=False)
    xr.testing.assert_identical(dataset, xr.open_dataset(scan, decode_cf=False))
    with pytest.raises(TypeError, match="unexpected option 'levle'"):
        xr.open_dataset(scan, engine="ngff", levle=1)


def test_group_opens_what_is_below(scan: Path) -> None:
    labels = xr.open_datatree(scan, group="labels/cells")
    assert labels.ngff.kind == "labels"
    xr.testing.assert_identical(labels, xr.open_datatree(scan / "labels" / "cells"))


def test_open_dataset_takes_a_level_by_number_or_pixel_size(scan: Path) -> None:
    assert xr.open_dataset(scan)["image"].shape[-2:] == (50, 62)
    assert xr.open_dataset(scan, level=-1)["image"].shape[-2:] == (13, 16)
    assert xr.open_dataset(scan, level="1 µm")["image"].shape[-2:] == (25, 31)
    assert "ome" in xr.open_dataset(scan, level=2).attrs


def test_open_groups_gives_every_node(scan: Path) -> None:
    assert "/labels/cells/2" in xr.open_groups(scan)


# ---- laziness, chunks and encoding -------------------------------------------------------------


def test_opening_reads_no_pixel_and_indexing_reads_little(scan: Path) -> None:
    for level in ("0", "1", "2"):  # any read would raise
        for chunk in (scan / level).rglob("*"):
            if chunk.is_file() and chunk.name not in ("zarr.json", ".zarray", ".zattrs"):
                chunk.write_bytes(b"not a chunk")
    tree = xr.open_datatree(scan)
    assert tree["0/image"].isel(t=0).shape == (2, 4, 50, 62)
    assert tree["0/image"].chunks is None
    with pytest.raises(Exception, match=r".+"):
        tree["0/image"].isel(t=0).load()


@pytest.mark.parametrize("shards", [None, (2, 4, 64, 64)])
def test_chunks_follow_the_stored_ones_or_the_shards(
    tmp_path: Path, shards: tuple[int, ...] | None
) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="czyx", shape=(2, 4, 128, 128), shards=shards)
    stored = shards or zarr.open_array(path / "0", mode="r").chunks
    lazy = xr.open_dataset(path, chunks={})["image"]
    assert tuple(sizes[0] for sizes in lazy.chunks or ()) == stored
    tree = xr.open_datatree(path, chunks={})
    assert tree["0/image"].chunks == lazy.chunks
    assert xr.open_dataset(path, chunks="auto")["image"].chunks is not None
    by_hand = xr.open_dataset(path, chunks={"y": 128})["image"]
    assert by_hand.chunksizes["y"] == (128,)
    np.testing.assert_array_equal(by_hand, xr.open_dataset(path)["image"])


# the older zarr warns about names of channels: it has no specification for text of fixed length
@pytest.mark.filterwarnings("ignore:The data type .FixedLengthUTF32")
@pytest.mark.parametrize("shards", [None, (2, 4, 64, 64)])
def test_a_later_write_repeats_the_storage(tmp_path: Path, shards: tuple[int, ...] | None) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="czyx", shards=shards)
    xr.open_dataset(path).to_zarr(tmp_path / "b.zarr", zarr_format=3, consolidated=False)
    first = zarr.open_array(path / "0", mode="r")
    second = zarr.open_array(tmp_path / "b.zarr" / "image", mode="r")
    for what in ("chunks", "shards", "compressors", "filters", "serializer", "fill_value"):
        assert getattr(first, what) == getattr(second, what), what
    np.testing.assert_array_equal(first[...], second[...])


def test_a_later_write_repeats_zarr_v2(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version="0.4", axes="czyx")
    xr.open_dataset(path).to_zarr(tmp_path / "b.zarr", zarr_format=2, consolidated=False)
    first = zarr.open_array(path / "0", mode="r")
    second = zarr.open_array(tmp_path / "b.zarr" / "image", mode="r")
    assert (first.chunks, first.compressors) == (second.chunks, second.compressors)


def test_levels_below_labels(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", paths=["labels/0", "labels/1"])
    assert len(xr.open_datatree(path).ngff.levels) == 2


def test_drop_variables(scan: Path) -> None:
    assert "c" not in xr.open_dataset(scan, drop_variables="c").coords
    assert "t" not in xr.open_datatree(scan, drop_variables=["t", "z"])["1"].coords
    with pytest.raises(NotOmeError, match="dropped"):
        xr.open_dataset(scan, drop_variables="image")


def test_indexes_are_left_out_when_asked(scan: Path) -> None:
    assert not xr.open_dataset(scan, create_default_indexes=False).xindexes


def test_vectorized_and_outer_indexing(scan: Path) -> None:
    image = xr.open_dataset(scan)["image"]
    whole = image.compute()
    outer = {"y": [3, 1, 40], "x": [0, 61]}
    xr.testing.assert_equal(image.isel(outer).compute(), whole.isel(outer))
    points = {"y": xr.DataArray([1, 2], dims="p"), "x": xr.DataArray([5, 7], dims="p")}
    xr.testing.assert_equal(image.isel(points).compute(), whole.isel(points))


async def _load(image: xr.DataArray) -> xr.DataArray:
    return await image.load_async()


def test_async_loading(scan: Path) -> None:
    import asyncio

    image = xr.open_dataset(scan)["image"]
    expected = xr.open_dataset(scan)["image"].compute()
    xr.testing.assert_equal(asyncio.run(_load(image.isel(y=[1, 2]))), expected.isel(y=[1, 2]))


# ---- stores that are not ours ------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_other_zarr_stores_are_left_to_xarray(tmp_path: Path, zarr_format: int) -> None:
    path = write_plain(tmp_path / "climate.zarr", zarr_format)
    for source in (path, str(path), f"{path}/"):
        xr.testing.assert_identical(xr.open_dataset(source), xr.open_dataset(source, engine="zarr"))
        xr.testing.assert_identical(
            xr.open_datatree(source), xr.open_datatree(source, engine="zarr")
        )


@pytest.mark.parametrize("name", ["table.nc", "notes.txt", "x.h5"])
def test_files_are_not_claimed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"CDF\x01")
    guess = xr.backends.list_engines()["ngff"].guess_can_open
    assert not guess(tmp_path / name)
    assert not guess(b"CDF\x01")
    assert not guess(tmp_path)


def test_the_engine_says_why_a_plain_store_is_no_image(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "climate.zarr", 3)
    with pytest.raises(NotOmeError, match="multiscales"):
        xr.open_datatree(path, engine="ngff")


@pytest.mark.parametrize(
    "attrs",
    [
        {"labels": ["a", "b"]},
        {"labels": []},
        {"well": {"depth": 3}},
        {"plate": {"a": 1}},
        {"multiscales": [{"datasets": [], "version": "1"}]},
        {"multiscales": [{"datasets": [{"path": "0"}], "type": "reduce"}]},
        {"multiscales": {"layout": []}},
        {"ome": {"scene": 3}},
        {"ome": {"series": "x"}},
        {"ome": "Roma"},
    ],
)
def test_words_that_ome_uses_too_are_left_to_xarray(
    tmp_path: Path, attrs: dict[str, object]
) -> None:
    path = tmp_path / "other.zarr"
    xr.Dataset({"a": ("x", [1, 2])}, attrs=attrs).to_zarr(path, consolidated=False)
    guess = xr.backends.list_engines()["ngff"].guess_can_open
    assert not guess(path)


@pytest.mark.parametrize("version", ["0.1", "0.2"])
def test_early_images_without_a_version_are_known_by_their_name(
    tmp_path: Path, version: Version
) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version=version)
    edit_attributes(path, lambda ome: ome["multiscales"][0].pop("version"))
    assert xr.open_datatree(path).ngff.version == version
    path.rename(tmp_path / "a.zarr")
    guess = xr.backends.list_engines()["ngff"].guess_can_open
    assert not guess(tmp_path / "a.zarr")


def test_a_look_serves_the_opening_that_follows_and_no_other(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx")
    with pytest.raises(NgffError):
        xr.open_datatree(path, group="nothing")
    edit_attributes(path, lambda ome: ome["multiscales"][0]["axes"][0].update(unit="nanometer"))
    assert xr.open_datatree(path, engine="ngff").ngff.units["y"] == "nanometer"


# ---- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("opener", [xr.open_datatree, xr.open_dataset])
def test_a_missing_store(tmp_path: Path, opener: object) -> None:
    with pytest.raises(StoreNotFoundError, match=r"nothing\.ome\.zarr"):
        opener(tmp_path / "nothing.ome.zarr")  # type: ignore[operator]
    with pytest.raises(FileNotFoundError):
        opener(tmp_path / "nothing.zarr")  # type: ignore[operator]


def test_a_directory_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "a.ome.zarr").mkdir()
    with pytest.raises(NotOmeError, match=r"expected 'zarr.json' or '.zattrs'"):
        xr.open_datatree(tmp_path / "a.ome.zarr")


@pytest.mark.parametrize("text", ["{", "[]", "", "null", "[" * 100_000, '{"attributes": 3, "ome"'])
@pytest.mark.parametrize("name", ["zarr.json", ".zattrs"])
def test_malformed_json(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / "a.ome.zarr"
    path.mkdir()
    (path / name).write_text(text, encoding="utf-8")
    with pytest.raises(MetadataError, match=rf"a\.ome\.zarr: {name}"):
        xr.open_datatree(path)


def test_malformed_json_that_was_meant_as_ome_is_claimed(tmp_path: Path) -> None:
    path = tmp_path / "image.zarr"
    path.mkdir()
    (path / "zarr.json").write_text('{"attributes": {"ome": {"multiscales": [')
    with pytest.raises(MetadataError, match="is no JSON"):
        xr.open_datatree(path)


def test_a_wrong_source_type() -> None:
    with pytest.raises(StoreError, match="expected a path, a URL"):
        xr.open_datatree(5, engine="ngff")


def test_axes_that_do_not_fit_the_array(tmp_path: Path, version: str) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version=version, axes="czyx")
    other = write_image(tmp_path / "b.ome.zarr", version=version, axes="zyx")
    _replace_level(path, other)
    with pytest.raises(MetadataError, match=r"datasets\[0\]\.path: '0' has 3 dimensions"):
        xr.open_datatree(path)


def _replace_level(path: Path, other: Path) -> None:
    import shutil

    shutil.rmtree(path / "0")
    shutil.copytree(other / "0", path / "0")


def test_a_missing_level(scan: Path) -> None:
    edit_attributes(scan, lambda ome: ome["multiscales"][0]["datasets"][1].update(path="seven"))
    tree = xr.open_datatree(scan)
    assert len(tree.ngff.levels) == 2
    (issue,) = tree.ngff.issues
    assert issue.path == "multiscales[0].datasets[1].path"
    assert "there is no array at 'seven'" in issue.message
    assert issue.severity == "error"


def test_no_level_at_all(scan: Path) -> None:
    def edit(ome: dict) -> None:
        for level in ome["multiscales"][0]["datasets"]:
            level["path"] += "-moved"

    edit_attributes(scan, edit)
    with pytest.raises(MetadataError, match=r"datasets\[0\]\.path: there is no array"):
        xr.open_datatree(scan)


def test_array_metadata_that_zarr_refuses(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr")
    (path / "1" / "zarr.json").write_text(json.dumps({"node_type": "array", "zarr_format": 3}))
    with pytest.raises(MetadataError, match="no array that zarr can open"):
        xr.open_datatree(path)


@pytest.mark.parametrize(
    "scale", [[1, 1, 0, 1], [1, 1], [1, 1, "1", 1], [1, 1, None, 1], [True, 1, 1, 1], "1"]
)
def test_a_scale_that_is_none(scan: Path, scale: object, version: str) -> None:
    path = write_image(scan.parent / "b.ome.zarr", version=version, axes="czyx")
    transformations = [{"type": "scale", "scale": scale}]
    edit_attributes(
        path,
        lambda ome: ome["multiscales"][0]["datasets"][0].update(
            coordinateTransformations=transformations
        ),
    )
    with pytest.raises(MetadataError, match=r"coordinateTransformations\[0\]\.scale"):
        xr.open_datatree(path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400])
def test_numbers_that_are_none(tmp_path: Path, number: str) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", levels=1, scale=(777, 1))
    text = (path / "zarr.json").read_text()
    assert "777" in text
    (path / "zarr.json").write_text(text.replace("777.0", number).replace("777", number))
    with pytest.raises(MetadataError, match="finite numbers"):
        xr.open_datatree(path)


def test_an_axis_too_long_for_coordinates(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", levels=1)
    file = path / "0" / "zarr.json"
    document = json.loads(file.read_text())
    document["shape"] = [10**12, 10]
    file.write_text(json.dumps(document))
    with pytest.raises(MetadataError, match="pixels together"):
        xr.open_datatree(path)


@pytest.mark.parametrize(("scale", "start"), [(1e-3, 1e15), (1e308, 1e308), (1e-300, 1.0)])
def test_coordinates_that_floats_cannot_hold(tmp_path: Path, scale: float, start: float) -> None:
    path = write_image(
        tmp_path / "a.ome.zarr", axes="yx", levels=1, scale=(1, scale), translation=(0, start)
    )
    with pytest.raises(MetadataError, match=r"axis x: scale .* cannot tell 62 pixels apart"):
        xr.open_datatree(path)


def test_more_channels_than_names(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="cyx", levels=1)
    file = path / "0" / "zarr.json"
    document = json.loads(file.read_text())
    document["shape"][0] = 2**18
    file.write_text(json.dumps(document))
    with pytest.raises(MetadataError, match="declares 262144 channels"):
        xr.open_datatree(path)


def test_errors_stay_short(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", levels=1)
    long = "x" * 1_000_000
    edit_attributes(path, lambda ome: ome["multiscales"][0]["datasets"][0].update(path=long))
    with pytest.raises(NgffError) as caught:
        xr.open_datatree(path)
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("stored", [["a", "b"], [None, None], 5, "yx"])
def test_dimension_names_that_are_not_the_axes(tmp_path: Path, stored: object) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version="0.4", axes="yx", levels=1)
    file = path / "0" / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), "dimension_names": stored}))
    tree = xr.open_datatree(path)
    assert tree["0/image"].dims == ("y", "x")
    (issue,) = tree.ngff.issues
    assert "differ from the axes ['y', 'x']" in issue.message


def test_thousands_of_faults_are_counted(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", levels=1)

    def edit(ome: dict) -> None:
        (level,) = ome["multiscales"][0]["datasets"]
        missing = [{**level, "path": f"missing{i}"} for i in range(400)]
        ome["multiscales"][0]["datasets"] = missing

    edit_attributes(path, edit)
    with pytest.raises(MetadataError, match="and 380 more") as caught:
        xr.open_datatree(path)
    assert len(caught.value.issues) == 400
    assert len(str(caught.value)) < 5000


def test_a_level_finer_than_the_one_before_and_odd_units_are_listed(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", levels=2)

    def edit(ome: dict) -> None:
        ome["multiscales"][0]["axes"][0]["unit"] = "second"
        finer = [{"type": "scale", "scale": [0.1, 0.1]}]
        ome["multiscales"][0]["datasets"][1]["coordinateTransformations"] = finer

    edit_attributes(path, edit)
    messages = [issue.message for issue in xr.open_datatree(path).ngff.issues]
    assert messages == [
        "'second' is no unit of space",
        "has smaller pixels than the level before it",
    ]


def test_odd_metadata_opens_and_is_listed(scan: Path) -> None:
    def edit(ome: dict) -> None:
        ome["multiscales"][0]["axes"][4]["unit"] = "9**9**9**9"
        ome["multiscales"][0]["axes"][3]["unit"] = "µm"
        del ome["multiscales"][0]["axes"][2]["type"]

    edit_attributes(scan, edit)
    tree = xr.open_datatree(scan)
    assert tree.ngff.units == {
        "t": "second",
        "z": "micrometer",
        "y": "micrometer",
        "x": "9**9**9**9",
    }
    assert "units" not in tree["0/x"].attrs
    assert tree.ngff.pixel_size["x"].dimensionless
    places = [issue.path for issue in tree.ngff.issues]
    assert places == [f"multiscales[0].axes{where}" for where in _ODD]
    assert tree.attrs["ome"]["extra"]["axes"]["y"] == {"unit": "µm"}


_ODD = ["[2].type", "[3].unit", "[4].unit", ""]  # untyped, it stands where the channels do


def test_a_broken_label_image_does_not_break_the_image(tmp_path: Path, version: str) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version=version, labels={"good": {}, "bad": {}})
    for file in (path / "labels" / "bad").rglob(".zattrs" if version == "0.4" else "zarr.json"):
        file.unlink()
    tree = xr.open_datatree(path)
    assert set(tree.ngff.labels) == {"good"}
    (issue,) = tree.ngff.issues
    assert (issue.group, issue.path) == ("labels", "labels")
    assert issue.message == "'bad' cannot be opened: there is no group"


def test_errors_are_one_family() -> None:
    for error in (MetadataError, NotOmeError, SelectionError, StoreError, UnsupportedError):
        assert issubclass(error, NgffError)
