# /// script
# requires-python = ">=3.10"
# dependencies = ["click>=8.1", "numpy>=1.22"]
# ///
"""Why does this network learn nothing? Cross Validated question 374415, reproduced.

The question (https://stats.stackexchange.com/q/374415) trains a 784-10 and a
784-30-10 network of sigmoid neurons on MNIST, with the cross-entropy cost and
full-batch gradient descent. The first learns; the second calls every digit a 1.
Two suspects: the derivative in its backward pass, which is wrong, and its initial
weights, which are all positive. This script gives the question's own numbers for
either network, with either suspect replaced:

    python reproduce.py                               784-10: cost 1.377489, 8653 correct
    python reproduce.py --hidden 30 --buggy-prime     784-30-10: 3.248736, 1135 correct
    python reproduce.py --help                        all that can be changed

The names are those of Nielsen's book "Neural Networks and Deep Learning".
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
import re
import shlex
import sys
import textwrap
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

# The threads are ours, over chunks of images; those that BLAS would start in each of them
# make an epoch take up to twice as long. BLAS reads their number when numpy is imported. What the
# user has set stays in force, OMP_NUM_THREADS too, which counts where the others are unset.
if "OMP_NUM_THREADS" not in os.environ:
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ.setdefault(name, "1")

import click
import numpy as np
import numpy.typing as npt
from click.core import ParameterSource

import mnist_loader

__version__ = "1.0"

Array = npt.NDArray[Any]
Summand = TypeVar("Summand", "Gradient", Array)


# The sigmoid, its derivative as the question has it and as it should be, the cost


def sigmoid(z: Array) -> Array:
    """Return 1/(1 + e^-z) for each element of `z`, in its shape and dtype."""
    with np.errstate(over="ignore"):  # e^-z may be inf, and 1/inf is the 0 it should be
        return 1.0 / (1.0 + np.exp(-z))


def fixed_prime(a: Array) -> Array:
    """Return the derivative of the sigmoid where its output is `a`: a(1 - a)."""
    return a * (1.0 - a)


def buggy_prime(a: Array) -> Array:
    """Return what the question's sigmoid_prime(a2) is: s(1 - s) with s = sigmoid(a2).

    sigmoid_prime expects z2. Of an activation, 0 to 1, it is 0.25 to 0.1966, never 0.
    """
    return fixed_prime(sigmoid(a))


PRIMES = {"buggy": buggy_prime, "fixed": fixed_prime}


def cross_entropy(z: Array, y: Array) -> float:
    """Return the sum of -[y ln a + (1-y) ln(1-a)] over all elements, a = sigmoid(z).

    `z` holds the weighted inputs of the output layer and `y`, bool, the one-hot
    digits, both of shape (10, m). As ln a = -ln(1 + e^-z) and ln(1-a) = -ln(1 + e^z),
    the sum is finite and accurate where a is rounded to 0 or 1.
    """
    u = np.where(y, -z, z)
    # ln(1 + e^u) without overflow; np.logaddexp(0, u) is the same, 2.5 to 6 times as slow.
    terms = np.maximum(u, 0) + np.log1p(np.exp(-np.abs(u)))
    return float(terms.sum(dtype=np.float64))


# The network


@dataclass
class Gradient:
    """A cost and its gradient; nabla_w and nabla_b are shaped as weights and biases."""

    cost: float
    nabla_w: list[Array]
    nabla_b: list[Array]

    def __iadd__(self, other: Gradient) -> Gradient:
        self.cost += other.cost
        mine, its = self.nabla_w + self.nabla_b, other.nabla_w + other.nabla_b
        for nabla, its_nabla in zip(mine, its, strict=True):
            nabla += its_nabla
        return self


@dataclass
class Network:
    """A network of sigmoid neurons with the cross-entropy cost.

    For layers of sizes [784, hidden, 10] or [784, 10], weights[l] has the shape
    (sizes[l+1], sizes[l]) and biases[l] (sizes[l+1], 1), all of one dtype. `prime`
    gives the derivative of the sigmoid from its output.
    """

    weights: list[Array]
    biases: list[Array]
    prime: Callable[[Array], Array] = fixed_prime

    def feedforward(self, x: Array) -> tuple[Array, list[Array]]:
        """Return the output layer's z, and x and the activations of all layers.

        Each of the m columns of x, shape (784, m), is an image.
        """
        activations = [x]
        for w, b in zip(self.weights, self.biases, strict=True):
            z = w @ activations[-1] + b
            activations.append(sigmoid(z))
        return z, activations

    def backprop(self, x: Array, y: Array) -> Gradient:
        """Return the cost of m images and its gradient, each summed over the images.

        `x` has shape (784, m); `y`, bool and one-hot, (10, m). These are equations BP1
        to BP4 of Nielsen's chapter 2, BP1 in the form of chapter 3 for cross-entropy.
        """
        z, activations = self.feedforward(x)
        delta = activations[-1] - y
        nabla_w = [delta @ activations[-2].T]
        nabla_b = [delta.sum(axis=1, keepdims=True)]
        for layer in range(len(self.weights) - 1, 0, -1):
            delta = (self.weights[layer].T @ delta) * self.prime(activations[layer])
            nabla_w.insert(0, delta @ activations[layer - 1].T)
            nabla_b.insert(0, delta.sum(axis=1, keepdims=True))
        return Gradient(cross_entropy(z, y), nabla_w, nabla_b)

    @np.errstate(over="ignore", invalid="ignore")  # train looks for divergence
    def step(self, rate: float, gradient: Gradient) -> None:
        """Subtract `rate` times the gradient from the weights and biases."""
        nablas = gradient.nabla_w + gradient.nabla_b
        for array, nabla in zip(self.weights + self.biases, nablas, strict=True):
            array -= rate * nabla

    def is_within(self, limit: float) -> bool:
        """Tell whether no weight or bias is larger than `limit`, or NaN."""
        return all(np.abs(array).max() <= limit for array in self.weights + self.biases)

    def seeing(self, pixels: Array) -> Network:
        """Return this network for images of which only some pixels are given."""
        return replace(self, weights=[self.weights[0].take(pixels, axis=1), *self.weights[1:]])


@dataclass(frozen=True)
class Settings:
    """What defines a run, but for the data and the number of epochs."""

    hidden: int
    init: str
    init_scale: float
    prime: str
    eta: float
    seed: int
    dtype: str


def initial_network(settings: Settings) -> Network:
    """Return the network that a run starts from.

    The draws are those of the question's script after np.random.seed(seed): all
    weights, layer by layer, then all biases. `init` is the question's "rand", uniform
    from 0 to 1; "randn", standard normal; or "fan-in", the same with each weight
    divided by the square root of its neuron's number of inputs (Nielsen, chapter 3).
    """
    sizes = [784, settings.hidden, 10] if settings.hidden else [784, 10]
    random = np.random.RandomState(settings.seed)
    draw = random.rand if settings.init == "rand" else random.randn
    weights = [draw(n_out, n_in) for n_in, n_out in itertools.pairwise(sizes)]
    biases = [draw(n_out, 1) for n_out in sizes[1:]]
    if settings.init == "fan-in":
        weights = [w / math.sqrt(w.shape[1]) for w in weights]
    with np.errstate(over="ignore"):  # train looks for divergence
        weights, biases = (
            [(settings.init_scale * array).astype(settings.dtype) for array in arrays]
            for arrays in (weights, biases)
        )
    return Network(weights, biases, PRIMES.get(settings.prime, fixed_prime))


# Training


class Epoch(NamedTuple):
    """What is reported of an epoch of one run.

    `cost` is the mean over the training images before the epoch's step. After it,
    `correct` test images are classified rightly and `predicted[j]` as digit j.
    """

    cost: float
    correct: int
    predicted: list[int]

    @property
    def accuracy(self) -> float:
        """The share of the test images that are classified rightly."""
        return self.correct / sum(self.predicted)

    @property
    def most_predicted(self) -> tuple[int, int]:
        """The digit that most test images are classified as, and how many are."""
        count = max(self.predicted)
        return self.predicted.index(count), count


class DivergenceError(ArithmeticError):
    """A run's numbers grow without bound. The arguments are its index, the epoch, what."""


