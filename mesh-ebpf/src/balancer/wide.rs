//! Services wider than one port of one address: prefixes, ranges of ports, any protocol.
//!
//! They are looked for only where no service of one port of one address was found, and only while there are any.

use crate::{client::Client, maps, parse::Flow};
use mesh_common::{
    abi::{ServiceEntry, class, rule_key},
    flow::Signs,
    hash,
    outcome::Outcome,
};

/// The most specific wide service that owns an address (IPv4 as an IPv4-mapped one), a class of protocols and a port (in
/// wire order; 0 where there is none).
#[inline(always)]
pub(crate) fn service(address: [u64; 2], class: u8, port: [u8; 2]) -> Option<&'static ServiceEntry> {
    if !maps::any_wide() {
        return None;
    }
    maps::rule(rule_key(maps::group(address)?, class, port))
}

/// The wide service that a flow is to. A flow to a service of any protocol is a pair of addresses without a beginning:
/// the flow becomes that.
#[inline(always)]
pub(crate) fn adopt<C: Client>(flow: &mut Flow<C>) -> Result<&'static ServiceEntry, Outcome> {
    let (key, class) = (flow.service, class(flow.service.protocol()));
    let missing = if class == 0 { Outcome::OtherProtocol } else { Outcome::NotAService };
    let service = service(key.address(), class, key.port()).ok_or(missing)?;
    if service.key.protocol() == 0 {
        flow.service = key.without_port();
        flow.client = flow.client.without_port();
        if flow.signs != Signs::RELATED {
            flow.signs = Signs::DATAGRAM;
        }
    }
    Ok(service)
}

/// The hash of a flow to a service: that of its client, and if the service is wide, of whom it is to, too.
#[inline(always)]
pub(crate) fn hash<C: Client>(flow: &Flow<C>, service: &ServiceEntry) -> u64 {
    let hash = flow.client.hash();
    if service.key.is_wide() {
        hash::towards(hash, flow.service.address(), flow.service.port())
    } else {
        hash
    }
}
