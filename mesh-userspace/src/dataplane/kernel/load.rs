//! Loading the program, with new maps or with those that an earlier agent left.

use super::{
    CLOCK, Kernel, PROGRAM, Plain, Recipe, WAY,
    connections::{self, Connections},
    filter::{self, Filter},
    floods::{FLOODS, Floods},
    flows::{self, FlowTable},
    guards::{GuardMaps, POLICIES},
    mapped::{Mapped, Memory, Words},
    next::{self, Next, NextError},
    pins::{PinError, Pins},
    quic::QuicMaps,
    services::{self, ServiceTable},
    trace, turns,
    vips::Vips,
    wide::{self, WideMaps},
};
use crate::{config::Limits, guard::layout_for, plan::highest_service};
use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{
        Array, HashMap, Map, MapData, MapError, MapInfo, MapType, PerCpuArray, ProgramArray,
        lpm_trie::LpmTrie,
    },
    programs::{ProgramError, Xdp},
};
use mesh_common::{
    abi::{ABI_VERSION, Layout, Meta, PolicyLayout, programs},
    filter::HEAD,
    fragment,
    notes::instance,
    outcome::Outcome,
    quic::{ROTATIONS, Routed},
};
use nix::time::{ClockId, clock_getres};
use std::{
    iter,
    path::PathBuf,
    time::{Duration, Instant},
};

/// The balancer's object, as `cargo xtask build` made it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("MESHLB_BALANCER_OBJECT"));

/// How large the maps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Most services.
    pub services: u32,
    /// Most backends; ids go up to this number.
    pub backends: u32,
    /// Most slots.
    pub slots: u32,
    /// Most rules that wide services are made up of.
    pub rules: u32,
    /// Recorded flows that the table has good room for.
    pub flows: u32,
    /// Most connections of services whose packets are translated.
    pub connections: u32,
    /// Most prefixes of all guards.
    pub prefixes: u32,
}

/// What is settled when the programs are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choices {
    /// The seed of the flow hash; `None`: that of adopted maps, or a new one.
    pub seed: Option<u64>,
    /// Whether echo requests to VIPs are answered.
    pub answer_echo: bool,
    /// The pin of the program that gets what ours pass.
    pub next_program: Option<PathBuf>,
}

/// Facts about a loaded program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedProgram {
    /// Its name.
    pub name: &'static str,
    /// Instructions that the verifier walked through (kernel 5.16).
    pub verified_instructions: Option<u32>,
    /// Bytes of machine code.
    pub machine_code: u32,
    /// How long the kernel took to verify and compile it.
    pub took: Duration,
}

/// Facts about what was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The programs: the one that is attached first.
    pub programs: Vec<LoadedProgram>,
    /// The seed of the flow hash.
    pub seed: u64,
    /// Whether the maps are those of an earlier agent.
    pub adopted: bool,
}

