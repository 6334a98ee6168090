"""Transformations: apply, invert, compose, simplify, and what a scale and a translation can say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from ngff_xarray.errors import NgffError, TransformationError
from ngff_xarray.transforms import (
    Affine,
    Bijection,
    ByDimension,
    Coordinates,
    Displacements,
    Field,
    Identity,
    MapAxis,
    NumericInverse,
    Part,
    ProjectAxis,
    Rotation,
    Scale,
    Sequence,
    Transformation,
    Translation,
    compose,
    matrix,
    scale_and_translation,
    simplify,
)

UNTIMED = settings(deadline=None)
NESTED = settings(deadline=None, max_examples=60)  # they are large

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


@pytest.mark.parametrize(
    "kind", [Identity(), Sequence((Identity(),)), Bijection(Identity(), Identity())]
)
def test_what_comes_back_is_not_what_was_given(kind: Transformation) -> None:
    given = np.ones((2, 3))
    kind.apply(given)[:] = 0
    assert given.all()


@pytest.mark.parametrize("power", range(3, 15))
def test_nearly_singular_matrices_lead_back_or_have_no_inverse(power: int) -> None:
    """What leads back does so to within 1e-6 of where the points are."""
    shear = Affine(((1.0, 1.0, 0.0), (1.0, 1.0 + 10.0**-power, 0.0)))
    try:
        back = shear.inverse()
    except TransformationError:
        assert power > 8
        return
    given = points(2) / np.abs(points(2)).max()
    np.testing.assert_allclose(back.apply(shear.apply(given)), given, atol=1e-6)


def test_points_have_any_shape_and_become_floats() -> None:
    points = np.arange(12, dtype="u1").reshape(2, 3, 2)
    for transformation in (Identity(), Scale((100.0, -1.0)), Translation((1000.0, -0.5))):
        found = transformation.apply(points)
        assert (found.shape, found.dtype) == (points.shape, np.float64)
    assert Scale((100.0, -1.0)).apply(points)[1, 2].tolist() == [1000, -11]


@pytest.mark.parametrize("kind", ["class", "text", "nothing", "nested", "rotation", "drops"])
def test_more_than_a_scale_and_a_translation_is_refused(kind: str) -> None:
    class Shear:
        """Something that a later version of the specification has."""

        def ndim_out(self, ndim: int) -> int:
            return ndim

    things = {
        "class": Shear(),
        "text": "scale",
        "nothing": None,
        "nested": Sequence((Scale((2.0, 1.0)), Sequence((Shear(),)))),  # type: ignore[arg-type]
        "rotation": Rotation(((0.0, -1.0), (1.0, 0.0))),
        "drops": ProjectAxis(dropped=(1,)),
    }
    with pytest.raises(TypeError, match="not a scale and a translation"):
        scale_and_translation(things[kind], 2)  # type: ignore[arg-type]


def test_lengths_must_fit() -> None:
    with pytest.raises(TransformationError, match="takes points of 1 axes, found 2"):
        scale_and_translation(Sequence((Scale((1.0, 2.0)), Translation((1.0,)))), 2)


def test_whatever_is_diagonal_is_a_scale_and_a_translation() -> None:
    swap = MapAxis((1, 0))
    scales = Part(Scale((2.0,)), (1,), (1,)), Part(Translation((3.0,)), (0,), (0,))
    said = {
        Affine(((2.0, 0.0, 5.0), (0.0, -4.0, 0.5))): ((2, -4), (5, 0.5)),
        Rotation(((1.0, 0.0), (0.0, 1.0))): ((1, 1), (0, 0)),
        Sequence((swap, Scale((2.0, 4.0)), swap)): ((4, 2), (0, 0)),
        ByDimension(scales): ((1, 2), (3, 0)),
        Bijection(Scale((2.0, 0.1)), Scale((0.5, 10.0))): ((2, 0.1), (0, 0)),
        MapAxis((0, 1)): ((1, 1), (0, 0)),
    }
    for transformation, expected in said.items():
        assert scale_and_translation(transformation, 2) == expected
        assert {type(number) for number in sum(expected, ())} <= {int, float}


def test_overflow_is_no_warning_where_readers_look_for_it() -> None:
    twice = Sequence((Scale((1e300,)), Translation((1.0,)), Scale((1e300,))))
    assert scale_and_translation(twice, 1) == ((math.inf,), (1e300,))


# ---- every kind against numbers by hand ---------------------------------------------------------

TRAP = ((0.17, -0.985), (0.985, 0.17))  # ngff-spec: determinant 0.99913

BY_HAND: dict[str, tuple[Transformation, list[float], list[float]]] = {
    "identity": (Identity(), [1, 2, 3], [1, 2, 3]),
    "scale": (Scale((2.0, -0.5)), [3, 4], [6, -2]),
    "translation": (Translation((2.0, -0.5)), [3, 4], [5, 3.5]),
    "mapAxis": (MapAxis((1, 2, 0)), [10, 20, 30], [20, 30, 10]),
    "mapAxis, inverse": (MapAxis((1, 2, 0)).inverse(), [20, 30, 10], [10, 20, 30]),
    "mapAxis, 5-D": (MapAxis((4, 0, 3, 1, 2)), [0, 1, 2, 3, 4], [4, 0, 3, 1, 2]),
    "projectAxis": (ProjectAxis((0, 2), (0, 3)), [1, 2, 3, 4], [0, 2, 4, 0]),
    "projectAxis, drop": (ProjectAxis(dropped=(1,)), [1, 2, 3], [1, 3]),
    "projectAxis, create": (ProjectAxis(created=(2, 0)), [1, 2], [0, 1, 0, 2]),
    "projectAxis, back": (ProjectAxis(created=(2, 0)).inverse(), [9, 1, 9, 2], [1, 2]),
    "affine": (Affine(((1, 2, 3), (4, 5, 6))), [10, 100], [213, 546]),
    "affine, 3 to 2": (Affine(((1, 0, 2, 7), (0, 3, 0, 0))), [1, 2, 3], [14, 6]),
    "affine, 1 to 2": (Affine(((2, 1), (3, 0))), [5], [11, 15]),
    "affine, inverse": (Affine(((0, 2, 1), (4, 0, 1))).inverse(), [5, 9], [2, 2]),
    "rotation": (Rotation(((0, -1), (1, 0))), [2, 3], [-3, 2]),
    "rotation, trap": (Rotation(TRAP), [1, 2], [0.17 - 1.97, 0.985 + 0.34]),
    "sequence": (Sequence((Translation((1.0,)), Scale((2.0,)))), [3], [8]),
    "sequence, empty": (Sequence(()), [3], [3]),
    "bijection": (Bijection(Scale((2.0,)), Scale((9.0,))), [3], [6]),
    "bijection, back": (Bijection(Scale((2.0,)), Scale((9.0,))).inverse(), [3], [27]),
    "byDimension": (
        ByDimension((Part(Scale((2.0, 10.0)), (3, 2), (0, 2)), Part(Identity(), (0,), (1,)))),
        [1, 2, 3, 4],
        [8, 1, 30],
    ),
    "byDimension, back": (
        ByDimension(
            (Part(Scale((2.0, 10.0)), (2, 1), (0, 2)), Part(Identity(), (0,), (1,)))
        ).inverse(),
        [8, 1, 30],
        [1, 3, 4],
    ),
    "byDimension, shared": (
        ByDimension((Part(Identity(), (0, 0), (1, 2)), Part(Scale((3.0,)), (0,), (0,)))),
        [5, 7],
        [15, 5, 5],
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_every_kind_by_hand(name: str) -> None:
    transformation, point, expected = BY_HAND[name]
    np.testing.assert_allclose(transformation.apply(point), expected, rtol=1e-15)
    assert transformation.ndim_out(len(point)) == len(expected)
    many = np.broadcast_to(np.array(point, dtype="i2"), (2, 3, len(point)))
    found = transformation.apply(many)
    assert (found.shape, found.dtype) == ((2, 3, len(expected)), np.float64)
    np.testing.assert_array_equal(found, np.broadcast_to(transformation.apply(point), found.shape))
    assert transformation.apply(many[:0]).shape == (0, 3, len(expected))
    assert hash(transformation) == hash(transformation)


def test_the_inverse_of_a_rotation_with_few_digits_is_not_its_transpose() -> None:
    back = Rotation(TRAP).inverse()
    determinant = 0.17**2 + 0.985**2
    expected = np.array([[0.17, 0.985], [-0.985, 0.17]]) / determinant
    np.testing.assert_allclose(back.matrix, expected, atol=1e-12)
    np.testing.assert_allclose(back.apply(Rotation(TRAP).apply([3.0, 4.0])), [3, 4], atol=1e-6)
    assert np.abs(expected - np.transpose(TRAP)).max() > 8e-4


@pytest.mark.parametrize("power", [-150, -24, -9, 0, 9, 24, 150])
def test_pixel_sizes_make_no_matrix_singular(power: int) -> None:
    size = 10.0**power
    shear = Affine(((size, 0.5, 3 * size), (0.0, 1.0, 0.0)))
    mixed = Affine(((size, 1.0, 0.0), (1.0, -1 / size, 1.0)))
    for affine in (shear, mixed, Affine(((size, 0.0, size), (0.0, 1 / size, 1.0)))):
        point = affine.inverse().apply(affine.apply([2.0, -3.0 * size]))
        np.testing.assert_allclose(point, [2, -3 * size], rtol=1e-9)


SINGULAR: dict[str, tuple[Transformation, str]] = {
    "scale by 0": (Scale((1.0, 0.0)), "no inverse"),
    "scale too small": (Scale((1e-310,)), "no inverse"),
    "affine": (Affine(((1.0, 2.0, 0.0), (2.0, 4.0, 0.0))), "singular"),
    "affine with digits": (Affine(((0.1, 0.3, 0.0), (0.2, 0.6, 0.0))), "singular"),
    "affine tiny": (Affine(((1e-9, 3e-9, 0.0), (1e-9, 3e-9, 1.0))), "singular"),
    "affine of 0": (Affine(((0.0, 0.0),)), "singular"),
    "affine of NaN": (Affine(((math.nan, 0.0),)), "singular"),
    "affine 3 to 2": (Affine(((1, 0, 2, 7), (0, 3, 0, 0))), "from 3 to 2 axes"),
    "affine, ragged": (Affine(((1, 0, 2), (0, 3, 0, 0))), "rows of 3 numbers"),
    "affine, empty": (Affine(()), "rows"),
    "rotation": (Rotation(((1.0, 1.0), (1.0, 1.0))), "singular"),
    "rotation, 2 by 3": (Rotation(((1.0, 1.0, 0.0), (1.0, 1.0, 0.0))), "rows of 2 numbers"),
    "mapAxis": (MapAxis((1, 1)), "each of 0 to 1 once"),
    "projectAxis": (ProjectAxis((0,), (1,)), "drops axes"),
    "sequence": (Sequence((Identity(), Scale((0.0,)))), "no inverse"),
    "unused input": (ByDimension((Part(Identity(), (1,), (0,)),)), r"found \[1\]"),
    "shared input": (ByDimension((Part(Identity(), (0, 0), (0, 1)),)), "every input axis once"),
    "part": (ByDimension((Part(Scale((0.0,)), (0,), (0,)),)), "no inverse"),
    "output twice": (ByDimension((Part(Identity(), (0, 1), (0, 0)),)), "every output axis once"),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_where_there_is_no_inverse_it_is_said(name: str) -> None:
    transformation, message = SINGULAR[name]
    with pytest.raises(TransformationError, match=message) as caught:
        transformation.inverse()
    assert isinstance(caught.value, NgffError) and isinstance(caught.value, ValueError)


UNFIT: dict[str, tuple[Transformation, int]] = {
    "scale": (Scale((1.0, 2.0)), 3),
    "scale, one of many": (Scale((1.0, 2.0)), 1),
    "scale, of one": (Scale((1.0,)), 2),
    "translation": (Translation((1.0,)), 2),
    "mapAxis": (MapAxis((1, 0)), 3),
    "mapAxis, no permutation": (MapAxis((0, 2)), 2),
    "projectAxis, not there": (ProjectAxis(dropped=(2,)), 2),
    "projectAxis, twice": (ProjectAxis(dropped=(1, 1)), 2),
    "projectAxis, negative": (ProjectAxis(dropped=(-1,)), 2),
    "projectAxis, gap": (ProjectAxis(created=(4,)), 2),
    "affine": (Affine(((1.0, 0.0, 0.0),)), 1),
    "affine, ragged": (Affine(((1.0, 0.0), (1.0, 0.0, 0.0))), 2),
    "rotation": (Rotation(((1.0,),)), 2),
    "rotation, not square": (Rotation(((1.0, 0.0),)), 2),
    "sequence": (Sequence((ProjectAxis(dropped=(0,)), Scale((1.0, 1.0)))), 2),
    "bijection": (Bijection(ProjectAxis(dropped=(0,)), Identity()), 2),
    "bijection, back": (Bijection(Identity(), Scale((1.0,))), 2),
    "byDimension, input": (ByDimension((Part(Identity(), (2,), (0,)),)), 2),
    "byDimension, negative": (ByDimension((Part(Identity(), (-1,), (0,)),)), 2),
    "byDimension, part": (ByDimension((Part(Scale((1.0,)), (0, 1), (0, 1)),)), 2),
    "byDimension, outputs": (ByDimension((Part(Identity(), (0, 1), (0,)),)), 2),
    "byDimension, gap": (ByDimension((Part(Identity(), (0, 1), (0, 2)),)), 2),
    "displacements": (Displacements(Field(np.zeros((4, 4, 2)), 2, Identity())), 3),
    "displacements, parts": (Displacements(Field(np.zeros((4, 4, 3)), 2, Identity())), 2),
    "displacements, grid": (Displacements(Field(np.zeros((4, 2)), 1, Identity())), 2),
    "coordinates": (Coordinates(Field(np.zeros((4, 4, 2)), 2, Identity())), 3),
    "numeric": (Displacements(Field(np.zeros((4, 4, 2)), 2, Identity())).inverse(), 3),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_is_refused(name: str) -> None:
    transformation, ndim = UNFIT[name]
    uses: list[Callable[[], Any]] = [
        lambda: transformation.apply(np.ones((5, ndim))),
        lambda: transformation.apply(np.ones((0, ndim))),
        lambda: transformation.ndim_out(ndim),
        lambda: transformation.dependence(ndim),
        lambda: simplify(transformation, ndim),
    ]
    if not isinstance(transformation, Displacements | Coordinates | NumericInverse):
        uses.append(lambda: matrix(transformation, ndim))
    for use in uses:
        with pytest.raises(TransformationError):
            use()


def test_a_number_is_no_point() -> None:
    for transformation in (Identity(), Scale((1.0,)), Sequence(()), MapAxis((0,))):
        with pytest.raises(TransformationError, match="a single number"):
            transformation.apply(3)


# ---- algebra ------------------------------------------------------------------------------------

NUMBERS = st.floats(-10, 10).map(lambda number: round(number, 3))
SIZES = st.sampled_from([-4.0, -1.0, -0.3, 0.2, 0.65, 1.0, 3.0])
ANGLES = st.floats(-3, 3)


@st.composite
def rotations(draw: st.DrawFn, ndim: int) -> np.ndarray:
    result = np.eye(ndim)
    for i, j in itertools.combinations(range(ndim), 2):
        if draw(st.booleans()):
            turn, angle = np.eye(ndim), draw(ANGLES)
            turn[[i, j], [i, j]] = math.cos(angle)
            turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
            result = turn @ result
    return result


def as_tuples(numbers: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, numbers.tolist()))


@st.composite
def affines(draw: st.DrawFn, ndim: int) -> Affine:
    sizes = draw(st.tuples(*[SIZES] * ndim))
    square = draw(rotations(ndim)) * sizes @ draw(rotations(ndim))
    return Affine(as_tuples(np.column_stack([square, draw(st.tuples(*[NUMBERS] * ndim))])))


@st.composite
def displacements(draw: st.DrawFn, ndim: int) -> Displacements:
    """Waves that are far from folding, on a grid that lies somewhere."""
    shape = draw(st.tuples(*[st.integers(1, 6)] * ndim))
    seed, axis = draw(st.integers(0, 99)), draw(st.integers(0, ndim))
    pixel = np.random.default_rng(seed).uniform(0.5, 3, ndim)
    waves = np.random.default_rng(seed).uniform(-0.12, 0.12, (*shape, ndim)) * pixel
    place = Sequence((Scale(tuple(pixel.tolist())), Translation((-4.0,) * ndim)))
    kind = draw(st.sampled_from(["linear", "cubic"]))
    return Displacements(Field(np.moveaxis(waves, -1, axis), axis, place.inverse(), kind))


def leaves(ndim: int, with_fields: bool = True) -> st.SearchStrategy[Transformation]:
    made: list[st.SearchStrategy[Transformation]] = [
        st.just(Identity()),
        st.builds(Scale, st.tuples(*[SIZES] * ndim)),
        st.builds(Translation, st.tuples(*[NUMBERS] * ndim)),
        st.builds(MapAxis, st.permutations(range(ndim)).map(tuple)),
        st.builds(Rotation, rotations(ndim).map(as_tuples)),
        affines(ndim),
    ]
    return st.one_of(*made, *([displacements(ndim)] if with_fields and ndim <= 3 else []))


@st.composite
def invertible(
    draw: st.DrawFn, ndim: int, depth: int = 2, with_fields: bool = True
) -> Transformation:
    """Return one that keeps the number of axes, of any kind and of kinds within kinds."""
    kind = draw(st.sampled_from(["leaf", "sequence", "bijection", "by dimension"]))
    if kind == "leaf" or depth == 0:
        return draw(leaves(ndim, with_fields))
    inner = invertible(ndim, depth - 1, with_fields)
    if kind == "sequence":
        return Sequence(tuple(draw(st.lists(inner, max_size=3))))
    if kind == "bijection":
        forward = draw(inner)
        return Bijection(forward, forward.inverse())
    cut = draw(st.integers(0, ndim))
    inputs, outputs = (draw(st.permutations(range(ndim))) for _ in range(2))
    pieces = [piece for piece in (slice(0, cut), slice(cut, ndim)) if inputs[piece]]
    return ByDimension(
        tuple(
            Part(
                draw(invertible(len(inputs[piece]), depth - 1, with_fields)),
                tuple(inputs[piece]),
                tuple(outputs[piece]),
            )
            for piece in pieces
        )
    )


@st.composite
def any_kind(draw: st.DrawFn, ndim: int, depth: int = 2) -> Transformation:
    """Return one that may as well create, drop, mix, share and leave out axes."""
    kind = draw(st.sampled_from(["invertible", "sequence", "project", "affine", "by dimension"]))
    if kind == "project":
        dropped = draw(st.lists(st.integers(0, ndim - 1), unique=True, max_size=ndim - 1))
        kept = ndim - len(dropped)
        size = draw(st.integers(kept, max(kept, min(kept + 2, 5))))
        created = draw(st.permutations(range(size)))[: size - kept]
        return ProjectAxis(tuple(dropped), tuple(created))
    if kind == "affine":
        row = st.tuples(*[st.just(0.0) | NUMBERS] * (ndim + 1))
        return Affine(tuple(draw(st.lists(row, min_size=1, max_size=4))))
    if kind == "invertible" or depth == 0:
        return draw(invertible(ndim, depth))
    if kind == "sequence":
        parts: list[Transformation] = []
        for _ in range(draw(st.integers(1, 3))):
            parts.append(draw(any_kind(Sequence(tuple(parts)).ndim_out(ndim), depth - 1)))
        return Sequence(tuple(parts))
    inputs = draw(
        st.lists(st.lists(st.integers(0, ndim - 1), min_size=1, max_size=2), min_size=1, max_size=2)
    )
    inner = [draw(any_kind(len(taken), depth - 1)) for taken in inputs]
    given_ = [part.ndim_out(len(taken)) for part, taken in zip(inner, inputs, strict=True)]
    places = draw(st.permutations(range(sum(given_))))
    ends = list(itertools.accumulate(given_, initial=0))
    return ByDimension(
        tuple(
            Part(part, tuple(taken), tuple(places[start:end]))
            for part, taken, (start, end) in zip(
                inner, inputs, itertools.pairwise(ends), strict=True
            )
        )
    )


def points(ndim: int, seed: int = 0, number: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-20, 20, (number, ndim))


KINDS = st.integers(1, 4).flatmap(lambda n: st.tuples(st.just(n), any_kind(n)))
INVERTIBLE = st.integers(1, 4).flatmap(lambda n: st.tuples(st.just(n), invertible(n)))
LINEAR = st.integers(1, 5).flatmap(
    lambda n: st.tuples(st.just(n), invertible(n, with_fields=False))
)


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    size = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * size)


@NESTED
@given(INVERTIBLE)
def test_the_inverse_of_any_kind_leads_back(case: tuple[int, Transformation]) -> None:
    ndim, transformation = case
    there = transformation.apply(points(ndim))
    assert transformation.ndim_out(ndim) == ndim
    assert_close(transformation.inverse().apply(there), points(ndim))
    assert_close(transformation.inverse().inverse().apply(points(ndim)), there)


@NESTED
@given(st.data())
def test_an_embedding_leads_back(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(1, 3))
    created = tuple(data.draw(st.lists(st.integers(0, ndim), unique=True, max_size=1)))
    whole = Sequence(
        (
            data.draw(invertible(ndim, 1)),
            ProjectAxis(created=created),
            data.draw(invertible(ndim + len(created), 1)),
        )
    )
    assert_close(whole.inverse().apply(whole.apply(points(ndim))), points(ndim))


@NESTED
@given(st.data())
def test_a_composition_applies_in_turn(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(1, 3))
    expected, parts, axes = points(ndim), [], ndim
    for _ in range(data.draw(st.integers(0, 3))):
        part = data.draw(any_kind(axes, 1))
        parts.append(part)
        axes = part.ndim_out(axes)
        expected = part.apply(expected)
        assert expected.shape == (7, axes)
    np.testing.assert_array_equal(compose(parts).apply(points(ndim)), expected)
    assert compose(parts).ndim_out(ndim) == axes


@NESTED
@given(KINDS)
def test_simplify_says_the_same(case: tuple[int, Transformation]) -> None:
    ndim, transformation = case
    simple = simplify(transformation, ndim)
    assert simple.ndim_out(ndim) == transformation.ndim_out(ndim)
    assert_close(simple.apply(points(ndim)), transformation.apply(points(ndim)))
    match simple:
        case Sequence(parts):
            assert not any(isinstance(part, Identity | Sequence) for part in parts)
            assert len(parts) > 1
    again = simplify(simple, ndim)
    assert_close(again.apply(points(ndim)), transformation.apply(points(ndim)))


@NESTED
@given(INVERTIBLE)
def test_simplify_keeps_the_inverse(case: tuple[int, Transformation]) -> None:
    ndim, transformation = case
    back = simplify(transformation, ndim).inverse()
    assert_close(back.apply(transformation.apply(points(ndim))), points(ndim))


@NESTED
@given(KINDS)
def test_the_matrix_says_the_same(case: tuple[int, Transformation]) -> None:
    ndim, transformation = case
    linear = matrix(transformation, ndim)
    if linear is None:
        assert "Field" in repr(transformation)
        return
    assert linear.shape == (transformation.ndim_out(ndim), ndim + 1)
    assert_close(
        points(ndim) @ linear[:, :-1].T + linear[:, -1], transformation.apply(points(ndim))
    )
    depends = transformation.dependence(ndim)
    assert (linear[:, :-1][~depends] == 0).all()


@NESTED
@given(LINEAR)
def test_what_is_linear_has_a_matrix(case: tuple[int, Transformation]) -> None:
    ndim, transformation = case
    linear, back = matrix(transformation, ndim), matrix(transformation.inverse(), ndim)
    assert linear is not None and back is not None
    there_and_back = back[:, :-1] @ linear[:, :-1]
    np.testing.assert_allclose(there_and_back, np.eye(ndim), atol=1e-9)


@NESTED
@given(KINDS, st.sampled_from([3.25, -1e3, math.nan]))
def test_dependence_is_truthful(case: tuple[int, Transformation], change: float) -> None:
    ndim, transformation = case
    depends = transformation.dependence(ndim)
    before = transformation.apply(points(ndim))
    assert (depends.shape, depends.dtype) == ((before.shape[-1], ndim), np.bool_)
    for axis in range(ndim):
        moved = points(ndim)
        moved[:, axis] += change
        after = transformation.apply(moved)
        np.testing.assert_array_equal(after[:, ~depends[:, axis]], before[:, ~depends[:, axis]])


def test_dependence_by_hand() -> None:
    field = Field(np.zeros((1, 4, 5, 3)), 3, Identity())
    said: list[tuple[Transformation, list[list[int]]]] = [
        (Scale((2.0, 0.0)), [[1, 0], [0, 0]]),
        (MapAxis((1, 2, 0)), [[0, 1, 0], [0, 0, 1], [1, 0, 0]]),
        (ProjectAxis((0,), (0,)), [[0, 0], [0, 1]]),
        (Affine(((0, 3, 1), (1, 0, 1), (0, 0, 1))), [[0, 1], [1, 0], [0, 0]]),
        (Sequence((MapAxis((1, 0)), Affine(((1, 1, 0),)), Scale((3.0,)))), [[1, 1]]),
        (ByDimension((Part(Affine(((0, 1, 0),)), (2, 0), (0,)),)), [[1, 0, 0]]),
        (Displacements(field), [[1, 1, 1], [0, 1, 1], [0, 1, 1]]),
        (Displacements(field).inverse(), [[1, 1, 1], [0, 1, 1], [0, 1, 1]]),
        (Coordinates(field), [[0, 1, 1]] * 3),
        (Coordinates(field).inverse(), [[1, 1, 1]] * 3),
    ]
    for transformation, expected in said:
        found = transformation.dependence(len(expected[0]))
        np.testing.assert_array_equal(found, np.array(expected, dtype=bool))


SIMPLE: dict[str, tuple[Transformation, int, Transformation]] = {
    "nothing": (Sequence((Sequence(()), Identity())), 2, Identity()),
    "there and back": (Sequence((Scale((4.0,)), Scale((0.25,)))), 1, Identity()),
    "scales": (Sequence((Scale((4.0,)), Sequence((Scale((0.5,)),)))), 1, Scale((2.0,))),
    "order": (
        Sequence((Translation((1.0,)), Scale((2.0,)))),
        1,
        Sequence((Scale((2.0,)), Translation((2.0,)))),
    ),
    "swaps": (Sequence((MapAxis((1, 2, 0)), MapAxis((1, 2, 0)))), 3, MapAxis((2, 0, 1))),
    "affine": (
        Sequence((MapAxis((1, 0)), Scale((2.0, 3.0)))),
        2,
        Affine(((0, 2, 0), (3, 0, 0))),
    ),
    "rotation": (Sequence((Identity(), Rotation(TRAP))), 2, Rotation(TRAP)),
    "no rotation": (Rotation(((0.0, 1.0), (1.0, 0.0))), 2, MapAxis((1, 0))),
    "in place": (
        ByDimension((Part(Scale((2.0,)), (1,), (1,)), Part(Identity(), (0,), (0,)))),
        2,
        Scale((1.0, 2.0)),
    ),
    "copies": (
        ByDimension((Part(Identity(), (0, 0), (0, 1)),)),
        2,
        Affine(((1, 0, 0), (1, 0, 0))),
    ),
    "projection": (
        Sequence((Identity(), ProjectAxis((0,), (0,)), Scale((1.0, 1.0)))),
        2,
        ProjectAxis((0,), (0,)),
    ),
    "stored inverse": (
        Sequence((Bijection(Sequence((Scale((2.0,)),)), Scale((0.4,))), Identity())),
        1,
        Bijection(Scale((2.0,)), Scale((0.4,))),
    ),
    "within": (
        ByDimension((Part(Bijection(Sequence(()), Identity()), (0,), (0,)),)),
        1,
        ByDimension((Part(Bijection(Identity(), Identity()), (0,), (0,)),)),
    ),
    "too small to merge": (
        Sequence((Scale((1e-200,)), Scale((1e-200,)))),
        1,
        Sequence((Scale((1e-200,)), Scale((1e-200,)))),
    ),
    "too large to merge": (
        Sequence((Scale((1e200,)), Scale((1e200,)))),
        1,
        Sequence((Scale((1e200,)), Scale((1e200,)))),
    ),
}


@pytest.mark.parametrize("name", SIMPLE)
def test_simplify_by_hand(name: str) -> None:
    transformation, ndim, expected = SIMPLE[name]
    assert simplify(transformation, ndim) == expected


def test_simplify_leaves_fields_between_what_it_merges() -> None:
    field = Displacements(Field(np.ones((3, 1)), 1, Identity()))
    half = Scale((0.5,))
    found = simplify(Sequence((half, half, Sequence((field, half)), half)), 1)
    assert found == Sequence((Scale((0.25,)), field, Scale((0.25,))))


# ---- fields -------------------------------------------------------------------------------------


class Lazy:
    """An array outside memory, that counts the numbers it gives away."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.read = values, values.shape, 0

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        assert all(isinstance(part, slice) and part.step is None for part in key)
        assert all(0 <= part.start < part.stop for part in key)
        part = self.values[key]
        self.read += part.size
        return part


