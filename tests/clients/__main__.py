"""Drives clients of OpenAI's API, each in an environment of its own, against a served model.

    python -m tests.clients [NAME]... [--out FILE] [--record FOLDER]           what ``make clients`` does

Every client asks the same things; right is what the server says to the same question in plain HTTP. A client
that cannot be installed here is skipped by name. Exit code: 1 where a case of a client is wrong.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from deploy.with_server import edge_server
from edge_server.model.provenance import current_commit
from tests.clients import material
from tests.clients.environments import CLIENTS, ROOT, Client, UnavailableError
from tests.clients.recorder import Recorder

MODEL = ROOT / "deploy" / "models" / "soundstage-small"
OUT = ROOT / "docs" / "results" / "clients.json"
_WITHIN_S = 300.0
_PROMISED = (
    "Clients: openai-python, LiteLLM, LangChain, AI SDK, shapes of Open WebUI; "
    "text, pictures, sound, stream, no tools, long histories"
)
#: A long chat must come to an answer, as it does at a server that is set up for chats.
_SETTINGS = {"TOKENLINK_SERVER_LEAVE_OUT_OLDEST": "true"}


def judged(found: dict[str, Any], expected: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each case of a client: ``right``, ``wrong`` or ``absent``, and why where it is not right."""
    judged: dict[str, dict[str, Any]] = {}
    for case, wanted in expected.items():
        said = found.get(case)
        if said is None:
            continue
        if "absent" in said:
            judged[case] = {"is": "absent", "why": said["absent"]}
        elif all(wanted.get(name) == value for name, value in said.items()):
            judged[case] = {"is": "right"}
        else:
            judged[case] = {"is": "wrong", "found": said, "wanted": wanted}
    return judged


def run(client: Client, given: dict[str, Any]) -> dict[str, Any]:
    """What a client's program found.

    Raises:
        UnavailableError: it cannot be installed here.
    """
    done = subprocess.run(
        client.command(), input=json.dumps(given), capture_output=True, text=True, timeout=_WITHIN_S
    )
    found: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            found |= json.loads(line)
    if done.returncode or not found:
        raise RuntimeError(f"{client.name} ended with {done.returncode}: {done.stderr[-500:]}")
    return found


def table(results: dict[str, dict[str, Any]]) -> str:
    """Cases by clients, for a terminal."""
    cases = list(dict.fromkeys(case for each in results.values() for case in each.get("cases", {})))
    lines = []
    for name, each in results.items():
        if "skipped" in each:
            lines.append(f"{name:28} skipped: {each['skipped']}")
            continue
        marks = {"right": "ok", "wrong": "WRONG", "absent": "-"}
        row = "  ".join(
            f"{case} {marks[each['cases'][case]['is']]}" for case in cases if case in each["cases"]
        )
        lines.append(f"{name:28} {row}")
    return "\n".join(lines)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="clients; none: all of them")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--record", type=Path, help="folder for what each client sent")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {client.name for client in CLIENTS}
    if unknown:
        parser.error(
            f"no such client: {', '.join(sorted(unknown))}; there are: {', '.join(c.name for c in CLIENTS)}"
        )
    made = material.material()
    results: dict[str, dict[str, Any]] = {}
    with edge_server(arguments.model.resolve(), _SETTINGS) as environment:
        server = environment["TOKENLINK_REST_URL"]
        expected = material.expected(server, arguments.model.name, made)
        stop, seed = expected["stop"].pop("stop"), expected["sampled"].pop("seed")
        for client in CLIENTS:
            if arguments.names and client.name not in arguments.names:
                continue
            print(f"{client.name} ...", file=sys.stderr, flush=True)
            with Recorder(server) as recorder:
                given = made.for_programs(recorder.url, arguments.model.name, stop, seed)
                try:
                    cases = judged(run(client, given), expected)
                    results[client.name] = {"version": client.version(), "cases": cases}
                except UnavailableError as error:
                    results[client.name] = {"skipped": str(error)}
                if arguments.record is not None and recorder.requests:
                    _record(arguments.record, client, recorder.requests)
    print(table(results))
    everybody = not arguments.names and not any("skipped" in each for each in results.values())
    told = {
        "command": "make clients",
        "commit": current_commit(),
        "measures": ["edge_server/frontdoor", "edge_server/engine", "edge_server/runtime", "tests/clients"],
        # Of a part of the clients nothing was promised.
        "promises": [_promise(results)] if everybody else [],
        "model": arguments.model.name,
        "expected": expected,
        "clients": results,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.exit(1 if _count(results, "wrong") else 0)


def _count(results: dict[str, dict[str, Any]], verdict: str) -> int:
    return sum(
        each["is"] == verdict for found in results.values() for each in found.get("cases", {}).values()
    )


def _promise(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    wrong, right = _count(results, "wrong"), _count(results, "right")
    return {
        "what": _PROMISED,
        "measured": f"{right} of {right + wrong} cases of {len(results)} clients right",
        "met": not wrong,
    }


def _record(folder: Path, client: Client, requests: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = client.name.lower().replace(",", "").replace("'s", "").replace(" ", "-")
    told = {"client": client.name, "version": client.version(), "requests": requests}
    (folder / f"{name}.json").write_text(
        json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
