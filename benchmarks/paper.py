"""The published algorithms beside the estimators: errors of the weights over the number of steps.

    python benchmarks/paper.py            # 10^4 to 10^6 steps, ten seeds
    python benchmarks/paper.py --quick

Networks (3,2,2) with |U| = 0.3 and noise 0.1 (GLOREE), and (3,2,2) of one forward and one backward
unit (GLOREE-B), sequences of 3 steps from a Gaussian chain whose law is known. For each seed one
large data set is drawn and its first N steps are used. Beside each other: the paper's way with the
decomposition of the paper (whitening and tensor power method), with least squares in its place, and
`SpectralRNNRegressor`. Errors are medians over seeds; the slope is that of log median error
against log N, its standard error from leaving out one seed at a time; the constant is the error
times the root of N at the largest N.

Also, over random networks (6,4,4): how far the reshaped moment of order four, sum A2_i (x)
sym(R_i (x) R_i) with R_i = sum_j U_ij a_j a_j^T, is from its un-symmetrised reading, sum A2_i (x)
R_i (x) R_i; and the error of U that this reading makes on population moments, signs apart.

Acceptance: slopes of all weights of the paper's way (with least squares) within two standard
errors plus 0.1 of -0.5.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from _common import Column, Output, main_errors, option_parser
from tqdm import tqdm

from gloree import SpectralRNNRegressor, datasets, paper
from gloree.models import ExplosionError

STEPS = [10_000, 30_000, 100_000, 300_000, 1_000_000]
QUICK_STEPS = [3_000, 30_000]
LENGTH = 3
NETWORKS = 200


def simulated(seed: int, n_steps: int, both_ways: bool) -> tuple[Any, ...]:
    """Inputs, outputs, network and law of one seed."""
    for attempt in range(20):
        rng = np.random.default_rng([seed, attempt])
        chain = datasets.make_chain(3, random_state=rng)
        if both_ways:
            truth: Any = datasets.random_brnn(3, 1, 1, 2, recurrence_norm=0.3, random_state=rng)
        else:
            truth = datasets.random_rnn(3, 2, 2, recurrence_norm=0.3, random_state=rng)
        X = chain.sample(n_steps // LENGTH, LENGTH, random_state=rng)
        try:
            return X, truth.simulate(X, noise=0.1, random_state=rng), truth, chain
        except ExplosionError:
            continue
    raise RuntimeError("the network exploded in 20 draws")


def fits(X: Any, Y: Any, chain: Any, both_ways: bool, seed: int) -> dict[str, tuple[Any, float]]:
    """Network and seconds of every way."""
    call = paper.gloree_b if both_ways else paper.gloree
    size: Any = (1, 1) if both_ways else 2
    found = {}
    for name, options in (("paper", "power"), ("paper, least squares", "least-squares")):
        begin = time.perf_counter()
        fit = call(X, Y, size, law=chain, method=options, random_state=seed)
        found[name] = (fit.model, time.perf_counter() - begin)
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = SpectralRNNRegressor(2, bidirectional=both_ways, random_state=seed).fit(X, Y)
    found["estimator"] = (fitted.model_, time.perf_counter() - begin)
    return found


def run(both_ways: bool, steps: list[int], n_seeds: int, bar: tqdm) -> dict[str, Any]:
    """Errors, (n_seeds, n_steps, n_weights), and seconds of every way."""
    errors: dict[str, list[list[list[float]]]] = {}
    seconds: dict[str, list[list[float]]] = {}
    names: list[str] = []
    for seed in range(n_seeds):
        X, Y, truth, chain = simulated(seed, max(steps), both_ways)
        rows: dict[str, list[list[float]]] = {}
        times: dict[str, list[float]] = {}
        for n in steps:
            part = slice(0, n // LENGTH)
            for name, (model, spent) in fits(X[part], Y[part], chain, both_ways, seed).items():
                try:
                    each = main_errors(model, truth)
                except ValueError:  # both units in one chain
                    each = dict.fromkeys(names or ["A1", "B1", "U", "V", "A2"], np.inf)
                names = list(each)
                rows.setdefault(name, []).append(list(each.values()))
                times.setdefault(name, []).append(spent)
            bar.update()
        for name in rows:
            errors.setdefault(name, []).append(rows[name])
            seconds.setdefault(name, []).append(times[name])
    return {
        "names": names,
        "errors": {name: np.array(value) for name, value in errors.items()},
        "seconds": {name: np.median(value, axis=0) for name, value in seconds.items()},
    }


def slope(steps: list[int], errors: np.ndarray) -> tuple[float, float]:
    """Slope of log median error over log N, and its standard error by the jackknife."""

    def fitted(some: np.ndarray) -> float:
        return float(np.polyfit(np.log(steps), np.log(np.median(some, axis=0)), 1)[0])

    n = len(errors)
    others = np.array([fitted(np.delete(errors, seed, axis=0)) for seed in range(n)])
    spread = np.sqrt((n - 1) / n * np.sum((others - others.mean()) ** 2))
    return fitted(errors), float(spread)


def unsymmetrised(n_networks: int) -> tuple[float, float]:
    """Medians of the distance of the un-symmetrised reading, and of the error of U by it."""
    found, errors = [], []
    for seed in range(n_networks):
        truth = datasets.random_rnn(6, 4, 4, recurrence_norm=0.3, random_state=seed)
        A, U = truth.input_weights, truth.recurrent_weights
        R = np.einsum("ij,ja,jb->iab", U, A, A)
        plain = np.einsum("io,iab,icd->oabcd", truth.output_weights, R, R)
        orders = ((0, 1, 2, 3, 4), (0, 1, 3, 2, 4), (0, 1, 4, 2, 3))
        symmetric = sum(plain.transpose(*axes) for axes in orders) / 3
        found.append(float(np.linalg.norm(plain - symmetric) / np.linalg.norm(symmetric)))
        # contracted along dual vectors, the moment of unit i is (U_im U_in + 2 U_im^2 [m = n]) / 3
        wrong = np.zeros_like(U)
        for i, row in enumerate(U):
            seen = (np.outer(row, row) + 2 * np.diag(row**2)) / 3
            values, vectors = np.linalg.eigh(seen)
            wrong[i] = np.sqrt(values[-1]) * vectors[:, -1]
            wrong[i] *= np.sign(wrong[i] @ row)
        errors.append(float(np.linalg.norm(wrong - U) / np.linalg.norm(U)))
    return float(np.median(found)), float(np.median(errors))


def main() -> None:
    parser = option_parser(__doc__, seeds=10)
    arguments = parser.parse_args()
    n_seeds = arguments.seeds or (3 if arguments.quick else 10)
    steps = QUICK_STEPS if arguments.quick else STEPS
    out = Output(arguments)
    met = True
    with tqdm(total=2 * n_seeds * len(steps), desc="paper") as bar:
        for key, title, both_ways in (
            ("gloree", "GLOREE", False),
            ("gloree_b", "GLOREE-B", True),
        ):
            found = run(both_ways, steps, n_seeds, bar)
            rows = []
            for name, errors in found["errors"].items():
                for w, weight in enumerate(found["names"]):
                    medians = np.median(errors[:, :, w], axis=0)
                    value, spread = slope(steps, errors[:, :, w])
                    rows.append(
                        {
                            "name": f"{name}, {weight}",
                            **{f"n{n}": e for n, e in zip(steps, medians, strict=True)},
                            "slope": value,
                            "standard_error": spread,
                            "constant": float(medians[-1] * np.sqrt(steps[-1])),
                        }
                    )
                    if name == "paper, least squares":
                        met &= abs(value + 0.5) <= 0.1 + 2 * spread
            out.table(
                key,
                f"{title} and the estimator: median relative errors over {n_seeds} seeds",
                [
                    Column("", "{name}"),
                    *(Column(f"{n:,} steps", f"{{n{n}:.2g}}") for n in steps),
                    Column("slope", "{slope:.2f} +- {standard_error:.2f}"),
                    Column("error times root of N", "{constant:.3g}"),
                ],
                rows,
            )
            out.table(
                f"{key}_seconds",
                f"{title} and the estimator: seconds",
                [Column("", "{name}"), *(Column(f"{n:,} steps", f"{{n{n}:.2f}}") for n in steps)],
                [
                    {"name": name, **{f"n{n}": s for n, s in zip(steps, spent, strict=True)}}
                    for name, spent in found["seconds"].items()
                ],
            )
    apart, error = unsymmetrised(20 if arguments.quick else NETWORKS)
    out.figure("unsymmetrised", 100 * apart, "{value:.0f} %", "un-symmetrised reading: distance")
    out.figure("misread", 100 * error, "{value:.0f} %", "error of U by the un-symmetrised reading")
    out.target("slopes", met, "slopes of the paper's way with least squares near -1/2")
    out.close()


if __name__ == "__main__":
    main()
