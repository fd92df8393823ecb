//! The servers beside HTTP: PostgreSQL and Flight SQL, over the same engine, with the same access.

use std::sync::Arc;

use anabranch_access::Perimeter;
use anabranch_flight_sql::FlightSqlServer;
use anabranch_front::QueryEngine;
use anabranch_postgres::PostgresServer;
use anabranch_runtime::tls::Clients;
use anabranch_runtime::{OnError, Serving, Shutdown, Tasks};
use tokio::net::TcpListener;

use crate::Error;

/// Bound listeners of the servers that are to run.
#[derive(Debug, Default)]
pub struct FrontEnds {
    pub postgres: Option<TcpListener>,
    pub flight_sql: Option<TcpListener>,
}

impl FrontEnds {
    /// Starts them as tasks.
    ///
    /// # Errors
    /// When one may not listen where it does, or cannot be set up.
    pub(crate) fn start(
        self,
        engine: Arc<dyn QueryEngine>,
        perimeter: &Perimeter,
        settings: &Serving,
        tasks: &Tasks,
        shutdown: &Shutdown,
    ) -> Result<(), Error> {
        if let Some(listener) = self.postgres {
            let address = checked(perimeter, "serving.postgres_listen", &listener)?;
            let server = PostgresServer::start(anabranch_postgres::Options {
                listener,
                engine: Arc::clone(&engine),
                access: perimeter.access().clone(),
                failures: perimeter.failures(),
                tls: perimeter.tls().cloned(),
                max_connections: settings.postgres_connections,
                shutdown: shutdown.clone(),
            })?;
            tasks.spawn("postgres", OnError::Shutdown, server.run());
            tracing::info!(%address, "serving PostgreSQL clients");
        }
        if let Some(listener) = self.flight_sql {
            let address = checked(perimeter, "serving.flight_sql_listen", &listener)?;
            let server = FlightSqlServer::start(anabranch_flight_sql::Options {
                listener: perimeter.listener(listener, Clients::Anybody),
                engine,
                access: perimeter.access().clone(),
                failures: perimeter.failures(),
                shutdown: shutdown.clone(),
            })?;
            tasks.spawn("flight sql", OnError::Shutdown, server.run());
            tracing::info!(%address, "serving Flight SQL clients");
        }
        Ok(())
    }
}

fn checked(perimeter: &Perimeter, key: &str, listener: &TcpListener) -> Result<std::net::SocketAddr, Error> {
    let address = listener.local_addr().map_err(|source| Error::Io {
        what: "cannot read the listener's address",
        source,
    })?;
    perimeter.check(key, address)?;
    Ok(address)
}
