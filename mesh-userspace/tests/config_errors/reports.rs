//! How problems are gathered and shown, and files that cannot be read.

use std::fs;

use mesh_userspace::config::{self, Source};

use super::VALID;

#[test]
fn every_problem_of_a_file_is_reported_in_its_order() {
    let text =
        VALID.replace("\"auto\"", "\"fast\"").replace("port = 80\n", "port = 0\n").replace("fall", "fell");
    let error = config::parse("meshlb.toml", &text).unwrap_err();
    let lines: Vec<u32> = error.problems().iter().map(|problem| problem.location().unwrap().line).collect();
    assert_eq!(lines, [3, 21, 37]);
}

#[test]
fn a_flood_of_problems_is_cut_short() {
    let keys: String = (0..1000).map(|key| format!("k{key} = 1\n")).collect();
    let error = config::parse("meshlb.toml", &keys).unwrap_err();
    assert!(error.problems().len() <= 100);
    assert!(error.to_string().ends_with("… and 80 more"), "{error}");
}

#[test]
fn files_that_cannot_be_read_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let missing = config::load(&directory.path().join("missing.toml")).unwrap_err();
    assert!(missing.to_string().contains("missing.toml"), "{missing}");
    assert!(missing.problems()[0].message().contains("No such file"), "{missing}");
    assert!(missing.problems()[0].advice().contains("interfaces = [\"eth0\"]"), "{missing}");
    assert_eq!(missing.problems()[0].location(), None);

    let not_a_file = config::load(directory.path()).unwrap_err();
    assert!(not_a_file.problems()[0].message().contains("directory"), "{not_a_file}");

    let endless = config::load("/dev/zero".as_ref()).unwrap_err();
    assert!(endless.problems()[0].advice().contains("at most 32 MiB"), "{endless}");
}

#[test]
fn a_file_is_named_in_its_errors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("meshlb.toml");
    fs::write(&path, "\u{feff}[agent]\r\ninterfaces = []\r\n").unwrap();
    let error = config::load(&path).unwrap_err();
    assert_eq!(error.file(), path.display().to_string());
    assert!(error.to_string().contains(&format!("{}:2:14", path.display())), "{error}");
}

#[test]
fn an_error_shows_the_line_the_place_and_the_advice() {
    let text = VALID.replace("port = 80\n", "port = 0\n");
    let error = config::parse("meshlb.toml", &text).unwrap_err();
    let expected = "\
error: the port 0 is out of range
  --> meshlb.toml:21:8
   |
21 | port = 0
   |        ^
   |
   = help: write a number from 1 to 65535";
    assert_eq!(error.to_string(), expected);
    assert!(error.render(true).contains("\u{1b}["));
}

#[test]
fn the_agent_can_point_at_an_interface() {
    let source = Source::new("meshlb.toml", VALID);
    assert_eq!(source.locate_interface("eth1").unwrap().to_string(), "2:23");
    assert_eq!(source.locate_interface("eth9"), None);
    let error = source.interface_error("eth1", "there is no interface \"eth1\"", "see `ip link`");
    assert!(error.to_string().contains("--> meshlb.toml:2:23\n"), "{error}");
}
