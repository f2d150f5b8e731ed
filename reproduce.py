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
Learning". Here x is a batch, with a column for each image.
"""

from __future__ import annotations

import csv
import itertools
import math
import os
import shlex
import string
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

# This script shares out the images among threads of its own, which is faster than the threads of
# BLAS. BLAS reads how many it may start when numpy is imported: a notebook may have done that
# before, and then BLAS keeps its threads, and this script has one.
if "numpy" not in sys.modules:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.environ["MKL_NUM_THREADS"] = "1"
    os.environ["VECLIB_MAXIMUM_THREADS"] = "1"

import click
import numpy as np

import mnist_loader

__version__ = "4.0"

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
        delta = activations[-1] - y  # BP1: with cross-entropy, sigmoid_prime cancels
        nabla_b = [delta.sum(axis=1, keepdims=True)]  # BP3
        nabla_w = [delta @ activations[-2].T]  # BP4
        if len(self.weights) == 2:
            _, w3 = self.weights
            _, a2, _ = activations
            delta = (w3.T @ delta) * self.prime(a2)  # BP2, where the question has its bug
            nabla_b.insert(0, delta.sum(axis=1, keepdims=True))
            nabla_w.insert(0, delta @ x.T)
        return cross_entropy(zs[-1], y), nabla_w, nabla_b

    def step(self, rate: float, nabla_w: list[Array], nabla_b: list[Array]) -> None:
        """Move weights and biases by -rate times the gradient. The gradient is overwritten."""
        for parameter, nabla in zip(self.weights + self.biases, nabla_w + nabla_b):
            nabla *= rate
            parameter -= nabla

    def restricted_to(self, pixels: Array | slice) -> Network:
        """Return the network of these inputs alone: it does the same if the others are 0."""
        return Network([self.weights[0][:, pixels], *self.weights[1:]], self.biases, self.prime)


# The images

ALL = slice(None)
BLOCK = 1000  # images of the full batch in a block, few enough for a core's cache
MINI_BLOCK = 500  # images of a mini-batch in a block; for less, a thread is not worth its start


class Block(NamedTuple):
    """The m images that a thread works on at a time: images[indices].

    Those of Images.blocks have images of their own, without the pixels that are 0 in all of them.
    Those of a mini-batch share all training images, and pick theirs by `indices`.
    """

    images: Array  # float32, with a row for each image
    indices: Array | slice
    pixels: Array | slice  # which of the 784 pixels the rows have
    labels: Array  # of the m images, shape (m,)

    def x(self, dtype: np.dtype[Any]) -> Array:
        """Return the m images as columns.

        They are kept as float32, which takes half the memory, and converted here, by the thread.
        """
        return self.images[self.indices].T.astype(dtype, copy=False)

    def y(self) -> Array:
        """Return the labels as one-hot columns, bool of shape (10, m)."""
        return np.equal(self.labels, np.arange(10)[:, np.newaxis])


def in_parts(indices: Array, size: int) -> list[Array]:
    """Return the indices in parts of this size; the last may be smaller."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def sorted_by_margins(images: Array) -> Array:
    """Return the indices of images in an order in which neighbours have like margins."""
    square = images.reshape(-1, 28, 28)
    inked_rows = square.any(axis=2)
    inked_columns = square.any(axis=1)
    top_margin = inked_rows.argmax(axis=1)
    left_margin = inked_columns.argmax(axis=1)
    right_margin = np.fliplr(inked_columns).argmax(axis=1)
    return np.lexsort((left_margin, right_margin, top_margin))  # by the last of these first


