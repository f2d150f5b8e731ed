"""Measure this program against plain numpy, PyTorch, JAX and the processor.

    python tests/benchmark.py

Each competitor runs in a process of its own, and they take turns: a slow moment of the machine
hits them all. PyTorch and JAX are measured if they are installed. An epoch is all its steps of
gradient descent, with the cost, and the test images classified. All start from the same weights
and draw the same batches: the cost of the second epoch tells whether they do the same.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if any('"this program' in argument for argument in sys.argv):
    # It gives BLAS one thread, and can do so only before numpy is imported. For the others
    # BLAS keeps its own number.
    import reproduce

import click
import numpy as np

ETA = 0.5
FULL, TESTED = 50_000, 10_000  # images
LOOPED = 2000  # images, from which the time of a loop over all is scaled up

# Seconds before a turn. Until then the last one's BLAS threads may still look out for work.
PAUSE = 0.2
# What a turn takes at least. Its median epoch counts: the first is slow, as it wakes threads and
# fills caches, and to take the best would favour those who have more epochs to choose from.
EPOCHS, SECONDS = 3, 0.3

Array = Any
Layers = list[tuple[Array, Array]]  # w and b of each, or their gradients
Epoch = Callable[[], float]  # returns the cost
flat = itertools.chain.from_iterable


@dataclass(frozen=True)
class Case:
    """A competitor, and what it is measured on."""

    name: str = "this program"
    hidden: int = 30
    dtype: str = "float64"
    batch_size: int = FULL
    runs: int = 1
    epochs: int = 0  # of a whole process; 0 is turn by turn


# The competitors. Each returns an epoch, and what to multiply the time of an epoch by.


def ours(case: Case, threads: int = 0) -> tuple[Epoch, float]:
    import mnist_loader

    reproduce.THREADS = threads or reproduce.THREADS
    training, test = (reproduce.Images(*of, case.hidden) for of in mnist_loader.load_data()[::2])
    results = []
    for seed in range(case.runs):
        settings = reproduce.Settings(
            case.hidden, "randn", "fan-in", "fixed", ETA, case.batch_size, seed, case.dtype
        )
        results.append(reproduce.train(reproduce.Run(settings), training, test, epochs=10**9))
    abreast = zip(*results, strict=True)
    return lambda: next(abreast)[0].cost, 1


def limit(case: Case) -> tuple[Epoch, float]:
    """The products with the images, two in the training and one after, as fast as large ones."""
    a = np.random.RandomState(0).rand(4000, 4000).astype(case.dtype)
    multiplications = (2 * FULL + TESTED) * 784 * (case.hidden or 10)
    return lambda: math.nan * float((a @ a)[0, 0]), multiplications / 4000**3


def data(case: Case) -> tuple[Array, Array, Array, Array]:
    """Return (x, y, test x, test labels), images as rows and y one-hot."""
    import mnist_loader

    (images, labels), _, (test_images, test_labels) = mnist_loader.load_data()
    y = np.eye(10, dtype=case.dtype)[labels]
    return images.astype(case.dtype), y, test_images.astype(case.dtype), test_labels


def start(case: Case) -> tuple[Layers, Callable[[], Any]]:
    """Return the initial layers, and what draws the batches of an epoch: indices of images."""
    random = np.random.RandomState(0)
    sizes = itertools.pairwise([784, case.hidden, 10] if case.hidden else [784, 10])
    weights = [random.randn(n_out, n_in) / math.sqrt(n_in) for n_in, n_out in sizes]
    layers = [(w.astype(case.dtype), random.randn(len(w)).astype(case.dtype)) for w in weights]
    if case.batch_size == FULL:
        return layers, lambda: [slice(None)]
    return layers, lambda: random.permutation(FULL).reshape(-1, case.batch_size)


def feedforward(layers: Layers, x: Array) -> list[Array]:
    activations = [x]
    for w, b in layers:
        activations.append(1 / (1 + np.exp(-(activations[-1] @ w.T + b))))
    return activations


def backprop(layers: Layers, x: Array, y: Array) -> tuple[float, Layers]:
    """Return the cost and the gradient, summed over the images."""
    *activations, output = feedforward(layers, x)
    cost = -float(np.sum(y * np.log(output) + (1 - y) * np.log(1 - output)))
    gradient: Layers = []
    delta = output - y
    for (w, _), a in zip(layers[::-1], activations[::-1], strict=True):
        gradient.insert(0, (delta.T @ a, delta.sum(axis=0)))
        if a is not x:
            delta = delta @ w * a * (1 - a)
    return cost, gradient


def plain(case: Case) -> tuple[Epoch, float]:
    """A batch at once, BLAS with its own threads."""
    x, y, test_x, test_labels = data(case)
    layers, batches = start(case)

    def epoch() -> float:
        total = 0.0
        for batch in batches():
            cost, gradient = backprop(layers, x[batch], y[batch])
            for p, nabla in zip(flat(layers), flat(gradient), strict=True):
                p -= ETA / case.batch_size * nabla
            total += cost
        np.sum(feedforward(layers, test_x)[-1].argmax(axis=1) == test_labels)
        return total / FULL

    return epoch, 1


def loop(case: Case) -> tuple[Epoch, float]:
    """The question's way: image by image."""
    x, y, test_x, _ = data(case)
    layers, _ = start(case)

    def epoch() -> float:
        sums = [np.zeros_like(p) for p in flat(layers)]
        for i in range(LOOPED):
            _, gradient = backprop(layers, x[i : i + 1], y[i : i + 1])
            for its_sum, nabla in zip(sums, flat(gradient), strict=True):
                its_sum += nabla
        for image in test_x[: LOOPED * TESTED // FULL]:
            feedforward(layers, image)[-1].argmax()
        return math.nan

    return epoch, FULL / LOOPED


def torch(case: Case) -> tuple[Epoch, float]:
    import torch as t

    x, y, test_x, test_labels = (t.from_numpy(array) for array in data(case))
    layers, batches = start(case)
    modules = []
    for w, b in layers:
        modules += [t.nn.Linear(w.shape[1], len(w), dtype=x.dtype), t.nn.Sigmoid()]
        modules[-2].load_state_dict({"weight": t.from_numpy(w), "bias": t.from_numpy(b)})
    model = t.nn.Sequential(*modules[:-1])
    optimizer = t.optim.SGD(model.parameters(), lr=ETA / case.batch_size)
    cost_of = t.nn.BCEWithLogitsLoss(reduction="sum")

    def epoch() -> float:
        total = 0.0
        for batch in batches():
            its_x, its_y = x, y
            if case.batch_size < FULL:  # A little faster than x[batch].
                its_x, its_y = (a.index_select(0, t.from_numpy(batch)) for a in (x, y))
            optimizer.zero_grad()
            cost = cost_of(model(its_x), its_y)
            cost.backward()
            optimizer.step()
            total += cost.item()
        with t.no_grad():
            (model(test_x).argmax(dim=1) == test_labels).sum().item()
        return total / FULL

    return epoch, 1


def jax(case: Case) -> tuple[Epoch, float]:
    """An epoch is compiled as a whole."""
    os.environ["JAX_ENABLE_X64"] = "1"
    import jax as j

    images = tuple(j.numpy.asarray(array) for array in data(case))
    layers, batches = start(case)
    state = [(j.numpy.asarray(w.T), j.numpy.asarray(b)) for w, b in layers]

    def output(state: Any, x: Any) -> Any:
        *before, (w, b) = state
        for v, c in before:
            x = j.nn.sigmoid(x @ v + c)
        return x @ w + b

    def cost_of(state: Any, x: Any, y: Any) -> Any:
        z = output(state, x)
        return j.numpy.sum(j.nn.softplus(z) - y * z)

    def steps(state: Any, batches: Any, x: Any, y: Any, test_x: Any, test_labels: Any) -> Any:
        def step(state: Any, batch: Any) -> Any:
            cost, nabla = j.value_and_grad(cost_of)(state, x[batch], y[batch])
            return j.tree.map(lambda p, g: p - ETA / case.batch_size * g, state, nabla), cost

        if batches is None:
            state, cost = step(state, slice(None))
        else:
            state, cost = j.lax.scan(step, state, batches)
        correct = j.numpy.sum(output(state, test_x).argmax(axis=1) == test_labels)
        return state, j.numpy.sum(cost), correct

    compiled = j.jit(steps)

    def epoch() -> float:
        nonlocal state
        drawn = None if case.batch_size == FULL else batches()
        state, cost, correct = compiled(state, drawn, *images)
        int(correct)
        return float(cost) / FULL

    return epoch, 1


COMPETITORS: dict[str, Callable[[Case], tuple[Epoch, float]]] = {
    "this program": ours,
    "this program, one thread": partial(ours, threads=1),
    "processor limit": limit,
    "loop over images": loop,
    "numpy": plain,
    "PyTorch": torch,
    "JAX": jax,
}
LIBRARIES = {"numpy": "numpy", "PyTorch": "torch", "JAX": "jax"}


# Their turns, each in a process of its own


class Turn(NamedTuple):
    seconds: float  # of an epoch, or of a whole process
    held: float  # by the process, at most and so far, in MB
    cost: float


def megabytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def work(case: Case) -> None:
    """Run the epochs of a whole process, or a turn for each line that is read."""
    epoch, factor = COMPETITORS[case.name](case)
    costs = [epoch() for _ in range(case.epochs)]
    for _ in () if case.epochs else sys.stdin:
        seconds: list[float] = []
        while len(seconds) < EPOCHS or sum(seconds) < SECONDS:
            since = time.perf_counter()
            costs.append(epoch())
            seconds.append(time.perf_counter() - since)
        held = megabytes(resource.getrusage(resource.RUSAGE_SELF))
        print(json.dumps(Turn(statistics.median(seconds) * factor, held, costs[1])), flush=True)


def turns(case: Case) -> Iterator[Turn]:
    command = [sys.executable, __file__, "--worker", json.dumps(asdict(case))]
    if case.epochs and case.name == "this program":
        program = Path(__file__).resolve().parent.parent / "reproduce.py"
        command[1:] = [str(program), "--hidden", str(case.hidden), "--epochs", str(case.epochs)]
    # A user's thread counts are left out, so that each competitor has its own.
    env = {name: value for name, value in os.environ.items() if "_NUM_THREADS" not in name}
    while case.epochs:
        since = time.perf_counter()
        whole = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=env)
        _, status, usage = os.wait4(whole.pid, 0)
        whole.returncode = os.waitstatus_to_exitcode(status)
        assert whole.returncode == 0, command
        yield Turn(time.perf_counter() - since, megabytes(usage), math.nan)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=env, text=True) as process:
        assert process.stdout
        while True:
            print(file=process.stdin, flush=True)
            yield Turn(*json.loads(process.stdout.readline()))