/// Why the dataplane cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The pins cannot be used.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// The kernel refused the object or a map.
    #[error("the kernel refused the program's maps: {0}")]
    Object(#[from] EbpfError),
    /// The kernel refused the program.
    #[error("the kernel refused program {program}: {source}")]
    Program {
        /// The program.
        program: &'static str,
        /// The reason.
        source: Box<ProgramError>,
    },
    /// The object lacks something: it is of another build. Or somebody took a pin away.
    #[error("there is no {what} {name}")]
    Missing {
        /// A map or a program.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A map cannot be used.
    #[error("map {map}: {source}")]
    Map {
        /// The map.
        map: &'static str,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The pins belong to an agent that speaks another ABI.
    #[error(
        "the maps pinned in {path} have ABI {found}, this agent speaks {ABI_VERSION}; run meshlb detach first"
    )]
    Abi {
        /// The directory.
        path: String,
        /// What was found.
        found: u32,
    },
    /// A pinned map has another size.
    #[error(
        "the pinned map {map} has room for {found} {what}, the limits ask for {wanted}; \
         restore the limits, or run meshlb detach first (flows are lost)"
    )]
    Size {
        /// The map.
        map: &'static str,
        /// What it has room for.
        what: &'static str,
        /// What was found.
        found: u64,
        /// What the configuration asks for.
        wanted: u64,
    },
    /// The tables would be larger than the verifier follows offsets.
    #[error(
        "services, backends, flows and slots of these limits take {bytes} bytes, the kernel's verifier allows {}; \
         lower limits.slots or limits.flows",
        Layout::LARGEST
    )]
    TooLarge {
        /// What the limits ask for.
        bytes: u64,
    },
    /// The policies would be larger than the verifier follows offsets.
    #[error("so many prefixes take more than the kernel's verifier allows; lower limits.prefixes")]
    TooManyPrefixes,
    /// A pinned map is not ours.
    #[error("what is pinned as map {map} is of another type; run meshlb detach first")]
    Shape {
        /// The map.
        map: &'static str,
    },
    /// The seed differs from the one that flows were hashed with.
    #[error(
        "agent.seed differs from the seed that the pinned maps were filled with; run meshlb detach first"
    )]
    Seed,
    /// The kernel does not say how long a jiffy is.
    #[error("could not read the resolution of CLOCK_MONOTONIC_COARSE: {0}")]
    Clock(nix::Error),
    /// The next program cannot be used.
    #[error("agent.next_program: {0}")]
    Next(#[from] NextError),
    /// No randomness for a seed.
    #[error("could not draw a seed: {0}")]
    Random(getrandom::Error),
}

impl From<Limits> for Sizes {
    fn from(limits: Limits) -> Self {
        let Limits { services, backends, slots, rules, flows, connections, prefixes } = limits;
        Self { services, backends, slots, rules, flows, connections, prefixes }
    }
}

impl Sizes {
    /// The entries of each map.
    pub(super) fn entries(&self) -> [(&'static str, &'static str, u32); 21] {
        let rotations = u32::from(ROTATIONS);
        [
            ("BACKEND_COUNTERS", "backends", self.layout().backends),
            ("CLIENTS", "buckets of flows", self.layout().buckets),
            ("OUTCOMES", "outcomes", Outcome::COUNT),
            ("PROGRAMS", "programs", programs::COUNT),
            ("JOURNEY", "elements", 1),
            (VIPS, "VIPs", self.services),
            ("FRAGMENTS", "packets in fragments", fragment::PACKETS),
            ("GROUPS", "prefixes", wide::groups(self.services)),
            ("RULES", "rules", wide::rules(self.rules)),
            ("WIDE", "elements", 1),
            (LOADS, "loads of backends and services", self.loads()),
            ("TURNS", "turns of services", self.service_ids()),
            (QuicMaps::CONFIGS, "QUIC configurations", self.services.saturating_mul(rotations)),
            (QuicMaps::SERVER_IDS, "server ids", self.backends.saturating_mul(rotations)),
            (QuicMaps::PACKETS, "counters", Routed::COUNTERS),
            (connections::CONNECTIONS, "connections", self.connections),
            (connections::REPLIES, "connections", self.connections),
            (connections::SOURCES, "services", self.service_ids()),
            (connections::TRANSLATES, "elements", 1),
            (connections::COOKIE_KEY, "elements", 1),
            (FLOODS, "services", self.service_ids()),
        ]
    }

    /// Ids of services, and 0.
    fn service_ids(&self) -> u32 {
        highest_service(self.services).saturating_add(1)
    }

    /// Elements of the loads: one for each id of a backend, then one for each of a service.
    fn loads(&self) -> u32 {
        self.layout().backends.saturating_add(self.service_ids())
    }

    /// How the policies are divided.
    #[must_use]
    pub fn policies(&self) -> PolicyLayout {
        layout_for(self.prefixes, self.service_ids())
    }

