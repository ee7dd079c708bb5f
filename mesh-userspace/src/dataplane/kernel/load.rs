//! Loading the program, with new maps or with those that an earlier agent left.

use super::{
    Kernel, PROGRAM, Plain,
    flows::{self, FlowTable},
    mapped::Mapped,
    pins::{PinError, Pins},
    services::{self, ServiceTable},
    wide::{self, WideMaps},
};
use crate::config::Limits;
use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, Map, MapData, MapError, MapInfo, MapType, PerCpuArray, lpm_trie::LpmTrie},
    programs::{ProgramError, Xdp},
};
use mesh_common::{
    abi::{ABI_VERSION, Meta},
    outcome::Outcome,
};
use std::time::{Duration, Instant};

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
}

/// Facts about a loaded program.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Instructions that the verifier walked through (kernel 5.16).
    pub verified_instructions: Option<u32>,
    /// How long the kernel took to verify and compile it.
    pub took: Duration,
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
    /// The object lacks something: it is of another build.
    #[error("the embedded object has no {what} {name}")]
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
        "map {map} is pinned with {found} entries, the limits ask for {wanted}; \
         restore the limits, or run meshlb detach first (flows are lost)"
    )]
    Size {
        /// The map.
        map: &'static str,
        /// What was found.
        found: u32,
        /// What the configuration asks for.
        wanted: u32,
    },
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
    /// No randomness for a seed.
    #[error("could not draw a seed: {0}")]
    Random(getrandom::Error),
}

impl From<Limits> for Sizes {
    fn from(limits: Limits) -> Self {
        let Limits { services, backends, slots, rules, flows } = limits;
        Self { services, backends, slots, rules, flows }
    }
}

impl Sizes {
    /// The entries of each map.
    pub(super) fn entries(&self) -> [(&'static str, u32); 10] {
        let backends = self.backends.saturating_add(1);
        [
            ("SERVICES", services::places(self.services)),
            ("SLOTS", self.slots),
            ("BACKENDS", backends),
            ("BACKEND_COUNTERS", backends),
            ("FLOWS", flows::buckets(self.flows)),
            ("CLIENTS", flows::buckets(self.flows)),
            ("VIPS", wide::vips(self.services)),
            ("RULES", wide::rules(self.rules)),
            ("WIDE", 1),
            ("OUTCOMES", Outcome::COUNT),
        ]
    }
}

/// Every map of the program; all are pinned.
const MAPS: [&str; 11] = [
    "META",
    "SERVICES",
    "SLOTS",
    "BACKENDS",
    "BACKEND_COUNTERS",
    "OUTCOMES",
    "FLOWS",
    "CLIENTS",
    "VIPS",
    "RULES",
    "WIDE",
];

impl Kernel {
    /// Loads the program, adopting the maps that are pinned or making and pinning new ones.
    ///
    /// # Errors
    ///
    /// The kernel refuses, or the pins belong to something else.
    pub fn load(pins: Pins, sizes: Sizes, seed: Option<u64>) -> Result<Self, LoadError> {
        let known = adoptable(&pins, sizes)?;
        let seed = choose_seed(known, seed)?;
        let mut ebpf = open(&pins, sizes, seed)?;
        let started = Instant::now();
        let xdp = program(&mut ebpf, PROGRAM)?;
        xdp.load().map_err(refused)?;
        let took = started.elapsed();
        let verified_instructions = xdp.info().map_err(refused)?.verified_instruction_count();
        let loaded = Loaded { verified_instructions, took, seed, adopted: known.is_some() };
        write_meta(&mut ebpf, seed)?;
        Self::assemble(ebpf, pins, sizes, loaded)
    }

