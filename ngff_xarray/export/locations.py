"""Where a store is, in words that other libraries and web pages understand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, ObjectStore

from ngff_xarray.storage import Guarded, ZipStore
from ngff_xarray.store import Source, join

Kind = Literal["file", "http", "s3", "gs", "zip", "other"]


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a store of a known kind.

    Parameters
    ----------
    kind
        What it is.
    path
        A path on this machine, a URL, a key in the bucket or an entry of the zip file.
    bucket, endpoint, region
        Of S3 and Google's storage; "" where they are not said.
    credentials
        Of S3: none, those of the environment and its files, or some that were given.
    base
        Where a zip file is.
    """

    kind: Kind
    path: str
    bucket: str = ""
    endpoint: str = ""
    region: str = ""
    credentials: Literal["none", "environment", "given"] = "none"
    base: Location | None = None

    @property
    def has_secrets(self) -> bool:
        """Whether its URL holds a token or a password."""
        parts = urlsplit(self.path)
        return self.kind == "http" and bool(parts.query or "@" in parts.netloc)


def locate(source: Source) -> Location:
    """Return where a place is; of the kind ``"other"`` where that cannot be said."""
    return _locate(source.store, source.path)


def _locate(store: Store, path: str) -> Location:
    inner = store.store if isinstance(store, Guarded) else store
    if isinstance(inner, LocalStore):
        return Location("file", str(inner.root / path))
    if isinstance(inner, ZipStore):
        return Location("zip", path, base=_locate(inner.store, inner.key))
    if isinstance(inner, FsspecStore):
        return _of_fsspec(inner, path)
    if isinstance(inner, ObjectStore) and type(inner.store).__name__ == "S3Store":
        return _of_obstore(inner.store, path)
    return Location("other", path)


def _of_fsspec(store: FsspecStore, path: str) -> Location:
    fs: Any = store.fs
    protocols = [fs.protocol] if isinstance(fs.protocol, str) else list(fs.protocol)
    if "https" in protocols or "http" in protocols:
        url, mark, query = store.path.partition("?")
        if fs.kwargs.get("params"):  # which were in the URL
            mark, query = "?", urlencode(fs.kwargs["params"])
        return Location("http", f"{url.rstrip('/')}/{path}".rstrip("/") + mark + query)
    if "gs" in protocols:
        bucket, _, prefix = store.path.partition("/")
        return Location("gs", join(prefix.strip("/"), path), bucket)
    if "s3" in protocols:
        bucket, _, prefix = store.path.partition("/")
        client = fs.client_kwargs or {}
        given = bool(fs.key or {"aws_access_key_id"} & set(client))
        return Location(
            "s3",
            join(prefix.strip("/"), path),
            bucket,
            str(fs.endpoint_url or client.get("endpoint_url") or ""),
            str(client.get("region_name") or ""),
            "none" if fs.anon else "given" if given else "environment",
        )
    return Location("other", path)


def _of_obstore(store: Any, path: str) -> Location:
    config = store.config
    given = "access_key_id" in config
    anonymous = str(config.get("skip_signature", "")).lower() == "true"
    return Location(
        "s3",
        join((store.prefix or "").strip("/"), path),
        config.get("bucket", ""),
        config.get("endpoint", ""),
        config.get("region", ""),
        "none" if anonymous else "given" if given else "environment",
    )
