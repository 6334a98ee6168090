"""What stores, and what stands in them, break of the specification: the report and the command.

The rules that a document alone can break are in `test_spec` and `test_corpus`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr
from servers import CountingServer
from stores import (
    AXES,
    Json,
    Version,
    edit_attributes,
    write_array,
    write_group,
    write_image,
    write_plain,
    write_plate,
    write_scene,
    write_series,
    write_several,
)

import ngff_xarray
from ngff_xarray.errors import (
    Issue,
    MetadataError,
    NotOmeError,
    StoreError,
    StoreNotFoundError,
    UnsupportedError,
)
from ngff_xarray.spec import rules
from ngff_xarray.spec.rules import Rule
from ngff_xarray.validation import Validation

VERSIONS: tuple[Version, ...] = get_args(Version)
PLACED: tuple[Version, ...] = ("0.4", "0.5", "0.6")  # those with axes, scales and units
ZARR_3: tuple[Version, ...] = ("0.5", "0.6")
OMERO = {
    "channels": [
        {"color": color, "window": {"min": 0, "max": 99, "start": 1, "end": 50}}
        for color in ("FF0000", "00FF00")
    ]
}
SYSTEM = {"name": "world", "axes": [AXES[name] for name in "cyx"]}


def errors(source: Any, **options: Any) -> list[tuple[str, str, str]]:
    """Return the group, the path and the rule's text of every error."""
    found = ngff_xarray.validate(source, **options).errors
    return [(issue.group, issue.path, issue.rule) for issue in found]


def the_error(source: Any, **options: Any) -> Issue:
    (issue,) = ngff_xarray.validate(source, **options).errors
    return issue


def expected(group: str, path: str, rule: Rule) -> list[tuple[str, str, str]]:
    return [(group, path, rule.text)]


def array_file(path: Path) -> Path:
    return next(path / name for name in ("zarr.json", ".zarray") if (path / name).exists())


def edit_array(path: Path, **changed: Any) -> None:
    """Rewrite keys of an array's metadata; None removes them."""
    file = array_file(path)
    document = {**json.loads(file.read_text()), **changed}
    file.write_text(json.dumps({k: v for k, v in document.items() if v is not None}))


def replace_level(image: Path, level: str, data: Any, version: Version, names: Any = None) -> None:
    shutil.rmtree(image / level)
    write_array(image / level, data, version=version, names=names)


def memory_copy(path: Path, name: str) -> str:
    """Return the URL of a copy of a folder in fsspec's memory."""
    memory = fsspec.filesystem("memory")
    for file in path.rglob("*"):
        if file.is_file():
            memory.pipe_file(f"/{name}/{file.relative_to(path).as_posix()}", file.read_bytes())
    return f"memory://{name}"


@pytest.fixture(autouse=True)
def _forget_memory() -> Iterator[None]:
    yield
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """An image whose third level is listed and not there."""
    path = write_image(tmp_path / "broken.ome.zarr", axes="cyx", shape=(2, 32, 32))
    shutil.rmtree(path / "2")
    return path


# ---- what can be validated ---------------------------------------------------------------------


def test_a_store_can_be_named_in_any_way(broken: Path, server: CountingServer) -> None:
    sources = [
        str(broken),
        broken,
        broken.as_uri(),
        f"{server.url}/{broken.name}",
        memory_copy(broken, "broken.ome.zarr"),
        zarr.open_group(broken, mode="r"),
        zarr.storage.LocalStore(broken, read_only=True),
        zarr.storage.StorePath(zarr.storage.LocalStore(broken.parent), broken.name),
    ]
    for source in sources:
        found = ngff_xarray.validate(source)
        assert (found.kind, found.version, found.valid) == ("image", "0.5", False)
        assert [issue.path for issue in found.errors] == ["multiscales[0].datasets[2].path"]
        assert found.warnings == ()


def test_no_pixel_is_read(scan: Path, server: CountingServer) -> None:
    assert ngff_xarray.validate(f"{server.url}/{scan.name}").valid
    asked = {request.path.rpartition("/")[2] for request in server.requests}
    assert asked <= {"zarr.json", ".zgroup", ".zattrs", ".zarray", ".zmetadata"}


def test_a_group_of_a_store(tmp_path: Path) -> None:
    plate = write_plate(tmp_path / "p.ome.zarr", missing=["B/2/1"])
    assert ngff_xarray.validate(plate, group="A/1").kind == "well"
    assert ngff_xarray.validate(plate, group="A/1").valid
    found = ngff_xarray.validate(plate, group="B/2")
    assert [(issue.group, issue.path) for issue in found.errors] == [("", "well.images")]
    assert ngff_xarray.validate(plate, group="/B/2/0/").kind == "image"


