"""What a conversion kept, and what not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import xarray as xr

from ngff_xarray import image, units, write
from ngff_xarray.converting.building import ORIGINAL
from ngff_xarray.errors import Issue
from ngff_xarray.text import printable


@dataclass(frozen=True)
class Conversion:
    """What `convert` did.

    Parameters
    ----------
    source, target
        From where, and where to.
    reader, format
        Who read it, and what it was.
    images
        The paths of the images that were written; ``""`` for one that stands alone.
    kept
        What of the file is in the store.
    dropped
        What is not, or only in the text of the original metadata.
    issues
        What was odd in the file, and how it was read.
    nbytes
        Of the pixels of the finest levels.
    resumed
        What was done with what a run that was killed had left; empty if there was nothing.
    rois
        By the path of an image its regions of interest, as GeoJSON in the units of its axes; they
        are not in the store.
    """

    source: str
    target: str
    reader: str
    format: str
    images: tuple[str, ...]
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    issues: tuple[Issue, ...]
    nbytes: int
    resumed: str = ""
    rois: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        head = f"{self.source} ({self.format}) -> {self.target}"
        lines = [head]
        if len(self.images) > 1:
            lines.append(f"  {len(self.images)} images")
        lines += [f"  {self.resumed}"] if self.resumed else []
        lines += [f"  kept: {each}" for each in self.kept]
        lines += [f"  dropped: {each}" for each in self.dropped]
        lines += [f"  {printable(issue, 300)}" for issue in self.issues]
        return "\n".join(lines)


def resumed(found: write.Resume) -> str:
    """Return what was done with what a run that was killed had left, in words.

    Examples
    --------
    >>> resumed(write.Resume(groups=2, parts=7))
    'gone on after a kill: 2 images and 7 parts of others were there'
    """
    if found.is_other:
        return (
            "started over: what a run that was killed had left is of another source, of other "
            "options, or cannot be told from that"
        )
    said = [f"{found.groups} images"] if found.groups else []
    said += [f"{found.parts} parts of {'others' if said else 'it'}"] if found.parts else []
    return f"gone on after a kill: {' and '.join(said)} were there" if said else ""


def kept(tree: xr.DataTree) -> list[str]:
    """Return what an image has that came out of its file, in words."""
    finest, *coarser = image.levels(tree)
    shape = " x ".join(f"{dim} {size}" for dim, size in finest.sizes.items())
    found = [f"pixels: {shape}, {finest.dtype}"]
    if coarser:
        found.append(f"levels: {1 + len(coarser)}")
    known = image.unit_texts(finest)
    sized = [
        f"{dim} {size:.6g} {units.symbol(unit)}"
        for dim, size in image.pixel_sizes(finest).items()
        if (unit := known.get(dim)) is not None
    ]
    if sized:
        found.append("pixel sizes: " + ", ".join(sized))
    moved = [dim for dim in image.pixel_sizes(finest) if known.get(dim) and _start(finest, dim)]
    if moved:
        found.append(f"positions: where the first pixel is along {', '.join(moved)}")
    found += _kept_channels(tree)
    labels = [printable(name, 40) for name in image.label_images(tree)]
    if labels:
        found.append("labels: " + ", ".join(labels[:10]) + (", …" if len(labels) > 10 else ""))
    original = tree.attrs.get(ORIGINAL)
    if original:
        found.append(f"original metadata: {original['format']}")
    return found


def _start(array: xr.DataArray, dim: str) -> bool:
    """Tell whether an axis does not begin at zero."""
    return dim in array.coords and float(array.coords[dim][0]) != 0


def _kept_channels(tree: xr.DataTree) -> list[str]:
    said: Any = image.ome(tree).get("omero")
    if not isinstance(said, dict):
        return []
    names = [printable(entry["label"], 40) for entry in said["channels"]]
    shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
    return [f"channels: {shown}"]


def together(per_image: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return what is said of several images, each thing once, with how many it is said of."""
    counts: dict[str, int] = {}
    for lines in per_image:
        for line in lines:
            counts[line] = counts.get(line, 0) + 1
    total = len(per_image)
    return tuple(
        line if count == total else f"{line} (in {count} of {total} images)"
        for line, count in counts.items()
    )
