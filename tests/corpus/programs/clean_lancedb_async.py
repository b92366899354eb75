"""An asynchronous connection in a ``with`` block.

Needs: lancedb
"""

import asyncio

import lancedb


async def main():
    with await lancedb.connect_async("lance") as connection:
        await connection.create_table("words", [{"vector": [1.0, 0.0], "word": "a"}])
        print(await connection.table_names())


asyncio.run(main())
