//! A flow's five-tuple, as one direction of it shows it.

/// Who sends a packet, and to whom.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// The sender's address, as the words that it fills; IPv4 as an IPv4-mapped address.
    pub source: [u64; 2],
    /// The receiver's address.
    pub destination: [u64; 2],
    /// The sender's port, in the byte order of the wire.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// The IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// Reserved, zero.
    pub reserved: [u8; 3],
}

const _: () = assert!(size_of::<Tuple>() == 40);

impl Tuple {
    /// The same flow, as the other direction shows it.
    #[inline(always)]
    #[must_use]
    pub const fn turned(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..*self
        }
    }

    /// Both ports, as they stand in memory.
    #[inline(always)]
    #[must_use]
    pub const fn ports(&self) -> u32 {
        self.source_port as u32 | (self.destination_port as u32) << 16
    }

    /// Whether the packet is one of IPv4.
    #[inline(always)]
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);
        let [first, second] = self.destination;
        first == 0 && second & 0xffff_ffff == MAPPED as u64
    }
}
