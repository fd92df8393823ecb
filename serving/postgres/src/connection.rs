//! One connection that is authenticated: takes messages, answers them in their order.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use anabranch_front::Running;
use bytes::{BufMut, Bytes};
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cancel::Named;
use crate::commands::no_statement;
use crate::encode::Rows;
use crate::error::Severity;
use crate::params::{Parameter, binary_formats, read_all};
use crate::portal::{OpenRows, Portal, Source, State, Statement, Work};
use crate::script::{Kind, Piece, split};
use crate::server::Shared;
use crate::session::Session;
use crate::wire::{
    BIND_COMPLETE, CLOSE_COMPLETE, Column, EMPTY_QUERY, Message, MessageReader, NO_DATA, Outgoing, PARSE_COMPLETE,
    PORTAL_SUSPENDED, Target,
};
use crate::{Error, PgError};

/// Answers are sent when so much waits.
const SEND_BYTES: usize = 64 << 10;
/// Messages that are read ahead of being answered.
const AHEAD: usize = 8;
const MAX_STATEMENTS: usize = 1_000;
const MAX_PORTALS: usize = 100;

/// Where a client believes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transaction {
    Idle,
    Open,
    Failed,
}

/// A connection and what it keeps.
pub(crate) struct Connection<W> {
    shared: Arc<Shared>,
    writer: W,
    pub(crate) out: Outgoing,
    pub(crate) session: Session,
    pub(crate) transaction: Transaction,
    pub(crate) statements: HashMap<String, Arc<Statement>>,
    pub(crate) portals: HashMap<String, Portal>,
    named: Named,
    /// The client has hung up.
    gone: CancellationToken,
    /// After an error of the extended protocol, until the client's Sync.
    skipping: bool,
}

/// What ends a statement from outside.
struct Guard {
    cancelled: CancellationToken,
    gone: CancellationToken,
    ended: CancellationToken,
    deadline: Option<tokio::time::Instant>,
}

impl Guard {
    async fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, PgError> {
        let late = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.gone.cancelled() => Err(PgError::fatal("08006", "the client has hung up")),
            () = self.ended.cancelled() => Err(shutting_down()),
            () = self.cancelled.cancelled() => Err(PgError::new("57014", "canceling statement due to user request")),
            () = late => Err(PgError::new("57014", "canceling statement due to statement timeout")
                .with_hint("narrow the query, or raise statement_timeout")),
            done = work => Ok(done),
        }
    }
}

fn shutting_down() -> PgError {
    PgError::fatal("57P01", "terminating connection due to administrator command")
}

/// Answers messages until the client goes, the server stops, or something is wrong beyond repair.
///
/// # Errors
/// When the socket fails, or the client breaks the protocol.
pub(crate) async fn run<S: AsyncRead + AsyncWrite + Send + 'static>(
    socket: S,
    shared: Arc<Shared>,
    session: Session,
    named: Named,
) -> Result<(), Error> {
    let (reader, writer) = tokio::io::split(socket);
    let (sender, mut messages) = mpsc::channel(AHEAD);
    let gone = CancellationToken::new();
    let _stop_reading = gone.clone().drop_guard();
    let reading = tokio::spawn(read(MessageReader::new(reader), sender, gone.clone()));
    let mut connection = Connection {
        shared,
        writer,
        out: Outgoing::default(),
        session,
        transaction: Transaction::Idle,
        statements: HashMap::new(),
        portals: HashMap::new(),
        named,
        gone,
        skipping: false,
    };
    connection.report_all();
    let (process, secret) = (connection.named.process, connection.named.secret().to_vec());
    connection.out.key(process, &secret);
    connection.out.ready(b'I');
    let ended = connection.serve(&mut messages).await;
    reading.abort();
    ended
}

/// Reads ahead, so that a client that hangs up stops what it has asked for.
async fn read<R: AsyncRead + Unpin>(
    mut reader: MessageReader<R>,
    messages: mpsc::Sender<Result<Message, Error>>,
    gone: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            next = reader.next() => next,
            () = gone.cancelled() => return,
        };
        let (message, last) = match next {
            Ok(Some(Message::Terminate) | None) => break,
            Ok(Some(message)) => (Ok(message), false),
            Err(error) => (Err(error), true),
        };
        if messages.send(message).await.is_err() || last {
            return;
        }
    }
    gone.cancel();
}

impl<W: AsyncWrite + Unpin> Connection<W> {
    async fn serve(&mut self, messages: &mut mpsc::Receiver<Result<Message, Error>>) -> Result<(), Error> {
        loop {
            // What waits is sent before the client is waited for.
            let message = match messages.try_recv() {
                Ok(message) => message,
                Err(_) => {
                    self.send().await?;
                    let stopping = self.shared.shutdown.clone();
                    let message = tokio::select! {
                        biased;
                        message = messages.recv() => message,
                        () = stopping.cancelled() => {
                            self.out.error(&shutting_down());
                            return self.send().await;
                        }
                        () = self.gone.cancelled() => return Ok(()),
                    };
                    match message {
                        Some(message) => message,
                        None => return Ok(()),
                    }
                }
            };
            let handled = match message {
                Ok(message) => self.handle(message).await,
                Err(error @ Error::Protocol(_)) => Err(PgError::fatal("08P01", error.to_string())),
                Err(error) => return Err(error),
            };
            if let Err(error) = handled
                && self.report(&error)
            {
                return self.send().await;
            }
        }
    }

