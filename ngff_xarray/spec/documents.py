"""Where the OME document of a group stands, and what each kind of document is read as.

Until 0.4 the keys stand among the group's other attributes, from 0.5 on below the key ``ome``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ngff_xarray.errors import UnsupportedError
from ngff_xarray.model import Collection, Fields, Image, Json, Multiscale, Plate, Scene
from ngff_xarray.spec import collections, hcs, image_label, rules
from ngff_xarray.spec.report import Report, shown

Content = Image | Plate | Fields | Collection | Scene
Reader = Callable[..., Content]
Writer = Callable[[Content], dict[str, Any]]

# whose attributes these are when they stand beside the ones that tell the kind of the group
_FLAT_KEYS: Mapping[str, frozenset[str]] = {
    "image": frozenset({"multiscales", "omero", "image-label", "_creator"}),
    "label": frozenset({"multiscales", "omero", "image-label", "_creator"}),
    "plate": frozenset({"plate", collections.LAYOUT, "_creator"}),
    "well": frozenset({"well", "_creator"}),
    "collection": frozenset({collections.LAYOUT, "_creator"}),
    "series": frozenset({"series", "_creator"}),
    "labels group": frozenset({"labels", "_creator"}),
}


def split_flat(attributes: Json, kind: str) -> tuple[Json, dict[str, Any]]:
    """Return what of a group's attributes is OME's, and the rest (until 0.4)."""
    keys = _FLAT_KEYS.get(kind, frozenset())
    document = {key: value for key, value in attributes.items() if key in keys}
    return document, {key: value for key, value in attributes.items() if key not in keys}


def split_namespaced(attributes: Json, kind: str) -> tuple[Json, dict[str, Any]]:
    """Return what of a group's attributes is OME's, and the rest (from 0.5 on).

    Where there is no object under ``ome``, the keys are looked for beside it.
    """
    found = attributes.get("ome")
    if not isinstance(found, dict):
        return split_flat(attributes, kind)
    return found, {key: value for key, value in attributes.items() if key != "ome"}


def without(document: Json, *keys: str) -> dict[str, Any]:
    """Return what stands in a document beside its version and the keys given."""
    return {k: v for k, v in document.items() if k not in keys and k != "version"}


def group_readers(
    *,
    read_image: Reader,
    well_names: re.Pattern[str],
    plate: hcs.PlateForm,
    well_version: str | None,
) -> dict[str, Reader]:
    """Return the readers of all that every version has."""

    def read_label(document: Json, report: Report) -> Content:
        if "multiscales" in document:
            if "image-label" not in document:
                # from 0.5 on the schema wants it
                complain = report.error if well_version is None else report.warn
                complain("image-label", rules.IMAGE_LABEL, "is missing")
            return read_image(document, report)
        found = "is missing: this is only a part of the metadata of a label image"
        report.warn("multiscales", rules.LABEL_MULTISCALES, found)
        value = document.get("image-label")
        if not isinstance(value, dict):
            report.stop("image-label", rules.IMAGE_LABEL, f"expected an object: {shown(value)}")
        return Image(Multiscale((), ()), None, image_label.check(value, well_version, report))

    return {
        "image": read_image,
        "label": read_label,
        "plate": lambda document, report: hcs.read_plate(
            document.get("plate"), plate, without(document, "plate"), report
        ),
        "well": lambda document, report: hcs.read_well(
            document.get("well"), well_version, well_names, without(document, "well"), report
        ),
        "collection": collections.read_layout,
        "series": collections.read_series,
        "labels group": collections.read_labels,
    }


def write_group(content: Content) -> dict[str, Any]:
    """Return the OME document of anything but images and scenes, from 0.4 on."""
    if isinstance(content, Plate):
        return {**content.extra, "plate": hcs.write_plate(content)}
    if isinstance(content, Fields):
        return {**content.extra, "well": dict(content.document)}
    if isinstance(content, Collection):
        return without(content.document)
    raise UnsupportedError(
        f"a {type(content).__name__.lower()} cannot be written in this version: write version 0.6"
    )
