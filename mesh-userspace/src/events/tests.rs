use super::{log::MOST, *};
use crate::{
    config::{self, Config},
    desired::{self, Backend, Desired, Role, desired},
    health,
    nexthop::{NextHop, Resolution},
    overrides::Overrides,
    performance::Factors,
};
use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const EPOCH: SystemTime = SystemTime::UNIX_EPOCH;

fn happening(message: &str) -> Happening {
    Happening::new(Kind::Backend, message)
}

fn messages(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.what.message.as_str()).collect()
}

fn ask(limit: usize) -> Question {
    Question { limit, ..Question::default() }
}

#[test]
fn events_are_numbered_and_answered_as_asked() {
    let mut log = Log::default();
    log.note(vec![happening("a").of("web"), happening("b")], EPOCH);
    log.note(vec![happening("c").of("web")], EPOCH + Duration::from_secs(9));
    let sequences: Vec<_> = log.answer(&ask(9)).iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [1, 2, 3]);
    let cases = [
        (ask(2), vec!["b", "c"]),
        (Question { after: Some(1), ..ask(9) }, vec!["b", "c"]),
        (Question { after: Some(3), ..ask(9) }, vec![]),
        (Question { since: Some(EPOCH + Duration::from_secs(1)), ..ask(9) }, vec!["c"]),
        (Question { service: Some("web".into()), ..ask(9) }, vec!["a", "c"]),
        (Question { service: Some("web".into()), ..ask(1) }, vec!["c"]),
        (ask(0), vec![]),
    ];
    for (question, expected) in cases {
        assert_eq!(messages(&log.answer(&question)), expected, "{question:?}");
    }
}

#[test]
fn no_more_is_remembered_than_there_is_room_for() {
    let mut log = Log::default();
    log.note(vec![happening("old")], EPOCH);
    log.note(vec![happening("new"); MOST], EPOCH);
    let all = log.answer(&ask(usize::MAX));
    assert_eq!((all.len(), all[0].sequence), (MOST, 2));
}

#[test]
fn events_survive_and_go_on_counting() {
    let directory = TempDir::new().unwrap();
    let journal = Journal::within(directory.path().join("state"));
    assert_eq!(journal.read(), []);
    let written = Log::default().note(
        vec![happening("two\nlines").of("web").at([10, 0, 0, 1].into()), happening("b")],
        EPOCH + Duration::from_millis(1234),
    );
    journal.append(&written).unwrap();
    assert_eq!(journal.read(), written);
    let next = Log::of(journal.read()).note(vec![happening("c")], EPOCH);
    assert_eq!(next[0].sequence, 3);
}

#[test]
fn a_torn_or_foreign_line_is_left_out_and_takes_no_other_along() {
    let directory = TempDir::new().unwrap();
    let journal = Journal::within(directory.path().to_owned());
    let path = directory.path().join("events.jsonl");
    let mut log = Log::default();
    journal.append(&log.note(vec![happening("a")], EPOCH)).unwrap();
    let mut text = fs::read(&path).unwrap();
    text.extend(b"{\"kind\": \"of a newer agent\"}\n\xff\xfe\n{\"sequence\": 7, \"ti");
    fs::write(&path, text).unwrap();
    journal.append(&log.note(vec![happening("b")], EPOCH)).unwrap();
    assert_eq!(messages(&journal.read()), ["a", "b"]);
}

#[test]
fn the_files_do_not_grow_without_bound() {
    let directory = TempDir::new().unwrap();
    let journal = Journal::within(directory.path().to_owned()).no_longer_than(1000);
    let mut log = Log::default();
    for number in 0..200 {
        journal.append(&log.note(vec![happening(&format!("event {number}"))], EPOCH)).unwrap();
    }
    let lengths: Vec<u64> =
        fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(lengths.len(), 2);
    assert!(lengths.iter().all(|length| *length < 1200), "{lengths:?}");
    let read = journal.read();
    assert_eq!(read.last().unwrap().what.message, "event 199");
    assert!(read.is_sorted_by_key(|event| event.sequence) && read.len() > 8);
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let events = Log::default().note(vec![happening("a")], EPOCH);
    assert!(Journal::within(file.join("below")).append(&events).is_err());
}

fn config(backends: u8) -> Config {
    let head = "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\nvip = \"203.0.113.10\"\nport = 80\n\
                protocol = \"tcp\"\nforward = \"ipip\"\n";
    let backend = |last: u8| format!("[[service.backend]]\naddress = \"10.0.0.{last}\"\n");
    config::parse("test", &format!("{head}{}", (1..=backends).map(backend).collect::<String>())).unwrap()
}

