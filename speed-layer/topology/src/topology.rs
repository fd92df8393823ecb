use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::{Condvar, Mutex};

use crate::channel::Inbox;
use crate::executor::{BoltTask, SpoutTask};
use crate::ledger::Ledger;
use crate::stats::{ComponentKind, Counters};
use crate::{BoxError, ComponentStats, EmitError, Error, TaskContext, Tuple};

/// A running topology. Dropping it kills it.
pub struct Topology {
    shared: Arc<Shared>,
}

struct Shared {
    name: Arc<str>,
    control: Control,
    components: Vec<Component>,
    running: Mutex<Running>,
    ended: Condvar,
}

/// What tells tasks to stop.
pub(crate) struct Control {
    pub(crate) stopping: AtomicBool,
}

struct Running {
    spouts: usize,
    bolts: usize,
    outcome: Option<Ending>,
}

/// Why it ended early; the first reason counts.
#[derive(Clone)]
enum Ending {
    Killed,
    Failed {
        component: String,
        task: usize,
        message: String,
    },
    Panicked {
        component: String,
        task: usize,
        message: String,
    },
}

/// A component as its statistics and its end see it.
pub(crate) struct Component {
    name: Arc<str>,
    counters: Arc<Counters>,
    body: ComponentBody,
}

enum ComponentBody {
    Spout(Arc<Ledger>),
    Bolt(Vec<Arc<dyn Queue>>),
}

trait Queue: Send + Sync {
    fn kill(&self);
    fn fill(&self) -> (usize, usize);
}

impl<M: Send> Queue for Inbox<M> {
    fn kill(&self) {
        Inbox::kill(self);
    }
    fn fill(&self) -> (usize, usize) {
        (self.len(), self.capacity())
    }
}

impl Component {
    pub(crate) fn spout(name: Arc<str>, counters: Arc<Counters>, ledger: Arc<Ledger>) -> Self {
        Self {
            name,
            counters,
            body: ComponentBody::Spout(ledger),
        }
    }

    pub(crate) fn bolt<T: Send + 'static>(
        name: Arc<str>,
        counters: Arc<Counters>,
        inboxes: &[Arc<Inbox<Tuple<T>>>],
    ) -> Self {
        let inboxes = inboxes
            .iter()
            .map(|inbox| Arc::clone(inbox) as Arc<dyn Queue>)
            .collect();
        Self {
            name,
            counters,
            body: ComponentBody::Bolt(inboxes),
        }
    }

    fn stats(&self) -> ComponentStats {
        match &self.body {
            ComponentBody::Spout(ledger) => ComponentStats::new(
                &self.name,
                ComponentKind::Spout,
                1,
                &self.counters,
                (0, 0),
                ledger.open(),
            ),
            ComponentBody::Bolt(inboxes) => {
                let fill = inboxes.iter().map(|inbox| inbox.fill()).max().unwrap_or_default();
                ComponentStats::new(&self.name, ComponentKind::Bolt, inboxes.len(), &self.counters, fill, 0)
            }
        }
    }
}

