"""The table of versions, and reading and writing by it.

A version is one module with the names of the `Version` protocol, and one line in `VERSIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, cast

from ngff_xarray.errors import NotOmeError, UnsupportedError
from ngff_xarray.model import Json
from ngff_xarray.spec import rules, v01, v02, v03, v04, v05, v06
from ngff_xarray.spec.detect import detect_kind, detect_version
from ngff_xarray.spec.documents import Content
from ngff_xarray.spec.report import Report, shown


class Version(Protocol):
    """What the module of a version has."""

    VERSION: str
    ZARR_FORMAT: Literal[2, 3]
    READERS: Mapping[str, Callable[..., Content]]  # by what a group is
    write: Callable[..., dict[str, Any]] | None  # None where it is not written any more

    def split(self, attributes: Json, kind: str, /) -> tuple[Json, dict[str, Any]]:
        """Return what of a group's attributes is OME's, and the rest."""
        ...


VERSIONS: Mapping[str, Version] = {
    module.VERSION: module for module in cast("list[Version]", [v01, v02, v03, v04, v05, v06])
}


def read(
    attributes: Json,
    report: Report,
    *,
    kind: str | None = None,
    version: str | None = None,
    number: int = 0,
) -> tuple[str, str, Content, dict[str, Any]]:
    """Return the version, the kind, the content and the attributes that are not OME's.

    Parameters
    ----------
    attributes
        The attributes of a group.
    report
        Takes what is wrong or odd.
    kind, version
        What the group is and follows, where that is known.
    number
        Which image is wanted, where a group holds several.

    Raises
    ------
    NotOmeError
        If the attributes are not OME's.
    MetadataError
        If they describe something that cannot be read.
    """
    given = kind
    kind = kind or detect_kind(attributes)
    if kind is None or (kind == "label" and given is None):
        raise NotOmeError(
            f"{report.source}: is no OME-Zarr: its attributes have no 'multiscales', 'plate', "
            f"'well' or other key of OME's (they have "
            f"{shown(sorted(attributes)) if attributes else 'nothing'})"
        )
    name = version or detect_version(attributes, kind)
    module = VERSIONS[name]
    report.version = name
    if module.ZARR_FORMAT == 3 and not isinstance(attributes.get("ome"), dict):
        found = f"expected an object under 'ome', found {shown(attributes.get('ome'))}"
        report.error("ome", rules.NAMESPACE, found)
    document, others = module.split(attributes, kind)
    reader = module.READERS.get(kind)
    if reader is None:
        report.stop(kind, None, f"there is no {kind} in version {name}")
    args = (number,) if kind == "image" and number else ()
    try:
        content = reader(document, report, *args)
    except RecursionError:
        report.stop("", rules.NESTING, "is nested too deeply to be read")
    return name, kind, content, others


def writer(version: str) -> Callable[..., dict[str, Any]]:
    """Return what writes the attributes of a group in a version.

    Raises
    ------
    UnsupportedError
        If that version is not written.
    """
    module = VERSIONS.get(version)
    if module is None or module.write is None:
        written = ", ".join(name for name, found in VERSIONS.items() if found.write)
        raise UnsupportedError(f"cannot write version {version!r}: expected one of {written}")
    return module.write
