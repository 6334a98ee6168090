"""napari: our layers of each store, those of napari-ome-zarr, and what is drawn with ours."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from napari_ome_zarr import napari_get_reader

sys.path.insert(0, str(Path(__file__).parents[1]))
from servers import CountingServer

Json = dict[str, Any]


def floats(values: Any) -> Any:
    return np.round(np.asarray(values, float), 12).tolist()


def describe(layer: Layer) -> Json:
    levels = layer.data if layer.multiscale else [layer.data]
    said: Json = {
        "kind": type(layer).__name__,
        "name": layer.name,
        "scale": floats(layer.scale),
        "translate": floats(layer.translate),
        "affine": floats(layer.affine.affine_matrix),
        "units": [str(unit) for unit in layer.units],
        "axes": list(layer.axis_labels),
        "voxels": [
            hashlib.sha256(np.ascontiguousarray(level).tobytes()).hexdigest() for level in levels
        ],
    }
    if isinstance(layer, Image):
        said["limits"] = floats(layer.contrast_limits)
        said["colors"] = floats(layer.colormap.colors[[0, -1]])
        said["visible"] = bool(layer.visible)
    if isinstance(layer, Labels):
        ids = [int(each) for each in np.unique(np.asarray(levels[0]))]
        said["colors"] = {str(i): floats(layer.colormap.map(np.array([i]))[0]) for i in ids}
        table = layer.features
        index = next((name for name in ("index", "label_value") if name in table), None)
        said["areas"] = (
            None
            if index is None
            else dict(zip(map(str, table[index]), map(float, table["area"]), strict=True))
        )
    return said


def drawn(layers: list[Layer], index: tuple[int, ...]) -> np.ndarray:
    """What napari adds up at one plane of the finest level, 0 to 1."""
    total: Any = 0
    for layer in layers:
        if isinstance(layer, Image) and layer.visible:
            finest = layer.data[0] if layer.multiscale else layer.data
            plane = np.asarray(finest[index], float)
            low, high = layer.contrast_limits
            value = np.clip((plane - low) / (high - low), 0, 1) ** layer.gamma
            total = total + layer.colormap.map(value.ravel()).reshape(*plane.shape, 4)[..., :3]
    return np.clip(total, 0, 1)


def theirs_of(path: Path) -> list[Layer]:
    kinds = {"image": Image, "labels": Labels}
    reader = napari_get_reader(str(path))
    return [kinds[kind](data, **arguments) for data, arguments, kind in reader(str(path))]


def read_scene(tree: xr.DataTree, path: Path) -> Json:
    """Where two pixels of every layer lie in the world."""
    return {
        whose: [floats([layer.data_to_world(at) for at in ((0, 0), (3, 5))]) for layer in layers]
        for whose, layers in (("ours", tree.ngff.to_napari()), ("theirs", theirs_of(path)))
    }


def read(path: Path) -> Json:
    tree = xr.open_datatree(path)
    if tree.ngff.kind == "scene":
        return read_scene(tree, path)
    ours = tree.ngff.to_napari()
    theirs = theirs_of(path)
    space = [dim for dim in ours[0].axis_labels if dim not in ("y", "x")]
    middle = {dim: tree.ngff.levels[0].sizes[dim] // 2 for dim in space}
    at = {dim: float(tree.ngff.levels[0][dim][i]) for dim, i in middle.items()}
    picture = tree.ngff.rgb(level=0, **at).values / 255
    difference = np.abs(drawn(ours, tuple(middle.values())) - picture).max()
    with CountingServer(path.parent) as server:
        remote = xr.open_datatree(f"{server.url}/{path.name}", engine="ngff")
        server.clear()
        layers = remote.ngff.to_napari()
        viewer = ViewerModel()
        viewer.layers.extend(layers)
        requests = [request.path for request in server.requests]
    return {
        "ours": [describe(layer) for layer in ours],
        "theirs": [describe(layer) for layer in theirs],
        "difference": float(difference),
        "ndim": viewer.dims.ndim,
        "requests": requests,
    }


print(json.dumps({Path(path).name: read(Path(path)) for path in sys.argv[1:]}))