def thread_count() -> int:
    """Return how many threads keep the cores busy, with those that BLAS starts in each."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux tells which cores this process may use
        cores = os.cpu_count() or 1
    names = r"(OPENBLAS|MKL|OMP)_NUM_THREADS|VECLIB_MAXIMUM_THREADS"
    counts = [count for name, count in os.environ.items() if re.fullmatch(names, name)]
    of_blas = max([1, *(int(count) for count in counts if count.isdecimal())])
    return max(1, cores // of_blas)


THREADS = thread_count()


class Chunk(NamedTuple):
    """Images as the columns of a matrix, without the pixels that are 0 in all of them.

    `lit` holds the indices of the p pixels left, shape (p,); `x`, float32, has the shape
    (p, m); `y`, bool and one-hot, (10, m).
    """

    lit: Array
    x: Array
    y: Array


def chunked(images: Array, labels: Array, hidden: int) -> list[Chunk]:
    """Return images, of shape (n, 784), and their labels, (n,), as chunks of like images.

    The full gradient is a sum over images, which any grouping leaves the same but for
    rounding. Where a pixel is 0 the gradient of its weights is 0 and needs no work. So
    images are sorted by the top, the right and the left edge of what is drawn: of 784
    pixels, 385 are then lit in any image of a chunk, and the others left out save a third
    of the time. (In the order of the file it is 601 pixels and a fifth.)
    """
    # 1000 images stay in the cache for both products with them: 500 or 4000 take a fifth
    # longer. A hidden layer wider than the images gets smaller chunks, for the memory.
    m = max(100, 1000 * 784 // max(784, hidden))
    square = images.reshape(-1, 28, 28)
    columns = square.any(axis=1)
    left, right = columns.argmax(axis=1), np.fliplr(columns).argmax(axis=1)
    order = np.lexsort((left, right, square.any(axis=2).argmax(axis=1)))
    chunks = []
    for indices in np.split(order, range(m, len(order), m)):
        x = images[indices].T
        lit = np.flatnonzero(x.any(axis=1))
        y = labels[indices] == np.arange(10)[:, np.newaxis]
        chunks.append(Chunk(lit, x.take(lit, axis=0), y))
    return chunks


def sum_over(
    chunks: Sequence[Chunk],
    function: Callable[[Network, Chunk], Summand],
    networks: Sequence[Network],
    threads: int,
) -> list[Summand]:
    """Return the sum of function(network, chunk) over the chunks, for each network.

    The chunks are shared out among threads, and summed in their order: the result is
    the same to the bit for any number of threads, and for a network alone.
    """
    dtype = networks[0].weights[0].dtype

    def of_chunk(chunk: Chunk) -> list[Summand]:
        # The images are kept as float32. Converting them here, in the cache, halves the
        # memory, and takes no longer than reading float64 would.
        chunk = chunk._replace(x=chunk.x.astype(dtype, copy=False))
        with np.errstate(over="ignore", invalid="ignore"):  # train looks for divergence
            return [function(network, chunk) for network in networks]

    def in_order(pool: ThreadPoolExecutor) -> Iterator[list[Summand]]:
        # As a gradient can be large, few are computed ahead of the sum.
        ahead: deque[Future[list[Summand]]] = deque()
        for chunk in chunks:
            ahead.append(pool.submit(of_chunk, chunk))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    with ThreadPoolExecutor(threads) as pool:
        results = in_order(pool)
        sums = next(results)
        for parts in results:
            for run, part in enumerate(parts):
                sums[run] += part
    return sums


def gradient(
    networks: Sequence[Network], chunks: Sequence[Chunk], threads: int = THREADS
) -> list[Gradient]:
    """Return the cost and gradient of each network, summed over all images."""

    def of_chunk(network: Network, chunk: Chunk) -> Gradient:
        part = network.seeing(chunk.lit).backprop(chunk.x, chunk.y)
        nabla = np.zeros_like(network.weights[0])
        nabla[:, chunk.lit] = part.nabla_w[0]
        part.nabla_w[0] = nabla
        return part

    return sum_over(chunks, of_chunk, networks, threads)


def classify(
    networks: Sequence[Network], chunks: Sequence[Chunk], threads: int = THREADS
) -> list[list[int]]:
    """Return how many images each network classifies: rightly, and as 0, as 1, ... as 9.

    The digit is the argmax of the activations, not of z: where they are rounded to 1
    they tie, and the lowest digit wins, as it does in the question.
    """

    def of_chunk(network: Network, chunk: Chunk) -> Array:
        _, activations = network.seeing(chunk.lit).feedforward(chunk.x)
        digits = activations[-1].argmax(axis=0)
        correct = np.count_nonzero(digits == chunk.y.argmax(axis=0))
        return np.append(correct, np.bincount(digits, minlength=10))

    return [counts.tolist() for counts in sum_over(chunks, of_chunk, networks, threads)]


def train(
    networks: Sequence[Network],
    etas: Sequence[float],
    training: Sequence[Chunk],
    test: Sequence[Chunk],
    epochs: int,
    threads: int = THREADS,
) -> Iterator[list[Epoch]]:
    """Train the networks in place, and yield the Epoch of each, epoch by epoch.

    A step of full-batch gradient descent is eta/n times the gradient, summed over all
    n training images. Raises DivergenceError before a number overflows.
    """
    n = sum(chunk.y.shape[1] for chunk in training)
    # Up to the root of the largest float, no product of two numbers overflows.
    limit = math.sqrt(np.finfo(networks[0].weights[0].dtype).max)
    for epoch in range(epochs):
        gradients = gradient(networks, training, threads)
        for run, (network, eta) in enumerate(zip(networks, etas, strict=True)):
            network.step(eta / n, gradients[run])
            if not network.is_within(limit):
                raise DivergenceError(run, epoch, f"a weight or bias is not within {limit:.0e}")
        counts = classify(networks, test, threads)
        yield [
            Epoch(total.cost / n, correct, predicted)
            for total, (correct, *predicted) in zip(gradients, counts, strict=True)
        ]


def baseline(training_labels: Array, test_labels: Array) -> Epoch:
    """Return what a network has that ignores the image.

    Its outputs are the frequencies p of the digits among the training labels, its
    cost the entropy -sum(p ln p + (1-p) ln(1-p)): no other constants have a lower one.
    """
    p = np.bincount(training_labels, minlength=10) / len(training_labels)
    p_log_p = [q * np.log(q) for q in (p[p > 0], 1 - p[p < 1])]
    cost = 0.0 - sum(map(np.sum, p_log_p))
    predicted = [0] * 10
    predicted[p.argmax()] = len(test_labels)
    return Epoch(float(cost), int(np.sum(test_labels == p.argmax())), predicted)


# The diagnosis

SATURATION = 0.01  # An activation is saturated if it is this close to 0 or 1.
SATURATED = 0.9  # A hidden layer is, if this share of its activations is.
UNVARYING = 0.01  # Activations that vary less between images hardly tell them apart.
VANISHING = 0.001  # A gradient of w2 this small beside that of w3 hardly moves w2.
TOLERANCE = 0.001  # A right gradient has no larger relative error.
ROUNDING = 1e-5  # A relative error up to this may be that of rounding the cost.
STUCK = 0.001  # A run whose cost is this close to that of the baseline has learned no more.
LEARNED = 0.1  # A run whose accuracy is this far above the baseline has learned something.


class Examination(NamedTuple):
    """What is measured of a network at some weights.

    `saturated` is the share of hidden activations within SATURATION of 0 or 1, and
    `variation` their standard deviation between images, the mean over the neurons; they
    are None without a hidden layer. `computed` and `true` hold the norm of the mean
    gradient of each weight matrix, by the network's own derivative and by the right one.
    `error` is that of `gradient_error`. `epoch` has the cost at these weights.
    """

    saturated: float | None
    variation: float | None
    computed: list[float]
    true: list[float]
    error: float
    epoch: Epoch


@np.errstate(over="ignore", invalid="ignore")
def gradient_error(network: Network, x: Array, y: Array) -> float:
    """Return the largest relative error of backprop on the images `x` with digits `y`.

    It is taken over 50 weights of each matrix, evenly spread, in float64, against the
    central differences of the cost. An error that rounding the cost can account for counts
    as at most ROUNDING.
    """
    network = replace(
        network,
        weights=[w.astype(np.float64) for w in network.weights],
        biases=[b.astype(np.float64) for b in network.biases],
    )
    gradient = network.backprop(x, y)
    errors = []
    for w, nabla in zip(network.weights, gradient.nabla_w, strict=True):
        for flat_index in np.linspace(0, w.size - 1, 50).astype(int):
            index = np.unravel_index(flat_index, w.shape)
            weight = float(w[index])
            h = 1e-4 * max(1.0, abs(weight))
            w[index] = weight + h
            cost_above = cross_entropy(network.feedforward(x)[0], y)
            w[index] = weight - h
            cost_below = cross_entropy(network.feedforward(x)[0], y)
            w[index] = weight
            difference = (cost_above - cost_below) / (2 * h)
            noise = np.finfo(np.float64).eps * gradient.cost / h
            computed = float(nabla[index])
            scale = max(abs(computed), abs(difference), noise / ROUNDING)
            errors.append(abs(computed - difference) / scale)
    return float(np.max(errors))


@np.errstate(over="ignore", invalid="ignore")
def examine(
    networks: Sequence[Network],
    training: tuple[Array, Array],
    training_chunks: Sequence[Chunk],
    test_chunks: Sequence[Chunk],
) -> list[Examination]:
    """Measure each network at its present weights.

    The hidden activations are those of the first 1000 training images, the gradient
    check takes the first 20; gradients are of all training images.
    """
    images, labels = training
    x = images[:1000].T.astype(np.float64)
    y = labels[:20] == np.arange(10)[:, np.newaxis]
    n = len(labels)
    right = [replace(network, prime=fixed_prime) for network in networks]
    gradients = gradient([*networks, *right], training_chunks)
    norms = [[float(np.linalg.norm(nabla)) / n for nabla in g.nabla_w] for g in gradients]
    examinations = []
    for run, (correct, *predicted) in enumerate(classify(networks, test_chunks)):
        saturated = variation = None
        if len(networks[run].weights) > 1:
            hidden = networks[run].feedforward(x)[1][1]
            saturated = float(np.mean((hidden <= SATURATION) | (hidden >= 1 - SATURATION)))
            variation = float(hidden.std(axis=1).mean())
        examinations.append(
            Examination(
                saturated,
                variation,
                computed=norms[run],
                true=norms[len(networks) + run],
                error=gradient_error(networks[run], x[:, :20], y),
                epoch=Epoch(gradients[run].cost / n, correct, predicted),
            )
        )
    return examinations


def size_of(error: float) -> str:
    return f"{error:.2g}" if error > ROUNDING else f"below {ROUNDING}"


def figures(examination: Examination) -> dict[str, str]:
    """Return what is shown of an examination, each figure by what it is of."""
    saturated, variation, computed, true, error, epoch = examination
    texts = {}
    if saturated is not None:
        texts[f"hidden activations within {SATURATION} of 0 or 1"] = percent(saturated)
        texts["their standard deviation between images, on average"] = f"{variation:.2g}"
    for layer, name in enumerate(["w2", "w3"] if len(true) > 1 else ["w"]):
        texts[f"norm of the gradient of {name}, as computed"] = f"{computed[layer]:.3g}"
        texts[f"norm of the gradient of {name}, as it truly is"] = f"{true[layer]:.3g}"
    agrees = "right" if error <= TOLERANCE else "wrong"
    texts["largest relative error of backprop"] = f"{size_of(error)} ({agrees})"
    texts["test images classified as 0 to 9"] = " ".join(map(str, epoch.predicted))
    return texts


def reading(start: Examination, end: Examination, baseline: Epoch) -> Iterator[str]:
    """Yield in words what follows from the figures, and the limits they are held to."""
    error = max(start.error, end.error)
    wrong = error > TOLERANCE
    faults = [wrong]
    yield (
        f"The gradient is {'wrong' if wrong else 'right'}: against central differences of the "
        f"cost, backprop's largest relative error is {size_of(error)} (limit: {TOLERANCE})."
    )
    if start.saturated is None or start.variation is None:
        yield "There is no hidden layer that could be saturated."
    else:
        saturated = start.saturated >= SATURATED
        unvarying = start.variation <= UNVARYING
        vanishing = start.true[0] <= VANISHING * start.true[-1]
        faults += [saturated, unvarying, vanishing]
        yield (
            f"The hidden layer {'starts' if saturated else 'does not start'} saturated: "
            f"{percent(start.saturated)} of its activations are (limit: {percent(SATURATED)})."
        )
        if unvarying:
            yield (
                "At the start its activations are nearly the same for all images: they vary by "
                f"{start.variation:.2g} (limit: {UNVARYING})."
            )
        if vanishing:
            yield (
                f"At the start the true gradient of w2 is next to nothing, {start.true[0]:.3g} "
                f"beside {start.true[-1]:.3g} for w3 (limit: {VANISHING} of it): with the right "
                "derivative w2 would hardly move."
            )
    gain = end.epoch.accuracy - baseline.accuracy
    margin = STUCK * baseline.cost
    if gain >= LEARNED:
        verdict = "It learns, in spite of this" if any(faults) else "It learns"
    elif abs(end.epoch.cost - baseline.cost) <= margin:
        verdict = "It ends stuck at the baseline"
    elif end.epoch.cost > baseline.cost:
        verdict = "It ends above the baseline, worse than ignoring the image"
    else:
        verdict = "It has learned little so far"
    yield (
        f"{verdict}: after the last step, it has cost {decimal(end.epoch.cost)} and "
        f"{percent(end.epoch.accuracy)} correct, the baseline {decimal(baseline.cost)} and "
        f"{percent(baseline.accuracy)} (stuck: a cost within {percent(STUCK)}; learning: "
        f"at least {percent(LEARNED)} more correct)."
    )
    if not any(faults):
        yield (
            "Nothing wrong was found in the gradient or the hidden layer."
            if gain >= LEARNED
            else "Why, these figures do not tell: gradient and hidden layer show no fault."
        )


# What is reported

MOST_ABREAST = 4  # So many runs are shown side by side; of more, only the outcome.
COMMON = ("init", "init_scale", "prime", "eta", "epochs", "seed")  # in the order shown


@dataclass
class Experiment:
    """What the reports say beside the numbers.

    `compared` names the settings in which the runs differ; `options` holds, by name, what
    the command line would have of every setting.
    """

    runs: list[Settings]
    compared: list[str]
    options: dict[str, list[str]]
    epochs: int
    every: int
    images: str
    baseline: Epoch

    @property
    def network(self) -> str:
        hidden = self.runs[0].hidden
        return f"784-{hidden}-10 sigmoid network" if hidden else "784-10 sigmoid network"

    @property
    def command(self) -> str:
        return " ".join(["python reproduce.py", *itertools.chain(*self.options.values())])

    def labels(self, markdown: bool = False) -> list[str]:
        """Return for each run the options that tell it from the others."""
        labels = [
            " ".join(option(name, getattr(run, name)) for name in self.compared)
            for run in self.runs
        ]
        return [f"`{label}`" if markdown and label else label for label in labels]


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


def decimal(cost: float) -> str:
    return f"{cost:.6f}" if cost < 1000 else f"{cost:.4e}"  # at most 10 characters


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def csv_lines(experiment: Experiment, epochs: Iterable[list[Epoch]]) -> Iterator[str]:
    """Yield CSV: a row for every epoch of every run, costs in full precision."""
    names = [field.name for field in fields(Settings)]
    yield ",".join([*names, "epoch", "cost", "correct", "total", "top_digit", "top_count"])
    for number, results in enumerate(epochs):
        for run, epoch in zip(experiment.runs, results, strict=True):
            total = sum(epoch.predicted)
            figures = (number, epoch.cost, epoch.correct, total, *epoch.most_predicted)
            yield ",".join(map(typed, (*astuple(run), *figures)))


def report_lines(
    experiment: Experiment, epochs: Iterable[list[Epoch]], markdown: bool = False
) -> Iterator[str]:
    """Yield a report, as plain text for a terminal or as Markdown for an answer.

    One run gets a row per epoch with all its figures; up to MOST_ABREAST runs, a row per
    epoch with the cost and accuracy of each; of more runs, each gets one row.
    """
    ends = Ends(epochs)
    runs = len(experiment.runs)
    layout = one_run if runs == 1 else side_by_side if runs <= MOST_ABREAST else one_row_each
    item = "- " if markdown else ""
    yield f"{experiment.network}, cross-entropy, full-batch gradient descent on {experiment.images}"
    yield from ["", f"    {experiment.command}", ""] if markdown else [experiment.command, ""]
    yield from layout(experiment, ends, markdown)
    yield ""
    if layout is not one_row_each:
        labels = experiment.labels(markdown)
        for label, first, last in zip(labels, ends.first, ends.last, strict=True):
            digit, count = last.most_predicted
            yield (
                f"{item}{label and label + ': '}cost {decimal(first.cost)} -> "
                f"{decimal(last.cost)}; {percent(last.accuracy)} correct; "
                f"most predicted {digit} ({count})"
            )
    cost, accuracy = experiment.baseline.cost, experiment.baseline.accuracy
    yield (
        f"{item}baseline (class frequencies, image ignored): "
        f"cost {decimal(cost)}; {percent(accuracy)} correct"
    )


class Ends:
    """Passes epochs on, and keeps the first and the last of them."""

    def __init__(self, epochs: Iterable[list[Epoch]]) -> None:
        self.epochs = epochs
        self.first: list[Epoch] = []
        self.last: list[Epoch] = []

    def __iter__(self) -> Iterator[list[Epoch]]:
        for results in self.epochs:
            self.first = self.first or results
            self.last = results
            yield results


Column = tuple[str, str]  # the heading, and the format of the cells in plain text
OUTCOME: list[Column] = [("correct", ">7"), ("accuracy", ">8"), ("most predicted", "")]


def outcome(epoch: Epoch) -> list[str]:
    """Return the cells of the columns OUTCOME."""
    digit, count = epoch.most_predicted
    share = f"{digit} ({count} of {sum(epoch.predicted)})"
    return [str(epoch.correct), percent(epoch.accuracy), share]


def shown(
    experiment: Experiment, epochs: Iterable[list[Epoch]]
) -> Iterator[tuple[str, list[Epoch]]]:
    """Yield the epochs that are to be shown, with their numbers."""
    for number, results in enumerate(epochs):
        if number % experiment.every == 0 or number == experiment.epochs - 1:
            yield str(number), results


def one_run(experiment: Experiment, epochs: Ends, markdown: bool) -> Iterator[str]:
    columns = [("epoch", ">5"), ("cost", ">10"), *OUTCOME]
    rows = (
        [number, decimal(epoch.cost), *outcome(epoch)]
        for number, [epoch] in shown(experiment, epochs)
    )
    return table(columns, rows, markdown)


def side_by_side(experiment: Experiment, epochs: Ends, markdown: bool) -> Iterator[str]:
    above = [
        [option(name, getattr(run, name)) for run in experiment.runs]
        for name in experiment.compared
    ]
    width = max(20, *(len(text) for options in above for text in options))
    columns = [("epoch", ">5")]
    for label in experiment.labels(markdown):
        of_run = f" {label}" if markdown else ""
        columns += [("cost" + of_run, f">{width - 10}"), ("accuracy" + of_run, ">8")]
    if not markdown:  # The label goes above the two columns, an option to a line.
        for options in above:
            yield " " * 5 + "".join(f"  {text:>{width}}" for text in options)
    rows = (
        [number, *(cell for e in results for cell in (decimal(e.cost), percent(e.accuracy)))]
        for number, results in shown(experiment, epochs)
    )
    yield from table(columns, rows, markdown)


def one_row_each(experiment: Experiment, epochs: Ends, markdown: bool) -> Iterator[str]:
    for _ in epochs:
        pass
    columns = []
    for name in experiment.compared:
        heading = name.replace("_", "-")
        width = max(len(typed(getattr(run, name))) for run in experiment.runs)
        columns.append((heading, f">{max(width, len(heading))}"))
    columns += [("first cost", ">10"), ("last cost", ">10"), *OUTCOME]
    rows = (
        [
            *(typed(getattr(run, name)) for name in experiment.compared),
            decimal(first.cost),
            decimal(last.cost),
            *outcome(last),
        ]
        for run, first, last in zip(experiment.runs, epochs.first, epochs.last, strict=True)
    )
    yield from table(columns, rows, markdown)


def table(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], markdown: bool
) -> Iterator[str]:
    """Yield a table line by line, as the rows come."""
    headings = [heading for heading, _ in columns]
    formats = [cell_format for _, cell_format in columns]
    if markdown:
        rule = ["---:" if cell_format else ":---" for cell_format in formats]
        for cells in itertools.chain([headings, rule], rows):
            yield f"| {' | '.join(cells)} |"
    else:
        for cells in itertools.chain([headings], rows):
            yield "  ".join(map(format, cells, formats)).rstrip()


def diagnosis_lines(
    experiment: Experiment,
    starts: Iterable[Examination],
    ends: Iterable[Examination],
    markdown: bool,
) -> Iterator[str]:
    """Yield, for each run, its figures before and after the training and a reading."""
    for label, start, end in zip(experiment.labels(markdown), starts, ends, strict=True):
        yield from ["", f"Diagnosis{label and ' of ' + label}, before -> after the training"]
        yield from [""] if markdown else []
        after = figures(end)
        measured = [f"{name}: {before} -> {after[name]}" for name, before in figures(start).items()]
        for line in (*measured, *reading(start, end, experiment.baseline)):
            if markdown:
                yield f"- {line}"
            else:
                yield textwrap.fill(line, 80, initial_indent="  ", subsequent_indent="    ")


def draw(experiment: Experiment, epochs: Sequence[list[Epoch]], file: Path) -> None:
    """Draw the learning curves of all runs into a file, in the format of its suffix."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    runs = len(experiment.runs)
    figure = Figure(figsize=(7, 7.5 + 0.3 * runs), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    # From dark blue to light green, solid to dotted: seen without red and green, too.
    colours = colormaps["viridis"](np.linspace(0, 0.8, runs))
    styles = itertools.cycle(["-", "--", "-.", ":"])
    for run, (label, colour, style) in enumerate(
        zip(experiment.labels(), colours, styles, strict=False)
    ):
        look = {"label": label, "color": colour, "linestyle": style, "linewidth": 2.5}
        look["marker"] = "o" if len(epochs) == 1 else ""
        above.plot([results[run].cost for results in epochs], **look)
        below.plot([100 * results[run].accuracy for results in epochs], **look)
    grey = {"label": "class frequencies, image ignored", "color": "0.5", "zorder": 0}
    above.axhline(experiment.baseline.cost, **grey)
    below.axhline(100 * experiment.baseline.accuracy, **grey)
    above.set_yscale("log")
    above.set_ylabel("cost, training images", fontsize=13)
    below.set_ylabel("accuracy in %, test images", fontsize=13)
    below.set_xlabel("epoch", fontsize=13)
    below.xaxis.get_major_locator().set_params(integer=True)
    for axes in above, below:
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=12)
    figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", fontsize=12)
    common = [
        word.replace(" ", "\N{NO-BREAK SPACE}")
        for name, words in experiment.options.items()
        if name in COMMON and name not in experiment.compared
        for word in words
    ]
    figure.suptitle(textwrap.fill(f"{experiment.network}: {' '.join(common)}", 70), fontsize=12)
    figure.savefig(file, dpi=120)


