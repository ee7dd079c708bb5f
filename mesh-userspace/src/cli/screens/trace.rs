//! `meshlb trace`.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::api::types::TraceView;
use crate::cli::trace::Seen;
use crate::headers::{from_hex, headers};

/// A line for a packet: when, what became of it, and what it is.
pub(in crate::cli) fn packet(packet: &TraceView) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::try_from_secs_f64(packet.time).unwrap_or_default();
    let TraceView { interface, length, .. } = packet;
    let time = humantime::format_rfc3339_micros(time);
    format!("{time} {interface} {}: {}, {length} bytes", fate(packet), what(packet))
}

/// What became of a packet: its outcome, its service and its backend.
pub(in crate::cli) fn fate(packet: &TraceView) -> String {
    let service = packet.service.as_ref().map_or_else(String::new, |service| format!(" {service}"));
    let backend = packet.backend.as_ref().map_or_else(String::new, |backend| format!(" to {backend}"));
    let phase = packet.phase.as_deref().filter(|phase| *phase != "steady");
    let phase = phase.map(|phase| format!("slot {phase}"));
    let why: Vec<_> = packet.recorded.then(|| "recorded".to_owned()).into_iter().chain(phase).collect();
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
    format!("{}{service}{backend}{why}", packet.outcome)
}

/// A packet in a few words; its headers, where no flow was read.
fn what(packet: &TraceView) -> String {
    let TraceView { client, destination, protocol, flags, segment, .. } = packet;
    let (Some(client), Some(destination), Some(protocol)) = (client, destination, protocol) else {
        let lines = headers(&from_hex(&packet.hex).unwrap_or_default(), &[]);
        return lines.join(" | ");
    };
    let flags = flags.as_ref().map_or_else(String::new, |flags| format!(" [{flags}]"));
    let about = if segment.as_deref() == Some("related") { " (about this flow)" } else { "" };
    format!("{client} > {destination} {protocol}{flags}{about}")
}

/// That packets were missed.
pub(in crate::cli) fn missed(more: u64) -> String {
    format!("{more} packets were missed: ask for fewer, by a filter or --sample, or write to a file")
}

/// What was seen in all.
pub(in crate::cli) fn traced(seen: &Seen, file: Option<&Path>) -> String {
    let file = file.map_or_else(String::new, |file| format!(" written to {}", file.display()));
    let each: Vec<_> = seen.outcomes.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
    let each = if each.is_empty() { String::new() } else { format!(": {}", each.join(", ")) };
    format!("{} packets{file}, {} missed{each}", seen.packets(), seen.missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_a_line() {
        let view = TraceView {
            time: 1_700_000_000.25,
            interface: "eth0".into(),
            outcome: "transmitted".into(),
            service: Some("web".into()),
            client: Some("198.51.100.7:40000".into()),
            destination: Some("203.0.113.10:80".into()),
            protocol: Some("tcp".into()),
            flags: Some("SYN".into()),
            backend: Some("10.0.1.1".into()),
            phase: Some("migrating".into()),
            recorded: true,
            length: 60,
            ..TraceView::default()
        };
        assert_eq!(
            packet(&view),
            "2023-11-14T22:13:20.250000Z eth0 transmitted web to 10.0.1.1 (recorded, slot migrating): \
             198.51.100.7:40000 > 203.0.113.10:80 tcp [SYN], 60 bytes"
        );
        let arp = format!("ffffffffffff0200000000010806{}", "00".repeat(28));
        let view = TraceView { outcome: "not_ip".into(), hex: arp, ..TraceView::default() };
        let line = packet(&view);
        assert!(
            line.contains(" not_ip: Ethernet 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff type 0x0806"),
            "{line}"
        );
    }

    #[test]
    fn the_end_says_what_was_seen_and_missed() {
        let outcomes = [("no_backend".to_owned(), 3), ("too_big".to_owned(), 1)].into();
        let seen = Seen { outcomes, missed: 2 };
        assert_eq!(traced(&seen, None), "4 packets, 2 missed: no_backend 3, too_big 1");
        let file = Some(Path::new("x.pcapng"));
        assert_eq!(traced(&Seen::default(), file), "0 packets written to x.pcapng, 0 missed");
    }
}
