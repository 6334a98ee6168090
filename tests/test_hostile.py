"""Stores that are wrong, odd or hostile: each opens, or says in an error of ours why not.

`test_corpus` does the same to documents alone; here they stand in stores, with arrays.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from stores import AXES, write_image, write_plate, write_scene, write_series
from test_corpus import spoil
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

import ngff_xarray
from ngff_xarray import spec
from ngff_xarray.errors import MetadataError, NgffError, NotOmeError
from ngff_xarray.spec.values import is_relative

Json = dict[str, Any]
CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"
needs_corpus = pytest.mark.skipif(
    not CORPUS.is_dir(), reason=f"the specification's documents are not at {CORPUS}"
)
INDEX: list[Json] = json.loads((CORPUS / "index.json").read_text()) if CORPUS.is_dir() else []


@pytest.fixture(autouse=True)
def _never_hangs() -> Iterator[None]:
    """Turn a hang into a failure, where the platform can."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def give_up(*args: Any) -> None:
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


# ---- a store around a document -----------------------------------------------------------------


def entries(value: Any) -> list[Json]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def ome(attributes: Json) -> Json:
    found = attributes.get("ome")
    return found if isinstance(found, dict) else attributes


def count_axes(multiscale: Json) -> int:
    """Return how many dimensions the arrays of an image should have; 5 where nothing tells."""
    systems = entries(multiscale.get("coordinateSystems"))
    text = json.dumps(multiscale.get("datasets"))
    used = [s for s in systems if json.dumps({"name": s.get("name")})[1:-1] in text] or systems
    axes = multiscale.get("axes", used[0].get("axes") if used else None)
    if isinstance(axes, list) and 0 < len(axes) < 9:
        return len(axes)
    for dataset in entries(multiscale.get("datasets")):
        for link in entries(dataset.get("coordinateTransformations")):
            if isinstance(link.get("scale"), list) and 0 < len(link["scale"]) < 9:
                return len(link["scale"])
    return 5


def level_paths(multiscale: Json) -> list[str]:
    paths = [dataset.get("path") for dataset in entries(multiscale.get("datasets"))]
    texts = [str(path) if isinstance(path, int) else path for path in paths]
    good = [path.strip("/") for path in texts if isinstance(path, str) and is_relative(path)]
    return list(dict.fromkeys(good))


def array_documents(ndim: int, size: int, zarr_format: int) -> Json:
    """Return the metadata document of an array of uint8 without chunks: all are 7."""
    shape = [1] * max(ndim - 2, 0) + [size] * min(ndim, 2)
    if zarr_format == 2:
        return {
            "zarr_format": 2,
            "shape": shape,
            "chunks": shape,
            "dtype": "|u1",
            "compressor": None,
            "filters": None,
            "fill_value": 7,
            "order": "C",
            "dimension_separator": "/",
        }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "bytes"}],
        "fill_value": 7,
        "attributes": {},
    }


class Files:
    """Gathers the metadata of a hierarchy."""

    def __init__(self, zarr_format: int) -> None:
        self.zarr_format = zarr_format
        self.documents: dict[str, Any] = {}

    def group(self, path: str, attributes: Json) -> None:
        prefix = f"{path}/" if path else ""
        if self.zarr_format == 2:
            self.documents[f"{prefix}.zgroup"] = {"zarr_format": 2}
            self.documents[f"{prefix}.zattrs"] = attributes
        else:
            head = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
            self.documents[f"{prefix}zarr.json"] = head

    def array(self, path: str, ndim: int, size: int) -> None:
        name = ".zarray" if self.zarr_format == 2 else "zarr.json"
        self.documents[f"{path}/{name}"] = array_documents(ndim, size, self.zarr_format)

    def image(self, path: str, attributes: Json) -> None:
        """Add a group with the arrays that its images list, each half as large as the last."""
        self.group(path, attributes)
        for multiscale in entries(ome(attributes).get("multiscales")):
            ndim = count_axes(multiscale)
            for i, level in enumerate(level_paths(multiscale)):
                self.array(f"{path}/{level}".strip("/"), ndim, max(16 >> i, 1))

    def store(self) -> MemoryStore:
        """Return the store, read as JSON: what JSON cannot say is not in there."""
        prototype = default_buffer_prototype().buffer
        return MemoryStore(
            {
                key: prototype.from_bytes(json.dumps(document).encode())
                for key, document in self.documents.items()
            }
        )


