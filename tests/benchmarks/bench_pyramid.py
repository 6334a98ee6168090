"""Writes a pyramid of a volume: how fast, how much memory it takes, and how exact it is.

Run it as ``python tests/benchmarks/bench_pyramid.py [--size 256] [--rounds 3] [--job mean]
[--peer ngio=PYTHON …]``. Every run is a process of its own, the ways one after another in every
round; what is printed are medians. Chunks are 64³, packed by Blosc (zstd, level 1), in Zarr v3. The
jobs are the mean of uint16 (also of Zarr v2 and in shards) and the mode of labels of uint32.
tensorstore runs in the same environment; peers (``ngio``, ``ngff-zarr``, ``ome-zarr``, ``dask``)
in that of an interpreter that has them, as ``tests/readers/install`` makes them. They make the
mean, and of labels the mode, or the nearest where they have none.

*peak* is what the process took at most in memory of its own during the job, less what it had
before: the source is a file that is mapped and does not count. *bias* and *error* are of the
finest and the coarsest level made, against the exact mean: the mean difference and the largest.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LEVELS = 5
CHUNK = (64, 64, 64)
SHARD = (256, 256, 256)
JOBS = ("mean", "v2", "shards", "labels")


def write_source(path: Path, depth: int, job: str) -> None:
    """Write a volume: waves with the noise of a camera, or balls that are numbered."""
    rng = np.random.default_rng(0)
    dtype = np.uint32 if job == "labels" else np.uint16
    volume = np.lib.format.open_memmap(path, "w+", dtype, (depth, 1024, 1024))
    y, x = np.ogrid[:1024, :1024]
    for z in range(depth):
        if job == "labels":
            cell = (z // 32 * 1024 + y // 32) * 32 + x // 32
            inside = (z % 32 - 16) ** 2 + (y % 32 - 16) ** 2 + (x % 32 - 16) ** 2 < 14**2
            volume[z] = np.where(inside, cell + 1, 0)
        else:
            waves = 1000 + 500 * np.sin(y / 30 + z / 20) * np.cos(x / 41)
            volume[z] = waves + rng.integers(0, 4, waves.shape)
    volume.flush()


def by_ngff(volume: Any, target: str, job: str) -> None:
    import xarray as xr
    from zarr.codecs import BloscCodec

    import ngff_xarray  # noqa: F401

    array = xr.DataArray(volume, dims=("z", "y", "x"), name="labels" if job == "labels" else None)
    version = "0.4" if job == "v2" else "0.5"
    if job == "v2":
        from numcodecs import Blosc

        array.encoding = {"compressors": [Blosc("zstd", 1, Blosc.SHUFFLE)], "dtype": array.dtype}
    else:
        from zarr.codecs import BytesCodec

        blosc = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=array.dtype.itemsize)
        array.encoding = {
            "compressors": [blosc],
            "serializer": BytesCodec(),
            "dtype": array.dtype,
        }
    array.ngff.to_zarr(
        target,
        version=version,
        levels=LEVELS,
        chunks=CHUNK,
        shards=SHARD if job == "shards" else None,
        progress=False,
    )


def by_tensorstore(volume: Any, target: str, job: str) -> None:
    import tensorstore as ts

    def made(number: int, shape: Any) -> Any:
        chunk = [min(n, size) for n, size in zip(CHUNK, shape, strict=True)]
        blosc = {"cname": "zstd", "clevel": 1, "shuffle": "shuffle"}
        kvstore = {"driver": "file", "path": f"{target}/{number}/"}
        options = {"create": True, "delete_existing": True}
        if job == "v2":
            metadata: dict[str, Any] = {
                "shape": list(shape),
                "dtype": volume.dtype.str,
                "chunks": chunk,
                "compressor": {"id": "blosc", **blosc, "shuffle": 1},
                "dimension_separator": "/",
            }
            spec = {"driver": "zarr", "kvstore": kvstore, "metadata": metadata}
            return ts.open(spec, context=context, **options).result()
        codecs: list[Any] = [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "blosc", "configuration": {**blosc, "typesize": volume.dtype.itemsize}},
        ]
        grid = chunk
        if job == "shards":
            sharding = {"chunk_shape": chunk, "codecs": codecs}
            codecs = [{"name": "sharding_indexed", "configuration": sharding}]
            grid = [
                -(-min(s, -(-n // c) * c) // c) * c
                for s, n, c in zip(SHARD, shape, chunk, strict=True)
            ]
        metadata = {
            "shape": list(shape),
            "data_type": volume.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": grid}},
            "codecs": codecs,
        }
        spec = {"driver": "zarr3", "kvstore": kvstore, "metadata": metadata}
        return ts.open(spec, context=context, **options).result()

    context = ts.Context({"data_copy_concurrency": {"limit": 2}})
    method = "mode" if job == "labels" else "mean"
    slab = SHARD[0] if job == "shards" else CHUNK[0]
    level = made(0, volume.shape)
    for z in range(0, volume.shape[0], slab):
        part = slice(z, min(z + slab, volume.shape[0]))
        level[part].write(volume[part]).result()
    for number in range(1, LEVELS):
        coarser = ts.downsample(level, [2, 2, 2], method)
        level = made(number, coarser.shape)
        for z in range(0, coarser.shape[0], slab):
            part = slice(z, min(z + slab, coarser.shape[0]))
            level[part].write(coarser[part]).result()


class Mapped:
    """A mapped volume for dask, which copies whole what has a method for it, and to find a name."""

    def __init__(self, volume: Any) -> None:
        self.shape, self.dtype, self.ndim = volume.shape, volume.dtype, volume.ndim
        self._volume = volume

    def __getitem__(self, key: Any) -> Any:
        return self._volume[key]

    def __dask_tokenize__(self) -> str:
        return str(self._volume.filename)


def by_dask(volume: Any, target: str, job: str) -> None:
    import dask.array as da
    import zarr
    from zarr.codecs import BloscCodec

    blosc = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=volume.itemsize)
    level = da.from_array(Mapped(volume), chunks=CHUNK)
    for number in range(LEVELS):
        array = zarr.create_array(
            f"{target}/{number}",
            shape=level.shape,
            chunks=tuple(map(min, CHUNK, level.shape)),
            dtype=level.dtype,
            compressors=[blosc],
        )
        da.store(level, array, lock=False)
        level = da.from_zarr(array)
        if job == "labels":
            level = level[::2, ::2, ::2]
        else:
            level = da.coarsen(np.mean, level, dict.fromkeys(range(3), 2), trim_excess=True)
        level = level.astype(volume.dtype).rechunk(CHUNK)


def by_ngff_zarr(volume: Any, target: str, job: str) -> None:
    import dask.array as da
    import ngff_zarr
    from ngff_zarr import Methods

    source = da.from_array(Mapped(volume), chunks=CHUNK)
    image = ngff_zarr.to_ngff_image(source, dims=["z", "y", "x"])
    method = Methods.DASK_IMAGE_MODE if job == "labels" else Methods.DASK_BIN_SHRINK
    factors = [2**n for n in range(1, LEVELS)]
    made = ngff_zarr.to_multiscales(image, factors, chunks=CHUNK, method=method)
    blosc = {"cname": "zstd", "clevel": 1, "shuffle": "shuffle", "typesize": volume.itemsize}
    options: dict[str, Any] = {"compressors": [{"name": "blosc", "configuration": blosc}]}
    ngff_zarr.to_ome_zarr(target, made, version="0.5", **options)


def by_ome_zarr(volume: Any, target: str, job: str) -> None:
    import dask.array as da
    from ome_zarr.scale import Methods
    from ome_zarr.writer import write_image
    from zarr.codecs import BloscCodec

    factors = [dict.fromkeys("zyx", 2**n) for n in range(1, LEVELS)]
    blosc = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=volume.itemsize)
    write_image(
        da.from_array(Mapped(volume), chunks=CHUNK),
        target,
        scale_factors=factors,
        method=Methods.NEAREST if job == "labels" else Methods.LOCAL_MEAN,
        axes="zyx",
        storage_options={"chunks": CHUNK, "compressors": [blosc]},
    )


def by_ngio(volume: Any, target: str, job: str) -> None:
    import ngio
    from zarr.codecs import BloscCodec

    blosc = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=volume.itemsize)
    made = ngio.create_empty_ome_zarr(
        target,
        shape=volume.shape,
        pixelsize=1.0,
        z_spacing=1.0,
        levels=LEVELS,
        scaling_factors=(2, 2, 2),
        axes_names="zyx",
        ngff_version="0.5",
        chunks=CHUNK,
        compressors=[blosc],
        dtype=volume.dtype.name,
        overwrite=True,
    )
    image = made.get_image()
    for z in range(0, volume.shape[0], CHUNK[0]):
        image.set_array(volume[z : z + CHUNK[0]], z=slice(z, z + CHUNK[0]))
    image.consolidate(order="nearest" if job == "labels" else "linear", mode="dask")


WAYS: dict[str, Callable[[Any, str, str], None]] = {
    "ngff_xarray": by_ngff,
    "tensorstore": by_tensorstore,
    "dask": by_dask,
    "ngff-zarr": by_ngff_zarr,
    "ome-zarr": by_ome_zarr,
    "ngio": by_ngio,
}


class Peak(threading.Thread):
    """Looks at the memory that is the process's own, many times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self.most = self._now()
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(0.005):
            self.most = max(self.most, self._now())

    def beyond(self) -> int:
        self._stopped.set()
        return self.most - self.before

    @staticmethod
    def _now() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def run(way: str, job: str, source: str, target: str) -> None:
    """Write once, and print what it took."""
    volume = np.load(source, mmap_mode="r")
    WAYS[way](volume[:64, :64, :64], f"{target}-warm", job)  # imports, threads
    peak = Peak()
    peak.start()
    start, cpu = time.perf_counter(), time.process_time()
    WAYS[way](volume, target, job)
    print(json.dumps([time.perf_counter() - start, time.process_time() - cpu, peak.beyond()]))


