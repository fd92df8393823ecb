"""One connection of ADBC's Flight SQL driver: runs the SQL of each line of standard input, and prints what came of it as JSON."""
import json
import sys

import adbc_driver_flightsql.dbapi as flight_sql

HEADER = "adbc.flight.sql.rpc.call_header.anabranch-"
with flight_sql.connect(f"grpc://127.0.0.1:{sys.argv[1]}", autocommit=True) as connection:
    for line in sys.stdin:
        question = json.loads(line)
        headers = {HEADER + name: value for name, value in question.get("headers", {}).items()}
        # The driver adds values of a header to those it has; an empty one takes them away.
        connection.adbc_connection.set_options(**dict.fromkeys(headers, ""))
        connection.adbc_connection.set_options(**{name: value for name, value in headers.items() if value})
        try:
            with connection.cursor() as cursor:
                cursor.execute(question["sql"], question.get("parameters"))
                answer = {"rows": cursor.fetchall()}
        except flight_sql.Error as error:
            answer = {"error": error.status_code.name, "message": str(error)}
        print(json.dumps(answer, default=str))
