"""Logical and physical digests against constants computed by the original (evaluation.md §10)."""

import pytest

from reflow.core.digest import Digest
from reflow.core.fileset import File, Fileset
from reflow.core.resources import Resources
from reflow.flow.digest import cache_keys, digest, image_command_id, physical_digest, set_universe
from reflow.flow.node import (
    ArgRef,
    Coerce,
    Collect,
    Data,
    Exec,
    Extern,
    Flow,
    Groupby,
    Intern,
    K,
    Kctx,
    Map,
    Merge,
    Pullup,
    Requires,
    Val,
    label,
)

TEST = Digest.of_text("test")
CMD = " cp %s %s "
IN0, OUT0, OUT1 = ArgRef(0, is_output=False), ArgRef(0, is_output=True), ArgRef(1, is_output=True)


def of_text(text: str) -> Digest:
    return Digest.of_text(text)


def lone() -> Val:
    return Val(Fileset.of_file(File(TEST)))


def copy(**more: object) -> Exec:
    return Exec("ubuntu", CMD, [lone()], argmap=[IN0, OUT0], **more)  # type: ignore[arg-type]


def coerce(dep: Flow, tag: str) -> Coerce:
    return Coerce(lambda value: value, dep, of_text(tag))


LOGICAL = {
    "empty val": (Val(Fileset()), "e9120b24a07272ed59e8e963d194c4e061701374a1bc658884219e02caab8306"),
    "val": (lone(), "674b66797547ff7a9518a53e94199580dfd9d9f9827d8865d9c1611dd7481ee7"),
    "exec": (copy(), "8dec3c157c3452311e080145c5f8c91cd6fc7c3b09b574fee762c2d66f91c9e7"),
    "coerce over exec": (
        coerce(copy(), "grail.com/reflow/syntax.Eval.coerceExecOutput"),
        "d8e460ec44666ed75cc4d41a46b961646e9c669266a2698cdb54f0323ebf7be4",
    ),
    "repeated exec": (
        copy(extra_digest=of_text("1")),
        "e430814dbb2f8d8500f1bd1b5d09d7cf2127c038900c01b7bcc363a14a620ed5",
    ),
    "two outputs": (
        Exec("ubuntu", "touch %s %s", argmap=[OUT0, OUT1]),
        "468f7493268965dd474606a1f09e1142bf6d59cee3cb086bb8826f259cb55fac",
    ),
    "intern": (
        Intern("s3://bucket/prefix/"),
        "e634abf666b76c02e4824f42be6a608b03acb1ab81c1de5a14589e2ebec05ee6",
    ),
    "dir coerce": (
        coerce(Intern("s3://bucket/prefix/"), "$dir.fs2dir"),
        "4495557c213a2c7273345804fd3292ca2d36b4a402c53f600d025e0b02092ad7",
    ),
    "data": (Data(b"hello"), "acc827676727adea9a1d393aa27f526fda834fc0afc9638ef6ea7f5ca81d7664"),
    "file coerce": (
        coerce(Data(b"hello"), "file.fs$file1"),
        "bd62027c6bd3190c682d08cb0fba623562e9bc6ceddec4c795da6fc5a1fe1d2d",
    ),
    "merge": (
        Merge([Val(Fileset()), Val(Fileset())]),
        "bc605a542fe3ce2940ac534e4fa9580a2f7a9cfd41c5818761d46b68297904f3",
    ),
    "pullup": (Pullup([lone()]), "9c0ac373319cd6bb07f3395ff1fbd5ba6ce295d6708b128bee82a553ea14ca1a"),
    "extern": (
        Extern("s3://bucket/out", lone()),
        "e1c95f1b56a2ee84737fe26094c09d6aadb06b6873a85281f5cfd3b46938f9de",
    ),
    "legacy chain": (
        Extern(
            "externurl",
            Map(
                lambda flow: Exec("image", "command", [flow]),
                Groupby("foo-(.*)", Collect(".*", "$0", Intern("internurl"))),
            ),
        ),
        "02751e46c573a31747a30b05c2b73b2eb556fb45fb4c0aaf88d170f4b5e6d4e7",
    ),
}


