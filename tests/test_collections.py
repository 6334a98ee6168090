"""Collections as RFC-8 proposes them: what they open as, and where they may lead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr
from servers import Answer, Ask, CountingServer
from stores import write_image, write_plate
from stores.pixels import Array

import ngff_xarray
from ngff_xarray.errors import MetadataError, NgffError, NotOmeError, UnsupportedError

Json = dict[str, Any]
SMALL = {"axes": "yx", "shape": (16, 20), "levels": 2}


def node(
    name: str, path: str = "", kind: str = "multiscale", to: str = "zarr", **more: Any
) -> Json:
    said = {"type": kind, "name": name, **more}
    return {**said, "path": {"type": to, "path": path}} if path else said


def document(*nodes: Json, **more: Any) -> Json:
    said = {"version": "0.8", "type": "collection", "name": "all", "nodes": list(nodes)}
    return {"ome": {**said, **more}}


def write(path: Path, *nodes: Json, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(*nodes, **more)))
    return path


def open_tree(path: Any, **options: Any) -> xr.DataTree:
    return xr.open_datatree(path, engine="ngff", **options)


def messages(tree: xr.DataTree) -> str:
    return "\n".join(map(str, tree.ngff.issues))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an image that has labels, an older image, and a secret beside it."""
    home = tmp_path / "home"
    write_image(home / "raw.ome.zarr", **SMALL, labels={"cells": {}})
    write_image(home / "old" / "a.zarr", **SMALL, version="0.4", seed=1)
    write_image(tmp_path / "secret.zarr", **SMALL, seed=2)
    return home


# ---- what they open as ---------------------------------------------------------------------------


def test_a_document_opens_to_its_images_by_name(folder: Path) -> None:
    listed = [node("raw data", "./raw.ome.zarr"), node("old", "old/a.zarr/")]
    tree = xr.open_datatree(write(folder / "all.json", *listed))  # also unasked
    assert tree.ngff.kind == "collection"
    assert list(tree.ngff.images) == ["raw data", "old"]
    raw, old = tree.ngff.images.values()
    assert (raw.ngff.version, old.ngff.version) == ("0.5", "0.4")
    expected = xr.open_datatree(folder / "raw.ome.zarr")
    np.testing.assert_array_equal(raw.ngff.level(0), expected.ngff.level(0))
    assert raw.attrs["ome"] == expected.attrs["ome"]
    assert list(raw.ngff.labels) == ["cells"]
    assert tree.ngff.issues == ()
    assert (tree.attrs["ome"]["name"], tree.ngff.version) == ("all", "0.8")
    with pytest.raises(NotOmeError, match="this is a collection, no image"):
        xr.open_dataset(folder / "all.json", engine="ngff")


def test_the_same_in_the_group_of_a_store(folder: Path) -> None:
    path = folder / "all.zarr"
    write_image(path / "inner" / "raw", **SMALL)
    (path / "zarr.json").write_text(
        json.dumps(
            {
                "zarr_format": 3,
                "node_type": "group",
                "attributes": document(node("raw", "inner/raw")) | {"title": "kept"},
            }
        )
    )
    tree = xr.open_datatree(path)
    assert list(tree.ngff.images) == ["raw"]
    assert tree.attrs["title"] == "kept"
    again = open_tree(folder / "all.zarr", group="inner/raw")
    np.testing.assert_array_equal(tree["raw/0"]["image"], again["0"]["image"])


def test_what_a_collection_says_of_a_node_stays_with_it(folder: Path) -> None:
    said = {"viewer:settings": {"on": False}}
    listed = node("raw", "raw.ome.zarr", id="r", attributes=said)
    tree = open_tree(write(folder / "all.json", listed, attributes={"mobie:grid": "true"}))
    expected = {"type": "multiscale", "name": "raw", "id": "r", "attributes": said}
    assert tree["raw"].attrs["node"] == expected
    assert tree.attrs["ome"]["attributes"] == {"mobie:grid": "true"}