def indices(shape: tuple[int, ...]) -> np.ndarray:
    return np.moveaxis(np.indices(shape, dtype=np.float64), 0, -1)


def waves(shape: tuple[int, ...], height: float = 1.0) -> np.ndarray:
    """Smooth displacements that fold nothing, vector axis last, in pixels."""
    slopes = np.random.default_rng(3).uniform(-0.25, 0.25, (len(shape), len(shape)))
    return height * np.sin(indices(shape) @ slopes + np.arange(len(shape)))


def by_definition(values: np.ndarray, place: np.ndarray, kind: str) -> np.ndarray:
    """Interpolate one place of a field whose vector axis is the last, axis by axis."""
    if values.ndim == 1:
        return values
    size, i = len(values), float(np.clip(place[0], 0, len(values) - 1))
    rows = np.array([by_definition(row, place[1:], kind) for row in values], dtype=np.float64)
    if kind == "nearest" or size == 1:
        return rows[math.floor(i + 0.5)]
    first = min(math.floor(i), size - 2)
    f, (b, c) = i - first, rows[first : first + 2]
    if kind == "linear":
        return (1 - f) * b + f * c
    a = rows[first - 1] if first > 0 else 2 * b - c
    d = rows[first + 2] if first + 2 < size else 2 * c - b
    return b + f / 2 * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)))


