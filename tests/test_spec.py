"""Reading and writing OME documents: the specification's own examples, every fault, and noise."""

from __future__ import annotations

import copy
import json
import math
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ngff_xarray import geometry, spec
from ngff_xarray.errors import Issue, MetadataError, NgffError, NotOmeError, UnsupportedError
from ngff_xarray.model import Axis, Channel, Image, Window
from ngff_xarray.spec import image_label, omero
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.values import parse_color
from ngff_xarray.transforms import scale_and_translation

Json = dict[str, Any]

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"
needs_corpus = pytest.mark.skipif(
    not CORPUS.is_dir(), reason=f"the specification's documents are not at {CORPUS}"
)


def read(attributes: Json) -> tuple[str, Image, list[Issue]]:
    """Return the version, the image and what is odd."""
    report = Report("test.zarr")
    version, image, _ = spec.read(attributes, report)
    return version, image, report.issues


def errors(issues: list[Issue]) -> list[str]:
    return [str(issue) for issue in issues if issue.severity == "error"]


def same(left: Image, right: Image) -> bool:
    """Tell whether two images say the same, whichever way they spell their geometry."""
    return _canonical(left) == _canonical(right)


def _canonical(image: Image) -> str:
    """Return everything as text, in which NaN equals NaN."""
    multiscale = image.multiscale
    axes = [
        (axis.name, axis.type, axis.unit, axis.long_name, axis.extra) for axis in multiscale.axes
    ]
    levels = [
        (level.path, scale_and_translation(level.transformation, len(axes)), level.extra)
        for level in multiscale.levels
    ]
    said = [axes, levels, multiscale.name, multiscale.type, multiscale.metadata]
    kept = [multiscale.extra, image.omero, image.image_label, image.extra]
    return json.dumps([said, kept], sort_keys=True)


# ---- the specification's own documents ---------------------------------------------------------


def cases(*versions: str, kind: str, expected: str | None = None, other: bool = False) -> list[Any]:
    """Return the documents of some versions and a kind, or all the others."""
    if not CORPUS.is_dir():
        return [pytest.param({}, id="missing")]
    index = json.loads((CORPUS / "index.json").read_text())
    return [
        pytest.param(case, id=case["id"])
        for case in index
        if (case["spec_version"] in versions and case["kind"] == kind) != other
        and expected in (None, case["expected_prose"])
    ]


def load(case: Json) -> Json:
    attributes: Json = json.loads((CORPUS / case["path"]).read_text())
    return attributes


# invalid documents that are read without an error, and why
TOLERATED: dict[str, str] = {}


@needs_corpus
@pytest.mark.parametrize("case", cases("0.4", "0.5", kind="image"))
def test_images_of_the_specification(case: Json) -> None:
    attributes = load(case)
    if case["expected_prose"] == "valid":
        version, _, issues = read(attributes)
        assert version == case["spec_version"]
        assert errors(issues) == []
        return
    assert case["expected_prose"] == "invalid"
    try:
        _, _, issues = read(attributes)
    except (MetadataError, UnsupportedError, NotOmeError):
        assert case["id"] not in TOLERATED
    else:
        assert bool(errors(issues)) == (case["id"] not in TOLERATED)


@needs_corpus
@pytest.mark.parametrize("case", cases("0.4", "0.5", kind="label"))
def test_labels_of_the_specification(case: Json) -> None:
    fragment = load(case)
    with pytest.raises(NotOmeError):
        read(fragment)

    attributes = minimal(case["spec_version"])
    ome(attributes)["image-label"] = ome(fragment)["image-label"]
    version, image, issues = read(attributes)
    assert version == case["spec_version"]
    assert image.image_label is not None
    assert bool(errors(issues)) == (case["expected_prose"] == "invalid")
    assert all("image-label" in issue.path for issue in issues)


