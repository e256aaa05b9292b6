"""Linear identification next to subspace methods of other packages: accuracy, stability and time.

    python -m pip install nfoursid sippy_unipi ctrlsys llsi control
    python benchmarks/linear_peers.py [--wiener-hammerstein PATH] [--quick]

Peers are optional; the script says which are missing. Packages and what they are used for:

* `nfoursid`: PO-MOESP for the observability matrix, states and weights by regression;
* `sippy_unipi`: N4SID, MOESP and CVA;
* `ctrlsys`, the SLICOT library: MOESP for A and C (IB01AD on correlations, IB01BD), then B, D and
  the initial state by least squares of the simulation error (IB01CD); with its N4SID, A and C are
  the same up to rounding;
* `llsi`: N4SID (one input and output) and PO-MOESP, whose window is fixed by the package;
* `control`: Markov parameters and the eigensystem realisation algorithm (ERA), the algorithm of
  gloree's moments but for the response's ridge and the least squares of the outputs.

Simulated systems: stable, of known order, one input and output or two of each; white inputs, and
inputs that are first-order autoregressions; noise of ten percent of the output's standard deviation
added to the output (output error). All methods are told the order, all estimate a direct path, and
all start at rest. "h 20" is a horizon (block rows) of 20 steps, past and future; 120 and 40 lags of
ERA are the Markov parameters that it is given.

*Error*: root mean square of the free run on a new input without noise, over that of the optimum:
Levenberg-Marquardt started at the true weights. *Pole error*: the largest distance after matching
one to one. *Unstable*: a pole on or beyond the unit circle.

Seconds are of the clock and, the better measure where other work shares the machine, of the
processor. A peer that takes longer than `--limit` seconds for a fit is not run again with as many
samples (a fit is not interrupted): "-" in the tables. nfoursid, whose memory grows with the square
of the samples, is left out above 10,000.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import Column, Output, median, modal_matrix, option_parser
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from gloree import IORNN, SpectralRNNRegressor, datasets
from gloree.engine import Engine, Source
from gloree.identification import ho_kalman, impulse_response, linear_model
from gloree.metrics import root_mean_square_error
from gloree.refinement import Layout, LevenbergMarquardt, SquaredError
from gloree.sequences import as_sequences

TRAIN = slice(5_200, 105_200)
TEST = slice(105_200, 184_000)
SKIP = 50
"""Of the Wiener-Hammerstein record; the first test samples are not counted."""

LARGEST_POLE = 0.95
CLOSEST = 0.05
"""Distance of two poles of a system, at least: closer ones cannot be told apart."""
CHANNELS = (1, 2)
ORDERS = (2, 4, 8)
ROWS = (2_000, 20_000)
INPUTS = ("white", "coloured")
COLOUR = 0.9
"""Autoregressive weight of coloured inputs."""
NOISE = 0.1
TEST_ROWS = 5_000
LAGS = 120
HORIZON = 20
BENCHMARK_ORDERS = (5, 6, 8, 10)
LARGEST_FOR_NFOURSID = 10_000
"""Samples: its full singular value decomposition has a matrix of samples x samples, 3.2 GB at
20,000 samples."""

System = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""A, B, C, D of x_{t+1} = A x_t + B u_t, y_t = C x_t + D u_t."""

GLOREE = "gloree"
MOMENTS = "gloree, moments alone"


def main() -> None:
    parser = option_parser(__doc__, seeds=10)
    parser.add_argument("--wiener-hammerstein", type=Path, metavar="PATH", help="its CSV file")
    parser.add_argument("--limit", type=float, default=15.0, help="seconds of a fit")
    parser.add_argument("--channels", type=int, nargs="+", help="inputs and outputs (default 1 2)")
    parser.add_argument("--rows", type=int, nargs="+", help=f"samples (default {ROWS})")
    parser.add_argument("--orders", type=int, nargs="+", help=f"of the systems (default {ORDERS})")
    arguments = parser.parse_args()
    methods, versions = available()
    out = Output(arguments, **versions)
    quick = arguments.quick
    simulated(
        out,
        methods,
        n_seeds=arguments.seeds or (2 if quick else 10),
        channels=arguments.channels or CHANNELS,
        orders=arguments.orders or (ORDERS[:2] if quick else ORDERS),
        rows=arguments.rows or (ROWS[:1] if quick else ROWS),
        limit=arguments.limit,
    )
    if arguments.wiener_hammerstein is not None:
        wiener_hammerstein(out, methods, arguments.wiener_hammerstein, quick)
    out.close()


