"""Names of images."""

from __future__ import annotations

import pytest

from reflow.imagestore.name import parse_image

D = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag"),
    [
        ("ubuntu", "index.docker.io", "library/ubuntu", "latest"),
        ("ubuntu:22.04", "index.docker.io", "library/ubuntu", "22.04"),
        ("biocontainers/bwa:v0.7.15_cv3", "index.docker.io", "biocontainers/bwa", "v0.7.15_cv3"),
        ("docker.io/library/ubuntu", "index.docker.io", "library/ubuntu", "latest"),
        ("docker.io/ubuntu", "index.docker.io", "library/ubuntu", "latest"),
        (
            "quay.io/biocontainers/samtools:1.9--h8571acd_11",
            "quay.io",
            "biocontainers/samtools",
            "1.9--h8571acd_11",
        ),
        ("localhost:5000/x", "localhost:5000", "x", "latest"),
        ("1234.dkr.ecr.us-west-2.amazonaws.com/a/b", "1234.dkr.ecr.us-west-2.amazonaws.com", "a/b", "latest"),
    ],
)
def test_names_are_made_complete(text: str, registry: str, repository: str, tag: str) -> None:
    assert parse_image(text) == (registry, repository, tag, "")


@pytest.mark.parametrize("text", [f"ubuntu@{D}", f"ubuntu:22.04@{D}", f"index.docker.io/library/ubuntu@{D}"])
def test_a_digest_replaces_the_tag(text: str) -> None:
    name = parse_image(text)
    assert (name.tag, name.digest) == ("", D)
    assert name.resolved(name.digest) == f"index.docker.io/library/ubuntu@{D}"


@pytest.mark.parametrize("text", ["", "UPPER", "a b", "ubuntu:", "ubuntu@sha256:12", "a:b:c d", "ubuntu:-x"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="image"):
        parse_image(text)
