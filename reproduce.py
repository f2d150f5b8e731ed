# /// script
# requires-python = ">=3.10"
# dependencies = ["click>=8.1", "numpy>=1.22"]
# ///
"""Why does this network learn nothing? Cross Validated question 374415, reproduced.

The question (https://stats.stackexchange.com/q/374415) trains a 784-10 and a 784-30-10
network of sigmoid neurons on MNIST by full-batch gradient descent. The first learns; the
second calls every digit a 1. This script gives the question's own numbers, and replaces
each suspect on its own: derivative, sign and size of the weights, batch size, eta, steps.

    python reproduce.py                               784-10, 100 epochs: cost 1.377489, 8653 right
    python reproduce.py --hidden 30 --buggy-prime     784-30-10, 30 epochs: 3.248736, 1135 right

The names are those of Nielsen's book "Neural Networks and Deep Learning".
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import itertools
import math
import os
import shlex
import signal
import string
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

# The threads are ours, over blocks of images. BLAS must not start its own in each of them,
# and reads how many it may start when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("VECLIB_MAXIMUM_THREADS", "1")

import click
import numpy as np

import mnist_loader

__version__ = "3.0"

Array = np.ndarray[Any, Any]
Gradient = tuple[float, list[Array], list[Array]]  # a cost, and its nabla_w and nabla_b by layer


# The network


def sigmoid(z: Array) -> Array:
    """Return 1/(1 + e^-z) for each element of `z`, in its shape and dtype."""
    return 1.0 / (1.0 + np.exp(-z))  # Where e^-z overflows, 1/inf is the 0 it should be.


def sigmoid_prime(z: Array) -> Array:
    """Return the derivative of the sigmoid at `z`."""
    return sigmoid(z) * (1.0 - sigmoid(z))


def buggy_prime(a: Array) -> Array:
    """Return what the question has: sigmoid_prime, which expects z2 and is given a2."""
    return sigmoid_prime(a)  # As a is 0 to 1, it is 0.25 to 0.1966, and never near 0.


def fixed_prime(a: Array) -> Array:
    """Return the derivative of the sigmoid where its output is `a`."""
    return a * (1.0 - a)


def cross_entropy(z: Array, y: Array) -> float:
    """Return the sum of -[y ln a + (1-y) ln(1-a)] over all elements, a = sigmoid(z).

    `z`, weighted inputs, and `y`, bool and one-hot, have the shape (10, m). With
    ln a = -ln(1 + e^-z) and ln(1-a) = -ln(1 + e^z) it is accurate where a is rounded to 0 or 1.
    """
    return float(np.logaddexp(0, np.where(y, -z, z)).sum(dtype=np.float64))


@dataclass
class Network:
    """A network of sigmoid neurons with the cross-entropy cost.

    For layers of sizes [784, hidden, 10] or [784, 10], weights[l] has shape (sizes[l+1],
    sizes[l]) and biases[l] (sizes[l+1], 1). With a hidden layer, weights[0] is w2 and
    weights[1] is w3. `prime` is the derivative of the sigmoid, given its output.
    """

    weights: list[Array]
    biases: list[Array]
    prime: Callable[[Array], Array] = fixed_prime

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

    def backprop(self, x: Array, y: Array) -> Gradient:
        """Return the cost of m images, nabla_w and nabla_b, each summed over the images.

        `x` has shape (784, m); `y`, bool and one-hot, (10, m). These are equations BP1
        to BP4 of Nielsen's chapter 2, BP1 in the form of chapter 3 for cross-entropy.
        """
        zs, activations = self.feedforward(x)
        delta = activations[-1] - y  # BP1
        nabla_b = [delta.sum(axis=1, keepdims=True)]  # BP3
        nabla_w = [delta @ activations[-2].T]  # BP4
        for layer in range(len(self.weights) - 1, 0, -1):
            delta = (self.weights[layer].T @ delta) * self.prime(activations[layer])  # BP2
            nabla_b.insert(0, delta.sum(axis=1, keepdims=True))
            nabla_w.insert(0, delta @ activations[layer - 1].T)
        return cross_entropy(zs[-1], y), nabla_w, nabla_b

    def step(self, rate: float, nabla_w: list[Array], nabla_b: list[Array]) -> None:
        """Subtract `rate` times the gradient, which it overwrites, from the weights and biases."""
        for parameter, nabla in zip(self.weights + self.biases, nabla_w + nabla_b):
            nabla *= rate
            parameter -= nabla

    def restricted_to(self, pixels: Array | slice) -> Network:
        """Return the same network for images of which only these pixels are given."""
        if pixels is ALL:
            return self
        weights = self.weights.copy()
        weights[0] = weights[0][:, pixels]
        return replace(self, weights=weights)


# The images

DIGITS = np.arange(10)[:, np.newaxis]  # labels == DIGITS is one-hot, a column for each label
ALL = slice(None)
BLOCK = 1000  # images of the full batch in a block, which stays in the cache
SHARED = 500  # images of a mini-batch in a block; a smaller one is not worth a thread


class Block(NamedTuple):
    """The images that a thread works on at a time: some rows and some pixels of `images`."""

    images: Array  # float32
    labels: Array  # of the m images of the block, shape (m,)
    rows: Array | slice = ALL  # which rows of `images` are those m images
    pixels: Array | slice = ALL  # which pixels a row has; the others of the 784 are 0

    def x(self, dtype: np.dtype[Any]) -> Array:
        """Return the m images as columns, a row for each pixel.

        They are kept as float32, and fetched and converted here, by the thread that needs
        them: that halves the memory, and takes no longer than reading float64 would.
        """
        return self.images[self.rows].T.astype(dtype, copy=False)


class Images:
    """Images, float32 of shape (n, 784), and their labels, (n,)."""

    def __init__(self, images: Array, labels: Array) -> None:
        self.images = images
        self.labels = labels

    @cached_property
    def blocks(self) -> list[Block]:
        """All images, in blocks of like images, without the pixels that are 0 in a block.

        There the gradient is 0, too. Images that are sorted by the top, right and left edge
        of what is drawn have more such pixels in common.
        """
        square = self.images.reshape(-1, 28, 28)
        rows = square.any(axis=2)
        columns = square.any(axis=1)
        top = rows.argmax(axis=1)
        left = columns.argmax(axis=1)
        right = np.fliplr(columns).argmax(axis=1)
        order = np.lexsort((left, right, top))
        blocks = []
        for start in range(0, len(order), BLOCK):
            indices = order[start : start + BLOCK]
            images = self.images[indices]
            pixels = np.flatnonzero(images.any(axis=0))
            lit = images.take(pixels, axis=1)
            blocks.append(Block(lit, self.labels[indices], pixels=pixels))
        return blocks

    def batches(self, size: int | None, random: np.random.RandomState) -> Iterator[list[Block]]:
        """Yield the batches of an epoch, each as its blocks; the last batch may be smaller.

        If `size` is None, or all images or more, the only batch is the full one, and no random
        numbers are drawn.
        """
        n = len(self.labels)
        if size is None or size >= n:
            yield self.blocks
            return
        order = random.permutation(n)
        for start in range(0, n, size):
            indices = order[start : start + size]
            batch = []
            for i in range(0, len(indices), SHARED):
                shared = indices[i : i + SHARED]
                batch.append(Block(self.images, self.labels[shared], rows=shared))
            yield batch


def load_images(path: Path | None = None) -> tuple[Images, Images]:
    """Return the training and the test images of MNIST, or of another folder or file.

    Raises mnist_loader.DataError if they cannot be used.
    """
    (images, labels), _, (test_images, test_labels) = mnist_loader.load_data(path)
    return Images(images, labels), Images(test_images, test_labels)


# Where a run starts


def rand_minus_half(random: np.random.RandomState, rows: int, columns: int) -> Array:
    """Return an array that is uniform from -1/2 to 1/2, by the same draws as `rand`."""
    return random.rand(rows, columns) - 0.5


PRIMES = {"buggy": buggy_prime, "fixed": fixed_prime}
INITS: dict[str, Callable[[np.random.RandomState, int, int], Array]] = {
    "rand": np.random.RandomState.rand,
    "rand-0.5": rand_minus_half,
    "randn": np.random.RandomState.randn,
}
DTYPES = ["float64", "float32"]


@dataclass(frozen=True)
class Settings:
    """What defines a run, but for the data and the number of epochs.

    `init` and `init_scale` are of both layers, or two with a comma, "rand-0.5,rand": of the
    hidden layer (w2, b2), of the output layer (w3, b3). Raises ValueError if `prime`, `init`,
    `init_scale` or `dtype` is not known.
    """

    hidden: int = 0  # neurons; 0 is the 784-10 network
    prime: str = "fixed"  # a key of PRIMES, which only a hidden layer uses
    init: str = "rand"  # a key of INITS
    init_scale: float | str = 1  # a factor, or "fan-in"
    eta: float = 0.5
    batch_size: int | None = None  # images per step; None is all of them, the full batch
    seed: int = 0
    dtype: str = "float64"  # of DTYPES

    def __post_init__(self) -> None:
        if self.prime not in PRIMES:
            raise ValueError(f"prime {self.prime!r} is not one of {', '.join(PRIMES)}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")
        for init in self.of_layers(self.init):
            if init not in INITS:
                raise ValueError(f"init {init!r} is not one of {', '.join(INITS)}")
        for scale in self.of_layers(self.init_scale):
            if scale != "fan-in" and not 0 <= float(scale) < math.inf:
                raise ValueError(f"init_scale {scale!r} is neither fan-in nor a number from 0 on")

    @property
    def sizes(self) -> list[int]:
        """The number of neurons in each layer, pixels first."""
        if self.hidden:
            return [784, self.hidden, 10]
        return [784, 10]

    def of_layers(self, setting: float | str) -> list[str]:
        """Return `init` or `init_scale` layer by layer, the hidden layer first."""
        layers = len(self.sizes) - 1
        values = str(setting).split(",")
        if len(values) == 1:
            return values * layers
        if len(values) != layers:
            raise ValueError(f"{setting!r} has {len(values)} parts; layers with weights: {layers}")
        return values


def initial_network(settings: Settings, random: np.random.RandomState) -> Network:
    """Return the network that a run starts from.

    The draws are those of the question's script: all weights, layer by layer, then all
    biases, uniform from 0 to 1 ("rand"), the same minus 1/2, or standard normal ("randn").
    A factor multiplies all of them, as r in the question; "fan-in" divides each weight by
    the square root of its neuron's number of inputs (Nielsen, chapter 3), but no bias.
    """
    sizes = settings.sizes
    inits = settings.of_layers(settings.init)
    weights = []
    biases = []
    for layer, init in enumerate(inits):
        weights.append(INITS[init](random, sizes[layer + 1], sizes[layer]))
    for layer, init in enumerate(inits):
        biases.append(INITS[init](random, sizes[layer + 1], 1))
    for layer, scale in enumerate(settings.of_layers(settings.init_scale)):
        if scale == "fan-in":
            weights[layer] /= math.sqrt(sizes[layer])
        else:
            weights[layer] *= float(scale)
            biases[layer] *= float(scale)
    return Network(
        [w.astype(settings.dtype) for w in weights],
        [b.astype(settings.dtype) for b in biases],
        PRIMES[settings.prime],
    )


class Epoch(NamedTuple):
    """What is reported of an epoch, a pass over the training images.

    `cost` is the mean over these images; that of each is computed before the step that uses
    it. `correct` counts the test images that are classified rightly after the epoch, and
    `predicted[j]` those that are taken for a j.
    """

    cost: float
    correct: int
    predicted: list[int]

    @property
    def total(self) -> int:
        """How many test images there are."""
        return sum(self.predicted)

    @property
    def accuracy(self) -> float:
        """The share of the test images that are classified rightly."""
        return self.correct / self.total

    @property
    def most_predicted(self) -> tuple[int, float]:
        """The digit that is predicted most often, and its share of the test images."""
        count = max(self.predicted)
        return self.predicted.index(count), count / self.total


@dataclass
class Run:
    """A network in training, and what has become of it so far."""

    settings: Settings
    name: str = ""  # what reports call it beside others: a letter, or its options
    options: str = ""  # what tells it from the others
    group: str = ""  # the name that it shares with runs that differ in their seed alone
    epochs: list[Epoch] = field(default_factory=list)
    steps: int = 0
    random: np.random.RandomState = field(init=False)  # of the weights, then the images' order
    network: Network = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.RandomState(self.settings.seed)
        self.network = initial_network(self.settings, self.random)


# Training


class DivergenceError(click.ClickException):
    """A weight has become so large that products overflow. It ends the command in one line."""


def train_epoch(
    run: Run, training: Images, test: Images, progress: Callable[[int], None] | None = None
) -> None:
    """Train a run's network for an epoch by gradient descent, and add it to `run.epochs`.

    A step is eta/m times the gradient, summed over the m images of a batch. After each step
    `progress` is called with 1. Raises DivergenceError.
    """
    network = run.network
    settings = run.settings
    cost = 0.0
    for batch in training.batches(settings.batch_size, run.random):
        batch_cost, nabla_w, nabla_b = gradient(network, batch)
        m = sum(len(block.labels) for block in batch)
        network.step(settings.eta / m, nabla_w, nabla_b)
        cost += batch_cost
        run.steps += 1
        if progress:
            progress(1)
    limit = math.sqrt(np.finfo(settings.dtype).max)  # No product of two overflows below it.
    for parameter in network.weights + network.biases:
        if not np.abs(parameter).max() <= limit:  # This way round, nan is caught, too.
            where = f"epoch {len(run.epochs)}"
            if run.name:
                where += f" of {run.name}"
            raise DivergenceError(
                f"{where}: the weights are larger than {limit:.1e}, or not numbers; "
                "try a smaller --eta or --init-scale."
            )
    correct, predicted = evaluate(network, test)
    run.epochs.append(Epoch(cost / len(training.labels), correct, predicted))


if sys.platform == "linux":
    CORES = len(os.sched_getaffinity(0))
else:
    CORES = os.cpu_count() or 1
POOL = ThreadPoolExecutor(CORES)


def gradient(network: Network, batch: list[Block]) -> Gradient:
    """Return the cost of a batch, nabla_w and nabla_b, each summed over its images."""
    if len(batch) == 1 and batch[0].pixels is ALL:
        return block_gradient(network, batch[0])  # a small mini-batch: nothing to share or add
    cost = 0.0
    nabla_w = [np.zeros_like(w) for w in network.weights]
    nabla_b = [np.zeros_like(b) for b in network.biases]
    results = POOL.map(partial(block_gradient, network), batch)
    # Added in the order of the blocks, the sums do not depend on the number of threads.
    for block, (block_cost, block_nabla_w, block_nabla_b) in zip(batch, results):
        cost += block_cost
        nabla_w[0][:, block.pixels] += block_nabla_w[0]
        for nabla, block_nabla in zip(nabla_w[1:] + nabla_b, block_nabla_w[1:] + block_nabla_b):
            nabla += block_nabla
    return cost, nabla_w, nabla_b


def block_gradient(network: Network, block: Block) -> Gradient:
    """Return what `gradient` does, of one block; nabla_w[0] has its pixels' columns only."""
    x = block.x(network.weights[0].dtype)
    y = block.labels == DIGITS
    return network.restricted_to(block.pixels).backprop(x, y)


