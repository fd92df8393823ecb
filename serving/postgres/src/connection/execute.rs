//! Statements from their text to their last row.

use std::sync::Arc;
use std::time::Instant;

use anabranch_front::Running;
use bytes::BufMut;
use futures::StreamExt;
use tokio::io::AsyncWrite;

use super::guard::Guard;
use super::{Connection, SEND_BYTES, Transaction, lost};
use crate::PgError;
use crate::encode::Rows;
use crate::params::Parameter;
use crate::portal::{OpenRows, Portal, Source, State, Statement, Work};
use crate::script::{Kind, Piece};
use crate::wire::{Column, EMPTY_QUERY, PORTAL_SUSPENDED};

impl<W: AsyncWrite + Unpin> Connection<W> {
    /// Finds out what a statement is, and what it gives.
    pub(super) async fn prepare(&mut self, piece: Piece<'_>, types: &[u32]) -> Result<Statement, PgError> {
        let ends = match &piece.kind {
            Kind::Commit | Kind::Rollback => true,
            Kind::Nothing(tag) => *tag == "ROLLBACK",
            _ => false,
        };
        if self.transaction == Transaction::Failed && !ends {
            return Err(PgError::new(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        if piece.kind != Kind::Query {
            return Ok(Statement {
                sql: piece.text.to_owned(),
                work: Work::Command(piece.kind),
                parameters: Vec::new(),
            });
        }
        let sql = piece.text;
        let principal = &self.session.principal;
        let (prepared, source) = match self.shared.catalog.concerns(sql) {
            Some(statement) => (self.shared.catalog.prepare(statement, principal).await, Source::Catalog),
            None => (self.shared.engine.prepare(sql, principal).await, Source::Engine),
        };
        let prepared = prepared.map_err(|error| PgError::of_query(error, sql))?;
        let count = prepared.parameters.len().max(types.len());
        let parameters = (0..count).map(|index| Parameter {
            declared: types.get(index).copied().unwrap_or(0),
            wanted: prepared.parameters.get(index).cloned().flatten(),
        });
        let explains = sql
            .trim_start()
            .get(..7)
            .is_some_and(|word| word.eq_ignore_ascii_case("EXPLAIN"));
        Ok(Statement {
            sql: sql.to_owned(),
            parameters: parameters.collect(),
            work: Work::Query {
                prepared,
                source,
                tag: if explains { "EXPLAIN" } else { "SELECT" },
            },
        })
    }

    /// Runs a portal, or goes on with it, up to `limit` rows (0: all).
    pub(super) async fn execute(
        &mut self,
        portal: &mut Portal,
        limit: usize,
        describe: bool,
        guard: &Guard,
    ) -> Result<(), PgError> {
        if describe {
            self.out.rows(&portal.columns);
        }
        let statement = Arc::clone(&portal.statement);
        let (prepared, source, tag) = match &statement.work {
            Work::Command(Kind::Empty) => {
                self.out.bare(EMPTY_QUERY);
                return Ok(());
            }
            Work::Command(kind) => return self.run_command(kind, portal),
            Work::Query { prepared, source, tag } => (prepared, *source, *tag),
        };
        if let State::Bound = portal.state {
            let started = Instant::now();
            let values = std::mem::take(&mut portal.values);
            let (engine, catalog) = (Arc::clone(&self.shared.engine), Arc::clone(&self.shared.catalog));
            let (demand, principal) = (self.session.demand(), &self.session.principal);
            let run = async {
                match source {
                    Source::Catalog => catalog.run(prepared, values).await,
                    Source::Engine => engine.run(prepared, values, demand, principal).await,
                }
            };
            let running = guard.wait(run).await?;
            let running = running.map_err(|error| PgError::of_query(error, &statement.sql))?;
            metrics::histogram!("anabranch_postgres_start_seconds").record(started.elapsed().as_secs_f64());
            self.warn(&running);
            portal.state = State::Open(OpenRows::new(running));
        }
        let mut sent = 0;
        if let State::Open(open) = &mut portal.state {
            let more = self
                .rows(open, &portal.columns, (limit, &mut sent), guard, &statement.sql)
                .await?;
            if more {
                self.out.bare(PORTAL_SUSPENDED);
                return Ok(());
            }
            portal.state = State::Done;
        }
        self.named.end();
        metrics::counter!("anabranch_postgres_statements_total", "source" => source.name()).increment(1);
        match tag {
            "SELECT" => self.out.complete(&format!("SELECT {sent}")),
            tag => self.out.complete(tag),
        }
        Ok(())
    }

    /// Writes rows as they come; true when `limit` ends it.
    async fn rows(
        &mut self,
        open: &mut OpenRows,
        columns: &[Column],
        (limit, sent): (usize, &mut usize),
        guard: &Guard,
        sql: &str,
    ) -> Result<bool, PgError> {
        loop {
            if let Some(rows) = &mut open.rows {
                while !rows.is_done() {
                    if limit > 0 && *sent == limit {
                        return Ok(true);
                    }
                    rows.write_next(&mut self.out);
                    *sent += 1;
                    if self.out.len() >= SEND_BYTES {
                        // A client that reads slowly slows the query.
                        let written = guard.wait(self.send()).await?;
                        written.map_err(lost)?;
                    }
                }
            }
            if limit > 0 && *sent == limit {
                return Ok(true);
            }
            match guard.wait(open.batches.next()).await? {
                Some(Ok(batch)) => {
                    let rows = Rows::new(&batch, columns);
                    open.rows = Some(rows.map_err(|error| PgError::new("XX000", error.to_string()))?);
                }
                Some(Err(error)) => return Err(PgError::of_query(error, sql)),
                None => return Ok(false),
            }
        }
    }

    /// Says so when an answer is not all that there is.
    fn warn(&mut self, running: &Running) {
        for (view, coverage) in running.coverage.iter().filter(|(_, coverage)| !coverage.exact) {
            let message = match coverage.missing.as_slice() {
                [] => format!("{view} is not complete"),
                missing => format!("{view} lacks the newest events of {}", missing.join(", ")),
            };
            let hint = "SELECT * FROM anabranch.coverage; SET anabranch.require = 'exact' refuses such answers";
            self.out.warning(&PgError::new("01000", message).with_hint(hint));
        }
    }

    fn run_command(&mut self, kind: &Kind, portal: &mut Portal) -> Result<(), PgError> {
        portal.state = State::Done;
        let answer = self.command(kind)?;
        for row in &answer.rows {
            self.out.message(b'D', |out| {
                out.put_u16(u16::try_from(row.len()).unwrap_or(u16::MAX));
                for value in row {
                    out.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
                    out.put_slice(value.as_bytes());
                }
            });
        }
        self.out.complete(&answer.tag);
        Ok(())
    }
}

impl Source {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Catalog => "catalog",
        }
    }
}
