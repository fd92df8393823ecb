//! What every answer must be: a plain fold over the log, for any prefix of it.
//!
//! The oracle knows nothing of cuts, segments or publications. It is given the records of each partition in order, and says
//! what a view must answer for the prefix that an answer's coverage claims.

use std::collections::{BTreeMap, HashMap};

use anabranch_model::{Coverage, TopicOffsets};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::compare::difference;

/// What one event contributes to one view.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Values of the group's columns.
    pub key: Vec<Value>,
    /// What is summed, and whose extremes are kept.
    pub amount: i64,
    /// What is counted distinctly.
    pub member: String,
}

/// A column of a question behind the group's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    Count,
    Sum,
    Min,
    Max,
    Distinct,
}

/// A question to one view, and how an event adds to its answer.
#[derive(Clone, Debug)]
pub struct Question {
    pub view: String,
    pub topic: String,
    /// Selects the group's columns, then `measures`.
    pub sql: String,
    /// Number of the group's columns; 0: one row for everything.
    pub keys: usize,
    pub measures: Vec<Measure>,
    /// `None`: the event does not count in this view.
    pub part: fn(&Value) -> Option<Part>,
}

/// The events of all topics so far, folded for each question.
#[derive(Debug)]
pub struct Oracle {
    questions: Vec<Question>,
    /// By question: by key, as JSON text.
    groups: Vec<BTreeMap<String, Group>>,
    since: TopicOffsets,
    next: TopicOffsets,
}

#[derive(Debug)]
struct Group {
    key: Vec<Value>,
    partitions: BTreeMap<String, Series>,
    /// Member → partition → offset of its first event.
    members: HashMap<String, BTreeMap<String, i64>>,
}

/// The events of one partition in one group. The other three say what holds up to and including the same event.
#[derive(Debug, Default)]
struct Series {
    offsets: Vec<i64>,
    sums: Vec<i64>,
    smallest: Vec<i64>,
    largest: Vec<i64>,
}

impl Oracle {
    pub fn new(questions: Vec<Question>) -> Self {
        Self::since(questions, TopicOffsets::new())
    }

    /// As [`new`](Self::new), for answers whose coverage states `since`: what lies before it counts nowhere.
    pub fn since(questions: Vec<Question>, since: TopicOffsets) -> Self {
        let groups = questions.iter().map(|_| BTreeMap::new()).collect();
        Self {
            questions,
            groups,
            since,
            next: TopicOffsets::new(),
        }
    }

    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Offset after the last one that is known of a partition.
    pub fn next(&self, partition: &str) -> i64 {
        self.next.get(partition).copied().unwrap_or(0)
    }

    /// Everything that is known.
    pub fn through(&self) -> &TopicOffsets {
        &self.next
    }

    /// Adds one record. One that is no JSON object is nothing: a dead letter.
    ///
    /// # Panics
    /// When records of a partition do not come in order.
    pub fn add(&mut self, topic: &str, partition: &str, offset: i64, payload: &[u8]) {
        assert!(offset >= self.next(partition), "the log goes back in {partition}");
        self.reach(partition, offset + 1);
        if self.since.get(partition).is_some_and(|since| offset < *since) {
            return;
        }
        let Ok(event) = serde_json::from_slice::<Value>(payload) else {
            return;
        };
        let questions = self.questions.iter().zip(&mut self.groups);
        for (question, groups) in questions.filter(|(question, _)| question.topic == topic) {
            let Some(part) = (question.part)(&event) else { continue };
            let name = Value::Array(part.key.clone()).to_string();
            let group = groups.entry(name).or_insert_with(|| Group {
                key: part.key,
                partitions: BTreeMap::new(),
                members: HashMap::new(),
            });
            group
                .partitions
                .entry(partition.to_owned())
                .or_default()
                .push(offset, part.amount);
            let firsts = group.members.entry(part.member).or_default();
            firsts.entry(partition.to_owned()).or_insert(offset);
        }
    }

    /// The partition is known up to `next`, whatever records lie before it.
    pub fn reach(&mut self, partition: &str, next: i64) {
        let known = self.next.entry(partition.to_owned()).or_default();
        *known = next.max(*known);
    }

