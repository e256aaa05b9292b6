"""What `SystemIdentifier` says of a fitted system: linear model, bands, tests, exports."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from gloree._mapped import loaded
from gloree.activations import Activation
from gloree.diagnostics import IdentificationReport, TooFewSamplesError, emit
from gloree.estimators._interface import Estimator
from gloree.identification import (
    messages_of_u_and_y,
    read_inputs,
    read_records,
    screen_records,
    start_of_records,
)
from gloree.models import IORNN, ExplosionError, Precision, check_columns
from gloree.sequences import Array, Sequences, as_sequences
from gloree.systems import (
    AtRecords,
    Channels,
    FrequencyResponse,
    LinearCharacteristics,
    PredictionIntervals,
    ResidualTests,
    SpectralResponse,
    TimeResponse,
    Uncertainty,
    at_records,
    characteristics,
    export_c,
    export_onnx,
    first_rows,
    frequency_response,
    prediction_intervals,
    residual_tests,
    spectral_response,
    time_response,
    to_control,
    to_state_space,
)

if TYPE_CHECKING:
    import control
    from scipy.signal import StateSpace

TESTED_ROWS, TESTED_NUMBERS = 10_000, 2**21
"""Rows whose residuals a fit tests, at most, and these times the weights and the outputs, for a fit
of `TESTED_SECONDS`: a second or less."""

TESTED_SECONDS, LEAST_TESTED = 30.0, 1000
"""Shorter fits test fewer rows, but not fewer than these."""

FREE = ("auto", "polynomial")
"""Values of `unit` with which the coefficients of polynomial units are fitted, if it has some."""

Records = tuple[object, object]
"""Inputs and outputs, as `fit` takes them."""


class SystemViews(Estimator):
    """Views of a fitted system.

    A fit keeps no data: what needs them, because it says something about errors, takes the records
    of the fit again, as `u` and `y`. Without them responses and poles have no bands.
    """

    model_: IORNN
    linear_model_: IORNN
    report_: IdentificationReport
    initial_states_: Array
    unit: str | Activation
    initial: object
    detrend: str | None
    _never_rests: bool = False
    _output_noise: Array | None = None  # of a fit that was saved before there was one, too

    @property
    def channels_(self) -> Channels:
        """Names and units of the channels, from columns of data frames, and `dt`.

        A unit is what stands in brackets at the end of a name: "speed (m/s)".
        """
        check_is_fitted(self, "model_")
        dt, model = self.dt, self.model_
        plain = Channels.numbered(model.n_inputs, model.n_outputs, dt=dt)
        names = getattr(self, "feature_names_in_", None)
        inputs = plain.input_names if names is None else names.tolist()
        return Channels.of(inputs, self._output_names or plain.output_names, dt=dt)

    # ------------------------------------------------------------------------- the linear model

    def state_space(self) -> StateSpace:
        """The linear model as `scipy.signal.StateSpace`, with its direct path and its delays.

        It is in deviations from `gloree.systems.operating_point`; see
        `gloree.systems.to_state_space`.
        """
        check_is_fitted(self, "model_")
        return to_state_space(self.linear_model_, self.channels_.dt)

    def control_system(self) -> control.StateSpace:
        """The linear model as a state-space model of python-control (extra ``control``)."""
        check_is_fitted(self, "model_")
        return to_control(self.linear_model_, channels=self.channels_)

    def characteristics(
        self, u: object = None, y: object = None, *, lengths: ArrayLike | None = None
    ) -> LinearCharacteristics:
        """Poles, zeros, gains, time constants and dead times of the linear model.

        Parameters
        ----------
        u, y : array or list, optional
            The records of the fit, for standard errors.
        lengths : sequence of int, optional

        Returns
        -------
        LinearCharacteristics
            Printing it gives a table.
        """
        known = self._bands(u, y, lengths)
        return characteristics(self.linear_model_, uncertainty=known, channels=self.channels_)

    def frequency_response(
        self,
        u: object = None,
        y: object = None,
        *,
        frequencies: ArrayLike | None = None,
        level: float = 0.95,
        lengths: ArrayLike | None = None,
    ) -> FrequencyResponse:
        """Frequency response of the linear model, with bands if the records of the fit are given.

        Parameters
        ----------
        u, y : array or list, optional
            The records of the fit.
        frequencies : array of shape (n,), optional
            In hertz with `dt`, else in cycles per sample.
        level : float, default 0.95
        lengths : sequence of int, optional

        Returns
        -------
        FrequencyResponse
            For `gloree.plotting.plot_frequency_response`.
        """
        known = self._bands(u, y, lengths)
        return frequency_response(
            self.linear_model_,
            frequencies,
            uncertainty=known,
            channels=self.channels_,
            level=level,
        )

    def time_response(
        self,
        u: object = None,
        y: object = None,
        *,
        kind: Literal["step", "impulse"] = "step",
        n_steps: int | None = None,
        level: float = 0.95,
        lengths: ArrayLike | None = None,
    ) -> TimeResponse:
        """Step or impulse response of the linear model, with bands if its records are given.

        Parameters
        ----------
        u, y : array or list, optional
            The records of the fit.
        kind : {"step", "impulse"}, default "step"
        n_steps : int, optional
        level : float, default 0.95
        lengths : sequence of int, optional

        Returns
        -------
        TimeResponse
            For `gloree.plotting.plot_time_response`.
        """
        known = self._bands(u, y, lengths)
        return time_response(
            self.linear_model_,
            n_steps,
            kind=kind,
            uncertainty=known,
            channels=self.channels_,
            level=level,
        )

    def spectral_response(
        self,
        u: object,
        y: object,
        *,
        segment: int | None = None,
        lengths: ArrayLike | None = None,
    ) -> SpectralResponse:
        """Frequency response from records alone, to compare the model with.

        Parameters
        ----------
        u, y : array or list
        segment : int, optional
            Rows of a segment of the averages.
        lengths : sequence of int, optional

        Returns
        -------
        SpectralResponse
        """
        records = self._read(u, y, lengths)
        return spectral_response(records, channels=self.channels_, segment=segment)

    # --------------------------------------------------------------------- bands and residuals

    def uncertainty(
        self,
        u: object,
        y: object,
        *,
        linear: bool = False,
        lengths: ArrayLike | None = None,
    ) -> Uncertainty:
        """Covariance of the weights, and the noise of the outputs.

        Parameters
        ----------
        u, y : array or list
            The records of the fit.
        linear : bool, default False
            Whether of `linear_model_` rather than `model_`.
        lengths : sequence of int, optional

        Returns
        -------
        Uncertainty
            For the functions of `gloree.systems`.
        """
        records = self._read(u, y, lengths)
        found = self._at(records, linear=linear).uncertainty()
        emit(found.findings)
        return found

    def residual_tests(
        self,
        u: object,
        y: object,
        *,
        linear: bool = False,
        n_lags: int | None = None,
        level: float = 0.95,
        lengths: ArrayLike | None = None,
    ) -> ResidualTests:
        """Test whether residuals of the free run are white, and whether they depend on the inputs.

        Residuals of a free run hold the noise of the system as it reaches the output, and are
        seldom white; the limits of the correlations with the inputs account for that.

        Parameters
        ----------
        u, y : array or list
            The records of the fit.
        linear : bool, default False
            Whether of `linear_model_` rather than `model_`.
        n_lags : int, optional
        level : float, default 0.95
        lengths : sequence of int, optional

        Returns
        -------
        ResidualTests
            Printing it gives a table; for `gloree.plotting.plot_residual_tests`.
        """
        at = self._at(self._read(u, y, lengths), linear=linear)
        return residual_tests(at, n_lags=n_lags, level=level, channels=self.channels_)

    def prediction_intervals(
        self,
        u: ArrayLike,
        level: float = 0.95,
        *,
        records: Records | Uncertainty,
        initial: str | ArrayLike | None = None,
        noise: bool = True,
    ) -> PredictionIntervals:
        """Simulate one record, with intervals for what will be measured.

        Parameters
        ----------
        u : array of shape (n_samples,) or (n_samples, n_inputs)
        level : float, default 0.95
        records : (u, y) or Uncertainty
            The records of the fit, or what `uncertainty` gave for them.
        initial : {"auto", "equilibrium", "rest"} or array of shape (n_state,), optional
            Where the record starts, as in `predict`; by default as the estimator says. The
            intervals take it for exact: give a state from `identification.estimate_state` where
            the first rows matter.
        noise : bool, default True
            Whether the intervals are those of measurements, or of the system's own output.

        Returns
        -------
        PredictionIntervals
            For `gloree.plotting.plot_intervals`.
        """
        check_is_fitted(self, "model_")
        if not isinstance(records, Uncertainty):
            if not isinstance(records, tuple) or len(records) != 2:
                raise TypeError(
                    "`records` must be a pair (u, y), the records of the fit, or an Uncertainty"
                )
            records = self.uncertainty(*records)
        elif records.model != self.model_ and records.model != self.linear_model_:
            raise ValueError(
                "`records` is the uncertainty of another network: give that of this one"
            )
        with messages_of_u_and_y():
            data = as_sequences(read_inputs(u))
            self._check_columns(data)
            if data.n_sequences != 1:
                raise ValueError(f"`u` holds {data.n_sequences} records, expected one")
            check_columns(records.model, data)
        start = start_of_records(records.model, data, initial=self._initial(initial, records.model))
        state = start(records.model, data, np.arange(1))[0]
        rows = np.asarray(loaded(data.X), dtype=np.float64)
        return prediction_intervals(records, rows, level, initial=state, noise=noise)

    # ----------------------------------------------------------------------------------- exports

    def export_c(self, path: str | Path, *, name: str | None = None) -> Path:
        """Write `model_` as one C file without dependencies; see `gloree.systems.export_c`."""
        check_is_fitted(self, "model_")
        return export_c(self.model_, path, name=name)

    def export_onnx(self, path: str | Path, *, dtype: Precision = "float64") -> Path:
        """Write `model_` as an ONNX file (extra ``onnx``); see `gloree.models.export_onnx`."""
        check_is_fitted(self, "model_")
        return export_onnx(self.model_, path, dtype=dtype)

    # ----------------------------------------------------------------------------------- helpers

    def _initial(self, initial: object, model: IORNN | None = None) -> object:
        """What `initial` stands for, of `model_` by default: None for the parameter."""
        given = self.initial if initial is None else initial
        own = model is None or model == self.model_
        if isinstance(given, str) and given == "auto" and self._never_rests and own:
            return self.initial_states_.mean(axis=0)  # inputs tell nothing of integrators
        return given

    def _look_at_residuals(self, data: Sequences) -> None:
        """Tests and sizes of the residuals, on the first rows of long records."""
        self._output_noise = None
        numbers = TESTED_NUMBERS * min(1.0, self.max_seconds / TESTED_SECONDS)
        enough = int(numbers / (self.model_.n_parameters * data.n_outputs))
        rows = min(data.n_rows, TESTED_ROWS, max(enough, LEAST_TESTED))
        with suppress(ExplosionError, TooFewSamplesError, ValueError, np.linalg.LinAlgError):
            at = self._at(first_rows(data, rows))
            self._output_noise = np.sqrt(np.diag(at.noise.covariance))
            tests = residual_tests(at, channels=self.channels_)
            self.report_ = replace(self.report_, residuals=tests)

    def _at(self, records: Sequences, *, linear: bool = False) -> AtRecords:
        """The fitted network, or the linear model, linearised along records."""
        return at_records(
            self.linear_model_ if linear else self.model_,
            records,
            output_size=self.report_.output_size,
            free_coefficients=isinstance(self.unit, str) and self.unit in FREE,
        )

    def _read(self, u: object, y: object, lengths: ArrayLike | None) -> Sequences:
        """Records as the fit saw them: NaN for what does not count, without trends."""
        check_is_fitted(self, "model_")
        records = read_records(u, y, lengths=lengths, gaps=True)
        with messages_of_u_and_y():
            self._check_columns(records)
        return screen_records(records, self.detrend).known

    def _bands(self, u: object, y: object, lengths: ArrayLike | None) -> Uncertainty | None:
        check_is_fitted(self, "model_")
        if u is None and y is None:
            return None
        if u is None:
            raise ValueError("`u` is missing: `y` was given, and bands take both of a record")
        return self.uncertainty(u, y, linear=True, lengths=lengths)
