"""`residency fit`: what it prints, and how it ends."""

import json

import psutil
import pytest
from click.testing import CliRunner, Result

from residency.cli import main
from residency.models.formats import GGUF


def fit(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["fit", *arguments])


def test_a_small_model_fits_and_each_part_says_what_it_is() -> None:
    done = fit("SmolLM2-135M-Instruct", "--json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["fits"], found["try"]) == (0, True, "")
    assert found["total"] == sum(part["size"] for part in found["parts"])
    assert {part["basis"] for part in found["parts"]} == {"derived", "estimated"}


def test_a_model_that_does_not_fit_ends_with_2_and_something_that_does() -> None:
    billions = 40 * psutil.virtual_memory().total // 10**9 // 4  # fits at no level
    done = fit(f"{billions}B", "--level", "f16")
    assert done.exit_code == 2
    assert "does not fit; try a model of" in done.stdout
    words = done.stdout.split("try a model of ")[1]
    size, flags = words.split(" weights (")
    assert fit(size, *flags.strip().rstrip(")").split()).exit_code == 0


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_training_has_its_own_parts(method: str) -> None:
    parts = [
        part["name"]
        for part in json.loads(fit("135M", "--train", method, "--json").stdout)["parts"]
    ]
    assert ("adapter" in parts) == (method != "full")
    assert {"weights", "gradients", "optimizer", "activations"} <= set(parts)


def test_training_that_does_not_fit_is_led_down_the_ladder() -> None:
    needed = json.loads(fit("135M", "--train", "lora", "--batch", "1024", "--json").stdout)
    assert not needed["fits"]
    flags = needed["try"].partition(" (")[0].split()
    assert flags[:2] == ["--train", "lora"]
    assert fit("135M", *flags).exit_code == 0


def test_how_heads_share_keys_and_every_format_are_told() -> None:
    found = json.loads(fit("SmolLM2-135M-Instruct", "--parallel", "2", "--json").stdout)
    assert found["attention"].startswith("GQA: 9 heads share 3")
    assert set(found["formats"]) == {*GGUF, "onnx-int4", "nf4"}
    flags = {p.name: p.type for p in main.commands["fit"].params}
    assert tuple(flags["level"].choices) == GGUF


def test_an_unknown_model_ends_with_3() -> None:
    done = fit("nope")
    assert done.exit_code == 3
    assert "a size as 7B" in done.stderr
