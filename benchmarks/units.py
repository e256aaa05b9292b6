"""What fits and decompositions say of units too many, and whether they leave mirror images.

    python benchmarks/units.py
    python benchmarks/units.py --quick

* Decompositions: planted tensors with isotropic noise of 1/100, 1/20 and 1/10 of their norm,
  decomposed with the right rank, and with one component more than there are. How many are accepted?
* Fits: data of known networks, fitted with the right number of units, with one and with two more.
  A right fit is *doubted* if it warns of its units (an AcceptanceWarning); one
  with too many is *silent* if it gives no warning at all. With moments alone, too.
* Mirror images: cubic units with lower terms and free biases. A fit has *arrived* if its squared
  error is less than 10 noise variances above that of a descent from the truth (with p weights the
  truth itself is about p above it).

Acceptance: no decomposition with a component too many is accepted, no refined fit with units too
many is silent, at most 8 % of right ones are rejected, and all mirror images are left.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from _common import Column, Output, option_parser, oracle
from tqdm import tqdm

from gloree import IORNN, SpectralRNNRegressor, datasets
from gloree.activations import Polynomial
from gloree.decomposition import cp_tensor, decompose
from gloree.diagnostics import AcceptanceWarning, GloreeWarning

CELLS = ((3, 5, 4), (5, 8, 8), (8, 10, 10), (12, 14, 12))
RATIOS = (100, 20, 10)
LOWER_TERMS = Polynomial((0.0, 1.0, 0.5, 0.2))
MIRROR_CELLS = ((6, 1, 2, 4000, 10), (7, 4, 6, 8000, 3), (3, 1, 5, 8000, 2), (5, 3, 4, 2000, 10))
ARRIVED = 10.0
MOST_REJECTED = 0.08
FITS, FITS_OF_MANY = 25, 5
"""Fits of each kind, and of the one with 12 units, which take longer."""


def planted(cell: tuple[int, int, int], rank: int, ratio: float, seed: int) -> np.ndarray:
    """Tensor of normal loadings and components, and noise."""
    _, n_inputs, n_outputs = cell
    rng = np.random.default_rng([seed, *cell])
    components = rng.standard_normal((rank, n_inputs))
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    tensor = cp_tensor(rng.standard_normal((rank, n_outputs)), components, order=2)
    noise = rng.standard_normal(tensor.shape)
    noise = noise + noise.swapaxes(1, 2)
    return tensor + noise * np.linalg.norm(tensor) / np.linalg.norm(noise) / ratio


def decompositions(out: Output, n_seeds: int) -> None:
    """Accepted decompositions of the right rank, and of one too many."""
    rows = []
    for cell in tqdm(CELLS, desc="decompositions"):
        rank = cell[0]
        row = {"cell": "{} of {} inputs, {} outputs".format(*cell), "right": 0, "wrong": 0}
        for ratio in RATIOS:
            for seed in range(n_seeds):
                tensor = planted(cell, rank, ratio, seed)
                row["right"] += decompose(tensor, rank, random_state=seed).accepted
                tensor = planted(cell, rank - 1, ratio, seed)
                row["wrong"] += decompose(tensor, rank, random_state=seed).accepted
        rows.append({**row, "tensors": len(RATIOS) * n_seeds})
    out.table(
        "decompositions",
        f"Accepted decompositions, noise of 1/100, 1/20 and 1/10 with {n_seeds} tensors each",
        [
            Column("components", "{cell}"),
            Column("right rank", "{right} of {tensors}"),
            Column("one too many", "{wrong} of {tensors}"),
        ],
        rows,
    )
    n_tensors, right = (sum(row[name] for row in rows) for name in ("tensors", "right"))
    wrong = sum(row["wrong"] for row in rows)
    out.figure("tensors", n_tensors, "{value}", "Tensors of each kind")
    out.figure("accepted_wrong", wrong, "{value}", "Accepted with a component too many")
    share = 100 * (1 - right / n_tensors)
    out.figure("rejected_right", share, "{value:.1f} %", "Rejected at the right rank")
    out.target("ranks_met", wrong == 0 and share <= 100 * MOST_REJECTED, "Ranks are judged right")


def simulated(seed: int, sizes: tuple[int, ...], relative: float, **options: Any) -> Any:
    """Outputs with noise of a standard deviation relative to theirs."""
    X, Y, truth, _ = datasets.make_rnn(*sizes, noise=0.0, random_state=seed, **options)
    rng = np.random.default_rng([seed, 1])
    return X, Y + relative * Y.std() * rng.standard_normal(Y.shape), truth


def with_biases(seed: int) -> Any:
    """Quadratic units with biases."""
    X, _, truth = simulated(seed, (1000, 10, 6, 4, 5), 0.0)
    rng = np.random.default_rng([seed, 2])
    model = truth.replace(
        hidden_bias=0.3 * rng.standard_normal(4), output_bias=rng.standard_normal(5)
    )
    Y = model.predict(X)
    return X, Y + 0.2 * Y.std() * rng.standard_normal(Y.shape), model


def windows(seed: int) -> Any:
    """Units that read two steps."""
    X = datasets.make_rnn(1500, 10, 3, 3, 4, random_state=seed)[0]
    rng = np.random.default_rng([seed, 3])
    rows, weights = rng.standard_normal((3, 6)), rng.standard_normal((3, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    model = IORNN(rows, np.zeros((3, 3)), weights, lags=2)
    Y = model.predict(X)
    return X, Y + 0.3 * Y.std() * rng.standard_normal(Y.shape), model


Kind = tuple[Callable[[int], Any], int, dict[str, Any]]
KINDS: dict[str, Kind] = {
    "4 units": (lambda seed: simulated(seed, (1000, 10, 6, 4, 5), 0.2), 4, {}),
    "as much noise as signal": (lambda seed: simulated(seed, (1000, 10, 6, 4, 5), 1.0), 4, {}),
    "100 sequences": (lambda seed: simulated(seed, (100, 10, 6, 4, 5), 0.2), 4, {}),
    "one record": (
        lambda seed: simulated(seed, (1, 8000, 5, 3, 4), 0.2, recurrence_norm=0.05),
        3,
        {},
    ),
    "12 units": (lambda seed: simulated(seed, (1500, 10, 14, 12, 12), 0.2), 12, {}),
    "cubic": (
        lambda seed: simulated(seed, (2000, 10, 5, 3, 4), 0.2, degree=3),
        3,
        {"activation": "cubic"},
    ),
    "biases": (with_biases, 4, {}),
    "two directions": (
        lambda seed: simulated(seed, (2000, 10, 5, 4, 5), 0.2, bidirectional=True),
        4,
        {"bidirectional": True},
    ),
    "lags": (windows, 3, {"lags": 2, "recurrence": None}),
}


def warned(X: np.ndarray, Y: np.ndarray, n_hidden: int, options: dict[str, Any]) -> set[type]:
    """Kinds of warnings that a fit gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        SpectralRNNRegressor(n_hidden, random_state=0, engine="serial", **options).fit(X, Y)
    return {each.category for each in caught if issubclass(each.category, GloreeWarning)}


