"""Sizes as options and arguments of the command line."""

from __future__ import annotations

import click

from nomoat.base.errors import InputError
from nomoat.base.sizes import parse_bytes

__all__ = ["parse_rate", "size_in_bytes"]


def size_in_bytes(text: str) -> int:
    """`parse_bytes` for `type=` of an option or an argument. Raises `click.BadParameter`."""
    try:
        return parse_bytes(text)
    except InputError as error:
        raise click.BadParameter(f"{error.message}: {error.hint}") from error


def parse_rate(text: str) -> int:
    """A size for each second: `500kB`, `2MB`. Raises `InputError`, also for 0, at which nothing would ever come."""
    rate = parse_bytes(text)
    if rate == 0:
        raise InputError(
            f"{text!r} is no rate: nothing would come", "write bytes per second like 500kB or 2MB"
        )
    return rate
