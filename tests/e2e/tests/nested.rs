//! Real nested events: change records with before and after, and GitHub events of many shapes.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_e2e::compare::assert_same_rows;
use anabranch_e2e::{Dev, data, gate};
use anabranch_model::TopicOffsets;
use serde_json::{Value, json};

const SQL: &str = r#"
CREATE TABLE changes (
  op TEXT,
  ts_ms TIMESTAMP NOT NULL,
  "before" STRUCT<id BIGINT, product_name TEXT, quantity INT, price DECIMAL(10, 2), status TEXT>,
  "after" STRUCT<id BIGINT, product_name TEXT, quantity INT, price DECIMAL(10, 2), status TEXT>,
  source STRUCT<lsn BIGINT, "table" TEXT>
) WITH (connector = 'log', event_time = 'ts_ms', timestamp_format = 'epoch_millis', partitions = 2);

-- What the table `orders` holds by now: what each change added, less what it took away.
CREATE MATERIALIZED VIEW orders AS
SELECT coalesce("after".product_name, "before".product_name) AS product, count(*) AS changes,
       count("after".id) - count("before".id) AS orders,
       sum(coalesce("after".quantity, 0) - coalesce("before".quantity, 0)) AS quantity,
       sum(coalesce("after".price, 0) - coalesce("before".price, 0)) AS price,
       max(source.lsn) AS lsn, count(*) FILTER (WHERE op = 'd') AS deleted
FROM changes GROUP BY product;

CREATE TABLE github (
  id TEXT, "type" TEXT, public BOOLEAN, created_at TIMESTAMP NOT NULL,
  actor STRUCT<login TEXT, id BIGINT>,
  repo STRUCT<id BIGINT, name TEXT>,
  org STRUCT<login TEXT>,
  payload STRUCT<action TEXT, size INT, commits STRUCT<sha TEXT, author STRUCT<name TEXT>>[]>
) WITH (connector = 'log', event_time = 'created_at', partitions = 2);

CREATE MATERIALIZED VIEW by_type AS
SELECT "type", count(*) AS events, sum(payload.size) AS size, sum(array_length(payload.commits)) AS commits,
       count(DISTINCT actor.login) AS actors, count(org.login) AS by_orgs, count(DISTINCT repo.id) AS repos,
       count(*) FILTER (WHERE payload.action = 'opened') AS opened, max(payload.commits[1].author.name) AS last_author
FROM github GROUP BY "type";
"#;

/// Sums of one product, in cents where it is money.
#[derive(Default)]
struct Product {
    changes: i64,
    orders: i64,
    quantity: i64,
    cents: i64,
    lsn: Option<i64>,
    deleted: i64,
}

fn orders(events: &[Value]) -> Vec<Vec<Value>> {
    let mut products: BTreeMap<&str, Product> = BTreeMap::new();
    for event in events {
        let name = event["after"]["product_name"]
            .as_str()
            .or(event["before"]["product_name"].as_str());
        let product = products
            .entry(name.expect("every change names its product"))
            .or_default();
        product.changes += 1;
        for (side, sign) in [("after", 1), ("before", -1)] {
            if let Some(row) = event[side].as_object() {
                product.orders += sign;
                product.quantity += sign * row["quantity"].as_i64().unwrap_or(0);
                product.cents += sign * (row["price"].as_f64().unwrap_or(0.0) * 100.0).round() as i64;
            }
        }
        product.lsn = product.lsn.max(event["source"]["lsn"].as_i64());
        product.deleted += i64::from(event["op"] == "d");
    }
    let row = |(name, p): (&str, Product)| {
        let price = json!(p.cents as f64 / 100.0);
        vec![
            json!(name),
            json!(p.changes),
            json!(p.orders),
            json!(p.quantity),
            price,
            json!(p.lsn),
            json!(p.deleted),
        ]
    };
    products.into_iter().map(row).collect()
}

/// Sums of one type of event; sums of nothing are null.
#[derive(Default)]
struct OfType {
    events: i64,
    size: Option<i64>,
    commits: Option<i64>,
    actors: BTreeSet<String>,
    by_orgs: i64,
    repos: BTreeSet<i64>,
    opened: i64,
    last_author: Option<String>,
}

fn by_type(events: &[Value]) -> Vec<Vec<Value>> {
    let mut types: BTreeMap<&str, OfType> = BTreeMap::new();
    let add = |sum: &mut Option<i64>, value: Option<i64>| {
        if let Some(value) = value {
            *sum = Some(sum.unwrap_or(0) + value);
        }
    };
    for event in events {
        let sums = types
            .entry(event["type"].as_str().expect("every event has a type"))
            .or_default();
        let payload = &event["payload"];
        sums.events += 1;
        add(&mut sums.size, payload["size"].as_i64());
        let commits = payload["commits"].as_array();
        // The length of an empty array is null in SQL's array_length, or 0: neither changes a sum of others.
        add(&mut sums.commits, commits.map(|commits| commits.len() as i64));
        sums.actors.extend(event["actor"]["login"].as_str().map(str::to_owned));
        sums.by_orgs += i64::from(event["org"]["login"].is_string());
        sums.repos.extend(event["repo"]["id"].as_i64());
        sums.opened += i64::from(payload["action"] == "opened");
        let author = commits
            .and_then(|commits| commits.first()?["author"]["name"].as_str())
            .map(str::to_owned);
        sums.last_author = sums.last_author.take().max(author);
    }
    let row = |(name, t): (&str, OfType)| {
        let counted = vec![
            json!(name),
            json!(t.events),
            json!(t.size),
            json!(t.commits),
            json!(t.actors.len()),
        ];
        [
            counted,
            vec![
                json!(t.by_orgs),
                json!(t.repos.len()),
                json!(t.opened),
                json!(t.last_author),
            ],
        ]
        .concat()
    };
    types.into_iter().map(row).collect()
}

#[test]
fn nested_events_by_their_fields() {
    const TEST: &str = "nested_events_by_their_fields";
    let Some(changes) = data::file(TEST, "debezium-cdc.ndjson") else {
        return;
    };
    let Some(github) = data::file(TEST, "github-events.ndjson") else {
        return;
    };
    let _gate = gate::heavy();
    let mut dev = Dev::start(SQL, "[landing]\nmax_age = '200ms'");
    let through = ["changes", "github"].map(|table| {
        let file = if table == "changes" { &changes } else { &github };
        (table, dev.ingest_file(table, file).1)
    });
    let (changes, github) = (data::events(&changes), data::events(&github));
    let check = |dev: &Dev, moment: &str| {
        let at =
            |table: &str| -> &TopicOffsets { &through.iter().find(|(name, _)| *name == table).expect("it was sent").1 };
        let sql = "SELECT product, changes, orders, quantity, price, lsn, deleted FROM orders";
        let found = dev.query_at_least(sql, at("changes"));
        assert_same_rows(&format!("orders, {moment}"), &orders(&changes), &found.rows);
        let sql = "SELECT \"type\", events, size, commits, actors, by_orgs, repos, opened, last_author FROM by_type";
        let found = dev.query_at_least(sql, at("github"));
        assert_same_rows(&format!("by_type, {moment}"), &by_type(&github), &found.rows);
    };
    check(&dev, "realtime");
    for (table, through) in &through {
        dev.wait_landed(table, through);
        assert_eq!(
            dev.status()["sources"][table]["dead_letters"].as_u64().unwrap_or(0),
            0,
            "{table}: every event decodes"
        );
    }
    dev.kill9();
    dev.restart();
    check(&dev, "rebuilt from landed rows");
    dev.run_batch();
    check(&dev, "after a batch run");
}
