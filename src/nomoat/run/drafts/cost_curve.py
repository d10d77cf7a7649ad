"""What a decode of n tokens costs on this machine, measured, and corrected by every decode that follows."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["CURVE_POINTS", "CostCurve"]

CURVE_POINTS = (1, 2, 4, 8, 16, 32)  # tokens per decode
# Other programs slow down all decodes alike, and soon; how they compare with each other changes slowly.
_SCALE_RATE, _SHAPE_RATE = 0.2, 0.15
# A curve that was measured while the machine was busy may forbid what would pay, and what is never tried is
# never corrected. So points above what is usual sink slowly with each plain decode, until they are tried.
_USUAL_SHAPE = (1.0, 2.0, 3.0, 5.0, 9.0, 17.0)
_SINKING, _SINK_EVERY = 0.97, 16  # decodes
_MOST_SURPRISE = 1.4  # so much of a difference is believed of one decode: it may have been interrupted


class CostCurve:
    """Seconds of a decode by its number of tokens: straight lines between measured points."""

    def __init__(self, seconds: Mapping[int, float]) -> None:
        """`seconds` must hold every one of `CURVE_POINTS`."""
        self._plain = 0
        self.adopt(seconds)

    @classmethod
    def usual(cls, seconds_of_one: float) -> CostCurve:
        """What is usual, where nothing was measured yet but a decode of one token."""
        return cls({n: seconds_of_one * share for n, share in zip(CURVE_POINTS, _USUAL_SHAPE, strict=True)})

    def adopt(self, seconds: Mapping[int, float]) -> None:
        """Begin anew from measured `seconds`, for every one of `CURVE_POINTS`."""
        # Verifying more never costs less: a dip is a slip of the measurement.
        measured: list[float] = []
        for point in CURVE_POINTS:
            measured.append(max([seconds[point], *measured[-1:]]))
        self._scale = measured[0]
        self._shape = [value / measured[0] for value in measured]

    def points(self) -> dict[int, float]:
        """The curve as it is now, as `CostCurve` takes it."""
        return {n: self._scale * share for n, share in zip(CURVE_POINTS, self._shape, strict=True)}

    def seconds(self, tokens: int) -> float:
        """Seconds of a decode of `tokens` tokens, 1 and more."""
        return self._scale * self.relative(tokens)

    def relative(self, tokens: int) -> float:
        """What a decode of `tokens` tokens costs, in decodes of one token."""
        shape = self._shape
        upper = min((tokens - 1).bit_length(), len(shape) - 1)  # points are the powers of two
        if upper == 0:
            return 1.0
        low, high = 1 << (upper - 1), 1 << upper
        return shape[upper - 1] + (shape[upper] - shape[upper - 1]) * (tokens - low) / (high - low)

    def observe(self, tokens: int, seconds: float, decodes: int = 1) -> None:
        """A decode of `tokens` tokens took `seconds`; or several did, on an average."""
        ratio = min(max(seconds / self.seconds(tokens), 1 / _MOST_SURPRISE), _MOST_SURPRISE)
        self._scale *= ratio ** (1 - (1 - _SCALE_RATE) ** decodes)
        if tokens > 1:
            self._bend(tokens, ratio**_SHAPE_RATE)
            return
        self._plain += decodes
        while self._plain >= _SINK_EVERY:
            self._plain -= _SINK_EVERY
            self._sink()

    def _bend(self, tokens: int, ratio: float) -> None:
        """Move the points on both sides of `tokens`, the nearer one more."""
        shape = self._shape
        upper = min((tokens - 1).bit_length(), len(shape) - 1)
        low, high = 1 << (upper - 1), 1 << upper
        nearness = min(1.0, (tokens - low) / (high - low))
        for point, share in ((upper, nearness), (upper - 1, 1 - nearness)):
            if point > 0:
                shape[point] *= 1 + share * (ratio - 1)
        for point in range(upper - 1, 0, -1):  # the curve never falls
            shape[point] = max(1.0, min(shape[point], shape[point + 1]))
        for point in range(1, len(shape)):
            shape[point] = max(shape[point], shape[point - 1])

    def _sink(self) -> None:
        for point, usual in enumerate(_USUAL_SHAPE):
            if self._shape[point] > usual:
                self._shape[point] = max(usual, self._shape[point] * _SINKING)
