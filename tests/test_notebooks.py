"""What a notebook shows: short representations, tables whose text is escaped, one progress bar."""

from __future__ import annotations

import base64
import copy
import dataclasses
import html.parser
import importlib
import inspect
import io
import pkgutil
import re
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import gloree
from gloree import (
    GaussianVAR,
    SpectralRNNClassifier,
    SpectralRNNRegressor,
    datasets,
    decomposition,
    metrics,
    models,
    moments,
    score_functions,
)
from gloree._brief import LONGEST, Brief, brief
from gloree._html import MOST_PIXELS, html_list, html_matrix, html_page, html_table
from gloree.activations import Polynomial
from gloree.diagnostics import ConvergenceWarning, Finding, FitReport, GloreeWarning
from gloree.refinement import LevenbergMarquardt, _levenberg_marquardt

MODULES = [
    importlib.import_module(name)
    for _, name, _ in pkgutil.walk_packages(gloree.__path__, "gloree.")
    if not any(part.startswith("_") for part in name.split("."))
]
CLASSES = {
    getattr(module, name)
    for module in MODULES
    for name in module.__all__
    if inspect.isclass(getattr(module, name)) and dataclasses.is_dataclass(getattr(module, name))
}


@pytest.fixture(scope="module")
def results():
    X, Y, truth, chain = datasets.make_rnn(400, 10, 12, 6, 6, random_state=3)
    est = SpectralRNNRegressor(n_hidden=6, random_state=0).fit(X, Y)
    T = moments.cross_moment(chain, X, Y, 2)
    return {
        "estimator": est,
        "report": est.report_,
        "model": est.model_,
        "truth": truth,
        "law": chain,
        "fitted law": est.chain_,
        "decomposition": decomposition.decompose(T, 6, random_state=0),
        "rank": decomposition.RankChoice(6, np.ones(12), np.ones(6), 0.1, False, "<reason>"),
        "check": score_functions.check_score(X),
        "report of labels": dataclasses.replace(est.report_, accuracies={"training data": 0.5}),
        "alignment": metrics.align(est.model_, truth),
    }


class Checked(html.parser.HTMLParser):
    """Whether tags are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def tags(text):
    parser = Checked()
    parser.feed(text)
    assert parser.open == []
    return parser.seen


def test_no_representation_is_longer_than_a_screen(results):
    lengths = {name: len(repr(value)) for name, value in results.items()}
    assert max(lengths.values()) <= LONGEST, lengths


@pytest.mark.parametrize("kind", sorted(CLASSES, key=lambda kind: kind.__name__))
def test_public_dataclasses_with_arrays_show_shapes_instead(kind):
    arrays = [f.name for f in dataclasses.fields(kind) if f.repr and "Array" in str(f.type)]
    written = kind.__repr__.__code__.co_filename  # by `dataclass`: no file of the package
    if arrays and Path(gloree.__file__).parent not in Path(written).parents:
        pytest.fail(f"{kind.__name__} writes out {arrays}: derive it from gloree._brief.Brief")


def test_html_of_results_is_short_and_well_formed(results):
    for name, value in results.items():
        text = value._repr_html_()
        if name == "estimator" or text is None:  # scikit-learn's own; its text is short
            continue
        assert len(text) < 8000, name
        assert tags(text), name


@pytest.mark.parametrize("name", ["model", "law", "decomposition"])
def test_weights_laws_and_components_come_with_pictures(results, name):
    assert "img" in tags(results[name]._repr_html_())


@pytest.mark.parametrize("name", ["report", "check", "report of labels", "decomposition", "model"])
def test_figures_of_the_text_stand_in_a_table(results, name):
    assert "table" in tags(results[name]._repr_html_())


def test_text_of_users_is_escaped():
    bad = "<script>alert(1)</script>"
    report = FitReport({bad: 3}, findings=(Finding(GloreeWarning, bad),), moment=bad)
    for text in (
        report._repr_html_(),
        html_table((bad,), [(bad,)]),
        html_list([bad], bad),
        html_page(bad, bad),
        html_matrix(np.eye(2), bad),
    ):
        assert bad not in text
        assert "&lt;script&gt;" in text


def pixels_of(text):
    """Read back the picture in some HTML, by the format's own description."""
    data = base64.b64decode(re.search(r"base64,([^\"]+)", text)[1])
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(
            kind + body
        )
        chunks[kind], at = body, at + 12 + size
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert (lines[:, 0] == 0).all()
    return lines[:, 1:].reshape(height, width, 3)


def test_pixels_of_a_matrix_are_its_entries():
    found = pixels_of(html_matrix(np.array([[2.0, 0.0, -2.0], [1.0, -1.0, 0.0]]), "A"))
    assert found.shape == (2, 3, 3)
    assert (found[0, 1] == 255).all()
    assert found[0, 0, 0] > found[0, 0, 2]  # red
    assert found[0, 2, 2] > found[0, 2, 0]  # blue
    np.testing.assert_allclose(found[1, 0], (255 + found[0, 0].astype(float)) / 2, atol=1)


