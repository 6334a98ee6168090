"""Names of units: the specification's list, what people and stores write, and pint."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pint
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngff_xarray import units
from ngff_xarray.errors import UnitError

UNTIMED = settings(deadline=None)


def words(text: str) -> list[str]:
    return text.split()


# as SPEC 0.4, 0.5 and 0.6 list them under "axes"
SPACE = words(
    "angstrom attometer centimeter decimeter exameter femtometer foot gigameter hectometer inch "
    "kilometer megameter meter micrometer mile millimeter nanometer parsec petameter picometer "
    "terameter yard yoctometer yottameter zeptometer zettameter"
)
TIME = words(
    "attosecond centisecond day decisecond exasecond femtosecond gigasecond hectosecond hour "
    "kilosecond megasecond microsecond millisecond minute nanosecond petasecond picosecond second "
    "terasecond yoctosecond yottasecond zeptosecond zettasecond"
)

# what people and stores write for them
SPELLINGS = {
    "micrometer": "µm μm um micrometre micrometers micrometres Micrometer MICROMETERS micron "
    "microns Microns",
    "nanometer": "nm nanometers nanometre Nanometer",
    "millimeter": "mm Millimeters",
    "centimeter": "cm",
    "meter": "m metre meters metres Meter",
    "picometer": "pm",
    "petameter": "Pm",
    "megameter": "Mm",
    "kilometer": "km",
    "decimeter": "dm",
    "hectometer": "hm",
    "angstrom": "\u00c5 \u212b A angstroms Angstrom",
    "inch": "in inches",
    "foot": "ft feet",
    "yard": "yd yards",
    "mile": "mi miles",
    "parsec": "pc parsecs",
    "second": "s sec seconds Second Seconds Sec",
    "millisecond": "ms msec milliseconds Milliseconds",
    "megasecond": "Ms",
    "microsecond": "us µs μs usec microseconds",
    "nanosecond": "ns nsec nanoseconds",
    "picosecond": "ps",
    "petasecond": "Ps",
    "minute": "min minutes Minute Min",
    "hour": "h hr hours Hour",
    "day": "d days Day",
}
NO_UNITS = ["px", "pixel", "pixels", "voxel", "frame", "null", "none", "arbitrary", "a.u.", "unit"]
NO_UNITS += ["", "  ", "Pixel", "UM", "MM", "M", "S", "nM", "PM", "dimensionless", "kelvin", "µ"]

HOSTILE = [
    "9**9**9**9",
    "kilo" * 200_000,
    "__import__('os')",
    "meter**(9**9**9)",
    "(" * 10_000 + "m" + ")" * 10_000,
    "m\x00",
    "m;s",
    "µ" * 100_000,
]


class ReachedError(BaseException):
    """Text reached pint: no ``except Exception`` on the way hides it."""


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pint refuse all text that is none of the specification's units."""
    units.registry().Quantity(1, "meter")  # it parses its own definitions at the first use

    def guard(name: str) -> None:
        inner = getattr(pint.UnitRegistry, name)

        def guarded(self: Any, text: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(text, str) and text not in (*SPACE, *TIME, "dimensionless"):
                raise ReachedError(f"pint.{name} was asked to parse {text[:40]!r}")
            return inner(self, text, *args, **kwargs)

        monkeypatch.setattr(pint.UnitRegistry, name, guarded)

    for name in ("__call__", "parse_expression", "parse_units", "parse_units_as_container"):
        guard(name)


def test_the_guard_guards(sealed: None) -> None:
    registry = units.registry()
    for parse in (registry.Quantity, registry.Unit, registry.parse_expression, registry):
        with pytest.raises(ReachedError, match="was asked"):
            parse("furlong")
    with pytest.raises(ReachedError, match="was asked"):
        registry.Quantity(1, "furlong")
    with pytest.raises(ReachedError, match="was asked"):
        registry.Quantity(1, "meter").to("furlong")


# ---- names ---------------------------------------------------------------------------------


def test_the_lists_are_the_specifications() -> None:
    assert (len(SPACE), len(TIME)) == (26, 23)
    assert frozenset(SPACE) == units.SPACE_UNITS
    assert frozenset(TIME) == units.TIME_UNITS
    assert {*SPACE, *TIME} == units.UNITS


@pytest.mark.parametrize("unit", [*SPACE, *TIME])
def test_every_unit_is_itself_in_pint_too(unit: str) -> None:
    assert units.unit_name(unit) == unit
    assert units.known(unit) == unit
    quantity = units.quantity(2.5, unit)
    assert (quantity.magnitude, str(quantity.units)) == (2.5, unit)
    assert quantity.check("[length]" if unit in SPACE else "[time]")


@pytest.mark.parametrize(
    ("text", "unit"), [(text, unit) for unit, texts in SPELLINGS.items() for text in texts.split()]
)
def test_spellings(text: str, unit: str) -> None:
    assert units.unit_name(text) == unit
    assert units.unit_name(f" {text}\n") == unit
    assert units.magnitude(f"3 {text}", unit) == 3


@pytest.mark.parametrize("unit", [*SPACE, *TIME])
def test_symbols_are_read_back(unit: str) -> None:
    symbol = units.symbol(unit)
    assert len(symbol) <= 3
    assert units.unit_name(symbol) == unit
    assert pint.Quantity(1.0, symbol).to(unit).magnitude == pytest.approx(1)


def test_symbol() -> None:
    found = [units.symbol(unit) for unit in ("micrometer", "meter", "second", "minute", "foot")]
    assert found == ["µm", "m", "s", "min", "ft"]
    assert [units.symbol(unit) for unit in ("furlong", "", "parameter")] == [
        "furlong",
        "",
        "parameter",
    ]


@pytest.mark.parametrize("text", NO_UNITS)
def test_what_is_no_unit(text: str) -> None:
    assert units.unit_name(text) is None
    assert units.known(text) is None


@pytest.mark.parametrize("thing", [None, 3, ["meter"], b"meter", "um", "Meter"])
def test_known_takes_the_specifications_names_only(thing: object) -> None:
    assert units.known(thing) is None


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_never_reaches_pint(text: str, sealed: None) -> None:
    assert units.unit_name(text) is None
    assert units.quantity(1, text).dimensionless
    assert units.symbol(text) == text
    assert units.readable(3, text) == (text, 1)
    for value in (text, f"3 {text}", f"{text} meter"):
        with pytest.raises(UnitError):
            units.magnitude(value, "meter")
    for value in ("3 m", units.quantity(3, "meter")):
        with pytest.raises(UnitError):
            units.magnitude(value, text)
    with pytest.raises(UnitError):
        units.byte_count(text)


@UNTIMED
@given(st.text(max_size=20))
def test_any_text_is_a_listed_unit_or_none(text: str) -> None:
    assert units.unit_name(text) in {None, *SPACE, *TIME}


# ---- quantities ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (3, "micrometer", 3),
        (-2.5, None, -2.5),
        (np.float32(0.5), "second", 0.5),
        (np.int8(7), None, 7),
        (np.array(4.0), None, 4),
        ("10 µm", "micrometer", 10),
        ("10µm", "nanometer", 10_000),
        ("1e-3 mm", "micrometer", 1),
        (" -.5\tum ", "micrometer", -0.5),
        ("+2. mm", "micrometer", 2000),
        ("1E3nm", "micrometer", 1),
        ("7", "micrometer", 7),
        ("7", None, 7),
        (np.str_("2 min"), "second", 120),
        ("1 in", "millimeter", 25.4),
        ("10 \u212b", "nanometer", 1),
    ],
)
def test_magnitude(value: object, unit: str | None, expected: float) -> None:
    found = units.magnitude(value, unit)
    assert type(found) is float
    assert found == pytest.approx(expected, rel=1e-12)


