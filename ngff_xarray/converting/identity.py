"""What tells one conversion from another, so that a run goes on only with what is of the same."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

from ngff_xarray.converting import naming
from ngff_xarray.converting.found import Found
from ngff_xarray.converting.reader import Input, Options
from ngff_xarray.converting.readers import ANYTHING

_MOST = 200_000  # files that are looked at
_CHANGED = ("ETag", "etag", "Last-Modified", "LastModified", "mtime", "Content-MD5", "Digest")


def identity(
    source: Input, target: Any, reader: str, found: Found, told: Options, how: Mapping[str, Any]
) -> str:
    """Return what is converted and how, in short; empty if it could not be known again.

    That are the paths, sizes and times of change of all files, what a server says of its own, the
    options, and the version of this package.

    Parameters
    ----------
    source, reader, found
        What is read, by whom, and what that found.
    target
        Where it goes, which is none of the source.
    told, how
        The options of reading and of writing.
    """
    stamps = _of_url(source, told) if source.is_url else _of_files(source, target, reader, found)
    if stamps is None:
        return ""
    asked = {
        each.name: getattr(told, each.name)
        for each in fields(told)
        if each.name != "storage_options"
    }
    version = sys.modules["ngff_xarray"].__version__
    # the command names all options, a caller those that matter
    written = {name: value for name, value in how.items() if value is not None}
    said = [version, reader, stamps, asked, written]
    return hashlib.sha256(json.dumps(said, default=repr, sort_keys=True).encode()).hexdigest()


def _of_url(source: Input, told: Options) -> list[Any] | None:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(source.text, **(told.storage_options or {}))
        info = system.info(path)
    except Exception:  # whatever a file system raises: it cannot be known then
        return None
    known = {key: str(info[key]) for key in _CHANGED if info.get(key)}
    if info.get("type") != "file" or not info.get("size") or not known:
        return None
    return [source.name, info["size"], known]


def _of_files(source: Input, target: Any, reader: str, found: Found) -> list[Any] | None:
    """Return what tells files from others; None of objects, and of too many files."""
    if not source.text:
        return None
    left_out = _path(target)
    paths = (path for path in _paths(source, reader, found) if not _is_in(path, left_out))
    stamps = [_stamp(path) for path in islice(paths, _MOST + 1)]
    return sorted(stamps) if 0 < len(stamps) <= _MOST else None


def _paths(source: Input, reader: str, found: Found) -> Iterable[str]:
    if source.is_folder:
        return _below(source.text)
    if not source.is_file:
        pattern = naming.glob_of(source.text)
        return glob.iglob(pattern, recursive=True)  # noqa: PTH207  # absolute, as it is given
    beside: Iterable[str] = ()
    if reader in ANYTHING:  # which may read others beside it
        beside = (each.path for each in os.scandir(source.path.parent) if each.is_file())
    return {source.text, *found.files, *beside}


def _below(folder: str) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        yield from (f"{parent}{os.sep}{name}" for name in names)


def _path(target: Any) -> str:
    return str(Path(target).expanduser().absolute()) if isinstance(target, str | Path) else ""


def _is_in(path: str, folder: str) -> bool:
    return bool(folder) and (path == folder or path.startswith(folder + os.sep))


def _stamp(path: str) -> tuple[str, int, int]:
    try:
        found = Path(path).stat()
    except OSError:
        return path, -1, -1
    return path, found.st_size, found.st_mtime_ns
