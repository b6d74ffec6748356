"""Theory against published values, dense numerical integration, brute-force bit allocation and simulation."""

import math

import numpy as np
import pytest
from messages import one_line

from codec.errors import ConfigError
from codec.study.rate_distortion import (
    MAX_CODEWORDS,
    ar1_covariance,
    lloyd_max,
    scalar_distortion,
    scalar_use,
    shannon_bound,
)

GRID = np.linspace(-12, 12, 240_001)
WEIGHTS = np.exp(-GRID * GRID / 2) / math.sqrt(2 * math.pi) * (GRID[1] - GRID[0])
UNIT = np.eye(1)

CODEBOOKS = {
    "one": [0.3],
    "two": [-1.0, 2.0],
    "all on one side": [1.5, 2.0, 3.5, 3.6],
    "all far out": [5.0, 9.0],
    "duplicates": [0.7, -0.2, 0.7, 0.7, -0.2, 4.0],
    "signed zeros": [1.0, 0.0, -0.0],
    "outliers": [40.0, -0.5, 0.4, 1.0, -1e6],
    "random": np.random.default_rng(0).standard_normal(20),
    "wide": 5 * np.random.default_rng(1).standard_normal(16),
    "narrow": 2 + 1e-3 * np.random.default_rng(2).standard_normal(16),
}


def rotation(dim, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]


def covariance_of(variances, seed=0):
    basis = rotation(len(variances), seed)
    matrix = basis @ np.diag(variances) @ basis.T
    return (matrix + matrix.T) / 2


def water_level(bits, variances):
    """Theta by bisection of the rate equation."""
    low, high = 0.0, float(max(variances))
    for _ in range(200):
        middle = (low + high) / 2
        rate = np.maximum(0, np.log2(variances / middle) / 2).sum()
        low, high = (middle, high) if rate > bits else (low, middle)
    return high


def entropy(probabilities):
    used = probabilities[probabilities > 0]
    return float(-(used * np.log2(used)).sum())


# --- ar1_covariance ---


@pytest.mark.parametrize("correlation", [0.9, -0.5, 0.0])
def test_ar1_covariance_is_that_of_the_recursion(correlation):
    # x_0 = e_0, x_t = correlation x_(t-1) + sqrt(1 - correlation^2) e_t, written as x = A e
    steps = np.zeros((5, 5))
    steps[0, 0] = 1
    for t in range(1, 5):
        steps[t] = correlation * steps[t - 1]
        steps[t, t] = math.sqrt(1 - correlation**2)
    np.testing.assert_allclose(ar1_covariance(5, correlation), steps @ steps.T, atol=1e-15)
    assert ar1_covariance(3, 0.5).tolist() == [[1, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 1]]
    assert ar1_covariance(1, correlation).tolist() == [[1]]


# --- shannon_bound ---


def test_shannon_bound_of_white_vectors():
    assert shannon_bound(10, np.eye(64)) == pytest.approx(0.805245, abs=5e-7)
    for dim, bits in ((1, 3.0), (2, 0.5), (64, 80.0)):
        assert shannon_bound(bits, 2.5 * np.eye(dim)) == pytest.approx(2.5 * 2 ** (-2 * bits / dim), rel=1e-12)


def test_shannon_bound_of_a_hand_case():
    # theta = 1: log2(16 / 1) / 2 + log2(4 / 1) / 2 = 3 bits, and the variance of 0.25 is not coded
    assert shannon_bound(3, np.diag([0.25, 16.0, 4.0])) == pytest.approx((0.25 + 1 + 1) / 3, rel=1e-12)


@pytest.mark.parametrize("bits", [0.3, 1.0, 2.5, 6.0])
def test_no_split_of_the_bits_does_better(bits):
    """The best of all splits over three independent components, each at its own bound."""
    variances = np.array([3.0, 1.0, 0.2])
    shares = np.linspace(0, bits, 601)
    first, second = np.meshgrid(shares, shares, indexing="ij")
    third = bits - first - second
    errors = variances[0] * 4**-first + variances[1] * 4**-second + variances[2] * 4.0 ** -np.maximum(third, 0)
    best = errors[third >= -1e-9].min() / 3
    bound = shannon_bound(bits, covariance_of(variances))
    assert bound - 1e-12 <= best <= bound + 1e-4  # the grid is bits / 600 fine


