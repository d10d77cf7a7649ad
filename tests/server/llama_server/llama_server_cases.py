"""Requests of llama-server's own endpoints, and what of their answers is worth comparing."""

from __future__ import annotations

from typing import Any

__all__ = ["CASES", "CONTEXT_TOKENS", "EMBEDDINGS", "steady"]

CONTEXT_TOKENS = 1024
# Prompts whose likeliest continuation leads by far: sums in another order, on another processor, change no token of it.
_COUNTING = "1, 2, 3, 4, 5, 6, 7, 8,"
_GREEDY: dict[str, Any] = {"temperature": 0, "n_predict": 6}
_LONG: dict[str, Any] = {"temperature": 0, "n_predict": 24}
_SAID = "<|im_start|>user\nSay only: yes<|im_end|>\n<|im_start|>assistant\nYes."
_BLUE = "Is the sky blue? "
_CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 8}}, "required": ["city"]}
_CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


def _counted(n_tokens: int) -> list[int]:
    """The first tokens of "1, 2, 3 ...": each digit is one, and so are the comma and the blank."""
    tokens: list[int] = []
    for number in range(1, n_tokens):
        tokens += [*(32 + int(digit) for digit in str(number)), 28, 216]
    return tokens[:n_tokens]


Case = tuple[str, str, Any]
"""Method, path, body."""

CASES: dict[str, Case] = {
    "text": ("POST", "/completion", {"prompt": _COUNTING, **_GREEDY}),
    "the other name": ("POST", "/completions", {"prompt": _COUNTING, **_GREEDY}),
    "token ids": ("POST", "/completion", {"prompt": [33, 28, 216, 34, 28, 216, 35, 28], **_GREEDY}),
    "mixed": ("POST", "/completion", {"prompt": [33, 28, " 2, 3, 4, 5,", 216, 38, 28], **_GREEDY}),
    "an object": ("POST", "/completion", {"prompt": {"prompt_string": _COUNTING}, **_GREEDY}),
    "several prompts": ("POST", "/completion", {
        "prompt": [_COUNTING, [33, 28, 216, 34, 28], {"prompt_string": [33, ", 2, 3,"]}], **_GREEDY}),
    "one prompt in a list": ("POST", "/completion", {"prompt": [_COUNTING], **_GREEDY}),
    "tokens": ("POST", "/completion", {"prompt": _COUNTING, **_GREEDY, "return_tokens": True}),
    "a stop word": ("POST", "/completion", {
        "prompt": _COUNTING, **_LONG, "stop": ["never", "10"], "return_tokens": True}),
    "a stop word as text": ("POST", "/completion", {"prompt": _COUNTING, **_LONG, "stop": "9"}),
    "a stop word and probabilities": ("POST", "/completion", {
        "prompt": _COUNTING, **_LONG, "stop": ["10"], "n_probs": 1}),
    "probabilities": ("POST", "/completion", {"prompt": _COUNTING, "temperature": 0, "n_predict": 2, "n_probs": 2}),
    "the end": ("POST", "/completion", {"prompt": _SAID, **_LONG}),
    "the end and its token": ("POST", "/completion", {"prompt": _SAID, **_LONG, "return_tokens": True}),
    "a stream to the end": ("POST", "/completion", {"prompt": _SAID, **_LONG, "stream": True}),
    "beyond the end": ("POST", "/completion", {"prompt": _SAID, **_GREEDY, "n_predict": 2, "ignore_eos": True}),
    "up to the end of the context": ("POST", "/completion", {
        "prompt": _counted(CONTEXT_TOKENS - 4), "temperature": 0, "ignore_eos": True}),
    "a grammar": ("POST", "/completion", {"prompt": _BLUE, **_GREEDY, "grammar": 'root ::= "yes" | "no"'}),
    "a grammar before a schema": ("POST", "/completion", {
        "prompt": _BLUE, **_GREEDY, "grammar": 'root ::= "yes"', "json_schema": _CITY}),
    "a schema": ("POST", "/completion", {
        "prompt": "The capital of France as JSON: ", **_LONG, "json_schema": _CITY}),
    "never a token": ("POST", "/completion", {"prompt": _COUNTING, **_GREEDY, "logit_bias": [[216, False]]}),
    "biases by text": ("POST", "/completion", {
        "prompt": _COUNTING, "temperature": 0, "n_predict": 1, "logit_bias": [[" and", 30]]}),
    "biases by key": ("POST", "/completion", {
        "prompt": _COUNTING, "temperature": 0, "n_predict": 1, "logit_bias": {"216": -50.0, " and": 1.5}}),
    "chosen fields": ("POST", "/completion", {
        "prompt": _COUNTING, **_GREEDY, "response_fields": ["content", "generation_settings/n_predict", "no/such"]}),
    "settings": ("POST", "/completion", {
        "prompt": _COUNTING, "n_predict": 1, "top_k": 1, "top_p": 2, "min_p": 0.5, "seed": 7, "temperature": 0.5,
        "repeat_last_n": 8, "repeat_penalty": 1.5, "presence_penalty": 0.25, "stop": ["x"], "dry_multiplier": 0,
        "typical_p": 1, "mirostat": 0, "frequency_penalty": None}),
    "a negative temperature": ("POST", "/completion", {"prompt": _COUNTING, **_GREEDY, "temperature": -1}),
    "a stream": ("POST", "/completion", {"prompt": _COUNTING, **_GREEDY, "stream": True, "n_probs": 1}),
    "a stream to a stop word": ("POST", "/completion", {
        "prompt": _COUNTING, **_LONG, "stop": ["10"], "stream": True}),
    "a stream with timings": ("POST", "/completion", {
        "prompt": _COUNTING, **_GREEDY, "stream": True, "timings_per_token": True}),
    "a stream with progress": ("POST", "/completion", {
        "prompt": _COUNTING, **_GREEDY, "stream": True, "return_progress": True, "cache_prompt": False}),
    "a prompt that is too long": ("POST", "/completion", {"prompt": "word " * 1500, "n_predict": 1}),
    "a stream of a prompt that is too long": (
        "POST", "/completion", {"prompt": "word " * 1500, "n_predict": 1, "stream": True}),
    "no prompt": ("POST", "/completion", {"n_predict": 1}),
    "prompts without any": ("POST", "/completion", {"prompt": []}),
    "a wrong type": ("POST", "/completion", {"prompt": "x", "n_predict": "many"}),
    "a wrong grammar": ("POST", "/completion", {"prompt": "x", "n_predict": 1, "grammar": "root ::= ("}),
    "a wrong limit": ("POST", "/completion", {"prompt": "x", "n_predict": -5}),
    "tokens of a text": ("POST", "/tokenize", {"content": "Die Größe <|im_end|>"}),
    "tokens with pieces": ("POST", "/tokenize", {"content": "Größe: \U0001d518 <|im_end|>", "with_pieces": True}),
    "tokens of texts and tokens": ("POST", "/tokenize", {"content": [33, " 2, 3", 41], "with_pieces": True}),
    "tokens of marks as text": ("POST", "/tokenize", {"content": "<|im_end|>", "parse_special": False}),
    "tokens of nothing": ("POST", "/tokenize", {"content": ""}),
    "a text of tokens": ("POST", "/detokenize", {"tokens": [33, 28, 216, 2]}),
    "a template": ("POST", "/apply-template", {"messages": _CHAT}),
    "a template and a begun answer": (
        "POST", "/apply-template", {"messages": [*_CHAT, {"role": "assistant", "content": "Hello and"}]}),
    "a template without messages": ("POST", "/apply-template", {}),
    "properties": ("GET", "/props", None),
    "models": ("GET", "/v1/models", None),
    "slots": ("GET", "/slots", None),
    "adapters": ("GET", "/lora-adapters", None),
    "no adapter for all": ("POST", "/lora-adapters", []),
    "an adapter off for all": ("POST", "/lora-adapters", [{"id": 0, "scale": 0.0}]),
    "no list of adapters": ("POST", "/lora-adapters", {"id": 0, "scale": 0.5}),
    "reranking": ("POST", "/rerank", {"query": "x", "documents": ["y"]}),
    "reranking under its other name": ("POST", "/v1/reranking", {"query": "x", "documents": ["y"]}),
    "filling in the middle": ("POST", "/infill", {"input_prefix": "x", "input_suffix": "y"}),
    "other properties": ("POST", "/props", {}),
    "a slot to be saved": ("POST", "/slots/0?action=save", {"filename": "x"}),
    # Last, because there an adapter leaves its traces in what is remembered of the prompt.
    "an adapter": ("POST", "/completion", {"prompt": _COUNTING, **_GREEDY, "lora": [{"id": 0, "scale": 1.0}]}),
}  # fmt: skip

