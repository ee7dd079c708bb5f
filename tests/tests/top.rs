//! `meshlb top` in a terminal, with keys pressed.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::io::Write as _;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use anstyle::{Ansi256Color, Color, Effects, RgbColor, Style};
use anstyle_svg::{Palette, Term};
use mesh_tests::Requests;
use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_userspace::api::types::BackendView;

const SOON: Duration = Duration::from_secs(20);

/// Columns and lines of a terminal.
#[derive(Clone, Copy)]
struct Size(NonZeroU16, NonZeroU16);

const NARROW: Size = Size(NonZeroU16::new(80).unwrap(), NonZeroU16::new(24).unwrap());
const WIDE: Size = Size(NonZeroU16::new(120).unwrap(), NonZeroU16::new(32).unwrap());

/// A terminal, which `script` makes and whose output it writes to a file.
struct Screen {
    script: Child,
    file: PathBuf,
    size: Size,
}

impl Screen {
    fn open(scene: &Scene, size: Size) -> Self {
        let Size(columns, lines) = size;
        let file = scene.topology.directory().join(format!("screen-{columns}"));
        let (program, socket) = (scene.agent.binary().display(), scene.agent.socket());
        let top =
            format!("stty cols {columns} rows {lines}; exec {program} top --socket {}", socket.display());
        let mut command: Command = scene.topology.balancer().command("script");
        command.args(["--quiet", "--flush", "--return", "--command", &top]).arg(&file);
        let script =
            command.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        Self { script, file, size }
    }

    fn terminal(&self) -> vt100::Parser {
        let Size(columns, lines) = self.size;
        let mut terminal = vt100::Parser::new(lines, columns, 0);
        terminal.process(&fs::read(&self.file).unwrap_or_default());
        terminal
    }

    /// What stands on it now.
    fn text(&self) -> String {
        self.terminal().screen().contents()
    }

    /// Columns of the first backend's sparkline.
    fn bars(&self) -> usize {
        let is_bar = |c: char| ('▁'..='█').contains(&c);
        self.text()
            .lines()
            .map(|line| line.chars().filter(|c| is_bar(*c)).count())
            .find(|bars| *bars > 0)
            .unwrap_or(0)
    }

    /// What stands on it now, with its colours.
    fn picture(&self, theme: &Theme) -> String {
        theme.term().render_svg(&styled(self.terminal().screen()))
    }

    fn shows(&self, what: &str) {
        let is_seen = eventually(&format!("{what:?} is shown"), SOON, || self.text().contains(what));
        assert!(is_seen.is_ok(), "{is_seen:?}: {}", self.text());
    }

    fn press(&mut self, keys: &str) {
        self.script.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.script.kill());
        drop(self.script.wait());
    }
}

/// Colours of a terminal.
struct Theme {
    name: &'static str,
    text: RgbColor,
    ground: RgbColor,
    red: RgbColor,
    green: RgbColor,
    yellow: RgbColor,
}

const THEMES: [Theme; 2] = [
    Theme {
        name: "dark",
        text: RgbColor(230, 237, 243),
        ground: RgbColor(13, 17, 23),
        red: RgbColor(255, 123, 114),
        green: RgbColor(86, 211, 100),
        yellow: RgbColor(227, 179, 65),
    },
    Theme {
        name: "light",
        text: RgbColor(31, 35, 40),
        ground: RgbColor(255, 255, 255),
        red: RgbColor(179, 29, 40),
        green: RgbColor(17, 99, 41),
        yellow: RgbColor(122, 78, 0),
    },
];

impl Theme {
    fn term(&self) -> Term {
        // Black, red, green, yellow, and four that are not used; then all of them bright.
        let Self { text, red, green, yellow, .. } = *self;
        let colours = Palette([
            text, red, green, yellow, text, text, text, text, text, red, green, yellow, text, text, text,
            text,
        ]);
        let term = Term::new().palette(colours);
        term.fg_color(Color::Rgb(self.text)).bg_color(Color::Rgb(self.ground))
    }
}

