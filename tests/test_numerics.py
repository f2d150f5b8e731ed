"""The numbers: against the question's own runs, loops, differences and exact arithmetic."""

from __future__ import annotations

import csv
import math
import re
import time
from dataclasses import replace
from threading import Thread
from typing import Any

import mpmath
import numpy as np
import pytest
from conftest import ROOT, rows_of, run
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import mnist_loader
import reproduce
from reproduce import Array, CostAndGradient, Images, Network, Run, Settings

GOLDEN = {path.stem: path for path in sorted((ROOT / "tests" / "golden").glob("*.csv"))}
# Weights at which every layer has a gradient that can be told from zero.
NIELSEN = Settings(hidden=30, init="randn-fan-in")


def trained(data: mnist_loader.Data, settings: Settings, epochs: int) -> Run:
    """Return a run after so many epochs."""
    training = Images(*data[0])
    test = Images(*data[2])
    run = Run(settings)
    for _ in range(epochs):
        reproduce.train_epoch(run, training, test)
    return run


def first(data: mnist_loader.Data, n: int, n_test: int) -> mnist_loader.Data:
    """Return the first images of data."""
    (images, labels), validation, (test_images, test_labels) = data
    return (images[:n], labels[:n]), validation, (test_images[:n_test], test_labels[:n_test])


def parameters(network: Network) -> list[Array]:
    return network.weights + network.biases


