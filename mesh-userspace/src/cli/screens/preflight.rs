//! `meshlb preflight`: what is to be done first, then what is well.

use crate::cli::table::Column::Text;
use crate::cli::table::table;
use crate::preflight::{CONFIG, Finding, Level, Report};

/// A short screen.
pub(in crate::cli) fn preflight(report: &Report) -> String {
    let of = |level: Level| report.findings.iter().filter(move |finding| finding.level == level);
    let wrong: Vec<String> = of(Level::Fail).chain(of(Level::Warn)).map(paragraph).collect();
    let well: Vec<_> = of(Level::Ok).map(row).collect();
    let well = if well.is_empty() {
        String::new()
    } else {
        table(&[Text("OK"), Text("ABOUT"), Text("FOUND")], well)
    };
    let parts = [head(report), wrong.join("\n"), well];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}

fn head(report: &Report) -> String {
    let Report { ok, warn, fail, .. } = report;
    let against = match &report.config {
        Some(file) => format!("this host and {file}"),
        None => format!("this host alone: there is no {CONFIG}, and --config names no other file"),
    };
    format!("preflight of {against}: {fail} fail, {warn} warn, {ok} ok")
}

fn paragraph(finding: &Finding) -> String {
    let Finding { check, about, level, found, why, remedy } = finding;
    let about = if about.is_empty() { String::new() } else { format!(" {about}") };
    format!("{} {check}{about}: {found}\n     why: {why}\n      do: {remedy}", level.name())
}

fn row(finding: &Finding) -> Vec<String> {
    vec![finding.check.clone(), finding.about.clone(), finding.found.clone()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: &str, level: Level) -> Finding {
        let text = |text: &str| text.to_owned();
        let (why, remedy) =
            if level == Level::Ok { ("", "") } else { ("no packet arrives", "ip link set eth0 up") };
        Finding {
            check: text(check),
            about: text("eth0"),
            level,
            found: text("it is down"),
            why: text(why),
            remedy: text(remedy),
        }
    }

    #[test]
    fn what_is_to_be_done_comes_first_and_worst_first() {
        let findings =
            vec![finding("jit", Level::Ok), finding("xdp", Level::Warn), finding("link", Level::Fail)];
        let shown = preflight(&Report::new(Some("a.toml".into()), findings));
        let expected = "preflight of this host and a.toml: 1 fail, 1 warn, 1 ok\n\n\
            fail link eth0: it is down\n     why: no packet arrives\n      do: ip link set eth0 up\n\
            warn xdp eth0: it is down\n     why: no packet arrives\n      do: ip link set eth0 up\n\n\
            OK   ABOUT  FOUND\njit  eth0   it is down";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_host_without_configuration_is_said_to_be_one() {
        let shown = preflight(&Report::new(None, Vec::new()));
        assert!(
            shown.starts_with("preflight of this host alone: there is no /etc/meshlb/meshlb.toml"),
            "{shown}"
        );
    }
}
