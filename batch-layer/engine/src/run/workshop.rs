use std::sync::Arc;

use anabranch_compute::Kernel;
use anabranch_realtime::Directory;
use anabranch_runtime::Shutdown;

use crate::site::Site;

/// What folding events, and comparing what comes of it with what is served, takes.
pub(crate) struct Workshop {
    pub(crate) site: Arc<Site>,
    pub(crate) kernel: Arc<Kernel>,
    /// The speed workers.
    pub(crate) directory: Directory,
    /// Ends what is being read.
    pub(crate) shutdown: Shutdown,
}
