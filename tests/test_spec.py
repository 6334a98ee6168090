"""Reading and writing documents made here: every version and kind, every fault, and noise.

The specification's own documents are in `test_corpus`.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import random
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ngff_xarray import spec
from ngff_xarray.errors import Issue, MetadataError, NgffError, NotOmeError, UnsupportedError
from ngff_xarray.model import Axis, Channel, Collection, Fields, Image, Plate, Scene, Window
from ngff_xarray.spec import image_label, omero, rules
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.values import parse_color
from ngff_xarray.transforms import Identity, scale_and_translation
from ngff_xarray.validation import validate_document

Json = dict[str, Any]


def read(attributes: Json) -> tuple[str, Image, list[Issue]]:
    """Return the version, the image and what is odd."""
    report = Report("test.zarr")
    version, kind, image, _ = spec.read(attributes, report)
    assert kind == "image"
    assert isinstance(image, Image)
    return version, image, report.issues


def errors(issues: list[Issue]) -> list[str]:
    return [str(issue) for issue in issues if issue.severity == "error"]


def same(left: Image, right: Image, *, systems: bool = True) -> bool:
    """Tell whether two images say the same, whichever way they spell their geometry.

    ``systems`` includes the coordinate systems and what leads to them, which only 0.6 says.
    """
    return _canonical(left, systems) == _canonical(right, systems)


def _canonical(image: Image, systems: bool) -> str:
    """Return everything as text, in which NaN equals NaN."""
    multiscale = image.multiscale
    axes = [
        (axis.name, axis.type, axis.unit, axis.long_name, axis.extra) for axis in multiscale.axes
    ]
    levels = [
        (
            level.path,
            level.transformation and scale_and_translation(level.transformation, len(axes)),
            {key: value for key, value in level.extra.items() if key != UNUSED},
            _unused(level.extra.get(UNUSED, {})),
        )
        for level in multiscale.levels
    ]
    said = [axes, levels, multiscale.name, multiscale.type, multiscale.metadata]
    kept = [multiscale.extra, image.omero, image.image_label, image.extra]
    if systems:
        # the axes of the intrinsic one are those of the image
        stored = [
            {
                k: v
                for k, v in each.items()
                if k != "axes" or each.get("name") != multiscale.intrinsic
            }
            for each in multiscale.systems
        ]
        said += [multiscale.intrinsic, stored, multiscale.transformations]
    return json.dumps([said, kept], sort_keys=True)


UNUSED = "coordinateTransformations"


def _unused(by_type: Any) -> list[Any]:
    """Return the unused keys of transformations; all but a translation become those of a scale."""
    if not isinstance(by_type, dict):  # before 0.4 nothing is meant to stand there
        return []
    found = [
        [kind == "translation", key, value]
        for kind, keys in by_type.items()
        for key, value in keys.items()
    ]
    return sorted(found, key=lambda entry: json.dumps(entry, sort_keys=True))


def placed(image: Image, number: int = 0) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the scale and the translation of a level."""
    transformation = image.multiscale.levels[number].transformation
    assert transformation is not None
    return scale_and_translation(transformation, len(image.multiscale.axes))


# ---- documents made here -----------------------------------------------------------------------


def ome(attributes: Json) -> Json:
    """Return where OME's keys stand."""
    document: Json = attributes.get("ome", attributes)
    return document


def in_version(document: Json, version: str) -> Json:
    """Return the attributes that hold an OME document, with its version where it belongs."""
    document = json.loads(json.dumps(document))  # a copy
    if version in ("0.5", "0.6"):
        return {"ome": {"version": version, **document}}
    for entry in [document["multiscales"][0]] if "multiscales" in document else document.values():
        if isinstance(entry, dict):
            entry["version"] = version
    return document


VERSIONS = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6")
WRITTEN = ("0.4", "0.5", "0.6")


def minimal(version: str) -> Json:
    """Return the attributes of an image of two levels."""
    entry: Json = {"datasets": [{"path": str(level)} for level in range(2)]}
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    if version == "0.3":
        entry["axes"] = ["y", "x"]
    elif version == "0.6":
        entry["coordinateSystems"] = [{"name": "yx", "axes": axes}]
    elif version >= "0.4":
        entry["axes"] = axes
    for level, dataset in enumerate(entry["datasets"] if version >= "0.4" else []):
        parts = [
            {"type": "scale", "scale": [2.0**level, 0.5 * 2**level]},
            {"type": "translation", "translation": [2.0**level, 0.5]},
        ]
        if version == "0.6":
            ends = {"input": {"path": str(level)}, "output": {"name": "yx"}}
            parts = [{"type": "sequence", "transformations": parts, **ends}]
        dataset["coordinateTransformations"] = parts
    return in_version({"multiscales": [entry]}, version)


def plate(version: str) -> Json:
    wells: list[Json] = [{"path": "A/1"}, {"path": "B/2"}]
    if version >= "0.4":
        wells = [{**well, "rowIndex": i, "columnIndex": i} for i, well in enumerate(wells)]
    said = {
        "name": "test",
        "field_count": 2,
        "acquisitions": [{"id": 1, "name": "first", "maximumfieldcount": 2}],
        "rows": [{"name": "A"}, {"name": "B"}],
        "columns": [{"name": "1"}, {"name": "2"}],
        "wells": wells,
    }
    return in_version({"plate": said}, version)


def well(version: str) -> Json:
    images = [{"path": "0", "acquisition": 1}, {"path": "1"}]
    return in_version({"well": {"images": images}}, version)


def collection(version: str) -> Json:
    return in_version({"bioformats2raw.layout": 3}, version)


def series(version: str) -> Json:
    return in_version({"series": ["0", "1"]}, version)


def labels_group(version: str) -> Json:
    return in_version({"labels": ["nuclei", "deep/cells"]}, version)


def scene(version: str) -> Json:
    """Return the attributes of a scene, which only 0.6 knows."""
    ends = {"input": {"path": "tile", "name": "yx"}, "output": {"name": "world"}}
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    systems = [{"name": "world", "axes": axes}]
    links = [{"type": "translation", "translation": [1.0, 2.0], **ends}]
    document = {"coordinateSystems": systems, "coordinateTransformations": links}
    return in_version({"scene": document}, version)


Maker = Callable[[str], Json]
MAKERS: dict[str, tuple[Maker, type]] = {
    "image": (minimal, Image),
    "plate": (plate, Plate),
    "well": (well, Fields),
    "collection": (collection, Collection),
    "series": (series, Collection),
    "labels group": (labels_group, Collection),
    "scene": (scene, Scene),
}
GROUPS = [
    (kind, version)
    for kind in MAKERS
    for version in VERSIONS
    if kind != "scene" or version == "0.6"
]


def rich(version: str) -> Json:
    """Return attributes that use everything, and keys that nobody knows in every place."""
    window = {"min": 0, "max": 255, "start": 3, "end": 99, "extra": "w"}
    channels = [
        {"label": "DAPI", "color": "0000FF", "window": window, "active": True, "extra": "h"},
        {"label": "GFP", "color": "#00ff00", "inverted": True, "coefficient": 1},
    ]
    axes = [
        {"name": "t", "type": "time", "unit": "ms", "extra": "a"},
        {"name": "c", "type": "channel", "longName": "the channel"},
        {"name": "z", "type": "space", "unit": "parsnip"},
        {"name": "y", "type": "space", "unit": None},
        {"name": "x", "type": "space", "unit": "micrometer", "orientation": {"value": "left"}},
    ]
    datasets = [
        {
            "path": f"scale{level}/image",
            "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 2, 0.1, 0.1]}],
            "extra": {"level": level},
        }
        for level in range(3)
    ]
    multiscale = {
        "name": "rich",
        "type": "gaussian",
        "metadata": {"method": "blur", "args": [1, None]},
        "axes": axes,
        "datasets": datasets,
        "coordinateTransformations": [
            {"type": "scale", "scale": [0.1, 1, 1, 3, 3]},
            {"type": "translation", "translation": [1, 0, 5, -7, 1e6]},
        ],
        "extra": ["m"],
    }
    label = {
        "colors": [{"label-value": 1, "rgba": [255, 0, 0, 255], "extra": "l"}],
        "properties": [{"label-value": 1, "class": "cell"}],
        "source": {"image": "../../"},
        "extra": None,
    }
    document = {
        "multiscales": [multiscale, {**ome(minimal("0.5"))["multiscales"][0], "name": "another"}],
        "omero": {"id": 1, "channels": channels, "rdefs": {"defaultZ": 1}, "extra": "o"},
        "image-label": label,
        "_creator": {"name": "someone"},
    }
    return {**in_version(document, version), "title": "beside", "nested": {"a": [1]}}


