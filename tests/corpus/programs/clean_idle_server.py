"""A server at rest: nobody comes for much longer than the threshold.

Options: --stalled-after 0.3
"""

import asyncio


async def handle(reader, writer):
    writer.close()


async def main():
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        await asyncio.sleep(1.2)
    print("end")


asyncio.run(main())
