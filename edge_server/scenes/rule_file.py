"""Rules, what they know, scenes they were not asked of yet, and notices on their way: beside the scenes.

    put a scene ─────────────┬─▶ unjudged   (one transaction with the scene)
    answers to it ─▶ states ─┴─▶ notices    (one transaction with what is judged)
    delivered ─▶ notice gone

So a kill loses no scene that was to be asked about and no notice, and makes none twice; a notice may be
*delivered* twice, where the kill comes between the delivery and its note. It has a number to tell.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edge_server.errors import ConfigurationError
from edge_server.scenes.rules import Rule, RuleState, check_rule
from edge_server.scenes.scene import Scene
from edge_server.scenes.sqlite import SqliteScenes
from edge_server.scenes.store import matches

MAX_RULES = 10_000
TURNS_KEPT = 1000
"""Of each rule."""
_RULE_COLUMNS = "rule_id, question, devices, becomes, for_s, notify, created_s"


@dataclass(frozen=True)
class Notice:
    """Something to be told.

    Attributes:
        number: of it; the same one may be told twice.
        url: where.
        rule_id: of the rule that turned.
        device: whose scenes.
        is_on: whether it holds now.
        body: what is told, JSON values.
    """

    number: int
    url: str
    rule_id: str
    device: str
    is_on: bool
    body: dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """A rule's state after a scene.

    Attributes:
        rule: whose.
        before: what it knew.
        after: what it knows.
    """

    rule: Rule
    before: RuleState
    after: RuleState


@dataclass(frozen=True)
class Turn:
    """A rule began to hold of a device, or ended.

    Attributes:
        device: whose scenes.
        is_on: whether it holds from then on.
        answer: that it turned by.
        scene_id: of the scene that was asked about.
        turned_s: when the scene begins, by the server's clock [s].
    """

    device: str
    is_on: bool
    answer: str
    scene_id: str
    turned_s: float


class RuleFile:
    """The rules of a file of scenes; for the thread of its store.

    Args:
        scenes: the store.
    """

    def __init__(self, scenes: SqliteScenes) -> None:
        self._scenes = scenes
        self._db = scenes.connection
        self._db.create_function(
            "names", 2, lambda patterns, device: matches((patterns,), device), deterministic=True
        )

    def add(self, rule: Rule) -> None:
        """Ask this of every scene from now on.

        Raises:
            ConfigurationError: it cannot be, its name is taken, or there are too many.
        """
        check_rule(rule)
        with self._scenes.transaction():
            (count,) = self._db.execute("SELECT count(*) FROM rule").fetchone()
            if count >= MAX_RULES:
                raise ConfigurationError(f"rule: there are {count}; at most {MAX_RULES}")
            try:
                self._db.execute(
                    f"INSERT INTO rule ({_RULE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 (constants)
                    (
                        *(rule.rule_id, rule.question, rule.devices, rule.becomes, rule.for_s),
                        *(json.dumps(rule.notify), rule.created_s),
                    ),
                )
            except sqlite3.IntegrityError as error:
                raise ConfigurationError(f"name: there is a rule {rule.rule_id!r} already") from error

    def remove(self, rule_id: str) -> None:
        """Ask it no more; notices of it that wait go too.

        Raises:
            ConfigurationError: there is no such rule.
        """
        with self._scenes.transaction():
            if not self._db.execute("DELETE FROM rule WHERE rule_id = ?", (rule_id,)).rowcount:
                raise ConfigurationError(f"name: there is no rule {rule_id[:64]!r}; see `scenes rule list`")
            for table in ("rule_state", "notice", "turn"):
                self._db.execute(f"DELETE FROM {table} WHERE rule_id = ?", (rule_id,))  # noqa: S608

    def rules(self, device: str | None = None) -> list[Rule]:
        """Rules for a device, all of them without one; oldest first."""
        if device is None:
            return self._rules("", ())
        # Of a thousand rules, most name one device: SQLite compares that by itself.
        return self._rules("WHERE devices = ? OR instr(devices, '*') AND names(devices, ?)", (device, device))

    def named(self, rule_ids: Iterable[str]) -> dict[str, Rule]:
        """Those of these rules that there are, by their names."""
        wanted = list(rule_ids)
        found = self._rules(f"WHERE rule_id IN ({', '.join('?' * len(wanted))})", wanted)
        return {rule.rule_id: rule for rule in found}

    def _rules(self, where: str, given: Sequence[str]) -> list[Rule]:
        rows = self._db.execute(
            f"SELECT {_RULE_COLUMNS} FROM rule {where} ORDER BY created_s, rule_id",  # noqa: S608 (constants)
            given,
        )
        return [
            Rule(name, question, devices, becomes, for_s, tuple(json.loads(notify)), created_s)
            for name, question, devices, becomes, for_s, notify, created_s in rows
        ]

    def states(self, rule_id: str) -> dict[str, RuleState]:
        """What a rule knows of each device."""
        rows = self._db.execute(
            "SELECT device, is_on, candidate, since_s, answer, asked_s FROM rule_state WHERE rule_id = ? "
            "ORDER BY device",
            (rule_id,),
        )
        return {row[0]: _state_of(row[1:]) for row in rows}

    def history(self, rule_id: str, most: int) -> list[Turn]:
        """When a rule turned, the latest first."""
        rows = self._db.execute(
            "SELECT device, is_on, answer, scene_id, turned_s FROM turn WHERE rule_id = ? "
            "ORDER BY number DESC LIMIT ?",
            (rule_id, most),
        )
        return [Turn(device, bool(is_on), *rest) for device, is_on, *rest in rows]

    def unjudged(self, most: int, without: Iterable[str] = ()) -> list[tuple[int, Scene, list[Rule]]]:
        """The oldest scene of each device that rules were not asked of yet: number, scene, its rules.

        Whoever asks about a scene waits for this too, on the same thread: nothing is read that is not asked.

        Args:
            most: devices, those that have waited longest.
            without: devices that are not looked at.
        """
        busy = list(without)
        marks = ", ".join("?" * len(busy))
        rows = self._db.execute(
            "SELECT min(unjudged.number) FROM unjudged LEFT JOIN scene ON scene.number = unjudged.number "  # noqa: S608
            f"WHERE device IS NULL OR device NOT IN ({marks}) GROUP BY device ORDER BY 1 LIMIT ?",
            (*busy, most),
        ).fetchall()
        found, gone = [], False
        for (number,) in rows:
            scene = self._scenes.by_number(number)
            if scene is not None:
                found.append((number, scene, self.rules(scene.device)))
            else:
                gone = True
        if gone:  # by a bound, before they could be asked about
            with self._scenes.transaction():
                self._db.execute("DELETE FROM unjudged WHERE number NOT IN (SELECT number FROM scene)")
        return found

    def judge(
        self, number: int, scene: Scene, answers: Sequence[tuple[Rule, str]], now_s: float
    ) -> list[Judged]:
        """Take in the answers to a scene; what turned is noticed in the same transaction."""
        judged = []
        with self._scenes.transaction():
            there = self._db.execute("DELETE FROM unjudged WHERE number = ?", (number,)).rowcount
            for rule, answer in answers if there else ():
                if not self._db.execute("SELECT 1 FROM rule WHERE rule_id = ?", (rule.rule_id,)).fetchone():
                    continue  # removed meanwhile
                before = self._state(rule.rule_id, scene.device)
                after = before.after(rule, answer, scene.start_s, scene.end_s)
                judged.append(Judged(rule, before, after))
                if after == before:
                    continue
                self._db.execute(
                    "INSERT OR REPLACE INTO rule_state VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(rule.rule_id, scene.device, after.is_on, after.candidate),
                        *(after.since_s, after.answer, after.asked_s),
                    ),
                )
                if after.turned(before):
                    self._notice(rule, scene, after, now_s)
        return judged

    def notices(self, most: int) -> list[Notice]:
        """Notices that were not delivered, oldest first."""
        rows = self._db.execute(
            "SELECT number, url, rule_id, device, is_on, body FROM notice ORDER BY number LIMIT ?", (most,)
        )
        return [
            Notice(number, url, rule_id, device, bool(is_on), json.loads(body))
            for number, url, rule_id, device, is_on, body in rows
        ]

    def brokers(self) -> list[str]:
        """Addresses of brokers that rules name."""
        rows = self._db.execute("SELECT DISTINCT notify FROM rule WHERE instr(notify, 'mqtt')")
        found = {url for (notify,) in rows for url in json.loads(notify) if url.startswith("mqtt")}
        return sorted(found)

    def shown(self, url: str) -> list[tuple[Notice, Rule]]:
        """How things are that an address is told of: as notices, but for those that still wait."""
        waiting = set(self._db.execute("SELECT rule_id, device FROM notice WHERE url = ?", (url,)))
        return [
            (Notice(0, url, rule.rule_id, device, state.is_on, {}), rule)
            for rule in self.rules()
            if url in rule.notify
            for device, state in self.states(rule.rule_id).items()
            if state.is_on is not None and (rule.rule_id, device) not in waiting
        ]

    def delivered(self, numbers: Iterable[int]) -> None:
        """Notices are where they were to go."""
        with self._scenes.transaction():
            self._db.executemany("DELETE FROM notice WHERE number = ?", [(number,) for number in numbers])

    def _notice(self, rule: Rule, scene: Scene, state: RuleState, now_s: float) -> None:
        self._db.execute(
            "INSERT INTO turn (rule_id, device, is_on, answer, scene_id, turned_s) VALUES (?, ?, ?, ?, ?, ?)",
            (rule.rule_id, scene.device, state.is_on, state.answer, scene.scene_id, scene.start_s),
        )
        self._db.execute(
            "DELETE FROM turn WHERE rule_id = ? AND number <= (SELECT number FROM turn WHERE rule_id = ? "
            "ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (rule.rule_id, rule.rule_id, TURNS_KEPT),
        )
        self._notify(rule, scene, state, now_s)

    def _notify(self, rule: Rule, scene: Scene, state: RuleState, now_s: float) -> None:
        for url in rule.notify:
            if url.startswith("http") and not state.is_on:
                continue  # a webhook is told when something happens; a broker, how things are
            put = self._db.execute(
                "INSERT INTO notice (url, rule_id, device, is_on, body) VALUES (?, ?, ?, ?, '{}')",
                (url, rule.rule_id, scene.device, state.is_on),
            )
            body = {
                "id": put.lastrowid,
                "rule": rule.rule_id,
                "question": rule.question,
                "becomes": rule.becomes,
                "device": scene.device,
                "state": "on" if state.is_on else "off",
                "answer": state.answer,
                "since_s": state.since_s,
                "scene_id": scene.scene_id,
                "scene_start_s": scene.start_s,
                "noticed_s": now_s,
            }
            self._db.execute("UPDATE notice SET body = ? WHERE number = ?", (json.dumps(body), put.lastrowid))

    def _state(self, rule_id: str, device: str) -> RuleState:
        row = self._db.execute(
            "SELECT is_on, candidate, since_s, answer, asked_s FROM rule_state "
            "WHERE rule_id = ? AND device = ?",
            (rule_id, device),
        ).fetchone()
        return RuleState() if row is None else _state_of(row)


def _state_of(row: Sequence[Any]) -> RuleState:
    is_on, candidate, since_s, answer, asked_s = row
    known = [None if value is None else bool(value) for value in (is_on, candidate)]
    return RuleState(known[0], known[1], since_s, answer, asked_s)
