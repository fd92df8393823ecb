//! Statements that concern the session alone.

use crate::PgError;
use crate::connection::{Connection, Transaction};
use crate::script::Kind;
use crate::session::Lasting;
use crate::wire::Outgoing;

/// What a command answers.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) tag: String,
    /// Rows of text, if there is a result.
    pub(crate) rows: Vec<Vec<String>>,
}

fn done(tag: impl Into<String>) -> Result<Answer, PgError> {
    Ok(Answer {
        tag: tag.into(),
        rows: Vec::new(),
    })
}

impl<W> Connection<W> {
    /// Runs a command.
    ///
    /// # Errors
    /// 25006 for what would write, 0A000 for what there is not, and what settings refuse.
    pub(crate) fn command(&mut self, kind: &Kind) -> Result<Answer, PgError> {
        match kind {
            Kind::Set(name, value) | Kind::SetLocal(name, value) => {
                let lasting = match kind {
                    Kind::SetLocal(..) => Lasting::Transaction,
                    _ => Lasting::Session,
                };
                self.set(name, value.as_deref(), lasting)?;
                done(if value.is_some() { "SET" } else { "RESET" })
            }
            Kind::ResetAll => {
                self.session.reset();
                self.report_all();
                done("RESET")
            }
            Kind::Show(name) if name == "all" => {
                let all = self.session.all().into_iter();
                Ok(Answer {
                    tag: "SHOW".into(),
                    rows: all.map(|(name, value)| vec![name, value, String::new()]).collect(),
                })
            }
            Kind::Show(name) => Ok(Answer {
                tag: "SHOW".into(),
                rows: vec![vec![self.session.show(name)?]],
            }),
            Kind::Begin => {
                if self.transaction == Transaction::Idle {
                    self.transaction = Transaction::Open;
                    self.session.begin();
                } else {
                    self.out
                        .warning(&PgError::new("25001", "there is already a transaction in progress"));
                }
                done("BEGIN")
            }
            Kind::Commit | Kind::Rollback => {
                let committed = self.transaction != Transaction::Failed && *kind == Kind::Commit;
                if self.transaction == Transaction::Idle {
                    self.out
                        .warning(&PgError::new("25P01", "there is no transaction in progress"));
                }
                self.transaction = Transaction::Idle;
                self.end_portals(committed);
                self.end_block(committed);
                done(if committed { "COMMIT" } else { "ROLLBACK" })
            }
            Kind::Savepoint(name) => {
                self.session.save(name)?;
                done("SAVEPOINT")
            }
            Kind::Release(name) => {
                self.session.release(name)?;
                done("RELEASE")
            }
            Kind::RollbackTo(name) => {
                for (name, value) in self.session.roll_back_to(name)? {
                    self.out.parameter(name, &value);
                }
                if self.transaction == Transaction::Failed {
                    self.transaction = Transaction::Open;
                }
                done("ROLLBACK")
            }
            Kind::Nothing(tag) => done(*tag),
            Kind::Deallocate(None) => {
                self.statements.clear();
                done("DEALLOCATE ALL")
            }
            Kind::Deallocate(Some(name)) => match self.statements.remove(name) {
                Some(_) => done("DEALLOCATE"),
                None => Err(no_statement(name)),
            },
            Kind::Close(None) => {
                self.portals.clear();
                done("CLOSE CURSOR ALL")
            }
            Kind::Close(Some(name)) => match self.portals.remove(name) {
                Some(_) => done("CLOSE CURSOR"),
                None => Err(PgError::new("34000", format!("cursor \"{name}\" does not exist"))),
            },
            Kind::DiscardAll if self.transaction != Transaction::Idle => Err(PgError::new(
                "25001",
                "DISCARD ALL cannot run inside a transaction block",
            )),
            Kind::DiscardAll => {
                self.session.reset();
                self.statements.clear();
                self.portals.clear();
                self.report_all();
                done("DISCARD ALL")
            }
            Kind::Writes(what) => Err(PgError::new(
                "25006",
                format!("cannot execute {what} in a read-only transaction"),
            )
            .with_hint("views are declared in views.sql; events are sent to /v1/ingest")),
            Kind::Unsupported(what) => {
                let error = PgError::unsupported(format!("{what} is not supported"));
                Err(match what.as_str() {
                    "PREPARE" | "EXECUTE" => error.with_hint("prepare statements through the protocol, as drivers do"),
                    _ => error,
                })
            }
            // These are run where their rows are.
            Kind::Empty | Kind::Query | Kind::Declare | Kind::Fetch | Kind::Copy => done(""),
        }
    }

    /// Changes a setting, and tells what follows.
    ///
    /// # Errors
    /// As [`Session::set`](crate::session::Session::set).
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>, lasting: Lasting) -> Result<(), PgError> {
        let changed = self.session.set(name, value, lasting)?;
        if let Some((name, value)) = &changed.report {
            self.out.parameter(name, value);
        }
        if let Some(warning) = &changed.warning {
            self.out.warning(warning);
        }
        Ok(())
    }

    /// Closes what ends with its transaction: portals, and cursors that are not declared WITH HOLD.
    pub(crate) fn end_portals(&mut self, committed: bool) {
        self.portals.retain(|_, portal| portal.outlives(committed));
    }

    /// Ends what settings were set for, if a transaction is open.
    pub(crate) fn end_block(&mut self, committed: bool) {
        for (name, value) in self.session.end(committed) {
            self.out.parameter(name, &value);
        }
    }

    /// Tells all settings that clients keep track of.
    pub(crate) fn report_all(&mut self) {
        let out: &mut Outgoing = &mut self.out;
        self.session
            .reported()
            .iter()
            .for_each(|(name, value)| out.parameter(name, value));
    }
}

pub(crate) fn no_statement(name: &str) -> PgError {
    PgError::new("26000", format!("prepared statement \"{name}\" does not exist"))
}
