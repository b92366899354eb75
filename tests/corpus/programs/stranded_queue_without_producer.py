"""The producer has ended, and took the only other reference to the queue with it.

Like: https://github.com/alexgolec/schwab-py/issues/237
"""

import asyncio

consumers = []


async def consume(queue):
    while (item := await queue.get()) is not None:
        print(item)


async def produce(queue):
    for number in range(2):
        queue.put_nowait(number)


async def main():
    queue = asyncio.Queue()
    consumers.append(asyncio.create_task(consume(queue)))  # leak: stranded asyncio.task
    await produce(queue)
    del queue
    await asyncio.wait(consumers, timeout=0.05)


asyncio.run(main())
