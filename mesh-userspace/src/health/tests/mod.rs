//! Probes and the prober against real sockets on the loopback interface.

mod prober;
mod probes;
mod server;
