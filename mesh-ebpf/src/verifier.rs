//! What the verifier needs to be shown, and spared.
#![expect(unsafe_code, reason = "inline assembly")]

use core::{arch::asm, ffi::c_void};

/// The same value, of which the compiler knows nothing: so that the register that is compared with a bound is the one
/// that is added to an address, and not computed a second time, which the verifier would take for another value.
///
/// A move and not nothing: two notes of source lines for one instruction make the kernel refuse a program.
#[inline(always)]
#[must_use]
pub fn opaque(mut value: usize) -> usize {
    // SAFETY: a register is moved onto itself.
    unsafe { asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack, preserves_flags)) };
    value
}

/// The larger of two numbers below 2^63, without a branch, of which the verifier would walk through both sides.
#[inline(always)]
#[must_use]
pub fn larger(one: usize, other: usize) -> usize {
    // All ones where `one` is the smaller; hidden, or the compiler would make a branch of it.
    let difference = opaque(one.wrapping_sub(other));
    let smaller = opaque((difference.cast_signed() >> 63).cast_unsigned());
    one.wrapping_sub(difference & smaller)
}

/// The same value, of which the verifier knows nothing afterwards, so that it walks what follows once and not once for
/// each way by which the value came about. `unknown` is anything that it knows nothing of. It has to be told bounds anew.
#[inline(always)]
#[must_use]
pub fn forget(mut value: usize, unknown: usize) -> usize {
    // SAFETY: what is changed by the first instruction is changed back by the second.
    unsafe {
        asm!(
            "{0} ^= {1}",
            "{0} ^= {1}",
            inout(reg) value,
            in(reg) unknown,
            options(pure, nomem, nostack, preserves_flags)
        );
    };
    value
}

/// Adds to a word that others change, too: for this target the compiler has no atomic arithmetic.
///
/// # Safety
///
/// The word is aligned, and may be written.
#[inline(always)]
pub unsafe fn add(word: *mut u64, by: u64) {
    // SAFETY: one instruction, BPF_ATOMIC with BPF_ADD, on a word that may be written.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) word, in(reg) by, options(nostack)) };
}

/// Sets bits of a word that others change, too.
///
/// # Safety
///
/// The word is aligned, and may be written.
#[inline(always)]
pub unsafe fn set(word: *mut u64, bits: u64) {
    // SAFETY: one instruction, BPF_ATOMIC with BPF_OR (kernel 5.12), on a word that may be written.
    unsafe { asm!("lock *(u64 *)({0} + 0) |= {1}", in(reg) word, in(reg) bits, options(nostack)) };
}

/// Goes on with the program at an index; comes back only if there is none.
///
/// Written out, so that the compiler does not make one call of two: where the index is a constant the kernel makes a
/// jump of it (5.5), else an indirect one, which is slow where those are guarded against speculation.
///
/// # Safety
///
/// `context` is the program's, `map` is of programs, and nothing is left to drop.
#[inline(always)]
pub unsafe fn tail_call<const INDEX: u32>(context: *mut c_void, map: *const c_void) {
    // SAFETY: BPF_FUNC_tail_call is 12; what comes back has changed no more than the registers of a call.
    unsafe {
        asm!(
            "r3 = {index}",
            "call 12",
            index = const INDEX,
            inlateout("r1") context => _,
            inlateout("r2") map => _,
            lateout("r0") _,
            lateout("r3") _,
            lateout("r4") _,
            lateout("r5") _,
        );
    }
}
