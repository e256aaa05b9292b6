"""Gradient training with PyTorch beside the default fit: time until the weights are found.

    python benchmarks/bptt.py            # six cells, Adam and L-BFGS (half an hour)
    python benchmarks/bptt.py --quick
    python benchmarks/bptt.py --cells long --lr 0.03 --schedules cosine:10 --float64
    python benchmarks/bptt.py --loss     # time until the loss is near the optimum's, Adam
    python benchmarks/bptt.py --loss --plain --lr 0.003 0.01 0.03
    python benchmarks/bptt.py --smooth   # eight cells with tanh, softplus and ReLU

The peer trains the same network, z_t = A1 x_t + U h_{t-1} + b, h_t = f(z_t), y = A2^T h + c, with f
a square, a cube, or with ``--smooth`` tanh, softplus or ReLU (and, for a bidirectional network, a
second chain that runs backward, in the same loop), by backpropagation through time on the same data
and the same number of threads. It is written for speed: all input and output products are one
matrix product for all steps, the loop over steps holds a few operations, forward and backward
(`Recurrence`, whose gradients are tested against finite differences at the start), on one thread
where a batch is too small to gain from more (tried beforehand). Rows of A1 start random with unit
norm (the truth's scale), U and A2 small, the predicted mean at the outputs' mean. It is told the
directions of units, which a fit has to find.

Adam: single precision, the fused kernel; gradients are clipped, and U learns at a tenth of the rate
where f is a polynomial, which lets the others take large ones without an explosion. A grid of
learning rates, batch sizes and schedules (constant, or cosine decay to zero over a number of
epochs), some random starts each. L-BFGS: all data at once, double precision, strong Wolfe line
search, a history of 100, more random starts; a step that explodes counts as a very large loss.
``--plain`` takes the peer as one would write it first: the loop over steps left to automatic
differentiation, and one learning rate for all weights.

Times are taken of a run until the error of every weight matrix (A1, U, A2, and for bidirectional
networks B1, V) is at most 1.2 times that of the least-squares optimum. This is tested several times
an epoch, and at every trial point of L-BFGS's line search; the tests do not count. With ``--loss``
times are taken until the loss over all data is within 1, 0.1 and 0.01 % of the optimum's. (For
scale: the optimum's own loss is 0.02 to 0.06 % below the truth's.) Runs end there, at the horizon
of their schedule, where L-BFGS stops moving or after 1000 evaluations, at the time cap (by default
60 times the fit), or when the loss has not been finite for two epochs. Default fits are timed in
between, in the same process, and fits of more data sets from the same law are judged by the same
limit.

Reported for each cell: the share of runs that succeed, the best run, and the time with restarts (of
the best setting: seconds of all its runs for each that succeeds; where none does, more than all of
them took), and the time of all runs, each over the median time of the default fit. With ``--loss``
also the best setting by median over its starts. A user who knows the best setting beforehand pays
its time, one who does not something between that and the time of all runs.

Acceptance: in the median over cells the best run takes at least 10 times as long as the default
fit, and all fits are within the limit.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import smooth
from _common import (
    WEIGHTS,
    Column,
    Optimum,
    Output,
    main_errors,
    mean_squared_error,
    median,
    option_parser,
    oracle,
    timed_fit,
)
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from gloree import SpectralRNNRegressor, datasets
from gloree.engine import Engine
from gloree.models import BRNN, IORNN, Network

try:
    import torch
except ImportError:
    torch = None


@dataclass(frozen=True)
class Cell:
    """Sizes of a problem, and batch sizes for the peer."""

    n_sequences: int
    n_steps: int
    sizes: tuple[int, int, int]
    norm: float
    seed: int
    batches: tuple[int, ...]
    activation: str = "quadratic"
    bidirectional: bool = False

    @property
    def smooth(self) -> bool:
        """Whether states cannot explode."""
        return self.activation not in ("quadratic", "cubic")

    @property
    def n_forward(self) -> int:
        """Units of the forward chain."""
        return self.sizes[1] - (self.sizes[1] // 2 if self.bidirectional else 0)

    @property
    def name(self) -> str:
        """For tables."""
        d, k, q = self.sizes
        units = f"{self.n_forward}+{k - self.n_forward}" if self.bidirectional else k
        words = {"quadratic": "", "cubic": " degree 3"}
        power = words.get(self.activation, f" {self.activation}")
        return f"({d},{units},{q}){power} |U| {self.norm:g}, {self.n_sequences:,} x {self.n_steps}"

    def simulate(self, seed: int) -> tuple[np.ndarray, np.ndarray, Network]:
        """Inputs, outputs and the network behind them."""
        if self.smooth:
            return smooth.Cell(
                self.name,
                self.activation,
                self.sizes,
                self.norm,
                n_sequences=self.n_sequences,
                n_steps=self.n_steps,
            ).simulate(seed)
        X, Y, truth, _ = datasets.make_rnn(
            *(self.n_sequences, self.n_steps, *self.sizes),
            recurrence_norm=self.norm,
            noise=0.1,
            degree=3 if self.activation == "cubic" else 2,
            bidirectional=self.bidirectional,
            random_state=seed,
        )
        return X, Y, truth

    def estimator(self, seed: int, engine: Engine, **options: Any) -> SpectralRNNRegressor:
        """The default fit."""
        return SpectralRNNRegressor(
            self.sizes[1],
            bidirectional=self.bidirectional,
            activation=self.activation,
            random_state=seed,
            engine=engine,
            **options,
        )


CELLS = {
    "short": Cell(5_000, 10, (10, 5, 5), 0.1, 910, (64, 256)),
    "long": Cell(200, 500, (10, 5, 5), 0.1, 911, (8, 16)),
    "few-outputs": Cell(5_000, 20, (10, 6, 3), 0.1, 912, (64, 256)),
    "many-outputs": Cell(5_000, 10, (8, 4, 12), 0.1, 913, (64, 256)),
    "cubic": Cell(5_000, 20, (6, 3, 3), 0.1, 914, (64, 256), "cubic"),
    "both-ways": Cell(5_000, 10, (10, 6, 6), 0.15, 915, (64, 256), bidirectional=True),
}
LOSS_CELLS = {
    "1": Cell(20_000, 10, (20, 10, 10), 0.1, 900, (64, 256, 1024)),
    "2": Cell(10_000, 10, (10, 10, 4), 0.1, 901, (64, 256, 1024)),
    "3": Cell(2_000, 100, (20, 5, 5), 0.2, 902, (8, 32, 128)),
}
SMOOTH_CELLS = {
    "tanh": Cell(10_000, 10, (10, 5, 5), 0.6, 920, (64, 256), "tanh"),
    "tanh-long": Cell(1_000, 100, (10, 5, 5), 0.9, 921, (8, 32), "tanh"),
    "tanh-large": Cell(10_000, 10, (20, 10, 10), 0.6, 922, (64, 256), "tanh"),
    "softplus": Cell(10_000, 10, (10, 5, 5), 0.6, 923, (64, 256), "softplus"),
    "softplus-few-outputs": Cell(10_000, 10, (10, 10, 4), 0.6, 924, (64, 256), "softplus"),
    "relu": Cell(10_000, 10, (10, 5, 5), 0.6, 925, (64, 256), "relu"),
    "relu-long": Cell(1_000, 100, (10, 5, 5), 0.9, 926, (8, 32), "relu"),
    "relu-large": Cell(10_000, 10, (20, 10, 10), 0.6, 927, (64, 256), "relu"),
}
RATES = (0.03, 0.1)
SMOOTH_RATES, SMOOTH_SCHEDULES = (0.003, 0.01, 0.03), ("cosine:30", "cosine:100")
LOSS_RATES = (0.01, 0.03, 0.1, 0.3)
SCHEDULES = ("cosine:10", "cosine:20", "cosine:30")
LOSS_SCHEDULES = ("constant", "cosine:4", "cosine:10", "cosine:30")
WEIGHT_TARGETS = (1.2,)
LOSS_TARGETS = (0.01, 0.001, 0.0001)
CAP_IN_FITS = 60
CLIP = 1.0
RECURRENT_RATE = 0.1
"""Rate of U over that of the other weights: with equal ones large rates make U explode."""
PLAIN = False
"""Whether the peer is as one would write it: automatic differentiation, one rate for all."""
CHECKS = 5
N_FITS = 5
HISTORY = 100
EVALUATIONS = 1000
LBFGS = "L-BFGS"


@dataclass(frozen=True)
class Run:
    """One setting of the peer and one random start; L-BFGS has all data in one batch."""

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

    @property
    def setting(self) -> str:
        """All but the start, for tables."""
        if self.schedule == LBFGS:
            return LBFGS
        return f"{self.rate:g}, {self.batch}, {self.schedule}"


@dataclass
class Outcome:
    """What became of a run; `figure` is what the targets bound."""

    run: Run
    threads: int
    seconds: float = 0.0
    epochs: float = 0.0
    cpu_seconds: float = 0.0
    figure: float = np.inf
    reason: str = ""
    reached: dict[str, float] = field(default_factory=dict)
    reached_cpu: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, dict[str, float]] = field(default_factory=dict)


if torch is not None:

    def square(z: torch.Tensor, state: torch.Tensor, slope: torch.Tensor) -> None:
        """z^2 and 2 z."""
        torch.mul(z, z, out=state)
        torch.add(z, z, out=slope)

    def cube(z: torch.Tensor, state: torch.Tensor, slope: torch.Tensor) -> None:
        """z^3 and 3 z^2."""
        torch.mul(z, z, out=slope)
        torch.mul(slope, z, out=state)
        slope *= 3.0

    def tanh(z: torch.Tensor, state: torch.Tensor, slope: torch.Tensor) -> None:
        """Values and slopes 1 - tanh^2 z."""
        torch.tanh(z, out=state)
        torch.mul(state, state, out=slope)
        slope.neg_().add_(1.0)

    def softplus(z: torch.Tensor, state: torch.Tensor, slope: torch.Tensor) -> None:
        """log(1 + e^z) and 1 / (1 + e^-z)."""
        torch.sigmoid(z, out=slope)
        state.copy_(torch.nn.functional.softplus(z))

    def relu(z: torch.Tensor, state: torch.Tensor, slope: torch.Tensor) -> None:
        """max(z, 0) and 1 where that is z."""
        torch.clamp(z, min=0.0, out=state)
        slope.copy_(z > 0)

    FUNCTIONS = {
        "quadratic": square,
        "cubic": cube,
        "tanh": tanh,
        "softplus": softplus,
        "relu": relu,
    }
    PLAIN_FUNCTIONS = {
        "quadratic": torch.square,
        "cubic": lambda z: z**3,
        "tanh": torch.tanh,
        "softplus": torch.nn.functional.softplus,
        "relu": torch.relu,
    }

    class Recurrence(torch.autograd.Function):
        """States h_t = f(drive_t + U h_{t-1}) of time-major drives, with a written-out adjoint."""

        @staticmethod
        def forward(ctx: Any, drive: torch.Tensor, U: torch.Tensor, name: str) -> torch.Tensor:
            """Return all states; keep the slope f'(z)."""
            apply = FUNCTIONS[name]
            states, slopes = torch.empty_like(drive), torch.empty_like(drive)
            transposed = U.t()
            for t in range(drive.shape[0]):
                z = torch.addmm(drive[t], states[t - 1], transposed) if t else drive[0]
                apply(z, states[t], slopes[t])
            ctx.save_for_backward(states, slopes, U)
            return states

        @staticmethod
        def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
            """Walk back; the gradient of U is one product over all steps."""
            states, slopes, U = ctx.saved_tensors
            delta = torch.empty_like(outer)
            last = outer.shape[0] - 1
            torch.mul(outer[last], slopes[last], out=delta[last])
            for t in range(last - 1, -1, -1):
                torch.mul(torch.addmm(outer[t], delta[t + 1], U), slopes[t], out=delta[t])
            k = U.shape[0]
            gradient = delta[1:].reshape(-1, k).t() @ states[:-1].reshape(-1, k)
            return delta, gradient, None


