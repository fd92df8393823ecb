//! Everything at once, for a while: load, random kills and stops of every process, restarts of Kafka and of the store, batch
//! runs, compaction and vacuum on a short schedule. Every answer is held against its coverage; in the end every view equals the plain fold.
//!
//! `tests/soak` runs ten minutes of it; CI a short one. The seed decides what is done and when, as far as clocks allow.

use std::path::Path;
use std::time::{Duration, Instant};

use anabranch_e2e::dev::{run_batch, wait_landed};
use anabranch_e2e::orders::{self, Orders};
use anabranch_e2e::{Backend, Cluster, Feed, Http, Loader, Member, Witness, gate, master, until};
use anabranch_testkit::servers::{self, KafkaServer, S3Server};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

const TOPIC: &str = "soak-orders";
const PARTITIONS: u32 = 6;
const SPEED: usize = 3;
const SERVE: usize = 2;
/// Between two questions to one serving process.
const PAUSE: Duration = Duration::from_millis(25);
/// Between two faults, at most and at least.
const CALM_MS: std::ops::Range<u64> = 700..3_500;
/// How long a stopped process stands still: some outlive their sessions and leases, some do not.
const STILL_MS: std::ops::Range<u64> = 500..14_000;
/// Longest that the cluster may take to be whole again at the end.
const RECOVERY: Duration = Duration::from_secs(120);

/// Files are merged at once, and what was merged goes as soon as it may.
const TIDY: &str = "[maintenance]
every = '2s'
compact_min_files = 4
vacuum_every = '5s'
vacuum_after = '1m'
log_retention = '1h'
keep_publications = 3
keep_runs = 5";

/// How long, from which seed, and how many events a second.
struct Plan {
    length: Duration,
    seed: u64,
    per_second: u32,
    /// Restarts of Kafka and of the store, spread evenly.
    server_restarts: u32,
}

#[derive(Debug, Default)]
struct Done {
    kills: u32,
    stops: u32,
    kafka_restarts: u32,
    s3_restarts: u32,
    runs_asked: u32,
    /// Processes that ended although nobody killed them, and how.
    ended: Vec<String>,
}

/// Who is hit.
#[derive(Clone, Copy, Debug)]
enum Target {
    Speed(usize),
    Batch,
    Serve(usize),
}

impl Target {
    /// Workers more often than the others.
    fn random(random: &mut StdRng) -> Self {
        match random.random_range(0..10) {
            0..6 => Self::Speed(random.random_range(0..SPEED)),
            6..8 => Self::Batch,
            _ => Self::Serve(random.random_range(0..SERVE)),
        }
    }

    fn of(self, cluster: &mut Cluster) -> &mut Member {
        match self {
            Self::Speed(index) => &mut cluster.speed[index],
            Self::Batch => &mut cluster.batch,
            Self::Serve(index) => &mut cluster.serve[index],
        }
    }
}

fn soak(plan: &Plan, kafka: &'static KafkaServer, s3: &'static S3Server) {
    let backend = Backend::of(kafka, s3);
    let settings = format!(
        "{}\n[landing]\nmax_age = '400ms'\n[batch]\nschedule = '*/9 * * * * *'\n{TIDY}",
        backend.settings("soak", None)
    );
    let sql = orders::views(&backend.with(TOPIC, PARTITIONS));
    let mut cluster = Cluster::new(&sql, &settings, SPEED, SERVE);
    cluster.start();
    let properties = backend.kafka_properties();
    let apis: Vec<Http> = cluster.serve.iter().map(Member::http).collect();
    let feed = Feed::kafka(&properties, &[TOPIC]);
    let witness = Witness::start(&apis, orders::questions(TOPIC), feed, PAUSE);
    let loader = Loader::start(&properties, TOPIC, Orders::new(plan.seed), plan.per_second);

    let mut done = torment(plan, &mut cluster, kafka, s3);
    for member in cluster.members().filter(|member| member.is_frozen()) {
        member.thaw();
    }
    let produced = loader.finish();
    let began = Instant::now();
    done.ended.extend(cluster.members().filter_map(Member::supervise));
    cluster.members().for_each(Member::ready);
    let ends = Feed::kafka(&properties, &[TOPIC]).ends();
    for http in &apis {
        until("everything is answered exactly", RECOVERY, || {
            let demand =
                json!({"sql": "SELECT orders FROM totals", "require": "exact", "at_least": ends, "timeout": "5s"});
            http.try_post("/v1/sql", &demand).filter(|reply| reply.status == 200)
        });
    }
    let recovery = began.elapsed();
    let (figures, mut oracle, feed) = witness.finish();
    let logs = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("soak-{}", plan.seed));
    cluster.keep_logs(&logs);
    println!(
        "seed {}: {:?} at {} events/s: {produced} events acknowledged; {} kills, {} stops, {} Kafka restarts, {} S3 restarts, \
         {} runs asked for beside the schedule; {} answers checked, {} of them inexact, {} contradictions; {} unanswered; \
         an exact answer to be had in {:.0} % of all seconds, {:.1} of {PARTITIONS} partitions missing in the mean; longest time \
         without an exact answer {:.1} s, from second {}; why, by samples: {:?}; all exact {:.1} s after the last fault; refused {:?}; {} processes \
         ended by themselves; logs are in {}",
        plan.seed,
        plan.length,
        plan.per_second,
        done.kills,
        done.stops,
        done.kafka_restarts,
        done.s3_restarts,
        done.runs_asked,
        figures.answers,
        figures.inexact,
        figures.contradictions,
        figures.unanswered,
        figures.availability() * 100.0,
        figures.missing_each(),
        figures.longest_without_exact.as_secs_f64(),
        figures.longest_began.as_secs(),
        figures.reasons,
        recovery.as_secs_f64(),
        figures.refused,
        done.ended.len(),
        logs.display(),
    );
    figures.assert_consistent();
    assert!(
        done.ended.is_empty(),
        "{} processes ended that nobody had killed:\n{}",
        done.ended.len(),
        done.ended.join("\n")
    );
    feed.extend(&mut oracle, &ends, RECOVERY).expect("the log is there");
    let equal = |moment: &str| {
        for http in &apis {
            for (index, question) in oracle.questions().iter().enumerate() {
                let answer = http.query_at_least(&question.sql, &ends);
                assert_eq!(oracle.contradiction(index, &answer), None, "{moment}");
            }
        }
    };
    equal("at the end");
    wait_landed(&apis[0], orders::TABLE, &ends);
    run_batch(&apis[0]);
    equal("and recomputed");
    let landed = master::read(cluster.batch.site(), orders::TABLE);
    landed.assert_each_offset_once();
    assert_eq!(landed.rows.len() as i64, ends.values().sum::<i64>());
}

