"""Saving, resuming and showing progress, the same for both stages."""
import time

import torch


def save(path, **state):
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.rename(path)


def resume(path, modules, optimizers, *counts):
    """Load what an interrupted run saved -> the step to go on with, the seconds spent, and `counts`; zeros: there is
    nothing"""
    keys = ("step", "seconds") + counts
    if not path.exists():
        return [0] * len(keys)
    state = torch.load(path, weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(state[name])
    for o, s in zip(optimizers, state["optimizers"]):
        o.load_state_dict(s)
    print(f"going on from step {state['step']} of {path}", flush=True)
    return [state[k] for k in keys]


class Clock:
    """How much of a training is done: by steps or, where `minutes` are given, by time, whichever is further."""

    def __init__(self, steps, minutes, seconds=0.0):
        self.steps, self.limit, self.begin = steps, minutes * 60 or float("inf"), time.time() - seconds

    @property
    def seconds(self):
        return time.time() - self.begin

    def done(self, step):
        return max(step / self.steps, self.seconds / self.limit)


class Meter:
    """Prints the means of what was noted since the last line."""

    def __init__(self, steps, every=50):
        self.steps, self.every, self.begin, self.sums = steps, every, time.time(), {}

    def note(self, step, **values):
        for k, v in values.items():
            if v == v:  # the mean over no cases is NaN
                total, count = self.sums.get(k, (0.0, 0))
                self.sums[k] = (total + v, count + 1)
        if step % self.every == 0 or step == self.steps:
            means = " ".join(f"{k} {total / count:.3f}" for k, (total, count) in self.sums.items())
            print(f"step {step}/{self.steps} {time.time() - self.begin:.0f}s {means}", flush=True)
            self.sums = {}
