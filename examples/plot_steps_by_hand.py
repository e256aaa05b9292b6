r"""
The method step by step
=======================

`SpectralRNNRegressor` strings a few functions together. Here each of them is called by hand, with
the equation it computes on the pages :doc:`theory </theory/index>`, and after every step the
weights are compared with the truth. Read it with the paper open (Sedghi and Anandkumar,
arXiv:1603.00954): steps 1 to 4 and the first recurrence of step 5 are the paper's; the rest is what
this library adds.
"""

from functools import partial

import matplotlib.pyplot as plt
import numpy as np

from gloree import IORNN, Engine, GaussianVAR, datasets, decomposition, metrics, moments
from gloree.decomposition import cp_tensor
from gloree.engine import Source
from gloree.recurrence import (
    Contraction,
    cross_sums,
    cross_update,
    instrument_sums,
    instrument_update,
    score_sums,
    score_update,
)
from gloree.refinement import GaussNewton, Layout, SquaredError
from gloree.score_functions import partial_score
from gloree.sequences import as_sequences

X, Y, truth, true_law = datasets.make_rnn(
    4000, 20, n_inputs=6, n_hidden=3, n_outputs=4, recurrence_norm=0.2, random_state=0
)


def relative(estimate, target):
    """Relative error in the Frobenius norm."""
    return np.linalg.norm(estimate - target) / np.linalg.norm(target)


table = []


def note(step, model):
    """Keep and print the errors of A1, A2 and U, modulo the symmetries."""
    errors = metrics.weight_errors(model, truth)
    row = [errors[f"{name}_weights"] for name in ("input", "output", "recurrent")]
    table.append((step, row))
    print(f"{step:34}" + "".join(f"{error:11.5f}" for error in row))


# %%
# 1. The law of the inputs
# ------------------------
# A Gaussian autoregression :math:`x_t = \Phi x_{t-1} + e_t`, :eq:`var1`, by least squares.
chain = GaussianVAR.fit(X)
print(f"relative error of Phi: {relative(chain.coefficients, true_law.coefficients):.4f}")

# %%
# 2. Score functions
# ------------------
# :math:`S_2(t) = \nabla^2_{x_t} p / p`, :eq:`score`; for a Gaussian chain
# :math:`s s^\mathsf{T} - K`, :eq:`hermite`. One tensor for each step: fine for fifty sequences, and
# never needed for a fit.
S2 = partial_score(chain, X[:50], order=2)
print(f"score tensors of 50 sequences: {S2.shape}")

# %%
# 3. The first moment
# -------------------
# :math:`T = E[y_t \otimes S_2(t)] = 2 \sum_i \alpha_i \otimes a_i \otimes a_i`,
# :eq:`first-moment`, whatever the recurrence is. The library adds up sums and never forms the
# score tensors; on the fifty sequences both ways agree to rounding.
by_hand = np.einsum("nta,ntij->aij", Y[:50], S2) / S2[..., 0, 0].size
same = moments.cross_moment(chain, X[:50], Y[:50], order=2, centre=False)
T = moments.cross_moment(chain, X, Y, order=2)
T_true = cp_tensor(2 * truth.output_weights, truth.input_weights, order=2)
print(f"by hand and by sums differ by {relative(by_hand, same):.1e}")
print(f"relative error of T: {relative(T, T_true):.4f}")

# %%
# 4. Decomposition
# ----------------
# The components of T are the rows of :math:`A_1`, the loadings twice those of :math:`A_2`. The
# paper whitens T and runs the tensor power iteration; `decompose` solves the least-squares problem
# and says how far to trust the result.
power = decomposition.tensor_power_iteration(T, rank=3, random_state=0)
found = decomposition.decompose(T, rank=3, random_state=0)
print(found)


def first_model(result):
    """Network with these units, no recurrence, and the offset that centres its residual."""
    model = IORNN(result.components, None, result.loadings / 2)
    return model.replace(output_bias=(Y - model.predict(X)).mean(axis=(0, 1))).canonical()


print(f"\n{'relative error of':34}{'A1':>11}{'A2':>11}{'U':>11}")
note("tensor power iteration", first_model(power))
note("decompose", first_model(found))
start = first_model(found)

# %%
# 5. The recurrence, three times
# ------------------------------
# All three contract a moment with the units found so far, so what has to be inverted is the small
# matrix :math:`\Psi = (A_2 A_2^\mathsf{T}) \circ (A_1 A_1^\mathsf{T})`, :eq:`psi`. A pass over
# the data maps a function over batches and adds up what it returns.
engine, source = Engine("serial"), Source(as_sequences(X, Y))
A1, A2 = start.input_weights, start.output_weights
Psi = (A2 @ A2.T) * (A1 @ A1.T)
print(f"condition number of Psi: {np.linalg.cond(Psi):.1f}")
contraction = Contraction.of(start, chain.precision_blocks(0))
given = {"model": start, "chain": chain}

# %%
# The paper's: a score of order four in :math:`x_{t-1}`, :eq:`score-recurrence`. It is quadratic in
# U, so each row comes without its sign; here the sign is taken from the truth.
sums = engine.run(partial(score_sums, **given), source)
U = score_update(sums, leading=1.0)
signs = [
    start.replace(recurrent_weights=U * np.array(s)[:, None])
    for s in np.ndindex(2, 2, 2)
    for s in [1 - 2 * np.array(s)]
]
paper = min(signs, key=lambda m: metrics.weight_errors(m, truth)["recurrent_weights"])
note("score of order 4 (best signs)", paper)