def test_collections_stand_in_collections_inline_and_in_other_documents(folder: Path) -> None:
    write(
        folder / "deep" / "child.json",
        node("inner", "a.zarr"),
        name="its own name",
        attributes={"ex:a": 0, "ex:c": 3},
    )
    write_image(folder / "deep" / "a.zarr", **SMALL, seed=5)
    outer = [
        node("here", kind="collection", nodes=[node("raw", "raw.ome.zarr")]),
        node("there", "deep/child.json", "collection", "json", attributes={"ex:a": 1}),
    ]
    tree = open_tree(write(folder / "all.json", *outer))
    assert list(tree.ngff.images) == ["here/raw", "there/inner"]
    assert [child.ngff.kind for child in tree.children.values()] == ["collection", "collection"]
    there = tree["there"].attrs["ome"]
    assert (there["name"], there["attributes"]) == ("there", {"ex:a": 1, "ex:c": 3})
    np.testing.assert_array_equal(
        tree["there/inner/0"]["image"], xr.open_datatree(folder / "deep" / "a.zarr")["0"]["image"]
    )


def test_plates_are_opened_to_their_wells(folder: Path) -> None:
    write_plate(folder / "p.zarr", fields=1)
    tree = open_tree(write(folder / "all.json", node("p", "p.zarr", "collection")))
    assert tree["p"].ngff.kind == "plate"
    assert tree["p"].ngff.to_array(fields=0).sizes["well"] == 4


def test_label_images_are_told_by_their_attribute(folder: Path) -> None:
    listed = node("cells", "raw.ome.zarr", attributes={"labels": {"source": [{"id": "raw"}]}})
    tree = open_tree(write(folder / "all.json", listed))
    assert tree["cells"].ngff.kind == "labels"


def test_names_make_paths_of_a_tree(folder: Path) -> None:
    listed = [node(name, "old/a.zarr") for name in ("a/b", "a_b", "..", "µ <b>")]
    listed.append({"type": "multiscale", "path": {"type": "zarr", "path": "old/a.zarr"}})
    tree = open_tree(write(folder / "all.json", *listed))
    assert list(tree.children) == ["a_b", "a_b_2", "2", "µ <b>", "4"]
    assert "nodes[4].name: expected text, found None" in messages(tree)


def test_what_is_no_image_is_kept_and_told(folder: Path) -> None:
    spots = node("spots", "https://host/table", "mobie:spots_table", "google-sheet")
    listed = [spots, node("s0", "raw.ome.zarr/0", "singlescale"), node("raw", "raw.ome.zarr")]
    tree = open_tree(write(folder / "all.json", *listed))
    assert tree["spots"].attrs["node"] == spots
    assert list(tree.ngff.images) == ["raw"]
    assert "warning: nodes[0].type: 'mobie:spots_table' is kept, and not opened" in messages(tree)
    assert "nodes[1].type: 'singlescale' is kept" in messages(tree)


def test_they_are_written_image_by_image(folder: Path, tmp_path: Path) -> None:
    tree = open_tree(write(folder / "all.json", node("raw", "raw.ome.zarr")))
    with pytest.raises(UnsupportedError, match="read and not written"):
        tree.ngff.to_zarr(tmp_path / "b.zarr")
    tree.ngff.images["raw"].ngff.to_zarr(tmp_path / "b.zarr")
    assert xr.open_datatree(tmp_path / "b.zarr").attrs["node"]["name"] == "raw"


def test_reprs_and_validation(folder: Path) -> None:
    tree = open_tree(write(folder / "all.json", node("raw", "raw.ome.zarr"), version=3))
    assert "raw" in repr(tree.ngff)
    found = tree.ngff.validate()
    assert [issue.path for issue in found.errors] == ["version"]
    assert found.errors[0].section == "RFC-8, version 1 (2026-08)"
    assert ngff_xarray.validate(document(node("a", "b"))).valid
    assert ngff_xarray.open_image(folder / "all.json").ngff.kind == "collection"


# ---- images that the proposal describes ----------------------------------------------------------

AXES = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
SYSTEMS = [{"id": "physical", "name": "The physical one", "axes": AXES}]


def scale(number: int, path: str, **more: Any) -> Json:
    return node(f"s{number}", path, "singlescale", id=f"s{number}", **more)


def link(number: int, **more: Any) -> Json:
    ends = {"input": {"id": f"s{number}"}, "output": {"id": "physical"}}
    return {"type": "scale", "scale": [0.5 * 2**number] * 2, **ends, **more}


def write_levels(path: Path, links: bool = False) -> list[Array]:
    """Write two arrays; with links, their attributes say where they lie."""
    arrays = [np.arange(16 * 20, dtype="u2").reshape(16, 20)[::n, ::n] for n in (1, 2)]
    for number, array in enumerate(arrays):
        said = {"type": "singlescale", "attributes": {"coordinateTransformations": [link(number)]}}
        attributes = {"ome": said} if links else {}
        zarr.create_array(path / f"s{number}", data=array, attributes=attributes)
    return arrays


