"""A URL, a path or a zarr object -> a store, and the metadata in it, many at a time."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import zarr
from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, ObjectStore, StorePath

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
from ngff_xarray.progress import Bar
from ngff_xarray.storage import (
    Access,
    Guarded,
    ZipStore,
    conditional,
    open_store,
    why_missing,
)
from ngff_xarray.storage.bounded import bound
from ngff_xarray.storage.cached import Cached
from ngff_xarray.storage.locks import locked
from ngff_xarray.storage.readable import Readable
from ngff_xarray.text import printable
from ngff_xarray.urls import is_url, is_zip, local_path, without_secrets
from ngff_xarray.virtual.door import open_virtual

T = TypeVar("T")
Document = dict[str, Any]
ZarrFormat = Literal[2, 3]

GROUP_KEYS = {"zarr.json", ".zgroup", ".zattrs"}
MAX_METADATA_BYTES = 64 * 2**20
_IN_ZIP = re.compile(r"zip(?:://([^:]*))?::(.+)", re.DOTALL)  # as fsspec chains URLs
_one_document = threading.Lock()  # of stores that tell nothing
_MOMENT = 60  # seconds: how long a document may be locked by those who change it
MAX_SHOWN = 500  # characters of a URL, a path or another library's message in an error


@dataclass(frozen=True, slots=True)
class Source:
    """A place in a store.

    Parameters
    ----------
    store
        The zarr store, opened for reading.
    path
        The group in it, ``""`` for the root.
    url
        What people know it by.
    address
        The path or URL that the store was made of here, which may be opened again for writing;
        empty for a store that a user gives, which is taken as it is. It may hold secrets.
    """

    store: Store
    path: str
    url: str
    address: str = field(default="", repr=False)

    @property
    def oddities(self) -> tuple[Issue, ...]:
        """What was odd in the file that the store was made of, where it was made of one."""
        store = self.store.store if isinstance(self.store, Guarded) else self.store
        return () if self.path else getattr(store, "issues", ())

    @property
    def parent(self) -> Source:
        """The place above this one."""
        return replace(self, path=self.path.rpartition("/")[0], url=self.url.rpartition("/")[0])

    def child(self, path: str) -> Source:
        """Return a place below this one."""
        return Source(self.store, _join(self.path, path), _join(self.url, path), self.address)


@dataclass(frozen=True, slots=True)
class Group:
    """What a group's metadata say.

    ``documents`` holds the consolidated metadata of what is below, by path: a group's
    attributes and zarr format 3 arrays' whole documents under ``path``.
    """

    zarr_format: ZarrFormat
    attributes: Document
    documents: Mapping[str, Document] = field(default_factory=dict)


def run(coroutine: Coroutine[Any, Any, T], bar: Bar | None = None) -> T:
    """Return the result of a coroutine, run on the event loop that zarr's stores live on.

    Meanwhile a bar shows what the coroutine counts in it.
    """
    return sync(coroutine) if bar is None else bar.wait(coroutine)


def open_source(source: Any, *, group: str | None = None, access: Access | None = None) -> Source:
    """Return the place in a store that a user means.

    Nothing is read yet, but of an Imaris file or references, of which the store is made.

    Parameters
    ----------
    source
        A path or URL, also of a zip file; a zarr group or store, a store of obstore, references.
    group
        A group below it.
    access
        How to read it.

    Raises
    ------
    StoreNotFoundError
        If a local path does not exist.
    StoreError
        If no store can be made of it.
    """
    access = access or Access()
    opener = partial(_directory, replace(access, missing="fill"))
    virtual = open_virtual(source, opener, access.trust)
    place = Source(virtual, "", str(virtual)) if virtual else _open_source(source, access)
    if access.missing == "raise" and not isinstance(place.store, Guarded):
        place = replace(place, store=Guarded(place.store, place.url, access))
    below = (group or "").strip("/")
    return place.child(below) if below else place


def _open_source(source: Any, access: Access) -> Source:
    if isinstance(source, zarr.Group):
        source = source.store_path
    if isinstance(source, StorePath):
        return Source(source.store, source.path, _named(source))
    if isinstance(source, Store):
        return Source(source, "", _named(source))
    if type(source).__module__.startswith("obstore."):
        place = printable(source, MAX_SHOWN)
        return Source(Guarded(ObjectStore(source, read_only=True), place, access), "", place)
    if not isinstance(source, str | os.PathLike):
        raise StoreError(
            f"cannot open {type(source).__name__}: expected a path, a URL, or a zarr group or store"
        )
    text = local_path(os.fspath(source))
    if chain := _IN_ZIP.fullmatch(text):
        return _in_zip(chain[2], access).child((chain[1] or "").strip("/"))
    return _remote(text.rstrip("/"), access) if is_url(text) else _local(text)


def _named(store: Store | StorePath) -> str:
    """Return what people know a store by that they made themselves; icechunk's take many lines."""
    return " ".join(str(store).split())


