"""Measured records of real systems: defaults next to linear methods and networks of other packages.

    python -m pip install sippy_unipi sysidentpy jax-sysid
    python benchmarks/records.py --records DIRECTORY [--only NAME ..] [--ours] [--quick]

The records are not part of this project. Each file of the directory is an .npz with training
records u0, y0, u1, .. and test records ut0, yt0, .. (rows are samples), `skip`, the rows of each
test record that do not count, and `follows`, whether the test record goes on where the training
record ends. Many are found in the DaISy collection (https://homes.esat.kuleuven.be/~smc/daisy/) and
at https://www.nonlinearbenchmark.org.

*Error*: root mean square of the free run over the standard deviation of the test output, mean over
outputs and test records. Where a test record follows the training record, all methods run over the
training inputs first; else the first `skip` outputs give the state to those that can use them.

Every method gets the training records alone. What it cannot choose by itself (orders, lags, sizes)
is chosen by the free run over the last fifth of each training record, then fitted again to all.

* `gloree`: ``SystemIdentifier(max_seconds=20)``; *linear*: the same with ``n_nonlinear=0``;
* `output error`: ARX models of order 1 to 10, with and without a delay of one, each output by
  itself, refined by least squares of the free run (scipy.optimize.least_squares);
* `sippy`: N4SID and CVA of sippy_unipi, orders 1 to 10, the better of both;
* `MLP`: scikit-learn's perceptron on windows of 20, 60 or 120 inputs;
* `FROLS`: sysidentpy, degree 2, lags 2, 5 or 10; one output alone;
* `jax-sysid`: linear models of order 2 to 8; networks of 2 or 4 states with six tanh units.

Acceptance: no error above 1.03 times the better of the two linear peers, none unstable, none above
its time; the best of all methods (within 1 %) on at least 9 of 13 records.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _common import Column, Output, option_parser
from scipy.optimize import least_squares
from scipy.signal import lfilter
from tqdm import tqdm

from gloree import SystemIdentifier

SECONDS = 20.0
"""`max_seconds` of our fits."""
LIMIT = 120
"""Processor seconds for each fit of a peer, with all that it tries."""
ORDERS = tuple(range(1, 11))
HELD_OUT = 0.2
AHEAD = 1.03
LEVEL = 1.01
LATE = 1.2
"""A fit is late beyond this multiple of its time."""

Arrays = list[np.ndarray]
Simulate = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Free run over inputs, given the outputs of the first rows, of which there may be none."""


@dataclass(frozen=True)
class Record:
    """One system: normalised training and test records."""

    name: str
    u: Arrays
    y: Arrays
    u_test: Arrays
    y_test: Arrays
    skip: int
    follows: bool

    @classmethod
    def load(cls, path: Path) -> Record:
        """Read a file; channels are scaled by the training records."""
        with np.load(path) as file:
            values = {key: file[key] for key in file.files}
        n_train, n_test = (int(n) for n in values["n"])
        u = [np.asarray(values[f"u{i}"], float) for i in range(n_train)]
        y = [np.asarray(values[f"y{i}"], float) for i in range(n_train)]
        u_test = [np.asarray(values[f"ut{i}"], float) for i in range(n_test)]
        y_test = [np.asarray(values[f"yt{i}"], float) for i in range(n_test)]
        everything = [(u, u_test), (y, y_test)]
        for train, test in everything:
            joined = np.concatenate(train)
            mean, size = joined.mean(axis=0), joined.std(axis=0)
            train[:] = [(part - mean) / size for part in train]
            test[:] = [(part - mean) / size for part in test]
        skip, follows = int(values["skip"]), bool(values["follows"])
        return cls(path.stem, u, y, u_test, y_test, skip, follows)

    def error(self, simulate: Simulate) -> float:
        """Error on the test records."""
        errors = []
        for u, y in zip(self.u_test, self.y_test, strict=True):
            if self.follows:
                before = self.u[-1].shape[0]
                run = simulate(np.vstack((self.u[-1], u)), self.y[-1])[before:]
            else:
                run = simulate(u, y[: self.skip])
            errors.append(relative_error(run, y, self.skip))
        return float(np.mean(errors))

    def halves(self) -> tuple[Arrays, Arrays, list[int]]:
        """Training parts without their last fifth, whole records, and where the fifth begins."""
        cuts = [int((1 - HELD_OUT) * part.shape[0]) for part in self.u]
        firsts = [part[:cut] for part, cut in zip(self.u, cuts, strict=True)]
        outs = [part[:cut] for part, cut in zip(self.y, cuts, strict=True)]
        return firsts, outs, cuts

    def held_out(self, simulate: Simulate, cuts: list[int]) -> float:
        """Error on the last fifth of each training record."""
        errors = []
        for u, y, cut in zip(self.u, self.y, cuts, strict=True):
            with np.errstate(all="ignore"):
                run = simulate(u, y[:cut])[cut:]
            errors.append(float(np.sqrt(np.mean((run - y[cut:]) ** 2))))
        error = float(np.mean(errors))
        return error if np.isfinite(error) else float("inf")


