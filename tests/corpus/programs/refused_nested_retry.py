"""A retry helper catches everything, so cancelling it only counts as one more failed try.

Like: https://github.com/langflow-ai/langflow/pull/6625
Options: --grace 0.5
"""

import asyncio


async def call():
    await asyncio.sleep(3600)


async def retry(function):
    while True:
        try:
            return await function()
        except BaseException:
            await asyncio.sleep(0.01)


async def main():
    kept = asyncio.create_task(retry(call))  # leak: refused_cleanup asyncio.task
    await asyncio.sleep(0.02)
    print(kept.done())


asyncio.run(main())
