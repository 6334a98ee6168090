"""Wells that are alike: little is read of each, and drawn as if it was opened whole."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from servers import CountingServer
from stores import edit_attributes, write_image, write_plate

from ngff_xarray import mosaic
from ngff_xarray.errors import SelectionError
from ngff_xarray.picture import LabelStyle
from ngff_xarray.planes import Choice

_WINDOW = {"min": 0, "max": 65535, "start": 0, "end": 3000}
OMERO = {
    "channels": [
        {"label": "DAPI", "color": "0000FF", "window": _WINDOW},
        {"label": "GFP", "color": "00FF00", "window": _WINDOW},
    ],
    "rdefs": {"defaultT": 1, "defaultZ": 2, "model": "color"},
}
MANY = {"axes": "tczyx", "shape": (2, 3, 4, 48, 64), "levels": 3, "omero": OMERO}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("consolidated", [False, True])
def test_of_each_well_two_groups_an_array_and_its_chunks_are_read(
    tmp_path: Path, server: CountingServer, version: Any, consolidated: bool
) -> None:
    image = {"axes": "cyx", "shape": (1, 64, 64), "chunks": (1, 64, 64), "levels": 3}
    path = write_plate(
        tmp_path / "p.ome.zarr",
        version=version,
        rows="ABCD",
        fields=2,
        image=image,
        labels={"cells": {}},
        consolidated=consolidated,
    )
    plate = xr.open_datatree(f"{server.url}/{path.name}")
    server.clear()
    plate.ngff.rgb(max_pixels=8 * 32**2)
    asked = Counter(request.path.removeprefix(f"/{path.name}/") for request in server.requests)
    if consolidated:
        group, array = {}, {}
    elif version == "0.5":
        group, array = {"zarr.json", "0/zarr.json"}, {"0/1/zarr.json"}
    else:
        group, array = {".zattrs", "0/.zattrs"}, {"0/1/.zarray"}
    chunk = "0/1/c/0/0/0" if version == "0.5" else "0/1/0/0/0"
    for well in ("A/2", "B/1", "D/2"):
        found = [each.removeprefix(f"{well}/") for each in asked if each.startswith(well)]
        assert sorted(found) == sorted([*group, *array, chunk])
    assert server.misses == 0


@pytest.mark.parametrize(("labels", "more"), [("cells", 0), (True, 1)])
def test_of_each_label_image_a_group_an_array_and_its_chunks_are_read(
    tmp_path: Path, server: CountingServer, labels: Any, more: int
) -> None:
    path = write_plate(
        tmp_path / "p.ome.zarr",
        rows="ABCD",
        fields=1,
        image={"axes": "yx", "shape": (64, 64), "chunks": (64, 64)},
        labels={"cells": {}, "nuclei": {}} if more else {"cells": {}},
    )
    plate = xr.open_datatree(f"{server.url}/{path.name}")
    server.clear()
    plate.ngff.plot(labels=labels)
    well = f"/{path.name}/B/1/"
    asked = [request.path.removeprefix(well) for request in server.requests if well in request.path]
    label = ["0/labels/cells/zarr.json", "0/labels/cells/0/zarr.json", "0/labels/cells/0/c/0/0"]
    image = ["zarr.json", "0/zarr.json", "0/0/zarr.json", "0/0/c/0/0"]
    others = [each.replace("cells", "nuclei") for each in label] + ["0/labels/zarr.json"]
    assert sorted(asked) == sorted(image + label + others * more)


def test_labels_of_some_wells_only(tmp_path: Path) -> None:
    image = {"axes": "yx", "shape": (64, 64), "levels": 2}
    path = write_plate(
        tmp_path / "p.ome.zarr",
        columns="1234",
        fields=1,
        image=image,
        labels={"cells": {}},
        missing=["A/2/0", "A/3/0", "B/1/0"],
    )
    write_image(path / "A/2/0", **image)
    write_image(path / "A/3/0", **image, labels={"nuclei": {}, "cells": {}})
    write_image(path / "B/1/0", **image, labels={"cells": {"levels": 1}})
    edit_attributes(path / "B/3/0/labels/cells", lambda ome: ome["image-label"].pop("colors"))
    for labels in ("cells", True):
        light = xr.open_datatree(path).ngff.rgb(labels=labels)
        whole = xr.open_datatree(path, wells="all").ngff.rgb(labels=labels)
        np.testing.assert_array_equal(light, whole)
    plain = xr.open_datatree(path).ngff.rgb()
    assert (light.values != plain.values).any()


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"t": 1, "z": "1 µm"},
        {"projection": "max"},
        {"projection": "mean", "z": slice(0, 2), "channels": ["GFP"]},
        {"channels": {"DAPI": {"window": (0, 500)}, "GFP": "magma"}},
        {"x": slice(4, 20), "y": slice(None, 12), "level": 0},
        {"c": ["GFP"]},
        {"max_pixels": 6 * 5**2},
        {"labels": "cells"},
        {"labels": True, "outline": True},
    ],
)
def test_wells_that_are_alike_are_drawn_as_if_each_was_opened(
    tmp_path: Path, asked: dict[str, Any]
) -> None:
    path = write_plate(
        tmp_path / "p.ome.zarr", columns="123", fields=1, image=MANY, labels={"cells": {}},
        missing=["B/2/0", "B/3/0"],
    )  # fmt: skip
    write_image(path / "B/2/0", **{**MANY, "shape": (2, 3, 4, 40, 64)}, labels={"cells": {}})
    write_image(path / "B/3/0", **{**MANY, "dtype": "uint8"}, labels={"cells": {}})

    def rename(ome: Any) -> None:
        ome["multiscales"][0]["name"] = "another"
        ome["omero"]["channels"][0]["window"] = {"min": 0, "max": 9, "start": 2, "end": 300}

    edit_attributes(path / "A/2/0", rename)
    edit_attributes(path / "A/3/0", lambda ome: ome["omero"]["channels"][0].pop("window"))
    edit_attributes(path / "B/1/0", lambda ome: ome.pop("omero"))
    if "GFP" in str(asked):
        edit_attributes(path / "B/1/0", lambda ome: ome.update(omero=OMERO))
    light = xr.open_datatree(path).ngff.rgb(**asked)
    whole = xr.open_datatree(path, wells="all").ngff.rgb(**asked)
    np.testing.assert_array_equal(light, whole)
    assert light.values.std() > 5


def test_what_cannot_be_drawn_of_any_is_said_soon(tmp_path: Path, server: CountingServer) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", rows="ABCDEFGH", fields=1, labels={"cells": {}})
    plate = xr.open_datatree(f"{server.url}/{path.name}")
    server.clear()
    with pytest.raises(SelectionError, match="there is no channel 'RFP'"):
        plate.ngff.plot(channels="RFP")
    arrays = [each for each in server.requests if each.path.endswith("0/0/zarr.json")]
    assert len(arrays) == 1, "they are all alike"
    with pytest.raises(SelectionError, match="there is no label image 'nuclei'"):
        plate.ngff.plot(labels="nuclei")


def test_wells_are_drawn_if_the_first_cannot_be(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", columns="123", fields=1, labels={"cells": {}})
    for level in ("0", "1"):
        (path / "A/1/0" / level / "zarr.json").unlink()
    shutil.rmtree(path / "A/2/0/labels")
    drawn = mosaic.mosaic(xr.open_datatree(path), Choice(), LabelStyle("cells"))
    assert {cell.name for cell in drawn.cells if cell.picture is None} == {"A/1", "A/2"}
    problems = {cell.name: cell.problem for cell in drawn.cells}
    (path / "B/1/0/1/zarr.json").unlink()  # it has another level
    small = mosaic.mosaic(xr.open_datatree(path), Choice(), max_pixels=6 * 9)
    assert {cell.name for cell in small.cells if cell.picture is None} == {"A/1"}
    assert "there is no array at '0'" in problems["A/1"]
    assert "there are no label images" in problems["A/2"]
