"""Every kind of group: plates, wells, series, labels, several images in a group, scenes."""

from __future__ import annotations

import html
import json
import pickle
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from servers import CountingServer
from stores import (
    document,
    edit_attributes,
    write_image,
    write_plate,
    write_scene,
    write_series,
    write_several,
)

from ngff_xarray.errors import (
    MetadataError,
    NotOmeError,
    SelectionError,
    StoreError,
    StoreNotFoundError,
)

TINY = {"axes": "cyx", "shape": (2, 8, 10)}  # a field of a well, an image of a series
PLATE_NODES = ["/", "/A", "/B", "/A/1", "/A/2", "/B/1", "/B/2"]

version = pytest.mark.parametrize("version", ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6"])
recent = pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])


def _plate(path: Path, **keywords: Any) -> Path:
    return write_plate(path / "p.ome.zarr", **{"image": TINY, **keywords})


def _series(path: Path, **keywords: Any) -> Path:
    return write_series(path / "s.ome.zarr", **{"image": TINY, **keywords})


def _paths(tree: xr.DataTree) -> list[str]:
    return [node.path for node in tree.subtree]


def _messages(tree: xr.DataTree) -> list[str]:
    return [str(issue) for issue in tree.ngff.issues]


# ---- plates --------------------------------------------------------------------------------------


@version
def test_a_plate_opens_to_its_wells(tmp_path: Path, version: str) -> None:
    plate = xr.open_datatree(_plate(tmp_path, version=version))
    assert plate.ngff.kind == "plate"
    assert plate.ngff.version == version
    assert plate.ngff.rows == ("A", "B")
    assert plate.ngff.columns == ("1", "2")
    assert tuple(plate.ngff.wells["path"]) == ("A/1", "A/2", "B/1", "B/2")
    assert plate.ngff.issues == ()
    assert _paths(plate) == PLATE_NODES
    assert {node.ngff.kind for node in plate["B"].children.values()} == {"well"}
    assert plate["B/1"].attrs["ome"] == {"row": "B", "column": "1"}
    assert plate["B/1"].encoding["ome_version"] == version
    assert plate["B/1"].encoding["source"].endswith("p.ome.zarr/B/1")


@version
def test_a_well_and_its_fields(tmp_path: Path, version: str) -> None:
    path = _plate(tmp_path, version=version)
    well = xr.open_datatree(path).ngff.well("B/1")
    assert well.ngff.kind == "well"
    assert well.ngff.version == version
    assert well.ngff.issues == ()
    assert list(well.ngff.fields) == ["0", "1"]
    for name, field in well.ngff.fields.items():
        assert field.path == "/"
        assert field.ngff.kind == "image"
        stored = zarr.open_array(path / "B" / "1" / name / "0", mode="r")[...]
        np.testing.assert_array_equal(field.ngff.level(0), stored)
        np.testing.assert_array_equal(well[f"{name}/0/image"], stored)


@pytest.mark.parametrize("name", ["B/2", "B2", "/B/2", "B/2/"])
def test_wells_are_found_by_row_and_column(tmp_path: Path, name: str) -> None:
    path = _plate(tmp_path)
    well = xr.open_datatree(path).ngff.well(name)
    xr.testing.assert_equal(well.load(), xr.open_datatree(path / "B" / "2").load())


def test_coordinates_of_a_well_have_the_usual_indexes(tmp_path: Path) -> None:
    level = xr.open_datatree(_plate(tmp_path)).ngff.well("B/2")["0/0"]
    assert set(level.to_dataset().xindexes) == {"c", "y", "x"}


def test_a_well_is_the_same_whether_it_was_open_or_not(tmp_path: Path) -> None:
    path = _plate(tmp_path)
    before = xr.open_datatree(path).ngff.well("B/2")
    after = xr.open_datatree(path, wells="all").ngff.well("B/2")
    xr.testing.assert_identical(before, after)


def test_an_open_well_is_not_read_again(tmp_path: Path) -> None:
    path = _plate(tmp_path)
    plate = xr.open_datatree(path, wells=["A/1"])
    plate["A/1/0/0"]["image"] = plate["A/1/0/0/image"] * 0
    assert int(plate.ngff.well("A/1")["0/0/image"].max()) == 0
    (path / "A" / "1" / "zarr.json").unlink()
    assert list(plate.ngff.well("A/1").ngff.fields) == ["0", "1"]


@pytest.mark.parametrize("wells", [["A/1"], ("A/1",), "A/1"])
def test_some_wells_are_opened(tmp_path: Path, wells: Any) -> None:
    plate = xr.open_datatree(_plate(tmp_path), wells=wells)
    assert [path for path in plate.ngff.wells["path"] if plate[path].children] == ["A/1"]
    assert plate["A/1/0/0/image"].shape == (2, 8, 10)
    assert plate["A/1"].attrs["ome"]["row"] == "A"


