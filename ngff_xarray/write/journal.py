"""Which parts of an image are in a store, noted beside it while it is written.

A note holds what the levels above are made of, so that who goes on after a kill need not read the
part again. It is put when all chunks of the part are; a note that is damaged is as none. One on all
of the image takes their place in the end, until the image itself says that it is whole.
"""

from __future__ import annotations

import io
import json
import math
import threading
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype

from ngff_xarray import store
from ngff_xarray.boxes import Box
from ngff_xarray.contrast import Contrast
from ngff_xarray.pyramid import NOTED, Made, State
from ngff_xarray.storage import is_zarr_only
from ngff_xarray.write.writing import Writing

_NAME = ".ngff_xarray-done"
_PARTS, _WHOLE = "parts", "whole"
_Waiting = tuple[str, Made, Callable[[], bool]]


class Journal:
    """Notes of an image.

    Parameters
    ----------
    target
        The store.
    path
        Where they are.
    itemsize
        Bytes of a pixel.
    known
        The names of those that a run has left which was killed.
    level
        What the name of a note begins with, where levels are noted one by one.
    """

    def __init__(
        self,
        target: Store,
        path: str,
        itemsize: int,
        known: frozenset[str] = frozenset(),
        level: str = "",
    ) -> None:
        self._target, self._path, self._known, self._level = target, path, known, level
        self.itemsize = itemsize
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []

    @classmethod
    def of(
        cls, target: Store, level: str, shape: Sequence[int], itemsize: int, writing: Writing
    ) -> Journal | None:
        """Return the notes of an image; None if nobody is to go on with it.

        Parameters
        ----------
        target
            The store.
        level
            The path of the finest level.
        shape, itemsize
            Of that.
        writing
            How it is written.
        """
        can = target.supports_deletes and target.supports_listing and not is_zarr_only(target)
        if not (writing.resume.token and can and math.prod(shape) * itemsize > NOTED):
            return None
        path = store.join(level.rpartition("/")[0], _NAME)
        if not writing.goes_on:
            return cls(target, path, itemsize)

        async def names() -> list[str]:
            return [key.rpartition("/")[2] async for key in target.list_prefix(f"{path}/")]

        known = frozenset(store.run(names()))
        if _WHOLE in known:
            writing.resume.groups += 1
        else:
            writing.resume.parts += len(known)
        return cls(target, path, itemsize, known)

    def __reduce__(self) -> Any:
        return Journal, (self._target, self._path, self.itemsize, frozenset(), self._level)

    def of_level(self, number: int) -> Journal:
        """Return the notes on a level that is written for itself."""
        return Journal(self._target, self._path, self.itemsize, self._known, f"level{number}_")

    def has(self, number: int, box: Box) -> bool:
        """Tell whether there is a note on a part of a level, and all below it."""
        return bool(self._known) and self._name(number, box) in self._known

    def recall(self, number: int, box: Box) -> Made | None:
        """Return what a note says; None if there is none, or it is damaged."""
        return self._get(self._key(number, box))

    def whole(self) -> Made | None:
        """Return what a note says on all of the image; None if there is none."""
        return self._get(f"{self._path}/{_WHOLE}") if _WHOLE in self._known else None

    def _get(self, key: str) -> Made | None:
        found = store.run(self._target.get(key, default_buffer_prototype()))
        return None if found is None else _unpacked(found.to_bytes())

    def note(self, number: int, box: Box, made: Made, is_settled: Callable[[], bool]) -> None:
        """Put a note, when all of the part is in the store: some of it may be in a begun shard."""
        with self._lock:
            waiting = [*self._waiting, (self._key(number, box), made, is_settled)]
            ready = [each[2]() for each in waiting]
            self._waiting = [each for each, now in zip(waiting, ready, strict=True) if not now]
        for (key, each, _), now in zip(waiting, ready, strict=True):
            if now:
                store.put_bytes(self._target, key, _packed(each))

    def _name(self, number: int, box: Box) -> str:
        sides = "_".join(f"{side.start}-{side.stop}" for side in box)
        return f"{self._level}{number}_{sides}"

    def _key(self, number: int, box: Box) -> str:
        return f"{self._path}/{_PARTS}/{self._name(number, box)}"

    def end(self, contrast: Contrast | None) -> None:
        """Delete all notes, when the image is in the store."""
        whole = f"{self._path}/{_WHOLE}"
        store.put_bytes(self._target, whole, _packed(Made(None, contrast)))
        store.run(self._target.delete_dir(f"{self._path}/{_PARTS}"))
        store.run(self._target.delete_dir(self._path))


def _packed(made: Made) -> bytes:
    """Return what was made as a file of numpy, which has checksums."""
    arrays: dict[str, NDArray[Any]] = {}
    if made.state is not None:
        arrays["values"] = made.state.values
        if made.state.counts is not None:
            arrays["counts"] = made.state.counts
    if made.contrast is not None:
        ranges, samples = made.contrast.noted()
        arrays["ranges"] = np.frombuffer(json.dumps(ranges).encode(), "u1")
        arrays |= {f"sample{i}": sample for i, sample in enumerate(samples)}
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # of which one is a flag
    return file.getvalue()


def _unpacked(content: bytes) -> Made | None:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            arrays = dict(found)
        state = State(arrays["values"], arrays.get("counts")) if "values" in arrays else None
        ranges = json.loads(arrays["ranges"].tobytes()) if "ranges" in arrays else None
        if ranges is None:
            return Made(state, None)
        samples = [arrays[f"sample{i}"] for i in range(len(ranges))]
        return Made(state, Contrast.of_notes(ranges, samples))
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    except SystemError:  # numpy's headers are literals, which Python 3.11 confuses in threads
        return None
