"""Mending metadata: what is mended and how, what is left alone, backups, stores, the command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import xarray as xr
import zarr
from servers import CountingServer
from stores import (
    AXES,
    Json,
    Version,
    document,
    edit_attributes,
    write_group,
    write_image,
    write_plate,
    write_scene,
    write_series,
    write_several,
)
from stores.groups import consolidate

import ngff_xarray
from ngff_xarray.errors import NgffError, NotOmeError, StoreError, StoreNotFoundError
from ngff_xarray.mending import Repair

Snapshot = dict[str, bytes]


def snapshot(path: Path) -> Snapshot:
    """Return every file below a folder."""
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def metadata_file(path: Path) -> Path:
    names = ("zarr.json", ".zattrs", ".zarray")
    return next(path / name for name in names if (path / name).exists())


def edit_array(path: Path, **changed: Any) -> None:
    """Rewrite keys of an array's ``zarr.json``; None removes them."""
    found = {**json.loads((path / "zarr.json").read_text()), **changed}
    kept = {key: value for key, value in found.items() if value is not None}
    (path / "zarr.json").write_text(json.dumps(kept))


def in_memory(path: Path, name: str) -> str:
    """Return the URL of a copy of a folder in fsspec's memory."""
    for key, content in snapshot(path).items():
        fsspec.filesystem("memory").pipe_file(f"/{name}/{key}", content)
    return f"memory://{name}"


@pytest.fixture(autouse=True)
def _forget_memory() -> Iterator[None]:
    yield
    fsspec.filesystem("memory").store.clear()


def changes(source: Any, **options: Any) -> dict[str, tuple[Any, Any]]:
    """Return what stands at each place and what is to stand there."""
    found = ngff_xarray.repair(source, **options)
    return {
        f"{change.group}:{change.path}": (change.before, change.after) for change in found.changes
    }


def multiscale(attributes: Json) -> Json:
    found: Json = attributes["multiscales"][0]
    return found


def image_axes(attributes: Json) -> list[Json]:
    entry = multiscale(attributes)
    found: list[Json] = entry["coordinateSystems" if "axes" not in entry else "axes"]
    return found if "axes" in entry else found[0]["axes"]


# ---- what is mended, wherever it stands --------------------------------------------------------

Fault = Callable[[Path, Version], None]


def lose_level(image: Path, version: Version) -> None:
    shutil.rmtree(image / "1")
    for folder in image.parents:
        if folder.name == "labels":  # which are to have as many levels as their image
            edit_attributes(folder.parent, lambda a: multiscale(a)["datasets"].pop())


def state_another_version(image: Path, version: Version) -> None:
    def edit(attributes: Json) -> None:
        for entry in (attributes, *attributes["multiscales"]):
            if "version" in entry:
                entry["version"] = f"{version}-dev-spatialdata"

    edit_attributes(image, edit)


def state_no_version(image: Path, version: Version) -> None:
    def edit(attributes: Json) -> None:
        attributes.pop("version", None)
        multiscale(attributes).pop("version", None)

    edit_attributes(image, edit)


def forget_names(image: Path, version: Version) -> None:
    for level in "01":
        edit_array(image / level, dimension_names=None)


def abbreviate_units(image: Path, version: Version) -> None:
    def edit(attributes: Json) -> None:
        *_, y, x = image_axes(attributes)
        y["unit"], x["unit"] = "µm", "Microns"

    edit_attributes(image, edit)


def empty_units(image: Path, version: Version) -> None:
    def edit(attributes: Json) -> None:
        *_, y, x = image_axes(attributes)
        y["unit"], x["unit"] = "", None

    edit_attributes(image, edit)


def half_write_channels(image: Path, version: Version) -> None:
    channels = [
        {"color": "#ff00ff", "window": {"start": 5, "end": 50}},
        {"label": "GFP"},
    ]
    edit_attributes(image, lambda attributes: attributes.update(omero={"channels": channels}))


FAULTS: dict[str, tuple[Fault, tuple[Version, ...]]] = {
    "a level that is not there": (lose_level, ("0.1", "0.4", "0.5", "0.6")),
    "another version": (state_another_version, ("0.4", "0.5", "0.6")),
    "no version": (state_no_version, ("0.4", "0.5", "0.6")),
    "no dimension names": (forget_names, ("0.5",)),
    "short units": (abbreviate_units, ("0.4", "0.5", "0.6")),
    "empty units": (empty_units, ("0.4", "0.5", "0.6")),
    "half of the channels": (half_write_channels, ("0.1", "0.4", "0.5", "0.6")),
}


def write_place(path: Path, place: str, version: Version) -> str:
    """Write a store with images of two levels; return where in it one is."""
    axes = "tczyx" if version == "0.1" else "cyx"
    small: dict[str, Any] = {"axes": axes, "levels": 2}
    if place == "image":
        write_image(path, version=version, **small)
        return ""
    if place == "labels":
        write_image(path, version=version, labels={"a/cells": {}}, **small)
        return "labels/a/cells"
    if place == "field":
        write_plate(path, version=version, wells=["B/2"], image=small)
        return "B/2/1"
    if place == "series":
        write_series(path, version=version, count=2, image=small)
        return "1"
    ends = {"input": {"path": "b/c", "name": "physical"}, "output": {"name": "world"}}
    systems = [{"name": "world", "axes": [AXES[name] for name in axes]}]
    links = [{"type": "identity", **ends}]
    write_scene(path, images={"b/c": small}, systems=systems, transformations=links)
    return "b/c"


