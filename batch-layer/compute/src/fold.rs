use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anabranch_view::View;
use arrow::array::RecordBatch;
use rayon::{Scope, ThreadPool, ThreadPoolBuilder};

use crate::decode::{OpenFile, RowGroup};
use crate::lane::{Lane, LaneState};
use crate::reduce::Reducer;
use crate::spill::SpillArea;
use crate::{Control, Error, InputError, InputFile, Plan, ViewState};

/// Settings of a [`Kernel`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads of the pool; 0 takes one per core.
    pub threads: usize,
    /// Bytes of partial state to hold before it spills.
    pub memory_budget_bytes: u64,
    /// Where spill folders go; `None` takes the system's folder for temporary files.
    pub spill_dir: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 0,
            memory_budget_bytes: 2 << 30,
            spill_dir: None,
        }
    }
}

/// The Rayon pool, the spill area and the memory budget that folds run with. One per process is enough; folds that run at
/// the same time share the pool, and each has the budget to itself.
pub struct Kernel {
    pool: ThreadPool,
    spill: SpillArea,
    memory_budget_bytes: usize,
}

impl Kernel {
    /// Starts the threads, and removes spill files that a killed process left behind.
    ///
    /// # Errors
    /// When threads or the spill folder cannot be created.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|index| format!("anabranch-compute-{index}"))
            .build()?;
        let spill_dir = options.spill_dir.clone().unwrap_or_else(std::env::temp_dir);
        Ok(Self {
            pool,
            spill: SpillArea::open(&spill_dir)?,
            memory_budget_bytes: usize::try_from(options.memory_budget_bytes).unwrap_or(usize::MAX),
        })
    }

    /// Threads of the pool.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Folds every row of `input` into every view of the plan. Blocks the calling thread, which feeds the pool and waits on
    /// `input`; call it from a thread that may block.
    ///
    /// Files must come in ascending path order. Returns the views' states in the plan's order; drain one fold's results
    /// before the next fold starts, since states may still lie in memory.
    ///
    /// # Errors
    /// The first error of input, decoding, a view or the spill area; [`Error::Cancelled`] after [`Control::cancel`].
    pub fn fold<I>(&self, plan: &Plan, input: I, control: &Control) -> Result<Vec<ViewState>, Error>
    where
        I: IntoIterator<Item = Result<InputFile, InputError>>,
    {
        // Half of the budget for folding; merging needs the other half.
        let limit_bytes = self.memory_budget_bytes / 2 / plan.lanes();
        let slots = (0..plan.lanes())
            .map(|_| {
                Ok(Slot {
                    queue: Mutex::default(),
                    lane: Mutex::new(Lane::new(plan, limit_bytes, self.threads())?),
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let fold = Fold {
            slots,
            spill: &self.spill,
            control,
            backlog: Backlog {
                limit: 2 * plan.lanes().max(self.threads()),
                ..Backlog::default()
            },
            failure: Mutex::new(None),
        };
        let fed = self.pool.in_place_scope(|scope| fold.feed(scope, plan, input));
        fold.outcome()?;
        fed?;
        control.check()?;
        self.reduce(plan, fold, control)
    }

    /// Merges state of one view that comes in any order, groups repeated, within the memory budget.
    ///
    /// # Errors
    /// The first error of input, the view or the spill area; [`Error::Cancelled`] after [`Control::cancel`].
    pub fn merge<I>(&self, view: &View, states: I, control: &Control) -> Result<ViewState, Error>
    where
        I: IntoIterator<Item = Result<RecordBatch, InputError>>,
    {
        let mut lane = LaneState {
            spilled: Vec::new(),
            rest: view.aggregator().map_err(Error::view(view))?,
        };
        for state in states {
            control.check()?;
            let state = state.map_err(|InputError { kind, source }| Error::Input { kind, source })?;
            lane.merge(view, &state, self.memory_budget_bytes / 2, &self.spill, control)?;
        }
        let runs = self.reducer(control).sorted_runs(view, vec![lane])?;
        Ok(ViewState::new(view.clone(), 0, runs))
    }

    fn reducer<'a>(&'a self, control: &'a Control) -> Reducer<'a> {
        Reducer {
            pool: &self.pool,
            spill: &self.spill,
            memory_budget_bytes: self.memory_budget_bytes,
            control,
        }
    }

    fn reduce(&self, plan: &Plan, fold: Fold<'_>, control: &Control) -> Result<Vec<ViewState>, Error> {
        let mut rows = 0;
        let mut per_view: Vec<Vec<_>> = plan.views().iter().map(|_| Vec::new()).collect();
        for slot in fold.slots {
            let lane = slot.lane.into_inner().unwrap_or_else(PoisonError::into_inner);
            rows += lane.rows();
            for (states, state) in per_view.iter_mut().zip(lane.finish()) {
                states.push(state);
            }
        }
        let reducer = self.reducer(control);
        let results = plan.views().iter().zip(per_view).map(|(view, lanes)| {
            let runs = reducer.sorted_runs(view, lanes)?;
            Ok(ViewState::new(view.clone(), rows, runs))
        });
        results.collect()
    }
}

/// One fold in progress.
struct Fold<'a> {
    slots: Vec<Slot>,
    spill: &'a SpillArea,
    control: &'a Control,
    backlog: Backlog,
    failure: Mutex<Option<Error>>,
}

/// A lane and the row groups that wait for it. At most one task works on a lane at a time, so its order is kept.
struct Slot {
    queue: Mutex<Queue>,
    lane: Mutex<Lane>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<RowGroup>,
    draining: bool,
}

impl Fold<'_> {
    /// Hands row groups to the lane that has the fewest rows so far (the first of equals): even, and decided by the files
    /// alone.
    fn feed<'scope, I>(&'scope self, scope: &Scope<'scope>, plan: &Plan, input: I) -> Result<(), Error>
    where
        I: IntoIterator<Item = Result<InputFile, InputError>>,
    {
        let mut lane_rows = vec![0u64; self.slots.len()];
        let mut previous: Option<String> = None;
        for file in input {
            self.control.check()?;
            if self.failed() {
                return Ok(());
            }
            let file = file.map_err(|InputError { kind, source }| Error::Input { kind, source })?;
            if let Some(previous) = previous.replace(file.path.clone())
                && previous >= file.path
            {
                return Err(Error::OutOfOrder {
                    path: file.path,
                    previous,
                });
            }
            let file = OpenFile::open(file, plan)?;
            for group in file.row_groups() {
                let least = (0..lane_rows.len())
                    .min_by_key(|lane| lane_rows[*lane])
                    .expect("a plan has a lane");
                lane_rows[least] += group.rows;
                self.backlog.enter();
                self.enqueue(scope, least, group);
            }
        }
        Ok(())
    }

    fn enqueue<'scope>(&'scope self, scope: &Scope<'scope>, lane: usize, group: RowGroup) {
        let slot = &self.slots[lane];
        let mut queue = lock(&slot.queue);
        queue.waiting.push_back(group);
        if !std::mem::replace(&mut queue.draining, true) {
            scope.spawn(move |_| self.drain(slot));
        }
    }

    /// Folds a lane's row groups until none waits.
    fn drain(&self, slot: &Slot) {
        let mut lane = lock(&slot.lane);
        loop {
            let group = {
                let mut queue = lock(&slot.queue);
                match queue.waiting.pop_front() {
                    Some(group) => group,
                    None => {
                        queue.draining = false;
                        return;
                    }
                }
            };
            if !self.failed() {
                // A panic must not strand the feeder, which waits for the backlog to shrink.
                let folded = catch_unwind(AssertUnwindSafe(|| lane.fold(&group, self.spill, self.control)));
                if let Err(error) = folded.unwrap_or_else(|panic| Err(Error::Panicked(panic_message(&*panic)))) {
                    lock(&self.failure).get_or_insert(error);
                }
            }
            drop(group);
            self.backlog.leave();
        }
    }

    fn failed(&self) -> bool {
        lock(&self.failure).is_some()
    }

    fn outcome(&self) -> Result<(), Error> {
        lock(&self.failure).take().map_or(Ok(()), Err)
    }
}

/// Bounds the row groups that wait, and so the files held in memory.
#[derive(Default)]
struct Backlog {
    limit: usize,
    waiting: Mutex<usize>,
    left: Condvar,
}

impl Backlog {
    fn enter(&self) {
        let waiting = lock(&self.waiting);
        let mut waiting = self
            .left
            .wait_while(waiting, |waiting| *waiting >= self.limit)
            .unwrap_or_else(PoisonError::into_inner);
        *waiting += 1;
    }

    fn leave(&self) {
        *lock(&self.waiting) -= 1;
        self.left.notify_one();
    }
}

/// A mutex of this module is never held across code that may panic, so its contents are whole even if poisoned.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests;
