//! `meshlb events`.

use crate::events::Event;

/// One line per event.
pub(in crate::cli) fn events(events: &[Event]) -> String {
    if events.is_empty() {
        return "no events".to_owned();
    }
    events.iter().map(event).collect::<Vec<_>>().join("\n")
}

/// When, of what kind, about whom, what.
pub(in crate::cli) fn event(event: &Event) -> String {
    let what = &event.what;
    let who = [what.service.clone(), what.backend.map(|backend| backend.to_string())];
    let who: Vec<String> = who.into_iter().flatten().collect();
    let who = if who.is_empty() { String::new() } else { format!("{} ", who.join(" ")) };
    let message = what.message.replace('\n', " ");
    format!("{}  {:9}  {who}{message}", humantime::format_rfc3339_seconds(event.time), what.kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Happening, Kind};
    use std::time::{Duration, SystemTime};

    #[test]
    fn an_event_is_a_line() {
        let event = |sequence, what| Event {
            sequence,
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_000_000_500),
            what,
        };
        let list = [
            event(1, Happening::new(Kind::Agent, "ended")),
            event(
                2,
                Happening::new(Kind::NextHop, "cannot be reached: no\nroute")
                    .of("web")
                    .at([10, 0, 0, 1].into()),
            ),
        ];
        let expected = "\
2026-11-18T11:06:40Z  agent      ended
2026-11-18T11:06:40Z  next_hop   web 10.0.0.1 cannot be reached: no route";
        assert_eq!(events(&list), expected);
        assert_eq!(events(&[]), "no events");
    }
}
