"""Judges: what they are asked, how replies are read, and ungraded kept apart from wrong."""

import dataclasses
import time
import types

import jax.numpy as jnp
import pytest
from endpoint_server import EndpointServer

from seal_jax.core import parallel
from seal_jax.judges import graders, rubric
from seal_jax.judges.endpoint import EndpointError
from seal_jax.judges.graders import EndpointGrader, LocalGrader, ModelGrader
from seal_jax.judges.local import grade as local
from seal_jax.settings import Grading, Reward
from seal_jax.settings.endpoint import EndpointSettings
from seal_jax.tasks.knowledge.prompt import PromptError
from seal_jax.tasks.protocol import Answered, Verdict
from seal_jax.weights import load

pytestmark = pytest.mark.usefixtures("few_devices")

RIGHT, WRONG = Verdict(correct=True, empty=False), Verdict(correct=False, empty=False)


def answered(prediction, gold="21", question="How many mills?", topic="Mills"):
    query = f"Topic: {topic}\n{question}\nBriefly, please."
    return Answered(query=query, question=question, gold=gold, prediction=prediction)


def cut_off(text, why="length"):
    """A reply of an endpoint that ends for that reason."""
    return (200, EndpointServer.completion(text, finish_reason=why))


@pytest.fixture
def grader(endpoint_server, tmp_path):
    return EndpointGrader(
        EndpointSettings(
            base_url=endpoint_server.url,
            model="judge-1",
            cache_dir=str(tmp_path),
            concurrency=2,
            attempts=1,
            max_tokens=8,
        )
    )


@pytest.fixture
def script(endpoint_server, grader):
    """({answer: replies}) tells the server what to reply to the judge's prompt about it."""

    def write(replies):
        for answer, reply in replies.items():
            prompt = graders.judge_prompt(grader.template, answer)
            endpoint_server.script[prompt] = [reply]

    return write


@pytest.mark.parametrize(
    "reply",
    [
        "Yes", "yes.", " YES!\n", "**Yes**", "*yes*: both say 21", '"Yes"', "Yes - the same number",
        "Yes\nThe answer matches.", "yes, because there is no difference", "Yes because it is 21",
        "_Yes_", "Yes, yes.", "<think>No? No.</think>\n\nYes.", "Yes; 21 is what the key gives.",
    ],
)  # fmt: skip
def test_replies_that_say_yes(reply):
    assert graders.read_reply(reply) is True


@pytest.mark.parametrize(
    "reply",
    [
        "No", "no.", "**No**", "No, the key says 21 and the student said yes, 22 in all",
        "(no)", "No\n", "NO: it is partly right", "no since it differs", "No — another number",
    ],
)  # fmt: skip
def test_replies_that_say_no(reply):
    assert graders.read_reply(reply) is False


@pytest.mark.parametrize(
    "reply",
    [
        "", " ", "yes and no", "Yes/no", "yes or no", "Yes. No.", "No, but yes in part",
        "No-one knows", "Nope", "yesterday", "no idea", "Maybe", "It is right.", "1", "true",
        "The answer is yes", "Yes, I thought, but on reflection: no.", "<think>Yes", "non",
        "</think>", "Yes</think>", "<think>21 is 21, so\nyes",
    ],
)  # fmt: skip
def test_replies_that_say_neither(reply):
    assert graders.read_reply(reply) is None


@pytest.mark.parametrize(
    ("reply", "correct"),
    [
        pytest.param("No, the predic", None, marks=pytest.mark.fault("9")),
        pytest.param("Yes, because", None, marks=pytest.mark.fault("9")),
        pytest.param("no - 22 is ano", None, marks=pytest.mark.fault("9")),
        pytest.param("**Yes**, the", None, marks=pytest.mark.fault("9")),
        ("Yes", True),  # all there is room for where max_tokens is 1
        ("**No**", False),
        (" No.\n", False),
    ],
)
def test_of_a_reply_that_is_cut_off_only_the_word_alone_counts(grader, script, reply, correct):
    answer = answered("22")
    script({answer: cut_off(reply)})
    (verdict,) = grader.grade([answer])
    assert (verdict.correct, verdict.retry) == (correct, False)
    if correct is None:
        assert "cut off at the length limit (raise max_tokens)" in verdict.reason


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param("<think>" * 20_000, marks=pytest.mark.fault("S7")),
        pytest.param("\n" * 80_000, marks=pytest.mark.fault("S7")),
        pytest.param("Yes" + " \n" * 30_000 + "so", marks=pytest.mark.fault("S7")),
        "<think>" * 20_000 + "</think>Yes",
        "No" + "\n-" * 40_000,
        "yes " * 50_000,
    ],
)
def test_a_giant_reply_takes_no_time(reply):
    start = time.perf_counter()
    graders.read_reply(reply)
    assert time.perf_counter() - start < 1  # minutes, if it were quadratic


