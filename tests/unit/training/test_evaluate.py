"""Generated answers and what evaluation.json has of them: scores, lengths, samples and the shares of faulty answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import GenerationConfig

from tests.unit.training.conftest import make_chat
from training import model
from training.encoder import Encoder, end_ids, load_tokenizer
from training.errors import InterruptedTrainingError
from training.evaluate import MOST_ANSWERS, SAMPLES, Answer, answer, answer_rows, evaluation, lengths
from training.recipe import Recipe
from training.scores import NAMES, ROUGE, chrf, words
from training.stop import StopSignal

if TYPE_CHECKING:
    from tests.unit.training.conftest import TinyModel
    from training.device import Device
    from training.messages import Messages


RECIPE = Recipe("x", seed=1)
SCORES = (*ROUGE, "chrF")


def finished(*texts: str) -> list[Answer]:
    return [Answer(text, finished=True) for text in texts]


def test_the_evaluation_has_scores_and_samples() -> None:
    chats = [make_chat(number) for number in range(25)]
    references = [chat[-1]["content"] for chat in chats]
    found = evaluation(chats, finished(*["nothing"] * 25), finished(*references), RECIPE)
    assert (found["rows"], found["metrics"], found["deciding"]) == (25, list(SCORES), "rougeL")
    assert found["base"]["rougeL"] == {"mean": 0, "low": 0, "high": 0}
    assert found["tuned"]["rougeL"] == found["difference"]["rougeL"] == {"mean": 100, "low": 100, "high": 100}
    assert set(found["difference"]) == set(SCORES)
    assert found["differing"] == dict.fromkeys(SCORES, 25)
    assert len(found["samples"]) == SAMPLES
    scores = {**dict.fromkeys(ROUGE, 0), "chrF": round(float(chrf([references[3]], ["nothing"])[0, 0]), 1)}
    assert found["samples"][3] == {
        "prompt": [{"role": "system", "content": "Summarize."}, {"role": "user", "content": chats[3][1]["content"]}],
        "reference": references[3],
        "base": "nothing",
        "tuned": references[3],
        "scores": {"base": scores, "tuned": dict.fromkeys(SCORES, 100)},
        "faults": [],
    }


def test_the_evaluation_has_the_scores_of_the_chosen_metrics_and_no_others() -> None:
    chats = [make_chat(number) for number in range(8)]
    for chat, answer_text in zip(chats, ['{"a": 1}', '{"a": 2}'] * 4, strict=True):
        chat[-1]["content"] = answer_text
    recipe = Recipe("x", metrics=("label", "json"), promote_by="label")
    found = evaluation(chats, finished(*['{"a": 1}'] * 8), finished(*['{"a": 1}', '{"A": 2}'] * 4), recipe)
    assert (found["metrics"], found["deciding"]) == ([*NAMES["json"], *NAMES["label"]], "accuracy")
    for side in ("base", "tuned", "difference"):
        assert found[side].keys() - {"words", "shares"} == set(found["metrics"])
    assert found["base"]["accuracy"]["mean"] == found["base"]["json_fields"]["mean"] == 50
    assert found["tuned"]["accuracy"] == found["tuned"]["macro_f1"] == {"mean": 100, "low": 100, "high": 100}
    assert found["tuned"]["json_fields"]["mean"] == 50
    assert found["base"]["macro_f1"]["mean"] == pytest.approx(100 * (2 / 3) / 2)
    assert 0 <= found["difference"]["macro_f1"]["low"] <= found["difference"]["macro_f1"]["high"] <= 100
    assert found["differing"] == {"json_valid": 0, "json_fields": 0, "accuracy": 4}
    # A row has no macro F1.
    assert found["samples"][1]["scores"]["tuned"] == {"json_valid": 100, "json_fields": 0, "accuracy": 100}


def test_a_conversation_is_judged_at_its_last_turn_with_all_earlier_turns() -> None:
    chat: Messages = [
        {"role": "system", "content": "Help the customer of the shop with the order."},
        {"role": "user", "content": "The lamp that I ordered came with a crack."},
        {"role": "assistant", "content": "We are sorry. May we send a new lamp to you?", "learned": True},
        {"role": "user", "content": "Yes please."},
        {"role": "assistant", "content": "It leaves the warehouse tomorrow.", "learned": True},
    ]
    # Words of any earlier turn are copied. Those of the instruction are not.
    copies = finished("The lamp that I ordered came with", "May we send a new lamp to you?", chat[0]["content"])
    found = evaluation([chat] * 3, copies, copies, RECIPE)
    assert found["tuned"]["shares"]["copied"] == pytest.approx(2 / 3, abs=0.001)
    assert found["samples"][0]["reference"] == "It leaves the warehouse tomorrow."
    assert found["samples"][0]["prompt"] == [{"role": turn["role"], "content": turn["content"]} for turn in chat[:-1]]


def test_the_evaluation_has_lengths_and_shares_of_faulty_answers() -> None:
    chats = [make_chat(number) for number in range(4)]
    dialogue = chats[1][1]["content"]
    base = [
        Answer("", finished=True),
        Answer(dialogue, finished=False),
        *finished("One two.", "One two three four five six!"),
    ]
    found = evaluation(chats, base, finished(*["Bob wants tea."] * 4), RECIPE)
    assert found["base"]["shares"] == {"empty": 0.25, "truncated": 0.25, "copied": 0.25, "repeating": 0}
    assert found["tuned"]["shares"] == {"empty": 0, "truncated": 0, "copied": 0, "repeating": 0}
    assert found["tuned"]["words"] == {"mean": 3, "median": 3, "p90": 3}
    copied = len(words(dialogue))
    assert found["base"]["words"]["mean"] == pytest.approx((0 + copied + 2 + 6) / 4, abs=0.06)
    assert found["base"]["words"]["median"] == 4
    assert found["reference"]["words"] == lengths([chat[-1]["content"] for chat in chats])
    assert found["reference"]["shares"] == {"copied": 0}


def test_answers_that_loop_or_are_cut_are_among_the_samples() -> None:
    chats = [make_chat(number) for number in range(300)]
    tuned = finished(*[f"Answer {row}." for row in range(300)])
    tuned[250] = Answer("no " * 12, finished=True)
    tuned[260:290] = [Answer(f"Cut {row}", finished=False) for row in range(260, 290)]
    found = evaluation(chats, finished(*[""] * 300), tuned, RECIPE)
    texts = [sample["tuned"] for sample in found["samples"]]
    assert texts == [*(f"Answer {row}." for row in range(20)), "no " * 12, *(f"Cut {row}" for row in range(260, 265))]
    assert found["samples"][20]["reference"] == chats[250][-1]["content"]
    faults = [sample["faults"] for sample in found["samples"]]
    assert faults == [[]] * 20 + [["repeating"]] + [["truncated"]] * 5
    # The share is not rounded, because one answer in thousands must be more than 0.
    assert found["tuned"]["shares"]["repeating"] == pytest.approx(1 / 300)


def test_lengths_are_mean_median_and_ninetieth_percentile_of_the_words() -> None:
    texts = [" ".join(["word"] * count) for count in (1, 2, 3, 4, 100)]
    assert lengths(texts) == {"mean": 22, "median": 3, "p90": pytest.approx(61.6)}


def test_answers_do_not_depend_on_the_batch_and_keep_their_order(tiny: TinyModel, device: Device) -> None:
    tokenizer = load_tokenizer(tiny.folder, "tiny")
    ends = end_ids(tiny.folder, tokenizer)
    prompts = [Encoder(tokenizer, ends).prompt(make_chat(number)) for number in (2, 0, 7, 1, 8)]
    assert len({len(prompt) for prompt in prompts}) > 2
    base = model.load_base(tiny.folder, device)
    answers = [
        answer(
            base,
            tokenizer,
            prompts,
            end_ids=ends,
            max_new_tokens=8,
            batch_size=size,
            stop=StopSignal(),
            name="base",
        )
        for size in (1, 2, 5)
    ]
    assert answers[0] == answers[1] == answers[2]
    assert len({each.text for each in answers[0]}) > 1
    stop = StopSignal()
    stop.requested = True
    with pytest.raises(InterruptedTrainingError, match="while evaluating the base model"):
        answer(base, tokenizer, prompts, end_ids=ends, max_new_tokens=8, batch_size=2, stop=stop, name="base")


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 3, "num_return_sequences": 2},
        {"stop_strings": ["e"], "no_repeat_ngram_size": 2, "min_new_tokens": 9},
        {"return_dict_in_generate": True, "output_scores": True},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"prompt_lookup_num_tokens": 3},
    ],
)
def test_the_published_sampling_settings_do_not_change_the_answers(
    tiny: TinyModel, device: Device, settings: dict[str, Any]
) -> None:
    tokenizer = load_tokenizer(tiny.folder, "tiny")
    ends = end_ids(tiny.folder, tokenizer)
    prompts = [Encoder(tokenizer, ends).prompt(make_chat(number)) for number in range(3)]
    base = model.load_base(tiny.folder, device)

    def ask(published: GenerationConfig) -> list[Answer]:
        base.generation_config = published
        options: Any = {"end_ids": ends, "max_new_tokens": 8, "batch_size": 3, "stop": StopSignal(), "name": "base"}
        answers = answer(base, tokenizer, prompts, **options)
        assert base.generation_config is published
        return answers

    plain = ask(GenerationConfig())
    assert ask(GenerationConfig(**settings)) == plain
    assert ask(GenerationConfig(repetition_penalty=9.0)) != plain  # vLLM uses this setting, so evaluation must, too


def test_an_answer_is_finished_if_the_model_ends_it(tiny: TinyModel, device: Device) -> None:
    tokenizer = load_tokenizer(tiny.folder, "tiny")
    ends = end_ids(tiny.folder, tokenizer)
    prompts = [Encoder(tokenizer, ends).prompt(make_chat(number)) for number in range(3)]
    base = model.load_base(tiny.folder, device)

    def ask(ends: list[int], longest: int) -> list[Answer]:
        return answer(
            base,
            tokenizer,
            prompts,
            end_ids=ends,
            max_new_tokens=longest,
            batch_size=3,
            stop=StopSignal(),
            name="base",
        )

    never = [len(tokenizer) + 1]
    cut = ask(never, 6)
    assert [each.finished for each in cut] == [False] * 3
    # The first token of one answer becomes an end token. It ends that answer, and no answer that does not have it.
    with torch.inference_mode():
        first = int(base(torch.tensor([prompts[1]])).logits[0, -1].argmax())
    ended = ask([*never, first], 6)
    assert ended[1] == Answer(tokenizer.decode([first]).strip(), finished=True)
    assert not ended[2].finished
    assert ended[2] == cut[2]


def test_the_rows_for_a_judge_are_a_sample_in_a_fixed_order_with_all_turns_and_answers() -> None:
    chats = [make_chat(number) for number in range(MOST_ANSWERS + 20)]
    base, tuned = (finished(*(f"{name} {number}" for number in range(len(chats)))) for name in ("base", "tuned"))
    rows = answer_rows(chats, base, tuned)
    assert rows == answer_rows(chats, base, tuned)
    numbers = [row["row"] for row in rows]
    assert len(set(numbers)) == len(numbers) == MOST_ANSWERS
    assert numbers != sorted(numbers)
    # A beginning of the file has rows of all parts of the split.
    assert min(numbers[:50]) < len(chats) / 4
    assert max(numbers[:50]) > len(chats) * 3 / 4
    row = rows[7]
    assert (row["base"], row["tuned"]) == (f"base {row['row']}", f"tuned {row['row']}")
    chat = chats[row["row"]]
    assert row["reference"] == chat[-1]["content"]
    assert [turn["role"] for turn in row["prompt"]] == ["system", "user"]
    assert all(turn.keys() == {"role", "content"} for turn in row["prompt"])


def test_the_first_metric_stands_where_a_judge_will_decide() -> None:
    recipe = Recipe("x", metrics=("chrf", "rouge"), promote_by="judge")
    assert evaluation([make_chat(1)], finished("a"), finished("b"), recipe)["deciding"] == "chrF"