def evaluate(network: Network, test: Images) -> tuple[int, list[int]]:
    """Return how many images are classified rightly, and how many as 0, as 1, ... as 9."""
    digits = np.concatenate(list(POOL.map(partial(classify, network), test.blocks)))
    labels = np.concatenate([block.labels for block in test.blocks])
    return int(np.sum(digits == labels)), np.bincount(digits, minlength=10).tolist()


def classify(network: Network, block: Block) -> Array:
    """Return the digits, shape (m,), that the network takes the images of a block for.

    The digit is the argmax of the activations, not of z: where they are rounded to 1
    they tie, and the lowest digit wins, as it does in the question.
    """
    x = block.x(network.weights[0].dtype)
    _, activations = network.restricted_to(block.pixels).feedforward(x)
    digits: Array = activations[-1].argmax(axis=0)
    return digits


def baseline(training: Images, test: Images) -> Epoch:
    """Return the epoch of a network that ignores the image.

    Its outputs are the frequencies p of the digits among the training labels, its
    cost the entropy -sum(p ln p + (1-p) ln(1-p)): no other constants have a lower one.
    """
    p = np.bincount(training.labels, minlength=10) / len(training.labels)
    cost = 0.0
    for q in np.concatenate([p, 1 - p]):
        if q > 0:
            cost -= float(q * np.log(q))
    digit = int(p.argmax())
    predicted = [0] * 10
    predicted[digit] = len(test.labels)
    return Epoch(cost, int(np.sum(test.labels == digit)), predicted)


