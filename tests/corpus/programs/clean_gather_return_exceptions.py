"""``gather`` hands out the exceptions as results."""

import asyncio


async def fail(number):
    raise ValueError(number)


async def main():
    print(await asyncio.gather(*(fail(number) for number in range(3)), return_exceptions=True))


asyncio.run(main())
