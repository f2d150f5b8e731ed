"""The numbers: against the question's own runs, loops, differences and exact arithmetic."""

from __future__ import annotations

import csv
import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import mnist_loader
import reproduce
from reproduce import Array, Gradient, Images, Network, Run, Settings

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.csv"))
# Weights at which every layer has a gradient that can be told from zero.
NIELSEN = Settings(hidden=30, init="randn", init_scale="fan-in")


def trained(data: mnist_loader.Data, *settings: Settings, epochs: int) -> list[Run]:
    """Return runs that were trained as the command does it: in turn, epoch by epoch."""
    (images, labels), _, (test_images, test_labels) = data
    training = Images(images, labels)
    test = Images(test_images, test_labels)
    runs = [Run(its) for its in settings]
    for _ in range(epochs):
        for run in runs:
            reproduce.train_epoch(run, training, test)
    assert [len(run.epochs) for run in runs] == [epochs] * len(runs)
    return runs


def parameters(network: Network) -> list[Array]:
    return network.weights + network.biases


def s(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def loop_over_images(network: Network, images: Array, labels: Array, buggy: bool) -> Gradient:
    """Return cost and gradient as the question computes them: image by image, by hand."""
    w2, b2 = network.weights[0], network.biases[0]
    cost = 0.0
    sums = [np.zeros_like(a) for a in parameters(network)]
    for image, label in zip(images, labels):
        x = image.reshape(784, 1).astype(np.float64)
        y = mnist_loader.vectorized_result(label)
        if len(network.weights) == 1:
            a = s(w2 @ x + b2)
            parts = [(a - y) @ x.T, a - y]
        else:
            w3, b3 = network.weights[1], network.biases[1]
            a2 = s(w2 @ x + b2)
            a = s(w3 @ a2 + b3)
            argument = a2 if buggy else w2 @ x + b2
            delta2 = (w3.T @ (a - y)) * s(argument) * (1 - s(argument))
            parts = [delta2 @ x.T, (a - y) @ a2.T, delta2, a - y]
        cost -= float(np.sum(y * np.log(a) + (1 - y) * np.log(1 - a)))
        for total, part in zip(sums, parts):
            total += part
    n = len(network.weights)
    return cost, sums[:n], sums[n:]


# The question's own code


def settings_of(golden: Path) -> Settings:
    """Return the settings that a golden file is named by."""
    match = re.fullmatch(
        r"hidden(\d+)(?:_(rand\S*))?_scale(\S+)_(\w+)_eta(\S+)_seed(\d+)(?:_batch(\d+))?",
        golden.stem,
    )
    assert match
    hidden, init, scale, prime, eta, seed, batch_size = match.groups()
    return Settings(
        hidden=int(hidden),
        prime=prime.replace("none", "fixed"),
        init=init or "rand",
        init_scale=scale,
        eta=float(eta),
        batch_size=int(batch_size or 50_000),
        seed=int(seed),
    )


def test_there_are_golden_runs() -> None:
    assert len({settings_of(golden) for golden in GOLDEN}) == 12


# The activations of some runs are so small that e^-z overflows, as it may.
@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")
@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_every_epoch_equals_that_of_the_questions_own_code(
    golden: Path, mnist: mnist_loader.Data
) -> None:
    with golden.open() as file:
        rows = list(csv.DictReader(file))
    [run] = trained(mnist, settings_of(golden), epochs=len(rows))
    for row, epoch in zip(rows, run.epochs):
        assert epoch.correct == int(row["correct"])
        assert epoch.predicted == [int(count) for count in row["predicted"].split()]
        assert math.isfinite(epoch.cost)
        if row["cost"] != "inf":
            # One golden cost is itself off by more than 1e-9: see the next test.
            is_off = golden.stem.startswith("hidden0_scale1") and row["epoch"] == "4"
            tolerance = 1.2e-9 if is_off else 1e-9
            assert epoch.cost == pytest.approx(float(row["cost"]), rel=tolerance, abs=0)


def test_the_golden_cost_that_is_off_has_lost_digits_in_the_questions_formula(
    mnist: mnist_loader.Data,
) -> None:
    (images, labels), _, test = mnist
    [run] = trained(((images, labels), test, test), Settings(), epochs=4)
    [z], [_, a] = run.network.feedforward(images.T.astype(np.float64))
    y = labels == np.arange(10)[:, np.newaxis]
    with np.errstate(divide="ignore"):
        question = np.where(y, -np.log(a), -np.log(1 - a)).sum() / len(labels)
    exact = reproduce.cross_entropy(z, y) / len(labels)
    [golden] = [path for path in GOLDEN if path.stem.startswith("hidden0_scale1")]
    with golden.open() as file:
        cost = float(list(csv.DictReader(file))[4]["cost"])
    assert question == pytest.approx(cost, rel=1e-12)
    assert abs(exact / cost - 1) == pytest.approx(1.18e-9, rel=0.01)


# Where a run starts


@pytest.mark.parametrize("hidden", [0, 30])
@pytest.mark.parametrize("scale", [0.3, "fan-in", "0.3,fan-in", "fan-in,0.3"])
@pytest.mark.parametrize(
    ("init", "seed"),
    [
        ("rand", 2**32 - 1),
        ("rand-0.5", 1),
        ("randn", 0),
        ("rand-0.5,rand", 2),
        ("randn,rand-0.5", 3),
    ],
)
def test_initial_weights_are_what_the_questions_script_would_draw(
    init: str, seed: int, scale: float | str, hidden: int
) -> None:
    settings = Settings(hidden=hidden, init=init.split(",")[0], seed=seed)
    if hidden:
        settings = replace(settings, init=init, init_scale=scale)
    state = np.random.get_state()
    network = Run(settings).network
    assert all(map(np.array_equal, np.random.get_state(), state))  # No global state.

    np.random.seed(seed)
    shapes = [(30, 784), (10, 30), (30, 1), (10, 1)] if hidden else [(10, 784), (10, 1)]
    layers = len(shapes) // 2
    for number, (array, shape) in enumerate(zip(parameters(network), shapes)):
        layer = number % layers
        init_of_layer = settings.init.split(",")[layer % (1 + settings.init.count(","))]
        scales = str(settings.init_scale).split(",")
        scale_of_layer = scales[layer % len(scales)]
        draws = np.random.randn(*shape) if init_of_layer == "randn" else np.random.rand(*shape)
        if init_of_layer == "rand-0.5":
            draws -= 0.5
        if scale_of_layer != "fan-in":
            draws *= float(scale_of_layer)
        elif shape[1] > 1:  # weights
            draws /= math.sqrt(shape[1])
        np.testing.assert_allclose(array, draws, rtol=4e-16, atol=0)
        assert array.dtype == np.float64
    np.random.set_state(state)

    single = Run(replace(settings, dtype="float32")).network
    for array, its in zip(parameters(single), parameters(network)):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, its.astype(np.float32))