def _directory(access: Access, place: str) -> Store:
    """Return the store, for reading, of a directory: an absolute path or a URL."""
    return open_store(place, access) if is_url(place) else LocalStore(place, read_only=True)


def _in_zip(place: str, access: Access) -> Source:
    """Return the root of a zip file."""
    text = local_path(place)
    if is_url(text):
        folder, _, name = text.rpartition("/")
        shown = without_secrets(text)
        return Source(ZipStore(open_store(folder, access), name, shown), "", shown)
    path = _existing(text)
    beside = LocalStore(path.parent, read_only=True)
    return Source(ZipStore(beside, path.name, str(path)), "", str(path))


def _remote(url: str, access: Access) -> Source:
    if is_zip(url):
        return _in_zip(url, access)
    return Source(open_store(url, access), "", without_secrets(url), url)


def _local(text: str) -> Source:
    path = _existing(text)
    if is_zip(text) and path.is_file():
        return _in_zip(text, Access())
    return Source(LocalStore(path, read_only=True), "", str(path), str(path))


def _existing(text: str) -> Path:
    # absolute: arrays are read later, perhaps from another working directory
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise StoreNotFoundError(f"no such file or directory: {text}")
    return path


def open_target(target: Any, *, access: Access | None = None) -> Source:
    """Return the place in a store that a user wants to write to. Nothing is written yet.

    Parameters
    ----------
    target
        A path, a URL, or a zarr group or store.
    access
        Its credentials, where it is a URL.

    Raises
    ------
    StoreError
        If no store can be made of it.
    """
    if isinstance(target, str | os.PathLike):
        text = local_path(os.fspath(target))
        if not is_url(text):
            path = Path(text).expanduser().absolute()
            return Source(LocalStore(path), "", str(path))
        url = text.rstrip("/")
        return Source(open_store(url, access or Access(), write=True), "", without_secrets(url))
    place = _open_source(target, access or Access())
    if place.store.read_only:
        raise StoreError(f"{place.url}: the store is read-only: open it with mode='a'")
    return place


def writable(place: Source, access: Access | None = None) -> Source:
    """Return a place that was opened for reading, for writing; only a path or URL is opened again.

    Parameters
    ----------
    place
        The place.
    access
        Its credentials; by default those that it is read with.

    Raises
    ------
    StoreError
        If it is not for writing.
    """
    shown = printable(place.url, MAX_SHOWN)
    inner = place.store.store if isinstance(place.store, Guarded) else place.store
    if "http" in getattr(getattr(inner, "fs", None), "protocol", ()):
        raise StoreError(f"{shown}: cannot be written: it is read from a web server")
    if isinstance(place.store, Cached):
        raise StoreError(
            f"{shown}: cannot be written: it is read through a cache, which would not notice: give "
            "the URL without that"
        )
    if not inner.read_only:
        return replace(place, store=inner)
    if isinstance(inner, Readable):
        raise StoreError(f"{shown}: this kind of store cannot be written")
    if not place.address:
        raise StoreError(f"{shown}: the store is read-only: open it with mode='a'")
    known = place.store.access if isinstance(place.store, Guarded) else None
    return replace(place, store=open_target(place.address, access=access or known).store)


def is_taken(place: Source) -> bool:
    """Tell whether there is anything at a place that is whole.

    Raises
    ------
    StoreError
        If another process is writing there.
    """
    root = getattr(place.store, "root", None)
    if isinstance(root, Path):
        found = root / place.path
        if found.is_file():
            return True

    async def has_metadata() -> bool:
        group = await fetch_group(place)
        if group is not None and unfinished.is_marked(group.attributes):
            unfinished.check_written(place.url, group.attributes)
            return unfinished.regions(group.attributes) is not None
        if group is not None and group.attributes:
            return True
        if not place.store.supports_listing:
            return group is not None
        names = {name async for name in place.store.list_dir(place.path)}
        empty = names <= GROUP_KEYS
        return not empty or (group is None and "zarr.json" in names)  # that of an array

    return run(has_metadata())


