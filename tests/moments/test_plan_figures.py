"""Figures of a plan by hand, and its choices on either side of every limit."""

import pytest

from gloree.moments import FIRST_MOMENTS, MemoryLimitError, plan

MIB = 2**20
BLOCKS = 8 * 2**18 * 2
"""Bytes of the two blocks of features of a worker."""


def test_bytes_of_a_small_fit():
    """6 inputs, 3 outputs, 4 units: 30 features, 77 weights; two workers."""
    found = plan(100_000, 6, 3, n_hidden=4, moment="xreg", score=False, n_workers=2, n_segments=7)
    assert (found.n_features, found.n_directions) == (3 + 6 + 21, 6)
    n_weights = 4 * (6 + 4 + 3 + 1) + 3 * (6 + 1)
    assert found.sum_bytes == 8 * n_weights**2 * (2 + 4)
    row = 8 * (2 * 6 + 3 * 3 + 6 * 4 + 8)
    # a twentieth would be 5,000 rows
    assert found.batch_size == 8_192
    assert found.batch_bytes == 3 * row * 8_192 + 2 * BLOCKS
    assert found.row_bytes == 8 * 100_000 * (6 + 3)
    assert found.other_bytes == 4 * MIB + 200 * 7
    assert found.total_bytes == (
        found.batch_bytes + found.sum_bytes + found.row_bytes + found.other_bytes
    )
    # 40 rows for each feature, 8,000 at least
    assert found.first_rows == 8_000
    assert found.gigaflops == pytest.approx(8_000 * 30 * (3 * 2 + 30) / 1e9)


def test_bytes_of_other_things_come_on_top():
    plain, more = (plan(100_000, 6, 3, n_workers=2, beside=each) for each in (0, 12_345))
    assert more.other_bytes - plain.other_bytes == 12_345
    assert plan(10**7, 6, 3, n_workers=2).row_bytes == 32 * MIB


def test_sums_are_those_of_the_largest_matrices():
    """Gram matrices of the features; windows of two steps where there is a law."""
    features = plan(10**6, 40, 3, n_hidden=2, moment="xreg", score=False, n_workers=2)
    size = 3 + 40 + 820
    assert features.n_features == size
    assert features.sum_bytes == 8 * size * (size + 3) * (2 + 8)
    assert features.first_rows == 40 * size
    score = plan(10**6, 200, 1, n_hidden=1, moment="score", n_workers=2)
    size = 200 * 201 // 2 + 1
    assert score.n_features == size
    assert score.first_rows == 10**6
    assert score.sum_bytes == max(8 * size * (4 + 1) * 10, 8 * 200**2 * 4 * (2 + 4))
    assert score.gigaflops == pytest.approx(10**6 * size * 2 / 1e9)
    for law, factor in ((True, 4), (False, 1)):
        wide = plan(10**6, 900, 1, n_hidden=1, degree=1, moment="xreg", score=law, n_workers=2)
        assert wide.sum_bytes == max(8 * 903 * (903 + 1) * 10, 8 * 900**2 * factor * 6)


@pytest.mark.parametrize("n_hidden", [36, 38])
def test_where_no_matrix_of_the_weights_is_formed_rows_are_kept(n_hidden):
    """Up to 1,500 weights, here of a single input and output; beyond, vectors of the weights."""
    n_weights = n_hidden * (n_hidden + 3) + 2
    found = plan(10**5, 1, 1, n_hidden=n_hidden, score=False, n_workers=2)
    row = 8 * (2 + 3 + 6 * n_hidden + 8)
    if n_weights <= 1500:
        assert found.sum_bytes == 8 * n_weights**2 * 6
        assert found.other_bytes == 4 * MIB
    else:
        assert found.sum_bytes < 8 * n_weights**2 * 6
        assert found.other_bytes == 4 * MIB + 10**5 * row + 8 * n_weights * (2 + 40)
    most = plan(10**9, 1, 1, n_hidden=38, score=False, n_workers=2)
    assert most.other_bytes == 4 * MIB + 1024 * MIB + 8 * (38 * 41 + 2) * 42


def test_exactly_fifteen_hundred_weights_are_formed():
    """Units h, inputs d and outputs q with h (d + h + q + 1) + q (d + 1) = 1500 and 1501."""
    sizes = {
        h * (d + h + q + 1) + q * (d + 1): (h, d, q)
        for h in range(1, 30)
        for d in range(1, 90)
        for q in range(1, 40)
    }
    formed = [
        plan(10**5, sizes[n][1], sizes[n][2], n_hidden=sizes[n][0], n_workers=1).other_bytes
        for n in (1500, 1501)
    ]
    assert formed[0] == 4 * MIB < formed[1]


