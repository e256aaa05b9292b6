"""How often a fit with any activation is the least-squares optimum, and how long it takes.

    python benchmarks/smooth.py
    python benchmarks/smooth.py --quick
    python benchmarks/smooth.py --parts ends

A network with rows of A1 of length one, U of a given norm, biases N(0, 1/4), outputs of unit
variance and noise of a tenth of that (ten cells say otherwise) is fitted by default, with its
number of units. The yardstick is Gauss-Newton to convergence from the true weights. A fit is *good*
if its mean squared error is at most 0.1 % above that one's, and every relative weight error
(modulo the symmetries) at most 1.1 times that one's, or lower. Times are processor seconds of one
thread. Seeds begin at 1000.

* Cells: shares of good and of certified fits, and of those whose first start was the last.
* Wrong models: a unit too few, and another activation; none may be certified.
* Small data: 300 to 2,000 sequences of 5 to 20 steps, sizes, noise and activations at random; a
  third of them fitted with another activation or a unit too few, for which the yardstick is the
  loss of the right network. None may be certified above the optimum.
* Where it ends: norms of U of 4 and 6.
* Adam: PyTorch on the same data, best of three rates with a cosine decay over the time given; its
  mean squared error over the optimum's.

Acceptance: all fits good with a norm of U up to 1.5, 19 of 20 at 2.5; no wrong model certified, and
no certified fit that is not good up to a norm of 2.5.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from _common import Column, Output, mean_squared_error, median, option_parser
from joblib import Parallel, delayed
from tqdm import tqdm

from gloree import SpectralRNNRegressor, datasets, metrics
from gloree.activations import Activation, Polynomial, get_activation
from gloree.engine import Engine, Source
from gloree.models import BRNN, IORNN, ExplosionError, Network
from gloree.refinement import GaussNewton, Layout, SquaredError
from gloree.sequences import as_sequences

try:
    import torch
except ImportError:
    torch = None

POLYNOMIALS = {
    "cubic+": Polynomial((0.0, 1.0, 0.5, 0.2)),
    "quartic": Polynomial((0.0, 1.0, 0.4, 0.0, 0.1)),
    "quintic": Polynomial((0.0, 1.0, 0.3, -0.1, 0.0, 0.02)),
    "sextic": Polynomial((0.0, 0.8, 0.4, 0.1, 0.0, 0.0, 0.01)),
}
LOSS, ERROR, SAME = 1e-3, 1.1, 1e-6
FIRST_SEED = 1000
SEGMENT, WASHOUT = 250, 100
SMALL_SEED, SMALL_FITS, WRONG_SEEDS = 2000, 1_000, 5
STATUSES = ("CERTIFIED", "AGREED", "UNCERTAIN")
ADAM_SECONDS, ADAM_RATES, ADAM_BATCH = 10.0, (0.003, 0.01, 0.03), 256


@dataclass(frozen=True)
class Cell:
    """A kind of data."""

    name: str
    activation: str = "tanh"
    sizes: tuple[int, int, int] = (10, 5, 5)
    norm: float = 0.6
    n_sequences: int = 20_000
    n_steps: int = 10
    law: str = "var1"
    noise: float = 0.1
    bias: float = 0.5
    lags: int = 1
    direct: bool = False
    both: bool = False
    adam: bool = False

    @property
    def function(self) -> Activation:
        """Activation."""
        return POLYNOMIALS.get(self.activation) or get_activation(self.activation)

    def truth(self, rng: np.random.Generator) -> Network:
        """A network."""
        d, k, q = self.sizes
        common: dict[str, Any] = {
            "hidden_bias": self.bias * rng.standard_normal(k),
            "output_bias": 0.3 * rng.standard_normal(q),
            "activation": self.function,
            "lags": self.lags,
        }
        A1 = rng.standard_normal((k, d * self.lags))
        A1 /= np.linalg.norm(A1, axis=1, keepdims=True)
        A2 = rng.standard_normal((k, q)) / np.sqrt(k)
        if self.direct:
            common["direct_weights"] = 0.3 * rng.standard_normal((d * self.lags, q))
        if self.both:
            cut = k // 2
            U, V = (recurrence(rng, size, self.norm) for size in (cut, k - cut))
            return BRNN(A1[:cut], U, A1[cut:], V, A2, **common)
        return IORNN(A1, recurrence(rng, k, self.norm), A2, **common)

    def simulate(self, seed: int) -> tuple[np.ndarray, np.ndarray, Network]:
        """Inputs, outputs and the network behind them."""
        rng = np.random.default_rng([seed, self.sizes[1]])
        X = inputs(self.law, self.n_sequences, self.n_steps, self.sizes[0], rng)
        while True:
            truth = self.truth(rng)
            try:
                Y = truth.predict(X)
            except ExplosionError:
                continue
            break
        scale = Y.reshape(-1, Y.shape[2]).std(axis=0)
        direct = truth.direct_weights
        truth = truth.replace(
            output_weights=truth.output_weights / scale,
            output_bias=truth.output_bias / scale,
            direct_weights=None if direct is None else direct / scale,
        )
        return X, Y / scale + self.noise * rng.standard_normal(Y.shape), truth

    def estimator(self, seed: int, **options: Any) -> SpectralRNNRegressor:
        """The default fit."""
        settings: dict[str, Any] = {
            "n_hidden": self.sizes[1],
            "activation": self.function,
            "lags": self.lags,
            "direct": self.direct,
            "bidirectional": self.both,
            "engine": "serial",
            "random_state": seed,
        }
        return SpectralRNNRegressor(**{**settings, **options})


def recurrence(rng: np.random.Generator, size: int, norm: float) -> np.ndarray:
    """Random matrix of a spectral norm."""
    U = rng.standard_normal((size, size))
    return np.asarray(U * norm / np.linalg.norm(U, 2))


def inputs(law: str, n: int, n_steps: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Inputs of a law."""
    if law == "var1":
        return np.asarray(datasets.make_chain(d, random_state=rng).sample(n, n_steps, rng))
    if law == "binary":
        turned = rng.random((n, n_steps, d)) < 0.3
        start = rng.random((n, 1, d)) < 0.5
        return np.where((np.cumsum(turned, axis=1) + start) % 2 == 0, 1.0, -1.0)
    if law == "three values":
        return rng.choice([-1.0, 0.0, 2.0], p=[0.45, 0.35, 0.2], size=(n, n_steps, d))
    return np.asarray(datasets.make_inputs(law, n, n_steps, d, random_state=rng))