@pytest.fixture(params=["0.4", "0.5"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_minimal_document_is_without_issues(version: str) -> None:
    found, image, issues = read(minimal(version))
    assert (found, issues) == (version, [])
    names = ["t", "c", "z", "y", "x"] if version < "0.3" else ["y", "x"]
    assert [axis.name for axis in image.multiscale.axes] == names
    assert [level.path for level in image.multiscale.levels] == ["0", "1"]
    if version < "0.4":
        assert [level.transformation for level in image.multiscale.levels] == [None, None]
    else:
        assert [placed(image, i) for i in range(2)] == [((1, 0.5), (1, 0.5)), ((2, 1), (2, 0.5))]


@pytest.mark.parametrize(("kind", "version"), GROUPS)
def test_groups_of_every_kind_and_version(kind: str, version: str) -> None:
    make, form = MAKERS[kind]
    attributes = {**make(version), "title": "beside"}
    report = Report("test.zarr")
    found, found_kind, content, others = spec.read(attributes, report)
    # what lists paths alone looks the same until 0.4
    unversioned = kind in ("collection", "series", "labels group") and version < "0.4"
    assert (found, found_kind) == ("0.4" if unversioned else version, kind)
    assert isinstance(content, form)
    assert others == {"title": "beside"}
    assert report.issues == []
    for given in ({}, {"kind": kind}, {"version": version}, {"kind": kind, "version": version}):
        validated = validate_document(attributes, **given)
        assert (validated.valid, validated.issues, validated.kind) == (True, (), kind)
        assert validated.version == (version if "version" in given else found)


def test_what_groups_say() -> None:
    def content(attributes: Json) -> Any:
        return spec.read(attributes, Report("test.zarr"))[2]

    found = content(plate("0.5"))
    assert (found.rows, found.columns) == (("A", "B"), ("1", "2"))
    assert [(w.path, w.row, w.column) for w in found.wells] == [
        ("A/1", "A", "1"),
        ("B/2", "B", "2"),
    ]
    assert content(well("0.5")).paths == ("0", "1")
    assert content(collection("0.4")).paths is None
    assert content(series("0.4")).paths == ("0", "1")
    assert content(labels_group("0.4")).paths == ("nuclei", "deep/cells")
    assert content(scene("0.6")).paths == ("tile",)


@pytest.mark.parametrize("target", WRITTEN)
@pytest.mark.parametrize(("kind", "version"), [group for group in GROUPS if group[0] != "image"])
def test_groups_are_written_as_they_are_in_that_version(
    kind: str, version: str, target: str
) -> None:
    make, _ = MAKERS[kind]
    _, _, content, others = spec.read(make(version), Report("in"))
    if kind == "scene" and target != "0.6":
        with pytest.raises(UnsupportedError, match=r"a scene cannot be written .* version 0\.6"):
            spec.writer(target)(content)
        return
    written = json.loads(json.dumps({**others, **spec.writer(target)(content)}))
    assert written == make(target)


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3", "0.7", "", "0.5.0"])
def test_versions_that_are_not_written(version: str) -> None:
    with pytest.raises(UnsupportedError, match=r"expected one of 0\.4, 0\.5, 0\.6$"):
        spec.writer(version)


def test_wells_that_later_versions_cannot_name() -> None:
    attributes = put(plate("0.2"), "plate.wells[0].path", "2020-10-10/A/1")
    _, _, content, _ = spec.read(attributes, Report("in"))
    assert isinstance(content, Plate)
    first = content.wells[0]
    assert (first.path, first.row, first.column) == ("2020-10-10/A/1", "A", "1")
    for target in WRITTEN:
        with pytest.raises(UnsupportedError, match="'2020-10-10/A/1' cannot be written"):
            spec.writer(target)(content)


def test_rows_and_columns_that_only_wells_name_are_written() -> None:
    attributes = put(plate("0.2"), "plate.wells[0].path", "C/7")
    _, _, content, _ = spec.read(attributes, Report("in"))
    written = spec.writer("0.4")(content)["plate"]
    assert written["rows"] == [{"name": "A"}, {"name": "B"}, {"name": "C"}]
    assert written["columns"] == [{"name": "1"}, {"name": "2"}, {"name": "7"}]
    assert written["wells"][0] == {"path": "C/7", "rowIndex": 2, "columnIndex": 2}
    assert validate_document({"plate": written}).valid


def test_a_rich_document(version: str) -> None:
    _, image, issues = read(rich(version))
    multiscale = image.multiscale
    assert multiscale.axes == (
        Axis("t", "time", "millisecond", None, {"unit": "ms", "extra": "a"}),
        Axis("c", "channel", None, "the channel"),
        Axis("z", "space", None, None, {"unit": "parsnip"}),
        Axis("y", "space", None, None, {"unit": None}),
        Axis("x", "space", "micrometer", None, {"orientation": {"value": "left"}}),
    )
    assert (multiscale.name, multiscale.type) == ("rich", "gaussian")
    assert multiscale.metadata == {"method": "blur", "args": [1, None]}
    assert multiscale.extra == {"extra": ["m"]}
    scale, translation = placed(image)
    assert scale == pytest.approx((0.1, 1, 2, 0.3, 0.3))
    assert translation == (1, 0, 5, -7, 1e6)
    assert multiscale.levels[2].extra == {"extra": {"level": 2}}
    assert image.extra["_creator"] == {"name": "someone"}
    assert [(issue.severity, issue.path) for issue in issues] == [
        ("warning", "multiscales[0].axes[0].unit"),
        ("warning", "multiscales[0].axes[2].unit"),
        ("warning", "multiscales[0].axes[3].unit"),
        *([("warning", "multiscales[1].version")] if version == "0.4" else []),
        ("error", "omero.channels[1].color"),
        ("error", "omero.channels[1].window"),
        *([("warning", "image-label.version")] if version == "0.4" else []),
    ]


@pytest.mark.parametrize("target", WRITTEN)
def test_nothing_is_lost_on_the_way_back_out(version: str, target: str) -> None:
    attributes = rich(version)
    _, _, image, others = spec.read(attributes, Report("in"))
    assert isinstance(image, Image)
    assert others == {"title": "beside", "nested": {"a": [1]}}
    written = json.loads(json.dumps({**others, **spec.writer(target)(image)}))
    found, _, again, again_others = spec.read(written, Report("out"))
    assert isinstance(again, Image)
    assert found == target
    assert same(again, image, systems=False)
    assert again_others == others
    if target == "0.6":
        assert again.multiscale.intrinsic == "intrinsic"
        (system,) = ome(written)["multiscales"][0]["coordinateSystems"]
        assert system == {"name": "intrinsic", "axes": ome(rich(version))["multiscales"][0]["axes"]}
        return

    # apart from geometry, where two transformations become one, the text is the same
    expected = rich(target)
    for each in (expected, written):
        for document in ome(each)["multiscales"][:1]:
            document.pop("coordinateTransformations", None)
            for dataset in document["datasets"]:
                del dataset["coordinateTransformations"]
        # 0.4 repeats the version in these
        for key in ("omero", "image-label"):
            ome(each)[key].pop("version", None)
    assert written == expected


def test_writing_leaves_the_image_alone(version: str) -> None:
    _, image, _ = read(rich(version))
    _, before, _ = read(rich(version))
    for target in WRITTEN:
        spec.writer(target)(image)
    assert image == before


def test_each_version_states_itself_where_it_should(version: str) -> None:
    _, image, _ = read(rich(version))
    old = spec.writer("0.4")(image)
    new = spec.writer("0.5")(image)["ome"]
    newest = spec.writer("0.6")(image)["ome"]
    for document, stated in ((old, "0.4"), (new, None), (newest, None)):
        for entry in (document["multiscales"][0], document["omero"], document["image-label"]):
            assert entry.get("version") == stated
    assert (old.get("version"), new["version"], newest["version"]) == (None, "0.5", "0.6")


# ---- one fault at a time -----------------------------------------------------------------------

DELETED = object()
DATASET = "multiscales[0].datasets[0]"
CHANGE = f"{DATASET}.coordinateTransformations"
SCALE = f"{CHANGE}[0].scale"
SHIFT = f"{CHANGE}[1].translation"
OUTER = "multiscales[0].coordinateTransformations"
AXIS = "multiscales[0].axes[1]"
CHANNEL = "omero.channels[0]"


def put(attributes: Json, path: str, value: Any) -> Json:
    """Set or delete what stands at a JSON path below the OME document."""
    *parents, last = [
        int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", path)
    ]
    place: Any = ome(attributes)
    for part in parents:
        place = place[part]
    if value is DELETED:
        del place[last]
    else:
        place[last] = value
    return attributes


def with_omero(version: str) -> Json:
    attributes = minimal(version)
    window = {"min": 0, "max": 9, "start": 1, "end": 2}
    return put(
        attributes, "omero", {"channels": [{"label": "a", "color": "FF0000", "window": window}]}
    )


def with_label(version: str) -> Json:
    entry = {"label-value": 1, "rgba": [1, 2, 3, 4]}
    return put(minimal(version), "image-label", {"colors": [entry, {"label-value": 2}]})


TRANSLATION = {"type": "translation", "translation": [1, 1]}
UNIT_SCALE = {"type": "scale", "scale": [1, 1]}
Y = {"name": "y", "type": "space", "unit": "meter"}

# where it is changed, to what, where that is reported (None: there), and in which words
FATAL: list[tuple[str, Any, str | None, str]] = [
    (SCALE, [0, 1], None, "other than 0"),
    (SCALE, [-0.0, 1], None, "other than 0"),
    *(
        (SCALE, [1, bad], None, "list of finite numbers")
        for bad in (math.nan, math.inf, -math.inf, 10**400, True, "1", None, [1])
    ),
    *((SCALE, bad, None, "list of finite numbers") for bad in (DELETED, None, 1, "11", {"0": 1})),
    *((SCALE, bad, None, "expected 2 numbers, one an axis") for bad in ([], [1], [1, 1, 1])),
    (SHIFT, [1, math.nan], None, "list of finite numbers"),
    (SHIFT, [1], None, "expected 2 numbers, one an axis"),
    (SHIFT, [False, 1], None, "list of finite numbers"),
    (SHIFT, DELETED, None, "list of finite numbers"),
    *(
        (CHANGE, bad, None, "expected a scale and perhaps a translation")
        for bad in (DELETED, None, [], {}, "scale", UNIT_SCALE)
    ),
    (CHANGE, [TRANSLATION], None, "expected a scale, found none"),
    (CHANGE, [UNIT_SCALE, UNIT_SCALE], None, "found more"),
    (CHANGE, [UNIT_SCALE, TRANSLATION, TRANSLATION], None, "found more"),
    (CHANGE, [UNIT_SCALE, {"type": "affine"}], f"{CHANGE}[1].type", "found 'affine'"),
    (CHANGE, ["scale"], f"{CHANGE}[0].type", "expected 'scale' or 'translation'"),
    (CHANGE, [{"type": ["scale"]}], f"{CHANGE}[0].type", "expected 'scale' or 'translation'"),
    (OUTER, [{"type": "scale", "scale": [1]}], f"{OUTER}[0].scale", "expected 2 numbers"),
    *(
        (f"{DATASET}.path", bad, None, "expected a path below the image")
        for bad in ("..", "../0", "/abs", "", "/", "a//b", "a/./b", "a/../b", ".", None, True, [0])
    ),
    (f"{DATASET}.path", DELETED, None, "expected a path below the image"),
    (f"{DATASET}.path", "1", "multiscales[0].datasets[1].path", "'1' is already the path"),
    (f"{DATASET}.path", "1/", "multiscales[0].datasets[1].path", "'1' is already the path"),
    (DATASET, "0", None, "expected an object, found '0'"),
    *(
        ("multiscales[0].datasets", bad, None, "list of at least one level")
        for bad in (DELETED, [], {}, None, "0")
    ),
    *(
        ("multiscales[0].axes", bad, None, "expected a list of 2 to 5 axes")
        for bad in ([], {}, None, "yx", 3)
    ),
    ("multiscales[0].axes", [{**Y, "name": str(i)} for i in range(33)], None, "2 to 5 axes"),
    ("multiscales[0].axes", [Y], SCALE, "expected 1 numbers, one an axis"),
    ("multiscales[0].axes", [{**Y, "name": n} for n in "abc"], SCALE, "expected 3 numbers"),
    ("multiscales[0].axes", [Y, Y], None, "'y' twice"),
    ("multiscales[0].axes", [Y, 3], AXIS, "expected an object, found 3"),
    *(
        (f"{AXIS}.name", bad, None, "expected a name, found")
        for bad in (DELETED, None, "", 1, ["x"])
    ),
]

ODD: list[tuple[str, Any, str | None, str, str]] = [
    (f"{DATASET}.path", 0, None, "error", "found the number 0"),
    (CHANGE, [TRANSLATION, UNIT_SCALE], None, "error", "expected the scale first"),
    ("multiscales[0].name", 3, None, "error", "expected text, found 3"),
    ("multiscales[0].type", ["x"], None, "warning", "expected text"),
    ("multiscales[0].metadata", "blur", None, "warning", "expected an object"),
    ("multiscales[0].axes", [Y, "x"], AXIS, "error", "expected an object, found the name 'x'"),
    (f"{AXIS}.type", DELETED, None, "warning", "is missing; read as 'space' from its name"),
    (f"{AXIS}.type", None, None, "error", "expected text, found None"),
    (f"{AXIS}.type", 3, None, "error", "expected text, found 3"),
    (
        f"{AXIS}.type",
        "channel",
        "multiscales[0].axes",
        "error",
        "expected 2 or 3 axes of type 'space'",
    ),
    (f"{AXIS}.unit", DELETED, None, "warning", "is missing: coordinates are plain numbers"),
    (f"{AXIS}.unit", None, None, "warning", "expected text, found None"),
    (f"{AXIS}.unit", "", None, "warning", "'' names no unit"),
    (f"{AXIS}.unit", "parsnip", None, "warning", "not in the specification's list; kept as text"),
    (f"{AXIS}.unit", "pixel", None, "warning", "not in the specification's list; kept as text"),
    (f"{AXIS}.unit", "9**9**9", None, "warning", "not in the specification's list; kept as text"),
    (f"{AXIS}.unit", "second", None, "warning", "'second' is no unit of space"),
    (f"{AXIS}.unit", "µm", None, "warning", "read as 'micrometer'"),
    (f"{AXIS}.unit", "A", None, "warning", "read as 'angstrom'"),
    (f"{AXIS}.unit", 3, None, "warning", "expected text, found 3"),
    ("omero", [], None, "error", "expected an object, found []; not used"),
    ("omero", "x", None, "error", "expected an object"),
    ("omero.channels", DELETED, None, "error", "expected a list, found None"),
    ("omero.channels", {}, None, "error", "expected a list"),
    (CHANNEL, "DAPI", None, "error", "expected an object, found 'DAPI'"),
    (f"{CHANNEL}.color", DELETED, None, "error", "is missing"),
    (f"{CHANNEL}.color", 255, None, "error", "expected six hexadecimal digits, found 255"),
    (f"{CHANNEL}.color", "#FF0000", None, "error", "expected six hexadecimal digits"),
    (f"{CHANNEL}.color", "red", None, "error", "expected six hexadecimal digits"),
    (f"{CHANNEL}.window", DELETED, None, "error", "is missing"),
    (f"{CHANNEL}.window", [0, 1], None, "error", "expected an object"),
    (f"{CHANNEL}.label", 7, None, "error", "expected text, found 7"),
    (f"{CHANNEL}.family", None, None, "error", "expected text, found None"),
    (f"{CHANNEL}.active", "no", None, "error", "expected true or false, found 'no'"),
    (f"{CHANNEL}.window.start", 2, f"{CHANNEL}.window", "warning", "starts where it ends"),
    (f"{CHANNEL}.window.start", DELETED, None, "error", "is missing"),
    (f"{CHANNEL}.window.max", "9", None, "error", "expected a number, found '9'"),
    (f"{CHANNEL}.window.end", math.nan, None, "error", "expected a number, found nan"),
    ("image-label", [], None, "error", "expected an object, found []; not used"),
    ("image-label.colors", DELETED, None, "warning", "is missing"),
    ("image-label.colors", [], None, "error", "list of at least one"),
    ("image-label.colors", {}, None, "error", "list of at least one"),
    ("image-label.properties", [], None, "error", "list of at least one"),
    ("image-label.source", "../..", None, "error", "expected an object"),
    *(
        ("image-label.colors[1].label-value", bad, None, "error", "expected an integer")
        for bad in (DELETED, None, "1", True, 1.5, math.inf, [1])
    ),
    *(
        ("image-label.colors[0].rgba", bad, None, "error", "four integers of 0 to 255")
        for bad in (
            None,
            [1, 2, 3],
            [1, 2, 3, 256],
            [-1, 2, 3, 4],
            [1.5, 2, 3, 4],
            "red",
            [True] * 4,
        )
    ),
]


def base_for(path: str, version: str) -> Json:
    makers = {"omero": with_omero, "image-label": with_label}
    return next((make(version) for key, make in makers.items() if path.startswith(key)), None) or (
        minimal(version)
    )


def _id(case: Any) -> str:
    path, value, *_ = case
    return f"{path}={'deleted' if value is DELETED else shown(value)}"


@pytest.mark.parametrize(("path", "value", "reported", "message"), FATAL, ids=map(_id, FATAL))
def test_what_cannot_be_read(
    version: str, path: str, value: Any, reported: str | None, message: str
) -> None:
    attributes = put(base_for(path, version), path, value)
    with pytest.raises(MetadataError, match=r"^test\.zarr: ") as caught:
        read(attributes)
    found = [issue for issue in caught.value.issues if issue.path == (reported or path)]
    assert any(message in issue.message for issue in found), caught.value.issues
    assert all(issue.severity == "error" for issue in caught.value.issues)
    assert all(f"{issue.path}: {issue.message}" in str(caught.value) for issue in found)


@pytest.mark.parametrize(
    ("path", "value", "reported", "severity", "message"), ODD, ids=map(_id, ODD)
)
def test_what_is_read_all_the_same(
    version: str, path: str, value: Any, reported: str | None, severity: str, message: str
) -> None:
    _, _, before = read(base_for(path, version))
    _, _, issues = read(put(base_for(path, version), path, value))
    new = [issue for issue in issues if issue not in before]
    assert [(issue.path, issue.severity) for issue in new][:1] == [(reported or path, severity)]
    assert message in new[0].message
    assert str(new[0]) == f"{severity}: {new[0].path}: {new[0].message}"


def test_all_faults_are_told_at_once(version: str) -> None:
    attributes = put(minimal(version), SCALE, [0, 1])
    put(attributes, f"{DATASET}.path", "..")
    put(attributes, "multiscales[0].datasets[1].path", "")
    put(attributes, f"{AXIS}.name", 7)
    with pytest.raises(MetadataError) as caught:
        read(attributes)
    assert {issue.path for issue in caught.value.issues} == {
        SCALE,
        f"{DATASET}.path",
        "multiscales[0].datasets[1].path",
        f"{AXIS}.name",
    }
    assert str(caught.value).startswith("test.zarr: invalid OME-Zarr:\n  - multiscales[0].axes[1]")


def test_numbers_that_are_too_much_together(version: str) -> None:
    for inner, outer in (([1e200, 1], [1e200, 1]), ([1, 1e-200], [1, 1e-200])):
        attributes = put(minimal(version), SCALE, inner)
        put(attributes, OUTER, [{"type": "scale", "scale": outer}])
        with pytest.raises(MetadataError, match=re.escape(f"{CHANGE}: with the image's own")):
            read(attributes)


def test_paths(version: str) -> None:
    paths = {"0/": "0", "scale0/image": "scale0/image", "a b": "a b", "..a": "..a", "...": "..."}
    for stored, expected in paths.items():
        _, image, issues = read(put(minimal(version), f"{DATASET}.path", stored))
        assert image.multiscale.levels[0].path == expected
        assert errors(issues) == []
    _, image, _ = read(put(minimal(version), f"{DATASET}.path", 0))
    assert image.multiscale.levels[0].path == "0"


@pytest.mark.parametrize(
    ("stored", "unit", "extra"),
    [
        ("micrometer", "micrometer", {}),
        ("µm", "micrometer", {"unit": "µm"}),
        ("Micrometers", "micrometer", {"unit": "Micrometers"}),
        (" micrometer", "micrometer", {"unit": " micrometer"}),
        ("A", "angstrom", {"unit": "A"}),
        ("second", "second", {}),
        ("pixel", None, {"unit": "pixel"}),
        ("parsnip", None, {"unit": "parsnip"}),
        ("", None, {"unit": ""}),
        (None, None, {"unit": None}),
        (3, None, {"unit": 3}),
        ([], None, {"unit": []}),
        (DELETED, None, {}),
    ],
)
def test_units_are_normalised_and_the_original_kept(
    version: str, stored: Any, unit: str | None, extra: Json
) -> None:
    attributes = put(minimal(version), f"{AXIS}.unit", stored)
    _, image, _ = read(attributes)
    axis = image.multiscale.axes[1]
    assert (axis.unit, axis.extra) == (unit, extra)
    written = ome(spec.writer(version)(image))["multiscales"][0]["axes"][1]
    assert written == ome(attributes)["multiscales"][0]["axes"][1]


@pytest.mark.parametrize("key", ["omero", "image-label"])
@pytest.mark.parametrize("stored", [[], "text", 3, False])
def test_what_is_not_used_is_kept(version: str, key: str, stored: Any) -> None:
    _, image, issues = read(put(minimal(version), key, stored))
    assert (image.omero, image.image_label) == (None, None)
    assert f"error: {key}: expected an object" in errors(issues)[0]
    assert ome(spec.writer(version)(image))[key] == stored


def test_identity_is_a_scale_of_one_where_a_scale_must_be(version: str) -> None:
    for place in (CHANGE, OUTER):
        attributes = put(minimal(version), place, [{"type": "identity"}])
        _, image, issues = read(attributes)
        assert [(issue.path, issue.severity) for issue in issues] == [(place, "error")]
        expected = ((1, 1), (0, 0)) if place == CHANGE else ((1, 0.5), (1, 0.5))
        assert placed(image) == expected


def test_an_identity_changes_nothing_whatever_it_holds(version: str) -> None:
    strange = {"type": "identity", "scale": [5, 5], "note": "a"}
    _, image, _ = read(put(minimal(version), CHANGE, [strange]))
    _, again, _ = read(spec.writer(version)(image))
    assert placed(again) == placed(image) == ((1, 1), (0, 0))


def test_transformations_in_the_wrong_order_are_applied_as_they_stand(version: str) -> None:
    attributes = put(minimal(version), CHANGE, [TRANSLATION, {"type": "scale", "scale": [2, 4]}])
    _, image, _ = read(attributes)
    transformation = image.multiscale.levels[0].transformation
    assert transformation is not None
    assert transformation.apply([[0, 0], [1, 1]]).tolist() == [[2, 4], [4, 8]]


def with_axes(types: list[str | None], version: str) -> Json:
    """Return the attributes of an image with axes a, b, c, … of these types."""
    attributes = minimal(version)
    entry = ome(attributes)["multiscales"][0]
    entry["axes"] = [
        {"name": name, "type": kind} if kind else {"name": name}
        for name, kind in zip("abcdefghijk", types, strict=False)
    ]
    scale = {"type": "scale", "scale": [1] * len(types)}
    entry["datasets"] = [{"path": "0", "coordinateTransformations": [scale]}]
    return attributes


@pytest.mark.parametrize(
    ("types", "rule", "message"),
    [
        (["space", "time", "space"], rules.AXES_ORDER, "time, channel, space; found a, b, c"),
        (["space", "space", "channel"], rules.AXES_ORDER, "time, channel, space; found a, b, c"),
        (["channel", "time", "space", "space"], rules.AXES_ORDER, "found a, b, c, d"),
        (["time", "time", "space", "space"], rules.AXES_OTHERS, "one axis of time and one other"),
        (["channel", "phase", "space", "space"], rules.AXES_OTHERS, "channel, phase, space, space"),
        ([None, "channel", "space", "space"], rules.AXES_OTHERS, "none, channel, space, space"),
        (["space"] * 4, rules.AXES_SPACE, "expected 2 or 3 axes of type 'space'"),
        (["time", "space"], rules.AXES_SPACE, "found 1"),
        (["space"], rules.AXES, "expected 2 to 5 axes, found 1"),
        (["time", "channel", *["space"] * 4], rules.AXES, "expected 2 to 5 axes, found 6"),
    ],
)
def test_axes_of_any_type_number_and_order_open(
    version: str, types: list[str | None], rule: rules.Rule, message: str
) -> None:
    _, image, issues = read(with_axes(types, version))
    assert [axis.type for axis in image.multiscale.axes] == types
    assert placed(image) == ((1,) * len(types), (0,) * len(types))
    found = [issue for issue in issues if issue.rule == rule.text]
    assert [(issue.severity, issue.path) for issue in found] == [("error", "multiscales[0].axes")]
    assert message in found[0].message


def test_units_of_another_type_count_where_the_axes_of_space_are_counted(version: str) -> None:
    def read_with(unit: Any) -> list[tuple[str, str]]:
        attributes = with_axes(["space", "space", "space"], version)
        for axis in ome(attributes)["multiscales"][0]["axes"]:
            axis["unit"] = "meter"
        put(attributes, "multiscales[0].axes[0].unit", unit)
        return [(issue.severity, issue.path) for issue in read(attributes)[2]]

    assert read_with(None) == read_with(3) == [("warning", "multiscales[0].axes[0].unit")]
    plane = put(minimal(version), f"{AXIS}.unit", None)
    assert [(issue.severity, issue.path) for issue in read(plane)[2]] == [
        ("warning", f"{AXIS}.unit"),
        ("error", "multiscales[0].axes"),
    ]


@pytest.mark.parametrize(
    ("names", "untyped", "rule"),
    [
        ("tcyx", "t", rules.AXES_OTHERS),
        ("czyx", "z", rules.AXES_OTHERS),
        ("tyx", "t", None),
        ("cyx", "c", None),
        ("zyx", "z", None),
        ("yxz", "z", rules.AXES_ORDER),
    ],
)
def test_axes_without_a_type_are_no_axes_of_time_or_space_whatever_their_name(
    version: str, names: str, untyped: str, rule: rules.Rule | None
) -> None:
    kinds: list[str | None] = [{"t": "time", "c": "channel"}.get(name, "space") for name in names]
    attributes = with_axes(kinds, version)
    for name, axis in zip(names, ome(attributes)["multiscales"][0]["axes"], strict=True):
        axis["name"] = name
        if name == untyped:
            del axis["type"]
    _, image, issues = read(attributes)
    assert [axis.type for axis in image.multiscale.axes] == kinds  # the name is good enough there
    found = {issue.rule for issue in issues if issue.severity == "error"}
    assert found == ({rule.text} if rule else set())


@pytest.mark.parametrize(("count", "names"), [(5, "tczyx"), (2, "yx")])
def test_axes_that_only_the_scale_tells(version: str, count: int, names: str) -> None:
    attributes = put(with_axes(["space"] * count, version), "multiscales[0].axes", DELETED)
    _, image, issues = read(attributes)
    assert "".join(axis.name for axis in image.multiscale.axes) == names
    assert ("error", "multiscales[0].axes") in [(issue.severity, issue.path) for issue in issues]


@pytest.mark.parametrize("count", [1, 3, 4, 6])
def test_axes_that_nothing_tells(version: str, count: int) -> None:
    attributes = put(with_axes(["space"] * count, version), "multiscales[0].axes", DELETED)
    with pytest.raises(MetadataError, match=r"multiscales\[0\]\.axes: is missing"):
        read(attributes)


def test_slashes_in_names_of_axes_are_kept_for_writing(version: str) -> None:
    attributes = put(minimal(version), f"{AXIS}.name", "a/b/c")
    _, image, issues = read(attributes)
    assert errors(issues) == []
    axis = image.multiscale.axes[1]
    assert (axis.name, axis.extra) == ("a_b_c", {"name": "a/b/c"})
    assert ome(spec.writer(version)(image))["multiscales"][0]["axes"][1]["name"] == "a/b/c"


def test_slashes_never_make_two_names_one(version: str) -> None:
    for attributes in (
        put(put(minimal(version), f"{AXIS}.name", "a/b"), "multiscales[0].axes[0].name", "a_b"),
        put(minimal("0.3"), "multiscales[0].axes", ["a/b", "a_b"]),
    ):
        _, image, _ = read(attributes)
        assert len({axis.name for axis in image.multiscale.axes}) == 2


def test_names_of_axes_beside_transformations() -> None:
    attributes = put(minimal("0.4"), "multiscales[0].axes", ["y", "x"])
    version, image, issues = read(attributes)
    assert (version, placed(image)) == ("0.4", ((1, 0.5), (1, 0.5)))
    assert errors(issues) == [
        f"error: multiscales[0].axes[{i}]: expected an object, found the name '{name}'"
        for i, name in enumerate("yx")
    ]


def test_transformations_before_there_were_any_are_kept() -> None:
    attributes = minimal("0.3")
    stray = [{"type": "scale", "scale": [3, 3]}]
    put(attributes, "multiscales[0].datasets[1].coordinateTransformations", stray)
    version, image, _ = read(attributes)
    assert version == "0.3"
    levels = [replace(level, transformation=Identity()) for level in image.multiscale.levels]
    image = replace(image, multiscale=replace(image.multiscale, levels=tuple(levels)))
    for target in WRITTEN:
        _, again, _ = read(spec.writer(target)(image))
        assert placed(again, 1) == ((1, 1), (0, 0))


def test_colors_that_repeat(version: str) -> None:
    attributes = put(with_label(version), "image-label.colors[1].label-value", 1)
    found = [issue for issue in read(attributes)[2] if issue.path.endswith("label-value")]
    assert [issue.severity for issue in found] == ["error"]
    assert "1 stands here again; the last one wins" in found[0].message
    records = [{"label-value": 1, "class": name} for name in "ab"]
    attributes = put(with_label(version), "image-label.properties", records)
    assert errors(read(attributes)[2]) == []


def test_labels_state_their_version_as_text() -> None:
    for version, valid in (("0.4", False), ("0.5", False), ("0.6", True)):
        attributes = put(with_label(version), "image-label.version", 3)
        found = validate_document(attributes)
        assert found.valid == valid
        assert [issue.path for issue in found.issues] == ["image-label.version"]
    assert validate_document(put(with_label("0.5"), "image-label.version", "0.5")).issues == ()


def test_whole_numbers_may_have_a_point(version: str) -> None:
    attributes = put(with_label(version), "image-label.colors[0]", {"label-value": 1.0})
    put(attributes, "image-label.colors[0].rgba", [1.0, 2, 3, 4])
    assert errors(read(attributes)[2]) == []


def test_every_image_of_a_group_is_looked_at_and_any_read(version: str) -> None:
    attributes = minimal(version)
    first = ome(attributes)["multiscales"][0]
    ome(attributes)["multiscales"].append({**copy.deepcopy(first), "name": "second"})
    put(attributes, "multiscales[1].datasets[0].path", "other")
    report = Report("test.zarr")
    for number in (1, -1):
        _, _, image, _ = spec.read(attributes, report, number=number)
        assert isinstance(image, Image)
        assert image.multiscale.levels[0].path == "other"
        assert image.extra["multiscales"] == [first]
    assert report.issues == []
    put(attributes, "multiscales[1].datasets[0].path", "..")
    _, image, issues = read(attributes)
    assert image.multiscale.levels[0].path == "0"
    assert [issue.path for issue in issues] == ["multiscales[1].datasets[0].path"]
    for number in (1, 2, -3):
        with pytest.raises(MetadataError, match=r"multiscales"):
            spec.read(attributes, Report("test.zarr"), number=number)
    put(attributes, "multiscales[1]", first)
    assert errors(read(attributes)[2]) == ["error: multiscales: holds an object twice"]


def test_the_names_of_axes_are_free(version: str) -> None:
    attributes = minimal(version)
    put(attributes, "multiscales[0].axes[0].name", "Ünï 1")
    put(attributes, f"{AXIS}.name", "row.col")
    _, image, issues = read(attributes)
    assert [axis.name for axis in image.multiscale.axes] == ["Ünï 1", "row.col"]
    assert errors(issues) == []


def test_levels_are_ordered_as_their_scales_tell() -> None:
    for version in WRITTEN:
        attributes = minimal(version)
        ome(attributes)["multiscales"][0]["datasets"].reverse()
        found = validate_document(attributes).errors
        assert [(issue.path, issue.rule) for issue in found] == [
            ("multiscales[0].datasets[1].path", rules.LEVEL_ORDER.text)
        ]
        scale = LEVEL_SCALE if version == "0.6" else SCALE
        for factors, valid in (([2, 0.5], True), ([2, 1 + 1e-9], True), ([2.5, 0.5], False)):
            attributes = put(minimal(version), scale, factors)
            assert validate_document(attributes).valid == valid


# ---- faults of other groups, and of 0.6 --------------------------------------------------------

FLAT, INDEXED, NAMED = VERSIONS[:4], WRITTEN, VERSIONS[:5]
WELL = "plate.wells[0]"
ACQUISITION = "plate.acquisitions[0]"
FIELD = "well.images[0]"
LINK = "scene.coordinateTransformations[0]"
SYSTEM = "multiscales[0].coordinateSystems"
LEVEL = f"{CHANGE}[0]"
LEVEL_SCALE = f"{LEVEL}.transformations[0].scale"
ENDS = {"input": {"path": "0"}, "output": {"name": "yx"}}

# the kind, where it is changed, to what, where that is reported (None: there), how bad it is, in
# which words, and in which versions; a fault is what leaves nothing to read
Fault = tuple[str, str, Any, str | None, str, str, tuple[str, ...]]
FAULTS: list[Fault] = [
    *(
        ("plate", "plate.wells", bad, None, "fault", "expected a list of wells", VERSIONS)
        for bad in (DELETED, None, {}, "A/1")
    ),
    ("plate", "plate.wells", [{}, 3], None, "fault", "none has a path", VERSIONS),
    ("plate", "plate.wells", [], None, "error", "at least one well", VERSIONS),
    ("plate", "plate", None, None, "fault", "expected an object, found None", ("0.5", "0.6")),
    *(
        ("plate", f"{WELL}.path", bad, None, "error", "expected a path below the plate", VERSIONS)
        for bad in (DELETED, None, 3, "", "/A/1", "../A/1", "A//1")
    ),
    ("plate", f"{WELL}.path", "A/1/2", None, "error", "expected row/column", INDEXED),
    ("plate", f"{WELL}.path", "A", None, "error", "expected row/column", INDEXED),
    ("plate", f"{WELL}.path", "A/1_2", None, "error", "expected row/column", INDEXED),
    ("plate", f"{WELL}.path", "C/1", None, "error", "'C' is none of the rows", INDEXED),
    ("plate", f"{WELL}.path", "A/3", None, "error", "'3' is none of the columns", INDEXED),
    ("plate", f"{WELL}.rowIndex", 1, None, "error", "expected 0 for 'A/1', found 1", INDEXED),
    ("plate", f"{WELL}.columnIndex", 1, None, "error", "expected 0 for 'A/1', found 1", INDEXED),
    *(
        ("plate", f"{WELL}.rowIndex", bad, None, "error", "expected an integer", INDEXED)
        for bad in (None, -1, "0", 0.5, True, math.nan)
    ),
    *(
        ("plate", f"plate.{key}", bad, None, "error", "expected a list", VERSIONS)
        for key in ("rows", "columns")
        for bad in (DELETED, [], {}, None)
    ),
    *(
        ("plate", "plate.rows[0].name", bad, None, "error", "expected letters", VERSIONS)
        for bad in (DELETED, None, 3)
    ),
    ("plate", "plate.rows[0].name", "A b", None, "error", "expected letters", INDEXED),
    ("plate", "plate.rows[0].name", "B", "plate.rows", "error", "'B' stands here twice", VERSIONS),
    ("plate", "plate.name", DELETED, None, "warning", "is missing", VERSIONS),
    ("plate", "plate.name", 3, None, "error", "expected text, found 3", VERSIONS),
    ("plate", "plate.field_count", DELETED, None, "warning", "is missing", INDEXED),
    *(
        ("plate", "plate.field_count", bad, None, "error", "expected a positive integer", INDEXED)
        for bad in (0, -1, "2", None, math.inf)
    ),
    ("plate", "plate.acquisitions", {}, None, "error", "expected a list", VERSIONS),
    ("plate", ACQUISITION, 3, None, "error", "expected an object", VERSIONS),
    *(
        ("plate", f"{ACQUISITION}.id", bad, None, "error", "expected an integer", VERSIONS)
        for bad in (DELETED, None, "1", True)
    ),
    ("plate", f"{ACQUISITION}.id", -1, None, "error", "of at least 0", INDEXED),
    ("plate", f"{ACQUISITION}.id", -1.5, None, "error", "expected an integer", VERSIONS[1:]),
    ("plate", f"{ACQUISITION}.name", DELETED, None, "warning", "is missing", VERSIONS),
    ("plate", f"{ACQUISITION}.name", 3, None, "error", "expected text", VERSIONS),
    ("plate", f"{ACQUISITION}.maximumfieldcount", 0, None, "error", "positive", VERSIONS[3:]),
    ("plate", f"{ACQUISITION}.description", 3, None, "error", "expected text", VERSIONS),
    ("plate", f"{ACQUISITION}.starttime", "12:00", None, "error", "expected an integer", VERSIONS),
    ("plate", "plate.version", "0.9", None, "error", "found '0.9'", FLAT),
    *(
        ("well", "well.images", bad, None, "fault", "expected a list of fields", VERSIONS)
        for bad in (DELETED, None, {}, "0")
    ),
    ("well", "well.images", [{}, 3], None, "fault", "none has a path", VERSIONS),
    ("well", "well.images", [], None, "error", "at least one field", VERSIONS),
    *(
        ("well", f"{FIELD}.path", bad, None, "error", "expected a path below the well", VERSIONS)
        for bad in (DELETED, None, "", "..", "/0")
    ),
    ("well", f"{FIELD}.path", 3, None, "error", "expected text, found 3", VERSIONS),
    *(
        ("well", f"{FIELD}.path", bad, None, "error", f"found {bad!r}", VERSIONS)
        for bad in ("a/b", "a b", "ä", "__a", "...")
    ),
    ("well", f"{FIELD}.path", "a_b.c-d", None, "error", "found 'a_b.c-d'", NAMED),
    ("well", f"{FIELD}.path", "1", "well.images", "error", "'1' stands here twice", INDEXED),
    ("well", f"{FIELD}.path", "1", "well.images", "warning", "stands here twice", VERSIONS[:3]),
    ("well", f"{FIELD}.acquisition", "1", None, "error", "expected an integer", VERSIONS),
    ("well", "well.version", "0.9", None, "error", "found '0.9'", FLAT),
    *(
        (kind, "version", DELETED, None, "error", "is missing", ("0.5", "0.6"))
        for kind in MAKERS
        if kind not in ("image", "scene")
    ),
    ("scene", "version", None, None, "error", "expected '0.6', found None", ("0.6",)),
    ("scene", "scene", 3, None, "fault", "expected an object", ("0.6",)),
    *(
        ("scene", "scene.coordinateTransformations", bad, None, "error", message, ("0.6",))
        for bad, message in ((DELETED, "is missing"), ([], "expected a list"), ({}, "a list"))
    ),
    ("scene", "scene.coordinateSystems[0].axes", [], None, "error", "2 to 5", ("0.6",)),
    ("scene", "scene.coordinateSystems", {}, None, "error", "expected a list", ("0.6",)),
    ("scene", LINK, 3, None, "error", "expected an object", ("0.6",)),
    ("scene", f"{LINK}.type", "magic", None, "error", "found 'magic'", ("0.6",)),
    ("scene", f"{LINK}.translation", [1, None], None, "error", "finite numbers", ("0.6",)),
    *(
        ("scene", f"{LINK}.{end}", bad, None, "error", "expected an object", ("0.6",))
        for end in ("input", "output")
        for bad in (DELETED, None, 3, {"path": "tile"}, {"name": ""}, "world")
    ),
    (
        *("scene", f"{LINK}.output.name", "nowhere", None, "error"),
        *("is no coordinate system of the scene", ("0.6",)),
    ),
    ("scene", f"{LINK}.input.more", 1, f"{LINK}.input", "error", "found ['more']", ("0.6",)),
    *(
        ("image", path, bad, "multiscales[0].datasets", "fault", "'yx' is no coordinate", ("0.6",))
        for path, bads in (
            (SYSTEM, (DELETED, None, [], {})),
            (f"{SYSTEM}[0].name", (DELETED, None, "", 3)),
        )
        for bad in bads
    ),
    ("image", f"{SYSTEM}[0].axes", [], None, "fault", "expected a list of 2 to 5", ("0.6",)),
    ("image", f"{SYSTEM}[0].axes[0].unit", None, None, "error", "expected text", ("0.6",)),
    ("image", f"{SYSTEM}[0].axes[0].discrete", 1, None, "error", "true or false", ("0.6",)),
    ("image", f"{SYSTEM}[0].axes[0].longName", 1, None, "error", "expected text", ("0.6",)),
    *(
        ("image", CHANGE, bad, None, "fault", "expected one transformation", ("0.6",))
        for bad in (DELETED, None, [], {}, "scale")
    ),
    ("image", f"{LEVEL}.input", "0", None, "error", "expected an object", ("0.6",)),
    ("image", f"{LEVEL}.input", DELETED, None, "error", "expected an object", ("0.6",)),
    ("image", f"{LEVEL}.input.path", "1", None, "error", "expected '0', found '1'", ("0.6",)),
    ("image", f"{LEVEL}.input.path", "/0", None, "error", "expected '0', found '/0'", ("0.6",)),
    ("image", f"{LEVEL}.input.name", "a", None, "error", "found 'a'", ("0.6",)),
    ("image", f"{LEVEL}.output", DELETED, None, "error", "expected an object", ("0.6",)),
    ("image", f"{LEVEL}.output.path", "a", None, "error", "found 'a'", ("0.6",)),
    (
        *("image", f"{LEVEL}.output.name", "zz", "multiscales[0].datasets", "error"),
        *("the levels lead to several systems", ("0.6",)),
    ),
    *(
        ("image", LEVEL, {"type": bad, **ENDS}, f"{LEVEL}.{key}", "fault", message, ("0.6",))
        for bad, key, message in (
            ("magic", "type", "found 'magic'"),
            (None, "type", "found None"),
            ("translation", "translation", "expected a list of finite numbers"),
        )
    ),
    (
        *("image", LEVEL, {"type": "translation", "translation": [1, 1], **ENDS}),
        *(f"{LEVEL}.type", "error", "expected identity, scale, or a sequence", ("0.6",)),
    ),
    (
        *("image", f"{LEVEL}.transformations", [{"type": "scale", "scale": [1, 1]}], None),
        *("error", "expected a scale and a translation", ("0.6",)),
    ),
    ("image", f"{LEVEL}.transformations", [], None, "fault", "at least one", ("0.6",)),
    *(
        ("image", LEVEL_SCALE, bad, None, "fault", "", ("0.6",))
        for bad in (DELETED, None, [], [1, math.nan], [1, "1"], [True, 1])
    ),
    ("image", LEVEL_SCALE, [0, 1], None, "fault", "above 0", ("0.6",)),
    ("image", LEVEL_SCALE, [1] * 3, LEVEL_SCALE[:-6], "fault", "of 3 axes, found 2", ("0.6",)),
    ("image", LEVEL_SCALE, [-1, 1], None, "error", "expected numbers above 0", ("0.6",)),
    ("image", f"{LEVEL}.name", 3, None, "error", "expected text", ("0.6",)),
]


@pytest.mark.parametrize("kind", ["displacement", "coordinate"])
@pytest.mark.parametrize("discrete", [True, False, None, DELETED])
def test_axes_of_vectors_are_discrete(kind: str, discrete: Any) -> None:
    attributes = minimal("0.6")
    axes = ome(attributes)["multiscales"][0]["coordinateSystems"][0]["axes"]
    axes.insert(0, {"name": "d", "type": kind, "discrete": discrete})
    if discrete is DELETED:
        del axes[0]["discrete"]
    for dataset in ome(attributes)["multiscales"][0]["datasets"]:
        for part in dataset["coordinateTransformations"][0]["transformations"]:
            part[part["type"]].insert(0, 1)
    found = validate_document(attributes)
    assert found.valid == (discrete is True)
    assert {issue.path for issue in found.errors} <= {f"{SYSTEM}[0].axes[0].discrete"}


def _named(fault: Fault) -> str:
    kind, path, value, *_ = fault
    return f"{kind}-{path}={'deleted' if value is DELETED else shown(value)}"


@pytest.mark.parametrize("fault", FAULTS, ids=map(_named, FAULTS))
def test_faults_of_every_kind_of_group(fault: Fault) -> None:
    kind, path, value, reported, severity, message, versions = fault
    for version in versions:
        attributes = put(
            MAKERS[kind][0](version), path, value if value is DELETED else copy.deepcopy(value)
        )
        report = Report("test.zarr")
        if severity == "fault":
            with pytest.raises(MetadataError):
                spec.read(attributes, report, kind=kind, version=version)
        else:
            _, _, content, _ = spec.read(attributes, report, kind=kind, version=version)
            assert isinstance(content, MAKERS[kind][1])
        issues = report.faults if severity == "fault" else report.issues
        found = [issue for issue in issues if issue.path == (reported or path)]
        assert found, (version, report)
        assert any(message in issue.message for issue in found), (version, found)
        assert found[0].severity == ("warning" if severity == "warning" else "error")
        assert found[0].rule
        assert found[0].section.startswith(f"OME-Zarr {version}, ")
        assert found[0].mend
        validated = validate_document(attributes, kind=kind, version=version)
        assert validated.valid == (severity == "warning")
        assert found[0] in validated.issues


def test_what_older_versions_allow() -> None:
    for version in FLAT[:3]:
        for path in ("A/1/2", "A", "x y/z"):
            attributes = put(plate(version), f"{WELL}.path", path)
            assert validate_document(attributes).issues == ()
        assert validate_document(put(plate(version), f"{ACQUISITION}.id", -1)).issues == ()
    assert validate_document(put(well("0.6"), f"{FIELD}.path", "a_b.c-d")).issues == ()
    assert validate_document(put(plate("0.1"), f"{ACQUISITION}.id", -1.5)).issues == ()


# ---- transformations of 0.6 and its drafts -----------------------------------------------------


def linked(link: Json, version: str = "0.6") -> Json:
    """Return an image with a transformation from its coordinate system to another one."""
    attributes = minimal("0.6")
    (own,) = ome(attributes)["multiscales"][0]["coordinateSystems"]
    named = [own, {**own, "name": "world"}]
    put(attributes, "version", version)
    put(attributes, SYSTEM, named)
    ends = {"input": {"name": "yx"}, "output": {"name": "world"}}
    return put(attributes, OUTER, [{**ends, **link}])


MIRROR = {"type": "mapAxis", "mapAxis": [1, 0]}
PARTS = [
    {"transformation": {"type": "scale", "scale": [2]}, "inputAxes": [1], "outputAxes": [0]},
    {"transformation": {"type": "identity"}, "inputAxes": [0], "outputAxes": [1]},
]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({**MIRROR, "input": "yx", "output": "world"}, MIRROR),
        ({**MIRROR, "mapAxis": {"y": "x", "x": "y"}}, MIRROR),
        (
            {
                "type": "byDimension",
                "transformations": [
                    {"type": "scale", "scale": [2], "input_axes": ["x"], "output_axes": ["y"]},
                    {"type": "identity", "input_axes": ["y"], "output_axes": ["x"]},
                ],
            },
            {"type": "byDimension", "transformations": PARTS},
        ),
    ],
)
def test_forms_of_the_drafts(old: Json, new: Json) -> None:
    _, expected, issues = read(linked(new))
    assert issues == []
    for version, severity in (("0.6.dev2", "warning"), ("0.6", "error")):
        _, image, issues = read(linked(old, version))
        assert {issue.severity for issue in issues} == {severity}
        assert all(issue.path.startswith(f"{OUTER}[0]") for issue in issues)
        assert image.multiscale.transformations == expected.multiscale.transformations
        assert validate_document(spec.writer("0.6")(image)).issues == ()


