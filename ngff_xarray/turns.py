"""One writer of an image after another: threads, processes, and machines.

On a local disk writers lock the directory of the image, and share the locks of the groups above
it: those of two fields of a plate, or of two label images, do not wait for each other, but whoever
replaces the whole plate waits for all of them. In a bucket the mark that says that an image is
being written is put under the condition that nobody else has put one meanwhile. Both wait for
others, and read what they are to change after that. Where a store has neither, whoever sees the
mark of another one waits.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4
from weakref import WeakValueDictionary

from ngff_xarray import store, unfinished
from ngff_xarray.errors import BusyError, NgffError, StoreError
from ngff_xarray.storage.conditional import is_conditional
from ngff_xarray.storage.locks import locked
from ngff_xarray.store import Document, Source, ZarrFormat
from ngff_xarray.text import printable

T = TypeVar("T")

_GROUP_FILES = ("zarr.json", ".zgroup", ".zattrs")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5  # seconds
_random = random.Random()
_threads: WeakValueDictionary[str, _Lock] = WeakValueDictionary()
_threads_lock = threading.Lock()


class _Lock:
    """A lock that can be forgotten when nobody has it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


# ---- on this machine ---------------------------------------------------------------------------


@contextmanager
def turn(
    place: Source,
    wait: float,
    *,
    creates: bool = False,
    at_once: bool = False,
    shared: bool = False,
    who: Callable[[], object] | None = None,
) -> Iterator[float]:
    """Have an image alone, as far as writers on this machine go; yields until when to wait.

    Parameters
    ----------
    place
        Its group.
    wait
        How many seconds to wait for other writers.
    creates
        Whether it may be new: its directory is made then, and stays only if something is in it.
    at_once
        Whether not to wait for those of the very image.
    shared
        Whether others may write below it, and only nobody all of it.
    who
        Raises an error that says who is at it; by default its mark is asked.

    Raises
    ------
    BusyError
        If others have it all the time.
    """
    end = time.monotonic() + wait
    root = getattr(place.store, "root", None)
    with ExitStack() as stack:
        try:
            if isinstance(root, Path):
                own = 0 if at_once else None
                _enter(stack, root / place.path, end, own, creates=creates, shared=shared)
            elif not shared:
                _enter_thread(stack, place.url, 0 if at_once else wait)
        except TimeoutError as error:
            raise _busy(place, 0 if at_once else wait, who) from error
        except OSError as error:
            shown = printable(place.url, store.MAX_SHOWN)
            raise StoreError(f"{shown}: cannot be written: {store.reason(error)}") from error
        yield end


def _enter(
    stack: ExitStack, path: Path, end: float, own: float | None, *, creates: bool, shared: bool
) -> None:
    """Lock a directory, and share the locks of groups above it."""
    while creates or path.exists():  # else there is nothing to change
        with ExitStack() as tried:
            made = _made(path) if creates else []
            try:
                for above in _groups_above(path.resolve()):
                    tried.enter_context(locked(above, end - time.monotonic(), shared=True))
                seconds = end - time.monotonic() if own is None else own
                tried.enter_context(locked(path, seconds, shared=shared))
            except FileNotFoundError:  # deleted meanwhile
                continue
            tried.callback(_remove_empty, made)  # while it is locked: others may have it else
            stack.push(tried.pop_all())
            return


def _made(path: Path) -> list[Path]:
    """Make a directory; return those that were not there, the innermost first."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    if missing:
        path.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(directories: list[Path]) -> None:
    with contextlib.suppress(OSError):  # something is in one of them
        for each in directories:
            each.rmdir()


def _groups_above(path: Path) -> list[Path]:
    """Return the directories from the outermost group that a path is in, down to its own."""
    above = list(path.parents)
    groups = [i for i, each in enumerate(above) if any((each / f).is_file() for f in _GROUP_FILES)]
    return above[: groups[-1] + 1][::-1] if groups else []


def _enter_thread(stack: ExitStack, url: str, wait: float) -> None:
    with _threads_lock:
        mine = _threads.setdefault(url, _Lock())
    if not mine.lock.acquire(timeout=max(wait, 0)):
        raise TimeoutError
    stack.callback(_released, mine)


def _released(mine: _Lock) -> None:
    mine.lock.release()


def _busy(place: Source, wait: float, who: Callable[[], object] | None) -> BusyError:
    """Return an error that says who has an image, if its mark does."""
    try:
        if who is not None:
            who()
        else:
            group = store.look(place)
            unfinished.check_written(place.url, {} if group is None else group.attributes)
    except BusyError as error:
        return error
    except NgffError:  # which is not what keeps it from being written
        pass
    waited = f" for {wait:g} s and more" if wait > 0 else ""
    return BusyError(
        f"{printable(place.url, store.MAX_SHOWN)}: another process or thread is writing it{waited}:"
        " wait until it ends (wait= says how long to try)"
    )


def patiently(attempt: Callable[[], T], end: float) -> T:
    """Return what comes of an attempt, tried again while another writer is in the way.

    Raises
    ------
    BusyError
        If one is at the end.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            return attempt()
        except BusyError:
            left = end - time.monotonic()
            if left <= 0:
                raise
        time.sleep(min(left, pause * _random.uniform(0.5, 1)))
        pause = min(2 * pause, _LONGEST_PAUSE)


# ---- in the store ------------------------------------------------------------------------------