class Images:
    """Images, float32 of shape (n, 784), and their labels, (n,)."""

    def __init__(self, images: Array, labels: Array) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def blocks(self) -> list[Block]:
        """All images, in blocks: the full batch.

        For speed, a block lacks the pixels that are 0 in all of its images, as the gradient is 0
        there, too. Images that have like margins have more of these pixels in common.
        """
        blocks = []
        for indices in in_parts(sorted_by_margins(self.images), BLOCK):
            images = self.images[indices]
            pixels = np.flatnonzero(images.any(axis=0))
            blocks.append(
                Block(images[:, pixels], indices=ALL, pixels=pixels, labels=self.labels[indices])
            )
        return blocks

    def batches(self, size: int, random: np.random.RandomState) -> Iterator[list[Block]]:
        """Yield the batches of an epoch, each as its blocks; the last batch may be smaller.

        If `size` is all images or more, the only batch is the full one, and no random numbers
        are drawn.
        """
        if size >= len(self):
            yield self.blocks
            return
        for batch in in_parts(random.permutation(len(self)), size):
            blocks = []
            for indices in in_parts(batch, MINI_BLOCK):
                blocks.append(
                    Block(self.images, indices=indices, pixels=ALL, labels=self.labels[indices])
                )
            yield blocks


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
INITS: dict[str, Callable[[np.random.RandomState, int, int], Array]] = {  # rows, columns
    "rand": np.random.RandomState.rand,
    "rand-0.5": rand_minus_half,
    "randn": np.random.RandomState.randn,
}
DTYPES = ["float64", "float32"]
FULL_BATCH = sys.maxsize  # a batch size that no data exceeds


@dataclass(frozen=True)
class Settings:
    """What defines a run, except the data and the number of epochs.

    `init` and `init_scale` have one value for both layers, or two with a comma between them:
    "rand-0.5,rand" is rand-0.5 for the hidden layer (w2, b2), rand for the output layer (w3, b3).
    """

    hidden: int = 0  # neurons; 0 is the 784-10 network
    prime: str = "fixed"  # a key of PRIMES, which only a hidden layer uses
    init: str = "rand"  # a key of INITS
    init_scale: str = "1"  # a factor, or "fan-in"
    eta: float = 0.5
    batch_size: int = FULL_BATCH  # images per step
    seed: int = 0
    dtype: str = "float64"  # of DTYPES


# The changes that --suspects makes to the network as it is given, one at a time. A change to what
# it is already is skipped: so the question's own values are here, for those who start from others.
SUSPECTS: list[tuple[str, Any]] = [
    ("prime", "buggy"),
    ("prime", "fixed"),
    ("init", "rand"),
    ("init", "rand-0.5"),
    ("init", "randn"),
    ("init", "rand-0.5,rand"),
    ("init", "rand,rand-0.5"),
    ("init_scale", "1"),
    ("init_scale", "fan-in"),
    ("init_scale", "0.1"),
    ("eta", 0.5),
    ("eta", 1.0),
    ("eta", 5.0),
    ("batch_size", FULL_BATCH),
    ("batch_size", 1000),
]


def by_layer(setting: str, layers: int) -> list[str]:
    """Return `init` or `init_scale` layer by layer, the hidden layer first."""
    values = setting.split(",")
    if len(values) == 1:
        return values * layers
    if len(values) != layers:
        raise ValueError(f"{setting} is for {len(values)} layers; this network has {layers}")
    return values


def initial_network(settings: Settings, random: np.random.RandomState) -> Network:
    """Return the network that a run starts from.

    They are drawn in the order of the question's script, all weights, layer by layer, and then
    all biases: uniform from 0 to 1 ("rand"), the same minus 1/2, or standard normal ("randn").
    A factor multiplies all of them, as r in the question; "fan-in" divides each weight by
    the square root of its neuron's number of inputs (Nielsen, chapter 3), but no bias.
    Raises KeyError or ValueError if a setting is not known.
    """
    sizes = [784, 10]
    if settings.hidden:
        sizes = [784, settings.hidden, 10]
    layers = range(len(sizes) - 1)
    inits = [INITS[name] for name in by_layer(settings.init, len(layers))]
    weights = [inits[layer](random, sizes[layer + 1], sizes[layer]) for layer in layers]
    biases = [inits[layer](random, sizes[layer + 1], 1) for layer in layers]
    for layer, scale in enumerate(by_layer(settings.init_scale, len(layers))):
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


@dataclass
class Run:
    """A network in training, and what has become of it so far."""

    settings: Settings
    name: str = "the network"  # or the options in which it differs from others
    epochs: list[Epoch] = field(default_factory=list)
    steps: int = 0
    random: np.random.RandomState = field(init=False)  # draws weights, then orders of the images
    network: Network = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.RandomState(self.settings.seed)
        self.network = initial_network(self.settings, self.random)


# Training


class DivergenceError(click.ClickException):
    """A weight is not a number, or so large that products overflow. click prints it in a line."""


