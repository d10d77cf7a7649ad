"""Secrets and personal data in text: keys, passwords, addresses, numbers. What is found is never repeated whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "FindingKind", "find_secrets"]

FindingKind = Literal["secret", "personal"]
# Published forms of keys: https://docs.github.com/code-security/secret-scanning and the providers' own pages.
_SECRETS = (
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")),
    ("an access key of AWS", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("a token of GitHub", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})")),
    ("a token of Hugging Face", re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")),
    ("a key of a model's provider", re.compile(r"\bsk-[A-Za-z0-9_-]{20,}")),
    ("a token of Slack", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}")),
    ("a key of Google", re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b")),
    ("a signed token (JWT)", re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}")),
    ("a password", re.compile(r"(?i)\b(?:password|passwd|passwort|api[_-]?key|secret[_-]?key)\b[\"']?\s*[:=]\s*"
                              r"[\"']?(?=[^\s\"'<>]*[0-9])[^\s\"'<>{}]{8,}")),
)  # fmt: skip
_EMAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}(?![\w-])")
# RFC 2606 and 6761: nobody has an address there.
_NOBODY = re.compile(r"(?i)(?:^|[@.])(?:example\.(?:com|org|net)|example|invalid|test|localhost|local)$")
_PHONE = re.compile(r"(?<![\w.:/-])(?:\+[1-9]|0[1-9]|\(0)[0-9]?(?:[ ()/-]{0,3}[0-9]){7,12}(?![\w.-]*[\w])")
_IBAN = re.compile(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(r"(?<![\w.-])[3-6][0-9]{3}(?:[ -]?[0-9]{4}){2}[ -]?[0-9]{1,4}(?![\w.-])")
# A long line is read in pieces that overlap by more than anything that is looked for.
_PIECE, _OVERLAP = 100_000, 1_000


@dataclass(frozen=True)
class Finding:
    """Something that should not be given away: where, and its first letters only."""

    kind: FindingKind
    what: str
    line: int
    shown: str


def find_secrets(lines: Iterable[str]) -> Iterator[Finding]:
    """Findings in the lines of a text, at most one of a sort for each line."""
    for number, line in enumerate(lines, 1):
        found: dict[str, Finding] = {}
        for start in range(0, max(1, len(line)), _PIECE - _OVERLAP):
            for finding in _in_piece(line[start : start + _PIECE], number):
                found.setdefault(finding.what, finding)
        yield from found.values()


def _in_piece(text: str, line: int) -> Iterator[Finding]:
    for what, pattern in _SECRETS:
        if match := pattern.search(text):
            yield Finding("secret", what, line, _masked(match[0]))
    for what, found in _personal(text):
        yield Finding("personal", what, line, _masked(found))


def _personal(text: str) -> Iterator[tuple[str, str]]:
    emails = (match[0] for match in _EMAIL.finditer(text))
    if email := next((each for each in emails if not _NOBODY.search(each)), ""):
        yield "an e-mail address", email
    if phone := _PHONE.search(text):
        yield "a telephone number", phone[0]
    if iban := next((match[0] for match in _IBAN.finditer(text) if _is_iban(match[0])), ""):
        yield "a bank account", iban
    if card := next((match[0] for match in _CARD.finditer(text) if _is_card(match[0])), ""):
        yield "a payment card", card


def _is_iban(text: str) -> bool:
    """ISO 13616: the check digits make the number 1 modulo 97."""
    plain = text.replace(" ", "")
    moved = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(letter, 36)) for letter in moved)) % 97 == 1


def _is_card(text: str) -> bool:
    """ISO/IEC 7812: Luhn's check digit."""
    digits = [int(letter) for letter in reversed(text) if letter.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) if place % 2 else digit for place, digit in enumerate(digits)]
    return 13 <= len(digits) <= 19 and sum(doubled) % 10 == 0


def _masked(text: str) -> str:
    return f"{text[:4]}..." if len(text) > 8 else "..."