@pytest.mark.fault("3")
@pytest.mark.parametrize(
    "reply, verdict",
    [
        ("Both say 21.\n</think>\n\nYes.", True),  # the template began the thought
        ("<thinking>Yes? No.</thinking>\nNo.", False),
        ("<think>Yes</think> <think>No</think> Yes", True),
        ("<|channel|>analysis<|message|>No?<|end|><|start|>assistant"
         "<|channel|>final<|message|>Yes", True),
        ("<THINK>No</THINK>Yes", True),
    ],
)  # fmt: skip
def test_what_a_judge_only_thinks_is_no_verdict(reply, verdict):
    assert graders.read_reply(reply) is verdict


@pytest.mark.fault("S7")
@pytest.mark.parametrize(
    "reply",
    ["<think>" * 20_000, "\n" * 80_000, "\n" * 80_000 + "<think>", "_ " * 10_000],
    ids=["tags", "lines", "lines and a tag", "lines of nothing"],
)
def test_a_giant_reply_is_read_at_once(reply):
    start = time.process_time()
    assert graders.read_reply(reply) is None
    assert rubric.parse_score(reply) is None
    assert time.process_time() - start < 1


@pytest.mark.fault("8")
def test_a_reply_that_is_no_answer_is_asked_again_and_never_kept(grader, endpoint_server):
    """A judge that finds its words at last is heard, on the same start and on the next one."""
    again, later = answered("21"), answered("twenty-one")
    patient = dataclasses.replace(grader.settings, attempts=2)
    judge = dataclasses.replace(grader, settings=patient)
    prompts = [graders.judge_prompt(grader.template, one) for one in (again, later)]
    endpoint_server.script |= {prompts[0]: ["Perhaps.", "Yes."], prompts[1]: ["Perhaps."]}
    first, second = judge.grade([again, later])
    assert first == RIGHT
    assert (second.correct, second.retry) == (None, False)
    assert second.reason == "the judge replied neither yes nor no: 'Perhaps.'"
    assert len(endpoint_server.requests) == 4
    endpoint_server.script |= {prompts[0]: ["No."], prompts[1]: ["Yes."]}
    assert judge.grade([again, later]) == [RIGHT, RIGHT], "the verdict is kept, the other is not"
    assert len(endpoint_server.requests) == 5


@pytest.mark.fault("3")
def test_a_judge_that_does_not_end_its_thoughts_is_told_so(grader, script):
    answer = answered("21")
    script({answer: "<think>Both say"})
    [verdict] = grader.grade([answer])
    assert (
        verdict.correct is None and "it ends in its thoughts (raise max_tokens)" in verdict.reason
    )


def test_the_prompt_holds_everything_literally():
    answer = answered("{gold} of {query}", gold="{prediction}")
    text = graders.judge_prompt(graders.load_template(), answer)
    assert "\n\nTopic: Mills\nHow many mills?\nBriefly, please.\n\n" in text
    assert "\n\n{prediction}\n\n" in text and "\n\n{gold} of {query}\n\n" in text
    assert text.endswith("Yes or No.")


def test_verdicts(grader, script, endpoint_server):
    right, wrong, unsure = (answered(p) for p in ("twenty-one", "22", "21 or 22"))
    gone, other_topic = answered("12"), answered("22", topic="Wind")
    script({
        right: "Yes.",
        wrong: "No, because 22 is not 21.",
        unsure: "It\ndepends.",
        gone: (500, ""),
        other_topic: "Yes",
    })  # fmt: skip
    blank = answered(" \n\u200b")
    found = grader.grade([wrong, blank, unsure, right, gone, wrong, other_topic])
    assert found == [
        WRONG,
        Verdict(correct=False, empty=True),
        Verdict(
            correct=None,
            empty=False,
            reason="the judge replied neither yes nor no: 'It depends.'",
        ),
        RIGHT,
        Verdict(
            correct=None, empty=False, reason="the judge did not reply: status 500", retry=True
        ),
        WRONG,
        RIGHT,
    ]
    # The blank one is not asked, the repeated one once; the same words on another topic are asked.
    assert len(endpoint_server.requests) == 5
    assert {body["max_tokens"] for _, body in endpoint_server.requests} == {8}


