"""The ``image-label`` document: colours and properties of label values, in every version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ngff_xarray.model import RGBA, Json
from ngff_xarray.spec import rules
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.values import is_integer, is_rgba, repeated


def entries(image_label: Json | None, key: str) -> dict[int, Json]:
    """Return the entry of each label value in ``colors`` or ``properties``; the last one wins.

    Nothing but the label values is looked at: there may be millions, of which few are asked for.

    Examples
    --------
    >>> entries({"colors": [{"label-value": 3, "rgba": [255, 0, 0, 255]}, "red"]}, "colors")
    {3: {'label-value': 3, 'rgba': [255, 0, 0, 255]}}
    """
    found = (image_label or {}).get(key)
    listed = found if isinstance(found, list) else []
    try:
        quick = {entry["label-value"]: entry for entry in listed}
    except (KeyError, TypeError):  # some are no entries
        quick = {}
    if len(quick) == len(listed) and set(map(type, quick)) <= {int}:
        return quick
    joined: dict[int, Json] = {}
    for entry in listed:
        value = entry.get("label-value") if isinstance(entry, dict) else None
        if is_integer(value):
            joined[int(value)] = {**joined.get(int(value), {}), **entry}
    return joined


def colors(image_label: Json | None) -> dict[int, RGBA]:
    """Return the stored colour of each label value; the last one wins where they repeat.

    Examples
    --------
    >>> colors({"colors": [{"label-value": 3, "rgba": [255, 0, 0, 255]}, {"label-value": 4}]})
    {3: (255, 0, 0, 255)}
    """
    found = entries(image_label, "colors")
    return colors_of(found, found)


def colors_of(found: Mapping[int, Json], values: Iterable[int]) -> dict[int, RGBA]:
    """Return the stored colours of some label values, of the ``entries`` of ``colors``."""
    stored = ((value, found[value].get("rgba")) for value in values if value in found)
    return {value: (rgba[0], rgba[1], rgba[2], rgba[3]) for value, rgba in stored if is_rgba(rgba)}


def properties(image_label: Json | None) -> list[dict[str, Any]]:
    """Return the stored properties, one record a label value under the key ``label-value``.

    Entries that say nothing but their label value are no record.
    """
    found = entries(image_label, "properties")
    return [{**entry, "label-value": value} for value, entry in found.items() if len(entry) > 1]


def check(value: Any, version: str | None, report: Report) -> Json | None:
    """Return the document to keep, after noting what is wrong in it; None if it is no object.

    ``version`` is the one that the document should state itself, None from 0.5 on.
    """
    if not isinstance(value, dict):
        return None
    if "colors" not in value:
        found = "is missing: colours are chosen"
        report.warn("image-label.colors", rules.LABEL_COLORS_SHOULD, found)
    for key in ("colors", "properties"):
        if key in value:
            _check_entries(value[key], f"image-label.{key}", report)
    source = value.get("source")
    if "source" in value and not isinstance(source, dict):
        found = f"expected an object, found {shown(source)}"
        report.error("image-label.source", rules.LABEL_SOURCE, found)
    elif isinstance(source, dict) and not isinstance(source.get("image", ""), str):
        found = f"expected text, found {shown(source['image'])}"
        report.error("image-label.source.image", rules.LABEL_SOURCE, found)
    if version is not None and "version" not in value:
        report.warn("image-label.version", rules.VERSION_SHOULD, "is missing")
    elif version is not None and value["version"] != version:
        found = f"expected {version!r}, found {shown(value['version'])}"
        report.error("image-label.version", rules.VERSION, found)
    elif not isinstance(value.get("version", ""), str):  # 0.5 still has it, as text
        found = f"expected text, found {shown(value['version'])}"
        complain = report.error if report.version == "0.5" else report.warn
        complain("image-label.version", rules.LABEL_VERSION, found)
    return {key: item for key, item in value.items() if key != "version"}


def _check_entries(entries: Any, where: str, report: Report) -> None:
    if not isinstance(entries, list) or not entries:
        found = f"expected a list of at least one, found {shown(entries)}"
        report.error(where, rules.LABEL_ENTRIES, found)
        return
    if repeated(entries) is not None:
        report.error(where, rules.LABEL_ENTRIES, f"{shown(repeated(entries))} stands here twice")
    # there is one colour for each value; of properties nothing is said, and the last one wins
    complain = report.error if where.endswith("colors") else report.warn
    seen = set()
    for i, entry in enumerate(entries):
        value = entry.get("label-value") if isinstance(entry, dict) else None
        place = f"{where}[{i}]"
        if not is_integer(value):
            found = f"expected an integer, found {shown(value)}"
            report.error(f"{place}.label-value", rules.LABEL_VALUE, found)
            continue
        if value in seen:
            found = f"{value} stands here again; the last one wins"
            complain(f"{place}.label-value", rules.LABEL_VALUE, found)
        seen.add(value)
        if where.endswith("colors") and "rgba" in entry and not is_rgba(entry["rgba"]):
            found = f"expected four integers of 0 to 255, found {shown(entry['rgba'])}"
            report.error(f"{place}.rgba", rules.LABEL_RGBA, found)
