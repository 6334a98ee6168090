"""The images of a plate, a well or a collection, opened when it is their turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import xarray as xr

from ngff_xarray import groups, image
from ngff_xarray.analyse.sweeping import swept
from ngff_xarray.spec.hcs import parse_fields
from ngff_xarray.text import printable

if TYPE_CHECKING:
    import pandas as pd

_AHEAD = 8  # wells that are opened at a time: on a network most of that is waiting


class Member(NamedTuple):
    """An image of a group: what it is called, level by level of the index."""

    key: tuple[str, ...]
    tree: xr.DataTree


@dataclass
class Members:
    """The images of a group, opened when it is their turn; and what was wrong with some.

    Parameters
    ----------
    tree
        The group.
    wells
        Which of a plate: names, or rows of ``plate.ngff.wells``; None for all.
    fields
        Which of every well, by their place in its list; None for all.
    by
        What a field of a plate is called: ``"well"``, by its well and its name in it, or
        ``"field"``, by its path.
    issues
        What is listed and not there.
    """

    tree: xr.DataTree
    wells: Iterable[str] | pd.DataFrame | None
    fields: int | Sequence[int] | None
    by: str
    issues: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str | None:
        """What the group is."""
        return image.group_kind(self.tree)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the levels of the index before the label."""
        if self.kind == "plate":
            return ("well", "field") if self.by == "well" else ("field",)
        return ("field",) if self.kind == "well" else ("image",)

    def all(self) -> Iterator[Member]:
        """Return the images; the names of wells are checked now."""
        return self._of_plate() if self.kind == "plate" else self._of(self.tree, ())

    def labelled(self, label: str) -> Iterator[Member]:
        """Return the images that have a label image of a name; those of wells are checked now."""
        return (one for one in self.all() if self._has(one, label))

    def _has(self, one: Member, label: str) -> bool:
        known = image.label_images(one.tree)
        if label not in known:
            have = printable(", ".join(known), 200) or "none"
            self.issues.append(
                f"{'/'.join(one.key)}: there is no label image {printable(label, 80)!r}; "
                f"there are: {have}"
            )
        return label in known

    def well_paths(self) -> list[str]:
        """Return the paths of the wells of a plate."""
        wanted: Any = self.wells
        names = wanted["path"] if hasattr(wanted, "columns") else wanted
        return groups.well_paths(self.tree, [names] if isinstance(names, str) else names)

    def _of_plate(self) -> Iterator[Member]:
        paths = self.well_paths()

        def opened(path: str) -> xr.DataTree | None:
            node = groups.node_at(self.tree, path)
            if node is not None and groups.is_opened(node):
                return node.copy(deep=False)
            return groups.read_well(self.tree, path)

        def images() -> Iterator[Member]:
            for path, well in zip(paths, swept(paths, opened, _AHEAD), strict=True):
                if well is None:
                    self.issues.append(f"{path}: the well is listed, and not in the store")
                else:
                    yield from self._of(well, (path,))

        return images()

    def _of(self, tree: xr.DataTree, before: tuple[str, ...]) -> Iterator[Member]:
        found = groups.images(tree)
        listed = list(found)
        if image.group_kind(tree) == "well":
            listed = self._chosen([path for path, _ in parse_fields(tree.attrs["ome"]["well"])])
        for name in listed:
            key = (*before, name)
            if name not in found:
                self.issues.append(f"{'/'.join(key)}: the field is listed, and cannot be opened")
                continue
            yield Member(("/".join(key),) if self.by == "field" and before else key, found[name])

    def _chosen(self, paths: list[str]) -> list[str]:
        """Return those of the fields of a well that are wanted."""
        if self.fields is None:
            return paths
        wanted = [self.fields] if isinstance(self.fields, int) else self.fields
        return [paths[number] for number in wanted if -len(paths) <= number < len(paths)]
