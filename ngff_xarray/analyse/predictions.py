"""Predictions for patches, as whoever makes them gives them: looked at before they are used."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import image
from ngff_xarray.analyse.patch_sequence import Patch, Patches
from ngff_xarray.errors import BlockError, SelectionError, UnsupportedError
from ngff_xarray.text import printable

Prediction = tuple[Patch | int, Any]

_SHOWN = 10  # patches that an error names


def predicted(func: Any, patches: Patches, batch_size: int) -> Generator[Prediction]:
    """Yield what a function predicts for each patch, in their order without shuffling."""
    with closing(iter(patches.sorted())) as every:  # type: ignore[type-var]  # a generator
        while batch := list(itertools.islice(every, batch_size)):
            numbers = ", ".join(str(patch.number) for patch in batch)
            try:
                found = func(np.stack([patch.pixels for patch in batch]))
            except Exception as error:
                raise BlockError(
                    f"patches {numbers}: {type(error).__name__}: {printable(error, 500)}",
                    batch[0].region,
                ) from error
            if not hasattr(found, "__len__") or len(found) != len(batch):
                count = len(found) if hasattr(found, "__len__") else type(found).__name__
                raise BlockError(
                    f"patches {numbers}: the function returned {count}, expected a prediction for "
                    f"each of {len(batch)}",
                    batch[0].region,
                )
            for patch, prediction in zip(batch, found, strict=True):
                yield patch, np.asarray(prediction)


@dataclass(frozen=True)
class Kind:
    """What predictions are like, as the first one shows.

    Parameters
    ----------
    dims
        The axes of the result before argmax, in their order.
    given
        Those of a prediction.
    channel
        Which of them is that of channels, and how many it has.
    dtype
        Of a prediction.
    """

    dims: tuple[str, ...]
    given: tuple[str, ...]
    channel: tuple[str, int] | None
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, patches: Patches, shape: Sequence[int], dtype: np.dtype[Any]) -> Kind | None:
        """Return what a prediction of some shape is; None if it is none for such patches."""
        source = patches.source
        own, known = source.channel_dim, source.channel_dim or "c"
        space = [axis.name for axis in image.axes(source.array) if axis.type == "space"]
        plain = tuple(dim for dim in patches.dims if dim != own)
        several = patches.dims if own is not None else (known, *plain)
        every = tuple(map(str, source.pixels.dims))
        if len(shape) == len(several):
            given, channel = several, (known, shape[several.index(known)])
            if own is None:
                at = next((i for i, dim in enumerate(every) if dim in space), len(every))
                every = (*every[:at], known, *every[at:])
        else:
            given, channel = plain, None
            every = tuple(dim for dim in every if dim != own)
        sizes = [source.sizes.get(dim, channel[1] if channel else 0) for dim in given]
        if list(shape) != sizes or not all(sizes):
            return None
        return cls(every, given, channel, dtype)

    @classmethod
    def told(cls, said: Mapping[str, Any]) -> Kind:
        """Return what `said` says, after a while in JSON."""
        channel = said["channel"]
        return cls(
            tuple(said["dims"]),
            tuple(said["given"]),
            None if channel is None else (channel[0], channel[1]),
            np.dtype(said["dtype"]),
        )

    @property
    def said(self) -> dict[str, Any]:
        """What JSON has for it."""
        channel = None if self.channel is None else list(self.channel)
        return {
            "dims": list(self.dims),
            "given": list(self.given),
            "channel": channel,
            "dtype": self.dtype.str,
        }

    def arranged(self, found: NDArray[Any]) -> NDArray[Any]:
        """Return a prediction with all axes of the result, in their order."""
        order = [self.given.index(dim) for dim in self.dims if dim in self.given]
        key = tuple(slice(None) if dim in self.given else None for dim in self.dims)
        return found.transpose(order)[key]


@dataclass(frozen=True)
class Checked:
    """A prediction that fits its patch.

    Parameters
    ----------
    kind
        What it is like.
    number
        Of the patch.
    pixels
        With all axes of the result, in their order.
    """

    kind: Kind
    number: int
    pixels: NDArray[Any]


def checked(
    predictions: Iterable[Prediction], patches: Patches, first: Kind | None = None
) -> Iterator[Checked]:
    """Yield predictions as they come: for each patch one, and all of one kind.

    Parameters
    ----------
    predictions, patches
        The predictions, and what they are for.
    first
        What earlier ones were like.

    Raises
    ------
    SelectionError
        If they are missing, come twice or for other patches.
    BlockError
        If one has another shape or dtype.
    UnsupportedError
        If they are no numbers.
    """
    wanted = np.zeros(len(patches.starts), bool)
    wanted[patches.numbers] = True
    seen = np.zeros_like(wanted)
    for each in predictions:
        number = _number(each, patches, wanted)
        if seen[number]:
            raise SelectionError(f"predictions: there are two for patch {number}")
        seen[number] = True
        found = np.asarray(each[1])
        kind = _kind(patches, number, each[1], found)
        first = first or kind
        if kind != first:
            raise _error(
                patches,
                number,
                f"the prediction has {found.dtype} and the shape {found.shape}; the first one had "
                f"{first.dtype} and {first.channel[1] if first.channel else 'no'} channels",
            )
        yield Checked(kind, number, kind.arranged(found))
    if not (seen == wanted).all():
        missing = np.flatnonzero(wanted & ~seen).tolist()
        named = ", ".join(map(str, missing[:_SHOWN])) + (", …" if len(missing) > _SHOWN else "")
        raise SelectionError(
            f"predictions: there are none for {len(missing)} of {len(patches)} patches: {named}; "
            "leave these out on purpose with patches[…]"
        )


def _number(pair: Any, patches: Patches, wanted: NDArray[np.bool_]) -> int:
    """Return which patch a prediction is for."""
    try:
        patch, _ = pair
    except (TypeError, ValueError) as error:
        raise SelectionError(
            "predictions: expected pairs of a patch, or its number, and an array; found a "
            f"{type(pair).__name__}"
        ) from error
    if isinstance(patch, Patch):
        number = patch.number
        fits = number < len(wanted) and tuple(patches.starts[number]) == patch.start
    else:
        try:
            number = operator.index(patch)
        except TypeError:
            number = -1
        fits = 0 <= number < len(wanted)
    if not fits or not wanted[number]:
        raise SelectionError(
            f"predictions: {printable(patch, 100)} is none of these {len(patches)} patches"
        )
    return number


def _kind(patches: Patches, number: int, given: Any, found: NDArray[Any]) -> Kind:
    """Return what a prediction is like."""
    if found.dtype.kind not in "biuf":
        raise UnsupportedError(
            f"predictions: for patch {number} it has the dtype {found.dtype}, expected numbers"
        )
    kind = Kind.of(patches, found.shape, found.dtype)
    if kind is not None and isinstance(given, xr.DataArray) and given.dims != kind.given:
        kind = None
    if kind is None:
        sizes = zip(patches.dims, patches.shape, strict=True)
        raise _error(
            patches,
            number,
            f"the prediction has the shape {found.shape}, expected that of the patch, "
            f"{', '.join(f'{dim}: {n}' for dim, n in sizes)}, without channels or with others",
        )
    return kind


def _error(patches: Patches, number: int, message: str) -> BlockError:
    region = patches.source.region(patches.starts[number].tolist())
    return BlockError(f"patch {number}: {message}", region)
