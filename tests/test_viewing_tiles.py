"""The tile server: the pixels of tiles, what is read for them and how often, what goes wrong."""

from __future__ import annotations

import io
import json
import math
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from servers import CountingServer
from stores import AXES, write_image

from ngff_xarray import lazy, render
from ngff_xarray.viewing import Frames, TileServer, View, home_view, make_world, planning
from ngff_xarray.viewing.encoding import MOST_BYTES, encode, fitting_labels, label_runs
from ngff_xarray.viewing.planning import TileSpec
from ngff_xarray.viewing.tiles import Tile

Array = NDArray[Any]
Reads = list[Any]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """What is asked of stored arrays, in the order it is asked."""
    asked: Reads = []
    original = lazy._ZarrArray._method

    def method(self: Any, key: Any) -> Any:
        asked.append(key.tuple)
        return original(self, key)

    monkeypatch.setattr(lazy._ZarrArray, "_method", method)
    return asked


@pytest.fixture
def opened() -> Iterator[Any]:
    """Opens servers, and closes them at the end."""
    servers: list[TileServer] = []

    def open_server(obj: Any, **keywords: Any) -> tuple[TileServer, View]:
        labels = keywords.pop("labels", True)
        world = make_world(obj, labels=labels)
        servers.append(TileServer(world, **keywords))
        return servers[-1], lossless(home_view(world, keywords.pop("size", (256, 256))))

    yield open_server
    for server in servers:
        server.close()


def lossless(view: View, **changes: Any) -> View:
    return View(**{**vars(view), "lossless": True, **changes})


def pixels(tile: Tile) -> Array:
    assert not tile.is_error, tile.message
    return np.asarray(Image.open(io.BytesIO(tile.data)))


def only(server: TileServer, view: View) -> Array:
    """The one tile of a view, at the finest level."""
    (spec,) = server.plan(view.moved(scale=1e-3 if view.scale < 1e-3 else view.scale)).tiles
    return pixels(server.tile(spec))


def array(values: Any, dims: str = "yx", **coords: Any) -> xr.DataArray:
    return xr.DataArray(np.asarray(values), dims=tuple(dims), coords=coords or None, name="image")


def noise(shape: tuple[int, ...], dtype: str = "u2", seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)


# ---- pixels ------------------------------------------------------------------------------------


def test_a_tile_is_the_renderers_picture(scan: Path, opened: Any) -> None:
    tree = xr.open_datatree(scan)
    server, view = opened(tree)
    plane = tree["0/image"].isel(t=1, z=2).values
    labels = tree["labels/cells/0/labels"].isel(t=1, z=2).values
    colors, windows = [(0, 0, 255), (0, 255, 0)], [(100.0, 50000.0), (200.0, 60000.0)]
    expected = render.composite(list(plane), colors, windows)
    over = render.overlay_labels(expected, labels, stored=tree.ngff.labels["cells"].ngff.colors)
    np.testing.assert_array_equal(only(server, view), over)
    bare = view.with_label("scan", "cells", visible=False)
    np.testing.assert_array_equal(only(server, bare), expected)
    outlined = view.with_label("scan", "cells", outline=True, selected=frozenset({1}))
    over = render.overlay_labels(
        expected,
        labels,
        stored=tree.ngff.labels["cells"].ngff.colors,
        outline=True,
        selected={1},
    )
    np.testing.assert_array_equal(only(server, outlined), over)


def test_channels_are_drawn_as_the_view_says(scan: Path, opened: Any) -> None:
    tree = xr.open_datatree(scan)
    server, view = opened(tree, labels=None)
    one = view.with_channel("scan", "DAPI", active=False).with_channel(
        "scan", "GFP", window=(0.0, 4000.0), gamma=0.5, inverted=True, colormap="viridis"
    )
    plane = tree["0/image"].isel(t=1, z=2, c=1).values
    expected = render.composite(
        [plane], [render.colormap("viridis")], [(0, 4000)], gammas=[0.5], inverted=[True]
    )
    np.testing.assert_array_equal(only(server, one), expected)
    none = one.with_channel("scan", "GFP", active=False)
    assert not only(server, none).any()