@needs_corpus
@pytest.mark.parametrize("case", cases("0.4", "0.5", kind="image", expected="valid"))
def test_reading_what_was_written(case: Json) -> None:
    report = Report(case["id"])
    name, image, others = spec.read(load(case), report)
    for version in spec.VERSIONS.values():
        written = json.loads(json.dumps({**others, **version.write(image)}))
        found_name, found, found_others = spec.read(written, Report("written"))
        assert found_name == version.VERSION
        if found_name != name:  # 0.4 keeps them together
            found_others, image_others = {**found_others, **found.extra}, {**others, **image.extra}
            assert found_others == image_others
            found, expected = replace(found, extra={}), replace(image, extra={})
            assert same(found, expected)
        else:
            assert same(found, image)
            assert found_others == others


# valid documents that say too little for what they are
UNKNOWABLE = {
    "0.1/image/valid/ngff/image": "a list of datasets alone is not OME's only",
    "0.2/image/valid/ngff/missing_version": "a list of datasets alone is not OME's only",
    "0.4/ome-series/valid": "a list of series beside an image, where nothing is to be opened",
}


# 0.1 and 0.2 look the same
GUESSED = {"0.1/image/valid/ngff/missing_version": "0.2"}


@needs_corpus
@pytest.mark.parametrize("case", cases("0.4", "0.5", kind="image", other=True))
def test_all_other_documents_of_the_specification(case: Json) -> None:
    attributes = load(case)
    valid = case["expected_prose"] == "valid"
    try:
        version, _, _ = read(attributes)
    except UnsupportedError as error:
        assert case["id"] not in UNKNOWABLE
        if case["kind"] in ("plate", "well", "scene"):
            assert f"is an OME-Zarr {case['kind']}" in str(error)
        elif valid and case["kind"] in ("image", "label"):
            named = GUESSED.get(case["id"], case["spec_version"][:3])
            assert f"is OME-Zarr {named};" in str(error)
    except NotOmeError:
        known = any(case["id"].startswith(start) for start in UNKNOWABLE)
        assert known or not valid
    except MetadataError as error:
        assert not valid
        assert error.issues
    else:
        assert not valid
        assert version in spec.VERSIONS


# ---- documents made here -----------------------------------------------------------------------


def ome(attributes: Json) -> Json:
    """Return where OME's keys stand."""
    document: Json = attributes.get("ome", attributes)
    return document


def in_version(document: Json, version: str) -> Json:
    """Return the attributes that hold an OME document, with its version where it belongs."""
    document = json.loads(json.dumps(document))  # a copy
    if version == "0.5":
        return {"ome": {"version": "0.5", **document}}
    document["multiscales"][0]["version"] = "0.4"
    return document


def minimal(version: str) -> Json:
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [2.0**level, 0.5 * 2**level]},
                {"type": "translation", "translation": [2.0**level, 0.5]},
            ],
        }
        for level in range(2)
    ]
    return in_version({"multiscales": [{"axes": axes, "datasets": datasets}]}, version)


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
        "multiscales": [multiscale, {"name": "another", "datasets": []}],
        "omero": {"id": 1, "channels": channels, "rdefs": {"defaultZ": 1}, "extra": "o"},
        "image-label": label,
        "_creator": {"name": "someone"},
    }
    return {**in_version(document, version), "title": "beside", "nested": {"a": [1]}}