LONG = {"n_sequences": 2_000, "n_steps": 100}
CELLS = (
    Cell("tanh", adam=True),
    Cell("softplus", "softplus"),
    Cell("sigmoid", "sigmoid"),
    Cell("ReLU", "relu", adam=True),
    Cell("leaky ReLU", "leaky_relu"),
    Cell("GELU", "gelu"),
    Cell("SiLU", "silu"),
    Cell("cubic with lower terms", "cubic+", norm=0.05),
    Cell("degree 4", "quartic", norm=0.03),
    Cell("degree 5", "quintic", norm=0.03),
    Cell("degree 6", "sextic", norm=0.01),
    Cell("tanh, uniform inputs", law="uniform"),
    Cell("tanh, Student inputs", law="t5"),
    Cell("tanh, binary inputs", law="binary"),
    Cell("tanh, three values", law="three values"),
    Cell("tanh, 200 tokens", law="tokens"),
    Cell("tanh, no biases", bias=0.0),
    Cell("tanh, much noise", noise=1.0),
    Cell("tanh, one record", n_sequences=1, n_steps=200_000),
    Cell("tanh, |U| 0.9", norm=0.9, adam=True, **LONG),
    Cell("tanh, |U| 1.5", norm=1.5, **LONG),
    Cell("tanh, |U| 2.5", norm=2.5, **LONG),
    Cell("tanh, one output", sizes=(10, 5, 1)),
    Cell("softplus, one output", "softplus", sizes=(10, 5, 1)),
    Cell("ReLU, one output", "relu", sizes=(10, 5, 1)),
    Cell("tanh, (6, 8, 6)", sizes=(6, 8, 6)),
    Cell("softplus, (10, 10, 4)", "softplus", sizes=(10, 10, 4)),
    Cell("tanh, (20, 10, 10)", sizes=(20, 10, 10)),
    Cell("sigmoid, (20, 10, 10)", "sigmoid", sizes=(20, 10, 10)),
    Cell("ReLU, (20, 10, 10)", "relu", sizes=(20, 10, 10)),
    Cell("tanh, three lags", sizes=(5, 4, 4), lags=3, n_sequences=5_000, n_steps=20),
    Cell("tanh, direct path", direct=True),
    Cell("tanh, 4 + 4 both ways", sizes=(10, 8, 8), both=True),
    Cell("ReLU, 4 + 4 both ways", "relu", sizes=(10, 8, 8), both=True),
)
ENDS = (Cell("|U| 4", norm=4.0, **LONG), Cell("|U| 6", norm=6.0, **LONG))


