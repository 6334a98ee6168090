"""The specification's own documents of every version and kind, hostile ones, and noise."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_spec import (
    ENDS,
    GROUPS,
    MAKERS,
    VERSIONS,
    WRITTEN,
    Json,
    errors,
    minimal,
    ome,
    plate,
    put,
    read,
    rich,
    same,
    scene,
    well,
    with_label,
    with_omero,
)

from ngff_xarray import geometry, spec
from ngff_xarray.errors import Issue, NgffError, NotOmeError, UnsupportedError
from ngff_xarray.model import Collection, Fields, Image, Plate, Scene
from ngff_xarray.spec import image_label, omero, rules
from ngff_xarray.spec.report import Report
from ngff_xarray.transforms import Identity
from ngff_xarray.validation import Validation, validate_document

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"
needs_corpus = pytest.mark.skipif(
    not CORPUS.is_dir(), reason=f"the specification's documents are not at {CORPUS}"
)

# ---- the specification's own documents ---------------------------------------------------------

INDEX: list[Json] = json.loads((CORPUS / "index.json").read_text()) if CORPUS.is_dir() else []


def cases(*expected: str, kind: str | None = None) -> list[Any]:
    """Return the documents that the specification's prose calls so."""
    found = [
        pytest.param(case, id=case["id"])
        for case in INDEX
        if case["expected_prose"] in expected and kind in (None, case["kind"])
    ]
    return found or [pytest.param({}, id="missing")]


def load(case: Json) -> Json:
    attributes: Json = json.loads((CORPUS / case["path"]).read_text())
    return attributes


def validations(case: Json) -> Iterator[Validation]:
    """Yield what is found with and without saying what kind and version the document is of."""
    attributes = load(case)
    before = copy.deepcopy(attributes)
    for kind in (None, case["kind"]):
        for version in (None, case["spec_version"]):
            yield validate_document(attributes, kind=kind, version=version)
    assert attributes == before


# documents about the acquisitions of a plate whose rows and columns are swapped besides: upstream
# mended them in 0.5 only (SPEC.md 1.9). They break a MUST, whatever they are labelled
SWAPPED = {
    f"{version}/plate/invalid/ngff-spec/{name}"
    for version, names in {
        "0.4": ("strict_missing_name", "strict_missing_version"),
        "0.6rc0": ("strict_missing_name",),
    }.items()
    for name in (
        *names,
        "strict_missing_acquisition_name",
        "strict_missing_acquisition_maximumfieldcount",
    )
}
# 0.1 and 0.2 look the same
GUESSED = {"0.1/image/valid/ngff/missing_version": "0.2", "0.1/image/valid/ngff/image": "0.2"}


@needs_corpus
def test_the_corpus_is_what_it_was() -> None:
    counts: dict[str, int] = {}
    for case in INDEX:
        counts[case["expected_prose"]] = counts.get(case["expected_prose"], 0) + 1
    assert counts == {"valid": 132, "invalid": 283, "warning": 15, "fragment": 8, "ambiguous": 1}
    assert len(SWAPPED) == 7
    assert {case["id"] for case in INDEX} >= SWAPPED | set(GUESSED)


@needs_corpus
@pytest.mark.parametrize("case", cases("valid"))
def test_what_is_valid_is_accepted(case: Json) -> None:
    for found in validations(case):
        assert found.errors == ()
        assert found.valid


@needs_corpus
@pytest.mark.parametrize("case", cases("invalid"))
def test_what_is_invalid_is_rejected(case: Json) -> None:
    for found in validations(case):
        assert not found.valid


@needs_corpus
@pytest.mark.parametrize("case", cases("warning", "fragment"))
def test_what_is_odd_is_accepted_with_a_warning(case: Json) -> None:
    for found in validations(case):
        if case["id"] in SWAPPED:
            swapped = {rules.WELL_PATH.text, rules.WELL_INDEX.text}
            assert {issue.rule for issue in found.errors} <= swapped
            assert found.errors[0].message == "'A/1': 'A' is none of the rows"
        else:
            assert found.errors == ()
        assert found.warnings


@needs_corpus
@pytest.mark.parametrize("case", cases("ambiguous"))
def test_what_is_ambiguous_breaks_the_prose_alone(case: Json) -> None:
    # axes of type 'array': the schema allows them, the prose wants two or three of space
    allowed = {rules.AXES_SPACE.text, rules.AXES_OTHERS.text}
    for found in validations(case):
        assert {issue.rule for issue in found.errors} == allowed


