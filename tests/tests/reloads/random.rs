//! Hundreds of random configurations, reloaded as fast as the agent answers: no connection of a backend that stays as it
//! is ends, and no request goes unanswered.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mesh_tests::scene::{PORT, Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_tests::{Client, Download, Downloads, Requests};
use mesh_userspace::api;
use mesh_userspace::api::types::{ServiceView, Status};

use super::{SOON, VIP};

/// Reloads, unless `MESHLB_RELOADS` says otherwise.
const RELOADS: usize = 500;

/// Backends that every configuration has with the same weight, and whose servers are always well.
const UNTOUCHED: usize = 3;

/// Those that come and go.
const TOUCHED: usize = 4;

/// Connections that there are before the first reload, and those that begin with every round of them.
const FIRST: usize = 100;
const MORE: usize = 10;
const ROUND: usize = 50;

/// Longer than all reloads take; a connection that a test does not wait for is aborted.
const LASTING: Duration = Duration::from_secs(600);

/// Random numbers that come again with their seed (SplitMix64, Steele et al. 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 1).unwrap() % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// What the next configuration says.
struct Wanted {
    /// Weights of touched backends that are configured.
    weights: BTreeMap<usize, u16>,
    window: &'static str,
    tracking: &'static str,
    health: &'static str,
    /// Other services by their ports: what they are besides, and how many backends they have.
    others: BTreeMap<u16, (&'static str, usize)>,
    /// How often a server became ill.
    illnesses: usize,
}

const WINDOWS: [&str; 4] = ["2s", "10s", "1min", "30min"];
const WEIGHTS: [u16; 5] = [0, 1, 50, 100, 400];
const HEALTH: [&str; 4] = [
    "kind = \"http\", path = \"/healthz\", interval = \"200ms\", timeout = \"200ms\"",
    "kind = \"http\", path = \"/healthz\", interval = \"300ms\", timeout = \"300ms\", rise = 1, fall = 1",
    "kind = \"tcp\", interval = \"200ms\", timeout = \"200ms\"",
    "kind = \"http\", path = \"/healthz\", interval = \"200ms\", timeout = \"200ms\", panic_threshold = 50",
];
const OTHERS: [&str; 4] =
    ["tracking = \"never\"", "scheduler = \"source\"", "scheduler = \"random\"", "table_size = 4093"];

impl Wanted {
    fn new() -> Self {
        Self {
            weights: (UNTOUCHED..UNTOUCHED + TOUCHED).map(|number| (number, 100)).collect(),
            window: WINDOWS[3],
            tracking: "adaptive",
            health: HEALTH[0],
            others: BTreeMap::new(),
            illnesses: 0,
        }
    }

    /// Changes one thing, in words.
    fn change(&mut self, random: &mut Random, scene: &Scene) -> String {
        let number = UNTOUCHED + random.below(TOUCHED);
        match random.below(10) {
            0..=2 if self.weights.remove(&number).is_some() => format!("removed backend {number}"),
            0..=4 => {
                let weight = random.pick(&WEIGHTS);
                self.weights.insert(number, weight);
                format!("backend {number} has weight {weight}")
            }
            5 => {
                self.window = random.pick(&WINDOWS);
                format!("the window is {}", self.window)
            }
            6 => {
                self.tracking = random.pick(&["adaptive", "always"]);
                format!("tracking is {}", self.tracking)
            }
            7 => {
                self.health = random.pick(&HEALTH);
                format!("probes are {}", self.health)
            }
            8 => {
                let healthy = random.below(2) == 0;
                scene.servers[number].set_healthy(healthy);
                self.illnesses += usize::from(!healthy);
                format!("the server of {number} is healthy: {healthy}")
            }
            _ => self.change_other(random),
        }
    }

    fn change_other(&mut self, random: &mut Random) -> String {
        let port = 9000 + u16::try_from(random.below(4)).unwrap();
        if self.others.remove(&port).is_some() {
            return format!("removed the service at {port}");
        }
        let (what, backends) = (random.pick(&OTHERS), random.below(UNTOUCHED + TOUCHED + 1));
        self.others.insert(port, (what, backends));
        format!("added a service at {port} with {what} and {backends} backends")
    }

