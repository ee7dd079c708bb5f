//! Configurations are valid, and commands exist.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use clap::{CommandFactory as _, Parser as _};
use mesh_userspace::cli::Args;
use mesh_userspace::config;

use crate::markdown::Document;

#[test]
fn every_configuration_in_a_document_is_valid() {
    for document in Document::all() {
        for text in document.blocks_in("toml") {
            config::parse(&document.name, &text).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

/// Commands of `meshlb` in all documents.
fn of_meshlb() -> Vec<(String, String)> {
    let documents = Document::all();
    let commands = documents
        .iter()
        .flat_map(|document| document.commands().into_iter().map(|command| (document.name.clone(), command)));
    commands.filter(|(_, command)| command.starts_with("meshlb ")).collect()
}

#[test]
fn every_command_of_meshlb_in_a_document_is_understood() {
    let commands = of_meshlb();
    assert!(commands.len() > 15, "only {} commands found", commands.len());
    for (document, command) in commands {
        if let Err(error) = Args::try_parse_from(command.split_whitespace()) {
            panic!("{document}: {command}: {error}");
        }
    }
}

#[test]
fn the_readme_shows_every_command_of_meshlb() {
    let shown: BTreeSet<String> = Document::read("README.md")
        .commands()
        .iter()
        .filter_map(|command| Some(command.strip_prefix("meshlb ")?.split(' ').next()?.to_owned()))
        .collect();
    let commands = Args::command();
    assert_eq!(shown, commands.get_subcommands().map(|command| command.get_name().to_owned()).collect());
}

/// The program behind `cargo xtask`, which has built what this test runs in.
fn xtask() -> PathBuf {
    let executable = std::env::current_exe().unwrap();
    let beside = executable.parent().unwrap().parent().unwrap().join("xtask");
    assert!(beside.is_file(), "there is no {}: run `cargo xtask build`", beside.display());
    beside
}

#[test]
fn every_command_of_xtask_in_a_document_exists() {
    let documents = Document::all();
    let all = documents.iter().flat_map(Document::commands);
    let tasks: BTreeSet<String> = all
        .filter_map(|command| Some(command.strip_prefix("cargo xtask ")?.split(' ').next()?.to_owned()))
        .collect();
    assert!(tasks.contains("demo") && tasks.contains("test"), "{tasks:?}");
    assert!(Document::read(".cargo/config.toml").text.contains("xtask = \"run"));
    for task in tasks {
        let output = Command::new(xtask()).args(["help", &task]).output().unwrap();
        assert!(output.status.success(), "cargo xtask {task}: {output:?}");
    }
}

/// Every command that a reader of the README is told to run is one that a test or the CI runs.
#[test]
fn the_readme_has_no_command_that_nothing_runs() {
    // `cargo xtask ci` runs the first two; the build is part of each.
    const BY_CI: [&str; 2] = ["cargo xtask demo", "cargo xtask test"];
    for command in Document::read("README.md").commands() {
        let runs = BY_CI.contains(&command.as_str()) || command.starts_with("meshlb ");
        assert!(runs, "nothing runs {command:?}");
    }
    let ci = Document::read("xtask/src/ci.rs").text;
    assert!(ci.contains("build_scenario(workspace, \"demo\")") && ci.contains("run_tests("), "{ci}");
}
