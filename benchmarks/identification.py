"""Identification of dynamic systems: error of the free run on two benchmarks, and linear systems.

    python benchmarks/identification.py --wiener-hammerstein PATH --silverbox PATH [--quick]

Neither file is part of this project; both are found at https://www.nonlinearbenchmark.org.

* Wiener-Hammerstein (2009): rows 5,200-105,199 train, rows 105,200-183,999 test, in free run from
  rest, without the first 50 test samples. Measured: the defaults on all training rows; the defaults
  on five stretches of 30,000 training rows; orders of the linear part given by hand.
* Silverbox: rows 40,650-127,399 are a multisine, of which the first 75 % train and the rest test;
  rows 100-40,574 are the arrow, beyond the amplitudes of the training rows. The free run goes over
  the whole record from its first row.
* Without files: linear systems of order 2 to 20 with two inputs and two outputs, white inputs and
  one percent of noise: are the realisations stable, and how far are their poles from the truth?

Every fit has `max_seconds` seconds and reaches what it reaches in that time: figures depend on the
machine, and on what else runs on it.

Acceptance: on the full training stretch below 0.5 mV, on each shorter stretch below 1 mV; Silverbox
below 0.5 mV on both parts; all linear systems stable.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from _common import Output, median, number, option_parser
from tqdm import tqdm

from gloree import IORNN, SystemIdentifier, datasets
from gloree.engine import Engine
from gloree.identification import ho_kalman, impulse_response
from gloree.metrics import root_mean_square_error
from gloree.models import ExplosionError
from gloree.sequences import as_sequences

TRAIN = slice(5_200, 105_200)
TEST = slice(105_200, 184_000)
SKIP = 50
STRETCHES = (5_200, 20_000, 35_000, 50_000, 65_000)
STRETCH = 30_000
ORDERS = (5, 6, 7, 8, 9)

ARROW = slice(100, 40_575)
MULTISINE = slice(40_650, 127_400)
SILVERBOX_UNITS = (("cubic", 2, "cubic"), ("default", None, "tanh"))

LINEAR_ORDERS = (2, 4, 6, 8, 10, 12, 16, 20)
CHANNELS = 2
LINEAR_ROWS = 20_000
LINEAR_NOISE = 0.01
LARGEST_POLE = 0.95
CLOSEST = 0.05
"""Distance of two poles of a system, at least: closer ones cannot be told apart."""


def main() -> None:
    parser = option_parser(__doc__, seeds=50)
    parser.add_argument("--wiener-hammerstein", type=Path, metavar="PATH", help="its CSV file")
    parser.add_argument("--silverbox", type=Path, metavar="PATH", help="its CSV file")
    parser.add_argument("--seconds", type=float, help="of a fit (default 60; Silverbox 10)")
    arguments = parser.parse_args()
    out = Output(arguments)
    results: dict[str, Any] = {}
    if arguments.wiener_hammerstein is not None:
        seconds = arguments.seconds or (8.0 if arguments.quick else 60.0)
        results["wiener-hammerstein"] = wiener_hammerstein(
            out, arguments.wiener_hammerstein, seconds, arguments.quick
        )
    if arguments.silverbox is not None:
        seconds = arguments.seconds or (5.0 if arguments.quick else 10.0)
        results["silverbox"] = silverbox(out, arguments.silverbox, seconds)
    results["linear"] = linear_systems(
        out, arguments.seeds or (3 if arguments.quick else 50), arguments.quick
    )
    out.close(results)


def fitted(est: SystemIdentifier, u: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Fit; what the report says, without errors on test data."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        begin = time.perf_counter()
        try:
            est.fit(u, y)
        except (ExplosionError, ValueError) as error:
            return {"failed": str(error)}
        seconds = time.perf_counter() - begin
    report = est.report_
    stages = {stage.name: stage.seconds for stage in report.stages}
    chosen = [kind.degree != 1 for kind in getattr(est.model_.activation, "units", ())]
    return {
        "seconds": seconds,
        # moments alone are known after these two
        "moments_seconds": stages["linear model"] + stages.get("nonlinearity", 0.0),
        "stages": stages,
        "order": len(report.poles),
        "units": int(sum(chosen)),
        "nonlinear": report.nonlinear,
        "status": report.refinement_status.name if report.refinement_status else "-",
        "steps": report.refinement_steps,
        "held_out": report.refined_error,
        "warnings": [str(each.message) for each in caught],
    }


def millivolts(model: IORNN, u: np.ndarray, y: np.ndarray, skip: int = SKIP) -> float:
    """Root mean square error of the free run; infinite where it explodes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predicted = model.predict(u, on_explosion="nan")
    error = 1e3 * float(root_mean_square_error(y, predicted, skip=skip)[0])
    return error if np.isfinite(error) else float("inf")


