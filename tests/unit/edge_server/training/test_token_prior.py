"""A prior that is fitted says what the tokens were drawn from."""

from __future__ import annotations

import numpy as np

from edge_server.training.token_prior import fit


def test_clusters_and_axes_are_found() -> None:
    rng = np.random.default_rng(1)
    means = np.array([[5.0] + [0.0] * 7, [-5.0] + [0.0] * 7])
    of_each = rng.integers(2, size=2000)
    x_ND = means[of_each] + rng.normal(size=(2000, 8)) * ([0.1, 1.0] + [0.1] * 6)
    found = fit(x_ND.astype(np.float32), 2, 1, seed=1)
    np.testing.assert_allclose(sorted(found.means_KD[:, 0]), [-5.0, 5.0], atol=0.05)
    np.testing.assert_allclose(found.weights_K, 0.5, atol=0.05)
    np.testing.assert_allclose(np.abs(found.axes_DR[:, 0]), np.eye(8)[1], atol=0.05)
    np.testing.assert_allclose(found.variances_R, 1.0, atol=0.1)
    np.testing.assert_allclose(found.rest, 0.01, atol=0.002)
    assert found.weights_K.sum() == np.float32(1.0)


def test_fewer_clips_than_clusters_will_do() -> None:
    found = fit(np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32), 64, 64, seed=1)
    assert found.means_KD.shape == (5, 8)
    assert found.axes_DR.shape == (8, 7)