@pytest.fixture(params=["0.4", "0.5"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_minimal_document_is_without_issues(version: str) -> None:
    found, image, issues = read(minimal(version))
    assert (found, issues) == (version, [] if version == "0.5" else issues)
    assert errors(issues) == []
    assert [axis.name for axis in image.multiscale.axes] == ["y", "x"]
    assert [level.path for level in image.multiscale.levels] == ["0", "1"]
    made = [scale_and_translation(level.transformation, 2) for level in image.multiscale.levels]
    assert made == [((1, 0.5), (1, 0.5)), ((2, 1), (2, 0.5))]


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
    scale, translation = scale_and_translation(multiscale.levels[0].transformation, 5)
    assert scale == pytest.approx((0.1, 1, 2, 0.3, 0.3))
    assert translation == (1, 0, 5, -7, 1e6)
    assert multiscale.levels[2].extra == {"extra": {"level": 2}}
    assert image.extra["_creator"] == {"name": "someone"}
    assert errors(issues) == []
    assert [issue.path for issue in issues] == [
        "multiscales",
        "multiscales[0].axes[0].unit",
        "multiscales[0].axes[2].unit",
        "multiscales[0].axes[3].unit",
        "omero.channels[1].color",
        "omero.channels[1].window",
    ]


@pytest.mark.parametrize("target", ["0.4", "0.5"])
def test_nothing_is_lost_on_the_way_back_out(version: str, target: str) -> None:
    attributes = rich(version)
    _, image, others = spec.read(attributes, Report("in"))
    assert others == {"title": "beside", "nested": {"a": [1]}}
    written = json.loads(json.dumps({**others, **spec.VERSIONS[target].write(image)}))
    found, again, again_others = spec.read(written, Report("out"))
    assert found == target
    assert same(again, image)
    assert again_others == others

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
    for module in spec.VERSIONS.values():
        module.write(image)
    assert image == before


def test_each_version_states_itself_where_it_should(version: str) -> None:
    _, image, _ = read(rich(version))
    old = spec.VERSIONS["0.4"].write(image)
    new = spec.VERSIONS["0.5"].write(image)["ome"]
    for document, stated in ((old, "0.4"), (new, None)):
        for entry in (document["multiscales"][0], document["omero"], document["image-label"]):
            assert entry.get("version") == stated
    assert (old.get("version"), new["version"]) == (None, "0.5")


def test_labels_groups_are_written_and_read(version: str) -> None:
    attributes = spec.VERSIONS[version].write_labels(["nuclei", "deep/cells"])
    report = Report("labels")
    assert spec.detect_kind(attributes) == "labels group"
    assert spec.label_names(attributes, report) == ("nuclei", "deep/cells")
    assert report.issues == []


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
    (DATASET, "0", None, "expected an object with a path"),
    *(
        ("multiscales[0].datasets", bad, None, "list of at least one level")
        for bad in (DELETED, [], {}, None, "0")
    ),
    *(
        ("multiscales[0].axes", bad, None, "expected a list of 2 to 5 axes")
        for bad in ([], {}, None, "yx", 3)
    ),
    ("multiscales[0].axes", [Y], None, "expected 2 to 5 axes, found 1"),
    (
        "multiscales[0].axes",
        [{**Y, "name": name} for name in "abcdef"],
        None,
        "expected 2 to 5 axes, found 6",
    ),
    ("multiscales[0].axes", [Y, Y], None, "'y' twice"),
    ("multiscales[0].axes", [Y, "x"], "multiscales[0].axes[1]", "object with a name"),
    *(
        (f"{AXIS}.name", bad, None, "expected a name without '/'")
        for bad in (DELETED, None, "", 1, "x/y", ["x"])
    ),
]

ODD: list[tuple[str, Any, str | None, str, str]] = [
    (f"{DATASET}.path", 0, None, "error", "found the number 0"),
    (CHANGE, [TRANSLATION, UNIT_SCALE], None, "error", "expected the scale first"),
    ("multiscales[0].name", 3, None, "error", "expected text, found 3"),
    ("multiscales[0].type", ["x"], None, "error", "expected text"),
    (f"{AXIS}.type", DELETED, None, "warning", "is missing; read as 'space' from its name"),
    (f"{AXIS}.type", None, None, "warning", "is missing; read as 'space' from its name"),
    (f"{AXIS}.type", 3, None, "error", "expected text, found 3"),
    (f"{AXIS}.type", "channel", "multiscales[0].axes", "error", "2 or 3 axes of type 'space'"),
    (f"{AXIS}.unit", DELETED, None, "warning", "is missing: coordinates are plain numbers"),
    (f"{AXIS}.unit", None, None, "warning", "None names no unit"),
    (f"{AXIS}.unit", "", None, "warning", "'' names no unit"),
    (f"{AXIS}.unit", "parsnip", None, "warning", "not in the specification's list; kept as text"),
    (f"{AXIS}.unit", "pixel", None, "warning", "not in the specification's list; kept as text"),
    (f"{AXIS}.unit", "9**9**9", None, "warning", "not in the specification's list; kept as text"),
    (f"{AXIS}.unit", "second", None, "warning", "'second' is no unit of space"),
    (f"{AXIS}.unit", "µm", None, "warning", "read as 'micrometer'"),
    (f"{AXIS}.unit", "A", None, "warning", "read as 'angstrom'"),
    (f"{AXIS}.unit", 3, None, "error", "expected text, found 3"),
    ("omero", [], None, "error", "expected an object, found []; not used"),
    ("omero", "x", None, "error", "expected an object"),
    ("omero.channels", DELETED, None, "error", "expected a list, found None"),
    ("omero.channels", {}, None, "error", "expected a list"),
    (CHANNEL, "DAPI", None, "error", "expected an object, found 'DAPI'"),
    (f"{CHANNEL}.color", DELETED, None, "warning", "is missing"),
    (f"{CHANNEL}.color", 255, None, "error", "expected six hexadecimal digits, found 255"),
    (f"{CHANNEL}.color", "#FF0000", None, "warning", "expected six hexadecimal digits"),
    (f"{CHANNEL}.color", "red", None, "warning", "expected six hexadecimal digits"),
    (f"{CHANNEL}.window", DELETED, None, "warning", "is missing"),
    (f"{CHANNEL}.window", [0, 1], None, "error", "expected an object"),
    (f"{CHANNEL}.label", 7, None, "warning", "expected text, found 7"),
    (f"{CHANNEL}.active", "no", None, "warning", "expected true or false, found 'no'"),
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
    ("image-label.colors[1].label-value", 1, None, "error", "1 stands here again; the last one"),
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
            [1.0, 2, 3, 4],
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
    written = ome(spec.VERSIONS[version].write(image))["multiscales"][0]["axes"][1]
    assert written == ome(attributes)["multiscales"][0]["axes"][1]


@pytest.mark.parametrize("key", ["omero", "image-label"])
@pytest.mark.parametrize("stored", [[], "text", 3, False])
def test_what_is_not_used_is_kept(version: str, key: str, stored: Any) -> None:
    _, image, issues = read(put(minimal(version), key, stored))
    assert (image.omero, image.image_label) == (None, None)
    assert f"error: {key}: expected an object" in errors(issues)[0]
    assert ome(spec.VERSIONS[version].write(image))[key] == stored


def test_identity_is_a_scale(version: str) -> None:
    for place in (CHANGE, OUTER):
        attributes = put(minimal(version), place, [{"type": "identity"}])
        _, image, issues = read(attributes)
        assert errors(issues) == []
        expected = ((1, 1), (0, 0)) if place == CHANGE else ((1, 0.5), (1, 0.5))
        assert scale_and_translation(image.multiscale.levels[0].transformation, 2) == expected


def test_transformations_in_the_wrong_order_are_applied_as_they_stand(version: str) -> None:
    attributes = put(minimal(version), CHANGE, [TRANSLATION, {"type": "scale", "scale": [2, 4]}])
    _, image, _ = read(attributes)
    transformation = image.multiscale.levels[0].transformation
    assert transformation.apply([[0, 0], [1, 1]]).tolist() == [[2, 4], [4, 8]]


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (["space", "time", "space"], "expected time, then channel, then space axes; found a, b, c"),
        (["space", "space", "channel"], "expected time, then channel, then space axes"),
        (["channel", "time", "space", "space"], "expected time, then channel, then space axes"),
        (["time", "time", "space", "space"], "at most one axis of type 'time'"),
        (["channel", "phase", "space", "space"], "another type than space and time, found 2"),
        ([None, "channel", "space", "space"], "another type than space and time, found 2"),
        (["space"] * 4, "expected 2 or 3 axes of type 'space', found 4"),
        (["time", "space"], "expected 2 or 3 axes of type 'space', found 1"),
    ],
)
def test_types_of_axes(version: str, types: list[str | None], message: str) -> None:
    attributes = in_version(
        {
            "multiscales": [
                {
                    "axes": [
                        {"name": name, "type": kind}
                        for name, kind in zip("abcde", types, strict=False)
                    ],
                    "datasets": [
                        {
                            "path": "0",
                            "coordinateTransformations": [
                                {"type": "scale", "scale": [1] * len(types)}
                            ],
                        }
                    ],
                }
            ]
        },
        version,
    )
    _, image, issues = read(attributes)
    assert [axis.type for axis in image.multiscale.axes] == types
    assert any(message in text and "multiscales[0].axes:" in text for text in errors(issues))


