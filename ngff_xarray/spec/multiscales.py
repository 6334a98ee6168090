"""The OME document of an image: ``multiscales``, ``omero`` and ``image-label``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ngff_xarray.errors import UnsupportedError
from ngff_xarray.model import Axis, Image, Json, Multiscale
from ngff_xarray.spec import image_label, levels, omero, rules
from ngff_xarray.spec.axes import (
    check_image_axes,
    default_axes,
    read_axes,
    read_names,
    write_axis,
)
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.values import repeated

KEYS = frozenset(
    {
        "axes",
        "coordinateSystems",
        "coordinateTransformations",
        "datasets",
        "metadata",
        "name",
        "type",
        "version",
    }
)
_IMAGE_KEYS = frozenset({"multiscales", "omero", "image-label", "version"})
MultiscaleReader = Callable[[Json, str, Report], Multiscale]


def read_image(
    document: Json,
    report: Report,
    read_multiscale: MultiscaleReader,
    *,
    version: str | None = None,
    number: int = 0,
) -> Image:
    """Return one image that an OME document describes.

    Parameters
    ----------
    document
        The object that holds ``multiscales``.
    report
        Takes what is wrong or odd.
    read_multiscale
        Reads an object of ``multiscales``.
    version
        The version that every object should state, None where only the document does.
    number
        Which of the objects is wanted; the others are kept as they are.

    Raises
    ------
    MetadataError
        If the image cannot be read from it.
    """
    entries = document.get("multiscales")
    if not isinstance(entries, list) or not entries:
        found = f"expected a list of at least one, found {shown(entries)}"
        report.stop("multiscales", rules.MULTISCALES, found)
    if not -len(entries) <= number < len(entries):
        found = f"holds {len(entries)} images, there is no number {number}"
        report.fail("multiscales", rules.MULTISCALES, found)
        number = 0
    if repeated(entries) is not None:
        report.error("multiscales", rules.MULTISCALES_UNIQUE, "holds an object twice")
    number %= len(entries)
    wanted = _read_entry(entries[number], number, read_multiscale, version, report)
    extra = {k: v for k, v in document.items() if k not in _IMAGE_KEYS}
    for key, rule in (("omero", rules.OMERO), ("image-label", rules.IMAGE_LABEL)):
        if key in document and not isinstance(document[key], dict):
            found = f"expected an object, found {shown(document[key])}; not used"
            report.error(key, rule, found)
            extra[key] = document[key]
    if len(entries) > 1:
        extra["multiscales"] = [entry for i, entry in enumerate(entries) if i != number]
        _check_others(entries, number, read_multiscale, version, report)
    image = Image(
        multiscale=wanted,
        omero=omero.check(document.get("omero"), report),
        image_label=image_label.check(document.get("image-label"), version, report),
        extra=extra,
    )
    report.check()
    return image


def _read_entry(
    entry: Any, number: int, reader: MultiscaleReader, version: str | None, report: Report
) -> Multiscale:
    where = f"multiscales[{number}]"
    if not isinstance(entry, dict):
        report.fail(where, rules.MULTISCALES, f"expected an object, found {shown(entry)}")
        return Multiscale((), ())
    if version is not None and "version" not in entry:
        report.warn(f"{where}.version", rules.VERSION_SHOULD, f"is missing; read as {version}")
    elif version is not None and entry["version"] != version:
        found = f"expected {version!r}, found {shown(entry['version'])}"
        report.error(f"{where}.version", rules.VERSION, found)
    _check_metadata(entry, where, version, report)
    read = reader(entry, where, report)
    if version is None and "version" in entry:  # it means nothing there, and is kept
        read = replace(read, extra={**read.extra, "version": entry["version"]})
    return read


def _check_metadata(entry: Json, where: str, version: str | None, report: Report) -> None:
    metadata = entry.get("metadata", {})
    complain = report.error if version == "0.1" else report.warn
    if not isinstance(metadata, dict):
        found = f"expected an object, found {shown(metadata)}"
        complain(f"{where}.metadata", rules.METADATA, found)
        return
    for key in ("method", "version") if version == "0.1" else ():
        if key in metadata and not isinstance(metadata[key], str):
            found = f"expected text, found {shown(metadata[key])}"
            complain(f"{where}.metadata.{key}", rules.METADATA, found)


def _check_others(
    entries: list[Any], number: int, reader: MultiscaleReader, version: str | None, report: Report
) -> None:
    """Check the other images of the group: their faults do not keep the wanted one from opening."""
    for i, entry in enumerate(entries):
        if i != number:
            other = Report(report.source, report.version)
            _read_entry(entry, i, reader, version, other)
            report.issues += [*other.issues, *other.faults]


def entry_text(entry: Json, key: str, where: str, report: Report) -> str | None:
    """Return an optional text; what is none is noted and written as text."""
    value = entry.get(key)
    if value is None and key not in entry:
        return None
    if isinstance(value, str):
        return value
    rule = rules.NAME_TEXT if key == "name" else rules.TYPE_TEXT
    complain = report.error if key == "name" else report.warn
    complain(f"{where}.{key}", rule, f"expected text, found {shown(value)}")
    return None if value is None else shown(value)


def read_unplaced(entry: Json, where: str, report: Report) -> Multiscale:
    """Return an image of version 0.1 or 0.2: five axes, and nothing of where it lies."""
    extra = {k: v for k, v in entry.items() if k not in KEYS}
    return _assembled(entry, where, default_axes(5), extra, report)


def read_named(entry: Json, where: str, report: Report) -> Multiscale:
    """Return an image of version 0.3: names of axes, and nothing of where it lies."""
    place = f"{where}.axes"
    if "axes" in entry:
        axes = read_names(entry["axes"], place, report)
    else:
        report.error(place, rules.AXES_STRINGS, "is missing; read as t, c, z, y, x")
        axes = default_axes(5)
    extra = {k: v for k, v in entry.items() if k not in KEYS}
    return _assembled(entry, where, axes, extra, report)


def _assembled(
    entry: Json, where: str, axes: tuple[Axis, ...], extra: dict[str, Any], report: Report
) -> Multiscale:
    return Multiscale(
        axes=axes,
        levels=levels.read_unplaced(entry.get("datasets"), f"{where}.datasets", report),
        name=entry_text(entry, "name", where, report),
        type=entry_text(entry, "type", where, report),
        metadata=entry.get("metadata"),
        extra=extra,
    )


def read_placed(entry: Json, where: str, report: Report) -> Multiscale:
    """Return an image of version 0.4 or 0.5: axes with units, scales and translations."""
    axes = _read_axes(entry, where, report)
    check_image_axes(entry.get("axes", [axis.name for axis in axes]), axes, f"{where}.axes", report)
    extra = {k: v for k, v in entry.items() if k not in KEYS}
    outer = levels.read_outer(entry, where, len(axes), extra, report)
    read = levels.read_levels(entry.get("datasets"), f"{where}.datasets", len(axes), outer, report)
    return Multiscale(
        axes=axes,
        levels=read,
        name=entry_text(entry, "name", where, report),
        type=entry_text(entry, "type", where, report),
        metadata=entry.get("metadata"),
        extra=extra,
    )


def _read_axes(entry: Json, where: str, report: Report) -> tuple[Axis, ...]:
    """Return the axes; those that a scale of five (or two) numbers leaves no doubt about."""
    if "axes" in entry:
        return read_axes(entry["axes"], f"{where}.axes", report)
    count = _count_of_scale(entry)
    if count not in (2, 5):
        report.fail(f"{where}.axes", rules.AXES, "is missing")
        return ()
    axes = default_axes(count)
    names = ", ".join(axis.name for axis in axes)
    report.error(f"{where}.axes", rules.AXES, f"is missing; read as {names}")
    return axes


def _count_of_scale(entry: Json) -> int | None:
    try:
        return len(entry["datasets"][0]["coordinateTransformations"][0]["scale"])
    except (KeyError, IndexError, TypeError):
        return None


def write_image(image: Image, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the OME document of an image, around its object of ``multiscales``."""
    others = image.extra.get("multiscales", [])
    document: dict[str, Any] = {**image.extra, "multiscales": [dict(entry), *others]}
    if image.omero is not None:
        document["omero"] = dict(image.omero)
    if image.image_label is not None:
        document["image-label"] = dict(image.image_label)
    return document