def table(title: str, rounds: int, cases: dict[str, Case]) -> None:
    """Print a row for each case, with the ratio to the first one's median."""
    competitors = [turns(case) for case in cases.values()]
    # The first round is not counted: it compiles, and warms up.
    taken = [[paused(turn) for turn in competitors] for _ in range(1 + rounds)][1:]
    print(f"\n{title:40} median s     min     max  ratio  peak MB  cost")
    first = statistics.median(turn.seconds for turn, *_ in taken)
    for label, its_turns in zip(cases, zip(*taken, strict=True), strict=True):
        seconds = [turn.seconds for turn in its_turns]
        median, held, cost = statistics.median(seconds), its_turns[-1].held, its_turns[-1].cost
        times = f"{median:8.4f} {min(seconds):7.4f} {max(seconds):7.4f} {median / first:6.2f}"
        print(f"{label:40} {times}  {held:7.0f}  {cost:.5f}".removesuffix("  nan"), flush=True)


def paused(its_turns: Iterator[Turn]) -> Turn:
    time.sleep(PAUSE)
    return next(its_turns)


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True)
@click.option("--worker", hidden=True)
def main(rounds: int, worker: str | None) -> None:
    if worker:
        work(Case(**json.loads(worker)))
        return
    found = {name: module for name, module in LIBRARIES.items() if find_spec(module)}
    names = [name for name in COMPETITORS if name in found or name not in LIBRARIES]
    versions = [f"{name} {version(module)}" for name, module in found.items()]
    print(f"{os.cpu_count()} cores; Python {platform.python_version()}, {', '.join(versions)}")
    print(f"The median of {rounds} turns. The loop is measured on {LOOPED} images, and scaled up.")
    for hidden, dtype in itertools.product((30, 0), ("float64", "float32")):
        title = f"{f'784-{hidden}-10' if hidden else '784-10'}, {dtype}, full batch"
        table(title, rounds, {name: Case(name, hidden, dtype) for name in names})
    trained = [name for name in names if name not in ("processor limit", "loop over images")]
    for size in (1000, 100, 10):
        cases = {name: Case(name, batch_size=size) for name in trained}
        table(f"784-30-10, float64, batch size {size}", rounds, cases)
    sizes = {f"{n} hidden neurons": Case(hidden=n) for n in (10, 30, 100, 300)}
    table("this program, float64, full batch", rounds, sizes)
    runs = {f"{n} runs together": Case(runs=n) for n in (1, 2, 4)}
    table("784-30-10, float64, full batch", rounds, runs)
    for epochs in (1, 30):
        cases = {name: Case(name, epochs=epochs) for name in ("this program", *found)}
        table(f"784-30-10, whole process, epochs: {epochs}", rounds, cases)


if __name__ == "__main__":
    main()
