"""Sizes on the command line: what they may be beyond a size is said here, the rest in tests/base."""

from __future__ import annotations

import click
import pytest

from nomoat.base.errors import InputError
from nomoat.cli.sizes import parse_rate, size_in_bytes


def test_an_option_that_is_no_size_is_wrong_usage() -> None:
    assert size_in_bytes("1.5GiB") == 3 << 29
    with pytest.raises(click.BadParameter, match=r"'2XB' is no size: .*500MB, 2GB"):
        size_in_bytes("2XB")


def test_a_rate_is_a_size_and_more_than_nothing() -> None:
    assert (parse_rate("500kB"), parse_rate("2 MiB"), parse_rate("64")) == (500_000, 2 << 20, 64)
    for text in ("0", "0.4", "fast"):
        with pytest.raises(InputError):
            parse_rate(text)
