"""Sizes as people write them on the command line: `500000`, `2GB`, `1.5 GiB`."""

from __future__ import annotations

import re

import click

__all__ = ["size_in_bytes"]

_UNITS: dict[str, int] = {"": 1, "B": 1, **{f"{letter}B": 1000**n for n, letter in enumerate("KMGT", 1)},
          **{letter: 1000**n for n, letter in enumerate("KMGT", 1)},
          **{f"{letter}IB": 1024**n for n, letter in enumerate("KMGT", 1)}}  # fmt: skip
_FORM = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[a-z]*)", re.IGNORECASE)


def size_in_bytes(text: str) -> int:
    """The number of bytes that `text` says: kB to TB are powers of 1000, KiB to TiB of 1024.

    For `type=` of an option or an argument. Raises `click.BadParameter`.
    """
    found = _FORM.fullmatch(text.strip())
    factor = _UNITS.get(found["unit"].upper()) if found else None
    if found is None or factor is None:
        raise click.BadParameter(f"{text!r} is no size: write a number of bytes, or 500MB, 2GB, 1.5GiB")
    number = found["number"]
    return round(float(number) * factor) if "." in number else int(number) * factor
