"""Named colormaps as tables of 256 colours."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# Every 15th colour, of matplotlib's tables of 256 (CC0): between them, straight lines are within
# a dozen counts of a component at worst, which nobody sees.
_ANCHORS: Mapping[str, str] = {
    "gray": "000000 ffffff",
    "viridis": (
        "440154 481769 472a7a 433d84 3d4e8a 355e8d 2e6d8e 297b8e 23898e "
        "1f978b 21a585 2eb37c 46c06f 65cb5e 89d548 b0dd2f d8e219 fde725"
    ),
    "plasma": (
        "0d0887 2f0596 4903a0 6100a7 7801a8 8e0ca4 a21d9a b42e8d c43e7f "
        "d24f71 de6164 e97257 f3854b f99a3e fdaf31 fdc627 f8df25 f0f921"
    ),
    "inferno": (
        "000004 0a0722 1e0c45 380962 510e6c 69166e 801f6c 982766 b0315b "
        "c63d4d d94d3d e9612b f47918 fa9407 fcb014 f8cd37 f2ea69 fcffa4"
    ),
    "magma": (
        "000004 090720 1a1042 311165 4a1079 621980 792282 912b81 aa337d "
        "c23b75 d9466b ec5860 f7725c fc8e64 feaa74 fec68a fde2a3 fcfdbf"
    ),
    "cividis": (
        "00224e 002d68 163770 2e416d 3f4c6c 4e566c 5c616e 696b71 767676 "
        "838179 928c78 a09875 afa471 bfb06b cfbd62 dfca57 f0d846 fee838"
    ),
    "turbo": (
        "30123b 3f3e9c 4666dd 458cfd 2fb2f4 1ad4d0 22ebaa 52fa7a 8bff4b "
        "b7f735 dbe236 f5c53a fea130 f9751d e84b0c ce2d04 a91601 7a0403"
    ),
    "hot": (
        "0b0000 320000 590000 810000 a80000 cf0000 f70000 ff1f00 ff4700 "
        "ff6e00 ff9500 ffbd00 ffe400 ffff13 ffff4e ffff89 ffffc4 ffffff"
    ),
    "red": "000000 ff0000",
    "green": "000000 00ff00",
    "blue": "000000 0000ff",
    "cyan": "000000 00ffff",
    "magenta": "000000 ff00ff",
    "yellow": "000000 ffff00",
}

COLORMAPS = tuple(_ANCHORS)
"""The names that `colormap` knows; each also with ``_r`` behind it, the other way round."""


@cache
def colormap(name: str) -> NDArray[np.uint8]:
    """The colours of a named colormap, from the start of a window to its end.

    Parameters
    ----------
    name
        One of `COLORMAPS`; with ``_r`` behind it the other way round.

    Returns
    -------
    ndarray
        (256, 3) uint8, read-only.

    Raises
    ------
    ValueError
        When there is none of that name.

    Examples
    --------
    >>> colormap("viridis")[[0, 255]].tolist()
    [[68, 1, 84], [253, 231, 37]]
    >>> colormap("gray_r")[0].tolist()
    [255, 255, 255]
    """
    stem = name.removesuffix("_r")
    if stem not in _ANCHORS:
        raise ValueError(f"there is no colormap {name!r}; expected one of {', '.join(COLORMAPS)}")
    anchors = np.array([list(bytes.fromhex(color)) for color in _ANCHORS[stem].split()])
    where, places = np.arange(256), np.linspace(0, 255, len(anchors))
    columns = [np.interp(where, places, component) for component in anchors.T]
    table = np.rint(np.stack(columns, axis=1)).astype(np.uint8)
    table = table if stem == name else table[::-1].copy()
    table.flags.writeable = False
    return table
