"""The local grader: one verdict for each kind of case, reasons, and strange input."""

import random
import string
import time

import pytest

from seal_jax.judges.local import grade
from seal_jax.tasks.protocol import Verdict

ARCHES, CAPITAL = "How many arches has the bridge?", "Where was the treaty signed?"
SALT, LANDED, DUG = "Is the lake salty?", "When did they land?", "How long is the tunnel?"
SAILED, HALL = "Who reached the island first?", "When did the hall reopen?"
COST, RUNS = "What did the hall cost?", "Which body runs the programme?"

# gold, prediction, question, correct
CASES = {
    "words": [
        ("Nairobi", "The capital is NAIROBI.", "", True),
        ("Nairobi", "Mombasa", "", False),
        ("the pituitary gland", "Pituitary gland", "", True),
        ("Müllner", "Mullner", "", True),
        ("rock’n’roll", "rock'n'roll", "", True),
        ("ﬁne", "fine", "", True),
        ("Luther's teacher", "the teacher of Luther’s", "", True),
        ("The", "the", "", True),
        ("A", "B", "", False),
        ("Turkey", "the modern Turkish state", "Which country took over the railway?", True),
        ("democracy", "They rejected democratic rule.", "What did the group reject?", True),
        ("Spain", "It was a Spanish fleet.", "Which country owned the fleet?", True),
    ],
    "numbers": [
        ("21", "twenty-one", "", True),
        ("twenty-one", "There were 21 of them.", "", True),
        ("21", "twenty two", "", False),
        ("first", "It came 1st", "", True),
        ("10,000", "about 10,000 people", "", True),
        ("10,000", "10", "", False),
        ("1.5 million", "1,500,000", "", True),
        ("1.5 million", "1.5 billion", "", False),
        ("205", "two hundred and five", "", True),
        ("1,2", "12", "", False),
        ("7%", "seven percent", "", True),
        ("7 percent", "7 per cent", "", True),
        ("12", "The bridge has 14 arches.", ARCHES, False),
        ("12", "not 12 but 14", ARCHES, False),
        ("2.1%", "about 2%", "What share of the salt is mined there?", True),
        ("2.1%", "2%", "What share of the salt is mined there?", False),
    ],
    "dates": [
        ("12 October 1492", "October 12th, 1492", "", True),
        ("12 October 1492", "October 1493", "", False),
        ("12 October 1492", "13 October 1492", LANDED, False),
        ("12 October 1492", "1492-10-12", LANDED, True),
        ("12 October 1492", "They landed on Oct. 12, 1492.", LANDED, True),
        ("12 October 1492", "They landed on 12 November 1492.", LANDED, False),
        ("March 1871", "It opened in April 1871.", "When did the bridge open?", False),
        ("1871", "It opened in the spring of 1871.", "When did the bridge open?", True),
        ("44 BC", "44 BCE", "When did he die?", True),
        ("the 19th century", "in the nineteenth century", "", True),
        ("the 1970s", "It reopened in 1974.", HALL, True),
        ("the 1970s", "It reopened in 1984.", HALL, False),
        ("the 16th century", "in 1566", "When was it built?", True),
        ("the 16th century", "in 1666", "When was it built?", False),
    ],
    "units": [
        ("5 km", "5 kilometres", DUG, True),
        ("5 km", "The tunnel is five kilometers long.", DUG, True),
        ("5 km", "5 miles", DUG, False),
        ("5 km", "The tunnel is 5 miles long.", DUG, False),
        ("20 °C", "20 degrees Celsius", "How warm is the lake?", True),
        ("20 °C", "The lake is at 20 °F.", "How warm is the lake?", False),
        ("$20 million", "20 million dollars", COST, True),
        ("$20 million", "It cost 20 million euros.", COST, False),
        ("$20 million", "It cost $25 million.", COST, False),
        ("60 kg", "It weighs 60 kilograms.", "How heavy is the bell?", True),
        ("60 kg", "It weighs 60 pounds.", "How heavy is the bell?", False),
    ],
    "plurals": [
        ("farmer", "Most of them were farmers.", "What were most settlers?", True),
        ("factories", "a factory", "Where did they work?", True),
        ("women", "The first was a woman.", "Who taught there?", True),
    ],
    "acronyms": [
        ("US", "the U.S. army", "", True),
        ("World Health Organization", "The WHO", RUNS, True),
        ("World Health Organization", "The programme is run by the W.H.O.", RUNS, True),
        ("World Health Organization", "The ILO", RUNS, False),
        ("WHO", "The World Health Organization runs it.", RUNS, True),
        ("UN", "The United Nations runs it.", RUNS, True),
        ("United Kingdom", "It was built in Britain.", "In which country was it built?", True),
        ("Western Salt Board (WSB)", "the Western Salt Board", RUNS, True),
    ],
    "partial names": [
        ("John Paul II", "Pope John Paul II, born in Poland", "", True),
        ("Christopher Columbus", "Columbus", "", True),
        ("Christopher Columbus", "It was Columbus.", SAILED, True),
        ("Christopher Columbus", "Captain Columbus reached it in May.", SAILED, True),
        ("Christopher Columbus", "Ferdinand Columbus", SAILED, False),
        ("Christopher Columbus", "It was reached by Ferdinand Columbus.", SAILED, False),
        ("Marie Curie", "Curie found it in 1898.", "Who discovered the element?", True),
        ("Marie Curie", "Pierre Curie", "Who discovered the element?", False),
    ],
    "yes or no": [
        ("yes", "Yes, the lake is salty.", SALT, True),
        ("yes", "No, the lake is fresh.", SALT, False),
        ("no", "No, the lake is fresh.", SALT, True),
        ("no", "Yes, it has no outlet.", SALT, False),
        ("no", "The lake is not salty.", SALT, True),
        ("yes", "The lake is not salty.", SALT, False),
        ("yes", "The lake is salty.", SALT, True),
        ("no", "The answer is no.", SALT, True),
        ("Yes", "That is not true.", SALT, False),
        ("no", "The lake is not salty.", "Is the lake not salty?", False),
    ],
    "contradictions": [
        ("Rome", "not Rome but Paris", CAPITAL, False),
        ("Paris", "not Rome but Paris", CAPITAL, True),
        ("Rome", "The treaty was not signed in Rome but in Paris.", CAPITAL, False),
        ("Paris", "The treaty was not signed in Rome but in Paris.", CAPITAL, True),
        ("Rome", "Rome was wrong; it was Paris.", CAPITAL, False),
        ("Paris", "Rome was wrong; it was Paris.", CAPITAL, True),
        ("Rome", "It was signed in Paris, not Rome.", CAPITAL, False),
        ("Paris", "It was signed in Paris, not Rome.", CAPITAL, True),
        ("Rome", "It was signed in Paris rather than in Rome.", CAPITAL, False),
        ("Rome", "It wasn't Rome, it was Paris.", CAPITAL, False),
        ("Rome", "It was never signed in Rome.", CAPITAL, False),
        ("Rome", "Rome? No, Paris.", CAPITAL, False),
        ("Rome", "Rome is not the correct answer.", CAPITAL, False),
        ("Rome", "It was thought to be signed in Rome, but it was Paris.", CAPITAL, False),
        ("Rome", "Many mistakenly say Rome.", CAPITAL, False),
        ("Rome", "Rome isn't the capital of it, Paris is.", "Which is the capital?", False),
        ("Rome", "It was not only signed in Rome but also ratified there.", CAPITAL, True),
        ("1945", "It did not end until 1945.", "When did the war end?", True),
        ("Christopher Columbus", "It was not Columbus but Vespucci.", "Who drew it?", False),
    ],
    "lists": [
        ("Rome", "Paris, London, Berlin, Madrid, Rome, Vienna, Athens, Oslo", CAPITAL, False),
        ("Rome", "Rome, Paris, London, Berlin, Madrid, Vienna, Athens, Oslo", CAPITAL, False),
        ("Rome", "1. Paris\n2. London\n3. Berlin\n4. Madrid\n5. Rome\n6. Vienna", CAPITAL, False),
        ("Paris, Rome and Oslo", "Paris, Rome, Oslo", "Where are its offices?", True),
        (
            "Rome",
            "It was signed in Rome, like Paris, Oslo, Bern, Kiel, Vienna, Athens.",
            CAPITAL,
            True,
        ),
        ("copper and tin", "tin and copper", "What is the alloy made of?", True),
        ("copper and tin", "copper", "What is the alloy made of?", False),
    ],
    "words of the question": [
        ("salt mine", "It was a mine that closed.", "What kind of mine was it?", False),
        ("salt mine", "It was for salt.", "What kind of mine was it?", True),
        ("harder", "It is harder.", "Is it easier or harder to row upstream?", True),
        ("harder", "It is easier.", "Is it easier or harder to row upstream?", False),
    ],
    "scripts": [
        ("１２ Ａｄａ", "12 Ada", "", True),
        ("١٢", "12", "", True),
        ("12,000", "١٢,٠٠٠", "", True),
        ("Straße", "STRASSE", "", True),
        ("東京", "首都は東京です", "", True),
        ("東京", "首都は京都です", "", False),
        ("東京", "大阪", "日本の首都はどこですか", False),
        ("Москва", "Столица - Москва.", "Какой город столица?", True),
        ("Москва", "Столица - Казань.", "Какой город столица?", False),
        ("القاهرة", "عاصمة مصر هي القاهرة", "ما هي عاصمة مصر؟", True),
        ("कि", "की", "", False),
    ],
    "no words": [
        ("?!", "?!", "", True),
        ("?!", "a", "", False),
        ("+", "the sign +", "What did they write?", True),
        ("", "anything", "", False),
    ],
    "next question": [
        ("Rome", "Rome\n\nQ: And where was it broken?\nA: Paris", CAPITAL, True),
        ("Rome", "Paris\n\nQuestion: Where is the Vatican?\nAnswer: Rome", CAPITAL, False),
    ],
}


