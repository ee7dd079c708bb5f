//! From what the programs tell to what somebody reads.

use super::{Admission, Names, Seat, Wanted, interface};
use crate::{
    agent::{
        command::{Command, CommandError},
        explain::{hex, phase, protocol_name, segment_name, verdict},
    },
    api::{
        AgentHandle,
        failure::Failure,
        types::{TraceLine, TraceView},
    },
    dataplane::{
        host_address,
        kernel::{Followed, Told, Tracer, epoch, wait_for_packets},
    },
};
use mesh_common::{
    abi::whole,
    notes::{Event, step},
    outcome::Outcome,
    slot::Slot,
};
use std::{future::pending, io, net::SocketAddr, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::warn;

/// How often names are renewed, and how often it is said what was missed: so who has vanished is noticed.
const PERIOD: Duration = Duration::from_secs(1);

/// Lines that may wait for who reads. More wait in the kernel, and what has no place there is missed.
const WAITING: usize = 1024;

/// Who reads nothing for so long is told no more.
const PATIENCE: Duration = Duration::from_secs(10);

/// What somebody watches.
pub(crate) type Watch = mpsc::Receiver<TraceLine>;

/// Begins to tell of packets, and goes on until the time is over, or whoever asked drops what is returned.
///
/// # Errors
///
/// Somebody watches already, or the kernel refuses.
pub(crate) async fn tell(
    agent: AgentHandle,
    wanted: Wanted,
    lasting: Option<Duration>,
) -> Result<Watch, Failure> {
    let Admission { seat, recipe, filter, logs } =
        agent.ask(|reply| Command::Watch { wanted, reply }).await??;
    let loaded = spawn_blocking(move || Tracer::load(&recipe, &filter, logs)).await;
    let failed = |error: crate::dataplane::kernel::LoadError| {
        CommandError::failed(format!("the programs that tell of packets cannot be loaded: {error}"))
            .advise("packets are still balanced; look at the agent's log and at its pins")
    };
    let (tracer, told) = loaded.map_err(|_ended| Failure::stopping())?.map_err(failed)?;
    let tracer = Box::new(tracer);
    let names = agent.ask(|reply| Command::Trace { tracer, reply }).await??;
    let (lines, watch) = mpsc::channel(WAITING);
    let teller = Teller::new(agent, seat, told, names, lines)
        .map_err(|error| CommandError::failed(format!("what the programs tell cannot be read: {error}")))?;
    tokio::spawn(teller.run(lasting));
    Ok(watch)
}

struct Teller {
    agent: AgentHandle,
    /// Given back when this ends, whatever ends it.
    seat: Option<Seat>,
    told: Followed,
    names: Names,
    lines: mpsc::Sender<TraceLine>,
    /// What the monotonic clock's zero was.
    epoch: Duration,
}

impl Drop for Teller {
    fn drop(&mut self) {
        if self.seat.take().is_some() {
            // The loop looks every second; this is sooner.
            self.agent.tell(Command::TraceNoMore(oneshot::channel().0));
        }
    }
}

impl Teller {
    fn new(
        agent: AgentHandle,
        seat: Seat,
        told: Told,
        names: Names,
        lines: mpsc::Sender<TraceLine>,
    ) -> io::Result<Self> {
        let told = told.follow()?;
        Ok(Self { agent, seat: Some(seat), told, names, lines, epoch: epoch()? })
    }

    async fn run(mut self, lasting: Option<Duration>) {
        let mut tick = interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let lines = self.lines.clone();
        let over = async {
            match lasting {
                Some(lasting) => sleep(lasting).await,
                None => pending().await,
            }
        };
        tokio::pin!(over);
        loop {
            let goes_on = tokio::select! {
                () = lines.closed() => false,
                () = &mut over => return self.end().await,
                _ = tick.tick() => self.renew().await,
                ready = self.told.wait() => match ready {
                    Ok(()) => self.read().await,
                    Err(error) => {
                        warn!(%error, "could not read what the programs tell");
                        false
                    }
                },
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Ends by itself: no more is told, and all that was told is passed on.
    async fn end(mut self) {
        self.seat = None;
        // Where that fails the loop tries again; what is told until then is not passed on.
        let _ = self.agent.ask(Command::TraceNoMore).await;
        if spawn_blocking(wait_for_packets).await.is_ok() {
            self.renew().await;
        }
    }

    /// Passes on what was told; whether anybody reads it.
    async fn read(&mut self) -> bool {
        while let Some(event) = self.told.take() {
            let line = TraceLine::Packet(Box::new(view(&event, &self.names, self.epoch)));
            if !self.say(line).await {
                return false;
            }
        }
        true
    }

    /// Learns new names, and says what was missed.
    async fn renew(&mut self) -> bool {
        // What is there is read first: what was told before is not missed.
        if !self.read().await {
            return false;
        }
        if let Ok(names) = self.agent.ask(Command::Names).await {
            self.names = names;
        }
        match self.told.missed() {
            Ok(missed) => self.say(TraceLine::Missed(missed)).await,
            Err(error) => {
                warn!(%error, "could not read how many packets were missed");
                false
            }
        }
    }

    /// Whether it was heard.
    async fn say(&self, line: TraceLine) -> bool {
        self.lines.send_timeout(line, PATIENCE).await.is_ok()
    }
}

fn view(event: &Event, names: &Names, epoch: Duration) -> TraceView {
    let Event { notes, time, ingress, length, captured, packet, .. } = event;
    let outcome = usize::try_from(notes.outcome).ok().and_then(|index| Outcome::ALL.get(index));
    let outcome = outcome.copied().unwrap_or(Outcome::Unhandled);
    let journey = &notes.journey;
    let has_flow = notes.has(step::READ | step::FOLLOWED);
    let backend = names.backends.get(&journey.backend).filter(|_| notes.has(step::CHOSEN));
    let service =
        if notes.has(step::SERVICE) { Some(journey.service.id) } else { backend.map(|(_, id)| *id) };
    let client = SocketAddr::new(host_address(whole(journey.client)), u16::from_be(journey.port));
    let to = journey.destination;
    let to = SocketAddr::new(host_address(whole(to.address())), u16::from_be_bytes(to.port()));
    let bytes: Vec<u8> = packet.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let captured = usize::try_from(*captured).unwrap_or(0).min(bytes.len());
    TraceView {
        time: (epoch + Duration::from_nanos(*time)).as_secs_f64(),
        interface: interface(*ingress),
        outcome: outcome.label().to_owned(),
        verdict: verdict(outcome).to_owned(),
        service: service.and_then(|id| names.services.get(&id).cloned()),
        client: has_flow.then(|| client.to_string()),
        destination: has_flow.then(|| to.to_string()),
        protocol: has_flow.then(|| protocol_name(journey.destination.protocol())),
        segment: has_flow.then(|| segment_name(journey.signs).to_owned()),
        flags: has_flow.then(|| flags(journey.signs.flags())).filter(|flags| !flags.is_empty()),
        backend: backend.map(|(address, _)| address.clone()),
        phase: notes.has(step::SLOT).then(|| phase(Slot(notes.slot)).to_owned()),
        recorded: notes.has(step::FOUND),
        length: *length,
        hex: hex(bytes.get(..captured).unwrap_or_default()),
    }
}

/// The flags of a TCP segment that are set, as `SYN ACK`.
fn flags(bits: u8) -> String {
    const NAMES: [(u8, &str); 6] =
        [(0x02, "SYN"), (0x10, "ACK"), (0x01, "FIN"), (0x04, "RST"), (0x08, "PSH"), (0x20, "URG")];
    let set: Vec<_> = NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    set.join(" ")
}
