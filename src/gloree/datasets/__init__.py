"""Simulated data whose truth is known, and readers for a user's own files."""

from gloree.datasets._conllu import TaggedSentences, read_conllu
from gloree.datasets._context_vectors import ContextVectors
from gloree.datasets._csv import Table, read_csv
from gloree.datasets._simulated import (
    INPUT_LAWS,
    NEAR_EXPLOSION,
    make_chain,
    make_inputs,
    make_rnn,
    random_brnn,
    random_rnn,
)
from gloree.datasets._word_vectors import WordVectors

__all__ = [
    "INPUT_LAWS",
    "NEAR_EXPLOSION",
    "ContextVectors",
    "Table",
    "TaggedSentences",
    "WordVectors",
    "make_chain",
    "make_inputs",
    "make_rnn",
    "random_brnn",
    "random_rnn",
    "read_conllu",
    "read_csv",
]