    /// How the tables are divided.
    #[must_use]
    pub fn layout(&self) -> Layout {
        Layout {
            places: services::places(self.services),
            backends: self.backends.saturating_add(1),
            buckets: flows::buckets(self.flows),
            filter: filter::words(self.flows),
            slots: self.slots,
        }
    }
}

/// The map that holds services, backends, flows and slots.
pub(super) const TABLES: &str = "TABLES";

/// The map of VIPs.
pub(super) const VIPS: &str = "VIPS";

/// The map that counts flows.
pub(super) const LOADS: &str = "LOADS";

/// The maps that outlive the agent; all are pinned.
const MAPS: [&str; 24] = [
    "META",
    TABLES,
    POLICIES,
    VIPS,
    "FRAGMENTS",
    "BACKEND_COUNTERS",
    "OUTCOMES",
    "CLIENTS",
    "PROGRAMS",
    "JOURNEY",
    "GROUPS",
    "RULES",
    "WIDE",
    LOADS,
    "TURNS",
    QuicMaps::CONFIGS,
    QuicMaps::SERVER_IDS,
    QuicMaps::PACKETS,
    connections::CONNECTIONS,
    connections::REPLIES,
    connections::SOURCES,
    connections::TRANSLATES,
    connections::COOKIE_KEY,
    FLOODS,
];

/// What an instance that is not attached has for itself: where its programs are, and what they know of their packet.
const OWN: [&str; 3] = ["META", "PROGRAMS", "JOURNEY"];

/// The maps that an instance shares with the one that is attached. They must be there.
pub(super) fn shared(pins: &Pins) -> Result<Vec<&'static str>, LoadError> {
    let maps: Vec<_> = MAPS.into_iter().filter(|map| !OWN.contains(map)).collect();
    match maps.iter().find(|map| !pins.map(map).exists()) {
        Some(map) => Err(LoadError::Missing { what: "pin of map", name: (*map).to_owned() }),
        None => Ok(maps),
    }
}

/// `BPF_F_MMAPABLE` and `BPF_F_NO_PREALLOC`.
pub(super) const MAPPED: u32 = 1 << 10;
const GROWING: u32 = 1;

impl Kernel {
    /// Loads the program, adopting the maps that are pinned or making and pinning new ones.
    ///
    /// # Errors
    ///
    /// The kernel refuses, or the pins belong to something else.
    pub fn load(pins: Pins, sizes: Sizes, choices: &Choices) -> Result<Self, LoadError> {
        let next = choices.next_program.as_deref().map(Next::open).transpose()?;
        let known = adoptable(&pins, sizes)?;
        let seed = choose_seed(known, choices.seed)?;
        let bytes = sizes.layout().bytes();
        make_map(&pins, TABLES, bytes, LoadError::TooLarge { bytes })?;
        make_map(&pins, POLICIES, sizes.policies().bytes(), LoadError::TooManyPrefixes)?;
        let recipe = Recipe { pins, sizes, choices: choices.clone(), seed };
        let mut ebpf = open(&recipe, instance::PLAIN, &MAPS)?;
        let programs = load_programs(&mut ebpf)?;
        load_program(&mut ebpf, CLOCK)?;
        let loaded = Loaded { programs, seed, adopted: known.is_some() };
        put_in_place(&mut ebpf, next.as_ref())?;
        write_meta(&mut ebpf, Meta { abi: ABI_VERSION, places: sizes.layout().places, seed })?;
        Self::assemble(ebpf, recipe, loaded)
    }

