"""Names of units: the specification's list, the spellings found in the wild, and pint.

Text from a store never reaches pint, whose parser evaluates expressions (and can hang on
hostile ones): it is looked up in a table, and what is not there stays text.
"""

from __future__ import annotations

import math
import re
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_xarray.errors import UnitError
from ngff_xarray.text import printable

if TYPE_CHECKING:
    import pint

# SPEC 0.4-0.6, "axes": the prefixes that the lists of space and time units have in common
_PREFIXES = {
    "yotta": ("Y", 24),
    "zetta": ("Z", 21),
    "exa": ("E", 18),
    "peta": ("P", 15),
    "tera": ("T", 12),
    "giga": ("G", 9),
    "mega": ("M", 6),
    "kilo": ("k", 3),
    "hecto": ("h", 2),
    "deci": ("d", -1),
    "centi": ("c", -2),
    "milli": ("m", -3),
    "micro": ("µ", -6),
    "nano": ("n", -9),
    "pico": ("p", -12),
    "femto": ("f", -15),
    "atto": ("a", -18),
    "zepto": ("z", -21),
    "yocto": ("y", -24),
}
SPACE_UNITS = frozenset(
    {"meter", "angstrom", "foot", "inch", "mile", "parsec", "yard"}
    | {f"{prefix}meter" for prefix in _PREFIXES}
)
TIME_UNITS = frozenset(
    {"second", "day", "hour", "minute"} | {f"{prefix}second" for prefix in _PREFIXES}
)
UNITS = SPACE_UNITS | TIME_UNITS

_OTHER_SPELLINGS = {
    "micron": "micrometer",
    "microns": "micrometer",
    "A": "angstrom",
    "\u00c5": "angstrom",  # the letter
    "\u212b": "angstrom",  # the sign
    "in": "inch",
    "inches": "inch",
    "ft": "foot",
    "feet": "foot",
    "yd": "yard",
    "mi": "mile",
    "pc": "parsec",
    "sec": "second",
    "msec": "millisecond",
    "usec": "microsecond",
    "nsec": "nanosecond",
    "min": "minute",
    "h": "hour",
    "hr": "hour",
    "d": "day",
}
_SYMBOLS = {
    "angstrom": "Å",
    "foot": "ft",
    "inch": "in",
    "mile": "mi",
    "parsec": "pc",
    "yard": "yd",
    "day": "d",
    "hour": "h",
    "minute": "min",
}
_lock = threading.Lock()  # of pint's registry, of which another thread would see a half
_MICRO = ("\u00b5", "\u03bc", "u")  # the sign, the Greek letter, and what keyboards have
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*)", re.DOTALL)


@cache
def _spellings() -> dict[str, str]:
    """Return every known spelling and the unit it names."""
    table = {name: name for name in UNITS}
    table |= {f"{name}s": name for name in UNITS}
    for base, letter in (("meter", "m"), ("second", "s")):
        table[letter] = base
        for prefix, (symbol, _) in _PREFIXES.items():
            for spelt in _MICRO if prefix == "micro" else (symbol,):
                table[spelt + letter] = prefix + base
    metres = {k.replace("meter", "metre"): v for k, v in table.items() if "meter" in k}
    return table | metres | _OTHER_SPELLINGS


def unit_name(text: str) -> str | None:
    """Return the specification's name of a unit, or None if it is none that it lists.

    Parameters
    ----------
    text
        A name, symbol or plural, as stores and people write it. Symbols are told apart by
        case (``mm``, ``Mm``), names are not.

    Examples
    --------
    >>> [unit_name(text) for text in ("µm", "um", "Micrometers", "micron", "sec", "pixel")]
    ['micrometer', 'micrometer', 'micrometer', 'micrometer', 'second', None]
    """
    text = text.strip()
    table = _spellings()
    if text in table:
        return table[text]
    lower = text.lower()
    return table.get(lower) if len(lower) > 2 else None


def symbol(unit: str) -> str:
    """Return the symbol that people read (``µm``), or the unit itself where it has none.

    Examples
    --------
    >>> symbol("micrometer"), symbol("minute"), symbol("furlong")
    ('µm', 'min', 'furlong')
    """
    for base, letter in (("meter", "m"), ("second", "s")):
        if unit in UNITS and unit.endswith(base):
            return _PREFIXES.get(unit.removesuffix(base), ("", 0))[0] + letter
    return _SYMBOLS.get(unit, unit)


def known(unit: object) -> str | None:
    """Return the unit if it is one of the specification's names, else None."""
    return unit if isinstance(unit, str) and unit in UNITS else None