def test_what_the_drafts_called_inverse() -> None:
    backwards = {"type": "inverseOf", "transformation": {"type": "scale", "scale": [2, 4]}}
    ends = {"input": {"name": "world"}, "output": {"name": "yx"}}
    _, image, issues = read(linked(backwards, "0.6.dev2"))
    assert [issue.severity for issue in issues] == ["warning"]
    assert image.multiscale.transformations == ({"type": "scale", "scale": [2, 4], **ends},)
    assert not validate_document(linked(backwards)).valid
    inside = {"type": "sequence", "transformations": [backwards]}
    assert not validate_document(linked(inside)).valid


def test_scenes_of_the_drafts() -> None:
    attributes = put(scene("0.6"), "version", "0.6.dev2")
    document = ome(attributes)
    document |= document.pop("scene")
    report = Report("test.zarr")
    version, kind, content, others = spec.read(attributes, report)
    assert (version, kind, others, errors(report.issues)) == ("0.6", "scene", {}, [])
    assert spec.writer("0.6")(content) == scene("0.6")


def test_the_names_of_transformations_are_kept() -> None:
    attributes = minimal("0.6")
    level = ome(attributes)["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]
    level["name"] = "whole"
    for name, part in zip("ab", level["transformations"], strict=True):
        part["name"] = name
    _, image, issues = read(attributes)
    assert issues == []
    assert spec.writer("0.6")(image) == attributes


@pytest.mark.parametrize("matrix", [[[0, -1], [1e308, 0]], [[1e200, 0], [0, 1e200]]])
def test_rotations_of_any_numbers(matrix: list[list[float]]) -> None:
    assert not validate_document(linked({"type": "rotation", "rotation": matrix})).valid


@pytest.mark.parametrize("target", WRITTEN)
def test_what_is_written_as_a_scale_holds_no_parameters_of_others(target: str) -> None:
    affine = {"type": "affine", "affine": [[2, 0, 1], [0, 3, 1]], **ENDS}
    _, image, _ = read(put(minimal("0.6"), LEVEL, affine))
    assert placed(image) == ((2, 3), (1, 1))
    assert "affine" not in json.dumps(spec.writer(target)(image))


def test_what_only_0_6_can_say() -> None:
    _, image, _ = read(linked(MIRROR))
    for target in ("0.4", "0.5"):
        with pytest.raises(UnsupportedError, match=r"'mapAxis' from .*'yx'.* to .*'world'"):
            spec.writer(target)(image)
        version, again, issues = read(spec.writer(target)(image, lossy=True))
        assert (version, issues) == (target, [])
        assert [placed(again, i) for i in range(2)] == [placed(image, i) for i in range(2)]
    assert spec.writer("0.6")(image) == linked(MIRROR)


# ---- versions and kinds ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stated", ["0.5-dev-spatialdata", "0.3", "0.6", 0.5, 0.4, None, [], {}, "", True, DELETED]
)
def test_versions_that_are_stated_wrongly(version: str, stated: Any) -> None:
    place = "version" if version == "0.5" else "multiscales[0].version"
    found, image, issues = read(put(minimal(version), place, stated))
    assert found == version
    assert same(image, read(minimal(version))[1])
    assert [issue.path for issue in issues] == [place]
    missing = stated is DELETED
    assert issues[0].severity == ("warning" if version == "0.4" and missing else "error")
    assert ("is missing" if missing else f"expected '{version}', found") in issues[0].message