def test_a_tree_validates_its_store(broken: Path) -> None:
    tree = xr.open_datatree(broken)
    found = tree.ngff.validate()
    assert isinstance(found, Validation)
    assert found.issues == ngff_xarray.validate(broken).issues
    with pytest.raises(StoreError, match="not known any more"):
        xr.DataTree.from_dict({"0": tree["0"].to_dataset()}).ngff.validate()


def test_parts_of_a_tree_validate_their_groups(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.ome.zarr", labels={"cells": {"dtype": "uint8"}})
    replace_level(
        image / "labels/cells", "1", np.zeros((4, 25, 31), "int32"), "0.5", ["z", "y", "x"]
    )
    found = xr.open_datatree(image)["labels/cells"].ngff.validate()
    assert [(issue.group, issue.path) for issue in found.errors] == [
        ("", "multiscales[0].datasets[1].path")
    ]
    plate = write_plate(tmp_path / "p.ome.zarr", missing=["A/1/1"])
    well = xr.open_datatree(plate).ngff.well("A/1")
    assert [issue.path for issue in well.ngff.validate().errors] == ["well.images"]


def test_a_tree_is_validated_by_what_the_store_says_now(broken: Path) -> None:
    tree = xr.open_datatree(broken)
    edit_attributes(broken, lambda document: document["multiscales"][0]["datasets"].pop())
    assert ngff_xarray.validate(broken).valid
    assert tree.ngff.validate().valid


def test_documents() -> None:
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}]
    axes = [{"name": name, "type": "space"} for name in "yx"]
    document = {"multiscales": [{"version": "0.4", "axes": axes, "datasets": datasets}]}
    found = ngff_xarray.validate(document)
    assert (found.kind, found.version, found.valid) == ("image", "0.4", True)
    assert [issue.path for issue in found.warnings] == [
        f"multiscales[0].axes[{i}].unit" for i in range(2)
    ]
    later = ngff_xarray.validate(document, kind="image", version="0.5")
    assert (later.version, later.valid) == ("0.5", False)
    assert later.errors[0].rule == rules.NAMESPACE.text
    assert ngff_xarray.validate({"ome": {"version": "0.5", **document}}).version == "0.5"
    assert not ngff_xarray.validate({"well": {"images": []}}).valid
    assert not ngff_xarray.validate({}).valid
    assert not ngff_xarray.validate({"title": "something else"}).valid


