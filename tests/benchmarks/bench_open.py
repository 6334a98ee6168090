"""What opening takes over HTTP: requests, round trips and time, beside zarr and tensorstore.

Run it as ``python tests/benchmarks/bench_open.py [milliseconds]``: how long a request takes, 50 by
default. *trips* is the longest chain of requests of which each waits for the one before. zarr and
tensorstore are used as their documentation has it: zarr opens the group and asks it for what the
metadata name, tensorstore opens each array (a script that knows what OME-Zarr is, by hand, with
many at a time).
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import tensorstore as ts
import xarray as xr
import zarr

sys.path.insert(0, str(Path(__file__).parents[1]))

from servers import CountingServer
from stores import write_image, write_plate

LABELS = ("cells", "nuclei")
IMAGES: dict[str, Any] = {"v5": "0.5", "c5": "0.5", "v4": "0.4"}
ROWS, COLUMNS = "ABCD", range(1, 7)


def write(folder: Path) -> None:
    """Write an image with labels as 0.5, consolidated 0.5 and 0.4, and a plate of 24 wells."""
    for name, version in IMAGES.items():
        write_image(
            folder / f"{name}.ome.zarr",
            version=version,
            shape=(2, 4, 1024, 1024),
            chunks=(1, 1, 256, 256),
            levels=5,
            labels={label: {} for label in LABELS},
            consolidated=name == "c5",
        )
    write_plate(
        folder / "plate.ome.zarr",
        rows=list(ROWS),
        columns=[str(n) for n in COLUMNS],
        fields=2,
        image={"axes": "cyx", "shape": (1, 64, 64), "levels": 2},
    )


def document(url: str, version: str) -> dict[str, Any]:
    """Fetch what a group says."""
    name = "zarr.json" if version == "0.5" else ".zattrs"
    with urlopen(f"{url}/{name}") as answer:
        found = json.load(answer)
    return dict(found["attributes"]["ome"] if version == "0.5" else found)


def by_zarr(url: str, version: str) -> Any:
    group = zarr.open_group(url, mode="r", use_consolidated=None if "c5" in url else False)
    said = group.attrs["ome"] if version == "0.5" else group.attrs
    arrays = [group[level["path"]] for level in said["multiscales"][0]["datasets"]]
    names = group["labels"].attrs
    names = (names["ome"] if version == "0.5" else names)["labels"]
    for name in names:
        label = group[f"labels/{name}"]
        said = label.attrs["ome"] if version == "0.5" else label.attrs
        arrays += [label[level["path"]] for level in said["multiscales"][0]["datasets"]]
    return arrays


def by_tensorstore(url: str, version: str) -> Any:
    driver = "zarr3" if version == "0.5" else "zarr"

    def started(path: str) -> Any:
        base = f"{url}/{path}/"
        return ts.open({"driver": driver, "kvstore": base}, open=True, read=True)

    said = document(url, version)
    waiting = [started(level["path"]) for level in said["multiscales"][0]["datasets"]]
    for name in document(f"{url}/labels", version)["labels"]:
        label = document(f"{url}/labels/{name}", version)
        levels = label["multiscales"][0]["datasets"]
        waiting += [started(f"labels/{name}/{level['path']}") for level in levels]
    return [each.result() for each in waiting]


def plate_by_tensorstore(url: str) -> Any:
    async def opened() -> Any:
        async def fetch(path: str) -> dict[str, Any]:
            return await asyncio.to_thread(document, f"{url}{path}", "0.5")

        async def field(path: str) -> Any:
            said = await fetch(path)
            spec = [
                {"driver": "zarr3", "kvstore": f"{url}{path}/{level['path']}/"}
                for level in said["multiscales"][0]["datasets"]
            ]
            return await asyncio.gather(*(ts.open(each, open=True, read=True) for each in spec))

        async def well(path: str) -> Any:
            said = await fetch(path)
            images = said["well"]["images"]
            return await asyncio.gather(*(field(f"{path}/{image['path']}") for image in images))

        wells = (await fetch(""))["plate"]["wells"]
        return await asyncio.gather(*(well(f"/{each['path']}") for each in wells))

    return asyncio.run(opened())


def plate_by_zarr(url: str) -> Any:
    plate = zarr.open_group(url, mode="r", use_consolidated=False)
    found = []
    for well in plate.attrs["ome"]["plate"]["wells"]:
        group = plate[well["path"]]
        for image in group.attrs["ome"]["well"]["images"]:
            field = group[image["path"]]
            levels = field.attrs["ome"]["multiscales"][0]["datasets"]
            found += [field[level["path"]] for level in levels]
    return found


def pixels(tree: xr.DataTree) -> Any:
    return tree["2/image"].isel(c=0, z=0).values


def main(folder: Path, latency: float) -> None:
    write(folder)
    with CountingServer(folder, latency) as server:

        def row(what: str, who: str, act: Callable[[], Any]) -> Any:
            server.clear()
            start = time.perf_counter()
            found = act()
            passed = time.perf_counter() - start
            nbytes = sum(request.nbytes for request in server.requests)
            print(
                f"  {what:<34} {who:<12} {server.count:5} requests {server.misses:4} misses "
                f"{server.depth:4} trips {nbytes / 1e3:8.1f} kB {passed:7.2f} s",
                flush=True,
            )
            return found

        print(f"{1e3 * latency:.0f} ms a request")
        xr.open_datatree(f"{server.url}/v5.ome.zarr")  # what the first opening imports
        for name, version in IMAGES.items():
            url = f"{server.url}/{name}.ome.zarr"
            what = f"image, 2 labels: {version}{' consolidated' if name == 'c5' else ''}"
            tree = row(what, "ngff_xarray", lambda url=url: xr.open_datatree(url))
            row(what, "zarr", lambda url=url, version=version: by_zarr(url, version))
            row(what, "tensorstore", lambda url=url, version=version: by_tensorstore(url, version))
            if name == "v5":
                row("then a plane of 1 chunk", "ngff_xarray", lambda tree=tree: pixels(tree))
                full = tree["0/image"].isel(c=0, z=0)
                row("then a plane of 16 chunks", "ngff_xarray", lambda full=full: full.values)
        url = f"{server.url}/plate.ome.zarr"
        row("plate of 24 wells", "ngff_xarray", lambda: xr.open_datatree(url))
        row("one field of it", "ngff_xarray", lambda: xr.open_datatree(url, group="B/3/1"))
        row("all 24 x 2 fields", "ngff_xarray", lambda: xr.open_datatree(url, wells="all"))
        row("all 24 x 2 fields", "zarr", lambda: plate_by_zarr(url))
        row("all 24 x 2 fields", "tensorstore", lambda: plate_by_tensorstore(url))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(Path(made), float(sys.argv[1]) / 1e3 if len(sys.argv) > 1 else 0.05)
