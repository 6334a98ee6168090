"""Conversions that are killed and called again: they go on, and end as if nothing had been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr
from watched import Watched

from ngff_xarray import convert
from ngff_xarray.converting import tiff_pages
from ngff_xarray.errors import StoreError
from ngff_xarray.pyramid import building
from ngff_xarray.write import journal, levels

RNG = np.random.default_rng(0)
CHUNKS = {"z": 2, "y": 16, "x": 16}
LAYOUT: dict[str, Any] = {"chunks": CHUNKS, "levels": 3}


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of four kilobytes instead of 64 megabytes, and two threads."""
    for module, name in ((building, "NOTED"), (journal, "NOTED"), (levels, "_BLOCK_BYTES")):
        monkeypatch.setattr(module, name, 2**12)
    monkeypatch.setattr("ngff_xarray.pyramid.processors", lambda: 2)


def stack(folder: Path) -> Path:
    """A stack without levels, of which a part is as empty as chunks that are left out."""
    pixels = RNG.integers(0, 60_000, (6, 70, 90), dtype="uint16")
    pixels[2:4, :40, :50] = 0
    tifffile.imwrite(folder / "a.tif", pixels, metadata={"axes": "ZYX"})
    return folder / "a.tif"


def with_levels(folder: Path) -> Path:
    """An image with levels of its own."""
    pixels = RNG.integers(0, 255, (3, 96, 128), dtype="uint8")
    with tifffile.TiffWriter(folder / "a.ome.tif", ome=True) as writer:
        writer.write(pixels, metadata={"axes": "CYX"}, subifds=1)
        writer.write(pixels[:, ::2, ::2], subfiletype=1)
    return folder / "a.ome.tif"


def series(folder: Path) -> Path:
    for i in range(3):
        stack(folder).rename(folder / f"{i}.tif")
    return folder


def wells(folder: Path) -> Path:
    for name in ("A1", "B2"):
        for site in range(2):
            stack(folder).rename(folder / f"{name}_s{site}.tif")
    return folder


CASES: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "stack": (stack, {}),
    "stack of 0.4": (stack, {"version": "0.4"}),
    "sharded": (stack, {"shards": {"z": 4, "y": 32, "x": 64}}),
    "levels": (with_levels, {"chunks": {"y": 16, "x": 32}, "levels": None}),
    "nearest": (stack, {"method": "nearest"}),
    "gaussian": (stack, {"method": "gaussian"}),
    "collection": (series, {}),
    "plate": (wells, {"pattern": "{well}_s{field}.tif"}),
    "plate of 0.4": (wells, {"pattern": "{well}_s{field}.tif", "version": "0.4"}),
}


def ends(path: Path, store: Watched, options: dict[str, Any]) -> bool:
    """Tell whether a conversion ends before the store fails."""
    try:
        convert(path, store, **options)
    except StoreError as error:
        assert "No space left" in str(error)
        return False
    return True


def when(whole: Watched, share: float) -> int:
    """Return after how many operations so many of the notes are there; or of all, without notes."""
    numbered = list(enumerate(whole.changed))
    first = {key: i for i, key in reversed(numbered) if "/parts/" in key}
    places = sorted(first.values()) or range(len(numbered))
    return places[int(share * len(places))]