def plain_image(version: str) -> Json:
    """Return the attributes of an image of one level with axes y and x."""
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scale: Json = {"type": "scale", "scale": [1.0, 1.0]}
    if version < "0.4":
        # 5-D, as 0.1 and 0.2 have it
        return {"multiscales": [{"version": version, "datasets": [{"path": "0"}]}]}
    if version < "0.6":
        dataset = {"path": "0", "coordinateTransformations": [scale]}
        multiscale: Json = {"axes": axes, "datasets": [dataset]}
        if version == "0.5":
            return {"ome": {"version": "0.5", "multiscales": [multiscale]}}
        return {"multiscales": [{**multiscale, "version": "0.4"}]}
    scale |= {"input": {"path": "0"}, "output": {"name": "physical"}}
    dataset = {"path": "0", "coordinateTransformations": [scale]}
    systems = [{"name": "physical", "axes": axes}]
    multiscale = {"coordinateSystems": systems, "datasets": [dataset]}
    return {"ome": {"version": "0.6", "multiscales": [multiscale]}}


def with_multiscales(attributes: Json, version: str) -> Json:
    """Return the attributes of a label image with a plain image, where there is none."""
    content = ome(attributes)
    if not isinstance(content.get("image-label", None), dict | list) or "multiscales" in content:
        return attributes
    content = {**content, "multiscales": ome(plain_image(version))["multiscales"]}
    return {**attributes, "ome": content} if "ome" in attributes else content


def paths_in(value: Any) -> list[str]:
    """Return the paths that a list holds, as text or in objects."""
    found = [v.get("path") if isinstance(v, dict) else v for v in value or []]
    return [path.strip("/") for path in found if isinstance(path, str) and is_relative(path)]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def under(value: Any, key: str) -> list[Any]:
    return listed(value.get(key)) if isinstance(value, dict) else []


def store_around(attributes: Json, version: str, zarr_format: int) -> MemoryStore:
    """Return a store with a document at its root and, below, all that it speaks of.

    The first of several wells, fields or images is there, the others are not.
    """
    files = Files(zarr_format)
    content = ome(attributes)
    files.image("", attributes)
    plain = plain_image(version[:3])
    for well in paths_in(under(content.get("plate"), "wells"))[:1]:
        fields = {"images": [{"path": "0"}]}
        said = {"well": fields if version >= "0.5" else {"version": version, **fields}}
        files.group(well, {"ome": {"version": version[:3], **said}} if version >= "0.5" else said)
        files.image(f"{well}/0", plain)
    scene = content.get("scene", content)
    ends = [
        link.get(key)
        for link in entries(under(scene, "coordinateTransformations"))
        for key in ("input", "output")
    ]
    below = [
        *paths_in(under(content.get("well"), "images"))[:1],
        *(path for path in paths_in(ends) if "multiscales" not in content),
    ]
    for path in below:
        files.image(path, plain)
    if "bioformats2raw.layout" in content:
        files.image("0", plain)
    return files.store()


def load(case: Json) -> Json:
    attributes: Json = json.loads((CORPUS / case["path"]).read_text())
    version = case["spec_version"]
    return with_multiscales(attributes, version) if case["kind"] == "label" else attributes


def store_of(case: Json, attributes: Json) -> MemoryStore:
    return store_around(attributes, case["spec_version"], 2 if case["form"] == "v2" else 3)


def cases(*expected: str) -> list[Any]:
    """Return the documents that the specification's prose calls so."""
    found = [
        pytest.param(case, id=case["id"]) for case in INDEX if case["expected_prose"] in expected
    ]
    return found or [pytest.param({}, id="missing")]


def use(tree: xr.DataTree) -> int:
    """Read a pixel of every level and show the tree; return the number of levels."""
    count = 0
    for node in tree.subtree:
        for array in node.data_vars.values():
            if 0 not in array.shape:
                assert int(array[(0,) * array.ndim]) == 7
                count += 1
    assert str(tree.ngff.issues).isprintable()
    for text in (repr(tree.ngff), tree.ngff._repr_html_(), repr(tree)):
        assert len(text) < 100_000
    return count


# ---- the invalid documents of the specification ------------------------------------------------


