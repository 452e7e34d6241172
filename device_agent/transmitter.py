"""Clips to tokens, with ONNX Runtime: the device's learned half of the link.

    Clip ─┬─ frames_THWC ─▶ visual.onnx ─▶ image | video  ┐
          └─ pcm_S ───────▶ audio.onnx  ─▶ audio          ├─▶ x_TC, Es = 1 per complex symbol
    language token ids ───▶ text.onnx   ─▶ text (analog)  ┘

Resizing, spectrogram and normalisation are inside the graphs, so a device cannot skew from training.

Shapes: T frames, or token_length; H, W picture; S samples; L language tokens; C channel_dim.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from device_agent.bundle.bundle import FEATURES, TOKENS, Bundle
from device_agent.errors import ConfigurationError, MediaError, TransmitterError
from device_agent.media.clip import Clip
from device_agent.stopping import Stop

if TYPE_CHECKING:
    import onnxruntime
    import tokenizers

Tokens = npt.NDArray[np.float32]

_CPU = "CPUExecutionProvider"
_SILENT = 4
"""ONNX Runtime's level that says nothing: its messages spell names out of graphs, whatever these hold."""
MAX_TOKENIZER_BYTES = 64 * 2**20
"""A compressed tokenizer is not unpacked further."""
_GZIP = 31
"""What zlib calls gzip's format."""

POWER_TOLERANCE = 0.02
"""How far the mean square of a block may be from 0.5, relatively; rounding is far below it."""


@dataclass(frozen=True)
class Encoded:
    """What a clip became.

    Attributes:
        tokens: modality to float32 [token_length, channel_dim].
        encode_s: what encoding took, opening graphs for the first time included [s].
    """

    tokens: Mapping[str, Tokens]
    encode_s: float