def autograd_states(drive: Any, U: Any, name: str) -> Any:
    """States of time-major drives, left to PyTorch's own automatic differentiation."""
    f = PLAIN_FUNCTIONS[name]
    states = [f(drive[0])]
    for part in drive[1:]:
        states.append(f(part + states[-1] @ U.t()))
    return torch.stack(states)


class Peer:
    """The network as PyTorch parameters; the chains of both directions run in one loop."""

    def __init__(self, cell: Cell, mean: Any, start: int, dtype: Any) -> None:
        d, k, q = cell.sizes
        rng = np.random.default_rng([start, *cell.sizes])
        A1 = rng.standard_normal((k, d))
        A1 /= np.linalg.norm(A1, axis=1, keepdims=True)
        A2 = 0.1 * rng.standard_normal((k, q)) / np.sqrt(k)
        chains = [n for n in (cell.n_forward, k - cell.n_forward) if n]
        Us = [0.01 * rng.standard_normal((n, n)) / np.sqrt(n) for n in chains]
        # E z^2 is near 1, E z^3 near 0
        c = mean - A2.sum(axis=0) if cell.activation == "quadratic" else mean
        initial = (A1, np.zeros(k), A2, c, *Us)
        self.parameters = [torch.tensor(w, dtype=dtype, requires_grad=True) for w in initial]
        self.main, self.recurrent = self.parameters[:4], self.parameters[4:]
        self.cell = cell

    def predict(self, X: Any) -> Any:
        """Outputs for time-major inputs (n_steps, n_sequences, n_inputs)."""
        A1, b, A2, c = self.main
        n_steps, n_sequences, d = X.shape
        drive = torch.addmm(b, X.reshape(-1, d), A1.t()).reshape(n_steps, n_sequences, -1)
        U = self.recurrent[0]
        if self.cell.bidirectional:
            drive = self._turned(drive)
            U = torch.block_diag(*self.recurrent)
        states = (autograd_states if PLAIN else Recurrence.apply)(drive, U, self.cell.activation)
        if self.cell.bidirectional:
            states = self._turned(states)
        return torch.addmm(c, states.reshape(-1, A1.shape[0]), A2)

    def _turned(self, rows: Any) -> Any:
        """The units of the backward chain with time reversed."""
        n = self.cell.n_forward
        return torch.cat([rows[..., :n], rows[..., n:].flip(0)], dim=-1)

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

    def numpy_model(self) -> Network:
        """The same network in the library."""
        A1, b, A2, c, *Us = (w.detach().double().numpy() for w in self.parameters)
        others = {"hidden_bias": b, "output_bias": c, "activation": self.cell.activation}
        if not self.cell.bidirectional:
            return IORNN(A1, Us[0], A2, **others)
        n = self.cell.n_forward
        return BRNN(A1[:n], Us[0], A1[n:], Us[1], A2, **others)