# %%
# The joint score of two neighbouring steps, :eq:`cross-recurrence`: order three, linear in U.
sums = engine.run(partial(cross_sums, contraction=contraction, **given), source)
note("joint score of order 3", start.replace(recurrent_weights=cross_update(sums, 2, 1.0)))

# %%
# Instruments, :eq:`instrument-update`: a score of order one and the model's own past states. Its
# states improve with U, so it is applied twice.
model = start
for sweep in (1, 2):
    function = partial(instrument_sums, model=model, chain=chain, contraction=contraction)
    dU, db = instrument_update(engine.run(function, source))
    model = model.replace(
        recurrent_weights=model.recurrent_weights + dU, hidden_bias=model.hidden_bias + db
    )
    model = model.replace(output_bias=model.output_bias + (Y - model.predict(X)).mean(axis=(0, 1)))
    note(f"instruments, sweep {sweep}", model)

# %%
# 6. A round with the residual
# ----------------------------
# The model's own moment is known exactly, so only the moment of the residual has to be estimated:
# its noise is that of the residual instead of the signal. Then the instruments once more.
for turn in (1, 2):
    known = cp_tensor(2 * model.output_weights, model.input_weights, order=2)
    correction = moments.cross_moment(chain, X, Y - model.predict(X), order=2)
    found = decomposition.decompose(known + correction, rank=3, initial=model.input_weights)
    # `initial` keeps neither order nor signs: match the units with those of the model
    cosine = model.input_weights @ found.components.T
    order = np.argmax(np.abs(cosine), axis=1)
    sign = np.sign(cosine[np.arange(3), order])
    model = model.replace(
        input_weights=sign[:, None] * found.components[order],
        output_weights=found.loadings[order] / 2,
    )
    contraction = Contraction.of(model, chain.precision_blocks(0))
    function = partial(instrument_sums, model=model, chain=chain, contraction=contraction)
    dU, db = instrument_update(engine.run(function, source))
    model = model.replace(
        recurrent_weights=model.recurrent_weights + dU, hidden_bias=model.hidden_bias + db
    )
    model = model.replace(output_bias=model.output_bias + (Y - model.predict(X)).mean(axis=(0, 1)))
    note(f"round {turn} with the residual", model)

# %%
# 7. Gauss-Newton
# ---------------
# From a start this good, one step of least squares in all weights is as accurate as the
# least-squares estimate itself, :eq:`gauss-newton`. The library takes the matrix
# :math:`J^\mathsf{T} J` from a part of the data, which is much cheaper, and stops after the few
# steps that this costs. The best that could be had is Gauss-Newton from the truth to convergence.
layout = Layout(n_inputs=6, n_hidden=3, n_outputs=4)
loss, full = SquaredError(), GaussNewton(to_convergence=True)
one_step = GaussNewton(max_steps=1).minimise(loss, model, layout, engine, source).model
note("one Gauss-Newton step", one_step)
refinement = GaussNewton().minimise(loss, model, layout, engine, source)
note(f"{refinement.n_steps} Gauss-Newton steps", refinement.model)
best = full.minimise(loss, truth, layout, engine, source).model
note("least squares, from the truth", best)


def to_gain(model):
    """How far the squared error is above its minimum, in units of the statistical error."""
    squares, least = (np.sum((Y - m.predict(X)) ** 2) for m in (model, best))
    return (squares / least - 1) * Y.size / layout.size


for step, result in (("before", model), ("one step", one_step), ("all", refinement.model)):
    print(f"left to gain, {step:10}{to_gain(result):8.3f} statistical errors")

# %%
# All steps in one figure.
figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
errors = np.array([row for _, row in table])
for name, values, marker, colour in zip(
    ("input weights $A_1$", "output weights $A_2$", "recurrent weights $U$"),
    errors.T,
    "osD",
    ("#0072B2", "#D55E00", "#009E73"),
    strict=True,
):
    ax.semilogx(values, np.arange(len(table)), marker, color=colour, label=name)
ax.set_yticks(np.arange(len(table)), [step for step, _ in table])
ax.invert_yaxis()
ax.set_xlabel("relative error")
ax.grid(axis="x", color="#D9D9D9", linewidth=0.6)
ax.spines[["top", "right"]].set_visible(False)
_ = figure.legend(frameon=False, loc="outside upper center", ncols=3)

# %%
# Check of the claims.
recurrent = {step: row[2] for step, row in table}
if relative(by_hand, same) > 1e-10:
    raise SystemExit("the sums do not add up to the mean of the score tensors")
if not recurrent["instruments, sweep 2"] < recurrent["joint score of order 3"]:
    raise SystemExit("instruments were expected to be more accurate than the joint score")
if not to_gain(one_step) < to_gain(model):
    raise SystemExit("a Gauss-Newton step was expected to lower the error")
if not to_gain(refinement.model) < 0.1:
    raise SystemExit(f"{to_gain(refinement.model):.2f} statistical errors are left to gain")