CASES = [
    (fault, version, place)
    for fault, (_, versions) in FAULTS.items()
    for version in versions
    for place in ("image", "labels", "field", "series", "scene")
    if (place != "scene" or version == "0.6")
    and (fault, place) != ("half of the channels", "labels")
]


@pytest.mark.parametrize(("fault", "version", "place"), CASES)
def test_faults_are_mended(tmp_path: Path, fault: str, version: Version, place: str) -> None:
    path = tmp_path / "a.ome.zarr"
    group = write_place(path, place, version)
    FAULTS[fault][0](path / group, version)
    original = snapshot(path)
    before = ngff_xarray.validate(path)
    assert before.issues

    found = ngff_xarray.repair(path)
    assert isinstance(found, Repair)
    assert found.changes
    assert {change.group for change in found.changes} == {group}
    assert snapshot(path) == original, "a dry run changes nothing"

    kept = found.apply()
    mended = snapshot(path)
    assert len(kept) == len(found.documents) > 0
    assert set(mended) - set(original) == set(kept)
    for key in kept:
        name, _, stamp = key.rpartition(".backup-")
        assert stamp
        assert name in found.documents
        assert mended[key] == original[name]
    changed = {key for key in original if mended[key] != original[key]}
    assert changed == set(found.documents)

    after = ngff_xarray.validate(path)
    assert after.valid
    assert len(after.issues) < len(before.issues)
    again = ngff_xarray.repair(path)
    assert (again.changes, again.documents, again.apply()) == ((), {}, ())
    for image in xr.open_datatree(path / group, engine="ngff").ngff.levels:
        assert int(image[(0,) * image.ndim]) >= 0


# ---- levels ------------------------------------------------------------------------------------


def test_levels_that_are_not_there_are_dropped(tmp_path: Path, version: Version) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version=version, levels=4, axes="cyx")
    for level in "13":
        shutil.rmtree(path / level)
    datasets = multiscale(document(path))["datasets"]
    assert changes(path) == {f":multiscales[0].datasets[{i}]": (datasets[i], None) for i in (1, 3)}
    ngff_xarray.repair(path).apply()
    assert multiscale(document(path))["datasets"] == [datasets[0], datasets[2]]
    assert len(xr.open_datatree(path).ngff.levels) == 2


def test_an_image_without_any_level_keeps_them(tmp_path: Path, version: Version) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version=version)
    for level in "012":
        shutil.rmtree(path / level)
    assert changes(path) == {}


def test_every_image_of_a_group_is_mended(tmp_path: Path) -> None:
    entries = [{"paths": ["a", "b"], "name": "1"}, {"paths": ["c", "d"], "name": "2"}]
    path = write_several(tmp_path / "a.ome.zarr", entries)
    shutil.rmtree(path / "d")
    for level in "ac":
        edit_array(path / level, dimension_names=None)
    names = list("czyx")
    found = changes(path)
    assert found.pop(":multiscales[1].datasets[1]")[1] is None
    assert found == {f":{level}/zarr.json: dimension_names": (None, names) for level in "ac"}


# ---- versions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stated", ["0.5-dev-spatialdata", "0.4", "", 5, None, "0.5.1"])
def test_versions_that_are_none(tmp_path: Path, stated: Any) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx")
    edit_attributes(path, lambda attributes: attributes.update(version=stated))
    assert changes(path) == {":version": (stated, "0.5")}


@pytest.mark.parametrize("stated", ["0.6", "0.6rc0", "0.6.dev3"])
def test_names_of_drafts_stay(tmp_path: Path, stated: str) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version="0.6", stated=stated, labels={"cells": {}})
    assert changes(path) == {}


def test_versions_of_each_object_until_0_4(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version="0.4", axes="yx", labels={"cells": {}})

    def edit(attributes: Json) -> None:
        attributes["image-label"].pop("version")
        multiscale(attributes)["version"] = "0.3"

    edit_attributes(path / "labels/cells", edit)
    assert changes(path) == {
        "labels/cells:multiscales[0].version": ("0.3", "0.4"),
        "labels/cells:image-label.version": (None, "0.4"),
    }


@pytest.mark.parametrize("version", ["0.5", "0.6"])
@pytest.mark.parametrize(
    ("kind", "group"),
    [("image", "labels"), ("plate", ""), ("plate", "A/1"), ("series", ""), ("series", "OME")],
)
def test_a_missing_version_is_that_of_the_hierarchy(
    tmp_path: Path, version: Version, kind: str, group: str
) -> None:
    path = tmp_path / "a.ome.zarr"
    if kind == "image":
        write_image(path, version=version, axes="yx", labels={"cells": {}})
    elif kind == "plate":
        write_plate(path, version=version, wells=["A/1"])
    else:
        write_series(path, version=version)
    edit_attributes(path / group, lambda attributes: attributes.pop("version"))
    found = ngff_xarray.repair(path)
    if found.changes:  # or it is left alone
        assert changes(path) == {f"{group}:version": (None, version)}
        found.apply()
        assert ngff_xarray.validate(path).valid


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3"])
def test_a_missing_version_is_not_guessed(tmp_path: Path, version: Version) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", version=version, wells=["A/1"], fields=1)

    def forget(attributes: Json) -> None:
        for entry in (*attributes.values(), *attributes.get("multiscales", [])):
            if isinstance(entry, dict):
                entry.pop("version", None)

    for group in ("", "A/1", "A/1/0"):
        edit_attributes(path / group, forget)
    # what is not sure stays: of 0.3 the names of the axes tell, of 0.1 the chunk keys
    sure = {"0.1": {"0.1"}, "0.2": {"0.2"}, "0.3": {"0.3"}}[version]
    assert {after for _, after in changes(path).values()} <= sure


