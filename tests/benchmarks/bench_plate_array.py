"""Opens a large plate as a tree and as one array: what it takes, and what it asks for.

Run it as ``python tests/benchmarks/bench_plate_array.py [wells] [fields]``. A field has 64 x 64
pixels in one level. Every way runs in a process of its own over HTTP on the same machine, whose
Python server takes its share of the seconds; *peak* is the most memory that the process ever had.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr

sys.path.insert(0, str(Path(__file__).parents[1]))

from servers import CountingServer
from stores import write_plate

COLUMNS = 48
IMAGE = {"axes": "cyx", "shape": (1, 64, 64), "chunks": (1, 64, 64), "levels": 1}
WAYS: dict[str, Callable[[str], Any]] = {
    "import and nothing else": lambda url: None,
    "tree: its wells": xr.open_datatree,
    "tree: every field": lambda url: xr.open_datatree(url, wells="all"),
    "array": lambda url: xr.open_datatree(url).ngff.to_array(),
    "array, chunks={}": lambda url: xr.open_datatree(url).ngff.to_array(chunks={}),
    "array, uniform=False": lambda url: xr.open_datatree(url).ngff.to_array(uniform=False),
    "array, one well read": lambda url: xr.open_datatree(url).ngff.to_array()[-1].load(),
    "array, one field of each": lambda url: xr.open_datatree(url).ngff.to_array(fields=0).load(),
    "array, all read": lambda url: xr.open_datatree(url).ngff.to_array().load(),
}


def write(path: Path, wells: int, fields: int) -> None:
    """Write a plate whose wells are all the first one, by links."""
    rows = [a + b for a in ("", *"ABCDEFGH") for b in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    columns = [str(n) for n in range(1, COLUMNS + 1)]
    listed = [f"{row}/{column}" for row in rows for column in columns][:wells]
    rows = rows[: -(-wells // COLUMNS)]
    keywords = {"rows": rows, "columns": columns, "wells": listed, "missing": listed[1:]}
    write_plate(path, fields=fields, image=IMAGE, **keywords)
    for well in listed[1:]:
        (path / well).parent.mkdir(exist_ok=True)
        (path / well).symlink_to(path / listed[0])


def run(name: str, url: str) -> None:
    """Open the plate one way and print what it took."""
    start, cpu = time.perf_counter(), time.process_time()
    kept = WAYS[name](url)
    took = time.perf_counter() - start, time.process_time() - cpu
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(json.dumps([*took, peak]))
    del kept


def main(wells: int, fields: int) -> None:
    print(f"{wells} wells x {fields} fields    seconds   CPU s  peak MB  requests")
    with tempfile.TemporaryDirectory() as folder, CountingServer(Path(folder)) as server:
        write(Path(folder) / "p.ome.zarr", wells, fields)
        for name in WAYS:
            server.clear()
            command = [sys.executable, __file__, "--way", name, f"{server.url}/p.ome.zarr"]
            found = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds, cpu, peak = json.loads(found.stdout)
            line = f"{name:25} {seconds:9.2f} {cpu:7.2f} {peak / 1e6:8.0f} {server.count:9}"
            print(line, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--way"]:
        run(*sys.argv[2:4])
    else:
        numbers = [int(text) for text in sys.argv[1:]]
        main(*(numbers + [1536, 9][len(numbers) :]))
