import pytest

from reflow.core.assertion import AssertionConflictError, AssertionKey, Assertions, merge_assertions
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset


def named(text: str) -> File:
    return File(Digest.of_text(text), len(text))


def blob(subject: str, **properties: str) -> Assertions:
    return Assertions({AssertionKey("blob", subject): properties})


def test_digest_of_a_list_is_the_originals() -> None:
    left = Fileset({name: named(name) for name in ("foo", "bar")})
    right = Fileset({name: named(name) for name in ("a/b/c", "bar")})
    want = "d60e67ce9e89548b502a5ad7968e99caed0d388f0a991b906f41a7ba65adb31f"
    assert Fileset(members=[left, right]).digest.hex() == want


@pytest.mark.parametrize(
    ("file", "want"),
    [
        (File(), "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc"),
        (
            File(size=10, source="s3://bucket/key", etag='"etag1"'),
            "3500d7d7e4bb63e9ae6d6b316c3f1d6da138fea3b08c4e4e643ceb3d333f8039",
        ),
        (
            File(
                size=10,
                source="s3://bucket/key",
                etag='"etag1"',
                assertions=blob("s3://bucket/key", etag='"etag1"', size="10"),
            ),
            "2d784dc4834e012616b4233eb925d58f3aad46c414603885f59cee26cbb1c2ce",
        ),
    ],
)
def test_digest_of_a_reference_is_the_originals(file: File, want: str) -> None:
    assert file.digest.hex() == want


def test_assertions_digest_is_the_originals() -> None:
    both = Assertions(
        {
            AssertionKey("blob", "s3://bucket/hello"): {"etag": "v1"},
            AssertionKey("docker", "ubuntu"): {"version": "v2"},
        }
    )
    assert both.digest.hex() == "91ff89b8a50fc7e2d35311f6a1bb1e2d9be9d2aab4c62795588dc951b33321e8"
    assert Assertions().digest == Digest.of(b"")


def test_merging_assertions_finds_conflicts() -> None:
    one, two = blob("s3://b/k", etag="a"), blob("s3://b/k", etag="b")
    assert merge_assertions([one, one]) is one
    assert len(merge_assertions([one, blob("s3://b/l", etag="a")]).entries) == 2
    with pytest.raises(AssertionConflictError, match=r"conflict for \{s3://b/k blob\}: etag \(a -> b\)"):
        merge_assertions([one, two])


def test_files_compare_as_in_the_original() -> None:
    content = Digest.of_text("x")
    assert File(content, 1) == File(content, 2, assertions=blob("s", etag="e"))
    reference = File(size=1, source="s3://b/k", etag="e")
    assert reference == File(size=1, source="s3://b/k", etag="e", content_hash=content)
    assert reference != File(size=1, source="s3://b/k", etag="")
    assert File(size=1, source="s3://b/k") != File(size=1, source="s3://b/k")


def test_lone_file() -> None:
    assert Fileset.of_file(named("a")).file() == named("a")
    with pytest.raises(ReflowError, match=r"contains 0 files \(!=1\)") as caught:
        Fileset().file()
    assert caught.value.kind is Kind.PRECONDITION


def test_pullup_and_flatten() -> None:
    first, second = Fileset({"a": named("1"), "b": named("2")}), Fileset({"a": named("3")})
    both = Fileset(members=[first, second])
    assert both.flatten() == (first, second)
    assert first.flatten() == (first,)
    assert both.pullup() == Fileset({"a": named("3"), "b": named("2")})
    assert (both.count(), both.size()) == (3, 3)


def test_emptiness() -> None:
    assert Fileset(members=[Fileset()]).is_empty()
    assert Fileset(members=[Fileset(), Fileset.of_file(named("a"))]).any_empty()
    assert not Fileset.of_file(named("a")).any_empty()


def test_paths_are_ordered_by_their_bytes() -> None:
    odd = b"\xff".decode("utf-8", "surrogateescape")
    paths = Fileset({name: named("x") for name in (odd, "\U0001f600", "z", "é")}).sorted_paths()
    assert paths == ["z", "é", "\U0001f600", odd]


@pytest.mark.parametrize(
    ("fileset", "text"),
    [
        (Fileset(), "val<>"),
        (Fileset.of_file(named("a")), "val<.=ca978112 1B>"),
        (Fileset({"x": named("a"), "y": named("b")}), "val<x=ca978112, ...2B>"),
        (Fileset(members=[Fileset.of_file(named("a"))]), "list<val<.=ca978112 1B> 1B>"),
    ],
)
def test_short_text(fileset: Fileset, text: str) -> None:
    assert fileset.short() == text
