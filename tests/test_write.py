"""Writing: what was read comes back the same, and what cannot be said is refused."""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr
from conftest import OMERO
from stores import (
    AXES,
    document,
    edit_attributes,
    write_array,
    write_field,
    write_image,
    write_plate,
    write_scene,
    write_series,
    write_several,
)
from test_support import check_elsewhere
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec

import ngff_xarray
from ngff_xarray.errors import StoreError, UnsupportedError

VERSIONS = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6")
WRITTEN = ("0.4", "0.5", "0.6")
TINY = {"axes": "cyx", "shape": (2, 8, 10)}
STRANGE = {"strange": {"deep": [1, None, "µ"]}}

PAIRS = [("0.4", "0.5"), ("0.5", "0.6"), ("0.6", "0.4")]  # from each version and to each

written_version = pytest.mark.parametrize("version", WRITTEN)


def _image(path: Path, **keywords: Any) -> Path:
    return write_image(path / "a.ome.zarr", **{**TINY, "levels": 2, **keywords})


def _again(obj: Any, path: Path, **options: Any) -> xr.DataTree:
    """Return an object as it is read back after writing."""
    obj.ngff.to_zarr(path / "again.ome.zarr", **options)
    return xr.open_datatree(path / "again.ome.zarr", engine="ngff")


def _plain(ome: Any) -> Any:
    """Return what an object says without what only some versions spell out.

    Until 0.3 rows and columns need not be all that the wells name.
    """
    ome = {k: v for k, v in ome.items() if k not in ("intrinsic", "coordinateSystems")}
    if "plate" in ome:
        indices = ("rowIndex", "columnIndex")
        wells = [
            {k: v for k, v in well.items() if k not in indices} for well in ome["plate"]["wells"]
        ]
        ome["plate"] = {**ome["plate"], "wells": wells, "rows": [], "columns": []}
    return ome


def _alike(tree: xr.DataTree) -> xr.DataTree:
    """Return a tree in which the same thing of two versions is identical.

    The attributes of arrays are left out: in Zarr v2 they are not read.
    """
    nodes = {}
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False)
        pixels = {name: array.drop_attrs(deep=False) for name, array in dataset.data_vars.items()}
        dataset = dataset.assign(pixels)
        if isinstance(node.attrs.get("ome"), dict):
            dataset.attrs = {**dataset.attrs, "ome": _plain(node.attrs["ome"])}
        nodes[node.path] = dataset
    return xr.DataTree.from_dict(nodes)


def _level_paths(tree: xr.DataTree) -> dict[str, Any]:
    found = {node.path: node.encoding.get("level_paths") for node in tree.subtree}
    return {path: paths for path, paths in found.items() if paths is not None}


def _assert_same(found: xr.DataTree, expected: xr.DataTree, version: str) -> None:
    same = found.ngff.version == expected.ngff.version
    for tree in (found, expected):
        tree.load()
    if same:
        xr.testing.assert_identical(found, expected)
    xr.testing.assert_identical(_alike(found), _alike(expected))
    assert found.ngff.version == version
    assert found.ngff.kind == expected.ngff.kind
    assert found.ngff.name == expected.ngff.name
    assert _level_paths(found) == _level_paths(expected)
    assert [node.path for node in found.subtree] == [node.path for node in expected.subtree]


# ---- every kind from every version to every one that is written ----------------------------------

RICH: dict[str, Any] = {
    "omero": {**OMERO, "id": 7, "name": "x.tif"},
    "multiscale": {"type": "gaussian", "metadata": {"sigma": 1}},
    "ome": {"_creator": {"name": "tests"}},
    "attributes": {"mine": {"objective": 63}},
}
PLANE = {"type": "space", "unit": "micrometer"}


def _rich_image(path: Path, version: str) -> Path:
    labels = {"cells": {}, "sub/deep": {"dtype": "uint8"}}
    paths = ["scale0/image", "scale1/image"]
    return _image(
        path,
        version=version,
        labels=labels,
        paths=paths,
        axes="tczyx",
        shape=(2, 2, 2, 8, 10),
        **RICH,
    )


def _rich_plate(path: Path, version: str) -> Path:
    image = {"axes": "yx", "shape": (8, 10)}
    named = [{"id": 1, "name": "first", "maximumfieldcount": 1, "remark": "mine"}]
    return write_plate(
        path / "p.ome.zarr",
        version=version,
        labels={"cells": {}},
        image=image,
        missing=["A/2", "B/1/1"],
        acquisitions=named,
        plate=STRANGE,
        attributes={"mine": 1},
    )


def _rich_series(path: Path, version: str) -> Path:
    return write_series(
        path / "s.ome.zarr",
        version=version,
        image=TINY,
        series=["1", "0", "2"],
        missing=["2"],
        attributes={"mine": 1},
    )


SCENE_LINKS = [
    {"type": "affine", "path": "coordinateTransformations/m"},
    {"type": "displacements", "path": "coordinateTransformations/f", "interpolation": "linear"},
]


def _rich_scene(path: Path, version: str = "0.6") -> Path:
    ends = [
        {"input": {"name": "physical", "path": name}, "output": {"name": "world"}}
        for name in ("one", "deep/two")
    ]
    axes = [{"name": name, **PLANE} for name in "yx"]
    tiny = {"axes": "yx", "shape": (8, 10)}
    return write_scene(
        path / "s.ome.zarr",
        images={"one": tiny, "deep/two": tiny},
        systems=[{"name": "world", "axes": axes}],
        transformations=[{**link, **end} for link, end in zip(SCENE_LINKS, ends, strict=True)],
        parameters={
            "coordinateTransformations/m": np.array([[1.0, 0.5, 2], [0, 1, 3]]),
            "coordinateTransformations/f": {"field": np.ones((2, 8, 10))},
        },
        attributes={"mine": 1},
    )


KINDS: dict[str, Callable[[Path, str], Path]] = {
    "image": _rich_image,
    "plate": _rich_plate,
    "series": _rich_series,
}


def _every_way() -> list[tuple[str, str, str]]:
    """Return kind, version and target: from each version and to each."""
    fewer = [("0.1", "0.6"), ("0.2", "0.5"), ("0.3", "0.4"), ("0.4", "0.6"), ("0.5", "0.5")]
    fewer += [("0.6", "0.4")]
    images = [*fewer, *PAIRS, *zip(WRITTEN, WRITTEN, strict=True)]
    all_ways = [("image", *way) for way in dict.fromkeys(images)]
    return all_ways + [(kind, *way) for kind in ("plate", "series") for way in fewer]


@pytest.mark.parametrize(("kind", "version", "target"), _every_way())
def test_what_was_read_comes_back_the_same(
    tmp_path: Path, kind: str, version: str, target: str
) -> None:
    path = KINDS[kind](tmp_path, version)
    options = {"wells": "all"} if kind == "plate" else {}
    tree = xr.open_datatree(path, **options)
    written = tmp_path / "again.ome.zarr"
    tree.ngff.to_zarr(written, version=target)
    again = xr.open_datatree(written, **options)
    _assert_same(again, tree, target)
    if kind == "plate":
        assert (again.ngff.rows, again.ngff.columns) == (tree.ngff.rows, tree.ngff.columns)
    if version == target:
        assert document(written) == document(path)
        assert _faults(again) == _faults(tree)


def _faults(tree: xr.DataTree) -> list[str]:
    return [str(issue) for issue in tree.ngff.issues]


def test_a_scene_comes_back_the_same(tmp_path: Path) -> None:
    path = _rich_scene(tmp_path)
    tree = xr.open_datatree(path)
    again = _again(tree, tmp_path)
    _assert_same(again, tree, "0.6")
    assert document(tmp_path / "again.ome.zarr") == document(path)
    assert again.ngff.issues == ()


ENTRIES = [
    {"name": "a", **TINY, "levels": 2},
    {"name": "b", "axes": "zyx", "shape": (3, 8, 12), "paths": ["b0", "deep/b1"]},
]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    ("version", "target"), [*zip(WRITTEN, WRITTEN, strict=True), ("0.4", "0.5"), ("0.5", "0.4")]
)
def test_several_images_come_back_the_same(
    tmp_path: Path, version: str, target: str, which: int
) -> None:
    path = write_several(tmp_path / "a.ome.zarr", ENTRIES, version=version)
    tree = xr.open_datatree(path, multiscale=which)
    again = _again(tree, tmp_path, version=target)  # the one that was opened comes first
    assert again.ngff.name == ENTRIES[which]["name"]
    assert again.ngff.version == target
    assert {node.path for node in again.subtree} == {node.path for node in tree.subtree}
    for level in ("0", "1", "b0", "deep/b1"):
        xr.testing.assert_equal(again[level].to_dataset(), tree[level].to_dataset())
    if version == target and not which:
        assert document(tmp_path / "again.ome.zarr") == document(path)


