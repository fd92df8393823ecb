"""Asks over ADBC's Flight SQL driver; prints what came as JSON."""
import json
import sys

import adbc_driver_flightsql.dbapi as flight_sql

port, at_least = sys.argv[1:3]
header = "adbc.flight.sql.rpc.call_header.anabranch-"
found = {}
with flight_sql.connect(
    f"grpc://127.0.0.1:{port}",
    db_kwargs={header + "require": "exact", header + "at-least": at_least},
    autocommit=True,
) as connection:
    with connection.cursor() as cursor:
        cursor.execute("SELECT edits, added, editors FROM totals")
        found["totals"] = [int(value) for value in cursor.fetchone()]
        hours = []
        for channel in ("#en.wikipedia", "#de.wikipedia"):
            cursor.execute(
                "SELECT channel, hour, edits, average FROM hourly WHERE channel = $1 AND edits >= $2 ORDER BY hour",
                (channel, 10),
            )
            hours += [
                [row["channel"], row["hour"].isoformat(), row["edits"], row["average"]]
                for row in cursor.fetch_arrow_table().to_pylist()
            ]
        found["hours"] = hours
        cursor.execute("SELECT count(*) FROM hourly WHERE channel = ANY($1)", (["#en.wikipedia", "#de.wikipedia"],))
        found["channels"] = list(cursor.fetchone())
        # A large answer, read in portions.
        cursor.execute("SELECT a.page, b.edits FROM pages a CROSS JOIN (SELECT edits FROM pages LIMIT 20) b")
        found["large"] = sum(batch.num_rows for batch in cursor.fetch_record_batch())
        cursor.execute("SELECT view, served_through, exact FROM anabranch.coverage WHERE view = 'totals'")
        found["covered"] = sum(row["served_through"] for row in cursor.fetch_arrow_table().to_pylist())
        for sql in ("SELECT nothing FROM totals", "SELECT * FROM nowhere", "SELEC 1"):
            try:
                cursor.execute(sql)
                cursor.fetchall()
            except flight_sql.Error as error:
                found.setdefault("errors", []).append(error.status_code.name)
    objects = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
    found["tables"] = sorted(
        (schema["db_schema_name"], table["table_name"], table["table_type"])
        for catalog in objects for schema in catalog["catalog_db_schemas"] for table in schema["db_schema_tables"]
    )
    schema = connection.adbc_get_table_schema("totals", db_schema_filter="public")
    found["columns"] = [[field.name, str(field.type)] for field in schema]
    found["server"] = connection.adbc_get_info()["vendor_name"]
print(json.dumps(found))
