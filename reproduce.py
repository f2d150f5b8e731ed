# /// script
# requires-python = ">=3.10"
# dependencies = ["click>=8.1", "numpy>=1.22"]
# ///
"""Why does this network learn nothing? Cross Validated question 374415, reproduced.

The question (https://stats.stackexchange.com/q/374415) trains a 784-10 and a 784-30-10
network of sigmoid neurons on 50,000 images of MNIST by full-batch gradient descent. The first
learns; the second calls every digit a 1. In its backward pass there is sigmoid_prime(a2), where
a2 is the sigmoid's output already. Is that why?

    python reproduce.py                                       # 784-10, 100 epochs
    python reproduce.py --hidden 30 --buggy-prime             # 784-30-10, 30 epochs
    python reproduce.py --hidden 30 --buggy-prime --suspects  # and with one change in each run

Of the 10,000 test images 784-10 has 8653 right, and 784-30-10 has 1135: those that are a 1. The
last command shows why: see README.md.

z, a, delta, nabla_w, nabla_b and eta are as in Nielsen's book "Neural Networks and Deep
Learning". Here x holds many images, with a column for each.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

# This script shares out the images among threads of its own, which is faster than the threads of
# BLAS. So BLAS gets one, whatever the user has set: it reads their number when numpy is imported.
# If numpy is imported already, as in a notebook, it is too late: BLAS has its threads, and this
# script makes do with one, unless the user had set OPENBLAS_NUM_THREADS=1 before.
if "numpy" not in sys.modules:
    os.environ.update(OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", VECLIB_MAXIMUM_THREADS="1")

import click
import numpy as np

import mnist_loader

__version__ = "5.0"

THREADS = 1
if os.environ.get("OPENBLAS_NUM_THREADS") == "1":
    THREADS = min(os.cpu_count() or 1, 8)  # More would queue for Python's lock.

Array = np.ndarray[Any, Any]


# The network


def sigmoid(z: Array) -> Array:
    """Return 1/(1 + e^-z) for each element of `z`, in its shape and dtype."""
    return 1.0 / (1.0 + np.exp(-z))  # Where e^-z overflows, 1/inf is the 0 it should be.


def sigmoid_prime(z: Array) -> Array:
    """Return the derivative of the sigmoid at `z`."""
    return sigmoid(z) * (1.0 - sigmoid(z))


def buggy_prime(a: Array) -> Array:
    """Return what the question has: sigmoid_prime, which expects z2 and is given a2.

    As a2 is 0 to 1, this is 0.1966 to 0.25, even where the right derivative is nearly 0.
    """
    return sigmoid_prime(a)


def fixed_prime(a: Array) -> Array:
    """Return the derivative of the sigmoid where its output is `a`."""
    return a * (1.0 - a)


def cross_entropy(z: Array, y: Array) -> float:
    """Return the sum of -[y ln a + (1-y) ln(1-a)] over all elements, a = sigmoid(z).

    `z`, weighted inputs, and `y`, bool and one-hot, have the shape (10, m). An element is
    ln(1 + e^-z) where y is 1, and ln(1 + e^z) where it is 0: so it is computed from z, and is
    right where a is rounded to 0 or 1, too.
    """
    return float(np.logaddexp(0, np.where(y, -z, z)).sum(dtype=np.float64))


CostAndGradient = tuple[float, list[Array], list[Array]]  # cost, nabla_w, nabla_b (by layer)


@dataclass
class Network:
    """A network of sigmoid neurons.

    For layers of sizes [784, hidden, 10] or [784, 10], weights[l] has shape (sizes[l+1],
    sizes[l]) and biases[l] (sizes[l+1], 1). With a hidden layer, weights[0] is w2 and
    weights[1] is w3. `prime` is the derivative of the sigmoid, given its output.
    """

    weights: list[Array]
    biases: list[Array]
    prime: Callable[[Array], Array] = fixed_prime

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of all weights and biases."""
        dtype: np.dtype[Any] = self.weights[0].dtype
        return dtype

    def feedforward(self, x: Array) -> tuple[list[Array], list[Array]]:
        """Return the weighted inputs z layer by layer, and the activations, x first.

        Each of the m columns of x, shape (784, m), is an image.
        """
        zs = []
        activations = [x]
        for w, b in zip(self.weights, self.biases):
            z = w @ activations[-1] + b
            zs.append(z)
            activations.append(sigmoid(z))
        return zs, activations

    def backprop(self, x: Array, y: Array) -> CostAndGradient:
        """Return the cost of m images, nabla_w and nabla_b, each summed over the images.

        `x` has shape (784, m); `y`, bool and one-hot, (10, m). These are equations BP1
        to BP4 of Nielsen's chapter 2, BP1 in the form of his chapter 3.
        """
        zs, activations = self.feedforward(x)
        nabla_w: list[Array] = []
        nabla_b: list[Array] = []
        delta = activations[-1] - y  # BP1: with cross-entropy, sigmoid_prime cancels
        for layer in reversed(range(len(self.weights))):
            a = activations[layer]  # which the layer is given
            nabla_b.insert(0, delta.sum(axis=1, keepdims=True))  # BP3
            nabla_w.insert(0, delta @ a.T)  # BP4
            if layer > 0:
                w = self.weights[layer]
                delta = (w.T @ delta) * self.prime(a)  # BP2, where the question has its bug
        return cross_entropy(zs[-1], y), nabla_w, nabla_b

    def step(self, rate: float, nabla_w: list[Array], nabla_b: list[Array]) -> None:
        """Move weights and biases by -rate times the gradient. The gradient is overwritten."""
        for parameter, nabla in zip(self.weights + self.biases, nabla_w + nabla_b):
            nabla *= rate
            parameter -= nabla

    def restricted_to(self, pixels: Array | None) -> Network:
        """Return this network for these pixels alone: it does the same if all others are 0."""
        if pixels is None:
            return self
        first = self.weights[0][:, pixels]
        return Network([first] + self.weights[1:], self.biases, self.prime)