def check_gradient() -> None:
    """The written-out adjoint against finite differences."""
    generator = torch.Generator().manual_seed(0)
    drive = torch.randn(4, 3, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    U = (0.3 * torch.randn(2, 2, dtype=torch.float64, generator=generator)).requires_grad_()
    for name in FUNCTIONS:
        assert torch.autograd.gradcheck(Recurrence.apply, (drive, U, name))


def error_ratios(model: Network, truth: Network, best: Optimum) -> dict[str, float]:
    """Errors of the weights over the optimum's; infinite where units have another direction."""
    if isinstance(truth, BRNN) and model.n_forward != truth.n_forward:
        return dict.fromkeys(best.errors, np.inf)
    errors = main_errors(model, truth)
    return {key: errors[key] / best.errors[key] for key in errors}


class Data:
    """One cell's data for the peer, and the figure that its targets bound."""

    def __init__(
        self,
        cell: Cell,
        data: tuple[np.ndarray, np.ndarray, Network],
        best: Optimum,
        dtype: Any,
        by_loss: bool,
    ) -> None:
        X, Y, self.truth = data
        self.cell, self.best, self.dtype, self.by_loss = cell, best, dtype, by_loss
        self.targets = LOSS_TARGETS if by_loss else WEIGHT_TARGETS
        self.X = torch.tensor(X.transpose(1, 0, 2).copy(), dtype=dtype)
        self.Y = torch.tensor(Y.transpose(1, 0, 2).copy(), dtype=dtype)
        # sequence-major copies, whose rows are gathered for a batch in one piece each
        self.rows = torch.tensor(X, dtype=dtype), torch.tensor(Y, dtype=dtype)
        self.mean = Y.mean(axis=(0, 1))
        self.n = X.shape[0]
        self.chunk = max(1, 40_000 // X.shape[1])
        # a subsample for a first look at the loss
        size = max(1, self.n // 10)
        self.sample = self.X[:, :size].contiguous(), self.Y[:, :size].contiguous()
        self.sample_best = mean_squared_error(best.model, X[:size], Y[:size])

    def batch(self, chosen: Any) -> tuple[Any, Any]:
        """Time-major inputs and outputs of some sequences."""
        return tuple(each[chosen].transpose(0, 1).contiguous() for each in self.rows)

    def ratios(self, peer: Peer) -> dict[str, float]:
        """Errors of the peer's weights over the optimum's."""
        if not all(bool(torch.isfinite(w).all()) for w in peer.parameters):
            return dict.fromkeys(self.best.errors, np.inf)
        return error_ratios(peer.numpy_model(), self.truth, self.best)

    def figure(self, peer: Peer, bar: float) -> float:
        """Largest ratio of errors, or the excess loss: over all data if near the bar."""
        if not self.by_loss:
            return max(self.ratios(peer).values())
        loss = peer.mean_loss(*self.sample, self.chunk) / self.sample_best - 1
        if loss > 1.5 * bar:
            return loss
        return peer.mean_loss(self.X, self.Y, self.chunk) / self.best.loss - 1


class Watch:
    """Times a run, but for its tests, until the last target or the cap."""

    def __init__(self, run: Run, data: Data, cap: float) -> None:
        self.data, self.cap = data, cap
        self.outcome = Outcome(run, torch.get_num_threads())
        self.missing = list(data.targets)
        self.exploded = 0
        self.begin, self.begin_cpu = time.perf_counter(), time.process_time()

    def over(self, peer: Peer, epochs: float, *, ended: bool = False) -> bool:
        """Test the peer with the clock stopped; whether the run is over."""
        out = self.outcome
        out.seconds += time.perf_counter() - self.begin
        out.cpu_seconds += time.process_time() - self.begin_cpu
        out.epochs = epochs
        out.figure = self.data.figure(peer, self.missing[0])
        self.exploded = 0 if np.isfinite(out.figure) else self.exploded + 1
        while self.missing and out.figure <= self.missing[0]:
            name = f"{self.missing.pop(0):g}"
            out.reached[name] = out.seconds
            out.reached_cpu[name] = out.cpu_seconds
            out.ratios[name] = self.data.ratios(peer)
        if not self.missing:
            out.reason = "reached"
        elif self.exploded > 2 * CHECKS:
            out.reason = "not finite"
        elif ended:
            out.reason = "horizon"
        elif out.seconds >= self.cap:
            out.reason = "time cap"
        self.begin, self.begin_cpu = time.perf_counter(), time.process_time()
        return bool(out.reason)


class Ended(Exception):
    """Leaves the loop of L-BFGS."""


def train(run: Run, data: Data, cap: float) -> Outcome:
    """Train until the last target, the horizon or the cap."""
    torch.manual_seed(run.start)
    peer = Peer(data.cell, data.mean, run.start, data.dtype)
    watch = Watch(run, data, cap)
    (train_lbfgs if run.schedule == LBFGS else train_adam)(peer, run, data, watch)
    return watch.outcome


def train_adam(peer: Peer, run: Run, data: Data, watch: Watch) -> None:
    """Adam on batches of sequences, drawn anew for every epoch."""
    groups = [
        {"params": peer.main, "factor": 1.0},
        {"params": peer.recurrent, "factor": 1.0 if PLAIN or peer.cell.smooth else RECURRENT_RATE},
    ]
    adam = torch.optim.Adam(groups, lr=run.rate, fused=True)
    per_epoch = -(-data.n // run.batch)
    total = run.horizon * per_epoch if run.horizon else None
    every = max(1, per_epoch // CHECKS)
    step = 0
    while True:
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
            if (step % every == 0 or ended) and watch.over(peer, step / per_epoch, ended=ended):
                return


def train_lbfgs(peer: Peer, run: Run, data: Data, watch: Watch) -> None:
    """L-BFGS on all data; every trial point is tested."""
    optimizer = torch.optim.LBFGS(
        peer.parameters,
        lr=run.rate,
        max_iter=EVALUATIONS,
        max_eval=EVALUATIONS,
        tolerance_grad=1e-11,
        tolerance_change=1e-11,
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
    )
    n_evaluations = 0
    first = 0.0

    def closure() -> Any:
        nonlocal n_evaluations, first
        if n_evaluations and watch.over(peer, n_evaluations):
            raise Ended
        optimizer.zero_grad()
        loss = peer.loss(data.X, data.Y)
        n_evaluations += 1
        first = first or loss.item()
        if not loss.item() <= 100 * first:
            # an explosion: a wall that the line search turns back from
            for w in peer.parameters:
                w.grad = torch.zeros_like(w)
            return torch.tensor(100 * first, dtype=data.dtype)
        loss.backward()
        return loss

    try:
        optimizer.step(closure)
    except Ended:
        return
    if not watch.over(peer, n_evaluations, ended=n_evaluations >= EVALUATIONS):
        watch.outcome.reason = "converged"


def choose_threads(batch: int, data: Data, limit: int) -> int:
    """Threads with which a step at this batch size is fastest."""
    if limit == 1:
        return 1
    schedule = LBFGS if batch == data.n else "constant"
    speed: dict[int, list[float]] = {1: [], limit: []}
    for _ in range(3):
        for threads, speeds in speed.items():
            torch.set_num_threads(threads)
            trial = train(Run(1e-3, batch, schedule, 0), data, 0.2)
            speeds.append(trial.epochs / trial.seconds)
    # in doubt one thread: more of them lose much when the machine has other work
    return limit if min(speed[limit]) > 1.05 * max(speed[1]) else 1


def peer_runs(cell: Cell, arguments: argparse.Namespace) -> list[Run]:
    """The grid of Adam and the starts of L-BFGS, in random order."""
    batches = tuple(arguments.batch or cell.batches)
    grid = itertools.product(arguments.lr, batches, arguments.schedules, range(arguments.starts))
    runs = [Run(*each) for each in grid]
    # a start with units in wrong directions is lost: there are 20 ways to split six
    starts = arguments.lbfgs * (3 if cell.bidirectional else 1)
    runs += [Run(1.0, cell.n_sequences, LBFGS, start) for start in range(starts)]
    random.Random(0).shuffle(runs)
    return runs


def recovery(cell: Cell, n_seeds: int, engine: Engine) -> list[float]:
    """Largest ratio of errors of default fits to data sets of their own."""
    worst = []
    for seed in tqdm(range(cell.seed, cell.seed + n_seeds), desc="fits"):
        X, Y, truth = cell.simulate(seed)
        fit = cell.estimator(seed, engine)
        timed_fit(fit, X, Y)
        ratios = error_ratios(fit.model_, truth, oracle(X, Y, truth, engine=engine))
        worst.append(max(ratios.values()))
    return worst


def run_cell(cell: Cell, arguments: argparse.Namespace, engine: Engine) -> dict:
    if arguments.quick:
        cell = replace(cell, n_sequences=cell.n_sequences // 2, batches=cell.batches[:2])
    single = torch.float64 if arguments.float64 else torch.float32
    X, Y, truth = drawn = cell.simulate(cell.seed)
    best = oracle(X, Y, truth, engine=engine)
    data = Data(cell, drawn, best, single, arguments.loss)
    whole = Data(cell, drawn, best, torch.float64, arguments.loss)
    fits, outcomes = [], []

    def outcome(fit: SpectralRNNRegressor, seconds: float) -> dict:
        return {
            "seconds": seconds,
            "excess_loss": mean_squared_error(fit.model_, X, Y) / best.loss - 1,
            "ratios": error_ratios(fit.model_, truth, best),
        }

    runs = peer_runs(cell, arguments)
    pauses = {round(i * len(runs) / N_FITS) for i in range(N_FITS)}
    threads = {
        batch: choose_threads(batch, whole if batch == data.n else data, arguments.threads)
        for batch in sorted({run.batch for run in runs})
    }
    first = [timed_fit(cell.estimator(0, engine), X, Y)[0] for _ in range(3)]
    cap = arguments.cap or (20.0 if arguments.loss else CAP_IN_FITS * median(first[1:]))
    bar = tqdm(runs, desc=cell.name)
    for i, run in enumerate(bar):
        if i in pauses:
            fit = cell.estimator(len(fits), engine)
            cpu = time.process_time()
            seconds, _ = timed_fit(fit, X, Y)
            cpu = time.process_time() - cpu
            fits.append(outcome(fit, seconds) | {"cpu_seconds": cpu})
            if arguments.loss:
                plain = cell.estimator(len(fits) - 1, engine, refine=None)
                plain_seconds, _ = timed_fit(plain, X, Y)
                fits[-1]["moments"] = outcome(plain, plain_seconds)
                report = fit.report_
                names = [stage.name for stage in report.stages]
                rounds = names.index("rounds" if "rounds" in names else "derivatives")
                fits[-1]["before"] = {
                    "seconds": sum(stage.seconds for stage in report.stages[: rounds + 1]),
                    "excess_loss": float(np.mean(report.moments_rmse**2)) / best.loss - 1,
                    "ratios": dict.fromkeys(WEIGHTS, float("nan")),
                }
        torch.set_num_threads(threads[run.batch])
        outcomes.append(train(run, whole if run.schedule == LBFGS else data, cap))
        bar.set_postfix_str(f"{sum(bool(o.reached) for o in outcomes)} reached")
    return {
        "cell": cell.name,
        "cap": cap,
        "optimum": asdict(best) | {"model": None},
        "fits": fits,
        "recovery": [] if arguments.loss else recovery(cell, arguments.fits, engine),
        "runs": [asdict(each) | {"setting": each.run.setting} for each in outcomes],
    }


def by_setting(runs: list[dict], target: str) -> list[dict]:
    """Settings of the peer, best first: share of starts that reach the target, then the median."""
    groups: dict[str, list[dict]] = {}
    for run in runs:
        groups.setdefault(run["setting"], []).append(run)
    settings = []
    for name, group in groups.items():
        seconds = [run["reached"].get(target, np.inf) for run in group]
        settings.append(
            {
                "name": name,
                "threads": group[0]["threads"],
                "reached": int(np.isfinite(seconds).sum()),
                "runs": group,
                # over all starts: infinite where most of them fail
                "median": float(np.quantile(seconds, 0.5, method="higher")),
                "best": min(seconds),
            }
        )
    return sorted(settings, key=lambda s: (-s["reached"] / len(s["runs"]), s["median"]))


def own_seconds(result: dict) -> float:
    """Median time of the default fit."""
    return median([fit["seconds"] for fit in result["fits"]])


def weight_times(result: dict, setting: str | None = None) -> list[float]:
    """Seconds until the weights are found, infinite where they are not; of all runs or some."""
    target = f"{WEIGHT_TARGETS[0]:g}"
    runs = [run for run in result["runs"] if setting in (None, run["setting"])]
    return [run["reached"].get(target, np.inf) for run in runs]


def with_restarts(result: dict, setting: str) -> float:
    """Seconds of all runs of a setting for each that finds the weights."""
    reached = np.isfinite(weight_times(result, setting)).sum()
    seconds = sum(run["seconds"] for run in result["runs"] if run["setting"] == setting)
    return seconds / reached if reached else np.inf


def weight_row(result: dict) -> dict[str, Any]:
    """Times of both peers until the weights are found, over the fit's."""
    own, limit = own_seconds(result), WEIGHT_TARGETS[0]
    row = {
        "cell": result["cell"],
        "fit": own,
        "within": sum(ratio <= limit for ratio in result["recovery"]),
        "fits": len(result["recovery"]),
    }
    settings = sorted({run["setting"] for run in result["runs"]})
    for peer in ("Adam", LBFGS):
        group = [setting for setting in settings if (setting == LBFGS) == (peer == LBFGS)]
        times = [seconds for setting in group for seconds in weight_times(result, setting)]
        best = min(times, default=np.inf)
        restarts = min((with_restarts(result, setting) for setting in group), default=np.inf)
        row |= {f"{peer} reached": int(np.isfinite(times).sum()), f"{peer} runs": len(times)}
        row |= {f"{peer} best": best / own, f"{peer} restarts": restarts / own}
    row["all"] = sum(run["seconds"] for run in result["runs"]) / own
    name = f"{limit:g}"
    cpu = min(run["reached_cpu"].get(name, np.inf) for run in result["runs"])
    row["best"] = min(weight_times(result)) / own
    row["best_cpu"] = cpu / median([fit["cpu_seconds"] for fit in result["fits"]])
    return row | {"worst": max(result["recovery"], default=np.nan)}


def weight_summary(results: list[dict], out: Output) -> None:
    """The main table of times until the weights are found, and the acceptance."""
    limit = WEIGHT_TARGETS[0]
    rows = [weight_row(result) for result in results]
    out.table(
        "weights",
        f"Times until every weight error is at most {limit:g} times the optimum's, in times of the "
        "default fit; fits within that limit",
        [
            Column("cell", "{cell}"),
            Column("fit", "{fit:3s}", "s"),
            Column("fits within", "{within}/{fits}"),
            *(
                Column(f"{peer}: {label}", cell.replace("P", peer))
                for peer in ("Adam", LBFGS)
                for label, cell in (
                    ("reached", "{P reached}/{P runs}"),
                    ("best run", "{P best:3s}"),
                    ("with restarts", "{P restarts:3s}"),
                )
            ),
            Column("all runs", "{all:3s}"),
        ],
        rows,
    )
    factors = [row["best"] for row in rows]
    reached = [factor for factor in factors if np.isfinite(factor)]
    within, total = (sum(row[key] for row in rows) for key in ("within", "fits"))
    out.figure("median_ratio", median(factors), "{value:2s}", "best run over the fit, median")
    out.figure("least_ratio", min(factors), "{value:2s}", "best run over the fit, least")
    out.figure("most_ratio", max(reached, default=None), "{value:2s}", "the largest, if reached")
    cpu = median([row["best_cpu"] for row in rows])
    out.figure("median_cpu", cpu, "{value:2s}", "in CPU time, median")
    out.figure("cells", len(rows), "{value}", "cells")
    out.figure("cells_reached", len(reached), "{value}", "cells in which a run succeeds")
    out.figure("within", within, "{value}", "fits within the limit")
    out.figure("fits", total, "{value}", "fits judged")
    worst = max(row["worst"] for row in rows)
    out.figure("worst", worst, "{value:.3f}", "largest ratio of an error of a fit")
    out.target("time_met", median(factors) >= 10, "the best run takes 10 times as long")
    out.target("fits_met", within == total, "all fits within the limit")


def loss_row(result: dict, target: str) -> dict[str, Any]:
    """Times of the peer until a target, with their ratios to the fit."""
    runs = result["runs"]
    own = own_seconds(result)
    reached = [run["reached"][target] for run in runs if target in run["reached"]]
    settings = by_setting(runs, target)
    sure = [s["median"] for s in settings if s["reached"] == len(s["runs"])]
    return {
        "name": f"{result['cell']}, {float(target):g}",
        "fit": own,
        "reached": len(reached),
        "runs": len(runs),
        "best": min(reached, default=np.inf) / own,
        "setting": min(sure, default=np.inf) / own,
        "median": median(reached) / own,
        "grid": sum(run["reached"].get(target, run["seconds"]) for run in runs) / own,
        "target": target,
    }


def error_rows(result: dict) -> list[dict[str, Any]]:
    """Excess losses, and errors of the weights over the optimum's, of the fits and of the peer."""
    fits = result["fits"]
    groups = {
        "default fit": fits,
        "default fit before its last stage": [fit["before"] for fit in fits],
        "moments alone": [fit["moments"] for fit in fits],
    }
    rows = []
    for name, group in groups.items():
        row = {
            "name": f"{result['cell']}, {name}",
            "seconds": median([each["seconds"] for each in group]),
            "excess": max(each["excess_loss"] for each in group),
        }
        rows.append(row | {key: median([each["ratios"][key] for each in group]) for key in WEIGHTS})
    for target in (f"{each:g}" for each in LOSS_TARGETS):
        group = [run for run in result["runs"] if target in run["reached"]]
        row = {
            "name": f"{result['cell']}, peer at {target}",
            "seconds": median([run["reached"][target] for run in group]),
            "excess": float(target),
        }
        ratios = {key: median([run["ratios"][target][key] for run in group]) for key in WEIGHTS}
        rows.append(row | ratios)
    return rows


def detail_rows(result: dict, target: str, limit: int) -> list[dict[str, Any]]:
    """Settings of the peer, best first."""
    return [
        {
            "setting": s["name"],
            "threads": s["threads"],
            "reached": s["reached"],
            "runs": len(s["runs"]),
            "median": s["median"],
            "best": s["best"],
            "epochs": median([run["epochs"] for run in s["runs"]]),
            "figure": median([run["figure"] for run in s["runs"]]),
            "reasons": ", ".join(sorted({run["reason"] for run in s["runs"]})),
        }
        for s in by_setting(result["runs"], target)[:limit]
    ]


def loss_summary(results: list[dict], out: Output) -> None:
    """The main tables of times until the loss is near the optimum's."""
    rows = [loss_row(result, f"{target:g}") for target in LOSS_TARGETS for result in results]
    out.table(
        "loss",
        "Times until the loss is this near to the optimum's, in times of the whole default fit",
        [
            Column("cell, excess", "{name}"),
            Column("fit", "{fit:3s}", "s"),
            Column("reached", "{reached}/{runs}"),
            Column("best run", "{best:3s}"),
            Column("best setting", "{setting:3s}"),
            Column("median run", "{median:3s}"),
            Column("grid", "{grid:3s}"),
        ],
        rows,
    )
    out.table(
        "errors",
        "Excess loss, and errors of the weights over the optimum's: medians",
        [
            Column("cell", "{name}"),
            Column("time", "{seconds:3s}", "s"),
            Column("excess loss", "{excess:.1e}"),
            *(Column(key, f"{{{key}:3s}}") for key in WEIGHTS),
        ],
        [row for result in results for row in error_rows(result)],
    )
    for target in LOSS_TARGETS:
        best = [row["best"] for row in rows if row["target"] == f"{target:g}"]
        key = f"{target:g}".replace(".", "_")
        out.figure(f"least_{key}", min(best), "{value:2s}", f"to {target:g}: best run, least")
        out.figure(f"most_{key}", max(best), "{value:2s}", f"to {target:g}: best run, most")
    first = [row["best"] for row in rows if row["target"] == f"{LOSS_TARGETS[0]:g}"]
    out.target("met", min(first) >= 3, "the fit 3 times faster to 1 %, in every cell")


def main() -> None:
    parser = option_parser(__doc__, seeds=2)
    parser.add_argument("--loss", action="store_true", help="targets of the loss; Adam alone")
    parser.add_argument("--smooth", action="store_true", help="tanh, softplus and ReLU")
    parser.add_argument("--cells", nargs="+", choices=[*CELLS, *LOSS_CELLS, *SMOOTH_CELLS])
    parser.add_argument("--lr", nargs="+", type=float)
    parser.add_argument("--batch", nargs="+", type=int, help="sequences in a batch")
    parser.add_argument("--schedules", nargs="+")
    parser.add_argument(
        "--lbfgs",
        type=int,
        metavar="N",
        help="its starts (default 8; three times as many for bidirectional networks)",
    )
    parser.add_argument("--times", type=int, default=1, help="that many times the sequences")
    parser.add_argument("--fits", type=int, default=20, help="data sets on which fits are judged")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cap", type=float, metavar="SECONDS", help="limit of a run")
    parser.add_argument("--float64", action="store_true", help="double precision for Adam")
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
    loss, quick = arguments.loss, arguments.quick
    arguments.starts = arguments.seeds or (1 if quick else 3 if loss else 2)
    chosen, rates, schedules = CELLS, RATES, SCHEDULES
    if loss:
        chosen, rates, schedules = LOSS_CELLS, LOSS_RATES, LOSS_SCHEDULES
    if arguments.smooth:
        chosen, rates, schedules = SMOOTH_CELLS, SMOOTH_RATES, SMOOTH_SCHEDULES
    arguments.cells = arguments.cells or list(chosen)
    arguments.lr = arguments.lr or list(rates)
    if arguments.lbfgs is None:
        arguments.lbfgs = 0 if loss else 1 if quick else 8
    arguments.schedules = arguments.schedules or list(schedules)
    if quick:
        arguments.cap = arguments.cap or 5.0
        arguments.fits = min(arguments.fits, 2)
        arguments.schedules = arguments.schedules[1:3]
    torch.set_num_threads(arguments.threads)
    check_gradient()
    out = Output(arguments, torch=torch.__version__)
    results = []
    with threadpool_limits(arguments.threads):
        for name in arguments.cells:
            cell = (CELLS | LOSS_CELLS | SMOOTH_CELLS)[name]
            cell = replace(cell, n_sequences=cell.n_sequences * arguments.times)
            default = arguments.threads == os.cpu_count()
            engine = Engine() if default else Engine("threads", n_workers=arguments.threads)
            result = run_cell(cell, arguments, engine)
            results.append(result)
            target = (LOSS_TARGETS if loss else WEIGHT_TARGETS)[0]
            out.table(
                f"settings_{name.replace('-', '_')}",
                f"{result['cell']}: settings of the peer, best first",
                [
                    Column("rate, batch, schedule", "{setting}"),
                    Column("threads", "{threads}"),
                    Column("reached", "{reached}/{runs}"),
                    Column("median", "{median:3s}", "s"),
                    Column("best", "{best:3s}", "s"),
                    Column("epochs", "{epochs:3s}"),
                    Column("final excess" if loss else "final ratio", "{figure:2s}"),
                    Column("ended by", "{reasons}"),
                ],
                detail_rows(result, f"{target:g}", arguments.details),
            )
    (loss_summary if loss else weight_summary)(results, out)
    out.close()


if __name__ == "__main__":
    main()
