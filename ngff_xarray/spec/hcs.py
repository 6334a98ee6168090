"""Plates and wells: high-content screening, in every version."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ngff_xarray.errors import UnsupportedError
from ngff_xarray.model import Fields, Json, Plate, Well
from ngff_xarray.spec import rules
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.values import is_integer, is_number, is_relative, repeated
from ngff_xarray.text import printable

_NAME = re.compile(r"[A-Za-z0-9]+")
_WELL_PATH = re.compile(r"[A-Za-z0-9]+/[A-Za-z0-9]+")
FIELD_NAME = _NAME
NODE_NAME = re.compile(r"(?!__)(?!\.+$)[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class PlateForm:
    """What versions differ in, of plates.

    Parameters
    ----------
    version
        The version that a plate itself must state, or None from 0.5 on.
    requires_version
        Whether it must.
    indexed
        Whether wells have ``rowIndex`` and ``columnIndex``, and paths of row and column; ids and
        counts are not negative (0.4).
    any_number
        Whether ids and times may be any number (0.1).
    """

    version: str | None = None
    requires_version: bool = False
    indexed: bool = True
    any_number: bool = False


def read_plate(value: Any, form: PlateForm, extra: Json, report: Report) -> Plate:
    """Return the plate that the object under ``plate`` describes.

    Raises
    ------
    MetadataError
        If its wells cannot be told.
    """
    if not isinstance(value, dict):
        report.stop("plate", rules.PLATE, f"expected an object, found {shown(value)}")
    if form.version is not None:
        _check_version(value, form, report)
    _check_optional(value, "name", str, "text", "plate", rules.PLATE_NAME, report)
    if form.indexed:
        _check_count(value, "field_count", "plate", rules.PLATE_FIELD_COUNT, form, report)
    rows = _read_names(value, "rows", form, report)
    columns = _read_names(value, "columns", form, report)
    _check_acquisitions(value, form, report)
    found = _read_wells(value, rows, columns, form, report)
    report.check()
    document = {key: v for key, v in value.items() if key != "version"}
    wells = tuple({well.path: well for well, _ in found}.values())
    return Plate(tuple(rows), tuple(columns), wells, document, extra)


def parse_plate(document: Json) -> Plate:
    """Return the plate of a document that was read before."""
    return read_plate(dict(document), PlateForm(), {}, Report("plate"))


def write_plate(plate: Plate) -> dict[str, Any]:
    """Return the object under ``plate`` for versions from 0.4 on: with the index of each well.

    Raises
    ------
    UnsupportedError
        If a well has a path that these versions do not allow.
    """
    rows = list(dict.fromkeys([*plate.rows, *(well.row for well in plate.wells)]))
    columns = list(dict.fromkeys([*plate.columns, *(well.column for well in plate.wells)]))
    for well in plate.wells:
        if not _WELL_PATH.fullmatch(well.path):
            raise UnsupportedError(
                f"the well {printable(well.path)!r} cannot be written: from version 0.4 on its "
                "path is row/column, of letters and digits"
            )
    row_places = {name: i for i, name in enumerate(rows)}
    column_places = {name: i for i, name in enumerate(columns)}
    places = {
        well.path: {"rowIndex": row_places[well.row], "columnIndex": column_places[well.column]}
        for well in plate.wells
    }
    entries = [
        {**entry, **places[entry["path"].strip("/")]}
        for entry in plate.document["wells"]
        if isinstance(entry, dict) and str(entry.get("path")).strip("/") in places
    ]
    return {
        **plate.document,
        "rows": _with_names(plate.document.get("rows"), rows),
        "columns": _with_names(plate.document.get("columns"), columns),
        "wells": entries,
    }


def _with_names(entries: Any, names: list[str]) -> list[Any]:
    """Return the stored rows or columns, and those that only wells name."""
    stored = entries if isinstance(entries, list) else []
    return [*stored, *({"name": name} for name in names[len(stored) :])]


def _check_version(value: Json, form: PlateForm, report: Report) -> None:
    version = value.get("version")
    if version is None and "version" not in value:
        complain = report.error if form.requires_version else report.warn
        complain("plate.version", rules.PLATE_VERSION, "is missing")
    elif version != form.version:
        report.error(
            "plate.version", rules.VERSION, f"expected {form.version!r}, found {shown(version)}"
        )


def _check_optional(
    entry: Json,
    key: str,
    kind: type,
    expected: str,
    where: str,
    rule: rules.Rule,
    report: Report,
) -> None:
    """Note a key that is missing (a SHOULD) or holds another type."""
    if key not in entry:
        report.warn(f"{where}.{key}", rule, "is missing")
    elif not isinstance(entry[key], kind):
        report.error(f"{where}.{key}", rule, f"expected {expected}, found {shown(entry[key])}")


def _check_count(
    entry: Json, key: str, where: str, rule: rules.Rule, form: PlateForm, report: Report
) -> None:
    """Note a number that is missing (a SHOULD) or none; until 0.3 it need not be positive."""
    if key not in entry:
        report.warn(f"{where}.{key}", rule, "is missing")
        return
    value = entry[key]
    good = is_number(value) if form.any_number else is_integer(value, 1 if form.indexed else None)
    if not good:
        expected = "a positive integer" if form.indexed else "a number"
        report.error(f"{where}.{key}", rule, f"expected {expected}, found {shown(value)}")


def _read_names(value: Json, key: str, form: PlateForm, report: Report) -> list[str]:
    """Return the names of rows or columns, in order."""
    entries = value.get(key)
    if not isinstance(entries, list) or not entries:
        report.error(f"plate.{key}", rules.PLATE_ROWS, f"expected a list, found {shown(entries)}")
        return []
    names = []
    for i, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        good = isinstance(name, str) and (not form.indexed or _NAME.fullmatch(name))
        if not good:
            report.error(
                f"plate.{key}[{i}].name",
                rules.PLATE_ROWS,
                f"expected letters and digits, found {shown(name)}",
            )
        names.append(name if isinstance(name, str) else f"?{i}")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        complain = report.error if form.indexed or repeated(entries) else report.warn
        complain(f"plate.{key}", rules.PLATE_ROWS, f"{shown(twice[0])} stands here twice")
    return names


def _check_acquisitions(value: Json, form: PlateForm, report: Report) -> None:
    if "acquisitions" not in value:
        return
    entries = value["acquisitions"]
    if not isinstance(entries, list):
        found = f"expected a list, found {shown(entries)}"
        report.error("plate.acquisitions", rules.ACQUISITIONS, found)
        return
    if not form.indexed and not entries:
        report.error("plate.acquisitions", rules.ACQUISITIONS, "expected at least one, found []")
    least, limit = (0, " of at least 0") if form.indexed else (None, "")
    seen = set()
    for i, entry in enumerate(entries):
        where = f"plate.acquisitions[{i}]"
        if not isinstance(entry, dict):
            report.error(where, rules.ACQUISITIONS, f"expected an object, found {shown(entry)}")
            continue
        number = entry.get("id")
        good = is_number(number) if form.any_number else is_integer(number, least)
        if not good:
            found = f"expected an integer{limit}, found {shown(number)}"
            report.error(f"{where}.id", rules.ACQUISITIONS, found)
        elif number in seen:
            report.error(f"{where}.id", rules.ACQUISITIONS, f"{number} stands here again")
        else:
            seen.add(number)
        _check_acquisition(entry, where, form, report)


def _check_acquisition(entry: Json, where: str, form: PlateForm, report: Report) -> None:
    _check_optional(entry, "name", str, "text", where, rules.ACQUISITION_FIELD, report)
    _check_count(entry, "maximumfieldcount", where, rules.ACQUISITION_FIELD, form, report)
    if "description" in entry and not isinstance(entry["description"], str):
        found = f"expected text, found {shown(entry['description'])}"
        report.error(f"{where}.description", rules.ACQUISITION_FIELD, found)
    good: Callable[[Any], bool] = is_number if form.any_number else lambda v: is_integer(v, 0)
    for key in ("starttime", "endtime"):
        if key in entry and not good(entry[key]):
            found = f"expected an integer of at least 0, found {shown(entry[key])}"
            report.error(f"{where}.{key}", rules.ACQUISITION_FIELD, found)


def _read_wells(
    value: Json, rows: list[str], columns: list[str], form: PlateForm, report: Report
) -> list[tuple[Well, dict[str, Any]]]:
    """Return the wells that have a path, with what is said of them."""
    entries = value.get("wells")
    if not isinstance(entries, list):
        found = f"expected a list of wells, found {shown(entries)}"
        report.fail("plate.wells", rules.PLATE_WELLS, found)
        return []
    if not entries:
        report.error("plate.wells", rules.PLATE_WELLS, "expected at least one well, found []")
    twice = repeated(entries)
    if twice is not None:
        report.error("plate.wells", rules.PLATE_WELLS, f"{shown(twice)} stands here twice")
    row_places = {name: i for i, name in enumerate(rows)}
    column_places = {name: i for i, name in enumerate(columns)}
    wells = []
    for i, entry in enumerate(entries):
        where = f"plate.wells[{i}]"
        path = entry.get("path") if isinstance(entry, dict) else None
        if not isinstance(path, str) or not is_relative(path):
            found = f"expected a path below the plate, found {shown(path)}; left out"
            report.error(f"{where}.path", rules.WELL_PATH, found)
            continue
        row, _, column = path.strip("/").rpartition("/")
        well = Well(path.strip("/"), row.rpartition("/")[2], column)
        if form.indexed:
            _check_well(entry, well, where, row_places, column_places, report)
        wells.append((well, entry))
    if entries and not wells:
        report.fail("plate.wells", rules.PLATE_WELLS, "none has a path")
    return wells


def _check_well(
    entry: Json,
    well: Well,
    where: str,
    rows: dict[str, int],
    columns: dict[str, int],
    report: Report,
) -> None:
    path = entry["path"]
    if not _WELL_PATH.fullmatch(path):
        found = f"expected row/column, found {shown(path)}"
        report.error(f"{where}.path", rules.WELL_PATH, found)
    else:
        for name, places, what in ((well.row, rows, "rows"), (well.column, columns, "columns")):
            if name not in places:
                found = f"{shown(path)}: {shown(name)} is none of the {what}"
                report.error(f"{where}.path", rules.WELL_PATH, found)
    for key, name, places in (
        ("rowIndex", well.row, rows),
        ("columnIndex", well.column, columns),
    ):
        index = entry.get(key)
        if not is_integer(index, 0):
            found = f"expected an integer, found {shown(index)}"
            report.error(f"{where}.{key}", rules.WELL_INDEX, found)
        elif name in places and places[name] != index:
            found = f"expected {places[name]} for {shown(path)}, found {index}"
            report.error(f"{where}.{key}", rules.WELL_INDEX, found)
        elif name not in places and index >= len(places):
            found = f"expected less than {len(places)}, found {index}"
            report.error(f"{where}.{key}", rules.WELL_INDEX, found)


def read_well(
    value: Any, version: str | None, names: re.Pattern[str], extra: Json, report: Report
) -> Fields:
    """Return the fields of the well that the object under ``well`` describes.

    Parameters
    ----------
    value
        The object.
    version
        The version that it should state, None from 0.5 on.
    names
        What paths of fields may look like.
    extra
        The keys beside ``well`` that this package does not use.
    report
        Takes what is wrong or odd.

    Raises
    ------
    MetadataError
        If its fields cannot be told.
    """
    if not isinstance(value, dict):
        report.stop("well", rules.WELL, f"expected an object, found {shown(value)}")
    if version is not None and value.get("version") is None and "version" not in value:
        report.warn("well.version", rules.VERSION_SHOULD, "is missing")
    elif version is not None and value["version"] != version:
        found = f"expected {version!r}, found {shown(value['version'])}"
        report.error("well.version", rules.VERSION, found)
    # until 0.3 nothing says that a path may stand once only
    repeats = version in ("0.1", "0.2", "0.3")
    paths = _read_fields(value.get("images"), names, repeats, report)
    report.check()
    return Fields(
        tuple(dict.fromkeys(paths)),
        {key: v for key, v in value.items() if key != "version"},
        extra,
    )


def parse_fields(document: Any) -> list[tuple[str, Any]]:
    """Return path and acquisition of the fields of a well, whose document is as it may be."""
    entries = document.get("images") if isinstance(document, dict) else None
    entries = entries if isinstance(entries, list) else []
    read = [(_read_fields([entry], FIELD_NAME, True, Report("well")), entry) for entry in entries]
    found: dict[str, Any] = {}
    for paths, entry in read:
        for path in paths:
            found.setdefault(path, entry.get("acquisition"))
    return list(found.items())


def _read_fields(entries: Any, names: re.Pattern[str], repeats: bool, report: Report) -> list[str]:
    if not isinstance(entries, list):
        found = f"expected a list of fields, found {shown(entries)}"
        report.fail("well.images", rules.WELL, found)
        return []
    if not entries:
        report.error("well.images", rules.WELL, "expected at least one field, found []")
    paths: list[str] = []
    for i, entry in enumerate(entries):
        where = f"well.images[{i}]"
        path = entry.get("path") if isinstance(entry, dict) else None
        if is_integer(path):
            report.error(f"{where}.path", rules.FIELD_PATH, f"expected text, found {path}")
            path = str(path)
        if not isinstance(path, str) or not is_relative(path):
            found = f"expected a path below the well, found {shown(path)}; left out"
            report.error(f"{where}.path", rules.FIELD_PATH, found)
            continue
        if not names.fullmatch(path):
            report.error(f"{where}.path", rules.FIELD_PATH, f"found {shown(path)}")
        if "acquisition" in entry and not is_integer(entry["acquisition"]):
            found = f"expected an integer, found {shown(entry['acquisition'])}"
            report.error(f"{where}.acquisition", rules.FIELD_ACQUISITION, found)
        paths.append(path.strip("/"))
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        complain = report.warn if repeats and repeated(entries) is None else report.error
        complain("well.images", rules.FIELD_PATH, f"{shown(twice[0])} stands here twice")
    if entries and not paths:
        report.fail("well.images", rules.WELL, "none has a path")
    return paths