def test_the_place_of_the_metadata_tells_the_version() -> None:
    # a 0.4 document is one in the attributes of a Zarr v3 group, too
    assert read(minimal("0.4"))[0] == "0.4"
    below = {"ome": minimal("0.4")}
    found, _, issues = read(below)
    assert found == "0.5"
    assert errors(issues) == ["error: version: is missing"]
    # with both, 0.5 wins
    both = {**minimal("0.4"), **minimal("0.5")}
    found, _, _, others = spec.read(both, Report("both"))
    assert found == "0.5"
    assert others == minimal("0.4")
    # what stands at ome need not be OME's
    found, _, _, others = spec.read({**minimal("0.4"), "ome": "a town"}, Report("town"))
    assert (found, others) == ("0.4", {"ome": "a town"})


DATASETS = [{"path": "0"}]


NAMES = ["y", "x"]
SYSTEMS = {"coordinateSystems": []}
PLACED = {"coordinateTransformations": []}


@pytest.mark.parametrize(
    ("attributes", "kind", "expected"),
    [
        ({"multiscales": [{"version": "0.1", "datasets": DATASETS}]}, "image", "0.1"),
        ({"multiscales": [{"version": "0.2", "datasets": DATASETS}]}, "image", "0.2"),
        ({"multiscales": [{"datasets": DATASETS}], "omero": {}}, "image", "0.2"),
        ({"multiscales": [{"datasets": DATASETS}]}, "image", "0.2"),
        ({"multiscales": [{"version": 2, "datasets": DATASETS}]}, "image", "0.2"),
        ({"multiscales": [{"version": "0.3", "datasets": DATASETS}]}, "image", "0.3"),
        ({"multiscales": [{"version": "0.3", "axes": NAMES, "datasets": []}]}, "image", "0.3"),
        ({"multiscales": [{"version": "0.5", "axes": NAMES, "datasets": []}]}, "image", "0.3"),
        ({"multiscales": [{"version": "0.9\x1b[31m", "datasets": DATASETS}]}, "image", "0.4"),
        ({"multiscales": [{"version": "0.1", "axes": [{"name": "y"}]}]}, "image", "0.4"),
        ({"multiscales": [{"datasets": [{**PLACED, "path": "0"}]}]}, "image", "0.4"),
        ({"ome": {"multiscales": [{"version": "0.4", "axes": []}]}}, "image", "0.5"),
        ({"ome": {"version": "0.6", "multiscales": [{"axes": []}]}}, "image", "0.5"),
        ({"ome": {"version": "0.5-dev-spatialdata", "multiscales": [{}]}}, "image", "0.5"),
        ({"ome": {"version": "0.6", "multiscales": [SYSTEMS]}}, "image", "0.6"),
        ({"ome": {"version": "0.4", "multiscales": [SYSTEMS]}}, "image", "0.6"),
        ({"ome": {"version": "0.6.dev2", "multiscales": [{}]}}, "image", "0.6"),
        ({"ome": {"version": "0.9.dev1", "plate": {}}}, "plate", "0.6"),
        ({"ome": {"version": "0.10", "plate": {}}}, "plate", "0.6"),
        ({"ome": {"version": "0.4", "plate": {}}}, "plate", "0.5"),
        ({"ome": {"version": "0.6.dev2", "coordinateTransformations": []}}, "scene", "0.6"),
        ({"ome": {"labels": []}}, "labels group", "0.5"),
        ({"ome": {"version": "0.5", "image-label": {}}}, "label", "0.5"),
        ({"image-label": {"version": "0.2"}}, "label", "0.2"),
        ({"image-label": {}}, "label", "0.4"),
        ({"plate": {"version": "0.1"}}, "plate", "0.1"),
        ({"plate": {"wells": [{"path": "A/1"}]}}, "plate", "0.3"),
        ({"plate": {"wells": [{"path": "A/1", "rowIndex": 0}]}}, "plate", "0.4"),
        ({"plate": {"version": "0.5"}}, "plate", "0.4"),
        ({"well": {"version": "0.2"}}, "well", "0.2"),
        ({"well": {}}, "well", "0.4"),
        ({"labels": []}, "labels group", "0.4"),
        ({"bioformats2raw.layout": 3}, "collection", "0.4"),
    ],
)
def test_versions_are_told_by_shape_then_by_what_is_stated(
    attributes: Json, kind: str, expected: str
) -> None:
    assert spec.detect_kind(attributes) == kind
    assert spec.detect_version(attributes, kind) == expected
    assert validate_document(attributes).version == expected