def test_unknown_kinds_and_versions_list_the_choices(scan: Path) -> None:
    for source in ({}, scan):
        with pytest.raises(UnsupportedError, match=r"unknown kind 'book': expected one of image,"):
            ngff_xarray.validate(source, kind="book")
        with pytest.raises(UnsupportedError, match=r"unknown version '7': expected one of 0\.1,"):
            ngff_xarray.validate(source, version="7")


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        ngff_xarray.validate(tmp_path / "nothing")
    with pytest.raises(StoreNotFoundError):
        ngff_xarray.validate("memory://nothing.ome.zarr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotOmeError):
        ngff_xarray.validate(tmp_path / "empty")
    for wrong in (3, None, [1]):
        with pytest.raises(StoreError, match="expected a path, a URL"):
            ngff_xarray.validate(wrong)


def test_other_stores_are_invalid_and_not_broken(tmp_path: Path) -> None:
    found = ngff_xarray.validate(write_plain(tmp_path / "climate.zarr", 3))
    assert not found.valid
    assert "is no OME-Zarr" in found.errors[0].message
    assert str(tmp_path) not in found.errors[0].message


def test_a_server_that_fails_is_an_error_and_no_verdict(
    broken: Path, server: CountingServer
) -> None:
    server.failures[f"/{broken.name}/1/zarr.json"] = 403
    with pytest.raises(StoreError, match="403"):
        ngff_xarray.validate(f"{server.url}/{broken.name}")


# ---- what is valid -----------------------------------------------------------------------------

Write = Callable[[Path, Version], Path]
ACQUISITIONS = [{"id": i, "name": f"day {i}", "maximumfieldcount": 1} for i in range(2)]


def _image(path: Path, version: Version) -> Path:
    return write_image(path, version=version, axes="tczyx", labels={"cells": {}, "a/b": {}})


def _pictured(path: Path, version: Version) -> Path:
    return write_image(path, version=version, omero=OMERO, attributes={"title": "beside"})


def _consolidated(path: Path, version: Version) -> Path:
    return write_image(path, version=version, labels={"cells": {}}, consolidated=True)


def _several(path: Path, version: Version) -> Path:
    entries = [{"paths": ["a", "b"], "name": "1"}, {"paths": ["c", "d"], "name": "2"}]
    return write_several(path, entries, version=version)


def _plate(path: Path, version: Version) -> Path:
    return write_plate(path, version=version, acquisitions=ACQUISITIONS, labels={"nuclei": {}})


def _sparse_plate(path: Path, version: Version) -> Path:
    return write_plate(path, version=version, wells=["B/2"], fields=["0"], consolidated=True)


def _series(path: Path, version: Version) -> Path:
    return write_series(path, version=version, series=["2", "0", "1"])


def _numbered(path: Path, version: Version) -> Path:
    return write_series(path, version=version, listed=False, xml=False)


def to_world(path: str, name: str = "physical", **changed: Any) -> Json:
    ends = {"input": {"path": path, "name": name}, "output": {"name": "world"}}
    return {"type": "translation", "translation": [0.0, 5.0, 7.0], **ends, **changed}


def kept_in_array(image: str, kind: str, path: str) -> Json:
    """Return a transformation of a scene that has its parameters in an array."""
    ends = {key: to_world(image)[key] for key in ("input", "output")}
    return {"type": kind, "path": path, **ends}


def _scene(path: Path, version: Version) -> Path:
    return write_scene(
        path,
        images={"a": {}, "b/c": {}},
        systems=[SYSTEM],
        transformations=[to_world("a"), kept_in_array("b/c", "affine", "matrix")],
        parameters={"matrix": np.eye(3, 4)},
    )


WRITERS: dict[str, tuple[str, Write]] = {
    "image": ("image", _image),
    "pictured": ("image", _pictured),
    "consolidated": ("image", _consolidated),
    "several": ("image", _several),
    "plate": ("plate", _plate),
    "sparse plate": ("plate", _sparse_plate),
    "series": ("collection", _series),
    "numbered": ("collection", _numbered),
    "scene": ("scene", _scene),
}


@pytest.mark.parametrize(
    ("name", "version"),
    [(name, v) for name in WRITERS for v in VERSIONS if name != "scene" or v == "0.6"],
)
def test_what_is_right_is_valid(tmp_path: Path, name: str, version: Version) -> None:
    kind, write = WRITERS[name]
    found = ngff_xarray.validate(write(tmp_path / "right.ome.zarr", version))
    assert found.errors == found.warnings == ()
    assert (found.valid, found.kind) == (True, kind)
    if kind != "collection":  # whose root states no version until 0.4
        assert found.version == version


@pytest.mark.parametrize("stated", ["0.6rc0", "0.6rc1", "0.6.dev1", "0.6.dev4"])
def test_drafts_of_a_version_are_valid(tmp_path: Path, stated: str) -> None:
    image = write_image(tmp_path / "a.ome.zarr", version="0.6", stated=stated, labels={"cells": {}})
    assert ngff_xarray.validate(image).issues == ()


# ---- images ------------------------------------------------------------------------------------


@pytest.fixture
def flat(tmp_path: Path) -> Callable[[Version], Path]:
    """Write a small image with axes c, y, x and three levels."""

    def write(version: Version) -> Path:
        return write_image(
            tmp_path / "a.ome.zarr", version=version, axes="cyx", shape=(2, 32, 40), scale=(1, 2, 2)
        )

    return write


DATASET = "multiscales[0].datasets[{}].path"


@pytest.mark.parametrize("version", PLACED)
@pytest.mark.parametrize("level", ["0", "2"])
def test_a_level_that_is_not_there(
    flat: Callable[[Version], Path], version: Version, level: str
) -> None:
    path = flat(version)
    shutil.rmtree(path / level)
    issue = the_error(path)
    assert (issue.path, issue.rule) == (DATASET.format(level), rules.LEVEL_ARRAY.text)
    assert f"no array at '{level}'" in issue.message
    # the others can be read, and the same is said there
    tree = xr.open_datatree(path)
    assert len(tree.ngff.levels) == 2
    assert issue in tree.ngff.issues


@pytest.mark.parametrize("version", PLACED)
def test_no_level_is_there(flat: Callable[[Version], Path], version: Version) -> None:
    path = flat(version)
    for level in "012":
        shutil.rmtree(path / level)
    assert [e[1:] for e in errors(path)] == [
        (DATASET.format(level), rules.LEVEL_ARRAY.text) for level in "012"
    ]
    with pytest.raises(MetadataError) as caught:
        xr.open_datatree(path)
    assert [issue.path for issue in caught.value.issues] == [DATASET.format(i) for i in range(3)]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_array_with_too_few_dimensions(tmp_path: Path, version: Version) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version=version, axes="tczyx")
    replace_level(path, "1", np.zeros((25, 31), "uint16"), version, ["y", "x"])
    issue = the_error(path)
    assert (issue.path, issue.rule) == (DATASET.format(1), rules.LEVEL_NDIM.text)
    assert "has 2 dimensions (25, 31), but there are 5 axes" in issue.message


@pytest.mark.parametrize("version", PLACED)
def test_a_group_where_a_level_should_be(flat: Callable[[Version], Path], version: Version) -> None:
    path = flat(version)
    shutil.rmtree(path / "1")
    write_group(path / "1", version=version)
    assert errors(path) == expected("", DATASET.format(1), rules.LEVEL_ARRAY)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("text", ["", "[]", "<html>404</html>"])