Method = Callable[[np.ndarray, np.ndarray, int], System]


def gloree_refined(u: np.ndarray, y: np.ndarray, order: int) -> System:
    return state_space(SpectralRNNRegressor(n_hidden=order, activation="linear").fit(u, y).model_)


def gloree_moments(u: np.ndarray, y: np.ndarray, order: int) -> System:
    response = impulse_response(as_sequences(u, y), LAGS, Engine("serial"))
    return state_space(linear_model(ho_kalman(response.parameters, order), u, y).model)


def state_space(model: IORNN) -> System:
    """A network whose states see the present input, with states one step later."""
    U, B, C = model.recurrent_weights, model.input_weights, model.output_weights.T
    D = C @ B
    if model.direct_weights is not None:
        D = D + model.direct_weights.T
    return U, B, C @ U, D


def nfoursid(u: np.ndarray, y: np.ndarray, order: int) -> System:
    import pandas as pd
    from nfoursid.nfoursid import NFourSID

    ins = [f"u{i}" for i in range(u.shape[1])]
    outs = [f"y{i}" for i in range(y.shape[1])]
    table = pd.DataFrame(np.column_stack((u, y)), columns=ins + outs)
    found = NFourSID(table, output_columns=outs, input_columns=ins, num_block_rows=HORIZON)
    found.subspace_identification()
    system, _ = found.system_identification(rank=order)
    return system.a, system.b, system.c, system.d


def sippy(name: str, horizon: int = HORIZON) -> Method:
    def fit(u: np.ndarray, y: np.ndarray, order: int) -> System:
        from sippy_unipi import system_identification

        found = system_identification(
            y.T.copy(),
            u.T.copy(),
            name,
            SS_fixed_order=order,
            SS_f=horizon,
            SS_p=horizon,
            SS_D_required=True,
        )
        return found.A, found.B, found.C, found.D

    return fit


def slicot(name: str, horizon: int = HORIZON) -> Method:
    def fit(u: np.ndarray, y: np.ndarray, order: int) -> System:
        import ctrlsys

        ins, outs = np.asfortranarray(u), np.asfortranarray(y)
        m, q, n_rows = u.shape[1], y.shape[1], u.shape[0]
        _, factor, _, _, info = ctrlsys.ib01ad(
            name, "C", "N", "O", "N", "N", horizon, m, q, ins, outs, 0.0, -1.0
        )
        if info:
            raise ValueError(f"IB01AD returns {info}")
        A, C, B, D, *_, info = ctrlsys.ib01bd(
            name, "A", "N", horizon, order, m, q, n_rows, factor, 0.0
        )
        if info:
            raise ValueError(f"IB01BD returns {info}")
        _, B, D, *_, info = ctrlsys.ib01cd("X", "C", "D", order, m, q, A, B, C, D, ins, outs, 0.0)
        if info:
            raise ValueError(f"IB01CD returns {info}")
        return A, B, C, D

    return fit


def llsi(name: str) -> Method:
    def fit(u: np.ndarray, y: np.ndarray, order: int) -> System:
        import llsi

        ins = {f"u{i}": u[:, i] for i in range(u.shape[1])}
        outs = {f"y{i}": y[:, i] for i in range(y.shape[1])}
        data = llsi.SysIdData(Ts=1.0, **ins, **outs)
        found = llsi.sysid(data, list(outs), list(ins), order, method=name)
        return found.A, found.B, found.C, found.D

    return fit


def era(n_lags: int) -> Method:
    def fit(u: np.ndarray, y: np.ndarray, order: int) -> System:
        import control

        response = np.asarray(control.markov(y.T, u.T, m=n_lags))
        response = response.reshape(y.shape[1], u.shape[1], n_lags)
        found, _ = control.eigensys_realization(
            response, order, m=n_lags // 2, n=n_lags // 2 - 1, dt=True
        )
        return found.A, found.B, found.C, found.D

    return fit


PEERS: tuple[tuple[str, str, Method], ...] = (
    ("nfoursid", f"nfoursid, h {HORIZON}", nfoursid),
    ("sippy_unipi", f"SIPPY N4SID, h {HORIZON}", sippy("N4SID")),
    ("sippy_unipi", f"SIPPY MOESP, h {HORIZON}", sippy("MOESP")),
    ("sippy_unipi", f"SIPPY CVA, h {HORIZON}", sippy("CVA")),
    ("ctrlsys", f"SLICOT MOESP, h {HORIZON}", slicot("M")),
    ("ctrlsys", f"SLICOT MOESP, h {2 * HORIZON}", slicot("M", 2 * HORIZON)),
    ("llsi", "llsi N4SID", llsi("n4sid")),
    ("llsi", "llsi PO-MOESP", llsi("po-moesp")),
    ("control", f"control ERA, {LAGS} lags", era(LAGS)),
    ("control", "control ERA, 40 lags", era(40)),
)


