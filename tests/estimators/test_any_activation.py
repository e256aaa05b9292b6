"""Fits with any activation: at the optimum whatever the network, and loud where they cannot be."""

import numpy as np
import pytest
from helpers.marks import first_of

from gloree import IORNN, SpectralRNNClassifier, SpectralRNNRegressor, datasets, metrics
from gloree.activations import Activation, Custom, Polynomial, get_activation, relu, sigmoid, tanh
from gloree.diagnostics import (
    AcceptanceWarning,
    CertificateStatus,
    ConditionWarning,
    ConvergenceWarning,
    GloreeWarning,
    check_activation,
)
from gloree.engine import Engine, Source
from gloree.models import BRNN, mirror_images
from gloree.refinement import Layout, LevenbergMarquardt, gauss_newton
from gloree.sequences import as_sequences

# a descent that stops at .02 noise variances of some 10,000 residuals, and one that goes on
LOSS = 1e-4
# what both may differ by in weights, in their errors
WEIGHTS = 1.1
NAMES = ["tanh", "sigmoid", "softplus", "relu", "leaky_relu", "gelu", "silu"]


def arctan_slope(z):
    return 1.0 / (1.0 + z * z)


ARCTAN = Custom(np.arctan, arctan_slope, "arctan")


class Arctan(Activation):
    """One's own, with no more than it has to have, and its symmetry."""

    name = "own arctan"
    parity = "odd"

    def __call__(self, z, out=None):
        values = np.arctan(np.asarray(z, dtype=float))
        if out is None:
            return values
        out[...] = values
        return out

    def derivative(self, z, order=1):
        if order > 1:
            raise NotImplementedError
        return arctan_slope(np.asarray(z, dtype=float)) if order else self(z)


def network(activation, seed=0, d=5, k=3, q=4, *, norm=0.6, **options):
    rng = np.random.default_rng([seed, k])
    A = rng.standard_normal((k, d * options.get("lags", 1)))
    U = rng.standard_normal((k, k))
    direct = options.pop("direct", False)
    truth = IORNN(
        A / np.linalg.norm(A, axis=1, keepdims=True),
        norm * U / np.linalg.norm(U, 2),
        rng.standard_normal((k, q)),
        hidden_bias=0.5 * rng.standard_normal(k),
        output_bias=rng.standard_normal(q),
        direct_weights=rng.standard_normal((len(A[0]), q)) if direct else None,
        activation=activation,
        **options,
    )
    return truth, rng


def simulated(activation, seed=0, n=1500, n_steps=8, **options):
    truth, rng = network(activation, seed, **options)
    X = rng.standard_normal((n, n_steps, truth.n_inputs))
    return X, noisy(truth, X, rng), truth


def noisy(truth, X, rng):
    Y = truth.predict(X)
    return Y + 0.1 * Y.std() * rng.standard_normal(Y.shape)


def optimum(X, Y, truth):
    """Gauss-Newton from the truth, in a source of one piece for each sequence."""
    layout = Layout(
        truth.n_columns,
        truth.n_hidden,
        truth.n_outputs,
        direct=truth.direct_weights is not None,
        recurrent=bool(truth.recurrent_weights.any()),
        n_backward=truth.n_backward if isinstance(truth, BRNN) else None,
    )
    source = Source(as_sequences(X, Y), lags=truth.lags)
    start = truth.replace(lags=1) if truth.lags > 1 else truth
    found = gauss_newton(start, layout, Engine("serial"), source, to_convergence=True).model
    return found.replace(lags=truth.lags)


def mean_square(model, X, Y):
    pairs = zip(model.predict(X), Y, strict=True)
    return float(np.mean(np.concatenate([np.ravel(p - y) for p, y in pairs]) ** 2))


def assert_optimum(est, X, Y, truth):
    best = optimum(X, Y, truth)
    assert mean_square(est.model_, X, Y) <= mean_square(best, X, Y) * (1 + LOSS)
    errors, least = (metrics.weight_errors(m, truth) for m in (est.model_, best))
    for name, error in errors.items():
        assert error <= WEIGHTS * least[name] + 1e-12, name