class Transmitter:
    """The transmitters of one bundle; graphs are opened when first needed. Thread-safe.

    Args:
        bundle: verified.
        threads: within one operator.
        provider: of ONNX Runtime; what it cannot compute, the CPU does.
        clock: monotonic seconds, to time encoding.
    """

    def __init__(
        self,
        bundle: Bundle,
        threads: int = 1,
        *,
        provider: str = _CPU,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if threads < 1:
            raise ConfigurationError(f"threads is {threads}; at least 1")
        self.bundle = bundle
        self._threads = threads
        self._provider = provider
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        self._tokenizer: tokenizers.Tokenizer | None = None

    def of(self, bundle: Bundle) -> Transmitter:
        """One like this, of another bundle."""
        return Transmitter(bundle, self._threads, provider=self._provider, clock=self._clock)

    def encode(self, clip: Clip, token_length: int, *, stop: Stop | None = None) -> Encoded:
        """Tokens of every modality that a clip has.

        Args:
            clip: decoded at :meth:`Bundle.media_spec`.
            token_length: tokens per modality.
            stop: ends it early, from another thread.

        Raises:
            ConfigurationError: a token length that the bundle was not trained for.
            MediaError: the bundle has no transmitter for a modality of the clip.
            TransmitterError: a graph failed, or returned what it should not.
        """
        started_s = self._clock()
        tokens: dict[str, Tokens] = {}
        if clip.frames_THWC is not None:
            modality = "image" if clip.is_image else "video"
            tokens[modality] = self.encode_visual(
                clip.frames_THWC, token_length, is_image=clip.is_image, stop=stop
            )
        if clip.pcm_S is not None:
            tokens["audio"] = self.encode_audio(clip.pcm_S, token_length, stop=stop)
        return Encoded(tokens, self._clock() - started_s)

    def encode_visual(
        self,
        frames_THWC: npt.NDArray[np.uint8],
        token_length: int,
        *,
        is_image: bool = False,
        stop: Stop | None = None,
    ) -> Tokens:
        """Tokens of frames, uint8 [T, H, W, 3] to float32 [token_length, channel_dim]; raises as encode."""
        part = self.bundle.manifest.transmitters.visual
        modality = "image" if is_image else "video"
        if part is None or modality not in part.modalities:
            raise MediaError(modality, "cannot be sent: the bundle has no transmitter for it")
        if frames_THWC.dtype != np.uint8 or frames_THWC.ndim != 4 or frames_THWC.shape[-1] != 3:
            raise TransmitterError(
                f"frames are {frames_THWC.dtype} {frames_THWC.shape}; uint8 [T, H, W, 3] is needed"
            )
        frames = np.ascontiguousarray(frames_THWC[: part.max_frames])
        return self._run(part.graph, {"frames": frames}, token_length, stop)

    def encode_audio(
        self, pcm_S: npt.NDArray[np.float32], token_length: int, *, stop: Stop | None = None
    ) -> Tokens:
        """Tokens of mono sound, float32 [S] to float32 [token_length, channel_dim]; raises as encode."""
        part = self.bundle.manifest.transmitters.audio
        if part is None:
            raise MediaError("audio", "cannot be sent: the bundle has no transmitter for it")
        if pcm_S.dtype != np.float32 or pcm_S.ndim != 1:
            raise TransmitterError(f"pcm is {pcm_S.dtype} {pcm_S.shape}; float32 [S] is needed")
        window = np.ascontiguousarray(pcm_S[: round(part.window_s * part.sample_rate_hz)])
        return self._run(part.graph, {"pcm": window}, token_length, stop)

    def features(self, clip: Clip) -> dict[str, npt.NDArray[np.float32]]:
        """What the frozen encoders give of a clip: by transmitter, float32 [P, D]; raises as encode.

        Only of bundles whose heads can be learned, and whatever the token length: heads come after.
        """
        found: dict[str, npt.NDArray[np.float32]] = {}
        parts, heads = self.bundle.manifest.transmitters, self.bundle.manifest.heads
        media: dict[str, tuple[str, dict[str, npt.NDArray[Any]]]] = {}
        if clip.frames_THWC is not None and parts.visual is not None:
            frames = np.ascontiguousarray(clip.frames_THWC[: parts.visual.max_frames])
            media["visual"] = parts.visual.graph, {"frames": frames}
        if clip.pcm_S is not None and parts.audio is not None:
            samples = round(parts.audio.window_s * parts.audio.sample_rate_hz)
            media["audio"] = parts.audio.graph, {"pcm": np.ascontiguousarray(clip.pcm_S[:samples])}
        length = np.array([self.bundle.manifest.token_lengths[0]], np.int64)
        for slot, (graph, inputs) in media.items():
            if slot not in heads:
                raise ConfigurationError(f"the bundle's {slot} head cannot be learned on a device")
            x_PD = self._call(graph, inputs | {"token_length": length}, Stop(), FEATURES)
            if not isinstance(x_PD, np.ndarray) or x_PD.dtype != np.float32 or x_PD.ndim != 2:
                raise TransmitterError(f"{graph} returned features that are no float32 [P, D]")
            if not np.isfinite(x_PD).all():
                raise TransmitterError(f"{graph} returned features that are not finite")
            found[slot] = x_PD
        return found

    def encode_text(self, ids: list[int], *, stop: Stop | None = None) -> Tokens:
        """Feature tokens of language tokens (the analog path), one each: float32 [L, channel_dim].

        Raises:
            ConfigurationError: no ids, or more than the bundle's text transmitter takes, or none there is.
            TransmitterError: the graph failed, or returned what it should not.
        """
        part = self.bundle.manifest.transmitters.text
        if part is None:
            raise ConfigurationError("text_path analog: the bundle has no text transmitter; use ids")
        if not 1 <= len(ids) <= part.max_token_length:
            raise ConfigurationError(
                f"question: has {len(ids)} language tokens; 1 to {part.max_token_length} go over "
                "text_path analog"
            )
        inputs = {"token_ids": np.array(ids, np.int64)}
        return self._checked(part.graph, self._call(part.graph, inputs, stop or Stop()), len(ids))

    def tokenize(self, text: str, field: str = "text") -> list[int]:
        """Language token ids of a text, without special tokens.

        Args:
            text: any.
            field: what it was given as.

        Raises:
            ConfigurationError: the text is no valid Unicode.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ConfigurationError(f"{field} is not valid UTF-8") from error
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = self._open_tokenizer()
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _run(
        self, graph: str, media: dict[str, npt.NDArray[Any]], token_length: int, stop: Stop | None
    ) -> Tokens:
        allowed = self.bundle.manifest.token_lengths
        if token_length not in allowed:
            raise ConfigurationError(
                f"token_length is {token_length}; the bundle allows {', '.join(map(str, allowed))}"
            )
        inputs = media | {"token_length": np.array([token_length], np.int64)}
        return self._checked(graph, self._call(graph, inputs, stop or Stop()), token_length)

    def _call(self, graph: str, inputs: dict[str, npt.NDArray[Any]], stop: Stop, output: str = TOKENS) -> Any:
        import onnxruntime

        with self._lock:
            session = self._sessions.get(graph)
            if session is None:
                session = self._sessions[graph] = self._open_session(graph, stop)
        run = onnxruntime.RunOptions()
        run.log_severity_level = _SILENT
        try:
            with stop.ending(lambda: setattr(run, "terminate", True)):
                return session.run([output], inputs, run)[0]
        except Exception as error:  # ONNX Runtime's errors share no public base class
            reason = "it took too long, and was ended" if stop.wished else _first_line(error)
            raise TransmitterError(f"{graph} failed: {reason}") from error

    def _checked(self, graph: str, x_TC: Any, token_length: int) -> Tokens:
        expected = (token_length, self.bundle.manifest.channel_dim)
        if not isinstance(x_TC, np.ndarray) or x_TC.dtype != np.float32 or x_TC.shape != expected:
            found = f"{x_TC.dtype} {x_TC.shape}" if isinstance(x_TC, np.ndarray) else type(x_TC).__name__
            raise TransmitterError(f"{graph} returned {found}; float32 {expected} is what its manifest says")
        mean_square = float(np.mean(np.square(x_TC, dtype=np.float64)))
        if not abs(mean_square - 0.5) <= 0.5 * POWER_TOLERANCE:  # also refuses NaN
            raise TransmitterError(
                f"{graph} returned tokens of mean square {mean_square:.4g}; 0.5 is one per symbol"
            )
        return x_TC

    def _open_session(self, graph: str, stop: Stop) -> onnxruntime.InferenceSession:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Without an arena large blocks go back to the system after each operator and come again page by page,
        # which takes longer than many an operator. A plan made for one size of media is no use for the next.
        options.enable_cpu_mem_arena = True
        options.enable_mem_pattern = False
        options.log_severity_level = _SILENT
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        available = onnxruntime.get_available_providers()
        if self._provider not in available:
            raise ConfigurationError(
                f"provider (--provider) is {self._provider}; ONNX Runtime has {', '.join(available)} here"
            )
        providers = list(dict.fromkeys([self._provider, _CPU]))
        path = str(self.bundle.folder / graph)
        try:
            with stop.ending(lambda: _cancel_loading(options)):
                return onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # as above
            reason = "it took too long, and was ended" if stop.wished else _first_line(error)
            raise TransmitterError(f"{graph} cannot be opened: {reason}") from error

    def _open_tokenizer(self) -> tokenizers.Tokenizer:
        import tokenizers

        path = self.bundle.folder / self.bundle.manifest.tokenizer
        try:
            tokenizer = tokenizers.Tokenizer.from_str(_text_of(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise TransmitterError(f"{path.name} cannot be opened: {_first_line(error)}") from error
        # A question that spells "<answer>" is text; the file does not remember this setting.
        tokenizer.encode_special_tokens = True
        return tokenizer


def _cancel_loading(options: onnxruntime.SessionOptions) -> None:
    if hasattr(options, "set_load_cancellation_flag"):  # as of ONNX Runtime 1.21
        options.set_load_cancellation_flag(True)


def _text_of(path: Path) -> str:
    """A tokenizer's JSON, which may be compressed."""
    packed = path.read_bytes()
    if path.suffix != ".gz":
        return packed.decode("utf-8")
    unpacking = zlib.decompressobj(wbits=_GZIP)
    text = unpacking.decompress(packed, MAX_TOKENIZER_BYTES)
    if not unpacking.eof:
        raise ValueError(f"is cut short, or of more than {MAX_TOKENIZER_BYTES} bytes")
    return text.decode("utf-8")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]
