"""Kerchunk references: what they open as, how far they may reach, and what is refused."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr
from servers import CountingServer
from stores import write_image
from stores.imaris import pixels, pyramid, write_imaris
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

import ngff_xarray
from ngff_xarray.backend import NgffBackendEntrypoint
from ngff_xarray.errors import (
    MetadataError,
    NgffError,
    StoreError,
    UnsupportedError,
    UntrustedError,
)
from ngff_xarray.storage import Access
from ngff_xarray.store import open_source
from ngff_xarray.virtual import kerchunk
from ngff_xarray.virtual.index import MAX_INLINE

References = dict[str, Any]
LEVELS = pyramid(pixels(), 2)


def inline_image(version: int | None = 1) -> References:
    """Return references that hold all of a small image themselves."""
    refs = image_of({"0/0.0": "base64:" + base64.b64encode(bytes(range(64))).decode()})
    return refs if version is None else {"version": version, "refs": refs}


def image_of(chunks: References) -> References:
    """Return the references of an image of 8 x 8 pixels with these chunks."""
    datasets = [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}
    ]
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    array = {
        "zarr_format": 2,
        "shape": [8, 8],
        "chunks": [8, 8],
        "dtype": "|u1",
        "order": "C",
        "fill_value": 0,
        "filters": None,
        "compressor": None,
    }
    attributes = {"multiscales": [{"version": "0.4", "axes": axes, "datasets": datasets}]}
    return {
        ".zgroup": json.dumps({"zarr_format": 2}),
        ".zattrs": json.dumps(attributes),
        "0/.zarray": json.dumps(array),
        **chunks,
    }


def save(path: Path, document: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def opened(source: Any, **options: Any) -> np.ndarray[Any, Any]:
    return xr.open_datatree(source, engine="ngff", **options)["0/image"].values


SQUARE = np.arange(64, dtype="u1").reshape(8, 8)


@pytest.fixture
def bin_file(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "a.bin"
    path.parent.mkdir()
    path.write_bytes(b"xxxx" + bytes(range(64)) + b"yy")
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_imaris(tmp_path / "scan.ims", LEVELS)


# ---- what they open as -------------------------------------------------------------------------


@pytest.mark.parametrize("version", [None, 1])
def test_versions_of_the_format(tmp_path: Path, version: int | None) -> None:
    path = save(tmp_path / "a.json", inline_image(version))
    np.testing.assert_array_equal(opened(path), SQUARE)
    np.testing.assert_array_equal(opened(inline_image(version)), SQUARE)


def test_xarray_finds_the_engine(tmp_path: Path) -> None:
    path = save(tmp_path / "a.json", inline_image())
    for source in (path, str(path), path.as_uri()):
        np.testing.assert_array_equal(xr.open_datatree(source)["0/image"], SQUARE)
    # kerchunk has an engine of its own for files of that name
    assert xr.open_dataset(path, engine="ngff")["image"].dims == ("y", "x")


def test_other_json_is_left_to_other_engines(tmp_path: Path) -> None:
    claims = NgffBackendEntrypoint().guess_can_open
    assert claims(save(tmp_path / "a.json", inline_image()))
    others = [
        {"version": 1, "refs": {".zgroup": '{"zarr_format": 2}', ".zattrs": "{}"}},
        {"zarr_format": 3, "node_type": "group"},
        {"a": "text"},
        {"version": 2, "refs": {}},
        [],
        3,
    ]
    for i, document in enumerate(others):
        assert not claims(save(tmp_path / f"{i}.json", document))
    (tmp_path / "b.json").write_text("{")
    assert not claims(tmp_path / "b.json")
    assert not claims(tmp_path / "absent.json")


def test_documents_may_be_objects_of_json(tmp_path: Path) -> None:
    document = inline_image()
    refs = document["refs"]
    refs[".zattrs"], refs["0/.zarray"] = json.loads(refs[".zattrs"]), json.loads(refs["0/.zarray"])
    np.testing.assert_array_equal(opened(save(tmp_path / "a.json", document)), SQUARE)


@pytest.mark.parametrize(
    "reference",
    [
        lambda path: ["data/a.bin", 4, 64],
        lambda path: [str(path), 4, 64],
        lambda path: [path.as_uri(), 4, 64],
        lambda path: ["data/whole.bin"],
        lambda path: ["{{d}}/a.{{ e }}", 4, 64],
    ],
)
def test_ways_to_refer_to_a_file(
    tmp_path: Path, bin_file: Path, reference: Callable[[Path], list[Any]]
) -> None:
    (bin_file.parent / "whole.bin").write_bytes(bytes(range(64)))
    document = {
        "version": 1,
        "templates": {"d": str(bin_file.parent), "e": "bin", "other": "{{unused}}"},
        "refs": image_of({"0/0.0": reference(bin_file)}),
    }
    path = save(tmp_path / "a.json", document)
    np.testing.assert_array_equal(opened(path), SQUARE)
    with CountingServer(tmp_path) as server:
        if not Path(str(reference(bin_file)[0]).removeprefix("file://")).is_absolute():
            document["templates"]["d"] = f"{server.url}/data"
            save(path, document)
            np.testing.assert_array_equal(opened(f"{server.url}/a.json"), SQUARE)


def test_absolute_urls_below_the_place_of_the_references(tmp_path: Path, bin_file: Path) -> None:
    with CountingServer(tmp_path) as server:
        chunk = [f"{server.url}/data/a.bin", 4, 64]
        save(tmp_path / "a.json", {"version": 1, "refs": image_of({"0/0.0": chunk})})
        assert server.count == 0
        tree = xr.open_datatree(f"{server.url}/a.json", engine="ngff")
        assert [request.path for request in server.requests] == ["/a.json"]
        np.testing.assert_array_equal(tree["0/image"], SQUARE)
        assert [request.range for request in server.requests[1:]] == ["bytes=4-67"]


def test_a_store_of_zarr_v3_in_references(tmp_path: Path) -> None:
    store = write_image(tmp_path / "scan.ome.zarr", labels={"cells": {}})
    files = (file for file in store.rglob("*") if file.is_file())
    refs = {
        file.relative_to(store).as_posix(): file.read_text()
        if file.suffix == ".json"
        else [file.relative_to(tmp_path).as_posix()]
        for file in files
    }
    path = save(tmp_path / "refs.json", {"version": 1, "refs": refs})
    found, expected = xr.open_datatree(path), xr.open_datatree(store)
    xr.testing.assert_identical(found, expected)
    copy = pickle.loads(pickle.dumps(found))
    xr.testing.assert_equal(copy, expected)


# ---- references that this package makes --------------------------------------------------------


def test_fsspec_and_zarr_read_what_references_returns(scan: Path) -> None:
    found = ngff_xarray.references(scan)
    fs = fsspec.filesystem(
        "reference",
        fo=found,
        asynchronous=True,
        remote_protocol="file",
        remote_options={"asynchronous": True, "auto_mkdir": False},
    )
    group = zarr.open_group(zarr.storage.FsspecStore(fs, read_only=True), mode="r")
    for number, level in enumerate(LEVELS):
        np.testing.assert_array_equal(group[str(number)][...], level)


def test_xarrays_kerchunk_engine_reads_what_references_writes(scan: Path, tmp_path: Path) -> None:
    pytest.importorskip("kerchunk", reason="needs kerchunk")
    ngff_xarray.references(scan, tmp_path / "refs.json")
    dataset = xr.open_dataset(
        str(tmp_path / "refs.json"),
        engine="kerchunk",
        drop_variables=["1"],
        open_dataset_options={"mask_and_scale": False},
    )
    assert dataset["0"].dims == ("t", "c", "z", "y", "x")
    np.testing.assert_array_equal(dataset["0"], LEVELS[0])


def test_references_are_written_and_read_back(scan: Path, tmp_path: Path) -> None:
    found = ngff_xarray.references(scan, tmp_path / "refs.json")
    assert json.loads((tmp_path / "refs.json").read_text()) == found
    assert ngff_xarray.references(tmp_path / "refs.json") == found
    expected = xr.open_datatree(scan, engine="ngff")
    xr.testing.assert_identical(xr.open_datatree(tmp_path / "refs.json"), expected)
    xr.testing.assert_identical(xr.open_datatree(found, engine="ngff", trust=True), expected)


@pytest.mark.parametrize("kind", ["imaris", "references", "http"])
def test_what_is_for_reading_says_so(scan: Path, server: CountingServer, kind: str) -> None:
    sources = {"imaris": scan, "http": f"{server.url}/image.zarr"}
    source = sources.get(kind) or ngff_xarray.references(scan)
    store = open_source(source, access=Access(trust=True)).store
    for refused in (store.set("0/0", default_buffer_prototype().buffer.from_bytes(b"1")),
                    store.delete("0/0")):  # fmt: skip
        with pytest.raises(StoreError, match="for reading only"):
            sync(refused)


def test_only_virtual_sources_have_references(tmp_path: Path) -> None:
    path = write_image(tmp_path / "scan.ome.zarr")
    with pytest.raises(UnsupportedError, match="expected an Imaris file"):
        ngff_xarray.references(path)


# ---- Parquet -----------------------------------------------------------------------------------


def write_parquet(path: Path, references: References, record_size: int = 5) -> Path:
    """Write references as kerchunk does, through fsspec."""
    mapper = fsspec.implementations.reference.LazyReferenceMapper.create(
        str(path), fs=fsspec.filesystem("file"), record_size=record_size, engine="pyarrow"
    )
    for key, value in references["refs"].items():
        key = key if "/.z" in key else key[:2] + key[2:].replace("/", ".")
        mapper[key] = value.replace('"/"', '"."') if isinstance(value, str) else value
    mapper.flush()
    return path


@pytest.fixture
def parquet(scan: Path, tmp_path: Path) -> Path:
    pytest.importorskip("kerchunk", reason="needs kerchunk, to write Parquet")
    return write_parquet(tmp_path / "refs.parq", ngff_xarray.references(scan))


def test_references_in_parquet(parquet: Path) -> None:
    for name in ("refs", "refs.parq"):  # as they are found by what they hold, and by their name
        parquet = parquet.rename(parquet.with_name(name))
        tree = xr.open_datatree(parquet)
        for number, level in enumerate(LEVELS):
            np.testing.assert_array_equal(tree[f"{number}/image"], level)
    copy = pickle.loads(pickle.dumps(tree))
    np.testing.assert_array_equal(copy["1/image"], LEVELS[1])


def test_parquet_is_read_in_parts_and_once(parquet: Path, tmp_path: Path) -> None:
    with CountingServer(tmp_path) as server:
        refs = ngff_xarray.references(f"{server.url}/scan.ims")
        write_parquet(parquet, refs)
        server.clear()
        tree = xr.open_datatree(f"{server.url}/refs.parq", engine="ngff")
        assert [request.path for request in server.requests] == ["/refs.parq/.zmetadata"]
        server.clear()
        np.testing.assert_array_equal(tree["1/image"], LEVELS[1])
        files = [request.path for request in server.requests if "refs." in request.path]
        assert len(files) == len(set(files))
        assert server.count - len(files) == sum(key.startswith("1/") for key in refs["refs"]) - 2


def test_parquet_may_not_reach_further(parquet: Path, tmp_path: Path, scan: Path) -> None:
    (tmp_path / "deep").mkdir()
    moved = parquet.rename(tmp_path / "deep" / "refs.parq")
    tree = xr.open_datatree(moved)
    with pytest.raises(UntrustedError, match=r"scan\.ims"):
        tree["0/image"].load()
    np.testing.assert_array_equal(opened(moved, trust=True), LEVELS[0])


def test_broken_parquet(parquet: Path) -> None:
    tree = xr.open_datatree(parquet)
    for file in parquet.glob("0/*.parq"):
        file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(StoreError, match="cannot be read"):
        tree["0/image"].load()
    for said in ("{}", '{"metadata": {}, "record_size": 0}', "[", '{"metadata": 3}'):
        (parquet / ".zmetadata").write_text(said)
        with pytest.raises(MetadataError):
            xr.open_datatree(parquet, engine="ngff")


def test_without_pyarrow_the_error_names_the_extra(
    parquet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(NgffError, match=r"ngff-xarray\[parquet\]"):
        xr.open_datatree(parquet, engine="ngff")


# ---- how far they may reach --------------------------------------------------------------------

ESCAPES = [
    "/etc/passwd",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "local:///etc/passwd",
    "../secret",
    "data/../../secret",
    "./data/../../secret",
    "link",
    "linked/secret",
    "http://127.0.0.1:1/secret",
    "https://user@host/secret",
    "s3://bucket/secret",
    "memory://secret",
    "simplecache::file:///etc/passwd",
    "zip://a::file:///etc/passwd",
    "data/a\0.bin",
    "",
    "..",
]


@pytest.fixture
def secret(tmp_path: Path, bin_file: Path) -> Path:
    """A secret beside the directory of the references, and links to it in there."""
    (tmp_path / "secret").write_bytes(bytes(64))
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "link").symlink_to(tmp_path / "secret")
    (inner / "linked").symlink_to(tmp_path)
    return inner


@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("part", [(), (0, 64)])
def test_no_reference_leads_outside(secret: Path, escape: str, part: tuple[int, ...]) -> None:
    document = {"version": 1, "refs": image_of({"0/0.0": [escape, *part]})}
    path = save(secret / "a.json", document)
    with pytest.raises(UntrustedError) as caught:
        xr.open_datatree(path)
    assert escape.replace("\0", "\ufffd").replace("user@", "") in str(caught.value)
    assert "trust=True" in str(caught.value)
    with pytest.raises(UntrustedError):
        xr.open_datatree(document, engine="ngff")


@pytest.mark.parametrize(
    "escape",
    [
        *(escape for escape in ESCAPES if escape not in ("link", "linked/secret")),
        "{root}/../secret",
        "{root}/data/../../secret",
        "{root}/%2e%2e/secret",
        "%2e%2e%2fsecret",
        "%252e%252e/secret",
        "..\\secret",
        "data/..%5c..%5csecret",
        "{host}/innerer/secret",
        "{host}/inner",
        "{host}:1/inner/secret",
        "//127.0.0.1:1/secret",
        "http:/{host}/secret",
        "{root}@127.0.0.1:1/secret",
    ],
)
def test_no_reference_leads_from_a_server_elsewhere(
    secret: Path, tmp_path: Path, escape: str
) -> None:
    with CountingServer(tmp_path) as server:
        reference = escape.replace("{root}", f"{server.url}/inner").replace("{host}", server.url)
        document = {"version": 1, "refs": image_of({"0/0.0": [reference, 0, 64]})}
        save(secret / "a.json", document)
        with pytest.raises(UntrustedError):
            xr.open_datatree(f"{server.url}/inner/a.json", engine="ngff")
        assert [request.path for request in server.requests] == ["/inner/a.json"]


def test_templates_lead_no_further(secret: Path) -> None:
    document = {
        "version": 1,
        "templates": {"u": "file:///etc"},
        "refs": image_of({"0/0.0": ["{{u}}/passwd", 0, 64]}),
    }
    with pytest.raises(UntrustedError, match="file:///etc/passwd"):
        xr.open_datatree(save(secret / "a.json", document))


def test_metadata_may_not_lead_outside_either(secret: Path) -> None:
    refs = image_of({})
    (secret.parent / "attributes").write_text(refs[".zattrs"])
    refs[".zattrs"] = ["../attributes"]
    with pytest.raises(UntrustedError):
        xr.open_datatree(save(secret / "a.json", refs))


def test_trust_opens_what_lies_elsewhere(secret: Path, bin_file: Path) -> None:
    references = [
        [str(bin_file), 4, 64],
        [bin_file.as_uri(), 4, 64],
        ["../data/a.bin", 4, 64],
        [f"linked/data/{bin_file.name}", 4, 64],
    ]
    for reference in references:
        path = save(secret / "a.json", image_of({"0/0.0": reference}))
        with pytest.raises(UntrustedError):
            xr.open_datatree(path)
        tree = xr.open_datatree(path, engine="ngff", trust=True)
        np.testing.assert_array_equal(tree["0/image"], SQUARE)
        copy = pickle.loads(pickle.dumps(tree))
        np.testing.assert_array_equal(copy["0/image"], SQUARE)
    with CountingServer(bin_file.parent) as server:
        path = save(secret / "a.json", image_of({"0/0.0": [f"{server.url}/a.bin", 4, 64]}))
        np.testing.assert_array_equal(opened(path, trust=True), SQUARE)


def test_trust_of_one_opening_is_not_that_of_the_next(secret: Path, bin_file: Path) -> None:
    path = save(secret / "a.json", image_of({"0/0.0": [str(bin_file), 4, 64]}))
    opened(path, trust=True)
    with pytest.raises(UntrustedError):
        xr.open_datatree(path)


# ---- what is refused ---------------------------------------------------------------------------

MALFORMED: list[tuple[Any, type[NgffError], str]] = [
    ({"version": 2, "refs": {}}, MetadataError, "expected 1, found 2"),
    ({"version": 1}, MetadataError, "refs: expected an object"),
    ({"version": 1, "refs": []}, MetadataError, "refs: expected an object"),
    ({"version": 1, "refs": {}, "templates": [1]}, MetadataError, "templates"),
    ({"version": 1, "refs": {}, "gen": [{"key": "{{i}}"}]}, UnsupportedError, "gen"),
    ([], MetadataError, "expected an object, found list"),
    ({"a": 3}, MetadataError, "found 3"),
    *(
        (image_of({"0/0.0": value}), MetadataError, "expected")
        for value in (
            [],
            ["a", 1],
            ["a", 1, 2, 3],
            [1, 2, 3],
            ["a", -1, 2],
            ["a", 1, -2],
            ["a", 1.0, 2],
            ["a", True, 2],
            ["a", "1", 2],
            ["a", 10**40, 2],
            [["a"], 1, 2],
            None,
            False,
        )
    ),
    *(
        (
            {"version": 1, "templates": {"f": "{{c}}", "n": 3}, "refs": image_of({"0/0.0": [url]})},
            UnsupportedError,
            "template",
        )
        for url in (
            "{{f(c='a')}}",
            "{{unknown}}",
            "{{ ''.__class__.__mro__ }}",
            "{{n}}",
            "{{f}}",
            "{{9**9**9}}",
        )
    ),
]


@pytest.mark.parametrize(("document", "kind", "expected"), MALFORMED)
def test_malformed_references(
    tmp_path: Path, document: Any, kind: type[NgffError], expected: str
) -> None:
    path = save(tmp_path / "a.json", document)
    with pytest.raises(kind, match=expected):
        xr.open_datatree(path, engine="ngff")


def test_json_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in ("", "{", "[" * 100_000, '{"a": 1' + "0" * 5000 + "}", "\ud800"):
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(MetadataError):
            xr.open_datatree(path, engine="ngff")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (["data/absent.bin", 0, 64], "which is not there"),
        (["data/absent.bin"], "which is not there"),
        (["data/a.bin", 40, 64], "of which 30 bytes came"),
        (["data/a.bin", 400, 64], "of which 0 bytes came"),
        (["data/a.bin", 0, 2**40], "more than"),
        (["data", 0, 64], "cannot be read|not there"),
        ("base64:%%%", "no base64"),
        ("base64:" + "A" * MAX_INLINE, "more than"),
        (["data/a.bin", 0, 3], "cannot be read"),
    ],
)
def test_chunks_that_cannot_be_read_are_never_filled(
    tmp_path: Path, bin_file: Path, reference: Any, expected: str
) -> None:
    tree = xr.open_datatree(save(tmp_path / "a.json", image_of({"0/0.0": reference})))
    with pytest.raises(StoreError, match=expected):
        tree["0/image"].load()


def test_chunks_without_a_reference_are_the_fill_value(tmp_path: Path) -> None:
    assert not opened(save(tmp_path / "a.json", image_of({}))).any()


def test_huge_reference_files_are_refused_before_they_are_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kerchunk, "MAX_BYTES", 100)
    with pytest.raises(MetadataError, match="expected them in Parquet"):
        xr.open_datatree(save(tmp_path / "a.json", inline_image()), engine="ngff")


def measure(path: str) -> None:
    """Open 10^6 references in this process; print seconds of its processor and bytes."""
    import time

    from test_hostile import pace, peak_memory

    import ngff_xarray.read  # noqa: F401, what is imported late is imported now

    slowness, before, start = pace(), peak_memory(), time.process_time()
    tree = xr.open_datatree(path, engine="ngff")
    text = repr(tree.ngff) + repr(tree)
    seconds = (time.process_time() - start) / max(slowness, pace())
    last = int(tree["0/image"][-1, -1])
    print(json.dumps([round(seconds, 2), peak_memory() - before, len(text), last]))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the peak of memory is read as Linux tells it")
def test_a_million_references(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\0\7")
    chunks = {f"0/{i}.{j}": ["a.bin", 1, 1] for i in range(1000) for j in range(1000)}
    refs = image_of(chunks)
    refs["0/.zarray"] = refs["0/.zarray"].replace("[8, 8]", "[1000, 1000]", 1)
    refs["0/.zarray"] = refs["0/.zarray"].replace("[8, 8]", "[1, 1]", 1)
    path = save(tmp_path / "a.json", {"version": 1, "refs": refs})
    done = subprocess.run(
        [sys.executable, "-c", f"from test_references import measure; measure({str(path)!r})"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seconds, nbytes, characters, last = json.loads(done.stdout)
    assert last == 7
    assert nbytes < 500 * 2**20, (nbytes, seconds)
    assert characters < 100_000
    assert seconds < 10
