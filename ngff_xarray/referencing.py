"""The index of a source that is read in place, as a reference file for others."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ngff_xarray.errors import UnsupportedError
from ngff_xarray.progress import progress as progress_bar
from ngff_xarray.storage import Access
from ngff_xarray.store import open_source, open_target, put_bytes, run
from ngff_xarray.urls import is_url, local_path
from ngff_xarray.virtual import kerchunk
from ngff_xarray.virtual.imaris import Imaris
from ngff_xarray.virtual.index import Index
from ngff_xarray.virtual.references import ReferenceStore
from ngff_xarray.virtual.targets import split


def references(
    source: Any,
    target: str | os.PathLike[str] | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
    trust: bool = False,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Return where every chunk of an Imaris file lies, as kerchunk references; write them.

    With them the file opens in one request, here and in everything that reads references:
    fsspec's ``reference://`` file system, zarr, xarray with ``engine="kerchunk"``. They name the
    file by its absolute path or URL. This package follows them while the file lies beside or
    below the reference file, and elsewhere with ``trust=True``.

    Parameters
    ----------
    source
        The path or URL of an Imaris file, or of references in JSON.
    target
        Where to write them, as JSON: a path or URL. None writes nothing.
    storage_options
        Credentials and the like, as of fsspec, where the source or target is a URL.
    trust
        Whether references in the source may lead anywhere.
    progress
        Whether to show a bar; by default after a second, in a notebook or a terminal.

    Returns
    -------
    dict
        The references, version 1: ``{"version": 1, "refs": {key: [url, offset, size], …}}``.

    Raises
    ------
    UnsupportedError
        If the source is none that is read in place, or references cannot say how it is stored.

    Examples
    --------
    >>> import ngff_xarray
    >>> ngff_xarray.references("scan.ims", "scan.json")  # doctest: +SKIP
    """
    access = Access(storage_options or {}, trust=trust, progress=progress)
    place = open_source(source, access=access)
    store = place.store
    lookup = store.lookup if isinstance(store, ReferenceStore) else None
    if isinstance(lookup, Imaris):
        with progress_bar("indexing", "datasets", progress) as bar:
            lookup = run(lookup.whole(bar), bar)
    if not isinstance(store, ReferenceStore) or not isinstance(lookup, Index):
        raise UnsupportedError(
            f"{place.url}: expected an Imaris file or references in JSON: of others there are "
            "no references to make"
        )
    found = kerchunk.dump(lookup, store.reach)
    if target is not None:
        text = local_path(os.fspath(target))
        directory, name = split(text if is_url(text) else str(Path(text).expanduser().absolute()))
        into = open_target(directory, access=access)
        put_bytes(into.store, name, json.dumps(found).encode())
    return found