KINDS = {
    "bf2raw": "collection",
    "ome-series": "series",
    "label": "image",
    "transform": "image",
}


@needs_corpus
@pytest.mark.parametrize("case", cases("valid"))
def test_versions_and_kinds_are_found(case: Json) -> None:
    report = Report(case["id"])
    version, kind, _, _ = spec.read(load(case), report)
    assert version == GUESSED.get(case["id"], case["spec_version"][:3])
    expected = KINDS.get(case["kind"], case["kind"])
    assert kind == expected or (case["kind"], kind) == ("transform", "scene")
    assert report.version == version
    assert report.faults == []
    assert errors(report.issues) == []


@needs_corpus
@pytest.mark.parametrize("case", cases("fragment"))
def test_parts_of_a_document_are_no_group(case: Json) -> None:
    with pytest.raises(NotOmeError):
        spec.read(load(case), Report(case["id"]))
    whole = minimal(case["spec_version"][:3])
    ome(whole)["image-label"] = ome(load(case))["image-label"]
    _, image, issues = read(whole)
    assert image.image_label is not None
    assert errors(issues) == []


@needs_corpus
@pytest.mark.parametrize("case", cases("valid", "invalid", "warning", "fragment", "ambiguous"))
def test_every_issue_explains_itself(case: Json) -> None:
    for found in validations(case):
        for issue in found.issues:
            check_issue(issue, found.version)
        assert json.loads(found.to_json())["valid"] is found.valid
        assert str(found).startswith("valid: " if found.valid else "invalid: ")
        assert "<table" in found._repr_html_() or not found.issues


def check_issue(issue: Issue, version: str) -> None:
    """Check that an issue says where, what, and what to do, in a few words."""
    assert issue.message
    assert len(issue.message) <= 500
    assert issue.message.isprintable()
    if issue.rule:
        assert issue.section.startswith(f"OME-Zarr {version}, ")
        assert issue.mend
    else:
        assert (issue.section, issue.mend) == ("", "")
        assert "no OME-Zarr" in issue.message or "there is no" in issue.message


def written_and_read(
    content: spec.Content, others: Json, target: str, **options: Any
) -> tuple[Json, spec.Content, Json]:
    """Return what is written in a version beside other attributes, and what is read from it."""
    written = json.loads(json.dumps({**others, **spec.writer(target)(content, **options)}))
    version, _, again, others = spec.read(written, Report("written"))
    assert version == target
    return written, again, others


def with_place(content: spec.Content) -> spec.Content:
    """Return an image whose levels lie somewhere, as opening it gives them."""
    if not isinstance(content, Image):
        return content
    levels = tuple(
        replace(level, transformation=level.transformation or Identity())
        for level in content.multiscale.levels
    )
    return replace(content, multiscale=replace(content.multiscale, levels=levels))


def beyond(content: Image) -> bool:
    """Tell whether there are coordinate systems that only 0.6 can say."""
    return bool(content.multiscale.transformations) or len(content.multiscale.systems) > 1


@needs_corpus
@pytest.mark.parametrize("target", WRITTEN)
@pytest.mark.parametrize("case", cases("valid"))
def test_reading_what_was_written(case: Json, target: str) -> None:
    name, _, read_, others = spec.read(load(case), Report(case["id"]))
    content = with_place(read_)
    before = copy.deepcopy(content)
    if (isinstance(content, Scene) or (isinstance(content, Image) and beyond(content))) and (
        target != "0.6"
    ):
        with pytest.raises(UnsupportedError, match=r"write version 0\.6"):
            spec.writer(target)(content)
        if isinstance(content, Scene):
            return
        written, again, beside = written_and_read(content, others, target, lossy=True)
    else:
        written, again, beside = written_and_read(content, others, target)
    assert content == before
    assert type(again) is type(content)
    assert_same(content, again, others, beside, exact=name == target)
    validated = validate_document(written)
    assert validated.errors == () or case["id"] in STRICTER.get(target, set())
    # and once more: what is written then is the same text
    assert written_and_read(again, beside, target)[0] == written


# valid documents that the version they are written in does not allow, and are written all the
# same: names of fields that stores of 0.4 have, too (SPEC.md 1.9)
_SPECIAL = "0.6rc0/well/valid/ngff-spec/minimal_path_special_char"
STRICTER = {"0.4": {_SPECIAL}, "0.5": {_SPECIAL}}