def test_all_wells_are_opened(tmp_path: Path) -> None:
    plate = xr.open_datatree(_plate(tmp_path, labels={"cells": {}}), wells="all")
    assert list(plate.ngff.images) == [
        f"{row}/{column}/{field}" for row in "AB" for column in "12" for field in "01"
    ]
    assert list(plate.ngff.images["B/2/1"].ngff.labels) == ["cells"]
    assert plate["B/2/1/labels/cells/1/labels"].shape == (4, 5)


def test_groups_of_a_plate(tmp_path: Path) -> None:
    path = _plate(tmp_path, labels={"cells": {}})
    well = xr.open_datatree(path, group="B/2")
    assert list(well.ngff.fields) == ["0", "1"]
    field = xr.open_datatree(path, group="A/1/0")
    assert field.ngff.kind == "image"
    assert list(field.ngff.labels) == ["cells"]
    dataset = xr.open_dataset(path, group="A/1/1", level=1)
    xr.testing.assert_identical(dataset, xr.open_dataset(path / "A" / "1" / "1", level=1))


@pytest.mark.parametrize(
    "open_well",
    [
        lambda path: xr.open_datatree(path).ngff.well("C/9"),
        lambda path: xr.open_datatree(path, wells=["A/1", "C/9"]),
    ],
)
def test_an_unknown_well_lists_those_there_are(
    tmp_path: Path, open_well: Callable[[Path], xr.DataTree]
) -> None:
    with pytest.raises(SelectionError, match=r"no well 'C/9'.*'A/1', 'A/2', 'B/1', 'B/2'"):
        open_well(_plate(tmp_path))


@version
def test_sparse_plates(tmp_path: Path, version: str) -> None:
    path = _plate(
        tmp_path,
        version=version,
        rows="ABCDEFGH",
        columns=[str(n) for n in range(1, 13)],
        wells=["C/4", "H/12"],
        fields=1,
    )
    plate = xr.open_datatree(path, wells="all")
    assert tuple(plate.ngff.wells["path"]) == ("C/4", "H/12")
    assert len(plate.ngff.rows) == 8
    assert _paths(plate)[:5] == ["/", "/C", "/H", "/C/4", "/H/12"]
    assert plate.ngff.issues == ()
    assert "2 of 96" in repr(plate.ngff)


@recent
def test_missing_wells_and_fields_are_issues_and_nothing_else_breaks(
    tmp_path: Path, version: str
) -> None:
    path = _plate(tmp_path, version=version, missing=["A/2", "B/1/1"])
    plate = xr.open_datatree(path)
    assert plate.ngff.issues == ()  # nothing was looked at
    assert _paths(plate) == PLATE_NODES
    plate = xr.open_datatree(path, wells="all")
    assert [(issue.group, issue.path) for issue in plate.ngff.issues] == [
        ("", "plate.wells"),
        ("B/1", "well.images"),
    ]
    assert "'A/2' cannot be opened" in plate.ngff.issues[0].message
    assert "'1' cannot be opened" in plate.ngff.issues[1].message
    assert list(plate.ngff.images) == ["A/1/0", "A/1/1", "B/1/0", "B/2/0", "B/2/1"]
    assert list(plate.ngff.well("B/1").ngff.fields) == ["0"]
    with pytest.raises(StoreError, match="'A/2' is listed, but there is no group"):
        plate.ngff.well("A/2")
    with pytest.raises(StoreNotFoundError, match="A/2"):
        xr.open_datatree(path, group="A/2")


def test_a_broken_field_is_an_issue_with_its_place(tmp_path: Path) -> None:
    path = _plate(tmp_path)
    edit_attributes(path / "A/1/0", lambda ome: ome["multiscales"][0].update(datasets=5))
    plate = xr.open_datatree(path, wells=["A/1", "A/2"])
    (issue,) = plate.ngff.issues
    assert (issue.group, issue.path) == ("A/1/0", "multiscales[0].datasets")
    assert list(plate.ngff.images) == ["A/1/1", "A/2/0", "A/2/1"]


def test_a_broken_well_is_an_issue_with_its_place(tmp_path: Path) -> None:
    path = _plate(tmp_path)
    edit_attributes(path / "A/1", lambda ome: ome.update(well={"images": 3}))
    (path / "B" / "1" / "zarr.json").write_text("{")
    plate = xr.open_datatree(path, wells="all")
    assert {issue.group for issue in plate.ngff.issues} == {"A/1", "B/1"}
    assert len(plate.ngff.images) == 4


def test_integers_as_paths_of_fields(tmp_path: Path) -> None:
    path = _plate(tmp_path)
    images = [{"path": 0}, {"path": 1}]
    edit_attributes(path / "A/1", lambda ome: ome["well"].update(images=images))
    well = xr.open_datatree(path).ngff.well("A/1")
    assert list(well.ngff.fields) == ["0", "1"]
    assert [issue.path for issue in well.ngff.issues] == [f"well.images[{i}].path" for i in "01"]


