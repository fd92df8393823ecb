//! The truth: a plain fold over the log, and how an answer is compared with it.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_model::{Coverage, Offset, RangeSet};
use arrow::array::{Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::log::TOPIC;
use crate::random::Random;
use crate::scheduler::Micros;

/// How long events are kept, in microseconds, where they are not kept for ever.
pub const KEPT_FOR: Micros = 25_000_000;

/// What every run declares, where events expire or not.
pub fn definitions(expires: bool) -> String {
    let retention = if expires { ", retention = '25 seconds'" } else { "" };
    format!(
        "CREATE TABLE clicks (page TEXT, n BIGINT, member BIGINT)
         WITH (connector = 'log', topic = 'clicks', format = 'json'{retention});
         {VIEWS}"
    )
}

const VIEWS: &str = "

CREATE MATERIALIZED VIEW per_page AS
SELECT page, count(*) AS clicks, sum(n) AS n, count(DISTINCT member) AS members FROM clicks GROUP BY page;

CREATE MATERIALIZED VIEW total AS
SELECT count(*) AS clicks, sum(n) AS n, max(n) AS largest FROM clicks WHERE member <> 3;
";

/// What stands in one place of the log.
#[derive(Clone, Debug)]
pub enum Record {
    Event(Event),
    /// Bytes that are no event.
    Malformed,
    /// Takes an offset, and is no record: a transaction marker.
    Marker,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub page: Option<u8>,
    pub n: Option<i64>,
    pub member: i64,
}

impl Record {
    pub fn draw(random: &mut Random) -> Self {
        match random.within(0..40) {
            0 => Self::Malformed,
            1 | 2 => Self::Marker,
            _ => Self::Event(Event {
                page: (!random.chance(80)).then(|| random.within(0..6) as u8),
                n: (!random.chance(80)).then(|| random.within(0..1000).cast_signed() - 300),
                member: random.within(0..9).cast_signed(),
            }),
        }
    }

    pub fn payload(&self) -> Option<Vec<u8>> {
        match self {
            Self::Event(Event { page, n, member }) => {
                let page = page.map_or("null".to_owned(), |page| format!("\"/page{page}\""));
                let n = n.map_or("null".to_owned(), |n| n.to_string());
                Some(format!("{{\"page\":{page},\"n\":{n},\"member\":{member}}}").into_bytes())
            }
            Self::Malformed => Some(b"{\"page\": 7, n".to_vec()),
            Self::Marker => None,
        }
    }
}

/// The rows of a view, each as text, with how often it appears.
pub type Rows = BTreeMap<String, usize>;

/// What of a partition is folded.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// From here on.
    pub since: i64,
    /// Up to here.
    pub through: i64,
    /// But for these.
    pub excluded: RangeSet,
}

impl Part {
    fn holds(&self, offset: i64) -> bool {
        (self.since..self.through).contains(&offset) && !self.excluded.contains(Offset(offset))
    }
}

/// What the view answers over these parts of the partitions.
pub fn expected(view: &str, log: &[Vec<Record>], part: impl Fn(usize) -> Part) -> Rows {
    let events = || {
        log.iter().enumerate().flat_map(|(partition, records)| {
            let part = part(partition);
            (0i64..).zip(records).filter_map(move |(offset, record)| match record {
                Record::Event(event) => part.holds(offset).then_some(event),
                Record::Malformed | Record::Marker => None,
            })
        })
    };
    let sum = |values: &[Option<i64>]| match values.iter().flatten().count() {
        0 => String::new(),
        _ => values.iter().flatten().sum::<i64>().to_string(),
    };
    let mut rows = Rows::new();
    if view == "per_page" {
        let mut pages: BTreeMap<Option<u8>, Vec<&Event>> = BTreeMap::new();
        for event in events() {
            pages.entry(event.page).or_default().push(event);
        }
        for (page, events) in pages {
            let page = page.map_or(String::new(), |page| format!("/page{page}"));
            let members: BTreeSet<i64> = events.iter().map(|event| event.member).collect();
            let values: Vec<_> = events.iter().map(|event| event.n).collect();
            let row = format!("{page}|{}|{}|{}", events.len(), sum(&values), members.len());
            *rows.entry(row).or_default() += 1;
        }
    } else {
        let values: Vec<_> = events()
            .filter(|event| event.member != 3)
            .map(|event| event.n)
            .collect();
        let largest = values.iter().flatten().max().map_or(String::new(), i64::to_string);
        rows.insert(format!("{}|{}|{largest}", values.len(), sum(&values)), 1);
    }
    rows
}

/// The rows of an answer, in the same spelling.
pub fn answered(batches: &[RecordBatch]) -> Rows {
    let options = FormatOptions::default();
    let mut rows = Rows::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).expect("every column of an answer can be shown"))
            .collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns
                .iter()
                .zip(batch.columns())
                .map(|(shown, column)| match column.is_null(row) {
                    true => String::new(),
                    false => shown.value(row).to_string(),
                })
                .collect();
            *rows.entry(cells.join("|")).or_default() += 1;
        }
    }
    rows
}

/// Compares an answer with the prefix that its coverage claims.
///
/// # Errors
/// What is wrong with it.
pub fn check(view: &str, batches: &[RecordBatch], coverage: &Coverage, log: &[Vec<Record>]) -> Result<(), String> {
    let part = |partition: usize| {
        let name = format!("{TOPIC}/{partition}");
        Part {
            since: coverage.since.get(&name).copied().unwrap_or(0),
            through: coverage.served_through.get(&name).copied().unwrap_or(0),
            excluded: coverage.excluded.get(&name).cloned().unwrap_or_default(),
        }
    };
    for (partition, records) in log.iter().enumerate() {
        let through = part(partition).through;
        if through > records.len() as i64 {
            return Err(format!(
                "{view} says it covers partition {partition} up to {through}, but the log ends at {}",
                records.len()
            ));
        }
    }
    let (wanted, got) = (expected(view, log, part), answered(batches));
    if wanted == got {
        return Ok(());
    }
    let only = |a: &Rows, b: &Rows| -> Vec<String> {
        a.iter()
            .filter(|(row, count)| b.get(*row) != Some(count))
            .map(|(row, _)| row.clone())
            .collect()
    };
    Err(format!(
        "{view} answered {:?} where the log says {:?}; coverage {coverage:?}",
        only(&got, &wanted),
        only(&wanted, &got)
    ))
}
