"""What text is a URL, and what path a ``file://`` URL means. Light, for the engine's guess."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

PRECOMPUTED = "precomputed://"
"""Before a URL, as Neuroglancer has it: a volume in its own format is there."""

DATASOURCE = "datasource-properties.json"
"""The document of a WEBKNOSSOS dataset."""

_HEAD = 2**16  # bytes of a document that tell what it is of
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


def neighbour(folder: Path) -> str:
    """Return what a folder is that `ngff_xarray.open_image` opens and the engine does not.

    Nothing is imported for it: xarray asks of every folder. ``""`` where it is none of these.
    """
    if (folder / DATASOURCE).is_file():
        return "a WEBKNOSSOS dataset"
    is_zarr = any((folder / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs"))
    return "a volume of Neuroglancer" if not is_zarr and is_volume(folder / "info") else ""


def is_volume(info: Path) -> bool:
    """Tell whether a file is the document of a volume in Neuroglancer's precomputed format."""
    try:
        with info.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return False
    is_described = b'"scales"' in head and b'"data_type"' in head
    is_said = b"neuroglancer_multiscale_volume" in head
    return head.lstrip().startswith(b"{") and (is_said or is_described)