def linked(number: int, path: str) -> Json:
    return scale(number, path, attributes={"coordinateTransformations": [link(number)]})


def check(tree: xr.DataTree, arrays: list[Array]) -> None:
    for level, array in zip(tree.ngff.levels, arrays, strict=True):
        np.testing.assert_array_equal(level, array)
    assert tree.ngff.pixel_size["x"].magnitude == 0.5
    assert tree.ngff.units == {"y": "micrometer", "x": "micrometer"}


@pytest.mark.parametrize("place", ["levels", "image", "arrays"])
def test_images_may_stand_inline(folder: Path, place: str) -> None:
    arrays = write_levels(folder / "inline", links=place == "arrays")
    paths = ["./inline/s0", "./inline/s1"]
    made = linked if place == "levels" else scale
    attributes: Json = {"coordinateSystems": SYSTEMS, "lab:key": 1}
    if place == "image":
        attributes["coordinateTransformations"] = [link(0), link(1)]
    image = node("a", nodes=[made(i, p) for i, p in enumerate(paths)], attributes=attributes)
    tree = open_tree(write(folder / "all.json", image))
    assert tree.ngff.issues == ()
    check(tree.ngff.images["a"], arrays)
    assert list(tree["a"].children) == ["s0", "s1"]
    assert tree["a"].attrs["ome"]["extra"]["multiscale"]["attributes"] == {"lab:key": 1}


def test_groups_may_say_so_themselves(folder: Path) -> None:
    arrays = write_levels(folder / "image.zarr")
    said = {
        "version": "0.8",
        "type": "multiscale",
        "name": "pyramid",
        "nodes": [linked(0, "./s0"), linked(1, "./s1")],
        "attributes": {"coordinateSystems": SYSTEMS},
    }
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": said}}
    (folder / "image.zarr" / "zarr.json").write_text(json.dumps(group))
    tree = xr.open_datatree(folder / "image.zarr")
    check(tree, arrays)
    assert (tree.ngff.name, tree.ngff.kind, tree.ngff.version) == ("pyramid", "image", "0.6")
    check(open_tree(write(folder / "all.json", node("a", "image.zarr")))["a"], arrays)
    by_json = node("a", "image.zarr/zarr.json", to="json")
    check(open_tree(write(folder / "all.json", by_json))["a"], arrays)


def test_labels_inline_have_their_colours_and_properties(folder: Path) -> None:
    write_levels(folder / "inline")
    entries = [{"labelValue": 1, "color": [255, 0, 0, 255], "lab:kind": "a"}, {"labelValue": 2}]
    attributes = {"coordinateSystems": SYSTEMS, "labels": {"labelAttributes": entries}}
    image = node("a", nodes=[linked(0, "inline/s0")], attributes=attributes)
    tree = open_tree(write(folder / "all.json", image))["a"]
    assert tree.ngff.kind == "labels"
    assert tree.ngff.colors == {1: (255, 0, 0, 255)}
    assert tree.ngff.properties.loc[1, "lab:kind"] == "a"


def test_images_that_lack_what_they_need_are_kept(folder: Path) -> None:
    write_levels(folder / "inline")
    listed = [
        node("no systems", nodes=[linked(0, "inline/s0")], attributes={}),
        node("no levels", nodes=[], attributes={"coordinateSystems": SYSTEMS}),
        node("no array", nodes=[linked(0, "inline/s7")], attributes={"coordinateSystems": SYSTEMS}),
        node("out", nodes=[linked(0, "../s"), linked(1, "inline/s1")], attributes={}),
    ]
    tree = open_tree(write(folder / "all.json", *listed))
    assert list(tree.ngff.images) == []
    assert tree["no levels"].attrs["node"]["nodes"] == []
    for name in ("no systems", "no levels", "no array", "out"):
        assert name in messages(tree)


