"""Groups of images: the bioformats2raw layout, its ``OME`` group, and the list of labels."""

from __future__ import annotations

from typing import Any

from ngff_xarray.model import Collection, Json
from ngff_xarray.spec import rules
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.values import is_integer, is_number, is_relative

LAYOUT = "bioformats2raw.layout"


def read_layout(document: Json, report: Report) -> Collection:
    """Return the collection that the root of a bioformats2raw store describes."""
    layout = document.get(LAYOUT)
    if not is_number(layout) or layout != 3:
        report.error(f"['{LAYOUT}']", rules.LAYOUT, f"expected 3, found {shown(layout)}")
    return Collection(None, dict(document))


def read_series(document: Json, report: Report) -> Collection:
    """Return the images that the ``OME`` group of a bioformats2raw store lists."""
    value = document.get("series")
    return Collection(_read_paths(value, "series", rules.SERIES, report), dict(document))


def read_labels(document: Json, report: Report) -> Collection:
    """Return the label images that a labels group lists."""
    value = document.get("labels")
    return Collection(_read_paths(value, "labels", rules.LABELS_LIST, report), dict(document))


def _read_paths(value: Any, where: str, rule: rules.Rule, report: Report) -> tuple[str, ...]:
    if not isinstance(value, list):
        report.error(where, rule, f"expected a list of paths, found {shown(value)}; ignored")
        return ()
    paths = [str(path) if is_integer(path, 0) else path for path in value]
    good = [path for path in paths if isinstance(path, str) and is_relative(path)]
    if good != value:
        report.error(where, rule, f"expected paths below the group, found {shown(value)}")
    return tuple(dict.fromkeys(path.strip("/") for path in good))