def test_a_document_that_cannot_be_read_is_still_of_a_kind() -> None:
    for attributes, kind in (
        ({"multiscales": [{"version": "0.4", "axes": [], "datasets": []}]}, "image"),
        ({"plate": {"version": "0.4"}}, "plate"),
        ({"ome": {"version": "0.5", "well": {}}}, "well"),
    ):
        found = validate_document(attributes)
        assert (found.valid, found.kind) == (False, kind)
        assert str(found).startswith(f"invalid: OME-Zarr {found.version} {kind} (")


@pytest.mark.parametrize("version", ["0.7", "1.0", "", "x", "0.10", "0.45", "0.61"])
def test_versions_that_there_are_not(version: str) -> None:
    with pytest.raises(UnsupportedError, match="unknown version"):
        validate_document(minimal("0.5"), version=version)


@pytest.mark.parametrize("version", ["0.4.1", "0.5.2", "0.6rc0", "0.6.dev3", "0.6"])
def test_versions_may_be_given_in_full(version: str) -> None:
    found = validate_document(minimal(version[:3]), version=version)
    assert (found.valid, found.version) == (True, version[:3])


def test_kinds_that_there_are_not() -> None:
    with pytest.raises(UnsupportedError, match="unknown kind 'picture': expected one of image"):
        validate_document(minimal("0.5"), kind="picture")
    for version in VERSIONS[:-1]:
        found = validate_document(scene("0.6"), kind="scene", version=version)
        assert (found.valid, found.kind, found.version) == (False, "scene", version)


