"""What versions 0.4 and later have in common: axes, levels, omero and image-label documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ngff_xarray import transforms
from ngff_xarray.model import Axis, Image, Json, Level, Multiscale, axis_type
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.values import is_number, is_relative, is_rgba
from ngff_xarray.text import printable
from ngff_xarray.transforms import Identity, Scale, Transformation, Translation
from ngff_xarray.units import SPACE_UNITS, TIME_UNITS, unit_name

MAX_AXES = 5
_NO_PATH = "?"  # of a level whose path cannot be read: the fault is reported already
_UNITS = {"space": SPACE_UNITS, "time": TIME_UNITS}
_NO_UNIT = frozenset({"", "null", "none", "unit"})


def read_image(document: Json, report: Report) -> Image:
    """Return the image that an OME document of version 0.4 or 0.5 describes.

    Parameters
    ----------
    document
        The object that holds ``multiscales``.
    report
        Takes what is wrong or odd.

    Raises
    ------
    MetadataError
        If the image cannot be read from it.
    """
    multiscales = document.get("multiscales")
    if not isinstance(multiscales, list) or not multiscales:
        report.fail("multiscales", f"expected a list of at least one, found {shown(multiscales)}")
        multiscales = [{}]
    extra = {k: v for k, v in document.items() if k not in _IMAGE_KEYS}
    for key in ("omero", "image-label"):
        if key in document and not isinstance(document[key], dict):
            report.error(key, f"expected an object, found {shown(document[key])}; not used")
            extra[key] = document[key]
    if len(multiscales) > 1:
        report.warn("multiscales", f"holds {len(multiscales)} images; the first one is opened")
        extra["multiscales"] = multiscales[1:]
    multiscale = _read_multiscale(multiscales[0], "multiscales[0]", report)
    image = Image(
        multiscale=multiscale,
        omero=_read_omero(document.get("omero"), report),
        image_label=_read_image_label(document.get("image-label"), report),
        extra=extra,
    )
    report.check()
    return image


def write_image(image: Image) -> dict[str, Any]:
    """Return the OME document of an image, as version 0.4 and 0.5 spell it."""
    multiscale = image.multiscale
    ndim = len(multiscale.axes)
    entry: dict[str, Any] = {
        **multiscale.extra,
        "axes": [_write_axis(axis) for axis in multiscale.axes],
        "datasets": [_write_level(level, ndim) for level in multiscale.levels],
    }
    named = {"name": multiscale.name, "type": multiscale.type, "metadata": multiscale.metadata}
    entry |= {key: value for key, value in named.items() if value is not None}
    others = image.extra.get("multiscales", [])
    document: dict[str, Any] = {**image.extra, "multiscales": [entry, *others]}
    if image.omero is not None:
        document["omero"] = dict(image.omero)
    if image.image_label is not None:
        document["image-label"] = dict(image.image_label)
    return document


_IMAGE_KEYS = frozenset({"multiscales", "omero", "image-label", "version"})
_MULTISCALE_KEYS = frozenset(
    {"axes", "datasets", "coordinateTransformations", "name", "type", "metadata", "version"}
)
_AXIS_KEYS = frozenset({"name", "type", "unit", "longName"})
_LEVEL_KEYS = frozenset({"path", "coordinateTransformations"})


def _read_multiscale(entry: Any, where: str, report: Report) -> Multiscale:
    if not isinstance(entry, dict):
        report.fail(where, f"expected an object, found {shown(entry)}")
        entry = {}
    axes = _read_axes(entry.get("axes"), f"{where}.axes", report)
    extra = {k: v for k, v in entry.items() if k not in _MULTISCALE_KEYS}
    outer = _read_outer(entry, where, len(axes), extra, report)
    levels = _read_levels(entry.get("datasets"), f"{where}.datasets", len(axes), outer, report)
    return Multiscale(
        axes=axes,
        levels=levels,
        name=_read_text(entry, "name", where, report),
        type=_read_text(entry, "type", where, report),
        metadata=entry.get("metadata"),
        extra=extra,
    )


def _read_outer(
    entry: Json, where: str, ndim: int, extra: dict[str, Any], report: Report
) -> list[Transformation]:
    """Return the transformations that hold for all levels, after their own."""
    if "coordinateTransformations" not in entry:
        return []
    value = entry["coordinateTransformations"]
    place = f"{where}.coordinateTransformations"
    if value in (None, []):
        report.error(place, f"expected a scale, found {shown(value)}; ignored")
        return []
    named = isinstance(value, list) and any(isinstance(e, dict) and "output" in e for e in value)
    if named:
        # SpatialData's: each leads to another coordinate system, they do not follow one another
        report.error(place, "lead to named coordinate systems; kept, and not applied")
        extra["coordinateTransformations"] = value
        return []
    return _read_transformations(value, place, ndim, report)


def _read_text(entry: Json, key: str, where: str, report: Report) -> str | None:
    value = entry.get(key)
    if value is None or isinstance(value, str):
        return value
    report.error(f"{where}.{key}", f"expected text, found {shown(value)}")
    return str(value)


def _read_axes(value: Any, where: str, report: Report) -> tuple[Axis, ...]:
    if not isinstance(value, list) or not value:
        report.fail(where, f"expected a list of 2 to {MAX_AXES} axes, found {shown(value)}")
        return ()
    axes = tuple(_read_axis(entry, f"{where}[{i}]", report) for i, entry in enumerate(value))
    names = [axis.name for axis in axes]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        report.fail(where, f"axis names must differ, found {', '.join(map(repr, repeated))} twice")
    _check_axis_types(axes, where, report)
    return axes


def _read_axis(entry: Any, where: str, report: Report) -> Axis:
    if not isinstance(entry, dict):
        report.fail(where, f"expected an object with a name, found {shown(entry)}")
        return Axis("?")
    name = entry.get("name")
    if not isinstance(name, str) or not name or "/" in name:
        report.fail(f"{where}.name", f"expected a name without '/', found {shown(name)}")
        name = f"?{where}"
    extra = {k: v for k, v in entry.items() if k not in _AXIS_KEYS}
    kind = entry.get("type")
    if kind is None:
        kind = axis_type(name)
        guessed = f"; read as {kind!r} from its name" if kind else ""
        report.warn(f"{where}.type", f"is missing{guessed}")
    elif not isinstance(kind, str):
        report.error(f"{where}.type", f"expected text, found {shown(kind)}")
        extra["type"], kind = kind, None
    unit = _read_unit(entry, kind, where, extra, report)
    long_name = entry.get("longName")
    if long_name is not None and not isinstance(long_name, str):
        extra["longName"] = long_name
        long_name = None
    return Axis(name, kind, unit, long_name, extra)


def _read_unit(
    entry: Json, kind: str | None, where: str, extra: dict[str, Any], report: Report
) -> str | None:
    """Return the specification's name of the unit; keep other spellings in ``extra``."""
    if "unit" not in entry:
        if kind in ("space", "time"):
            report.warn(f"{where}.unit", "is missing: coordinates are plain numbers")
        return None
    text = entry["unit"]
    unit = unit_name(text) if isinstance(text, str) else None
    if text is None or text != unit:
        extra["unit"] = text
        if unit is not None:
            report.warn(
                f"{where}.unit",
                f"{shown(text)} is not the specification's spelling; read as {unit!r}",
            )
        elif text is None or (isinstance(text, str) and text.strip().lower() in _NO_UNIT):
            report.warn(
                f"{where}.unit", f"{shown(text)} names no unit: coordinates are plain numbers"
            )
        elif isinstance(text, str):
            report.warn(
                f"{where}.unit", f"{shown(text)} is not in the specification's list; kept as text"
            )
        else:
            report.error(f"{where}.unit", f"expected text, found {shown(text)}")
    units_of_kind = _UNITS.get(kind or "")
    if unit is not None and units_of_kind is not None and unit not in units_of_kind:
        report.warn(f"{where}.unit", f"{unit!r} is no unit of {kind}")
    return unit