# ---- where they may lead -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["../secret.zarr", "old/../../secret.zarr", "{secret}", "file://{secret}", "link.zarr"]
)
def test_nothing_outside_the_folder_is_read_unless_trusted(folder: Path, path: str) -> None:
    secret = folder.parent / "secret.zarr"
    (folder / "link.zarr").symlink_to(secret)
    listed = node("secret", path.format(secret=secret)), node("raw", "raw.ome.zarr")
    write(folder / "all.json", *listed)
    tree = open_tree(folder / "all.json")
    assert list(tree.ngff.images) == ["raw"]
    assert "leads out of" in messages(tree)
    assert "trust=True" in messages(tree)
    trusted = open_tree(folder / "all.json", trust=True)
    expected = xr.open_datatree(secret)
    np.testing.assert_array_equal(trusted["secret/0"]["image"], expected["0"]["image"])


def test_absolute_paths_inside_the_folder_are_fine(folder: Path) -> None:
    listed = node("raw", f"file://{folder}/raw.ome.zarr")
    assert list(open_tree(write(folder / "all.json", listed)).ngff.images) == ["raw"]


def test_a_store_leads_to_its_own_groups_and_not_beside_it(folder: Path) -> None:
    said = document(node("own", "../raw"), node("out", "../../raw.ome.zarr"))
    write_image(folder / "all.zarr" / "raw", **SMALL)
    group = {"zarr_format": 3, "node_type": "group", "attributes": said}
    (folder / "all.zarr" / "sub").mkdir()
    (folder / "all.zarr" / "sub" / "zarr.json").write_text(json.dumps(group))
    tree = open_tree(folder / "all.zarr", group="sub")
    assert list(tree.ngff.images) == ["own"]
    assert list(open_tree(folder / "all.zarr", group="sub", trust=True).ngff.images) == [
        "own",
        "out",
    ]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("s3://bucket/a.zarr", "expected a relative path"),
        ("memory://a.zarr", "expected a relative path"),
        ("nowhere.zarr", "there is no group"),
        ("/nowhere/at/all.zarr", "no such file"),
        ("a\0b", "is no path"),
        ("x" * 5000, "is no path"),
    ],
)
def test_paths_that_lead_nowhere_are_issues(folder: Path, path: str, why: str) -> None:
    tree = open_tree(write(folder / "all.json", node("a", path)), trust=True)
    assert why in messages(tree)
    assert tree["a"].attrs["node"]["path"]["path"] == path


def test_documents_that_lead_back_end(folder: Path) -> None:
    back = node("back", "b.json", "collection", "json")
    write(folder / "a.json", back, node("raw", "raw.ome.zarr"))
    write(folder / "b.json", node("again", "a.json", "collection", "json"))
    tree = open_tree(folder / "a.json")
    assert "leads back to a collection that it stands in" in messages(tree)
    assert "raw" in tree.ngff.images


def test_many_nodes_are_capped_in_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ngff_xarray.read.linked.MAX_CHILDREN", 20)
    write(folder / "b.json", *(node(f"i{i}", "raw.ome.zarr") for i in range(9)))
    documents = [node(f"d{i}", "b.json", "collection", "json") for i in range(9)]
    tree = open_tree(write(folder / "a.json", *documents))
    assert len(tree.ngff.images) == 11
    assert "more than 20 nodes in all" in messages(tree)


@pytest.mark.parametrize(
    "said",
    [
        {"type": "collection", "nodes": 3},
        {"type": "collection", "nodes": [3, None, []]},
        {"type": "collection", "nodes": [{"path": 3}, {"path": {"path": []}}, {"nodes": {}}]},
        {"type": "collection", "nodes": [{"type": "collection", "attributes": 3, "name": []}]},
        {"type": "collection", "nodes": [{"type": "multiscale", "nodes": [{"path": {}}]}]},
        {"type": "collection", "path": {"type": "zarr", "path": "raw.ome.zarr"}},
        {"type": "multiscale", "nodes": [{"path": {"type": "zarr", "path": "raw.ome.zarr/0"}}]},
        {"type": "multiscale", "nodes": [], "attributes": {"coordinateSystems": 3}},
    ],
)
def test_documents_that_make_no_sense_say_so(folder: Path, said: Json) -> None:
    (folder / "all.json").write_text(json.dumps({"ome": {"version": "0.8", "name": "x", **said}}))
    try:
        tree = open_tree(folder / "all.json")
    except NgffError as error:
        assert str(error)
    else:
        assert tree.ngff.issues


