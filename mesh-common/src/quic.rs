//! Which backend a QUIC packet belongs to, as far as its destination connection id tells (QUIC-LB,
//! draft-ietf-quic-load-balancers-21). What is relied upon of QUIC are its invariants (RFC 8999), and of versions 1
//! and 2 how packets are recognised whose connection id the client has chosen.
//!
//! ```text
//! short header: first | connection id …                        long header: first | version 4 | length 1 | connection id …
//! connection id:  3 bits of config rotation, 5 of length or noise | server id | nonce | whatever the server adds
//!                                                                 └─ plain, or encrypted ─┘
//! ```
//!
//! Blocks of server id and nonce are words of eight bytes, the first byte in the highest bits, and end in zeros.
//!
//! The decryption is not constant in time ([`aes`]). What it must hide, which backend a connection is at, is worth
//! little to who can measure a balancer's caches; the keys protect nothing else.

use crate::aes::{self, Keys};
use core::fmt;

/// How many configurations a service can have: their codepoints are below this, which itself means "by no
/// configuration".
pub const ROTATIONS: u8 = 7;

/// Bytes of the longest server id.
pub const LONGEST_SERVER_ID: u8 = 15;
/// Bytes of the shortest and the longest nonce.
pub const NONCES: core::ops::RangeInclusive<u8> = 4..=18;
/// Bytes that server id and nonce have together at most, for QUIC's connection ids have 20.
pub const LONGEST_BLOCK: u8 = 19;

/// How a packet of a QUIC service found its backend. Only the first goes by the connection id, the others by the hash
/// of their flow.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Routed {
    /// By its connection id.
    ConnectionId,
    /// An Initial or 0-RTT packet: the client has chosen the id. Normal: connections begin so.
    Initial,
    /// The id says that it is of no configuration, or of one that the service does not have.
    Unroutable,
    /// Nobody has the server id. Normal for the first packets of versions that are not known here.
    UnknownId,
    /// The backend that has the server id is down.
    DeadBackend,
    /// Too short for the id that its configuration asks for.
    Malformed,
}

impl Routed {
    /// Every way, in the order of its counters.
    pub const ALL: [Self; 6] = [
        Self::ConnectionId,
        Self::Initial,
        Self::Unroutable,
        Self::UnknownId,
        Self::DeadBackend,
        Self::Malformed,
    ];

    /// Codepoints that there are: each way has as many counters.
    const CODEPOINTS: u32 = ROTATIONS as u32 + 1;

    /// The size of the array of counters.
    #[expect(clippy::cast_possible_truncation, reason = "the list is short")]
    pub const COUNTERS: u32 = Self::ALL.len() as u32 * Self::CODEPOINTS;

    /// The name in metrics and in the docs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ConnectionId => "connection_id",
            Self::Initial => "initial",
            Self::Unroutable => "unroutable",
            Self::UnknownId => "unknown_id",
            Self::DeadBackend => "dead_backend",
            Self::Malformed => "malformed",
        }
    }

    /// Whether the codepoint of the id was read, and is one that a server has written.
    #[must_use]
    pub const fn has_rotation(self) -> bool {
        match self {
            Self::ConnectionId | Self::Unroutable | Self::UnknownId | Self::DeadBackend => true,
            Self::Initial | Self::Malformed => false,
        }
    }

    /// Every counter: which way, and which codepoint.
    pub fn counters() -> impl Iterator<Item = (Self, u32)> {
        Self::ALL.into_iter().flat_map(|way| (0..Self::CODEPOINTS).map(move |rotation| (way, rotation)))
    }

    /// The index of the counter of packets that went this way and whose id had this codepoint.
    #[inline(always)]
    #[must_use]
    pub const fn counter(self, rotation: u32) -> u32 {
        self as u32 * Self::CODEPOINTS + rotation
    }
}

/// Whether a packet has a long header, from its first byte (RFC 8999 §5.1).
#[inline(always)]
#[must_use]
pub const fn is_long(first: u8) -> bool {
    first & 0x80 != 0
}

