"""A virtual source -> the zarr store that stands for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zarr.abc.store import RangeByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from ngff_xarray.errors import NgffError, StoreError, StoreNotFoundError
from ngff_xarray.spec.nodes import is_node
from ngff_xarray.text import printable
from ngff_xarray.urls import is_url, local_path
from ngff_xarray.virtual import imaris, kerchunk, parquet
from ngff_xarray.virtual.document import DocumentStore
from ngff_xarray.virtual.kinds import Kind, kind_of
from ngff_xarray.virtual.references import ReferenceStore
from ngff_xarray.virtual.targets import MAX_SHOWN, Opener, Reach, Target, shown, split


def open_virtual(
    source: Any, opener: Opener, trust: bool = False
) -> ReferenceStore | DocumentStore | None:
    """Return the store of a virtual source, or None if the source is none.

    Parameters
    ----------
    source
        A path or URL of an Imaris file, of references, or of a collection in JSON; or references
        themselves.
    opener
        Makes the store of a directory.
    trust
        Whether references may lead anywhere.

    Raises
    ------
    NgffError
        If it cannot be opened.
    """
    kind = kind_of(source)
    if kind is None:
        return None
    if isinstance(source, Mapping):
        reach = Reach("references", None, trust)
        return ReferenceStore(reach, kerchunk.index(source, reach), opener)
    text = local_path(os.fspath(source))
    place = text.rstrip("/") if is_url(text) else str(Path(text).expanduser().absolute())
    return _OPENERS[kind](place, split(place), opener, trust)


def _open_imaris(place: str, file: Target, opener: Opener, trust: bool) -> ReferenceStore:
    index, issues = imaris.index(opener(file.directory), file.key, place)
    return ReferenceStore(Reach(shown(place), file.directory), index, opener, issues)


def _open_json(
    place: str, file: Target, opener: Opener, trust: bool
) -> ReferenceStore | DocumentStore:
    reach = Reach(shown(place), file.directory, trust)
    document = kerchunk.parse(_fetch(opener, file, reach.source), reach.source)
    if is_node(document.get("ome")):
        return DocumentStore(place, file.directory, document, opener(file.directory))
    return ReferenceStore(reach, kerchunk.index(document, reach), opener)


def _open_parquet(place: str, file: Target, opener: Opener, trust: bool) -> ReferenceStore:
    parquet.require_pyarrow()
    # the directory stands for the file: what lies beside it came with it
    reach = Reach(shown(place), file.directory, trust)
    content = _fetch(opener, Target(place, ".zmetadata"), reach.source)
    records = parquet.Records(place, reach, opener, kerchunk.parse(content, reach.source))
    return ReferenceStore(reach, records, opener)


_OPENERS: Mapping[Kind, Callable[[str, Target, Opener, bool], ReferenceStore | DocumentStore]] = {
    "imaris": _open_imaris,
    "json": _open_json,
    "parquet": _open_parquet,
}


def _fetch(opener: Opener, file: Target, where: str) -> bytes:
    part = RangeByteRequest(0, kerchunk.MAX_BYTES + 1)
    try:
        found = sync(opener(file.directory).get(file.key, default_buffer_prototype(), part))
    except NgffError:
        raise
    except Exception as error:
        text = printable(error, MAX_SHOWN)
        raise StoreError(f"{where}: cannot be read: {type(error).__name__}: {text}") from error
    if found is None:
        raise StoreNotFoundError(f"{where}: there is no such file")
    return found.to_bytes()
