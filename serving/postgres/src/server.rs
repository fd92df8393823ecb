//! Accepts connections, finds out who is there, and ends them all when the service stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anabranch_access::{Access, Failures, Principal};
use anabranch_front::{PLANNING_STACK_BYTES, QueryEngine};
use anabranch_runtime::Shutdown;
use anabranch_runtime::tls::{Clients, Protocol, Tls};
use bytes::{Buf, Bytes};
use rand::Rng;
use rand::distr::Alphanumeric;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cancel::Connections;
use crate::catalog::Catalog;
use crate::connection;
use crate::portal::Source;
use crate::scram::{self, Exchange};
use crate::session::Session;
use crate::wire::{Outgoing, Startup, read_password, read_startup};
use crate::{Error, PgError};

/// How long a client may take until it is authenticated.
const STARTUP: Duration = Duration::from_secs(30);
/// How long statements may go on after the shutdown signal.
const GRACE: Duration = Duration::from_secs(10);
/// Packets before a session begins: encryption is asked for in two ways.
const MAX_STARTUP_PACKETS: usize = 4;
/// The newest minor version of the protocol that is spoken.
const MINOR: u16 = 2;

/// What the server needs to start.
pub struct Options {
    /// Bound by the caller, so that it can choose the port.
    pub listener: TcpListener,
    pub engine: Arc<dyn QueryEngine>,
    pub access: Access,
    /// Counts wrong passwords.
    pub failures: Failures,
    /// For clients that ask for encryption; those from other machines must.
    pub tls: Option<Tls>,
    /// Connections at the same time; more are refused.
    pub max_connections: usize,
    pub shutdown: Shutdown,
}

/// Serves the PostgreSQL protocol. See [`PostgresServer::start`].
pub struct PostgresServer {
    listener: TcpListener,
    threads: Threads,
    shared: Arc<Shared>,
    max_connections: usize,
}

/// What connections share.
pub(crate) struct Shared {
    pub(crate) engine: Arc<dyn QueryEngine>,
    pub(crate) catalog: Arc<Catalog>,
    access: Access,
    failures: Failures,
    tls: Option<Tls>,
    connections: Arc<Connections>,
    pub(crate) shutdown: Shutdown,
    /// Statements that still run are ended.
    pub(crate) ended: CancellationToken,
}

/// The threads that connections are served on. Statements are parsed there, and those over the catalog planned, for which the
/// stack of other threads does not suffice.
struct Threads(Option<Runtime>);

impl Threads {
    fn start() -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread()
            .thread_name("anabranch-postgres")
            .thread_stack_size(PLANNING_STACK_BYTES)
            .enable_all()
            .build()
            .map_err(Error::io("cannot start threads"))?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> &Handle {
        self.0.as_ref().expect("it is taken when this is dropped").handle()
    }
}

impl Drop for Threads {
    /// A runtime must not be waited for where futures are polled.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A socket, encrypted or not.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// Exposes counters before the first of what they count: a rate over one that appears with its first event misses it. Of errors,
/// those that are not the client's.
fn begin_counters() {
    for source in [Source::Engine, Source::Catalog] {
        metrics::counter!("anabranch_postgres_statements_total", "source" => source.name()).increment(0);
    }
    for code in ["53300", "57P03", "XX000"] {
        metrics::counter!("anabranch_postgres_errors_total", "code" => code).increment(0);
    }
}

impl PostgresServer {
    /// Prepares the catalog. Nothing is accepted before [`run`](Self::run).
    ///
    /// # Errors
    /// When the catalog cannot be set up, or the system gives no threads.
    pub fn start(options: Options) -> Result<Self, Error> {
        begin_counters();
        let catalog = Arc::new(Catalog::new(Arc::clone(&options.engine))?);
        let shared = Shared {
            engine: options.engine,
            catalog,
            access: options.access,
            failures: options.failures,
            tls: options.tls,
            connections: Arc::default(),
            shutdown: options.shutdown,
            ended: CancellationToken::new(),
        };
        Ok(Self {
            listener: options.listener,
            threads: Threads::start()?,
            shared: Arc::new(shared),
            max_connections: options.max_connections,
        })
    }

