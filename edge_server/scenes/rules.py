"""Standing questions: asked of every new scene, told when the answer becomes something, once.

    scene ─▶ asked (background) ─▶ holds? ─ for so long ─▶ on ─▶ notice        ─ not for as long ─▶ off

A rule and a device have a state of their own. It changes when the answers have said so for the rule's time,
by the scenes' clock: a single odd answer changes nothing, in either direction.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from edge_server.errors import ConfigurationError
from protos.names import MAX_DEVICE_CHARS

MAX_QUESTION_CHARS, MAX_ANSWER_CHARS = 1024, 256
RULE_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
SCHEMES = ("mqtt", "mqtts", "http", "https")
_ENDS = " \t\r\n.!?\"'"


@dataclass(frozen=True)
class Rule:
    """A standing question.

    Attributes:
        rule_id: names it.
        question: asked of every scene.
        devices: of which devices' scenes; ``*`` stands for anything.
        becomes: the answer that it waits for.
        for_s: so long the answers must say so, or otherwise, before that counts [s].
        notify: where it is told: ``mqtt://BROKER``, ``mqtts://``, ``http://``, ``https://``.
        created_s: when it was made, seconds since the Unix epoch.
    """

    rule_id: str
    question: str
    devices: str
    becomes: str
    for_s: float
    notify: tuple[str, ...]
    created_s: float

    def holds(self, answer: str) -> bool:
        """Whether an answer is the one that is waited for."""
        return plain(answer) == plain(self.becomes)


@dataclass(frozen=True)
class RuleState:
    """What a rule knows of a device.

    Attributes:
        is_on: whether it holds; None: it has not held, or not held, for long enough yet.
        candidate: what the last answers say; None: nothing yet.
        since_s: since when they have, by the scenes' clock [s].
        answer: the last one.
        asked_s: about which time [s].
    """

    is_on: bool | None = None
    candidate: bool | None = None
    since_s: float = 0.0
    answer: str = ""
    asked_s: float = 0.0

    def after(self, rule: Rule, answer: str, start_s: float, end_s: float) -> RuleState:
        """What it knows after one more answer.

        Args:
            rule: whose.
            answer: to its question; empty: the model is not sure, which changes nothing.
            start_s: when the scene begins [s].
            end_s: when it ends [s].
        """
        if not answer:
            return self
        said = rule.holds(answer)
        since_s = self.since_s if said == self.candidate else start_s
        told = replace(
            self, candidate=said, since_s=since_s, answer=answer[:MAX_ANSWER_CHARS], asked_s=start_s
        )
        if said != self.is_on and end_s - since_s >= rule.for_s:
            told = replace(told, is_on=said)
        return told

    def turned(self, before: RuleState) -> bool:
        """Whether this is worth telling: it holds now, or does not any more."""
        return self.is_on != before.is_on and (self.is_on is True or before.is_on is True)


def plain(answer: str) -> str:
    """An answer without what makes no difference."""
    return " ".join(answer.casefold().split()).strip(_ENDS)


def check_rule(rule: Rule) -> Rule:
    """A rule that can be.

    Raises:
        ConfigurationError: names the field, what was found and what is allowed.
    """
    if RULE_ID.fullmatch(rule.rule_id) is None:
        raise ConfigurationError(
            f"name: is {rule.rule_id[:64]!r}; small letters, digits, - and _, at most 32"
        )
    if not 1 <= len(rule.question.strip()) <= MAX_QUESTION_CHARS:
        raise ConfigurationError(f"question: 1 to {MAX_QUESTION_CHARS} characters are allowed")
    if not 1 <= len(plain(rule.becomes)) <= MAX_ANSWER_CHARS:
        raise ConfigurationError(f"becomes: 1 to {MAX_ANSWER_CHARS} characters are allowed")
    if not 1 <= len(rule.devices) <= MAX_DEVICE_CHARS or not rule.devices.isprintable():
        raise ConfigurationError(
            f"device: is {rule.devices[:MAX_DEVICE_CHARS]!r}; 1 to {MAX_DEVICE_CHARS} printable characters "
            "are allowed"
        )
    if not 0.0 <= rule.for_s <= 7 * 86_400.0:
        raise ConfigurationError(f"for: is {rule.for_s:g} s; 0 s to 7 d are allowed")
    if not rule.notify:
        raise ConfigurationError("notify: is missing; mqtt://BROKER or https://WEBHOOK")
    for url in rule.notify:
        check_target(url)
    return rule


def check_target(url: str) -> None:
    """See that notices can be sent there.

    Raises:
        ConfigurationError: they cannot.
    """
    try:
        parts = urlsplit(url)
        fine = parts.scheme in SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fine = False
    if not fine:
        raise ConfigurationError(f"notify: {named(url)!r}; {', '.join(SCHEMES)}://HOST is needed")


def named(url: str) -> str:
    """What an address may be called: nothing of who may use it, or of what follows the host."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        return "(no address)"
