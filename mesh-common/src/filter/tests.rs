extern crate std;
use super::*;
use crate::{
    flow::{FlowRecord, state},
    hash, table,
};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use std::{collections::BTreeSet, vec, vec::Vec};

/// So few that flows share words and bits.
const WORDS: u32 = 1;
const FLOWS: usize = 4;
const PROCESSORS: usize = 3;

fn key(flow: usize) -> u64 {
    table::key(hash::flow4(7, [10, 0, 0, 1], u16::try_from(flow).unwrap().to_be_bytes()), 1)
}

proptest! {
    #[test]
    fn a_record_has_the_mark_of_its_flow(key: u64, backend in 0..=table::MAX_BACKEND, seen: u32, state in 0u32..4) {
        prop_assert_eq!(Mark::of(table::pack(key, &FlowRecord { backend, seen, state })), Mark::of(key));
    }

    #[test]
    fn words_lie_within_their_generations(key: u64, words in 1u32..1 << 20) {
        let word = Mark::of(key).word(words);
        prop_assert!(word < words);
        let [first, second] = [0, 1].map(|generation| index(generation, word, words));
        prop_assert_eq!((first, second), (word as usize, (word + words) as usize));
    }
}

#[test]
fn few_flows_are_taken_for_recorded_beside_half_as_many_as_the_filter_is_made_for() {
    let words = 4096u32;
    let mut filter = vec![0u64; 4096];
    let mark = |client: u32, port: u16| {
        Mark::of(table::key(hash::flow4(3, client.to_be_bytes(), port.to_be_bytes()), 1))
    };
    for client in 0..u32::from(u16::MAX) {
        let mark = mark(0x0a00_0000 + client, 1000);
        filter[mark.word(words) as usize] |= mark.bits();
    }
    let met = (0..u16::MAX).filter(|port| {
        let mark = mark(0x0a01_0000, *port);
        mark.is_in(filter[mark.word(words) as usize])
    });
    // (1 - e^(-1/2))^2, and a little for flows that share a word.
    let share = met.count() as f64 / f64::from(u16::MAX);
    assert!(share < 0.18, "{share}");
    let set = filter.iter().map(|word| u64::from(word.count_ones())).sum();
    assert!(!is_worn(set, 65_535, words) && is_worn(set, 6_553, words));
}

#[test]
fn a_filter_is_not_worn_by_what_is_recorded_but_by_what_was() {
    let (words, mut filter) = (16u32, [0u64; 16]);
    let set = |filter: &[u64]| filter.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
    // As many as it is made for.
    for flow in 0..512u16 {
        let mark = Mark::of(key(flow.into()));
        filter[mark.word(words) as usize] |= mark.bits();
        assert!(!is_worn(set(&filter), u64::from(flow) + 1, words), "{flow}");
    }
    assert!(is_worn(set(&filter), 200, words));
    assert!(is_worn(193, 0, words) && !is_worn(192, 0, words) && !is_worn(0, 0, words));
}

/// What a packet does next.
#[derive(Clone, Copy, Debug)]
enum Packet {
    /// Looks whether the bits are set in a generation, and sets them if not; then the record is written.
    Note {
        flow: usize,
        generation: u64,
    },
    /// Sets them.
    Set {
        flow: usize,
        generation: u64,
    },
    Write {
        flow: usize,
    },
    /// Reads which generation counts.
    Ask {
        flow: usize,
    },
    /// Reads the flow's word.
    Look {
        flow: usize,
        generation: u64,
    },
}

/// A packet on its way.
#[derive(Clone, Copy, Debug)]
struct Way {
    packet: Packet,
    /// Whether the flow was recorded all the time since the packet came.
    recorded: bool,
    /// How many grace periods had begun when it came.
    came: u32,
}

/// What the agent is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agent {
    Begin,
    /// Waits for every packet that came before this grace period.
    Grace(u32),
    Clear(u32),
    /// Looks at a place of the flow table; `true`: has seen a record there.
    Fill(usize, bool),
    Flip,
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Insert(usize, usize),
    Find(usize, usize),
    /// A processor goes on.
    Go(usize),
    Agent,
    /// The agent ends, and another begins.
    Restart,
    /// A record goes: its flow is over, or gives way to another.
    Forget(usize),
}

impl Move {
    /// Any number is a move: fast to draw, and to make less of when a history fails.
    fn of(number: u16) -> Self {
        let [number, kind] = number.to_le_bytes().map(usize::from);
        let (on, flow) = (number % PROCESSORS, number / PROCESSORS % FLOWS);
        match kind % 32 {
            0..4 => Self::Insert(on, flow),
            4..8 => Self::Find(on, flow),
            8..20 => Self::Go(on),
            20..30 => Self::Agent,
            30 => Self::Restart,
            _ => Self::Forget(flow),
        }
    }
}

/// A filter, a flow table with a place for each flow, processors, and the agent, whose smallest steps come in any order.
struct World {
    words: [u64; 2 * WORDS as usize],
    generation: u64,
    records: [Option<u64>; FLOWS],
    processors: [Option<Way>; PROCESSORS],
    agent: Agent,
    step: Step,
    graces: u32,
    /// Before which steps the agent waits.
    waits: [bool; 2],
}

impl World {
    const fn new(waits: [bool; 2]) -> Self {
        Self {
            words: [0; 2 * WORDS as usize],
            generation: 0,
            records: [None; FLOWS],
            processors: [None; PROCESSORS],
            agent: Agent::Begin,
            step: Step::Clear,
            graces: 0,
            waits,
        }
    }