ACQUISITIONS = [
    {"id": 1, "name": "first", "maximumfieldcount": 1, "starttime": 1343731272000},
    {"id": 4, "name": "second", "maximumfieldcount": 1, "remark": "unknown key"},
]


@recent
def test_several_acquisitions(tmp_path: Path, version: str) -> None:
    path = _plate(tmp_path, version=version, acquisitions=ACQUISITIONS)
    plate = xr.open_datatree(path, wells="all")
    assert plate.ngff.acquisitions == ACQUISITIONS
    assert plate.ngff.issues == ()
    images = plate.ngff.well("A/2").attrs["ome"]["well"]["images"]
    assert [image["acquisition"] for image in images] == [1, 4]
    assert re.search(r"1 +first\n +4 +second", repr(plate.ngff))


def test_fields_of_no_acquisition_are_issues(tmp_path: Path) -> None:
    path = _plate(tmp_path, acquisitions=ACQUISITIONS)
    edit_attributes(path / "A/1", lambda ome: ome["well"]["images"][0].pop("acquisition"))
    edit_attributes(path / "B/2", lambda ome: ome["well"]["images"][1].update(acquisition=9))
    plate = xr.open_datatree(path, wells="all")
    assert [issue.path for issue in plate.ngff.issues] == [
        "well.images[0].acquisition",
        "well.images[1].acquisition",
    ]
    assert "expected one of [1, 4], found 9" in plate.ngff.issues[1].message


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3"])
def test_early_plates_have_wells_at_any_depth(tmp_path: Path, version: str) -> None:
    path = _plate(tmp_path, version=version, wells=["2020-10-10/A/1"], rows="A", columns="1")
    plate = xr.open_datatree(path)
    assert tuple(plate.ngff.wells["path"]) == ("2020-10-10/A/1",)
    assert plate["2020-10-10/A/1"].attrs["ome"] == {"row": "A", "column": "1"}
    assert list(plate.ngff.well("2020-10-10/A/1").ngff.fields) == ["0", "1"]


def test_what_a_plate_says_is_kept(tmp_path: Path) -> None:
    path = _plate(
        tmp_path,
        plate={"field_count": 9, "strange": [1]},
        ome={"_creator": "me"},
        attributes={"mine": 1},
    )
    attrs = xr.open_datatree(path).attrs
    assert attrs["mine"] == 1
    assert attrs["ome"]["plate"] == document(path)["plate"]
    assert attrs["ome"]["extra"] == {"ome": {"_creator": "me"}}


def test_the_xml_beside_a_plate(tmp_path: Path) -> None:
    path = _plate(tmp_path)
    assert xr.open_datatree(path).ngff.ome_xml is None
    (path / "OME").mkdir()
    (path / "OME" / "METADATA.ome.xml").write_text("<OME/>")
    assert xr.open_datatree(path).ngff.ome_xml == "<OME/>"


def test_a_plate_wins_over_the_layout_of_bioformats2raw(tmp_path: Path) -> None:
    plate = xr.open_datatree(_plate(tmp_path, ome={"bioformats2raw.layout": 3}))
    assert plate.ngff.kind == "plate"
    assert plate.ngff.issues == ()


# ---- large plates --------------------------------------------------------------------------------


