//! AES-128 of single blocks (FIPS 197), small enough for the kernel: keys are expanded in userspace, a round is sixteen
//! look-ups in a table of 1 KiB.
//!
//! Not constant in time: which lines of the tables are touched depends on key and block. It must hide nothing but
//! which backend a connection id names; see [`crate::quic`].

/// The words of all round keys, in the order in which they are used.
pub type Keys = [u32; 4 * (ROUNDS + 1)];

/// A block as four columns, each with its first byte in the highest bits.
pub type Block = [u32; 4];

const ROUNDS: usize = 10;

/// The S-box and its inverse (FIPS 197 §5.1.1, §5.3.2).
static SBOX: [u8; 256] = sbox();
static INVERSE_SBOX: [u8; 256] = inverse(&sbox());

/// What a byte of the first row becomes: through the S-box, and then multiplied into its column (§5.1.3, §5.3.3). The
/// other rows' are rotations of it.
static ENCRYPTING: [u32; 256] = columns(&sbox(), [2, 1, 1, 3]);
static DECRYPTING: [u32; 256] = columns(&inverse(&sbox()), [14, 9, 13, 11]);

/// The round keys for [`encrypt`] (§5.2).
#[must_use]
#[expect(clippy::indexing_slicing, reason = "the indices are below the constant lengths")]
pub fn encryption_keys(key: [u8; 16]) -> Keys {
    let mut keys = [0; 4 * (ROUNDS + 1)];
    keys[..4].copy_from_slice(&columns_of(key));
    let mut constant = 1;
    for i in 4..keys.len() {
        let mut word: u32 = keys[i - 1];
        if i.is_multiple_of(4) {
            word = substitute(word.rotate_left(8)) ^ u32::from(constant) << 24;
            constant = double(constant);
        }
        keys[i] = keys[i - 4] ^ word;
    }
    keys
}

/// The round keys for [`decrypt`]: those of the equivalent inverse cipher (§5.3.5), the last first.
#[must_use]
#[expect(clippy::indexing_slicing, reason = "the indices are below the constant lengths")]
pub fn decryption_keys(key: [u8; 16]) -> Keys {
    let forward = encryption_keys(key);
    core::array::from_fn(|i| {
        let (round, column) = (i / 4, i % 4);
        let word = forward[4 * (ROUNDS - round) + column];
        if round == 0 || round == ROUNDS { word } else { unmix(word) }
    })
}

/// The key that [`encryption_keys`] expanded.
#[must_use]
pub fn key_of_encryption([a, b, c, d, ..]: Keys) -> [u8; 16] {
    bytes_of([a, b, c, d])
}

/// The key that [`decryption_keys`] expanded.
#[must_use]
pub fn key_of_decryption([.., a, b, c, d]: Keys) -> [u8; 16] {
    bytes_of([a, b, c, d])
}

/// Encrypts a block.
#[inline(always)]
#[must_use]
pub fn encrypt(keys: &Keys, block: Block) -> Block {
    let [mut a, mut b, mut c, mut d] = add(block, round_key(keys, 0));
    for round in 1..ROUNDS {
        let mixed = [
            mix(&ENCRYPTING, a, b, c, d),
            mix(&ENCRYPTING, b, c, d, a),
            mix(&ENCRYPTING, c, d, a, b),
            mix(&ENCRYPTING, d, a, b, c),
        ];
        [a, b, c, d] = add(mixed, round_key(keys, round));
    }
    let last = [
        look_up(&SBOX, a, b, c, d),
        look_up(&SBOX, b, c, d, a),
        look_up(&SBOX, c, d, a, b),
        look_up(&SBOX, d, a, b, c),
    ];
    add(last, round_key(keys, ROUNDS))
}

