"""Asks with psycopg and SQLAlchemy; prints what came as JSON."""
import json
import sys
import threading
from decimal import Decimal

import psycopg
import sqlalchemy

port, at_least = sys.argv[1:3]
found = {}
with psycopg.connect(
    host="127.0.0.1", port=port, user="tester", dbname="anabranch", autocommit=True,
    options=f"-c anabranch.require=exact -c anabranch.at_least={at_least}",
) as connection:
    found["totals"] = [int(value) for value in connection.execute("SELECT edits, added, editors FROM totals").fetchone()]
    for binary in (False, True):
        cursor = connection.cursor(binary=binary)
        hours = []
        for channel in ("#en.wikipedia", "#de.wikipedia"):
            cursor.execute(
                "SELECT channel, hour, edits, average FROM hourly WHERE channel = %s AND edits >= %s ORDER BY hour",
                (channel, 10), prepare=True,
            )
            hours += [[row[0], row[1].isoformat(), row[2], row[3]] for row in cursor.fetchall()]
        found["hours_binary" if binary else "hours_text"] = hours
        row = cursor.execute(
            "SELECT %s::numeric + 1, %s::bool, make_array(1, NULL), DATE '2026-11-21', INTERVAL '1 day'",
            (Decimal("12345678901234567890.125"), True),
        ).fetchone()
        found["types_binary" if binary else "types_text"] = [str(value) for value in row]
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pages WHERE page IN (%s, %s)", ("Main Page", "Nothing at all"))
        found["in_list"] = cursor.fetchone()[0]
    with connection.transaction():
        found["in_transaction"] = connection.execute("SELECT count(*) FROM pages").fetchone()[0]
    for sql in ("SELECT nothing FROM totals", "SELECT * FROM nowhere", "SELECT edits FROM totals WHERE", "UPDATE totals SET edits = 0"):
        try:
            connection.execute(sql)
        except psycopg.Error as error:
            found.setdefault("errors", []).append([error.sqlstate, error.diag.statement_position])
    timer = threading.Timer(0.3, connection.cancel)
    timer.start()
    try:
        connection.execute("SELECT count(*) FROM pages a, pages b, pages c WHERE a.edits + b.edits > c.edits")
    except psycopg.errors.QueryCanceled as error:
        found["cancelled"] = error.sqlstate
    found["coverage"] = connection.execute(
        "SELECT sum(served_through), bool_and(exact) FROM anabranch.coverage WHERE view = 'totals'"
    ).fetchone()
    found["coverage"] = [int(found["coverage"][0]), found["coverage"][1]]
    found["tables"] = {}
    for table in ("views", "runs", "partitions", "workers", "dead_letters", "coverage"):
        found["tables"][table] = connection.execute(f"SELECT count(*) FROM anabranch.{table}").fetchone()[0]

engine = sqlalchemy.create_engine(f"postgresql+psycopg://tester@127.0.0.1:{port}/anabranch")
inspector = sqlalchemy.inspect(engine)
found["reflected_views"] = sorted(inspector.get_view_names())
with engine.connect() as connection:
    found["sqlalchemy"] = int(connection.execute(sqlalchemy.text("SELECT edits FROM totals")).scalar_one())
print(json.dumps(found))