    fn assemble(mut ebpf: Ebpf, recipe: Recipe, loaded: Loaded) -> Result<Self, LoadError> {
        let sizes = recipe.sizes;
        let layout = sizes.layout();
        let tables = memory(&mut ebpf, TABLES, layout.bytes())?;
        let services = Mapped::new("services", &tables, 0, layout.places);
        let backends = Mapped::new("backends", &tables, layout.backends_at(), layout.backends);
        let slots = Mapped::new("slots", &tables, layout.slots_at(), layout.slots);
        let vips = Vips::new(typed(&mut ebpf, VIPS, LpmTrie::try_from)?);
        let counters = typed(&mut ebpf, "BACKEND_COUNTERS", PerCpuArray::try_from)?;
        let outcomes = typed(&mut ebpf, "OUTCOMES", PerCpuArray::try_from)?;
        let flows = Mapped::new("flows", &tables, layout.flows_at(), layout.buckets);
        let head = Mapped::new("filter's head", &tables, layout.filter_at(), HEAD);
        let words = Mapped::new("filter", &tables, layout.filter_words_at(), layout.filter.saturating_mul(2));
        let clients = mapped(&mut ebpf, "CLIENTS", layout.buckets)?;
        let flows = FlowTable::new(flows, clients, Filter::new(head, words));
        let services = ServiceTable::new(services);
        let quic = QuicMaps::new(
            typed(&mut ebpf, QuicMaps::CONFIGS, HashMap::try_from)?,
            typed(&mut ebpf, QuicMaps::SERVER_IDS, HashMap::try_from)?,
            typed(&mut ebpf, QuicMaps::PACKETS, PerCpuArray::try_from)?,
        );
        let policies = memory(&mut ebpf, POLICIES, sizes.policies().bytes())?;
        let guards = GuardMaps::new(&policies, sizes.policies());
        let connections = Connections::new(
            typed(&mut ebpf, connections::CONNECTIONS, HashMap::try_from)?,
            typed(&mut ebpf, connections::REPLIES, HashMap::try_from)?,
            typed(&mut ebpf, connections::SOURCES, Array::try_from)?,
            typed(&mut ebpf, connections::TRANSLATES, Array::try_from)?,
        );
        make_cookie_key(&mut ebpf)?;
        let floods = Floods::new(mapped(&mut ebpf, FLOODS, sizes.service_ids())?);
        let loads = mapped(&mut ebpf, LOADS, sizes.loads())?;
        let wide = WideMaps {
            groups: typed(&mut ebpf, "GROUPS", LpmTrie::try_from)?,
            rules: typed(&mut ebpf, "RULES", LpmTrie::try_from)?,
            wide: typed(&mut ebpf, "WIDE", Array::try_from)?,
        };
        Ok(Self {
            ebpf,
            recipe,
            loaded,
            services,
            vips,
            slots,
            backends,
            counters,
            outcomes,
            quic,
            flows,
            wide,
            guards,
            connections,
            floods,
            loads,
        })
    }
}

/// Opens the object for an instance that shares these maps with the others.
pub(super) fn open(recipe: &Recipe, instance: u32, shared: &[&str]) -> Result<Ebpf, LoadError> {
    let Recipe { pins, sizes, choices, seed } = recipe;
    let layout = sizes.layout();
    let too_large = |_| LoadError::TooLarge { bytes: layout.bytes() };
    let policies = sizes.policies();
    let globals = [
        ("SERVICE_PLACES", layout.places),
        ("BACKEND_COUNT", layout.backends),
        ("BACKENDS_AT", u32::try_from(layout.backends_at()).map_err(too_large)?),
        ("SLOT_COUNT", layout.slots),
        ("SLOTS_AT", u32::try_from(layout.slots_at()).map_err(too_large)?),
        ("FLOW_BUCKETS", layout.buckets),
        ("FLOWS_AT", u32::try_from(layout.flows_at()).map_err(too_large)?),
        ("FILTER_WORDS", layout.filter),
        ("FILTER_AT", u32::try_from(layout.filter_at()).map_err(too_large)?),
        ("FILTER_WORDS_AT", u32::try_from(layout.filter_words_at()).map_err(too_large)?),
        ("POLICY_COUNT", policies.policies.saturating_mul(2)),
        ("BOUNDARY_COUNT", policies.boundaries.saturating_mul(2)),
        (
            "BOUNDARIES_AT",
            u32::try_from(policies.boundaries_at()).map_err(|_large| LoadError::TooManyPrefixes)?,
        ),
        ("INDEX_COUNT", policies.index.saturating_mul(2)),
        ("INDEX_AT", u32::try_from(policies.index_at()).map_err(|_large| LoadError::TooManyPrefixes)?),
        ("ANSWER_ECHO", choices.answer_echo.into()),
        ("HAS_NEXT", choices.next_program.is_some().into()),
        ("INSTANCE", instance),
    ];
    let jiffy = jiffy()?;
    let mut loader = EbpfLoader::new();
    loader.override_global("SEED", seed, true).override_global("JIFFY", &jiffy, true);
    for (name, value) in &globals {
        loader.override_global(name, value, true);
    }
    for (map, _, entries) in sizes.entries() {
        loader.map_max_entries(map, entries);
    }
    if let Some(bytes) = trace::ring_bytes(instance) {
        loader.map_max_entries("EVENTS", bytes);
    }
    if let Some(bytes) = turns::ring_bytes(instance) {
        loader.map_max_entries(turns::MAPS[0], bytes);
    }
    for map in shared {
        loader.map_pin_path(map, pins.map(map));
    }
    Ok(loader.load(OBJECT)?)
}

