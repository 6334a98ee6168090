"""Bars for long work: in terminals and notebooks, where the user waits, and silent when told so."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
import xarray as xr
from nbclient import NotebookClient
from servers import CountingServer
from stores import write_image, write_plate
from stores.imaris import write_imaris

import ngff_xarray
from ngff_xarray.progress import Bar, progress

pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))

ROOT = Path(__file__).parents[1]


@pytest.fixture
def plate(tmp_path: Path, server: CountingServer) -> str:
    """A plate of eight wells on a server that takes its time: opening has four steps."""
    folder = write_plate(
        tmp_path / "p.ome.zarr", rows=["A", "B"], columns=["1", "2", "3", "4"], fields=1
    )
    server.latency = 0.45
    return f"{server.url}/{folder.name}"


def in_terminal(code: str, **environment: str) -> str:
    """What a script of Python leaves in a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    os.close(theirs)
    seen = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while part := terminal.read(4096):
                seen += part
        except OSError:  # how Linux says that the other side is closed
            pass
    assert process.wait() == 0, seen.decode()
    return seen.decode()


PATIENT = "import ngff_xarray.progress as p; p._DELAY = 60; "  # the machine may be slow
OPEN = "import xarray as xr; xr.open_datatree({!r}, engine='ngff', wells='all'{})"


def test_a_long_opening_shows_a_bar_in_a_terminal(plate: str) -> None:
    seen = in_terminal(OPEN.format(plate, ""))
    assert "opening: " in seen
    assert "/8 [" in seen
    assert "groups/s" in seen or "s/ groups" in seen
    assert seen.rstrip(" ").endswith("\r")  # it goes away


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "environment"), [(", progress=False", {}), ("", {"TQDM_DISABLE": "1"})], ids=str
)
def test_it_is_silent_when_told_so(plate: str, options: str, environment: dict[str, str]) -> None:
    assert in_terminal(OPEN.format(plate, options), **environment) == ""


def test_a_short_opening_shows_none(plate: str, server: CountingServer) -> None:
    server.latency = 0
    assert in_terminal(PATIENT + OPEN.format(plate, "")) == ""
    assert "8/8 [" in in_terminal(OPEN.format(plate, ", progress=True"))


@pytest.mark.slow
def test_a_notebook_has_it_below_the_cell_that_waits(plate: str) -> None:
    cells = [
        f"{PATIENT}import ngff_xarray; import xarray as xr; "
        "xr.open_datatree(ngff_xarray.sample('cell')); p._DELAY = 1.0"
    ]
    cells += [OPEN.format(plate, "") + "; 1", "2"]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    shown: dict[int, list[Any]] = {}

    class Client(NotebookClient):
        def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
            if msg["msg_type"] == "display_data":
                shown.setdefault(cell_index, []).append(msg["content"]["data"])
            return super().process_message(msg, cell, cell_index)

    Client(made, resources={"metadata": {"path": str(ROOT)}}).execute()
    assert list(shown) == [1]
    assert "application/vnd.jupyter.widget-view+json" in shown[1][0]
    shown.clear()
    silent = {**os.environ, "TQDM_DISABLE": "1"}
    Client(made, resources={"metadata": {"path": str(ROOT)}}).execute(env=silent)
    assert not shown


WORK: dict[str, Callable[[str], Any]] = {
    "looking at all fields": lambda url: xr.open_datatree(url).ngff.to_array(
        uniform=False, progress=True
    ),
    "looking for all fields": lambda url: xr.open_datatree(url).ngff.missing_fields(progress=True),
    "validating": lambda url: ngff_xarray.validate(url, progress=True),
    "verifying": lambda url: xr.open_datatree(url).ngff.verify(progress=True),
}


@pytest.mark.parametrize("text", WORK)
def test_other_walks_count_all_they_do(
    plate: str, server: CountingServer, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.latency = 0
    WORK[text](plate)
    last = capsys.readouterr().err.rstrip().splitlines()[-1].rpartition("\r")[2]
    assert last.startswith(f"{text}: 100%")


def test_a_collection_counts_its_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = {name: {} for name in "abc"}
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", labels=labels)
    xr.open_datatree(path, progress=True)
    assert "3/3 [" in capsys.readouterr().err


def test_indexing_counts_datasets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("h5py")
    path = tmp_path / "a.ims"
    write_imaris(path)
    ngff_xarray.references(path, progress=True)
    last = capsys.readouterr().err.rstrip().rpartition("\r")[2]
    assert last.startswith("indexing: 100%")
    ngff_xarray.references(path, progress=False)
    assert capsys.readouterr().err == ""


def test_what_is_interrupted_does_not_go_on(server: CountingServer) -> None:
    import asyncio

    begun, ended = [], []

    async def work() -> None:
        begun.append(1)
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    class Impatient(Bar):
        def show(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Impatient().wait(work())
    Bar().wait(asyncio.sleep(0))
    assert begun == ended == [1]


def test_more_may_be_found_on_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("looking", "chunks", True, total=2) as bar:
        bar.did()
        bar.show()
        bar.more(3)
        bar.did(4)
    assert capsys.readouterr().err.rstrip().rpartition("\r")[2].startswith("looking: 100%")