# Gradients and steps


@pytest.mark.parametrize("hidden", [0, 1, 30])
@pytest.mark.parametrize("prime", ["buggy", "fixed"])
@pytest.mark.parametrize("n", [50, 2300])  # one block, three blocks
def test_gradient_equals_a_loop_over_single_images(
    n: int, hidden: int, prime: str, mnist: mnist_loader.Data
) -> None:
    network = Run(replace(NIELSEN, hidden=hidden, prime=prime)).network
    images, labels = mnist[0][0][:n], mnist[0][1][:n]
    cost, nabla_w, nabla_b = reproduce.gradient(network, Images(images, labels).blocks)
    its_cost, *its = loop_over_images(network, images, labels, prime == "buggy")
    assert cost == pytest.approx(its_cost, rel=1e-12)
    for nabla, its_nabla in zip(nabla_w + nabla_b, its[0] + its[1]):
        np.testing.assert_allclose(nabla, its_nabla, rtol=1e-10, atol=1e-11)


def small_steps_by_hand(
    settings: Settings, images: Array, labels: Array, epochs: int
) -> tuple[Network, list[float], np.random.RandomState]:
    """Return what `epochs` of mini-batches lead to, image by image, from Nielsen's weights."""
    n = len(labels)
    size = settings.batch_size or n
    hidden = settings.hidden
    random = np.random.RandomState(settings.seed)
    shapes = [(hidden, 784), (10, hidden), (hidden, 1), (10, 1)] if hidden else [(10, 784), (10, 1)]
    arrays = [random.randn(*shape) for shape in shapes]
    layers = len(arrays) // 2
    weights = [w / np.sqrt(w.shape[1]) for w in arrays[:layers]]
    network = Network(weights, arrays[layers:])
    costs = []
    for _ in range(epochs):
        order = random.permutation(n) if size < n else np.arange(n)
        cost = 0.0
        for start in range(0, n, size):
            batch = order[start : start + size]
            its_cost, nabla_w, nabla_b = loop_over_images(
                network, images[batch], labels[batch], settings.prime == "buggy"
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
        (50, 50, 30, "buggy"),  # These two are the full batch.
        (50, 1000, 0, "fixed"),
        (1300, 500, 0, "fixed"),
        (1300, 600, 5, "fixed"),  # 500 and 100 images, the same again, and 100.
        (1300, 1299, 5, "buggy"),
    ],
)
def test_each_step_is_what_a_loop_over_the_images_of_its_batch_gives(
    n: int, size: int, hidden: int, prime: str, mnist: mnist_loader.Data
) -> None:
    (images, labels), _, (test_images, test_labels) = mnist
    data = (images[:n], labels[:n]), mnist[1], (test_images[:100], test_labels[:100])
    settings = replace(NIELSEN, hidden=hidden, prime=prime, batch_size=size, seed=3)
    [run] = trained(data, settings, epochs=2)
    network, costs, random = small_steps_by_hand(settings, *data[0], epochs=2)
    assert [epoch.cost for epoch in run.epochs] == pytest.approx(costs, rel=1e-11)
    for array, its in zip(parameters(run.network), parameters(network)):
        np.testing.assert_allclose(array, its, rtol=1e-9, atol=1e-11)
    assert run.random.rand() == random.rand()  # No more was drawn, and no less.
    assert run.steps == 2 * math.ceil(n / size)

    digits = [int(network.feedforward(x.reshape(784, 1))[1][-1].argmax()) for x in data[2][0]]
    assert run.epochs[-1].predicted == [digits.count(j) for j in range(10)]
    correct = sum(digit == label for digit, label in zip(digits, data[2][1]))
    assert run.epochs[-1].correct == correct
    assert run.epochs[-1].accuracy == correct / 100