def assert_sure(est):
    """Certified, or of fewer rows agreed without any lack of fit."""
    certificate = est.report_.certificate
    assert certificate.status is not CertificateStatus.UNCERTAIN
    assert certificate.share < 5e-4 or certificate.score < 2.5
    assert certificate.status.name in str(est.report_)


@pytest.mark.parametrize(
    "activation", first_of([*NAMES, Polynomial((0.0, 1.0, 0.2, 0.0, 0.03)), ARCTAN, Arctan()], 4),
    ids=lambda f: f if isinstance(f, str) else f.name,
)  # fmt: skip
def test_every_activation_is_fitted_to_the_optimum(activation):
    polynomial = isinstance(activation, Polynomial)
    X, Y, truth = simulated(activation, norm=0.05 if polynomial else 0.6)
    est = SpectralRNNRegressor(3, activation=activation, random_state=0).fit(X, Y)
    assert_optimum(est, X, Y, truth)
    assert_sure(est)
    errors = est.report_.standard_errors
    assert set(errors) >= {"input_weights", "recurrent_weights", "output_weights", "hidden_bias"}
    assert all(np.isfinite(values).all() for values in errors.values())


@pytest.mark.parametrize(
    "options, settings",
    first_of(
        [
            ({"lags": 2}, {"lags": 2}),
            ({"direct": True}, {"direct": True}),
            ({"q": 1, "n": 4000}, {}),
            ({"k": 4, "d": 3, "q": 3}, {}),
            ({"norm": 0.0}, {"recurrence": None}),
            ({}, {"n_hidden": None}),
            pytest.param({"n": 1, "n_steps": 15000}, {}, marks=pytest.mark.slow),
        ],
        3,
        several=True,
    ),
    ids=["lags", "direct", "one output", "overcomplete", "no recurrence", "None", "one record"],
)
def test_every_kind_of_network_is_fitted_to_the_optimum(options, settings):
    X, Y, truth = simulated("tanh", seed=3, **options)
    given = {"n_hidden": truth.n_hidden, "activation": "tanh", "random_state": 0, **settings}
    est = SpectralRNNRegressor(**given).fit(X, Y)
    assert est.model_.n_hidden == truth.n_hidden
    assert_optimum(est, X, Y, truth)
    assert_sure(est)


@pytest.mark.parametrize("activation", first_of(["tanh", "relu"]))
def test_units_of_two_directions_are_fitted_to_the_optimum(activation):
    rng = np.random.default_rng(5)
    truth = datasets.random_brnn(
        6, 2, 2, 6, recurrence_norm=0.6, activation=activation, random_state=5
    )
    truth = truth.replace(hidden_bias=0.5 * rng.standard_normal(4))
    X = rng.standard_normal((2000, 10, 6))
    Y = noisy(truth, X, rng)
    est = SpectralRNNRegressor(4, activation=activation, bidirectional=True, random_state=0)
    assert_optimum(est.fit(X, Y), X, Y, truth)
    assert est.report_.directions.forward.tolist() == [True, True, False, False]


@pytest.mark.slow
def test_sequences_of_any_length_and_engines_give_the_same_fit():
    truth, rng = network("tanh", 7)
    X = [rng.standard_normal((rng.integers(1, 16), 5)) for _ in range(1500)]
    Y = [truth.predict(x) + 0.1 * rng.standard_normal((len(x), 4)) for x in X]
    fits = [
        SpectralRNNRegressor(3, activation="tanh", random_state=0, engine=engine).fit(X, Y).model_
        for engine in ("serial", "threads")
    ]
    assert fits[0] == fits[1]
    assert metrics.weight_errors(fits[0], truth)["recurrent_weights"] < 0.2