# The images

BLOCK = 1000  # images in a block of the full batch, or of the test
MINI_BLOCK = 500  # images of a mini-batch in a block: smaller blocks are not worth a thread
DIGITS = np.arange(10)[:, np.newaxis]  # as a column


def in_parts(indices: Array, size: int) -> list[Array]:
    """Return the indices in parts of this size; the last may be smaller."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def sorted_by_margins(images: Array) -> Array:
    """Return the indices of images in an order in which neighbours have similar margins."""
    square = images.reshape(-1, 28, 28)
    inked_rows = square.any(axis=2)
    inked_columns = square.any(axis=1)
    top_margin = inked_rows.argmax(axis=1)
    left_margin = inked_columns.argmax(axis=1)
    right_margin = np.fliplr(inked_columns).argmax(axis=1)
    return np.lexsort((left_margin, right_margin, top_margin))  # by the last of these first


class Images:
    """Images and their labels: all those of training or test; or a block.

    A block is the part of them that a thread works on at a time. A batch is a list of blocks.
    `blocks` and `batches` are for all images, and not for a block. A block has either `pixels`,
    which are cut out already, or `rows`, which `x` cuts out; its labels are always its own.
    """

    def __init__(
        self,
        images: Array,
        labels: Array,
        rows: Array | slice = slice(None),
        pixels: Array | None = None,
    ) -> None:
        self.images = images  # a row for each; float32, which takes half the memory of float64
        self.labels = labels  # shape (n,)
        self.rows = rows  # of `images`, if not all rows are meant: see `x`
        self.pixels = pixels  # those of the 784 that are columns of `images`; None: all

    def __len__(self) -> int:
        return len(self.labels)

    def x(self, dtype: np.dtype[Any]) -> Array:
        """Return the images as columns of this dtype.

        A thread does this for its block: picking rows here, and not before, shares out the work.
        """
        return self.images[self.rows].T.astype(dtype, copy=False)

    def y(self) -> Array:
        """Return the labels as one-hot columns, bool of shape (10, n)."""
        return np.equal(self.labels, DIGITS)

    @cached_property
    def blocks(self) -> list[Images]:
        """All images, in the blocks of the full batch and of the test.

        They are made once, and lack the pixels that are 0 in all images of a block, for speed:
        the gradient for these pixels is 0, too. Sorting by margins finds more such pixels.
        """
        blocks = []
        for indices in in_parts(sorted_by_margins(self.images), BLOCK):
            images = self.images[indices]
            pixels = np.flatnonzero(images.any(axis=0))
            blocks.append(Images(images[:, pixels], self.labels[indices], pixels=pixels))
        return blocks

    def batches(self, size: int, random: np.random.RandomState) -> Iterator[list[Images]]:
        """Yield the batches of an epoch, each as its blocks; the last batch may be smaller.

        If `size` is all images or more, the only batch is the full one, and no random numbers
        are drawn. The blocks of a mini-batch are rows of the array of all images.
        """
        if size >= len(self):
            yield self.blocks
            return
        for batch in in_parts(random.permutation(len(self)), size):
            blocks = []
            for rows in in_parts(batch, MINI_BLOCK):
                blocks.append(Images(self.images, self.labels[rows], rows))
            yield blocks


def load_images(path: Path | None = None) -> tuple[Images, Images]:
    """Return the training and the test images of MNIST, or of another folder or file.

    Raises mnist_loader.DataError if they cannot be used.
    """
    (images, labels), _, (test_images, test_labels) = mnist_loader.load_data(path)
    return Images(images, labels), Images(test_images, test_labels)


# Where a run starts


def rand(random: np.random.RandomState, rows: int, columns: int) -> Array:
    """Return an array that is uniform from 0 to 1."""
    return random.rand(rows, columns)


def rand_minus_half(random: np.random.RandomState, rows: int, columns: int) -> Array:
    """Return an array that is uniform from -1/2 to 1/2, by the same draws as `rand`."""
    return random.rand(rows, columns) - 0.5


def rand_fan_in(random: np.random.RandomState, rows: int, columns: int) -> Array:
    """Return what `rand` returns, divided by the square root of a neuron's number of inputs.

    These are the columns of a weight matrix. Biases have one column, and are not changed.
    """
    return random.rand(rows, columns) / math.sqrt(columns)


def randn(random: np.random.RandomState, rows: int, columns: int) -> Array:
    """Return an array of the standard normal distribution."""
    return random.randn(rows, columns)


def randn_fan_in(random: np.random.RandomState, rows: int, columns: int) -> Array:
    """Return what `randn` returns, divided as in `rand_fan_in`: see Nielsen, chapter 3."""
    return random.randn(rows, columns) / math.sqrt(columns)


def glorot(random: np.random.RandomState, rows: int, columns: int) -> Array:
    """Return an array that is uniform, with a variance of 2/(inputs + outputs).

    This is equation 16 of Glorot and Bengio, "Understanding the difficulty of training deep
    feedforward neural networks" (2010). Their biases are 0, and these are not: it makes no
    difference here.
    """
    limit = math.sqrt(6 / (rows + columns))
    return random.uniform(-limit, limit, (rows, columns))


# How w2 and b2 are drawn, and how w3 and b3. Without a hidden layer, there is the first alone.
INITS = {
    "rand": (rand, rand),
    "rand-0.5": (rand_minus_half, rand_minus_half),
    "rand-0.5-w2": (rand_minus_half, rand),
    "rand-0.5-w3": (rand, rand_minus_half),
    "rand-fan-in": (rand_fan_in, rand_fan_in),
    "randn": (randn, randn),
    "randn-fan-in": (randn_fan_in, randn_fan_in),
    "glorot": (glorot, glorot),
}
PRIMES = {"buggy": buggy_prime, "fixed": fixed_prime}
DTYPES = ["float64", "float32"]
# No data has more images. `main` and `single_changes` put their number in its place.
FULL_BATCH = sys.maxsize


@dataclass(frozen=True)
class Settings:
    """What defines a run, except the data and the number of epochs."""

    hidden: int = 0  # neurons; 0 is the 784-10 network
    prime: str = "fixed"  # a key of PRIMES, which only a hidden layer uses
    init: str = "rand"  # a key of INITS
    init_scale: float = 1.0  # a factor for all weights and biases: r in the question
    eta: float = 0.5
    batch_size: int = FULL_BATCH  # images per step
    seed: int = 0
    dtype: str = "float64"  # of DTYPES


# The changes that --suspects makes to the settings given, one at a time. Those that change
# nothing are left out: the question's own values are here for those who start from others. A row
# may change any of the Settings but hidden and seed.
SUSPECTS: list[tuple[str, Any]] = [
    ("prime", "buggy"),
    ("prime", "fixed"),
    ("init", "rand"),
    ("init", "rand-0.5"),
    ("init", "rand-0.5-w2"),
    ("init", "rand-0.5-w3"),
    ("init", "rand-fan-in"),
    ("init", "randn"),
    ("init", "randn-fan-in"),
    ("init", "glorot"),
    ("init_scale", 1.0),
    ("init_scale", 0.1),
    ("eta", 0.5),
    ("eta", 1.0),
    ("eta", 5.0),
    ("batch_size", FULL_BATCH),
    ("batch_size", 1000),
]


def initial_network(settings: Settings, random: np.random.RandomState) -> Network:
    """Return the network that a run starts from.

    It is drawn in the order of the question's script: all weights, layer by layer, and then all
    biases.
    """
    sizes = [784, 10]
    if settings.hidden:
        sizes = [784, settings.hidden, 10]
    shapes = list(zip(sizes[1:], sizes))  # of the weights, layer by layer
    draws = INITS[settings.init]
    weights = [draw(random, rows, columns) for draw, (rows, columns) in zip(draws, shapes)]
    biases = [draw(random, rows, 1) for draw, (rows, _) in zip(draws, shapes)]
    scale = settings.init_scale
    return Network(
        [(scale * w).astype(settings.dtype) for w in weights],
        [(scale * b).astype(settings.dtype) for b in biases],
        PRIMES[settings.prime],
    )


class Epoch(NamedTuple):
    """What is reported of an epoch, a pass over the training images.

    `cost` is the mean of these images' costs, each computed before the step that uses the image.
    `correct` counts the test images that are classified rightly after the epoch, and
    `predicted[j]` those that are taken for a j.
    """

    cost: float
    correct: int
    predicted: list[int]

    @property
    def accuracy(self) -> float:
        """The share of the test images that are classified rightly."""
        return self.correct / sum(self.predicted)


class Run:
    """A network in training, and what has become of it so far."""

    def __init__(self, settings: Settings, name: str = "") -> None:
        self.settings = settings
        self.name = name or "the network"  # or the options in which it differs from others
        self.random = np.random.RandomState(settings.seed)  # draws weights, then orders of images
        self.network = initial_network(settings, self.random)
        self.epochs: list[Epoch] = []
        self.steps = 0


# Runs of one name, which differ in their seed alone. With two values of eta and three seeds,
# there are two variants of three runs.
Variant = list[Run]
# Runs that are trained in turns, an epoch each: a variant, or all that are shown side by side.
Group = list[Run]


# Training


class DivergenceError(ArithmeticError):
    """A weight or bias is not a number, or so large that products overflow."""


def train(
    groups: list[Group], epochs: int, shown: range, training: Images, test: Images
) -> Iterator[Group]:
    """Train one group after the other; the runs of a group take turns, an epoch each.

    Yields a group after each epoch whose number, from 0 on, is in `shown`, and after the last.
    Raises DivergenceError.
    """
    total = epochs * sum(len(group) for group in groups)
    done = 0
    try:
        for group in groups:
            for number in range(epochs):
                for run in group:
                    show_progress(f"{done} of {total} epochs")
                    train_epoch(run, training, test)
                    done += 1
                if number in shown or number == epochs - 1:
                    show_progress("")
                    yield group
    finally:
        show_progress("")


def train_epoch(run: Run, training: Images, test: Images) -> None:
    """Train a run's network for an epoch by gradient descent, and report it in `run.epochs`.

    A step moves weights and biases by -eta/m times the gradient, summed over a batch's m images.
    Raises DivergenceError.
    """
    network = run.network
    settings = run.settings
    cost = 0.0
    with np.errstate(all="ignore"):  # Overflow is looked for below, whoever calls this.
        for batch in training.batches(settings.batch_size, run.random):
            batch_cost, nabla_w, nabla_b = gradient(network, batch)
            m = sum(len(block) for block in batch)
            network.step(settings.eta / m, nabla_w, nabla_b)
            cost += batch_cost
            run.steps += 1
        correct, predicted = evaluate(network, test)
    # The product of two numbers below this limit cannot overflow.
    limit = math.sqrt(np.finfo(settings.dtype).max)
    for parameter in network.weights + network.biases:
        if not np.abs(parameter).max() <= limit:  # not >, which is False for nan
            raise DivergenceError(
                f"{run.name}, seed {settings.seed}: after epoch {len(run.epochs)} weights or "
                f"biases are not numbers, or exceed {limit:.1e}; try a smaller eta or scale."
            )
    run.epochs.append(Epoch(cost / len(training), correct, predicted))


def gradient(network: Network, batch: list[Images]) -> CostAndGradient:
    """Return the cost of a batch, nabla_w and nabla_b, each summed over its images."""
    results = in_threads(partial(block_gradient, network), batch)
    cost, nabla_w, nabla_b = results[0]
    # Added in the order of the blocks, the sums do not depend on the number of threads.
    for block_cost, block_nabla_w, block_nabla_b in results[1:]:
        cost += block_cost
        for nabla, block_nabla in zip(nabla_w + nabla_b, block_nabla_w + block_nabla_b):
            nabla += block_nabla
    return cost, nabla_w, nabla_b


def block_gradient(network: Network, block: Images) -> CostAndGradient:
    """Return the cost of a block, nabla_w and nabla_b, each summed over its images."""
    x = block.x(network.dtype)
    cost, nabla_w, nabla_b = network.restricted_to(block.pixels).backprop(x, block.y())
    if block.pixels is not None:
        full = np.zeros_like(network.weights[0])
        full[:, block.pixels] = nabla_w[0]
        nabla_w[0] = full
    return cost, nabla_w, nabla_b


def evaluate(network: Network, test: Images) -> tuple[int, list[int]]:
    """Return how many images are classified rightly, and how many as 0, as 1, ... as 9."""
    digits = np.concatenate(in_threads(partial(classify, network), test.blocks))
    labels = np.concatenate([block.labels for block in test.blocks])  # in the same order
    return int(np.sum(digits == labels)), np.bincount(digits, minlength=10).tolist()


def classify(network: Network, block: Images) -> Array:
    """Return the digit that the network sees in each of the m images of a block, shape (m,).

    The digit is the argmax of the activations, not of z: where they are rounded to 1
    they tie, and the lowest of these digits wins, as it does in the question.
    """
    x = block.x(network.dtype)
    _, activations = network.restricted_to(block.pixels).feedforward(x)
    digits: Array = activations[-1].argmax(axis=0)
    return digits


def in_threads(function: Callable[[Images], Any], blocks: list[Images]) -> list[Any]:
    """Return what the function returns for each of the blocks.

    An error in one thread, or Ctrl-C, stops the others, each after its present block, and is
    raised here. The threads are new each time: those of a pool would be missing in a process that
    the user forks, and would keep Ctrl-C waiting.
    """
    if len(blocks) == 1:
        return [function(blocks[0])]
    count = min(THREADS, len(blocks))
    # Threads pop numbers of blocks from the end. A None for each thread says stop.
    todo = [None] * count + list(range(len(blocks)))
    results: list[Any] = [None] * len(blocks)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with np.errstate(all="ignore"):  # which each thread has for itself
                for number in iter(todo.pop, None):
                    if errors:
                        break
                    results[number] = function(blocks[number])
        except BaseException as error:
            errors.append(error)

    threads = [Thread(target=work, daemon=True) for _ in range(count - 1)]
    for thread in threads:
        thread.start()
    work()  # in this thread, too
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def baseline_of(training: Images, test: Images) -> Epoch:
    """Return what would be reported of a network that ignores the image.

    Its outputs are the frequencies p of the digits among the training labels, its
    cost the entropy -sum(p ln p + (1-p) ln(1-p)): no other constants cost less.
    """
    p = np.bincount(training.labels, minlength=10) / len(training)
    q = np.concatenate([p, 1 - p])
    q = q[q > 0]
    cost = -float(np.sum(q * np.log(q)))
    digit = int(p.argmax())
    predicted = [0] * 10
    predicted[digit] = len(test)
    return Epoch(cost, int(np.sum(test.labels == digit)), predicted)


# What is measured of the hidden layer

EXAMINED = 1000  # z2 and a2 are measured on this many of the first training images


class Measurement(NamedTuple):
    """What was measured of a network: a column of --diagnose."""

    heading: str
    explanation: str
    value: float


def examined(training: Images) -> Array:
    """Return the images on which z2 and a2 are measured, as columns."""
    return training.images[:EXAMINED].T


def examine(network: Network, training: Images) -> list[Measurement]:
    """Measure a network with a hidden layer, at its present weights."""
    zs, activations = network.feedforward(examined(training))
    z2 = zs[0]
    a2 = activations[1]
    n = len(training)
    _, [nabla_w2, nabla_w3], _ = gradient(network, training.blocks)
    _, [fixed_nabla_w2, _], _ = gradient(replace(network, prime=fixed_prime), training.blocks)
    return [
        Measurement(
            "mean z2",
            f"mean weighted input of the hidden layer, for the first {EXAMINED:,} training images",
            float(z2.mean()),
        ),
        Measurement(
            "least z2",
            "the smallest absolute z2 among them",
            float(np.abs(z2).min()),
        ),
        Measurement(
            "a2 varies",
            "standard deviation of a hidden neuron's output, where it is largest",
            float(a2.std(axis=1).max()),
        ),
        Measurement(
            "nabla w2",
            "norm of the mean gradient for w2 over all training images",
            float(np.linalg.norm(nabla_w2)) / n,
        ),
        Measurement(
            "fixed w2",
            "what nabla w2 is with the right derivative",
            float(np.linalg.norm(fixed_nabla_w2)) / n,
        ),
        Measurement(
            "nabla w3",
            "norm of the mean gradient for w3",
            float(np.linalg.norm(nabla_w3)) / n,
        ),
    ]


# What is printed


class Cell(NamedTuple):
    """A cell of a table, and what all cells of its column have in common."""

    heading: str
    alignment: str  # and width, as `format` has them: ">8"; empty in CSV
    text: str


def print_row(row: list[Cell], style: str) -> None:
    """Print the texts of a row, in the style of a plain table, Markdown or CSV."""
    if style == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerow([cell.text for cell in row])
        sys.stdout.flush()  # as click.echo does
    elif style == "markdown":
        click.echo(f"| {' | '.join(cell.text.strip() for cell in row)} |")
    else:
        aligned = [format(cell.text, cell.alignment) for cell in row]
        click.echo(" ".join(aligned).rstrip())


def print_table(rows: Iterable[list[Cell]], style: str) -> None:
    """Print rows as they come, and above the first the headings of its cells."""
    for number, row in enumerate(rows):
        if number == 0:
            print_row([cell._replace(text=cell.heading) for cell in row], style)
            if style == "markdown":
                rules = {"<": "---", ">": "---:"}
                print_row([cell._replace(text=rules[cell.alignment[0]]) for cell in row], style)
        print_row(row, style)


def results_of(epochs: list[Epoch]) -> list[Cell]:
    """Return the cells for an epoch of a run, or of several that differ in their seed: means."""
    cost = sum(epoch.cost for epoch in epochs) / len(epochs)
    correct = sum(epoch.correct for epoch in epochs)
    predicted = np.sum([epoch.predicted for epoch in epochs], axis=0)
    total = predicted.sum()
    digit = predicted.argmax()
    row = [Cell("cost", ">11", cost_text(cost))]
    if len(epochs) == 1:
        row.append(Cell("correct", ">8", str(correct)))
    row.append(Cell("accuracy", ">9", f"{correct / total:.2%}"))
    if len(epochs) > 1:
        accuracies = [epoch.accuracy for epoch in epochs]
        row.append(Cell("lowest", ">8", f"{min(accuracies):.2%}"))
        row.append(Cell("highest", ">8", f"{max(accuracies):.2%}"))
    # The blank sets this column, which is aligned to the left, apart from the numbers.
    row.append(Cell(" most predicted", "<", f" {digit} ({predicted[digit] / total:.2%})"))
    return row


def printed_name(name: str, style: str) -> str:
    """Return a name of runs; in Markdown as code, as some forums make a dash of two hyphens."""
    if style == "markdown" and name.startswith("--"):
        return f"`{name}`"
    return name


def cost_text(cost: float, digits: int = 6) -> str:
    """Return a cost with `digits` decimals, or, if it is large, with an exponent."""
    if cost < 1000:
        return f"{cost:.{digits}f}"
    return f"{cost:.2e}"


LETTERS = "ABCD"
MOST_ABREAST = len(LETTERS)


def epoch_row(label: str, epochs: list[Epoch]) -> list[Cell]:
    """Return the row of this label for an epoch of one to MOST_ABREAST runs, side by side."""
    if len(epochs) == 1:
        return [Cell("epoch", ">8", label)] + results_of(epochs)
    row = [Cell("epoch", ">5", label)]
    for letter, epoch in zip(LETTERS, epochs):
        row.append(Cell(f"{letter}: cost", ">8", cost_text(epoch.cost, 4)))
        row.append(Cell("accuracy", ">8", f"{epoch.accuracy:.2%}"))
    return row


def epoch_rows(trained: Iterable[Group]) -> Iterator[list[Cell]]:
    """Yield a row for each epoch, in which all runs stand side by side."""
    for runs in trained:
        yield epoch_row(str(len(runs[0].epochs) - 1), [run.epochs[-1] for run in runs])


def end_rows(
    ended: Iterable[Variant], variants: list[Variant], baseline: Epoch, style: str
) -> Iterator[list[Cell]]:
    """Yield a row for each variant, with the means of its seeds, and then the baseline's.

    `ended` are the variants one by one, each when its training has ended; `variants` are all of
    them: the table is as wide as their names need.
    """
    names = ["baseline"] + [variant[0].name for variant in variants]
    width = max(len(name) for name in names)
    for runs in ended:
        last = [run.epochs[-1] for run in runs]
        yield end_row(printed_name(runs[0].name, style), width, str(runs[0].steps), last)
    # As many as there are seeds, so that the columns are those of the other rows.
    of_each_seed = [baseline] * len(variants[0])
    yield end_row("baseline", width, "", of_each_seed)


def end_row(name: str, width: int, steps: str, epochs: list[Epoch]) -> list[Cell]:
    """Return the row for the last epoch of a run, or of those that differ in their seed."""
    return [Cell("", f"<{width}", name), Cell("steps", ">7", steps)] + results_of(epochs)


def csv_rows(trained: Iterable[Group]) -> Iterator[list[Cell]]:
    """Yield a row for each epoch of each run, with the run's settings."""
    for runs in trained:
        for run in runs:
            yield csv_row(run)