/// Whether the client may have chosen the id of a packet with a long header: Initial and 0-RTT packets of version 1
/// (RFC 9000 §17.2) and 2 (RFC 9369 §3.2). Of other versions this is not known.
#[inline(always)]
#[must_use]
pub const fn is_client_chosen(first: u8, version: u32) -> bool {
    let kind = first >> 4 & 3;
    match version {
        0x0000_0001 => kind <= 1,
        0x6b33_43cf => kind == 1 || kind == 2,
        _ => false,
    }
}

/// The codepoint of a connection id, from its first byte.
#[inline(always)]
#[must_use]
pub const fn rotation(octet: u8) -> u8 {
    octet >> 5
}

/// A key of AES-128. It is not shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u8; 16]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// How server ids stand in connection ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Bytes of a server id: 1 to [`LONGEST_SERVER_ID`].
    pub server_id_length: u8,
    /// Bytes of a nonce: [`NONCES`], and at most [`LONGEST_BLOCK`] with the server id.
    pub nonce_length: u8,
    /// What both are encrypted with, if they are.
    pub key: Option<Key>,
}

/// Names a configuration in its map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigKey {
    /// The service's id.
    pub service: u32,
    /// The codepoint, below [`ROTATIONS`].
    pub rotation: u32,
}

/// [`Parameters`] as the kernel has them.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Config {
    /// One of [`mode`].
    mode: u32,
    server_id_length: u16,
    nonce_length: u16,
    keys: Keys,
}

/// How server id and nonce are encrypted.
mod mode {
    /// Not at all.
    pub(super) const PLAIN: u32 = 1;
    /// As one block of AES.
    pub(super) const SINGLE_PASS: u32 = 2;
    /// In a Feistel network of four rounds.
    pub(super) const FOUR_PASS: u32 = 3;
}

/// Names the backend that has a server id, in its map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerIdKey {
    /// The service's id.
    pub service: u32,
    /// The codepoint of the configuration that the server id is for.
    pub rotation: u32,
    /// The server id.
    pub id: [u64; 2],
}

const _: () =
    assert!(size_of::<ConfigKey>() == 8 && size_of::<Config>() == 184 && size_of::<ServerIdKey>() == 24);

impl Config {
    /// Expands the key.
    #[must_use]
    pub fn new(parameters: &Parameters) -> Self {
        let Parameters { server_id_length, nonce_length, key } = *parameters;
        let (mode, keys) = match key {
            None => (mode::PLAIN, [0; _]),
            Some(Key(key)) if server_id_length + nonce_length == 16 => {
                (mode::SINGLE_PASS, aes::decryption_keys(key))
            }
            Some(Key(key)) => (mode::FOUR_PASS, aes::encryption_keys(key)),
        };
        Self { mode, server_id_length: server_id_length.into(), nonce_length: nonce_length.into(), keys }
    }

    /// What it was made of; `None` if nobody made it.
    #[must_use]
    pub fn parameters(&self) -> Option<Parameters> {
        let key = match self.mode {
            mode::PLAIN => None,
            mode::SINGLE_PASS => Some(Key(aes::key_of_decryption(self.keys))),
            mode::FOUR_PASS => Some(Key(aes::key_of_encryption(self.keys))),
            _ => return None,
        };
        let (server_id, nonce) = (self.server_id_length.try_into().ok()?, self.nonce_length.try_into().ok()?);
        Some(Parameters { server_id_length: server_id, nonce_length: nonce, key })
    }

    /// Bytes of server id and nonce.
    #[inline(always)]
    #[must_use]
    pub const fn block_length(&self) -> usize {
        self.server_id_length as usize + self.nonce_length as usize
    }

    /// The server id of a block.
    #[inline(always)]
    #[must_use]
    pub fn server_id(&self, block: [u64; 3]) -> [u64; 2] {
        let [first, second, _] = block;
        let plain = match self.mode {
            mode::SINGLE_PASS => words(aes::decrypt(&self.keys, columns([first, second]))),
            mode::FOUR_PASS => self.four_passes(block),
            _ => [first, second],
        };
        keep(plain, 8 * u32::from(self.server_id_length))
    }

