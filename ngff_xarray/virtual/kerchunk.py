"""Reference files as kerchunk and fsspec have them, version 0 and 1: JSON to an index and back.

https://fsspec.github.io/kerchunk/spec.html. Templates are replaced as text: what needs an
expression to be evaluated is refused.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from ngff_xarray.errors import Issue, MetadataError, UnsupportedError
from ngff_xarray.text import printable
from ngff_xarray.urls import is_url, without_secrets
from ngff_xarray.virtual.index import WHOLE, Index, Reference, Row
from ngff_xarray.virtual.targets import MAX_SHOWN, Reach, Target

MAX_BYTES = 128 * 2**20  # of a reference file in JSON: 10^6 references take 30 to 100 MB
MAX_ENTRIES = 2**21
_MAX_OFFSET = 2**62
_NAME = re.compile(r"\{\{\s*(\w+)\s*\}\}")

References = dict[str, Any]


def parse(content: bytes, source: str) -> References:
    """Return the JSON document of a reference file.

    Raises
    ------
    MetadataError
        If it is none.
    """
    if len(content) > MAX_BYTES:
        raise _malformed(
            source,
            "references",
            f"are more than {MAX_BYTES} bytes of JSON: expected them in Parquet, which is "
            "read in parts",
        )
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        text = f"are no JSON: {printable(error, MAX_SHOWN)}"
        raise _malformed(source, "references", text) from error
    if not isinstance(document, dict):
        raise _malformed(
            source, "references", f"expected an object, found {type(document).__name__}"
        )
    return document


def index(document: Mapping[str, Any], reach: Reach) -> Index:
    """Return the index of a reference file.

    Parameters
    ----------
    document
        Its JSON: version 1 (``{"version": 1, "refs": {…}}``) or 0 (the references alone).
    reach
        What the references may refer to.

    Raises
    ------
    MetadataError
        If it does not have the form of references.
    UntrustedError
        If one leads outside the directory that they came from.
    UnsupportedError
        If it has generated references, or templates with expressions.
    """
    source = reach.source
    entries, fill_in = _entries(document, source)
    if len(entries) > MAX_ENTRIES:
        raise _malformed(source, "refs", f"are {len(entries)}, more than {MAX_ENTRIES}")
    inline: dict[str, str | bytes] = {}
    targets: list[Target] = []

    @cache
    def target(url: str) -> int:
        targets.append(reach.find(fill_in(url)))
        return len(targets) - 1

    def rows() -> Iterator[Row]:
        for key, value in entries.items():
            if isinstance(value, list):
                url, offset, size = _parts(key, value, source)
                yield Row(key, target(url), offset, size)
            elif isinstance(value, str | bytes):
                inline[key] = value
            elif isinstance(value, dict):
                inline[key] = json.dumps(value)
            else:
                raise _malformed(
                    source,
                    f"refs[{printable(key)!r}]",
                    f"expected text, an object or [url, offset, size], found {_shown(value)}",
                )

    return Index(inline, targets, rows())


def _entries(
    document: Mapping[str, Any], source: str
) -> tuple[Mapping[str, Any], Callable[[str], str]]:
    """Return the references of a document, and what fills its templates in."""
    version = document.get("version")
    if version is None:
        return document, lambda url: url
    if version != 1:
        raise _malformed(source, "version", f"expected 1, found {_shown(version)}")
    if document.get("gen"):
        raise UnsupportedError(
            f"{source}: has generated references ('gen'), which need expressions evaluated: "
            "write them out first, as kerchunk does"
        )
    entries, templates = document.get("refs"), document.get("templates") or {}
    for name, value in (("refs", entries), ("templates", templates)):
        if not isinstance(value, Mapping):
            raise _malformed(source, name, f"expected an object, found {_shown(value)}")
    assert isinstance(entries, Mapping)
    return entries, lambda url: _filled(url, templates, source)


def _filled(url: str, templates: Mapping[str, Any], source: str) -> str:
    """Return a URL in which the names of templates are replaced by their texts."""
    if "{{" not in url:
        return url

    def text(match: re.Match[str]) -> str:
        value = templates.get(match[1])
        return value if isinstance(value, str) else match[0]

    filled = _NAME.sub(text, url)
    if "{{" in filled or "{%" in filled:
        raise UnsupportedError(
            f"{source}: the reference {printable(url, MAX_SHOWN)!r} has a template that is no "
            f"plain text; known are {sorted(map(printable, templates))[:10]}: write it out first"
        )
    return filled


def _parts(key: str, value: list[Any], source: str) -> tuple[str, int, int]:
    """Return the URL, offset and size of a reference; the size is `WHOLE` for all of it."""
    if len(value) == 1 and isinstance(value[0], str):
        return value[0], 0, WHOLE
    if len(value) == 3 and isinstance(value[0], str) and all(map(_is_count, value[1:])):
        return value[0], value[1], value[2]
    raise _malformed(
        source,
        f"refs[{printable(key)!r}]",
        f"expected [url] or [url, offset, size], found {_shown(value)}",
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_OFFSET


def dump(found: Index, reach: Reach) -> References:
    """Return the references of an index, version 1, with absolute paths and URLs.

    Raises
    ------
    UnsupportedError
        If there are some that the format cannot say.
    """
    entries: dict[str, Any] = {}
    for key, value in found.items():
        if isinstance(value, Reference):
            url = _absolute(value.target, reach)
            entries[key] = [url] if value.size == WHOLE else [url, value.offset, value.size]
        elif isinstance(value, bytes):
            entries[key] = "base64:" + base64.b64encode(value).decode()
        else:
            entries[key] = value
    return {"version": 1, "refs": entries}


def _absolute(target: Target, reach: Reach) -> str:
    url = "/".join(((target.directory or reach.root or "").rstrip("/"), target.key))
    if is_url(url) and without_secrets(url) != url:
        raise UnsupportedError(
            f"{reach.source}: the URL has credentials, which would stand in the references: "
            "pass them as storage_options"
        )
    return url


def _shown(value: Any) -> str:
    return printable(repr(value) if not isinstance(value, dict | list) else str(value)[:200])


def _malformed(source: str, path: str, message: str) -> MetadataError:
    return MetadataError(printable(source, MAX_SHOWN), [Issue(path, message, "error")])
