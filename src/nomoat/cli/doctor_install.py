"""What the doctor says of the installation: Python, packages, environment variables."""

from __future__ import annotations

import difflib
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from nomoat import __version__
from nomoat.base.settings import SETTINGS_VARIABLES, telling_variables
from nomoat.cli.findings import OK, PROBLEM, WARNING, Finding

__all__ = ["examine"]

_TOPIC = "installation"
# The package that stands for each optional part, and the part itself.
_NEEDED = ("click", "jinja2", "llama-cpp-python", "numpy", "psutil", "rich", "safetensors", "xxhash")
_OPTIONAL = {"tune": ("torch",), "serve": ("starlette", "uvicorn", "msgspec", "prometheus-client")}
_OF_SETUP = ("NOMOAT_CMAKE_ARGS", "NOMOAT_PYTHON", "NOMOAT_TORCH_INDEX")  # scripts/setup reads them
_SPINNING = 10_000  # rounds at a barrier above which a second program on the same cores brings both to a halt


def examine() -> Iterator[Finding]:
    """Findings about the installation."""
    words = f"nomoat {__version__}, Python {platform.python_version()} at {sys.executable}"
    yield Finding(_TOPIC, words, facts={"nomoat": __version__, "python": platform.python_version()})
    yield _needed()
    yield from _parts()
    yield from _variables(telling_variables())


def _needed() -> Finding:
    found = {name: _version(name) for name in _NEEDED}
    missing = [name for name, number in found.items() if number is None]
    if missing:
        return Finding(_TOPIC, f"missing packages: {', '.join(missing)}", PROBLEM, "run scripts/setup", found)
    return Finding(_TOPIC, ", ".join(f"{name} {number}" for name, number in found.items()), facts=found)


def _parts() -> Iterator[Finding]:
    for part, packages in _OPTIONAL.items():
        found = {name: _version(name) for name in packages}
        missing = [name for name, number in found.items() if number is None]
        words = ", ".join(f"{name} {number}" for name, number in found.items() if number)
        if missing:
            text = f"`nomoat {part}` does not work: {', '.join(missing)} not installed"
            yield Finding(_TOPIC, text, WARNING, f"scripts/setup, or: pip install 'nomoat[{part}]'", found)
        else:
            yield Finding(_TOPIC, f"for `nomoat {part}`: {words}", facts=found)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _variables(found: dict[str, str]) -> Iterator[Finding]:
    """Environment variables that change how nomoat works, and those that were meant to."""
    if not found:
        yield Finding(_TOPIC, "no environment variable changes how nomoat works")
    for name, value in found.items():
        text, remedy = f"{name}={value}", ""
        if name.startswith("NOMOAT_") and name not in (*SETTINGS_VARIABLES, *_OF_SETUP):
            near = difflib.get_close_matches(name, SETTINGS_VARIABLES, n=1)
            text += " means nothing to nomoat"
            remedy = f"did you mean {near[0]}?" if near else "docs/reference/files.md lists the variables"
        elif name == "NOMOAT_THREADS" and not (value.isdigit() and int(value)):
            text, remedy = (
                f"{text} is ignored: it is no positive number",
                "unset it, or give a number of threads",
            )
        elif name == "NOMOAT_THREADS":
            text += ": the number of threads does not follow the load of the machine"
        elif (name == "GOMP_SPINCOUNT" and _spins(value)) or (name, value.upper()) == (
            "OMP_WAIT_POLICY",
            "ACTIVE",
        ):
            text += ": threads spin at barriers, which costs much beside other programs"
            remedy = "unset it (nomoat then lets them spin as long as the load of the machine allows)"
        yield Finding(_TOPIC, text, WARNING if remedy else OK, remedy, {name: value})


def _spins(value: str) -> bool:
    return not value.isdigit() or int(value) > _SPINNING