def test_the_names_of_axes_are_free(version: str) -> None:
    attributes = minimal(version)
    put(attributes, "multiscales[0].axes[0].name", "Ünï 1")
    put(attributes, f"{AXIS}.name", "row.col")
    _, image, issues = read(attributes)
    assert [axis.name for axis in image.multiscale.axes] == ["Ünï 1", "row.col"]
    assert errors(issues) == []


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
    missing = stated in (None, DELETED)
    assert issues[0].severity == ("warning" if version == "0.4" and missing else "error")
    assert ("missing" if missing and version == "0.4" else "expected") in issues[0].message


def test_the_place_of_the_metadata_tells_the_version() -> None:
    # a 0.4 document is one in the attributes of a Zarr v3 group, too
    assert read(minimal("0.4"))[0] == "0.4"
    below = {"ome": minimal("0.4")}
    found, _, issues = read(below)
    assert found == "0.5"
    assert errors(issues) == ["error: version: expected '0.5', found None"]
    # with both, 0.5 wins
    both = {**minimal("0.4"), **minimal("0.5")}
    found, _, others = spec.read(both, Report("both"))
    assert found == "0.5"
    assert others == minimal("0.4")
    # what stands at ome need not be OME's
    found, _, others = spec.read({**minimal("0.4"), "ome": "a town"}, Report("town"))
    assert (found, others) == ("0.4", {"ome": "a town"})


