from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostwatch.bus.subjects import resources_subject
from hostwatch.model.server import Organization, ServerId, ServerKey

_LABEL = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
_NAME = st.lists(_LABEL, min_size=1, max_size=3).map(".".join)


def _key(organization: str, namespace: str, name: str) -> ServerKey:
    return ServerKey(
        id=ServerId("u"),
        namespace=namespace,
        name=name,
        organization=Organization(organization),
    )


_KEYS = st.builds(_key, _LABEL, _LABEL, _NAME)


def test_a_subject_names_organization_namespace_and_server():
    subject = resources_subject(_key("acme", "acme-prod", "web-1"))

    assert subject == "hostwatch.acme.resources.acme-prod.web-1"


def test_a_dot_in_a_name_stays_inside_its_token():
    subject = resources_subject(_key("acme", "prod", "web.1.example"))

    assert subject == "hostwatch.acme.resources.prod.web_1_example"


@given(_KEYS, _KEYS)
def test_two_servers_share_no_subject(one: ServerKey, other: ServerKey):
    same = (one.organization, one.namespace, one.name) == (
        other.organization,
        other.namespace,
        other.name,
    )

    assert (resources_subject(one) == resources_subject(other)) is same


@given(_KEYS)
def test_a_subject_is_five_plain_tokens(key: ServerKey):
    tokens = resources_subject(key).split(".")

    assert len(tokens) == 5
    assert set("".join(tokens)) <= set(string.ascii_lowercase + string.digits + "-_")
    assert "" not in tokens


@given(st.text(), st.sampled_from(["organization", "namespace", "name"]))
def test_any_text_is_refused_or_one_token(text: str, place: str):
    parts = {"organization": "o", "namespace": "n", "name": "s", place: text}
    try:
        subject = resources_subject(_key(**parts))
    except ValueError:
        return
    assert subject.count(".") == 4
    assert not set(subject) & set("*> \t\r\n\0")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "*",
            ">",
            "a.*",
            "a b",
            "A",
            "a_b",
            "-a",
            "a-",
            ".a",
            "a\n",
            "ä",
            "a" * 300,
        )
    ],
)
@pytest.mark.parametrize("place", ["organization", "namespace", "name"])
def test_what_is_no_name_is_refused(text: str, place: str):
    parts = {"organization": "o", "namespace": "n", "name": "s", place: text}

    with pytest.raises(
        ValueError, match=f"{place} .* cannot be part of a NATS subject"
    ):
        resources_subject(_key(**parts))


def test_an_organization_with_a_dot_is_refused():
    with pytest.raises(ValueError, match=r"organization 'acme\.eu'"):
        resources_subject(_key("acme.eu", "n", "s"))