def train_epoch(run: Run, training: Images, test: Images) -> None:
    """Train a run's network for an epoch by gradient descent, and add it to `run.epochs`.

    A step is eta/m times the gradient, summed over the m images of a batch.
    Raises DivergenceError.
    """
    network = run.network
    settings = run.settings
    cost = 0.0
    with np.errstate(all="ignore"):  # Overflow is looked for below, in the weights.
        for batch in training.batches(settings.batch_size, run.random):
            batch_cost, nabla_w, nabla_b = gradient(network, batch)
            m = sum(len(block.labels) for block in batch)
            network.step(settings.eta / m, nabla_w, nabla_b)
            cost += batch_cost
            run.steps += 1
    number = len(run.epochs)  # of this epoch; the first is 0
    limit = math.sqrt(np.finfo(settings.dtype).max)  # No product of two overflows below it.
    for parameter in network.weights + network.biases:
        if not np.abs(parameter).max() <= limit:  # not >, which is False for nan
            raise DivergenceError(
                f"{run.name}, seed {settings.seed}: after epoch {number} weights are "
                f"larger than {limit:.1e}, or not numbers; try a smaller --eta or --init-scale."
            )
    correct, predicted = evaluate(network, test)
    run.epochs.append(Epoch(cost / len(training), correct, predicted))


def gradient(network: Network, batch: list[Block]) -> CostAndGradient:
    """Return the cost of a batch, nabla_w and nabla_b, each summed over its images."""
    if len(batch) == 1 and batch[0].pixels is ALL:  # for speed: nothing to add or to complete
        return block_gradient(network, batch[0])
    cost = 0.0
    nabla_w = [np.zeros_like(w) for w in network.weights]
    nabla_b = [np.zeros_like(b) for b in network.biases]
    results = in_threads(partial(block_gradient, network), batch)
    # Added in the order of the blocks, the sums do not depend on the number of threads.
    for block, (block_cost, block_nabla_w, block_nabla_b) in zip(batch, results):
        cost += block_cost
        nabla_w[0][:, block.pixels] += block_nabla_w[0]  # which has columns for these alone
        for nabla, block_nabla in zip(nabla_w[1:] + nabla_b, block_nabla_w[1:] + block_nabla_b):
            nabla += block_nabla
    return cost, nabla_w, nabla_b


def block_gradient(network: Network, block: Block) -> CostAndGradient:
    """Return the like of `gradient` for one block; nabla_w[0] has columns for its pixels alone."""
    x = block.x(network.weights[0].dtype)
    return network.restricted_to(block.pixels).backprop(x, block.y())


def evaluate(network: Network, test: Images) -> tuple[int, list[int]]:
    """Return how many images are classified rightly, and how many as 0, as 1, ... as 9."""
    digits = np.concatenate(in_threads(partial(classify, network), test.blocks))
    labels = np.concatenate([block.labels for block in test.blocks])  # in the same order
    return int(np.sum(digits == labels)), np.bincount(digits, minlength=10).tolist()


def classify(network: Network, block: Block) -> Array:
    """Return the digit that the network sees in each of the m images of a block, shape (m,).

    The digit is the argmax of the activations, not of z: where they are rounded to 1
    they tie, and the lowest of these digits wins, as it does in the question.
    """
    x = block.x(network.weights[0].dtype)
    _, activations = network.restricted_to(block.pixels).feedforward(x)
    digits: Array = activations[-1].argmax(axis=0)
    return digits


def in_threads(function: Callable[[Block], Any], blocks: list[Block]) -> list[Any]:
    """Return what the function returns for each of the blocks.

    The threads are new each time. Those of a pool would be missing in a process that the user
    forks, and would keep Ctrl-C waiting.
    """
    results: list[Any] = [None] * len(blocks)
    errors: list[BaseException] = []
    numbers = iter(range(len(blocks)))  # Each thread takes the next; Python's lock guards it.

    def work() -> None:
        try:
            with np.errstate(all="ignore"):  # which each thread has for itself
                for number in numbers:
                    if errors:
                        break
                    results[number] = function(blocks[number])
        except BaseException as error:
            errors.append(error)

    others = min(THREADS, len(blocks)) - 1
    threads = [Thread(target=work, daemon=True) for _ in range(others)]
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

EXAMINED = 1000  # z2 and a2 are measured on this many training images, the first

