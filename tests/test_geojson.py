"""Regions of viewers as GeoJSON, and back."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from stores import write_image

import ngff_xarray  # noqa: F401
from ngff_xarray.errors import SelectionError
from ngff_xarray.viewing.regions import Roi

RECTANGLE = Roi("rectangle", ((10.0, 5.0), (2.0, 7.5)), ("x", "y"), "micrometer")
TRIANGLE = Roi("polygon", ((1.0, 1.0), (9.0, 2.0), (4.0, 8.5)), ("x", "y"), "micrometer")
SQUARE = [[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]


@pytest.fixture
def image(tmp_path: Path) -> xr.DataTree:
    return xr.open_datatree(
        write_image(tmp_path / "a.zarr", axes="zyx", translation=(0, 10.0, 20.0))
    )


@pytest.mark.parametrize("roi", [RECTANGLE, TRIANGLE])
def test_there_and_back(roi: Roi, image: xr.DataTree, tmp_path: Path) -> None:
    for like in (None, image.ngff.level(1)):
        said = roi.to_geojson(tmp_path / "roi.geojson", like=like)
        for source in (
            tmp_path / "roi.geojson",
            said,
            json.dumps(said),
            str(tmp_path / "roi.geojson"),
        ):
            (found,) = Roi.from_geojson(source, like=like)
            assert (found.kind, found.axes, found.unit) == (roi.kind, roi.axes, roi.unit)
            np.testing.assert_allclose(found.corners, roi.corners)


@given(st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 2), min_size=3, max_size=9, unique=True))
def test_every_polygon_comes_back(points: list[tuple[float, float]]) -> None:
    roi = Roi("polygon", tuple(points), ("x", "y"), "nanometer")
    (found,) = Roi.from_geojson(json.dumps(roi.to_geojson()))
    assert set(found.corners) == set(roi.corners)
    assert found.unit == "nanometer"


def test_pixels_are_counted_from_the_corner_of_the_first(image: xr.DataTree) -> None:
    level = image.ngff.level(0)  # pixels of 0.5 µm, the first about (20, 10)
    whole = Roi("rectangle", ((19.75, 9.75), (19.75 + 31, 9.75 + 25)), unit="micrometer")
    (ring,) = whole.to_geojson(like=level)["geometry"]["coordinates"]
    assert ring == [[0, 0], [62, 0], [62, 50], [0, 50], [0, 0]]
    (roi,) = Roi.from_geojson({"type": "Polygon", "coordinates": [SQUARE]}, like=level)
    assert roi.bounds == (19.75, 9.75, 21.75, 11.75)
    assert int(roi.mask(level.isel(z=0)).sum()) == 16
    assert dict(level.ngff.sel(roi).sizes) == {"z": 4, "y": 4, "x": 4}
    (again,) = Roi.from_geojson(roi.to_geojson(like=image.ngff.level(1)), like=image.ngff.level(1))
    np.testing.assert_allclose(again.bounds, roi.bounds)


def test_collections_as_other_programs_write_them(image: xr.DataTree) -> None:
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [SQUARE]},
        "properties": {"objectType": "annotation", "classification": {"name": "Tumor"}},
    }
    multi = {"type": "MultiPolygon", "coordinates": [[SQUARE], [[[0, 0], [3, 0], [0, 3], [0, 0]]]]}
    for several in (
        {"type": "FeatureCollection", "features": [feature, {**feature, "geometry": multi}]},
        json.dumps({"type": "GeometryCollection", "geometries": [feature["geometry"], multi]}),
        [feature, {"type": "Feature", "geometry": multi, "properties": None}],  # of QuPath
        SimpleNamespace(
            __geo_interface__={
                "type": "FeatureCollection",
                "features": [feature, {**feature, "geometry": multi}],
            }
        ),
    ):
        found = Roi.from_geojson(several, like=image.ngff.level(0))
        assert [roi.kind for roi in found] == ["rectangle", "rectangle", "polygon"]
        assert {roi.unit for roi in found} == {"micrometer"}


def test_a_viewer_takes_and_gives_it(image: xr.DataTree) -> None:
    viewer = image.ngff.view()
    viewer.roi = RECTANGLE.to_geojson()
    assert viewer.roi.bounds == RECTANGLE.bounds
    assert viewer._main.canvas.roi["kind"] == "rectangle"
    viewer.roi = {"type": "Polygon", "coordinates": [[[1, 1], [9, 2], [4, 8], [1, 1]]]}
    assert viewer.roi.to_geojson()["properties"]["unit"] == "micrometer"
    nano = Roi("polygon", ((1e3, 1e3), (9e3, 2e3), (4e3, 8e3)), unit="nanometer")
    viewer.roi = nano.to_geojson()
    np.testing.assert_allclose(viewer.roi.points, [(1, 1), (9, 2), (4, 8)])
    with pytest.raises(SelectionError, match="one region, found 2"):
        viewer.roi = {"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE]]}
    other = Roi("rectangle", ((0, 0), (1, 1)), ("x", "z"), "micrometer")
    with pytest.raises(SelectionError, match="along"):
        viewer.roi = other.to_geojson()
    viewer.close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"type": "Point", "coordinates": [0, 0]}, "found 'Point'"),
        ({"type": "Polygon", "coordinates": [SQUARE, SQUARE]}, "no holes"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, "three corners"),
        ({"type": "Polygon", "coordinates": [[["a", 0]] * 4]}, "are numbers"),
        ({"type": "Polygon", "coordinates": [[[np.nan, 0]] * 4]}, "finite"),
        ({"type": "Polygon"}, "expected a list"),
        ({"type": "Feature", "geometry": None}, "no GeoJSON"),
        ('{"type": ', "no GeoJSON"),
        ("{" * 10, "no GeoJSON"),
        (7, "no GeoJSON"),
    ],
)
def test_what_is_no_region_is_refused(wrong: Any, said: str) -> None:
    with pytest.raises(SelectionError, match=said):
        Roi.from_geojson(wrong)