def test_moving_tiles_are_jpeg_and_settled_ones_png(opened: Any) -> None:
    server, view = opened(array(noise((50, 60), "u1")))
    (moving,) = server.plan(lossless(view, lossless=False)).tiles
    (settled,) = server.plan(view).tiles
    assert (server.tile(moving).format, server.tile(settled).format) == ("jpeg", "png")
    difference = pixels(server.tile(moving)).astype(int) - pixels(server.tile(settled))
    assert np.abs(difference).mean() < 8
    assert Image.open(io.BytesIO(server.tile(moving).data)).layer[0][1:3] == (1, 1)  # 4:4:4


@pytest.mark.parametrize(
    "dtype", ["bool", "u1", "i1", "<u2", ">u2", ">i4", "u8", "<f4", ">f8", "f2"]
)
def test_every_dtype_is_drawn(dtype: str, opened: Any, tmp_path: Path) -> None:
    values = noise((40, 50)).astype(dtype)
    server, view = opened(array(values))
    window = render.auto_window(values)
    expected = render.composite([values], [(255, 255, 255)], [window])
    np.testing.assert_array_equal(only(server, view), expected)
    assert server.window("image", "0") == window
    counts, edges = server.histogram("image", "0", 16)
    assert counts.sum() == values.size
    assert len(edges) == len(counts) + 1
    assert server.probe(view, 1, 2)["values"] == [["0", f"{float(values[2, 1]):g}"]]


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan, np.inf, 1e300])
def test_constant_images_are_drawn(value: float, opened: Any) -> None:
    server, view = opened(array(np.full((30, 30), value)))
    assert only(server, view).shape == (30, 30, 3)
    counts, edges = server.histogram("image", "0")
    assert np.isfinite(edges).all()
    assert (np.diff(edges) > 0).all()
    assert counts.sum() == (900 if math.isfinite(value) else 0)


def test_images_without_pixels_answer(opened: Any) -> None:
    server, view = opened(array(np.zeros((0, 5), "u2")))
    assert server.plan(view).tiles == ()
    assert server.window("image", "0") == (0.0, 1.0)
    assert server.probe(view, 0, 0)["values"] == []
    assert server.histogram("image", "0")[0].sum() == 0
    assert not server.picture(view).any()


def test_an_axis_without_entries_answers(opened: Any) -> None:
    server, view = opened(array(np.zeros((0, 8, 8), "u2"), "zyx"))
    assert server.plan(view).tiles == ()
    assert server.window("image", "0") == (0.0, 1.0)


@pytest.mark.parametrize("how", ["lazy", "dask", "numpy"])
def test_lazy_dask_and_loaded_images_are_the_same(how: str, scan: Path, opened: Any) -> None:
    tree = xr.open_datatree(scan, chunks={} if how == "dask" else None)
    if how == "numpy":
        tree = tree.load()
    server, view = opened(tree)
    reference, _ = opened(xr.open_datatree(scan))
    np.testing.assert_array_equal(only(server, view), only(reference, view))


def test_descending_and_cropped_images(scan: Path, opened: Any) -> None:
    whole = xr.open_datatree(scan)["0/image"]
    part = whole.isel(y=slice(5, None), x=slice(None, None, -1), t=0, z=slice(1, 3), c=[1])
    server, view = opened(part)
    plane = part.isel(z=1, c=0).values
    expected = render.composite([plane], [(0, 255, 0)], [(200, 60000)])
    np.testing.assert_array_equal(only(server, view), expected)
    picture = server.picture(view.moved(size=(62, 45), scale=0.5))
    np.testing.assert_array_equal(picture, expected[:, ::-1])  # x grows to the right


def test_planes_along_other_axes(opened: Any) -> None:
    values = noise((6, 40, 50))
    world = make_world(array(values, "zyx"))
    server, _ = opened(array(values, "zyx"))
    window = render.auto_window(values[3])
    for plane, expected in (
        (("z", "x"), values[:, 20]),
        (("z", "y"), values[:, :, 25]),
        (("x", "y"), values[3].T),
        (("y", "z"), values[:, :, 25].T),
    ):
        other = TileServer(world.on(plane), share=server)
        view = lossless(home_view(other.world, (100, 100)))
        view = view.with_channel("image", "0", window=window)
        drawn = render.composite([expected], [(255, 255, 255)], [window])
        np.testing.assert_array_equal(only(other, view), drawn)
        other.close()
    assert server.tile(server.plan(home_view(server.world)).tiles[0])  # its threads go on


# ---- labels of another geometry ----------------------------------------------------------------


def inflated(stream: bytes, dtype: str) -> Array:
    return np.frombuffer(zlib.decompress(stream), dtype)