def content(keys: dict[str, Any]) -> dict[str, bytes]:
    return {key: value.to_bytes() for key, value in keys.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_whenever_it_was_killed(name: str, tmp_path: Path) -> None:
    made, options = CASES[name]
    path = made(tmp_path)
    options = {**LAYOUT, **options}
    whole: dict[str, Any] = {}
    first = Watched(whole)
    assert not convert(path, first, **options).resumed
    assert not any("ngff_xarray" in key for key in whole)
    total, went_on = len(first.changed), 0
    steps = 8 if path.is_dir() else 16
    for count in range(0, total, max(1, total // steps)):
        keys: dict[str, Any] = {}
        limits = (count, count // 2 + 5) if count % 3 == 1 else (count,)  # and once more
        if any(ends(path, Watched(keys, limit), options) for limit in limits):
            continue
        again = Watched(keys)
        told = convert(path, again, **options).resumed
        assert content(keys) == content(whole)
        went_on += told.startswith("gone on")
        if 0.9 * total < count < total - 9 and name != "gaussian":
            assert told.startswith("gone on")
            assert len(again.changed) < total / 2, "less is written than from the beginning"
    assert name == "gaussian" or went_on > 2


def test_what_is_there_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RNG.integers(0, 999, (8, 1024, 1024), "uint16"))
    for module in (building, journal):
        monkeypatch.setattr(module, "NOTED", 2**20)
    options = {"levels": 3}  # chunks are the blocks that are read
    read: list[int] = []
    taken = tiff_pages.PageArray._read

    def counted(self: Any, key: Any) -> Any:
        found = taken(self, key)
        read.append(found.nbytes)
        return found

    monkeypatch.setattr(tiff_pages.PageArray, "_read", counted)
    first, keys = Watched(), {}
    convert(path, first, **options)
    total = sum(read)
    with pytest.raises(StoreError):
        convert(path, Watched(keys, when(first, 0.6)), **options)
    read.clear()
    told = convert(path, Watched(keys), **options).resumed
    assert 0 < sum(read) < 0.7 * total
    assert told.startswith("gone on after a kill: ") and " parts of it" in told


def killed(path: Path, keys: dict[str, Any], **options: Any) -> None:
    first = Watched()
    convert(path, first, **options)
    with pytest.raises(StoreError):
        convert(path, Watched(keys, when(first, 0.6)), **options)


def touched(path: Path) -> dict[str, Any]:
    os.utime(path, ns=(1, 1))
    return {}


@pytest.mark.parametrize(
    "change",
    [
        touched,
        lambda path: {"chunks": {"z": 2, "y": 32, "x": 16}},
        lambda path: {"method": "max"},
        lambda path: {"version": "0.4"},
        lambda path: {"pixel_size": {"z": 2}},
        lambda path: {"channel_names": ["a"]},
    ],
)
def test_another_source_or_other_options_start_over(
    change: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    path, keys = stack(tmp_path), {}
    killed(path, keys, **LAYOUT)
    options = {**LAYOUT, **change(path)}
    found = convert(path, Watched(keys), **options)
    assert found.resumed.startswith("started over") and found.resumed in str(found)
    whole: dict[str, Any] = {}
    convert(path, Watched(whole), **options)
    assert content(keys) == content(whole)


def test_options_that_are_said_to_be_the_default_go_on(tmp_path: Path) -> None:
    """As the command says them, which a call in Python goes on with."""
    path, keys = stack(tmp_path), {}
    killed(path, keys, **LAYOUT, shards=None, compressor=None)
    assert convert(path, Watched(keys), **LAYOUT).resumed.startswith("gone on after a kill")


def test_a_file_more_in_a_folder_starts_over(tmp_path: Path) -> None:
    path, keys = series(tmp_path), {}
    killed(path, keys, **LAYOUT)
    (path / "3.tif").write_bytes((path / "2.tif").read_bytes())
    assert convert(path, Watched(keys), **LAYOUT).resumed.startswith("started over")


def test_objects_have_no_identity_unless_somebody_gives_one(tmp_path: Path) -> None:
    array = xr.DataArray(RNG.integers(0, 9, (40, 60, 50)).astype("u2"), dims=("z", "y", "x"))
    keys: dict[str, Any] = {}
    killed(array, keys, **LAYOUT)  # type: ignore[arg-type]
    assert convert(array, Watched(keys), **LAYOUT).resumed.startswith("started over")

    first, keys = Watched(), {}
    options = {"chunks": CHUNKS, "scale_factors": [2], "resume": "scan 7"}
    array.ngff.to_zarr(first, **options)
    with pytest.raises(StoreError):
        array.ngff.to_zarr(Watched(keys, when(first, 0.6)), **options)
    again = Watched(keys)
    array.ngff.to_zarr(again, **options)
    assert content(keys) == content(first._store_dict)
    assert len(again.changed) < 0.7 * len(first.changed)


@pytest.mark.parametrize("damage", [lambda content: content[:-20], lambda content: b"", None])
def test_notes_that_are_damaged_are_as_none(
    damage: Callable[[bytes], bytes] | None, tmp_path: Path
) -> None:
    path, keys = stack(tmp_path), {}
    killed(path, keys, **LAYOUT)
    notes = [key for key in keys if journal._NAME in key]
    assert notes
    for key in notes:
        found = keys[key].to_bytes()
        changed = damage(found) if damage is not None else found[:300] + b"?" + found[301:]
        keys[key] = type(keys[key]).from_bytes(changed)
    convert(path, Watched(keys), **LAYOUT)
    whole: dict[str, Any] = {}
    convert(path, Watched(whole), **LAYOUT)
    assert content(keys) == content(whole)


def test_what_was_written_before_the_machine_was_started_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ngff_xarray import unfinished

    path, target = stack(tmp_path), tmp_path / "a.ome.zarr"
    monkeypatch.setattr(unfinished, "_boot", lambda: "before")
    with pytest.raises(ZeroDivisionError), monkeypatch.context() as patch:
        patch.setattr("ngff_xarray.write.nodes.with_contrast", lambda *_: 1 // 0)
        convert(path, target, **LAYOUT)
    monkeypatch.setattr(unfinished, "_boot", lambda: "now")
    assert convert(path, target, **LAYOUT).resumed.startswith("started over")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="processes are killed")
def test_a_killed_process_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # parts of 64 megabytes
    path, target = tmp_path / "a.tif", tmp_path / "a.ome.zarr"
    written = np.random.default_rng(1).integers(0, 9, (64, 1024, 1024), dtype="uint16")
    tifffile.imwrite(path, written, metadata={"axes": "ZYX"})
    program = "import sys, ngff_xarray; ngff_xarray.convert(*sys.argv[1:])"
    notes = target / journal._NAME / journal._PARTS
    with subprocess.Popen([sys.executable, "-c", program, path, target]) as running:
        while running.poll() is None and not [
            note for note in notes.glob("*-*") if note.suffix != ".partial"
        ]:
            time.sleep(0.002)
        running.kill()
    assert running.returncode == -signal.SIGKILL
    assert "parts of it were there" in convert(path, target).resumed
    tree = xr.open_datatree(target)
    np.testing.assert_array_equal(tree.ngff.level(0).values, written)
    assert tree.ngff.verify().ok
    assert not list(target.rglob("*ngff_xarray*")) and not list(target.rglob("*.partial"))