/// Decrypts a block.
#[inline(always)]
#[must_use]
pub fn decrypt(keys: &Keys, block: Block) -> Block {
    let [mut a, mut b, mut c, mut d] = add(block, round_key(keys, 0));
    for round in 1..ROUNDS {
        let mixed = [
            mix(&DECRYPTING, a, d, c, b),
            mix(&DECRYPTING, b, a, d, c),
            mix(&DECRYPTING, c, b, a, d),
            mix(&DECRYPTING, d, c, b, a),
        ];
        [a, b, c, d] = add(mixed, round_key(keys, round));
    }
    let last = [
        look_up(&INVERSE_SBOX, a, d, c, b),
        look_up(&INVERSE_SBOX, b, a, d, c),
        look_up(&INVERSE_SBOX, c, b, a, d),
        look_up(&INVERSE_SBOX, d, c, b, a),
    ];
    add(last, round_key(keys, ROUNDS))
}

/// A block's columns.
#[inline(always)]
#[must_use]
pub const fn columns_of(bytes: [u8; 16]) -> Block {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    [
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
        u32::from_be_bytes([i, j, k, l]),
        u32::from_be_bytes([m, n, o, p]),
    ]
}

/// The bytes of a block.
#[must_use]
pub fn bytes_of(block: Block) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (four, column) in bytes.chunks_exact_mut(4).zip(block) {
        four.copy_from_slice(&column.to_be_bytes());
    }
    bytes
}

#[inline(always)]
const fn add([a, b, c, d]: Block, [e, f, g, h]: Block) -> Block {
    [a ^ e, b ^ f, c ^ g, d ^ h]
}

/// verifier: the round is a constant or a counter of a bounded loop, so that no check of the index remains.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "rounds go up to `ROUNDS`")]
const fn round_key(keys: &Keys, round: usize) -> Block {
    [keys[4 * round], keys[4 * round + 1], keys[4 * round + 2], keys[4 * round + 3]]
}

/// One column of a round: a byte of each of four columns, substituted and multiplied.
#[inline(always)]
const fn mix(table: &[u32; 256], first: u32, second: u32, third: u32, fourth: u32) -> u32 {
    entry(table, first >> 24)
        ^ entry(table, second >> 16).rotate_right(8)
        ^ entry(table, third >> 8).rotate_right(16)
        ^ entry(table, fourth).rotate_right(24)
}

/// One column of the last round: the bytes are substituted only.
#[inline(always)]
const fn look_up(table: &[u8; 256], first: u32, second: u32, third: u32, fourth: u32) -> u32 {
    u32::from_be_bytes([
        substituted(table, first >> 24),
        substituted(table, second >> 16),
        substituted(table, third >> 8),
        substituted(table, fourth),
    ])
}

#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "a byte is below 256")]
const fn entry(table: &[u32; 256], lowest_byte: u32) -> u32 {
    table[(lowest_byte & 0xff) as usize]
}

#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "a byte is below 256")]
const fn substituted(table: &[u8; 256], lowest_byte: u32) -> u8 {
    table[(lowest_byte & 0xff) as usize]
}

const fn substitute(word: u32) -> u32 {
    look_up(&SBOX, word, word, word, word)
}

/// InvMixColumns of a column (§5.3.3).
const fn unmix(word: u32) -> u32 {
    let word = substitute(word);
    mix(&DECRYPTING, word, word, word, word)
}

/// The product of two elements of the field of 256 elements with the polynomial x^8 + x^4 + x^3 + x + 1 (§4.2).
const fn product(mut a: u8, mut b: u8) -> u8 {
    let mut sum = 0;
    while b != 0 {
        if b & 1 != 0 {
            sum ^= a;
        }
        a = double(a);
        b >>= 1;
    }
    sum
}

const fn double(element: u8) -> u8 {
    element << 1 ^ if element & 0x80 != 0 { 0x1b } else { 0 }
}

/// The S-box (§5.1.1): the inverse in the field, then an affine map. 3 generates all elements but 0, and 246 is its
/// inverse, so that the two walks meet each element together with its inverse.
#[expect(clippy::indexing_slicing, reason = "a byte is below 256")]
const fn sbox() -> [u8; 256] {
    let mut table = [0; 256];
    table[0] = 0x63;
    let (mut element, mut inverse) = (1u8, 1u8);
    loop {
        let spread = inverse
            ^ inverse.rotate_left(1)
            ^ inverse.rotate_left(2)
            ^ inverse.rotate_left(3)
            ^ inverse.rotate_left(4);
        table[element as usize] = spread ^ 0x63;
        (element, inverse) = (product(element, 3), product(inverse, 246));
        if element == 1 {
            return table;
        }
    }
}

