"""Series of images as bioformats2raw writes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import zarr

from stores.groups import consolidate, document, write_group
from stores.images import small, write_image
from stores.layouts import LAYOUTS, Version
from stores.multiscales import Json

_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_PIXEL_TYPES = {"float32": "float", "float64": "double"}


def write_series(
    path: Path,
    *,
    version: Version = "0.5",
    count: int = 3,
    listed: bool = True,
    series: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    xml: bool | str = True,
    image: Mapping[str, Any] = {},
    missing: Collection[str] = (),
    ome: Json | None = None,
    attributes: Json | None = None,
    stated: str | None = None,
    consolidated: bool = False,
) -> Path:
    """Path of a group of images in the layout of bioformats2raw.

    The images are ``"0"``, ``"1"``, … and have different pixels. Up to 0.4 the group has no
    version.

    Parameters
    ----------
    path
        Folder to write.
    version
        OME-Zarr version.
    count
        Number of images, the missing ones included.
    listed
        Whether the group ``OME`` has ``series``; without them and without `xml` there is no
        ``OME``.
    series
        Paths of the images in the order of ``series`` and of the XML; by number if None.
    names
        Names of the images in the XML, in that order; ``"image 0"``, … if None.
    xml
        Whether to write ``OME/METADATA.ome.xml``, or its text.
    image
        Keyword arguments of `write_image` for the images; if ``axes`` are left out they are c, y,
        x of size 2, 32, 40. There are two levels.
    missing
        Images that are listed and not written.
    ome, attributes, stated, consolidated
        As of `write_image`, for the group that holds the images; `stated` goes for all of it.
    """
    keywords = small(image)
    paths = [str(n) for n in range(count)]
    order = paths if series is None else series
    write_group(
        path,
        version=version,
        ome={"bioformats2raw.layout": 3, **(ome or {})},
        attributes=attributes,
        stated=stated,
    )
    written = [
        write_image(path / name, version=version, stated=stated, **{"seed": seed, **keywords})
        for seed, name in enumerate(paths)
        if name not in missing
    ]
    if listed or xml:
        entries = {"series": list(order)} if listed else None
        write_group(path / "OME", version=version, ome=entries, stated=stated)
    if xml:
        titles = [f"image {name}" for name in order] if names is None else names
        axes = LAYOUTS[version].axes or _axis_names(keywords["axes"])
        first = _first_level(written[0]) if written else np.empty([1] * len(axes), "uint16")
        text = xml if isinstance(xml, str) else _ome_xml(titles, axes, first)
        (path / "OME" / "METADATA.ome.xml").write_text(text, encoding="utf-8")
    if consolidated:
        consolidate(path)
    return path


def _axis_names(axes: str | Sequence[Json]) -> list[str]:
    return [axis if isinstance(axis, str) else axis["name"] for axis in axes]


def _first_level(image: Path) -> Any:
    (multiscale,) = document(image)["multiscales"]
    return zarr.open_array(image / multiscale["datasets"][0]["path"], mode="r")


def _ome_xml(names: Sequence[str], axes: Sequence[str], array: Any) -> str:
    """OME-XML of images that are all as large as `array`, without their pixels."""
    sizes = dict(zip(axes, array.shape, strict=True))
    root = ElementTree.Element("OME", {"xmlns": _NAMESPACE})
    for n, name in enumerate(names):
        image = ElementTree.SubElement(root, "Image", {"ID": f"Image:{n}", "Name": name})
        pixels = ElementTree.SubElement(
            image,
            "Pixels",
            {
                "ID": f"Pixels:{n}",
                "DimensionOrder": "XYZCT",
                "Type": _PIXEL_TYPES.get(str(array.dtype), str(array.dtype)),
                **{f"Size{axis.upper()}": str(sizes.get(axis, 1)) for axis in "xyzct"},
            },
        )
        for channel in range(sizes.get("c", 1)):
            attributes = {"ID": f"Channel:{n}:{channel}", "SamplesPerPixel": "1"}
            ElementTree.SubElement(pixels, "Channel", attributes)
        ElementTree.SubElement(pixels, "MetadataOnly")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)
