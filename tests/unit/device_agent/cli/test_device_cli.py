"""The command line as a user meets it, against a real gRPC server that answers with what it was sent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from device_agent.bundle.archive import pack_bytes
from device_agent.bundle.bundle import MANIFEST, Bundle, load_bundle, write_manifest
from device_agent.cli.main import main
from device_agent.doctor.link import clock_finding
from device_agent.outbox.store import Spool
from device_agent.uplink.address import with_port
from protos.names import MODALITIES
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkServicer, add_TokenLinkServicer_to_server
from tests.waiting import PATIENCE_S, until_true


class Describing(TokenLinkServicer):
    """Answers every question with the modalities that it came with."""

    def __init__(self, bundle: Bundle) -> None:
        self.hash = bundle.hash
        self.archive = pack_bytes(bundle.folder)
        self.wanted: list[pb.GetBundleRequest] = []
        self.clock_ahead_s = 0.0
        self.silent = False
        self.asked = 0
        self.cancelled = 0
        self.acknowledged: list[str] = []

    def OpenSession(self, request: pb.OpenSessionRequest, context: Any) -> pb.OpenSessionResponse:  # noqa: N802
        if request.bundle_hash != self.hash:
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, f"device runs {request.bundle_hash}, server {self.hash}"
            )
        grant = pb.Grant(
            max_token_length=32,
            token_length=4,
            max_questions_in_flight=4,
            max_question_bytes=100_000,
            bandwidth_hz=1e6,
            valid_s=60,
        )
        return pb.OpenSessionResponse(
            session_id="s",
            grant=grant,
            server_version="0",
            model_name="describing",
            server_time_s=time.time() + self.clock_ahead_s,
        )

    def CloseSession(self, request: pb.CloseSessionRequest, context: Any) -> pb.CloseSessionResponse:  # noqa: N802
        return pb.CloseSessionResponse()

    def Converse(self, uplink: Iterator[pb.UplinkFrame], context: Any) -> Iterator[pb.DownlinkFrame]:  # noqa: N802
        for frame in uplink:
            if frame.WhichOneof("body") == "cancel":
                self.cancelled += 1
                continue
            if frame.WhichOneof("body") == "acknowledge":
                self.acknowledged += frame.acknowledge.request_ids
                continue
            self.asked += 1
            if self.silent:
                continue
            question = frame.question
            text = " ".join(MODALITIES.of_number[block.modality] for block in question.payloads) or "text"
            yield pb.DownlinkFrame(request_id=question.request_id, delta=pb.AnswerDelta(text=text))
            answer = pb.Answer(text=text, probability=0.9, finish_reason="stop")
            yield pb.DownlinkFrame(request_id=question.request_id, answer=answer)

    def GetBundle(self, request: pb.GetBundleRequest, context: Any) -> Iterator[pb.BundleChunk]:  # noqa: N802
        self.wanted.append(request)
        for start in range(0, len(self.archive), 4096):
            yield pb.BundleChunk(
                bundle_hash=self.hash,
                total_bytes=len(self.archive),
                data=self.archive[start : start + 4096],
            )


@pytest.fixture
def edge(bundle: Bundle) -> Iterator[tuple[Describing, str]]:
    """A server for the small bundle, and its address."""
    servicer = Describing(bundle)
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        add_TokenLinkServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield servicer, f"127.0.0.1:{port}"
        server.stop(None).wait()


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    edge: tuple[Describing, str],
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs ``device-agent`` here: exit code, standard output, standard error."""
    monkeypatch.setenv("TOKENLINK_DEVICE_SERVER", edge[1])
    monkeypatch.setenv("TOKENLINK_DEVICE_BUNDLE", str(bundle.folder))
    monkeypatch.setenv("TOKENLINK_DEVICE_SEED", "1")
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["device-agent", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return invoke


def test_a_video_is_asked_about_and_the_cost_is_printed(run: Run, clip_file: Path) -> None:
    code, out, _ = run("ask", clip_file, "what plays")
    assert code == 0
    assert out.startswith("video audio\n")
    for part in ("32 channel uses", "bytes on the wire", "airtime 32 µs", "encode", "round trip"):
        assert part in out


def test_an_answer_says_which_part_of_a_file_it_is_about(
    run: Run, media: Callable[..., Path], tmp_path: Path
) -> None:
    path = media(tmp_path / "long.mp4", frames=72, frame_rate_hz=8)
    code, out, _ = run("ask", path, "what plays")
    assert code == 0
    assert "about 0 to 4 s of" in out
    assert "--every" in out
    code, out, _ = run("ask", path, "what plays", "--json", "--window", "2..5")
    assert json.loads(out)["window"] == {
        "start_s": 2.0,
        "end_s": 5.0,
        "duration_s": pytest.approx(9, abs=0.1),
    }
    code, out, _ = run("ask", path, "what plays", "--json", "--every")
    starts = [json.loads(line)["window"]["start_s"] for line in out.splitlines()]
    assert starts == [0, 4, 8]
    code, out, _ = run("ask", path, "what plays", "--every")
    assert out.count("video audio\n") == 3
    assert "4 to 8 s of" in out
    code, out, _ = run(
        "ask", "what plays", "--json", "--image", media(tmp_path / "i.png", sound=False, frames=1)
    )
    assert "window" not in json.loads(out)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--window", "0..9"), "looks at 4 s at a time"),
        (("--window", "noon"), "'noon' is none"),
        (("--window", "30.."), "holds nothing from 30 s on"),
        (("--every", "--spool"), "goes without --spool"),
        (("--every", "--window", "0..1"), "goes without --window"),
    ],
)
def test_a_window_that_is_none_is_told(
    run: Run, clip_file: Path, flags: tuple[str, ...], complaint: str
) -> None:
    code, _, error = run("ask", clip_file, "what plays", *flags)
    assert code
    assert complaint in error
    code, _, error = run("ask", "what plays", "--every")
    assert code
    assert "none is given" in error