    fn assemble(mut ebpf: Ebpf, pins: Pins, sizes: Sizes, loaded: Loaded) -> Result<Self, LoadError> {
        let services = mapped(&mut ebpf, "SERVICES", services::places(sizes.services))?;
        let slots = mapped(&mut ebpf, "SLOTS", sizes.slots)?;
        let backends = mapped(&mut ebpf, "BACKENDS", sizes.backends.saturating_add(1))?;
        let counters = typed(&mut ebpf, "BACKEND_COUNTERS", PerCpuArray::try_from)?;
        let outcomes = typed(&mut ebpf, "OUTCOMES", PerCpuArray::try_from)?;
        let buckets = flows::buckets(sizes.flows);
        let flows =
            FlowTable::new(mapped(&mut ebpf, "FLOWS", buckets)?, mapped(&mut ebpf, "CLIENTS", buckets)?);
        let wide = WideMaps {
            vips: typed(&mut ebpf, "VIPS", LpmTrie::try_from)?,
            rules: typed(&mut ebpf, "RULES", LpmTrie::try_from)?,
            wide: typed(&mut ebpf, "WIDE", Array::try_from)?,
        };
        let services = ServiceTable::new(services);
        Ok(Self { ebpf, pins, loaded, services, slots, backends, counters, outcomes, flows, wide })
    }
}

fn open(pins: &Pins, sizes: Sizes, seed: u64) -> Result<Ebpf, LoadError> {
    let (places, buckets) = (services::places(sizes.services), flows::buckets(sizes.flows));
    let mut loader = EbpfLoader::new();
    loader.override_global("SEED", &seed, true).override_global("SERVICE_PLACES", &places, true);
    loader.override_global("FLOW_BUCKETS", &buckets, true);
    for (map, entries) in sizes.entries() {
        loader.map_max_entries(map, entries);
    }
    for map in MAPS {
        loader.map_pin_path(map, pins.map(map));
    }
    Ok(loader.load(OBJECT)?)
}

/// The `META` of pinned maps, after checking that they are what this agent would have made. Pins that were never
/// finished are removed.
fn adoptable(pins: &Pins, sizes: Sizes) -> Result<Option<Meta>, LoadError> {
    if !pins.map("META").exists() {
        pins.remove_maps()?;
        return Ok(None);
    }
    check_shape(pins, "META", 1)?;
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
    for (map, wanted) in sizes.entries() {
        check_shape(pins, map, wanted)?;
    }
    Ok(Some(meta))
}

/// The flag of arrays that are mapped into the agent's memory.
pub(super) const MAPPED: u32 = 1 << 10;

/// What a pinned map must be: type, bytes of a key, bytes of a value, flags.
pub(super) fn shape(map: &str) -> (MapType, u32, u32, u32) {
    const ON_DEMAND: u32 = 1;
    match map {
        "SERVICES" | "BACKENDS" | "FLOWS" => (MapType::Array, 4, 64, MAPPED),
        "SLOTS" => (MapType::Array, 4, 8, MAPPED),
        "BACKEND_COUNTERS" => (MapType::PerCpuArray, 4, 24, 0),
        "OUTCOMES" => (MapType::PerCpuArray, 4, 8, 0),
        "CLIENTS" => (MapType::Array, 4, 128, MAPPED),
        "VIPS" => (MapType::LpmTrie, 20, 4, ON_DEMAND),
        "RULES" => (MapType::LpmTrie, 12, 64, ON_DEMAND),
        "WIDE" => (MapType::Array, 4, 4, 0),
        _ => (MapType::Array, 4, 16, 0),
    }
}

fn check_shape(pins: &Pins, map: &'static str, wanted: u32) -> Result<(), LoadError> {
    let info = MapInfo::from_pin(pins.map(map)).map_err(|source| map_error(map, source))?;
    let kind = info.map_type().map_err(|source| map_error(map, source))?;
    if (kind, info.key_size(), info.value_size(), info.map_flags()) != shape(map) {
        return Err(LoadError::Shape { map });
    }
    match info.max_entries() {
        found if found == wanted => Ok(()),
        found => Err(LoadError::Size { map, found, wanted }),
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

fn write_meta(ebpf: &mut Ebpf, seed: u64) -> Result<(), LoadError> {
    let mut meta: Array<_, Plain<Meta>> = typed(ebpf, "META", Array::try_from)?;
    let value = Plain(Meta { abi: ABI_VERSION, reserved: 0, seed });
    meta.set(0, value, 0).map_err(|source| map_error("META", source))
}

pub(super) fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, LoadError> {
    let missing = || LoadError::Missing { what: "program", name: name.to_owned() };
    ebpf.program_mut(name).ok_or_else(missing)?.try_into().map_err(refused)
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, LoadError> {
    ebpf.take_map(name).ok_or_else(|| LoadError::Missing { what: "map", name: name.to_owned() })
}

fn typed<T>(
    ebpf: &mut Ebpf,
    name: &'static str,
    make: impl Fn(Map) -> Result<T, MapError>,
) -> Result<T, LoadError> {
    make(take(ebpf, name)?).map_err(|source| map_error(name, source))
}

fn mapped<T: super::mapped::Words>(
    ebpf: &mut Ebpf,
    name: &'static str,
    size: u32,
) -> Result<Mapped<T>, LoadError> {
    let Map::Array(data) = take(ebpf, name)? else {
        return Err(LoadError::Shape { map: name });
    };
    Mapped::new(name, &data, size).map_err(|source| map_error(name, source))
}

fn map_error(map: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> LoadError {
    LoadError::Map { map, source: Box::new(source) }
}

fn refused(source: ProgramError) -> LoadError {
    LoadError::Program { program: PROGRAM, source: Box::new(source) }
}
