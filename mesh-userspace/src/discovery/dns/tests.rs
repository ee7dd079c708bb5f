//! A name server in this process, which says what it is told to.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, SRV};
use hickory_proto::rr::{RData, Record};
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::question::{self, Kind};
use crate::config::{DiscoverySource, DnsFamily, DnsLookup, DnsSource};
use crate::discovery::tests::{Heard, says};
use crate::discovery::{Instance, Report, Snapshot, Sources};

const WEB: &str = "web.example";

/// What a server does with a question.
#[derive(Clone)]
enum Deed {
    /// Answers with records that may be used for so many seconds.
    Records(u32, Vec<RData>),
    /// Says that the name is an alias, and no more.
    Alias(&'static str),
    /// Answers with a code.
    Code(ResponseCode),
    /// Says nothing.
    Nothing,
    /// Answers late.
    Late(Duration, Vec<RData>),
    /// Answers with a few bytes that are no message.
    Garbage,
    /// Answers another question first, and one with another number.
    Others(Vec<RData>),
    /// Says over UDP that the answer does not fit, and over TCP the answer.
    Long(Vec<RData>),
}

type Script = Arc<Mutex<BTreeMap<(String, Kind), Deed>>>;

/// A name server, over UDP and TCP.
struct Server {
    address: SocketAddr,
    script: Script,
    /// When it was asked something over UDP.
    asked: Arc<Mutex<Vec<Instant>>>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Server {
    async fn start() -> Self {
        let (tcp, udp) = same_port().await;
        let (script, asked) = (Script::default(), Arc::<Mutex<Vec<Instant>>>::default());
        let address = tcp.local_addr().unwrap();
        let tasks = [
            AbortOnDropHandle::new(tokio::spawn(over_udp(udp, Arc::clone(&script), Arc::clone(&asked)))),
            AbortOnDropHandle::new(tokio::spawn(over_tcp(tcp, Arc::clone(&script)))),
        ];
        Self { address, script, asked, _tasks: tasks }
    }

    fn does(&self, name: &str, kind: Kind, deed: Deed) {
        self.script.lock().unwrap().insert((name.to_owned(), kind), deed);
    }

    fn has(&self, name: &str, lasts: &[u8]) {
        self.does(name, Kind::A, Deed::Records(1, addresses(lasts)));
    }
}

async fn same_port() -> (TcpListener, UdpSocket) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            return (tcp, udp);
        }
    }
}

async fn over_udp(socket: UdpSocket, script: Script, asked: Arc<Mutex<Vec<Instant>>>) {
    let socket = Arc::new(socket);
    let mut buffer = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        asked.lock().unwrap().push(Instant::now());
        let question = Message::from_vec(&buffer[..length]).unwrap();
        let (late, answers) = deed(&question, &script, false);
        let socket = Arc::clone(&socket);
        tokio::spawn(async move {
            sleep(late).await;
            for answer in answers {
                socket.send_to(&answer, from).await.unwrap();
            }
        });
    }
}

async fn over_tcp(listener: TcpListener, script: Script) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut bytes).await.unwrap();
        for answer in deed(&Message::from_vec(&bytes).unwrap(), &script, true).1 {
            stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    }
}