/// A screen as lines with escape sequences that only set styles.
fn styled(screen: &vt100::Screen) -> String {
    let (lines, columns) = screen.size();
    let mut text = String::new();
    for line in 0..lines.get() {
        let mut last = Style::new();
        for cell in (0..columns.get()).map(|column| screen.cell(line, column).unwrap()) {
            let style = style(cell);
            if style != last {
                text.push_str(&format!("{last:#}{style}"));
            }
            last = style;
            text.push_str(if cell.has_contents() { cell.contents() } else { " " });
        }
        text.push_str(&format!("{last:#}\n"));
    }
    text
}

fn style(cell: &vt100::Cell) -> Style {
    let colour = |colour| match colour {
        vt100::Color::Default => None,
        vt100::Color::Idx(number) => Some(Color::Ansi256(Ansi256Color(number))),
        vt100::Color::Rgb(r, g, b) => Some(Color::Rgb(RgbColor(r, g, b))),
    };
    let mut effects = Effects::new();
    for (is, effect) in [
        (cell.bold(), Effects::BOLD),
        (cell.dim(), Effects::DIMMED),
        (cell.underline(), Effects::UNDERLINE),
        (cell.inverse(), Effects::INVERT),
    ] {
        effects = if is { effects.insert(effect) } else { effects };
    }
    Style::new().fg_color(colour(cell.fgcolor())).bg_color(colour(cell.bgcolor())).effects(effects)
}

#[test]
fn trouble_is_seen_in_wide_and_narrow_terminals() {
    let plot = Plot { weights: vec![100, 100, 50, 100], ..Plot::new("192.0.2.10", Way::IpipV4).unwrap() };
    let mut scene = plot.set().unwrap();
    let address = |scene: &Scene, number| scene.backend(number).unwrap().to_string();
    let requests: Vec<_> =
        (0..4).map(|_| Requests::start(scene.client().unwrap(), scene.service())).collect();
    let (drained, dead) = (address(&scene, 2), address(&scene, 3));
    scene.must(&["drain", "web", &drained]).unwrap();
    scene.servers[3].kill();
    let screens = [("narrow", NARROW), ("wide", WIDE)].map(|(name, size)| (name, Screen::open(&scene, size)));
    for (name, mut screen) in screens {
        screen.shows("degraded");
        screen.press("\r");
        for what in ["draining", "down", &drained, &dead] {
            screen.shows(what);
        }
        // Down to the dead one: why it is so.
        screen.press("\x1b[B\x1b[B\x1b[B");
        screen.shows("refused the connection");
        eventually("there is some history", SOON, || screen.bars() > 8).unwrap();
        for theme in THEMES {
            let picture = screen.picture(&theme);
            let parsed = roxmltree::Document::parse(&picture).unwrap();
            assert!(parsed.descendants().any(|it| it.text().is_some_and(|text| text.contains(&dead))));
            keep(&format!("top-{name}-{}.svg", theme.name), &picture);
        }
        screen.press("q");
        assert!(screen.script.wait().unwrap().success());
    }
    for requests in requests {
        assert!(requests.finish().unwrap().0 > 0);
    }
}

/// Keeps a picture where `MESHLB_PICTURES` says, for the documentation.
fn keep(name: &str, picture: &str) {
    if let Some(directory) = env::var_os("MESHLB_PICTURES") {
        fs::write(Path::new(&directory).join(name), picture).unwrap();
    }
}

#[test]
fn a_backend_is_drained_from_the_screen() {
    let scene = Plot::new("192.0.2.10", Way::L2).unwrap().set().unwrap();
    let first = scene.backend(0).unwrap().to_string();
    let mut screen = Screen::open(&scene, NARROW);
    screen.shows("web");
    screen.press("\r");
    screen.shows(&first);
    screen.press("d");
    screen.shows(&format!("drain {first} of web? y/n"));
    screen.press("y");
    screen.shows(&format!("{first} of web drains"));
    let backends: Vec<BackendView> = scene.agent.cli_json(&["backends"]).unwrap();
    let states: Vec<_> = backends.iter().map(|backend| backend.state.as_str()).collect();
    assert_eq!(states, ["draining", "up", "up"]);
    screen.press("q");
    assert!(screen.script.wait().unwrap().success());
}

#[test]
fn who_has_no_terminal_is_told() {
    let scene = Plot::new("192.0.2.10", Way::L2).unwrap().set().unwrap();
    let output = scene.agent.cli(&["top"]).unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint.starts_with("error: standard output is no terminal\nhelp: "), "{complaint}");
}