@dataclass(frozen=True)
class Optimum:
    """Descent from the truth."""

    loss: float
    errors: dict[str, float]
    seconds: float


def optimum(cell: Cell, X: np.ndarray, Y: np.ndarray, truth: Network) -> Optimum:
    """Gauss-Newton from the truth."""
    layout = Layout(
        X.shape[2] * cell.lags,
        truth.n_hidden,
        truth.n_outputs,
        direct=cell.direct,
        n_backward=truth.n_backward if cell.both else None,
        lags=cell.lags,
    )
    data, long = as_sequences(X, Y), cell.n_steps > 2 * SEGMENT
    around = {"segment": SEGMENT, "before": WASHOUT} if long else {}
    source = Source(data, lags=cell.lags, both_ways=cell.both, **around)
    engine, begin = Engine("serial"), time.process_time()
    start = truth.replace(lags=1) if isinstance(truth, IORNN) else truth
    with engine.small_matrices():
        given = (SquaredError(), start, layout, engine, source)
        model = GaussNewton(to_convergence=True).minimise(*given).model
    seconds = time.process_time() - begin
    model = model.replace(lags=cell.lags)
    errors = metrics.weight_errors(model, truth)
    return Optimum(mean_squared_error(model, X, Y), errors, seconds)


@dataclass(frozen=True)
class Trial:
    """A fit beside the optimum."""

    excess: float
    ratio: float
    seconds: float
    reference: float
    status: str
    first: bool

    @property
    def good(self) -> bool:
        """Whether it is the optimum."""
        return self.excess <= LOSS and self.ratio <= ERROR


def trial(cell: Cell, seed: int, **options: Any) -> Trial:
    """Simulate, fit, compare."""
    X, Y, truth = cell.simulate(seed)
    best = optimum(cell, X, Y, truth)
    begin = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = cell.estimator(seed, **options).fit(X, Y)
    seconds = time.process_time() - begin
    try:
        errors = metrics.weight_errors(fit.model_, truth)
        ratio = max(errors[name] / best.errors[name] for name in errors if best.errors[name])
    except ValueError:
        ratio = np.inf  # of other directions
    certificate = fit.report_.certificate
    excess = mean_squared_error(fit.model_, X, Y) / best.loss - 1.0
    status = "" if certificate is None else certificate.status.name
    first = certificate is None or len(certificate.starts) == 1
    return Trial(excess, ratio, seconds, best.seconds, status, first)


def row_of(name: str, found: list[Trial]) -> dict[str, Any]:
    """Row of a table."""
    return {
        "cell": name,
        "fits": len(found),
        "good": sum(each.good for each in found),
        "certified": sum(each.status == "CERTIFIED" for each in found),
        "false": sum(each.status == "CERTIFIED" and not each.good for each in found),
        "first": sum(each.first for each in found),
        "excess": max(each.excess for each in found),
        "ratio": max(each.ratio for each in found),
        "seconds": median([each.seconds for each in found]),
        "reference": median([each.reference for each in found]),
    }


