//! `GET /v1/explain`: what would become of a packet.
//!
//! `packet` are its bytes in hexadecimal digits, `interface` is where it comes in; `down=ADDRESS` and
//! `weight=ADDRESS=NUMBER`, each as often as need be, ask what would be if.

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use tokio::task::spawn_blocking;

use super::LONGEST_PACKET;
use super::failure::Failure;
use super::handle::AgentHandle;
use super::server::{Answer, address_of, pairs};
use super::types::Explanation;
use crate::agent::Command;
use crate::agent::explain::{Assumption, Case, Question};
use crate::headers::from_hex;

/// The shortest packet that the kernel runs a program on: an Ethernet header.
const SHORTEST_PACKET: usize = 14;

pub(super) async fn explain(State(agent): State<AgentHandle>, uri: Uri) -> Answer<Explanation> {
    answer(&agent, question(uri.query().unwrap_or_default())?).await
}

/// Runs the packet through the programs, and says what they found.
pub(crate) async fn answer(agent: &AgentHandle, question: Question) -> Answer<Explanation> {
    let asked = question.interface.clone();
    let (bench, interface, index) = agent.ask(|reply| Command::Bench { interface: asked, reply }).await??;
    let packet = question.packet.clone();
    let explained = spawn_blocking(move || bench.run(&packet, index)).await;
    let explained = explained.map_err(|_ended| Failure::stopping())??;
    let case = Box::new(Case { question, interface, explained });
    Ok(Json(agent.ask(|reply| Command::Explain { case, reply }).await??))
}

/// A request's parameters, some of which may come more than once.
fn question(query: &str) -> Result<Question, Failure> {
    let mut question = Question::default();
    for (key, value) in pairs(query)? {
        match key.as_str() {
            "packet" => question.packet = bytes(&value)?,
            "interface" => question.interface = Some(value),
            "down" => question.assumptions.push(Assumption::Down(address_of(&value)?)),
            "weight" => question.assumptions.push(weight(&value)?),
            other => return Err(Failure::bad_request(format!("there is no parameter {other}"))),
        }
    }
    if question.packet.len() < SHORTEST_PACKET {
        return Err(Failure::bad_request(format!(
            "a packet has at least {SHORTEST_PACKET} bytes: it begins with its Ethernet header"
        )));
    }
    Ok(question)
}

fn weight(text: &str) -> Result<Assumption, Failure> {
    let parts = text.rsplit_once('=').and_then(|(address, weight)| Some((address, weight.parse().ok()?)));
    let (address, weight): (_, u16) =
        parts.ok_or_else(|| Failure::bad_request(format!("{text} is not an address, = and a weight")))?;
    let address: IpAddr = address_of(address)?;
    Ok(Assumption::Weight(address, weight))
}

/// The bytes of hexadecimal digits.
fn bytes(hex: &str) -> Result<Vec<u8>, Failure> {
    if hex.len() > LONGEST_PACKET * 2 {
        return Err(Failure::bad_request(format!("a packet has at most {LONGEST_PACKET} bytes")));
    }
    from_hex(hex)
        .ok_or_else(|| Failure::bad_request("a packet is written in hexadecimal digits, two for each byte"))
}