def _check_axis_types(axes: Sequence[Axis], where: str, report: Report) -> None:
    types = [axis.type for axis in axes]
    space = types.count("space")
    if not 2 <= len(axes) <= MAX_AXES:
        report.fail(where, f"expected 2 to {MAX_AXES} axes, found {len(axes)}")
    if not 2 <= space <= 3:
        report.error(where, f"expected 2 or 3 axes of type 'space', found {space}")
    if types.count("time") > 1:
        report.error(where, "expected at most one axis of type 'time'")
    others = [kind for kind in types if kind not in ("space", "time")]
    if len(others) > 1:
        report.error(
            where,
            f"expected at most one axis of another type than space and time, found {len(others)}",
        )
    rank = [{"time": 0, "space": 2}.get(kind or "", 1) for kind in types]
    if rank != sorted(rank):
        names = ", ".join(printable(axis.name) for axis in axes)
        report.error(where, f"expected time, then channel, then space axes; found {names}")


def _read_levels(
    value: Any, where: str, ndim: int, outer: list[Transformation], report: Report
) -> tuple[Level, ...]:
    if not isinstance(value, list) or not value:
        report.fail(where, f"expected a list of at least one level, found {shown(value)}")
        return ()
    levels = [
        _read_level(entry, f"{where}[{i}]", ndim, outer, report) for i, entry in enumerate(value)
    ]
    seen = {_NO_PATH}
    for i, level in enumerate(levels):
        if level.path in seen and level.path != _NO_PATH:
            report.fail(
                f"{where}[{i}].path", f"{level.path!r} is already the path of another level"
            )
        seen.add(level.path)
    return tuple(levels)


