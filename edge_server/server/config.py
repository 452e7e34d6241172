"""Settings of ``edge-server serve``: flags before environment (``TOKENLINK_SERVER_*``) before file.

The file is TOML, at ``$TOKENLINK_SERVER_CONFIG`` or ``~/.config/tokenlink/server.toml``. Every setting is a
field of a section; :mod:`device_agent.settings.catalogue` says by which names it can be given,
:mod:`edge_server.server.settings` how errors are told, ``docs/settings.md`` what there is.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from device_agent import places
from device_agent.media.limits import MediaLimits
from device_agent.places import resolved_model, shipped_model
from device_agent.settings.catalogue import Catalogue
from device_agent.settings.sources import CONFIG, sources
from edge_server.cell import CellConfig, LimitConfig
from edge_server.cell.shared_accounts import MAX_DOORS
from edge_server.cluster.settings import ClusterConfig
from edge_server.engine import EngineConfig
from edge_server.runtime.computing import Computing, Precision

ENV_PREFIX = "TOKENLINK_SERVER_"

_MIB = 2**20
_FLAG: dict[str, Any] = {"flag": True}

_CORES = os.cpu_count() or 1
# Each has weights and an interpreter of its own; further cores go to the operators of each.
_BATCHES = min(_CORES, 4)

Port: TypeAlias = Annotated[int, Field(ge=0, le=65_535)]
Size: TypeAlias = Annotated[int, Field(ge=1024)]


def config_file() -> Path:
    """Where the settings file is looked for; it need not exist."""
    named = os.environ.get(f"{ENV_PREFIX}{CONFIG}")
    return Path(named) if named else places.home() / ".config" / "tokenlink" / "server.toml"


class Section(BaseModel):
    """Settings that belong together; a table of the file."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )


class ProcessSettings(Section):
    """The server as a process: ``[server]``."""

    host: str = Field(default="127.0.0.1", json_schema_extra=_FLAG)
    """Address that both doors listen on."""
    receive_s: Annotated[float, Field(gt=0, le=600)] = 20.0
    """A handshake, the headers of a request, its body: each has to arrive within this time."""
    front_doors: Annotated[int, Field(ge=1, le=MAX_DOORS)] = Field(default=1, json_schema_extra=_FLAG)
    """Processes that open both ports together; more than one need a cluster's broker (--cluster)."""
    door_port: Port = Field(default=0, json_schema_extra=_FLAG)
    """Of several front doors, the first answers alone at this port, for its /metrics, each other one and then
    the engine at the next one; 0: any free ones, which the ready file tells."""
    drain_s: NonNegativeFloat = Field(default=30.0, json_schema_extra=_FLAG)
    """After SIGTERM, accepted questions have this long to be answered."""
    old_model_s: NonNegativeFloat = 3600.0
    """After SIGHUP loaded another model, devices have this long to fetch its bundle."""
    old_models: PositiveInt = 2
    """Models served before that are kept at once, at most; the oldest goes before another one comes."""
    ready_file: Path | None = Field(default=None, json_schema_extra=_FLAG)
    """JSON written here once both doors are open: addresses, ports, model, bundle hash, process id."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", json_schema_extra=_FLAG)
    """Least severe lines that are logged."""
    tracing_endpoint: str | None = Field(default=None, json_schema_extra=_FLAG)
    """Where spans go, an OTLP collector over gRPC such as http://127.0.0.1:4317; none: they are not made."""


