"""Standing questions at work: every new scene is asked what the rules for its device ask, in the background.

unjudged scenes ─▶ by device, in order ─▶ ask ─▶ judge ─▶ notices ─▶ delivered, at least once
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from functools import partial
from typing import TypeAlias, TypeVar

from edge_server.errors import (
    BundleMismatchError,
    EdgeServerError,
    InvalidQuestionError,
    OverloadedError,
)
from edge_server.scenes.delivery import Courier, DeliveryError
from edge_server.scenes.keeper import Scenes
from edge_server.scenes.rule_file import Notice, RuleFile
from edge_server.scenes.rules import Rule, named
from edge_server.scenes.scene import Scene

logger = logging.getLogger(__name__)

AskScene: TypeAlias = Callable[[str], Awaitable[str]]
"""Asks the model about a scene, in the background; its answer, empty where it is not sure."""

DEVICES_AT_ONCE = 16
_LOOK_EVERY_S = 2.0
"""Between two looks for what another process left, or put in [s]."""
_TRIES = 20
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_NOTICES_AT_ONCE = 256
_NOTED_AT_ONCE = 16
"""Notices that a kill may have told again, at most: each note is a write that waits for the disk."""
_Result = TypeVar("_Result")


class StandingQuestions:
    """Asks, judges and tells, while :meth:`running`.

    Args:
        scenes: whose store has the rules.
        rules: of it.
        about: what asks the model about a scene, made once for all questions about it.
        courier: delivers notices.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        scenes: Scenes,
        rules: RuleFile,
        about: Callable[[Scene], AskScene],
        courier: Courier,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._scenes = scenes
        self._rules = rules
        self._about = about
        self._courier = courier
        self._sleep = sleep
        self._come = asyncio.Event()
        self._noticed = asyncio.Event()
        self._busy: dict[str, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask and tell for as long as this lasts."""
        self._scenes.follow(lambda scene: self._come.set())
        tasks = [
            asyncio.create_task(self._judge_all(), name="tokenlink-rules"),
            asyncio.create_task(self._tell_all(), name="tokenlink-notices"),
            asyncio.create_task(self._keep_all(), name="tokenlink-brokers"),
        ]
        try:
            yield
        finally:
            for task in (*tasks, *self._busy.values()):
                task.cancel()
            await asyncio.gather(*tasks, *self._busy.values(), return_exceptions=True)
            await self._courier.close()

    async def _judge_all(self) -> None:
        while True:
            self._come.clear()
            try:
                free, busy = DEVICES_AT_ONCE - len(self._busy), tuple(self._busy)
                # In order, one device's after another.
                found = await self._file(partial(RuleFile.unjudged, most=free, without=busy)) if free else []
                for number, scene, rules in found:
                    task = asyncio.create_task(self._judge(number, scene, rules))
                    self._busy[scene.device] = task
                    task.add_done_callback(partial(self._done, scene.device))
            except Exception:
                logger.exception("standing questions could not be looked up")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._come.wait()

    def _done(self, device: str, _: asyncio.Task[None]) -> None:
        del self._busy[device]
        self._come.set()

    async def _judge(self, number: int, scene: Scene, rules: list[Rule]) -> None:
        try:
            ask, answers = self._about(scene), dict[str, str]()
            for question in dict.fromkeys(rule.question for rule in rules):
                answers[question] = await self._answer(ask, question)
            told = [(rule, answers[rule.question]) for rule in rules]
            now_s = self._scenes.wall_clock()
            await self._file(lambda file: file.judge(number, scene, told, now_s))
            self._noticed.set()
        except Exception:
            logger.exception("a standing question failed", extra={"device": scene.device})
            await self._sleep(_FIRST_WAIT_S)  # it is tried again, and would fail again at once

    async def _answer(self, ask: AskScene, question: str) -> str:
        """The model's answer; empty where none can be had of this scene."""
        for number in range(_TRIES):
            try:
                return await ask(question)
            except OverloadedError as error:
                await self._sleep(error.retry_delay_s)
            except (BundleMismatchError, InvalidQuestionError) as error:
                logger.warning("a standing question cannot be asked: %s", error)
                return ""
            except EdgeServerError as error:
                logger.warning("a standing question was not answered, try %d: %s", number + 1, error)
                await self._sleep(_FIRST_WAIT_S)
        return ""

    async def _tell_all(self) -> None:
        waits_s: dict[str, float] = {}
        while True:
            self._noticed.clear()
            try:
                waiting = await self._file(lambda file: file.notices(_NOTICES_AT_ONCE))
                by_target: dict[str, list[Notice]] = {}
                for notice in waiting:
                    by_target.setdefault(notice.url, []).append(notice)
                rules = await self._named({notice.rule_id for notice in waiting})
                await asyncio.gather(
                    *(self._tell(url, notices, rules, waits_s) for url, notices in by_target.items())
                )
            except Exception:
                logger.exception("notices could not be looked up")
            wait_s = min(waits_s.values(), default=_LOOK_EVERY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._noticed.wait()
            if waits_s:
                await self._sleep(min(wait_s, _LOOK_EVERY_S))

    async def _keep_all(self) -> None:
        """Stay connected to every broker: it may have begun anew, and know nothing of what it was told."""
        tries, waits_s = dict[str, int](), dict[str, float]()
        while True:
            try:
                for url in await self._file(RuleFile.brokers):
                    if waits_s.get(url, 0.0) > 0.0:
                        waits_s[url] -= _LOOK_EVERY_S
                        continue
                    try:
                        await self._courier.keep(url)
                        tries.pop(url, None)
                    except DeliveryError:  # told where a notice waits
                        tries[url] = min(tries.get(url, 0) + 1, 10)
                        waits_s[url] = min(2.0 ** tries[url], _LONGEST_WAIT_S)
            except Exception:
                logger.exception("brokers could not be looked up")
            await self._sleep(_LOOK_EVERY_S)

    async def _named(self, rule_ids: Set[str]) -> dict[str, Rule]:
        return await self._file(partial(RuleFile.named, rule_ids=rule_ids)) if rule_ids else {}

    async def _tell(
        self, url: str, notices: list[Notice], rules: dict[str, Rule], waits_s: dict[str, float]
    ) -> None:
        """Deliver what is for one target, in order; what is left is tried again later."""
        delivered: list[int] = []
        try:
            for notice in notices:
                if len(delivered) == _NOTED_AT_ONCE:
                    await self._note(delivered)
                if not await self._deliver(url, notice, rules, waits_s):
                    return
                delivered.append(notice.number)
        finally:
            await self._note(delivered)

    async def _note(self, delivered: list[int]) -> None:
        numbers = delivered.copy()
        delivered.clear()
        if numbers:
            await self._file(partial(RuleFile.delivered, numbers=numbers))

    async def _deliver(
        self, url: str, notice: Notice, rules: dict[str, Rule], waits_s: dict[str, float]
    ) -> bool:
        """Deliver one; False where its target takes none now."""
        rule = rules.get(notice.rule_id)
        if rule is None:
            return True  # removed meanwhile, with its notices
        try:
            await self._courier.deliver(notice, rule)
        except DeliveryError as error:
            if url not in waits_s:
                logger.warning("%s takes no notices (%s); trying again", named(url), error)
            waits_s[url] = min(2.0 * waits_s.get(url, _FIRST_WAIT_S / 2), _LONGEST_WAIT_S)
            return False
        if waits_s.pop(url, None) is not None:
            logger.info("%s takes notices again", named(url))
        return True

    async def _file(self, work: Callable[[RuleFile], _Result]) -> _Result:
        return await self._scenes.call(lambda _: work(self._rules))