FIGURES = {
    "mean z2": f"mean weighted input of the hidden layer, for the first {EXAMINED:,} images",
    "least z2": "the smallest |z2| among them",
    "a2 varies": "standard deviation of a hidden neuron's output, where it is largest",
    "nabla w2": "norm of the mean gradient for w2 over all training images",
    "fixed": "what nabla w2 is with the right derivative",
    "nabla w3": "norm of the mean gradient for w3",
}


def examine(network: Network, training: Images) -> dict[str, float]:
    """Return the FIGURES of a network with a hidden layer, at its present weights."""
    examined = training.images[:EXAMINED].T.astype(network.weights[0].dtype)
    zs, activations = network.feedforward(examined)
    n = len(training)
    _, nabla_w, _ = gradient(network, training.blocks)
    _, fixed_nabla_w, _ = gradient(replace(network, prime=fixed_prime), training.blocks)
    return {
        "mean z2": float(zs[0].mean()),
        "least z2": float(np.abs(zs[0]).min()),
        "a2 varies": float(activations[1].std(axis=1).max()),
        "nabla w2": float(np.linalg.norm(nabla_w[0])) / n,
        "fixed": float(np.linalg.norm(fixed_nabla_w[0])) / n,
        "nabla w3": float(np.linalg.norm(nabla_w[1])) / n,
    }


# What is printed


Variant = list[Run]  # runs of one name, which differ in their seed alone
Columns = list[tuple[str, str]]  # the heading of each, and how `format` aligns it, like ">8"


class Table:
    """Prints a table row by row, in plain text or in Markdown."""

    def __init__(self, columns: Columns, markdown: bool) -> None:
        self.alignments = [alignment for _, alignment in columns]
        self.markdown = markdown
        self.print_row([heading for heading, _ in columns])
        if markdown:
            rules = {"<": "---", ">": "---:"}
            self.print_row([rules[alignment[0]] for alignment in self.alignments])

    def print_row(self, cells: list[str]) -> None:
        """Print a row, of a text for each column."""
        if self.markdown:
            click.echo(f"| {' | '.join(cell.strip() for cell in cells)} |")
        else:
            aligned = [format(cell, how) for cell, how in zip(cells, self.alignments)]
            click.echo(" ".join(aligned).rstrip())


def result_columns(seeds: int) -> Columns:
    """Return the columns of what `results_of` returns."""
    columns = [("cost", ">11")]
    if seeds == 1:
        columns += [("correct", ">8")]
    columns += [("accuracy", ">9")]
    if seeds > 1:
        columns += [("lowest", ">8"), ("highest", ">8")]
    columns += [(" most predicted", "<")]  # The blank sets it apart.
    return columns


def results_of(epochs: list[Epoch]) -> list[str]:
    """Return the cells of an epoch, or of the epochs of several seeds together."""
    cost = sum(epoch.cost for epoch in epochs) / len(epochs)
    correct = sum(epoch.correct for epoch in epochs)
    predicted = np.sum([epoch.predicted for epoch in epochs], axis=0)
    total = predicted.sum()
    digit = predicted.argmax()
    cells = [cost_text(cost)]
    if len(epochs) == 1:
        cells += [str(correct)]
    cells += [f"{correct / total:.2%}"]
    if len(epochs) > 1:
        accuracies = [epoch.accuracy for epoch in epochs]
        cells += [f"{min(accuracies):.2%}", f"{max(accuracies):.2%}"]
    cells += [f" {digit} ({predicted[digit] / total:.2%})"]
    return cells


def cost_text(cost: float, digits: int = 6) -> str:
    """Return a cost with `digits` decimals, or, if it is large, with an exponent."""
    if cost < 1000:
        return f"{cost:.{digits}f}"
    return f"{cost:.2e}"


class Report:
    """What is printed of runs in training. Each kind of report does some of this.

    `runs` are those of a group that `main` trains in turn: a variant, or all runs, if their epochs
    are shown.
    """

    def print_epoch(self, number: int, runs: list[Run]) -> None:
        """Print an epoch that these runs have just finished."""

    def print_end(self, runs: list[Run]) -> None:
        """Print how these runs, which have just finished their last epoch, ended."""

    def finish(self, baseline: Epoch) -> None:
        """Print what stands below the last run."""


