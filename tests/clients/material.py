"""What every client asks, and what the server itself says to it: in plain HTTP, without any client."""

from __future__ import annotations

import base64
import io
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np

from tests.clients.environments import ROOT

CLIP = ROOT / "deploy" / "demo" / "clips" / "soundstage_test_000001.mp4"
_WITHIN_S = 60.0
SYSTEM = "on the left the loudest violin plays first . on the right a silent drum rests ."
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "turn_camera",
            "description": "Turn the camera.",
            "parameters": {
                "type": "object",
                "properties": {"degrees": {"type": "number"}},
                "required": ["degrees"],
            },
        },
    }
]
_SAMPLED = {"temperature": 2.0, "top_p": 0.95}
_MOST_SEEDS = 200
_TURNS = 24


@dataclass(frozen=True)
class Material:
    """What a program gets.

    Attributes:
        asks: text questions, by what they are about.
        image, sound, video: base64 of PNG, WAV, MP4.
    """

    asks: dict[str, str]
    image: str
    sound: str
    video: str

    def for_programs(self, url: str, model: str, stop: str, seed: int) -> dict[str, Any]:
        """As a program reads it from its input.

        Args:
            url: of the server.
            model: that it serves.
            stop: ends the answer to the question that is asked in text.
            seed: with which another answer than the likeliest is drawn.
        """
        return {
            "url": f"{url}/v1",
            "model": model,
            "system": SYSTEM,
            "asks": self.asks,
            "image": self.image,
            "sound": self.sound,
            "video": self.video,
            "tools": TOOLS,
            "sampled": {**_SAMPLED, "seed": seed},
            "stop": stop,
            "history": history(),
        }


def history() -> list[dict[str, str]]:
    """Turns of a long chat: far more than the model has room for."""
    turns = [{"role": "system", "content": SYSTEM}]
    for number in range(_TURNS):
        turns.append(
            {"role": "user", "content": f"Is there a banjo sound in the music that we heard {number}?"}
        )
        turns.append({"role": "assistant", "content": "no"})
    return turns


def material() -> Material:
    """From the first demo clip: all of it, its sound, a picture of its middle."""
    with av.open(str(CLIP)) as container:
        frames = list(container.decode(video=0))
    picture = io.BytesIO()
    frames[len(frames) // 2].to_image().save(picture, "PNG")
    with av.open(str(CLIP)) as container:
        resampler = av.AudioResampler("s16", "mono", 16_000)
        pieces = [
            made.to_ndarray().ravel()
            for frame in container.decode(audio=0)
            for made in resampler.resample(frame)
        ]
    sound = io.BytesIO()
    with wave.open(sound, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(np.concatenate(pieces).astype("<i2").tobytes())
    return Material(
        asks={
            "text": "Where is the drum?",
            "picture": "What kind of instrument is on the right of the stage?",
            "sound": "Is there a banjo sound?",
            "video": "What is the first instrument that comes in?",
            # Nobody can know: what is drawn differs from what is likeliest.
            "open": "What kind of instrument is on the right of the stage?",
        },
        image=_b64(picture.getvalue()),
        sound=_b64(sound.getvalue()),
        video=_b64(Path(CLIP).read_bytes()),
    )


def expected(url: str, model: str, made: Material) -> dict[str, dict[str, Any]]:
    """What each case comes to, as the server answers it in plain HTTP."""
    text = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": made.asks["text"]}]
    parts = {
        "picture": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{made.image}"}},
        "sound": {"type": "input_audio", "input_audio": {"data": made.sound, "format": "wav"}},
        "video": {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{made.video}"}},
    }
    with httpx.Client(base_url=url, timeout=_WITHIN_S) as http:

        def ask(messages: list[Any], **more: Any) -> dict[str, Any]:
            answered = http.post("/v1/chat/completions", json={"model": model, "messages": messages, **more})
            answered.raise_for_status()
            found: dict[str, Any] = answered.json()
            return found

        def said(answered: dict[str, Any]) -> str:
            content: str = answered["choices"][0]["message"]["content"]
            return content

        plain = ask(text)
        cases: dict[str, dict[str, Any]] = {"text": {"answer": said(plain)}}
        for name, part in parts.items():
            message = {"role": "user", "content": [{"type": "text", "text": made.asks[name]}, part]}
            cases[name] = {"answer": said(ask([message]))}
        cases["stream"] = {"answer": said(plain), "tokens": plain["usage"]["completion_tokens"]}
        cases["tools"] = {"answer": said(plain), "calls": 0}
        cases["history"] = {"answer": said(ask([*history(), text[1]]))}
        turns = [*text, {"role": "assistant", "content": said(plain)}, text[1]]
        cases["again"] = {"answer": said(ask(turns))}
        unknown = [{"role": "user", "content": made.asks["open"]}]
        likeliest = said(ask(unknown))
        seed = next(
            seed for seed in range(_MOST_SEEDS) if said(ask(unknown, **_SAMPLED, seed=seed)) != likeliest
        )
        drawn = ask(unknown, **_SAMPLED, seed=seed, n=3)["choices"]
        cases["sampled"] = {"answer": said(ask(unknown, **_SAMPLED, seed=seed)), "seed": seed}
        cases["stop"] = {"answer": said(plain)[:2], "stop": said(plain)[2:]}
        cases["choices"] = {"answers": [each["message"]["content"] for each in drawn]}
        content = ask(text, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
        cases["logprobs"] = {"logprobs": [round(token["logprob"], 4) for token in content]}
        cases["length"] = {"finish_reason": "length"}
        cases["refusal"] = {"status": 404}
        # Longer than the model reads: refused, as OpenAI refuses what does not fit.
        cases["title"] = {"status": 400}
    return cases


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