@pytest.mark.parametrize(("group", "kind"), [("labels", "collection"), ("labels/cells", "labels")])
@written_version
def test_labels_alone_come_back_the_same(
    tmp_path: Path, version: str, group: str, kind: str
) -> None:
    path = _image(tmp_path, version=version, labels={"cells": {}, "sub/deep": {}})
    for tree in (xr.open_datatree(path, group=group), xr.open_datatree(path)[group]):
        again = _again(tree, tmp_path)
        assert again.ngff.kind == kind
        assert document(tmp_path / "again.ome.zarr") == document(path / group)
        xr.testing.assert_identical(again.load(), xr.open_datatree(path, group=group).load())
        shutil.rmtree(tmp_path / "again.ome.zarr")


@written_version
def test_wells_alone_come_back_the_same(tmp_path: Path, version: str) -> None:
    path = _rich_plate(tmp_path, version)
    well = xr.open_datatree(path).ngff.well("B/2")
    again = _again(well, tmp_path)
    xr.testing.assert_equal(again.load(), well.load())
    assert document(tmp_path / "again.ome.zarr") == document(path / "B" / "2")


@written_version
def test_wells_that_were_not_opened_are_written_too(tmp_path: Path, version: str) -> None:
    path = _rich_plate(tmp_path, version)
    xr.open_datatree(path, wells=["A/1"]).ngff.to_zarr(tmp_path / "again.ome.zarr")
    again = xr.open_datatree(tmp_path / "again.ome.zarr", wells="all")
    _assert_same(again, xr.open_datatree(path, wells="all"), version)


@written_version
def test_the_xml_is_copied_byte_by_byte(tmp_path: Path, version: str) -> None:
    path = write_series(tmp_path / "s.ome.zarr", version=version, image=TINY, count=1)
    xml = '<?xml version="1.0" encoding="UTF-16"?>\n<OME Creator="µ"/>\n'.encode("utf-16")
    (path / "OME" / "METADATA.ome.xml").write_bytes(xml)
    _again(xr.open_datatree(path), tmp_path)
    assert (tmp_path / "again.ome.zarr" / "OME" / "METADATA.ome.xml").read_bytes() == xml


def test_xml_that_is_refused_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = write_series(tmp_path / "s.ome.zarr", image=TINY, count=1, xml="<OME")
    with pytest.raises(ngff_xarray.NgffError, match="is no XML"):
        _again(xr.open_datatree(path), tmp_path)
    assert not (tmp_path / "again.ome.zarr").exists()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_version_is_that_of_the_store_where_it_is_written_still(
    tmp_path: Path, version: str
) -> None:
    tree = xr.open_datatree(_image(tmp_path, version=version, axes="tczyx", shape=(1, 2, 1, 8, 10)))
    assert _again(tree, tmp_path).ngff.version == (version if version in WRITTEN else "0.5")


@pytest.mark.parametrize("version", ["0.1", "0.3", "0.7", "1", ""])
def test_versions_that_are_not_written(tmp_path: Path, version: str) -> None:
    tree = xr.open_datatree(_image(tmp_path))
    with pytest.raises(UnsupportedError, match=r"expected one of 0\.4, 0\.5, 0\.6"):
        _again(tree, tmp_path, version=version)
    assert not (tmp_path / "again.ome.zarr").exists()


# ---- the specification's own documents -----------------------------------------------------------

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"
needs_corpus = pytest.mark.skipif(
    not CORPUS.is_dir(), reason=f"the specification's documents are not at {CORPUS}"
)
INDEX = json.loads((CORPUS / "index.json").read_text()) if CORPUS.is_dir() else []
PARAMETERS = {"affine": (0, 1), "rotation": (0, 0)}  # rows and columns beyond the axes


def _valid() -> list[Any]:
    kinds = ("image", "label", "plate", "well", "bf2raw", "ome-series", "scene", "transform")
    found = [
        pytest.param(case, id=case["id"])
        for case in INDEX
        if case["expected_prose"] == "valid" and case["kind"] in kinds
    ]
    return found or [pytest.param({}, id="missing")]


def _axes(entry: dict[str, Any]) -> list[Any]:
    """Return the axes that the levels of an object of multiscales have."""
    systems = {system["name"]: system["axes"] for system in entry.get("coordinateSystems", [])}
    if systems:
        (link,) = entry["datasets"][0]["coordinateTransformations"]
        output = link["output"]
        return systems[output["name"] if isinstance(output, dict) else output]
    return entry.get("axes") or list("tczyx")