def fits(out: Output, n_seeds: int) -> None:
    """Doubted right fits and silent wrong ones."""
    rows = []
    for name, (make, n_hidden, options) in tqdm(KINDS.items(), desc="fits"):
        n_fits = min(n_seeds, FITS_OF_MANY if n_hidden > 10 else FITS)
        row: dict[str, Any] = {"kind": name, "fits": n_fits}
        columns = ("doubted", "silent1", "silent2", "moments_doubted", "moments_silent1")
        row.update(dict.fromkeys(columns, 0))
        for seed in range(n_fits):
            X, Y, _ = make(seed)
            for prefix, more in (("", {}), ("moments_", {"refine": None})):
                found = warned(X, Y, n_hidden, {**options, **more})
                row[f"{prefix}doubted"] += AcceptanceWarning in found
                for extra in (1, 2) if not more else (1,):
                    found = warned(X, Y, n_hidden + extra, {**options, **more})
                    row[f"{prefix}silent{extra}"] += not found
        rows.append(row)
    out.table(
        "fits",
        "Right fits that are doubted, and silent ones with units too many",
        [
            Column("data", "{kind}"),
            Column("fits", "{fits}"),
            Column("right, doubted", "{doubted}"),
            Column("one too many, silent", "{silent1}"),
            Column("two too many, silent", "{silent2}"),
            Column("moments alone: right, doubted", "{moments_doubted}"),
            Column("moments alone: one too many, silent", "{moments_silent1}"),
        ],
        rows,
    )
    total = {key: sum(row[key] for row in rows) for key in rows[0] if key != "kind"}
    out.figure("fits", total["fits"], "{value}", "Fits of each number of units")
    for key, what in (
        ("silent1", "Silent with one unit too many"),
        ("silent2", "Silent with two units too many"),
        ("moments_silent1", "Silent with one unit too many, moments alone"),
    ):
        out.figure(key, total[key], "{value}", what)
    for key, what in (
        ("doubted", "Right fits that are doubted"),
        ("moments_doubted", "Right fits that are doubted, moments alone"),
    ):
        out.figure(key, 100 * total[key] / total["fits"], "{value:.1f} %", what)
    silent = total["silent1"] + total["silent2"]
    met = silent == 0 and total["doubted"] <= MOST_REJECTED * total["fits"]
    out.target("fits_met", met, "Units too many are noticed, right fits are not doubted")


