//! Click events of about 113 bytes, generated cheaply: Zipf-like pages, one event a millisecond of event time.

pub const ACTIONS: [&str; 4] = ["view", "cart", "buy", "find"];

/// The table alone.
pub const TABLE_SQL: &str = r#"
CREATE TABLE clicks (
  ts TIMESTAMP NOT NULL, "user" TEXT, page TEXT, action TEXT, ms BIGINT, bytes BIGINT
) WITH (connector = 'log', topic = 'clicks', format = 'json', event_time = 'ts', partitions = 4);
"#;

/// The table, and three views of different shape.
pub const VIEWS_SQL: &str = r#"
CREATE TABLE clicks (
  ts TIMESTAMP NOT NULL, "user" TEXT, page TEXT, action TEXT, ms BIGINT, bytes BIGINT
) WITH (connector = 'log', topic = 'clicks', format = 'json', event_time = 'ts', partitions = 4);

CREATE MATERIALIZED VIEW pages AS
SELECT page, tumble(ts, INTERVAL '1 minute') AS minute,
       count(*) AS clicks, sum(ms) AS ms, approx_distinct("user") AS users
FROM clicks GROUP BY page, minute;

CREATE MATERIALIZED VIEW per_minute AS
SELECT tumble(ts, INTERVAL '1 minute') AS minute, count(*) AS clicks, sum(bytes) AS bytes, avg(ms) AS avg_ms
FROM clicks GROUP BY minute;

CREATE MATERIALIZED VIEW per_action AS
SELECT action, count(*) AS clicks, max(ms) AS longest_ms, sum(bytes) AS bytes
FROM clicks GROUP BY action;
"#;

/// An endless stream of events.
pub struct Events {
    state: u64,
    time_ms: u64,
}

impl Events {
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            time_ms: 0,
        }
    }

    /// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators").
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// One event as a JSON line, without a line feed.
    pub fn line(&mut self) -> Vec<u8> {
        self.time_ms += 1;
        let (hour, rest) = (self.time_ms / 3_600_000 % 24, self.time_ms % 3_600_000);
        let (minute, second, milli) = (rest / 60_000, rest / 1_000 % 60, rest % 1_000);
        let draw = self.next();
        // The product of two uniform draws favours small pages, much as a Zipf distribution does.
        let page = (draw % 200) * (draw / 200 % 200) / 200 + 1;
        let action = ACTIONS[(draw / 40_000 % 4) as usize];
        let user = self.next() % 20_000;
        format!(
            r#"{{"ts":"2026-01-01T{hour:02}:{minute:02}:{second:02}.{milli:03}Z","user":"u{user}","page":"/product/{page}","action":"{action}","ms":{},"bytes":{}}}"#,
            draw % 30_000, draw % 100_000
        )
        .into_bytes()
    }
}
