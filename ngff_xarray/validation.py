"""Whether metadata follow the specification: every rule that is broken, and how to mend it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ngff_xarray import image, read, spec, store
from ngff_xarray.errors import Issue, MetadataError, NotOmeError, UnsupportedError
from ngff_xarray.model import Json
from ngff_xarray.progress import progress as progress_bar
from ngff_xarray.spec import rules
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.storage import Access
from ngff_xarray.text import printable

# what callers may say that a document is -> what the specification's reader calls it
_KINDS: Mapping[str, str | None] = {
    "image": "image",
    "label": "label",
    "labels": "label",
    "plate": "plate",
    "well": "well",
    "collection": "collection",
    "bf2raw": "collection",
    "series": "series",
    "ome-series": "series",
    "labels group": "labels group",
    "scene": "scene",
    "transform": None,  # an image or a scene, whichever the document holds
}


@dataclass(frozen=True, slots=True)
class Validation:
    """What was found: prints as text and in a notebook, and converts to JSON.

    Parameters
    ----------
    source
        What was looked at.
    kind, version
        What it is and the version of the specification it follows; empty where that is unknown.
    issues
        Every rule that is broken, in the order of the document.
    """

    source: str
    kind: str
    version: str
    issues: tuple[Issue, ...]

    @property
    def valid(self) -> bool:
        """Whether no MUST of the specification is broken."""
        return not self.errors

    @property
    def errors(self) -> tuple[Issue, ...]:
        """What breaks a MUST of the specification."""
        return tuple(issue for issue in self.issues if issue.severity == "error")

    @property
    def warnings(self) -> tuple[Issue, ...]:
        """What breaks a SHOULD, or is odd."""
        return tuple(issue for issue in self.issues if issue.severity == "warning")

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain lists and dicts."""
        return {
            "source": self.source,
            "kind": self.kind,
            "version": self.version,
            "valid": self.valid,
            "errors": [asdict(issue) for issue in self.errors],
            "warnings": [asdict(issue) for issue in self.warnings],
        }

    def to_json(self, indent: int | None = 2) -> str:
        """Return it as JSON text."""
        return json.dumps(self.to_dict(), indent=indent)

    def _first(self) -> tuple[Issue, ...]:
        """Return the issues that are printed: errors first."""
        return (*self.errors, *self.warnings)[:_SHOWN]

    def _beyond(self) -> str:
        more = len(self.issues) - _SHOWN
        return f"… and {more} more: see .errors and .warnings" if more > 0 else ""

    def _title(self) -> str:
        what = f"OME-Zarr {self.version} {self.kind}".strip() if self.version else "document"
        verdict = "valid" if self.valid else "invalid"
        counts = f"{_count(self.errors, 'error')}, {_count(self.warnings, 'warning')}"
        return f"{verdict}: {what} ({counts})"

    def __str__(self) -> str:
        lines = [self._title(), printable(self.source, 200)]
        for issue in self._first():
            where = f"{issue.group}: {issue.path}" if issue.group else issue.path
            lines.append("")
            lines.append(f"{issue.severity}: {printable(where, 200)}")
            lines.append(f"  found: {printable(issue.message, 400)}")
            if issue.rule:
                lines.append(f"  rule:  {issue.rule}")
                lines.append(f"         ({issue.section})")
                lines.append(f"  mend:  {issue.mend}")
        if self._beyond():
            lines += ["", self._beyond()]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(_row(issue) for issue in self._first())
        heads = "".join(
            f"<th style='{_CELL}'>{head}</th>" for head in ("", "where", "found", "rule", "mend")
        )
        table = f"<table style='{_TABLE}'><tr>{heads}</tr>{rows}</table>" if rows else ""
        source = f"<span style='color:gray'>{html.escape(printable(self.source, 200))}</span>"
        title = f"<strong>{html.escape(self._title())}</strong>"
        return f"<div>{title}<br>{source}{table}{self._beyond()}</div>"


_SHOWN = 100  # issues that are printed
_TABLE = "border-collapse:collapse;margin-top:0.5em"
_CELL = "text-align:left;vertical-align:top;padding:0.2em 0.8em 0.2em 0"
_COLORS = {"error": "#c62828", "warning": "#b26a00"}


def _count(issues: Sequence[Issue], what: str) -> str:
    return f"{len(issues)} {what}{'' if len(issues) == 1 else 's'}"


def _row(issue: Issue) -> str:
    where = f"{issue.group}: {issue.path}" if issue.group else issue.path
    rule = html.escape(issue.rule)
    if issue.section:
        rule += f"<br><span style='color:gray'>{html.escape(issue.section)}</span>"
    cells = [
        f"<span style='color:{_COLORS[issue.severity]}'>{issue.severity}</span>",
        f"<code>{html.escape(printable(where, 200))}</code>",
        html.escape(printable(issue.message, 400)),
        rule,
        html.escape(issue.mend),
    ]
    return "<tr>" + "".join(f"<td style='{_CELL}'>{cell}</td>" for cell in cells) + "</tr>"


