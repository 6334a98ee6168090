"""Converts an OME-TIFF of a gigabyte: how fast, how much memory it takes, what the store weighs.

Run it as ``python tests/benchmarks/bench_convert.py [--planes 128] [--rounds 3]
[--form plain deflate tiles] [--peer bioio=PYTHON] [--peer ngff-zarr=PYTHON]``. Every run is a
process of its own, the ways one after another in every round; what is printed are medians.

The image has two channels, 2048 x 2048 pixels of uint16 a plane: waves with the noise of a camera.
*plain* is not compressed, *deflate* in strips, *tiles* in tiles of 256 x 256 pixels. Each way is
what its users do: `convert`; ``BioImage`` and ``OMEZarrWriter`` of bioio; ngff-zarr's command line
with tifffile. Chunks and codecs are their own choice. *memory* is written out of memory by this
package: what converting costs beyond that is reading. *peak* is what the process took at most in
memory of its own, less what it had before; maps of files do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 2048
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deflate": {"compression": "zlib", "compressionargs": {"level": 1}},
    "tiles": {"compression": "zlib", "compressionargs": {"level": 1}, "tile": (256, 256)},
}


def planes(count: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.ogrid[:SIZE, :SIZE]
    noise = rng.integers(0, 16, (SIZE + count, SIZE), dtype="uint16")
    for z in range(count):
        waves = 1000 + 500 * np.sin(y / 30 + z / 20) * np.cos(x / 41)
        yield waves.astype("uint16") + noise[z : z + SIZE]


def write_source(path: Path, count: int, form: str) -> None:
    import tifffile

    shape = (2, count // 2, SIZE, SIZE)
    meta = {"axes": "CZYX", "PhysicalSizeX": 0.2, "PhysicalSizeY": 0.2, "PhysicalSizeZ": 0.5}
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as writer:
        if "tile" in FORMS[form]:  # which are to come one by one
            height, width = FORMS[form]["tile"]
            parts = (
                plane[i : i + height, j : j + width]
                for plane in planes(count)
                for i in range(0, SIZE, height)
                for j in range(0, SIZE, width)
            )
        else:
            parts = planes(count)
        how = {"photometric": "minisblack", "metadata": meta, **FORMS[form]}
        writer.write(parts, shape=shape, dtype="uint16", **how)


def by_ngff(source: str, target: str) -> None:
    import ngff_xarray

    ngff_xarray.convert(source, target, progress=False)


def by_memory(source: str, target: str) -> None:
    import ngff_xarray

    tree = ngff_xarray.open_image(source).load()
    tree.ngff.pyramid().ngff.to_zarr(target, progress=False)


def by_bioio(source: str, target: str) -> None:
    from bioio import BioImage
    from bioio_ome_zarr.writers import OMEZarrWriter

    image = BioImage(source)
    data = image.dask_data
    shapes = [data.shape]
    while max(shapes[-1][-2:]) > 512:
        *outer, y, x = shapes[-1]
        shapes.append((*outer, y // 2, x // 2))
    sizes = image.physical_pixel_sizes
    writer = OMEZarrWriter(
        target,
        level_shapes=shapes,
        dtype=data.dtype,
        physical_pixel_size=[1.0, 1.0, sizes.Z, sizes.Y, sizes.X],
    )
    writer.write_full_volume(data)


def by_ngff_zarr(source: str, target: str) -> None:
    from ngff_zarr import cli

    sys.argv = ["ngff-zarr", "-i", source, "-o", target, "--quiet"]
    cli.main()


WAYS: dict[str, Callable[[str, str], None]] = {
    "ngff_xarray": by_ngff,
    "memory": by_memory,
    "bioio": by_bioio,
    "ngff-zarr": by_ngff_zarr,
}


class Peak(threading.Thread):
    """Looks at the memory that is the process's own, many times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self.most = self._now()
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(0.01):
            self.most = max(self.most, self._now())

    @staticmethod
    def _now() -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
        raise OSError("no RssAnon: this needs Linux")

    def stop(self) -> int:
        self._stopped.set()
        self.join()
        return self.most - self.before


def run(way: str, source: str, target: str) -> None:
    """Convert once, and print what it took."""
    if way in ("ngff_xarray", "memory"):  # what is imported is not converting
        import ngff_xarray.converting.tiff  # noqa: F401
    peak = Peak()
    peak.start()
    wall, cpu = time.perf_counter(), time.process_time()
    WAYS[way](source, target)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    weight = sum(path.stat().st_size for path in Path(target).rglob("*") if path.is_file())
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak.stop(), "weight": weight}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planes", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--form", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--run", nargs=3, metavar=("WAY", "SOURCE", "TARGET"))
    options = parser.parse_args()
    if options.run:
        run(*options.run)
        return
    pythons = {"ngff_xarray": sys.executable, "memory": sys.executable}
    pythons |= dict(each.split("=", 1) for each in options.peer)
    size = options.planes * SIZE * SIZE * 2 / 1e6
    print(f"{size:.0f} MB, {os.cpu_count()} processors, {options.rounds} rounds\n")
    print(f"{'form':8} {'way':12} {'MB/CPU-s':>9} {'wall s':>7} {'peak MiB':>9} {'store MB':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for form in options.form:
            source = Path(folder, f"{form}.ome.tif")
            write_source(source, options.planes, form)
            found = defaultdict(list)
            for _ in range(options.rounds):
                for way, python in pythons.items():
                    target = Path(folder, "target.ome.zarr")
                    shutil.rmtree(target, ignore_errors=True)
                    command = [python, __file__, "--run", way, str(source), str(target)]
                    done = subprocess.run(command, capture_output=True, text=True)
                    if done.returncode:
                        print(f"{way}: {done.stderr[-500:]}")
                        continue
                    found[way].append(json.loads(done.stdout.splitlines()[-1]))
            for way, each in found.items():
                median = {key: statistics.median(one[key] for one in each) for key in each[0]}
                print(
                    f"{form:8} {way:12} {size / median['cpu']:9.0f} {median['wall']:7.1f} "
                    f"{median['peak'] / 2**20:9.0f} {median['weight'] / 1e6:9.0f}"
                )
            source.unlink()


if __name__ == "__main__":
    main()
