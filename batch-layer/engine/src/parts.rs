use std::sync::Arc;

use anabranch_compute::Kernel;
use anabranch_dataset::Store;
use anabranch_definitions::Definitions;
use anabranch_realtime::Directory;
use anabranch_runtime::{Settings, Shutdown};

use crate::maintenance::Maintenance;
use crate::run::{Runner, Workshop};
use crate::runs::board::Board;
use crate::site::Site;
use crate::standing::leader::Leadership;
use crate::standing::lease::LeaseKeeper;
use crate::standing::recovery::Recovery;
use crate::standing::succession::Succession;
use crate::triggers::requests::Requests;

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
}
