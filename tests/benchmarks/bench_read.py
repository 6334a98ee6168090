"""Reads a whole level into memory: how fast, and with how much memory besides the pixels.

Run it as ``python tests/benchmarks/bench_read.py [rounds]``; it needs the extra ``test``. Every
read runs in a process of its own, the ways one after another in every round; printed are medians.
*beyond* is the peak of the process during the read, less what it had before and less the pixels.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr

SHAPE = (128, 1024, 1024)
STORES: dict[str, dict[str, Any]] = {
    "0.5, zstd, planes": {"chunks": (1, 256, 256)},
    "0.5, blosc, blocks": {"chunks": (32, 128, 128), "compressors": zarr.codecs.BloscCodec()},
    "0.5, zstd, shards": {"chunks": (16, 128, 128), "shards": (32, 512, 512)},
    "0.4, blosc, planes": {
        "chunks": (1, 512, 512),
        "zarr_format": 2,
        "compressors": numcodecs.Blosc(),
    },
}


def by_ngff(path: str) -> Callable[[], Any]:
    import xarray as xr

    array = xr.open_datatree(path, engine="ngff")["0/image"]
    return lambda: array.load().data


def by_ngff_without(path: str) -> Callable[[], Any]:
    from ngff_xarray.storage import BulkReader

    BulkReader._fast = None  # type: ignore[assignment]
    return by_ngff(path)


def by_zarr(path: str) -> Callable[[], Any]:
    array = zarr.open_array(f"{path}/0", mode="r")
    return lambda: array[:]


def by_tensorstore(path: str) -> Callable[[], Any]:
    import tensorstore

    driver = "zarr3" if (Path(path) / "0" / "zarr.json").exists() else "zarr"
    store = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/0/"}}
    array = tensorstore.open(store).result()
    return lambda: array.read().result()


def by_dask(path: str) -> Callable[[], Any]:
    import dask.array

    array = dask.array.from_zarr(f"{path}/0")
    return lambda: array.compute()


WAYS = {
    "ngff_xarray, zarrs": by_ngff,
    "ngff_xarray": by_ngff_without,
    "tensorstore": by_tensorstore,
    "zarr": by_zarr,
    "dask": by_dask,
}


def write(path: Path, storage: dict[str, Any]) -> None:
    """Write one level: waves and noise of a camera."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from stores import write_image

    version = "0.4" if storage.get("zarr_format") == 2 else "0.5"
    write_image(path, version=version, axes="zyx", shape=(1, 1, 1), levels=1)
    array = zarr.create_array(path / "0", shape=SHAPE, dtype="u2", overwrite=True, **storage)
    rng = np.random.default_rng(0)
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    waves = 1000 + 500 * np.sin(y / 30) * np.cos(x / 41)
    for start in range(0, SHAPE[0], 32):
        noise = rng.normal(0, 8, (32, *SHAPE[1:]))
        array[start : start + 32] = (waves + noise).astype("u2")


def status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def run(way: str, path: str) -> None:
    """Read once, and print what it took."""
    read = WAYS[way](path)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, start, cpu = status("VmRSS"), time.perf_counter(), time.process_time()
    pixels = read()
    took = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps([*took, status("VmHWM") - before - pixels.nbytes, int(pixels[-1].sum())]))


def main(rounds: int) -> None:
    nbytes = 2 * np.prod(SHAPE)
    print(f"uint16 {SHAPE}, {nbytes / 1e6:.0f} MB, {rounds} rounds")
    for name, storage in STORES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.ome.zarr"
            write(path, storage)
            found = defaultdict(list)
            for _ in range(rounds):
                for way in WAYS:
                    command = [sys.executable, __file__, "--way", way, str(path)]
                    out = subprocess.run(command, capture_output=True, text=True, check=True)
                    found[way].append(json.loads(out.stdout))
            assert len({each[3] for runs in found.values() for each in runs}) == 1
        for way, runs in found.items():
            seconds, cpu, beyond, _ = (statistics.median(each) for each in zip(*runs, strict=True))
            print(
                f"| {name:18} | {way:18} | {seconds * 1000:5.0f} ms "
                f"| {nbytes / seconds / 1e6:5.0f} MB/s | {nbytes / cpu / 1e6:4.0f} MB/CPU-s "
                f"| {beyond / 1e6:4.0f} MB beyond |",
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--way"]:
        run(*sys.argv[2:])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
