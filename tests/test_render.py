"""Arrays to RGB, against the obvious float64 expressions."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from ngff_xarray.model import RGB
from ngff_xarray.render import (
    COLORMAPS,
    auto_window,
    channel_colors,
    colormap,
    composite,
    hex_color,
    label_colors,
    overlay_labels,
    png,
    project,
)
from ngff_xarray.spec.values import parse_color

Window = tuple[float, float]
Stored = Mapping[int, tuple[int, int, int, int]]

INTEGERS = ["u1", "i1", "<u2", ">u2", "<i2", ">i2", "<u4", ">i4", "<u8", ">u8", "<i8", ">i8"]
FLOATS = ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"]
NUMBERS = ["?", *INTEGERS, *FLOATS]

components = st.integers(0, 255)
rgbs = st.tuples(components, components, components)
rgbas = st.tuples(components, components, components, components)
shapes = st.tuples(st.integers(0, 5), st.integers(0, 6))
# float32 limits: their differences are never subnormal in float64
limits = st.one_of(
    st.integers(-300, 70_000),
    st.floats(-300, 70_000, width=32),
    st.floats(-(2.0**100), 2.0**100, width=32),
    st.integers(-(2**63), 2**64 - 1),
)


# no property fails on a busy machine
untimed = settings(deadline=None)


# ---- colours ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00FF00", (0, 255, 0)),
        ("#00ff00", (0, 255, 0)),
        ("#0f0", (0, 255, 0)),
        ("fa8", (255, 170, 136)),
        ("12345678", (0x12, 0x34, 0x56)),
        (" #FFFFFF\n", (255, 255, 255)),
    ],
)
def test_hex_digits_are_a_color(text: str, expected: RGB) -> None:
    assert parse_color(text) == expected


@pytest.mark.parametrize(
    "odd",
    [
        *(None, 255, 0xFF00FF, 1.5, b"00FF00", ["00FF00"], {}, object(), float("nan")),
        *(
            "",
            "#",
            "##00FF00",
            "00FF0",
            "0F",
            "#00FF",
            "00FF000",
            "00FF00000",
            "green",
            "f" * 10**6,
        ),
        *("00FF0G", "0x00FF", "+0FF00", "0_0F00", "00 FF0", "٠٠٠٠٠٠", "\ud800" * 6, "０ff"),
    ],
    ids=lambda odd: ascii(odd)[:20],
)
def test_anything_else_is_no_color(odd: object) -> None:
    assert parse_color(odd) is None


@untimed
@given(
    st.one_of(st.text(), st.none(), st.integers(), st.binary(), st.floats(), st.lists(st.text()))
)
def test_parsing_never_raises(anything: object) -> None:
    assert parse_color(anything) is None or isinstance(anything, str)


@untimed
@given(rgbs)
def test_hex_and_back(rgb: RGB) -> None:
    assert parse_color(hex_color(rgb)) == rgb
    assert len(hex_color(rgb)) == 7


@pytest.mark.parametrize("rgb", [(0, 0, 256), (-1, 0, 0)])
def test_hex_refuses_what_no_byte_holds(rgb: RGB) -> None:
    with pytest.raises(ValueError, match="256"):
        hex_color(rgb)


def test_few_channels_have_the_usual_colors() -> None:
    assert channel_colors(0) == ()
    assert channel_colors(1) == ((255, 255, 255),)
    assert channel_colors(2) == ((255, 0, 255), (0, 255, 0))
    assert channel_colors(3) == ((0, 255, 255), (255, 0, 255), (255, 255, 0))


def test_many_channels_keep_their_colors_as_more_come() -> None:
    colors = channel_colors(64)
    assert len(set(colors)) == len(colors) == 64
    assert all(channel_colors(n) == colors[:n] for n in range(3, 64))
    assert [hex_color(color) for color in colors[6:9]] == ["#ffa959", "#7859ff", "#6aff59"]


def test_a_negative_number_of_channels() -> None:
    with pytest.raises(ValueError, match="is -1; expected 0 or more"):
        channel_colors(-1)


# ---- windows ---------------------------------------------------------------------------------


@untimed
@given(st.sampled_from(NUMBERS).flatmap(lambda dtype: hnp.arrays(dtype, shapes)))
def test_a_window_is_finite_ascending_and_inside_the_values(plane: NDArray[Any]) -> None:
    start, end = auto_window(plane)
    assert type(start) is type(end) is float
    assert start < end < math.inf
    assert end - start < math.inf
    values = plane[np.isfinite(plane)].astype(np.float64)
    if plane.dtype.kind == "b" or values.size == 0:
        assert (start, end) == (0, 1)
    elif values.min() < values.max() < 2.0**1000:
        assert values.min() <= start < end <= values.max()


@untimed
@given(st.sampled_from(NUMBERS).flatmap(lambda dtype: hnp.arrays(dtype, shapes)))
def test_a_window_does_not_depend_on_byte_order_or_layout(plane: NDArray[Any]) -> None:
    other = np.asfortranarray(plane.astype(plane.dtype.newbyteorder()))
    assert auto_window(plane) == auto_window(other)


@untimed
@given(hnp.arrays("<i4", st.tuples(st.integers(1, 20), st.integers(2, 20)), unique=True))
def test_a_window_starts_and_ends_at_values_next_to_the_percentiles(plane: NDArray[Any]) -> None:
    start, end = auto_window(plane, (20, 80))
    assert start == np.percentile(plane, 20, method="lower")
    assert end == np.percentile(plane, 80, method="higher")


@pytest.mark.parametrize(
    ("plane", "expected"),
    [
        (np.zeros((0, 4)), (0, 1)),
        (np.full((3, 3), np.nan), (0, 1)),
        (np.array([[np.nan, np.inf, -np.inf, 5, 6]]), (5, 6)),
        (np.full((3, 3), 7, "u1"), (7, 8)),
        (np.full((3, 3), -0.25, "f2"), (-0.25, 0.75)),
        (np.full((3, 3), 2**64 - 1, "u8"), (2.0**64, math.nextafter(2.0**64, math.inf))),
        (np.array([[-(2**63), 2**63 - 1]]), (-(2.0**63), 2.0**63)),
        (np.array([[-128, 127]], "i1"), (-128, 127)),
        (np.zeros((2, 2), bool), (0, 1)),
        (np.array([[-1.7e308, 1.7e308]]), (np.finfo("f8").min / 2, np.finfo("f8").max / 2)),
    ],
)
def test_windows_of_odd_planes(plane: NDArray[Any], expected: Window) -> None:
    assert auto_window(plane) == expected


def test_a_few_hot_pixels_do_not_count() -> None:
    plane = np.random.default_rng(0).integers(100, 200, (1500, 1500)).astype("u2")
    plane[::300, ::300] = 65535
    start, end = auto_window(plane)
    assert (start, end) == (100, 199)


def test_one_small_cell_in_the_dark_counts() -> None:
    plane = np.zeros((2000, 2000), "u2")
    plane[1000, 1001:1003] = 500
    assert auto_window(plane) == (0, 500)


def test_interlaced_lines_are_both_sampled() -> None:
    dark, bright = np.random.default_rng(0).integers(
        [[[0]], [[900]]], [[[100]], [[1000]]], (2, 999, 2048)
    )
    plane = np.stack([dark, bright], axis=1).reshape(-1, 2048).astype("u2")
    assert auto_window(plane, (10, 90))[0] < 100
    assert auto_window(plane, (10, 90))[1] > 900


def test_a_long_thin_plane() -> None:
    assert auto_window(np.arange(10**6).reshape(1, -1), (0, 50))[0] == 0


@pytest.mark.parametrize("percentiles", [(-1, 50), (0, 101), (60, 40), (math.nan, 50)])
def test_impossible_percentiles(percentiles: Window) -> None:
    with pytest.raises(ValueError, match="expected 0 <= low <= high <= 100"):
        auto_window(np.zeros((2, 2)), percentiles)


@pytest.mark.parametrize("plane", [np.zeros((2, 2), complex), np.full((2, 2), "a")])
def test_a_window_needs_real_numbers(plane: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="expected booleans, integers or floats"):
        auto_window(plane)


# ---- channels --------------------------------------------------------------------------------


def shares(
    plane: NDArray[Any], window: Window, gamma: float = 1, inverted: bool = False
) -> NDArray[np.float64]:
    """How much of its colour a channel adds, as it is defined."""
    start, end = window
    with np.errstate(all="ignore"):
        values = plane.astype(np.float64)
        width = float(end) - float(start)
        share = (values - float(start)) / width if width else 1.0 * (values > start)
        share = np.clip(share, 0, 1) ** gamma
    share = 1 - share if inverted else share
    return np.where(np.isnan(share) | np.isnan(values), 0, share)


def mixed(
    planes: Sequence[NDArray[Any]], colors: Sequence[RGB], windows: Sequence[Window]
) -> NDArray[np.float64]:
    """The composite as it is defined, not rounded."""
    total = np.zeros((*planes[0].shape, 3))
    for plane, color, window in zip(planes, colors, windows, strict=True):
        total += shares(plane, window)[..., np.newaxis] * np.array(color)
    return np.clip(total, 0, 255)


def assert_close(picture: NDArray[np.uint8], exact: NDArray[np.float64]) -> None:
    """Rounded, with a little allowance for float32."""
    assert picture.dtype == np.uint8
    assert picture.shape == exact.shape
    np.testing.assert_allclose(picture, exact, rtol=0, atol=0.6)


@st.composite
def channels(draw: st.DrawFn) -> tuple[list[NDArray[Any]], list[RGB], list[Window]]:
    shape = draw(shapes)
    number = draw(st.integers(1, 4))
    planes = [draw(hnp.arrays(draw(st.sampled_from(NUMBERS)), shape)) for _ in range(number)]
    windows = [draw(windows_of(plane)) for plane in planes]
    return planes, [draw(rgbs) for _ in planes], windows


def windows_of(plane: NDArray[Any]) -> st.SearchStrategy[Window]:
    """Any limits: some among the plane's values, some equal, some the wrong way round."""
    values = plane[np.isfinite(plane) & (abs(plane.astype("f8")) < 2.0**100)].astype("f4")
    normal = [v for v in values.tolist() if math.isfinite(v) and (v == 0 or abs(v) > 2.0**-100)]
    limit = st.one_of(limits, st.sampled_from(normal)) if normal else limits
    return st.one_of(st.tuples(limit, limit), limit.map(lambda both: (both, both)))


