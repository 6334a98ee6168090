"""Transformations become coordinates; coordinates tell pixel sizes and take selections."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ngff_xarray import geometry, spec, units
from ngff_xarray.errors import SelectionError, UnitError
from ngff_xarray.model import Axis, Image
from ngff_xarray.spec.report import Report
from ngff_xarray.transforms import Identity, Scale, Sequence, Transformation, Translation

UNTIMED = settings(deadline=None)

AXES = {
    "t": {"name": "t", "type": "time", "unit": "second"},
    "c": {"name": "c", "type": "channel"},
    "z": {"name": "z", "type": "space", "unit": "micrometer"},
    "y": {"name": "y", "type": "space", "unit": "micrometer"},
    "x": {"name": "x", "type": "space", "unit": "micrometer"},
}


def document(
    axes: str, inner: list[dict[str, Any]], outer: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Return the attributes of a 0.5 image of one level."""
    entry: dict[str, Any] = {
        "axes": [AXES[name] for name in axes],
        "datasets": [{"path": "0", "coordinateTransformations": inner}],
    }
    if outer is not None:
        entry["coordinateTransformations"] = outer
    return {"ome": {"version": "0.5", "multiscales": [entry]}}


def read_coordinates(attributes: dict[str, Any], shape: tuple[int, ...]) -> dict[str, xr.Variable]:
    """Return the coordinates of the first level."""
    _, _, image, _ = spec.read(attributes, Report("test"))
    assert isinstance(image, Image)
    transformation = image.multiscale.levels[0].transformation
    assert transformation is not None
    names = [f"channel {i}" for i in range(max(shape))]
    channel = next((i for i, axis in enumerate(image.multiscale.axes) if axis.name == "c"), None)
    return geometry.coordinates(
        image.multiscale.axes,
        shape,
        transformation,
        names[: 0 if channel is None else shape[channel]],
    )


def coordinate(
    size: int, step: float = 1.0, start: float = 0.0, unit: str | None = "micrometer"
) -> xr.DataArray:
    """Return the coordinate of an x axis, as a tree has it."""
    place = Sequence((Scale((step,)), Translation((start,))))
    made = geometry.coordinates([Axis("x", "space", unit)], (size,), place, [])["x"]
    return xr.DataArray(np.zeros(size), dims="x", coords={"x": made})["x"]


# ---- coordinates -------------------------------------------------------------------------------

FACTORS = st.floats(1e-4, 1e4) | st.floats(-1e4, -1e-4)
OFFSETS = st.floats(-1e7, 1e7)


@st.composite
def transformations(draw: st.DrawFn, ndim: int) -> list[dict[str, Any]]:
    """A scale and perhaps a translation, as the specification orders them."""
    made: list[dict[str, Any]] = [
        {"type": "scale", "scale": [draw(FACTORS) for _ in range(ndim)]},
    ]
    if draw(st.booleans()):
        made.append({"type": "translation", "translation": [draw(OFFSETS) for _ in range(ndim)]})
    return made


def affine(entries: list[dict[str, Any]] | None, ndim: int) -> tuple[np.ndarray, np.ndarray]:
    keyed = {entry["type"]: entry for entry in entries or []}
    scale = keyed.get("scale", {}).get("scale", [1.0] * ndim)
    translation = keyed.get("translation", {}).get("translation", [0.0] * ndim)
    return np.array(scale), np.array(translation)


@UNTIMED
@given(st.data())
def test_coordinates_are_the_composed_affine(data: st.DataObject) -> None:
    axes = data.draw(st.sampled_from(["yx", "zyx", "tyx", "cyx", "tcyx", "czyx", "tczyx"]))
    ndim = len(axes)
    inner = data.draw(transformations(ndim))
    outer = data.draw(st.none() | transformations(ndim))
    shape = data.draw(st.tuples(*[st.integers(1, 20)] * ndim))

    found = read_coordinates(document(axes, inner, outer), shape)

    assert list(found) == list(axes)
    (s, t), (S, T) = affine(inner, ndim), affine(outer, ndim)  # noqa: N806  # as in the spec
    for i, name in enumerate(axes):
        assert found[name].shape == (shape[i],)
        if name == "c":
            assert found[name].values.tolist() == [f"channel {k}" for k in range(shape[i])]
            continue
        index = np.arange(shape[i])
        expected = S[i] * (s[i] * index + t[i]) + T[i]
        largest = np.abs(S[i] * s[i] * index) + abs(S[i] * t[i]) + abs(T[i])
        assert (np.abs(found[name].values - expected) <= 1e-12 * largest).all()
        assert found[name].attrs["pixel_size"] == pytest.approx(abs(S[i] * s[i]), rel=1e-12)


