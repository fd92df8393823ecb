use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anabranch_access::Perimeter;
use anabranch_compute::{Kernel, Options};
use anabranch_dataset::Store;
use anabranch_definitions::Definitions;
use anabranch_model::ErrorKind;
use anabranch_realtime::Directory;
use anabranch_runtime::http::{Drain, advertised};
use anabranch_runtime::tls::Clients;
use anabranch_runtime::{OnError, Settings, Shutdown, Tasks};
use tokio::net::TcpListener;

use crate::http::{self, Api, Forwarding};
use crate::parts::{Given, Parts};
use crate::standing::leader::Leadership;
use crate::standing::succession;
use crate::triggers::watch;
use crate::{Error, Schedule, Trigger};

/// What the batch layer needs to start.
pub struct BatchOptions {
    pub settings: Arc<Settings>,
    /// What runs compute at first; those that are in the definitions log are followed from there on.
    pub definitions: Arc<Definitions>,
    pub store: Store,
    /// Bound by the caller, so that tests can let the system choose the port.
    pub listener: TcpListener,
    /// Names this process in its lease; must differ between living processes.
    pub worker_id: String,
    pub shutdown: Shutdown,
}

/// How soon a start is tried again that the store did not answer.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Starts the batch layer.
pub struct BatchLayer;

/// A running batch layer.
pub struct BatchHandle {
    address: SocketAddr,
    tasks: Tasks,
}

/// Exposes counters of rare things before the first of them: a rate over one that appears with its first event misses it.
fn begin_counters() {
    metrics::counter!("anabranch_maintenance_errors_total").increment(0);
    for trigger in Trigger::ALL {
        for state in ["published", "held", "compared", "failed"] {
            metrics::counter!("anabranch_batch_runs_total", "state" => state, "trigger" => trigger.as_str())
                .increment(0);
        }
    }
}

impl BatchLayer {
    /// Proves the store, settles what a former process left behind, and starts serving.
    ///
    /// # Errors
    /// Settings that cannot be used; a store that does not answer or has no atomic create-if-absent.
    pub async fn start(options: BatchOptions) -> Result<BatchHandle, Error> {
        let BatchOptions {
            settings,
            definitions,
            store,
            listener,
            worker_id,
            shutdown,
        } = options;
        let perimeter = Perimeter::start(&settings, &store, &worker_id).await?;
        let batch = &settings.batch;
        let schedule = batch
            .schedule
            .as_deref()
            .map(|text| Schedule::parse(text, &batch.time_zone))
            .transpose()?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::Task(format!("listener: {error}")))?;
        perimeter.check("batch.listen", address)?;
        let advertise = batch.advertise.as_deref();
        let advertised = advertised("batch", advertise, perimeter.scheme(), address);
        let kernel = Kernel::new(&Options {
            threads: batch.threads,
            memory_budget_bytes: batch.memory_budget.get(),
            spill_dir: batch.spill_dir.clone(),
        })?;
        let calls = perimeter.caller().calls()?;
        let parts = Parts::new(Given {
            leadership: Leadership::new(&store, &worker_id),
            lease: (worker_id, advertised),
            directory: Directory::new(&store).with_caller(perimeter.caller()),
            kernel: Arc::new(kernel),
            shutdown: shutdown.clone(),
            settings: settings.clone(),
            definitions,
            store,
        });
        while let Err(error) = parts.succession.begin().await {
            if error.kind() != ErrorKind::Unavailable || shutdown.is_cancelled() {
                return Err(error);
            }
            tracing::warn!(%error, "the object store does not answer; trying again");
            parts.site.environment().sleep(TRY_AGAIN).await;
        }

        begin_counters();
        tracing::info!(%address, schedule = schedule.as_ref().map(Schedule::expression), "batch layer is up");
        let tasks = Tasks::new(shutdown);
        for (name, on_error, work) in parts.standing() {
            tasks.spawn(name, on_error, work);
        }
        let succession = succession::watch(parts.succession.clone(), parts.shutdown.clone());
        tasks.spawn("batch leadership", OnError::Log, succession);
        let on_time = watch::schedule(parts.requests.clone(), schedule.clone());
        tasks.spawn("batch schedule", OnError::Shutdown, on_time);
        let forwarding = Forwarding {
            leadership: parts.leadership.clone(),
            caller: perimeter.caller(),
            calls,
        };
        let stopped = parts.stopped.clone();
        let router = http::router(Arc::new(parts.api(schedule)), Arc::new(forwarding));
        let router = perimeter.protect(router, http::needs);
        // Last to stop: a client can still ask how the run ended.
        let served = perimeter.serve(listener, Clients::Certified, router, stopped, Drain::default());
        tasks.spawn("batch http", OnError::Shutdown, served);
        Ok(BatchHandle { address, tasks })
    }
}

impl Parts {
    /// What HTTP answers are made of.
    fn api(self, schedule: Option<Schedule>) -> Api {
        Api {
            threads: self.runner.workshop.kernel.threads(),
            site: self.site,
            board: self.board,
            requests: self.requests,
            leadership: self.leadership,
            lease: self.lease,
            maintenance: self.maintenance,
            shutdown: self.shutdown,
            schedule,
        }
    }
}

impl BatchHandle {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the layer has stopped: a running run is cancelled and recorded as failed, then HTTP ends.
    ///
    /// # Errors
    /// The failure that stopped it, if it was not the shutdown signal.
    pub async fn stopped(self) -> Result<(), Error> {
        self.tasks.join().await.map_err(Error::Task)
    }
}

#[cfg(test)]
mod tests;
