"""States of Neuroglancer: what they say. What is drawn of them is seen in `tests/browser`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import unquote
from urllib.request import urlopen

import numpy as np
import pytest
import tensorstore as ts
import xarray as xr
from conftest import OMERO
from servers import CountingServer
from stores import write_image

import ngff_xarray  # noqa: F401
from ngff_xarray.errors import MissingDependencyError, StoreError, UnsupportedError


def test_the_state(scan: Path, version: str) -> None:
    tree = xr.open_datatree(scan)
    with tree.ngff.to_neuroglancer() as shown:
        state = json.loads(json.dumps(shown.state))
        dapi, gfp, cells = state["layers"]
        assert state["dimensions"]["x"] == [pytest.approx(5e-7), "m"]
        assert state["dimensions"]["t"] == [1.0, "s"]
        assert list(state["dimensions"]) == ["t", "z", "y", "x"]
        assert state["displayDimensions"] == ["x", "y", "z"]
        assert state["position"] == [1.0, 2.0, 24.5, 30.5]  # as rdefs of the store say
        assert state["layout"] == "4panel"
        scheme = {"0.4": "zarr2", "0.5": "zarr3"}[version]
        assert dapi["source"]["url"] == f"{shown.served.url}/|{scheme}:"
        assert cells["source"]["url"] == f"{shown.served.url}/labels/cells/|{scheme}:"
        assert (dapi["localPosition"], gfp["localPosition"]) == ([0], [1])
        assert "range=[100.0, 50000.0]" in dapi["shader"]
        assert '"#00ff00"' in gfp["shader"]
        assert cells["type"] == "segmentation"
        assert cells["segmentColors"]["1"] == "#255b35"


def test_the_link_holds_the_state(scan: Path) -> None:
    with xr.open_datatree(scan).ngff.to_neuroglancer(labels=None) as shown:
        link = shown.link("https://host/viewer/")
        base, _, fragment = link.partition("#!")
        assert base == "https://host/viewer/"
        assert json.loads(unquote(fragment)) == shown.state
        assert "<" not in fragment
        assert "Neuroglancer" in shown._repr_html_()


@pytest.mark.parametrize("written", ["0.1", "0.3", "0.4", "0.5", "0.6"])
def test_metadata_are_served_as_it_knows_them(tmp_path: Path, written: str) -> None:
    path = write_image(
        tmp_path / "a.zarr",
        version=written,  # type: ignore[arg-type]
        axes="tczyx",
        labels={"cells": {}},
        translation=None if written < "0.4" else (0, 0, 1, 10, 20),
    )
    tree = xr.open_datatree(path)
    with tree.ngff.to_neuroglancer() as shown:
        name = "zarr.json" if written >= "0.5" else ".zattrs"
        for below, image in (("", tree), ("/labels/cells", tree.ngff.labels["cells"])):
            document = json.load(urlopen(f"{shown.served.url}{below}/{name}", timeout=20))
            ome = document["attributes"]["ome"] if name == "zarr.json" else document
            version = ome.get("version", ome["multiscales"][0].get("version"))
            assert version == ("0.5" if written >= "0.5" else "0.4")
            (multiscale,) = ome["multiscales"]
            for dataset, level in zip(multiscale["datasets"], image.ngff.levels, strict=True):
                scale, translation = dataset["coordinateTransformations"]
                unit = 1.0 if written < "0.4" else 1e-6
                assert scale["scale"][-1] == pytest.approx(float(level.x[1] - level.x[0]) * unit)
                assert translation["translation"][-1] == pytest.approx(float(level.x[0]) * unit)
        kvstore = {"driver": "http", "base_url": f"{shown.served.url}/0/"}
        driver = "zarr3" if written >= "0.5" else "zarr"
        found = ts.open({"driver": driver, "kvstore": kvstore}).result().read().result()
        np.testing.assert_array_equal(found, tree.ngff.levels[0])


def test_of_the_pixels_a_plane_of_the_coarsest_level_is_read(
    tmp_path: Path, server: CountingServer
) -> None:
    write_image(tmp_path / "a.zarr", axes="czyx")
    tree = xr.open_datatree(f"{server.url}/a.zarr", engine="ngff")
    server.clear()
    tree.ngff.to_neuroglancer(serve=True).close()
    assert {request.path for request in server.requests} == {
        f"/a.zarr/2/c/{c}/0/0/0" for c in range(2)
    }


def test_public_stores_are_read_from_where_they_are(tmp_path: Path, server: CountingServer) -> None:
    path = write_image(tmp_path / "a b.zarr", axes="cyx", omero=OMERO)
    tree = xr.open_datatree(f"{server.url}/a%20b.zarr", engine="ngff")
    shown = tree.ngff.to_neuroglancer(serve=False)
    assert shown.served is None
    assert shown.state["layers"][0]["source"]["url"] == f"{server.url}/a%20b.zarr/|zarr3:"
    with pytest.raises(StoreError, match=r"not on the web.*leave out serve=False"):
        xr.open_datatree(path).ngff.to_neuroglancer(serve=False)
    newer = write_image(tmp_path / "c.zarr", version="0.6", axes="yx")
    tree = xr.open_datatree(f"{server.url}/{newer.name}", engine="ngff")
    with pytest.raises(StoreError, match=r"version 0\.6"):
        tree.ngff.to_neuroglancer(serve=False)


def test_names_of_channels_are_no_code(tmp_path: Path) -> None:
    evil = {**OMERO["channels"][0], "label": '"); } #uicontrol <script>'}
    path = write_image(tmp_path / "a.zarr", axes="cyx", omero={"channels": [evil] * 2})
    with xr.open_datatree(path).ngff.to_neuroglancer() as shown:
        assert not any("script" in layer["shader"] for layer in shown.state["layers"])
        names = [layer["name"] for layer in shown.state["layers"]]
        assert len(set(names)) == 2
        assert "<script>" not in shown._repr_html_()


def test_what_it_cannot_draw_is_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.zarr", axes="yx", dtype="float64")
    with pytest.raises(UnsupportedError, match=r"float64.*astype\(\"float32\"\)"):
        xr.open_datatree(path).ngff.to_neuroglancer()
    tree = xr.open_datatree(write_image(tmp_path / "b.zarr", axes="yx"))
    with pytest.raises(UnsupportedError, match="write it first"):
        tree.ngff.crop(x=slice(0, 5)).ngff.to_neuroglancer()


def test_without_the_package_the_error_says_how_to_get_it(
    scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "neuroglancer", None)
    wanted = pytest.raises(MissingDependencyError, match=r"ngff-xarray\[neuroglancer\]")
    with xr.open_datatree(scan).ngff.to_neuroglancer() as shown, wanted:
        shown.show()