def _links(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all transformations of a document that keep parameters in arrays."""
    if isinstance(value, dict):
        if isinstance(value.get("path"), str) and isinstance(value.get("type"), str):
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _links(item)


def _write_parameters(path: Path, link: dict[str, Any], ndim: int) -> None:
    if link["type"] in PARAMETERS:
        rows, columns = PARAMETERS[link["type"]]
        write_array(path / link["path"].strip("/"), np.eye(ndim + rows, ndim + columns))
        return
    kind = {"displacements": "displacement", "coordinates": "coordinate"}[link["type"]]
    axes = [{"name": f"a{i}", **PLANE} for i in range(ndim)]
    write_field(path / link["path"].strip("/"), np.ones((ndim, *[4] * ndim)), kind=kind, axes=axes)


def _store(path: Path, case: dict[str, Any]) -> Path:
    """Write a document as the attributes of a group, and small arrays where it lists levels."""
    attributes = json.loads((CORPUS / case["path"]).read_text())
    ome = attributes.get("ome", attributes) if case["form"] == "v3" else attributes
    version = {"v2": case["spec_version"], "v3": "0.5"}[case["form"]]
    path.mkdir()
    if case["form"] == "v2":
        (path / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
        (path / ".zattrs").write_text(json.dumps(attributes))
    else:
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        (path / "zarr.json").write_text(json.dumps(group))
    ndim = 2
    for entry in ome.get("multiscales", []):
        axes = _axes(entry)
        ndim = len(axes)
        names = [axis if isinstance(axis, str) else axis["name"] for axis in axes]
        channels = len(ome.get("omero", {}).get("channels", [])) or 2
        for i, level in enumerate(entry["datasets"]):
            shape = [channels if _is_channel(axis) else 4 - min(i, 2) for axis in axes]
            pixels = np.arange(np.prod(shape)).reshape(shape).astype("uint16") + i
            write_array(path / str(level["path"]), pixels, version=version, names=names)
    for link in _links(ome):
        _write_parameters(path, link, ndim)
    return path


def _is_channel(axis: Any) -> bool:
    return axis == "c" if isinstance(axis, str) else axis.get("type") == "channel"


def _said(ome: dict[str, Any]) -> dict[str, Any]:
    """Return a document without its version and where its levels lie, which is told by coordinates.

    Version strings stand in other places than in the document that was read, and the scales and
    translations of levels are written composed.
    """
    ome = {k: v for k, v in ome.items() if k != "version"}
    for key in ("omero", "image-label", "plate", "well"):
        if key in ome:
            ome[key] = {k: v for k, v in ome[key].items() if k != "version"}
    if "multiscales" in ome:
        ome["multiscales"] = [_said_of_image(entry) for entry in ome["multiscales"]]
    return ome


def _said_of_image(entry: dict[str, Any]) -> dict[str, Any]:
    placed = "coordinateTransformations"
    dropped = {"version", *([] if "coordinateSystems" in entry else [placed])}
    datasets = [{k: v for k, v in level.items() if k != placed} for level in entry["datasets"]]
    return {**{k: v for k, v in entry.items() if k not in dropped}, "datasets": datasets}


@needs_corpus
@pytest.mark.parametrize("case", _valid())
def test_documents_of_the_specification_come_back(tmp_path: Path, case: dict[str, Any]) -> None:
    path = _store(tmp_path / "a.ome.zarr", case)
    tree = xr.open_datatree(path, engine="ngff")
    target = tree.ngff.version if tree.ngff.version in WRITTEN else "0.4"
    again = _again(tree, tmp_path, version=target)
    _assert_same(again, tree, target)
    if tree.ngff.version == target:
        assert _said(document(tmp_path / "again.ome.zarr")) == _said(document(path))


@needs_corpus
@pytest.mark.parametrize(
    "case",
    [
        case
        for case in _valid()
        if case.values[0].get("spec_version") in ("0.4", "0.5")
        and case.values[0].get("kind") in ("image", "label", "plate", "bf2raw")
    ],
)
def test_documents_of_the_specification_come_back_from_another_version(
    tmp_path: Path, case: dict[str, Any]
) -> None:
    tree = xr.open_datatree(_store(tmp_path / "a.ome.zarr", case), engine="ngff")
    target = dict(PAIRS)[case["spec_version"]]
    there = _again(tree, tmp_path, version=target)
    _assert_same(there, tree, target)
    (tmp_path / "back").mkdir()
    back = _again(there, tmp_path / "back", version=case["spec_version"])
    _assert_same(back, tree, case["spec_version"])


# ---- nothing is lost -----------------------------------------------------------------------------

Places = Callable[[dict[str, Any]], Any]


def _entry(ome: dict[str, Any]) -> dict[str, Any]:
    return ome["multiscales"][0]


def _transformation(ome: dict[str, Any]) -> dict[str, Any]:
    return _entry(ome)["datasets"][1]["coordinateTransformations"][0]


def _axis(ome: dict[str, Any]) -> dict[str, Any]:
    entry = _entry(ome)
    return (entry if "axes" in entry else entry["coordinateSystems"][0])["axes"][1]


def _channel(ome: dict[str, Any]) -> dict[str, Any]:
    return ome["omero"]["channels"][1]


PLACES: dict[str, Places] = {
    "the top level": lambda ome: ome,
    "the image": _entry,
    "its metadata": lambda ome: _entry(ome).setdefault("metadata", {}),
    "an axis": _axis,
    "a level": lambda ome: _entry(ome)["datasets"][1],
    "a transformation": _transformation,
    "omero": lambda ome: ome["omero"],
    "a channel": _channel,
    "its window": lambda ome: _channel(ome)["window"],
    "rdefs": lambda ome: ome["omero"]["rdefs"],
}


def _put(path: Path, places: Mapping[str, Places]) -> None:
    """Put a key that nobody knows at each of the places of a group's document."""

    def edit(ome: dict[str, Any]) -> None:
        for find in places.values():
            find(ome).update(STRANGE)

    edit_attributes(path, edit)


def _lost(path: Path, places: Mapping[str, Places]) -> list[str]:
    """Return the places that have lost it."""
    found = document(path)
    return [place for place, find in places.items() if "strange" not in find(found)]


@written_version
def test_unknown_keys_of_images_survive(tmp_path: Path, version: str) -> None:
    path = _image(tmp_path, version=version, omero=OMERO)
    _put(path, PLACES)
    tree = xr.open_datatree(path)
    assert tree.ngff.issues == ()
    _again(tree, tmp_path)
    assert _lost(tmp_path / "again.ome.zarr", PLACES) == []
    assert document(tmp_path / "again.ome.zarr") == document(path)


# until 0.4 the top level is everybody's; a scale of 0.5 stands in a sequence in 0.6, or is one
@pytest.mark.parametrize(("version", "target"), PAIRS)
def test_unknown_keys_of_images_survive_on_the_way_to_another_version(
    tmp_path: Path, version: str, target: str
) -> None:
    path = _image(tmp_path, version=version, omero=OMERO)
    common = {k: v for k, v in PLACES.items() if k not in ("the top level", "a transformation")}
    _put(path, common)
    _again(xr.open_datatree(path), tmp_path, version=target)
    assert _lost(tmp_path / "again.ome.zarr", common) == []


@pytest.mark.parametrize(("version", "target"), PAIRS)
def test_unknown_keys_of_transformations_survive_on_the_way_to_another_version(
    tmp_path: Path, version: str, target: str
) -> None:
    path = _image(tmp_path, version=version)
    edit_attributes(path, lambda ome: _transformation(ome).update(STRANGE))
    _again(xr.open_datatree(path), tmp_path, version=target)
    assert "strange" in json.dumps(document(tmp_path / "again.ome.zarr"))


LABEL_PLACES: dict[str, Places] = {
    "image-label": lambda ome: ome["image-label"],
    "a colour": lambda ome: ome["image-label"]["colors"][1],
    "a property": lambda ome: ome["image-label"]["properties"][1],
    "the source": lambda ome: ome["image-label"]["source"],
}


@written_version
def test_unknown_keys_of_labels_survive(tmp_path: Path, version: str) -> None:
    path = _image(tmp_path, version=version, labels={"cells": {}})
    _put(path / "labels" / "cells", LABEL_PLACES)
    _again(xr.open_datatree(path), tmp_path)
    written = tmp_path / "again.ome.zarr" / "labels" / "cells"
    assert _lost(written, LABEL_PLACES) == []
    assert document(written) == document(path / "labels" / "cells")


SYSTEM_PLACES: dict[str, Places] = {
    "a system": lambda ome: _entry(ome)["coordinateSystems"][1],
    "its axis": lambda ome: _entry(ome)["coordinateSystems"][1]["axes"][0],
    "the intrinsic system": lambda ome: _entry(ome)["coordinateSystems"][0],
    "a transformation beyond": lambda ome: _entry(ome)["coordinateTransformations"][0],
    "a sequence": _transformation,
    "a step of it": lambda ome: _transformation(ome)["transformations"][1],
}
WORLD = {"name": "world", "axes": [{"name": name, **PLANE} for name in "yx"]}
SHEAR = {
    "type": "affine",
    "affine": [[1, 0.5, 2], [0, 1, 3]],
    "input": {"name": "physical"},
    "output": {"name": "world"},
}
SHEARED: dict[str, Any] = {
    "axes": "yx",
    "shape": (8, 10),
    "systems": [WORLD],
    "transformations": [SHEAR],
}


def test_unknown_keys_of_systems_survive(tmp_path: Path) -> None:
    path = _image(tmp_path, version="0.6", **SHEARED)
    _put(path, SYSTEM_PLACES)
    _again(xr.open_datatree(path), tmp_path)
    assert _lost(tmp_path / "again.ome.zarr", SYSTEM_PLACES) == []
    assert document(tmp_path / "again.ome.zarr") == document(path)


def _name_the_steps(path: Path, translation: list[float], shift_name: dict[str, str]) -> None:
    def edit(ome: dict[str, Any]) -> None:
        link = _transformation(ome)
        link["name"] = "both"
        scale, shift = link["transformations"]
        scale["name"] = "scale"
        shift |= {"translation": translation, **shift_name}

    edit_attributes(path, edit)


def test_every_step_keeps_its_own_name(tmp_path: Path) -> None:
    path = _image(tmp_path, version="0.6", axes="yx", shape=(8, 10), levels=2)
    _name_the_steps(path, [0.25, 0.25], {"name": "shift"})
    _again(xr.open_datatree(path), tmp_path)
    assert document(tmp_path / "again.ome.zarr") == document(path)


def test_every_step_keeps_its_own_name_where_nothing_is_shifted(tmp_path: Path) -> None:
    path = _image(tmp_path, version="0.6", axes="yx", shape=(8, 10), levels=2)
    _name_the_steps(path, [0, 0], {})
    _again(xr.open_datatree(path), tmp_path)
    assert document(tmp_path / "again.ome.zarr") == document(path)


GROUP_PLACES: dict[str, tuple[str, Places]] = {
    "the top level": ("", lambda ome: ome),
    "the plate": ("", lambda ome: ome["plate"]),
    "a row": ("", lambda ome: ome["plate"]["rows"][1]),
    "a column": ("", lambda ome: ome["plate"]["columns"][1]),
    "a well of the plate": ("", lambda ome: ome["plate"]["wells"][3]),
    "an acquisition": ("", lambda ome: ome["plate"]["acquisitions"][0]),
    "the top level of a well": ("B/2", lambda ome: ome),
    "a well": ("B/2", lambda ome: ome["well"]),
    "a field of it": ("B/2", lambda ome: ome["well"]["images"][1]),
    "a field": ("B/2/1", lambda ome: ome["multiscales"][0]),
    "a list of labels": ("B/2/1/labels", lambda ome: ome),
}


@written_version
def test_unknown_keys_of_plates_survive(tmp_path: Path, version: str) -> None:
    path = _rich_plate(tmp_path, version)
    for group, find in GROUP_PLACES.values():
        _put(path / group, {"here": find})
    _again(xr.open_datatree(path, wells=["B/2"]), tmp_path)
    for place, (group, find) in GROUP_PLACES.items():
        assert _lost(tmp_path / "again.ome.zarr" / group, {place: find}) == []
        assert document(tmp_path / "again.ome.zarr" / group) == document(path / group)


@pytest.mark.parametrize("group", ["", "OME", "1"])
@written_version
def test_unknown_keys_of_series_survive(tmp_path: Path, version: str, group: str) -> None:
    path = _rich_series(tmp_path, version)
    edit_attributes(path / group, lambda ome: ome.update(STRANGE))
    _again(xr.open_datatree(path), tmp_path)
    assert document(tmp_path / "again.ome.zarr" / group) == document(path / group)


def _attributes(path: Path, version: str) -> dict[str, Any]:
    """Return the attributes of a group or an array that are not OME's."""
    if version == "0.4":
        file = path / ".zattrs"
        found = json.loads(file.read_text()) if file.exists() else {}
    else:
        found = json.loads((path / "zarr.json").read_text())["attributes"]
    return {key: value for key, value in found.items() if key in ("mine", "array")}


CHANGES: dict[str, Callable[[xr.DataTree], xr.DataTree]] = {
    "as it is": lambda tree: tree,
    "copied": lambda tree: tree.copy(),
    "loaded": lambda tree: tree.load(),
    "cropped": lambda tree: tree.ngff.crop(x=slice(1, 3)),
    "a channel": lambda tree: tree.isel(c=[1]),
    "computed": lambda tree: tree.ngff.map(lambda array: array + 1),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("version", "target"), [*PAIRS, ("0.4", "0.4")])
def test_attributes_that_are_not_omes_survive(
    tmp_path: Path, version: str, target: str, change: str
) -> None:
    path = _image(
        tmp_path,
        version=version,
        labels={"cells": {}},
        attributes={"mine": [1]},
        array_attributes={"array": {"sensor": "B"}},
    )
    _again(CHANGES[change](xr.open_datatree(path)), tmp_path, version=target)
    written = tmp_path / "again.ome.zarr"
    assert _attributes(written, target) == {"mine": [1]}
    for level in "01":
        assert _attributes(written / level, target) == {"array": {"sensor": "B"}}
    assert _attributes(written / "labels" / "cells" / "0", target) == {}


def _put_attributes(path: Path, attributes: dict[str, Any], version: str) -> None:
    """Write the attributes of a group that is none of OME's."""
    if version == "0.4":
        (path / ".zgroup").write_text('{"zarr_format": 2}')
        (path / ".zattrs").write_text(json.dumps(attributes))
    else:
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        (path / "zarr.json").write_text(json.dumps(group))


@pytest.mark.parametrize("wells", [None, "all"])
@pytest.mark.parametrize(("version", "target"), [*PAIRS, ("0.4", "0.4")])
def test_attributes_of_groups_on_the_way_down_survive(
    tmp_path: Path, version: str, target: str, wells: str | None
) -> None:
    image = {**TINY, "levels": 2, "paths": ["scale0/image", "scale1/image"]}
    image |= {"labels": {"sub/cells": {}}}
    path = write_plate(
        tmp_path / "p.ome.zarr", version=version, rows="A", columns="1", fields=1, image=image
    )
    between = ("A", "A/1/0/scale0", "A/1/0/labels/sub")
    for name in between:
        _put_attributes(path / name, {"mine": name}, version)
    _again(xr.open_datatree(path, wells=wells), tmp_path, version=target)
    for name in between:
        assert _attributes(tmp_path / "again.ome.zarr" / name, target) == {"mine": name}


@pytest.mark.parametrize(("version", "target"), [*PAIRS, ("0.4", "0.4")])
def test_the_series_listed_beside_a_plate_survive(
    tmp_path: Path, version: str, target: str
) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", version=version, rows="A", image=TINY)
    listed = {"series": ["A/1/0", "A/1/1"]}
    (path / "OME").mkdir()
    said = listed if version == "0.4" else {"ome": {"version": version, **listed}}
    _put_attributes(path / "OME", {"mine": 1, **said}, version)
    _again(xr.open_datatree(path), tmp_path, version=target)
    again = tmp_path / "again.ome.zarr" / "OME"
    expected = {} if target == "0.4" else {"version": target}
    assert {**document(again), "mine": 1} == {**listed, **expected, "mine": 1}
    assert _attributes(again, target) == {"mine": 1}


@pytest.mark.parametrize("kind", [write_plate, write_series])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_attributes_beside_xml_survive(
    tmp_path: Path, version: str, kind: Callable[..., Path]
) -> None:
    path = kind(tmp_path / "p.ome.zarr", version=version, image=TINY)
    (path / "OME").mkdir(exist_ok=True)
    _put_attributes(path / "OME", {"mine": 1}, version)
    _again(xr.open_datatree(path), tmp_path)
    assert _attributes(tmp_path / "again.ome.zarr" / "OME", version) == {"mine": 1}


def test_a_version_beside_xml_without_series_survives(tmp_path: Path) -> None:
    path = write_series(tmp_path / "s.ome.zarr", image=TINY)
    _put_attributes(path / "OME", {"ome": {"version": "0.5", "other": 1}}, "0.5")
    again = _again(xr.open_datatree(path), tmp_path, version="0.6")
    assert list(again.ngff.images) == ["0", "1", "2"]
    assert document(tmp_path / "again.ome.zarr" / "OME") == {"version": "0.6", "other": 1}


def test_attributes_of_numpy_are_written_as_json_has_them(tmp_path: Path) -> None:
    tree = xr.open_datatree(_image(tmp_path))
    for node in (tree, tree["0/image"]):
        node.attrs |= {"count": np.int64(3), "offsets": np.arange(3)}
    again = _again(tree, tmp_path)
    for node in (again, again["0/image"]):
        assert (node.attrs["count"], node.attrs["offsets"]) == (3, [0, 1, 2])


@pytest.mark.parametrize("place", ["", "0/image"])
def test_attributes_that_json_has_not_are_refused_before_anything_is_written(
    tmp_path: Path, place: str
) -> None:
    tree = xr.open_datatree(_image(tmp_path))
    (tree[place] if place else tree).attrs["when"] = np.datetime64("2026-01-01").item()
    with pytest.raises(UnsupportedError, match="'when' is nothing that JSON has"):
        _again(tree, tmp_path)
    assert not (tmp_path / "again.ome.zarr").exists()


@pytest.mark.parametrize("count", [1])
@written_version
def test_fewer_channels_than_the_image_has_survive(
    tmp_path: Path, version: str, count: int
) -> None:
    channels = [{**OMERO["channels"][0], "label": f"stain {i}"} for i in range(count)]
    path = _image(tmp_path, version=version, omero={"channels": channels})
    _again(xr.open_datatree(path), tmp_path)
    assert document(tmp_path / "again.ome.zarr") == document(path)


@pytest.mark.parametrize("unit", ["µm", "micron", "Micrometers", "px", "furlong", "", None])
@pytest.mark.parametrize(("version", "target"), [*PAIRS, ("0.4", "0.4")])
def test_units_keep_their_spelling(
    tmp_path: Path, version: str, target: str, unit: str | None
) -> None:
    axes = [AXES["c"], {**AXES["y"], "unit": unit}, AXES["x"]]
    path = _image(tmp_path, version=version, axes=axes)
    again = _again(xr.open_datatree(path), tmp_path, version=target)
    found = document(tmp_path / "again.ome.zarr")
    assert [axis.get("unit", "none") for axis in _axes(_entry(found))] == [
        "none",
        unit,
        "micrometer",
    ]
    assert again.ngff.units["y"] == xr.open_datatree(path).ngff.units["y"]


def test_units_that_were_changed_are_written_as_they_are(tmp_path: Path) -> None:
    axes = [{**AXES["y"], "unit": "µm"}, {**AXES["x"], "unit": "µm"}]
    level = xr.open_datatree(_image(tmp_path, axes=axes, shape=(8, 10)))["0/image"]
    in_nanometres = level["x"].copy(data=level["x"] * 1000)
    in_nanometres.attrs = {"units": "nanometer", "axis_type": "space"}
    again = _again(level.assign_coords(x=in_nanometres), tmp_path)
    assert again.ngff.units == {"y": "micrometer", "x": "nanometer"}
    assert str(again.ngff.pixel_size["x"]) == "500.0 nanometer"
    spelt = [axis["unit"] for axis in _axes(_entry(document(tmp_path / "again.ome.zarr")))]
    assert spelt == ["µm", "nanometer"]


@written_version
def test_transformations_of_the_whole_image_are_in_the_levels(tmp_path: Path, version: str) -> None:
    outer = [
        {"type": "scale", "scale": [1, 2, 0.1]},
        {"type": "translation", "translation": [0, 5.5, -3]},
    ]
    path = _image(tmp_path, version="0.4", outer=outer, translation=(0, 1, 2))
    tree = xr.open_datatree(path)
    again = _again(tree, tmp_path, version=version)
    xr.testing.assert_equal(again.load(), tree.load())
    assert again["0/x"].attrs == tree["0/x"].attrs


# ---- parts and results ---------------------------------------------------------------------------


@written_version
def test_a_crop_keeps_its_place_in_every_level(tmp_path: Path, version: str) -> None:
    path = _image(
        tmp_path, version=version, shape=(2, 64, 80), levels=3, labels={"cells": {}}, omero=OMERO
    )
    tree = xr.open_datatree(path)
    part = tree.ngff.crop(x=slice("10 µm", "22 µm"), y=slice(4, None))
    again = _again(part, tmp_path)
    xr.testing.assert_identical(again.load(), part.load())
    assert again["0/x"].values[0] == tree["0/x"].sel(x=10, method="nearest")
    transformations = _entry(document(tmp_path / "again.ome.zarr"))["datasets"][0]
    assert '"translation"' in json.dumps(transformations)
    assert again.ngff.issues == ()


@pytest.mark.parametrize(
    ("channels", "names"),
    [
        ([1], ["GFP"]),
        ([1, 0], ["GFP", "DAPI"]),
        (slice(1, 2), ["GFP"]),
        ([0], ["DAPI"]),
    ],
)
@written_version
def test_selected_channels_keep_their_colours(
    tmp_path: Path, version: str, channels: Any, names: list[str]
) -> None:
    path = _image(tmp_path, version=version, omero=OMERO, labels={"cells": {}})
    tree = xr.open_datatree(path)
    part = tree.isel(c=channels)
    again = _again(part, tmp_path)
    assert [channel.name for channel in again.ngff.channels] == names
    assert again.ngff.channels == part.ngff.channels
    np.testing.assert_array_equal(again["0/image"], part["0/image"])
    stored = document(tmp_path / "again.ome.zarr")["omero"]
    assert stored["rdefs"] == OMERO["rdefs"]
    assert again.ngff.issues == ()


@pytest.mark.parametrize("level", [False, True])
@written_version
def test_one_channel_without_its_axis_keeps_its_colour(
    tmp_path: Path, version: str, level: bool
) -> None:
    tree = xr.open_datatree(_image(tmp_path, version=version, omero=OMERO))
    part = (tree["0/image"] if level else tree).isel(c=1)
    again = _again(part, tmp_path)
    assert [channel.name for channel in part.ngff.channels] == ["GFP"]
    assert again.ngff.channels == part.ngff.channels
    assert again.ngff.issues == ()


def test_channels_that_were_renamed_keep_their_names(tmp_path: Path) -> None:
    tree = xr.open_datatree(_image(tmp_path, omero=OMERO))
    again = _again(tree["0/image"].assign_coords(c=["actin", "tubulin"]), tmp_path)
    assert again["0/c"].values.tolist() == ["actin", "tubulin"]


def test_steps_and_turns_are_written_as_they_are(tmp_path: Path) -> None:
    tree = xr.open_datatree(_image(tmp_path, shape=(2, 9, 12)))
    part = tree["0/image"].isel(x=slice(1, None, 3), y=slice(None, None, -2))
    again = _again(part, tmp_path)
    np.testing.assert_allclose(again["0/x"], [0.5, 2.0, 3.5, 5.0])
    np.testing.assert_allclose(again["0/y"], [4.0, 3.0, 2.0, 1.0, 0.0])
    np.testing.assert_array_equal(again["0/image"], part)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_exact_decimals_stay_exact(tmp_path: Path, version: str) -> None:
    scale, translation = (1, 0.1, 0.3), (0, 0.7, 1e5 + 0.1)
    path = _image(
        tmp_path,
        version=version,
        shape=(2, 64, 97),
        scale=scale,
        translation=translation,
        half_pixel=False,
        levels=3,
    )
    tree = xr.open_datatree(path)
    for _ in range(3):
        shutil.rmtree(tmp_path / "again.ome.zarr", ignore_errors=True)
        tree = _again(tree, tmp_path).load()
    assert document(tmp_path / "again.ome.zarr") == document(path)


def test_axes_of_one_pixel_keep_their_scale(tmp_path: Path) -> None:
    path = _image(tmp_path, axes="tzyx", shape=(1, 1, 8, 10), scale=(5, 0.3, 1, 1))
    _again(xr.open_datatree(path), tmp_path)
    assert document(tmp_path / "again.ome.zarr") == document(path)
    again = _again(xr.open_datatree(path).isel(x=[3]), tmp_path / "b")
    assert again["0/x"].values.tolist() == [3.0]
    assert again["0/x"].attrs["pixel_size"] == 1.0


@pytest.mark.parametrize("chunks", [{}, {"y": 16, "x": 20}, "auto"])
@written_version
def test_computed_images_are_written_block_by_block(
    tmp_path: Path, version: str, chunks: Any
) -> None:
    path = _image(tmp_path, version=version, shape=(2, 16, 20), omero=OMERO, labels={"cells": {}})
    tree = xr.open_datatree(path, chunks=chunks)
    result = tree.ngff.map(lambda array: array.astype("float32") / 2)
    assert result["0/image"].chunks is not None
    again = _again(result, tmp_path)
    expected = zarr.open_array(path / "0", mode="r")[...] / np.float32(2)
    np.testing.assert_array_equal(again["0/image"], expected)
    assert again["0/image"].dtype == "float32"
    assert again.ngff.channels == tree.ngff.channels
    np.testing.assert_array_equal(again["labels/cells/1/labels"], tree["labels/cells/1/labels"])


@written_version
def test_a_level_or_an_array_alone_is_an_image_of_one_level(tmp_path: Path, version: str) -> None:
    path = _image(tmp_path, version=version, omero=OMERO, attributes={"mine": 1})
    level = xr.open_datatree(path)["1"]
    for obj in (level, level.to_dataset(), level["image"], xr.open_dataset(path, level=1)):
        again = _again(obj, tmp_path, version=version)
        assert len(again.ngff.levels) == 1
        assert again.ngff.name == "a"
        assert again.ngff.channels == obj.ngff.channels
        xr.testing.assert_equal(again.ngff.level(0).load(), level["image"].load())
        assert again.ngff.level(0)["x"].attrs == level["x"].attrs
        assert ngff_xarray.validate(tmp_path / "again.ome.zarr").valid
        shutil.rmtree(tmp_path / "again.ome.zarr")


@written_version
def test_an_array_from_nowhere(tmp_path: Path, version: str) -> None:
    x = xr.Variable("x", [10.0, 10.25, 10.5], {"units": "micrometer"})
    array = xr.DataArray(np.arange(12.0).reshape(4, 3), dims=("y", "x"), coords={"x": x})
    again = _again(array, tmp_path, version=version)
    np.testing.assert_array_equal(again.ngff.level(0), array)
    np.testing.assert_array_equal(again.ngff.level(0)["x"], x)
    assert again.ngff.units == {"y": None, "x": "micrometer"}
    assert again.ngff.version == version
    assert _again(array, tmp_path / "b").ngff.version == "0.5"


def test_channels_of_an_array_from_nowhere_keep_their_names(tmp_path: Path) -> None:
    coords = {"c": ["DAPI", "GFP"]}
    array = xr.DataArray(np.zeros((2, 4, 3)), dims=("c", "y", "x"), coords=coords)
    again = _again(array, tmp_path)
    assert again.ngff.level(0)["c"].values.tolist() == ["DAPI", "GFP"]


UNEVEN: dict[str, Callable[[xr.DataTree], Any]] = {
    "a tree": lambda tree: tree.isel(x=[0, 1, 3]),
    "a level": lambda tree: tree["0"].to_dataset().isel(x=[0, 1, 3]),
    "an array": lambda tree: tree["0/image"].assign_coords(x=np.arange(10.0) ** 2),
    "repeated": lambda tree: tree["0/image"].isel(x=[1, 1, 1]),
}


@pytest.mark.parametrize("uneven", UNEVEN)
def test_uneven_coordinates_cannot_be_said(tmp_path: Path, uneven: str) -> None:
    obj = UNEVEN[uneven](xr.open_datatree(_image(tmp_path)))
    with pytest.raises(UnsupportedError, match="axis x: the pixels are not evenly spaced"):
        _again(obj, tmp_path)
    assert not (tmp_path / "again.ome.zarr").exists()


# ---- how arrays are stored -----------------------------------------------------------------------


def _restore(path: Path, **options: Any) -> None:
    """Write an array again in another way."""
    pixels = zarr.open_array(path, mode="r")[...]
    shutil.rmtree(path)
    zarr.create_array(path, data=pixels, **options)


SAME = ("shape", "dtype", "chunks", "shards", "compressors", "filters", "fill_value")


def _assert_stored_alike(path: Path, other: Path) -> None:
    first, second = (zarr.open_array(each, mode="r") for each in (path, other))
    for what in SAME:
        assert getattr(first, what) == getattr(second, what), what
    np.testing.assert_array_equal(first[...], second[...])


V3 = {"zarr_format": 3, "dimension_names": list("cyx")}
V2 = {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}}
STORAGE: dict[str, dict[str, Any]] = {
    "sharded": {**V3, "chunks": (1, 4, 5), "shards": (2, 8, 10)},
    "compressed": {**V3, "chunks": (1, 4, 4), "compressors": [GzipCodec(level=2)]},
    "sharded and compressed": {
        **V3,
        "chunks": (1, 4, 4),
        "shards": (1, 8, 12),
        "compressors": [GzipCodec(level=1), Crc32cCodec()],
    },
    "not compressed": {**V3, "chunks": (1, 3, 10), "compressors": None},
    "filled": {**V3, "chunks": (2, 8, 10), "fill_value": 7},
    "v2": {**V2, "chunks": (1, 4, 5)},
    "v2, compressed": {**V2, "chunks": (1, 4, 5), "compressors": numcodecs.Zlib(3)},
    "v2, not compressed": {**V2, "chunks": (1, 4, 5), "compressors": None},
    "v2, filled": {**V2, "chunks": (2, 8, 10), "fill_value": 7},
}


