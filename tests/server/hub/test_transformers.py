"""transformers and PEFT, unmodified, with no more than HF_ENDPOINT set."""

from __future__ import annotations

from running_hub import RunningHub


def test_models_and_adapters_go_up_and_come_down(running_hub: RunningHub, alice: str) -> None:
    running_hub.run_client("transformers_script", "model_and_adapter", alice)
