//! Signals by the names that users know, without `SIG`.

use rustix::process::{Signal, WaitStatus};

const NAMES: [(&str, Signal); 22] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("ILL", Signal::ILL),
    ("TRAP", Signal::TRAP),
    ("ABRT", Signal::ABORT),
    ("BUS", Signal::BUS),
    ("FPE", Signal::FPE),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("SEGV", Signal::SEGV),
    ("USR2", Signal::USR2),
    ("PIPE", Signal::PIPE),
    ("ALRM", Signal::ALARM),
    ("TERM", Signal::TERM),
    ("CHLD", Signal::CHILD),
    ("CONT", Signal::CONT),
    ("STOP", Signal::STOP),
    ("TSTP", Signal::TSTP),
    ("XCPU", Signal::XCPU),
    ("XFSZ", Signal::XFSZ),
    ("SYS", Signal::SYS),
];

/// Returns the signal with this name; only those that a user may send.
#[must_use]
pub fn by_name(name: &str) -> Option<Signal> {
    let sendable = [
        "INT", "TERM", "KILL", "HUP", "QUIT", "USR1", "USR2", "STOP", "CONT", "TSTP",
    ];
    NAMES
        .iter()
        .find(|(known, _)| *known == name && sendable.contains(known))
        .map(|(_, signal)| *signal)
}

/// Returns the name of a signal, or its number when it has none.
#[must_use]
pub fn name(number: i32) -> String {
    NAMES
        .iter()
        .find(|(_, signal)| signal.as_raw() == number)
        .map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// Returns how a process ended: its code as shells have it, and the signal's name.
pub(super) fn ending(status: WaitStatus) -> (i32, Option<String>) {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (code, None),
        (None, Some(number)) => (128 + number, Some(name(number))),
        (None, None) => (255, None),
    }
}
