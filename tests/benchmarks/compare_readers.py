"""What each way to open an OME-Zarr gives: the facts behind the table in the README.

Run it as ``python tests/benchmarks/compare_readers.py NAME=PYTHON …``, with the names of
`OPENERS` and interpreters that have them (``tests/readers/install DIR`` makes most); ngff_xarray,
and zarr with xarray, are asked in this environment. For each way it prints its version, of which
versions of OME-Zarr it gives all pixels of all levels, of which type an image is, the last places
along x of the second level (pixels of 0.4 µm, the last centre at 50.9), which labels it finds, what
a plate is, and how many requests in how many round trips open an image of 5 levels with 2 labels of
as many over HTTP (0.5, not consolidated, 20 ms a request).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

VERSIONS = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6")
LABELS = ("cells", "nuclei")
PIXEL = 0.2  # µm, in x and y


class Opened:
    """What came of a source: the object, its levels, places along x, and names of labels."""

    def __init__(self, obj: Any, levels: list[Any], x: Any = None, labels: Any = None) -> None:
        self.obj = obj
        self.levels = levels
        self.x = x
        self.labels = labels


def by_ngff_xarray(source: str) -> Opened:
    import xarray as xr

    tree = xr.open_datatree(source)
    if tree.ngff.kind == "plate":
        return Opened(tree, [])
    levels = tree.ngff.levels
    return Opened(tree, list(levels), levels[1].x.values, list(tree.ngff.labels))


def by_ome_zarr(source: str) -> Opened:
    from ome_zarr import OMEZarrMultiscale

    found = OMEZarrMultiscale.from_ome_zarr(source)
    return Opened(found, [each.data for each in found.images], None, list(found.labels or {}))


def by_ngff_zarr(source: str) -> Opened:
    import ngff_zarr

    if "plate" in source:
        return Opened(ngff_zarr.from_hcs_zarr(source), [])
    found = ngff_zarr.from_ome_zarr(source)
    return Opened(found, [each.data for each in found.images])


def by_multiscale_spatial_image(source: str) -> Opened:
    import multiscale_spatial_image  # noqa: F401  # registers .msi
    import xarray as xr

    tree = xr.open_datatree(source, engine="zarr")  # it has no reader of its own
    return Opened(tree, [node["image"] for node in tree.children.values()])


def by_spatialdata(source: str) -> Opened:
    import spatialdata

    found = spatialdata.read_zarr(source)
    levels = [node["image"] for image in found.images.values() for node in image.children.values()]
    return Opened(found, levels)


def by_napari_ome_zarr(source: str) -> Opened:
    import numpy as np
    from napari_ome_zarr import napari_get_reader

    reader = napari_get_reader(source)
    layers = reader(source) if reader else []
    if not layers:
        raise ValueError("no reader")
    labels = [each[1].get("name") for each in layers if each[2] == "labels"]
    channels = [each[0] for each in layers if each[2] == "image"]  # a layer each
    return Opened(layers, [np.stack(level) for level in zip(*channels, strict=True)], None, labels)


def by_bioio(source: str) -> Opened:
    import bioio_ome_zarr
    from bioio import BioImage

    found = BioImage(source, reader=bioio_ome_zarr.Reader)
    levels = []
    x = None
    for number in found.resolution_levels:
        found.set_resolution_level(number)
        array = found.reader.xarray_dask_data
        levels.append(array)
        if number == 1:
            x = array.coords["X"].values if "X" in array.coords else None
    return Opened(found, levels, x)


def by_zarr(source: str) -> Opened:
    import zarr

    group = zarr.open_group(source, mode="r")
    ome = group.attrs.get("ome", group.attrs)
    if "plate" in ome:
        return Opened(group, [])
    levels = [group[each["path"]] for each in ome["multiscales"][0]["datasets"]]
    return Opened(group, levels)


def by_xarray(source: str) -> Opened:
    import xarray as xr

    tree = xr.open_datatree(source, engine="zarr")
    return Opened(tree, [array for node in tree.leaves for array in node.data_vars.values()])


OPENERS: dict[str, tuple[str, Callable[[str], Opened]]] = {
    "ngff_xarray": ("ngff-xarray", by_ngff_xarray),
    "ome-zarr": ("ome-zarr", by_ome_zarr),
    "ngff-zarr": ("ngff-zarr", by_ngff_zarr),
    "multiscale-spatial-image": ("multiscale-spatial-image", by_multiscale_spatial_image),
    "spatialdata": ("spatialdata", by_spatialdata),
    "napari-ome-zarr": ("napari-ome-zarr", by_napari_ome_zarr),
    "bioio": ("bioio-ome-zarr", by_bioio),
    "zarr": ("zarr", by_zarr),
    "xarray": ("xarray", by_xarray),
}
HERE = ("ngff_xarray", "zarr", "xarray")


def tell(name: str, source: str) -> None:
    """Open a source, and print what came of it."""
    import numpy as np

    package, opener = OPENERS[name]
    told: dict[str, Any] = {"version": version(package)}
    try:
        found = opener(source)
        told["type"] = f"{type(found.obj).__module__.split('.')[0]}.{type(found.obj).__name__}"
        told["level"] = type(found.levels[0]).__name__ if found.levels else None
        told["x"] = None if found.x is None else [round(float(x), 4) for x in found.x[-4:]]
        told["labels"] = found.labels
        if not source.startswith("http"):
            told["sums"] = [int(np.asarray(each, "int64").sum()) for each in found.levels]
            told["shapes"] = [sorted(n for n in each.shape if n > 1) for each in found.levels]
    except Exception as error:
        told["error"] = f"{type(error).__name__}: {error}"[:300]
    print("TOLD " + json.dumps(told))


def ask(python: str, name: str, source: str) -> dict[str, Any]:
    """Open a source in a process of another environment."""
    done = subprocess.run(
        [python, __file__, "--tell", name, source], capture_output=True, text=True, check=False
    )
    told = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    return json.loads(told[-1][5:]) if told else {"error": done.stderr[-300:]}


def main(peers: dict[str, str]) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from servers import CountingServer
    from stores import write_image, write_plate

    with tempfile.TemporaryDirectory() as made, CountingServer(Path(made), 0.02) as server:
        folder = Path(made)
        for each in VERSIONS:
            write_image(
                folder / f"image-{each}.ome.zarr",
                version=each,
                axes="czyx",
                shape=(2, 4, 256, 256),
                scale=(1, 0.5, PIXEL, PIXEL),
                levels=5,
                labels={label: {} for label in LABELS},
            )
        write_plate(folder / "plate.ome.zarr", image={"axes": "cyx", "shape": (1, 64, 64)})
        wanted = ask(sys.executable, "zarr", str(folder / "image-0.5.ome.zarr"))
        for name, python in {**dict.fromkeys(HERE, sys.executable), **peers}.items():
            read = {}
            for each in VERSIONS:
                read[each] = ask(python, name, str(folder / f"image-{each}.ome.zarr"))
            same = [v for v, told in read.items() if told.get("sums") == wanted["sums"]]
            told = read["0.5"]
            print(f"{name} {told.get('version')}: all pixels of {' '.join(same) or 'none'}")
            for each in VERSIONS:
                if each not in same:
                    print(f"    {each}: {read[each].get('error') or read[each].get('shapes')}")
            print(f"    an image is {told.get('type')}, a level {told.get('level')}")
            print(f"    x of level 1 ends with {told.get('x')}; labels {told.get('labels')}")
            plate = ask(python, name, str(folder / "plate.ome.zarr"))
            print(f"    a plate is {plate.get('type') or plate.get('error')}")
            server.clear()
            told = ask(python, name, f"{server.url}/image-0.5.ome.zarr")
            what = told.get("error") or f"labels {told.get('labels')}"
            print(f"    HTTP: {server.count} requests in {server.depth} trips; {what}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--tell"]:
        warnings.simplefilter("ignore")
        tell(*sys.argv[2:])
    else:
        main(dict(word.split("=", 1) for word in sys.argv[1:]))