class RuntimeSettings(Section):
    """What computes: ``[runtime]``."""

    model: Path = Field(
        default_factory=lambda: shipped_model() or Path("deploy/models/soundstage-small"),
        json_schema_extra={
            "flag": True,
            "shown": "deploy/models/soundstage-small",
        },
    )
    """Folder of the model, with its device bundle in ``bundle/``; or the name of one that `edge-server
    weights get` made."""
    beside: tuple[Path, ...] = Field(default=(), json_schema_extra=_FLAG)
    """Other models that are served beside it, each asked by its name or by its devices' bundle; the flag is
    given again for each."""
    device: str = Field(default="cpu", json_schema_extra=_FLAG)
    """What the model computes on, in torch's words: cpu, cuda, cuda:1."""
    model_runner_processes: bool = Field(default=True, json_schema_extra=_FLAG)
    """Each batch computes in a process, with weights of its own; else on a thread, and all share theirs."""
    threads: PositiveInt = Field(
        default=max(_CORES // _BATCHES, 1),
        json_schema_extra={"flag": True, "shown": "processor cores over batches"},
    )
    """Threads of the model's operators, in each batch."""
    bfloat16: bool = Field(default=True, json_schema_extra=_FLAG)
    """Prompts are read in bfloat16 on a CPU with instructions for it: faster, and rounded."""
    integers: bool = Field(default=False, json_schema_extra=_FLAG)
    """Decode steps have weights as 8-bit integers, on a CPU with instructions for it: faster, and rounded."""
    runner: Literal["own", "vllm"] = Field(default="own", json_schema_extra=_FLAG)
    """What computes: our decoder, or vLLM on a CPU, which `edge-server engines install vllm` installs."""
    prefix_bytes: Annotated[int, Field(ge=0)] = 256 * _MIB
    """Keys and values that each batch keeps of conversations with a split model, for their next turn."""

    @property
    def computing(self) -> Computing:
        """What of this whoever loads the model is told."""
        precision = Precision(bfloat16=self.bfloat16, integers=self.integers)
        return Computing(self.threads, self.device, precision, self.prefix_bytes)

    @field_validator("model")
    @classmethod
    def _fetched(cls, model: Path) -> Path:
        """A bare name that is no folder here is that of a model that was fetched, if there is one."""
        return resolved_model(model)

    @field_validator("beside")
    @classmethod
    def _all_fetched(cls, beside: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(resolved_model(model) for model in beside)


class GrpcSettings(Section):
    """The door of devices: ``[grpc]``."""

    port: Port = Field(default=50_051, json_schema_extra=_FLAG)
    """Port of gRPC; 0: any free one."""
    max_message_bytes: Size = 2 * _MIB
    """Largest message; larger ones are not read."""
    max_calls: PositiveInt = 4096
    """Calls at once."""
    max_streams: PositiveInt = 128
    """Calls at once over one connection."""


class RestSettings(Section):
    """The door of everybody else: ``[rest]``."""

    port: Port = Field(default=8080, json_schema_extra=_FLAG)
    """Port of REST; 0: any free one."""
    behind_proxy: bool = Field(default=False, json_schema_extra=_FLAG)
    """A proxy before this door ends TLS: it speaks plain HTTP, whatever tls_cert says."""
    metrics_open: bool = Field(default=True, json_schema_extra=_FLAG)
    """/metrics is shown without an API key."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which this door may be called; none given: this machine's own on loopback, elsewhere any."""
    cors_origins: tuple[str, ...] = ()
    """Origins of pages elsewhere whose scripts may ask here, such as https://app.example; *: of any."""
    max_body_bytes: Size = 16 * _MIB
    """Largest body; larger ones are not read."""
    max_upload_bytes: Size = Field(default=512 * _MIB, json_schema_extra=_FLAG)
    """Media of one body, beside max_body_bytes of everything else; it lies in files meanwhile."""
    max_windows: PositiveInt = 64
    """Windows of a recording that one request may ask about; each counts as a question."""
    upload_folder: Path | None = None
    """On whose disk such files lie; none: that of temporary files."""
    token_length: int | None = Field(
        default=None, ge=1, json_schema_extra={"shown": "the model's own, or 16"}
    )
    """Tokens per modality of media, where the request does not say."""
    ingest_threads: PositiveInt = 2
    """Media files of one user that are decoded at once; one more where several users send some."""
    max_ingest: PositiveInt = 32
    """Requests with media that are decoded or wait for it; of one user, `share_of_one` of them."""
    max_choices: PositiveInt = 8
    """Answers that one request may ask for, OpenAI's n; each counts as a question."""
    leave_out_oldest: bool = False
    """Of a conversation that does not fit, the oldest turns are left out, and named in the response."""


class SecuritySettings(Section):
    """Certificates and keys: ``[security]``."""

    trusted_network: bool = Field(default=False, json_schema_extra=_FLAG)
    """Listen beyond this machine without certificates and keys: whoever reaches the ports is let in."""
    tls_cert: Path | None = Field(default=None, json_schema_extra=_FLAG)
    """The server's certificate, PEM with its chain; both doors speak TLS."""
    tls_key: Path | None = Field(default=None, json_schema_extra=_FLAG)
    """The key that belongs to it, PEM."""
    tls_ca: Path | None = Field(default=None, json_schema_extra=_FLAG)
    """The authorities of devices, PEM; the gRPC door asks every client for a certificate of theirs."""
    access: Path | None = Field(default=None, json_schema_extra=_FLAG)
    """The access file: certificates and API keys; REST asks for a key, and certificates can be revoked."""
    enrol_port: Annotated[int | None, Field(ge=0, le=65_535)] = Field(default=None, json_schema_extra=_FLAG)
    """Port where devices get certificates; 0: any free one; none: nobody can enrol."""
    ca_key: Path | None = Field(default=None, json_schema_extra=_FLAG)
    """Key of the first authority in tls_ca, PEM; needed to enrol."""
    certificate_days: PositiveFloat = 3650.0
    """How long certificates of devices are good for, by this server's clock."""
    renew_expired_days: Annotated[float, Field(ge=0)] = 30.0
    """How long after its end a certificate is still renewed; later, the device has to be enrolled again."""
    bundle_keys: Path | None = Field(default=None, json_schema_extra=_FLAG)
    """Public keys of those who sign bundles, one a line; devices that enrol take no others from then on."""


class SharedSettings(Section):
    """What everybody has together, and how much of it one may take: ``[shared]``."""

    max_held_bytes: Annotated[int, Field(ge=65_536)] = 256 * _MIB
    """Bytes of questions and answers that are in memory on their way, at both doors."""
    max_upload_bytes: Annotated[int, Field(ge=65_536)] = 4096 * _MIB
    """Bytes of media in files on their way, at the REST door."""
    max_connections: PositiveInt = 2048
    """Connections to the REST door, WebSockets too."""
    max_downloads: PositiveInt = 32
    """Bundles that are fetched at once."""
    share_of_one: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Part of these, and of max_grpc_calls, that one certificate, API key or address may have."""


class ScenesSettings(Section):
    """What devices share is kept, to be asked about later: ``[scenes]``."""

    file: Path | None = Field(default=None, json_schema_extra=_FLAG)
    """SQLite file that scenes are kept in; none: in memory, until the server ends."""
    scenes_of_one: PositiveInt = 10_000
    """Scenes of one device; then its oldest go."""
    scenes_in_all: PositiveInt = 1_000_000
    """Scenes of all devices; then the oldest go."""
    scenes_bytes: Annotated[int, Field(ge=65_536)] = Field(
        default=1024 * _MIB, json_schema_extra={"shown": "1 GiB; of memory 64 MiB at most"}
    )
    """Bytes of their tokens, in all; then the oldest go."""
    scenes_kept_s: PositiveFloat = Field(default=7 * 86_400.0, json_schema_extra=_FLAG)
    """How long a scene is kept."""
    scene_stale_s: PositiveFloat = 60.0
    """An answer about the latest scene says that it is stale, where that ended longer ago."""
    thumbnails: bool = Field(default=False, json_schema_extra=_FLAG)
    """Keep the small pictures that devices send with ``share --thumbnails``, and show them on the page."""


class PageSettings(Section):
    """The page for browsers: ``[page]``."""

    ui: Literal["auto", "on", "off"] = Field(default="auto", json_schema_extra=_FLAG)
    """Whether a page is served at ``/``; ``auto``: where the extra ``ui`` of this package is installed."""
    ui_demo: Path = Field(default=Path("deploy/demo"), json_schema_extra=_FLAG)
    """Folder of the clips and questions that the page's playground offers; it may be missing."""
    ui_cotrain: Path | None = Field(default=None, json_schema_extra=_FLAG)
    """Folder of a co-training round (``edge-server cotrain open --state``) that the page shows."""


class ServerConfig(BaseSettings):
    """Everything that can be set, by sections.

    Args:
        given: sections, or settings by any of their names.

    Raises:
        ValidationError: a setting cannot be, or is unknown.
        GivenTwiceError: names of one setting have different values.
    """

    model_config = SettingsConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    server: ProcessSettings = ProcessSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    engine: EngineConfig = EngineConfig()
    cell: CellConfig = CellConfig()
    limits: LimitConfig = LimitConfig()
    grpc: GrpcSettings = GrpcSettings()
    rest: RestSettings = RestSettings()
    # Files of anybody's, as phones make them. Pixels: 4K at 120 Hz for the window of 4 s takes 4,000 million.
    media: MediaLimits = MediaLimits(
        max_bytes=96 * _MIB,
        max_frame_pixels=120_000_000,
        max_frame_bytes=192 * _MIB,
        max_total_pixels=4_500_000_000,
        max_frames=8_000,
        max_audio_samples=8_000_000,
        max_decode_s=30.0,
        max_memory_bytes=512 * _MIB,
    )
    security: SecuritySettings = SecuritySettings()
    shared: SharedSettings = SharedSettings()
    scenes: ScenesSettings = ScenesSettings()
    page: PageSettings = PageSettings()
    cluster: ClusterConfig = ClusterConfig()

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)

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
        return sources(settings_cls, SETTINGS, init_settings(), config_file())

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        """Names to sections; defaults that depend on the machine, or are not those of the section's class."""
        if not isinstance(given, dict):
            return given
        # Here, not where this class is made: a default may depend on the current folder.
        given = {"runtime": {}} | SETTINGS.nested(given)
        runtime, engine, media = (given.get(name, {}) for name in ("runtime", "engine", "media"))
        if isinstance(runtime, dict) and isinstance(engine, dict):
            # A GPU computes one thing at a time.
            batches = _BATCHES if runtime.get("device", "cpu") == "cpu" else 1
            given["engine"] = {"batches": batches, **engine}
        if isinstance(media, dict):
            given["media"] = dataclasses.asdict(cls.model_fields["media"].default) | media
        return given


SETTINGS = Catalogue(
    ServerConfig,
    ENV_PREFIX,
    names={
        "engine_kind": "engine.kind",
        "grpc_port": "grpc.port",
        "max_grpc_message_bytes": "grpc.max_message_bytes",
        "max_grpc_calls": "grpc.max_calls",
        "max_grpc_streams": "grpc.max_streams",
        "rest_port": "rest.port",
        "rest_behind_proxy": "rest.behind_proxy",
        "max_rest_body_bytes": "rest.max_body_bytes",
        "rest_token_length": "rest.token_length",
        "scenes": "scenes.file",
        "cluster": "cluster.servers",
        "max_streams": "limits.max_streams",
        "max_media_bytes": "media.max_bytes",
        "max_image_pixels": "media.max_frame_pixels",
        "max_image_bytes": "media.max_frame_bytes",
        "max_media_pixels": "media.max_total_pixels",
        "max_media_samples": "media.max_audio_samples",
    },
    former={
        "core_processes": "runtime.model_runner_processes",
        "words_between_prefills": "engine.decode_steps_between_prefills",
    },
)
"""Each setting, with its names."""

FLAGGED = tuple(setting for setting in SETTINGS if setting.has_flag)
"""Those that the command line has flags for."""

_TOKEN_LENGTH = 16


def rest_token_length(config: ServerConfig, of_model: int | None) -> int:
    """Tokens per modality of media that came over REST, where the request does not say.

    Args:
        config: what is set.
        of_model: what the model works best with, if it says.
    """
    return config.rest.token_length or of_model or _TOKEN_LENGTH
