"""The tests of the JavaScript, which node runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

IN_CI = "NGFF_CI" in os.environ  # of .ci/run, which has everything
FILES = sorted((Path(__file__).parent / "js").glob("*.test.mjs"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_pure_functions(path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        (pytest.fail if IN_CI else pytest.skip)("needs node, https://nodejs.org")
    done = subprocess.run([node, "--test", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_modules_import_nothing_and_name_no_host() -> None:
    widgets = Path(__file__).parents[1] / "ngff_xarray" / "widgets"
    for path in [*widgets.glob("*.js"), *widgets.glob("*.css")]:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        for word in ("import ", "import(", "@import", "://", "innerHTML", "fetch("):
            assert word not in text, f"{path.name} has {word!r}"
