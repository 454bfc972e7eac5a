import numpy as np

from levelset.reconstruction._curves._trace import join


def ring(count, start=0.0):
    turn = start + 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(turn), np.sin(turn)], 1)


def test_shuffled_pieces_become_the_lines_they_were_cut_from():
    generator = np.random.default_rng(0)
    points = np.concatenate([ring(30), np.stack([np.linspace(0, 9, 10), np.full(10, 5.0)], 1)])
    pieces = [(k, (k + 1) % 30) for k in range(30)] + [(30 + k, 31 + k) for k in range(9)]
    pieces = [pieces[k][:: generator.choice([1, -1])] for k in generator.permutation(len(pieces))]
    names = generator.permutation(len(points))
    lines, closed = join(points[np.argsort(names)], names[np.array(pieces)])
    assert closed == [False, True]
    straight = lines[0] if lines[0][0, 0] == 0 else lines[0][::-1]
    assert np.array_equal(straight, points[30:])
    steps = np.linalg.norm(np.roll(lines[1], -1, 0) - lines[1], axis=1)
    assert len(lines[1]) == 30
    assert np.allclose(steps, 2 * np.sin(np.pi / 30))


def test_lines_end_where_three_meet():
    points = np.array([[0.0, 0], [1, 0], [-1, 0.5], [-1, -0.5]])
    lines, closed = join(points, np.array([[0, 1], [0, 2], [3, 0]]))
    assert (len(lines), closed) == (3, [False] * 3)


def test_coinciding_points_and_repeated_pieces_count_once():
    points = np.array([[0.0, 0], [1, 0], [1, 1e-9], [2, 0], [3, 0]])
    lines, closed = join(points, np.array([[0, 1], [1, 0], [1, 2], [2, 3], [3, 4], [4, 4]]))
    assert closed == [False]
    assert len(lines[0]) == 4
    assert join(points, np.zeros((0, 2), np.int64)) == ([], [])