@pytest.mark.parametrize("how", STORAGE)
def test_storage_is_repeated(tmp_path: Path, how: str) -> None:
    version = "0.4" if how.startswith("v2") else "0.5"
    path = _image(tmp_path, version=version, levels=1)
    _restore(path / "0", **STORAGE[how])
    _again(xr.open_datatree(path), tmp_path)
    _assert_stored_alike(path / "0", tmp_path / "again.ome.zarr" / "0")


@pytest.mark.parametrize(
    "how",
    [
        {**V3, "chunks": (1, 4, 5), "filters": [TransposeCodec(order=(2, 1, 0))]},
        {**V2, "chunks": (1, 4, 5), "filters": [numcodecs.Delta(dtype="<u2")]},
        {**V2, "chunks": (1, 4, 5), "fill_value": None},
    ],
)
def test_filters_and_missing_fill_values_are_repeated(tmp_path: Path, how: dict[str, Any]) -> None:
    path = _image(tmp_path, version="0.4" if how["zarr_format"] == 2 else "0.5", levels=1)
    _restore(path / "0", **how)
    _again(xr.open_datatree(path), tmp_path)
    _assert_stored_alike(path / "0", tmp_path / "again.ome.zarr" / "0")


def test_the_order_of_bytes_is_repeated(tmp_path: Path) -> None:
    path = _image(tmp_path, levels=1)
    _restore(path / "0", **V3, chunks=(1, 4, 5), serializer=BytesCodec(endian="big"))
    _again(xr.open_datatree(path), tmp_path)
    assert zarr.open_array(tmp_path / "again.ome.zarr" / "0").serializer == BytesCodec(endian="big")