def relative_error(run: np.ndarray, y: np.ndarray, skip: int) -> float:
    with np.errstate(all="ignore"):
        squares = np.mean((run[skip:] - y[skip:]) ** 2, axis=0)
        return float(np.mean(np.sqrt(squares) / y[skip:].std(axis=0)))


def ours(record: Record, **settings: Any) -> Simulate:
    est = SystemIdentifier(max_seconds=SECONDS, **settings).fit(record.u, record.y)

    def simulate(u: np.ndarray, y: np.ndarray) -> np.ndarray:
        known = np.full((u.shape[0], y.shape[1]), np.nan)
        known[: y.shape[0]] = y
        run: np.ndarray = est.predict(u, known, n_init=y.shape[0])
        return run

    return simulate


def best_of(
    record: Record,
    choices: list[Any],
    fit: Callable[[Arrays, Arrays, Any], Simulate],
) -> Simulate:
    """The choice of least error on the last fifths, fitted to all."""
    u, y, cuts = record.halves()
    errors = []
    for choice in choices:
        try:
            errors.append(record.held_out(fit(u, y, choice), cuts))
        except (ValueError, ArithmeticError, np.linalg.LinAlgError, IndexError):
            errors.append(float("inf"))
    return fit(record.u, record.y, choices[int(np.argmin(errors))])


def arx_rows(u: np.ndarray, y: np.ndarray, order: int, delay: int) -> tuple[np.ndarray, np.ndarray]:
    """Regressors [y_{t-1}, .., y_{t-n}, u_{t-k}, .., u_{t-k-n}] of one output, and the output."""
    first = order + delay
    past = [y[first - i : y.shape[0] - i] for i in range(1, order + 1)]
    inputs = [u[first - i : u.shape[0] - i] for i in range(delay, order + delay + 1)]
    return np.column_stack((*past, *inputs)), y[first:]


def filtered(parameters: np.ndarray, u: np.ndarray, order: int, delay: int) -> np.ndarray:
    """Free run of one output from the state zero; the last parameter is its mean."""
    a = np.concatenate(([1.0], -parameters[:order]))
    b = parameters[order:-1].reshape(-1, u.shape[1])
    pad = np.zeros((delay, u.shape[1]))
    run = sum(lfilter(np.concatenate((pad[:, i], b[:, i])), a, u[:, i]) for i in range(u.shape[1]))
    return np.asarray(run) + parameters[-1]


def with_best_start(run: np.ndarray, y: np.ndarray, a: np.ndarray, n_rows: int) -> np.ndarray:
    """Add the free response that fits the known outputs best."""
    n_known = y.shape[0]
    if n_known == 0:
        return run
    order = a.shape[0] - 1
    responses = np.column_stack([lfilter([1.0], a, np.eye(1, n_rows, i)[0]) for i in range(order)])
    left = y - run[:n_known]
    weights = np.linalg.lstsq(responses[:n_known], left, rcond=1e-8)[0]
    return np.asarray(run + responses @ weights)