@pytest.mark.parametrize(
    ("reply", "retry"),
    [
        ((500, ""), True),
        ((429, ""), True),
        ((503, "", {"Retry-After": "3600"}), True),
        ((200, "no JSON"), True),
        (None, True),  # a closed connection
        ("Perhaps", False),
        ("", True),
        (cut_off("No, the predic", "error"), True),
        (cut_off("No, the predic", "content_filter"), False),
        ((400, '{"error": {"message": "too long"}}'), False),
        ((200, '{"choices": [{"message": {"content": null, "refusal": "no"}}]}'), False),
    ],
)
def test_ungraded_for_want_of_a_judge_is_told_from_ungraded_by_it(grader, script, reply, retry):
    answer = answered("21")
    script({answer: reply})
    (verdict,) = grader.grade([answer])
    assert (verdict.correct, verdict.retry) == (None, retry)


def test_verdicts_are_cached_and_failures_asked_again(grader, script, endpoint_server):
    right, gone = answered("21"), answered("12")
    script({right: "Yes", gone: (500, "")})
    seen = []
    grader = dataclasses.replace(grader, report=seen.append)
    assert [verdict.correct for verdict in grader.grade([right, gone])] == [True, None]
    script({right: "No", gone: "No"})
    assert [verdict.correct for verdict in grader.grade([right, gone])] == [True, False]
    assert [completion.cached for completion in seen] == [False, False, True, False]
    assert len(endpoint_server.requests) == 3


def test_nothing_to_ask_needs_no_endpoint():
    grader = EndpointGrader(EndpointSettings())
    assert grader.grade([]) == []
    assert grader.grade([answered("")]) == [Verdict(correct=False, empty=True)]
    with pytest.raises(EndpointError, match="base_url is not set"):
        grader.grade([answered("21")])


def test_names_tell_judges_apart(grader):
    assert grader.name == f"endpoint judge-1, prompt {graders.version(grader.template)}"
    settings = dataclasses.replace(grader.settings, base_url="http://localhost:1/v1", timeout=1.0)
    assert dataclasses.replace(grader, settings=settings).name == grader.name
    others = [
        dataclasses.replace(grader, settings=dataclasses.replace(settings, model="judge-2")),
        dataclasses.replace(grader, template=grader.template + " "),
        LocalGrader(),
    ]
    assert len({grader.name, *(other.name for other in others)}) == 4


@pytest.mark.parametrize("template", ["{query} {gold}", "{query} {gold} {prediction} {title}"])
def test_a_template_that_cannot_be_used(grader, template):
    with pytest.raises(PromptError, match="judge's template"):
        dataclasses.replace(grader, template=template)


def test_the_local_grader_is_the_local_rules():
    found = LocalGrader().grade([answered("twenty-one"), answered("22"), answered("")])
    assert found == [RIGHT, WRONG, Verdict(correct=False, empty=True)]


def test_the_local_grader_sees_the_question():
    """What "not" says depends on it."""
    answer, plain, negative = "It is not salty.", "Is it salty?", "Is it not salty?"
    found = LocalGrader().grade(
        [answered(answer, gold="no", question=asked) for asked in (plain, negative)]
    )
    assert [verdict.correct for verdict in found] == [True, False]
    assert LocalGrader().name == local.GRADER


@pytest.fixture
def unsaid():
    """What is said once a process has not been said."""
    if say := getattr(graders, "_say_that_it_reads_english", None):
        say.cache_clear()


ABROAD = [
    # The grader is wrong about the first three, and says so.
    ("Wer hat die Brücke gebaut?", "Ida Thorne", "nicht von Ida Thorne, sondern von Karl Wolf"),
    ("Qui a dessiné ce pont ?", "Ida Thorne", "Ce n'est pas Ida Thorne mais Karl Wolf."),
    ("Где подписан договор?", "Москва", "не в Москве, а в Казани"),
    ("¿Quién construyó el puente de piedra?", "Ida Thorne", "No fue Ida Thorne, sino Karl Wolf."),
    ("Kto zbudował most w mieście?", "Ida Thorne", "Nie Ida Thorne, lecz Karl Wolf."),
    ("", "Ida Thorne", "nicht von Ida Thorne, sondern von Karl Wolf"),
]


