"""Pass functions and fits on PyTorch tensors: equal to those on NumPy arrays, wherever they are."""

import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from functools import partial

import numpy as np
import pytest
from helpers.batches import only_batch
from helpers.generators import forward_network, restricted, two_way_network, whitening_of

from gloree import SpectralRNNClassifier, SpectralRNNRegressor, SystemIdentifier, datasets
from gloree._arrays import is_tensor, like, to_host
from gloree.activations import Custom, Polynomial, get_activation
from gloree.chains import GaussianVAR, lag_moments
from gloree.engine import Engine, Source
from gloree.fitting._inputs import input_sums
from gloree.fitting._labels import ClassWhitening, label_sums
from gloree.fitting._outputs import output_sums, segments_beyond
from gloree.fitting._problem import centred_outputs
from gloree.fitting._range_finder import (
    centred_inputs,
    linear_residuals,
    model_residuals,
    slope_sums,
)
from gloree.models import IORNN, ExplosionError
from gloree.moments import (
    RegressionFeatures,
    RegressionSolver,
    ScoreResidual,
    cross_moment,
    cross_moment_sums,
    range_sums,
    regression_moment,
    regression_sums,
    score_coordinates,
)
from gloree.recurrence import (
    RECURRENCES,
    Contraction,
    OutputsOnly,
    TwoSidedFit,
    cross_sums,
    estimate,
    instrument_sums,
    linearised_sums,
    score_sums,
    two_sided_spread,
    two_sided_sums,
)
from gloree.refinement import (
    CrossEntropy,
    Layout,
    Rounds,
    SquaredError,
    evaluate,
    gradient_sums,
    hessian_sums,
    spread_sums,
    square_sums,
)
from gloree.score_functions import SymmetricWhitening, check_score, stein_statistic
from gloree.sequences import as_sequences
from gloree.sources import as_data
from gloree.states import residual_rows, run_states

torch = pytest.importorskip("torch")
pytest.importorskip("array_api_compat")

# Sums of thousands of products in another order.
ROUNDING = 1e-10
# A polynomial of degree 3 by the same steps.
POLYNOMIAL = 1e-14
# A defect is a difference of moments, small beside these.
DEFECT = 1e-8
# What is promised of a fit: outputs are weighed by their residuals, so that rounding of these
# comes back in the weights.
FIT = 1e-7

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
N_INPUTS, N_HIDDEN, N_OUTPUTS = 3, 2, 3


@pytest.fixture(params=DEVICES)
def device(request, monkeypatch):
    """Where tensors are; NumPy must not take one for an array, which it could on a CPU."""

    def refuse(self, *arguments, **options):
        raise AssertionError("NumPy was given a tensor")

    monkeypatch.setattr(torch.Tensor, "__array__", refuse)
    return request.param


def tensors(values, device, dtype=None):
    if isinstance(values, list):
        return [tensors(part, device, dtype) for part in values]
    return torch.from_numpy(np.array(values)).to(device=device, dtype=dtype)


def assert_equal(found, expected, tolerance=ROUNDING, name="statistic"):
    """The same numbers, on the host."""
    assert type(found) is type(expected), name
    if is_dataclass(expected):
        for entry in fields(expected):
            pair = getattr(found, entry.name), getattr(expected, entry.name)
            assert_equal(*pair, tolerance, f"{name}.{entry.name}")
    elif isinstance(expected, np.ndarray):
        assert found.shape == expected.shape, name
        assert found.dtype == expected.dtype, name
        size = np.abs(expected).max(initial=0.0)
        assert np.abs(found - expected).max(initial=0.0) <= tolerance * size, name
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=tolerance), name
    else:
        assert found == expected, name


def assert_same_model(found, expected, tolerance=FIT):
    """The same weights, to a fraction of the largest: biases may be noise around zero."""
    mine, theirs = found.arrays(), expected.arrays()
    assert mine.keys() == theirs.keys()
    known = {name: values for name, values in theirs.items() if values is not None}
    size = max(np.abs(values).max(initial=0.0) for values in known.values())
    for name, values in known.items():
        assert np.abs(mine[name] - values).max(initial=0.0) <= tolerance * size, name