def exactness(volume: Any, target: Path, level: int) -> tuple[float, float]:
    """Return the mean difference from the exact mean of a level, and the largest."""
    import zarr

    names = (f"{level}", f"s{level}", f"scale{level}/image")  # of ome-zarr-py, of ngff-zarr
    path = next(target / name for name in names if (target / name).exists())
    made = zarr.open_array(path, mode="r")
    f = 2**level
    part = volume[:256, :256, :256].astype("f8")
    z, y, x = (size // f for size in part.shape)
    exact = part.reshape(z, f, y, f, x, f).mean((1, 3, 5))
    found = made[:z, :y, :x].astype("f8") - exact
    return float(found.mean()), float(np.abs(found).max())


def main(depth: int, rounds: int, job: str, peers: dict[str, str]) -> None:
    pythons = {"ngff_xarray": sys.executable, "tensorstore": sys.executable, **peers}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.npy"
        write_source(source, depth, job)
        volume = np.load(source, mmap_mode="r")
        print(
            f"{job}: {volume.dtype} {volume.shape}, {volume.nbytes / 1e6:.0f} MB, {rounds} rounds"
        )
        found, exact = defaultdict(list), {}
        for _ in range(rounds):
            for way, python in pythons.items():
                target = Path(folder) / f"{way}.ome.zarr"
                command = [python, __file__, "--way", way, "--job", job, str(source), str(target)]
                out = subprocess.run(command, capture_output=True, text=True)
                if out.returncode:
                    print(f"{way}: {out.stderr.strip().splitlines()[-1]}")
                    continue
                found[way].append(json.loads(out.stdout.splitlines()[-1]))
                if way not in exact and job != "labels":
                    exact[way] = [exactness(volume, target, n) for n in (1, LEVELS - 1)]
                for path in Path(folder).glob("*.ome.zarr*"):
                    shutil.rmtree(path)
        for way, runs in found.items():
            seconds, cpu, peak = (statistics.median(each) for each in zip(*runs, strict=True))
            said = "".join(f" {bias:+.3f} {error:.2f} |" for bias, error in exact.get(way, ()))
            print(
                f"| {job} | {way:12} | {volume.nbytes / cpu / 1e6:4.0f} MB/CPU-s "
                f"| {cpu:5.2f} CPU-s | {seconds:5.2f} s | {peak / 1e6:4.0f} MB |{said}",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=256, help="planes of 1024 x 1024")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--job", choices=JOBS, default="mean")
    parser.add_argument("--peer", action="append", default=[], help="name=interpreter")
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("paths", nargs="*")
    given = parser.parse_args()
    if given.peer and given.job not in ("mean", "labels"):
        parser.error(f"peers are not written for --job {given.job}")
    if given.way:
        run(given.way, given.job, *given.paths)
    else:
        main(given.size, given.rounds, given.job, dict(each.split("=", 1) for each in given.peer))
