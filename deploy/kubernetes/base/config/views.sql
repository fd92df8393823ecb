-- Edits of Wikipedia, one JSON object per message of the Kafka topic `wikipedia`.

CREATE TABLE wikipedia (
  time      TIMESTAMP NOT NULL,
  channel   TEXT,
  page      TEXT,
  "user"    TEXT,
  cityName  TEXT,
  isRobot   BOOLEAN,
  added     BIGINT,
  deleted   BIGINT,
  delta     BIGINT
) WITH (connector = 'kafka', topic = 'wikipedia', format = 'json', event_time = 'time', partitions = 4);

CREATE MATERIALIZED VIEW totals AS
SELECT count(*) AS edits, sum(added) AS added, count(DISTINCT "user") AS editors FROM wikipedia;

CREATE MATERIALIZED VIEW edits_per_channel AS
SELECT channel, tumble(time, INTERVAL '1 hour') AS hour,
       count(*) AS edits, sum(added) AS added, count(DISTINCT "user") AS editors
FROM wikipedia GROUP BY channel, hour;

CREATE MATERIALIZED VIEW pages AS
SELECT page, count(*) AS edits, count(*) FILTER (WHERE isRobot) AS robot_edits, max(time) AS last_edit
FROM wikipedia GROUP BY page;

CREATE MATERIALIZED VIEW cities AS
SELECT cityName, count(*) FILTER (WHERE delta > 0) AS growing, count(*) AS edits
FROM wikipedia WHERE cityName IS NOT NULL GROUP BY cityName;
