//! What the verifier needs to be shown, where there is none: on the host.
#![expect(unsafe_code, reason = "words of maps are changed through raw addresses")]

use core::{
    ffi::c_void,
    sync::atomic::{AtomicU64, Ordering},
};

/// The same value.
#[must_use]
pub const fn opaque(value: usize) -> usize {
    value
}

/// The larger of two numbers.
#[must_use]
pub fn larger(one: usize, other: usize) -> usize {
    one.max(other)
}

/// The same value.
#[must_use]
pub const fn forget(value: usize, _unknown: usize) -> usize {
    value
}

/// Adds to a word that others change, too.
///
/// # Safety
///
/// The word is aligned, and may be written.
pub unsafe fn add(word: *mut u64, by: u64) {
    // SAFETY: the caller's word.
    unsafe { AtomicU64::from_ptr(word) }.fetch_add(by, Ordering::Relaxed);
}

/// Sets bits of a word that others change, too.
///
/// # Safety
///
/// The word is aligned, and may be written.
pub unsafe fn set(word: *mut u64, bits: u64) {
    // SAFETY: the caller's word.
    unsafe { AtomicU64::from_ptr(word) }.fetch_or(bits, Ordering::Relaxed);
}

/// Goes on with the program at an index.
///
/// # Safety
///
/// As in the kernel.
pub unsafe fn tail_call<const INDEX: u32>(_context: *mut c_void, _map: *const c_void) {
    aya_ebpf::machine::tail_call(INDEX)
}
