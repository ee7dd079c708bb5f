//! The server and the client over a real socket, with a loop that knows one service and two backends.

pub(crate) mod agent;
mod bounds;
mod routes;
mod socket;