def test_every_flag_reaches_the_link(run: Run, clip_file: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("time_s,snr_db\n0,17\n")
    flags = (
        *("--channel", "rician", "--fading", "fast", "--csi", "estimated", "--pilots", "2"),
        *("--k-factor-db", "9", "--trace", trace, "--bandwidth-hz", "1e9", "--token-length", "8"),
        *("--payload", "int8", "--seed", "3", "--equalizer", "zf", "--text-path", "analog", "--no-pace"),
    )
    code, out, _ = run("ask", clip_file, "what plays", "--json", *flags)
    assert code == 0
    answer = json.loads(out)
    assert answer["answer"] == "video audio text"
    assert answer["token_length"] == 8
    symbols = 4 * (8 + 8 + 2)
    assert answer["cost"]["channel_uses"] == symbols + 2 * symbols
    assert answer["cost"]["airtime_s"] == pytest.approx(3 * symbols / 1e9)
    assert all(abs(snr_db - 17) < 6 for snr_db in answer["effective_snr_db"].values())


@pytest.mark.parametrize("parts", [("image",), ("audio",), ("image", "audio"), ("video", "audio"), ()])
def test_any_modality_may_be_missing(
    run: Run, media: Callable[..., Path], tmp_path: Path, parts: tuple[str, ...]
) -> None:
    files = {
        "image": media(tmp_path / "i.png", sound=False, frames=1),
        "video": media(tmp_path / "v.mp4", sound=False),
        "audio": media(tmp_path / "a.wav", picture=False),
    }
    flags = [argument for part in parts for argument in (f"--{part}", files[part])]
    code, out, _ = run("ask", "what plays", *flags, "--json")
    assert code == 0
    assert json.loads(out)["answer"] == (" ".join(parts) or "text")
    code, out, _ = run(
        "ask", *(files[part] for part in parts), "what plays", "--context", "a violin", "--json"
    )
    assert json.loads(out)["answer"] == (" ".join(parts) or "text")


def test_bench_asks_at_every_token_length_and_writes_what_it_cost(
    run: Run, clip_file: Path, tmp_path: Path, edge: tuple[Describing, str], bundle: Bundle
) -> None:
    out_file = tmp_path / "results" / "device.json"
    code, out, _ = run("bench", clip_file, "what plays", "--repeats", "2", "--out", out_file)
    assert code == 0
    assert "Peak resident memory" in out
    report = json.loads(out_file.read_text())
    lengths = bundle.manifest.token_lengths
    assert edge[0].asked == 1 + 2 * len(lengths)  # one before, which opens the graphs
    assert [row["token_length"] for row in report["rows"]] == lengths
    assert [row["channel_uses"] for row in report["rows"]] == [2 * 4 * length for length in lengths]
    assert report["modalities"] == ["video", "audio"]
    assert report["graph_bytes"] == {
        graph: (bundle.folder / graph).stat().st_size for graph in bundle.manifest.graphs
    }
    assert report["peak_resident_bytes"] >= psutil.Process().memory_info().rss / 2
    for row in report["rows"]:
        for figure in ("encode_s", "round_trip_s"):
            assert 0 < row[figure]["lower"] <= row[figure]["median"] <= row[figure]["upper"]
    sizes = [row["bytes_on_wire"] for row in report["rows"]]
    assert sizes == sorted(set(sizes))


def test_each_error_has_its_exit_code_one_message_and_no_traceback(
    run: Run, clip_file: Path, tmp_path: Path, edge: tuple[Describing, str]
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    for arguments, expected, message in (
        (("ask", clip_file), 2, "the last argument is the question"),
        (("ask", ""), 2, "question: is empty"),
        (("ask",), 2, "question: is missing"),
        (("ask", "clips/typo.mp4"), 2, "looks like a file"),
        (("ask", clip_file, "typo.WAV"), 2, "looks like a file"),
        (("ask", "/no/such/clip"), 2, "looks like a file"),
        (("ask", "what", "--snr-db", "-40"), 2, "greater than or equal to -30"),
        (("ask", "what", "--snr-db", "nan"), 2, "finite"),
        (("ask", "what", "--server", "http://localhost:50051"), 2, "is a URL"),
        (("ask", "what", "--server", "localhost:http"), 2, "names no port"),
        (("ask", "what", "--snr-db", "1000"), 2, "--snr-db"),
        (("ask", "what", "--trace", tmp_path / "none.csv"), 2, "none.csv"),
        (("ask", clip_file, "what", "--token-length", "3"), 2, "token_length is 3"),
        (("ask", broken, "what"), 3, "broken.wav"),
        (("ask", tmp_path / "none.mp4", "what"), 3, "does not exist"),
        (("ask", clip_file, clip_file, "what"), 3, "more than one picture"),
        (("ask", "what", "--bundle", tmp_path), 4, "device-agent pull"),
        (("ask", "what", "--server", "127.0.0.1:1", "--retries", "0"), 6, "127.0.0.1:1"),
        (("watch", clip_file, "what"), 2, "no folder"),
        (("bench", clip_file, "what", "--server", "127.0.0.1:1", "--retries", "0"), 6, "127.0.0.1:1"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (expected, ""), arguments
        assert err.startswith("device-agent: ")
        assert message in err
        assert "Traceback" not in err
    edge[0].silent = True
    assert run("ask", "what", "--deadline-s", "0.3")[0] == 7


def test_a_proxy_in_the_environment_does_not_stand_before_this_machine(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "no_grpc_proxy", "grpc_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert run("ask", "what")[0] == 0
    code, out, _ = run("doctor", "--json")
    found = {finding["name"]: finding for finding in json.loads(out)}
    assert (code, found["proxy"]["state"], found["server"]["state"]) == (0, "ok", "ok")
    assert "not used" in found["proxy"]["found"]
    assert run("ask", "what", "--use-proxy", "--retries", "0")[0] == 6
    code, out, _ = run("doctor", "--use-proxy", "--json")
    found = {finding["name"]: finding for finding in json.loads(out)}
    assert (code, found["proxy"]["state"]) == (1, "failure")
    assert "http_proxy=http://127.0.0.1:1" in found["proxy"]["found"]
    assert "--no-use-proxy" in found["proxy"]["advice"]


def test_whatever_is_no_file_is_a_question(run: Run, clip_file: Path) -> None:
    for arguments in (
        ("x" * 300,),
        (" ".join(["what"] * 400),),
        ("Is it on the left/right?",),
        ("left/right?",),
        ("--", "-what plays"),
        ("--question", "clips/typo.mp4"),
        ("--question", "what", clip_file),
        (clip_file, "What plays in a.mp4?"),
    ):
        code, _, err = run("ask", *arguments)
        assert (code, err) == (0, ""), arguments


def test_errors_are_json_where_answers_are(run: Run, tmp_path: Path) -> None:
    for arguments, kind, code in (
        (("ask", "what", "--server", "127.0.0.1:1", "--retries", "0"), "ServerUnreachableError", 6),
        (("ask", tmp_path / "none.mp4", "what"), "MediaError", 3),
        (("ask", "what", "--snr-db", "many"), "UsageError", 2),
        (("ask", "what", "--no-such-flag"), "UsageError", 2),
        (("outbox", "drop"), "ConfigurationError", 2),
    ):
        found, out, err = run(*arguments, "--json")
        told = json.loads(out)
        assert (found, err) == (code, ""), arguments
        assert (told["kind"], told["exit_code"]) == (kind, code)
        assert told["error"]


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_has_an_exit_code_of_its_own(run: Run, monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("device_agent.cli.main.load_bundle", interrupted)
    code, out, err = run("ask", "what", *(["--json"] if as_json else []))
    assert (code, err) == (130, "")
    assert (json.loads(out)["kind"] == "Interrupted") if as_json else out == ""


def test_the_default_port_is_the_servers(run: Run, edge: tuple[Describing, str], monkeypatch: Any) -> None:
    port = edge[1].rpartition(":")[2]
    monkeypatch.setattr("device_agent.config.with_port", lambda server: with_port(server, int(port)))
    assert run("ask", "what", "--server", "localhost")[0] == 0


@pytest.mark.parametrize("command", [(), ("ask",), ("watch",), ("outbox",), ("outbox", "drop"), ("doctor",)])
def test_help_has_a_short_flag_and_keeps_units_in_brackets(run: Run, command: tuple[str, ...]) -> None:
    code, out, _ = run(*command, "-h")
    assert code == 0
    assert "Usage" in out
    assert out == run(*command, "--help")[1]
    if command == ("outbox", "drop"):
        assert "[REQUEST_ID]" in out


def test_ctrl_c_while_it_is_still_loaded_is_no_traceback(tmp_path: Path) -> None:
    slow = tmp_path / "onnxruntime_slow.py"
    slow.write_text("")
    program = (
        "import sys, builtins\n"
        "real = builtins.__import__\n"
        "def importing(name, *more, **options):\n"
        "    if name == 'device_agent.cli.main':\n"
        "        raise KeyboardInterrupt\n"
        "    return real(name, *more, **options)\n"
        "from device_agent.cli.start import main\n"
        "builtins.__import__ = importing\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("module", ["device_agent.cli.main", "edge_server.cli"])
def test_a_full_disk_behind_standard_output_is_one_line(module: str) -> None:
    program = f"import sys; sys.argv[1:] = ['--version']; from {module} import main; main()"
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr.endswith(": standard output cannot be written: No space left on device\n")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("module", ["device_agent.cli.main", "edge_server.cli"])
@pytest.mark.parametrize("flag", ["--version", "--help"])
@pytest.mark.parametrize("unbuffered", [False, True])
def test_who_reads_only_the_first_line_sees_no_traceback(module: str, flag: str, unbuffered: bool) -> None:
    program = f"import sys; sys.argv[1:] = [{flag!r}]; from {module} import main; main()"
    gone, standard_output = os.pipe()
    os.close(gone)
    try:
        ended = subprocess.run(
            [sys.executable, *(["-u"] if unbuffered else []), "-c", program],
            stdout=standard_output,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(standard_output)
    assert ended.stderr == ""
    assert ended.returncode in (0, 1)


def test_a_list_of_what_waits_fits_80_columns_and_its_ids_can_be_dropped(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    place = ("--outbox", tmp_path / "waiting.db")
    for _ in range(2):
        run("ask", "--spool", "what plays", "--server", "127.0.0.1:1", "--deadline-s", "0.2", *place)
    (first, second) = [entry["request_id"] for entry in outbox(run, *place)["questions"]]
    listed = run("outbox", "list", *place)[1]
    assert max(map(len, listed.splitlines())) <= 80
    for request_id in (first, second):
        assert request_id[:8] in listed
    assert run("outbox", "drop", first[:8], *place)[1] == "1 dropped\n"
    assert [entry["state"] for entry in outbox(run, *place)["questions"]] == ["ended", "waiting"]
    code, _, err = run("outbox", "drop", "", *place)
    assert code == 2
    assert "write more" in err


def test_a_typo_on_the_command_line_is_a_usage_error(run: Run) -> None:
    code, _, err = run("ask", "what", "--channel", "wifi")
    assert code == 2
    assert "wifi" in err


def test_the_version_is_printed(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("device-agent ")


def another(bundle: Bundle, **fields: str) -> Bundle:
    """Make the installed bundle another one than the server's."""
    manifest = json.loads((bundle.folder / MANIFEST).read_text())
    return write_manifest(bundle.folder, manifest | {"name": "older"} | fields)


def test_a_bundle_that_does_not_match_is_named_and_pull_mends_it(run: Run, bundle: Bundle) -> None:
    another(bundle)
    code, _, err = run("ask", "what")
    assert code == 4
    assert bundle.hash in err
    assert "device-agent pull" in err
    code, out, _ = run("pull")
    assert code == 0
    assert bundle.hash[:12] in out
    assert load_bundle(bundle.folder).hash == bundle.hash
    assert run("ask", "what")[0] == 0


def test_pull_keeps_the_old_bundle_when_the_new_one_is_not_sound(
    run: Run, bundle: Bundle, edge: tuple[Describing, str]
) -> None:
    edge[0].archive = edge[0].archive[:-20_000] + bytes(20_000)
    code, _, err = run("pull")
    assert code == 4
    assert "device-agent: " in err
    assert load_bundle(bundle.folder).hash == bundle.hash
    assert run("pull", "--bundle-hash", "0" * 64)[0] == 4


def test_pull_installs_where_there_was_nothing(run: Run, bundle: Bundle, tmp_path: Path) -> None:
    code, out, _ = run("pull", "--bundle", tmp_path / "new" / "place", "--json")
    assert code == 0
    assert json.loads(out)["bundle_hash"] == bundle.hash
    assert load_bundle(tmp_path / "new" / "place").hash == bundle.hash


def test_pull_asks_for_a_precision_and_takes_no_other(
    run: Run, bundle: Bundle, edge: tuple[Describing, str], tmp_path: Path
) -> None:
    place = tmp_path / "small"
    # A server that knows of one bundle only gives that one.
    code, _, err = run("pull", "--bundle", place, "--precision", "int8")
    assert code == 4
    assert "fp32, not int8" in err
    assert not place.exists()
    assert edge[0].wanted[-1].precision == "int8"

    manifest = json.loads((bundle.folder / MANIFEST).read_text())
    small = another(bundle, precision="int8", quantised_from=manifest["bundle_hash"])
    edge[0].archive = pack_bytes(small.folder)
    code, out, _ = run("pull", "--bundle", place, "--precision", "int8", "--json")
    assert code == 0
    assert json.loads(out)["bundle_hash"] == small.hash
    assert load_bundle(place).manifest.precision == "int8"
    assert run("pull", "--bundle", place, "--precision", "int2")[0] == 2


def findings(out: str) -> dict[str, tuple[str, str]]:
    return {item["name"]: (item["state"], item["advice"]) for item in json.loads(out)}


def test_the_doctor_finds_a_healthy_device_healthy(run: Run) -> None:
    code, out, _ = run("doctor", "--json")
    found = findings(out)
    assert code == 0
    assert {name for name, (state, _) in found.items() if state == "ok"} == {
        *("versions", "bundle", "ONNX provider", "transmitters", "decoding", "disk", "outbox"),
        *("server", "bundle match", "clock", "SNR"),
    }
    assert found["server version"][0] == "warning"  # the server here says "0"
    code, out, _ = run("doctor")
    assert code == 0
    assert "✓" in out


def test_the_doctor_says_what_to_do_about_what_it_finds(
    run: Run, bundle: Bundle, tmp_path: Path, edge: tuple[Describing, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/bin/false")
        code, out, _ = run("doctor", "--json")
        assert code == 1
        assert "--media-max-memory-bytes" in findings(out)["decoding"][1]

    code, out, _ = run("doctor", "--json", "--server", "127.0.0.1:1")
    assert code == 1
    assert "--server" in findings(out)["port"][1]

    code, out, _ = run("doctor", "--json", "--bundle", tmp_path / "none")
    assert code == 1
    assert "device-agent pull" in findings(out)["bundle"][1]
    assert findings(out)["server"][0] == "ok"

    code, out, _ = run("doctor", "--json", "--trace", tmp_path / "none.csv")
    assert code == 1
    assert findings(out)["trace"][0] == "failure"

    edge[0].clock_ahead_s = 3600.0
    code, out, _ = run("doctor", "--json")
    assert code == 1
    assert "clock" in findings(out)["clock"][1]

    another(bundle)
    code, out, _ = run("doctor")
    assert code == 1
    assert "device-agent pull" in out
    assert "✗" in out


@pytest.mark.parametrize(
    ("server_s", "state", "words"),
    [
        (100.2, "ok", "within 0.5 s"),
        (98.0, "warning", "2.0 s ahead of"),
        (103.5, "warning", "3.0 s behind"),
        (500.5, "failure", "400.0 s behind"),
    ],
)
def test_the_clock_is_judged_beyond_what_the_round_trip_explains(
    server_s: float, state: str, words: str
) -> None:
    finding = clock_finding(server_s, 100.0, 100.5)
    assert finding.state == state
    assert words in finding.found
    assert bool(finding.advice) == (state != "ok")


def test_watch_answers_each_file_once_and_stops_cleanly(
    bundle: Bundle, edge: tuple[Describing, str], media: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    media(folder / "one.mp4", frames=8)
    (folder / "notes.txt").write_text("not media")
    (folder / "two.wav").write_bytes(b"RIFF nonsense")
    command = [sys.executable, "-m", "device_agent.cli.main", "watch", str(folder), "what plays"]
    command += ["--server", edge[1], "--bundle", str(bundle.folder), "--poll-s", "0.1", "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def watch(files: int) -> tuple[list[dict[str, Any]], str, int]:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            lines = [json.loads(process.stdout.readline()) for _ in range(files)]
            resident = psutil.Process(process.pid).memory_info().rss
            process.send_signal(signal.SIGTERM)
            rest, errors = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, errors
            assert errors == ""
            return lines, rest, resident

    lines, rest, resident = watch(2)
    by_name = {Path(line["file"]).name: line for line in lines}
    assert by_name["one.mp4"]["answer"] == "video audio"
    assert "two.wav" in by_name["two.wav"]["error"]
    assert rest == ""
    assert resident < 250 * 2**20

    media(folder / "three.png", frames=1, sound=False)
    lines, rest, _ = watch(1)  # what was answered before is not answered again
    assert [Path(line["file"]).name for line in lines] == ["three.png"]
    assert lines[0]["answer"] == "image"
    assert rest == ""


def test_watch_asks_about_every_window_of_a_file_and_says_which(
    bundle: Bundle, edge: tuple[Describing, str], media: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    media(folder / "long.mp4", frames=72, frame_rate_hz=8)
    command = [sys.executable, "-m", "device_agent.cli.main", "watch", str(folder), "what plays"]
    command += ["--server", edge[1], "--bundle", str(bundle.folder), "--poll-s", "0.1"]

    def watch(lines: int, *flags: str) -> list[str]:
        outbox = ("--outbox", str(tmp_path / f"{flags[0].strip('-')}.db"))
        with subprocess.Popen(
            [*command, *outbox, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            found = [process.stdout.readline() for _ in range(lines)]
            process.send_signal(signal.SIGTERM)
            rest, errors = process.communicate(timeout=PATIENCE_S)
            assert (process.returncode, rest, errors) == (0, "", "")
            return found

    records = [json.loads(line) for line in watch(3, "--every", "--json")]
    assert [record["window"]["start_s"] for record in records] == [0, 4, 8]
    assert records[1]["window"]["end_s"] == 8
    assert {Path(record["file"]).name for record in records} == {"long.mp4"}
    (line,) = watch(1, "--window", "2..5")
    assert line.startswith("long.mp4: video audio (about 2 to 5 s of 9")


def test_no_decoder_is_in_the_memory_of_the_agent(bundle: Bundle, clip_file: Path) -> None:
    look = (
        "import sys; from pathlib import Path\n"
        "from device_agent.cli import main\n"
        "from device_agent.media.sandbox import MediaPool\n"
        "with MediaPool(1) as files:\n"
        f"    print(files.clip_from_file(Path({str(clip_file)!r})).modalities, 'av' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "('video', 'audio') False"


def outbox(run: Run, *more: str | Path) -> dict[str, Any]:
    code, out, _ = run("outbox", "list", "--json", *more)
    assert code == 0
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_question_without_an_answer_waits_in_the_outbox(
    run: Run, clip_file: Path, edge: tuple[Describing, str]
) -> None:
    offline = ("--server", "127.0.0.1:1", "--deadline-s", "0.5")
    code, out, err = run("ask", "--spool", clip_file, "what plays", *offline)
    assert (code, out) == (7, "")
    assert "device-agent outbox flush" in err
    assert run("ask", "--spool", "how many", *offline)[0] == 7
    found = outbox(run)
    assert found["counts"] == {"waiting": 2}
    assert [question["label"] for question in found["questions"]] == ["what plays", "how many"]
    assert "what plays" in run("outbox", "list")[1]
    code, _, err = run("outbox", "flush", "--server", "127.0.0.1:1", "--timeout-s", "0.3")
    assert code == 7
    assert "2 questions still wait" in err

    code, out, _ = run("outbox", "flush", "--json")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["label"], line["answer"]) for line in lines] == [
        ("what plays", "video audio"),
        ("how many", "text"),
    ]
    assert lines[0]["cost"]["channel_uses"] > 0
    assert outbox(run)["questions"] == []
    assert [question["state"] for question in outbox(run, "--all")["questions"]] == ["delivered"] * 2
    assert run("outbox", "flush")[1] == ""
    assert edge[0].asked == 2


def test_a_question_through_the_outbox_is_answered_like_any_other(run: Run, clip_file: Path) -> None:
    code, out, _ = run("ask", "--spool", clip_file, "what plays")
    assert code == 0
    assert out.startswith("video audio\n")
    assert "channel uses" in out
    code, spooled, _ = run("ask", "--spool", clip_file, "what plays", "--json")
    direct = json.loads(run("ask", clip_file, "what plays", "--json")[1])
    assert json.loads(spooled).keys() == direct.keys()
    assert json.loads(spooled)["cost"]["channel_uses"] == direct["cost"]["channel_uses"]


def test_what_waits_can_be_dropped_and_that_is_reported(run: Run, tmp_path: Path) -> None:
    place = ("--outbox", tmp_path / "elsewhere.db")
    for _ in range(3):
        run("ask", "--spool", "what", "--server", "127.0.0.1:1", "--deadline-s", "0.2", *place)
    first = outbox(run, *place)["questions"][0]["request_id"]
    assert run("outbox", "drop", *place)[0] == 2
    assert json.loads(run("outbox", "drop", first, "--json", *place)[1]) == {"dropped": 1}
    assert run("outbox", "drop", "--all", *place)[1] == "2 dropped\n"
    assert outbox(run, *place)["counts"] == {"waiting": 0, "removed": 3}
    code, out, err = run("outbox", "flush", *place)
    assert (code, out) == (0, "")
    assert err.count("removed") >= 3
    (tmp_path / "broken.db").write_bytes(b"no database " * 1000)
    assert run("outbox", "list", "--outbox", tmp_path / "broken.db")[0] == 0
    assert (tmp_path / "broken.db.damaged-1").exists()
    code, _, err = run("outbox", "list", "--outbox", tmp_path)
    assert code == 11
    assert str(tmp_path) in err


def test_watch_answers_a_file_whose_name_is_no_unicode_and_the_next(
    bundle: Bundle, edge: tuple[Describing, str], media: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    picture = media(tmp_path / "picture.png", frames=1, sound=False)

    def appears(name: bytes, changed_s: int) -> None:
        file = Path(os.fsdecode(os.path.join(os.fsencode(folder), name)))
        file.write_bytes(picture.read_bytes())
        os.utime(file, (changed_s, changed_s))

    for number, name in enumerate((b"caf\xe9.png", b"bell\x07.png", b"later.png")):
        appears(name, number)
    command = [sys.executable, "-m", "device_agent.cli.main", "watch", str(folder), "what plays"]
    command += ["--server", edge[1], "--bundle", str(bundle.folder), "--poll-s", "0.1"]
    for expected in (
        ["caf\\xe9.png: image\n", "bell\\x07.png: image\n", "later.png: image\n"],
        ["again.png: image\n"],
    ):
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"LC_ALL": "C"},
        ) as process:
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in expected] == expected
            process.send_signal(signal.SIGTERM)
            rest, errors = process.communicate(timeout=PATIENCE_S)
            assert (process.returncode, rest, errors) == (0, "", "")
        appears(b"again.png", 10)


def test_watch_keeps_its_files_through_kills_and_an_absent_server(
    bundle: Bundle, edge: tuple[Describing, str], media: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    names = [media(folder / f"{number}.png", frames=1, sound=False).name for number in range(4)]
    state = tmp_path / "memory" / "answered.jsonl"
    state.parent.mkdir()
    stamp = (folder / names[3]).stat()
    state.write_text(
        json.dumps({"file": names[3], "size": stamp.st_size, "changed_ns": stamp.st_mtime_ns}) + "\n"
    )

    def watch(server: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "device_agent.cli.main", "watch", str(folder), "what plays"]
        command += ["--server", server, "--bundle", str(bundle.folder), "--poll-s", "0.1", "--json"]
        return subprocess.Popen(
            [*command, "--state", str(state)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def waiting() -> int:
        path = state.with_name("outbox.db")
        if not path.exists():
            return 0
        spool = Spool(path)
        try:
            return spool.counts()["waiting"]
        finally:
            spool.close()

    with watch("127.0.0.1:1") as process:
        until_true(lambda: waiting() == 3)
        process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == ""
    for expected in (3, 0):
        with watch(edge[1]) as process:
            assert process.stdout is not None
            lines = [json.loads(process.stdout.readline()) for _ in range(expected)]
            assert [Path(line["file"]).name for line in lines] == names[:expected]
            assert all(line["answer"] == "image" for line in lines)
            # One more file: had anything else been asked about again, it would come before that.
            media(folder / f"late-{expected}.png", frames=1, sound=False)
            assert Path(json.loads(process.stdout.readline())["file"]).name == f"late-{expected}.png"
            until_true(lambda: len(set(edge[0].acknowledged)) == edge[0].asked)
            process.kill()
            assert process.stdout.read() == ""
    assert edge[0].asked == 5
