"""Measures the objects of a volume: how fast, how much memory it takes, and how exact it is.

Run it as ``python tests/benchmarks/bench_measure.py [--size 512] [--cell 16] [--rounds 3]
[--limit 600] [--shapes] [--peer dask-image=PYTHON …]``. The volume has 1024 x 1024 pixels of uint16
a plane and labels of uint32, a ball in every cell; both are stored in chunks of 64³, packed by
Blosc (zstd, level 1), in Zarr v3. Every run is a process of its own that reads them from the
store, the ways one after another in every round; what is printed are medians. What takes longer
than the limit (seconds) is stopped, and not run again. scikit-image reads the whole arrays first,
as it must, in this environment; peers run in that of an interpreter that has them.

All ways give number of pixels, centroid, box, mean, minimum, maximum and standard deviation of
every object; with ``--shapes`` ours and scikit-image also the solidity and the longest axis.
dask-image has no box without dask's dataframes: it makes the others, one object after another, so
try it with few (``--size 32 --cell 128``). *MB/s* are of the image and its labels, unpacked. *peak*
is as of ``bench_pyramid.py``; *differs* is the largest relative difference from ours of mean and
standard deviation, where the numbers of pixels are equal.
"""

from __future__ import annotations

import argparse
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

import numpy as np
from bench_pyramid import Peak

CHUNK = (64, 64, 64)
PLANE = 1024
SHAPES = ("solidity", "axis_major_length")

Table = dict[str, Any]


def write_source(path: Path, depth: int, cell: int) -> int:
    """Write an image with balls as labels; return how many there are."""
    import xarray as xr
    from zarr.codecs import BloscCodec, BytesCodec

    import ngff_xarray  # noqa: F401

    rng = np.random.default_rng(0)
    pixels = np.empty((depth, PLANE, PLANE), np.uint16)
    labels = np.empty(pixels.shape, np.uint32)
    y, x = np.ogrid[:PLANE, :PLANE]
    half, across = cell // 2, -(-PLANE // cell)
    for z in range(depth):
        number = (z // cell * across + y // cell) * across + x // cell + 1
        inside = (z % cell - half) ** 2 + (y % cell - half) ** 2 + (x % cell - half) ** 2
        labels[z] = np.where(inside < (half - 0.5) ** 2, number, 0)
        waves = 1000 + 500 * np.sin(y / 30 + z / 20) * np.cos(x / 41)
        pixels[z] = waves + rng.integers(0, 4, waves.shape)
    for array, name in ((pixels, "image"), (labels, "labels")):
        blosc = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=array.itemsize)
        stored = xr.DataArray(array, dims=("z", "y", "x"), name=name)
        stored.encoding = {"compressors": [blosc], "serializer": BytesCodec(), "dtype": array.dtype}
        stored.ngff.to_zarr(path / name, levels=1, chunks=CHUNK, progress=False)
    return int(labels.max())


def by_ngff(path: Path, shapes: bool) -> Table:
    import xarray as xr

    import ngff_xarray  # noqa: F401

    image, labels = (xr.open_datatree(path / name, engine="ngff") for name in ("image", "labels"))
    properties = SHAPES if shapes else ()
    found = image.ngff.measure(labels, "all", properties=properties, progress=False)
    return {name: found[f"{name}_0"].to_numpy() for name in ("mean", "std")} | {
        "pixels": found["pixels"].to_numpy()
    }


def whole(path: Path) -> list[Any]:
    import zarr

    return [zarr.open_array(path / name / "0", mode="r")[:] for name in ("image", "labels")]


def by_scikit_image(path: Path, shapes: bool) -> Table:
    from skimage.measure import regionprops_table

    image, labels = whole(path)
    names = ["num_pixels", "centroid", "bbox", "intensity_mean", "intensity_min", "intensity_max"]
    names += ["intensity_std", *(SHAPES if shapes else ())]
    found = regionprops_table(labels, image, properties=names)
    return {
        "pixels": found["num_pixels"],
        "mean": found["intensity_mean"],
        "std": found["intensity_std"],
    }


