"""The type of a fixture: plans with figures that a test writes down."""

from collections.abc import Callable

from spinn_stream.plan.predict.predictor import Prediction

Make = Callable[..., Prediction]