def csv_row(run: Run) -> list[Cell]:
    """Return the row for a run's last epoch, with the cost in full precision."""
    epoch = run.epochs[-1]
    values = asdict(run.settings)
    if not run.settings.hidden:
        values["prime"] = "none"
    values["epoch"] = len(run.epochs) - 1
    values["steps"] = run.steps
    values["cost"] = epoch.cost
    values["correct"] = epoch.correct
    values["total"] = sum(epoch.predicted)
    values["top_digit"] = int(np.argmax(epoch.predicted))
    values["top_count"] = max(epoch.predicted)
    return [Cell(heading, "", str(value)) for heading, value in values.items()]


def print_diagnosis(
    runs: list[Run], before: list[list[Measurement]], after: list[list[Measurement]], style: str
) -> None:
    """Print what was measured of each run before and after its training."""
    labels = [printed_name(run.name, style) for run in runs]
    if len(set(labels)) < len(runs):
        labels = [f"{label}, seed {run.settings.seed}" for label, run in zip(labels, runs)]
    width = max(len(label) for label in labels)
    rows = []
    for label, its_before, its_after in zip(labels, before, after):
        for when, measurements in (("before", its_before), ("after", its_after)):
            row = [Cell("", f"<{width}", label), Cell("training", ">8", when)]
            for measurement in measurements:
                row.append(Cell(measurement.heading, ">10", f"{measurement.value:.3g}"))
            rows.append(row)
    click.echo()
    for measurement in before[0]:
        click.echo(f"- {measurement.heading}: {measurement.explanation}")
    click.echo()
    print_table(rows, style)


