"""Marks of what is being written: attributes of a store's root, until all of it is there.

Where a part of a store is written, the group that lists it notes what may have to be cleared up;
its own attributes say what holds all the while, and opening looks at these alone.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from ngff_xarray.errors import BusyError, IncompleteError
from ngff_xarray.spec.values import is_relative
from ngff_xarray.text import printable

KEY = "ngff_xarray"
WAIT = 60.0
"""How many seconds to wait for other writers, unless a caller says otherwise."""
RENEWED = 60
"""After how many seconds a writer says again that it is alive."""
KILLED = 300
"""After how many seconds without that it was killed, for those who cannot look."""

_alive: set[str] = set()  # the tokens of what this process writes


def mark(copy: str = "") -> dict[str, Any]:
    """Return the attributes of a store that this process begins to write.

    ``copy`` says what it is to be, for those who go on with it.
    """
    return {KEY: {"writing": {**writer(), **({"copy": copy, "boot": _boot()} if copy else {})}}}


def copied(attributes: Mapping[str, Any]) -> str:
    """Return what a store was to be that somebody may go on with; empty if that is not said.

    Examples
    --------
    >>> copied(mark("abc")), copied(mark())
    ('abc', '')
    """
    found = _said(attributes).get("copy")
    return found if isinstance(found, str) else ""


def is_before_start(attributes: Mapping[str, Any]) -> bool:
    """Tell whether this machine began to write a store before it was started the last time.

    Files that were written before a loss of power may be empty.

    Examples
    --------
    >>> is_before_start(mark("abc")), is_before_start({})
    (False, False)
    """
    said = _said(attributes)
    return said.get("host") == platform.node() and said.get("boot", _boot()) != _boot()


@cache
def _boot() -> str:
    """Return what tells one start of this machine from another; empty where nothing does."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def writer() -> dict[str, Any]:
    """Return who writes: what marks, notes and journals say."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return {"started": started, "host": platform.node(), "process": os.getpid()}


def is_marked(attributes: Mapping[str, Any]) -> bool:
    """Tell whether a store was begun and not ended.

    Examples
    --------
    >>> is_marked(mark()), is_marked({"ome": {}})
    (True, False)
    """
    return bool(_said(attributes))


def check_read(url: str, attributes: Mapping[str, Any]) -> None:
    """Check that a store is whole.

    Raises
    ------
    IncompleteError
        If writing it was begun and not ended.
    """
    said = _said(attributes)
    if "regions" in said:
        raise IncompleteError(
            f"{printable(url, 500)}: is incomplete: a region of it is being written (since "
            f"{since(attributes)}) or was, when the writer was killed: wait for that, write it "
            "again, or end it with ngff_xarray.repair(…).apply()"
        )
    if said:
        raise IncompleteError(
            f"{printable(url, 500)}: is incomplete: writing it was begun ({since(attributes)}) and "
            "has not ended: wait for that, write it again, or delete it with "
            "ngff_xarray.repair(…).apply()"
        )


def since(attributes: Mapping[str, Any]) -> str:
    """Return since when a store is marked, fit to print."""
    return printable(_said(attributes).get("started", "some time ago"), 40)


def region_begun(attributes: Mapping[str, Any], regions: Sequence[Any]) -> dict[str, Any]:
    """Return the attributes of an image of which parts are being written: all before are whole.

    Examples
    --------
    >>> regions(region_begun({}, [[[0, 8], [4, 6]]]))
    [[[0, 8], [4, 6]]]
    """
    return {**without(attributes), KEY: {"writing": {**writer(), "regions": list(regions)}}}


def regions(attributes: Mapping[str, Any]) -> list[Any] | None:
    """Return which parts of an image were begun to be written; None if it was not whole before."""
    found = _said(attributes).get("regions")
    return found if isinstance(found, list) else None


@dataclass(frozen=True, slots=True)
class Grown:
    """What the mark of an image says that is being appended to: its pixels are all there.

    Parameters
    ----------
    shapes
        Of its levels, by path, as they are to be.
    what
        The axis, the start and the stop of what was appended.
    """

    shapes: dict[str, list[int]]
    what: tuple[str, int, int]


def region_grows(
    attributes: Mapping[str, Any],
    shapes: Mapping[str, Sequence[int]],
    what: tuple[str, int, int],
) -> dict[str, Any]:
    """Return the attributes of an image whose levels get other lengths.

    Examples
    --------
    >>> grown(region_grows({}, {"0": [3, 8]}, ("t", 2, 3)))
    Grown(shapes={'0': [3, 8]}, what=('t', 2, 3))
    """
    found = region_begun(attributes, [])
    found[KEY]["writing"] |= {"shapes": dict(shapes), "appended": list(what)}
    return found


def append_begun(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of an image beyond whose ends chunks are being written.

    Whoever reads it is not told: what it says of itself is whole.

    Examples
    --------
    >>> is_appended_to(append_begun({})), is_marked(append_begun({}))
    (True, False)
    """
    own = attributes.get(KEY)
    return {**attributes, KEY: {**(own if isinstance(own, dict) else {}), "appending": writer()}}