@needs_corpus
@pytest.mark.parametrize("case", cases("invalid"))
def test_what_is_invalid_opens_with_an_issue_or_says_why_not(case: Json) -> None:
    attributes = load(case)
    try:
        tree = xr.open_datatree(store_of(case, attributes), engine="ngff", wells="all")
    except MetadataError as error:
        assert error.issues
        assert all(issue.severity == "error" and issue.message for issue in error.issues)
        assert any(issue.path for issue in error.issues)
        assert error.issues[0].path in str(error)
    except NotOmeError as error:
        # nothing to have a path
        assert spec.detect_kind(attributes) is None
        assert "is no OME-Zarr" in str(error)
    else:
        assert use(tree) > 0 or "multiscales" not in ome(attributes)
        assert any(issue.severity == "error" for issue in tree.ngff.issues)


@needs_corpus
@pytest.mark.parametrize("case", cases("valid"))
def test_what_is_valid_opens(case: Json) -> None:
    tree = xr.open_datatree(store_of(case, load(case)), engine="ngff", wells="all")
    use(tree)


# ---- noise -------------------------------------------------------------------------------------


def survive(store: MemoryStore, *, pixels: bool = False) -> str:
    """Do with a store all that may end in an error of ours; return what became of it."""
    outcome = "opened"
    try:
        tree = xr.open_datatree(store, engine="ngff", wells="all")
    except NgffError as error:
        assert len(str(error)) < 100_000
        outcome = type(error).__name__
    else:
        for text in (repr(tree.ngff), tree.ngff._repr_html_()):
            assert len(text) < 100_000
        repr(tree)
        tree._repr_html_()
        for node in tree.subtree:
            for array in node.data_vars.values():
                if array.size and pixels:
                    array[(0,) * array.ndim].load()
    for look in (ngff_xarray.validate, ngff_xarray.repair):
        try:
            found: Any = look(store)
        except NgffError:
            continue
        for text in (str(found), found._repr_html_()):
            assert all(line.isprintable() for line in text.split("\n"))
        if look is ngff_xarray.validate:
            json.loads(found.to_json())
            assert not found.valid or outcome == "opened"
    return outcome


@needs_corpus
@pytest.mark.parametrize("seed", range(6))
def test_noise_in_documents(seed: int) -> None:
    noise = random.Random(seed)
    outcomes = set()
    valid = [case for case in INDEX if case["expected_prose"] == "valid"]
    for _ in range(60):
        case = noise.choice(valid)
        attributes = load(case)
        for _ in range(noise.choice([1, 1, 2, 3, 8])):
            spoil(attributes, noise)
        outcomes.add(survive(store_of(case, attributes), pixels=True))
    assert outcomes >= {"opened", "MetadataError"}


def write_hierarchies(folder: Path) -> list[Path]:
    """Write stores with everything that the specification has, some consolidated."""
    small: dict[str, Any] = {"axes": "cyx", "shape": (2, 8, 8), "levels": 2, "labels": {"a/b": {}}}
    omero = {"channels": [{"label": name, "color": "FF0000"} for name in "ab"]}
    systems = [{"name": "world", "axes": [AXES[name] for name in "cyx"]}]
    ends = {"input": {"path": "a", "name": "physical"}, "output": {"name": "world"}}
    links = [
        {"type": "affine", "path": "matrix", **ends},
        {"type": "displacements", "path": "field", **ends},
    ]
    written = [
        write_scene(
            folder / "scene",
            images={"a": small},
            systems=systems,
            transformations=links,
            parameters={"matrix": np.eye(3, 4), "field": {"field": np.zeros((3, 2, 4, 4))}},
        )
    ]
    for version in ("0.1", "0.4", "0.5", "0.6"):
        image: Json = {**small, "axes": "tczyx", "shape": (1, 2, 1, 8, 8)}
        for consolidated in (False, True):
            keywords: Json = {"version": version, "consolidated": consolidated}
            name = f"{version} {consolidated}"
            written += [
                write_image(folder / f"image {name}", omero=omero, **image, **keywords),
                write_plate(
                    folder / f"plate {name}", wells=["A/1"], fields=1, image=image, **keywords
                ),
            ]
        written.append(write_series(folder / f"series {version}", version=version, image=image))
    return written


