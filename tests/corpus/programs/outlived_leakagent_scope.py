"""A scope around one import tells what the import left behind.

Like: https://github.com/bolna-ai/bolna/pull/573
"""

import asyncio

import leakagent

kept = []


async def import_file():
    kept.append(asyncio.create_task(asyncio.sleep(0.3)))  # leak: outlived_scope asyncio.task


async def main():
    async with leakagent.scope("import of one file"):
        await import_file()
    await asyncio.gather(*kept)


asyncio.run(main())
