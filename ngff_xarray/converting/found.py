"""What a reader finds in a file: images as they are described there, and what they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from xml.etree.ElementTree import Element

from ngff_xarray.errors import Issue
from ngff_xarray.model import Channel

Layout = Literal["image", "collection", "plate"]
Size = tuple[float, str | None]
"""A length or time, and the specification's name of its unit or None for pixels."""


@dataclass(frozen=True)
class Original:
    """What a file says of itself, as text.

    Parameters
    ----------
    format
        What the text is: ``"OME-XML"``, ``"ImageJ"``, …
    text
        All of it.
    """

    format: str
    text: str


@dataclass(frozen=True)
class Scan:
    """One image.

    Parameters
    ----------
    axes
        The names of the dimensions, in the order of the arrays: t, c, z, y, x or other ones.
    levels
        Its pixels at each resolution that there is, the finest first: arrays of numpy or dask, or
        what xarray indexes lazily.
    name
        That of the image.
    sizes
        The distance of pixels, by axis; axes that are left out are counted in pixels.
    origins
        Where the first pixel is, in the units of the sizes.
    channels
        Their names, colours and windows, as far as they are known.
    issues
        What was odd, and how it was read.
    dropped
        What there is in the file that the tree does not have.
    is_labels
        Whether the pixels are labels.
    attributes
        Of the group of the image, beside OME's.
    ome
        What else is said of the image: ``coordinateSystems``, ….
    steps
        Of each level, by axis: how many pixels of the finest one a pixel is long, and where among
        them the first one's centre is. By default the shapes tell.
    labels
        Its label images by name.
    shapes
        Regions of interest, as OME-XML has them.
    """

    axes: Sequence[str]
    levels: Sequence[Any]
    name: str | None = None
    sizes: Mapping[str, Size] = field(default_factory=dict)
    origins: Mapping[str, float] = field(default_factory=dict)
    channels: Sequence[Channel] = ()
    issues: Sequence[Issue] = ()
    dropped: Sequence[str] = ()
    is_labels: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)
    ome: Mapping[str, Any] = field(default_factory=dict)
    steps: Sequence[Mapping[str, tuple[float, float]]] = ()
    labels: Mapping[str, Scan] = field(default_factory=dict)
    shapes: Sequence[Element] = ()


@dataclass(frozen=True)
class Found:
    """All that a reader found.

    Parameters
    ----------
    format
        What the file is, in words.
    images
        By path: that in a collection, or well and field (``"B/3/0"``) on a plate. Each is a tree,
        or is described when it is asked for.
    layout
        What the images are together. An image stands alone.
    original
        The file's own metadata.
    name
        Of the plate.
    rows, columns
        Of the plate, where it names more than have images.
    acquisitions
        Of the plate: a number by field.
    dropped
        What there is in the file that no image has.
    files
        The paths of other files that belong to it.
    """

    format: str
    images: Mapping[str, Callable[[], Any]]
    layout: Layout = "image"
    original: Original | None = None
    name: str | None = None
    rows: Sequence[str] | None = None
    columns: Sequence[str] | None = None
    acquisitions: Mapping[str, int] | None = None
    dropped: Sequence[str] = ()
    files: Sequence[str] = ()
