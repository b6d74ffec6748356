"""Rate-distortion theory of Gaussian vectors: Shannon's bound, and optimal quantizers of a scalar.

Rate is in bits per vector, distortion is the mean squared error per dimension. Functions without a covariance are for
unit variance. All in float64.

Cover & Thomas, "Elements of Information Theory", 2nd ed., 2006, section 10.3 (reverse water-filling).
Max, "Quantizing for minimum distortion", IRE Trans. Inf. Theory 6(1), 1960.
Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28(2), 1982.
"""

import math

import numpy as np
from numpy.typing import NDArray

from codec.errors import ConfigError

Floats = NDArray[np.float64]

MAX_CODEWORDS = 65_536
"""Of `lloyd_max`: it takes about a second, and rounding is far below the width of a cell."""
MAX_CODEWORD = 1e100
"""Its square is still finite in float64."""
NEWTON_STEPS = 5
"""Enough for any number of codewords: the last step only changes rounding."""


def ar1_covariance(dim: int, correlation: float) -> Floats:
    """Covariance of a first-order autoregressive process of unit variance.

    Args:
        dim: Dimensions d of a vector, at least 1.
        correlation: Correlation of neighbouring dimensions, in (-1, 1).

    Returns:
        [d, d], with correlation ** |i - j| at (i, j).

    Raises:
        ConfigError: dim or correlation is out of range.
    """
    if dim < 1:
        raise ConfigError(f"dim = {dim}: a vector has at least 1 dimension")
    if not -1 < correlation < 1:
        raise ConfigError(f"correlation = {correlation}: choose it within (-1, 1), both ends excluded")
    index = np.arange(dim)
    covariance: Floats = np.float64(correlation) ** np.abs(index[:, None] - index)
    return covariance


def shannon_bound(bits: float, covariance: Floats) -> float:
    """Least mean squared error of any code of Gaussian vectors, by reverse water-filling.

    Cover & Thomas, theorem 10.3.3, with the eigenvalues lambda_i of the covariance: D = mean_i min(theta, lambda_i),
    where theta solves sum_i max(0, log2(lambda_i / theta) / 2) = bits. The solution is in closed form: a component
    gets bits once theta, which falls with the rate, is below its variance. Theirs is the sum over the components, ours
    the mean.

    Args:
        bits: Rate (bits per vector), at least 0.
        covariance: Covariance of a vector, [d, d], symmetric and positive definite.

    Returns:
        Mean squared error per dimension, in squared units of the vectors; trace / d at 0 bits.

    Raises:
        ConfigError: bits is negative or not finite, or the matrix is not a valid covariance.
    """
    if not 0 <= bits < math.inf:
        raise ConfigError(f"bits = {bits}: give a finite rate of at least 0 bits per vector")
    variances = _variances(covariance)
    logs = np.log2(variances)
    sums, counts = np.cumsum(logs), np.arange(1, len(logs) + 1)
    first_coded_at = (sums - counts * logs) / 2  # bits spent when theta = lambda_i; ascending, from 0
    num_coded = int(np.count_nonzero(first_coded_at <= bits))
    theta = math.exp2((float(sums[num_coded - 1]) - 2 * float(bits)) / num_coded)
    return (num_coded * theta + float(variances[num_coded:].sum())) / len(variances)


def scalar_use(codewords: Floats) -> Floats:
    """Probability of each codeword to be the nearest to a standard normal variable.

    Args:
        codewords: [N], in any order. Of equal codewords the one with the lowest index gets all.

    Returns:
        Probabilities [N], in the order of the codewords.

    Raises:
        ConfigError: The codewords are not one or more finite numbers [N].
    """
    codebook = _codebook(codewords)
    ascending, lowest_index = np.unique(codebook, return_index=True)
    probabilities = np.zeros(len(codebook))
    probabilities[lowest_index] = _masses(_edges(ascending))
    return probabilities


def scalar_distortion(codewords: Floats) -> float:
    """Mean squared distance of a standard normal variable to the nearest codeword.

    Lloyd's sum over the cells of the integral of (x - c_i)^2 p(x), summed by parts. With ascending codewords c_i, the
    midpoints b_i = (c_i + c_(i+1)) / 2 and c_k the codeword nearest to 0, each step outwards from c_k to the next
    codeword subtracts 2 (c_(i+1) - c_i) times the integral of (x - |b_i|) p(x) over x > |b_i|:
    D = 1 + c_k^2 - 2 sum_i (c_(i+1) - c_i) (p(b_i) - |b_i| Q(|b_i|)), where Q is the upper tail. No square of an
    outlier enters, unlike in the sum over cells, so the error is about 1e-15 (times c_k^2 if that exceeds 1).

    Args:
        codewords: [N], in any order.

    Returns:
        Mean squared error; 1 for the single codeword 0.

    Raises:
        ConfigError: The codewords are not one or more finite numbers [N].
    """
    ascending = np.sort(_codebook(codewords))
    innermost = float(np.abs(ascending).min())
    away = np.abs(_edges(ascending)[1:-1])
    gains = np.diff(ascending) * (_density(away) - away * _tail(away))
    return 1 + innermost**2 - 2 * math.fsum(gains)