def with_mirrors(cell: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray, IORNN]:
    """Cubic units with lower terms, weak recurrence and biases, little noise."""
    n_inputs, n_hidden, n_outputs, n_sequences, n_steps = cell
    rng = np.random.default_rng([seed, *cell])
    rows, U = rng.standard_normal((n_hidden, n_inputs)), rng.standard_normal((n_hidden, n_hidden))
    truth = IORNN(
        rows / np.linalg.norm(rows, axis=1, keepdims=True),
        0.03 * U / np.linalg.norm(U, 2),
        rng.standard_normal((n_hidden, n_outputs)) / np.sqrt(n_hidden),
        hidden_bias=0.3 * rng.standard_normal(n_hidden),
        output_bias=rng.standard_normal(n_outputs),
        activation=LOWER_TERMS,
    )
    X = datasets.make_chain(n_inputs, random_state=rng).sample(n_sequences, n_steps, rng)
    Y = truth.predict(X)
    return X, Y + 0.05 * Y.std() * rng.standard_normal(Y.shape), truth


def mirrors(out: Output, n_seeds: int) -> None:
    """Fits whose units could end in mirror images."""
    rows = []
    for cell in tqdm(MIRROR_CELLS, desc="mirror images"):
        above = []
        for seed in range(n_seeds):
            X, Y, truth = with_mirrors(cell, seed)
            fit = SpectralRNNRegressor(
                truth.n_hidden, activation=LOWER_TERMS, random_state=0, engine="serial"
            ).fit(X, Y)
            loss = np.mean((fit.predict(X) - Y) ** 2)
            above.append(float((loss / oracle(X, Y, truth).loss - 1) * Y.size))
        n_inputs, n_hidden, n_outputs, n_sequences, n_steps = cell
        rows.append(
            {
                "cell": f"{n_hidden} unit(s), {n_inputs} inputs, {n_outputs} outputs",
                "data": f"{n_sequences} x {n_steps}",
                "arrived": sum(each < ARRIVED for each in above),
                "fits": n_seeds,
                "worst": max(above),
            }
        )
    out.table(
        "mirrors",
        "Cubic units with lower terms and biases: fits that arrive at the optimum",
        [
            Column("network", "{cell}"),
            Column("data", "{data}"),
            Column("arrived", "{arrived} of {fits}"),
            Column("farthest above", "{worst:.1f}", "noise variances"),
        ],
        rows,
    )
    arrived, n_fits = (sum(row[key] for row in rows) for key in ("arrived", "fits"))
    out.figure("arrived", arrived, "{value}", "Fits that left all mirror images")
    out.figure("mirror_fits", n_fits, "{value}", "Fits that might end in mirror images")
    out.target("mirrors_met", arrived == n_fits, "All mirror images are left")


def main() -> None:
    arguments = option_parser(__doc__, seeds=15).parse_args()
    out = Output(arguments)
    n_seeds = arguments.seeds or (1 if arguments.quick else 15)
    decompositions(out, n_seeds)
    fits(out, n_seeds)
    mirrors(out, n_seeds)
    out.close()


if __name__ == "__main__":
    main()