@pytest.mark.parametrize("bits", [1.0, 7.3, 40.0])
@pytest.mark.parametrize("correlation", [0.9, -0.6])
def test_a_simulated_channel_at_the_water_level_reaches_it(correlation, bits):
    """The test channel y = (1 - theta / lambda) x + noise, along the eigenvectors, spends `bits` and errs by D."""
    covariance = ar1_covariance(8, correlation)
    variances, basis = np.linalg.eigh(covariance)
    theta = water_level(bits, variances)
    gain = np.maximum(0, 1 - theta / variances)
    assert (np.log2(1 / (1 - gain)) / 2).sum() == pytest.approx(bits, rel=1e-9)  # I(x; y), of correlation^2 = gain
    assert shannon_bound(bits, covariance) == pytest.approx(np.minimum(theta, variances).mean(), rel=1e-9)
    rng = np.random.default_rng(3)
    x = rng.multivariate_normal(np.zeros(8), covariance, size=100_000)
    noise = np.sqrt(gain * theta) * rng.standard_normal(x.shape)
    y = (gain * (x @ basis) + noise) @ basis.T
    assert np.square(x - y).mean() == pytest.approx(shannon_bound(bits, covariance), rel=0.01)  # 3 standard errors


def test_no_random_codebook_is_below_the_shannon_bound():
    covariance = ar1_covariance(2, 0.8)
    rng = np.random.default_rng(4)
    vectors = rng.multivariate_normal(np.zeros(2), covariance, size=20_000)
    for num_codewords in (1, 4, 16, 64):
        codebook = rng.multivariate_normal(np.zeros(2), 0.7 * covariance, size=num_codewords)
        error = np.square(vectors[:, None] - codebook).sum(-1).min(-1).mean() / 2
        bound = shannon_bound(math.log2(num_codewords), covariance)
        assert bound < error < 8 * bound


@pytest.mark.parametrize("correlation", [0.5, -0.9])
def test_at_a_high_rate_the_bound_is_that_of_the_geometric_mean(correlation):
    covariance = ar1_covariance(16, correlation)
    assert np.linalg.det(covariance) == pytest.approx((1 - correlation**2) ** 15)
    for bits in (40.0, 100.0, 400.0):
        expected = (1 - correlation**2) ** (15 / 16) * 2 ** (-2 * bits / 16)
        assert shannon_bound(bits, covariance) == pytest.approx(expected, rel=1e-9)
    assert shannon_bound(2, covariance) > 1.01 * (1 - correlation**2) ** (15 / 16) * 2 ** (-4 / 16)


@pytest.mark.parametrize("variances", [[9.0, 1.0, 1.0, 0.3, 0.01], [2.0] * 5, [1e-6, 1.0, 1e6]])
def test_the_bound_decreases_continuously_and_convexly(variances):
    largest, dim = max(variances), len(variances)
    covariance = covariance_of(variances)
    values = np.array([shannon_bound(bits, covariance) for bits in np.arange(0, 30, 0.01)])
    steps = np.diff(values)
    assert (steps < 0).all()
    assert (-steps <= 0.01 * 2 * math.log(2) * largest / dim * (1 + 1e-9)).all()  # the slope at 0 bits
    assert (np.diff(steps) > -1e-12 * largest).all()


def test_the_bound_is_continuous_where_a_component_starts_to_be_coded():
    matrix = np.diag([16.0, 4.0, 1.0])
    for corner in (1.0, 3.0):  # log2(16 / 4) / 2, and log2(16 / 1) / 2 + log2(4 / 1) / 2
        values = [shannon_bound(corner + offset, matrix) for offset in (-1e-9, 0, 1e-9)]
        assert values == pytest.approx([values[1]] * 3, rel=1e-8)
    assert shannon_bound(1, matrix) == pytest.approx((4 + 4 + 1) / 3, rel=1e-12)


def test_the_bound_ignores_a_rotation_and_follows_the_scale():
    variances = [5.0, 1.0, 0.3, 0.1]
    expected = shannon_bound(4, np.diag(variances))
    for seed in range(3):
        assert shannon_bound(4, covariance_of(variances, seed)) == pytest.approx(expected, rel=1e-12)
    assert shannon_bound(4, 1e-12 * np.diag(variances)) == pytest.approx(1e-12 * expected, rel=1e-12)


def test_the_bound_at_zero_and_at_very_high_rates():
    covariance = covariance_of([9.0, 1.0, 0.5])
    assert shannon_bound(0, covariance) == pytest.approx(np.trace(covariance) / 3, rel=1e-12)
    assert shannon_bound(0, np.eye(7)) == 1
    for bits in (1e6, 1e308, np.float64(1e308)):
        assert shannon_bound(bits, covariance) == 0


# --- scalar_use, scalar_distortion ---


@pytest.mark.parametrize("codewords", CODEBOOKS.values(), ids=CODEBOOKS)
def test_use_and_distortion_equal_those_of_a_dense_grid(codewords):
    codewords = np.asarray(codewords)
    distances = np.stack([np.abs(GRID - word) for word in codewords])
    owner = distances.argmin(0)  # the lowest index of equal ones
    use = scalar_use(codewords)
    np.testing.assert_allclose(use, np.bincount(owner, WEIGHTS, len(codewords)), atol=5e-5)  # half a grid step of 1e-4
    assert use.sum() == pytest.approx(1, abs=1e-14)
    assert scalar_distortion(codewords) == pytest.approx(np.square(distances.min(0)) @ WEIGHTS, rel=1e-8)


