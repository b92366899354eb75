"""A done callback reads the result of a task that was cancelled by nobody and failed: the callback's own task is dropped.

Like: https://github.com/matrix-org/synapse/pull/3927
"""

import asyncio


async def store(document):
    if document == "bad":
        raise OSError("disk full")
    return document


async def main():
    tasks = []
    for document in ("good", "bad"):
        tasks.append(asyncio.ensure_future(store(document)))  # leak: unretrieved_exception asyncio.task
    await asyncio.wait(tasks)
    print(sum(task.done() for task in tasks))


asyncio.run(main())
