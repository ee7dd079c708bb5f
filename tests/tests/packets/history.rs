//! One history of a service's table: slots change hands, backends die and come back, time passes, and clients open,
//! use and close flows meanwhile.
//!
//! The oracle is what clients remember: who answered them first must answer them until they close or their backend
//! dies. It knows nothing of slots and records but when userspace may move a slot on.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use mesh_common::abi::BackendEntry;
use mesh_common::flow::{Ticks, UDP_IDLE, state};
use mesh_common::hash;
use mesh_common::lifecycle::{Rules, Tracking, calm, change, pin, settle};
use mesh_common::slot::{Phase, Slot};
use mesh_tests::lab::{Lab, SEED};
use mesh_userspace::dataplane::{Dataplane as _, Op, flow_hash};

use crate::frame::{Flags, Frame, Transport};
use crate::random::Random;
use crate::world::{SLOTS, Way, opening, services, xdp};

const BACKENDS: u32 = 4;
const CLIENTS: u16 = 16;

/// The kernel's clock may go on by a tick or two during a history.
const UDP_LIVES: Ticks = UDP_IDLE - 10;

/// What a client remembers.
#[derive(Debug)]
struct Live {
    backend: u32,
    /// Whether a packet was sent since the slot began to migrate.
    seen: bool,
    last: Ticks,
}

pub(crate) struct History<'a> {
    lab: &'a mut Lab,
    random: Random,
    service: u32,
    rules: Rules,
    frame: Frame,
    slots: Vec<Slot>,
    /// Who is alive, by id - 1.
    alive: Vec<bool>,
    /// Live flows, by the client's port.
    live: BTreeMap<u16, Live>,
    now: Ticks,
    packets: u64,
}

impl<'a> History<'a> {
    /// Clean tables, everybody alive, slots given out at random.
    pub(crate) fn begin(lab: &'a mut Lab, random: Random, service: u32, tracking: Tracking) -> Self {
        lab.retain_flows(|_| false).unwrap();
        let frame = opening(&services()[usize::try_from(service - 1).unwrap()]);
        let rules = Rules { tracking, connections: frame.transport != Transport::Udp };
        let alive = vec![true; usize::try_from(BACKENDS).unwrap()];
        let slots = vec![Slot::default(); usize::try_from(SLOTS).unwrap()];
        let (live, now, packets) = (BTreeMap::new(), 0, 0);
        let mut new = Self { lab, random, service, rules, frame, slots, alive, live, now, packets };
        (1..=BACKENDS).for_each(|id| new.write_backend(id));
        for slot in 0..new.slots.len() {
            let to = new.any_alive();
            new.write_slot(slot, change(Slot::default(), to, rules, |_| false));
        }
        new
    }

    /// Something happens.
    pub(crate) fn step(&mut self) -> Result<()> {
        let port = 4000 + u16::try_from(self.random.below(usize::from(CLIENTS)))?;
        match self.random.below(30) {
            0..=5 => self.open(port)?,
            6..=14 => self.go_on(port)?,
            15 => self.close(port)?,
            // The client vanishes without a word.
            16 => drop(self.live.remove(&port)),
            17 => self.wait()?,
            _ => self.change_table()?,
        }
        Ok(())
    }

    /// Userspace does something.
    fn change_table(&mut self) -> Result<()> {
        let at = self.random.below(self.slots.len());
        match self.random.below(12) {
            0..=2 => {
                let to = self.any_alive();
                self.give(at, to);
            }
            3 => self.rebuild(),
            4 => self.die()?,
            5 => self.revive()?,
            6..=7 => self.turn_into(at, pin(self.slots[at])),
            8..=9 => self.settle(at),
            _ => self.calm(at)?,
        }
        Ok(())
    }

    /// Everybody who lives sends once more. Answers how many packets of live flows there were.
    pub(crate) fn end(mut self) -> Result<u64> {
        self.everybody_goes_on()?;
        Ok(self.packets)
    }

    fn is_udp(&self) -> bool {
        !self.rules.connections
    }

    fn segment(&self, flags: Flags) -> Transport {
        if self.is_udp() { Transport::Udp } else { Transport::Tcp(flags) }
    }

    fn is_alive(&self, id: u32) -> bool {
        usize::try_from(id).unwrap().checked_sub(1).is_some_and(|at| self.alive[at])
    }

    fn any_alive(&mut self) -> u32 {
        let alive: Vec<u32> = (1..=BACKENDS).filter(|id| self.is_alive(*id)).collect();
        self.random.pick(&alive)
    }

    fn write_backend(&mut self, id: u32) {
        let destination_mac = [2, 0, 0, 0, 0, u8::try_from(id).unwrap()];
        let entry = BackendEntry { destination_mac, alive: u8::from(self.is_alive(id)), ..Way::L2.entry() };
        self.lab.backend(id, entry).unwrap();
    }

    fn write_slot(&mut self, at: usize, slot: Slot) {
        let index = self.service * SLOTS + u32::try_from(at).unwrap();
        self.lab.kernel.apply(&Op::WriteSlot { index, slot }).unwrap();
        self.slots[at] = slot;
    }

    /// Sends a client's packet; answers who got it.
    fn send(&mut self, port: u16, transport: Transport) -> Result<u32> {
        let mut frame = Frame { transport, ..self.frame.clone() };
        frame.source.set_port(port);
        let (action, packet) = self.lab.send(&frame.bytes())?;
        ensure!(action == xdp::TX, "client {port}: action {action}");
        Ok(u32::from(packet[5]))
    }