#[expect(clippy::indexing_slicing, reason = "a byte is below 256")]
const fn inverse(table: &[u8; 256]) -> [u8; 256] {
    let mut inverse = [0; 256];
    let mut from = 0u8;
    loop {
        inverse[table[from as usize] as usize] = from;
        if from == u8::MAX {
            return inverse;
        }
        from += 1;
    }
}

#[expect(clippy::indexing_slicing, reason = "a byte is below 256")]
const fn columns(table: &[u8; 256], [a, b, c, d]: [u8; 4]) -> [u32; 256] {
    let mut columns = [0; 256];
    let mut i = 0;
    while i < columns.len() {
        let byte = table[i];
        columns[i] =
            u32::from_be_bytes([product(byte, a), product(byte, b), product(byte, c), product(byte, d)]);
        i += 1;
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes::{
        Aes128,
        cipher::{BlockCipherEncrypt as _, KeyInit as _},
    };
    use proptest::prelude::*;

    fn encrypted(key: [u8; 16], block: [u8; 16]) -> [u8; 16] {
        bytes_of(encrypt(&encryption_keys(key), columns_of(block)))
    }

    fn decrypted(key: [u8; 16], block: [u8; 16]) -> [u8; 16] {
        bytes_of(decrypt(&decryption_keys(key), columns_of(block)))
    }

    fn bytes(hex: u128) -> [u8; 16] {
        hex.to_be_bytes()
    }

    #[test]
    fn the_examples_of_the_standard_come_out() {
        // FIPS 197 appendices B and C.1; SP 800-38A F.1.1, first and last block.
        let examples: [[u128; 3]; 4] = [
            [
                0x2b7e151628aed2a6abf7158809cf4f3c,
                0x3243f6a8885a308d313198a2e0370734,
                0x3925841d02dc09fbdc118597196a0b32,
            ],
            [
                0x000102030405060708090a0b0c0d0e0f,
                0x00112233445566778899aabbccddeeff,
                0x69c4e0d86a7b0430d8cdb78070b4c55a,
            ],
            [
                0x2b7e151628aed2a6abf7158809cf4f3c,
                0x6bc1bee22e409f96e93d7e117393172a,
                0x3ad77bb40d7a3660a89ecaf32466ef97,
            ],
            [
                0x2b7e151628aed2a6abf7158809cf4f3c,
                0xf69f2445df4f9b17ad2b417be66c3710,
                0x7b0c785e27e8ad3f8223207104725dd4,
            ],
        ];
        for [key, plain, cipher] in examples.map(|example| example.map(bytes)) {
            assert_eq!(encrypted(key, plain), cipher);
            assert_eq!(decrypted(key, cipher), plain);
        }
    }

    #[test]
    fn the_last_round_key_is_the_standards() {
        // FIPS 197 appendix A.1.
        let keys = encryption_keys(bytes(0x2b7e151628aed2a6abf7158809cf4f3c));
        assert_eq!(keys[40..], [0xd014f9a8, 0xc9ee2589, 0xe13f0cc8, 0xb6630ca6]);
    }

    proptest! {
        #[test]
        fn blocks_are_what_another_implementation_makes(key: [u8; 16], block: [u8; 16]) {
            let mut other = block.into();
            Aes128::new(&key.into()).encrypt_block(&mut other);
            let other: [u8; 16] = other.into();
            prop_assert_eq!(encrypted(key, block), other);
            prop_assert_eq!(decrypted(key, other), block);
        }

        #[test]
        fn keys_come_back(key: [u8; 16]) {
            prop_assert_eq!(key_of_encryption(encryption_keys(key)), key);
            prop_assert_eq!(key_of_decryption(decryption_keys(key)), key);
        }
    }
}
