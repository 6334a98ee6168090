"""Plates and collections out of many images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from watched import Watched

import ngff_xarray
from ngff_xarray import write_collection, write_plate
from ngff_xarray.errors import IncompleteError, NgffError, SelectionError, StoreError

Mapping = dict[Any, Any]


def image(value: int = 1, channels: bool = False) -> xr.DataArray:
    pixels = np.full((2, 20, 30), value, "u2")
    names = {"c": ["DAPI", "GFP"]} if channels else {}
    dims = ("c", "y", "x") if channels else ("z", "y", "x")
    array = xr.DataArray(pixels, dims=dims, coords={**names, "x": np.arange(30) * 0.5})
    array.coords["x"].attrs["units"] = "micrometer"
    return array


def opened(path: Any) -> Any:
    return xr.open_datatree(path, engine="ngff", wells="all").ngff


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_a_plate_of_wells_and_fields(tmp_path: Path, version: str) -> None:
    path = tmp_path / "a.ome.zarr"
    images: Mapping = {
        "B/10": image(1, channels=True),
        "B2": [image(2), image(3)],
        ("AA", 1): {"0": image(4), "7": lambda: image(5)},
        "A/1/0": image(6).ngff.pyramid(scale_factors=[2]),
        ("A1", 1): image(7),
    }
    write_plate(
        images,
        path,
        name="screen",
        version=version,
        acquisitions={"0": 0, "1": 1, "7": 1},
        scale_factors=[2],
    )
    plate = opened(path)
    assert plate.version == version
    assert list(plate.wells.index) == ["A/1", "B/2", "B/10", "AA/1"]
    found = {
        f"{well}/{field}": int(each.ngff.level(1).max())
        for well in plate.wells.index
        for field, each in plate.well(well).ngff.fields.items()
    }
    assert found == {
        "A/1/0": 6,
        "A/1/1": 7,
        "B/2/0": 2,
        "B/2/1": 3,
        "B/10/0": 1,
        "AA/1/0": 4,
        "AA/1/7": 5,
    }
    assert [c.name for c in plate.well("B/10").ngff.fields["0"].ngff.channels] == ["DAPI", "GFP"]
    report = ngff_xarray.validate(path)
    assert report.valid and not [issue for issue in report.issues if issue.severity == "error"]
    name = "zarr.json" if version != "0.4" else ".zattrs"
    document = json.loads((path / name).read_text())
    said = document["attributes"]["ome"]["plate"] if version != "0.4" else document["plate"]
    assert said["field_count"] == 2
    assert said["acquisitions"] == [{"id": 0}, {"id": 1}]
    assert [row["name"] for row in said["rows"]] == ["A", "B", "AA"]
    assert [column["name"] for column in said["columns"]] == ["1", "2", "10"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_others_say_of_plates_and_collections(tmp_path: Path, version: str) -> None:
    yaozarrs = pytest.importorskip("yaozarrs")
    plate, collection = tmp_path / "plate.ome.zarr", tmp_path / "collection.ome.zarr"
    write_plate({"A1": [image(), image()], "H12": image()}, plate, name="p", version=version)
    write_collection([image(), image()], collection, version=version)
    yaozarrs.validate_zarr_store(str(plate))
    yaozarrs.validate_zarr_store(str(collection))


def test_rows_and_columns_without_images(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    write_plate({"B2": image()}, path, rows="ABC", columns=range(1, 5))
    plate = opened(path)._obj.attrs["ome"]["plate"]
    assert [row["name"] for row in plate["rows"]] == ["A", "B", "C"]
    assert plate["wells"] == [{"path": "B/2", "rowIndex": 1, "columnIndex": 1}]
    with pytest.raises(SelectionError, match="rows: lacks 'B'"):
        write_plate({"B2": image()}, tmp_path / "b", rows="AC")
    with pytest.raises(SelectionError, match="the same twice"):
        write_plate({"B2": image()}, tmp_path / "b", rows="BB")


def test_images_are_asked_for_when_it_is_their_turn(tmp_path: Path) -> None:
    asked: list[str] = []
    path = tmp_path / "a.ome.zarr"

    def supplier(well: str, value: int) -> Any:
        def supply() -> xr.DataArray:
            written = [p.parent.name for p in path.glob("*/*/0/0")]
            assert len(written) == len(asked)
            asked.append(well)
            return image(value)

        return supply

    wells = [f"{row}/{column}" for row in "AB" for column in (1, 2)]
    write_plate({well: supplier(well, i) for i, well in enumerate(wells)}, path)
    assert asked == wells
    plate = opened(path)
    pixels = [plate.well(well).ngff.fields["0"].ngff.level(0) for well in wells]
    assert [int(each.max()) for each in pixels] == [0, 1, 2, 3]


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_a_collection(tmp_path: Path, version: str) -> None:
    path = tmp_path / "a.ome.zarr"
    xml = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"/>'
    images = {"label.1": image(1), "macro": lambda: image(2)}
    write_collection(images, path, ome_xml=xml, version=version)
    tree = xr.open_datatree(path)
    assert tree.ngff.kind == "collection"
    found = {name: int(each.ngff.level(0).max()) for name, each in tree.ngff.images.items()}
    assert found == {"label.1": 1, "macro": 2}
    assert (path / "OME" / "METADATA.ome.xml").read_text() == xml
    assert ngff_xarray.validate(path).valid


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({}, "there are no images"),
        ({"A1": []}, "there are no images"),
        ({"A": image()}, "'A' is no well"),
        ({"A/1/0/0": image()}, "is no well"),
        ({"A/../1": image()}, "is no well"),
        ({"A_1/2": image()}, "is no well"),
        ({5: image()}, "'5' is no well"),
        ({"A1": {"a/b": image()}}, "'a/b' cannot be the name of a field"),
        ({"A1": image(), "A/1/0": image()}, "A/1: the field 0 is there twice"),
        ({"A1": np.zeros((3, 3))}, "expected an image .* found ndarray"),
        ({"A1": image().astype("U1")}, "the pixels are <U1: expected numbers"),
    ],
)
def test_what_is_no_plate(tmp_path: Path, images: Mapping, message: str) -> None:
    with pytest.raises(NgffError, match=message):
        write_plate(images, tmp_path / "a.ome.zarr")
    assert not list(tmp_path.iterdir())


def test_what_is_no_collection(tmp_path: Path) -> None:
    for names in ({"OME": image()}, {"a/b": image()}, {"..": image()}, {"": image()}, []):
        with pytest.raises(SelectionError):
            write_collection(names, tmp_path / "a.ome.zarr")
    for wrong in (lambda: 5, lambda: write_plate):
        with pytest.raises(SelectionError, match="0: expected an image"):
            write_collection([wrong], tmp_path / "a.ome.zarr")
        with pytest.raises(IncompleteError):
            xr.open_datatree(tmp_path / "a.ome.zarr", engine="ngff")
    write_collection([image()], tmp_path / "a.ome.zarr")
    plate = opened(tmp_path / "a.ome.zarr")._obj
    with pytest.raises(SelectionError, match="found collection"):
        write_plate({"A1": plate}, tmp_path / "b.ome.zarr")


def test_which_image_is_wrong_is_told(tmp_path: Path) -> None:
    with pytest.raises(NgffError) as caught:
        write_plate({"A1": image(), "B1": image()}, tmp_path / "a", chunks={"q": 3})
    assert "A/1/0" in str(getattr(caught.value, "__notes__", ""))


def test_the_xml_beside_a_plate_is_there_before_the_plate() -> None:
    xml = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"/>'
    store = Watched()
    write_plate({"A1": image()}, store, ome_xml=xml)
    assert xr.open_datatree(store, engine="ngff").ngff.ome_xml == xml
    assert store.changed[-2:] == ["OME/METADATA.ome.xml", "zarr.json"]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_killed_writer_of_a_plate(version: str) -> None:
    wells = {"A1": [image(1), image(2)], "B1": lambda: image(3)}
    whole: dict[str, Any] = {}
    write_plate(wells, Watched(whole), version=version)
    for count in range(10**4):
        keys: dict[str, Any] = {}
        try:
            write_plate(wells, Watched(keys, count), version=version)
        except StoreError:
            with pytest.raises(NgffError):
                opened(Watched(keys))
            write_plate(wells, Watched(keys), version=version)
            assert keys.keys() == whole.keys()
        else:
            break
    assert count > 10
    before = dict(keys)
    seen = set()
    for count in range(10**4):
        keys = dict(before)
        try:
            write_plate({"A1": image(9)}, Watched(keys, count), mode="w", version=version)
        except StoreError:
            pass
        else:
            break
        try:
            plate = opened(Watched(keys))
        except IncompleteError:
            seen.add("incomplete")
            continue
        found = {
            f"{well}/{field}": int(each.ngff.level(0).max())
            for well in plate.wells.index
            for field, each in plate.well(well).ngff.fields.items()
        }
        assert found in ({"A/1/0": 1, "A/1/1": 2, "B/1/0": 3}, {"A/1/0": 9})
        seen.add(len(found))
    assert seen == {"incomplete", 1, 3}
