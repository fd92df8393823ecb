"""Asks with psycopg; prints what came as JSON."""
import json
import sys
import threading
from decimal import Decimal

import psycopg

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
    for binary in (False, True):
        cursor = connection.cursor(binary=binary)
        arrays = {}
        placeholder = "%b" if binary else "%t"
        channels = ["#en.wikipedia", "#de.wikipedia", 'no, "such" {one}']
        cursor.execute(f"SELECT count(*) FROM hourly WHERE channel = ANY({placeholder})", [channels])
        arrays["channels"] = list(cursor.fetchone())
        cursor.execute(
            f"SELECT count(*) FROM hourly WHERE channel <> ALL({placeholder}) AND edits = ANY({placeholder}) AND average = ANY({placeholder})",
            [[], [-1, 2**40], [0.25, None]],
        )
        arrays["none"] = cursor.fetchone()[0]
        cursor.execute(
            "SELECT make_array(1::int, 2::int, NULL::int) AS a, make_array(3) AS b, make_array('a,b', 'c\"d', '', NULL) AS c,"
            " make_array(0.5::double) AS d, make_array(TIMESTAMP '2026-11-21') AS e, make_array(true, NULL) AS f,"
            " make_array(1.5::decimal(5, 2)) AS g, make_array(DATE '2026-11-21') AS h, %s::text[] AS i",
            [[]],
        )
        row = cursor.fetchone()
        plain = lambda value: value if value is None or isinstance(value, (int, float, str)) else str(value)
        arrays["types"] = [
            [column.type_code, str([plain(value) for value in cell])] for column, cell in zip(cursor.description, row)
        ]
        found["arrays_binary" if binary else "arrays_text"] = arrays
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pages WHERE page IN (%s, %s)", ("Main Page", "Nothing at all"))
        found["in_list"] = cursor.fetchone()[0]
    with connection.transaction():
        found["in_transaction"] = connection.execute("SELECT count(*) FROM pages").fetchone()[0]
    for sql in ("SELECT nothing FROM totals", "SELECT * FROM nowhere", "SELECT edits FROM totals WHERE", "SELEC 1", "UPDATE totals SET edits = 0"):
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
print(json.dumps(found))
