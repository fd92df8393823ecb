use std::collections::BTreeMap;
use std::sync::Arc;

use crate::channel::Inbox;
use crate::executor::{BoltTask, SpoutTask};
use crate::grouping::Kind;
use crate::ledger::Ledger;
use crate::output::{DEFAULT_STREAM, Output, SpoutOutput, Stream, Subscriber};
use crate::stats::Counters;
use crate::stepped::SteppedTopology;
use crate::topology::{Component, Topology};
use crate::{Bolt, Error, Grouping, Spout, TaskContext, Tuple};

const DEFAULT_CHANNEL_CAPACITY: usize = 8;
const DEFAULT_MAX_PENDING: usize = 65_536;

/// Declares spouts, bolts and who subscribes to whom. A bolt can only subscribe to what was declared before it, so there
/// are no cycles.
pub struct TopologyBuilder<T> {
    name: String,
    channel_capacity: usize,
    components: Vec<Declared<T>>,
}

struct Declared<T> {
    name: Arc<str>,
    streams: Vec<Arc<str>>,
    body: Body<T>,
}

enum Body<T> {
    Spout {
        max_pending: usize,
        make: Box<dyn FnOnce() -> Box<dyn Spout<T>>>,
    },
    Bolt {
        tasks: usize,
        make: Box<dyn FnMut(usize) -> Box<dyn Bolt<T>>>,
        inputs: Vec<Input<T>>,
    },
}

struct Input<T> {
    upstream: String,
    stream: String,
    grouping: Kind<T>,
}

/// What can still be said about a spout.
pub struct SpoutDeclaration<'a, T>(&'a mut Declared<T>);

/// What can still be said about a bolt.
pub struct BoltDeclaration<'a, T>(&'a mut Declared<T>);