# What is measured

EXAMINED = 1000  # training images, the first, of which z2 and a2 are looked at
CHECKED = 20  # training images, the first, of which the gradient is checked


class Figures(NamedTuple):
    """What is measured of a network; for gradients, the norm of their mean over the images."""

    mean_z2: float  # of the weighted inputs of the hidden layer
    least_z2: float  # the one that is nearest to 0, without its sign
    a2_varies: float  # standard deviation between images, of the neuron that varies most
    nabla_w2: float
    right_nabla_w2: float  # with the right derivative
    nabla_w3: float
    error: float  # of the gradient, relative


def examine(network: Network, training: Images) -> Figures:
    """Return the figures of a network with a hidden layer, at its present weights, in float64."""
    weights = [w.astype(np.float64) for w in network.weights]
    biases = [b.astype(np.float64) for b in network.biases]
    network = replace(network, weights=weights, biases=biases)
    x = training.images[:EXAMINED].T.astype(np.float64)
    zs, activations = network.feedforward(x)
    n = len(training.labels)
    _, nabla_w, _ = gradient(network, training.blocks)
    _, right_nabla_w, _ = gradient(replace(network, prime=fixed_prime), training.blocks)
    return Figures(
        mean_z2=float(zs[0].mean()),
        least_z2=float(np.abs(zs[0]).min()),
        a2_varies=float(activations[1].std(axis=1).max()),
        nabla_w2=float(np.linalg.norm(nabla_w[0])) / n,
        right_nabla_w2=float(np.linalg.norm(right_nabla_w[0])) / n,
        nabla_w3=float(np.linalg.norm(nabla_w[1])) / n,
        error=gradient_error(network, x[:, :CHECKED], training.labels[:CHECKED] == DIGITS),
    )


