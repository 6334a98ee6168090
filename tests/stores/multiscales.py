"""A multiscale image in memory, and how each version of OME-Zarr describes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from stores.pixels import Array

Json: TypeAlias = dict[str, Any]

AXES: Mapping[str, Json] = {
    "t": {"name": "t", "type": "time", "unit": "second"},
    "c": {"name": "c", "type": "channel"},
    "z": {"name": "z", "type": "space", "unit": "micrometer"},
    "y": {"name": "y", "type": "space", "unit": "micrometer"},
    "x": {"name": "x", "type": "space", "unit": "micrometer"},
}


@dataclass(frozen=True)
class Placement:
    """Where the pixels of a multiscale image lie.

    Parameters
    ----------
    scale, translation
        Of the first level; a translation of None is written only where it is not zero.
    half_pixel
        Whether coarser levels keep the corner of the image in place.
    outer
        ``coordinateTransformations`` of the multiscale in 0.4 and 0.5; None omits the key.
    intrinsic
        Name of the coordinate system that the levels lie in, from 0.6 on.
    systems, transformations
        Further coordinate systems, and ``coordinateTransformations`` of the multiscale, from 0.6
        on; None omits the key.
    """

    scale: Sequence[float]
    translation: Sequence[float] | None
    half_pixel: bool
    outer: Sequence[Json] | None
    intrinsic: str
    systems: Sequence[Json]
    transformations: Sequence[Json] | None

    def pick(self, dims: Sequence[int]) -> Placement:
        """Placement along some of the dimensions, in the intrinsic system alone."""
        return replace(
            self,
            scale=pick(self.scale, dims),
            translation=None if self.translation is None else pick(self.translation, dims),
            outer=None if self.outer is None else [_pick_vectors(t, dims) for t in self.outer],
            systems=(),
            transformations=None,
        )

    def of_level(self, factors: Sequence[int]) -> list[Json]:
        """Scale, and translation if there is one, of the level smaller by `factors`."""
        scale = [float(s * factor) for s, factor in zip(self.scale, factors, strict=True)]
        base = [0.0] * len(scale) if self.translation is None else self.translation
        half_pixels = [s * (factor - 1) / 2 for s, factor in zip(self.scale, factors, strict=True)]
        shift = half_pixels if self.half_pixel else [0.0] * len(scale)
        translation = [float(b + s) for b, s in zip(base, shift, strict=True)]
        if self.translation is None and not any(translation):
            return [{"type": "scale", "scale": scale}]
        return [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": translation},
        ]


@dataclass(frozen=True)
class Multiscale:
    """A multiscale image ready to be written."""

    axes: Sequence[Json]
    levels: Sequence[Array]
    paths: Sequence[str]
    placement: Placement
    chunks: Sequence[int]
    shards: Sequence[int] | None

    @property
    def names(self) -> list[str]:
        """Names of the axes."""
        return [axis["name"] for axis in self.axes]

    def level_transformations(self) -> list[list[Json]]:
        """Scale, and translation if there is one, of each level."""
        halved = space_dims(self.axes)[-2:]
        return [
            self.placement.of_level([2**n if d in halved else 1 for d in range(len(self.axes))])
            for n in range(len(self.levels))
        ]

    def with_axes(self, names: Sequence[str]) -> Multiscale:
        """Image with all of the axes `names`: those that it lacks have size 1.

        Raises
        ------
        ValueError
            If the image has other axes, or in another order.
        """
        if [name for name in names if name in self.names] != self.names:
            raise ValueError(f"Axes {self.names} are not out of {list(names)}, in that order.")
        lacking = tuple(dim for dim, name in enumerate(names) if name not in self.names)
        chunks = dict(zip(self.names, self.chunks, strict=True))
        return replace(
            self,
            axes=[AXES[name] for name in names],
            levels=[np.expand_dims(level, lacking) for level in self.levels],
            chunks=[chunks.get(name, 1) for name in names],
        )


def space_dims(axes: Sequence[Json]) -> list[int]:
    """Dimensions that are space, by type, or by name for an axis without a type."""
    return [
        dim
        for dim, axis in enumerate(axes)
        if axis.get("type", "space" if axis["name"] in set("zyx") else None) == "space"
    ]


def pick(values: Sequence[Any], dims: Sequence[int]) -> list[Any]:
    """Values of some of the dimensions."""
    return [values[dim] for dim in dims]


def describe_0_1(name: str, image: Multiscale) -> Json:
    """Multiscale object of 0.1 and 0.2: no axes, no scales."""
    return {"name": name, "datasets": [{"path": path} for path in image.paths]}


def describe_0_3(name: str, image: Multiscale) -> Json:
    """Multiscale object of 0.3: axes by name, no scales."""
    return {**describe_0_1(name, image), "axes": image.names}


def describe_0_4(name: str, image: Multiscale) -> Json:
    """Multiscale object of 0.4 and 0.5: axis objects, lists of a scale and a translation."""
    levels = zip(image.paths, image.level_transformations(), strict=True)
    outer = image.placement.outer
    return {
        "name": name,
        "axes": list(image.axes),
        "datasets": [{"path": path, "coordinateTransformations": steps} for path, steps in levels],
        **({} if outer is None else {"coordinateTransformations": list(outer)}),
    }


def describe_0_6(name: str, image: Multiscale) -> Json:
    """Multiscale object of 0.6: coordinate systems, and transformations between them."""
    placement = image.placement
    levels = zip(image.paths, image.level_transformations(), strict=True)
    return {
        "name": name,
        "coordinateSystems": [
            {"name": placement.intrinsic, "axes": list(image.axes)},
            *placement.systems,
        ],
        "datasets": [
            {"path": path, "coordinateTransformations": [_joined(steps, path, placement.intrinsic)]}
            for path, steps in levels
        ],
        **(
            {}
            if placement.transformations is None
            else {"coordinateTransformations": list(placement.transformations)}
        ),
    }


def _pick_vectors(transformation: Json, dims: Sequence[int]) -> Json:
    return {
        key: pick(value, dims) if isinstance(value, list) else value
        for key, value in transformation.items()
    }


def _joined(steps: list[Json], path: str, intrinsic: str) -> Json:
    whole = steps[0] if len(steps) == 1 else {"type": "sequence", "transformations": steps}
    return {**whole, "input": {"path": path}, "output": {"name": intrinsic}}