    /// The rows of a question for the prefix before `through`; partitions that it does not name count for nothing.
    pub fn rows(&self, question: usize, through: &TopicOffsets) -> Vec<Vec<Value>> {
        let Question { measures, keys, .. } = &self.questions[question];
        let mut rows: Vec<Vec<Value>> = self.groups[question]
            .values()
            .filter_map(|group| group.row(measures, through))
            .collect();
        // A view without groups has a row even of nothing.
        if rows.is_empty() && *keys == 0 {
            let nothing = |measure: &Measure| match measure {
                Measure::Count | Measure::Distinct => json!(0),
                Measure::Sum | Measure::Min | Measure::Max => Value::Null,
            };
            rows.push(measures.iter().map(nothing).collect());
        }
        rows
    }

    /// What contradicts the answer's own coverage, if anything does.
    pub fn contradiction(&self, question: usize, answer: &Answer) -> Option<String> {
        let asked = &self.questions[question];
        let Some(coverage) = answer.coverage.get(&asked.view) else {
            return Some(format!("no coverage of `{}`", asked.view));
        };
        if coverage.since != self.since {
            return Some(format!(
                "`{}` is since {:?}, not {:?}",
                asked.sql, coverage.since, self.since
            ));
        }
        let said = coverage_contradiction(coverage).or_else(|| {
            let beyond = coverage.served_through.iter().find(|(p, next)| **next > self.next(p));
            beyond.map(|(p, next)| {
                format!(
                    "it covers {p} up to {next}, but the log holds it up to {}",
                    self.next(p)
                )
            })
        });
        let said = said.or_else(|| difference(&self.rows(question, &coverage.served_through), &answer.rows));
        said.map(|said| format!("`{}`: {said}\n  {coverage:?}", asked.sql))
    }
}

/// What a coverage says against itself.
fn coverage_contradiction(coverage: &Coverage) -> Option<String> {
    if coverage.exact && !coverage.missing.is_empty() {
        return Some("it calls itself exact, and names what is missing".to_owned());
    }
    if !coverage.exact && coverage.missing.is_empty() {
        return Some("it is not exact, and does not say what is missing".to_owned());
    }
    let behind = coverage
        .batch_cut
        .iter()
        .find(|(p, cut)| coverage.served_through.get(*p).is_none_or(|served| served < cut));
    behind.map(|(p, cut)| format!("{p} is served short of its own cut {cut}"))
}

impl Group {
    fn row(&self, measures: &[Measure], through: &TopicOffsets) -> Option<Vec<Value>> {
        let next = |partition: &str| through.get(partition).copied().unwrap_or(0);
        let prefixes: Vec<(usize, &Series)> = self
            .partitions
            .iter()
            .map(|(partition, series)| (series.before(next(partition)), series))
            .filter(|(events, _)| *events > 0)
            .collect();
        if prefixes.is_empty() {
            return None;
        }
        let value = |measure: &Measure| match measure {
            Measure::Count => prefixes.iter().map(|(events, _)| *events as i64).sum(),
            Measure::Sum => prefixes.iter().map(|(events, series)| series.sums[events - 1]).sum(),
            Measure::Min => extreme(&prefixes, |series| &series.smallest, i64::min),
            Measure::Max => extreme(&prefixes, |series| &series.largest, i64::max),
            Measure::Distinct => {
                let counts = |firsts: &&BTreeMap<String, i64>| firsts.iter().any(|(p, first)| *first < next(p));
                self.members.values().filter(counts).count() as i64
            }
        };
        let measured = measures.iter().map(|measure| json!(value(measure)));
        Some(self.key.iter().cloned().chain(measured).collect())
    }
}

fn extreme(prefixes: &[(usize, &Series)], of: fn(&Series) -> &Vec<i64>, best: fn(i64, i64) -> i64) -> i64 {
    let values = prefixes.iter().map(|(events, series)| of(series)[events - 1]);
    values.reduce(best).expect("a group has events")
}

impl Series {
    fn push(&mut self, offset: i64, amount: i64) {
        let (sum, smallest, largest) = match self.offsets.len() {
            0 => (0, amount, amount),
            events => (
                self.sums[events - 1],
                self.smallest[events - 1],
                self.largest[events - 1],
            ),
        };
        self.offsets.push(offset);
        self.sums.push(sum + amount);
        self.smallest.push(smallest.min(amount));
        self.largest.push(largest.max(amount));
    }

    /// How many events lie before `next`.
    fn before(&self, next: i64) -> usize {
        self.offsets.partition_point(|offset| *offset < next)
    }
}

#[cfg(test)]
mod tests;
