"""OME-Zarr 0.6: named coordinate systems, all transformations, scenes; and its drafts."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Literal

from ngff_xarray.model import Image, Json, Scene
from ngff_xarray.spec import detect, documents, hcs, multiscales, namespace, nodes, systems
from ngff_xarray.spec.documents import Content, without
from ngff_xarray.spec.report import Report

VERSION = "0.6"
ZARR_FORMAT: Literal[2, 3] = 3
split = documents.split_namespaced

_STATED = re.compile(r"0\.6(rc\d+|\.dev[1-4])?")
_DRAFT = re.compile(r"0\.6\.dev\d+")


def _is_stated(version: str) -> bool:
    return _STATED.fullmatch(version) is not None


def _is_draft(document: Json) -> bool:
    """Tell whether a document follows a draft, whose forms are then no errors."""
    version = document.get("version")
    return isinstance(version, str) and _DRAFT.fullmatch(version) is not None


def read_image(document: Json, report: Report, number: int = 0) -> Image:
    """Return the image that an OME document describes (SPEC 0.6, "multiscales" metadata)."""
    reader = partial(systems.read_multiscale, draft=_is_draft(document))
    return multiscales.read_image(document, report, reader, number=number)


def read_scene(document: Json, report: Report) -> Scene:
    """Return the scene that an OME document describes (SPEC 0.6, "scene" metadata)."""
    draft = _is_draft(document)
    keys = ("coordinateSystems", "coordinateTransformations") if draft else ()
    return systems.read_scene(document, without(document, "scene", *keys), report, draft=draft)


_CHECKED = namespace.checked(
    {
        "scene": read_scene,
        **documents.group_readers(
            read_image=read_image,
            well_names=hcs.NODE_NAME,
            plate=hcs.PlateForm(),
            well_version=None,
        ),
    },
    VERSION,
    _is_stated,
)
# what RFC-8 proposes states versions that are not published yet
READERS = {**_CHECKED, **dict.fromkeys(detect.NODE_KINDS.values(), nodes.read_node)}


def write(content: Content, lossy: bool = False) -> dict[str, Any]:
    """Return the group's attributes that say the same in version 0.6.

    Raises
    ------
    UnsupportedError
        If it cannot say all of it, unless what it cannot say may be lost.
    """
    if isinstance(content, Image):
        if not lossy:
            systems.check_sayable(content.multiscale, VERSION)
        entry = systems.write_multiscale(content.multiscale)
        document = multiscales.write_image(content, entry)
    elif isinstance(content, Scene):
        document = {**content.extra, "scene": dict(content.document)}
    else:
        document = documents.write_group(content)
    return {"ome": {"version": VERSION, **document}}