/// All well.
fn wish(backends: u8) -> Desired {
    let hop = NextHop::some();
    let next_hops = (1..=backends).map(|last| ([10, 0, 0, last].into(), Resolution::Resolved(hop))).collect();
    desired(desired::Inputs {
        config: &config(backends),
        verdicts: &BTreeMap::new(),
        next_hops: &next_hops,
        overrides: &Overrides::default(),
        factors: &Factors::default(),
        outliers: &health::Outliers::default(),
        local: None,
        now: Instant::now(),
    })
}

fn with(mut desired: Desired, change: impl Fn(&mut desired::Service)) -> Desired {
    desired.services.values_mut().for_each(change);
    desired
}

fn each(desired: Desired, change: impl Fn(&mut Backend)) -> Desired {
    with(desired, |service| service.backends.values_mut().for_each(&change))
}

struct Because;

impl Reasons for Because {
    fn down(&self, backend: &health::Key) -> Option<String> {
        Some(format!("{} refuses", backend.address))
    }

    fn ejected(&self, backend: &health::Key) -> Option<String> {
        Some(format!("{} failed", backend.address))
    }

    fn unreached(&self, _address: IpAddr) -> Option<String> {
        Some("no route".into())
    }
}

fn told(before: &Desired, after: &Desired) -> Vec<String> {
    let told = changes(before, after, &Because);
    assert!(told.iter().all(|happening| happening.service.as_deref() == Some("web")));
    let text = |happening: Happening| {
        let backend = happening.backend.map(|backend| format!("{backend} ")).unwrap_or_default();
        format!("{} {backend}{}", happening.kind, happening.message)
    };
    told.into_iter().map(text).collect()
}

#[test]
fn services_and_backends_come_and_go() {
    let nothing = Desired::default();
    assert_eq!(told(&nothing, &wish(2)), ["service was added, 2 of 2 backends take new flows"]);
    assert_eq!(told(&wish(2), &nothing), ["service was removed"]);
    assert_eq!(told(&wish(2), &wish(1)), ["backend 10.0.0.2 was removed"]);
    assert_eq!(told(&wish(1), &wish(2)), ["backend 10.0.0.2 was added"]);
    assert_eq!(told(&wish(2), &wish(2)), Vec::<String>::new());
}

#[test]
fn every_turn_of_a_backend_is_told_with_its_reason() {
    use Role::{Active, Down, Draining, Ejected, Standby, Unknown};
    let in_role = |role| each(wish(1), |backend| backend.role = role);
    let cases = [
        (Active, Down, Some("went down: 10.0.0.1 refuses")),
        (Unknown, Down, Some("went down: 10.0.0.1 refuses")),
        (Down, Active, Some("came up")),
        (Unknown, Active, Some("came up")),
        (Active, Draining, Some("takes no new flows: it drains")),
        (Draining, Active, Some("takes new flows again")),
        (Active, Standby, Some("stands by")),
        (Standby, Active, Some("takes over")),
        (Active, Ejected, Some("is ejected: it takes no new flows for a while: 10.0.0.1 failed")),
        (Ejected, Active, Some("takes new flows again")),
        (Ejected, Down, Some("went down: 10.0.0.1 refuses")),
        (Ejected, Ejected, None),
        (Active, Unknown, None),
        (Down, Down, None),
    ];
    for (was, is, expected) in cases {
        let expected: Vec<String> = expected.iter().map(|it| format!("backend 10.0.0.1 {it}")).collect();
        assert_eq!(told(&in_role(was), &in_role(is)), expected, "{was:?} {is:?}");
    }
}

#[test]
fn weights_ways_and_panic_are_told() {
    let light = each(wish(1), |backend| backend.whole = 7);
    assert_eq!(told(&wish(1), &light), ["backend 10.0.0.1 has weight 7 instead of 100"]);
    let lost = each(wish(1), |backend| backend.next_hop = None);
    let moved = each(wish(1), |backend| {
        backend.next_hop = Some(NextHop { ifindex: 77, ..NextHop::some() });
    });
    assert_eq!(told(&wish(1), &lost), ["next_hop 10.0.0.1 cannot be reached: no route"]);
    assert_eq!(told(&lost, &wish(1)), ["next_hop 10.0.0.1 can be reached"]);
    assert_eq!(told(&wish(1), &moved), ["next_hop 10.0.0.1 is reached by another way"]);
    let panic = with(wish(1), |service| service.panic = true);
    assert_eq!(told(&wish(1), &panic), ["service too few backends are healthy, all of them are used"]);
    assert_eq!(told(&panic, &wish(1)), ["service enough backends are healthy again"]);
    let growing = each(wish(1), |backend| backend.weight = 10);
    assert_eq!(told(&wish(1), &growing), Vec::<String>::new());
}

#[test]
fn many_that_change_alike_are_one_event() {
    let dead = each(wish(9), |backend| backend.role = Role::Down);
    let expected =
        "backend each of 9 backends went down: 10.0.0.1, 10.0.0.2, 10.0.0.3 and 6 more: 10.0.0.1 refuses";
    assert_eq!(told(&wish(9), &dead), [expected]);
}
