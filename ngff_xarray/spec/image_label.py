"""The ``image-label`` document: colours and properties of label values, in every version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ngff_xarray.model import RGBA, Json
from ngff_xarray.spec.values import is_number, is_rgba


def colors(image_label: Json | None) -> dict[int, RGBA]:
    """Return the stored colour of each label value; the last one wins where they repeat.

    Examples
    --------
    >>> colors({"colors": [{"label-value": 3, "rgba": [255, 0, 0, 255]}, {"label-value": 4}]})
    {3: (255, 0, 0, 255)}
    """
    stored = ((value, entry.get("rgba")) for value, entry in _entries(image_label, "colors"))
    return {value: (rgba[0], rgba[1], rgba[2], rgba[3]) for value, rgba in stored if is_rgba(rgba)}


def properties(image_label: Json | None) -> list[dict[str, Any]]:
    """Return the stored properties, one record a label value under the key ``label-value``."""
    records: dict[int, dict[str, Any]] = {}
    for value, entry in _entries(image_label, "properties"):
        records[value] = {**records.get(value, {}), **entry, "label-value": value}
    return list(records.values())


def _entries(image_label: Json | None, key: str) -> Iterator[tuple[int, Json]]:
    entries = (image_label or {}).get(key)
    for entry in entries if isinstance(entries, list) else []:
        value = entry.get("label-value") if isinstance(entry, dict) else None
        if is_number(value) and value == int(value):
            yield int(value), entry