def clear(place: Source) -> None:
    """Delete what is at a place, but what the group there says: the mark goes last."""

    async def delete() -> None:
        async for name in place.store.list_dir(place.path):
            if name not in GROUP_KEYS:
                key = _join(place.path, name)
                await place.store.delete_dir(key)
                await place.store.delete(key)

    run(delete())


def remove(place: Source, keep: Collection[str] = ()) -> None:
    """Delete all that is at a place, but the groups at these paths of the store, and above them."""

    async def delete(path: str) -> None:
        if path in keep:
            return
        if not any(kept.startswith(f"{path}/") for kept in keep):
            await place.store.delete_dir(path)
            return
        for name in [name async for name in place.store.list_dir(path)]:
            if name not in GROUP_KEYS:
                await delete(f"{path}/{name}")

    with changing(place):
        run(delete(place.path))


def is_empty(place: Source) -> bool:
    """Tell whether there is nothing at a place but what a group there says."""

    async def found() -> bool:
        names = {name async for name in place.store.list_dir(place.path)}
        if names <= GROUP_KEYS:
            return True
        prefix = f"{place.path}/"  # the names may be those of directories, with nothing in them
        async for key in place.store.list_prefix(prefix):
            if key.removeprefix(prefix) not in GROUP_KEYS:
                return False
        return True

    with changing(place):
        return run(found())


def put_group(place: Source, attributes: Document, zarr_format: ZarrFormat) -> None:
    """Write what a group says in one write; a new group of Zarr v2 takes another one after it.

    Consolidated metadata beside it, which repeat what is below, are left out.
    """
    known = None if zarr_format == 2 else run(fetch_json(place, "zarr.json"))
    with changing(place):
        if zarr_format == 2:
            put_json(place, ".zattrs", attributes)
            if not run(place.store.exists(_join(place.path, ".zgroup"))):
                put_json(place, ".zgroup", {"zarr_format": 2})
            return
        kept = {k: v for k, v in (known or {}).items() if k != "consolidated_metadata"}
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        put_json(place, "zarr.json", {**kept, **group})


def change_attributes(
    place: Source,
    zarr_format: ZarrFormat,
    made: Callable[[Document], Document],
    *,
    consolidated: bool,
) -> None:
    """Write what a group is to say, made of what it says at that moment, as `change_json` does.

    Parameters
    ----------
    place
        The group; a new one if there is none.
    zarr_format
        Its format.
    made
        Returns the new attributes, of the old, which are empty if there is no group.
    consolidated
        Whether to keep consolidated metadata beside the attributes of Zarr v3.
    """

    def change_v2(old: Document | None) -> Document | None:
        new = made(old or {})
        return None if new == old else new

    def change_v3(old: Document | None) -> Document | None:
        attributes = (old or {}).get("attributes")
        new = made(attributes if isinstance(attributes, dict) else {})
        if old is not None and new == attributes:
            return None
        kept = {
            key: value
            for key, value in (old or {}).items()
            if consolidated or key != "consolidated_metadata"
        }
        return {**kept, "zarr_format": 3, "node_type": "group", "attributes": new}

    if zarr_format == 3:
        change_json(place, "zarr.json", change_v3)
        return
    change_json(place, ".zattrs", change_v2)
    with changing(place):
        if not run(place.store.exists(_join(place.path, ".zgroup"))):
            put_json(place, ".zgroup", {"zarr_format": 2})


def remove_group(
    place: Source,
    zarr_format: ZarrFormat,
    may: Callable[[Document], bool] = lambda attributes: True,
) -> None:
    """Delete what a group says, its attributes last; what is below it stays.

    Parameters
    ----------
    place
        The group.
    zarr_format
        Its format.
    may
        Tells of what it says at that moment whether it may be deleted.
    """
    names = (".zgroup", ".zattrs") if zarr_format == 2 else ("zarr.json",)
    with changing(place):
        with _alone(place, names[-1], lambda old: None):
            found = run(fetch_group(place, zarr_format))
            if not may({} if found is None else found.attributes):
                return
            for name in names:
                run(place.store.delete(_join(place.path, name)))
        root = getattr(place.store, "root", None)
        if isinstance(root, Path):
            with suppress(OSError):  # another writer has begun something in it
                (root / place.path).rmdir()
        elif is_empty(place):
            run(place.store.delete_dir(place.path))  # a directory, where there are such


