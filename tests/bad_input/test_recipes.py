"""Recipes and options that can't be followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_input.case import ROWS, TINY, Desk

GOOD = "model: builtin:tiny-bert\ndata: rows.csv\ntask: classify\ntrain: {steps: 2}\n"


@pytest.fixture
def rows(desk: Desk) -> Path:
    return desk.write("rows.csv", ROWS)


def refused(desk: Desk, recipe: str | bytes, *more: str, says: str | list[str], hint: str = "") -> str:
    desk.write("recipe.yaml", recipe)
    return desk.refused("train", "recipe.yaml", "--out", "run", *more, says=says, hint=hint)


def test_all_faults_at_once_in_the_order_of_their_lines(desk: Desk, rows: Path) -> None:
    recipe = """\
modell: builtin:tiny-bert
data: {train: rows.csv, validatoin: 0.1}
task: {name: classify, max_length: 2}
method:
  name: lora
  rank: 0
  alfa: 3
regularizers: [l2sp]
schedules: [warmup_linear, warmup_cosine]
train:
  steps: 2.5
  batch_size: 0
  epochs: 0
  learning_rate: 1e-5
  seed: yes
  precision: float64
evaluate: [task, tsk]
"""
    says = [
        "The recipe recipe.yaml is wrong:",
        "line 1: modell: is unknown. Did you mean 'model'? Known: data, evaluate, method, model,",
        "line 2: data.validatoin: is unknown. Did you mean 'validation'?",
        "line 3: task.max_length: 2 is out of range: must be at least 4",
        "line 6: method.rank: 0 is out of range: must be at least 1",
        "line 7: method.alfa: is unknown. Did you mean 'alpha'?",
        "line 8: regularizers.0.name: No regularizer is called 'l2sp'. Did you mean 'l2_sp'?",
        "line 9: schedules: warmup_linear and warmup_cosine both set the learning rate: keep one",
        "line 11: train.steps: 2.5 is not a whole number",
        "line 12: train.batch_size: 0 is out of range: must be at least 1",
        "line 13: train.epochs: 0 is out of range: must be more than 0",
        "line 14: train.learning_rate: '1e-5' is not a number (YAML reads 1e-5 as text: write 1.0e-5)",
        "line 15: train.seed: true is not a whole number",
        "line 16: train.precision: 'float64' is not allowed. Did you mean 'float16'? Known: auto, bfloat16,",
        "line 17: evaluate.1.name: No suite is called 'tsk'. Did you mean 'task'?",
    ]
    message = refused(desk, recipe, says=says, hint="tunesmith explain NAME")
    assert message.count("\n  - ") == len(says) - 1


def test_a_missing_data_file_does_not_hide_the_recipes_own_faults(desk: Desk, rows: Path) -> None:
    recipe = "data: nothing.csv\ntrain: {batch_size: 0}\n"
    says = ["line 1: data.train: There is no file nothing.csv.", "line 2: train.batch_size: 0 is out of range"]
    refused(desk, recipe, says=says)


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("train: fast", "line 4: train: 'fast' is not a mapping of settings"),
        ("train: {learning_rate: .nan}", "line 4: train.learning_rate: nan is not a finite number"),
        ("train: {learning_rate: .inf}", "line 4: train.learning_rate: inf is not a finite number"),
        ("train: {learning_rate: 1.0e5}", "'1.0e5' is not a number (YAML reads 1.0e5 as text: write 1.0e+5)"),
        ("train: {steps: '2'}", "line 4: train.steps: '2' is not a whole number but a text: leave out the quotation"),
        ("train: {micro_batch_size: 5}", "line 4: train: micro_batch_size 5 does not divide batch_size 32"),
        ("method: lorra", "line 4: method.name: No method is called 'lorra'. Did you mean 'lora'? Known: "),
        ("method: [lora]", "line 4: method: ['lora'] is neither the name of a method nor a mapping with `name`"),
        ("method: {rank: 3}", "line 4: method: names no method: `name` is missing."),
        ("schedules: 3", "line 4: schedules: 3 is not a list of schedules"),
        ("schedules: [null]", "line 4: schedules.0: null is neither the name of a schedule nor a mapping"),
        ("objective: superviced", "line 4: objective.name: No objective is called 'superviced'. Did you mean"),
        ("5: 6", "line 4: 5: is unknown."),
        ("on: 6", "line 4: on: is unknown."),
    ],
)
def test_wrong_values_are_named_with_their_line(desk: Desk, rows: Path, section: str, says: str) -> None:
    refused(desk, f"model: builtin:tiny-bert\ndata: rows.csv\ntask: classify\n{section}\n", says=says)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("3", "data: 3 is neither a path nor a mapping of settings"),
        ("''", "data.train: is blank: must be the path of a file"),
        ("", "data.train: is missing"),
        ("{train: rows.csv, validation: 0.7}", "data.validation: 0.7 is out of range: a share must be more than 0 and"),
        ("{train: rows.csv, validation: 0.5, test: 0.45}", "together they must be less than 0.9"),
        (
            "{train: rows.csv, leaks: dorp}",
            "data.leaks: 'dorp' is not allowed. Did you mean 'drop'?",
        ),
    ],
)
def test_wrong_data_section(desk: Desk, rows: Path, data: str, says: str) -> None:
    refused(desk, f"task: classify\ndata: {data}\n", says=f"line 2: {says}" if "{" not in data else ["line 2: ", says])


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ("balancd", "line 1: task.class_weights: 'balancd' is not allowed. Did you mean 'balanced'?"),
        ("{good: high}", "line 1: task.class_weights.good: 'high' is not a number"),
        ("{goood: 2}", "task.class_weights: no class is called 'goood'. Did you mean 'good'? Known: bad, good."),
        ("{good: -2}", "task.class_weights: the weight of 'good' is -2.0; it must be at least 0."),
    ],
)
def test_wrong_class_weights(desk: Desk, rows: Path, weights: str, says: str) -> None:
    recipe = f"task: {{name: classify, class_weights: {weights}}}\nmodel: builtin:tiny-bert\ndata: rows.csv\n"
    refused(desk, recipe, says=says)


def test_class_names_that_yaml_takes_for_other_things(desk: Desk) -> None:
    desk.write("rows.csv", ROWS.replace(",good", ",yes").replace(",bad", ",off"))
    recipe = "task: {name: classify, class_weights: {yes: 2, off: 0.5, 1: 1}}\ndata: rows.csv\n"
    refused(desk, recipe, says="no class is called '1'. Known: off, yes.")


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("- a\n- b\n", "is not a mapping of keys to values"),
        ("hello\n", "is not a mapping of keys to values"),
        ("", "is empty"),
        ("# a comment\n", "is empty"),
    ],
)
def test_no_mapping(desk: Desk, rows: Path, recipe: str, says: str) -> None:
    refused(desk, recipe, says=f"The recipe recipe.yaml {says}.", hint="Write `key: value` lines")


def test_keys_given_twice(desk: Desk, rows: Path) -> None:
    recipe = "model: x\ndata: rows.csv\nmodel: y\ntrain:\n  steps: 2\n  steps: 3\n"
    says = [
        "The recipe recipe.yaml gives keys twice:",
        "line 3: 'model' stands in line 1 already",
        "line 6: 'train.steps' stands in line 5 already",
    ]
    refused(desk, recipe, says=says, hint="Keep one of each.")


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("model: x\ndata: [a\ntask: b: c\n", "line 3, column 5: expected ',' or ']'"),
        ("model:\n\tname: x\n", "line 2, column 1: found character '\\t'"),
        ("model: a\ndata: b\0c\n", "line 2: special characters are not allowed (0x00)"),
        ("model: !!python/object/apply:os.system [ls]\n", "line 1, column 8: could not determine a constructor"),
        ("model: *nothing\n", "line 1, column 8: found undefined alias 'nothing'"),
        ("data: &a {train: *a}\n", "nested too deeply"),
        ("[" * 3000, "nested too deeply"),
        ("{[a]: b}\n", "line 1, column 2: found unhashable key"),
        ("data: 2020-99-99\n", "month must be in 1..12"),
    ],
)
def test_no_yaml(desk: Desk, rows: Path, recipe: str, says: str) -> None:
    refused(
        desk, recipe, says=["The recipe recipe.yaml is no YAML that can be read: ", says], hint="in quotation marks"
    )


def test_recipe_not_utf_8(desk: Desk, rows: Path) -> None:
    recipe = "model: a\ndata: caf\xe9\n".encode("latin-1")
    refused(desk, recipe, says="The recipe recipe.yaml is not UTF-8: line 2, byte 18 (0xe9).", hint="Save it as UTF-8")


def test_missing_recipe(desk: Desk, rows: Path) -> None:
    desk.write("recipe.yaml", GOOD)
    says = "The recipe recip.yaml does not exist."
    desk.refused("train", "recip.yaml", "--out", "run", says=says, hint="Did you mean 'recipe.yaml'?")
    desk.refused("explain", "recip.yaml", says=says)


def test_recipe_that_is_a_folder(desk: Desk) -> None:
    desk.folder.joinpath("recipe.yaml").mkdir()
    desk.refused("train", "recipe.yaml", "--out", "run", says="The recipe recipe.yaml can't be read: Is a directory.")


def test_all_malformed_options_at_once(desk: Desk, rows: Path) -> None:
    options = ["nonsense", "=3", "train..steps=3", "train.steps=", "schedules.1.warmup=0.2"]
    says = [
        "--set is wrong:",
        "'nonsense' is not of the form key=value",
        "'=3' is not of the form key=value",
        "'train..steps=3' is not of the form key=value",
        "'train.steps=' has no value: write null for none",
        "'schedules.1.warmup=0.2': '1' is no place of the list schedules, which has 0 to 0",
    ]
    more = [word for option in options for word in ("--set", option)]
    refused(desk, f"{GOOD}schedules: [warmup_linear]\n", *more, says=says, hint="--set train.epochs=5")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("train.lr=1", "command line: train.lr: is unknown. Known: activation_checkpointing, batch_size,"),
        ("train.steps=two", "command line: train.steps: 'two' is not a whole number"),
        ("train.steps.x=3", "train.steps: {'x': 3} is not a whole number"),
        ("train=3", "command line: train: 3 is not a mapping of settings"),
        ("foo.bar=2", "command line: foo: is unknown."),
        ("method=lorra", "command line: method.name: No method is called 'lorra'. Did you mean 'lora'?"),
        ("method.rank=8", "command line: method.rank: is unknown. Known: reinit."),
        ("schedules.0.warmup=7", "command line: schedules.0.warmup: 7 is out of range: must be less than 1"),
        ("train.learning_rate=nan", "command line: train.learning_rate: nan is not a finite number"),
        ("train.seed=-1", "command line: train.seed: -1 is out of range: must be at least 0"),
        ("train.device=cuda", "train.device: this machine has no 'cuda'. It has: cpu"),
    ],
)
def test_wrong_options_are_told_from_lines(desk: Desk, rows: Path, option: str, says: str) -> None:
    if option == "train.device=cuda":
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("this machine has the device")
    refused(desk, f"{GOOD}schedules: [warmup_linear]\n", "--set", option, says=says)


def test_nothing_behind_a_key_means_its_default(desk: Desk, rows: Path) -> None:
    desk.write("recipe.yaml", f"{GOOD}method:\nschedules:\nregularizers:\nevaluate:\nobjective:\n")
    ended = desk.run("train", "recipe.yaml", "--out", "run")
    assert ended.status == 0, ended.said
    desk.whole()


def test_part_that_waits_for_evaluations_that_never_come(desk: Desk, rows: Path) -> None:
    desk.train_refused(
        "rows.csv", "--set", "data.validation=null", "--set", "schedules=[early_stop]",
        says="early_stop acts on evaluations, but the recipe has no validation split.", hint="data.validation=0.1",
    )  # fmt: skip


def test_sequence_limit_exceeded(desk: Desk, rows: Path) -> None:
    desk.train_refused(
        "rows.csv", "--set", "task.max_length=300",
        says="task.max_length: 300 is more than builtin:tiny-bert can read: 128 tokens.", hint="at most 128",
    )  # fmt: skip


def test_longer_texts_are_cut_and_said(desk: Desk) -> None:
    long = f"{'long ' * 100},good\n{'longer ' * 100},bad\n"
    ended = desk.trained("--set", "train.epochs=1", "--set", "train.steps=null", rows=f"{ROWS}{long}")
    assert "training examples are longer than the limit and were cut." in ended.said


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["trian", "rows.csv"], "No such command 'trian'. Did you mean 'train'?"),
        (["train"], "Missing argument 'DATA-or-RECIPE'."),
        (["train", "rows.csv", "--modle", "x"], ["No such option: --modle", "--model"]),
        (["predict", "run"], "Missing argument"),
        (["explain", "nothing"], ["Nothing is called 'nothing'.", "Known: ", "lora"]),
        (["list", "methds"], "There is no kind of part 'methds'. Did you mean 'methods'?"),
        (["evaluate", "run", "--suite", "task"], "The folder run does not exist."),
    ],
)
def test_typing_mistakes(desk: Desk, rows: Path, command: list[str], says: str | list[str]) -> None:
    desk.refused(*command, says=says)


def test_check_refuses_what_train_refuses(desk: Desk, rows: Path) -> None:
    desk.refused("check", "rows.csv", *TINY, "--set", "train.batch_size=0", says="train.batch_size: 0 is out of range")
