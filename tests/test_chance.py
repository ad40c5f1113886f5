import numpy as np

from miniplm.data.chance import uniform_by_id, uniform_by_position


def test_chance_comes_from_id_and_seed():
    ids = np.arange(20_000)
    first = uniform_by_id(ids, 1)
    np.testing.assert_array_equal(first[100:200], uniform_by_id(ids[100:200], 1))
    assert abs(first.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(first, uniform_by_id(ids, 2))[0, 1]) < 0.03


def test_chance_of_a_position_depends_on_nothing_else():
    ids = np.array([7, 3, 1_000_000_007])
    wide = uniform_by_position(ids, 50, seed=1)
    np.testing.assert_array_equal(uniform_by_position(ids[[2, 0]], 20, seed=1), wide[[2, 0], :20])
    assert not (uniform_by_position(ids, 50, seed=2) == wide).any()


def test_chance_of_positions_is_uniform_and_unrelated():
    uniform = uniform_by_position(np.arange(400), 400, seed=3)
    shares = np.histogram(uniform, bins=20, range=(0, 1))[0] / uniform.size
    np.testing.assert_allclose(shares, 0.05, atol=0.003)  # five standard errors
    for step in ((0, 1), (1, 0), (1, 1)):
        one, other = uniform[: 400 - step[0], : 400 - step[1]], uniform[step[0] :, step[1] :]
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.0125
    of_sequences = uniform_by_id(np.arange(400), 3)
    assert abs(np.corrcoef(of_sequences, uniform[:, 0])[0, 1]) < 0.25
