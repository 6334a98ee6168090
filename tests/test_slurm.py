"""Workers that SLURM starts, as many institutes have it: they write what this process would."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
import slurm
import xarray as xr
from test_distributed import DIMS, SHAPE, SHARDS, STORED, made, same

if "NGFF_CI" not in os.environ:  # of .ci/run, which has everything
    pytest.importorskip("dask_jobqueue")
    if not slurm.is_here():
        pytest.skip("needs slurm-wlm and munge, and root", allow_module_level=True)

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from dask_jobqueue import SLURMCluster
    from distributed import Client

    folder = tmp_path_factory.mktemp("slurm")
    with slurm.running(folder) as conf, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("SLURM_CONF", str(conf))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        with (
            SLURMCluster(
                cores=1,
                processes=1,
                memory="1GB",
                interface="lo",
                python=sys.executable,
                walltime="00:10:00",
                log_directory=str(folder),
                local_directory=str(folder),
                job_directives_skip=["--mem"],
                scheduler_options={"dashboard_address": "127.0.0.1:0"},
            ) as cluster,
            Client(cluster) as client,
        ):
            cluster.scale(jobs=2)
            client.wait_for_workers(2, timeout=120)
            yield client


@pytest.mark.parametrize("shards", [None, SHARDS])
def test_an_image(workers: Any, tmp_path: Path, shards: Any) -> None:
    names = workers.run(lambda: os.environ["SLURM_JOB_ID"])
    assert len(set(names.values())) == 2
    image = xr.DataArray(made(SHAPE, (7, 70, 31)), dims=DIMS)
    image.ngff.to_zarr(tmp_path / "there.ome.zarr", **STORED, shards=shards)
    image[:5].ngff.append(tmp_path / "there.ome.zarr", dim="z")
    with dask.config.set(scheduler="synchronous"):
        image.ngff.to_zarr(tmp_path / "here.ome.zarr", **STORED, shards=shards)
        image[:5].ngff.append(tmp_path / "here.ome.zarr", dim="z")
    same(tmp_path / "here.ome.zarr", tmp_path / "there.ome.zarr")