def available() -> tuple[dict[str, Method], dict[str, str]]:
    """Methods that can run, by name, and versions of their packages."""
    methods: dict[str, Method] = {GLOREE: gloree_refined, MOMENTS: gloree_moments}
    versions: dict[str, str] = {}
    missing: list[str] = []
    for package, label, method in PEERS:
        if importlib.util.find_spec(package) is None:
            if package not in missing:
                missing.append(package)
            continue
        versions[package] = importlib.metadata.version(package)
        methods[label] = method
    for package in missing:
        print(f"{package} is missing, and left out: python -m pip install {package}")
    return methods, versions


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


def pole_error(found: np.ndarray, truth: np.ndarray) -> float:
    """Largest distance after matching one to one."""
    distance = np.abs(found[:, None] - truth[None, :])
    return float(distance[linear_sum_assignment(distance)].max())


def random_system(rng: np.random.Generator, order: int, channels: int) -> IORNN:
    """Linear system in modal form whose states have about the same variance."""
    U = modal_matrix(random_poles(rng, order))
    size = np.sqrt(1.0 - np.sum(U**2, axis=1))
    return IORNN(
        size[:, None] * rng.standard_normal((order, channels)),
        U,
        rng.standard_normal((order, channels)),
        direct_weights=rng.standard_normal((channels, channels)),
        activation="linear",
    )


def random_inputs(rng: np.random.Generator, n_rows: int, channels: int, kind: str) -> np.ndarray:
    """Inputs of variance one."""
    u = rng.standard_normal((n_rows, channels))
    if kind == "coloured":
        for t in range(1, n_rows):
            u[t] = COLOUR * u[t - 1] + np.sqrt(1.0 - COLOUR**2) * u[t]
    return u


def simulate(system: System, u: np.ndarray) -> np.ndarray:
    """Free run from rest; infinite from where it explodes."""
    A, B, C, D = system
    x = np.zeros(A.shape[0])
    driven, y = u @ B.T, u @ D.T
    for t in range(u.shape[0]):
        y[t] += C @ x
        x = A @ x + driven[t]
        if not abs(x).max() < 1e12:
            y[t:] = np.inf
            break
    return y


def relative_error(system: System, u: np.ndarray, y: np.ndarray) -> float:
    """Root mean square error over the standard deviation, all outputs alike."""
    left = simulate(system, u) - y
    if not np.isfinite(left).all():
        return float("inf")
    return float(np.sqrt(np.mean(np.mean(left**2, axis=0) / y.var(axis=0))))


def optimum(truth: IORNN, u: np.ndarray, y: np.ndarray) -> System:
    """Least simulation error, from the truth; 200 steps bring each piece of the record to rest."""
    channels = truth.n_inputs
    found = (
        LevenbergMarquardt(max_steps=15)
        .minimise(
            SquaredError(),
            truth,
            Layout(channels, truth.n_hidden, channels, direct=True),
            Engine("serial"),
            Source(as_sequences(u, y), segment=400, before=200),
        )
        .model
    )
    assert isinstance(found, IORNN)
    return state_space(found)


def run(
    method: Method, u: np.ndarray, y: np.ndarray, order: int
) -> tuple[System | str, dict[str, float]]:
    """Fit on centred data, or what went wrong; seconds of the clock and of the processor."""
    begin, begin_cpu = time.perf_counter(), time.process_time()

    def taken() -> dict[str, float]:
        return {
            "seconds": time.perf_counter() - begin,
            "cpu_seconds": time.process_time() - begin_cpu,
        }

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            found = method(u - u.mean(axis=0), y - y.mean(axis=0), order)
        except Exception as error:  # whatever a peer raises is its outcome
            return f"{type(error).__name__}: {error}", taken()
    A, B, C, D = (np.asarray(part, dtype=float) for part in found)
    return (A, B, C, D), taken()