def wiener_hammerstein(out: Output, path: Path, seconds: float, quick: bool) -> list[dict]:
    """Defaults, stretches, orders by hand."""
    table = datasets.read_csv(path)
    whole = slice(TRAIN.start, TRAIN.start + STRETCH) if quick else TRAIN
    runs: list[tuple[str, str, slice, dict[str, Any]]] = [("all", "defaults", whole, {})]
    rows = [slice(start, start + STRETCH) for start in (STRETCHES[:1] if quick else STRETCHES)]
    runs += [("stretch", f"rows from {part.start:,}", part, {}) for part in rows]
    runs += [
        ("order", f"{order} linear states, 5 units", whole, {"n_linear": order, "n_nonlinear": 5})
        for order in (ORDERS[1:2] if quick else ORDERS)
    ]
    results = []
    for part, label, train, settings in tqdm(runs, desc="Wiener-Hammerstein"):
        est = SystemIdentifier(max_seconds=seconds, **settings)
        result = {"part": part, "label": label, "start": train.start, **settings}
        result |= fitted(est, table.X[train], table.Y[train])
        for name, model in models_of(est, result).items():
            result[name] = millivolts(model, table.X[TEST], table.Y[TEST])
        results.append(result)
    for part, title in (
        ("all", f"all {whole.stop - whole.start:,} training rows"),
        ("stretch", f"stretches of {STRETCH:,} training rows, defaults"),
        ("order", f"orders by hand, {whole.stop - whole.start:,} training rows"),
    ):
        out.table(
            f"Wiener-Hammerstein, test RMSE in mV: {title}, {seconds:g} s each",
            ["", "linear", "moments alone", "after s", "refined", "after s", "states", "units"],
            [
                [
                    each["label"],
                    f"{each['linear']:.2f}",
                    f"{each['moments']:.2f}",
                    f"{each['moments_seconds']:.1f}",
                    f"{each['refined']:.3f}",
                    f"{each['seconds']:.1f}",
                    str(each["order"]),
                    str(each["units"]),
                ]
                for each in results
                if each["part"] == part and "failed" not in each
            ],
        )
    return results


def models_of(est: SystemIdentifier, result: dict[str, Any]) -> dict[str, IORNN]:
    """The three networks of a fit, none of one that failed."""
    if "failed" in result:
        print(f"{result['label']}: no fit, {result['failed']}")
        return {}
    return {"linear": est.linear_model_, "moments": est.moments_model_, "refined": est.model_}


def silverbox(out: Output, path: Path, seconds: float) -> list[dict]:
    """Cubic units, and the defaults, on both test parts."""
    table = datasets.read_csv(path)
    u, y = table.X, table.Y
    cut = MULTISINE.start + (MULTISINE.stop - MULTISINE.start) * 3 // 4
    train = slice(MULTISINE.start, cut)
    parts = {"multisine": slice(cut, MULTISINE.stop), "arrow": ARROW}
    results = []
    for label, units, kind in tqdm(SILVERBOX_UNITS, desc="Silverbox"):
        est = SystemIdentifier(n_nonlinear=units, unit=kind, max_seconds=seconds)
        result: dict[str, Any] = {"label": label, "unit": kind, **fitted(est, u[train], y[train])}
        for name, model in models_of(est, result).items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                simulated = model.predict(u, on_explosion="nan")
            for part, rows in parts.items():
                error = 1e3 * float(root_mean_square_error(y[rows], simulated[rows])[0])
                result[f"{name}_{part}"] = error if np.isfinite(error) else float("inf")
        results.append(result)
    out.table(
        f"Silverbox, RMSE in mV of the free run: multisine / arrow, {seconds:g} s each",
        ["", "linear", "moments alone", "after s", "refined", "after s", "states", "units"],
        [
            [
                f"{each['label']} ({each['unit']} units)",
                *both(each, "linear", 2),
                *both(each, "moments", 2),
                f"{each['moments_seconds']:.1f}",
                *both(each, "refined", 3),
                f"{each['seconds']:.1f}",
                str(each["order"]),
                str(each["units"]),
            ]
            for each in results
            if "failed" not in each
        ],
    )
    return results


