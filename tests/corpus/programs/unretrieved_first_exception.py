"""``gather`` raises the first of two exceptions; a task besides it fails unseen.

Like: https://github.com/python-websockets/websockets/issues/142
"""

import asyncio


async def fail(text):
    await asyncio.sleep(0)
    raise LookupError(text)


async def main():
    beside = asyncio.create_task(fail("beside"))  # leak: unretrieved_exception asyncio.task
    try:
        await asyncio.gather(fail("first"))
    except LookupError as error:
        print(error)
    await asyncio.sleep(0.01)
    del beside


asyncio.run(main())