def test_the_multiscale_transformation_comes_last() -> None:
    found = read_coordinates(
        document(
            "yx",
            [
                {"type": "scale", "scale": [1, 0.25]},
                {"type": "translation", "translation": [0, 20]},
            ],
            [
                {"type": "scale", "scale": [1, 2]},
                {"type": "translation", "translation": [0, 100]},
            ],
        ),
        (1, 4),
    )
    assert found["x"].values.tolist() == [140.0, 140.5, 141.0, 141.5]
    assert found["x"].attrs["pixel_size"] == 0.5


def test_attributes() -> None:
    axes = [Axis("t", "time", "second", "elapsed"), Axis("q"), Axis("x", "space", "micrometer")]
    found = geometry.coordinates(axes, (2, 2, 2), Scale((1.0, 2.0, -0.5)), [])
    assert [found[axis.name].attrs for axis in axes] == [
        {"units": "second", "axis_type": "time", "pixel_size": 1.0, "long_name": "elapsed"},
        {"pixel_size": 2.0},
        {"units": "micrometer", "axis_type": "space", "pixel_size": 0.5},
    ]
    assert found["x"].values.tolist() == [0, -0.5]
    assert all(variable.values.dtype == np.float64 for variable in found.values())


def test_an_axis_of_channels_has_names() -> None:
    axes = [Axis("c", "channel"), Axis("x", "space")]
    found = geometry.coordinates(axes, (2, 1), Identity(), ["DAPI", "a long name"])
    assert found["c"].values.tolist() == ["DAPI", "a long name"]
    assert found["c"].attrs == {"axis_type": "channel"}
    stretched = geometry.coordinates(axes, (2, 1), Scale((3.0, 1.0)), ["DAPI", "GFP"])
    assert stretched["c"].attrs == {"axis_type": "channel", "pixel_size": 3.0}


def test_a_second_axis_of_channels_has_numbers() -> None:
    axes = [Axis("a", "channel"), Axis("b", "channel")]
    found = geometry.coordinates(axes, (2, 3), Identity(), ["DAPI", "GFP"])
    assert found["a"].values.tolist() == ["DAPI", "GFP"]
    assert found["b"].values.tolist() == ["0", "1", "2"]


def test_an_empty_axis() -> None:
    found = geometry.coordinates([Axis("x"), Axis("c", "channel")], (0, 0), Identity(), [])
    assert (found["x"].shape, found["c"].shape) == ((0,), (0,))
    with pytest.raises(SelectionError, match="empty"):
        geometry.covering(coordinate(0), 0, 1)
    with pytest.raises(SelectionError, match="empty"):
        geometry.nearest(coordinate(0), 0)


# ---- pixel size --------------------------------------------------------------------------------

# what people write: a few digits
DECIMALS = st.builds(
    lambda digits, power: Decimal(digits).scaleb(-power), st.integers(1, 99_999), st.integers(0, 5)
)


@st.composite
def isels(draw: st.DrawFn, size: int) -> list[slice]:
    """Crops, strides and reversals, one after the other, that leave something."""
    made = []
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, size - 1))
        stop = draw(st.integers(start + 1, size))
        step = draw(st.integers(1, 4))
        taken = range(size)[start:stop:step]
        forward = draw(st.booleans())
        made.append(slice(start, stop, step) if forward else slice(stop - 1, None, -step))
        size = len(taken) if forward else len(range(size)[made[-1]])
    return made


