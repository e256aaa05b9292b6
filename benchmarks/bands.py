"""Bands of frequency responses, poles and free runs, and how often they hold the true ones.

    python benchmarks/bands.py
    python benchmarks/bands.py --quick

Each repetition draws a linear system (complex poles of modulus 0.6 to 0.95 at angles apart, a real
one of 0.3 to 0.9 where the order is odd), a record of 500 samples of its input (an autoregression
of 0.5) from a random state, and noise of a fifth of each output's size: white, or an autoregression
of order two with a resonance. Gauss-Newton finds the least squares of the free run, from the truth
(so that no search can fail); bands of 95 % come from `AtRecords.uncertainty`, which estimates the
noise's spectrum and the state at the start. Coverage is the share of

* response: magnitudes at 30 frequencies, logarithmic from 0.005 to 0.5 cycles a sample, each path;
* poles: true poles inside the interval (real) or ellipse (complex) around the estimate;
* free run: outputs measured on 500 new samples inside prediction intervals;
* step: step responses over 40 steps.

Its standard error is that of the mean over repetitions. Missed and feedback are the shares of
repetitions in which the tests of residuals reject at 5 %, though nothing is missed.

The second table has fits by `SystemIdentifier`, which knows the order only.

Acceptance: coverage of 93 to 97 % in every row, but for three standard errors.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from _common import Column, Output, option_parser
from scipy import signal, stats
from scipy.linalg import block_diag
from tqdm import tqdm

from gloree import IORNN, SystemIdentifier
from gloree.sequences import Sequences, as_sequences
from gloree.systems import (
    AtRecords,
    Uncertainty,
    at_records,
    characteristics,
    frequency_response,
    prediction_intervals,
    residual_tests,
    time_response,
)

LEVEL = 0.95
LOWEST, HIGHEST = 0.93, 0.97
N_ROWS, NOISE = 500, 0.2
FREQUENCIES = np.geomspace(0.005, 0.5, 30)
N_STEPS = 40
COLOURED = [1.0, -1.2, 0.6]
KINDS = {"response": "response", "poles": "poles", "run": "free run", "step": "step"}


class Row(NamedTuple):
    """Order, inputs and outputs, and noise."""

    order: int
    n_channels: int
    noise: str

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.order}, {self.n_channels}x{self.n_channels}, {self.noise}"


ROWS = tuple(
    Row(order, n, noise)
    for order, n in ((1, 1), (2, 1), (3, 1), (4, 1), (2, 2), (4, 2))
    for noise in ("white", "coloured")
)
FITTED = (Row(2, 1, "coloured"), Row(3, 1, "white"), Row(4, 2, "coloured"))


def draw_system(row: Row, rng: np.random.Generator) -> IORNN:
    """A linear network in random orthogonal coordinates."""
    n_pairs = row.order // 2
    angles = np.pi * (0.15 + 0.7 * (np.arange(n_pairs) + rng.uniform(0.2, 0.8, n_pairs)) / 2)
    blocks = [
        r * np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
        for r, a in zip(rng.uniform(0.6, 0.95, n_pairs), angles, strict=True)
    ]
    blocks += [np.array([[rng.uniform(0.3, 0.9)]])] * (row.order % 2)
    change = np.linalg.qr(rng.standard_normal((row.order, row.order)))[0]
    m = row.n_channels

    def weights(*shape: int) -> np.ndarray:
        values = rng.standard_normal(shape)
        return np.asarray(np.sign(values) * (0.5 + np.abs(values)))

    return IORNN(
        change @ weights(row.order, m),
        change @ block_diag(*blocks) @ change.T,
        change @ weights(row.order, m),
        output_bias=weights(m),
        direct_weights=weights(m, m),
        activation="linear",
    )


def draw_records(
    row: Row, truth: IORNN, rng: np.random.Generator
) -> tuple[Sequences, Sequences, np.ndarray]:
    """Training record, the record that follows it, and the true state between them."""
    m = row.n_channels
    n = 100 + 2 * N_ROWS
    u = signal.lfilter([1.0], [1.0, -0.5], rng.standard_normal((n, m)), axis=0)
    clean, states = truth.predict(u), truth.hidden_states(u)
    filtered = [1.0] if row.noise == "white" else COLOURED
    noise = signal.lfilter([1.0], filtered, rng.standard_normal((n + 200, m)), axis=0)[200:]
    y = clean + NOISE * clean.std(axis=0) * noise / noise.std(axis=0)
    first, second = slice(100, 100 + N_ROWS), slice(100 + N_ROWS, None)
    return (
        as_sequences(u[first], y[first]),
        as_sequences(u[second], y[second]),
        states[100 + N_ROWS - 1],
    )


def least_squares(model: IORNN, records: Sequences) -> AtRecords:
    """Gauss-Newton to the least squares of the free run; steps that do not help are shortened."""
    assert records.Y is not None
    size = records.Y.std(axis=0)

    def squares(at: AtRecords) -> float:
        return float(sum(np.sum(r**2 * at.weights) for r in at.residuals))

    at = at_records(model, records, output_size=size)
    for _ in range(30):
        pairs = zip(at.jacobians, at.residuals, strict=True)
        g = sum(np.einsum("tap,a,ta->p", J, at.weights, r) for J, r in pairs)
        step = at.basis @ (at.bread @ g)
        if float(g @ at.bread @ g) < 1e-4 * squares(at) / N_ROWS:
            break
        for fraction in (1.0, 0.5, 0.25, 0.1, 0.02):
            moved = at.layout.move(at.model, fraction * step)
            assert isinstance(moved, IORNN)
            if np.abs(np.linalg.eigvals(moved.recurrent_weights)).max() < 1:
                after = at_records(moved, records, output_size=size)
                if squares(after) < squares(at):
                    break
        else:
            break
        at = after
    return at


def inside(truth: np.ndarray, band: tuple[np.ndarray, np.ndarray]) -> float:
    """Share of values between the ends of a band."""
    slack = 1e-9 * np.abs(truth).max()  # of a step response before anything happens
    return float(np.mean((truth >= band[0] - slack) & (truth <= band[1] + slack)))


def poles_inside(truth: IORNN, known: Uncertainty) -> float:
    """Share of true poles in the region around the nearest estimate."""
    found, hits = characteristics(known.model, uncertainty=known).poles, []
    nu = known.degrees_of_freedom
    for pole in characteristics(truth).poles.values:
        i = int(np.argmin(np.abs(found.values - pole)))
        off = np.array([(pole - found.values[i]).real, (pole - found.values[i]).imag])
        covariance = found.covariance[i]
        if (pole.imag == 0) != (found.values[i].imag == 0):
            hits.append(False)
        elif pole.imag == 0:
            hits.append(abs(off[0]) <= known.quantile(LEVEL) * np.sqrt(covariance[0, 0]))
        else:
            distance = off @ np.linalg.solve(covariance, off) / 2
            hits.append(distance <= stats.f.ppf(LEVEL, 2, nu))
    return float(np.mean(hits))


def covered(
    truth: IORNN, known: Uncertainty, new: Sequences, state: np.ndarray
) -> dict[str, float]:
    """Share of each kind of quantity inside its band.

    `state` is that of the known model before the new record.
    """
    response = frequency_response(known.model, FREQUENCIES, uncertainty=known, level=LEVEL)
    step = time_response(known.model, N_STEPS, uncertainty=known, level=LEVEL)
    run = prediction_intervals(known, new.X, LEVEL, initial=state)
    assert new.Y is not None
    return {
        "response": inside(
            np.abs(frequency_response(truth, FREQUENCIES).response), response.magnitude_band()
        ),
        "poles": poles_inside(truth, known),
        "run": inside(new.Y, (run.lower, run.upper)),
        "step": inside(time_response(truth, N_STEPS).response, step.band()),
    }


def state_after(at: AtRecords) -> np.ndarray:
    """State of the model at the end of its training record."""
    h = at.states[0]
    drive = at.inputs[0] @ at.model.input_weights.T + at.model.hidden_bias
    for row in drive:
        h = row + at.model.recurrent_weights @ h
    return np.asarray(h)


def summary(name: str, found: list[dict[str, float]]) -> dict[str, Any]:
    """Mean and standard error of each share, in percent."""
    row: dict[str, Any] = {"system": name, "n": len(found)}
    for key in found[0]:
        values = 100 * np.array([each[key] for each in found])
        row[key] = float(values.mean())
        row[f"{key}_error"] = float(values.std(ddof=1) / np.sqrt(len(values)))
    return row


def columns(extra: dict[str, str]) -> list[Column]:
    """Columns of a table of coverage."""
    shares = [
        Column(word, f"{{{key}:.1f}} ± {{{key}_error:.1f}}", "%") for key, word in KINDS.items()
    ]
    rates = [Column(word, f"{{{key}:.1f}}", "%") for key, word in extra.items()]
    return [Column("order, size, noise", "{system}"), Column("systems", "{n}"), *shares, *rates]


def least_squares_rows(n_seeds: int) -> list[dict[str, Any]]:
    """Coverage around the least squares."""
    rows = []
    for row in tqdm(ROWS, desc="systems"):
        found = []
        for seed in range(n_seeds):
            rng = np.random.default_rng([row.order, row.n_channels, len(row.noise), seed])
            truth = draw_system(row, rng)
            records, new, _ = draw_records(row, truth, rng)
            at = least_squares(truth, records)
            tests = residual_tests(at, level=LEVEL)
            found.append(
                {
                    **covered(truth, at.uncertainty(), new, state_after(at)),
                    "missed": float(np.mean(tests.dynamics < 1 - LEVEL)),
                    "feedback": float(np.mean(tests.feedback < 1 - LEVEL)),
                }
            )
        rows.append(summary(row.name, found))
    return rows


def fitted_rows(n_seeds: int) -> list[dict[str, Any]]:
    """Coverage around fits by the estimator."""
    rows = []
    for row in tqdm(FITTED, desc="fits"):
        found = []
        for seed in range(n_seeds):
            rng = np.random.default_rng([7, row.order, row.n_channels, seed])
            truth = draw_system(row, rng)
            records, new, _ = draw_records(row, truth, rng)
            assert records.Y is not None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                est = SystemIdentifier(row.order, 0, max_seconds=10).fit(records.X, records.Y)
            at = at_records(est.model_, records, output_size=est.report_.output_size)
            found.append(covered(truth, at.uncertainty(), new, state_after(at)))
        rows.append(summary(row.name, found))
    return rows


def main() -> None:
    arguments = option_parser(__doc__, seeds=200).parse_args()
    out = Output(arguments)
    n_seeds = arguments.seeds or (3 if arguments.quick else 200)
    rows = least_squares_rows(n_seeds)
    out.table(
        "least_squares",
        "Coverage of bands of 95 % around the least squares",
        columns({"missed": "missed", "feedback": "feedback"}),
        rows,
    )
    fits = fitted_rows(max(2, n_seeds // 10))
    out.table("fits", "The same around fits by the estimator", columns({}), fits)
    shares = [(row[key], row[f"{key}_error"]) for row in rows for key in KINDS]
    out.figure("lowest", min(share for share, _ in shares), "{value:.1f}", "least coverage, %")
    out.figure("highest", max(share for share, _ in shares), "{value:.1f}", "largest coverage, %")
    met = all(100 * LOWEST - 3 * e <= c <= 100 * HIGHEST + 3 * e for c, e in shares)
    out.target("met", met, "acceptance, coverage of 93 to 97 % but for three standard errors")
    out.close()


if __name__ == "__main__":
    main()
