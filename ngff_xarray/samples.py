"""Real microscopy images to start with, out of scikit-image's wheel: nothing is downloaded."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import write
from ngff_xarray.errors import MissingDependencyError, SelectionError, StoreError
from ngff_xarray.urls import is_url

SampleName = Literal["cell", "retina", "histology"]

_EDITION = 2  # counts up when what is written changes, so that caches are renewed
_SMALLEST = 128  # the coarsest level's longest side
_CHUNKS = {"c": 1, "y": 256, "x": 256}


def sample(name: SampleName = "cell", path: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of a built-in image as OME-Zarr 0.5; it is written the first time.

    Parameters
    ----------
    name
        ``"cell"``: a cell in saline by quantitative phase microscopy, 660 x 550 pixels of
        0.107 µm, with a label image of the cell. ``"retina"``: the fundus of an eye, 1411 x 1411
        in colour. ``"histology"``: an immunohistochemical stain, 512 x 512 in colour. The last
        two come without a pixel size, as they were published.
    path
        Where to write it; by default in the user's cache directory.

    Raises
    ------
    SelectionError
        If there is no sample of that name.
    MissingDependencyError
        If scikit-image is not installed.
    StoreError
        If something else is in the way.

    Examples
    --------
    >>> import xarray as xr
    >>> image = xr.open_datatree(sample("cell"))
    >>> print(image.ngff.pixel_size["x"])
    0.107 micrometer
    """
    if name not in _SAMPLES:
        raise SelectionError(f"there is no sample {name!r}; there are {', '.join(_SAMPLES)}")
    target = Path(path).expanduser() if path is not None else _cache() / f"{name}.ome.zarr"
    if path is not None and is_url(os.fspath(path)):
        raise StoreError(f"samples are written to local paths, found {path}")
    if _is_sample(target, _SAMPLES[name]):
        return target
    if target.exists():
        raise StoreError(f"{target} exists and is not the sample {name!r}: give another path")
    _write(_SAMPLES[name], target)
    return target


def _is_sample(target: Path, recipe: _Sample) -> bool:
    """Tell whether the sample was written before: its metadata come last."""
    try:
        document = json.loads((target / "zarr.json").read_bytes())
        return bool(document["attributes"]["ome"]["multiscales"][0]["name"] == recipe.name)
    except (OSError, ValueError, LookupError, TypeError):
        return False


@dataclass(frozen=True, slots=True)
class _Sample:
    """How to make an image: pixels (c, y, x), channels, and what is known of its geometry."""

    name: str
    load: Callable[[Any], NDArray[Any]]
    channels: Sequence[tuple[str, str]]
    pixel_size: float | None = None
    segment: Callable[[NDArray[Any]], NDArray[np.uint16]] | None = None
    label_name: str = ""


def _cache() -> Path:
    try:
        import platformdirs
    except ImportError as error:
        raise MissingDependencyError("platformdirs", "sample", "sample()") from error
    return platformdirs.user_cache_path("ngff-xarray") / f"samples-{_EDITION}"


def _write(recipe: _Sample, target: Path) -> None:
    """Write to a sibling and rename it: a killed process leaves no half of an image."""
    try:
        import skimage.data
    except ImportError as error:
        raise MissingDependencyError("scikit-image", "sample", "sample()") from error
    pixels = recipe.load(skimage.data)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        made = Path(folder) / target.name
        write.to_zarr(_image(recipe, pixels), made, version="0.5", chunks=_CHUNKS, progress=False)
        try:
            made.rename(target)
        except OSError:
            # another process was faster
            if not _is_sample(target, recipe):
                raise
            shutil.rmtree(made)


def _image(recipe: _Sample, pixels: NDArray[Any]) -> xr.DataTree:
    """Return the image and its label image, with pyramids."""
    ome = {"name": recipe.name, "omero": _omero(recipe, pixels)}
    tree = _array(recipe, "image", pixels, ome).ngff.pyramid(smallest=_SMALLEST)
    if recipe.segment is not None:
        labels = recipe.segment(pixels[0])
        said = {"name": recipe.label_name, "image-label": _image_label(recipe, labels)}
        below = _array(recipe, "labels", labels, said).ngff.pyramid(smallest=_SMALLEST)
        tree[f"labels/{recipe.label_name}"] = below
    found: xr.DataTree = tree
    return found


def _array(recipe: _Sample, name: str, pixels: NDArray[Any], ome: dict[str, Any]) -> Any:
    size, dims = recipe.pixel_size or 1.0, ("c", "y", "x")[-pixels.ndim :]
    attrs = {"pixel_size": size, **({"units": "micrometer"} if recipe.pixel_size else {})}
    coords = {
        dim: (dim, size * np.arange(n), attrs)
        for dim, n in zip(dims, pixels.shape, strict=True)
        if dim != "c"
    }
    return xr.DataArray(pixels, coords, dims, name, {"ome": ome})


def _image_label(recipe: _Sample, labels: NDArray[Any]) -> dict[str, Any]:
    area = (recipe.pixel_size or 1.0) ** 2
    return {
        "colors": [{"label-value": 1, "rgba": [255, 176, 0, 255]}],
        "properties": [
            {"label-value": int(value), "area": float(np.round(count * area, 3))}
            for value, count in zip(*np.unique(labels, return_counts=True), strict=True)
            if value
        ],
        "source": {"image": "../../"},
    }


def _omero(recipe: _Sample, pixels: NDArray[Any]) -> dict[str, Any]:
    model = "color" if len(recipe.channels) > 1 else "greyscale"
    return {
        "channels": [
            {
                "label": label,
                "color": color,
                "active": True,
                "window": {"min": 0, "max": 255, **_range(recipe, plane)},
            }
            for (label, color), plane in zip(recipe.channels, pixels, strict=True)
        ],
        "rdefs": {"model": model},
    }


def _range(recipe: _Sample, plane: NDArray[Any]) -> dict[str, int]:
    if len(recipe.channels) > 1:  # true colour: all channels alike
        return {"start": 0, "end": 255}
    return {"start": int(plane.min()), "end": int(plane.max())}


def _segment_cell(plane: NDArray[Any]) -> NDArray[np.uint16]:
    """Return label 1 where the smoothed phase is over Otsu's threshold, in one piece."""
    from skimage import filters, measure

    smooth = filters.gaussian(plane, 2)
    pieces = measure.label(smooth > filters.threshold_otsu(smooth))
    largest = 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    cell: NDArray[np.uint16] = np.equal(pieces, largest).astype(np.uint16)
    return cell


_COLOR = (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))
_SAMPLES: Mapping[str, _Sample] = {
    "cell": _Sample(
        name="cell",
        load=lambda data: data.cell()[None],
        channels=(("phase", "FFFFFF"),),
        pixel_size=0.107,  # documented in skimage.data.cell
        segment=_segment_cell,
        label_name="cell",
    ),
    "retina": _Sample("retina", lambda data: np.moveaxis(data.retina(), -1, 0), _COLOR),
    "histology": _Sample(
        "histology", lambda data: np.moveaxis(data.immunohistochemistry(), -1, 0), _COLOR
    ),
}
