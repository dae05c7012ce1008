"""Follow what a convolution returns through the norm and the activation behind it, also if written by hand."""

from collections.abc import Sequence
from dataclasses import dataclass

from camdrift.layers.flow import Flow
from camdrift.layers.operations import ACTIVATION, BENDING, NORM, SCALING, SHIFTING
from camdrift.layers.taps import HandStep, Tap
from camdrift.layers.tracing import Call, Trace


@dataclass(frozen=True)
class Course:
    """The way of an output to the place at which it is tapped.

    Attributes:
        trace: The forward pass.
        calls: The known operations that it passes, its own first.
        by_hand: Steps of an activation or a norm that is written by hand and follows the last of them. The tap is
            behind the last step.
    """

    trace: Trace
    calls: Sequence[Call]
    by_hand: Sequence[int]

    @property
    def end(self) -> int:
        """The step behind which the tap is."""
        return self.by_hand[-1] if self.by_hand else self.calls[-1].step

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tapped output."""
        return self.trace.flow.steps[self.end].shape

    @property
    def is_output(self) -> bool:
        """Is the tapped output what the network returns?"""
        return self.trace.flow.steps[self.end].is_output

    @property
    def tap(self) -> Tap:
        """The tap at the end of the course."""
        last = self.calls[-1]
        if not self.by_hand:
            return last.tap
        numbers: dict[int, int] = {last.step: 0}
        hand: dict[HandStep, int] = {}
        for number in self.by_hand:
            step = self.trace.flow.steps[number]
            sources = {numbers[source] for source in step.sources if source in numbers}
            numbers[number] = hand.setdefault(HandStep(step.operation, tuple(sorted(sources))), len(hand) + 1)
        is_overwritten = self.trace.flow.steps[self.end].is_overwritten
        return Tap(last.index, last.operation, is_overwritten, tuple(hand))

    def describe(self) -> str:
        """Return the course in words: `conv2d > batch_norm > relu`, or what comes then where there is no activation."""
        flow, names = self.trace.flow, [call.operation for call in self.calls]
        names += [f"({', '.join(flow.steps[number].operation for number in self.by_hand)})"] if self.by_hand else []
        text = " > ".join(names)
        bends = any(flow.steps[number].kind == BENDING for number in self.by_hand)
        if bends or self.calls[-1].family == ACTIVATION:
            return text
        then = dict.fromkeys(flow.steps[number].operation for number in flow.readers[self.end])
        return f"{text}, then {', '.join(then) or 'nothing'}"


def follow(trace: Trace, start: Call) -> Course:
    """Return the course of an output through the norm and the activation that alone consume it.

    All ways from the output to what the network returns must meet behind them. So a value that is only looked at moves
    no tap, and `x * sigmoid(x)` is one activation like `silu(x)`. By hand an activation bends what it is given, value
    by value, in one step or several; a norm scales and shifts it. A mere factor, which changes no map, is passed if one
    of them follows.
    """
    flow, families = trace.flow, [NORM, ACTIVATION]
    course, hand, here = Course(trace, [start], ()), list[int](), start.step
    while not flow.steps[here].is_output and (end := flow.meeting(here)) is not None:
        between, number = flow.between(here, end), flow.steps[end].call
        call = None if number is None else trace.calls[number]
        if between == [end] and call is not None:
            if call.family not in families:
                break
            is_written = bool(hand)
            course, hand = Course(trace, [*course.calls, call], ()), []
            families = [ACTIVATION] if call.family == NORM else []
            if not families and not is_written:
                break  # an activation by its name ends the course
        elif _is_by_hand(flow, here, between):
            hand += between
            bends = any(flow.steps[step].kind == BENDING for step in between)
            families = [] if bends else families
            if bends or any(_shifts(flow, step) for step in between):
                course = Course(trace, course.calls, tuple(hand))
        else:
            break
        here = end
    return course


def _shifts(flow: Flow, number: int) -> bool:
    step = flow.steps[number]
    return step.kind == SHIFTING and step.values == 1


def _is_by_hand(flow: Flow, start: int, between: Sequence[int]) -> bool:
    """Do steps work value by value, on the output of `start` and on numbers alone?"""
    inside = {start, *between}
    steps = [flow.steps[number] for number in between]
    return all(
        step.kind in (SCALING, SHIFTING, BENDING)
        and step.is_plain
        and step.shape == flow.steps[start].shape
        and inside.issuperset(step.sources)
        for step in steps
    )
