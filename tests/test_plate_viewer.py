"""Viewers of plates, wells, collections and scenes without a browser."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from servers import CountingServer
from stores import edit_attributes, write_image, write_plate, write_scene, write_series

from ngff_xarray.errors import NotOmeError, SelectionError, TransformationError
from ngff_xarray.viewing import plates, scenery, wells
from ngff_xarray.viewing.sides import Side
from ngff_xarray.viewing.wells import PlateWells
from ngff_xarray.widgets.viewer import Viewer

FLAT = {"axes": "cyx", "shape": (2, 64, 80), "levels": 2, "chunks": (1, 64, 80)}


@pytest.fixture
def opened() -> Iterator[Callable[[Any], Any]]:
    """Keeps viewers, and closes them at the end."""
    made: list[Any] = []

    def keep(viewer: Any) -> Any:
        made.append(viewer)
        return viewer

    yield keep
    for viewer in made:
        viewer.close()


@pytest.fixture
def plate(tmp_path: Path) -> xr.DataTree:
    """A plate of 2 x 3 places; A/3 is not listed, B/1 is listed and not there."""
    path = write_plate(
        tmp_path / "p.ome.zarr",
        columns="123",
        wells=["A/1", "A/2", "B/1", "B/2", "B/3"],
        missing=["B/1"],
        image=FLAT,
    )
    return xr.open_datatree(path)


def click(viewer: Any, path: str) -> None:
    """Click on the middle of a well, as the browser says it."""
    x, y = viewer.scenery.middle(path)
    viewer.plate._main.canvas._handle_custom_msg({"type": "click", "x": x, "y": y}, [])


def hover(viewer: Any, x: float, y: float) -> dict[str, Any]:
    found: dict[str, Any] = viewer.plate._server.probe(viewer.plate.view, x, y)
    return found


def shown(viewer: Any, path: str) -> np.ndarray[Any, Any]:
    """The pixels of a screenshot in the middle of a well, 6 x 6 of them."""
    view = viewer.plate.view
    (left, top, _, _), (x, y) = view.extent, viewer.scenery.middle(path)
    column, row = int((x - left) / view.scale), int((y - top) / view.scale)
    return viewer.screenshot()[row - 3 : row + 3, column - 3 : column + 3]


# ---- the mosaic --------------------------------------------------------------------------------


def test_wells_lie_at_their_rows_and_columns(
    plate: xr.DataTree, opened: Callable[[Any], Any]
) -> None:
    viewer = opened(plate.ngff.view())
    level = viewer.plate.world.layers[0].levels[0]
    for path in ("A/1", "A/2", "B/2", "B/3"):
        truth = plate.ngff.well(path)["0/0/image"]
        x, y = viewer.scenery.middle(path)
        column, row = level.affine().inverse().apply(x, y)
        whole = level.source.read([slice(None), slice(None), slice(None)])
        top, left = round(row) - 32, round(column) - 40
        np.testing.assert_array_equal(whole[:, top : top + 64, left : left + 80], truth)


def test_all_levels_lie_over_one_another(tmp_path: Path, opened: Callable[[Any], Any]) -> None:
    path = write_plate(
        tmp_path / "p.ome.zarr", fields=1, image={**FLAT, "shape": (2, 133, 190), "levels": 3}
    )
    viewer = opened(xr.open_datatree(path).ngff.view())
    levels = viewer.plate.world.layers[0].levels
    assert len(levels) == 3
    first = _corner(levels[0])
    for level in levels[1:]:
        assert _corner(level) == pytest.approx(first, abs=level.affine().a)


def _corner(level: Any) -> tuple[float, float]:
    """The world at the first pixel that is not 0."""
    filled = level.source.read([slice(0, 1), slice(None), slice(None)])[0] > 0
    row, column = np.argwhere(filled).min(0)
    found: tuple[float, float] = level.affine().apply(float(column), float(row))
    return found


@pytest.mark.parametrize("step", [1, 3, 7])
def test_every_pixel_of_a_side_is_of_one_well(step: int) -> None:
    side = Side(pitch=10, lead=1, size=7, margin=13, count=4)
    wanted = range(side.cut + 2, side.cut + side.margin + 40, step)
    truth = {
        n: (place, pixel)
        for place in range(4)
        for pixel in range(7)
        if (n := side.cut + side.margin + 10 * place + 1 + pixel) in wanted
    }
    found = {}
    for place, to, of in side.spans(wanted):
        pixels = np.arange(7)[of]
        assert len(pixels) == len(wanted[to])
        found |= {n: (place, pixel) for n, pixel in zip(wanted[to], pixels, strict=True)}
    assert found == truth


def test_sliders_move_all_wells(tmp_path: Path, opened: Callable[[Any], Any]) -> None:
    path = write_plate(
        tmp_path / "p.ome.zarr", image={"axes": "tczyx", "shape": (2, 1, 3, 32, 40), "levels": 1}
    )
    viewer = opened(xr.open_datatree(path).ngff.view(t=1))
    assert viewer.plate.position == {"t": 1.0, "z": 2.0}
    before = viewer.screenshot()
    viewer.plate.position = {"z": 4.0}
    assert (viewer.screenshot() != before).any()
    viewer.plate.projection = "max"
    assert (viewer.screenshot() >= before).mean() > 0.9


# ---- what is read ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_plate_of_384_wells_reads_each_well_once(
    tmp_path: Path, opened: Callable[[Any], Any], version: str
) -> None:
    rows, columns = "ABCDEFGHIJKLMNOP", [str(n) for n in range(1, 25)]
    write_plate(
        tmp_path / "p.ome.zarr",
        version=version,  # type: ignore[arg-type]
        rows=rows,
        columns=columns,
        fields=1,
        image={"axes": "yx", "shape": (64, 64), "levels": 2, "chunks": (64, 64)},
    )
    with CountingServer(tmp_path) as server:
        tree = xr.open_datatree(f"{server.url}/p.ome.zarr")
        server.clear()
        made = PlateWells(tree)
        plates.plate_world(made, "plate")
        paths = [request.path for request in server.requests]
        assert all("/A/1" in path for path in paths), "one well is looked at"
        assert not any(re.search(r"/c/|/0/0/0$|/0/1/0", path) for path in paths), "no pixel is read"
        made.close()
        server.clear()
        viewer = opened(tree.ngff.view())
        tiles = viewer.plate._server.plan(viewer.plate.view).tiles
        assert len(tiles) == 4
        drawn = [tile_of(viewer, spec) for spec in tiles]  # in four threads
        assert not any(tile.result(timeout=60).is_error for tile in drawn)
        asked = Counter(request.path for request in server.requests)
        chunks = {path for path in asked if re.search(r"/0/1/(c/)?0[./]0$", path)}
        assert len(chunks) == 384
        assert max(asked.values()) == 1
        metadata = [path for path in asked if path.endswith(("zarr.json", ".zattrs", ".zarray"))]
        assert len(metadata) <= 2 * 384 + 20, "two a well"
        order = ["/".join(path.split("/")[2:4]) for path in chunks_in_order(server, level=1)]
        first = max(tiles, key=lambda spec: sum(_is_in(viewer, well, spec) for well in order[:32]))
        touched = sum(_is_in(viewer, well, first, grown=36) for well in order)
        others = [spec for spec in tiles if spec != first]  # may have claimed what they share
        alone = [
            n
            for n, well in enumerate(order)
            if _is_in(viewer, well, first)
            and not any(_is_in(viewer, well, spec, grown=36) for spec in others)
        ]
        assert len(alone) > 8
        assert max(alone) < touched + 64, "one tile after another, 64 wells at a time"


def tile_of(viewer: Any, spec: Any) -> Future[Any]:
    """A tile that is being drawn."""
    found: Future[Any] = Future()
    viewer.plate._server.start(spec, found.set_result)
    return found


def chunks_in_order(server: CountingServer, *, level: int) -> list[str]:
    """The chunks of a level that were asked for."""
    paths = [request.path for request in server.requests]
    return [path for path in paths if re.search(rf"/0/{level}/(c/)?0[./]0$", path)]


def _is_in(viewer: Any, well: str, tile: Any, grown: float = 0) -> bool:
    """Whether the middle of a well lies in a tile, or no farther away than some pixels."""
    left, top, right, bottom = tile.bounds
    far = grown * tile.matrix.a
    x, y = viewer.scenery.middle(well)
    return bool(left - far <= x < right + far and top - far <= y < bottom + far)


def test_a_consolidated_plate_reads_chunks_only(
    tmp_path: Path, opened: Callable[[Any], Any]
) -> None:
    path = write_plate(
        tmp_path / "p.ome.zarr", rows="ABCD", fields=1, image=FLAT, consolidated=True
    )
    with CountingServer(tmp_path) as server:
        viewer = opened(xr.open_datatree(f"{server.url}/{path.name}").ngff.view())
        server.clear()
        viewer.screenshot()
        assert all("/c/" in request.path for request in server.requests)


def test_1536_wells_are_few_tiles(tmp_path: Path, opened: Callable[[Any], Any]) -> None:
    path = write_plate(
        tmp_path / "p.ome.zarr",
        rows=[f"{a}{b}" for a in " A" for b in "ABCDEFGHIJKLMNOP"],
        columns=[str(n) for n in range(1, 49)],
        fields=1,
        missing=[
            f"{a}{b}/{n}"
            for a in " A"
            for b in "ABCDEFGHIJKLMNOP"
            for n in range(1, 49)
            if (a, b, n) != (" ", "A", 1)
        ],
        image={"axes": "yx", "shape": (400, 400), "levels": 1},
    )
    viewer = opened(xr.open_datatree(path).ngff.view())
    server = viewer.plate._server
    plan = server.plan(viewer.plate.view)
    assert len(plan.tiles) <= 12
    assert not any(server.tile(spec).is_error for spec in plan.tiles)
    assert len(viewer._wells.missing) == 1535


# ---- clicks and hovers -------------------------------------------------------------------------


def test_a_click_opens_the_well(plate: xr.DataTree, opened: Callable[[Any], Any]) -> None:
    viewer = opened(plate.ngff.view())
    viewer.plate.channels = {"0": {"color": "#00ff00", "window": (5, 500)}, "1": {"active": False}}
    click(viewer, "B/3")
    assert viewer.well == "B/3"
    fields = viewer.fields
    assert list(fields.images) == ["0", "1"]
    assert fields.viewer.channels["0"]["window"] == (5.0, 500.0)
    assert fields.viewer.channels["0"]["color"] == "#00ff00"
    assert not fields.viewer.channels["1"]["active"]
    fields.viewer.channels = {"0": {"window": (7, 300)}}
    fields.chosen = "1"
    click(viewer, "A/1")
    assert viewer.fields is not fields
    assert viewer.fields.chosen == "1"
    assert viewer.fields.viewer.channels["0"]["window"] == (7.0, 300.0)
    viewer._shut.click()
    assert (viewer.well, viewer.fields, viewer.plate._main.canvas.crosshair) == (None, None, None)


def test_a_well_is_chosen_by_keyboard(plate: xr.DataTree, opened: Callable[[Any], Any]) -> None:
    viewer = opened(plate.ngff.view())
    viewer._choice.value = "b3"
    assert (viewer.well, viewer._choice.value) == ("B/3", "B/3")
    viewer._choice.value = "Z/9"
    assert viewer.well == "B/3"
    assert "no well" in viewer._note.value
    with pytest.raises(SelectionError, match="there is no well 'Q/1'"):
        viewer.well = "Q/1"


def test_hovering_names_the_well(plate: xr.DataTree, opened: Callable[[Any], Any]) -> None:
    viewer = opened(plate.ngff.view())
    said = hover(viewer, *viewer.scenery.middle("B/3"))
    assert said["position"].startswith("well B/3 (row B, column 3), x 19.8 µm, y 15.8 µm")
    truth = plate.ngff.well("B/3")["0/0/image"].values[:, 32, 40]
    assert [value for _, value in said["values"]] == [str(value) for value in truth]
    x, _ = viewer.scenery.middle("B/3")
    _, y = viewer.scenery.middle("A/1")
    assert hover(viewer, x, y)["position"].startswith("no well (row A, column 3)")
    assert hover(viewer, -1, -1)["position"].startswith("beside the wells")
    viewer.screenshot()
    said = hover(viewer, *viewer.scenery.middle("B/1"))
    assert said["position"].startswith("well B/1 (row B, column 1) is not in the store")


def test_a_click_beside_the_wells_says_so(plate: xr.DataTree, opened: Callable[[Any], Any]) -> None:
    viewer = opened(plate.ngff.view())
    viewer.plate._main.canvas._handle_custom_msg({"type": "click", "x": -1, "y": -1}, [])
    assert viewer.well is None
    assert "beside the wells" in viewer._note.value
    click(viewer, "B/1")
    assert viewer.fields is None
    assert "well B/1 cannot be shown" in viewer._note.value


# ---- bad wells ---------------------------------------------------------------------------------


def test_wells_that_cannot_be_read_are_marked(tmp_path: Path, opened: Callable[[Any], Any]) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", columns="1234", missing=["A/4"], image=FLAT)
    (path / "A/2/zarr.json").write_text("{no JSON")
    for chunk in (path / "A/3/0").rglob("c/*/*/*"):
        chunk.write_bytes(b"no pixels")
    viewer = opened(xr.open_datatree(path).ngff.view())
    viewer.screenshot()
    assert set(viewer._wells.problems) == {"A/2", "A/3"}
    assert "2 wells cannot be shown" in viewer._problems.value
    for broken in ("A/2", "A/3"):
        red, green, _ = shown(viewer, broken).reshape(-1, 3).mean(0)
        assert red > green + 20
    assert (shown(viewer, "A/4") == scenery.MISSING).all()
    said = hover(viewer, *viewer.scenery.middle("A/2"))
    assert "cannot be read" in said["position"]
    click(viewer, "A/2")
    assert "well A/2 cannot be shown" in viewer._note.value
    click(viewer, "B/3")
    assert viewer.fields.screenshot().any()


@pytest.mark.parametrize(
    ("odd", "problem"),
    [
        ({"shape": (2, 40, 100)}, None),
        ({"shape": (2, 200, 30)}, None),
        ({"shape": (1, 64, 80)}, None),
        ({"dtype": "uint8"}, None),
        ({"dtype": "float32"}, "is float32, and the first well uint16"),
        ({"axes": "yx", "shape": (64, 80), "chunks": (64, 80)}, "has 2 axes, and the first well 3"),
        ({"levels": 1}, "there is no array at '0/1'"),
    ],
)
def test_odd_wells_are_cropped_padded_or_marked(
    tmp_path: Path, opened: Callable[[Any], Any], odd: dict[str, Any], problem: str | None
) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", fields=1, missing=["A/2/0"], image=FLAT)
    write_image(path / "A/2/0", **{**FLAT, **odd})
    viewer = opened(xr.open_datatree(path).ngff.view())
    viewer.plate.viewport = {"x": (-20, 150), "y": (-20, 100)}
    viewer.screenshot()
    viewer.plate._server.picture(viewer.plate.view.moved(scale=1.5))
    found = viewer._wells.problems.get("A/2", "")
    assert (problem in found) if problem else not found, found
    assert shown(viewer, "B/1").any()


def test_a_field_or_plate_that_is_not_there_is_said(plate: xr.DataTree, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="there is no field 5"):
        plate.ngff.view(field=5)
    with pytest.raises(SelectionError, match="there is no channel 'DAPI'"):
        plate.ngff.view(channels="DAPI")
    path = write_plate(tmp_path / "none.ome.zarr", missing=["A/1", "A/2", "B/1", "B/2"])
    with pytest.raises(SelectionError, match="none of the plate's wells is in the store"):
        xr.open_datatree(path).ngff.view()


def test_a_well_is_tried_again_when_it_is_seen_later(
    tmp_path: Path, opened: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", fields=1, image={**FLAT, "levels": 3})
    with CountingServer(tmp_path) as server:
        lost = [f"/{path.name}/{name}" for name in ("A/2/zarr.json", "B/1/0/0/c/1/0/0")]
        server.failures |= dict.fromkeys(lost, 403)
        viewer = opened(xr.open_datatree(f"{server.url}/{path.name}").ngff.view())
        marked = viewer.screenshot()
        assert set(viewer._wells.problems) == {"A/2", "B/1"}
        state = viewer.plate._server.plan(viewer.plate.view).state
        server.failures.clear()
        server.clear()
        for well in ("A/2", "B/1"):
            hover(viewer, *viewer.scenery.middle(well))
        viewer.screenshot()
        assert viewer._wells.problems, "not at once: a store that does not answer takes long"
        assert not any("/A/2" in request.path for request in server.requests)
        assert viewer.plate._server.plan(viewer.plate.view).state == state
        monkeypatch.setattr(wells, "RETRY", 0)
        said = hover(viewer, *viewer.scenery.middle("A/2"))
        assert [value for _, value in said["values"]] != ["0", "0"]
        assert "A/2" not in viewer._wells.problems
        assert viewer.plate._server.plan(viewer.plate.view).state != state, "all is drawn anew"
        healed = viewer.screenshot()
        assert viewer._wells.problems == {}
        assert "cannot be shown" not in viewer._problems.value
        assert (healed != marked).any()
    truth = opened(xr.open_datatree(path).ngff.view())
    np.testing.assert_array_equal(healed, truth.screenshot())


def test_a_plane_that_cannot_be_read_stays_marked_beside_one_that_can(
    tmp_path: Path, opened: Callable[[Any], Any]
) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", fields=1, image=FLAT)
    for chunk in (path / "B/1/0").rglob("c/1/0/0"):
        chunk.write_bytes(b"no pixels")
    viewer = opened(xr.open_datatree(path).ngff.view())
    viewer.screenshot()
    for shown_ in (["0", "1"], ["0"], ["1"]):
        viewer.plate.channels = shown_
        viewer.screenshot()
        assert set(viewer._wells.problems) == {"B/1"}
    assert viewer._wells.revision == 0


def test_a_well_that_appears_is_shown(
    plate: xr.DataTree, opened: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = opened(plate.ngff.view())
    viewer.screenshot()
    assert viewer._wells.missing == {"B/1"}
    root = Path(plate.encoding["source"])
    shutil.copytree(root / "A/1", root / "B/1")
    monkeypatch.setattr(wells, "RETRY", 0)
    hover(viewer, *viewer.scenery.middle("B/1"))
    assert viewer._wells.missing == {"B/1"}, "most never will be there"
    monkeypatch.setattr(wells, "RETRY_MISSING", 0)
    hover(viewer, *viewer.scenery.middle("B/1"))
    assert viewer._wells.missing == set()
    assert (shown(viewer, "B/1") != scenery.MISSING).any()


# ---- labels ------------------------------------------------------------------------------------


def test_labels_lie_over_the_wells(tmp_path: Path, opened: Callable[[Any], Any]) -> None:
    path = write_plate(
        tmp_path / "p.ome.zarr",
        fields=1,
        missing=["B/2/0"],
        image={**FLAT, "shape": (2, 128, 160), "levels": 3},
        labels={"cells": {"levels": 2}, "nuclei": {"levels": 4}},
    )
    write_image(path / "B/2/0", **{**FLAT, "levels": 3})  # without labels
    tree = xr.open_datatree(path)
    plain, viewer = opened(tree.ngff.view()), opened(tree.ngff.view(labels="cells"))
    assert [label.name for label in viewer.plate.world.layers[0].labels] == ["cells"]
    x, y = viewer.scenery.middle("B/1")
    truth = tree.ngff.well("B/1")["0/labels/cells/0/labels"].values
    row, column = np.argwhere(truth)[0]
    at = (x + (column - 79.5) * 0.5, y + (row - 63.5) * 0.5)
    assert hover(viewer, *at)["label"] == str(truth[row, column])
    for scale in (0.3, 2.0, 8.0):
        for each in (plain, viewer):
            each.plate.show(each.plate.view.moved(scale=scale))
        changed = (plain.screenshot() != viewer.screenshot()).any(-1)
        labels = viewer.plate._server._painter
        for spec in viewer.plate._server.plan(viewer.plate.view).tiles:
            assert labels.labels_of(spec).any()
        assert changed.any() and not changed.all()
    assert viewer._wells.problems == {}
    click(viewer, "B/1")
    assert viewer.fields.viewer.view.layers[0].labels[0].visible
    both = opened(tree.ngff.view(labels=True))
    assert list(both._wells.labels) == ["cells", "nuclei"]
    whole = opened(xr.open_datatree(path, wells="all").ngff.view(labels="cells"))
    whole.plate.show(viewer.plate.view)
    np.testing.assert_array_equal(whole.screenshot(), viewer.screenshot())


def _stretched(attributes: dict[str, Any]) -> None:
    """Let pixels be 1.4 times as large."""
    for level in attributes["multiscales"][0]["datasets"]:
        placed = level["coordinateTransformations"][0]
        placed["scale"] = [1.4 * size for size in placed["scale"]]


def test_labels_that_cannot_be_shown_are_said(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", fields=1, image=FLAT, labels={"odd": {}})
    edit_attributes(path / "A/1/0/labels/odd", _stretched)
    tree = xr.open_datatree(path)
    with pytest.raises(SelectionError, match="no label image 'cells'; the label images are odd"):
        tree.ngff.view(labels="cells")
    with pytest.raises(SelectionError, match="labels 'odd' have other pixels than their images"):
        tree.ngff.view(labels=True)
    with pytest.raises(SelectionError, match="expected names of label images"):
        tree.ngff.view(labels=xr.DataArray(np.zeros((4, 4), "u1"), dims=("y", "x")))


# ---- wells, collections and scenes -------------------------------------------------------------


def test_fields_of_a_well_are_chosen_by_name(
    plate: xr.DataTree, opened: Callable[[Any], Any]
) -> None:
    viewer = opened(plate.ngff.well("A/1").ngff.view(channels="1"))
    assert [name for _, name in viewer._choice.options] == ["0", "1"]
    first = viewer.screenshot()
    viewer.viewer.channels = {"1": {"window": (0, 900)}}
    viewer._choice.value = "1"
    assert viewer.chosen == "1"
    assert viewer.viewer.channels["1"]["window"] == (0.0, 900.0)
    assert not viewer.viewer.channels["0"]["active"]
    assert (viewer.screenshot() != first).any()
    with pytest.raises(SelectionError, match="there is no image '7'"):
        viewer.chosen = "7"


def test_images_of_a_collection_keep_the_position(
    tmp_path: Path, opened: Callable[[Any], Any]
) -> None:
    path = write_series(tmp_path / "s.ome.zarr", count=2, image={"axes": "zyx", "shape": (4, 9, 9)})
    viewer = opened(xr.open_datatree(path).ngff.view(z=2))
    viewer.viewer.position = {"z": 6.0}
    viewer.chosen = "1"
    assert viewer.viewer.position == {"z": 6.0}
    data, _ = viewer._repr_mimebundle_()
    assert data["text/plain"] == "viewer of 2 images, showing 1"
    assert "image/png" in data


def test_a_group_without_images_is_said(tmp_path: Path) -> None:
    path = write_series(tmp_path / "s.ome.zarr", count=0, listed=False)
    with pytest.raises(NotOmeError, match="nothing to view"):
        xr.open_datatree(path).ngff.view()


def test_images_of_a_scene_lie_in_its_system(tmp_path: Path, opened: Callable[[Any], Any]) -> None:
    axes = [{"name": "c", "type": "channel"}] + [
        {"name": name, "type": "space", "unit": "micrometer"} for name in "yx"
    ]
    links = [
        {
            "type": "translation",
            "translation": [0, 0, 20.0 * n],
            "input": {"path": name, "name": "physical"},
            "output": {"name": "world"},
        }
        for n, name in enumerate("ab")
    ]
    path = write_scene(
        tmp_path / "s.ome.zarr",
        images={"a": {}, "b": {}},
        systems=[{"name": "world", "axes": axes}],
        transformations=links,
    )
    scene = xr.open_datatree(path)
    viewer = opened(scene.ngff.view())
    assert isinstance(viewer, Viewer)
    names = [layer.name for layer in viewer.world.layers]
    assert names == ["a", "b"]
    left, right = (layer.extent for layer in viewer.world.layers)
    assert right[0] - left[0] == pytest.approx(20)
    with pytest.raises(TransformationError):
        scene.ngff.view(system="nowhere")
