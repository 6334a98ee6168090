"""What text is a URL, and what path a ``file://`` URL means. Light, for the engine's guess."""

from __future__ import annotations

import re
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
