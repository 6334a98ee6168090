"""What we write, as others read it: equal voxels, places, units, channels and labels.

Every reader runs in an environment of its own (`readers/install`), once for all stores.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import xarray as xr
import zarr
from readers import told
from stores import write_plate
from test_support import check_elsewhere

import ngff_xarray  # noqa: F401

Json = dict[str, Any]

IN_CI = "NGFF_CI" in os.environ  # of .ci/run, which has everything
SCRIPTS = Path(__file__).parent / "readers"
READERS = ("tensorstore", "zarr", "zarrita", "ome-zarr", "ngff-zarr", "ngio", "bioio")
RNG = np.random.default_rng(0)

NAMES, COLORS = ("DAPI", "GFP", "Cy5 µ"), ("0000FF", "00FF00", "FF0000")
WINDOW = {"min": 0, "max": 65535, "start": 0, "end": 60000}
OMERO = {
    "channels": [
        {"label": name, "color": color, "window": WINDOW}
        for name, color in zip(NAMES, COLORS, strict=True)
    ]
}
LAYOUTS: dict[str, Json] = {
    "0.4": {"version": "0.4"},
    "0.5": {"version": "0.5"},
    "0.5-sharded": {"version": "0.5", "shards": {"z": 8, "y": 64, "x": 64}},
    "0.6": {"version": "0.6"},
}


# ---- what is written -----------------------------------------------------------------------------


class Axis(NamedTuple):
    """An axis: pixels, their size, where the first is, and how many make one of the next level."""

    name: str
    size: int
    step: float
    start: float
    unit: str | None
    halved: bool


T = Axis("t", 2, 1.5, 3.0, "second", halved=False)
C = Axis("c", 3, 1.0, 0.0, None, halved=False)
Z = Axis("z", 9, 2.0, -4.0, "micrometer", halved=False)  # deep already
Y = Axis("y", 70, 0.5, 10.0, "micrometer", halved=True)
X = Axis("x", 83, 0.5, 100.25, "micrometer", halved=True)
LEVELS = 3


def _array(axes: tuple[Axis, ...], pixels: np.ndarray, **attrs: Any) -> xr.DataArray:
    coords: dict[str, Any] = {
        axis.name: (axis.name, axis.start + axis.step * np.arange(axis.size), {"units": axis.unit})
        for axis in axes
        if axis.unit
    }
    if C in axes:
        coords["c"] = list(NAMES)
    dims = [axis.name for axis in axes]
    return xr.DataArray(pixels, dims=dims, coords=coords, attrs={"ome": attrs})


def _expected(axes: tuple[Axis, ...], levels: list[Any]) -> list[Json]:
    """The levels as they are to be read: pixels of two halvings, about the same centres."""
    found = []
    for n, pixels in enumerate(levels):
        factors = [2**n if axis.halved else 1 for axis in axes]
        scale = [axis.step * f for axis, f in zip(axes, factors, strict=True)]
        start = [a.start + a.step * (f - 1) / 2 for a, f in zip(axes, factors, strict=True)]
        found.append(told.level(pixels, scale, start))
    return found


def _pixels(array: xr.DataArray, method: str) -> list[Any]:
    tree = array.ngff.pyramid(levels=LEVELS, method=method)
    return [level.values for level in tree.ngff.levels]


def _described(axes: tuple[Axis, ...], levels: list[Any], **more: Any) -> Json:
    return told.image(((a.name, a.unit) for a in axes), _expected(axes, levels), **more)


def _write_scans(folder: Path) -> Iterator[tuple[str, Json]]:
    """A t, c, z, y, x image with channels and labels in every layout."""
    axes = (T, C, Z, Y, X)
    shape = tuple(axis.size for axis in axes)
    scan = _array(axes, RNG.integers(0, 60000, shape).astype("u2"), name="scan", omero=OMERO)
    ids = RNG.choice([1, 7, 2**31], shape[:1] + shape[2:]).astype("u4")
    nuclei = _array((T, Z, Y, X), np.where(scan.values[:, 0] > 30000, ids, 0))
    labels = _described((T, Z, Y, X), _pixels(nuclei, "mode"))
    expected = _described(
        axes,
        _pixels(scan, "mean"),
        channels=zip(NAMES, COLORS, strict=True),
        labels={"nuclei": told.label(labels, nuclei.values)},
    )
    for layout, options in LAYOUTS.items():
        path = folder / f"scan-{layout}.ome.zarr"
        scan.ngff.to_zarr(path, levels=LEVELS, chunks=(1, 1, 4, 32, 32), **options)
        below = {key: value for key, value in options.items() if key == "shards"}
        tree = xr.open_datatree(path)
        tree.ngff.add_labels("nuclei", nuclei, chunks=(1, 4, 32, 32), colors={7: "red"}, **below)
        yield path.name, expected


def _write_volumes(folder: Path) -> Iterator[tuple[str, Json]]:
    """A z, y, x volume of floats without channels, packed by zstd, in every layout.

    It has a channel all the same, of its name: somewhere the range has to stand that it is best
    shown in.
    """
    axes = (Z, Y, X)
    pixels = RNG.normal(size=[axis.size for axis in axes]).astype("f4")
    volume = _array(axes, pixels, name="volume")
    expected = _described(axes, _pixels(volume, "mean"), channels=[("volume", "FFFFFF")], labels={})
    for layout, options in LAYOUTS.items():
        path = folder / f"volume-{layout}.ome.zarr"
        options = {**options, "chunks": (4, 32, 32), "compressor": "zstd"}
        volume.ngff.to_zarr(path, levels=LEVELS, **options)
        yield path.name, expected


def _write_planes(folder: Path) -> Iterator[tuple[str, Json]]:
    """A y, x plane of one level in one chunk, without units, in every layout."""
    pixels = RNG.integers(0, 255, (20, 30)).astype("u1")
    plane = xr.DataArray(pixels, dims=("y", "x"))
    level = told.level(pixels, (1, 1), (0, 0))
    axes = [("y", None), ("x", None)]
    expected = told.image(axes, [level], channels=[("0", "FFFFFF")], labels={})
    for layout, options in LAYOUTS.items():
        path = folder / f"plane-{layout}.ome.zarr"
        sharded = {"shards": "auto"} if "shards" in options else {}
        plane.ngff.to_zarr(path, **{**options, **sharded})
        yield path.name, expected


def _write_plates(folder: Path) -> Iterator[tuple[str, Json]]:
    """A plate of four wells, two fields each, with labels, in every layout."""
    omero = {"channels": OMERO["channels"][:2]}
    image = {"axes": "cyx", "shape": (2, 32, 40), "translation": (0, 5, 7.5), "omero": omero}
    source = write_plate(folder / "source" / "p.zarr", image=image, labels={"cells": {}})
    read = told.by_hand(
        lambda path: zarr.open_group(path, mode="r").attrs.asdict() if path.exists() else None,
        lambda path: zarr.open_array(path, mode="r")[...],
    )
    expected = read[1](source)
    expected["stitched"] = [_stitched(source, level) for level in range(2)]
    for layout, options in LAYOUTS.items():
        path = folder / f"plate-{layout}.ome.zarr"
        if "shards" in options:
            options = {**options, "chunks": {"y": 16, "x": 16}, "shards": {"y": 32, "x": 32}}
        xr.open_datatree(source).ngff.to_zarr(path, **options)
        yield path.name, expected


def _stitched(plate: Path, level: int) -> str:
    """The first fields of all wells side by side."""
    fields = [[plate / row / column / "0" for column in "12"] for row in "AB"]
    pixels = [[zarr.open_array(f / str(level), mode="r")[...] for f in row] for row in fields]
    return str(told.level(np.block(pixels), (), None)["voxels"])


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Json]]:
    """A folder of stores, and what is to be read of each."""
    folder = tmp_path_factory.mktemp("stores")
    writers = (_write_scans, _write_volumes, _write_planes, _write_plates)
    return folder, dict(pair for write in writers for pair in write(folder))


# ---- what readers say otherwise ------------------------------------------------------------------


class Otherwise(NamedTuple):
    """What readers tell of stores in place of what these say, and why; both are patterns."""

    readers: str
    stores: str
    change: Callable[[Json], Json]
    reason: str


def _each_image(change: Callable[[Json], None]) -> Callable[[Json], Json]:
    def changed(expected: Json) -> Json:
        wells = expected.get("wells")
        images = [expected] if wells is None else [i for w in wells.values() for i in w.values()]
        for image in images:
            change(image)
        return expected

    return changed


@_each_image
def _tells_no_translations(image: Json) -> None:
    for level in image["levels"]:
        level["translation"] = None


@_each_image
def _reads_no_labels(image: Json) -> None:
    image["labels"] = None


@_each_image
def _tells_channels_by_name_alone(image: Json) -> None:
    image["channels"] = image["channels"] and [[name, None] for name, _ in image["channels"]]


@_each_image
def _gives_channels_a_unit(image: Json) -> None:
    image["axes"] = [
        [name, "dimensionless" if name == "c" else unit] for name, unit in image["axes"]
    ]


@_each_image
def _gives_units(image: Json) -> None:
    image["axes"] = [[name, unit or "micrometer"] for name, unit in image["axes"]]


def _stitches(plate: Json, found: str | None = None) -> Json:
    return {**plate, "stitched": found}


def _fails(error: str) -> Callable[[Json], Json]:
    return lambda expected: {"error": error}


OTHERWISE = (
    Otherwise("[!o]*", "plate-*", _stitches, "ome-zarr-py alone makes one picture of a plate"),
    Otherwise(
        "ome-zarr",
        "plate-0.6.*",
        lambda plate: _stitches(plate, "AxisError"),
        "its older reader, the one that stitches, knows no 0.6 and takes c, y, x for t, c, z, y, x",
    ),
    Otherwise("bioio", "*", _tells_no_translations, "it has scales alone"),
    Otherwise("bioio", "*", _reads_no_labels, "it has no word for labels"),
    Otherwise(
        "bioio",
        "volume-*",
        _tells_channels_by_name_alone,
        "colours stand in its OME metadata, which it does not make of floats",
    ),
    Otherwise("bioio", "*", _gives_channels_a_unit, "it makes one up"),
    *(
        Otherwise(
            "bioio",
            f"{kind}-0.6.*",
            _fails("KeyError: 'scale'"),
            "it knows 0.4 and 0.5; planes, which have a scale alone, it reads all the same",
        )
        for kind in ("scan", "volume", "plate")
    ),
    Otherwise("ngio", "plane-*", _gives_units, "micrometers where a store tells no units"),
    Otherwise("ngio", "*-0.6.*", _fails("NgioValidationError"), "it knows 0.4 and 0.5"),
)


def _as_told_by(reader: str, store: str, said: Json) -> Json:
    expected = json.loads(json.dumps(said))
    for other in OTHERWISE:
        if fnmatch(reader, other.readers) and fnmatch(store, other.stores):
            expected = other.change(expected)
    return expected


def _differences(found: Any, expected: Any, path: str = "") -> Iterator[str]:
    """What is not equal, by where it stands."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted({*found, *expected}):
            yield from _differences(found.get(key), expected.get(key), f"{path}/{key}")
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for n, pair in enumerate(zip(found, expected, strict=True)):
            yield from _differences(*pair, f"{path}/{n}")
    elif path == "/error" and found and expected and found.startswith(expected):
        return
    elif found != expected:
        yield f"{path}: {found}, expected {expected}"