def output_error(u: Arrays, y: Arrays, choice: tuple[int, int]) -> Simulate:
    order, delay = choice
    models = []
    for column in range(y[0].shape[1]):
        pairs = [arx_rows(a, b[:, column], order, delay) for a, b in zip(u, y, strict=True)]
        rows = np.concatenate([rows for rows, _ in pairs])
        start = np.linalg.lstsq(
            np.column_stack((rows, np.ones(rows.shape[0]))),
            np.concatenate([values for _, values in pairs]),
            rcond=None,
        )[0]
        poles = np.roots(np.concatenate(([1.0], -start[:order])))
        if np.abs(poles).max(initial=0.0) >= 1.0:
            inside = np.where(np.abs(poles) > 0.995, 0.995 * poles / np.abs(poles), poles)
            start[:order] = -np.real(np.poly(inside))[1:]
        start[-1] = 0.0

        def residuals(p: np.ndarray, column: int = column) -> np.ndarray:
            with np.errstate(all="ignore"):
                parts = []
                for a, b in zip(u, y, strict=True):
                    run = filtered(p, a, order, delay)
                    poly = np.concatenate(([1.0], -p[:order]))
                    run = with_best_start(run, b[:, column], poly, a.shape[0])
                    parts.append(run - b[:, column])
                joined = np.concatenate(parts)
                return np.where(np.isfinite(joined), np.clip(joined, -1e6, 1e6), 1e6)

        end = least_squares(residuals, start, max_nfev=12, method="trf")
        models.append(end.x)

    def simulate(inputs: np.ndarray, known: np.ndarray) -> np.ndarray:
        outputs = []
        for column, p in enumerate(models):
            run = filtered(p, inputs, order, delay)
            poly = np.concatenate(([1.0], -p[:order]))
            outputs.append(with_best_start(run, known[:, column], poly, inputs.shape[0]))
        return np.column_stack(outputs)

    return simulate


def state_space_run(A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray) -> Simulate:
    """Free run from the initial state that fits the known outputs best."""

    def simulate(u: np.ndarray, known: np.ndarray) -> np.ndarray:
        n = A.shape[0]
        states = np.zeros((u.shape[0], n))
        observed = np.zeros((known.shape[0], C.shape[0], n))
        drive, power = u @ B.T, C.copy()
        for t in range(1, u.shape[0]):
            states[t] = A @ states[t - 1] + drive[t - 1]
        for t in range(known.shape[0]):
            observed[t] = power
            power = power @ A
        run = states @ C.T + u @ D.T
        if known.shape[0]:
            left = (known - run[: known.shape[0]]).ravel()
            start = np.linalg.lstsq(observed.reshape(-1, n), left, rcond=1e-8)[0]
            free = np.zeros((u.shape[0], n))
            free[0] = start
            for t in range(1, u.shape[0]):
                free[t] = A @ free[t - 1]
            run = run + free @ C.T
        return np.asarray(run)

    return simulate


def sippy(u: Arrays, y: Arrays, choice: tuple[str, int]) -> Simulate:
    from sippy_unipi import system_identification

    name, order = choice
    longest = int(np.argmax([part.shape[0] for part in u]))
    with contextlib.redirect_stdout(io.StringIO()):
        found = system_identification(
            y[longest].T, u[longest].T, name, SS_fixed_order=order, SS_f=25, SS_p=25,
            SS_D_required=True, SS_A_stability=True,
        )  # fmt: skip
    return state_space_run(*(np.asarray(getattr(found, key)) for key in "ABCD"))


def perceptron(u: Arrays, y: Arrays, lags: int) -> Simulate:
    from sklearn.neural_network import MLPRegressor

    def windows(values: np.ndarray) -> np.ndarray:
        padded = np.vstack((np.repeat(values[:1], lags - 1, axis=0), values))
        view = np.lib.stride_tricks.sliding_window_view(padded, lags, axis=0)
        return view.reshape(values.shape[0], -1)

    net = MLPRegressor(
        hidden_layer_sizes=(32, 32), early_stopping=True, max_iter=200, random_state=0
    )
    targets = np.concatenate(y)
    net.fit(np.concatenate([windows(part) for part in u]), targets)

    def simulate(values: np.ndarray, known: np.ndarray) -> np.ndarray:
        return np.asarray(net.predict(windows(values))).reshape(values.shape[0], -1)

    return simulate


