"""Gradient training with PyTorch beside the default fit: time to 1 % of the optimum's loss.

    python benchmarks/bptt.py            # three cells, the whole grid (an hour)
    python benchmarks/bptt.py --quick
    python benchmarks/bptt.py --plain --lr 0.003 0.01 0.03
    python benchmarks/bptt.py --cells 2 --lr 0.01 --schedules cosine:10 --float64

The peer trains the same network, z_t = A1 x_t + U h_{t-1} + b, h_t = z_t^2, y = A2^T h + c, by
backpropagation through time with Adam, on the same data and the same number of threads. It is
written for speed: all input and output products are one matrix product for all steps, the loop over
steps holds two operations, forward and backward (`Recurrence`, whose gradients are tested against
finite differences at the start), in single precision, with Adam's fused kernel, on one thread where
a batch is too small to gain from more (tried beforehand). Rows of A1 start random with unit norm
(the truth's scale), U and A2 small, the predicted mean at the outputs' mean; gradients are clipped,
and U learns at a tenth of the rate, which lets the others take large ones without an explosion. The
grid: learning rates, batch sizes and schedules (constant, or cosine decay to zero over a number of
epochs), three random starts each.

``--plain`` takes the peer as one would write it first: the loop over steps left to automatic
differentiation, and one learning rate for all weights. Everything else stays as above.

Times are taken of a run until the loss over all data is within 1, 0.1 and 0.01 % of the
least-squares optimum's; evaluations, several an epoch, do not count. (For scale: the optimum's own
loss is 0.02 to 0.06 % below the truth's.) Runs end there, at the horizon of their schedule, at the
time cap, or when the loss has not been finite for two epochs. Default fits are timed in between, in
the same process; their final excess loss is printed beside. The errors of the peer's weights, over
the optimum's, are those at these times.

Reported for each cell: the best run, the best setting (by median over its starts, all of which must
succeed), the share of runs that succeed, and the time of the whole grid, each over the median time
of the default fit. A user who knows the best setting beforehand pays its time, one who does not
something between that and the time of the grid.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from _common import (
    WEIGHTS,
    Output,
    main_errors,
    mean_squared_error,
    median,
    number,
    option_parser,
    oracle,
    timed_fit,
)
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from gloree import SpectralRNNRegressor, datasets
from gloree.engine import Engine
from gloree.models import IORNN

try:
    import torch
except ImportError:
    torch = None

CELLS = {
    # n_sequences, n_steps, (n_inputs, n_hidden, n_outputs), |U|, seed, batch sizes
    "1": (20_000, 10, (20, 10, 10), 0.1, 900, (64, 256, 1024)),
    "2": (10_000, 10, (10, 10, 4), 0.1, 901, (64, 256, 1024)),
    "3": (2_000, 100, (20, 5, 5), 0.2, 902, (8, 32, 128)),
}
RATES = (0.01, 0.03, 0.1, 0.3)
SCHEDULES = ("constant", "cosine:4", "cosine:10", "cosine:30")
TARGETS = (0.01, 0.001, 0.0001)
CLIP = 1.0
RECURRENT_RATE = 0.1
"""Rate of U over that of the other weights: with equal ones large rates make U explode."""
PLAIN = False
"""Whether the peer is as one would write it: automatic differentiation, one rate for all."""
CHECKS = 5
N_FITS = 5


@dataclass(frozen=True)
class Run:
    """One setting of the peer and one random start."""

    rate: float
    batch: int
    schedule: str
    start: int

    @property
    def horizon(self) -> int | None:
        """Epochs of the cosine decay."""
        kind, _, epochs = self.schedule.partition(":")
        if kind not in ("constant", "cosine") or (kind == "cosine") != bool(epochs):
            raise SystemExit(f"a schedule is 'constant' or 'cosine:EPOCHS', got {self.schedule!r}")
        return int(epochs) if epochs else None


@dataclass
class Outcome:
    """What became of a run."""

    run: Run
    threads: int
    seconds: float
    epochs: float
    excess_loss: float
    reason: str
    reached: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, dict[str, float]] = field(default_factory=dict)


if torch is not None:

    class Recurrence(torch.autograd.Function):
        """States h_t = (drive_t + U h_{t-1})^2 of time-major drives, with a written-out adjoint."""

        @staticmethod
        def forward(ctx: Any, drive: torch.Tensor, U: torch.Tensor) -> torch.Tensor:
            """Return all states; keep 2 z, the slope."""
            states, slopes = torch.empty_like(drive), torch.empty_like(drive)
            transposed = U.t()
            for t in range(drive.shape[0]):
                z = torch.addmm(drive[t], states[t - 1], transposed) if t else drive[0]
                torch.mul(z, z, out=states[t])
                torch.add(z, z, out=slopes[t])
            ctx.save_for_backward(states, slopes, U)
            return states

        @staticmethod
        def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """Walk back; the gradient of U is one product over all steps."""
            states, slopes, U = ctx.saved_tensors
            delta = torch.empty_like(outer)
            last = outer.shape[0] - 1
            torch.mul(outer[last], slopes[last], out=delta[last])
            for t in range(last - 1, -1, -1):
                torch.mul(torch.addmm(outer[t], delta[t + 1], U), slopes[t], out=delta[t])
            k = U.shape[0]
            gradient = delta[1:].reshape(-1, k).t() @ states[:-1].reshape(-1, k)
            return delta, gradient


def autograd_states(drive: Any, U: Any) -> Any:
    """States of time-major drives, left to PyTorch's own automatic differentiation."""
    states = [drive[0] ** 2]
    for part in drive[1:]:
        states.append((part + states[-1] @ U.t()) ** 2)
    return torch.stack(states)