def drawn_ids(server: TileServer, view: View) -> Array:
    """The ids at every pixel of the one tile of a view."""
    (spec,) = server.plan(view).tiles
    (runs,) = server.labels([spec])
    ids = inflated(runs.ids, "<u8" if runs.wide else "<u4")
    lengths = inflated(runs.lengths, "<u2")
    return np.repeat(ids, lengths).reshape(runs.height, runs.width)


@given(
    factor=st.sampled_from([0.25, 0.5, 1, 2, 3]),
    shift=st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
    flip=st.booleans(),
)
def test_labels_are_looked_up_in_the_world(
    factor: float, shift: tuple[int, int], flip: bool
) -> None:
    labels = np.arange(1, 20 * 30 + 1, dtype="u2").reshape(20, 30)
    y = (np.arange(20) + 0.5) * factor - 0.5 + shift[0]
    x = (np.arange(30) + 0.5) * factor - 0.5 + shift[1]
    over = array(labels, y=y, x=x).rename("labels")
    over = over.isel(x=slice(None, None, -1)) if flip else over
    world = make_world(array(np.zeros((16, 18), "u1")), labels=over)
    server = TileServer(world)
    found = drawn_ids(server, home_view(world)) if server.plan(home_view(world)).tiles else None
    rows = np.floor((np.arange(16) - shift[0] + 0.5) / factor + 1e-6).astype(int)
    columns = np.floor((np.arange(18) - shift[1] + 0.5) / factor + 1e-6).astype(int)
    inside = np.ix_((rows >= 0) & (rows < 20), (columns >= 0) & (columns < 30))
    expected = np.zeros((16, 18), int)
    expected[inside] = labels[np.ix_(rows.clip(0, 19), columns.clip(0, 29))][inside]
    if found is not None and found.shape == expected.shape:
        np.testing.assert_array_equal(found, expected)
    else:
        assert not expected.any()
    server.close()


def test_labels_over_a_turned_image(tmp_path: Path, opened: Any) -> None:
    space = [AXES[name] for name in "yx"]
    turn = {"type": "rotation", "rotation": [[0, -1], [1, 0]]}
    tree = xr.open_datatree(
        write_image(
            tmp_path / "a.ome.zarr",
            version="0.6",
            axes="yx",
            systems=[{"name": "world", "axes": space}],
            transformations=[{**turn, "input": {"name": "physical"}, "output": {"name": "world"}}],
            labels={"cells": {}},
        )
    ).ngff.to_system("world")
    values = tree["labels/cells/0"]["labels"].values
    server, view = opened(tree)
    np.testing.assert_array_equal(drawn_ids(server, view), values.T)
    # and over an image that is not turned: y of the world is -x of the labels
    straight = array(np.zeros((30, 20), "u1"), y=-np.arange(30) / 2, x=np.arange(20) / 2)
    server, view = opened(straight, labels=tree.ngff.labels["cells"])
    np.testing.assert_array_equal(drawn_ids(server, view), values[:20, :30].T)


def test_labels_of_fewer_axes_and_levels(tmp_path: Path, opened: Any) -> None:
    flat = np.arange(50 * 62, dtype="u4").reshape(50, 62)
    path = write_image(
        tmp_path / "a.ome.zarr",
        axes="tzyx",
        labels={"flat": {"data": flat, "axes": "yx", "levels": 1}},
    )
    server, view = opened(xr.open_datatree(path))
    np.testing.assert_array_equal(drawn_ids(server, view.at(t=2.0, z=6.0)), flat)
    coarse = view.moved(scale=2.0)
    assert server.plan(coarse).tiles[0].resolution.level == 2
    found = drawn_ids(server, coarse)
    np.testing.assert_array_equal(found[:12, :15], flat[2::4, 2::4][:12, :15])


def test_a_label_image_alone_is_a_transparent_picture(opened: Any) -> None:
    labels = array([[0, 1], [2, 0]]).rename("labels")
    server, view = opened(labels)
    drawn = only(server, lossless(view, lossless=False))
    np.testing.assert_array_equal(drawn, render.label_colors(labels.values))


def test_stored_transparency_is_kept(opened: Any) -> None:
    colors = [{"label-value": 1, "rgba": [200, 100, 50, 128]}]
    labels = array([[0, 1]]).rename("labels").assign_attrs(ome={"image-label": {"colors": colors}})
    server, view = opened(labels)
    assert np.abs(only(server, view)[0, 1].astype(int) - (200, 100, 50, 128)).max() <= 2


