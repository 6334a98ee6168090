"""Shapes of objects as scikit-image measures them, each in its own box and not in the image."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.analyse.accumulating import Sums, measured
from ngff_xarray.analyse.convex import convex_pixels
from ngff_xarray.analyse.object_boxes import Boxes, Group, grouped
from ngff_xarray.analyse.running import Crew
from ngff_xarray.analyse.second_moments import MEASURES, SecondMoments
from ngff_xarray.analyse.sweeping import swept, working
from ngff_xarray.errors import MissingDependencyError, SelectionError, UnsupportedError
from ngff_xarray.progress import progress as progress_bar

_LENGTH, _SIZE = "length", "size"
_SHAPES = {  # name in scikit-image -> what it is, None for numbers without a unit
    "area_bbox": _SIZE,
    "area_convex": _SIZE,
    "area_filled": _SIZE,
    "axis_major_length": _LENGTH,
    "axis_minor_length": _LENGTH,
    "equivalent_diameter_area": _LENGTH,
    "euler_number": None,
    "extent": None,
    "feret_diameter_max": _LENGTH,
    "inertia_tensor": None,
    "inertia_tensor_eigvals": None,
    "moments_central": None,
    "moments_normalized": None,
    "solidity": None,
}
_PLANAR = {
    "eccentricity": None,
    "orientation": None,
    "perimeter": _LENGTH,
    "perimeter_crofton": _LENGTH,
}
_ISOTROPIC = ("perimeter", "perimeter_crofton")
_BY_BOX = frozenset({"area_bbox", "equivalent_diameter_area", "extent"})
_HULL = frozenset({"area_convex", "solidity"})
# what is measured anyway, by its names in scikit-image and here
_ALWAYS = (
    *("label", "area", "volume", "pixels", "num_pixels", "centroid", "bbox"),
    *("intensity_mean", "intensity_min", "intensity_max", "intensity_std"),
)


@dataclass(frozen=True)
class Shapes:
    """Which shape measures are asked for.

    Parameters
    ----------
    names
        As scikit-image calls them.
    spacing
        The size of a pixel along every axis of space, in one unit.
    """

    names: tuple[str, ...]
    spacing: tuple[float, ...]

    @classmethod
    def of(cls, names: str | Sequence[str], spacing: Sequence[float]) -> Shapes:
        """Return those of names, without what is measured anyway.

        Raises
        ------
        SelectionError
            If there is no such measure in so many dimensions.
        UnsupportedError
            If the pixels are of a form that it is not known for.
        MissingDependencyError
            If scikit-image is needed and not installed.
        """
        names = [names] if isinstance(names, str) else list(names)
        wanted = tuple(dict.fromkeys(name for name in names if name not in _ALWAYS))
        known = {**_SHAPES, **(_PLANAR if len(spacing) == 2 else {})}
        if len(spacing) not in (2, 3):
            known = {name: kind for name, kind in known.items() if name in _BY_BOX}
        for name in wanted:
            if name not in known:
                raise SelectionError(
                    f"properties: there is no {name!r} in {len(spacing)} dimensions; beside what "
                    f"is measured anyway there are {', '.join(sorted(known))}"
                )
        last = spacing[-1]
        spacing = [last if math.isclose(each, last, rel_tol=1e-9) else each for each in spacing]
        for name in wanted:
            if name in _ISOTROPIC and len(set(spacing)) > 1:
                raise UnsupportedError(
                    f"properties: {name!r} is known for square pixels only, these are of "
                    f"{' x '.join(f'{each:g}' for each in spacing)}: resample the image, or leave "
                    "it out"
                )
        if wanted:
            _scikit_image()
        return cls(wanted, tuple(spacing))

    def units(self, unit: str | None, size_unit: str | None) -> dict[str, str]:
        """Return the unit of each that has one."""
        kinds, found = {**_SHAPES, **_PLANAR}, {_LENGTH: unit, _SIZE: size_unit, None: None}
        every = {name: found[kinds[name]] for name in self.names}
        return {name: unit for name, unit in every.items() if unit is not None}

    def measured(
        self, boxes: Boxes, sums: Sums, crew: Crew, progress: bool | None
    ) -> dict[str, NDArray[Any]]:
        """Return a column a measure, with an entry for every object.

        Parameters
        ----------
        boxes
            Reads objects.
        sums
            What is known of them.
        crew
            Who measures.
        progress
            Whether to show a bar.
        """
        if not self.names:
            return {}
        if not sums.labels.size:
            one = measured(np.ones((1,) * len(self.spacing), np.uint8))
            found = self._by_box(one) | self.of_pixels(Group.of(one, np.arange(1)), None)
            return {name: column[:0] for name, column in self._ordered(found).items()}
        found = self._by_box(sums)
        if not _BY_BOX.issuperset(self.names):
            found |= self._by_pixels(boxes, sums, crew, progress)
        return self._ordered(found)

    def _ordered(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return columns in the order of the measures; some have several, as ``name-0-1``."""
        of = {column: column.split("-")[0] for column in columns}
        return {c: columns[c] for name in self.names for c in columns if of[c] == name}

    def _by_box(self, sums: Sums) -> dict[str, NDArray[Any]]:
        """Return what the boxes and sizes of objects say."""
        ndim, pixel = len(self.spacing), math.prod(self.spacing)
        area = sums.pixels * pixel
        box = np.prod((sums.highs - sums.lows + 1).astype(np.float64), axis=0) * pixel
        every = {
            "area_bbox": box,
            "equivalent_diameter_area": (2 * ndim * area / np.pi) ** (1 / ndim),
            "extent": area / box,
        }
        return {name: every[name] for name in self.names if name in every}

    def _by_pixels(
        self, boxes: Boxes, sums: Sums, crew: Crew, progress: bool | None
    ) -> dict[str, NDArray[Any]]:
        """Return what is measured in the pixels of objects."""
        order: list[NDArray[np.intp]] = []

        def groups() -> Iterator[Group]:
            for which in grouped(sums, boxes.cells):
                order.append(which)
                yield Group.of(sums, which)

        with (
            progress_bar("measuring shapes", "objects", progress, sums.labels.size) as bar,
            working(crew, _table_of, (self, boxes)) as (call, threads),
        ):

            def work(group: Group) -> dict[str, NDArray[Any]]:
                found = call(group)
                bar.did(group.labels.size)
                return found

            tables = list(swept(groups(), work, threads, bar.show))
        places = np.argsort(np.concatenate(order))
        return {
            name: np.concatenate([table[name] for table in tables])[places] for name in tables[0]
        }

    def of_pixels(self, group: Group, boxes: Boxes | None) -> dict[str, NDArray[Any]]:
        """Return what is measured in the pixels of a group; without boxes, all of them are set."""
        moments = [name for name in self.names if name in MEASURES]
        hull = [name for name in self.names if name in _HULL and len(self.spacing) == 3]
        rest = [name for name in self.names if name not in {*_BY_BOX, *moments, *hull}]
        whole = boxes is None or bool(hull or rest)
        shape = [side.stop - side.start for side in group.box]
        numbered = np.ones(shape, np.int32) if boxes is None else None
        if boxes is not None and whole:
            numbered = boxes.load(group)
        found: dict[str, NDArray[Any]] = {}
        if moments:
            at = tuple(slice(0, n) for n in shape)
            if numbered is not None:
                found |= SecondMoments.of([(at, numbered)], group.lows).columns(self.spacing)
            elif boxes is not None:
                found |= SecondMoments.of(boxes.parts(group), group.lows).columns(self.spacing)
            found = {c: v for c, v in found.items() if c.split("-")[0] in moments}
        if rest and numbered is not None:
            found |= _by_scikit_image(numbered, rest, self.spacing)
        if hull and numbered is not None:
            found |= _by_hull(numbered, math.prod(self.spacing))
        return found


