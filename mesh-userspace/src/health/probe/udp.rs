//! Sends a datagram and waits for one.

use std::time::Duration;

use super::{Deadline, ProbeError, Target, socket};
use crate::config::UdpProbe;

pub(super) async fn probe(
    probe: &UdpProbe,
    target: Target<'_>,
    deadline: Deadline,
) -> Result<Duration, ProbeError> {
    let shown = || format!("a datagram to {}", target.address);
    let socket = socket::datagrams(target).await?;
    let asked = socket::exchange(&socket, &probe.send, |answer| {
        Some(probe.answer.as_ref().is_none_or(|wanted| wanted.is_in(answer)))
    });
    let answered = deadline.answer(shown, asked).await?;
    match (answered, &probe.answer) {
        (Err(error), _) => Err(ProbeError::connect(target.address, deadline.after, &error)),
        (Ok(false), Some(wanted)) => {
            Err(ProbeError::WrongAnswer { request: shown(), wanted: wanted.to_string() })
        }
        (Ok(_), _) => Ok(deadline.elapsed()),
    }
}