@pytest.mark.parametrize("kind", [None, *MAKERS, "label"])
@pytest.mark.parametrize("version", [None, *VERSIONS])
def test_documents_that_are_something_else(kind: str | None, version: str | None) -> None:
    keys = ("multiscales", "plate", "well", "scene", "image-label")
    documents = [{}, {"ome": {}}, {"ome": 3}, {"ome": {"version": "0.5"}}, {"title": "x"}]
    documents += [{key: thing} for key in keys for thing in (None, 3, "x", [3], {})]
    documents += [{"ome": {"version": "0.6", **document}} for document in documents]
    for attributes in documents:
        found = validate_document(attributes, kind=kind, version=version)
        # of the metadata of labels nothing must be there
        assert not found.valid or (found.kind == "label" and {} in ome(attributes).values())
        with contextlib.suppress(NgffError):
            spec.read(attributes, Report("test.zarr"), kind=kind, version=version)


def test_what_does_not_stand_below_ome_names_the_version() -> None:
    found = validate_document(minimal("0.4"), kind="image", version="0.5")
    assert found.issues[0].path == "ome"
    assert all(issue.section.startswith("OME-Zarr 0.5, ") for issue in found.issues)


def test_coordinate_systems_stand_below_ome() -> None:
    found = validate_document(ome(minimal("0.6")))
    assert (found.valid, found.version) == (False, "0.6")
    assert any("ome" in issue.message or issue.path == "ome" for issue in found.errors)