COLUMNS = [
    Column("network", "{cell}"),
    Column("good", "{good} of {fits}"),
    Column("certified", "{certified}"),
    Column("first start", "{first}"),
    Column("worst loss", "{excess:+.1e}"),
    Column("worst weights", "{ratio:.2f}"),
    Column("fit s", "{seconds:.1f}"),
    Column("from the truth s", "{reference:.1f}"),
]


def run_all(work: list[Any], n_jobs: int, name: str) -> list[Any]:
    """Results in order, with a progress bar."""
    found = Parallel(n_jobs, return_as="generator")(work)
    return list(tqdm(found, desc=name, total=len(work)))


def cells(out: Output, n_seeds: int, chosen: tuple[Cell, ...]) -> None:
    """All cells."""
    work = [delayed(trial)(cell, FIRST_SEED + i) for cell in chosen for i in range(n_seeds)]
    found = run_all(work, out.arguments.jobs, "cells")
    rows = [
        row_of(cell.name, found[place * n_seeds : (place + 1) * n_seeds])
        for place, cell in enumerate(chosen)
    ]
    out.table("cells", "Fits beside the descent from the truth", COLUMNS, rows)
    n, good = sum(row["fits"] for row in rows), sum(row["good"] for row in rows)
    out.figure("fits", n, "{value}", "fits")
    out.figure("good", good, "{value}", "of them at the optimum")
    out.figure("first", sum(row["first"] for row in rows), "{value}", "from the first start")
    out.figure("false", sum(row["false"] for row in rows), "{value}", "certified and not good")
    ratio = median([row["seconds"] / row["reference"] for row in rows])
    out.figure("ratio", ratio, "{value:.1f}", "time of a fit over that from the truth, median")
    out.target("all_good", good == n, "all fits at the optimum")


