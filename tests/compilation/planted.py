"""Modules with one known defect each, and the same without it.  Tests look up the marked lines.

All take a tensor of 2 × 4.
"""

import torch


class Clean(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x):
        return torch.relu(self.linear(x)) + 1


class BeforeTheFirstOp(Clean):
    def forward(self, x):
        print("before")  # BREAK first
        return super().forward(x)


class InTheMiddle(Clean):
    def forward(self, x):
        x = self.linear(x)
        print("middle")  # BREAK middle
        return x + 1


class AtTheEnd(Clean):
    def forward(self, x):
        x = self.linear(x)
        print("end")  # BREAK end
        return x


class TwoOnOneLine(Clean):
    def forward(self, x):
        x = self.linear(x)
        a, b = x.sum().item(), x.mean().item()  # BREAK two
        return x * a * b


class Branches(Clean):
    def forward(self, x):
        x = self.linear(x)
        if (x * x).sum() >= 0:  # BREAK branch
            x = x * 2
        return x


class Prints(Clean):
    def forward(self, x):
        x = self.linear(x)
        print("block")  # BREAK block
        return x + 1


class LoopThatPrints(Clean):
    def forward(self, x):
        for _ in range(3):
            x = self.linear(x)
            print("loop")  # BREAK loop
        return x


class TwentyTimes(torch.nn.Module):
    def __init__(self, block=Prints):
        super().__init__()
        self.block = block()

    def forward(self, x):
        for _ in range(20):
            x = self.block(x)
        return x


class Unrolled(torch.nn.Module):
    """A break in each of two blocks that are called in a row, not in a loop."""

    def __init__(self):
        super().__init__()
        self.first = Prints()
        self.second = Branches()

    def forward(self, x):
        return self.second(self.first(x)) * 2


class OnlyWithGuidance(Clean):
    """The guided pass has two samples in its batch."""

    def forward(self, x):
        x = self.linear(x)
        if x.shape[0] == 2:
            print("guided")  # BREAK guided
        return x


class OnlyOnTheSecondCall(Clean):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        x = self.linear(x)
        if self.calls == 2:
            print("second")  # BREAK second
        return x


class InAGenerator(Clean):
    def forward(self, x):
        def parts():
            for power in range(3):
                print(power)  # BREAK generator
                yield x * power

        return sum(parts())


class EagerRestCallsAGenerator(Clean):
    """Dynamo refuses the generator too, which would not happen without the break in the loop."""

    def forward(self, x):
        for _ in range(2):
            x = self.linear(x)
            print("rest")  # BREAK rest
        return sum(doubled(x))


def doubled(x):
    for row in x:
        yield row * 2


class GeneratorWithoutBreak(Clean):
    def forward(self, x):
        return sum(x * power for power in range(3))


class HasDisabledPart(Clean):
    def forward(self, x):
        return aside(self.linear(x)) + 1  # BREAK disabled


@torch.compiler.disable
def aside(x):
    return x * 3


class ReadsTheClock(Clean):
    def forward(self, x):
        import time

        x = self.linear(x)
        return x + time.perf_counter_ns() * 0  # BREAK builtin


class DynamicShape(Clean):
    def forward(self, x):
        x = self.linear(x)
        return x[x > 0].sum() + x.sum()  # BREAK dynamic


class Nothing(torch.nn.Module):
    def forward(self, x):
        return x


def printing_hook(module, inputs, output):
    print("hook")  # BREAK hook


def quiet_hook(module, inputs, output):
    return output * 2


@torch.library.custom_op("diffspeed_planted::cannot_be_traced", mutates_args=())
def cannot_be_traced(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


@cannot_be_traced.register_fake
def _(x):
    raise ValueError("the planted shape function fails")


class CannotBeCompiled(Clean):
    def forward(self, x):
        return cannot_be_traced(self.linear(x))


class RunsNowhere(Clean):
    def forward(self, x):
        return self.linear(x) @ torch.ones(3, 3)


def line_of(word):
    """The line of this file that carries ``# BREAK word``."""
    with open(__file__, encoding="utf-8") as file:
        (number,) = [
            n for n, line in enumerate(file, 1) if line.rstrip().endswith(f"# BREAK {word}")
        ]
    return number
