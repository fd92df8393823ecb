//! One consistent snapshot for each request, and reading the views of it.
//!
//! [`consistency`] pins a publication and asks the speed workers for one prefix of every partition; [`reading`] merges the batch
//! state and the realtime state of one view as its reader asks for them; [`pushdown`] says which groups a filter can mean at all.

pub(crate) mod consistency;
pub(crate) mod pushdown;
pub(crate) mod reading;
