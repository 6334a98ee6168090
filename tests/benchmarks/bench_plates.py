"""Looks at a plate of many wells: how long each takes, in seconds of the clock and of the CPU.

Run it as ``python tests/benchmarks/bench_plates.py [wells] [folder]``; plates that the folder
holds already are used again. A well has one field of 128 x 128 pixels in three levels, and labels.
*reads* counts what the store was asked for a well, *first tile* is the time until a browser could
show something of the viewer, *again* the overview once more. The system has the files in memory.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import xarray as xr
from zarr.storage import LocalStore

sys.path.insert(0, str(Path(__file__).parents[1]))

from stores import write_plate

from ngff_xarray.viewing.tiles import Tile
from ngff_xarray.widgets.plates import view_plate

IMAGE = {"axes": "cyx", "shape": (1, 128, 128), "chunks": (1, 128, 128), "levels": 3}
COLUMNS = 48


class Counted:
    """Counts what local stores are asked for."""

    def __init__(self) -> None:
        self.count = 0
        get = LocalStore.get

        async def counted(store: LocalStore, *args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return await get(store, *args, **kwargs)

        LocalStore.get = counted  # type: ignore[method-assign]


def write(path: Path, version: Any, wells: int) -> None:
    rows = [f"{a}{b}" for a in ("", *"ABCDEFGH") for b in "ABCDEFGHIJKLMNOP"]
    write_plate(
        path,
        version=version,
        rows=rows[: -(-wells // COLUMNS)],
        columns=[str(n) for n in range(1, COLUMNS + 1)],
        fields=1,
        image=IMAGE,
        labels={"cells": {}},
    )


def first_tile(tree: xr.DataTree) -> None:
    viewer = view_plate(tree)
    shown = threading.Event()

    def done(tile: Tile) -> None:
        shown.set()

    for spec in viewer.plate._server.plan(viewer.plate.view).tiles:
        viewer.plate._server.start(spec, done)
    shown.wait()
    viewer.close()


def main(wells: int, folder: Path) -> None:
    mpl.use("Agg")
    reads = Counted()
    print(f"{wells} wells{'':18} seconds  CPU s  reads a well")
    for version in ("0.5", "0.4"):
        path = folder / f"{wells}-{version}.ome.zarr"
        if not path.exists():
            write(path, version, wells)
        tree = xr.open_datatree(path)
        viewer = view_plate(tree)
        works: dict[str, Callable[[], Any]] = {
            "open": lambda: xr.open_datatree(path),  # noqa: B023
            "plot()": lambda: tree.ngff.plot(),  # noqa: B023
            "plot(labels=True)": lambda: tree.ngff.plot(labels=True),  # noqa: B023
            "thumbnail()": lambda: tree.ngff.thumbnail(),  # noqa: B023
            "view(): first tile": lambda: first_tile(tree),  # noqa: B023
            "view(): overview": lambda: viewer.screenshot(),  # noqa: B023
            "view(): again": lambda: viewer.screenshot(),  # noqa: B023
        }
        for name, work in works.items():
            start, cpu, reads.count = time.perf_counter(), time.process_time(), 0
            work()
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            line = f"{version} {name:24} {seconds:7.2f} {cpu:6.2f} {reads.count / wells:8.2f}"
            print(line)
        viewer.close()


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1536
    if len(sys.argv) > 2:
        main(count, Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as found:
            main(count, Path(found))