@untimed
@given(channels())
def test_a_composite_is_the_sum_of_the_scaled_channels(
    drawn: tuple[list[NDArray[Any]], list[RGB], list[Window]],
) -> None:
    planes, colors, windows = drawn
    assert_close(composite(planes, colors, windows), mixed(planes, colors, windows))


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "i8", "f4", "?"])
def test_a_picture_of_many_blocks(dtype: str) -> None:
    random = np.random.default_rng(0)
    planes = [random.integers(0, 3000, (517, 611)).astype(dtype) for _ in range(4)]
    colors = [(255, 0, 0), (0, 255, 255), (13, 200, 77), (255, 255, 255)]
    windows = [(100, 2900), (3000.5, -7), (0, 255), (0, 1)]
    assert_close(composite(planes, colors, windows), mixed(planes, colors, windows))


@pytest.mark.parametrize("number", [1, 5, 40])
def test_any_number_of_channels(number: int) -> None:
    random = np.random.default_rng(0)
    planes = [random.integers(0, 1000, (70, 90)).astype("u2") for _ in range(number)]
    colors = [(random.integers(12), 5, index) for index in range(number)]
    windows = [(index, 1000 - index) for index in range(number)]
    assert_close(composite(planes, colors, windows), mixed(planes, colors, windows))