@pytest.mark.parametrize("kind", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i2", "u1"])
@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (3, 5), (1, 6), (4, 3, 5), (2, 1, 2, 3)])
def test_fields_are_interpolated(shape: tuple[int, ...], dtype: str, kind: Any) -> None:
    random = np.random.default_rng(len(shape))
    values = random.uniform(0, 200, (*shape, 2)).astype(dtype)
    places = random.uniform(-2, np.add(shape, 1), (30, len(shape)))
    places[:10] = places[:10].round()
    expected = [by_definition(values, place, kind) for place in places]
    for axis in range(-1, len(shape) + 1):
        moved = np.moveaxis(values, -1, axis)
        found = Coordinates(Field(moved, axis, Identity(), kind)).apply(places)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("kind", ["linear", "cubic"])
def test_what_is_straight_stays_straight(kind: Any) -> None:
    straight = indices((4, 5)) @ [[2.0, 0.5], [-1.0, 3.0]] + [100.0, -7.0]
    places = np.random.default_rng(0).uniform(0, [3, 4], (50, 2))
    expected = places @ [[2.0, 0.5], [-1.0, 3.0]] + [100.0, -7.0]
    found = Coordinates(Field(straight, 2, Identity(), kind)).apply(places)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_displacements_by_hand() -> None:
    # a grid with nodes at y = 10, 30 and x = 0, 1, 2; only x is displaced, by the number of rows
    values = np.zeros((2, 2, 3))
    values[1, 1] = 5
    field = Field(values, 0, Sequence((Translation((-10.0, 0.0)), Scale((0.05, 1.0)))))
    moved = Displacements(field).apply([[10, 1], [20, 1], [30, 1], [99, -4]])
    assert moved.tolist() == [[10, 1], [20, 3.5], [30, 6], [99, 1]]
    assert Coordinates(field).apply([20, 1]).tolist() == [0, 2.5]