def s(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def loop_over_images(network: Network, images: Array, labels: Array, prime: str) -> CostAndGradient:
    """Return cost and gradient as the question computes them: image by image, by hand."""
    w2, b2 = network.weights[0], network.biases[0]
    cost = 0.0
    sums = [np.zeros_like(a) for a in parameters(network)]
    for image, label in zip(images, labels):
        x = image.reshape(784, 1).astype(np.float64)
        y = mnist_loader.vectorized_result(label)
        if len(network.weights) == 1:
            a = s(w2 @ x + b2)
            terms = [(a - y) @ x.T, a - y]
        else:
            w3, b3 = network.weights[1], network.biases[1]
            a2 = s(w2 @ x + b2)
            a = s(w3 @ a2 + b3)
            argument = a2 if prime == "buggy" else w2 @ x + b2
            delta2 = (w3.T @ (a - y)) * s(argument) * (1 - s(argument))
            terms = [delta2 @ x.T, (a - y) @ a2.T, delta2, a - y]
        cost -= float(np.sum(y * np.log(a) + (1 - y) * np.log(1 - a)))
        for total, term in zip(sums, terms):
            total += term
    n = len(network.weights)
    return cost, sums[:n], sums[n:]


# The question's own code


def golden_rows(stem: str) -> list[dict[str, str]]:
    with GOLDEN[stem].open() as file:
        return list(csv.DictReader(file))


# The inits that the golden files name otherwise: by those of w2 and w3, and their scales.
GOLDEN_INITS = {
    ("rand", "fan-in"): "rand-fan-in",
    ("rand-0.5,rand", "1"): "rand-0.5-w2",
    ("rand-0.5,rand", "1,fan-in"): "a row of the test",
}


def golden_settings(stem: str) -> Settings:
    """Return the settings that a golden file is named by."""
    match = re.fullmatch(
        r"hidden(\d+)(?:_(rand\S*))?_scale(\S+)_(\w+)_eta(\S+)_seed(\d+)(?:_batch(\d+))?", stem
    )
    assert match
    hidden, init, scale, prime, eta, seed, batch_size = match.groups()
    init = init or "rand"
    if (init, scale) in GOLDEN_INITS:
        init = GOLDEN_INITS[init, scale]
        scale = "1"
    return Settings(
        hidden=int(hidden),
        prime=prime.replace("none", "fixed"),
        init=init,
        init_scale=float(scale),
        eta=float(eta),
        batch_size=int(batch_size or 50_000),
        seed=int(seed),
    )


# One golden cost is itself off by more than 1e-9: see the test after the next.
OFF = ("hidden0_scale1_none_eta0.5_seed0", "4")


def assert_golden(stem: str, row: dict[str, str], cost: float, correct: int) -> None:
    """Check an epoch against its row of a golden file."""
    assert correct == int(row["correct"])
    assert math.isfinite(cost)
    if row["cost"] != "inf":
        tolerance = 1.2e-9 if (stem, row["epoch"]) == OFF else 1e-9
        assert cost == pytest.approx(float(row["cost"]), rel=tolerance, abs=0)


@pytest.mark.parametrize("stem", GOLDEN)
def test_every_epoch_equals_that_of_the_questions_own_code(
    stem: str, mnist: mnist_loader.Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    w2_and_w3 = (reproduce.rand_minus_half, reproduce.rand_fan_in)
    monkeypatch.setitem(reproduce.INITS, "a row of the test", w2_and_w3)
    rows = golden_rows(stem)
    run = trained(mnist, golden_settings(stem), len(rows))
    for row, epoch in zip(rows, run.epochs):
        assert_golden(stem, row, epoch.cost, epoch.correct)
        assert epoch.predicted == [int(count) for count in row["predicted"].split()]


def test_the_golden_cost_that_is_off_has_lost_digits_in_the_questions_formula(
    mnist: mnist_loader.Data,
) -> None:
    (images, labels), _, _ = mnist
    run = trained(first(mnist, 50_000, 1), Settings(), 4)
    [z], [_, a] = run.network.feedforward(images.T.astype(np.float64))
    y = labels == np.arange(10)[:, np.newaxis]
    with np.errstate(divide="ignore"):
        question = np.where(y, -np.log(a), -np.log(1 - a)).sum() / len(labels)
    exact = reproduce.cross_entropy(z, y) / len(labels)
    stem, epoch = OFF
    cost = float(golden_rows(stem)[int(epoch)]["cost"])
    assert question == pytest.approx(cost, rel=1e-12)
    assert abs(exact / cost - 1) == pytest.approx(1.18e-9, rel=0.01)


# Options, and the goldens that their runs have to equal, row by row.
COMPARISONS = {
    "--hidden 30 --batch-size 10 --batch-size 99999 --buggy-prime --fixed-prime --epochs 1": [
        "hidden30_rand_scale1_buggy_eta0.5_seed0_batch10",
        "hidden30_scale1_buggy_eta0.5_seed0",
        "hidden30_rand_scale1_fixed_eta0.5_seed0_batch10",
        "hidden30_scale1_fixed_eta0.5_seed0",
    ],
    "--hidden 30 --init rand-fan-in --init rand-0.5-w2 --epochs 2": [
        "hidden30_rand_scalefan-in_fixed_eta0.5_seed0_batch50000",
        "hidden30_rand-0.5,rand_scale1_fixed_eta0.5_seed0_batch50000",
    ],
    "--hidden 30 --buggy-prime --suspects --epochs 2": ["hidden30_scale1_buggy_eta0.5_seed0"],
    "--suspects --epochs 2": ["hidden0_scale1_none_eta0.5_seed0"],
}


@pytest.mark.parametrize(("options", "stems"), COMPARISONS.items())
def test_runs_of_a_comparison_equal_those_of_the_questions_own_code(
    options: str, stems: list[str]
) -> None:
    rows = rows_of(run(*options.split(), "--format", "csv"))
    epochs = int(options.split()[-1])
    if "--suspects" in options:  # one run after the other
        runs = [rows[start : start + epochs] for start in range(0, len(rows), epochs)]
    else:  # epoch by epoch
        runs = [rows[number :: len(stems)] for number in range(len(stems))]
    for stem, its_rows in zip(stems, runs):
        assert [row["epoch"] for row in its_rows] == [str(epoch) for epoch in range(epochs)]
        for row, golden in zip(its_rows, golden_rows(stem)):
            assert_golden(stem, golden, float(row["cost"]), int(row["correct"]))
            counts = [int(count) for count in golden["predicted"].split()]
            most = max(counts)
            top = [row["top_digit"], row["top_count"], row["total"]]
            assert top == [str(counts.index(most)), str(most), "10000"]


# Where a run starts


def drawn_by_global_numpy(init: str, layer: str, shape: tuple[int, int]) -> Array:
    """Return an array of weights or biases of layer w2 or w3, by numpy's global generator."""
    if init.startswith("randn"):
        draws = np.random.randn(*shape)
    else:
        draws = np.random.rand(*shape)
    if init in ("rand-0.5", f"rand-0.5-{layer}"):
        draws -= 0.5
    if init == "glorot":
        draws = (2 * draws - 1) * math.sqrt(6 / sum(shape))
    is_bias = shape[1] == 1
    if init.endswith("fan-in") and not is_bias:
        draws /= math.sqrt(shape[1])
    return draws


@pytest.mark.parametrize("init", reproduce.INITS)
@pytest.mark.parametrize(("hidden", "scale", "seed"), [(0, 1.0, 0), (30, 0.3, 2**32 - 1)])
def test_initial_weights_are_what_the_questions_script_would_draw(
    init: str, hidden: int, scale: float, seed: int
) -> None:
    state = np.random.get_state()
    network = Run(Settings(hidden=hidden, init=init, init_scale=scale, seed=seed)).network
    assert all(map(np.array_equal, np.random.get_state(), state))  # No global state.

    np.random.seed(seed)
    shapes = [(10, 784), (10, 1)]
    layers = ["w2", "w2"]
    if hidden:
        shapes = [(30, 784), (10, 30), (30, 1), (10, 1)]
        layers = ["w2", "w3", "w2", "w3"]
    for array, layer, shape in zip(parameters(network), layers, shapes, strict=True):
        draws = drawn_by_global_numpy(init, layer, shape)
        np.testing.assert_allclose(array, scale * draws, rtol=4e-16, atol=1e-16)
        assert array.dtype == np.float64
    np.random.set_state(state)


@pytest.mark.parametrize("unknown", [{"prime": "bugy"}, {"init": "zeros"}])
def test_settings_that_are_not_known_are_no_others(unknown: dict[str, str]) -> None:
    with pytest.raises(KeyError):
        Run(replace(Settings(), **unknown))  # type: ignore[arg-type]  # seed is no text


# Gradients and steps


def steps_by_hand(
    settings: Settings, images: Array, labels: Array, epochs: int
) -> tuple[Network, list[float], np.random.RandomState]:
    """Return what training leads to, image by image, from Nielsen's weights."""
    n = len(labels)
    hidden = settings.hidden
    random = np.random.RandomState(settings.seed)
    shapes = [(hidden, 784), (10, hidden), (hidden, 1), (10, 1)] if hidden else [(10, 784), (10, 1)]
    arrays = [random.randn(*shape) for shape in shapes]
    layers = len(arrays) // 2
    weights = [w / np.sqrt(w.shape[1]) for w in arrays[:layers]]
    network = Network(weights, arrays[layers:])
    costs = []
    for _ in range(epochs):
        order = random.permutation(n) if settings.batch_size < n else np.arange(n)
        cost = 0.0
        for start in range(0, n, settings.batch_size):
            batch = order[start : start + settings.batch_size]
            its_cost, nabla_w, nabla_b = loop_over_images(
                network, images[batch], labels[batch], settings.prime
            )
            cost += its_cost
            for array, nabla in zip(parameters(network), nabla_w + nabla_b):
                array -= settings.eta * (nabla / len(batch))
        costs.append(cost / n)
    return network, costs, random


@pytest.mark.parametrize(
    ("n", "size", "hidden", "prime"),
    [
        (50, 1, 30, "buggy"),
        (50, 8, 30, "fixed"),  # The last batch has 2 images,
        (50, 49, 0, "fixed"),  # or 1.
        (1300, 600, 5, "fixed"),  # 500 and 100 images, the same again, and 100.
        (1300, 1299, 5, "buggy"),
        (50, 1000, 0, "fixed"),  # These three are the full batch: one block,
        (2300, 2300, 30, "buggy"),  # or three.
        (2300, 2301, 1, "fixed"),
    ],
)
def test_each_step_is_what_a_loop_over_the_images_of_its_batch_gives(
    n: int, size: int, hidden: int, prime: str, mnist: mnist_loader.Data
) -> None:
    data = first(mnist, n, 100)
    settings = replace(NIELSEN, hidden=hidden, prime=prime, batch_size=size, seed=3)
    run = trained(data, settings, epochs=2)
    network, costs, random = steps_by_hand(settings, *data[0], epochs=2)
    assert [epoch.cost for epoch in run.epochs] == pytest.approx(costs, rel=1e-11)
    for array, its in zip(parameters(run.network), parameters(network)):
        np.testing.assert_allclose(array, its, rtol=1e-9, atol=1e-11)
    assert run.random.rand() == random.rand()  # No more was drawn, and no less.
    assert run.steps == 2 * math.ceil(n / size)

    digits = [int(network.feedforward(x.reshape(784, 1))[1][-1].argmax()) for x in data[2][0]]
    assert run.epochs[-1].predicted == [digits.count(j) for j in range(10)]
    assert run.epochs[-1].accuracy == np.mean(digits == data[2][1])


@given(
    n=st.integers(1, 1300),
    size=st.integers(1, 1400) | st.sampled_from([499, 500, 501, 1000]),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_epoch_uses_every_image_once_and_whole_in_a_new_order(
    n: int, size: int, seed: int
) -> None:
    inked = np.random.RandomState(seed).rand(n, 784) < 0.01
    drawn = (inked / 256).astype(np.float32)  # as faint as ink can be
    drawn[0] = 0
    images = Images(drawn, np.arange(n))
    random = np.random.RandomState(seed)
    orders = []
    for _ in range(2):
        order: list[int] = []
        sizes: list[int] = []
        for batch in images.batches(size, random):
            for block in batch:
                whole = np.zeros((len(block), 784))
                pixels = np.arange(784) if block.pixels is None else block.pixels
                whole[:, pixels] = block.x(np.dtype(np.float64)).T
                np.testing.assert_array_equal(whole, drawn[block.labels])
                order.extend(block.labels)
            sizes.append(len(order) - sum(sizes))
        assert sizes == [n] if size >= n else [size] * (n // size) + [n % size] * (n % size > 0)
        assert sorted(order) == list(range(n))
        orders.append(order)
    if n > max(size, 20):
        assert orders[0] != orders[1]
        assert orders[0] != sorted(orders[0])


@pytest.mark.parametrize(("prime", "agrees"), [("fixed", True), ("buggy", False)])
def test_only_the_fixed_derivative_agrees_with_differences_of_the_cost(
    prime: str, agrees: bool
) -> None:
    random = np.random.RandomState(1)
    network = Network(
        [random.randn(4, 6), random.randn(10, 4)],
        [random.randn(4, 1), random.randn(10, 1)],
        reproduce.PRIMES[prime],
    )
    x, y = random.rand(6, 7), np.arange(10)[:, np.newaxis] == random.randint(10, size=7)

    def cost() -> float:
        return reproduce.cross_entropy(network.feedforward(x)[0][-1], y)

    its_cost, nabla_w, nabla_b = network.backprop(x, y)
    assert its_cost == cost()
    errors = []
    for array, nabla in zip(parameters(network), nabla_w + nabla_b):
        worst = 0.0
        for index in np.ndindex(array.shape):
            kept, h = array[index], 1e-5
            array[index] = kept + h
            above = cost()
            array[index] = kept - h
            below = cost()
            array[index] = kept
            worst = max(worst, float(abs(nabla[index] - (above - below) / (2 * h))))
        errors.append(worst)
    w2, w3, b2, b3 = errors
    assert max(w3, b3) < 1e-8
    assert (w2 < 1e-8) is agrees
    assert (b2 < 1e-8) is agrees


# Threads and precision


@pytest.mark.parametrize("dtype", reproduce.DTYPES)
def test_any_number_of_threads_gives_the_same_bits(
    dtype: str, mnist: mnist_loader.Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = first(mnist, 5600, 2000)
    for size in (5600, 1600, 10):  # 1600: the last batch has 800.
        found = []
        for threads in (1, 2, 3, 8, 16):
            monkeypatch.setattr(reproduce, "THREADS", threads)
            run = trained(data, replace(NIELSEN, dtype=dtype, batch_size=size), epochs=2)
            arrays = [array.tobytes() for array in parameters(run.network)]
            found.append((run.epochs, arrays))
        assert all(each == found[0] for each in found)


@pytest.mark.parametrize("threads", [1, 3, 16])
def test_threads_are_as_many_as_said_and_stop_at_an_error(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Thread] = []
    start = Thread.start

    def counted_start(thread: Thread) -> None:
        started.append(thread)
        start(thread)

    monkeypatch.setattr(Thread, "start", counted_start)
    monkeypatch.setattr(reproduce, "THREADS", threads)
    blocks: list[Any] = list(range(1000))
    assert reproduce.in_threads(str, blocks) == [str(block) for block in blocks]
    assert len(started) == threads - 1

    called: list[Any] = []

    def fails_at_last(block: Any) -> None:
        called.append(block)
        time.sleep(0.001)
        if block == blocks[-1]:  # with which they begin
            raise ValueError("of one block")

    with pytest.raises(ValueError, match="of one block"):
        reproduce.in_threads(fails_at_last, blocks)
    assert len(called) < len(blocks)


@pytest.mark.parametrize("error", [MemoryError("of one block"), KeyboardInterrupt()])
def test_an_error_of_any_block_reaches_the_caller(
    error: BaseException, mnist: mnist_loader.Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Images(*first(mnist, 8000, 1)[0])
    network = Run(NIELSEN).network
    cross_entropy = reproduce.cross_entropy
    for bad in range(8):
        labels = training.blocks[bad].labels

        def fails(z: Array, y: Array, labels: Array = labels) -> float:
            if np.array_equal(y.argmax(axis=0), labels):
                raise error
            return cross_entropy(z, y)

        monkeypatch.setattr(reproduce, "cross_entropy", fails)
        monkeypatch.setattr(reproduce, "THREADS", 3)
        with pytest.raises(type(error)) as caught:
            reproduce.gradient(network, training.blocks)
        assert caught.value is error


def test_float32_follows_float64(mnist: mnist_loader.Data) -> None:
    double = trained(mnist, NIELSEN, epochs=3)
    single = trained(mnist, replace(NIELSEN, dtype="float32"), epochs=3)
    assert {array.dtype.name for array in parameters(single.network)} == {"float32"}
    for a, b in zip(double.epochs, single.epochs):
        assert b.cost == pytest.approx(a.cost, rel=1e-4)
        assert b.cost != a.cost
        assert abs(b.correct - a.correct) < 50


# What is measured


@pytest.mark.parametrize(
    "settings",
    [
        replace(NIELSEN, hidden=5, prime="buggy"),
        Settings(hidden=3, init="rand-0.5-w2", init_scale=0.1, seed=4),
        Settings(hidden=30, prime="buggy", init_scale=0.02),
    ],
)
def test_an_examination_is_what_loops_measure(settings: Settings, mnist: mnist_loader.Data) -> None:
    images, labels = mnist[0][0][:1500], mnist[0][1][:1500]
    network = Run(settings).network
    before = [array.copy() for array in parameters(network)]
    measurements = reproduce.examine(network, Images(images, labels))
    assert all(map(np.array_equal, parameters(network), before))
    z2 = [network.weights[0] @ x + network.biases[0][:, 0] for x in images[:1000].astype(float)]
    deviations = [math.sqrt(np.mean((a - a.mean()) ** 2)) for a in s(np.array(z2)).T]
    _, nabla_w, _ = loop_over_images(network, images, labels, settings.prime)
    _, right, _ = loop_over_images(network, images, labels, "fixed")
    expected = [
        sum(z.sum() for z in z2) / (1000 * settings.hidden),
        min(abs(z).min() for z in z2),
        max(deviations),
        math.sqrt(np.sum((nabla_w[0] / 1500) ** 2)),
        math.sqrt(np.sum((right[0] / 1500) ** 2)),
        math.sqrt(np.sum((nabla_w[1] / 1500) ** 2)),
    ]
    found = [measurement.value for measurement in measurements]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-13)
    if settings.prime == "buggy":
        assert expected[3] != pytest.approx(expected[4], rel=0.01)


# Functions


@given(z=hnp.arrays(np.float64, (2, 3), elements=st.floats(-30, 30)))
def test_sigmoid_prime_is_the_derivative_and_fixed_prime_the_same_of_the_output(z: Array) -> None:
    slope = (reproduce.sigmoid(z + 1e-5) - reproduce.sigmoid(z - 1e-5)) / 2e-5
    np.testing.assert_allclose(reproduce.sigmoid_prime(z), slope, atol=1e-10)
    a = reproduce.sigmoid(z)
    np.testing.assert_array_equal(reproduce.fixed_prime(a), reproduce.sigmoid_prime(z))
    np.testing.assert_array_equal(reproduce.buggy_prime(a), reproduce.sigmoid_prime(a))


@given(z=st.floats(-1e4, 1e4), is_digit=st.booleans())
@example(z=50.0, is_digit=True)
@example(z=-700.0, is_digit=False)
@example(z=1e-9, is_digit=True)
def test_cost_is_right_to_1e_12(z: float, is_digit: bool) -> None:
    with mpmath.workdps(40):
        exact = mpmath.log1p(mpmath.exp(-z if is_digit else z))
    cost = reproduce.cross_entropy(np.array([[z]]), np.array([[is_digit]]))
    # Below the smallest normal number, 1e-308, there are fewer digits to be right.
    assert abs(cost - exact) <= 1e-12 * exact + 1e-307


@given(labels=hnp.arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 9)))
def test_baseline_is_the_lowest_cost_of_constant_outputs(labels: Array) -> None:
    images = np.zeros((len(labels), 784), np.float32)
    test = np.append(labels, 9 - labels[:1])
    result = reproduce.baseline_of(Images(images, labels), Images(images, test))
    frequencies = np.bincount(labels, minlength=10) / len(labels)
    y = labels == np.arange(10)[:, np.newaxis]
    for shift in (0.0, 0.01, -0.01):
        a = np.clip(frequencies + shift, 1e-12, 1 - 1e-12)[:, np.newaxis]
        cost = -np.where(y, np.log(a), np.log(1 - a)).sum() / len(labels)
        assert result.cost <= cost + 1e-9
        assert shift or result.cost == pytest.approx(cost, abs=1e-9)
    most_frequent = int(frequencies.argmax())
    assert result.correct == sum(test == most_frequent)
    assert result.predicted == [len(test) * (digit == most_frequent) for digit in range(10)]


def test_of_equal_activations_the_lowest_digit_wins(small: mnist_loader.Data) -> None:
    """All are rounded to 1, though z differs: numpy.argmax decides, as in the question."""
    b = np.array([[0, 0, 0, 40, 0, 50, 0, 60, 0, 0]]).T + 0.0
    network = Network([np.zeros((10, 784))], [b])
    images, labels = small[2]
    correct, predicted = reproduce.evaluate(network, Images(images, labels))
    assert predicted == [0, 0, 0, len(labels), 0, 0, 0, 0, 0, 0]
    assert correct == np.sum(labels == 3)
