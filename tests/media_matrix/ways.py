"""Ways in: a file goes in as a user sends it, and what the model would have got of it comes out."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from playwright.sync_api import Page, expect, sync_playwright

from device_agent.cotrain.questions_file import FILE, OwnClip
from device_agent.errors import MediaError
from device_agent.media.clip import Clip
from device_agent.sources.folder import SUFFIXES
from edge_server.data.questions_file import OwnMedia, load_questions
from tests.media_matrix.kinds import Kind
from tests.waiting import PATIENCE_S, until_true

Got = Clip | str
"""A clip, or why there is none."""

QUESTION = "Is there a banjo sound?"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ROOT = Path(__file__).resolve().parents[2]


def taken(folder: Path) -> list[Clip]:
    """What was noted since the last call, in order."""
    clips = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as parts:
            clips.append(Clip(parts.get("frames"), parts.get("pcm"), bool(parts["is_image"])))
        path.unlink()
    return clips


def _one(clips: Sequence[Clip], why: str) -> Got:
    return clips[-1] if clips else why


class Rest:
    """``POST /v1/infer``.

    Args:
        url: of the server.
        noted: where it notes clips.
    """

    def __init__(self, url: str, noted: Path) -> None:
        self._noted, self._http = noted, httpx.Client(base_url=url, timeout=PATIENCE_S)

    def get(self, kind: Kind, path: Path) -> Got:
        """One file."""
        modality = {"film": "video", "sound": "audio"}.get(kind.shape, "image")
        if kind.shape == "animation" and kind.muxer == "AVIF":
            modality = "video"  # as an image, it is the still picture that such a file holds too
        part = {"type": modality, "data": base64.b64encode(path.read_bytes()).decode()}
        answered = self._http.post(
            "/v1/infer", json={"question": QUESTION, "media": [part], "link": {"channel": "awgn"}}
        )
        return _one(taken(self._noted), answered.text[:300])


class Agent:
    """``device-agent ask FILE QUESTION``.

    Args:
        found: environment in which it finds the server.
        noted: where it notes clips.
    """

    def __init__(self, found: Mapping[str, str], noted: Path) -> None:
        self._noted = noted
        command = [sys.executable, "-m", "tests.media_matrix.recorder", str(noted), "device-agent", "ask"]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | found,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def get(self, kind: Kind, path: Path) -> Got:
        """One file."""
        into, out = self._process.stdin, self._process.stdout
        assert into is not None
        assert out is not None
        into.write(json.dumps(["ask", str(path), QUESTION, "--no-pace", "--json"]) + "\n")
        into.flush()
        said = ""
        while True:
            line = out.readline()
            assert line, said
            if line.startswith('{"ended"'):
                return _one(taken(self._noted), said)
            said += line

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=PATIENCE_S)


class Upload:
    """The page's "Upload a clip".

    Args:
        page: of a browser, at the server.
        noted: where the server notes clips.
    """

    def __init__(self, page: Page, noted: Path) -> None:
        self._page, self._noted = page, noted
        page.get_by_role("tab", name="Playground").click()
        # The first example is asked by itself.
        expect(page.locator(".tl-probability")).to_be_visible()
        taken(noted)

    def get(self, kind: Kind, path: Path) -> Got:
        """One file."""
        page = self._page
        alert = page.get_by_role("alert").filter(visible=True)
        # What was said of the file before stays until there is something to say of this one.
        before = [page.locator(".tl-player").inner_text(), "; ".join(alert.all_inner_texts())]
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Upload a clip").click()
        chooser.value.set_files(path)
        page.wait_for_function(
            "([shown, said]) => document.querySelector('.tl-player').innerText !== shown"
            " || [...document.querySelectorAll('.tl-error')]"
            ".some(e => e.offsetParent && e.innerText && e.innerText !== said)",
            arg=before,
        )
        clips = taken(self._noted)
        return _one(clips, "; ".join(alert.all_inner_texts()))


@contextmanager
def page_at(url: str) -> Iterator[Page]:
    """A browser that looks at the server."""
    executable = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        expect.set_options(timeout=1000 * PATIENCE_S)
        page.goto(url)
        yield page
        browser.close()


def watched(found: Mapping[str, str], files: Sequence[Path], scratch: Path) -> Iterator[tuple[Path, Got]]:
    """``device-agent watch FOLDER QUESTION``: all files, in the order in which they lie there.

    Args:
        found: environment in which it finds the server.
        files: in one folder, by name in the order of their times.
        scratch: for what is noted.
    """
    # Files of other names lie beside media in every folder: nothing is said of them.
    seen = [path for path in files if path.suffix in SUFFIXES]
    noted, inbox = scratch / "watched", scratch / "inbox"
    noted.mkdir()
    inbox.mkdir()
    for number, path in enumerate(files):
        copy = Path(shutil.copy(path, inbox))
        os.utime(copy, ns=(10**18 + number * 10**9,) * 2)
    command = [sys.executable, "-m", "tests.media_matrix.recorder", str(noted), "device-agent", "watch"]
    command += [str(inbox), QUESTION, "--no-pace", "--json", "--outbox", str(scratch / "outbox.db")]
    said = scratch / "watched.jsonl"
    with said.open("w") as out, (scratch / "watched.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | found, stdout=out, stderr=log)
        try:
            until_true(lambda: len(_lines(said)) >= len(seen), PATIENCE_S * 20)
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
    clips = iter(taken(noted))
    outcomes = {Path(line["file"]).name: line for line in _lines(said)}
    for path in files:
        outcome = outcomes.get(path.name, "is not looked at, by its name")
        yield path, next(clips) if "answer" in outcome else str(outcome)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def read_in_training(folder: Path, files: Sequence[Path]) -> Iterator[tuple[Path, Got]]:
    """What ``edge-server train`` reads of a folder of one's own clips and its questions."""
    rows = [{"media": path.name, "question": "What?", "answer": "this", "split": "train"} for path in files]
    (folder / FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    media = OwnMedia(folder)
    questions = load_questions(media, "train", lambda _, clips: {})
    assert len(questions.clips) == len(files)
    for path in files:
        try:
            yield path, media.read(OwnClip((path.name,), 0.0))
        except MediaError as error:
            yield path, str(error)