BLANKS = " " * 39  # They erase the last text, and fit into a narrow terminal.


def show_progress(text: str) -> None:
    """Show a text in place of the last one, if standard error is a terminal."""
    isatty = getattr(sys.stderr, "isatty", None)  # None in some editors
    if isatty and isatty() and os.environ.get("TERM") != "dumb":
        click.echo(f"\r{BLANKS}\r{text}", nl=False, err=True)


# The picture


def check_picture(path: Path) -> None:
    """Raise UsageError if a picture cannot be drawn: before the training, and not after it."""
    option = as_option("plot", path)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise click.UsageError(f"{option}: the name has to end in .png, .svg or .pdf.")
    written = path if path.exists() else path.parent
    if not os.access(written, os.W_OK):
        raise click.UsageError(f"{option}: no file can be written there.")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        install = f"{quoted(sys.executable)} -m pip install matplotlib"
        raise click.UsageError(f"--plot needs matplotlib: {install}") from None


def draw_picture(
    variants: list[Variant], by_steps: bool, baseline: Epoch, training: Images, path: Path
) -> None:
    """Draw cost and accuracy of all runs over the epochs, and z2 before the training.

    `by_steps`: over the steps, and without z2. z2 is that of each variant's first run, for the
    images that `examine` takes.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    has_z2 = variants[0][0].settings.hidden > 0 and not by_steps
    panels = 3 if has_z2 else 2
    figure = Figure((7, 3 * panels + 0.25 * len(variants)), layout="constrained")
    axes = figure.subplots(panels)
    cost_axis, accuracy_axis = axes[:2]
    for number, variant in enumerate(variants):
        later = len(variants) - 1 - number
        look = {
            "color": f"C{number % 7}",  # The eighth colour is grey.
            "linestyle": ["-", "--", ":"][number // 7 % 3],
            "linewidth": 1 + 4 * later / len(variants),  # Where lines coincide, all are seen.
        }
        for run in variant:
            costs = [epoch.cost for epoch in run.epochs]
            accuracies = [100 * epoch.accuracy for epoch in run.epochs]
            x = np.arange(len(run.epochs))
            if by_steps:
                x = (x + 1) * (run.steps // len(run.epochs))
            cost_axis.plot(x, costs, marker=".", **look)
            [line] = accuracy_axis.plot(x, accuracies, marker=".", **look)
        line.set_label(variant[0].name)  # The line of the last seed is named for all.
        if has_z2:
            settings = variant[0].settings  # whose first weights are drawn again
            untrained = initial_network(settings, np.random.RandomState(settings.seed))
            zs, _ = untrained.feedforward(examined(training))
            counts, edges = np.histogram(zs[0], 100)
            axes[2].stairs(counts / counts.max(), edges, **look)
    cost_axis.set(ylabel="cost, training images", yscale="log")
    cost_axis.margins(y=0.2)
    cost_axis.yaxis.set_minor_locator(LogLocator(subs=[2, 5]))
    cost_axis.yaxis.set_major_formatter("{x:g}")  # 1 and 10, not powers of 10
    cost_axis.yaxis.set_minor_formatter("{x:g}")
    accuracy_axis.set(ylabel="accuracy in %, test images", ylim=(0, 100))
    for axis, height in ((cost_axis, baseline.cost), (accuracy_axis, 100 * baseline.accuracy)):
        if by_steps:
            axis.set(xlabel="steps", xscale="log")
            axis.xaxis.set_minor_locator(LogLocator(subs=[3]))
            axis.xaxis.set_major_formatter("{x:,.0f}")
            axis.xaxis.set_minor_formatter("{x:,.0f}")
        else:
            axis.set(xlabel="epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
        axis.axhline(height, color="0.5")
        write_above_line(axis, height, "baseline, which ignores the image")
    if has_z2:
        left, right = axes[2].get_xlim()
        z = np.linspace(min(left, -10), max(right, 10), 1001)
        axes[2].plot(z, sigmoid(z), color="0.5")
        axes[2].set(
            xlabel="z2 before the training", ylabel="frequency of z2, scaled", ylim=(0, 1.2)
        )
        write_above_line(axes[2], 1, "sigmoid")
    if len(variants) > 1:
        figure.legend(loc="outside lower center")
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:], dpi=120)
    # Only now is the file touched: until here, Ctrl-C leaves an older picture as it was.
    path.write_bytes(picture.getvalue())


def write_above_line(axis: Any, y: float, text: str) -> None:
    """Write a text above the right end of a line, which is at the height `y` there."""
    axis.annotate(
        text,
        xy=(0.99, y),
        xycoords=axis.get_yaxis_transform(),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
    )


# The command


class WholeNumber(click.IntRange):
    """An int; in errors "a valid whole number", where click has "a valid integer range"."""

    name = "whole number"


class Number(click.FloatRange):
    """A finite float; in errors "a valid number", where click has "a valid float range"."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def as_option(name: str, value: object) -> str:
    """Return the option that sets `name`, a setting or a parameter of `main`, to `value`."""
    if name == "prime":
        return f"--{value}-prime"
    text = str(value)
    if isinstance(value, float):
        text = text.removesuffix(".0")
    return f"--{name.replace('_', '-')} {quoted(text)}"


