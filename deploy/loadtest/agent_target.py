"""Users that are whole device agents: clips, transmitters, emulated radio, their own way to try again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from deploy.loadtest.questions import DEMO
from deploy.loadtest.target import EXPIRED, Failed, Question
from device_agent.agent import Agent
from device_agent.bundle.bundle import load_bundle
from device_agent.channel import SnrTrace
from device_agent.config import DeviceSettings
from device_agent.errors import DeadlineError, DeviceAgentError, OverloadedError
from device_agent.media.clip import Clip
from device_agent.media.loading import clip_from_file
from device_agent.transmitter import Transmitter
from device_agent.uplink.uplink import Uplink
from protos.names import MODALITIES


class AgentTarget:
    """An edge server as agents see it; all of them share one transmitter, as its graphs are the same.

    Args:
        address: gRPC door, ``host:port``.
        bundle: folder of the device bundle.
        trace: SNR over time of the agent of this number.
        seed: of the channels.
    """

    def __init__(
        self, address: str, bundle: Path, *, trace: Callable[[int], SnrTrace | None], seed: int
    ) -> None:
        self._address = address
        self._bundle = load_bundle(bundle)
        self._transmitter = Transmitter(self._bundle)
        self._trace = trace
        self._seed = seed
        self.clip = cache(self._clip)

    async def connect(self, user: int) -> AgentConnection:
        """An agent with a session; see the protocol."""
        uplink = Uplink(self._address, self._bundle.hash, device_id=f"loadtest-agent-{user}")
        try:
            await uplink.open()
        except DeviceAgentError as error:
            await uplink.close()
            raise ending_of(error) from error
        return AgentConnection(self, uplink, user)

    def agent(self, uplink: Uplink, user: int, deadline_s: float, max_new_tokens: int) -> Agent:
        """An agent with these settings."""
        settings = DeviceSettings(
            server=self._address,
            bundle=self._bundle.folder,
            max_new_tokens=max_new_tokens,
            deadline_s=deadline_s or DeviceSettings.model_fields["deadline_s"].default,
        )
        rng = np.random.default_rng([self._seed, user])
        return Agent(settings, self._transmitter, uplink, rng=rng, trace=self._trace(user))

    def _clip(self, name: str, modalities: frozenset[str]) -> Clip:
        """One of the demo's clips, of it what has these modalities."""
        if not name or not modalities:
            return Clip()
        whole = clip_from_file(DEMO / "clips" / name, spec=self._bundle.media_spec())
        return Clip(
            frames_THWC=whole.frames_THWC if modalities & {"video", "image"} else None,
            pcm_S=whole.pcm_S if "audio" in modalities else None,
        )


class AgentConnection:
    """One agent. It sends its own tokens of the clip that a question is about, not the question's blocks."""

    def __init__(self, target: AgentTarget, uplink: Uplink, user: int) -> None:
        self._target = target
        self._uplink = uplink
        self._user = user
        self._agents: dict[tuple[float, int], Agent] = {}

    async def ask(self, question: Question) -> str:
        """Encode, transmit, ask; see the protocol. What is refused the agent tries again by itself."""
        message = question.template.message
        modalities = frozenset(MODALITIES.of_number[block.modality] for block in message.payloads)
        token_length = max((block.shape[0] for block in message.payloads), default=None)
        key = (question.deadline_s, message.max_new_tokens)
        if key not in self._agents:
            self._agents[key] = self._target.agent(self._uplink, self._user, *key)
        try:
            clip = await asyncio.to_thread(self._target.clip, question.template.clip, modalities)
            outcome = await self._agents[key].ask(question.template.text, clip, token_length=token_length)
        except DeviceAgentError as error:
            raise ending_of(error) from error
        return outcome.text

    async def close(self) -> None:
        """Close session and connection."""
        await self._uplink.close()


def ending_of(error: DeviceAgentError) -> Failed:
    """An agent's error as the exception that ends a question."""
    match error:
        case DeadlineError():
            return Failed(EXPIRED, str(error))
        case OverloadedError():
            # It has waited and tried as often as it does: a refusal that nobody has to wait out again.
            return Failed("resource_exhausted", str(error))
        case _:
            return Failed(type(error).__name__, str(error))