@UNTIMED
@given(DECIMALS, st.decimals(-(10**7), 10**7, places=3), st.integers(1, 400), st.data())
@example(Decimal("0.107"), Decimal("0"), 50, None)
@example(Decimal("0.1"), Decimal("0.05"), 50, None)
@example(Decimal("0.001"), Decimal("1e7"), 50, None)
@example(Decimal("0.65"), Decimal("-123456.789"), 50, None)
def test_pixel_size_stays_the_stated_decimal(
    step: Decimal, start: Decimal, size: int, data: st.DataObject | None
) -> None:
    assume(step * 10**10 > abs(start))  # where float64 still tells pixels well apart
    x = coordinate(size, float(step), float(start))
    stride = 1
    for taken in data.draw(isels(size)) if data else [slice(3, None), slice(None, None, -3)]:
        x = x.isel(x=taken)["x"]
        stride *= abs(taken.step or 1)
    # of a single pixel the coordinate says nothing, and the attribute stays
    expected = step * (stride if x.size > 1 else 1)
    assert geometry.pixel_size(x) == float(expected)


@UNTIMED
@given(st.lists(st.integers(0, 60), min_size=3, max_size=20, unique=True), FACTORS, OFFSETS)
def test_uneven_coordinates_have_no_pixel_size(
    indices: list[int], step: float, start: float
) -> None:
    assume(abs(step) * 1e8 > abs(start))
    x = coordinate(61, step, start).isel(x=sorted(indices))["x"]
    even = len(set(np.diff(sorted(indices)))) == 1
    assert (geometry.pixel_size(x) is not None) == even


def test_repeated_coordinates_have_no_pixel_size() -> None:
    assert geometry.pixel_size(coordinate(5).isel(x=[2, 2, 2])["x"]) is None


def test_a_single_pixel_keeps_its_size() -> None:
    x = coordinate(5, 0.107, 3)
    assert geometry.pixel_size(x[2:3]) == geometry.pixel_size(x[2]) == 0.107
    assert geometry.pixel_size(coordinate(1, 0.107)) == 0.107
    assert geometry.pixel_size(coordinate(1, 0.107).drop_attrs()) is None


def test_coordinates_win_over_the_attribute() -> None:
    x = coordinate(5, 0.25)
    assert geometry.pixel_size(x.copy(data=x.values * 1.5)) == 0.375
    assert geometry.pixel_size(x.copy(data=x.values / 2)) == 0.125
    assert geometry.pixel_size(x.copy(data=x.values * 4)) == 1
    assert geometry.pixel_size(x.drop_attrs()) == 0.25
    integers = xr.DataArray(np.arange(0, 10, 2), dims="x", attrs={"pixel_size": 5})
    assert geometry.pixel_size(integers) == 2


@pytest.mark.parametrize("stated", [0, -1, math.nan, math.inf, "0.5", None, [0.5], 1j])
def test_an_attribute_that_is_no_size_is_ignored(stated: Any) -> None:
    x = xr.DataArray([0.0, 0.5], dims="x", attrs={"pixel_size": stated})
    assert geometry.pixel_size(x) == 0.5
    assert geometry.pixel_size(x[:1]) is None


def test_names_have_no_pixel_size() -> None:
    assert geometry.pixel_size(xr.DataArray(["DAPI", "GFP"], dims="c")) is None


def test_a_translation_that_drowns_the_pixels_gives_none() -> None:
    assert geometry.pixel_size(coordinate(5, 1e-9, 1e9)) is None


def test_a_quantified_coordinate_states_its_size_with_its_unit() -> None:
    x = coordinate(3, 0.5).isel(x=[1])["x"]
    for stated, size in (("0.5 micrometer", 0.5), ("500 nm", 0.5), ("3 s", None), ("3 px", None)):
        assert geometry.pixel_size(x.assign_attrs(pixel_size=stated)) == size


@UNTIMED
@given(st.integers(0, 50), FACTORS | st.floats(-1e-12, 1e-12), st.floats(-1e12, 1e12))
def test_pixels_are_distinct_while_floats_tell_them_apart(
    size: int, step: float, start: float
) -> None:
    if size > 1 and geometry.are_distinct(size, step, start):
        assert len(set(coordinate(size, step, start).values.tolist())) == size
    elif size > 1:
        assert abs(step) <= 1e-14 * (abs(start) + size * abs(step)) + 1e-300
    else:
        assert geometry.are_distinct(size, step, start)


