"""Sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomoat.base.errors import InputError
from nomoat.base.sizes import MOST_BYTES, parse_bytes

UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4,
         "Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("500000", 500_000), ("500 B", 500), ("2GB", 2 * 10**9), ("2 gb", 2 * 10**9), ("1.5GiB", 3 << 29),
     ("3k", 3000), ("3Ki", 3072), ("0.1k", 100), ("1.9", 1), ("9007199254740993", 9007199254740993),
     ("4.35GB", 4_350_000_000), ("1.1TB", 1_100_000_000_000), (f"{MOST_BYTES}", MOST_BYTES)],
)  # fmt: skip
def test_a_size_is_understood_as_people_write_it(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@given(
    number=st.integers(0, 8_000_000), unit=st.sampled_from(sorted(UNITS)), b=st.sampled_from(["", "B"]),
    space=st.sampled_from(["", " ", "  "]), case=st.sampled_from([str, str.lower, str.upper]),
)  # fmt: skip
def test_every_whole_number_of_every_unit_is_exact(
    number: int, unit: str, b: str, space: str, case: type[str]
) -> None:
    assert parse_bytes(f" {case(f'{number}{space}{unit}{b}')} ") == number * UNITS[unit]


@given(thousandths=st.integers(0, 10**12), unit=st.sampled_from(sorted(UNITS.keys() - {""})))
def test_parts_are_exact_to_the_byte_below(thousandths: int, unit: str) -> None:
    number = f"{thousandths // 1000}.{thousandths % 1000:03}"
    expected = thousandths * UNITS[unit] // 1000
    if expected <= MOST_BYTES:
        assert parse_bytes(f"{number}{unit}B") == expected
    else:
        with pytest.raises(InputError, match="more than"):
            parse_bytes(f"{number}{unit}B")


@given(st.text(max_size=12))
def test_anything_else_is_refused_with_the_remedy(text: str) -> None:
    try:
        assert 0 <= parse_bytes(text) <= MOST_BYTES
    except InputError as error:
        assert repr(text) in error.message and "GB" in error.hint


@pytest.mark.parametrize(
    "text", ["", "GB", "-1", "2XB", "1e9", "nan", "2GB left", "5iB", "1,5GB", "٣GB", ".5GB", "1" * 5000]
)
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    with pytest.raises(InputError) as error:
        parse_bytes(text)
    assert "500MB, 2GB, 1.5GiB" in error.value.hint


def test_more_than_a_disk_can_tell_is_refused() -> None:
    for text in (f"{MOST_BYTES + 1}", "9999999999TB"):
        with pytest.raises(InputError, match="more than"):
            parse_bytes(text)
