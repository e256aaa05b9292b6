"""Figures of labels: counts, shares and names of classes."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import pyplot as plt

from gloree import plotting

TRUTH = [["N", "V"], ["N", "N", "D"]]
FOUND = [["N", "N"], ["V", "N", "D"]]


def names(labels):
    return [label.get_text() for label in labels]


def numbers(ax):
    """Text of each cell by (row, column)."""
    return {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in ax.texts}


@pytest.mark.parametrize(
    "form",
    [
        lambda labels: labels,
        lambda labels: [label for part in labels for label in part],
        lambda labels: np.array([label for part in labels for label in part]),
        lambda labels: [np.array(part) for part in labels],
        lambda labels: [tuple(part) for part in labels],
    ],
)
def test_rows_are_true_and_columns_predicted(form):
    ax = plotting.plot_confusion(form(TRUTH), form(FOUND))
    shares = np.array([[1, 0, 0], [0, 2 / 3, 1 / 3], [0, 1, 0]])
    np.testing.assert_allclose(ax.images[0].get_array(), shares)
    assert names(ax.get_xticklabels()) == ["D", "N", "V"]
    assert names(ax.get_yticklabels()) == ["D (1)", "N (3)", "V (1)"]
    assert numbers(ax) == {(0, 0): "100", (1, 1): "67", (1, 2): "33", (2, 1): "100"}
    assert ax.get_title() == "60.0 % of 5 correct"


def test_counts_in_place_of_shares():
    ax = plotting.plot_confusion(TRUTH, FOUND, normalise=False)
    assert numbers(ax) == {(0, 0): "1", (1, 1): "2", (1, 2): "1", (2, 1): "1"}


def test_classes_set_the_order_and_may_be_absent():
    ax = plotting.plot_confusion(TRUTH, FOUND, classes=["V", "N", "X", "D"])
    assert names(ax.get_yticklabels()) == ["V (1)", "N (3)", "X (0)", "D (1)"]
    shares = np.asarray(ax.images[0].get_array())
    assert not shares[2].any()
    assert shares[0, 1] == 1


def test_classes_of_several_types_have_an_order():
    ax = plotting.plot_confusion([1, "a", 1], [1, "a", "a"])
    assert names(ax.get_xticklabels()) == ["1", "a"]


def test_rare_confusions_have_no_number():
    truth = np.repeat([0, 1], [1000, 10])
    found = truth.copy()
    found[:9] = 1
    assert (0, 1) not in numbers(plotting.plot_confusion(truth, found))
    found[:10] = 1
    assert numbers(plotting.plot_confusion(truth, found))[0, 1] == "1"


def test_many_classes_on_small_axes_have_no_numbers_and_fewer_names():
    _, ax = plt.subplots(figsize=(3, 3))
    plotting.plot_confusion(np.arange(100), np.arange(100), ax=ax)
    assert not ax.texts
    assert 5 < len(ax.get_yticks()) < 50
    assert names(ax.get_yticklabels())[1] == str(int(ax.get_yticks()[1]))


@pytest.mark.slow
def test_numbers_of_seventeen_classes_fit_into_their_cells():
    rng = np.random.default_rng(0)
    truth = rng.integers(17, size=200_000)
    found = np.where(rng.random(truth.size) < 0.5, truth, rng.integers(17, size=truth.size))
    tags = np.array([f"CLASS{i}" for i in range(17)])
    for normalise in (True, False):
        ax = plotting.plot_confusion(tags[truth], tags[found], normalise=normalise)
        ax.figure.canvas.draw()
        cell = ax.transData.transform((1, 0))[0] - ax.transData.transform((0, 0))[0]
        assert len(ax.texts) == 17**2
        assert all(text.get_window_extent().width < cell for text in ax.texts)


def test_labels_must_be_hashable():
    with pytest.raises(TypeError, match="hashable"):
        plotting.plot_confusion([{}], [{}])
    with pytest.raises(TypeError, match="`truth`"):
        plotting.plot_confusion(3, [1])