def gradient_error(network: Network, x: Array, y: Array) -> float:
    """Return the relative error of nabla_w, that of the layer where it is largest.

    `x`, of shape (784, m), and `y`, bool and one-hot, (10, m), are a few images. When the
    weights of a layer are moved a little, nabla_w tells how the cost should change; how it
    really changes is measured. They are moved along nabla_w, and once more with the opposite
    sign for every other neuron, as errors of several neurons may cancel out.
    """
    cost, nabla_w, _ = network.backprop(x, y)
    rounding = 1e-6 + 1e-8 * cost  # A slope far below this may come from rounding alone.
    largest = 0.0
    for layer, nabla in enumerate(nabla_w):
        norm = float(np.linalg.norm(nabla)) or 1.0
        along = nabla / norm
        half_against = along.copy()
        half_against[::2] *= -1
        for direction in (along, half_against):
            expected = float(np.sum(nabla * direction))
            errors = []
            # Over the longer distance the cost may bend; over the shorter, rounding may blur it.
            for distance in (1e-3, 1e-5):
                above = cost_beside(network, layer, distance * direction, x, y)
                below = cost_beside(network, layer, -distance * direction, x, y)
                slope = (above - below) / (2 * distance)
                errors.append(abs(expected - slope) / max(norm, abs(slope), rounding))
            largest = max(largest, min(errors))
    return largest


def cost_beside(network: Network, layer: int, step: Array, x: Array, y: Array) -> float:
    """Return the cost of the images if the weights of one layer were moved by `step`."""
    weights = network.weights.copy()
    weights[layer] = weights[layer] + step
    zs, _ = replace(network, weights=weights).feedforward(x)
    return cross_entropy(zs[-1], y)


# What is printed

ABREAST = 4  # So many runs are shown side by side, epoch by epoch; of more, only how they end.
SAME_BELOW = 0.01  # If a2 varies by less, the hidden layer puts out the same for every image.
WRONG_ABOVE = 0.01  # If its error is larger, the gradient is wrong.
CHANGED_ABOVE = 0.01  # If the cost changes by more of itself at the end, it is falling or rising.
END = 3  # How many epochs the end is, at most.


class Column(NamedTuple):
    """A heading, and a width to which the cells of the column are moved to the right, if not 0."""

    heading: str
    width: int


COST = Column("cost", 11)
CORRECT = Column("correct", 8)
LOWEST = Column("lowest", 8)
HIGHEST = Column("highest", 8)
ACCURACY = Column("accuracy", 9)
MOST_PREDICTED = Column(" most predicted", 0)
FIGURES = [
    Column("mean z2", 9),
    Column("least z2", 9),
    Column("a2 varies", 10),
    Column("nabla w2", 9),
    Column("right one", 10),
    Column("nabla w3", 9),
    Column("error", 6),
]
EXPLANATIONS = [
    "mean z2, least z2: of the hidden layer's weighted inputs, the mean and the one that is "
    f"nearest to 0 (for {EXAMINED:,} training images at most)",
    "a2 varies: the standard deviation of a hidden neuron's activation between these images, "
    f"where it is largest; below {SAME_BELOW}, the layer is said to put out the same for "
    "every image",
    "nabla w2, nabla w3: the norm of the gradient, the mean over all training images; "
    "right one: the norm of nabla w2 if the right derivative is used",
    "error: how far nabla w2 or nabla w3 is from how the cost really changes when the weights "
    f"are moved a little (for {CHECKED} training images at most); above {WRONG_ABOVE:.0%}, "
    "the gradient is said to be wrong",
    f"falling, rising: by more than {CHANGED_ABOVE:.0%} of the cost in the last {END} epochs, "
    "or in all if there are fewer",
]


class Table:
    """Prints its headings, and then a row at a time, in plain text or Markdown."""

    def __init__(self, columns: list[Column], markdown: bool) -> None:
        self.widths = [column.width for column in columns]
        self.markdown = markdown
        self.row([column.heading for column in columns])
        if markdown:
            self.row(["---:" if width else "---" for width in self.widths])

    def row(self, cells: list[str]) -> None:
        """Print a row."""
        if self.markdown:
            click.echo(f"| {' | '.join(cell.strip() for cell in cells)} |")
            return
        aligned = [cell.rjust(width) for cell, width in zip(cells, self.widths)]
        click.echo(" ".join(aligned).rstrip())