@pytest.fixture(scope="module")
def hierarchies(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    return [
        {file.relative_to(path).as_posix(): file.read_bytes() for file in files}
        for path in write_hierarchies(tmp_path_factory.mktemp("hierarchies"))
        # sorted: the order that a file system lists them in is not the same everywhere
        if (files := sorted(file for file in path.rglob("*") if file.is_file()))
    ]


METADATA = ("zarr.json", ".zattrs", ".zarray", ".zmetadata", ".zgroup")


def spoil_files(files: dict[str, bytes], noise: random.Random) -> MemoryStore:
    """Return a store in which some of the metadata of groups and arrays are changed."""
    spoilt = dict(files)
    names = [name for name in files if name.endswith(METADATA)]
    for _ in range(noise.choice([1, 1, 2, 4])):
        name = noise.choice(names)
        edit = noise.randrange(12)
        if edit == 0:
            spoilt.pop(name, None)
        elif edit == 1:
            cut = noise.randrange(len(files[name]))
            spoilt[name] = files[name][:cut] + noise.choice([b"", b"\xff", b"[", b"NaN"])
        elif name in spoilt and edit > 1:
            try:
                document = json.loads(spoilt[name])
            except ValueError:
                continue
            if not isinstance(document, dict):
                continue
            for _ in range(noise.choice([1, 1, 3])):
                spoil(document, noise)
            spoilt[name] = json.dumps(document).encode()
    prototype = default_buffer_prototype().buffer
    return MemoryStore({key: prototype.from_bytes(content) for key, content in spoilt.items()})


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_noise_in_hierarchies(hierarchies: list[dict[str, bytes]], seed: int) -> None:
    noise = random.Random(seed)
    outcomes = {survive(spoil_files(noise.choice(hierarchies), noise)) for _ in range(50)}
    assert outcomes >= {"opened", "MetadataError"}


# ---- what noise has found ----------------------------------------------------------------------


def a_plate(**changed: Any) -> Json:
    wells = [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}]
    plate: Json = {"rows": [{"name": "A"}], "columns": [{"name": "1"}], "wells": wells}
    return {"ome": {"version": "0.5", "plate": {**plate, **changed}}}


def a_scene(**changed: Any) -> Json:
    ends = {"input": {"path": "a", "name": "physical"}, "output": {"name": "world"}}
    axes = [{"name": name, "type": "space"} for name in "yx"]
    scene: Json = {
        "coordinateSystems": [{"name": "world", "axes": axes}],
        "coordinateTransformations": [{"type": "identity", **ends}],
    }
    return {"ome": {"version": "0.6", "scene": {**scene, **changed}}}


NO_LISTS: list[Any] = [3, 0.5, True, None, "text", {}, {"a": 1}, [], [3], [None], [[]], [{}]]


@pytest.mark.parametrize("key", ["acquisitions", "rows", "columns", "wells", "name", "field_count"])
def test_plates_whose_parts_are_something_else(key: str) -> None:
    for value in NO_LISTS:
        survive(store_around(a_plate(**{key: value}), "0.5", 3))


@pytest.mark.parametrize("key", ["coordinateSystems", "coordinateTransformations"])
def test_scenes_whose_parts_are_something_else(key: str) -> None:
    for value in NO_LISTS:
        survive(store_around(a_scene(**{key: value}), "0.6", 3))


@pytest.mark.parametrize("key", ["series", "labels", "bioformats2raw.layout", "images"])
def test_lists_of_images_that_are_something_else(key: str) -> None:
    for value in NO_LISTS:
        files = Files(3)
        layout = value if key == "bioformats2raw.layout" else 3
        root = {"well": {"images": value}} if key == "images" else {"bioformats2raw.layout": layout}
        series = value if key == "series" else ["0"]
        files.group("", {"ome": {"version": "0.5", **root}})
        files.group("OME", {"ome": {"version": "0.5", "series": series}})
        files.image("0", plain_image("0.5"))
        files.group("0/labels", {"ome": {"version": "0.5", "labels": value}})
        survive(files.store())


@pytest.mark.parametrize("said", [{"version": "0.5"}, {}, {"": {}}, {"other": [1]}])
def test_an_ome_group_without_series(said: Json) -> None:
    files = Files(3)
    files.group("", {"ome": {"version": "0.5", "bioformats2raw.layout": 3}})
    files.group("OME", {"ome": said})
    files.image("0", plain_image("0.5"))
    survive(files.store())
    tree = xr.open_datatree(files.store(), engine="ngff")
    assert list(tree.ngff.images) == ["0"]


def test_separators_of_chunks_that_are_none() -> None:
    for separator in (*NO_LISTS, "", "\ud800", "."):
        files = Files(2)
        files.image("", plain_image("0.2"))
        files.documents["0/.zarray"]["dimension_separator"] = separator
        survive(files.store())