/// Hits one process or server after the other until the time is over.
fn torment(plan: &Plan, cluster: &mut Cluster, kafka: &KafkaServer, s3: &S3Server) -> Done {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut done = Done::default();
    let began = Instant::now();
    let mut thaw_at: Vec<(Instant, Target)> = Vec::new();
    let every = plan.length / (plan.server_restarts + 1);
    let mut next_server = every;
    while began.elapsed() < plan.length {
        std::thread::sleep(Duration::from_millis(random.random_range(CALM_MS)));
        let now = Instant::now();
        thaw_at.retain(|(at, target)| {
            let due = now >= *at;
            let member = target.of(cluster);
            if due && member.is_frozen() {
                member.thaw();
            }
            !due
        });
        for member in cluster.members() {
            done.ended.extend(member.supervise());
        }
        if began.elapsed() >= next_server {
            next_server += every;
            if done.kafka_restarts <= done.s3_restarts {
                done.kafka_restarts += 1;
                kafka.stop();
                std::thread::sleep(Duration::from_millis(random.random_range(CALM_MS)));
                kafka.restart().expect("Kafka comes back");
            } else {
                done.s3_restarts += 1;
                s3.stop();
                std::thread::sleep(Duration::from_millis(random.random_range(CALM_MS)));
                s3.restart().expect("the store comes back");
            }
            continue;
        }
        let target = Target::random(&mut random);
        match random.random_range(0..10) {
            0..5 => {
                target.of(cluster).kill9();
                done.kills += 1;
            }
            5..8 if !target.of(cluster).is_frozen() => {
                target.of(cluster).freeze();
                thaw_at.push((now + Duration::from_millis(random.random_range(STILL_MS)), target));
                done.stops += 1;
            }
            _ => {
                let http = cluster.http().within(Duration::from_secs(2));
                let asked = http.try_post("/v1/batch/runs", &json!({}));
                done.runs_asked += u32::from(asked.is_some_and(|reply| reply.status == 202));
            }
        }
    }
    done
}

/// Servers of the soak's own, which it stops and starts; they end with this process.
fn servers(test: &str) -> Option<(&'static KafkaServer, &'static S3Server)> {
    let started = KafkaServer::provision_and_start().and_then(|kafka| Ok((kafka, S3Server::provision_and_start()?)));
    match started {
        Ok((kafka, s3)) => Some((Box::leak(Box::new(kafka)), Box::leak(Box::new(s3)))),
        Err(reason) => {
            servers::skip(&format!("{test}: {reason}"));
            None
        }
    }
}

#[test]
fn a_short_soak() {
    let Some((kafka, s3)) = servers("a_short_soak") else {
        return;
    };
    let _gate = gate::heavy();
    let plan = Plan {
        length: Duration::from_secs(30),
        seed: 1,
        per_second: 1_500,
        server_restarts: 2,
    };
    soak(&plan, kafka, s3);
}

/// `tests/soak`: as long as `ANABRANCH_SOAK_MINUTES` says, from `ANABRANCH_SOAK_SEED`.
#[test]
#[ignore = "takes minutes; run `tests/soak`"]
fn a_long_soak() {
    let Some((kafka, s3)) = servers("a_long_soak") else {
        return;
    };
    let number = |name: &str, default: u64| {
        let given = std::env::var(name).ok();
        given.map_or(default, |text| text.parse().expect("a number was given"))
    };
    let minutes = number("ANABRANCH_SOAK_MINUTES", 10);
    let plan = Plan {
        length: Duration::from_secs(60 * minutes),
        seed: number("ANABRANCH_SOAK_SEED", 1),
        per_second: u32::try_from(number("ANABRANCH_SOAK_EVENTS_PER_SECOND", 2_000)).expect("a rate is small"),
        server_restarts: u32::try_from(minutes).expect("minutes are few") * 2,
    };
    soak(&plan, kafka, s3);
}
