# /// script
# requires-python = ">=3.10"
# dependencies = ["click>=8.1", "numpy>=1.22"]
# ///
"""Why does this network learn nothing? Cross Validated question 374415, reproduced.

The question (https://stats.stackexchange.com/q/374415) trains a 784-10 and a 784-30-10
network of sigmoid neurons on MNIST by full-batch gradient descent. The first learns; the
second calls every digit a 1. This script gives the question's own numbers, and replaces
each suspect on its own: derivative, sign and size of the weights, batch size, eta, steps.

    python reproduce.py                               784-10: cost 1.377489, 8653 correct
    python reproduce.py --hidden 30 --buggy-prime     784-30-10: 3.248736, 1135 correct

The names are those of Nielsen's book "Neural Networks and Deep Learning".
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: no traceback

import importlib.util
import io
import itertools
import math
import os
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

# The threads are ours, over chunks of images; BLAS's own in each of them would make an epoch up
# to twice as long. BLAS reads their number when numpy is imported; what the user has set counts.
if not os.environ.get("OMP_NUM_THREADS"):
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ[name] = os.environ.get(name) or "1"
sys.path.append(str(Path(__file__).resolve().parent))  # which python -I leaves out

import click
import numpy as np
from click.core import ParameterSource

import mnist_loader

__version__ = "2.0"

Array = np.ndarray[Any, Any]
Result = TypeVar("Result")
RandomState = np.random.RandomState
DIGITS, ALL = np.arange(10)[:, np.newaxis], slice(None)
Gradient = tuple[float, list[Array], list[Array]]  # a cost, its nabla_w and its nabla_b


# The network


def sigmoid(z: Array) -> Array:
    """Return 1/(1 + e^-z) for each element of `z`, in its shape and dtype."""
    return 1.0 / (1.0 + np.exp(-z))  # Where e^-z overflows, 1/inf is the 0 it should be.


def sigmoid_prime(z: Array) -> Array:
    """Return the derivative of the sigmoid at `z`."""
    return fixed_prime(sigmoid(z))


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
    u = np.where(y, -z, z)
    # ln(1 + e^u) without overflow; np.logaddexp(0, u) is the same, up to 6 times as slow.
    terms = np.maximum(u, 0) + np.log1p(np.exp(-np.abs(u)))
    return float(terms.sum(dtype=np.float64))


@dataclass
class Network:
    """A network of sigmoid neurons with the cross-entropy cost.

    For layers of sizes [784, hidden, 10] or [784, 10], weights[l] has shape (sizes[l+1],
    sizes[l]) and biases[l] (sizes[l+1], 1). `prime` is the derivative, given the activation.
    """

    weights: list[Array]
    biases: list[Array]
    prime: Callable[[Array], Array] = fixed_prime

    def feedforward(self, x: Array) -> tuple[list[Array], list[Array]]:
        """Return the weighted inputs z layer by layer, and the activations, x first.

        Each of the m columns of x, shape (784, m), is an image.
        """
        zs, activations = [], [x]
        for w, b in zip(self.weights, self.biases, strict=True):
            zs.append(w @ activations[-1] + b)
            activations.append(sigmoid(zs[-1]))
        return zs, activations

    def backprop(self, x: Array, y: Array) -> Gradient:
        """Return the cost of m images, nabla_w and nabla_b, each summed over the images.

        `x` has shape (784, m); `y`, bool and one-hot, (10, m). These are equations BP1
        to BP4 of Nielsen's chapter 2, BP1 in the form of chapter 3 for cross-entropy.
        """
        zs, activations = self.feedforward(x)
        deltas = [activations[-1] - y]  # BP1
        for w, a in zip(self.weights[:0:-1], activations[-2:0:-1], strict=True):
            deltas.insert(0, (w.T @ deltas[0]) * self.prime(a))  # BP2
        nabla_b = [delta.sum(axis=1, keepdims=True) for delta in deltas]  # BP3
        nabla_w = [delta @ a.T for delta, a in zip(deltas, activations[:-1], strict=True)]  # BP4
        return cross_entropy(zs[-1], y), nabla_w, nabla_b

    def step(self, rate: float, nabla_w: list[Array], nabla_b: list[Array]) -> None:
        """Subtract `rate` times the gradient from the weights and biases."""
        for array, nabla in zip(self.weights + self.biases, nabla_w + nabla_b, strict=True):
            array -= rate * nabla


# Where a run starts


@dataclass(frozen=True)
class Settings:
    """What defines a run, but for the data and the number of epochs."""

    hidden: int  # neurons; 0 is the 784-10 network
    init: str  # "rand", "rand-0.5" or "randn"
    init_scale: float | str  # a factor, or "fan-in"
    prime: str  # "buggy", "fixed" or, without a hidden layer, ""
    eta: float
    batch_size: int  # images per step; all of them is the full batch
    seed: int
    dtype: str  # "float64" or "float32"


@np.errstate(over="ignore")  # train looks for divergence
def initial_network(settings: Settings, random: RandomState) -> Network:
    """Return the network that a run starts from.

    The draws are those of the question's script: all weights, layer by layer, then all
    biases, uniform from 0 to 1 ("rand"), the same minus 1/2, or standard normal ("randn").
    A factor multiplies all of them, as r in the question; "fan-in" divides each weight by
    the square root of its neuron's number of inputs (Nielsen, chapter 3), but no bias.
    """
    draw = random.randn if settings.init == "randn" else random.rand
    shift = 0.5 if settings.init == "rand-0.5" else 0.0

    def initial(n_out: int, n_in: int) -> Array:
        array = draw(n_out, n_in) - shift
        if isinstance(settings.init_scale, str):
            array /= math.sqrt(n_in)
        else:
            array *= settings.init_scale
        return array.astype(settings.dtype)

    sizes = [784, settings.hidden, 10] if settings.hidden else [784, 10]
    weights = [initial(n_out, n_in) for n_in, n_out in itertools.pairwise(sizes)]
    biases = [initial(n_out, 1) for n_out in sizes[1:]]
    return Network(weights, biases, buggy_prime if settings.prime == "buggy" else fixed_prime)


class Run:
    """A network in training, and the epochs and steps made so far."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.random = RandomState(settings.seed)  # of the weights, then the order of the images
        self.network = initial_network(settings, self.random)
        self.epochs: list[Epoch] = []
        self.steps = 0
        self.name = self.options = ""  # what tells it from other runs
        self.examinations: list[dict[str, float]] = []  # before and after the training