def test_coordinates_may_have_more_or_fewer_components() -> None:
    field = Field(np.arange(12.0).reshape(4, 3), 1, Identity())
    lookup = Coordinates(field)
    assert lookup.apply([[1], [1.5]]).tolist() == [[3, 4, 5], [4.5, 5.5, 6.5]]
    assert lookup.ndim_out(1) == 3
    with pytest.raises(TransformationError, match="from 1 to 3 axes"):
        lookup.inverse()


def test_a_box_is_read_not_the_field() -> None:
    lazy = Lazy(waves((200, 300, 100)))
    places = np.random.default_rng(0).uniform([50, 60, 20], [54, 70, 23], (500, 3))
    place = Sequence((Scale((0.5, 2.0, 3.0)), Translation((1e4, -7.0, 0.0))))
    for kind, most in (("nearest", 5 * 11 * 4), ("linear", 5 * 11 * 4), ("cubic", 7 * 13 * 6)):
        lazy.read = 0
        Displacements(Field(lazy, 3, place.inverse(), kind)).apply(place.apply(places))  # type: ignore[arg-type]
        assert 0 < lazy.read <= 3 * most
    lazy.read = 0
    Displacements(Field(lazy, 3, place.inverse())).apply(np.zeros((0, 3)))
    assert lazy.read == 0


