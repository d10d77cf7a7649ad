"""What a runner asks where nobody says: the examples of the card, else a few questions in the card's language."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from nomoat.base.errors import InputError

__all__ = ["check_prompt", "default_prompts"]

_LONGEST = 4000
_MOST_OF_A_CARD = 6
_TURNING = {*map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))}  # they show a text in another order
_ENGLISH = (
    "Who are you, and what can you help me with?",
    "Explain in two sentences why the sky is blue.",
    "Write a short, friendly reminder that the rent is due on Friday.",
)
_BY_LANGUAGE = {
    "en": _ENGLISH,
    "de": (
        "Wer bist du, und wobei kannst du mir helfen?",
        "Erkläre in zwei Sätzen, warum der Himmel blau ist.",
        "Schreibe eine kurze, freundliche Erinnerung, dass die Miete am Freitag fällig ist.",
    ),
    "fr": (
        "Qui es-tu, et en quoi peux-tu m'aider ?",
        "Explique en deux phrases pourquoi le ciel est bleu.",
        "Écris un rappel court et aimable : le loyer est dû vendredi.",
    ),
    "es": (
        "¿Quién eres y en qué puedes ayudarme?",
        "Explica en dos frases por qué el cielo es azul.",
        "Escribe un recordatorio breve y amable de que el alquiler vence el viernes.",
    ),
    "it": (
        "Chi sei, e in che cosa puoi aiutarmi?",
        "Spiega in due frasi perché il cielo è blu.",
        "Scrivi un promemoria breve e gentile: l'affitto scade venerdì.",
    ),
    "pt": (
        "Quem és tu, e em que me podes ajudar?",
        "Explica em duas frases porque é que o céu é azul.",
        "Escreve um lembrete curto e simpático: a renda vence na sexta-feira.",
    ),
}


def default_prompts(card: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts of the card's `widget`, as Hugging Face has it; else questions in the card's language, or English."""
    examples = card.get("widget")
    found = [_text(each) for each in examples] if isinstance(examples, list) else []
    usable = tuple(dict.fromkeys(text for text in found if _problem(text) is None))
    return usable[:_MOST_OF_A_CARD] or _BY_LANGUAGE.get(_language(card), _ENGLISH)


def check_prompt(text: str) -> str:
    """`text`, or `InputError` where it cannot be asked and shown."""
    if problem := _problem(text):
        raise InputError(
            f"the prompt {text[:60]!r} {problem}", f"give plain text of up to {_LONGEST:,} characters"
        )
    return text


def _problem(text: str) -> str | None:
    if not text.strip():
        return "is empty"
    if len(text) > _LONGEST:
        return f"has {len(text):,} characters"
    # Whoever copies the command that asks again must not paste what a terminal would obey.
    hidden = any(unicodedata.category(each) in {"Cc", "Cs"} and each not in "\n\t" for each in text)
    return "holds control characters" if hidden or _TURNING & set(text) else None


def _text(example: Any) -> str:
    """Of an example: its text, or the only message of its conversation."""
    if isinstance(example, str):
        return example
    if not isinstance(example, dict):
        return ""
    messages = example.get("messages")
    if isinstance(messages, list) and len(messages) == 1 and isinstance(messages[0], dict):
        return str(messages[0].get("content") or "") if messages[0].get("role") == "user" else ""
    return str(example.get("text") or "")


def _language(card: Mapping[str, Any]) -> str:
    named = card.get("language")
    first = named[0] if isinstance(named, list) and named else named
    return str(first or "").lower().partition("-")[0]
