use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::{Clients, Protocol, Tls};

/// Who takes longer to shake hands is let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes at once; further connections wait in the system's queue.
const HANDSHAKES: usize = 256;
/// How long to wait when the process has no room for another connection.
const OUT_OF_ROOM: Duration = Duration::from_millis(200);

/// Takes HTTP connections, with or without TLS.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    tls: Option<(Tls, Clients)>,
    handshakes: JoinSet<io::Result<(TlsStream<TcpStream>, SocketAddr)>>,
}

/// A connection that was taken.
pub type Connection = Either<TcpStream, TlsStream<TcpStream>>;

/// The other end of a connection; handlers find it as `ConnectInfo<Peer>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: SocketAddr,
    /// Whether nobody between can read along.
    pub encrypted: bool,
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self {
            tcp,
            tls: None,
            handshakes: JoinSet::new(),
        }
    }
}

impl Listener {
    /// Takes nothing but TLS from `clients`.
    pub fn with_tls(tcp: TcpListener, tls: Tls, clients: Clients) -> Self {
        Self {
            tls: Some((tls, clients)),
            ..Self::from(tcp)
        }
    }

    /// Begins a handshake, which goes on beside those of others: a slow client holds up nobody.
    fn begin(&mut self, stream: TcpStream, address: SocketAddr, tls: &Tls, clients: Clients) {
        let acceptor = tls.acceptor(Protocol::Http, clients);
        self.handshakes.spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
            let stream = shaken.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok((stream, address))
        });
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = Peer;

    /// Cancel-safe: handshakes go on in tasks of their own.
    async fn accept(&mut self) -> (Connection, Peer) {
        loop {
            let room = self.handshakes.len() < HANDSHAKES;
            let (stream, address) = tokio::select! {
                Some(done) = self.handshakes.join_next() => match done {
                    Ok(Ok((stream, address))) => return (Either::Right(stream), Peer { address, encrypted: true }),
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "a client did not get as far as a secure connection");
                        continue;
                    }
                    Err(error) => {
                        tracing::error!(%error, "a handshake broke off");
                        continue;
                    }
                },
                accepted = self.tcp.accept(), if room => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        refused(&error).await;
                        continue;
                    }
                },
            };
            // Answers of several small writes, as gRPC makes them, must not wait for delayed acknowledgements.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
            match self.tls.clone() {
                None => {
                    return (
                        Either::Left(stream),
                        Peer {
                            address,
                            encrypted: false,
                        },
                    );
                }
                Some((tls, clients)) => self.begin(stream, address, &tls, clients),
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer {
            address: self.tcp.local_addr()?,
            encrypted: self.tls.is_some(),
        })
    }
}

/// A connection that ended before it was taken is its own affair; a process without room waits for some.
async fn refused(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::error!(%error, "cannot take connections");
        tokio::time::sleep(OUT_OF_ROOM).await;
    }
}

impl Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        *stream.remote_addr()
    }
}