    /// Serves until shutdown; statements that run then have some seconds to end.
    ///
    /// # Errors
    /// None at present: what is wrong with a connection ends that connection.
    pub async fn run(self) -> Result<(), Error> {
        let permits = Arc::new(Semaphore::new(self.max_connections));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shared.shutdown.cancelled() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Such as too many open files: others must be closed first.
                    tracing::warn!(%error, "a PostgreSQL connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                metrics::counter!("anabranch_postgres_refused_total").increment(1);
                refuse(&stream, &PgError::fatal("53300", "sorry, too many clients already"));
                continue;
            };
            let shared = Arc::clone(&self.shared);
            let served = async move {
                metrics::gauge!("anabranch_postgres_connections").increment(1);
                if let Err(error) = serve(stream, peer, shared).await {
                    tracing::debug!(%peer, %error, "a PostgreSQL connection ended");
                }
                metrics::gauge!("anabranch_postgres_connections").decrement(1);
                drop(permit);
            };
            connections.spawn_on(served, self.threads.handle());
        }
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            self.shared.ended.cancel();
            let rest = async { while connections.join_next().await.is_some() {} };
            // A client that does not read its last message is not waited for.
            let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
        }
        Ok(())
    }
}

/// Tells a client that is not let in; if it does not read that at once, it is not told.
fn refuse(stream: &TcpStream, error: &PgError) {
    let mut out = Outgoing::default();
    out.error(error);
    let _ = stream.try_write(&out.0);
}

async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) -> Result<(), Error> {
    stream.set_nodelay(true).map_err(Error::io("cannot set up a socket"))?;
    let begun = tokio::select! {
        begun = tokio::time::timeout(STARTUP, begin(Box::new(stream), peer, &shared)) => begun,
        () = shared.shutdown.cancelled() => return Ok(()),
    };
    match begun {
        Ok(Ok(Some(Begun {
            socket,
            session,
            long_secret,
        }))) => {
            let named = shared.connections.enter(long_secret);
            connection::run(socket, shared, session, named).await
        }
        Ok(Ok(None)) | Err(_) => Ok(()),
        Ok(Err(error)) => Err(error),
    }
}

/// A connection of which is known whose it is.
struct Begun {
    socket: Box<dyn Socket>,
    session: Session,
    long_secret: bool,
}

/// Encryption, start-up packet, authentication; `None` when no session is wanted, or the client was turned away.
async fn begin(mut socket: Box<dyn Socket>, peer: SocketAddr, shared: &Shared) -> Result<Option<Begun>, Error> {
    let mut encrypted = false;
    for _ in 0..MAX_STARTUP_PACKETS {
        let packet = match read_startup(&mut socket).await {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(None),
            Err(error) => {
                if let Error::Protocol(what) = error {
                    turn_away(&mut socket, &PgError::fatal("08P01", what)).await?;
                }
                return Err(error);
            }
        };
        match packet {
            Startup::Tls | Startup::GssEncryption => {
                let tls = shared.tls.as_ref().filter(|_| packet == Startup::Tls && !encrypted);
                let mut out = Outgoing::default();
                out.encryption(tls.is_some());
                send(&mut socket, &out).await?;
                if let Some(tls) = tls {
                    let acceptor = tls.acceptor(Protocol::Postgres, Clients::Anybody);
                    let shaken = acceptor.accept(socket).await;
                    socket = Box::new(shaken.map_err(Error::io("no secure connection"))?);
                    encrypted = true;
                }
            }
            Startup::Cancel { process, secret } => {
                shared.connections.cancel(process, &secret);
                return Ok(None);
            }
            Startup::Session {
                major,
                minor,
                parameters,
            } => {
                if shared.tls.is_some() && !encrypted && !peer.ip().to_canonical().is_loopback() {
                    let error = PgError::fatal("28000", "connections from other machines must be encrypted");
                    turn_away(
                        &mut socket,
                        &error.with_hint("connect with sslmode=require or stricter"),
                    )
                    .await?;
                    return Ok(None);
                }
                return match session(&mut socket, peer, shared, (major, minor), parameters).await? {
                    Ok((session, long_secret)) => Ok(Some(Begun {
                        socket,
                        session,
                        long_secret,
                    })),
                    Err(error) => {
                        metrics::counter!("anabranch_postgres_refused_total").increment(1);
                        turn_away(&mut socket, &error).await?;
                        Ok(None)
                    }
                };
            }
        }
    }
    Err(Error::Protocol("too many requests for encryption"))
}

async fn turn_away(socket: &mut Box<dyn Socket>, error: &PgError) -> Result<(), Error> {
    let mut out = Outgoing::default();
    out.error(error);
    send(socket, &out).await
}

async fn send(socket: &mut Box<dyn Socket>, out: &Outgoing) -> Result<(), Error> {
    socket
        .write_all(&out.0)
        .await
        .map_err(Error::io("cannot write to the client"))?;
    socket.flush().await.map_err(Error::io("cannot write to the client"))
}