class EpochsOfOne(Report):
    """Each epoch of a single run."""

    def __init__(self, markdown: bool) -> None:
        self.table = Table([("epoch", ">8")] + result_columns(1), markdown)

    def print_epoch(self, number: int, runs: list[Run]) -> None:
        self.table.print_row([str(number)] + results_of([runs[0].epochs[-1]]))

    def finish(self, baseline: Epoch) -> None:
        self.table.print_row(["baseline"] + results_of([baseline]))


class Ends(Report):
    """A row for each variant: how it ended; of several seeds, their means."""

    def __init__(self, variants: list[Variant], markdown: bool) -> None:
        self.seeds = len(variants[0])
        names = [variant[0].name for variant in variants]
        width = max(len(name) for name in ["baseline"] + names)
        columns = [("", f"<{width}"), ("steps", ">7")] + result_columns(self.seeds)
        self.table = Table(columns, markdown)

    def print_end(self, runs: list[Run]) -> None:
        last = [run.epochs[-1] for run in runs]
        self.table.print_row([runs[0].name, str(runs[0].steps)] + results_of(last))

    def finish(self, baseline: Epoch) -> None:
        of_each_seed = [baseline] * self.seeds  # for the columns of the other rows
        self.table.print_row(["baseline", ""] + results_of(of_each_seed))


MOST_ABREAST = 4
LETTERS = string.ascii_uppercase[:MOST_ABREAST]


class EpochsAbreast(Report):
    """Each epoch of up to MOST_ABREAST runs side by side, and then how they ended."""

    def __init__(self, variants: list[Variant], markdown: bool) -> None:
        self.variants = variants
        self.markdown = markdown
        columns = [("epoch", ">5")]
        for letter, _ in zip(LETTERS, variants):
            columns += [(f"{letter}: cost", ">8"), ("accuracy", ">8")]
        self.table = Table(columns, markdown)

    def print_epoch(self, number: int, runs: list[Run]) -> None:
        cells = [str(number)]
        for run in runs:
            epoch = run.epochs[-1]
            cells += [cost_text(epoch.cost, 4), f"{epoch.accuracy:.2%}"]
        self.table.print_row(cells)

    def finish(self, baseline: Epoch) -> None:
        click.echo()
        ends = Ends(self.variants, self.markdown)
        for variant in self.variants:
            ends.print_end(variant)
        ends.finish(baseline)


class Csv(Report):
    """A row for each run and epoch, with the cost in full precision."""

    def __init__(self) -> None:
        self.writer = csv.writer(sys.stdout, lineterminator="\n")
        settings = [setting.name for setting in fields(Settings)]
        figures = ["epoch", "steps", "cost", "correct", "total", "top_digit", "top_count"]
        self.writer.writerow(settings + figures)

    def print_epoch(self, number: int, runs: list[Run]) -> None:
        for run in runs:
            settings = asdict(run.settings)
            if not run.settings.hidden:
                settings["prime"] = ""
            epoch = run.epochs[-1]
            total = sum(epoch.predicted)
            top_count = max(epoch.predicted)
            top_digit = epoch.predicted.index(top_count)
            figures = [number, run.steps, epoch.cost, epoch.correct, total, top_digit, top_count]
            self.writer.writerow(list(settings.values()) + figures)
        sys.stdout.flush()  # as click.echo does


def print_diagnosis(
    variants: list[Variant],
    before: list[dict[str, float]],
    after: list[dict[str, float]],
    markdown: bool,
) -> None:
    """Print what was measured of each run before and after its training."""
    names = []
    for variant in variants:
        for run in variant:
            name = run.name
            if len(variant) > 1:
                name += f" --seed {run.settings.seed}"
            names.append(name)
    click.echo()
    for heading, explanation in FIGURES.items():
        click.echo(f"- {heading}: {explanation}")
    click.echo()
    width = max(len(f"{name} before") for name in names)
    table = Table([("", f"<{width}")] + [(heading, ">9") for heading in FIGURES], markdown)
    for name, figures_before, figures_after in zip(names, before, after):
        for when, figures in (("before", figures_before), ("after", figures_after)):
            cells = [f"{figure:.3g}" for figure in figures.values()]
            table.print_row([f"{name} {when}"] + cells)


BLANKS = " " * 39  # They erase the last text, and fit into a narrow terminal.


def show_progress(text: str) -> None:
    """Show a text in place of the last one, if standard error is a terminal."""
    if sys.stderr and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        click.echo(f"\r{BLANKS}\r{text}", nl=False, err=True)