/// How long a jiffy is, in nanoseconds: the kernel's coarse clocks go on by one at a time.
fn jiffy() -> Result<u64, LoadError> {
    let jiffy = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_err(LoadError::Clock)?;
    Ok(u64::from(Duration::from(jiffy).subsec_nanos()))
}

/// Makes and pins a map whose only element has a size that the object cannot know.
fn make_map(pins: &Pins, name: &'static str, bytes: u64, too_large: LoadError) -> Result<(), LoadError> {
    let path = pins.map(name);
    if path.exists() {
        return Ok(());
    }
    let Some(bytes) = u32::try_from(bytes).ok().filter(|bytes| u64::from(*bytes) <= Layout::LARGEST) else {
        return Err(too_large);
    };
    let array = aya_obj::Map::new_from_params(MapType::Array as u32, 4, bytes, 1, MAPPED);
    let map = MapData::create(array, name, None).map_err(|source| map_error(name, source))?;
    map.pin(&path).map_err(|source| map_error(name, source))
}

/// The `META` of pinned maps, after checking that they are what this agent would have made. Pins that were never
/// finished are removed.
fn adoptable(pins: &Pins, sizes: Sizes) -> Result<Option<Meta>, LoadError> {
    if !pins.map("META").exists() {
        pins.remove_maps()?;
        return Ok(None);
    }
    check_shape(pins, "META", "elements", 1)?;
    let meta = MapData::from_pin(pins.map("META")).map_err(|source| map_error("META", source))?;
    let meta =
        Array::<_, Plain<Meta>>::try_from(Map::Array(meta)).map_err(|source| map_error("META", source))?;
    let Plain(meta) = meta.get(&0, 0).map_err(|source| map_error("META", source))?;
    match meta.abi {
        ABI_VERSION => {}
        // META is written last: an agent ended while it made the maps.
        0 => {
            pins.remove_maps()?;
            return Ok(None);
        }
        found => return Err(LoadError::Abi { path: pins.map("").display().to_string(), found }),
    }
    for (map, what, wanted) in sizes.entries() {
        check_shape(pins, map, what, wanted)?;
    }
    check_tables(pins, sizes, meta)?;
    Ok(Some(meta))
}

/// Bytes of the only element of a map whose size the object cannot know.
fn bytes_of(pins: &Pins, map: &'static str) -> Result<u64, LoadError> {
    let info = MapInfo::from_pin(pins.map(map)).map_err(|source| map_error(map, source))?;
    let kind = info.map_type().map_err(|source| map_error(map, source))?;
    if (kind, info.key_size(), info.max_entries(), info.map_flags()) != (MapType::Array, 4, 1, MAPPED) {
        return Err(LoadError::Shape { map });
    }
    Ok(info.value_size().into())
}

