//! The page of a report in a real browser (Debian's Chromium), which has no network: that it shows what it says, on both grounds and on
//! a narrow screen.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use heddle_bench::figure::{Figure, Part};
use heddle_bench::report::{Claim, Environment, Report, json};
use heddle_bench::stats::Bound;
use heddle_tests::namespace::Namespace;
use heddle_tests::process::{Invocation, Output};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// As a browser must be called that runs as root, without a graphics card, and asks nobody for anything.
const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
];
const DARK: &str = "--force-dark-mode";
/// Reads what no text shows; only in a copy of the page, which itself has no script and allows none.
const PROBE: &str = "<script>document.body.append(`ground ${getComputedStyle(document.body).backgroundColor}, \
                     ${document.documentElement.scrollWidth - innerWidth} too wide`)</script>";

/// A folder with a page, and a host without network to show it on.
struct Desk {
    host: Namespace,
    folder: TempDir,
}

impl Desk {
    /// A saved report, rendered by the program.
    fn new() -> Self {
        let desk = Self { host: Namespace::new("browser").unwrap(), folder: tempfile::tempdir().unwrap() };
        fs::write(desk.file("report.json"), json::write(&report()).to_string()).unwrap();
        let bench = Invocation::foreign(env!("CARGO_BIN_EXE_heddle-bench")).args(["report"]);
        let bench =
            bench.args([desk.file("report.json").as_path(), Path::new("--html"), &desk.file("page.html")]);
        let done = bench.run(&desk.host).unwrap();
        assert!(done.status.success(), "{done:?}");
        desk
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn page(&self) -> String {
        fs::read_to_string(self.file("page.html")).unwrap()
    }

    /// Opens a file of the folder in a browser that nobody used before.
    fn browse(&self, name: &str, flags: &[&str]) -> Output {
        let home = tempfile::tempdir_in(self.folder.path()).unwrap();
        let profile = format!("--user-data-dir={}", home.path().join("profile").display());
        let browser =
            Invocation::foreign("chromium").env("HOME", home.path()).args(FLAGS).args([profile]).args(flags);
        let shown = browser.args([format!("file://{}", self.file(name).display())]).run(&self.host).unwrap();
        assert!(shown.status.success(), "{shown:?}");
        shown
    }

    /// Width and height of a screenshot.
    fn shot(&self, name: &str, flags: &[&str]) -> (Vec<u8>, (u32, u32)) {
        let picture = format!("--screenshot={}", self.file(name).display());
        let shown = self.browse("page.html", &[flags, &[&picture]].concat());
        assert_eq!(errors(&shown), Vec::<&str>::new());
        let bytes = fs::read(self.file(name)).unwrap();
        // Signature, length and type of the first chunk; then its content.
        assert_eq!((&bytes[1..4], &bytes[12..16]), (&b"PNG"[..], &b"IHDR"[..]));
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let size = (number(16), number(20));
        (bytes, size)
    }
}

/// What a page told the browser's console.
fn errors(shown: &Output) -> Vec<&str> {
    shown.stderr.lines().filter(|line| line.contains(":CONSOLE:")).collect()
}

/// Everything that a page can have, with text that is markup where it is not escaped.
fn report() -> Report {
    let rounds = |usual: f64| [0.97, 1.0, 1.01, 1.0, 1.02, 1.3].map(|part| part * usual);
    let mut report = Report::new("test & <b>more</b>", Environment::this("abc123"));
    let connection = |subject| Figure::new(Part::DataPlane, "new connection", subject);
    report.add(connection("direct").less("µs of CPU", &rounds(20.0)));
    for (subject, times) in [("heddle nft", 1.2), ("heddle ebpf", 1.02), ("<i>kube-proxy</i> layout", 1.4)] {
        for services in [1, 1_000, 30_000] {
            report.add(connection(subject).at((services, 3).into()).less("µs of CPU", &rounds(20.0 * times)));
        }
    }
    let changes: Vec<f64> = (1..100).map(|at| 0.01 * f64::from(at)).collect();
    for services in [1, 10_000] {
        let change = Figure::new(Part::ControlPlane, "one endpoint", "heddle nft").at((services, 3).into());
        report.add(change.less("ms", &changes).distribution());
    }
    report.claim(Claim::ratio(&report.figures[1], &report.figures[0], Bound::AtMost(1.05)));
    report.environment.end();
    report
}

/// The words of a document in order, without its markup.
fn words(html: &str) -> String {
    let (_, body) = html.split_once("<body>").unwrap();
    let texts = body.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text));
    let text = texts.collect::<Vec<_>>().join(" ");
    let entities = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&nbsp;", "\u{a0}"),
        ("&amp;", "&"),
    ];
    let text = entities.iter().fold(text, |text, (entity, letter)| text.replace(entity, letter));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_browser_reads_the_same_texts_as_were_written_and_finds_no_error() {
    let desk = Desk::new();
    let shown = desk.browse("page.html", &["--dump-dom"]);
    assert_eq!(errors(&shown), Vec::<&str>::new());
    let read = words(&shown.stdout);
    assert_eq!(read, words(&desk.page()));
    for expected in [
        "heddle-bench, profile test & <b>more</b>",
        "new connection: heddle nft, 1 × 3 / direct ✗ missed 1.20 ×",
        "<i>kube-proxy</i> layout 30 000 × 3 28.3 27.2 to 36.4",
        "Share of events that took no longer",
        "git checkout abc123",
    ] {
        assert!(read.contains(expected), "{expected} is not in\n{read}");
    }
}