def frols(u: Arrays, y: Arrays, lags: int) -> Simulate:
    from sysidentpy.basis_function import Polynomial
    from sysidentpy.model_structure_selection import FROLS
    from sysidentpy.parameter_estimation import LeastSquares

    d = u[0].shape[1]
    model = FROLS(
        ylag=lags, xlag=lags if d == 1 else [list(range(1, lags + 1))] * d, n_info_values=20,
        estimator=LeastSquares(), basis_function=Polynomial(degree=2),
    )  # fmt: skip
    longest = int(np.argmax([part.shape[0] for part in u]))
    model.fit(X=u[longest], y=y[longest])

    def simulate(values: np.ndarray, known: np.ndarray) -> np.ndarray:
        run = np.zeros((values.shape[0], 1))
        first = max(known.shape[0] - lags, 0)
        run[: known.shape[0]] = known
        run[first:] = model.predict(X=values[first:], y=known[first:] if len(known) else run[:lags])
        return run

    return simulate


def jax_linear(u: Arrays, y: Arrays, order: int) -> Simulate:
    from jax_sysid.models import LinearModel

    model = LinearModel(order, y[0].shape[1], u[0].shape[1], feedthrough=True)
    return _jax_fitted(model, u, y)


def jax_network(u: Arrays, y: Arrays, order: int) -> Simulate:
    import jax.numpy as jnp
    from jax_sysid.models import Model

    d, q = u[0].shape[1], y[0].shape[1]

    def hidden(x: Any, u: Any, W: Any, b: Any) -> Any:
        return jnp.tanh(W @ jnp.concatenate((x, u)) + b)

    def state(x: Any, u: Any, params: Any) -> Any:
        A, B, W, b, V, *_ = params
        return A @ x + B @ u + V @ hidden(x, u, W, b)

    def output(x: Any, u: Any, params: Any) -> Any:
        C, D, c = params[5:]
        return C @ x + D @ u + c

    rng = np.random.default_rng(0)
    sizes = [(order, order), (order, d), (6, order + d), (6,), (order, 6), (q, order), (q, d), (q,)]
    start = [0.1 * rng.standard_normal(size) for size in sizes]
    start[0] += 0.8 * np.eye(order)
    model = Model(order, q, d, state_fcn=state, output_fcn=output)
    model.init(params=start)
    return _jax_fitted(model, u, y)


def _jax_fitted(model: Any, u: Arrays, y: Arrays) -> Simulate:
    with contextlib.redirect_stdout(io.StringIO()):
        model.loss(rho_x0=1e-3, rho_th=1e-4)
        model.optimization(adam_epochs=500, lbfgs_epochs=500, iprint=-1)
        single = len(u) == 1
        model.fit(y[0] if single else y, u[0] if single else u)

    def simulate(values: np.ndarray, known: np.ndarray) -> np.ndarray:
        x0 = np.zeros(model.nx)
        if known.shape[0]:
            with contextlib.redirect_stdout(io.StringIO()):
                x0 = model.learn_x0(values[: known.shape[0]], known, verbosity=False)
        return np.asarray(model.predict(x0, values)[0]).reshape(values.shape[0], -1)

    return simulate


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


Method = Callable[[Record], Simulate]


def methods_here() -> tuple[dict[str, Method], dict[str, str]]:
    """Methods whose packages are installed, and the versions of these."""
    methods: dict[str, Method] = {
        "gloree": ours,
        "gloree, linear": lambda record: ours(record, n_nonlinear=0),
        "output error": lambda record: best_of(
            record, [(n, k) for n in ORDERS for k in (0, 1)], output_error
        ),
    }
    versions = {}
    optional: dict[str, tuple[str, Method]] = {
        "sippy": (
            "sippy_unipi",
            lambda record: best_of(
                record, [(name, n) for name in ("N4SID", "CVA") for n in ORDERS], sippy
            ),
        ),
        "FROLS": ("sysidentpy", lambda record: best_of(record, [2, 5, 10], frols)),
        "jax-sysid, linear": (
            "jax_sysid",
            lambda record: best_of(record, [2, 4, 6, 8], jax_linear),
        ),
        "jax-sysid": ("jax_sysid", lambda record: best_of(record, [2, 4], jax_network)),
    }
    for name, (package, method) in optional.items():
        if importlib.util.find_spec(package) is None:
            print(f"{name}: {package} is not installed, left out")
            continue
        methods[name] = method
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    methods["MLP"] = lambda record: best_of(record, [20, 60, 120], perceptron)
    return methods, versions


