"""Measure this program against the question's loop, numpy, PyTorch, JAX and the processor.

    python tests/benchmark.py

Every competitor runs in a process of its own, and they take turns, one epoch each: a slow
moment of the machine hits them all. PyTorch and JAX are measured if they are installed. An
epoch is a step of full-batch gradient descent with its cost, and the test images classified.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if {"this program", "processor limit"} & set(sys.argv):
    # It gives BLAS one thread, and can do so only before numpy is imported. For the others
    # BLAS keeps its own number.
    import reproduce  # noqa: F401

import click
import numpy as np

GFLOP = {30: 5.17, 0: 1.72}
"""Of an epoch's products with the images, for each number of hidden neurons: 784 by
`hidden or 10` multiplications and additions, for 50,000 images twice and 10,000 once."""

LOOP_IMAGES = 2000
"""So many images of 50,000 the question's loop is measured on."""

Epoch = Callable[[], object]


def ours(hidden: int, dtype: str, runs: int = 1) -> Epoch:
    import mnist_loader
    import reproduce

    training, validation, test = mnist_loader.load_data()
    del validation  # as the command does
    settings = [
        reproduce.Settings(hidden, "fan-in", 1.0, "fixed", 0.5, seed, dtype) for seed in range(runs)
    ]
    results = reproduce.train(
        [reproduce.initial_network(run) for run in settings],
        [run.eta for run in settings],
        reproduce.chunked(*training, hidden),
        reproduce.chunked(*test, hidden),
        epochs=10**9,
    )
    return lambda: next(results)


def limit(hidden: int, dtype: str) -> Epoch:
    """The products of an epoch at the rate of large square ones, on all cores."""
    import reproduce

    a = np.random.RandomState(0).rand(2000, 2000).astype(dtype)
    pool = ThreadPoolExecutor(reproduce.THREADS)

    def epoch() -> float:
        start = time.perf_counter()
        list(pool.map(lambda _: a @ a, range(reproduce.THREADS)))
        seconds = time.perf_counter() - start
        return seconds * GFLOP[hidden] / (reproduce.THREADS * 16)

    return epoch


def data_as(dtype: str) -> tuple[Any, Any, Any, Any]:
    """Return (x, y, test x, test labels), images as rows and y one-hot."""
    import mnist_loader

    (images, labels), _, (test_images, test_labels) = mnist_loader.load_data()
    return (
        images.astype(dtype),
        np.eye(10, dtype=dtype)[labels],
        test_images.astype(dtype),
        test_labels,
    )


def parameters(hidden: int, dtype: str) -> tuple[list[Any], list[Any]]:
    import reproduce

    network = reproduce.initial_network(
        reproduce.Settings(hidden, "fan-in", 1.0, "fixed", 0.5, 0, dtype)
    )
    return network.weights, network.biases


