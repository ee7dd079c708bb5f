//! The balancer's own source, compiled for the host, on copies of a lab's maps: what the loaded program does to a packet,
//! it has to do, too.
#![expect(unsafe_code, reason = "maps are linked by their names, as a loader finds them in an object")]

use std::mem::{size_of, transmute_copy};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::Pod;
use aya::maps::{
    Array as KernelArray, HashMap as KernelHash, LpmTrie as KernelTrie, Map, MapData, PerCpuArray,
};
use aya_ebpf::Global;
use aya_ebpf::machine::{Memory, Program, set_jiffies};
use aya_ebpf::maps::{Array, HashMap, LpmTrie};
use aya_ebpf::programs::XdpContext;
// What is declared below.
use balancer as _;
use memmap2::MmapOptions;
use mesh_common::abi::{BackendCounters, Journey, ServiceEntry};
use mesh_common::connection::{Connection, Reply, Sources};
use mesh_common::flood::Flood;
use mesh_common::flow::Ticks;
use mesh_common::fragment::{FragmentKey, FragmentRecord};
use mesh_common::outcome::Outcome;
use mesh_common::quic::{Config, ConfigKey, ServerIdKey};
use mesh_common::siphash::Key;
use mesh_common::table::Clients;
use mesh_common::tuple::Tuple;
use mesh_tests::lab::{INGRESS, Lab, SEED as LAB_SEED, SIZES};

// SAFETY: the programs' statics and functions, which keep their names, with their types.
unsafe extern "Rust" {
    safe static TABLES: Array<[u64; 8]>;
    safe static CLIENTS: Array<Clients>;
    safe static LOADS: Array<u64>;
    safe static POLICIES: Array<[u64; 12]>;
    safe static WIDE: Array<u32>;
    safe static TURNS: Array<u64>;
    safe static ANSWERS: Array<u64>;
    safe static OUTCOMES: Array<u64>;
    safe static BACKEND_COUNTERS: Array<BackendCounters>;
    safe static QUIC_PACKETS: Array<u64>;
    safe static JOURNEY: Array<Journey>;
    safe static VIPS: LpmTrie<[u64; 2], u32>;
    safe static GROUPS: LpmTrie<[u64; 2], u32>;
    safe static RULES: LpmTrie<u64, ServiceEntry>;
    safe static QUIC_CONFIGS: HashMap<ConfigKey, Config>;
    safe static SERVER_IDS: HashMap<ServerIdKey, u32>;
    safe static CONNECTIONS: HashMap<Tuple, Connection>;
    safe static REPLIES: HashMap<Tuple, Reply>;
    safe static SOURCES: Array<Sources>;
    safe static TRANSLATES: Array<u32>;
    safe static COOKIE_KEY: Array<Key>;
    safe static FLOODS: Array<Flood>;
    safe static FRAGMENTS: HashMap<FragmentKey, FragmentRecord>;

    safe static SEED: Global<u64>;
    safe static JIFFY: Global<u64>;
    safe static SERVICE_PLACES: Global<u32>;
    safe static BACKEND_COUNT: Global<u32>;
    safe static BACKENDS_AT: Global<u32>;
    safe static SLOT_COUNT: Global<u32>;
    safe static SLOTS_AT: Global<u32>;
    safe static FLOW_BUCKETS: Global<u32>;
    safe static FLOWS_AT: Global<u32>;
    safe static FILTER_WORDS: Global<u32>;
    safe static FILTER_AT: Global<u32>;
    safe static FILTER_WORDS_AT: Global<u32>;
    safe static POLICY_COUNT: Global<u32>;
    safe static BOUNDARY_COUNT: Global<u32>;
    safe static BOUNDARIES_AT: Global<u32>;
    safe static INDEX_COUNT: Global<u32>;
    safe static INDEX_AT: Global<u32>;

    safe fn xdp_meshlb(context: XdpContext) -> u32;
    safe fn xdp_whole(context: XdpContext) -> u32;
    safe fn xdp_quic(context: XdpContext) -> u32;
    safe fn xdp_choose(context: XdpContext) -> u32;
    safe fn xdp_nat(context: XdpContext) -> u32;
    safe fn xdp_connect(context: XdpContext) -> u32;
    safe fn xdp_reply(context: XdpContext) -> u32;
    safe fn xdp_translate(context: XdpContext) -> u32;
    safe fn xdp_cookie(context: XdpContext) -> u32;
    safe fn xdp_splice(context: XdpContext) -> u32;
    safe fn xdp_deliver(context: XdpContext) -> u32;
    safe fn xdp_reject(context: XdpContext) -> u32;
}

