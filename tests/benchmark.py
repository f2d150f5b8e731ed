"""Measure an epoch of 784-30-10 beside plain numpy, PyTorch and JAX; and whole commands.

    python tests/benchmark.py

It takes about ten minutes on two idle cores, and writes what it prints to tests/benchmark.txt.

An epoch has all its steps, the cost, and the test images classified. Each competitor has a
process of its own, and they take turns: a slow moment of the machine hits them all. They start
from the same weights and draw the same batches, so that their costs have to agree. The full
batch is measured with 1, 2, 4 and 8 threads, as far as there are cores: each process has as many
cores as threads, and so has each library.
"""

from __future__ import annotations

import datetime
import math
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import click

# Each competitor imports numpy for itself: this program sets BLAS's threads before it does.

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "tests" / "benchmark.txt"
sys.path.insert(0, str(ROOT))

N = 50_000  # training images
BATCH_SIZES = [N, 1000, 100, 10]
CORES = os.cpu_count() or 1
THREADS = [threads for threads in (1, 2, 4, 8) if threads <= CORES]
ETA = 0.5
TOLERANCES = {"float64": 1e-6, "float32": 1e-3}  # by how much of itself a cost may differ
COMMANDS = [
    "--epochs 1",
    "--hidden 30 --buggy-prime",
    "--hidden 1000 --epochs 1",
    "--hidden 30 --batch-size 10 --epochs 1",
]
PAUSE = 0.2  # seconds before a turn: threads of the last one may still look out for work
TURN_SECONDS = 0.5  # what a turn takes at least

Array = Any


# The competitors. Each yields the costs of its epochs, one after the other.


def this_program(batch_size: int, dtype: str) -> Iterator[float]:
    """Train as the command does."""
    import reproduce

    reproduce.THREADS = len(os.sched_getaffinity(0))
    training, test = reproduce.load_images()
    settings = reproduce.Settings(
        hidden=30, init="randn-fan-in", eta=ETA, batch_size=batch_size, dtype=dtype
    )
    run = reproduce.Run(settings)
    while True:
        reproduce.train_epoch(run, training, test)
        yield run.epochs[-1].cost


def load(dtype: str) -> tuple[Array, Array, Array, Array]:
    """Return images as rows and one-hot labels, test images and their labels."""
    import numpy as np

    import mnist_loader

    (images, labels), _, (test_images, test_labels) = mnist_loader.load_data()
    y = np.eye(10, dtype=dtype)[labels]
    return images.astype(dtype), y, test_images.astype(dtype), test_labels


def start(dtype: str) -> tuple[list[Array], Any]:
    """Return w2, b2, w3 and b3 as this program draws them, and the generator for the batches."""
    import numpy as np

    random = np.random.RandomState(0)
    w2 = random.randn(30, 784) / math.sqrt(784)
    w3 = random.randn(10, 30) / math.sqrt(30)
    b2 = random.randn(30)
    b3 = random.randn(10)
    return [parameter.astype(dtype) for parameter in (w2, b2, w3, b3)], random


def draw_batches(batch_size: int, random: Any) -> Any:
    """Return the indices of the images of each batch of an epoch."""
    if batch_size == N:
        return [slice(None)]
    return random.permutation(N).reshape(-1, batch_size)


def plain_numpy(batch_size: int, dtype: str) -> Iterator[float]:
    """Train on whole batches as matrices; BLAS has its own threads."""
    import numpy as np

    images, one_hot, test_images, test_labels = load(dtype)
    (w2, b2, w3, b3), random = start(dtype)
    rate = ETA / batch_size

    def sigmoid(z: Array) -> Array:
        return 1 / (1 + np.exp(-z))

    while True:
        cost = 0.0
        for batch in draw_batches(batch_size, random):
            x = images[batch]
            y = one_hot[batch]
            a2 = sigmoid(x @ w2.T + b2)
            a3 = sigmoid(a2 @ w3.T + b3)
            cost -= float(np.sum(np.log(np.where(y, a3, 1 - a3))))
            delta3 = a3 - y
            delta2 = delta3 @ w3 * a2 * (1 - a2)
            w3 -= rate * (delta3.T @ a2)
            b3 -= rate * delta3.sum(axis=0)
            w2 -= rate * (delta2.T @ x)
            b2 -= rate * delta2.sum(axis=0)
        a2 = sigmoid(test_images @ w2.T + b2)
        a3 = sigmoid(a2 @ w3.T + b3)
        np.sum(a3.argmax(axis=1) == test_labels)
        yield cost / N


