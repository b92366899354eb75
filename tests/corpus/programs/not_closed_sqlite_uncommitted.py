"""The last write of a script is an ``execute`` without a ``commit``: it is lost.

Like: https://github.com/simonw/sqlite-utils/issues/641
"""

import sqlite3

database = sqlite3.connect("listens.db")  # leak: not_closed sqlite3.connection
with database:
    database.execute("create table artists (name)")
database.execute("insert into artists values ('The Cabs')")
print(database.execute("select count(*) from artists").fetchone())