#[test]
fn screenshots_have_the_size_of_the_window_and_both_grounds_are_drawn() {
    let desk = Desk::new();
    let (light, size) = desk.shot("light.png", &["--window-size=1280,900"]);
    assert_eq!(size, (1280, 900));
    let (dark, size) = desk.shot("dark.png", &["--window-size=1280,900", DARK]);
    assert_eq!(size, (1280, 900));
    assert!(light != dark, "the dark page is the light one");
    let (_, size) = desk.shot("narrow.png", &["--window-size=390,844"]);
    assert_eq!(size, (390, 844));
    // A picture of one colour has some thousand bytes.
    assert!(light.len() > 30_000 && dark.len() > 30_000, "{} and {} bytes", light.len(), dark.len());
}

#[test]
fn the_page_fits_a_narrow_screen_and_follows_the_reader_s_colours() {
    let desk = Desk::new();
    let page = desk.page();
    let (head, body) = page.split_once("<body>").unwrap();
    let head =
        head.lines().filter(|line| !line.contains("Content-Security-Policy")).collect::<Vec<_>>().join("\n");
    fs::write(
        desk.file("probed.html"),
        format!("{head}<body>{}", body.replace("</body>", &format!("{PROBE}</body>"))),
    )
    .unwrap();
    for (flags, expected) in [
        (["--window-size=1280,900", "--dump-dom"].as_slice(), "ground rgb(246, 245, 242), 0 too wide"),
        (&["--window-size=390,844", "--dump-dom", DARK], "ground rgb(20, 20, 19), 0 too wide"),
    ] {
        let shown = desk.browse("probed.html", flags);
        assert!(shown.stdout.contains(expected), "{expected} is not in\n{}", shown.stdout);
    }
}

#[test]
fn an_error_on_a_page_and_a_fetch_from_elsewhere_are_seen() {
    let desk = Desk::new();
    let fetching =
        desk.page().replace("</body>", "<img src=\"http://192.0.2.1/picture.png\" alt=\"\"></body>");
    fs::write(desk.file("fetching.html"), fetching).unwrap();
    let shown = desk.browse("fetching.html", &["--dump-dom"]);
    assert!(errors(&shown).iter().any(|line| line.contains("Content Security Policy")), "{shown:?}");
}