@pytest.mark.slow
def test_tensors_give_the_fit_of_arrays():
    torch = pytest.importorskip("torch")
    X, Y, _ = simulated("gelu", n=600)
    models = [
        SpectralRNNRegressor(3, activation="gelu", random_state=0).fit(make(X), make(Y)).model_
        for make in (np.asarray, torch.tensor)
    ]
    for name, values in models[0].arrays().items():
        if values is not None:
            # rounding, times the condition of a few dozen steps
            np.testing.assert_allclose(models[1].arrays()[name], values, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    "values", first_of([(-1.0, 1.0), (-1.0, 0.0, 2.0)]), ids=["binary", "three"]
)
@pytest.mark.parametrize("activation", first_of(["tanh", "quadratic"]))
def test_inputs_of_few_values_reach_the_loss_of_the_truth(values, activation):
    rng = np.random.default_rng(11)
    X = rng.choice(values, size=(2000, 10, 6))
    truth, _ = network(activation, 11, d=6, norm=0.8 if activation == "tanh" else 0.15)
    Y = noisy(truth, X, rng)
    est = SpectralRNNRegressor(3, activation=activation, random_state=0).fit(X, Y)
    # the optimum is below the truth; 1e-3 is what a certificate allows above
    assert mean_square(est.model_, X, Y) <= mean_square(truth, X, Y) * (1 + 1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
@pytest.mark.parametrize("activation", ["tanh", "quadratic"])
@pytest.mark.parametrize("seed", range(3))
def test_one_hot_inputs_reach_the_loss_of_the_truth_or_say_that_they_may_not(seed, activation):
    """Tokens that are independent over time show the units in the recurrence alone."""
    rng = np.random.default_rng(seed)
    X = np.eye(6)[rng.integers(6, size=(2000, 10))]
    truth, _ = network(activation, seed, d=6, norm=0.8 if activation == "tanh" else 0.15)
    Y = noisy(truth, X, rng)
    with pytest.warns(ConditionWarning, match="one-hot"):
        est = SpectralRNNRegressor(3, activation=activation, random_state=0).fit(X, Y)
    excess = mean_square(est.model_, X, Y) / mean_square(truth, X, Y) - 1
    certified = est.report_.certificate.status.name == "CERTIFIED"
    assert excess < 1e-3 if certified else excess < 0.1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
def test_one_hot_columns_are_all_given_and_their_smallest_weights_returned():
    rng = np.random.default_rng(12)
    X = np.eye(4)[rng.integers(4, size=(2000, 10))]
    truth, _ = network("tanh", 12, d=4, k=2, norm=0.9)
    Y = noisy(truth, X, rng)
    with pytest.warns(ConditionWarning, match=r"4 columns in 3 directions.*one-hot"):
        est = SpectralRNNRegressor(2, activation="tanh", random_state=0).fit(X, Y)
    # what is left of a_i along (1, .., 1) acts as the bias does
    np.testing.assert_allclose(est.model_.input_weights.sum(axis=1), 0.0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
def test_a_direct_path_of_one_hot_columns_leaves_nothing_to_decompose():
    rng = np.random.default_rng(15)
    X = np.eye(4)[rng.integers(4, size=(1500, 10))]
    truth, _ = network("tanh", 15, d=4, k=2, norm=0.9, direct=True)
    Y = noisy(truth, X, rng)
    with pytest.warns(GloreeWarning):
        est = SpectralRNNRegressor(2, activation="tanh", direct=True, random_state=0).fit(X, Y)
    assert est.report_.decomposition is None
    assert mean_square(est.model_, X, Y) < 1.05 * mean_square(truth, X, Y)
    assert "directions at random" in str(est.report_)


@pytest.mark.slow
@pytest.mark.parametrize("activation", first_of(["tanh", "relu"]))
def test_labels_are_found_nearly_as_well_as_by_the_network_behind_them(activation):
    truth, rng = network(activation, 13, d=6, q=4)
    X, new = (rng.standard_normal((1000, 10, 6)) for _ in range(2))
    labels, unseen = (truth.predict(x).argmax(axis=2) for x in (X, new))
    clf = SpectralRNNClassifier(3, activation=activation, random_state=0).fit(X, labels)
    assert clf.score(new, unseen) > 0.9
    assert clf.report_.certificate is None


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "quadratic"])
def test_labels_of_one_hot_columns_need_no_column_left_out(activation):
    rng = np.random.default_rng(14)
    X, new = (np.eye(5)[rng.integers(5, size=(1500, 10))] for _ in range(2))
    truth, _ = network(activation, 14, norm=0.9 if activation == "tanh" else 0.2)
    level = truth.predict(X).mean(axis=(0, 1))
    labels, unseen = ((truth.predict(x) - level).argmax(axis=2) for x in (X, new))
    with pytest.warns(ConditionWarning, match=r"5 columns in 4 directions"):
        clf = SpectralRNNClassifier(3, activation=activation, random_state=0).fit(X, labels)
    # the label of the token alone
    alone = np.array([np.bincount(labels[X[..., j] == 1]).argmax() for j in range(5)])
    assert clf.score(new, unseen) > np.mean(alone[new.argmax(axis=2)] == unseen)


