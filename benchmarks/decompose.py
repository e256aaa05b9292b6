"""Success, CPU time and accuracy of `decompose` beside TensorLy's `parafac`.

Run from the repository root:

    python benchmarks/decompose.py                  # every cell, 30 instances, 0, 2 and 5 % noise
    python benchmarks/decompose.py --quick          # five instances
    python benchmarks/decompose.py --cells 20,10,10 10,10,4,3 --noise 0.05 --json out.json

A cell is n_inputs,n_hidden,n_outputs[,order]; a trailing `c` draws components of condition 60-150.
Instances: normal weights, unit rows, symmetric normal noise of the given norm relative to |T|.
`success` counts instances whose loss is at most (1 + 1e-6) times that of the least-squares
reference: the same Levenberg-Marquardt started at the truth. `error` is the error of the components
over that of the reference: median and worst. Both methods run on one BLAS thread, CPU time is
`time.process_time`, mean per instance, and both see the same tensors in the same run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import scipy
import tensorly
from scipy.optimize import linear_sum_assignment
from tensorly.decomposition import parafac
from threadpoolctl import threadpool_info, threadpool_limits

from gloree.decomposition import cp_tensor, decompose

CELLS = [
    *("20,10,10", "50,10,10", "20,5,5", "10,5,5", "10,10,10", "10,10,4", "4,4,4", "20,10,3"),
    *("6,9,9", "10,10,10,2c", "20,10,10,2c", "10,5,1,3", "10,10,4,3"),
]
SUCCESS = 1 + 1e-6
EXACT_LOSS = 1e-20  # |R|^2 / (2 |T|^2) without noise: |R| below 1.4e-10 |T|
PARAFAC_ITERATIONS = 2000


def make_instance(cell, noise, seed):
    n_inputs, n_hidden, n_outputs, order, ill = cell
    rng = np.random.default_rng([seed, n_inputs, n_hidden, n_outputs, order, ill])
    components = rng.standard_normal((n_hidden, n_inputs))
    if ill:
        left, values, right = np.linalg.svd(components, full_matrices=False)
        condition = np.exp(rng.uniform(np.log(60), np.log(150)))
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
    return float(np.sqrt(np.mean(2 - 2 * cosines[rows, columns])))


def parafac_components(tensor, rank, seed):
    """Unit rows from the two first symmetric modes, which `parafac` does not tie together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns when rank exceeds a mode, and fills up at random
        _, factors = parafac(
            tensor,
            rank,
            init="svd",
            tol=1e-9,
            n_iter_max=PARAFAC_ITERATIONS,
            random_state=seed,
        )
    first, second = factors[1].T, factors[2].T
    first = first / np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-300)
    second = second / np.maximum(np.linalg.norm(second, axis=1, keepdims=True), 1e-300)
    mean = first + np.sign((first * second).sum(axis=1, keepdims=True)) * second
    return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-300)


def run_cell(cell, noise, n_instances):
    n_success, statuses = 0, {}
    seconds, peer_seconds, ratios, peer_ratios, starts = [], [], [], [], []
    rank = cell[1]
    for seed in range(n_instances):
        tensor, truth = make_instance(cell, noise, seed)
        began = time.process_time()
        result = decompose(tensor, rank, ridge=None, random_state=seed)
        seconds.append(time.process_time() - began)
        began = time.process_time()
        peer = parafac_components(tensor, rank, seed)
        peer_seconds.append(time.process_time() - began)
        reference = decompose(tensor, rank, initial=truth, ridge=None)
        loss, bar = result.residual**2, reference.residual**2 * SUCCESS
        n_success += bool(loss <= bar or loss / 2 <= EXACT_LOSS)
        statuses[result.status.name] = statuses.get(result.status.name, 0) + 1
        starts.append(result.n_starts)
        floor = max(component_error(reference.components, truth), 1e-7)
        ratios.append(max(component_error(result.components, truth), 1e-7) / floor)
        peer_ratios.append(max(component_error(peer, truth), 1e-7) / floor)
    return {
        "success": n_success,
        "instances": n_instances,
        "starts": float(np.mean(starts)),
        "decompose_ms": 1e3 * float(np.mean(seconds)),
        "parafac_ms": 1e3 * float(np.mean(peer_seconds)),
        "decompose_error": [float(np.median(ratios)), float(np.max(ratios))],
        "parafac_error": [float(np.median(peer_ratios)), float(np.max(peer_ratios))],
        "statuses": statuses,
    }


def parse_cell(text):
    ill = text.endswith("c")
    sizes = [int(part) for part in text.rstrip("c").split(",")]
    if len(sizes) not in (3, 4):
        raise SystemExit(f"a cell is n_inputs,n_hidden,n_outputs[,order], got {text!r}")
    return (*sizes[:3], sizes[3] if len(sizes) == 4 else 2, ill)


def machine_facts():
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    blas = [f"{each['internal_api']} {each['version']}" for each in threadpool_info()]
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "tensorly": tensorly.__version__,
        "thread_pools": blas,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=30)
    parser.add_argument("--cells", nargs="+", default=CELLS, metavar="CELL")
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.02, 0.05])
    parser.add_argument("--quick", action="store_true", help="five instances")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there")
    arguments = parser.parse_args()
    n_instances = 5 if arguments.quick else arguments.instances
    facts = machine_facts()
    for name, value in facts.items():
        print(f"{name:13s} {value}")
    print(
        f"\n{'cell':>13s} {'noise':>5s} {'success':>8s} {'starts':>6s} {'decompose':>10s} "
        f"{'parafac':>9s} {'ratio':>6s}   error over the reference, median (worst): "
        "decompose, parafac"
    )
    rows = []
    with threadpool_limits(1):
        run_cell(parse_cell("4,4,4"), 0.0, 1)  # warm-up
        for text in arguments.cells:
            for noise in arguments.noise:
                row = run_cell(parse_cell(text), noise, n_instances)
                rows.append({"cell": text, "noise": noise, **row})
                own, peer = row["decompose_error"], row["parafac_error"]
                print(
                    f"{text:>13s} {noise:5.0%} {row['success']:4d}/{n_instances:<3d} "
                    f"{row['starts']:6.1f} {row['decompose_ms']:7.1f} ms "
                    f"{row['parafac_ms']:6.1f} ms "
                    f"{row['decompose_ms'] / row['parafac_ms']:6.2f}   "
                    f"{own[0]:.2f} ({own[1]:.2f}), {peer[0]:.2f} ({peer[1]:.3g})",
                    flush=True,
                )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
