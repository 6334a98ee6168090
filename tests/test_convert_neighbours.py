"""Stores of neighbours: WEBKNOSSOS datasets, Neuroglancer's volumes, SpatialData."""

from __future__ import annotations

import json
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import xarray as xr
import zarr
from servers import CountingServer
from stores import write_image

import ngff_xarray
from ngff_xarray import commands, convert, open_image
from ngff_xarray.errors import (
    DeniedError,
    MissingDependencyError,
    NgffError,
    NotOmeError,
    SelectionError,
    StoreError,
    UnsupportedError,
)
from ngff_xarray.export.locations import Location
from ngff_xarray.export.tensorstore import kvstore_of

RNG = np.random.default_rng(0)
CORNER, SIZE = (8, 16, 4), (40, 32, 12)  # x, y, z, as all of WEBKNOSSOS
SECRET = "s3cr3t-t0ken"
Json = dict[str, Any]


def check(tree: xr.DataTree, expected: np.ndarray, level: int = 0) -> None:
    """Check all pixels, odd parts of them, and that workers can read them."""
    found = tree.ngff.levels[level]
    np.testing.assert_array_equal(found.values, expected)
    np.testing.assert_array_equal(found[..., ::-3, 5:1:-1].values, expected[..., ::-3, 5:1:-1])
    np.testing.assert_array_equal(found[..., [2, 0], 3].values, expected[..., [2, 0], 3])
    np.testing.assert_array_equal(found[..., 3:3, 0].values, expected[..., 3:3, 0])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).values, expected)


def converted(source: Any, folder: Path, **options: Any) -> xr.DataTree:
    convert(source, folder / "target.ome.zarr", mode="w", **options)
    return xr.open_datatree(folder / "target.ome.zarr")


def starts(tree: xr.DataTree) -> list[tuple[float, ...]]:
    """Return where the first pixel of each level is: x, y and z."""
    if tree.ngff.kind == "collection":
        tree = tree.ngff.images["0"]
    return [tuple(float(a[axis][0]) for axis in "xyz" if axis in a.dims) for a in tree.ngff.levels]


# ---- WEBKNOSSOS ----------------------------------------------------------------------------------


def box(corner: tuple[int, ...] = CORNER, size: tuple[int, ...] = SIZE) -> Json:
    return {
        "topLeft": list(corner),
        **dict(zip(("width", "height", "depth"), size, strict=True)),
    }