def test_pictures_of_large_matrices_are_cut_and_say_so():
    text = html_matrix(np.ones((300, 2)), "A")
    assert pixels_of(text).shape == (MOST_PIXELS, 2, 3)
    assert f"300 x 2, first {MOST_PIXELS} x 2 of it" in text


def test_results_are_equal_if_their_values_are(results):
    for name, value in results.items():
        if not isinstance(value, Brief):
            continue
        again = copy.deepcopy(value)
        assert value == again and value in [None, again], name
        for each in dataclasses.fields(value):
            one = getattr(value, each.name)
            if isinstance(one, np.ndarray) and one.dtype.kind == "f" and one.size:
                other = one.copy()
                other.flat[0] += 1.0
                if not np.isnan(one.flat[0]):
                    assert value != dataclasses.replace(value, **{each.name: other}), name
                break


def test_what_is_compared_of_results():
    @dataclasses.dataclass(frozen=True)
    class Result(Brief):
        values: object
        aside: int = dataclasses.field(default=1, compare=False)

    @dataclasses.dataclass(frozen=True, eq=False)
    class Itself(Brief):
        values: object

    nan = float("nan")
    for equal in (
        np.array([1.0, nan]),
        {"a": np.arange(3), "b": (1, [np.ones(2)])},
        (Result(np.ones(2)), None, nan),
    ):
        assert Result(equal) == Result(copy.deepcopy(equal), aside=2)
    for one, other in (
        (np.ones(2), np.ones(3)),
        (np.ones(2), [1.0, 1.0]),
        (np.ones(1), np.array(["a"])),
        ({"a": 1}, {"b": 1}),
        ((1, 2), (1, 2, 3)),
        (Result(1), Itself(1)),
        (1, None),
    ):
        assert Result(one) != Result(other)
    assert Result(1) != 1
    itself = Itself(np.ones(2))
    assert itself == itself
    assert itself != Itself(itself.values)
    assert len({itself, itself}) == 1


def test_brief_values():
    assert brief(np.zeros((3, 4))) == "<array 3 x 4>"
    assert brief(np.array([1.0, 0.25])) == "array([1, 0.25])"
    assert brief(np.arange(100)) == "<array 100>"
    assert brief({"a": 1.23456789}) == "{'a': 1.235}"
    assert brief(tuple(range(20))) == "(0, 1, 2, 3, 4, 5, ...)"
    assert brief((1,)) == "(1,)"
    assert brief("x" * 500) == repr("x" * 500)[:76] + "..."

    @dataclasses.dataclass(frozen=True)
    class Result(Brief):
        values: np.ndarray
        hidden: int = dataclasses.field(default=1, repr=False)
        parts: tuple = ()

    assert repr(Result(np.zeros(9))) == "Result(values=<array 9>, parts=())"
    assert Result(np.zeros(9))._repr_html_() is None
    assert len(repr(Result(np.zeros(9), parts=("y" * 70,) * 6))) <= LONGEST


def test_a_fit_shows_one_bar(monkeypatch):
    X, Y, _, _ = datasets.make_rnn(100, 10, 4, 2, 2, random_state=0)
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    SpectralRNNRegressor(2, random_state=0, verbose=1).fit(X, Y)
    assert "\n" not in shown.getvalue().strip("\r\n")  # a second bar takes a line of its own
    assert "standard errors" in shown.getvalue()


def tanh_data():
    rng = np.random.default_rng(0)
    truth = models.IORNN(
        rng.standard_normal((2, 4)) / 2,
        0.3 * np.eye(2),
        rng.standard_normal((2, 3)),
        hidden_bias=np.array([0.3, -0.4]),
        activation="tanh",
    )
    X = rng.standard_normal((400, 10, 4))
    return X, truth.simulate(X, noise=0.05, random_state=rng), truth


def test_law_without_matrices_is_shown():
    tags(GaussianVAR(np.zeros((0, 2, 2)), np.eye(2))._repr_html_())


@pytest.mark.parametrize("stage", ["descend", "find_precision"])
def test_an_interrupt_keeps_the_moments_and_says_so(monkeypatch, stage):
    X, Y, truth, _ = datasets.make_rnn(400, 10, 4, 2, 2, random_state=0)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    moments_only = SpectralRNNRegressor(2, refine=None, random_state=0).fit(X, Y)
    with monkeypatch.context() as patched:
        patched.setattr(f"gloree.fitting._pipeline.{stage}", interrupt)
        est = SpectralRNNRegressor(2, random_state=0)
        with pytest.warns(ConvergenceWarning, match="interrupted in the stage"):
            est.fit(X, Y)
    assert est.report_.refinement_status is None
    # with a refinement to come, rounds run on a subsample: about the network of moments alone
    errors = metrics.weight_errors(est.model_, moments_only.model_)
    assert errors["input_weights"] < 0.1
    assert metrics.weight_errors(est.model_, truth)["input_weights"] < 0.1