def test_ids_beyond_32_bits(opened: Any) -> None:
    labels = array(np.array([[2**63 + 1, 0], [5, 5]], "u8")).rename("labels")
    server, view = opened(labels)
    assert drawn_ids(server, view).tolist() == labels.values.tolist()
    assert server.probe(view, 0, 0)["label"] == str(2**63 + 1)


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=9))
def test_runs_are_the_labels(rows: list[list[int]]) -> None:
    labels = np.array(rows)
    lengths, ids, wide = label_runs(labels)
    back = np.repeat(inflated(ids, "<u4"), inflated(lengths, "<u2"))
    np.testing.assert_array_equal(back.reshape(labels.shape), labels)
    assert not wide


@pytest.mark.parametrize("size", [65_535, 65_536, 131_070, 200_000])
def test_long_runs_are_cut(size: int) -> None:
    lengths, ids, _ = label_runs(np.full((1, size), 9))
    assert inflated(lengths, "<u2").sum(dtype=int) == size
    assert set(inflated(ids, "<u4")) == {9}


def test_labels_of_nothing_but_noise_fit_a_message() -> None:
    labels = noise((1024, 1024)).astype("u8") << 40
    fitting = fitting_labels(labels)
    lengths, ids, wide = label_runs(fitting)
    assert wide
    assert len(lengths) + len(ids) <= MOST_BYTES
    np.testing.assert_array_equal(fitting, labels[:: 1024 // fitting.shape[0]][:, ::4])


def test_a_million_properties_do_not_go_with_a_tile(opened: Any) -> None:
    entries = [{"label-value": i, "area": i} for i in range(10**5)]
    labels = array(np.arange(10**4).reshape(100, 100)).rename("labels")
    server, view = opened(labels.assign_attrs(ome={"image-label": {"properties": entries}}))
    (runs,) = server.labels(server.plan(view).tiles)
    said = server.properties(runs, {1})
    assert len(said) == 499
    assert said[2] == "area 2"
    assert 1 not in said


# ---- projections -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["max", "mean", "min"])
@pytest.mark.parametrize("chunks", [(1, 3, 32, 32), (2, 1, 64, 64)])
def test_projections(how: Any, chunks: tuple[int, ...], tmp_path: Path, opened: Any) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="czyx", shape=(2, 7, 40, 50), chunks=chunks)
    server, view = opened(xr.open_datatree(path))
    values = xr.open_datatree(path)["0/image"].values
    for name in ("0", "1"):
        view = view.with_channel("a", name, window=(0.0, 4000.0))
    expected = render.composite(
        [render.project([volume], how) for volume in values],
        [c.color for c in view.layers[0].channels],
        [(0, 4000)] * 2,
    )
    np.testing.assert_array_equal(only(server, lossless(view, projection=how)), expected)


def test_a_projection_is_read_once(tmp_path: Path, opened: Any, reads: Reads) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="zyx", shape=(7, 40, 50), levels=1)
    server, view = opened(xr.open_datatree(path), chunk_bytes=30_000)
    view = lossless(view, projection="max")
    only(server, view.with_channel("a", "0", window=(0.0, 1.0)))
    before = len(reads)
    only(server, view.with_channel("a", "0", window=(0.0, 2.0)))
    assert len(reads) == before


# ---- what is read ------------------------------------------------------------------------------


def big(tmp_path: Path, **keywords: Any) -> Path:
    return write_image(
        tmp_path / "big.ome.zarr",
        **{
            "axes": "cyx",
            "shape": (2, 600, 700),
            "chunks": (1, 256, 256),
            "levels": 1,
            "omero": {"channels": [{"window": {"start": 0, "end": 9}, "color": "FFFFFF"}] * 2},
            **keywords,
        },
    )


def test_planning_reads_nothing(tmp_path: Path, opened: Any, reads: Reads) -> None:
    server, view = opened(xr.open_datatree(big(tmp_path)))
    server.plan(view)
    assert reads == []


def test_a_chunk_is_read_once_whatever_is_drawn_of_it(
    tmp_path: Path, opened: Any, reads: Reads
) -> None:
    server, view = opened(xr.open_datatree(big(tmp_path)))
    view = view.moved(size=(700, 600), scale=0.5)
    for spec in server.plan(view).tiles:
        server.tile(spec)
    first = len(reads)
    assert first <= 4  # of 12 chunks: those of a tile, of both channels, at once
    for gamma in (0.5, 2.0):
        for spec in server.plan(view.with_channel("big", "0", gamma=gamma)).tiles:
            server.tile(spec)
    assert len(reads) == first


