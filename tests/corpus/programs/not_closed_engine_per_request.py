"""An engine for each request: each has a pool of its own, which keeps its connection.

Like: https://github.com/milwil-2/climb-elo/issues/183
Needs: sqlalchemy
"""

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session


def request():
    with Session(create_engine("sqlite:///app.db")) as session:  # leak: not_closed sqlalchemy.engine
        return session.execute(text("select 1")).scalar()


print([request() for _ in range(4)])
