//! The network-namespace harness: real hosts, links, servers and clients for the integration tests, the demo
//! and the benchmarks, on one machine and without touching its own network.
//!
//! A [`Topology`] is a set of namespaces around a bridge; a [`Host`] is one of them, in which commands,
//! closures and futures run; [`HttpServer`], [`Client`] and [`Downloads`] make traffic, [`flood`] too much of it; [`Agent`] and
//! [`Decap`] run the `meshlb` binary, a [`LoggedChild`] is any other program.
//!
//! Invariant: whatever a topology made (namespaces, the bpffs mount, files, processes) carries its name and
//! goes when it is dropped, when a test panics, and when the process is interrupted; what a killed process
//! left behind is removed by the next one. Nothing here sleeps to wait for something: see [`wait`].

mod agent;
mod child;
mod cleanup;
mod client;
mod decap;
mod downloads;
mod enter;
pub mod flood;
mod host;
mod http;
mod ip;
pub mod lab;
pub mod meshlb;
pub mod metrics;
mod name;
mod namespace;
mod pass;
pub mod preflight;
mod registry;
mod requests;
mod runtime;
pub mod scene;
mod topology;
pub mod wait;

pub use agent::Agent;
pub use child::LoggedChild;
pub use client::{Client, Reply};
pub use decap::Decap;
pub use downloads::{Download, Downloads, Failure, Progress, Summary};
pub use host::{Host, INTERFACE};
pub use http::HttpServer;
pub use requests::Requests;
pub use runtime::HostRuntime;
pub use topology::{Builder, Topology};
