"""Images as SpatialData has them: in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from conftest import OMERO
from stores import write_image

import ngff_xarray  # noqa: F401
from ngff_xarray.errors import MissingDependencyError, SelectionError

IN_CI = "NGFF_CI" in os.environ  # of .ci/run, which has everything


def test_without_it_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spatialdata", None)
    tree = xr.open_datatree(write_image(tmp_path / "a.zarr", axes="yx"))
    with pytest.raises(MissingDependencyError, match=r"ngff-xarray\[spatialdata\]"):
        tree.ngff.to_spatialdata()


def test_a_name_that_a_label_image_has_is_refused(tmp_path: Path) -> None:
    tree = xr.open_datatree(write_image(tmp_path / "a.zarr", axes="yx", labels={"cells": {}}))
    with pytest.raises(SelectionError, match=r"there is a label image 'cells'.* choose another"):
        tree.ngff.to_spatialdata(name="cells")


@pytest.mark.readers
def test_elements_hold_pixels_places_and_tables(tmp_path: Path) -> None:
    folder = Path(os.environ.get("NGFF_READERS", "readers-are-not-installed")).absolute()
    python = folder / "spatialdata" / "bin" / "python"
    if not python.exists():
        (pytest.fail if IN_CI else pytest.skip)(
            "needs spatialdata: tests/readers/install DIR, and NGFF_READERS=DIR"
        )
    stores = [
        write_image(
            tmp_path / "scan.zarr",
            axes="tczyx",
            labels={"cells": {}},
            omero=OMERO,
            translation=(0, 0, 1.0, 10.0, 20.0),
        ),
        write_image(tmp_path / "plane.zarr", version="0.4", axes="yx", labels={"cells": {}}),
    ]
    script = Path(__file__).parent / "readers" / "spatialdata_elements.py"
    done = subprocess.run(
        [str(python), str(script), *map(str, stores)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for store in stores:
        tree = xr.open_datatree(store)
        tree = tree.ngff.sel(t=0) if "t" in tree.ngff.levels[0].dims else tree
        cells = tree.ngff.labels["cells"]
        for when, said in found[store.name].items():  # as made, and as read again
            assert set(said["elements"]) == {store.stem, "cells"}
            assert said["regions"] == {"cells_table": ["cells"]}
            areas = cells.ngff.properties["area"]
            assert said["tables"]["cells_table"] == {str(i): a for i, a in areas.items()}
            for name, node in ((store.stem, tree), ("cells", cells)):
                element = said["elements"][name]
                if name != "cells":
                    assert element["c"] == [channel.name for channel in node.ngff.channels]
                pairs = zip(node.ngff.levels, element["levels"], strict=True)
                for number, (level, told) in enumerate(pairs):
                    assert told["sum"] == int(level.astype("u8").sum())
                    if when == "again" and number:
                        continue  # which it places by their sizes, whatever was written
                    space = [dim for dim in ("z", "y", "x") if dim in level.dims]
                    for end, index in zip(told["ends"], (0, -1), strict=True):
                        assert end == pytest.approx([float(level[dim][index]) for dim in space])
        _check_read_back(store.with_name(f"{store.stem}.spatialdata.zarr"), tree, cells)


def _check_read_back(path: Path, tree: xr.DataTree, cells: xr.DataTree) -> None:
    """Check what this package reads of what SpatialData wrote of its elements."""
    again = xr.open_datatree(path)
    assert again.ngff.kind == "collection"
    assert again.encoding["dropped"] == ("tables/cells_table",)
    (image,) = (each for each in again.ngff.images if each.startswith("images/"))
    for node, name in ((tree, image), (cells, "labels/cells")):
        found, expected = again.ngff.images[name].ngff.level(0), node.ngff.level(0)
        np.testing.assert_array_equal(found.values.squeeze(), expected.values.squeeze())
        for dim in (dim for dim in ("z", "y", "x") if dim in expected.dims):
            np.testing.assert_allclose(found[dim], expected[dim])