def test_a_cropped_image_reads_along_the_chunks_of_the_store(
    tmp_path: Path, opened: Any, reads: Reads
) -> None:
    part = xr.open_datatree(big(tmp_path))["0/image"].isel(y=slice(100, None), x=slice(300, None))
    server, view = opened(part)
    level = server.world.layers[0].levels[0]
    assert (level.source.chunks, level.source.offsets) == ((1, 256, 256), (0, 100, 44))
    view = view.moved(size=(400, 500), scale=0.5)
    for spec in server.plan(view).tiles:
        tile = server.tile(spec)
        top, bottom, left, right = spec.box
        plane = part.values[:, top:bottom, left:right]
        expected = render.composite(list(plane), [(255, 255, 255)] * 2, [(0, 9)] * 2)
        np.testing.assert_array_equal(pixels(tile), expected)
    sizes = {
        array.shape
        for array in server.chunks.cache._values
        and [value for value, _ in server.chunks.cache._values.values()]
    }
    assert (1, 156, 212) in sizes  # what is left of the first chunk: up to the store's border


def test_the_chunks_that_are_kept_are_bounded(tmp_path: Path, opened: Any) -> None:
    server, view = opened(xr.open_datatree(big(tmp_path)), chunk_bytes=600_000, tile_bytes=300_000)
    view = view.moved(size=(700, 600), scale=0.5)
    for z in range(3):
        for spec in server.plan(view.with_channel("big", "0", gamma=1.0 + z)).tiles:
            server.tile(spec)
        assert server.chunks.cache.nbytes <= 600_000
        assert server.tiles.nbytes <= 300_000


def test_chunks_too_large_to_keep_are_read_as_needed(
    tmp_path: Path, opened: Any, reads: Reads
) -> None:
    path = big(tmp_path, chunks=(1, 600, 700))
    server, view = opened(xr.open_datatree(path), chunk_bytes=100_000)
    view = view.moved(center=(20, 20), size=(80, 80), scale=0.5)
    (spec,) = server.plan(view).tiles
    assert not server.tile(spec).is_error
    assert server.chunks.cache.nbytes <= 100_000


def test_what_would_take_too_long_is_refused(opened: Any) -> None:
    import dask.array as da

    lazily = da.zeros((10**6, 10**6), chunks=10**5, dtype="u2")
    server, view = opened(
        array(np.zeros((1, 1))).pipe(lambda _: xr.DataArray(lazily, dims=("y", "x"), name="image"))
    )
    view = view.with_channel("image", "0", window=(0.0, 1.0))
    tiles = [server.tile(spec) for spec in server.plan(view).tiles]
    assert tiles
    assert {tile.format for tile in tiles} == {"error"}
    assert all("zoom in" in tile.message for tile in tiles)


def test_a_trillion_pixels_in_memory_are_seen(opened: Any) -> None:
    server, view = opened(array(np.broadcast_to(np.uint8(7), (10**6, 10**6))))
    close = view.moved(center=(250_250, 250_250), size=(100, 100), scale=1.0)
    assert not (only(server, close) - only(server, close)[0, 0]).any()
    assert server.window("image", "0") == (7.0, 8.0)
    assert server.probe(view, 5, 5)["values"] == [["0", "7"]]


