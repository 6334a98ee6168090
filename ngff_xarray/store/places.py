"""A URL, a path or a zarr object -> a place in a store."""

from __future__ import annotations

import os
import re
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import zarr
from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import LocalStore, ObjectStore, StorePath

from ngff_xarray.errors import DeniedError, Issue, StoreError, StoreNotFoundError
from ngff_xarray.progress import Bar
from ngff_xarray.storage import Access, Guarded, ZipStore, hint_of, open_store
from ngff_xarray.storage.cached import Cached
from ngff_xarray.storage.faults import fault_of
from ngff_xarray.storage.readable import Readable
from ngff_xarray.text import printable
from ngff_xarray.urls import is_url, is_zip, local_path, without_secrets
from ngff_xarray.virtual.door import open_virtual

T = TypeVar("T")
Document = dict[str, Any]
ZarrFormat = Literal[2, 3]

GROUP_KEYS = {"zarr.json", ".zgroup", ".zattrs"}
MAX_SHOWN = 500  # characters of a URL, a path or another library's message in an error
_IN_ZIP = re.compile(r"zip(?:://([^:]*))?::(.+)", re.DOTALL)  # as fsspec chains URLs


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

    def upwards(self) -> Iterator[tuple[Source, str]]:
        """Yield this place and those above it, and the path from there to this one.

        On local disks also groups above the root of the store.
        """
        place, below = self, ""
        yield place, below
        while place.path:
            below = join(place.path.rpartition("/")[2], below)
            place = place.parent
            yield place, below
        root = getattr(place.store, "root", None)
        while isinstance(root, Path) and any((root.parent / key).is_file() for key in GROUP_KEYS):
            below, root = join(root.name, below), root.parent
            yield Source(LocalStore(root), "", str(root)), below

    def child(self, path: str) -> Source:
        """Return a place below this one."""
        return Source(self.store, join(self.path, path), join(self.url, path), self.address)


def run(coroutine: Coroutine[Any, Any, T], bar: Bar | None = None) -> T:
    """Return the result of a coroutine, run on the event loop that zarr's stores live on.

    Meanwhile a bar shows what the coroutine counts in it.
    """
    return sync(coroutine) if bar is None else bar.wait(coroutine)


def reason(error: BaseException) -> str:
    """Return what another library raised, in words fit to print."""
    text = printable(error, MAX_SHOWN)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def failure(place: Source, what: str, error: BaseException) -> StoreError:
    """Return what to raise for an error of a library below: it names the place, and what failed."""
    fault = fault_of(error)
    text = f"{printable(place.url, MAX_SHOWN)}: {what}: {fault.text}"
    if not fault.is_denied:
        return StoreError(text)
    hint = hint_of(place.store)
    return DeniedError(f"{text}: {hint}" if hint else text)


def join(*parts: str) -> str:
    """Return the path of a part below others, of which some may be empty."""
    return "/".join(part for part in parts if part)


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
        sought = "" if Path(text).is_absolute() else f" (looked for in {Path.cwd()})"
        raise StoreNotFoundError(f"no such file or directory: {text}{sought}")
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
        raise StoreError(
            f"{shown}: cannot be written: it is read from a web server: give a path, or the "
            "address of a bucket (s3://…)"
        )
    if isinstance(place.store, Cached):
        raise StoreError(
            f"{shown}: cannot be written: it is read through a cache, which would not notice: give "
            "the URL without that"
        )
    if not inner.read_only:
        return replace(place, store=inner)
    if isinstance(inner, Readable):
        raise StoreError(
            f"{shown}: this kind of store cannot be written: give a path, or the address of a "
            "bucket"
        )
    if not place.address:
        raise StoreError(f"{shown}: the store is read-only: open it with mode='a'")
    known = place.store.access if isinstance(place.store, Guarded) else None
    return replace(place, store=open_target(place.address, access=access or known).store)