def is_appended_to(attributes: Mapping[str, Any]) -> bool:
    """Tell whether an image may have chunks beyond its ends."""
    return bool(_appending(attributes))


def _appending(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    own = attributes.get(KEY)
    found = own.get("appending") if isinstance(own, dict) else None
    return found if isinstance(found, dict) else {}


def grown(attributes: Mapping[str, Any]) -> Grown | None:
    """Return which lengths an image was to get when its writer was killed, or None."""
    said = _said(attributes)
    shapes, what = said.get("shapes"), said.get("appended")
    if not (isinstance(shapes, dict) and isinstance(what, list) and len(what) == 3):
        return None
    if not all(map(is_relative, shapes)):
        return None
    sizes = [n for shape in shapes.values() for n in (shape if isinstance(shape, list) else [""])]
    if not all(isinstance(n, int) and n >= 0 for n in (*sizes, *what[1:])):
        return None
    return Grown(shapes, (str(what[0]), what[1], what[2]))


def check_written(url: str, attributes: Mapping[str, Any], token: str | None = None) -> None:
    """Check that nobody else is writing a store, as far as its mark says.

    Parameters
    ----------
    url
        What people know it by.
    attributes
        Those of its root.
    token
        That of the mark of whoever asks.

    Raises
    ------
    BusyError
        If somebody is.
    """
    check_entry(url, _said(attributes), token)
    check_entry(url, _appending(attributes), token)


def check_entry(url: str, said: Mapping[str, Any], token: str | None = None) -> None:
    """Check that what a mark or a note says is not of another writer that is alive.

    Writers of this machine are alive while their process runs, those of another one if they have
    said so in the last five minutes, by the clocks of both.

    Raises
    ------
    BusyError
        If it is.

    Examples
    --------
    >>> check_entry("a.zarr", signed({}, "my token"), "my token")
    >>> check_entry("a.zarr", {**signed({}, "a token"), "host": "another"})
    Traceback (most recent call last):
    ngff_xarray.errors.BusyError: a.zarr: is being written by process ... of another (since ...
    """
    if (token is not None and said.get("token") == token) or not _is_alive(said):
        return
    host = said.get("host")
    of = "" if host == platform.node() else f" of {printable(host, 80)}"
    raise BusyError(
        f"{printable(url, 500)}: is being written by process {printable(said.get('process'), 20)}"
        f"{of} (since {printable(said.get('started', 'some time ago'), 40)}): wait until it ends, "
        "or give another path"
    )


def _is_alive(said: Mapping[str, Any]) -> bool:
    process = said.get("process")
    if said.get("host") != platform.node():
        return process is not None and _is_fresh(said) is True
    if process == os.getpid():  # another thread
        return said.get("token") in _alive
    return _runs(process) and _is_fresh(said) is not False


def is_over(said: Mapping[str, Any]) -> bool:
    """Tell whether who writes was a process of this machine that has ended, or is this one."""
    process = said.get("process")
    is_here = said.get("host") == platform.node()
    return is_here and (process == os.getpid() or not _runs(process))


def _is_fresh(said: Mapping[str, Any]) -> bool | None:
    """Tell whether a writer has said lately that it is alive, None if it never does."""
    try:
        renewed = datetime.fromisoformat(str(said["renewed"]))
        age = (datetime.now(UTC) - renewed).total_seconds()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return abs(age) < KILLED


def signed(said: Mapping[str, Any], token: str) -> dict[str, Any]:
    """Return what a mark or a note says, as that of a writer of this process, renewed now."""
    _alive.add(token)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    known = said if said.get("token") == token else {**said, **writer()}
    return {**known, "token": token, "renewed": now}


def given_up(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a mark or a note says whose writer does not go on."""
    return {**said, "process": None, "renewed": None}


def forget(token: str) -> None:
    """Note that nothing with this token is written by this process any more."""
    _alive.discard(token)


def entry(attributes: Mapping[str, Any], name: str | None = None) -> dict[str, Any] | None:
    """Return what the mark of a group says, or its note on a part; None if there is none."""
    said = parts(attributes).get(name) if name is not None else _said(attributes)
    return dict(said) if isinstance(said, dict) and said else None


def with_entry(
    attributes: Mapping[str, Any], said: Mapping[str, Any] | None, name: str | None = None
) -> dict[str, Any]:
    """Return the attributes of a group with another mark, or another note on a part.

    Examples
    --------
    >>> with_entry({"title": "x", **mark()}, None)
    {'title': 'x'}
    """
    own = attributes.get(KEY)
    kept = dict(own) if isinstance(own, dict) else {}
    key, value = "writing", None if said is None else dict(said)
    if name is not None:
        others = {each: note for each, note in parts(attributes).items() if each != name}
        key, value = "parts", {**others, **({} if value is None else {name: value})} or None
    kept.pop(key, None)
    kept |= {} if value is None else {key: value}
    return {**without(attributes), **({KEY: kept} if kept else {})}


@dataclass(frozen=True, slots=True)
class Part:
    """What the note on a part of a store says, of which the writing has not ended.

    Parameters
    ----------
    paths
        Arrays below it, of which those are debris that its metadata do not name.
    replaces
        Whether there was one before, which stays until the new one is there.
    said
        All of it.
    """

    paths: tuple[str, ...]
    replaces: bool
    said: Mapping[str, Any] = field(default_factory=dict, repr=False)


def part(url: str, attributes: Mapping[str, Any], name: str) -> Part | None:
    """Return what is noted on a part, or None if nothing is.

    Raises
    ------
    BusyError
        If another writer is writing it.

    Examples
    --------
    >>> part("a.zarr", part_begun({}, "cells", ["0", "1"], replaces=False), "cells")
    Part(paths=('0', '1'), replaces=False)
    """
    said = parts(attributes).get(name)
    if not isinstance(said, dict):
        return None
    check_entry(url, said)
    paths = said.get("paths")
    kept = tuple(p for p in paths if isinstance(p, str)) if isinstance(paths, list) else ()
    return Part(kept, said.get("replaces") is True, said)


def part_begun(
    attributes: Mapping[str, Any], name: str, paths: Sequence[str], *, replaces: bool
) -> dict[str, Any]:
    """Return the attributes of a group with the note that a part of it is being written."""
    said = {**writer(), "paths": list(paths), "replaces": replaces}
    return with_entry(attributes, said, name)


def part_ended(attributes: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the attributes of a group without the note on a part."""
    return with_entry(attributes, None, name)


def without(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes without any note of this module.

    Examples
    --------
    >>> without({"title": "x", **mark()})
    {'title': 'x'}
    """
    return {key: value for key, value in attributes.items() if key != KEY}


def parts(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is noted on parts of a store, by their name."""
    own = attributes.get(KEY)
    found = own.get("parts") if isinstance(own, dict) else None
    return found if isinstance(found, dict) else {}


def _said(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    own = attributes.get(KEY)
    said = own.get("writing") if isinstance(own, dict) else None
    return said if isinstance(said, dict) else {}


def _runs(process: Any) -> bool:
    if not isinstance(process, int) or os.name != "posix":  # elsewhere, asking would end it
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