def test_a_well_without_a_version_takes_no_other_than_its_plate(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", version="0.2", wells=["A/1"], fields=1)
    edit_attributes(path / "A/1", lambda attributes: attributes["well"].pop("version"))
    assert changes(path) in ({}, {"A/1:well.version": (None, "0.2")})


@pytest.mark.parametrize("stated", ["0.7", "1.0-draft"])
def test_newer_versions_stay(tmp_path: Path, stated: str) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", stated=stated)
    assert changes(path) == {}


def test_a_version_is_not_made_of_another_hierarchy(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", version="0.6", wells=["A/1"], stated="0.4")
    found = changes(path)
    assert not {":version", "A/1:version"} & set(found), "0.5 or 0.6: nobody knows"
    assert found["A/1/0:version"] == ("0.4", "0.6")


# ---- 0.4 in Zarr v3 ----------------------------------------------------------------------------


def into_zarr_3(path: Path) -> None:
    """Put the OME documents of a 0.5 hierarchy where 0.4 has them."""
    for file in path.rglob("zarr.json"):
        found = json.loads(file.read_text())
        ome = found.get("attributes", {}).pop("ome", None)
        if ome is not None:
            ome.pop("version")
            for key in ("plate", "well", "image-label", "omero"):
                if key in ome:
                    ome[key]["version"] = "0.4"
            for entry in ome.get("multiscales", []):
                entry["version"] = "0.4"
            found["attributes"] |= ome
            file.write_text(json.dumps(found))


def test_0_4_in_zarr_v3_becomes_0_5(tmp_path: Path) -> None:
    window = {"min": 0, "max": 9, "start": 0, "end": 9}
    path = write_image(
        tmp_path / "a.ome.zarr",
        labels={"cells": {}},
        omero={"channels": [{"color": "FF0000", "window": window}] * 2},
        attributes={"title": "beside"},
    )
    right = {group: document(path / group) for group in ("", "labels", "labels/cells")}
    into_zarr_3(path)
    before = ngff_xarray.validate(path)
    assert not before.valid
    found = ngff_xarray.repair(path)
    assert {(change.group, change.after) for change in found.changes} == {
        (group, "ome") for group in right
    }
    found.apply()
    assert ngff_xarray.validate(path).issues == ()
    for group, attributes in right.items():
        assert document(path / group) == attributes
    assert json.loads((path / "zarr.json").read_text())["attributes"]["title"] == "beside"


@pytest.mark.parametrize("kind", ["plate", "series", "numbered"])
def test_groups_of_0_4_in_zarr_v3(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.ome.zarr"
    if kind == "plate":
        write_plate(path, labels={"cells": {}})
    else:
        write_series(path, listed=kind == "series", xml=kind == "series")
    right = snapshot(path)
    into_zarr_3(path)
    assert not ngff_xarray.validate(path).valid
    ngff_xarray.repair(path).apply()
    assert ngff_xarray.validate(path).issues == ()
    mended = snapshot(path)
    for key, content in right.items():
        if key.endswith("zarr.json"):
            assert json.loads(mended[key]) == json.loads(content)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_0_6_without_its_namespace_is_no_crash(tmp_path: Path, version: Version) -> None:
    entry = multiscale(document(write_image(tmp_path / "a.ome.zarr", version="0.6", axes="yx")))
    path = write_group(
        tmp_path / "b.ome.zarr", version=version, attributes={"multiscales": [entry]}
    )
    ngff_xarray.repair(path)


@pytest.mark.parametrize("attributes", [{"labels": ["a"]}, {"labels": ["a"], "ome": {"x": 1}}])
def test_lists_of_other_conventions_stay(tmp_path: Path, attributes: Json) -> None:
    path = write_group(tmp_path / "a.zarr", version="0.5", attributes=attributes)
    assert changes(path) == {}


# ---- labels that are listed beside their namespace ----------------------------------------------


def test_labels_listed_beside_their_namespace(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", labels={"cells": {}})
    attributes = {"ome": {"version": "0.5"}, "labels": ["cells"]}
    edited = json.loads((path / "labels/zarr.json").read_text()) | {"attributes": attributes}
    (path / "labels/zarr.json").write_text(json.dumps(edited))
    abbreviate_units(path / "labels/cells", "0.5")
    found = ngff_xarray.repair(path)
    assert "labels/cells" in {change.group for change in found.changes}
    found.apply()
    assert ngff_xarray.validate(path).issues == ()


# ---- units and names ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "mended"),
    [
        *((text, "micrometer") for text in ("µm", "μm", "um", "micron", "Micrometers", " um ")),
        *(("nm", "nanometer"), ("Å", "angstrom"), ("mm", "millimeter")),
        *((empty, None) for empty in ("", " ", "null", "None", "unit", None)),
    ],
)
def test_units(tmp_path: Path, version: Version, unit: Any, mended: str | None) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version=version, axes="yx", levels=1)
    edit_attributes(path, lambda attributes: image_axes(attributes)[1].update(unit=unit))
    assert changes(path) == {":multiscales[0].axes[1].unit": (unit, mended)}
    ngff_xarray.repair(path).apply()
    x = image_axes(document(path))[1]
    assert x.get("unit", None) == mended
    assert ("unit" in x) == (mended is not None)


@pytest.mark.parametrize(
    "unit", ["parsnip", "pixel", "px", "a.u.", "9**9**9", 3, ["um"], "x" * 10**5]
)
def test_unknown_units_stay(tmp_path: Path, version: Version, unit: Any) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version=version, axes="yx", levels=1)
    edit_attributes(path, lambda attributes: image_axes(attributes)[1].update(unit=unit))
    assert changes(path) == {}


def test_units_of_every_coordinate_system(tmp_path: Path) -> None:
    world = {"name": "world", "axes": [{**AXES["y"], "unit": "um"}, {**AXES["x"], "unit": ""}]}
    ends = {"input": {"name": "physical"}, "output": {"name": "world"}}
    path = write_image(
        tmp_path / "a.ome.zarr",
        version="0.6",
        axes="yx",
        systems=[world],
        transformations=[{"type": "identity", **ends}],
    )
    place = ":multiscales[0].coordinateSystems[1].axes"
    assert changes(path) == {
        f"{place}[0].unit": ("um", "micrometer"),
        f"{place}[1].unit": ("", None),
    }


def test_units_of_a_scene(tmp_path: Path) -> None:
    path = tmp_path / "s.ome.zarr"
    write_place(path, "scene", "0.6")
    edit_attributes(path, lambda a: a["scene"]["coordinateSystems"][0]["axes"][1].update(unit="um"))
    assert changes(path) == {
        ":scene.coordinateSystems[0].axes[1].unit": ("um", "micrometer"),
    }


@pytest.mark.parametrize("stored", [None, [None, None], ["", ""]])
def test_dimension_names_that_are_missing(tmp_path: Path, stored: Any) -> None:
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in ("høyde", "a/b")]
    path = write_image(tmp_path / "a.ome.zarr", axes=axes, shape=(8, 8), levels=2)
    edit_array(path / "1", dimension_names=stored)
    names = ["høyde", "a/b"]
    assert changes(path) == {":1/zarr.json: dimension_names": (stored, names)}
    ngff_xarray.repair(path).apply()
    assert json.loads((path / "1/zarr.json").read_text())["dimension_names"] == names


