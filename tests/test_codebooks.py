"""Codebooks: k-means, the moving average worked by hand, revival of dead codewords, and two processes."""

from datetime import timedelta
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from models import KINDS, make_codebooks, make_quantizer, noise, seeded, state_of
from safetensors.torch import load_file, save_file

from codec.model.quantizer.codebooks import Statistics
from codec.model.quantizer.initialization import Initialization, kmeans
from codec.model.quantizer.search import count_and_sum, nearest
from codec.train.optimizer import reset_moments


def found(codebooks, vectors, level=0):
    """Indices of the codewords that a level's search finds."""
    return nearest(vectors, codebooks.table[level], normalize=codebooks.normalize)


def statistics_of(codebooks, vectors, valid=None):
    """Statistics of one step in which every level quantizes the same vectors `[M, d]`."""
    valid = torch.ones(len(vectors), dtype=torch.bool) if valid is None else valid
    levels, size = codebooks.counts.shape
    counts, sums = zip(
        *(count_and_sum(vectors[valid], found(codebooks, vectors[valid], k), size) for k in range(levels)),
        strict=True,
    )
    return Statistics(torch.stack(counts), torch.stack(sums), vectors.expand(levels, -1, -1), valid.expand(levels, -1))


def distortion(codebooks, vectors, level=0):
    return (vectors - codebooks.table[level, found(codebooks, vectors, level)]).square().mean().item()


# ---- k-means


@pytest.mark.parametrize("normalize", [False, True])
def test_kmeans_converges_to_the_means_of_its_clusters(normalize):
    vectors = noise(300, 3)
    centroids, counts = kmeans(vectors, 8, iterations=100, generator=seeded(0), normalize=normalize)
    members = nearest(vectors, centroids, normalize=normalize)
    assert counts.tolist() == torch.bincount(members, minlength=8).tolist()
    for cluster in range(8):
        torch.testing.assert_close(centroids[cluster], vectors[members == cluster].mean(0))


def test_an_empty_cluster_of_kmeans_moves_to_a_vector():
    vectors = torch.cat([torch.zeros(95, 3), noise(5, 3, scale=1.0)])
    centroids, counts = kmeans(vectors, 6, iterations=100, generator=seeded(0), normalize=False)
    torch.testing.assert_close(centroids[nearest(vectors, centroids)], vectors)
    assert (counts > 0).all()


def test_kmeans_with_fewer_vectors_than_clusters_reproduces_them():
    vectors = noise(5, 3)
    centroids, counts = kmeans(vectors, 8, iterations=3, generator=seeded(0), normalize=False)
    torch.testing.assert_close(centroids[nearest(vectors, centroids)], vectors)
    assert counts.sum() == 5


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_initialisation_survives_the_first_update(kind, normalize):
    codebooks = make_codebooks(kind, num_quantizers=2, codebook_size=16, normalize=normalize, dead_threshold=0.0)
    vectors = 5 + noise(640, 3)
    before = state_of(codebooks)
    codebooks.initialize(1, vectors, initialization=Initialization(), generator=seeded(0))
    assert torch.equal(codebooks.table[0], before["table"][0])
    torch.testing.assert_close(codebooks.counts[1].mean(), torch.tensor(1.0))
    initial = distortion(codebooks, vectors, level=1)
    assert initial < 0.5 * vectors.var(0).mean()
    codebooks.update(statistics_of(codebooks, vectors), partial(seeded, 0))
    assert distortion(codebooks, vectors, level=1) <= 1.05 * initial


def test_a_written_codeword_is_its_sum_over_its_count():
    codebooks = make_codebooks(codebook_size=16)
    codebooks.initialize(0, noise(640, 3), initialization=Initialization(), generator=seeded(0))
    torch.testing.assert_close(codebooks.sums / codebooks.counts[..., None], codebooks.table, rtol=1e-6, atol=0)
    codebooks.update(statistics_of(codebooks, noise(640, 3)), partial(seeded, 0))
    assert torch.equal(codebooks.sums / codebooks.counts[..., None], codebooks.table)
    codebooks.restart_statistics()
    assert torch.equal(codebooks.sums, codebooks.table)
    assert torch.equal(codebooks.counts, torch.ones(1, 16))


# ---- The moving average


