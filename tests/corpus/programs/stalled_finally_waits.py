"""A cancelled request waits in its ``finally`` for a write that makes no progress.

Like: https://github.com/HKUDS/nanobot/issues/5429
Options: --stalled-after 0.4 --grace 0.5
Signal: SIGTERM after no progress
"""

import asyncio
import socket


async def write_history(reader):
    await reader.readline()


async def answer(writing):
    try:
        await asyncio.sleep(3600)
    finally:
        await writing


async def main(address):
    reader, writer = await asyncio.open_connection(*address)
    writing = asyncio.create_task(write_history(reader))  # leak: stalled asyncio.task
    answering = asyncio.create_task(answer(writing))
    await asyncio.sleep(0)
    answering.cancel()
    await asyncio.wait({answering})


with socket.create_server(("127.0.0.1", 0)) as server:
    asyncio.run(main(server.getsockname()))