def simulated(
    out: Output,
    methods: dict[str, Method],
    *,
    n_seeds: int,
    channels: list[int] | tuple[int, ...],
    orders: list[int] | tuple[int, ...],
    rows: list[int] | tuple[int, ...],
    limit: float,
) -> None:
    """All methods on all systems."""
    ratios: list[float] = []
    # what is loaded or compiled at the first call is not timed
    rng = np.random.default_rng(0)
    warm = random_system(rng, 2, 1)
    u = random_inputs(rng, 500, 1, "white")
    for method in methods.values():
        run(method, u, warm.predict(u) + 0.1 * rng.standard_normal(u.shape), 2)
    for n_channels in channels:
        for n_rows in rows:
            part = one_size(methods, n_channels, n_rows, n_seeds, orders, limit)
            ratios += report(out, list(methods), part, n_channels, n_rows, n_seeds, orders)
    out.figure("seeds", n_seeds, "{value}", "systems of an order")
    out.figure("median_error", median(ratios), "{value:.2f}", "gloree: median error over optimum's")
    out.figure("worst_error", max(ratios), "{value:2s}", "gloree: worst error over the optimum's")


def one_size(
    methods: dict[str, Method],
    channels: int,
    n_rows: int,
    n_seeds: int,
    orders: list[int] | tuple[int, ...],
    limit: float,
) -> list[dict]:
    """Every method on the systems of one size."""
    results: list[dict] = []
    late: set[str] = set()
    cells = [(kind, order, seed) for kind in INPUTS for order in orders for seed in range(n_seeds)]
    for kind, order, seed in tqdm(cells, desc=f"{channels} x {channels}, {n_rows:,} samples"):
        rng = np.random.default_rng((channels, order, seed))
        truth = random_system(rng, order, channels)
        u = random_inputs(rng, n_rows, channels, kind)
        clean = truth.predict(u)
        y = clean + NOISE * clean.std(axis=0) * rng.standard_normal(clean.shape)
        u_test = random_inputs(rng, TEST_ROWS, channels, kind)
        y_test = truth.predict(u_test)
        poles = np.linalg.eigvals(truth.recurrent_weights)
        case = {"channels": channels, "rows": n_rows, "inputs": kind, "order": order, "seed": seed}
        begin = time.perf_counter()
        best = optimum(truth, u, y)
        results.append(
            {
                **case,
                "method": "optimum",
                "seconds": time.perf_counter() - begin,
                **judged(best, u_test, y_test, poles),
            }
        )
        for name, method in methods.items():
            if name in late or (name.startswith("nfoursid") and n_rows > LARGEST_FOR_NFOURSID):
                continue
            if name == "llsi N4SID" and channels > 1:  # it has one input and one output
                continue
            system, seconds = run(method, u, y, order)
            result = {**case, "method": name, **seconds}
            if isinstance(system, str):
                result["failed"] = system
            else:
                result |= judged(system, u_test, y_test, poles)
            results.append(result)
            if seconds["seconds"] > limit and not name.startswith("gloree"):
                late.add(name)
                print(
                    f"{name}: {seconds['seconds']:.0f} s, left out from here on "
                    f"with {n_rows:,} samples"
                )
    return results


def judged(system: System, u: np.ndarray, y: np.ndarray, poles: np.ndarray) -> dict[str, float]:
    """Errors of a model."""
    found = np.linalg.eigvals(system[0])
    return {
        "error": relative_error(system, u, y),
        "pole_error": pole_error(found, poles),
        "radius": float(np.abs(found).max()),
    }


