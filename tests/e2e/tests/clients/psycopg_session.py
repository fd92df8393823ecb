"""One connection of psycopg: runs the SQL of each line of standard input, and prints what came of it as JSON."""
import json
import sys

import psycopg

port, options = sys.argv[1:3]
with psycopg.connect(host="127.0.0.1", port=port, user="tester", dbname="anabranch", autocommit=True, options=options) as connection:
    warnings = []
    connection.add_notice_handler(lambda notice: warnings.append([notice.sqlstate, notice.message_primary]))
    for line in sys.stdin:
        question = json.loads(line)
        warnings.clear()
        try:
            cursor = connection.execute(
                question["sql"], question.get("parameters"), prepare=question.get("prepare"), binary=question.get("binary", False)
            )
            answer = {"rows": cursor.fetchall() if cursor.description else None}
        except psycopg.Error as error:
            answer = {"error": error.sqlstate, "message": error.diag.message_primary, "hint": error.diag.message_hint}
        print(json.dumps({**answer, "warnings": warnings}, default=str))