def test_moving_average_worked_by_hand():
    """Decay 0.5; 1 and 3 choose codeword 0 at (0), 10 chooses codeword 1 at (8); both counts start at 1.

    count 0: (1 + 2) / 2 = 1.5      sum 0: (0 + 4) / 2 = 2     codeword 0: 4/3
    count 1: (1 + 1) / 2 = 1        sum 1: (8 + 10) / 2 = 9    codeword 1: 9
    Then 2 alone chooses codeword 0, and codeword 1 keeps its place while its count halves:
    count 0: (1.5 + 1) / 2 = 1.25   sum 0: (2 + 2) / 2 = 2     codeword 0: 1.6
    """
    codebooks = make_codebooks(codebook_size=2, codebook_dim=1, decay=0.5, dead_threshold=0.0)
    codebooks.table[0] = torch.tensor([[0.0], [8.0]])
    codebooks.restart_statistics()
    revived = codebooks.update(statistics_of(codebooks, torch.tensor([[1.0], [3.0], [10.0]])), partial(seeded, 0))
    assert not revived.any()
    assert codebooks.counts.tolist() == [[1.5, 1.0]]
    assert codebooks.sums.flatten().tolist() == [2.0, 9.0]
    torch.testing.assert_close(codebooks.table.flatten(), torch.tensor([4 / 3, 9.0]))
    codebooks.update(statistics_of(codebooks, torch.tensor([[2.0]])), partial(seeded, 0))
    assert codebooks.counts.tolist() == [[1.25, 0.5]]
    torch.testing.assert_close(codebooks.table.flatten(), torch.tensor([1.6, 9.0]))


def test_an_unused_codeword_keeps_its_place():
    codebooks = make_codebooks(codebook_size=2, codebook_dim=1, decay=0.5, dead_threshold=0.0)
    codebooks.table[0] = torch.tensor([[0.0], [8.0]])
    codebooks.restart_statistics()
    for _ in range(300):  # until its count underflows to zero
        codebooks.update(statistics_of(codebooks, torch.tensor([[0.5]])), partial(seeded, 0))
    assert codebooks.counts[0, 1] == 0
    torch.testing.assert_close(codebooks.table.flatten(), torch.tensor([0.5, 8.0]))


def test_gradient_codewords_move_by_the_optimizer_only():
    codebooks = make_codebooks("gradient", dead_threshold=0.0)
    before = state_of(codebooks)
    codebooks.update(statistics_of(codebooks, noise(100, 3)), partial(seeded, 0))
    assert torch.equal(codebooks.table, before["table"])
    assert not torch.equal(codebooks.counts, before["counts"])


# ---- Revival


def with_far_codewords(kind, num_far):
    """Codebooks with `num_far` codewords where no vector ever comes."""
    codebooks = make_codebooks(kind, codebook_size=16, decay=0.8)
    with torch.no_grad():
        codebooks.table[0] = noise(16, 3, seed=5)
        codebooks.table[0, 16 - num_far :] += 1000.0
        codebooks.restart_statistics()
    return codebooks


@pytest.mark.parametrize("kind", KINDS)
def test_dead_codewords_are_revived(kind):
    codebooks = with_far_codewords(kind, 12)
    for step in range(40):
        codebooks.update(statistics_of(codebooks, noise(200, 3, seed=step)), partial(seeded, step))
    used = torch.bincount(found(codebooks, noise(1000, 3, seed=99)), minlength=16)
    assert (used > 0).all()
    assert codebooks.table.abs().max() < 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_revived_codeword_is_a_valid_vector_with_an_average_count(kind):
    codebooks = with_far_codewords(kind, 12)
    codebooks.counts[0, 4:] = 0.0
    vectors = torch.cat([noise(50, 3, seed=1), 1e6 + noise(50, 3, seed=2)])
    valid = torch.arange(100) < 50
    table = codebooks.table.detach().clone()
    revived = codebooks.update(statistics_of(codebooks, vectors, valid), partial(seeded, 0))
    assert revived[0].tolist() == 4 * [False] + 12 * [True]
    rows = [vectors[:50].tolist().index(codeword) for codeword in codebooks.table[0, 4:].tolist()]
    assert len(set(rows)) == 12
    assert not codebooks.dead_codewords()[0, 4:].any()
    torch.testing.assert_close(codebooks.counts[0, 4:], codebooks.counts[0, 4].expand(12))
    if kind == "ema":  # else the next update would pull the codeword back to where it came from
        torch.testing.assert_close(codebooks.sums[0, 4:], codebooks.table[0, 4:] * codebooks.counts[0, 4:, None])
    else:
        assert torch.equal(codebooks.table[0, :4], table[0, :4])


