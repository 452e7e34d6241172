"""Media in a body goes into a file as it comes, and nothing else does, wherever the pieces are cut."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from edge_server.errors import AdmissionRefusedError, InvalidQuestionError
from edge_server.frontdoor.http.spool import LONG_CHARS, SPOOLED, BodySpool, with_files
from edge_server.frontdoor.ports import RawMedia

DATA = np.random.default_rng(3).bytes(3 * LONG_CHARS)
TEXT = base64.b64encode(DATA).decode()


def spooled(body: str, cut: int = 4096) -> BodySpool:
    spool = BodySpool(None)
    raw = body.encode()
    for begin in range(0, len(raw), cut):
        spool.feed(raw[begin : begin + cut])
        if spool.to_write:
            spool.flush()
    return spool


@pytest.mark.parametrize("cut", [999, 4096, 65_537, 10_000_000])
@pytest.mark.parametrize("escaped", [False, True])
def test_media_lies_in_a_file_and_the_rest_is_as_it_was(cut: int, escaped: bool) -> None:
    body = json.dumps(
        {"question": 'a "quoted\\" one', "media": [{"data": TEXT, "type": "video"}, {"data": "QUJD"}]}
    )
    if escaped:
        body = body.replace("/", "\\/")
    spool = spooled(body, cut)
    found = json.loads(bytes(spool.text))
    (name,) = spool.files
    assert found["media"][0]["data"] == name
    assert found["question"] == 'a "quoted\\" one'
    assert found["media"][1] == {"data": "QUJD"}
    file = spool.files[name]
    assert (file.size, file.fault) == (len(DATA), "")
    file.seek(0)
    assert file.read() == DATA
    file.seek(-5, 2)
    assert file.read(100) == DATA[-5:]
    assert len(spool.text) < 1000
    assert spool.spooled_bytes == len(DATA)


@pytest.mark.parametrize("left_out", [0, 1, 2])
@pytest.mark.parametrize("cut", [999, 4096, 65_537, 10_000_000])
def test_lines_and_padding_left_out_change_nothing(left_out: int, cut: int) -> None:
    data = DATA[: len(DATA) - left_out]
    lines = base64.encodebytes(data).decode().rstrip("\n=")
    spool = spooled(json.dumps({"data": lines.replace("\n", "\r\n")}), cut)
    (file,) = spool.files.values()
    assert (file.fault, file.size, spool.spooled_bytes) == ("", len(data), len(data))
    assert file.read() == data
    assert len(spool.text) < 1000


def test_a_data_url_keeps_its_head() -> None:
    spool = spooled(json.dumps({"video_url": {"url": f"data:video/mp4;codecs=avc1;base64,{TEXT}"}}))
    head, _, name = json.loads(bytes(spool.text))["video_url"]["url"].rpartition(",")
    assert head == "data:video/mp4;codecs=avc1;base64"
    assert spool.files[name].size == len(DATA)


@pytest.mark.parametrize(
    "values",
    [
        {"question": TEXT},
        {"data": "a question that goes on and on " * LONG_CHARS},
        {"data": ["data", TEXT]},
        {"url": "https://example/" + TEXT},
        {"data": TEXT[: LONG_CHARS - 8]},
    ],
)
def test_what_is_no_media_stays_where_it_is(values: dict[str, object]) -> None:
    body = json.dumps(values)
    spool = spooled(body)
    assert spool.files == {}
    assert json.loads(bytes(spool.text)) == values


@pytest.mark.parametrize(
    "fault", [TEXT[:-3], TEXT[: 2 * LONG_CHARS] + "!" + TEXT[2 * LONG_CHARS :], TEXT[:-4] + "QQ==" + TEXT]
)
def test_what_turns_out_to_be_no_base64_is_told_by_its_field(fault: str) -> None:
    spool = spooled(json.dumps({"data": fault}))
    (name,) = spool.files
    with pytest.raises(InvalidQuestionError, match=r"media\[0\]\.data: is not base64"):
        with_files({SPOOLED: spool.files}, [RawMedia("video", name, "media[0].data")])


def test_nobody_can_name_a_file_of_another_request() -> None:
    (name,) = spooled(json.dumps({"data": TEXT})).files
    (other,) = spooled(json.dumps({"data": TEXT})).files
    assert name != other
    part = RawMedia("video", name, "media[0].data")
    assert with_files({SPOOLED: {}}, [part]) == (part,)
    assert with_files({}, [part]) == (part,)


def test_files_have_no_name_and_go_with_who_reads_them(tmp_path: Path) -> None:
    spool = BodySpool(tmp_path)
    spool.feed(json.dumps({"data": TEXT}).encode())
    assert list(tmp_path.iterdir()) == []
    (file,) = spool.files.values()
    assert file.size == len(DATA)


def test_no_room_is_told_as_such(tmp_path: Path) -> None:
    spool = BodySpool(tmp_path / "missing")
    with pytest.raises(AdmissionRefusedError, match="no room"):
        spool.feed(json.dumps({"data": TEXT}).encode())
