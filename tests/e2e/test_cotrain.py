"""A small co-training as a user runs it: an edge, three devices in processes, one of which is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from device_agent.bundle.bundle import load_bundle
from device_agent.cotrain.examples import read_examples
from edge_server.cotrain import promotion
from edge_server.data.soundstage.dataset import generate
from tests.e2e.conftest import ROOT, load_script
from tests.waiting import until_true

SHIPPED = Path("deploy/models/soundstage-small")
CLIPS = Path("deploy/demo/clips")
ROUNDS = 12
_STARTS_S = 300.0
"""Until it speaks, a program imports torch and encodes clips: two minutes do not do on a busy machine."""


def examples(folder: Path) -> Path:
    """The demo's clips, one of them held out."""
    folder.mkdir()
    lines = []
    for index, clip in enumerate(sorted(CLIPS.glob("*.mp4"))[:3]):
        shutil.copyfile(clip, folder / clip.name)
        split = "val" if index == 2 else "train"
        for question, answer in (
            ("Is there a voiceover?", "yes"),
            ("How many instruments are playing?", "two"),
        ):
            lines.append({"media": clip.name, "question": question, "answer": answer, "split": split})
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def command(program: str, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", program, *arguments], stdout=file, stderr=subprocess.STDOUT
        )


def edge_command(*arguments: str) -> dict[str, Any]:
    code = "from edge_server.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "cotrain", *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def said(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def test_three_devices_learn_one_is_killed_and_the_round_is_promoted(tmp_path: Path) -> None:
    model, state = tmp_path / "model", tmp_path / "round"
    shutil.copytree(SHIPPED, model)
    (tmp_path / "edge.py").write_text("from edge_server.cli import main\nmain()\n")
    data = tmp_path / "soundstage"
    generate(data, "val", 10, seed=1, workers=1)
    generate(data, "train", 6, seed=1, workers=1)
    logs = {name: tmp_path / f"{name}.log" for name in ("edge", "hall", "yard", "roof")}
    running: list[subprocess.Popen[bytes]] = []
    with logs["edge"].open("wb") as file:
        edge = subprocess.Popen(
            [
                *(sys.executable, str(tmp_path / "edge.py"), "cotrain", "open", "--model", str(model)),
                *("--state", str(state), "--rounds", str(ROUNDS), "--min-devices", "2", "--port", "0"),
                *("--clips", "2", "--questions", "2", "--deadline-s", "10", "--token-length", "8", "--json"),
                *("--data", str(data), "--rehearse", str(data), "--rehearse-clips", "2"),
            ],
            stdout=file,
            stderr=subprocess.DEVNULL,
        )
    running.append(edge)
    try:
        until_true(lambda: bool(said(logs["edge"])), _STARTS_S)
        port = said(logs["edge"])[0]["port"]

        def agent(name: str) -> subprocess.Popen[bytes]:
            folder = tmp_path / f"examples-{name}"
            process = command(
                "device_agent.cli.start",
                *("cotrain", "--server", "127.0.0.1:50051", "--port", str(port), "--device-id", name),
                *("--examples", str(folder if folder.exists() else examples(folder)), "--json"),
                *("--bundle", str(model / "bundle"), "--state", str(tmp_path / f"state-{name}")),
                *("--channel", "awgn", "--snr-db", "12"),
                log=logs[name],
            )
            running.append(process)
            return process

        agents = {name: agent(name) for name in ("hall", "yard", "roof")}
        until_true(lambda: any(each.get("step", 0) >= 2 for each in said(logs["roof"])), _STARTS_S)
        agents["roof"].send_signal(signal.SIGKILL)
        agents["roof"].wait()
        agents["roof"] = agent("roof")
        for name, process in agents.items():
            assert process.wait(180) == 0, logs[name].read_text()
        assert edge.wait(120) == 0, logs["edge"].read_text()
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert said(logs["edge"])[-1]["reason"] == "done"
    for name in ("hall", "yard", "roof"):
        ended = said(logs[name])[-1]
        assert ended["reason"] == "done"
        assert 1 <= ended["applied"] <= ROUNDS
    told = edge_command("status", "--state", str(state), "--json")
    assert told["status"]["step"] == ROUNDS
    assert told["status"]["devices"]["roof"]["joins"] == 2
    assert {"hall", "yard", "roof"} < set(told["report"]["devices"])
    own = load_bundle(state / "candidate" / "bundle-of-roof")
    assert own.manifest.personal_to == "roof"
    assert own.manifest.personalised_from == load_bundle(model / "bundle").hash

    # What is promoted was asked the validation set, of each device's head: by what is in the report alone.
    report = told["report"]
    assert report["validated"]
    assert report["rehearsal"] == {"data": "soundstage", "clips": 6}
    assert report["plan"]["rehearse_share"] > 0.0
    everybody = report["devices"]["(devices that did not take part)"]["validation"]
    for name in ("hall", "yard", "roof"):
        validation = report["devices"][name]["validation"]
        assert validation["before"] == everybody["before"] > 0.7
        assert 0.0 <= validation["after"] <= 1.0
    code = "from edge_server.cli import main; main()"
    tried = subprocess.run(
        [sys.executable, "-c", code, "cotrain", "promote", "--state", str(state)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    losses = promotion.worse(report)
    assert tried.returncode == (2 if losses else 0)
    assert all(loss in " ".join(tried.stderr.split()) for loss in losses)
    edge_command("promote", "--state", str(state), "--allow-loss", "100", "--json")
    assert (model / "bundle-of-hall" / "manifest.json").is_file()
    changed = (model / "link.safetensors").read_bytes()
    assert changed != (SHIPPED / "link.safetensors").read_bytes()
    found = edge_command("discard", "--state", str(state), "--json")
    assert found["rolled_back"] is True
    assert (model / "link.safetensors").read_bytes() == (SHIPPED / "link.safetensors").read_bytes()
    assert not (model / "bundle-of-hall").exists()
    assert not state.exists()


@pytest.mark.slow
def test_an_answer_about_a_watched_file_is_corrected(tmp_path: Path) -> None:
    watched, examples_folder = tmp_path / "watched", tmp_path / "corrections"
    watched.mkdir()
    for clip in sorted(CLIPS.glob("*.mp4"))[:2]:
        shutil.copyfile(clip, watched / clip.name)
    log, outbox = tmp_path / "watch.log", str(tmp_path / "outbox.db")
    with_server = load_script(ROOT / "deploy" / "with_server.py")
    with with_server.edge_server(SHIPPED) as found, log.open("wb") as file:
        watching = subprocess.Popen(
            [
                *(sys.executable, "-m", "device_agent.cli.start", "watch", str(watched)),
                *("Is there a voiceover?", "--outbox", outbox, "--json"),
            ],
            env=os.environ | found,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            until_true(lambda: len(said(log)) == 2, _STARTS_S)
        finally:
            watching.terminate()
            watching.wait(30)

    def agent(*arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "device_agent.cli.start", *arguments, "--outbox", outbox, "--json"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    entries = agent("outbox", "list", "--all")["questions"]
    for entry, answer in zip(entries, ("yes", "no"), strict=True):
        line = agent("correct", entry["request_id"], answer, "--examples", str(examples_folder))
        assert (line["question"], line["answer"]) == ("Is there a voiceover?", answer)
    lines = [json.loads(line) for line in (examples_folder / "questions.jsonl").read_text().splitlines()]
    assert [line["answer"] for line in lines] == ["yes", "no"]
    for line, split in zip(lines, ("train", "val"), strict=True):
        assert (examples_folder / line["media"]).read_bytes() in {p.read_bytes() for p in watched.iterdir()}
        line["split"] = split
    (examples_folder / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    read = read_examples(examples_folder, lambda text: [1])
    assert len(read.train) == len(read.held_out) == 1
