"""What an image is, as a document for other programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import xarray as xr

from ngff_xarray import groups, image
from ngff_xarray.urls import without_secrets


def facts(tree: xr.DataTree) -> dict[str, Any]:
    """Return what an image or a group of images is.

    Examples
    --------
    >>> from ngff_xarray import sample
    >>> found = facts(xr.open_datatree(sample("cell")))
    >>> found["kind"], found["axes"][-1]["pixel_size"], found["labels"]
    ('image', 0.107, ['cell'])
    """
    source = tree.encoding.get("source")
    return {
        "kind": image.kind(tree),
        "name": image.name(tree),
        "source": None if source is None else without_secrets(str(source)),
        "version": image.version(tree),
        **(_of_image(tree) if image.group_kind(tree) is None else _of_group(tree)),
        "issues": [asdict(issue) for issue in image.issues(tree)],
    }


def _of_image(tree: xr.DataTree) -> dict[str, Any]:
    sizes, named = image.pixel_sizes(tree), image.unit_texts(tree)
    return {
        "axes": [
            {
                "name": axis.name,
                "type": axis.type,
                "unit": named.get(axis.name),
                "pixel_size": sizes.get(axis.name),
            }
            for axis in image.axes(tree)
        ],
        "levels": [
            {
                "path": path,
                "shape": list(array.shape),
                "dtype": str(array.dtype),
                "chunks": list(array.encoding.get("chunks") or []) or None,
                "shards": list(array.encoding.get("shards") or []) or None,
            }
            for path, array in zip(image.level_paths(tree), image.levels(tree), strict=True)
        ],
        "channels": [
            {
                "name": channel.name,
                "color": channel.color,
                "window": channel.window and [channel.window.start, channel.window.end],
                "active": channel.active,
            }
            for channel in (image.channels(tree) if image.kind(tree) == "image" else ())
        ],
        "labels": list(image.label_images(tree)),
    }


def _of_group(tree: xr.DataTree) -> dict[str, Any]:
    if image.group_kind(tree) != "plate":
        return {"images": list(groups.images(tree))}
    plate = groups.plate(tree)
    return {
        "rows": list(plate.rows),
        "columns": list(plate.columns),
        "wells": [well.path for well in plate.wells],
    }
