"""Compile kernels.c for this very machine, once, into the cache; a changed source, CPU or compiler builds anew."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
from pathlib import Path

from nomoat.base.files import atomic_path

__all__ = ["built_library", "cpu_flags", "library_path"]

_SOURCES = ("kernels.c", "kernels_body.h")
# No -ffast-math: NaN must stay NaN so that a diverging run is seen.
_FLAGS = ("-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")


def cpu_flags() -> str:
    """The processor's name and instruction sets, as the system tells them; empty where it does not."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    wanted = ("model name", "flags", "Features")
    lines = (line for line in info.read_text().splitlines() if line.startswith(wanted))
    return "\n".join(sorted(set(lines)))


def built_library(cache: Path, march: str = "native") -> Path | None:
    """Path of the shared library, compiled now if it is not in `cache`; None where no GCC can build it.

    `march` is GCC's name of what to compile for. Anything but the machine at hand is for measurements.
    """
    command = _command(march)
    library = library_path(cache, march)
    if command is None or library is None or library.is_file():
        return library
    return library if _compile(command, library) else None


def library_path(cache: Path, march: str = "native") -> Path | None:
    """Where `built_library` puts the library; None where there is no compiler for it."""
    command = _command(march)
    return cache / f"nomoat-kernels-{_key(command)}.so" if command else None


def _command(march: str) -> list[str] | None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or platform.system() != "Linux":
        return None  # clang's OpenMP runtime would fight torch's; eager operations are used there
    return [compiler, *_FLAGS, f"-march={march}"]


def _key(command: list[str]) -> str:
    here = Path(__file__).parent
    parts = [(here / name).read_text() for name in _SOURCES]
    version = subprocess.run([command[0], "--version"], capture_output=True, text=True, check=False).stdout
    return hashlib.sha256("\0".join([*parts, *command[1:], version, cpu_flags()]).encode()).hexdigest()[:16]


def _compile(command: list[str], library: Path) -> bool:
    source = Path(__file__).parent / "kernels.c"
    try:
        with atomic_path(library) as temporary:
            command = [*command, "-o", str(temporary), str(source), "-lm"]
            subprocess.run(command, capture_output=True, check=True)
    except subprocess.CalledProcessError:
        return False
    return True
