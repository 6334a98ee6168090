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
    StoreNotFoundError,
)
from ngff_xarray.text import printable

# in the order in which they are asked; each is a module beside this one
READERS = (
    "objects",
    "stores",
    "zarr_arrays",
    "n5",
    "folder",
    "tiff",
    "pictures",
    "nifti",
    "mrc",
    "numpy_files",
    "hdf5",
)


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
        except (StoreNotFoundError, SelectionError):  # the caller's mistake, whoever reads it
            raise
        except NgffError as error:
            asked[name] = error
    alone = next(iter(asked.values())) if len(asked) == 1 else None
    if alone is not None and not isinstance(alone, DeclinedError | SelectionError):
        raise alone
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
    lines = [f"{name}: {printable(error, 300)}" for name, error in asked.items()]
    missing = [each for each in asked.values() if isinstance(each, MissingDependencyError)]
    others = ", ".join(name for name in READERS if name not in asked)
    if others:
        lines.append(f"not asked, as neither its name nor its first bytes are theirs: {others}")
    text = "\n  - ".join([f"{source.name}: no reader can read this:", *lines])
    error = NotOmeError(text)
    if missing:
        error.add_note("installing what is missing may help")
    if asked:
        error.__cause__ = next(iter(asked.values()))
    return error
