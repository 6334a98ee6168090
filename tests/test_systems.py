"""The graph of coordinate systems: which way leads from one to another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_xarray.errors import NgffError, TransformationError
from ngff_xarray.model import Axis, CoordinateSystem
from ngff_xarray.systems import Graph, Link
from ngff_xarray.transforms import (
    Affine,
    Bijection,
    Identity,
    ProjectAxis,
    Scale,
    Transformation,
    Translation,
)

NUMBERS = st.integers(-8, 8).map(float)


def system(name: str, axes: str = "yx") -> CoordinateSystem:
    return CoordinateSystem(name, tuple(Axis(axis, "space") for axis in axes))


def graph(names: str, *links: Link, axes: str = "yx") -> Graph:
    return Graph({name: system(name, axes) for name in names}, links)


def at(found: Transformation, *point: float) -> list[float]:
    return [float(number) for number in found.apply(np.array(point))]


def test_forwards_and_backwards() -> None:
    both = graph("abc", Link("a", "b", Scale((2.0, 4.0))), Link("c", "b", Translation((1.0, 1.0))))
    assert at(both.path("a", "c"), 1, 1) == [1, 3]
    assert at(both.path("c", "a"), 1, 3) == [1, 1]


def test_a_system_leads_to_itself() -> None:
    assert graph("a").path("a", "a") == Identity()


def test_what_is_composed_is_simplified() -> None:
    there = Link("a", "b", Affine(((2.0, 0.0, 1.0), (0.0, 4.0, 0.0))))
    back = Link("b", "c", Affine(((0.5, 0.0, -0.5), (0.0, 0.25, 0.0))))
    assert graph("abc", there, back).path("a", "c") == Identity()


def test_axes_that_nothing_tells_of() -> None:
    links = (Link("a", "b", Scale((2.0,))),)
    assert at(Graph({"a": None, "b": None}, links).path("b", "a"), 4) == [2]


def test_fewest_links() -> None:
    long = [Link("a", "b", Scale((2.0, 2.0))), Link("b", "c", Scale((2.0, 2.0)))]
    assert at(graph("abc", *long, Link("c", "a", Scale((0.2, 0.2)))).path("a", "c"), 1, 1) == [5, 5]


def test_forwards_rather_than_backwards() -> None:
    back, forth = Link("b", "a", Scale((0.5, 0.5))), Link("a", "b", Scale((3.0, 3.0)))
    for links in ((back, forth), (forth, back)):
        assert at(graph("ab", *links).path("a", "b"), 1, 1) == [3, 3]
        assert at(graph("ab", *links).path("b", "a"), 1, 1) == [0.5, 0.5]


def test_a_way_round_a_link_without_inverse() -> None:
    links = [
        Link("b", "a", ProjectAxis((0,), (0,))),
        Link("c", "a", Identity()),
        Link("b", "c", Scale((2.0, 2.0))),
    ]
    assert at(graph("abc", *links).path("a", "b"), 2, 2) == [1, 1]


def test_stored_inverses_are_used() -> None:
    both = Bijection(Scale((2.0, 2.0)), Scale((0.4, 0.4)))
    assert at(graph("ab", Link("a", "b", both)).path("b", "a"), 1, 1) == [0.4, 0.4]


def test_links_are_read_when_they_are_gone() -> None:
    read = []

    def stored() -> Transformation:
        read.append(1)
        return Scale((2.0, 2.0))

    found = graph("abc", Link("a", "b", stored), Link("c", "a", Identity()))
    assert found.path("c", "a") == Identity()
    assert not read
    assert at(found.path("a", "b"), 1, 1) == [2, 2]
    assert read


def test_unknown_names() -> None:
    with pytest.raises(TransformationError, match="no coordinate system 'z'; there are 'a', 'b'"):
        graph("ab").path("a", "z")
    with pytest.raises(TransformationError, match="no coordinate system 'z'"):
        graph("ab").path("z", "a")
    many = Graph({str(i): None for i in range(100)}, ())
    with pytest.raises(TransformationError, match="and 88 more"):
        many.path("0", "a")


def test_nothing_leads_there() -> None:
    apart = graph("abcd", Link("a", "b", Identity()), Link("c", "d", Identity()))
    with pytest.raises(TransformationError) as error:
        apart.path("a", "c")
    assert str(error.value) == (
        "nothing leads from 'a' to 'c' ('a' is connected to 'b'; 'c' is connected to 'd')"
    )
    with pytest.raises(TransformationError, match="'b' is connected to no other"):
        graph("ab").path("a", "b")


def test_a_link_without_inverse() -> None:
    project = Link("a", "b", ProjectAxis((0,), ()))
    one_way = Graph({"a": system("a"), "b": system("b", "x")}, (project,))
    assert at(one_way.path("a", "b"), 3, 4) == [4]
    expected = "nothing leads from 'b' to 'a': the link from 'a' to 'b' has no inverse"
    with pytest.raises(TransformationError, match=expected):
        one_way.path("b", "a")


def test_only_what_would_lead_there_is_the_reason() -> None:
    """A link that cannot be gone is no reason why a system that nothing is linked to is far."""
    flat = Affine(((1.0, 1.0, 0.0), (1.0, 1.0, 0.0)))
    found = graph("abc", Link("a", "b", flat))
    with pytest.raises(TransformationError) as error:
        found.path("b", "c")
    assert str(error.value) == (
        "nothing leads from 'b' to 'c' ('b' is connected to 'a'; 'c' is connected to no other)"
    )


def test_many_reasons_are_counted() -> None:
    links = [Link("a", "b", Affine(((1.0, 1.0, 0.0), (float(i), i, 0.0)))) for i in range(50)]
    with pytest.raises(TransformationError, match=r"singular and 46 more \('b' is") as error:
        graph("ab", *links).path("b", "a")
    assert len(str(error.value)) < 1000


def test_a_way_round_a_link_that_cannot_be_read() -> None:
    def missing() -> Transformation:
        raise TransformationError("the array is missing")

    broken = Link("a", "b", missing)
    beside = graph("ab", broken, Link("a", "b", Scale((2.0, 3.0))))
    assert at(beside.path("a", "b"), 1.0, 1.0) == [2.0, 3.0]
    round_ = graph("abc", broken, Link("a", "c", Identity()), Link("c", "b", Scale((5.0, 5.0))))
    assert at(round_.path("a", "b"), 1.0, 1.0) == [5.0, 5.0]
    many = graph("ab", *(Link("a", "b", missing) for _ in range(3000)))
    with pytest.raises(TransformationError, match="from 'a' to 'b': the array is missing"):
        many.path("a", "b")


def test_what_cannot_be_read() -> None:
    def missing() -> Transformation:
        raise NgffError("there is no array at 'm'")

    broken = graph("abc", Link("a", "b", missing), Link("a", "c", Scale((2.0, 2.0))))
    assert at(broken.path("a", "c"), 1, 1) == [2, 2]
    with pytest.raises(NgffError, match="no array at 'm'"):
        broken.path("a", "b")
    with pytest.raises(TransformationError, match="no array at 'm'"):
        broken.path("b", "a")


def test_a_transformation_that_does_not_fit() -> None:
    with pytest.raises(TransformationError, match="from 'a' to 'b': Scale takes points of 3 axes"):
        graph("ab", Link("a", "b", Scale((1.0, 2.0, 3.0)))).path("a", "b")


@given(
    st.lists(st.tuples(st.booleans(), NUMBERS, NUMBERS), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_a_chain_in_any_order_and_direction(
    offsets: list[tuple[bool, float, float]], random: object
) -> None:
    """A chain of translations adds up, whichever way its links point and however they stand."""
    links = []
    for i, (turned, y, x) in enumerate(offsets):
        a, b = str(i), str(i + 1)
        links.append(
            Link(b, a, Translation((-y, -x))) if turned else Link(a, b, Translation((y, x)))
        )
    random.shuffle(links)  # type: ignore[attr-defined]
    names = {str(i): system(str(i)) for i in range(len(offsets) + 1)}
    found = Graph(names, tuple(links)).path("0", str(len(offsets)))
    assert at(found, 0, 0) == [sum(y for _, y, _ in offsets), sum(x for _, _, x in offsets)]
