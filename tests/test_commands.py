"""The command ``ngff-xarray``: what it prints, writes and exits with."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr
from conftest import OMERO
from PIL import Image
from servers import CountingServer
from stores import edit_attributes, write_image, write_plate

from ngff_xarray import commands

NOISE = np.random.default_rng(0).integers(0, 2**16, (2, 96, 64)).astype("u2")
COMMANDS = (
    "info",
    "quicklook",
    "validate",
    "verify",
    "serve",
    "demo",
    "convert",
    "copy",
    "export",
    "repair",
)
ENV = {**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "100"}


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str


def process(*words: object, cwd: Path | None = None) -> Done:
    """Run a command as users do."""
    done = subprocess.run(
        [sys.executable, "-m", "ngff_xarray", *map(str, words)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=ENV,
        cwd=cwd,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def run(*words: object) -> Done:
    """Run a command in this process: another Python takes seconds to begin."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        commands.main([str(word) for word in words])
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def refused(*words: object, code: int = 2, run: Callable[..., Done] = run) -> str:
    """Run a command that cannot be done; return the one line that it says."""
    done = run(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("ngff-xarray")
    return done.stderr


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_image(
        tmp_path / "a.ome.zarr", axes="cyx", data=NOISE, levels=2, labels={"cells": {}}, omero=OMERO
    )


@pytest.fixture
def broken(path: Path) -> Path:
    edit_attributes(path, lambda document: document["multiscales"][0].pop("axes"))
    return path


def test_help_has_every_command_with_an_example() -> None:
    done = process("--help")
    assert done.returncode == 0
    assert all(re.search(rf"^    {name}\b", done.stdout, re.MULTILINE) for name in COMMANDS)
    for name in COMMANDS:
        text = run(name, "--help").stdout
        assert f"For example:\n  ngff-xarray {name}" in text
        assert "exits with 0" in text
    assert run().stdout == run("--help").stdout  # who types no command asks for it


def test_the_script_is_the_command() -> None:
    project = Path(__file__).parents[1] / "pyproject.toml"
    scripts = tomllib.loads(project.read_text())["project"]["scripts"]
    assert scripts == {"ngff-xarray": "ngff_xarray.commands:main"}


def test_info(path: Path) -> None:
    done = run("info", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{xr.open_datatree(path).ngff}\n"
    found = json.loads(run("info", path, "--json").stdout)
    assert (found["kind"], found["version"], found["labels"]) == ("image", "0.5", ["cells"])
    assert [each["name"] for each in found["channels"]] == ["DAPI", "GFP"]
    assert found["channels"][0]["window"] == [100, 50000]
    assert [each["shape"] for each in found["levels"]] == [[2, 96, 64], [2, 48, 32]]
    sizes = {axis["name"]: axis["pixel_size"] for axis in found["axes"]}
    assert sizes["x"] == xr.open_datatree(path).ngff.pixel_size["x"].magnitude


def test_info_of_a_plate_a_well_and_a_file_of_another_format(tmp_path: Path) -> None:
    plate = write_plate(tmp_path / "p.ome.zarr", wells=["A/1", "B/2"])
    found = json.loads(run("info", plate, "--json").stdout)
    assert (found["kind"], found["wells"]) == ("plate", ["A/1", "B/2"])
    found = json.loads(run("info", plate, "--json", "--group", "B/2").stdout)
    assert found["kind"] == "well"
    tifffile.imwrite(tmp_path / "a.tif", NOISE, imagej=True, metadata={"axes": "CYX"})
    assert "c" in run("info", tmp_path / "a.tif").stdout.split()


def test_a_broken_store_exits_with_1_in_one_line(broken: Path) -> None:
    assert "axes" in refused("info", broken, code=1, run=process)
    assert run("validate", broken).returncode == 1


def test_wrong_use_exits_with_2_in_one_line(path: Path, tmp_path: Path) -> None:
    assert "no such file or directory" in refused("info", tmp_path / "b.ome.zarr")
    assert "b.ome.zarr" in refused("verify", tmp_path / "b.ome.zarr")
    assert "NAME=VALUE" in refused("info", path, "--option", "anon")
    assert "CY3" in refused("quicklook", path, "--channels", "CY3")
    assert "no/such" in refused("quicklook", path, "-o", "no/such/a.png")
    assert "is what is to be converted" in refused("convert", path, path)
    assert "nonsense" in refused("nonsense")
    assert not list(tmp_path.glob("*.png"))


def test_secrets_are_never_printed(path: Path, server: CountingServer) -> None:
    server.failures[f"/{path.name}/zarr.json"] = 403
    for name in (path.name, "nothing.ome.zarr"):
        url = f"{server.url}/{name}?token=s3same".replace("http://", "http://me:pa55word@")
        for words in (["info", url], ["verify", url], ["quicklook", url], ["serve", url], [url]):
            said = refused(*words, "--option", "key=0pen5esame")
            assert not [s for s in ("s3same", "pa55word", "0pen5esame") if s in said], words


def test_verify(path: Path) -> None:
    done = run("verify", path, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["ok"] is True
    chunk = path / "1/c/0/0/0"
    chunk.write_bytes(chunk.read_bytes()[:10])
    done = run("verify", path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "corrupt  1/c/0/0/0: " in done.stdout
    assert list(json.loads(run("verify", path, "--json").stdout)["corrupt"]) == ["1/c/0/0/0"]


def seen(picture: Path) -> np.ndarray[Any, Any]:
    with Image.open(picture) as opened:
        assert opened.format == "PNG"
        return np.asarray(opened.convert("RGB")).astype(int)


def test_quicklook_draws_the_channels_that_are_asked_for(
    path: Path, server: CountingServer
) -> None:
    folder = path.parent
    url = f"{server.url}/{path.name}"
    for name, out in (("DAPI", "blue.png"), ("GFP", "green.png")):
        done = run("quicklook", url, "--channels", name, "-o", folder / out)
        assert (done.returncode, done.stdout) == (0, f"wrote {(folder / out).resolve()}\n")
    blue, green = seen(folder / "blue.png"), seen(folder / "green.png")
    middle = tuple(slice(2 * n // 5, 3 * n // 5) for n in blue.shape[:2])
    assert blue[middle][..., 2].mean() > 60 > 5 > blue[middle][..., 1].mean()
    middle = tuple(slice(2 * n // 5, 3 * n // 5) for n in green.shape[:2])
    assert green[middle][..., 1].mean() > 60 > 5 > green[middle][..., 2].mean()


def test_quicklook_of_pixels_alone_and_of_a_plate(path: Path) -> None:
    out = path.parent / "plain.png"
    assert run("quicklook", path, "--plain", "40", "-o", out).returncode == 0
    pixels = seen(out)
    np.testing.assert_array_equal(pixels, xr.open_datatree(path).ngff.thumbnail(40))
    plate = write_plate(path.parent / "p.ome.zarr")
    assert run("quicklook", plate, "-o", path.parent / "p.png").returncode == 0
    assert seen(path.parent / "p.png").std() > 10


def test_convert(tmp_path: Path) -> None:
    written = tmp_path / "a.tif"
    tifffile.imwrite(written, NOISE, imagej=True, metadata={"axes": "CYX"})
    target = tmp_path / "b.ome.zarr"
    words = ["--pixel-size", "x=0.5 µm", "--pixel-size", "y=0.5 µm", "--channel-names", "DAPI,GFP"]
    done = run("convert", written, target, *words, "--chunks", "1,32,32", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["reader"] == "tiff"
    tree = xr.open_datatree(target)
    finest = tree.ngff.level(0)
    np.testing.assert_array_equal(finest.values, NOISE)
    assert finest.encoding["chunks"] == (1, 32, 32)
    assert [channel.name for channel in tree.ngff.channels] == ["DAPI", "GFP"]
    assert str(tree.ngff.pixel_size["x"]) == "0.5 micrometer"
    assert "there is something already" in refused("convert", written, target)
    done = run("convert", written, target, "--overwrite", "--progress", "--version", "0.4")
    assert done.returncode == 0
    assert "writing" in done.stderr
    assert xr.open_datatree(target).ngff.version == "0.4"


def test_export(path: Path, tmp_path: Path) -> None:
    tree = xr.open_datatree(path)
    for name in ("a.ome.tif", "a.npy"):
        done = run("export", path, tmp_path / name)
        assert (done.returncode, done.stdout) == (0, f"wrote {tmp_path / name}\n")
    assert "is there already" in refused("export", path, tmp_path / "a.npy")
    assert "expected .ome.tif" in refused("export", path, tmp_path / "a.png")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.ome.tif"), NOISE)
    words = ["--group", "labels/cells", "--region", "y=:10", "--overwrite"]
    assert run("export", path, tmp_path / "a.npy", *words).returncode == 0
    cells = tree.ngff.labels["cells"].ngff.crop(y=slice(None, 10)).ngff.level(0)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), cells.values)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_serve_until_it_is_told_to_end(path: Path, sent: signal.Signals) -> None:
    command = [sys.executable, "-m", "ngff_xarray", "serve", str(path)]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # in the background, too
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENV,
        preexec_fn=heard,  # of a process that has no other thread yet
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            url = process.stdout.readline().strip()
            with urllib.request.urlopen(f"{url}/zarr.json", timeout=20) as answer:
                assert answer.read() == (path / "zarr.json").read_bytes()
            assert "until Ctrl-C" in process.stderr.readline()
            process.send_signal(sent)
            assert process.wait(20) == 0
            assert "Interrupt" not in process.stderr.read()
        finally:
            process.kill()


def test_who_reads_may_have_enough(path: Path) -> None:
    command = f"'{sys.executable}' -m ngff_xarray info '{path}' | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, env=ENV)
    assert "BrokenPipe" not in done.stderr
