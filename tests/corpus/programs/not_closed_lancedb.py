"""A connection is kept in a module and never closed.

Like: https://github.com/lancedb/lancedb/pull/1905
Needs: lancedb
"""

import lancedb

connection = lancedb.connect("lance")  # leak: not_closed lancedb.connection
table = connection.create_table("words", [{"vector": [1.0, 0.0], "word": "a"}])
print(table.count_rows())