def test_numbers_without_end_are_not_distinct() -> None:
    assert not geometry.are_distinct(3, 1e308, 0.0)
    assert not geometry.are_distinct(1, 1.0, math.inf)
    assert geometry.are_distinct(1, 1e308, 1e300)


# ---- edges -------------------------------------------------------------------------------------


def test_edges() -> None:
    assert geometry.edges(coordinate(3, 0.5)).tolist() == [-0.25, 0.25, 0.75, 1.25]
    assert geometry.edges(coordinate(3, -2)).tolist() == [1, -1, -3, -5]
    assert geometry.edges(coordinate(1, 0.5, 10)).tolist() == [9.75, 10.25]
    assert geometry.edges(coordinate(1, 0.5, 10).drop_attrs()).tolist() == [9.5, 10.5]
    uneven = xr.DataArray([0, 2, 8], dims="x")
    assert geometry.edges(uneven).tolist() == [-1, 1, 5, 11]


# ---- selection ---------------------------------------------------------------------------------


@st.composite
def grids(draw: st.DrawFn) -> tuple[xr.DataArray, int, Any]:
    """A coordinate, its size, and a function from eighths of a pixel to its units.

    Pixel i reaches from 8 i - 4 to 8 i + 4. Eighths are integers, so that a test knows exactly
    what lies in a pixel, however float64 rounds the coordinates and the bounds.
    """
    size = draw(st.integers(1, 12))
    step = float(draw(DECIMALS)) * draw(st.sampled_from([1, -1]))
    start = draw(st.sampled_from([0.0, 0.1, -7.3, 1e7, -1e7 / 3]) | st.floats(-1e8, 1e8))
    assume(abs(step) * 1e12 > abs(start))  # an eighth of a pixel is far above the noise
    return coordinate(size, step, start), size, lambda eighths: start + step * eighths / 8


def overlapped(size: int, low: int, high: int) -> list[int]:
    """Return the pixels that share more than an edge with a region, in eighths."""
    return [i for i in range(size) if min(high, 8 * i + 4) > max(low, 8 * i - 4)]


@UNTIMED
@given(grids(), st.integers(-30, 120), st.integers(0, 60), st.booleans())
def test_covering_takes_the_pixels_that_a_region_overlaps(
    grid: tuple[xr.DataArray, int, Any], low: int, length: int, swapped: bool
) -> None:
    x, size, place = grid
    bounds = (place(low), place(low + length))
    assume(length == 0 or bounds[0] != bounds[1])
    start, stop = reversed(bounds) if swapped else bounds
    expected = overlapped(size, low, low + length)
    if length == 0 and -4 <= low <= 8 * size - 4:
        # the pixel that holds it; on an edge either will do
        taken = range(size)[geometry.covering(x, start, stop)]
        assert len(taken) == 1
        assert abs(8 * taken[0] - low) <= 4
    elif expected:
        assert list(range(size)[geometry.covering(x, start, stop)]) == expected
    else:
        with pytest.raises(SelectionError, match="lies outside the image"):
            geometry.covering(x, start, stop)


@UNTIMED
@given(grids(), st.integers(-4, 100))
def test_an_open_side_reaches_to_the_end(grid: tuple[xr.DataArray, int, Any], bound: int) -> None:
    x, size, place = grid
    bound = min(bound, 8 * size - 4)
    low, high = min(place(-4), place(8 * size - 4)), max(place(-4), place(8 * size - 4))
    for given_, full in (((None, None), (low, high)), ((-math.inf, math.inf), (low, high))):
        assert geometry.covering(x, *given_) == geometry.covering(x, *full) == slice(0, size)
    assert geometry.covering(x, None, place(bound)) == geometry.covering(x, low, place(bound))
    assert geometry.covering(x, place(bound), None) == geometry.covering(x, place(bound), high)


@UNTIMED
@given(grids(), st.integers(-30, 120))
def test_nearest_is_the_pixel_that_holds_a_position(
    grid: tuple[xr.DataArray, int, Any], position: int
) -> None:
    x, size, place = grid
    if -4 <= position <= 8 * size - 4:
        assert abs(8 * geometry.nearest(x, place(position)) - position) <= 4
    else:
        with pytest.raises(SelectionError, match="lies outside the image"):
            geometry.nearest(x, place(position))


