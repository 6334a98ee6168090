"""Fixtures of a browser: skipped where it is missing, but not in CI, which installs it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_apps import CHROMIUM, App, chromium
from seen_viewer import write_planes

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IN_CI = "NGFF_CI" in os.environ  # of .ci/run, which has everything
_NEEDED = ("playwright", "jupyterlab", "notebook", "voila")
_reports = pytest.StashKey[dict[str, bool]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder, and run it last: Playwright leaves an event loop running."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Remember which tests failed, for their screenshots."""
    report: Any = yield
    item.stash.setdefault(_reports, {})[report.when] = report.failed
    return report


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Headless Chromium."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    missing += [] if CHROMIUM.exists() else [str(CHROMIUM)]
    if missing:
        give_up = pytest.fail if IN_CI else pytest.skip
        give_up(f"needs {', '.join(missing)}: pip install 'ngff-xarray[browser]', apt chromium")
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="session")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """A JupyterLab server."""
    with App("lab", tmp_path_factory.mktemp("lab")) as app:
        yield app


@pytest.fixture(scope="session")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image whose colours are known, with labels."""
    return write_planes(tmp_path_factory.mktemp("planes") / "planes.ome.zarr")


@pytest.fixture
def keep_screenshot(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Page]]:
    """Pages to photograph if the test fails."""
    pages: list[Page] = []
    yield pages
    if any(request.node.stash.get(_reports, {}).values()):
        folder = tmp_path_factory.getbasetemp() / "screenshots"
        folder.mkdir(exist_ok=True)
        for page in pages:
            path = folder / f"{request.node.name.replace('/', '_')}.png"
            page.screenshot(path=path)
            print(f"\nscreenshot: {path}")
