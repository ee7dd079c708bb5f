//! Packets that are given as they are: in digits, or in a file that tcpdump or Wireshark has written.

use std::fs;
use std::io::Cursor;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError};

use super::{MOST_PACKETS, PacketError};
use crate::headers::from_hex;

/// The packets behind a text: hexadecimal digits, or the name of a file.
pub(super) fn packets(text: &str) -> Result<Vec<Vec<u8>>, PacketError> {
    if let Some(packet) = digits(text) {
        return Ok(vec![packet]);
    }
    let unreadable =
        |error: std::io::Error| PacketError::NotAPacket { text: shortened(text), reason: error.to_string() };
    let contents = fs::read(text).map_err(unreadable)?;
    let not_a_capture =
        |error: PcapError| PacketError::NotACapture { file: text.to_owned(), reason: error.to_string() };
    let packets = read(&contents).map_err(not_a_capture)?;
    if packets.is_empty() {
        return Err(PacketError::Empty { file: text.to_owned() });
    }
    Ok(packets)
}

/// Digits may be divided by colons and white space.
fn digits(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.chars().filter(|letter| !letter.is_whitespace() && *letter != ':').collect();
    from_hex(&digits).filter(|bytes| !bytes.is_empty())
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}

/// A block that a pcapng file begins with, whatever its byte order (draft-ietf-opsawg-pcapng §4.1).
const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

fn read(contents: &[u8]) -> Result<Vec<Vec<u8>>, PcapError> {
    if contents.starts_with(&SECTION_HEADER) { read_pcapng(contents) } else { read_pcap(contents) }
}

fn read_pcap(contents: &[u8]) -> Result<Vec<Vec<u8>>, PcapError> {
    let mut reader = PcapReader::new(Cursor::new(contents))?;
    let mut packets = Vec::new();
    if reader.header().datalink == DataLink::ETHERNET {
        while packets.len() < MOST_PACKETS
            && let Some(packet) = reader.next_packet()
        {
            packets.push(packet?.data.into_owned());
        }
    }
    Ok(packets)
}

fn read_pcapng(contents: &[u8]) -> Result<Vec<Vec<u8>>, PcapError> {
    let mut reader = PcapNgReader::new(Cursor::new(contents))?;
    let mut packets = Vec::new();
    while packets.len() < MOST_PACKETS
        && let Some(block) = reader.next_block()
    {
        let Block::EnhancedPacket(packet) = block?.into_owned() else { continue };
        let interface = reader.packet_interface(&packet);
        if interface.is_some_and(|interface| interface.linktype == DataLink::ETHERNET) {
            packets.push(packet.data.into_owned());
        }
    }
    Ok(packets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
    use std::time::Duration;

    #[test]
    fn digits_may_be_divided() {
        assert_eq!(packets("00ff10").unwrap(), [[0, 255, 16]]);
        assert_eq!(packets("00:FF 10").unwrap(), [[0, 255, 16]]);
    }

    #[test]
    fn what_is_neither_is_refused() {
        let error = packets("0x1").unwrap_err().to_string();
        assert!(error.starts_with("0x1 is neither a packet in hexadecimal digits nor a file"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "no capture at all, but long enough for one").unwrap();
        let error = packets(file.path().to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("is not a capture (pcap, pcapng)"), "{error}");
    }

    #[test]
    fn the_packets_of_a_capture_are_read_unless_they_are_of_another_link() {
        let capture = |datalink| {
            let header = PcapHeader { datalink, ..PcapHeader::default() };
            let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
            for packet in [[1, 2, 3], [4, 5, 6]] {
                writer.write_packet(&PcapPacket::new(Duration::ZERO, 3, &packet)).unwrap();
            }
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), writer.into_writer()).unwrap();
            packets(file.path().to_str().unwrap())
        };
        assert_eq!(capture(DataLink::ETHERNET).unwrap(), [[1, 2, 3], [4, 5, 6]]);
        assert!(matches!(capture(DataLink::RAW), Err(PacketError::Empty { .. })));
    }
}
