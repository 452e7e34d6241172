"""A gain that pilots told roughly, told better by the tokens that came through it.

A codeword of block fading is equalised by one estimate of its gain, from P pilots. At 0 dB four of them leave
half a radian of phase error in the mean over Rayleigh gains: all tokens arrive turned by it, and a receiver
takes them for others. But tokens are no circular noise. Turned by a wrong phase they are unlikely, and 256
symbols say more about a gain than four pilots do (semi-blind estimation: de Carvalho and Slock 1997, here
with the tokens' own distribution in place of a constellation's).

With the estimate h^ = h + CN(0, N0 / P), g = |h^|^2 / N0 and u = h / h^, MMSE equalisation gives

    s^ = g / (g + 1) (u s + CN(0, 1 / g)),

pilots alone say log p(u) = -P g |u - 1|^2 + const, and s is as a
:class:`~edge_server.model.token_prior.TokenPrior` says. The likeliest u of a grid of phases and sizes is
taken; what MMSE would have given with it is s^ conj(u) (g + 1) / (|u|^2 g + 1), at g |u|^2.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_server.model.token_prior import TokenPrior

PHASES = 96
SIZES = (0.5, 0.7, 0.85, 1.0, 1.2, 1.45, 1.8)
"""Of |u| that are tried."""
_LARGEST_SNR_DB = 30.0
"""Above it pilots leave nothing to be told [dB]."""
Array = npt.NDArray[np.float64]


class GainRefiner:
    """Refines the gain of codewords of one slot and token length.

    Args:
        prior: what its tokens are like.
    """

    def __init__(self, prior: TokenPrior) -> None:
        means_KD, self._axes_DR = prior.means_KD.astype(np.float64), prior.axes_DR.astype(np.float64)
        self._variances_R, self._rest = prior.variances_R.astype(np.float64), float(prior.rest[0])
        self._log_weights_K = np.log(prior.weights_K.astype(np.float64))
        self._means_KD, self._along_KR = means_KD, means_KD @ self._axes_DR
        # What of a mean lies beside the axes.
        self._beside_K = (means_KD**2).sum(axis=1) - (self._along_KR**2).sum(axis=1)
        angles = np.linspace(-np.pi, np.pi, PHASES, endpoint=False)
        self._cos_A, self._sin_A = np.cos(angles), np.sin(angles)

    def refine(
        self, x_TC: npt.NDArray[np.float32], snr_db: float, pilots: int
    ) -> tuple[npt.NDArray[np.float32], float]:
        """What the equaliser would have given, had it known the gain as well as its tokens tell it.

        Args:
            x_TC: a codeword as MMSE equalisation with an estimated gain left it; C even, real parts first.
            snr_db: that its receiver was told [dB].
            pilots: of the estimate, at least 1.

        Returns:
            The codeword, and the SNR to be told [dB].
        """
        if snr_db >= _LARGEST_SNR_DB:
            return x_TC, snr_db
        g = 10.0 ** (snr_db / 10.0)
        turn, size = self._likeliest(x_TC.astype(np.float64), g, pilots)
        factor = size * (g + 1.0) / (size**2 * g + 1.0)
        turned_TC = factor * (np.cos(turn) * x_TC - np.sin(turn) * _times_j(x_TC))
        return turned_TC.astype(np.float32), snr_db + 20.0 * float(np.log10(size))

    def _likeliest(self, x_TC: Array, g: float, pilots: int) -> tuple[float, float]:
        """The angle of u [rad], and its size."""
        x_D, jx_D = x_TC.reshape(-1), _times_j(x_TC).reshape(-1)
        # Turned back by an angle the codeword is cos x - sin jx: all that follows is linear in both.
        x_R, jx_R = x_D @ self._axes_DR, jx_D @ self._axes_DR
        off_x_K = self._means_KD @ x_D - self._along_KR @ x_R
        off_jx_K = self._means_KD @ jx_D - self._along_KR @ jx_R
        turned_AR = self._cos_A[:, None] * x_R - self._sin_A[:, None] * jx_R
        off_AK = self._cos_A[:, None] * off_x_K - self._sin_A[:, None] * off_jx_K
        beside = x_D @ x_D - x_R @ x_R, jx_D @ jx_D - jx_R @ jx_R, x_D @ jx_D - x_R @ jx_R
        beside_A = (
            self._cos_A**2 * beside[0]
            + self._sin_A**2 * beside[1]
            - 2.0 * self._cos_A * self._sin_A * beside[2]
        )
        noise, best = g / (g + 1.0) ** 2 / 2.0, (-np.inf, 0.0, 1.0)
        for size in SIZES:
            scale = size * g / (g + 1.0)
            spread_R, spread = scale**2 * self._variances_R + noise, scale**2 * self._rest + noise
            # Minus half the squared distance of each turned codeword from each scaled mean, in spreads.
            cross_AK = (turned_AR / spread_R) @ self._along_KR.T + off_AK / spread
            own_A = (turned_AR**2 / spread_R).sum(axis=1) + beside_A / spread
            mean_K = (self._along_KR**2 / spread_R).sum(axis=1) + self._beside_K / spread
            logs_AK = scale * cross_AK - 0.5 * (own_A[:, None] + scale**2 * mean_K)
            logs_AK += self._log_weights_K
            # The log of the sum over clusters; numpy's logaddexp takes several times as long.
            most_A = logs_AK.max(axis=1)
            log_A = most_A + np.log(np.exp(logs_AK - most_A[:, None]).sum(axis=1))
            log_A -= 0.5 * (np.log(spread_R).sum() + (len(x_D) - len(spread_R)) * np.log(spread))
            log_A += 2.0 * pilots * g * (size * self._cos_A - size**2 / 2.0)
            place = int(log_A.argmax())
            if log_A[place] > best[0]:
                angle = float(np.arctan2(self._sin_A[place], self._cos_A[place]))
                best = (float(log_A[place]), angle, size)
        return best[1], best[2]


def _times_j(x_TC: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Symbols turned by a quarter; real parts are the first half of each token's reals."""
    half = x_TC.shape[1] // 2
    return np.concatenate([-x_TC[:, half:], x_TC[:, :half]], axis=1)