def test_an_array_whose_metadata_are_no_json_object(
    flat: Callable[[Version], Path], version: Version, text: str
) -> None:
    path = flat(version)
    array_file(path / "1").write_text(text)
    found = ngff_xarray.validate(path)
    assert not found.valid
    assert any("1" in issue.path or "1" in issue.group for issue in found.errors)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    "changed", [{"shape": "wide"}, {"shape": None}, {"zarr_format": 9}, {"codecs": [], "dtype": 3}]
)
def test_an_array_that_zarr_cannot_open(
    flat: Callable[[Version], Path], version: Version, changed: Json
) -> None:
    path = flat(version)
    edit_array(path / "0", **changed)
    with pytest.raises(MetadataError):
        xr.open_datatree(path)
    assert not ngff_xarray.validate(path).valid


@pytest.mark.parametrize("name", ["zarr.json", ".zattrs"])
@pytest.mark.parametrize("text", ["{", "[]", '{"attributes": 3}', "[" * 10**5])
def test_a_root_that_is_no_json_object(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "a.ome.zarr").mkdir()
    (tmp_path / "a.ome.zarr" / name).write_text(text)
    try:
        found = ngff_xarray.validate(tmp_path / "a.ome.zarr")
    except MetadataError as error:
        assert name in error.issues[0].path
    else:
        assert not found.valid


@pytest.mark.parametrize("version", PLACED)
def test_levels_of_different_data_types(flat: Callable[[Version], Path], version: Version) -> None:
    path = flat(version)
    replace_level(path, "1", np.zeros((2, 16, 20), "float32"), version, list("cyx"))
    issue = the_error(path)
    assert (issue.path, issue.rule) == (DATASET.format(1), rules.LEVEL_DTYPE.text)
    assert issue.message == "has dtype float32, the first level uint16"


@pytest.mark.parametrize("version", VERSIONS)
def test_levels_in_the_wrong_order(tmp_path: Path, version: Version) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version=version, axes="tczyx")
    edit_attributes(path, lambda document: document["multiscales"][0]["datasets"].reverse())
    found = errors(path)
    assert {e[1:] for e in found} == {(DATASET.format(i), rules.LEVEL_ORDER.text) for i in (1, 2)}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_coarse_level_with_smaller_pixels(
    flat: Callable[[Version], Path], version: Version
) -> None:
    path = flat(version)

    def swap(document: Json) -> None:
        first, second, _ = document["multiscales"][0]["datasets"]
        key = "coordinateTransformations"
        first[key], second[key] = second[key], first[key]

    edit_attributes(path, swap)
    assert errors(path) == expected("", DATASET.format(1), rules.LEVEL_ORDER)


@pytest.mark.parametrize("stored", [None, [None, None, None]])
def test_arrays_of_0_5_must_have_dimension_names(
    flat: Callable[[Version], Path], stored: Any
) -> None:
    path = flat("0.5")
    edit_array(path / "1", dimension_names=stored)
    assert errors(path) == expected("", DATASET.format(1), rules.DIMENSION_NAMES)


def test_arrays_of_0_6_may_lack_dimension_names(flat: Callable[[Version], Path]) -> None:
    path = flat("0.6")
    edit_array(path / "1", dimension_names=None)
    assert ngff_xarray.validate(path).issues == ()


@pytest.mark.parametrize("version", ZARR_3)
def test_other_dimension_names_than_the_axes(
    flat: Callable[[Version], Path], version: Version
) -> None:
    path = flat(version)
    edit_array(path / "2", dimension_names=["c", "x", "y"])
    issue = the_error(path)
    assert (issue.path, issue.rule) == (DATASET.format(2), rules.DIMENSION_NAMES.text)
    assert "['c', 'x', 'y']" in issue.message


@pytest.mark.parametrize("version", ["0.2", "0.3", "0.4"])
def test_flat_chunk_keys_are_odd_from_0_2_on(tmp_path: Path, version: Version) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version=version, axes="tczyx")
    edit_array(path / "1", dimension_separator=".")
    found = ngff_xarray.validate(path)
    assert found.valid
    assert [(issue.path, issue.rule) for issue in found.warnings] == [
        (DATASET.format(1), rules.CHUNK_KEYS.text)
    ]


def test_a_document_in_the_wrong_format_of_zarr(tmp_path: Path) -> None:
    old, new = (
        write_image(tmp_path / name, version=version, axes="cyx")
        for name, version in (("old", "0.4"), ("new", "0.5"))
    )
    attributes = json.loads((old / ".zattrs").read_text())
    later = json.loads((new / "zarr.json").read_text())
    (old / ".zattrs").write_text(json.dumps(later["attributes"]))
    (new / "zarr.json").write_text(json.dumps({**later, "attributes": attributes}))
    for path in (old, new):
        assert rules.ZARR_FORMAT.text in {rule for _, _, rule in errors(path)}
        assert len(xr.open_datatree(path).ngff.levels) == 3