def validate(
    source: Any,
    *,
    kind: str | None = None,
    version: str | None = None,
    group: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> Validation:
    """Return what a store, or a metadata document, breaks of the specification.

    A store is looked at whole: every group and the metadata of every array, with no pixel read.

    Parameters
    ----------
    source
        A path, a URL, a zarr group or store; or the attributes of a group as a dict: the
        content of ``.zattrs``, or ``attributes`` of ``zarr.json``.
    kind
        What it is, where that cannot be told from its attributes; see `validate_document`.
    version
        The version to hold a document against; by default the one that it follows.
    group
        The group to look at, where it is not the root of the store.
    storage_options
        For fsspec, where the source is a URL.
    progress
        Whether to show a bar; by default after a second, in a notebook or a terminal.

    Returns
    -------
    Validation
        With ``valid``, ``errors`` and ``warnings``; every entry has a JSON path, what was found,
        what the specification says and where, and how to mend it.

    Raises
    ------
    StoreError
        If the store cannot be read, or there is none.
    UnsupportedError
        If there is no such kind or version.

    Examples
    --------
    >>> from ngff_xarray import sample
    >>> print(validate(sample("cell")).valid)
    True
    """
    if isinstance(source, Mapping):
        return validate_document(source, kind=kind, version=version)
    _check_names(kind, version)
    access = Access(storage_options or {}, progress=progress)
    place, found = store.open_group(source, group=group, access=access)
    return validate_group(place, found, kind=kind, progress=progress)


def validate_group(
    place: store.Source,
    found: store.Group,
    kind: str | None = None,
    progress: bool | None = None,
) -> Validation:
    """Return what a group of a store, and all below it, break of the specification."""
    report = Report(place.url)
    known = _KINDS[kind] if kind is not None else None
    try:
        with progress_bar("validating", "groups", progress) as bar:
            opening = read.Opening(wells="all", bar=bar)
            nodes = store.run(
                read.open_nodes(place, found, opening, kind=known, report=report), bar
            )
    except MetadataError as error:
        more = [issue for issue in error.issues if issue not in report.faults]
        issues = (*report.issues, *report.faults, *more)
    except NotOmeError as error:
        report.error("", None, str(error).removeprefix(f"{place.url}: "))
        issues = tuple(report.issues)
    else:
        tree = read.tree_of(nodes)
        return Validation(place.url, image.kind(tree), report.version, image.issues(tree))
    return Validation(place.url, kind or spec.detect_kind(found.attributes) or "", "", issues)


def _check_names(kind: str | None, version: str | None) -> str | None:
    """Return the name of the version that is meant, after checking both."""
    if kind is not None and kind not in _KINDS:
        raise UnsupportedError(f"unknown kind {kind!r}: expected one of {', '.join(_KINDS)}")
    return None if version is None else _known_version(version)


def validate_document(
    document: Json, *, kind: str | None = None, version: str | None = None
) -> Validation:
    """Return what a metadata document breaks of the specification.

    Parameters
    ----------
    document
        The attributes of a group: the content of ``.zattrs``, or ``attributes`` of ``zarr.json``.
    kind
        What it describes, where it cannot be told from the document: ``"image"``, ``"label"``,
        ``"plate"``, ``"well"``, ``"collection"`` (the root that bioformats2raw writes),
        ``"series"`` (its ``OME`` group), ``"labels group"`` or ``"scene"``.
    version
        The version to hold it against; by default the one that it follows.

    Raises
    ------
    UnsupportedError
        If there is no such kind or version.

    Examples
    --------
    >>> document = {"multiscales": [{"version": "0.4", "axes": [], "datasets": []}]}
    >>> found = validate_document(document)
    >>> found.valid, found.errors[0].path
    (False, 'multiscales[0].axes')
    """
    name = _check_names(kind, version)
    report = Report("document")
    if not isinstance(document, dict):
        report.error("", rules.NESTING, f"expected an object, found {shown(document)}")
        return Validation("document", kind or "", name or "", tuple(report.issues))
    known = _KINDS[kind] if kind is not None else None
    if known is None and spec.detect_kind(document) == "label":
        known = "label"
    found_version, found_kind = name or "", known or ""
    try:
        found_version, found_kind, _, _ = spec.read(document, report, kind=known, version=name)
    except MetadataError:
        found_version = report.version
    except NotOmeError as error:
        report.error("", None, str(error).removeprefix("document: "))
    issues = (*report.issues, *report.faults)
    found_kind = kind or found_kind or spec.detect_kind(document) or ""
    return Validation("document", found_kind, found_version, issues)


def _known_version(version: str) -> str:
    match = re.match(r"0\.\d+(?!\d)", version)
    name = match[0] if match else ""
    if name not in spec.VERSIONS:
        known = ", ".join(spec.VERSIONS)
        raise UnsupportedError(f"unknown version {version!r}: expected one of {known}")
    return name