@pytest.mark.parametrize("stored", [["x", "y"], ["y", None], ["lat", "lon"], ["y"]])
def test_other_dimension_names_stay(tmp_path: Path, stored: Any) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", levels=2)
    edit_array(path / "1", dimension_names=stored)
    assert changes(path) == {}


# ---- channels ----------------------------------------------------------------------------------


def with_channel(path: Path, version: Version, dtype: str, channel: Json) -> Path:
    return write_image(
        path,
        version=version,
        axes="cyx",
        shape=(1, 8, 8),
        levels=1,
        dtype=dtype,
        omero={"channels": [channel]},
    )


FULL = {"min": 0, "max": 255, "start": 0, "end": 255}


@pytest.mark.parametrize(
    ("dtype", "window", "mended"),
    [
        ("uint8", None, FULL),
        ("uint8", {}, FULL),
        ("uint8", {"start": 5, "end": 50}, {**FULL, "start": 5, "end": 50}),
        ("uint8", {"min": 5, "max": 50}, {"min": 5, "max": 50, "start": 5, "end": 50}),
        ("uint8", {"min": 1, "max": 99, "start": 7}, {"min": 1, "max": 99, "start": 7, "end": 99}),
        ("int16", None, {"min": -32768, "max": 32767, "start": -32768, "end": 32767}),
        ("uint8", {"min": 1, "max": 9, "start": 50, "end": 2}, None),  # odd, and complete
        ("float32", {"min": 0.5, "max": 9, "start": 1, "end": 2.5}, None),
    ],
)
def test_windows(
    tmp_path: Path, version: Version, dtype: str, window: Any, mended: Json | None
) -> None:
    channel = {"color": "FF0000", **({} if window is None else {"window": window})}
    path = with_channel(tmp_path / "a.ome.zarr", version, dtype, channel)
    expected = {} if mended is None else {":omero.channels[0].window": (window, mended)}
    assert changes(path) == expected


@pytest.mark.parametrize("window", [None, {}, {"color": "red"}])
def test_windows_of_floats_are_not_guessed(tmp_path: Path, version: Version, window: Any) -> None:
    channel = {"color": "FF0000", **({} if window is None else {"window": window})}
    assert changes(with_channel(tmp_path / "a.ome.zarr", version, "float32", channel)) == {}


@pytest.mark.parametrize(
    "window", [{**FULL, "start": "10", "end": "200"}, {**FULL, "start": [10]}, [0, 255], "0-255"]
)
def test_windows_that_say_something_else_stay(
    tmp_path: Path, version: Version, window: Any
) -> None:
    channel = {"color": "FF0000", "window": window}
    assert changes(with_channel(tmp_path / "a.ome.zarr", version, "uint8", channel)) == {}