class Report:
    """Tables for a terminal, or in Markdown for an answer."""

    def __init__(
        self, runs: list[Run], base: Epoch, title: str, command: str, markdown: bool
    ) -> None:
        self.runs = runs
        self.base = base
        self.markdown = markdown
        self.say(title)
        if markdown:
            click.echo(f"\n    {command}\n")
        else:
            click.echo(f"{command}\n")
        if len(runs) == 1:
            columns = [Column("epoch", 8), COST, CORRECT, ACCURACY, MOST_PREDICTED]
            self.table = Table(columns, markdown)
        elif len(runs) <= ABREAST:
            columns = [Column("epoch", 5)]
            for run in runs:
                self.say(f"{run.name}: {run.options}", bullet=True)
                columns += [Column(f"{run.name} cost", 9), Column("correct", 7)]
            click.echo()
            self.table = Table(columns, markdown)

    def say(self, text: str, bullet: bool = False) -> None:
        """Print a paragraph, or an item of a list."""
        if not self.markdown:
            click.echo(textwrap.fill(text, 80, subsequent_indent="  ", break_on_hyphens=False))
        elif bullet:
            click.echo(f"- {text}")
        else:
            click.echo(text)

    def epoch(self, number: int) -> None:
        """Print the row of an epoch that all runs have ended."""
        if len(self.runs) == 1:
            self.table.row([str(number), *cells_of(self.runs[0].epochs[-1])])
        elif len(self.runs) <= ABREAST:
            cells = [str(number)]
            for run in self.runs:
                cells += [cost_text(run.epochs[-1].cost, 4), str(run.epochs[-1].correct)]
            self.table.row(cells)

    def end(self) -> None:
        """Print the baseline and, of several runs, how they ended."""
        if len(self.runs) == 1:
            self.table.row(["baseline", *cells_of(self.base)])
            return
        if len(self.runs) <= ABREAST:
            click.echo()
        rows: dict[str, list[Run]] = {}
        for run in self.runs:
            rows.setdefault(run.group, []).append(run)
        has_seeds = len(rows) < len(self.runs)
        width = max(len(label) for label in ["baseline", *rows])
        columns = [Column(" " * width, 0), Column("steps", 7), COST]
        if has_seeds:
            columns += [LOWEST, HIGHEST]
        else:
            columns += [CORRECT]
        table = Table([*columns, ACCURACY, MOST_PREDICTED], self.markdown)
        for label, runs in rows.items():
            epochs = [run.epochs[-1] for run in runs]
            table.row([label.ljust(width), str(runs[0].steps), *mean_cells(epochs, has_seeds)])
        table.row(["baseline".ljust(width), "", *mean_cells([self.base], has_seeds)])

    def diagnosis(self, before: list[Figures], after: list[Figures]) -> None:
        """Print what was measured of each run before and after its training."""
        labels = []
        for run in self.runs:
            labels += [f"{run.name} before".strip(), f"{run.name} after".strip()]
        width = max(len(label) for label in labels)
        rows = []
        for figures_before, figures_after in zip(before, after):
            rows += [figures_before, figures_after]
        click.echo()
        table = Table([Column(" " * width, 0), *FIGURES], self.markdown)
        for label, figures in zip(labels, rows):
            cells = [f"{value:.3g}" for value in figures[:-1]]
            table.row([label.ljust(width), *cells, f"{figures.error:.1%}"])
        click.echo()
        for explanation in EXPLANATIONS:
            self.say(explanation, bullet=True)
        click.echo()
        self.say("These figures say:")
        if self.markdown:
            click.echo()
        for run, figures_before, figures_after in zip(self.runs, before, after):
            found = findings(run, figures_before, figures_after)
            if run.name:
                found = f"{run.name}: {found}"
            self.say(found, bullet=True)


def cost_text(cost: float, digits: int = 6) -> str:
    """Return a cost with `digits` decimals, or, if it is large, with an exponent."""
    if cost < 1000:
        return f"{cost:.{digits}f}"
    return f"{cost:.3e}"


def cells_of(epoch: Epoch) -> list[str]:
    """Return the cells of the columns COST, CORRECT, ACCURACY and MOST_PREDICTED."""
    digit, share = epoch.most_predicted
    predicted = f" {digit} ({share:.2%})"
    return [cost_text(epoch.cost), str(epoch.correct), f"{epoch.accuracy:.2%}", predicted]


def mean_cells(epochs: list[Epoch], has_seeds: bool) -> list[str]:
    """Return the cells of runs that differ in their seed: means over them.

    With `has_seeds`, LOWEST and HIGHEST are in the place of CORRECT; without, it is one run.
    """
    mean_cost = sum(epoch.cost for epoch in epochs) / len(epochs)
    all_correct = sum(epoch.correct for epoch in epochs)
    all_predicted = np.sum([epoch.predicted for epoch in epochs], axis=0).tolist()
    cost, correct, accuracy, predicted = cells_of(Epoch(mean_cost, all_correct, all_predicted))
    if not has_seeds:
        return [cost, correct, accuracy, predicted]
    accuracies = [epoch.accuracy for epoch in epochs]
    return [cost, f"{min(accuracies):.2%}", f"{max(accuracies):.2%}", accuracy, predicted]


