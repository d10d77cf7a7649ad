"""Sizes on the command line."""

from __future__ import annotations

import click
import pytest

from nomoat.cli.sizes import size_in_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("500000", 500_000), ("2GB", 2 * 10**9), ("2 gb", 2 * 10**9), ("1.5GiB", 3 << 29), ("3k", 3000),
     ("9007199254740993", 9007199254740993)],
)  # fmt: skip
def test_a_size_is_understood_as_people_write_it(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "2XB", "1e9", "nan", "2GB left"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="500MB, 2GB"):
        size_in_bytes(text)