EMBEDDINGS: dict[str, Case] = {
    "one": ("POST", "/embedding", {"content": "The sea is blue."}),
    "the other name": ("POST", "/embeddings", {"input": ["The sea is blue.", [33, 28, 216]]}),
    "largest": ("POST", "/embedding", {"content": "The sea is blue.", "embd_normalize": 0}),
    "taxicab": ("POST", "/embedding", {"content": "The sea is blue.", "embd_normalize": 1}),
    "cubes": ("POST", "/embedding", {"content": "The sea is blue.", "embd_normalize": 3}),
    "nothing": ("POST", "/embedding", {}),
    "empty": ("POST", "/embedding", {"content": ""}),
}


def steady(value: Any) -> Any:
    """`value` without what differs from run to run (times, paths), with numbers of few digits and short vectors."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in _UNSTEADY}
        return {key: steady(item) for key, item in kept.items() if not str(item).startswith("/")}
    if isinstance(value, list):
        vector = len(value) > _COMPONENTS and isinstance(value[0], float)
        return [steady(item) for item in (value[:_COMPONENTS] if vector else value)]
    return float(f"{value:.5g}") if isinstance(value, float) else value


_COMPONENTS = 16
_UNSTEADY = {
    "prompt_ms", "prompt_per_token_ms", "prompt_per_second", "predicted_ms", "predicted_per_token_ms",
    "predicted_per_second", "time_ms", "cache_n", "prompt_n", "model_path", "path", "model", "model_alias",
    "media_marker", "build_info", "created", "models", "aliases", "id_task", "n_prompt_tokens_cache",
    "n_prompt_tokens_processed",
}  # fmt: skip
