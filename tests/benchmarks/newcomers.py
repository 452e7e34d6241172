"""What newcomers hit, case by case: the tests that keep it right, run, counted and written down.

python -m tests.benchmarks.newcomers            into docs/results/newcomers.json
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_server.model.provenance import current_commit

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "docs" / "results" / "newcomers.json"
_MEDIA = "tests/unit/device_agent/media"
CASES: Mapping[str, str] = {
    "the clock jumps while questions wait": (
        "tests/unit/device_agent/outbox/test_store.py::test_setting_the_clock_ends_no_question"
    ),
    "the API's page without internet": (
        "tests/contract/test_openai_door.py::test_the_description_for_browsers_needs_nothing_from_elsewhere"
    ),
    "what is told of a weak link with estimated gains": (
        "tests/unit/device_agent/channel/test_channel_statistics.py::"
        "test_snr_that_is_told_follows_the_link_whatever_is_known_of_its_gain"
    ),
    "a photo in tiles": f"{_MEDIA}/test_heif.py::test_tiles_are_put_together",
    "a proxy in the environment": (
        "tests/unit/device_agent/cli/test_device_cli.py::"
        "test_a_proxy_in_the_environment_does_not_stand_before_this_machine"
    ),
    "a far too long text": (
        "tests/contract/test_hostile_strangers.py::TestText::test_by_their_field_and_untouched"
    ),
    "mirrored and turned media": f"{_MEDIA}/test_orientation.py",
    "what OpenAI's clients send": "tests/contract/test_openai_door.py",
    "the same sound in two channels": (
        f"{_MEDIA}/test_timeline.py::test_the_same_sound_in_every_channel_keeps_its_loudness"
    ),
    "gaps and late beginnings": f"{_MEDIA}/test_timeline.py",
    "a file name that is no text": (
        "tests/unit/device_agent/cli/test_device_cli.py::"
        "test_watch_answers_a_file_whose_name_is_no_unicode_and_the_next"
    ),
    "a watched folder that goes away": (
        "tests/unit/device_agent/sources/test_folder.py::"
        "test_a_folder_that_goes_away_is_waited_for_and_that_is_said_once"
    ),
    "data behind the end": f"{_MEDIA}/test_lenient.py::test_sound_with_something_behind_it_is_read",
}
"""Each case, and what keeps it right."""
SURROUNDINGS = ("tests/e2e/test_wheel.py", "tests/e2e/test_odd_servers.py")
_PROMISED = "Cases of faults that newcomers hit: right, each kept as a test"
_PROMISED_SURROUNDINGS = (
    "README, command line and service walked through from an installed wheel: 80 columns, LANG=C, Latin-1, "
    "no HOME, unknown UID, read-only root, proxies, a clock of 1970"
)


def outcome(*tests: str) -> dict[str, int]:
    """How many of some tests passed, failed and were skipped."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "junit.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={told}"]
        subprocess.run([*command, *tests], cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
        suite = ElementTree.parse(told).getroot()[0].attrib
    failed = int(suite["failures"]) + int(suite["errors"])
    skipped = int(suite["skipped"])
    return {"passed": int(suite["tests"]) - failed - skipped, "failed": failed, "skipped": skipped}


def is_right(found: Mapping[str, int]) -> bool:
    """Whether all was run and passed."""
    return bool(found["passed"]) and not found["failed"] and not found["skipped"]


def measure(out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULT) -> None:
    """Run the tests of each case and of odd surroundings; write what came of them."""
    cases = {case: {"test": test, **outcome(test)} for case, test in CASES.items()}
    right = sum(is_right({k: v for k, v in each.items() if isinstance(v, int)}) for each in cases.values())
    surroundings = outcome(*SURROUNDINGS)
    told: dict[str, Any] = {
        "command": "python -m tests.benchmarks.newcomers",
        "commit": current_commit(),
        "measures": ["device_agent", "edge_server", "protos"],
        "promises": [
            {"what": _PROMISED, "measured": f"{right} of {len(cases)}", "met": right == len(cases)},
            {
                "what": _PROMISED_SURROUNDINGS,
                "measured": f"{surroundings['passed']} walks right, {surroundings['failed']} wrong, "
                f"{surroundings['skipped']} skipped; the agent from an installed wheel, the server from a "
                "checkout; README's examples have tests of their own (tests/e2e/test_readme.py)",
                "met": is_right(surroundings),
            },
        ],
        "cases": cases,
        "surroundings": surroundings,
    }
    out.write_text(json.dumps(told, indent=2) + "\n")
    typer.echo(json.dumps(told["promises"], indent=2))


if __name__ == "__main__":
    typer.run(measure)
