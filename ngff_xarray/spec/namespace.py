"""The version that documents below the key ``ome`` state, from 0.5 on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ngff_xarray.model import Json
from ngff_xarray.spec import rules
from ngff_xarray.spec.documents import Content
from ngff_xarray.spec.report import Report, shown

Reader = Callable[..., Content]


def checked(
    readers: Mapping[str, Reader], version: str, is_stated: Callable[[str], bool]
) -> dict[str, Reader]:
    """Return the readers, each looking at the version that a document states first.

    Parameters
    ----------
    readers
        Kind of group -> reader.
    version
        The version to expect.
    is_stated
        Tells whether a document may state this as its version.
    """

    def checking(reader: Reader) -> Reader:
        def read(document: Json, report: Report, *args: Any) -> Content:
            found = document.get("version")
            if "version" not in document:
                report.error("version", rules.VERSION, "is missing")
            elif not isinstance(found, str) or not is_stated(found):
                wrong = f"expected {version!r}, found {shown(found)}"
                report.error("version", rules.VERSION, wrong)
            return reader(document, report, *args)

        return read

    return {kind: checking(reader) for kind, reader in readers.items()}
