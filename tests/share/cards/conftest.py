"""The adapter's folder that the tests of trust use, too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "trust"))