@pytest.mark.parametrize(("version", "target"), [*PAIRS, ("0.4", "0.4")])
@pytest.mark.parametrize("dtype", ["bool", "int8", ">u2", "uint32", "float16", ">f8"])
def test_every_dtype_comes_back(tmp_path: Path, version: str, target: str, dtype: str) -> None:
    data = np.arange(80).reshape(8, 10).astype(dtype)
    path = _image(tmp_path, version=version, axes="yx", data=data, levels=1)
    again = _again(xr.open_datatree(path), tmp_path, version=target)
    assert again["0/image"].dtype.newbyteorder("=") == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(again["0/image"], data)


def _has_checksum(path: Path) -> bool:
    return '"crc32c"' in (path / "zarr.json").read_text()


@pytest.mark.parametrize("version", ["0.5", "0.6"])
def test_checksums_are_written_by_default(tmp_path: Path, version: str) -> None:
    array = xr.DataArray(np.zeros((8, 10)), dims=("y", "x"))
    _again(array, tmp_path, version=version)
    assert _has_checksum(tmp_path / "again.ome.zarr" / "0")
    tree = xr.open_datatree(_image(tmp_path, version="0.4", labels={"cells": {}}))
    _again(tree, tmp_path / "b", version=version)
    for level in ("0", "1", "labels/cells/1"):
        assert _has_checksum(tmp_path / "b" / "again.ome.zarr" / level)


