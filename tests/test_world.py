"""Images in their coordinate systems: points, coordinates and pixels."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray import world
from ngff_xarray.errors import (
    NgffError,
    NotOmeError,
    SelectionError,
    TransformationError,
    UnitError,
)
from ngff_xarray.world import coordinate_systems, current_system, resample, to_system, transform

TURN = math.radians(30)
COS, SIN = math.cos(TURN), math.sin(TURN)
UNITS = {"t": "second", "c": None}
TYPES = {"t": "time", "c": "channel"}

# ---- objects as they come out of a store -----------------------------------------------------


def system(name: str, axes: str, unit: str | None = "micrometer") -> dict[str, Any]:
    """A coordinate system as JSON; an axis is a letter."""
    described = []
    for axis in axes:
        described.append({"name": axis, "type": TYPES.get(axis, "space")})
        if UNITS.get(axis, unit) is not None:
            described[-1]["unit"] = UNITS.get(axis, unit)
    return {"name": name, "axes": described}


def link(source: str, target: str, kind: str, **parameters: Any) -> dict[str, Any]:
    """A link as JSON, between systems called ``name`` or ``path/name``."""
    ends = {}
    for key, end in (("input", source), ("output", target)):
        path, _, name = end.rpartition("/")
        ends[key] = {"name": name, "path": path} if path else {"name": name}
    return {"type": kind, **parameters, **ends}


def level(
    array: Any,
    axes: str,
    scale: Mapping[str, float] | None = None,
    offset: Mapping[str, float] | None = None,
    *,
    unit: str = "micrometer",
    name: str = "image",
    channels: Sequence[str] | None = None,
) -> xr.Dataset:
    """A level, as the reader makes it."""
    scale, offset = scale or {}, offset or {}
    coords = {}
    for axis, size in zip(axes, array.shape, strict=True):
        if axis == "c":
            names = channels or [str(i) for i in range(size)]
            coords[axis] = xr.Variable(axis, names, {"axis_type": "channel"})
            continue
        step = scale.get(axis, 1.0)
        attrs = {
            "units": UNITS.get(axis, unit),
            "axis_type": TYPES.get(axis, "space"),
            "pixel_size": step,
        }
        coords[axis] = xr.Variable(axis, np.arange(size) * step + offset.get(axis, 0.0), attrs)
    return xr.Dataset({name: xr.Variable(tuple(axes), array)}, coords=coords)


def tree(
    levels: Sequence[xr.Dataset],
    systems: Sequence[dict[str, Any]] = (),
    links: Sequence[dict[str, Any]] = (),
    more: Mapping[str, xr.Dataset] | None = None,
    **ome: Any,
) -> xr.DataTree:
    """An image: its first system is the intrinsic one."""
    said = dict(ome)
    if systems:
        said["intrinsic"] = systems[0]["name"]
        said["coordinateSystems"] = list(systems)
    if links:
        said["coordinateTransformations"] = list(links)
    nodes = {"/": xr.Dataset(attrs={"ome": said})}
    for number, dataset in enumerate(levels):
        for variable in dataset.data_vars.values():
            variable.attrs["ome"] = said
        nodes[str(number)] = dataset
    return xr.DataTree.from_dict({**nodes, **(more or {})})


def below(path: str, node: xr.DataTree) -> dict[str, xr.Dataset]:
    """The nodes of a tree, below a path."""
    return {f"{path}/{n.path.strip('/')}".strip("/"): n.to_dataset() for n in node.subtree}


def scene(
    images: Mapping[str, xr.DataTree],
    systems: Sequence[dict[str, Any]],
    links: Sequence[dict[str, Any]],
    more: Mapping[str, xr.Dataset] | None = None,
) -> xr.DataTree:
    said = {"scene": {"coordinateSystems": list(systems), "coordinateTransformations": list(links)}}
    nodes = {"/": xr.Dataset(attrs={"ome": said}), **(more or {})}
    for path, image in images.items():
        nodes |= below(path, image)
    return xr.DataTree.from_dict(nodes)


def random(*shape: int, dtype: str = "uint16", seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return generator.random(shape).astype(dtype)
    return generator.integers(0, min(np.iinfo(dtype).max, 60_000), shape).astype(dtype)


ROTATION = [[COS, -SIN], [SIN, COS]]
SHEAR = [[1.0, 0.0, 5.0], [0.5, 1.0, -3.0]]  # x leans over with y


def planar(
    kind: str = "rotation", matrix: Any = None, size: tuple[int, int] = (40, 60), **data: Any
) -> xr.DataTree:
    """A plane of 0.5 µm pixels and its mirror system "world"."""
    array = data.get("array", random(*size))
    return tree(
        [level(array, "yx", {"y": 0.5, "x": 0.5}, {"y": 10, "x": -4})],
        [system("physical", "yx"), system("world", "yx")],
        [link("physical", "world", kind, **{kind: ROTATION if matrix is None else matrix})],
    )


class Counted(BackendArray):
    """A large image that is computed where it is read, and counts what is read."""

    def __init__(self, shape: tuple[int, ...], dtype: Any = "uint16") -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.reads: list[tuple[int, ...]] = []

    @property
    def pixels(self) -> int:
        return sum(math.prod(read) for read in self.reads)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        places = [np.arange(n)[k] for k, n in zip(key, self.shape, strict=True)]
        kept = [np.atleast_1d(p) for p in places]
        self.reads.append(tuple(len(p) for p in kept))
        block = self.pixel(np.ix_(*kept)).astype(self.dtype)
        return block.reshape([len(p) for p in places if p.ndim])

    @staticmethod
    def pixel(indices: Sequence[np.ndarray]) -> np.ndarray:
        return sum((i + 1) * index for i, index in enumerate(indices)) % 50_000


def lazy(array: BackendArray) -> indexing.LazilyIndexedArray:
    return indexing.LazilyIndexedArray(array)


# ---- systems ---------------------------------------------------------------------------------


def test_systems_of_an_image() -> None:
    image = planar()
    found = coordinate_systems(image)
    assert list(found) == ["physical", "world"]
    assert [axis.unit for axis in found["world"].axes] == ["micrometer"] * 2
    for part in (image["0/image"], image["0"].to_dataset().assign_attrs(image.attrs)):
        assert coordinate_systems(part) == found
        assert current_system(part) == "physical"


def test_an_image_that_names_no_system() -> None:
    image = tree([level(random(2, 3, 4), "cyx", {"y": 0.5, "x": 0.5})])
    found = coordinate_systems(image)
    assert list(found) == ["intrinsic"]
    assert [axis.name for axis in found["intrinsic"].axes] == ["c", "y", "x"]
    assert to_system(image, "intrinsic").identical(image)


def test_systems_of_a_scene() -> None:
    mosaic = tiles()
    assert list(coordinate_systems(mosaic)) == [
        "world",
        *(f"tile_{i}/physical" for i in range(4)),
    ]


# ---- points ----------------------------------------------------------------------------------


def test_points_of_an_image() -> None:
    image = planar()
    points = np.array([[1.0, 2.0], [3.0, 5.0]])
    expected = points @ np.array(ROTATION).T
    np.testing.assert_allclose(transform(image, points, to="world"), expected)
    np.testing.assert_allclose(transform(image, points.tolist(), to="world"), expected)
    back = transform(image, expected, from_="world", to="physical")
    np.testing.assert_allclose(back, points, atol=1e-12)


def test_points_as_pixels() -> None:
    image = planar()
    found = transform(image, [[0, 0], [2, 3]], from_="0", to="physical")
    np.testing.assert_allclose(found, [[10, -4], [11, -2.5]])
    np.testing.assert_allclose(transform(image["0/image"], [11, -2.5], to="array"), [2, 3])


def test_points_by_axis() -> None:
    import pint

    quantity = pint.get_application_registry().Quantity
    image = planar("translation", [1.0, 2.0])
    expected = [[3, 3], [3, 4]]
    for x in ([1, 2], ["1 µm", "2000 nm"], quantity(np.array([1000, 2000]), "nm")):
        found = transform(image, {"x": x, "y": quantity(2, "µm")}, to="world")
        np.testing.assert_allclose(found, expected)
    with pytest.raises(TransformationError, match="have the axes y, x; found x"):
        transform(image, {"x": 1}, to="world")
    with pytest.raises(TransformationError, match="found z, y, x"):
        transform(image, {"z": 1, "y": 1, "x": 1}, to="world")


def test_points_as_a_quantity() -> None:
    """One quantity is for all axes that can have it: its unit is not lost."""
    pint = pytest.importorskip("pint")
    unit = pint.get_application_registry()
    image = planar("translation", [0, 20])
    found = transform(image, unit.Quantity([[1.0, 2.0]], "mm"), to="world")
    np.testing.assert_allclose(found, [[1000, 2020]])
    held = xr.DataArray(unit.Quantity([[1.0, 2.0]], "mm"), dims=("point", "axis"))
    np.testing.assert_array_equal(transform(image, held, to="world"), found)
    apart = {"y": held[:, 0], "x": held[:, 1]}
    np.testing.assert_array_equal(transform(image, apart, to="world"), found)
    with pytest.raises(UnitError, match="second"):
        transform(image, unit.Quantity([[1.0, 2.0]], "s"), to="world")
    volume = tree([level(random(2, 3, 4), "tyx")])
    with pytest.raises(UnitError, match="second"):
        transform(volume, unit.Quantity([[1.0, 2.0, 3.0]], "mm"), to="0")


@pytest.mark.parametrize("points", [[["a", "b"]], [[1, 2], [1]], [[1j, 2]]])
def test_points_that_are_no_numbers(points: Any) -> None:
    with pytest.raises(TransformationError, match="expected numbers of shape"):
        transform(planar(), points, to="world")


def test_numbers_are_left_alone_where_units_differ() -> None:
    systems = [system("physical", "yx"), system("other", "yx", unit="nanometer")]
    image = tree([level(random(3, 4), "yx")], systems, [link("physical", "other", "identity")])
    assert transform(image, [1, 2], to="other").tolist() == [1, 2]
    assert to_system(image, "other")["0/x"].attrs["units"] == "nanometer"
    assert to_system(image, "other")["0/x"].values.tolist() == [0, 1, 2, 3]


def test_points_that_do_not_fit() -> None:
    with pytest.raises(TransformationError, match=r"2 axes \(y, x\): expected shape \(\.\.\., 2\)"):
        transform(planar(), [1, 2, 3], to="world")
    with pytest.raises(TransformationError, match="no coordinate system 'wrld'; there are 'phys"):
        transform(planar(), [1, 2], to="wrld")


def test_a_selected_axis_stands_where_it_was_selected() -> None:
    matrix = [[1.0, 0, 0, 0], [0.25, 1, 0, 0], [0, 0, 1, 7]]
    image = tree(
        [level(random(5, 6, 7), "zyx", {"z": 2.0})],
        [system("physical", "zyx"), system("world", "zyx")],
        [link("physical", "world", "affine", affine=matrix)],
    )
    plane = image["0/image"].isel(z=3)
    assert transform(plane, {"y": 1, "x": 1}, to="world").tolist() == [6, 2.5, 8]
    placed = to_system(plane, "world")
    assert placed.dims == ("y", "x")
    assert placed["y"].values[:2].tolist() == [1.5, 2.5]
    assert placed["z"].item() == 6
    assert current_system(placed) == "world"
    back = to_system(placed, "physical")
    assert back["z"].item() == 6
    np.testing.assert_allclose(back["y"], plane["y"])


# ---- coordinates: axes apart -----------------------------------------------------------------


def separable() -> xr.DataTree:
    """Axes that are scaled, moved and exchanged, beside channels that stay themselves."""
    coarse = level(random(2, 2, 3, 4), "czyx", {"z": 2.0, "y": 1.0, "x": 0.5}, {"y": 0.25})
    fine = level(random(2, 2, 6, 8), "czyx", {"z": 2.0, "y": 0.5, "x": 0.25})
    omero = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
    for dataset in (fine, coarse):
        dataset["c"] = xr.Variable("c", ["DAPI", "GFP"], {"axis_type": "channel"})
    by_dimension = [
        {"inputAxes": [0], "outputAxes": [0], "transformation": {"type": "identity"}},
        {
            "inputAxes": [1],
            "outputAxes": [3],
            "transformation": {"type": "translation", "translation": [100]},
        },
        {
            "inputAxes": [2, 3],
            "outputAxes": [1, 2],
            "transformation": {"type": "mapAxis", "mapAxis": [1, 0]},
        },
    ]
    return tree(
        [fine, coarse],
        [system("physical", "czyx"), system("world", "cabd")],
        [link("physical", "world", "byDimension", transformations=by_dimension)],
        omero=omero,
    )


def test_axes_apart() -> None:
    image = separable()
    placed = to_system(image, "world")
    assert isinstance(placed, xr.DataTree)
    assert placed["0/image"].dims == ("c", "d", "b", "a")
    assert placed["0/c"].values.tolist() == ["DAPI", "GFP"]
    assert placed["0/d"].values.tolist() == [100, 102]
    assert placed["0/a"].values.tolist() == image["0/x"].values.tolist()
    assert placed["1/b"].values.tolist() == [0.25, 1.25, 2.25]
    assert placed["0/a"].attrs == {"units": "micrometer", "axis_type": "space", "pixel_size": 0.25}
    assert placed["1/a"].attrs["pixel_size"] == 0.5
    assert "b" in placed["0"].xindexes
    assert placed.attrs["ome"]["intrinsic"] == "world"
    assert placed["0/image"].attrs["ome"] is placed.attrs["ome"]
    np.testing.assert_array_equal(placed["0/image"], image["0/image"])
    assert image["0/image"].dims == ("c", "z", "y", "x")
    assert image.attrs["ome"]["intrinsic"] == "physical"


@pytest.mark.parametrize("take", ["tree", "dataset", "array"])
def test_there_and_back(take: str) -> None:
    image = separable()
    obj: Any = {
        "tree": image,
        "dataset": image["0"].to_dataset().assign_attrs(image.attrs),
        "array": image["0/image"],
    }[take]
    placed = to_system(obj, "world")
    back = to_system(placed, "physical")
    assert type(back) is type(obj)
    xr.testing.assert_allclose(back, obj, rtol=0, atol=1e-9)
    assert back.attrs == obj.attrs
    points = [[1.0, 2.0, 3.0, 4.0]]
    moved = transform(obj, points, to="world")
    np.testing.assert_array_equal(moved, transform(placed, points, from_="physical", to="world"))
    np.testing.assert_allclose(transform(placed, moved, to="physical"), points)


@given(
    st.lists(
        st.tuples(st.floats(0.01, 100), st.booleans(), st.floats(-1e4, 1e4)), min_size=2, max_size=3
    )
)
@settings(max_examples=25)
def test_scales_and_translations_there_and_back(axes: list[tuple[float, bool, float]]) -> None:
    letters = "zyx"[-len(axes) :]
    matrix = np.zeros((len(axes), len(axes) + 1))
    for i, (scale, negative, offset) in enumerate(axes):
        matrix[i, [i, -1]] = -scale if negative else scale, offset
    image = tree(
        [level(np.zeros([3] * len(axes)), letters, dict.fromkeys(letters, 0.3))],
        [system("physical", letters), system("world", letters)],
        [link("physical", "world", "affine", affine=matrix.tolist())],
    )
    there = to_system(image, "world")
    index = np.array([[0] * len(axes), [2, 1, 0][: len(axes)]])
    points = np.array(
        [[there[f"0/{a}"].values[i] for a, i in zip(letters, row, strict=True)] for row in index]
    )
    np.testing.assert_allclose(points, transform(image, index, from_="0", to="world"))
    np.testing.assert_allclose(points, transform(there, index, from_="0", to="world"))
    back = to_system(there, "physical")
    for letter in letters:
        np.testing.assert_allclose(back[f"0/{letter}"], image[f"0/{letter}"], atol=1e-9)


def test_a_cropped_image_keeps_its_place() -> None:
    image = separable()["0/image"]
    some = {"x": slice(2, 5), "y": slice(None, None, -2)}
    renamed = {"a": some["x"], "b": some["y"]}
    xr.testing.assert_identical(
        to_system(image.isel(some), "world").drop_attrs(),
        to_system(image, "world").isel(renamed).drop_attrs(),
    )


def test_units_that_the_user_changed() -> None:
    image = planar("translation", [0.0, 1.0])["0/image"]
    x = image["x"] * 1000
    x.attrs = {"units": "nanometer", "axis_type": "space", "pixel_size": 500.0}
    placed = to_system(image.assign_coords(x=x), "world")
    np.testing.assert_allclose(placed["x"], image["x"] + 1)
    assert placed["x"].attrs["pixel_size"] == 0.5
    assert placed["x"].attrs["units"] == "micrometer"


def test_axes_that_are_created_and_dropped() -> None:
    image = tree(
        [level(random(4, 5), "yx")],
        [system("physical", "yx"), system("space", "zyx"), system("line", "x")],
        [
            link("physical", "space", "projectAxis", createdOutputs=[0]),
            link("physical", "line", "projectAxis", droppedInputs=[0]),
        ],
    )
    space = to_system(image, "space")
    assert space["0/z"].item() == 0
    assert space["0/z"].attrs == {"units": "micrometer", "axis_type": "space"}
    assert space["0/image"].dims == ("y", "x")
    back = to_system(space, "physical")["0"].to_dataset()
    assert back.drop_vars("z").drop_attrs().identical(image["0"].to_dataset().drop_attrs())
    assert to_system(to_system(space, "physical"), "space").identical(space)
    line = to_system(image, "line")
    assert line["0/image"].dims == ("y", "x")
    assert current_system(line) == "line"
    assert to_system(line, "physical").identical(image)


def test_channels_that_become_numbers() -> None:
    image = tree(
        [level(random(3, 4, 5), "cyx", channels=["a", "b", "c"])],
        [system("physical", "cyx"), system("world", "kyx")],
        [link("physical", "world", "scale", scale=[2, 1, 1])],
        omero={"channels": [{"label": name} for name in "abc"]},
    )["0/image"]
    assert to_system(image, "world")["k"].values.tolist() == [0, 2, 4]
    assert to_system(image.isel(c=[2, 0]), "world")["k"].values.tolist() == [4, 0]
    assert to_system(image.isel(c=1), "world")["k"].item() == 2


def test_channels_under_another_name() -> None:
    systems = [system("physical", "cyx"), system("world", "cyx")]
    systems[1]["axes"][0] = {"name": "dye", "type": "channel", "discrete": True}
    image = tree(
        [level(random(3, 4, 5), "cyx", channels=["a", "b", "c"])],
        systems,
        [link("physical", "world", "identity")],
        omero={"channels": [{"label": name} for name in "abc"]},
    )
    placed = to_system(image, "world")
    assert placed["0/dye"].values.tolist() == ["a", "b", "c"]
    assert placed["0/dye"].attrs == {"axis_type": "channel"}
    assert placed.attrs["ome"]["extra"] == {"axes": {"dye": {"discrete": True}}}
    assert to_system(placed["0/image"].isel(dye=1), "physical")["c"].item() == "b"
    back = to_system(placed, "physical")
    assert back.attrs == image.attrs
    assert back["0"].identical(image["0"])


def test_an_axis_that_was_lost() -> None:
    image = separable()["0/image"]
    flat = to_system(image.max("z"), "world")
    assert flat.dims == ("c", "b", "a")
    assert "d" not in flat.coords
    leaning = tree(
        [level(random(5, 6, 7), "zyx")],
        [system("physical", "zyx"), system("world", "zyx")],
        [link("physical", "world", "affine", affine=[[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]])],
    )["0/image"]
    with pytest.raises(TransformationError, match="y of 'world' depends on z of 'physical'"):
        to_system(leaning.max("z"), "world")


def test_uneven_coordinates() -> None:
    image = planar("scale", [2.0, 3.0])["0/image"].isel(x=[0, 1, 5, 7])
    placed = to_system(image, "world")
    np.testing.assert_allclose(placed["x"], image["x"] * 3)
    indices = transform(image, [[10, -4.0], [10, -2.5], [10, 0.5]], to="array")
    np.testing.assert_allclose(indices[:, 1], [0, 1.5, 4])
    np.testing.assert_allclose(
        transform(image, indices, from_="array", to="physical")[1], [10, -2.5]
    )
    fallen = image.isel(x=slice(None, None, -1))
    found = transform(fallen, [[10, -4.0], [10, 0.5], [10, 2]], to="array")
    np.testing.assert_allclose(found[:, 1], [3, -1, -2.5])


# ---- coordinates: axes that mix --------------------------------------------------------------


def test_a_sheared_image() -> None:
    image = planar("affine", SHEAR)
    placed = to_system(image, "world")
    array = placed["0/image"]
    assert array.dims == ("y_physical", "x_physical")
    assert array["x"].dims == ("y_physical", "x_physical")
    np.testing.assert_array_equal(array["x_physical"], image["0/x"])
    y, x = np.meshgrid(image["0/y"], image["0/x"], indexing="ij")
    expected = np.stack([y, x, np.ones_like(x)], axis=-1) @ np.array(SHEAR).T
    np.testing.assert_allclose(
        np.broadcast_to(array["y"].values[:, None], y.shape), expected[..., 0]
    )
    np.testing.assert_allclose(array["x"], expected[..., 1])
    assert array["x"].attrs == {"units": "micrometer", "axis_type": "space"}
    assert current_system(placed) == current_system(array) == "world"
    assert "intrinsic" not in placed.attrs["ome"]
    assert to_system(placed, "world").identical(placed)
    assert to_system(array, "world") is array


@pytest.mark.parametrize("matrix", [ROTATION, [[COS, SIN], [-SIN, COS]]])
def test_axes_that_mix_find_back(matrix: Any) -> None:
    image = planar(matrix=matrix)
    placed = to_system(image, "world")
    assert to_system(placed, "physical").identical(image)
    array = to_system(image["0/image"], "world")
    assert to_system(array, "physical").identical(image["0/image"])
    part = {"x_physical": slice(3, 9), "y_physical": 2}
    before = {"x": slice(3, 9), "y": 2}
    assert to_system(array.isel(part), "physical").identical(image["0/image"].isel(before))
    np.testing.assert_allclose(
        transform(array, [[1.0, 2.0]], to="physical"), [[1, 2]] @ np.array(matrix)
    )


def test_mixed_coordinates_are_computed_where_they_are_read() -> None:
    size = 100_000
    data = lazy(Counted((size, size)))
    image = tree(
        [level(data, "yx")],
        [system("physical", "yx"), system("world", "yx")],
        [link("physical", "world", "rotation", rotation=ROTATION)],
    )
    tracemalloc.start()
    placed = to_system(image, "world")["0/image"]
    assert placed["x"].shape == (size, size)
    assert "..." in repr(placed)
    block = placed.isel(y_physical=slice(500, 564), x_physical=slice(70_000, 70_064))
    values = block["x"].values
    places = xr.DataArray(np.arange(0, size, 997), dims="points")
    diagonal = placed["y"].isel(y_physical=places, x_physical=places).values
    row = placed["x"].isel(y_physical=-1, x_physical=[5, 1, -1]).values
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6
    y, x = np.meshgrid(np.arange(500, 564), np.arange(70_000, 70_064), indexing="ij")
    np.testing.assert_allclose(values, SIN * y + COS * x)
    np.testing.assert_allclose(diagonal, (COS - SIN) * places)
    np.testing.assert_allclose(row, SIN * (size - 1) + COS * np.array([5, 1, size - 1]))


def test_three_axes_that_mix_beside_channels() -> None:
    generator = np.random.default_rng(1)
    matrix = np.zeros((4, 5))
    matrix[0, 0] = 1
    matrix[1:, 1:] = generator.random((3, 4))
    image = tree(
        [level(random(2, 3, 4, 5), "czyx", {"z": 2.0}, channels=["a", "b"])],
        [system("physical", "czyx"), system("world", "czyx")],
        [link("physical", "world", "affine", affine=matrix.tolist())],
    )
    placed = to_system(image, "world")["0/image"]
    assert placed.dims == ("c", "z_physical", "y_physical", "x_physical")
    assert placed["c"].values.tolist() == ["a", "b"]
    grid = np.stack(np.meshgrid(np.arange(3) * 2, np.arange(4), np.arange(5), indexing="ij"), -1)
    expected = grid @ matrix[1:, 1:4].T + matrix[1:, 4]
    for i, axis in enumerate("zyx"):
        np.testing.assert_allclose(placed[axis], expected[..., i])
    assert to_system(placed, "physical").identical(image["0/image"])
    plane = placed.isel(z_physical=1)
    assert plane["y"].dims == ("y_physical", "x_physical")
    np.testing.assert_allclose(plane["y"], expected[1, ..., 1])
    assert to_system(plane, "physical").identical(image["0/image"].isel(z=1))


def test_axes_apart_beside_axes_that_mix() -> None:
    matrix = [[3.0, 0, 0, 1], [0, COS, -SIN, 0], [0, SIN, COS, 0]]
    image = tree(
        [level(random(3, 4, 5), "zyx")],
        [system("physical", "zyx"), system("world", "zyx")],
        [link("physical", "world", "affine", affine=matrix)],
    )
    placed = to_system(image, "world")
    assert placed["0/image"].dims == ("z", "y_physical", "x_physical")
    assert placed["0/z"].values.tolist() == [1, 4, 7]
    assert placed["0/z"].attrs["pixel_size"] == 3
    assert to_system(placed, "physical").identical(image)
    some = {"z": 1}
    assert to_system(placed["0/image"].isel(some), "physical").identical(
        image["0/image"].isel(some)
    )


def test_back_through_the_inverse_the_axes_are_apart_again() -> None:
    """A rotation and its inverse leave noise in the matrix, which is no mixing."""
    image = planar()
    said = image.attrs["ome"]
    said["coordinateSystems"].append(system("back", "yx"))
    said["coordinateTransformations"].append(link("back", "world", "rotation", rotation=ROTATION))
    placed = to_system(image, "back")["0/image"]
    assert placed.dims == ("y", "x")
    np.testing.assert_allclose(placed["x"], image["0/x"], atol=1e-12)


def test_plot_of_a_sheared_image() -> None:
    import matplotlib.pyplot as plt

    placed = to_system(planar("affine", SHEAR), "world")["0/image"]
    figure, axes = plt.subplots()
    mesh = placed.plot(x="x", y="y", ax=axes)
    assert axes.get_xlabel() == "x [micrometer]"
    corners = mesh.get_coordinates()
    assert corners.shape == (41, 61, 2)
    np.testing.assert_allclose(corners[0, 0], [-4.25 + 9.75 / 2 - 3, 9.75 + 5])
    figure.canvas.draw()
    plt.close(figure)


def test_chunked_and_copied_objects_stay_lazy() -> None:
    placed = to_system(planar(size=(64, 64)), "world")["0/image"]
    chunked = placed.chunk({"x_physical": 16})
    np.testing.assert_array_equal(chunked["x"], placed["x"])
    copied = placed.copy(deep=True)
    np.testing.assert_array_equal(copied["x"], placed["x"])
    assert (placed + placed).dims == placed.dims


def test_a_dropped_axis_gives_its_name_to_another() -> None:
    image = tree(
        [level(random(3, 4), "zx")],
        [system("physical", "zx"), system("world", "z")],
        [link("physical", "world", "projectAxis", droppedInputs=[0])],
    )
    placed = to_system(image, "world")
    assert placed["0/image"].dims == ("z_physical", "z")
    assert placed["0/z"].values.tolist() == [0, 1, 2, 3]
    assert to_system(placed, "physical").identical(image)
    found = resample(image, {"z": 2}, system="world")
    assert found.dims == ("z_physical", "z")
    assert found["z_physical"].values.tolist() == [0, 1, 2]
    pairs = image["0/image"].values.reshape(3, 2, 2).mean(axis=-1)
    np.testing.assert_array_equal(found, np.rint(pairs))
    assert coordinate_systems(found).keys() == {"intrinsic"}


def test_quantities_as_coordinates() -> None:
    pytest.importorskip("pint_xarray")
    from ngff_xarray.ops import quantify

    for kind, matrix in (("rotation", ROTATION), ("translation", [1.0, 2.0])):
        image = planar(kind, matrix)["0/image"]
        quantified = quantify(image)
        placed = to_system(quantified, "world")
        assert placed.identical(to_system(image, "world"))
        np.testing.assert_allclose(to_system(placed, "physical")["x"], image["x"])
        found = resample(quantified, "1 µm", system="world")
        assert found.identical(resample(image, "1 µm", system="world"))


def test_more_than_the_image_in_a_dataset() -> None:
    image = planar()
    dataset = image["0"].to_dataset().assign_attrs(image.attrs)
    dataset = dataset.assign(shade=("x", np.arange(60))).assign_coords(flag=("y", [True] * 40))
    placed = to_system(dataset, "world")
    assert placed["shade"].dims == ("x_physical",)
    assert placed["flag"].dims == ("y_physical",)
    assert to_system(placed, "physical").identical(dataset)


def test_an_array_without_coordinates_counts_pixels() -> None:
    image = xr.DataArray(np.zeros((3, 4)), dims=("y", "x"), attrs=planar().attrs)
    placed = to_system(image, "world")
    np.testing.assert_allclose(placed["y"].isel(y_physical=2), COS * 2 - SIN * np.arange(4))
    assert to_system(placed, "physical").identical(image)


def test_chunks_keep_their_dimensions() -> None:
    image = planar()
    image["0"].dataset["image"].encoding["preferred_chunks"] = {"y": 16, "x": 32}
    dataset = image["0"].to_dataset().assign_attrs(image.attrs)
    dataset["image"].encoding["preferred_chunks"] = {"y": 16, "x": 32}
    placed = to_system(dataset, "world")
    assert placed["image"].encoding["preferred_chunks"] == {"y_physical": 16, "x_physical": 32}
    back = to_system(placed, "physical")
    assert back["image"].encoding["preferred_chunks"] == {"y": 16, "x": 32}


def test_pickled() -> None:
    import pickle

    image = planar()
    for obj in (to_system(image, "world")["0/image"], resample(image, system="world")):
        assert pickle.loads(pickle.dumps(obj)).identical(obj)


# ---- labels ----------------------------------------------------------------------------------


def labelled(axes: str = "yx", links: Sequence[dict[str, Any]] = (), **said: Any) -> xr.DataTree:
    shape = {"c": 2, "y": 6, "x": 8, "p": 3}
    label = tree(
        [level(random(*(shape[a] for a in axes), dtype="uint8"), axes, name="labels")],
        [system("physical", axes)],
        **{"image-label": {}},
        **said,
    )
    return tree(
        [level(random(2, 6, 8), "cyx")],
        [system("physical", "cyx"), system("world", "cyx")],
        [
            link(
                "physical",
                "world",
                "affine",
                affine=[[1, 0, 0, 0], [0, 2, 0, 5], [0, 0, 3, 0]],
            ),
            *links,
        ],
        more={"labels": xr.Dataset(attrs={"ome": {"labels": ["nuclei"]}})}
        | below("labels/nuclei", label),
    )


def test_labels_follow() -> None:
    image = labelled()
    placed = to_system(image, "world")
    assert placed["labels/nuclei/0/labels"].dims == ("y", "x")
    assert placed["labels/nuclei/0/x"].values[:3].tolist() == [0, 3, 6]
    assert current_system(placed["labels/nuclei"]) == "world"
    np.testing.assert_allclose(transform(placed, [1, 2, 3], to="labels/nuclei/physical"), [-1.5, 1])
    back = to_system(placed, "physical")
    xr.testing.assert_allclose(
        back["labels/nuclei/0"].to_dataset(), image["labels/nuclei/0"].to_dataset()
    )
    assert current_system(back["labels/nuclei"]) == "physical"


def test_labels_follow_where_axes_mix() -> None:
    image = labelled()
    links = image.attrs["ome"]["coordinateTransformations"]
    links[0]["affine"] = [[1, 0, 0, 0], [0, COS, -SIN, 5], [0, SIN, COS, 0]]
    placed = to_system(image, "world")
    array = placed["labels/nuclei/0/labels"]
    assert array.dims == ("y_physical", "x_physical")
    np.testing.assert_array_equal(array["y"], placed["0/y"])
    back = to_system(placed, "physical")
    for node in ("0", "labels/nuclei/0"):
        found, expected = back[node].to_dataset(), image[node].to_dataset()
        assert found.coords.to_dataset().identical(expected.coords.to_dataset())
        assert found.drop_attrs().identical(expected.drop_attrs())


def test_labels_with_a_place_of_their_own() -> None:
    moved = link("physical", "labels/nuclei/physical", "translation", translation=[0, 10, 20])
    image = labelled("cyx", [moved])
    placed = to_system(image, "world")
    assert placed["labels/nuclei/0/x"].values[0] == -60
    assert placed["labels/nuclei/0/y"].values[0] == -15
    same = to_system(image, "physical")
    assert same["labels/nuclei/0/x"].values[0] == -20
    assert same["0"].identical(image["0"])
    assert current_system(same["labels/nuclei"]) == "physical_"
    there = transform(same, [0, 0, 0], from_="labels/nuclei/physical", to="physical")
    assert there.tolist() == [0, -10, -20]


def test_an_image_on_the_grid_of_its_labels() -> None:
    moved = link("physical", "labels/nuclei/physical", "translation", translation=[0, 10, 20])
    image = labelled("cyx", [moved])
    label = image["labels/nuclei"]
    found = resample(image, system="labels/nuclei/physical", like=label)
    np.testing.assert_array_equal(found["x"], label["0/x"])
    assert not found.any()
    said = {"y": label["0/y"] + 10, "x": label["0/x"] + 20}
    like = label["0/labels"].assign_coords(said)
    found = resample(image, system="labels/nuclei/physical", like=like)
    np.testing.assert_array_equal(found, image["0/image"])


def test_labels_without_a_place_are_left_out() -> None:
    placed = to_system(labelled("py"), "world")
    assert "nuclei" not in placed["labels"].children
    assert "0" in placed.children


# ---- scenes ----------------------------------------------------------------------------------


def tiles(axes: str = "yx", world: str = "yx") -> xr.DataTree:
    """Four tiles of a mosaic."""
    images, links = {}, []
    shape = [{"c": 2, "y": 4, "x": 5}[axis] for axis in axes]
    for number in range(4):
        path = f"tile_{number}"
        array = random(*shape, seed=number)
        images[path] = tree([level(array, axes, {"y": 0.5})], [system("physical", axes)])
        offset = {"y": 10.0 * (number // 2), "x": 20.0 * (number % 2)}
        if axes == world:
            kind: dict[str, Any] = {"kind": "translation", "translation": list(offset.values())}
        else:
            rows = [[0, 1, 0, offset["y"]], [0, 0, 1, offset["x"]]]
            kind = {"kind": "affine", "affine": rows}
        links.append(link(f"{path}/physical", "world", **kind))
    return scene(images, [system("world", world)], links)


def test_a_mosaic() -> None:
    mosaic = tiles()
    placed = to_system(mosaic, "world")
    assert placed["tile_3/0/y"].values.tolist() == [10, 10.5, 11, 11.5]
    assert placed["tile_3/0/x"].values.tolist() == [20, 21, 22, 23, 24]
    assert current_system(placed["tile_3"]) == "world"
    names = [s["name"] for s in placed["tile_3"].attrs["ome"]["coordinateSystems"]]
    assert names == ["physical", "world"]
    for obj in (mosaic, placed):
        found = transform(obj, [[0, 0]], from_="tile_3/physical", to="tile_0/physical")
        assert found.tolist() == [[10, 20]]
        assert transform(obj, [[2, 1]], from_="tile_3/0", to="world").tolist() == [[11, 21]]
    alone = placed["tile_3"]
    assert transform(alone, [10, 20], to="physical").tolist() == [0, 0]
    again = to_system(placed, "world")
    assert again["tile_3/0"].identical(placed["tile_3/0"])


def test_a_mosaic_in_the_system_of_one_tile() -> None:
    placed = to_system(tiles(), "tile_3/physical")
    assert placed["tile_3/0/x"].values[0] == 0
    assert placed["tile_0/0/x"].values[0] == -20
    assert current_system(placed["tile_3"]) == "physical"


def test_a_mosaic_with_channels_in_a_world_without() -> None:
    mosaic = tiles("cyx")
    placed = to_system(mosaic, "world")
    assert placed["tile_3/0/image"].dims == ("c", "y", "x")
    assert placed["tile_3/0/y"].values[0] == 10
    assert current_system(placed["tile_3"]) == "world"
    back = to_system(placed["tile_3"], "physical")
    assert back["0"].to_dataset().drop_attrs().identical(mosaic["tile_3/0"].ds.drop_attrs())


def test_a_scene_in_a_scene() -> None:
    """Its systems and links count, under its path."""
    inner = tiles()
    said = {
        "coordinateSystems": [system("stage", "yx", "nanometer")],
        "coordinateTransformations": [link("left/world", "stage", "scale", scale=[1000, 1000])],
    }
    nodes = {"/": xr.Dataset(attrs={"ome": {"scene": said}}), **below("left", inner)}
    outer = xr.DataTree.from_dict(nodes)
    assert {"stage", "left/world", "left/tile_1/physical"} <= set(coordinate_systems(outer))
    there = transform(inner, [[1, 2]], from_="tile_1/physical", to="world")
    found = transform(outer, [[1, 2]], from_="left/tile_1/physical", to="stage")
    np.testing.assert_allclose(found, there * 1000)
    placed = to_system(outer, "stage")["left/tile_1/0"]
    expected = to_system(inner, "world")["tile_1/0"]
    np.testing.assert_allclose(placed["x"], expected["x"] * 1000)
    assert placed["x"].attrs["units"] == "nanometer"


def test_a_scene_needs_to_be_told_where_points_are() -> None:
    with pytest.raises(TransformationError, match="give from_, one of 'world', 'tile_0/physical'"):
        transform(tiles(), [0, 0], to="world")


def test_a_way_through_an_intermediate_system_and_an_inverse() -> None:
    image = tree(
        [level(random(4, 5), "yx")],
        [system("physical", "yx"), system("stage", "yx")],
        [link("stage", "physical", "scale", scale=[2, 4])],
    )
    whole = scene(
        {"a/b": image},
        [system("world", "yx")],
        [link("world", "a/b/stage", "translation", translation=[1, 1])],
    )
    assert transform(whole, [2, 4], from_="a/b/physical", to="world").tolist() == [0, 0]
    placed = to_system(whole, "world")
    assert placed["a/b/0/y"].values.tolist() == [-1, -0.5, 0, 0.5]


def test_what_nothing_connects() -> None:
    mosaic = tiles()
    links = mosaic.attrs["ome"]["scene"]["coordinateTransformations"]
    del links[2:]
    placed = to_system(mosaic, "world")
    assert set(placed.children) == {"tile_0", "tile_1"}
    with pytest.raises(TransformationError, match=r"nothing leads from 'tile_3/physical' to 'wor"):
        transform(mosaic, [0, 0], from_="tile_3/physical", to="world")
    links.clear()
    with pytest.raises(
        TransformationError, match="nothing leads from 'tile_0/physical' to 'world'"
    ):
        to_system(mosaic, "world")


def test_a_system_that_is_not_described() -> None:
    whole = scene(
        {"a": tree([level(random(4, 5), "yx")], [system("physical", "yx")])},
        [],
        [link("a/physical", "world", "translation", translation=[1, 2])],
    )
    assert transform(whole, [0, 0], from_="a/physical", to="world").tolist() == [1, 2]
    with pytest.raises(TransformationError, match="axes of 'world' are not described"):
        to_system(whole, "world")


# ---- parameters in arrays --------------------------------------------------------------------


def parameters(array: Any) -> xr.Dataset:
    values = np.asarray(array, dtype=float)
    return xr.Dataset({"parameters": ([f"dim_{i}" for i in range(values.ndim)], values)})


def test_a_matrix_in_an_array() -> None:
    matrix = link("physical", "world", "affine", path="/coordinateTransformations/matrix")
    systems = [system("physical", "yx"), system("world", "yx")]
    nodes = {"coordinateTransformations/matrix": parameters(SHEAR)}
    image = tree([level(random(4, 5), "yx")], systems, [matrix], nodes)
    expected = transform(planar("affine", SHEAR), [1, 2], to="world")
    np.testing.assert_array_equal(transform(image, [1, 2], to="world"), expected)
    with pytest.raises(NgffError, match=r"/coordinateTransformations/matrix.* one level"):
        transform(image["0/image"], [1, 2], to="world")
    del image["coordinateTransformations"]
    with pytest.raises(NgffError, match="/coordinateTransformations/matrix"):
        transform(image, [1, 2], to="world")


def wave(shape: tuple[int, int] = (12, 14)) -> np.ndarray:
    """Displacements of a smooth field over 24 x 28 µm, in µm: (2, y, x)."""
    y, x = np.meshgrid(*(np.arange(n) * 2.0 for n in shape), indexing="ij")
    return np.stack([0.5 * np.sin(x / 9), 0.7 * np.cos(y / 7)])


def warped(image: Any = None) -> xr.DataTree:
    """An image with a field of displacements at nodes 2 µm apart."""
    array = random(40, 50, dtype="float32") if image is None else image
    field = tree(
        [level(wave(), "cyx", {"y": 2.0, "x": 2.0}, name="image").drop_vars("c")],
        [{**system("physical", "cyx")}],
    )
    axes = field.attrs["ome"]["coordinateSystems"][0]["axes"]
    axes[0] = {"name": "c", "type": "displacement", "discrete": True}
    field["0"].dataset = (
        field["0"]
        .to_dataset()
        .assign_coords(c=xr.Variable("c", [0.0, 1.0], {"axis_type": "displacement"}))
    )
    return tree(
        [level(array, "yx", {"y": 0.5, "x": 0.5})],
        [system("physical", "yx"), system("warped", "yx")],
        [link("physical", "warped", "displacements", path="field")],
        below("field", field),
    )


def test_a_field_of_displacements() -> None:
    image = warped()
    points = np.array([[4.0, 6.0], [3.0, 5.0]])
    moved = wave()[:, 2, 3]
    np.testing.assert_allclose(transform(image, points[0], to="warped"), points[0] + moved)
    there = transform(image, points, to="warped")
    np.testing.assert_allclose(transform(image, there, from_="warped", to="physical"), points)
    assert list(coordinate_systems(image)) == ["physical", "warped"]
    placed = to_system(image, "warped")
    array = placed["0/image"]
    assert array.dims == ("y_physical", "x_physical")
    np.testing.assert_allclose(array["y"].values[8, 12], 4 + moved[0])
    assert to_system(placed, "physical").identical(image)
    assert "field" in placed.children


def test_a_plain_array_as_a_field() -> None:
    image = planar()
    image.attrs["ome"]["coordinateTransformations"][0] = link(
        "physical", "world", "coordinates", path="field"
    )
    field = np.moveaxis(wave() + np.arange(2)[:, None, None] * 100, 0, -1)
    image["field"] = xr.DataTree(parameters(field))
    np.testing.assert_allclose(transform(image, [2, 3], to="world"), field[2, 3])


def test_a_field_that_reaches_only_some_places() -> None:
    """Where the inverse of a field finds nothing there is nothing; the rest is interpolated."""
    y, x = np.meshgrid(np.arange(40.0), np.arange(60.0), indexing="ij")
    turned = np.stack([COS * y - SIN * x, SIN * y + COS * x], axis=-1)
    systems = [system("physical", "yx"), system("world", "yx")]
    field = link("physical", "world", "coordinates", path="field")
    array = random(40, 60, dtype="float64")
    image = tree([level(array, "yx")], systems, [field], {"field": parameters(turned)})
    found = resample(image, 1.0, system="world")
    exact = tree(
        [level(array, "yx")], systems, [link("physical", "world", "rotation", rotation=ROTATION)]
    )
    expected = resample(exact, system="world", like=found)
    inner = ~np.isnan(found)
    assert 0.4 < float(inner.mean()) < 0.7
    np.testing.assert_allclose(found.values[inner], expected.values[inner], atol=1e-6)
    with pytest.raises(TransformationError, match="was not found"):
        transform(image, [[1e6, 1e6]], from_="world", to="physical")


def in_a_scene() -> xr.DataTree:
    """An image beside channels, that a field leads to the world."""
    field = parameters(np.moveaxis(wave(), 0, -1))
    bent = {"type": "displacements", "path": "field"}
    parts = [
        {"inputAxes": [1, 2], "outputAxes": [1, 2], "transformation": bent},
        {"inputAxes": [0], "outputAxes": [0], "transformation": {"type": "identity"}},
    ]
    image = tree([level(random(2, 12, 14), "cyx")], [system("physical", "cyx")])
    return scene(
        {"a": image},
        [system("world", "cyx")],
        [link("a/physical", "world", "byDimension", transformations=parts)],
        {"field": field},
    )


def test_a_field_beside_channels_in_a_scene() -> None:
    whole = in_a_scene()
    placed = to_system(whole, "world")
    array = placed["a/0/image"]
    assert array.dims == ("c", "y_physical", "x_physical")
    y, x = np.meshgrid(np.arange(12), np.arange(14), indexing="ij")
    np.testing.assert_allclose(array["y"], y + wave()[0])
    np.testing.assert_allclose(array["x"], x + wave()[1])
    assert (
        to_system(placed["a"], "physical")["0"]
        .to_dataset()
        .drop_attrs()
        .identical(whole["a/0"].to_dataset().drop_attrs())
    )
    with pytest.raises(TransformationError, match="nothing leads from 'physical' to 'world'"):
        resample(placed["a"])


def test_a_field_beside_channels_resampled() -> None:
    whole = in_a_scene()
    image = tree(
        [whole["a/0"].to_dataset()],
        [system("physical", "cyx"), system("world", "cyx")],
        [
            {
                **whole.attrs["ome"]["scene"]["coordinateTransformations"][0],
                "input": {"name": "physical"},
            }
        ],
        {"field": whole["field"].to_dataset()},
    )
    found = resample(image, system="world")
    assert found.dims == ("c", "y", "x")
    grid = np.stack(np.meshgrid(found["y"], found["x"], indexing="ij"), axis=-1)
    points = np.concatenate([np.ones_like(grid[..., :1]), grid], axis=-1)
    index = transform(image, points, from_="world", to="0")[..., 1:]
    expected = interpolated(image["0/image"].values[1], index, fill=0)
    np.testing.assert_array_equal(found[1], np.rint(expected))


def test_planes_of_a_field_resampled() -> None:
    """An axis of its own beside a field: moved to another step, or where it is already."""
    parts = [
        {
            "inputAxes": [1, 2],
            "outputAxes": [1, 2],
            "transformation": {"type": "displacements", "path": "field"},
        },
        {"inputAxes": [0], "outputAxes": [0], "transformation": {"type": "scale", "scale": [3]}},
    ]
    array = random(4, 12, 14, dtype="float64")
    image = tree(
        [level(array, "zyx")],
        [system("physical", "zyx"), system("world", "zyx")],
        [link("physical", "world", "byDimension", transformations=parts)],
        {"field": parameters(np.moveaxis(wave(), 0, -1))},
    )
    same = resample(image, {"z": 3}, system="world")
    assert same["z"].values.tolist() == [0, 3, 6, 9]
    halves = resample(image, {"z": 6}, system="world")
    assert halves["z"].values.tolist() == [1.5, 7.5]
    np.testing.assert_allclose(halves, (same.values[::2] + same.values[1::2]) / 2)
    np.testing.assert_allclose(same[2], resample(image, system="world")[2])


def test_a_field_that_is_no_field() -> None:
    image = warped()
    image.attrs["ome"]["coordinateTransformations"][0]["path"] = "0"
    with pytest.raises(TransformationError, match="node '0' holds no array of parameters"):
        transform(image, [1, 2], to="warped")
    image.attrs["ome"]["coordinateTransformations"][0]["path"] = "field"
    image["field/0"].dataset = image["field/0"].to_dataset().assign_coords(c=["a", "b"])
    with pytest.raises(TransformationError, match="expected one of type 'displacement'"):
        transform(image, [1, 2], to="warped")


# ---- pixels ----------------------------------------------------------------------------------


def interpolated(array: np.ndarray, index: np.ndarray, fill: float = np.nan) -> np.ndarray:
    """Linear interpolation at fractional indices (..., ndim), one corner after the other."""
    last = np.array(array.shape) - 1
    inside = ((index >= -0.5 - 1e-8) & (index <= last + 0.5 + 1e-8)).all(axis=-1)
    index = np.clip(index, 0, last)
    first = np.minimum(np.floor(index).astype(int), np.maximum(last - 1, 0))
    result = np.zeros(index.shape[:-1])
    for corner in np.ndindex(*(2,) * array.ndim):
        weight = np.prod(np.where(corner, index - first, 1 - (index - first)), axis=-1)
        place = np.minimum(first + corner, last)
        result += weight * array[tuple(np.moveaxis(place, -1, 0))]
    return np.where(inside, result, fill)


def pixels_by_hand(image: xr.DataTree, found: xr.DataArray, to: str) -> np.ndarray:
    """What `resample` should give: its pixel centres, led back to indices of the level."""
    along = np.meshgrid(*(found[d].values for d in found.dims), indexing="ij")
    names = [axis.name for axis in coordinate_systems(image)[to].axes]
    grid = np.stack([along[found.dims.index(name)] for name in names], axis=-1)
    return interpolated(image["0/image"].values, transform(image, grid, from_=to, to="0"))


@pytest.mark.parametrize(
    "image", [planar(array=random(40, 60, dtype="float64")), warped()], ids=["rotated", "warped"]
)
def test_resampled(image: xr.DataTree) -> None:
    to = list(coordinate_systems(image))[1]
    found = resample(image, system=to)
    assert found.dims == ("y", "x")
    assert found.dtype == image["0/image"].dtype
    assert current_system(found) == to
    if to == "world":
        assert found["x"].attrs == {
            "units": "micrometer",
            "axis_type": "space",
            "pixel_size": 0.5,
        }
    expected = pixels_by_hand(image, found, to)
    np.testing.assert_allclose(found, expected.astype(found.dtype), atol=1e-5)
    assert np.isnan(found).any()
    half = [found[d].attrs["pixel_size"] / 2 for d in "yx"]
    edges = [found[d].values[[0, -1]] + [-h, h] for d, h in zip("yx", half, strict=True)]
    corners = np.array([[y, x] for y in (-0.5, 39.5) for x in (-0.5, image["0/x"].size - 0.5)])
    placed = transform(image, corners, from_="0", to=to)
    assert (placed.min(axis=0) >= [e[0] - 1e-6 for e in edges]).all()
    assert (placed.max(axis=0) <= [e[1] + 1e-6 for e in edges]).all()


def test_a_stored_inverse_leads_back() -> None:
    both = {
        "forward": {"type": "scale", "scale": [2, 2]},
        "inverse": {"type": "scale", "scale": [0.25, 0.25]},
    }
    image = planar("bijection")
    image.attrs["ome"]["coordinateTransformations"] = [
        link("physical", "world", "bijection", **both)
    ]
    like = level(np.zeros((2, 2)), "yx", {"y": 4.0, "x": 4.0}, {"y": 48, "x": 8})["image"]
    found = resample(image, system="world", like=like)
    np.testing.assert_array_equal(found, image["0/image"].sel(y=[12, 13], x=[2, 3]))


@pytest.mark.parametrize("matrix", [ROTATION, [[1.5, 0.0], [0.0, 1.5]]])
def test_where_the_image_is_already(matrix: Any) -> None:
    image = planar("affine", [[*row, 1.0] for row in matrix])
    expected = resample(image, 0.7, system="world")
    for placed in (to_system(image, "world"), to_system(image["0/image"], "world")):
        xr.testing.assert_allclose(resample(placed, 0.7), expected)
    back = resample(to_system(image, "world"), 0.5, system="physical")
    xr.testing.assert_allclose(back, image["0/image"])


def test_what_the_world_does_not_have_passes_through() -> None:
    placed = to_system(tiles("cyx"), "world")
    grid = level(np.zeros((6, 6)), "yx", {"y": 0.5}, {"y": 10, "x": 20})["image"]
    found = resample(placed["tile_3"], like=grid)
    assert found.dims == ("c", "y", "x")
    np.testing.assert_array_equal(found[:, :4, :5], tiles("cyx")["tile_3/0/image"])
    assert not found[:, 4:].any()
    turned = tiles("cyx")
    said = turned.attrs["ome"]["scene"]["coordinateTransformations"][3]
    said["affine"] = [[0, COS, -SIN, 10], [0, SIN, COS, 20]]
    found = resample(to_system(turned, "world")["tile_3"], like=grid)
    expected = planar(array=turned["tile_3/0/image"].values[1])
    expected["0"].dataset = turned["tile_3/0"].to_dataset().isel(c=1, drop=True)
    expected.attrs["ome"]["coordinateTransformations"] = [
        link("physical", "world", "affine", affine=[[COS, -SIN, 10], [SIN, COS, 20]])
    ]
    np.testing.assert_array_equal(found[1], resample(expected, system="world", like=grid))


def test_resampled_integers_are_rounded_half_to_even() -> None:
    array = np.array([[1, 2, 3, 5]], dtype="uint8")
    image = tree([level(array, "yx")])
    assert resample(image, {"x": 2}).values.tolist() == [[2, 4]]
    shifted = resample(
        image, like=xr.DataArray([0] * 5, dims="x", coords={"x": np.arange(5) - 0.5})
    )
    assert shifted.values.tolist() == [[1, 2, 2, 4, 5]]
    assert shifted.dtype == np.uint8


def test_three_axes_resampled_beside_channels() -> None:
    generator = np.random.default_rng(3)
    turn = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    matrix = np.zeros((4, 5))
    matrix[0, 0] = 1
    matrix[1:, 1:4] = turn
    matrix[1:, 4] = 3, 2, 1
    array = random(2, 6, 9, 11, dtype="float32")
    image = tree(
        [level(array, "czyx", {"z": 2.0}, channels=["a", "b"])],
        [system("physical", "czyx"), system("world", "czyx")],
        [link("physical", "world", "affine", affine=matrix.tolist())],
    )
    found = resample(image, "1.5 µm", system="world")
    assert found.dims == ("c", "z", "y", "x")
    assert found["c"].values.tolist() == ["a", "b"]
    space = [found[axis].values for axis in "zyx"]
    grid = np.stack(np.meshgrid(*space, indexing="ij"), axis=-1)
    index = (grid - matrix[1:, 4]) @ turn / [2, 1, 1]
    for c in range(2):
        np.testing.assert_allclose(found[c], interpolated(array[c], index), atol=1e-5)
    assert found.sel(c="b", z=space[0][2]).equals(found[1, 2])


def test_axes_that_pass_through() -> None:
    image = separable()
    found = resample(image, {"a": 0.5}, system="world")
    assert found.dims == ("c", "d", "b", "a")
    assert found["d"].values.tolist() == [100, 102]
    assert found["c"].values.tolist() == ["DAPI", "GFP"]
    np.testing.assert_array_equal(found["b"], image["0/y"])
    pairs = image["0/image"].values.reshape(2, 2, 6, 4, 2).mean(axis=-1)
    np.testing.assert_array_equal(found, np.rint(pairs))
    assert current_system(found) == "world"
    same = resample(image)
    xr.testing.assert_identical(same, image["0/image"])


def test_a_length_is_for_all_axes_of_space() -> None:
    array = random(3, 1, 8, 10, dtype="float64")
    image = tree([level(array, "tzyx", {"z": 7.0, "y": 0.5, "x": 0.25})])
    found = resample(image, "500 nm")
    assert found.sizes == {"t": 3, "z": 1, "y": 8, "x": 5}
    np.testing.assert_array_equal(found["y"], image["0/y"])
    assert found["x"].values.tolist() == [0.125, 0.625, 1.125, 1.625, 2.125]
    np.testing.assert_allclose(found, array.reshape(3, 1, 8, 5, 2).mean(axis=-1))


def test_the_level_is_the_coarsest_that_is_fine_enough() -> None:
    levels = [
        level(np.full((64 >> n, 64 >> n), n, "uint8"), "yx", {"y": 2.0**n, "x": 2.0**n})
        for n in range(4)
    ]
    image = tree(levels)
    sizes = [0.5, 1, 1.9, 2, 3.9, 4, 100]
    assert [int(resample(image, size).values[0, 0]) for size in sizes] == [0, 0, 0, 1, 1, 2, 3]
    assert resample(image, 4, level=0).values[0, 0] == 0
    assert resample(image, 4, level="2 µm").values[0, 0] == 1
    assert resample(image).identical(image["0/image"])
    assert resample(image, {"y": 4}).values[0, 0] == 0
    like = image["2/image"]
    assert resample(image, like=like).identical(like)


def test_like() -> None:
    image = planar(array=random(40, 60, dtype="float64"))
    like = level(np.zeros((5, 7)), "yx", {"y": 2.0, "x": 1.5}, {"y": 12, "x": 7})["image"]
    found = resample(image, system="world", like=like)
    for axis in "yx":
        xr.testing.assert_identical(found[axis], like[axis])
    np.testing.assert_allclose(found, pixels_by_hand(image, found, "world"))
    row = resample(image, system="world", like=like.isel(y=3))
    assert row.dims == ("x",)
    np.testing.assert_array_equal(row, found[3])
    assert row["y"].item() == 18
    reversed_ = resample(image, system="world", like=like.isel(x=slice(None, None, -1)))
    np.testing.assert_array_equal(reversed_, found[:, ::-1])
    tree_ = tree([like.to_dataset(name="image")])
    np.testing.assert_array_equal(resample(image, system="world", like=tree_), found)
    with pytest.raises(SelectionError, match="no ordinary coordinate"):
        resample(image, system="world", like=to_system(image, "world"))


def test_tiles_on_one_grid() -> None:
    placed = to_system(tiles(), "world")
    grid = level(np.zeros((40, 60)), "yx", {"y": 0.5})["image"]
    whole = sum(resample(placed[f"tile_{i}"], like=grid).values.astype(int) for i in range(4))
    np.testing.assert_array_equal(whole[20:24, 20:25], placed["tile_3/0/image"])
    np.testing.assert_array_equal(whole[:4, :5], placed["tile_0/0/image"])
    assert not whole[30:].any()


def test_an_oblique_plane_through_a_volume() -> None:
    matrix = [[COS, -SIN, 0, 0], [SIN, COS, 0, 0], [0, 0, 1, 0]]
    array = random(20, 30, 10, dtype="float64")
    image = tree(
        [level(array, "zyx")],
        [system("physical", "zyx"), system("world", "zyx")],
        [link("physical", "world", "affine", affine=matrix)],
    )
    volume = resample(image, system="world")
    plane = resample(image, system="world", like=volume.isel(z=7))
    assert plane.dims == ("y", "x")
    np.testing.assert_allclose(plane, volume[7])
    with pytest.raises(TransformationError, match="no way back to pixels"):
        resample(image["0/image"].isel(z=3), system="world")
    thick = image["0/image"].isel(z=slice(3, 4))
    assert resample(thick, system="world").ndim == 3


def test_a_plane_of_axes_apart() -> None:
    matrix = [[2.0, 0, 0, 1], [0, COS, -SIN, 0], [0.5, SIN, COS, 0]]  # x leans over with z
    array = random(5, 30, 20, dtype="float64")
    image = tree(
        [level(array, "zyx")],
        [system("physical", "zyx"), system("world", "zyx")],
        [link("physical", "world", "affine", affine=matrix)],
    )["0/image"].isel(z=3)
    found = resample(image, system="world")
    assert found.dims == ("y", "x")
    assert found["z"].item() == 7
    grid = np.stack(np.meshgrid(found["y"], found["x"] - 1.5, indexing="ij"), axis=-1)
    index = grid @ np.array(ROTATION)
    np.testing.assert_allclose(found, interpolated(array[3], index))
    assert current_system(found) == "world"


def test_labels_stay_labels() -> None:
    ids = (
        np.array([[1, 1, 900], [1, 1, 900], [40, 40, 900]], dtype="uint32")
        .repeat(9, 0)
        .repeat(9, 1)
    )
    image = tree(
        [level(ids, "yx", name="labels")],
        [system("physical", "yx"), system("world", "yx")],
        [link("physical", "world", "rotation", rotation=ROTATION)],
        **{"image-label": {}},
    )
    found = resample(image, 0.7, system="world")
    assert found.dtype == np.uint32
    assert set(np.unique(found).tolist()) == {0, 1, 40, 900}
    assert set(np.unique(resample(image, system="world", fill=7)).tolist()) == {1, 7, 40, 900}
    mixed = resample(image, 0.7, system="world", method="linear")
    assert len(np.unique(mixed)) > 10


def test_large_numbers_keep_their_type() -> None:
    for dtype in ("int64", "uint64"):
        top = np.iinfo(dtype).max
        image = tree([level(np.full((2, 4), top, dtype), "yx")])
        linear = resample(image, {"x": 2})
        assert linear.dtype == dtype
        assert (top - linear.values < 4096).all()
        assert (resample(image, {"x": 2}, method="nearest") == top).all()


def test_nothing_and_infinity_stay_where_they_are() -> None:
    array = np.array([[1.0, np.nan, 3.0, np.inf, 5.0]])
    image = tree([level(array, "yx")])
    same = resample(image, like=level(array, "yx")["image"])
    np.testing.assert_array_equal(same, array)


def test_uneven_and_falling_axes() -> None:
    array = random(4, 12, dtype="float64")
    image = tree([level(array, "yx")])["0/image"]
    fallen = resample(image.isel(x=slice(None, None, -1)), {"x": 2})
    np.testing.assert_allclose(fallen, resample(image, {"x": 2}))
    uneven = image.isel(x=[0, 1, 3, 7, 11])
    found = resample(
        uneven, like=xr.DataArray(np.zeros(12), dims="x", coords={"x": np.arange(12.0)})
    )
    np.testing.assert_allclose(found[2, :4], np.interp(range(4), uneven["x"], uneven[2])[:4])
    with pytest.raises(TransformationError, match="neither rise nor fall"):
        resample(image.isel(x=[3, 1, 2]), {"x": 2})


def test_dask() -> None:
    image = planar(array=random(40, 60, dtype="float64"))
    expected = resample(image, system="world")
    chunked = resample(image.chunk({"y": 16, "x": 16}), system="world")
    np.testing.assert_array_equal(chunked, expected)
    np.testing.assert_array_equal(expected.chunk({"y": 20}).mean("x"), expected.mean("x"))


def test_a_part_is_the_part_of_the_whole() -> None:
    """Basic, outer and vectorised indexing."""
    image = planar(array=random(40, 60, dtype="float64"))
    lazy_, whole = resample(image, system="world"), resample(image, system="world").load()
    pick = np.random.default_rng(0).integers(0, 40, (3, 5))
    points = xr.DataArray(pick, dims=("a", "b"))
    keys: list[dict[str, Any]] = [
        {"y": 3},
        {"y": -1, "x": slice(None, None, -3)},
        {"y": slice(9, 2, -2), "x": [5, 1, -2]},
        {"y": [], "x": 2},
        {"y": points, "x": points + 3},
        {"y": points, "x": 4},
    ]
    for key in keys:
        np.testing.assert_array_equal(lazy_.isel(key), whole.isel(key))
    assert float(lazy_.sel(y=20.0, x=20.0, method="nearest")) == float(
        whole.sel(y=20.0, x=20.0, method="nearest")
    )


@given(st.data())
@settings(max_examples=30)
def test_any_affine_and_any_block(data: st.DataObject) -> None:
    numbers = st.integers(-6, 6).map(lambda n: n / 4)
    matrix = np.array([[data.draw(numbers) for _ in range(3)] for _ in range(2)])
    if abs(np.linalg.det(matrix[:, :2])) < 0.2:
        matrix[:, :2] = np.eye(2)
    image = planar("affine", matrix.tolist(), array=random(9, 7, dtype="float64"))
    found = resample(image, 0.6, system="world")
    expected = pixels_by_hand(image, found, "world")
    slices = [
        slice(*sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))))
        for n in found.shape
    ]
    np.testing.assert_allclose(found[tuple(slices)], expected[tuple(slices)], atol=1e-6)


# ---- laziness --------------------------------------------------------------------------------


def large(size: int = 100_000) -> tuple[Counted, xr.DataTree]:
    source = Counted((size, size))
    image = tree(
        [level(lazy(source), "yx")],
        [system("physical", "yx"), system("world", "yx")],
        [link("physical", "world", "rotation", rotation=ROTATION)],
    )
    return source, image


def test_a_block_reads_the_box_that_it_comes_from() -> None:
    source, image = large()
    found = resample(image, system="world")
    assert not source.reads
    assert found.shape[0] > 100_000
    block = found.sel(y=slice(60_000, 60_063.9), x=slice(70_000, 70_063.9))
    values = block.values
    assert values.shape == (64, 64)
    box = math.ceil(64 * (COS + SIN)) + 2
    assert source.pixels <= box**2
    y, x = np.meshgrid(block["y"], block["x"], indexing="ij")
    index = np.stack([COS * y + SIN * x, -SIN * y + COS * x], axis=-1).astype(int)
    expected = Counted.pixel(np.moveaxis(index, -1, 0))
    assert (np.abs(values.astype(int) - expected) <= 3).mean() > 0.99


def test_a_row_reads_along_itself() -> None:
    """The box of a slanting row is nearly the whole image: it is read in pieces."""
    source, image = large()
    row = resample(image, system="world").sel(y=60_000, method="nearest")
    assert row.values.any()
    assert max(math.prod(read) for read in source.reads) <= 2**22
    assert source.pixels < 0.02 * 100_000**2


def test_memory_is_bounded() -> None:
    source = Counted((2, 20_000, 20_000))
    image = tree(
        [level(lazy(source), "cyx")],
        [system("physical", "cyx"), system("world", "cyx")],
        [
            link(
                "physical",
                "world",
                "affine",
                affine=[[1, 0, 0, 0], [0, COS, -SIN, 0], [0, SIN, COS, 0]],
            )
        ],
    )
    found = resample(image, system="world").isel(y=slice(9000, 11_000), x=slice(9000, 12_000))
    tracemalloc.start()
    values = found.values
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert values.shape == (2, 2000, 3000)
    assert peak - values.nbytes < 120e6


def test_scattered_points_read_little() -> None:
    source, image = large()
    places = np.random.default_rng(0).integers(30_000, 90_000, (2, 50))
    dims = {d: xr.DataArray(p, dims="points") for d, p in zip("yx", places, strict=True)}
    assert resample(image, system="world").isel(dims).shape == (50,)
    assert resample(image, system="world").isel(dims).values.shape == (50,)
    assert source.pixels < 50 * 2**21


# ---- what does not fit -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"pixel_size": {"q": 1}}, "no axis 'q'; the axes are y, x"),
        ({"pixel_size": {"x": 0}}, "expected more than 0, found 0 for 'x'"),
        ({"pixel_size": "3 s"}, "cannot convert"),
        ({"pixel_size": 1e-9}, "give larger"),
        ({"method": "cubic"}, "expected 'linear' or 'nearest', found 'cubic'"),
        ({"fill": math.nan}, "pixels of type uint16 cannot be nan"),
        ({"fill": -1}, "pixels of type uint16 cannot be -1"),
        ({"fill": "black"}, "fill: expected a number, found 'black'"),
        ({"system": "moon"}, "no coordinate system 'moon'"),
        ({"level": 3}, "there is no level 3"),
    ],
)
def test_what_cannot_be_asked(asked: dict[str, Any], expected: str) -> None:
    with pytest.raises(NgffError, match=expected):
        resample(planar(), **asked)


def test_links_that_cannot_be_read() -> None:
    with pytest.raises(TransformationError, match=r"coordinateTransformations\[0\].type: expected"):
        to_system(planar("twist"), "world")
    image = planar("scale", [1.0, 2.0, 3.0])
    with pytest.raises(TransformationError, match="3 axes"):
        transform(image, [1, 2], to="world")
    image.attrs["ome"]["coordinateTransformations"] = ["nonsense", {"type": "identity"}]
    with pytest.raises(TransformationError, match="connected to '0'"):
        transform(image, [1, 2], to="world")


def test_an_axis_without_pixels() -> None:
    image = planar()["0/image"].isel(x=slice(0, 0))
    assert to_system(image, "world")["x"].shape == (40, 0)
    with pytest.raises(SelectionError, match="x: the axis is empty"):
        resample(image, system="world")


def test_loaded_asynchronously() -> None:
    import asyncio

    image = planar()
    found = resample(image, system="world")
    array = asyncio.run(found.load_async())
    np.testing.assert_array_equal(array, resample(image, system="world"))
    placed = asyncio.run(to_system(image, "world")["0"].to_dataset().load_async())
    np.testing.assert_array_equal(placed["x"], to_system(image, "world")["0/x"])


def test_channels_have_no_size() -> None:
    with pytest.raises(SelectionError, match="'c' is an axis of channels"):
        resample(separable(), {"c": 2})


def test_scenes_and_other_things() -> None:
    with pytest.raises(NotOmeError, match="a scene holds several images"):
        resample(tiles(), 1)
    with pytest.raises(NotOmeError):
        to_system(xr.DataTree(), "world")


def test_a_name_that_is_taken() -> None:
    image = separable()["0/image"].assign_coords(a=("z", [1, 2]))
    with pytest.raises(TransformationError, match="a coordinate 'a' that is no axis of 'physical'"):
        to_system(image, "world")


def test_the_variable_makes_way_for_an_axis() -> None:
    systems = [system("physical", "yx"), system("world", "yx")]
    systems[1]["axes"][0]["name"] = "image"
    image = tree([level(random(3, 4), "yx")], systems, [link("physical", "world", "identity")])
    placed = to_system(image, "world")
    assert placed["0/image_"].dims == ("image", "x")


def test_what_is_written_stays_plain(tmp_path: Path) -> None:
    """What to_system adds to the metadata is JSON."""
    import json

    placed = to_system(planar(), "world")
    assert json.loads(json.dumps(placed.attrs["ome"])) == placed.attrs["ome"]
    mosaic = to_system(tiles(), "world")
    said = mosaic["tile_1"].attrs["ome"]
    assert json.loads(json.dumps(said)) == said


def test_the_module_needs_no_dask_or_zarr() -> None:
    assert not {"dask", "zarr", "scipy"} & set(vars(world))
