from __future__ import annotations

import asyncio
import threading

import pytest

from hostwatch.model.reason import CollectionError, Reason
from hostwatch.ssh.reader import Reader
from hostwatch.ssh.threads import Threads

UNFORESEEN = CollectionError(Reason.SECRET_INVALID, "the text cannot be read")


@pytest.fixture
def threads():
    made = Threads(2, each=1, name="read")
    yield made
    made.close()


class Texts:
    """Counts how often each text is read; its value is its length."""

    def __init__(self):
        self.read = []

    def value_of(self, text):
        self.read.append(text)
        if text == "bad":
            raise CollectionError(Reason.INVALID_SPEC, "bad text", reached=True)
        if text == "odd":
            raise AssertionError("a parser gave up on it")
        if text == "panic":
            raise BaseException("what a panic looks like")  # noqa: TRY002
        return len(text)


async def value(reader, texts, text, *, namespace="acme"):
    async with asyncio.timeout(20) as deadline:
        return await reader.read(
            text,
            lambda: texts.value_of(text),
            namespace=namespace,
            deadline=deadline,
            unforeseen=UNFORESEEN,
        )


async def test_a_text_is_read_once_however_many_ask(threads):
    reader, texts = Reader(threads, most=10), Texts()
    assert await asyncio.gather(*(value(reader, texts, "abc") for _ in range(20))) == (
        [3] * 20
    )
    assert await value(reader, texts, "abc", namespace="other") == 3
    assert texts.read == ["abc"]


async def test_what_was_not_asked_for_is_forgotten_first(threads):
    reader, texts = Reader(threads, most=2), Texts()
    for text in ("a", "bb", "a", "ccc", "a", "bb"):
        assert await value(reader, texts, text) == len(text)
    assert texts.read == ["a", "bb", "ccc", "bb"]


async def test_a_heavy_value_takes_the_room_of_many(threads):
    reader, texts = Reader(threads, most=6, weigh=int), Texts()
    for text in ("a", "bb", "ccc", "dddd", "ccc"):
        await value(reader, texts, text)
    assert texts.read == ["a", "bb", "ccc", "dddd", "ccc"]
    await value(reader, texts, "a-very-long-text")
    await value(reader, texts, "ccc")
    assert texts.read[-2:] == ["a-very-long-text", "ccc"]


async def test_a_failure_is_kept_and_raised_anew(threads):
    reader, texts = Reader(threads, most=10), Texts()
    raised = []
    for _ in range(2):
        with pytest.raises(CollectionError) as failed:
            await value(reader, texts, "bad")
        raised.append(failed.value)
    assert [(e.reason, e.detail) for e in raised] == [
        (Reason.INVALID_SPEC, "bad text")
    ] * 2
    assert raised[0] is not raised[1]
    assert texts.read == ["bad"]


@pytest.mark.parametrize("text", ["odd", "panic"])
async def test_an_error_that_nobody_foresaw_is_a_failure_with_a_reason(threads, text):
    reader, texts = Reader(threads, most=10), Texts()
    for _ in range(2):
        with pytest.raises(CollectionError) as failed:
            await value(reader, texts, text)
        assert failed.value.reason == Reason.SECRET_INVALID
        assert failed.value.detail == "the text cannot be read"
    assert texts.read == [text]


async def test_what_is_read_too_late_is_there_the_next_time(threads):
    reader, release, reads = Reader(threads, most=10), threading.Event(), []

    def slow():
        reads.append(1)
        release.wait(30)
        return "read"

    async def read(within):
        async with asyncio.timeout(within) as deadline:
            return await reader.read(
                "key", slow, namespace="a", deadline=deadline, unforeseen=UNFORESEEN
            )

    with pytest.raises(TimeoutError):
        await read(0.1)
    release.set()
    assert await read(20) == "read"
    assert reads == [1]


async def test_what_is_forgotten_is_read_anew(threads):
    reader, texts = Reader(threads, most=10), Texts()
    await value(reader, texts, "a")
    reader.forget()
    await value(reader, texts, "a")
    assert texts.read == ["a", "a"]
