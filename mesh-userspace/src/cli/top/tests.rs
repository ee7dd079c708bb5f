use super::{
    draw::{Palette, draw},
    model::{HISTORY, Mode, Sort},
    *,
};
use crate::api::types::{BackendView, HealthView, ServiceView, SlotPhases, Status};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyEvent;
use std::collections::BTreeMap;

fn backend(service: &str, address: &str, packets: u64) -> BackendView {
    BackendView {
        service: service.into(),
        address: address.into(),
        state: "up".into(),
        weight: 100,
        share: 100,
        packets,
        bytes: 1000 * packets,
        new_flows: packets / 10,
        recorded_flows: 7,
        ..BackendView::default()
    }
}

fn service(name: &str, packets: u64) -> ServiceView {
    ServiceView {
        name: name.into(),
        key: format!("203.0.113.10:{}/tcp", name.len()),
        backends: 2,
        up: 2,
        packets,
        bytes: 1000 * packets,
        new_flows: packets / 10,
        ..ServiceView::default()
    }
}

/// What the agent says after so many seconds: `web` gets 1000 packets a second, `api` 5.
fn sample(begin: Instant, seconds: u64) -> Sample {
    let status = Status {
        version: "0.1.0".into(),
        ready: true,
        uptime_seconds: 60.0,
        outcomes: BTreeMap::from([
            ("transmitted".into(), 1005 * seconds),
            ("no_backend".into(), 3 * seconds),
        ]),
        ..Status::default()
    };
    let mut sick = backend("web", "10.0.0.2", 0);
    sick.state = "down".into();
    sick.health = Some(HealthView { last_error: Some("connection refused".into()), ..HealthView::default() });
    Sample {
        at: begin + Duration::from_secs(seconds),
        status,
        services: vec![service("web", 1000 * seconds), service("api", 5 * seconds)],
        backends: vec![
            backend("web", "10.0.0.1", 1000 * seconds),
            sick,
            backend("api", "10.0.0.1", 5 * seconds),
        ],
    }
}

fn model() -> Model {
    let (mut model, begin) = (Model::default(), Instant::now());
    (0..4).for_each(|seconds| model.take(sample(begin, seconds)));
    model
}

fn press(model: &mut Model, keys: &str) -> Option<Action> {
    let key = |letter| match letter {
        '>' => Key::Enter,
        '<' => Key::Back,
        '^' => Key::Up,
        'v' => Key::Down,
        '-' => Key::Erase,
        letter => Key::Letter(letter),
    };
    keys.chars().map(|letter| model.press(key(letter))).last().flatten()
}

fn names(model: &Model) -> Vec<String> {
    model.rows().into_iter().map(|row| row.name).collect()
}

