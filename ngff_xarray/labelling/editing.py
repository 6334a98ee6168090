"""The labels group of an image, changed so that whoever is killed leaves the old or the new.

Levels of a label image that takes the place of another have new paths, so that both are there
until the one write of the metadata that names the new ones. The labels group notes which arrays
may have to be cleared up, in attributes that opening does not look at, until all is done: calling
again does so. Consolidated metadata, which repeat all this, follow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ngff_xarray import store, turns, unfinished
from ngff_xarray.errors import NgffError, SelectionError, StoreError
from ngff_xarray.image import PROVENANCE
from ngff_xarray.spec.values import is_relative
from ngff_xarray.store import Document, Source, ZarrFormat
from ngff_xarray.text import printable

_LEVEL = re.compile(r"\d+-r(\d+)")  # a path of a level that took the place of another
_FILES: Mapping[ZarrFormat, tuple[str, ...]] = {
    2: (".zgroup", ".zattrs", ".zarray"),
    3: ("zarr.json",),
}


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is done to levels of a label image.

    Parameters
    ----------
    old, stale, new
        Paths of those that are there, that killed writers have left, and that are to come.
    is_debris
        Whether all that is there was left by a killed writer.
    is_second
        Whether it takes the place of another one.
    """

    old: list[str]
    stale: list[str]
    new: list[str]
    is_debris: bool
    is_second: bool


