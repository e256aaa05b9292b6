"""Identification of dynamic systems: error of the free run on two benchmarks, and linear systems.

    python benchmarks/identification.py --wiener-hammerstein PATH --silverbox PATH [--quick]

Neither file is part of this project; both are found at https://www.nonlinearbenchmark.org.

* Wiener-Hammerstein (2009): rows 5,200-105,199 train, rows 105,200-183,999 test, in free run from
  rest, without the first 50 test samples. Measured: the defaults on all training rows; the defaults
  on five stretches of 30,000 training rows; orders of the linear part given by hand.
* Silverbox: rows 40,650-127,399 are a multisine, of which the first 75 % train and the rest test;
  rows 100-40,574 are the arrow, whose end is beyond the amplitudes of the training rows; up to row
  31,999 it is within them. The free run goes over the whole record from its first row.
* Without files, `cascade`: a simulated cascade of filter, polynomial and filter, 3,000 samples, 1 %
  of noise, by free polynomials, cubes and tanh.
* Without files, `linear`: linear systems of order 2 to 20 with two inputs and two outputs, 20,000
  samples, white inputs, fitted by `SpectralRNNRegressor(order, activation="linear")`: are they
  stable, and how far are their poles from the truth? Five systems for each of ten orders, three
  families: *separated*: poles of modulus 0.6 to 0.95, at least 0.2 apart, with noise of 1 % and
  of 10 % of the outputs; *any*: poles of modulus up to 0.95, at least 0.05 apart, 1 % of noise.

Distances of poles are counted in standard errors: the root of the Cramer-Rao bound of the pole,
from the Fisher information at the true system. That is the first term of an expansion, and says
nothing where poles are closer to each other than the data can tell. A system counts as *determined*
if the discs of three standard errors about its poles do not meet; this depends on the truth and the
noise alone. Undetermined systems are shown beside the others, not left out.

Fits to files have `max_seconds` seconds and reach what they reach in that time: figures depend
on the machine, and on what else runs on it.

Acceptance: on the full training stretch below 0.5 mV, on each shorter stretch below 1 mV; Silverbox
below 0.5 mV on both parts; all linear systems stable, and in those that are determined all poles
within three standard errors, but for chance. The error of a real pole exceeds three with
probability 0.0027, that of a complex one with less: of the 550 poles of a table, less than two.
Prediction errors within 1.5 times their expectation, determined or not.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import Column, Output, median, modal_matrix, option_parser
from scipy.linalg import cholesky, solve_discrete_lyapunov
from scipy.optimize import linear_sum_assignment
from scipy.signal import lfilter
from tqdm import tqdm

from gloree import IORNN, SpectralRNNRegressor, SystemIdentifier, datasets
from gloree.engine import Engine, Source
from gloree.metrics import root_mean_square_error
from gloree.models import ExplosionError
from gloree.refinement import Layout, hessian_sums
from gloree.sequences import as_sequences

TRAIN = slice(5_200, 105_200)
TEST = slice(105_200, 184_000)
SKIP = 50
STRETCHES = (5_200, 20_000, 35_000, 50_000, 65_000)
STRETCH = 30_000
ORDERS = (5, 6, 7, 8, 9)

ARROW = slice(100, 40_575)
MULTISINE = slice(40_650, 127_400)
SILVERBOX_UNITS = (
    ("default", None, "auto"),
    ("one cubic", 1, "cubic"),
    ("two cubic", 2, "cubic"),
    ("one polynomial", 1, "polynomial"),
    ("two polynomials", 2, "polynomial"),
)
INSIDE = slice(100, 32_000)
"""Rows of the arrow within the amplitudes of the training rows."""
SILVERBOX_PARTS = ("multisine", "arrow", "inside")
CASCADE_ROWS = 3_000
CASCADE_UNITS = ("polynomial", "cubic", "tanh")
PARTS = ("all", "stretch", "order", "silverbox", "cascade", "linear")

LINEAR_ORDERS = tuple(range(2, 21, 2))
CHANNELS = 2
LINEAR_ROWS = 20_000
START = 200
"""Rows of a prediction that are left out: what is left of the unknown state before the record."""


@dataclass(frozen=True)
class Family:
    """How poles are drawn, and the noise over the standard deviation of the outputs."""

    name: str
    noise: float
    smallest: float
    closest: float


LARGEST_POLE = 0.95
FAMILIES = (
    Family("separated", 0.01, 0.6, 0.2),
    Family("separated", 0.1, 0.6, 0.2),
    Family("any", 0.01, 0.0, 0.05),
)


def main() -> None:
    parser = option_parser(__doc__, seeds=5)
    parser.add_argument("--wiener-hammerstein", type=Path, metavar="PATH", help="its CSV file")
    parser.add_argument("--silverbox", type=Path, metavar="PATH", help="its CSV file")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--seconds", type=float, help="of a fit (default 60; Silverbox 20)")
    arguments = parser.parse_args()
    out = Output(arguments)
    parts = [part for part in arguments.parts if part in ("all", "stretch", "order")]
    if arguments.wiener_hammerstein is not None and parts:
        seconds = arguments.seconds or (8.0 if arguments.quick else 60.0)
        wiener_hammerstein(out, arguments.wiener_hammerstein, parts, seconds, arguments.quick)
    if arguments.silverbox is not None and "silverbox" in arguments.parts:
        seconds = arguments.seconds or (5.0 if arguments.quick else 20.0)
        silverbox(out, arguments.silverbox, seconds)
    if "cascade" in arguments.parts:
        cascades(out, arguments.seconds or (3.0 if arguments.quick else 15.0))
    if "linear" in arguments.parts:
        linear_systems(out, arguments.seeds or (1 if arguments.quick else 5), arguments.quick)
    out.close()


NOT_FITTED = (
    *("linear", "moments", "refined", "seconds", "moments_seconds", "order", "units"),
    *(f"{name}_{part}" for name in ("linear", "moments", "refined") for part in SILVERBOX_PARTS),
)


def fitted(est: SystemIdentifier, u: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Fit; what the report says, without errors on test data."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        begin = time.perf_counter()
        try:
            est.fit(u, y)
        except (ExplosionError, ValueError) as error:
            return dict.fromkeys(NOT_FITTED) | {"failed": str(error)}
        seconds = time.perf_counter() - begin
    report = est.report_
    stages = {stage.name: stage.seconds for stage in report.stages}
    chosen = [kind.degree != 1 for kind in getattr(est.model_.activation, "units", ())]
    return {
        "seconds": seconds,
        # moments alone are known after these two
        "moments_seconds": stages["linear model"] + stages.get("nonlinearity", 0.0),
        "order": len(report.poles),
        "units": int(sum(chosen)),
        "status": report.refinement_status.name if report.refinement_status else "-",
        "warnings": ", ".join(sorted({each.category.__name__ for each in caught})),
    }


def millivolts(model: IORNN, u: np.ndarray, y: np.ndarray, skip: int = SKIP) -> float:
    """Root mean square error of the free run; infinite where it explodes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predicted = model.predict(u, on_explosion="nan")
    error = 1e3 * float(root_mean_square_error(y, predicted, skip=skip)[0])
    return error if np.isfinite(error) else float("inf")


