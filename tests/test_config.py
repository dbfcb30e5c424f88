import pytest

from residency import config
from residency.builds import quantized
from residency.errors import SettingsError

GOOD = 'name = "desk"\n[data]\nfile = "a.jsonl"\n'


def refused(text: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        config.parse(text, "residency.toml")
    return caught.value


def test_defaults_fill_what_is_not_said() -> None:
    settings = config.parse(GOOD, "residency.toml")
    assert settings.model.base == config.DEFAULT_BASE
    assert settings.export.levels == ["Q8_0", "Q5_K_M", "Q4_K_M"]


@pytest.mark.parametrize(
    ("imatrix", "made"),
    [
        ("false", {"Q8_0": ("Q8_0", False), "Q4_K_M": ("Q4_K_M", False)}),
        ("true", {"Q8_0": ("Q8_0", False), "Q4_K_M": ("Q4_K_M", True)}),
        (
            '"both"',
            {
                "Q8_0": ("Q8_0", False),
                "Q4_K_M": ("Q4_K_M", False),
                "Q4_K_M-imatrix": ("Q4_K_M", True),
            },
        ),
    ],
)
def test_levels_have_an_importance_matrix_as_set(imatrix: str, made: dict[str, object]) -> None:
    text = f'{GOOD}[export]\nlevels = ["Q8_0", "Q4_K_M"]\nimatrix = {imatrix}\n'
    assert quantized(config.parse(text, "residency.toml").export) == made


def test_an_importance_matrix_is_neither_more_nor_less() -> None:
    assert "export.imatrix" in refused(GOOD + '[export]\nimatrix = "twice"\n').message


def test_an_unknown_setting_names_line_and_nearest_match() -> None:
    error = refused(GOOD + "[train]\nlearning_rat = 1e-3\n")
    assert "residency.toml:5" in error.message
    assert "train.learning_rat" in error.message
    assert error.hint == "did you mean learning_rate?"


def test_an_unknown_section_names_the_nearest() -> None:
    error = refused(GOOD + "[trian]\n")
    assert "residency.toml:4" in error.message
    assert error.hint == "did you mean train?"


def test_an_unknown_setting_of_a_served_model_names_the_nearest() -> None:
    error = refused(GOOD + "[serve.models.api]\nprise_in = 1.0\n")
    assert "residency.toml:5" in error.message
    assert error.hint == "did you mean price_in?"


def test_a_wrong_type_shows_the_value() -> None:
    error = refused(GOOD + '[train]\nepochs = "three"\n')
    assert "residency.toml:5" in error.message
    assert "'three'" in error.message


def test_a_value_out_of_range_is_refused() -> None:
    assert "gate.exact" in refused(GOOD + "[gate]\nexact = 1.5\n").message


def test_a_missing_setting_is_named() -> None:
    assert "data.file is missing" in refused('name = "desk"\n[data]\n').message


def test_broken_toml_says_where() -> None:
    assert "line 1" in refused("name = \n").message


def test_settings_that_are_not_utf8(tmp_path) -> None:
    (tmp_path / "residency.toml").write_bytes(b'name = "caf\xe9"\n')
    with pytest.raises(SettingsError, match="not UTF-8"):
        config.load(tmp_path)


def test_no_settings_at_all(tmp_path) -> None:
    with pytest.raises(SettingsError) as caught:
        config.load(tmp_path)
    assert "residency init" in caught.value.hint


def test_flags_override_the_file_and_leave_the_rest() -> None:
    settings = config.parse(GOOD + "[train]\nrank = 8\nepochs = 3\n", "residency.toml")
    made = config.overridden(settings, "train", {"rank": 4, "method": "qlora", "epochs": None})
    assert (made.train.rank, made.train.method, made.train.epochs) == (4, "qlora", 3)
    assert made.data == settings.data
    assert config.overridden(settings, "train", {"rank": None}) == settings