def write_mag(
    folder: Path,
    pixels: np.ndarray,
    *,
    corner: tuple[int, ...] = CORNER,
    shard: int = 32,
    zarr_format: int = 3,
    axes: tuple[str, ...] | None = ("c", "x", "y", "z"),
) -> None:
    """Write an array as WEBKNOSSOS does: from voxel 0 on, up to whole shards, x fastest."""
    ends = [at + n for at, n in zip(corner, pixels.shape[-3:], strict=True)]
    shape = [*pixels.shape[:-3], *(-(-end // shard) * shard for end in ends)]
    chunks = [*pixels.shape[:-3], *[min(16, shard)] * 3]
    common: Json = {"shape": shape, "dtype": pixels.dtype, "fill_value": 0}
    if zarr_format == 2:
        array = zarr.create_array(
            str(folder),
            zarr_format=2,
            chunks=chunks,
            order="F",
            chunk_key_encoding={"name": "v2", "separator": "/"},
            **common,
        )
    else:
        array = zarr.create_array(
            str(folder),
            chunks=chunks,
            shards=[*pixels.shape[:-3], *[shard] * 3],
            filters=[zarr.codecs.TransposeCodec(order=tuple(range(pixels.ndim))[::-1])],
            dimension_names=axes,
            **common,
        )
    place = tuple(slice(at, end) for at, end in zip(corner, ends, strict=True))
    array[(..., *place)] = pixels


def layer(name: str, mags: list[Any], dtype: str = "uint16", **more: Any) -> Json:
    return {
        "name": name,
        "category": "color",
        "boundingBox": box(),
        "elementClass": dtype,
        "dataFormat": "zarr3",
        "mags": mags,
        "numChannels": 1,
        **more,
    }


def write_said(folder: Path, *layers: Json, **more: Any) -> Path:
    said = {
        "id": {"name": "cortex", "team": ""},
        "scale": {"factor": [11.24, 11.24, 28.0], "unit": "nanometer"},
        "dataLayers": list(layers),
        "version": 1,
        **more,
    }
    folder.mkdir(exist_ok=True)
    (folder / "datasource-properties.json").write_text(json.dumps(said))
    return folder


COLOR = RNG.integers(0, 999, (1, *SIZE), dtype="uint16")
COARSE = RNG.integers(0, 999, (1, 20, 16, 12), dtype="uint16")
IDS = RNG.integers(0, 9, (1, *SIZE), dtype="uint32")


def dataset(folder: Path, data_format: str = "zarr3") -> Path:
    """Write a dataset of a color layer of two mags and a segmentation of one."""
    number = 2 if data_format == "zarr" else 3
    write_mag(folder / "color/1", COLOR, zarr_format=number)
    write_mag(folder / "color/2-2-1", COARSE, corner=(4, 8, 4), zarr_format=number)
    write_mag(folder / "cells/1", IDS, zarr_format=number)
    shown = {"color": [255, 0, 128], "intensityRange": [10, 500], "isInverted": True}
    mags = [{"mag": [2, 2, 1], "path": "./color/2-2-1"}, {"mag": [1, 1, 1], "path": "./color/1"}]
    said = {"largestSegmentId": 8, "mappings": ["agglomerate"], "category": "segmentation"}
    cells = layer("cells", [{"mag": 1, "path": "./cells/1"}], "uint32", dataFormat=data_format)
    return write_said(
        folder,
        layer("color", mags, dataFormat=data_format, defaultViewConfiguration=shown),
        {**cells, **said, "attachments": {"meshes": [{"name": "mesh", "path": "./mesh"}]}},
    )


@pytest.mark.parametrize("data_format", ["zarr3", "zarr"])
def test_a_dataset_is_an_image_with_labels(tmp_path: Path, data_format: str) -> None:
    path = dataset(tmp_path / "cortex", data_format)
    said = convert(path, tmp_path / "a.ome.zarr")
    opened = open_image(path)
    assert list(open_image(path / "datasource-properties.json").children) == list(opened.children)
    for tree in (opened, xr.open_datatree(tmp_path / "a.ome.zarr")):
        assert tree.ngff.kind == "image" and tree.ngff.name == "color"
        assert not any(issue.severity == "error" for issue in tree.ngff.issues)
        assert tree.ngff.levels[0].dims == ("c", "z", "y", "x")
        check(tree, COLOR.transpose(0, 3, 2, 1))
        check(tree, COARSE.transpose(0, 3, 2, 1), level=1)
        first = np.multiply(CORNER, [11.24, 11.24, 28])
        np.testing.assert_allclose(starts(tree), [first, np.add(first, (5.62, 5.62, 0))])
        assert [str(size) for size in tree.ngff.pixel_size.values()] == [
            "28.0 nanometer",
            "11.24 nanometer",
            "11.24 nanometer",
        ]
        (channel,) = tree.ngff.channels
        assert (channel.name, channel.color, channel.inverted) == ("color", (255, 0, 128), True)
        assert (channel.window.start, channel.window.end) == (10, 500)
        cells = tree.ngff.labels["cells"]
        assert cells.ngff.kind == "labels" and cells.ngff.level(0).dims == ("z", "y", "x")
        check(cells, IDS[0].transpose(2, 1, 0))
        np.testing.assert_allclose(starts(cells)[0], first)
        assert cells.attrs["largestSegmentId"] == 8
        stored = json.loads(tree.attrs["original_metadata"]["text"])
        assert stored["dataLayers"][1]["mappings"] == ["agglomerate"]
    coarse = cells.ngff.level(1)  # which the segmentation has not
    assert coarse.shape == (12, 16, 20) and set(np.unique(coarse)) <= set(np.unique(IDS))
    assert said.format == "WEBKNOSSOS" and "labels: cells" in said.kept
    assert said.dropped == ("meshes of the layer cells",)


def test_the_view_of_the_dataset_comes_before_that_of_a_layer(tmp_path: Path) -> None:
    write_mag(tmp_path / "color/1", COLOR)
    own = {"color": [0, 0, 255], "intensityRange": [1, 2]}
    views = {"layers": {"color": {"color": [0, 255, 0]}, "another": 5}}
    said = layer("color", [1], defaultViewConfiguration=own)
    write_said(tmp_path, said, defaultViewConfiguration=views)
    (channel,) = open_image(tmp_path).ngff.channels
    assert (channel.color, channel.window.start, channel.window.end) == ((0, 255, 0), 1, 2)


def test_layers_are_series(tmp_path: Path) -> None:
    rgb = RNG.integers(0, 255, (3, *SIZE), dtype="uint8")
    write_mag(tmp_path / "rgb/1", rgb)
    path = dataset(tmp_path)
    said = json.loads((path / "datasource-properties.json").read_text())
    coloured = layer("rgb", [{"mag": 1}], "uint24", numChannels=3)
    write_said(path, *said["dataLayers"], coloured)
    tree = open_image(path)
    assert tree.ngff.kind == "collection" and list(tree.ngff.images) == ["0", "1"]
    assert [list(image.ngff.labels) for image in tree.ngff.images.values()] == [["cells"], []]
    alone = open_image(path, series="rgb")
    check(alone, rgb.transpose(0, 3, 2, 1))
    assert list(alone.ngff.labels) == ["cells"]  # which it is asked for alone with
    assert open_image(path, series="cells").ngff.kind == "labels"
    with pytest.raises(SelectionError, match=r"no series 'nuclei'; there are 0 'color', 1 'rgb'"):
        open_image(path, series="nuclei")
    again = converted(path, tmp_path)
    check(again.ngff.images["1"], rgb.transpose(0, 3, 2, 1))


@pytest.mark.parametrize(
    ("mag", "folder"),
    [(1, "1"), ("1", "1-1-1"), ([1, 1, 1], "1"), ("2-2-1", "2-2-1"), ([2, 2, 1], "2-2-1")],
)
def test_older_datasets(tmp_path: Path, mag: Any, folder: str) -> None:
    """Plain sizes are nanometers, and mags without a path stand under their names."""
    pixels, corner = (COARSE, (4, 8, 4)) if folder == "2-2-1" else (COLOR, CORNER)
    write_mag(tmp_path / "color" / folder, pixels, corner=corner)
    write_said(tmp_path, layer("color", [{"mag": mag}]), scale=[5, 5, 10.5])
    tree = open_image(tmp_path)
    check(tree, pixels.transpose(0, 3, 2, 1))
    factor = 2 if folder == "2-2-1" else 1
    assert str(tree.ngff.pixel_size["x"]) == f"{5.0 * factor} nanometer"
    shift = 5 * (factor - 1) / 2  # of the centre of a pixel that is two voxels long
    np.testing.assert_allclose(starts(tree), [(8 * 5 + shift, 16 * 5 + shift, 4 * 10.5)])


def test_boxes_that_mags_do_not_divide(tmp_path: Path) -> None:
    """A pixel of a mag that the box touches belongs to the layer."""
    pixels = np.arange(21 * 17 * 12, dtype="uint16").reshape(1, 21, 17, 12)
    write_mag(tmp_path / "color/1", COLOR, corner=(9, 17, 4))
    write_mag(tmp_path / "color/2-2-1", pixels, corner=(4, 8, 4))
    mags = [{"mag": 1, "path": "color/1"}, {"mag": "2-2-1", "path": "color/2-2-1"}]
    write_said(tmp_path, layer("color", mags, boundingBox=box((9, 17, 4))), scale=[10, 10, 10])
    tree = open_image(tmp_path)
    check(tree, pixels.transpose(0, 3, 2, 1), level=1)
    np.testing.assert_allclose(starts(tree), [(90, 170, 40), (85, 165, 40)])


def test_axes_beside_space_and_one_channel_of_several(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 99, (2, 3, 12, 32, 40), dtype="int8")  # c, t, z, y, x
    array = zarr.create_array(str(tmp_path / "movie/1"), shape=pixels.shape, dtype="int8")
    array[...] = pixels
    order = {"c": 0, "x": 4, "y": 3, "z": 2}
    more = {
        "boundingBox": box((0, 0, 0)),
        "additionalAxes": [{"name": "t", "bounds": [1, 3], "index": 1}],
    }
    mags = [{"mag": 1, "path": "movie/1", "axisOrder": order}]
    one = [{**mags[0], "channelIndex": 1}]
    write_said(
        tmp_path,
        layer("movie", mags, "int16", numChannels=2, **more),
        layer("second", one, "int8", **more),
    )
    tree = open_image(tmp_path, series="movie", pixel_size={"t": "2 s"})
    assert tree.ngff.level(0).dims == ("t", "c", "z", "y", "x")
    check(tree, pixels.transpose(1, 0, 2, 3, 4)[1:])
    assert [channel.name for channel in tree.ngff.channels] == ["movie 0", "movie 1"]
    check(open_image(tmp_path, series="second"), pixels.transpose(1, 0, 2, 3, 4)[1:, 1:])


def affine(*rows: list[float]) -> Json:
    return {"type": "affine", "matrix": [*rows, [0, 0, 0, 1]]}


def test_layers_are_moved(tmp_path: Path) -> None:
    """What scales and shifts is in the coordinates; what turns leads to the dataset."""
    write_mag(tmp_path / "color/1", COLOR)
    shifted = affine([2, 0, 0, 10], [0, 1, 0, -16], [0, 0, 1, 0])
    turned = affine([0, -1, 0, 100], [1, 0, 0, 0], [0, 0, 1, 0])
    bent = {"type": "thin_plate_spline", "correspondences": {"source": [], "target": []}}
    mags = [{"mag": 1, "path": "color/1"}]
    names = {"shifted": [shifted], "turned": [shifted, turned], "bent": [shifted, bent]}
    layers = [layer(name, mags, coordinateTransformations=each) for name, each in names.items()]
    write_said(tmp_path, *layers, scale=[1, 2, 4])
    tree = open_image(tmp_path, series="shifted")
    assert starts(tree) == [(26, 0, 16)] and str(tree.ngff.pixel_size["x"]) == "2.0 nanometer"
    tree = converted(tmp_path, tmp_path, series="turned", version="0.6")
    assert starts(tree) == [(8, 32, 16)]
    here = [0, 16, 32, 8]  # c, z, y and x: voxel 8, 16, 4
    moved = tree.ngff.transform(np.array([here]), from_="layer", to="dataset")
    np.testing.assert_allclose(moved, [[0, 16, 26 * 2, 100]])  # that goes to 100 - 0, 26
    said = convert(tmp_path, tmp_path / "b.ome.zarr", series="bent")
    assert [issue.path for issue in said.issues] == ["coordinateTransformations"]
    assert "thin plate spline" in said.dropped[0]


def test_a_streamed_dataset_keeps_its_token(tmp_path: Path) -> None:
    """Every request has it, and nothing that is shown."""
    dataset(tmp_path / "data/v9/zarr/org")
    token = f"token={SECRET}"
    with CountingServer(tmp_path) as server:
        server.query = token
        url = f"{server.url}/data/v9/zarr/org/?{token}"
        tree = open_image(url)
        check(tree, COLOR.transpose(0, 3, 2, 1))
        convert(url, tmp_path / "a.ome.zarr")
        assert {request.query for request in server.requests} == {token}
        assert server.misses == sum(r.status == 404 for r in server.requests)
        shown = [repr(tree), tree.ngff._repr_html_(), str(tree.encoding), repr(tree["0/image"])]
        server.query = "token=another"
        for failing in (lambda: open_image(url), lambda: tree.ngff.level(0).load()):
            with pytest.raises(DeniedError, match="403 Forbidden") as caught:
                failing()
            shown += traceback.format_exception(caught.value, chain=True)
        assert SECRET not in "".join(shown)
    written = "".join(path.read_text() for path in tmp_path.rglob("a.ome.zarr/**/zarr.json"))
    assert SECRET not in written


def test_private_links_are_not_shown(tmp_path: Path) -> None:
    dataset(tmp_path / f"data/annotations/zarr/{SECRET}")
    with CountingServer(tmp_path) as server:
        url = f"{server.url}/data/annotations/zarr/{SECRET}"
        tree = open_image(url)
        check(tree, COLOR.transpose(0, 3, 2, 1))
        shown = repr(tree) + str(tree.encoding)
        server.failures[f"/data/annotations/zarr/{SECRET}/color/1/zarr.json"] = 500
        with pytest.raises(StoreError, match="500 Internal") as caught:
            open_image(url)
        shown += "".join(traceback.format_exception(caught.value))
        assert SECRET not in shown.replace("{SECRET}", "")


def test_a_streamed_layer_is_ome_zarr(tmp_path: Path) -> None:
    store = write_image(tmp_path / "data/zarr/org/ds/color", version="0.4", axes="zyx")
    with CountingServer(tmp_path) as server:
        server.query = f"token={SECRET}"
        url = f"{server.url}/data/zarr/org/ds/color?{server.query}"
        expected = xr.open_datatree(store, engine="ngff")["0/image"].values
        for tree in (open_image(url), xr.open_datatree(url, engine="ngff")):
            np.testing.assert_array_equal(tree["0/image"].values, expected)
        with pytest.raises(NgffError, match=r"cannot be given to others|secret|serve") as caught:
            tree.ngff.tensorstore_spec()
        assert SECRET not in str(caught.value)


def test_layers_of_other_formats(tmp_path: Path) -> None:
    write_mag(tmp_path / "color/1", COLOR)
    old = layer("old", [{"resolution": 1, "cubeLength": 1024}], dataFormat="wkw")
    write_said(tmp_path, old)
    with pytest.raises(
        UnsupportedError, match=r"old is wkw.*webknossos copy-dataset --data-format"
    ):
        open_image(tmp_path)
    write_said(tmp_path, old, layer("color", [1]))
    check(open_image(tmp_path), COLOR.transpose(0, 3, 2, 1))
    assert "the layer old (wkw)" in convert(tmp_path, tmp_path / "a.ome.zarr").dropped
    with pytest.raises(UnsupportedError, match="old is wkw"):
        open_image(tmp_path, series="old")


BROKEN: dict[str, tuple[Json, str]] = {
    "no layers": ({"dataLayers": []}, "dataLayers: expected a list"),
    "too many": ({"dataLayers": [{}] * 2000}, "found 2000"),
    "a layer of text": ({"dataLayers": ["x"]}, r"dataLayers\[0\]: expected an object"),
    "the same name": ({"dataLayers": [layer("a", [1])] * 2}, "different names"),
    "a name that leads out": ({"dataLayers": [layer("../a", [1])]}, "name of a folder"),
    "no mags": ({"dataLayers": [layer("color", [])]}, r"\.mags: expected"),
    "a mag of letters": ({"dataLayers": [layer("color", ["x-y"])]}, r"mags\[0\]\.mag"),
    "a mag of 0": ({"dataLayers": [layer("color", [0])]}, r"mags\[0\]\.mag"),
    "up": ({"dataLayers": [layer("c", [{"mag": 1, "path": "../../c"}])]}, "out of the dataset"),
    "absolute": ({"dataLayers": [layer("c", [{"mag": 1, "path": "/etc"}])]}, "out of the dataset"),
    "away": ({"dataLayers": [layer("c", [{"mag": 1, "path": "s3://b/c"}])]}, "out of the dataset"),
    "no array": (
        {"dataLayers": [layer("color", [4])]},
        "no array of zarr3 at color/4 or color/4-4",
    ),
    "no box": ({"dataLayers": [layer("color", [1], boundingBox=None)]}, "boundingBox: expected"),
    "a negative box": (
        {"dataLayers": [layer("color", [1], boundingBox=box((-1, 0, 0)))]},
        "from 0",
    ),
    "a box elsewhere": (
        {"dataLayers": [layer("color", [1], boundingBox=box((640, 0, 0)))]},
        "color/1 has 64 pixels along x, the bounding box of the layer begins at 640",
    ),
    "mags of two dtypes": (
        {"dataLayers": [layer("color", [1, {"mag": 2, "path": "float/1"}])]},
        "not of one dtype",
    ),
    "labels of floats": (
        {"dataLayers": [layer("float", [1], category="segmentation")]},
        "holds float32, expected labels",
    ),
    "a size of 0": ({"scale": [1, 0, 1]}, "scale: expected three sizes"),
    "a unit that is none": ({"scale": {"factor": [1, 1, 1], "unit": "9**9**9"}}, "unit of length"),
    "an affine of text": (
        {"dataLayers": [layer("color", [1], coordinateTransformations=[affine(["x"])])]},
        "matrix of 4 x 4",
    ),
    "axes": (
        {"dataLayers": [layer("color", [1], additionalAxes=[{"name": "x", "bounds": [0, 1]}])]},
        r"additionalAxes\[0\]: expected a name of its own",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_datasets(tmp_path: Path, name: str) -> None:
    more, expected = BROKEN[name]
    write_mag(tmp_path / "color/1", COLOR)
    write_mag(tmp_path / "float/1", COLOR.astype("float32"))
    write_said(tmp_path, layer("color", [1]), **more)
    with pytest.raises(NgffError, match=expected):
        convert(tmp_path, tmp_path / "a.ome.zarr")
    assert not (tmp_path / "a.ome.zarr").exists()


def test_documents_that_are_no_json_and_arrays_that_are_too_large(tmp_path: Path) -> None:
    path = write_said(tmp_path, layer("color", [1]))
    text = (path / "datasource-properties.json").read_text()
    (path / "datasource-properties.json").write_text(text[:-9])
    with pytest.raises(NgffError, match=r"datasource-properties.json: is no JSON"):
        open_image(path)
    (path / "datasource-properties.json").write_text("[" * 10_000)
    with pytest.raises(NgffError, match=r"datasource-properties.json: is no JSON"):
        open_image(path)
    zarr.create_array(
        str(path / "huge/1"), shape=(1, 2**36, 2**36, 2**36), chunks=(1, 64, 64, 64), dtype="u2"
    )
    large = box((0, 0, 0), (2**36,) * 3)
    write_said(path, layer("huge", [1], boundingBox=large))
    with pytest.raises(UnsupportedError, match="is it damaged"):
        open_image(path)


def test_a_dtype_that_is_said_wrongly(tmp_path: Path) -> None:
    write_mag(tmp_path / "color/1", COLOR)
    write_said(tmp_path, layer("color", [1], "uint8"))
    tree = open_image(tmp_path)
    check(tree, COLOR.transpose(0, 3, 2, 1))
    assert "said to hold uint8, its arrays hold uint16" in tree.ngff.issues[0].message


# ---- Neuroglancer precomputed --------------------------------------------------------------------


def write_scale(
    folder: Path, pixels: np.ndarray, resolution: list[float], offset: list[int], **more: Any
) -> Any:
    """Write a scale (x, y, z, channel) with tensorstore, and return what it reads again."""
    kind = more.pop("type", "image")
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{folder}/"},
        "multiscale_metadata": {
            "type": kind,
            "data_type": pixels.dtype.name,
            "num_channels": pixels.shape[3],
        },
        "scale_metadata": {
            "key": "_".join(f"{size:g}" for size in resolution),
            "size": list(pixels.shape[:3]),
            "resolution": resolution,
            "voxel_offset": offset,
            "chunk_size": [16, 16, 8],
            "encoding": "raw",
            **more,
        },
    }
    opened = tensorstore.open(spec, create=True, open=True).result()
    opened[...] = pixels
    return opened.read().result()


SHARDED = {
    "@type": "neuroglancer_uint64_sharded_v1",
    "preshift_bits": 1,
    "minishard_bits": 2,
    "shard_bits": 1,
    "hash": "identity",
    "minishard_index_encoding": "gzip",
    "data_encoding": "gzip",
}
FINE = RNG.integers(0, 999, (40, 30, 20, 2), dtype="uint16")
ROUGH = RNG.integers(0, 999, (20, 15, 20, 2), dtype="uint16")


def volume(folder: Path, **more: Any) -> Path:
    """Write a volume of two scales and two channels."""
    write_scale(folder, FINE, [4, 4, 40], [8, -16, 3], **more)
    write_scale(folder, ROUGH, [8, 8, 40], [4, -8, 3], **more)
    return folder


@pytest.mark.parametrize("more", [{}, {"sharding": SHARDED}])
def test_a_volume(tmp_path: Path, more: Json) -> None:
    path = volume(tmp_path / "em", **more)
    said = json.loads((path / "info").read_text())
    (path / "info").write_text(json.dumps({**said, "scales": said["scales"][::-1]}))
    opened = open_image(path)
    for tree in (opened, converted(path, tmp_path)):
        assert tree.ngff.name == "em" and tree.ngff.levels[0].dims == ("c", "z", "y", "x")
        check(tree, FINE.transpose(3, 2, 1, 0))
        check(tree, ROUGH.transpose(3, 2, 1, 0), level=1)
        # corners are at 32, -64, 120 nm, where Neuroglancer draws them
        np.testing.assert_allclose(starts(tree), [(34, -62, 140), (36, -60, 140)])
        assert str(tree.ngff.pixel_size["z"]) == "40.0 nanometer"
        assert json.loads(tree.attrs["original_metadata"]["text"])["num_channels"] == 2


@pytest.mark.parametrize("encoding", ["compressed_segmentation", "raw"])
def test_a_segmentation(tmp_path: Path, encoding: str) -> None:
    ids = RNG.integers(0, 2**60, (40, 30, 20, 1), dtype="uint64")
    more: Json = {"encoding": encoding, "type": "segmentation"}
    if encoding == "compressed_segmentation":
        more["compressed_segmentation_block_size"] = [8, 8, 8]
    write_scale(tmp_path / "seg", ids, [8, 8, 8], [0, 0, 0], **more)
    info = tmp_path / "seg/info"
    info.write_text(json.dumps({**json.loads(info.read_text()), "mesh": "mesh", "skeletons": "s"}))
    tree = open_image(tmp_path / "seg")
    assert tree.ngff.kind == "labels" and tree.ngff.level(0).dims == ("z", "y", "x")
    check(tree, ids[..., 0].transpose(2, 1, 0))
    said = convert(tmp_path / "seg", tmp_path / "seg.ome.zarr")
    assert said.dropped == ("meshes", "skeletons")
    check(xr.open_datatree(tmp_path / "seg.ome.zarr"), ids[..., 0].transpose(2, 1, 0))


def test_what_jpeg_made_of_it(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (40, 30, 20, 3), dtype="uint8")
    read = write_scale(tmp_path, pixels, [1, 1, 1], [0, 0, 0], encoding="jpeg", jpeg_quality=90)
    assert not np.array_equal(read, pixels)
    check(open_image(tmp_path), read.transpose(3, 2, 1, 0))


@pytest.mark.parametrize(
    "form",
    ["precomputed://{}/em?{}", "{}/em/info?{}", "{}/em/?{}|neuroglancer-precomputed:"],
)
def test_a_volume_elsewhere(tmp_path: Path, form: str) -> None:
    volume(tmp_path / "em")
    with CountingServer(tmp_path) as server:
        server.query = f"token={SECRET}"
        url = form.format(server.url, server.query)
        tree = open_image(url)
        assert tree.ngff.name == "em"
        check(tree, FINE.transpose(3, 2, 1, 0))
        assert {request.query for request in server.requests} == {server.query}
        shown = repr(tree) + str(tree.encoding)
        server.query = "token=another"
        lost = tree.ngff.levels[1]
        for failing in (lambda: lost[:, :, :5].load(), lambda: open_image(url)):
            with pytest.raises(StoreError, match="403") as caught:
                failing()
            shown += "".join(traceback.format_exception(caught.value))
        assert SECRET not in shown


def test_where_tensorstore_reads() -> None:
    """What is given to others holds no token; what is read here does."""
    location = Location("http", "https://host/em?token=1")
    assert kvstore_of(location) is None
    assert kvstore_of(location, headers=["a: b"], with_secrets=True) == {
        "driver": "http",
        "base_url": "https://host/em?token=1",
        "headers": ["a: b"],
    }
    gcs = {"driver": "gcs", "bucket": "b", "path": "em"}
    assert kvstore_of(Location("gs", "em", "b")) == gcs
    assert kvstore_of(Location("s3", "em", "b", credentials="given"), with_secrets=True) is None


def test_without_tensorstore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume(tmp_path / "em")
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(MissingDependencyError, match=r"ngff-xarray\[precomputed\]"):
        open_image(tmp_path / "em")


def scale(**more: Any) -> Json:
    return {"key": "4_4_40", "size": [40, 30, 20], "resolution": [4, 4, 40], **more}


BROKEN_INFO: dict[str, tuple[Json, str]] = {
    "type": ({"type": "mesh"}, "info: type: expected 'image' or 'segmentation'"),
    "channels": ({"num_channels": 0}, "info: num_channels"),
    "no scales": ({"scales": []}, "info: scales: expected a list"),
    "scales of text": ({"scales": ["x"]}, r"scales\[0\]: expected an object"),
    "up": ({"scales": [scale(key="../4_4_40")]}, r"scales\[0\].key: expected a path below"),
    "away": ({"scales": [scale(key="http://host/x")]}, r"scales\[0\].key: expected a path below"),
    "sizes": ({"scales": [scale(size=[1, 2])]}, r"scales\[0\].size"),
    "no sizes": ({"scales": [{"key": "a"}]}, r"scales\[0\].size"),
    "no resolution": ({"scales": [scale(resolution=[1, 0, 1])]}, r"scales\[0\].resolution"),
    "an offset of text": ({"scales": [scale(voxel_offset="x")]}, r"scales\[0\].voxel_offset"),
    "the same": ({"scales": [scale(), scale()]}, "different keys"),
    "no chunks": ({"scales": [scale()]}, "em: cannot be read"),
    "a dtype": ({"data_type": "complex"}, "em: cannot be read"),
}


@pytest.mark.parametrize("name", BROKEN_INFO)
def test_broken_volumes(tmp_path: Path, name: str) -> None:
    more, expected = BROKEN_INFO[name]
    path = volume(tmp_path / "em")
    said = json.loads((path / "info").read_text())
    (path / "info").write_text(json.dumps({**said, **more}))
    with pytest.raises(NgffError, match=expected):
        convert(path, tmp_path / "a.ome.zarr")
    assert not (tmp_path / "a.ome.zarr").exists()


def test_volumes_that_end_early_or_are_too_large(tmp_path: Path) -> None:
    path = volume(tmp_path / "em")
    text = (path / "info").read_text()
    for chunk in (path / "4_4_40").iterdir():
        chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(StoreError, match="em: cannot be read"):
        open_image(path).ngff.level(0).load()
    (path / "info").write_text(text.replace("[40,30,20]", f"[{2**39},30,20]"))
    with pytest.raises(UnsupportedError, match="is it damaged"):
        open_image(path)
    (path / "info").write_text(text[:-1])
    with pytest.raises(NgffError, match="info: is no JSON"):
        open_image(path)


# ---- documents that somebody edited --------------------------------------------------------------


def edited(value: Any, random: np.random.Generator) -> Any:
    """Return JSON with one part of it replaced by something else, or left out."""
    odd = [
        None,
        -1,
        7,
        2.5,
        2**70,
        1e308,
        "",
        "../x",
        "9**9",
        [],
        {},
        [[]],
        True,
        [1, 2],
        "\x1b[31m",
    ]
    if not isinstance(value, dict | list) or not value or random.random() < 0.1:
        return odd[random.integers(len(odd))]
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[random.integers(len(keys))]
    made = value.copy()
    if random.random() < 0.15:
        del made[key]
    else:
        made[key] = edited(value[key], random)
    return made


@pytest.mark.parametrize("write", [dataset, volume])
def test_edited_documents_open_or_say_what_is_wrong(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    path = write(tmp_path / "a")
    document = path / ("info" if write is volume else "datasource-properties.json")
    said = json.loads(document.read_text())
    random = np.random.default_rng(1)
    opened = 0
    for _ in range(150):
        document.write_text(json.dumps(edited(said, random)))
        try:
            tree = open_image(path)
        except NgffError as error:
            assert "\x1b" not in str(error)
        else:
            opened += 1
            assert all(np.isfinite(numbers).all() for numbers in starts(tree))
    assert 0 < opened < 150


# ---- the engine ----------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [dataset, volume])
def test_the_engine_says_who_opens_them(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path / "a")
    with pytest.raises(NotOmeError, match=r"no OME-Zarr, but a .*ngff_xarray.open_image"):
        xr.open_datatree(path)
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    with pytest.raises(NotOmeError, match=r"no OME-Zarr"):
        xr.open_datatree(path, engine="ngff")


@pytest.mark.parametrize("write", [dataset, volume])
def test_the_command_looks_at_them(
    tmp_path: Path, write: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        commands.main(["info", str(write(tmp_path / "a"))])
    assert not ended.value.code
    assert "nm" in capsys.readouterr().out


# ---- SpatialData ---------------------------------------------------------------------------------


def link(name: str, axes: str, **more: Any) -> Json:
    """Return a transformation as SpatialData writes it."""
    listed = [
        {"name": axis, "type": "channel"}
        if axis == "c"
        else {"name": axis, "type": "space", "unit": "unit"}
        for axis in axes
    ]
    ends = {"input": {"name": axes, "axes": listed}, "output": {"name": name, "axes": listed}}
    return {**more, **ends}


def element(path: Path, pixels: np.ndarray, axes: str, links: list[Json], version: str) -> None:
    """Write an element of two levels as SpatialData does: both in pixels of the first."""
    is_old = version == "0.4"
    group = zarr.create_group(str(path), zarr_format=2 if is_old else 3)
    listed = [{"name": axis, "type": "channel" if axis == "c" else "space"} for axis in axes]
    datasets = []
    for number in range(2):
        step = 2**number
        box = tuple(slice(None) if axis == "c" else slice(None, None, step) for axis in axes)
        more = {"chunk_key_encoding": {"name": "v2", "separator": "/"}} if is_old else {}
        group.create_array(f"s{number}", data=np.ascontiguousarray(pixels[box]), **more)
        shift = [0.0 if axis == "c" else (step - 1) / 2 for axis in axes]
        placed = [
            {"type": "scale", "scale": [1.0 if axis == "c" else float(step) for axis in axes]},
            {"type": "translation", "translation": shift},
        ]
        datasets.append({"path": f"s{number}", "coordinateTransformations": placed})
    entry: Json = {"name": path.name, "axes": listed, "datasets": datasets}
    entry["coordinateTransformations"] = links
    said: Json = {"multiscales": [entry]}
    if "c" in axes:
        said["omero"] = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
    else:
        said["image-label"] = {"version": version}
    stated = f"{version}-dev-spatialdata"
    if is_old:
        entry["version"] = stated
        group.attrs.update(said)
    else:
        group.attrs["ome"] = {**said, "version": stated}
    group.attrs["spatialdata_attrs"] = {"version": "0.2" if is_old else "0.3"}


CELLS = RNG.integers(0, 9, (30, 40), dtype="uint32")
SCAN = RNG.integers(0, 999, (2, 30, 40), dtype="uint16")
PLACED = [
    link(
        "global",
        "cyx",
        type="sequence",
        transformations=[
            link("global", "cyx", type="scale", scale=[1.0, 0.5, 0.25]),
            link("global", "cyx", type="translation", translation=[0.0, 10.0, 20.0]),
        ],
    ),
    link("swapped", "cyx", type="affine", affine=[[1, 0, 0, 0], [0, 0, 1, 5], [0, 1, 0, 7]]),
]


def spatialdata(path: Path, version: str = "0.5", links: list[Json] = PLACED) -> Path:
    """Write a store with an image, labels, and tables of points."""
    number = 2 if version == "0.4" else 3
    root = zarr.create_group(str(path), zarr_format=number)
    kinds = ("images", "labels", "points", "shapes", "tables")
    groups = {kind: root.create_group(kind) for kind in kinds}
    element(path / "images/scan", SCAN, "cyx", links, version)
    placed = link("global", "yx", type="scale", scale=[0.5, 0.25])
    element(path / "labels/cells", CELLS, "yx", [placed], version)
    listed = {"labels": ["cells"]}
    groups["labels"].attrs.update(listed if number == 2 else {"ome": listed})
    points = groups["points"].create_group("dots")
    points.attrs.update({"encoding-type": "ngff:points", "spatialdata_attrs": {"version": "0.2"}})
    root.attrs["spatialdata_attrs"] = {"version": "0.1" if number == 2 else "0.2"}
    zarr.consolidate_metadata(str(path), zarr_format=number)
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.filterwarnings("ignore:Consolidated metadata")  # of zarr, which SpatialData writes
def test_a_store_of_spatialdata(tmp_path: Path, version: str) -> None:
    path = spatialdata(tmp_path / "a.zarr", version)
    said = convert(path, tmp_path / "b.ome.zarr")
    for tree in (xr.open_datatree(path), open_image(path), xr.open_datatree(said.target)):
        assert tree.ngff.kind == "collection"
        assert list(tree.ngff.images) == ["images/scan", "labels/cells"]
        scan, cells = tree.ngff.images.values()
        check(scan, SCAN)
        check(scan, SCAN[:, ::2, ::2], level=1)
        check(cells, CELLS)
        assert cells.ngff.kind == "labels"
        assert [channel.name for channel in scan.ngff.channels] == ["DAPI", "GFP"]
        for image, first in ((scan, (20.125, 10.25)), (cells, (0.125, 0.25))):
            # the centres of the pixels whose corners SpatialData places
            step = np.array([0.125, 0.25])
            np.testing.assert_allclose(starts(image), [first, first + step])
    scan = open_image(path, series="scan")
    there = scan.ngff.transform(np.array([[0, 10.25, 20.125]]), from_="global", to="swapped")
    np.testing.assert_allclose(there, [[0, 5.5, 7.5]])
    assert "points/dots" in said.dropped
    assert any("'swapped'" in text or "swapped" in text for text in said.dropped)
    assert any("not read: ['points/dots']" in issue.message for issue in said.issues)
    assert open_image(path, series="labels/cells").ngff.kind == "labels"
    with pytest.raises(SelectionError, match="there are images/scan, labels/cells"):
        open_image(path, series="nuclei")
    newer = converted(path, tmp_path, version="0.6").ngff.images["images/scan"]
    there = newer.ngff.transform(np.array([[0, 10.25, 20.125]]), from_="global", to="swapped")
    np.testing.assert_allclose(there, [[0, 5.5, 7.5]])


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_a_store_of_spatialdata_elsewhere(tmp_path: Path) -> None:
    """Its consolidated metadata list the elements; one request is enough to open it."""
    spatialdata(tmp_path / "a.zarr")
    with CountingServer(tmp_path) as server:
        tree = xr.open_datatree(f"{server.url}/a.zarr")
        assert list(tree.ngff.images) == ["images/scan", "labels/cells"]
        assert server.count == 1
        check(tree.ngff.images["images/scan"], SCAN)


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_a_store_of_spatialdata_that_nobody_lists(tmp_path: Path) -> None:
    """Without consolidated metadata a web server does not say which images there are."""
    path = spatialdata(tmp_path / "a.zarr")
    document = json.loads((path / "zarr.json").read_text())
    del document["consolidated_metadata"]
    (path / "zarr.json").write_text(json.dumps(document))
    assert list(xr.open_datatree(path).ngff.images) == ["images/scan", "labels/cells"]
    with CountingServer(tmp_path) as server:
        tree = xr.open_datatree(f"{server.url}/a.zarr")
        assert list(tree.ngff.images) == ["labels/cells"]
        alone = xr.open_datatree(f"{server.url}/a.zarr", group="images/scan")
        np.testing.assert_array_equal(alone.ngff.level(0).values, SCAN)
    (path / "labels/zarr.json").unlink()
    with CountingServer(tmp_path) as server:
        tree = xr.open_datatree(f"{server.url}/a.zarr")
        assert not tree.ngff.images and "open one by its path" in tree.ngff.issues[0].message


@pytest.mark.parametrize(
    ("links", "text"),
    [
        ([PLACED[1]], "in pixels"),
        ([link("global", "cyx", type="scale", scale=[1, 0, 1])], "cannot be read"),
        ([link("global", "cyx", type="scale", scale=[1, "x", 1])], "cannot be read"),
        ([link("global", "cyx", type="scale", scale=[1, 1e300, 1])], "cannot be read"),
        ([link("global", "czx", type="identity")], "cannot be read"),
        ([link("global", "cyx", type="spline")], "cannot be read"),
        ([link("global", "cyx", type="sequence", transformations=[])], "be read"),
        ([link("other", "cyx", type="identity")], "system 'other'"),
        (
            [link("global", "cyx", type="mapAxis", mapAxis={"c": "c", "y": "x", "x": "y"})],
            "in pixels",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_transformations_that_are_not_in_the_coordinates(
    tmp_path: Path, links: list[Json], text: str
) -> None:
    tree = xr.open_datatree(spatialdata(tmp_path / "a.zarr", links=links))
    scan = tree.ngff.images["images/scan"]
    assert starts(scan)[0] == (0.5, 0.5)
    assert any(text in issue.message for issue in tree.ngff.issues)
    check(scan, SCAN)


def test_other_groups_are_not_claimed(tmp_path: Path) -> None:
    """An element of points has the same attribute as a store."""
    group = zarr.create_group(str(tmp_path / "a.zarr"))
    group.attrs.update({"encoding-type": "ngff:points", "spatialdata_attrs": {"version": "0.2"}})
    assert not ngff_xarray.backend.NgffBackendEntrypoint().guess_can_open(tmp_path / "a.zarr")
