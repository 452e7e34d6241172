"""Where rows come from: programs that state what was promised, and what nothing measures yet."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_server.study.figures.must_show import RATIO as STUDY_RATIO
from tests.benchmarks import peers
from tests.benchmarks.channel import MOST_STANDARD_ERRORS
from tests.benchmarks.promises.row import RATIO, Promise, is_defined
from tests.benchmarks.serving.__main__ import rows as serving_rows
from tests.benchmarks.serving.row import Claim

ASKED = Path(__file__).parent / "asked"

MOST_LOST_BY_WORDING = 0.03
LEAST_OPEN_SMALL = 0.85
LEAST_ABSTAINED = 0.9
MOST_IN_DOMAIN_LOST = 0.03
MOST_CALIBRATION_ERROR = 0.03

Results = Mapping[str, Any]
"""JSON files of docs/results by name, without their ending."""


@dataclass(frozen=True)
class Source:
    """A result, the command that writes it, and the code that it measures.

    Attributes:
        file: its name, without its ending.
        command: that writes it.
        measures: files and folders whose change makes it old.
        rows: the promises in it.
    """

    file: str
    command: str
    measures: tuple[str, ...]
    rows: Callable[[Any], Iterator[Promise]]

    def read(self, results: Results) -> Iterator[Promise]:
        """Its rows; none where it was not measured."""
        if self.file in results:
            for row in self.rows(results[self.file]):
                yield replace(row, command=self.command, files=row.files or (self.file,))


def _study(report: Any) -> Iterator[Promise]:
    """What the study promised, each part of a row by itself, and that none of it rests on half a ratio."""
    halves = 0
    for row in report["rows"]:
        title, _, names = row["row"].rpartition(": ")
        parts = row.get("parts")
        for name, part in zip(names.split("; "), parts, strict=True) if parts else [("", row)]:
            ratio = part.get("unit") == STUDY_RATIO
            halves += ratio and part["met"] is not None and not is_defined(part.get("sides"))
            yield Promise(
                "device" if row["row"].startswith("int8") else "claims",
                f"{title}: {name}" if name else row["row"],
                part.get("asked", ""),
                part.get("measured"),
                part["met"],
                files=tuple(row.get("from", ())),
                sides=part.get("sides"),
                unit=RATIO if ratio else part.get("unit", ""),
                why=row.get("unsettled") or row.get("missing"),
            )
    what = "Rows of the study that were judged by a ratio without two sides"
    yield Promise("claims", what, "at most 0", halves, halves == 0)


def _serving(report: Any) -> Iterator[Promise]:
    for name, row in serving_rows().items():
        if name in report["rows"]:
            for claim in row.claims(report["rows"][name]["found"]):
                yield replace(_of_claim(claim), what=f"{row.title}: {claim.text}")


def _of_claim(claim: Claim) -> Promise:
    unit = f" {claim.unit}" if claim.unit else ""
    asked = f"{claim.sense} {claim.limit:g}{unit}"
    kind = RATIO if claim.sides else claim.unit
    return Promise("serving", claim.text, asked, claim.measured, claim.met, sides=claim.sides, unit=kind)


def _peers(report: Any) -> Iterator[Promise]:
    """A row for each workload."""
    phases = {"Throughput": ("closed", "answered_hz", "[/s]"), "p99": ("open", "p99_s", "[s]")}
    for row in peers.rows(report):
        ours_phase, figure, unit = phases[row["row"].split()[0]]
        theirs_phase = "library" if "Hugging Face" in row["row"] else ours_phase
        if row["met"] is None:
            yield Promise("serving", row["row"], row["asked"], why=row["missing"])
            continue
        limit = float(row["asked"].split()[-1])
        for workload, ratio in row["measured"].items():
            best = row["best"][workload]
            sides = {
                f"{who} {unit}": report[phase][workload][who][figure]["median"]
                for phase, who in ((ours_phase, "ours"), (theirs_phase, best))
            }
            met = ratio < limit if row["asked"].startswith("below") else ratio >= limit
            what = f"{row['row']}: {report['workloads'][workload]}"
            yield Promise("serving", what, row["asked"], ratio, met, sides=sides, unit=RATIO)


def _forward(report: Any) -> Iterator[Promise]:
    least, prefill = report["asked"]["mixed_prefill_ratio"], report["batches"]["mixed"]["prefill"]
    ratio = prefill["ratio"]["median"]
    where = "" if report["machine"]["device"] == "cpu" else ", on a GPU"
    yield Promise(
        "serving",
        f"Prefill of {report['prompts']} mixed-length prompts, Hugging Face with padding over ours{where}",
        f"at least {least:g}",
        ratio,
        ratio >= least,
        sides={
            "Hugging Face [s]": prefill["hugging_face_s"]["median"],
            "ours [s]": prefill["served_s"]["median"],
        },
        unit=RATIO,
    )


def _chaos(report: Any) -> Iterator[Promise]:
    for name, row in report["rows"].items():
        for check in row["checks"]:
            sides, unit = _chaos_sides(name, check["what"], row["facts"])
            what = f"{row['name'][0].upper()}{row['name'][1:]}: {check['what']}"
            asked = _chaos_asked(check)
            commit = row.get("commit")
            yield Promise(
                "chaos", what, asked, check["found"], check["kept"], commit=commit, sides=sides, unit=unit
            )


def _chaos_asked(check: Mapping[str, Any]) -> str:
    """A check has a limit and a verdict; on which side it had to be, both tell, but where they are equal."""
    if check["found"] == check["limit"]:
        return f"{check['limit']:g}"
    sense = "at most" if (check["found"] < check["limit"]) == check["kept"] else "at least"
    return f"{sense} {check['limit']:g}"


def _chaos_sides(name: str, what: str, facts: Mapping[str, Any]) -> tuple[Mapping[str, float] | None, str]:
    if name == "trickle" and "times as slow" in what:
        return {"beside [ms]": facts["p99_beside_ms"], "alone [ms]": facts["p99_alone_ms"]}, RATIO
    if name == "mtls" and " over " in what:
        hz = facts["answered_hz"]
        return {f"{how} [/s]": sorted(hz[how])[len(hz[how]) // 2] for how in ("on", "off")}, RATIO
    return None, ""


def _channel(report: Any) -> Iterator[Promise]:
    worst = max(row["standard_errors_off"] for row in report["rows"])
    what = f"{len(report['rows'])} figures of the channel against their closed forms: furthest off"
    asked = f"at most {MOST_STANDARD_ERRORS:g} standard errors"
    yield Promise("link", what, asked, worst, worst <= MOST_STANDARD_ERRORS, unit="standard errors")


def _parity(report: Any) -> Iterator[Promise]:
    worst = max(report["largest_relative_difference"].values())
    what = "ONNX graphs of the device against the model in torch: largest relative difference"
    yield Promise("link", what, f"at most {report['tolerance']:g}", worst, worst <= report["tolerance"])


def _wordings(report: Any) -> Iterator[Promise]:
    asked = report["questions"]
    unseen = [row for row in report["rows"] if row["wording"] != "plain"]
    missed = {row["wording"]: row["lost"] for row in unseen if row["lost"] > MOST_LOST_BY_WORDING}
    worst = max(row["lost"] for row in unseen)
    told = ", ".join(f"{wording} {100 * lost:.1f}" for wording, lost in missed.items())
    yield Promise(
        "faults",
        f"Rewording: {asked['demo']} demo questions and {asked['held out']} held-out ones in {len(unseen)} "
        "unseen wordings (at least 12): lost to the plain ones",
        f"at most {100 * MOST_LOST_BY_WORDING:g} points; each wording's figure",
        f"{len(unseen) - len(missed)} of {len(unseen)} wordings within it, "
        f"{100 * report['mean_lost']:.1f} points in the mean, {100 * worst:.1f} at most",
        not missed,
        why=f"these cost more: {told}" if missed else None,
    )


def _out_of_domain(report: Any) -> Iterator[Promise]:
    yield Promise(
        "faults",
        f"Out of domain, {report['asked']} questions and clips of {len(report['kinds'])} kinds (300 of six): "
        f"abstained at {100 * MOST_IN_DOMAIN_LOST:g}% of in-domain answers lost",
        f"at least {LEAST_ABSTAINED:.0%}",
        f"{report['abstained']:.1%} at {report['in_domain_lost']:.1%} lost",
        report["abstained"] >= LEAST_ABSTAINED and report["in_domain_lost"] <= MOST_IN_DOMAIN_LOST,
    )
    error = report["expected_calibration_error"]
    yield Promise(
        "faults",
        "Expected calibration error of the probability of an answer",
        f"at most {MOST_CALIBRATION_ERROR:g}",
        error,
        error <= MOST_CALIBRATION_ERROR,
    )


def _open_small_wordings(report: Any) -> Iterator[Promise]:
    plain, *unseen = report["rows"]
    accuracy = sum(row["accuracy"] for row in unseen) / len(unseen)
    met = accuracy >= LEAST_OPEN_SMALL and report["most_lost"] <= MOST_LOST_BY_WORDING
    asked = report["questions"]["held out"]
    yield Promise(
        "models",
        "open-small, Soundstage, nine types, unseen wordings",
        f"at least {LEAST_OPEN_SMALL:.0%} at 10 dB; "
        f"wording costs at most {100 * MOST_LOST_BY_WORDING:g} points",
        f"{accuracy:.1%} of {asked} questions drawn from the test split, in {len(unseen)} wordings; plain "
        f"{plain['accuracy']:.1%}; a wording costs {100 * report['mean_lost']:.1f} points in the mean, "
        f"{100 * report['most_lost']:.1f} at most",
        met,
        why=None if met else "it was trained on photos and sounds, on none of Soundstage's stages",
    )


def _open_small_doubts(report: Any) -> Iterator[Promise]:
    abstained, lost = report["abstained"], report["in_domain_lost"]
    error = report["expected_calibration_error"]
    yield Promise(
        "models",
        "open-small, abstention out of domain",
        f"at least {LEAST_ABSTAINED:.0%} at {100 * MOST_IN_DOMAIN_LOST:g}% of in-domain answers lost",
        f"{abstained:.1%} of {report['asked']} at {lost:.1%} lost; ECE {error:.3f}",
        abstained >= LEAST_ABSTAINED and lost <= MOST_IN_DOMAIN_LOST,
    )


_EVALUATION = ("edge_server/evaluation", "deploy/models/soundstage-small")
_OPEN_SMALL = ("edge_server/evaluation", "edge_server/weights", "deploy/models/open-small")
_ENGINE = ("edge_server/engine", "edge_server/cell", "edge_server/frontdoor", "edge_server/runtime")
_DEVICE = ("device_agent", "protos")
SOURCES = (
    Source(
        "must_show",
        "edge-server study full",
        ("edge_server/study", "edge_server/training", "edge_server/model", "device_agent/channel"),
        _study,
    ),
    Source("serving", "python -m tests.benchmarks.serving", (*_ENGINE, "edge_server/server"), _serving),
    Source("peers", "python -m tests.benchmarks.peers", (*_ENGINE, "edge_server/server"), _peers),
    Source("forward_pass", "python -m tests.benchmarks.forward_pass", ("edge_server/runtime",), _forward),
    Source("forward_pass_gpu", "python -m tests.benchmarks.forward_pass", ("edge_server/runtime",), _forward),
    Source("chaos", "python -m tests.chaos", (*_ENGINE, *_DEVICE, "edge_server/server"), _chaos),
    Source("wordings", "edge-server evaluate --wordings --demo deploy/demo", _EVALUATION, _wordings),
    Source("out_of_domain", "edge-server evaluate --out-of-domain", _EVALUATION, _out_of_domain),
    Source(
        "open_small_wordings",
        "edge-server evaluate open-small --wordings --questions N",
        _OPEN_SMALL,
        _open_small_wordings,
    ),
    Source(
        "open_small_out_of_domain",
        "edge-server evaluate open-small --photos DIR --calibrate; again with --out-of-domain",
        _OPEN_SMALL,
        _open_small_doubts,
    ),
    Source("channel", "python -m tests.benchmarks.channel", ("device_agent/channel",), _channel),
    Source(
        "parity",
        "edge-server export deploy/models/soundstage-small --parity docs/results/parity.json",
        ("edge_server/export", "edge_server/model"),
        _parity,
    ),
)


@dataclass(frozen=True)
class Open:
    """A promise that no program of :data:`SOURCES` states.

    Attributes:
        row: of the table, before anything was measured.
        measured_by: the row of a source that has the number, where another bound was set to it.
        at_least: that bound.
        at_most: that bound.
    """

    row: Promise
    measured_by: str | None = None
    at_least: float = -math.inf
    at_most: float = math.inf


def open_promises() -> Iterator[Open]:
    """What ``asked`` holds, area by area."""
    for path in sorted(ASKED.glob("*.toml")):
        for found in tomllib.loads(path.read_text(encoding="utf-8"))["promise"]:
            yield Open(Promise(path.stem, found.pop("what"), found.pop("asked")), **found)


def settled(results: Results) -> dict[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Rows of ``promises`` in any result, by what was promised: the file, its JSON, the row.

    Raises:
        ValueError: two files, or two rows of one, settle the same promise.
    """
    found: dict[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = {}
    for name, report in results.items():
        if isinstance(report, Mapping) and isinstance(report.get("promises"), list):
            for row in report["promises"]:
                if row["what"] in found:
                    other = found[row["what"]][0]
                    raise ValueError(f"{name}.json: {row['what']!r} is settled by {other}.json too")
                found[row["what"]] = (name, report, row)
    return found