def report(
    out: Output,
    names: list[str],
    results: list[dict],
    channels: int,
    n_rows: int,
    n_seeds: int,
    orders: list[int] | tuple[int, ...],
) -> list[float]:
    """Tables of one size; gloree's errors over the optimum's."""
    cells = [(kind, order) for kind in INPUTS for order in orders]
    found = {(r["method"], r["inputs"], r["order"], r["seed"]): r for r in results}
    title = f"{channels} x {channels}, {n_rows:,} samples, {n_seeds} systems each"

    def of(name: str, kind: str, order: int) -> list[dict]:
        every = [found.get((name, kind, order, seed)) for seed in range(n_seeds)]
        return [each for each in every if each is not None and "failed" not in each]

    size = f"{channels}x{channels}_{n_rows}"
    label = {cell: f"{cell[0]}, {cell[1]}" for cell in cells}
    table: list[dict[str, Any]] = [{"method": "optimum, %"}]
    for cell in cells:
        table[0][f"{label[cell]} median"] = 100 * median([e["error"] for e in of("optimum", *cell)])
        table[0][f"{label[cell]} worst"] = None
    for name in names:
        row: dict[str, Any] = {"method": name}
        for cell in cells:
            ratios = [
                each["error"] / found[("optimum", *cell, each["seed"])]["error"]
                for each in of(name, *cell)
            ]
            row[f"{label[cell]} median"] = median(ratios)
            row[f"{label[cell]} worst"] = max(ratios, default=None)
        table.append(row)
    out.table(
        f"errors_{size}",
        f"{title}: error over the optimum's, median (worst); inputs, order",
        [
            Column("", "{method}"),
            *(Column(c, f"{{{c} median:3s}} ({{{c} worst:3s}})") for c in label.values()),
        ],
        table,
    )
    out.table(
        f"poles_{size}",
        f"{title}: error of the poles, median; inputs, order",
        [Column("", "{method}"), *(Column(c, f"{{{c}:2s}}") for c in label.values())],
        [
            {"method": name}
            | {label[c]: median([e["pole_error"] for e in of(name, *c)]) for c in cells}
            for name in ["optimum", *names]
        ],
    )
    table = []
    for name in names:
        mine = [r for r in results if r["method"] == name]
        sound = [r for r in mine if "failed" not in r]
        times = [
            r["seconds"] / found[GLOREE, r["inputs"], r["order"], r["seed"]]["seconds"]
            for r in mine
        ]
        table.append(
            {
                "method": name,
                "fits": len(mine),
                "failed": len(mine) - len(sound),
                "unstable": sum(r["radius"] >= 1.0 for r in sound),
                "cpu_seconds": median([r["cpu_seconds"] for r in mine]),
                "seconds": median([r["seconds"] for r in mine]),
                "ratio": median(times),
            }
        )
    out.table(
        f"times_{size}",
        f"{title}: all orders and inputs",
        [
            Column("", "{method}"),
            *(Column(key, f"{{{key}}}") for key in ("fits", "failed", "unstable")),
            Column("CPU", "{cpu_seconds:3s}", "s"),
            Column("time", "{seconds:3s}", "s"),
            Column("over gloree's", "{ratio:3s}"),
        ],
        table,
    )
    for name in names:
        reasons = sorted({r["failed"] for r in results if r["method"] == name and "failed" in r})
        for reason in reasons[:3]:
            print(f"{name}: {reason}")
    return [
        each["error"] / found["optimum", each["inputs"], each["order"], each["seed"]]["error"]
        for each in results
        if each["method"] == GLOREE and "failed" not in each
    ]


def wiener_hammerstein(out: Output, methods: dict[str, Method], path: Path, quick: bool) -> None:
    """Linear models of the benchmark by all methods."""
    record = datasets.read_csv(path)
    train = slice(TRAIN.start, TRAIN.start + 10_000) if quick else TRAIN
    orders = BENCHMARK_ORDERS[:2] if quick else BENCHMARK_ORDERS
    u, y = record.X[train], record.Y[train]
    n_rows = u.shape[0]
    results = []
    for name, method in tqdm(methods.items(), desc="Wiener-Hammerstein"):
        if name.startswith("nfoursid") and n_rows > LARGEST_FOR_NFOURSID:
            continue
        for order in orders:
            system, seconds = run(method, u, y, order)
            result = {"method": name, "order": order, **seconds}
            if isinstance(system, str):
                result["failed"] = system
            else:
                predicted = simulate(system, record.X[TEST] - u.mean(axis=0)) + y.mean(axis=0)
                finite = bool(np.isfinite(predicted).all())
                result["error"] = (
                    1e3 * float(root_mean_square_error(record.Y[TEST], predicted, skip=SKIP)[0])
                    if finite
                    else float("inf")
                )
                result["radius"] = float(np.abs(np.linalg.eigvals(system[0])).max())
            results.append(result)
    table = []
    for name in methods:
        mine = {r["order"]: r for r in results if r["method"] == name}
        if not mine:
            continue
        row: dict[str, Any] = {"method": name}
        for order in orders:
            row[f"order {order}"] = mine[order].get("error")
            row[f"unstable {order}"] = "*" if mine[order].get("radius", 0.0) >= 1.0 else ""
        row["cpu_seconds"] = median([r["cpu_seconds"] for r in mine.values()])
        table.append(row | {"seconds": median([r["seconds"] for r in mine.values()])})
    out.table(
        "wiener_hammerstein",
        f"Wiener-Hammerstein, linear models, {n_rows:,} training rows: test RMSE in mV "
        "(* an unstable model); medians of seconds",
        [
            Column("", "{method}"),
            *(Column(f"order {n}", f"{{order {n}:4s}}{{unstable {n}}}") for n in orders),
            Column("CPU", "{cpu_seconds:3s}", "s"),
            Column("time", "{seconds:3s}", "s"),
        ],
        table,
    )


if __name__ == "__main__":
    main()
