"""One engine for the whole program, and a session for each request.

Needs: sqlalchemy
"""

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

engine = create_engine("sqlite:///app.db")


def request(number):
    with Session(engine) as session:
        return session.execute(text("select :number"), {"number": number}).scalar()


with ThreadPoolExecutor(4) as pool:
    print(sum(pool.map(request, range(20))))
