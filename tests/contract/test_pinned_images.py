"""What images and workflows are built from stands in one file, named by its digest where that is known."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINS = tomllib.loads((ROOT / "deploy" / "images.toml").read_text(encoding="utf-8"))

_IMAGE = re.compile(r"(?:^ARG PYTHON_IMAGE=|image: \$\{TOKENLINK_\w+_IMAGE:-|^FROM )([^\s$}]+)", re.MULTILINE)
_ACTION = re.compile(r"uses: (\S+)(?: +# *(\S+))?")


def images() -> Iterator[tuple[str, str]]:
    """Each base image that is named, with the file."""
    for path in (*ROOT.glob("deploy/Dockerfile*"), *ROOT.glob("deploy/compose*.yaml")):
        for named in _IMAGE.findall(path.read_text(encoding="utf-8")):
            yield str(path.relative_to(ROOT)), named


def test_images_of_ours_are_checked_by_what_is_in_them() -> None:
    """They are made of Python's slim one, which has neither curl nor wget."""
    checks = [
        check
        for path in ROOT.glob("deploy/Dockerfile*")
        for check in re.findall(r"^HEALTHCHECK (?:.*\\\n)*.*CMD (\[.*\])", path.read_text(), re.MULTILINE)
    ]
    assert {json.loads(check)[0] for check in checks} == {"python", "device-agent"}
    assert len(checks) >= 3


def actions() -> Iterator[tuple[str, str, str]]:
    """Each action that is used: file, what is used, and the tag behind it as a comment."""
    for path in ROOT.glob(".github/workflows/*.yml"):
        for used, tag in _ACTION.findall(path.read_text(encoding="utf-8")):
            yield str(path.relative_to(ROOT)), used, tag


def wrong_image(named: str, pins: dict[str, str]) -> str:
    """What is wrong with how an image is named; empty: nothing."""
    tag, _, digest = named.partition("@")
    if tag not in pins:
        return "is not in deploy/images.toml"
    return (
        ""
        if digest == pins[tag]
        else f"has to be {tag}@{pins[tag]}"
        if pins[tag]
        else "has a digest of its own"
    )


def wrong_action(used: str, tag: str, pins: dict[str, str]) -> str:
    """Likewise of an action: ``name@commit  # tag`` where the commit is known, else ``name@tag``."""
    name, _, version = used.partition("@")
    key = f"{name}@{tag or version}"
    if key not in pins:
        return "is not in deploy/images.toml"
    wanted = pins[key] or key.partition("@")[2]
    return "" if version == wanted else f"has to be {name}@{wanted}"


def test_every_image_is_in_the_file_and_as_it_says() -> None:
    found = list(images())
    assert len(found) >= 5
    assert [
        (path, named, wrong) for path, named in found if (wrong := wrong_image(named, PINS["images"]))
    ] == []
    assert {named.partition("@")[0] for _, named in found} == set(PINS["images"])  # nothing is left over


def test_every_action_is_in_the_file_and_as_it_says() -> None:
    found = list(actions())
    assert found
    assert [
        (path, used, wrong)
        for path, used, tag in found
        if (wrong := wrong_action(used, tag, PINS["actions"]))
    ] == []


@pytest.mark.parametrize(("kind", "form"), [("images", r"sha256:[0-9a-f]{64}"), ("actions", r"[0-9a-f]{40}")])
def test_what_is_known_is_a_digest(kind: str, form: str) -> None:
    assert all(re.fullmatch(form, digest) for digest in PINS[kind].values() if digest)


def test_a_tag_alone_is_not_enough_once_its_digest_is_known() -> None:
    known = "sha256:" + "0" * 64
    assert wrong_image("a:1", {"a:1": known})
    assert not wrong_image(f"a:1@{known}", {"a:1": known})
    assert wrong_image("b:1", {"a:1": known})
    assert wrong_action("a/b@v1", "", {"a/b@v1": "c" * 40})
    assert not wrong_action(f"a/b@{'c' * 40}", "v1", {"a/b@v1": "c" * 40})
