//! The decapsulator's maps, and the only code that touches them.
#![expect(unsafe_code, reason = "map values are reached through raw pointers")]

use aya_ebpf::{
    macros::map,
    maps::{HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
};
use mesh_common::{abi::halves, outcome::DecapOutcome};
use mesh_ebpf::header::Ports;

const _: () = assert!(size_of::<[u64; 3]>() == size_of::<Key<[u32; 5]>>());

/// An address as two words: keys are looked up from the stack, which must be aligned.
type Address = [u64; 2];

/// The addresses of this host that tunnels may end at; IPv4 as IPv4-mapped addresses.
#[map]
static OWN_ADDRESSES: HashMap<Address, u8> = HashMap::with_max_entries(1024, 0);

/// The VIPs that tunnel packets may carry, or prefixes of them; IPv4 as IPv4-mapped addresses, all behind four bytes of
/// zero, which round the key up to whole words.
#[map]
static VIPS: LpmTrie<[u32; 5], u8> = LpmTrie::with_max_entries(65_536, 0);

/// Bits of a whole key in [`VIPS`].
const WHOLE: u64 = 32 + 128;

/// The UDP ports at which tunnels are unwrapped, and which of [`mesh_common::abi::tunnel`].
#[map]
static PORTS: HashMap<u32, u32> = HashMap::with_max_entries(64, 0);

#[map]
static OUTCOMES: PerCpuArray<u64> = PerCpuArray::with_max_entries(DecapOutcome::COUNT, 0);

#[inline(always)]
pub(crate) fn is_own_address(address: [u8; 16]) -> bool {
    OWN_ADDRESSES.get_ptr(halves(address)).is_some()
}

#[inline(always)]
pub(crate) fn is_vip(address: [u8; 16]) -> bool {
    let [first, second] = halves(address);
    // The length of the prefix and the bytes of zero are one word: keys are looked up from the stack, in which words
    // are aligned.
    let key = [WHOLE, first, second];
    // SAFETY: the trie's key is packed, of as many bytes, and any bytes make a valid one.
    VIPS.get(unsafe { &*(&raw const key).cast::<Key<[u32; 5]>>() }).is_some()
}

/// What is unwrapped at the destination port of a UDP header.
#[inline(always)]
pub(crate) fn tunnel(ports: Ports) -> Option<u32> {
    // SAFETY: one aligned word, which the process writes in one store.
    unsafe { PORTS.get(u32::from(u16::from_be(ports.destination))) }.copied()
}

#[inline(always)]
pub(crate) fn count(outcome: DecapOutcome) {
    if let Some(counter) = OUTCOMES.get_ptr_mut(outcome.index()) {
        // SAFETY: the element belongs to this CPU.
        unsafe { *counter += 1 };
    }
}
