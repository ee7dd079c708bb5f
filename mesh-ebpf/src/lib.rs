//! What the kernel programs have in common: the view of a packet, and keys of tries.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod header;
pub mod packet;
pub mod trie;
#[cfg_attr(not(target_arch = "bpf"), path = "verifier/host.rs")]
pub mod verifier;

/// What every object of programs ends with: its panic handler, and its licence as the kernel looks for it.
#[macro_export]
macro_rules! object {
    () => {
        #[cfg(target_arch = "bpf")]
        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
            // No panic path survives optimisation; the verifier refuses an endless loop if one did.
            loop {}
        }

        #[cfg(target_arch = "bpf")]
        #[unsafe(link_section = "license")]
        #[unsafe(no_mangle)]
        #[expect(unsafe_code, reason = "the kernel looks the licence up by its section")]
        static LICENSE: [u8; 4] = *b"GPL\0";
    };
}
