"""Messages that wait, and the tasks that wait for one: who gets which, and when."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from trio_ws._connection.inbox import Inbox


async def test_messages_go_one_after_the_other_to_the_tasks_that_have_waited_longest() -> None:
    inbox = Inbox(None)
    got: list[tuple[str, str | bytes | None]] = []

    async def wait(name: str) -> None:
        got.append((name, await inbox.wait()))

    async with trio.open_nursery() as nursery:
        for name in ("first", "second", "third"):
            nursery.start_soon(wait, name)
            await wait_all_tasks_blocked()
        for message in ("1", "2", "3"):
            inbox.put(message)
        inbox.hand_over()  # not yet: trio might run the second task before the first
        assert list(inbox.messages) == ["2", "3"]
        assert not inbox.has_next
    assert got == [("first", "1"), ("second", "2"), ("third", "3")]
    assert inbox.size == 0


def test_an_inbox_that_is_empty_again_holds_no_more_memory_than_a_new_one() -> None:
    inbox = Inbox(None)
    inbox.keep("1")
    inbox.keep("2")
    assert [inbox.take(), inbox.take()] == ["1", "2"]
    assert inbox.messages is Inbox(None).messages
