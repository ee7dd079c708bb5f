//! Every link leads somewhere, and every document is linked.

use std::path::{Component, Path, PathBuf};

use crate::markdown::{Document, root};

/// Targets of links in the prose.
fn targets(document: &Document) -> Vec<String> {
    let prose = document.prose();
    prose.split("](").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned()).collect()
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut whole, part| {
        if part == Component::ParentDir {
            assert!(whole.pop(), "{} leads out of the repository", path.display());
        } else {
            whole.push(part);
        }
        whole
    })
}

/// The file that a link of a document leads to, below the top of the repository, and the anchor in it.
fn destination(document: &Document, link: &str) -> (String, String) {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let directory = Path::new(&document.name).parent().unwrap();
    let path = if file.is_empty() { PathBuf::from(&document.name) } else { plain(&directory.join(file)) };
    (path.to_str().unwrap().to_owned(), anchor.to_owned())
}

fn local_links() -> Vec<(String, String, String)> {
    let documents = Document::all();
    let of = |document: &Document| {
        let local = targets(document).into_iter().filter(|link| !link.contains("://"));
        let found = local.map(|link| {
            let (file, anchor) = destination(document, &link);
            (document.name.clone(), file, anchor)
        });
        found.collect::<Vec<_>>()
    };
    documents.iter().flat_map(of).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_of_it() {
    let links = local_links();
    assert!(links.len() > 50, "only {} links found", links.len());
    for (from, file, anchor) in links {
        assert!(root().join(&file).exists(), "{from}: there is no {file}");
        if !anchor.is_empty() {
            let anchors = Document::read(&file).anchors();
            assert!(anchors.contains(&anchor), "{from}: {file} has no heading for #{anchor}: {anchors:?}");
        }
    }
}

#[test]
fn every_document_can_be_reached() {
    let links = local_links();
    for document in Document::all().iter().filter(|document| document.name != "README.md") {
        let linked = |(from, file, _): &(String, String, String)| *file == document.name && *from != *file;
        assert!(links.iter().any(linked), "nothing links to {}", document.name);
    }
}
