"""Axes and coordinate systems, in every form that the versions give them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ngff_xarray.model import Axis, CoordinateSystem, Json, axis_type
from ngff_xarray.spec import rules
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.text import printable
from ngff_xarray.units import SPACE_UNITS, TIME_UNITS, unit_name

MOST = 5  # axes that the specification allows
_LIMIT = 32  # axes that an array can have
_LONGEST = 200  # characters of the name of a dimension
_NAMES = "tczyx"
_UNITS = {"space": SPACE_UNITS, "time": TIME_UNITS}
_NO_UNIT = frozenset({"", "null", "none", "unit"})
_KEYS = frozenset({"name", "type", "unit", "longName"})
_VECTORS = frozenset({"displacement", "coordinate"})


def default_axes(ndim: int) -> tuple[Axis, ...]:
    """Return the axes of an image that names none: the last ones of t, c, z, y, x."""
    return tuple(Axis(name, axis_type(name)) for name in _NAMES[-ndim:])


def read_names(value: Any, where: str, report: Report) -> tuple[Axis, ...]:
    """Return the axes that a list of names describes, as version 0.3 has them."""
    if not isinstance(value, list) or not value:
        report.fail(where, rules.AXES_STRINGS, f"expected a list of names, found {shown(value)}")
        return ()
    names = [name if isinstance(name, str) and name else "?" for name in value]
    if "?" in names or len(names) > _LIMIT:
        report.fail(where, rules.AXES_STRINGS, f"expected a list of names, found {shown(value)}")
        return ()
    if len(set(names)) < len(names):
        report.fail(where, rules.AXES_STRINGS, f"names must differ, found {shown(value)}")
    elif not 2 <= len(names) <= MOST or not set(names) <= set(_NAMES):
        report.error(where, rules.AXES_STRINGS, f"expected 2 to 5 of t, c, z, y, x: {shown(value)}")
    elif names != sorted(names, key=_NAMES.index):
        report.error(where, rules.AXES_STRINGS, f"expected the order t, c, z, y, x: {shown(value)}")
    return _apart([Axis(_safe(name), axis_type(name), extra=_renamed(name)) for name in names])


def read_axes(value: Any, where: str, report: Report) -> tuple[Axis, ...]:
    """Return the axes that a list of objects describes; names are accepted with an issue."""
    if not isinstance(value, list) or not value or len(value) > _LIMIT:
        report.fail(where, rules.AXES, f"expected a list of 2 to {MOST} axes, found {shown(value)}")
        return ()
    axes = _apart([_read_axis(entry, f"{where}[{i}]", report) for i, entry in enumerate(value)])
    counts = Counter(axis.name for axis in axes)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice:
        found = ", ".join(printable(repr(name)) for name in twice[:MOST])
        report.fail(where, rules.AXIS_NAME, f"names must differ, found {found} twice")
    return axes


def check_image_axes(value: Any, axes: Sequence[Axis], where: str, report: Report) -> None:
    """Note where axes are not those of an image (0.4 and later).

    ``value`` is the list that they were read from: only types that are stated count. An axis
    without one stands where the channels do, whatever its name is.
    """
    types = _stated_types(value, axes)
    space = sum(map(_is_stated_space, value if isinstance(value, list) else ()))
    if not 2 <= len(axes) <= MOST:
        report.error(where, rules.AXES, f"expected 2 to {MOST} axes, found {len(axes)}")
    if not 2 <= space <= 3:
        found = f"expected 2 or 3 axes of type 'space', with units as text, found {space}"
        report.error(where, rules.AXES_SPACE, found)
    others = [kind for kind in types if kind not in ("space", "time")]
    if types.count("time") > 1 or len(others) > 1:
        found = ", ".join(printable(kind or "none") for kind in types)
        report.error(where, rules.AXES_OTHERS, f"expected one axis of time and one other: {found}")
    rank = [{"time": 0, "space": 2}.get(kind or "", 1) for kind in types]
    if rank != sorted(rank):
        names = ", ".join(printable(axis.name) for axis in axes)
        report.error(where, rules.AXES_ORDER, f"expected time, channel, space; found {names}")


def _stated_types(value: Any, axes: Sequence[Axis]) -> list[str | None]:
    if not isinstance(value, list) or len(value) != len(axes):
        return [axis.type for axis in axes]
    unstated = [isinstance(entry, dict) and "type" not in entry for entry in value]
    return [None if no else axis.type for no, axis in zip(unstated, axes, strict=True)]


def _is_stated_space(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return isinstance(entry, str) and axis_type(entry) == "space"
    return entry.get("type") == "space" and isinstance(entry.get("unit", ""), str)


def read_system(value: Any, where: str, report: Report) -> CoordinateSystem | None:
    """Return a coordinate system (0.6), or None where it has no name."""
    if not isinstance(value, dict):
        report.error(where, rules.SYSTEMS, f"expected an object, found {shown(value)}")
        return None
    name = value.get("name")
    if not isinstance(name, str) or not name:
        report.error(f"{where}.name", rules.SYSTEM_NAME, f"expected a name, found {shown(name)}")
        return None
    return CoordinateSystem(name, read_axes(value.get("axes"), f"{where}.axes", report))


def read_systems(value: Any, where: str, report: Report) -> dict[str, CoordinateSystem]:
    """Return all coordinate systems of a list by their name; the first of a name counts."""
    if not isinstance(value, list) or not value:
        report.error(where, rules.SYSTEMS, f"expected a list of at least one, found {shown(value)}")
        return {}
    systems: dict[str, CoordinateSystem] = {}
    for i, entry in enumerate(value):
        system = read_system(entry, f"{where}[{i}]", report)
        if system is not None and system.name in systems:
            found = f"{shown(system.name)} stands here again"
            report.error(f"{where}[{i}].name", rules.SYSTEM_NAME, found)
        elif system is not None:
            systems[system.name] = system
    return systems


def write_axis(axis: Axis) -> dict[str, Any]:
    """Return the object that describes an axis, in 0.4 and later."""
    known: Mapping[str, Any] = {
        "name": axis.name,
        "type": axis.type,
        "unit": axis.unit,
        "longName": axis.long_name,
    }
    return {key: value for key, value in known.items() if value is not None} | dict(axis.extra)


def _safe(name: str) -> str:
    """Return a name that xarray can give to a dimension."""
    return name.replace("/", "_")[:_LONGEST]


def _apart(axes: list[Axis]) -> tuple[Axis, ...]:
    """Return the axes, those that were renamed told apart from the others."""
    taken = Counter(axis.name for axis in axes)
    result = []
    for axis in axes:
        name = axis.name
        while "name" in axis.extra and taken[name] > (name == axis.name):
            name += "_"
        taken[name] += name != axis.name
        result.append(replace(axis, name=name))
    return tuple(result)


def _renamed(name: str) -> dict[str, Any]:
    return {"name": name} if _safe(name) != name else {}


def _read_axis(entry: Any, where: str, report: Report) -> Axis:
    if isinstance(entry, str) and entry:
        report.error(
            where, rules.AXES_OBJECTS, f"expected an object, found the name {shown(entry)}"
        )
        return Axis(_safe(entry), axis_type(entry), extra=_renamed(entry))
    if not isinstance(entry, dict):
        report.fail(where, rules.AXES_OBJECTS, f"expected an object, found {shown(entry)}")
        return Axis(f"?{where}")
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        report.fail(f"{where}.name", rules.AXIS_NAME, f"expected a name, found {shown(name)}")
        name = f"?{where}"
    extra = {k: v for k, v in entry.items() if k not in _KEYS} | _renamed(name)
    kind = _read_type(entry, name, where, extra, report)
    unit = _read_unit(entry, kind, where, extra, report)
    if "discrete" in entry and not isinstance(entry["discrete"], bool):
        found = f"expected true or false, found {shown(entry['discrete'])}"
        report.error(f"{where}.discrete", rules.AXIS_DISCRETE, found)
    # before 0.6 these are custom types like any other
    if report.version == "0.6" and kind in _VECTORS and entry.get("discrete") is not True:
        found = f"expected true on an axis of type {kind}, found {shown(entry.get('discrete'))}"
        report.error(f"{where}.discrete", rules.VECTOR_AXIS, found)
    long_name = entry.get("longName")
    if "longName" in entry and not isinstance(long_name, str):
        found = f"expected text, found {shown(long_name)}"
        report.error(f"{where}.longName", rules.AXIS_LONG_NAME, found)
        extra["longName"], long_name = long_name, None
    return Axis(_safe(name), kind, unit, long_name, extra)


def _read_type(
    entry: Json, name: str, where: str, extra: dict[str, Any], report: Report
) -> str | None:
    kind = entry.get("type")
    if isinstance(kind, str):
        return kind
    if "type" in entry:
        report.error(f"{where}.type", rules.AXIS_TYPE_TEXT, f"expected text, found {shown(kind)}")
        extra["type"] = kind
        return None
    guess = axis_type(name)
    guessed = f"; read as {guess!r} from its name" if guess else ""
    report.warn(f"{where}.type", rules.AXIS_TYPE, f"is missing{guessed}")
    return guess


def _read_unit(
    entry: Json, kind: str | None, where: str, extra: dict[str, Any], report: Report
) -> str | None:
    """Return the specification's name of the unit; keep other spellings in ``extra``."""
    place = f"{where}.unit"
    if "unit" not in entry:
        if kind in ("space", "time"):
            report.warn(place, rules.AXIS_UNIT, "is missing: coordinates are plain numbers")
        return None
    text = entry["unit"]
    if not isinstance(text, str):
        # until 0.5 the schemas only want text where they count the axes of space
        complain = report.warn if report.version in ("0.4", "0.5") else report.error
        complain(place, rules.AXIS_UNIT_TEXT, f"expected text, found {shown(text)}")
        extra["unit"] = text
        return None
    unit = unit_name(text)
    if text != unit:
        extra["unit"] = text
        if unit is not None:
            how = f"is not the specification's spelling; read as {unit!r}"
        elif text.strip().lower() in _NO_UNIT:
            how = "names no unit: coordinates are plain numbers"
        else:
            how = "is not in the specification's list; kept as text"
        report.warn(place, rules.AXIS_UNIT, f"{shown(text)} {how}")
    units_of_kind = _UNITS.get(kind or "")
    if unit is not None and units_of_kind is not None and unit not in units_of_kind:
        report.warn(place, rules.AXIS_UNIT, f"{unit!r} is no unit of {kind}")
    return unit
