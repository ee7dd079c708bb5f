//! Packets in a file that Wireshark opens, with what became of them as comments (draft-ietf-opsawg-pcapng).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_common::notes::SNAP;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};

use crate::api::types::TraceView;
use crate::cli::screens;
use crate::headers::from_hex;

/// Says that times are in nanoseconds: 10 to the minus ninth.
const NANOSECONDS: u8 = 9;

/// Why packets cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be made, or has no room.
    #[error("cannot write {}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A packet cannot be written.
    #[error("cannot write a packet to {}: {reason}", .file.display())]
    Packet {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A file that packets are written to.
pub(super) struct Capture {
    file: PathBuf,
    writer: PcapNgWriter<BufWriter<File>>,
    /// Interfaces that the file has, by name.
    interfaces: BTreeMap<String, u32>,
    /// Packets that were missed since the last one that was written.
    missed: u64,
}

impl Capture {
    pub(super) fn create(file: &Path) -> Result<Self, CaptureError> {
        let made = File::create(file);
        let made = made.map_err(|source| CaptureError::Io { file: file.to_owned(), source })?;
        let writer = PcapNgWriter::new(BufWriter::new(made)).map_err(|error| failure(file, error))?;
        Ok(Self { file: file.to_owned(), writer, interfaces: BTreeMap::new(), missed: 0 })
    }

    /// Notes that packets were missed before the next one.
    pub(super) const fn missed(&mut self, more: u64) {
        self.missed += more;
    }

    pub(super) fn write(&mut self, packet: &TraceView) -> Result<(), CaptureError> {
        let interface_id = self.interface(&packet.interface)?;
        let mut options = vec![EnhancedPacketOption::Comment(Cow::Owned(screens::fate(packet)))];
        if self.missed > 0 {
            options.push(EnhancedPacketOption::DropCount(std::mem::take(&mut self.missed)));
        }
        let block = EnhancedPacketBlock {
            interface_id,
            timestamp: Duration::try_from_secs_f64(packet.time).unwrap_or_default(),
            original_len: packet.length,
            data: Cow::Owned(from_hex(&packet.hex).unwrap_or_default()),
            options,
        };
        let written = self.writer.write_pcapng_block(block);
        written.map(drop).map_err(|error| failure(&self.file, error))
    }

    /// The number of an interface, which is described before its first packet.
    fn interface(&mut self, name: &str) -> Result<u32, CaptureError> {
        if let Some(number) = self.interfaces.get(name) {
            return Ok(*number);
        }
        let number = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: SNAP,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Owned(name.to_owned())),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        self.writer.write_pcapng_block(block).map_err(|error| failure(&self.file, error))?;
        self.interfaces.insert(name.to_owned(), number);
        Ok(number)
    }

    pub(super) fn finish(mut self) -> Result<(), CaptureError> {
        let flushed = self.writer.get_mut().flush();
        flushed.map_err(|source| CaptureError::Io { file: self.file, source })
    }
}

fn failure(file: &Path, error: PcapError) -> CaptureError {
    let file = file.to_owned();
    if let PcapError::IoError(source) = error {
        return CaptureError::Io { file, source };
    }
    CaptureError::Packet { file, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_file::pcapng::{Block, PcapNgReader};

    #[test]
    fn what_is_written_can_be_read_with_its_comments() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("packets.pcapng");
        let mut capture = Capture::create(&path).unwrap();
        let packet = |interface: &str, hex: &str| TraceView {
            time: 1_700_000_000.25,
            interface: interface.into(),
            outcome: "no_backend".into(),
            length: 60,
            hex: hex.into(),
            ..TraceView::default()
        };
        for (interface, hex) in [("eth0", "0102ff"), ("eth1", "03"), ("eth0", "04")] {
            capture.write(&packet(interface, hex)).unwrap();
            capture.missed(5);
        }
        capture.finish().unwrap();
        let mut reader = PcapNgReader::new(File::open(&path).unwrap()).unwrap();
        let mut packets = Vec::new();
        while let Some(block) = reader.next_block() {
            if let Block::EnhancedPacket(packet) = block.unwrap().into_owned() {
                packets.push(packet);
            }
        }
        let names: Vec<_> = reader.interfaces().iter().map(|it| it.options[0].clone()).collect();
        let named = |name: &'static str| InterfaceDescriptionOption::IfName(name.into());
        assert_eq!(names, [named("eth0"), named("eth1")]);
        let [first, second, third] = packets.as_slice() else { panic!("{packets:?}") };
        assert_eq!((&*first.data, first.original_len, first.interface_id), (&[1, 2, 255][..], 60, 0));
        assert_eq!(first.timestamp, Duration::from_millis(1_700_000_000_250));
        assert_eq!(first.options, [EnhancedPacketOption::Comment("no_backend".into())]);
        assert_eq!((second.interface_id, third.interface_id), (1, 0));
        assert_eq!(third.options[1], EnhancedPacketOption::DropCount(5));
    }

    #[test]
    fn a_file_that_cannot_be_made_is_named() {
        let error = Capture::create(Path::new("/nowhere/packets.pcapng")).err().unwrap().to_string();
        assert!(error.starts_with("cannot write /nowhere/packets.pcapng: "), "{error}");
    }
}
