//! What catalog queries see of the session that asks them, and what they change in it.

use std::any::Any;
use std::sync::Arc;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use parking_lot::Mutex;

use crate::PgError;
use crate::session::{Lasting, Session};

/// A session's settings and cursors at the moment of a query. Cheap to clone; clones are of the same query.
#[derive(Clone, Debug)]
pub(crate) struct Live(Arc<State>);

#[derive(Debug)]
struct State {
    /// As the query leaves it, so far.
    session: Mutex<Session>,
    changes: Mutex<Vec<Change>>,
    refusal: Mutex<Option<PgError>>,
    cursors: Vec<Cursor>,
}

/// A setting that `set_config` is asked to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) name: String,
    /// `None`: what it was when the connection began.
    pub(crate) value: Option<String>,
    pub(crate) lasting: Lasting,
}

/// A cursor that is open, as `pg_cursors` tells of it.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    pub(crate) name: String,
    pub(crate) statement: String,
    pub(crate) holds: bool,
    pub(crate) binary: bool,
}

impl Live {
    pub(crate) fn new(session: Session, cursors: Vec<Cursor>) -> Self {
        Self(Arc::new(State {
            session: Mutex::new(session),
            changes: Mutex::default(),
            refusal: Mutex::default(),
            cursors,
        }))
    }

    /// What a query sees that runs with these options; `None` while it is only planned.
    pub(super) fn of(options: &ConfigOptions) -> Option<&Self> {
        options.extensions.get()
    }

    pub(super) fn cursors(&self) -> &[Cursor] {
        &self.0.cursors
    }

    /// All settings: name, value, and what RESET makes of it.
    pub(super) fn settings(&self) -> Vec<(String, String, String)> {
        self.0.session.lock().settings()
    }

    /// # Errors
    /// 42704 for a setting that is not known.
    pub(super) fn show(&self, name: &str) -> Result<String, PgError> {
        self.0.session.lock().show(name)
    }

    /// Changes a setting for the rest of the query; the session follows when it is [`taken`](Self::take). Returns the new value.
    ///
    /// # Errors
    /// As `SET`.
    pub(super) fn change(&self, change: Change) -> Result<String, PgError> {
        let mut session = self.0.session.lock();
        session.set(&change.name, change.value.as_deref(), change.lasting)?;
        let value = session.show(&change.name)?;
        self.0.changes.lock().push(change);
        Ok(value)
    }

    /// Keeps why a setting could not be told or changed; an error of the planner's says less. Returns the message.
    pub(super) fn refuse(&self, error: PgError) -> String {
        let message = error.message.clone();
        *self.0.refusal.lock() = Some(error);
        message
    }

    /// Why the query has failed, if a setting is why.
    pub(crate) fn refusal(&self) -> Option<PgError> {
        self.0.refusal.lock().take()
    }

    /// What was changed since it was last asked.
    pub(crate) fn take(&self) -> Vec<Change> {
        std::mem::take(&mut self.0.changes.lock())
    }
}

impl ConfigExtension for Live {
    const PREFIX: &'static str = "anabranch_session";
}

impl ExtensionOptions for Live {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _value: &str) -> Result<()> {
        Err(DataFusionError::Configuration(format!("{key} is no option")))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}
