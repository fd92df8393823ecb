//! The extended protocol: statements that are parsed once, and portals that are run in portions.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncWrite;

use super::{Connection, lost};
use crate::PgError;
use crate::commands::no_statement;
use crate::params::{Parameter, binary_formats, read_all};
use crate::portal::{Portal, State, Work};
use crate::script::{Kind, split};
use crate::wire::{BIND_COMPLETE, CLOSE_COMPLETE, Message, NO_DATA, PARSE_COMPLETE, Target};

const MAX_STATEMENTS: usize = 1_000;
const MAX_PORTALS: usize = 100;

impl<W: AsyncWrite + Unpin> Connection<W> {
    /// One message of the extended protocol.
    pub(super) async fn extended(&mut self, message: Message) -> Result<(), PgError> {
        match message {
            Message::Parse { name, sql, types } => self.parse(name, &sql, &types).await?,
            Message::Bind {
                portal,
                statement,
                formats,
                values,
                results,
            } => self.bind(portal, &statement, &formats, values, &results)?,
            Message::Describe(Target::Statement, name) => {
                let statement = self.statements.get(&name).ok_or_else(|| no_statement(&name))?;
                let types: Vec<u32> = statement.parameters.iter().map(Parameter::oid).collect();
                self.out.parameters(&types);
                match statement.columns() {
                    Some(columns) => self.out.rows(&columns),
                    None => self.out.bare(NO_DATA),
                }
            }
            Message::Describe(Target::Portal, name) => {
                let portal = self.portals.get(&name).ok_or_else(|| no_portal(&name))?;
                match portal.statement.columns() {
                    Some(_) => self.out.rows(&portal.columns),
                    None => self.out.bare(NO_DATA),
                }
            }
            Message::Execute { portal: name, limit } => {
                let guard = self.guard();
                let mut portal = self.portals.remove(&name).ok_or_else(|| no_portal(&name))?;
                let ends = matches!(&portal.statement.work, Work::Command(Kind::Commit | Kind::Rollback));
                self.execute(&mut portal, limit, false, &guard).await?;
                if !ends {
                    self.portals.insert(name, portal);
                }
            }
            Message::Close(Target::Statement, name) => {
                self.statements.remove(&name);
                self.out.bare(CLOSE_COMPLETE);
            }
            Message::Close(Target::Portal, name) => {
                self.portals.remove(&name);
                self.out.bare(CLOSE_COMPLETE);
            }
            Message::Flush => {
                let guard = self.guard();
                let sent = guard.wait(self.send()).await?;
                sent.map_err(lost)?;
            }
            Message::Query(_) | Message::Sync | Message::Terminate | Message::Copy | Message::FunctionCall => {}
        }
        Ok(())
    }

    async fn parse(&mut self, name: String, sql: &str, types: &[u32]) -> Result<(), PgError> {
        let mut pieces = split(sql)?;
        let (Some(piece), true) = (pieces.pop(), pieces.is_empty()) else {
            return Err(PgError::new(
                "42601",
                "cannot insert multiple commands into a prepared statement",
            ));
        };
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(PgError::new(
                "42P05",
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        if self.statements.len() >= MAX_STATEMENTS {
            return Err(PgError::new(
                "53400",
                format!("a connection cannot have more than {MAX_STATEMENTS} prepared statements"),
            )
            .with_hint("close or deallocate some"));
        }
        let guard = self.guard();
        let statement = guard.wait(self.prepare(piece, types)).await??;
        self.statements.insert(name, Arc::new(statement));
        self.out.bare(PARSE_COMPLETE);
        Ok(())
    }

    fn bind(
        &mut self,
        name: String,
        statement: &str,
        formats: &[i16],
        values: Vec<Option<Bytes>>,
        results: &[i16],
    ) -> Result<(), PgError> {
        let statement = self.statements.get(statement).ok_or_else(|| no_statement(statement))?;
        if !name.is_empty() && self.portals.contains_key(&name) {
            return Err(PgError::new("42P03", format!("cursor \"{name}\" already exists")));
        }
        self.room_for_portal()?;
        let values = read_all(&statement.parameters, formats, values)?;
        let mut columns = statement.columns().unwrap_or_default();
        let binary = match statement.columns() {
            Some(_) => binary_formats(results, columns.len())?,
            None => Vec::new(),
        };
        columns
            .iter_mut()
            .zip(binary)
            // Those of a binary cursor are, whatever is asked for.
            .for_each(|(column, binary)| column.binary |= binary);
        let portal = Portal {
            statement: Arc::clone(statement),
            values,
            columns,
            state: State::Bound,
            cursor: None,
        };
        self.portals.insert(name, portal);
        self.out.bare(BIND_COMPLETE);
        Ok(())
    }

    /// # Errors
    /// 53400 when there are too many portals already.
    pub(super) fn room_for_portal(&self) -> Result<(), PgError> {
        match self.portals.len() < MAX_PORTALS {
            true => Ok(()),
            false => Err(PgError::new(
                "53400",
                format!("a connection cannot have more than {MAX_PORTALS} portals"),
            )),
        }
    }
}

fn no_portal(name: &str) -> PgError {
    PgError::new("34000", format!("portal \"{name}\" does not exist"))
}
