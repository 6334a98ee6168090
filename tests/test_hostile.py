"""Stores that are wrong, odd or hostile: each opens, or says in an error of ours why not.

`test_corpus` does the same to documents alone; here they stand in stores, with arrays.
"""

from __future__ import annotations

import copy
import json
import math
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from test_corpus import spoil

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


def survive(store: MemoryStore) -> str:
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
                if array.size:
                    read_pixel(array)
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


def read_pixel(array: xr.DataArray) -> None:
    try:
        array[(0,) * array.ndim].values
    except NgffError:
        pass


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
        outcomes.add(survive(store_of(case, attributes)))
    assert outcomes >= {"opened", "MetadataError"}
