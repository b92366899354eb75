"""Fire and forget, but all are done when the program ends."""

import asyncio
import gc


async def log(text):
    await asyncio.sleep(0)
    print(text)


async def main():
    for text in "abc":
        asyncio.create_task(log(text))
    gc.collect()
    await asyncio.sleep(0.05)


asyncio.run(main())
