"""The package itself: what importing it costs, its command, its notebooks, its README."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

import ngff_xarray

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    "zarr",
    "dask",
    "pint",
    "matplotlib",
    "anywidget",
    "ipywidgets",
    "fsspec",
    "aiohttp",
    "PIL",
)


def _run(code: str, **options: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, **options
    )  # type: ignore[call-overload]
    return str(done.stdout)


@pytest.mark.parametrize(
    "code",
    [
        "import ngff_xarray",
        "import ngff_xarray.backend",
        "import xarray; xarray.backends.list_engines()['ngff'].guess_can_open('table.nc')",
        "import xarray; xarray.backends.list_engines(); xarray.DataTree().ngff",
    ],
)
def test_importing_loads_nothing_heavy(code: str) -> None:
    # what other engines import when xarray lists them is theirs
    without = "import sys; sys.modules['kerchunk'] = None"
    found = _run(f"{without}\n{code}\nprint([m for m in {HEAVY} if m in sys.modules])")
    assert found.strip() == "[]"


def test_the_engine_registers_the_accessor_without_our_import(tmp_path: Path) -> None:
    path = ngff_xarray.sample("cell", tmp_path / "cell.ome.zarr")
    code = f"import xarray as xr; print(xr.open_datatree({str(path)!r}).ngff.kind)"
    assert _run(code).strip() == "image"


def test_one_version_and_one_entry_point() -> None:
    assert version("ngff-xarray") == ngff_xarray.__version__
    (entry,) = entry_points(group="xarray.backends", name="ngff")
    assert entry.value == "ngff_xarray.backend:NgffBackendEntrypoint"
    assert (Path(ngff_xarray.__file__).parent / "py.typed").exists()


def test_names_that_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'smaple'"):
        ngff_xarray.smaple  # noqa: B018  # the access is the test


def test_the_demo_prints_the_tree_and_writes_a_picture(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ngff_xarray", "demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "<xarray.DataTree>" in done.stdout
    assert "OME-Zarr 0.5 image 'cell'" in done.stdout
    assert str(tmp_path / "cell.png") in done.stdout
    with Image.open(tmp_path / "cell.png") as picture:
        assert picture.size[0] > 600


def test_the_demo_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ngff_xarray", "demo", "--picture", "no/such/folder/x.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no/such/folder" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.name)
def test_notebooks_run_and_are_committed_without_outputs(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in cells)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=120, resources=resources).execute()
    assert any(cell.outputs for cell in cells)