    fn text(&self, scene: &Scene) -> String {
        let mut text = "[metrics]\nlisten = \"off\"\n".to_owned();
        let head = |name: &str, port: u16, rest: &str| {
            format!(
                "[[service]]\nname = \"{name}\"\nvip = \"{VIP}\"\nport = {port}\nprotocol = \"tcp\"\n\
                 forward = \"l2\"\n{rest}\n"
            )
        };
        let backend = |number: usize, weight: u16| {
            let address = scene.backend(number).unwrap();
            format!("[[service.backend]]\naddress = \"{address}\"\nweight = {weight}\n")
        };
        let Self { window, tracking, health, .. } = self;
        let web = format!("window = \"{window}\"\ntracking = \"{tracking}\"\nhealth = {{ {health} }}");
        text += &head("web", PORT, &web);
        let untouched = (0..UNTOUCHED).map(|number| (number, 100));
        let touched = self.weights.iter().map(|(number, weight)| (*number, *weight));
        for (number, weight) in untouched.chain(touched) {
            text += &backend(number, weight);
        }
        for (port, (what, backends)) in &self.others {
            // Writing to a string cannot fail.
            let _ = write!(text, "{}", head(&format!("other-{port}"), *port, what));
            (0..*backends).for_each(|number| text += &backend(number, 100));
        }
        text
    }
}

fn start(client: &Client, scene: &Scene, count: usize) -> Downloads {
    Downloads::start(client, count, Download::lasting(scene.service(), LASTING))
}

/// Connections that a backend which nobody touched had and that have ended, and how many it has.
fn lost(scene: &Scene, downloads: &[Downloads]) -> (Vec<String>, usize) {
    let untouched: Vec<String> =
        (0..UNTOUCHED).map(|number| scene.backend(number).unwrap().to_string()).collect();
    let all = downloads.iter().flat_map(Downloads::progress);
    let own: Vec<_> =
        all.filter(|it| it.backend.as_ref().is_some_and(|backend| untouched.contains(backend))).collect();
    let ended = own.iter().filter(|it| it.end.is_some());
    (ended.map(|it| format!("{:?} after {} bytes: {:?}", it.backend, it.bytes, it.end)).collect(), own.len())
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|value| value.parse().unwrap())
}

#[test]
fn hundreds_of_random_reloads_lose_no_flow_of_an_untouched_backend() {
    let now = || u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let seed = number("MESHLB_SEED").unwrap_or_else(now);
    let reloads = number("MESHLB_RELOADS").map_or(RELOADS, |count| usize::try_from(count).unwrap());
    // Shown when the test fails.
    println!("MESHLB_SEED={seed}");
    let mut random = Random(seed);
    let plot = Plot { spare: TOUCHED, weights: vec![100; UNTOUCHED], ..Plot::new(VIP, Way::L2).unwrap() };
    let scene = plot.set().unwrap();
    let mut wanted = Wanted::new();
    let agent = api::Client::new(&scene.agent.socket()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reload = |wanted: &Wanted| {
        scene.agent.write_config(&wanted.text(&scene)).unwrap();
        runtime.block_on(agent.reload()).unwrap()
    };
    reload(&wanted);
    let client = scene.client().unwrap();
    let all_up = || {
        let services: Vec<ServiceView> = scene.agent.cli_json(&["services"]).unwrap();
        usize::try_from(services[0].up).unwrap() == UNTOUCHED + TOUCHED
    };
    eventually("all backends are up", SOON, all_up).unwrap();

    let mut downloads = vec![start(&client, &scene, FIRST)];
    downloads[0].flowing(SOON).unwrap();
    let requests = Requests::start(scene.client().unwrap(), scene.service());
    let begin = Instant::now();
    for step in 0..reloads {
        let change = wanted.change(&mut random, &scene);
        let report = reload(&wanted);
        assert!(report.restart_needed.is_empty(), "{report:?}");
        println!("{step} at {:?}: {change}", begin.elapsed());
        if step % ROUND == 0 {
            downloads.push(start(&client, &scene, MORE));
        }
        let (lost, _) = lost(&scene, &downloads);
        assert!(lost.is_empty(), "after {step} reloads: {lost:?}");
    }
    // Windows of 2 s pass, and every connection has its say once more.
    let received = |downloads: &[Downloads]| -> Vec<u64> {
        downloads.iter().flat_map(Downloads::progress).map(|it| it.bytes).collect()
    };
    thread::sleep(Duration::from_secs(5));
    let before = received(&downloads);
    thread::sleep(Duration::from_secs(2));
    let (lost, own) = lost(&scene, &downloads);
    assert!(lost.is_empty(), "{lost:?}");
    assert!(own > FIRST / UNTOUCHED / 2, "{own} connections are no traffic");
    let silent = received(&downloads).iter().zip(&before).filter(|(now, then)| now == then).count();
    let ended = downloads.iter().map(Downloads::ended).sum::<usize>();
    assert!(silent <= ended, "{silent} are silent, and {ended} have ended");
    let (done, failures) = requests.finish().unwrap();
    // A request that is under way when its backend is found to be ill goes on at another, which knows nothing of it.
    assert!(failures.len() <= wanted.illnesses, "{} of {done} requests failed: {failures:?}", failures.len());
    assert!(failures.iter().all(|failure| !failure.contains("timed out")), "{failures:?}");
    let status: Status = scene.agent.cli_json(&["status"]).unwrap();
    assert!(status.ready, "{status:?}");
}