@dataclass(frozen=True, slots=True)
class LabelEdit:
    """One label image of an image, for changing it.

    Parameters
    ----------
    image
        The image's group, for writing.
    name
        The path of the label image below the labels group.
    version, zarr_format
        Those of the image.
    claim
        The note on it.
    """

    image: Source
    name: str
    version: str
    zarr_format: ZarrFormat
    claim: turns.Claim

    @classmethod
    @contextmanager
    def of(
        cls, image: Source, name: str, version: str, zarr_format: ZarrFormat
    ) -> Iterator[LabelEdit]:
        """Return the label image of a name, for changing it while the context is entered."""
        group = image.child("labels")
        with turns.Claim(group, zarr_format, name, keeps_consolidated=False) as claim:
            yield cls(image, name, version, zarr_format, claim)

    @property
    def group(self) -> Source:
        """The labels group."""
        return self.image.child("labels")

    @property
    def label(self) -> Source:
        """The label image's own group."""
        return self.group.child(self.name)

    # ---- what is there ---------------------------------------------------------------------

    def attributes(self) -> Document:
        """Return what the labels group says now."""
        return self._attributes(self.group)

    def _attributes(self, place: Source) -> Document:
        found = store.run(store.fetch_group(place, self.zarr_format))
        return {} if found is None else found.attributes

    def listed(self) -> list[str]:
        """Return the paths of all label images."""
        return self._named(self._list(self.attributes()))

    @staticmethod
    def _named(paths: list[Any]) -> list[str]:
        return [path.strip("/") for path in paths if isinstance(path, str)]

    def _list(self, attributes: Document) -> list[Any]:
        said = attributes.get("ome")
        inner = said if self.zarr_format == 3 and isinstance(said, dict) else attributes
        found = inner.get("labels", attributes.get("labels"))
        return found if isinstance(found, list) else []

    def levels(self) -> list[str]:
        """Return the paths of the arrays that the label image's metadata name."""
        attributes = self._attributes(self.label)
        said = attributes.get("ome") if self.zarr_format == 3 else attributes
        images = said.get("multiscales") if isinstance(said, dict) else None
        found = []
        for entry in images if isinstance(images, list) else []:
            datasets = entry.get("datasets") if isinstance(entry, dict) else None
            for dataset in datasets if isinstance(datasets, list) else []:
                path = dataset.get("path") if isinstance(dataset, dict) else None
                if isinstance(path, str) and is_relative(path):
                    found.append(path.strip("/"))
        return found

    def _others(self) -> list[str]:
        """Return the paths in the store of all other label images."""
        return [self.group.child(path).path for path in self.listed() if path != self.name]

    def _is_taken(self) -> bool:
        """Tell whether there is something of somebody else's where the label image goes."""
        if self._attributes(self.label) or not store.is_empty(self.label):
            return True
        labels = store.Group(self.zarr_format, {})
        return store.run(store.fetch_array(self.group, labels, self.name)) is not None

    # ---- adding and replacing --------------------------------------------------------------

    def add(
        self,
        count: int,
        describe: Callable[[Sequence[str]], Document],
        write: Callable[[Source, Sequence[str]], None],
        *,
        replaces: bool,
    ) -> None:
        """Write the label image.

        Parameters
        ----------
        count
            How many levels it has.
        describe
            Returns the attributes of its group, for the paths of its levels.
        write
            Writes its levels, at paths below its group.
        replaces
            Whether it may take the place of one of its name.

        Raises
        ------
        StoreError
            If there is one that is not to be replaced, or something else, or its properties are
            too many to be read again; nothing is changed then.
        """
        left = unfinished.part(self.label.url, self.attributes(), self.name)
        plan = self._planned(count, left, replaces=replaces)
        if self.claim.needs_taking:
            self._take(left, plan.is_second)
            plan = self._planned(count, left, replaces=replaces)
        attributes = describe(plan.new)
        store.encoded(self.label, "attributes", attributes)  # before pixels are written in vain
        self._put(note=[*plan.old, *plan.stale, *plan.new], replaces=plan.is_second)
        if left is not None:  # consolidated metadata may still name what is debris
            self._put_consolidated([] if plan.is_debris else plan.old)
        if plan.is_debris:
            store.remove(self.label, self._others())
        self._remove_levels(plan.stale)
        write(self.label, plan.new)
        self._put_own(attributes)
        self._put(lambda paths: [*paths, *([] if self.name in self._named(paths) else [self.name])])
        self._put_consolidated(plan.new)
        self._remove_levels(plan.old)
        self._put(ends=True)

    def check(self, *, replaces: bool) -> None:
        """Raise what `add` would raise."""
        left = unfinished.part(self.label.url, self.attributes(), self.name)
        self._planned(1, left, replaces=replaces)

    def _planned(self, count: int, left: unfinished.Part | None, *, replaces: bool) -> _Plan:
        """Return what to write and what to delete, of what is there now."""
        is_listed, old = self.name in self.listed(), self.levels()
        is_debris = left is not None and not left.replaces and not is_listed
        if is_debris:
            old = []
        elif is_listed or old:
            if not replaces and (left is None or left.replaces):
                raise StoreError(
                    f"{_shown(self.label)}: there is a label image of this name: give "
                    "replace=True, or another name"
                )
        elif self._is_taken():
            raise StoreError(
                f"{_shown(self.label)}: there is something that is no label image: give another "
                "name"
            )
        noted = left.paths if left is not None else ()
        stale = [path for path in noted if path not in old and is_relative(path)]
        new = _new_paths(count, [] if is_debris else [*old, *stale])
        is_second = is_listed or bool(old)  # not after an addition that was all but done
        is_second = is_second and (left is None or left.replaces)
        return _Plan(old, stale, new, is_debris, is_second)

    def _take(self, left: unfinished.Part | None, is_second: bool) -> None:
        """Put the note before it is looked at what there is to change.

        Raises
        ------
        BusyError
            If another writer has changed something of it meanwhile, or writes a region of it.
        """
        default = {"paths": [], "replaces": is_second}
        seen = None if left is None else dict(left.said)
        self.claim.take(default, seen)
        unfinished.check_written(self.label.url, self._attributes(self.label))

    def _put_own(self, attributes: Document) -> None:
        """Write what the label image says: the commit."""
        found = self._attributes(self.label)
        others = {key: value for key, value in found.items() if key not in _OME}
        if self.zarr_format == 2:
            store.remove_key(self.label, ".zmetadata")
        store.put_group(self.label, {**others, **attributes}, self.zarr_format)

    def _remove_levels(self, paths: Sequence[str]) -> None:
        """Delete levels that the label image's metadata do not name."""
        if not paths:
            return
        others = self._others()
        keep = [*others, *(self.label.child(path).path for path in self.levels())]
        for level in map(self.label.child, paths):
            if not any(_is_below(level.path, other) for other in others):
                store.remove(level, keep)
                self._prune(level, self.label)

    def _prune(self, below: Source, top: Source) -> None:
        """Delete the groups between two places that hold nothing any more."""
        path = below.path.rpartition("/")[0]
        while len(path) > len(top.path):
            between = replace(below, path=path)
            if not store.is_empty(between) or self._attributes(between):
                return
            store.remove_group(between, self.zarr_format)
            path = path.rpartition("/")[0]

    # ---- describing ------------------------------------------------------------------------

    def describe(self, made: Callable[[Document], Document]) -> None:
        """Write what the label image says of its labels, made of what it says at that moment.

        Raises
        ------
        SelectionError
            If there is none of this name.
        BusyError
            If another writer is at it.
        """
        unfinished.part(self.label.url, self.attributes(), self.name)
        self._check_listed()

        def changed(attributes: Document) -> Document:
            unfinished.check_written(self.label.url, attributes)
            said = attributes.get("ome") if self.zarr_format == 3 else attributes
            said = said if isinstance(said, dict) else {}
            label = said.get("image-label")
            new = {**said, "image-label": made(label if isinstance(label, dict) else {})}
            return {**attributes, "ome": new} if self.zarr_format == 3 else new

        store.change_attributes(self.label, self.zarr_format, changed, consolidated=True)
        self._put_consolidated(self.levels())

    def _check_listed(self) -> None:
        listed = self.listed()
        if self.name not in listed:
            known = printable(", ".join(listed), 200) or "none"
            raise SelectionError(
                f"{_shown(self.image)}: there is no label image {printable(self.name, 80)!r}; "
                f"there are: {known}"
            )

    # ---- removing --------------------------------------------------------------------------

    def remove(self) -> None:
        """Delete the label image.

        Raises
        ------
        SelectionError
            If there is none of this name.
        """
        left = unfinished.part(self.label.url, self.attributes(), self.name)
        if left is None:
            self._check_listed()
        if self.claim.needs_taking:
            self._take(left, is_second=True)
        others = self._others()
        self._put(
            lambda paths: [path for path in paths if self._named([path]) != [self.name]],
            note=[],
            replaces=False,
        )
        self._put_consolidated([])
        if self._attributes(self.label):
            store.put_group(self.label, {}, self.zarr_format)  # what is left is no image
        store.remove(self.label, others)
        self._prune(self.label, self.group)
        self._put(ends=True)

    # ---- what a writer that was killed has left ----------------------------------------------

    def end(self) -> None:
        """Clear away what is noted: what is no level of a label image that is listed."""
        left = unfinished.part(self.label.url, self.attributes(), self.name)
        if left is None:
            return
        if left.replaces or self.name in self.listed():
            old = self.levels()
            self._remove_levels([p for p in left.paths if p not in old and is_relative(p)])
            self._put_consolidated(old)
            self._put(ends=True)
        else:
            self.remove()

    # ---- the list --------------------------------------------------------------------------

    def _put(
        self,
        change: Callable[[list[Any]], list[Any]] = lambda paths: paths,
        *,
        note: Sequence[str] | None = None,
        replaces: bool = False,
        ends: bool = False,
    ) -> None:
        """Write the labels group, as it is now, with another list or note; or delete it.

        Nothing of it is kept from one write to the next: others may change it as well.
        """
        is_last = ends and store.is_empty(self.group)
        is_over = False

        def changed(found: Document) -> Document:
            nonlocal is_over
            attributes = self._with_list(found, change(self._list(found)))
            if note is not None:
                attributes = unfinished.part_begun(attributes, self.name, note, replaces=replaces)
            if ends:
                attributes = unfinished.part_ended(attributes, self.name)
            is_over = is_last and not attributes
            return found if is_over else attributes  # which goes with the group

        self.claim.change(changed)
        if is_over:
            self.claim.end()
            store.remove_group(self.group, self.zarr_format, self._is_mine_alone)

    def _is_mine_alone(self, attributes: Document) -> bool:
        """Tell whether a labels group says nothing but the note on this label image."""
        return not unfinished.part_ended(self._with_list(attributes, []), self.name)

    def _with_list(self, attributes: Document, paths: list[Any]) -> Document:
        """Return the attributes of the labels group with a list; without one if it is empty."""
        others = {key: value for key, value in attributes.items() if key != "labels"}
        if self.zarr_format == 2:
            return {**others, **({"labels": paths} if paths else {})}
        said = others.pop("ome", None)
        known = {k: v for k, v in said.items() if k != "labels"} if isinstance(said, dict) else {}
        if not paths:
            return {**others, **({"ome": known} if set(known) > {"version"} else {})}
        return {**others, "ome": {"version": self.version, **known, "labels": paths}}

    # ---- consolidated metadata -------------------------------------------------------------

    def _put_consolidated(self, levels: Sequence[str]) -> None:
        """Let consolidated metadata repeat what is there of the label image, with these levels."""
        name = "zarr.json" if self.zarr_format == 3 else ".zmetadata"
        for above, prefix in self.group.upwards():
            try:
                found = store.run(store.fetch_json(above, name))
            except NgffError:  # which nobody else can read either
                continue
            if found is not None and self._repeated(found) is not None:
                self._put_consolidated_in(above, prefix, name, levels)

    def _put_consolidated_in(
        self, above: Source, prefix: str, name: str, levels: Sequence[str]
    ) -> None:
        """Write what is there; again, if another writer has changed that meanwhile."""
        documents: dict[str, Document] | None = None
        while documents is None or (
            self.claim.needs_taking and documents != self._documents(levels)
        ):
            documents = self._documents(levels)
            store.change_json(above, name, self._consolidating(prefix, documents))

    def _repeated(self, whole: Document) -> dict[str, Any] | None:
        """Return the documents that consolidated metadata repeat, in which they may be changed."""
        holder = whole.get("consolidated_metadata") if self.zarr_format == 3 else whole
        known = holder.get("metadata") if isinstance(holder, dict) else None
        return known if isinstance(known, dict) else None

    def _consolidating(
        self, prefix: str, documents: Mapping[str, Document]
    ) -> Callable[[Document | None], Document | None]:
        """Return what changes the consolidated metadata of a group that the labels are below."""
        own = store.join(prefix, self.name)
        groups = {store.join(prefix, file) for file in ("", *_FILES[2])}
        kept = [store.join(prefix, path) for path in self.listed() if path != self.name]

        def change(whole: Document | None) -> Document | None:
            known = None if whole is None else self._repeated(whole)
            if known is None:
                return None
            for key in [key for key in known if key in groups or _is_below(key, own)]:
                if not any(_is_below(key, other) for other in kept):
                    del known[key]
            known |= {store.join(prefix, path): document for path, document in documents.items()}
            known.pop("", None)
            return whole

        return change

    def _documents(self, levels: Sequence[str]) -> dict[str, Document]:
        """Return documents by their path below the labels group, as consolidated metadata do."""
        if not self._list(self.attributes()):  # the group itself is about to go, or to come
            return {}
        own = [self.name] if self.name in self.listed() else []
        paths = ["", *own, *(f"{name}/{level}" for name in own for level in levels)]
        found = {}
        for path in paths:
            for file in _FILES[self.zarr_format]:
                document = store.run(store.fetch_json(self.group.child(path), file))
                if document is None:
                    continue
                key = path if self.zarr_format == 3 else store.join(path, file)
                found[key] = self._consolidated(document)
        return found

    def _consolidated(self, document: Document) -> Document:
        if self.zarr_format == 2:
            return unfinished.without(document)
        kept = {key: value for key, value in document.items() if key != "consolidated_metadata"}
        if kept.get("node_type") == "group":
            attributes = kept.get("attributes")
            kept["attributes"] = unfinished.without(attributes or {})
            kept["consolidated_metadata"] = {
                "kind": "inline",
                "must_understand": False,
                "metadata": {},
            }
        return kept


# what a label image that takes the place of another says itself, or not
_OME = frozenset({"ome", "multiscales", "omero", "image-label", PROVENANCE})


def _new_paths(count: int, old: Sequence[str]) -> list[str]:
    """Return paths for levels that are none of the old ones, nor were those of ones before."""
    if not old:
        return [str(number) for number in range(count)]
    matches = (_LEVEL.fullmatch(path) for path in old)
    last = max((int(match[1]) for match in matches if match), default=0)
    return [f"{number}-r{last + 1}" for number in range(count)]


def _is_below(key: str, path: str) -> bool:
    return key == path or key.startswith(f"{path}/")


def _shown(place: Source) -> str:
    return printable(place.url, store.MAX_SHOWN)
