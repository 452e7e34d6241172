"""Every kind of file with every feature, on five ways in, beside FFmpeg's and Pillow's views.

    python -m tests.media_matrix [--quick] [--kind TEXT [--again]] [--out FILE]

``make media-matrix`` tries all, ``--quick`` one feature of each kind; ``--again`` puts kinds that are tried
again in their place among the others. Exit code: 1 where a clip is not as others see it, or not the same on
every way.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.with_server import server_process
from device_agent.media.clip import Clip
from edge_server.model.provenance import current_commit
from tests.media_matrix import judging, ways
from tests.media_matrix.features import FEATURES, Made
from tests.media_matrix.kinds import KINDS, NOT_OPENED, Kind
from tests.media_matrix.views import view_of

MODEL = ways.ROOT / "deploy" / "models" / "soundstage-small"
OUT = ways.ROOT / "docs" / "results" / "media_matrix.json"
WAYS = ("agent", "rest", "page", "watch", "training")
PROMISED = (
    "Media matrix: at least 25 kinds of files by 12 features, through agent, REST, page, watch and the "
    "readers of training"
)
BOUNDS = {
    "pictures_off": "mean absolute difference of the worst frame, of 255: 0 where both decode to the same "
    "values; above it where a scaler widens pixels that are not square or keeps more than 8 bits, and where "
    "Pillow's JPEG, WebP and AVIF decoders fill in halved colours otherwise than FFmpeg",
    "sound_off": "root mean square, of a signal of 0.15: 0 where both resample without a break; above it "
    "where sound begins late or has a gap, and two resamplers begin anew at most half a sample apart",
    "shift_ms": "FFmpeg 5.1 takes off the lead-in of Opus in WebM by the rate that was coded, 4 ms short",
}


@dataclass
class Case:
    """One file.

    Attributes:
        kind, feature: what it is.
        made: the file.
        verdict: of what the agent got.
        got: by way, the digest of the clip; or why there was none.
    """

    kind: Kind
    feature: str
    made: Made
    verdict: judging.Verdict = field(default_factory=judging.Verdict)
    got: dict[str, str] = field(default_factory=dict)

    @property
    def wrong(self) -> str:
        """What is wrong; empty: nothing."""
        if self.kind.muxer in NOT_OPENED:
            opened = [way for way in WAYS if not self.got[way].startswith("refused")]
            return f"is opened by {opened}" if opened else ""
        if self.verdict.wrong:
            return self.verdict.wrong
        others = {way: got for way, got in self.got.items() if got != self.got["agent"]}
        return f"not as the agent has it: {others}" if others else ""


def cases(folder: Path, *, quick: bool, kind_text: str = "") -> list[Case]:
    """The files, made."""
    found: list[Case] = []
    for number, kind in enumerate(KINDS):
        if kind_text not in kind.name:
            continue
        begin = 5 * number % len(FEATURES) if quick else 0
        names = [*list(FEATURES)[begin:], *list(FEATURES)[:begin]]
        for name in names:
            # Names in the order of kinds, so that those who read a folder keep it.
            made = FEATURES[name](kind, folder / f"{len(found):04}{kind.suffix}")
            if made is not None:
                found.append(Case(kind, name, made))
                if quick:
                    break
    return found


def run(found: Sequence[Case], scratch: Path) -> None:
    """Send each file in on every way, and judge."""
    noted = {way: scratch / f"noted-{way}" for way in ("agent", "server")}
    for folder in noted.values():
        folder.mkdir()
    files = [case.made.path for case in found]
    by_path = {case.made.path: case for case in found}
    recorder = [sys.executable, "-m", "tests.media_matrix.recorder", str(noted["server"])]
    settings = {"TOKENLINK_SERVER_UI_DEMO": str(ways.ROOT / "deploy" / "demo"), "PYTHONPATH": str(ways.ROOT)}
    with server_process([*recorder, "edge-server", "serve", "--model", str(MODEL)], settings) as facts:
        seen = {
            "TOKENLINK_DEVICE_SERVER": facts["grpc"],
            "TOKENLINK_DEVICE_BUNDLE": str(MODEL / "bundle"),
            "TOKENLINK_DEVICE_TLS": "false",
            "TOKENLINK_DEVICE_OUTBOX": str(scratch / "asked.db"),
        }
        agent, rest = ways.Agent(seen, noted["agent"]), ways.Rest(facts["rest"], noted["server"])
        with ways.page_at(facts["rest"]) as page:
            upload = ways.Upload(page, noted["server"])
            for number, case in enumerate(found):
                for name, way in (("agent", agent), ("rest", rest), ("page", upload)):
                    _take(case, name, way.get(case.kind, case.made.path))
                print(f"\r{number + 1} of {len(found)} files", end="", file=sys.stderr, flush=True)
        agent.close()
        for path, got in ways.watched(seen, files, scratch):
            _take(by_path[path], "watch", got)
    for path, got in ways.read_in_training(files[0].parent, files):
        _take(by_path[path], "training", got)
    print(file=sys.stderr)


def _take(case: Case, way: str, got: ways.Got) -> None:
    if isinstance(got, str):
        case.got[way] = f"refused: {got.strip()[-200:]}"
        if way == "agent":
            case.verdict = judging.Verdict(case.got[way])
        return
    case.got[way] = judging.digest(got)
    if way == "agent" and isinstance(got, Clip) and case.kind.muxer not in NOT_OPENED:
        case.verdict = judging.judge(got, view_of(case.kind, case.made))


def cells(found: Sequence[Case]) -> dict[str, dict[str, Any]]:
    """What was found of each kind, by feature."""
    kinds: dict[str, dict[str, Any]] = {}
    for case in found:
        cell: dict[str, Any] = {"wrong": case.wrong} if case.wrong else {"right": True}
        if case.kind.muxer in NOT_OPENED:
            cell["refused"] = NOT_OPENED[case.kind.muxer]
        else:
            figures = {name: getattr(case.verdict, name) for name in BOUNDS}
            cell |= {name: value for name, value in figures.items() if value}
        kinds.setdefault(case.kind.name, {})[case.feature] = cell
    return kinds


def report(kinds: Mapping[str, Mapping[str, Any]], commits: Mapping[str, str]) -> dict[str, Any]:
    """What docs/results keeps.

    Args:
        kinds: what was found of each, by feature.
        commits: of each kind's run.
    """
    every = [(feature, cell) for kind in kinds.values() for feature, cell in kind.items()]
    right = sum("wrong" not in cell for _, cell in every)
    opened = [cell for _, cell in every if "refused" not in cell]
    exact = sum(
        not (cell.get("pictures_off") or cell.get("sound_off", 0.0) > 1e-4 or cell.get("shift_ms"))
        for cell in opened
    )
    features = Counter(feature for feature, _ in every)
    program = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout
    met = right == len(every) and len(kinds) >= 25 and len(features) >= 12
    return {
        "command": "make media-matrix",
        "commit": next(iter(commits.values())),
        "commits": dict(commits),
        "measures": ["device_agent/media", "edge_server/server/ingest.py", "edge_server/ui/clips.py"],
        "promises": [
            {
                "what": PROMISED,
                "measured": f"{right} of {len(every)} files: {len(kinds)} kinds, {len(features)} features, "
                "5 ways; "
                f"{exact} of {len(opened)} to the last bit of a picture and 1e-4 of a sample",
                "met": met,
            }
        ],
        "ways": list(WAYS),
        "against": program.splitlines()[0].split(" Copyright")[0],
        "bounds": {
            "pictures_off": judging.MAX_PICTURES_OFF,
            "sound_off": judging.MAX_SOUND_OFF,
            "shift_ms": 1000 * judging.MAX_SHIFT_S,
        },
        "why_not_exact": BOUNDS,
        "files": len(every),
        "right": right,
        "exact": exact,
        "files_of_features": dict(features),
        "kinds": kinds,
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one feature of each kind")
    parser.add_argument("--kind", default="", help="only kinds whose names hold this text")
    parser.add_argument(
        "--again", action="store_true", help="with --kind: in place of what the JSON has of these"
    )
    parser.add_argument(
        "--out", type=Path, help=f"JSON; by itself {OUT.name} of docs/results for all of them"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tokenlink-media-") as folder:
        files = Path(folder, "files")
        files.mkdir()
        found = cases(files, quick=options.quick, kind_text=options.kind)
        run(found, Path(folder))
    kinds, commit = cells(found), current_commit()
    commits = dict.fromkeys(kinds, commit)
    if options.again:
        before = json.loads((options.out or OUT).read_text(encoding="utf-8"))
        then = before.get("commits") or dict.fromkeys(before["kinds"], before["commit"])
        kinds, commits = before["kinds"] | kinds, then | commits
    told = report(kinds, commits)
    for case in found:
        if case.wrong:
            print(f"WRONG  {case.kind.name}, {case.feature}: {case.wrong}")
    print(told["promises"][0]["measured"])
    part = (options.quick or options.kind) and not options.again
    out = options.out or (None if part else OUT)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(told, indent=2, ensure_ascii=False) + os.linesep, encoding="utf-8")
    sys.exit(any(case.wrong for case in found))


if __name__ == "__main__":
    main()
