use std::sync::Arc;

use anabranch_access::{Access, Failures};
use anabranch_front::QueryEngine;
use anabranch_runtime::tls::{Listener, Peer};
use anabranch_runtime::{Shutdown, http};
use arrow_flight::flight_service_server::FlightServiceServer;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use tonic::service::Routes;
use tonic::{Code, Status};

use crate::handle::MAX_HANDLE_BYTES;
use crate::service::Service;
use crate::{Error, catalog};

/// What the server needs to start.
pub struct Options {
    /// Bound by the caller, so that it can choose the port; with or without TLS.
    pub listener: Listener,
    pub engine: Arc<dyn QueryEngine>,
    pub access: Access,
    /// Counts wrong credentials.
    pub failures: Failures,
    pub shutdown: Shutdown,
}

/// In what arrow-flight says of a command that is of a known type, and nothing of it.
const UNDECODED: &str = "Unable to decode Any value";

/// Serves Flight SQL. See [`FlightSqlServer::start`].
pub struct FlightSqlServer {
    listener: Listener,
    service: FlightServiceServer<Service>,
    failures: Failures,
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
            failures: options.failures,
            shutdown: options.shutdown,
        })
    }

    /// Serves until shutdown; answers that are on their way have some seconds to end.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(self) -> Result<(), Error> {
        let router = Routes::new(self.service).into_axum_router();
        let router = router.layer(from_fn_with_state(self.failures, settle));
        http::serve(self.listener, router, self.shutdown).await?;
        Ok(())
    }
}

/// An address that shows many wrong credentials is told to wait. What cannot be decoded is the client's mistake, which the library
/// takes for ours.
async fn settle(
    State(failures): State<Failures>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    let Some(status) = Status::from_header_map(response.headers()) else {
        return response;
    };
    match status.code() {
        Code::Unauthenticated => match failures.count(peer.address.ip()) {
            Ok(()) => response,
            Err(wait) => {
                let seconds = wait.as_secs().max(1);
                Status::resource_exhausted(format!("too many wrong credentials; wait {seconds} s")).into_http()
            }
        },
        Code::Internal if status.message().contains(UNDECODED) => {
            Status::invalid_argument("the command cannot be decoded").into_http()
        }
        _ => response,
    }
}
