"""A cache keeps done tasks as its values: each is awaited by whoever asks."""

import asyncio

cache = {}


async def load(key):
    await asyncio.sleep(0.01)
    return key.upper()


async def get(key):
    if key not in cache:
        cache[key] = asyncio.create_task(load(key))
    return await cache[key]


async def main():
    print(await asyncio.gather(*(get(key) for key in "aabbc")))


asyncio.run(main())
