"""OME-XML -> what it says of images and plates. All else in it is named, and stays in the text.

https://docs.openmicroscopy.org/ome-model/6.3.1/developers/model-overview.html
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from xml.etree import ElementTree

import numpy as np

from ngff_xarray import groups, units
from ngff_xarray.converting import positions, rois
from ngff_xarray.converting.found import Size
from ngff_xarray.converting.positions import Places
from ngff_xarray.errors import Issue
from ngff_xarray.model import RGB, Channel
from ngff_xarray.spec import omero
from ngff_xarray.text import printable

_UNEVEN = 0.01  # of a step that times may be off
_LISTED = {
    "FileAnnotation": "attached files",
    "MapAnnotation": "annotations (key-value pairs)",
    "XMLAnnotation": "annotations (XML)",
    "CommentAnnotation": "annotations (comments)",
    "TagAnnotation": "annotations (tags)",
    "Instrument": "descriptions of instruments",
    "Experimenter": "experimenters",
    "Dataset": "datasets",
    "Project": "projects",
}


@dataclass(frozen=True)
class ImageInfo:
    """What is said of an image.

    Parameters
    ----------
    name
        Its name, or None.
    shape
        Its size along each axis: T, C (of samples, so 3 for RGB), Z, Y, X.
    sizes
        The distance of pixels and time points, by axis.
    channels
        One a sample; empty where nothing is said of them.
    issues
        What is odd.
    dtype
        That of the pixels, as OME-XML names it.
    origins
        Where the first pixel is, by axis in the units of the sizes.
    dropped
        What is said of it that no tree has.
    shapes
        Its regions of interest.
    """

    name: str | None
    shape: dict[str, int]
    sizes: dict[str, Size]
    channels: tuple[Channel, ...]
    issues: tuple[Issue, ...]
    dtype: str = "uint8"
    origins: dict[str, float] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    shapes: tuple[ElementTree.Element, ...] = ()


@dataclass(frozen=True)
class PlateInfo:
    """A plate: its name, the names of its rows and columns, and its images by well and field."""

    name: str | None
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    fields: dict[str, int]
    """By the path of well and field (``"B/3/0"``) the number of the image in the document."""
    acquisitions: dict[str, int]


@dataclass(frozen=True)
class Document:
    """What a document says."""

    images: tuple[ImageInfo, ...]
    plate: PlateInfo | None
    dropped: tuple[str, ...]


def parse(text: str, where: str) -> Document:
    """Return what a document says.

    Raises
    ------
    MetadataError
        If it is no XML, nested deeper than such documents are, or defines entities.
    """
    content = text.encode()
    groups.check_xml(content, where)
    root = ElementTree.fromstring(content)
    elements = [each for each in root if _tag(each) == "Image"]
    fields = _samples(root)
    shapes, lost = rois.of_images(root)
    images = tuple(
        replace(
            _image(each, number, fields.get(each.get("ID", ""), {})),
            shapes=tuple(shapes.get(each.get("ID", ""), ())),
        )
        for number, each in enumerate(elements)
    )
    numbers = {each.get("ID", ""): number for number, each in enumerate(elements)}
    plates = [each for each in root if _tag(each) == "Plate"]
    found = [plate for each in plates if (plate := _plate(each, numbers)) is not None]
    dropped = list(_dropped(root))
    if lost:
        why = "masks, shapes that are turned or of no image: they stay in the text of the OME-XML"
        dropped.insert(0, f"{lost} regions of interest (ROI: {why})")
    if len(found) > 1:
        dropped.append(f"the arrangement of the images on {len(found)} plates")
    return Document(images, found[0] if len(found) == 1 else None, tuple(dropped))


def _tag(element: ElementTree.Element) -> str:
    """Return the name of an element, whatever the version of the schema."""
    return element.tag.rpartition("}")[2]


def _below(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (each for each in element if _tag(each) == name)


def _samples(root: ElementTree.Element) -> dict[str, Places]:
    """Return the positions of the fields of wells, by the image that each is of."""
    return {
        ref.get("ID", ""): places
        for sample in root.iter()
        if _tag(sample) == "WellSample" and (places := positions.of_sample(sample))
        for ref in _below(sample, "ImageRef")
    }


def _image(element: ElementTree.Element, number: int, sample: Places) -> ImageInfo:
    issues: list[Issue] = []
    where = f"OME-XML: Image[{number}]"
    pixels = next(_below(element, "Pixels"), None)
    if pixels is None:
        return ImageInfo(element.get("Name"), {}, {}, (), ())
    shape = {axis: int(_number(pixels, f"Size{axis}") or 1) for axis in "TCZYX"}
    sizes: dict[str, Size] = {}
    for axis in "zyx":
        found = _length(pixels, f"PhysicalSize{axis.upper()}", "µm", where, issues)
        if found is not None:
            sizes[axis] = found
    step = _time_step(pixels, where, issues)
    if step is not None:
        sizes["t"] = step
    channels = _channels(list(_below(pixels, "Channel")), shape["C"])
    dtype = pixels.get("Type", "uint8")
    places = {**sample, **positions.of_planes(_below(pixels, "Plane"))}
    origins, dropped = positions.origins(places, sizes)
    return ImageInfo(
        element.get("Name"), shape, sizes, channels, tuple(issues), dtype, origins, dropped
    )


def _number(element: ElementTree.Element, name: str) -> float | None:
    try:
        found = float(element.get(name, ""))
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _length(
    element: ElementTree.Element, name: str, default: str, where: str, issues: list[Issue]
) -> Size | None:
    """Return a length or time, None where it is not said or no size."""
    text = element.get(name)
    if text is None:
        return None
    value, spelt = _number(element, name), element.get(f"{name}Unit", default)
    if value is None or value <= 0:
        issues.append(Issue(f"{where}.{name}", f"is no size: {printable(text)!r}; not used"))
        return None
    unit = units.unit_name(spelt)
    if unit is None:
        message = f"is in {printable(spelt)!r}, no unit that OME-Zarr has: used without a unit"
        issues.append(Issue(f"{where}.{name}Unit", message))
    return value, unit


def _time_step(pixels: ElementTree.Element, where: str, issues: list[Issue]) -> Size | None:
    """Return the time between time points: as said, or else of the times of the planes."""
    said = _length(pixels, "TimeIncrement", "s", where, issues)
    if said is not None:
        return said
    moments: dict[int, float] = {}
    spelt = "s"
    for plane in _below(pixels, "Plane"):
        moment, number = _number(plane, "DeltaT"), _number(plane, "TheT")
        if moment is None or number is None:
            continue
        if int(number) not in moments or (plane.get("TheZ"), plane.get("TheC")) == ("0", "0"):
            moments[int(number)] = moment
            spelt = plane.get("DeltaTUnit", "s")
    times = np.array([moments[number] for number in sorted(moments)])
    if len(times) < 2 or sorted(moments) != list(range(len(times))):
        return None
    step = float(times[-1] - times[0]) / (len(times) - 1)
    if step <= 0:
        issues.append(Issue(f"{where}.Plane.DeltaT", "the times do not increase: not used"))
        return None
    if np.abs(times - times[0] - step * np.arange(len(times))).max() > _UNEVEN * step:
        message = f"the times are not evenly spaced; their mean distance, {step:g} {spelt}, is used"
        issues.append(Issue(f"{where}.Plane.DeltaT", message))
    return step, units.unit_name(spelt)


def _channels(elements: Sequence[ElementTree.Element], count: int) -> tuple[Channel, ...]:
    """Return a channel for each sample, if any name or colour is said."""
    found: list[Channel] = []
    for element in elements:
        samples = int(_number(element, "SamplesPerPixel") or 1)
        name = (element.get("Name") or "")[: omero.MAX_NAME]
        if samples > 1:
            found += colored(name)[:samples] if samples <= 3 else [Channel(name)] * samples
        else:
            found.append(Channel(name, _color(element.get("Color"))))
    if len(found) != count or not any(each.name or each.color for each in found):
        return ()
    return tuple(
        Channel(each.name or str(i), each.color, each.window) for i, each in enumerate(found)
    )


def colored(name: str = "") -> list[Channel]:
    """Return the channels of a picture in colours, perhaps named after what they belong to."""
    before = f"{name} " if name else ""
    return [
        Channel(f"{before}red", (255, 0, 0)),
        Channel(f"{before}green", (0, 255, 0)),
        Channel(f"{before}blue", (0, 0, 255)),
    ]


def _color(text: str | None) -> RGB | None:
    """Return a colour: a signed number of 32 bits, of which the last 8 are alpha."""
    try:
        number = int(text or "") & 0xFFFFFFFF
    except ValueError:
        return None
    return number >> 24, number >> 16 & 255, number >> 8 & 255


def _plate(element: ElementTree.Element, numbers: dict[str, int]) -> PlateInfo | None:
    """Return a plate, None if no image is on it."""
    naming = [element.get(f"{side}NamingConvention") for side in ("Row", "Column")]
    acquired = {
        ref.get("ID", ""): number
        for number, run in enumerate(_below(element, "PlateAcquisition"))
        for ref in _below(run, "WellSampleRef")
    }
    fields: dict[str, int] = {}
    acquisitions: dict[str, int] = {}
    extent = [int(_number(element, side) or 0) for side in ("Rows", "Columns")]
    for well in _below(element, "Well"):
        at = [int(_number(well, side) or 0) for side in ("Row", "Column")]
        extent = [max(n, i + 1) for n, i in zip(extent, at, strict=True)]
        row, column = _row(at[0], naming[0]), _column(at[1], naming[1])
        seen = 0
        for sample in _below(well, "WellSample"):
            ref = next(_below(sample, "ImageRef"), None)
            number = None if ref is None else numbers.get(ref.get("ID", ""))
            if number is not None:
                fields[f"{row}/{column}/{seen}"] = number
                if sample.get("ID", "") in acquired:
                    acquisitions[str(seen)] = acquired[sample.get("ID", "")]
                seen += 1
    if not fields:
        return None
    rows = tuple(_row(i, naming[0]) for i in range(extent[0]))
    columns = tuple(_column(i, naming[1]) for i in range(extent[1]))
    return PlateInfo(element.get("Name"), rows, columns, fields, acquisitions)


def _row(number: int, naming: str | None) -> str:
    return str(number + 1) if naming == "number" else letters(number)


def _column(number: int, naming: str | None) -> str:
    return letters(number) if naming == "letter" else str(number + 1)


def letters(number: int) -> str:
    """Return the name of a row: A for 0, Z for 25, AA for 26.

    Examples
    --------
    >>> [letters(number) for number in (0, 25, 26, 31)]
    ['A', 'Z', 'AA', 'AF']
    """
    before = letters(number // 26 - 1) if number >= 26 else ""
    return f"{before}{chr(ord('A') + number % 26)}"


def _dropped(root: ElementTree.Element) -> Iterator[str]:
    """Yield what a document says that no tree has."""
    counts = Counter(_tag(each) for each in root.iter())
    for tag, name in _LISTED.items():
        if counts[tag]:
            yield f"{counts[tag]} {name} (they stay in the text of the OME-XML)"
