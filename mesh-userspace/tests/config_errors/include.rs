//! Files that a configuration includes.

use std::fs;
use std::path::Path;

use mesh_userspace::config::{self, Config, ConfigError};
use tempfile::TempDir;

const HEAD: &str = "include = \"conf.d\"\n[agent]\ninterfaces = [\"eth0\"]\n";

fn service(name: &str, port: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\nvip = \"203.0.113.10\"\nport = {port}\nprotocol = \"tcp\"\nforward = \"ipip\"\n"
    )
}

/// Reads a main file and those in its directory, by their names.
fn read(main: &str, files: &[(&str, &str)]) -> (TempDir, Result<Config, ConfigError>) {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("conf.d")).unwrap();
    for (name, text) in files {
        fs::write(directory.path().join("conf.d").join(name), text).unwrap();
    }
    let path = directory.path().join("meshlb.toml");
    fs::write(&path, main).unwrap();
    let config = config::load(&path);
    (directory, config)
}

/// The places, as `file:line:column`, and messages of all that is wrong; files without their directory.
fn wrong(main: &str, files: &[(&str, &str)]) -> (Vec<String>, String) {
    let (directory, config) = read(main, files);
    let error = config.unwrap_err();
    let problem = |problem: &config::Problem| {
        let file = Path::new(error.file_of(problem)).file_name().unwrap().to_str().unwrap();
        let place = problem.location().map_or_else(String::new, |place| place.to_string());
        format!("{file}:{place}: {}", problem.message())
    };
    let strip = |text: String| text.replace(directory.path().to_str().unwrap(), "");
    (error.problems().iter().map(problem).map(strip).collect(), strip(error.to_string()))
}

#[test]
fn services_of_all_files_stand_in_the_order_of_names() {
    let (one, two, three) = (service("one", "1"), service("two", "2"), service("three", "3"));
    let main = format!("{HEAD}{one}");
    let files = [
        ("20.toml", three.as_str()),
        ("10.toml", two.as_str()),
        ("empty.toml", ""),
        ("30.toml~", "no TOML"),
        (".30.toml.swp", "no TOML"),
        (".30.toml", "no TOML"),
    ];
    let (_directory, config) = read(&main, &files);
    let names: Vec<_> = config.unwrap().services.into_iter().map(|service| service.name).collect();
    assert_eq!(names, ["one", "two", "three"]);
}

#[test]
fn a_problem_in_an_included_file_has_its_place_there() {
    let (good, bad) = (service("one", "1"), service("two", "0"));
    let (problems, shown) = wrong(HEAD, &[("a.toml", &format!("\u{feff}{good}")), ("b.toml", &bad)]);
    assert_eq!(problems.len(), 1, "{shown}");
    assert!(problems[0].starts_with("b.toml:4:8: the port 0 "), "{shown}");
    assert!(shown.contains("--> /conf.d/b.toml:4:8\n") && shown.contains("4 | port = 0\n"), "{shown}");
}

#[test]
fn problems_of_all_files_are_found_at_once() {
    let (one, two) = (service("one", "0"), service("two", "0"));
    let (problems, shown) = wrong(&format!("{HEAD}colour = 1\n"), &[("a.toml", &one), ("b.toml", &two)]);
    let places: Vec<_> = problems.iter().map(|it| it.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["meshlb.toml:4:1", "a.toml:4:8", "b.toml:4:8"], "{shown}");
    let broken = [("a.toml", "[[service]\n"), ("b.toml", "x\n")];
    let (problems, shown) = wrong(HEAD, &broken);
    let places: Vec<_> = problems.iter().map(|it| it.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["a.toml:1:11", "b.toml:1:2"], "{shown}");
}

#[test]
fn what_appears_twice_is_shown_in_both_files() {
    let (one, same_name, same_vip) = (service("one", "1"), service("one", "2"), service("two", "1"));
    let (problems, shown) = wrong(HEAD, &[("a.toml", &one), ("b.toml", &same_name)]);
    assert_eq!(
        problems,
        ["b.toml:2:8: the name \"one\" is already the service's in line 2 of /conf.d/a.toml"]
    );
    assert!(shown.contains("/conf.d/b.toml:2:8") && shown.contains("/conf.d/a.toml:2:8"), "{shown}");
    assert!(shown.contains("first here"), "{shown}");
    let (problems, shown) = wrong(&format!("{HEAD}{one}"), &[("b.toml", &same_vip)]);
    assert_eq!(problems.len(), 1, "{shown}");
    let message = "b.toml:3:7: 203.0.113.10:1/tcp is already the service \"one\" in line 6 of /meshlb.toml";
    assert_eq!(problems[0], message);
    let (problems, _) = wrong(HEAD, &[("a.toml", &format!("{one}{same_name}"))]);
    assert_eq!(problems, ["a.toml:8:8: the name \"one\" is already the service's in line 2"]);
}

#[test]
fn an_included_file_holds_services_only() {
    let (problems, shown) =
        wrong(HEAD, &[("a.toml", "[limits]\nflows = 1\n"), ("b.toml", "include = \"x\"\n")]);
    let expected = [
        "a.toml:1:2: `limits` in a file that is included",
        "b.toml:1:1: `include` in a file that is included",
    ];
    assert_eq!(problems, expected);
    assert!(shown.contains("such a file holds [[service]] only: move this to /meshlb.toml"), "{shown}");
}

#[test]
fn keys_in_included_files_are_not_shown() {
    let key = "8f95f09245765f80256934e50c66207f";
    let quic = format!(
        "{}[[service.quic]]\nkey = \"{key}\"\nrotation = 9\n",
        service("one", "1").replace("tcp", "quic")
    );
    let (_, shown) = wrong(HEAD, &[("a.toml", &quic)]);
    assert!(shown.contains("/conf.d/a.toml") && !shown.contains(key), "{shown}");
}

#[test]
fn a_directory_that_is_not_there_is_said_where_it_is_named() {
    let (problems, shown) = wrong(&HEAD.replace("conf.d", "gone.d"), &[]);
    let message =
        "meshlb.toml:1:11: the directory /gone.d cannot be read: No such file or directory (os error 2)";
    assert_eq!(problems, [message], "{shown}");
    let (problems, _) = wrong(&HEAD.replace("\"conf.d\"", "\"\""), &[]);
    assert_eq!(problems, ["meshlb.toml:1:11: the path of the directory is empty"]);
    let (problems, _) = wrong(&HEAD.replace("\"conf.d\"", "7"), &[]);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("meshlb.toml:1:11: "), "{problems:?}");
}

#[test]
fn bytes_that_are_no_text_are_said_of_their_file() {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("conf.d")).unwrap();
    fs::write(directory.path().join("conf.d/a.toml"), b"# \xff\n").unwrap();
    let path = directory.path().join("meshlb.toml");
    fs::write(&path, HEAD).unwrap();
    let shown = config::load(&path).unwrap_err().to_string();
    assert!(shown.contains("conf.d/a.toml:1:3"), "{shown}");
}
