//! Asks a name server for a name, which it has to know (RFC 1035).

use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use super::{Deadline, ProbeError, Target, socket};
use crate::config::{DnsProbe, DnsRecord};

pub(super) async fn probe(
    probe: &DnsProbe,
    target: Target<'_>,
    deadline: Deadline,
) -> Result<Duration, ProbeError> {
    let shown = || format!("{} {} asked of {}", probe.record, probe.query, target.address);
    let (id, question) = question(probe).map_err(|reason| ProbeError::Local { reason })?;
    let socket = socket::datagrams(target).await?;
    // What belongs to another question, or is no message, is not looked at.
    let asked = socket::exchange(&socket, &question, |bytes| {
        Message::from_vec(bytes).ok().filter(|message| {
            message.metadata.id == id && message.metadata.message_type == MessageType::Response
        })
    });
    let answered = deadline.answer(shown, asked).await?;
    let message = answered.map_err(|error| ProbeError::connect(target.address, deadline.after, &error))?;
    match judge(probe, &message) {
        Ok(()) => Ok(deadline.elapsed()),
        Err(Wrong::Refusal(answer)) => Err(ProbeError::NotServing { request: shown(), answer }),
        Err(Wrong::Lacks(wanted)) => Err(ProbeError::WrongAnswer { request: shown(), wanted }),
    }
}

/// A new question and its number.
fn question(probe: &DnsProbe) -> Result<(u16, Vec<u8>), String> {
    let name = Name::from_ascii(&probe.query).map_err(|error| error.to_string())?;
    let random = getrandom::u32().map_err(|error| error.to_string())?;
    let [low, high, ..] = random.to_le_bytes();
    let id = u16::from_le_bytes([low, high]);
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind(probe.record)));
    Ok((id, message.to_vec().map_err(|error| error.to_string())?))
}

/// What is wrong with an answer.
enum Wrong {
    Refusal(String),
    Lacks(String),
}

fn judge(probe: &DnsProbe, message: &Message) -> Result<(), Wrong> {
    let code = message.metadata.response_code;
    if code != ResponseCode::NoError {
        return Err(Wrong::Refusal(code.to_string()));
    }
    let mut answers = message.answers.iter().filter(|record| record.record_type() == kind(probe.record));
    match &probe.answer {
        None if answers.next().is_some() => Ok(()),
        None => Err(Wrong::Lacks(format!("any {} record", probe.record))),
        Some(wanted) if answers.any(|record| wanted.is_in(record.data.to_string().as_bytes())) => Ok(()),
        Some(wanted) => Err(Wrong::Lacks(wanted.to_string())),
    }
}

const fn kind(record: DnsRecord) -> RecordType {
    match record {
        DnsRecord::A => RecordType::A,
        DnsRecord::Aaaa => RecordType::AAAA,
        DnsRecord::Cname => RecordType::CNAME,
        DnsRecord::Mx => RecordType::MX,
        DnsRecord::Ns => RecordType::NS,
        DnsRecord::Ptr => RecordType::PTR,
        DnsRecord::Soa => RecordType::SOA,
        DnsRecord::Srv => RecordType::SRV,
        DnsRecord::Txt => RecordType::TXT,
    }
}