def remove_key(place: Source, name: str) -> None:
    """Delete a key, if it is there."""
    with changing(place):
        run(place.store.delete(_join(place.path, name)))


def put_json(place: Source, name: str, document: Document) -> None:
    """Write a document."""
    with changing(place):
        content = json.dumps(document, indent=2).encode()
        put_bytes(place.store, _join(place.path, name), content)


def change_json(
    place: Source, name: str, made: Callable[[Document | None], Document | None]
) -> None:
    """Write what a document is to say, made of what it says; of two writers none undoes the other.

    Parameters
    ----------
    place
        Where it is.
    name
        Its key there.
    made
        Returns the new document, of the old or None; None to leave it. It is called again where
        somebody else has changed the document meanwhile.
    """

    def change(content: bytes | None) -> bytes | None:
        old = None if content is None else parse_json(place, name, content)
        new = made(old)
        return None if new is None else json.dumps(new, indent=2).encode()

    with changing(place), _alone(place, name, change):
        run(conditional.change(place.store, _join(place.path, name), change))


@contextmanager
def _alone(place: Source, name: str, change: conditional.Change) -> Iterator[None]:
    """Have a document alone, but where the store itself tells who was faster.

    Of a local one that is not there, ``change`` makes a first one, or None.
    """
    root = getattr(place.store, "root", None)
    if not isinstance(root, Path):
        with nullcontext() if conditional.is_conditional(place.store) else _one_document:
            yield
        return
    with ExitStack() as stack:
        while not _entered(stack, place, name, root / _join(place.path, name), change):
            pass  # it was deleted meanwhile
        yield


def _entered(
    stack: ExitStack, place: Source, name: str, path: Path, change: conditional.Change
) -> bool:
    """Lock a document, which is made if it is not there; tell whether it still is."""
    if not path.is_file():
        content = change(None)
        if content is None:
            return True
        buffer = default_buffer_prototype().buffer.from_bytes(content)
        run(place.store.set_if_not_exists(_join(place.path, name), buffer))
    try:
        stack.enter_context(locked(path, _MOMENT))
    except FileNotFoundError:
        return False
    return True


@contextmanager
def changing(place: Source) -> Iterator[None]:
    """Name the place in whatever the libraries below a store raise."""
    try:
        yield
    except NgffError:
        raise
    except Exception as error:
        where = printable(place.url, MAX_SHOWN)
        raise StoreError(f"{where}: cannot be written: {reason(error)}") from error


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
        raise _malformed(source, name, f"is at least {len(found)} bytes long, more than {most}")
    return None if found is None else found.to_bytes()


def put_bytes(target: Store, key: str, content: bytes) -> None:
    """Write a key of a store."""
    run(target.set(key, default_buffer_prototype().buffer.from_bytes(content)))


