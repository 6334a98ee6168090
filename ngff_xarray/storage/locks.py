"""Locks on files and directories, kept by the operating system: gone with whoever has them.

A directory is locked itself (``flock``), so that nothing is left beside or in it, not by a writer
that was killed either. Where directories cannot be locked (NFS, Windows) a file in the temporary
directory of the user stands for one; that serves the processes of one machine only. Libraries for
locks (filelock, portalocker) lock files that stay there, and have no shared locks.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.02  # seconds
# what file systems say that lock no directories, or nothing
_UNABLE = {errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EISDIR}
_random = random.Random()
_held: set[int] = set()

if sys.platform == "win32":
    import msvcrt

    _SHARES = 64  # bytes: one for each that shares a lock, all for one who does not

    def _try(handle: int, *, shared: bool) -> bool:
        places = [(at, 1) for at in range(_SHARES)] if shared else [(0, _SHARES)]
        for at, count in places:
            os.lseek(handle, at, os.SEEK_SET)
            with contextlib.suppress(OSError):
                msvcrt.locking(handle, msvcrt.LK_NBLCK, count)
                return True
        return False

    def _free(handle: int) -> None:
        """Do nothing: closing it does."""

else:
    import fcntl

    def _try(handle: int, *, shared: bool) -> bool:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _free(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)  # also of processes that were forked meanwhile


def _forget() -> None:
    """Close what a process had locked of which this one is a copy: it is not locked for this."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@contextmanager
def locked(path: Path, seconds: float, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a file or directory.

    Threads of one process wait for each other as processes do; who has it must not ask again.

    Parameters
    ----------
    path
        Which is there. Where another one has taken its place meanwhile, that one is locked.
    seconds
        How long to wait for others.
    shared
        Whether others may share it; nobody has it alone then.

    Raises
    ------
    TimeoutError
        If others have it all the time.
    OSError
        If it is not there.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder), 0):
    ...     with locked(Path(folder), 0):
    ...         pass
    Traceback (most recent call last):
    TimeoutError: ...
    """
    end, pause = time.monotonic() + seconds, _FIRST_PAUSE
    while (taken := _taken(path, shared=shared)) is None:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "is locked by another writer", str(path))
        time.sleep(min(left, pause * _random.uniform(0.5, 1)))
        pause = min(2 * pause, _LONGEST_PAUSE)
    handle, stand_in = taken
    _held.add(handle)
    try:
        yield
    finally:
        if handle in _held:  # not in a copy of the process that has it
            _held.discard(handle)
            if stand_in is not None and not shared:
                with contextlib.suppress(OSError):
                    stand_in.unlink()  # whoever waits for it looks whether it is still there
            _free(handle)
            os.close(handle)


def _taken(path: Path, *, shared: bool) -> tuple[int, Path | None] | None:
    """Return the handle of a lock, and the file that stands for what cannot be locked."""
    if os.name != "nt":
        try:
            found = _tried(path, os.O_RDONLY, shared=shared)
        except OSError as error:
            if error.errno not in _UNABLE:
                raise
        else:
            return None if found is None else (found, None)
    os.stat(path)  # noqa: PTH116  # raises if it is not there
    stand_in = _stand_in(path)
    found = _tried(stand_in, os.O_RDWR | os.O_CREAT, shared=shared)
    return None if found is None else (found, stand_in)


def _tried(path: Path, flags: int, *, shared: bool) -> int | None:
    handle = os.open(path, flags, 0o600)
    is_mine = False
    try:
        is_mine = _try(handle, shared=shared) and _is_at(path, handle)
    finally:
        if not is_mine:
            os.close(handle)
    return handle if is_mine else None


def _is_at(path: Path, handle: int) -> bool:
    """Tell whether a path still leads to what was opened."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _stand_in(path: Path) -> Path:
    user = os.getuid() if sys.platform != "win32" else ""
    folder = Path(tempfile.gettempdir()) / f"ngff_xarray-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    whole = os.path.normcase(os.path.realpath(path))
    return folder / f"{hashlib.sha256(os.fsencode(whole)).hexdigest()[:32]}.lock"