# The command

FORMATS: dict[str, Callable[[Experiment, Iterable[list[Epoch]]], Iterator[str]]] = {
    "table": report_lines,
    "markdown": partial(report_lines, markdown=True),
    "csv": csv_lines,
}
PICTURES = (".png", ".svg", ".pdf")


class FiniteFloat(click.FloatRange):
    """A float that is neither infinite nor NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def check_picture(_: click.Context, __: click.Parameter, file: Path | None) -> Path | None:
    """Refuse, before the training, a picture that could not be drawn after it."""
    if file and file.suffix.lower() not in PICTURES:
        raise click.BadParameter(f"{str(file)!a} does not end in {' or '.join(PICTURES)}.")
    if file and not os.access(file.parent, os.W_OK):
        raise click.BadParameter(f"{str(file.parent)!a} is not a folder that can be written to.")
    if file and importlib.util.find_spec("matplotlib") is None:
        raise click.BadParameter("it needs matplotlib: python -m pip install matplotlib")
    return file


class GroupedOptions(click.Command):
    """A command whose help has the options in groups, each under a heading."""

    headings: ClassVar = {
        "hidden": "The network",
        "eta": "The training",
        "every": "The report",
        "version": "This program",
    }

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: list[tuple[str, list[tuple[str, str]]]] = []
        for param in self.get_params(ctx):
            if param.name in self.headings:
                groups.append((self.headings[param.name], []))
            groups[-1][1].append(param.get_help_record(ctx) or ("", ""))
        for heading, records in groups:
            with formatter.section(heading):
                formatter.write_dl(records)


many = partial(click.option, multiple=True)  # an option that can be given several times


@click.command(
    cls=GroupedOptions,
    context_settings={"show_default": True},
    epilog="""\b