@pytest.mark.parametrize("version", ["0.1", "0.4", "0.5", "0.6"])
def test_sizes_that_no_array_has(version: str) -> None:
    for size in (2**31, 2**63, 2**64, -1, 0, 1.5, True, "8", None, 10**400):
        files = Files(3 if version >= "0.5" else 2)
        files.image("", plain_image(version))
        document = files.documents["0/zarr.json" if version >= "0.5" else "0/.zarray"]
        document["shape"][-1] = size
        survive(files.store())


@pytest.mark.parametrize("key", ["rows", "columns"])
def test_rows_and_columns_with_long_names(key: str) -> None:
    names = [{"name": "A" * 200_000}, *({"name": f"B{i}"} for i in range(60))]
    assert survive(store_around(a_plate(**{key: names}), "0.5", 3)) == "opened"


# ---- huge documents ----------------------------------------------------------------------------

LONG = "µ" * 200_000


def _scale(path: str) -> Json:
    return {"path": path, "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}


def _image(datasets: list[Json], axes: list[Json] | None = None, **more: Any) -> Json:
    space = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    multiscale = {"axes": space if axes is None else axes, "datasets": datasets}
    return {"ome": {"version": "0.5", "multiscales": [multiscale], **more}}


def many_levels() -> Files:
    files = Files(3)
    files.image("", _image([_scale(f"{i}") for i in range(10_000)]))
    return files


def many_levels_that_are_not_there() -> Files:
    files = Files(3)
    files.image("", _image([_scale(f"{i}") for i in range(10_000)]))
    names = ("zarr.json", "0/zarr.json", "1/zarr.json")
    files.documents = {name: files.documents[name] for name in names}
    return files


def many_channels() -> Files:
    window = {"min": 0, "max": 255, "start": 0, "end": 255}
    channels = [
        {"label": f"channel {i}", "color": "00FF00", "active": True, "window": window}
        for i in range(100_000)
    ]
    axes = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}]
    axes.append({"name": "x", "type": "space"})
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    dataset = {"path": "0", "coordinateTransformations": scale}
    files = Files(3)
    files.image("", _image([dataset], axes, omero={"channels": channels}))
    array = files.documents["0/zarr.json"]
    array["shape"] = [100_000, 2, 2]
    array["chunk_grid"]["configuration"]["chunk_shape"] = [1, 2, 2]
    return files


def many_channels_that_are_not_there() -> Files:
    channels = [{"label": "the same"} for _ in range(100_000)]
    files = Files(3)
    files.image("", _image([_scale("0")], omero={"channels": channels}))
    return files


def long_texts() -> Files:
    axes = [
        {"name": LONG, "type": "space", "unit": LONG, "longName": LONG},
        {"name": "x", "type": LONG, "unit": "kilo" * 50_000},
    ]
    channels = [{"label": LONG, "color": LONG, "family": LONG}]
    files = Files(3)
    files.image("", _image([_scale("0")], axes, omero={"channels": channels, "name": LONG}))
    said = files.documents["zarr.json"]["attributes"]["ome"]
    said["multiscales"][0] |= {"name": LONG, "type": LONG, "metadata": {LONG: LONG}}
    files.documents["0/zarr.json"]["dimension_names"] = [LONG, LONG]
    files.group("labels", {"ome": {"version": LONG, "labels": [LONG, f"a/{LONG}", "nuclei"]}})
    files.image("labels/nuclei", _image([_scale("0")], **{"image-label": {"source": {LONG: LONG}}}))
    return files


def long_names_of_groups() -> Files:
    names = [LONG, f"b{LONG}"]
    wells = [{"path": f"{LONG}/{name}", "rowIndex": 0, "columnIndex": 0} for name in names]
    files = Files(3)
    plate = {
        "name": LONG,
        "rows": [{"name": LONG}],
        "columns": [{"name": name} for name in names],
        "wells": wells,
        "acquisitions": [{"id": 1, "name": LONG, "description": LONG}],
    }
    files.group("", {"ome": {"version": "0.5", "plate": plate}})
    return files


def many_wells() -> Files:
    rows, columns = ([{"name": f"{letter}{i}"} for i in range(128)] for letter in "RC")
    wells = [
        {"path": f"R{i}/C{j}", "rowIndex": i, "columnIndex": j}
        for i in range(128)
        for j in range(125)
    ]
    files = Files(3)
    said = {"plate": {"rows": rows, "columns": columns, "wells": wells}}
    files.group("", {"ome": {"version": "0.5", **said}})
    return files


