"""An asynchronous connection is dropped open.

Like: https://github.com/lancedb/lancedb/issues/3983
Needs: lancedb
"""

import asyncio

import lancedb


async def main():
    connection = await lancedb.connect_async("lance")  # leak: not_closed lancedb.connection
    await connection.create_table("words", [{"vector": [1.0, 0.0], "word": "a"}])
    print(await connection.table_names())


asyncio.run(main())
