"""Arrays and fields in which transformations keep their parameters, and where these lead."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ngff_xarray.errors import StoreNotFoundError, TransformationError
from ngff_xarray.lazy import PARAMETERS, parameter_dataset
from ngff_xarray.read.opening import Nodes, Opened
from ngff_xarray.spec import rules, transformations
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.systems import parse_system
from ngff_xarray.spec.transformations import parameter_paths
from ngff_xarray.spec.values import is_relative
from ngff_xarray.store import fetch_array, fetch_child_group, open_array

_MOST_AXES = 32  # of a matrix in an array


async def open_parameters(opened: Opened, links: list[Any], where: str) -> dict[str, Nodes]:
    """Return the arrays and fields in which transformations keep their parameters."""
    wanted: dict[str, str] = {}
    for i, link in enumerate(links):
        for path in sorted(parameter_paths(link)):
            if is_relative(path.strip("/")):
                wanted.setdefault(path.strip("/"), f"{where}[{i}]")
    paths = list(wanted)
    found = await asyncio.gather(
        *(_open_parameter(opened, path) for path in paths), return_exceptions=True
    )
    opened_nodes: dict[str, Nodes] = {}
    for path, nodes in zip(paths, found, strict=True):
        if isinstance(nodes, dict):
            opened_nodes[path] = nodes
        else:
            opened.note(path, nodes, rules.FIELD, wanted[path])
    return opened_nodes


async def _open_parameter(opened: Opened, path: str) -> Nodes:
    document = await fetch_array(opened.source, opened.group, path)
    if document is not None:
        return {"": parameter_dataset(open_array(opened.source, path, document))}
    group = await fetch_child_group(opened.source, opened.group, path)
    if group is None:
        raise StoreNotFoundError("there is neither an array nor a group")
    opening = replace(opened.opening, labels=False, multiscale=0)
    return await opened.open_nodes(opened.source.child(path), group, opening)


@dataclass(frozen=True, slots=True)
class _Shapes:
    """Stands for the arrays of parameters: only their shapes are known, and nothing is read."""

    nodes: Mapping[str, Nodes]

    def matrix(self, path: str) -> Any:
        node = self.nodes.get(path.strip("/"), {}).get("")
        array = None if node is None else node.data_vars.get(PARAMETERS)
        if array is None or array.ndim != 2 or array.dtype.kind not in "iuf":
            found = "no array" if array is None else f"{array.dtype} {array.shape}"
            raise TransformationError(f"{shown(path)}: expected a matrix of numbers, found {found}")
        if max(array.shape) > _MOST_AXES + 1:
            raise TransformationError(f"{shown(path)}: the matrix is too large: {array.shape}")
        rows, columns = array.shape
        return np.eye(rows, columns)

    def field(self, path: str, interpolation: str) -> None:
        return None


def system_sizes(said: Mapping[str, Any], path: str = "") -> dict[tuple[str, str], int]:
    """Return the number of axes of each coordinate system of a group, by its path and name."""
    stored = said.get("coordinateSystems")
    systems = stored if isinstance(stored, list) else []
    parsed = [parse_system(system) for system in systems if isinstance(system, dict)]
    return {(path, system.name): len(system.axes) for system in parsed if system is not None}


def check_parameters(
    links: Sequence[Any],
    where: str,
    nodes: Mapping[str, Nodes],
    sizes: Mapping[tuple[str, str], int],
    report: Report,
) -> None:
    """Note matrices that stand in arrays and do not fit the systems that they lead to."""
    reading = transformations.Reading(report.error, _Shapes(nodes))
    for i, link in enumerate(links):
        paths = {path.strip("/") for path in parameter_paths(link)}
        if paths and paths <= set(nodes):
            ends = [link.get(key) for key in ("input", "output")]
            counts = [
                sizes.get((str(end.get("path") or "").strip("/"), str(end.get("name"))))
                if isinstance(end, dict)
                else None
                for end in ends
            ]
            transformations.read(link, f"{where}[{i}]", counts[0], counts[1], reading)


def linked_paths(link: Mapping[str, Any]) -> set[str]:
    """Return the paths of the images at the ends of a transformation."""
    ends = [link.get(key) for key in ("input", "output")]
    paths = [end.get("path") for end in ends if isinstance(end, dict)]
    return {path.strip("/") for path in paths if isinstance(path, str)}


def check_references(
    links: Sequence[Mapping[str, Any]], nodes: Mapping[str, Nodes], where: str, report: Report
) -> None:
    """Note ends of transformations at systems that the images below do not have."""
    for i, link in enumerate(links):
        for key in ("input", "output"):
            end = link.get(key)
            path = end.get("path") if isinstance(end, dict) else None
            if not isinstance(path, str) or not isinstance(end, dict):
                continue
            below = nodes.get(path.strip("/"))
            if below is None:
                found = f"there is no image at {shown(path)}"
                report.error(f"{where}[{i}].{key}", rules.SYSTEM_UNKNOWN, found)
                continue
            names = [name for _, name in system_sizes(below[""].attrs["ome"])]
            if names and end.get("name") not in names:
                found = f"{shown(path)} has no system {shown(end.get('name'))}, only {shown(names)}"
                report.error(f"{where}[{i}].{key}", rules.SYSTEM_UNKNOWN, found)
