use std::sync::Arc;

use anabranch_compute::Kernel;
use anabranch_dataset::Store;
use anabranch_definitions::Definitions;
use anabranch_realtime::Directory;
use anabranch_runtime::{OnError, Settings, Shutdown};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::Error;
use crate::maintenance::{self, Maintenance};
use crate::run::{Runner, Workshop, run_loop};
use crate::runs::board::Board;
use crate::site::Site;
use crate::standing::leader::Leadership;
use crate::standing::lease::{self, LeaseKeeper};
use crate::standing::recovery::{self, Recovery};
use crate::standing::succession::Succession;
use crate::triggers::requests::Requests;
use crate::triggers::{retention, watch};

/// What a batch service is made from.
pub(crate) struct Given {
    pub(crate) settings: Arc<Settings>,
    pub(crate) definitions: Arc<Definitions>,
    pub(crate) store: Store,
    /// Of its lease, and where it is reached.
    pub(crate) lease: (String, String),
    pub(crate) leadership: Leadership,
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) directory: Directory,
    pub(crate) shutdown: Shutdown,
}

/// Something that goes on until shutdown: its name, what its failure means, and its work.
pub(crate) type Standing = (&'static str, OnError, BoxFuture<'static, Result<(), Error>>);

/// The parts of a batch service, which know of each other only what each needs:
///
/// ```text
///  triggers ─► requests ─► board ◄─ runner ─► workshop ─► site (what lies in the store)
///  maintenance ─► site       ▲        │
///                          lease ◄────┘   succession ─► leadership, recovery
/// ```
pub(crate) struct Parts {
    pub(crate) site: Arc<Site>,
    pub(crate) board: Arc<Board>,
    pub(crate) leadership: Arc<Leadership>,
    pub(crate) lease: Arc<LeaseKeeper>,
    pub(crate) recovery: Arc<Recovery>,
    pub(crate) succession: Arc<Succession>,
    pub(crate) requests: Arc<Requests>,
    pub(crate) runner: Arc<Runner>,
    pub(crate) maintenance: Arc<Maintenance>,
    pub(crate) shutdown: Shutdown,
    /// Given when the last run has ended after a shutdown: HTTP and the lease outlive the run.
    pub(crate) stopped: Shutdown,
}

impl Parts {
    pub(crate) fn new(given: Given) -> Self {
        let Given {
            settings,
            definitions,
            store,
            lease,
            leadership,
            kernel,
            directory,
            shutdown,
        } = given;
        let site = Arc::new(Site::new(settings, store, definitions));
        let board = Arc::new(Board::default());
        let leadership = Arc::new(leadership);
        let lease = LeaseKeeper::new(site.leases.clone(), lease, board.clone(), leadership.clone());
        let lease = Arc::new(lease);
        let recovery = Arc::new(Recovery::new(&site, &lease));
        let requests = Requests::new(site.clone(), board.clone(), leadership.clone(), shutdown.clone());
        Self {
            succession: Arc::new(Succession {
                site: site.clone(),
                board: board.clone(),
                leadership: leadership.clone(),
                lease: lease.clone(),
                recovery: recovery.clone(),
            }),
            requests: Arc::new(requests),
            runner: Arc::new(Runner {
                workshop: Workshop {
                    site: site.clone(),
                    kernel,
                    directory,
                    shutdown: shutdown.clone(),
                },
                board: board.clone(),
                lease: lease.clone(),
                leadership: leadership.clone(),
            }),
            maintenance: Arc::new(Maintenance::new(&site)),
            stopped: Shutdown::new(),
            site,
            board,
            leadership,
            lease,
            recovery,
            shutdown,
        }
    }
    /// What goes on in every batch service, a simulated one included.
    pub(crate) fn standing(&self) -> Vec<Standing> {
        let shutdown = || self.shutdown.clone();
        let (leadership, requests) = (|| self.leadership.clone(), || self.requests.clone());
        let runs = run_loop(self.runner.clone(), self.stopped.clone());
        let lease = lease::keep(self.lease.clone(), self.site.clone(), self.stopped.clone());
        let settling = recovery::keep_settling(self.recovery.clone(), leadership(), shutdown());
        let looking = maintenance::look_after(self.maintenance.clone(), leadership(), shutdown());
        vec![
            ("batch runs", OnError::Shutdown, runs.boxed()),
            ("batch lease", OnError::Log, lease.boxed()),
            ("interrupted batch runs", OnError::Log, settling.boxed()),
            (
                "batch definitions",
                OnError::Log,
                watch::definitions(requests()).boxed(),
            ),
            (
                "batch state budget",
                OnError::Log,
                watch::state_budget(requests()).boxed(),
            ),
            ("batch exclusions", OnError::Log, watch::exclusions(requests()).boxed()),
            ("batch retention", OnError::Log, retention::watch(requests()).boxed()),
            ("maintenance", OnError::Log, looking.boxed()),
        ]
    }
}