class Peer:
    """The network as PyTorch parameters."""

    def __init__(self, sizes: tuple[int, int, int], mean: Any, start: int, dtype: Any) -> None:
        d, k, q = sizes
        rng = np.random.default_rng([start, *sizes])
        A1 = rng.standard_normal((k, d))
        A1 /= np.linalg.norm(A1, axis=1, keepdims=True)
        A2 = 0.1 * rng.standard_normal((k, q)) / np.sqrt(k)
        U = 0.01 * rng.standard_normal((k, k)) / np.sqrt(k)
        initial = (A1, U, np.zeros(k), A2, mean - A2.sum(axis=0))
        self.parameters = [torch.tensor(w, dtype=dtype, requires_grad=True) for w in initial]

    def predict(self, X: Any) -> Any:
        """Outputs for time-major inputs (n_steps, n_sequences, n_inputs)."""
        A1, U, b, A2, c = self.parameters
        n_steps, n_sequences, d = X.shape
        drive = torch.addmm(b, X.reshape(-1, d), A1.t()).reshape(n_steps, n_sequences, -1)
        states = autograd_states(drive, U) if PLAIN else Recurrence.apply(drive, U)
        return torch.addmm(c, states.reshape(-1, A1.shape[0]), A2)

    def loss(self, X: Any, Y: Any) -> Any:
        """Mean squared error."""
        return torch.nn.functional.mse_loss(self.predict(X), Y.reshape(-1, Y.shape[-1]))

    def mean_loss(self, X: Any, Y: Any, chunk: int) -> float:
        """Mean squared error of many sequences, in pieces, summed in double precision."""
        total = 0.0
        with torch.no_grad():
            for begin in range(0, X.shape[1], chunk):
                part = slice(begin, begin + chunk)
                outputs = Y[:, part]
                error = self.predict(X[:, part]) - outputs.reshape(-1, outputs.shape[-1])
                total += float((error * error).sum(dtype=torch.float64))
        return total / Y.numel()

    def numpy_model(self) -> IORNN:
        """The same network in the library."""
        A1, U, b, A2, c = (w.detach().double().numpy() for w in self.parameters)
        return IORNN(A1, U, A2, hidden_bias=b, output_bias=c)