def both(result: dict[str, Any], name: str, digits: int) -> list[str]:
    """One cell with both parts."""
    return [f"{result[f'{name}_multisine']:.{digits}f} / {result[f'{name}_arrow']:.{digits}f}"]


def random_poles(rng: np.random.Generator, order: int) -> np.ndarray:
    """Real poles and complex pairs inside a circle, none close to another; upper half plane."""
    n_pairs = int(rng.integers(order // 4, order // 2 + 1))
    n_real = order - 2 * n_pairs
    while True:
        real = rng.uniform(-LARGEST_POLE, LARGEST_POLE, n_real) + 0j
        radius = LARGEST_POLE * np.sqrt(rng.uniform(0.1, 1.0, n_pairs))
        pairs = radius * np.exp(1j * rng.uniform(0.05, np.pi - 0.05, n_pairs))
        poles = np.concatenate((real, pairs, np.conj(pairs)))
        gaps = np.abs(poles[:, None] - poles[None, :]) + 2.0 * np.eye(order)
        if gaps.min() > CLOSEST:
            return np.concatenate((real, pairs))


def random_system(rng: np.random.Generator, order: int) -> IORNN:
    """Linear system with such poles, in modal form; inputs and outputs reach all modes alike."""
    U = np.zeros((order, order))
    place = 0
    for pole in random_poles(rng, order):
        if pole.imag == 0.0:
            U[place, place] = pole.real
            place += 1
        else:
            U[place : place + 2, place : place + 2] = [
                [pole.real, pole.imag],
                [-pole.imag, pole.real],
            ]
            place += 2
    # rows of one mode have the same sum of squares, its squared modulus: white inputs then give all
    # states about the same variance, where slow modes would dominate
    size = np.sqrt(1.0 - np.sum(U**2, axis=1))
    return IORNN(
        size[:, None] * rng.standard_normal((order, CHANNELS)),
        U,
        rng.standard_normal((order, CHANNELS)),
        direct_weights=np.zeros((CHANNELS, CHANNELS)),
        activation="linear",
    )


def pole_error(found: np.ndarray, truth: np.ndarray) -> float:
    """Largest distance after matching one to one."""
    from scipy.optimize import linear_sum_assignment

    distance = np.abs(found[:, None] - truth[None, :])
    return float(distance[linear_sum_assignment(distance)].max())


def linear_systems(out: Output, n_seeds: int, quick: bool) -> list[dict]:
    """Realisations of the true order."""
    results, table = [], []
    orders = (2, 6, 20) if quick else LINEAR_ORDERS
    n_rows = 5_000 if quick else LINEAR_ROWS
    engine = Engine("serial")
    for order in tqdm(orders, desc="linear systems"):
        cases = []
        for seed in range(n_seeds):
            rng = np.random.default_rng((order, seed))
            system = random_system(rng, order)
            u = rng.standard_normal((n_rows, CHANNELS))
            y = system.predict(u)
            y += LINEAR_NOISE * y.std(axis=0) * rng.standard_normal(y.shape)
            begin = time.perf_counter()
            response = impulse_response(as_sequences(u, y), 120, engine)
            realisation = ho_kalman(response.parameters, order)
            seconds = time.perf_counter() - begin
            truth = np.linalg.eigvals(system.recurrent_weights)
            radius = float(np.abs(realisation.poles).max())
            cases.append(
                {
                    "order": order,
                    "seed": seed,
                    "error": pole_error(realisation.poles, truth),
                    "radius": radius,
                    "moved": realisation.n_moved,
                    "seconds": seconds,
                }
            )
        results += cases
        errors = [case["error"] for case in cases]
        table.append(
            [
                str(order),
                f"{sum(case['radius'] < 1 for case in cases)} of {n_seeds}",
                str(sum(case["moved"] > 0 for case in cases)),
                number(median(errors)),
                number(max(errors)),
                f"{median([case['seconds'] for case in cases]):.2f}",
            ]
        )
    out.table(
        f"Linear systems of {CHANNELS} inputs and outputs, {n_rows:,} samples, "
        f"{100 * LINEAR_NOISE:g} % of noise: largest error of a pole, {n_seeds} systems each",
        ["order", "stable", "poles moved", "median", "worst", "seconds"],
        table,
    )
    return results


if __name__ == "__main__":
    main()