@pytest.mark.parametrize("kind", KINDS)
def test_a_revived_codeword_gets_the_mean_count_of_its_own_level(kind):
    codebooks = make_codebooks(kind, num_quantizers=2, codebook_size=4, decay=1.0)
    codebooks.counts.copy_(torch.tensor([[0.0, 2.0, 3.0, 3.0], [0.0, 50.0, 70.0, 80.0]]))
    revived = codebooks.update(statistics_of(codebooks, noise(50, 3)), partial(seeded, 0))
    assert revived.tolist() == 2 * [[True, False, False, False]]
    assert codebooks.counts[:, 0].tolist() == [2.0, 50.0]


def test_revived_codewords_are_drawn_from_all_vectors_of_the_step():
    vectors, drawn = noise(50, 3, seed=1), []
    for seed in range(20):
        codebooks = with_far_codewords("ema", 12)
        codebooks.counts[0, 4:] = 0.0
        codebooks.update(statistics_of(codebooks, vectors), partial(seeded, seed))
        drawn += [vectors.tolist().index(codeword) for codeword in codebooks.table[0, 4:].tolist()]
    assert set(drawn) == set(range(50))  # 240 draws


def test_no_more_codewords_are_revived_than_there_are_vectors():
    codebooks = with_far_codewords("ema", 12)
    codebooks.counts[0, 4:] = 0.0
    revived = codebooks.update(statistics_of(codebooks, noise(5, 3)), partial(seeded, 0))
    assert revived.sum() == 5


def test_threshold_zero_revives_nothing():
    codebooks = with_far_codewords("ema", 12)
    codebooks.dead_threshold = 0.0
    codebooks.counts[0, 4:] = 0.0
    table = codebooks.table.clone()
    assert not codebooks.update(statistics_of(codebooks, noise(50, 3)), partial(seeded, 0)).any()
    assert torch.equal(codebooks.table[0, 4:], table[0, 4:])


def test_update_revives_nothing_when_all_codewords_are_used():
    codebooks = make_codebooks("ema", codebook_size=4, dead_threshold=0.05)
    vectors = noise(400, 3)
    codebooks.initialize(0, vectors, initialization=Initialization(iterations=5), generator=seeded(0))
    assert not codebooks.update(statistics_of(codebooks, vectors), partial(seeded, 0)).any()


@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
def test_the_threshold_is_relative_to_uniform_use(scale):
    """Mean use is 2, and half of uniform use is 1."""
    codebooks = make_codebooks(num_quantizers=2, codebook_size=4, dead_threshold=0.5)
    codebooks.counts.copy_(scale * torch.tensor([[0.0, 0.9, 1.1, 6.0], [2.0, 2.0, 2.0, 2.0]]))
    assert codebooks.dead_codewords().tolist() == [[True, True, False, False], 4 * [False]]


def test_the_same_codewords_are_dead_whatever_the_batch_size():
    dead = []
    for repeats in (1, 10):
        codebooks = make_codebooks("gradient", codebook_size=16, decay=0.8, dead_threshold=0.0)
        for step in range(60):
            codebooks.update(statistics_of(codebooks, noise(100, 3, seed=step).repeat(repeats, 1)), partial(seeded, 0))
        codebooks.dead_threshold = 0.9
        dead.append(codebooks.dead_codewords())
    assert torch.equal(*dead)
    assert (codebooks.counts[dead[1]] > 1.0).any()