gammas = st.one_of(st.just(1.0), st.floats(0.1, 5))


@untimed
@given(channels(), st.data())
def test_gammas_inversion_and_visibility(
    drawn: tuple[list[NDArray[Any]], list[RGB], list[Window]], data: st.DataObject
) -> None:
    planes, colors, windows = drawn
    each = [data.draw(st.tuples(gammas, st.booleans(), st.booleans())) for _ in planes]
    powers, turned, visible = ([entry[i] for entry in each] for i in range(3))
    picture = composite(planes, colors, windows, gammas=powers, inverted=turned, visible=visible)
    exact = np.zeros(picture.shape)
    for plane, color, window, (power, turn, shown) in zip(
        planes, colors, windows, each, strict=True
    ):
        if shown:
            exact += shares(plane, window, power, turn)[..., np.newaxis] * np.array(color)
    np.testing.assert_allclose(picture, np.clip(exact, 0, 255), rtol=0, atol=1)


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "<u2", ">u2", ">i2", "i4", "f2", ">f4", "f8"])
def test_gamma_of_planes_that_are_larger_than_their_range(dtype: str) -> None:
    plane = np.random.default_rng(0).integers(-300, 3000, (301, 302)).astype(dtype)[::-1]
    for inverted in (False, True):
        picture = composite(
            [plane], [(255, 0, 77)], [(-100, 2000)], gammas=[0.45], inverted=[inverted]
        )
        exact = shares(plane, (-100, 2000), 0.45, inverted)[..., np.newaxis] * [255, 0, 77]
        np.testing.assert_allclose(picture, exact, rtol=0, atol=1)


def test_a_picture_of_no_visible_channel_is_black() -> None:
    picture = composite([np.ones((2, 3))], [WHITE], [(0, 1)], visible=[False])
    assert picture.shape == (2, 3, 3)
    assert not picture.any()


def test_inverted_gaps_add_nothing() -> None:
    plane = np.array([[np.nan, 0, 1, np.inf]])
    for gamma in (1, 2):
        for window in [(0, 1), (0, 0)]:
            picture = composite([plane], [WHITE], [window], gammas=[gamma], inverted=[True])
            assert picture[0, :, 0].tolist() == [0, 255, 0, 0]


