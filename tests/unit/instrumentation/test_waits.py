"""What is read from a waiting task: its frames, who waits for it, which timers will end it, how its connection does."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from leakagent.instrumentation.waits import Wait, ended_by_timers, is_main, peer_times, stands_for_another, waiting_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

kept: list[Any] = []


async def pending() -> None:
    kept.append(asyncio.get_running_loop().create_future())
    await kept[-1]


async def through_a_generator() -> None:
    async def generator() -> Any:
        await pending()
        yield

    async for _ in generator():
        pass


async def cleans_up() -> None:
    try:
        await asyncio.sleep(1000)
    finally:
        await pending()


def in_a_loop(look: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await look()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    asyncio.run(main())


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_await_chain() -> None:
    async def look() -> None:
        task = asyncio.ensure_future(through_a_generator())
        await settled()
        assert [function for _, _, function in Wait(task).lines()] == ["through_a_generator", "generator", "pending"]
        assert [path for path, _, _ in Wait(task).lines()] == [__file__] * 3

    in_a_loop(look)


def test_whether_it_is_being_cancelled() -> None:
    async def look() -> None:
        task, other = asyncio.ensure_future(cleans_up()), asyncio.ensure_future(pending())
        await settled()
        assert not Wait(task).is_being_cancelled()
        task.cancel()
        await settled()
        assert Wait(task).is_being_cancelled()
        assert not Wait(other).is_being_cancelled()

    in_a_loop(look)


async def directly(task: Any) -> None:
    await task


async def gathered(task: Any) -> None:
    await asyncio.gather(task, asyncio.sleep(1000))


async def shielded(task: Any) -> None:
    await asyncio.shield(task)


async def waited(task: Any) -> None:
    await asyncio.wait({task})


async def limited(task: Any) -> None:
    await asyncio.wait_for(task, 1000)


@pytest.mark.parametrize("how", [directly, gathered, shielded, waited, limited])
def test_who_waits_for_a_task(how: Callable[[Any], Any]) -> None:
    async def look() -> None:
        task, other = asyncio.ensure_future(pending()), asyncio.ensure_future(pending())
        waiter, nobody = asyncio.ensure_future(how(task)), asyncio.ensure_future(how(other))
        await settled()
        assert waiter in waiting_for(task)
        assert nobody not in waiting_for(task)
        assert not [one for one in waiting_for(waiter) if isinstance(one, asyncio.Task)]
        ended = ended_by_timers([asyncio.get_running_loop()])
        assert ended is not None
        assert any(id(one) in ended for one in (task, *waiting_for(task))) is (how is limited)

    in_a_loop(look)


def test_timers() -> None:
    async def look() -> None:
        loop = asyncio.get_running_loop()
        sleeps, waits, limits = (
            asyncio.ensure_future(one) for one in (asyncio.sleep(1000), pending(), asyncio.wait_for(pending(), 1000))
        )
        await settled()
        ended = ended_by_timers([loop])
        assert ended is not None
        assert id(sleeps._fut_waiter) in ended
        assert not {id(waits), id(waits._fut_waiter)} & ended
        assert any(id(one) in ended for one in (limits, limits._fut_waiter, *waiting_for(limits._fut_waiter)))
        timer = loop.call_later(1000, kept[0].cancel)
        assert id(kept[0]) in (ended_by_timers([loop]) or ())
        timer.cancel()
        assert id(kept[0]) not in (ended_by_timers([loop]) or ())

    kept.clear()
    in_a_loop(look)


def test_more_timers_than_can_be_looked_at() -> None:
    async def look() -> None:
        timers = [asyncio.get_running_loop().call_later(1000, print) for _ in range(3000)]
        assert ended_by_timers([asyncio.get_running_loop()]) is None
        for timer in timers:
            timer.cancel()

    in_a_loop(look)


def test_futures_that_stand_for_something_else() -> None:
    async def look() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(pending())
        shield = asyncio.shield(task)
        go_on = threading.Event()
        job = loop.run_in_executor(None, go_on.wait, 60)
        assert (stands_for_another(shield), stands_for_another(job)) == (True, True)
        assert (stands_for_another(loop.create_future()), stands_for_another(task)) == (False, False)
        go_on.set()
        assert await job
        shield.cancel()

    in_a_loop(look)


def test_the_task_that_the_loop_runs_for() -> None:
    async def main() -> None:
        assert is_main(asyncio.current_task())
        assert not is_main(asyncio.ensure_future(asyncio.sleep(0)))

    asyncio.run(main())


def test_what_the_kernel_tells_of_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            assert peer_times(client) is None, "nothing was sent"
            client.sendall(b"question")
            assert accepted.recv(100) == b"question"
            times = peer_times(client)
            assert times is not None
            assert times[1] is None, "nothing came back"
            accepted.sendall(b"answer")
            assert client.recv(100) == b"answer"
            times = peer_times(client)
            assert times is not None
            assert times[1] is not None
            assert times[0] >= times[1] - 1
            assert peer_times(accepted) is None, "it was accepted here"
    one, other = socket.socketpair()
    with one, other:
        assert peer_times(one) is None


def test_the_connection_of_a_stream() -> None:
    async def look() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            task = asyncio.ensure_future(reader.read(1))
            none = asyncio.ensure_future(pending())
            await settled()
            assert Wait(task).connection() is writer.transport
            assert Wait(none).connection() is None
            task.cancel()
            writer.close()

    in_a_loop(look)
