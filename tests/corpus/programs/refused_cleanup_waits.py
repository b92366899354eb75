"""The ``finally`` of a task waits for an answer that does not come.

Like: https://github.com/IBM/mcp-context-forge/pull/2941
Options: --grace 0.5
"""

import asyncio

unsubscribed = None


async def listen():
    global unsubscribed
    unsubscribed = asyncio.Event()
    try:
        await asyncio.sleep(3600)
    finally:
        await unsubscribed.wait()


async def main():
    task = asyncio.create_task(listen())  # leak: refused_cleanup asyncio.task
    await asyncio.sleep(0.02)
    print(task.done())


asyncio.run(main())
