//! How serving reaches speed workers: calls that take time, get lost, or meet a worker that is paused or gone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use anabranch_model::Offset;
use anabranch_model::realtime::{Piece, SnapshotReply, SnapshotRequest, StateTicket};
use anabranch_realtime::{Peer, Peers};
use anabranch_speed::simulation::Flight;
use arrow::array::RecordBatch;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::definitions::versions;
use crate::mutation::Mutation;
use crate::random::Random;
use crate::scheduler::{Micros, ProcessId, Scheduler};
use crate::store::Server;

/// When a caller gives up.
const CALL_TIMEOUT: Micros = 2_000_000;

/// Who listens where.
pub struct Network {
    pub scheduler: Arc<Scheduler>,
    pub server: Arc<Server>,
    pub workers: Mutex<BTreeMap<String, (ProcessId, Flight)>>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

#[derive(Debug)]
struct Line {
    network: Arc<Network>,
    address: String,
}

/// The network as serving processes see it.
#[derive(Clone, Debug)]
pub struct Lines(pub Arc<Network>);

impl Peers for Lines {
    fn at(&self, address: &str) -> Arc<dyn Peer> {
        Arc::new(Line {
            network: Arc::clone(&self.0),
            address: address.to_owned(),
        })
    }
}

impl Network {
    /// The worker at an address, after the way there; `Err` when there is no answer.
    async fn reach(&self, address: &str) -> Result<Flight, String> {
        let lost = self.server.faults.lock().lost_call;
        let (lost, way) = self
            .scheduler
            .draw(|random| (random.chance(lost), random.within(50..6_000)));
        self.scheduler.sleep_micros(way).await;
        if lost {
            self.server.counts.lock().fault("calls lost");
            self.scheduler.sleep_micros(CALL_TIMEOUT).await;
            return Err("no answer in time".to_owned());
        }
        let found = self.workers.lock().get(address).cloned();
        match found {
            Some((process, flight)) if !self.scheduler.is_dead(process) => {
                if self.scheduler.is_paused(process) {
                    self.scheduler.sleep_micros(CALL_TIMEOUT).await;
                    return Err("no answer in time".to_owned());
                }
                Ok(flight)
            }
            _ => Err("connection refused".to_owned()),
        }
    }

    async fn way_back(&self) {
        let way = self.scheduler.draw(|random| random.within(50..6_000));
        self.scheduler.sleep_micros(way).await;
    }
}

/// A request for another version of one of the views.
fn other_version(request: &SnapshotRequest, random: &mut Random) -> Option<SnapshotRequest> {
    let mut request = request.clone();
    let index = random.index(request.views.len().max(1));
    let asked = request.views.get_mut(index)?;
    let others: Vec<_> = versions()
        .iter()
        .filter(|other| other.view.name() == asked.view && *other.view.hash() != asked.hash)
        .collect();
    let other = others.get(random.index(others.len().max(1)))?;
    asked.hash.clone_from(other.view.hash());
    Some(request)
}

/// Whether a worker has state of all views that it was asked for. It leaves out those that it does not run.
fn is_ready(reply: &SnapshotReply, request: &SnapshotRequest) -> bool {
    let is_ready = |piece: &Piece| matches!(piece, Piece::Ready { .. });
    let mut pieces = reply.views.values().flat_map(|view| view.partitions.values());
    reply.views.len() == request.views.len() && pieces.all(is_ready)
}

fn claim_more(reply: &mut SnapshotReply) {
    for piece in reply
        .views
        .values_mut()
        .flat_map(|pieces| pieces.partitions.values_mut())
    {
        if let Piece::Ready { range, .. } = piece {
            range.end = Offset(range.end.0 + 1);
        }
    }
}

impl Peer for Line {
    fn snapshot(&self, request: &SnapshotRequest) -> BoxFuture<'static, Result<SnapshotReply, String>> {
        let (network, address, request) = (Arc::clone(&self.network), self.address.clone(), request.clone());
        async move {
            let flight = network.reach(&address).await?;
            let mut reply = flight.freeze(&request);
            if network.server.mutation == Some(Mutation::ServesOtherVersion) {
                let other = network.scheduler.draw(|random| other_version(&request, random));
                let other = other.map(|request| flight.freeze(&request));
                reply = other.filter(|other| is_ready(other, &request)).unwrap_or(reply);
            }
            if network.server.mutation == Some(Mutation::ServesTooFar) {
                claim_more(&mut reply);
            }
            if network.server.mutation == Some(Mutation::HidesExclusions) {
                reply.views.values_mut().for_each(|pieces| pieces.excluded.clear());
            }
            network.way_back().await;
            Ok(reply)
        }
        .boxed()
    }

    fn state(&self, ticket: &StateTicket) -> BoxFuture<'static, Result<Vec<RecordBatch>, String>> {
        let (network, address, mut ticket) = (Arc::clone(&self.network), self.address.clone(), ticket.clone());
        if network.server.mutation == Some(Mutation::ServesOtherSnapshot) {
            ticket.snapshot -= 1;
        }
        async move {
            let flight = network.reach(&address).await?;
            let state = flight.read(&ticket).map_err(|error| error.to_string());
            network.way_back().await;
            state
        }
        .boxed()
    }
}