# The picture


def check_picture(path: Path) -> None:
    """Raise UsageError if a picture cannot be drawn: before the training, and not after it.

    An empty picture is tried, which stays until the true one is there.
    """
    try:
        from matplotlib.figure import Figure

        Figure().savefig(path)
    except ImportError:
        install = f"{quoted(sys.executable)} -m pip install matplotlib"
        raise click.UsageError(f"--plot needs matplotlib: {install}") from None
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{as_option('plot', path)}: {error}") from None


def draw_picture(variants: list[Variant], baseline: Epoch, examined: Array, path: Path) -> None:
    """Draw cost and accuracy of all runs, and z2 of the images `examined` before the training."""
    from matplotlib.figure import Figure

    has_z2 = variants[0][0].settings.hidden > 0
    panels = 3 if has_z2 else 2
    figure = Figure((7, 3 * panels + 0.25 * len(variants)), layout="constrained")
    axes = figure.subplots(panels)
    cost_axis, accuracy_axis = axes[:2]
    for number, variant in enumerate(variants):
        later = len(variants) - 1 - number
        style = {
            "color": f"C{number % 7}",  # The eighth colour is grey.
            "linestyle": ["-", "--", ":"][number // 7 % 3],
            "linewidth": 1 + 4 * later / len(variants),  # Where lines coincide, all are seen.
        }
        for run in variant:
            costs = [epoch.cost for epoch in run.epochs]
            accuracies = [100 * epoch.accuracy for epoch in run.epochs]
            cost_axis.plot(costs, marker=".", **style)
            [line] = accuracy_axis.plot(accuracies, marker=".", **style)
        line.set_label(variant[0].name)  # The line of the last seed is named for all.
        if has_z2:
            untrained = Run(variant[0].settings)  # with the same draws again
            zs, _ = untrained.network.feedforward(examined)
            counts, edges = np.histogram(zs[0], 100)
            axes[2].stairs(counts / counts.max(), edges, **style)
    cost_axis.set(ylabel="cost, training images", yscale="log")
    cost_axis.margins(y=0.1)
    accuracy_axis.set(ylabel="accuracy in %, test images", ylim=(0, 100))
    for axis, height in ((cost_axis, baseline.cost), (accuracy_axis, 100 * baseline.accuracy)):
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
    figure.savefig(path, dpi=120)


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
    """An int that errors call a whole number, and not an integer range as click does."""

    name = "whole number"


class Number(click.FloatRange):
    """A float that errors call a number, and not a float range."""

    name = "number"


class InitScale(Number):
    """A factor, or fan-in."""

    name = "number or fan-in"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "fan-in":
            return value
        return super().convert(value, param, ctx)


class OneOrTwo(click.types.StringParamType):
    """A value for both layers, or two with a comma, for the hidden and for the output layer."""

    def __init__(self, single: click.ParamType[Any]) -> None:
        self.single = single
        self.name = single.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        values = [text_of(self.single.convert(text, param, ctx)) for text in value.split(",")]
        if len(values) > 2:
            self.fail(f"{value!r} is for {len(values)} layers; there are two.", param, ctx)
        if values[0] == values[-1]:  # one, or two that are equal, as in rand,rand
            return values[0]
        return ",".join(values)


def text_of(value: object) -> str:
    """Return a value as it is typed, a number as short as it can be: 1 for 1.0."""
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return str(value)


def as_option(name: str, value: object) -> str:
    """Return the option that sets `name`, a setting or a parameter of `main`, to `value`."""
    if name == "prime":
        return f"--{value}-prime"
    return f"--{name.replace('_', '-')} {quoted(text_of(value))}"


def quoted(word: str) -> str:
    """Return a word of a command as the shell of this system wants it, in printable characters."""
    if not word.isprintable():
        return f"${word!r}"  # $'...' of bash, with \n for a newline
    if os.name == "nt":
        return subprocess.list2cmdline([word])
    return shlex.quote(word)


def distinct(values: Iterable[Any]) -> list[Any]:
    """Return the values in their order, each once."""
    return list(dict.fromkeys(values))


def combinations(values: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Return all combinations of the options that have several values: [{}] if none has."""
    several = {name: choices for name, choices in values.items() if len(choices) > 1}
    return [dict(zip(several, choice)) for choice in itertools.product(*several.values())]


def single_changes(given: Settings, n: int) -> list[dict[str, Any]]:
    """Return each of the SUSPECTS that changes the settings given, for n training images."""
    changes: list[dict[str, Any]] = []
    for name, value in SUSPECTS:
        if name == "batch_size":
            value = min(value, n)  # n is the full batch, here and in `given`
        needs_hidden = name == "prime" or "," in str(value)
        if needs_hidden and not given.hidden:
            continue
        change = {name: value}
        if value != getattr(given, name) and change not in changes:  # n may be 1000
            changes.append(change)
    return changes


def variant_of(given: Settings, changes: dict[str, Any], seeds: int) -> Variant:
    """Return the runs of the settings given, with these changes: one for each seed."""
    name = " ".join(as_option(setting, value) for setting, value in changes.items())
    variant = []
    for seed in range(given.seed, given.seed + seeds):
        variant.append(Run(replace(given, **changes, seed=seed), name or Run.name))
    return variant


def title_of(hidden: int, batch_sizes: set[int], n: int) -> str:
    """Return what all runs have in common, in words: n training images, these batch sizes."""
    layers = "784-10"
    if hidden:
        layers = f"784-{hidden}-10"
    title = f"{layers} sigmoid network, cross-entropy, {n:,} training images"
    if len(batch_sizes) > 1:
        return title
    if batch_sizes == {n}:
        return f"{title}, full batch"
    return f"{title}, batches of {min(batch_sizes):,}"


def command_of(
    values: dict[str, list[Any]], suspects: bool, seeds: int, epochs: int, data: Path | None
) -> str:
    """Return the command that gives the same costs and accuracies, with every setting."""
    words = ["python reproduce.py"]
    for name, choices in values.items():
        if name != "prime" or values["hidden"] != [0]:
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
    hidden: int, variants: list[Variant], shows_epochs: bool, suspects: bool, n_test: int
) -> list[str]:
    """Return what a reader must know who has nothing but the printed rows."""
    epoch = "the last epoch"
    hint = ""
    if shows_epochs:
        epoch = "the epoch"
        hint = "; epoch 0 is the first"
    lines = [
        f"cost: mean over the training images in {epoch}, each before its step",
        f"accuracy: on {n_test:,} test images, after {epoch}{hint}",
        "most predicted: the digit, and its share of all predictions for these images",
        "baseline: a network that ignores the image and knows how often each digit occurs",
    ]
    first = variants[0][0].settings.seed
    last = variants[0][-1].settings.seed
    if first < last:
        lines.append(f"seeds {first} to {last}: means, lowest and highest; all predictions")
    if suspects:
        lines.append(
            "the network: that of the command; each row below it: the same with one change"
        )
    if hidden:
        lines.append("buggy derivative: sigmoid_prime(a2) for w2, b2; fixed: a2 * (1 - a2)")
    if any("," in variant[0].name for variant in variants):
        lines.append("two values with a comma: the first for w2 and b2, the second for w3 and b3")
    if shows_epochs and len(variants) > 1:
        for letter, variant in zip(LETTERS, variants):
            lines.append(f"{letter}: {variant[0].name}")
    return lines


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
    help="* Backpropagate with a2 * (1 - a2), the right derivative. This is the default.",
)
@repeatable(
    "--init",
    type=OneOrTwo(click.Choice(list(INITS))),
    metavar="INIT[,INIT]",
    default=[Settings.init],
    help="* How weights and biases are drawn: rand (uniform, 0 to 1), rand-0.5 (the same minus "
    "1/2) or randn (standard normal). Two with a comma, like rand-0.5,rand, are for the hidden "
    "layer (w2, b2) and for the output layer (w3, b3).",
)
@repeatable(
    "--init-scale",
    type=OneOrTwo(InitScale(min=0)),
    metavar="R[,R]",
    default=[Settings.init_scale],
    help="* A factor by which weights and biases are multiplied; or fan-in, which divides each "
    "weight by the square root of its neuron's number of inputs. Two with a comma, like "
    "1,fan-in, are for the hidden and for the output layer.",
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
    "what it has already is skipped.",
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
    help="Print every N-th epoch only, and the last.",
)
@click.option(
    "--diagnose",
    is_flag=True,
    help="Measure the hidden layer and the gradient before and after the training.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "markdown", "csv"]),
    default="table",
    help="How results are printed. csv has each run's epochs, and costs that are not rounded.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw cost, accuracy and the hidden layer's weighted inputs z2 into a file, whose name "
    "ends in .png, .svg or .pdf; needs matplotlib.",
)
@click.version_option(__version__)
@np.errstate(all="ignore")  # as train_epoch does for itself
def main(
    hidden: int,
    buggy: bool,
    fixed: bool,
    init: tuple[str, ...],
    init_scale: tuple[str, ...],
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
    output_format: str,
    plot: Path | None,
) -> None:
    """Train a network of sigmoid neurons on MNIST, and print cost and accuracy.

    Options marked * may have several values, as in --eta 1 --eta 2: all combinations are
    run.

    Of up to four runs, every epoch is shown, side by side. Of more, and with --seeds, only the
    last one is (--format csv has all).
    """
    if not hidden:
        flags = {"--buggy-prime": buggy, "--fixed-prime": fixed, "--diagnose": diagnose}
        words = [flag for flag, is_given in flags.items() if is_given]
        words += [as_option("init", value) for value in init if "," in value]
        words += [as_option("init_scale", value) for value in init_scale if "," in value]
        if words:
            raise click.UsageError(f"{words[0]} needs a hidden layer: add --hidden 30.")
    if seed + seeds > 2**32:
        raise click.UsageError(
            f"--seed {seed} --seeds {seeds}: there is no seed above {2**32 - 1}."
        )
    if diagnose and output_format == "csv":
        raise click.UsageError("--diagnose has no csv form: choose another --format.")
    if plot:
        check_picture(plot)
    try:
        training, test = load_images(data)
    except mnist_loader.DataError as error:
        raise click.ClickException(str(error)) from None
    n = len(training)
    if epochs is None:
        epochs = 30 if hidden else 100

    primes = []
    if buggy:
        primes.append("buggy")
    if fixed or not primes:
        primes.append("fixed")
    values: dict[str, list[Any]] = {  # of all Settings; those marked * may have several
        "hidden": [hidden],
        "prime": primes,
        "init": distinct(init),
        "init_scale": distinct(init_scale),
        "eta": distinct(eta),
        "batch_size": distinct(min(size, n) for size in batch_size or [n]),  # n: the full batch
        "seed": [seed],
        "dtype": [dtype],
    }
    given = Settings(**{name: choices[0] for name, choices in values.items()})
    changes = combinations(values)  # to `given`, one for each variant
    if suspects:
        if len(changes) > 1:
            raise click.UsageError("--suspects changes one network: give each option once.")
        changes += single_changes(given, n)
    variants = [variant_of(given, change, seeds) for change in changes]
    runs = [run for variant in variants for run in variant]
    baseline = baseline_of(training, test)

    # One group is trained after the other; the runs of a group take turns, an epoch each.
    groups = variants
    shows_epochs = len(variants) <= MOST_ABREAST and seeds == 1
    if shows_epochs:
        groups = [runs]
    markdown = output_format == "markdown"
    if output_format != "csv":
        click.echo(title_of(hidden, {run.settings.batch_size for run in runs}, n))
        click.echo(f"\n    {command_of(values, suspects, seeds, epochs, data)}\n")
        for line in notes(hidden, variants, shows_epochs, suspects, len(test)):
            click.echo(f"- {line}")
        click.echo()
    report: Report
    if output_format == "csv":
        report = Csv()
    elif not shows_epochs:
        report = Ends(variants, markdown)
    elif len(variants) == 1:
        report = EpochsOfOne(markdown)
    else:
        report = EpochsAbreast(variants, markdown)

    before = []
    if diagnose:
        before = [examine(run.network, training) for run in runs]
    trained = 0
    try:
        for group in groups:
            for number in range(epochs):
                for run in group:
                    train_epoch(run, training, test)
                    trained += 1
                    show_progress(f"{trained} of {epochs * len(runs)} epochs")
                if number % every == 0 or number == epochs - 1:
                    show_progress("")
                    report.print_epoch(number, group)
            report.print_end(group)
    finally:
        show_progress("")
    report.finish(baseline)

    if diagnose:
        after = [examine(run.network, training) for run in runs]
        print_diagnosis(variants, before, after, markdown)
    if plot:
        draw_picture(variants, baseline, training.images[:EXAMINED].T, plot)


if __name__ == "__main__":
    main()
