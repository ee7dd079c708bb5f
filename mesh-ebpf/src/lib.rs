//! What the kernel programs have in common: the view of a packet, and keys of tries.
#![no_std]
#![feature(asm_experimental_arch)]

pub mod header;
pub mod packet;
pub mod trie;
pub mod verifier;

/// What every object of programs ends with: its panic handler, and its licence as the kernel looks for it.
#[macro_export]
macro_rules! object {
    () => {
        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
            // No panic path survives optimisation; the verifier refuses an endless loop if one did.
            loop {}
        }

        #[unsafe(link_section = "license")]
        #[unsafe(no_mangle)]
        #[expect(unsafe_code, reason = "the kernel looks the licence up by its section")]
        static LICENSE: [u8; 4] = *b"GPL\0";
    };
}