def wiener_hammerstein(
    out: Output, path: Path, parts: list[str], seconds: float, quick: bool
) -> None:
    """Defaults, stretches, orders by hand."""
    table = datasets.read_csv(path)
    whole = slice(TRAIN.start, TRAIN.start + STRETCH) if quick else TRAIN
    rows = [slice(start, start + STRETCH) for start in (STRETCHES[:1] if quick else STRETCHES)]
    runs: list[tuple[str, str, slice, dict[str, Any]]] = [("all", "defaults", whole, {})]
    runs += [("stretch", f"rows from {part.start:,}", part, {}) for part in rows]
    runs += [
        ("order", f"{order} linear states, 5 units", whole, {"n_linear": order, "n_nonlinear": 5})
        for order in (ORDERS[1:2] if quick else ORDERS)
    ]
    results = []
    for part, label, train, settings in tqdm(
        [run for run in runs if run[0] in parts], desc="Wiener-Hammerstein"
    ):
        est = SystemIdentifier(max_seconds=seconds, **settings)
        result = {"fit": label, "part": part} | fitted(est, table.X[train], table.Y[train])
        for name, model in models_of(est, result).items():
            result[name] = millivolts(model, table.X[TEST], table.Y[TEST])
        results.append(result)
    titles = {
        "all": f"all {whole.stop - whole.start:,} training rows",
        "stretch": f"stretches of {STRETCH:,} training rows, defaults",
        "order": f"orders by hand, {whole.stop - whole.start:,} training rows",
    }
    for part in parts:
        mine = [each for each in results if each["part"] == part]
        out.table(
            part,
            f"Wiener-Hammerstein, test RMSE in mV: {titles[part]}, at most {seconds:g} s each",
            FIT_COLUMNS,
            mine,
        )
        found = [each.get("refined", np.inf) for each in mine]
        out.figure(f"{part}_median", median(found), "{value:.3f}", f"{part}: median, mV")
        out.figure(f"{part}_worst", max(found), "{value:.3f}", f"{part}: worst, mV")
        out.figure(f"{part}_best", min(found), "{value:.3f}", f"{part}: best, mV")
    out.figure("limit", seconds, "{value:g}", "seconds of a fit at most")
    for part, limit in (("all", 0.5), ("stretch", 1.0)):
        if part in parts:
            met = out.figures[f"{part}_worst"]["value"] < limit
            out.target(f"{part}_met", met, f"{part}: below {limit:g} mV")