fn screen(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, Palette { colours: true })).unwrap();
    let buffer = terminal.backend().buffer();
    let lines = (0..height).map(|y| {
        let line: String = (0..width).filter_map(|x| buffer.cell((x, y))).map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn rates_are_what_counters_rose_by() {
    let model = model();
    let rows = model.rows();
    let rates: Vec<_> =
        rows.iter().map(|row| (row.name.as_str(), row.rates.packets, row.rates.bytes)).collect();
    assert_eq!(rates, [("api", 5.0, 5000.0), ("web", 1000.0, 1_000_000.0)]);
    assert_eq!(rows[1].history, [1000, 1000, 1000]);
    assert_eq!(model.outcomes(), [("transmitted".to_owned(), 1005.0), ("no_backend".to_owned(), 3.0)]);
}

#[test]
fn a_counter_that_begins_again_is_no_rate_and_history_is_bounded() {
    let (mut model, begin) = (model(), Instant::now() + Duration::from_secs(100));
    model.take(sample(begin, 0));
    assert!(model.rows().iter().all(|row| row.rates.packets == 0.0));
    (1..200).for_each(|seconds| model.take(sample(begin, seconds)));
    assert_eq!(model.rows()[0].history.len(), usize::from(HISTORY));
}

#[test]
fn rows_are_sorted_filtered_and_looked_into() {
    let mut model = model();
    assert_eq!(names(&model), ["api", "web"]);
    press(&mut model, "s");
    assert_eq!((model.sort, names(&model)), (Sort::Packets, vec!["web".into(), "api".into()]));
    press(&mut model, "/wx");
    assert_eq!(names(&model), Vec::<String>::new());
    press(&mut model, "->");
    assert_eq!((names(&model), &model.mode), (vec!["web".into()], &Mode::Looking));
    press(&mut model, ">");
    assert_eq!(
        (model.inside.as_deref(), names(&model)),
        (Some("web"), vec!["10.0.0.1".into(), "10.0.0.2".into()])
    );
    press(&mut model, "<");
    assert_eq!((model.inside.as_deref(), model.selected()), (None, 0));
    press(&mut model, "vvvv");
    assert_eq!(model.selected(), 1);
    press(&mut model, "^^");
    assert_eq!(model.selected(), 0);
    assert_eq!(press(&mut model, "q"), Some(Action::Quit));
}

#[test]
fn a_drain_is_asked_about_first() {
    let mut model = model();
    assert_eq!(press(&mut model, "d"), None);
    assert!(model.message.contains("choose a backend"), "{}", model.message);
    press(&mut model, "v>v");
    assert_eq!(press(&mut model, "dn"), None);
    assert_eq!(model.message, "nothing was done");
    let (service, backend) = ("web".to_owned(), [10, 0, 0, 2].into());
    assert_eq!(press(&mut model, "dy"), Some(Action::Drain { service: service.clone(), backend }));
    assert_eq!(press(&mut model, "uy"), Some(Action::Undrain { service, backend }));
}

#[test]
fn a_service_that_goes_is_left() {
    let (mut model, begin) = (model(), Instant::now());
    press(&mut model, "v>v");
    let mut next = sample(begin, 9);
    next.services.retain(|service| service.name != "web");
    next.backends.retain(|backend| backend.service != "web");
    model.take(next);
    assert_eq!((model.inside.as_deref(), model.selected(), names(&model)), (None, 0, vec!["api".into()]));
}

#[test]
fn everything_fits_an_ordinary_terminal() {
    let mut model = model();
    let mut last = sample(Instant::now() + Duration::from_secs(100), 4);
    last.status.problems = (0..5).map(|number| format!("problem {number}")).collect();
    last.services[0].slots = SlotPhases { migrating: 3, ..SlotPhases::default() };
    model.take(last);
    let text = screen(&model, 80, 24);
    let has = [
        "meshlb 0.1.0  ready  up 60s",
        "! problem 2",
        "! 2 more: meshlb status",
        "SERVICE▾",
        "web",
        "ok",
        "OUTCOME",
    ];
    assert!(has.iter().all(|it| text.contains(it)) && !text.contains("problem 3"), "{text}");
    assert!(text.lines().last().unwrap().starts_with("q quit"), "{text}");
    press(&mut model, "v>v");
    let text = screen(&model, 80, 24);
    let row = text.lines().find(|line| line.starts_with("10.0.0.2 ")).unwrap();
    assert!(row.contains("down") && text.contains("\n10.0.0.2: connection refused\n"), "{text}");
}

#[test]
fn no_size_is_too_small() {
    let mut model = model();
    for keys in ["", "v>", "d"] {
        press(&mut model, keys);
        for (width, height) in [(1, 1), (10, 3), (40, 8), (80, 24), (300, 100)] {
            assert_eq!(screen(&model, width, height).lines().count().max(1), usize::from(height));
        }
    }
    screen(&Model::default(), 80, 24);
}

#[test]
fn keys_of_a_terminal_are_understood() {
    let press = |code, modifiers| input(&Event::Key(KeyEvent::new(code, modifiers)));
    assert!(matches!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Input::Interrupt)));
    assert!(matches!(press(KeyCode::Esc, KeyModifiers::NONE), Some(Input::Key(Key::Back))));
    assert!(matches!(press(KeyCode::Char('Q'), KeyModifiers::SHIFT), Some(Input::Key(Key::Letter('Q')))));
    assert!(press(KeyCode::F(1), KeyModifiers::NONE).is_none());
    assert!(matches!(input(&Event::Resize(80, 24)), Some(Input::Resized)));
}