def test_no_chunk_is_read_twice_at_the_same_time(
    tmp_path: Path, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both halves of a chunk are drawn at once, in two threads."""
    path = write_image(
        tmp_path / "a.ome.zarr", axes="yx", shape=(512, 1024), chunks=(1024, 2048), levels=1
    )
    server, view = opened(xr.open_datatree(path), threads=2)
    view = view.with_channel("a", "0", window=(0.0, 9.0)).moved(size=(1024, 512), scale=0.5)
    specs = server.plan(view).tiles
    assert len(specs) == 2
    entered = threading.Barrier(2)
    original = lazy._ZarrArray._method
    asked: Reads = []

    def method(self: Any, key: Any) -> Any:
        asked.append(key)
        return original(self, key)

    monkeypatch.setattr(lazy._ZarrArray, "_method", method)
    painted = server._painter.draw

    def draw(spec: TileSpec) -> Any:
        entered.wait(30)  # both threads are about to read
        return painted(spec)

    monkeypatch.setattr(server._painter, "draw", draw)
    done = threading.Semaphore(0)
    for spec in specs:
        server.start(spec, lambda tile: done.release())
    assert done.acquire(timeout=30)
    assert done.acquire(timeout=30)
    assert len(asked) == 1


def test_one_tile_is_drawn_once_for_all_who_want_it(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, view = opened(array(noise((50, 50))))
    (spec,) = server.plan(view).tiles
    go_on = threading.Event()
    drawn: list[TileSpec] = []
    painted = server._painter.draw

    def draw(asked: TileSpec) -> Any:
        drawn.append(asked)
        assert go_on.wait(30)
        return painted(asked)

    monkeypatch.setattr(server._painter, "draw", draw)
    done = threading.Semaphore(0)
    for urgent in (False, True, False):
        server.start(spec, lambda tile: done.release(), urgent=urgent)
    go_on.set()
    for _ in range(3):
        assert done.acquire(timeout=30)
    assert len(drawn) == 1


def test_tiles_nobody_waits_for_are_not_drawn(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server, view = opened(array(noise((9, 50, 50)), "zyx"), threads=1)
    specs = [server.plan(view.at(z=float(z))).tiles[0] for z in range(9)]
    started, go_on, done = threading.Event(), threading.Event(), threading.Event()
    painted, drawn = server._painter.draw, []

    def draw(spec: TileSpec) -> Any:
        drawn.append(spec)
        started.set()
        assert go_on.wait(30)
        return painted(spec)

    monkeypatch.setattr(server._painter, "draw", draw)
    for spec in specs[:-1]:
        server.start(spec, lambda tile: None)
    assert started.wait(30)
    server.keep([specs[-1]])
    server.start(specs[-1], lambda tile: done.set())
    go_on.set()
    assert done.wait(30)
    assert drawn == [specs[0], specs[-1]]


def test_neighbours_are_there_when_they_are_asked_for(opened: Any) -> None:
    server, view = opened(array(noise((5, 50, 50)), "zyx"))
    server.prefetch(view)
    for z in (1.0, 3.0):
        (spec,) = server.plan(view.at(z=z)).tiles
        done = threading.Event()
        for _ in range(3000):
            if server.tiles.get(spec.content) is not None:
                break
            done.wait(0.01)
        caller: list[int] = []
        server.start(spec, lambda tile, caller=caller: caller.append(threading.get_ident()))
        assert caller == [threading.get_ident()]  # at once, in this thread


# ---- what goes wrong ---------------------------------------------------------------------------


def break_chunk(path: Path, *index: int) -> None:
    (path / "0" / "c" / "/".join(map(str, index))).write_bytes(b"no zstd")


def test_a_broken_chunk_is_an_error_tile_and_the_others_go_on(tmp_path: Path, opened: Any) -> None:
    path = big(tmp_path, axes="yx", shape=(600, 700), chunks=(300, 300), omero=None)
    break_chunk(path, 0, 1)
    server, view = opened(xr.open_datatree(path))
    view = view.moved(size=(700, 600), scale=0.5).with_channel("big", "0", window=(0.0, 9.0))
    tiles = {(t.spec.row, t.spec.column): t for t in map(server.tile, server.plan(view).tiles)}
    assert [place for place, tile in tiles.items() if tile.is_error] == [(0, 0)]
    assert len(tiles) == 2
    message = tiles[0, 0].message
    assert message.isprintable()
    assert 0 < len(message) <= 200
    assert tiles[0, 0].data == b""


def test_errors_are_not_kept(tmp_path: Path, opened: Any) -> None:
    path = big(tmp_path, axes="yx", shape=(60, 70), chunks=(64, 128), omero=None)
    good = (path / "0/c/0/0").read_bytes()
    break_chunk(path, 0, 0)
    server, view = opened(xr.open_datatree(path))
    view = view.with_channel("big", "0", window=(0.0, 9.0))
    (spec,) = server.plan(view).tiles
    assert server.tile(spec).is_error
    assert "error" in server.probe(view, 5, 5)
    (path / "0/c/0/0").write_bytes(good)
    assert not server.tile(spec).is_error
    assert server.probe(view, 5, 5)["values"]


@pytest.mark.parametrize("message", ["", "\x1b[31mred\x1b[0m\n<b>bold</b>\u202e", "x" * 10_000])
def test_errors_are_fit_to_print(
    message: str, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, view = opened(array(noise((20, 20))))

    def fail(spec: TileSpec) -> Any:
        raise OSError(message)

    monkeypatch.setattr(server._painter, "draw", fail)
    tile = server.tile(server.plan(view).tiles[0])
    assert tile.is_error
    assert tile.message.isprintable()
    assert 0 < len(tile.message) <= 200


def test_noise_fits_a_message() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3)).astype("u1")
    for lossless in (True, False):
        kind, data = encode(rgb, lossless=lossless)
        assert kind == "jpeg"
        assert len(data) <= MOST_BYTES


# ---- questions ---------------------------------------------------------------------------------


def test_what_lies_at_a_point(scan: Path, opened: Any) -> None:
    tree = xr.open_datatree(scan)
    server, view = opened(tree)
    said = server.probe(view, 12.3, 4.6)
    at = tree["0/image"].isel(t=1, z=2, y=9, x=25)
    label = tree["labels/cells/0/labels"].isel(t=1, z=2, y=9, x=25)
    assert said == {
        "type": "probe",
        "x": 12.3,
        "y": 4.6,
        "values": [["DAPI", str(int(at[0]))], ["GFP", str(int(at[1]))]],
        "position": "x 12.3 µm, y 4.6 µm, t 1 s, z 4 µm",
        "label": str(int(label)),
    }
    assert server.probe(view, -100, 0)["values"] == []
    projected = server.probe(lossless(view, projection="max"), 12.3, 4.6)
    highest = tree["0/image"].isel(t=1, y=9, x=25).max("z")
    assert projected["values"][1] == ["GFP", str(int(highest[1]))]
    assert projected["position"].endswith("z max")


def test_values_of_several_layers_say_whose_they_are(opened: Any) -> None:
    one, two = array([[1, 2]]), array([[3.5, 4.5]]).rename("other")
    server, view = opened([one, two])
    assert server.probe(view, 0, 0)["values"] == [["image 0", "1"], ["other 0", "3.5"]]
    hidden = view.with_layer("other", visible=False)
    assert server.probe(hidden, 0, 0)["values"] == [["image 0", "1"]]


def test_contrast_is_judged_by_a_level_that_is_not_too_coarse(opened: Any) -> None:
    levels = {}
    for i, size in enumerate((1024, 512, 256)):
        at = (np.arange(size) + 0.5) * 1024 / size
        values = np.full((size, size), i, "u2")
        levels[str(i)] = xr.Dataset({"image": (("y", "x"), values)}, {"y": at, "x": at})
    server, _ = opened({"a": xr.DataTree.from_dict(levels)})
    assert server.window("a", "0") == (1.0, 2.0)


def test_contrast_of_a_huge_plane_reads_a_little_of_it(
    tmp_path: Path, opened: Any, reads: Reads
) -> None:
    import zarr

    root = write_image(tmp_path / "a.ome.zarr", axes="yx", shape=(8, 8), levels=1)
    zarr.create_array(
        root / "0",
        shape=(10**6, 10**6),
        chunks=(1000, 1000),
        dtype="u2",
        overwrite=True,
        dimension_names=("y", "x"),
    )
    server, _ = opened(xr.open_datatree(root))
    assert server.window("a", "0") == (0.0, 1.0)
    assert 1 <= len(reads) <= 9


def test_tiny_chunks_are_not_refused(tmp_path: Path, opened: Any, reads: Reads) -> None:
    path = write_image(
        tmp_path / "a.ome.zarr", axes="yx", shape=(300, 300), levels=1, chunks=(8, 8)
    )
    server, view = opened(xr.open_datatree(path))
    assert only(server, view).any()
    assert len(reads) <= 10  # some blocks for the contrast, and the tile


def test_histograms_have_bins_of_whole_numbers(opened: Any) -> None:
    server, view = opened(array(np.array([[0, 0, 1, 3]] * 9, "u1")))
    counts, edges = server.histogram("image", "0")
    assert counts.tolist() == [18, 9, 0, 9]
    assert edges.tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5]
    counts, _ = server.histogram("image", "0", 2, view)
    assert counts.tolist() == [27, 9]


# ---- a view as a picture -----------------------------------------------------------------------


def test_a_picture_without_a_browser(opened: Any) -> None:
    values = noise((40, 60), "u1")
    server, view = opened(array(values))
    view = view.with_channel("image", "0", window=(0.0, 255.0))
    exact = view.moved(size=(60, 40), scale=1.0)
    expected = np.repeat(values[..., None], 3, axis=2)
    np.testing.assert_array_equal(server.picture(exact), expected)
    twice = server.picture(exact.moved(ratio=2.0))
    np.testing.assert_array_equal(twice, expected.repeat(2, 0).repeat(2, 1))
    outside = server.picture(exact.moved(size=(80, 60)))
    assert not outside[:10].any()
    np.testing.assert_array_equal(outside[10:50, 10:70], expected)


def test_layers_over_one_another(opened: Any) -> None:
    below, above = (
        array(np.full((10, 10), 200, "u1")),
        array(np.full((4, 4), 100, "u1")).rename("b"),
    )
    server, view = opened([below, above])
    for name in ("image", "b"):
        view = view.with_channel(name, "0", window=(0.0, 255.0))
    view = view.moved(size=(10, 10), scale=1.0).with_layer("b", opacity=0.5)
    picture = server.picture(view)
    assert picture[9, 9, 0] == 200
    assert picture[0, 0, 0] == 150


def test_state_and_tiles_agree_across_servers(opened: Any) -> None:
    server, view = opened(array(noise((20, 20))))
    other = TileServer(server.world, share=server)
    (spec,) = server.plan(view).tiles
    server.tile(spec)
    assert other.tiles.get(other.plan(view).tiles[0].content) is not None
    assert planning.plan(server.world, view).state == other.plan(view).state
    other.close()


def test_a_layer_turned_by_any_angle_has_its_labels(tmp_path: Path, opened: Any) -> None:
    space = [AXES[name] for name in "yx"]
    turn = {"type": "rotation", "rotation": [[0.8, -0.6], [0.6, 0.8]]}
    path = write_image(
        tmp_path / "a.ome.zarr",
        version="0.6",
        axes="yx",
        systems=[{"name": "world", "axes": space}],
        transformations=[{**turn, "input": {"name": "physical"}, "output": {"name": "world"}}],
        labels={"cells": {"levels": 1}},
    )
    tree = xr.open_datatree(path).ngff.to_system("world")
    server, view = opened(tree)
    values = tree["labels/cells/0"]["labels"].values
    np.testing.assert_array_equal(drawn_ids(server, view), values)
    # over a straight image each pixel's centre is looked up where the labels are now
    straight = array(np.zeros((40, 40), "u1"), y=np.arange(40.0) - 15, x=np.arange(40.0))
    server, view = opened(straight, labels=tree.ngff.labels["cells"])
    found = drawn_ids(server, view)
    y, x = np.meshgrid(np.arange(40.0) - 15, np.arange(40.0), indexing="ij")
    rows = np.floor((0.8 * y + 0.6 * x) / 0.5 + 0.5 + 1e-6).astype(int)
    columns = np.floor((-0.6 * y + 0.8 * x) / 0.5 + 0.5 + 1e-6).astype(int)
    inside = (rows >= 0) & (rows < 50) & (columns >= 0) & (columns < 62)
    expected = np.where(inside, values[rows.clip(0, 49), columns.clip(0, 61)], 0)
    np.testing.assert_array_equal(found, expected)


# ---- over a network ----------------------------------------------------------------------------


def test_chunks_are_asked_for_once_over_http(
    tmp_path: Path, server: CountingServer, opened: Any
) -> None:
    big(tmp_path, labels={"cells": {}})
    tiles, view = opened(xr.open_datatree(f"{server.url}/big.ome.zarr"))
    view = view.moved(size=(700, 600), scale=0.5)
    before = len(server.requests)
    messages: list[dict[str, Any]] = []
    complete = threading.Event()

    def send(message: dict[str, Any], buffers: list[bytes]) -> None:
        messages.append(json.loads(json.dumps(message, allow_nan=False)))
        if message["type"] == "ids":
            complete.set()
        elif message["type"] == "frame":
            frames.shown(message["frame"])

    frames = Frames(tiles, send)
    frames.want(view)
    assert complete.wait(60)
    frames.close()
    asked = [request.path for request in server.requests[before:]]
    assert len(asked) == len(set(asked)) == 2 * 9 + 9  # two channels, and the labels
    assert messages[-1]["properties"]["1"].startswith("area ")


def test_images_with_pints_units(scan: Path, opened: Any) -> None:
    tree = xr.open_datatree(scan)
    plain, view = opened(tree["0/image"])
    quantified, _ = opened(tree["0/image"].ngff.quantify())
    np.testing.assert_array_equal(only(quantified, view), only(plain, view))
    assert quantified.probe(view, 5, 5) == plain.probe(view, 5, 5)
