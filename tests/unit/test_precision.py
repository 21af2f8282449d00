import pytest

from embedstream.errors import ConfigError
from embedstream.service.engine.precision import Probed, choose

NAN = float("nan")


@pytest.mark.parametrize(
    ("wanted", "fidelity", "speed", "chosen"),
    [
        ("auto", 0.99995, 1.7, "bf16"),
        ("auto", 0.99995, 1.0, "f32"),
        ("auto", 0.99995, 0.03, "f32"),
        ("auto", 0.9998, 1.7, "f32"),
        ("auto", NAN, 1.7, "f32"),
        ("bf16", 0.99995, 0.9, "bf16"),
        ("int8", 0.9992, 0.9, "int8"),
    ],
)
def test_bf16_must_be_exact_enough_and_worth_it(wanted, fidelity, speed, chosen):
    assert choose(wanted, Probed(fidelity, speed)) == chosen


@pytest.mark.parametrize(("wanted", "fidelity"), [("bf16", 0.9998), ("bf16", NAN), ("int8", 0.9), ("int8", NAN)])
def test_a_precision_that_spoils_the_vectors_is_refused(wanted, fidelity):
    with pytest.raises(ConfigError, match="EMBEDDING_PRECISION"):
        choose(wanted, Probed(fidelity, 2.0))