/// Whether the pinned tables are divided as they would be made; their backends are as many as their counters.
fn check_tables(pins: &Pins, sizes: Sizes, meta: Meta) -> Result<(), LoadError> {
    let layout = sizes.layout();
    let found = Layout { places: meta.places, slots: 0, ..layout };
    let slots = bytes_of(pins, TABLES)?.saturating_sub(found.bytes()) / 8;
    let both = [("places of services", found.places.into(), layout.places), ("slots", slots, layout.slots)];
    for (what, found, wanted) in both {
        let wanted = u64::from(wanted);
        if found != wanted {
            return Err(LoadError::Size { map: TABLES, what, found, wanted });
        }
    }
    let (found, wanted) = (bytes_of(pins, POLICIES)?, sizes.policies().bytes());
    if found != wanted {
        return Err(LoadError::Size { map: POLICIES, what: "bytes of guards' prefixes", found, wanted });
    }
    Ok(())
}

/// What a pinned map must be: type, bytes of a key, bytes of a value, flags.
pub(super) fn shape(map: &str) -> (MapType, u32, u32, u32) {
    match map {
        "BACKEND_COUNTERS" => (MapType::PerCpuArray, 4, 64, 0),
        "PROGRAMS" => (MapType::ProgramArray, 4, 4, 0),
        "JOURNEY" => (MapType::PerCpuArray, 4, 272, 0),
        "OUTCOMES" | "TURNS" | QuicMaps::PACKETS => (MapType::PerCpuArray, 4, 8, 0),
        "CLIENTS" => (MapType::Array, 4, 224, MAPPED),
        QuicMaps::CONFIGS => (MapType::Hash, 8, 184, GROWING),
        QuicMaps::SERVER_IDS => (MapType::Hash, 24, 4, GROWING),
        LOADS => (MapType::Array, 4, 8, MAPPED),
        "RULES" => (MapType::LpmTrie, 12, 64, GROWING),
        "WIDE" | connections::TRANSLATES => (MapType::Array, 4, 4, 0),
        connections::CONNECTIONS => (MapType::Hash, 40, 104, GROWING),
        connections::REPLIES => (MapType::Hash, 40, 96, GROWING),
        connections::SOURCES => (MapType::Array, 4, 272, 0),
        FLOODS => (MapType::Array, 4, 24, MAPPED),
        "FRAGMENTS" => (MapType::LruHash, 40, 32, 0),
        "GROUPS" | VIPS => (MapType::LpmTrie, 20, 4, GROWING),
        _ => (MapType::Array, 4, 16, 0),
    }
}

fn check_shape(pins: &Pins, map: &'static str, what: &'static str, wanted: u32) -> Result<(), LoadError> {
    let info = MapInfo::from_pin(pins.map(map)).map_err(|source| map_error(map, source))?;
    let kind = info.map_type().map_err(|source| map_error(map, source))?;
    if (kind, info.key_size(), info.value_size(), info.map_flags()) != shape(map) {
        return Err(LoadError::Shape { map });
    }
    match info.max_entries() {
        found if found == wanted => Ok(()),
        found => Err(LoadError::Size { map, what, found: found.into(), wanted: wanted.into() }),
    }
}

/// The seed of pinned maps, which the configuration may not contradict; else the configured one; else a new one.
fn choose_seed(known: Option<Meta>, configured: Option<u64>) -> Result<u64, LoadError> {
    match (known, configured) {
        (Some(meta), Some(seed)) if seed != meta.seed => Err(LoadError::Seed),
        (Some(meta), _) => Ok(meta.seed),
        (None, Some(seed)) => Ok(seed),
        (None, None) => getrandom::u64().map_err(LoadError::Random),
    }
}