def make_data(seed=0):
    """Ragged sequences, one of a single step, one longer than a segment."""
    rng = np.random.default_rng(seed)
    lengths = [7, 1, 60, 2, 12, 9, 3, 31]
    chain = GaussianVAR(0.4 * np.eye(N_INPUTS), np.eye(N_INPUTS))
    X = [0.3 + chain.sample(1, n, rng)[0] for n in lengths]
    return X, [rng.standard_normal((n, N_OUTPUTS)) for n in lengths]


CUTS = {
    "whole sequences": {},
    "small batches": {"batch_size": 20},
    "segments with context": {"segment": 10, "before": 4, "after": 4, "batch_size": 25},
}


def batches(device, **cut):
    """Batches of arrays and of tensors."""
    X, Y = make_data()
    arrays = Source(as_data(X, Y), **cut)
    moved = Source(as_data(tensors(X, device), tensors(Y, device)), **cut)
    return [
        (arrays.read(segments), moved.read(segments)) for segments in arrays.as_subset().batches
    ]


def check(function, device, **cut):
    for array_batch, tensor_batch in batches(device, **cut):
        assert is_tensor(tensor_batch.X)
        assert tensor_batch.X.device.type == device
        assert tensor_batch.X.dtype == tensor_batch.Y.dtype == torch.float64
        assert_equal(function(tensor_batch), function(array_batch))


RNG = np.random.default_rng(1)
ONE_WAY = forward_network(N_INPUTS, N_HIDDEN, N_OUTPUTS, norm=0.2, direct=True)
CUBIC = restricted(ONE_WAY, bias=False, direct=False).replace(
    activation=Polynomial([0.1, 0.5, 0.0, 0.2])
)
MEMORYLESS = ONE_WAY.replace(recurrent_weights=None)
BOTH_WAYS = two_way_network(N_HIDDEN, 1, N_INPUTS, N_OUTPUTS)
MODELS = {"one way": ONE_WAY, "cubic": CUBIC, "memoryless": MEMORYLESS, "both ways": BOTH_WAYS}
LAYOUTS = {
    "one way": Layout(N_INPUTS, N_HIDDEN, N_OUTPUTS, direct=True),
    "cubic": Layout(N_INPUTS, N_HIDDEN, N_OUTPUTS, bias=False),
    "memoryless": Layout(N_INPUTS, N_HIDDEN, N_OUTPUTS, recurrent=False, direct=True),
    "both ways": Layout(N_INPUTS, N_HIDDEN + 1, N_OUTPUTS, n_backward=1),
}
CHAIN = GaussianVAR.fit(make_data()[0])
CHAIN_2 = GaussianVAR.fit(make_data()[0], order=2)
ROWS = np.concatenate(make_data()[0])
WHITENING = whitening_of(make_data()[0])
MEAN = np.concatenate(make_data()[1]).mean(axis=0) + 0.1
MIX = RNG.standard_normal((N_OUTPUTS, 2))
CONTRACTION = Contraction.of(ONE_WAY, CHAIN.precision_blocks(0))


def solver(degree=2):
    features = RegressionFeatures(WHITENING, degree)
    return RegressionSolver.from_sums(
        features, regression_sums(as_sequences(*make_data()).whole(), features)
    )


def two_sided_fit():
    return TwoSidedFit.of(
        two_sided_sums(as_sequences(*make_data()).whole(), MEMORYLESS, bias=True), MEMORYLESS
    )


def of_residuals(batch):
    """A pass with an explicit target."""
    residuals = residual_rows(ONE_WAY, batch)
    return regression_sums(
        batch, RegressionFeatures(WHITENING, 2), targets=lambda _: residuals, gram=False
    )