def wrong_fit(cell: Cell, seed: int, options: dict[str, Any]) -> tuple[str, float]:
    """Status and share of the certificate of a fit of another class."""
    X, Y, _ = cell.simulate(FIRST_SEED + 100 + seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report: Any = cell.estimator(seed, **options).fit(X, Y).report_
    return report.certificate.status.name, report.certificate.share


def wrong_models(out: Output, n_seeds: int, small: bool) -> None:
    """Networks of another class than the data come from."""
    size = {"n_sequences": 2_000} if small else {}
    kinds: tuple[tuple[str, Cell, dict[str, Any]], ...] = (
        ("tanh, one unit too few", Cell("", **size), {"n_hidden": 4}),
        ("tanh, fitted as softplus", Cell("", **size), {"activation": "softplus"}),
        ("ReLU, fitted as tanh", Cell("", "relu", **size), {"activation": "tanh"}),
        ("GELU, fitted as SiLU", Cell("", "gelu", **size), {"activation": "silu"}),
    )
    work = [
        delayed(wrong_fit)(cell, i, options) for _, cell, options in kinds for i in range(n_seeds)
    ]
    found, rows = run_all(work, out.arguments.jobs, "wrong models"), []
    for place, (name, _, _) in enumerate(kinds):
        statuses, shares = zip(*found[place * n_seeds : (place + 1) * n_seeds], strict=True)
        rows.append(
            {
                "model": name,
                "fits": n_seeds,
                "certified": statuses.count("CERTIFIED"),
                "agreed": statuses.count("AGREED"),
                "share": min(shares),
            }
        )
    columns = [
        Column("model", "{model}"),
        Column("certified", "{certified} of {fits}"),
        Column("agreed", "{agreed}"),
        Column("least share left", "{share:.1e}"),
    ]
    out.table("wrong", "Fits of wrong models", columns, rows)
    n = sum(row["certified"] for row in rows)
    out.figure("wrong_certified", n, "{value}", "wrong models certified")


NAMES = ("tanh", "softplus", "sigmoid", "relu", "leaky_relu", "gelu", "silu", "quartic")


@dataclass(frozen=True)
class Small:
    """A small set of data, and how it is fitted."""

    cell: Cell
    kind: str
    options: dict[str, Any]

    @classmethod
    def drawn(cls, seed: int) -> Small:
        """Sizes, noise, strength of the recurrence and functions at random."""
        rng = np.random.default_rng([SMALL_SEED, seed])
        d, k, q = (int(rng.integers(*ends)) for ends in ((3, 11), (2, 7), (1, 6)))
        name = str(rng.choice(NAMES))
        cell = Cell(
            name,
            name,
            (d, k, q),
            norm=0.03 if name in POLYNOMIALS else float(rng.uniform(0.2, 1.5)),
            n_sequences=int(np.exp(rng.uniform(np.log(300), np.log(2_000)))),
            n_steps=int(rng.choice([5, 10, 20])),
            noise=float(np.exp(rng.uniform(np.log(0.03), 0.0))),
        )
        kind = str(rng.choice(["right", "activation", "units"], p=[0.67, 0.18, 0.15]))
        options: dict[str, Any] = {}
        if kind == "activation":
            options["activation"] = str(rng.choice([each for each in NAMES[:-1] if each != name]))
        if kind == "units":
            options["n_hidden"] = k - 1
        return cls(cell, kind, options)

    def trial(self, seed: int) -> Trial:
        """Fit beside the descent from the truth."""
        return trial(self.cell, seed, **self.options)

    def false(self, found: Trial) -> bool:
        """Whether it was certified and should not have been.

        Where a fit is better than the descent from the truth, that one is no optimum, and its
        weight errors are no yardstick. Where it is within a millionth, it is the same optimum:
        weights differ by less than a fifth of a standard error, and ratios of errors are luck.
        """
        compared = self.kind == "right" and found.excess > SAME
        good = found.good if compared else found.excess <= LOSS
        return found.status == "CERTIFIED" and not good


def small_data(out: Output, n_fits: int) -> None:
    """Fits of small data, wrong models among them."""
    drawn = [Small.drawn(i) for i in range(n_fits)]
    work = [delayed(each.trial)(i) for i, each in enumerate(drawn)]
    found = list(zip(drawn, run_all(work, out.arguments.jobs, "small data"), strict=True))
    rows = []
    for kind, words in (
        ("right", "the right networks"),
        ("activation", "another activation"),
        ("units", "a unit too few"),
    ):
        these = [(each, result) for each, result in found if each.kind == kind]
        statuses = [result.status for _, result in these]
        rows.append(
            {
                "kind": words,
                "fits": len(these),
                "optimum": sum(result.excess <= LOSS for _, result in these),
                **{name.lower(): statuses.count(name) for name in STATUSES},
                "false": sum(each.false(result) for each, result in these),
            }
        )
        for each, result in these:
            if each.false(result):
                tqdm.write(f"{each} {result}")
    columns = [
        Column("fitted with", "{kind}"),
        Column("fits", "{fits}"),
        Column("within .1 % of the optimum's loss", "{optimum}"),
        *(Column(name.lower(), f"{{{name.lower()}}}") for name in STATUSES),
        Column("certified and not good", "{false}"),
    ]
    out.table("small", "Small data", columns, rows)
    out.figure("small_fits", n_fits, "{value:,}", "fits of small data")
    n = sum(row["false"] for row in rows)
    out.figure("small_false", n, "{value}", "of them certified and not good")


def adam(out: Output, seconds: float, chosen: tuple[Cell, ...]) -> None:
    """PyTorch on the same data."""
    if torch is None:
        return
    torch.set_num_threads(1)
    rows = []
    for cell in tqdm([each for each in chosen if each.adam], desc="Adam"):
        X, Y, truth = cell.simulate(FIRST_SEED)
        best, mine = optimum(cell, X, Y, truth), trial(cell, FIRST_SEED)
        losses = [trained(cell, X, Y, rate, seconds) for rate in ADAM_RATES]
        excess = min(losses) / best.loss - 1.0
        rows.append(
            {
                "cell": cell.name,
                "seconds": mine.seconds,
                "excess": mine.excess,
                "given": seconds,
                "adam": excess,
                "times": seconds / mine.seconds,
            }
        )
    columns = [
        Column("network", "{cell}"),
        Column("fit s", "{seconds:.1f}"),
        Column("loss", "{excess:+.1e}"),
        Column("Adam s", "{given:.0f}"),
        Column("loss", "{adam:+.1e}"),
        Column("times as long", "{times:.0f}"),
    ]
    out.table("adam", "Adam on the same data: loss over the optimum's, less one", columns, rows)
    behind = [row["times"] for row in rows if row["adam"] > 0.01]
    out.figure("adam_cells", len(rows), "{value}", "cells with Adam")
    out.figure("adam_behind", len(behind), "{value}", "where it is more than 1 % above by then")
    times = median([row["times"] for row in rows])
    out.figure("adam_times", times, "{value:.0f}", "times as long as a fit, median")


def trained(cell: Cell, X: np.ndarray, Y: np.ndarray, rate: float, seconds: float) -> float:
    """Mean squared error after so many seconds of Adam with a cosine decay, by the clock."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    d, k, q = cell.sizes
    A1 = rng.standard_normal((k, d)) / np.sqrt(d)
    U, A2 = 0.1 * rng.standard_normal((k, k)), rng.standard_normal((k, q)) / np.sqrt(k)
    start = IORNN(A1, U, A2, output_bias=Y.mean(axis=(0, 1)), activation=cell.function)
    module = start.to_torch().float()
    inputs, targets = (torch.tensor(values, dtype=torch.float32) for values in (X, Y))
    batch = max(1, ADAM_BATCH * 10 // cell.n_steps)
    optimiser = torch.optim.Adam(module.parameters(), lr=rate)
    begin, done = time.perf_counter(), 0.0
    while done < 1.0:
        for chosen in torch.randperm(len(X)).split(batch):
            done = (time.perf_counter() - begin) / seconds
            if done >= 1.0:
                break
            for group in optimiser.param_groups:
                group["lr"] = 0.5 * rate * (1.0 + np.cos(np.pi * done))
            optimiser.zero_grad()
            loss = ((module(inputs[chosen]) - targets[chosen]) ** 2).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
    with torch.no_grad():
        parts = [
            float(((module(x) - y) ** 2).mean()) * len(x)
            for x, y in zip(inputs.split(1000), targets.split(1000), strict=True)
        ]
    return sum(parts) / len(X)


def ends(out: Output, n_seeds: int, chosen: tuple[Cell, ...]) -> None:
    """Strong recurrences."""
    rows = [
        row_of(cell.name, [trial(cell, FIRST_SEED + i) for i in range(n_seeds)])
        for cell in tqdm(chosen, desc="ends")
    ]
    out.table("ends", "tanh with strong recurrences", COLUMNS, rows)
    n = sum(row["false"] for row in rows)
    out.figure("ends_false", n, "{value}", "strong recurrences certified and not good")


def main() -> None:
    """Run all parts."""
    parser = option_parser(__doc__, seeds=3)
    parts = ("cells", "small", "ends", "adam")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts, help="default: all")
    parser.add_argument("--fits", type=int, default=SMALL_FITS, help="of small data")
    parser.add_argument("--jobs", type=int, default=1, help="processes for cells and small data")
    arguments = parser.parse_args()
    versions = {} if torch is None else {"torch": torch.__version__}
    out = Output(arguments, **versions)
    n_seeds = arguments.seeds or 3
    chosen: tuple[Cell, ...] = CELLS
    last: tuple[Cell, ...] = ENDS
    if arguments.quick:
        n_seeds = 1
        chosen = tuple(replace(each, n_sequences=2_000) for each in CELLS[:2])
        last = ()
    if "cells" in arguments.parts:
        cells(out, n_seeds, chosen)
        wrong_models(out, min(n_seeds, WRONG_SEEDS), arguments.quick)
    if "small" in arguments.parts:
        small_data(out, 10 if arguments.quick else arguments.fits)
    if "ends" in arguments.parts:
        ends(out, min(n_seeds, 2), last)
    if "adam" in arguments.parts:
        adam(out, 1.0 if arguments.quick else ADAM_SECONDS, chosen)
    out.close()


if __name__ == "__main__":
    main()
