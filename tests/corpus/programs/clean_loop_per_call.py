"""A library helper runs a loop of its own for each call."""

import asyncio


async def call(number):
    await asyncio.sleep(0)
    return number


print([asyncio.run(call(number)) for number in range(5)])
