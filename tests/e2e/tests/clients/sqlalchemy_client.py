"""Asks with SQLAlchemy, which looks first at what there is; prints what came as JSON."""
import json
import sys

import sqlalchemy
from sqlalchemy import MetaData, Table, func, select

port, at_least = sys.argv[1:3]
engine = sqlalchemy.create_engine(
    f"postgresql+psycopg://tester@127.0.0.1:{port}/anabranch",
    connect_args={"options": f"-c anabranch.require=exact -c anabranch.at_least={at_least}"},
)
inspector = sqlalchemy.inspect(engine)
found = {
    "views": sorted(inspector.get_view_names()),
    "schemas": sorted(inspector.get_schema_names()),
    "system_tables": sorted(inspector.get_table_names(schema="anabranch")),
    "columns": [
        [column["name"], str(column["type"]), column["nullable"]] for column in inspector.get_columns("hourly", schema="public")
    ],
    "keys": [
        inspector.get_pk_constraint("hourly")["constrained_columns"],
        inspector.get_foreign_keys("hourly"),
        inspector.get_indexes("hourly"),
        inspector.get_unique_constraints("hourly") + inspector.get_check_constraints("hourly"),
    ],
    "has": [inspector.has_table("hourly"), inspector.has_table("nothing_such")],
    "definition": inspector.get_view_definition("hourly"),
}
hourly = Table("hourly", MetaData(), autoload_with=engine)
metadata = MetaData()
metadata.reflect(bind=engine, views=True, only=["totals"])
totals = metadata.tables["totals"]
with engine.connect() as connection:
    rows = connection.execute(
        select(hourly.c.channel, hourly.c.hour, hourly.c.edits, hourly.c.average)
        .where(hourly.c.channel.in_(["#en.wikipedia", "#de.wikipedia"]), hourly.c.edits >= 10)
        .order_by(hourly.c.channel.desc(), hourly.c.hour)
    )
    found["hours"] = [[row.channel, row.hour.isoformat(), row.edits, row.average] for row in rows]
    found["aggregated"] = int(connection.execute(select(func.sum(hourly.c.edits))).scalar_one())
    assert found["aggregated"] == connection.execute(select(totals.c.edits)).scalar_one()
    try:
        connection.execute(select(sqlalchemy.text("*")).select_from(sqlalchemy.text("nothing_such")))
    except sqlalchemy.exc.ProgrammingError as error:
        found["unknown"] = error.orig.sqlstate
print(json.dumps(found))
