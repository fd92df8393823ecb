//! Statements from their text to their last row.

use std::sync::Arc;
use std::time::Instant;

use anabranch_front::{Cause, QueryError, Running};
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use bytes::{BufMut, BytesMut};
use futures::StreamExt;
use tokio::io::AsyncWrite;

use super::guard::Guard;
use super::{Connection, SEND_BYTES, Transaction, lost};
use crate::PgError;
use crate::catalog::live::{Cursor as Declared, Live};
use crate::catalog::{self, Asked, Read};
use crate::copy::{Copy, Style};
use crate::cursor::{Declaration, Fetch};
use crate::encode::Rows;
use crate::params::Parameter;
use crate::portal::{Cursor, OpenRows, Portal, Query, Source, State, Statement, Work};
use crate::script::{Kind, Piece};
use crate::wire::{COPY_DONE, Column, EMPTY_QUERY, PORTAL_SUSPENDED};

impl<W: AsyncWrite + Unpin> Connection<W> {
    /// Finds out what a statement is, and what it gives.
    pub(super) async fn prepare(&mut self, piece: Piece<'_>, types: &[u32]) -> Result<Statement, PgError> {
        let ends = matches!(&piece.kind, Kind::Commit | Kind::Rollback | Kind::RollbackTo(_));
        if self.transaction == Transaction::Failed && !ends {
            return Err(PgError::new(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        let sql = piece.text;
        let (work, parameters) = match piece.kind {
            Kind::Query => {
                let (query, parameters) = self.query(sql, sql, types).await?;
                (Work::Query(query), parameters)
            }
            Kind::Copy => {
                let Copy { query, style } = Copy::parse(sql)?;
                let (query, parameters) = self.query(&query, sql, &[]).await?;
                if !parameters.is_empty() {
                    return Err(PgError::new("42P02", "there is no parameter $1"));
                }
                (Work::Copy(Query { tag: "COPY", ..query }, style), parameters)
            }
            Kind::Declare => self.declaration(sql, types).await?,
            Kind::Fetch => (self.fetch(Fetch::parse(sql)?)?, Vec::new()),
            kind => (Work::Command(kind), Vec::new()),
        };
        Ok(Statement {
            sql: sql.to_owned(),
            work,
            parameters,
        })
    }

    /// Plans a query that stands in `statement`, or is meant by it.
    async fn query(&mut self, sql: &str, statement: &str, types: &[u32]) -> Result<(Query, Vec<Parameter>), PgError> {
        let principal = &self.session.principal;
        let Read { asked, names } = self.shared.catalog.read(sql)?;
        let as_written = matches!(asked, Asked::Engine(None)) && sql.len() == statement.len();
        let (prepared, source) = match asked {
            Asked::Catalog(concern) => (self.shared.catalog.prepare(*concern, principal).await, Source::Catalog),
            Asked::Engine(translated) => {
                let sql = translated.as_deref().unwrap_or(sql);
                (self.shared.engine.prepare(sql, principal).await, Source::Engine)
            }
        };
        let prepared = prepared.map_err(|error| {
            let places = as_written || error.cause != Cause::Syntax;
            let told = PgError::of_query(error, statement);
            PgError {
                // The planner counts in what it was given.
                position: told.position.filter(|_| places),
                ..told
            }
        })?;
        let count = prepared.parameters.len().max(types.len());
        let parameters = (0..count).map(|index| Parameter {
            declared: match types.get(index) {
                None | Some(0) if source == Source::Catalog => catalog::declared(sql, index + 1),
                told => told.copied().unwrap_or(0),
            },
            wanted: prepared.parameters.get(index).cloned().flatten(),
        });
        let parameters = parameters.collect();
        let explains = sql
            .trim_start()
            .get(..7)
            .is_some_and(|word| word.eq_ignore_ascii_case("EXPLAIN"));
        let query = Query {
            prepared,
            source,
            tag: if explains { "EXPLAIN" } else { "SELECT" },
            names,
        };
        Ok((query, parameters))
    }

    async fn declaration(&mut self, sql: &str, types: &[u32]) -> Result<(Work, Vec<Parameter>), PgError> {
        let Declaration {
            name,
            binary,
            holds,
            query,
        } = Declaration::parse(sql)?;
        let (query, parameters) = self.query(query, sql, types).await?;
        let query = Statement {
            sql: sql.to_owned(),
            work: Work::Query(query),
            parameters: Vec::new(),
        };
        let work = Work::Declare {
            name,
            cursor: Cursor {
                binary,
                holds,
                kept: false,
            },
            query: Arc::new(query),
        };
        Ok((work, parameters))
    }

    fn fetch(&self, fetch: Fetch) -> Result<Work, PgError> {
        let cursor = self.portals.get(&fetch.name).ok_or_else(|| no_cursor(&fetch.name))?;
        let columns = cursor.columns.clone();
        Ok(Work::Fetch { fetch, columns })
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
        let (query, style) = match &statement.work {
            Work::Command(Kind::Empty) => {
                self.out.bare(EMPTY_QUERY);
                return Ok(());
            }
            Work::Command(kind) => return self.run_command(kind, portal),
            Work::Declare { name, cursor, query } => return self.declare(name, *cursor, query, portal),
            Work::Fetch { fetch, .. } => return self.run_fetch(fetch, portal, guard).await,
            Work::Query(query) => (query, None),
            Work::Copy(query, style) => (query, Some(style)),
        };
        self.open(portal, query, &statement.sql, guard).await?;
        let mut sent = 0;
        if let State::Open(open) = &mut portal.state {
            if let Some(style) = style {
                sent = self.copy(open, query, style, guard, &statement.sql).await?;
            } else {
                let upto = if limit > 0 { limit } else { usize::MAX };
                sent = self
                    .rows(open, Some(&portal.columns), upto, guard, &statement.sql)
                    .await?;
                if limit > 0 && sent == limit {
                    self.out.bare(PORTAL_SUSPENDED);
                    return Ok(());
                }
            }
            portal.state = State::Done;
        }
        self.named.end();
        metrics::counter!("anabranch_postgres_statements_total", "source" => query.source.name()).increment(1);
        match query.tag {
            tag @ ("SELECT" | "COPY") => self.out.complete(&format!("{tag} {sent}")),
            tag => self.out.complete(tag),
        }
        Ok(())
    }

    /// Starts the query of a portal, unless it runs already.
    async fn open(&mut self, portal: &mut Portal, query: &Query, sql: &str, guard: &Guard) -> Result<(), PgError> {
        let State::Bound = portal.state else {
            return Ok(());
        };
        let started = Instant::now();
        let values = std::mem::take(&mut portal.values);
        let (engine, catalog) = (Arc::clone(&self.shared.engine), Arc::clone(&self.shared.catalog));
        let live = match query.source {
            Source::Catalog => Some(Live::new(self.session.clone(), self.cursors())),
            Source::Engine => None,
        };
        let (demand, principal) = (self.session.demand(), &self.session.principal);
        let run = async {
            match live.clone() {
                Some(live) => catalog.run(&query.prepared, values, live).await,
                None => engine.run(&query.prepared, values, demand, principal).await,
            }
        };
        let running = guard.wait(run).await?;
        let running = running.map_err(|error| refused(live.as_ref(), error, sql))?;
        metrics::histogram!("anabranch_postgres_start_seconds").record(started.elapsed().as_secs_f64());
        self.warn(&running);
        portal.state = State::Open(OpenRows::new(running, live));
        Ok(())
    }

    /// Writes rows as they come, up to `limit` of them, or leaves them out where no columns are named. Returns how many there
    /// were: fewer than the limit are the last.
    async fn rows(
        &mut self,
        open: &mut OpenRows,
        columns: Option<&[Column]>,
        limit: usize,
        guard: &Guard,
        sql: &str,
    ) -> Result<usize, PgError> {
        let mut sent = 0;
        if let Some(columns) = columns {
            open.in_formats(columns).map_err(unspelled)?;
        }
        while sent < limit {
            let Some((_, rows)) = next_rows(open, columns.unwrap_or_default(), guard, sql).await? else {
                break;
            };
            while sent < limit && !rows.is_done() {
                match columns {
                    Some(_) => rows.write_next(&mut self.out),
                    None => rows.advance().is_some(),
                };
                sent += 1;
                if self.out.len() >= SEND_BYTES {
                    // A client that reads slowly slows the query.
                    let written = guard.wait(self.send()).await?;
                    written.map_err(lost)?;
                }
            }
        }
        self.follow(open)?;
        Ok(sent)
    }

    /// Writes all rows in a format of COPY; returns how many.
    async fn copy(
        &mut self,
        open: &mut OpenRows,
        query: &Query,
        style: &Style,
        guard: &Guard,
        sql: &str,
    ) -> Result<usize, PgError> {
        let columns = query.columns(style.is_binary());
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let quoted = style.quoted(&names);
        self.out.copying(style.is_binary(), columns.len());
        // What stands before the rows goes with the first of them.
        let (mut before, mut scratch) = (BytesMut::new(), BytesMut::new());
        style.begin(&names, &mut before);
        let mut sent = 0;
        while let Some((_, rows)) = next_rows(open, &columns, guard, sql).await? {
            while !rows.is_done() {
                self.out.message(b'd', |out| {
                    out.put_slice(&before);
                    if let Some(row) = rows.advance() {
                        style.row(row, &quoted, &mut scratch, out);
                    }
                });
                before.clear();
                sent += 1;
                if self.out.len() >= SEND_BYTES {
                    let written = guard.wait(self.send()).await?;
                    written.map_err(lost)?;
                }
            }
        }
        style.end(&mut before);
        if !before.is_empty() {
            self.out.message(b'd', |out| out.put_slice(&before));
        }
        self.out.bare(COPY_DONE);
        self.follow(open)?;
        Ok(sent)
    }

    /// Does in the session what a query has asked for.
    fn follow(&mut self, open: &OpenRows) -> Result<(), PgError> {
        for change in open.live.iter().flat_map(Live::take) {
            self.set(&change.name, change.value.as_deref(), change.lasting)?;
        }
        Ok(())
    }

    fn declare(
        &mut self,
        name: &str,
        cursor: Cursor,
        query: &Arc<Statement>,
        portal: &mut Portal,
    ) -> Result<(), PgError> {
        if !cursor.holds && !self.session.is_in_block() {
            return Err(PgError::new(
                "25P01",
                "DECLARE CURSOR can only be used in transaction blocks",
            ));
        }
        if self.portals.contains_key(name) {
            return Err(PgError::new("42P03", format!("cursor \"{name}\" already exists")));
        }
        self.room_for_portal()?;
        let Work::Query(asked) = &query.work else {
            return Err(PgError::new("42P11", "cursors are declared for queries"));
        };
        let declared = Portal {
            statement: Arc::clone(query),
            values: std::mem::take(&mut portal.values),
            columns: asked.columns(cursor.binary),
            state: State::Bound,
            cursor: Some(cursor),
        };
        self.portals.insert(name.to_owned(), declared);
        portal.state = State::Done;
        self.out.complete("DECLARE CURSOR");
        Ok(())
    }

    async fn run_fetch(&mut self, fetch: &Fetch, portal: &mut Portal, guard: &Guard) -> Result<(), PgError> {
        portal.state = State::Done;
        if fetch.count == Some(0) {
            return Err(PgError::unsupported("the row that was fetched last is not kept"));
        }
        // One that fails is closed.
        let mut cursor = self.portals.remove(&fetch.name).ok_or_else(|| no_cursor(&fetch.name))?;
        let statement = Arc::clone(&cursor.statement);
        let Work::Query(query) = &statement.work else {
            return Err(no_cursor(&fetch.name));
        };
        self.open(&mut cursor, query, &statement.sql, guard).await?;
        let limit = fetch.count.unwrap_or(usize::MAX);
        let mut sent = 0;
        if let State::Open(open) = &mut cursor.state {
            let columns = (!fetch.moves).then_some(portal.columns.as_slice());
            sent = self.rows(open, columns, limit, guard, &statement.sql).await?;
            if sent < limit {
                cursor.state = State::Done;
            }
        }
        self.portals.insert(fetch.name.clone(), cursor);
        self.named.end();
        metrics::counter!("anabranch_postgres_statements_total", "source" => query.source.name()).increment(1);
        let tag = if fetch.moves { "MOVE" } else { "FETCH" };
        self.out.complete(&format!("{tag} {sent}"));
        Ok(())
    }

    /// The cursors that are open, by name.
    fn cursors(&self) -> Vec<Declared> {
        let cursors = self.portals.iter().filter_map(|(name, portal)| {
            let cursor = portal.cursor?;
            Some(Declared {
                name: name.clone(),
                statement: portal.statement.sql.clone(),
                holds: cursor.holds,
                binary: cursor.binary,
            })
        });
        let mut cursors: Vec<Declared> = cursors.collect();
        cursors.sort_by(|one, other| one.name.cmp(&other.name));
        cursors
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

/// A batch of which rows are left; `None` at the end.
async fn next_rows<'o>(
    open: &'o mut OpenRows,
    columns: &[Column],
    guard: &Guard,
    sql: &str,
) -> Result<Option<&'o mut (RecordBatch, Rows)>, PgError> {
    while open.rows.as_ref().is_none_or(|(_, rows)| rows.is_done()) {
        match guard.wait(open.batches.next()).await? {
            Some(Ok(batch)) => {
                let rows = Rows::new(&batch, columns).map_err(unspelled)?;
                open.rows = Some((batch, rows));
            }
            Some(Err(error)) => return Err(refused(open.live.as_ref(), error, sql)),
            None => return Ok(None),
        }
    }
    Ok(open.rows.as_mut())
}

/// Why a query failed: a setting that it could not have says it best.
fn refused(live: Option<&Live>, error: QueryError, sql: &str) -> PgError {
    live.and_then(Live::refusal)
        .unwrap_or_else(|| PgError::of_query(error, sql))
}

fn unspelled(error: ArrowError) -> PgError {
    PgError::new("XX000", error.to_string())
}

fn no_cursor(name: &str) -> PgError {
    PgError::new("34000", format!("cursor \"{name}\" does not exist"))
}

impl Source {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Catalog => "catalog",
        }
    }
}