def test_magnitude_of_pint_quantities() -> None:
    for registry in (units.registry(), pint.UnitRegistry()):
        assert units.magnitude(registry.Quantity(2, "millimeter"), "micrometer") == 2000
        assert units.magnitude(registry.Quantity(2000, "thou"), "inch") == pytest.approx(2)
        assert units.magnitude(registry.Quantity(3), None) == 3
        assert units.magnitude(registry.Quantity(np.float32(3), "m"), "meter") == 3


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        ("3 s", "micrometer"),
        ("3 µm", "second"),
        ("3 µm", None),
        (pint.Quantity(3, "second"), "micrometer"),
        (pint.Quantity(3, "meter"), None),
        (pint.Quantity(3), "meter"),
        (pint.Quantity([1, 2], "meter"), "meter"),
        ("nan", "meter"),
        ("inf m", "meter"),
        ("-inf", None),
        ("", "meter"),
        (" ", None),
        ("µm", "micrometer"),
        ("3 4", "meter"),
        ("3 px", "micrometer"),
        ("3 pixel", None),
        ("3 m/s", "meter"),
        ("3 m**2", "meter"),
        ("1_000 m", "meter"),
        ("0x10 m", "meter"),
        (None, "meter"),
        (True, "meter"),
        (np.False_, None),
        ([1], "meter"),
        (3 + 4j, "meter"),
        (np.array([1.0, 2.0]), "meter"),
        (np.timedelta64(5, "ms"), "second"),
        (10**400, "meter"),
        ({}, None),
    ],
)
def test_what_is_no_magnitude(value: object, unit: str | None) -> None:
    with pytest.raises(UnitError):
        units.magnitude(value, unit)


