"""Success, CPU time and accuracy of `decompose` beside TensorLy's decompositions.

Run from the repository root:

    python benchmarks/decompose.py                  # every cell, 30 instances, 0, 2 and 5 % noise
    python benchmarks/decompose.py --quick          # two instances, 5 % noise
    python benchmarks/decompose.py --cells 20,10,10 10,10,4,3 --noise 0.05 --json out.json
    python benchmarks/decompose.py --certificate    # what the certificate says of wrong minima

A cell is n_inputs,n_hidden,n_outputs[,order]; a trailing `c` draws components of condition 60-150,
an `o` orthogonal ones. Instances: normal weights, unit rows, symmetric normal noise of the given
norm relative to |T|. `success` counts instances whose loss is at most (1 + 1e-6) times that of the
least-squares reference: the same Levenberg-Marquardt started at the truth. A first start that was
certified is *wrong* where it is no success.

The peers:

* ``svd``, ``random``: `parafac` from singular vectors or from one random start, with ``tol=1e-9``
  and 2000 iterations at most; ``svd, defaults`` with TensorLy's own 1e-8 and 100;
* ``power``: `symmetric_parafac_power_iteration` with its defaults. It takes symmetric tensors only.
  An output mode is contracted with three random vectors, and of the three results the one that
  fits T best is kept. What is left of a tensor with two input modes is a matrix, whose components
  are determined up to a rotation, so that it is run from three input modes on only.

An estimate is *as accurate* as the reference if the error of its components is at most 1.1 times
the reference's; errors below 1e-6 count as 1e-6. The ratio is decompose's CPU time over the peer's
on those instances alone. All methods run on one BLAS thread and see the same tensors in the same
run; CPU time is `time.process_time`, mean per instance.

``--certificate`` runs no peer. It takes the minima where six starts end (the first as in
`decompose`, five random), polished on the whole tensor, and counts those that the certificate of
the first start would take for the answer, right and wrong (a loss 1e-6 above the lowest known). A
start that joins the best minimum so far is not counted again.
"""

from __future__ import annotations

import itertools
import time
import warnings

import numpy as np
from _common import Column, Output, option_parser
from scipy.optimize import linear_sum_assignment
from tensorly.decomposition import parafac, symmetric_parafac_power_iteration
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from gloree.decomposition import DecompositionStatus, cp_tensor, decompose
from gloree.decomposition._errors import determined_components
from gloree.decomposition._least_squares import Problem
from gloree.decomposition._levenberg_marquardt import Ending, minimise
from gloree.decomposition._search import Starts, compress, run_starts

CELLS = [
    *("20,10,10", "50,10,10", "20,5,5", "10,5,5", "10,10,10", "10,10,4", "4,4,4", "20,10,3"),
    *("6,9,9", "10,10,10,2c", "20,10,10,2c", "10,5,1,3", "10,5,1,3o", "10,10,4,3", "8,4,1,4"),
]
SUCCESS = 1 + 1e-6
EXACT_LOSS = 1e-20  # |R|^2 / (2 |T|^2) without noise: |R| below 1.4e-10 |T|
EXACT_ERROR = 1e-6
AS_ACCURATE = 1.1
CONTRACTIONS = 3
CERTIFICATE_CELLS = [
    *CELLS,
    *("5,5,2,3", "7,10,6", "8,8,2,3", "6,8,2,3", "5,8,1,4", "12,12,6,3", "9,12,8", "8,8,3,4"),
    *("12,4,2,3", "6,4,3,4"),
]
CERTIFICATE_STARTS = 6


def make_instance(cell, noise, seed):
    n_inputs, n_hidden, n_outputs, order, kind = cell
    rng = np.random.default_rng([seed, n_inputs, n_hidden, n_outputs, order, 1 + (kind == "o")])
    components = rng.standard_normal((n_hidden, n_inputs))
    if kind:
        left, values, right = np.linalg.svd(components, full_matrices=False)
        condition = np.exp(rng.uniform(np.log(60), np.log(150))) if kind == "c" else 1.0
        components = (left * np.geomspace(1, 1 / condition, len(values))) @ right
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    loadings = rng.standard_normal((n_hidden, n_outputs))
    tensor = cp_tensor(loadings, components, order)
    draw = rng.standard_normal(tensor.shape)
    axes = itertools.permutations(range(1, order + 1))
    draw = sum(draw.transpose(0, *permutation) for permutation in axes)
    tensor = tensor + noise * np.linalg.norm(tensor) / np.linalg.norm(draw) * draw
    return np.ascontiguousarray(tensor), components