@pytest.mark.parametrize(
    ("gold", "prediction", "question", "correct"),
    [pytest.param(*case, id=f"{kind} {i}") for kind in CASES for i, case in enumerate(CASES[kind])],
)
def test_case(gold, prediction, question, correct):
    verdict = grade.grade(gold, prediction, question)
    assert verdict == Verdict(correct=correct, empty=False)


TYPE, COLD, KING = "Which type was it?", "How cold does it get?", "Which king founded it?"
LAND, LACK = "Which country is it?", "What did they lack?"
# Row 19 of the faults: signs, letters and numerals after a name, whole words of a name.
NAMES_AND_SIGNS = [
    ("Type A", "Type B", "", False),
    ("Type A", "It was type B.", TYPE, False),
    ("Vitamin A", "Vitamin D", "Which vitamin is it?", False),
    ("Vitamin D", "They lacked vitamin A.", LACK, False),
    ("Hepatitis B", "Hepatitis C", "", False),
    ("Type-A personality", "a type-B personality", "", False),
    ("5 °C", "It is 5 °C below zero.", COLD, False),
    ("Plan A", "It was plan B that they followed.", "Which plan did they follow?", False),
    ("\u22125", "5", "", False),
    ("5", "\u22125", "", False),
    ("\u221240 °C", "40 °C", COLD, False),
    ("40 °C", "It is -40 °C.", COLD, False),
    ("-$3 million", "$3 million", "What was the result?", False),
    ("United States", "It was given to us.", "Who got the island?", False),
    ("US", "They told us.", "Who got the island?", False),
    ("WHO", "Nobody knows who runs it.", RUNS, False),
    ("Niger", "Nigeria", LAND, False),
    ("Niger", "It was Nigeria.", LAND, False),
    ("Nigeria", "It was Niger.", LAND, False),
    ("Henry VIII", "Henry VII", "", False),
    ("Henry VIII", "It was Henry VII.", KING, False),
    ("Henry VIII", "It was Henry the Eighth.", KING, True),
    ("Elizabeth I", "It was Elizabeth II.", "Which queen founded it?", False),
    ("Louis XIV", "It was Louis XVI.", KING, False),
    ("Super Bowl XLIV", "Super Bowl XLVI", "Which game was it?", False),
    ("Charles V", "Charles the Fifth", KING, True),
]
NAMES_AND_SIGNS_CONTROL = [
    ("Type A", "It was type A.", TYPE, True),
    ("Type B", "It was a type that nobody knew.", TYPE, False),
    ("Vitamin D", "They lacked vitamin D.", LACK, True),
    ("-5", "minus five", "", True),
    ("\u221240 °C", "It falls to -40 degrees Celsius.", COLD, True),
    ("\u221240 °C", "It falls to 40 degrees Celsius below zero.", COLD, True),
    ("Pope Pius X", "It was Pius XI.", "Which pope was it?", False),
    ("1990-1995", "1990 to 1995", "", True),
    ("United States", "It was given to the US.", "Who got the island?", True),
    ("Austria", "It was Australia.", LAND, False),
    ("Gambia", "It was Zambia.", LAND, False),
    ("Nigeria", "It was the Nigerian state.", LAND, True),
]
# Row 20: what is read of other languages.
ELSEWHERE = [
    ("3.5 m", "3,5 Meter", "Wie hoch ist der Turm?", True),
    ("3,5 m", "The tower is 3.5 metres high.", "", True),
    ("12,75 €", "12.75 euros", "", True),
    ("1874년", "1874년에", "언제 완공되었습니까?", True),
]
ELSEWHERE_CONTROL = [
    ("3,500", "3.5", "", False),
    ("서울", "수도는 서울이다.", "수도는 어디입니까?", True),
    ("서울", "수도는 부산이다.", "수도는 어디입니까?", False),
]


