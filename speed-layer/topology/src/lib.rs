//! A small topology runtime with Storm's model: spouts, bolts, tuples, stream groupings, acking, graceful drain.
//!
//! A *topology* is a graph without cycles. *Spouts* bring tuples in, *bolts* transform them. Each component runs as one or
//! more *tasks*, each on an operating-system thread of its own with one bounded inbox; a *stream grouping* says which task
//! of a subscriber gets a tuple. A full inbox blocks its senders, and so in the end the spout: there is no other flow
//! control, and no queue that can grow.
//!
//! ```text
//!   Spout ──tuple──► [inbox] Bolt ──tuple──► [inbox] Bolt
//!     ▲                        │                       │ ack / fail
//!     └──────ack/fail────── Ledger (one per spout task) ┘
//! ```
//!
//! **Acking.** A spout emits with a [`MessageId`]. Every tuple made on its behalf is *anchored*: it belongs to the tree of
//! that message. The ledger keeps one 64-bit number per tree, the XOR of the ids of all its tuples that were emitted and
//! not yet acked; when it is zero, the tree is complete and [`Spout::ack`] is called. [`Tuple::fail`], or dropping a tuple
//! without acking it, fails the tree at once ([`Spout::fail`]). There are no timeouts: a tree stays open for as long as
//! somebody holds one of its tuples. (Idea: Apache Storm, "Guaranteeing Message Processing".)
//!
//! **Order.** Between one sending task and one receiving task tuples keep their order. Nothing is promised across senders.
//!
//! **Stopping.** [`Topology::stop`] stops the spouts; every bolt then works off its inbox, gets [`Bolt::finish`], and ends,
//! in the order of the graph. [`Topology::kill`] drops what is in flight. An error or a panic in any task kills the
//! topology, and [`Topology::wait`] names the component.
//!
//! This crate knows neither Kafka nor views, has no async code and no global state.
//!
//! # Word count
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::mpsc;
//!
//! use anabranch_topology::{
//!     Activity, Anchor, Bolt, BoxError, Grouping, MessageId, Output, Spout, SpoutOutput, TopologyBuilder, Tuple,
//! };
//!
//! /// One message type per topology.
//! #[derive(Clone)]
//! enum Message {
//!     Line(String),
//!     Word(String),
//! }
//!
//! struct Lines(std::vec::IntoIter<&'static str>, u64);
//!
//! impl Spout<Message> for Lines {
//!     fn next_tuple(&mut self, out: &mut SpoutOutput<Message>) -> Result<Activity, BoxError> {
//!         match self.0.next() {
//!             Some(line) => {
//!                 self.1 += 1;
//!                 out.emit(MessageId(self.1), Message::Line(line.to_owned()))?;
//!                 Ok(Activity::Busy)
//!             }
//!             None => Ok(Activity::Done),
//!         }
//!     }
//! }
//!
//! struct Split;
//!
//! impl Bolt<Message> for Split {
//!     fn execute(&mut self, tuple: Tuple<Message>, out: &mut Output<Message>) -> Result<(), BoxError> {
//!         let (message, anchor) = tuple.into_parts();
//!         if let Message::Line(line) = message {
//!             for word in line.split_whitespace() {
//!                 out.emit(&anchor, Message::Word(word.to_owned()))?;
//!             }
//!         }
//!         anchor.ack();
//!         Ok(())
//!     }
//! }
//!
//! struct Count(BTreeMap<String, u64>, mpsc::SyncSender<(String, u64)>);
//!
//! impl Bolt<Message> for Count {
//!     fn execute(&mut self, tuple: Tuple<Message>, _out: &mut Output<Message>) -> Result<(), BoxError> {
//!         if let Message::Word(word) = tuple.value() {
//!             *self.0.entry(word.clone()).or_default() += 1;
//!         }
//!         tuple.ack();
//!         Ok(())
//!     }
//!
//!     fn finish(&mut self, _out: &mut Output<Message>) -> Result<(), BoxError> {
//!         for entry in std::mem::take(&mut self.0) {
//!             self.1.send(entry)?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! /// Equal words must meet in the same task.
//! fn by_word(message: &Message) -> u64 {
//!     match message {
//!         Message::Line(text) | Message::Word(text) => text.bytes().fold(7, |h, b| h.wrapping_mul(31).wrapping_add(b.into())),
//!     }
//! }
//!
//! let (results, counts) = mpsc::sync_channel(16);
//! let mut topology = TopologyBuilder::new("word-count").channel_capacity(4);
//! topology.spout("lines", || Lines(vec!["to be or", "not to be"].into_iter(), 0));
//! topology.bolt("split", 2, |_| Split).subscribe("lines", Grouping::shuffle());
//! topology.bolt("count", 2, move |_| Count(BTreeMap::new(), results.clone())).subscribe("split", Grouping::fields(by_word));
//! let topology = topology.start().unwrap();
//! topology.wait().unwrap();
//! drop(topology);
//!
//! let counts: BTreeMap<String, u64> = counts.iter().collect();
//! assert_eq!(counts["to"], 2);
//! assert_eq!(counts["not"], 1);
//! # let _ = Anchor::none();
//! ```

mod builder;
mod channel;
mod component;
mod error;
mod executor;
mod grouping;
mod ledger;
mod output;
mod stats;
mod stepped;
mod topology;
mod tuple;

pub use builder::{BoltDeclaration, SpoutDeclaration, TopologyBuilder};
pub use component::{Activity, Bolt, MessageId, Spout, TaskContext};
pub use error::{BoxError, EmitError, Error};
pub use grouping::Grouping;
pub use output::{DEFAULT_STREAM, Output, SpoutOutput};
pub use stats::{ComponentKind, ComponentStats};
pub use stepped::{Step, SteppedTopology};
pub use topology::Topology;
pub use tuple::{Anchor, Tuple};
