use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_dataset::Store;
use anabranch_runtime::http::{self, Drain};
use anabranch_runtime::tls::{self, Clients, Listener, Tls};
use anabranch_runtime::{AccessMode, AccessSettings, AuditTo, Settings, Shutdown, TlsSettings};
use axum::Router;
use axum::http::HeaderValue;
use axum::middleware::from_fn_with_state;
use rustls::ClientConfig;
use tokio::net::TcpListener;
use utoipa_axum::router::OpenApiRouter;

use crate::audit::Audit;
use crate::limit::{Failures, Limiter};
use crate::need::Needs;
use crate::{Access, Calls, Error, Patience, Principal, guard, session};

/// How many seconds' worth of its requests a principal may make at once.
const BURST_SECONDS: f64 = 10.0;

/// What stands between a service and those who call it, and between it and those it calls: who may do what, TLS, limits, the
/// audit log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Perimeter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    service: String,
    access: Access,
    settings: AccessSettings,
    tls_settings: TlsSettings,
    tls: Option<Tls>,
    /// How calls are secured; `None` leaves it to the clients' own defaults.
    client: Option<Arc<ClientConfig>>,
    audit: Audit,
    rates: Option<Limiter<Arc<str>>>,
    failures: Failures,
}

impl Perimeter {
    /// Lets everybody in, unencrypted: for tests, and for what only its own machine can reach.
    pub fn open(service: &str) -> Self {
        let settings = AccessSettings::default();
        Self(Arc::new(Inner {
            service: service.to_owned(),
            access: Access::open(),
            failures: Failures::new(settings.failures_per_minute),
            settings,
            tls_settings: TlsSettings::default(),
            tls: None,
            client: None,
            audit: Audit::new(None, None),
            rates: None,
        }))
    }

    /// As the settings say. `service` names this process in the audit log and to other services.
    ///
    /// # Errors
    /// Files of TLS or of the identity provider that cannot be used; a store that does not answer.
    pub async fn start(settings: &Settings, store: &Store, service: &str) -> Result<Self, Error> {
        let tls = Tls::load(&settings.tls)?;
        let calls = tls.is_some() || settings.tls.ca.is_some();
        let client = calls.then(|| tls::client(&settings.tls, tls.as_ref())).transpose()?;
        let access = Access::start(settings, store).await?;
        let kept = !access.is_open() && settings.access.audit == AuditTo::Store;
        let per_second = f64::from(settings.access.requests_per_second);
        Ok(Self(Arc::new(Inner {
            service: service.to_owned(),
            access,
            tls,
            client: client.map(Arc::new),
            audit: Audit::new(kept.then_some(store), settings.access.audit_file.clone()),
            rates: (per_second > 0.0).then(|| Limiter::new(per_second, per_second * BURST_SECONDS)),
            failures: Failures::new(settings.access.failures_per_minute),
            settings: settings.access.clone(),
            tls_settings: settings.tls.clone(),
        })))
    }

    /// Refuses to listen where strangers can reach an address that is not secured. `key` is the setting that names it.
    ///
    /// # Errors
    /// What to do instead.
    pub fn check(&self, key: &str, address: SocketAddr) -> Result<(), Error> {
        check_exposure(&self.0.settings, &self.0.tls_settings, key, address)
    }

    /// Takes connections of everybody (`Clients::Anybody`), or of services only.
    pub fn listener(&self, tcp: TcpListener, clients: Clients) -> Listener {
        match &self.0.tls {
            Some(tls) => Listener::with_tls(tcp, tls.clone(), clients),
            None => tcp.into(),
        }
    }

    /// Lets requests through to a service's routes that may come through.
    pub fn protect(&self, router: Router, needs: Needs) -> Router {
        router.layer(from_fn_with_state((self.clone(), needs), guard::guard))
    }

    /// `/v1/login`, `/v1/logout` and `/v1/whoami`, and how they are described, for a service with a console; to be protected with
    /// the rest.
    pub fn session_routes(&self) -> OpenApiRouter {
        session::router(self.clone())
    }

    /// Serves a protected router until shutdown, then goes away as `drain` says; keeps tokens and certificates fresh meanwhile.
    ///
    /// # Errors
    /// When the listener fails for good.
    pub async fn serve(
        self,
        tcp: TcpListener,
        clients: Clients,
        router: Router,
        shutdown: Shutdown,
        drain: Drain,
    ) -> io::Result<()> {
        let listener = self.listener(tcp, clients);
        // Until the last request has been answered.
        let never = Shutdown::new();
        tokio::select! {
            served = http::serve_draining(listener, router, shutdown, drain) => served,
            () = self.follow(&never) => Ok(()),
        }
    }

    /// Looks for new tokens, revocations and certificates until shutdown.
    pub async fn follow(&self, shutdown: &Shutdown) {
        let tokens = async {
            let mut failing = false;
            while !shutdown.is_cancelled() {
                tokio::select! {
                    () = tokio::time::sleep(*self.0.settings.refresh) => {}
                    () = shutdown.cancelled() => break,
                }
                match self.0.access.refresh().await {
                    Ok(()) => failing = false,
                    Err(error) => {
                        // Once per outage.
                        if !failing {
                            tracing::warn!(%error, "tokens cannot be read; those that are known go on counting");
                        }
                        failing = true;
                    }
                }
            }
        };
        let certificates = async {
            match &self.0.tls {
                Some(tls) => tls.follow(shutdown).await,
                None => shutdown.cancelled().await,
            }
        };
        tokio::join!(tokens, certificates);
    }

