from pathlib import Path

import pytest

from evals.judges import PreferenceModelJudge, open_judge, save_judge
from evals.judges.scoring.fitting import CUT_MARK, CUT_NOTE
from evals.judges.scoring.transformers import LabelScorer, label_masses
from evals.memory.between_layers import is_trimmed
from evals.models.checkpoints import ModelSource
from schemas.errors import ConfigError, DataError, MissingInputError
from schemas.labels import Comparison, LabelProbabilities, Unscored
from schemas.stage import Runtime
from tests.fixtures.comparisons import comparison
from tests.fixtures.tiny_models import tiny_llama

COMPARISONS = [
    comparison("why is the sky blue?", "light scatters", "it is the sea's colour " * n)
    for n in range(1, 6)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judge-model")
    return tiny_llama(folder, context=512)


def judge_of(model: Path, runtime: Runtime | None = None, **settings: object) -> LabelScorer:
    config = PreferenceModelJudge.model_validate(
        {"model": {"path": str(model)}, "min_label_mass": 0.0, **settings}
    )
    opened = config.open(None, runtime or Runtime())
    assert isinstance(opened, LabelScorer)
    return opened


def numbers(verdicts: list[object]) -> list[tuple[float, float, float, float]]:
    assert all(isinstance(v, LabelProbabilities) for v in verdicts)
    return [
        (v.p_a, v.p_b, v.p_tie, v.label_mass or 0.0)
        for v in verdicts
        if isinstance(v, LabelProbabilities)
    ]


def test_holes_in_the_heap_are_given_back_between_layers(model: Path) -> None:
    assert is_trimmed(judge_of(model)._model)


def test_masses_are_softmax_over_the_whole_vocabulary() -> None:
    import torch

    # exp: 1, 2, 3, 4 of 10 together
    logits = torch.log(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert label_masses(logits, [2, 0, 3]).tolist() == [pytest.approx([0.3, 0.1, 0.4])]


def test_verdicts_are_the_models_own_probabilities(model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    judge = judge_of(model)
    network = AutoModelForCausalLM.from_pretrained(model).eval()
    for one, verdict in zip(COMPARISONS, judge.judge(COMPARISONS), strict=True):
        assert isinstance(verdict, LabelProbabilities)
        ids = judge.labels.prompt_ids(one)
        with torch.no_grad():
            p = network(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
        masses = [float(p[i]) for i in judge.labels.ids.values()]
        assert verdict.label_mass == pytest.approx(sum(masses), abs=1e-5)
        expected = [mass / sum(masses) for mass in masses]
        assert [verdict.p_a, verdict.p_b, verdict.p_tie] == pytest.approx(expected, abs=1e-5)
        assert verdict.prompt_tokens == len(ids)


def test_a_verdict_does_not_depend_on_its_batch(model: Path) -> None:
    together = numbers(list(judge_of(model).judge(COMPARISONS)))
    small = judge_of(model, Runtime(judge_batch_size=2))
    backwards = numbers(list(small.judge(COMPARISONS[::-1])))[::-1]
    alone = [numbers(list(small.judge([one])))[0] for one in COMPARISONS]
    for other in (backwards, alone):
        for expected, found in zip(together, other, strict=True):
            assert found == pytest.approx(expected, abs=1e-5)


def test_low_label_mass_is_unscored(model: Path) -> None:
    verdicts = judge_of(model, min_label_mass=0.999).judge(COMPARISONS)
    assert {v.reason for v in verdicts if isinstance(v, Unscored)} == {"low_label_mass"}
    assert len(verdicts) == len(COMPARISONS)


def test_a_long_comparison_is_cut_in_the_open(model: Path) -> None:
    judge = judge_of(model)
    for long in (comparison("q", "x" * 600, "y"), comparison("q", "x" * 600, "y" * 900)):
        ids, note = judge._fitted(long)
        assert 480 < len(ids) <= 511
        text = str(judge.tokenizer.decode(ids))
        assert note == CUT_NOTE
        assert text.count(CUT_MARK) == (2 if len(long.completion_b[0]["content"]) > 1 else 1)
        assert "Completion B" in text
        assert "Preference" in text
    (verdict,) = judge.judge([long])
    assert isinstance(verdict, LabelProbabilities)
    assert verdict.raw.endswith(CUT_NOTE)
    assert "3 comparisons were longer than the 511 tokens" in judge.warnings[0]
    (hopeless,) = judge.judge([comparison("q" * 700, "x", "y")])
    assert isinstance(hopeless, Unscored)


def test_a_long_comparison_is_unscored_where_that_is_chosen(model: Path) -> None:
    long = comparison("q", "x" * 600, "y")
    judge = judge_of(model, overlong="unscored")
    first, middle, last = judge.judge([COMPARISONS[0], long, COMPARISONS[1]])
    assert isinstance(middle, Unscored)
    assert middle.reason == "prompt_too_long"
    assert "at most 511" in middle.detail
    assert isinstance(first, LabelProbabilities)
    assert isinstance(last, LabelProbabilities)


def test_a_lower_limit_can_be_set(model: Path) -> None:
    verdicts = judge_of(model, max_prompt_tokens=10).judge(COMPARISONS)
    assert all(isinstance(v, Unscored) for v in verdicts)


def test_no_comparisons_no_verdicts(model: Path) -> None:
    none: list[Comparison] = []
    assert judge_of(model).judge(none) == []


def test_fingerprint_names_settings_and_weights_but_not_the_place(
    model: Path, tmp_path: Path
) -> None:
    import shutil

    copy = shutil.copytree(model, tmp_path / "copy")
    other = tiny_llama(tmp_path / "other", context=512, seed=1)
    assert judge_of(copy).fingerprint == judge_of(model).fingerprint
    assert judge_of(other).fingerprint != judge_of(model).fingerprint
    assert judge_of(model, min_label_mass=0.2).fingerprint != judge_of(model).fingerprint


def test_a_saved_judge_opens_with_the_model_beside_it(model: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "judge"
    shutil.copytree(model, folder / "model")
    start = PreferenceModelJudge(model=ModelSource(path="gone/for/good"), min_label_mass=0.0)
    saved = save_judge(folder, start, Runtime())
    assert "gone/for/good" not in (folder / "judge.json").read_text()
    moved = folder.rename(tmp_path / "moved")
    opened = open_judge(moved, Runtime())
    assert opened.fingerprint == saved.fingerprint
    assert numbers(list(opened.judge(COMPARISONS))) == numbers(list(saved.judge(COMPARISONS)))


def test_a_preference_model_without_a_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a model"):
        PreferenceModelJudge().open(None, Runtime())


def test_what_is_not_a_judge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="run the stage judge again"):
        open_judge(tmp_path, Runtime())
    (tmp_path / "judge.json").write_text('{"judge": {"kind": "rulle"}, "name": "", "finger": 1}')
    with pytest.raises(DataError, match="'rule', 'length', 'preference_model'"):
        open_judge(tmp_path, Runtime())
