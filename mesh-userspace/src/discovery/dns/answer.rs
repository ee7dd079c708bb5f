//! What a message says about a question. Pure.

use std::fmt;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::error::ExchangeError;
use super::question::Question;

/// What was answered, and for how long that may be used.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) said: Said,
    pub(super) ttl: Duration,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// Records of the kind that was asked for.
    Records(Vec<RData>),
    /// That there are none.
    Missing(Missing),
}

/// What there is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Anything of that name (NXDOMAIN).
    Name,
    /// Records of that kind (RFC 2308 §2.2).
    Records,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "there is no such name (NXDOMAIN)",
            Self::Records => "the name has no such records",
        })
    }
}

/// What a message says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reading {
    /// The answer.
    Answer(Answer),
    /// That another name has to be asked for, and for how long that may be used.
    Alias(Name, Duration),
}

/// Reads an answer to a question.
pub(super) fn read(question: &Question, message: &Message) -> Result<Reading, ExchangeError> {
    let code = message.metadata.response_code;
    let missing = if code == ResponseCode::NXDomain { Missing::Name } else { Missing::Records };
    if ![ResponseCode::NoError, ResponseCode::NXDomain].contains(&code) {
        return Err(ExchangeError::Refusal(code));
    }
    let chain = Chain::of(question, &message.answers);
    let wanted =
        |record: &&Record| record.record_type() == question.kind.record() && record.name == chain.name;
    let records: Vec<&Record> = message.answers.iter().filter(wanted).collect();
    if !records.is_empty() {
        let ttl = chain.ttl_with(records.iter().map(|record| record.ttl));
        let said = Said::Records(records.into_iter().map(|record| record.data.clone()).collect());
        return Ok(Reading::Answer(Answer { said, ttl }));
    }
    let denial = |seconds| Answer { said: Said::Missing(missing), ttl: chain.ttl_with(seconds) };
    match (missing, Authority::of(message)) {
        (_, Authority::Denies(seconds)) => Ok(Reading::Answer(denial(Some(seconds)))),
        (Missing::Name, _) => Ok(Reading::Answer(denial(None))),
        (Missing::Records, _) if chain.name != question.name => {
            let ttl = chain.ttl_with(None);
            Ok(Reading::Alias(chain.name, ttl))
        }
        (Missing::Records, Authority::Refers) => Err(ExchangeError::Referral),
        (Missing::Records, Authority::Silent) => Ok(Reading::Answer(denial(None))),
    }
}

/// Where aliases lead, and the smallest of their times: seconds.
struct Chain {
    name: Name,
    ttl: Option<u32>,
}

impl Chain {
    /// Follows the aliases that an answer contains, in whatever order, so often that a circle ends.
    fn of(question: &Question, answers: &[Record]) -> Self {
        let mut chain = Self { name: question.name.clone(), ttl: None };
        for _ in answers {
            let is_next =
                |record: &&Record| record.record_type() == RecordType::CNAME && record.name == chain.name;
            let Some(next) = answers.iter().find(is_next) else { break };
            let RData::CNAME(target) = &next.data else { break };
            let ttl = chain.ttl.into_iter().chain([next.ttl]).min();
            chain = Self { name: target.0.clone(), ttl };
        }
        chain
    }

    /// The smallest of all times; what has none may not be used again.
    fn ttl_with(&self, others: impl IntoIterator<Item = u32>) -> Duration {
        let seconds = self.ttl.into_iter().chain(others).min();
        Duration::from_secs(seconds.unwrap_or_default().into())
    }
}

/// What is said about a name without records (RFC 2308 §2).
#[derive(Clone, Copy)]
enum Authority {
    /// That there are none, for so many seconds (RFC 2308 §5).
    Denies(u32),
    /// Who else might know.
    Refers,
    /// Nothing.
    Silent,
}

