//! What the verifier needs to be shown.
#![expect(unsafe_code, reason = "inline assembly")]

use core::arch::asm;

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