    /// A live client's packet, which must go where those before went.
    fn packet(&mut self, port: u16, transport: Transport) -> Result<()> {
        let got = self.send(port, transport)?;
        let slot = self.slots[slot_of(self.frame.source.ip(), port)];
        let Some(live) = self.live.get_mut(&port) else { return Ok(()) };
        ensure!(
            got == live.backend,
            "client {port} moved from {live:?} to {got} by {transport:?} at {slot:?}"
        );
        (live.seen, live.last) = (true, self.now);
        self.packets += 1;
        Ok(())
    }

    fn open(&mut self, port: u16) -> Result<()> {
        if self.live.contains_key(&port) {
            return self.retransmit(port);
        }
        let backend = self.send(port, self.segment(Flags::Syn))?;
        ensure!(self.is_alive(backend), "client {port} was given to {backend}, which is dead");
        self.live.insert(port, Live { backend, seen: true, last: self.now });
        Ok(())
    }

    /// A SYN that comes again, or is forged: it moves no recorded flow.
    fn retransmit(&mut self, port: u16) -> Result<()> {
        let flows = self.lab.flows()?;
        let is_open = flows.iter().any(|f| f.client.port() == port && f.record.state != state::CLOSING);
        let consults = self.slots[slot_of(self.frame.source.ip(), port)].consults();
        if self.is_udp() || !is_open || !consults {
            return Ok(());
        }
        self.packet(port, self.segment(Flags::Syn))
    }

    fn go_on(&mut self, port: u16) -> Result<()> {
        if self.live.contains_key(&port) { self.packet(port, self.segment(Flags::Ack)) } else { Ok(()) }
    }

    fn close(&mut self, port: u16) -> Result<()> {
        let end = self.random.pick(&[Flags::FinAck, Flags::Rst]);
        if self.live.contains_key(&port) {
            self.packet(port, self.segment(end))?;
            self.go_on(port)?;
            self.live.remove(&port);
        }
        Ok(())
    }

    fn give(&mut self, at: usize, to: u32) {
        let slot = change(self.slots[at], to, self.rules, |id| self.is_alive(id));
        self.turn_into(at, slot);
    }

    /// A slot that begins to record has seen no flow yet.
    fn turn_into(&mut self, at: usize, new: Slot) {
        let records = |slot: Slot| slot.phase() == Phase::Migrating && slot.records();
        if records(new) && !records(self.slots[at]) {
            let address = self.frame.source.ip();
            let own = self.live.iter_mut().filter(|(port, _)| slot_of(address, **port) == at);
            own.for_each(|(_, live)| live.seen = false);
        }
        self.write_slot(at, new);
    }

    /// A new table: every slot is given anew.
    fn rebuild(&mut self) {
        for at in 0..self.slots.len() {
            let to = self.any_alive();
            self.give(at, to);
        }
    }

    fn die(&mut self) -> Result<()> {
        let dead = self.any_alive();
        if self.alive.iter().filter(|alive| **alive).count() == 1 {
            return Ok(());
        }
        self.alive[usize::try_from(dead - 1)?] = false;
        self.write_backend(dead);
        self.live.retain(|_, live| live.backend != dead);
        for at in 0..self.slots.len() {
            let current = self.slots[at].current();
            let to = if current == dead { self.any_alive() } else { current };
            self.give(at, to);
        }
        Ok(())
    }

    fn revive(&mut self) -> Result<()> {
        let id = 1 + u32::try_from(self.random.below(self.alive.len()))?;
        self.alive[usize::try_from(id - 1)?] = true;
        self.write_backend(id);
        Ok(())
    }

    fn settle(&mut self, at: usize) {
        let address = self.frame.source.ip();
        let mut own = self.live.iter().filter(|(port, _)| slot_of(address, **port) == at);
        if own.all(|(_, live)| live.seen) {
            self.turn_into(at, settle(self.slots[at], self.rules));
        }
    }

    fn calm(&mut self, at: usize) -> Result<()> {
        if self.slots[at].phase() != Phase::Settling || self.rules.tracking == Tracking::Always {
            return Ok(());
        }
        let current = self.slots[at].current();
        let live: Vec<u16> = self.live.keys().copied().collect();
        let mut left = 0;
        self.lab.retain_flows(|flow| {
            let own = slot_of(flow.client.ip(), flow.client.port()) == at;
            let keep = !own || flow.record.backend != current && live.contains(&flow.client.port());
            left += usize::from(own && keep);
            keep
        })?;
        if left == 0 {
            self.write_slot(at, calm(self.slots[at], self.rules));
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        let by = Ticks::try_from(self.random.below(40))?;
        self.now += by;
        self.lab.age_flows(by)?;
        if self.is_udp() {
            // A UDP flow that is silent for so long is no flow any more.
            self.live.retain(|_, live| self.now - live.last <= UDP_LIVES);
            return Ok(());
        }
        // TCP clients answer keep-alives, so that none is silent beyond the guard time.
        self.everybody_goes_on()
    }

    fn everybody_goes_on(&mut self) -> Result<()> {
        let open: Vec<u16> = self.live.keys().copied().collect();
        open.into_iter().try_for_each(|port| self.go_on(port))
    }
}

/// The slot of a client's flows within the table.
fn slot_of(address: IpAddr, port: u16) -> usize {
    usize::try_from(hash::slot(flow_hash(SEED, SocketAddr::new(address, port)), SLOTS)).unwrap()
}