/// Reads the start-up packet, and lets the client in or says why not.
async fn session(
    socket: &mut Box<dyn Socket>,
    peer: SocketAddr,
    shared: &Shared,
    (major, minor): (u16, u16),
    parameters: Vec<(String, String)>,
) -> Result<Result<(Session, bool), PgError>, Error> {
    if major != 3 {
        let message = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{MINOR}");
        return Ok(Err(PgError::fatal("0A000", message)));
    }
    let mut out = Outgoing::default();
    let unknown: Vec<&str> = parameters
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| name.starts_with("_pq_."))
        .collect();
    let spoken = match minor {
        0 | MINOR => minor,
        1 => 0,
        _ => MINOR,
    };
    if spoken != minor || !unknown.is_empty() {
        out.negotiate(spoken, &unknown);
        send(socket, &out).await?;
        out = Outgoing::default();
    }
    let (mut user, mut settings) = (String::new(), Vec::new());
    for (name, value) in &parameters {
        match name.as_str() {
            "user" => user.clone_from(value),
            // There is one database, whatever it is called.
            "database" => {}
            "options" => settings.extend(options(value)),
            "replication" if !matches!(value.as_str(), "" | "false" | "off" | "no" | "0") => {
                return Ok(Err(PgError::fatal("0A000", "replication is not supported")));
            }
            "replication" => {}
            name if name.starts_with("_pq_.") => {}
            _ => settings.push((name.clone(), value.clone())),
        }
    }
    if user.is_empty() {
        return Ok(Err(PgError::fatal(
            "28000",
            "no PostgreSQL user name specified in startup packet",
        )));
    }
    let principal = match authenticate(socket, shared, &user).await? {
        Some(principal) => principal,
        None => {
            tracing::info!(%peer, "a PostgreSQL client was not let in");
            if let Err(wait) = shared.failures.count(peer.ip()) {
                let error = PgError::fatal("28000", "too many wrong passwords");
                return Ok(Err(error.with_hint(format!("wait {} s", wait.as_secs().max(1)))));
            }
            let message = format!("password authentication failed for user \"{user}\"");
            let hint = "the user is the name of a token, and the password is the token";
            return Ok(Err(PgError::fatal("28P01", message).with_hint(hint)));
        }
    };
    let mut session = Session::new(principal, &user);
    if let Err(error) = session.begin_with(&settings) {
        return Ok(Err(PgError::fatal(error.code, error.message)));
    }
    out.authentication(0, b"");
    send(socket, &out).await?;
    Ok(Ok((session, spoken == MINOR)))
}

/// `-c name=value` and `--name=value`, as PGOPTIONS has them.
fn options(text: &str) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut words = text.split_ascii_whitespace();
    while let Some(word) = words.next() {
        let pair = match word
            .strip_prefix("--")
            .or_else(|| word.strip_prefix("-c").filter(|rest| !rest.is_empty()))
        {
            Some(pair) => Some(pair),
            None if word == "-c" => words.next(),
            None => None,
        };
        if let Some((name, value)) = pair.and_then(|pair| pair.split_once('=')) {
            settings.push((name.to_owned(), value.to_owned()));
        }
    }
    settings
}

/// Who it is; `None` when the password is wrong.
async fn authenticate(socket: &mut Box<dyn Socket>, shared: &Shared, user: &str) -> Result<Option<Principal>, Error> {
    let Some(verifier) = shared.access.scram_verifier(user) else {
        return Ok(shared.access.principal_of(user));
    };
    let mut out = Outgoing::default();
    out.authentication(10, format!("{}\0\0", scram::MECHANISM).as_bytes());
    send(socket, &out).await?;
    let Some(first) = read_password(socket).await? else {
        return Ok(None);
    };
    let Some(first) = sasl_initial(first) else {
        return Ok(None);
    };
    let nonce: String = rand::rng().sample_iter(Alphanumeric).take(24).map(char::from).collect();
    let Some((exchange, challenge)) = Exchange::begin(verifier, &first, &nonce) else {
        return Ok(None);
    };
    let mut out = Outgoing::default();
    out.authentication(11, challenge.as_bytes());
    send(socket, &out).await?;
    let Some(last) = read_password(socket).await? else {
        return Ok(None);
    };
    let Some(proof) = std::str::from_utf8(&last).ok().and_then(|last| exchange.finish(last)) else {
        return Ok(None);
    };
    let mut out = Outgoing::default();
    out.authentication(12, proof.as_bytes());
    send(socket, &out).await?;
    Ok(shared.access.principal_of(user))
}

/// The client's first message, if it is of the mechanism that was offered.
fn sasl_initial(mut body: Bytes) -> Option<String> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let mechanism = body.split_to(end);
    body.advance(1);
    if mechanism != scram::MECHANISM.as_bytes() || body.len() < 4 {
        return None;
    }
    let length = usize::try_from(body.get_i32()).ok()?;
    (length == body.len())
        .then(|| String::from_utf8(body.into()).ok())
        .flatten()
}

#[cfg(test)]
mod tests;
