"""A job is tracked until it ends; that it failed is never looked at.

Like: https://github.com/HKUDS/nanobot/issues/5429
"""

import asyncio

jobs = set()


async def summarise(text):
    raise ValueError(text)


def schedule(coroutine):
    task = asyncio.create_task(coroutine)  # leak: unretrieved_exception asyncio.task
    jobs.add(task)
    task.add_done_callback(jobs.discard)


async def main():
    schedule(summarise("no tokens left"))
    await asyncio.sleep(0.02)
    print(len(jobs))


asyncio.run(main())