def _read_level(
    entry: Any, where: str, ndim: int, outer: list[Transformation], report: Report
) -> Level:
    if not isinstance(entry, dict):
        report.fail(where, f"expected an object with a path, found {shown(entry)}")
        return Level(_NO_PATH, Identity())
    path = entry.get("path")
    if isinstance(path, int) and not isinstance(path, bool):
        report.error(f"{where}.path", f"expected text, found the number {path}")
        path = str(path)
    if not isinstance(path, str) or not is_relative(path):
        report.fail(f"{where}.path", f"expected a path below the image, found {shown(path)}")
        path = _NO_PATH
    place = f"{where}.coordinateTransformations"
    inner = _read_transformations(entry.get("coordinateTransformations"), place, ndim, report)
    extra = {k: v for k, v in entry.items() if k not in _LEVEL_KEYS}
    whole = transforms.compose([*inner, *outer])
    _check_composed(whole, place, ndim, report)
    return Level(path.strip("/"), whole, extra)


def _check_composed(whole: Transformation, where: str, ndim: int, report: Report) -> None:
    """Report numbers that are fine each, and too large or too small together."""
    scale, translation = transforms.scale_and_translation(whole, ndim)
    if not (all(map(is_number, (*scale, *translation))) and all(scale)):
        report.fail(where, f"with the image's own gives scale {scale} and offset {translation}")


def _read_transformations(
    value: Any, where: str, ndim: int, report: Report
) -> list[Transformation]:
    """Return the transformations of one list, in order: one scale, then perhaps a translation."""
    if not isinstance(value, list) or not value:
        report.fail(where, f"expected a scale and perhaps a translation, found {shown(value)}")
        return [Identity()]
    result: list[Transformation] = []
    for i, entry in enumerate(value):
        kind = entry.get("type") if isinstance(entry, dict) else None
        reader = _TRANSFORMATIONS.get(kind) if isinstance(kind, str) else None
        if reader is None:
            expected = " or ".join(map(repr, _TRANSFORMATIONS))
            report.fail(f"{where}[{i}].type", f"expected {expected}, found {shown(kind)}")
        else:
            result.append(reader(entry, f"{where}[{i}]", ndim, report))
    types = [type(transformation) for transformation in result]
    if types.count(Scale) > 1 or types.count(Translation) > 1:
        report.fail(where, "expected one scale and at most one translation, found more")
    elif Scale not in types and Identity not in types:
        report.fail(where, "expected a scale, found none")
    elif types.index(Scale if Scale in types else Identity) != 0:
        report.error(where, "expected the scale first; applied in the order given")
    return result or [Identity()]


def _read_identity(entry: Json, where: str, ndim: int, report: Report) -> Identity:
    return Identity()


def _read_scale(entry: Json, where: str, ndim: int, report: Report) -> Scale:
    numbers = _read_numbers(entry, "scale", where, ndim, report)
    if 0 in numbers:
        report.fail(
            f"{where}.scale", f"expected numbers other than 0, found {shown(entry['scale'])}"
        )
        numbers = (1.0,) * ndim
    return Scale(numbers)


def _read_translation(entry: Json, where: str, ndim: int, report: Report) -> Translation:
    return Translation(_read_numbers(entry, "translation", where, ndim, report))


_TRANSFORMATIONS: dict[str, Callable[[Json, str, int, Report], Transformation]] = {
    "scale": _read_scale,
    "translation": _read_translation,
    "identity": _read_identity,
}


def _read_numbers(
    entry: Json, key: str, where: str, ndim: int, report: Report
) -> tuple[float, ...]:
    value = entry.get(key)
    place = f"{where}.{key}"
    if not isinstance(value, list) or not all(is_number(number) for number in value):
        report.fail(place, f"expected a list of finite numbers, found {shown(value)}")
    elif len(value) != ndim:
        report.fail(place, f"expected {ndim} numbers, one an axis, found {shown(value)}")
    else:
        return tuple(map(float, value))
    return (1.0,) * ndim