/// What cookies are baked with, unless an agent before has made it.
fn make_cookie_key(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    let name = connections::COOKIE_KEY;
    let mut map: Array<_, [u64; 2]> = typed(ebpf, name, Array::try_from)?;
    if map.get(&0, 0).map_err(|source| map_error(name, source))? == [0; 2] {
        let word = || getrandom::u64().map_err(LoadError::Random);
        map.set(0, [word()?, word()?], 0).map_err(|source| map_error(name, source))?;
    }
    Ok(())
}

/// Loads all programs of the way.
pub(super) fn load_programs(ebpf: &mut Ebpf) -> Result<Vec<LoadedProgram>, LoadError> {
    let names = iter::once(PROGRAM).chain(WAY.map(|(name, _)| name));
    names.map(|name| load_program(ebpf, name)).collect()
}

fn load_program(ebpf: &mut Ebpf, name: &'static str) -> Result<LoadedProgram, LoadError> {
    let started = Instant::now();
    let xdp = program(ebpf, name)?;
    xdp.load().map_err(|source| refused(name, source))?;
    let took = started.elapsed();
    let info = xdp.info().map_err(|source| refused(name, source))?;
    let (verified_instructions, machine_code) = (info.verified_instruction_count(), info.size_jitted());
    Ok(LoadedProgram { name, verified_instructions, machine_code, took })
}

/// Puts the programs where they call each other, from the last to the first, and the next program where they call that.
/// They stay there as long as the map is pinned, or what is answered is kept.
pub(super) fn put_in_place(ebpf: &mut Ebpf, next: Option<&Next>) -> Result<ProgramArray<MapData>, LoadError> {
    let mut places: ProgramArray<_> = typed(ebpf, "PROGRAMS", ProgramArray::try_from)?;
    next::put_in_place(&mut places, next)?;
    for (name, place) in WAY.into_iter().rev() {
        let fd = program(ebpf, name)?.fd().map_err(|source| refused(name, source))?;
        places.set(place, fd, 0).map_err(|source| map_error("PROGRAMS", source))?;
    }
    Ok(places)
}

fn write_meta(ebpf: &mut Ebpf, value: Meta) -> Result<(), LoadError> {
    let mut meta: Array<_, Plain<Meta>> = typed(ebpf, "META", Array::try_from)?;
    meta.set(0, Plain(value), 0).map_err(|source| map_error("META", source))
}

pub(super) fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, LoadError> {
    let missing = || LoadError::Missing { what: "program", name: name.to_owned() };
    ebpf.program_mut(name).ok_or_else(missing)?.try_into().map_err(|source| refused(name, source))
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, LoadError> {
    ebpf.take_map(name).ok_or_else(|| LoadError::Missing { what: "map", name: name.to_owned() })
}

pub(super) fn typed<T>(
    ebpf: &mut Ebpf,
    name: &'static str,
    make: impl Fn(Map) -> Result<T, MapError>,
) -> Result<T, LoadError> {
    make(take(ebpf, name)?).map_err(|source| map_error(name, source))
}

/// The memory of an array's elements.
fn memory(ebpf: &mut Ebpf, name: &'static str, bytes: u64) -> Result<Memory, LoadError> {
    let Map::Array(data) = take(ebpf, name)? else {
        return Err(LoadError::Shape { map: name });
    };
    Memory::new(&data, bytes).map_err(|source| map_error(name, source))
}

fn mapped<T: Words>(ebpf: &mut Ebpf, name: &'static str, size: u32) -> Result<Mapped<T>, LoadError> {
    let memory = memory(ebpf, name, u64::from(size) * size_of::<T>() as u64)?;
    Ok(Mapped::new(name, &memory, 0, size))
}

pub(super) fn map_error(
    map: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> LoadError {
    LoadError::Map { map, source: Box::new(source) }
}

fn refused(program: &'static str, source: ProgramError) -> LoadError {
    LoadError::Program { program, source: Box::new(source) }
}
