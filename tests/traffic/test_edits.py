from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from residency.errors import InputError
from residency.traffic.edits import renamed

CENTRES = np.eye(3, dtype=np.float32)
NAMES = ["pay bill", "freeze account", "order checks"]


def test_names_are_their_own_at_first(tmp_path: Path) -> None:
    assert renamed(tmp_path, NAMES, CENTRES, "e") == NAMES
    assert (tmp_path / "categories.toml").read_text().count("[[category]]") == 3


def test_what_the_user_wrote_is_kept(tmp_path: Path) -> None:
    renamed(tmp_path, NAMES, CENTRES, "e")
    file = tmp_path / "categories.toml"
    text = file.read_text().replace('name = "pay bill"', "name = 'Bills'  # Ann's word")
    file.write_text(text)
    nearly = np.array([[0.1, 0.99, 0], [0.99, 0, 0.1]], dtype=np.float32)
    assert renamed(tmp_path, ["block account", "bill due"], nearly, "e") == [
        "freeze account",
        "Bills",
    ]
    assert file.read_text() == text


def test_two_with_one_name_are_one(tmp_path: Path) -> None:
    renamed(tmp_path, NAMES, CENTRES, "e")
    file = tmp_path / "categories.toml"
    file.write_text(file.read_text().replace('name = "pay bill"', 'name = "order checks"'))
    assert renamed(tmp_path, NAMES, CENTRES, "e") == [
        "order checks",
        "freeze account",
        "order checks",
    ]


def test_what_is_new_is_added_and_never_merged_by_its_name(tmp_path: Path) -> None:
    renamed(tmp_path, NAMES[:2], CENTRES[:2], "e")
    before = (tmp_path / "categories.toml").read_text()
    found = renamed(tmp_path, ["pay bill", "pay bill more"], CENTRES[[2, 0]], "e")
    assert found == ["pay bill (2)", "pay bill"]
    after = (tmp_path / "categories.toml").read_text()
    assert after.startswith(before)
    assert after.count("[[category]]") == 3


def test_a_category_keeps_its_first_centre(tmp_path: Path) -> None:
    renamed(tmp_path, ["pay bill"], CENTRES[:1], "e")
    for angle in (0.5, 1.0):
        moved = np.array([[np.cos(angle), np.sin(angle), 0]], dtype=np.float32)
        found = renamed(tmp_path, ["else"], moved, "e")
        assert found == (["pay bill"] if angle == 0.5 else ["else"])


@pytest.mark.parametrize("lost", [True, False])
def test_without_its_centre_a_category_is_known_by_its_name(tmp_path: Path, lost: bool) -> None:
    renamed(tmp_path, NAMES, CENTRES, "e")
    file = tmp_path / "categories.toml"
    file.write_text(file.read_text().replace('name = "pay bill"', 'name = "Bills"'))
    if lost:
        (tmp_path / ".residency" / "categories.json").write_text("{")
    other = CENTRES if lost else np.eye(3, 5, 1, dtype=np.float32)
    assert renamed(tmp_path, NAMES, other, "e" if lost else "f")[0] == "Bills"


@pytest.mark.parametrize(
    "text",
    [
        b"[[category]\n",
        b"category = 3\n",
        b'[[category]]\nid = "a"\n',
        b"category = 'a'",
        b"# \xff",
    ],
)
def test_a_file_that_is_none_is_refused_and_left(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "categories.toml"
    file.write_bytes(text)
    with pytest.raises(InputError, match=r"categories\.toml"):
        renamed(tmp_path, NAMES, CENTRES, "e")
    assert file.read_bytes() == text


def test_any_name_survives_the_file(tmp_path: Path) -> None:
    odd = ['a "b" \\ c', "余额\u007f", "tab\there"]
    assert renamed(tmp_path, odd, CENTRES, "e") == odd
    assert renamed(tmp_path, ["x", "y", "z"], CENTRES, "e") == odd