    pub fn access(&self) -> &Access {
        &self.0.access
    }

    /// For listeners that speak something else than HTTP.
    pub fn tls(&self) -> Option<&Tls> {
        self.0.tls.as_ref()
    }

    /// `https` or `http`: how others reach this service.
    pub fn scheme(&self) -> &'static str {
        self.0.tls_settings.scheme()
    }

    /// Id of the service, as its lease has it.
    pub fn service(&self) -> &str {
        &self.0.service
    }

    pub fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// How this service calls others.
    pub fn caller(&self) -> Caller {
        Caller {
            access: self.0.access.clone(),
            principal: Principal::service(&self.0.service),
            tls: self.0.client.clone(),
        }
    }

    pub(crate) fn open_metrics(&self) -> bool {
        self.0.settings.open_metrics
    }

    /// Counts a request of somebody who was let in. Where access is open, everybody is counted by their address.
    pub(crate) fn count(&self, who: &Principal, from: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let Some(rates) = &self.0.rates else {
            return Ok(());
        };
        match from {
            Some(address) if self.0.access.is_open() => rates.take(&address.to_string().into(), now),
            _ => rates.take(&who.name, now),
        }
    }

    /// Counts a query of somebody who came in by another protocol than HTTP. Where access is open, there is nobody to count.
    ///
    /// # Errors
    /// When there were too many: how long to wait.
    pub fn count_query(&self, who: &Principal) -> Result<(), Duration> {
        if self.0.access.is_open() {
            return Ok(());
        }
        let counted = self.count(who, None, Instant::now());
        if counted.is_err() {
            metrics::counter!("anabranch_access_denied_total", "reason" => "too_often").increment(1);
        }
        counted
    }

    /// Counts wrong credentials, for listeners that speak something else than HTTP.
    pub fn failures(&self) -> Failures {
        self.0.failures.clone()
    }

    pub(crate) fn count_failure(&self, from: IpAddr, now: Instant) -> Result<(), Duration> {
        self.0.failures.take(from, now)
    }
}

/// Refuses an address that other machines can reach, unless access is guarded and connections are encrypted, or the settings
/// say that it is meant.
///
/// # Errors
/// What to do instead.
pub fn check_exposure(access: &AccessSettings, tls: &TlsSettings, key: &str, address: SocketAddr) -> Result<(), Error> {
    let guarded = access.mode == AccessMode::Tokens;
    if address.ip().to_canonical().is_loopback() || (guarded && tls.is_on()) {
        return Ok(());
    }
    let lacks = match (guarded, tls.is_on()) {
        (false, false) => "anybody could read and change everything, and listen in",
        (false, true) => "anybody could read and change everything",
        (true, _) => "tokens and data would pass unencrypted",
    };
    if access.insecure {
        tracing::warn!(
            %address,
            "`{key}` can be reached by other machines, and {lacks}; `access.insecure` says that something else prevents it"
        );
        return Ok(());
    }
    Err(Error::Settings(format!(
        "`{key}` is {address}, which other machines can reach, and {lacks}: set `cert` and `key` in [tls] and \
         `mode = \"tokens\"` in [access]; or listen on 127.0.0.1; or, where something else secures the network, set \
         `insecure = true` in [access]"
    )))
}

/// How a service calls others: as whom, and how the connection is secured. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller {
    access: Access,
    principal: Principal,
    tls: Option<Arc<ClientConfig>>,
}

impl Caller {
    /// Calls without credentials.
    pub fn plain() -> Self {
        Perimeter::open("").caller()
    }

    /// What `authorization` says when the service asks for itself.
    pub fn authorization(&self) -> Option<HeaderValue> {
        self.authorization_of(&self.principal)
    }

    /// What `authorization` says when it asks for somebody whom it let in.
    pub fn authorization_of(&self, principal: &Principal) -> Option<HeaderValue> {
        let bearer = format!("Bearer {}", self.access.assertion(principal)?);
        let mut value = HeaderValue::from_str(&bearer).expect("an assertion is base64 and dots");
        value.set_sensitive(true);
        Some(value)
    }

    /// How connections to `https://` addresses are made.
    pub fn tls(&self) -> Option<&Arc<ClientConfig>> {
        self.tls.as_ref()
    }

    /// Calls of other services' HTTP ports; `authorization` is for each request to say.
    ///
    /// # Errors
    /// When the system gives no client.
    pub fn calls(&self) -> Result<Calls, Error> {
        Calls::new(self.http(), Patience::default())
    }

    /// A client of other services' HTTP ports, without bounds of its own; prefer [`calls`](Self::calls).
    pub fn http(&self) -> reqwest::ClientBuilder {
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        match &self.tls {
            Some(config) => builder.use_preconfigured_tls(ClientConfig::clone(config)),
            None => builder,
        }
    }
}

impl Default for Caller {
    fn default() -> Self {
        Self::plain()
    }
}

#[cfg(test)]
mod tests;
