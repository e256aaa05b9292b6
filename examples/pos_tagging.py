"""Part-of-speech tagging of a CoNLL-U corpus, with and without gradients.

    python pos_tagging.py TRAIN DEV TEST [--picture confusion.png]

Everything starts from the raw files: vectors of words, alone and in their sentences, from the
training corpus, then taggers on them, chosen by nothing but their defaults here (look at DEV before
you change them). The table shows what each ingredient gives, the same network from a random start
included. Seconds are those of the processor, of all its cores together.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge

from gloree import BRNN, SpectralRNNClassifier, plotting
from gloree.datasets import ContextVectors, WordVectors, read_conllu
from gloree.engine import Engine, Source
from gloree.refinement import LBFGS, CrossEntropy, Layout, logistic_readout, split_held_out
from gloree.sequences import as_sequences


def main() -> None:
    arguments = read_arguments()
    train, dev, test = (
        read_conllu(path) for path in (arguments.train, arguments.dev, arguments.test)
    )
    print(f"{train.n_words:,} words to train on, {dev.n_words:,} and {test.n_words:,} to test on\n")
    table = Table(dev.tags, test.tags)

    usual = most_frequent(train)
    table.add("most frequent tag of each word", 0.0, usual(dev.words), usual(test.words))

    classes, codes = np.unique(np.concatenate(train.tags), return_inverse=True)

    def add_linear(name: str, tagger, seconds: float, X: list, *parts: list) -> None:
        """Row of a tagger on windows of three words."""
        begin = time.process_time()
        tagger.fit(np.vstack([windows(x) for x in X]), codes)
        spent = time.process_time() - begin
        found = [[classes[tagger.predict(windows(x))] for x in part] for part in parts]
        table.add(name, seconds + spent, *found)

    parts = dev.words, test.words
    options = {"tags": train.tags, "n_dimensions": arguments.dimensions}
    begin = time.process_time()
    words, X = WordVectors.fit_transform(train.words, **options)
    seconds = time.process_time() - begin
    name = "word vectors alone, logistic"
    add_linear(name, LogisticTagger(), seconds, X, *map(words.transform, parts))

    begin = time.process_time()
    vectors, X = ContextVectors.fit_transform(train.words, **options)
    X_dev, X_test = map(vectors.transform, parts)
    seconds = time.process_time() - begin
    print(f"\nvectors of {vectors.n_dimensions} dimensions: {seconds:.1f} s\n")
    for name, tagger in (
        ("ridge regression on 3 words", RidgeTagger()),
        ("logistic regression on 3 words", LogisticTagger()),
    ):
        add_linear(name, tagger, seconds, X, X_dev, X_test)

    with warnings.catch_warnings():
        # words are no Gaussian chain, and the report says so
        warnings.simplefilter("ignore")
        settings = {"bidirectional": True, "lags": arguments.lags, "random_state": 0}
        units = (arguments.units // 2, arguments.units - arguments.units // 2)
        begin = time.process_time()
        moments = SpectralRNNClassifier(units, refine=None, **settings).fit(X, train.tags)
        spent = time.process_time() - begin
        name = f"moments of {arguments.units} units, no gradient"
        table.add(name, seconds + spent, moments.predict(X_dev), moments.predict(X_test))
        begin = time.process_time()
        refined = SpectralRNNClassifier(units, verbose=arguments.verbose, **settings)
        refined.fit(X, train.tags)
        spent = time.process_time() - begin
        table.add(
            "the same, refined", seconds + spent, refined.predict(X_dev), refined.predict(X_test)
        )
        begin = time.process_time()
        model = from_random_start(moments.model_, X, codes, arguments.seed)
        spent = time.process_time() - begin
        predicted = [
            [classes[y.argmax(axis=1)] for y in model.predict(part)] for part in (X_dev, X_test)
        ]
        table.add("random start, refined alike", seconds + spent, *predicted)

    begin = time.process_time()
    found = refined.predict(vectors.transform(test.words))
    speed = test.n_words / (time.process_time() - begin)
    print(f"\ntagging: {speed:,.0f} words a second, vectors included\n")
    print(refined.report_)
    if arguments.picture is not None:
        axes = plotting.plot_confusion(test.tags, found)
        axes.figure.savefig(arguments.picture, dpi=150)
        print(f"\nconfusions: {arguments.picture}")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    uses = {"train": "train on", "dev": "choose by", "test": "test on"}
    for name, use in uses.items():
        parser.add_argument(name, type=Path, help=f"CoNLL-U file to {use}")
    parser.add_argument("--units", type=int, default=16, help="hidden units, half of them backward")
    parser.add_argument("--lags", type=int, default=2, help="words in the window of a unit")
    parser.add_argument("--dimensions", type=int, help="of the word vectors")
    parser.add_argument("--seed", type=int, default=0, help="of the random start")
    parser.add_argument("--picture", type=Path, help="file for a picture of the confusions")
    parser.add_argument("--verbose", type=int, default=0, help="1: stages, 2: passes too")
    return parser.parse_args()


class Table:
    """Accuracies, printed as they come."""

    def __init__(self, dev: list[list[str]], test: list[list[str]]) -> None:
        self.truth = [np.concatenate(part) for part in (dev, test)]
        print(f"{'tagger':<36}{'seconds':>9}{'dev %':>9}{'test %':>9}")

    def add(self, name: str, seconds: float, *predicted: list) -> None:
        shares = [
            100 * np.mean(np.concatenate(found) == truth)
            for found, truth in zip(predicted, self.truth, strict=True)
        ]
        print(f"{name:<36}{seconds:>9.1f}{shares[0]:>9.2f}{shares[1]:>9.2f}", flush=True)


def most_frequent(train):
    """Tagger that gives every word its most frequent tag, and unknown words that of rare ones."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for words, tags in zip(train.words, train.tags, strict=True):
        for word, tag in zip(words, tags, strict=True):
            counts[word][tag] += 1
    best = {word: found.most_common(1)[0][0] for word, found in counts.items()}
    rare = sum((found for found in counts.values() if found.total() == 1), Counter())
    unknown = (rare or sum(counts.values(), Counter())).most_common(1)[0][0]
    return lambda sentences: [[best.get(word, unknown) for word in words] for words in sentences]


