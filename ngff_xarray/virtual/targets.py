"""Where references may lead: to what lies beside or below the file that they came in."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import unquote

from zarr.abc.store import Store

from ngff_xarray.errors import UntrustedError
from ngff_xarray.text import printable
from ngff_xarray.urls import is_url, local_path, without_secrets

MAX_SHOWN = 500


def shown(place: str) -> str:
    """Return a path or URL as it may be printed: short, and without its secrets."""
    return printable(without_secrets(place) if is_url(place) else place, MAX_SHOWN)


Opener = Callable[[str], Store]
"""Makes a store for reading of a directory: a local path or a URL."""


class Target(NamedTuple):
    """A file: its key below a directory; ``directory`` is "" for the one of the references."""

    directory: str
    key: str


def split(place: str) -> Target:
    """Return the directory and the name of a file or directory, as the text spells them.

    Examples
    --------
    >>> split("https://host/a/scan.ims?sign=b/c")
    Target(directory='https://host/a', key='scan.ims?sign=b/c')
    >>> split("/data/scan.ims")
    Target(directory='/data', key='scan.ims')
    """
    path, mark, query = place.partition("?") if is_url(place) else (place, "", "")
    directory, slash, name = path.rstrip("/").rpartition("/")
    if os.name == "nt" and not is_url(place):
        directory, name = os.path.split(place)
    return Target(directory or slash, name + mark + query)


@dataclass(frozen=True, slots=True)
class Reach:
    """What the references of one source may refer to.

    Parameters
    ----------
    source
        What people know it by.
    root
        The directory that it lies in, as an absolute path or a URL; None where it came as an
        object of Python, from nowhere.
    trust
        Whether they may refer to anything.
    """

    source: str
    root: str | None
    trust: bool = False

    def find(self, reference: str) -> Target:
        """Return the file that a reference means. Nothing of it is read.

        Raises
        ------
        UntrustedError
            If it lies outside, or may.
        """
        if "\0" in reference or not reference:
            self._refuse(reference, "is no path and no URL")
        if self.root is not None:
            inside = self._below_url if is_url(self.root) else self._below_path
            key = inside(self.root, reference)
            if key is not None:
                return Target("", key)
        if not self.trust:
            allowed = "nothing" if self.root is None else shown(self.root)
            self._refuse(reference, f"is not below what these references may reach: {allowed}")
        text = local_path(reference)
        if is_url(text):
            return split(text)
        if self.root is not None and is_url(self.root) and not text.startswith("/"):
            return split(f"{self.root}/{text}")
        return split(str(Path(self.root or "", text).absolute()))

    def _below_path(self, root: str, reference: str) -> str | None:
        text = local_path(reference)
        if is_url(text):
            return None
        if ".." in Path(text).parts:
            return None
        # symbolic links count as what they lead to
        real = Path(root).resolve()
        try:
            path = Path(root, text).resolve()
        except (OSError, RuntimeError):
            return None
        return path.relative_to(real).as_posix() if path.is_relative_to(real) else None

    def _below_url(self, root: str, reference: str) -> str | None:
        prefix = root.rstrip("/") + "/"
        if is_url(reference):
            if not reference.startswith(prefix):
                return None
            reference = reference.removeprefix(prefix)
        # servers undo escapes before they look at the dots, some of them twice
        plain = unquote(unquote(reference))
        parts = re.split(r"[/\\]", plain.partition("?")[0])
        if plain.startswith(("/", "\\")) or "\\" in plain or {"..", ".", ""} & set(parts):
            return None
        return reference

    def _refuse(self, reference: str, why: str) -> NoReturn:
        raise UntrustedError(
            f"{self.source}: the reference {shown(reference)!r} {why}; if you know where these "
            "references come from, pass engine='ngff', trust=True"
        )