def assert_same(
    content: spec.Content, again: spec.Content, others: Json, beside: Json, *, exact: bool
) -> None:
    """Check that nothing was lost, as far as both versions say it.

    0.4 keeps the keys of OME's that nobody knows among those of others.
    """
    if isinstance(content, Image):
        assert isinstance(again, Image)
        assert {**beside, **again.extra} == {**others, **content.extra} or exact
        same_extra = again if exact else replace(again, extra=content.extra)
        assert same(content, same_extra, systems=exact)
    elif isinstance(content, Plate):
        assert isinstance(again, Plate)
        assert again.wells == content.wells
        # rows and columns that only wells name are written as well
        for key in ("rows", "columns"):
            names: tuple[tuple[str, ...], ...] = (getattr(content, key), getattr(again, key))
            named = {getattr(well, key.removesuffix("s")) for well in content.wells}
            assert names[1][: len(names[0])] == names[0]
            assert set(names[1][len(names[0]) :]) == named - set(names[0])
        left, right = (
            {k: v for k, v in each.document.items() if k not in ("rows", "columns", "wells")}
            for each in (content, again)
        )
        assert left == right
        for old, new in zip(content.document["wells"], again.document["wells"], strict=True):
            assert old.items() <= new.items()
        assert again.extra == content.extra or not exact
    elif isinstance(content, Collection):
        assert isinstance(again, Collection)
        assert again.paths == content.paths
        left, right = (
            {k: v for k, v in each.document.items() if k != "version"} for each in (content, again)
        )
        assert left == right
    else:
        assert isinstance(content, Fields | Scene)
        assert again == content if exact else replace(again, extra=content.extra) == content


# ---- deep and huge documents -------------------------------------------------------------------

SECONDS = 5.0


@contextlib.contextmanager
def soon() -> Iterator[None]:
    """Check that what is done inside takes less processor time than a person waits."""
    start = time.process_time()
    yield
    assert time.process_time() - start < SECONDS


def survives(attributes: Json, *, kind: str | None = None) -> None:
    """Check that a document is read, validated and written, each soon, with no error but ours."""
    content: spec.Content | None = None
    with soon():
        found = validate_document(attributes, kind=kind)
    with soon(), contextlib.suppress(NgffError):
        _, _, content, _ = spec.read(attributes, Report("test.zarr"), kind=kind)
    for target in WRITTEN if content is not None else ():
        with soon(), contextlib.suppress(NgffError):
            spec.writer(target)(with_place(content))
    assert content is not None or not found.valid
    for issue in (*found.issues[:100], *found.issues[-100:]):
        check_issue(issue, found.version)


def nested(depth: int, key: str | None) -> Any:
    """Return lists in lists, or objects in lists in objects."""
    thing: Any = []
    for _ in range(depth):
        thing = [thing] if key is None else [{"type": "sequence", key: thing}]
    return thing


@pytest.mark.parametrize(
    ("depth", "key"),
    [(900, "transformations"), *((100_000, key) for key in (None, "transformations", "forward"))],
)
@pytest.mark.parametrize(
    ("kind", "version"), [group for group in GROUPS if group[1] in ("0.3", "0.4", "0.6")]
)
def test_deep_documents(kind: str, version: str, depth: int, key: str | None) -> None:
    make, _ = MAKERS[kind]
    deep = nested(depth, key)
    for i in range(len(list(places(make(version))))):
        for thing in (deep, deep and deep[0]):
            attributes = make(version)
            container, place = list(places(attributes))[i]
            container[place] = thing
            survives(attributes, kind=kind)
    attributes = make(version)
    ome(attributes)["deep"] = deep
    assert validate_document({**attributes, "beside": deep}).valid
    survives({**attributes, "beside": deep})


def many(version: str, count: int) -> Json:
    """Return an image of as many levels."""
    attributes = minimal(version)
    entry = ome(attributes)["multiscales"][0]
    text = json.dumps(entry["datasets"][0])
    entry["datasets"] = [json.loads(text.replace('"0"', f'"{i}"')) for i in range(count)]
    return attributes


LONG = "m" * 200_000


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.3", "0.5", "0.6"])
def test_huge_images(version: str) -> None:
    attributes = many(version, 10_000)
    assert validate_document(attributes).valid
    survives(attributes)
    entry = ome(minimal(version))["multiscales"][0]
    for entries in ([{**entry, "name": str(i)} for i in range(2000)], [entry] * 2000):
        survives(put(minimal(version), "multiscales", entries))