    /// Tells an error; true when it ends the connection.
    fn report(&mut self, error: &PgError) -> bool {
        metrics::counter!("anabranch_postgres_errors_total", "code" => error.code).increment(1);
        self.out.error(error);
        if self.transaction == Transaction::Open {
            self.transaction = Transaction::Failed;
        }
        error.severity == Severity::Fatal
    }

    fn ready(&mut self) {
        self.out.ready(match self.transaction {
            Transaction::Idle => b'I',
            Transaction::Open => b'T',
            Transaction::Failed => b'E',
        });
    }

    async fn send(&mut self) -> Result<(), Error> {
        if !self.out.is_empty() {
            let bytes = self.out.0.split().freeze();
            self.writer
                .write_all(&bytes)
                .await
                .map_err(Error::io("cannot write to the client"))?;
            self.writer
                .flush()
                .await
                .map_err(Error::io("cannot write to the client"))?;
        }
        Ok(())
    }

    async fn handle(&mut self, message: Message) -> Result<(), PgError> {
        match message {
            Message::Query(sql) => {
                self.skipping = false;
                let outcome = self.script(&sql).await;
                self.portals.remove("");
                if let Err(error) = outcome
                    && self.report(&error)
                {
                    return Err(error);
                }
                self.ready();
                Ok(())
            }
            Message::Sync => {
                self.skipping = false;
                if self.transaction == Transaction::Idle {
                    // A transaction of its own ends here, and its portals with it.
                    self.portals.clear();
                }
                self.ready();
                Ok(())
            }
            Message::FunctionCall => {
                self.report(&PgError::unsupported("function calls by message are not supported"));
                self.ready();
                Ok(())
            }
            Message::Copy | Message::Terminate => Ok(()),
            _ if self.skipping => Ok(()),
            message => {
                let outcome = self.extended(message).await;
                if let Err(error) = outcome {
                    self.skipping = true;
                    if self.report(&error) {
                        return Err(error);
                    }
                }
                Ok(())
            }
        }
    }

    /// The simple protocol: all statements of a script, until one fails.
    async fn script(&mut self, sql: &str) -> Result<(), PgError> {
        for piece in split(sql)? {
            if piece.kind == Kind::Empty {
                self.out.bare(EMPTY_QUERY);
                continue;
            }
            // Positions count from the beginning of the script.
            let before = sql[..piece.text.as_ptr() as usize - sql.as_ptr() as usize]
                .chars()
                .count();
            let outcome = self.one(piece).await;
            outcome.map_err(|error| PgError {
                position: error.position.map(|position| position + before),
                ..error
            })?;
        }
        Ok(())
    }

    async fn one(&mut self, piece: Piece<'_>) -> Result<(), PgError> {
        let guard = self.guard();
        let statement = guard.wait(self.prepare(piece, &[])).await??;
        if !statement.parameters.is_empty() {
            return Err(PgError::new("42P02", "there is no parameter $1"));
        }
        let columns = statement.columns().unwrap_or_default();
        let mut portal = Portal {
            statement: Arc::new(statement),
            values: Vec::new(),
            columns,
            state: State::Bound,
        };
        let described = portal.statement.columns().is_some();
        self.execute(&mut portal, 0, described, &guard).await
    }

    /// One message of the extended protocol.
    async fn extended(&mut self, message: Message) -> Result<(), PgError> {
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
        if self.portals.len() >= MAX_PORTALS {
            return Err(PgError::new(
                "53400",
                format!("a connection cannot have more than {MAX_PORTALS} portals"),
            ));
        }
        let values = read_all(&statement.parameters, formats, values)?;
        let mut columns = statement.columns().unwrap_or_default();
        let binary = match statement.columns() {
            Some(_) => binary_formats(results, columns.len())?,
            None => Vec::new(),
        };
        columns
            .iter_mut()
            .zip(binary)
            .for_each(|(column, binary)| column.binary = binary);
        let portal = Portal {
            statement: Arc::clone(statement),
            values,
            columns,
            state: State::Bound,
        };
        self.portals.insert(name, portal);
        self.out.bare(BIND_COMPLETE);
        Ok(())
    }

    fn guard(&self) -> Guard {
        Guard {
            cancelled: self.named.begin(),
            gone: self.gone.clone(),
            ended: self.shared.ended.clone(),
            deadline: self
                .session
                .statement_timeout()
                .map(|timeout| tokio::time::Instant::now() + timeout),
        }
    }

    /// Finds out what a statement is, and what it gives.
    async fn prepare(&mut self, piece: Piece<'_>, types: &[u32]) -> Result<Statement, PgError> {
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
    async fn execute(
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
    fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Catalog => "catalog",
        }
    }
}

fn no_portal(name: &str) -> PgError {
    PgError::new("34000", format!("portal \"{name}\" does not exist"))
}

fn lost(error: Error) -> PgError {
    PgError::fatal("08006", error.to_string())
}
