"""What groups and arrays say: documents of a store, many at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest, RangeByteRequest
from zarr.core.buffer import Buffer, default_buffer_prototype

from ngff_xarray import unfinished
from ngff_xarray.errors import (
    DeniedError,
    Issue,
    MetadataError,
    NgffError,
    NotOmeError,
    StoreError,
    StoreNotFoundError,
)
from ngff_xarray.storage import Guarded, why_missing
from ngff_xarray.store.places import MAX_SHOWN, Document, Source, ZarrFormat, failure, join, run
from ngff_xarray.text import printable
from ngff_xarray.urls import neighbour

MAX_METADATA_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Group:
    """What a group's metadata say.

    ``documents`` holds the consolidated metadata of what is below, by path: a group's
    attributes and zarr format 3 arrays' whole documents under ``path``.
    """

    zarr_format: ZarrFormat
    attributes: Document
    documents: Mapping[str, Document] = field(default_factory=dict)


def look(source: Source) -> Group | None:
    """Return what the group at a place says, or None if there is no group with attributes."""
    return run(fetch_group(source))


def require_group(source: Source, group: Group | None) -> Group:
    """Return the group, or say that there is none.

    Raises
    ------
    StoreNotFoundError
        If nothing is there.
    NotOmeError
        If something is there that is no OME-Zarr group.
    IncompleteError
        If it is still being written.
    """
    root = getattr(source.store, "root", None)
    place = None if root is None else Path(root) / source.path
    if place is not None and not (group and group.attributes) and (found := neighbour(place)):
        raise NotOmeError(
            f"{source.url}: is no OME-Zarr, but {found}: open it with ngff_xarray.open_image(path),"
            " or convert it with ngff_xarray.convert(path, target)"
        )
    if group is not None:
        unfinished.check_read(source.url, group.attributes)
        return group
    if place is not None and place.exists():
        raise NotOmeError(
            f"{source.url}: is no OME-Zarr: there are no group attributes "
            "(expected 'zarr.json' or '.zattrs'): give the folder that has one of these, which "
            "may be the one above it or one in it"
        )
    why = run(why_missing(source.store, join(source.path, "zarr.json")))
    found = why or "there is no zarr group ('zarr.json' or '.zattrs')"
    raise StoreNotFoundError(f"{source.url}: {found}")


async def fetch_group(source: Source, zarr_format: ZarrFormat | None = None) -> Group | None:
    """Return what a group says, or None if there is none with attributes.

    Parameters
    ----------
    source
        Where it is.
    zarr_format
        Where known, only that format is asked for: one request. Otherwise Zarr v3 is asked
        for first, and v2 only where that is not there.

    Raises
    ------
    MetadataError
        If the metadata are no JSON object.
    StoreError
        If the store cannot be read.
    """
    if zarr_format is not None:
        return await _FETCH[zarr_format](source)
    try:
        found = await _fetch_group_v3(source)
    except StoreError as error:
        if isinstance(source.store, Guarded) and not isinstance(error, DeniedError):
            raise
        # a bucket that does not list its keys answers 403 for one that is not there
        found = None
        with suppress(DeniedError):
            found = await _fetch_group_v2(source, consolidated=True)
        if found is None:
            raise
        return found
    return found or await _fetch_group_v2(source, consolidated=True)


async def _fetch_group_v3(source: Source) -> Group | None:
    document = await fetch_json(source, "zarr.json")
    return None if document is None else _group_v3(source, document)


async def _fetch_group_v2(source: Source, consolidated: bool = False) -> Group | None:
    attributes, documents = await asyncio.gather(
        fetch_json(source, ".zattrs"),
        _fetch_optional(source, ".zmetadata") if consolidated else _nothing(),
    )
    return None if attributes is None else Group(2, attributes, _documents(documents))


async def _fetch_optional(source: Source, name: str) -> Document | None:
    """Return a document that a store can do without: refused is as good as not there."""
    try:
        return await fetch_json(source, name)
    except DeniedError:
        return None


async def _nothing() -> None:
    return None


_FETCH = {2: _fetch_group_v2, 3: _fetch_group_v3}


def _documents(consolidated: Any) -> dict[str, Document]:
    """Return the documents of consolidated metadata, by path; none where they are malformed."""
    metadata = consolidated.get("metadata") if isinstance(consolidated, dict) else None
    items = metadata.items() if isinstance(metadata, dict) else ()
    return {path: document for path, document in items if isinstance(document, dict)}


def _group_v3(source: Source, document: Document) -> Group | None:
    if document.get("node_type") == "array":
        return None
    attributes = document.get("attributes", {})
    if not isinstance(attributes, dict):
        raise malformed(source, "zarr.json", "attributes: expected a JSON object")
    return Group(3, attributes, _documents(document.get("consolidated_metadata")))


@dataclass(frozen=True, slots=True)
class _Below(Mapping[str, Document]):
    """The documents below a path, without going through those of a whole plate."""

    documents: Mapping[str, Document]
    prefix: str

    def __getitem__(self, path: str) -> Document:
        return self.documents[self.prefix + path]

    def __iter__(self) -> Iterator[str]:
        size = len(self.prefix)
        return (path[size:] for path in self.documents if path.startswith(self.prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


async def fetch_child_group(source: Source, parent: Group, path: str) -> Group | None:
    """Return what a group below another one says, from consolidated metadata where there are."""
    child = source.child(path)
    key = path if parent.zarr_format == 3 else f"{path}/.zattrs"
    document = parent.documents.get(key)
    if document is None:
        return await fetch_group(child, parent.zarr_format)
    below = _Below(parent.documents, f"{path}/")
    if parent.zarr_format == 2:
        return Group(2, document, below)
    group = _group_v3(child, document)
    return group and Group(3, group.attributes, below)


async def fetch_array(source: Source, parent: Group, path: str) -> Document | None:
    """Return the metadata document of an array below a group, or None if there is no array."""
    key = path if parent.zarr_format == 3 else f"{path}/.zarray"
    document = parent.documents.get(key)
    if document is None:
        name = "zarr.json" if parent.zarr_format == 3 else ".zarray"
        try:
            document = await fetch_json(source.child(path), name)
        except MetadataError as error:
            issues = [replace(issue, path=f"{path}/{issue.path}") for issue in error.issues]
            raise MetadataError(error.source, issues) from error
    if document is not None and document.get("node_type", "array") != "array":
        return None
    return document


async def fetch_json(source: Source, name: str) -> Document | None:
    """Return the JSON object under a key, or None if there is no such key.

    Raises
    ------
    MetadataError
        If it is no JSON object, or larger than metadata ever are.
    StoreError
        If the store cannot be read.
    """
    found = await _fetch(source, name)
    if found is None:
        return None
    if len(found) > MAX_METADATA_BYTES:
        raise malformed(source, name, f"is {len(found)} bytes long; metadata should be short")
    return parse_json(source, name, found.to_bytes())


def fetch_bytes(source: Source, name: str, most: int = MAX_METADATA_BYTES) -> bytes | None:
    """Return what stands under a key, or None if there is no such key.

    Raises
    ------
    MetadataError
        If it is larger than ``most``.
    StoreError
        If the store cannot be read.
    """
    found = run(_fetch(source, name, RangeByteRequest(0, most + 1)))
    if found is not None and len(found) > most:
        raise malformed(source, name, f"is at least {len(found)} bytes long, more than {most}")
    return None if found is None else found.to_bytes()


def parse_json(source: Source, name: str, content: bytes) -> Document:
    """Return the JSON object that stands under a key.

    Raises
    ------
    MetadataError
        If it is none.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise malformed(source, name, f"is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise malformed(source, name, f"expected a JSON object, found {type(document).__name__}")
    return document


async def _fetch(source: Source, name: str, part: ByteRequest | None = None) -> Buffer | None:
    key = join(source.path, name)
    try:
        return await source.store.get(key, default_buffer_prototype(), part)
    except NgffError:
        raise
    except Exception as error:
        raise failure(source, f"cannot read {name}", error) from error


def malformed(source: Source, name: str, message: str) -> MetadataError:
    """Return the error that something is wrong with what stands under a key."""
    where = printable(source.url, MAX_SHOWN)
    return MetadataError(where, [Issue(printable(name, MAX_SHOWN), message, "error")])
