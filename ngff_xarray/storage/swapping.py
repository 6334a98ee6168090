"""A directory that takes the place of another one in one step."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from pathlib import Path
from uuid import uuid4

_EXCHANGE = 2  # of renameat2 of Linux
_HERE = -100


def beside(target: Path) -> Path:
    """Return where to write what is to take the place of a directory."""
    return target.with_name(f"{_prefix(target)}{uuid4().hex[:8]}")


def leftovers(target: Path) -> list[Path]:
    """Return what writers have left beside a directory."""
    parent = target.parent
    return sorted(parent.glob(f"{_prefix(target)}*")) if parent.is_dir() else []


def _prefix(target: Path) -> str:
    return f".{target.name}-new-"


def swap(made: Path, target: Path) -> None:
    """Put a directory where another one is, and delete that one.

    On Linux there is no moment at which neither is there.
    """
    if not _exchanged(made, target):
        aside = beside(target)
        target.rename(aside)
        made.rename(target)
        made = aside
    shutil.rmtree(made)


def _exchanged(made: Path, target: Path) -> bool:
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # another C library
        return False
    both = (os.fsencode(path) for path in (made, target))
    first, second = (ctypes.c_char_p(path) for path in both)
    return bool(rename(_HERE, first, _HERE, second, ctypes.c_uint(_EXCHANGE)) == 0)
