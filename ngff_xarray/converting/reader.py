"""What a reader is, and what it is asked to read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol

from ngff_xarray.converting.found import Found
from ngff_xarray.errors import NgffError, StoreNotFoundError
from ngff_xarray.text import printable
from ngff_xarray.urls import divided, is_url, local_path, without_secrets

MAX_SHOWN = 500
_HEAD = 1024  # bytes that tell what a file is


class DeclinedError(NgffError):
    """A source that is nothing for a reader: the next one is asked."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller says of a source beyond its path; see `ngff_xarray.open_image`."""

    series: int | str | None = None
    path: str | None = None
    axes: str | Sequence[str] | None = None
    pattern: str | None = None
    pixel_size: Mapping[str, Any] | None = None
    channel_names: Sequence[str] | None = None
    labels: bool | None = None
    missing: Literal["raise", "fill"] = "raise"
    storage_options: Mapping[str, Any] | None = None

    @property
    def told(self) -> set[str]:
        """The names of those that were given and that only some readers use."""
        common = {"pixel_size", "channel_names", "labels", "missing", "storage_options"}
        names = {each.name for each in fields(self)} - common
        return {name for name in names if getattr(self, name) is not None}


@dataclass(frozen=True, slots=True)
class Input:
    """What is to be read: a file, a folder, a URL, a pattern of paths, or an object.

    Parameters
    ----------
    given
        As the caller gave it.
    text
        Its path or URL; ``""`` of an object.
    head
        The first bytes of a file here; none of anything else.
    """

    given: Any
    text: str = ""
    head: bytes = b""

    @classmethod
    def of(cls, source: Any) -> Input:
        """Return what a caller gave.

        Raises
        ------
        StoreNotFoundError
            If there is no such file.
        """
        if not isinstance(source, str | os.PathLike):
            return cls(source)
        text = local_path(os.fspath(source))
        if is_url(text):
            return cls(source, text)
        path = Path(text).expanduser().absolute()
        if path.is_file():
            with path.open("rb") as stream:
                return cls(source, str(path), stream.read(_HEAD))
        if not path.exists() and not any(sign in text for sign in "*?[{"):
            raise StoreNotFoundError(f"{printable(path, MAX_SHOWN)}: there is no such file")
        return cls(source, str(path))

    @property
    def name(self) -> str:
        """How it is called in errors."""
        if not self.text:
            return type(self.given).__name__
        return printable(without_secrets(self.text), MAX_SHOWN)

    @property
    def is_url(self) -> bool:
        """Whether it is elsewhere."""
        return is_url(self.text)

    @property
    def is_file(self) -> bool:
        """Whether it is a file here."""
        return bool(self.text) and not self.is_url and Path(self.text).is_file()

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder here."""
        return bool(self.text) and not self.is_url and Path(self.text).is_dir()

    @property
    def stamp(self) -> tuple[int, int]:
        """What tells a file from the one that was there before: when it was changed, its size."""
        found = self.path.stat()
        return found.st_mtime_ns, found.st_size

    @property
    def path(self) -> Path:
        """That of a file or folder here."""
        return Path(self.text)

    def ends(self, *suffixes: str) -> bool:
        """Tell whether its name ends so, in large or small letters."""
        text = self.text.partition("?")[0] if self.is_url else self.text
        return text.lower().endswith(suffixes)

    @property
    def stem(self) -> str:
        """The name of the file without its endings."""
        text = divided(self.text)[0] if self.is_url else self.text
        name = PurePosixPath(text.replace(os.sep, "/")).name
        for ending in (".ome.tiff", ".ome.tif", ".nii.gz"):
            if name.lower().endswith(ending):
                return name[: -len(ending)]
        return name.rpartition(".")[0] or name


class Reader(Protocol):
    """What a module of a format has; a line in `readers.READERS` makes it known."""

    NAME: str
    """What the format is called."""

    EXTRA: str
    """The extra that has what the reader needs; ``""`` if that is always there."""

    USES: frozenset[str]
    """Which of `Options` it uses, of those that only some do."""

    def claims(self, source: Input) -> bool:
        """Tell by its name and first bytes whether this may be such a file; nothing is imported."""

    def read(self, source: Input, options: Options) -> Found:
        """Return what is in it; no pixel is read.

        Raises
        ------
        DeclinedError
            If it is no such file.
        MissingDependencyError
            If what it takes to read it is not installed.
        NgffError
            If it is one, and is broken or nothing that this reader can read.
        """