def by_dask_image(path: Path, shapes: bool) -> Table:
    import dask
    import dask.array as da
    from dask_image import ndmeasure

    image, labels = (da.from_zarr(str(path / name / "0")) for name in ("image", "labels"))
    index = np.arange(1, int(labels.max().compute()) + 1)
    names = ("area", "mean", "standard_deviation", "minimum", "maximum", "center_of_mass")
    area, mean, std, *_ = dask.compute(
        *(getattr(ndmeasure, name)(image, labels, index) for name in names)
    )
    return {"pixels": area, "mean": mean, "std": std}


WAYS: dict[str, Callable[[Path, bool], Table]] = {
    "ngff_xarray": by_ngff,
    "scikit-image": by_scikit_image,
    "dask-image": by_dask_image,
}


def run(way: str, source: Path, warm: Path, out: Path, shapes: bool) -> None:
    """Measure once, and print what it took."""
    WAYS[way](warm, shapes)  # imports, threads
    peak = Peak()
    peak.start()
    start, cpu = time.perf_counter(), time.process_time()
    found = WAYS[way](source, shapes)
    print(json.dumps([time.perf_counter() - start, time.process_time() - cpu, peak.beyond()]))
    np.savez(out, **found)


def difference(ours: Path, theirs: Path) -> str:
    """Say by how much two tables differ."""
    one, other = np.load(ours), np.load(theirs)
    if one["pixels"].shape != other["pixels"].shape or (one["pixels"] != other["pixels"]).any():
        return "other pixels"
    apart = [np.abs(one[name] - other[name]) / one[name] for name in ("mean", "std")]
    return f"{max(each.max() for each in apart):.0e}"


def main(given: argparse.Namespace) -> None:
    pythons = dict.fromkeys(("ngff_xarray", "scikit-image"), sys.executable)
    pythons |= dict(each.split("=", 1) for each in given.peer)
    with tempfile.TemporaryDirectory() as folder:
        source, warm = Path(folder) / "source", Path(folder) / "warm"
        count = write_source(source, given.size, given.cell)
        write_source(warm, 8, 256)
        nbytes = given.size * PLANE**2 * 6
        print(f"{given.size} x {PLANE} x {PLANE}, {nbytes / 1e6:.0f} MB, {count} objects")
        found = defaultdict(list)
        for _ in range(given.rounds):
            for way, python in list(pythons.items()):
                out = Path(folder) / f"{way}.npz"
                command = [python, __file__, "--way", way, *map(str, (source, warm, out))]
                command += ["--shapes"] if given.shapes else []
                try:
                    said = subprocess.run(
                        command, capture_output=True, text=True, timeout=given.limit
                    )
                except subprocess.TimeoutExpired:
                    print(f"| {way:12} | more than {given.limit} s |", flush=True)
                    del pythons[way]
                    continue
                if said.returncode:
                    print(f"{way}: {said.stderr.strip().splitlines()[-1]}")
                    continue
                found[way].append(json.loads(said.stdout.splitlines()[-1]))
        for way, runs in found.items():
            seconds, cpu, peak = (statistics.median(each) for each in zip(*runs, strict=True))
            apart = difference(Path(folder) / "ngff_xarray.npz", Path(folder) / f"{way}.npz")
            print(
                f"| {way:12} | {nbytes / seconds / 1e6:5.0f} MB/s | {seconds:6.2f} s "
                f"| {cpu:6.2f} CPU-s | {peak / 1e6:5.0f} MB | differs {apart} |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=512, help="planes of 1024 x 1024")
    parser.add_argument("--cell", type=int, default=16, help="pixels from object to object")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=600, help="seconds")
    parser.add_argument("--shapes", action="store_true")
    parser.add_argument("--peer", action="append", default=[], help="name=interpreter")
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("paths", nargs="*", type=Path)
    arguments = parser.parse_args()
    if arguments.way:
        run(arguments.way, *arguments.paths, arguments.shapes)
    else:
        main(arguments)