/// How late, and what.
fn deed(question: &Message, script: &Script, is_tcp: bool) -> (Duration, Vec<Vec<u8>>) {
    let asked = &question.queries[0];
    let name = asked.name().to_string().trim_end_matches('.').to_owned();
    let kinds = [Kind::A, Kind::Aaaa, Kind::Srv];
    let kind = kinds.into_iter().find(|kind| kind.record() == asked.query_type()).unwrap();
    let found = script.lock().unwrap().get(&(name, kind)).cloned();
    let records = |ttl, data: Vec<RData>| vec![answer(question, ttl, data).to_vec().unwrap()];
    let now = |answers| (Duration::ZERO, answers);
    match found.unwrap_or(Deed::Records(1, Vec::new())) {
        Deed::Records(ttl, data) => now(records(ttl, data)),
        Deed::Alias(target) => now(records(1, vec![RData::CNAME(CNAME(question::name(target).unwrap()))])),
        Deed::Code(code) => {
            let mut answer = answer(question, 1, Vec::new());
            answer.metadata.response_code = code;
            now(vec![answer.to_vec().unwrap()])
        }
        Deed::Nothing => now(Vec::new()),
        Deed::Late(late, data) => (late, records(1, data)),
        Deed::Garbage => now(vec![[&question.metadata.id.to_be_bytes()[..], &[0xff; 30]].concat()]),
        Deed::Others(data) => {
            let (mut number, mut name) = (answer(question, 1, addresses(&[99])), question.clone());
            number.metadata.id = !number.metadata.id;
            name.queries[0].set_name(question::name("other.example").unwrap());
            let name = answer(&name, 1, addresses(&[98]));
            now([vec![number.to_vec().unwrap(), name.to_vec().unwrap()], records(1, data)].concat())
        }
        Deed::Long(data) if is_tcp => now(records(1, data)),
        Deed::Long(_) => {
            let mut answer = answer(question, 1, addresses(&[97]));
            answer.metadata.truncation = true;
            now(vec![answer.to_vec().unwrap()])
        }
    }
}

fn answer(question: &Message, ttl: u32, data: Vec<RData>) -> Message {
    let mut answer = question.clone();
    answer.metadata.message_type = MessageType::Response;
    let name = question.queries[0].name();
    answer.add_answers(data.into_iter().map(|data| Record::from_rdata(name.clone(), ttl, data)));
    answer
}

fn addresses(lasts: &[u8]) -> Vec<RData> {
    lasts.iter().map(|last| RData::from(IpAddr::from([10, 0, 0, *last]))).collect()
}

/// A source that asks these servers, and where its reports come out.
struct Followed {
    _directory: TempDir,
    sources: Sources,
    reports: Heard,
    source: DnsSource,
}

impl Followed {
    fn asks(servers: &[SocketAddr]) -> Self {
        Self::follows(DnsSource {
            name: WEB.to_owned(),
            record: DnsLookup::Address,
            family: DnsFamily::Both,
            servers: servers.to_vec(),
            timeout: Duration::from_millis(300),
            absent_after: Duration::from_secs(3),
        })
    }

    fn follows(source: DnsSource) -> Self {
        let directory = tempdir().unwrap();
        let (tx, reports) = Heard::channel();
        let sources = Sources::new(tx, directory.path());
        let mut followed = Self { _directory: directory, sources, reports, source };
        followed.update();
        followed
    }

    /// Follows the source as it is now.
    fn update(&mut self) {
        self.sources.update([DiscoverySource::Dns(self.source.clone())].iter());
    }
}

fn of(lasts: &[u8]) -> Snapshot {
    lasts.iter().map(|last| Instance::new([10, 0, 0, *last].into(), None)).collect()
}

fn has(lasts: &[u8]) -> impl Fn(&Report) -> bool {
    says(of(lasts))
}

#[tokio::test]
async fn addresses_of_both_families_are_asked_again_when_they_end() {
    let server = Server::start().await;
    server.has(WEB, &[1, 2]);
    let v6: IpAddr = "2001:db8::1".parse().unwrap();
    server.does(WEB, Kind::Aaaa, Deed::Records(1, vec![RData::from(v6)]));
    let mut followed = Followed::asks(&[server.address]);
    let expected = |lasts: &[u8]| -> Snapshot {
        of(lasts).instances().iter().copied().chain([Instance::new(v6, None)]).collect()
    };
    let both = expected(&[1, 2]);
    followed.reports.until(|report| report.snapshot.as_deref() == Some(&both)).await;
    // A long time is kept, though there is news; until somebody asks in another way.
    server.does(WEB, Kind::Aaaa, Deed::Records(3600, vec![RData::from(v6)]));
    server.does(WEB, Kind::A, Deed::Records(3600, addresses(&[2])));
    let fewer = expected(&[2]);
    followed.reports.until(|report| report.snapshot.as_deref() == Some(&fewer)).await;
    server.has(WEB, &[3]);
    let asked = server.asked.lock().unwrap().len();
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(server.asked.lock().unwrap().len(), asked);
    followed.source.timeout = Duration::from_millis(400);
    followed.update();
    let other = expected(&[3]);
    followed.reports.until(|report| report.snapshot.as_deref() == Some(&other)).await;
}

