//! One connection that is authenticated: takes messages, answers them in their order.

mod execute;
mod extended;
mod guard;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::guard::{Guard, sent_away, shutting_down};
use crate::cancel::Named;
use crate::error::Severity;
use crate::portal::{Portal, State, Statement};
use crate::script::{Kind, Piece, split};
use crate::server::Shared;
use crate::session::Session;
use crate::wire::{EMPTY_QUERY, Message, MessageReader, Outgoing};
use crate::{Error, PgError};

/// Answers are sent when so much waits.
const SEND_BYTES: usize = 64 << 10;
/// How long a client that is sent away may take to read why.
const PARTING: Duration = Duration::from_secs(5);
/// Messages that are read ahead of being answered.
const AHEAD: usize = 8;

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
        let principal = self.session.principal.clone();
        let (stopping, gone) = (self.shared.shutdown.clone(), self.gone.clone());
        loop {
            let message = match messages.try_recv() {
                Ok(message) => message,
                Err(_) => {
                    // What waits is sent before the client is waited for.
                    let next = async {
                        self.send().await?;
                        Ok(messages.recv().await)
                    };
                    let next = tokio::select! {
                        biased;
                        next = next => next?,
                        () = stopping.cancelled() => return self.part(&shutting_down()).await,
                        denied = principal.ended() => return self.part(&sent_away(&denied)).await,
                        () = gone.cancelled() => return Ok(()),
                    };
                    match next {
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
            if let Err(error) = handled {
                return self.part(&error).await;
            }
        }
    }

    /// Tells an error.
    fn report(&mut self, error: &PgError) {
        metrics::counter!("anabranch_postgres_errors_total", "code" => error.code).increment(1);
        self.out.error(error);
        if self.transaction == Transaction::Open {
            self.transaction = Transaction::Failed;
        }
    }

    /// Tells the error that ends the connection, to a client that reads.
    async fn part(&mut self, error: &PgError) -> Result<(), Error> {
        self.report(error);
        tokio::time::timeout(PARTING, self.send()).await.unwrap_or(Ok(()))
    }

    /// Tells an error, unless it ends the connection.
    fn survive(&mut self, error: PgError) -> Result<(), PgError> {
        match error.severity {
            Severity::Fatal => Err(error),
            _ => {
                self.report(&error);
                Ok(())
            }
        }
    }

    fn ready(&mut self) {
        self.out.ready(match self.transaction {
            Transaction::Idle => b'I',
            Transaction::Open => b'T',
            Transaction::Failed => b'E',
        });
    }

    /// Sends what waits. Cancel-safe: what was not sent waits on, so that messages are never cut.
    async fn send(&mut self) -> Result<(), Error> {
        if self.out.is_empty() {
            return Ok(());
        }
        while !self.out.is_empty() {
            self.writer
                .write_buf(&mut self.out.0)
                .await
                .map_err(Error::io("cannot write to the client"))?;
        }
        self.writer
            .flush()
            .await
            .map_err(Error::io("cannot write to the client"))
    }

    /// Answers a message. Errors that end the connection are returned, others told.
    async fn handle(&mut self, message: Message) -> Result<(), PgError> {
        match message {
            Message::Query(sql) => {
                self.skipping = false;
                let outcome = self.script(&sql).await;
                self.portals.remove("");
                if let Err(error) = outcome {
                    self.survive(error)?;
                }
                self.ready();
                Ok(())
            }
            Message::Sync => {
                self.skipping = false;
                if self.transaction == Transaction::Idle {
                    // A transaction of its own ends here, and its portals with it.
                    self.end_portals(true);
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
                    self.survive(error)?;
                }
                Ok(())
            }
        }
    }

    /// The simple protocol: all statements of a script, until one fails.
    async fn script(&mut self, sql: &str) -> Result<(), PgError> {
        let pieces = split(sql)?;
        // Several statements are one transaction, where they say nothing else.
        let together = pieces.len() > 1;
        let outcome = self.pieces(sql, pieces, together).await;
        if self.transaction == Transaction::Idle {
            self.end_portals(outcome.is_ok());
            self.end_block(outcome.is_ok());
        }
        outcome
    }

    async fn pieces(&mut self, sql: &str, pieces: Vec<Piece<'_>>, together: bool) -> Result<(), PgError> {
        for piece in pieces {
            if together {
                self.session.begin();
            }
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
            cursor: None,
        };
        let described = portal.statement.columns().is_some();
        self.execute(&mut portal, 0, described, &guard).await
    }

    fn guard(&self) -> Guard {
        Guard {
            cancelled: self.named.begin(),
            gone: self.gone.clone(),
            ended: self.shared.ended.clone(),
            principal: self.session.principal.clone(),
            deadline: self
                .session
                .statement_timeout()
                .map(|timeout| tokio::time::Instant::now() + timeout),
        }
    }
}

fn lost(error: Error) -> PgError {
    PgError::fatal("08006", error.to_string())
}
