"""What a served model's tokens are like: found in its folder, for its bundle alone."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from edge_server.model.token_prior import FILE
from edge_server.runtime.model_info import bundle_hash_of
from edge_server.runtime.refinement import read_refinement

SHIPPED = Path("deploy/models/soundstage-small")


def test_the_shipped_model_knows_its_own_tokens(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    refine = read_refinement(SHIPPED, bundle_hash_of(SHIPPED))
    assert refine is not None
    x_TC = np.random.default_rng(1).normal(0.0, 0.5**0.5, (16, 32)).astype(np.float32)
    refined, snr_db = refine("video", x_TC, 0.0, 4)
    assert refined.shape == x_TC.shape
    assert np.isfinite(refined).all()
    assert np.isfinite(snr_db)
    # Of what nothing is known, nothing is changed: another length, a question on the air.
    assert refine("video", x_TC[:3], 0.0, 4)[0].shape == (3, 32)
    assert refine("text", x_TC, 0.0, 4) == (pytest.approx(x_TC), 0.0)
    with caplog.at_level(logging.WARNING):
        assert read_refinement(SHIPPED, "ab" * 32) is None
    assert FILE in caplog.text
    assert read_refinement(tmp_path, "ab" * 32) is None