DATASETS = [{"path": "0"}]


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"multiscales": [{"version": "0.1", "datasets": DATASETS}]}, "0.1"),
        ({"multiscales": [{"version": "0.2", "datasets": DATASETS}]}, "0.2"),
        ({"multiscales": [{"datasets": DATASETS}], "omero": {}}, "0.2"),
        ({"multiscales": [{"version": 2, "datasets": DATASETS}]}, "0.2"),
        ({"multiscales": [{"version": "0.3", "axes": ["y", "x"], "datasets": DATASETS}]}, "0.3"),
        ({"multiscales": [{"version": "0.5", "axes": ["y", "x"], "datasets": DATASETS}]}, "0.3"),
        ({"multiscales": [{"version": "0.9\x1b[31m", "datasets": DATASETS}]}, "0.9\ufffd[31m"),
        ({"ome": {"version": "0.6", "multiscales": [{"coordinateSystems": []}]}}, "0.6"),
        ({"ome": {"version": "0.4", "multiscales": [{"coordinateSystems": []}]}}, "0.6"),
        ({"multiscales": [{"coordinateSystems": []}]}, "0.6"),
    ],
)
def test_versions_that_cannot_be_read_yet(attributes: Json, named: str) -> None:
    expected = f"test.zarr: is OME-Zarr {named}; this release reads 0.4 and 0.5"
    with pytest.raises(UnsupportedError, match=f"^{re.escape(expected)}$"):
        read(attributes)


