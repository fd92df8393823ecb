"""Asks with asyncpg, which takes the binary format for everything, and with psycopg2, which knows only the simple protocol;
prints what came as JSON."""
import asyncio
import datetime
import io
import json
import sys

import asyncpg
import psycopg2

port, at_least = sys.argv[1:3]
settings = {"anabranch.require": "exact", "anabranch.at_least": at_least}
begin = datetime.datetime(2015, 1, 1, tzinfo=datetime.timezone.utc)
CHANNELS = ["#en.wikipedia", "#de.wikipedia"]
HOURS = "SELECT channel, hour, edits, average FROM hourly WHERE channel = ANY({}) AND edits >= 10 ORDER BY channel DESC, hour"
found = {}


def hours(rows):
    return [[row[0], row[1].isoformat(), row[2], row[3]] for row in rows]


async def with_asyncpg():
    pool = await asyncpg.create_pool(
        host="127.0.0.1", port=port, user="tester", database="anabranch", min_size=1, max_size=1, server_settings=settings
    )
    found = {}
    async with pool.acquire() as connection:
        found["hours"] = hours(await connection.fetch(HOURS.format("$1") , CHANNELS))
        found["since"] = await connection.fetchval("SELECT sum(edits)::int8 FROM hourly WHERE hour >= $1 AND channel LIKE $2", begin, "#%")
        async with connection.transaction():
            found["pages"] = len([row async for row in connection.cursor("SELECT page, edits FROM pages", prefetch=1000)])
        copied = io.BytesIO()
        await connection.copy_from_query("SELECT edits, channel FROM edits_per_channel WHERE channel = $1", "#en.wikipedia", output=copied, format="csv", header=True)
        found["csv"] = copied.getvalue().decode()
        copied = io.BytesIO()
        await connection.copy_from_table("pages", output=copied, format="binary")
        found["binary"] = [copied.getvalue()[:11].hex(), copied.getvalue()[-2:].hex()]
        await connection.execute("SET application_name = 'changed'")
    # A connection goes back to the pool as it began.
    async with pool.acquire() as connection:
        found["application"] = await connection.fetchval("SELECT current_setting('application_name')")
        found["required"] = await connection.fetchval("SELECT setting FROM pg_settings WHERE name = 'anabranch.require'")
    await pool.close()
    return found


def with_psycopg2():
    options = f"-c anabranch.require=exact -c anabranch.at_least={at_least}"
    connection = psycopg2.connect(host="127.0.0.1", port=port, user="tester", dbname="anabranch", options=options)
    found = {}
    with connection, connection.cursor() as cursor:
        cursor.execute(HOURS.format("%s"), (CHANNELS,))
        found["hours"] = hours(cursor.fetchall())
        cursor.execute("SELECT count(*), count(*), max(edits) FROM hourly")
        found["names"] = [column.name for column in cursor.description]
        copied = io.StringIO()
        cursor.copy_expert("COPY (SELECT page, edits FROM pages) TO STDOUT", copied)
        found["copied"] = len(copied.getvalue().splitlines())
        # As Superset writes filters and time grains.
        cursor.execute(
            "SELECT DATE_TRUNC('hour', hour) + INTERVAL '5 minutes' * FLOOR(EXTRACT(MINUTE FROM hour) / 5) AS __timestamp,"
            " sum(edits) AS \"SUM(edits)\" FROM public.hourly"
            " WHERE hour >= TO_TIMESTAMP('2015-09-12 03:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US')"
            " AND hour < TO_TIMESTAMP('2015-09-12 05:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US')"
            " GROUP BY 1 ORDER BY 1 LIMIT 10"
        )
        found["grains"] = [[at.isoformat(), int(edits)] for at, edits in cursor.fetchall()]
        cursor.execute("SELECT to_char(hour, 'YYYY-MM-DD HH24:MI'), 2 ^ 3, edits::float / 2 FROM hourly WHERE channel = ANY('{#en.wikipedia}') ORDER BY hour LIMIT 1")
        found["dialect"] = list(cursor.fetchone())
    with connection, connection.cursor("named") as cursor:
        cursor.itersize = 1000
        cursor.execute("SELECT page, edits FROM pages")
        found["pages"] = len(list(cursor))
    with connection, connection.cursor() as cursor:
        cursor.execute("SET LOCAL application_name = 'one'; SAVEPOINT a; SET LOCAL application_name = 'two'; ROLLBACK TO a")
        cursor.execute("SELECT current_setting('application_name'), set_config('anabranch.timeout', '1s', true)")
        found["savepoint"] = list(cursor.fetchone())
    connection.close()
    return found


found["asyncpg"] = asyncio.run(with_asyncpg())
found["psycopg2"] = with_psycopg2()
print(json.dumps(found))