impl<T: Clone + Send + 'static> TopologyBuilder<T> {
    /// `name` names the topology's threads and errors.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            channel_capacity: DEFAULT_CHANNEL_CAPACITY,
            components: Vec::new(),
        }
    }

    /// Tuples each task's inbox holds; at least 1, default 8.
    pub fn channel_capacity(mut self, tuples: usize) -> Self {
        self.channel_capacity = tuples;
        self
    }

    /// Adds a spout with one task.
    pub fn spout<S: Spout<T>>(&mut self, name: &str, make: impl FnOnce() -> S + 'static) -> SpoutDeclaration<'_, T> {
        let make = Box::new(move || Box::new(make()) as Box<dyn Spout<T>>);
        SpoutDeclaration(self.declare(
            name,
            Body::Spout {
                max_pending: DEFAULT_MAX_PENDING,
                make,
            },
        ))
    }

    /// Adds a bolt with `tasks` tasks; `make` is called with each task's number.
    pub fn bolt<B: Bolt<T>>(
        &mut self,
        name: &str,
        tasks: usize,
        mut make: impl FnMut(usize) -> B + 'static,
    ) -> BoltDeclaration<'_, T> {
        let make = Box::new(move |task| Box::new(make(task)) as Box<dyn Bolt<T>>);
        BoltDeclaration(self.declare(
            name,
            Body::Bolt {
                tasks,
                make,
                inputs: Vec::new(),
            },
        ))
    }

    fn declare(&mut self, name: &str, body: Body<T>) -> &mut Declared<T> {
        self.components.push(Declared {
            name: name.into(),
            streams: vec![DEFAULT_STREAM.into()],
            body,
        });
        self.components.last_mut().expect("a component was just pushed")
    }

    /// Checks the graph and starts a thread per task.
    ///
    /// # Errors
    /// When the graph is wrong or a thread cannot be started.
    pub fn start(self) -> Result<Topology, Error> {
        let Assembled {
            name,
            components,
            spouts,
            bolts,
        } = self.assemble()?;
        Topology::start(name, components, spouts, bolts)
    }

    /// Checks the graph and makes its tasks without threads: whoever calls [`SteppedTopology::step`] says which task works
    /// next. That is what a simulation needs, in which nothing may depend on the scheduler.
    ///
    /// # Errors
    /// When the graph is wrong, or a task cannot be prepared.
    pub fn start_stepped(self) -> Result<SteppedTopology<T>, Error> {
        let Assembled {
            name, spouts, bolts, ..
        } = self.assemble()?;
        SteppedTopology::start(name, spouts, bolts)
    }

    fn assemble(self) -> Result<Assembled<T>, Error> {
        self.check()?;
        let name: Arc<str> = self.name.into();
        let wiring = Wiring::new(&self.components, self.channel_capacity);
        let mut components = Vec::new();
        let (mut spouts, mut bolts) = (Vec::new(), Vec::new());
        for declared in self.components {
            let counters = Arc::clone(&wiring.counters[&declared.name]);
            let component = Arc::clone(&declared.name);
            let context = |task, tasks| TaskContext {
                topology: name.to_string(),
                component: component.to_string(),
                task,
                tasks,
            };
            match declared.body {
                Body::Spout { max_pending, make } => {
                    let ledger = Arc::new(Ledger::new());
                    let output = wiring.output(&declared.name, &declared.streams, 0);
                    spouts.push(SpoutTask {
                        context: context(0, 1),
                        spout: make(),
                        output: SpoutOutput {
                            output,
                            ledger: Arc::clone(&ledger),
                        },
                        ledger: Arc::clone(&ledger),
                        max_pending,
                        counters: Arc::clone(&counters),
                    });
                    components.push(Component::spout(component, counters, ledger));
                }
                Body::Bolt { tasks, mut make, .. } => {
                    let inboxes = &wiring.inboxes[&declared.name];
                    for (task, inbox) in inboxes.iter().enumerate() {
                        bolts.push(BoltTask {
                            context: context(task, tasks),
                            bolt: make(task),
                            inbox: Arc::clone(inbox),
                            output: wiring.output(&declared.name, &declared.streams, task),
                            counters: Arc::clone(&counters),
                        });
                    }
                    components.push(Component::bolt(component, counters, inboxes));
                }
            }
        }
        Ok(Assembled {
            name,
            components,
            spouts,
            bolts,
        })
    }

    fn check(&self) -> Result<(), Error> {
        let topology = || self.name.clone();
        if self.channel_capacity == 0 {
            return Err(Error::Zero {
                topology: topology(),
                setting: "channel_capacity",
            });
        }
        let mut streams: BTreeMap<&str, &[Arc<str>]> = BTreeMap::new();
        for declared in &self.components {
            let component = || declared.name.to_string();
            if streams.contains_key(&*declared.name) {
                return Err(Error::DuplicateComponent {
                    topology: topology(),
                    component: component(),
                });
            }
            match &declared.body {
                Body::Spout { max_pending: 0, .. } => {
                    return Err(Error::Zero {
                        topology: topology(),
                        setting: "max_pending",
                    });
                }
                Body::Spout { .. } => {}
                Body::Bolt { tasks: 0, .. } => {
                    return Err(Error::Zero {
                        topology: topology(),
                        setting: "the number of tasks",
                    });
                }
                Body::Bolt { inputs, .. } => {
                    if inputs.is_empty() {
                        return Err(Error::Unconnected {
                            topology: topology(),
                            component: component(),
                        });
                    }
                    for input in inputs {
                        let upstream = input.upstream.clone();
                        let Some(known) = streams.get(&*upstream) else {
                            return Err(Error::UnknownComponent {
                                topology: topology(),
                                component: component(),
                                upstream,
                            });
                        };
                        if !known.iter().any(|stream| **stream == *input.stream) {
                            let stream = input.stream.clone();
                            return Err(Error::UnknownStream {
                                topology: topology(),
                                component: component(),
                                upstream,
                                stream,
                            });
                        }
                    }
                }
            }
            streams.insert(&declared.name, &declared.streams);
        }
        Ok(())
    }
}

