//! Reads the keys of registries: how they are reached, and what they are asked for.

use std::ops::RangeInclusive;
use std::time::Duration;

use hyper::Uri;
use toml::Spanned;

use crate::config::read::section::{Key, Section};
use crate::config::read::tls;
use crate::config::read::value::{self, Node, Read};
use crate::config::{
    Access, ConsulSource, Endpoint, EtcdSource, EurekaSource, Login, Otlp, Problem, Tls, TlsProtocol,
};

/// From what a near registry needs to what nobody waits for.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// Consul waits ten minutes at most (its "Blocking Queries").
const WAITS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

/// Eureka tells of the changes of the last three minutes (`retentionTimeInMSInDeltaQueue`).
const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(120);

/// More servers than any cluster has.
const MOST_ENDPOINTS: usize = 16;

/// The longest name or tag: bytes.
const LONGEST_NAME: usize = 255;

pub(super) fn consul(section: &mut Section<'_, '_>) -> Option<ConsulSource> {
    let access = access(section, Some(ConsulSource::ENDPOINT));
    let service = section.required(Key("service", "\"web\""), name);
    let tags = section.or(Key("tags", "[\"primary\"]"), names, Vec::new());
    let datacenter = section.optional(Key("datacenter", "\"dc1\""), name).map(Spanned::into_inner);
    let token_file =
        section.optional(Key("token_file", "\"/etc/meshlb/consul.token\""), value::absolute_path);
    let token_file = token_file.map(Spanned::into_inner);
    let wait = section.or(Key("wait", "\"1min\""), value::duration(WAITS), ConsulSource::WAIT);
    Some(ConsulSource { access: access?, service: service?.into_inner(), tags, datacenter, token_file, wait })
}

pub(super) fn etcd(section: &mut Section<'_, '_>) -> Option<EtcdSource> {
    let access = access(section, Some(EtcdSource::ENDPOINT));
    let prefix = section.required(Key("prefix", "\"/meshlb/web/\""), name);
    let login = login(section)?;
    Some(EtcdSource { access: access?, prefix: prefix?.into_inner(), login })
}

pub(super) fn eureka(section: &mut Section<'_, '_>) -> Option<EurekaSource> {
    let access = access(section, None);
    let application = section.required(Key("application", "\"WEB\""), name);
    let interval = Key("interval", "\"10s\"");
    let interval = section.or(interval, value::duration(INTERVALS), EurekaSource::INTERVAL);
    let login = login(section)?;
    let application = application?.into_inner().to_uppercase();
    Some(EurekaSource { access: access?, application, login, interval })
}

/// Who asks, if anybody is named; `None` after a report.
fn login(section: &mut Section<'_, '_>) -> Option<Option<Login>> {
    let places = [section.place_of("user"), section.place_of("password_file")];
    let user = section.optional(Key("user", "\"meshlb\""), name);
    let file = section.optional(Key("password_file", "\"/etc/meshlb/password\""), value::absolute_path);
    match (places, user, file) {
        ([None, None], ..) => Some(None),
        ([Some(_), Some(_)], user, file) => {
            Some(Some(Login { user: user?.into_inner(), password_file: file?.into_inner() }))
        }
        ([one, other], ..) => {
            let (has, lacks) =
                if one.is_some() { ("user", "password_file") } else { ("password_file", "user") };
            let problem = Problem::new(format!("`{has}` is written without `{lacks}`"))
                .advise("write both, or none: a user has a password");
            section.report().add(problem.at(one.or(other)?));
            None
        }
    }
}

/// How a registry is reached; `None` after a report. Where it is by default, nothing has to be said.
fn access(section: &mut Section<'_, '_>, default: Option<&str>) -> Option<Access> {
    let example = Key("endpoints", "[\"https://registry.example.com:8501\"]");
    let is_written = section.place_of(example.0).is_some();
    let written = match default.filter(|_| !is_written).and_then(parsed) {
        Some(default) => Some((default, Vec::new())),
        None => section.required(example, endpoints).map(Spanned::into_inner),
    };
    reached(section, written)
}

/// How those are reached whose endpoints are written; `None` after a report, or where they are not known.
fn reached(section: &mut Section<'_, '_>, written: Option<(Endpoint, Vec<Endpoint>)>) -> Option<Access> {
    let timeout = section.or(Key("timeout", "\"5s\""), value::duration(TIMEOUTS), Access::TIMEOUT);
    let is_secure = |(first, others): &(Endpoint, Vec<Endpoint>)| {
        first.is_secure || others.iter().any(|other| other.is_secure)
    };
    let tls = match written.as_ref().map(is_secure) {
        // Whether there is TLS is not known.
        None => {
            for key in tls::KEYS {
                section.place_of(key);
            }
            return None;
        }
        Some(true) => Some(tls::tls(section, TlsProtocol::Http1, None)?),
        Some(false) => no_tls(section),
    };
    let (endpoint, others) = written?;
    Some(Access { endpoint, others, tls, timeout })
}

