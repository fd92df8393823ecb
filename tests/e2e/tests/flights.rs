//! Three million flights as events; the first 200,000 unless `ANABRANCH_E2E_FULL=1`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use anabranch_e2e::compare::assert_same_rows;
use anabranch_e2e::{Dev, data, gate};
use anabranch_model::TopicOffsets;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use chrono::{DateTime, SecondsFormat};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

const SQL: &str = "
CREATE TABLE flights (date TIMESTAMP NOT NULL, delay BIGINT, distance BIGINT, origin TEXT, destination TEXT)
WITH (connector = 'log', format = 'json', event_time = 'date', partitions = 2);
CREATE MATERIALIZED VIEW totals AS
SELECT count(*) AS flights, sum(delay) AS delay, sum(distance) AS distance FROM flights;
CREATE MATERIALIZED VIEW airports AS
SELECT origin, count(*) AS flights, sum(delay) AS delay, min(delay) AS earliest, max(delay) AS latest,
       avg(distance) AS distance, count(DISTINCT destination) AS destinations
FROM flights GROUP BY origin;
CREATE MATERIALIZED VIEW daily AS
SELECT tumble(date, INTERVAL '1 day') AS day, count(*) AS flights, sum(distance) AS distance FROM flights GROUP BY day;
";

const DAY_US: i64 = 86_400_000_000;

struct Flight {
    time_us: i64,
    delay: Option<i64>,
    distance: Option<i64>,
    origin: String,
    destination: String,
}

/// One group, added up plainly.
#[derive(Default)]
struct Sums {
    flights: i64,
    delay: i64,
    distance: i64,
    earliest: Option<i64>,
    latest: Option<i64>,
    destinations: std::collections::BTreeSet<String>,
}

#[derive(Default)]
struct Oracle {
    totals: Sums,
    airports: BTreeMap<String, Sums>,
    days: BTreeMap<i64, Sums>,
}

impl Sums {
    fn add(&mut self, flight: &Flight) {
        self.flights += 1;
        self.delay += flight.delay.unwrap_or(0);
        self.distance += flight.distance.unwrap_or(0);
        self.earliest = [self.earliest, flight.delay].into_iter().flatten().min();
        self.latest = [self.latest, flight.delay].into_iter().flatten().max();
        if !self.destinations.contains(&flight.destination) {
            self.destinations.insert(flight.destination.clone());
        }
    }
}

impl Oracle {
    fn add(&mut self, flight: &Flight) {
        self.totals.add(flight);
        self.airports.entry(flight.origin.clone()).or_default().add(flight);
        self.days
            .entry(flight.time_us.div_euclid(DAY_US))
            .or_default()
            .add(flight);
    }

    #[track_caller]
    fn check(&self, moment: &str, dev: &Dev, through: &TopicOffsets) {
        let totals = dev.query_at_least("SELECT flights, delay, distance FROM totals", through);
        assert_eq!(
            totals.integers(),
            [self.totals.flights, self.totals.delay, self.totals.distance],
            "{moment}: totals"
        );
        let airports: Vec<Vec<Value>> = self
            .airports
            .iter()
            .map(|(origin, sums)| {
                let average = sums.distance as f64 / sums.flights as f64;
                let destinations = sums.destinations.len();
                vec![
                    json!(origin),
                    json!(sums.flights),
                    json!(sums.delay),
                    json!(sums.earliest),
                    json!(sums.latest),
                    json!(average),
                    json!(destinations),
                ]
            })
            .collect();
        let sql = "SELECT origin, flights, delay, earliest, latest, distance, destinations FROM airports";
        assert_same_rows(
            &format!("{moment}: airports"),
            &airports,
            &dev.query_at_least(sql, through).rows,
        );
        let day = |day: i64| {
            DateTime::from_timestamp_micros(day * DAY_US)
                .expect("the day is in range")
                .to_rfc3339()
        };
        let days: Vec<Vec<Value>> = self
            .days
            .iter()
            .map(|(d, sums)| vec![json!(day(*d)), json!(sums.flights), json!(sums.distance)])
            .collect();
        let daily = dev.query_at_least("SELECT day, flights, distance FROM daily", through);
        assert_same_rows(&format!("{moment}: daily"), &days, &daily.rows);
    }
}

