"""The levels of an image and their scales and translations, as versions 0.1 to 0.5 say them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from ngff_xarray import transforms
from ngff_xarray.model import Json, Level
from ngff_xarray.spec import rules
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.values import is_number, is_relative
from ngff_xarray.transforms import Identity, Scale, Transformation, Translation

_NO_PATH = "?"  # of a level whose path cannot be read: the fault is reported already
_NEAR = 1e-6  # of a size: less is the rounding of whoever wrote it
_KEYS = frozenset({"path", "coordinateTransformations"})
Outer = tuple[list[Transformation], dict[str, Any]]


def read_paths(value: Any, where: str, report: Report) -> list[tuple[str, Json]]:
    """Return the path of each level and the object that holds it, for any version."""
    if not isinstance(value, list) or not value:
        found = f"expected a list of at least one level, found {shown(value)}"
        report.fail(where, rules.DATASETS, found)
        return []
    levels = [_read_path(entry, f"{where}[{i}]", report) for i, entry in enumerate(value)]
    seen = {_NO_PATH}
    for i, (path, _) in enumerate(levels):
        if path in seen and path != _NO_PATH:
            found = f"{shown(path)} is already the path of another level"
            report.fail(f"{where}[{i}].path", rules.PATH, found)
        seen.add(path)
    return levels


def _read_path(entry: Any, where: str, report: Report) -> tuple[str, Json]:
    if not isinstance(entry, dict):
        report.fail(where, rules.DATASETS, f"expected an object, found {shown(entry)}")
        return _NO_PATH, {}
    path = entry.get("path")
    if isinstance(path, int) and not isinstance(path, bool):
        report.error(f"{where}.path", rules.PATH, f"expected text, found the number {path}")
        path = str(path)
    if not isinstance(path, str) or not is_relative(path):
        found = f"expected a path below the image, found {shown(path)}"
        report.fail(f"{where}.path", rules.PATH, found)
        path = _NO_PATH
    return path.strip("/"), entry


def unused_keys(entry: Json) -> dict[str, Any]:
    """Return the keys of a level that no version uses."""
    return {key: value for key, value in entry.items() if key not in _KEYS}


def read_unplaced(value: Any, where: str, report: Report) -> tuple[Level, ...]:
    """Return the levels of versions before 0.4, which do not say where they lie."""
    paths = read_paths(value, where, report)
    return tuple(
        Level(path, None, {k: v for k, v in entry.items() if k != "path"}) for path, entry in paths
    )


def read_levels(
    value: Any, where: str, ndim: int, outer: Outer, report: Report
) -> tuple[Level, ...]:
    """Return the levels with the composition of their own and the image's transformations."""
    levels = []
    for i, (path, entry) in enumerate(read_paths(value, where, report)):
        place = f"{where}[{i}].coordinateTransformations"
        inner, kept = read_transformations(
            entry.get("coordinateTransformations"), place, ndim, report
        )
        whole = transforms.compose([*inner, *outer[0]])
        check_composed(whole, place, ndim, report)
        extra = unused_keys(entry)
        unused = outer[1] | kept
        if unused:
            extra["coordinateTransformations"] = unused
        levels.append(Level(path, whole, extra))
    check_order(levels, where, ndim, report)
    return tuple(levels)


def check_order(found: Sequence[Level], where: str, ndim: int, report: Report) -> None:
    """Note levels of a finer resolution than the one before them, as their scales tell it."""
    if report.faults:  # what cannot be read has no scale to compare
        return
    sizes = [
        transforms.scale_and_translation(level.transformation or Identity(), ndim)[0]
        for level in found
    ]
    for i, (last, this) in enumerate(pairwise(sizes), start=1):
        if any(abs(new) < abs(old) * (1 - _NEAR) for new, old in zip(this, last, strict=True)):
            report.error(
                f"{where}[{i}].path",
                rules.LEVEL_ORDER,
                "has smaller pixels than the level before it",
            )


def read_outer(entry: Json, where: str, ndim: int, extra: dict[str, Any], report: Report) -> Outer:
    """Return the transformations that hold for all levels, after their own."""
    if "coordinateTransformations" not in entry:
        return [], {}
    value = entry["coordinateTransformations"]
    place = f"{where}.coordinateTransformations"
    if value in (None, []):
        found = f"expected a scale, found {shown(value)}; ignored"
        report.error(place, rules.TRANSFORMATIONS_V4, found)
        return [], {}
    named = isinstance(value, list) and any(isinstance(e, dict) and "output" in e for e in value)
    if named:
        # SpatialData's: each leads to another coordinate system, they do not follow one another
        found = "lead to named coordinate systems; kept, and not applied"
        report.error(place, rules.TRANSFORMATIONS_V4, found)
        extra["coordinateTransformations"] = value
        return [], {}
    return read_transformations(value, place, ndim, report)


