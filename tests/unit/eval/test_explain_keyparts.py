"""Parts of keys, and what differs between two."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reflow.core.digest import Digest
from reflow.core.fileset import File, Fileset
from reflow.eval.keyparts import (
    Change,
    FileChange,
    FileRow,
    KeyParts,
    compare,
    content_id,
    distance,
    file_rows,
    parts_of,
)
from reflow.flow.digest import digest, set_universe
from reflow.flow.node import Extern, Intern, Val
from tests.fakes import an_exec, output


def fileset(**files: str) -> Fileset:
    return Fileset({path: File(Digest.of_text(text), len(text)) for path, text in files.items()})


ONE, TWO = Fileset.of_file(File(Digest.of(b"one"), 3)), Fileset.of_file(File(Digest.of(b"two"), 3))
LISTS = {content_id(each): file_rows(each) for each in (ONE, TWO)}


@pytest.fixture
def universe() -> Iterator[str]:
    set_universe("other")
    yield "other"
    set_universe("")


def parts(image: str = "ubuntu", command: str = "sort %s > %s", value: Fileset = ONE) -> KeyParts:
    return parts_of(an_exec("a", Val(value), cmd=command, image=image), [value])


def differences(now: KeyParts, then: KeyParts) -> list[Change]:
    return compare(now, then, LISTS.get)


def test_equal_contents_have_one_name_wherever_they_come_from() -> None:
    assert content_id(ONE) == digest(Val(ONE))
    upstream = output(an_exec("up"))
    assert parts_of(an_exec("a", upstream), [ONE]).inputs == parts_of(an_exec("a", Val(ONE)), [ONE]).inputs


def test_a_universe_is_a_part_and_leaves_names_alone(universe: str) -> None:
    found = parts_of(an_exec("a", Val(ONE)), [ONE])
    assert found.extra == universe
    assert found.inputs == (content_id(ONE),)


def test_interns_and_externs_have_a_url() -> None:
    assert parts_of(Intern("s3://b/k"), []) == KeyParts("intern", command="s3://b/k")
    found = parts_of(Extern("s3://b/k", Val(ONE)), [ONE])
    assert (found.command, found.inputs) == ("s3://b/k", (content_id(ONE),))
    assert [change.title for change in differences(found, found._replace(command="s3://b/l"))] == ["url"]


def test_without_values_inputs_go_by_their_logical_digests() -> None:
    upstream = output(an_exec("up"))
    assert parts_of(an_exec("a", upstream), None).inputs == (digest(upstream),)


def test_nothing_differs_between_equal_parts() -> None:
    assert differences(parts(), parts()) == []
    assert distance(parts(), parts()) == (0, 0)


def test_a_command_is_shown_as_a_diff_with_names() -> None:
    now, then = parts(command="a\nsort -u %s > %s"), parts(command="a\nsort %s > %s")
    (change,) = differences(now, then)
    assert change.part == "command"
    shown = [line for line in change.lines if line[0] != " "]
    assert shown == ["- sort {{in0}} > {{out}} %s %s", "+ sort -u {{in0}} > {{out}} %s %s"]


def test_an_image_is_a_part() -> None:
    (change,) = differences(parts(image="ubuntu:22.04"), parts())
    assert change == Change("image", lines=("- ubuntu", "+ ubuntu:22.04"))


def test_an_input_names_the_files_that_differ() -> None:
    (change,) = differences(parts(value=TWO), parts(value=ONE))
    assert change.title == "input {{in0}}"
    now, then = LISTS[content_id(TWO)][0], LISTS[content_id(ONE)][0]
    assert change.files == (FileChange(now, then),)
    assert str(now) == Digest.of(b"two").short


def test_only_files_that_differ_are_listed_by_path() -> None:
    before = fileset(a="1", b="2", c="3")
    after = fileset(a="1", b="x", d="4")
    lists = {content_id(each): file_rows(each) for each in (before, after)}
    (change,) = compare(parts(value=after), parts(value=before), lists.get)
    paths = [(file.now and file.now.path, file.then and file.then.path) for file in change.files]
    assert paths == [("b", "b"), (None, "c"), ("d", None)]


def test_members_of_lists_are_below_their_index() -> None:
    rows = file_rows(Fileset(members=[ONE, fileset(x="1", y="2")]))
    assert [row.path for row in rows] == ["[0]", "[1]/x", "[1]/y"]


def test_references_are_shown_by_where_they_are() -> None:
    (row,) = file_rows(Fileset.of_file(File(size=7, source="s3://b/k", etag='"e"')))
    assert row == FileRow(".", 's3://b/k "e"', 7)
    assert row.is_reference
    assert str(row) == 's3://b/k "e"'


def test_files_that_are_not_recorded_are_said_to_be() -> None:
    (change,) = compare(parts(value=TWO), parts(value=ONE), lambda name: None)
    assert change.lines == ("its files are not recorded",)


def test_inputs_that_come_and_go_are_told_by_name() -> None:
    both = parts_of(an_exec("a", Val(ONE), Val(TWO), cmd="x"), [ONE, TWO])
    one = parts_of(an_exec("a", Val(ONE), cmd="x"), [ONE])
    titles = [(change.title, change.lines) for change in differences(both, one)]
    assert titles[-1] == ("input {{in1}}", ("it is new",))
    titles = [(change.title, change.lines) for change in differences(one, both)]
    assert titles[-1] == ("input {{in1}}", ("it is not there any more",))


def test_the_order_of_arguments_is_a_part() -> None:
    now = parts()
    swapped = now._replace(arguments=("i0", "o1"))
    assert [change.part for change in differences(now, swapped)] == ["order of arguments"]


def test_the_fewest_parts_are_nearest_and_then_the_nearest_command() -> None:
    now = parts(command="sort -u %s > %s")
    assert distance(now, parts(command="sort -u %s > %s", value=TWO)) == (1, 0)
    near = distance(now, parts(command="sort %s > %s"))
    far = distance(now, parts(command="cut -f 1 %s > %s"))
    assert near[0] == far[0] == 1
    assert near < far
    assert distance(now, parts(command="x", image="y"))[0] == 2