MOMENTS = {
    "lag moments of order 0": partial(lag_moments, order=0),
    "lag moments of order 1": partial(lag_moments, order=1),
    "lag moments about a centre": partial(lag_moments, order=2, centre=ROWS[0]),
    "outputs": partial(output_sums, centre=MEAN, scale=2.0 * np.ones(MEAN.shape), every=2),
    "large outputs": partial(segments_beyond, centre=MEAN, scale=np.ones(MEAN.shape), limit=2.0),
    "inputs": partial(input_sums, centre=ROWS[0]),
    "xreg": partial(regression_sums, features=RegressionFeatures(WHITENING, 2)),
    "xreg of degree 3": partial(
        regression_sums,
        features=RegressionFeatures(WHITENING, 3),
        targets=partial(centred_outputs, mean=MEAN),
    ),
    "union": partial(regression_sums, features=RegressionFeatures(WHITENING, 2, CHAIN)),
    "right-hand side": of_residuals,
    "score moment": partial(cross_moment_sums, chain=CHAIN, order=2),
    "projected score moment": partial(
        cross_moment_sums, chain=CHAIN_2, order=3, projection=RNG.standard_normal((N_INPUTS, 2))
    ),
    "slopes": partial(slope_sums, mean=WHITENING.mean, outputs=partial(centred_outputs, mean=MEAN)),
    "range of a linear fit": partial(
        range_sums,
        vectors=partial(centred_inputs, mean=WHITENING.mean),
        targets=partial(
            linear_residuals,
            mean=WHITENING.mean,
            outputs=partial(centred_outputs, mean=MEAN),
            slopes=RNG.standard_normal((N_INPUTS, 2)),
            weights=MIX,
            directions=RNG.standard_normal((N_INPUTS, 2)),
        ),
        probes=RNG.standard_normal((N_INPUTS, 2)),
    ),
    "range of residuals": partial(
        range_sums,
        vectors=partial(centred_inputs, mean=WHITENING.mean),
        targets=partial(model_residuals, model=ONE_WAY, weights=MIX),
        probes=RNG.standard_normal((N_INPUTS, 2)),
    ),
    "Stein's identity": partial(
        stein_statistic,
        chain=CHAIN,
        whitening=SymmetricWhitening.from_moments(ROWS.mean(axis=0), np.cov(ROWS.T)),
        block=10,
    ),
    "Stein's identity of order 2": partial(
        stein_statistic,
        chain=CHAIN_2,
        whitening=SymmetricWhitening.from_moments(ROWS.mean(axis=0), np.cov(ROWS.T), 2),
    ),
    "two sides": partial(two_sided_sums, model=MEMORYLESS, bias=True, direct=True),
    "spread of two sides": partial(two_sided_spread, model=MEMORYLESS, fit=two_sided_fit()),
    "instrument": partial(instrument_sums, model=ONE_WAY, chain=CHAIN, contraction=CONTRACTION),
    "cross": partial(cross_sums, model=ONE_WAY, chain=CHAIN, contraction=CONTRACTION),
    "score": partial(score_sums, model=ONE_WAY, chain=CHAIN),
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", MOMENTS)
def test_moments(name, cut, device):
    check(MOMENTS[name], device, **CUTS[cut])


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "function", [gradient_sums, hessian_sums, spread_sums], ids=lambda f: f.__name__
)
def test_derivatives(function, name, cut, device):
    check(partial(function, model=MODELS[name], layout=LAYOUTS[name]), device, **CUTS[cut])


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", MODELS)
def test_errors_and_linearised_sums(name, cut, device):
    model = MODELS[name]
    check(partial(square_sums, model=model), device, **CUTS[cut])
    direct = model.direct_weights is not None
    check(partial(linearised_sums, model=model, direct=direct), device, **CUTS[cut])


@pytest.mark.parametrize("moment", ["regression", "score"])
@pytest.mark.parametrize("method", [*RECURRENCES, "none"])
def test_rounds(method, moment, device):
    if moment == "regression":
        residual = solver()
    else:
        residual = ScoreResidual(score_coordinates(CHAIN.precision_blocks(0)[0]), CHAIN, 2)
    X, Y = make_data()
    estimator = RECURRENCES.get(method, OutputsOnly())
    found, expected = (
        evaluate(
            Rounds(LAYOUTS["one way"], estimator, residual, CHAIN, Engine("serial"), source),
            ONE_WAY,
            tensor=True,
        )
        for source in (
            Source(as_data(x, y), **CUTS["segments with context"])
            for x, y in ((tensors(X, device), tensors(Y, device)), (X, Y))
        )
    )
    assert_equal(found, expected)


