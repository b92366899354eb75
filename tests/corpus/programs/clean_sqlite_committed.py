"""A connection that stays open to the end, with nothing in it that is not committed; and one that rolls back on purpose."""

import sqlite3

database = sqlite3.connect("app.db")
with database:
    database.execute("create table words (word)")
database.execute("insert into words values ('one')")
database.commit()
other = sqlite3.connect("app.db")
other.execute("delete from words")
other.rollback()
print(database.execute("select count(*) from words").fetchone())
