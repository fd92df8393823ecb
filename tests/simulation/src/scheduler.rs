//! A deterministic executor on a virtual clock: one thread, tasks polled in seeded order, time that passes only when
//! nobody has anything to do.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::ThreadId;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::random::Random;

/// A simulated process, one incarnation of it. Zero is the world itself, which never crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u32);

/// What the simulation itself does, rather than a process of it.
pub const WORLD: ProcessId = ProcessId(0);

/// Microseconds since the beginning of the run.
pub type Micros = u64;

type TaskId = u64;

/// So many polls at one moment of virtual time mean that tasks wake each other without end.
const POLLS_AT_ONCE: u64 = 2_000_000;

pub struct Scheduler {
    state: Mutex<State>,
    ready: Arc<Ready>,
    /// Work that would leave the thread is being run; the store answers at once meanwhile.
    offloaded: AtomicU32,
    /// No task is polled any more.
    stopped: AtomicBool,
}

struct State {
    now: Micros,
    sequence: u64,
    timers: BinaryHeap<Reverse<Timer>>,
    tasks: HashMap<TaskId, Task>,
    random: Random,
    paused: HashSet<ProcessId>,
    dead: HashSet<ProcessId>,
    /// Ready tasks of paused processes.
    parked: BTreeMap<ProcessId, Vec<TaskId>>,
    hash: u64,
}

struct Task {
    process: ProcessId,
    /// Away while it is polled.
    future: Option<BoxFuture<'static, ()>>,
    waker: Waker,
}

struct Timer {
    at: Micros,
    sequence: u64,
    action: Action,
}

enum Action {
    Wake(Waker),
    Run(Box<dyn FnOnce() + Send>),
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// Tasks that were woken.
struct Ready {
    thread: ThreadId,
    tasks: Mutex<Vec<TaskId>>,
    foreign: AtomicBool,
}

struct TaskWaker {
    task: TaskId,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if std::thread::current().id() != self.ready.thread {
            self.ready.foreign.store(true, Ordering::SeqCst);
        }
        let mut tasks = self.ready.tasks.lock();
        if !tasks.contains(&self.task) {
            tasks.push(self.task);
        }
    }
}