def _is_right(gold, prediction, question, correct):
    return grade.grade(gold, prediction, question).correct is correct


@pytest.mark.fault("19")
@pytest.mark.parametrize("case", NAMES_AND_SIGNS)
def test_names_and_signs(case):
    assert _is_right(*case)


@pytest.mark.fault("19", control=True)
@pytest.mark.parametrize("case", NAMES_AND_SIGNS_CONTROL)
def test_names_and_signs_that_were_right(case):
    assert _is_right(*case)


@pytest.mark.fault("20")
@pytest.mark.parametrize("case", ELSEWHERE)
def test_elsewhere(case):
    assert _is_right(*case)


@pytest.mark.fault("20", control=True)
@pytest.mark.parametrize("case", ELSEWHERE_CONTROL)
def test_elsewhere_that_was_right(case):
    assert _is_right(*case)


@pytest.mark.parametrize(
    "prediction", ["", " \n\t", "\x00", "\u200b", "\u3000\n", "...", "?!", "—\n"]
)
def test_a_prediction_of_nothing_is_empty_and_wrong(prediction):
    decision = grade.decide("x", prediction, "Which letter?")
    assert decision.verdict == Verdict(correct=False, empty=True)
    assert (decision.by, decision.probability) == ("empty", None)


def test_symbols_are_an_answer():
    assert grade.grade("x", "+") == Verdict(correct=False, empty=False)