@pytest.mark.parametrize(
    ("color", "mended"),
    [("#ff0000", "FF0000"), ("0f0", "00FF00"), ("#0000FF80", "0000FF"), ("ff0000", None)],
)
def test_colors(tmp_path: Path, version: Version, color: str, mended: str | None) -> None:
    channel = {"color": color, "window": FULL}
    path = with_channel(tmp_path / "a.ome.zarr", version, "uint8", channel)
    expected = {} if mended is None else {":omero.channels[0].color": (color, mended)}
    assert changes(path) == expected


@pytest.mark.parametrize("color", ["red", "", 255, [255, 0, 0], "\x1b[31m"])
def test_colors_that_are_none_stay(tmp_path: Path, version: Version, color: Any) -> None:
    channel = {"color": color, "window": FULL}
    assert changes(with_channel(tmp_path / "a.ome.zarr", version, "uint8", channel)) == {}


def test_a_missing_color_becomes_the_one_that_is_drawn(tmp_path: Path, version: Version) -> None:
    channels = [{"window": {"min": 0, "max": 9, "start": 0, "end": 9}} for _ in range(2)]
    path = write_image(
        tmp_path / "a.ome.zarr", version=version, axes="cyx", omero={"channels": channels}
    )
    drawn = xr.open_datatree(path).ngff.rgb()
    found = changes(path)
    assert set(found) == {f":omero.channels[{i}].color" for i in range(2)}
    assert all(re.fullmatch("[0-9A-F]{6}", after) for _, after in found.values())
    ngff_xarray.repair(path).apply()
    xr.testing.assert_equal(xr.open_datatree(path).ngff.rgb(), drawn)


# ---- what stays --------------------------------------------------------------------------------


def test_missing_axes_are_not_guessed(tmp_path: Path, version: Version) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version=version, axes="yx")
    edit_attributes(path, lambda attributes: multiscale(attributes).pop("axes"))
    assert not ngff_xarray.validate(path).valid
    assert changes(path) == {}


def test_swapped_rows_and_columns_stay(tmp_path: Path, version: Version) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", version=version, wells=["A/1", "B/1"])

    def swap(attributes: Json) -> None:
        plate = attributes["plate"]
        plate["rows"], plate["columns"] = plate["columns"], plate["rows"]

    edit_attributes(path, swap)
    assert not ngff_xarray.validate(path).valid
    assert changes(path) == {}


def test_what_is_listed_and_not_there_stays_unless_it_is_a_level(
    tmp_path: Path, version: Version
) -> None:
    plate = write_plate(tmp_path / "p.ome.zarr", version=version, missing=["A/1", "B/2/0"])
    series = write_series(tmp_path / "s.ome.zarr", version=version, missing=["1"])
    labels: Any = {"cells": {}, "lost": {}}
    image = write_image(tmp_path / "a.ome.zarr", version=version, axes="yx", labels=labels)
    shutil.rmtree(image / "labels/lost")
    for path in (plate, series, image):
        assert not ngff_xarray.validate(path).valid
        assert changes(path) == {}


def test_geometry_order_and_types_stay(tmp_path: Path, version: Version) -> None:
    labels: Any = {"cells": {"dtype": "float32"}}
    path = write_image(tmp_path / "a.ome.zarr", version=version, axes="yx", labels=labels)

    def spoil(attributes: Json) -> None:
        entry = multiscale(attributes)
        entry["datasets"].reverse()
        entry["axes"][0]["type"] = "time"
        entry["datasets"][0]["coordinateTransformations"].append({"type": "scale", "scale": [2]})

    edit_attributes(path, spoil)
    assert changes(path) == {}


@pytest.mark.parametrize("kind", ["image", "plate", "series", "scene"])
@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6"])
def test_what_is_right_stays(tmp_path: Path, kind: str, version: Version) -> None:
    path = tmp_path / "a.ome.zarr"
    if kind == "image":
        write_image(path, version=version, axes="tczyx", labels={"cells": {}}, consolidated=True)
    elif kind == "plate":
        write_plate(path, version=version, labels={"cells": {}})
    elif kind == "series":
        write_series(path, version=version)
    else:
        write_place(path, "scene", "0.6")
    found = ngff_xarray.repair(path)
    assert (found.changes, found.documents, found.apply()) == ((), {}, ())
    assert str(found) == f"{path}: nothing to mend"


def test_everything_else_in_a_document_survives(tmp_path: Path) -> None:
    beside = {
        "micro": "µm \ud800 💥",
        "numbers": [1e308, 10**40, 0.1, -0.0, True, None],
        "nested": {"a": [{"b": {}}]},
    }
    path = write_image(
        tmp_path / "a.ome.zarr",
        axes="yx",
        attributes=beside,
        ome={"_creator": beside},
        multiscale={"metadata": beside, "own": beside},
    )
    before = json.loads((path / "zarr.json").read_text())
    abbreviate_units(path, "0.5")
    ngff_xarray.repair(path).apply()
    after = json.loads((path / "zarr.json").read_text())
    axes = image_axes(after["attributes"]["ome"])
    assert [axis["unit"] for axis in axes] == ["micrometer"] * 2
    assert after == before
    assert list(after["attributes"]) == list(before["attributes"])


# ---- consolidated metadata ---------------------------------------------------------------------

# zarr warns of every file that is none of its own: here of backups and OME-XML
with_other_files = pytest.mark.filterwarnings("ignore:Object at .* is not recognized")