Examples:
  python reproduce.py
  python reproduce.py --hidden 30 --buggy-prime
      the two networks of the question
  python reproduce.py --hidden 30 --buggy-prime --fixed-prime --init rand --init fan-in
      one suspect replaced, the other, and both, side by side
  python reproduce.py --hidden 30 --buggy-prime --diagnose --every 10
      what is wrong inside
  python reproduce.py --hidden 30 --init fan-in --eta 0.5 --eta 3 --seed 0 --seed 1
      --seed 2 --format markdown
      six runs, for pasting into an answer""",
)
@click.option(
    "--hidden",
    type=click.IntRange(0, 100_000),
    default=0,
    metavar="N",
    help="Neurons in the hidden layer. 0 is the 784-10 network.",
)
@many(
    "--init",
    type=click.Choice(["rand", "randn", "fan-in"]),
    default=["rand"],
    help="Initial weights and biases: uniform from 0 to 1, as in the question; standard "
    "normal; or that with weights divided by the root of the neuron's number of inputs. *",
)
@many(
    "--init-scale",
    type=FiniteFloat(min=0),
    default=[1.0],
    metavar="R",
    help="A factor for all initial weights and biases, r in the question. *",
)
@many(
    "--buggy-prime",
    "prime",
    flag_value="buggy",
    help="Backpropagate with the question's derivative, sigmoid_prime(a2). *",
)
@many(
    "--fixed-prime",
    "prime",
    flag_value="fixed",
    help="Backpropagate with the right derivative, a2(1 - a2). *  [default]",
)
@many(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=[0],
    metavar="S",
    help="What np.random.seed would be given. *",
)
@many(
    "--eta",
    type=FiniteFloat(min=0, min_open=True),
    default=[0.5],
    metavar="ETA",
    help="Learning rate. *",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Steps of gradient descent.  [default: 30 with a hidden layer, 100 without]",
)
@click.option(
    "--dtype", type=click.Choice(["float64", "float32"]), default="float64", help="Precision."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Other images: a folder with four IDX files, or a file like Nielsen's "
    "mnist.pkl.gz.  [default: MNIST, in data]",
)
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Show every N-th epoch, the first and the last. CSV has them all.",
)
@click.option(
    "--diagnose",
    is_flag=True,
    help="Look into each run, before and after: saturation, gradients, a gradient check.",
)
@click.option("--format", type=click.Choice(list(FORMATS)), default="table", help="What to print.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=check_picture,
    help=f"Draw the learning curves into a file, {' or '.join(PICTURES)}; needs matplotlib.",
)
@click.version_option(__version__)
@click.pass_context
def main(
    ctx: click.Context,
    /,
    epochs: int | None,
    data: Path | None,
    every: int,
    diagnose: bool,
    format: str,
    plot: Path | None,
    **settings: Any,
) -> None:
    """Train the networks of Cross Validated question 374415 on MNIST.

    Options marked * may be given several times. All combinations are run: up to four are
    shown side by side, epoch by epoch; of more, only how they start and end.
    """
    hidden = settings["hidden"]
    if "buggy" in settings["prime"] and not hidden:
        raise click.UsageError("--buggy-prime needs a hidden layer: add --hidden 30.")
    if diagnose and format == "csv":
        raise click.UsageError("--diagnose does not fit into CSV: choose another --format.")
    settings["prime"] = (settings["prime"] or ("fixed",)) if hidden else ("",)
    epochs = epochs or (30 if hidden else 100)
    given = {
        name: [value]
        for name, value in ctx.params.items()
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    runs, compared, options = plan(settings, epochs, given)
    try:
        images, training, test = load(data)
        frequencies = baseline(training[1], test[1])
        experiment = Experiment(runs, compared, options, epochs, every, images, frequencies)
        networks = [initial_network(run) for run in runs]
        chunks = chunked(*training, hidden), chunked(*test, hidden)
        starts = examine(networks, training, *chunks) if diagnose else []
        results = train(networks, [run.eta for run in runs], *chunks, epochs)
        results, history = itertools.tee(results) if plot else (results, iter(()))
        # Only for somebody who sees it and sees no row at the end of each epoch.
        rows_tell = sys.stdout.isatty() and every == 1 and len(runs) <= MOST_ABREAST
        has_bar = sys.stderr.isatty() and not rows_tell
        if has_bar:
            results = with_progress_bar(results, epochs)
        for line in FORMATS[format](experiment, results):
            if has_bar:
                click.echo("\r\033[K", nl=False, err=True)  # A row takes the bar's line.
            click.echo(line)
        if diagnose:
            ends = examine(networks, training, *chunks)
            for line in diagnosis_lines(experiment, starts, ends, format == "markdown"):
                click.echo(line)
        if plot:
            try:
                draw(experiment, list(history), plot)
            except OSError as error:
                raise click.FileError(str(plot), error.strerror) from None
    except mnist_loader.DataError as error:
        raise click.ClickException(str(error)) from None
    except DivergenceError as error:
        run, epoch, what = error.args
        label = experiment.labels()[run]
        where = f"epoch {epoch} of {label}" if label else f"epoch {epoch}"
        advice = "try a smaller --eta or --init-scale."
        raise click.ClickException(f"{where}: {what}; {advice}") from None
    except MemoryError:
        raise click.ClickException("not enough memory; try a smaller --hidden.") from None


def load(data: Path | None) -> tuple[str, mnist_loader.Pair, mnist_loader.Pair]:
    """Return how many images of what there are, the training and the test data."""
    training, validation, test = mnist_loader.load_data(data)
    name = "MNIST images"
    if data and not mnist_loader.is_mnist((training, validation, test)):
        name = f"images of {str(data)!a}, not the standard MNIST"
    return f"{len(training[1]):,} {name}", training, test


def plan(
    settings: dict[str, Any], epochs: int, given: dict[str, list[Any]]
) -> tuple[list[Settings], list[str], dict[str, list[str]]]:
    """Return the runs, the names of the settings compared, and the options of all.

    In `settings` those that may be given several times are tuples. click has them in the
    order in which they were given, and that is how the runs are sorted. The options spell
    out every setting and what else was `given`.
    """
    values = {
        name: list(dict.fromkeys(value)) if isinstance(value, tuple) else [value]
        for name, value in settings.items()
    }
    compared = [name for name in values if len(values[name]) > 1]
    names = [*compared, *(name for name in values if name not in compared)]
    runs = [
        Settings(**dict(zip(names, run, strict=True)))
        for run in itertools.product(*(values[name] for name in names))
    ]
    values["epochs"] = [epochs]
    spelled_out = {name: values[name] for name in ("hidden", *compared, *COMMON)}
    others = {name: value for name, value in given.items() if name not in spelled_out}
    options = {
        name: [words for value in of_name if (words := option(name, value))]
        for name, of_name in {**spelled_out, **others}.items()
    }
    return runs, compared, options


def with_progress_bar(epochs: Iterable[list[Epoch]], length: int) -> Iterator[list[Epoch]]:
    with click.progressbar(epochs, length=length, show_pos=True, file=sys.stderr) as bar:
        yield from bar


if __name__ == "__main__":
    with Path(os.devnull).open("w") as nowhere:
        # They are None if the shell has closed them.
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
        try:
            main()
        except OSError as error:  # of standard output: a full disk, say
            # What is still in its buffer would only fail again, at exit.
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
            sys.exit(f"Error: cannot write the output: {error.strerror}.")