# ---- colormaps -------------------------------------------------------------------------------


@untimed
@given(channels(), st.data())
def test_a_table_gives_the_color_of_each_place_in_the_window(
    drawn: tuple[list[NDArray[Any]], list[RGB], list[Window]], data: st.DataObject
) -> None:
    planes, colors, windows = drawn
    names = [data.draw(st.sampled_from([None, "viridis", "magma_r", "cyan"])) for _ in planes]
    looks = [
        color if name is None else colormap(name) for name, color in zip(names, colors, strict=True)
    ]
    exact = np.zeros((*planes[0].shape, 3))
    doubt = 0.6
    for plane, color, window, name in zip(planes, colors, windows, names, strict=True):
        share = shares(plane, window)
        if name is None:
            exact += share[..., np.newaxis] * np.array(color)
            continue
        table = colormap(name).astype(float)
        found = table[np.rint(share * 255).astype(int)]
        found[np.isnan(plane.astype("f8"))] = 0
        exact += found
        # float32 may fall to the next entry
        doubt += float(abs(np.diff(table, axis=0)).max())
    picture = composite(planes, looks, windows)
    np.testing.assert_allclose(picture, np.clip(exact, 0, 255), rtol=0, atol=doubt)


@pytest.mark.parametrize("name", ["viridis", "plasma", "inferno", "magma", "cividis", "turbo"])
def test_colormaps_look_like_those_of_matplotlib(name: str) -> None:
    expected = matplotlib.colormaps[name](np.arange(256))[:, :3] * 255
    assert abs(colormap(name) - expected).max() < 12
    np.testing.assert_array_equal(colormap(f"{name}_r"), colormap(name)[::-1])


def test_gray_is_white_and_grey_tables_are_read_only() -> None:
    plane = np.arange(256, dtype="u1").reshape(16, 16)
    white = composite([plane], [WHITE], [(3, 190)])
    np.testing.assert_array_equal(composite([plane], [colormap("gray")], [(3, 190)]), white)
    with pytest.raises(ValueError, match="read-only"):
        colormap("gray")[0] = 1


def test_all_colormaps_are_tables() -> None:
    for name in COLORMAPS:
        assert colormap(name).shape == (256, 3)
    with pytest.raises(ValueError, match=r"no colormap 'jte'; expected one of gray, viridis"):
        colormap("jte")


# ---- projections -----------------------------------------------------------------------------


@untimed
@given(
    st.sampled_from(["?", "u1", ">u2", "i4", "u8", "f4", ">f8"]).flatmap(
        lambda dtype: hnp.arrays(dtype, st.tuples(st.integers(1, 9), *[st.integers(1, 4)] * 2))
    ),
    st.integers(1, 9),
    st.sampled_from(["max", "mean", "min"]),
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of slices that are all NaN
def test_a_projection_of_slabs_is_that_of_the_whole(
    volume: NDArray[Any], step: int, how: Any
) -> None:
    slabs = (volume[i : i + step] for i in range(0, len(volume), step))
    found = project(slabs, how)
    with np.errstate(all="ignore"):
        if how == "mean":
            expected = np.nanmean(volume.astype("f8"), axis=0)
        else:
            expected = getattr(np, f"nan{how}")(volume, axis=0)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-300)
    assert how == "mean" or found.dtype == volume.dtype.newbyteorder("=")


def test_what_a_projection_refuses() -> None:
    with pytest.raises(ValueError, match="no slabs"):
        project([np.zeros((0, 2, 2))], "max")
    with pytest.raises(ValueError, match="'median'; expected one of max, mean, min"):
        project([np.zeros((1, 2, 2))], "median")  # type: ignore[arg-type]


# ---- the edges of a composite ----------------------------------------------------------------

RAMP = np.array([[-1, 0, 1, 2, 3, 4, 5]])


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ((0, 4), [0, 0, 64, 128, 191, 255, 255]),
        ((4, 0), [255, 255, 191, 128, 64, 0, 0]),
        ((2, 2), [0, 0, 0, 0, 255, 255, 255]),
        ((2.5, 2.5), [0, 0, 0, 0, 255, 255, 255]),
    ],
)
def test_a_window_scales_inverts_or_cuts(window: Window, expected: list[int]) -> None:
    for dtype in ("i1", "i8", "f2", ">f4", "f8"):
        picture = composite([RAMP.astype(dtype)], [(255, 0, 255)], [window])
        assert picture[0, :, 0].tolist() == picture[0, :, 2].tolist() == expected
        assert not picture[..., 1].any()


