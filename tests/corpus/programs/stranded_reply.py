"""Replies are dropped when the connection is lost: nobody can complete the request's future any more.

Like: https://github.com/modelcontextprotocol/python-sdk/issues/332
"""

import asyncio

waiting, requests = {}, []


async def request(key):
    waiting[key] = asyncio.get_running_loop().create_future()
    return await waiting[key]


def connection_lost():
    waiting.clear()


async def main():
    requests.append(asyncio.create_task(request("a")))  # leak: stranded asyncio.task
    await asyncio.sleep(0)
    connection_lost()
    await asyncio.wait(requests, timeout=0.05)
    print("answered:", requests[0].done())


asyncio.run(main())
