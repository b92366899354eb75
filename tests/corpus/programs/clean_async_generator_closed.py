"""An asynchronous generator that is left in the middle, and closed by the loop."""

import asyncio


async def numbers():
    for number in range(100):
        yield number
        await asyncio.sleep(0)


async def main():
    async for number in numbers():
        if number == 3:
            break
    print(number)


asyncio.run(main())
