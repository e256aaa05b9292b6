"""Labels of networks with any activation: how often a fit is at the maximum of the likelihood.

    python benchmarks/smooth_labels.py --seeds 20
    python benchmarks/smooth_labels.py --quick

Labels are drawn from the softmax of the outputs of a network with rows of A1 of length one, U of
a given norm, biases N(0, 1/4) and logits of a standard deviation of 1.5, and are fitted with the
right number of units, without a direct path, by ``refine="likelihood"``. The yardstick is Fisher
scoring from the true weights, to the end. A fit is *good* if its cross-entropy is at most 0.1 %
above that one's, and every relative weight error (modulo the symmetries, with weights that add up
to zero over the labels) at most 1.1 times that one's, or lower. A fit with a higher likelihood
than the yardstick's is good whatever its weights: that is then no maximum worth the name. Seeds
begin at 3000.

Acceptance: all fits are good, and none that is not has nothing to say.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from _common import Column, Output, median, option_parser
from joblib import Parallel, delayed
from smooth import ERROR, LOSS, SAME, recurrence
from tqdm import tqdm

from gloree import IORNN, SpectralRNNClassifier, datasets, metrics
from gloree.engine import Engine, Source
from gloree.models import ExplosionError
from gloree.refinement import CrossEntropy, FisherScoring, Layout, without_common_part
from gloree.sequences import Array, IntArray, as_sequences

FIRST_SEED, SPREAD = 3000, 1.5


@dataclass(frozen=True)
class Cell:
    """A kind of data: `sizes` are inputs, units, and labels."""

    name: str
    activation: str
    sizes: tuple[int, int, int] = (10, 5, 5)
    norm: float = 0.6
    n_sequences: int = 5_000
    n_steps: int = 10

    def simulate(self, seed: int) -> tuple[Array, IntArray, IORNN]:
        """Inputs, labels, and the network behind them."""
        rng = np.random.default_rng([FIRST_SEED + seed, self.sizes[1]])
        d, k, q = self.sizes
        X = datasets.make_chain(d, random_state=rng).sample(self.n_sequences, self.n_steps, rng)
        while True:
            A1, A2 = rng.standard_normal((k, d)), rng.standard_normal((k, q))
            truth = IORNN(
                A1 / np.linalg.norm(A1, axis=1, keepdims=True),
                recurrence(rng, k, self.norm),
                A2,
                hidden_bias=0.5 * rng.standard_normal(k),
                activation=self.activation,
            )
            try:
                logits = truth.predict(X)
            except ExplosionError:
                continue
            break
        scale = SPREAD / logits.std()
        moved = -scale * logits.mean(axis=(0, 1)) + 0.3 * rng.standard_normal(q)
        truth = without_common_part(
            truth.replace(output_weights=scale * truth.output_weights, output_bias=moved)
        )
        logits = truth.predict(X)
        # the largest of the logits with Gumbel noise has the probabilities of the softmax
        labels = np.argmax(logits + rng.gumbel(size=logits.shape), axis=2)
        return X, labels, truth


CELLS = (
    Cell("quadratic", "quadratic", norm=0.1),
    Cell("tanh", "tanh"),
    Cell("sigmoid", "sigmoid"),
    Cell("softplus", "softplus"),
    Cell("ReLU", "relu"),
    Cell("tanh, two labels", "tanh", (10, 5, 2)),
    Cell("tanh, 12 labels", "tanh", (10, 5, 12)),
    Cell("tanh, 2,000 x 10", "tanh", (6, 3, 4), n_sequences=2_000),
)


def cross_entropy(model: IORNN, X: Array, labels: IntArray) -> float:
    """Mean of -log p of the labels."""
    logits = model.predict(X)
    top = logits.max(axis=2)
    total = np.log(np.sum(np.exp(logits - top[..., None]), axis=2)) + top
    return float(np.mean(total - np.take_along_axis(logits, labels[..., None], axis=2)[..., 0]))


def best_from_truth(X: Array, labels: IntArray, truth: IORNN) -> IORNN:
    """Fisher scoring from the true weights."""
    layout = Layout(X.shape[2], truth.n_hidden, truth.n_outputs)
    engine = Engine("serial")
    source = Source(as_sequences(X, labels[..., None]))
    with engine.small_matrices():
        found = FisherScoring().minimise(CrossEntropy(), truth, layout, engine, source)
    assert isinstance(found.model, IORNN)
    return found.model


def trial(cell: Cell, seed: int) -> dict[str, Any]:
    """Simulate, fit, compare."""
    X, labels, truth = cell.simulate(seed)
    best = best_from_truth(X, labels, truth)
    begin = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = SpectralRNNClassifier(
            cell.sizes[1],
            activation=cell.activation,
            refine="likelihood",
            direct=False,
            engine="serial",
            random_state=seed,
        ).fit(X, labels)
    seconds = time.process_time() - begin
    errors = metrics.weight_errors(best, truth)
    try:
        found = metrics.weight_errors(without_common_part(fit.model_), truth)
        ratio = max(found[name] / errors[name] for name in errors if errors[name])
    except ValueError:
        ratio = np.inf  # of other directions
    excess = cross_entropy(fit.model_, X, labels) / cross_entropy(best, X, labels) - 1.0
    good = excess <= LOSS and (ratio <= ERROR or excess < -SAME)
    said = {warning.category.__name__ for warning in caught}
    return {"excess": excess, "ratio": ratio, "seconds": seconds, "good": good, "said": said}


def main() -> None:
    """All cells."""
    parser = option_parser(__doc__, seeds=20)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    arguments = parser.parse_args()
    out, n_seeds = Output(arguments), arguments.seeds or (1 if arguments.quick else 20)
    chosen = CELLS[-1:] if arguments.quick else CELLS
    work = [delayed(trial)(cell, seed) for cell in chosen for seed in range(n_seeds)]
    found = Parallel(arguments.jobs, return_as="generator")(work)
    results = list(tqdm(found, desc="labels", total=len(work)))
    rows = []
    for place, cell in enumerate(chosen):
        own = results[place * n_seeds : (place + 1) * n_seeds]
        rows.append(
            {
                "cell": cell.name,
                "fits": n_seeds,
                "good": sum(each["good"] for each in own),
                "silent": sum(not each["good"] and not each["said"] for each in own),
                "false": sum(each["good"] and bool(each["said"]) for each in own),
                "excess": max(each["excess"] for each in own),
                "ratio": max(each["ratio"] for each in own),
                "seconds": median([each["seconds"] for each in own]),
            }
        )
    out.table(
        "cells",
        "Fits of labels beside Fisher scoring from the truth",
        [
            Column("network", "{cell}"),
            Column("good", "{good} of {fits}"),
            Column("not, without a word", "{silent}"),
            Column("good, with a warning", "{false}"),
            Column("worst cross-entropy", "{excess:+.1e}"),
            Column("worst weights", "{ratio:.2f}"),
            Column("fit s", "{seconds:.1f}"),
        ],
        rows,
    )
    n, good = sum(row["fits"] for row in rows), sum(row["good"] for row in rows)
    out.figure("fits", n, "{value}", "fits of labels")
    out.figure("good", good, "{value}", "of them at the maximum of the likelihood")
    silent = sum(row["silent"] for row in rows)
    out.figure("silent", silent, "{value}", "that are not, without a word")
    out.target("all_good", good == n, "all fits at the maximum")
    out.target("none_silent", silent == 0, "none that is not says nothing")
    out.close()


if __name__ == "__main__":
    main()
