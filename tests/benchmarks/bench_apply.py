"""Applies a function to a volume: how fast, and how much memory it takes.

Run it as ``python tests/benchmarks/bench_apply.py [--job cheap|components] [--size 512]
[--rounds 3] [--peer dask-image=PYTHON …]``. The volume has 1024 x 1024 pixels of uint16 a plane,
stored in chunks of 64³, packed by Blosc (zstd, level 1), in Zarr v3, at one level. Every run is a
process of its own, the ways one after another in every round; what is printed are medians. *MB/s*
are of the volume, unpacked; *peak* is as of ``bench_pyramid.py``.

``cheap``: ``block + 1`` to a new image with the levels of a pyramid. *writing* writes the volume
itself with that pyramid, which is what the streaming builder does alone.

``components``: connected components above a threshold, to a label image of 64³ chunks, at one
level. *scipy* labels the whole array in memory, which it reads and writes by zarr; *dask-image* a
block of 256³ at a time. *objects* is how many there are.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_pyramid import Peak

CHUNK = {"z": 64, "y": 64, "x": 64}
PLANE = 1024
ABOVE = 128


def write_source(path: Path, depth: int) -> None:
    """Write blobs, some hundred thousand in 1 GB, with the noise of a camera."""
    import xarray as xr
    from scipy import ndimage
    from zarr.codecs import BloscCodec, BytesCodec

    import ngff_xarray  # noqa: F401

    rng = np.random.default_rng(0)
    tile = ndimage.gaussian_filter(rng.random((64, 256, 256), np.float32), 3, mode="wrap")
    tile = (tile - tile.min()) / (tile.max() - tile.min())
    one = (1 + np.round(254 * np.clip(2 * tile - 0.75, 0, 1))).astype(np.uint16)
    volume = np.tile(one, (-(-depth // 64), PLANE // 256, PLANE // 256))[:depth]
    volume += rng.integers(0, 4, volume.shape, np.uint16)
    array = xr.DataArray(volume, dims=tuple("zyx"))
    blosc = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=2)
    array.encoding = {"compressors": [blosc], "serializer": BytesCodec(), "dtype": array.dtype}
    array.ngff.to_zarr(path, levels=1, chunks=CHUNK, progress=False)


def brighter(block: Any) -> Any:
    return block + 1


def components(block: Any) -> Any:
    from scipy import ndimage

    return ndimage.label(block.values > ABOVE)[0]


def cheap_by_ngff(source: Path, target: Path) -> None:
    import xarray as xr

    tree = xr.open_datatree(source, engine="ngff")
    tree.ngff.apply(brighter, to=target, chunks=CHUNK, levels=5, progress=False)


def writing(source: Path, target: Path) -> None:
    import xarray as xr

    level = xr.open_datatree(source, engine="ngff").ngff.level(0)
    level.variable.encoding.pop("compressors")  # so that nothing is copied as it is stored
    level.ngff.to_zarr(target, chunks=CHUNK, levels=5, progress=False)


def components_by_ngff(source: Path, target: Path) -> None:
    import xarray as xr

    tree = xr.open_datatree(source, engine="ngff")
    tree.ngff.apply(components, to=target, stitch=True, chunks=CHUNK, levels=1, progress=False)


def stored(source: Path) -> Any:
    import zarr

    return zarr.open_array(source / "0", mode="r")


def created(target: Path, labels: Any) -> Any:
    """Return an array for labels, packed as ours are."""
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec

    codecs = [BloscCodec(cname="zstd", clevel=5), Crc32cCodec()]
    chunks, dtype = (64, 64, 64), labels.dtype
    return zarr.create_array(
        target, shape=labels.shape, chunks=chunks, dtype=dtype, compressors=codecs
    )


def components_by_scipy(source: Path, target: Path) -> None:
    from scipy import ndimage

    labels, _ = ndimage.label(stored(source)[:] > ABOVE)
    created(target, labels)[:] = labels


def components_by_dask_image(source: Path, target: Path) -> None:
    import dask.array as da
    from dask_image import ndmeasure

    array = da.from_zarr(str(source / "0")).rechunk((256, 256, 256))
    labels, _ = ndmeasure.label(array > ABOVE)
    da.store(labels.rechunk((64, 64, 64)), created(target, labels), lock=False)


WAYS: dict[str, dict[str, Callable[[Path, Path], None]]] = {
    "cheap": {"ngff_xarray": cheap_by_ngff, "writing": writing},
    "components": {
        "ngff_xarray": components_by_ngff,
        "scipy": components_by_scipy,
        "dask-image": components_by_dask_image,
    },
}


def largest(target: Path) -> int:
    """Return the largest label that was written."""
    import zarr

    array = zarr.open_array(target / "0" if (target / "0").exists() else target, mode="r")
    return max(int(array[z : z + 64].max()) for z in range(0, array.shape[0], 64))


def run(job: str, way: str, source: Path, warm: Path, target: Path) -> None:
    """Do it once, and print what it took."""
    WAYS[job][way](warm, target.with_suffix(".warm"))  # imports, threads
    peak = Peak()
    peak.start()
    start, cpu = time.perf_counter(), time.process_time()
    WAYS[job][way](source, target)
    took = time.perf_counter() - start, time.process_time() - cpu
    peaked = peak.beyond()
    print(json.dumps([*took, peaked, largest(target) if job == "components" else 0]))


def main(given: argparse.Namespace) -> None:
    pythons = dict.fromkeys(WAYS[given.job], sys.executable)
    pythons.pop("dask-image", None)
    pythons |= dict(each.split("=", 1) for each in given.peer)
    with tempfile.TemporaryDirectory() as folder:
        source, warm = Path(folder) / "source", Path(folder) / "warm"
        write_source(source, given.size)
        write_source(warm, 8)
        nbytes = given.size * PLANE**2 * 2
        print(f"{given.size} x {PLANE} x {PLANE}, {nbytes / 1e6:.0f} MB")
        found = defaultdict(list)
        for _ in range(given.rounds):
            for way, python in pythons.items():
                target = Path(folder) / "target"
                command = [python, __file__, "--job", given.job, "--way", way]
                command += map(str, (source, warm, target))
                said = subprocess.run(command, capture_output=True, text=True)
                for path in (target, target.with_suffix(".warm")):
                    shutil.rmtree(path, ignore_errors=True)
                if said.returncode:
                    print(f"{way}: {said.stderr.strip().splitlines()[-1]}")
                    continue
                found[way].append(json.loads(said.stdout.splitlines()[-1]))
        for way, runs in found.items():
            seconds, cpu, peak, count = (
                statistics.median(each) for each in zip(*runs, strict=True)
            )
            print(
                f"| {way:12} | {nbytes / seconds / 1e6:5.0f} MB/s | {seconds:6.2f} s "
                f"| {cpu:6.2f} CPU-s | {peak / 1e6:5.0f} MB | {count:.0f} objects |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", choices=WAYS, default="cheap")
    parser.add_argument("--size", type=int, default=512, help="planes of 1024 x 1024")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", action="append", default=[], help="name=interpreter")
    parser.add_argument("--way")
    parser.add_argument("paths", nargs="*", type=Path)
    arguments = parser.parse_args()
    if arguments.way:
        run(arguments.job, arguments.way, *arguments.paths)
    else:
        main(arguments)