LINEAR_PEERS = ("output error", "sippy")


def main() -> None:
    parser = option_parser(__doc__, seeds=1)
    parser.add_argument("--records", type=Path, metavar="DIRECTORY", help="with .npz files")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="records to run")
    parser.add_argument("--ours", action="store_true", help="without peers")
    arguments = parser.parse_args()
    if arguments.records is None:
        print("no records given: see --help for what a directory of records is")
        return
    methods, versions = methods_here()
    if arguments.ours:
        methods = {name: method for name, method in methods.items() if name.startswith("gloree")}
    out = Output(arguments, **versions)
    rows = []
    paths = sorted(arguments.records.glob("*.npz"))
    for path in tqdm([p for p in paths if not arguments.only or p.stem in arguments.only]):
        record = Record.load(path)
        row: dict[str, Any] = {"record": record.name}
        for name, method in methods.items():
            begin, cpu = time.perf_counter(), time.process_time()
            error = float("nan")
            with warnings.catch_warnings(), contextlib.suppress(TimeoutError):
                warnings.simplefilter("ignore")
                with time_limit(LIMIT):
                    try:
                        error = record.error(method(record))
                    except (ValueError, ArithmeticError, TypeError, RuntimeError) as failure:
                        tqdm.write(f"{record.name}, {name}: {type(failure).__name__}: {failure}")
            row[name] = error
            row[f"{name} s"] = time.perf_counter() - begin
            row[f"{name} cpu"] = time.process_time() - cpu
            tqdm.write(f"{record.name:12s} {name:15s} {error:9.4f} {row[f'{name} s']:7.1f} s")
        rows.append(row)
    columns = [Column("record", "{record}")]
    for name in methods:
        columns += [Column(name, f"{{{name}:.3f}}"), Column(f"{name}, s", f"{{{name} s:.0f}}")]
    out.table("errors", "Free run on later data: error over the output's spread", columns, rows)
    if not arguments.ours:
        judge(out, rows, list(methods))
    out.close()


def judge(out: Output, rows: list[dict[str, Any]], names: list[str]) -> None:
    """Count the records on which the defaults are level with, or ahead of, the others."""
    peers = [name for name in names if not name.startswith("gloree")]

    def least(row: dict[str, Any], some: list[str]) -> float:
        values = [row[name] for name in some if np.isfinite(row[name])]
        return min(values, default=float("inf"))

    linear = [name for name in LINEAR_PEERS if name in names]
    ratios = [row["gloree"] / least(row, linear) for row in rows]
    behind = [row["record"] for row, ratio in zip(rows, ratios, strict=True) if not ratio <= AHEAD]
    level = [row for row in rows if row["gloree"] <= LEVEL * least(row, peers)]
    late = [row["record"] for row in rows if row["gloree s"] > LATE * SECONDS]
    out.figure("records", len(rows), "{value}", "records")
    out.figure("not_behind", len(rows) - len(behind), "{value}", "within 3 % of the linear peers")
    out.figure("best", len(level), "{value}", "best of all methods, within 1 %")
    out.figure("worst_ratio", max(ratios), "{value:.2f}", "largest ratio to the linear peers")
    out.figure("behind", ", ".join(behind) or "none", "{value}", "behind the linear peers")
    out.figure("late", ", ".join(late) or "none", "{value}", "beyond their time")
    out.target("ahead", not behind and not late, "never behind the linear peers, never late")


if __name__ == "__main__":
    main()
