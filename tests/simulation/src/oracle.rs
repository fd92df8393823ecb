//! The truth: a plain fold over the log, and how an answer is compared with it.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_model::{Coverage, Offset, RangeSet};
use arrow::array::{Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::definitions::Fold;
use crate::log::TOPIC;
use crate::random::Random;
use crate::scheduler::Micros;

/// How long events are kept, in microseconds, where they are not kept for ever.
pub const KEPT_FOR: Micros = 25_000_000;

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
    /// Of a column that some definitions declare and others do not.
    pub extra: Option<i64>,
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
                extra: (!random.chance(200)).then(|| random.within(0..50).cast_signed()),
            }),
        }
    }

    pub fn payload(&self) -> Option<Vec<u8>> {
        match self {
            Self::Event(Event { page, n, member, extra }) => {
                let page = page.map_or("null".to_owned(), |page| format!("\"/page{page}\""));
                let n = n.map_or("null".to_owned(), |n| n.to_string());
                let extra = extra.map_or(String::new(), |extra| format!(",\"extra\":{extra}"));
                Some(format!("{{\"page\":{page},\"n\":{n},\"member\":{member}{extra}}}").into_bytes())
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

/// What a version of a view answers over these parts of the partitions.
pub fn expected(fold: Fold, log: &[Vec<Record>], part: impl Fn(usize) -> Part) -> Rows {
    let events = log.iter().enumerate().flat_map(|(partition, records)| {
        let part = part(partition);
        (0i64..).zip(records).filter_map(move |(offset, record)| match record {
            Record::Event(event) => part.holds(offset).then_some(event),
            Record::Malformed | Record::Marker => None,
        })
    });
    let is_counted = |event: &&Event| match fold {
        Fold::PerPagePositive => event.n.is_some_and(|n| n > 0),
        Fold::TotalBut(member) => event.member != member,
        Fold::PerPage | Fold::TotalExtra | Fold::PerMember => true,
    };
    let group = |event: &Event| match fold {
        Fold::PerPage | Fold::PerPagePositive => Some(event.page.map_or(String::new(), |page| format!("/page{page}"))),
        Fold::PerMember => Some(event.member.to_string()),
        Fold::TotalBut(_) | Fold::TotalExtra => None,
    };
    let mut groups: BTreeMap<Option<String>, Vec<&Event>> = BTreeMap::new();
    if matches!(fold, Fold::TotalBut(_) | Fold::TotalExtra) {
        // It has a row even where it has no events.
        groups.insert(None, Vec::new());
    }
    for event in events.filter(is_counted) {
        groups.entry(group(event)).or_default().push(event);
    }
    let row = |(group, events): (Option<String>, Vec<&Event>)| {
        let group = group.unwrap_or_default();
        let (count, sum) = (events.len(), sum(events.iter().map(|event| event.n)));
        let largest = events.iter().filter_map(|event| event.n).max();
        let largest = largest.map_or(String::new(), |largest| largest.to_string());
        match fold {
            Fold::PerPage | Fold::PerPagePositive => {
                let members: BTreeSet<i64> = events.iter().map(|event| event.member).collect();
                format!("{group}|{count}|{sum}|{}", members.len())
            }
            Fold::TotalBut(_) => format!("{count}|{sum}|{largest}"),
            Fold::TotalExtra => format!(
                "{count}|{}|{largest}",
                self::sum(events.iter().map(|event| event.extra))
            ),
            Fold::PerMember => format!("{group}|{count}|{largest}"),
        }
    };
    let mut rows = Rows::new();
    for row in groups.into_iter().map(row) {
        *rows.entry(row).or_default() += 1;
    }
    rows
}

/// As SQL adds up: nothing is no number.
fn sum(values: impl Iterator<Item = Option<i64>>) -> String {
    let sum = values
        .flatten()
        .fold(None, |sum: Option<i64>, value| Some(sum.unwrap_or(0) + value));
    sum.map_or(String::new(), |sum| sum.to_string())
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
pub fn check(
    (view, fold): (&str, Fold),
    batches: &[RecordBatch],
    coverage: &Coverage,
    log: &[Vec<Record>],
) -> Result<(), String> {
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
    let (wanted, got) = (expected(fold, log, part), answered(batches));
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
        "{view} ({fold:?}) answered {:?} where the log says {:?}; coverage {coverage:?}",
        only(&got, &wanted),
        only(&wanted, &got)
    ))
}