def loop(hidden: int, dtype: str) -> Epoch:
    """The question's way: image by image. A part is measured, and scaled up."""
    x, y, test_x, _ = data_as(dtype)
    weights, biases = parameters(hidden, dtype)

    def forward(image: Any) -> list[Any]:
        activations = [image.reshape(-1, 1)]
        for w, b in zip(weights, biases, strict=True):
            activations.append(1 / (1 + np.exp(-(np.dot(w, activations[-1]) + b))))
        return activations

    def epoch() -> float:
        start = time.perf_counter()
        cost, sums = 0.0, [np.zeros_like(w) for w in weights]
        for image, digit in zip(x[:LOOP_IMAGES], y[:LOOP_IMAGES].reshape(-1, 10, 1), strict=True):
            *inner, a = forward(image)
            cost -= np.sum(np.nan_to_num(digit * np.log(a) + (1 - digit) * np.log(1 - a)))
            delta = a - digit
            for layer in range(len(weights) - 1, -1, -1):
                sums[layer] += np.dot(delta, inner[layer].T)
                delta = (
                    np.dot(weights[layer].T, delta) * inner[layer] * (1 - inner[layer])
                    if layer
                    else delta
                )
        for image in test_x[: LOOP_IMAGES // 5]:
            np.argmax(forward(image)[-1])
        return (time.perf_counter() - start) * 50_000 / LOOP_IMAGES

    return epoch


def whole_batch(hidden: int, dtype: str) -> Epoch:
    """Plain numpy on all images at once, BLAS with its own threads."""
    x, y, test_x, test_labels = data_as(dtype)
    weights, biases = parameters(hidden, dtype)

    def forward(images: Any) -> list[Any]:
        activations = [images]
        for w, b in zip(weights, biases, strict=True):
            activations.append(1 / (1 + np.exp(-(activations[-1] @ w.T + b.T))))
        return activations

    def epoch() -> Any:
        *inner, a = forward(x)
        cost = -np.mean(np.sum(y * np.log(a) + (1 - y) * np.log(1 - a), axis=1))
        delta = a - y
        for layer in range(len(weights) - 1, -1, -1):
            nabla_w, nabla_b = delta.T @ inner[layer], delta.sum(axis=0)[:, np.newaxis]
            if layer:
                delta = (delta @ weights[layer]) * inner[layer] * (1 - inner[layer])
            weights[layer] -= 0.5 / len(x) * nabla_w
            biases[layer] -= 0.5 / len(x) * nabla_b
        return cost, np.sum(forward(test_x)[-1].argmax(axis=1) == test_labels)

    return epoch


def torch(hidden: int, dtype: str) -> Epoch:
    import torch as t

    x, y, test_x, test_labels = (t.from_numpy(array) for array in data_as(dtype))
    layers = []
    for w, b in zip(*parameters(hidden, dtype), strict=True):
        layer = t.nn.Linear(*w.shape[::-1], dtype=x.dtype)
        with t.no_grad():
            layer.weight.copy_(t.from_numpy(w))
            layer.bias.copy_(t.from_numpy(b[:, 0]))
        layers += [layer, t.nn.Sigmoid()]
    model = t.nn.Sequential(*layers[:-1])
    optimizer = t.optim.SGD(model.parameters(), lr=0.5)
    cost_of = t.nn.BCEWithLogitsLoss(reduction="sum")

    def epoch() -> object:
        optimizer.zero_grad()
        cost = cost_of(model(x), y) / len(x)
        cost.backward()
        optimizer.step()
        with t.no_grad():
            return cost.item(), (model(test_x).argmax(dim=1) == test_labels).sum().item()

    return epoch


def jax(hidden: int, dtype: str) -> Epoch:
    import jax as j

    j.config.update("jax_enable_x64", True)
    x, y, test_x, test_labels = (j.numpy.asarray(array) for array in data_as(dtype))
    state = [
        (j.numpy.asarray(w.T), j.numpy.asarray(b.T))
        for w, b in zip(*parameters(hidden, dtype), strict=True)
    ]

    def output(state: Any, images: Any) -> Any:
        *hidden_layers, (w, b) = state
        for v, c in hidden_layers:
            images = j.nn.sigmoid(images @ v + c)
        return images @ w + b

    def cost_of(state: Any, x: Any, y: Any) -> Any:
        z = output(state, x)
        return j.numpy.sum(j.nn.softplus(z) - y * z) / len(x)

    def step(state: Any, x: Any, y: Any, test_x: Any, test_labels: Any) -> Any:
        cost, nabla = j.value_and_grad(cost_of)(state, x, y)
        state = j.tree.map(lambda p, g: p - 0.5 * g, state, nabla)
        return state, cost, j.numpy.sum(output(state, test_x).argmax(axis=1) == test_labels)

    compiled = j.jit(step)

    def epoch() -> object:
        nonlocal state
        state, cost, correct = compiled(state, x, y, test_x, test_labels)
        return float(cost), int(correct)

    return epoch


COMPETITORS: dict[str, Callable[..., Epoch]] = {
    "this program": ours,
    "processor limit": limit,
    "loop over images": loop,
    "numpy, whole batch": whole_batch,
    "PyTorch": torch,
    "JAX": jax,
}
LIBRARIES = {"PyTorch": "torch", "JAX": "jax"}


@dataclass
class Worker:
    """A competitor in a process of its own, which runs an epoch when it is told to."""

    label: str
    name: str
    arguments: Sequence[str]

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", self.name, *self.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self.seconds: list[float] = []
        self.epoch()  # the first compiles, and warms up
        self.seconds.clear()

    def epoch(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.seconds.append(float(self.process.stdout.readline()))

    def end(self) -> float:
        """Return the peak memory of the process, in MB."""
        assert self.process.stdin
        self.process.stdin.close()
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_maxrss * 1024 / 1e6


def environment() -> dict[str, str]:
    """Return the environment without a user's thread counts, so that each has its own."""
    return {name: value for name, value in os.environ.items() if "_NUM_THREADS" not in name}


def work(name: str, hidden: int, dtype: str, runs: int) -> None:
    epoch = COMPETITORS[name](hidden, dtype, **({"runs": runs} if runs > 1 else {}))
    for _ in sys.stdin:
        start = time.perf_counter()
        seconds = epoch()
        if not isinstance(seconds, float):  # those that scale up say so themselves
            seconds = time.perf_counter() - start
        print(seconds, flush=True)


def take_turns(title: str, workers: list[Worker], rounds: int, per: int = 1) -> None:
    """Print a table: a row for each worker, with the ratio to the first one's median."""
    for _ in range(rounds):
        for worker in workers:
            worker.epoch()
    print(f"\n{title:36}  median s     min     max   ratio  peak MB")
    first = statistics.median(workers[0].seconds)
    for worker in workers:
        median = statistics.median(worker.seconds)
        shortest, longest = min(worker.seconds), max(worker.seconds)
        print(
            f"{worker.label:36}  {median:8.4f}  {shortest:6.4f}  {longest:6.4f}"
            f"  {median / first:6.2f}  {worker.end():7.0f}",
            flush=True,
        )


def whole_processes(names: Sequence[str], rounds: int) -> None:
    """Print the times of 30 epochs, from the start of the process to its end."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            command = [sys.executable, __file__, "--worker", name, "--hidden", "30"]
            if name == "this program":
                script = Path(__file__).resolve().parent.parent / "reproduce.py"
                command = [sys.executable, str(script), "--hidden", "30"]
            start = time.perf_counter()
            subprocess.run(
                command,
                input="\n" * 30,
                text=True,
                stdout=subprocess.DEVNULL,
                check=True,
                env=environment(),
            )
            seconds[name].append(time.perf_counter() - start)
    print(f"\n{'whole process, 30 epochs, float64':36}  median s     min     max   ratio")
    first = statistics.median(seconds[names[0]])
    for name, times in seconds.items():
        median = statistics.median(times)
        print(
            f"{name:36}  {median:8.2f}  {min(times):6.2f}  {max(times):6.2f}  {median / first:6.2f}"
        )


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True)
@click.option("--worker", type=click.Choice(list(COMPETITORS)), hidden=True)
@click.option("--hidden", type=int, default=30, hidden=True)
@click.option("--dtype", default="float64", hidden=True)
@click.option("--runs", type=int, default=1, hidden=True)
def main(rounds: int, worker: str | None, hidden: int, dtype: str, runs: int) -> None:
    if worker:
        work(worker, hidden, dtype, runs)
        return
    installed = [name for name in COMPETITORS if find_spec(LIBRARIES.get(name, "numpy"))]
    missing = [name for name in COMPETITORS if name not in installed]
    print(f"{os.cpu_count()} cores; numpy {np.__version__}; rounds: {rounds}", end="")
    print(f"; not installed: {', '.join(missing)}" if missing else "")
    print(f"The loop over images is measured on {LOOP_IMAGES} images, and scaled up.")
    for hidden in (30, 0):
        for dtype in ("float64", "float32"):
            sizes = f"784-{hidden}-10" if hidden else "784-10"
            arguments = ["--hidden", str(hidden), "--dtype", dtype]
            workers = [Worker(name, name, arguments) for name in installed]
            take_turns(f"{sizes}, {dtype}, one epoch", workers, rounds)
    neurons = [
        Worker(f"{n} hidden neurons", "this program", ["--hidden", str(n)])
        for n in (10, 30, 100, 300)
    ]
    take_turns("this program, float64, one epoch", neurons, rounds)
    together = [
        Worker(label, "this program", ["--runs", runs])
        for label, runs in (("one run", "1"), ("2 runs together", "2"), ("4 runs together", "4"))
    ]
    take_turns("784-30-10, float64, one epoch of all", together, rounds)
    whole_processes([name for name in installed if name in ("this program", *LIBRARIES)], rounds)


if __name__ == "__main__":
    main()