def many_fields_that_are_not_there() -> Files:
    files = Files(3)
    fields = [{"path": f"{i}"} for i in range(20_000)]
    files.group("", {"ome": {"version": "0.5", "well": {"images": fields}}})
    files.image("7", plain_image("0.5"))
    return files


def many_labels_that_are_not_there() -> Files:
    files = Files(3)
    files.image("", _image([_scale("0")]))
    labels = [f"cells {i}" for i in range(20_000)]
    files.group("labels", {"ome": {"version": "0.5", "labels": labels}})
    return files


def many_labels() -> Files:
    files = many_labels_that_are_not_there()
    for i in range(1000):
        files.image(f"labels/cells {i}", _image([_scale("0")], **{"image-label": {}}))
    return files


def many_colors_of_labels() -> Files:
    values = [{"label-value": i, "rgba": [1, 2, 3, 4]} for i in range(100_000)]
    files = Files(3)
    said = {"image-label": {"colors": values, "properties": values}}
    files.image("", _image([_scale("0")], **said))
    return files


def many_series_that_are_not_there() -> Files:
    files = Files(3)
    files.group("", {"ome": {"version": "0.5", "bioformats2raw.layout": 3}})
    series = [f"{i}" for i in range(20_000)]
    files.group("OME", {"ome": {"version": "0.5", "series": series}})
    files.image("7", plain_image("0.5"))
    return files


def many_series() -> Files:
    files = many_series_that_are_not_there()
    for i in range(1000):
        files.image(f"{i}", plain_image("0.5"))
    return files


def many_images_in_a_group() -> Files:
    entry = ome(_image([_scale("0")]))["multiscales"][0]
    files = Files(3)
    attributes = _image([])
    ome(attributes)["multiscales"] = [{**entry, "name": f"{i}"} for i in range(1000)]
    files.image("", attributes)
    return files


def many_transformations() -> Files:
    """Return a scene in which 5,000 systems hang on each other, one by one."""
    axes = [{"name": name, "type": "space"} for name in "yx"]
    systems = [{"name": f"s{i}", "axes": axes} for i in range(5000)]
    ends = [{"path": "a", "name": "physical"}, *({"name": f"s{i}"} for i in range(5000))]
    links = [
        {"type": "scale", "scale": [1.0, 2.0], "input": ends[i], "output": ends[i + 1]}
        for i in range(5000)
    ]
    files = Files(3)
    scene = {"coordinateSystems": systems, "coordinateTransformations": links}
    files.group("", {"ome": {"version": "0.6", "scene": scene}})
    files.image("a", plain_image("0.6"))
    return files


def many_steps() -> Files:
    """Return a scene with one transformation of 50,000 steps."""
    steps = [{"type": "translation", "translation": [1.0, 1.0]}] * 50_000
    attributes = a_scene()
    ome(attributes)["scene"]["coordinateTransformations"][0] |= {
        "type": "sequence",
        "transformations": steps,
    }
    files = Files(3)
    files.group("", attributes)
    files.image("a", plain_image("0.6"))
    return files


def large_array() -> Files:
    """Return an image of 10^13 pixels in as many chunks, of which none is there."""
    files = Files(3)
    files.image("", _image([_scale("0"), _scale("1")]))
    for level, size in (("0", 3_000_000), ("1", 1_500_000)):
        array = files.documents[f"{level}/zarr.json"]
        array["shape"] = [size, size]
        array["chunk_grid"]["configuration"]["chunk_shape"] = [1, 1]
    return files


def nested(depth: int, where: str) -> Files:
    deep: Any = "the end"
    for i in range(depth):
        deep = [deep] if i % 2 else {"a": deep}
    files = Files(3)
    files.image("", _image([_scale("0")], own=1))
    attributes = files.documents["zarr.json"]["attributes"]
    entry = attributes["ome"]["multiscales"][0]
    places = {
        "beside": attributes,
        "axes": entry["axes"][0],
        "level": entry["datasets"][0],
        "metadata": entry,
        "array": files.documents["0/zarr.json"]["attributes"],
    }
    key = {"level": "coordinateTransformations", "axes": "name"}.get(where, "metadata")
    places[where][key] = deep
    return files


