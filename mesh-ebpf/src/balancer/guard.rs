//! The guard: which clients a service serves.
#![expect(unsafe_code, reason = "map values are reached through raw pointers")]

use crate::client::Client;
use aya_ebpf::{Global, bindings::BPF_F_MMAPABLE, macros::map, maps::Array};
use mesh_common::{
    abi::{ServiceEntry, flag, halves, protocol},
    policy::Policy,
};
use mesh_ebpf::verifier::opaque;

/// Divided as [`mesh_common::abi::PolicyLayout`] says; the size given here is a placeholder, the agent makes the map.
#[map]
static POLICIES: Array<[u64; 12]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

// Both halves of each part together, and where they begin; set at load time.

#[unsafe(no_mangle)]
static POLICY_COUNT: Global<u32> = Global::new(1);

#[unsafe(no_mangle)]
static BOUNDARY_COUNT: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
static BOUNDARIES_AT: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static INDEX_COUNT: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
static INDEX_AT: Global<u32> = Global::new(0);

/// The policies, found.
#[derive(Clone, Copy)]
struct Policies(*mut u8);

impl Policies {
    /// The element with this index of the part that has `count` from the byte `at` on.
    #[inline(always)]
    fn element<T: Copy>(self, at: u32, count: u32, index: u32) -> Option<&'static T> {
        let index = opaque(index as usize);
        if index >= count as usize {
            return None;
        }
        // SAFETY: the agent made the map so large that all of the part lies within it, and writes no half that packets
        // read.
        Some(unsafe { &*self.0.add(at as usize).cast::<T>().add(index) })
    }

    #[inline(always)]
    fn boundary(self, at: u32) -> Option<[u64; 2]> {
        self.element(BOUNDARIES_AT.load(), BOUNDARY_COUNT.load(), at).copied()
    }

    #[inline(always)]
    fn index(self, at: u32) -> Option<u32> {
        self.element(INDEX_AT.load(), INDEX_COUNT.load(), at).copied()
    }
}

/// Whether a service does not serve a client.
#[inline(always)]
pub(crate) fn denies<C: Client>(service: &ServiceEntry, client: &C) -> bool {
    if service.flags & flag::GUARDED == 0 {
        return false;
    }
    let [high, low] = halves(client.address()).map(u64::from_be);
    guard_denies(service.policy, high, low, C::INNER_PROTOCOL.into()) != 0
}

/// 1 if the policy at a place denies a client, or if there is none: a guard that is not yet there lets nobody in.
///
/// A function that packets of services without a guard save no registers for. Exported, which makes it a global one: the
/// verifier walks through it once by itself, and not for every state of whoever calls it (kernel 5.6).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn guard_denies(place: u32, high: u64, low: u64, family: u32) -> u32 {
    search(place, [high, low], family).unwrap_or(true).into()
}

#[inline(always)]
fn search(place: u32, client: [u64; 2], family: u32) -> Option<bool> {
    let policies = Policies(POLICIES.get_ptr_mut(0)?.cast());
    let policy: &Policy = policies.element(0, POLICY_COUNT.load(), place.wrapping_sub(1))?;
    let part = if family == u32::from(protocol::IPIP) { &policy.v4 } else { &policy.v6 };
    part.denies(client, |at| policies.boundary(at), |at| policies.index(at))
}
