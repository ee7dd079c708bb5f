//! `meshlb bundle`: gathers, writes, and says what was written.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::args::BundleArgs;
use super::error::CliError;
use super::output::Output;
use super::{connect, preflight};
use crate::agent::flows::FlowFilter;
use crate::api::Client;
use crate::bundle::{self, Bundle, Secrets, redacted};
use crate::config::{Config, Source};
use crate::preflight::CONFIG;

/// Flows and events that are taken at most.
const FLOWS: usize = 200;
const EVENTS: usize = 1000;

/// How long the agent's metrics may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    file: String,
    bytes: u64,
    files: usize,
    missing: Vec<bundle::Missing>,
}

/// Writes an archive, whatever of it can be had.
pub(super) async fn bundle<W: Write>(
    args: BundleArgs,
    socket: Option<PathBuf>,
    output: &mut Output<W>,
) -> Result<(), CliError> {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let directory = format!("meshlb-bundle-{time}");
    let path = args.write.unwrap_or_else(|| format!("{directory}.tar.gz").into());
    let file = args.config.as_deref().unwrap_or(Path::new(CONFIG));
    let contents = gathered(file, socket).await.finish(env!("CARGO_PKG_VERSION"), time);
    let bytes = bundle::write(&path, &directory, &contents, args.force)?;
    let (manifest, files) = contents;
    let file = path.display().to_string();
    output.show(&Written { file, bytes, files: files.len() + 1, missing: manifest.missing }, written)
}

fn written(written: &Written) -> String {
    let Written { file, bytes, files, missing } = written;
    let missing: Vec<String> =
        missing.iter().map(|one| format!("  without {}: {}", one.name, one.reason)).collect();
    format!(
        "{file}: {files} files in {} KiB, readable by you only\n{}",
        bytes.div_ceil(1024),
        missing.join("\n")
    )
}

async fn gathered(file: &Path, socket: Option<PathBuf>) -> Bundle {
    let source = Source::read(file);
    let secrets = source.as_ref().map(|source| Secrets::of(source.files().map(|(_, text)| text)));
    let mut bundle = Bundle::new(secrets.unwrap_or_default());
    let config = source.as_ref().ok().and_then(|source| source.parse().ok());
    match &source {
        Ok(source) => configuration(&mut bundle, source),
        Err(error) => {
            bundle.add("config", Err(format!("{}: {}", file.display(), headline(&error.to_string()))))
        }
    }
    let report = preflight::report(config.as_ref().map(|config| (file, config)), false).await;
    bundle.add_json("preflight.json", report);
    bundle::system(&mut bundle).await;
    bundle::network(&mut bundle).await;
    bundle::kernel(&mut bundle);
    let socket = connect::socket(socket.or_else(|| config.as_ref().map(|config| config.api.socket.clone())));
    agent(&mut bundle, &socket).await;
    bundle.add("agent/metrics.txt", metrics(config.as_ref()).await);
    bundle
}

/// What an error of the configuration is, without the line that shows it.
fn headline(error: &str) -> &str {
    error.lines().next().unwrap_or_default()
}

fn configuration(bundle: &mut Bundle, source: &Source) {
    for (number, (name, text)) in source.files().enumerate() {
        let shown = redacted(text).map(|text| format!("# {name}, without comments and secrets\n{text}"));
        let reason = "it is no TOML, so that nobody can tell where its secrets are";
        bundle.add(&format!("config/{number}.toml"), shown.ok_or(format!("{name}: {reason}")));
    }
    // Errors show lines, and where one is no TOML nobody can tell what of it may be shown.
    let judged = if source.files().all(|(_, text)| redacted(text).is_some()) {
        Ok(source.parse().map_or_else(|error| error.render(false), |_| "valid".to_owned()))
    } else {
        Err("a file is no TOML")
    };
    bundle.add("config/check.txt", judged);
}

/// Adds what an agent says.
async fn agent(bundle: &mut Bundle, socket: &Path) {
    let agent = match Client::new(socket) {
        Ok(agent) => agent,
        Err(error) => return bundle.add("agent", Err(error)),
    };
    let status = agent.status().await;
    let runs = status.is_ok();
    bundle.add_json("agent/status.json", status);
    if !runs {
        return;
    }
    bundle.add_json("agent/services.json", agent.services().await);
    bundle.add_json("agent/backends.json", agent.backends(None).await);
    bundle.add_json("agent/flows.json", agent.flows(&FlowFilter::default(), FLOWS).await);
    bundle.add_json("agent/events.json", agent.events(None, None, None, EVENTS).await);
}

async fn metrics(config: Option<&Config>) -> Result<String, String> {
    let config = config.ok_or("the configuration does not say where they are")?;
    let listen = config.metrics.listen.ok_or("the configuration switches them off")?;
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
    let answer = async {
        client?.get(format!("http://{listen}/metrics")).send().await?.error_for_status()?.text().await
    };
    answer.await.map_err(|error| format!("{listen}: {error}"))
}