def pytorch(batch_size: int, dtype: str) -> Iterator[float]:
    """Train with torch.nn and torch.optim."""
    import torch

    images, one_hot, test_images, test_labels = map(torch.from_numpy, load(dtype))
    (w2, b2, w3, b3), random = start(dtype)
    hidden_layer = torch.nn.Linear(784, 30, dtype=images.dtype)
    output_layer = torch.nn.Linear(30, 10, dtype=images.dtype)
    hidden_layer.load_state_dict({"weight": torch.from_numpy(w2), "bias": torch.from_numpy(b2)})
    output_layer.load_state_dict({"weight": torch.from_numpy(w3), "bias": torch.from_numpy(b3)})
    model = torch.nn.Sequential(hidden_layer, torch.nn.Sigmoid(), output_layer)
    cost_of = torch.nn.BCEWithLogitsLoss(reduction="sum")
    optimizer = torch.optim.SGD(model.parameters(), lr=ETA / batch_size)
    while True:
        cost = 0.0
        for batch in draw_batches(batch_size, random):
            if batch_size == N:
                x = images
                y = one_hot
            else:
                indices = torch.from_numpy(batch)
                x = images.index_select(0, indices)  # a little faster than images[indices]
                y = one_hot.index_select(0, indices)
            optimizer.zero_grad()
            batch_cost = cost_of(model(x), y)
            batch_cost.backward()
            optimizer.step()
            cost += batch_cost.item()
        with torch.no_grad():
            torch.sum(model(test_images).argmax(dim=1) == test_labels).item()
        yield cost / N


def with_jax(batch_size: int, dtype: str) -> Iterator[float]:
    """Train with an epoch that is compiled as a whole."""
    import jax

    jax.config.update("jax_enable_x64", True)
    images, one_hot, test_images, test_labels = map(jax.numpy.asarray, load(dtype))
    (w2, b2, w3, b3), random = start(dtype)
    network = [jax.numpy.asarray(parameter) for parameter in (w2.T, b2, w3.T, b3)]

    def output(network: Any, x: Any) -> Any:
        w2, b2, w3, b3 = network
        return jax.nn.sigmoid(x @ w2 + b2) @ w3 + b3

    def cost_of(network: Any, x: Any, y: Any) -> Any:
        z = output(network, x)
        return jax.numpy.sum(jax.nn.softplus(z) - y * z)

    # Images that were not given as an argument would be copied into the compiled program.
    def epoch(network: Any, batches: Any, x: Any, y: Any, test_x: Any, test_labels: Any) -> Any:
        def step(network: Any, batch: Any) -> Any:
            cost, nablas = jax.value_and_grad(cost_of)(network, x[batch], y[batch])
            moved = []
            for parameter, nabla in zip(network, nablas):
                moved.append(parameter - ETA / batch_size * nabla)
            return moved, cost

        if batch_size == N:
            network, costs = step(network, slice(None))
        else:
            network, costs = jax.lax.scan(step, network, batches)
        correct = jax.numpy.sum(output(network, test_x).argmax(axis=1) == test_labels)
        return network, jax.numpy.sum(costs), correct

    compiled = jax.jit(epoch)
    while True:
        batches = None
        if batch_size < N:
            batches = draw_batches(batch_size, random)
        network, cost, correct = compiled(
            network, batches, images, one_hot, test_images, test_labels
        )
        int(correct)
        yield float(cost) / N


COMPETITORS: dict[str, Callable[[int, str], Iterator[float]]] = {
    "reproduce.py": this_program,
    "numpy": plain_numpy,
    "PyTorch": pytorch,
    "JAX": with_jax,
}
LIBRARIES = {"numpy": "numpy", "PyTorch": "torch", "JAX": "jax"}


# Their turns


class Turn(NamedTuple):
    """What is measured in a turn, or of a whole command."""

    seconds: float  # of the turn's median epoch, or of the whole command
    peak: float  # MiB that the process has held so far, at most
    cost: float = math.nan  # of the second epoch


@cache
def started(name: str, batch_size: int, dtype: str) -> tuple[Iterator[float], float]:
    """Return a competitor, kept for its later turns, after two epochs, and the second's cost.

    They are not timed: the first compiles, and fills caches.
    """
    costs = COMPETITORS[name](batch_size, dtype)
    next(costs)
    return costs, next(costs)


def take_turn(name: str, batch_size: int, dtype: str) -> Turn:
    """Time epochs in a process that belongs to this competitor."""
    costs, second_cost = started(name, batch_size, dtype)
    seconds: list[float] = []
    while sum(seconds) < TURN_SECONDS:
        since = time.perf_counter()
        next(costs)
        seconds.append(time.perf_counter() - since)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Turn(statistics.median(seconds), mebibytes(usage), second_cost)


