"""Groups: who is a member, and what each member gets."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, assert_no_checkpoints

import trio_ws
from tests.connection.sides import end_of, one_side, two_sides
from trio_ws import BroadcastResult, Group, WebSocketStream


async def test_a_member_is_one_for_as_long_as_its_block_lasts(autojump_clock: MockClock) -> None:
    group = Group()
    async with two_sides() as (client, server):
        joining = group.join(server)
        assert (len(group), server in group) == (0, False)
        with assert_checkpoints():
            await joining.__aenter__()
        assert (len(group), server in group, list(group)) == (1, True, [server])
        with assert_no_checkpoints():
            assert group.broadcast("hello").sent == [server]
        assert await client.receive() == "hello"
        await joining.__aexit__(None, None, None)
        assert (len(group), server in group, list(group)) == (0, False, [])
        assert group.broadcast("hello") == BroadcastResult()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
async def test_a_block_that_is_left_by_an_error_ends_the_membership(error: type[BaseException]) -> None:
    group = Group()
    async with two_sides() as (_, server):
        with pytest.raises(error):
            async with group.join(server):
                raise error
        assert not list(group)


async def test_a_block_that_is_cancelled_ends_the_membership(autojump_clock: MockClock) -> None:
    group = Group()
    async with two_sides() as (_, server):
        with trio.move_on_after(1):
            async with group.join(server):
                assert server in group
                await trio.sleep_forever()
        assert server not in group


async def test_who_is_cancelled_before_the_block_has_not_joined() -> None:
    group = Group()
    async with two_sides() as (_, server):
        with trio.CancelScope() as scope:
            scope.cancel()
            async with group.join(server):
                raise AssertionError("the block began")
        assert server not in group


async def test_who_joins_twice_gets_each_message_once_until_both_blocks_are_left(autojump_clock: MockClock) -> None:
    group = Group()
    async with two_sides() as (client, server):
        async with group.join(server):
            async with group.join(server):
                assert len(group) == 1
                assert group.broadcast("once").sent == [server]
            assert group.broadcast("still").sent == [server]
        assert group.broadcast("no more").sent == []
        assert [await client.receive(), await client.receive()] == ["once", "still"]


async def test_the_excluded_get_nothing(autojump_clock: MockClock) -> None:
    group = Group()
    async with two_sides() as (client, server), two_sides() as (client_2, server_2):
        stream = WebSocketStream(server_2)
        async with group.join(server), group.join(stream):
            assert group.broadcast("to others", exclude=[server]) == BroadcastResult(sent=[stream])
            assert group.broadcast("to all") == BroadcastResult(sent=[server, stream])
            assert await client.receive() == "to all"
            assert [await client_2.receive(), await client_2.receive()] == ["to others", "to all"]


async def test_members_may_come_and_go_while_one_loops_over_them(autojump_clock: MockClock) -> None:
    group = Group()
    async with two_sides() as (client, server), group.join(server):
        for member in group:
            async with group.join(client):
                assert member is server
        assert list(group) == [server]


async def test_slow_members_are_closed_or_skipped_as_the_group_says(autojump_clock: MockClock) -> None:
    closing, skipping = Group(slow="close", max_buffered=100), Group(slow="skip", max_buffered=100)
    async with one_side(is_client=False) as (server, peer):
        end_of(peer).room = 0
        async with closing.join(server), skipping.join(server):
            assert skipping.broadcast("x" * 200).sent == [server]
            assert skipping.broadcast("y").skipped == [server]
            assert closing.broadcast("y").closed == [server]
            assert skipping.broadcast("y").gone == [server]


async def test_messages_are_checked_before_anything_is_sent(autojump_clock: MockClock) -> None:
    group = Group()
    async with two_sides() as (_, server), group.join(server):
        with pytest.raises(TypeError):
            group.broadcast(17)  # type: ignore[arg-type]
        with pytest.raises(UnicodeEncodeError):
            group.broadcast("\ud800")
        assert server.statistics().messages_sent == 0


async def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="slow='wait': it must be 'skip' or 'close'"):
        Group(slow="wait")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_buffered=-1"):
        Group(max_buffered=-1)
    with pytest.raises(TypeError, match="connection: 'ws' is no WebSocket"):
        async with Group().join("ws"):  # type: ignore[arg-type]
            raise AssertionError("the block began")


async def test_it_tells_its_size() -> None:
    group = trio_ws.Group()
    async with two_sides() as (_, server), group.join(server):
        assert repr(group) == "<Group of 1>"
