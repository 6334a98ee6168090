"""Version 0.6: images with coordinate systems, and scenes that place images in common ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ngff_xarray import transforms as t
from ngff_xarray.errors import UnsupportedError
from ngff_xarray.model import CoordinateSystem, Json, Level, Multiscale, Scene
from ngff_xarray.spec import levels, rules, transformations
from ngff_xarray.spec.axes import check_image_axes, read_axes, read_systems, write_axis
from ngff_xarray.spec.multiscales import KEYS, entry_text
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.transformations import Complain, Reading
from ngff_xarray.spec.values import is_relative

Node = tuple[str, str]  # the path of a group and the name of a coordinate system in it

_LEVEL_TYPES = ("identity", "scale", "sequence")
_LABEL_TYPES = ("identity", "scale", "translation")
_PARAMETERS = frozenset(
    {"type", "input", "output", "path", "transformations", "forward", "inverse", "interpolation"}
    | {"scale", "translation", "affine", "rotation", "mapAxis", "droppedInputs", "createdOutputs"}
)


def read_multiscale(entry: Json, where: str, report: Report, *, draft: bool) -> Multiscale:
    """Return the image that an object of ``multiscales`` describes (0.6)."""
    complain = report.warn if draft else report.error
    place = f"{where}.coordinateSystems"
    systems = read_systems(entry.get("coordinateSystems"), place, report)
    stored = entry.get("coordinateSystems")
    described = [s for s in stored if isinstance(s, dict)] if isinstance(stored, list) else []
    for i, system in enumerate(described):
        known = systems.get(str(system.get("name")))
        if known is not None:
            check_image_axes(system.get("axes"), known.axes, f"{place}[{i}].axes", report)
    found = levels.read_paths(entry.get("datasets"), f"{where}.datasets", report)
    links = [
        _read_level_link(item, path, f"{where}.datasets[{i}]", systems, report, complain)
        for i, (path, item) in enumerate(found)
    ]
    intrinsic = _intrinsic(links, systems, f"{where}.datasets", report)
    axes = systems[intrinsic].axes if intrinsic in systems else ()
    read = tuple(
        _read_level(path, item, link, f"{where}.datasets[{i}]", len(axes), report)
        for i, ((path, item), link) in enumerate(zip(found, links, strict=True))
    )
    levels.check_order(read, f"{where}.datasets", len(axes), report)
    more = _read_beyond(entry, where, intrinsic, systems, report, complain)
    return Multiscale(
        axes=axes,
        levels=read,
        name=entry_text(entry, "name", where, report),
        type=entry_text(entry, "type", where, report),
        metadata=entry.get("metadata"),
        extra={k: v for k, v in entry.items() if k not in KEYS},
        intrinsic=intrinsic,
        systems=tuple(described),
        transformations=tuple(more),
    )


def _read_level_link(
    item: Json,
    path: str,
    where: str,
    systems: Mapping[str, CoordinateSystem],
    report: Report,
    complain: Complain,
) -> dict[str, Any]:
    """Return the one transformation of a level, with its ends."""
    place = f"{where}.coordinateTransformations"
    value = item.get("coordinateTransformations")
    if not isinstance(value, list) or not value:
        found = f"expected one transformation, found {shown(value)}"
        report.fail(place, rules.LEVEL_TRANSFORMATION, found)
        return {}
    if isinstance(value[0], dict) and isinstance(value[0].get("input"), str):
        complain(f"{place}[0].input", rules.ENDS, f"expected an object: {shown(value[0]['input'])}")
        value = [{**value[0], "input": {"path": value[0]["input"]}}, *value[1:]]
    parts = transformations.normalised(value, place, systems, complain)
    if len(value) != 1:
        report.error(place, rules.LEVEL_TRANSFORMATION, f"expected one, found {len(value)}")
    if not parts:
        return {}
    link = parts[0]
    if len(parts) > 1:
        link = {
            "type": "sequence",
            "transformations": parts,
            **{key: link[key] for key in ("input", "output") if key in link},
        }
    _check_level_ends(link, path, f"{place}[0]", report)
    return link


def _check_level_ends(link: Json, path: str, where: str, report: Report) -> None:
    source = link.get("input")
    if not isinstance(source, dict) or not isinstance(source.get("path"), str):
        found = f"expected an object with a path, found {shown(source)}"
        report.error(f"{where}.input", rules.LEVEL_INPUT, found)
    elif source["path"].rstrip("/") != path:
        found = f"expected {shown(path)}, found {shown(source['path'])}"
        report.error(f"{where}.input.path", rules.LEVEL_INPUT, found)
    elif source.get("name") is not None:
        report.error(f"{where}.input.name", rules.LEVEL_INPUT, f"found {shown(source['name'])}")
    target = link.get("output")
    if not isinstance(target, dict) or not isinstance(target.get("name"), str):
        found = f"expected an object with a name, found {shown(target)}"
        report.error(f"{where}.output", rules.LEVEL_OUTPUT, found)
    elif target.get("path") is not None:
        report.error(f"{where}.output.path", rules.LEVEL_OUTPUT, f"found {shown(target['path'])}")


def _name(reference: Any) -> str | None:
    name = reference.get("name") if isinstance(reference, dict) else None
    return name if isinstance(name, str) else None


def _path(reference: Any) -> str:
    path = reference.get("path") if isinstance(reference, dict) else None
    return path.strip("/") if isinstance(path, str) else ""


def _intrinsic(
    links: list[dict[str, Any]], systems: Mapping[str, CoordinateSystem], where: str, report: Report
) -> str:
    """Return the name of the coordinate system that the levels lead to."""
    names = [_name(link.get("output")) for link in links]
    named = list(dict.fromkeys(name for name in names if name is not None))
    if len(named) > 1:
        found = f"the levels lead to several systems: {shown(named)}"
        report.error(where, rules.LEVEL_OUTPUT, found)
    for name in named:
        if name in systems:
            return name
    if len(systems) == 1:
        (only,) = systems
        if named:
            found = f"{shown(named[0])} is not described; read as {shown(only)}"
            report.error(where, rules.LEVEL_OUTPUT, found)
        return only
    found = f"{shown(named[0]) if named else 'none'} is no coordinate system that is described"
    report.fail(where, rules.LEVEL_OUTPUT, found)
    return ""


def _read_level(
    path: str, item: Json, link: dict[str, Any], where: str, ndim: int, report: Report
) -> Level:
    place = f"{where}.coordinateTransformations[0]"
    extra = levels.unused_keys(item)
    if not link or not ndim:
        return Level(path, t.Identity(), extra)
    _check_level_type(link, place, report)
    before = len(report.faults)
    found = transformations.read(link, place, ndim, ndim, Reading(_level_complain(report)))
    if found is None and len(report.faults) == before:
        report.fail(place, rules.LEVEL_TRANSFORMATION, f"cannot be read: {shown(link)}")
    if found is not None:
        try:
            levels.check_composed(found, place, ndim, report)
        except TypeError:
            kind = shown(link.get("type"))
            report.fail(place, rules.LEVEL_TRANSFORMATION, f"{kind} is no scale and translation")
    unused = _unused(link)
    if unused:
        extra["coordinateTransformations"] = unused
    return Level(path, found or t.Identity(), extra)


def _level_complain(report: Report) -> Complain:
    """Return what takes faults of a level: a scale below zero and a bad name leave it readable."""

    def complain(path: str, rule: rules.Rule | None, message: str) -> None:
        readable = rule in (rules.SCALE_NEGATIVE, rules.TRANSFORMATION_NAME)
        (report.error if readable else report.fail)(path, rule, message)

    return complain


def _check_level_type(link: Json, where: str, report: Report) -> None:
    kind = link.get("type")
    if kind not in _LEVEL_TYPES:
        expected = "identity, scale, or a sequence of scale and translation"
        report.error(
            f"{where}.type", rules.LEVEL_TRANSFORMATION, f"expected {expected}: {shown(kind)}"
        )
    parts = link.get("transformations")
    if kind == "sequence" and isinstance(parts, list):
        types = [part.get("type") if isinstance(part, dict) else None for part in parts]
        if types != ["scale", "translation"]:
            found = f"expected a scale and a translation, found {shown(types)}"
            report.error(f"{where}.transformations", rules.LEVEL_TRANSFORMATION, found)


def _unused(link: Json) -> dict[str, Any]:
    """Return the keys of a transformation and its parts that are not used, by type."""
    parts = link.get("transformations")
    result = {}
    for entry in [link, *(parts if isinstance(parts, list) else [])]:
        if isinstance(entry, dict):
            more = {k: v for k, v in entry.items() if k not in _PARAMETERS}
            if more:
                result[str(entry.get("type"))] = more
    return result


def _read_beyond(
    entry: Json,
    where: str,
    intrinsic: str,
    systems: Mapping[str, CoordinateSystem],
    report: Report,
    complain: Complain,
) -> list[dict[str, Any]]:
    """Return the transformations beyond the levels, after checking where they lead."""
    if "coordinateTransformations" not in entry:
        _check_connected([("", name) for name in systems], [], where, report)
        return []
    place = f"{where}.coordinateTransformations"
    links = transformations.normalised(entry["coordinateTransformations"], place, systems, complain)
    edges = []
    for i, link in enumerate(links):
        edge = _check_ends(link, f"{place}[{i}]", rules.ENDS, report)
        if edge is not None:
            edges.append(edge)
            _check_beyond(link, edge, intrinsic, systems, f"{place}[{i}]", report)
        sizes = [_ndim(end, systems) for end in edge or (("?", ""), ("?", ""))]
        transformations.read(
            link, f"{place}[{i}]", sizes[0], sizes[1], Reading(report.error, warn=report.warn)
        )
    _check_connected([("", name) for name in systems], edges, where, report)
    return links


def _ndim(node: Node, systems: Mapping[str, CoordinateSystem]) -> int | None:
    path, name = node
    system = systems.get(name) if not path else None
    return len(system.axes) if system else None


def _check_ends(
    link: Json, where: str, rule: rules.Rule, report: Report
) -> tuple[Node, Node] | None:
    ends = []
    for key in ("input", "output"):
        end = link.get(key)
        name = _name(end)
        path = end.get("path") if isinstance(end, dict) else None
        if not name or not (path is None or isinstance(path, str)):
            found = f"expected an object with a name, found {shown(end)}"
            report.error(f"{where}.{key}", rule, found)
        else:
            ends.append((_path(end), name))
    return (ends[0], ends[1]) if len(ends) == 2 else None


def _check_beyond(
    link: Json,
    edge: tuple[Node, Node],
    intrinsic: str,
    systems: Mapping[str, CoordinateSystem],
    where: str,
    report: Report,
) -> None:
    if ("", intrinsic) not in edge:
        found = f"expected one end to be {shown(intrinsic)}, found {shown([e[1] for e in edge])}"
        report.error(where, rules.INTRINSIC, found)
    for key, (path, name) in zip(("input", "output"), edge, strict=True):
        if not path and name not in systems:
            found = f"{shown(name)} is no coordinate system of this image"
            report.error(f"{where}.{key}.name", rules.SYSTEM_UNKNOWN, found)
        elif path and not (path.startswith("labels/") and is_relative(path)):
            found = f"expected the path of a label image, found {shown(path)}"
            report.error(f"{where}.{key}.path", rules.INTRINSIC, found)
        elif path and link.get("type") not in _LABEL_TYPES and not _is_placement(link):
            found = f"expected {', '.join(_LABEL_TYPES)}; found {shown(link.get('type'))}"
            report.error(f"{where}.type", rules.LABEL_TRANSFORMATION, found)


def _is_placement(link: Json) -> bool:
    """Tell whether it is the sequence of scale and translation that labels may have as well."""
    parts = link.get("transformations")
    types = [p.get("type") if isinstance(p, dict) else None for p in parts or []]
    return link.get("type") == "sequence" and types == ["scale", "translation"]


def _check_connected(
    nodes: Iterable[Node], edges: Iterable[tuple[Node, Node]], where: str, report: Report
) -> None:
    """Note where the graph falls apart; systems of another group are connected there."""
    group: dict[Node, Node] = {}

    def root(node: Node) -> Node:
        node = (node[0], "") if node[0] else node
        while group.setdefault(node, node) != node:
            group[node] = group[group[node]]  # so that long chains become short
            node = group[node]
        return node

    for node in nodes:
        root(node)
    for first, second in edges:
        group[root(first)] = root(second)
    parts: dict[Node, list[str]] = {}
    for node in list(group):
        parts.setdefault(root(node), []).append("/".join(filter(None, node)))
    if len(parts) > 1:
        found = f"nothing leads from {' and from '.join(shown(part) for part in parts.values())}"
        report.error(where, rules.CONNECTED, found[:400])


def read_scene(document: Json, extra: Json, report: Report, *, draft: bool) -> Scene:
    """Return the scene that an OME document describes.

    Raises
    ------
    MetadataError
        If it is no object.
    """
    value = document.get("scene")
    where = "scene"
    if draft and value is None:
        value = {
            key: document[key]
            for key in ("coordinateSystems", "coordinateTransformations")
            if key in document
        }
    if not isinstance(value, dict):
        report.stop(where, rules.SCENE, f"expected an object, found {shown(value)}")
    complain = report.warn if draft else report.error
    systems = _scene_systems(value, where, report)
    place = f"{where}.coordinateTransformations"
    links: list[dict[str, Any]] = []
    if "coordinateTransformations" not in value:
        report.error(place, rules.SCENE, "is missing")
    else:
        links = transformations.normalised(
            value["coordinateTransformations"], place, systems, complain
        )
    edges = []
    for i, link in enumerate(links):
        edge = _check_ends(link, f"{place}[{i}]", rules.SCENE_ENDS, report)
        sizes = [_ndim(end, systems) for end in edge or (("?", ""), ("?", ""))]
        transformations.read(
            link, f"{place}[{i}]", sizes[0], sizes[1], Reading(report.error, warn=report.warn)
        )
        if edge is not None:
            edges.append(edge)
            _check_scene_ends(edge, value, systems, f"{place}[{i}]", report)
            _check_scene_keys(link, f"{place}[{i}]", report)
    _check_connected([("", name) for name in systems], edges, where, report)
    report.keep_going()
    paths = dict.fromkeys(path for edge in edges for path, _ in edge if path and is_relative(path))
    return Scene(tuple(paths), {**value, "coordinateTransformations": links}, extra)


def _scene_systems(value: Json, where: str, report: Report) -> dict[str, CoordinateSystem]:
    if "coordinateSystems" not in value:
        return {}
    stored = value["coordinateSystems"]
    if stored == []:
        return {}
    return read_systems(stored, f"{where}.coordinateSystems", report)


def _check_scene_ends(
    edge: tuple[Node, Node],
    value: Json,
    systems: Mapping[str, CoordinateSystem],
    where: str,
    report: Report,
) -> None:
    for key, (path, name) in zip(("input", "output"), edge, strict=True):
        if not path and name not in systems:
            complain: Callable[..., None] = report.error if systems else report.warn
            found = f"{shown(name)} is no coordinate system of the scene"
            complain(f"{where}.{key}.name", rules.SYSTEM_UNKNOWN, found)


def _check_scene_keys(link: Json, where: str, report: Report) -> None:
    for key in ("input", "output"):
        more = sorted(set(link[key]) - {"name", "path"})
        if more:
            found = f"expected name and path, found {shown(more)}"
            report.error(f"{where}.{key}", rules.SCENE_ENDS, found)


def parse_system(value: Json) -> CoordinateSystem | None:
    """Return the coordinate system of an object that was read before."""
    name = value.get("name")
    if not isinstance(name, str):
        return None
    return CoordinateSystem(name, read_axes(value.get("axes"), "axes", Report("system")))


def check_sayable(multiscale: Multiscale, version: str) -> None:
    """Check that version 0.6 can say all of an image.

    Raises
    ------
    UnsupportedError
        If it has transformations of SpatialData's: their ends hold whole coordinate systems,
        where 0.6 has the names of systems that the image describes.
    """
    foreign = multiscale.extra.get("coordinateTransformations")
    if foreign is not None:
        kinds = [shown(link.get("type")) for link in foreign if isinstance(link, dict)]
        raise UnsupportedError(
            f"OME-Zarr {version} cannot say these transformations to coordinate systems that are "
            f"described inside them ({', '.join(kinds)}): write the version that they came from, "
            "or give lossy=True to leave them out"
        )


def write_multiscale(multiscale: Multiscale) -> dict[str, Any]:
    """Return the object of ``multiscales`` that describes an image in version 0.6."""
    name = multiscale.intrinsic or "intrinsic"
    own = {"name": name, "axes": [write_axis(axis) for axis in multiscale.axes]}
    systems = [
        {**stored, **own} if stored.get("name") == name else dict(stored)
        for stored in multiscale.systems
    ]
    if not any(stored.get("name") == name for stored in systems):
        systems.insert(0, own)
    ndim = len(multiscale.axes)
    extra = {k: v for k, v in multiscale.extra.items() if k != "coordinateTransformations"}
    entry: dict[str, Any] = {
        **extra,
        "coordinateSystems": systems,
        "datasets": [_write_level(level, name, ndim) for level in multiscale.levels],
    }
    if multiscale.transformations:
        sizes = {str(stored.get("name")): len(stored.get("axes") or ()) for stored in systems}
        entry["coordinateTransformations"] = _around(name, multiscale.transformations, sizes)
    said = {"name": multiscale.name, "type": multiscale.type, "metadata": multiscale.metadata}
    return entry | {key: value for key, value in said.items() if value is not None}


def _around(
    intrinsic: str, links: Iterable[Json], sizes: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Return links so that each has the intrinsic system at one end, where they can be said so.

    The specification demands it. `to_system` makes another system the intrinsic one: those that
    were next to the one before are a link further away from then on.
    """
    found = [dict(link) for link in links]
    near = {
        other: link
        for link in found
        for here, other in (_own_ends(link), _own_ends(link)[::-1])
        if here == intrinsic and other is not None
    }
    return [_led_around(link, intrinsic, near, sizes) for link in found]


