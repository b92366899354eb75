"""A heartbeat runs on when its session is closed, until the loop ends.

Like: https://github.com/micro-fan/aiozk/pull/46
"""

import asyncio


class Session:
    def start(self):
        self.heartbeat = asyncio.create_task(self._beat())  # leak: outlived_scope asyncio.task

    async def _beat(self):
        while True:
            await asyncio.sleep(0.01)

    def close(self):
        print("closed")


async def main():
    session = Session()
    session.start()
    await asyncio.sleep(0.05)
    session.close()


asyncio.run(main())
