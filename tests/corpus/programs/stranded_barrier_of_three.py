"""One of two workers waits for another that was never started.

Like: https://github.com/dewet22/givenergy-modbus/pull/54
"""

import asyncio

workers = []


class Gate:
    def __init__(self, number):
        self.missing = number
        self.open = asyncio.Event()

    async def wait(self):
        self.missing -= 1
        if not self.missing:
            self.open.set()
        await self.open.wait()


async def worker(gate):
    await gate.wait()


def start():
    gate = Gate(2)
    workers.append(asyncio.create_task(worker(gate)))  # leak: stranded asyncio.task


async def main():
    start()
    await asyncio.wait(workers, timeout=0.05)


asyncio.run(main())
