//! Workers that claim, land, crash and come back over a store that fails at random, against a model of what must come of
//! it. A failure names its seed.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;

const PARTITIONS: i32 = 2;
const WORKERS: usize = 3;
const STEPS: usize = 60;

/// A worker: its own view of the table, and what it believes to own.
struct Worker {
    dataset: MasterDataset,
    owned: BTreeMap<PartitionId, Owned>,
}

/// What the table must say.
#[derive(Debug, Default, PartialEq)]
struct Model {
    next: BTreeMap<PartitionId, i64>,
    epochs: BTreeMap<PartitionId, i64>,
}

impl Model {
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            next: snapshot.next.iter().map(|(p, o)| (p, o.0)).collect(),
            epochs: snapshot.epochs.clone(),
        }
    }
}

struct Simulation {
    faulty: Arc<Faulty>,
    store: Store,
    workers: Vec<Worker>,
    model: Model,
    random: StdRng,
}

impl Simulation {
    async fn new(seed: u64) -> Self {
        let (faulty, store) = Faulty::store();
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            let dataset = MasterDataset::open(&store, &clicks(), LOG).await.unwrap();
            workers.push(Worker {
                dataset,
                owned: BTreeMap::new(),
            });
        }
        Self {
            faulty,
            store,
            workers,
            model: Model::default(),
            random: StdRng::seed_from_u64(seed),
        }
    }

    async fn step(&mut self) {
        if self.random.random_bool(0.3) {
            let faults = [Fault::Lost, Fault::DoneButUnclear, Fault::Repeated, Fault::Late];
            let fault = *faults.choose(&mut self.random).unwrap();
            self.faulty.next_put("_delta_log", fault);
        }
        let worker = self.random.random_range(0..WORKERS);
        let partition = PartitionId(self.random.random_range(0..PARTITIONS));
        match self.random.random_range(0..10) {
            0..2 => self.claim(worker, partition).await,
            2..8 => self.land(worker, partition).await,
            8 => self.crash_while_landing(worker, partition).await,
            _ => self.restart(worker).await,
        }
    }

    async fn claim(&mut self, worker: usize, partition: PartitionId) {
        let worker = &mut self.workers[worker];
        let owned = worker.dataset.claim(&[claim(partition.0, 0)], "w").await.unwrap()[&partition];
        let epoch = self.model.epochs.entry(partition).or_default();
        *epoch += 1;
        let next = *self.model.next.entry(partition).or_default();
        assert_eq!((owned.epoch, owned.next), (*epoch, Offset(next)));
        worker.owned.insert(partition, owned);
    }

    async fn next_landing(&mut self, worker: usize, partition: PartitionId) -> Option<Landing> {
        let Owned { epoch, next, .. } = *self.workers[worker].owned.get(&partition)?;
        let end = next.0 + self.random.random_range(1..4);
        Some(landing(&self.workers[worker].dataset, partition.0, next.0..end, epoch).await)
    }

    async fn land(&mut self, worker: usize, partition: PartitionId) {
        let Some(landing) = self.next_landing(worker, partition).await else {
            return;
        };
        let advance = landing.partitions[&partition];
        let (epoch, next) = (self.model.epochs[&partition], self.model.next[&partition]);
        let outcome = self.workers[worker].dataset.land(&landing).await.unwrap();
        let worker = &mut self.workers[worker];
        if advance.epoch != epoch {
            let refusal = Refusal::Epoch {
                ours: advance.epoch,
                recorded: epoch,
            };
            assert_eq!(refusals(outcome)[&partition], refusal);
            worker.owned.remove(&partition);
        } else {
            assert_eq!(advance.range.start, Offset(next), "an owner knows where it is");
            assert!(matches!(outcome, LandOutcome::Landed { .. }), "{outcome:?}");
            self.model.next.insert(partition, advance.range.end.0);
            worker.owned.get_mut(&partition).unwrap().next = advance.range.end;
        }
    }

    /// The process dies at any await of a landing. What it had in flight may or may not have arrived.
    async fn crash_while_landing(&mut self, worker: usize, partition: PartitionId) {
        if let Some(landing) = self.next_landing(worker, partition).await {
            let awaits = self.random.random_range(0..4);
            let dataset = self.workers[worker].dataset.clone();
            let mut land = Box::pin(async move { dataset.land(&landing).await });
            for _ in 0..awaits {
                if futures::poll!(&mut land).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        self.faulty.arrive().await;
        self.restart(worker).await;
        let found = self.workers[worker].dataset.snapshot(None).await.unwrap();
        let found = Model::of(&found);
        assert_eq!(found.epochs, self.model.epochs, "a landing never changes who owns what");
        for (partition, next) in &self.model.next {
            assert!(found.next[partition] >= *next, "nothing that was landed is lost");
        }
        self.model = found;
        // Whoever owned the partition in vain finds out by the offsets: it claims again.
        for worker in &mut self.workers {
            let next = &self.model.next;
            worker.owned.retain(|partition, owned| next[partition] == owned.next.0);
        }
    }

    async fn restart(&mut self, worker: usize) {
        let dataset = MasterDataset::open(&self.store, &clicks(), LOG).await.unwrap();
        self.workers[worker] = Worker {
            dataset,
            owned: BTreeMap::new(),
        };
    }

    async fn check(&self) {
        let dataset = MasterDataset::open_existing(&self.store, &clicks())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(Model::of(&dataset.snapshot(None).await.unwrap()), self.model);
        let expected: BTreeMap<_, _> = self
            .model
            .next
            .iter()
            .flat_map(|(partition, next)| (0..*next).map(|offset| ((partition.0, offset), 1)))
            .collect();
        assert_eq!(landed_offsets(&dataset).await, expected, "each offset exactly once");
        for worker in &self.workers {
            assert_eq!(Model::of(&worker.dataset.snapshot(None).await.unwrap()), self.model);
        }
    }
}

#[tokio::test]
async fn whatever_fails_each_offset_is_landed_once() {
    for seed in 0..12 {
        let run = async move {
            let mut simulation = Simulation::new(seed).await;
            for _ in 0..STEPS {
                simulation.step().await;
            }
            simulation.check().await;
            simulation.model.next.values().sum::<i64>()
        };
        let landed = tokio::spawn(run)
            .await
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(landed > 0, "seed {seed} landed nothing");
    }
}