def test_nan_adds_nothing_and_infinities_clip() -> None:
    plane = np.array([[np.nan, -np.inf, np.inf, 1e300]])
    for window in [(0, 1), (5, 5), (0, 1e300), (1e6, 1e6 + 1)]:
        picture = composite([plane], [(10, 20, 30)], [window])
        assert picture[0].tolist() == [[0, 0, 0], [0, 0, 0], [10, 20, 30], [10, 20, 30]]
    inverted = composite([plane], [(10, 20, 30)], [(1, 0)])
    assert inverted[0].tolist() == [[0, 0, 0], [10, 20, 30], [0, 0, 0], [0, 0, 0]]


def test_nan_leaves_the_other_channels_alone() -> None:
    gap, full = np.array([[np.nan, 1]], "f4"), np.array([[7, 7]], "u1")
    picture = composite([gap, full], [(255, 0, 0), (0, 255, 0)], [(0, 1), (0, 7)])
    assert picture[0].tolist() == [[0, 255, 0], [255, 255, 0]]


@pytest.mark.parametrize("dtype", ["u8", ">u8", "i8", "f8"])
def test_large_offsets_keep_every_step(dtype: str) -> None:
    start = 2**52
    plane = (start + np.arange(256, dtype=dtype)).astype(dtype).reshape(16, 16)
    picture = composite([plane], [(255, 255, 255)], [(start, start + 255)])
    assert picture[..., 0].ravel().tolist() == list(range(256))


def test_limits_may_be_scalars_of_the_plane() -> None:
    plane = np.array([[10, 20]], "u1")
    picture = composite([plane], [(255, 0, 0)], [(plane.max(), plane.min())])
    assert picture[0, :, 0].tolist() == [255, 0]


def test_views_of_any_layout() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype("u1")
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    np.testing.assert_array_equal(
        composite(list(np.moveaxis(image, -1, 0)), colors, [(0, 255)] * 3), image
    )
    turned = image[::-1, ::2].swapaxes(0, 1)
    np.testing.assert_array_equal(
        composite(list(np.moveaxis(turned, -1, 0)), colors, [(0, 255)] * 3), turned
    )


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_an_empty_picture_has_its_shape(shape: tuple[int, int]) -> None:
    assert composite([np.zeros(shape)], [(1, 2, 3)], [(0, 1)]).shape == (*shape, 3)


PLANE = np.zeros((2, 3))
WHITE = (255, 255, 255)


@pytest.mark.parametrize(
    ("planes", "colors", "windows", "message"),
    [
        ([], [], [], "no planes"),
        ([PLANE], [], [(0, 1)], "1 planes, 0 colors and 1 windows"),
        ([PLANE], [WHITE], [(0, 1)] * 2, "1 planes, 1 colors and 2 windows"),
        ([PLANE, PLANE.T], [WHITE] * 2, [(0, 1)] * 2, r"\(2, 3\), \(3, 2\).*expected one shape"),
        ([PLANE[0]], [WHITE], [(0, 1)], r"\(3,\).*expected one shape"),
        ([PLANE.astype(complex)], [WHITE], [(0, 1)], "plane 0 has dtype complex128"),
        ([PLANE], [(0, 0, 256)], [(0, 1)], "expected .red, green, blue., each 0 to 255"),
        ([PLANE], [(0, 0)], [(0, 1)], "expected .red, green, blue., each 0 to 255"),
        ([PLANE], [WHITE], [(0, math.inf)], "expected .start, end., finite numbers"),
        ([PLANE], [WHITE], [(math.nan, 1)], "expected .start, end., finite numbers"),
    ],
)
def test_what_a_composite_refuses(
    planes: list[NDArray[Any]], colors: list[RGB], windows: list[Window], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        composite(planes, colors, windows)


# ---- labels ----------------------------------------------------------------------------------


PINNED = {
    0: (0, 0, 0, 0),
    1: (39, 85, 198, 255),
    2: (105, 140, 55, 255),
    3: (210, 124, 200, 255),
    511: (217, 14, 242, 255),
    512: (10, 192, 120, 255),
    1000: (225, 112, 83, 255),
    2**40: (110, 226, 70, 255),
    -1: (81, 231, 125, 255),
    -(2**63): (193, 10, 10, 255),
}


def test_label_colors_never_change() -> None:
    colors = label_colors(np.array(list(PINNED)))
    assert [tuple(color) for color in colors.tolist()] == list(PINNED.values())


@untimed
@given(hnp.arrays(st.sampled_from(INTEGERS), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)))
def test_a_label_has_one_color_whatever_holds_it(ids: NDArray[Any]) -> None:
    colors = label_colors(ids)
    assert colors.shape == (*ids.shape, 4)
    assert colors.dtype == np.uint8
    np.testing.assert_array_equal(colors[..., 3], np.where(ids == 0, 0, 255))
    np.testing.assert_array_equal(colors, label_colors(ids.astype(ids.dtype.newbyteorder())))
    wide = ids.astype("u8" if ids.dtype.kind == "u" else "i8")
    np.testing.assert_array_equal(colors, label_colors(wide))
    alone = [label_colors(np.array([id_], ids.dtype))[0] for id_ in ids.ravel()]
    np.testing.assert_array_equal(colors.reshape(-1, 4), np.array(alone).reshape(-1, 4))


