"""What writers that were killed have left in a store: found, and ended or cleared away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ngff_xarray import regions, store, unfinished
from ngff_xarray.analyse import work
from ngff_xarray.labelling import LabelEdit
from ngff_xarray.store import Document, Source, ZarrFormat
from ngff_xarray.text import printable
from ngff_xarray.turns import turn
from ngff_xarray.write import replacing


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that a writer has left.

    Parameters
    ----------
    group
        The group, below the store that was asked for.
    found
        What is there, and since when.
    remedy
        What becomes of it.
    end
        Does that.
    """

    group: str
    found: str
    remedy: str
    end: Callable[[], object] = field(repr=False)

    def __str__(self) -> str:
        where = f"{printable(self.group, 200)}: " if self.group else ""
        return f"{where}{printable(self.found, 200)} -> {self.remedy}"


def beside(place: Source) -> Iterator[Leftover]:
    """Yield what was to take the place of a store."""
    if replacing.is_begun(place):
        yield Leftover(
            "",
            "was being replaced",
            "ended if all of the new is there, or else what there is of it is deleted",
            lambda: _resume(store.writable(place)),
        )


def of_group(
    place: Source, group: str, attributes: Document, version: str | None, zarr_format: ZarrFormat
) -> Iterator[Leftover]:
    """Yield what is marked or noted in a group.

    Parameters
    ----------
    place
        The group, for reading.
    group
        Its path below the store that was asked for.
    attributes
        What it says.
    version, zarr_format
        Those of the store, as far as they are known.

    Raises
    ------
    StoreError
        If another process of this machine is writing it.
    """
    unfinished.check_written(place.url, attributes)
    since = unfinished.since(attributes)
    if unfinished.regions(attributes) is not None:
        yield Leftover(
            group,
            f"a region was being written (since {since})",
            "the other levels are made anew of the finest, which may lack a part of the region",
            lambda: regions.end(store.writable(place)),
        )
    elif unfinished.is_marked(attributes):
        yield Leftover(
            group,
            f"was being written (since {since}), and was never whole",
            "deleted",
            lambda: _delete(store.writable(place)),
        )
    elif unfinished.is_appended_to(attributes):
        yield Leftover(
            group,
            "was being appended to",
            "what stands beyond its ends is deleted",
            lambda: regions.end(store.writable(place)),
        )
    for name in work.names(place):
        yield Leftover(
            group,
            f"{name.removeprefix(work.NAME).strip('-')}: was being made by .ngff.apply()",
            "what is done so far is deleted; the same call again would go on with it",
            partial(_end_work, place, name),
        )
    for name in unfinished.parts(attributes):
        unfinished.part(place.child(name).url, attributes, name)  # raises if it is being written
        yield Leftover(
            f"{group}/{name}".strip("/"),
            "was being added, replaced or removed",
            "what is not whole is deleted",
            partial(_end_label, place, name, version or "", zarr_format),
        )


def _end_label(labels: Source, name: str, version: str, zarr_format: ZarrFormat) -> None:
    image = store.writable(labels).parent
    alone = turn(image.child(f"labels/{name}"), 0)
    with alone, LabelEdit.of(image, name, version, zarr_format) as edit:
        edit.end()


def _end_work(image: Source, name: str) -> None:
    place = store.writable(image).child(name)
    with turn(place, 0):
        work.Work(place).end()


def _resume(place: Source) -> None:
    with turn(place, 0):
        replacing.resume(place, force=True)


def _delete(place: Source) -> None:
    """Delete all that is at a place; what is marked goes last."""
    with turn(place, 0), store.changing(place):
        store.clear(place)
        for name in (".zgroup", ".zattrs", "zarr.json"):
            store.remove_key(place, name)
        directory = getattr(place.store, "root", None)
        if isinstance(directory, Path) and (directory / place.path).is_dir():
            (directory / place.path).rmdir()