def look(source: Source) -> Group | None:
    """Return what the group at a place says, or None if there is no group with attributes."""
    return run(fetch_group(source))


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
        raise _malformed(source, "zarr.json", "attributes: expected a JSON object")
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
        raise _malformed(source, name, f"is {len(found)} bytes long; metadata should be short")
    return parse_json(source, name, found.to_bytes())


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
        raise _malformed(source, name, f"is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise _malformed(source, name, f"expected a JSON object, found {type(document).__name__}")
    return document


async def _fetch(source: Source, name: str, part: ByteRequest | None = None) -> Buffer | None:
    key = _join(source.path, name)
    try:
        return await source.store.get(key, default_buffer_prototype(), part)
    except NgffError:
        raise
    except Exception as error:
        where = printable(source.url, MAX_SHOWN)
        raise StoreError(f"{where}: cannot read {name}: {reason(error)}") from error


def _malformed(source: Source, name: str, message: str) -> MetadataError:
    where = printable(source.url, MAX_SHOWN)
    return MetadataError(where, [Issue(printable(name, MAX_SHOWN), message, "error")])


def reason(error: BaseException) -> str:
    """Return what another library raised, in words fit to print."""
    text = printable(error, MAX_SHOWN)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


ParsedArrays = dict[str, Any]
"""What zarr made of metadata documents, by their text: of a plate most arrays have the same."""


def open_array(
    source: Source, path: str, document: Document, parsed: ParsedArrays | None = None
) -> zarr.Array[Any]:
    """Return a zarr array from metadata at hand: nothing is read.

    Parameters
    ----------
    source, path
        Where it is.
    document
        Its metadata.
    parsed
        What was made of others is used again, and this is added.

    Raises
    ------
    MetadataError
        If zarr cannot make an array of the document.
    """
    place = source.child(path)
    store_path = StorePath(place.store, place.path)
    text = "" if parsed is None else json.dumps(document)
    if parsed is not None and text in parsed:
        return _bounded(zarr.AsyncArray(parsed[text], store_path))
    if not isinstance(document.get("attributes"), dict | None):  # older zarr takes anything
        raise _malformed(source, path, "attributes: expected a JSON object")
    try:
        array = _bounded(zarr.AsyncArray.from_dict(store_path, document))
    except Exception as error:  # zarr's parsers raise whatever their Python code does
        raise _malformed(
            source, path, f"is no array that zarr can open: {reason(error)}"
        ) from error
    if parsed is not None:
        parsed[text] = array.metadata
    return array


def _bounded(array: zarr.AsyncArray[Any]) -> zarr.Array[Any]:
    bound(array)
    return zarr.Array(array)


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
    if group is not None:
        unfinished.check_read(source.url, group.attributes)
        return group
    root = getattr(source.store, "root", None)
    if root is not None and (Path(root) / source.path).exists():
        raise NotOmeError(
            f"{source.url}: is no OME-Zarr: there are no group attributes "
            "(expected 'zarr.json' or '.zattrs')"
        )
    why = run(why_missing(source.store, _join(source.path, "zarr.json")))
    found = why or "there is no zarr group ('zarr.json' or '.zattrs')"
    raise StoreNotFoundError(f"{source.url}: {found}")


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)


class _RecentLook:
    """Keeps what came of a look for the opening that follows; each look serves once."""

    def __init__(self, seconds: float = 5.0) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._looks: dict[tuple[str, int], tuple[float, tuple[Source, Group] | NgffError]] = {}

    def put(self, key: str, found: tuple[Source, Group] | NgffError) -> None:
        now = time.monotonic()
        with self._lock:
            self._looks = {k: v for k, v in self._looks.items() if now - v[0] < self._seconds}
            self._looks[key, threading.get_ident()] = (now, found)

    def take(self, key: str) -> tuple[Source, Group] | NgffError | None:
        with self._lock:
            when, found = self._looks.pop((key, threading.get_ident()), (0.0, None))
        return found if time.monotonic() - when < self._seconds else None


_recent = _RecentLook()


def look_ahead(source: Any, wanted: Callable[[Document], bool]) -> Group | None:
    """Return what the group at a user's source says; keep it for `open_group` if it is wanted.

    A store that could not be reached is not asked again by the opening either.
    """
    place = open_source(source)
    key = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    try:
        group = look(place)
    except StoreError as error:
        if key is not None:
            _recent.put(key, error)
        raise
    if group is not None and key is not None and wanted(group.attributes):
        _recent.put(key, (place, group))
    return group


def open_group(
    source: Any, *, group: str | None = None, access: Access | None = None
) -> tuple[Source, Group]:
    """Return a place and what the group there says; a look just taken is not taken again.

    Raises
    ------
    StoreNotFoundError, NotOmeError
        If there is no group.
    MetadataError
        If its metadata are no JSON object.
    StoreError
        If the store cannot be read.
    """
    recent = _recent.take(os.fspath(source)) if isinstance(source, str | os.PathLike) else None
    if recent is not None and not group and replace(access or Access(), progress=None) == Access():
        if isinstance(recent, NgffError):
            raise recent
        return recent[0], require_group(*recent)
    place = open_source(source, group=group, access=access)
    return place, require_group(place, look(place))


def mentions_ome(source: Any) -> bool:
    """Tell whether root metadata that are no JSON were meant as OME's."""

    async def raw(place: Source) -> bytes:
        keys = [_join(place.path, name) for name in ("zarr.json", ".zattrs")]
        prototype = default_buffer_prototype()
        found = [await place.store.get(key, prototype=prototype) for key in keys]
        return b"".join(buffer.to_bytes() for buffer in found if buffer is not None)

    text = run(raw(open_source(source)))
    return b'"multiscales"' in text or b'"ome"' in text