def test_of_equal_codewords_the_lowest_index_gets_all():
    assert scalar_use(np.array([1.0, -1.0, 1.0, -1.0, 1.0])).tolist() == [0.5, 0.5, 0, 0, 0]
    assert scalar_use(np.array([-0.0, 0.0])).tolist() == [1, 0]


def test_the_order_of_the_codewords_does_not_matter():
    codewords = np.random.default_rng(5).standard_normal(30)
    order = np.random.default_rng(6).permutation(30)
    assert scalar_distortion(codewords[order]) == scalar_distortion(codewords)
    np.testing.assert_array_equal(scalar_use(codewords[order]), scalar_use(codewords)[order])


def test_the_input_is_left_alone_and_may_be_of_another_type():
    codewords = np.array([3, -1, 0])
    assert scalar_distortion(codewords) == scalar_distortion(np.array([-1.0, 0.0, 3.0]))
    assert scalar_use(codewords).dtype == np.float64
    assert codewords.tolist() == [3, -1, 0]
    single = np.random.default_rng(7).standard_normal(9).astype(np.float32)
    assert scalar_distortion(single) == scalar_distortion(single.astype(np.float64))
    assert scalar_use(single).tolist() == scalar_use(single.astype(np.float64)).tolist()
    assert shannon_bound(1, np.eye(3, dtype=np.float32)) == shannon_bound(1, np.eye(3))


def test_hand_cases():
    assert scalar_distortion(np.array([0.0])) == 1
    assert scalar_distortion(np.array([40.0])) == 1601
    # two codewords at ±a: 1 + a^2 - 2 a E|x|
    assert scalar_distortion(np.array([-0.5, 0.5])) == pytest.approx(1.25 - math.sqrt(2 / math.pi), rel=1e-14)


@pytest.mark.parametrize("outlier", [40.0, -40.0, 1e8, -1e100])
def test_an_outlier_neither_helps_nor_harms(outlier):
    codewords = lloyd_max(8)
    with_outlier = np.append(codewords, outlier)
    assert scalar_distortion(with_outlier) == scalar_distortion(codewords)
    assert 0 <= scalar_use(with_outlier)[-1] < 1e-80
    assert scalar_use(with_outlier)[:-1] == pytest.approx(scalar_use(codewords), abs=1e-15)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_probability_in_either_tail_keeps_its_digits(sign):
    # Q(x) = p(x) (1 / x - 1 / x^3 + 3 / x^5 - ...), here of the cell beyond 20
    density = math.exp(-200) / math.sqrt(2 * math.pi)
    expected = density * (1 / 20 - 1 / 20**3 + 3 / 20**5 - 15 / 20**7 + 105 / 20**9)
    assert scalar_use(np.array([0.0, sign * 40.0]))[1] == pytest.approx(expected, rel=1e-8)
    inner = scalar_use(np.array([0.0, sign * 20.0, sign * 60.0]))[1]  # from 10 to 40
    assert inner == pytest.approx(math.erfc(10 / math.sqrt(2)) / 2, rel=1e-12)


@pytest.mark.parametrize("num_codewords", [1, 3, 10, 100])
def test_no_scalar_codebook_is_below_the_shannon_bound_of_its_entropy(num_codewords):
    for seed in range(5):
        codewords = 1.3 * np.random.default_rng(seed).standard_normal(num_codewords)
        rate = max(0.0, entropy(scalar_use(codewords)))
        assert scalar_distortion(codewords) >= shannon_bound(rate, UNIT)


# --- lloyd_max ---


@pytest.mark.parametrize(
    ("num_codewords", "distortion"),
    [(1, 1.0), (2, 0.363380), (4, 0.117482), (8, 0.034548), (16, 0.009501), (32, 0.002505)],
)
def test_lloyd_max_reaches_the_published_distortions(num_codewords, distortion):
    assert scalar_distortion(lloyd_max(num_codewords)) == pytest.approx(distortion, abs=5e-7)


def test_lloyd_max_gives_the_published_codewords():
    # Max 1960, table I
    assert lloyd_max(1).tolist() == [0]
    assert lloyd_max(2) == pytest.approx([-0.7980, 0.7980], abs=1.5e-4)
    assert lloyd_max(3) == pytest.approx([-1.224, 0, 1.224], abs=5e-4)
    assert lloyd_max(4) == pytest.approx([-1.510, -0.4528, 0.4528, 1.510], abs=5e-4)