def _own_ends(link: Json) -> tuple[str | None, str | None]:
    """Return the names of the systems of this image that a link leads from and to."""
    ends = [link.get(key) for key in ("input", "output")]
    first, then = (None if _path(end) else _name(end) for end in ends)
    return first, then


def _led_around(
    link: dict[str, Any], intrinsic: str, near: Mapping[str, Json], sizes: Mapping[str, int]
) -> dict[str, Any]:
    """Return a link between two other systems as one that has the intrinsic system at one end."""
    source, target = _own_ends(link)
    if intrinsic in (source, target):
        return link
    here = {"name": intrinsic}
    if source is not None and source in near:
        step = _directed(near[source], intrinsic, leaves=True)
        steps, ends = [step, link], {"input": here, "output": link["output"]}
        ndim = sizes.get(intrinsic)
    elif target is not None and target in near:
        step = _directed(near[target], intrinsic, leaves=False)
        steps, ends = [link, step], {"input": link["input"], "output": here}
        ndim = sizes.get(source or "")
    else:
        return link
    known = [step for step in steps if step is not None]
    if len(known) < len(steps):
        return link
    named = {"name": link["name"]} if "name" in link else {}
    return {**transformations.chained(known, ndim), **named, **ends}


def _directed(link: Json, intrinsic: str, *, leaves: bool) -> Json | None:
    """Return what a link says from or to the intrinsic system, None where 0.6 cannot say it."""
    forward = (_own_ends(link)[0] == intrinsic) == leaves
    return link if forward else transformations.inverted(link)


def _write_level(level: Level, system: str, ndim: int) -> dict[str, Any]:
    kept, parts, around = levels.described(level, ndim)
    said = {"type": "sequence", "transformations": parts} if len(parts) > 1 else parts[0]
    stored = level.extra.get("coordinateTransformations")
    if "identity" in (stored or {}) and said.get("scale") == [1.0] * ndim:
        said = {"type": "identity"}
    ends = {"input": {"path": level.path}, "output": {"name": system}}
    return {
        **kept,
        "path": level.path,
        "coordinateTransformations": [{**around, **said, **ends}],
    }
