//! Problems as text: the title, the line with the place marked, the advice. Keys in these lines are not shown.

use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::secret::hidden;
use super::source::SourceFile;
use super::{Problem, Source};

/// More problems than a person reads at once are counted, not shown.
const SHOWN: usize = 20;

/// Every problem as a paragraph of its own.
pub(super) fn render(source: &Source, problems: &[Problem], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let shown = problems.iter().take(SHOWN).map(|problem| paragraph(source, problem, &renderer));
    let mut paragraphs: Vec<String> = shown.collect();
    if let Some(more @ 1..) = problems.len().checked_sub(SHOWN) {
        paragraphs.push(format!("… and {more} more"));
    }
    paragraphs.join("\n\n")
}

/// A place in a file, with the file's text as it may be shown.
struct Shown<'a> {
    file: &'a SourceFile,
    text: String,
    span: Range<usize>,
    label: Option<&'static str>,
}

impl<'a> Shown<'a> {
    fn of(source: &'a Source, span: &Range<usize>, label: Option<&'static str>) -> Self {
        let file = source.file(span.start);
        Self { file, text: hidden(&file.text), span: file.within(span), label }
    }

    fn annotation(&self, kind: AnnotationKind) -> Annotation<'_> {
        kind.span(self.span.clone()).label(self.label)
    }
}

fn paragraph(source: &Source, problem: &Problem, renderer: &Renderer) -> String {
    let title = Level::ERROR.primary_title(problem.message());
    let Some(span) = &problem.span else {
        let placed = title.element(Origin::path(source.name()));
        return renderer.render(&[placed.element(Level::HELP.message(problem.advice()))]);
    };
    let place = Shown::of(source, span, None);
    let related = problem.related.as_ref().map(|it| Shown::of(source, &it.span, Some(it.label)));
    let is_beside = |it: &&Shown<'_>| it.file.start == place.file.start;
    let snippet = Snippet::source(&place.text)
        .path(&place.file.name)
        .annotation(place.annotation(AnnotationKind::Primary))
        .annotations(related.as_ref().filter(is_beside).map(|it| it.annotation(AnnotationKind::Context)));
    let elsewhere = related.as_ref().filter(|it| !is_beside(it)).map(|it| {
        let snippet = Snippet::source(&it.text).path(&it.file.name);
        snippet.annotation(it.annotation(AnnotationKind::Context))
    });
    let placed = elsewhere.into_iter().fold(title.element(snippet), Group::element);
    renderer.render(&[placed.element(Level::HELP.message(problem.advice()))])
}
