from __future__ import annotations

from reflow.core.digest import Digest
from reflow.eval.cell import When
from reflow.eval.dot import dot_text
from reflow.eval.worklist import WorkList
from reflow.flow.digest import digest
from reflow.flow.node import Extern, Flow, Intern, K, Merge, Val
from tests.fakes import a_value, an_exec, output, then

RUN = Digest.of(b"run")


def evaluated(root: Flow) -> str:
    work = WorkList(When.NEVER, lambda node: True, lambda level, text: None)
    work.demand(root)
    while work.ready:
        work.step(100)
    return dot_text(RUN, root, work.continued())


def test_nodes_and_edges_in_the_layout_of_the_original() -> None:
    low = an_exec("main.a")
    root = output(low)
    a, r = digest(low).short, digest(root).short
    nodes = {a: f'"{a}-exec-main.a" [\nfillcolor=green\nstyle=filled\n];', r: f'"{r}-coerce-";'}
    assert evaluated(root) == "\n".join(
        [
            f'strict digraph "reflow flowgraph {RUN}" {{',
            "// Node definitions.",
            *(nodes[name] for name in sorted(nodes)),
            "",
            "// Edge definitions.",
            f'"{r}-coerce-" -> "{a}-exec-main.a" [dynamic=false];',
            "}",
        ]
    )


def test_what_a_continuation_returned_is_dynamic_and_has_its_digest() -> None:
    inner = Extern("s3://b/" + "k" * 70, an_exec("low"), ident="copy")
    root = then(a_value(1), fn=lambda values: inner, ident="k")
    text = evaluated(root)
    name = f"{digest(root).short}-extern-copy-s3://b/{'k' * 23}...{'k' * 30}"
    assert f'"{name}" [\nfillcolor=green\nstyle=filled\n];' in text
    assert f'"{name}" -> "{digest(inner.deps[0]).short}-exec-low" [\ndynamic=true\ncolor=blue\n];' in text
    assert f'"{name}" -> "{digest(root.deps[0]).short}-val-" [dynamic=false];' in text


def test_affected_nodes_mark_all_that_depend_on_them() -> None:
    marked = K(lambda values: Val(error=ValueError()), [Intern("s3://b/k")], Digest.of(b"k"), affected=True)
    above = an_exec("above", marked)
    beside = an_exec("beside")
    text = dot_text(RUN, Merge([above, beside]), {})
    assert f'"{digest(above).short}-exec-above-ExecDepIncorrectCacheKeyBug" [' in text
    assert "execdepincorrectcachekeybug=true\nfillcolor=red\nstyle=filled" in text
    assert f'"{digest(beside).short}-exec-beside" [\nfillcolor=green' in text


def test_a_lone_node_is_not_shown() -> None:
    text = dot_text(RUN, a_value(1), {})
    assert text.splitlines()[1:] == ["// Node definitions.", "", "// Edge definitions.", "}"]