def _without_version(document: Json) -> Json:
    """Return the document without the version that 0.4 repeats in each: writers state their own."""
    return {key: value for key, value in document.items() if key != "version"}


def _read_omero(value: Any, report: Report) -> Json | None:
    if not isinstance(value, dict):
        return None
    channels = value.get("channels")
    if not isinstance(channels, list):
        report.error("omero.channels", f"expected a list, found {shown(channels)}")
        channels = []
    for i, channel in enumerate(channels):
        where = f"omero.channels[{i}]"
        if not isinstance(channel, dict):
            report.error(where, f"expected an object, found {shown(channel)}")
            continue
        _check_color(channel.get("color"), f"{where}.color", report)
        _check_window(channel.get("window"), f"{where}.window", report)
        for key, kind in (("label", str), ("active", bool)):
            if channel.get(key) is not None and not isinstance(channel[key], kind):
                found = shown(channel[key])
                report.warn(f"{where}.{key}", f"expected {_NAMES[kind]}, found {found}; not used")
    return _without_version(value)


_NAMES: Mapping[type, str] = {str: "text", bool: "true or false"}


def _check_color(value: Any, where: str, report: Report) -> None:
    if value is None:
        report.warn(where, "is missing: a colour is chosen")
    elif not isinstance(value, str):
        report.error(where, f"expected six hexadecimal digits, found {shown(value)}")
    elif len(value) != 6 or not set(value.lower()) <= set("0123456789abcdef"):
        report.warn(where, f"expected six hexadecimal digits, found {shown(value)}")


def _check_window(value: Any, where: str, report: Report) -> None:
    if value is None:
        report.warn(where, "is missing: the contrast is chosen from the pixels")
        return
    if not isinstance(value, dict):
        report.error(where, f"expected an object, found {shown(value)}")
        return
    for key in ("min", "max", "start", "end"):
        if key not in value:
            report.error(f"{where}.{key}", "is missing")
        elif not is_number(value[key]):
            report.error(f"{where}.{key}", f"expected a number, found {shown(value[key])}")
    if is_number(value.get("start")) and value.get("start") == value.get("end"):
        report.warn(where, "starts where it ends: the contrast is chosen from the pixels")


def _read_image_label(value: Any, report: Report) -> Json | None:
    if not isinstance(value, dict):
        return None
    if "colors" not in value:
        report.warn("image-label.colors", "is missing: colours are chosen")
    for key in ("colors", "properties"):
        if key in value:
            _check_label_entries(value[key], f"image-label.{key}", report)
    source = value.get("source")
    if source is not None and not isinstance(source, dict):
        report.error("image-label.source", f"expected an object, found {shown(source)}")
    return _without_version(value)


def _check_label_entries(entries: Any, where: str, report: Report) -> None:
    if not isinstance(entries, list) or not entries:
        report.error(where, f"expected a list of at least one, found {shown(entries)}")
        return
    seen = set()
    for i, entry in enumerate(entries):
        value = entry.get("label-value") if isinstance(entry, dict) else None
        if not is_number(value) or value != int(value):
            report.error(f"{where}[{i}].label-value", f"expected an integer, found {shown(value)}")
            continue
        if value in seen:
            report.error(
                f"{where}[{i}].label-value", f"{value} stands here again; the last one wins"
            )
        seen.add(value)
        if where.endswith("colors") and "rgba" in entry and not is_rgba(entry["rgba"]):
            report.error(
                f"{where}[{i}].rgba",
                f"expected four integers of 0 to 255, found {shown(entry['rgba'])}",
            )


def _write_axis(axis: Axis) -> dict[str, Any]:
    known: Mapping[str, Any] = {
        "name": axis.name,
        "type": axis.type,
        "unit": axis.unit,
        "longName": axis.long_name,
    }
    return {key: value for key, value in known.items() if value is not None} | dict(axis.extra)


def _write_level(level: Level, ndim: int) -> dict[str, Any]:
    scale, translation = transforms.scale_and_translation(level.transformation, ndim)
    parts: list[dict[str, Any]] = [{"type": "scale", "scale": list(scale)}]
    if any(translation):
        parts.append({"type": "translation", "translation": list(translation)})
    return {**level.extra, "path": level.path, "coordinateTransformations": parts}
