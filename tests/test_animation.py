"""Animations: their frames, their files, and what they refuse."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from conftest import OMERO
from PIL import Image
from stores import write_image

from ngff_xarray.errors import SelectionError, StoreError, UnsupportedError

IN_CI = "NGFF_CI" in os.environ  # of .ci/run, which has everything


@pytest.fixture
def tree(tmp_path: Path) -> xr.DataTree:
    path = tmp_path / "scan.ome.zarr"
    return xr.open_datatree(write_image(path, axes="tczyx", labels={"cells": {}}, omero=OMERO))


def test_frames_are_the_pictures_along_the_axis(tree: xr.DataTree) -> None:
    film = tree.ngff.animate("t", annotate=False, labels="cells", projection="max")
    assert len(film.frames) == 3
    for frame, t in zip(film.frames, (0, 1, 2), strict=True):
        expected = tree.ngff.rgb(t=t, labels="cells", projection="max").values
        factor = frame.shape[0] // 50  # small images are enlarged
        np.testing.assert_array_equal(frame[::factor, ::factor], expected)
    assert repr(film) == f"<Animation of 3 frames, {frame.shape[0]} × {frame.shape[1]}, 8 a second>"


def test_a_gif_plays_all_frames_for_ever(tree: xr.DataTree) -> None:
    film = tree.ngff.animate("z", fps=5)
    with Image.open(io.BytesIO(film.gif())) as image:
        assert image.format == "GIF"
        assert image.n_frames == 4
        assert image.info["duration"] == 200
        assert image.info["loop"] == 0
        shown = np.asarray(image.convert("RGB")).astype(int)
    assert abs(shown - film.frames[0]).mean() < 6


def test_places_and_a_scale_bar_are_written_into_the_frames(tree: xr.DataTree) -> None:
    plain, written = (tree.ngff.animate("z", annotate=on).frames for on in (False, True))
    changed = (plain != written).any(axis=-1)
    height, width = changed.shape[1:]
    assert changed[:, : height // 5, : width // 3].any()
    assert changed[:, -height // 4 :, -width // 2 :].any()
    assert not changed[:, height // 3 : height // 2].any()
    assert (written[0] != written[3])[: height // 8, : width // 4].any()


def test_frames_are_evenly_chosen_and_in_one_contrast() -> None:
    image = xr.DataArray(np.arange(400 * 16, dtype="f4").reshape(400, 4, 4), dims=("t", "y", "x"))
    film = image.ngff.animate(frames=5, annotate=False)
    means = film.frames.mean(axis=(1, 2, 3))
    assert (np.diff(means) > 50).all()
    assert len(image.ngff.animate().frames) == 100
    part = image.ngff.animate(t=slice(10, 12), annotate=False)
    assert len(part.frames) == 3


def test_a_notebook_shows_it(tree: xr.DataTree) -> None:
    shown = tree.ngff.animate("c")._repr_html_()
    assert shown.startswith("<img alt='c' src='data:image/gif;base64,R0lGOD")


def test_files_by_their_name(tree: xr.DataTree, tmp_path: Path, monkeypatch: Any) -> None:
    film = tree.ngff.animate("z", tmp_path / "a.gif")
    assert (tmp_path / "a.gif").read_bytes() == film.gif()
    with pytest.raises(SelectionError, match=r"a\.avi: a file of an animation ends in \.gif or"):
        film.save(tmp_path / "a.avi")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="an MP4 needs ffmpeg"):
        film.save(tmp_path / "a.mp4")


@pytest.mark.skipif(not (shutil.which("ffmpeg") or IN_CI), reason="needs ffmpeg")
def test_an_mp4_has_the_frames(tree: xr.DataTree, tmp_path: Path) -> None:
    film = tree.ngff.animate("z", tmp_path / "a.mp4", fps=12)
    count, height, width = film.frames.shape[:3]
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.mp4")]
    raw = [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    seen = np.frombuffer(subprocess.run(raw, check=True, capture_output=True).stdout, np.uint8)
    seen = seen.reshape(count, height + height % 2, width + width % 2, 3)[:, :height, :width]
    error = np.abs(seen.astype(int) - film.frames)
    assert error.mean() < 8  # colours at half the resolution


def test_ffmpeg_says_what_is_wrong(tree: xr.DataTree, tmp_path: Path, monkeypatch: Any) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\n/bin/cat > /dev/null\necho 'no such codec' >&2\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreError, match=r"ffmpeg could not write .*no such codec"):
        tree.ngff.animate("z", tmp_path / "a.mp4")


def test_what_is_no_film(tree: xr.DataTree) -> None:
    for options, message in (
        ({"dim": "q"}, "no axis 'q' to go along"),
        ({"fps": 0}, "fps is 0; expected a number above 0"),
        ({"frames": 0}, "is 0; expected 1 or more"),
    ):
        with pytest.raises(SelectionError, match=message):
            tree.ngff.animate(**options)  # type: ignore[arg-type]
    large = xr.DataArray(np.broadcast_to(np.uint8(3), (90, 900, 900)), dims=("z", "y", "x"))
    with pytest.raises(SelectionError, match=r"more than 134,217,728: give max_pixels=…"):
        large.ngff.animate("z", max_pixels=10**6)
