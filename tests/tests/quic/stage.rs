//! QUIC servers behind a balancer, and a client whose address changes.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use mesh_tests::scene::Way;
use mesh_tests::{Agent, Decap, Host, HostRuntime, Topology};
use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, ServerConfig, TokioRuntime};

use crate::ids::{Ids, SERVER_ID, Scheme};

/// The port of the service.
const PORT: u16 = 443;

/// For what takes a few round trips.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// What the server's certificate is for.
const NAME: &str = "quic.test";

/// How the stage is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) vip: &'static str,
    pub(crate) way: Way,
    pub(crate) scheme: Scheme,
}

impl Plan {
    /// The address of a server's host that the balancer knows: of the VIP's family, if packets are not translated.
    fn backend(self, host: &Host) -> IpAddr {
        if let Way::NatV4 = self.way {
            host.v4().into()
        } else if let Way::NatV6 = self.way {
            host.v6().into()
        } else {
            host.address_like(self.vip.parse().unwrap())
        }
    }
}

/// Three servers, an agent and a client.
pub(crate) struct Stage {
    pub(crate) agent: Agent,
    plan: Plan,
    certificate: CertificateDer<'static>,
    servers: Vec<Server>,
    _decaps: Vec<Decap>,
    pub(crate) topology: Topology,
}

/// A server; it ends with its runtime.
struct Server {
    rotation: Arc<AtomicU8>,
    _runtime: HostRuntime,
}

impl Stage {
    pub(crate) fn set(plan: Plan) -> Self {
        let mut topology = Topology::builder().backends(3).build().unwrap();
        let vip = plan.vip.parse().unwrap();
        if plan.way.translates() {
            topology.route_vip(vip).unwrap();
        } else {
            topology.add_vip(vip).unwrap();
        }
        let decap = |host: &Host| Decap::start(host, &[vip]).unwrap();
        let is_plain = plan.way == Way::L2 || plan.way.translates();
        let tunnelled = if is_plain { &[] } else { topology.backends() };
        let decaps = tunnelled.iter().map(decap).collect();
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let key = made.signing_key.serialize_der();
        let certificate = made.cert.der().clone();
        let servers = topology.backends().iter().zip(0..);
        let servers = servers
            .map(|(host, number)| {
                let key = PrivateKeyDer::try_from(key.clone()).unwrap();
                let crypto = ServerConfig::with_single_cert(vec![certificate.clone()], key).unwrap();
                let address = if plan.way.translates() { plan.backend(host) } else { vip };
                Server::start(host, SocketAddr::new(address, PORT), number, plan.scheme, crypto)
            })
            .collect();
        let agent = Agent::start(&topology, &config(&topology, plan, &[0])).unwrap();
        Self { agent, plan, certificate, servers, _decaps: decaps, topology }
    }

    /// Gives the balancer these configurations.
    pub(crate) fn reload(&self, rotations: &[u8]) {
        self.agent.write_config(&config(&self.topology, self.plan, rotations)).unwrap();
        self.must(&["reload"]);
    }

    /// Has the servers make ids of another configuration from now on.
    pub(crate) fn rotate(&self, rotation: u8) {
        for server in &self.servers {
            server.rotation.store(rotation, Ordering::Relaxed);
        }
    }

    pub(crate) fn must(&self, arguments: &[&str]) {
        let output = self.agent.cli(arguments).unwrap();
        assert!(output.status.success(), "meshlb {arguments:?}: {output:?}");
    }

    /// The address of a server, as the configuration has it.
    pub(crate) fn backend(&self, number: u8) -> IpAddr {
        self.plan.backend(&self.topology.backends()[usize::from(number)])
    }

    pub(crate) fn connect(&self) -> Client {
        let host = self.topology.client().clone();
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let config = ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
        let own = host.address_like(self.plan.vip.parse().unwrap());
        let vip = SocketAddr::new(self.plan.vip.parse().unwrap(), PORT);
        let runtime = host.runtime(1).unwrap();
        let connected = runtime.block_on(async move {
            let endpoint = Endpoint::client(SocketAddr::new(own, 0)).unwrap();
            let connecting = endpoint.connect_with(config, vip, NAME).unwrap();
            (endpoint, tokio::time::timeout(SOON, connecting).await.unwrap().unwrap())
        });
        let (endpoint, connection) = connected.unwrap();
        Client { runtime, host, own, endpoint, connection }
    }
}

fn config(topology: &Topology, plan: Plan, rotations: &[u8]) -> String {
    let forward = plan.way.forward();
    let window = if plan.way.translates() { "" } else { "window = \"1s\"\n" };
    let mut text = format!(
        "[metrics]\nlisten = \"off\"\n[[service]]\nname = \"web\"\nvip = \"{}\"\nport = {PORT}\n\
         protocol = \"quic\"\nforward = \"{forward}\"\n{window}",
        plan.vip
    );
    rotations.iter().for_each(|rotation| text += &plan.scheme.config(*rotation));
    for (host, number) in topology.backends().iter().zip(0..) {
        let address = plan.backend(host);
        let [high, low] = server_id(number);
        write!(text, "[[service.backend]]\naddress = \"{address}\"\nserver_id = \"{high:02x}{low:02x}\"\n")
            .unwrap();
    }
    text
}

