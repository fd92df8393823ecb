//! Messages of the protocol, both ways.

mod backend;
mod frontend;

pub(crate) use backend::{
    BIND_COMPLETE, CLOSE_COMPLETE, COPY_DONE, Column, EMPTY_QUERY, NO_DATA, Outgoing, PARSE_COMPLETE, PORTAL_SUSPENDED,
};
pub(crate) use frontend::{Message, MessageReader, Startup, Target, read_password, read_startup};
