"""What of a store is wanted, and a group of it whose own metadata were read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import xarray as xr

from ngff_xarray import spec
from ngff_xarray.errors import MetadataError, NgffError, SelectionError, StoreNotFoundError
from ngff_xarray.lazy import Coordinates
from ngff_xarray.progress import Bar
from ngff_xarray.spec import rules
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.storage import Access
from ngff_xarray.store import Group, Source, fetch_child_group

MAX_CHILDREN = 2**12  # wells of a plate, images of a collection: each is a node

Nodes = dict[str, xr.Dataset]  # by path below the group, "" for the group itself
Wells = Sequence[str] | Literal["all"] | None
OpenNodes = Callable[..., Awaitable[Nodes]]
"""`ngff_xarray.read.nodes.open_nodes`, by which groups of every kind open those below."""


@dataclass(slots=True)
class Seen:
    """How many nodes the documents list that were read so far."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class Opening:
    """What of a store is wanted.

    Parameters
    ----------
    labels
        Whether to open label images.
    wells
        The wells of a plate to open, by path, or ``"all"``; None opens none.
    multiscale
        Which image of a group with several, by number or name.
    is_label
        Whether an image is one of labels because of where it stands.
    indexed
        Whether to make indexes; xarray makes them itself where it opens the store.
    version
        The version of the group above, which one that states none follows.
    spatial
        Whether the group is an element of a SpatialData store, whose systems place it.
    coordinates
        Shared by all levels that are opened.
    bar
        Counts the groups next below, as far as there are several.
    access
        How other stores are read that a collection leads to.
    documents
        Those that led to a collection, so that none is opened inside itself.
    seen
        Shared by all collections that are opened.
    """

    labels: bool = True
    wells: Wells = None
    multiscale: int | str = 0
    is_label: bool = False
    indexed: bool = False
    version: str | None = None
    spatial: bool = False
    coordinates: Coordinates = field(default_factory=Coordinates)
    bar: Bar = field(default_factory=Bar)
    access: Access = field(default_factory=Access)
    documents: tuple[str, ...] = ()
    seen: Seen = field(default_factory=Seen)


@dataclass(frozen=True, slots=True)
class Opened:
    """A group whose own metadata were read."""

    source: Source
    group: Group
    version: str
    content: Any
    others: dict[str, Any]
    opening: Opening
    report: Report
    open_nodes: OpenNodes

    def node(self, ome: dict[str, Any], **encoding: Any) -> xr.Dataset:
        """Return the Dataset of the group itself; last, for it takes the issues along."""
        dataset = xr.Dataset(attrs={**self.others, "ome": ome})
        dataset.encoding = {
            "source": self.source.url,
            "ome_version": self.version,
            "zarr_format": self.group.zarr_format,
            **encoding,
            "issues": (*self.report.issues, *self.report.faults),
            "place": (self.source, self.group),
        }
        return dataset

    async def children(
        self,
        paths: Sequence[str],
        rule: rules.Rule,
        where: str = "",
        groups: Mapping[str, Group] | None = None,
        **changed: Any,
    ) -> dict[str, Nodes]:
        """Return the nodes of groups below; those that cannot be opened become issues."""
        opening = replace(
            self.opening, **{"wells": None, "multiscale": 0, "version": self.version, **changed}
        )
        if len(paths) > MAX_CHILDREN:
            found = f"lists {len(paths)}, more than {MAX_CHILDREN}: the others are left out"
            self.report.error(where, rule, found)
            paths = paths[:MAX_CHILDREN]
        bar = opening.bar
        if len(paths) > 1:
            bar.more(len(paths))
            opening = replace(opening, bar=Bar())  # those below these are not counted

        async def child(path: str) -> Nodes:
            try:
                return await self._child(path, (groups or {}).get(path), opening)
            finally:
                bar.did(len(paths) > 1)

        found_nodes = await asyncio.gather(*map(child, paths), return_exceptions=True)
        opened: dict[str, Nodes] = {}
        for path, nodes in zip(paths, found_nodes, strict=True):
            if isinstance(nodes, dict):
                opened[path] = nodes
                self.check_child(path, nodes[""])
            else:
                self.note(path, nodes, rule, where)
        return opened

    def note(self, path: str, error: BaseException, rule: rules.Rule, where: str) -> None:
        """Note a group below that cannot be opened, with all that is wrong in it."""
        if isinstance(error, MetadataError):
            self.report.issues += [
                replace(issue, group="/".join(filter(None, (path, issue.group))))
                for issue in error.issues
            ]
        elif isinstance(error, NgffError):
            self.report.error(where, rule, f"{shown(path)} cannot be opened: {error}")
        else:
            raise error

    async def _child(self, path: str, group: Group | None, opening: Opening) -> Nodes:
        group = group or await fetch_child_group(self.source, self.group, path)
        if group is None:
            raise StoreNotFoundError("there is no group")
        return await self.open_nodes(self.source.child(path), group, opening)

    def check_child(self, path: str, node: xr.Dataset) -> None:
        """Note a group below of another version."""
        version = node.encoding["ome_version"]
        if version != self.version and self.group.zarr_format == 3:
            found = f"is version {version}, below version {self.version}"
            self.report.error("version", rules.VERSION, f"{shown(path)} {found}")


def inherited(group: Group, above: str | None) -> str | None:
    """Return the version of the group above for one below ``ome`` that states none."""
    said = group.attributes.get("ome")
    unstated = isinstance(said, dict) and "version" not in said
    later = spec.VERSIONS[above].ZARR_FORMAT == 3 if above else False
    return above if unstated and later else None


def image_number(group: Group, wanted: int | str, source: Source) -> int:
    """Return which of the images of a group is wanted."""
    if isinstance(wanted, int):
        return wanted
    document = group.attributes.get("ome", group.attributes)
    entries = document.get("multiscales") if isinstance(document, dict) else None
    entries = entries if isinstance(entries, list) else []
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    if wanted not in names:
        raise SelectionError(f"{source.url}: there is no image {wanted!r}; found {shown(names)}")
    return names.index(wanted)


def nodes_below(prefix: str, nodes: Nodes) -> Nodes:
    """Return nodes by their path below another group."""
    return {f"{prefix}/{path}" if path else prefix: node for path, node in nodes.items()}


def with_below(root: xr.Dataset, children: Mapping[str, Nodes]) -> Nodes:
    """Return the nodes of a group and of those below it."""
    nodes = {"": root}
    for path, below in children.items():
        nodes |= nodes_below(path, below)
    return nodes


def with_extra(said: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a group says, with what else stood below ``ome``."""
    return {**said, "extra": {"ome": dict(extra)}} if extra else said
