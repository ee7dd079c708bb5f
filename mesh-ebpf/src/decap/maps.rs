//! The decapsulator's maps, and the only code that touches them.
#![expect(unsafe_code, reason = "map values are reached through raw pointers")]

use aya_ebpf::{
    macros::map,
    maps::{HashMap, LpmTrie, PerCpuArray},
};
use mesh_common::{abi::halves, outcome::DecapOutcome};
use mesh_ebpf::trie::Whole;

/// An address as two words: keys are looked up from the stack, which must be aligned.
type Address = [u64; 2];

/// The addresses of this host that tunnels may end at; IPv4 as IPv4-mapped addresses.
#[map]
static OWN_ADDRESSES: HashMap<Address, u8> = HashMap::with_max_entries(1024, 0);

/// The VIPs that tunnel packets may carry, as prefixes; IPv4 as IPv4-mapped addresses.
#[map]
static VIPS: LpmTrie<Address, u8> = LpmTrie::with_max_entries(65_536, 0);

#[map]
static OUTCOMES: PerCpuArray<u64> = PerCpuArray::with_max_entries(DecapOutcome::COUNT, 0);

#[inline(always)]
pub(crate) fn is_own_address(address: [u8; 16]) -> bool {
    OWN_ADDRESSES.get_ptr(halves(address)).is_some()
}

#[inline(always)]
pub(crate) fn is_vip(address: [u8; 16]) -> bool {
    VIPS.get(Whole::new(halves(address)).key()).is_some()
}

#[inline(always)]
pub(crate) fn count(outcome: DecapOutcome) {
    if let Some(counter) = OUTCOMES.get_ptr_mut(outcome.index()) {
        // SAFETY: the element belongs to this CPU.
        unsafe { *counter += 1 };
    }
}