#[tokio::test]
async fn a_time_of_0_does_not_mean_without_a_pause() {
    let server = Server::start().await;
    server.does(WEB, Kind::A, Deed::Records(0, addresses(&[1])));
    let mut followed = Followed::asks(&[server.address]);
    followed.reports.until(has(&[1])).await;
    sleep(Duration::from_millis(2500)).await;
    let asked = server.asked.lock().unwrap().len();
    assert!((4..=8).contains(&asked), "{asked} questions in 2.5 s");
}

#[tokio::test]
async fn a_name_that_is_gone_keeps_its_addresses_for_a_while() {
    let server = Server::start().await;
    server.has(WEB, &[1]);
    let mut followed = Followed::asks(&[server.address]);
    followed.reports.until(has(&[1])).await;
    let begin = Instant::now();
    server.does(WEB, Kind::A, Deed::Code(ResponseCode::NXDomain));
    server.does(WEB, Kind::Aaaa, Deed::Code(ResponseCode::NXDomain));
    followed.reports.until(has(&[])).await;
    assert!(begin.elapsed() >= Duration::from_secs(3), "{:?}", begin.elapsed());
    server.has(WEB, &[2]);
    followed.reports.until(has(&[2])).await;
    // One that nothing is known of says first that it is doubted.
    let mut stranger =
        Followed::follows(DnsSource { name: "none.example".to_owned(), ..followed.source.clone() });
    let report = stranger
        .reports
        .fails("A none.example: the name has no such records; this is believed after 3s")
        .await;
    assert_eq!((report.state(), report.snapshot), ("silent", None));
    stranger.reports.until(has(&[])).await;
}

#[tokio::test]
async fn what_is_no_answer_changes_nothing_and_is_said() {
    let server = Server::start().await;
    server.has(WEB, &[1]);
    let mut followed = Followed::asks(&[server.address]);
    followed.reports.until(has(&[1])).await;
    let cases = [
        (Deed::Code(ResponseCode::ServFail), "Server Failure"),
        (Deed::Code(ResponseCode::Refused), "Query Refused"),
        (Deed::Nothing, "no answer within 300ms"),
        (Deed::Garbage, "its answer is malformed"),
    ];
    for (deed, error) in cases {
        server.does(WEB, Kind::A, deed);
        let report = followed
            .reports
            .fails(&format!("A web.example is not answered: {}: {error}", server.address))
            .await;
        assert_eq!(report.snapshot.as_deref(), Some(&of(&[1])), "{error}");
        server.has(WEB, &[1]);
        followed.reports.until(has(&[1])).await;
    }
    // Nor does one family alone.
    server.has(WEB, &[2]);
    server.does(WEB, Kind::Aaaa, Deed::Code(ResponseCode::ServFail));
    let report = followed.reports.fails("AAAA web.example").await;
    assert_eq!(report.snapshot.as_deref(), Some(&of(&[1])));
    server.does(WEB, Kind::A, Deed::Late(Duration::from_millis(200), addresses(&[3])));
    server.does(WEB, Kind::Aaaa, Deed::Records(1, Vec::new()));
    followed.reports.until(has(&[3])).await;
    server.does(WEB, Kind::A, Deed::Others(addresses(&[4])));
    followed.reports.until(has(&[4])).await;
}

#[tokio::test]
async fn an_answer_that_does_not_fit_comes_over_tcp() {
    let server = Server::start().await;
    let all: Vec<u8> = (1..=200).collect();
    server.does(WEB, Kind::A, Deed::Long(addresses(&all)));
    Followed::asks(&[server.address]).reports.until(has(&all)).await;
}

