"""A handler waits for a reply that only the same handler could receive.

Like: https://github.com/shizmob/pydle/pull/112
"""

import asyncio

handlers = []


class Connection:
    def __init__(self):
        self.pending = {}

    async def whois(self, name):
        self.pending[name] = asyncio.get_running_loop().create_future()
        return await self.pending[name]

    async def handle_forever(self):
        print(await self.whois("somebody"))
        self.pending.pop("somebody").set_result("data")


async def main():
    handlers.append(asyncio.create_task(Connection().handle_forever()))  # leak: stranded asyncio.task
    await asyncio.wait(handlers, timeout=0.05)


asyncio.run(main())
