//! Asks all the time, and holds every answer against the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::answer::Answer;
use crate::feed::Feed;
use crate::http::Http;
use crate::oracle::{Oracle, Question};

/// Answers that wait to be checked, before asking waits.
const UNCHECKED: usize = 4096;
/// A request that takes longer counts as not answered.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the log may be away while an answer is checked.
const LOG_AWAY: Duration = Duration::from_secs(90);
/// Contradictions that are kept word by word.
const KEPT: usize = 5;

/// Threads that ask one serving process each, and one that checks.
pub struct Witness {
    stop: Arc<AtomicBool>,
    askers: Vec<JoinHandle<Asked>>,
    checker: JoinHandle<Checked>,
}

/// What the answers were.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Answers that were checked.
    pub answers: u64,
    /// Of those, answers that called themselves not exact.
    pub inexact: u64,
    /// Requests that nobody answered in time.
    pub unanswered: u64,
    /// Refusals by status and code.
    pub refused: BTreeMap<String, u64>,
    /// The longest time during which no serving process gave an exact answer.
    pub longest_without_exact: Duration,
    pub contradictions: u64,
    /// The first of them.
    pub contradictory: Vec<String>,
}

#[derive(Default)]
struct Asked {
    unanswered: u64,
    refused: BTreeMap<String, u64>,
}

struct Checked {
    oracle: Oracle,
    feed: Feed,
    figures: Figures,
}

struct Heard {
    question: usize,
    answer: Answer,
    at: Instant,
}

impl Witness {
    /// Asks each of `apis` one question after the other, with `pause` in between.
    pub fn start(apis: &[Http], questions: Vec<Question>, feed: Feed, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (heard, to_check) = sync_channel(UNCHECKED);
        let askers = apis.iter().map(|http| {
            let (http, questions, heard, stop) = (
                http.within(PATIENCE),
                questions.clone(),
                heard.clone(),
                Arc::clone(&stop),
            );
            std::thread::spawn(move || ask(&http, &questions, &heard, pause, &stop))
        });
        let askers = askers.collect();
        let oracle = Oracle::new(questions);
        Self {
            stop,
            askers,
            checker: std::thread::spawn(move || check(oracle, feed, &to_check)),
        }
    }

    /// Ends, and returns what was seen with an oracle that has read at least as much of the log as was covered.
    ///
    /// # Panics
    /// When a thread did.
    pub fn finish(self) -> (Figures, Oracle, Feed) {
        self.stop.store(true, Ordering::Relaxed);
        let asked: Vec<Asked> = self
            .askers
            .into_iter()
            .map(|asker| asker.join().expect("asking does not panic"))
            .collect();
        let Checked {
            oracle,
            feed,
            mut figures,
        } = self.checker.join().expect("checking does not panic");
        for asked in asked {
            figures.unanswered += asked.unanswered;
            for (refusal, times) in asked.refused {
                *figures.refused.entry(refusal).or_default() += times;
            }
        }
        (figures, oracle, feed)
    }
}

impl Figures {
    /// # Panics
    /// When an answer contradicted its coverage, or none could be checked.
    #[track_caller]
    pub fn assert_consistent(&self) {
        assert_eq!(self.contradictions, 0, "{}", self.contradictory.join("\n"));
        assert!(self.answers > 0, "no answer could be checked: {self:?}");
    }
}

fn ask(http: &Http, questions: &[Question], heard: &SyncSender<Heard>, pause: Duration, stop: &AtomicBool) -> Asked {
    let mut asked = Asked::default();
    for (index, question) in questions.iter().enumerate().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        match http.try_post("/v1/sql", &json!({"sql": question.sql})) {
            None => asked.unanswered += 1,
            Some(reply) if reply.status == 200 => {
                let heard = heard.send(Heard {
                    question: index,
                    answer: Answer::parse(&reply.json()),
                    at: Instant::now(),
                });
                if heard.is_err() {
                    break;
                }
            }
            Some(reply) => {
                let error = serde_json::from_slice::<serde_json::Value>(&reply.body).unwrap_or_default();
                let refusal = format!("{} {}", reply.status, error["error"]["message"].as_str().unwrap_or("?"));
                *asked.refused.entry(refusal).or_default() += 1;
            }
        }
        std::thread::sleep(pause);
    }
    asked
}

fn check(mut oracle: Oracle, feed: Feed, to_check: &Receiver<Heard>) -> Checked {
    let mut figures = Figures::default();
    let mut last_exact = Instant::now();
    for Heard { question, answer, at } in to_check {
        figures.answers += 1;
        let exact = answer.coverage.values().all(|coverage| coverage.exact);
        figures.inexact += u64::from(!exact);
        if exact {
            let without = at.saturating_duration_since(last_exact);
            figures.longest_without_exact = figures.longest_without_exact.max(without);
            last_exact = last_exact.max(at);
        }
        let read = answer
            .coverage
            .values()
            .try_for_each(|coverage| feed.extend(&mut oracle, &coverage.served_through, LOG_AWAY));
        let contradiction = read.err().or_else(|| oracle.contradiction(question, &answer));
        if let Some(contradiction) = contradiction {
            figures.contradictions += 1;
            if figures.contradictory.len() < KEPT {
                figures.contradictory.push(contradiction);
            }
        }
    }
    figures.longest_without_exact = figures.longest_without_exact.max(last_exact.elapsed());
    Checked { oracle, feed, figures }
}
