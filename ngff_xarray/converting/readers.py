"""The table of readers, and who reads a source."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import cast

from ngff_xarray.converting.found import Found
from ngff_xarray.converting.reader import DeclinedError, Input, Options, Reader
from ngff_xarray.errors import (
    MissingDependencyError,
    NgffError,
    NotOmeError,
    SelectionError,
    StoreError,
    UnsupportedError,
)
from ngff_xarray.text import printable

# in the order in which they are asked; each is a module beside this one
READERS = (
    "objects",
    "webknossos",
    "precomputed",
    "stores",
    "zarr_arrays",
    "n5",
    "folder",
    "tiff",
    "companion",
    "pictures",
    "nifti",
    "mrc",
    "numpy_files",
    "hdf5",
    "bioio",
    "bioformats",
)

ANYTHING = ("bioio", "bioformats")
"""Which are asked for every file that no other one reads."""


def find(source: Input, options: Options, reader: str | None = None) -> tuple[str, Found]:
    """Return which reader reads a source, and what it found.

    Parameters
    ----------
    source, options
        What is to be read.
    reader
        The only one that is asked.

    Raises
    ------
    NotOmeError
        If none does; it says which ones were asked, and why they did not.
    MissingDependencyError
        If one would, with a package that is not installed.
    StoreError
        If it is broken.
    SelectionError
        If there is no such reader, or none that uses an option.
    """
    if reader is not None and reader not in READERS:
        known = ", ".join(READERS)
        raise SelectionError(
            f"there is no reader {printable(reader, 40)!r}: expected one of {known}"
        )
    names = READERS if reader is None else (reader,)
    asked: dict[str, NgffError] = {}
    for name, module in claiming(source, names, is_told=reader is not None):
        unused = options.told - module.USES
        if unused:
            text = f"does not use {', '.join(sorted(unused))}="
            asked[name] = SelectionError(text)
            continue
        try:
            return name, module.read(source, options)
        except (DeclinedError, MissingDependencyError, UnsupportedError) as error:
            asked[name] = error  # another one may; of a file that is broken it would guess
        except NgffError as error:
            if name not in ANYTHING or not asked:
                raise
            asked[name] = error
    raise _none(source, asked)


def claiming(
    source: Input, names: tuple[str, ...] = READERS, *, is_told: bool = False
) -> Iterator[tuple[str, Reader]]:
    """Yield the readers that may read a source, by its name and first bytes, or all if told."""
    for name in names:
        module = cast(Reader, import_module(f"ngff_xarray.converting.{name}"))
        if is_told or module.claims(source):
            yield name, module


def _none(source: Input, asked: dict[str, NgffError]) -> NgffError:
    """Return what tells why nobody reads a source."""
    lines = [f"{name}: {printable(error, 400)}" for name, error in asked.items()]
    others = ", ".join(name for name in READERS if name not in asked)
    if others:
        lines.append(f"not asked, as neither its name nor its first bytes are theirs: {others}")
    text = "\n  - ".join([f"{source.name}: no reader can read this:", *lines])
    special = [error for name, error in asked.items() if name not in ANYTHING]
    for kind in (MissingDependencyError, UnsupportedError):
        found = next((error for error in special if isinstance(error, kind)), None)
        if found is not None:
            found.add_note(text)
            return found
    broken = [each for each in asked.values() if isinstance(each, StoreError)]
    if broken and not special:
        broken[0].add_note(text)
        return broken[0]
    error = NotOmeError(text)
    error.__cause__ = next(iter(asked.values()), None)
    return error