def use_cores(count: int) -> None:
    """Let this process have so many cores; libraries that are imported later count them."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def run_command(options: str) -> Turn:
    """Time a whole process of this program."""
    command = [sys.executable, str(ROOT / "reproduce.py")]
    command += options.split()
    since = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - since
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise click.ClickException(f"reproduce.py {options} failed")
    return Turn(seconds, mebibytes(usage))


def mebibytes(usage: resource.struct_rusage) -> float:
    """Return the peak memory of a process."""
    if sys.platform == "darwin":
        return usage.ru_maxrss / 2**20
    return usage.ru_maxrss / 2**10


# The record


def times(turns: list[Turn]) -> str:
    """Return three columns: median, least and most seconds of the turns."""
    seconds = [turn.seconds for turn in turns]
    return f"{statistics.median(seconds):8.4f} {min(seconds):8.4f} {max(seconds):8.4f}"


def compare(
    batch_size: int, dtype: str, threads: int, names: list[str], rounds: int
) -> Iterator[str]:
    """Yield a line for each competitor; the first is what the others are divided by."""
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    with ExitStack() as stack:
        pools = {}
        for name in names:
            spawn = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(1, spawn, initializer=use_cores, initargs=(threads,))
            pools[name] = stack.enter_context(pool)
        for _ in range(rounds):
            for name in names:
                time.sleep(PAUSE)
                future = pools[name].submit(take_turn, name, batch_size, dtype)
                turns[name].append(future.result())
    first_seconds = statistics.median(turn.seconds for turn in turns[names[0]])
    first_cost = turns[names[0]][0].cost
    for name in names:
        ratio = statistics.median(turn.seconds for turn in turns[name]) / first_seconds
        last = turns[name][-1]
        yield (
            f"{batch_size:10} {dtype:>8} {threads:7} {name:>13} {times(turns[name])} {ratio:6.2f} "
            f"{last.peak:8.0f} {last.cost:10.7f}"
        )
        if not math.isclose(last.cost, first_cost, rel_tol=TOLERANCES[dtype]):
            raise click.ClickException(f"{name} has another cost: it does something else.")


def time_commands(rounds: int) -> Iterator[str]:
    """Yield a line for each of COMMANDS."""
    turns: dict[str, list[Turn]] = {options: [] for options in COMMANDS}
    for _ in range(rounds):
        for options in COMMANDS:
            time.sleep(PAUSE)
            turns[options].append(run_command(options))
    for options in COMMANDS:
        peak = max(turn.peak for turn in turns[options])
        yield f"{times(turns[options])} {peak:8.0f}  python reproduce.py {options}"


def processor() -> str:
    """Return the processor's name, and whether it has the vector instructions that count."""
    name = platform.processor()
    flags: list[str] = []
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            if key.strip() == "flags":
                flags = value.split()
    for feature, flag in [("AVX2", "avx2"), ("AVX-512", "avx512f")]:
        if flag in flags:
            name += f", with {feature}"
        else:
            name += f", without {feature}"
    return name


def load_average() -> str:
    """Return how many processes were at work in the last 1, 5 and 15 minutes."""
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def record(rounds: int) -> Iterator[str]:
    """Yield the record line by line, as it is measured."""
    names = ["reproduce.py"]
    versions = [f"Python {platform.python_version()}"]
    for name, module in LIBRARIES.items():
        if find_spec(module):
            names.append(name)
            versions.append(f"{name} {version(module)}")
    yield f"date: {datetime.date.today()}"
    yield f"processor: {processor()}"
    yield f"cores: {CORES}"
    yield f"versions: {', '.join(versions)}"
    yield f"turns: {rounds}, of which seconds are the median"
    yield f"load at the start: {load_average()}"
    yield ""
    yield "An epoch of 784-30-10:"
    yield (
        f"{'batch_size':>10} {'dtype':>8} {'threads':>7} {'competitor':>13} {'seconds':>8} "
        f"{'min':>8} {'max':>8} {'ratio':>6} {'peak_MiB':>8} {'cost':>10}"
    )
    for dtype in TOLERANCES:
        for threads in THREADS[:-1]:
            yield from compare(N, dtype, threads, names, rounds)
        for batch_size in BATCH_SIZES:
            yield from compare(batch_size, dtype, THREADS[-1], names, rounds)
    yield ""
    yield "A whole process:"
    yield f"{'seconds':>8} {'min':>8} {'max':>8} {'peak_MiB':>8}  command"
    yield from time_commands(rounds)
    yield ""
    yield f"load at the end: {load_average()}"


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(min=1), default=13, show_default=True)
def main(rounds: int) -> None:
    # Each competitor has its own number of threads, whatever the user has set.
    for name in list(os.environ):
        if name.endswith("_THREADS"):
            del os.environ[name]
    lines = []
    for line in record(rounds):
        click.echo(line)
        lines.append(line)
    RECORD.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
