"""The one function that makes a zarr store of a URL, for every protocol."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.memory import MemoryFileSystem
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, ObjectStore

from ngff_xarray.errors import MissingDependencyError, NgffError, StoreError
from ngff_xarray.storage import http, s3
from ngff_xarray.storage.access import Access
from ngff_xarray.storage.cached import Cached
from ngff_xarray.storage.faults import causes
from ngff_xarray.storage.guarded import Guarded
from ngff_xarray.text import printable
from ngff_xarray.urls import without_secrets

_CACHES = ("simplecache", "filecache")
_REFUSED = ("blockcache", "cached")
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
    protocol = protocol_of(url)
    place = without_secrets(url)
    hint = ""
    first, _, rest = url.partition("::")
    if rest and first in _CACHES:
        return _cached(first, rest, place, access, write=write)
    if rest and first in _REFUSED:
        raise StoreError(
            f"cannot open {place}: {first} keeps zeros where a connection was lost: take "
            f"simplecache::{without_secrets(rest)}"
        )
    try:
        if not rest and protocol in ("s3", "s3a") and s3.is_for_obstore(access):
            store, hint = s3.open_store(url, access, write=write)
        else:
            store, hint = _by_fsspec(url, access, write=write)
    except NgffError:
        raise
    except ImportError as error:
        raise _missing(protocol, place, error) from error
    except (ValueError, TypeError, OSError) as error:
        reason = printable(error, 500).replace(url, place)
        raise StoreError(f"cannot open {place}: {reason}") from error
    return store if write else Guarded(store, place, access, hint=hint)


def _cached(first: str, url: str, place: str, access: Access, *, write: bool) -> Store:
    """Return the store at a URL, with what was read of it kept in a folder."""
    given = dict(access.storage_options)
    protocols = [each.partition("://")[0] for each in url.split("::")]
    inner = {name: given.pop(name) for name in protocols if name in given}
    own = {**given, **given.pop(first, {})}
    own.pop(first, None)
    folder = own.pop("cache_storage", None)
    if own:
        raise StoreError(
            f"cannot open {place}: {first} takes the option cache_storage; found {sorted(own)}. "
            f"Options of the server stand below its protocol: {{{protocols[-1]!r}: …}}"
        )
    options = inner.get(protocols[0], {}) if len(protocols) == 1 else inner
    store = open_store(url, replace(access, storage_options=options), write=write)
    if not isinstance(store, Guarded):  # what is written is not kept
        return store
    folder = None if folder == "TMP" else folder
    # a bucket of that name may be elsewhere, too
    origin = f"{url} {s3.endpoint_of(options) if protocols[-1] in ('s3', 's3a') else ''}"
    return Cached(store.store, place, access, hint=store.hint, folder=folder, origin=origin)


def protocol_of(url: str) -> str:
    """Return the protocol of the server: in a chain, that of its last link.

    Examples
    --------
    >>> protocol_of("s3://bucket/a.zarr"), protocol_of("simplecache::https://host/a.zarr")
    ('s3', 'https')
    """
    return url.rpartition("::")[2].partition("://")[0].lower()


def _by_fsspec(url: str, access: Access, *, write: bool) -> tuple[Store, str]:
    protocol = protocol_of(url)
    if "::" not in url:
        options, hint = _options(protocol, access)
        if protocol in ("http", "https"):
            url, options = http.with_query(url, options)
        made = FsspecStore.from_url(url, storage_options=options, read_only=not write)
        if protocol in ("s3", "s3a") and not write:
            made.fs.retries = 1  # the guard's to say
        return made, hint
    given = dict(access.storage_options)
    own, hint = _options(protocol, replace(access, storage_options=given.get(protocol) or {}))
    # what is chained lives on fsspec's own event loop: threads wait for it
    fs, path = url_to_fs(url, **{**given, protocol: own})
    made = FsspecStore(AsyncFileSystemWrapper(fs, asynchronous=True), not write, path)
    return made, hint


def _options(protocol: str, access: Access) -> tuple[dict[str, Any], str]:
    """Return the options of a file system of fsspec, and a hint where it may not be read."""
    options = dict(access.storage_options)
    if protocol in ("http", "https"):
        options.setdefault("get_client", http.trusting_session if access.trust else http.session)
    elif protocol in ("s3", "s3a"):
        return s3.for_s3fs(access)
    return options, ""


def _missing(protocol: str, place: str, error: ImportError) -> NgffError:
    if protocol in ("s3", "s3a"):
        return MissingDependencyError("obstore or s3fs", "s3", f"opening {place}")
    package = _PACKAGES.get(protocol)
    if package is not None:
        return StoreError(f"cannot open {place}: it needs {package}: pip install {package}")
    return StoreError(f"cannot open {place}: {error}")


def is_shared(store: Store) -> bool:
    """Tell whether other processes that open a store for writing write to the same place."""
    if isinstance(store, FsspecStore):
        return not isinstance(store.fs, MemoryFileSystem)
    if isinstance(store, ObjectStore):
        return type(store.store).__name__ != "MemoryStore"
    return isinstance(store, LocalStore)


def is_zarr_only(store: Store) -> bool:
    """Tell whether a store has keys of Zarr's own and no others, like that of OME-XML."""
    inner = store.store if isinstance(store, Guarded) else store
    return type(inner).__module__.partition(".")[0] == "icechunk"


def hint_of(store: Store) -> str:
    """Return what to say where a store that was opened by its URL refuses to be written."""
    is_anonymous = isinstance(store, ObjectStore) and bool(
        getattr(store.store, "config", {}).get("skip_signature")
    )
    if isinstance(store, FsspecStore):
        is_anonymous = bool(getattr(store.fs, "anon", False))
    return s3.WITHOUT_CREDENTIALS if is_anonymous else ""


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
