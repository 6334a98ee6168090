"""Scenes: several images in common coordinate systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stores.groups import consolidate, write_array, write_group
from stores.images import small, write_field, write_image
from stores.layouts import Version
from stores.multiscales import Json
from stores.pixels import Array


def write_scene(
    path: Path,
    *,
    images: Mapping[str, Mapping[str, Any]],
    transformations: Sequence[Json],
    systems: Sequence[Json] | None = None,
    parameters: Mapping[str, Array | Mapping[str, Any]] = {},
    version: Version = "0.6",
    ome: Json | None = None,
    attributes: Json | None = None,
    stated: str | None = None,
    consolidated: bool = False,
) -> Path:
    """Path of a new scene, whose images have different pixels.

    Parameters
    ----------
    path
        Folder to write.
    images
        Keyword arguments of `write_image` by path; if ``axes`` are left out they are c, y, x of
        size 2, 32, 40. There are two levels.
    transformations
        ``coordinateTransformations`` of the scene, as they are to be written.
    systems
        ``coordinateSystems`` of the scene, as they are to be written; none if None.
    parameters
        What transformations refer to by path: the values of an array, or keyword arguments of
        `write_field`.
    version
        OME-Zarr version.
    ome, attributes, stated, consolidated
        As of `write_image`, for the group of the scene; `stated` goes for all of it.
    """
    scene = {
        **({} if systems is None else {"coordinateSystems": list(systems)}),
        "coordinateTransformations": list(transformations),
    }
    write_group(
        path,
        version=version,
        ome={"scene": scene, **(ome or {})},
        attributes=attributes,
        stated=stated,
    )
    for seed, (name, image) in enumerate(images.items()):
        keywords = small({"seed": seed, **image})
        write_image(path / name, **{"version": version, "stated": stated, **keywords})
    for name, parameter in parameters.items():
        if isinstance(parameter, np.ndarray):
            write_array(path / name, parameter, version=version)
        else:
            write_field(path / name, **{"version": version, "stated": stated, **parameter})
    if consolidated:
        consolidate(path)
    return path
