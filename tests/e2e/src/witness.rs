//! Asks all the time, and holds every answer against the log.

use std::collections::{BTreeMap, BTreeSet};
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
/// Of so many inexact answers one is asked about.
const SAMPLE: u64 = 10;
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
    /// Why partitions were missing, in samples of inexact answers.
    pub reasons: BTreeMap<String, u64>,
    /// Partitions that answers named as missing, over all answers.
    pub missing: u64,
    /// Seconds since the first question, and those in which some serving process gave an exact answer.
    pub seconds: u64,
    pub exact_seconds: u64,
    /// The longest time during which no serving process gave an exact answer.
    pub longest_without_exact: Duration,
    /// When that began, since the first question.
    pub longest_began: Duration,
    pub contradictions: u64,
    /// The first of them.
    pub contradictory: Vec<String>,
}

#[derive(Default)]
struct Asked {
    unanswered: u64,
    refused: BTreeMap<String, u64>,
    reasons: BTreeMap<String, u64>,
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
            for (reason, times) in asked.reasons {
                *figures.reasons.entry(reason).or_default() += times;
            }
        }
        (figures, oracle, feed)
    }
}

impl Figures {
    /// The share of time, by seconds, in which an exact answer was to be had.
    pub fn availability(&self) -> f64 {
        self.exact_seconds as f64 / self.seconds.max(1) as f64
    }

    /// Partitions that an answer lacked, in the mean.
    pub fn missing_each(&self) -> f64 {
        self.missing as f64 / self.answers.max(1) as f64
    }

    /// # Panics
    /// When an answer contradicted its coverage, or none could be checked.
    #[track_caller]
    pub fn assert_consistent(&self) {
        assert_eq!(self.contradictions, 0, "{}", self.contradictory.join("\n"));
        assert!(self.answers > 0, "no answer could be checked: {self:?}");
    }
}

fn ask(http: &Http, questions: &[Question], heard: &SyncSender<Heard>, pause: Duration, stop: &AtomicBool) -> Asked {
    let (mut asked, mut inexact) = (Asked::default(), 0_u64);
    for (index, question) in questions.iter().enumerate().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        match http.try_post("/v1/sql", &json!({"sql": question.sql})) {
            None => asked.unanswered += 1,
            Some(reply) if reply.status == 200 => {
                let answer = Answer::parse(&reply.json());
                if answer.coverage.values().any(|coverage| !coverage.exact) {
                    inexact += 1;
                    if inexact % SAMPLE == 1 {
                        reasons(http, question, &mut asked.reasons);
                    }
                }
                let heard = heard.send(Heard {
                    question: index,
                    answer,
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

/// Asks for what cannot be had, and counts the reasons that the refusal gives.
fn reasons(http: &Http, question: &Question, counts: &mut BTreeMap<String, u64>) {
    let demand = json!({"sql": question.sql, "require": "exact", "timeout": "1ms"});
    let Some(refused) = http.try_post("/v1/sql", &demand).filter(|reply| reply.status == 503) else {
        return;
    };
    let error = serde_json::from_slice::<serde_json::Value>(&refused.body).unwrap_or_default();
    let message = error["error"]["message"].as_str().unwrap_or_default();
    for reason in message.split('(').skip(1).filter_map(|rest| rest.split(')').next()) {
        // Whoever it was.
        let words = reason
            .split(' ')
            .map(|word| match word.contains(|c: char| c.is_ascii_digit()) {
                true => "…",
                false => word,
            });
        *counts.entry(words.collect::<Vec<_>>().join(" ")).or_default() += 1;
    }
}

fn check(mut oracle: Oracle, feed: Feed, to_check: &Receiver<Heard>) -> Checked {
    let mut figures = Figures::default();
    let began = Instant::now();
    let mut last_exact = began;
    let mut exact_seconds = BTreeSet::new();
    let without_exact = |figures: &mut Figures, from: Instant, to: Instant| {
        let without = to.saturating_duration_since(from);
        if without > figures.longest_without_exact {
            figures.longest_without_exact = without;
            figures.longest_began = from.duration_since(began);
        }
    };
    let mut last_at = began;
    for Heard { question, answer, at } in to_check {
        last_at = last_at.max(at);
        figures.answers += 1;
        let exact = answer.coverage.values().all(|coverage| coverage.exact);
        figures.inexact += u64::from(!exact);
        figures.missing += answer
            .coverage
            .values()
            .map(|coverage| coverage.missing.len() as u64)
            .sum::<u64>();
        if exact {
            without_exact(&mut figures, last_exact, at);
            last_exact = last_exact.max(at);
            exact_seconds.insert(at.saturating_duration_since(began).as_secs());
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
    without_exact(&mut figures, last_exact, last_at);
    figures.seconds = last_at.saturating_duration_since(began).as_secs() + 1;
    figures.exact_seconds = exact_seconds.len() as u64;
    Checked { oracle, feed, figures }
}