def is_consistent(path: Path) -> bool:
    """Tell whether consolidated metadata say what the groups and arrays themselves say."""
    listed, real = (
        zarr.open_group(path, mode="r", use_consolidated=flag) for flag in (True, False)
    )
    members = {name: member.metadata.to_dict() for name, member in listed.members(max_depth=None)}
    for name, member in real.members(max_depth=None):
        own, said = member.metadata.to_dict(), members.pop(name)
        for metadata in (own, said):
            metadata.pop("consolidated_metadata", None)
        if repr(own) != repr(said):
            return False
    return not members and dict(listed.attrs) == dict(real.attrs)


@with_other_files
@pytest.mark.parametrize("place", ["image", "labels", "field", "series"])
def test_consolidated_metadata_are_mended_along(
    tmp_path: Path, version: Version, place: str
) -> None:
    path = tmp_path / "a.ome.zarr"
    group = write_place(path, place, version)
    abbreviate_units(path / group, version)
    if version == "0.5":
        edit_array(path / group / "0", dimension_names=None)
    consolidate(path)
    assert is_consistent(path)
    found = ngff_xarray.repair(path)
    assert (".zmetadata" if version == "0.4" else "zarr.json") in found.documents
    kept = found.apply()
    assert len(kept) == len(found.documents)
    assert is_consistent(path)
    assert ngff_xarray.validate(path).issues == ()
    assert ngff_xarray.repair(path).changes == ()


@with_other_files
def test_consolidated_metadata_of_an_image_in_a_plate(tmp_path: Path, version: Version) -> None:
    path = tmp_path / "p.ome.zarr"
    group = write_place(path, "field", version)
    (path / group / "labels").mkdir()
    write_group(path / group / "labels", version=version, ome={"labels": ["cells"]})
    write_image(path / group / "labels/cells", version=version, axes="yx", dtype="uint8", levels=2)
    abbreviate_units(path / group / "labels/cells", version)
    consolidate(path / group)
    ngff_xarray.repair(path).apply()
    assert is_consistent(path / group)
    assert ngff_xarray.repair(path / group).changes == ()


@with_other_files
def test_consolidated_metadata_above_the_group_that_is_mended(
    tmp_path: Path, version: Version
) -> None:
    path = tmp_path / "p.ome.zarr"
    group = write_place(path, "field", version)
    abbreviate_units(path / group, version)
    consolidate(path)
    ngff_xarray.repair(path, group=group).apply()
    assert is_consistent(path)
    assert ngff_xarray.repair(path).changes == ()


def test_consolidated_metadata_of_what_is_not_there_any_more(
    tmp_path: Path, version: Version
) -> None:
    path = write_image(
        tmp_path / "a.ome.zarr", version=version, labels={"cells": {}}, consolidated=True
    )
    metadata_file(path / "labels/cells").unlink()
    ngff_xarray.repair(path)


# ---- stores ------------------------------------------------------------------------------------


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """An image with labels and one abbreviated unit in each."""
    path = write_image(tmp_path / "a.ome.zarr", axes="cyx", labels={"cells": {}})
    abbreviate_units(path, "0.5")
    abbreviate_units(path / "labels/cells", "0.5")
    return path


def test_stores_in_memory(spoilt: Path) -> None:
    url = in_memory(spoilt, "a.ome.zarr")
    memory = fsspec.filesystem("memory")
    before = {key: memory.cat_file(key) for key in memory.find("/a.ome.zarr")}
    found = ngff_xarray.repair(url)
    assert len(found.changes) == 4
    assert {key: memory.cat_file(key) for key in memory.find("/a.ome.zarr")} == before
    kept = found.apply()
    assert {key.rpartition(".backup-")[0] for key in kept} == {
        "zarr.json",
        "labels/cells/zarr.json",
    }
    for key in kept:
        original = before[f"/a.ome.zarr/{key.rpartition('.backup-')[0]}"]
        assert memory.cat_file(f"/a.ome.zarr/{key}") == original
    assert ngff_xarray.validate(url).issues == ()
    assert ngff_xarray.repair(url).changes == ()


def test_stores_of_zarr(spoilt: Path) -> None:
    store = zarr.storage.MemoryStore()
    for key, content in snapshot(spoilt).items():
        buffer = zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(content)
        zarr.core.sync.sync(store.set(key, buffer))
    assert len(ngff_xarray.repair(zarr.open_group(store)).apply()) == 2
    assert ngff_xarray.validate(store).issues == ()
    local = zarr.storage.LocalStore(spoilt)
    assert len(ngff_xarray.repair(local).apply()) == 2
    assert ngff_xarray.validate(spoilt).issues == ()


def test_a_group_of_a_store(tmp_path: Path) -> None:
    path = tmp_path / "p.ome.zarr"
    group = write_place(path, "field", "0.5")
    abbreviate_units(path / group, "0.5")
    assert changes(path, group="B/2/0") == {}
    found = ngff_xarray.repair(path, group=group)
    assert {change.group for change in found.changes} == {""}
    (kept,) = found.apply()
    assert kept.startswith(f"{group}/zarr.json.backup-")
    assert (path / kept).exists()
    assert ngff_xarray.validate(path).issues == ()