def test_the_reason_is_given():
    assert grade.decide("12", "14", ARCHES).by == "other number or month"
    weighed = grade.decide("salt mine", "It was a mine that closed.", "What kind of mine was it?")
    assert weighed.by == "weights"
    assert 0 < weighed.probability < grade.THRESHOLD
    assert set(weighed.features) == set(grade.WEIGHTS)


def test_the_same_words_tell_less_when_the_question_holds_them():
    unasked = grade.decide("salt mine", "It was a mine.").probability
    asked = grade.decide("salt mine", "It was a mine.", "What kind of mine was it?").probability
    assert asked < unasked - 0.1


def test_control_characters():
    assert grade.grade("Rome", "\x07Rome\x1b[0m \ud800").correct
    assert grade.grade("Rome", "\x07\x1b\x00 Rome\x00").correct
    assert not grade.grade("1.2", "1\x002").correct


def test_long_answers_take_no_time_that_grows_with_the_square():
    rng = random.Random(0)
    some = ["ab" + "".join(rng.choices(string.ascii_lowercase, k=6)) for _ in range(10_000)]
    start = time.process_time()
    assert not grade.grade("Rome", " ".join(some), CAPITAL).correct
    assert grade.grade(" ".join(some), " ".join(reversed(some))).correct
    for strange in ("not ", "a.", '" ', "x, ", "\n", "Rome was not ", "$1,", "(", "I ", "a   "):
        grade.grade("Rome", strange * 10_000 + "b", CAPITAL)
    for strange in ("W ", "about 1,", "5 below zero ", "believed but ", "hundred and ", "-5 "):
        grade.grade("2.1% of the WHO and Rome", strange * 2_000 + "b", CAPITAL)
        grade.grade(strange * 2_000, "Rome", strange * 2_000)
    grade.grade("Rome", "." * 300_000 + "b", CAPITAL)
    assert time.process_time() - start < 20  # about 4 s; the square would be many minutes