def check_composed(whole: Transformation, where: str, ndim: int, report: Report) -> None:
    """Report numbers that are fine each, and too large or too small together."""
    scale, translation = transforms.scale_and_translation(whole, ndim)
    if not (all(map(is_number, (*scale, *translation))) and all(scale)):
        found = f"with the image's own gives scale {scale} and offset {translation}"
        report.fail(where, rules.VECTOR, found)


def read_transformations(value: Any, where: str, ndim: int, report: Report) -> Outer:
    """Return the transformations of one list, and the keys of each that are not used, by type."""
    if not isinstance(value, list) or not value:
        found = f"expected a scale and perhaps a translation, found {shown(value)}"
        report.fail(where, rules.TRANSFORMATIONS_V4, found)
        return [Identity()], {}
    result: list[Transformation] = []
    unused: dict[str, Any] = {}
    for i, entry in enumerate(value):
        kind = entry.get("type") if isinstance(entry, dict) else None
        reader = _TRANSFORMATIONS.get(kind) if isinstance(kind, str) else None
        if reader is None:
            expected = " or ".join(map(repr, _TRANSFORMATIONS))
            found = f"expected {expected}, found {shown(kind)}"
            report.fail(f"{where}[{i}].type", rules.TRANSFORMATIONS_V4, found)
            continue
        result.append(reader(entry, f"{where}[{i}]", ndim, report))
        more = {key: v for key, v in entry.items() if key not in ("type", kind)}
        if more:
            unused[str(kind)] = more
    _check_types([type(transformation) for transformation in result], where, report)
    return result or [Identity()], unused


def _check_types(types: list[type], where: str, report: Report) -> None:
    rule = rules.TRANSFORMATIONS_V4
    if types.count(Scale) > 1 or types.count(Translation) > 1:
        report.fail(where, rule, "expected one scale and at most one translation, found more")
    elif Identity in types:
        report.error(where, rule, "expected a scale and perhaps a translation, found the identity")
    elif Scale not in types:
        report.fail(where, rule, "expected a scale, found none")
    elif types[0] is not Scale:
        report.error(where, rule, "expected the scale first; applied in the order given")


def _read_identity(entry: Json, where: str, ndim: int, report: Report) -> Identity:
    return Identity()


def read_scale(entry: Json, where: str, ndim: int, report: Report) -> Scale:
    """Return the scale of an object; 1 along every axis where it cannot be read."""
    numbers = read_numbers(entry, "scale", where, ndim, report)
    if 0 in numbers:
        found = f"expected numbers other than 0, found {shown(entry['scale'])}"
        report.fail(f"{where}.scale", rules.SCALE_ZERO, found)
        numbers = (1.0,) * ndim
    return Scale(numbers)


def read_translation(entry: Json, where: str, ndim: int, report: Report) -> Translation:
    """Return the translation of an object."""
    return Translation(read_numbers(entry, "translation", where, ndim, report))


_TRANSFORMATIONS: dict[str, Callable[[Json, str, int, Report], Transformation]] = {
    "scale": read_scale,
    "translation": read_translation,
    "identity": _read_identity,
}


def read_numbers(entry: Json, key: str, where: str, ndim: int, report: Report) -> tuple[float, ...]:
    """Return as many numbers as there are axes, ones where they cannot be read."""
    value = entry.get(key)
    place = f"{where}.{key}"
    if not isinstance(value, list) or not all(is_number(number) for number in value):
        report.fail(place, rules.VECTOR, f"expected a list of finite numbers, found {shown(value)}")
    elif len(value) != ndim:
        report.fail(place, rules.VECTOR, f"expected {ndim} numbers, one an axis: {shown(value)}")
    else:
        return tuple(map(float, value))
    return (1.0,) * ndim


def write_level(level: Level, ndim: int) -> dict[str, Any]:
    """Return the object of a level for versions 0.4 and 0.5."""
    kept, parts, around = described(level, ndim)
    if len(parts) > 1 and parts[1] == {"type": "translation", "translation": [0.0] * ndim}:
        parts.pop()  # 0.6 needs it in a sequence
    parts[0] = {**around, **parts[0]}
    return {**kept, "path": level.path, "coordinateTransformations": parts}


def described(
    level: Level, ndim: int
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """Return what is said of a level.

    Returns
    -------
    kept, parts, around
        Its keys that are not used; a scale, and a translation where there is one, each with the
        keys of its own that are not used; and those that a transformation around them had.
    """
    if level.transformation is None:
        raise TypeError(f"level {level.path!r} has no transformation")
    scale, translation = transforms.scale_and_translation(level.transformation, ndim)
    kept = dict(level.extra)
    stored = kept.pop("coordinateTransformations", None)
    unused = stored if isinstance(stored, dict) else {}
    parts: list[dict[str, Any]] = [
        {**unused.get("scale", {}), "type": "scale", "scale": list(scale)}
    ]
    if any(translation) or {"translation", "sequence"} & set(unused):
        more = unused.get("translation", {})
        parts.append({**more, "type": "translation", "translation": list(translation)})
    others = [more for kind, more in unused.items() if kind not in ("scale", "translation")]
    return kept, parts, {key: value for more in others for key, value in more.items()}