def quoted(word: str) -> str:
    """Return a word of a command as the shell of this system wants it."""
    if os.name == "nt":
        return subprocess.list2cmdline([word])
    return shlex.quote(word)


def encodable(text: str) -> str:
    """Return a text with an escape for each character that standard output cannot encode."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def distinct(values: Iterable[Any]) -> list[Any]:
    """Return the values in their order, each once."""
    return list(dict.fromkeys(values))


def combined_changes(values: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Return all combinations of the options that have several values: [{}] if none has.

    Options that have one value, or none, are left out.
    """
    several = {name: choices for name, choices in values.items() if len(choices) > 1}
    return [dict(zip(several, choice)) for choice in itertools.product(*several.values())]


def single_changes(given: Settings, n: int) -> list[dict[str, Any]]:
    """Return no change, and then each of the SUSPECTS that changes `given`, for n images."""
    changes: list[dict[str, Any]] = [{}]
    for name, value in SUSPECTS:
        if name == "batch_size":
            value = min(value, n)  # The full batch is n here, as it is in `given`.
        if needs_hidden_layer(name, value) and not given.hidden:
            continue
        change = {name: value}
        # With 1,000 images or fewer, two of the suspects are the full batch.
        if value != getattr(given, name) and change not in changes:
            changes.append(change)
    return changes