/// The attached program, and behind it those of `abi::programs`, none of which is next.
const PROGRAMS: [Program; 13] = [
    xdp_meshlb,
    xdp_whole,
    no_next,
    xdp_quic,
    xdp_choose,
    xdp_deliver,
    xdp_reject,
    xdp_nat,
    xdp_connect,
    xdp_reply,
    xdp_translate,
    xdp_cookie,
    xdp_splice,
];

fn no_next(_context: XdpContext) -> u32 {
    unreachable!("there is no next program")
}

/// The programs on the host. There is one at a time: their maps are the process's.
pub(crate) struct Twin {
    memory: Memory,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

/// What programs leave behind that does not depend on when exactly they ran.
#[derive(PartialEq, Eq)]
pub(crate) struct State(Vec<(&'static str, Vec<u64>)>);

impl State {
    /// Where two states differ: in which map, at which word.
    pub(crate) fn difference(&self, other: &Self) -> Option<(&'static str, usize)> {
        self.0.iter().zip(&other.0).find_map(|((map, one), (_, other))| {
            let at = one.iter().zip(other).position(|(one, other)| one != other);
            at.or((one.len() != other.len()).then_some(usize::MAX)).map(|at| (*map, at))
        })
    }
}

impl Twin {
    /// The twin of labs, which all have one size.
    pub(crate) fn new() -> Self {
        // Who held it and panicked leaves nothing behind that is not written anew.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (layout, policies) = (SIZES.layout(), SIZES.policies());
        let at = |at: u64| u32::try_from(at).unwrap();
        SEED.store(LAB_SEED);
        // So that a tick is a jiffy.
        JIFFY.store(1 << 30);
        SERVICE_PLACES.store(layout.places);
        BACKEND_COUNT.store(layout.backends);
        BACKENDS_AT.store(at(layout.backends_at()));
        SLOT_COUNT.store(layout.slots);
        SLOTS_AT.store(at(layout.slots_at()));
        FLOW_BUCKETS.store(layout.buckets);
        FLOWS_AT.store(at(layout.flows_at()));
        FILTER_WORDS.store(layout.filter);
        FILTER_AT.store(at(layout.filter_at()));
        FILTER_WORDS_AT.store(at(layout.filter_words_at()));
        POLICY_COUNT.store(policies.policies * 2);
        BOUNDARY_COUNT.store(policies.boundaries * 2);
        BOUNDARIES_AT.store(at(policies.boundaries_at()));
        INDEX_COUNT.store(policies.index * 2);
        INDEX_AT.store(at(policies.index_at()));
        ANSWERS.lay_out(vec![0; 2]);
        JOURNEY.lay_out(vec![0; size_of::<Journey>() / 8]);
        Self { memory: Memory::new(INGRESS).unwrap(), _alone: alone }
    }

    /// Has it hash flows otherwise than labs do.
    pub(crate) fn disagree(&self) {
        SEED.store(!LAB_SEED);
    }

    /// Takes over all that a lab's maps hold, as the processor with this number has it.
    pub(crate) fn copy(&self, lab: &Lab, cpu: usize) {
        TABLES.lay_out(mapped(lab, "TABLES"));
        CLIENTS.lay_out(mapped(lab, "CLIENTS"));
        LOADS.lay_out(mapped(lab, "LOADS"));
        POLICIES.lay_out(mapped(lab, "POLICIES"));
        let wide: KernelArray<_, u32> = KernelArray::try_from(Map::Array(pinned(lab, "WIDE"))).unwrap();
        WIDE.lay_out(vec![wide.get(&0, 0).unwrap().into()]);
        let map = Map::Array(pinned(lab, "TRANSLATES"));
        let translates: KernelArray<_, u32> = KernelArray::try_from(map).unwrap();
        TRANSLATES.lay_out(vec![translates.get(&0, 0).unwrap().into()]);
        let map = Map::Array(pinned(lab, "SOURCES"));
        let sources: KernelArray<_, [u64; size_of::<Sources>() / 8]> = KernelArray::try_from(map).unwrap();
        SOURCES.lay_out(sources.iter().flat_map(Result::unwrap).collect());
        let map = Map::Array(pinned(lab, "COOKIE_KEY"));
        let keys: KernelArray<_, [u64; 2]> = KernelArray::try_from(map).unwrap();
        COOKIE_KEY.lay_out(keys.get(&0, 0).unwrap().to_vec());
        FLOODS.lay_out(mapped(lab, "FLOODS"));
        let connections = hash::<[u64; 5], [u64; size_of::<Connection>() / 8]>(lab, "CONNECTIONS");
        CONNECTIONS.replace(connections.into_iter().map(|(tuple, known)| (cast(tuple), cast(known))));
        let replies = hash::<[u64; 5], [u64; size_of::<Reply>() / 8]>(lab, "REPLIES");
        REPLIES.replace(replies.into_iter().map(|(tuple, known)| (cast(tuple), cast(known))));
        TURNS.lay_out(per_cpu::<1>(lab, "TURNS", cpu));
        OUTCOMES.lay_out(per_cpu::<1>(lab, "OUTCOMES", cpu));
        QUIC_PACKETS.lay_out(per_cpu::<1>(lab, "QUIC_PACKETS", cpu));
        BACKEND_COUNTERS.lay_out(per_cpu::<8>(lab, "BACKEND_COUNTERS", cpu));
        VIPS.replace(trie::<[u64; 2], u32>(lab, "VIPS"));
        GROUPS.replace(trie::<[u64; 2], u32>(lab, "GROUPS"));
        RULES.replace(trie::<u64, [u64; 8]>(lab, "RULES").into_iter().map(|(key, entry)| (key, cast(entry))));
        let configs = hash::<[u32; 2], [u8; size_of::<Config>()]>(lab, "QUIC_CONFIGS");
        QUIC_CONFIGS.replace(configs.into_iter().map(|(key, config)| (cast(key), cast(config))));
        let servers = hash::<[u8; size_of::<ServerIdKey>()], u32>(lab, "SERVER_IDS");
        SERVER_IDS.replace(servers.into_iter().map(|(key, backend)| (cast(key), backend)));
        let fragments = KernelHash::try_from(Map::LruHashMap(pinned(lab, "FRAGMENTS"))).unwrap();
        let fragments: Vec<([u64; 5], [u64; 4])> = fragments.iter().map(Result::unwrap).collect();
        FRAGMENTS.replace(fragments.into_iter().map(|(key, record)| (FragmentKey(key), cast(record))));
    }

    /// Runs a packet at a time.
    pub(crate) fn run(&mut self, packet: &[u8], now: Ticks) -> (u32, Vec<u8>) {
        set_jiffies(now.into());
        self.memory.run(&PROGRAMS, packet)
    }

    /// How many journeys ended how.
    pub(crate) fn outcomes(&self) -> Vec<(Outcome, u64)> {
        Outcome::ALL.iter().copied().zip(OUTCOMES.words()).collect()
    }

    /// What its programs left behind.
    pub(crate) fn state(&self) -> State {
        let maps = [
            ("TABLES", TABLES.words()),
            ("CLIENTS", CLIENTS.words()),
            ("LOADS", LOADS.words()),
            ("TURNS", TURNS.words()),
            ("FLOODS", FLOODS.words()),
            ("BACKEND_COUNTERS", BACKEND_COUNTERS.words()),
            ("QUIC_PACKETS", QUIC_PACKETS.words()),
            ("OUTCOMES", OUTCOMES.words()),
        ];
        State(maps.into())
    }
}

/// What the loaded programs left behind, on the processor with this number.
pub(crate) fn state(lab: &Lab, cpu: usize) -> State {
    State(vec![
        ("TABLES", mapped(lab, "TABLES")),
        ("CLIENTS", mapped(lab, "CLIENTS")),
        ("LOADS", mapped(lab, "LOADS")),
        ("TURNS", per_cpu::<1>(lab, "TURNS", cpu)),
        ("FLOODS", mapped(lab, "FLOODS")),
        ("BACKEND_COUNTERS", per_cpu::<8>(lab, "BACKEND_COUNTERS", cpu)),
        ("QUIC_PACKETS", per_cpu::<1>(lab, "QUIC_PACKETS", cpu)),
        ("OUTCOMES", per_cpu::<1>(lab, "OUTCOMES", cpu)),
    ])
}

/// Has the loaded programs forget all fragments: which of them they would forget by themselves is the kernel's affair.
pub(crate) fn forget_fragments(lab: &Lab) {
    let map = Map::LruHashMap(pinned(lab, "FRAGMENTS"));
    let mut fragments: KernelHash<_, [u64; 5], [u64; 4]> = KernelHash::try_from(map).unwrap();
    let keys: Vec<_> = fragments.keys().map(Result::unwrap).collect();
    keys.iter().for_each(|key| fragments.remove(key).unwrap());
}

fn pinned(lab: &Lab, name: &str) -> MapData {
    MapData::from_pin(lab.pins().map(name)).unwrap()
}

/// The words of an array that can be mapped.
fn mapped(lab: &Lab, name: &str) -> Vec<u64> {
    let map = pinned(lab, name);
    let info = map.info().unwrap();
    let stride = u64::from(info.value_size().div_ceil(8)) * 8;
    let bytes = usize::try_from(stride * u64::from(info.max_entries())).unwrap();
    let memory = MmapOptions::new().len(bytes).map_raw_read_only(map.fd().as_fd().as_raw_fd()).unwrap();
    // SAFETY: the mapping has so many bytes, begins at a page, and nobody writes meanwhile.
    unsafe { std::slice::from_raw_parts(memory.as_ptr().cast::<u64>(), bytes / 8) }.to_vec()
}

/// The words of an array that each processor has, as one has it.
fn per_cpu<const N: usize>(lab: &Lab, name: &str, cpu: usize) -> Vec<u64>
where
    [u64; N]: Pod,
{
    let map: PerCpuArray<_, [u64; N]> = PerCpuArray::try_from(Map::PerCpuArray(pinned(lab, name))).unwrap();
    (0..map.len()).flat_map(|index| map.get(&index, 0).unwrap()[cpu]).collect()
}

fn trie<K: Pod, V: Pod>(lab: &Lab, name: &str) -> Vec<((u32, K), V)> {
    let map: KernelTrie<_, K, V> = KernelTrie::try_from(Map::LpmTrie(pinned(lab, name))).unwrap();
    map.iter().map(Result::unwrap).map(|(key, value)| ((key.prefix_len(), key.data()), value)).collect()
}

fn hash<K: Pod, V: Pod>(lab: &Lab, name: &str) -> Vec<(K, V)> {
    let map: KernelHash<_, K, V> = KernelHash::try_from(Map::HashMap(pinned(lab, name))).unwrap();
    map.iter().map(Result::unwrap).collect()
}

/// The same bytes as a type of the maps.
fn cast<A: Copy, B: Copy>(bytes: A) -> B {
    assert_eq!(size_of::<A>(), size_of::<B>());
    // SAFETY: both are integers, and equally large.
    unsafe { transmute_copy(&bytes) }
}
