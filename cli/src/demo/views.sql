-- The web shop of `anabranch demo`: one table of clicks, three views.

CREATE TABLE clicks (
  time        TIMESTAMP NOT NULL,
  session     TEXT NOT NULL,
  "user"      TEXT,
  page        TEXT NOT NULL,
  action      TEXT,
  duration_ms BIGINT,
  price       DECIMAL(10, 2),
  client      STRUCT<os TEXT, mobile BOOLEAN>
) WITH (connector = 'log', topic = 'clicks', format = 'json', event_time = 'time', partitions = 4);

-- One row over everything.
CREATE MATERIALIZED VIEW totals AS
SELECT count(*) AS clicks, sum(price) AS revenue, count(*) FILTER (WHERE client.mobile) AS mobile_clicks
FROM clicks;

-- One row per page.
CREATE MATERIALIZED VIEW pages AS
SELECT page, count(*) AS clicks, sum(duration_ms) AS duration_ms, avg(duration_ms) AS avg_ms,
       count(DISTINCT "user") AS visitors
FROM clicks GROUP BY page;

-- One row per action and ten seconds of event time; late clicks count where they belong.
CREATE MATERIALIZED VIEW actions AS
SELECT tumble(time, INTERVAL '10 seconds') AS "window", action, count(*) AS clicks
FROM clicks GROUP BY "window", action;
