//! What was answered, for the time when it is not answered any more. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::SRV;

use super::DnsError;
use super::answer::{Answer, Missing, Said};
use super::question::Question;

/// What was answered.
#[derive(Debug)]
pub(super) struct Memory {
    absent_after: Duration,
    entries: BTreeMap<Question, Entry>,
}

/// What is known from the answers to one question.
#[derive(Debug)]
struct Entry {
    /// The last records; none once they have been missing for long enough.
    records: Vec<RData>,
    /// That they are missing, and since when.
    missing: Option<(Missing, Instant)>,
    /// When the last answer ends.
    ends: Instant,
    /// Whether it was answered in this round.
    is_asked: bool,
}

/// That something is missing, but not for long enough to be believed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    question: String,
    missing: Missing,
    believed_after: Duration,
}

impl Doubt {
    /// As the reason why nothing is said.
    pub(super) fn error(self, again: Duration) -> DnsError {
        let Self { question, missing, believed_after } = self;
        DnsError::Absent { question, missing, believed_after, again }
    }
}

impl Memory {
    pub(super) const fn new(absent_after: Duration) -> Self {
        Self { absent_after, entries: BTreeMap::new() }
    }

    /// Begins a round of questions.
    pub(super) fn begin(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.is_asked = false);
    }

    /// Learns an answer; one that says what records there are, or that there are none.
    pub(super) fn learn(&mut self, question: &Question, answer: Answer, now: Instant) {
        let before = self.entries.remove(question);
        let entry = match answer.said {
            Said::Records(records) => {
                Entry { records, missing: None, ends: now + answer.ttl, is_asked: true }
            }
            Said::Missing(missing) => self.miss(before, missing, answer.ttl, now),
        };
        self.entries.insert(question.clone(), entry);
    }

    fn miss(&self, before: Option<Entry>, missing: Missing, ttl: Duration, now: Instant) -> Entry {
        let (records, long) = before.map_or_else(Default::default, |entry| (entry.records, entry.missing));
        let since = long.map_or(now, |(_, since)| since);
        let believed = since + self.absent_after;
        let is_believed = believed <= now;
        Entry {
            records: if is_believed { Vec::new() } else { records },
            missing: Some((missing, since)),
            ends: if is_believed { now + ttl } else { believed.min(now + ttl) },
            is_asked: true,
        }
    }

    /// Ends a round: forgets what was not asked in it.
    pub(super) fn end(&mut self) {
        self.entries.retain(|_, entry| entry.is_asked);
    }

    /// Something that is missing, but not for long enough to be believed.
    pub(super) fn doubt(&self, now: Instant) -> Option<Doubt> {
        let believed_after = self.absent_after;
        self.entries.iter().find_map(|(question, entry)| {
            let (missing, _) = entry.missing.filter(|(_, since)| now < *since + believed_after)?;
            Some(Doubt { question: question.to_string(), missing, believed_after })
        })
    }

    /// When the first of the answers ends.
    pub(super) fn ends_in(&self, now: Instant) -> Duration {
        let ends = self.entries.values().map(|entry| entry.ends).min();
        ends.map_or(Duration::ZERO, |ends| ends.saturating_duration_since(now))
    }

    /// The addresses in the answers to these questions.
    pub(super) fn addresses(&self, questions: &[Question]) -> Vec<IpAddr> {
        let records = questions.iter().flat_map(|question| self.records(question));
        records.filter_map(RData::ip_addr).collect()
    }

    /// The offers of a service in the answer to this question.
    pub(super) fn offers(&self, question: &Question) -> Vec<SRV> {
        let offer = |record: &RData| if let RData::SRV(offer) = record { Some(offer.clone()) } else { None };
        self.records(question).iter().filter_map(offer).collect()
    }

    fn records(&self, question: &Question) -> &[RData] {
        self.entries.get(question).map_or(&[], |entry| &entry.records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::dns::question::{Kind, name};

    const PATIENCE: Duration = Duration::from_secs(60);
    const TTL: Duration = Duration::from_secs(10);

    fn question(kind: Kind) -> Question {
        Question::new(name("web.example.com").unwrap(), kind)
    }

    fn address(last: u8) -> Answer {
        let record = RData::from(IpAddr::from([10, 0, 0, last]));
        Answer { said: Said::Records(vec![record]), ttl: TTL }
    }

    fn nothing() -> Answer {
        Answer { said: Said::Missing(Missing::Name), ttl: TTL }
    }

    /// One question, which is answered at times: seconds from the first.
    struct History {
        memory: Memory,
        begin: Instant,
    }

    impl History {
        fn new() -> Self {
            Self { memory: Memory::new(PATIENCE), begin: Instant::now() }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.begin + Duration::from_secs(seconds)
        }

        /// Learns; returns the address, whether there is doubt, and for how many seconds this holds.
        fn learn(&mut self, seconds: u64, answer: Answer) -> (Vec<IpAddr>, bool, u64) {
            let now = self.at(seconds);
            self.memory.begin();
            self.memory.learn(&question(Kind::A), answer, now);
            self.memory.end();
            let held = self.memory.addresses(&[question(Kind::A)]);
            (held, self.memory.doubt(now).is_some(), self.memory.ends_in(now).as_secs())
        }
    }

    fn held(last: u8) -> Vec<IpAddr> {
        vec![[10, 0, 0, last].into()]
    }

    #[test]
    fn what_is_missing_keeps_its_last_answer_for_a_while() {
        let mut history = History::new();
        assert_eq!(history.learn(0, address(1)), (held(1), false, 10));
        assert_eq!(history.learn(10, nothing()), (held(1), true, 10));
        assert_eq!(history.learn(65, nothing()), (held(1), true, 5), "until it is believed, and no longer");
        assert_eq!(history.learn(70, nothing()), (vec![], false, 10));
        assert_eq!(history.learn(71, address(2)), (held(2), false, 10));
        // The time begins anew.
        assert_eq!(history.learn(72, nothing()), (held(2), true, 10));
        assert_eq!(history.learn(131, nothing()), (held(2), true, 1));
        assert_eq!(history.learn(131, address(3)), (held(3), false, 10));
    }

    #[test]
    fn what_was_never_there_is_in_doubt_first() {
        let mut history = History::new();
        assert_eq!(history.learn(0, nothing()), (vec![], true, 10));
        assert_eq!(history.learn(60, nothing()), (vec![], false, 10));
        let mut impatient = History { memory: Memory::new(Duration::ZERO), begin: history.begin };
        assert_eq!(impatient.learn(0, nothing()), (vec![], false, 10));
    }

    #[test]
    fn what_is_asked_no_more_is_forgotten() {
        let mut history = History::new();
        let now = history.begin;
        history.memory.learn(&question(Kind::Aaaa), address(9), now);
        history.memory.end();
        assert_eq!(history.memory.addresses(&[question(Kind::Aaaa)]), held(9));
        assert_eq!(history.learn(0, address(1)).0, held(1));
        assert_eq!(history.memory.addresses(&[question(Kind::Aaaa)]), [] as [IpAddr; 0]);
    }
}
