"""Transformations: apply, invert, compose, and what a scale and a translation can say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngff_xarray.transforms import (
    Identity,
    Scale,
    Sequence,
    Transformation,
    Translation,
    compose,
    scale_and_translation,
)

UNTIMED = settings(deadline=None)

# powers of two and multiples of them: float64 is exact on these, so that equal means equal
FACTORS = st.sampled_from([sign * 2.0**power for sign in (1, -1) for power in range(-3, 4)])
OFFSETS = st.integers(-80_000, 80_000).map(lambda number: number / 8)


def simple(ndim: int) -> st.SearchStrategy[Transformation]:
    vectors = {
        Scale: st.tuples(*[FACTORS] * ndim),
        Translation: st.tuples(*[OFFSETS] * ndim),
    }
    made = [st.builds(kind, vector) for kind, vector in vectors.items()]
    return st.one_of(st.just(Identity()), *made)


def any_transformation(ndim: int) -> st.SearchStrategy[Transformation]:
    """Simple ones, and sequences of them in sequences."""
    return st.recursive(
        simple(ndim),
        lambda inner: st.builds(Sequence, st.lists(inner, max_size=3).map(tuple)),
        max_leaves=5,
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, Transformation, np.ndarray]:
    ndim = draw(st.integers(1, 5))
    count = draw(st.integers(1, 4))
    rows = st.lists(st.tuples(*[OFFSETS] * ndim), min_size=count, max_size=count)
    return ndim, draw(any_transformation(ndim)), np.array(draw(rows))


def by_hand(transformation: Transformation, point: list[float]) -> list[float]:
    """Apply the definition to one point, in plain Python."""
    match transformation:
        case Scale(factors):
            return [f * p for f, p in zip(factors, point, strict=True)]
        case Translation(offsets):
            return [p + o for o, p in zip(offsets, point, strict=True)]
        case Sequence(parts):
            for part in parts:
                point = by_hand(part, point)
    return point


@UNTIMED
@given(cases())
def test_apply_follows_the_definition(case: tuple[int, Transformation, np.ndarray]) -> None:
    _, transformation, points = case
    expected = [by_hand(transformation, list(point)) for point in points]
    np.testing.assert_array_equal(transformation.apply(points), expected)


@UNTIMED
@given(cases())
def test_the_inverse_leads_back(case: tuple[int, Transformation, np.ndarray]) -> None:
    _, transformation, points = case
    inverse = transformation.inverse()
    np.testing.assert_array_equal(inverse.apply(transformation.apply(points)), points)
    np.testing.assert_array_equal(transformation.apply(inverse.apply(points)), points)


@UNTIMED
@given(cases())
def test_the_inverse_of_the_inverse_is_the_same(
    case: tuple[int, Transformation, np.ndarray],
) -> None:
    ndim, transformation, _ = case
    twice = transformation.inverse().inverse()
    assert scale_and_translation(twice, ndim) == scale_and_translation(transformation, ndim)


@UNTIMED
@given(cases())
def test_scale_and_translation_say_the_same(
    case: tuple[int, Transformation, np.ndarray],
) -> None:
    ndim, transformation, points = case
    scale, translation = scale_and_translation(transformation, ndim)
    assert (len(scale), len(translation)) == (ndim, ndim)
    np.testing.assert_array_equal(points * scale + translation, transformation.apply(points))


@UNTIMED
@given(st.floats(0.01, 100), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_the_inverse_of_any_numbers(factor: float, offset: float, point: float) -> None:
    there = Sequence((Scale((factor,)), Translation((offset,))))
    noise = 4e-15 * (abs(point) + 2 * abs(offset) / factor) + 1e-300
    assert there.inverse().apply(there.apply([point])) == pytest.approx(point, rel=0, abs=noise)


@UNTIMED
@given(st.data())
def test_compose_applies_the_first_one_first(data: st.DataObject) -> None:
    parts = data.draw(st.lists(simple(2), max_size=4))
    point = data.draw(st.tuples(OFFSETS, OFFSETS))
    expected = list(point)
    for part in parts:
        expected = by_hand(part, expected)
    np.testing.assert_array_equal(compose(parts).apply(point), expected)


def test_order_matters() -> None:
    scale, translation = Scale((2.0, 4.0)), Translation((10.0, 1.0))
    assert compose([scale, translation]).apply([1, 1]).tolist() == [12, 5]
    assert compose([translation, scale]).apply([1, 1]).tolist() == [22, 8]


def test_one_transformation_is_not_wrapped() -> None:
    scale = Scale((2.0,))
    assert compose(iter([scale])) is scale
    assert compose([]).apply([3]).tolist() == [3]


def test_points_have_any_shape_and_become_floats() -> None:
    points = np.arange(12, dtype="u1").reshape(2, 3, 2)
    for transformation in (Identity(), Scale((100.0, -1.0)), Translation((1000.0, -0.5))):
        found = transformation.apply(points)
        assert (found.shape, found.dtype) == (points.shape, np.float64)
    assert Scale((100.0, -1.0)).apply(points)[1, 2].tolist() == [1000, -11]


@pytest.mark.parametrize("kind", ["class", "text", "nested"])
def test_more_than_a_scale_and_a_translation_is_refused(kind: str) -> None:
    class Rotation:
        """Something that a later version of the specification has."""

    things = {
        "class": Rotation(),
        "text": "scale",
        "nested": Sequence((Scale((2.0,)), Sequence((Rotation(),)))),  # type: ignore[arg-type]
    }
    with pytest.raises(TypeError, match="not a scale and a translation"):
        scale_and_translation(things[kind], 1)  # type: ignore[arg-type]


def test_lengths_must_fit() -> None:
    with pytest.raises(ValueError, match="zip"):
        scale_and_translation(Sequence((Scale((1.0, 2.0)), Translation((1.0,)))), 2)