@pytest.mark.slow
def test_huge_channels_and_labels() -> None:
    version = "0.5"
    for channel, count in (({"label": "a"}, 100_000), ({"label": LONG, "color": LONG}, 1000)):
        survives(put(minimal(version), "omero", {"channels": [channel] * count}))
    labels = [{"label-value": i // 2, "rgba": [1, 2]} for i in range(100_000)]
    survives(put(minimal(version), "image-label", {"colors": labels, "properties": labels}))


@pytest.mark.parametrize("text", [LONG, LONG + "/" + LONG, "/".join("m" * 100_000)])
@pytest.mark.parametrize(("kind", "version"), GROUPS)
def test_long_texts(kind: str, version: str, text: str) -> None:
    make, _ = MAKERS[kind]
    for i in range(len(list(places(make(version))))):
        attributes = make(version)
        container, place = list(places(attributes))[i]
        container[place] = text
        survives(attributes, kind=kind)
        if isinstance(container, dict):
            attributes = make(version)
            container, place = list(places(attributes))[i]
            container[text] = container.pop(place)
            survives(attributes, kind=kind)


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
@pytest.mark.parametrize(
    "unit", [LONG, "9**" * 70_000, "µ" * 200_000, " " * 200_000, "m/" * 100_000]
)
def test_long_units(version: str, unit: str) -> None:
    place = "coordinateSystems[0].axes" if version == "0.6" else "axes"
    attributes = put(minimal(version), f"multiscales[0].{place}[0].unit", unit)
    survives(attributes)
    assert validate_document(attributes).valid


@pytest.mark.parametrize("version", ["0.1", "0.6"])
def test_huge_groups(version: str) -> None:
    names = [{"name": f"n{i}"} for i in range(3000)]
    wells = [{"path": f"n{i}/n{i}", "rowIndex": i, "columnIndex": i} for i in range(3000)]
    for rows in (names, []):
        attributes = put(plate(version), "plate.wells", wells)
        put(attributes, "plate.rows", rows)
        survives(put(attributes, "plate.columns", rows))
    for key in ("wells", "rows", "acquisitions"):
        survives(put(plate(version), f"plate.{key}", [{"id": i} for i in range(30_000)]))
    fields = [{"path": str(i // 2)} for i in range(30_000)]
    survives(put(well(version), "well.images", fields))
    paths = [str(i) for i in range(100_000)]
    for kind, key in (("labels group", "labels"), ("series", "series")):
        attributes = put(MAKERS[kind][0](version), key, paths)
        survives(attributes)
        assert validate_document(attributes).valid


@pytest.mark.slow
@pytest.mark.parametrize(("container", "count"), [("scene", 10_000), ("multiscales[0]", 3000)])
def test_huge_graphs(container: str, count: int) -> None:
    axes = [{"name": name, "type": "space", "unit": "meter"} for name in "yx"]
    systems = [{"name": str(i) if i else "yx", "axes": axes} for i in range(count)]
    links = [
        {"type": "identity", "input": {"name": first["name"]}, "output": {"name": then["name"]}}
        for first, then in itertools.pairwise(systems)
    ]
    attributes = (scene if container == "scene" else minimal)("0.6")
    put(attributes, f"{container}.coordinateSystems", systems)
    for made in (links[:1], links[:1] * count, links[::-1], links):
        survives(put(attributes, f"{container}.coordinateTransformations", made))


@pytest.mark.slow
def test_huge_transformations() -> None:
    wide = [1.0] * 100_000
    scales = [{"type": "scale", "scale": [1, 1]}] * 10_000
    parts = [
        {"inputAxes": [i], "outputAxes": [i], "transformation": {"type": "identity"}}
        for i in range(10_000)
    ]
    for made in (
        {"type": "scale", "scale": wide},
        {"type": "translation", "translation": wide},
        {"type": "mapAxis", "mapAxis": list(range(100_000))},
        {"type": "affine", "affine": [wide] * 3},
        {"type": "affine", "affine": [[1, 2]] * 100_000},
        {"type": "rotation", "rotation": [[1.0] * 500] * 500},
        {"type": "sequence", "transformations": scales},
        {"type": "byDimension", "transformations": parts},
        {"type": "projectAxis", "droppedInputs": list(range(100_000))},
    ):
        survives(put(scene("0.6"), "scene.coordinateTransformations[0]", {**ENDS_OF_SCENE, **made}))
        level = "multiscales[0].datasets[0].coordinateTransformations[0]"
        survives(put(minimal("0.6"), level, {**ENDS, **made}))


ENDS_OF_SCENE = {"input": {"path": "tile", "name": "yx"}, "output": {"name": "world"}}


# ---- noise -------------------------------------------------------------------------------------

NASTY: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 3, 10**400, -(10**400), 1e308, 5e-324, math.nan, math.inf),
    *("", "0", "\x00", "\ud800", "💥", "..", "a/../b", "/", "9**9**9", "x" * 10**5, "space", "µm"),
    *([], {}, [[]], [None], [0], [{}], {"": {}}, {"type": "scale"}, [1.0] * 7, ["y", "x"]),
]
KEYS = ["", "version", "axes", "path", "💥", "type", "name", "input", "transformations", "wells"]


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
        container[noise.choice(KEYS)] = value
    elif edit == 5:
        other, other_key = noise.choice(where)
        if not isinstance(other[other_key], dict | list):  # no cycles
            container[key] = other[other_key]
    elif isinstance(value, str):
        container[key] = value + noise.choice(["\x00", "/", " ", "́", "s"])
    else:
        container[key] = str(value)


MADE: list[Callable[[str], Json]] = [minimal, rich, with_omero, with_label]


@pytest.mark.parametrize("seed", range(10))
def test_noise_gives_an_image_or_an_error_of_ours(seed: int) -> None:
    noise = random.Random(seed)
    outcomes = {attempt(noise.choice(MADE)(noise.choice(["0.4", "0.5"])), noise) for _ in range(60)}
    assert outcomes >= {"error", "Image"}


@pytest.mark.parametrize(("kind", "version"), GROUPS)
def test_noise_in_groups_of_every_kind_and_version(kind: str, version: str) -> None:
    noise = random.Random(f"{kind} {version}")
    make, form = MAKERS[kind]
    assert form.__name__ in {attempt(make(version), noise) for _ in range(60)}


@needs_corpus
@pytest.mark.parametrize("case", cases("valid"))
def test_noise_in_the_documents_of_the_specification(case: Json) -> None:
    noise = random.Random(case["id"])
    text = json.dumps(load(case))
    for _ in range(60):
        attempt(json.loads(text), noise)


def attempt(attributes: Json, noise: random.Random) -> str:
    """Spoil a document, do all that is done with one, and return what came of it."""
    for _ in range(noise.choice([1, 1, 2, 3, 8])):
        spoil(attributes, noise)
    kind = noise.choice([None, None, *MAKERS, "label"])
    version = noise.choice([None, None, *VERSIONS])
    for found in (
        validate_document(attributes),
        validate_document(attributes, kind=kind, version=version),
    ):
        assert str(found)
        assert all(issue.message for issue in found.issues)
        assert all(issue.section and issue.mend for issue in found.issues if issue.rule)
    with contextlib.suppress(NgffError):
        spec.read(attributes, Report("test.zarr"), kind=kind, version=version)
    report = Report("test.zarr")
    try:
        version, _, content, _ = spec.read(attributes, report)
    except NgffError:
        assert not validate_document(attributes).valid or spec.detect_kind(attributes) == "label"
        return "error"
    assert report.faults == []
    written_again(content, max(version, "0.4"))
    if isinstance(content, Image):
        use(content)
    return type(content).__name__


def written_again(content: spec.Content, version: str) -> None:
    """Check that what was read is written, and read again as the same."""
    content = with_place(content)
    try:
        written = spec.writer(version)(content)
    except UnsupportedError:
        assert isinstance(content, Plate)  # of an older version, or with faults in its paths
        return
    _, _, again, _ = spec.read(written, Report("written"))
    assert type(again) is type(content)
    if isinstance(content, Image):
        assert isinstance(again, Image)
        assert same(again, content)
    elif isinstance(content, Plate):
        assert isinstance(again, Plate)
        assert again.wells == content.wells
    else:
        assert isinstance(content, Fields | Collection | Scene)
        assert isinstance(again, Fields | Collection | Scene)
        assert again.paths == content.paths


def use(image: Image) -> None:
    """Do with an image all that opening it does."""
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
            image.multiscale.axes,
            (2,) * len(image.multiscale.axes),
            level.transformation or Identity(),
            names,
        )
        numbers = [v.values for v in made.values() if v.dtype.kind == "f"]
        assert all(np.isfinite(values).all() for values in numbers)