def _listed_only(path: Path, count: int) -> Path:
    """Write a plate of which only the wells' list is there."""
    rows = {384: 16, 1536: 32}[count]
    names = [chr(65 + n) if n < 26 else "A" + chr(39 + n) for n in range(rows)]
    columns = [str(n + 1) for n in range(count // rows)]
    wells = [f"{row}/{column}" for row in names for column in columns]
    return write_plate(path / "p.ome.zarr", rows=names, columns=columns, missing=wells)


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@pytest.mark.parametrize(("count", "rows"), [(384, 16), (1536, 32)])
def test_the_repr_of_a_large_plate_is_fast_and_short(tmp_path: Path, count: int, rows: int) -> None:
    plate = xr.open_datatree(_listed_only(tmp_path, count))
    assert len(plate.ngff.wells) == count
    text = repr(plate.ngff)
    assert f"{count} of {count}" in text
    assert text.count("●") == min(rows, 24) * count // rows
    assert len(text.splitlines()) < 40
    assert len(text) < 3000
    assert len(plate.ngff._repr_html_()) < 20_000
    assert min(_seconds(lambda: repr(plate.ngff)) for _ in range(3)) < 0.5
    assert min(_seconds(lambda: plate.ngff._repr_html_()) for _ in range(3)) < 0.5


def test_thousands_of_wells_listed_wrongly(tmp_path: Path) -> None:
    path = _plate(tmp_path, missing=["A/1", "A/2", "B/1", "B/2"])
    wells = [{"path": f"A/{n}", "rowIndex": 0, "columnIndex": 0} for n in range(3000)]
    edit_attributes(path, lambda ome: ome["plate"].update(wells=wells))
    start = time.process_time()
    plate = xr.open_datatree(path)
    with pytest.raises(SelectionError) as caught:
        plate.ngff.well("Z/1")
    assert len(repr(plate.ngff)) < 1000
    assert time.process_time() - start < 10
    assert len(plate.ngff.issues) > 2900
    assert len(str(caught.value)) < 1000


# ---- copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "copied",
    [
        lambda plate: pickle.loads(pickle.dumps(plate)),
        lambda plate: plate.copy(),
        lambda plate: plate.copy(deep=True),
    ],
)
def test_copies_of_a_plate_still_find_their_wells(
    tmp_path: Path, copied: Callable[[xr.DataTree], xr.DataTree]
) -> None:
    plate = xr.open_datatree(_plate(tmp_path, labels={"cells": {}}))
    copy = copied(plate)
    xr.testing.assert_identical(copy, plate)
    xr.testing.assert_identical(copy.ngff.well("B/2"), plate.ngff.well("B/2"))


def test_a_plate_from_nowhere_says_so(tmp_path: Path) -> None:
    plate = xr.open_datatree(_plate(tmp_path))
    rebuilt = xr.DataTree.from_dict(
        {node.path: xr.Dataset(attrs=node.attrs) for node in plate.subtree}
    )
    with pytest.raises(StoreError, match="not known any more"):
        rebuilt.ngff.well("B/2")


def test_a_well_that_is_not_open_says_how_to_open_it(tmp_path: Path) -> None:
    plate = xr.open_datatree(_plate(tmp_path))
    with pytest.raises(NotOmeError, match=r"\.ngff\.well"):
        plate["A/1"].ngff.to_zarr(tmp_path / "b.ome.zarr")


def test_the_fields_of_a_well_that_is_not_open(tmp_path: Path) -> None:
    plate = xr.open_datatree(_plate(tmp_path))
    with pytest.raises(NotOmeError, match=r"\.ngff\.well"):
        _ = plate["A/1"].ngff.fields


# ---- series --------------------------------------------------------------------------------------


@recent
def test_series_come_in_the_order_that_is_listed(tmp_path: Path, version: str) -> None:
    path = _series(tmp_path, version=version, series=["2", "0", "1"], names=["c", "a", "b"])
    tree = xr.open_datatree(path)
    assert tree.ngff.kind == "collection"
    assert tree.ngff.version == version
    assert list(tree.ngff.images) == ["2", "0", "1"]
    assert [image.name for image in tree.ngff.ome.images] == ["c", "a", "b"]
    assert tree.ngff.issues == ()
    for name, image in tree.ngff.images.items():
        stored = zarr.open_array(path / name / "1", mode="r")[...]
        np.testing.assert_array_equal(image.ngff.level(1), stored)
        np.testing.assert_array_equal(tree[f"{name}/1/image"], stored)
    assert xr.open_datatree(path, group="2").ngff.name == "2"


@recent
def test_series_that_are_not_listed_are_found_by_number(tmp_path: Path, version: str) -> None:
    tree = xr.open_datatree(_series(tmp_path, version=version, count=11, listed=False, xml=False))
    assert list(tree.ngff.images) == [str(n) for n in range(11)]
    assert tree.ngff.issues == ()
    assert tree.ngff.ome_xml is None
    tree = xr.open_datatree(_series(tmp_path / "b", version=version, listed=False))
    assert list(tree.ngff.images) == ["0", "1", "2"]
    assert 'Name="image 1"' in tree.ngff.ome_xml


@recent
def test_a_missing_series_is_an_issue(tmp_path: Path, version: str) -> None:
    tree = xr.open_datatree(_series(tmp_path, version=version, missing=["1"]))
    assert list(tree.ngff.images) == ["0", "2"]
    (issue,) = tree.ngff.issues
    assert (issue.path, issue.severity) == ("series", "error")
    assert "'1' cannot be opened" in issue.message


def test_a_series_of_series_without_an_image(tmp_path: Path) -> None:
    tree = xr.open_datatree(_series(tmp_path, missing=["0", "1", "2"]))
    assert tree.ngff.images == {}
    assert len(tree.ngff.issues) == 3
    assert "collection" in repr(tree.ngff)


def test_the_xml_is_text_and_objects(tmp_path: Path) -> None:
    path = _series(tmp_path)
    tree = xr.open_datatree(path)
    text = (path / "OME" / "METADATA.ome.xml").read_text()
    assert tree.ngff.ome_xml == text
    assert tree["OME"].ngff.ome_xml == text
    assert tree.ngff.ome.images[1].pixels.size_x == 10
    with pytest.raises(StoreError, match="no OME-XML"):
        _ = xr.open_datatree(_series(tmp_path / "b", xml=False)).ngff.ome


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_xml_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    path = _series(tmp_path, count=1)
    text = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?><OME Creator="µ"/>'
    (path / "OME" / "METADATA.ome.xml").write_bytes(text.encode(encoding))
    assert xr.open_datatree(path).ngff.ome_xml == text


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
BAD_XML = {
    "too deep": ("<a>" * 200 + "</a>" * 200, "nested deeper"),
    "far too deep": ("<a>" * 1_000_000, "nested deeper"),
    "billion laughs": (f'<!DOCTYPE a [<!ENTITY l0 "l">{LAUGHS}]><a>&l9;</a>', "document type"),
    "a file of ours": ('<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><a>&f;</a>', "type"),
    "no XML": ("<OME", "is no XML"),
    "empty": ("", "is no XML"),
}


@pytest.mark.parametrize(("xml", "reason"), BAD_XML.values(), ids=BAD_XML)
def test_xml_that_only_attacks_look_like_is_refused_fast(
    tmp_path: Path, xml: str, reason: str
) -> None:
    path = _series(tmp_path, count=1)
    (path / "OME" / "METADATA.ome.xml").write_text(xml)
    tree = xr.open_datatree(path)
    assert "collection" in repr(tree.ngff)
    start = time.perf_counter()
    with pytest.raises(MetadataError, match=reason):
        _ = tree.ngff.ome_xml
    with pytest.raises(MetadataError, match=reason):
        _ = tree.ngff.ome
    assert time.perf_counter() - start < 2


def _grow(path: Path, size: int) -> None:
    with (path / "OME" / "METADATA.ome.xml").open("r+b") as file:
        file.truncate(size)


def test_xml_that_is_too_large_is_refused_fast(tmp_path: Path) -> None:
    path = _series(tmp_path, count=1)
    _grow(path, 2**26 + 1)
    tree = xr.open_datatree(path)
    start = time.perf_counter()
    with pytest.raises(MetadataError, match="67108865 bytes long"):
        _ = tree.ngff.ome_xml
    assert time.perf_counter() - start < 5


def test_xml_that_is_too_large_is_not_read_to_its_end(
    tmp_path: Path, server: CountingServer
) -> None:
    path = _series(tmp_path, count=1)
    _grow(path, 2**26 + 2**25)
    tree = xr.open_datatree(f"{server.url}/s.ome.zarr")
    server.clear()
    with pytest.raises(MetadataError, match="bytes long"):
        _ = tree.ngff.ome_xml
    assert sum(request.nbytes for request in server.requests) <= 2**26 + 2**20


# ---- labels --------------------------------------------------------------------------------------


@version
def test_nested_labels(tmp_path: Path, version: str) -> None:
    path = write_image(
        tmp_path / "a.ome.zarr",
        version=version,
        shape=(1, 2, 8, 10),
        levels=2,
        labels={"cells": {}, "sub/deep": {}, "sub/deeper/still": {}},
    )
    tree = xr.open_datatree(path)
    assert list(tree.ngff.labels) == ["cells", "sub/deep", "sub/deeper/still"]
    assert {label.ngff.kind for label in tree.ngff.labels.values()} == {"labels"}
    assert tree["labels"].ngff.kind == "collection"
    assert list(tree["labels/sub/deeper/still/0"].data_vars) == ["labels"]
    assert tree["labels/sub"].attrs == {}
    assert tree.ngff.issues == ()
    source = tree.ngff.labels["sub/deep"].attrs["ome"]["image-label"]["source"]
    assert source == {"image": "../../../"}


@pytest.mark.parametrize("version", ["0.1", "0.4", "0.5", "0.6"])
def test_a_labels_group_on_its_own(tmp_path: Path, version: str) -> None:
    path = write_image(
        tmp_path / "a.ome.zarr",
        version=version,
        shape=(1, 2, 8, 10),
        levels=2,
        labels={"cells": {}, "sub/deep": {}},
    )
    tree = xr.open_datatree(path / "labels", engine="ngff")
    assert tree.ngff.kind == "collection"
    assert list(tree.ngff.images) == ["cells", "sub/deep"]
    assert {image.ngff.kind for image in tree.ngff.images.values()} == {"labels"}
    assert tree.ngff.issues == ()
    xr.testing.assert_identical(tree, xr.open_datatree(path, group="labels"))
    one = xr.open_datatree(path / "labels" / "sub" / "deep")
    assert one.ngff.kind == "labels"
    assert set(one.ngff.colors) == {1, 2, 3, 4, 5}


def _move_labels(path: Path, ome: dict[str, Any] | None) -> None:
    """Put the list of labels outside ``ome``, as ngio does."""
    file = path / "labels" / "zarr.json"
    metadata = json.loads(file.read_text())
    labels = metadata["attributes"]["ome"]["labels"]
    metadata["attributes"] = {"labels": labels, **({} if ome is None else {"ome": ome})}
    file.write_text(json.dumps(metadata))


@pytest.mark.parametrize("ome", [None, {}, {"version": "0.5"}])
def test_labels_outside_ome(tmp_path: Path, ome: dict[str, Any] | None) -> None:
    path = write_image(tmp_path / "a.ome.zarr", labels={"cells": {}, "nuclei": {}}, axes="yx")
    expected = xr.open_datatree(path)
    _move_labels(path, ome)
    tree = xr.open_datatree(path)
    assert list(tree.ngff.labels) == ["cells", "nuclei"]
    xr.testing.assert_identical(tree["labels/cells"], expected["labels/cells"])
    assert any("labels" in (issue.group, issue.path) for issue in tree.ngff.issues)
    tree.ngff.to_zarr(tmp_path / "b.ome.zarr")
    again = xr.open_datatree(tmp_path / "b.ome.zarr")
    assert again.ngff.issues == ()
    assert list(again.ngff.labels) == ["cells", "nuclei"]


@recent
def test_labels_without_a_version(tmp_path: Path, version: str) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version=version, labels={"cells": {}}, axes="yx")
    edit_attributes(path / "labels", lambda ome: ome.pop("version", None))
    tree = xr.open_datatree(path)
    assert list(tree.ngff.labels) == ["cells"]
    assert [issue.path for issue in tree.ngff.issues] == ["version"] * (version != "0.4")