    /// Undoes the Feistel network (§5.5.2). Three passes would do for server ids that lie in the first half.
    ///
    /// Halves stand at the beginning of 16 bytes. The second half of an odd number of bytes begins with four bits
    /// that are zero, since it begins in the middle of a byte.
    #[inline(always)]
    fn four_passes(&self, block: [u64; 3]) -> [u64; 2] {
        let length = u32::from(self.server_id_length) + u32::from(self.nonce_length);
        let (bits, before) = (4 * length, 8 * (length / 2));
        let left = keep([u64::MAX; 2], bits);
        let right = keep([u64::MAX >> (bits - before), u64::MAX], 2 * bits - before);
        let mut this = (and(shift_left(block, before), right), right);
        let mut other = (and([block[0], block[1]], left), left);
        for pass in (1..=4).rev() {
            let noise = words(aes::encrypt(&self.keys, columns(expand(this.0, length, pass))));
            let next = (and(xor(other.0, noise), other.1), other.1);
            (other, this) = (this, next);
        }
        or(other.0, shift_right(this.0, before))
    }
}

/// What a pass encrypts: a half, the block's length and the pass's number.
#[inline(always)]
const fn expand([first, second]: [u64; 2], length: u32, pass: u32) -> [u64; 2] {
    [first, second | (length as u64) << 8 | pass as u64]
}

impl ServerIdKey {
    /// The key of a server id of 1 to [`LONGEST_SERVER_ID`] bytes; what is longer is cut.
    #[must_use]
    pub fn new(service: u32, rotation: u8, id: &[u8]) -> Self {
        let mut bytes = [0; 16];
        for (byte, given) in bytes.iter_mut().zip(id) {
            *byte = *given;
        }
        Self { service, rotation: rotation.into(), id: words(aes::columns_of(bytes)) }
    }
}

/// The first `bits` of 128, at least 1; the others are zeros.
#[inline(always)]
const fn keep([first, second]: [u64; 2], bits: u32) -> [u64; 2] {
    if bits < 64 {
        [first & !(u64::MAX >> bits), 0]
    } else {
        [first, second & !(u64::MAX.wrapping_shr(bits - 64))]
    }
}

/// 128 bits from bit `bits` on, which is from 1 to 127.
#[inline(always)]
const fn shift_left([first, second, third]: [u64; 3], bits: u32) -> [u64; 2] {
    if bits < 64 {
        [funnel(first, second, bits), funnel(second, third, bits)]
    } else {
        [funnel(second, third, bits - 64), funnel(third, 0, bits - 64)]
    }
}

/// 128 bits behind `bits` zeros, from 1 to 127.
#[inline(always)]
const fn shift_right([first, second]: [u64; 2], bits: u32) -> [u64; 2] {
    if bits < 64 {
        [first >> bits, second >> bits | first << 1 << (63 - bits)]
    } else {
        [0, first >> (bits - 64)]
    }
}

/// 64 bits from bit `bits` of two words on, which is below 64.
#[inline(always)]
const fn funnel(first: u64, second: u64, bits: u32) -> u64 {
    first << bits | second >> 1 >> (63 - bits)
}

#[inline(always)]
const fn and([a, b]: [u64; 2], [c, d]: [u64; 2]) -> [u64; 2] {
    [a & c, b & d]
}

#[inline(always)]
const fn or([a, b]: [u64; 2], [c, d]: [u64; 2]) -> [u64; 2] {
    [a | c, b | d]
}

#[inline(always)]
const fn xor([a, b]: [u64; 2], [c, d]: [u64; 2]) -> [u64; 2] {
    [a ^ c, b ^ d]
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "words are cut on purpose")]
const fn columns([first, second]: [u64; 2]) -> aes::Block {
    [(first >> 32) as u32, first as u32, (second >> 32) as u32, second as u32]
}

#[inline(always)]
const fn words([a, b, c, d]: aes::Block) -> [u64; 2] {
    [(a as u64) << 32 | b as u64, (c as u64) << 32 | d as u64]
}

#[cfg(test)]
mod tests;