impl Scheduler {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                now: 0,
                sequence: 0,
                timers: BinaryHeap::new(),
                tasks: HashMap::new(),
                random: Random::new(seed),
                paused: HashSet::new(),
                dead: HashSet::new(),
                parked: BTreeMap::new(),
                hash: 0xcbf2_9ce4_8422_2325,
            }),
            ready: Arc::new(Ready {
                thread: std::thread::current().id(),
                tasks: Mutex::default(),
                foreign: AtomicBool::new(false),
            }),
            offloaded: AtomicU32::new(0),
            stopped: AtomicBool::new(false),
        })
    }

    pub fn now(&self) -> Micros {
        self.state.lock().now
    }

    /// Draws from the run's only source of chance.
    pub fn draw<R>(&self, draw: impl FnOnce(&mut Random) -> R) -> R {
        draw(&mut self.state.lock().random)
    }

    /// Takes what happened into the run's hash.
    pub fn trace(&self, what: &[u8]) {
        let mut state = self.state.lock();
        let now = state.now;
        let mut hash = state.hash;
        let mut take = |word: u64| hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        let (words, rest) = what.as_chunks::<8>();
        for word in words {
            take(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        take(u64::from_le_bytes(last));
        take(what.len() as u64);
        take(now);
        state.hash = hash;
    }

    /// Over everything that was traced, and when.
    pub fn hash(&self) -> u64 {
        self.state.lock().hash
    }

    pub fn spawn(&self, process: ProcessId, future: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.state.lock();
        if state.dead.contains(&process) || self.stopped.load(Ordering::SeqCst) {
            drop(state);
            drop(future);
            return;
        }
        state.sequence += 1;
        let task = state.sequence;
        let ready = Arc::clone(&self.ready);
        let waker = Waker::from(Arc::new(TaskWaker { task, ready }));
        waker.wake_by_ref();
        let future: Option<BoxFuture<'static, ()>> = Some(Box::pin(future));
        state.tasks.insert(task, Task { process, future, waker });
    }

    /// Runs `action` when `wait` has passed, whatever becomes of whoever asked for it.
    pub fn after(&self, wait: Micros, action: impl FnOnce() + Send + 'static) {
        self.timer(wait, Action::Run(Box::new(action)));
    }

    fn timer(&self, wait: Micros, action: Action) {
        let mut state = self.state.lock();
        state.sequence += 1;
        let timer = Timer {
            at: state.now.saturating_add(wait),
            sequence: state.sequence,
            action,
        };
        state.timers.push(Reverse(timer));
    }

    pub fn sleep(self: &Arc<Self>, wait: Duration) -> Sleep {
        self.sleep_micros(u64::try_from(wait.as_micros()).unwrap_or(Micros::MAX))
    }

    pub fn sleep_micros(self: &Arc<Self>, wait: Micros) -> Sleep {
        Sleep {
            scheduler: Arc::clone(self),
            wait,
            until: None,
        }
    }

    /// The process's tasks are not polled until [`resume`](Self::resume): it does not notice, but the world goes on.
    pub fn pause(&self, process: ProcessId) {
        self.state.lock().paused.insert(process);
    }

    pub fn resume(&self, process: ProcessId) {
        let parked = {
            let mut state = self.state.lock();
            state.paused.remove(&process);
            state.parked.remove(&process).unwrap_or_default()
        };
        let mut ready = self.ready.tasks.lock();
        for task in parked {
            if !ready.contains(&task) {
                ready.push(task);
            }
        }
    }

    pub fn is_paused(&self, process: ProcessId) -> bool {
        self.state.lock().paused.contains(&process)
    }

    pub fn is_dead(&self, process: ProcessId) -> bool {
        self.state.lock().dead.contains(&process)
    }

    /// Drops every task of the process wherever it is, as `kill -9` would. A task that is being polled right now is
    /// dropped when it comes back.
    pub fn kill(&self, process: ProcessId) {
        let dropped: Vec<Task> = {
            let mut state = self.state.lock();
            state.dead.insert(process);
            state.paused.remove(&process);
            state.parked.remove(&process);
            let mut doomed: Vec<TaskId> = state
                .tasks
                .iter()
                .filter(|(_, task)| task.process == process && task.future.is_some())
                .map(|(id, _)| *id)
                .collect();
            doomed.sort_unstable();
            doomed.iter().filter_map(|id| state.tasks.remove(id)).collect()
        };
        // Not under the lock: dropping a future wakes and frees others.
        for task in dropped {
            drop(task);
        }
    }

    /// Whether requests are to be answered at once, because whoever makes them cannot wait on the virtual clock. The Delta
    /// kernel reads ahead on a thread of its own, and goes on doing so for a moment after nobody wants to know any more.
    pub fn is_offloaded(&self) -> bool {
        self.offloaded.load(Ordering::SeqCst) > 0 || std::thread::current().id() != self.ready.thread
    }

    pub fn offload(&self, work: &mut dyn FnMut()) {
        self.offloaded.fetch_add(1, Ordering::SeqCst);
        work();
        self.offloaded.fetch_sub(1, Ordering::SeqCst);
    }

    /// Runs until `done`, or until `horizon`; says whether it was done.
    ///
    /// # Panics
    /// When something outside of the simulation woke a task: it would not run the same way twice. When tasks wake each other
    /// without end, so that no time passes.
    pub fn run(&self, horizon: Micros, done: impl Fn() -> bool) -> bool {
        let mut polls = 0;
        while !done() {
            assert!(
                !self.ready.foreign.load(Ordering::SeqCst),
                "another thread woke a task: time, chance and threads must come from the environment"
            );
            if let Some((id, mut future, waker)) = self.next_ready() {
                let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
                self.put_back(id, future, poll);
                polls += 1;
                assert!(
                    polls < POLLS_AT_ONCE,
                    "tasks wake each other without end, and no time passes"
                );
                continue;
            }
            polls = 0;
            let action = {
                let mut state = self.state.lock();
                match state.timers.pop() {
                    Some(Reverse(timer)) if timer.at <= horizon => {
                        state.now = state.now.max(timer.at);
                        timer.action
                    }
                    _ => return false,
                }
            };
            match action {
                Action::Wake(waker) => waker.wake(),
                Action::Run(action) => action(),
            }
        }
        true
    }

    fn next_ready(&self) -> Option<(TaskId, BoxFuture<'static, ()>, Waker)> {
        loop {
            let mut state = self.state.lock();
            let task = {
                let mut ready = self.ready.tasks.lock();
                if ready.is_empty() {
                    return None;
                }
                let index = state.random.index(ready.len());
                ready.swap_remove(index)
            };
            let Some(process) = state.tasks.get(&task).map(|task| task.process) else {
                continue;
            };
            if state.paused.contains(&process) {
                state.parked.entry(process).or_default().push(task);
                continue;
            }
            let found = state.tasks.get_mut(&task).expect("it was found above");
            if let Some(future) = found.future.take() {
                return Some((task, future, found.waker.clone()));
            }
        }
    }

    fn put_back(&self, id: TaskId, future: BoxFuture<'static, ()>, poll: Poll<()>) {
        let mut state = self.state.lock();
        let Some(process) = state.tasks.get(&id).map(|task| task.process) else {
            return;
        };
        if poll.is_ready() || state.dead.contains(&process) {
            state.tasks.remove(&id);
            drop(state);
            drop(future);
        } else if let Some(task) = state.tasks.get_mut(&id) {
            task.future = Some(future);
        }
    }

    /// Drops all tasks and timers: they refer to the world, which refers to them.
    pub fn clear(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let (tasks, timers) = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.tasks), std::mem::take(&mut state.timers))
        };
        drop(tasks);
        drop(timers);
    }
}

/// Ends when its time has come on the virtual clock.
pub struct Sleep {
    scheduler: Arc<Scheduler>,
    wait: Micros,
    /// When it ends, and who was told to be woken then.
    until: Option<(Micros, Waker)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let now = self.scheduler.now();
        let (until, known) = match &self.until {
            Some((until, _)) if now >= *until => return Poll::Ready(()),
            Some((until, waker)) => (*until, waker.will_wake(context.waker())),
            None => (now.saturating_add(self.wait), false),
        };
        if !known {
            let waker = context.waker().clone();
            self.scheduler.timer(until - now, Action::Wake(waker.clone()));
            self.until = Some((until, waker));
        }
        Poll::Pending
    }
}
