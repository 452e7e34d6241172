"""A real MQTT broker for tests and programs: Debian's mosquitto."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

from tests.ports import free_port
from tests.waiting import until_true

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
"""The program; None: it is not installed."""


class Broker:
    """A mosquitto with a password, which may be killed and started again.

    Args:
        folder: for its files.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        passwords = folder / "passwords"
        passwd = shutil.which("mosquitto_passwd")
        assert passwd is not None
        subprocess.run(
            [passwd, "-c", "-b", str(passwords), "edge", "s3cret"], check=True, capture_output=True
        )
        passwords.chmod(0o644)
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser root\n"
            "max_queued_messages 0\n"
        )

    @property
    def url(self) -> str:
        """With its password."""
        return f"mqtt://edge:s3cret@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, or start it again, and wait until it listens."""
        assert MOSQUITTO is not None
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until_true(self._listens)

    def kill(self) -> None:
        """Kill it (-9). Harmless when it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    async def listen(self, heard: list[tuple[str, str, bool]]) -> None:
        """Note topic, payload and whether it was retained, of all there is, while this is awaited."""
        import aiomqtt

        async with aiomqtt.Client("127.0.0.1", self.port, username="edge", password="s3cret") as client:
            await client.subscribe("#", qos=1)
            async for message in client.messages:
                heard.append((str(message.topic), message.payload.decode(), message.retain))
