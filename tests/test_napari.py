"""Layers for napari: what they say and show, beside those of napari-ome-zarr."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from conftest import OMERO
from servers import CountingServer
from stores import write_image, write_scene

import ngff_xarray  # noqa: F401
from ngff_xarray.errors import (
    MissingDependencyError,
    NotOmeError,
    SelectionError,
    UnsupportedError,
)

IN_CI = "NGFF_CI" in os.environ  # of .ci/run, which has everything
AXES = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
CHANNELS = OMERO["channels"]


def tuples(obj: Any, **options: Any) -> list[Any]:
    return list(obj.ngff.to_napari(as_tuples=True, **options))


# ---- what they say -------------------------------------------------------------------------------


def test_a_layer_a_channel_and_one_a_label_image(scan: Path) -> None:
    tree = xr.open_datatree(scan)
    (first, dapi, kind), (_, gfp, _), (labels, cells, labels_kind) = tuples(tree)
    assert (kind, labels_kind) == ("image", "labels")
    assert (dapi["name"], gfp["name"], cells["name"]) == ("scan: DAPI", "scan: GFP", "cells")
    assert (dapi["colormap"], gfp["colormap"]) == ("blue", "green")
    assert (dapi["contrast_limits"], gfp["contrast_limits"]) == ([100, 50000], [200, 60000])
    for arguments in (dapi, gfp, cells):
        assert arguments["axis_labels"] == ("t", "z", "y", "x")
        assert arguments["scale"] == (1.0, 2.0, 0.5, 0.5)
        assert arguments["units"] == ("second", "micrometer", "micrometer", "micrometer")
    assert [level.shape for level in first] == [(3, 4, 50, 62), (3, 4, 25, 31), (3, 4, 13, 16)]
    assert [level.shape for level in labels] == [level.shape for level in first]
    np.testing.assert_array_equal(first[2], tree.ngff.levels[2].isel(c=0))
    stored = tree.ngff.labels["cells"].ngff
    assert list(cells["features"]["index"]) == list(stored.properties.index)
    assert cells["colormap"][1] == tuple(part / 255 for part in stored.colors[1])


def test_nothing_is_read(scan: Path, server: CountingServer) -> None:
    tree = xr.open_datatree(f"{server.url}/{scan.name}", engine="ngff")
    server.clear()
    tuples(tree)
    tuples(tree.ngff.crop(x=slice("5 µm", "9 µm")))
    assert server.count == 0


def test_crops_lie_where_they_were_cut(scan: Path) -> None:
    crop = xr.open_datatree(scan).ngff.crop(x=slice("5 µm", "9 µm"), z=slice("3 µm", "7 µm"))
    _, arguments, _ = tuples(crop)[0]
    level = crop.ngff.levels[0]
    first = [float(level[dim][0]) for dim in ("t", "z", "y", "x")]
    assert arguments["translate"] == tuple(first)
    assert first[3] == pytest.approx(5)


def test_channels_and_labels_can_be_chosen(scan: Path) -> None:
    tree = xr.open_datatree(scan)
    ((data, gfp, _),) = tuples(tree, channels={"GFP": {"colormap": "turbo"}}, labels=None)
    np.testing.assert_array_equal(data[0], tree.ngff.levels[0].sel(c="GFP"))
    assert len(gfp["colormap"]["colors"]) == 256
    assert [each[1]["name"] for each in tuples(tree, labels="cells")][2:] == ["cells"]
    with pytest.raises(SelectionError, match="no label image"):
        tuples(tree, labels="nuclei")


def test_inverted_windows_turn_the_colours_round(tmp_path: Path) -> None:
    window = {"min": 0, "max": 9, "start": 9, "end": 2}
    channels = [{**CHANNELS[0], "window": window}, {**CHANNELS[1], "inverted": True}]
    path = write_image(tmp_path / "a.zarr", axes="cyx", omero={"channels": channels})
    (_, first, _), (_, second, _) = tuples(xr.open_datatree(path))
    assert first["contrast_limits"] == [2, 9]
    assert first["colormap"]["colors"] == [[0, 0, 1], [0, 0, 0]]
    assert second["colormap"]["colors"] == [[0, 1, 0], [0, 0, 0]]


def test_windows_of_the_store_do_not_serve_what_was_computed(scan: Path) -> None:
    halved = xr.open_datatree(scan).ngff.map(lambda array: array / 2)
    assert "contrast_limits" not in tuples(halved)[0][1]


def test_axes_stand_in_the_order_that_napari_draws(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.zarr", axes="czyx", levels=1)
    array = xr.open_datatree(path).ngff.levels[0].transpose("x", "c", "z", "y")
    data, arguments, _ = tuples(array)[0]
    assert arguments["axis_labels"] == data.dims == ("z", "y", "x")
    assert not arguments["multiscale"]


def test_labels_that_lack_an_axis_lie_over_all_of_it(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.zarr", axes="tzyx", labels={"cells": {"axes": "tyx"}})
    tree = xr.open_datatree(path)
    data, arguments, _ = tuples(tree)[-1]
    assert arguments["axis_labels"] == ("t", "z", "y", "x")
    flat = tree.ngff.labels["cells"].ngff.levels[0]
    assert data[0].shape == tree.ngff.levels[0].shape
    np.testing.assert_array_equal(data[0][1, 3], flat[1])
    lacking_t = write_image(tmp_path / "b.zarr", axes="tzyx", labels={"cells": {"axes": "zyx"}})
    assert tuples(xr.open_datatree(lacking_t))[-1][1]["axis_labels"] == ("z", "y", "x")


def test_rotated_images_get_an_affine(tmp_path: Path) -> None:
    affine = [[0.8, -0.6, 5.0], [0.6, 0.8, -3.0]]
    ends = {"input": {"name": "physical"}, "output": {"name": "world"}}
    path = write_image(
        tmp_path / "a.zarr",
        version="0.6",
        axes="cyx",
        systems=[{"name": "world", "axes": [{"name": "c", "type": "channel"}, *AXES]}],
        transformations=[
            {"type": "affine", "affine": [[1, 0, 0, 0], *([0, *row] for row in affine)], **ends}
        ],
    )
    tree = xr.open_datatree(path)
    _, arguments, _ = tuples(tree.ngff.to_system("world"))[0]
    assert arguments["axis_labels"] == ("y", "x")
    matrix = np.array(arguments["affine"])
    y, x = 7, 11
    level = tree.ngff.levels[0]
    inside = [[0, float(level["y"][y]), float(level["x"][x])]]
    (world,) = tree.ngff.transform(inside, to="world")
    np.testing.assert_allclose(matrix @ [y, x, 1], [*world[1:], 1])


def test_scenes_lie_where_their_system_places_them(tmp_path: Path) -> None:
    tree = xr.open_datatree(_write_scene(tmp_path / "scene.zarr"))
    layers = tree.ngff.to_napari(as_tuples=True)
    names = [arguments["name"] for _, arguments, _ in layers]
    assert names == ["a: a: 0", "a: a: 1", "b: b: 0", "b: b: 1"]
    turned = np.array(layers[2][1]["affine"])
    (world,) = tree.ngff.transform([[0.0, 3 * 0.5, 5 * 0.5]], from_="b/physical", to="world")
    np.testing.assert_allclose(turned @ [3, 5, 1], [*world[1:], 1])


def test_labels_that_are_true_or_false(scan: Path) -> None:
    cells = xr.open_datatree(scan).ngff.labels["cells"]
    (found,) = tuples(cells.ngff.map(lambda array: array > 2))
    assert found[0][0].dtype == "u1"
    np.testing.assert_array_equal(found[0][0], cells.ngff.levels[0] > 2)


def test_bent_images_are_refused() -> None:
    y, x = np.mgrid[:8, :8].astype(float)
    coords = {"y": (("j", "i"), y + x**2), "x": (("j", "i"), x)}
    bent = xr.DataArray(np.zeros((8, 8)), dims=("j", "i"), coords=coords)
    bent.attrs["ome"] = {"placed": {"system": "world", "axes": ["y", "x"]}}
    with pytest.raises(UnsupportedError, match=r"bent.*resample"):
        tuples(bent)


def test_what_is_no_image_says_so(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.zarr", axes="yx", labels={"cells": {}})
    tree = xr.open_datatree(path)
    assert [each[2] for each in tuples(tree.ngff.labels["cells"])] == ["labels"]
    floats = tree.ngff.labels["cells"].ngff.map(lambda array: array.astype("f4"))
    tree["labels/cells"] = floats
    with pytest.raises(NotOmeError, match="must be integers"):
        tuples(tree)


def test_without_napari_the_error_says_how_to_get_it(
    scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "napari", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "ngff-xarray\[napari\]"'):
        xr.open_datatree(scan).ngff.to_napari()


# ---- beside napari-ome-zarr, in an environment of their own --------------------------------------


def _write_scene(path: Path) -> Path:
    axes = [{"name": "c", "type": "channel"}, *AXES]
    affine = [[1, 0, 0, 0], [0, 0.8, -0.6, 5.0], [0, 0.6, 0.8, -3.0]]
    links = [
        {
            "type": kind,
            kind: said,
            "input": {"path": image, "name": "physical"},
            "output": {"name": "world"},
        }
        for image, kind, said in (("a", "translation", [0, 7, 9]), ("b", "affine", affine))
    ]
    return write_scene(
        path,
        images={"a": {}, "b": {}},
        systems=[{"name": "world", "axes": axes}],
        transformations=links,
    )


def _write_stores(folder: Path) -> list[Path]:
    labels: Any = {"cells": {}}
    odd = {"channels": [CHANNELS[0], {**CHANNELS[1], "color": "12FF80", "active": False}]}
    moved = (0.0, 0.0, 1.0, 10.0, 20.0)
    return [
        write_image(
            folder / f"scan-{version}.ome.zarr",
            version=version,  # type: ignore[arg-type]
            axes="tczyx",
            labels=labels,
            omero=odd,
            translation=moved,
            shards=(1, 1, 4, 64, 64) if version == "0.5" else None,
        )
        for version in ("0.4", "0.5")
    ] + [
        write_image(folder / "plane.ome.zarr", axes="yx", labels=labels),
        write_image(folder / "volume.ome.zarr", axes="zyx", levels=1, dtype="uint8"),
    ]


@pytest.mark.readers
def test_napari_shows_what_napari_ome_zarr_shows(tmp_path: Path) -> None:
    folder = Path(os.environ.get("NGFF_READERS", "readers-are-not-installed")).absolute()
    python = folder / "napari" / "bin" / "python"
    if not python.exists():
        (pytest.fail if IN_CI else pytest.skip)(
            "needs napari: tests/readers/install DIR, and NGFF_READERS=DIR"
        )
    stores, scene = _write_stores(tmp_path), _write_scene(tmp_path / "scene.zarr")
    script = Path(__file__).parent / "readers" / "napari_layers.py"
    done = subprocess.run(
        [str(python), str(script), *map(str, [*stores, scene])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    layers = found[scene.name]
    np.testing.assert_allclose(layers["ours"], layers["theirs"], atol=1e-9)
    assert len(layers["ours"]) == 4
    for store in stores:
        said = found[store.name]
        finest = xr.open_datatree(store).ngff.levels[0]
        for ours, theirs in zip(said["ours"], said["theirs"], strict=True):
            # it does not hand on where an image begins
            assert theirs.pop("translate") == [0.0] * len(ours["axes"])
            first = [float(finest[dim][0]) for dim in ours["axes"]]
            assert ours.pop("translate") == pytest.approx(first)
            assert ours == theirs
        coarsest = len(xr.open_datatree(store).ngff.levels) - 1
        assert all(f"/{coarsest}/" in path for path in said["requests"])
    # what is added up from its layers is the picture that we draw, to half a count or so
    assert max(found[store.name]["difference"] for store in stores[:2]) < 1.01 / 255
