"""Where the paths of a collection may lead: below its store, further only if it is trusted."""

from __future__ import annotations

import os.path
import posixpath
import re
from dataclasses import replace
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit, urlunsplit

from ngff_xarray.errors import StoreError, UntrustedError
from ngff_xarray.spec.values import is_relative
from ngff_xarray.storage import Access
from ngff_xarray.store import Source, join, open_source
from ngff_xarray.text import printable
from ngff_xarray.urls import is_url, local_path, without_secrets

_SCHEMES = ("http", "https", "file")


def find(base: Source, path: str, access: Access) -> Source:
    """Return the place that a path in a document means. Nothing of it is read.

    Parameters
    ----------
    base
        The directory that relative paths start from. What is below the root of its store may be
        reached by everyone.
    path
        A relative path, or a URL of ``file``, ``http`` or ``https``.
    access
        How other stores are to be read, and whether they may be (``trust``). What credentials
        it has are for the host of the document alone.

    Raises
    ------
    UntrustedError
        If it leads out of the store, and the document is not trusted.
    StoreError
        If it is no such path, or there is nothing.
    """
    text = path.rstrip("/")
    if not text or "\0" in text or len(text) > 2**12:
        raise StoreError(f"{_shown(path)!r} is no path and no URL")
    root = base
    while root.path:
        root = root.parent
    below = _below(base, text)
    if below is not None:
        return root.child(below) if below else root
    if not access.trust:
        raise UntrustedError(
            f"{_shown(path)!r} leads out of {printable(root.url, 500)}: if you know where this "
            "collection comes from, pass engine='ngff', trust=True"
        )
    target = _outside(base, text)
    same = _origin(target) == _origin(base.address)
    return open_source(target, access=access if same else replace(access, storage_options={}))


def _below(base: Source, text: str) -> str | None:
    """Return a path below the root of the store, or None if it leads elsewhere, or may."""
    root = base.address
    if is_url(text):
        place = local_path(text) if text.startswith("file:") else text
        start = root.rstrip("/" if is_url(root) else "/\\") + "/"
        if not root or not place.startswith(start):
            return "" if root and place == root.rstrip("/") else None
        joined = place.removeprefix(start)
    else:
        joined = join(base.path, text) if not text.startswith("/") else text
    below = posixpath.normpath(joined)
    if below == ".":
        return ""
    # servers undo escapes before they look at the dots, some of them twice
    parts = re.split(r"[/\\]", unquote(unquote(below)).partition("?")[0])
    if not is_relative(below) or "\\" in below or {"", ".", ".."} & set(parts):
        return None
    if root and not is_url(root):  # symbolic links count as what they lead to
        real = Path(root).resolve()
        try:
            return below if Path(root, below).resolve().is_relative_to(real) else None
        except (OSError, RuntimeError):
            return None
    return below


def _outside(base: Source, text: str) -> str:
    """Return the path or URL of what a path means that leads out of a store."""
    root = base.address
    if is_url(text):
        if urlsplit(text).scheme.lower() not in _SCHEMES:
            _refuse(text, f"expected a relative path, or a URL of {', '.join(_SCHEMES)}")
        if is_url(root) and text.lower().startswith("file:"):
            _refuse(text, "a collection from the web cannot mean files of this machine")
        return text
    if not root:
        _refuse(text, "it is not known where the store of the collection is")
    if not is_url(root):
        return os.path.normpath(Path(root, base.path, text))
    parts = urlsplit(root)
    if "::" in root or parts.query:
        _refuse(text, "there is no way up from such a URL")
    way = posixpath.normpath(posixpath.join("/", parts.path, base.path, text))
    return urlunsplit((parts.scheme, parts.netloc, way, "", ""))


def _refuse(text: str, why: str) -> NoReturn:
    raise StoreError(f"{_shown(text)!r}: {why}")


def _origin(place: str) -> tuple[str, str]:
    """Return the protocol and the host that a place is at; of a path neither."""
    if not is_url(place) or place.startswith("file:"):
        return "", ""
    parts = urlsplit(place)
    return parts.scheme.lower(), parts.netloc.lower()


def _shown(place: str) -> str:
    return printable(without_secrets(place) if is_url(place) else place, 200)