def test_the_inverse_reads_little_more() -> None:
    lazy = Lazy(waves((200, 300, 100)))
    there = Displacements(Field(lazy, 3, Identity()))
    places = np.random.default_rng(0).uniform([50, 60, 20], [54, 70, 23], (500, 3))
    moved = there.apply(places)
    lazy.read = 0
    assert_close(there.inverse().apply(moved), places)
    assert 0 < lazy.read < 3 * 15 * 25 * 15


def test_values_may_be_of_zarr_and_xarray() -> None:
    values = waves((6, 8))
    stored = zarr.create_array(zarr.storage.MemoryStore(), data=values, chunks=(2, 2, 2))
    labelled = xr.DataArray(values, dims=["y", "x", "d"]).chunk(y=2)
    expected = Displacements(Field(values, 2, Identity())).apply(points(2))
    for array in (stored, labelled, labelled.variable, labelled.data):
        field = Field(array, 2, Identity())
        np.testing.assert_array_equal(Displacements(field).apply(points(2)), expected)
        back = Displacements(field).inverse().apply(expected)
        assert_close(back, points(2))


def test_values_that_are_not_contiguous() -> None:
    values = np.asfortranarray(waves((8, 6)))
    for part in (values[::2, ::-1], values.transpose(1, 0, 2)):
        found = Displacements(Field(part, 2, Identity())).apply(points(2)[::-2])
        expected = Displacements(Field(part.copy(), 2, Identity())).apply(points(2)[::-2].copy())
        np.testing.assert_array_equal(found, expected)