@pytest.mark.parametrize("name", LOGICAL)
def test_logical_digest_is_the_originals(name: str) -> None:
    flow, want = LOGICAL[name]
    assert digest(flow).hex() == want


def test_physical_digest_of_an_exec() -> None:
    values = [Fileset.of_file(File(TEST))]
    want = "af9a8b8e9794d5402c352f1f8c705b72aa50bf8fd7f1fbeade40979fbac2b93b"
    assert physical_digest(copy(), values, "ubuntu").hex() == want


def test_physical_digest_of_an_extern() -> None:
    extern = Extern("s3://bucket/out", lone())
    want = "637d073ee1c36aff434e043c91084545fb990761eb8cf366518bbd6cbbb7068c"
    assert physical_digest(extern, [Fileset.of_file(File(TEST))]).hex() == want


def test_keys_are_most_concrete_first() -> None:
    flow, values = copy(), [Fileset.of_file(File(TEST))]
    keys = cache_keys(flow, values, "index.docker.io/library/ubuntu@sha256:00")
    assert len(keys) == 3
    assert keys[1:] == [physical_digest(flow, values, "ubuntu"), digest(flow)]
    assert cache_keys(flow, values, "ubuntu") == keys[1:]
    assert cache_keys(flow, None) == [digest(flow)]


def test_image_and_command_have_a_name() -> None:
    want = "12a237eef5e9472fc33b6e430775d37b58997f195a5e6f853a08ad36b12b0893"
    assert image_command_id("ubuntu", CMD).hex() == want


def test_requirements_are_transparent() -> None:
    assert digest(Requires(copy(), Resources(cpu=4))) == digest(copy())


def test_nothing_about_resources_or_names_is_in_a_digest() -> None:
    other = copy(
        resources=Resources(mem=2**30),
        ident="a.b",
        pos="x:1:1",
        output_is_dir=[True],
        is_nondeterministic=True,
    )
    assert digest(other) == digest(copy())


def test_kctx_has_a_name_of_its_own() -> None:
    tag = of_text("tag")
    fn = lambda values: Val(Fileset())  # noqa: E731
    assert digest(K(fn, [], tag)).hex() == Digest.of(b"OpK" + tag.wire).hex()
    assert digest(Kctx(fn, [], tag)).hex() == Digest.of(b"Op(14)" + tag.wire).hex()


def test_errors_never_have_equal_digests() -> None:
    error = ValueError("no")
    assert digest(Val(error=error)) != digest(Val(error=error))


def test_tags_are_computed_once_and_only_when_asked() -> None:
    calls = []

    def tag() -> Digest:
        calls.append(1)
        return of_text("tag")

    flow = Coerce(lambda value: value, lone(), tag)
    assert not calls
    assert digest(flow) == digest(flow)
    assert flow.tag == of_text("tag")
    assert len(calls) == 1


def test_universe_changes_logical_digests_only() -> None:
    values = [Fileset.of_file(File(TEST))]
    plain = digest(copy())
    set_universe("elsewhere")
    try:
        assert digest(copy()) != plain
        assert digest(Requires(copy(), Resources(cpu=4))) != digest(copy())
        assert physical_digest(copy(), values, "ubuntu") == physical_digest(copy(), values, "ubuntu")
    finally:
        set_universe("")
    assert digest(copy()) == plain


def test_a_chain_of_100_000_nodes_and_a_lattice_of_depth_1000() -> None:
    flow: Flow = lone()
    for _ in range(100_000):
        flow = coerce(flow, "x")
    assert len(digest(flow)) == 32
    lattice: Flow = lone()
    for _ in range(1000):
        lattice = Merge([coerce(lattice, "l"), coerce(lattice, "r")])
    assert len(digest(lattice)) == 32


def test_label_stops_at_what_has_a_name() -> None:
    inner = Merge([lone()], "inner")
    outer = Merge([inner, Intern("s3://b/k")])
    label(outer, "outer")
    assert (outer.ident, inner.ident, outer.deps[1].ident, inner.deps[0].ident) == (
        "outer",
        "inner",
        "outer",
        "",
    )
