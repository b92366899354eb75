"""Workers of a queue that are cancelled when it is empty, as the documentation shows it."""

import asyncio


async def worker(queue):
    while True:
        await queue.get()
        queue.task_done()


async def main():
    queue = asyncio.Queue()
    for number in range(20):
        queue.put_nowait(number)
    workers = [asyncio.create_task(worker(queue)) for _ in range(3)]
    await queue.join()
    for task in workers:
        task.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    print("done")


asyncio.run(main())
