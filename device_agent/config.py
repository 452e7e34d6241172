"""Settings of an agent: flags before environment (``TOKENLINK_DEVICE_*``) before file before defaults.

The file is TOML, at ``$TOKENLINK_DEVICE_CONFIG`` or ``~/.config/tokenlink/device.toml``.
"""

from __future__ import annotations

import os
import platform
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from device_agent.channel import ChannelConfig, CsiName, EqualizerName
from device_agent.errors import ConfigurationError
from device_agent.outbox.records import Bounds, Evict
from device_agent.places import home, is_file, is_folder, shipped_model, state
from device_agent.uplink.address import with_port
from device_agent.uplink.credentials import AUTHORITY, CERTIFICATE, KEY, Credentials, load_credentials
from protos.names import (
    MAX_ABS_SNR_DB,
    MAX_SNR_DB,
    MIN_SNR_DB,
    ChannelName,
    FadingName,
    PayloadName,
    PriorityName,
)

ENV_PREFIX = "TOKENLINK_DEVICE_"

TextPath: TypeAlias = Literal["ids", "analog"]


def config_file() -> Path:
    """Where the settings file is looked for; it need not exist."""
    named = os.environ.get(f"{ENV_PREFIX}CONFIG")
    return Path(named) if named else home() / ".config" / "tokenlink" / "device.toml"


def default_bundle() -> Path:
    """The bundle folder when none is set: a clone's shipped one, else the user's."""
    shipped = shipped_model()
    if shipped is not None and is_folder(shipped / "bundle"):
        return shipped / "bundle"
    return home() / ".local" / "share" / "tokenlink" / "bundle"


def default_identity() -> Path:
    """Where key and certificate are kept when nothing else is set."""
    return home() / ".local" / "share" / "tokenlink" / "identity"