def needs_hidden_layer(name: str, value: Any) -> bool:
    """Return whether a setting's value has a meaning with a hidden layer only."""
    if name == "init":
        w2, w3 = INITS[value]
        return w2 != w3
    return name == "prime"


def variant_of(given: Settings, change: dict[str, Any], seeds: int) -> Variant:
    """Return the runs of the settings given, with this change: one for each seed."""
    name = " ".join(as_option(setting, value) for setting, value in change.items())
    settings = replace(given, **change)
    variant = []
    for seed in range(given.seed, given.seed + seeds):
        variant.append(Run(replace(settings, seed=seed), name))
    return variant


def title_of(runs: list[Run], n: int) -> str:
    """Return the title: what all runs have in common. `n` is the number of training images."""
    layers = "784-10"
    if runs[0].settings.hidden:
        layers = f"784-{runs[0].settings.hidden}-10"
    title = f"{layers} sigmoid network, cross-entropy, {n:,} training images"
    sizes = distinct(run.settings.batch_size for run in runs)
    if sizes == [n]:
        title += ", full batch"
    elif len(sizes) == 1:
        title += f", batches of {sizes[0]:,}"
    return title


def command_of(
    values: dict[str, list[Any]], suspects: bool, seeds: int, epochs: int, data: Path | None
) -> str:
    """Return the command that gives the same costs and accuracies."""
    words = ["python reproduce.py"]
    for name, choices in values.items():
        words += [as_option(name, value) for value in choices]
    if suspects:
        words.append("--suspects")
    if seeds > 1:
        words.append(as_option("seeds", seeds))
    words.append(as_option("epochs", epochs))
    if data:
        words.append(as_option("data", data))
    return " ".join(words)