def test_an_image_of_several_is_broken(tmp_path: Path) -> None:
    path = _several(tmp_path / "a.ome.zarr", "0.5")
    shutil.rmtree(path / "d")
    assert errors(path) == expected("", "multiscales[1].datasets[1].path", rules.LEVEL_ARRAY)


# ---- coordinate systems ------------------------------------------------------------------------


def write_linked(path: Path, **link: Any) -> Path:
    """Write an image with a label image and a transformation between them."""
    ends = {"input": {"name": "physical"}, "output": {"path": "labels/cells", "name": "physical"}}
    return write_image(
        path,
        version="0.6",
        axes="yx",
        labels={"cells": {}},
        transformations=[{"type": "identity", **ends, **link}],
    )


def test_images_refer_to_systems_of_their_labels(tmp_path: Path) -> None:
    assert ngff_xarray.validate(write_linked(tmp_path / "a.ome.zarr")).issues == ()
    other = {"path": "labels/cells", "name": "elsewhere"}
    issue = the_error(write_linked(tmp_path / "b.ome.zarr", output=other))
    assert issue.path == "multiscales[0].coordinateTransformations[0].output"
    assert issue.rule == rules.SYSTEM_UNKNOWN.text
    assert "'labels/cells' has no system 'elsewhere', only ['physical']" in issue.message


def test_images_refer_to_labels_that_are_not_there(tmp_path: Path) -> None:
    other = {"path": "labels/nuclei", "name": "physical"}
    path = write_linked(tmp_path / "a.ome.zarr", output=other)
    assert [e[1] for e in errors(path)] == ["multiscales[0].coordinateTransformations[0].output"]


def write_scene_of(path: Path, *links: Json, **more: Any) -> Path:
    keywords = {"images": {"a": {}, "b": {}}, "systems": [SYSTEM], **more}
    return write_scene(path, transformations=links, **keywords)


def test_scenes_refer_to_systems_of_their_images(tmp_path: Path) -> None:
    path = write_scene_of(tmp_path / "s.ome.zarr", to_world("a"), to_world("b", "elsewhere"))
    issue = the_error(path)
    assert issue.path == "scene.coordinateTransformations[1].input"
    assert issue.rule == rules.SYSTEM_UNKNOWN.text
    assert "'b' has no system 'elsewhere', only ['physical']" in issue.message


def test_scenes_refer_to_images_that_are_not_there(tmp_path: Path) -> None:
    path = write_scene_of(tmp_path / "s.ome.zarr", to_world("a"), to_world("lost"))
    issue = the_error(path)
    assert (issue.rule, "'lost'" in issue.message) == (rules.SCENE_MISSING.text, True)
    assert "a" in xr.open_datatree(path).ngff.images


def test_scenes_refer_to_systems_that_nobody_describes(tmp_path: Path) -> None:
    link = to_world("b", output={"name": "heaven"})
    path = write_scene_of(tmp_path / "s.ome.zarr", to_world("a"), link)
    assert ("", "scene.coordinateTransformations[1].output.name", rules.SYSTEM_UNKNOWN.text) in (
        errors(path)
    )


@pytest.mark.parametrize("kind", ["affine", "rotation", "displacements", "coordinates"])
def test_matrices_and_fields_that_are_not_there(tmp_path: Path, kind: str) -> None:
    link = kept_in_array("a", kind, "lost")
    issue = the_error(write_scene_of(tmp_path / "s.ome.zarr", to_world("b"), link))
    assert "'lost'" in issue.message
    assert issue.path.startswith("scene.coordinateTransformations[1]")


@pytest.mark.parametrize(
    "matrix",
    [np.eye(2), np.ones(4), np.ones((9, 9)), np.ones((3, 4), "bool")],
)
def test_matrices_that_do_not_fit(tmp_path: Path, matrix: Any) -> None:
    path = write_scene_of(
        tmp_path / "s.ome.zarr",
        to_world("b"),
        kept_in_array("a", "affine", "matrix"),
        parameters={"matrix": matrix},
    )
    assert rules.MATRIX.text in {rule for _, _, rule in errors(path)}


# ---- labels ------------------------------------------------------------------------------------


def write_labels(path: Path, version: Version, **label: Any) -> Path:
    return write_image(path, version=version, axes="yx", labels={"cells": label, "nuclei": {}})


