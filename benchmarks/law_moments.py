"""First moments with the true law, an estimated score, and a Gaussian one.

    python benchmarks/law_moments.py
    python benchmarks/law_moments.py --quick

Inputs x_{t+1} = 1.5 tanh(2 Q x_t) + e with Q orthogonal, 2,000 sequences of 50 steps after 50 that
are left out, networks (10,5,5) and (6,6,3) with f(z) = z^2, |U| = 0.1 for inputs of unit variance
and noise 0.1. The error is that of T = E[y (x) S_2], relative to 2 sum A2_i (x) a_i a_i^T.
*Control* means that a quadratic polynomial of the inputs serves as control variate; a regression
moment needs no law (``xreg``) or the Gaussian score (``union``). Defects are those of `check_score`
on the same inputs, in six coordinates.

Acceptance: with the true law at most .05 in both cells, in the median.
"""

from __future__ import annotations

import numpy as np
from _common import Column, Output, option_parser
from tqdm import tqdm

from gloree import datasets
from gloree.chains import GaussianVAR, NonlinearAR, ScoreMatching
from gloree.moments import cross_moment, regression_moment
from gloree.score_functions import check_score

CELLS = [(10, 5, 5), (6, 6, 3)]
LIMIT = 0.05
BURN_IN = 50


def autoregression(n_inputs: int, rng: np.random.Generator) -> NonlinearAR:
    """The law, with derivatives of its step."""
    Q = np.linalg.qr(rng.standard_normal((n_inputs, n_inputs)))[0]

    def step(x: np.ndarray) -> np.ndarray:
        return np.asarray(1.5 * np.tanh(2 * x @ Q.T))

    def slope(x: np.ndarray) -> np.ndarray:
        return np.asarray(3 * (1 - np.tanh(2 * x @ Q.T) ** 2)[..., None] * Q)

    def curvature(x: np.ndarray) -> np.ndarray:
        t = np.tanh(2 * x @ Q.T)
        return np.einsum("...i,ij,ik->...ijk", -12 * t * (1 - t**2), Q, Q)

    start = {"initial_covariance": 3 * np.eye(n_inputs)}
    return NonlinearAR(step, np.eye(n_inputs), derivatives=(slope, curvature), **start)


def run_seed(sizes: tuple[int, int, int], seed: int, n_sequences: int) -> dict[str, float]:
    """Relative errors of T of every way."""
    rng = np.random.default_rng([seed, *sizes])
    law = autoregression(sizes[0], rng)
    X = law.sample(n_sequences, BURN_IN + 50, random_state=rng)[:, BURN_IN:]
    truth = datasets.random_rnn(*sizes, recurrence_norm=0.1, random_state=rng)
    truth = truth.replace(input_weights=truth.input_weights / X.std())
    Y = truth.simulate(X, noise=0.1, random_state=rng)
    A1, A2 = truth.input_weights, truth.output_weights
    T = 2 * np.einsum("io,ia,ib->oab", A2, A1, A1)
    gaussian, matched = GaussianVAR.fit(X), ScoreMatching.fit(X)
    found = {
        "true law, control": cross_moment(law, X, Y, 2),
        "true law": cross_moment(law, X, Y, 2, control=False),
        "score matching, control": cross_moment(matched, X, Y, 2),
        "Gaussian score": cross_moment(gaussian, X, Y, 2),
        "union": regression_moment(X, Y, 2, chain=gaussian),
        "xreg": regression_moment(X, Y, 2),
    }
    errors = {n: float(np.linalg.norm(M - T) / np.linalg.norm(T)) for n, M in found.items()}
    for name, score in (("true", law), ("matched", matched), ("Gaussian", gaussian)):
        errors[f"defect {name}"] = check_score(X, chain=score, max_inputs=6).defect
    return errors


def main() -> None:
    arguments = option_parser(__doc__, seeds=8).parse_args()
    n_seeds = arguments.seeds or (2 if arguments.quick else 8)
    out = Output(arguments)
    columns: list[list[dict[str, float]]] = []
    with tqdm(total=len(CELLS) * n_seeds, desc="law moments") as bar:
        for sizes in CELLS:
            columns.append([])
            for seed in range(n_seeds):
                columns[-1].append(run_seed(sizes, seed, 600 if arguments.quick else 2_000))
                bar.update()
    rows = [
        {
            "name": name,
            **{f"c{c}": float(np.median([row[name] for row in columns[c]])) for c in range(2)},
            **{f"w{c}": float(np.max([row[name] for row in columns[c]])) for c in range(2)},
        }
        for name in columns[0][0]
    ]
    out.table(
        "errors",
        f"First moment of a tanh autoregression: relative error, median (largest) of {n_seeds}",
        [
            Column("", "{name}"),
            *(
                Column(f"{CELLS[c]}".replace(" ", ""), f"{{c{c}:.3f}} ({{w{c}:.3f}})")
                for c in range(2)
            ),
        ],
        rows,
    )
    met = all(rows[0][f"c{c}"] <= LIMIT for c in range(2))
    out.target("met", met, f"error with the true law at most {LIMIT}")
    out.close()


if __name__ == "__main__":
    main()