class DeviceSettings(BaseSettings):
    """Everything about an agent that can be set."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True, allow_inf_nan=False)

    server: str = Field(default="127.0.0.1:50051", min_length=1)
    """The edge server's gRPC address, host:port."""
    bundle: Path = Field(default_factory=default_bundle)
    """Folder of the device bundle."""
    device_id: str = Field(default_factory=lambda: platform.node() or "device", min_length=1, max_length=64)
    """What to call this device; a suffix is added: its outbox's own, or without one a new one each run."""
    channel: ChannelName = "awgn"
    """The emulated radio channel."""
    fading: FadingName = "block"
    """One gain per codeword, or one per symbol."""
    snr_db: float = Field(default=10.0, ge=MIN_SNR_DB, le=MAX_SNR_DB)
    """Mean Es/N0, within what receivers can be told [dB]."""
    k_factor_db: float = Field(default=6.0, ge=-MAX_ABS_SNR_DB, le=MAX_ABS_SNR_DB)
    """Rician: line-of-sight power over scattered power [dB]."""
    csi: CsiName = "perfect"
    """What the receiver knows of the gain."""
    pilots: int = Field(default=4, ge=1, le=1000)
    """Pilots per gain, with estimated CSI."""
    equalizer: EqualizerName = "mmse"
    """How the gain is undone."""
    trace: Path | None = None
    """CSV of time_s,snr_db that takes the place of snr_db."""
    bandwidth_hz: float | None = Field(default=None, gt=0, le=1e12)
    """Symbols per second; none: what the server grants."""
    pace: bool = True
    """Hold each codeword back for its airtime."""
    token_length: int | None = Field(default=None, ge=1)
    """Tokens per modality; none: what the server suggests for the SNR."""
    payload: PayloadName = "float16"
    """How token values are packed."""
    text_path: TextPath = "ids"
    """Whether the question goes digitally, or as feature tokens through the channel."""
    seed: int | None = Field(default=None, ge=0)
    """Of the channel's randomness; none: a different one each run."""
    deadline_s: float = Field(default=30.0, gt=0, le=3600)
    """Within which an answer is of use [s]."""
    max_new_tokens: int = Field(default=0, ge=0, le=4096)
    """Longest answer in language tokens; 0: the server's default."""
    priority: PriorityName = "interactive"
    """Whether somebody waits for the answer."""
    retries: int = Field(default=6, ge=0, le=100)
    """Tries after the first."""
    threads: int = Field(default=1, ge=1, le=256)
    """Threads of each transmitter."""
    tracing_endpoint: str | None = None
    """Where spans go, an OTLP collector over gRPC such as http://127.0.0.1:4317; none: they are not made."""
    auto_update: bool = False
    """Whether another bundle is fetched and run when the server serves another model."""
    provider: str = Field(default="CPUExecutionProvider", pattern=r"^[A-Za-z]+ExecutionProvider$")
    """What ONNX Runtime computes with."""
    outbox: Path | None = None
    """File in which questions wait for the network; none: in the user's state folder."""
    outbox_max_questions: int = Field(default=10_000, ge=1, le=10_000_000)
    """Questions that may wait."""
    outbox_max_bytes: int = Field(default=256 * 2**20, ge=2**16, le=2**44)
    """Bytes that they may take."""
    outbox_ttl_s: float = Field(default=86_400.0, gt=0, le=10 * 365 * 86_400.0)
    """After so long without an answer a question is dropped, and that reported [s]."""
    outbox_evict: Evict = "oldest"
    """Which question is dropped, and that reported, when there is no room."""
    identity: Path = Field(default_factory=default_identity)
    """Folder in which `enrol` keeps this device's key and certificate."""
    tls: bool | None = None
    """Whether the link is encrypted; none: if this device is enrolled, or tls_ca is set."""
    use_proxy: bool | None = None
    """Whether the link goes through http_proxy; none: not to this machine and its neighbours."""
    tls_ca: Path | None = None
    """Authorities of servers, PEM; none: as in identity."""
    tls_cert: Path | None = None
    """This device's certificate, PEM; none: as in identity."""
    tls_key: Path | None = None
    """That belongs to it, PEM; none: as in identity."""
    server_name: str | None = None
    """The name in the server's certificate, where it is not the one in its address."""

    @field_validator("server")
    @classmethod
    def _server_has_a_port(cls, server: str) -> str:
        return with_port(server)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_file())

    def outbox_path(self) -> Path:
        """The outbox that is set, or the user's."""
        return self.outbox or state() / "outbox.db"

    def bounds(self) -> Bounds:
        """How much may wait in the outbox."""
        return Bounds(
            max_questions=self.outbox_max_questions,
            max_bytes=self.outbox_max_bytes,
            ttl_s=self.outbox_ttl_s,
            evict=self.outbox_evict,
        )

    def credentials(self) -> Credentials | None:
        """What this device shows the server, and by what it knows it; None: the link is not encrypted.

        Raises:
            ConfigurationError: a file cannot be read, or TLS is asked for and there is no authority.
        """
        enrolled = is_file(self.identity / CERTIFICATE)
        if self.tls is False or (self.tls is None and self.tls_ca is None and not enrolled):
            return None
        if self.tls_ca is None and not enrolled:
            raise ConfigurationError(
                f"tls: is on, but tls_ca is not set and {self.identity} holds no certificate; "
                "enrol this device: device-agent enrol"
            )
        own = enrolled and self.tls_cert is None and self.tls_key is None
        return load_credentials(
            self.tls_ca or self.identity / AUTHORITY,
            self.identity / CERTIFICATE if own else self.tls_cert,
            self.identity / KEY if own else self.tls_key,
            self.server_name,
        )

    def channel_config(self, granted_bandwidth_hz: float) -> ChannelConfig:
        """The channel as set, at the granted bandwidth where none is set."""
        return ChannelConfig(
            model=self.channel,
            fading=self.fading,
            snr_db=self.snr_db,
            k_factor_db=self.k_factor_db,
            csi=self.csi,
            pilots=self.pilots,
            equalizer=self.equalizer,
            bandwidth_hz=self.bandwidth_hz or granted_bandwidth_hz or ChannelConfig().bandwidth_hz,
        )


def load_settings(flags: Mapping[str, Any]) -> DeviceSettings:
    """Settings from flags (those that are None were not given), environment and file.

    Raises:
        ConfigurationError: names the setting, what was found and what is allowed.
    """
    try:
        return DeviceSettings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        if first["type"] == "extra_forbidden":
            raise ConfigurationError(f"{name}: no such setting ({config_file()})") from error
        flag, variable = f"--{name.replace('_', '-')}", f"{ENV_PREFIX}{name.upper()}"
        raise ConfigurationError(
            f"{name} ({flag}, {variable}) is {first['input']!r}: {first['msg'].removeprefix('Value error, ')}"
        ) from error
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{config_file()} cannot be read: {error}") from error