def test_nan_goes_where_it_counts_and_nowhere_else() -> None:
    values = waves((5, 6))
    values[2, 3, 0] = np.nan
    around = [[2, 3], [2.5, 3], [1.5, 3.5], [3, 3], [2, 4], [1, 3], [1, 2.5]]
    moved = Displacements(Field(values, 2, Identity())).apply(around)
    assert np.isnan(moved[:, 0]).tolist() == [True, True, True, False, False, False, False]
    assert not np.isnan(moved[:, 1]).any()
    field = Field(waves((5, 6)), 2, Identity())
    assert np.isnan(Displacements(field).apply([[np.nan, 1], [1, 1]])).tolist() == [
        [True, True],
        [False, False],
    ]
    flat = Field(waves((1, 6)), 2, Identity())  # of one row: it does not matter where y is
    assert np.isnan(Displacements(flat).apply([np.nan, 1])).tolist() == [True, False]
    for inverse in (Displacements(field).inverse(), Coordinates(even((5, 6))).inverse()):
        found = inverse.apply([[np.nan, 1], [2, 2]])
        assert np.isnan(found).any(axis=1).tolist() == [True, False]


def test_far_points_take_the_edge() -> None:
    field = Field(np.array([[1.0], [2.0]]), 1, Identity())
    found = Displacements(field).apply([[-1e300], [1e300], [-np.inf], [np.inf]])
    assert found.ravel().tolist() == [-1e300, 1e300, -np.inf, np.inf]
    assert Coordinates(field).apply([[-np.inf], [np.inf]]).ravel().tolist() == [1, 2]