def component_error(estimate, truth):
    """Root mean square distance of matched unit rows, signs free."""
    cosines = np.clip(np.abs(estimate @ truth.T), 0, 1)
    rows, columns = linear_sum_assignment(-cosines)
    return max(float(np.sqrt(np.mean(2 - 2 * cosines[rows, columns]))), EXACT_ERROR)


def unit_rows(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)


def parafac_components(tensor, rank, seed, **options):
    """Unit rows: the mean of the symmetric modes, which `parafac` does not tie together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns when rank exceeds a mode, and fills up at random
        _, factors = parafac(tensor, rank, random_state=seed, **options)
    first, *others = (unit_rows(factor.T) for factor in factors[1:])
    aligned = [np.sign((first * each).sum(axis=1, keepdims=True)) * each for each in others]
    return unit_rows(first + sum(aligned))


def power_components(tensor, rank, seed):
    """Unit rows by the symmetric power iteration, or None where there is nothing for it to do."""
    order = tensor.ndim - 1
    if order < 3:
        return None
    np.random.seed(seed)  # noqa: NPY002 - TensorLy draws its starts from there
    rng = np.random.default_rng(seed)
    best, best_residual = None, np.inf
    for _ in range(CONTRACTIONS if len(tensor) > 1 else 1):
        direction = rng.standard_normal(len(tensor)) if len(tensor) > 1 else np.ones(1)
        contracted = np.tensordot(direction, tensor, axes=1)
        _, factor = symmetric_parafac_power_iteration(contracted, rank)
        components = unit_rows(factor.T)
        if len(tensor) == 1:
            return components
        basis = cp_tensor(np.eye(rank), components, order).reshape(rank, -1).T
        flat = tensor.reshape(len(tensor), -1).T
        residual = np.linalg.norm(flat - basis @ np.linalg.lstsq(basis, flat, rcond=None)[0])
        if residual < best_residual:
            best, best_residual = components, residual
    return best


def parafac_with(**options):
    return lambda tensor, rank, seed: parafac_components(tensor, rank, seed, **options)


PEERS = {
    "svd": parafac_with(init="svd", tol=1e-9, n_iter_max=2000),
    "svd, defaults": parafac_with(init="svd"),
    "random": parafac_with(init="random", tol=1e-9, n_iter_max=2000),
    "power": power_components,
}


def run_cell(cell, noise, n_instances):
    """All methods on the same instances."""
    rank = cell[1]
    own = {"success": 0, "starts": 0, "statuses": {}, "seconds": [], "ratios": []}
    own |= {"certified": 0, "certified_wrong": 0}
    peers = {name: {"seconds": [], "ratios": []} for name in PEERS}
    for seed in range(n_instances):
        tensor, truth = make_instance(cell, noise, seed)
        began = time.process_time()
        result = decompose(tensor, rank, ridge=None, random_state=seed)
        own["seconds"].append(time.process_time() - began)
        reference = decompose(tensor, rank, initial=truth, ridge=None)
        loss, bar = result.residual**2, reference.residual**2 * SUCCESS
        success = bool(loss <= bar or loss / 2 <= EXACT_LOSS)
        certified = result.status is DecompositionStatus.CERTIFIED and result.n_starts == 1
        own["success"] += success
        own["certified"] += certified
        own["certified_wrong"] += certified and not success
        own["starts"] += result.n_starts / n_instances
        own["statuses"][result.status.name] = own["statuses"].get(result.status.name, 0) + 1
        floor = component_error(reference.components, truth)
        own["ratios"].append(component_error(result.components, truth) / floor)
        for name, peer in PEERS.items():
            began = time.process_time()
            components = peer(tensor, rank, seed)
            seconds = time.process_time() - began
            if components is not None:
                peers[name]["seconds"].append(seconds)
                peers[name]["ratios"].append(component_error(components, truth) / floor)
    for peer in peers.values():
        good = np.flatnonzero(np.array(peer["ratios"]) <= AS_ACCURATE)
        peer["as_accurate"] = len(good)
        peer["time_ratio"] = None
        if len(good):
            theirs = np.sum(np.take(peer["seconds"], good))
            peer["time_ratio"] = float(np.sum(np.take(own["seconds"], good)) / theirs)
    return {"instances": n_instances, "decompose": own, "peers": peers}


def examine_minima(cell, noise, n_instances):
    """Count right and wrong minima, of first and of random starts, and those certified."""
    counts = {f"{each}_{start}": 0 for each in ("right", "wrong") for start in ("first", "random")}
    counts |= {f"certified_{each}": 0 for each in counts}
    for seed in range(n_instances):
        tensor, truth = make_instance(cell, noise, 10_000 + seed)
        problem = Problem(tensor)
        core = compress(problem, cell[1])
        reference = minimise(problem, truth).point.loss
        starts, rng = Starts(), np.random.default_rng(seed)
        for n_starts in range(1, CERTIFICATE_STARTS + 1):
            starts = run_starts(core, cell[1], rng, starts, n_starts)
        back = np.eye(cell[0]) if core.basis is None else core.basis.T
        ends = [minimise(problem, point.components @ back) for point in starts.minima]
        minima = [end.point if end.ending is Ending.CONVERGED else None for end in ends]
        lowest = min([reference, *(point.loss for point in minima if point)])
        for i, point in enumerate(minima):
            if point is None:
                continue
            right = point.loss <= lowest * SUCCESS or point.loss <= EXACT_LOSS
            key = f"{'right' if right else 'wrong'}_{'random' if i else 'first'}"
            counts[key] += 1
            counts[f"certified_{key}"] += bool(determined_components(problem, point).all())
    return counts


def certificate_table(out, cases, n_instances):
    rows = {}
    for text, noise in tqdm(cases, desc="certificate"):
        rows[f"{text} at {noise:.1%}"] = examine_minima(parse_cell(text), noise, n_instances)
    total = {key: sum(row[key] for row in rows.values()) for key in next(iter(rows.values()))}
    keys = {"right_first": "right, first", "wrong_first": "wrong, first"}
    keys["wrong_random"] = "wrong, random"
    out.table(
        "minima",
        "Minima certified, of all found",
        [
            Column("cell", "{cell}"),
            *(Column(label, f"{{certified_{key}}}/{{{key}}}") for key, label in keys.items()),
        ],
        [{"cell": name, **row} for name, row in [*rows.items(), ("all", total)]],
    )
    for key, label in keys.items():
        out.figure(key, total[key], "{value:,}", f"minima: {label}")
        out.figure(f"certified_{key}", total[f"certified_{key}"], "{value:,}", "of them certified")
    out.figure("instances", n_instances, "{value}", "instances of a cell and noise")
    out.figure("cells", len(rows), "{value}", "cells and noises")
    wrong = total["certified_wrong_first"] + total["certified_wrong_random"]
    out.target("met", wrong == 0, "no wrong minimum certified")


def parse_cell(text):
    kind = text[-1] if text[-1] in "co" else ""
    sizes = [int(part) for part in text.rstrip("co").split(",")]
    if len(sizes) not in (3, 4):
        raise SystemExit(f"a cell is n_inputs,n_hidden,n_outputs[,order], got {text!r}")
    return (*sizes[:3], sizes[3] if len(sizes) == 4 else 2, kind)


def time_row(name, row):
    own, n = row["decompose"], row["instances"]
    line = {"cell": name, "instances": n, "success": own["success"], "starts": own["starts"]}
    line["decompose"] = 1e3 * float(np.mean(own["seconds"]))
    for key, peer in row["peers"].items():
        ran = bool(peer["seconds"])
        line[f"{key} ms"] = 1e3 * float(np.mean(peer["seconds"])) if ran else None
        line[f"{key} accurate"] = peer["as_accurate"] if ran else None
        line[f"{key} ratio"] = peer["time_ratio"]
    return line


def error_row(name, row):
    line = {"cell": name}
    for key, each in {"decompose": row["decompose"], **row["peers"]}.items():
        line[f"{key} median"] = float(np.median(each["ratios"])) if each["ratios"] else None
        line[f"{key} worst"] = float(np.max(each["ratios"])) if each["ratios"] else None
    return line


def main():
    parser = option_parser(__doc__, seeds=30)
    parser.add_argument("--cells", nargs="+", metavar="CELL")
    parser.add_argument("--noise", nargs="+", type=float, metavar="NOISE")
    parser.add_argument("--certificate", action="store_true", help="examine wrong minima instead")
    arguments = parser.parse_args()
    n_instances = arguments.seeds or (2 if arguments.quick else 30)
    levels = [0.002, 0.02, 0.05, 0.1] if arguments.certificate else [0.0, 0.02, 0.05]
    arguments.noise = arguments.noise or ([0.05] if arguments.quick else levels)
    arguments.cells = arguments.cells or (CERTIFICATE_CELLS if arguments.certificate else CELLS)
    out = Output(arguments)
    if arguments.certificate:
        with threadpool_limits(1):
            cases = list(itertools.product(arguments.cells, arguments.noise))
            certificate_table(out, cases, n_instances)
        out.close()
        return
    rows = {}
    with threadpool_limits(1):
        run_cell(parse_cell("4,4,4,3"), 0.0, 1)  # warm-up
        cases = list(itertools.product(arguments.cells, arguments.noise))
        for text, noise in tqdm(cases, desc="decompose"):
            rows[f"{text} at {noise:.0%}"] = run_cell(parse_cell(text), noise, n_instances)
    peers = list(PEERS)
    out.table(
        "times",
        "Successes, starts and ms of decompose; of each peer the instances where it is as accurate "
        "as the reference, ms, and in brackets decompose's time over its time on those instances",
        [
            Column("cell", "{cell}"),
            Column("success", "{success}/{instances}"),
            Column("starts", "{starts:.1f}"),
            Column("decompose", "{decompose:3s}", "ms"),
            *(
                Column(p, f"{{{p} accurate}}/{{instances}}, {{{p} ms:3s}} ({{{p} ratio:2s}})")
                for p in peers
            ),
        ],
        [time_row(*item) for item in rows.items()],
    )
    out.table(
        "errors",
        "Error over the reference's, median (worst)",
        [
            Column("cell", "{cell}"),
            *(
                Column(each, f"{{{each} median:.2f}} ({{{each} worst:.3g}})")
                for each in ("decompose", *peers)
            ),
        ],
        [error_row(*item) for item in rows.items()],
    )
    pairs = [
        {"pair": f"{cell}, {name}", "times": peer["time_ratio"], "instances": peer["as_accurate"]}
        for cell, row in rows.items()
        for name, peer in row["peers"].items()
        if peer["time_ratio"] is not None
    ]
    slower = [pair for pair in pairs if pair["times"] > 1]
    out.table(
        "slower",
        "Peers that are faster on the instances in which they are as accurate",
        [
            Column("cell, peer", "{pair}"),
            Column("instances", "{instances}"),
            Column("decompose's time over the peer's", "{times:.2f}"),
        ],
        slower,
    )
    total = sum(row["instances"] for row in rows.values())
    success = sum(row["decompose"]["success"] for row in rows.values())
    noisy = [row for cell, row in rows.items() if not cell.endswith(" at 0%")]
    out.figure("instances", n_instances, "{value}", "instances of a cell and noise")
    out.figure("all", total, "{value:,}", "instances")
    out.figure("success", success, "{value:,}", "successes of decompose")
    out.figure("pairs", len(pairs), "{value}", "pairs of a cell and an accurate peer")
    out.figure("slower", len(slower), "{value}", "pairs in which the peer is faster")
    for name in peers:
        least = [row["peers"][name]["as_accurate"] for row in rows.values()]
        key = name.replace(", ", "_")
        out.figure(f"{key}_accurate", sum(least), "{value:,}", f"{name}: as accurate")
    noisy_total = sum(row["instances"] for row in noisy)
    out.figure("noisy", noisy_total, "{value}", "instances with noise")
    for key in ("certified", "certified_wrong"):
        count = sum(row["decompose"][key] for row in noisy)
        out.figure(key, count, "{value}", f"with noise, first start: {key.replace('_', ', ')}")
    out.target("success_met", success == total, "every instance solved")
    out.target("times_met", not slower, "never slower than a peer that is as accurate")
    out.close()


if __name__ == "__main__":
    main()
