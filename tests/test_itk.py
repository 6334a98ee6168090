"""Images of ITK and SimpleITK: pixels, and where each of them lies."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from stores import write_image

import ngff_xarray  # noqa: F401
from ngff_xarray.errors import MissingDependencyError, SelectionError, UnsupportedError

# of the code that SWIG makes, which crashes where this is an error
pytestmark = pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute")

IN_CI = "NGFF_CI" in os.environ  # of .ci/run, which has everything


@pytest.fixture(params=["SimpleITK", "itk"])
def library(request: pytest.FixtureRequest) -> str:
    if not IN_CI or request.param == "itk":  # which takes SimpleITK
        pytest.importorskip(request.param)
    return str(request.param)


def pixels(library: str, made: Any) -> np.ndarray:
    module = sys.modules[library]
    read = {"itk": "array_from_image", "SimpleITK": "GetArrayFromImage"}[library]
    return np.asarray(getattr(module, read)(made))


def point(made: Any, *index: int) -> tuple[float, ...]:
    """Where a pixel is, as the library says."""
    return tuple(made.TransformIndexToPhysicalPoint(index))


def test_every_pixel_is_where_it_was(library: str, tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.zarr", axes="zyx", translation=(1.0, 10.0, -20.0))
    tree = xr.open_datatree(path)
    for number, level in enumerate(tree.ngff.levels):
        made = tree.ngff.to_itk(number, library=library)
        np.testing.assert_array_equal(pixels(library, made), level)
        z, y, x = 2, 5, 3
        expected = (float(level.x[x]), float(level.y[y]), float(level.z[z]))
        assert point(made, x, y, z) == pytest.approx(expected)
    assert tuple(tree.ngff.to_itk("1 µm", library=library).GetSpacing()) == (1.0, 1.0, 2.0)


def test_units(library: str, tmp_path: Path) -> None:
    tree = xr.open_datatree(write_image(tmp_path / "a.zarr", axes="yx"))
    made = tree.ngff.to_itk(library=library, unit="millimeter")
    assert tuple(made.GetSpacing()) == pytest.approx((0.0005, 0.0005))


def test_channels_are_the_components_of_vectors(library: str, tmp_path: Path) -> None:
    tree = xr.open_datatree(write_image(tmp_path / "a.zarr", axes="cyx"))
    made = tree.ngff.to_itk(library=library)
    assert made.GetNumberOfComponentsPerPixel() == 2
    np.testing.assert_array_equal(np.moveaxis(pixels(library, made), -1, 0), tree.ngff.levels[0])
    alone = tree.ngff.sel(c="0").ngff.to_itk(library=library)
    assert alone.GetNumberOfComponentsPerPixel() == 1


def test_axes_that_run_backwards_and_crops(library: str, tmp_path: Path) -> None:
    level = xr.open_datatree(write_image(tmp_path / "a.zarr", axes="yx")).ngff.levels[0]
    turned = level.isel(y=slice(None, None, -1), x=slice(10, 40))
    made = turned.ngff.to_itk(library=library)
    np.testing.assert_array_equal(pixels(library, made), turned)
    assert point(made, 4, 7) == pytest.approx((float(turned.x[4]), float(turned.y[7])))
    assert min(made.GetSpacing()) > 0


def test_rotated_images_have_a_direction(library: str, tmp_path: Path) -> None:
    names = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    ends = {"input": {"name": "physical"}, "output": {"name": "world"}}
    for affine, is_sheared in (
        ([[0.8, -0.6, 5.0], [0.6, 0.8, -3.0]], False),
        ([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0]], True),
    ):
        path = write_image(
            tmp_path / f"{is_sheared}.zarr",
            version="0.6",
            axes="yx",
            systems=[{"name": "world", "axes": names}],
            transformations=[{"type": "affine", "affine": affine, **ends}],
        )
        tree = xr.open_datatree(path)
        placed = tree.ngff.to_system("world")
        if is_sheared:
            with pytest.raises(UnsupportedError, match="sheared"):
                placed.ngff.to_itk(library=library)
            continue
        made = placed.ngff.to_itk(library=library)
        level = tree.ngff.levels[0]
        ((y, x),) = tree.ngff.transform([[float(level.y[7]), float(level.x[4])]], to="world")
        assert point(made, 4, 7) == pytest.approx((x, y))


def test_positions_are_selected_first(library: str, tmp_path: Path) -> None:
    tree = xr.open_datatree(write_image(tmp_path / "a.zarr", axes="tzyx"))
    with pytest.raises(SelectionError, match=r"t 3, .*tree\.ngff\.sel\(t=…\)"):
        tree.ngff.to_itk(library=library)
    made = tree.ngff.sel(t="1 s").ngff.to_itk(library=library)
    np.testing.assert_array_equal(pixels(library, made), tree.ngff.levels[0][1])


def test_labels_and_pixels_that_there_are_none_of(library: str, tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.zarr", axes="zyx", labels={"cells": {}})
    labels = xr.open_datatree(path).ngff.labels["cells"]
    made = labels.ngff.to_itk(library=library)
    np.testing.assert_array_equal(pixels(library, made), labels.ngff.levels[0])
    array = labels.ngff.levels[0].astype("f2")
    with pytest.raises(UnsupportedError, match=f"{library} has no images of float16"):
        array.ngff.to_itk(library=library)


def test_without_either_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = xr.open_datatree(write_image(tmp_path / "a.zarr", axes="yx"))
    for name in ("itk", "SimpleITK"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"itk or SimpleITK.*ngff-xarray\[itk\]"):
        tree.ngff.to_itk()
    with pytest.raises(ValueError, match="expected 'itk' or 'SimpleITK'"):
        tree.ngff.to_itk(library="vtk")  # type: ignore[call-overload]