def lloyd_max(num_codewords: int) -> Floats:
    """Optimal codewords of a standard normal variable.

    They solve c_i = E[x | cell i], where a cell ends half way to the next codeword (Max, equations 3 and 4; Lloyd,
    section IV). The solution is unique because the density is log-concave. Max and Lloyd iterate; we take Newton steps
    on c - E[x | cell]. Its Jacobian is tridiagonal and strictly diagonally dominant: moving all codewords by 1 moves
    the mean of a cell by 1 - Var[x | cell]. That nears 1 for many codewords, and their iteration then converges slowly.
    The start is the companded codebook with density p^(1/3) (Panter & Dite, 1951), a normal density of variance 3.

    Args:
        num_codewords: Number of codewords N, 1 to MAX_CODEWORDS; time grows linearly, 1024 take about 20 ms.

    Returns:
        Codewords [N], ascending and symmetric about 0.

    Raises:
        ConfigError: num_codewords is out of range.
    """
    if not 1 <= num_codewords <= MAX_CODEWORDS:
        raise ConfigError(f"num_codewords = {num_codewords}: choose 1 to {MAX_CODEWORDS}")
    grid = np.linspace(-12, 12, 4097)
    quantiles = (np.arange(num_codewords) + 0.5) / num_codewords
    codewords: Floats = np.interp(quantiles, _tail(-grid / math.sqrt(3)), grid)
    for _ in range(NEWTON_STEPS):
        edges = _edges(codewords)
        density, masses = _density(edges), _masses(edges)
        means = (density[:-1] - density[1:]) / masses  # E[x | cell], from the integral of x p(x) = -p(x)
        # d mean_i / d c_(i-1) and d mean_i / d c_(i+1); d mean_i / d c_i is the sum of the two. An edge moves by half.
        below, above = np.zeros(num_codewords), np.zeros(num_codewords)
        below[1:] = density[1:-1] * (means[1:] - edges[1:-1]) / (2 * masses[1:])
        above[:-1] = density[1:-1] * (edges[1:-1] - means[:-1]) / (2 * masses[:-1])
        codewords = codewords - _solve_tridiagonal(-below, 1 - below - above, -above, codewords - means)
    return (codewords - codewords[::-1]) / 2  # exactly symmetric, like the solution


def _variances(covariance: Floats) -> Floats:
    """Check a covariance [d, d] and return its eigenvalues [d] in descending order."""
    matrix = np.asarray(covariance, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ConfigError(f"covariance of shape {matrix.shape}: pass a square matrix [d, d]")
    if not np.isfinite(matrix).all():
        raise ConfigError("covariance holds NaN or Inf: pass finite numbers")
    difference, largest = float(np.abs(matrix - matrix.T).max()), float(np.abs(matrix).max())
    if difference > 1e-9 * largest:
        raise ConfigError(f"covariance differs from its transpose by {difference:.3g}: pass a symmetric matrix")
    ascending = np.asarray(np.linalg.eigvalsh(matrix), dtype=np.float64)
    least = len(matrix) * math.ulp(1.0) * largest  # smaller eigenvalues are rounding errors
    if ascending[0] <= least:
        raise ConfigError(
            f"covariance has the eigenvalue {ascending[0]:.3g}, not over {least:.3g}: pass a positive definite matrix"
        )
    return ascending[::-1]


def _codebook(codewords: Floats) -> Floats:
    """Check codewords [N] and return them as float64."""
    codebook = np.asarray(codewords, dtype=np.float64)
    if codebook.ndim != 1 or not codebook.size:
        raise ConfigError(f"codewords of shape {codebook.shape}: pass one or more numbers [N]")
    if not (np.abs(codebook) <= MAX_CODEWORD).all():
        raise ConfigError(f"codewords hold NaN, Inf or a number beyond ±{MAX_CODEWORD:g}: pass finite numbers")
    return codebook


def _edges(ascending: Floats) -> Floats:
    """Edges [N + 1] of the Voronoi cells of codewords [N]: -inf, the midpoints, inf."""
    return np.concatenate([[-math.inf], (ascending[:-1] + ascending[1:]) / 2, [math.inf]])


def _masses(edges: Floats) -> Floats:
    """Normal probability [N] of the cells between edges [N + 1]."""
    low, high = edges[:-1], edges[1:]
    # Cells left of 0 are mirrored: a difference of two small tails is more exact than one of two numbers near 1.
    return _tail(np.maximum(low, -high)) - _tail(np.maximum(high, -low))


def _density(x: Floats) -> Floats:
    density: Floats = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return density


def _tail(x: Floats) -> Floats:
    """Q(x), the probability that a standard normal variable exceeds x."""
    return np.array([math.erfc(value) for value in x / math.sqrt(2)]) / 2


def _solve_tridiagonal(lower: Floats, diagonal: Floats, upper: Floats, right: Floats) -> Floats:
    """Solve a diagonally dominant tridiagonal system by elimination without pivoting.

    Row i is lower[i] x[i - 1] + diagonal[i] x[i] + upper[i] x[i + 1] = right[i]; all are [N], and lower[0] and
    upper[N - 1] are not read.
    """
    low, pivot, up, x = lower.tolist(), diagonal.tolist(), upper.tolist(), right.tolist()
    for i in range(1, len(x)):
        factor = low[i] / pivot[i - 1]
        pivot[i] -= factor * up[i - 1]
        x[i] -= factor * x[i - 1]
    x[-1] /= pivot[-1]
    for i in reversed(range(len(x) - 1)):
        x[i] = (x[i] - up[i] * x[i + 1]) / pivot[i]
    return np.array(x)