@pytest.mark.parametrize("name", [*NAMES])
def test_models_are_saved_and_handed_to_torch(name, tmp_path):
    torch = pytest.importorskip("torch")
    truth, rng = network(name)
    truth.save(tmp_path / "model.npz")
    assert IORNN.load(tmp_path / "model.npz") == truth
    x = rng.standard_normal((3, 7, 5))
    found = truth.to_torch()(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(found, truth.predict(x), atol=1e-12)


@pytest.mark.parametrize("own", [ARCTAN, Arctan()], ids=["Custom", "class"])
def test_what_no_file_can_bring_back_is_refused_at_save(own, tmp_path):
    truth, _ = network(own)
    with pytest.raises(TypeError, match="which no file can hold"):
        truth.save(tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------- symmetries


def test_alignment_undoes_scales_of_rectifiers():
    truth, rng = network("relu")
    scale = rng.uniform(0.2, 5.0, 3)
    other = truth.rearranged(np.array([2, 0, 1]), scale, scale)
    np.testing.assert_allclose(
        other.predict(np.ones((4, 5))), truth.predict(np.ones((4, 5))), rtol=1e-12
    )
    assert max(metrics.weight_errors(other, truth).values()) < 1e-12


@pytest.mark.parametrize(
    "f", [sigmoid, tanh, Polynomial((0.0, 1.0, 0.5, 0.2))], ids=lambda f: f.name
)
def test_alignment_undoes_mirror_images(f):
    truth, _ = network(f)
    other = mirror_images(truth, np.array([0, 2]))
    assert max(metrics.weight_errors(other, truth).values()) < 1e-12


# ------------------------------------------------------------------------- bad input


def in_place(z):
    return np.tanh(z, out=z)


@pytest.mark.parametrize(
    "activation, message",
    [
        (Custom(lambda z: 0 * z + 2.0, lambda z: 0 * z, "two"), "'two' is constant"),
        (Custom(lambda z: 3 * z + 1, lambda z: 0 * z + 3, "line"), "'line' is linear.*'linear'"),
        (Custom(np.log, lambda z: 1 / z, "log"), "'log' is not finite.*at -4 is nan"),
        (Custom(np.sin, np.sin, "sine"), "'sine' has a wrong first derivative"),
        (Custom(np.sin, lambda z: -np.cos(z), "sine"), "'sine' has a wrong first derivative"),
        (Custom(np.sum, np.cos, "sum"), "'sum' gives a value of shape .* work elementwise"),
        (Custom(in_place, lambda z: 1 - np.tanh(z) ** 2, "own"), "'own' writes to its argument"),
    ],
    ids=["constant", "linear", "not finite", "wrong slope", "wrong sign", "not elementwise", "own"],
)
def test_activations_that_no_fit_can_use_are_refused_by_name(activation, message):
    X, Y, _ = simulated("tanh", n=50)
    with pytest.raises(ValueError, match=f"`activation`={message}"):
        SpectralRNNRegressor(2, activation=activation).fit(X, Y)


def test_an_activation_that_writes_to_its_argument_spoils_no_check_of_others():
    f, sine = Custom(in_place, lambda z: 1 - np.tanh(z) ** 2), Custom(np.sin, np.sin, "sine")
    assert f.parity == "odd"
    with pytest.raises(ValueError, match="writes to its argument"):
        check_activation(f)
    # the grid is that of [-4, 4] still
    with pytest.raises(ValueError, match=r"at -3\.\d+ it gives"):
        check_activation(sine)
    assert Custom(np.cos, lambda z: -np.sin(z)).parity == "even"


def test_activations_of_single_precision_are_told_from_wrong_ones():
    def single(z):
        return np.tanh(z.astype(np.float32))

    check_activation(Custom(single, lambda z: 1 - single(z) ** 2, "single"))
    with pytest.raises(ValueError, match="'single' has a wrong first derivative"):
        check_activation(Custom(single, lambda z: 1.01 - single(z) ** 2, "single"))


def test_complex_activations_are_refused():
    with pytest.raises(TypeError, match="'root' gives complex numbers"):
        check_activation(Custom(lambda z: np.sqrt(z + 0j), lambda z: z, "root"))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"moment": "score"}, "`moment`='score' is of one order"),
        ({"recurrence": "cross"}, "`recurrence`='cross' is for polynomials of degree 2 and 3"),
    ],
)
def test_what_a_fit_with_any_activation_does_not_use_is_refused(options, message):
    X, Y, _ = simulated("tanh", n=50)
    with pytest.raises(ValueError, match=message):
        SpectralRNNRegressor(2, activation="tanh", **options).fit(X, Y)