@pytest.mark.fault("20")
@pytest.mark.parametrize(("question", "gold", "prediction"), ABROAD)
def test_the_local_grader_says_that_it_reads_english(unsaid, caplog, question, gold, prediction):
    answers = [answered(prediction, gold=gold, question=question)]
    for _ in range(2):
        LocalGrader().grade(answers)
    assert [record.message for record in caplog.records] == [
        "the local grader reads English only, and this run asks in another language: its verdicts "
        "there are not to be relied on. Set grading.kind to a judge (docs/judges.md)."
    ]


@pytest.mark.fault("20", control=True)
@pytest.mark.parametrize(
    ("question", "gold", "prediction"),
    [
        ("Who built the bridge?", "Ida Thorne", "Paris, London, Berlin, Madrid, Vienna"),
        ("Who built the bridge?", "北京", "北京"),
        ("", "Ida Thorne", "Ida Thorne"),
        ("Name?", "Müllner", "Müllner"),
    ],
)
def test_the_local_grader_reads_english(unsaid, caplog, question, gold, prediction):
    LocalGrader().grade([answered(prediction, gold=gold, question=question)])
    assert not caplog.records


def test_an_ungraded_verdict_says_why():
    with pytest.raises(ValueError, match="reason"):
        Verdict(correct=None, empty=False)


def test_only_an_ungraded_verdict_is_asked_for_again():
    assert not Verdict(correct=None, empty=False, reason="unclear").retry
    with pytest.raises(ValueError, match="asked for again"):
        Verdict(correct=True, empty=False, retry=True)


ENDPOINT = EndpointSettings(base_url="http://localhost:1/v1", model="judge-1")
JUDGE, RUBRIC = "{query} {gold} {prediction}?", "{title} {passage} {self_edit}: 1 to 5?"


@pytest.fixture(scope="module")
def opened(checkpoint):
    """A run's opened model, as far as graders read it."""
    loaded = load.load_model(checkpoint, jnp.float32)
    return types.SimpleNamespace(
        model=loaded.config,
        base=loaded.params,
        tokenizer=loaded.tokenizer,
        devices=parallel.all_devices(),
    )


@pytest.mark.parametrize(
    ("kind", "grader_class", "rubric_class"),
    [
        ("endpoint", EndpointGrader, rubric.EndpointRubric),
        ("policy", ModelGrader, rubric.ModelRubric),
        ("model", ModelGrader, rubric.ModelRubric),
    ],
)
def test_who_grades_is_what_the_settings_name(
    kind, grader_class, rubric_class, opened, checkpoint, tiny_settings, change, tmp_path
):
    (tmp_path / "judge.txt").write_text(JUDGE, encoding="utf-8")
    (tmp_path / "rubric.txt").write_text(RUBRIC, encoding="utf-8")
    path = str(checkpoint) if kind == "model" else ""
    grading = Grading(kind=kind, model=path, endpoint=ENDPOINT, batch_size=4, buckets=(400,))
    settings = change(tiny_settings, {"grading": grading})
    grader = graders.make_grader(settings, opened)
    assert type(grader) is grader_class
    assert graders.make_rubric(settings, opened) is None  # the reward is another one
    settings = change(settings, {"reward": Reward(kind="rubric", replicates=1)})
    scorer = graders.make_rubric(settings, opened)
    assert type(scorer) is rubric_class and scorer.template == rubric.load_template()
    if kind == "endpoint":
        assert grader.settings == scorer.settings == ENDPOINT
    else:
        assert (grader.batch_size, grader.buckets) == (4, (400,))
        assert grader.label == (path or settings.model.name)
        assert (grader.params is opened.base) == (kind == "policy")
    settings = change(settings, {"prompts.dir": str(tmp_path)})
    assert graders.make_rubric(settings, opened).template == RUBRIC
    assert grader.template == graders.load_template()
    assert graders.make_grader(settings, opened).template == JUDGE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"buckets": ()}, "positive and ascending"),
        ({"buckets": (72, 44)}, "positive and ascending"),
        ({"buckets": (0, 44)}, "positive and ascending"),
    ],
)
def test_impossible_settings_of_a_judge(changes, message):
    with pytest.raises(ValueError, match=message):
        Grading(**changes)


def test_without_a_judge_in_the_settings_the_local_rules_grade(tiny_settings):
    assert graders.make_grader(tiny_settings, None) == LocalGrader()
    assert graders.make_rubric(tiny_settings, None) is None