FIT_COLUMNS = (
    Column("", "{fit}"),
    Column("linear", "{linear:.2f}"),
    Column("moments alone", "{moments:.2f}"),
    Column("after", "{moments_seconds:.1f}", "s"),
    Column("refined", "{refined:.3f}"),
    Column("after", "{seconds:.1f}", "s"),
    Column("states", "{order}"),
    Column("units", "{units}"),
)


def models_of(est: SystemIdentifier, result: dict[str, Any]) -> dict[str, IORNN]:
    """The three networks of a fit, none of one that failed."""
    if "failed" in result:
        print(f"{result['fit']}: no fit, {result['failed']}")
        return {}
    return {"linear": est.linear_model_, "moments": est.moments_model_, "refined": est.model_}


def silverbox(out: Output, path: Path, seconds: float) -> None:
    """The defaults, cubic units and free polynomials, on both test parts."""
    table = datasets.read_csv(path)
    u, y = table.X, table.Y
    cut = MULTISINE.start + (MULTISINE.stop - MULTISINE.start) * 3 // 4
    train = slice(MULTISINE.start, cut)
    parts = dict(zip(SILVERBOX_PARTS, (slice(cut, MULTISINE.stop), ARROW, INSIDE), strict=True))
    results = []
    for label, units, kind in tqdm(SILVERBOX_UNITS, desc="Silverbox"):
        est = SystemIdentifier(n_nonlinear=units, unit=kind, max_seconds=seconds)
        result: dict[str, Any] = {"fit": label, "unit": kind, **fitted(est, u[train], y[train])}
        for name, model in models_of(est, result).items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                simulated = model.predict(u, on_explosion="nan")
            for part, rows in parts.items():
                error = 1e3 * float(root_mean_square_error(y[rows], simulated[rows])[0])
                result[f"{name}_{part}"] = error if np.isfinite(error) else float("inf")
        results.append(result)
    out.table(
        "silverbox",
        f"Silverbox, RMSE in mV of the free run: multisine / arrow / its rows within the training "
        f"amplitudes, at most {seconds:g} s each",
        [
            Column("units", "{fit}"),
            Column("linear", "{linear_multisine:.2f} / {linear_arrow:.2f} / {linear_inside:.2f}"),
            Column(
                "moments alone",
                "{moments_multisine:.2f} / {moments_arrow:.2f} / {moments_inside:.2f}",
            ),
            Column("after", "{moments_seconds:.1f}", "s"),
            Column(
                "refined", "{refined_multisine:.3f} / {refined_arrow:.3f} / {refined_inside:.3f}"
            ),
            Column("after", "{seconds:.1f}", "s"),
            Column("states", "{order}"),
        ],
        results,
    )
    out.figure("silverbox_limit", seconds, "{value:g}", "Silverbox: seconds of a fit at most")
    best = [min(each[f"refined_{part}"] or np.inf for each in results) for part in SILVERBOX_PARTS]
    out.target("silverbox_met", max(best) < 0.5, "Silverbox: below 0.5 mV on both parts")