def findings(run: Run, before: Figures, after: Figures) -> str:
    """Return what the figures of a run say, in words."""
    found = []
    when = []
    if before.a2_varies < SAME_BELOW:
        when.append("before")
    if after.a2_varies < SAME_BELOW:
        when.append("after")
    if when:
        found.append(
            f"{' and '.join(when)} the training, the hidden layer puts out the same for every image"
        )
    if max(before.error, after.error) > WRONG_ABOVE:
        found.append("the gradient is wrong")
    costs = [epoch.cost for epoch in run.epochs[-1 - END :]]
    if costs[-1] < (1 - CHANGED_ABOVE) * costs[0]:
        found.append("the cost was still falling at the end")
    if costs[-1] > (1 + CHANGED_ABOVE) * costs[0]:
        found.append("the cost was rising at the end")
    return "; ".join(found) or "none of this was found"


class CsvReport:
    """A row for every epoch of every run, with the cost in full precision."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self.writer = csv.writer(sys.stdout, lineterminator="\n")
        names = [setting.name for setting in fields(Settings)]
        self.writer.writerow(
            [*names, "epoch", "cost", "correct", "total", "top_digit", "top_count"]
        )

    def epoch(self, number: int) -> None:
        """Print the rows of an epoch that all runs have ended."""
        for run in self.runs:
            settings = asdict(run.settings)
            if not run.settings.hidden:
                settings["prime"] = ""
            epoch = run.epochs[-1]
            digit, _ = epoch.most_predicted
            figures = [number, epoch.cost, epoch.correct, epoch.total, digit, max(epoch.predicted)]
            self.writer.writerow([*settings.values(), *figures])
        sys.stdout.flush()

    def end(self) -> None:
        """Print nothing: all is said."""


# The picture


def draw_picture(runs: list[Run], base: Epoch, examined: Array, path: Path) -> None:
    """Draw cost and accuracy of all runs and, of the images `examined`, z2 before the training."""
    from matplotlib.figure import Figure

    has_z2 = runs[0].settings.hidden > 0
    panels = 2
    if has_z2:
        panels = 3
    rows = list(dict.fromkeys(run.group for run in runs))
    figure = Figure((7, 3 * panels + 0.25 * len(rows)), layout="constrained")
    axes = figure.subplots(panels)
    cost = axes[0]
    accuracy = axes[1]
    named = set()
    for number, run in enumerate(runs):
        row = rows.index(run.group)
        style = {
            "color": f"C{row % 7}",  # The eighth colour is grey.
            "linestyle": ["-", "--", ":"][row // 7 % 3],
            "linewidth": 5 - 4 * (number + 1) / len(runs),  # Where lines coincide, all are seen.
        }
        cost.plot([epoch.cost for epoch in run.epochs], marker=".", **style)
        [line] = accuracy.plot([100 * epoch.accuracy for epoch in run.epochs], marker=".", **style)
        if run.group not in named:
            named.add(run.group)
            line.set_label(run.group)
            if len(runs) <= ABREAST:
                line.set_label(f"{run.name}: {run.options}")
        if has_z2:
            untrained = Run(run.settings).network  # the same draws again
            zs, _ = untrained.feedforward(examined)
            counts, edges = np.histogram(zs[0], 100)
            axes[2].plot(edges[1:], counts / counts.max(), **style)
    cost.set(ylabel="cost, training images", yscale="log")
    accuracy.set(ylabel="accuracy in %, test images", ylim=(0, 100))
    for axis, height in ((cost, base.cost), (accuracy, 100 * base.accuracy)):
        axis.set(xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.axhline(height, color="0.5")
        write_beside_line(axis, height, "baseline, which ignores the image")
    if has_z2:
        left, right = axes[2].get_xlim()
        z = np.linspace(min(left, -10), max(right, 10), 1001)
        axes[2].plot(z, sigmoid(z), color="0.5")
        axes[2].set(xlabel="z2 before the training", ylabel="frequency of z2", ylim=(0, 1.2))
        write_beside_line(axes[2], sigmoid(z)[-1], "sigmoid")
    if len(runs) > 1:
        figure.legend(loc="outside lower center")
    figure.savefig(path, dpi=120)


def write_beside_line(axis: Any, y: float, text: str) -> None:
    """Write what a grey line is at its right end, where it has the height `y`."""
    position = (0.99, y)
    axis.annotate(text, position, (0, 3), axis.get_yaxis_transform(), "offset points", ha="right")


# The command


class WholeNumber(click.IntRange):
    """A whole number, by this name in errors."""

    name = "whole number"


class Number(click.FloatRange):
    """A finite number, by this name in errors."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class InitScale(Number):
    """A factor, or fan-in."""

    name = "number or fan-in"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "fan-in":
            return value
        return shortest(super().convert(value, param, ctx))