impl<T> SpoutDeclaration<'_, T> {
    /// Declares a further stream.
    pub fn stream(self, name: &str) -> Self {
        self.0.streams.push(name.into());
        self
    }

    /// Messages that may be open before the spout is not asked for more; default 65,536.
    pub fn max_pending(self, messages: usize) -> Self {
        if let Body::Spout { max_pending, .. } = &mut self.0.body {
            *max_pending = messages;
        }
        self
    }
}

impl<T> BoltDeclaration<'_, T> {
    /// Declares a further stream.
    pub fn stream(self, name: &str) -> Self {
        self.0.streams.push(name.into());
        self
    }

    /// Subscribes to the default stream of `upstream`.
    pub fn subscribe(self, upstream: &str, grouping: Grouping<T>) -> Self {
        self.subscribe_to(upstream, DEFAULT_STREAM, grouping)
    }

    /// Subscribes to a named stream of `upstream`.
    pub fn subscribe_to(self, upstream: &str, stream: &str, grouping: Grouping<T>) -> Self {
        if let Body::Bolt { inputs, .. } = &mut self.0.body {
            inputs.push(Input {
                upstream: upstream.to_owned(),
                stream: stream.to_owned(),
                grouping: grouping.0,
            });
        }
        self
    }
}

/// The tasks of a checked graph.
struct Assembled<T> {
    name: Arc<str>,
    components: Vec<Component>,
    spouts: Vec<SpoutTask<T>>,
    bolts: Vec<BoltTask<T>>,
}

/// One inbox per task.
type Inboxes<T> = Vec<Arc<Inbox<Tuple<T>>>>;
/// A component, and how its tasks share what it subscribes to.
type Subscription<T> = (Arc<str>, Kind<T>);

/// Inboxes and subscriptions of a checked graph.
struct Wiring<T> {
    inboxes: BTreeMap<Arc<str>, Inboxes<T>>,
    counters: BTreeMap<Arc<str>, Arc<Counters>>,
    /// (upstream, stream) → subscribers.
    subscriptions: BTreeMap<(String, String), Vec<Subscription<T>>>,
}

impl<T: Clone> Wiring<T> {
    fn new(components: &[Declared<T>], capacity: usize) -> Self {
        let mut wiring = Self {
            inboxes: BTreeMap::new(),
            counters: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
        };
        for declared in components {
            wiring.counters.insert(Arc::clone(&declared.name), Arc::default());
            let Body::Bolt { tasks, inputs, .. } = &declared.body else {
                continue;
            };
            let inboxes = (0..*tasks).map(|_| Inbox::new(capacity)).collect();
            wiring.inboxes.insert(Arc::clone(&declared.name), inboxes);
            for input in inputs {
                let subscribers = wiring
                    .subscriptions
                    .entry((input.upstream.clone(), input.stream.clone()))
                    .or_default();
                subscribers.push((Arc::clone(&declared.name), input.grouping.clone()));
            }
        }
        wiring
    }

    fn output(&self, component: &Arc<str>, streams: &[Arc<str>], task: usize) -> Output<T> {
        let streams = streams
            .iter()
            .map(|stream| {
                let subscribers = self.subscriptions.get(&(component.to_string(), stream.to_string()));
                let subscribers = subscribers
                    .into_iter()
                    .flatten()
                    .map(|(subscriber, grouping)| Subscriber {
                        component: Arc::clone(subscriber),
                        grouping: grouping.clone(),
                        turn: task,
                        inboxes: self.inboxes[subscriber].iter().map(Inbox::sender).collect(),
                        counters: Arc::clone(&self.counters[subscriber]),
                    });
                Stream {
                    name: Arc::clone(stream),
                    subscribers: subscribers.collect(),
                }
            })
            .collect();
        Output {
            component: Arc::clone(component),
            task,
            counters: Arc::clone(&self.counters[component]),
            streams,
        }
    }
}
