"""``asyncio.wait`` for the first answer; the slower requests are left running.

Like: https://github.com/python-websockets/websockets/issues/142
"""

import asyncio


async def ask(server, seconds):
    await asyncio.sleep(seconds)
    return server


async def main():
    requests = [asyncio.create_task(ask(number, number * 30 + 0.01)) for number in range(3)]  # leak: outlived_scope asyncio.task
    done, pending = await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
    print(len(done), len(pending))


asyncio.run(main())
