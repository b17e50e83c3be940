"""A sample of damages: `make faults` does more, and damages runs and caches too."""

import random
from pathlib import Path

import pytest

from tests.faults.corruption import DAMAGES, Tally, answers, damage


def test_a_damage_to_kept_answers_is_noticed_or_makes_no_difference(tmp_path: Path) -> None:
    tally = answers(90, 7, tmp_path)
    assert tally.trials == 90
    assert tally.sound, tally.faults
    assert tally.noticed > 10


@pytest.mark.parametrize("way", DAMAGES)
def test_a_damage_is_one(way: object) -> None:
    assert callable(way)
    data = bytes(range(200))
    for seed in range(20):
        assert way(data, random.Random(seed)) != data


def test_every_trial_damages_the_file_and_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for seed in range(20):
        path.write_bytes(b"aaaaaaaa")
        damage(path, random.Random(seed))
        assert path.read_bytes() != b"aaaaaaaa"
    tally = Tally("x")
    tally.add("noticed")
    tally.add("silent", file="f")
    assert (tally.trials, tally.noticed, tally.silent, tally.sound) == (2, 1, 1, False)
