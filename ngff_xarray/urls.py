"""What text is a URL, and what path a ``file://`` URL means. Light, for the engine's guess."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

_URL = re.compile(r"^[a-z][a-z0-9+.-]+(://|::)", re.IGNORECASE)


def is_url(text: str) -> bool:
    """Tell whether text is a URL (``https://…``, ``simplecache::s3://…``).

    Examples
    --------
    >>> is_url("https://host/image.zarr"), is_url("C:/image.zarr"), is_url("image.zarr")
    (True, False, False)
    """
    return _URL.match(text) is not None


def is_zip(text: str) -> bool:
    """Tell whether a path or URL is that of a zip file with an image in it.

    Examples
    --------
    >>> is_zip("image.ozx"), is_zip("https://host/image.ome.zarr.zip?x=1"), is_zip("a.zarr")
    (True, True, False)
    """
    return re.split(r"[?#]", text)[0].lower().endswith((".zip", ".ozx"))


def local_path(text: str) -> str:
    """Return the path that a ``file://`` URL means; other text as it is.

    Examples
    --------
    >>> local_path("file:///data/my%20image.zarr"), local_path("image.zarr")
    ('/data/my image.zarr', 'image.zarr')
    """
    if not text.startswith("file://"):
        return text
    return url2pathname(text.removeprefix("file://").removeprefix("localhost"))


def without_secrets(url: str) -> str:
    """Return a URL as it may be shown: without a password, and without what follows the path.

    Examples
    --------
    >>> without_secrets("https://me:secret@host/image.zarr?token=secret")
    'https://host/image.zarr?…'
    >>> without_secrets("simplecache::s3://key:secret@bucket/image.zarr")
    'simplecache::s3://bucket/image.zarr'
    """
    chain, _, last = url.rpartition("::")
    try:
        parts = urlsplit(last)
    except ValueError:  # an odd host: nothing of it is shown
        parts = urlsplit(last.partition("://")[0] + "://…")
    host = parts.netloc.rpartition("@")[2]
    shown = urlunsplit((parts.scheme, host, parts.path, "…" if parts.query else "", ""))
    if "://" in last and "://" not in shown:  # an empty host, as of memory:///
        shown = shown.replace(":", "://", 1)
    return f"{without_secrets(chain)}::{shown}" if chain else shown