@pytest.mark.parametrize("both_ways", [False, True])
def test_windows(both_ways, device):
    lags = 3
    X, Y = make_data()
    cut = {"segment": 10, "before": 4, "after": 4, "lags": lags, "both_ways": both_ways}
    rng = np.random.default_rng(2)
    width = N_INPUTS * (2 * lags - 1 if both_ways else lags)
    centre = rng.standard_normal(width)
    arrays = Source(as_data(X, Y), centre=centre, **cut)
    moved = Source(as_data(tensors(X, device), tensors(Y, device)), centre=centre, **cut)
    for segments in arrays.as_subset().batches:
        found, expected = moved.read(segments), arrays.read(segments)
        np.testing.assert_array_equal(to_host(found.X), expected.X)
        np.testing.assert_array_equal(to_host(found.counted), expected.counted)
    if both_ways:
        model = two_way_network(2, 1, N_INPUTS, N_OUTPUTS, lags=lags)
        layout = Layout(width, 3, N_OUTPUTS, n_backward=1, lags=lags)
        found = moved.read(segments)
        for function in (gradient_sums, hessian_sums, spread_sums):
            assert_equal(
                function(found, model, layout), function(arrays.read(segments), model, layout)
            )


@pytest.mark.parametrize("cut", CUTS)
def test_labels(cut, device):
    X, _ = make_data()
    rng = np.random.default_rng(3)
    labels = [rng.integers(N_OUTPUTS, size=len(x)) for x in X]
    whitening = ClassWhitening.of(
        label_sums(as_sequences(X, labels).whole(), N_OUTPUTS), direct=True
    )
    arrays = Source(as_data(X, labels), **CUTS[cut])
    moved = Source(as_data(tensors(X, device), tensors(labels, device)), **CUTS[cut])
    functions = [
        partial(label_sums, n_classes=N_OUTPUTS),
        partial(CrossEntropy().sums, model=ONE_WAY),
        partial(CrossEntropy().sums, model=BOTH_WAYS, layout=LAYOUTS["both ways"]),
    ]
    for segments in arrays.as_subset().batches:
        found, expected = moved.read(segments), arrays.read(segments)
        for function in functions:
            assert_equal(function(found), function(expected))
        np.testing.assert_array_equal(
            to_host(whitening(found.targets)), whitening(expected.targets)
        )


