"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest
from hypothesis import HealthCheck, settings
from servers import CountingServer
from stores import write_image

mpl.use("agg")

# a loaded machine is slow, not wrong; CI looks at the same examples every time, people at new ones
settings.register_profile(
    "steady",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("steady")

OMERO = {
    "channels": [
        {
            "label": "DAPI",
            "color": "0000FF",
            "window": {"min": 0, "max": 65535, "start": 100, "end": 50000},
        },
        {
            "label": "GFP",
            "color": "00FF00",
            "window": {"min": 0, "max": 65535, "start": 200, "end": 60000},
        },
    ],
    "rdefs": {"defaultT": 1, "defaultZ": 2, "model": "color"},
}


@pytest.fixture(autouse=True)
def figures() -> Iterator[None]:
    """No figure stays open: matplotlib warns of too many."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once."""
    monkeypatch.setattr("ngff_xarray.storage.guarded._FIRST_PAUSE", 0.001)


@pytest.fixture(params=["0.4", "0.5"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scan(tmp_path: Path, version: str) -> Path:
    """A t, c, z, y, x image of three levels with labels, in each version."""
    return write_image(
        tmp_path / "scan.ome.zarr",
        version=version,
        axes="tczyx",
        labels={"cells": {}},
        omero=OMERO,
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CountingServer]:
    """A loopback HTTP server of the test's own directory."""
    with CountingServer(tmp_path) as running:
        yield running


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Say what to do next, to who ran the README's command."""
    if "README.md" in config.invocation_params.args and exitstatus == 0:
        terminalreporter.section("next")
        terminalreporter.line(
            'the notebooks   python -m pip install -e ".[notebooks]"; jupyter lab notebooks'
        )
        terminalreporter.line("all tests       python -m pytest -n auto")
        terminalreporter.line("to change it    CONTRIBUTING.md")