@pytest.mark.parametrize("stated", ["0.4", "0.5"])
def test_a_known_version_without_axes_is_at_fault(stated: str) -> None:
    with pytest.raises(MetadataError, match=r"multiscales\[0\]\.axes: expected a list"):
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
        NDPYRAMID,
        GEOZARR,
        {"multiscales": [{"tile_matrix_set": "WebMercatorQuad", "tile_matrix_limits": {}}]},
        {"plate": "AB 123"},
        {"well": 7},
        {"scene": {"name": "a view"}},
        {"labels": {"a": 1}},
        {"labels": [1, 2]},
        {"labels": "none"},
        {"series": ["0"]},
        {"ome": {}},
        {"ome": {"version": "0.5"}},
        {"ome": None},
        {"ome": "x"},
        {"ome": [{"multiscales": []}]},
    ],
)
def test_other_peoples_attributes(attributes: Json) -> None:
    assert spec.detect_kind(attributes) is None
    with pytest.raises(NotOmeError, match=r"^test\.zarr: is no OME-Zarr image"):
        read(attributes)


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"plate": {}, "bioformats2raw.layout": 3}, "plate"),
        ({"well": {"images": []}}, "well"),
        ({"bioformats2raw.layout": 3}, "collection"),
        ({"bioformats2raw.layout": 3, "series": ["0"]}, "collection"),
        ({"labels": ["a"]}, "labels group"),
    ],
)
@pytest.mark.parametrize("below", [True, False])
def test_other_kinds_name_what_to_do(document: Json, kind: str, below: bool) -> None:
    attributes = {"ome": {"version": "0.5", **document}} if below else document
    assert spec.detect_kind(attributes) == kind
    with pytest.raises(UnsupportedError, match=f"is an OME-Zarr {kind}, .*group="):
        read(attributes)


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
        ([1, None, ["a"], "good"], ("good",), 1),
        ({"a": 1}, (), 1),
        ("nuclei", (), 1),
        (7, (), 1),
    ],
)
@pytest.mark.parametrize("below", [True, False])
def test_names_of_labels(names: Any, expected: tuple[str, ...], faults: int, below: bool) -> None:
    report = Report("labels")
    attributes = {"ome": {"version": "0.5", "labels": names}} if below else {"labels": names}
    assert spec.label_names(attributes, report) == expected
    assert [issue.path for issue in report.issues] == ["labels"] * faults
    # some writers of 0.5 leave them beside ome
    assert spec.label_names({"ome": {"version": "0.5"}, "labels": ["a"]}, Report("")) == ("a",)


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
        Channel("4", window=Window(5, 1)),
        Channel("5"),
        Channel("6"),
        Channel("x" * omero.MAX_NAME),
        Channel("8"),
    )
    assert [channel.name for channel in omero.channels({"channels": entries}, 2)] == ["a", "a_2"]
    assert list(omero.by_name({"channels": entries}))[:2] == ["a", "a_2"]


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


@pytest.mark.parametrize("place", [SCALE, CHANGE, DATASET, f"{AXIS}.name", "multiscales", "omero"])
def test_deep_documents(version: str, place: str) -> None:
    nested: Any = []
    for _ in range(900):
        nested = [nested]
    attributes = put(minimal(version), place, nested)
    if place == "multiscales" and version == "0.4":
        with pytest.raises(NotOmeError):
            read(attributes)
    elif place == "omero":
        assert errors(read(attributes)[2])
    else:
        with pytest.raises(MetadataError, match=r": expected"):
            read(attributes)


# ---- noise -------------------------------------------------------------------------------------

NASTY: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 3, 10**400, -(10**400), 1e308, 5e-324, math.nan, math.inf),
    *("", "0", "\x00", "\ud800", "💥", "..", "a/../b", "/", "9**9**9", "x" * 10**5, "space", "µm"),
    *([], {}, [[]], [None], [0], [{}], {"": {}}, {"type": "scale"}, [1.0] * 7, ["y", "x"]),
]