def cascades(out: Output, seconds: float) -> None:
    """Filter, v + .16 v^2 - .024 v^3, filter: which units follow the law in the middle."""
    rng = np.random.default_rng(0)
    u = rng.standard_normal((2 * CASCADE_ROWS, 1))
    v = lfilter([1.0], [1.0, -0.6], u, axis=0)
    clean = lfilter([0.6, 0.3], [1.0, -0.9, 0.2], v + 0.16 * v**2 - 0.024 * v**3, axis=0)
    y = clean + 0.01 * clean.std() * rng.standard_normal(clean.shape)
    train, test = slice(0, CASCADE_ROWS), slice(CASCADE_ROWS, None)
    results = []
    for kind in tqdm(CASCADE_UNITS, desc="cascade"):
        row: dict[str, Any] = {"unit": kind}
        for count, label in ((1, "one"), (2, "two")):
            est = SystemIdentifier(n_linear=3, n_nonlinear=count, unit=kind, max_seconds=seconds)
            found = fitted(est, u[train], y[train])
            row[label] = None
            if "failed" not in found:
                error = millivolts(est.model_, u[test], clean[test], skip=START)
                row[label] = error / (10 * float(clean[test].std()))
        results.append(row)
    out.table(
        "cascade",
        f"Simulated Wiener-Hammerstein system, {CASCADE_ROWS:,} rows, relative RMSE in % of a new "
        f"noiseless record, at most {seconds:g} s each",
        [Column("unit", "{unit}"), Column("one", "{one:2s}"), Column("two", "{two:2s}")],
        results,
    )


