"""What text is a URL, and what path a ``file://`` URL means. Light, for the engine's guess."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

PRECOMPUTED = "precomputed://"
"""Before a URL, as Neuroglancer has it: a volume in its own format is there."""

_URL = re.compile(r"^[a-z][a-z0-9+.-]+(://|::)", re.IGNORECASE)
_IN_TEXT = re.compile(r"\w+://[^\s'\"<>]+")


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


_LINK = re.compile(r"(/annotations/zarr[^/]*/)[^/?#]+")  # of WEBKNOSSOS: the path is the secret


def without_secrets(url: str) -> str:
    """Return a URL as it may be shown: without a password, and without what follows the path.

    Nor with the private part of a link that WEBKNOSSOS makes for an annotation.

    Examples
    --------
    >>> without_secrets("https://me:secret@host/image.zarr?token=secret")
    'https://host/image.zarr?…'
    >>> without_secrets("simplecache::s3://key:secret@bucket/image.zarr")
    'simplecache::s3://bucket/image.zarr'
    """
    chain, _, last = url.rpartition("::")
    if last.startswith(PRECOMPUTED):
        return PRECOMPUTED + without_secrets(last.removeprefix(PRECOMPUTED))
    try:
        parts = urlsplit(last)
    except ValueError:  # an odd host: nothing of it is shown
        parts = urlsplit(last.partition("://")[0] + "://…")
    host = parts.netloc.rpartition("@")[2]
    path = _LINK.sub(r"\1…", parts.path)
    shown = urlunsplit((parts.scheme, host, path, "…" if parts.query else "", ""))
    if "://" in last and "://" not in shown:  # an empty host, as of memory:///
        shown = shown.replace(":", "://", 1)
    return f"{without_secrets(chain)}::{shown}" if chain else shown


def hidden(text: str) -> str:
    """Return text in which URLs are as they may be shown.

    Examples
    --------
    >>> hidden("GET https://host/a?token=secret failed")
    'GET https://host/a?… failed'
    """
    return _IN_TEXT.sub(lambda url: without_secrets(url[0]), text)


def divided(url: str) -> tuple[str, str]:
    """Return a URL up to its query, without a slash at the end, and the query.

    Examples
    --------
    >>> divided("https://host/a.zarr/?token=secret"), divided("s3://bucket/a.zarr")
    (('https://host/a.zarr', 'token=secret'), ('s3://bucket/a.zarr', ''))
    """
    place, _, query = url.partition("#")[0].partition("?")
    return place.rstrip("/"), query