impl Authority {
    fn of(message: &Message) -> Self {
        let denies = message.authorities.iter().find_map(|record| {
            if let RData::SOA(soa) = &record.data { Some(record.ttl.min(soa.minimum)) } else { None }
        });
        let refers = || message.authorities.iter().any(|record| record.record_type() == RecordType::NS);
        match denies {
            Some(seconds) => Self::Denies(seconds),
            None if refers() => Self::Refers,
            None => Self::Silent,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::rdata::{A, CNAME, NS, SOA};

    use super::*;
    use crate::discovery::dns::question::{Kind, name};

    fn question() -> Question {
        Question::new(name("web.example").unwrap(), Kind::A)
    }

    fn record(owner: &str, ttl: u32, data: RData) -> Record {
        Record::from_rdata(name(owner).unwrap(), ttl, data)
    }

    fn address(owner: &str, ttl: u32, last: u8) -> Record {
        record(owner, ttl, a(last))
    }

    fn a(last: u8) -> RData {
        RData::A(A(Ipv4Addr::new(10, 0, 0, last)))
    }

    fn alias(owner: &str, ttl: u32, target: &str) -> Record {
        record(owner, ttl, RData::CNAME(CNAME(name(target).unwrap())))
    }

    /// A denial's proof, with this time and this minimum.
    fn soa(ttl: u32, minimum: u32) -> Record {
        let (server, admin) = (name("ns.example").unwrap(), name("admin.example").unwrap());
        record("example", ttl, RData::SOA(SOA::new(server, admin, 1, 3600, 600, 86_400, minimum)))
    }

    fn message(code: ResponseCode, answers: &[Record], authorities: &[Record]) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        message.add_answers(answers.iter().cloned());
        message.add_authorities(authorities.iter().cloned());
        message
    }

    fn reading(code: ResponseCode, answers: &[Record], authorities: &[Record]) -> Result<Reading, String> {
        read(&question(), &message(code, answers, authorities)).map_err(|error| error.to_string())
    }

    fn seconds(said: Said, seconds: u64) -> Result<Reading, String> {
        Ok(Reading::Answer(Answer { said, ttl: Duration::from_secs(seconds) }))
    }

    fn found(records: &[u8], ttl: u64) -> Result<Reading, String> {
        seconds(Said::Records(records.iter().map(|last| a(*last)).collect()), ttl)
    }

    const OK: ResponseCode = ResponseCode::NoError;
    const NX: ResponseCode = ResponseCode::NXDomain;

    #[test]
    fn records_of_the_name_count_for_the_shortest_of_their_times() {
        let other = address("other.example", 1, 9);
        let answers = [address("web.example", 30, 1), other, address("WEB.example", 20, 2)];
        assert_eq!(reading(OK, &answers, &[]), found(&[1, 2], 20));
    }

    #[test]
    fn aliases_are_followed_in_any_order() {
        let answers = [
            address("c.example", 30, 1),
            alias("b.example", 7, "c.example"),
            alias("web.example", 9, "b.example"),
        ];
        assert_eq!(reading(OK, &answers, &[]), found(&[1], 7));
        // Where they lead is somebody else's to say, or nobody's.
        let led = Reading::Alias(name("c.example").unwrap(), Duration::from_secs(7));
        assert_eq!(reading(OK, &answers[1..], &[]), Ok(led));
        assert_eq!(reading(OK, &answers[1..], &[soa(3, 60)]), seconds(Said::Missing(Missing::Records), 3));
        assert_eq!(reading(NX, &answers[1..], &[soa(60, 60)]), seconds(Said::Missing(Missing::Name), 7));
    }

    #[test]
    fn aliases_in_a_circle_end() {
        let answers = [alias("web.example", 9, "b.example"), alias("b.example", 9, "web.example")];
        assert!(reading(OK, &answers, &[]).is_ok());
    }

    #[test]
    fn denials_count_for_the_time_of_their_proof() {
        assert_eq!(reading(NX, &[], &[soa(30, 10)]), seconds(Said::Missing(Missing::Name), 10));
        assert_eq!(reading(OK, &[], &[soa(30, 60)]), seconds(Said::Missing(Missing::Records), 30));
        assert_eq!(reading(NX, &[], &[]), seconds(Said::Missing(Missing::Name), 0));
        assert_eq!(reading(OK, &[], &[]), seconds(Said::Missing(Missing::Records), 0));
    }

    #[test]
    fn what_is_no_answer_denies_nothing() {
        for code in
            [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::FormErr, ResponseCode::NotImp]
        {
            assert_eq!(reading(code, &[address("web.example", 30, 1)], &[soa(1, 1)]), Err(code.to_string()));
        }
        let referral = record("example", 30, RData::NS(NS(name("ns.example").unwrap())));
        assert_eq!(reading(OK, &[], &[referral]), Err(ExchangeError::Referral.to_string()));
    }
}