@UNTIMED
@given(
    st.lists(st.integers(-50, 50), min_size=2, max_size=10, unique=True),
    st.booleans(),
    st.integers(-250, 250),
    st.integers(1, 100),
)
def test_uneven_pixels_reach_half_way(
    centres: list[int], descending: bool, low: int, length: int
) -> None:
    centres = sorted(centres, reverse=descending)
    x = xr.DataArray(np.array(centres, dtype=float), dims="x", name="x")
    middles = [Fraction(a + b, 2) for a, b in pairwise(centres)]
    ends = [2 * centres[0] - middles[0], *middles, 2 * centres[-1] - middles[-1]]
    pixels = [sorted(pair) for pair in pairwise(ends)]
    # thirds never fall on an edge
    start, stop = Fraction(low, 3) + Fraction(1, 9), Fraction(low + length, 3) + Fraction(1, 9)
    expected = [i for i, (a, b) in enumerate(pixels) if min(b, stop) > max(a, start)]
    if expected:
        found = geometry.covering(x, float(start), float(stop))
        assert list(range(len(centres))[found]) == expected
    else:
        with pytest.raises(SelectionError):
            geometry.covering(x, float(start), float(stop))
    holders = [i for i, (a, b) in enumerate(pixels) if a < start < b]
    if holders:
        assert geometry.nearest(x, float(start)) == _closest(centres, start)


def _closest(centres: list[int], position: Fraction) -> int:
    return min(range(len(centres)), key=lambda i: abs(centres[i] - position))


def test_a_hair_does_not_count() -> None:
    x = coordinate(4, 0.5)
    assert geometry.covering(x, 0.25 - 1e-9, 0.75 + 1e-9) == slice(1, 2)
    assert geometry.covering(x, 0.25 - 1e-5, 0.75 + 1e-5) == slice(0, 3)
    # a region as thin as a hair is still somewhere, on an edge and inside a pixel
    assert geometry.covering(x, 0.25 - 1e-9, 0.25 + 1e-9) in (slice(0, 1), slice(1, 2))
    assert geometry.covering(x, 0.5 - 1e-9, 0.5 + 1e-9) == slice(1, 2)
    # and so are the ends of the image, but not what only touches it
    assert geometry.covering(x, -0.25, -0.25) == slice(0, 1)
    assert geometry.covering(x, 1.75, 1.75) == slice(3, 4)
    for outside in ((-3, -0.25), (1.75, 3)):
        with pytest.raises(SelectionError):
            geometry.covering(x, *outside)


@pytest.mark.parametrize("step", [0.5, -0.5])
@pytest.mark.parametrize(
    ("start", "stop"), [(-7, -7), (9, 9), (-9, -7), (7, 9), (-math.inf, -math.inf), (None, -3)]
)
def test_outside(step: float, start: float | None, stop: float) -> None:
    x = coordinate(3, step, 0 if step > 0 else 1)
    with pytest.raises(SelectionError, match=r"^x: .* lies outside.* from -0.25 to 1.25 microm"):
        geometry.covering(x, start, stop)
    with pytest.raises(SelectionError, match=r"^x: .* lies outside.* from -0.25 to 1.25 microm"):
        geometry.nearest(x, stop)


def test_the_extent_is_told_with_enough_digits() -> None:
    x = coordinate(5, 0.001, 1e7, unit=None)
    with pytest.raises(
        SelectionError,
        match=r"^x: 10000001 to 10000002 lies outside the image, "
        r"which reaches from 9999999\.99\d* to 10000000\.0\d*$",
    ):
        geometry.covering(x, 1e7 + 1, 1e7 + 2)


@pytest.mark.parametrize("bounds", [(math.nan, 1), (1, math.nan), (math.nan, None)])
def test_nan_is_nowhere(bounds: tuple[float | None, float | None]) -> None:
    with pytest.raises(SelectionError, match="NaN"):
        geometry.covering(coordinate(3), *bounds)
    with pytest.raises(SelectionError, match="nan"):
        geometry.nearest(coordinate(3), math.nan)