@pytest.mark.parametrize(
    ("n_rows", "n_inputs", "expected"),
    [
        (1_000, 4, 1_000),
        (2**15, 4, 2**13),
        (20 * 20_000, 4, 20_000),
        (10**7, 4, 2**15),
        # two million inputs of a batch, 2,048 rows at least
        (10**7, 209, 10_034),
        (10**7, 1_000, 2_097),
        (10**7, 5_000, 2**11),
    ],
)
def test_rows_of_a_batch(n_rows, n_inputs, expected):
    found = plan(n_rows, n_inputs, 1, n_hidden=2, score=False, n_workers=1)
    assert found.batch_size == expected


def test_a_batch_that_is_asked_for_is_kept():
    assert plan(10**5, 4, 1, batch_size=77, n_workers=1).batch_size == 77
    assert plan(10, 4, 1, batch_size=77, n_workers=1).batch_size == 10


def test_a_limit_leaves_a_fourth_of_what_is_spare_for_rows_that_are_kept():
    shapes = {"n_hidden": 4, "moment": "xreg", "score": False, "n_workers": 2}
    free = plan(10**6, 6, 3, **shapes)
    row = 8 * (2 * 6 + 3 * 3 + 6 * 4 + 8)
    fixed = free.sum_bytes + 2 * BLOCKS + free.other_bytes
    least = fixed + 3 * row * 256
    for spare in (0, 40_000, 4_000_000):
        found = plan(10**6, 6, 3, memory_limit=least + spare, **shapes)
        assert found.row_bytes == spare // 4
        assert found.batch_size == 256 + (spare - spare // 4) // (3 * row)
        assert found.total_bytes <= least + spare
    with pytest.raises(MemoryLimitError, match=f"needs at least {least:,} "):
        plan(10**6, 6, 3, memory_limit=least - 1, **shapes)
    # a batch of fewer rows than the smallest, where these are all
    assert plan(100, 6, 3, memory_limit=fixed + 3 * row * 100, **shapes).batch_size == 100
    # batches that were asked for are not made smaller
    least = fixed + 3 * row * 1000
    assert plan(10**6, 6, 3, batch_size=1000, memory_limit=least, **shapes).batch_size == 1000
    with pytest.raises(MemoryLimitError):
        plan(10**6, 6, 3, batch_size=1000, memory_limit=least - 1, **shapes)


@pytest.mark.parametrize(
    ("n_inputs", "n_hidden", "expected"),
    [
        (997, 1, 997),  # a thousand features of degree one
        (998, 1, 12),
        (3000, 600, 997),
        (3000, 1200, 1202),  # no fewer than units and two more
    ],
)
def test_directions_have_a_thousand_features_at_most(n_inputs, n_hidden, expected):
    found = plan(10**6, n_inputs, 1, n_hidden=n_hidden, degree=1, score=False, n_workers=1)
    assert found.n_directions == expected
    assert ("directions found first" in str(found)) is (expected < n_inputs)


def test_the_score_moment_is_taken_below_three_rows_for_each_feature():
    """Of a plain regression, which has 3 + 6 + 21; the union's 55 want four rows each."""
    taken = [plan(n, 6, 1).moment for n in (89, 90, 219, 220)]
    assert taken == ["score", "xreg", "xreg", "union"]
    assert plan(89, 6, 1, moment="regression").moment == "xreg"


def test_a_union_has_a_thousand_features_at_most():
    taken = [plan(10**6, n, 1, degree=1).moment for n in (499, 500)]
    assert taken == ["union", "xreg"]


def test_a_score_moment_has_fifty_thousand_entries_at_most():
    assert plan(10**6, 315, 1, moment="score").n_features == 315 * 316 // 2 + 1
    with pytest.raises(ValueError, match=r"50,087 entries for 316 inputs: use `moment`"):
        plan(10**6, 316, 1, moment="score")


def test_estimators_say_when_they_suit():
    union, plain, score = (FIRST_MOMENTS[name] for name in ("union", "xreg", "score"))
    assert union.suited_to(400, 100) is union
    assert union.suited_to(399, 100).name == "xreg"
    assert plain.suited_to(0, 100) is plain
    assert union.without_scores().name == "xreg"
    assert plain.without_scores() is plain
    assert score.without_scores() is None
    flags = {
        each.name: (each.uses_scores, each.regression, each.hermite)
        for each in FIRST_MOMENTS.values()
    }
    assert flags == {
        "xreg": (False, True, True),
        "union": (True, True, True),
        "score": (True, False, False),
    }
    assert (union.n_features(3, 2), plain.n_features(3, 2), score.n_features(3, 2)) == (19, 12, 7)
    assert repr(score) == "ScoreMoment()"
