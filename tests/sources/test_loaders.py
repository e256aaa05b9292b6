"""Loaders of PyTorch, and other ways in which an iterable may hand over its parts."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.marks import first_of

from gloree import SpectralRNNClassifier, SpectralRNNRegressor, datasets, sources
from gloree.sources import SourceError

N, PART = 400, 64


@pytest.fixture(scope="module")
def data():
    X, Y, _, _ = datasets.make_rnn(N, 10, 4, 2, 3, random_state=0)
    return X, Y


def regressor():
    return SpectralRNNRegressor(2, random_state=0, engine="serial")


@pytest.fixture(scope="module")
def parts(data):
    return [tuple(values[i : i + PART] for values in data) for i in range(0, N, PART)]


@pytest.fixture(scope="module")
def expected(parts):
    return regressor().fit(sources.batches(parts)).model_


class Items:
    """Parts in another form."""

    def __init__(self, parts, form):
        self.parts, self.form = parts, form

    def __iter__(self):
        return (self.form(X, Y) for X, Y in self.parts)


FORMS = {
    "tuple": lambda X, Y: (X, Y),
    "list": lambda X, Y: [X, Y],
    "pairs": lambda X, Y: list(zip(X, Y, strict=True)),
    "dictionary": lambda X, Y: {"X": X, "Y": Y},
    "names of others": lambda X, Y: {"inputs": X, "targets": Y, "id": 7},
    "flat": lambda X, Y: {
        "x": X.reshape(-1, 4),
        "y": Y.reshape(-1, 3),
        "lengths": np.full(len(X), 10),
    },
}


@pytest.mark.parametrize("form", first_of(FORMS.values(), 3), ids=FORMS.keys())
@pytest.mark.parametrize("tensors", [False, True])
def test_items_of_every_form_give_the_same_network(form, tensors, parts, expected):
    if tensors:
        torch = pytest.importorskip("torch")
        parts = [(torch.from_numpy(X), torch.from_numpy(Y)) for X, Y in parts]
    assert regressor().fit(Items(parts, form)).model_ == expected


BAD = {
    "two inputs": ({"X": 0, "x": 0, "Y": 0}, "batch 0: a dictionary with the keys"),
    "no inputs": ({"Y": 0}, "batch 0: a dictionary with the keys .* one of X, x, inputs"),
    "four arrays": ([np.zeros((2, 3))] * 4, "batch 0: expected .X, Y.*got a tuple of 4"),
    "nothing": ([], "batch 0: it holds no sequences"),
}


@pytest.mark.parametrize("item, message", BAD.values(), ids=BAD.keys())
def test_items_that_say_too_much_or_too_little_are_named(item, message):
    with pytest.raises(SourceError, match=message):
        regressor().fit(sources.batches([item]))


@pytest.fixture
def loaders():
    return pytest.importorskip("torch.utils.data")


@pytest.fixture
def dataset(data, loaders):
    torch = pytest.importorskip("torch")
    return loaders.TensorDataset(*map(torch.from_numpy, data))


def test_a_loader_is_data_like_any_other(dataset, loaders, data, expected):
    loader = loaders.DataLoader(dataset, batch_size=PART)
    direct = regressor().fit(loader)
    assert direct.model_ == expected
    assert regressor().fit(sources.batches(loader)).model_ == expected
    assert direct.score(loader) == pytest.approx(direct.score(*data), rel=1e-12)
    predicted = np.array(direct.predict(loader))
    np.testing.assert_allclose(predicted, direct.predict(data[0]), rtol=1e-12, atol=1e-12)


def test_a_loader_of_inputs_alone_is_predicted(loaders, data, expected):
    torch = pytest.importorskip("torch")
    loader = loaders.DataLoader(loaders.TensorDataset(torch.from_numpy(data[0])), batch_size=PART)
    np.testing.assert_allclose(
        np.array(expected.predict(loader)), expected.predict(data[0]), rtol=1e-12, atol=1e-12
    )


@pytest.mark.slow
def test_a_loader_of_an_iterable_dataset(loaders, parts, expected):
    class Stream(loaders.IterableDataset):
        def __iter__(self):
            return iter(parts)

    loader = loaders.DataLoader(Stream(), batch_size=None)
    assert regressor().fit(loader).model_ == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
def test_a_loader_of_labels(dataset, loaders, data):
    torch = pytest.importorskip("torch")
    X, labels = data[0], data[1].argmax(axis=2)
    pairs = loaders.TensorDataset(torch.from_numpy(X), torch.from_numpy(labels))
    options = {"n_hidden": 2, "random_state": 0, "engine": "serial"}
    read = SpectralRNNClassifier(**options).fit(loaders.DataLoader(pairs, batch_size=N))
    whole = SpectralRNNClassifier(**options).fit(X, labels)
    assert read.model_ == whole.model_


def test_a_loader_that_shuffles_is_refused_before_anything_is_read(dataset, loaders):
    class Silent(loaders.Dataset):
        def __len__(self):
            return 10

        def __getitem__(self, index):
            raise AssertionError

    for options in (
        {"shuffle": True},
        {"sampler": loaders.WeightedRandomSampler(np.ones(10), 10)},
        {"batch_sampler": loaders.BatchSampler(loaders.RandomSampler(range(10)), 2, False)},
    ):
        loader = loaders.DataLoader(Silent(), **options)
        with pytest.raises(ValueError, match=r"DataLoader shuffles .*shuffle=False"):
            regressor().fit(loader)
        with pytest.raises(ValueError, match=r"DataLoader shuffles .*shuffle=False"):
            sources.batches(loader)


def test_a_sampler_of_ones_own_that_shuffles_is_found_out(dataset, loaders):
    class Own(loaders.Sampler):
        def __init__(self):
            self.rng = np.random.default_rng(0)

        def __len__(self):
            return N

        def __iter__(self):
            return iter(self.rng.permutation(N).tolist())

    loader = loaders.DataLoader(dataset, batch_size=PART, sampler=Own())
    with pytest.raises(SourceError, match=r"batch 0 is not what it was .*no shuffling"):
        regressor().fit(loader)


def test_an_iterator_or_a_dataset_is_no_loader(dataset, loaders):
    loader = loaders.DataLoader(dataset, batch_size=PART)
    with pytest.raises(TypeError, match="spent after one pass"):
        regressor().fit(iter(loader))
    for give in (regressor().fit, sources.batches):
        with pytest.raises(TypeError, match=r"TensorDataset of PyTorch: give batches"):
            give(dataset)


@pytest.mark.slow
def test_sequences_of_different_lengths_come_as_lists_of_pairs(loaders, data):
    X, Y = data
    lengths = np.random.default_rng(0).integers(5, 11, N)
    ragged = [(x[:n], y[:n]) for x, y, n in zip(X, Y, lengths, strict=True)]
    loader = loaders.DataLoader(ragged, batch_size=PART, collate_fn=list)
    parts = [ragged[i : i + PART] for i in range(0, N, PART)]
    assert regressor().fit(loader).model_ == regressor().fit(sources.batches(parts)).model_