HUGE = {
    made.__name__: made
    for made in (
        *(many_levels, many_levels_that_are_not_there),
        *(many_channels, many_channels_that_are_not_there, long_texts, long_names_of_groups),
        *(many_wells, many_fields_that_are_not_there),
        *(many_labels, many_labels_that_are_not_there, many_colors_of_labels),
        *(many_series, many_series_that_are_not_there, many_images_in_a_group),
        *(many_transformations, many_steps, large_array),
    )
}


def measure(name: str) -> None:
    """Open a huge store and show it; print what became of it, its processor time, and its size."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
    survive(store_around(a_plate(), "0.5", 3))  # what is imported late is imported now
    store = HUGE[name]().store()
    slowness = pace()
    before, start = peak_memory(), time.process_time()
    outcome, texts = "opened", []
    try:
        tree = xr.open_datatree(store, engine="ngff")
        texts = [repr(tree.ngff), repr(tree), tree.ngff._repr_html_()]
    except NgffError as error:
        outcome, texts = type(error).__name__, [str(error)]
    seconds = (time.process_time() - start) / max(slowness, pace())
    found = {"outcome": outcome, "seconds": seconds, "bytes": peak_memory() - before}
    print(json.dumps({**found, "characters": max(map(len, texts))}))


def pace() -> float:
    """Return how many times as long as on a common machine a loop takes here and now."""
    start = time.process_time()
    total = 0
    for i in range(2_000_000):
        total += i
    return max(1.0, (time.process_time() - start) / 0.1)


def peak_memory() -> int:
    """Return the most memory that this process has had, in bytes (0 where it is not told)."""
    status = Path("/proc/self/status")
    lines = status.read_text().split("\n") if status.exists() else []
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="resource limits are POSIX's")
@pytest.mark.parametrize("name", HUGE)
def test_huge_documents(name: str) -> None:
    code = f"from test_hostile import measure; measure({name!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["outcome"] in ("opened", "MetadataError")
    assert found["bytes"] < 500 * 2**20
    assert found["characters"] < 100_000
    # 5 seconds, on a machine that has nothing else to do
    assert found["seconds"] < 10


class Counted(dict[str, Any]):
    """An entry of a document that tells how many of its kind were looked at."""

    looked_at = 0

    def get(self, key: str, default: Any = None) -> Any:
        Counted.looked_at += 1
        return super().get(key, default)


@pytest.mark.slow
def test_of_a_million_labels_those_that_are_seen_are_read() -> None:
    pytest.importorskip("anywidget")
    ids = np.arange(999_000, 999_064, dtype="u4").reshape(8, 8)
    stored = [Counted({"label-value": i, "rgba": [9, i % 256, 9, 255]}) for i in range(10**6)]
    said = {"image-label": {"colors": stored, "properties": stored}}
    labels = xr.DataArray(ids, dims=("y", "x"), name="labels").assign_attrs(ome=said)
    viewer = labels.ngff.view(height=64)
    Counted.looked_at, slowness, start = 0, pace(), time.process_time()
    picture = viewer.screenshot()
    seconds = (time.process_time() - start) / max(slowness, pace())
    assert Counted.looked_at == ids.size
    assert {999_000 % 256, 999_063 % 256} <= set(picture[..., 1].flat)
    assert viewer.world.layers[0].about(999_063) == f"rgba {[9, 999_063 % 256, 9, 255]}"
    assert seconds < 1  # a tenth of it, on a machine that has nothing else to do
    viewer.close()


@pytest.mark.parametrize("where", ["beside", "axes", "level", "metadata", "array"])
@pytest.mark.parametrize("depth", [50, 300, 900])
def test_deep_documents(depth: int, where: str) -> None:
    survive(nested(depth, where).store())


@pytest.mark.parametrize("name", ["zarr.json", ".zattrs", "0/zarr.json", "labels/zarr.json"])
@pytest.mark.parametrize("depth", [10_000, 100_000])
def test_documents_that_are_too_deep_to_read(name: str, depth: int) -> None:
    files = Files(2 if name.startswith(".") else 3)
    files.image("", plain_image("0.4" if name.startswith(".") else "0.5"))
    store = files.store()
    for opening, end in (("[", "]"), ('{"multiscales":', "}"), ("[", "")):
        text = '{"attributes":' + opening * depth + "1" + end * depth + "}"
        store._store_dict[name] = default_buffer_prototype().buffer.from_bytes(text.encode())
        survive(store)
