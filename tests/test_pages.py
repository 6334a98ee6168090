"""The README and the tour: their examples are run by doctest, their commands and links here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ngff_xarray

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "docs" / "tour.md"]
INSTALLING = re.compile(r"python -m (pip install|pytest)\b")  # .ci/run does


def fenced(page: Path) -> list[tuple[str, str]]:
    """Return the language and the code of every block of a page."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_on_pages_is_an_example_or_a_command(page: Path) -> None:
    for language, code in fenced(page):
        assert language in {"pycon", "sh"}, code
        assert language == "sh" or code.startswith(">>> ")  # which doctest runs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_pages_run(page: Path, tmp_path: Path) -> None:
    ngff_xarray.sample("cell", tmp_path / "image.ome.zarr")
    lines = "".join(code for language, code in fenced(page) if language == "sh").splitlines()
    commands = [each.strip() for line in lines for each in line.partition("#")[0].split("&&")]
    run = [each for each in commands if not INSTALLING.match(each)]
    assert run
    for command in run:
        words = [sys.executable, *command.split()[1:]]
        assert command.startswith("python ")
        subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)


def test_what_the_readme_points_to_is_there() -> None:
    readme = (ROOT / "README.md").read_text()
    (badge,) = re.findall(r"https://mybinder.org/v2/\S+\?urlpath=lab/tree/([^)]+)", readme)
    for each in (badge, *re.findall(r"(?:\]\(|src=\")([^):#\"]+)[)\"]", readme)):
        assert (ROOT / each).exists(), each