def windows(x: np.ndarray) -> np.ndarray:
    """Each word beside its two neighbours, zeros beyond the ends."""
    padded = np.pad(x, ((1, 1), (0, 0)))
    return np.hstack([padded[:-2], padded[1:-1], padded[2:]])


class RidgeTagger(Ridge):
    """Least squares of the indicators of the tags."""

    def fit(self, rows, codes):
        return super().fit(rows, np.eye(codes.max() + 1)[codes])

    def predict(self, rows):
        return super().predict(rows).argmax(axis=1)


class LogisticTagger(LogisticRegression):
    """Logistic regression on rows of unit variance."""

    def fit(self, rows, codes):
        self.scale = rows.std(axis=0)
        return super().fit((rows / self.scale).astype(np.float32), codes)

    def predict(self, rows):
        return super().predict((rows / self.scale).astype(np.float32))


def from_random_start(like: BRNN, X: list, codes: np.ndarray, seed: int) -> BRNN:
    """Random units of the same sizes, then the same readout and the same refinement."""
    rng = np.random.default_rng(seed)
    data = as_sequences(X)
    source = Source(replace(data, Y=codes[:, None]), lags=like.lags, both_ways=True)
    spread = np.sqrt(np.tile(data.X.var(axis=0), like.lags))

    def rows(weights: np.ndarray) -> np.ndarray:
        # pre-activations of unit variance, as if the inputs were uncorrelated
        drawn = rng.standard_normal(weights.shape) / spread
        return drawn / np.sqrt(weights.shape[1])

    start = like.replace(
        forward_input_weights=rows(like.forward_input_weights),
        backward_input_weights=rows(like.backward_input_weights),
        recurrent_weights=None,
        hidden_bias=None,
    )
    engine = Engine()
    training, held_out = split_held_out(source)
    start = logistic_readout(start, engine, training, like.n_outputs)
    layout = Layout(
        like.n_columns,
        like.n_hidden,
        like.n_outputs,
        direct=True,
        n_backward=like.n_backward,
        lags=like.lags,
    )
    solution = LBFGS().minimise(CrossEntropy(), start, layout, engine, training, held_out=held_out)
    return solution.model


if __name__ == "__main__":
    main()