const fn server_id(number: u8) -> [u8; SERVER_ID] {
    [0x5a, number]
}

impl Server {
    fn start(host: &Host, address: SocketAddr, number: u8, scheme: Scheme, crypto: ServerConfig) -> Self {
        let (rotation, nonce) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicU64::new(1)));
        let known = Arc::clone(&rotation);
        let ids = move || -> Box<dyn quinn::ConnectionIdGenerator> {
            let (rotation, nonce) = (Arc::clone(&known), Arc::clone(&nonce));
            Box::new(Ids { scheme, server_id: server_id(number), rotation, nonce })
        };
        let runtime = host.runtime(1).unwrap();
        let listening = runtime.block_on(async move {
            let mut config = EndpointConfig::default();
            config.cid_generator(ids);
            let socket = UdpSocket::bind(address).unwrap();
            Endpoint::new(config, Some(crypto), socket, Arc::new(TokioRuntime)).unwrap()
        });
        runtime.spawn(accept(listening.unwrap(), number));
        Self { rotation, _runtime: runtime }
    }
}

async fn accept(endpoint: Endpoint, number: u8) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            if let Ok(connection) = incoming.await {
                serve(connection, number).await;
            }
        });
    }
}

/// Answers each stream with the server's number, and as many kilobytes as it is asked for.
async fn serve(connection: Connection, number: u8) {
    while let Ok((mut to, mut from)) = connection.accept_bi().await {
        tokio::spawn(async move {
            let mut kilobytes = [0; 2];
            from.read_exact(&mut kilobytes).await?;
            to.write_all(&[number]).await?;
            for _ in 0..u16::from_be_bytes(kilobytes) {
                to.write_all(&[number; 1000]).await?;
            }
            to.finish()?;
            anyhow::Ok(())
        });
    }
}

/// A client with one connection.
pub(crate) struct Client {
    runtime: HostRuntime,
    host: Host,
    own: IpAddr,
    endpoint: Endpoint,
    connection: Connection,
}

impl Client {
    /// Which server answers.
    pub(crate) fn ask(&self) -> u8 {
        self.download(0).finish()
    }

    /// Begins a download.
    pub(crate) fn download(&self, kilobytes: u16) -> Download<'_> {
        let connection = self.connection.clone();
        let began = self.runtime.block_on(async move {
            let (mut to, mut from) = connection.open_bi().await?;
            to.write_all(&kilobytes.to_be_bytes()).await?;
            to.finish()?;
            let mut number = [0];
            tokio::time::timeout(SOON, from.read_exact(&mut number)).await??;
            anyhow::Ok((number[0], from))
        });
        let (number, from) = began.unwrap().unwrap();
        Download { client: self, number, from: Some(from), left: usize::from(kilobytes) * 1000 }
    }

    /// Sends from another port from now on, and from another address than before.
    pub(crate) fn migrate(&self, move_: u8) {
        let own = match self.own {
            IpAddr::V4(own) => IpAddr::from([10, 77, 0, own.octets()[3] + 1 + move_ % 2]),
            IpAddr::V6(own) => {
                let mut octets = own.octets();
                octets[15] += 1 + move_ % 2;
                octets.into()
            }
        };
        let (prefix, nodad) = if own.is_ipv4() { (24, "") } else { (64, " nodad") };
        self.host.ip(&format!("addr replace {own}/{prefix} dev eth0{nodad}\n")).unwrap();
        let endpoint = self.endpoint.clone();
        let moved =
            self.runtime.block_on(async move { endpoint.rebind(UdpSocket::bind(SocketAddr::new(own, 0))?) });
        moved.unwrap().unwrap();
    }
}

/// A download that goes on while the client moves.
pub(crate) struct Download<'a> {
    client: &'a Client,
    number: u8,
    from: Option<RecvStream>,
    left: usize,
}

impl Download<'_> {
    /// Takes so many kilobytes.
    pub(crate) fn take(&mut self, kilobytes: usize) {
        let (mut from, number) = (self.from.take().unwrap(), self.number);
        let took = self.client.runtime.block_on(async move {
            let mut bytes = vec![0; 1000 * kilobytes];
            tokio::time::timeout(SOON, from.read_exact(&mut bytes)).await??;
            anyhow::ensure!(bytes.iter().all(|byte| *byte == number), "another server answered");
            anyhow::Ok(from)
        });
        self.from = Some(took.unwrap().unwrap());
        self.left -= 1000 * kilobytes;
    }

    /// Takes the rest, and says which server it came from.
    pub(crate) fn finish(mut self) -> u8 {
        self.take(self.left / 1000);
        let mut from = self.from.take().unwrap();
        let end = self.client.runtime.block_on(async move {
            Ok::<_, anyhow::Error>(tokio::time::timeout(SOON, from.read_chunk(1, true)).await??)
        });
        assert!(end.unwrap().unwrap().is_none(), "there is more than was asked for");
        self.number
    }
}
