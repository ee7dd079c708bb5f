//! Explicit congestion notification where an outer header comes off (RFC 6040 §4.2).

/// The bits of a traffic class that are ECN (RFC 3168 §5).
const MASK: u8 = 0b11;
/// Not capable of ECN.
const NOT_ECT: u8 = 0b00;
/// Capable, and the sender's other sign.
const ECT_1: u8 = 0b01;
/// Capable.
const ECT_0: u8 = 0b10;
/// Congestion was experienced.
const CE: u8 = 0b11;

/// The inner traffic class as it goes on, its DSCP untouched; `None` when the packet must be dropped: there was
/// congestion, and its flow cannot be told otherwise.
#[inline(always)]
#[must_use]
pub const fn decapsulated(inner: u8, outer: u8) -> Option<u8> {
    match (inner & MASK, outer & MASK) {
        (NOT_ECT, CE) => None,
        (ECT_0 | ECT_1, CE) => Some(inner | CE),
        (ECT_0, ECT_1) => Some(inner & !MASK | ECT_1),
        _ => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figure 4 of RFC 6040, row by row.
    #[test]
    fn the_table_of_the_rfc() {
        let outer = [NOT_ECT, ECT_0, ECT_1, CE];
        for (inner, row) in [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ] {
            for (dscp, other) in [(0, 0xfc), (0xfc, 0), (0xb8, 0x28)] {
                let got = outer.map(|outer| decapsulated(dscp | inner, other | outer));
                assert_eq!(got, row.map(|ecn| ecn.map(|ecn| dscp | ecn)), "{inner:02b}");
            }
        }
    }
}