def readable(length: float, unit: str) -> tuple[str, float]:
    """Return the unit in which a length is a number people read, and the factor to it.

    Metres and seconds go by thousands; other units stay.

    Examples
    --------
    >>> readable(0.3, "millimeter"), readable(4000, "nanometer"), readable(90, "minute")
    (('micrometer', 1000.0), ('micrometer', 0.001), ('minute', 1.0))
    """
    for base in ("meter", "second"):
        if unit in UNITS and unit.endswith(base):
            powers = {"": 0} | {name: power for name, (_, power) in _PREFIXES.items()}
            power = powers[unit.removesuffix(base)]
            wanted = math.floor(math.log10(length) + power + 1e-9) // 3 * 3
            wanted = min(max(wanted, -24), 24 if base == "meter" else 0)
            prefix = next(name for name, value in powers.items() if value == wanted)
            return prefix + base, float(f"1e{power - wanted}")
    return unit, 1.0


def registry() -> pint.UnitRegistry[Any]:
    """Return pint's application registry, which users can set."""
    import pint

    found: pint.UnitRegistry[Any] = pint.get_application_registry()  # type: ignore[no-untyped-call]  # pint's gap
    with _lock:
        found.Quantity  # noqa: B018  # it reads its units when it is first asked for anything
    return found


def quantity(value: float, unit: str | None) -> pint.Quantity[float]:
    """Return a pint quantity; dimensionless where the unit is none of the specification's.

    Examples
    --------
    >>> print(quantity(0.5, "micrometer"))
    0.5 micrometer
    """
    return registry().Quantity(value, known(unit) or "dimensionless")


def factor(unit: str | None, wanted: str | None) -> float:
    """Return what to multiply lengths in one unit by to have them in another; 1 without units.

    Raises
    ------
    UnitError
        If one cannot be converted to the other.

    Examples
    --------
    >>> factor("micrometer", "micrometer"), factor(None, "micrometer")
    (1.0, 1.0)
    >>> round(factor("micrometer", "nanometer"), 9)
    1000.0
    """
    if unit == wanted or unit is None or wanted is None:
        return 1.0
    return magnitude(quantity(1.0, unit), wanted)


def magnitude(value: object, unit: str | None) -> float:
    """Return a position or length as a number of the given unit.

    Parameters
    ----------
    value
        A number (taken as being in ``unit``), a pint quantity, or text such as ``"10 µm"``.
    unit
        The specification's name of the unit wanted, or None for an axis without one.

    Raises
    ------
    UnitError
        If the value cannot be understood or has another dimension.

    Examples
    --------
    >>> magnitude("2 mm", "micrometer"), magnitude(3, "micrometer")
    (2000.0, 3.0)
    """
    if isinstance(value, str):
        number, value_unit = _parse(value)
        if value_unit is None:
            return number
        if unit is None:
            raise UnitError(
                f"{value!r} has a unit, but the axis has none: give a plain number, or tell first "
                "how large pixels are: .ngff.with_pixel_size(y='0.5 µm', x='0.5 µm')"
            )
        value = registry().Quantity(number, value_unit)
    if hasattr(value, "magnitude") and hasattr(value, "to"):
        return _converted(value, unit)
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError(value)
        return float(value)  # type: ignore[arg-type]  # what is no number raises
    except (TypeError, ValueError, OverflowError) as error:
        raise UnitError(f"{value!r} is no number, quantity or text such as '10 µm'") from error


def _converted(quantity: Any, unit: str | None) -> float:
    if unit is not None and known(unit) is None:  # pint is not to parse it
        raise UnitError(
            f"cannot convert {quantity}: the axis is in {unit!r}, which is no unit of the "
            "specification: give a plain number"
        )
    try:
        return float(quantity.to(unit or "dimensionless").magnitude)
    except Exception as error:
        raise UnitError(
            f"cannot convert {quantity} to {unit or 'a plain number'}, in which the axis is"
        ) from error


def _parse(text: str) -> tuple[float, str | None]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise UnitError(f"{text!r} does not start with a number; expected text such as '10 µm'")
    number, unit_text = float(match[1]), match[2].strip()
    if not math.isfinite(number):
        raise UnitError(f"{printable(text)!r} is more than a number can hold")
    if not unit_text:
        return number, None
    unit = unit_name(unit_text)
    if unit is None:
        raise UnitError(
            f"unknown unit {unit_text!r} in {text!r}; expected one of the specification's, "
            "such as 'nm', 'µm', 'mm', 'ms', 's'"
        )
    return number, unit


def byte_count(size: int | float | str) -> int:
    """Return a number of bytes from a number or from text such as ``"100 MB"`` or ``"2 GiB"``.

    Raises
    ------
    UnitError
        If the text is no number of bytes.

    Examples
    --------
    >>> byte_count("1.5 kB"), byte_count("1 MiB"), byte_count(10)
    (1500, 1048576, 10)
    """
    from dask.utils import parse_bytes

    try:
        if isinstance(size, str) and not _NUMBER.match(size):  # dask reads "" as 1 byte
            raise ValueError("does not start with a number")
        count = int(parse_bytes(size) if isinstance(size, str) else size)
        if count < 0:
            raise ValueError("is less than nothing")
    except (TypeError, ValueError, OverflowError) as error:
        raise UnitError(
            f"{size!r} is no number of bytes; expected text such as '100 MB'"
        ) from error
    return count
