use std::sync::Arc;

use anabranch_realtime::Directory;
use anabranch_runtime::Settings;

use crate::admission::Admission;
use crate::compute::Compute;
use crate::follow::adoption::Adoption;
use crate::follow::masters::Masters;
use crate::forward::Forwarder;
use crate::live::Hub;
use crate::query::SqlEngine;
use crate::snapshot::consistency::Consistency;

/// What requests share.
pub(crate) struct Service {
    pub(crate) id: String,
    pub(crate) settings: Arc<Settings>,
    pub(crate) compute: Arc<Compute>,
    pub(crate) adoption: Arc<Adoption>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) masters: Arc<Masters>,
    pub(crate) consistency: Arc<Consistency>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) engine: SqlEngine,
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) live: Arc<Hub>,
}