def test_a_flipped_bit_is_told_from_a_pixel(tmp_path: Path) -> None:
    array = xr.DataArray(np.arange(80.0).reshape(8, 10), dims=("y", "x"))
    _again(array, tmp_path)
    (chunk,) = (tmp_path / "again.ome.zarr" / "0" / "c").rglob("*/0")
    content = bytearray(chunk.read_bytes())
    content[-6] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(StoreError, match=r"again\.ome\.zarr/0: .*checksum"):
        xr.open_datatree(tmp_path / "again.ome.zarr")["0/image"].load()


@pytest.mark.parametrize("version", ["0.4", "0.6"])
def test_a_broken_chunk_is_named_however_it_is_read(tmp_path: Path, version: str) -> None:
    path = _image(tmp_path, version=version)
    for chunk in (path / "0").rglob("*"):
        if chunk.is_file() and not chunk.name.startswith((".z", "zarr.json")):
            chunk.write_bytes(chunk.read_bytes()[:9])
    tree = xr.open_datatree(path)
    reads: tuple[Callable[[], Any], ...] = (
        lambda: tree["0/image"].load(),
        lambda: tree["0/image"].isel(y=[1, 3], x=[0, 2]).load(),
        lambda: xr.open_datatree(path, chunks={})["0/image"].compute(),
        lambda: _again(tree.ngff.map(lambda level: level + 1), tmp_path),
        lambda: _again(tree.ngff.level(0), tmp_path, levels=2),
    )
    for read in reads:
        with pytest.raises(StoreError, match=r"a\.ome\.zarr/0: pixels cannot be read"):
            read()


def test_large_chunks_of_small_parts(tmp_path: Path) -> None:
    tree = xr.open_datatree(
        _image(tmp_path, axes="yx", shape=(64, 64), chunks=(16, 16), shards=(64, 64))
    )
    part = tree.ngff.crop(x=slice(2, 4), y=slice(2, 4))
    again = _again(part, tmp_path)
    xr.testing.assert_identical(again.load(), part.load())


# ---- what a version cannot say -------------------------------------------------------------------


def _affine_image(path: Path) -> xr.DataTree:
    return xr.open_datatree(_image(path, version="0.6", **SHEARED))


def _affine_plate(path: Path) -> xr.DataTree:
    return xr.open_datatree(
        write_plate(path / "p.ome.zarr", image=SHEARED, version="0.6"), wells="all"
    )


def _affine_series(path: Path) -> xr.DataTree:
    return xr.open_datatree(write_series(path / "s.ome.zarr", image=SHEARED, version="0.6"))


def _unopened_plate(path: Path) -> xr.DataTree:
    return xr.open_datatree(write_plate(path / "p.ome.zarr", image=SHEARED, version="0.6"))


@pytest.mark.parametrize("make", [_affine_image, _affine_plate, _affine_series, _unopened_plate])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_transformations_that_a_version_lacks_are_named_and_nothing_is_written(
    tmp_path: Path, version: str, make: Callable[[Path], xr.DataTree]
) -> None:
    tree = make(tmp_path)
    said = rf"OME-Zarr {version} cannot say the transformation 'affine' from .*'physical'.*'world'"
    with pytest.raises(UnsupportedError, match=said):
        _again(tree, tmp_path, version=version)
    assert not (tmp_path / "again.ome.zarr").exists()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("make", [_affine_image, _unopened_plate])
