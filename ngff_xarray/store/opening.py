"""What a group says, looked at once when xarray asks twice."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from zarr.core.buffer import default_buffer_prototype

from ngff_xarray.errors import NgffError, StoreError
from ngff_xarray.storage import Access
from ngff_xarray.store.places import Document, Source, join, open_source, run
from ngff_xarray.store.reading import Group, look, require_group


class _RecentLook:
    """Keeps what came of a look for the opening that follows; each look serves once."""

    def __init__(self, seconds: float = 5.0) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._looks: dict[tuple[str, int], tuple[float, tuple[Source, Group] | NgffError]] = {}

    def put(self, key: str, found: tuple[Source, Group] | NgffError) -> None:
        now = time.monotonic()
        with self._lock:
            self._looks = {k: v for k, v in self._looks.items() if now - v[0] < self._seconds}
            self._looks[key, threading.get_ident()] = (now, found)

    def take(self, key: str) -> tuple[Source, Group] | NgffError | None:
        with self._lock:
            when, found = self._looks.pop((key, threading.get_ident()), (0.0, None))
        return found if time.monotonic() - when < self._seconds else None


_recent = _RecentLook()


def look_ahead(source: Any, wanted: Callable[[Document], bool]) -> Group | None:
    """Return what the group at a user's source says; keep it for `open_group` if it is wanted.

    A store that could not be reached is not asked again by the opening either.
    """
    place = open_source(source)
    key = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    try:
        group = look(place)
    except StoreError as error:
        if key is not None:
            _recent.put(key, error)
        raise
    if group is not None and key is not None and wanted(group.attributes):
        _recent.put(key, (place, group))
    return group


def open_group(
    source: Any, *, group: str | None = None, access: Access | None = None
) -> tuple[Source, Group]:
    """Return a place and what the group there says; a look just taken is not taken again.

    Raises
    ------
    StoreNotFoundError, NotOmeError
        If there is no group.
    MetadataError
        If its metadata are no JSON object.
    StoreError
        If the store cannot be read.
    """
    recent = _recent.take(os.fspath(source)) if isinstance(source, str | os.PathLike) else None
    if recent is not None and not group and replace(access or Access(), progress=None) == Access():
        if isinstance(recent, NgffError):
            raise recent
        return recent[0], require_group(*recent)
    place = open_source(source, group=group, access=access)
    return place, require_group(place, look(place))


def mentions_ome(source: Any) -> bool:
    """Tell whether root metadata that are no JSON were meant as OME's."""

    async def raw(place: Source) -> bytes:
        keys = [join(place.path, name) for name in ("zarr.json", ".zattrs")]
        prototype = default_buffer_prototype()
        found = [await place.store.get(key, prototype=prototype) for key in keys]
        return b"".join(buffer.to_bytes() for buffer in found if buffer is not None)

    text = run(raw(open_source(source)))
    return b'"multiscales"' in text or b'"ome"' in text
