//! Problems as text: the title, the line with the place marked, the advice. Keys in these lines are not shown.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::secret::hidden;
use super::{Problem, Source};

/// More problems than a person reads at once are counted, not shown.
const SHOWN: usize = 20;

/// Every problem as a paragraph of its own.
pub(super) fn render(source: &Source, problems: &[Problem], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let text = hidden(source.text());
    let group = |problem| group(source.name(), &text, problem);
    let shown = problems.iter().take(SHOWN).map(|problem| renderer.render(&[group(problem)]));
    let mut paragraphs: Vec<String> = shown.collect();
    if let Some(more @ 1..) = problems.len().checked_sub(SHOWN) {
        paragraphs.push(format!("… and {more} more"));
    }
    paragraphs.join("\n\n")
}

fn group<'a>(name: &'a str, text: &'a str, problem: &'a Problem) -> Group<'a> {
    let title = Level::ERROR.primary_title(problem.message());
    let placed = match &problem.span {
        Some(span) => title.element(snippet(name, text, problem, span.clone())),
        None => title.element(Origin::path(name)),
    };
    placed.element(Level::HELP.message(problem.advice()))
}

fn snippet<'a>(
    name: &'a str,
    text: &'a str,
    problem: &'a Problem,
    span: std::ops::Range<usize>,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let related = problem.related.as_ref();
    Snippet::source(text)
        .path(name)
        .annotation(AnnotationKind::Primary.span(span))
        .annotations(related.map(|it| AnnotationKind::Context.span(it.span.clone()).label(it.label)))
}
