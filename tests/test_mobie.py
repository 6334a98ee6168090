"""Projects for MoBIE: what they hold, held against what its schemas and its validator demand."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import OMERO
from servers import CountingServer
from stores import write_image, write_plate

from ngff_xarray.errors import NotOmeError, StoreError, UnsupportedError
from ngff_xarray.export.label_boxes import label_boxes
from ngff_xarray.export.mobie import to_mobie
from ngff_xarray.well_tables import join

Json = dict[str, Any]
NAME = re.compile(r"[^;,/ ]+")
PLATE: Json = {"image": {"axes": "cyx", "shape": (2, 16, 20), "omero": OMERO}}


# ---- what MoBIE demands --------------------------------------------------------------------------


def load(project: Path, dataset: str) -> Json:
    """Return a dataset, after looking at all that the schemas and the validator of MoBIE do."""
    whole = json.loads((project / "project.json").read_text())
    assert set(whole) == {"specVersion", "datasets", "defaultDataset"}
    assert whole["specVersion"] == "0.3.0"
    assert dataset in whole["datasets"]
    assert whole["defaultDataset"] in whole["datasets"]
    found: Json = json.loads((project / dataset / "dataset.json").read_text())
    assert {"is2D", "sources", "views"} <= set(found) <= {"is2D", "sources", "views", "description"}
    for name, source in found["sources"].items():
        assert NAME.fullmatch(name)
        check_source(project / dataset, source, flat=found["is2D"])
    assert "default" in found["views"]
    for name, view in found["views"].items():
        assert NAME.fullmatch(name)
        check_view(view, found["sources"])
    return found


def check_source(folder: Path, source: Json, *, flat: bool) -> None:
    ((kind, said),) = source.items()
    assert kind in ("image", "segmentation", "regions")
    for form, data in said.get("imageData", {}).items():
        assert set(data) <= {"relativePath", "s3Address", "channel"}
        if form == "ome.zarr":
            place = folder / data["relativePath"]
            assert (place / "zarr.json").exists() or (place / ".zattrs").exists()
        else:
            assert form == "ome.zarr.s3"
            assert data["s3Address"].startswith("http")
    if "tableData" in said:
        table = read(folder, said)
        assert table.shape[1] > 1
        needed = {"regions": {"region_id"}}.get(kind, {"label_id"})
        if kind == "segmentation":
            letters = "xy" if flat else "xyz"
            ends = [f"{what}_{a}" for a in letters for what in ("anchor", "bb_min", "bb_max")]
            needed = {"label_id", *ends}
        assert needed <= set(table.columns)
        assert table.columns[0] in ("label_id", "region_id")


def read(folder: Path, said: Json) -> pd.DataFrame:
    path = folder / said["tableData"]["tsv"]["relativePath"] / "default.tsv"
    return pd.read_csv(path, sep="\t", dtype={"region_id": str})


def check_view(view: Json, sources: Json) -> None:
    known = {"isExclusive", "uiSelectionGroup", "sourceDisplays", "sourceTransforms"}
    assert known - {"sourceTransforms"} <= set(view) <= known | {"viewerTransform"}
    made: set[str] = set()
    for transform in view.get("sourceTransforms", ()):
        ((kind, said),) = transform.items()
        if kind == "mergedGrid":
            names = said["sources"]
            made.add(said["mergedGridSourceName"])
            assert said["metadataSource"] in {*sources, *made}
        else:
            assert kind == "transformedGrid"
            names = [name for some in said["nestedSources"] for name in some]
        assert set(names) <= {*sources, *made}
        listed = said.get("sources", said.get("nestedSources"))
        assert len(listed) == len(said["positions"]) >= 2
        assert len(set(map(tuple, said["positions"]))) == len(listed)
    titles = []
    for each in view["sourceDisplays"]:
        ((kind, said),) = each.items()
        titles.append(said["name"])
        assert NAME.fullmatch(said["name"])
        assert 0 <= said["opacity"] <= 1
        names = said["sources"]
        if kind == "regionDisplay":
            names = [name for some in names.values() for name in some]
            assert "regions" in sources[said["tableSource"]]
        elif kind == "imageDisplay":
            assert re.fullmatch(r"r\d+-g\d+-b\d+-a\d+", said["color"])
            low, high = said["contrastLimits"]
            assert low < high
        assert names
        assert set(names) <= {*sources, *made}
    assert len(set(titles)) == len(titles)


def displays(view: Json, kind: str) -> list[Json]:
    return [each[kind] for each in view["sourceDisplays"] if kind in each]


# ---- images --------------------------------------------------------------------------------------


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    labels = {"cells": {"seed": 3}}
    return write_image(tmp_path / "my scan.zarr", axes="tczyx", omero=OMERO, labels=labels)


def test_channels_and_labels_are_sources_that_are_shown(scan: Path, tmp_path: Path) -> None:
    tree = xr.open_datatree(scan)
    tree.ngff.to_mobie(tmp_path / "project", description="of two channels")
    found = load(tmp_path / "project", "my_scan")
    assert list(found["sources"]) == ["my_scan_DAPI", "my_scan_GFP", "my_scan_cells"]
    assert (found["is2D"], found["description"]) == (False, "of two channels")
    data = found["sources"]["my_scan_GFP"]["image"]["imageData"]
    assert data == {"ome.zarr": {"relativePath": "../../my scan.zarr", "channel": 1}}
    cells = found["sources"]["my_scan_cells"]["segmentation"]["imageData"]
    assert cells == {"ome.zarr": {"relativePath": "../../my scan.zarr/labels/cells"}}
    default = found["views"]["default"]
    assert default["viewerTransform"] == {"timepoint": 1}  # of rdefs
    dapi, gfp = displays(default, "imageDisplay")
    assert (dapi["color"], dapi["contrastLimits"]) == ("r0-g0-b255-a255", [100, 50000])
    assert (gfp["color"], gfp["sources"]) == ("r0-g255-b0-a255", ["my_scan_GFP"])
    assert displays(default, "segmentationDisplay")[0]["sources"] == ["my_scan_cells"]
    menus = {name: view["uiSelectionGroup"] for name, view in found["views"].items()}
    assert menus["my_scan_DAPI"] == "images"
    assert menus["my_scan_cells"] == "segmentations"


def test_tables_say_where_objects_are_and_what_they_are(scan: Path, tmp_path: Path) -> None:
    tree = xr.open_datatree(scan)
    to_mobie(tree, tmp_path / "project")
    found = load(tmp_path / "project", "my_scan")
    said = found["sources"]["my_scan_cells"]["segmentation"]
    table = read(tmp_path / "project" / "my_scan", said).set_index(["timepoint", "label_id"])
    labels = tree.ngff.labels["cells"].ngff.level(0)
    properties = tree.ngff.labels["cells"].ngff.properties
    for time in range(labels.sizes["t"]):
        for value in np.unique(labels.isel(t=time)):
            if value == 0:
                continue
            row = table.loc[time, value]
            inside = labels.isel(t=time) == value
            for axis in "zyx":
                where = labels[axis].where(inside)
                half = labels[axis].attrs["pixel_size"] / 2
                assert row[f"anchor_{axis}"] == pytest.approx(float(where.mean()))
                assert row[f"bb_min_{axis}"] == pytest.approx(float(where.min()) - half)
                assert row[f"bb_max_{axis}"] == pytest.approx(float(where.max()) + half)
            assert row["pixels"] == int(inside.sum())
            for column in properties.columns:
                assert row[column] == properties.loc[value, column]
    color = tree.ngff.labels["cells"].ngff.colors[1]
    assert table.loc[(0, 1), "rgba"] == "r{}-g{}-b{}-a{}".format(*color)
    (shown,) = displays(found["views"]["my_scan_cells"], "segmentationDisplay")
    assert (shown["lut"], shown["colorByColumn"]) == ("rgbaColumn", "rgba")


def test_tables_may_be_left_out(scan: Path, tmp_path: Path) -> None:
    to_mobie(xr.open_datatree(scan), tmp_path / "project", tables=False)
    found = load(tmp_path / "project", "my_scan")
    assert "tableData" not in found["sources"]["my_scan_cells"]["segmentation"]
    assert not (tmp_path / "project" / "my_scan" / "tables").exists()


def test_boxes_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    values = random.integers(0, 9, (2, 30, 40)).astype(np.uint64) * (2**60 + 1)
    array = xr.DataArray(values, dims=("t", "y", "x"))
    axes = {"y": "y", "x": "x"}
    whole = label_boxes(array, axes)
    assert set(whole["label_id"]) == set(np.unique(values)) - {0}
    monkeypatch.setattr("ngff_xarray.write.levels._BLOCK_BYTES", 2**11)
    array.encoding["chunks"] = (1, 7, 9)
    pd.testing.assert_frame_equal(label_boxes(array, axes), whole)
    assert label_boxes(array * 0, axes).empty
    assert label_boxes(array > 0, axes)["label_id"].tolist() == [1, 1]
    with pytest.raises(NotOmeError, match="integers, found float64"):
        label_boxes(array / 2, axes)


def test_flat_images_and_ranges_that_nobody_said(tmp_path: Path) -> None:
    path = write_image(tmp_path / "flat.zarr", axes="yx", labels={"cells": {}})
    to_mobie(xr.open_datatree(path), tmp_path / "project")
    found = load(tmp_path / "project", "flat")
    assert found["is2D"]
    (shown,) = displays(found["views"]["flat"], "imageDisplay")
    assert shown["color"] == "r255-g255-b255-a255"
    low, high = shown["contrastLimits"]
    coarsest = xr.open_datatree(path).ngff.level(-1).values
    assert coarsest.min() <= low < high <= coarsest.max()


def test_inverted_and_hidden_channels(tmp_path: Path) -> None:
    first, second = OMERO["channels"]
    channels = [{**first, "inverted": True}, {**second, "active": False}]
    path = write_image(tmp_path / "a.zarr", axes="cyx", omero={"channels": channels})
    to_mobie(xr.open_datatree(path), tmp_path / "project")
    shown = displays(load(tmp_path / "project", "a")["views"]["default"], "imageDisplay")
    assert [each.get("invert") for each in shown] == [True, None]
    assert [each["visible"] for each in shown] == [True, False]


def test_channels_whose_names_are_alike_in_mobie(tmp_path: Path) -> None:
    first, second = OMERO["channels"]
    channels = [{**first, "label": "a b"}, {**second, "label": "a/b"}]
    path = write_plate(
        tmp_path / "p.zarr",
        image={"axes": "cyx", "shape": (2, 16, 20), "omero": {"channels": channels}},
        fields=1,
    )
    to_mobie(xr.open_datatree(path), tmp_path / "project")
    found = load(tmp_path / "project", "p")
    assert list(found["sources"])[:2] == ["A1_a_b", "A1_a_b_2"]
    shown = displays(found["views"]["default"], "imageDisplay")
    assert [each["sources"] for each in shown] == [["all_a_b"], ["all_a_b_2"]]


def test_label_images_alone(scan: Path, tmp_path: Path) -> None:
    to_mobie(xr.open_datatree(scan / "labels" / "cells"), tmp_path / "project", dataset="cells")
    assert list(load(tmp_path / "project", "cells")["sources"]) == ["cells"]


# ---- where the pixels are ------------------------------------------------------------------------


def test_copied_projects_can_be_moved(scan: Path, tmp_path: Path) -> None:
    tree = xr.open_datatree(scan).ngff.crop(x=slice("5 µm", "12 µm"))
    to_mobie(tree, tmp_path / "project", copy=True, version="0.4")
    shutil.rmtree(scan)
    (tmp_path / "project").rename(tmp_path / "moved")
    found = load(tmp_path / "moved", "my_scan")
    data = found["sources"]["my_scan_DAPI"]["image"]["imageData"]["ome.zarr"]
    assert data["relativePath"] == "images/ome-zarr/my_scan.ome.zarr"
    copied = xr.open_datatree(tmp_path / "moved" / "my_scan" / data["relativePath"])
    assert copied.ngff.version == "0.4"
    assert copied.ngff.level(0).sizes == tree.ngff.level(0).sizes


def test_what_is_not_stored_as_it_is_has_to_be_copied(scan: Path, tmp_path: Path) -> None:
    tree = xr.open_datatree(scan)
    with pytest.raises(UnsupportedError, match=r"copy=True"):
        to_mobie(tree.ngff.crop(x=slice("5 µm", "12 µm")), tmp_path / "project")
    with pytest.raises(StoreError, match=r"copy=True"):
        to_mobie(tree.ngff.level(0).ngff.pyramid(), tmp_path / "project")
    assert not (tmp_path / "project" / "project.json").exists()


def test_stores_on_the_web_are_linked_by_their_address(
    scan: Path, tmp_path: Path, server: CountingServer
) -> None:
    url = f"{server.url}/{scan.name}".replace(" ", "%20")
    to_mobie(xr.open_datatree(url, engine="ngff"), tmp_path / "project", tables=False)
    found = load(tmp_path / "project", "my_scan")
    data = found["sources"]["my_scan_GFP"]["image"]["imageData"]
    assert data == {"ome.zarr.s3": {"s3Address": url, "channel": 1}}
    cells = found["sources"]["my_scan_cells"]["segmentation"]["imageData"]
    assert cells["ome.zarr.s3"]["s3Address"] == f"{url}/labels/cells"
    secret = xr.open_datatree(url.replace("://", "://me:secret@"), engine="ngff")
    with pytest.raises(StoreError, match="give away"):
        to_mobie(secret, tmp_path / "other")


def test_datasets_are_added_and_never_replaced(scan: Path, tmp_path: Path) -> None:
    tree = xr.open_datatree(scan)
    to_mobie(tree, tmp_path / "project", dataset="one", tables=False)
    to_mobie(tree, tmp_path / "project", dataset="two", tables=False)
    assert load(tmp_path / "project", "one")["sources"].keys() == {
        "one_DAPI",
        "one_GFP",
        "one_cells",
    }
    whole = json.loads((tmp_path / "project" / "project.json").read_text())
    assert (whole["datasets"], whole["defaultDataset"]) == (["one", "two"], "one")
    with pytest.raises(StoreError, match="such a dataset already"):
        to_mobie(tree, tmp_path / "project", dataset="two")


@pytest.mark.parametrize("said", ["[]", "{", '{"specVersion": "0.2.1", "datasets": []}', "3"])
def test_what_is_no_project_stays_as_it_is(scan: Path, tmp_path: Path, said: str) -> None:
    (tmp_path / "project.json").write_text(said)
    with pytest.raises(StoreError, match=r"project\.json"):
        to_mobie(xr.open_datatree(scan), tmp_path)
    assert (tmp_path / "project.json").read_text() == said


def test_projects_are_written_on_this_machine(scan: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="written on this machine"):
        to_mobie(xr.open_datatree(scan), "s3://bucket/project")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        to_mobie(xr.open_datatree(scan), tmp_path / "file" / "project")
    scene = xr.DataTree(xr.Dataset(attrs={"ome": {"scene": {}}}))
    with pytest.raises(NotOmeError, match="this is a scene"):
        to_mobie(scene, tmp_path / "project")


# ---- plates and collections ----------------------------------------------------------------------


def test_fields_are_merged_to_wells_and_wells_to_the_plate(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "screen.zarr", **PLATE, wells=["A/1", "B/2"], fields=3)
    to_mobie(xr.open_datatree(path), tmp_path / "project")
    found = load(tmp_path / "project", "screen")
    assert list(found["sources"])[:2] == ["A1_0_DAPI", "A1_0_GFP"]
    data = found["sources"]["B2_2_GFP"]["image"]["imageData"]["ome.zarr"]
    assert data == {"relativePath": "../../screen.zarr/B/2/2", "channel": 1}
    view = found["views"]["default"]
    assert found["views"]["screen"] == view
    grids = [each["mergedGrid"] for each in view["sourceTransforms"]]
    assert [grid["mergedGridSourceName"] for grid in grids] == [
        "A1_DAPI_merged",
        "B2_DAPI_merged",
        "all_DAPI",
        "A1_GFP_merged",
        "B2_GFP_merged",
        "all_GFP",
    ]
    assert grids[0]["positions"] == [[0, 0], [1, 0], [0, 1]]
    assert grids[2]["positions"] == [[0, 0], [1, 1]]  # column and row
    dapi, gfp = displays(view, "imageDisplay")
    assert (dapi["sources"], gfp["sources"]) == (["all_DAPI"], ["all_GFP"])
    assert gfp["contrastLimits"] == [200, 60000]
    fields, wells = displays(view, "regionDisplay")
    assert wells["sources"]["B2"] == ["B2_DAPI_merged", "B2_GFP_merged"]
    assert fields["sources"]["A1_0"] == ["A1_0_DAPI", "A1_0_GFP"]


def test_the_positions_of_wells_leave_gaps(tmp_path: Path) -> None:
    path = write_plate(
        tmp_path / "p.zarr",
        **PLATE,
        rows="ABC",
        columns=("1", "2", "3"),
        wells=["A/1", "A/3", "C/2"],
        fields=1,
        missing=["A/3"],
    )
    to_mobie(xr.open_datatree(path), tmp_path / "project")
    view = load(tmp_path / "project", "p")["views"]["default"]
    grid = view["sourceTransforms"][0]["mergedGrid"]
    assert (grid["sources"], grid["positions"]) == (["A1_DAPI", "C2_DAPI"], [[0, 0], [1, 2]])


def test_fields_lie_where_they_begin(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.zarr", **PLATE, wells=["A/1"], fields=4)
    for number, (x, y) in enumerate([(30, 0.2), (0.1, 0), (0, 30), (30, 30)]):
        file = path / "A" / "1" / str(number) / "zarr.json"
        document = json.loads(file.read_text())
        for level in document["attributes"]["ome"]["multiscales"][0]["datasets"]:
            scale = level["coordinateTransformations"][0]
            moved = {"type": "translation", "translation": [0, y, x]}
            level["coordinateTransformations"] = [scale, moved]
        file.write_text(json.dumps(document))
    to_mobie(xr.open_datatree(path), tmp_path / "project")
    view = load(tmp_path / "project", "p")["views"]["default"]
    grid = view["sourceTransforms"][0]["mergedGrid"]
    assert grid["positions"] == [[1, 0], [0, 0], [0, 1], [1, 1]]
    assert displays(view, "imageDisplay")[0]["sources"] == ["A1_DAPI_merged"]


def test_wells_have_a_table_with_what_was_joined(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.zarr", **PLATE, fields=1)
    tree = join(xr.open_datatree(path), {"well": ["A1", "B2"], "drug": ["a", "b"]})
    to_mobie(tree, tmp_path / "project")
    found = load(tmp_path / "project", "p")
    table = read(tmp_path / "project" / "p", found["sources"]["wells"]["regions"])
    assert table["region_id"].tolist() == ["A1", "A2", "B1", "B2"]
    assert table["column"].tolist() == [1, 2, 1, 2]
    assert table["drug"].dropna().tolist() == ["a", "b"]
    assert "fields" not in found["sources"]


def test_fields_of_several_sizes_are_moved_instead(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.zarr", **PLATE, wells=["A/1", "A/2"], fields=2)
    shutil.rmtree(path / "A" / "2" / "1")
    write_image(path / "A" / "2" / "1", axes="cyx", shape=(2, 8, 8), levels=2, omero=OMERO)
    to_mobie(xr.open_datatree(path), tmp_path / "project")
    view = load(tmp_path / "project", "p")["views"]["default"]
    first, _, wells = (each["transformedGrid"] for each in view["sourceTransforms"])
    assert first["nestedSources"] == [["A1_0_DAPI", "A1_0_GFP"], ["A1_1_DAPI", "A1_1_GFP"]]
    assert (first["centerAtOrigin"], wells["centerAtOrigin"]) == (True, False)
    assert wells["positions"] == [[0, 0], [1, 0]]
    assert len(displays(view, "imageDisplay")[0]["sources"]) == 4


def test_fields_of_plates_on_the_web_have_their_addresses(
    tmp_path: Path, server: CountingServer
) -> None:
    write_plate(tmp_path / "p.zarr", **PLATE, fields=1)
    tree = xr.open_datatree(f"{server.url}/p.zarr", engine="ngff")
    to_mobie(tree, tmp_path / "project")
    found = load(tmp_path / "project", "p")["sources"]["B2_GFP"]["image"]["imageData"]
    assert found == {"ome.zarr.s3": {"s3Address": f"{server.url}/p.zarr/B/2/0", "channel": 1}}


def test_plates_with_labels_have_their_tables_if_asked(tmp_path: Path) -> None:
    path = write_plate(
        tmp_path / "p.zarr", **PLATE, wells=["A/1", "A/2"], fields=1, labels={"nuclei": {}}
    )
    tree = xr.open_datatree(path)
    to_mobie(tree, tmp_path / "project")
    found = load(tmp_path / "project", "p")
    assert "tableData" not in found["sources"]["A1_nuclei"]["segmentation"]
    shown = displays(found["views"]["default"], "segmentationDisplay")
    assert [each["sources"] for each in shown] == [["all_labels_nuclei"]]
    to_mobie(tree, tmp_path / "project", dataset="q", tables=True, copy=True)
    found = load(tmp_path / "project", "q")
    said = found["sources"]["A2_nuclei"]["segmentation"]
    assert said["imageData"]["ome.zarr"]["relativePath"].startswith(
        "images/ome-zarr/q.ome.zarr/A/2"
    )
    assert len(read(tmp_path / "project" / "q", said))
    (shown,) = displays(found["views"]["default"], "segmentationDisplay")
    assert "colorByColumn" not in shown  # what is merged has no table


def test_a_plate_of_one_well_and_an_empty_one(tmp_path: Path) -> None:
    one = write_plate(tmp_path / "one.zarr", **PLATE, wells=["B/2"], fields=1)
    to_mobie(xr.open_datatree(one), tmp_path / "project")
    view = load(tmp_path / "project", "one")["views"]["default"]
    assert "sourceTransforms" not in view
    assert displays(view, "regionDisplay")[0]["sources"] == {"B2": ["B2_DAPI", "B2_GFP"]}
    empty = write_plate(tmp_path / "no.zarr", **PLATE, wells=["A/1"], fields=1, missing=["A/1"])
    with pytest.raises(NotOmeError, match="none of the plate's wells"):
        to_mobie(xr.open_datatree(empty), tmp_path / "project")


def test_collections_are_grids_of_their_images(tmp_path: Path) -> None:
    nodes = []
    for name, size in (("a", 16), ("b c", 24), ("d", 8)):
        write_image(tmp_path / f"{name}.zarr", axes="yx", shape=(size, size), levels=1)
        path = {"type": "zarr", "path": f"{name}.zarr"}
        nodes.append({"type": "multiscale", "name": name, "path": path})
    said = {"version": "0.8", "type": "collection", "name": "all of them", "nodes": nodes}
    (tmp_path / "all.json").write_text(json.dumps({"ome": said}))
    to_mobie(xr.open_datatree(tmp_path / "all.json", engine="ngff"), tmp_path / "project")
    found = load(tmp_path / "project", "all_of_them")
    assert list(found["sources"])[:3] == ["all_of_them_a", "all_of_them_b_c", "all_of_them_d"]
    (grid,) = found["views"]["default"]["sourceTransforms"]
    assert grid["transformedGrid"]["positions"] == [[0, 0], [1, 0], [0, 1]]
    table = read(
        tmp_path / "project" / "all_of_them", found["sources"]["all_of_them_images"]["regions"]
    )
    assert table["region_id"].tolist() == ["a", "b_c", "d"]