def test_an_interrupt_keeps_the_activation_asked_for(monkeypatch):
    X, Y, _, _ = datasets.make_rnn(400, 10, 4, 2, 2, random_state=0)
    est = SpectralRNNRegressor(2, activation=Polynomial([0.0, 0.5, 1.0]), random_state=0)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("gloree.fitting._pipeline.descend", interrupt)
        with pytest.warns(ConvergenceWarning, match="interrupted in the stage"):
            est.fit(X, Y)
        assert est.model_.activation == Polynomial([0.0, 0.5, 1.0])
        assert est.score(X, Y) > 0.5
    monkeypatch.setattr("gloree.fitting._pipeline.with_activation", interrupt)
    with pytest.raises(KeyboardInterrupt):  # there is only the leading term as yet
        est.fit(X, Y)


@pytest.mark.parametrize(
    "stage, words, quality",
    [
        ("_any_activation.attempt", "the derivatives alone", 0.3),
        ("_any_activation.to_optimum", "the best descent on a part", 0.9),
        ("_pipeline.find_precision", "the best descent so far", 0.9),
    ],
)
def test_an_interrupted_search_keeps_what_was_found(monkeypatch, stage, words, quality):
    X, Y, _ = tanh_data()

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"gloree.fitting.{stage}", interrupt)
    est = SpectralRNNRegressor(2, activation="tanh", random_state=0)
    with pytest.warns(ConvergenceWarning, match=f"interrupted in the stage .* of {words}"):
        est.fit(X, Y)
    assert est.score(X, Y) > quality
    assert est.model_.activation.name == "tanh"
    assert est.report_.certificate.status.name == "UNCERTAIN"
    assert "UNCERTAIN" in str(est.report_)


def test_an_interrupt_within_a_descent_ends_the_search_too(monkeypatch):
    X, Y, _ = tanh_data()
    passes, original = [], _levenberg_marquardt.normal_sums

    def interrupted_in_the_third(*arguments, **options):
        passes.append(1)
        if len(passes) == 3:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(_levenberg_marquardt, "normal_sums", interrupted_in_the_third)
    est = SpectralRNNRegressor(2, activation="tanh", random_state=0, engine="serial")
    with pytest.warns(ConvergenceWarning, match="interrupted in the stage"):
        est.fit(X, Y)
    assert len(passes) == 3


def test_an_interrupted_refinement_keeps_the_best_and_says_so(monkeypatch):
    X, Y, _, _ = datasets.make_rnn(400, 10, 4, 2, 2, random_state=0)
    passes, original = [], _levenberg_marquardt.normal_sums

    def interrupted_in_the_second(*arguments, **options):
        passes.append(1)
        if len(passes) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(_levenberg_marquardt, "normal_sums", interrupted_in_the_second)
    solver = LevenbergMarquardt()
    est = SpectralRNNRegressor(2, refine=solver, random_state=0, engine="serial")
    with pytest.warns(ConvergenceWarning, match="interrupted from the keyboard"):
        est.fit(X, Y)


def test_an_interrupted_warm_start_keeps_the_weights_there_were(monkeypatch):
    X, Y, _, _ = datasets.make_rnn(400, 10, 4, 2, 2, random_state=0)
    est = SpectralRNNRegressor(2, warm_start=True, random_state=0).fit(X[:200], Y[:200])
    before = est.model_.input_weights

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("gloree.fitting._pipeline.descend", interrupt)
    with pytest.warns(ConvergenceWarning, match="interrupted in the stage .* of the fit before"):
        est.fit(X, Y)
    np.testing.assert_allclose(est.model_.input_weights, before, rtol=1e-12)


def test_an_interrupt_with_a_checkpoint_is_one(monkeypatch, tmp_path):
    X, Y, _, _ = datasets.make_rnn(200, 10, 4, 2, 2, random_state=0)
    est = SpectralRNNRegressor(2, random_state=0)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("gloree.fitting._pipeline.descend", interrupt)
        with pytest.raises(KeyboardInterrupt):
            est.fit(X, Y, checkpoint=tmp_path / "fit.checkpoint")
    est.fit(X, Y, checkpoint=tmp_path / "fit.checkpoint")
    assert est.report_.refinement_status is not None


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.AcceptanceWarning")
def test_an_interrupted_refinement_of_labels_keeps_the_readout(monkeypatch):
    X, Y, _, _ = datasets.make_rnn(300, 10, 4, 2, 3, random_state=0)
    labels = Y.argmax(axis=2)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("gloree.fitting._pipeline.refine_labels", interrupt)
    est = SpectralRNNClassifier(2, recurrence=None, random_state=0)
    with pytest.warns(ConvergenceWarning, match="interrupted in the stage 'cross-entropy'"):
        est.fit(X, labels)
    assert est.score(X, labels) > 0.6  # one label of three, by chance, is right for a third
