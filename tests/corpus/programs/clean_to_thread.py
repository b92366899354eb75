"""The default executor of a loop, which ``asyncio.run`` shuts down."""

import asyncio


async def main():
    print(await asyncio.gather(*(asyncio.to_thread(len, "a" * number) for number in range(5))))


asyncio.run(main())