#[tokio::test]
async fn an_alias_that_leads_elsewhere_is_asked_for() {
    let server = Server::start().await;
    server.does(WEB, Kind::A, Deed::Alias("b.example"));
    server.has("b.example", &[1]);
    let mut followed = Followed::asks(&[server.address]);
    followed.reports.until(has(&[1])).await;
    server.does("b.example", Kind::A, Deed::Alias(WEB));
    followed.reports.fails("A web.example is not answered: aliases lead on and on").await;
}

#[tokio::test]
async fn servers_are_asked_until_one_answers() {
    let (silent, lame, good) = (Server::start().await, Server::start().await, Server::start().await);
    silent.does(WEB, Kind::A, Deed::Nothing);
    lame.does(WEB, Kind::A, Deed::Code(ResponseCode::ServFail));
    good.has(WEB, &[1]);
    let closed = same_port().await.1.local_addr().unwrap();
    let mut followed = Followed::asks(&[closed, silent.address, lame.address, good.address]);
    followed.source.family = DnsFamily::Ipv4;
    followed.update();
    followed.reports.until(has(&[1])).await;
    let silenced = silent.asked.lock().unwrap().len();
    good.has(WEB, &[2]);
    followed.reports.until(has(&[2])).await;
    assert_eq!(silent.asked.lock().unwrap().len(), silenced, "who answered last is asked first");
    drop(good);
    followed.reports.fails(&format!("{closed}: Connection refused")).await;
    followed.reports.fails(&format!("{}: no answer within 300ms", silent.address)).await;
    silent.has(WEB, &[3]);
    followed.reports.until(has(&[3])).await;
}

#[tokio::test]
async fn offers_are_looked_up_to_their_addresses() {
    const OFFERS: &str = "_http._tcp.example";
    let server = Server::start().await;
    let offer = |priority, weight, port, host| {
        RData::SRV(SRV::new(priority, weight, port, question::name(host).unwrap()))
    };
    let offers =
        vec![offer(0, 10, 80, "a.example"), offer(0, 20, 81, "b.example"), offer(5, 0, 80, "b.example")];
    server.does(OFFERS, Kind::Srv, Deed::Records(1, offers.clone()));
    server.has("a.example", &[1, 2]);
    server.has("b.example", &[3]);
    let mut followed = Followed::asks(&[server.address]);
    (followed.source.name, followed.source.record) = (OFFERS.to_owned(), DnsLookup::Srv);
    followed.update();
    let instance = |last: u8, port, weight, priority| {
        let instance = Instance::new(Ipv4Addr::new(10, 0, 0, last).into(), Some(port));
        Instance { weight, priority, ..instance }
    };
    let a = [instance(1, 80, Some(10), 0), instance(2, 80, Some(10), 0)];
    let b = |last| [instance(last, 81, Some(20), 0), instance(last, 80, None, 5)];
    let expected = |last| a.into_iter().chain(b(last)).collect::<Snapshot>();
    let found = expected(3);
    followed.reports.until(|report| report.snapshot.as_deref() == Some(&found)).await;
    // A host without addresses keeps those that it had; one that cannot be asked for leaves all as it is.
    server.does("a.example", Kind::A, Deed::Code(ResponseCode::NXDomain));
    server.has("b.example", &[4]);
    let found = expected(4);
    followed.reports.until(|report| report.snapshot.as_deref() == Some(&found)).await;
    server.does("a.example", Kind::A, Deed::Code(ResponseCode::ServFail));
    server.has("b.example", &[5]);
    let report = followed.reports.fails("A a.example is not answered").await;
    assert_eq!(report.snapshot.as_deref(), Some(&found));
    // Who says that there is no such service is believed.
    server.does(OFFERS, Kind::Srv, Deed::Records(1, vec![offer(0, 0, 0, ".")]));
    followed.reports.until(has(&[])).await;
    server.does(OFFERS, Kind::Srv, Deed::Records(1, offers));
    server.has("a.example", &[1, 2]);
    let found = expected(5);
    followed.reports.until(|report| report.snapshot.as_deref() == Some(&found)).await;
}