# Training


class Epoch(NamedTuple):
    """What is reported of an epoch of one run, a pass over the training images.

    `cost` is the mean over them, of each at the weights before the step that it takes part
    in. After the epoch, `correct` test images are classified rightly, `predicted[j]` as j.
    """

    cost: float
    correct: int
    predicted: list[int]

    @property
    def accuracy(self) -> float:
        """The share of the test images that are classified rightly."""
        return self.correct / sum(self.predicted)


def train(run: Run, training: Images, test: Images, epochs: int) -> Iterator[Epoch]:
    """Train the run's network in place by gradient descent, and yield each epoch.

    A step is eta/m times the gradient, summed over the m images of a batch. Raises
    FloatingPointError, with the run and a limit, if a weight or bias is not within it.
    """
    network = run.network
    limit = math.sqrt(np.finfo(run.settings.dtype).max)  # No product of two overflows.
    for _ in range(epochs):
        cost = 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            for m, batch in training.batches(run.settings.batch_size, run.random):
                its_cost, nabla_w, nabla_b = gradient(network, batch)
                network.step(run.settings.eta / m, nabla_w, nabla_b)
                run.steps += 1
                cost += its_cost
            if not all(np.abs(p).max() <= limit for p in network.weights + network.biases):
                raise FloatingPointError(run, limit)
            run.epochs.append(Epoch(cost / len(training.labels), *evaluate(network, test)))
        yield run.epochs[-1]


def evaluate(network: Network, test: Images) -> tuple[int, list[int]]:
    """Return how many images are classified rightly, and how many as 0, as 1, ... as 9.

    The digit is the argmax of the activations, not of z: where they are rounded to 1
    they tie, and the lowest digit wins, as it does in the question.
    """
    outputs = for_each(test.chunks, network, lambda network, x, _: network.feedforward(x)[1][-1])
    digits = np.concatenate([a.argmax(axis=0) for a in outputs])
    labels = np.concatenate([chunk.labels for chunk in test.chunks])
    return int(np.sum(digits == labels)), np.bincount(digits, minlength=10).tolist()


def baseline(training: Images, test: Images) -> Epoch:
    """Return what a network has that ignores the image.

    Its outputs are the frequencies p of the digits among the training labels, its
    cost the entropy -sum(p ln p + (1-p) ln(1-p)): no other constants have a lower one.
    """
    p = np.bincount(training.labels, minlength=10) / len(training.labels)
    cost = sum(-np.sum(q * np.log(q)) for q in (p[p > 0], 1 - p[p < 1]))
    predicted = [len(test.labels) * int(j == p.argmax()) for j in range(10)]
    return Epoch(float(cost), int(np.sum(test.labels == p.argmax())), predicted)


# The images, and what makes it fast


class Chunk(NamedTuple):
    """As many images as a thread works on at a time: the rows `indices` of `images`."""

    images: Array  # float32, of shape (n, p)
    labels: Array  # of shape (n,)
    pixels: Array | slice = ALL  # which p of the 784
    indices: Array | slice = ALL


