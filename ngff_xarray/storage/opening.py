"""The one function that makes a zarr store of a URL, for every protocol."""

from __future__ import annotations

import re
from typing import Any

from zarr.abc.store import Store
from zarr.storage import FsspecStore, ObjectStore

from ngff_xarray.errors import MissingDependencyError, NgffError, StoreError
from ngff_xarray.storage import http, s3
from ngff_xarray.storage.access import Access
from ngff_xarray.storage.faults import causes
from ngff_xarray.storage.guarded import Guarded
from ngff_xarray.text import printable
from ngff_xarray.urls import without_secrets

_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}


def open_store(url: str, access: Access, *, write: bool = False) -> Store:
    """Return the store at a URL. Nothing is asked yet.

    Parameters
    ----------
    url
        Any that fsspec knows: ``https://…``, ``s3://…``, ``memory://…``, ``simplecache::s3://…``.
    access
        How to read it.
    write
        Whether to write to it; such a store asks once and raises what the library below does.

    Raises
    ------
    StoreError
        If no store can be made of the URL.
    MissingDependencyError
        If the package for its protocol is not installed.
    """
    protocol = re.split(r"://|::", url, maxsplit=1)[0].lower()
    place = without_secrets(url)
    hint = ""
    try:
        if protocol in ("s3", "s3a") and s3.is_for_obstore(access):
            store, hint = s3.open_store(url, access, write=write)
        else:
            store, hint = _by_fsspec(url, protocol, access, write=write)
    except NgffError:
        raise
    except ImportError as error:
        raise _missing(protocol, place, error) from error
    except (ValueError, TypeError, OSError) as error:
        reason = printable(error, 500).replace(url, place)
        raise StoreError(f"cannot open {place}: {reason}") from error
    return store if write else Guarded(store, place, access, hint=hint)


def _by_fsspec(url: str, protocol: str, access: Access, *, write: bool) -> tuple[Store, str]:
    options: dict[str, Any] = dict(access.storage_options)
    hint = ""
    if protocol in ("http", "https"):
        options.setdefault("get_client", http.trusting_session if access.trust else http.session)
    elif protocol in ("s3", "s3a"):
        options, hint = s3.for_s3fs(access)
    return FsspecStore.from_url(url, storage_options=options, read_only=not write), hint


def _missing(protocol: str, place: str, error: ImportError) -> NgffError:
    if protocol in ("s3", "s3a"):
        return MissingDependencyError("obstore or s3fs", "s3", f"opening {place}")
    package = _PACKAGES.get(protocol)
    if package is not None:
        return StoreError(f"cannot open {place}: it needs {package}: pip install {package}")
    return StoreError(f"cannot open {place}: {error}")


async def why_missing(store: Store, key: str) -> str:
    """Return why a key is not there, where a server says more than that; else nothing."""
    inner = store.store if isinstance(store, Guarded) else store
    try:
        if isinstance(inner, FsspecStore):
            await inner.fs._cat_file(f"{inner.path}/{key}")
        elif isinstance(inner, ObjectStore):
            from obstore import get_async

            await get_async(inner.store, key)
    except Exception as error:  # whatever the libraries below raise
        said = "".join(str(each) for each in causes(error))
        return "there is no such bucket" if "NoSuchBucket" in said else ""
    return ""