def places(thing: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container and key in a document."""
    todo = [thing]
    while todo:
        container = todo.pop()
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            yield container, key
            if isinstance(container[key], dict | list):
                todo.append(container[key])


def spoil(document: Json, noise: random.Random) -> None:
    """Change one thing somewhere."""
    where = list(places(document))
    if not where:
        return
    container, key = noise.choice(where)
    value = container[key]
    edit = noise.randrange(7)
    if edit == 0:
        del container[key]
    elif edit == 1:
        container[key] = copy.deepcopy(noise.choice(NASTY))
    elif edit == 2:
        for _ in range(noise.choice([1, 2, 200])):
            value = [value] if noise.random() < 0.5 else {"type": value}
        container[key] = value
    elif edit == 3 and isinstance(container, list):
        container.insert(noise.randrange(len(container) + 1), value)
    elif edit == 4 and isinstance(container, dict):
        container[noise.choice(["", "version", "axes", "path", "💥", "type"])] = value
    elif edit == 5:
        other, other_key = noise.choice(where)
        if not isinstance(other[other_key], dict | list):  # no cycles
            container[key] = other[other_key]
    elif isinstance(value, str):
        container[key] = value + noise.choice(["\x00", "/", " ", "́", "s"])
    else:
        container[key] = str(value)


@pytest.mark.parametrize("seed", range(10))
def test_noise_gives_an_image_or_an_error_of_ours(seed: int) -> None:
    noise = random.Random(seed)
    outcomes = set()
    for _ in range(60):
        make = noise.choice([minimal, rich, with_omero, with_label])
        attributes = make(noise.choice(["0.4", "0.5"]))
        edits = noise.choice([1, 1, 2, 3, 8])
        for _ in range(edits):
            spoil(attributes, noise)
        try:
            version, image, _ = read(attributes)
        except NgffError:
            outcomes.add("error")
            continue
        outcomes.add("image")
        use(version, image)
    assert outcomes == {"error", "image"}


def use(version: str, image: Image) -> None:
    """Do with an image all that opening and writing it does."""
    written = spec.VERSIONS[version].write(image)
    again, found, _ = read(written)
    assert again == version
    assert same(found, image)
    count = 2
    names = [channel.name for channel in omero.channels(image.omero, count)]
    assert len(set(names)) == count
    omero.by_name(image.omero)
    for axis in image.multiscale.axes:
        omero.default_index(image.omero, axis.type, axis.name)
    image_label.colors(image.image_label)
    image_label.properties(image.image_label)
    for level in image.multiscale.levels:
        made = geometry.coordinates(
            image.multiscale.axes, (2,) * len(image.multiscale.axes), level.transformation, names
        )
        numbers = [v.values for v in made.values() if v.dtype.kind == "f"]
        assert all(np.isfinite(values).all() for values in numbers)


def test_transformations_to_named_systems_are_kept_and_not_composed() -> None:
    named = [
        {"type": "identity", "input": {"name": "yx"}, "output": {"name": "global"}},
        {"type": "scale", "scale": [3.0] * 5, "output": {"name": "other"}},
    ]
    document = minimal("0.5")
    document["ome"]["multiscales"][0]["coordinateTransformations"] = named
    report = Report("a")
    _, image, _ = spec.read(document, report)
    _, plain, _ = spec.read(minimal("0.5"), Report("a"))
    assert image.multiscale.levels == plain.multiscale.levels
    assert image.multiscale.extra["coordinateTransformations"] == named
    assert [issue.path for issue in report.issues if issue.severity == "error"] == [
        "multiscales[0].coordinateTransformations"
    ]
    written = spec.VERSIONS["0.5"].write(image)
    assert written["ome"]["multiscales"][0]["coordinateTransformations"] == named


@pytest.mark.parametrize("nothing", [None, []])
def test_an_empty_list_for_all_levels_changes_nothing(nothing: Any) -> None:
    document = minimal("0.4")
    document["multiscales"][0]["coordinateTransformations"] = nothing
    report = Report("a")
    _, image, _ = spec.read(document, report)
    _, plain, _ = spec.read(minimal("0.4"), Report("a"))
    assert image.multiscale.levels == plain.multiscale.levels
    assert any(issue.path.endswith("coordinateTransformations") for issue in report.issues)