@pytest.mark.parametrize("version", PLACED)
@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_labels_that_are_no_integers(tmp_path: Path, version: Version, dtype: str) -> None:
    path = write_labels(tmp_path / "a.ome.zarr", version, dtype=dtype, colors=None, properties=None)
    issue = the_error(path)
    assert (issue.group, issue.rule) == ("labels/cells", rules.LABEL_DTYPE.text)
    assert issue.message == f"expected integers, found {dtype}"


@pytest.mark.parametrize("version", VERSIONS)
def test_labels_with_another_number_of_levels(tmp_path: Path, version: Version) -> None:
    axes = "tczyx" if version < "0.3" else "yx"
    labels: Any = {"cells": {"levels": 1}, "nuclei": {}}
    path = write_image(tmp_path / "a.ome.zarr", version=version, axes=axes, labels=labels)
    issue = the_error(path)
    assert issue.rule == rules.LABEL_LEVELS.text
    assert issue.message == "has 1 levels, the image has 3"
    assert "labels/cells" in (issue.group, issue.path)


@pytest.mark.parametrize("version", VERSIONS)
def test_labels_that_are_listed_and_not_there(tmp_path: Path, version: Version) -> None:
    axes = "tczyx" if version < "0.3" else "yx"
    labels: Any = {"cells": {}, "a/b": {}}
    path = write_image(tmp_path / "a.ome.zarr", version=version, axes=axes, labels=labels)
    shutil.rmtree(path / "labels/a")
    issue = the_error(path)
    assert (issue.group, issue.path) == ("labels", "labels")
    assert issue.rule == rules.LABEL_MISSING.text
    assert "'a/b'" in issue.message
    assert set(xr.open_datatree(path).ngff.labels) == {"cells"}


@pytest.mark.parametrize("version", ZARR_3)
def test_labels_without_their_namespace_or_version(tmp_path: Path, version: Version) -> None:
    path = write_labels(tmp_path / "a.ome.zarr", version)
    file = path / "labels/zarr.json"
    document = json.loads(file.read_text())
    listed = document["attributes"]["ome"]["labels"]
    for attributes, rule in (
        ({"ome": {"version": version}, "labels": listed}, rules.NAMESPACE),
        ({"ome": {"labels": listed}}, rules.VERSION),
    ):
        file.write_text(json.dumps({**document, "attributes": attributes}))
        assert {e[2] for e in errors(path)} == {rule.text}
        assert set(xr.open_datatree(path).ngff.labels) == {"cells", "nuclei"}


@pytest.mark.parametrize("version", PLACED)
def test_a_label_image_that_cannot_be_read(tmp_path: Path, version: Version) -> None:
    path = write_labels(tmp_path / "a.ome.zarr", version)

    def spoil(document: Json) -> None:
        document["multiscales"][0]["datasets"] = "none"

    edit_attributes(path / "labels/cells", spoil)
    issue = the_error(path)
    assert (issue.group, issue.path) == ("labels/cells", "multiscales[0].datasets")


def test_a_label_image_in_a_damaged_file(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "a.ome.zarr", "0.5")
    (path / "labels/cells/0/zarr.json").write_text("{")
    assert [issue.group for issue in ngff_xarray.validate(path).errors] == ["labels/cells"]


