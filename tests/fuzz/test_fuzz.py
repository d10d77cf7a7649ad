"""Each target runs for a moment: what longer runs found stays mended, and the targets themselves work."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from nomoat.base.settings import child_environment

FOLDER = Path(__file__).parent
TARGETS = sorted(path.name for path in FOLDER.glob("fuzz_*.py"))


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this platform"
)
@pytest.mark.parametrize("target", TARGETS)
def test_a_little_damage(target: str, tmp_path: Path) -> None:
    # By the kernel's count of the largest size a child begins with that of its parent, which has held models here.
    limits = "-rss_limit_mb=0", "-malloc_limit_mb=600"
    done = subprocess.run([sys.executable, str(FOLDER / target), "-runs=2000", *limits], cwd=tmp_path, timeout=120,
                          env=child_environment(), capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0 and not list(tmp_path.iterdir()), done.stderr[-3000:]