def _by_scikit_image(
    numbered: NDArray[Any], names: Sequence[str], spacing: Sequence[float]
) -> dict[str, NDArray[Any]]:
    """Return what scikit-image measures of the objects 1, 2, … in a box."""
    with warnings.catch_warnings():  # of objects that have no hull: it is NaN, infinite or 0
        warnings.simplefilter("ignore")
        table = _scikit_image().regionprops_table(numbered, properties=names, spacing=spacing)
    return {name: np.asarray(column) for name, column in table.items()}


def _by_hull(numbered: NDArray[Any], pixel: float) -> dict[str, NDArray[Any]]:
    """Return the same of convex hulls, which it takes longer for, given the size of a pixel."""
    from scipy.ndimage import find_objects

    objects = [numbered[box] == i for i, box in enumerate(find_objects(numbered), 1)]
    area = np.array([np.count_nonzero(each) for each in objects]) * pixel
    convex = np.array([convex_pixels(each) for each in objects]) * pixel
    with np.errstate(divide="ignore"):  # no hull, as above
        return {"area_convex": convex, "solidity": area / convex}


def _scikit_image() -> Any:
    try:
        import skimage.measure
    except ImportError as error:
        purpose = "measuring shapes"
        raise MissingDependencyError("scikit-image", "analyse", purpose) from error
    return skimage.measure


def _table_of(shared: tuple[Shapes, Boxes], group: Group) -> dict[str, NDArray[Any]]:
    shapes, boxes = shared
    return shapes.of_pixels(group, boxes)
