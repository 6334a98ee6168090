"""Label images with as many levels as their image, as OME-Zarr demands."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from ngff_xarray import image
from ngff_xarray.multiscale import multiscale


def labels_alongside(tree: xr.DataTree) -> xr.DataTree:
    """Return an image whose label images have as many levels as it has.

    Levels that labels have stay; those that they lack are made of their coarsest one.
    """
    labels = image.label_images(tree)
    levels = image.levels(tree)
    short = {
        path: each for path, each in labels.items() if len(image.level_paths(each)) != len(levels)
    }
    if not short:
        return tree
    made = tree.copy(deep=False)
    for path, each in short.items():
        made[f"labels/{path}"] = _of(each, levels)
    return made


def _of(label: xr.DataTree, levels: Sequence[xr.DataArray]) -> xr.DataTree:
    """Return a label image with as many levels as there are of an image."""
    paths = list(image.level_paths(label))
    made = label.copy(deep=False)
    for path in paths[len(levels) :]:
        del made[path]
    if len(paths) < len(levels):
        coarsest = image.levels(label)[-1]
        factors = [
            {str(dim): _factor(fine, coarse, str(dim)) for dim in coarsest.dims if dim in fine.dims}
            for fine, coarse in zip(levels[len(paths) - 1 :], levels[len(paths) :], strict=False)
        ]
        above = multiscale(coarsest, scale_factors=factors)
        for node, name in image.level_nodes(above)[1:]:
            dataset = node.to_dataset()
            dataset[name].attrs["ome"] = label.attrs["ome"]
            path = str(len(paths))
            made[path] = xr.DataTree(dataset)
            paths.append(path)
    made.encoding = {**label.encoding, "level_paths": tuple(paths[: len(levels)])}
    return made


def _factor(fine: xr.DataArray, coarse: xr.DataArray, dim: str) -> int:
    """Return how many pixels of a level become one of the next along an axis."""
    sizes = [image.pixel_sizes(each).get(dim, 1.0) for each in (fine, coarse)]
    return max(round(sizes[1] / sizes[0]), 1)