class Images:
    """Images, float32 of shape (n, 784), and their labels, (n,), in chunks and batches."""

    def __init__(self, images: Array, labels: Array, hidden: int = 0) -> None:
        self.images, self.labels = images, labels
        # 1000 images stay in the cache for both products with them: 500 or 4000 take a fifth
        # longer. A hidden layer wider than the images gets smaller chunks, for the memory.
        self.chunk_size = max(100, 1000 * 784 // max(784, hidden))

    @cached_property
    def chunks(self) -> list[Chunk]:
        """All images in chunks of like images, without the pixels that are 0 in a chunk.

        There the gradient is 0 too. Images sorted by the top, right and left edge of what is
        drawn leave 385 pixels of 784 and save a third of the time (unsorted: 605, a fifth).
        """
        square = self.images.reshape(-1, 28, 28)
        columns = square.any(axis=1)
        left, right = columns.argmax(axis=1), np.fliplr(columns).argmax(axis=1)
        order = np.lexsort((left, right, square.any(axis=2).argmax(axis=1)))
        chunks = []
        for indices in np.split(order, range(self.chunk_size, len(order), self.chunk_size)):
            images = self.images[indices]
            pixels = np.flatnonzero(images.any(axis=0))
            chunks.append(Chunk(images.take(pixels, axis=1), self.labels[indices], pixels))
        return chunks

    def batches(self, size: int, random: RandomState) -> Iterator[tuple[int, list[Chunk]]]:
        """Yield the number of images and the chunks of each batch of an epoch."""
        n = len(self.labels)
        if size >= n:
            yield n, self.chunks
            return
        order = random.permutation(n)  # The last batch may be shorter.
        for batch in (order[start : start + size] for start in range(0, n, size)):
            # Sharing 500 images or less costs the threads as much as it gains.
            parts = [batch[start : start + 500] for start in range(0, len(batch), 500)]
            yield len(batch), [Chunk(self.images, self.labels, ALL, part) for part in parts]


def gradient(network: Network, batch: Sequence[Chunk]) -> Gradient:
    """Return the cost of a batch, nabla_w and nabla_b, each summed over its images."""
    gradients = for_each(batch, network, Network.backprop)
    if len(batch) == 1 and batch[0].pixels is ALL:  # a small mini-batch: nothing to sum
        return next(gradients)
    cost, nabla_b = 0.0, [np.zeros_like(b) for b in network.biases]
    nabla_w = [np.zeros_like(w) for w in network.weights]
    # Summed in order, the bits are the same for any number of threads.
    for chunk, (its_cost, (its_first, *its_others), its_nabla_b) in zip(
        batch, gradients, strict=True
    ):
        cost += its_cost
        nabla_w[0][:, chunk.pixels] += its_first
        for nabla, its_nabla in zip(nabla_w[1:] + nabla_b, its_others + its_nabla_b, strict=True):
            nabla += its_nabla
    return cost, nabla_w, nabla_b


def for_each(
    chunks: Sequence[Chunk], network: Network, function: Callable[[Network, Array, Array], Result]
) -> Iterator[Result]:
    """Yield function(network, x, y) for each chunk, in order; threads share the work.

    The network given is that of the chunk's pixels. `x`, in the network's dtype, has the
    images as columns; `y`, bool of shape (10, m), has their digits, one-hot.
    """

    def of_chunk(chunk: Chunk) -> Result:
        seeing, (w, *others) = network, network.weights
        if chunk.pixels is not ALL:
            seeing = replace(network, weights=[w[:, chunk.pixels], *others])
        # The images are kept as float32. Converting them here, in the cache, halves the
        # memory, and takes no longer than reading float64 would.
        x = chunk.images[chunk.indices].T.astype(w.dtype)
        return function(seeing, x, chunk.labels[chunk.indices] == DIGITS)

    def begun(chunk: Chunk) -> Callable[[], Result]:
        if len(chunks) > 1 and THREADS > 1:
            with suppress(RuntimeError):  # No thread can be started: this one does the work.
                return POOL.submit(of_chunk, chunk).result
        return partial(of_chunk, chunk)

    ahead = []  # As a gradient can be large, few are computed ahead of the sum.
    for chunk in chunks:
        ahead.append(begun(chunk))
        if len(ahead) > THREADS:
            yield ahead.pop(0)()
    yield from (result() for result in ahead)


def thread_count() -> int:
    """Return how many threads keep the cores busy, with those that BLAS starts in each."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    counts = [os.environ.get(name, "")[:9] for name in names]
    return max(1, cores // max([1, *(int(count) for count in counts if count.isdecimal())]))


THREADS = thread_count()
POOL = ThreadPoolExecutor(THREADS, initializer=partial(np.seterr, over="ignore", invalid="ignore"))


# What is measured

EXAMINED = 1000  # So many training images, the first, are looked at for z2 and a2,
CHECKED = 20  # and so many for the error of the gradient.
OVER = f"z2, a2: first {EXAMINED:,} training images; error: first {CHECKED}; gradients, cost: all"
VARIATION, ERROR = "a2, deviation between images", "error of the gradient"
ROUNDING = 1e-5  # A relative error up to this may be that of rounding the cost.


def examined(run: Run, epochs: Iterator[Epoch], training: Images) -> Iterator[Epoch]:
    """Pass a run's epochs on, and examine its network before the first and after the last."""
    run.examinations.append(examine(run.network, training))
    yield from epochs
    run.examinations.append(examine(run.network, training))


@np.errstate(over="ignore", invalid="ignore")
def examine(network: Network, training: Images) -> dict[str, float]:
    """Return figures of a network at its present weights, by what they are of.

    Cost and gradient are means over the images; of a gradient the norm is given.
    """
    figures, x = {}, training.images[:EXAMINED].T.astype(np.float64)
    layers = ["w2", "w3"] if network.weights[1:] else ["w"]
    if network.weights[1:]:
        (z2, _), (_, a2, _) = network.feedforward(x)
        figures["z2, mean"] = float(z2.mean())
        figures["z2, smallest size"] = float(np.abs(z2).min())
        figures[VARIATION] = float(a2.std(axis=1).mean())
    for prime, how in (network.prime, "as computed"), (fixed_prime, "right derivative"):
        cost, nabla_w, _ = gradient(replace(network, prime=prime), training.chunks)
        for layer, nabla in zip(layers, nabla_w, strict=True):
            name = f"gradient of {layer}" + (f", {how}" if layer == "w2" else "")
            figures[name] = float(np.linalg.norm(nabla)) / len(training.labels)
    y = training.labels[:CHECKED] == DIGITS
    figures[ERROR] = gradient_error(network, x[:, :CHECKED], y)
    return figures | {"cost": cost / len(training.labels)}


def gradient_error(network: Network, x: Array, y: Array) -> float:
    """Return how wrong nabla_w is for the images `x` with the one-hot digits `y`.

    Along the unit vector of each layer's nabla_w the cost should rise by the sum of their
    norms. Returned is the relative error of that against the central difference, in float64;
    what rounding can account for is ROUNDING at most.
    """
    weights, biases = ([p.astype(float) for p in ps] for ps in (network.weights, network.biases))
    network = replace(network, weights=weights, biases=biases)
    cost, nabla_w, _ = network.backprop(x, y)
    norms = [float(np.linalg.norm(nabla)) for nabla in nabla_w]
    units = [nabla / (norm or 1.0) for nabla, norm in zip(nabla_w, norms, strict=True)]

    def cost_at(distance: float) -> float:
        changed = [w + distance * unit for w, unit in zip(weights, units, strict=True)]
        return cross_entropy(replace(network, weights=changed).feedforward(x)[0][-1], y)

    h, rise = 1e-4, sum(norms)
    slope = (cost_at(h) - cost_at(-h)) / (2 * h)
    # Of the cost, and of a - y times all that backprop multiplies it by.
    rounded = cost / h + (1 + x.sum()) * (1 + max(np.abs(w).max() for w in weights))
    rounded *= np.finfo(np.float64).eps / ROUNDING
    return max(ROUNDING, float(abs(rise - slope) / max(rise, abs(slope), rounded)))


# What is printed

MOST_ABREAST = 4  # So many runs are shown side by side; of more, only how they end.
WIDTH = 80  # columns of plain text, but for the line with the command


class Experiment:
    """A run for each combination of the `values` of main's options, of which some were `given`."""

    def __init__(self, values: dict[str, list[Any]], given: list[str]) -> None:
        [hidden], [data], [self.every] = values["hidden"], values["data"], values["every"]
        mnist = mnist_loader.load_data(data)
        training, test = Images(*mnist[0], hidden), Images(*mnist[2], hidden)
        self.baseline, self.sample = baseline(training, test), training.images[:EXAMINED].T
        n = len(training.labels)
        sizes = dict.fromkeys(min(size, n) for size in values["batch_size"] or [n])
        values["batch_size"] = list(sizes)
        values["prime"] = (values["prime"] or ["fixed"]) if hidden else [""]
        values["epochs"] = [self.epochs] = [values["epochs"][0] or (30 if hidden else 100)]

        settings = {name: values[name] for name in values if name in Settings.__annotations__}
        self.compared = [name for name in settings if len(settings[name]) > 1]
        combinations = itertools.product(*settings.values())
        self.runs = [Run(Settings(**dict(zip(settings, c, strict=True)))) for c in combinations]
        for run, letter in zip(self.runs, itertools.cycle("ABCD"), strict=False):
            run.options = " ".join(option(n, getattr(run.settings, n)) for n in self.compared)
            run.name = letter if 1 < len(self.runs) <= MOST_ABREAST else run.options
        names = dict.fromkeys(["hidden", *self.compared, *settings, "epochs", *given])
        words = [option(name, value) for name in names for value in values[name]]
        self.command = " ".join(["python reproduce.py", *filter(None, words)])

        is_mnist = data is None or mnist_loader.is_mnist(mnist)
        images = "MNIST images" if is_mnist else f"images of {str(data)!a}, not the standard MNIST"
        layers = f"784-{hidden}-10" if hidden else "784-10"
        self.title = f"{layers} sigmoid network, {n:,} {images}, cross-entropy"
        if len(sizes) == 1:
            self.title += (
                ", full-batch" if n in sizes else f", mini-batches\xa0of\xa0{min(sizes):,}"
            )
        # An epoch is trained when it is asked for, for the row that is printed of it.
        results = [train(run, training, test, self.epochs) for run in self.runs]
        if values["diagnose"] == [True]:
            results = [examined(*of, training) for of in zip(self.runs, results, strict=True)]
        self.results: Iterable[tuple[Epoch, ...]] = zip(*results, strict=True)


def option(name: str, value: object) -> str:
    """Return how the command line sets `name`, a parameter of `main`, to `value`."""
    if name == "prime":
        return f"--{value}-prime" if value else ""
    flag = "--" + name.replace("_", "-")
    if value is True:
        return flag
    text = typed(value)
    is_plain = text.isascii() and text.isprintable()  # as all output is
    return f"{flag} {shlex.quote(text) if is_plain else ascii(text)}"


def typed(value: object) -> str:
    """Return a setting as one would type it, in full precision: 1 for 1.0."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def decimal(cost: float, width: int = 10) -> str:
    """Return a cost with as many digits as fit into `width` columns."""
    return f"{cost:.{width - 4}f}" if cost < 1000 else f"{cost:.{width - 7}e}"


def most_predicted(epoch: Epoch) -> tuple[int, int, int]:
    """Return how many test images there are, the digit seen most often, and how often."""
    return sum(epoch.predicted), int(np.argmax(epoch.predicted)), max(epoch.predicted)


def csv(experiment: Experiment) -> Iterator[str]:
    """Yield CSV: a row for every epoch of every run, costs in full precision."""
    yield ",".join(Settings.__annotations__) + ",epoch,cost,correct,total,top_digit,top_count"
    for number, results in enumerate(experiment.results):
        for run, epoch in zip(experiment.runs, results, strict=True):
            figures = (number, epoch.cost, epoch.correct, *most_predicted(epoch))
            yield ",".join(map(typed, (*astuple(run.settings), *figures)))


def report(experiment: Experiment, markdown: bool) -> Iterator[str]:
    """Yield a report: plain text for a terminal, or Markdown for an answer."""
    runs = experiment.runs
    yield fold(experiment.title, markdown)
    yield f"\n    {experiment.command}\n" if markdown else f"{experiment.command}\n"
    if len(runs) <= MOST_ABREAST:
        yield from (one_run if len(runs) == 1 else side_by_side)(experiment, markdown)
        yield ""
    yield from outcomes(experiment, markdown)
    for run in runs if runs[0].examinations else []:
        yield from diagnosis(run, experiment.baseline, markdown)


def fold(text: str, markdown: bool) -> str:
    """Return a text as it is, for Markdown, or in lines of at most WIDTH columns."""
    if not markdown:
        text = textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return text.replace("\xa0", " ")  # where no line was to be broken


Column = tuple[str, str]  # the heading, and the format of the cells in plain text
OUTCOME = [("correct", "  {:>7}"), ("accuracy", "  {:>8}"), ("most predicted", "  {:18}")]


def outcome(epoch: Epoch) -> list[str]:
    """Return the cells of the columns OUTCOME."""
    total, digit, count = most_predicted(epoch)
    return [str(epoch.correct), f"{epoch.accuracy:.2%}", f"{digit} ({count} of {total})"]


def shown(experiment: Experiment) -> Iterator[tuple[str, tuple[Epoch, ...]]]:
    """Yield the epochs that are to be shown, with their numbers."""
    for number, results in enumerate(experiment.results):
        if number % experiment.every == 0 or number == experiment.epochs - 1:
            yield str(number), results


def one_run(experiment: Experiment, markdown: bool) -> Iterator[str]:
    """Yield a row for each epoch, with all its figures."""
    columns = [("epoch", "{:>5}"), ("cost", "  {:>10}"), *OUTCOME]
    rows = ([number, decimal(epoch.cost), *outcome(epoch)] for number, [epoch] in shown(experiment))
    return table(columns, rows, markdown)


def side_by_side(experiment: Experiment, markdown: bool) -> Iterator[str]:
    """Yield a row for each epoch, with the cost and the correct test images of each run."""
    runs, width = experiment.runs, 9 if len(experiment.runs) == MOST_ABREAST else 10
    columns = [("epoch", "{:>5}")]
    for run in runs:
        key = f"- {run.name}: `{run.options}`" if markdown else f"{run.name}: {run.options}"
        yield fold(key, markdown)
        its = f"{run.name} " if markdown else ""
        columns += [(f"{its}cost", f" {{:>{width}}}"), (f"{its}correct", " {:>7}")]
    yield ""
    if not markdown:
        yield " " * 5 + "".join(f"{run.name:>{width + 9}}" for run in runs)
    rows = (
        [number, *(cell for e in results for cell in (decimal(e.cost, width), str(e.correct)))]
        for number, results in shown(experiment)
    )
    yield from table(columns, rows, markdown)


def outcomes(experiment: Experiment, markdown: bool) -> Iterator[str]:
    """Yield a row for each run, when all epochs have ended, and one for the baseline."""
    for _ in experiment.results:
        pass
    runs, compared = experiment.runs, experiment.compared
    texts = {
        n.replace("_", "-"): [typed(getattr(run.settings, n)) for run in runs] for n in compared
    }
    if len(runs) <= MOST_ABREAST:
        texts = {"": [run.name for run in runs]}
    if len(runs) <= MOST_ABREAST or "batch_size" in compared:
        texts["steps"] = [str(run.steps) for run in runs]
    columns: list[Column] = []
    for heading, cells in texts.items():
        cells.append("" if columns else "baseline")
        columns.append((heading, f"{{:>{max(map(len, [heading, *cells])) + 1}}}"))
    texts["first cost"] = [*(decimal(run.epochs[0].cost) for run in runs), ""]
    columns += [("first cost", "  {:>10}"), ("last cost", "  {:>10}"), *OUTCOME]
    last = [*(run.epochs[-1] for run in runs), experiment.baseline]
    rows = (
        [*cells, decimal(epoch.cost), *outcome(epoch)]
        for epoch, *cells in zip(last, *texts.values(), strict=True)
    )
    return table(columns, rows, markdown)


def table(columns: list[Column], rows: Iterable[list[str]], markdown: bool) -> Iterator[str]:
    """Yield a table line by line, as the rows come; of plain text, the columns that fit."""
    while not markdown and sum(len(cell.format("")) for _, cell in columns) > WIDTH:
        columns.pop()
    headings, formats = zip(*columns, strict=True)
    if markdown:
        rule = ["---:" if ">" in cell else ":---" for cell in formats]
        for cells in itertools.chain([headings, rule], rows):
            yield f"| {' | '.join(cells)} |"
    else:
        for cells in itertools.chain([headings], rows):
            yield "".join(map(str.format, formats, cells)).rstrip()


# The diagnosis in words

LEARNED = 0.1  # A run has learned whose accuracy is this far above that of the baseline,
STUCK = 0.001  # and is stuck if its cost is this close to that of the baseline.
FALLING = 4  # The cost is still falling if of its last values, so many, each is lower.
UNVARYING = 0.01  # Activations that vary less between images hardly tell them apart.
TOLERANCE = 0.001  # A right gradient has no larger error.
MEANINGS = {VARIATION: (UNVARYING, "the same", "varied"), ERROR: (TOLERANCE, "right", "wrong")}


def diagnosis(run: Run, baseline: Epoch, markdown: bool) -> Iterator[str]:
    """Yield what was measured of a run, before and after it, and what follows from that."""
    heading = f"diagnosis{run.name and ' of ' + run.name}"
    yield ""
    if len(run.name) > 1:  # that of one of many runs, and too long for a column
        yield fold(heading, markdown) + "\n"
    columns = [(heading if len(run.name) < 2 else "", "{:32}"), ("before", " {:>9}")]
    columns += [("after", " {:>9}"), ("limit", " {:>6}"), ("meaning", "  {:18}")]
    rows = []
    for figure in run.examinations[0]:
        values = [found[figure] for found in run.examinations]
        limit, within, above = MEANINGS.get(figure, (math.inf, "", ""))
        meanings = dict.fromkeys(above if value > limit else within for value in values)
        texts = [*(f"{value:.3g}" for value in values), f"{limit}" if within else ""]
        rows.append([figure, *texts, " -> ".join(meanings)])
    yield from table(columns, rows, markdown)
    yield ""
    for text in f"({OVER}.)", *verdict(run, baseline):
        yield fold(f"- {text}" if markdown else text, markdown)


def verdict(run: Run, baseline: Epoch) -> Iterator[str]:
    """Yield how a run ended, and the first that applies of what may be the main cause."""
    (before, after), last = run.examinations, run.epochs[-1]
    costs = [*(epoch.cost for epoch in run.epochs), after["cost"]][-FALLING:]
    if learns := last.correct >= baseline.correct + LEARNED * sum(last.predicted):
        ended = "It learns"
    elif math.isclose(costs[-1], baseline.cost, rel_tol=STUCK):
        ended = "It is stuck at the baseline"
    elif costs[-1] > baseline.cost:
        ended = "It is worse than the baseline"
    else:
        ended = "It has learned little"
    base = f"{decimal(baseline.cost)}, {baseline.accuracy:.2%}"
    yield (
        f"{ended}: after the last of {run.steps:,} steps the cost is {decimal(costs[-1])}, and "
        f"{last.accuracy:.2%} of the test images are right (baseline: {base})."
    )
    constant = [e for e in run.examinations if e.get(VARIATION, math.inf) <= UNVARYING]
    when = "before" if constant[:1] == [before] else "after"
    is_wrong = max(before[ERROR], after[ERROR]) > TOLERANCE
    if learns:
        same = f"a hidden layer that put out the same for every image {when} the training"
        what = " and of ".join([same] * bool(constant) + ["a wrong gradient"] * is_wrong)
        yield f"It learns in spite of {what}." if what else "Nothing wrong was found."
    elif constant:
        of = {figure: f"{value:.3g}" for figure, value in constant[0].items()}
        yield (
            "Main cause: the hidden layer puts out the same for every image. "
            f"{when.capitalize()} the training z2 is {of['z2, mean']} on average and "
            f"{of['z2, smallest size']} or more in size, a2 varies by {of[VARIATION]} between "
            f"images, and the gradient of w2 is {of['gradient of w2, right derivative']} with the "
            f"right derivative, beside {of['gradient of w3']} of w3."
        )
    elif is_wrong:
        yield "Main cause: the gradient is wrong. It is not what differences of the cost say."
    elif all(later < earlier for earlier, later in itertools.pairwise(costs)):
        yield f"Main cause: too few steps. After {run.steps:,} the cost was still falling."
    else:
        yield "Main cause: not in these figures."


@np.errstate(over="ignore")
def draw(experiment: Experiment, kind: str) -> bytes:
    """Return a "png", "svg" or "pdf" of all runs: cost, accuracy and, if examined, z2."""
    os.environ.update(MPLBACKEND="agg", SOURCE_DATE_EPOCH="0")  # the same picture everywhere
    import matplotlib.style
    from matplotlib.figure import Figure

    runs, baseline = experiment.runs, experiment.baseline
    panels = 3 if runs[0].examinations and runs[0].settings.hidden else 2
    look = {"axes.grid": True, "grid.alpha": 0.3, "lines.linewidth": 2.5, "svg.hashsalt": kind}
    with matplotlib.style.context(["default", look, {"font.size": 12}]):
        figure = Figure((7, 3 * panels + 0.3 * len(runs)), layout="constrained")
        cost, accuracy, *under = figure.subplots(panels)
        colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.8, len(runs)))
        looks = zip(runs, colors, itertools.cycle(["-", "--", "-.", ":"]), strict=False)
        for run, color, style in looks:  # Both tell the runs apart without red and green, too.
            line = {"color": color, "linestyle": style}
            label = ": ".join(dict.fromkeys([run.name, run.options]))
            cost.plot([epoch.cost for epoch in run.epochs], marker=".", label=label, **line)
            accuracy.plot([100 * epoch.accuracy for epoch in run.epochs], marker=".", **line)
            for axes in under:
                z2 = Run(run.settings).network.feedforward(experiment.sample)[0][0]
                counts, edges = np.histogram(z2, 100)
                axes.plot(edges[1:], counts / counts.max(), **line)
        for axes, value in (cost, baseline.cost), (accuracy, 100 * baseline.accuracy):
            axes.axhline(value, color="0.5", lw=1.5, zorder=0, label="baseline, image ignored")
            axes.annotate(f"{value:.4g}", (1, value), xycoords=("axes fraction", "data"))
            axes.xaxis.get_major_locator().set_params(integer=True)
        # The first costs can be so high that nothing would be seen of the others.
        cost.set_ylim(top=max(1.5 * baseline.cost, *(1.1 * run.epochs[-1].cost for run in runs)))
        cost.set_ylim(bottom=0.9 * min(e.cost for run in runs for e in [baseline, *run.epochs]))
        cost.set(xlabel="epoch", ylabel="cost, training images")
        accuracy.set(xlabel="epoch", ylabel="accuracy in %, test images", ylim=(0, None))
        for axes in under:
            z = np.linspace(min(axes.get_xlim()), max(axes.get_xlim()), 501)
            axes.plot(z, sigmoid(z), color="0.5", lw=1.5)
            axes.set(xlabel="z2 before the training", ylabel="sigmoid, frequency of z2")
        figure.legend(*cost.get_legend_handles_labels(), loc="outside lower center")
        figure.suptitle(fold(experiment.title, markdown=False), fontsize=11)
        figure.savefig(picture := io.BytesIO(), format=kind, dpi=120)
    return picture.getvalue()


# The command


class FiniteFloat(click.FloatRange):
    """A finite number, or one of some words in its place."""

    def __init__(self, *words: str, **limits: Any) -> None:
        super().__init__(**limits)
        self.words, self.name = words, " or ".join(["finite number", *words])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in self.words:
            return value
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a {self.name}.", param, ctx)
        return number


def check_picture(_: click.Context, __: click.Parameter, file: Path | None) -> Path | None:
    """Refuse, before the training, a picture that could not be drawn after it."""
    if file and file.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise click.BadParameter(f"{str(file)!a} does not end in .png, .svg or .pdf.")
    if file and not os.access(file.parent, os.W_OK):
        raise click.BadParameter(f"{str(file.parent)!a} is not a folder that can be written to.")
    if file and importlib.util.find_spec("matplotlib") is None:
        python = shlex.quote(sys.executable)
        raise click.BadParameter(f"it needs matplotlib: {python} -m pip install matplotlib")
    return file


many = partial(click.option, multiple=True)  # an option that can be given several times
AT_LEAST_1, FILE = click.IntRange(1), click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option("--hidden", type=click.IntRange(0, 100_000), default=0, help="Hidden neurons.")
@many(
    "--init",
    type=click.Choice(["rand", "rand-0.5", "randn"]),
    default=["rand"],
    help="Initial weights and biases: the question's np.random.rand, that - 1/2, or randn. *",
)
@many(
    "--init-scale",
    type=FiniteFloat("fan-in", min=0),
    default=[1.0],
    metavar="R|fan-in",
    help="A factor for them, or each weight by the root of its neuron's number of inputs. *",
)
@many("--buggy-prime", "prime", flag_value="buggy", help="The question's sigmoid_prime(a2). *")
@many("--fixed-prime", "prime", flag_value="fixed", help="a2(1 - a2) instead. *  [default]")
@many("--seed", type=click.IntRange(0, 2**32 - 1), default=[0], help="Of np.random. *")
@many("--eta", type=FiniteFloat(min=0, min_open=True), default=[0.5], help="Learning rate. *")
@many("--batch-size", type=AT_LEAST_1, help="Images per step. *  [default: all, the full batch]")
@click.option("--epochs", type=AT_LEAST_1, help="[default: 30 with a hidden layer, 100 without]")
@click.option("--dtype", type=click.Choice(["float64", "float32"]), default="float64")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Other images: IDX files, or a mnist.pkl.gz."
)
@click.option("--every", type=AT_LEAST_1, default=1, help="Show every n-th epoch and the last.")
@click.option("--diagnose", is_flag=True, help="Measure each run, and say its main cause.")
@click.option("--format", type=click.Choice(["table", "markdown", "csv"]), default="table")
@click.option("--plot", type=FILE, callback=check_picture, help="Draw a .png, .svg or .pdf file.")
@click.version_option(__version__)
@click.argument("stray", nargs=-1, metavar="")
@click.pass_context
def main(
    ctx: click.Context,
    /,
    stray: tuple[str, ...],
    every: int,
    diagnose: bool,
    format: str,
    plot: Path | None,
    **settings: Any,
) -> None:
    """Train the networks of Cross Validated question 374415 on MNIST.

    Options marked * may be given several times. All combinations are run: up to four are
    shown side by side, epoch by epoch; of more, only how they end.
    """
    if stray:
        raise click.UsageError(f"Give {stray[0]!a} an option of its own: --eta 0.5 --eta 0.1.")
    for prime in settings["prime"] if not settings["hidden"] else ():
        raise click.UsageError(f"--{prime}-prime needs a hidden layer: add --hidden 30.")
    if diagnose and format == "csv":
        raise click.UsageError("--diagnose does not fit into CSV: choose another --format.")
    # All values of each option, in the order in which they were given: click keeps it.
    values = {
        name: list(dict.fromkeys(value)) if isinstance(value, tuple) else [value]
        for name, value in ctx.params.items()
    }
    given = [n for n in values if ctx.get_parameter_source(n) is ParameterSource.COMMANDLINE]
    try:
        experiment = Experiment(values, given)
        # A bar, for somebody who sees it and sees no row at the end of each epoch.
        rows_tell = sys.stdout.isatty() and every == 1 and len(experiment.runs) <= MOST_ABREAST
        if has_bar := sys.stderr.isatty() and not rows_tell:
            experiment.results = with_progress_bar(experiment.results, experiment.epochs)
        lines = csv(experiment) if format == "csv" else report(experiment, format == "markdown")
        for line in lines:
            if has_bar:
                click.echo("\r\033[K", nl=False, err=True)  # A row takes the bar's line.
            click.echo(line)
    except mnist_loader.DataError as error:
        raise click.ClickException(str(error)) from None
    except FloatingPointError as error:
        run, limit = error.args
        what = f"a weight or bias is not within {limit:.0e}; try a smaller --eta or --init-scale."
        where = f"epoch {len(run.epochs)}{run.options and ' of ' + run.options}"
        raise click.ClickException(f"{where}: {what}") from None
    except MemoryError:
        raise click.ClickException("not enough memory; try a smaller --hidden.") from None
    if plot:
        try:
            plot.write_bytes(draw(experiment, plot.suffix[1:].lower()))
        except Exception as error:  # Matplotlib raises nearly anything.
            why = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
            raise click.ClickException(f"{str(plot)!a} could not be drawn: {why}") from None


def with_progress_bar(results: Iterable[Any], length: int) -> Iterator[Any]:
    with click.progressbar(results, length=length, show_pos=True, file=sys.stderr) as bar:
        yield from bar


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        # They are None if the shell has closed them.
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
        try:
            main()
        except OSError as error:  # of standard output: a full disk, say
            # What is still in its buffer would only fail again, at exit.
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
            sys.exit(f"Error: cannot write the output: {error.strerror}.")
