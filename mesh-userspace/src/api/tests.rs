//! The server and the client over a real socket, with a loop that knows one service and two backends.

mod agent;
mod bounds;
mod routes;
mod socket;
