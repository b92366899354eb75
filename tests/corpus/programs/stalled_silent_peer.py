"""A request waits for a server that has accepted it and does not answer.

Like: https://github.com/alexgolec/schwab-py/issues/237
Options: --stalled-after 0.4 --grace 1
Signal: SIGTERM after no progress
"""

import asyncio
import socket


async def request(address):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"question\n")
    return await reader.readline()


async def main(address):
    print(await asyncio.gather(request(address)))  # leak: stalled asyncio.task


with socket.create_server(("127.0.0.1", 0)) as server:
    asyncio.run(main(server.getsockname()))
