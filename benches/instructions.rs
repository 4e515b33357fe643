//! Instructions that each message costs in user space, counted by valgrind: the same on a busy
//! machine, so that a change which costs more is seen.
//!
//! `cargo bench -p bastide-benches --bench instructions --profile instructions [-- --accept]`
//!
//! Each step runs under valgrind in a process of its own, so many messages after a warm-up; only
//! what the step does is counted. `instructions.json` beside this file has the figures that were
//! accepted, for each kind of processor; a step more than a tenth above its own is an error.
//! `--accept` writes what was counted. Built in another way than with the profile that the figures
//! are of, it prints what it counts, and compares nothing.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    fs,
    hint::black_box,
    io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use bastide::{
    __bench::{Dispatcher, Outgoing, RouteTable},
    Named as _,
    wire::{ApiName, Cut, FRAME_BYTES_MAX, cut, put_message},
};
use bastide_benches::{Accepted, Nobody, Req, Res, Verdict, compare, game, machine, request, slow};

/// Which step this process runs; without it the program measures.
const STEP: &str = "BENCH_STEP";

/// The profile that the accepted figures are of.
const PROFILE: &str = "instructions";

/// Messages that are counted. A whole number of batches of each size.
const MESSAGES: usize = 3200;

/// Does all of a step's messages, so many of them at a time.
type Step = fn(usize);

/// What is counted: each step, and how many messages come together.
const STEPS: [(&str, Step, usize); 6] = [
    ("decode", decode, 32),
    ("route", route, 32),
    ("dispatch", dispatch, 32),
    ("dispatch_alone", dispatch, 1),
    ("outbox", outbox, 32),
    ("outbox_alone", outbox, 1),
];

/// Accepted figures of each kind of processor.
type Book = BTreeMap<String, Accepted>;

fn main() -> ExitCode {
    if let Ok(name) = env::var(STEP) {
        let (_, step, at_once) = STEPS.iter().find(|(known, ..)| *known == name).expect("a step");
        step(*at_once);
        return ExitCode::SUCCESS;
    }
    let accept = match env::args().skip(1).filter(|a| a != "--bench").collect::<Vec<_>>().as_slice()
    {
        [] => false,
        [one] if one == "--accept" => true,
        _ => {
            println!("--accept is known, and nothing else");
            return ExitCode::from(2);
        }
    };
    match measure(accept) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            println!("{why}");
            ExitCode::from(2)
        }
    }
}

// === Under valgrind ===

/// valgrind counts within this function only.
#[inline(never)]
fn counted_by_valgrind(work: &mut dyn FnMut()) {
    work();
}

/// Does a batch again and again, first uncounted: what a first time costs is not the question.
fn repeat(at_once: usize, mut batch: impl FnMut()) {
    batch();
    batch();
    counted_by_valgrind(&mut || {
        for _ in 0..MESSAGES / at_once {
            batch();
        }
    });
}

fn frames(count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..count {
        put_message(&mut bytes, &request()).expect("fits");
    }
    bytes
}

/// Frames are cut where they lie, their names judged.
fn decode(at_once: usize) {
    let bytes = frames(at_once);
    repeat(at_once, || {
        let (mut rest, mut seen) = (black_box(&bytes[..]), 0);
        while let Ok(Cut::Frame(frame)) = cut(rest, FRAME_BYTES_MAX) {
            seen += usize::from(!black_box(frame).payload.is_empty());
            rest = &rest[frame.bytes.len()..];
        }
        assert_eq!(seen, at_once);
    });
}

/// A gate finds who names are for.
fn route(at_once: usize) {
    let table = RouteTable::new(&[Req::NAME, slow::Req::NAME]);
    let names = vec![ApiName::parse(Req::NAME.as_bytes()).expect("a name"); at_once];
    repeat(at_once, || assert_eq!(table.find(black_box(&names)), at_once));
}

/// An entity cuts frames, finds their handler, decodes, runs it and encodes what it answers.
fn dispatch(at_once: usize) {
    let (bytes, mut dispatcher) = (frames(at_once), Dispatcher::new(game(), Nobody));
    repeat(at_once, || assert_eq!(dispatcher.dispatch(black_box(&bytes)), at_once));
}

/// A gate awaits answers, puts them in and takes them for writing.
fn outbox(at_once: usize) {
    let mut outgoing = Outgoing::new(at_once, &Res { text: request().text });
    repeat(at_once, || assert!(black_box(&mut outgoing).pass() > 0));
}