def test_a_single_pixel() -> None:
    x = coordinate(1, 0.5, 10)
    assert geometry.covering(x, 9.8, 9.9) == geometry.covering(x, None, None) == slice(0, 1)
    assert geometry.nearest(x, 10.2) == 0
    for position in (9.7, 10.3):
        with pytest.raises(SelectionError):
            geometry.nearest(x, position)
        with pytest.raises(SelectionError):
            geometry.covering(x, position, position)
    scalar = coordinate(3, 0.5).isel(x=1)
    assert geometry.nearest(scalar, 0.6) == 0


def test_clipped() -> None:
    for x in (coordinate(3, 0.5), coordinate(3, -0.5, 1)):
        found = [geometry.clipped(x, position) for position in (-9, -0.25, 0.3, 1.25, math.inf)]
        assert found == [-0.25, -0.25, 0.3, 1.25, 1.25]


# ---- one region on all levels ------------------------------------------------------------------


@st.composite
def pyramids(draw: st.DrawFn) -> list[xr.DataArray]:
    """The x coordinate of every level of a pyramid by two, with or without lower translations."""
    size, step = draw(st.integers(1, 100)), float(draw(DECIMALS))
    start = draw(st.sampled_from([0.0, 12.5, -1e6]) | st.floats(-1e3, 1e3))
    assume(step * 1e9 > abs(start))
    centred = draw(st.booleans())  # many writers leave the shift of half a pixel out
    levels = []
    for level in range(4):
        factor = 2**level
        shift = (step * factor - step) / 2 if centred else 0.0
        levels.append(coordinate(math.ceil(size / factor), step * factor, start + shift))
    return levels


@UNTIMED
@given(pyramids(), st.floats(-0.2, 1.2), st.floats(0, 1))
def test_a_region_is_covered_on_every_level(
    levels: list[xr.DataArray], start: float, length: float
) -> None:
    bounds = geometry.edges(levels[0])
    extent = bounds[-1] - bounds[0]
    low = bounds[0] + start * extent
    high = low + length * extent
    for x in levels:
        edges = geometry.edges(x)
        pixel = edges[1] - edges[0]
        noise = 1e-5 * pixel
        if high < edges[0] - noise or low > edges[-1] + noise:
            with pytest.raises(SelectionError):
                geometry.covering(x, low, high)
            continue
        if high <= edges[0] + noise or low >= edges[-1] - noise:
            continue  # touches the image by a hair: may be taken or not
        taken = range(x.size)[geometry.covering(x, low, high)]
        found_low, found_high = edges[taken[0]], edges[taken[-1] + 1]
        assert found_low <= max(low, edges[0]) + noise
        assert found_high >= min(high, edges[-1]) - noise
        # and no pixel more than that takes
        assert found_high - found_low <= (min(high, edges[-1]) - max(low, edges[0])) + 2 * pixel


# ---- positions ---------------------------------------------------------------------------------


def test_positions_are_in_the_units_of_the_axis() -> None:
    x = coordinate(3)
    assert geometry.position("1.5 mm", x) == 1500
    assert geometry.position(units.quantity(2, "nanometer"), x) == pytest.approx(0.002)
    assert geometry.position(7, x) == 7
    bare = coordinate(3, unit=None)
    assert geometry.position("7", bare) == 7
    with pytest.raises(UnitError):
        geometry.position("7 µm", bare)
    with pytest.raises(UnitError):
        geometry.position("7 s", x)


def test_a_unit_that_is_not_listed_is_no_unit() -> None:
    x = xr.DataArray([0.0, 1.0], dims="x", attrs={"units": "9**9**9**9"})
    assert geometry.unit(x) is None
    assert geometry.position(1, x) == 1
    with pytest.raises(UnitError):
        geometry.position("1 m", x)


def test_geometry_of_any_transformation() -> None:
    class Affine:
        def apply(self, points: Any) -> Any:
            return points

        def inverse(self) -> Transformation:
            return self

    with pytest.raises(TypeError, match="Affine"):
        geometry.coordinates([Axis("x")], (3,), Affine(), [])
