"""Minimisations of the squared error, and what they begin from and end at."""

from gloree.refinement import GaussNewton, LevenbergMarquardt, SquaredError


def gauss_newton(model, layout, engine, source, *, progress=None, **settings):
    """A descent by Gauss-Newton steps with these settings."""
    solver = GaussNewton(**settings)
    return solver.minimise(SquaredError(), model, layout, engine, source, progress=progress)


def levenberg_marquardt(model, layout, engine, data, *, held_out=None, progress=None, **settings):
    """A search by Levenberg and Marquardt with these settings."""
    solver = LevenbergMarquardt(**settings)
    return solver.minimise(
        SquaredError(), model, layout, engine, data, held_out=held_out, progress=progress
    )
