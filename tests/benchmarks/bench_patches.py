"""Goes over pictures of a volume in random order: how many a second, and how often chunks are read.

Run it as ``python tests/benchmarks/bench_patches.py [--size 512] [--naive 300]``. The volume has
1024 x 1024 pixels of uint16 a plane, in chunks of 64³, at one level; pictures have 96 x 96 pixels
of one plane. *patches* are all of them, by several budgets of memory; *sel* reads some of the same
regions one by one in random order, and *xbatcher*, where that is installed, does so by its own
means. *reads* are of chunks, for each patch.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from zarr.storage import LocalStore

PLANE, SIDE = 1024, 96
SIZE = {"y": f"{SIDE} px", "x": f"{SIDE} px"}


class Reads:
    """Counts how often chunks are read of stores on this machine."""

    count = 0

    @classmethod
    def begin(cls) -> None:
        for name in ("get", "get_sync"):
            plain = getattr(LocalStore, name, None)
            if plain is not None:
                setattr(LocalStore, name, cls._counting(plain))

    @classmethod
    def _counting(cls, plain: Any) -> Any:
        def get(self: LocalStore, key: str, *args: Any, **kwargs: Any) -> Any:
            cls.count += "/c/" in key
            return plain(self, key, *args, **kwargs)

        return get


def write_source(path: Path, depth: int) -> None:
    import xarray as xr

    import ngff_xarray  # noqa: F401

    one = np.random.default_rng(0).integers(0, 4000, (64, 256, 256), np.uint16)
    volume = np.tile(one, (-(-depth // 64), PLANE // 256, PLANE // 256))[:depth]
    array = xr.DataArray(volume, dims=tuple("zyx"))
    array.ngff.to_zarr(path, levels=1, chunks=dict.fromkeys("zyx", 64), progress=False)


def timed(name: str, patches: Iterable[Any]) -> None:
    Reads.count, count = 0, 0
    start, cpu = time.perf_counter(), time.process_time()
    for _ in patches:
        count += 1
    took, cpu = time.perf_counter() - start, time.process_time() - cpu
    mega = count * SIDE**2 * 2 / 1e6
    print(
        f"| {name:24} | {count:6} | {count / took:6.0f}/s | {mega / took:6.1f} MB/s "
        f"| {mega / cpu:6.1f} MB/CPU-s | {Reads.count / count:.3f} reads |",
        flush=True,
    )


def by_xbatcher(level: Any, count: int) -> Iterator[Any]:
    import xbatcher

    batches = xbatcher.BatchGenerator(level, {"z": 1, "y": SIDE, "x": SIDE}, preload_batch=False)
    order = np.random.default_rng(0).permutation(len(batches))
    return (batches[int(i)].values for i in order[:count])


def main(given: argparse.Namespace) -> None:
    import xarray as xr

    with tempfile.TemporaryDirectory() as folder:
        write_source(Path(folder) / "source.ome.zarr", given.size)
        tree = xr.open_datatree(Path(folder) / "source.ome.zarr", engine="ngff")
        level = tree.ngff.level(0)
        Reads.begin()
        for memory in ("64 MB", "256 MB"):
            timed(f"patches, {memory}", tree.ngff.patches(SIZE, shuffle=0, memory=memory))
        timed("patches in order", tree.ngff.patches(SIZE))
        patches = tree.ngff.patches(SIZE)
        order = np.random.default_rng(0).permutation(len(patches))
        regions = [patches[int(i)].region for i in itertools.islice(order, given.naive)]
        timed("sel", (level.ngff.sel(**region).values for region in regions))
        try:
            timed("xbatcher", by_xbatcher(level, given.naive))
        except ImportError:
            print("xbatcher is not installed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=512, help="planes of 1024 x 1024")
    parser.add_argument("--naive", type=int, default=300, help="patches one by one")
    main(parser.parse_args())
