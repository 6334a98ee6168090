"""How a store is written, and what every step of that uses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import zarr
from zarr.abc.store import Store

from ngff_xarray import spec, store
from ngff_xarray.errors import NgffError, StoreError, UnsupportedError
from ngff_xarray.layout import Layout
from ngff_xarray.model import Image
from ngff_xarray.spec.documents import Content
from ngff_xarray.text import printable

_SUFFIX = re.compile(r"-new[0-9a-f]{8}$")  # of a level that took the place of another


@dataclass(slots=True)
class Resume:
    """Lets a run go on with what one has written that was killed, and notes what there was.

    Parameters
    ----------
    token
        What is written; the same only for the same pixels and metadata, written in the same way.
        Empty where nobody can go on.
    is_other
        Whether something was there that was to be something else.
    groups, parts
        How many groups were whole, and how many parts of images.
    """

    token: str = ""
    is_other: bool = False
    groups: int = 0
    parts: int = 0

    @classmethod
    def of(cls, given: str | Resume) -> Resume:
        """Return what a caller gave."""
        return cls(given) if isinstance(given, str) else given


@dataclass(frozen=True, slots=True)
class Writing:
    """How a store is written."""

    version: str
    lossy: bool
    progress: bool | None = None
    layout: Layout = field(default_factory=Layout)
    contrast: bool = False
    """Whether to find out in which ranges the channels are best shown."""
    suffix: str = ""
    """What is put behind the paths of levels that take the place of others."""
    has_xml: bool = False
    """Whether there is OME-XML beside a plate or a collection."""
    resume: Resume = field(default_factory=Resume)
    """What is written: what a run that was killed has written of the same stays."""
    goes_on: bool = False
    """Whether there is any."""
    keeps_xml: bool = True
    """Whether OME-XML has a place in the store."""

    @property
    def zarr_format(self) -> store.ZarrFormat:
        """That of the version."""
        return spec.VERSIONS[self.version].ZARR_FORMAT

    def placed(self, path: str) -> str:
        """Return where a level goes that was at a path."""
        return f"{without_suffix(path)}{self.suffix}"

    def attributes(self, content: Content) -> dict[str, Any]:
        """Return what the attributes of a group say, in words of the version."""
        return spec.writer(self.version)(content, lossy=self.lossy)


def without_suffix(path: str) -> str:
    """Return the path that a level had before it took the place of another one.

    Examples
    --------
    >>> without_suffix("0-new12345678"), without_suffix("0")
    ('0', '0')
    """
    return _SUFFIX.sub("", path)


def check_json(attributes: Mapping[str, Any]) -> None:
    """Check that attributes can stand in a store, before any pixel does."""
    for key, value in attributes.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError) as error:
            found = printable(error, 200)
            raise UnsupportedError(
                f"the attribute {key!r} is nothing that JSON has ({found}): change or drop it"
            ) from error


def commit(target: Store, path: str, attributes: dict[str, Any], writing: Writing) -> None:
    """Write the metadata in one piece; the group itself may be there, empty, from its arrays."""
    group = zarr.open_group(
        target, path=path, mode="a", zarr_format=writing.zarr_format, attributes=attributes
    )
    if group.attrs.asdict() != attributes:  # it was there
        group.attrs.put(attributes)


def moved(content: Image, paths: Sequence[str]) -> Image:
    """Return what is said of an image whose levels stand at other paths."""
    levels = zip(content.multiscale.levels, paths, strict=True)
    placed = tuple(replace(level, path=path) for level, path in levels)
    return replace(content, multiscale=replace(content.multiscale, levels=placed))


@contextmanager
def said_so(place: store.Source) -> Iterator[None]:
    """Name the place that cannot be written."""
    try:
        yield
    except NgffError:
        raise
    except (OSError, zarr.errors.BaseZarrError) as error:
        raise StoreError(f"{place.url}: cannot be written: {printable(error, 500)}") from error
