"""Keys of a hierarchy, and where what stands under them is: in columns, for there are millions."""

from __future__ import annotations

import base64
import binascii
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ngff_xarray.errors import StoreError
from ngff_xarray.virtual.targets import Target

MAX_INLINE = 16 * 2**20  # bytes of one value that stands among the references
WHOLE = -1
_BASE64 = "base64:"


class Reference(NamedTuple):
    """Bytes of a file.

    ``size`` is `WHOLE` for all of it. ``plain`` tells that this chunk lacks the compression
    of its array, which HDF5 allows and reference files cannot say.
    """

    target: Target
    offset: int
    size: int
    plain: bool = False


class Lookup(Protocol):
    """What a reference store looks keys up in."""

    async def find(self, key: str) -> bytes | Reference | None:
        """Return what stands under a key, or where it is; None if there is nothing."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin with a prefix."""
        ...


class Row(NamedTuple):
    """One reference: its key, the number of its target, and which bytes of it."""

    key: str
    target: int
    offset: int
    size: int


class Index:
    """Keys and references, all at hand.

    Parameters
    ----------
    inline
        The values that stand here themselves, as text (perhaps ``base64:…``) or bytes.
    targets
        The files that are referred to.
    rows
        The references, in any order. What makes them may fill the others meanwhile.

    Examples
    --------
    >>> index = Index({".zgroup": "{}"}, [Target("", "a.bin")], [Row("0/0.0", 0, 8, 16)])
    >>> list(index.keys()), dict(index.items())["0/0.0"].offset
    (['.zgroup', '0/0.0'], 8)
    """

    def __init__(
        self,
        inline: Mapping[str, str | bytes],
        targets: Sequence[Target],
        rows: Iterable[Row],
    ) -> None:
        # columns from the start: a million tuples take ten times as much
        keys: list[bytes] = []
        columns = numbers, offsets, sizes = array("i"), array("q"), array("q")
        for key, number, offset, size in rows:
            keys.append(key.encode())
            numbers.append(number)
            offsets.append(offset)
            sizes.append(size)
        order = sorted(range(len(keys)), key=keys.__getitem__)
        self._text = b"".join(keys[i] for i in order)
        self._ends = np.zeros(len(keys) + 1, dtype=np.int64)
        np.cumsum([len(keys[i]) for i in order], out=self._ends[1:])
        self._target, self._offset, self._size = (np.array(column)[order] for column in columns)
        self._inline = dict(inline)
        self._targets = tuple(targets)

    def __len__(self) -> int:
        return len(self._inline) + len(self._target)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Index)
            and (self._inline, self._targets, self._text)
            == (other._inline, other._targets, other._text)
            and all(
                np.array_equal(mine, theirs)
                for mine, theirs in zip(self._columns(), other._columns(), strict=True)
            )
        )

    __hash__ = None  # type: ignore[assignment]

    def _columns(self) -> tuple[Any, ...]:
        return self._ends, self._target, self._offset, self._size

    async def find(self, key: str) -> bytes | Reference | None:
        """Return what stands under a key, or where it is; None if there is nothing."""
        if key in self._inline:
            return decoded(key, self._inline[key])
        wanted = key.encode()
        row = bisect_left(range(len(self._target)), wanted, key=self._key)
        if row == len(self._target) or self._key(row) != wanted:
            return None
        return self._reference(row)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin with a prefix."""
        yield from (key for key in self._inline if key.startswith(prefix))
        start = prefix.encode()
        for row in range(
            bisect_left(range(len(self._target)), start, key=self._key), len(self._target)
        ):
            key = self._key(row)
            if not key.startswith(start):
                return
            yield key.decode()

    def items(self) -> Iterator[tuple[str, str | bytes | Reference]]:
        """Yield every key with its value as it was given, or its reference."""
        yield from self._inline.items()
        for row in range(len(self._target)):
            yield self._key(row).decode(), self._reference(row)

    def _key(self, row: int) -> bytes:
        return self._text[self._ends[row] : self._ends[row + 1]]

    def _reference(self, row: int) -> Reference:
        return Reference(
            self._targets[self._target[row]],
            int(self._offset[row]),
            int(self._size[row]),
        )


def decoded(key: str, value: str | bytes) -> bytes:
    """Return a value that stands among the references.

    Raises
    ------
    StoreError
        If it is too large, or no base64.
    """
    if len(value) > MAX_INLINE:
        raise StoreError(
            f"{key!r} holds {len(value)} bytes among the references, more than {MAX_INLINE}: "
            "such values belong in a file that is referred to"
        )
    if isinstance(value, bytes):
        return value
    if not value.startswith(_BASE64):
        return value.encode()
    try:
        return base64.b64decode(value.removeprefix(_BASE64), validate=True)
    except (binascii.Error, ValueError) as error:
        raise StoreError(f"{key!r} is no base64: {error}") from error
