"""The object whose event would wake a task up is replaced by a new one on reconnect.

Like: https://github.com/xMistt/rebootpy/pull/33
"""

import asyncio


class Client:
    def __init__(self):
        self.ready = asyncio.Event()


client = Client()
tasks = set()


async def announce():
    await client.ready.wait()
    print("ready")


async def main():
    global client
    tasks.add(asyncio.create_task(announce()))  # leak: stranded asyncio.task
    await asyncio.sleep(0)
    client = Client()
    client.ready.set()
    await asyncio.wait(tasks, timeout=0.05)


asyncio.run(main())