def even(shape: tuple[int, ...]) -> Field:
    return Field(indices(shape), len(shape), Identity())


def placed(ndim: int) -> Sequence:
    """From indices to points: uneven pixels, far from the origin."""
    pixels, far = (0.5, -1e-3, 200.0)[:ndim], (1e4, -5.0, 1e7)[:ndim]
    return Sequence((Scale(pixels), Translation(far)))


@pytest.mark.parametrize("kind", ["linear", "cubic"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("shape", [(40,), (20, 30), (9, 12, 10), (1, 10, 12)])
def test_fields_are_inverted(shape: tuple[int, ...], last: bool, kind: Any) -> None:
    ndim = len(shape)
    place, pixels = placed(ndim), np.abs(placed(ndim).transformations[0].apply(np.ones(ndim)))
    axis = ndim if last else 0
    inside = np.random.default_rng(1).uniform(0, np.subtract(shape, 1), (300, ndim))
    nodes = indices(shape).reshape(-1, ndim)
    around = np.random.default_rng(1).uniform(-9, np.add(shape, 9), (300, ndim))

    moves = np.moveaxis(
        waves(shape) * placed(ndim).transformations[0].apply(np.ones(ndim)), -1, axis
    )
    there = Displacements(Field(moves, axis, place.inverse(), kind))
    for given_ in (inside, nodes, around):
        at = place.apply(given_)
        back = there.inverse().apply(there.apply(at))
        assert (np.abs(back - at) / pixels).max() < 1e-6
    assert there.inverse().inverse() is there

    positions = np.moveaxis(1e6 + 3 * (indices(shape) + waves(shape)), -1, axis)
    there = Coordinates(Field(positions, axis, place.inverse(), kind))
    if 1 not in shape:
        for given_ in (inside, nodes):
            at = place.apply(given_)
            back = there.inverse().apply(there.apply(at))
            assert (np.abs(back - at) / pixels).max() < 1e-6
    assert there.inverse().inverse() is there


def test_a_field_of_nothing_is_the_identity() -> None:
    for values in (np.zeros((3, 4, 2)), np.zeros((3, 4, 2), dtype="u2")):
        there = Displacements(Field(values, 2, Identity()))
        np.testing.assert_array_equal(there.apply(points(2)), points(2))
        np.testing.assert_array_equal(there.inverse().apply(points(2)), points(2))
    lookup = Coordinates(even((30, 30)))
    inside = np.random.default_rng(0).uniform(0, 29, (20, 2))
    np.testing.assert_allclose(lookup.apply(inside), inside, rtol=1e-15)
    np.testing.assert_allclose(lookup.inverse().apply(inside), inside, atol=1e-9)


def test_displacements_of_whole_numbers() -> None:
    values = np.array([[0], [1], [1], [0]], dtype="i1")
    there = Displacements(Field(values, 1, Identity()))
    assert there.apply([[1], [0.5]]).ravel().tolist() == [2, 1]
    assert there.inverse().apply([[2], [1]]).ravel() == pytest.approx([1, 0.5])


def swirl(turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Turn the middle of an image: where its pixels were, from the centre, and where they go."""
    from_centre = indices((64, 64)) - 31.5
    angle = turn * np.exp(-(np.square(from_centre / 20).sum(axis=-1)))
    y, x = np.moveaxis(from_centre, -1, 0)
    turned = np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x
    return from_centre, np.stack(turned, axis=-1)


def test_a_swirl_is_found_again() -> None:
    """Once and twice around: far from where a search starts."""
    (once_from, once), (_, twice) = swirl(6), swirl(12)
    places = np.random.default_rng(0).uniform(0, 63, (5000, 2))
    for there in (
        Displacements(Field(once - once_from, 2, Identity(), "cubic")),
        Coordinates(Field(twice, 2, Identity(), "cubic")),
    ):
        np.testing.assert_allclose(there.inverse().apply(there.apply(places)), places, atol=1e-6)


def test_where_a_spline_goes_beyond_its_nodes_it_is_inverted() -> None:
    there = Coordinates(Field(np.array([[-1.0], [0.0], [1.0], [1.0]]), 1, Identity(), "cubic"))
    beyond = there.apply([[2.25], [2.5], [2.75]])
    assert (beyond > 1.02).all()
    np.testing.assert_allclose(there.apply(there.inverse().apply(beyond)), beyond, atol=1e-8)


def test_what_nothing_leads_to_is_counted() -> None:
    lookup = Coordinates(even((5, 6)))
    with pytest.raises(TransformationError, match="was not found for 2 of 3 points"):
        lookup.inverse().apply([[1, 1], [-1, 1], [1, 9]])
    jump = Displacements(Field(np.array([[0.0], [0.0], [5.0], [5.0]]), 1, Identity(), "nearest"))
    assert jump.inverse().apply([[1], [8]]).ravel().tolist() == [1, 3]
    with pytest.raises(TransformationError, match="was not found for 1 of 2 points"):
        jump.inverse().apply([[4], [8]])


def test_fields_without_an_inverse() -> None:
    values = indices((5, 6))
    for transformation, message in (
        (Coordinates(Field(values, 2, Identity(), "nearest")), "not interpolated"),
        (Coordinates(Field(values, 2, Scale((0.0, 1.0)))), "no inverse"),
        (Displacements(Field(values, 2, Scale((0.0, 1.0)))), "no inverse"),
        (Displacements(Field(values, 2, ProjectAxis(dropped=(0,)))), "no inverse"),
    ):
        with pytest.raises(TransformationError, match=message):
            transformation.inverse()
    lost = Coordinates(Field(np.full((5, 6, 2), np.nan), 2, Identity())).inverse()
    with pytest.raises(TransformationError, match="all of them are NaN"):
        lost.apply([[1, 1]])


@pytest.mark.parametrize(
    ("shape", "axis", "kind"),
    [((3,), 0, "linear"), ((3, 2), 2, "linear"), ((3, 0), 1, "linear"), ((3, 2), 1, "bspline")],
)
def test_what_is_no_field(shape: tuple[int, ...], axis: int, kind: Any) -> None:
    with pytest.raises(TransformationError, match="a field takes"):
        Field(np.zeros(shape), axis, Identity(), kind)


def test_fields_are_the_same_only_if_they_are_one() -> None:
    one, two = even((3, 3)), even((3, 3))
    assert Displacements(one) == Displacements(one) != Displacements(two)
    assert len({Displacements(one), Displacements(one), Displacements(two)}) == 2
    assert NumericInverse(Displacements(one)) == Displacements(one).inverse()