def check_layers(
    kind: click.ParamType[Any], ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> list[str]:
    """Check values like "rand" and "rand-0.5,rand", and return them as short as they can be."""
    checked = []
    for value in values:
        parts = [kind.convert(part, param, ctx) for part in value.split(",")]
        if len(parts) > 2:
            raise click.BadParameter(f"{value!r} has {len(parts)} parts; there are two layers.")
        if len(parts) == 2 and parts[0] != parts[1]:
            checked.append(",".join(parts))
        else:
            checked.append(parts[0])
    return checked


def shortest(value: float) -> str:
    """Return a number as short as it can be typed: 1 for 1.0."""
    return repr(value).removesuffix(".0")


def option(name: str, value: object) -> str:
    """Return how the command line sets `name`, a parameter of `main`, to `value`."""
    if name == "prime":
        return f"--{value}-prime"
    if isinstance(value, float):
        value = shortest(value)
    return f"--{name.replace('_', '-')} {shlex.quote(str(value))}"


def combinations(values: dict[str, list[Any]], one_at_a_time: bool) -> list[dict[str, Any]]:
    """Return the values of each run: every combination, or one changed at a time.

    One at a time, it is the first value of each setting, and then each other value in its
    place. Several seeds are no change: all of these runs are made with each of them.
    """
    grids = [values]
    if one_at_a_time:
        first = {name: choices[:1] for name, choices in values.items()}
        first["seed"] = values["seed"]
        grids = [first]
        for name, choices in values.items():
            if name != "seed":
                grids += [first | {name: [value]} for value in choices[1:]]
    runs = []
    for grid in grids:
        for combination in itertools.product(*grid.values()):
            runs.append(dict(zip(grid, combination)))
    return runs


def changes_of(chosen: dict[str, Any], values: dict[str, list[Any]], one_at_a_time: bool) -> str:
    """Return the options, but for the seed, that tell a run with these values from the others."""
    changes = []
    for name, value in chosen.items():
        is_unchanged = one_at_a_time and value == values[name][0]
        if name != "seed" and len(values[name]) > 1 and not is_unchanged:
            changes.append(option(name, value))
    if one_at_a_time and not changes:
        return "nothing changed"
    return " ".join(changes)


def named_runs(
    hidden: int, dtype: str, values: dict[str, list[Any]], one_at_a_time: bool
) -> list[Run]:
    """Return a run for each of the combinations, with what it is called."""
    runs = []
    all_chosen = combinations(values, one_at_a_time)
    for number, chosen in enumerate(all_chosen):
        changes = changes_of(chosen, values, one_at_a_time)
        options = changes
        if len(values["seed"]) > 1:
            options = f"{changes} {option('seed', chosen['seed'])}".strip()
        if len(all_chosen) == 1:
            name = ""
            group = ""
        elif len(all_chosen) <= ABREAST:
            name = string.ascii_uppercase[number]
            group = name
        else:
            name = options
            group = changes or f"{len(values['seed'])} seeds"
        runs.append(Run(Settings(hidden=hidden, dtype=dtype, **chosen), name, options, group))
    return runs


def title_of(hidden: int, sizes: list[int], n: int, data: Path | None) -> str:
    """Return what all runs have in common, in words: n training images, batches of `sizes`."""
    title = "784-10 sigmoid network, cross-entropy, "
    if hidden:
        title = f"784-{hidden}-10 sigmoid network, cross-entropy, "
    if data is None:
        title += f"{n:,} MNIST images"
    elif n == 1:
        title += f"1 training image of {data}"
    else:
        title += f"{n:,} training images of {data}"
    if sizes == [n]:
        title += ", full batch"
    elif len(sizes) == 1:
        title += f", batches of {sizes[0]:,}"
    return title


def command_of(
    hidden: int,
    dtype: str,
    values: dict[str, list[Any]],
    one_at_a_time: bool,
    epochs: int,
    data: Path | None,
) -> str:
    """Return the command that gives the same numbers, with every setting spelled out."""
    words = ["python reproduce.py", option("hidden", hidden)]
    for name, choices in values.items():
        if hidden or name != "prime":
            words += [option(name, value) for value in choices]
    words += [option("dtype", dtype), option("epochs", epochs)]
    if one_at_a_time:
        words.append("--one-at-a-time")
    if data is not None:
        words.append(option("data", data))
    return " ".join(words)


def check_picture(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Refuse, before the training, a picture that could not be drawn after it."""
    if path is None:
        return None
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise click.BadParameter(f"{path} does not end in .png, .svg or .pdf.")
    if not os.access(path.parent, os.W_OK):
        raise click.BadParameter(f"there is no folder {path.parent} that can be written to.")
    try:
        version = importlib.metadata.version("matplotlib")
    except importlib.metadata.PackageNotFoundError:
        raise click.BadParameter("it needs matplotlib: pip install matplotlib") from None
    major, minor = version.split(".")[:2]
    if (int(major), int(minor)) < (3, 7):
        raise click.BadParameter(
            f"matplotlib {version} is too old: pip install --upgrade matplotlib"
        )
    return path


def check_options(
    hidden: int, of_layers: list[str], has_prime: bool, diagnose: bool, output_format: str
) -> None:
    """Refuse options that contradict each other."""
    if has_prime and not hidden:
        raise click.UsageError(
            "--buggy-prime and --fixed-prime need a hidden layer: add --hidden 30."
        )
    if diagnose and not hidden:
        raise click.UsageError("--diagnose needs a hidden layer: add --hidden 30.")
    if diagnose and output_format == "csv":
        raise click.UsageError("--diagnose does not fit into csv: choose another --format.")
    for value in of_layers:
        if "," in value and not hidden:
            raise click.UsageError(f"{value} is for two layers: add --hidden 30.")


def primes(buggy_prime: bool, fixed_prime: bool) -> list[str]:
    """Return the keys of PRIMES that two flags ask for."""
    if buggy_prime and fixed_prime:
        return ["buggy", "fixed"]
    if buggy_prime:
        return ["buggy"]
    return ["fixed"]


def unique(values: Iterable[Any]) -> list[Any]:
    """Return the values without those that are given a second time."""
    return list(dict.fromkeys(values))


ERASE_LINE = "\r\033[K"  # erases the line of the progress bar, so that a row can be printed there

repeatable = partial(click.option, multiple=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--hidden",
    type=WholeNumber(0, 10_000),
    metavar="N",
    default=Settings.hidden,
    help="Number of neurons of the hidden layer. 0: there is no hidden layer.",
)
@click.option(
    "--buggy-prime",
    is_flag=True,
    show_default=False,
    help="* Backpropagate with sigmoid_prime(a2), the wrong derivative of the question: "
    "a2 is the sigmoid's output, not its input.",
)
@click.option(
    "--fixed-prime",
    is_flag=True,
    show_default=False,
    help="* Backpropagate with a2 * (1 - a2), the right derivative. This is the default; "
    "with --buggy-prime, both are run, and the wrong one is the first value.",
)
@repeatable(
    "--init",
    callback=partial(check_layers, click.Choice(list(INITS))),
    metavar="INIT[,INIT]",
    default=[Settings.init],
    help="* How weights and biases are drawn: rand (uniform, 0 to 1), rand-0.5 (the same minus "
    "1/2) or randn (standard normal). Two with a comma, like rand-0.5,rand, are those of "
    "the hidden layer (w2, b2) and of the output layer (w3, b3).",
)
@repeatable(
    "--init-scale",
    callback=partial(check_layers, InitScale(min=0)),
    metavar="R[,R]",
    default=[str(Settings.init_scale)],
    help="* A factor by which weights and biases are multiplied; or fan-in, which divides each "
    "weight by the square root of its neuron's number of inputs. Two with a comma, like "
    "1,fan-in, are those of the hidden and of the output layer.",
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
@repeatable(
    "--seed",
    type=WholeNumber(0, 2**32 - 1),
    metavar="N",
    default=[Settings.seed],
    help="* What np.random.seed would be given, for the weights and the order of the images.",
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
    "--one-at-a-time",
    is_flag=True,
    show_default=False,
    help="Change one option at a time: run the first value of each option marked *, and then "
    "each of the other values in its place. Without this, all combinations are run.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="PATH",
    show_default="the MNIST files beside this script",
    help="Other images: a folder with the four files of MNIST, packed or not, of whose training "
    "images the last sixth is kept for validation and not used here; or a pickle like "
    "Nielsen's mnist.pkl.gz.",
)
@click.option(
    "--every",
    type=WholeNumber(1),
    metavar="N",
    default=1,
    help="Print every N-th epoch only, and the last; csv has all.",
)
@click.option(
    "--diagnose",
    is_flag=True,
    show_default=False,
    help="Measure the hidden layer and the gradient before and after the training.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "markdown", "csv"]),
    default="table",
    help="How results are printed. csv has every epoch, and costs that are not rounded.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    callback=check_picture,
    help="Draw cost, accuracy and the hidden layer's weighted inputs z2 into a .png, .svg or "
    ".pdf file; needs matplotlib.",
)
@click.version_option(__version__)
def main(
    hidden: int,
    buggy_prime: bool,
    fixed_prime: bool,
    init: list[str],
    init_scale: list[str],
    eta: tuple[float, ...],
    batch_size: tuple[int, ...],
    seed: tuple[int, ...],
    dtype: str,
    epochs: int | None,
    one_at_a_time: bool,
    data: Path | None,
    every: int,
    diagnose: bool,
    output_format: str,
    plot: Path | None,
) -> None:
    """Train a network of sigmoid neurons on MNIST, and print cost and accuracy.

    Options marked * may be given several times, and all combinations are run. Up to four
    runs are shown side by side, epoch by epoch; of more, only how they end, where those
    that differ in their seed alone share a row.
    """
    check_options(hidden, init + init_scale, buggy_prime or fixed_prime, diagnose, output_format)
    try:
        training, test = load_images(data)
    except mnist_loader.DataError as error:
        raise click.ClickException(str(error)) from None
    n = len(training.labels)
    if epochs is None:
        epochs = 30 if hidden else 100
    values = {
        "prime": primes(buggy_prime, fixed_prime),
        "init": unique(init),
        "init_scale": unique(init_scale),
        "eta": unique(eta),
        "batch_size": unique([min(size, n) for size in batch_size] or [n]),
        "seed": unique(seed),
    }
    warnings.simplefilter("ignore", RuntimeWarning)  # The sigmoid may overflow.
    runs = named_runs(hidden, dtype, values, one_at_a_time)
    base = baseline(training, test)

    title = title_of(hidden, values["batch_size"], n, data)
    command = command_of(hidden, dtype, values, one_at_a_time, epochs, data)
    report: Report | CsvReport
    if output_format == "csv":
        report = CsvReport(runs)
        every = 1
    else:
        report = Report(runs, base, title, command, output_format == "markdown")
    before = []
    if diagnose:
        before = [examine(run.network, training) for run in runs]

    steps = epochs * sum(math.ceil(n / (run.settings.batch_size or n)) for run in runs)
    bar_file = sys.stderr if sys.stderr.isatty() else io.StringIO()  # Only a terminal has a bar.
    with click.progressbar(
        length=steps, file=bar_file, show_pos=True, update_min_steps=max(1, steps // 200)
    ) as bar:
        for number in range(epochs):
            for run in runs:
                train_epoch(run, training, test, bar.update)
            if number % every == 0 or number == epochs - 1:
                click.echo(ERASE_LINE, nl=False, file=bar_file)
                report.epoch(number)
        click.echo(ERASE_LINE, nl=False, file=bar_file)
        report.end()  # before the bar is left, which prints an empty line

    if diagnose and isinstance(report, Report):
        report.diagnosis(before, [examine(run.network, training) for run in runs])
    if plot:
        draw_picture(runs, base, training.images[:EXAMINED].T, plot)


def stop_at_once(*_: object) -> None:
    """End the process on Ctrl-C, without an exception.

    One that is raised while a result of the pool is waited for can leave a lock held, and the
    pool's threads waiting for it for ever.
    """
    if sys.stderr.isatty():
        # Leave no progress bar, and show the cursor, which it hides.
        os.write(sys.stderr.fileno(), ERASE_LINE.encode() + b"\033[?25h")
    os._exit(130)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, stop_at_once)
    if isinstance(sys.stdout, io.TextIOWrapper):  # What its encoding lacks is escaped.
        sys.stdout.reconfigure(errors="backslashreplace")
    main()
