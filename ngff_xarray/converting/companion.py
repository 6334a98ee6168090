"""Companion files: the OME-XML of images whose pixels are in TIFF files beside it.

https://docs.openmicroscopy.org/ome-model/6.3.1/ome-tiff/specification.html#partial-metadata
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from ngff_xarray import groups
from ngff_xarray.converting import tiff
from ngff_xarray.converting.found import Found
from ngff_xarray.converting.reader import DeclinedError, Input, Options
from ngff_xarray.converting.tiff_pages import companion_text
from ngff_xarray.errors import StoreError
from ngff_xarray.text import printable

NAME = "companion files of OME-TIFF"
EXTRA = "tiff"
USES = frozenset({"series", "axes"})

_ENDINGS = (".companion.ome", ".ome", ".ome.xml")
_ROOT = re.compile(rb"<(\w+:)?OME[\s>]")


def claims(source: Input) -> bool:
    """Tell whether this may be OME-XML."""
    return source.is_file and source.ends(*_ENDINGS) and _ROOT.search(source.head) is not None


def read(source: Input, options: Options) -> Found:
    """Return the images that the TIFF files hold of which a document tells."""
    text = companion_text(source.text)
    groups.check_xml(text.encode(), source.name)
    names = list(dict.fromkeys(_names(ElementTree.fromstring(text))))
    if not names:
        raise DeclinedError("names no TIFF file that its pixels are in")
    folder = source.path.parent
    found = next((folder / name for name in names if tiff.is_inside(folder / name, folder)), None)
    if found is None:
        raise StoreError(
            f"{source.name}: none of the {len(names)} TIFF files is beside it that its pixels are "
            f"in, as {printable(names[0], 200)!r}: put them into one folder"
        )
    return tiff.read_with(Input.of(found), options, source.path)


def _names(root: ElementTree.Element) -> Iterator[str]:
    for element in root.iter():
        if element.tag.rpartition("}")[2] == "UUID" and element.get("FileName"):
            yield element.get("FileName", "")