def random_poles(rng: np.random.Generator, order: int, family: Family) -> np.ndarray:
    """Real poles and complex pairs in a ring, none close to another; upper half plane."""
    poles: list[complex] = []
    n_pairs = attempts = 0
    while len(poles) < order:
        if attempts % 1_000 == 0:
            # the first draw, or no room is left for the last poles
            poles, n_pairs = [], int(rng.integers(order // 4, order // 2 + 1))
        attempts += 1
        if len(poles) < 2 * n_pairs:
            modulus = np.sqrt(rng.uniform(family.smallest**2, LARGEST_POLE**2))
            pole = complex(modulus * np.exp(1j * rng.uniform(0.0, np.pi)))
            new = [pole, pole.conjugate()]
        else:
            pole = complex(rng.choice((-1.0, 1.0)) * rng.uniform(family.smallest, LARGEST_POLE))
            new = [pole]
        if all(abs(pole - other) > family.closest for other in poles + new[1:]):
            poles += new
    return np.array([pole for pole in poles if pole.imag >= 0.0])


def random_system(rng: np.random.Generator, order: int, family: Family) -> IORNN:
    """Linear system with such poles, in modal form; inputs and outputs reach all modes alike."""
    U = modal_matrix(random_poles(rng, order, family))
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


def balanced(system: IORNN) -> IORNN:
    """The same system in coordinates with equal, diagonal Gramians: sums are best conditioned."""
    U, A1, A2 = system.recurrent_weights, system.input_weights, system.output_weights
    root = cholesky(solve_discrete_lyapunov(U, A1 @ A1.T), lower=True)
    values, V = np.linalg.eigh(root.T @ solve_discrete_lyapunov(U.T, A2 @ A2.T) @ root)
    T = root @ V / np.maximum(values, 1e-28 * values[-1]) ** 0.25
    return system.replace(
        recurrent_weights=np.linalg.solve(T, U @ T),
        input_weights=np.linalg.solve(T, A1),
        output_weights=T.T @ A2,
    )


def pole_standard_errors(
    system: IORNN, u: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    r"""Poles of a linear system, and how well a record can tell them at best.

    With independent normal noise of standard deviation s_a on output a, the Fisher information of
    the weights theta is I = sum_t J_t^T diag(s)^-2 J_t, J_t the derivatives of the outputs of the
    free run. A change of coordinates T = 1 + e S moves the weights by
    e (SU - US, S A1, -S^T A2) and leaves the outputs alone, so I is inverted on the orthogonal
    complement Q of these n^2 directions. A simple pole with eigenvectors
    w^H U = lambda w^H, U v = lambda v, w^H v = 1 has d lambda = w^H dU v, so that

        E|d lambda|^2 = g^H Q (Q^T I Q)^-1 Q^T g,   g = d lambda / d theta.

    Parameters
    ----------
    system : IORNN
        Linear, with a direct path.
    u : ndarray of shape (n_rows, n_inputs)
    noise : ndarray of shape (n_outputs,)

    Returns
    -------
    poles, errors : ndarray of shape (n_hidden,)
        An information below rounding counts as rounding: errors as large are lower bounds.
    """
    n, n_inputs = system.input_weights.shape
    model = balanced(system)
    model = model.replace(
        output_weights=model.output_weights / noise, direct_weights=model.direct_weights / noise
    )
    U = model.recurrent_weights
    layout = Layout(n_inputs, n, noise.shape[0], direct=True, hidden_bias=False)
    # pieces that are warmed up for as long as the slowest pole remembers anything
    source = Source(
        as_sequences(u, model.predict(u)), batch_size=5_000, segment=500, before=2 * START
    )
    information = Engine().run(partial(hessian_sums, model=model, layout=layout), source).hessian
    places = layout.indices
    change = np.zeros((n * n, layout.size))
    for row, S in zip(change, np.eye(n * n).reshape(-1, n, n), strict=True):
        row[places["recurrent_weights"]] = S @ U - U @ S
        row[places["input_weights"]] = S @ model.input_weights
        row[places["output_weights"]] = -S.T @ model.output_weights
    scale = np.sqrt(np.diag(information))
    Q = np.linalg.qr((change * scale).T, mode="complete")[0][:, n * n :]
    values, vectors = np.linalg.eigh(Q.T @ (information / np.outer(scale, scale)) @ Q)
    poles, right = np.linalg.eig(U)
    left = np.linalg.inv(right)
    g = np.zeros((layout.size, n), dtype=complex)
    g[places["recurrent_weights"].ravel()] = np.einsum("ki,jk->ijk", left, right).reshape(-1, n)
    turned = vectors.T @ Q.T @ (g / scale[:, None])
    variances = np.sum(
        np.abs(turned) ** 2 / np.maximum(values, 1e-15 * values[-1])[:, None], axis=0
    )
    return poles, np.sqrt(variances)


def pole_distances(found: np.ndarray, poles: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Distances from the true poles in standard errors, matched one to one."""
    distance = np.abs(found[None, :] - poles[:, None]) / errors[:, None]
    rows, columns = linear_sum_assignment(distance)
    return distance[rows, columns]


def linear_case(order: int, seed: int, family: Family, n_rows: int) -> dict[str, Any]:
    """One system: its fit, and what was to be expected."""
    rng = np.random.default_rng((order, seed))
    system = random_system(rng, order, family)
    u, fresh = rng.standard_normal((2, n_rows, CHANNELS))
    y = system.predict(u)
    noise = family.noise * y.std(axis=0)
    y += noise * rng.standard_normal(y.shape)
    begin = time.perf_counter()
    est = SpectralRNNRegressor(order, activation="linear").fit(u, y)
    seconds = time.perf_counter() - begin
    poles, errors = pole_standard_errors(system, u, noise)
    gaps = np.abs(poles[:, None] - poles[None, :]) + 9.0 * np.eye(order)
    found = np.linalg.eigvals(est.model_.recurrent_weights)
    missed = ((est.predict(fresh) - system.predict(fresh)) / noise)[START:]
    # (n_inputs + n_outputs) n weights beside the coordinates, the direct path and the offset
    n_weights = 2 * CHANNELS * order + CHANNELS**2 + CHANNELS
    return {
        "family": family.name,
        "noise": family.noise,
        "order": order,
        "seed": seed,
        "radius": float(np.abs(found).max()),
        "determined": bool(np.all(3.0 * (errors[:, None] + errors[None, :]) < gaps)),
        "largest_error": float(errors.max()),
        "distances": pole_distances(found, poles, errors).tolist(),
        # over what least squares has to expect
        "prediction": float(np.sqrt(np.mean(missed**2)) / np.sqrt(n_weights / (n_rows * CHANNELS))),
        "seconds": seconds,
    }


def linear_systems(out: Output, n_seeds: int, quick: bool) -> None:
    """Systems of given order: stability, poles in standard errors, prediction."""
    results: list[dict] = []
    orders = (2, 6, 20) if quick else LINEAR_ORDERS
    n_rows = 5_000 if quick else LINEAR_ROWS
    for family in FAMILIES:
        cells = {}
        for order in tqdm(orders, desc=f"linear systems, {family.name}"):
            cells[str(order)] = [linear_case(order, s, family, n_rows) for s in range(n_seeds)]
        cells["all"] = [case for cases in cells.values() for case in cases]
        results += cells["all"]
        out.table(
            f"{family.name}_{100 * family.noise:g}",
            f"Linear systems, {family.name} poles, {100 * family.noise:g} % of noise, {n_rows:,} "
            f"samples, {CHANNELS} inputs and outputs",
            LINEAR_COLUMNS,
            [{"order": order, **summary(cases)} for order, cases in cells.items()],
        )
    total = summary(results)
    out.figure("seeds", n_seeds, "{value}", "systems of an order")
    for key in ("stable", "systems", "determined", "within", "poles"):
        out.figure(key, total[key], "{value:,}", f"all systems: {key}")
    out.figure("worst_prediction", total["worst"], "{value:.2f}", "worst error over expectation")
    out.target("stable_met", total["stable"] == total["systems"], "all systems stable")
    out.target("prediction_met", total["worst"] <= 1.5, "predictions within 1.5 times expectation")


LINEAR_COLUMNS = (
    Column("order", "{order}"),
    Column("stable", "{stable}/{systems}"),
    Column("determined", "{determined}/{systems}"),
    Column("poles within 3", "{within}/{poles}"),
    Column("median", "{median:3s}"),
    Column("largest", "{largest:3s}"),
    Column("others: within 3", "{others_within}/{others}"),
    Column("largest", "{others_largest:3s}"),
    Column("prediction", "{prediction:.2f}"),
    Column("worst", "{worst:.2f}"),
    Column("fit", "{seconds:.1f}", "s"),
)


def summary(cases: list[dict]) -> dict[str, Any]:
    """Distances in standard errors, for determined systems and the others."""
    determined, others = (
        np.array([z for case in cases if case["determined"] is kind for z in case["distances"]])
        for kind in (True, False)
    )
    return {
        "systems": len(cases),
        "stable": sum(case["radius"] < 1 for case in cases),
        "determined": sum(case["determined"] for case in cases),
        "poles": determined.size,
        "within": int((determined <= 3).sum()),
        "median": median(determined) if determined.size else None,
        "largest": determined.max() if determined.size else None,
        "others": others.size,
        "others_within": int((others <= 3).sum()),
        "others_largest": others.max() if others.size else None,
        "prediction": median([case["prediction"] for case in cases]),
        "worst": max(case["prediction"] for case in cases),
        "seconds": median([case["seconds"] for case in cases]),
    }


if __name__ == "__main__":
    main()
