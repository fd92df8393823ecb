//! The serving API over real HTTP and Flight, against an object store in memory, publications written the way batch runs
//! write them, and a speed worker that holds its logs in memory and can be told to misbehave.

mod alike;
mod consistency;
mod exclusions;
mod formats;
mod forwarding;
mod fuzz;
mod large;
mod limits;
mod live;
mod parameters;
mod plans;
mod revocation;
mod rows;
mod safety;
mod sql;
mod status;
mod support;
mod system;
