"""Gradient training with PyTorch beside the default fit: time to 1 % of the optimum's loss.

    python benchmarks/bptt.py            # three cells, the whole grid (an hour)
    python benchmarks/bptt.py --quick
    python benchmarks/bptt.py --cells 2 --lr 0.01 --schedules cosine:10 --float64

The peer trains the same network, z_t = A1 x_t + U h_{t-1} + b, h_t = z_t^2, y = A2^T h + c, by
backpropagation through time with Adam, on the same data and the same number of threads. It is
written for speed: all input and output products are one matrix product for all steps, the loop over
steps holds two operations, forward and backward (`Recurrence`, whose gradients are tested against
autograd at the start of every run), in single precision, with Adam's fused kernel. Rows of A1
start random with unit norm (the truth's scale), U small, A2 random or small, c at the outputs' mean;
gradients are clipped. The grid: learning rates, batch sizes and schedules (constant, or cosine
decay to zero over a number of epochs), three random starts each.

The clock of a run stops when the loss over all data is within 1 % of the least-squares optimum's;
evaluations do not count. Runs end at the horizon of their schedule, at the time cap, or when the
loss is no longer finite. Default fits are timed in between, in the same process.

Reported for each cell: the best run, the best setting (by median over its starts, all of which must
succeed), the share of runs that succeed, and the time of the whole grid, each over the median time
of the default fit. A user who knows the best setting beforehand pays the first, one who does not
something between that and the last.
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
RATES = (0.003, 0.01, 0.03)
SCHEDULES = ("constant", "cosine:3", "cosine:10", "cosine:40")
TARGET = 1.01
CLIP = 1.0
CHECKS = 4
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
    seconds: float
    reached: bool
    epochs: float
    excess_loss: float
    reason: str
    errors: dict[str, float] = field(default_factory=dict)


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
        states = Recurrence.apply(drive, U)
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
    """The written-out adjoint against autograd's finite differences."""
    generator = torch.Generator().manual_seed(0)
    drive = torch.randn(4, 3, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    U = (0.3 * torch.randn(2, 2, dtype=torch.float64, generator=generator)).requires_grad_()
    assert torch.autograd.gradcheck(Recurrence.apply, (drive, U))


class Data:
    """One cell's data for the peer: time-major tensors, and a subsample for quick checks."""

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
        self.bar = TARGET * mean_squared_error(best, X, Y)
        self.sample_bar = (TARGET + 0.005) * mean_squared_error(best, X[:size], Y[:size])

    def batch(self, chosen: Any) -> tuple[Any, Any]:
        """Time-major inputs and outputs of some sequences."""
        return tuple(each[chosen].transpose(0, 1).contiguous() for each in self.rows)


def train(run: Run, data: Data, sizes: tuple[int, int, int], cap: float, dtype: Any) -> Outcome:
    """Train until the loss is reached, the horizon or the cap; evaluations are not timed."""
    torch.manual_seed(run.start)
    peer = Peer(sizes, data.mean, run.start, dtype)
    adam = torch.optim.Adam(peer.parameters, lr=run.rate, fused=True)
    per_epoch = -(-data.n // run.batch)
    total = run.horizon * per_epoch if run.horizon else None
    # a short schedule goes through the loss within a fraction of an epoch
    every = max(1, per_epoch // CHECKS)
    seconds, step, excess, reason = 0.0, 0, np.inf, ""
    begin = time.perf_counter()
    while not reason:
        order = torch.randperm(data.n)
        for chosen in order.split(run.batch):
            if total is not None:
                share = 0.5 * (1.0 + np.cos(np.pi * step / total))
                for group in adam.param_groups:
                    group["lr"] = run.rate * share
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
            seconds += time.perf_counter() - begin
            loss = peer.mean_loss(*data.sample, data.chunk)
            excess = np.inf if not np.isfinite(loss) else excess
            if loss <= data.sample_bar or ended:
                loss = peer.mean_loss(data.X, data.Y, data.chunk)
                excess = TARGET * loss / data.bar - 1
            if loss <= data.bar and excess <= TARGET - 1:
                reason = "reached"
            elif not np.isfinite(loss):
                reason = "not finite"
            elif ended:
                reason = "horizon"
            elif seconds >= cap:
                reason = "time cap"
            begin = time.perf_counter()
            if reason:
                break
    if reason == "time cap":
        loss = peer.mean_loss(data.X, data.Y, data.chunk)
        excess = TARGET * loss / data.bar - 1
    return Outcome(run, seconds, reason == "reached", step / per_epoch, float(excess), reason)


def run_cell(name: str, arguments: argparse.Namespace, engine: Engine) -> dict:
    n_sequences, n_steps, sizes, norm, seed, batches = CELLS[name]
    if arguments.quick:
        n_sequences //= 5
    dtype = torch.float64 if arguments.float64 else torch.float32
    X, Y, truth, _ = datasets.make_rnn(
        n_sequences, n_steps, *sizes, recurrence_norm=norm, noise=0.1, random_state=seed
    )
    best = oracle(X, Y, truth, engine=engine)
    data = Data(X, Y, best.model, dtype)
    runs = [
        Run(*each)
        for each in itertools.product(
            arguments.lr, arguments.batch or batches, arguments.schedules, range(arguments.starts)
        )
    ]
    random.Random(0).shuffle(runs)
    pauses = {round(i * len(runs) / N_FITS) for i in range(N_FITS)}
    fits, outcomes = [], []
    warm_up = Run(0.01, min(256, n_sequences), "cosine:1", 0)
    train(warm_up, data, sizes, 0.5, dtype)
    timed_fit(SpectralRNNRegressor(sizes[1], random_state=0, engine=engine), X, Y)
    bar = tqdm(runs, desc=f"cell {name}")
    for i, run in enumerate(bar):
        if i in pauses:
            fit = SpectralRNNRegressor(sizes[1], random_state=len(fits), engine=engine)
            seconds, _ = timed_fit(fit, X, Y)
            excess = mean_squared_error(fit.model_, X, Y) / best.loss - 1
            fits.append({"seconds": seconds, "excess_loss": excess})
            fits[-1]["errors"] = main_errors(fit.model_, truth)
        outcomes.append(train(run, data, sizes, arguments.cap, dtype))
        bar.set_postfix_str(f"{sum(o.reached for o in outcomes)} reached")
    label = f"({','.join(map(str, sizes))}) |U| {norm:g}, {n_sequences:,} x {n_steps}"
    return {"cell": label, "optimum": asdict(best) | {"model": None}, "fits": fits} | {
        "runs": [asdict(outcome) for outcome in outcomes]
    }


def summary(result: dict) -> tuple[list[str], list[list[str]]]:
    """Row of the main table, and rows of the table of settings, best first."""
    fits, runs = result["fits"], result["runs"]
    own = median([fit["seconds"] for fit in fits])
    reached = [run for run in runs if run["reached"]]
    settings: dict[tuple, list[dict]] = {}
    for run in runs:
        key = (run["run"]["rate"], run["run"]["batch"], run["run"]["schedule"])
        settings.setdefault(key, []).append(run)
    ranked = []
    for key, group in settings.items():
        good = [run["seconds"] for run in group if run["reached"]]
        # the median over all starts, infinite where most of them fail
        middle = float(np.median([r["seconds"] if r["reached"] else np.inf for r in group]))
        ranked.append((-len(good) / len(group), middle, key, group, good))
    ranked.sort(key=lambda each: each[:2])
    sure = [each[1] for each in ranked if each[0] == -1]
    best_setting = min(sure) if sure else np.inf
    best = min((run["seconds"] for run in reached), default=np.inf)
    grid = sum(run["seconds"] for run in runs)
    middle = median([run["seconds"] for run in reached])
    row = [
        result["cell"],
        f"{own:.3f}",
        f"{max(fit['excess_loss'] for fit in fits):.1e}",
        f"{len(reached)}/{len(runs)}",
        *(f"{number(t)} ({number(t / own)} x)" for t in (best, best_setting, middle, grid)),
    ]
    details = [
        [
            f"{key[0]:g}, {key[1]}, {key[2]}",
            f"{len(good)}/{len(group)}",
            number(middle),
            number(min(good, default=np.inf)),
            number(median([run["epochs"] for run in group])),
            number(median([run["excess_loss"] for run in group]), 2),
            ", ".join(sorted({run["reason"] for run in group})),
        ]
        for _, middle, key, group, good in ranked
    ]
    return row, details


def main() -> None:
    parser = option_parser(__doc__, seeds=3)
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--lr", nargs="+", type=float, default=list(RATES))
    parser.add_argument("--batch", nargs="+", type=int, help="sequences in a batch")
    parser.add_argument("--schedules", nargs="+", default=list(SCHEDULES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cap", type=float, metavar="SECONDS", help="limit of a run (default 30)")
    parser.add_argument("--float64", action="store_true", help="double precision for the peer")
    parser.add_argument("--details", type=int, default=12, help="settings listed for each cell")
    arguments = parser.parse_args()
    if torch is None:
        print("bptt.py needs PyTorch: python -m pip install torch")
        return
    arguments.starts = arguments.seeds or (1 if arguments.quick else 3)
    arguments.cap = arguments.cap or (3.0 if arguments.quick else 30.0)
    if arguments.quick and arguments.schedules == list(SCHEDULES):
        arguments.schedules = ["constant", "cosine:10"]
    torch.set_num_threads(arguments.threads)
    check_gradient()
    out = Output(arguments, torch=torch.__version__, threads=str(arguments.threads))
    results, rows = [], []
    with threadpool_limits(arguments.threads):
        for name in arguments.cells:
            result = run_cell(name, arguments, Engine("threads", n_workers=arguments.threads))
            row, details = summary(result)
            results.append(result)
            rows.append(row)
            out.table(
                f"{result['cell']}: settings of the peer, best first",
                ["rate, batch, schedule", "reached", "median s", "best s", "epochs", "excess"]
                + ["ended by"],
                details[: arguments.details],
            )
    out.table(
        f"Seconds until the loss is within {TARGET - 1:.0%} of the optimum's, and their ratio to "
        "the whole default fit",
        ["cell", "fit", "its excess", "reached", "best run", "best setting", "median", "grid"],
        rows,
    )
    out.close(results)


if __name__ == "__main__":
    main()
