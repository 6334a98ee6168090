"""Animations: pictures along an axis as a GIF or a film, with the place written into each."""

from __future__ import annotations

import base64
import html
import io
import math
import os
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ngff_xarray import along, geometry
from ngff_xarray.channels import Channels
from ngff_xarray.errors import SelectionError, StoreError, UnsupportedError
from ngff_xarray.image import Obj
from ngff_xarray.overlay import Labels
from ngff_xarray.picture import LabelStyle, Picture
from ngff_xarray.planes import Choice
from ngff_xarray.plot.parts import length, place, proportion, scale_bar
from ngff_xarray.render import Projection
from ngff_xarray.text import printable

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

FRAMES = 100
MAX_PIXELS = 2**18
_SMALLEST = 320  # pixels of the longest side: text must be legible
_LARGEST_FILM = 2**27  # bytes of all frames together


@dataclass(frozen=True, slots=True, repr=False)
class Animation:
    """Frames in time; a notebook shows it as it is.

    Parameters
    ----------
    frames
        uint8 of shape (frame, y, x, 3).
    fps
        Frames a second.
    name
        What is shown.
    """

    frames: NDArray[np.uint8]
    fps: float
    name: str = ""

    def gif(self) -> bytes:
        """Return it as the bytes of a GIF file that plays for ever."""
        from PIL.Image import Dither

        first, *rest = (_as_image(frame).quantize(256, dither=Dither.NONE) for frame in self.frames)
        buffer = io.BytesIO()
        first.save(
            buffer,
            "gif",
            save_all=True,
            append_images=rest,
            duration=max(20, round(1000 / self.fps)),
            loop=0,
        )
        return buffer.getvalue()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it to a file, a GIF or an MP4 by the name's end, and return its path.

        Raises
        ------
        SelectionError
            If the name ends otherwise.
        UnsupportedError
            If an MP4 is asked for and there is no ffmpeg.
        StoreError
            If ffmpeg fails.
        """
        target = Path(path)
        if target.suffix.lower() not in _WRITERS:
            known = " or ".join(_WRITERS)
            raise SelectionError(f"{target.name}: a file of an animation ends in {known}")
        _WRITERS[target.suffix.lower()](self, target)
        return target

    def __repr__(self) -> str:
        count, height, width = self.frames.shape[:3]
        return f"<Animation of {count} frames, {height} × {width}, {self.fps:g} a second>"

    def _repr_html_(self) -> str:
        encoded = base64.b64encode(self.gif()).decode()
        text = html.escape(self.name or "animation")
        return f"<img alt='{text}' src='data:image/gif;base64,{encoded}' style='max-width:100%'>"


def _write_gif(film: Animation, target: Path) -> None:
    target.write_bytes(film.gif())


def _write_mp4(film: Animation, target: Path) -> None:
    program = shutil.which("ffmpeg")
    if program is None:
        raise UnsupportedError(
            "an MP4 needs ffmpeg, which is not on the path: install it with your system's "
            "packages, or save a .gif"
        )
    height, width = film.frames.shape[1:3]
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{film.fps}"]
    # players want even sides and this pixel format
    form = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", "-f", "mp4"]
    command = [program, "-y", "-loglevel", "error", *source, "-i", "-", *form, os.fspath(target)]
    done = subprocess.run(command, input=film.frames.tobytes(), capture_output=True, check=False)
    if done.returncode:
        said = printable(done.stderr.decode(errors="replace").strip(), 300)
        raise StoreError(f"ffmpeg could not write {target}: {said}")


_WRITERS = {".gif": _write_gif, ".mp4": _write_mp4}


def animate(
    obj: Obj,
    dim: str = "t",
    path: str | os.PathLike[str] | None = None,
    *,
    fps: float = 8,
    frames: int = FRAMES,
    max_pixels: int = MAX_PIXELS,
    annotate: bool = True,
    labels: Labels = None,
    outline: bool = False,
    opacity: float = 0.5,
    selected: Collection[int] | None = None,
    level: object = None,
    channels: Channels = None,
    projection: Projection | None = None,
    **position: Any,
) -> Animation:
    """Return a picture for each position on an axis, in time.

    Parameters
    ----------
    dim
        The name of the axis.
    path
        A file to write as well, ``.gif`` or ``.mp4``.
    fps
        Frames a second.
    frames
        How many at most; they are evenly chosen.
    max_pixels
        How many pixels a frame may have.
    annotate
        Whether to write the position and a scale bar into the frames.
    labels, outline, opacity, selected, level, channels, projection
        What to draw in every frame, as `ngff_xarray.picture.rgb` takes it.
    **position
        A position or region an axis, as ``sel`` takes them; along ``dim``, the region to show.

    Returns
    -------
    Animation
        With ``.save(path)``; a notebook shows it.

    Raises
    ------
    SelectionError
        If there is no such axis, or the frames would take too much memory.

    Examples
    --------
    >>> import xarray as xr
    >>> from ngff_xarray import sample
    >>> animate(xr.open_datatree(sample("cell")), "c")
    <Animation of 1 frames, 330 × 275, 8 a second>
    """
    choice = Choice(level, channels, projection, max_pixels, position)
    over = LabelStyle(labels, outline, opacity, selected)
    if not 0 < fps < math.inf:
        raise SelectionError(f"fps is {fps}; expected a number above 0")
    positions, _ = along.places(obj, dim, choice, frames)
    film: NDArray[np.uint8] | None = None
    for i, (where, drawn) in enumerate(
        zip(positions, along.pictures(obj, dim, positions, choice, over), strict=True)
    ):
        frame = _frame(obj, drawn, dim, where, annotate)
        if film is None:
            film = _room(len(positions), frame)
        film[i] = frame
    found = Animation(np.zeros((0, 1, 1, 3), np.uint8) if film is None else film, fps, dim)
    if path is not None:
        found.save(path)
    return found


def _room(count: int, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if count * frame.nbytes > _LARGEST_FILM:
        fitting = _LARGEST_FILM // frame.nbytes
        raise SelectionError(
            f"{count} frames of {frame.shape[0]} × {frame.shape[1]} pixels are "
            f"{count * frame.nbytes:,} bytes, more than {_LARGEST_FILM:,}: give max_pixels=…, or "
            f"frames={fitting}"
        )
    return np.empty((count, *frame.shape), np.uint8)


# ---- frames ----------------------------------------------------------------------------------


def _as_image(pixels: NDArray[np.uint8]) -> Image.Image:
    from PIL import Image

    return Image.fromarray(pixels)


def _frame(
    obj: Obj, drawn: Picture, dim: str, where: float | str, annotate: bool
) -> NDArray[np.uint8]:
    """Return the pixels of a frame, in proportion, with what is written into it."""
    pixels = _proportioned(drawn)
    if not annotate:
        return pixels
    from PIL import ImageDraw

    image = _as_image(pixels)
    pen = ImageDraw.Draw(image)
    size = max(12, max(image.size) // 28)
    text = printable(where) if isinstance(where, str) else place(obj, dim, where)
    _write(pen, (size // 2, size // 2), text, size, "la")
    _draw_scale_bar(pen, image.size, drawn, size)
    return np.asarray(image)


def _proportioned(drawn: Picture) -> NDArray[np.uint8]:
    """Return the pixels repeated to square ones, and until text is legible beside them."""
    pixels = drawn.rgb
    high, wide = pixels.shape[:2]
    tall = proportion(drawn) * wide / high  # of a pixel, in widths
    steps = (max(1, round(tall)), max(1, round(1 / tall)))
    more = max(1, math.ceil(_SMALLEST / max(high * steps[0], wide * steps[1])))
    return pixels.repeat(steps[0] * more, axis=0).repeat(steps[1] * more, axis=1)


def _draw_scale_bar(
    pen: ImageDraw.ImageDraw, size: tuple[int, int], drawn: Picture, letter: int
) -> None:
    unit = geometry.unit(drawn.x)
    if unit is None:
        return
    width, height = size
    whole = abs(length(drawn.x))
    long, text = scale_bar(0.25 * whole, unit)
    right, bottom = width - letter, height - letter
    left = right - round(long / whole * width)
    top = bottom - max(2, letter // 5)
    pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), fill="black")
    pen.rectangle((left, top, right, bottom), fill="white")
    _write(pen, ((left + right) // 2, top - letter // 2), text, letter, "ms")


def _write(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, anchor: str
) -> None:
    """Write white text in a black line; matplotlib's font knows more letters than Pillow's."""
    import matplotlib as mpl
    from PIL import ImageFont

    file = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    font = ImageFont.truetype(file, size)
    stroke: dict[str, Any] = {"stroke_width": max(1, size // 8), "stroke_fill": "black"}
    pen.text(at, text, fill="white", font=font, anchor=anchor, **stroke)
