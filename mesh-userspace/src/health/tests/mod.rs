//! Probes and the prober against real sockets on the loopback interface.

mod kinds;
mod prober;
mod probes;
mod server;