/// Refuses the keys of TLS.
fn no_tls(section: &mut Section<'_, '_>) -> Option<Tls> {
    for key in tls::KEYS {
        let Some(place) = section.place_of(key) else { continue };
        let problem = Problem::new(format!("`{key}` has no meaning without TLS"));
        let advice = "leave it away, or write endpoints that begin with \"https://\"";
        section.report().add(problem.advise(advice).at(place));
    }
    None
}

/// `[otlp]`: a collector is reached as registries are.
pub(in crate::config::read) fn otlp(mut section: Section<'_, '_>) -> Option<Otlp> {
    let written = section.required(Key("endpoint", "\"http://127.0.0.1:4318\""), collector);
    let token_file = section.optional(Key("token_file", "\"/etc/meshlb/otlp.token\""), value::absolute_path);
    let logs = section.or(Key("logs", "false"), value::boolean, true);
    let written = written.map(|endpoint| (endpoint.into_inner(), Vec::new()));
    let access = reached(&mut section, written);
    section.finish();
    Some(Otlp { access: access?, token_file: token_file.map(Spanned::into_inner), logs })
}

/// A list of endpoints, none twice: the first, and the others.
fn endpoints(node: &Node<'_>) -> Read<(Endpoint, Vec<Endpoint>)> {
    let all = value::items(node, |node| endpoint(node, "http://127.0.0.1:8500"))?;
    if all.len() > MOST_ENDPOINTS {
        return Err(Problem::new(format!("there are {} endpoints", all.len()))
            .advise(format!("write those of one cluster, at most {MOST_ENDPOINTS}")));
    }
    for (position, one) in all.iter().enumerate() {
        if let Some(first) = all.iter().take(position).find(|it| it.get_ref() == one.get_ref()) {
            let problem = Problem::new(format!("the endpoint {} is listed twice", one.get_ref()))
                .advise("list every endpoint once");
            return Err(problem.at(one.span()).beside(first.span(), "first here"));
        }
    }
    let mut all = all.into_iter().map(Spanned::into_inner);
    let first = all.next().ok_or_else(|| Problem::new("no endpoint is listed"))?;
    Ok((first, all.collect()))
}

/// Where a collector is: without the paths of OTLP, which follow (OTLP/HTTP Request).
fn collector(node: &Node<'_>) -> Read<Endpoint> {
    let endpoint = endpoint(node, "http://127.0.0.1:4318")?;
    if ["/v1/traces", "/v1/logs"].iter().any(|path| endpoint.base.ends_with(path)) {
        return Err(Problem::new(format!("the path of {endpoint} is one that the agent adds itself"))
            .advise("leave `/v1/traces` or `/v1/logs` away: each kind of record has its own path"));
    }
    Ok(endpoint)
}

/// Such as the example.
fn endpoint(node: &Node<'_>, example: &str) -> Read<Endpoint> {
    let written = value::text(node)?;
    if written.contains('@') {
        return Err(Problem::new("an endpoint has no name and password")
            .advise("write secrets to a file that the agent may read, and name it by the key for that"));
    }
    parsed(written).ok_or_else(|| {
        Problem::new(format!("{written:?} is not an endpoint")).advise(format!(
            "write scheme, host and port, such as \"{example}\" or \"https://[2001:db8::1]:2379\""
        ))
    })
}

/// An endpoint, if it is one.
fn parsed(written: &str) -> Option<Endpoint> {
    let uri: Uri = written.parse().ok()?;
    let is_secure = match uri.scheme_str()? {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    let port = match uri.authority()?.port() {
        Some(port) => Some(port.as_u16()).filter(|port| *port != 0)?,
        None if is_secure => 443,
        None => 80,
    };
    let base = uri.path().trim_end_matches('/').to_owned();
    // A fragment is none that `Uri` would tell of.
    let is_plain = !host.is_empty() && uri.query().is_none() && !written.contains('#');
    is_plain.then(|| Endpoint { is_secure, host: host.to_owned(), port, base })
}

fn names(node: &Node<'_>) -> Read<Vec<String>> {
    let names = value::items(node, name)?;
    Ok(names.into_iter().map(Spanned::into_inner).collect())
}

/// What a registry calls something.
fn name(node: &Node<'_>) -> Read<String> {
    let name = value::text(node)?;
    if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(Problem::new(format!("{name:?} is not a name"))
            .advise(format!("write 1 to {LONGEST_NAME} characters, as the registry has them")));
    }
    Ok(name.to_owned())
}