@given(
    n=st.integers(1, 1300),
    size=st.integers(1, 1400) | st.sampled_from([499, 500, 501, 1000]),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_epoch_uses_every_image_once_and_whole_in_a_new_order(
    n: int, size: int, seed: int
) -> None:
    drawn = (np.random.RandomState(seed).rand(n, 784) < 0.01).astype(np.float32)
    drawn[0] = 0
    images = Images(drawn, np.arange(n))
    random = np.random.RandomState(seed)
    orders = []
    for _ in range(2):
        order: list[int] = []
        sizes: list[int] = []
        for batch in images.batches(size, random):
            for block in batch:
                whole = np.zeros((len(block.labels), 784))
                whole[:, block.pixels] = block.x(np.dtype(np.float64)).T
                np.testing.assert_array_equal(whole, drawn[block.labels])
                order.extend(block.labels)
            sizes.append(len(order) - sum(sizes))
        assert sizes == [n] if size >= n else [size] * (n // size) + [n % size] * (n % size > 0)
        assert sorted(order) == list(range(n))
        orders.append(order)
    if size >= n:
        assert random.rand() == np.random.RandomState(seed).rand()  # Nothing was drawn.
    elif n > 20:
        assert orders[0] != orders[1]
        assert orders[0] != sorted(orders[0])


# Other runs, other precision


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_runs_in_turn_give_the_same_bits_as_alone(dtype: str, mnist: mnist_loader.Data) -> None:
    (images, labels), validation, test = mnist
    data = (images[:4600], labels[:4600]), validation, test
    sizes = [4600, 1000, 10]  # The last of the batches of 1000 has 600.
    settings = [replace(NIELSEN, dtype=dtype, batch_size=size) for size in sizes]
    together = trained(data, *settings, epochs=2)
    assert len({run.epochs[-1].cost for run in together}) == len(together)
    for run, its in zip(together, settings):
        [alone] = trained(data, its, epochs=2)
        assert run.epochs == alone.epochs
        for array, same in zip(parameters(run.network), parameters(alone.network)):
            np.testing.assert_array_equal(array, same)


def test_float32_follows_float64(mnist: mnist_loader.Data) -> None:
    settings = [replace(NIELSEN, dtype=dtype) for dtype in ("float64", "float32")]
    double, single = trained(mnist, *settings, epochs=3)
    assert {array.dtype.name for array in parameters(single.network)} == {"float32"}
    for a, b in zip(double.epochs, single.epochs):
        assert b.cost == pytest.approx(a.cost, rel=1e-4)
        assert b.cost != a.cost
        assert abs(b.correct - a.correct) < 50


# What is measured


@pytest.mark.parametrize("hidden", [1, 5])
@pytest.mark.parametrize("prime", ["buggy", "fixed"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_examination_is_what_loops_measure(
    hidden: int, prime: str, dtype: str, mnist: mnist_loader.Data
) -> None:
    images, labels = mnist[0][0][:1500], mnist[0][1][:1500]
    network = Run(replace(NIELSEN, hidden=hidden, prime=prime, dtype=dtype)).network
    before = [array.copy() for array in parameters(network)]
    found = reproduce.examine(network, Images(images, labels))
    assert all(map(np.array_equal, parameters(network), before))

    z2 = np.array([network.weights[0] @ x + network.biases[0][:, 0] for x in images[:1000]])
    deviations = [math.sqrt(np.mean((a - a.mean()) ** 2)) for a in s(z2.astype(float)).T]
    norms = {}
    for buggy in (True, False):
        _, nabla_w, _ = loop_over_images(network, images, labels, buggy)
        norms[buggy] = [float(np.linalg.norm(nabla)) / len(labels) for nabla in nabla_w]
    y = labels[:20] == np.arange(10)[:, np.newaxis]
    tolerance = 1e-9 if dtype == "float64" else 1e-5
    assert found._asdict() == pytest.approx(
        {
            "mean_z2": z2.mean(),
            "least_z2": min(abs(z) for z in z2.ravel()),
            "a2_varies": max(deviations),
            "nabla_w2": norms[prime == "buggy"][0],
            "right_nabla_w2": norms[False][0],
            "nabla_w3": norms[False][1],
            "error": reproduce.gradient_error(network, images[:20].T.astype(float), y),
        },
        rel=tolerance,
        abs=1e-6 if dtype == "float32" else 1e-12,
    )
    assert math.isclose(norms[True][0], norms[False][0], rel_tol=1e-6) is False


@pytest.mark.parametrize("scale", [1, 0.1, 0.01, "fan-in", "0.01,1", "1,0.01"])
def test_the_wrong_derivative_is_found_and_its_error_measured(
    scale: float | str, small: mnist_loader.Data
) -> None:
    images, labels = small[0]
    x = images.T.astype(np.float64)
    y = labels == np.arange(10)[:, np.newaxis]
    for hidden, init, seed in itertools.product([1, 5, 30], ["rand-0.5", "randn"], range(3)):
        settings = Settings(hidden=hidden, init=init, init_scale=scale, seed=seed)
        fixed = Run(settings).network
        assert reproduce.gradient_error(fixed, x, y) <= reproduce.WRONG_ABOVE / 100
        buggy = replace(fixed, prime=reproduce.buggy_prime)
        # The slope of the cost along any direction is what the right gradient says.
        _, [wrong, _], _ = buggy.backprop(x, y)
        _, [right, _], _ = fixed.backprop(x, y)
        norm = float(np.linalg.norm(wrong))
        expected = 0.0
        for sign in (1, -1):
            direction = wrong / norm
            direction[::2] *= sign
            slope = float(np.sum(right * direction))
            error = abs(float(np.sum(wrong * direction)) - slope) / max(norm, abs(slope))
            expected = max(expected, error)
        error = reproduce.gradient_error(buggy, x, y)
        assert error > reproduce.WRONG_ABOVE, settings
        assert error == pytest.approx(expected, rel=0.05), settings


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("scale", [0, 1e-3, 1, 1e3, 1e6, 1e9, 1e150, "fan-in", "1e6,1", "1,1e6"])
@pytest.mark.parametrize("hidden", [1, 30, 784])
def test_a_right_gradient_is_never_called_wrong(
    hidden: int, scale: float | str, mnist: mnist_loader.Data
) -> None:
    (images, labels), _, (test_images, test_labels) = mnist
    training = Images(images[:200], labels[:200])
    test = Images(test_images[:9], test_labels[:9])
    for init, dtype in itertools.product(reproduce.INITS, reproduce.DTYPES):
        if dtype == "float32" and scale == 1e150:
            continue
        for eta in (0.5, 1000.0):
            settings = Settings(
                hidden=hidden, init=init, init_scale=scale, eta=eta, batch_size=20, dtype=dtype
            )
            run = Run(settings)
            assert reproduce.examine(run.network, training).error <= reproduce.WRONG_ABOVE, settings
            reproduce.train_epoch(run, training, test)
            assert reproduce.examine(run.network, training).error <= reproduce.WRONG_ABOVE, settings


@pytest.mark.parametrize(("prime", "agrees"), [("fixed", True), ("buggy", False)])
def test_only_the_fixed_derivative_agrees_with_differences_of_the_cost(
    prime: str, agrees: bool
) -> None:
    random = np.random.RandomState(1)
    network = Network(
        [random.randn(4, 6), random.randn(10, 4)],
        [random.randn(4, 1), random.randn(10, 1)],
        reproduce.fixed_prime if agrees else reproduce.buggy_prime,
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
    # The program's own check comes to the same conclusion.
    assert (reproduce.gradient_error(network, x, y) <= reproduce.WRONG_ABOVE) is agrees


# Functions


@given(z=hnp.arrays(np.float64, (2, 3), elements=st.floats(-30, 30)))
def test_sigmoid_prime_is_the_derivative_and_fixed_prime_the_same_of_the_output(z: Array) -> None:
    slope = (reproduce.sigmoid(z + 1e-5) - reproduce.sigmoid(z - 1e-5)) / 2e-5
    np.testing.assert_allclose(reproduce.sigmoid_prime(z), slope, atol=1e-10)
    a = reproduce.sigmoid(z)
    np.testing.assert_array_equal(reproduce.fixed_prime(a), reproduce.sigmoid_prime(z))
    np.testing.assert_array_equal(reproduce.buggy_prime(a), reproduce.sigmoid_prime(a))


def test_buggy_prime_is_at_least_0_196() -> None:
    a = np.linspace(0, 1, 1001)
    assert reproduce.buggy_prime(a).min() == pytest.approx(0.19661, abs=1e-5)
    assert reproduce.fixed_prime(a).min() == 0


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


@given(
    z=hnp.arrays(np.float64, (10, 3), elements=st.floats(-1e300, 1e300)), digit=st.integers(0, 9)
)
@np.errstate(over="ignore")
def test_cost_and_sigmoid_are_finite_for_finite_z(z: Array, digit: int) -> None:
    y = np.zeros((10, 3), dtype=bool)
    y[digit] = True
    assert math.isfinite(reproduce.cross_entropy(z, y))
    a = reproduce.sigmoid(z)
    assert np.all((a >= 0) & (a <= 1))
    assert np.all(np.isfinite(reproduce.sigmoid(z.astype(np.float32))))


@given(labels=hnp.arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 9)))
def test_baseline_is_the_lowest_cost_of_constant_outputs(labels: Array) -> None:
    images = np.zeros((len(labels), 784), np.float32)
    test = np.append(labels, labels[:1])
    result = reproduce.baseline(Images(images, labels), Images(images, test))
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