def test_a_tree_mends_its_store(spoilt: Path) -> None:
    tree = xr.open_datatree(spoilt)
    found = tree.ngff.repair()
    assert found.changes == ngff_xarray.repair(spoilt).changes
    labels = tree["labels/cells"].ngff.repair()
    assert {change.group for change in labels.changes} == {""}
    assert len(labels.changes) == 2
    found.apply()
    assert ngff_xarray.validate(spoilt).issues == ()
    assert tree.ngff.repair().changes == ()
    with pytest.raises(StoreError, match="not known any more"):
        xr.DataTree.from_dict({"0": tree["0"].to_dataset()}).ngff.repair()


def test_a_tree_in_memory_mends_its_store(spoilt: Path) -> None:
    url = in_memory(spoilt, "a.ome.zarr")
    xr.open_datatree(url, engine="ngff").ngff.repair().apply()
    assert xr.open_datatree(url, engine="ngff").ngff.issues == ()


def test_a_server_that_cannot_be_written(spoilt: Path, server: CountingServer) -> None:
    before = snapshot(spoilt)
    found = ngff_xarray.repair(f"{server.url}/{spoilt.name}")
    assert len(found.changes) == 4
    with pytest.raises(StoreError, match="cannot be written"):
        found.apply()
    assert snapshot(spoilt) == before
    assert {request.method for request in server.requests} == {"GET"}


def test_stores_that_are_opened_for_reading_only(spoilt: Path) -> None:
    before = snapshot(spoilt)
    for source in (
        zarr.storage.LocalStore(spoilt, read_only=True),
        zarr.open_group(spoilt, mode="r"),
    ):
        found = ngff_xarray.repair(source)
        assert len(found.changes) == 4
        with pytest.raises(StoreError, match=r"read-only|cannot be written"):
            found.apply()
        assert snapshot(spoilt) == before


def test_zip_files_are_read_only(spoilt: Path, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "a"), "zip", spoilt)
    before = (tmp_path / "a.zip").read_bytes()
    # opened: zarr 3.1 does not open such a store when it is read
    opening = zarr.storage.ZipStore.open(tmp_path / "a.zip", mode="r")
    with zarr.core.sync.sync(opening) as store:
        found = ngff_xarray.repair(store)
        assert len(found.changes) == 4
        with pytest.raises(StoreError):
            found.apply()
    assert (tmp_path / "a.zip").read_bytes() == before


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        ngff_xarray.repair(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotOmeError):
        ngff_xarray.repair(tmp_path / "empty")


# ---- what can happen meanwhile -----------------------------------------------------------------


def test_a_document_that_changed_meanwhile_is_not_overwritten(spoilt: Path) -> None:
    found = ngff_xarray.repair(spoilt)
    edit_attributes(spoilt, lambda attributes: attributes.update(_creator="someone else"))
    changed = snapshot(spoilt)
    with pytest.raises(StoreError, match="changed"):
        found.apply()
    assert snapshot(spoilt) == changed


def test_a_document_that_is_gone_meanwhile(spoilt: Path) -> None:
    found = ngff_xarray.repair(spoilt)
    (spoilt / "labels/cells/zarr.json").unlink()
    changed = snapshot(spoilt)
    with pytest.raises(StoreError, match="not there any more"):
        found.apply()
    assert snapshot(spoilt) == changed


class _FailingStore(zarr.storage.MemoryStore):
    """Fails at the writing of one key, counted from 0, and at all after it."""

    left = 10**9

    async def set(self, key: str, value: Any, byte_range: Any = None) -> None:
        if self.left <= 0:
            raise OSError("no space left on device")
        self.left -= 1
        await super().set(key, value, byte_range)


@pytest.mark.parametrize("writes", range(4))
def test_a_disk_that_is_full_at_any_write(spoilt: Path, writes: int) -> None:
    store = _FailingStore()
    for key, content in snapshot(spoilt).items():
        buffer = zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(content)
        zarr.core.sync.sync(store.set(key, buffer))
    original = {key: value.to_bytes() for key, value in store._store_dict.items()}
    store.left = writes
    with pytest.raises(StoreError, match="no space left"):
        ngff_xarray.repair(store).apply()
    for key, content in original.items():
        now = store._store_dict[key].to_bytes()
        backups = [k for k in store._store_dict if k.startswith(f"{key}.backup-")]
        assert now == content or store._store_dict[backups[0]].to_bytes() == content
    store.left = 10**9
    ngff_xarray.repair(store).apply()
    assert ngff_xarray.validate(store).issues == ()


def test_backups_of_two_mends_do_not_meet(spoilt: Path) -> None:
    first = ngff_xarray.repair(spoilt).apply()
    abbreviate_units(spoilt, "0.5")
    second = ngff_xarray.repair(spoilt).apply()
    assert not set(first) & set(second)
    assert all((spoilt / key).exists() for key in (*first, *second))


# ---- hostile stores ----------------------------------------------------------------------------


def test_nothing_outside_the_store_is_read(tmp_path: Path) -> None:
    outside = write_image(tmp_path / "outside", axes="cyx", dtype="int8", levels=1)
    leaving = ("../outside/0", f"{outside}/0", "../../" * 20 + str(outside / "0"))
    for i, path in enumerate(leaving):
        image = write_image(
            tmp_path / f"{i}.ome.zarr",
            axes="cyx",
            dtype="uint16",
            levels=1,
            omero={"channels": [{"color": "FF0000"}] * 2},
        )
        edit_attributes(
            image, lambda a, path=path: multiscale(a)["datasets"].insert(0, {"path": path})
        )
        before = snapshot(tmp_path)
        found = ngff_xarray.repair(image)
        windows = [c.after for c in found.changes if c.path.endswith("window")]
        assert all(window["min"] == 0 for window in windows), "the data type is that of outside"
        found.apply()
        assert snapshot(outside) == {
            k.removeprefix("outside/"): v for k, v in before.items() if k.startswith("outside/")
        }


