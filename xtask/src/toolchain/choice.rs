//! The choice of a toolchain, pure.

use std::fmt;

use super::LINKER_VERSION;

/// LLVM versions that the pinned linker can be built against.
const LINKER_KNOWS: std::ops::RangeInclusive<u32> = 21..=23;

/// Debian's second, recent compiler, its prebuilt core library for BPF, and its lints.
const COMPILER_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf", "rust-web-clippy"];

/// What was found on this machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// rustup has a nightly compiler with the sources of the core library.
    pub(crate) nightly_with_source: bool,
    /// `bpf-linker` is in `PATH`.
    pub(crate) linker_on_path: bool,
    /// Packages can be installed by `apt-get`.
    pub(crate) apt: bool,
    /// This process may install them.
    pub(crate) root: bool,
    /// The distribution's own compiler, where there is one that can make kernel programs.
    pub(crate) distribution: Option<Distribution>,
}

/// The distribution's compiler, with a core library for BPF and with clippy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Distribution {
    /// The major version of the LLVM in it.
    pub(crate) llvm: u32,
    /// That LLVM's headers and library are installed.
    pub(crate) llvm_development: bool,
    /// A linker built against that LLVM is in the target directory.
    pub(crate) linker: bool,
}

/// A complete toolchain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// rustup's nightly, which compiles the core library itself.
    Nightly,
    /// The distribution's compiler with a prebuilt core library, and a linker for its LLVM.
    Distribution { llvm: u32 },
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nightly => write!(f, "rustup's nightly (rust-src, bpf-linker from PATH)"),
            Self::Distribution { llvm } => {
                write!(f, "the distribution's rustc (LLVM {llvm}, bpf-linker {LINKER_VERSION})")
            }
        }
    }
}

/// What to do next to get a toolchain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// All is there.
    Use(Toolchain),
    /// These packages are missing and can be installed.
    Install(Vec<String>),
    /// The linker must be built against this LLVM.
    BuildLinker { llvm: u32 },
    /// Only the reader can go on; this says how.
    Advise(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Use(toolchain) => write!(f, "using {toolchain}"),
            Self::Install(packages) => write!(f, "installing {}", packages.join(" ")),
            Self::BuildLinker { llvm } => write!(f, "building bpf-linker for LLVM {llvm}"),
            Self::Advise(advice) => f.write_str(advice),
        }
    }
}

/// The next step from what is there. A complete nightly wins: it needs nothing to be installed.
pub(crate) fn next_step(facts: &Facts) -> Step {
    if facts.nightly_with_source && facts.linker_on_path {
        return Step::Use(Toolchain::Nightly);
    }
    match facts.distribution {
        Some(found) if !LINKER_KNOWS.contains(&found.llvm) => Step::Advise(nightly_advice(facts)),
        Some(found) if !found.llvm_development => install(facts, vec![format!("llvm-{}-dev", found.llvm)]),
        Some(Distribution { llvm, linker: false, .. }) => Step::BuildLinker { llvm },
        Some(Distribution { llvm, .. }) => Step::Use(Toolchain::Distribution { llvm }),
        None if facts.apt => install(facts, COMPILER_PACKAGES.map(String::from).to_vec()),
        None => Step::Advise(nightly_advice(facts)),
    }
}

fn install(facts: &Facts, packages: Vec<String>) -> Step {
    if facts.apt && facts.root {
        Step::Install(packages)
    } else {
        let packages = packages.join(" ");
        Step::Advise(format!(
            "no toolchain for kernel programs; run, then try again:\n    sudo apt-get install {packages}"
        ))
    }
}

fn nightly_advice(facts: &Facts) -> String {
    let source = "\n    rustup toolchain install nightly --component rust-src --component clippy";
    let linker = "\n    cargo install cargo-binstall && cargo binstall bpf-linker";
    let mut advice = String::from("no toolchain for kernel programs; run, then try again:");
    advice.push_str(if facts.nightly_with_source { "" } else { source });
    advice.push_str(if facts.linker_on_path { "" } else { linker });
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETE: Distribution = Distribution { llvm: 22, llvm_development: true, linker: true };

    fn debian(distribution: Option<Distribution>) -> Facts {
        Facts { apt: true, root: true, distribution, ..Facts::default() }
    }

    #[test]
    fn a_complete_nightly_wins_over_a_complete_distribution() {
        let facts = Facts { nightly_with_source: true, linker_on_path: true, ..debian(Some(COMPLETE)) };
        assert_eq!(next_step(&facts), Step::Use(Toolchain::Nightly));
    }

    #[test]
    fn a_nightly_without_source_or_linker_leaves_the_choice_to_the_distribution() {
        for (nightly_with_source, linker_on_path) in [(true, false), (false, true)] {
            let facts = Facts { nightly_with_source, linker_on_path, ..debian(Some(COMPLETE)) };
            assert_eq!(next_step(&facts), Step::Use(Toolchain::Distribution { llvm: 22 }));
        }
    }

    #[test]
    fn a_fresh_debian_gets_compiler_then_llvm_then_linker() {
        let compiler = COMPILER_PACKAGES.map(String::from).to_vec();
        assert_eq!(next_step(&debian(None)), Step::Install(compiler));
        let bare = Distribution { llvm: 21, llvm_development: false, linker: false };
        assert_eq!(next_step(&debian(Some(bare))), Step::Install(vec!["llvm-21-dev".into()]));
        let no_linker = Distribution { linker: false, ..COMPLETE };
        assert_eq!(next_step(&debian(Some(no_linker))), Step::BuildLinker { llvm: 22 });
    }

    #[test]
    fn the_linker_is_built_without_being_root() {
        let no_linker = Distribution { linker: false, ..COMPLETE };
        let facts = Facts { root: false, ..debian(Some(no_linker)) };
        assert_eq!(next_step(&facts), Step::BuildLinker { llvm: 22 });
    }

    #[test]
    fn who_is_not_root_is_told_the_packages() {
        let Step::Advise(advice) = next_step(&Facts { root: false, ..debian(None) }) else { panic!() };
        assert!(
            advice.ends_with(
                "sudo apt-get install rustc-web cargo-web libstd-rust-web-dev-bpf rust-web-clippy"
            )
        );
    }

    #[test]
    fn elsewhere_the_advice_names_only_what_is_missing() {
        let Step::Advise(all) = next_step(&Facts::default()) else { panic!() };
        assert!(all.contains("rust-src") && all.contains("binstall bpf-linker"));
        let nightly = Facts { nightly_with_source: true, ..Facts::default() };
        let Step::Advise(linker) = next_step(&nightly) else { panic!() };
        assert!(!linker.contains("rust-src") && linker.contains("binstall bpf-linker"));
    }

    #[test]
    fn an_llvm_that_the_linker_does_not_know_leads_to_the_nightly() {
        let old = Distribution { llvm: 14, llvm_development: true, linker: false };
        assert!(matches!(next_step(&debian(Some(old))), Step::Advise(advice) if advice.contains("nightly")));
    }
}
