"""What a reader tells of a store, in one form: printed by the scripts here, compared by the tests.

It is imported in the environment of every reader: it needs nothing but numpy.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Json = dict[str, Any]


def level(pixels: Any, scale: Iterable[float], translation: Iterable[float] | None) -> Json:
    """One level: its voxels as a digest of their bytes in C order, little endian."""
    pixels = np.asarray(pixels)
    plain = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return {
        "shape": list(pixels.shape),
        "dtype": pixels.dtype.name,
        "voxels": hashlib.sha256(plain.tobytes()).hexdigest(),
        "scale": [float(each) for each in scale],
        "translation": None if translation is None else [float(each) for each in translation],
    }


def image(
    axes: Iterable[Sequence[Any]],
    levels: Iterable[Json],
    channels: Iterable[Sequence[Any]] | None = None,
    labels: Mapping[str, Json] | None = None,
) -> Json:
    """An image: its axes with their units, channels with their colours, and label images."""
    return {
        "axes": [list(each) for each in axes],
        "levels": list(levels),
        "channels": None if channels is None else [list(each) for each in channels],
        "labels": None if labels is None else dict(labels),
    }


def label(found: Json, finest: Any) -> Json:
    """A label image: which ids it has, and neither channels nor labels."""
    ids = [int(each) for each in np.unique(np.asarray(finest))]
    return {"axes": found["axes"], "levels": found["levels"], "ids": ids}


def tell(read_image: Callable[[Path], Json], read_plate: Callable[[Path], Json]) -> None:
    """Print what is read of every store that the command names, or why it cannot be."""
    found = {}
    for path in map(Path, sys.argv[1:]):
        read = read_plate if path.name.startswith("plate") else read_image
        try:
            found[path.name] = read(path)
        except Exception as error:
            found[path.name] = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(found))


# ---- for readers of arrays, which leave the metadata of OME to who calls them --------------------


def attributes(document: Json) -> Json:
    """What is OME's in the attributes of a group, of Zarr v2 or v3."""
    return document.get("ome", document)


def geometry(ome: Json) -> tuple[list[list[Any]], list[tuple[str, list[float], list[float]]]]:
    """Axes with units, and of every level its path, scale and translation."""
    multiscale = ome["multiscales"][0]
    axes = multiscale.get("axes") or multiscale["coordinateSystems"][0]["axes"]
    levels = []
    for dataset in multiscale["datasets"]:
        steps = dataset["coordinateTransformations"]
        steps = steps[0].get("transformations", steps)
        said = {step["type"]: step[step["type"]] for step in steps}
        levels.append((dataset["path"], said["scale"], said.get("translation", [0.0] * len(axes))))
    return [[axis["name"], axis.get("unit")] for axis in axes], levels


def channels(ome: Json) -> list[list[str]] | None:
    """Names and colours."""
    said = ome.get("omero")
    return said and [[each["label"], each["color"]] for each in said["channels"]]


def document(path: Path) -> Json:
    """What is OME's in the attributes of a group, from its file."""
    for name in ("zarr.json", ".zattrs"):
        if (path / name).exists():
            found = json.loads((path / name).read_text(encoding="utf-8"))
            return attributes(found.get("attributes", found))
    return {}


def by_fields(
    path: Path,
    read_image: Callable[[Path], Json],
    read_document: Callable[[Path], Json] = document,
) -> Json:
    """A plate: every field of every well, by their paths."""
    wells = {}
    for well in [each["path"] for each in read_document(path)["plate"]["wells"]]:
        names = [each["path"] for each in read_document(path / well)["well"]["images"]]
        wells[well] = {name: read_image(path / well / name) for name in names}
    return {"wells": wells}


def by_hand(
    read_attributes: Callable[[Path], Json | None], read_array: Callable[[Path], Any]
) -> tuple[Callable[[Path], Json], Callable[[Path], Json]]:
    """How images and plates are read by who has a way to read attributes, and one for arrays."""

    def ome(path: Path) -> Json:
        return attributes(read_attributes(path) or {})

    def read_one(path: Path) -> Json:
        said = ome(path)
        axes, levels = geometry(said)
        read = (level(read_array(path / below), *rest) for below, *rest in levels)
        return image(axes, read, channels(said), {})

    def read_image(path: Path) -> Json:
        found = read_one(path)
        for name in ome(path / "labels").get("labels", []):
            below = path / "labels" / name
            finest = read_array(below / geometry(ome(below))[1][0][0])
            found["labels"][name] = label(read_one(below), finest)
        return found

    return read_image, lambda path: by_fields(path, read_image, ome)
