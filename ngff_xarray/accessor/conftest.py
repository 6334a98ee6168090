"""What the examples of the accessor open by name, each in a folder of its own; for tests only."""

from __future__ import annotations

import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest
import xarray as xr

import ngff_xarray

TESTS = Path(__file__).parents[2] / "tests"


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an image, a plate, its layout, a scene and a collection."""
    sys.path.insert(0, str(TESTS))
    made = import_module("stores")

    folder = tmp_path_factory.mktemp("stores")
    cell = xr.open_datatree(ngff_xarray.sample("cell", folder / "cell.ome.zarr"))
    part = cell.ngff.sel(y=slice("35 µm", "42 µm"), x=slice("35 µm", "42 µm"))
    wells = {"A1": [part, part], "B2": [part]}
    ngff_xarray.write_plate(wells, folder / "screen.ome.zarr", name="screen")
    (folder / "layout.csv").write_text("well,dose\nA1,0\nB2,10\n")
    placed = {
        "type": "translation",
        "translation": [0, 0, 10],
        "input": {"path": "b", "name": "physical"},
        "output": {"path": "a", "name": "physical"},
    }
    made.write_scene(folder / "scene.ome.zarr", images={"a": {}, "b": {}}, transformations=[placed])
    made.write_series(folder / "slides.ome.zarr")
    return folder


@pytest.fixture(autouse=True)
def beside_stores(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run an example where the stores are that it names; it may change them."""
    if not isinstance(request.node, pytest.DoctestItem):
        return
    said = "".join(example.source for example in request.node.dtest.examples)
    for store in request.getfixturevalue("stores").iterdir():
        if store.name in said:
            copied = shutil.copytree if store.is_dir() else shutil.copy
            copied(store, tmp_path / store.name)
    monkeypatch.chdir(tmp_path)
