//! Keys for looking into tries of prefixes.

use aya_ebpf::maps::lpm_trie::Key;

/// A key all of whose bits count.
///
/// verifier: words on the stack are aligned, and the data of a key follows the four bytes of its length.
#[repr(C, align(8))]
pub struct Whole<K> {
    padding: u32,
    key: Key<K>,
}

impl<K> Whole<K> {
    /// The key of this data.
    #[inline(always)]
    #[must_use]
    pub const fn new(data: K) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "data is a few bytes")]
        let bits = 8 * size_of::<K>() as u32;
        Self { padding: 0, key: Key::new(bits, data) }
    }

    /// As the kernel wants it.
    #[inline(always)]
    #[must_use]
    pub const fn key(&self) -> &Key<K> {
        &self.key
    }
}