impl Topology {
    pub(crate) fn start<T: Clone + Send + 'static>(
        name: Arc<str>,
        components: Vec<Component>,
        spouts: Vec<SpoutTask<T>>,
        bolts: Vec<BoltTask<T>>,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            name,
            control: Control {
                stopping: AtomicBool::new(false),
            },
            components,
            running: Mutex::new(Running {
                spouts: spouts.len(),
                bolts: bolts.len(),
                outcome: None,
            }),
            ended: Condvar::new(),
        });
        // Dropped on an early return, which kills the tasks that have started already.
        let topology = Self {
            shared: Arc::clone(&shared),
        };
        for task in bolts {
            let context = task.context.clone();
            shared.spawn(ComponentKind::Bolt, &context, move |_| task.run())?;
        }
        for task in spouts {
            let context = task.context.clone();
            shared.spawn(ComponentKind::Spout, &context, move |shared| task.run(&shared.control))?;
        }
        Ok(topology)
    }

    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Asks the spouts to stop; what is in flight is worked off. Returns at once; see [`wait`](Self::wait).
    pub fn stop(&self) {
        self.shared.control.stopping.store(true, Ordering::Release);
    }

    /// Drops what is in flight and ends every task as soon as it next looks.
    pub fn kill(&self) {
        self.shared.end(Ending::Killed);
    }

    /// Blocks until every task has ended.
    ///
    /// # Errors
    /// Names the component that failed or panicked first, or says that the topology was killed.
    pub fn wait(&self) -> Result<(), Error> {
        let mut running = self.shared.running.lock();
        while running.spouts + running.bolts > 0 {
            self.shared.ended.wait(&mut running);
        }
        let topology = self.shared.name.to_string();
        match running.outcome.clone() {
            None => Ok(()),
            Some(Ending::Killed) => Err(Error::Killed { topology }),
            Some(Ending::Failed {
                component,
                task,
                message,
            }) => Err(Error::Failed {
                topology,
                component,
                task,
                message,
            }),
            Some(Ending::Panicked {
                component,
                task,
                message,
            }) => Err(Error::Panicked {
                topology,
                component,
                task,
                message,
            }),
        }
    }

    /// Whether it is ending because a component failed or panicked, or because it was killed. Tasks may still run.
    pub fn has_failed(&self) -> bool {
        self.shared.running.lock().outcome.is_some()
    }

    /// Whether any task still runs.
    pub fn is_running(&self) -> bool {
        let running = self.shared.running.lock();
        running.spouts + running.bolts > 0
    }

    /// What each component has done so far, in the order of their declaration.
    pub fn stats(&self) -> Vec<ComponentStats> {
        self.shared.components.iter().map(Component::stats).collect()
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
        }
    }
}

impl Shared {
    fn spawn(
        self: &Arc<Self>,
        kind: ComponentKind,
        context: &TaskContext,
        body: impl FnOnce(&Self) -> Result<(), BoxError> + Send + 'static,
    ) -> Result<(), Error> {
        let shared = Arc::clone(self);
        let (component, task) = (context.component.clone(), context.task);
        let thread = thread::Builder::new().name(format!("{component}-{task}"));
        let run = move || {
            let result = catch_unwind(AssertUnwindSafe(|| body(&shared)));
            shared.task_ended(kind, component, task, result);
        };
        thread.spawn(run).map(drop).map_err(|source| Error::Thread {
            topology: self.name.to_string(),
            component: context.component.clone(),
            source,
        })
    }

    fn task_ended(
        &self,
        kind: ComponentKind,
        component: String,
        task: usize,
        result: Result<Result<(), BoxError>, Box<dyn Any + Send>>,
    ) {
        match result {
            Ok(Ok(())) => {}
            // A task that could not emit because of a kill is not the reason for it.
            Ok(Err(error)) if matches!(error.downcast_ref(), Some(EmitError::Stopped)) => {}
            Ok(Err(error)) => {
                let message = chain(&*error);
                tracing::error!(topology = %self.name, component, task, error = message, "a task failed; stopping the topology");
                self.end(Ending::Failed {
                    component,
                    task,
                    message,
                });
            }
            Err(panic) => {
                let message = panic_message(&*panic);
                tracing::error!(topology = %self.name, component, task, error = message, "a task panicked; stopping the topology");
                self.end(Ending::Panicked {
                    component,
                    task,
                    message,
                });
            }
        }
        let mut running = self.running.lock();
        match kind {
            ComponentKind::Spout => running.spouts -= 1,
            ComponentKind::Bolt => running.bolts -= 1,
        }
        if running.bolts == 0 {
            // Nobody is left who could end an open tree, so no spout should wait for one.
            self.close_ledgers();
        }
        if running.spouts + running.bolts == 0 {
            self.ended.notify_all();
        }
    }

    fn end(&self, reason: Ending) {
        {
            let mut running = self.running.lock();
            if running.spouts + running.bolts == 0 {
                return;
            }
            running.outcome.get_or_insert(reason);
        }
        self.control.stopping.store(true, Ordering::Release);
        for component in &self.components {
            if let ComponentBody::Bolt(inboxes) = &component.body {
                inboxes.iter().for_each(|inbox| inbox.kill());
            }
        }
        self.close_ledgers();
    }

    fn close_ledgers(&self) {
        for component in &self.components {
            if let ComponentBody::Spout(ledger) = &component.body {
                ledger.close();
            }
        }
    }
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_message = cause.to_string();
        if !message.contains(&cause_message) {
            message.push_str(": ");
            message.push_str(&cause_message);
        }
        source = cause.source();
    }
    message
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(no message)".to_owned())
}

#[cfg(test)]
mod tests;