def test_transformations_that_a_version_lacks_are_left_out_where_that_is_wanted(
    tmp_path: Path, version: str, make: Callable[[Path], xr.DataTree]
) -> None:
    tree = make(tmp_path)
    again = _again(tree, tmp_path, version=version, lossy=True)
    assert again.ngff.issues == ()
    if tree.ngff.kind == "plate":
        tree, again = (each.ngff.well("B/2")["1"] for each in (tree, again))
    xr.testing.assert_equal(again["0/image"].load(), tree["0/image"].load())
    assert "coordinateTransformations" not in again.attrs["ome"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_transformations_of_spatialdata_are_of_their_versions_only(
    tmp_path: Path, version: str
) -> None:
    axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    ends = {"input": {"name": "yx", "axes": axes}, "output": {"name": "global", "axes": axes}}
    links = [{"type": "affine", "affine": [[1, 0, 2], [0, 1, 3], [0, 0, 1]], **ends}]
    path = write_image(
        tmp_path / "a.ome.zarr",
        version=version,
        axes="yx",
        multiscale={"coordinateTransformations": links},
    )
    tree = xr.open_datatree(path)
    with pytest.raises(UnsupportedError, match=r"0\.6 cannot say these transformations .*'affine'"):
        _again(tree, tmp_path, version="0.6")
    assert not (tmp_path / "again.ome.zarr").exists()
    assert _faults(_again(tree, tmp_path, version="0.6", lossy=True)) == []
    for target in ("0.4", "0.5"):
        tree.ngff.to_zarr(tmp_path / f"{target}.ome.zarr", version=target)
        entry = document(tmp_path / f"{target}.ome.zarr")["multiscales"][0]
        assert entry["coordinateTransformations"] == links


def test_systems_without_transformations_are_named_too(tmp_path: Path) -> None:
    path = _image(tmp_path, version="0.6", **SHEARED)
    edit_attributes(path, lambda ome: _entry(ome).pop("coordinateTransformations"))
    with pytest.raises(UnsupportedError, match="coordinate system 'world'"):
        _again(xr.open_datatree(path), tmp_path, version="0.5")


def test_systems_that_no_longer_fit_are_refused(tmp_path: Path) -> None:
    axes = [{"name": name, **PLANE} for name in "zyx"]
    systems = [{"name": "world", "axes": axes}]
    link = {"type": "identity", "input": {"name": "physical"}, "output": {"name": "world"}}
    path = _image(
        tmp_path,
        version="0.6",
        axes="zyx",
        shape=(3, 8, 10),
        systems=systems,
        transformations=[link],
    )
    plane = xr.open_datatree(path).isel(z=0)
    with pytest.raises(UnsupportedError, match="coordinate systems of this image need the axes"):
        _again(plane, tmp_path)
    assert not (tmp_path / "again.ome.zarr").exists()
    assert _again(plane, tmp_path, lossy=True)["0/image"].dims == ("y", "x")


def _joined(*kinds: tuple[str, str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Links between systems, as 0.6 writes them."""
    return [
        {**said, "input": {"name": source}, "output": {"name": target}}
        for source, target, said in kinds
    ]


def test_another_intrinsic_system_is_written_with_links_of_its_own(tmp_path: Path) -> None:
    """The specification wants every link to start or end at the intrinsic system."""
    turn = {"type": "rotation", "rotation": [[0.6, -0.8], [0.8, 0.6]]}
    both = {"type": "bijection", "forward": turn, "inverse": {"type": "identity"}}
    links = _joined(
        ("physical", "far", {"type": "scale", "scale": [1000, 500]}),
        ("physical", "turned", turn),
        ("mirrored", "physical", {"type": "affine", "affine": [[1, 0, 0], [0, -1, 4]]}),
        ("physical", "both", both),
        ("moved", "physical", {"type": "translation", "translation": [3, 4]}),
        ("physical", "lifted", {"type": "projectAxis", "createdOutputs": [0]}),
    )
    names = ("far", "turned", "mirrored", "both", "moved")
    systems = [{"name": name, "axes": [{"name": axis, **PLANE} for axis in "yx"]} for name in names]
    systems.append({"name": "lifted", "axes": [{"name": axis, **PLANE} for axis in "zyx"]})
    path = _image(
        tmp_path, version="0.6", axes="yx", shape=(8, 10), systems=systems, transformations=links
    )
    tree = xr.open_datatree(path)
    assert tree.ngff.issues == ()
    points = np.array([[1.0, 2.0], [30.0, -4.0]])
    for name in ("far", "moved"):
        moved = tree.ngff.to_system(name)
        again = _again(moved, tmp_path / name)
        assert again.ngff.issues == ()
        assert again.attrs["ome"]["intrinsic"] == name
        np.testing.assert_allclose(again["0/x"], moved["0/x"])
        for source, target in itertools.product((*names, "physical"), (*names, "lifted")):
            there = [each.ngff.transform(points, from_=source, to=target) for each in (tree, again)]
            np.testing.assert_allclose(there[1], there[0], atol=1e-9)


def test_axes_in_another_order_than_those_of_their_system(tmp_path: Path) -> None:
    links = _joined(("physical", "swapped", {"type": "mapAxis", "mapAxis": [1, 0]}))
    systems = [{"name": "swapped", "axes": [{"name": axis, **PLANE} for axis in "yx"]}]
    path = _image(
        tmp_path, version="0.6", axes="yx", shape=(8, 10), systems=systems, transformations=links
    )
    swapped = xr.open_datatree(path).ngff.to_system("swapped")
    with pytest.raises(UnsupportedError, match=r"order x, y.* order y, x: transpose it"):
        _again(swapped, tmp_path)
    turned = swapped.map_over_datasets(
        lambda level: level.transpose("y", "x", missing_dims="ignore")
    )
    again = _again(turned, tmp_path)
    assert again.ngff.issues == ()
    xr.testing.assert_equal(again["0/image"].load(), turned["0/image"].load())


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_scenes_are_of_their_version_only(tmp_path: Path, version: str) -> None:
    tree = xr.open_datatree(_rich_scene(tmp_path))
    with pytest.raises(UnsupportedError, match=r"write version 0\.6"):
        _again(tree, tmp_path, version=version)
    assert not (tmp_path / "again.ome.zarr").exists()


@pytest.mark.parametrize(("version", "target"), [("0.6", "0.5"), ("0.4", "0.6")])
def test_several_images_between_versions_that_spell_them_differently(
    tmp_path: Path, version: str, target: str
) -> None:
    tree = xr.open_datatree(write_several(tmp_path / "a.ome.zarr", ENTRIES, version=version))
    with pytest.raises(UnsupportedError, match="the other images of this group"):
        _again(tree, tmp_path, version=target)
    assert not (tmp_path / "again.ome.zarr").exists()
    again = _again(tree, tmp_path / "b", version=target, lossy=True)
    assert len(again.ngff.multiscales) == 1


def test_wells_at_depths_that_later_versions_do_not_have(tmp_path: Path) -> None:
    path = write_plate(
        tmp_path / "p.ome.zarr",
        version="0.3",
        rows="A",
        columns="1",
        wells=["2020-10-10/A/1"],
        image=TINY,
    )
    with pytest.raises(UnsupportedError, match="2020-10-10/A/1"):
        _again(xr.open_datatree(path), tmp_path)
    assert not (tmp_path / "again.ome.zarr").exists()


# ---- where it is written -------------------------------------------------------------------------


def _tree(path: Path, **keywords: Any) -> xr.DataTree:
    return xr.open_datatree(_image(path, labels={"cells": {}}, **keywords))


@written_version
def test_stores_in_memory(tmp_path: Path, version: str) -> None:
    tree = _tree(tmp_path, version=version)
    store = zarr.storage.MemoryStore()
    tree.ngff.to_zarr(store)
    xr.testing.assert_identical(xr.open_datatree(store).load(), tree.load())
    with pytest.raises(StoreError, match="there is something already"):
        tree.ngff.to_zarr(store)


@written_version
def test_urls(tmp_path: Path, version: str) -> None:
    tree = _tree(tmp_path, version=version)
    url = f"memory://{tmp_path.name}/{version}.ome.zarr"
    tree.ngff.to_zarr(url)
    xr.testing.assert_identical(xr.open_datatree(url).load(), tree.load())
    with pytest.raises(StoreError, match="there is something already"):
        tree.ngff.to_zarr(url)
    file = (tmp_path / "file.ome.zarr").as_uri()
    tree.ngff.to_zarr(file, storage_options={})
    xr.testing.assert_identical(xr.open_datatree(tmp_path / "file.ome.zarr").load(), tree.load())


@pytest.mark.parametrize("version", ["0.5", "0.6"])
def test_zarr_groups(tmp_path: Path, version: str) -> None:
    tree = _tree(tmp_path, version=version)
    for store in (zarr.storage.MemoryStore(), zarr.storage.LocalStore(tmp_path / "g.zarr")):
        root = zarr.open_group(store, mode="w")
        group = root.create_group("deep/image")
        tree.ngff.to_zarr(group)
        xr.testing.assert_identical(xr.open_datatree(root["deep/image"]).load(), tree.load())
        assert sorted(root.group_keys()) == ["deep"]
        with pytest.raises(StoreError, match="there is something already"):
            tree.ngff.to_zarr(group)


def test_paths_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = _tree(tmp_path)
    monkeypatch.chdir(tmp_path)
    for target in ("b.ome.zarr", str(tmp_path / "new" / "c.ome.zarr"), tmp_path / "d#e f.zarr"):
        tree.ngff.to_zarr(target)
        xr.testing.assert_identical(xr.open_datatree(target).load(), tree.load())


@pytest.mark.parametrize("target", ["image", "array", "group", "file", "v2 group", "v2 array"])
def test_nothing_is_overwritten(tmp_path: Path, target: str) -> None:
    tree = _tree(tmp_path)
    path = tmp_path / "there.zarr"
    if target == "image":
        shutil.copytree(tmp_path / "a.ome.zarr", path)
    elif target == "file":
        path.write_text("mine")
    else:
        zarr_format = 2 if target.startswith("v2") else 3
        make = zarr.create_array if target.endswith("array") else zarr.create_group
        options = {"shape": (3,), "dtype": "i4"} if target.endswith("array") else {}
        make(path, zarr_format=zarr_format, attributes={"mine": 1}, **options)
    before = _files(path)
    with pytest.raises(StoreError, match="there is something already"):
        tree.ngff.to_zarr(path)
    assert _files(path) == before


def _files(path: Path) -> dict[str, bytes]:
    found = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file): file.read_bytes() for file in found}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_groups_of_arrays_without_attributes_are_not_overwritten(
    tmp_path: Path, zarr_format: int
) -> None:
    tree = _tree(tmp_path)
    group = zarr.open_group(tmp_path / "mine.zarr", mode="w", zarr_format=zarr_format)
    group.create_array("0", shape=(3,), dtype="int32")[...] = 7
    before = _files(tmp_path / "mine.zarr")
    with pytest.raises(StoreError, match="there is something already"):
        tree.ngff.to_zarr(tmp_path / "mine.zarr")
    assert _files(tmp_path / "mine.zarr") == before


def test_folders_with_other_files_are_not_written_into(tmp_path: Path) -> None:
    tree = _tree(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "table.csv").write_text("1")
    with pytest.raises(StoreError, match="there is something already"):
        tree.ngff.to_zarr(tmp_path / "results")
    assert len(_files(tmp_path / "results")) == 1


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    tree = _tree(tmp_path)
    (tmp_path / "empty").mkdir()
    tree.ngff.to_zarr(tmp_path / "empty")
    xr.testing.assert_identical(xr.open_datatree(tmp_path / "empty").load(), tree.load())


def test_labels_whose_list_is_none_are_listed(tmp_path: Path) -> None:
    path = _image(tmp_path, labels={"cells": {}})
    edit_attributes(path / "labels", lambda ome: ome.update(labels=True))
    again = _again(xr.open_datatree(path), tmp_path)
    assert document(tmp_path / "again.ome.zarr" / "labels")["labels"] == list(again.ngff.labels)


def test_options_of_codecs_that_are_none(tmp_path: Path) -> None:
    path = _image(tmp_path, version="0.4")
    file = path / "0" / ".zarray"
    stored = json.loads(file.read_text())
    stored["compressor"] = {"id": "zstd", "level": "fast"}
    file.write_text(json.dumps(stored))
    with pytest.raises(ngff_xarray.NgffError, match=r"0: .*cannot be (written|read)"):
        _again(xr.open_datatree(path), tmp_path, chunks={"x": 3})  # so that chunks are not copied


def test_targets_that_cannot_be_written(tmp_path: Path) -> None:
    tree = _tree(tmp_path)
    store = zarr.storage.LocalStore(tmp_path / "b.zarr", read_only=True)
    with pytest.raises(StoreError, match="read-only"):
        tree.ngff.to_zarr(store)
    with pytest.raises(StoreError, match="expected a path, a URL"):
        tree.ngff.to_zarr(5)
    with pytest.raises(StoreError, match="nosuchprotocol"):
        tree.ngff.to_zarr("nosuchprotocol://bucket/a.ome.zarr")


def test_the_metadata_come_last(tmp_path: Path) -> None:
    tree = _tree(tmp_path)

    def fail(array: np.ndarray) -> np.ndarray:
        raise OSError("the disk is gone")

    broken = tree.ngff.map(
        lambda a: a.chunk().copy(data=a.chunk().data.map_blocks(fail, dtype=a.dtype))
    )
    with pytest.raises(StoreError, match="the disk is gone"):
        broken.ngff.to_zarr(tmp_path / "b.ome.zarr")
    assert "multiscales" not in "".join(
        file.read_text() for file in (tmp_path / "b.ome.zarr").glob("zarr.json")
    )


# ---- what others say of it -----------------------------------------------------------------------

OTHERS = {"image": "Image", "plate": "HCS"}


def _proper(path: Path, kind: str, version: str) -> Path:
    image = {**TINY, "omero": OMERO}
    if kind == "image":
        return _image(path, version=version, labels={"cells": {}}, omero=OMERO)
    if kind == "plate":
        return write_plate(
            path / "p.ome.zarr",
            version=version,
            columns="1",
            fields=1,
            image=image,
            labels={"cells": {}},
        )
    return write_series(path / "s.ome.zarr", version=version, image=image)


# yaozarrs: in 0.5 plates state no version of their own
@pytest.mark.filterwarnings("ignore:'version' field not specified in plate")
@pytest.mark.parametrize("kind", ["image", "plate", "series"])
@pytest.mark.parametrize(
    ("version", "target"), [*PAIRS, ("0.3", "0.4"), *zip(WRITTEN, WRITTEN, strict=True)]
)
def test_what_is_written_is_valid(tmp_path: Path, kind: str, version: str, target: str) -> None:
    tree = xr.open_datatree(_proper(tmp_path, kind, version))
    _again(tree, tmp_path, version=target)
    path = tmp_path / "again.ome.zarr"
    found = ngff_xarray.validate(path)
    assert found.valid, found
    assert not [issue for issue in found.warnings if not issue.path.endswith(".unit")]
    if kind in OTHERS:
        check_elsewhere(path, target, OTHERS[kind])
    if kind == "image":
        check_elsewhere(path / "labels" / "cells", target, "ImageLabel")


@written_version
def test_parts_and_results_are_valid_too(tmp_path: Path, version: str) -> None:
    tree = xr.open_datatree(_proper(tmp_path, "image", version), chunks={})
    part = tree.ngff.crop(x=slice(1, 3)).isel(c=[1]).ngff.map(lambda array: array * 2.0)
    again = _again(part, tmp_path)
    path = tmp_path / "again.ome.zarr"
    assert again.ngff.validate().valid
    assert again.ngff.issues == ()
    check_elsewhere(path, version, "Image")


def test_a_scene_and_transformations_are_valid(tmp_path: Path) -> None:
    _again(xr.open_datatree(_rich_scene(tmp_path)), tmp_path)
    assert ngff_xarray.validate(tmp_path / "again.ome.zarr").issues == ()
    _again(_affine_image(tmp_path), tmp_path / "b")
    assert ngff_xarray.validate(tmp_path / "b" / "again.ome.zarr").issues == ()
    check_elsewhere(tmp_path / "b" / "again.ome.zarr", "0.6", "Image")


def test_true_colour_is_drawn_as_it_was(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(40, 200, (3, 20, 30)).astype("u1")
    array = xr.DataArray(pixels, dims=("c", "y", "x"))
    array.ngff.to_zarr(tmp_path / "a.zarr", levels=1)
    found = xr.open_datatree(tmp_path / "a.zarr").ngff.rgb(level=0)
    np.testing.assert_array_equal(found, np.moveaxis(pixels, 0, -1))
    np.testing.assert_array_equal(found, array.ngff.rgb())


@pytest.mark.parametrize("method", ["mean", "gaussian"])
def test_planes_become_chunks_that_lie_across_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr("ngff_xarray.pyramid.building._HELD", 0)
    monkeypatch.setattr("ngff_xarray.pyramid.sources._KEPT", 0)
    pixels = np.random.default_rng(0).integers(0, 2**16, (40, 64, 64), "u2")
    array = xr.DataArray(pixels, dims=("z", "y", "x"))
    layout: dict[str, Any] = {"chunks": {"z": 8, "y": 16, "x": 16}, "version": "0.5"}
    loaded: Counter[int] = Counter()

    def plane(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        loaded[block_info[0]["chunk-location"][0]] += 1
        return block

    lazy = array.chunk(z=1).copy(data=array.chunk(z=1).data.map_blocks(plane, dtype="u2"))
    for name, each in (("memory", array), ("planes", lazy)):
        each.ngff.to_zarr(tmp_path / name, levels=3, method=method, progress=False, **layout)
    assert loaded == dict.fromkeys(range(40), 1)
    one, other = (xr.open_datatree(tmp_path / name) for name in ("memory", "planes"))
    for number in range(3):
        level = other.ngff.level(number)
        np.testing.assert_array_equal(one.ngff.level(number).values, level.values)
    assert one.ngff.channels == other.ngff.channels
    assert other.ngff.verify().ok