def write_placed(multiscale: Multiscale) -> dict[str, Any]:
    """Return the object of ``multiscales`` as versions 0.4 and 0.5 spell it."""
    ndim = len(multiscale.axes)
    entry: dict[str, Any] = {
        **multiscale.extra,
        "axes": [write_axis(axis) for axis in multiscale.axes],
        "datasets": [levels.write_level(level, ndim) for level in multiscale.levels],
    }
    said = {"name": multiscale.name, "type": multiscale.type, "metadata": multiscale.metadata}
    return entry | {key: value for key, value in said.items() if value is not None}


def check_sayable(multiscale: Multiscale, version: str) -> None:
    """Check that versions 0.4 and 0.5 can say all of an image.

    Raises
    ------
    UnsupportedError
        If there are coordinate systems or transformations beyond the levels.
    """
    lost = [
        f"the transformation {shown(link.get('type'))} from {shown(link.get('input'))} to "
        f"{shown(link.get('output'))}"
        for link in multiscale.transformations
    ]
    names = [stored.get("name") for stored in multiscale.systems]
    lost += [
        f"the coordinate system {shown(name)}" for name in names if name != multiscale.intrinsic
    ]
    if lost:
        raise UnsupportedError(
            f"OME-Zarr {version} cannot say {'; '.join(lost)}: write version 0.6, or give "
            "lossy=True to leave it out"
        )
