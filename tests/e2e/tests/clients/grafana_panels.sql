SELECT hour AS "time", channel AS metric, edits AS value FROM hourly
WHERE hour BETWEEN '2015-09-12T00:00:00Z' AND '2015-09-13T23:59:59.999Z' AND channel = '#en.wikipedia' ORDER BY 1;
SELECT floor(extract(epoch from hour)/7200)*7200 AS "time", channel AS metric, sum(edits) AS "edits" FROM hourly
WHERE hour BETWEEN '2015-09-12T00:00:00Z' AND '2015-09-13T23:59:59.999Z' AND channel IN ('#en.wikipedia','#de.wikipedia')
GROUP BY 1, 2 ORDER BY 1, 2;
SELECT extract(epoch from hour) as "time", edits FROM hourly
WHERE hour >= '2015-09-12T00:00:00Z' AND hour <= '2015-09-13T23:59:59Z' AND channel = '#de.wikipedia' ORDER BY 1;
SELECT floor((epoch)/3600)*3600 AS "time", sum(edits) AS edits
FROM (SELECT extract(epoch from hour)::bigint AS epoch, edits FROM hourly) AS events
WHERE epoch >= 1441065600 AND epoch <= 1443657600 GROUP BY 1 ORDER BY 1;
SELECT floor((nanoseconds)/3600000000000)*3600000000000 AS "time", count(*) AS hours
FROM (SELECT extract(epoch from hour)::bigint * 1000000000 AS nanoseconds FROM hourly) AS events
WHERE nanoseconds >= 1441065600000000000 AND nanoseconds <= 1443657600000000000 GROUP BY 1 ORDER BY 1;
SELECT date_trunc('day', hour) AS "time", sum(edits) AS edits FROM hourly GROUP BY 1 ORDER BY 1;
SELECT channel FROM hourly GROUP BY channel ORDER BY sum(edits) DESC, channel LIMIT 5;
