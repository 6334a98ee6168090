"""The view model: levels, tiles, lengths, beginnings. No pixel is read here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given
from hypothesis import strategies as st
from stores import write_image

from ngff_xarray.errors import SelectionError
from ngff_xarray.viewing import (
    View,
    World,
    fitted,
    home_view,
    make_world,
    planning,
    scale_bar,
    scale_units,
)
from ngff_xarray.viewing.affine import Affine
from ngff_xarray.viewing.planning import Resolution, resolution, tile_size

numbers = st.floats(-1e6, 1e6)
lengths = st.floats(1e-3, 1e3)
sizes = st.tuples(st.integers(1, 4000), st.integers(1, 4000))


def image(
    shape: tuple[int, ...], dims: str = "yx", pixel: float = 1.0, **attrs: Any
) -> xr.DataArray:
    """An image of nothing that takes no memory."""
    data = np.broadcast_to(np.uint8(0), shape)
    coords = {
        dim: xr.Variable(dim, np.arange(n) * pixel, attrs)
        for dim, n in zip(dims, shape, strict=True)
        if dim != "c"
    }
    return xr.DataArray(data, dims=tuple(dims), coords=coords, name="image")


def pyramid(
    size: int = 4096, factors: tuple[int, ...] = (1, 2, 4, 8), dtype: str = "u1", depth: int = 1
) -> World:
    levels = {}
    for i, factor in enumerate(factors):
        n = size // factor
        at = (np.arange(n) + 0.5) * factor - 0.5
        data = np.broadcast_to(np.zeros((), dtype), (depth, n, n))
        coords = {"z": np.arange(float(depth)), "y": at, "x": at}
        levels[str(i)] = xr.Dataset({"image": (("z", "y", "x"), data)}, coords)
    return make_world(xr.DataTree.from_dict(levels))


# ---- world and pixels --------------------------------------------------------------------------


@given(st.tuples(numbers, numbers), lengths, sizes, st.tuples(numbers, numbers))
def test_pixels_and_the_world_are_inverse(
    center: tuple[float, float],
    scale: float,
    size: tuple[int, int],
    point: tuple[float, float],
) -> None:
    view = View(center=center, scale=scale, size=size)
    there = view.to_world(*view.to_pixel(*point))
    assert there == pytest.approx(point, abs=1e-6, rel=1e-9)
    assert view.to_world(size[0] / 2, size[1] / 2) == pytest.approx(center, abs=1e-6)


@given(st.lists(numbers, min_size=6, max_size=6), st.tuples(numbers, numbers))
def test_affines_are_undone_by_their_inverse(
    values: list[float], point: tuple[float, float]
) -> None:
    a, b, c, d, e, f = values
    affine = Affine(a, b, c, d, e, f)
    if abs(a * d - b * c) < 1e-3 * max(map(abs, (a, b, c, d, 1e-3))) ** 2:
        return  # too flat for floats
    back = affine.inverse().apply(*affine.apply(*point))
    assert back == pytest.approx(point, rel=1e-6, abs=1e-2)
    both = affine.inverse().after(affine)
    assert both[:4] == pytest.approx((1, 0, 0, 1), abs=1e-6)


@pytest.mark.parametrize(
    "change",
    [{"scale": 0.0}, {"scale": -1}, {"scale": math.nan}, {"center": (math.inf, 0)}, {"ratio": 0}],
)
def test_views_that_are_nowhere_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SelectionError, match="finite"):
        View().moved(**change)


# ---- levels ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "level"), [(0.1, 0), (1, 0), (1.5, 1), (2, 1), (2.9, 2), (5, 2), (6, 3), (100, 3)]
)
def test_the_coarsest_level_that_the_screen_does_not_outdo(device: float, level: int) -> None:
    (layer,) = pyramid().layers
    assert resolution(layer, device).level == level


@given(st.floats(1e-6, 1e6))
def test_zooming_out_never_takes_a_finer_level(device: float) -> None:
    (layer,) = pyramid().layers
    closer, farther = resolution(layer, device), resolution(layer, device * 1.5)
    assert (closer.level, closer.steps) <= (farther.level, farther.steps)
    pixel = layer.levels[closer.level].affine().lengths[0] * closer.steps[0]
    assert closer.level == 0 or pixel <= device * math.sqrt(2) * (1 + 1e-9)


def test_an_axis_that_no_level_has_finer_does_not_hold_the_others_back() -> None:
    world = pyramid(depth=10).on(("z", "x"))  # z is 1 at every level
    (layer,) = world.layers
    assert resolution(layer, 4.0) == Resolution(2, (4, 1))


def test_every_nth_pixel_where_there_is_no_coarser_level() -> None:
    (layer,) = make_world(image((4096, 4096))).layers
    assert resolution(layer, 2.0).steps == (1, 1)  # a browser halves better
    assert resolution(layer, 4.0).steps == (4, 4)


def test_coarser_pictures_have_a_higher_rank() -> None:
    ways = [Resolution(0), Resolution(0, (4, 4)), Resolution(0, (8, 1)), Resolution(1)]
    ranks = [way.rank for way in ways]
    assert ranks == sorted(set(ranks))


def test_a_projection_takes_a_coarser_level_than_would_be_too_much_to_read() -> None:
    world = pyramid(depth=200, dtype="u2")
    view = home_view(world, (2048, 2048)).moved(scale=1.0, center=(2048, 2048))
    assert {tile.resolution.level for tile in planning.plan(world, view).tiles} == {0}
    projected = planning.plan(world, View(**{**vars(view), "projection": "max"}))
    assert {tile.resolution.level for tile in projected.tiles} == {2}


# ---- tiles -------------------------------------------------------------------------------------


@given(st.integers(1, 10**7))
def test_tiles_follow_chunks(chunk: int) -> None:
    size = tile_size(chunk)
    assert 256 <= size <= 1024
    follows = size % chunk == 0 or chunk % size == 0
    divisible = any(chunk % n == 0 for n in range(256, 1025)) or chunk <= 1024
    assert follows or not divisible
    assert follows or size == 512


@given(
    shape=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    center=st.tuples(st.floats(-500, 3500), st.floats(-500, 3500)),
    scale=st.floats(0.05, 40),
    size=st.tuples(st.integers(1, 1500), st.integers(1, 1500)),
    turn=st.floats(0, 2 * math.pi),
    flip=st.sampled_from([-1, 1]),
    shear=st.floats(-1, 1),
    points=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8),
)
@example((3000, 2000), (1500.0, 1000.0), 1.0, (600, 400), 0.0, 1, 0.0, [(0.5, 0.5)])
@example((3000, 2000), (1500.0, 1000.0), 1.0, (600, 400), 0.5, -1, 0.5, [(0.1, 0.9)])
def test_the_tiles_of_a_view_cover_it_without_gaps_or_overlaps(
    shape: tuple[int, int],
    center: tuple[float, float],
    scale: float,
    size: tuple[int, int],
    turn: float,
    flip: int,
    shear: float,
    points: list[tuple[float, float]],
) -> None:
    world = turned_world(shape, turn, flip, shear)
    view = home_view(world, size).moved(center=center, scale=scale)
    tiles = planning.plan(world, view).tiles
    (layer,) = world.layers
    whole = layer.levels[0].affine()
    for right, down in points:
        place = view.to_world(right * size[0], down * size[1])
        column, row = whole.inverse().apply(*place)
        if min(column, row, shape[1] - column, shape[0] - row) < 0.01:
            continue  # outside, or on the edge
        inside = [
            tile
            for tile in tiles
            if all(
                0 <= at < n
                for at, n in zip(
                    tile.matrix.inverse().apply(*place), (tile.width, tile.height), strict=True
                )
            )
        ]
        near = [
            tile
            for tile in tiles
            if all(
                -1e-6 <= at < n + 1e-6
                for at, n in zip(
                    tile.matrix.inverse().apply(*place), (tile.width, tile.height), strict=True
                )
            )
        ]
        assert len(inside) <= 1
        assert near
    assert len(tiles) <= 96
    for tile in tiles:  # none is beside the view
        left, top, far, bottom = tile.bounds
        x0, y0, x1, y1 = view.extent
        assert left < x1
        assert x0 < far
        assert top < y1
        assert y0 < bottom


def turned_world(shape: tuple[int, int], turn: float, flip: int, shear: float) -> World:
    """An image turned, mirrored and sheared about its corner."""
    rows, columns = (np.arange(n) for n in shape)
    array = xr.DataArray(
        np.broadcast_to(np.uint8(0), shape),
        dims=("i", "j"),
        coords={
            "y": (("i", "j"), math.cos(turn) * rows[:, None] + math.sin(turn) * columns[None]),
            "x": (
                ("i", "j"),
                flip
                * (
                    (math.cos(turn) + shear * math.sin(turn)) * columns[None]
                    - (math.sin(turn) - shear * math.cos(turn)) * rows[:, None]
                ),
            ),
        },
        attrs={"ome": {"placed": {"axes": ["y", "x"], "before": {"i": "i", "j": "j"}}}},
    )
    return make_world(array)


def test_tiles_cover_the_image_to_its_last_pixel() -> None:
    world = make_world(image((700, 1100)))
    tiles = planning.plan(world, home_view(world, (1100, 700))).tiles
    assert sum(tile.width * tile.height for tile in tiles) == 700 * 1100
    edges = [tile.bounds for tile in tiles]
    assert min(e[0] for e in edges) == world.extent[0] == -0.5  # type: ignore[index]
    assert max(e[2] for e in edges) == world.extent[2] == 1099.5  # type: ignore[index]


def test_every_nth_pixel_still_covers_the_image_exactly() -> None:
    world = make_world(image((4001, 4002)))
    view = home_view(world, (400, 400))
    tiles = planning.plan(world, view).tiles
    bounds = [tile.bounds for tile in tiles]
    left, top, right, bottom = zip(*bounds, strict=True)
    assert (min(left), min(top), max(right), max(bottom)) == pytest.approx(world.extent)
    assert sum(tile.width * tile.height for tile in tiles) == pytest.approx(501 * 501, rel=0.01)


def test_the_middle_comes_first() -> None:
    world = make_world(image((4096, 4096)))
    view = home_view(world, (2048, 2048)).moved(center=(2000, 2000), scale=1)
    first = planning.plan(world, view).tiles[0].bounds
    assert first[0] <= 2000 <= first[2]
    assert first[1] <= 2000 <= first[3]


def test_a_view_beside_everything_asks_for_nothing() -> None:
    world = make_world(image((100, 100)))
    assert planning.plan(world, home_view(world).moved(center=(1e9, 0))).tiles == ()


def test_moving_the_viewport_changes_no_key() -> None:
    world = make_world(image((4096, 4096)))
    view = home_view(world, (500, 500)).moved(scale=1)
    one, other = (
        {tile.key for tile in planning.plan(world, view.moved(center=(x, 2000))).tiles}
        for x in (2000, 2100)
    )
    assert one & other


@pytest.mark.parametrize(
    "change",
    [
        lambda view: view.at(z=1.0),
        lambda view: view.with_channel("image", "0", window=(0.0, 3.0)),
        lambda view: view.with_channel("image", "0", color=(1, 2, 3)),
        lambda view: view.with_channel("image", "0", gamma=0.5),
        lambda view: view.with_channel("image", "0", colormap="viridis"),
        lambda view: view.with_channel("image", "0", active=False),
        lambda view: view.with_label("image", "labels", opacity=0.1),
        lambda view: view.with_label("image", "labels", outline=True),
        lambda view: view.with_label("image", "labels", selected=frozenset({3})),
        lambda view: View(**{**vars(view), "lossless": True}),
        lambda view: View(**{**vars(view), "projection": "mean"}),
    ],
)
def test_what_changes_pixels_changes_the_state(change: Any) -> None:
    labels = image((9, 9)).rename("labels")
    world = make_world(image((4, 9, 9), "zyx"), labels=labels)
    view = home_view(world)
    before, after = planning.plan(world, view), planning.plan(world, change(view))
    assert before.state != after.state
    assert not {tile.key for tile in before.tiles} & {tile.key for tile in after.tiles}


def test_opacity_of_a_layer_changes_no_pixels() -> None:
    world = make_world(image((9, 9)))
    view = home_view(world)
    dimmed = view.with_layer("image", opacity=0.3)
    assert planning.plan(world, view).state == planning.plan(world, dimmed).state
    assert planning.plan(world, dimmed).opacity == (0.3,)


def test_axes_that_a_layer_does_not_have_do_not_change_it() -> None:
    world = make_world([image((5, 9, 9), "tyx"), image((9, 9)).rename("still")], labels=None)
    view = home_view(world)
    plans = [planning.plan(world, view.at(t=float(t))) for t in (0, 1)]
    contents = [{tile.look.layer.name: tile.content for tile in plan.tiles} for plan in plans]
    assert contents[0]["still"] == contents[1]["still"]
    assert contents[0]["image"] != contents[1]["image"]


def test_a_layer_is_not_seen_where_it_is_not() -> None:
    short = image((5, 9, 9), "tyx").isel(t=slice(0, 2)).rename("short")
    world = make_world([image((5, 9, 9), "tyx"), short])
    view = home_view(world)
    assert planning.plan(world, view).order == ("image", "short")
    assert planning.plan(world, view.at(t=4.0)).order == ("image",)
    assert planning.plan(world, view.with_layer("image", visible=False)).order == ("short",)


# ---- beginnings --------------------------------------------------------------------------------


def test_home_shows_everything_and_begins_where_the_store_says(scan: Path) -> None:
    world = make_world(xr.open_datatree(scan))
    view = home_view(world, (300, 400))
    assert view.place == {"t": 1.0, "z": 4.0}  # rdefs: 1 and 2, of steps of 1 and 2
    left, top, right, bottom = world.extent or (0, 0, 0, 0)
    x0, y0, x1, y1 = view.extent
    assert x0 <= left
    assert y0 <= top
    assert x1 >= right
    assert y1 >= bottom
    (layer,) = view.layers
    assert [(c.name, c.color, c.window, c.active) for c in layer.channels] == [
        ("DAPI", (0, 0, 255), (100.0, 50000.0), True),
        ("GFP", (0, 255, 0), (200.0, 60000.0), True),
    ]
    assert [each.name for each in layer.labels] == ["cells"]


def test_without_a_hint_it_is_the_middle_of_space_and_the_first_of_time(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="tzyx", shape=(3, 5, 32, 32))
    assert home_view(make_world(xr.open_datatree(path))).place == {"t": 0.0, "z": 4.0}


def test_windows_of_the_store_do_not_serve_values_that_were_computed(scan: Path) -> None:
    array = xr.open_datatree(scan)["0/image"]
    (stored,) = home_view(make_world(array)).layers
    (computed,) = home_view(make_world(array / 1e6)).layers
    assert stored.channels[0].window == (100.0, 50000.0)
    assert computed.channels[0].window is None


def test_at_most_eight_of_five_hundred_channels_are_drawn() -> None:
    world = make_world(image((500, 8, 8), "cyx"))
    view = home_view(world)
    (layer,) = view.layers
    assert len(layer.channels) == 500
    assert sum(channel.active for channel in layer.channels) == 8
    for channel in layer.channels:
        view = view.with_channel("image", channel.name, active=True)
    (tile,) = planning.plan(world, view).tiles
    assert len(tile.look.shown.channels) == 8


def test_three_channels_of_bytes_are_true_colour() -> None:
    (layer,) = home_view(make_world(image((3, 8, 8), "cyx"))).layers
    assert [c.color for c in layer.channels] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert [c.window for c in layer.channels] == [(0.0, 255.0)] * 3


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_images_without_pixels_have_a_home(shape: tuple[int, int]) -> None:
    world = make_world(image(shape))
    view = home_view(world)
    assert world.extent is None
    assert fitted(world, (100, 100)) == ((0.0, 0.0), 1.0)
    assert planning.plan(world, view).tiles == ()


def test_a_trillion_pixels_are_a_few_tiles() -> None:
    world = make_world(image((10**6, 10**6)))
    for scale in (1e-3, 1.0, 1e3, 1e6):
        view = home_view(world, (1024, 1024)).moved(scale=scale)
        assert 1 <= len(planning.plan(world, view).tiles) <= 96


def test_what_a_slider_asks_for_next() -> None:
    world = make_world(image((2, 3, 9, 9), "tzyx"))
    view = home_view(world)
    assert [other.place for other in planning.neighbours(world, view)] == [
        {"t": 1.0, "z": 1.0},
        {"t": 0.0, "z": 2.0},
        {"t": 0.0, "z": 0.0},
    ]
    projected = View(**{**vars(view), "projection": "max"})
    assert [other.place["t"] for other in planning.neighbours(world, projected)] == [1.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda view: view.at(q=1), "no axis 'q'"),
        (lambda view: View(position=(("z", 0.0),)).at(z=math.nan), "finite"),
        (lambda view: view.with_layer("b"), "no layer 'b'; the layers are image"),
        (lambda view: view.with_channel("image", "b"), "no channel 'b'; the channels are 0"),
        (lambda view: view.with_label("image", "b"), "no label image 'b'; .* none"),
    ],
)
def test_changes_of_what_is_not_there(change: Any, message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        change(home_view(make_world(image((9, 9)))))


# ---- scale bars --------------------------------------------------------------------------------


@given(st.floats(1e-9, 1e9), st.sampled_from(["micrometer", "nanometer", "inch", None]))
def test_scale_bars_have_round_lengths(scale: float, unit: str | None) -> None:
    px, text = scale_bar(scale, unit, 150)
    assert 150 / 2.5 * (1 - 1e-6) <= px <= 150 * (1 + 1e-6)
    number = float(text.split()[0])
    assert f"{number:e}"[0] in "125"
    assert float(f"{number:.1g}") == number


def test_units_of_scale_bars() -> None:
    assert ("µm", 1.0) in scale_units("micrometer")
    assert ("mm", 1e6) in scale_units("nanometer")
    assert scale_units("inch") == [("in", 1.0)]
    assert scale_units(None) == []
