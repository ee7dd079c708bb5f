//! What comes with the binary because others' code is in it: a bill of materials, and their licences.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use cyclonedx_bom::{
    external_models::uri::Purl,
    models::{
        bom::SpecVersion,
        component::{Classification, Component, Components},
        dependency::{Dependencies, Dependency},
        hash::{Hash, HashAlgorithm, HashValue, Hashes},
        license::{LicenseChoice, Licenses},
        metadata::Metadata,
    },
    prelude::{Bom, Validate as _},
};

use super::{VERSION, binary::TARGET};
use crate::{
    crates::{self, Crate},
    process::output,
    workspace::Workspace,
};

/// The bill's name for what is shipped.
const SUBJECT: &str = "meshlb";

/// Writes `meshlb.cdx.json` and `THIRD-PARTY.txt`.
pub(super) fn write(workspace: &Workspace, directory: &Path) -> Result<()> {
    let metadata = crates::metadata(workspace)?;
    let shipped = crates::shipped(workspace, &metadata, TARGET)?;
    let standard = standard_library()?;
    let bill = bill(&shipped, &standard, &crates::checksums(workspace)?)?;
    fs::write(directory.join("meshlb.cdx.json"), bill)?;
    fs::write(directory.join("THIRD-PARTY.txt"), notices(shipped.keys(), &standard)?)?;
    Ok(())
}

/// The version of the compiler, and so of the standard library and the C library that it links in.
fn standard_library() -> Result<String> {
    let version = output(Command::new("rustc").arg("--version"))?;
    let number = version.split(' ').nth(1).context("rustc has no version")?;
    Ok(number.to_owned())
}

/// CycloneDX 1.5, as JSON; the same for the same crates.
fn bill(
    shipped: &BTreeMap<Crate, Vec<Crate>>,
    standard: &str,
    sums: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let mut components = vec![standard_component(standard)];
    let mut dependencies = vec![Dependency {
        dependency_ref: SUBJECT.into(),
        dependencies: shipped.keys().map(Crate::id).chain(["rust-std".to_owned()]).collect(),
    }];
    for (one, needs) in shipped {
        components.push(component(one, sums.get(&one.id()))?);
        let dependency_ref = one.id();
        dependencies.push(Dependency { dependency_ref, dependencies: needs.iter().map(Crate::id).collect() });
    }
    let subject = Component::new(Classification::Application, SUBJECT, VERSION, Some(SUBJECT.into()));
    let bom = Bom {
        spec_version: SpecVersion::V1_5,
        metadata: Some(Metadata { component: Some(subject), ..Metadata::default() }),
        components: Some(Components(components)),
        dependencies: Some(Dependencies(dependencies)),
        serial_number: None,
        ..Bom::default()
    };
    let validation = bom.validate_version(SpecVersion::V1_5);
    ensure!(validation.passed(), "the bill of materials is not CycloneDX 1.5: {validation:?}");
    let mut written = Vec::new();
    bom.output_as_json_v1_5(&mut written)?;
    written.push(b'\n');
    Ok(written)
}

fn component(one: &Crate, sum: Option<&String>) -> Result<Component> {
    let mut component = Component::new(Classification::Library, &one.name, &one.version, Some(one.id()));
    component.purl = Some(Purl::new("cargo", &one.name, &one.version)?);
    component.licenses = Some(Licenses(vec![LicenseChoice::expression(&one.licence)]));
    let hash = |sum: &String| Hash { alg: HashAlgorithm::SHA_256, content: HashValue(sum.clone()) };
    component.hashes = sum.map(|sum| Hashes(vec![hash(sum)]));
    Ok(component)
}

fn standard_component(version: &str) -> Component {
    let mut component = Component::new(Classification::Library, "rust-std", version, Some("rust-std".into()));
    component.licenses = Some(Licenses(vec![LicenseChoice::expression("MIT OR Apache-2.0")]));
    component
}

/// Who is in the binary, under which licences, and their texts as the crates bring them; equal texts once.
fn notices<'a>(shipped: impl Iterator<Item = &'a Crate>, standard: &str) -> Result<String> {
    let mut list = format!(
        "meshlb {VERSION} contains, beside its own code:\n\nrust-std {standard}: MIT OR Apache-2.0, with musl: MIT\n"
    );
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in shipped {
        writeln!(list, "{} {}: {}", one.name, one.version, one.licence)?;
        for text in texts_of(one)? {
            texts.entry(text).or_default().push(one.id());
        }
    }
    for (text, crates) in texts {
        write!(list, "\n{}\n{}:\n\n{}\n", "-".repeat(80), crates.join(", "), text.trim_end())?;
    }
    Ok(list)
}

/// The files of a crate that licences are in, by custom.
fn texts_of(one: &Crate) -> Result<Vec<String>> {
    let mut files: Vec<_> = fs::read_dir(&one.directory)
        .with_context(|| format!("{}", one.directory.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file() && is_licence(&path.file_name().unwrap_or_default().to_string_lossy()))
        .collect();
    files.sort();
    files.iter().map(|file| Ok(String::from_utf8_lossy(&fs::read(file)?).into_owned())).collect()
}

fn is_licence(file: &str) -> bool {
    let upper = file.to_uppercase();
    ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"].iter().any(|name| upper.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(name: &str) -> Crate {
        Crate {
            name: name.into(),
            version: "1.2.3".into(),
            licence: "MIT OR Apache-2.0".into(),
            source: "registry+https://github.com/rust-lang/crates.io-index".into(),
            directory: env!("CARGO_MANIFEST_DIR").into(),
        }
    }

    #[test]
    fn the_bill_names_crates_sums_and_who_needs_whom() {
        let shipped = BTreeMap::from([(some("one"), vec![some("two")]), (some("two"), Vec::new())]);
        let sum = "a".repeat(64);
        let sums = BTreeMap::from([("one@1.2.3".to_owned(), sum.clone())]);
        let bill = bill(&shipped, "1.95.0", &sums).unwrap();
        let read = Bom::parse_from_json(&*bill).unwrap();
        let components = read.components.unwrap().0;
        assert_eq!(components.len(), 3);
        let one = components.iter().find(|component| component.name.to_string() == "one").unwrap();
        assert_eq!(one.purl.as_ref().unwrap().to_string(), "pkg:cargo/one@1.2.3");
        assert_eq!(one.hashes.as_ref().unwrap().0[0].content.0, sum);
        let dependencies = read.dependencies.unwrap().0;
        let needs =
            |who: &str| dependencies.iter().find(|it| it.dependency_ref == who).unwrap().dependencies.clone();
        assert_eq!(needs("one@1.2.3"), ["two@1.2.3"]);
        assert_eq!(needs(SUBJECT), ["one@1.2.3", "two@1.2.3", "rust-std"]);
    }

    #[test]
    fn a_bill_with_nonsense_is_refused() {
        let nonsense = Crate { licence: "as you like it".into(), ..some("one") };
        let error = bill(&BTreeMap::from([(nonsense, Vec::new())]), "1.95.0", &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().starts_with("the bill of materials is not CycloneDX 1.5"), "{error}");
    }

    #[test]
    fn licences_are_found_by_their_files_names() {
        for file in ["LICENSE", "LICENSE-MIT", "license.md", "COPYING", "UNLICENSE", "NOTICE.txt"] {
            assert!(is_licence(file), "{file}");
        }
        assert!(!is_licence("README.md"));
    }
}