class OneDevice(torch.overrides.TorchFunctionMode):
    """Refuses operations on tensors of different devices (indices may be on the host)."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        found = {x.device.type for x in self.tensors((args, kwargs)) if x.ndim > 0}
        if function.__name__ != "__getitem__":
            assert len(found) <= 1, f"{function.__name__} of tensors on {found}"
        return function(*args, **kwargs)

    def tensors(self, value):
        if is_tensor(value):
            yield value
        elif isinstance(value, (list, tuple, dict)):
            for part in value.values() if isinstance(value, dict) else value:
                yield from self.tensors(part)


def all_passes():
    yield from MOMENTS.items()
    for name, model in MODELS.items():
        for function in (gradient_sums, hessian_sums, spread_sums):
            yield name, partial(function, model=model, layout=LAYOUTS[name])
        yield name, partial(square_sums, model=model)
        yield name, partial(linearised_sums, model=model)
    yield "labels", partial(label_sums, n_classes=N_OUTPUTS)
    yield "squared error", partial(SquaredError().sums, model=ONE_WAY, layout=LAYOUTS["one way"])
    loss = partial(CrossEntropy().sums, model=ONE_WAY, layout=LAYOUTS["one way"])
    yield "cross-entropy", lambda batch: loss(replace(batch, Y=batch.Y[:, :1]))


@pytest.mark.parametrize("cut", CUTS)
def test_nothing_but_sums_leaves_the_device(cut, monkeypatch):
    """Tensors without numbers stand for those of a device that may not be here."""
    monkeypatch.setattr(torch.Tensor, "cpu", lambda x: torch.ones(x.shape, dtype=x.dtype))
    monkeypatch.setattr(torch.Tensor, "__float__", lambda x: 1.0)
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda x: True)
    X, Y = make_data()
    moved = as_sequences(X, Y)
    moved = replace(moved, X=tensors(moved.X, "meta"), Y=tensors(moved.Y, "meta"))
    source = Source(moved, **CUTS[cut])
    for name, function in all_passes():
        for segments in source.as_subset().batches:
            with OneDevice():
                statistic = function(source.read(segments))
            for entry in fields(statistic):
                assert not is_tensor(getattr(statistic, entry.name)), (name, entry.name)


@pytest.mark.parametrize(
    "coefficients", [(0, 1), (0, 0, 1), (1, 0, 2), (0.5, 0, 0, 1), (0, 1, 2, 3)]
)
def test_polynomials(coefficients, device):
    f, z = Polynomial(coefficients), np.linspace(-2.0, 2.0, 12).reshape(4, 3)
    moved = tensors(z, device)
    for order in range(5):
        assert_equal(to_host(f.derivative(moved, order)), f.derivative(z, order), POLYNOMIAL)
    out = torch.empty_like(moved)
    assert f(moved, out=out) is out
    assert_equal(to_host(out), f(z), POLYNOMIAL)


def test_explosions_name_the_step(device):
    X = [np.zeros((9, 1)), np.ones((9, 1))]
    model = IORNN([[1.0]], [[1.0]], [[1.0]])
    messages = []
    for data in (as_data(X), as_data(tensors(X, device))):
        with pytest.raises(ExplosionError, match="sequence 1") as caught:
            run_states(model, only_batch(Source(data)))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


SMOOTH = ["tanh", "sigmoid", "softplus", "relu", "leaky_relu", "gelu", "silu"]
# a dozen operations on values up to 10, and functions that are good to a few roundings
SAME = 1e-13


def test_an_activation_of_ones_own_runs_on_arrays(device):
    data = as_data(*tensors(list(make_data()), device))
    batch = only_batch(Source(data))
    with pytest.raises(TypeError, match=r"sine.*runs on NumPy arrays.*of this package"):
        run_states(ONE_WAY.replace(activation=Custom(np.sin, np.cos, "sine")), batch)


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_activations_run_on_tensors(name, device):
    z = np.linspace(-6.0, 6.0, 41)
    f = get_activation(name)
    moved = tensors([z], device)[0]
    for found, expected in [(f(moved), f(z))] + [
        (f.derivative(moved, order), f.derivative(z, order)) for order in (1, 2, 3)
    ]:
        np.testing.assert_allclose(to_host(found), expected, rtol=SAME, atol=SAME)


# -- whole fits ---------------------------------------------------------------------------------

N_SEQUENCES = 300


def make_fit_data(form="array", seed=0):
    X, Y, _, _ = datasets.make_rnn(N_SEQUENCES, 10, 5, 2, 3, random_state=seed)
    if form == "array":
        return X, Y, None
    if form == "list":
        lengths = np.random.default_rng(0).integers(2, 11, size=N_SEQUENCES)
        cut = list(zip(lengths, X, Y, strict=True))
        return [x[:n] for n, x, _ in cut], [y[:n] for n, _, y in cut], None
    if form == "flat":
        return X.reshape(-1, 5), Y.reshape(-1, 3), np.full(N_SEQUENCES, 10)
    X, Y, _, _ = datasets.make_rnn(1, 3000, 5, 2, 3, random_state=seed)
    return X[0], Y[0], None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["array", "list", "flat", "single"])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"refine": "full"},
        {"refine": None, "moment": "score"},
        {"refine": "full", "lags": 2, "direct": True},
        {"refine": "full", "bidirectional": True},
    ],
    ids=str,
)
def test_fits_equal_those_of_arrays(parameters, form, device):
    X, Y, lengths = make_fit_data(form)
    parameters = {"n_hidden": 2, "random_state": 0, **parameters}
    expected = SpectralRNNRegressor(**parameters).fit(X, Y, lengths=lengths)
    found = SpectralRNNRegressor(**parameters).fit(
        tensors(X, device), tensors(Y, device), lengths=lengths
    )
    assert_same_model(found.model_, expected.model_)
    if parameters.get("refine", "one-step"):
        for name, errors in expected.report_.standard_errors.items():
            assert_equal(found.report_.standard_errors[name], errors, FIT, name)


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.AcceptanceWarning")  # two weak units
@pytest.mark.parametrize("refine, readout", [(None, "logistic"), (None, "least-squares")])
def test_labelling_fits_equal_those_of_arrays(refine, readout, device):
    X, Y, _ = make_fit_data()
    labels = Y.argmax(axis=2)
    options = {"refine": refine, "readout": readout, "random_state": 0}
    expected = SpectralRNNClassifier(2, **options).fit(X, labels)
    found = SpectralRNNClassifier(2, **options).fit(tensors(X, device), tensors(labels, device))
    assert_same_model(found.model_, expected.model_)
    np.testing.assert_array_equal(found.classes_, expected.classes_)
    assert found.score(tensors(X, device), labels) == expected.score(X, labels)


def test_fits_with_the_batches_of_an_accelerator(device, monkeypatch):
    monkeypatch.setattr("gloree._arrays.on_accelerator", is_tensor)
    monkeypatch.setattr("gloree.fitting._outputs.on_accelerator", is_tensor)
    monkeypatch.setattr("gloree._monomials.BLOCK_ENTRIES", 2**11)
    X, Y, _ = make_fit_data()
    for options in ({}, {"batch_size": 400}, {"memory_limit": 2**29}):
        found = SpectralRNNRegressor(2, refine="full", random_state=0, **options)
        found.fit(tensors(X, device), tensors(Y, device))
        expected = SpectralRNNRegressor(2, refine="full", random_state=0).fit(X, Y)
        assert_same_model(found.model_, expected.model_)


def test_many_inputs_and_unknown_number_of_units(device):
    X, Y, _, _ = datasets.make_rnn(400, 8, 40, 2, 3, random_state=0)
    options = {"refine": "full", "random_state": 0}
    expected = SpectralRNNRegressor(2, **options).fit(X, Y)
    found = SpectralRNNRegressor(2, **options).fit(tensors(X, device), tensors(Y, device))
    assert_same_model(found.model_, expected.model_)
    X, Y, _ = make_fit_data()
    expected = SpectralRNNRegressor(**options).fit(X, Y)
    found = SpectralRNNRegressor(**options).fit(tensors(X, device), tensors(Y, device))
    assert_same_model(found.model_, expected.model_)


def test_single_precision_and_integers_are_summed_in_double(device):
    X, Y, _ = make_fit_data()
    X, Y = X.astype(np.float32), np.round(10 * Y).astype(np.int32)
    expected = SpectralRNNRegressor(2, random_state=0).fit(X, Y)
    found = SpectralRNNRegressor(2, random_state=0).fit(tensors(X, device), tensors(Y, device))
    assert_same_model(found.model_, expected.model_)


def test_tensors_with_a_graph_stay_as_they_are(device):
    X, Y, _ = make_fit_data()
    moved = tensors(X, device).requires_grad_()
    before = moved.detach().clone()
    found = SpectralRNNRegressor(2, random_state=0).fit(moved, tensors(Y, device))
    assert isinstance(found.model_.input_weights, np.ndarray)
    assert torch.equal(moved, before)


def test_predictions_and_scores_are_numpy(device):
    X, Y, _ = make_fit_data("list")
    model = SpectralRNNRegressor(2, random_state=0).fit(X, Y)
    moved = tensors(X, device)
    found = model.predict(moved)
    for mine, theirs in zip(found, model.predict(X), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert model.score(moved, tensors(Y, device)) == model.score(X, Y)
    half = tensors(X[0], device, torch.bfloat16)
    np.testing.assert_array_equal(model.predict(half), model.predict(half.float().cpu().numpy()))


def test_small_functions_on_tensors(device):
    X, Y, _ = make_fit_data("list")
    moved, outputs = tensors(X, device), tensors(Y, device)
    chain = GaussianVAR.fit(X, order=2)
    assert_equal(GaussianVAR.fit(moved, order=2).coefficients, chain.coefficients)
    assert_equal(check_score(moved, chain=chain).defect, check_score(X, chain=chain).defect, DEFECT)
    assert_equal(cross_moment(chain, moved, outputs, 2), cross_moment(chain, X, Y, 2))
    for law in (None, chain):
        assert_equal(
            regression_moment(moved, outputs, chain=law), regression_moment(X, Y, chain=law), FIT
        )
    model = IORNN(np.eye(2, 5), None, np.ones((2, 3)) + np.eye(2, 3))
    for method in ("instrument", "least-squares", "cross", "score"):
        assert_same_model(
            estimate(chain, moved, outputs, model, method=method),
            estimate(chain, X, Y, model, method=method),
        )


def test_what_works_on_arrays_copies_tensors(device):
    rng = np.random.default_rng(0)
    u = rng.standard_normal(1500)
    y = np.convolve(u, 0.5 ** np.arange(8))[:1500]
    options = {"n_linear": 1, "n_nonlinear": 0, "random_state": 0}
    expected = SystemIdentifier(**options).fit(u, y)
    found = SystemIdentifier(**options).fit(tensors(u, device), tensors(y, device))
    assert_same_model(found.model_, expected.model_)
    X = rng.standard_normal((20, 100, 1))
    Y = IORNN([[1.0]], [[0.5]], [[1.0]], activation="linear").predict(X)
    linear = SpectralRNNRegressor(1, activation="linear", random_state=0)
    expected = linear.fit(X, Y).model_
    assert_same_model(linear.fit(tensors(X, device), tensors(Y, device)).model_, expected)


def test_checkpoints_and_parts(device, tmp_path):
    X, Y, _ = make_fit_data("list")
    data = as_data(tensors(X, device), tensors(Y, device))
    assert data.checksum == as_data(X, Y).checksum
    chosen, expected = data.select([3, 1]), as_data(X, Y).select([3, 1])
    np.testing.assert_array_equal(to_host(chosen.X), expected.X)
    np.testing.assert_array_equal(to_host(chosen.Y), expected.Y)
    path = tmp_path / "fit"
    first = SpectralRNNRegressor(2, random_state=0)
    first.fit(tensors(X, device), tensors(Y, device), checkpoint=path)
    # a checkpoint says nothing of where the data are
    again = SpectralRNNRegressor(2, random_state=0).fit(X, Y, checkpoint=path)
    assert_same_model(again.model_, first.model_, 0.0)


# -- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["X", "Y"])
def test_nan_is_named_as_for_arrays(where, device):
    X, Y, _ = make_fit_data("list")
    {"X": X, "Y": Y}[where][2][1, 1] = np.nan
    messages = []
    for data in ((X, Y), (tensors(X, device), tensors(Y, device))):
        with pytest.raises(
            ValueError, match=f"`{where}` holds nan at sequence 2, step 1"
        ) as caught:
            SpectralRNNRegressor(2).fit(*data)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_arrays_beside_tensors_are_refused(device):
    X, Y, _ = make_fit_data()
    for data in ((tensors(X, device), Y), (X, tensors(Y, device))):
        with pytest.raises(TypeError, match=r"`X` is .* and `Y` is .*: give both as"):
            SpectralRNNRegressor(2).fit(*data)
    mixed = [tensors(X[0], device), *X[1:]]
    with pytest.raises(TypeError, match=r"`X\[0\]` is a tensor on .* and `X\[1\]` is an array"):
        SpectralRNNRegressor(2).fit(mixed, list(Y))


def test_complex_tensors_are_refused(device):
    X, Y, _ = make_fit_data()
    with pytest.raises(TypeError, match=r"`X` has dtype torch\.complex128, expected real"):
        SpectralRNNRegressor(2).fit(tensors(X, device).to(torch.complex128), tensors(Y, device))


def test_shapes_are_checked_as_for_arrays(device):
    X, Y, _ = make_fit_data("list")
    with pytest.raises(ValueError, match=r"`X\[0\]` has 8 steps, `Y\[0\]` has 7"):
        rows = X[0][:8], Y[0][:7]
        as_data([tensors(rows[0], device)], [tensors(rows[1], device)])


def test_dask_engines_want_arrays(device):
    pytest.importorskip("distributed")
    from gloree.engine import DaskEngine

    X, Y, _ = make_fit_data()
    with pytest.raises(TypeError, match="a Dask engine runs on NumPy arrays"):
        SpectralRNNRegressor(2, engine=DaskEngine("dask")).fit(
            tensors(X, device), tensors(Y, device)
        )


def test_batches_of_tensors_run_one_after_another(device):
    import threading

    X, Y = make_data()
    source = Source(as_data(tensors(X, device), tensors(Y, device)), batch_size=20)
    threads = set()

    def function(batch):
        threads.add(threading.get_ident())
        return square_sums(batch, ONE_WAY)

    Engine("threads", n_workers=4).run(function, source)
    assert threads == {threading.get_ident()}


def test_arrays_need_no_torch():
    code = (
        "import sys, numpy as np\n"
        "from gloree import SpectralRNNRegressor, datasets\n"
        "X, Y, _, _ = datasets.make_rnn(200, 8, 3, 1, 2, random_state=0)\n"
        "SpectralRNNRegressor(1, random_state=0).fit(X, Y).predict(X)\n"
        "print([name for name in ('torch', 'array_api_compat') if name in sys.modules])\n"
    )
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_a_missing_package_is_named(device, monkeypatch):
    monkeypatch.setitem(sys.modules, "array_api_compat.torch", None)
    with pytest.raises(ImportError, match=r"tensors needs array_api_compat.*gloree\[torch\]"):
        like(tensors(np.zeros(2), device), np.zeros(2))