def check_gradient() -> None:
    """The written-out adjoint against finite differences."""
    generator = torch.Generator().manual_seed(0)
    drive = torch.randn(4, 3, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    U = (0.3 * torch.randn(2, 2, dtype=torch.float64, generator=generator)).requires_grad_()
    assert torch.autograd.gradcheck(Recurrence.apply, (drive, U))


class Data:
    """One cell's data for the peer: tensors, and a subsample for a first look at the loss."""

    def __init__(self, X: np.ndarray, Y: np.ndarray, best: IORNN, dtype: Any) -> None:
        self.X = torch.tensor(X.transpose(1, 0, 2).copy(), dtype=dtype)
        self.Y = torch.tensor(Y.transpose(1, 0, 2).copy(), dtype=dtype)
        # sequence-major copies, whose rows are gathered for a batch in one piece each
        self.rows = torch.tensor(X, dtype=dtype), torch.tensor(Y, dtype=dtype)
        self.mean = Y.mean(axis=(0, 1))
        self.n = X.shape[0]
        self.chunk = max(1, 40_000 // X.shape[1])
        size = max(1, self.n // 10)
        self.sample = self.X[:, :size].contiguous(), self.Y[:, :size].contiguous()
        self.best = mean_squared_error(best, X, Y)
        self.sample_best = mean_squared_error(best, X[:size], Y[:size])

    def batch(self, chosen: Any) -> tuple[Any, Any]:
        """Time-major inputs and outputs of some sequences."""
        return tuple(each[chosen].transpose(0, 1).contiguous() for each in self.rows)

    def excess(self, peer: Peer, bar: float) -> float:
        """Excess loss: over all data where the subsample's comes near the bar, else its own."""
        loss = peer.mean_loss(*self.sample, self.chunk) / self.sample_best - 1
        if loss > 1.5 * bar:
            return loss
        return peer.mean_loss(self.X, self.Y, self.chunk) / self.best - 1


def train(
    run: Run,
    data: Data,
    sizes: tuple[int, int, int],
    cap: float,
    dtype: Any,
    truth: IORNN | None = None,
    best_errors: dict[str, float] | None = None,
) -> Outcome:
    """Train until the last target, the horizon or the cap; evaluations are not timed."""
    torch.manual_seed(run.start)
    peer = Peer(sizes, data.mean, run.start, dtype)
    A1, U, *others = peer.parameters
    groups = [
        {"params": [A1, *others], "factor": 1.0},
        {"params": [U], "factor": 1.0 if PLAIN else RECURRENT_RATE},
    ]
    adam = torch.optim.Adam(groups, lr=run.rate, fused=True)
    per_epoch = -(-data.n // run.batch)
    total = run.horizon * per_epoch if run.horizon else None
    every = max(1, per_epoch // CHECKS)
    out = Outcome(run, torch.get_num_threads(), 0.0, 0.0, np.inf, "")
    missing = list(TARGETS)
    step = exploded = 0
    begin = time.perf_counter()
    while not out.reason:
        for chosen in torch.randperm(data.n).split(run.batch):
            share = 1.0 if total is None else 0.5 * (1.0 + np.cos(np.pi * step / total))
            for group in adam.param_groups:
                group["lr"] = run.rate * share * group["factor"]
            X, Y = data.batch(chosen)
            adam.zero_grad()
            peer.loss(X, Y).backward()
            norm = float(torch.nn.utils.clip_grad_norm_(peer.parameters, CLIP))
            if np.isfinite(norm):  # a batch that exploded is skipped
                adam.step()
            step += 1
            ended = total is not None and step >= total
            if step % every and not ended:
                continue
            out.seconds += time.perf_counter() - begin
            out.excess_loss = data.excess(peer, missing[0])
            exploded = 0 if np.isfinite(out.excess_loss) else exploded + 1
            while missing and out.excess_loss <= missing[0]:
                name = f"{missing.pop(0):g}"
                out.reached[name] = out.seconds
                if truth is not None:
                    errors = main_errors(peer.numpy_model(), truth)
                    out.ratios[name] = {key: errors[key] / best_errors[key] for key in errors}
            if not missing:
                out.reason = "reached"
            elif exploded > 2 * CHECKS:
                out.reason = "not finite"
            elif ended:
                out.reason = "horizon"
            elif out.seconds >= cap:
                out.reason = "time cap"
            if out.reason:
                break
            begin = time.perf_counter()
    out.epochs = step / per_epoch
    return out


def choose_threads(batch: int, data: Data, sizes: tuple[int, int, int], limit: int, dtype: Any):
    """Threads with which a step at this batch size is fastest."""
    if limit == 1:
        return 1
    speed: dict[int, list[float]] = {1: [], limit: []}
    for _ in range(3):
        for threads, speeds in speed.items():
            torch.set_num_threads(threads)
            trial = train(Run(1e-3, batch, "constant", 0), data, sizes, 0.2, dtype)
            speeds.append(trial.epochs / trial.seconds)
    # in doubt one thread: more of them lose much when the machine has other work
    return limit if min(speed[limit]) > 1.05 * max(speed[1]) else 1


def run_cell(name: str, arguments: argparse.Namespace, engine: Engine) -> dict:
    n_sequences, n_steps, sizes, norm, seed, batches = CELLS[name]
    batches = tuple(arguments.batch or batches)
    if arguments.quick:
        n_sequences //= 2
        batches = batches[:2]
    dtype = torch.float64 if arguments.float64 else torch.float32
    X, Y, truth, _ = datasets.make_rnn(
        n_sequences, n_steps, *sizes, recurrence_norm=norm, noise=0.1, random_state=seed
    )
    best = oracle(X, Y, truth, engine=engine)
    data = Data(X, Y, best.model, dtype)
    runs = [
        Run(*each)
        for each in itertools.product(
            arguments.lr, batches, arguments.schedules, range(arguments.starts)
        )
    ]
    random.Random(0).shuffle(runs)
    pauses = {round(i * len(runs) / N_FITS) for i in range(N_FITS)}
    fits, outcomes = [], []

    def outcome(fit: SpectralRNNRegressor, seconds: float) -> dict:
        errors = main_errors(fit.model_, truth)
        return {
            "seconds": seconds,
            "excess_loss": mean_squared_error(fit.model_, X, Y) / best.loss - 1,
            "ratios": {key: errors[key] / best.errors[key] for key in errors},
        }

    threads = {
        batch: choose_threads(batch, data, sizes, arguments.threads, dtype) for batch in batches
    }
    timed_fit(SpectralRNNRegressor(sizes[1], random_state=0, engine=engine), X, Y)
    bar = tqdm(runs, desc=f"cell {name}")
    for i, run in enumerate(bar):
        if i in pauses:
            fit = SpectralRNNRegressor(sizes[1], random_state=len(fits), engine=engine)
            plain = SpectralRNNRegressor(
                sizes[1], refine=None, random_state=len(fits), engine=engine
            )
            seconds, _ = timed_fit(fit, X, Y)
            plain_seconds, _ = timed_fit(plain, X, Y)
            fits.append(outcome(fit, seconds))
            fits[-1]["moments"] = outcome(plain, plain_seconds)
            report = fit.report_
            fits[-1]["before"] = {
                "seconds": sum(stage.seconds for stage in report.stages[:-1]),
                "excess_loss": float(np.mean(report.moments_rmse**2)) / best.loss - 1,
                "ratios": dict.fromkeys(WEIGHTS, float("nan")),
            }
        torch.set_num_threads(threads[run.batch])
        outcomes.append(train(run, data, sizes, arguments.cap, dtype, truth, best.errors))
        bar.set_postfix_str(f"{sum(bool(o.reached) for o in outcomes)} reached")
    label = f"({','.join(map(str, sizes))}) |U| {norm:g}, {n_sequences:,} x {n_steps}"
    return {"cell": label, "optimum": asdict(best) | {"model": None}, "fits": fits} | {
        "runs": [asdict(outcome) for outcome in outcomes]
    }


def by_setting(runs: list[dict], target: str) -> list[dict]:
    """Settings of the peer, best first: share of starts that reach the target, then the median."""
    groups: dict[tuple, list[dict]] = {}
    for run in runs:
        key = (run["run"]["rate"], run["run"]["batch"], run["run"]["schedule"])
        groups.setdefault(key, []).append(run)
    settings = []
    for (rate, batch, schedule), group in groups.items():
        seconds = [run["reached"].get(target, np.inf) for run in group]
        settings.append(
            {
                "name": f"{rate:g}, {batch}, {schedule}",
                "threads": group[0]["threads"],
                "reached": int(np.isfinite(seconds).sum()),
                "runs": group,
                # over all starts: infinite where most of them fail
                "median": float(np.quantile(seconds, 0.5, method="higher")),
                "best": min(seconds),
            }
        )
    return sorted(settings, key=lambda s: (-s["reached"] / len(s["runs"]), s["median"]))


def main_row(result: dict, target: str) -> list[str]:
    """Times of the peer until a target, with their ratios to the fit."""
    runs = result["runs"]
    own = median([fit["seconds"] for fit in result["fits"]])
    reached = [run["reached"][target] for run in runs if target in run["reached"]]
    settings = by_setting(runs, target)
    sure = [s["median"] for s in settings if s["reached"] == len(s["runs"])]
    grid = sum(run["reached"].get(target, run["seconds"]) for run in runs)
    times = (min(reached, default=np.inf), min(sure, default=np.inf), median(reached), grid)
    return [
        f"{result['cell']}, {float(target):g}",
        f"{own:.3f}",
        f"{len(reached)}/{len(runs)}",
        *(f"{number(t)} ({number(t / own)} x)" for t in times),
    ]


def error_rows(result: dict) -> list[list[str]]:
    """Excess losses, and errors of the weights over the optimum's, of the fits and of the peer."""
    fits = result["fits"]
    groups = {
        "default fit": fits,
        "default fit before its last stage": [fit["before"] for fit in fits],
        "moments alone": [fit["moments"] for fit in fits],
    }
    rows = []
    for name, group in groups.items():
        ratios = [number(median([each["ratios"][key] for each in group])) for key in WEIGHTS]
        seconds = median([each["seconds"] for each in group])
        excess = max(each["excess_loss"] for each in group)
        rows.append([f"{result['cell']}, {name}", number(seconds), f"{excess:.1e}", *ratios])
    for target in (f"{each:g}" for each in TARGETS):
        group = [run for run in result["runs"] if target in run["reached"]]
        ratios = [number(median([run["ratios"][target][key] for run in group])) for key in WEIGHTS]
        seconds = median([run["reached"][target] for run in group])
        rows.append([f"{result['cell']}, peer", number(seconds), target, *ratios])
    return rows


def detail_rows(result: dict, limit: int) -> list[list[str]]:
    """Settings of the peer, best first."""
    return [
        [
            s["name"],
            str(s["threads"]),
            f"{s['reached']}/{len(s['runs'])}",
            number(s["median"]),
            number(s["best"]),
            number(median([run["epochs"] for run in s["runs"]])),
            number(median([run["excess_loss"] for run in s["runs"]]), 2),
            ", ".join(sorted({run["reason"] for run in s["runs"]})),
        ]
        for s in by_setting(result["runs"], f"{TARGETS[0]:g}")[:limit]
    ]


def main() -> None:
    parser = option_parser(__doc__, seeds=3)
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--lr", nargs="+", type=float, default=list(RATES))
    parser.add_argument("--batch", nargs="+", type=int, help="sequences in a batch")
    parser.add_argument("--schedules", nargs="+", default=list(SCHEDULES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cap", type=float, metavar="SECONDS", help="limit of a run (default 20)")
    parser.add_argument("--float64", action="store_true", help="double precision for the peer")
    parser.add_argument("--details", type=int, default=12, help="settings listed for each cell")
    parser.add_argument(
        "--plain", action="store_true", help="the peer as one would write it, without the tricks"
    )
    arguments = parser.parse_args()
    global PLAIN
    PLAIN = arguments.plain
    if torch is None:
        print("bptt.py needs PyTorch: python -m pip install torch")
        return
    arguments.starts = arguments.seeds or (1 if arguments.quick else 3)
    arguments.cap = arguments.cap or (5.0 if arguments.quick else 20.0)
    if arguments.quick and arguments.schedules == list(SCHEDULES):
        arguments.schedules = ["cosine:4", "cosine:10"]
    torch.set_num_threads(arguments.threads)
    check_gradient()
    out = Output(arguments, torch=torch.__version__, threads=str(arguments.threads))
    results = []
    with threadpool_limits(arguments.threads):
        for name in arguments.cells:
            result = run_cell(name, arguments, Engine("threads", n_workers=arguments.threads))
            results.append(result)
            out.table(
                f"{result['cell']}: settings of the peer, best first",
                [
                    *("rate, batch, schedule", "threads", "reached", "median s", "best s"),
                    *("epochs", "final excess", "ended by"),
                ],
                detail_rows(result, arguments.details),
            )
    out.table(
        "Seconds until the loss is this near to the optimum's, and their ratio to the whole "
        "default fit",
        ["cell, excess", "fit", "reached", "best run", "best setting", "median run", "grid"],
        [main_row(result, f"{target:g}") for target in TARGETS for result in results],
    )
    out.table(
        "Excess loss, and errors of the weights over the optimum's: medians",
        ["cell", "seconds", "excess loss", *WEIGHTS],
        [row for result in results for row in error_rows(result)],
    )
    out.close(results)


if __name__ == "__main__":
    main()