@pytest.mark.slow
def test_it_is_said_where_units_cannot_be_told_from_linear_ones():
    X, _, _ = simulated("tanh", n=1000)
    rng = np.random.default_rng(0)
    Y = X @ rng.standard_normal((5, 3)) + 0.1 * rng.standard_normal((1000, 8, 3))
    with pytest.warns(GloreeWarning) as caught:
        SpectralRNNRegressor(2, activation="tanh", random_state=0).fit(X, Y)
    texts = [str(each.message) for each in caught if each.category is AcceptanceWarning]
    assert any("cannot be told from a linear one" in text for text in texts)


@pytest.mark.slow
def test_a_start_that_was_kept_as_it_is_has_no_certificate():
    """Other starts end alike on a part of the data: of these weights that says nothing."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(size) for size in ((2, 3), (2, 2), (2, 2))]
    truth = IORNN(weights[0], 0.3 * weights[1], weights[2], activation="tanh")
    X = rng.standard_normal((200, 10, 3))
    Y = truth.predict(X) + 0.3 * rng.standard_normal((200, 10, 2))
    options = {"activation": "tanh", "random_state": 0, "engine": "serial"}
    est = SpectralRNNRegressor(2, refine=LevenbergMarquardt(0), **options)
    with pytest.warns(ConvergenceWarning, match="ended after 0 steps"):
        est.fit(X, Y)
    assert est.report_.refinement_steps == 0
    assert est.report_.certificate.status is CertificateStatus.UNCERTAIN


def test_a_given_law_is_kept_and_not_used():
    X, Y, _ = simulated("tanh", n=400)
    law = datasets.make_chain(5, random_state=0)
    est = SpectralRNNRegressor(3, activation="tanh", chain=law, random_state=0).fit(X, Y)
    plain = SpectralRNNRegressor(3, activation="tanh", random_state=0).fit(X, Y)
    assert est.chain_ is law
    assert plain.chain_ is None
    assert est.model_ == plain.model_


def test_names_are_those_of_the_table():
    assert get_activation("relu") is relu
    assert {get_activation(name).name for name in NAMES} == set(NAMES)


@pytest.mark.parametrize("lags", [3, 5])
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
def test_short_windows_and_prefixes_begin_where_lag_windows_are_whole(lags):
    """Two steps have none that counts with lags of three, four none with lags of five."""
    X, Y, _, _ = datasets.make_rnn(60, 12, 2, 1, 2, random_state=0)
    est = SpectralRNNRegressor(1, lags=lags, activation="tanh", random_state=0, engine="serial")
    details = [stage.detail for stage in est.fit(X, Y).report_.stages]
    assert any(detail.startswith("windows: ") for detail in details)
    assert np.isfinite(est.predict(X)).all()