@pytest.mark.parametrize("depth", [100, 400, 900])
def test_deep_documents(tmp_path: Path, version: Version, depth: int) -> None:
    deep: Any = {}
    for _ in range(depth):
        deep = {"a": deep}
    path = write_image(
        tmp_path / "a.ome.zarr", version=version, axes="yx", attributes={"deep": deep}
    )
    abbreviate_units(path, version)
    try:
        found = ngff_xarray.repair(path)
    except NgffError:
        return
    assert len(found.changes) == 2
    found.apply()
    assert ngff_xarray.validate(path).issues == ()


@pytest.mark.parametrize(
    "consolidated", [5, [], {"metadata": 5}, {"metadata": {"0": 5, "labels": []}}]
)
def test_consolidated_metadata_that_are_none(
    spoilt: Path, version: Version, consolidated: Any
) -> None:
    found = json.loads((spoilt / "zarr.json").read_text())
    (spoilt / "zarr.json").write_text(json.dumps({**found, "consolidated_metadata": consolidated}))
    assert len(ngff_xarray.repair(spoilt).apply()) == 2
    assert ngff_xarray.validate(spoilt).issues == ()


@pytest.mark.parametrize("child", ["[]", "{", "5", '{"attributes": []}', '{"attributes": {}}'])
def test_children_that_cannot_be_read_keep_nothing_else(
    tmp_path: Path, version: Version, child: str
) -> None:
    path = write_series(tmp_path / "a.ome.zarr", version=version, listed=False, xml=False)
    abbreviate_units(path / "0", version)
    metadata_file(path / "1").write_text(child)
    write_image(path / "1" / "labels", version=version)
    assert {key.partition(":")[0] for key in changes(path)} == {"0"}


def test_levels_that_cannot_be_read_stay(tmp_path: Path, version: Version) -> None:
    path = write_image(tmp_path / "a.ome.zarr", version=version, axes="yx")
    metadata_file(path / "1").write_text("{")
    assert changes(path) == {}


# ---- how it is shown ---------------------------------------------------------------------------


def test_the_changes_as_text(spoilt: Path) -> None:
    found = ngff_xarray.repair(spoilt)
    assert str(found) == repr(found)
    reason = "(the specification's name of this unit)"
    assert str(found).split("\n") == [
        f"{spoilt}: 4 to mend",
        f"  multiscales[0].axes[1].unit: 'µm' -> 'micrometer' {reason}",
        f"  multiscales[0].axes[2].unit: 'Microns' -> 'micrometer' {reason}",
        f"  labels/cells: multiscales[0].axes[0].unit: 'µm' -> 'micrometer' {reason}",
        f"  labels/cells: multiscales[0].axes[1].unit: 'Microns' -> 'micrometer' {reason}",
    ]


def test_hostile_text_is_plain(tmp_path: Path) -> None:
    if os.name == "nt":
        pytest.skip("files cannot have such names there")
    nasty = "<script>alert(1)<\x1b[31m\u202e&"
    path = write_image(
        tmp_path / f"{nasty}.ome.zarr",
        axes="yx",
        paths=["0", nasty],
        labels={nasty: {}},
        stated=nasty,
    )
    edit_array(path / nasty, dimension_names=None)
    edit_attributes(path, lambda a: multiscale(a)["datasets"].append({"path": f"lost{nasty}"}))
    found = ngff_xarray.repair(path)
    groups = {change.group for change in found.changes}
    assert groups == {"", "labels", f"labels/{nasty}"}
    page = found._repr_html_()
    assert "<script" not in page
    for text in (str(found), page, *map(str, found.changes)):
        assert all(line.isprintable() for line in text.split("\n"))


# ---- the command -------------------------------------------------------------------------------


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ngff_xarray", "repair", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )


def test_the_command_shows_the_changes_and_makes_none(spoilt: Path) -> None:
    before = snapshot(spoilt)
    done = command(spoilt)
    assert (done.returncode, done.stderr) == (0, "")
    hint = "nothing was changed: add --apply to make these changes"
    assert done.stdout == f"{ngff_xarray.repair(spoilt)}\n{hint}\n"
    assert snapshot(spoilt) == before


def test_the_command_makes_the_changes(spoilt: Path) -> None:
    before = snapshot(spoilt)
    done = command(spoilt, "--apply", "--group", "labels/cells")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("kept labels/cells/zarr.json.backup-") == 1
    assert {change.group for change in ngff_xarray.repair(spoilt).changes} == {""}
    done = command(spoilt, "--apply")
    (key,) = re.findall(r"^kept (.+)$", done.stdout, re.MULTILINE)
    assert (spoilt / key).read_bytes() == before["zarr.json"]
    assert ngff_xarray.validate(spoilt).issues == ()
    done = command(spoilt, "--apply")
    assert (done.returncode, done.stdout) == (0, f"{spoilt}: nothing to mend\n")


def test_the_command_exits_with_2_where_there_is_no_store(tmp_path: Path) -> None:
    done = command(tmp_path / "nothing.ome.zarr")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such file or directory" in done.stderr
    assert "Traceback" not in done.stderr
