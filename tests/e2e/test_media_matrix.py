"""One feature of each kind of media file, on every way in; all of them: ``make media-matrix``.

It takes minutes: ``make test`` leaves it out.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.media_matrix.__main__ import WAYS, cases, run
from tests.media_matrix.features import FEATURES
from tests.media_matrix.kinds import KINDS
from tests.media_matrix.ways import BROWSERS


@pytest.mark.benchmark
def test_every_way_in_takes_what_others_see_and_hear(tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg program: apt-get install ffmpeg")
    if not any(shutil.which(name) for name in BROWSERS):
        pytest.skip("no Chromium: apt-get install chromium")
    files = tmp_path / "files"
    files.mkdir()
    found = cases(files, quick=True)
    assert len(found) == len(KINDS) >= 25
    assert len({case.feature for case in found}) >= 12
    run(found, tmp_path)
    assert all(set(case.got) == set(WAYS) for case in found)
    assert [(case.kind.name, case.feature, case.wrong) for case in found if case.wrong] == []
    assert set(FEATURES) > {case.feature for case in found}, "make media-matrix tries the others"