def test_nesting_without_end_is_refused(folder: Path) -> None:
    deep = '{"type": "collection", "name": "x", "nodes": [' * 3000 + "]}" * 3000
    (folder / "all.json").write_text('{"ome": ' + deep + "}")
    try:
        tree = open_tree(folder / "all.json")
    except MetadataError as error:  # of what Python cannot parse
        assert "no JSON" in str(error)
    else:
        assert "too deep" in messages(tree)
        assert max(node.level for node in tree.subtree) < 20


# ---- on the web ----------------------------------------------------------------------------------


class Listening(CountingServer):
    """A server that notes the credentials that it is sent."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.credentials: set[str | None] = set()

    def answer(self, ask: Ask, fault: int | str | None) -> Answer:
        self.credentials.add(ask.headers.get("authorization"))
        return super().answer(ask, fault)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Listening]:
    """Another host, with an image."""
    write_image(tmp_path / "elsewhere" / "a.zarr", **SMALL, seed=7)
    with Listening(tmp_path / "elsewhere") as server:
        yield server


def test_images_of_a_server_are_opened_at_the_same_time(folder: Path) -> None:
    write(folder / "all.json", *(node(f"i{i}", "raw.ome.zarr") for i in range(6)))
    with CountingServer(folder, latency=0.05) as server:
        alone = f"{server.url}/raw.ome.zarr"
        expected = open_tree(alone)["1"]["image"]
        once, deep = server.count, server.depth
        server.clear()
        tree = open_tree(f"{server.url}/all.json")
        assert server.count == 1 + 6 * once
        assert server.depth <= 1 + 2 * deep  # one after the other it were 6 times as deep
        server.clear()
        assert tree["i3/1"]["image"].sizes == {"y": 8, "x": 10}
        assert server.count == 0
        np.testing.assert_array_equal(tree["i3/1"]["image"], expected)


@pytest.mark.parametrize(
    "path", ["../secret.zarr", "..%2fsecret.zarr", "%252e%252e/secret.zarr", "..\\secret.zarr"]
)
def test_a_document_does_not_lead_up_on_its_server(
    folder: Path, server: CountingServer, path: str
) -> None:
    write(folder / "all.json", node("secret", path))
    tree = open_tree(f"{server.url}/home/all.json")
    assert "leads out of" in messages(tree)
    assert server.count == 1


def test_up_and_by_address_if_trusted(folder: Path, server: CountingServer) -> None:
    by_address = f"{server.url}/home/raw.ome.zarr"
    write(folder / "all.json", node("up", "../secret.zarr"), node("own", by_address))
    assert list(open_tree(f"{server.url}/home/all.json").ngff.images) == ["own"]
    trusted = open_tree(f"{server.url}/home/all.json", trust=True)
    assert list(trusted.ngff.images) == ["up", "own"]


def test_other_hosts_are_asked_only_if_trusted_and_without_credentials(
    folder: Path, other: Listening
) -> None:
    write(folder / "all.json", node("there", f"{other.url}/a.zarr"), node("raw", "raw.ome.zarr"))
    options = {"headers": {"Authorization": "secret"}}
    with Listening(folder) as server:
        url = f"{server.url}/all.json"
        assert list(open_tree(url, storage_options=options).ngff.images) == ["raw"]
        assert other.count == 0
        tree = open_tree(url, storage_options=options, trust=True)
        assert list(tree.ngff.images) == ["there", "raw"]
        assert f"warning: nodes[0].path: is read from {other.url}/a.zarr" in messages(tree)
        tree["there/0"]["image"].load()
        assert (server.credentials, other.credentials) == ({"secret"}, {None})


def test_a_document_from_the_web_never_means_local_files(
    folder: Path, server: CountingServer
) -> None:
    secret = folder.parent / "secret.zarr"
    write(folder / "all.json", node("a", f"file://{secret}"), node("b", str(secret)))
    tree = open_tree(f"{server.url}/home/all.json", trust=True)
    assert list(tree.ngff.images) == []
    assert "cannot mean files of this machine" in messages(tree)


def test_buckets_of_any_kind_are_fine(folder: Path) -> None:
    files = fsspec.filesystem("memory")
    write(folder / "all.json", node("raw", "raw.ome.zarr"))
    files.put(str(folder), "/collections-of-tests", recursive=True)
    try:
        tree = open_tree("memory://collections-of-tests/all.json")
        expected = xr.open_datatree(folder / "raw.ome.zarr")["0"]["image"]
        np.testing.assert_array_equal(tree["raw/0"]["image"], expected)
    finally:
        files.rm("/collections-of-tests", recursive=True)