    fn word(&mut self, flow: usize, generation: u64) -> &mut u64 {
        &mut self.words[index(generation, Mark::of(key(flow)).word(WORDS), WORDS)]
    }

    /// Makes a move; `Err` if a recorded flow was missed.
    fn make(&mut self, one: Move) -> Result<(), usize> {
        match one {
            Move::Insert(on, flow) => self.come(on, Packet::Note { flow, generation: 0 }, flow),
            Move::Find(on, flow) => self.come(on, Packet::Ask { flow }, flow),
            Move::Go(on) => {
                if let Some(way) = self.processors[on].take() {
                    self.processors[on] =
                        self.go(way.packet, way.recorded)?.map(|packet| Way { packet, ..way });
                }
            }
            Move::Agent => self.agent = self.act(),
            Move::Restart => (self.agent, self.step) = (Agent::Begin, Step::default()),
            Move::Forget(flow) => {
                self.records[flow] = None;
                for way in self.processors.iter_mut().flatten() {
                    let (Packet::Note { flow: of, .. }
                    | Packet::Set { flow: of, .. }
                    | Packet::Write { flow: of }
                    | Packet::Ask { flow: of }
                    | Packet::Look { flow: of, .. }) = way.packet;
                    way.recorded &= of != flow;
                }
            }
        }
        Ok(())
    }

    fn come(&mut self, on: usize, packet: Packet, flow: usize) {
        if self.processors[on].is_none() {
            let recorded = self.records[flow].is_some();
            self.processors[on] = Some(Way { packet, recorded, came: self.graces });
        }
    }

    fn go(&mut self, packet: Packet, recorded: bool) -> Result<Option<Packet>, usize> {
        let noted = |flow, generation| match generation {
            0 => Packet::Note { flow, generation: 1 },
            _ => Packet::Write { flow },
        };
        Ok(match packet {
            Packet::Note { flow, generation } if Mark::of(key(flow)).is_in(*self.word(flow, generation)) => {
                Some(noted(flow, generation))
            }
            Packet::Note { flow, generation } => Some(Packet::Set { flow, generation }),
            Packet::Set { flow, generation } => {
                *self.word(flow, generation) |= Mark::of(key(flow)).bits();
                Some(noted(flow, generation))
            }
            Packet::Write { flow } => {
                let record = FlowRecord { backend: 1, seen: 2, state: state::ESTABLISHED };
                self.records[flow] = Some(table::pack(key(flow), &record));
                None
            }
            Packet::Ask { flow } => Some(Packet::Look { flow, generation: self.generation }),
            Packet::Look { flow, generation } => {
                if recorded && !Mark::of(key(flow)).is_in(*self.word(flow, generation)) {
                    return Err(flow);
                }
                None
            }
        })
    }

    fn act(&mut self) -> Agent {
        let idle = other(self.generation);
        match self.agent {
            Agent::Begin => {
                self.graces += 1;
                Agent::Grace(self.graces)
            }
            Agent::Grace(grace) if self.is_over(grace) => match self.step {
                Step::Clear => Agent::Clear(0),
                Step::Fill => Agent::Fill(0, false),
            },
            Agent::Grace(_) => self.agent,
            Agent::Clear(word) => {
                self.words[index(idle, word, WORDS)] = 0;
                if word + 1 < WORDS {
                    return Agent::Clear(word + 1);
                }
                self.step = Step::Fill;
                Agent::Begin
            }
            Agent::Fill(FLOWS, _) => Agent::Flip,
            Agent::Fill(place, false) if self.records[place].is_some() => Agent::Fill(place, true),
            Agent::Fill(place, seen) => {
                if seen {
                    *self.word(place, idle) |= Mark::of(key(place)).bits();
                }
                Agent::Fill(place + 1, false)
            }
            Agent::Flip => {
                self.generation = idle;
                self.step = Step::Clear;
                Agent::Begin
            }
        }
    }

    fn is_over(&self, grace: u32) -> bool {
        let [before_clear, before_fill] = self.waits;
        let waits = match self.step {
            Step::Clear => before_clear,
            Step::Fill => before_fill,
        };
        !waits || self.processors.iter().flatten().all(|way| way.came >= grace)
    }
}

fn play(waits: [bool; 2], moves: &[u16]) -> Result<(), usize> {
    let mut world = World::new(waits);
    moves.iter().try_for_each(|number| world.make(Move::of(*number)))
}

fn moves() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(any::<u16>(), 1..400)
}

#[test]
fn the_flows_of_the_model_have_bits_of_their_own() {
    let bits: BTreeSet<u64> = (0..FLOWS).map(|flow| Mark::of(key(flow)).bits()).collect();
    assert_eq!(bits.len(), FLOWS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn a_recorded_flow_is_never_missed(moves in moves()) {
        prop_assert_eq!(play([true, true], &moves), Ok(()));
    }
}

#[test]
fn without_either_grace_period_some_are_missed() {
    for waits in [[false, true], [true, false]] {
        let (mut runner, moves) = (TestRunner::deterministic(), moves());
        let mut histories = (0..20_000).map(|_| moves.new_tree(&mut runner).unwrap().current());
        assert!(histories.any(|moves| play(waits, &moves).is_err()), "{waits:?}");
    }
}
