"""scikit-learn's own checks of any estimator, and why some of them cannot hold for sequences."""

from __future__ import annotations

import pytest

from gloree import SpectralRNNClassifier, SpectralRNNRegressor, SystemIdentifier

checks = pytest.importorskip("sklearn.utils.estimator_checks")

# what fits of a few random rows have to say about themselves is not the matter here
pytestmark = pytest.mark.filterwarnings("ignore")

TOO_SMALL = "its 10 to 50 rows of random data are fewer than the unknowns: refused"
LIST_OF_SEQUENCES = (
    "a list holds sequences: rows of numbers in a list would be sequences of one input"
)
A_VECTOR = "a vector is the record of one input"
ORDER = {
    "check_methods_sample_order_invariance": "the order of the steps is the data",
    "check_methods_subset_invariance": "predictions depend on the steps before",
}
TYPES = {
    "check_complex_data": "complex numbers are a TypeError, with what to do, not a ValueError",
    "check_dtype_object": "object arrays are refused: they are ragged sequences by mistake, mostly",
}
ON_FEW_ROWS = (
    "check_dict_unchanged",
    "check_dont_overwrite_parameters",
    "check_estimators_dtypes",
    "check_estimators_fit_returns_self",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_fit2d_1feature",
    "check_fit2d_predict1d",
    "check_fit_score_takes_y",
    "check_n_features_in_after_fitting",
    "check_pipeline_consistency",
    "check_readonly_memmap_input",
    "check_supervised_y_2d",
)
GOING_ON = (
    "check_estimators_partial_fit_n_features",
    "check_fit_score_takes_y",
    "check_n_features_in_after_fitting",
)
FAILURES = {
    "linear": {
        **ORDER,
        **TYPES,
        "check_regressors_train": LIST_OF_SEQUENCES,
        **dict.fromkeys(GOING_ON, "`partial_fit` does not go on from impulse responses"),
        "check_regressor_multioutput": TOO_SMALL,
        "check_regressors_no_decision_function": TOO_SMALL,
    },
    "quadratic": {
        **dict.fromkeys(ON_FEW_ROWS, TOO_SMALL),
        **ORDER,
        **TYPES,
        "check_regressors_train": LIST_OF_SEQUENCES,
        "check_regressor_multioutput": TOO_SMALL,
        "check_regressors_no_decision_function": TOO_SMALL,
        "check_regressors_int": TOO_SMALL,
        "check_fit2d_1sample": "one row is refused because its output is constant, which is true",
        "check_estimators_nan_inf": TOO_SMALL,
    },
    "classifier": {
        **dict.fromkeys(ON_FEW_ROWS, TOO_SMALL),
        **ORDER,
        **TYPES,
        "check_classifiers_train": LIST_OF_SEQUENCES,
        "check_classifiers_classes": TOO_SMALL,
        "check_classifier_data_not_an_array": TOO_SMALL,
        "check_estimators_nan_inf": TOO_SMALL,
    },
    "identifier": {
        **ORDER,
        **TYPES,
        "check_regressors_train": "a list of lists of numbers is a list of records",
        "check_estimators_dtypes": TOO_SMALL,
        "check_fit2d_1feature": TOO_SMALL,
        "check_n_features_in_after_fitting": TOO_SMALL,
        "check_regressor_multioutput": TOO_SMALL,
        "check_regressors_no_decision_function": TOO_SMALL,
        "check_regressors_int": TOO_SMALL,
        "check_fit1d": A_VECTOR,
        "check_fit2d_predict1d": A_VECTOR,
        "check_estimators_nan_inf": "its error says in other words where an input is not finite",
    },
}
ESTIMATORS = {
    "linear": SpectralRNNRegressor(1, activation="linear", random_state=0, engine="serial"),
    "quadratic": SpectralRNNRegressor(1, recurrence=None, random_state=0, engine="serial"),
    "classifier": SpectralRNNClassifier(1, recurrence=None, random_state=0, engine="serial"),
    "identifier": SystemIdentifier(1, 0, max_seconds=60, engine="serial"),
}
NEEDED = {
    "check_dataframe_column_names_consistency",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimators_unfitted",
    "check_estimators_empty_data_messages",
    "check_fit1d",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_get_params_invariance",
    "check_n_features_in",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_requires_y_none",
    "check_set_params",
    "check_valid_tag_types",
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("linear", marks=pytest.mark.slow),
        "quadratic",
        "classifier",
        pytest.param("identifier", marks=pytest.mark.slow),
    ],
)
def results(request):
    expected = FAILURES[request.param]
    try:
        found = checks.check_estimator(
            ESTIMATORS[request.param],
            on_fail=None,
            on_skip=None,
            expected_failed_checks=expected,
        )
    except TypeError:
        pytest.skip("this scikit-learn cannot report its checks one by one")
    return found, expected


def test_checks_hold_but_for_those_that_cannot(results):
    found, _ = results
    failed = {each["check_name"]: each["exception"] for each in found if each["status"] == "failed"}
    assert not failed


def test_what_sequences_allow_holds(results):
    found, expected = results
    passed = {each["check_name"] for each in found if each["status"] == "passed"}
    known = {each["check_name"] for each in found if each["status"] != "skipped"}
    assert (NEEDED & known) - set(expected) <= passed
    assert len(passed) > 20


def test_no_exception_is_out_of_date(results):
    """A check that holds needs no reason; names that the suite does not know are mistakes."""
    found, expected = results
    held = {each["check_name"] for each in found if each["status"] == "passed"}
    assert not (held & set(expected)) - {each["check_name"] for each in found if each["exception"]}
    assert set(expected) <= {each["check_name"] for each in found}


def test_refusals_of_small_data_say_so(results):
    """The reason "too small" stands for our own error, not for whatever went wrong."""
    found, expected = results
    for each in found:
        if each["status"] == "xfail" and expected[each["check_name"]] == TOO_SMALL:
            causes, error = [], each["exception"]
            while error is not None:
                causes.append(str(error))
                error = error.__cause__ or error.__context__
            assert any("too few" in text or "are needed" in text for text in causes), causes


@pytest.mark.slow
def test_a_search_that_ends_by_itself_finds_the_same_again():
    checks.check_fit_idempotent("SystemIdentifier", SystemIdentifier(1, 1, max_seconds=60))