@pytest.mark.parametrize("stated", ["0.4", "0.5"])
def test_a_known_version_without_axes_is_at_fault(stated: str) -> None:
    with pytest.raises(MetadataError, match=r"multiscales\[0\]\.axes: is missing"):
        read({"multiscales": [{"version": stated, "datasets": DATASETS}]})


@pytest.mark.parametrize("thing", [None, 5, "ab", {}, {"a": 1}, [], [[]], [None], ["0"]])
def test_multiscales_of_another_form(thing: Any) -> None:
    with pytest.raises(MetadataError, match=r"multiscales(\[0\])?: expected"):
        read({"ome": {"version": "0.5", "multiscales": thing}})
    assert spec.detect_kind({"multiscales": thing}) is None


NDPYRAMID = {
    "multiscales": [
        {
            "datasets": [{"path": "0", "pixels_per_tile": 128, "crs": "EPSG:3857"}],
            "metadata": {"method": "pyramid_reproject", "version": "0.4.0"},
            "type": "reduce",
        }
    ]
}
GEOZARR = {
    "multiscales": {
        "layout": [{"asset": "r10m", "transform": {"scale": [1, 1], "translation": [0, 0]}}],
        "version": "0.1",
    },
    "zarr_conventions": [{"name": "multiscales"}],
}


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"title": "x"},
        GEOZARR,
        {"multiscales": [{"tile_matrix_set": "WebMercatorQuad", "tile_matrix_limits": {}}]},
        {"plate": "AB 123"},
        {"well": 7},
        {"scene": {"name": "a view"}},
        {"labels": {"a": 1}},
        {"labels": [1, 2]},
        {"labels": "none"},
        {"series": [1, 2]},
        {"ome": {}},
        {"ome": {"version": "0.5"}},
        {"ome": None},
        {"ome": "x"},
        {"ome": [{"multiscales": []}]},
    ],
)
def test_other_peoples_attributes(attributes: Json) -> None:
    assert spec.detect_kind(attributes) is None
    assert not spec.is_claimed(attributes)
    with pytest.raises(NotOmeError, match=r"^test\.zarr: is no OME-Zarr: "):
        read(attributes)
    found = validate_document(attributes)
    assert (found.valid, found.kind, found.version) == (False, "", "")


def test_paths_of_levels_alone_are_an_image_only_where_one_is_asked_for() -> None:
    # 0.1 and 0.2 say no more, and neither do some pyramids that are none of OME's
    for attributes in ({"multiscales": [{"datasets": DATASETS}]}, NDPYRAMID):
        assert spec.detect_kind(attributes) == "image"
        assert not spec.is_claimed(attributes)
        assert read(attributes)[0] == "0.2"


def test_a_part_of_the_metadata_of_labels_is_no_group() -> None:
    for attributes in ({"image-label": {}}, {"ome": {"version": "0.5", "image-label": {}}}):
        assert spec.detect_kind(attributes) == "label"
        assert not spec.is_claimed(attributes)
        with pytest.raises(NotOmeError):
            spec.read(attributes, Report("test.zarr"))
        found = validate_document(attributes)
        assert (found.valid, found.kind) == (True, "label")
        assert "multiscales" in [issue.path for issue in found.warnings]


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        (["plate", "collection", "image"], "plate"),
        (["well", "image"], "well"),
        (["image", "collection", "labels group", "series"], "image"),
        (["collection", "labels group", "series"], "collection"),
        (["labels group", "series"], "labels group"),
    ],
)
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_which_of_several_kinds_a_group_is(keys: list[str], kind: str, version: str) -> None:
    document: Json = {}
    for key in reversed(keys):
        document |= ome(MAKERS[key][0](version))
    attributes = {"ome": document} if version == "0.5" else document
    assert spec.detect_kind(attributes) == kind
    found, found_kind, content, others = spec.read(attributes, Report("test.zarr"))
    assert (found, found_kind, type(content)) == (version, kind, MAKERS[kind][1])
    # nothing is lost of the other kinds
    written = {**others, **spec.writer(version)(content)}
    assert written == attributes