def distances(colors: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Between each two of (n, 4) colours, in counts; infinite to itself."""
    rgb = colors[:, :3].astype(float)
    between: NDArray[np.float64] = np.linalg.norm(rgb[:, np.newaxis] - rgb, axis=-1)
    np.fill_diagonal(between, np.inf)
    return between


def test_the_first_labels_are_told_apart() -> None:
    between = distances(label_colors(np.arange(1, 201)))
    assert between[:50, :50].min() > 25
    assert between.min() > 10
    assert min(np.diagonal(between, step).min() for step in range(1, 5)) > 60


def test_no_step_between_labels_always_meets_the_same_color() -> None:
    rgb = label_colors(np.arange(1, 4097))[:, :3].astype(float)
    steps = range(1, 1500)
    typical = [np.median(np.linalg.norm(rgb[step:] - rgb[:-step], axis=1)) for step in steps]
    assert min(typical) > 30


def test_no_label_is_nearly_black_or_white() -> None:
    rgb = label_colors(np.arange(1, 10_000))[:, :3]
    assert rgb.max(axis=1).min() >= 127
    assert (255 - rgb.min(axis=1)).min() >= 50


def test_stored_colors_go_first() -> None:
    stored = {0: (1, 2, 3, 4), 7: (5, 6, 7, 8), -1: (9, 9, 9, 9), 2**64 - 1: (8, 8, 8, 8)}
    colors = label_colors(np.array([[7, 0], [-1, 6]]), stored)
    assert colors[0].tolist() == [[5, 6, 7, 8], [1, 2, 3, 4]]
    assert colors[1, 0].tolist() == [9, 9, 9, 9]
    np.testing.assert_array_equal(colors[1, 1], label_colors(np.array(6)))
    largest = np.array([2**64 - 1, 7], "u8")
    assert label_colors(largest, stored).tolist() == [[8, 8, 8, 8], [5, 6, 7, 8]]


@pytest.mark.parametrize("dtype", ["f4", "c8", "U3"])
def test_labels_are_integers(dtype: str) -> None:
    labels = np.zeros((2, 3), dtype)
    with pytest.raises(ValueError, match=r"ids have dtype .*; expected integers"):
        label_colors(labels)
    with pytest.raises(ValueError, match=r"labels have dtype .*; expected integers"):
        overlay_labels(np.zeros((2, 3, 3), "u1"), labels)


# ---- labels over a picture -------------------------------------------------------------------


def covered(
    rgb: NDArray[np.uint8], labels: NDArray[Any], stored: Stored | None, alpha: float
) -> NDArray[np.float64]:
    """The overlay as it is defined, not rounded."""
    rgba = label_colors(labels, stored).astype(float)
    opacity = alpha * rgba[..., 3:] / 255
    return rgba[..., :3] * opacity + rgb * (1 - opacity)


def bordered(
    rgb: NDArray[np.uint8], labels: NDArray[Any], stored: Stored | None
) -> NDArray[np.uint8]:
    """The outlines as they are defined, pixel by pixel."""
    out = rgb.copy()
    height, width = labels.shape
    for y, x in np.ndindex(height, width):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [(v, u) for v, u in around if 0 <= v < height and 0 <= u < width]
        color = label_colors(labels[y, x], stored)
        if labels[y, x] != 0 and any(labels[at] != labels[y, x] for at in inside) and color[3]:
            out[y, x] = color[:3]
    return out


@st.composite
def overlays(
    draw: st.DrawFn,
) -> tuple[NDArray[np.uint8], NDArray[Any], dict[int, tuple[int, int, int, int]]]:
    """A picture, labels with repeats among small and extreme ids, and some stored colours."""
    shape = draw(shapes)
    dtype = np.dtype(draw(st.sampled_from(["?", *INTEGERS])))
    bounds = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    low, high = draw(st.sampled_from([(0, min(5, bounds[1])), (0, min(2**20, bounds[1])), bounds]))
    ids = draw(st.lists(st.integers(low, high), min_size=1, max_size=6))
    labels = draw(hnp.arrays(dtype, shape, elements=st.sampled_from(ids)))
    rgb = draw(hnp.arrays(np.uint8, (*shape, 3)))
    keys = st.one_of(st.sampled_from([int(id_) for id_ in ids]), st.integers(-3, 6))
    return rgb, labels, draw(st.dictionaries(keys, rgbas, max_size=4))


@untimed
@given(overlays(), st.floats(0, 1))
def test_an_overlay_blends_the_labels_colors(
    drawn: tuple[NDArray[np.uint8], NDArray[Any], Stored], alpha: float
) -> None:
    rgb, labels, stored = drawn
    before = rgb.copy()
    picture = overlay_labels(rgb, labels, stored=stored, alpha=alpha)
    exact = covered(rgb, labels, stored, alpha)
    assert picture.dtype == np.uint8
    assert picture.shape == rgb.shape
    np.testing.assert_allclose(picture, exact, rtol=0, atol=1)
    np.testing.assert_array_equal(rgb, before)
    if 0 not in stored:
        np.testing.assert_array_equal(picture[labels == 0], rgb[labels == 0])


@untimed
@given(overlays())
def test_an_outline_is_the_inner_boundary_and_opaque(
    drawn: tuple[NDArray[np.uint8], NDArray[Any], Stored],
) -> None:
    rgb, labels, stored = drawn
    before = rgb.copy()
    picture = overlay_labels(rgb, labels, stored=stored, alpha=0.1, outline=True)
    np.testing.assert_array_equal(picture, bordered(rgb, labels, stored))
    np.testing.assert_array_equal(rgb, before)


def test_the_ends_of_alpha_are_exact() -> None:
    random = np.random.default_rng(0)
    rgb = random.integers(0, 256, (30, 40, 3)).astype("u1")
    labels = random.integers(1, 9, (30, 40))
    np.testing.assert_array_equal(overlay_labels(rgb, labels, alpha=0), rgb)
    colors = label_colors(labels)[..., :3]
    np.testing.assert_array_equal(overlay_labels(rgb, labels, alpha=1), colors)


@pytest.mark.parametrize("outline", [False, True])
def test_large_ids_are_drawn_as_small_ones_are(outline: bool) -> None:
    random = np.random.default_rng(0)
    small = np.kron(random.integers(0, 2**20, (60, 70)), np.ones((9, 8), int))
    rgb = random.integers(0, 256, (*small.shape, 3)).astype("u1")
    large = small.copy()
    large[0, 0] = 2**62
    expected = overlay_labels(rgb, small, outline=outline)[3:]
    np.testing.assert_array_equal(overlay_labels(rgb, large, outline=outline)[3:], expected)


def test_a_checkerboard_of_labels() -> None:
    grey = np.full((4, 4, 3), 100, "u1")
    labels = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 2], [0, 0, 2, 2]], "u1")
    stored = {1: (200, 0, 0, 255), 2: (0, 0, 0, 0)}
    picture = overlay_labels(grey, labels, stored=stored)
    assert picture[0, 0].tolist() == [150, 50, 50]
    assert picture[0, 2].tolist() == picture[2, 2].tolist() == [100, 100, 100]


def test_labels_of_a_block_have_no_outline_within() -> None:
    labels = np.zeros((7, 7), int)
    labels[1:6, 1:6] = 3
    picture = overlay_labels(np.zeros((7, 7, 3), "u1"), labels, outline=True)
    drawn = picture.any(axis=-1)
    expected = labels != 0
    expected[2:5, 2:5] = False
    np.testing.assert_array_equal(drawn, expected)


def test_a_stored_background_is_blended_but_never_outlined() -> None:
    grey = np.full((1, 3, 3), 100, "u1")
    labels = np.array([[0, 0, 4]])
    stored = {0: (200, 0, 0, 255), 4: (9, 9, 9, 255)}
    filled = overlay_labels(grey, labels, stored=stored)
    assert filled[0].tolist() == [[150, 50, 50], [150, 50, 50], [55, 55, 55]]
    outlined = overlay_labels(grey, labels, stored=stored, outline=True)
    assert outlined[0].tolist() == [[100, 100, 100], [100, 100, 100], [9, 9, 9]]


def test_stored_colors_touch_no_other_label_nor_the_next_picture() -> None:
    black = np.zeros((1, 4, 3), "u1")
    labels = np.array([[0, 1, 2, 3]])
    plain = overlay_labels(black, labels)
    stored = {-1: (255, 0, 0, 255), -2: (255, 0, 0, 255), 1: (0, 0, 255, 255), 900: (1, 1, 1, 1)}
    picture = overlay_labels(black, labels, stored=stored)
    assert picture[0, 1].tolist() == [0, 0, 128]
    np.testing.assert_array_equal(picture[0, [0, 2, 3]], plain[0, [0, 2, 3]])
    np.testing.assert_array_equal(overlay_labels(black, labels), plain)


LAYOUTS = {
    "turned": np.s_[::-1, ::2, :3],
    "every other column": np.s_[:, ::2, :3],
    "every other row": np.s_[::2, :30, :3],
    "reversed components": np.s_[:, 30:, 2::-1],
}


@pytest.mark.parametrize("outline", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_pictures_and_labels_of_any_layout(layout: Any, outline: bool) -> None:
    random = np.random.default_rng(0)
    rgb = random.integers(0, 256, (50, 60, 4)).astype("u1")[layout]
    labels = np.asfortranarray(random.integers(0, 4, rgb.shape[:2]))
    expected = overlay_labels(rgb.copy(), labels.copy(order="C"), outline=outline)
    np.testing.assert_array_equal(overlay_labels(rgb, labels, outline=outline), expected)


@untimed
@given(overlays(), st.booleans(), st.data())
def test_selected_labels_stand_out(
    drawn: tuple[NDArray[np.uint8], NDArray[Any], Stored], outline: bool, data: st.DataObject
) -> None:
    rgb, labels, stored = drawn
    selected = data.draw(st.sets(st.sampled_from([*map(int, labels.ravel()), 77, -9, 2**70])))
    plain = overlay_labels(rgb, labels, stored=stored, outline=outline)
    picture = overlay_labels(rgb, labels, stored=stored, outline=outline, selected=selected)
    marked = np.isin(labels.astype(object), [id_ for id_ in selected if id_])
    np.testing.assert_array_equal(picture[~marked], plain[~marked])
    ground = bordered(np.zeros_like(rgb), np.where(marked, labels, 0), {})
    assert (picture[ground.any(axis=-1)] == 255).all()


def test_a_selected_label_is_denser_in_a_white_line() -> None:
    labels = np.pad(np.ones((3, 3), int), 1)
    stored = {1: (200, 0, 0, 255)}
    picture = overlay_labels(np.zeros((5, 5, 3), "u1"), labels, stored=stored, selected=[1])
    assert picture[2, 2].tolist() == [150, 0, 0]
    for ids in (pd.Index([1]), np.array([1])):
        again = overlay_labels(np.zeros((5, 5, 3), "u1"), labels, stored=stored, selected=ids)
        assert np.array_equal(again, picture)
    assert picture[1, 1:4].tolist() == [[255] * 3] * 3
    assert not picture[0].any()


PICTURE = np.zeros((2, 3, 3), "u1")
LABELS = np.ones((2, 3), int)


@pytest.mark.parametrize(
    ("rgb", "labels", "alpha", "message"),
    [
        (PICTURE, LABELS.T, 0.5, r"labels are \(3, 2\); expected \(2, 3\)"),
        (PICTURE.astype("u2"), LABELS, 0.5, "uint16; expected .y, x, 3. uint8"),
        (PICTURE[..., :2], LABELS, 0.5, r"\(2, 3, 2\) uint8; expected .y, x, 3. uint8"),
        (PICTURE[..., 0], LABELS, 0.5, r"\(2, 3\) uint8; expected .y, x, 3. uint8"),
        (PICTURE, LABELS, 1.5, "alpha is 1.5; expected 0 to 1"),
        (PICTURE, LABELS, math.nan, "alpha is nan; expected 0 to 1"),
    ],
)
def test_what_an_overlay_refuses(
    rgb: NDArray[np.uint8], labels: NDArray[Any], alpha: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        overlay_labels(rgb, labels, alpha=alpha)


# ---- files -----------------------------------------------------------------------------------


@untimed
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([3, 4])))
)
def test_a_png_holds_the_pixels(rgb: NDArray[np.uint8]) -> None:
    with Image.open(io.BytesIO(png(rgb))) as image:
        image.verify()
    with Image.open(io.BytesIO(png(rgb))) as image:
        assert image.format == "PNG"
        assert image.mode == ("RGB", "RGBA")[rgb.shape[2] - 3]
        np.testing.assert_array_equal(np.asarray(image), rgb)


def test_a_png_of_a_view() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (300, 200, 4)).astype("u1")[::-1, ::3, 1:]
    with Image.open(io.BytesIO(png(rgb))) as image:
        np.testing.assert_array_equal(np.asarray(image), rgb)


@pytest.mark.parametrize(
    "rgb",
    [
        np.zeros((2, 2), "u1"),
        np.zeros((2, 2, 2), "u1"),
        np.zeros((2, 2, 3), "f4"),
        np.zeros((0, 2, 3), "u1"),
        np.zeros((2, 0, 4), "u1"),
    ],
)
def test_a_png_needs_colored_bytes(rgb: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"expected \(y, x, 3\) or \(y, x, 4\) uint8"):
        png(rgb)
