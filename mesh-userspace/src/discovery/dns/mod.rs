//! A name that name servers know backends of: its addresses, or hosts that offer a service and their addresses.
//!
//! Invariants: who is there is read from the answers to all questions of a round, never from some of them; a name that
//! is known no more, or has no addresses any more, keeps its last answer for a while; whatever else is no answer (a
//! failure, a refusal, silence) says nothing about the name.

mod answer;
mod error;
mod exchange;
mod instances;
mod memory;
mod question;
mod servers;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hickory_proto::rr::Name;
use tokio::time::sleep;

pub use error::DnsError;

use self::answer::Answer;
use self::memory::Memory;
use self::question::{Kind, Question};
use self::servers::Servers;
use super::error::Followed;
use super::voice::Voice;
use super::waits::Waits;
use super::{Instance, Snapshot};
use crate::config::{DnsFamily, DnsLookup, DnsSource};

/// Answers that may be used for less than this are used for so long: no server is asked more often.
const SHORTEST: Duration = Duration::from_secs(1);

/// Answers that may be used for longer than this are not: records are changed before they end, too.
const LONGEST: Duration = Duration::from_secs(300);

/// Questions under way at once.
const AT_ONCE: usize = 16;

/// Says who is there, and again when the answers end.
pub(super) async fn follow(source: &DnsSource, voice: &mut Voice) -> Followed {
    let mut inquiry = Inquiry::new(source)?;
    let mut waits = Waits::new();
    loop {
        let wait = match inquiry.round().await {
            Ok((instances, again)) => {
                waits.restart();
                voice.say(Snapshot::from_iter(instances)).await;
                again
            }
            Err(error) => {
                let wait = if let DnsError::Absent { again, .. } = error { again } else { waits.next() };
                voice.fail(&error.into(), wait);
                wait
            }
        };
        sleep(wait).await;
    }
}

/// What is asked, of whom, and what was answered.
struct Inquiry<'a> {
    source: &'a DnsSource,
    name: Name,
    servers: Servers<'a>,
    memory: Memory,
}

impl<'a> Inquiry<'a> {
    fn new(source: &'a DnsSource) -> Result<Self, DnsError> {
        let (name, servers) = (question::name(&source.name)?, Servers::new(source));
        Ok(Self { source, name, servers, memory: Memory::new(source.absent_after) })
    }

    /// Asks all that there is to ask. Returns who is there, and for how long that may be used.
    async fn round(&mut self) -> Result<(Vec<Instance>, Duration), DnsError> {
        self.memory.begin();
        let instances = match self.source.record {
            DnsLookup::Address => self.addresses().await?,
            DnsLookup::Srv => self.offers().await?,
        };
        self.memory.end();
        let now = Instant::now();
        let again = self.memory.ends_in(now).clamp(SHORTEST, LONGEST);
        match self.memory.doubt(now) {
            Some(doubt) if instances.is_empty() => Err(doubt.error(again)),
            Some(_) | None => Ok((instances, again)),
        }
    }

    async fn addresses(&mut self) -> Result<Vec<Instance>, DnsError> {
        let asked = self.questions([self.name.clone()]);
        self.ask(&asked).await?;
        Ok(instances::of_addresses(self.memory.addresses(&asked)))
    }

    async fn offers(&mut self) -> Result<Vec<Instance>, DnsError> {
        let asked = Question::new(self.name.clone(), Kind::Srv);
        self.ask(std::slice::from_ref(&asked)).await?;
        let offers = self.memory.offers(&asked);
        self.ask(&self.questions(instances::hosts(&offers))).await?;
        let of = |host: &Name| self.memory.addresses(&self.questions([host.clone()]));
        Ok(instances::of_offers(&offers, of))
    }

    /// What to ask for the addresses of hosts, nothing twice.
    fn questions(&self, hosts: impl IntoIterator<Item = Name>) -> Vec<Question> {
        let kinds: &[Kind] = match self.source.family {
            DnsFamily::Both => &[Kind::A, Kind::Aaaa],
            DnsFamily::Ipv4 => &[Kind::A],
            DnsFamily::Ipv6 => &[Kind::Aaaa],
        };
        let of = |host: Name| kinds.iter().map(move |kind| Question::new(host.clone(), *kind));
        let mut questions: Vec<Question> = hosts.into_iter().flat_map(of).collect();
        questions.sort_unstable();
        questions.dedup();
        questions
    }

    /// Asks everything, and learns if all of it is answered.
    async fn ask(&mut self, questions: &[Question]) -> Result<(), DnsError> {
        let asked: Vec<_> = questions.iter().map(|question| self.servers.ask(question)).collect();
        let answers: Vec<Answer> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        let now = Instant::now();
        for (question, answer) in questions.iter().zip(answers) {
            self.memory.learn(question, answer, now);
        }
        Ok(())
    }
}