@pytest.mark.parametrize("num_codewords", [2, 3, 8, 33, 128])
def test_each_codeword_is_the_centroid_of_its_nearest_points(num_codewords):
    codewords = lloyd_max(num_codewords)
    edges = (codewords[:-1] + codewords[1:]) / 2  # half way: what is between two of them is nearest to its codeword
    for low, word, high in zip([-10, *edges], codewords, [*edges, 10], strict=True):
        x = np.linspace(low, high, 20_001)
        weights = np.exp(-x * x / 2) * np.r_[1, np.tile([4, 2], 9999), 4, 1]  # Simpson's rule
        assert (x * weights).sum() / weights.sum() == pytest.approx(word, abs=1e-10)


@pytest.mark.parametrize("num_codewords", [2, 7, 32, 256, 1024])
def test_moving_any_codeword_is_worse(num_codewords):
    codewords = lloyd_max(num_codewords)
    best = scalar_distortion(codewords)
    for index in {0, 1, num_codewords // 3, num_codewords // 2, num_codewords - 1}:
        for step in (-0.05, 0.05):  # of a cell
            moved = codewords.copy()
            moved[index] += step * np.gradient(codewords)[index]
            assert scalar_distortion(moved) > best + 1e-12  # rounding is below 1e-14
    for scale in (0.999, 1.001):
        assert scalar_distortion(scale * codewords) > best + 1e-12


@pytest.mark.parametrize("num_codewords", [1, 2, 5, 100, 1024, 20_000])
def test_lloyd_max_is_ascending_and_symmetric(num_codewords):
    codewords = lloyd_max(num_codewords)
    assert codewords.shape == (num_codewords,) and codewords.dtype == np.float64
    assert (np.diff(codewords) > 0).all()
    np.testing.assert_array_equal(codewords, -codewords[::-1])


def test_lloyd_max_stays_over_the_shannon_bound_and_nears_the_high_rate_law():
    """Panter & Dite 1951: D N^2 rises to sqrt(3) pi / 2, where the Shannon bound is 1."""
    limit = math.sqrt(3) * math.pi / 2
    sizes = [1, 2, 3, 4, 8, 32, 128, 1024, 8192]
    products = [scalar_distortion(lloyd_max(size)) * size**2 for size in sizes]
    assert all(
        product >= size**2 * shannon_bound(math.log2(size), UNIT) for product, size in zip(products, sizes, strict=True)
    )
    assert products == sorted(products)
    assert 0.995 * limit < products[-2] < products[-1] < limit
    assert products[-1] > 0.999 * limit


# --- errors ---


@pytest.mark.parametrize(
    ("call", "fact"),
    [
        (lambda: ar1_covariance(0, 0.5), "dim = 0"),
        (lambda: ar1_covariance(4, 1.0), "correlation = 1.0"),
        (lambda: ar1_covariance(4, -1.0), "correlation = -1.0"),
        (lambda: ar1_covariance(4, math.nan), "correlation = nan"),
        (lambda: shannon_bound(-0.1, np.eye(2)), "bits = -0.1"),
        (lambda: shannon_bound(math.inf, np.eye(2)), "bits = inf"),
        (lambda: shannon_bound(math.nan, np.eye(2)), "bits = nan"),
        (lambda: shannon_bound(1, np.ones((2, 3))), "shape (2, 3)"),
        (lambda: shannon_bound(1, np.ones(4)), "shape (4,)"),
        (lambda: shannon_bound(1, np.ones((0, 0))), "shape (0, 0)"),
        (lambda: shannon_bound(1, np.diag([1, math.nan])), "NaN or Inf"),
        (lambda: shannon_bound(1, np.array([[1, 0.5], [0.4, 1]])), "symmetric"),
        (lambda: shannon_bound(1, np.array([[1.0, 2], [2, 1]])), "eigenvalue -1"),
        (lambda: shannon_bound(1, np.ones((3, 3))), "positive definite"),
        (lambda: shannon_bound(1, np.zeros((3, 3))), "positive definite"),
        (lambda: scalar_use(np.zeros(0)), "shape (0,)"),
        (lambda: scalar_use(np.zeros((2, 1))), "shape (2, 1)"),
        (lambda: scalar_use(np.array([0, math.nan])), "NaN"),
        (lambda: scalar_distortion(np.zeros(0)), "shape (0,)"),
        (lambda: scalar_distortion(np.array([0, -math.inf])), "Inf"),
        (lambda: scalar_distortion(np.array([0, 1e200])), "beyond"),
        (lambda: lloyd_max(0), "num_codewords = 0"),
        (lambda: lloyd_max(MAX_CODEWORDS + 1), f"num_codewords = {MAX_CODEWORDS + 1}"),
    ],
)
def test_wrong_arguments_are_refused(call, fact):
    with pytest.raises(ConfigError, match=one_line(fact)):
        call()
