"""Several writers of one image at once: none undoes what another one wrote."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from stores import write_plate

from ngff_xarray import unfinished
from ngff_xarray.errors import BusyError, IncompleteError, StoreError

SIZE = 32  # pixels a side: four chunks, or shards, that all writers touch
FACTORS: dict[str, Any] = {"scale_factors": [2, 2]}

# A writer says that it is ready, and begins when all are: a line comes.
_BEGIN = """
import json, sys, numpy as np, xarray as xr, ngff_xarray
path, me, count, options = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
print("ready", flush=True)
sys.stdin.readline()
"""
REGIONS = """
for i in range(count):
    at = 2 * i + me  # every second pixel is the other one's
    y, x = divmod(at % 1024, 32)
    spot = xr.DataArray(np.full((1, 1), at // 1024 + 1, "u2"), dims=("y", "x"))
    spot.ngff.write_region(
        path, region={"y": slice(y, y + 1), "x": slice(x, x + 1)}, storage_options=options
    )
"""
LABELS = """
tree = xr.open_datatree(path, engine="ngff", storage_options=options)
for i in range(count):
    labels = np.full(tree["0/image"].shape, 1 + me, "u1")
    tree.ngff.add_labels(f"from {me}, {i}", labels)
"""
_APPENDS = """
frame = np.full((1, 32, 32), 7, "u2")
for i in range(count):
    xr.DataArray(frame, dims=("t", "y", "x")).ngff.append(path, storage_options=options)
"""
_FIRST_FRAME = """
for i in range(count):
    spot = xr.DataArray(np.full((1, 1, 1), i + 1, "u2"), dims=("t", "y", "x"))
    spot.ngff.write_region(
        path,
        region={"t": slice(0, 1), "y": slice(i, i + 1), "x": slice(3, 4)},
        storage_options=options,
    )
"""
_REPLACES = """
for i in range(count):
    pixels = np.full((32, 32), 1 + me, "u2")
    xr.DataArray(pixels, dims=("y", "x")).ngff.to_zarr(path, mode="w", scale_factors=[2, 2])
"""
BEGINS = """
pixels = xr.DataArray(np.full((32, 32), 1 + me, "u2"), dims=("y", "x"))
try:
    pixels.ngff.to_zarr(path, scale_factors=[2, 2], storage_options=options)
except ngff_xarray.NgffError as error:
    assert "is being written by process" in str(error) or "there is something" in str(error), error
    sys.exit(3)
"""
_STUCK = """
import dask.array as da
def stuck(block):
    if block.size > 1:
        print("inside", flush=True)
        sys.stdin.readline()
    return block
pixels = da.zeros((32, 32), chunks=32, dtype="u2").map_blocks(stuck, dtype="u2")
xr.DataArray(pixels, dims=("y", "x")).ngff.write_region(
    path, region={"y": slice(0, 32), "x": slice(0, 32)}, storage_options=options
)
"""


@contextmanager
def writers(path: Any, count: int, *codes: str, **options: Any) -> Iterator[list[Any]]:
    """Processes that are ready to begin at once."""
    said = json.dumps(options)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _BEGIN + code, str(path), *map(str, (me, count)), said],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me, code in enumerate(codes)
    ]
    try:
        for each in processes:
            assert each.stdout.readline() == "ready\n"
        yield processes
    finally:
        for each in processes:
            each.kill()
            each.communicate()


def together(path: Any, count: int, *codes: str, ends: Any = None, **options: Any) -> None:
    """Run processes that begin at once, to their ends, each as it should."""
    with writers(path, count, *codes, **options) as processes:
        for each in processes:
            each.stdin.write("go\n")
            each.stdin.flush()
        assert sorted(each.wait(500) for each in processes) == (ends or [0] * len(codes))


def black(path: Any, shards: bool = True, **options: Any) -> None:
    shape = xr.DataArray(np.zeros((SIZE, SIZE), "u2"), dims=("y", "x"))
    layout: dict[str, Any] = {"chunks": (8, 8), "shards": (16, 16)}
    layout = layout if shards else {"chunks": (16, 16)}
    shape.ngff.to_zarr(path, **layout, **FACTORS, **options)


def check_updates(path: Any, count: int, **options: Any) -> None:
    """Check that the updates of two writers are all there, at every level."""
    wanted = np.zeros(SIZE * SIZE, "u2")
    for at in range(2 * count):
        wanted[at % wanted.size] = at // wanted.size + 1
    check_levels(path, wanted.reshape(SIZE, SIZE), **options)


def check_levels(path: Any, finest: np.ndarray, **options: Any) -> None:
    tree = xr.open_datatree(path, engine="ngff", storage_options=options)
    np.testing.assert_array_equal(tree.ngff.level(0), finest)
    dims = tree.ngff.level(0).dims
    step = {dim: 2 for dim in dims if dim != "t"}
    expected = xr.DataArray(finest, dims=dims).ngff.pyramid(scale_factors=[step, step])
    for level, wanted in zip(tree.ngff.levels, expected.ngff.levels, strict=True):
        np.testing.assert_array_equal(level, wanted)


def in_threads(*works: Any) -> None:
    """Run functions in threads that begin at once, to their ends."""
    barrier, failed = threading.Barrier(len(works)), []

    def run(work: Any) -> None:
        barrier.wait(60)
        try:
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if failed:
        raise failed[0]


def updates(target: Any, me: int, count: int, **options: Any) -> None:
    for i in range(count):
        at = 2 * i + me
        y, x = divmod(at % (SIZE * SIZE), SIZE)
        spot = xr.DataArray(np.full((1, 1), at // (SIZE * SIZE) + 1, "u2"), dims=("y", "x"))
        spot.ngff.write_region(
            target,
            region={"y": slice(y, y + 1), "x": slice(x, x + 1)},
            storage_options=options,
        )


# ---- on a disk ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shards", "count"), [(False, 40), pytest.param(True, 500, marks=pytest.mark.slow)]
)
def test_no_update_of_two_processes_is_lost(tmp_path: Path, shards: bool, count: int) -> None:
    path = tmp_path / "a.ome.zarr"
    black(path, shards)
    before = {p.name for p in tmp_path.iterdir()}
    together(path, count, REGIONS, REGIONS)
    check_updates(path, count)
    assert {p.name for p in tmp_path.iterdir()} == before, "no locks are left"
    assert "ngff_xarray" not in zarr.open_group(path, mode="r").attrs


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["disk", "memory", "obstore"])
def test_no_update_of_two_threads_is_lost(tmp_path: Path, kind: str) -> None:
    store: Any = tmp_path / "a.ome.zarr"
    if kind == "memory":
        store = zarr.storage.MemoryStore()
    if kind == "obstore":
        obstore = pytest.importorskip("obstore.store")
        store = zarr.storage.ObjectStore(obstore.MemoryStore())
    black(store)
    in_threads(*(lambda me=me: updates(store, me, 25) for me in (0, 1)))
    check_updates(store, 25)


@pytest.mark.slow
def test_no_label_image_of_two_processes_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    for version in ("0.4", "0.5"):
        path = tmp_path / version
        black(path, shards=False, version=version)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is in no specification yet
            zarr.consolidate_metadata(zarr.storage.LocalStore(path))
        together(path, 2, LABELS, LABELS)
        found = xr.open_datatree(path).ngff.labels
        assert sorted(found) == [f"from {me}, {i}" for me in (0, 1) for i in range(2)]
        for name, tree in found.items():
            assert (tree.ngff.level(0) == 1 + int(name[5])).all()


def test_label_images_come_and_go_at_once(tmp_path: Path) -> None:
    """The group that lists them goes with the last and comes with the first."""
    path = tmp_path / "a.ome.zarr"
    black(path)
    tree = xr.open_datatree(path)

    def add_and_remove(name: str) -> None:
        for _ in range(8):
            tree.ngff.add_labels(name, np.ones((SIZE, SIZE), "u1"))
            tree.ngff.remove_labels(name)
        tree.ngff.add_labels(name, np.ones((SIZE, SIZE), "u1"))

    in_threads(*(lambda name=name: add_and_remove(name) for name in ("cells", "nuclei")))
    assert sorted(xr.open_datatree(path).ngff.labels) == ["cells", "nuclei"]
    assert sorted(p.name for p in (path / "labels").iterdir()) == ["cells", "nuclei", "zarr.json"]


@pytest.mark.slow
def test_one_appends_while_another_writes_a_region(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    step = {"y": 2, "x": 2}
    first = xr.DataArray(np.zeros((1, SIZE, SIZE), "u2"), dims=("t", "y", "x"))
    first.ngff.to_zarr(path, chunks=(4, 16, 16), scale_factors=[step, step])
    together(path, 20, _APPENDS, _FIRST_FRAME)
    wanted = np.full((21, SIZE, SIZE), 7, "u2")
    wanted[0] = 0
    wanted[0, range(20), 3] = range(1, 21)
    check_levels(path, wanted)


@pytest.mark.slow
def test_two_replace_one_image(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    black(path)
    together(path, 8, _REPLACES, _REPLACES, REGIONS)
    tree = xr.open_datatree(path)
    assert int(tree.ngff.level(0)[-1, -1]) in (1, 2)
    check_levels(path, tree.ngff.level(0).values)
    assert [p.name for p in tmp_path.iterdir()] == ["a.ome.zarr"]


@pytest.fixture
def busy_threads() -> Iterator[None]:
    """Let threads take turns so often that they meet everywhere."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("busy_threads")
def test_of_two_that_begin_one_image_one_is_refused(tmp_path: Path) -> None:
    array = xr.DataArray(np.zeros((SIZE, SIZE), "u2"), dims=("y", "x"))
    for kind, times in (("disk", 20), ("memory", 5)):
        for number in range(times):
            store: Any = tmp_path / f"{number}.ome.zarr"
            if kind == "memory":
                store = zarr.storage.MemoryStore()
            refused: list[str] = []

            def begin(store: Any = store, refused: list[str] = refused) -> None:
                try:
                    array.ngff.to_zarr(store, **FACTORS)
                except StoreError as error:
                    refused.append(str(error))

            in_threads(begin, begin)
            assert len(refused) == 1
            assert (
                "is being written" in refused[0]
                or "is writing it" in refused[0]
                or ("there is something already" in refused[0])
            )
            check_levels(store, array.values)


def test_whoever_waits_too_long_is_told_for_whom(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    black(path)
    with writers(path, 1, _STUCK) as (process,):
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "inside\n"
        spot = xr.DataArray(np.ones((1, 1), "u2"), dims=("y", "x"))
        region = {"y": slice(0, 1), "x": slice(0, 1)}
        with pytest.raises(BusyError, match=f"is being written by process {process.pid} "):
            spot.ngff.write_region(path, region=region, wait=0)
        with pytest.raises(BusyError, match=f"is being written by process {process.pid} "):
            spot.ngff.to_zarr(path, mode="w", wait=0.05)
        process.kill()  # whose lock is gone with it
        process.wait()
        with pytest.raises(IncompleteError):
            xr.open_datatree(path)
        spot.ngff.write_region(path, region=region, wait=0)
    wanted = np.zeros((SIZE, SIZE), "u2")
    wanted[0, 0] = 1
    check_levels(path, wanted)
    assert [p.name for p in tmp_path.iterdir()] == ["a.ome.zarr"]


def test_whoever_fails_does_not_keep_others_waiting(tmp_path: Path) -> None:
    """Its process lives on; the mark says that nobody goes on."""
    import dask.array as da

    path = tmp_path / "a.ome.zarr"
    black(path)
    broken = da.map_blocks(lambda: 1 // 0, chunks=((32,), (32,)), dtype="u2", meta=np.zeros((0, 0)))
    whole = {"y": slice(0, 32), "x": slice(0, 32)}
    with pytest.raises(ZeroDivisionError):
        xr.DataArray(broken, dims=("y", "x")).ngff.write_region(path, region=whole)
    together(path, 2, REGIONS)
    tree = xr.open_datatree(path)
    check_levels(path, tree.ngff.level(0).values)
    assert tree.ngff.level(0).values[0, [0, 2]].tolist() == [1, 1]


def test_fields_of_a_plate_do_not_wait_for_each_other(tmp_path: Path) -> None:
    plate = write_plate(tmp_path / "p.ome.zarr", image={"axes": "yx", "shape": (SIZE, SIZE)})
    found = xr.open_datatree(plate, wells="all")
    images = [node.parent for node in found.subtree if "image" in node.data_vars]
    fields = list(dict.fromkeys(node.path.strip("/") for node in images if node is not None))[:2]
    with writers(plate / fields[0], 1, _STUCK) as (process,):
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "inside\n"
        spot = xr.DataArray(np.ones((1, 1), "u2"), dims=("y", "x"))
        region = {"y": slice(0, 1), "x": slice(0, 1)}
        spot.ngff.write_region(plate / fields[1], region=region, wait=0)
        with pytest.raises(BusyError, match="is writing it"):
            found.ngff.to_zarr(plate, mode="w", wait=0)


def test_disks_that_lock_no_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFS: a file elsewhere stands for them, and goes with the lock."""
    fcntl = pytest.importorskip("fcntl")
    flock, places = fcntl.flock, tmp_path / "places"
    places.mkdir()

    def refusing(handle: int, how: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):  # noqa: PTH112
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", refusing)
    monkeypatch.setattr("tempfile.tempdir", str(places))
    path = tmp_path / "a.ome.zarr"
    black(path)
    in_threads(*(lambda me=me: updates(path, me, 20) for me in (0, 1)))
    check_updates(path, 20)
    assert not [p for p in places.rglob("*") if p.is_file()]


# ---- marks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "waits"),
    [
        ({"host": "another", "process": 1, "ago": 10}, True),
        ({"host": "another", "process": 1, "ago": 1000}, False),
        ({"host": "another", "process": 1, "ago": -1000}, False),
        ({"host": "another", "process": None, "ago": 10}, False),
        ({"host": "another", "process": 1}, False),
        ({"host": "another", "process": 1, "renewed": "\x1b"}, False),
        ({"process": os.getppid(), "ago": 10}, True),
        ({"process": os.getppid(), "ago": 1000}, False),
        ({"process": os.getpid(), "token": "of a writer that failed", "ago": 10}, False),
    ],
)
@pytest.mark.parametrize("kind", ["disk", "obstore"])
def test_marks_of_others(tmp_path: Path, said: dict[str, Any], waits: bool, kind: str) -> None:
    store: Any = tmp_path / "a.ome.zarr"
    if kind == "obstore":
        obstore = pytest.importorskip("obstore.store")
        store = zarr.storage.ObjectStore(obstore.MemoryStore())
    black(store)
    said = dict(said)
    if "ago" in said:
        renewed = datetime.now(UTC) - timedelta(seconds=said.pop("ago"))
        said["renewed"] = renewed.isoformat()
    group = zarr.open_group(store)
    attributes = unfinished.region_begun(group.attrs.asdict(), [])
    attributes[unfinished.KEY]["writing"] |= said
    group.attrs.put(attributes)
    if waits:
        with pytest.raises(BusyError, match="is being written by process"):
            spot = xr.DataArray(np.ones((1, 1), "u2"), dims=("y", "x"))
            spot.ngff.write_region(store, region={"y": slice(0, 1), "x": slice(0, 1)}, wait=0)
        assert zarr.open_group(store, mode="r").attrs.asdict() == attributes
    else:
        updates(store, 0, 1)
        assert "ngff_xarray" not in zarr.open_group(store, mode="r").attrs


def test_a_mark_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dask.array as da

    monkeypatch.setattr(unfinished, "RENEWED", 0.01)
    path = tmp_path / "a.ome.zarr"
    black(path)
    seen: set[str] = set()

    def look(block: Any) -> Any:
        if block.size > 1:
            said = unfinished.entry(zarr.open_group(path, mode="r").attrs.asdict())
            assert said is not None
            first = said["renewed"]
            while len(seen) < 2:
                said = unfinished.entry(zarr.open_group(path, mode="r").attrs.asdict())
                assert said is not None
                seen.update((first, said["renewed"]))
        return block

    pixels = da.zeros((32, 32), chunks=32, dtype="u2").map_blocks(look, dtype="u2")
    array = xr.DataArray(pixels, dims=("y", "x"))
    array.ngff.write_region(path, region={"y": slice(0, 32), "x": slice(0, 32)})
    assert len(seen) == 2
    assert "ngff_xarray" not in zarr.open_group(path, mode="r").attrs


@pytest.mark.parametrize("kind", ["disk", "obstore"])
def test_whoever_was_taken_for_killed_is_told(tmp_path: Path, kind: str) -> None:
    """One that was stopped for long, as a laptop is, does not go on as if nothing had been."""
    import dask.array as da

    store: Any = tmp_path / "a.ome.zarr"
    if kind == "obstore":
        obstore = pytest.importorskip("obstore.store")
        store = zarr.storage.ObjectStore(obstore.MemoryStore())
    black(store)

    def another(block: Any) -> Any:
        if block.size > 1:
            group = zarr.open_group(store)
            said = group.attrs.asdict()
            said[unfinished.KEY]["writing"]["token"] = "of another one"
            group.attrs.put(said)
        return block

    pixels = da.zeros((32, 32), chunks=32, dtype="u2").map_blocks(another, dtype="u2")
    array = xr.DataArray(pixels, dims=("y", "x"))
    with pytest.raises(StoreError, match="another writer has taken it over"):
        array.ngff.write_region(store, region={"y": slice(0, 32), "x": slice(0, 32)})
    said = unfinished.entry(zarr.open_group(store, mode="r").attrs.asdict())
    assert said is not None
    assert said["token"] == "of another one"