def _command(reader: str) -> tuple[list[str], Path, Path | None]:
    """How a reader is run: the command, where, and what it is given as its input."""
    folder = Path(os.environ.get("NGFF_READERS", "readers-are-not-installed")).absolute() / reader
    node = shutil.which("node")
    if reader == "zarrita":
        there = node is not None and (folder / "node_modules" / "zarrita").exists()
        command = [str(node), "--input-type=module", "-"]
        found = command, folder, SCRIPTS / "read_zarrita.mjs"
    else:
        python = folder / "bin" / "python"
        there = python.exists()
        script = SCRIPTS / f"read_{reader.replace('-', '_')}.py"
        found = [str(python), str(script)], SCRIPTS, None
    if not there:
        (pytest.fail if IN_CI else pytest.skip)(
            f"needs {reader}: tests/readers/install DIR, and NGFF_READERS=DIR"
        )
    return found


@pytest.mark.readers
@pytest.mark.parametrize("reader", READERS)
def test_others_read_what_we_write(reader: str, stores: tuple[Path, dict[str, Json]]) -> None:
    command, where, script = _command(reader)
    folder, expected = stores
    done = subprocess.run(
        [*command, *(str(folder / name) for name in expected)],
        cwd=where,
        input=None if script is None else script.read_text(encoding="utf-8"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    differences = {
        name: list(_differences(found[name], _as_told_by(reader, name, said)))
        for name, said in expected.items()
    }
    assert not any(differences.values()), "\n".join(
        f"{name}{each}" for name, several in differences.items() for each in several
    )


# yaozarrs: in 0.5 plates state no version of their own
@pytest.mark.filterwarnings("ignore:'version' field not specified in plate")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_validators_find_nothing(layout: str, stores: tuple[Path, dict[str, Json]]) -> None:
    folder, version = stores[0], LAYOUTS[layout]["version"]
    kinds = {"scan": "Image", "volume": "Image", "plane": "Image", "plate": "HCS"}
    for kind, model in kinds.items():
        check_elsewhere(folder / f"{kind}-{layout}.ome.zarr", version, model)
    labels = folder / f"scan-{layout}.ome.zarr" / "labels" / "nuclei"
    check_elsewhere(labels, version, "ImageLabel")