@recent
def test_what_stands_below_labels_is_a_label_image(tmp_path: Path, version: str) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version=version, labels={"cells": {}}, axes="yx")
    edit_attributes(path / "labels" / "cells", lambda ome: ome.pop("image-label"))
    label = xr.open_datatree(path).ngff.labels["cells"]
    assert label.ngff.kind == "labels"
    assert list(label["0"].data_vars) == ["labels"]
    assert label.ngff.colors == {}


def test_an_empty_list_of_labels(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", labels={}, axes="yx", levels=1)
    tree = xr.open_datatree(path)
    assert tree.ngff.labels == {}
    assert tree["0/image"].shape == (50, 62)


# ---- several images in a group -------------------------------------------------------------------

ENTRIES = [
    {"name": "a", "axes": "cyx", "shape": (2, 8, 10), "levels": 2},
    {"name": "b", "axes": "zyx", "shape": (3, 8, 12), "paths": ["b0", "b1"], "scale": (3, 1, 1)},
    {"name": "c", "axes": "yx", "shape": (6, 7), "paths": ["c0"]},
]


@recent
def test_several_images_in_a_group(tmp_path: Path, version: str) -> None:
    path = write_several(tmp_path / "a.ome.zarr", ENTRIES, version=version)
    tree = xr.open_datatree(path)
    assert tree.ngff.name == "a"
    assert [level.shape for level in tree.ngff.levels] == [(2, 8, 10), (2, 4, 5)]
    assert tree.ngff.issues == ()
    several = tree.ngff.multiscales
    assert [image.ngff.name for image in several] == ["a", "b", "c"]
    assert [image.ngff.kind for image in several] == ["image"] * 3
    assert [len(image.ngff.levels) for image in several] == [2, 2, 1]
    assert _paths(several[2]) == ["/", "/c0"]


@pytest.mark.parametrize("which", [0, 1])
def test_several_images_with_nested_paths(tmp_path: Path, which: int) -> None:
    entries = [{**entry, "paths": [f"{entry['name']}/image"]} for entry in ENTRIES]
    path = write_several(tmp_path / "a.ome.zarr", entries)
    tree = xr.open_datatree(path, multiscale=which)
    assert sorted(image.ngff.name for image in tree.ngff.multiscales) == ["a", "b", "c"]


@recent
@pytest.mark.parametrize(("which", "name"), [(0, "a"), (1, "b"), (-1, "c"), ("b", "b"), ("c", "c")])
def test_one_of_several_images(tmp_path: Path, version: str, which: int | str, name: str) -> None:
    path = write_several(tmp_path / "a.ome.zarr", ENTRIES, version=version)
    tree = xr.open_datatree(path, multiscale=which)
    assert tree.ngff.name == name
    assert sorted(image.ngff.name for image in tree.ngff.multiscales) == ["a", "b", "c"]
    others = {image.ngff.name: image for image in xr.open_datatree(path).ngff.multiscales}
    for found, expected in zip(others[name].ngff.levels, tree.ngff.levels, strict=True):
        xr.testing.assert_equal(found, expected)
        assert found["x"].attrs == expected["x"].attrs
    dataset = xr.open_dataset(path, multiscale=which)
    xr.testing.assert_equal(dataset["image"], tree.ngff.level(0))


def test_images_that_the_group_does_not_hold(tmp_path: Path) -> None:
    path = write_several(tmp_path / "a.ome.zarr", ENTRIES)
    with pytest.raises(SelectionError, match=r"'z'; found \['a', 'b', 'c'\]"):
        xr.open_datatree(path, multiscale="z")
    with pytest.raises(MetadataError, match="holds 3 images, there is no number 3"):
        xr.open_datatree(path, multiscale=3)


def test_a_broken_image_does_not_break_the_others(tmp_path: Path) -> None:
    path = write_several(tmp_path / "a.ome.zarr", ENTRIES)
    edit_attributes(path, lambda ome: ome["multiscales"][1].pop("datasets"))
    tree = xr.open_datatree(path)
    assert [image.ngff.name for image in tree.ngff.multiscales] == ["a", "c"]
    assert {issue.path.partition(".")[0] for issue in tree.ngff.issues} == {"multiscales[1]"}
    with pytest.raises(MetadataError, match=r"multiscales\[1\]"):
        xr.open_datatree(path, multiscale=1)


# ---- scenes --------------------------------------------------------------------------------------

MATRIX = np.array([[1.0, 0.5, 2.0], [0.0, 1.0, 3.0]])


def _plane(name: str, *axes: str) -> dict[str, Any]:
    unit = {"type": "space", "unit": "micrometer"}
    return {"name": name, "axes": [{"name": axis, **unit} for axis in axes]}


def _to_world(path: str, name: str = "world") -> dict[str, Any]:
    return {"input": {"name": "physical", "path": path}, "output": {"name": name}}


def _scene(path: Path, **keywords: Any) -> Path:
    tiny = {"axes": "yx", "shape": (8, 10)}
    given = {
        "images": {"one": tiny, "deep/two": tiny},
        "systems": [_plane("world", "y", "x")],
        "transformations": [
            {"type": "affine", "path": "coordinateTransformations/m", **_to_world("one")},
            {
                "type": "displacements",
                "path": "coordinateTransformations/f",
                **_to_world("deep/two"),
            },
        ],
        "parameters": {
            "coordinateTransformations/m": MATRIX,
            "coordinateTransformations/f": {"field": np.ones((2, 8, 10))},
        },
    }
    return write_scene(path / "s.ome.zarr", **{**given, **keywords})


def test_a_scene_opens_to_its_images_and_parameters(tmp_path: Path) -> None:
    path = _scene(tmp_path)
    tree = xr.open_datatree(path)
    assert tree.ngff.kind == "scene"
    assert tree.ngff.version == "0.6"
    assert tree.ngff.issues == ()
    assert tree.attrs["ome"]["scene"] == document(path)["scene"]
    np.testing.assert_array_equal(tree["coordinateTransformations/m/parameters"], MATRIX)
    field = tree["coordinateTransformations/f"]
    assert [axis.type for axis in field.ngff.axes] == ["displacement", "space", "space"]
    assert tree["deep/two/1/image"].shape == (4, 5)


def test_the_images_of_a_scene_are_not_its_parameters(tmp_path: Path) -> None:
    tree = xr.open_datatree(_scene(tmp_path))
    assert list(tree.ngff.images) == ["one", "deep/two"]
    assert "coordinateTransformations" not in repr(tree.ngff)


def test_a_missing_image_of_a_scene_is_an_issue(tmp_path: Path) -> None:
    path = _scene(tmp_path, images={"deep/two": {"axes": "yx", "shape": (8, 10)}})
    tree = xr.open_datatree(path)
    (issue,) = tree.ngff.issues
    assert "'one' cannot be opened" in issue.message
    assert "deep/two" in tree.ngff.images


def test_missing_parameters_of_a_scene_are_an_issue(tmp_path: Path) -> None:
    tree = xr.open_datatree(_scene(tmp_path, parameters={}))
    messages = " ".join(_messages(tree))
    assert "'coordinateTransformations/m' cannot be opened" in messages
    assert "'coordinateTransformations/f' cannot be opened" in messages
    assert list(tree.ngff.images) == ["one", "deep/two"]


def test_a_reference_to_a_system_that_the_image_does_not_have(tmp_path: Path) -> None:
    link = {"type": "identity", **_to_world("one")}
    link["input"]["name"] = "other"
    path = _scene(tmp_path, transformations=[link], parameters={})
    (issue,) = xr.open_datatree(path).ngff.issues
    assert issue.path == "scene.coordinateTransformations[0].input"
    assert "'one' has no system 'other', only ['physical']" in issue.message


@pytest.mark.parametrize("stated", ["0.6.dev1", "0.6.dev2"])
def test_drafts_of_scenes_stand_in_the_group_itself(tmp_path: Path, stated: str) -> None:
    link = {"type": "translation", "translation": [1, 2], "input": "one/physical"}
    path = _scene(
        tmp_path,
        transformations=[{**link, "output": "world"}],
        parameters={},
        images={"one": {"axes": "yx", "shape": (8, 10)}},
        stated=stated,
    )
    edit_attributes(path, lambda ome: ome.update(ome.pop("scene")))
    tree = xr.open_datatree(path)
    assert tree.ngff.kind == "scene"
    expected = {"type": "translation", "translation": [1, 2], **_to_world("one")}
    assert tree.attrs["ome"]["scene"]["coordinateTransformations"] == [expected]
    assert list(tree.ngff.images) == ["one"]


# ---- reprs ---------------------------------------------------------------------------------------

EVIL = "\x1b[31mEVIL\u202e\x00</td><script>alert(1)</script>"
KIND_OF = {
    "plate": "plate",
    "well": "well",
    "series": "collection",
    "labels": "collection",
    "image": "image",
    "label": "label image",
    "scene": "scene",
}


def _of_kind(path: Path, kind: str, name: str) -> xr.DataTree:
    image = {**TINY, "multiscale": {"name": name}}
    if kind in ("plate", "well"):
        named = [{"id": 1, "name": name}]
        plate = _plate(path, image=image, plate={"name": name}, acquisitions=named)
        return xr.open_datatree(plate, **({"group": "A/1"} if kind == "well" else {}))
    if kind == "series":
        return xr.open_datatree(_series(path, image=image))
    if kind == "scene":
        link = {"type": "identity", **_to_world("one", name)}
        systems = [_plane(name, "y" + name, "x")]
        tiny = {**image, "axes": "yx", "shape": (8, 10)}
        return xr.open_datatree(
            _scene(
                path, images={"one": tiny}, transformations=[link], systems=systems, parameters={}
            )
        )
    omero = {"channels": [{"label": name}, {"label": name}]}
    stored = write_image(path / "a.ome.zarr", labels={"cells": {}}, omero=omero, levels=2, **image)
    edit_attributes(stored / "labels/cells", lambda ome: ome["multiscales"][0].update(name=name))
    group = {"image": None, "label": "labels/cells", "labels": "labels"}[kind]
    return xr.open_datatree(stored, group=group)


@pytest.mark.parametrize("kind", KIND_OF)
def test_reprs_of_every_kind_show_names(tmp_path: Path, kind: str) -> None:
    tree = _of_kind(tmp_path, kind, "Muster & Söhne")
    text, page = repr(tree.ngff), tree.ngff._repr_html_()
    assert text.startswith(f"OME-Zarr {tree.ngff.version} {KIND_OF[kind]}")
    assert "Muster & Söhne" in text
    assert "Muster &amp; Söhne" in page
    assert html.escape(str(tmp_path)) in page


@pytest.mark.parametrize("kind", KIND_OF)
def test_reprs_of_every_kind_escape_control_characters(tmp_path: Path, kind: str) -> None:
    tree = _of_kind(tmp_path, kind, EVIL)
    text, page = repr(tree.ngff), tree.ngff._repr_html_()
    for shown in (text, page):
        assert "EVIL" in shown
        assert not [letter for letter in shown if letter != "\n" and not letter.isprintable()]
    assert "<script" not in page


def test_ids_of_acquisitions_are_escaped_too(tmp_path: Path) -> None:
    plate = xr.open_datatree(_plate(tmp_path, acquisitions=[{"id": EVIL}]))
    for shown in (repr(plate.ngff), plate.ngff._repr_html_()):
        assert not [letter for letter in shown if letter != "\n" and not letter.isprintable()]


def test_names_of_rows_wells_and_paths_are_escaped_too(tmp_path: Path) -> None:
    path = _plate(tmp_path, version="0.3", missing=["A/1", "A/2", "B/1", "B/2"])
    name = "\x1b[31mR\u202e"
    plate = {"rows": [{"name": name}], "wells": [{"path": f"{name}/1"}]}
    edit_attributes(path, lambda ome: ome["plate"].update(plate))
    tree = xr.open_datatree(path)
    for shown in (repr(tree.ngff), repr(tree[f"{name}/1"].ngff), *_messages(tree)):
        assert not [letter for letter in shown if letter != "\n" and not letter.isprintable()]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("plate", "plate"),
        ("well", "well"),
        ("series", "collection"),
        ("labels", "collection"),
        ("image", "image"),
        ("label", "labels"),
        ("scene", "scene"),
    ],
)
def test_kinds_survive_pickling_and_copying(tmp_path: Path, kind: str, expected: str) -> None:
    tree = _of_kind(tmp_path, kind, "name")
    assert tree.ngff.kind == expected
    for copy in (tree.copy(), tree.copy(deep=True), pickle.loads(pickle.dumps(tree))):
        assert copy.ngff.kind == expected
        assert copy.ngff.version == tree.ngff.version
        xr.testing.assert_identical(copy, tree)