// === Around it ===

/// Counts every step; whether all of them may be what they are.
fn measure(accept: bool) -> Result<bool, String> {
    println!("{}", machine());
    let this = env::current_exe().map_err(|e| format!("this program: {e}"))?;
    let mut counted = Accepted::new();
    for (name, ..) in STEPS {
        let of_all = count(&this, name)?;
        // One decimal: a figure is read by people, too.
        counted.insert(name.to_owned(), (of_all as f64 / MESSAGES as f64 * 10.0).round() / 10.0);
    }
    let built = built_as(&this);
    if built != Some(OsStr::new(PROFILE)) {
        println!("instructions a message, of another build than was accepted: nothing is compared");
        counted.iter().for_each(|(step, figure)| println!("{step:16} {figure:>8.1}"));
        println!(
            "to compare: cargo bench -p bastide-benches --bench instructions --profile {PROFILE}"
        );
        return if accept { Err(format!("--accept wants --profile {PROFILE}")) } else { Ok(true) };
    }
    let mut book = read_book()?;
    let accepted = book.get(env::consts::ARCH).cloned().unwrap_or_default();
    let good = print(&counted, &accepted);
    if accept {
        book.insert(env::consts::ARCH.to_owned(), counted);
        let text = serde_json::to_string_pretty(&book).expect("names and numbers") + "\n";
        fs::write(book_path(), text).map_err(|e| format!("{}: {e}", book_path().display()))?;
        println!("accepted: {}", book_path().display());
        return Ok(true);
    }
    if !good {
        println!(
            "if it must be so: the same command with `-- --accept`, and commit the new figures"
        );
    }
    Ok(good)
}

/// Prints every step; whether none is too far above its figure, new or gone.
fn print(counted: &Accepted, accepted: &Accepted) -> bool {
    println!("instructions a message, on {}", env::consts::ARCH);
    println!("{:16} {:>8} {:>8}", "step", "counted", "accepted");
    let (verdicts, mut good) = (compare(counted, accepted), true);
    for (step, verdict) in &verdicts {
        let (figure, was) = (counted.get(step), accepted.get(step));
        let text = |figure: Option<&f64>| figure.map_or("-".to_owned(), |f| format!("{f:.1}"));
        let said = match verdict {
            Some(Verdict::Good) => String::new(),
            Some(Verdict::Better) => {
                "much better: accept it, or the next loss is hidden".to_owned()
            }
            Some(Verdict::Worse(max)) => format!("TOO MANY: {max:.1} are allowed"),
            Some(Verdict::New) => "NEW: no figure is accepted".to_owned(),
            None => "GONE: it is not counted any more".to_owned(),
        };
        println!("{step:16} {:>8} {:>8}  {said}", text(figure), text(was));
        good &= matches!(verdict, Some(Verdict::Good | Verdict::Better));
    }
    good
}

/// Runs a step under valgrind; the instructions of all messages.
fn count(this: &Path, step: &str) -> Result<u64, String> {
    let folder = tempfile::tempdir().map_err(|e| format!("a folder for valgrind: {e}"))?;
    let out = folder.path().join("callgrind");
    let ran = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=*counted_by_valgrind*",
        ])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(this)
        .env(STEP, step)
        .output();
    let ran = ran.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => "valgrind is missing: ./services.sh installs it".to_owned(),
        _ => format!("valgrind: {e}"),
    })?;
    if !ran.status.success() {
        return Err(format!("valgrind, {step}: {}", String::from_utf8_lossy(&ran.stderr)));
    }
    let profile = fs::read_to_string(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    let totals = profile.lines().find_map(|line| line.strip_prefix("totals: ")?.parse().ok());
    // None when valgrind does not find the function: nothing would be compared with nothing.
    let counted = totals.filter(|count| *count >= MESSAGES as u64);
    counted.ok_or_else(|| format!("valgrind, {step}: counted nothing"))
}

/// The profile: the folder of what was built is called after it.
fn built_as(this: &Path) -> Option<&OsStr> {
    this.parent()?.parent()?.file_name()
}

fn read_book() -> Result<Book, String> {
    match fs::read(book_path()) {
        Ok(text) => {
            serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", book_path().display()))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Book::new()),
        Err(e) => Err(format!("{}: {e}", book_path().display())),
    }
}

fn book_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}
