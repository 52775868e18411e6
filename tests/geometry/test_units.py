"""Units: names as UDUNITS writes them, conversions as physics has them."""

import pint
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emstore.errors import InvalidInput, Kind
from emstore.geometry import units

KNOWN = sorted(units._BASE)
REGISTRY = pint.UnitRegistry()


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("nm", "nanometer"),
        ("µm", "micrometer"),
        ("μm", "micrometer"),
        ("um", "micrometer"),
        ("micron", "micrometer"),
        ("Å", "angstrom"),
        ("A", "angstrom"),
        ("pm", "picometer"),
        ("mm", "millimeter"),
        ("1/nm", "1/nanometer"),
        ("1 / nm", "1/nanometer"),
        ("nm^-1", "1/nanometer"),
        ("1 / µm", "1/micrometer"),
        ("eV", "electronvolt"),
        ("keV", "kiloelectronvolt"),
        ("mrad", "milliradian"),
        ("sec", "second"),
        ("msec", "millisecond"),
        ("nanometer", "nanometer"),
        ("Millimeter", "millimeter"),
        ("1/nanometer", "1/nanometer"),
    ],
)
def test_instruments_spell_units_in_many_ways(spelling: str, name: str) -> None:
    assert units.canonical(spelling) == name


@pytest.mark.parametrize(
    "spelling", [None, "", "  ", "px", "pixel", "pixels", "[]", "furlong", "µn", "µ", "1/", "1/1/nm", "<undefined>"]
)
def test_what_is_not_known_is_not_guessed(spelling: str | None) -> None:
    assert units.canonical(spelling) is None


def test_case_tells_milli_from_mega() -> None:
    assert units.canonical("MeV") == "megaelectronvolt"
    assert units.canonical("mA") == "milliampere"
    assert units.canonical("nA") == "nanoampere"
    assert units.canonical("pA") == "picoampere"
    assert units.canonical("Pa") == "pascal"


@pytest.mark.parametrize("name", KNOWN)
def test_factors_are_those_of_an_independent_library(name: str) -> None:
    base = next(other for other in KNOWN if units.dimension(other) == units.dimension(name))
    expected = (1 * REGISTRY(name)).to(REGISTRY(base)).magnitude if name != "percent" else 1.0
    assert units.factor(name, base) == pytest.approx(expected, rel=1e-9)


@given(st.sampled_from(KNOWN), st.sampled_from(KNOWN), st.floats(1e-6, 1e6))
def test_conversion_there_and_back_is_the_identity(one: str, two: str, value: float) -> None:
    if units.dimension(one) == units.dimension(two):
        there = units.convert(value, one, two)
        assert units.convert(there, two, one) == pytest.approx(value, rel=1e-12)
    else:
        with pytest.raises(InvalidInput):
            units.convert(value, one, two)


def test_reciprocal_units_convert_the_other_way_round() -> None:
    assert units.convert(1.0, "1/nm", "1/angstrom") == pytest.approx(0.1)


def test_a_typed_unit_that_is_unknown_is_an_error() -> None:
    with pytest.raises(InvalidInput) as caught:
        units.parse("furlong")
    assert caught.value.kind is Kind.BAD_UNIT


@given(st.text(max_size=20))
def test_no_text_makes_it_fail(text: str) -> None:
    name = units.canonical(text)
    assert name is None or units.canonical(name) == name


@pytest.mark.parametrize("name", [name for name in KNOWN if name != "percent"])
def test_symbols_mean_the_unit(name: str) -> None:
    assert REGISTRY(units.symbol(name)).units == REGISTRY(name).units
    assert units.symbol(f"1/{name}") == f"1/{units.symbol(name)}"


def test_a_unit_without_a_symbol_is_shown_as_it_is() -> None:
    assert units.symbol("furlong") == "furlong"


@given(st.floats(1e-15, 1e9), st.sampled_from(sorted(units.LENGTHS)))
def test_readable_lengths_are_the_same_lengths(value: float, unit: str) -> None:
    shown, name = units.readable(value, unit)
    assert units.convert(shown, name, unit) == pytest.approx(value, rel=1e-12)
    if name != unit and 1e-12 < units.convert(value, unit, "meter") < 1:
        assert 1 <= shown < 1000


def test_readable_leaves_alone_what_is_no_length() -> None:
    assert units.readable(1e-9, "second") == (1e-9, "second")
    assert units.readable(3.3724e-06, "meter") == (pytest.approx(3.3724), "micrometer")
    assert units.readable(0.5, "millimeter") == (0.5, "millimeter")