def test_an_optimizer_forgets_the_moments_of_revived_rows_only():
    codebooks = with_far_codewords("gradient", 12)
    optimizer = torch.optim.Adam([codebooks.table], lr=0.1)
    for _ in range(3):
        codebooks.table.grad = torch.ones_like(codebooks.table)
        optimizer.step()
    codebooks.counts[0, 4:] = 0.0
    revived = codebooks.update(statistics_of(codebooks, noise(50, 3)), partial(seeded, 0))
    reset_moments(optimizer, codebooks.table, revived)
    table = codebooks.table.detach().clone()
    codebooks.table.grad = torch.zeros_like(codebooks.table)
    optimizer.step()
    assert torch.equal(codebooks.table[revived], table[revived])
    assert (codebooks.table[~revived] < table[~revived]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_level_without_vectors_is_not_changed(kind):
    codebooks = make_codebooks(kind, num_quantizers=2)
    codebooks.counts[1, 3] = 0.0  # dead, yet nothing was seen that could replace it
    before = state_of(codebooks)
    statistics = statistics_of(codebooks, noise(50, 3))
    statistics.counts[1], statistics.sums[1] = 0.0, 0.0
    codebooks.update(statistics._replace(valid=torch.tensor([[True], [False]]).expand(2, 50)), partial(seeded, 0))
    for key, tensor in codebooks.state_dict().items():
        assert torch.equal(tensor[1], before[key][1])
    assert not torch.equal(codebooks.counts[0], before["counts"][0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_skipped_step_revives_nothing(kind):
    """Its counts and sums are set to zero; its vectors are there, but not finite."""
    codebooks = with_far_codewords(kind, 12)
    codebooks.counts[0, 4:] = 0.0
    before = state_of(codebooks)
    statistics = statistics_of(codebooks, noise(50, 3))
    skipped = Statistics(0 * statistics.counts, 0 * statistics.sums, torch.full((1, 50, 3), torch.nan), None)
    assert not codebooks.update(skipped, partial(seeded, 0)).any()
    for key, tensor in codebooks.state_dict().items():
        assert torch.equal(tensor, before[key]), key


# ---- Two processes


def train_a_quantizer(kind, rank=0, world_size=1):
    """Six steps on this rank's part of the batch, after k-means; items have different numbers of valid frames."""
    quantizer = make_quantizer(kind, num_quantizers=3, decay=0.7, dead_threshold=0.2)
    part = slice(rank * 4 // world_size, (rank + 1) * 4 // world_size)
    mask = torch.arange(30) < torch.tensor([4, 30, 11, 19])[:, None]
    quantizer.initialize(
        noise(4, 10, 30)[part], mask=mask[part], initialization=Initialization(iterations=4), generator=seeded(0)
    )
    with torch.no_grad():
        quantizer.codebooks.table[:, 8:11] += 100.0
        quantizer.codebooks.counts[:, 8:11] = 0.0
    losses, num_revived = [], 0
    for step in range(6):
        num_active = torch.tensor([[3, 1, 2, 3], [1, 1, 2, 1]])[step % 2]
        output = quantizer(noise(4, 10, 30, seed=step)[part], num_active=num_active[part], mask=mask[part])
        losses.append(output.commitment_loss.detach())
        num_revived += quantizer.codebooks.update(output.statistics, partial(seeded, step)).sum()
    results = {f"{kind}.{key}": tensor for key, tensor in state_of(quantizer).items()}
    return results | {f"{kind}.losses": torch.stack(losses), f"{kind}.revived": num_revived}


class DrawnUnevenly:
    """An initialization whose result depends on the rank, as if sums had rounded differently there."""

    uses = 1.0

    def draw(self, vectors, num_codewords, **_):
        difference = torch.arange(num_codewords) * float(dist.get_rank())
        return noise(num_codewords, vectors.shape[1]) + difference[:, None], 1 + difference


def train_in_process(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=timedelta(seconds=30)
    )
    results = train_a_quantizer("ema", rank, 2) | train_a_quantizer("gradient", rank, 2)
    uneven = make_codebooks()
    uneven.initialize(0, noise(20, 3), initialization=DrawnUnevenly(), generator=seeded(0))
    results |= {f"uneven.{key}": tensor for key, tensor in state_of(uneven).items()}
    save_file(results, f"{folder}/{rank}.safetensors")
    dist.destroy_process_group()


def test_two_processes_with_half_the_batch_are_one_with_all_of_it(tmp_path):
    mp.spawn(train_in_process, (str(tmp_path),), nprocs=2)
    ranks = [load_file(tmp_path / f"{rank}.safetensors") for rank in range(2)]
    for key in ranks[0]:
        if key.startswith("uneven."):  # all processes take the codewords of the first
            assert torch.equal(ranks[0][key], ranks[1][key]), key
    assert torch.equal(ranks[1]["uneven.table"], noise(8, 3)[None])
    expected = train_a_quantizer("ema") | train_a_quantizer("gradient")
    for key, tensor in expected.items():
        if key.endswith("losses"):
            torch.testing.assert_close((ranks[0][key] + ranks[1][key]) / 2, tensor, rtol=1e-6, atol=0)
            continue
        assert torch.equal(ranks[0][key], ranks[1][key]), key
        torch.testing.assert_close(ranks[0][key], tensor, rtol=1e-6, atol=1e-6)
    assert expected["ema.revived"] >= 3
    assert expected["gradient.revived"] >= 3
