"""A file of Leica (LIF): a header of XML, and a block of memory for each image."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_COLORS = ("Green", "Red", "Blue")


def write_lif(path: Path, images: Mapping[str, np.ndarray], sizes: tuple[float, ...]) -> Path:
    """Write images of t, z, c, y, x, whose pixels have sizes of z, y and x in µm.

    Widths are multiples of four: Bio-Formats takes other rows for padded ones.
    """
    elements = [_element(i, name, array, sizes) for i, (name, array) in enumerate(images.items())]
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="all" Visibility="1"><Data>'
        '<Experiment Path="a.lif"/></Data><Memory Size="0" MemoryBlockID="MemBlock_none"/>'
        f"<Children>{''.join(elements)}</Children></Element></LMSDataContainerHeader>"
    ).encode("utf-16-le")
    parts = [struct.pack("<iiBi", 0x70, len(xml) + 5, 0x2A, len(xml) // 2), xml]
    blocks = {f"MemBlock_{i}": _bytes(array) for i, array in enumerate(images.values())}
    for name, data in ({"MemBlock_none": b""} | blocks).items():
        said = name.encode("utf-16-le")
        head = struct.pack("<iiBqBi", 0x70, len(said) + 14, 0x2A, len(data), 0x2A, len(name))
        parts += [head, said, data]
    path.write_bytes(b"".join(parts))
    return path


def _bytes(array: np.ndarray) -> bytes:
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def _element(number: int, name: str, array: np.ndarray, sizes: tuple[float, ...]) -> str:
    bits, strides = 8 * array.itemsize, array.strides
    channels = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{bits}" '
        f'NameOfMeasuredQuantity="" Min="0" '
        f'Max="{2**bits - 1}" Unit="" LUTName="{color}" IsLUTInverted="0" '
        f'BytesInc="{i * strides[2]}" BitInc="0"/>'
        for i, color in zip(range(array.shape[2]), _COLORS, strict=False)
    )
    axes = {1: (4, sizes[2]), 2: (3, sizes[1]), 3: (1, sizes[0]), 4: (0, None)}
    dims = "".join(
        f'<DimensionDescription DimID="{dim}" NumberOfElements="{array.shape[axis]}" Origin="0" '
        f'Length="{(array.shape[axis] - 1) * (size * 1e-6 if size else 3):.10g}" '
        f'Unit="{"m" if size else "s"}" BitInc="0" BytesInc="{strides[axis]}"/>'
        for dim, (axis, size) in axes.items()
        if array.shape[axis] > 1
    )
    return (
        f'<Element Name="{name}" Visibility="1" UniqueID="{number}"><Data><Image>'
        f"<ImageDescription><Name>{name}</Name><Channels>{channels}</Channels>"
        f"<Dimensions>{dims}</Dimensions></ImageDescription></Image></Data>"
        f'<Memory Size="{array.nbytes}" MemoryBlockID="MemBlock_{number}"/><Children/></Element>'
    )
