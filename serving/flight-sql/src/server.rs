use std::sync::Arc;

use anabranch_access::Access;
use anabranch_front::QueryEngine;
use anabranch_runtime::tls::Listener;
use anabranch_runtime::{Shutdown, http};
use arrow_flight::flight_service_server::FlightServiceServer;
use tonic::service::Routes;

use crate::handle::MAX_HANDLE_BYTES;
use crate::service::Service;
use crate::{Error, catalog};

/// What the server needs to start.
pub struct Options {
    /// Bound by the caller, so that it can choose the port; with or without TLS.
    pub listener: Listener,
    pub engine: Arc<dyn QueryEngine>,
    pub access: Access,
    pub shutdown: Shutdown,
}

/// Serves Flight SQL. See [`FlightSqlServer::start`].
pub struct FlightSqlServer {
    listener: Listener,
    service: FlightServiceServer<Service>,
    shutdown: Shutdown,
}

impl FlightSqlServer {
    /// Nothing is accepted before [`run`](Self::run).
    ///
    /// # Errors
    /// When what the server can do cannot be written down.
    pub fn start(options: Options) -> Result<Self, Error> {
        let service = Service::new(options.engine, options.access, catalog::info()?);
        Ok(Self {
            listener: options.listener,
            service: FlightServiceServer::new(service).max_decoding_message_size(2 * MAX_HANDLE_BYTES),
            shutdown: options.shutdown,
        })
    }

    /// Serves until shutdown; answers that are on their way have some seconds to end.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(self) -> Result<(), Error> {
        let router = Routes::new(self.service).into_axum_router();
        http::serve(self.listener, router, self.shutdown).await?;
        Ok(())
    }
}
