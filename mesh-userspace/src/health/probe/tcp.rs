//! Opens a TCP connection and closes it.

use std::time::Duration;

use super::{Deadline, ProbeError, Target, socket};

pub(super) async fn probe(target: Target<'_>, deadline: Deadline) -> Result<Duration, ProbeError> {
    let stream = socket::connected(target, deadline).await?;
    let latency = deadline.elapsed();
    // A reset instead of the closing handshake: no port of this host waits a minute in TIME_WAIT for each probe.
    let _ = stream.set_zero_linger();
    Ok(latency)
}
