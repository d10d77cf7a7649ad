"""What an adapter consists of when it travels. Reports, logs and the text behind it stay with their owner."""

from __future__ import annotations

from nomoat.base.manifests import MANIFEST_NAME
from nomoat.formats.peft_config import CONFIG_NAME
from nomoat.formats.peft_folder import WEIGHTS_NAME
from nomoat.store.adapters import GGUF_NAME

__all__ = ["ADAPTER_FILES", "CARD_NAME"]

CARD_NAME = "README.md"
ADAPTER_FILES = (WEIGHTS_NAME, CONFIG_NAME, GGUF_NAME, CARD_NAME, "LICENSE", MANIFEST_NAME)
"""In the order in which they are written: the manifest is last."""
