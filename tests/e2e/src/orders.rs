//! Made-up events whose answers are easy to know: orders of shops, from a seed.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::compare::time_us;
use crate::oracle::{Measure, Part, Question};

pub const TABLE: &str = "orders";

const SHOPS: u32 = 25;
const CUSTOMERS: u32 = 400;
const HOUR_US: i64 = 3_600_000_000;
/// 2024-03-01T00:00:00Z.
const FIRST_SECOND: i64 = 1_709_251_200;
/// One line in so many does not decode.
const MALFORMED_ONE_IN: u32 = 150;

/// `views.sql`; `with` is what stands in the table's WITH.
pub fn views(with: &str) -> String {
    format!(
        "CREATE TABLE orders (at TIMESTAMP NOT NULL, shop TEXT, customer TEXT, amount BIGINT)
WITH ({with}, format = 'json', event_time = 'at');
{VIEWS}"
    )
}

/// As [`views`], declared later with one more column, and a view of it.
pub fn grown_views(with: &str) -> String {
    format!(
        "CREATE TABLE orders (at TIMESTAMP NOT NULL, shop TEXT, customer TEXT, amount BIGINT, express BOOLEAN)
WITH ({with}, format = 'json', event_time = 'at');
{VIEWS}
CREATE MATERIALIZED VIEW largest AS SELECT shop, max(amount) AS largest FROM orders GROUP BY shop;
"
    )
}

const VIEWS: &str = "
CREATE MATERIALIZED VIEW totals AS
SELECT count(*) AS orders, sum(amount) AS amount, min(amount) AS smallest, count(DISTINCT customer) AS customers FROM orders;
CREATE MATERIALIZED VIEW by_shop AS
SELECT shop, count(*) AS orders, sum(amount) AS amount, max(amount) AS largest, count(DISTINCT customer) AS customers
FROM orders GROUP BY shop;
CREATE MATERIALIZED VIEW hourly AS
SELECT shop, tumble(at, INTERVAL '1 hour') AS hour, count(*) AS orders, sum(amount) AS amount FROM orders GROUP BY shop, hour;
";

/// What the views are asked, with the fold that says what they must answer.
pub fn questions(topic: &str) -> Vec<Question> {
    use Measure::{Count, Distinct, Max, Min, Sum};
    let question = |view: &str, columns: &str, keys, measures: &[Measure], part| Question {
        view: view.to_owned(),
        topic: topic.to_owned(),
        sql: format!("SELECT {columns} FROM {view}"),
        keys,
        measures: measures.to_vec(),
        part,
    };
    vec![
        question(
            "totals",
            "orders, amount, smallest, customers",
            0,
            &[Count, Sum, Min, Distinct],
            |event| part(event, |_| Vec::new()),
        ),
        question(
            "by_shop",
            "shop, orders, amount, largest, customers",
            1,
            &[Count, Sum, Max, Distinct],
            |event| part(event, |event| vec![event["shop"].clone()]),
        ),
        question("hourly", "shop, hour, orders, amount", 2, &[Count, Sum], |event| {
            part(event, |event| vec![event["shop"].clone(), hour(event)])
        }),
    ]
}

fn part(event: &Value, key: fn(&Value) -> Vec<Value>) -> Option<Part> {
    Some(Part {
        key: key(event),
        amount: event["amount"].as_i64()?,
        member: event["customer"].as_str()?.to_owned(),
    })
}

fn hour(event: &Value) -> Value {
    let time = event["at"].as_str().and_then(time_us).expect("an order has a time");
    let start = chrono::DateTime::from_timestamp_micros(time.div_euclid(HOUR_US) * HOUR_US);
    json!(start.expect("the time is in range").to_rfc3339())
}

/// Makes orders, the same ones from the same seed.
#[derive(Debug)]
pub struct Orders {
    random: StdRng,
    made: i64,
}

/// One line of input.
#[derive(Clone, Debug)]
pub struct Order {
    /// Who orders: the record's key.
    pub customer: String,
    pub line: String,
}

impl Orders {
    pub fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            made: 0,
        }
    }

    /// The next order. Its time is near the one before, sometimes hours late.
    pub fn make(&mut self) -> Order {
        let random = &mut self.random;
        let customer = format!("c{}", random.random_range(0..CUSTOMERS));
        let late = if random.random_ratio(1, 20) {
            random.random_range(0..20_000)
        } else {
            random.random_range(0..60)
        };
        let at =
            chrono::DateTime::from_timestamp(FIRST_SECOND + self.made * 3 - late, 0).expect("the time is in range");
        let line = json!({
            "at": at.to_rfc3339(),
            "shop": format!("s{}", random.random_range(0..SHOPS)),
            "customer": customer,
            "amount": random.random_range(-50..1_000),
            "express": random.random_bool(0.3),
        });
        self.made += 1;
        let line = if random.random_ratio(1, MALFORMED_ONE_IN) {
            "{\"at\": \"2024-03-01T00:00:00Z\", \"shop\": ".to_owned()
        } else {
            line.to_string()
        };
        Order { customer, line }
    }

    /// Lines of `count` orders.
    pub fn lines(&mut self, count: usize) -> Vec<u8> {
        crate::data::ndjson((0..count).map(|_| self.make().line))
    }
}