class Claim:
    """The mark of a group, or its note on a part, as that of one writer.

    It says every minute that its writer is alive. Left on the way, it says that this is over; a
    writer that was killed, or stopped for five minutes, loses it to the next one, and is told so
    when it goes on.

    Parameters
    ----------
    place
        The group, for writing.
    zarr_format
        That of the store.
    part
        The part that the note is on; by default it is the mark.
    keeps_consolidated
        Whether consolidated metadata beside the attributes stay.
    """

    def __init__(
        self,
        place: Source,
        zarr_format: ZarrFormat,
        part: str | None = None,
        *,
        keeps_consolidated: bool = True,
    ) -> None:
        self.token = uuid4().hex
        self.needs_taking = is_conditional(place.store)
        """Whether others may write meanwhile that this machine knows nothing of."""
        self._place, self._format, self._part = place, zarr_format, part
        self._keeps = keeps_consolidated
        self._lock, self._ends = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._is_mine = self._is_begun = False
        self._before: dict[str, Any] | None = None

    def take(self, default: Document, seen: Document | None = None) -> None:
        """Put the mark, or the note, before anything is changed; what it says stays.

        Parameters
        ----------
        default
            What it says if there is none.
        seen
            What there was, of which a note must still be.

        Raises
        ------
        BusyError
            If another one has it, or had it since.
        """

        def taken(attributes: Document) -> Document:
            found = unfinished.entry(attributes, self._part)
            if self._part is not None and found != seen:
                raise BusyError(f"{self._place.url}: another writer was there: try again")
            if found is not None and self._part is None and "regions" not in found:
                unfinished.check_read(self._place.url, attributes)
            self._before = found
            return unfinished.with_entry(attributes, found or default, self._part)

        self._change(taken)

    def change(self, made: Callable[[Document], Document]) -> None:
        """Write what the group is to say, made of what it says at that moment.

        Raises
        ------
        BusyError
            If another writer is at it.
        StoreError
            If another one has taken it over.
        """
        self._change(made)
        self._is_begun = True

    def say(self, attributes: Document) -> None:
        """Write what the group is to say."""
        self.change(lambda _: attributes)

    def begin(self, copy: str = "") -> None:
        """Mark a place where nothing is, or what was begun and is to be begun again.

        ``copy`` is what the mark says, so that others can go on with it.
        """

        def begun(attributes: Document) -> Document:
            found = unfinished.entry(attributes)
            if (attributes and found is None) or (found is not None and "regions" in found):
                raise StoreError(
                    f"{self._place.url}: there is something already: another writer was faster"
                )
            return unfinished.mark(copy)

        self.change(begun)

    def end(self) -> None:
        """Say nothing more: what was marked is about to be written over, or gone.

        Raises
        ------
        StoreError
            If another writer has taken it over.
        """
        self._stop()
        if self._is_mine and self.needs_taking:
            group = store.run(store.fetch_group(self._place, self._format))
            attributes = {} if group is None else group.attributes
            self._check_mine(unfinished.entry(attributes, self._part))
        self._is_mine = False

    def _change(self, made: Callable[[Document], Document]) -> None:
        says = self._is_mine

        def changed(attributes: Document) -> Document:
            nonlocal says
            found = unfinished.entry(attributes, self._part)
            if self._is_mine:
                self._check_mine(found)
            elif found is not None:
                unfinished.check_entry(self._place.url, found, self.token)
            new = made(attributes)
            said = unfinished.entry(new, self._part)
            says = said is not None
            if said is None or (self._is_mine and new == attributes):
                return new
            return unfinished.with_entry(new, unfinished.signed(said, self.token), self._part)

        with self._lock:
            store.change_attributes(self._place, self._format, changed, consolidated=self._keeps)
            self._is_mine = says
        if says and self._thread is None:
            self._thread = threading.Thread(target=self._renew, daemon=True)
            self._thread.start()
        elif not says:
            self._stop()

    def _check_mine(self, found: Document | None) -> None:
        if found is None or found.get("token") != self.token:
            raise StoreError(
                f"{printable(self._place.url, store.MAX_SHOWN)}: another writer has taken it over, "
                f"as this one was stopped for more than {unfinished.KILLED // 60} minutes: look at "
                "what is there, and write it again"
            )

    def _renew(self) -> None:
        while not self._ends.wait(unfinished.RENEWED):
            with self._lock, contextlib.suppress(NgffError):  # the next write tells
                if self._ends.is_set():
                    return
                store.change_attributes(
                    self._place, self._format, self._renewed, consolidated=self._keeps
                )

    def _renewed(self, attributes: Document) -> Document:
        found = unfinished.entry(attributes, self._part)
        if found is None or found.get("token") != self.token:
            return attributes
        return unfinished.with_entry(attributes, unfinished.signed(found, self.token), self._part)

    def _stop(self) -> None:
        self._ends.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._stop()
            if self._is_mine:
                with contextlib.suppress(NgffError):  # that which led here is the truer one
                    self._leave()
        finally:
            unfinished.forget(self.token)

    def _leave(self) -> None:
        """Say that nobody goes on; or what was said before, if nothing was changed since."""

        def left(attributes: Document) -> Document:
            found = unfinished.entry(attributes, self._part)
            if found is None or found.get("token") != self.token:
                return attributes
            said = unfinished.given_up(found) if self._is_begun else self._before
            return unfinished.with_entry(attributes, said, self._part)

        store.change_attributes(self._place, self._format, left, consolidated=self._keeps)
