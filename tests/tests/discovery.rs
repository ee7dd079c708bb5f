//! Backends come and go as sources say, under traffic that loses nothing while its backends live.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

#[path = "discovery/consul.rs"]
mod consul;
#[path = "discovery/dns.rs"]
mod dns;
#[path = "discovery/etcd.rs"]
mod etcd;
#[path = "discovery/eureka.rs"]
mod eureka;
#[path = "discovery/fake.rs"]
mod fake;
#[path = "discovery/file.rs"]
mod file;
#[path = "discovery/fleet.rs"]
mod fleet;
#[path = "discovery/kubernetes.rs"]
mod kubernetes;
#[path = "discovery/member.rs"]
mod member;
#[path = "discovery/papers.rs"]
mod papers;
#[path = "discovery/stage.rs"]
mod stage;
