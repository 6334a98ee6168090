"""The mark of a store that is being written: attributes of its root, until all of it is there."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ngff_xarray.errors import IncompleteError, StoreError
from ngff_xarray.text import printable

KEY = "ngff_xarray"


def mark() -> dict[str, Any]:
    """Return the attributes of a store that this process begins to write."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return {KEY: {"writing": {"started": started, "host": platform.node(), "process": os.getpid()}}}


def is_marked(attributes: Mapping[str, Any]) -> bool:
    """Tell whether a store was begun and not ended.

    Examples
    --------
    >>> is_marked(mark()), is_marked({"ome": {}})
    (True, False)
    """
    return bool(_said(attributes))


def check_read(url: str, attributes: Mapping[str, Any]) -> None:
    """Check that a store is whole.

    Raises
    ------
    IncompleteError
        If writing it was begun and not ended.
    """
    said = _said(attributes)
    if said:
        since = printable(said.get("started", "some time ago"), 40)
        raise IncompleteError(
            f"{printable(url, 500)}: is incomplete: writing it was begun ({since}) and has not "
            "ended: wait for that, write it again, or delete it"
        )


def check_written(url: str, attributes: Mapping[str, Any]) -> None:
    """Check that no other process of this machine is writing a store.

    Raises
    ------
    StoreError
        If one is.
    """
    said = _said(attributes)
    process = said.get("process")
    if said.get("host") == platform.node() and process != os.getpid() and _runs(process):
        raise StoreError(
            f"{printable(url, 500)}: is being written by process {process}: wait until it ends, or "
            "give another path"
        )


def _said(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    own = attributes.get(KEY)
    said = own.get("writing") if isinstance(own, dict) else None
    return said if isinstance(said, dict) else {}


def _runs(process: Any) -> bool:
    if not isinstance(process, int) or os.name != "posix":  # elsewhere, asking would end it
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