# ---- plates, wells and series ------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_wells_and_fields_that_are_listed_and_not_there(tmp_path: Path, version: Version) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", version=version, missing=["A/2", "B/1/1"])
    found = {(issue.group, issue.path): issue for issue in ngff_xarray.validate(path).errors}
    assert set(found) == {("", "plate.wells"), ("B/1", "well.images")}
    assert found["", "plate.wells"].rule == rules.WELL_MISSING.text
    assert "'A/2'" in found["", "plate.wells"].message
    assert found["B/1", "well.images"].rule == rules.FIELD_MISSING.text
    assert "'1'" in found["B/1", "well.images"].message
    assert set(xr.open_datatree(path, wells="all").ngff.images) == {
        *("A/1/0", "A/1/1", "B/1/0", "B/2/0", "B/2/1")
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_a_well_that_is_no_well(tmp_path: Path, version: Version) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", version=version)
    write_group(path / "A/1", version=version, attributes={"title": "something else"})
    issue = the_error(path)
    assert (issue.path, issue.rule) == ("plate.wells", rules.WELL_MISSING.text)
    assert "'A/1' cannot be opened" in issue.message


@pytest.mark.parametrize(("version", "number"), [("0.1", 7), ("0.4", 7), ("0.5", None)])
def test_fields_of_an_acquisition_that_the_plate_does_not_have(
    tmp_path: Path, version: Version, number: int | None
) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", version=version, acquisitions=ACQUISITIONS)

    def change(document: Json) -> None:
        document["well"]["images"][1].pop("acquisition")
        if number is not None:
            document["well"]["images"][1]["acquisition"] = number

    edit_attributes(path / "A/1", change)
    issue = the_error(path)
    assert issue.rule == rules.FIELD_ACQUISITION.text
    assert issue.message == f"expected one of [0, 1], found {number}"
    assert (issue.group, issue.path) == ("A/1", "well.images[1].acquisition")


def test_a_plate_with_one_acquisition_need_not_name_it(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", plate={"acquisitions": ACQUISITIONS[:1]})
    assert ngff_xarray.validate(path).issues == ()


@pytest.mark.parametrize("place", ["A/1", "A/1/0", "A/1/0/labels", "A/1/0/labels/cells"])
def test_children_of_another_version(tmp_path: Path, place: str) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", version="0.6", labels={"cells": {}}, wells=["A/1"])
    other = write_plate(tmp_path / "q.ome.zarr", labels={"cells": {}}, wells=["A/1"])
    shutil.copy(other / place / "zarr.json", path / place / "zarr.json")
    found = ngff_xarray.validate(path)
    assert not found.valid
    assert {issue.rule for issue in found.errors} == {rules.VERSION.text}
    assert any("is version 0." in issue.message for issue in found.errors)


def test_labels_of_another_version(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version="0.6", axes="yx", labels={"cells": {}})
    other = write_image(tmp_path / "b.ome.zarr", version="0.5", axes="yx", labels={"cells": {}})
    shutil.rmtree(path / "labels")
    shutil.copytree(other / "labels", path / "labels")
    assert [e[2] for e in errors(path)] == [rules.VERSION.text]


def test_children_in_another_format_of_zarr(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", wells=["A/1"], fields=1)
    shutil.rmtree(path / "A/1/0")
    write_image(path / "A/1/0", version="0.4", axes="cyx")
    assert errors(path) == expected("A/1", "well.images", rules.FIELD_MISSING)


@pytest.mark.parametrize("version", VERSIONS)
def test_series_that_are_listed_and_not_there(tmp_path: Path, version: Version) -> None:
    path = write_series(tmp_path / "s.ome.zarr", version=version, missing=["1"])
    issue = the_error(path)
    assert (issue.path, issue.rule) == ("series", rules.SERIES_MISSING.text)
    assert "'1'" in issue.message
    assert set(xr.open_datatree(path).ngff.images) == {"0", "2"}


def test_series_that_are_no_images(tmp_path: Path) -> None:
    path = write_series(tmp_path / "s.ome.zarr", count=2)
    edit_attributes(path / "1", lambda document: document["multiscales"].clear())
    edit_attributes(path / "OME", lambda document: document.update(series=["0", 7, "1", "../x"]))
    found = ngff_xarray.validate(path)
    assert {(issue.group, issue.path) for issue in found.errors} == {
        ("OME", "series"),
        ("", "series"),  # 7 is read as a path, where there is nothing
        ("1", "multiscales"),
    }


def test_faults_deep_in_a_plate_are_found(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", labels={"cells": {"dtype": "float32"}})
    found = ngff_xarray.validate(path)
    assert {issue.group for issue in found.errors} == {
        f"{well}/{field}/labels/cells" for well in ("A/1", "A/2", "B/1", "B/2") for field in "01"
    }


# ---- the report --------------------------------------------------------------------------------

NASTY = "<script>alert('x')<\x1b[31m\u202eevil&amp;"


class _Tags(HTMLParser):
    """Gathers the tags of a page and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def nasty(tmp_path: Path) -> Path:
    """An image with hostile text wherever a store can have some."""
    if os.name == "nt":
        pytest.skip("files cannot have such names there")
    axes = [
        {"name": NASTY, "type": NASTY, "unit": NASTY},
        {"name": "y", "type": "space", "unit": NASTY},
        {"name": "x", "type": "space", "unit": "micrometer", "longName": 3},
    ]
    path = write_image(
        tmp_path / "a\x1b[31m<script>.ome.zarr",
        axes=axes,
        shape=(1, 16, 16),
        paths=["0", NASTY],
        labels={NASTY: {"axes": ["y", "x"], "dtype": "float32"}},
        omero={"channels": [{"label": 3, "color": NASTY, "window": NASTY}]},
        multiscale={"name": 3, "type": [NASTY]},
    )
    edit_array(path / "0", dimension_names=[NASTY, "\x1b]0;evil\x07", "x"])
    edit_attributes(path / "labels", lambda document: document["labels"].append(f"lost{NASTY}"))
    return path


def test_hostile_text_is_escaped_in_the_page(nasty: Path) -> None:
    found = ngff_xarray.validate(nasty)
    assert len(found.issues) > 5
    page = _Tags()
    page.feed(found._repr_html_())
    assert page.tags <= {"div", "strong", "br", "span", "table", "tr", "th", "td", "code"}
    assert "<script>" in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page.text)


def test_hostile_text_is_plain_in_the_terminal(nasty: Path) -> None:
    found = ngff_xarray.validate(nasty)
    for text in (str(found), repr(found)):
        assert all(line.isprintable() for line in text.split("\n"))


def test_hostile_text_is_plain_in_each_issue(nasty: Path) -> None:
    for issue in ngff_xarray.validate(nasty).issues:
        assert str(issue).isprintable()
        assert issue.message.isprintable()


def test_the_report_as_text(broken: Path) -> None:
    found = ngff_xarray.validate(broken)
    assert str(found) == repr(found)
    title, source, *rest = str(found).split("\n")
    assert title == "invalid: OME-Zarr 0.5 image (1 error, 0 warnings)"
    assert source == str(broken)
    assert rest == [
        "",
        "error: multiscales[0].datasets[2].path",
        "  found: there is no array at '2'; the level is left out",
        f"  rule:  {rules.LEVEL_ARRAY.text}",
        f"         (OME-Zarr 0.5, {rules.LEVEL_ARRAY.section})",
        f"  mend:  {rules.LEVEL_ARRAY.mend}",
    ]


def test_errors_stand_before_warnings(broken: Path) -> None:
    def change(document: Json) -> None:
        del document["multiscales"][0]["axes"][0]["type"]

    edit_attributes(broken, change)
    found = ngff_xarray.validate(broken)
    assert [issue.severity for issue in found.issues] == ["warning", "error"]
    assert [i.severity for i in (*found.errors, *found.warnings)] == ["error", "warning"]
    for text in (str(found), found._repr_html_()):
        assert text.index("datasets[2].path") < text.index("axes[0].type")


def test_a_page_without_issues_has_no_table(scan: Path) -> None:
    page = ngff_xarray.validate(scan)._repr_html_()
    assert "valid: OME-Zarr" in page
    assert "<table" not in page


def test_the_report_as_json(nasty: Path) -> None:
    found = ngff_xarray.validate(nasty)
    read = json.loads(found.to_json())
    assert read == json.loads(found.to_json(indent=None)) == found.to_dict()
    assert (read["valid"], read["kind"], read["version"]) == (False, "image", "0.5")
    assert read["source"] == found.source
    assert len(read["errors"]) == len(found.errors)
    for entry in read["errors"] + read["warnings"]:
        assert set(entry) == {"path", "message", "severity", "rule", "section", "mend", "group"}
    assert found.to_json().isascii()


def test_every_entry_says_what_where_why_and_what_to_do(tmp_path: Path) -> None:
    plate = write_plate(
        tmp_path / "p.ome.zarr",
        missing=["A/2", "B/1/1"],
        labels={"cells": {"dtype": "float32", "levels": 1}},
        plate={"name": 3, "field_count": 0},
    )
    edit_array(plate / "A/1/0/1", dimension_names=["z", "y", "x"])
    found = ngff_xarray.validate(plate)
    assert len(found.errors) > 10
    for issue in found.issues:
        assert issue.path
        assert issue.message
        assert issue.rule.endswith(".")
        assert issue.section.startswith("OME-Zarr 0.5, ")
        assert issue.mend.endswith(".")


def test_a_report_of_very_many_faults_is_no_flood(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", labels={})
    names = [f"cells {i}" for i in range(4000)]
    edit_attributes(path / "labels", lambda document: document.update(labels=names))
    found = ngff_xarray.validate(path)
    assert len(found.errors) == 4000
    assert len(str(found)) < 100_000
    assert len(found._repr_html_()) < 300_000


# ---- the command -------------------------------------------------------------------------------


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ngff_xarray", "validate", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )


def test_the_command_exits_with_0_where_no_must_is_broken(tmp_path: Path) -> None:
    axes = [AXES["c"], {"name": "y", "type": "space"}, AXES["x"]]  # y has no unit
    path = write_image(tmp_path / "a.ome.zarr", axes=axes)
    done = command(path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("valid: OME-Zarr 0.5 image (0 errors, 1 warning)\n")


def test_the_command_exits_with_1_on_errors(broken: Path) -> None:
    done = command(broken)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == f"{ngff_xarray.validate(broken)}\n"


def test_the_command_prints_json(nasty: Path) -> None:
    done = command(nasty, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == ngff_xarray.validate(nasty).to_dict()


def test_the_command_looks_at_one_group(tmp_path: Path) -> None:
    plate = write_plate(tmp_path / "p.ome.zarr", missing=["B/2/1"], wells=["A/1", "B/2"])
    good, bad = (command(plate, "--group", group) for group in ("A/1", "B/2"))
    assert (good.returncode, bad.returncode) == (0, 1)
    assert good.stdout.startswith("valid: OME-Zarr 0.5 well")


def test_the_command_exits_with_2_where_there_is_no_store(tmp_path: Path) -> None:
    done = command(tmp_path / "nothing.ome.zarr")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such file or directory" in done.stderr
    assert "Traceback" not in done.stderr