def test_kinds_of_images() -> None:
    for version in ("0.4", "0.5"):
        assert spec.detect_kind(minimal(version)) == "image"
        assert spec.detect_kind(with_label(version)) == "image"
        # an image that lists its labels itself
        assert spec.detect_kind(put(minimal(version), "labels", ["a"])) == "image"
    assert spec.detect_kind({"ome": {"scene": {}}}) == "scene"


AXES = [{"name": "y"}, {"name": "x"}]


@pytest.mark.parametrize(
    ("document", "claimed"),
    [
        ({"multiscales": [{"axes": AXES}]}, True),
        ({"multiscales": [{"coordinateSystems": []}]}, True),
        ({"multiscales": [{"version": "0.1", "datasets": DATASETS}]}, True),
        ({"multiscales": [{"datasets": DATASETS}], "omero": {}}, True),
        ({"plate": {"wells": []}}, True),
        ({"well": {"images": []}}, True),
        ({"bioformats2raw.layout": 3}, True),
        # the same words in other people's stores
        ({"multiscales": [{"version": "1.0", "datasets": DATASETS}]}, False),
        ({"multiscales": [{"version": "0.1"}]}, False),
        ({"multiscales": [{"axes": "yx"}]}, False),
        ({"plate": {"name": "of steel"}}, False),
        ({"plate": "AB 123"}, False),
        ({"well": {"depth": 30}}, False),
        ({"labels": ["sea", "land"]}, False),
        ({"scene": {}}, False),
        ({"title": "x"}, False),
    ],
)
def test_what_the_engine_claims(document: Json, claimed: bool) -> None:
    assert spec.is_claimed(document) is claimed
    # what stands at ome need not be OME's
    assert spec.is_claimed({**document, "ome": "a town"}) is claimed


def test_below_ome_a_version_is_enough() -> None:
    for document in ({"labels": ["a"]}, {"multiscales": []}, {"scene": {}}, {"plate": {}}):
        assert spec.is_claimed({"ome": {"version": "0.5", **document}})
        assert not spec.is_claimed({"ome": {**document}})
    assert spec.is_claimed({"ome": {"multiscales": [{"axes": AXES}]}})
    assert not spec.is_claimed({"ome": {"version": "0.5"}})
    assert not spec.is_claimed({"ome": {"version": "0.5", "title": "x"}})
    for other in (NDPYRAMID, GEOZARR):
        assert not spec.is_claimed(other)


@pytest.mark.parametrize(
    ("names", "expected", "faults"),
    [
        ([], (), 0),
        (["a", "b/c", "a", "a/"], ("a", "b/c"), 0),
        (["..", "/a", "a//b", "", "good"], ("good",), 1),
        ([1, None, ["a"], True, -1, 1.5, "good"], ("1", "good"), 1),
        ({"a": 1}, (), 1),
        ("nuclei", (), 1),
        (7, (), 1),
    ],
)
@pytest.mark.parametrize("key", ["labels", "series"])
@pytest.mark.parametrize("below", [True, False])
def test_paths_that_groups_list(
    names: Any, expected: tuple[str, ...], faults: int, key: str, below: bool
) -> None:
    report = Report("labels")
    attributes = {"ome": {"version": "0.5", key: names}} if below else {key: names}
    kind = "series" if key == "series" else "labels group"
    _, _, content, _ = spec.read(attributes, report, kind=kind)
    assert isinstance(content, Collection)
    assert content.paths == expected
    assert [(issue.path, issue.severity) for issue in report.issues] == [(key, "error")] * faults


# ---- omero and image-label documents -----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "color"),
    [
        ("00FF7f", (0, 255, 127)),
        ("#00FF7F", (0, 255, 127)),
        (" 0f0 ", (0, 255, 0)),
        ("#FF000080", (255, 0, 0)),
        *(
            (bad, None)
            for bad in ("", "#", "red", "00FF7", "GGGGGG", "0x00FF7f", "٠٠FF7f", "##FFF")
        ),
        *((bad, None) for bad in (None, 255, True, [0, 255, 127], b"00FF7f", "0" * 10**5)),
    ],
)
def test_colors(text: Any, color: Any) -> None:
    assert parse_color(text) == color


@pytest.mark.parametrize(
    "document", [None, {}, {"channels": None}, {"channels": {}}, {"channels": [None, 3, []]}]
)
def test_channels_of_nothing(document: Any) -> None:
    assert omero.channels(document, 2) == (Channel("0"), Channel("1"))


def test_channels() -> None:
    window = {"start": 1, "end": 5}
    entries = [
        {"label": "a", "color": "00FF7f", "window": window, "active": False},
        {"label": "a", "color": "#ff0000", "window": {**window, "end": 1}, "active": None},
        {"label": "a", "color": "red", "window": {**window, "end": math.nan}},
        {"label": "a_2", "color": 12, "window": {"min": 0, "max": 1}},
        {"label": "", "window": window, "inverted": True},
        {"label": None, "window": [1, 5]},
        {"label": 7, "window": {"start": True, "end": 9}},
        {"label": "x" * 5000},
        {"window": {"start": -1e308, "end": 1e308}},
    ]
    assert omero.channels({"channels": entries}, 9) == (
        Channel("a", (0, 255, 127), Window(1, 5), active=False),
        Channel("a_2", (255, 0, 0)),
        Channel("a_3"),
        Channel("a_2_2"),
        Channel("4", window=Window(1, 5), inverted=True),
        Channel("5"),
        Channel("6"),
        Channel("x" * omero.MAX_NAME),
        Channel("8"),
    )
    assert [channel.name for channel in omero.channels({"channels": entries}, 2)] == ["a", "a_2"]
    assert list(omero.by_name({"channels": entries}))[:2] == ["a", "a_2"]


@pytest.mark.parametrize(
    ("entry", "gamma"),
    [
        ({"family": "polynomial", "coefficient": 0.5}, 0.5),
        ({"family": "polynomial", "coefficient": 2}, 2),
        ({"family": "linear", "coefficient": 2}, 1),
        ({"family": "exponential", "coefficient": 2}, 1),
        ({"coefficient": 2}, 1),
        ({"family": "polynomial"}, 1),
        *(
            ({"family": "polynomial", "coefficient": odd}, 1)
            for odd in (0, -1, math.inf, math.nan, "2", True, None, [2])
        ),
    ],
)
def test_gamma_is_the_coefficient_of_a_polynomial(entry: Any, gamma: float) -> None:
    (channel,) = omero.channels({"channels": [{**entry, "inverted": "yes"}]}, 1)
    assert channel == Channel("0", gamma=gamma)


def test_names_of_channels_always_differ() -> None:
    random_ = random.Random(0)
    for _ in range(200):
        labels = [random_.choice(["a", "a_2", "a_2_2", "1", "", None]) for _ in range(8)]
        found = omero.channels({"channels": [{"label": label} for label in labels]}, 9)
        assert len({channel.name for channel in found}) == 9


def test_default_indices() -> None:
    document = {"rdefs": {"defaultT": 3, "defaultZ": 4.0}}
    assert omero.default_index(document, "time", "when") == 3
    assert omero.default_index(document, "space", "Z") == 4
    assert omero.default_index(document, "space", "y") is None
    for bad in (None, {}, {"rdefs": []}, {"rdefs": {"defaultT": "3"}}):
        assert omero.default_index(bad, "time", "t") is None


def test_colors_and_properties_of_labels() -> None:
    red, blue = [255, 0, 0, 255], [0, 0, 255, 0]
    document = {
        "colors": [
            {"label-value": 1, "rgba": red},
            {"label-value": 1.0, "rgba": blue},
            {"label-value": 2, "rgba": [1, 2, 3]},
            {"label-value": 1.5, "rgba": red},
            {"label-value": True, "rgba": red},
            {"rgba": red},
            "red",
        ],
        "properties": [
            {"label-value": 1, "class": "cell", "area": 3},
            {"label-value": 1, "class": "nucleus"},
            {"class": "lost"},
        ],
    }
    assert image_label.colors(document) == {1: (0, 0, 255, 0)}
    assert image_label.properties(document) == [{"label-value": 1, "class": "nucleus", "area": 3}]
    for empty in (None, {}, {"colors": {}, "properties": "x"}):
        assert image_label.colors(empty) == {}
        assert image_label.properties(empty) == []


# ---- messages ----------------------------------------------------------------------------------


def test_messages_stay_short_and_plain() -> None:
    nested: Any = []
    for _ in range(900):
        nested = [nested]
    for thing in (nested, "x" * 10**6, list(range(10**5)), {"a": nested}, "\x1b[31m", "\ud800"):
        text = shown(thing)
        assert len(text) <= 80
        assert text.isprintable()
    assert shown("µm") == "'µm'"
    assert shown([1, 0.5, None]) == "[1, 0.5, None]"


def test_transformations_to_named_systems_are_kept_and_not_composed() -> None:
    named = [
        {"type": "identity", "input": {"name": "yx"}, "output": {"name": "global"}},
        {"type": "scale", "scale": [3.0] * 5, "output": {"name": "other"}},
    ]
    document = minimal("0.5")
    document["ome"]["multiscales"][0]["coordinateTransformations"] = named
    report = Report("a")
    _, _, image, _ = spec.read(document, report)
    _, _, plain, _ = spec.read(minimal("0.5"), Report("a"))
    assert isinstance(image, Image)
    assert isinstance(plain, Image)
    assert image.multiscale.levels == plain.multiscale.levels
    assert image.multiscale.extra["coordinateTransformations"] == named
    assert [issue.path for issue in report.issues if issue.severity == "error"] == [
        "multiscales[0].coordinateTransformations"
    ]
    written = spec.writer("0.5")(image)
    assert written["ome"]["multiscales"][0]["coordinateTransformations"] == named


@pytest.mark.parametrize("nothing", [None, []])
def test_an_empty_list_for_all_levels_changes_nothing(nothing: Any) -> None:
    document = minimal("0.4")
    document["multiscales"][0]["coordinateTransformations"] = nothing
    report = Report("a")
    _, _, image, _ = spec.read(document, report)
    _, _, plain, _ = spec.read(minimal("0.4"), Report("a"))
    assert isinstance(image, Image)
    assert isinstance(plain, Image)
    assert image.multiscale.levels == plain.multiscale.levels
    assert any(issue.path.endswith("coordinateTransformations") for issue in report.issues)