def notes(
    variants: list[Variant], epoch_by_epoch: bool, suspects: bool, n_test: int, style: str
) -> Iterator[str]:
    """Yield what a reader must know who has nothing but the printed rows."""
    epoch = "the last epoch"
    hint = ""
    if epoch_by_epoch:
        epoch = "the epoch"
        hint = "; epoch 0 is the first"
    yield f"cost: mean over the training images in {epoch}, each image's before its step"
    yield f"accuracy: on {n_test:,} test images, after {epoch}{hint}"
    yield "most predicted: the digit, and its share of all predictions for these images"
    yield "baseline: a network that ignores the image and knows how often each digit occurs"
    first = variants[0][0].settings
    last = variants[0][-1].settings
    if first.seed < last.seed:
        seeds = f"seeds {first.seed} to {last.seed}"
        yield f"{seeds}: means; lowest and highest accuracy; most predicted by all together"
    if suspects:
        yield "the network: that of the command; the other rows: the same with one change"
    if first.hidden:
        yield "buggy derivative: sigmoid_prime(a2) for w2, b2; fixed: a2 * (1 - a2)"
    names = [variant[0].name for variant in variants]
    inits = {variant[0].settings.init for variant in variants}
    if inits & {"rand-0.5-w2", "rand-0.5-w3"}:
        yield "rand-0.5-w2: minus 1/2 for w2 and b2 only; rand-0.5-w3: for w3 and b3 only"
    if epoch_by_epoch and len(names) > 1:
        for letter, name in zip(LETTERS, names):
            yield f"{letter}: {printed_name(name, style)}"