def test_errors_name_what_was_found_and_what_would_do() -> None:
    with pytest.raises(UnitError, match=r"'parsnip' in '3 parsnip'.*such as.*'µm'"):
        units.magnitude("3 parsnip", "meter")
    with pytest.raises(UnitError, match=r"3.0 second to micrometer"):
        units.magnitude("3 s", "micrometer")
    with pytest.raises(UnitError, match=r"'3 µm' has a unit, but the axis has none"):
        units.magnitude("3 µm", None)


@UNTIMED
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_and_their_text_pass_unchanged(number: float) -> None:
    assert units.magnitude(number, "micrometer") == number
    assert units.magnitude(repr(number), "micrometer") == number


def test_a_quantity_of_no_unit_is_dimensionless() -> None:
    for unit in (None, "px", "furlong", ""):
        quantity = units.quantity(3, unit)
        assert (quantity.magnitude, quantity.dimensionless) == (3, True)


def test_factor() -> None:
    assert units.factor("micrometer", "nanometer") == pytest.approx(1000)
    assert units.factor("second", "minute") == pytest.approx(1 / 60)
    for pair in (("foot", "foot"), (None, "foot"), ("foot", None), (None, None)):
        assert units.factor(*pair) == 1
    with pytest.raises(UnitError):
        units.factor("second", "meter")


# ---- readable ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "unit", "wanted", "factor"),
    [
        (0.3, "millimeter", "micrometer", 1e3),
        (999, "nanometer", "nanometer", 1),
        (1000, "nanometer", "micrometer", 1e-3),
        (1e-3, "micrometer", "nanometer", 1e3),
        (20, "centimeter", "millimeter", 10),
        (2, "hectometer", "meter", 100),
        (5000, "meter", "kilometer", 1e-3),
        (5000, "second", "second", 1),
        (3, "kilosecond", "second", 1e3),
        (0.02, "second", "millisecond", 1e3),
        (1e-9, "yoctometer", "yoctometer", 1),
        (1e9, "yottameter", "yottameter", 1),
        (0.001, "inch", "inch", 1),
        (90, "minute", "minute", 1),
        (7, "angstrom", "angstrom", 1),
        (7, "px", "px", 1),
        (7, "parameter", "parameter", 1),
    ],
)
def test_readable(length: float, unit: str, wanted: str, factor: float) -> None:
    assert units.readable(length, unit) == (wanted, factor)


METRIC = [unit for unit in (*SPACE, *TIME) if unit.endswith(("meter", "second"))]


@UNTIMED
@given(st.floats(1e-6, 1e6), st.sampled_from(METRIC))
def test_readable_numbers_have_one_to_three_digits(length: float, unit: str) -> None:
    wanted, factor = units.readable(length, unit)
    assert wanted in units.UNITS
    expected = pint.Quantity(length, unit).to(wanted).magnitude
    assert length * factor == pytest.approx(expected, rel=1e-9)
    power = math.log10(pint.Quantity(length, unit).to(METRIC_BASE[unit]).magnitude)
    if -24 <= power < (24 if METRIC_BASE[unit] == "meter" else 0):
        assert 1 - 1e-8 <= length * factor < 1000


METRIC_BASE = {unit: "meter" if unit.endswith("meter") else "second" for unit in METRIC}


# ---- bytes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("100 MB", 100_000_000),
        ("100MB", 100_000_000),
        (" 1.5 kB ", 1500),
        ("1 MiB", 2**20),
        ("2 gib", 2**31),
        ("7", 7),
        ("7 B", 7),
        ("1e3 kB", 10**6),
        (10, 10),
        (10.7, 10),
        (0, 0),
        (np.int64(5), 5),
        (np.float32(5.0), 5),
    ],
)
def test_byte_count(size: Any, count: int) -> None:
    found = units.byte_count(size)
    assert (found, type(found)) == (count, int)


@pytest.mark.parametrize(
    "size",
    [
        *("", " ", "MB", "many", "3 cm", "1,000", "9**9", "-5 MB", "nan", "inf", "1e400 MB"),
        *(-1, math.inf, math.nan, None, [1], {}, b"5 MB"),
    ],
)
def test_what_is_no_byte_count(size: Any) -> None:
    with pytest.raises(UnitError, match="expected text such as '100 MB'"):
        units.byte_count(size)


def test_threads_may_ask_first_all_at_once() -> None:
    code = """
import sys, threading
from ngff_xarray import units
sys.setswitchinterval(1e-6)
together, found = threading.Barrier(8), []
def ask():
    together.wait()
    found.append(units.factor("micrometer", "nanometer"))
threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert [round(each) for each in found] == [1000] * 8
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