/// Calls `each` with the first `most` flights.
fn read(path: &Path, most: usize, mut each: impl FnMut(&Flight)) {
    let file = File::open(path).expect("the flights can be opened");
    let batches = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.build())
        .expect("it is Parquet");
    let mut left = most;
    for batch in batches {
        let batch: RecordBatch = batch.expect("the flights can be read");
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .unwrap_or_else(|| panic!("flights have no `{name}`"))
        };
        let (dates, delays) = (
            column("date").as_primitive::<TimestampMicrosecondType>(),
            column("delay").as_primitive::<Int64Type>(),
        );
        let distances = column("distance").as_primitive::<Int64Type>();
        let (origins, destinations) = (
            column("origin").as_string::<i64>(),
            column("destination").as_string::<i64>(),
        );
        for row in 0..batch.num_rows().min(left) {
            each(&Flight {
                time_us: dates.value(row),
                delay: delays.is_valid(row).then(|| delays.value(row)),
                distance: distances.is_valid(row).then(|| distances.value(row)),
                origin: origins.value(row).to_owned(),
                destination: destinations.value(row).to_owned(),
            });
        }
        left = left.saturating_sub(batch.num_rows());
        if left == 0 {
            return;
        }
    }
}

/// One flight as an event.
fn write(out: &mut impl Write, flight: &Flight) {
    let date = DateTime::from_timestamp_micros(flight.time_us)
        .expect("the time is in range")
        .to_rfc3339_opts(SecondsFormat::Secs, true);
    let event = json!({"date": date, "delay": flight.delay, "distance": flight.distance, "origin": flight.origin, "destination": flight.destination});
    writeln!(out, "{event}").expect("the events can be written");
}

#[test]
fn flights_realtime_and_recomputed() {
    let Some(path) = data::file("flights_realtime_and_recomputed", data::FLIGHTS) else {
        return;
    };
    let full = std::env::var("ANABRANCH_E2E_FULL").is_ok_and(|value| value == "1");
    let most = if full { 3_000_000 } else { 200_000 };
    let _gate = gate::heavy();
    let mut dev = Dev::start(SQL, "[landing]\nmax_age = '500ms'\nmax_bytes = '32MiB'");

    let halves = [dev.site().file("first.ndjson"), dev.site().file("second.ndjson")];
    let mut files = halves
        .each_ref()
        .map(|path| std::io::BufWriter::new(File::create(path).expect("a file can be made")));
    let (mut first, mut all) = (Oracle::default(), Oracle::default());
    let mut row = 0;
    read(&path, most, |flight| {
        let half = usize::from(row >= most / 2);
        write(&mut files[half], flight);
        if half == 0 {
            first.add(flight);
        }
        all.add(flight);
        row += 1;
    });
    assert_eq!(row, most);
    drop(files);

    let (acknowledged, mut through) = dev.ingest_file("flights", &halves[0]);
    assert_eq!(acknowledged, most as u64 / 2);
    first.check("first half realtime", &dev, &through);
    let run = dev.land_and_run("flights", &through);
    assert_eq!(run["rows"].as_u64(), Some(most as u64 / 2));
    first.check("first half recomputed", &dev, &through);

    through.extend(dev.ingest_file("flights", &halves[1]).1);
    assert_eq!(through.values().sum::<i64>(), most as i64);
    all.check("half batch, half realtime", &dev, &through);
    dev.kill9();
    dev.restart();
    all.check("half batch, half realtime, after kill -9", &dev, &through);
    let run = dev.land_and_run("flights", &through);
    assert_eq!(run["rows"].as_u64(), Some(most as u64));
    all.check("recomputed", &dev, &through);
    let landed = anabranch_e2e::master::read(dev.site(), "flights");
    landed.assert_each_offset_once();
    assert_eq!(landed.counts(), (most, 0));
}