repeatable = partial(click.option, multiple=True)
EXAMPLES = """\b
Examples:
  python reproduce.py --hidden 30 --buggy-prime
  python reproduce.py --hidden 30 --buggy-prime --suspects --seeds 5
  python reproduce.py --hidden 30 --init rand --init rand-0.5 --plot init.png
"""


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True}, epilog=EXAMPLES
)
@click.option(
    "--hidden",
    type=WholeNumber(0, 10_000),
    metavar="N",
    default=Settings.hidden,
    help="Number of neurons of the hidden layer. 0: there is no hidden layer.",
)
@click.option(
    "--buggy-prime",
    "buggy",
    is_flag=True,
    help="* Backpropagate with sigmoid_prime(a2), the wrong derivative of the question: "
    "a2 is the sigmoid's output, not its input.",
)
@click.option(
    "--fixed-prime",
    "fixed",
    is_flag=True,
    help="* Backpropagate with a2 * (1 - a2), the right derivative: the default "
    "with a hidden layer.",
)
@repeatable(
    "--init",
    type=click.Choice(list(INITS)),
    default=[Settings.init],
    help="* How weights and biases are drawn: rand (uniform, 0 to 1), rand-0.5 (the same minus "
    "1/2; with -w2, for w2 and b2 only, with -w3, for w3 and b3 only), randn (standard normal). "
    "With -fan-in, each weight is divided by the square root of its neuron's number of inputs. "
    "glorot: uniform as Glorot and Bengio have it.",
)
@repeatable(
    "--init-scale",
    type=Number(min=0),
    metavar="R",
    default=[Settings.init_scale],
    help="* A factor by which weights and biases are multiplied.",
)
@repeatable(
    "--eta",
    type=Number(min=0, min_open=True),
    metavar="X",
    default=[Settings.eta],
    help="* The learning rate.",
)
@repeatable(
    "--batch-size",
    type=WholeNumber(1),
    metavar="M",
    show_default="all training images",
    help="* Images per step of gradient descent.",
)
@click.option(
    "--suspects",
    is_flag=True,
    help="Run the network as given, and then again with one change at a time: the full batch, "
    f"{', '.join(as_option(name, value) for name, value in SUSPECTS if value != FULL_BATCH)}; "
    "what changes nothing, or needs a hidden layer that is not there, is skipped.",
)
@click.option(
    "--seed",
    type=WholeNumber(0, 2**32 - 1),
    metavar="N",
    default=Settings.seed,
    help="Seed for the weights and the order of the images, as for np.random.seed.",
)
@click.option(
    "--seeds",
    type=WholeNumber(1, 1000),
    metavar="N",
    default=1,
    help="Repeat each run with N seeds, from --seed on.",
)
@click.option(
    "--dtype", type=click.Choice(DTYPES), default=Settings.dtype, help="Precision of the numbers."
)
@click.option(
    "--epochs",
    type=WholeNumber(1),
    metavar="N",
    show_default="30, or 100 without a hidden layer",
    help="Passes over the training images.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="PATH",
    show_default="the MNIST files beside this script",
    help="Other images: a pickle like Nielsen's mnist.pkl.gz, or a folder with four files like "
    "those of MNIST, packed or not. Of a folder's training images the last sixth is kept for "
    "validation, and not used here.",
)
@click.option(
    "--every",
    type=WholeNumber(1),
    metavar="N",
    default=1,
    help="Print only every N-th epoch, and the last (where epochs are shown).",
)
@click.option(
    "--diagnose",
    is_flag=True,
    help="Measure the hidden layer and the gradient before and after the training. "
    "Not with --format csv.",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "markdown", "csv"]),
    default="table",
    help="How results are printed. csv has each run's epochs, and costs that are not rounded.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw cost, accuracy and the hidden layer's weighted inputs z2 into a file, whose name "
    "ends in .png, .svg or .pdf; needs matplotlib. With --batch-size given several times, cost "
    "and accuracy are drawn over the number of steps, without z2.",
)
@click.version_option(__version__)
@np.errstate(all="ignore")  # for all but the training, which does it for itself
def main(
    hidden: int,
    buggy: bool,
    fixed: bool,
    init: tuple[str, ...],
    init_scale: tuple[float, ...],
    eta: tuple[float, ...],
    batch_size: tuple[int, ...],
    suspects: bool,
    seed: int,
    seeds: int,
    dtype: str,
    epochs: int | None,
    data: Path | None,
    every: int,
    diagnose: bool,
    style: str,
    plot: Path | None,
) -> None:
    """Train a network of sigmoid neurons on MNIST, and print cost and accuracy.

    Options marked * may be given several times, as in --eta 1 --eta 2, or together, as in
    --buggy-prime --fixed-prime: all combinations are run. If a run diverges, the command ends.

    For up to four runs, the epochs are shown side by side. For more, and with --seeds, only the
    last epoch is shown (--format csv has the epochs of all runs).
    """
    if not hidden:
        flags = {"--buggy-prime": buggy, "--fixed-prime": fixed, "--diagnose": diagnose}
        words = [flag for flag, is_given in flags.items() if is_given]
        words += [as_option("init", name) for name in init if needs_hidden_layer("init", name)]
        if words:
            raise click.UsageError(f"{words[0]} needs a hidden layer: add --hidden 30.")
    if seed + seeds > 2**32:
        raise click.UsageError(
            f"--seed {seed} --seeds {seeds}: there is no seed above {2**32 - 1}."
        )
    if diagnose and style == "csv":
        raise click.UsageError("--diagnose has no csv form: choose another --format.")
    if plot:
        check_picture(plot)
    try:
        training, test = load_images(data)
    except mnist_loader.DataError as error:
        raise click.ClickException(str(error)) from None
    n = len(training)
    sizes = [min(size, n) for size in batch_size]
    if not sizes:
        sizes = [n]  # the full batch
    if epochs is None:
        epochs = 30 if hidden else 100

    primes = []  # It stays empty without a hidden layer: `given` then has the default.
    if buggy:
        primes.append("buggy")
    if fixed or (hidden and not buggy):
        primes.append("fixed")
    values: dict[str, list[Any]] = {  # of all Settings; those marked * may have several
        "hidden": [hidden],
        "prime": primes,
        "init": distinct(init),
        "init_scale": distinct(init_scale),
        "eta": distinct(eta),
        "batch_size": distinct(sizes),
        "seed": [seed],
        "dtype": [dtype],
    }
    given = Settings(**{name: choices[0] for name, choices in values.items() if choices})
    changes = combined_changes(values)  # to `given`, one for each variant
    if suspects:
        if len(changes) > 1:
            raise click.UsageError(
                "--suspects changes one network: give one value of each option, and one derivative."
            )
        changes = single_changes(given, n)
    variants = [variant_of(given, change, seeds) for change in changes]
    runs = [run for variant in variants for run in variant]
    baseline = baseline_of(training, test)
    # One run, or a few side by side, are shown epoch by epoch, and all others when they have ended.
    epoch_by_epoch = len(variants) <= MOST_ABREAST and seeds == 1

    if style != "csv":
        click.echo(title_of(runs, n))
        command = command_of(values, suspects, seeds, epochs, data)
        click.echo(f"\n    {encodable(command)}\n")
        for note in notes(variants, epoch_by_epoch, suspects, len(test), style):
            click.echo(f"- {note}")
        click.echo()
    before = []
    if diagnose:
        before = [examine(run.network, training) for run in runs]

    groups = [runs] if epoch_by_epoch else variants
    shown = range(0)  # no epoch is printed but the last
    if epoch_by_epoch or style == "csv":
        shown = range(0, epochs, every)
    # Nothing is trained yet: it is done when the tables ask for their rows.
    trained = train(groups, epochs, shown, training, test)
    try:
        if style == "csv":
            print_table(csv_rows(trained), style)
        elif len(runs) == 1:
            last = epoch_row("baseline", [baseline])
            print_table(itertools.chain(epoch_rows(trained), [last]), style)
        elif epoch_by_epoch:
            print_table(epoch_rows(trained), style)
            click.echo("\nThe last epoch:\n")
            ended = variants  # all of them, by the table above
            print_table(end_rows(ended, variants, baseline, style), style)
        else:  # Each group is a variant, and is yielded when it has ended.
            print_table(end_rows(trained, variants, baseline, style), style)
    except DivergenceError as error:
        raise click.ClickException(str(error)) from None

    if diagnose:
        after = [examine(run.network, training) for run in runs]
        print_diagnosis(runs, before, after, style)
    if plot:
        by_steps = len(values["batch_size"]) > 1
        draw_picture(variants, by_steps, baseline, training, plot)


if __name__ == "__main__":
    main()
