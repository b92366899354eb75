"""A keep-alive connection is silent for longer than the threshold, between two answers.

Options: --stalled-after 0.3
"""

import asyncio


async def handle(reader, writer):
    while line := await reader.readline():
        writer.write(line)
    writer.close()


async def main():
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for _ in range(2):
        writer.write(b"ping\n")
        print(await reader.readline())
        await asyncio.sleep(0.7)
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.05)


asyncio.run(main())
